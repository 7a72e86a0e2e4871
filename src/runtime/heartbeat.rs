//! What a worker shows of itself to the watchdog and to the scrape, without a lock on its path.

use super::driver::Unparker;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One writer (the worker), any readers. The writer uses plain loads and stores: no locked instruction a turn.
#[derive(Debug)]
#[repr(align(128))] // Two cache lines: the neighbour-line prefetcher must not couple two workers.
pub struct Heartbeat {
    /// Number of the poll in progress (high bits) and the name of its task plus one (low 16); low bits 0 between polls.
    poll: AtomicU64,
    turns: AtomicU64,
    stalls: AtomicU64,
    stalled_ns_max: AtomicU64,
    parked: AtomicBool,
    /// Its runtime is gone.
    ended: AtomicBool,
    names: Mutex<Vec<&'static str>>,
    unparker: Unparker,
    tid: i32,
}

/// A moment of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Grows with each task poll.
    pub polls: u64,
    /// Grows with each turn of the event loop: one that stands still, and does not go on when it is woken, is stuck.
    pub turns: u64,
    /// The task that holds the core; none while the worker waits or does its own book-keeping.
    pub task: Option<&'static str>,
    /// The worker waits for the kernel.
    pub parked: bool,
}

impl Pulse {
    /// Something was done between this moment and `later`.
    pub fn goes_on(&self, later: &Pulse) -> bool {
        (self.polls, self.turns) != (later.polls, later.turns)
    }

    /// What the worker was in the middle of.
    pub fn place(&self) -> &'static str {
        match self.task {
            Some(task) => task,
            None if self.parked => "(waiting for the kernel)",
            None => "(between tasks)",
        }
    }
}

impl Heartbeat {
    /// Of the worker on this thread, which `unparker` wakes.
    pub(super) fn new(unparker: Unparker) -> Heartbeat {
        Heartbeat {
            poll: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            stalled_ns_max: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            names: Mutex::default(),
            unparker,
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
        }
    }

    /// The worker's thread.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Wakes the worker: unless it is stuck, it makes a turn.
    pub fn ask_for_a_turn(&self) {
        self.unparker.unpark();
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The worker's runtime is gone: it makes no more turns, and is not stuck.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// A number for a task name; called at most once a name and worker.
    pub(super) fn intern(&self, name: &'static str) -> u16 {
        let mut names = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        names.push(name);
        (names.len() - 1).min(usize::from(u16::MAX - 1)) as u16
    }

    pub(super) fn enter(&self, polls: u64, name: u16) {
        self.poll.store(polls << 16 | (u64::from(name) + 1), Ordering::Relaxed);
    }

    pub(super) fn leave(&self, polls: u64) {
        self.poll.store(polls << 16, Ordering::Relaxed);
    }

    pub(super) fn park(&self, parked: bool) {
        self.parked.store(parked, Ordering::Relaxed);
        if parked {
            self.turns
                .store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn stalled(&self, ns: u64) {
        self.stalls
            .store(self.stalls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.stalled_ns_max
            .store(self.stalled_ns_max.load(Ordering::Relaxed).max(ns), Ordering::Relaxed);
    }

    /// What the worker is doing now.
    pub fn pulse(&self) -> Pulse {
        let bits = self.poll.load(Ordering::Relaxed);
        let names = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let task = (bits & 0xffff)
            .checked_sub(1)
            .and_then(|index| names.get(index as usize).copied());
        Pulse {
            polls: bits >> 16,
            turns: self.turns(),
            task,
            parked: self.parked.load(Ordering::Relaxed),
        }
    }

    /// Turns of the event loop so far.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Task polls that held the core longer than `limits::runtime::STALL_NS`.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// The longest of them, nanoseconds.
    pub fn stalled_ns_max(&self) -> u64 {
        self.stalled_ns_max.load(Ordering::Relaxed)
    }
}
