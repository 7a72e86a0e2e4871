//! A story in a segment, and the reading of segments that something has damaged.
//!
//! | part | bytes |
//! | --- | --- |
//! | mark | 4: [`MARK`] |
//! | length of the body | 4 |
//! | CRC-32 (ISO-HDLC) of length and body | 4 |
//! | body: form | 1 |
//! | id | 16 |
//! | key of the request | 32 |
//! | style, behind its length | 1 + n |
//! | folded name of the place, behind its length | 2 + n |
//! | JSON | the rest |
//!
//! Numbers are big-endian. The creation time is in the id (`Record::check`). Mark and checksum make a record findable in
//! the midst of anything, so damage costs the records that it hits and no other. The mark has bytes that UTF-8 does not
//! have: no story can have a record in it.

use crate::limits::store::{LOCATION_KEY_BYTES_MAX, STORY_BYTES_MAX};
use crate::store::{Record, StoryKey};
use memchr::memmem;
use std::ops::Range;
use uuid::Uuid;

/// What a record begins with.
pub(super) const MARK: [u8; 4] = [0xff, b'R', b'J', 0xfe];
/// Mark, length, checksum.
pub(super) const HEAD_BYTES: usize = 12;
const FORM: u8 = 1;
const BODY_BYTES_MAX: usize = 1 + 16 + 32 + 1 + u8::MAX as usize + 2 + LOCATION_KEY_BYTES_MAX + STORY_BYTES_MAX;
/// The largest record.
pub(super) const RECORD_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// Appends a record that has passed [`Record::check`].
pub(super) fn write(record: &Record, out: &mut Vec<u8>) {
    let style = record.style.as_str().as_bytes();
    let location = record.location_key.as_bytes();
    let begin = out.len();
    out.extend_from_slice(&MARK);
    // Length and checksum, when they are known.
    out.extend_from_slice(&[0; HEAD_BYTES - MARK.len()]);
    out.push(FORM);
    out.extend_from_slice(record.id.as_bytes());
    out.extend_from_slice(record.key.as_bytes());
    // Styles are short words, and the location was checked: the lengths fit.
    out.push(u8::try_from(style.len()).unwrap_or(0));
    out.extend_from_slice(style);
    out.extend_from_slice(&u16::try_from(location.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(location);
    out.extend_from_slice(&record.json);
    let body = out.get(begin + HEAD_BYTES..).unwrap_or_default();
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let sum = checksum(length, body).to_be_bytes();
    for (place, byte) in out
        .iter_mut()
        .skip(begin + MARK.len())
        .zip(length.into_iter().chain(sum))
    {
        *place = byte;
    }
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

/// What stands at the begin of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// A record, and its length.
    Whole(Record, usize),
    /// The begin of one.
    Short,
    /// Something else, or a record of a form that this program does not know.
    Broken,
}

/// Reads the record that the bytes begin with. Total: any bytes will do.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mark = bytes.get(..MARK.len()).unwrap_or(bytes);
    if !MARK.starts_with(mark) {
        return Read::Broken;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Read::Short;
    };
    let [_, _, _, _, l0, l1, l2, l3, s0, s1, s2, s3] = *head;
    let length = [l0, l1, l2, l3];
    let body_bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if body_bytes > BODY_BYTES_MAX {
        return Read::Broken;
    }
    let Some(body) = rest.get(..body_bytes) else {
        return Read::Short;
    };
    if checksum(length, body) != u32::from_be_bytes([s0, s1, s2, s3]) {
        return Read::Broken;
    }
    match record(body) {
        Some(record) => Read::Whole(record, HEAD_BYTES + body_bytes),
        None => Read::Broken,
    }
}

fn record(body: &[u8]) -> Option<Record> {
    let (&form, rest) = body.split_first()?;
    if form != FORM {
        return None;
    }
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let (&style_bytes, rest) = rest.split_first()?;
    let (style, rest) = rest.split_at_checked(usize::from(style_bytes))?;
    let (location_bytes, rest) = rest.split_first_chunk::<2>()?;
    let (location, json) = rest.split_at_checked(usize::from(u16::from_be_bytes(*location_bytes)))?;
    let id = Uuid::from_bytes(*id);
    let record = Record {
        key: StoryKey::from_bytes(*key),
        id,
        json: json.to_vec(),
        location_key: str::from_utf8(location).ok()?.to_owned(),
        style: str::from_utf8(style).ok()?.parse().ok()?,
        created_ms: u64::try_from(id.as_u128() >> 80).ok()?,
    };
    record.check().ok()?;
    Some(record)
}

/// A piece of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it lies.
    pub(super) at: Range<usize>,
    /// What it is.
    pub(super) what: What,
}

/// See [`Piece`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A whole record.
    Record(Box<Record>),
    /// Bytes that should be records and are not.
    Damaged,
    /// The end of a segment whose writing was cut off: nothing in it was ever acknowledged.
    Torn,
}

/// Takes a segment apart: its pieces cover it without a gap.
pub(super) fn pieces(segment: &[u8]) -> impl Iterator<Item = Piece> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let rest = segment.get(begin..).filter(|rest| !rest.is_empty())?;
        let (what, length) = match read(rest) {
            Read::Whole(record, length) => (What::Record(Box::new(record)), length),
            begun => match next_whole(rest) {
                Some(length) => (What::Damaged, length),
                None if begun == Read::Short || rest.iter().all(|byte| *byte == 0) => (What::Torn, rest.len()),
                None => (What::Damaged, rest.len()),
            },
        };
        let at = begin..begin + length;
        begin = at.end;
        Some(Piece { at, what })
    })
}

/// Where the next whole record begins, behind the first byte.
fn next_whole(bytes: &[u8]) -> Option<usize> {
    let is_whole = |at: &usize| {
        bytes
            .get(*at..)
            .is_some_and(|rest| matches!(read(rest), Read::Whole(..)))
    };
    memmem::find_iter(bytes, &MARK).filter(|at| *at > 0).find(is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::id_at;
    use crate::story::types::Style;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Record> {
        let parts = (
            0..1u64 << 48,
            any::<u64>(),
            any::<[u8; 32]>(),
            proptest::collection::vec(any::<u8>(), 1..300),
            "[^\0]{0,40}",
            0..Style::ALL.len(),
        );
        parts.prop_map(|(created_ms, random, key, json, location_key, style)| Record {
            key: StoryKey::from_bytes(key),
            id: id_at(created_ms, random),
            json,
            location_key,
            style: Style::ALL[style],
            created_ms,
        })
    }

    fn segment(told: &[Record]) -> (Vec<u8>, Vec<Range<usize>>) {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for record in told {
            let begin = bytes.len();
            write(record, &mut bytes);
            places.push(begin..bytes.len());
        }
        (bytes, places)
    }

    /// Pieces cover the bytes, in order; the records among them.
    fn taken_apart(bytes: &[u8]) -> Vec<Record> {
        let (mut end, mut found, mut torn) = (0, Vec::new(), false);
        for piece in pieces(bytes) {
            assert!(piece.at.start == end && piece.at.end > end && !torn, "{piece:?}");
            end = piece.at.end;
            match piece.what {
                What::Record(record) => {
                    let mut again = Vec::new();
                    write(&record, &mut again);
                    assert_eq!(bytes[piece.at], again, "what was read is not what stood there");
                    found.push(*record);
                }
                What::Torn => torn = true,
                What::Damaged => {}
            }
        }
        assert_eq!(end, bytes.len());
        found
    }

    /// What may happen to a file.
    #[derive(Debug, Clone)]
    enum Harm {
        Flip(prop::sample::Index, u8),
        Fill(prop::sample::Index, usize, u8),
        Remove(prop::sample::Index, usize),
        Insert(prop::sample::Index, Vec<u8>),
        Cut(prop::sample::Index),
    }

    fn harms() -> impl Strategy<Value = Harm> {
        let at = any::<prop::sample::Index>;
        let junk = prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..60),
            // What looks like a record.
            proptest::collection::vec(any::<u8>(), 0..30).prop_map(|tail| [&MARK[..], &tail].concat()),
        ];
        prop_oneof![
            (at(), 0..8u8).prop_map(|(at, bit)| Harm::Flip(at, 1 << bit)),
            (at(), 1..200usize, any::<u8>()).prop_map(|(at, length, byte)| Harm::Fill(at, length, byte)),
            (at(), 1..200usize).prop_map(|(at, length)| Harm::Remove(at, length)),
            (at(), junk).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
            at().prop_map(Harm::Cut),
        ]
    }

    /// Does it, and says which bytes of the sound file it touched; an insertion touches where it tears two bytes apart.
    fn do_harm(bytes: &mut Vec<u8>, harm: &Harm) -> Range<usize> {
        let all = bytes.len();
        match harm {
            Harm::Flip(at, bits) => {
                let at = at.index(all);
                bytes[at] ^= bits;
                at..at + 1
            }
            Harm::Fill(at, length, byte) => {
                let at = at.index(all);
                let end = all.min(at + length);
                bytes[at..end].fill(*byte);
                at..end
            }
            Harm::Remove(at, length) => {
                let at = at.index(all);
                let end = all.min(at + length);
                bytes.drain(at..end);
                at..end
            }
            Harm::Insert(at, junk) => {
                let at = at.index(all);
                bytes.splice(at..at, junk.iter().copied());
                at..at
            }
            Harm::Cut(at) => {
                let at = at.index(all);
                bytes.truncate(at);
                at..all
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(told in proptest::collection::vec(records(), 0..6)) {
            let (bytes, places) = segment(&told);
            prop_assert!(places.iter().all(|place| place.len() <= RECORD_BYTES_MAX));
            prop_assert_eq!(taken_apart(&bytes), told);
        }

        #[test]
        fn any_bytes_are_taken_apart(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            taken_apart(&bytes);
            taken_apart(&[&MARK[..], &bytes].concat());
        }

        #[test]
        fn harm_costs_the_records_that_it_hits_and_no_other(
            told in proptest::collection::vec(records(), 1..8),
            harm in harms(),
        ) {
            let (mut bytes, places) = segment(&told);
            let hit = do_harm(&mut bytes, &harm);
            let found = taken_apart(&bytes);
            let untouched = |place: &Range<usize>| hit.end <= place.start || hit.start >= place.end
                || (hit.is_empty() && hit.start == place.start);
            for (record, place) in told.iter().zip(&places).filter(|(_, place)| untouched(place)) {
                prop_assert!(found.contains(record), "{:?} lost to {:?}", place, hit);
            }
            // And nothing is made up.
            prop_assert!(found.iter().all(|record| told.contains(record)));
        }

        #[test]
        fn many_harms_make_nothing_up(
            told in proptest::collection::vec(records(), 1..8),
            many in proptest::collection::vec(harms(), 1..6),
        ) {
            let (mut bytes, _) = segment(&told);
            for harm in many {
                if !bytes.is_empty() {
                    do_harm(&mut bytes, &harm);
                }
            }
            prop_assert!(taken_apart(&bytes).iter().all(|record| told.contains(record)));
        }

        #[test]
        fn a_segment_cut_anywhere_has_a_torn_tail_and_no_damage(
            told in proptest::collection::vec(records(), 1..4),
            at in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, places) = segment(&told);
            bytes.truncate(at.index(bytes.len() + 1));
            prop_assert!(pieces(&bytes).all(|piece| piece.what != What::Damaged));
            let whole = places.iter().filter(|place| place.end <= bytes.len()).count();
            prop_assert_eq!(taken_apart(&bytes), &told[..whole]);
        }
    }

    #[test]
    fn a_record_of_a_form_to_come_is_damage_and_no_record() {
        let told = crate::store::contract::record(7, 7, "rome", Style::History);
        let (mut bytes, _) = segment(&[told]);
        bytes[HEAD_BYTES] = FORM + 1;
        let (length, body) = (bytes[4..8].try_into().unwrap(), bytes[HEAD_BYTES..].to_vec());
        bytes[8..12].copy_from_slice(&checksum(length, &body).to_be_bytes());
        assert_eq!(
            pieces(&bytes).map(|piece| piece.what).collect::<Vec<_>>(),
            [What::Damaged]
        );
        assert_eq!(
            pieces(&[0; 100]).map(|piece| piece.what).collect::<Vec<_>>(),
            [What::Torn]
        );
    }
}
