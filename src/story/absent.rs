//! Ids that were looked for in vain a moment ago, so that a client that keeps asking does not keep the store busy.

use crate::limits::redis as limits;
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// A bounded memory of a few seconds. Time is handed in: `now_ms` is the worker's clock, `unix_ms` the wall's.
#[derive(Debug, Default)]
pub(super) struct Absent {
    until_ms: HashMap<Uuid, u64>,
    /// In the order of their end, which is the order they came in.
    order: VecDeque<(u64, Uuid)>,
}

impl Absent {
    /// The id is known to be absent.
    pub(super) fn contains(&mut self, id: Uuid, now_ms: u64) -> bool {
        while let Some((until_ms, old)) = self.order.front().copied().filter(|(until_ms, _)| *until_ms <= now_ms) {
            self.order.pop_front();
            if self.until_ms.get(&old) == Some(&until_ms) {
                self.until_ms.remove(&old);
            }
        }
        self.until_ms.contains_key(&id)
    }

    /// The store has no story of that id. Only ids that carry an old time are remembered: a story that is kept after
    /// this moment has a younger one, so that none can hide here.
    pub(super) fn note(&mut self, id: Uuid, now_ms: u64, unix_ms: u64) {
        let made_ms = id.as_u128() >> 80;
        if made_ms.saturating_add(u128::from(limits::ABSENT_AGE_MS)) > u128::from(unix_ms) {
            return;
        }
        if self.order.len() >= limits::ABSENT_IDS_MAX
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.until_ms.remove(&oldest);
        }
        let until_ms = now_ms.saturating_add(limits::ABSENT_MS);
        self.until_ms.insert(id, until_ms);
        self.order.push_back((until_ms, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(made_ms: u64, number: u16) -> Uuid {
        let [high, low] = number.to_be_bytes();
        uuid::Builder::from_unix_timestamp_millis(made_ms, &[0, 0, 0, 0, 0, 0, 0, 0, high, low]).into_uuid()
    }

    #[test]
    fn an_old_id_is_absent_for_a_moment_and_a_young_one_never() {
        let unix_ms = 1_700_000_000_000;
        let mut absent = Absent::default();
        let (old, young) = (
            id(unix_ms - limits::ABSENT_AGE_MS, 1),
            id(unix_ms - limits::ABSENT_AGE_MS + 1, 2),
        );
        absent.note(old, 10, unix_ms);
        absent.note(young, 10, unix_ms);
        absent.note(id(unix_ms + 5_000, 3), 10, unix_ms);
        assert!(absent.contains(old, 10) && absent.contains(old, 9 + limits::ABSENT_MS));
        assert!(!absent.contains(young, 10));
        assert!(!absent.contains(old, 10 + limits::ABSENT_MS));
        assert!(absent.until_ms.is_empty() && absent.order.is_empty());
    }

    #[test]
    fn it_is_bounded_and_forgets_the_oldest() {
        let mut absent = Absent::default();
        let many = u16::try_from(limits::ABSENT_IDS_MAX).unwrap() + 1;
        for number in 0..many {
            absent.note(id(1, number), 0, 1_700_000_000_000);
        }
        assert_eq!(
            (absent.until_ms.len(), absent.order.len()),
            (limits::ABSENT_IDS_MAX, limits::ABSENT_IDS_MAX)
        );
        assert!(!absent.contains(id(1, 0), 0) && absent.contains(id(1, 1), 0));
    }
}
