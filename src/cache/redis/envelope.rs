//! A story as it lies in Redis: a version, a checksum, what it belongs to, and the exact bytes to answer with.
//!
//! `RTS1`, CRC-32 of all that follows (4 bytes), content key (32), id (16), milliseconds since the Unix epoch (8), JSON;
//! numbers big-endian. Whatever is not exactly that, for exactly the key that was asked for, is a miss: another
//! program's value, half a value, one of a later version. The checksum is against accidents; who can write to Redis can
//! write stories.

use crate::limits::store::STORY_BYTES_MAX;
use crate::store::StoryKey;
use flate2::Crc;
use uuid::Uuid;

const MAGIC: &[u8; 4] = b"RTS1";
/// Bytes before the JSON.
const HEAD_BYTES: usize = 4 + 4 + 32 + 16 + 8;

/// A story found in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The content key of the request it answers.
    pub key: StoryKey,
    /// Its id.
    pub id: Uuid,
    /// When it was told, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The bytes to answer with.
    pub json: Vec<u8>,
}

/// The value for a story.
pub(super) fn seal(key: &StoryKey, id: Uuid, created_ms: u64, json: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD_BYTES + json.len());
    value.extend_from_slice(MAGIC);
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(key.as_bytes());
    value.extend_from_slice(id.as_bytes());
    value.extend_from_slice(&created_ms.to_be_bytes());
    value.extend_from_slice(json);
    let sum = checksum(value.get(8..).unwrap_or_default());
    if let Some(place) = value.get_mut(4..8) {
        place.copy_from_slice(&sum);
    }
    value
}

/// The story in a value, where it is one.
pub(super) fn open(mut value: Vec<u8>) -> Option<Entry> {
    let rest = value.strip_prefix(MAGIC)?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    if *sum != checksum(rest) {
        return None;
    }
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (created_ms, json) = rest.split_first_chunk::<8>()?;
    let (key, id) = (StoryKey::from_bytes(*key), Uuid::from_bytes(*id));
    let created_ms = u64::from_be_bytes(*created_ms);
    // As every store demands of a record: ids carry their time.
    let timed = id.get_version_num() == 7 && u128::from(created_ms) == id.as_u128() >> 80;
    if !timed || json.is_empty() || json.len() > STORY_BYTES_MAX {
        return None;
    }
    value.drain(..HEAD_BYTES);
    Some(Entry {
        key,
        id,
        created_ms,
        json: value,
    })
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(created_ms: u64) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(created_ms, &[7; 10]).into_uuid()
    }

    proptest! {
        #[test]
        fn a_story_goes_round_and_a_damaged_one_is_none(
            json in prop::collection::vec(any::<u8>(), 1..300),
            created_ms in 0u64..1 << 48,
            at: prop::sample::Index,
            flip in 1u8..,
        ) {
            let key = StoryKey::of_canonical(b"rome");
            let value = seal(&key, id(created_ms), created_ms, &json);
            let entry = Entry { key, id: id(created_ms), created_ms, json };
            prop_assert_eq!(open(value.clone()), Some(entry));
            let at = at.index(value.len());
            prop_assert_eq!(open(value[..at].to_vec()), None);
            let mut damaged = value;
            damaged[at] ^= flip;
            prop_assert_eq!(open(damaged), None);
        }

        #[test]
        fn any_bytes_are_opened_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(open(bytes.clone()), None);
            bytes.splice(..0, *MAGIC);
            prop_assert_eq!(open(bytes), None);
        }
    }

    #[test]
    fn a_value_that_breaks_a_rule_of_the_store_is_none() {
        let key = StoryKey::of_canonical(b"rome");
        assert_eq!(open(seal(&key, id(5), 6, b"{}")), None, "another time than its id's");
        assert_eq!(open(seal(&key, Uuid::from_u128(7), 0, b"{}")), None, "no UUIDv7");
        assert_eq!(open(seal(&key, id(5), 5, b"")), None);
        assert_eq!(open(seal(&key, id(5), 5, &vec![b' '; STORY_BYTES_MAX + 1])), None);
    }
}
