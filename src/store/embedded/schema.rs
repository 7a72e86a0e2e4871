//! The tables of the file, and the form of a story in them.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | number; `schema` is the version of all this, `probe` counts write trials |
//! | `stories` | id, 16 bytes: UUIDv7, so oldest first | the story, see [`Envelope`] |
//! | `keys` | content key of the request, 32 bytes | id |
//! | `lists` | the filter's mark, 16 bytes, then the id | nothing |
//!
//! `lists` has three rows a story: its place, its style, and both. A mark is the head of a SHA-256, which keeps the
//! rows short and of one length; the story itself says place and style too, so a page never shows a stranger, even
//! if somebody finds two names with one mark. `keys` and `lists` can be made anew from `stories`.

use super::containment::Contained;
use crate::limits::store::PAGE_BYTES_MAX;
use crate::store::{Cursor, Filter, Kept, Page, Record, StoryKey};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table};
use redb::{TableDefinition, TableError};
use sha2::{Digest, Sha256};
use std::ops::Bound;
use uuid::Uuid;

/// The version this program writes and reads.
pub(super) const SCHEMA_VERSION: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const STORIES: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("stories");
pub(super) const KEYS: TableDefinition<'_, &[u8; 32], &[u8; 16]> = TableDefinition::new("keys");
pub(super) const LISTS: TableDefinition<'_, &[u8; 32], ()> = TableDefinition::new("lists");

const VERSION_NAME: &str = "schema";
const PROBE_NAME: &str = "probe";

/// A story in its row: form (1 byte), created_ms (8), key (32), length of the style (1), style, length of the
/// location (2), location, and the JSON to the end; numbers are big-endian.
pub(super) struct Envelope<'a> {
    pub(super) created_ms: u64,
    pub(super) key: &'a [u8; 32],
    pub(super) style: &'a [u8],
    pub(super) location: &'a [u8],
    pub(super) json: &'a [u8],
}

const ENVELOPE_FORM: u8 = 1;

impl<'a> Envelope<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Envelope {
            created_ms: record.created_ms,
            key: record.key.as_bytes(),
            style: record.style.as_str().as_bytes(),
            location: record.location_key.as_bytes(),
            json: &record.json,
        }
    }

    /// Appends the row. The lengths fit: styles are short words, and [`Record::check`] bounds the location.
    pub(super) fn write(&self, row: &mut Vec<u8>) {
        row.push(ENVELOPE_FORM);
        row.extend_from_slice(&self.created_ms.to_be_bytes());
        row.extend_from_slice(self.key);
        row.push(u8::try_from(self.style.len()).unwrap_or(0));
        row.extend_from_slice(self.style);
        row.extend_from_slice(&u16::try_from(self.location.len()).unwrap_or(0).to_be_bytes());
        row.extend_from_slice(self.location);
        row.extend_from_slice(self.json);
    }

    /// Reads a row; none where it is not one of ours.
    pub(super) fn read(row: &'a [u8]) -> Option<Self> {
        let (&form, rest) = row.split_first()?;
        if form != ENVELOPE_FORM {
            return None;
        }
        let (created_ms, rest) = rest.split_first_chunk::<8>()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (&style_bytes, rest) = rest.split_first()?;
        let (style, rest) = rest.split_at_checked(usize::from(style_bytes))?;
        let (location_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (location, json) = rest.split_at_checked(usize::from(u16::from_be_bytes(*location_bytes)))?;
        Some(Envelope {
            created_ms: u64::from_be_bytes(*created_ms),
            key,
            style,
            location,
            json,
        })
    }

    fn kept(&self, id: [u8; 16]) -> Kept {
        Kept {
            id: Uuid::from_bytes(id),
            created_ms: self.created_ms,
            json: self.json.to_vec(),
        }
    }

    fn passes(&self, filter: &Filter) -> bool {
        filter
            .location
            .as_ref()
            .is_none_or(|location| location.as_bytes() == self.location)
            && filter.style.is_none_or(|style| style.as_str().as_bytes() == self.style)
    }
}

/// What a filter's rows in `lists` begin with; none for the filter that lets all pass.
fn mark(location: Option<&[u8]>, style: Option<&[u8]>) -> Option<[u8; 16]> {
    let (kind, place, style): (&[u8], &[u8], &[u8]) = match (location, style) {
        (None, None) => return None,
        (Some(location), None) => (b"place", location, b""),
        (None, Some(style)) => (b"style", b"", style),
        (Some(location), Some(style)) => (b"both", location, style),
    };
    let mut hash = Sha256::new();
    for part in [kind, style, place] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk::<16>().copied()
}

fn list_row(mark: [u8; 16], id: [u8; 16]) -> [u8; 32] {
    let mut row = [0; 32];
    let (head, tail) = row.split_at_mut(16);
    head.copy_from_slice(&mark);
    tail.copy_from_slice(&id);
    row
}

/// The tables of one write transaction, and what goes into them together.
pub(super) struct Tables<'t> {
    pub(super) stories: Contained<Table<'t, &'static [u8; 16], &'static [u8]>>,
    pub(super) keys: Contained<Table<'t, &'static [u8; 32], &'static [u8; 16]>>,
    pub(super) lists: Contained<Table<'t, &'static [u8; 32], ()>>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t redb::WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Tables {
            stories: Contained::new(transaction.open_table(STORIES)?),
            keys: Contained::new(transaction.open_table(KEYS)?),
            lists: Contained::new(transaction.open_table(LISTS)?),
        })
    }

    /// Writes a story and its rows elsewhere. `row` is scratch space.
    pub(super) fn insert(&mut self, record: &Record, row: &mut Vec<u8>) -> Result<(), redb::Error> {
        let id = record.id.into_bytes();
        let envelope = Envelope::of(record);
        row.clear();
        envelope.write(row);
        self.stories.insert(&id, row.as_slice())?;
        self.keys.insert(record.key.as_bytes(), &id)?;
        let (place, style) = (Some(envelope.location), Some(envelope.style));
        for mark in [mark(place, None), mark(None, style), mark(place, style)]
            .into_iter()
            .flatten()
        {
            self.lists.insert(&list_row(mark, id), ())?;
        }
        Ok(())
    }
}

/// Begins a write: durable (the default) and ready to be opened at once after a kill, see the module's page.
pub(super) fn begin_write(database: &Database) -> Result<Contained<redb::WriteTransaction>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(Contained::new(transaction))
}

/// The version of the tables; none in a new file.
pub(super) fn version(database: &Database) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        // A table of that name with other types is not ours.
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(error) => return Err(redb::Error::Corrupted(error.to_string())),
    };
    let found = meta.get(VERSION_NAME)?.map(|version| version.value());
    Ok(found)
}

/// Makes the tables.
pub(super) fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin_write(database)?;
    Tables::open(&transaction)?;
    Contained::new(transaction.open_table(META)?).insert(VERSION_NAME, SCHEMA_VERSION)?;
    transaction.into_inner().commit()?;
    Ok(())
}

/// A durable commit of nothing that matters.
pub(super) fn probe(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin_write(database)?;
    {
        let mut meta = Contained::new(transaction.open_table(META)?);
        let count = meta.get(PROBE_NAME)?.map_or(0, |count| count.value());
        meta.insert(PROBE_NAME, count.wrapping_add(1))?;
    }
    transaction.into_inner().commit()?;
    Ok(())
}

/// How many stories are kept.
pub(super) fn count(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    Ok(transaction.open_table(STORIES)?.len()?)
}

fn damaged(id: [u8; 16]) -> redb::Error {
    redb::Error::Corrupted(format!("story {} cannot be read", Uuid::from_bytes(id)))
}

/// The story of an id.
pub(super) fn story(
    stories: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    id: [u8; 16],
) -> Result<Option<Kept>, redb::Error> {
    let Some(row) = stories.get(&id)? else {
        return Ok(None);
    };
    let kept = Envelope::read(row.value()).map(|envelope| envelope.kept(id));
    kept.map(Some).ok_or_else(|| damaged(id))
}

/// The story of a key, for readers and, inside its transaction, the writer.
pub(super) fn story_of_key(
    stories: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    keys: &impl ReadableTable<&'static [u8; 32], &'static [u8; 16]>,
    key: &StoryKey,
) -> Result<Option<Kept>, redb::Error> {
    let Some(id) = keys.get(key.as_bytes())?.map(|id| *id.value()) else {
        return Ok(None);
    };
    // A key without its story would be our own bug, or damage.
    story(stories, id)?.map(Some).ok_or_else(|| damaged(id))
}

/// One page, newest first.
pub(super) fn page(
    transaction: &ReadTransaction,
    filter: &Filter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<Page, redb::Error> {
    let stories = transaction.open_table(STORIES)?;
    let mut page = PageBuilder {
        page: Page::default(),
        bytes: 0,
        limit,
    };
    let style = filter.style.map(|style| style.as_str().as_bytes());
    let below = cursor.map(|cursor| cursor.last().into_bytes());
    match mark(filter.location.as_ref().map(String::as_bytes), style) {
        None => {
            let end = below.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            for row in stories.range::<&[u8; 16]>((Bound::Unbounded, end))?.rev() {
                let (id, row) = row?;
                let id = *id.value();
                let envelope = Envelope::read(row.value()).ok_or_else(|| damaged(id))?;
                if page.is_full_before(id, &envelope) {
                    break;
                }
            }
        }
        Some(mark) => {
            let lists = transaction.open_table(LISTS)?;
            let start = list_row(mark, [0; 16]);
            let end = list_row(mark, below.unwrap_or([0xff; 16]));
            for row in lists
                .range::<&[u8; 32]>((Bound::Included(&start), Bound::Excluded(&end)))?
                .rev()
            {
                let (row, ()) = row.map(|(row, value)| (*row.value(), value.value()))?;
                let id = row.last_chunk::<16>().copied().unwrap_or_default();
                let story = stories.get(&id)?.ok_or_else(|| damaged(id))?;
                let envelope = Envelope::read(story.value()).ok_or_else(|| damaged(id))?;
                if envelope.passes(filter) && page.is_full_before(id, &envelope) {
                    break;
                }
            }
        }
    }
    Ok(page.page)
}

struct PageBuilder {
    page: Page,
    bytes: usize,
    limit: usize,
}

impl PageBuilder {
    /// Takes the story, or, where it has no room left, sets the cursor and says so.
    fn is_full_before(&mut self, id: [u8; 16], envelope: &Envelope<'_>) -> bool {
        let bytes = self.bytes.saturating_add(envelope.json.len());
        if let Some(last) = self.page.items.last()
            && (self.page.items.len() >= self.limit || bytes > PAGE_BYTES_MAX)
        {
            self.page.next = Some(Cursor::after(last.id));
            return true;
        }
        self.bytes = bytes;
        self.page.items.push(envelope.kept(id));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_row_or_none(row in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(envelope) = Envelope::read(&row) {
                let mut again = Vec::new();
                envelope.write(&mut again);
                prop_assert_eq!(again, row);
            }
        }

        #[test]
        fn filters_do_not_share_a_mark(a in "[a-z]{0,6}", b in "[a-z]{0,6}", c in "[a-z]{0,6}", d in "[a-z]{0,6}") {
            let one = mark(Some(a.as_bytes()), Some(b.as_bytes()));
            let two = mark(Some(c.as_bytes()), Some(d.as_bytes()));
            prop_assert_eq!(one == two, (&a, &b) == (&c, &d));
            prop_assert_ne!(mark(Some(a.as_bytes()), None), mark(None, Some(a.as_bytes())));
            prop_assert_ne!(mark(Some(a.as_bytes()), None), mark(Some(a.as_bytes()), Some(b"")));
        }
    }
}
