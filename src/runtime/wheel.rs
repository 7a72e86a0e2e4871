//! A hierarchical timing wheel (Varghese and Lauck 1987): insert, remove and fire in constant time, and the next
//! deadline without a scan, so that a worker with nothing due sleeps for as long as that is true.
//!
//! Six levels of 64 slots at 1 ms: 2^36 ms, about two years; what lies further is put at the end and put again.

use slab::Slab;
use std::task::Waker;

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: u64 = 1 << SLOT_BITS;
const SPAN_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
const NONE: u32 = u32::MAX;

/// Names a timer; valid until [`Wheel::remove`].
pub(super) type TimerKey = u32;

#[derive(Debug)]
struct Timer {
    deadline: u64,
    /// Neighbours in the slot's list; meaningless once fired.
    next: u32,
    prev: u32,
    level: u8,
    slot: u8,
    fired: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    occupied: u64,
    heads: [u32; SLOTS as usize],
}

/// The timers of a worker. Times are whole milliseconds of the worker's clock.
#[derive(Debug)]
pub(super) struct Wheel {
    elapsed: u64,
    levels: Box<[Level; LEVELS]>,
    timers: Slab<Timer>,
}

impl Wheel {
    pub(super) fn new(now: u64) -> Wheel {
        let empty = Level {
            occupied: 0,
            heads: [NONE; SLOTS as usize],
        };
        Wheel {
            elapsed: now,
            levels: Box::new([empty; LEVELS]),
            timers: Slab::with_capacity(crate::limits::runtime::TASKS_RESERVED),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    /// Adds a timer. A deadline in the past fires with the next [`advance`](Self::advance).
    pub(super) fn insert(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        let timer = Timer {
            deadline,
            next: NONE,
            prev: NONE,
            level: 0,
            slot: 0,
            fired: false,
            waker: Some(waker),
        };
        let key = self.timers.insert(timer) as u32;
        self.link(key);
        key
    }

    /// When the timer is set to fire, or `None` once it has.
    pub(super) fn armed_for(&self, key: TimerKey) -> Option<u64> {
        self.timers
            .get(key as usize)
            .filter(|timer| !timer.fired)
            .map(|timer| timer.deadline)
    }

    /// Sets a timer anew, fired or not.
    pub(super) fn reset(&mut self, key: TimerKey, deadline: u64, waker: Waker) {
        self.unlink(key);
        if let Some(timer) = self.timers.get_mut(key as usize) {
            timer.deadline = deadline;
            timer.fired = false;
            timer.waker = Some(waker);
            self.link(key);
        }
    }

    /// Replaces the waker where it would wake someone else.
    pub(super) fn update_waker(&mut self, key: TimerKey, waker: &Waker) {
        if let Some(timer) = self.timers.get_mut(key as usize) {
            match &mut timer.waker {
                Some(old) => old.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    /// Takes a timer out; its key is free afterwards.
    pub(super) fn remove(&mut self, key: TimerKey) {
        self.unlink(key);
        self.timers.try_remove(key as usize);
    }

    fn place(&self, deadline: u64) -> (usize, usize) {
        let deadline = deadline.clamp(self.elapsed, self.elapsed.saturating_add(SPAN_MAX / 2));
        // The highest bit in which deadline and present differ says at which level they part.
        let differing = (self.elapsed ^ deadline) | (SLOTS - 1);
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1);
        let slot = (deadline >> (level * SLOT_BITS)) & (SLOTS - 1);
        (level as usize, slot as usize)
    }

    fn link(&mut self, key: TimerKey) {
        let Some(deadline) = self.timers.get(key as usize).map(|timer| timer.deadline) else {
            return;
        };
        let (level, slot) = self.place(deadline);
        let head = self.levels[level].heads[slot];
        if let Some(timer) = self.timers.get_mut(key as usize) {
            (timer.level, timer.slot, timer.prev, timer.next) = (level as u8, slot as u8, NONE, head);
        }
        if let Some(next) = self.timers.get_mut(head as usize) {
            next.prev = key;
        }
        self.levels[level].heads[slot] = key;
        self.levels[level].occupied |= 1 << slot;
    }

    fn unlink(&mut self, key: TimerKey) {
        let Some(timer) = self.timers.get(key as usize).filter(|timer| !timer.fired) else {
            return;
        };
        let (prev, next, level, slot) = (
            timer.prev,
            timer.next,
            usize::from(timer.level),
            usize::from(timer.slot),
        );
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.prev = prev;
        }
        match self.timers.get_mut(prev as usize) {
            Some(prev) => prev.next = next,
            None => {
                self.levels[level].heads[slot] = next;
                if next == NONE {
                    self.levels[level].occupied &= !(1 << slot);
                }
            }
        }
    }

    /// The earliest slot in use: its level, its number, and when it is due. Timers of a lower level are always due
    /// before those of a higher one.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for (index, level) in self.levels.iter().enumerate() {
            if level.occupied == 0 {
                continue;
            }
            let shift = index as u32 * SLOT_BITS;
            let now_slot = (self.elapsed >> shift) & (SLOTS - 1);
            let ahead = u64::from(level.occupied.rotate_right(now_slot as u32).trailing_zeros());
            let slot = (now_slot + ahead) & (SLOTS - 1);
            let round = self.elapsed & !((SLOTS << shift) - 1);
            let mut due = round + (slot << shift);
            if slot < now_slot {
                due += SLOTS << shift;
            }
            return Some((index, slot as usize, due.max(self.elapsed)));
        }
        None
    }

    /// When the worker must look again; never later than the earliest timer.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.next_slot().map(|(_, _, due)| due)
    }

    /// Moves the present to `now` and collects the wakers of what is due.
    pub(super) fn advance(&mut self, now: u64, due: &mut Vec<Waker>) {
        while let Some((level, slot, at)) = self.next_slot() {
            if at > now {
                break;
            }
            self.elapsed = self.elapsed.max(at);
            let mut key = self.levels[level].heads[slot];
            self.levels[level].heads[slot] = NONE;
            self.levels[level].occupied &= !(1 << slot);
            while let Some(timer) = self.timers.get_mut(key as usize) {
                let next = timer.next;
                if timer.deadline <= now {
                    timer.fired = true;
                    due.extend(timer.waker.take());
                } else {
                    // Parted at a higher level; it sinks to where it belongs now.
                    self.link(key);
                }
                key = next;
            }
        }
        self.elapsed = self.elapsed.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_far_timer_needs_few_looks_and_fires_on_time() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut wheel = Wheel::new(5);
        let _key = wheel.insert(5 + 75_000, Waker::from(count.clone()));
        let mut looks = 0;
        let mut now = 5;
        while count.0.load(Ordering::Relaxed) == 0 {
            now = wheel.next_due().unwrap();
            let mut due = Vec::new();
            wheel.advance(now, &mut due);
            due.into_iter().for_each(Waker::wake);
            looks += 1;
            assert!(looks <= 4, "cascades at most once a level");
        }
        assert_eq!(now, 75_005);
        assert_eq!(wheel.next_due(), None);
    }

    proptest! {
        /// Against a sorted map: the same timers fire at the same look, never early, whatever the jumps of the clock.
        #[test]
        fn fires_what_a_sorted_map_would(
            start in 0u64..1 << 40,
            steps in prop::collection::vec((0u64..1 << 20, 0u64..1 << 18, 0u8..4), 1..80),
        ) {
            let mut wheel = Wheel::new(start);
            let mut model: BTreeMap<u32, (u64, Arc<Count>)> = BTreeMap::new();
            let mut now = start;
            for (delay, jump, kind) in steps {
                match kind {
                    0 => {
                        if let Some((&key, _)) = model.iter().next() {
                            wheel.remove(key);
                            model.remove(&key);
                        }
                    }
                    1 => {
                        if let Some((&key, (deadline, count))) = model.iter_mut().next_back() {
                            *deadline = now + delay;
                            wheel.reset(key, now + delay, Waker::from(count.clone()));
                        }
                    }
                    _ => {
                        let count = Arc::new(Count(AtomicUsize::new(0)));
                        let key = wheel.insert(now + delay, Waker::from(count.clone()));
                        model.insert(key, (now + delay, count));
                    }
                }
                if let Some(earliest) = model.values().map(|(deadline, _)| *deadline).min() {
                    prop_assert!(wheel.next_due().unwrap() <= earliest.max(now));
                }
                now += jump;
                let mut due = Vec::new();
                wheel.advance(now, &mut due);
                due.into_iter().for_each(Waker::wake);
                let fired: Vec<u32> =
                    model.iter().filter(|(_, (deadline, _))| *deadline <= now).map(|(key, _)| *key).collect();
                for key in fired {
                    let (_, count) = model.remove(&key).unwrap();
                    prop_assert_eq!(count.0.load(Ordering::Relaxed), 1);
                    prop_assert_eq!(wheel.armed_for(key), None);
                    wheel.remove(key);
                }
                prop_assert!(model.values().all(|(_, count)| count.0.load(Ordering::Relaxed) == 0));
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
