//! Balance between the workers of a process: a fresh connection goes to who has fewer.
//!
//! The kernel spreads connections over the workers' sockets by hash, which leaves few long connections uneven: of four, two
//! workers get two each in three cases of eight only. So a worker that accepts a connection and has more than another one
//! (`choice` says when) hands the socket over: before a byte of it is read, with the [`Terms`] of its port, once, and to a
//! worker that takes it. Connections that are served stay where they are: the path of a request knows nothing of this.
//!
//! Each life of a worker has a place ([`Seat`] is its own end of it), with its figures, which it writes with plain stores and
//! others read when they accept, and with a queue of sockets that were handed to it. A connection is always somebody's:
//!
//! - a queue that is full or closed takes none, and who wanted to hand over serves it itself;
//! - what a worker does not take within [`limits::TAKE_BACK`] is taken back by who handed it over, if there is a place for it
//!   here or at a third, and until that worker has made a turn it is handed no more: so a stuck one costs its new connections
//!   that time, once;
//! - a life that leaves takes what waits for it, and takes back what it has handed over;
//! - a worker without a place hands over to any other that has one, a few at a time ([`limits::OUT_MAX`]), and while nobody
//!   has, it accepts nothing. What it has accepted by then waits in its own queue, and for that long it accepts nothing more;
//! - of one that breaks down both are left to all ([`Leaves`]), and whoever comes first serves them, its successor included.
//!
//! Deliberately absent: moving connections that are served, and any weighing of what they do.

mod choice;
mod seat;

use super::Terms;
use crate::limits::balance as limits;
use crate::runtime::heartbeat::Heartbeat;
use choice::Load;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

/// What the workers of a process know of each other.
#[derive(Default)]
pub struct Balance {
    places: Mutex<Vec<Arc<Place>>>,
    /// Changes whenever that list does: each worker has a copy of it.
    version: AtomicU64,
    lives: AtomicU64,
    /// Of lives that broke down: for whoever comes first.
    left: Mutex<Vec<Handed>>,
    /// How many those are.
    left_count: AtomicUsize,
}

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) socket: OwnedFd,
    pub(super) terms: Terms,
    /// The place of who has accepted it.
    from: u64,
    /// When, nanoseconds of the clock of that worker.
    since_ns: u64,
    /// Counted there, until somebody serves it.
    _out: Out,
}

/// One connection that its worker has handed out.
#[derive(Debug)]
struct Out(Arc<AtomicUsize>);

impl Out {
    fn new(count: &Arc<AtomicUsize>) -> Out {
        count.fetch_add(1, Ordering::Relaxed);
        Out(Arc::clone(count))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Written by its worker alone, at each connection's begin and end: plain loads and stores, on lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Figures {
    open: AtomicUsize,
    /// The epoch (high half), and how many began in it and, halved for each epoch, before it.
    lately: AtomicU64,
}

/// One life of a worker, as others see it.
struct Place {
    number: u64,
    figures: Figures,
    heartbeat: Arc<Heartbeat>,
    /// Connections that it serves at most.
    max: usize,
    /// It takes connections.
    taking: AtomicBool,
    /// How many wait in the queue; written with its lock held.
    waiting: AtomicUsize,
    /// One more than its turns when it was last found to take nothing; 0: never.
    late: AtomicU64,
    /// How many it has handed out, and nobody serves yet.
    out: Arc<AtomicUsize>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Handed>,
    closed: bool,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The part of the clock that figures are dated by.
fn epoch(now_ns: u64) -> u32 {
    (now_ns / limits::EPOCH_NS) as u32
}

/// A packed count as of `now`.
fn decayed(packed: u64, now: u32) -> u32 {
    let age = now.wrapping_sub((packed >> 32) as u32);
    // Its worker has looked at its clock later than this one.
    let age = if age > u32::MAX / 2 { 0 } else { age };
    (packed as u32).checked_shr(age).unwrap_or(0)
}

fn packed(count: u32, now: u32) -> u64 {
    u64::from(now) << 32 | u64::from(count)
}

impl Place {
    fn load(&self, now: u32) -> Load {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let lately = decayed(self.figures.lately.load(Ordering::Relaxed), now) as usize;
        Load {
            open: self.figures.open.load(Ordering::Relaxed).saturating_add(waiting),
            lately: lately.saturating_add(waiting),
        }
    }

    /// It can be handed a connection, for all that can be seen without its lock.
    fn has_room(&self, load: Load) -> bool {
        self.taking.load(Ordering::Relaxed)
            && load.open < self.max
            && self.waiting.load(Ordering::Relaxed) < limits::WAITING_MAX
            && self.late.load(Ordering::Relaxed) != self.heartbeat.turns().wrapping_add(1)
    }

    /// Takes what `fits` out of the queue.
    fn extract(&self, queue: &mut Queue, fits: impl FnMut(&Handed) -> bool) -> Vec<Handed> {
        let (out, rest) = std::mem::take(&mut queue.waiting).into_iter().partition(fits);
        queue.waiting = rest;
        self.waiting.store(queue.waiting.len(), Ordering::Release);
        Vec::from(out)
    }

    /// One more waits; gives who is to be woken, once the lock is free.
    fn push(&self, queue: &mut Queue, handed: Handed) -> Option<Waker> {
        queue.waiting.push_back(handed);
        self.waiting.store(queue.waiting.len(), Ordering::Release);
        queue.waker.clone()
    }

    fn close(&self) -> Vec<Handed> {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.waker = None;
        self.taking.store(false, Ordering::Relaxed);
        self.extract(&mut queue, |_| true)
    }
}

impl Balance {
    /// A life of a worker that is about to serve at most so many connections: its own end, and what is to be dropped when it
    /// is over, however that comes. It is handed none before its accept loop runs. One that does not `share` hands none over,
    /// and is handed none but those of lives that broke down, which are everybody's.
    pub fn join(
        self: &Arc<Balance>,
        heartbeat: Arc<Heartbeat>,
        connections_max: usize,
        shares: bool,
        now_ns: u64,
    ) -> (Seat, Leaves) {
        let now = epoch(now_ns);
        let mut places = lock(&self.places);
        // As many as the others: what it did not have lately is not made up for.
        let sum: usize = places.iter().map(|place| place.load(now).lately).sum();
        let mean = sum.checked_div(places.len()).unwrap_or(0);
        let place = Arc::new(Place {
            number: self.lives.fetch_add(1, Ordering::Relaxed),
            figures: Figures {
                open: AtomicUsize::new(0),
                lately: AtomicU64::new(packed(u32::try_from(mean).unwrap_or(u32::MAX), now)),
            },
            heartbeat,
            max: connections_max,
            taking: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            late: AtomicU64::new(0),
            out: Arc::default(),
            queue: Mutex::default(),
        });
        places.push(Arc::clone(&place));
        self.version.fetch_add(1, Ordering::Release);
        let seat = Seat {
            balance: Arc::clone(self),
            place: Arc::clone(&place),
            shares,
            peers: RefCell::default(),
            seen: Cell::new(u64::MAX),
            first: Cell::new(0),
            waker: RefCell::default(),
        };
        let balance = Arc::clone(self);
        (seat, Leaves { balance, place })
    }

    /// What nobody has, for whoever has room; at most so many.
    fn take_left(&self, room: usize) -> Vec<Handed> {
        if self.left_count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut left = lock(&self.left);
        let from = left.len().saturating_sub(room);
        let taken = left.split_off(from);
        self.left_count.store(left.len(), Ordering::Release);
        taken
    }

    fn leave_to_all(&self, handed: Vec<Handed>) {
        if handed.is_empty() {
            return;
        }
        {
            let mut left = lock(&self.left);
            left.extend(handed);
            self.left_count.store(left.len(), Ordering::Release);
        }
        for place in lock(&self.places).iter() {
            if let Some(waker) = &lock(&place.queue).waker {
                waker.wake_by_ref();
            }
        }
    }
}

/// Ends a life's place when it is dropped: after a breakdown, too, which is why it is held outside the runtime.
pub struct Leaves {
    balance: Arc<Balance>,
    place: Arc<Place>,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        let others: Vec<Arc<Place>> = {
            let mut places = lock(&self.balance.places);
            places.retain(|place| place.number != self.place.number);
            places.clone()
        };
        self.balance.version.fetch_add(1, Ordering::Release);
        let mut left = self.place.close();
        for other in others {
            let own = |handed: &Handed| handed.from == self.place.number;
            left.extend(other.extract(&mut lock(&other.queue), own));
        }
        self.balance.leave_to_all(left);
    }
}

/// A worker's own end of its place.
pub struct Seat {
    balance: Arc<Balance>,
    place: Arc<Place>,
    /// Fresh connections are shared with the others.
    shares: bool,
    peers: RefCell<Vec<Arc<Place>>>,
    /// The version of the list that those are of.
    seen: Cell<u64>,
    /// Which of them is looked at first.
    first: Cell<usize>,
    /// What the queue has been told to wake.
    waker: RefCell<Option<Waker>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_halve_with_each_epoch_and_not_for_a_clock_that_is_behind() {
        let at_7 = packed(100, 7);
        assert_eq!(
            [7, 8, 9, 14, 39, 1000].map(|now| decayed(at_7, now)),
            [100, 50, 25, 0, 0, 0]
        );
        assert_eq!(decayed(at_7, 6), 100);
        assert_eq!(decayed(packed(u32::MAX, 0), 31), 1);
        // The clock's own end, some 584 years on.
        assert_eq!(decayed(packed(8, u32::MAX), 0), 4);
        assert_eq!((epoch(0), epoch(limits::EPOCH_NS), epoch(u64::MAX)), (0, 1, u32::MAX));
    }
}
