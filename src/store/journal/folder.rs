//! The folder of the journal: a lock, segments, and what was set aside.
//!
//! `lock` is held (flock(2)) by the one process that uses the folder, and names it. `<number>.journal` are segments:
//! [`record`]s one behind the other. Each start of the program begins a new one and appends to no other, so what an
//! earlier process left is only ever read, whichever worker wrote it. `<number>-<offset>.damaged` is what was found in a
//! segment and is no record; nothing here reads or removes it.
//!
//! A segment is removed when each of its stories is in the database, and not before: a crash in between replays some
//! stories twice, which changes nothing.

use super::record::{self, Read, What};
use crate::store::{Kept, Record, StoreError, StoryKey};
use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

const LOCK_NAME: &str = "lock";
const SEGMENT_END: &str = "journal";
const DAMAGED_END: &str = "damaged";
const PROBE_NAME: &str = "probe";

/// Where a story lies: segment and offset. In the order in which they were kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    length: usize,
    key: StoryKey,
}

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    bytes: u64,
    /// Stories in it that are not in the database.
    live: usize,
    /// It has damage that could not be set aside: it stays.
    is_kept: bool,
}

/// What the segments hold.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: BTreeMap<Place, Uuid>,
    ids: HashMap<Uuid, Entry>,
    keys: HashMap<StoryKey, Uuid>,
    segments: BTreeMap<u64, Segment>,
    bytes: u64,
}

/// What to read, and where.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) id: Uuid,
    pub(super) place: Place,
    file: Arc<File>,
    length: usize,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest story was told, milliseconds since the Unix epoch.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        let (_, id) = self.places.first_key_value()?;
        u64::try_from(id.as_u128() >> 80).ok()
    }

    pub(super) fn of_id(&self, id: Uuid) -> Option<Spot> {
        let entry = self.ids.get(&id)?;
        Some(Spot {
            id,
            place: entry.place,
            file: Arc::clone(&self.segments.get(&entry.place.segment)?.file),
            length: entry.length,
        })
    }

    pub(super) fn of_key(&self, key: &StoryKey) -> Option<Spot> {
        self.of_id(*self.keys.get(key)?)
    }

    /// Up to so many stories and bytes (one story at least), from that place on.
    pub(super) fn from(&self, place: Place, stories: usize, bytes: usize) -> Vec<Spot> {
        let mut left = bytes;
        let mut spots = Vec::new();
        for id in self.places.range(place..).map(|(_, id)| *id).take(stories) {
            let Some(spot) = self.of_id(id) else { continue };
            if !spots.is_empty() && spot.length > left {
                break;
            }
            left = left.saturating_sub(spot.length);
            spots.push(spot);
        }
        spots
    }

    /// A story that is in that segment now; its bytes are the segment's already. One that is there before stays.
    pub(super) fn insert(&mut self, id: Uuid, key: StoryKey, place: Place, length: usize) {
        if self.ids.contains_key(&id) {
            return;
        }
        let Some(segment) = self.segments.get_mut(&place.segment) else {
            return;
        };
        segment.live += 1;
        self.ids.insert(id, Entry { place, length, key });
        // Of two stories of one request the first one answers it; both have their ids.
        self.keys.entry(key).or_insert(id);
        self.places.insert(place, id);
    }

    fn remove(&mut self, id: Uuid) {
        let Some(entry) = self.ids.remove(&id) else { return };
        self.places.remove(&entry.place);
        if self.keys.get(&entry.key) == Some(&id) {
            self.keys.remove(&entry.key);
        }
        if let Some(segment) = self.segments.get_mut(&entry.place.segment) {
            segment.live = segment.live.saturating_sub(1);
        }
    }
}

/// A locked folder.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

/// What an opened folder had in it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) index: Index,
    /// The number that the next segment gets.
    pub(super) next_segment: u64,
    /// Files that hold damage, from before and of now.
    pub(super) set_aside: u64,
}

/// Whether there is anything of a journal in the folder, or will be: another process may write it still.
pub(super) fn is_used(dir: &Path) -> bool {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                tracing::warn!(dir = %dir.display(), %error, "whether stories wait in this journal cannot be known");
            }
            return false;
        }
    };
    entries.flatten().any(|entry| segment_number(&entry.path()).is_some()) || is_held(dir)
}

fn is_held(dir: &Path) -> bool {
    let lock = File::open(dir.join(LOCK_NAME));
    let tried = lock.map(|lock| rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared));
    matches!(tried, Ok(Err(rustix::io::Errno::WOULDBLOCK)))
}

fn segment_number(path: &Path) -> Option<u64> {
    let is_ours = path.extension()?.to_str()? == SEGMENT_END;
    path.file_stem()?.to_str()?.parse().ok().filter(|_| is_ours)
}

/// Makes names in a folder durable: the flush of a file does not cover its name (fsync(2)).
fn keep_names(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)?.sync_all()
}

/// Makes the folder, for its owner alone, since stories say where people go.
fn create(dir: &Path) -> io::Result<()> {
    let missing = dir
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let parents: Vec<&Path> = missing.filter_map(Path::parent).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    parents.into_iter().try_for_each(keep_names)
}

impl Folder {
    /// Locks the folder, made where it is missing; where another process has it, says which.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn lock(dir: &Path) -> io::Result<Result<Folder, String>> {
        create(dir)?;
        let path = dir.join(LOCK_NAME);
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = holder.trim();
                let who = if holder.is_empty() {
                    String::new()
                } else {
                    format!(" (process {holder})")
                };
                return Ok(Err(format!("another process{who} uses {}", dir.display())));
            }
            Err(error) => return Err(error.into()),
        }
        // For whoever finds it locked; nothing depends on it.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        let _ = std::fs::remove_file(dir.join(PROBE_NAME));
        Ok(Ok(Folder {
            dir: dir.to_owned(),
            _lock: lock,
        }))
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:012}.{SEGMENT_END}"))
    }

    /// Reads every segment.
    ///
    /// # Errors
    /// What the system says; damage is no error.
    pub(super) fn read(&self) -> io::Result<Found> {
        let mut found = Found::default();
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            numbers.extend(segment_number(&path));
            if path.extension().is_some_and(|end| end == DAMAGED_END) {
                found.set_aside = found.set_aside.saturating_add(1);
                // Its number is not given again: its name must stay its own.
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let number: Option<u64> = stem.split('-').next().and_then(|number| number.parse().ok());
                let next = number.unwrap_or(0).saturating_add(1);
                found.next_segment = found.next_segment.max(next);
            }
        }
        numbers.sort_unstable();
        for number in numbers {
            self.read_segment(number, &mut found)?;
            found.next_segment = found.next_segment.max(number.saturating_add(1));
        }
        self.remove_replayed(&mut found.index, None);
        Ok(found)
    }

    fn read_segment(&self, number: u64, found: &mut Found) -> io::Result<()> {
        let path = self.path(number);
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&path)?);
        let mut content = std::fs::read(&path)?;
        let (mut records, mut is_kept) = (Vec::new(), false);
        let mut torn_at = None;
        for piece in record::pieces(&content) {
            match piece.what {
                What::Record(record) => records.push((record.id, record.key, piece.at)),
                What::Torn => torn_at = Some(piece.at.start),
                What::Damaged => {
                    let bytes = content.get(piece.at.clone()).unwrap_or_default();
                    is_kept |= !self.set_aside(number, piece.at.start as u64, bytes, &mut found.set_aside);
                }
            }
        }
        if let Some(at) = torn_at {
            tracing::warn!(
                segment = %path.display(),
                bytes = content.len() - at,
                "the journal was cut off while it was written; what was not acknowledged is gone"
            );
            content.truncate(at);
            // Where it cannot be cut off it is read again at the next start, and means as little.
            let _ = file.set_len(at as u64);
        }
        let bytes = content.len() as u64;
        let segment = Segment {
            file,
            bytes,
            live: 0,
            is_kept,
        };
        found.index.bytes = found.index.bytes.saturating_add(bytes);
        found.index.segments.insert(number, segment);
        for (id, key, at) in records {
            let place = Place {
                segment: number,
                offset: at.start as u64,
            };
            found.index.insert(id, key, place, at.len());
        }
        Ok(())
    }

    /// Keeps bytes that are no record in a file of their own; true where they are safe there.
    pub(super) fn set_aside(&self, segment: u64, offset: u64, bytes: &[u8], files: &mut u64) -> bool {
        let path = self.dir.join(format!("{segment:012}-{offset}.{DAMAGED_END}"));
        let is_new = !path.exists();
        let written = || -> io::Result<()> {
            let mut file = private().create(true).truncate(true).open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            keep_names(&self.dir)
        };
        let outcome = written();
        *files = files.saturating_add(u64::from(is_new && outcome.is_ok()));
        match outcome {
            Ok(()) => {
                tracing::error!(
                    file = %path.display(),
                    bytes = bytes.len(),
                    "the journal is damaged there: what could not be read was set aside, all else is replayed"
                );
                true
            }
            Err(error) => {
                tracing::error!(segment, offset, %error, "the journal is damaged, and that could not be set aside");
                false
            }
        }
    }

    /// Begins a segment.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn begin(&self, number: u64) -> io::Result<Arc<File>> {
        let path = self.path(number);
        let file = private().read(true).create_new(true).open(&path)?;
        let durable = file.sync_all().and_then(|()| keep_names(&self.dir));
        if durable.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        durable.map(|()| Arc::new(file))
    }

    /// A segment that was begun and has nothing yet.
    pub(super) fn add(index: &mut Index, number: u64, file: Arc<File>) {
        let segment = Segment {
            file,
            bytes: 0,
            live: 0,
            is_kept: false,
        };
        index.segments.insert(number, segment);
    }

    /// A segment has grown to so many bytes.
    pub(super) fn grown(index: &mut Index, number: u64, bytes: u64) {
        if let Some(segment) = index.segments.get_mut(&number) {
            index.bytes = index.bytes.saturating_sub(segment.bytes).saturating_add(bytes);
            segment.bytes = bytes;
        }
    }

    /// These stories are in the database. Removes the segments that have no other; `current` is being written and stays
    /// where it is empty.
    pub(super) fn forget(&self, index: &mut Index, ids: &[Uuid], current: Option<u64>) {
        for id in ids {
            index.remove(*id);
        }
        self.remove_replayed(index, current);
    }

    fn remove_replayed(&self, index: &mut Index, current: Option<u64>) {
        let is_done =
            |number: &u64, segment: &Segment| segment.live == 0 && !segment.is_kept && Some(*number) != current;
        let done: Vec<u64> = index
            .segments
            .iter()
            .filter(|(n, s)| is_done(n, s))
            .map(|(n, _)| *n)
            .collect();
        for number in done {
            match std::fs::remove_file(self.path(number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(segment = number, %error, "a segment of the journal could not be removed");
                }
                _ => {
                    let bytes = index.segments.remove(&number).map_or(0, |segment| segment.bytes);
                    index.bytes = index.bytes.saturating_sub(bytes);
                }
            }
        }
    }

    /// Tries whether the disk takes so many bytes.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn probe(&self, bytes: usize) -> io::Result<()> {
        let path = self.dir.join(PROBE_NAME);
        let tried = || -> io::Result<()> {
            let mut file = private().create(true).truncate(true).open(&path)?;
            file.write_all(&vec![0x5a; bytes])?;
            file.sync_all()
        };
        let outcome = tried();
        let _ = std::fs::remove_file(&path);
        outcome
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Why a story of the index could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is not there any more: these bytes are.
    Damaged(Vec<u8>),
    /// What the system says.
    Io(io::Error),
}

impl From<Unreadable> for StoreError {
    fn from(fault: Unreadable) -> StoreError {
        match fault {
            Unreadable::Damaged(_) => StoreError::Corrupt("a story in the journal".to_owned()),
            Unreadable::Io(error) => StoreError::unavailable(format!("the journal cannot be read: {error}")),
        }
    }
}

impl Spot {
    /// Reads it from the disk. Blocks.
    pub(super) fn read(&self) -> Result<Record, Unreadable> {
        let mut bytes = vec![0; self.length];
        match self.file.read_exact_at(&mut bytes, self.place.offset) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Unreadable::Damaged(Vec::new())),
            Err(error) => return Err(Unreadable::Io(error)),
        }
        match record::read(&bytes) {
            Read::Whole(record, _) if record.id == self.id => Ok(record),
            _ => Err(Unreadable::Damaged(bytes)),
        }
    }

    /// The same as what a store gives.
    pub(super) fn kept(&self) -> Result<Kept, StoreError> {
        Ok(kept(self.read()?))
    }
}

/// A record as what a store gives.
pub(super) fn kept(record: Record) -> Kept {
    Kept {
        id: record.id,
        created_ms: record.created_ms,
        json: record.json,
    }
}

/// Whether there is no room on the disk, of the quota, or for the file.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}
