//! The worker's own state, reached through a thread-local: streams and timers need no back pointer.

use super::driver::ops::OpTable;
use super::driver::{CloseQueue, Driver, Event, Handle, Park};
use super::executor::Tasks;
use super::heartbeat::Heartbeat;
use super::wheel::Wheel;
use crate::limits;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
}

/// The driver with its operations.
pub(super) struct Io {
    pub(super) driver: Box<dyn Driver>,
    pub(super) ops: OpTable,
    events: Vec<Event>,
}

/// One worker's runtime state.
pub(super) struct Context {
    pub(super) io: RefCell<Io>,
    pub(super) timers: RefCell<Wheel>,
    pub(super) tasks: Tasks,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) rng: RefCell<fastrand::Rng>,
    now_ns: Cell<u64>,
    /// When the driver last returned; from then on the turn's work is done.
    turned_ns: Cell<u64>,
    /// How long the work of the turn before took.
    turn_ns: Cell<u64>,
    /// How long the longest one took since it was asked for.
    longest_turn_ns: Cell<u64>,
    closing: CloseQueue,
    woken: RefCell<Vec<Waker>>,
}

impl Context {
    pub(super) fn new(driver: Box<dyn Driver>, seed: u64) -> Rc<Context> {
        let closing = CloseQueue::default();
        let ops = OpTable::new(driver.buffers(), Rc::clone(&closing));
        let now_ns = driver.now_ns();
        let tasks = Tasks::new(driver.unparker());
        let heartbeat = Arc::new(Heartbeat::new(driver.unparker()));
        Rc::new(Context {
            io: RefCell::new(Io {
                driver,
                ops,
                events: Vec::new(),
            }),
            timers: RefCell::new(Wheel::new(now_ns / 1_000_000)),
            tasks,
            heartbeat,
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            now_ns: Cell::new(now_ns),
            turned_ns: Cell::new(now_ns),
            turn_ns: Cell::new(0),
            longest_turn_ns: Cell::new(0),
            closing,
            woken: RefCell::new(Vec::new()),
        })
    }

    /// The clock as of the last look.
    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    /// Looks at the clock.
    pub(super) fn tick(&self) -> u64 {
        let now = self.io.borrow().driver.now_ns();
        self.now_ns.set(now);
        now
    }

    /// Submits, waits, books the events and the timers, and wakes; wakers run with no borrow held.
    pub(super) fn turn(&self, ready: bool) -> io::Result<()> {
        let park = if ready {
            Park::Poll
        } else {
            match self.timers.borrow().next_due() {
                None => Park::Forever,
                Some(due_ms) => match (due_ms * 1_000_000).saturating_sub(self.now_ns()) {
                    0 => Park::Poll,
                    ns => Park::For(Duration::from_nanos(ns)),
                },
            }
        };
        let mut woken = self.woken.take();
        let took = self.now_ns().saturating_sub(self.turned_ns.get());
        self.turn_ns.set(took);
        if took > self.longest_turn_ns.get() {
            self.longest_turn_ns.set(took);
        }
        {
            let io = &mut *self.io.borrow_mut();
            self.close_pending(io);
            io.ops.feed(&mut *io.driver);
            self.heartbeat.park(true);
            let turned = io.driver.turn(park, &mut io.events);
            self.heartbeat.park(false);
            for event in io.events.drain(..) {
                woken.extend(io.ops.apply(&mut *io.driver, event));
            }
            turned?;
            self.now_ns.set(io.driver.now_ns());
            self.turned_ns.set(self.now_ns.get());
        }
        self.timers.borrow_mut().advance(self.now_ns() / 1_000_000, &mut woken);
        for waker in woken.drain(..) {
            waker.wake();
        }
        *self.woken.borrow_mut() = woken;
        self.tasks.collect_remote();
        Ok(())
    }

    fn close_pending(&self, io: &mut Io) {
        let mut closing = self.closing.borrow_mut();
        for fd in closing.drain(..) {
            io.driver.close(fd);
        }
    }

    /// Takes the operations back from the kernel at the end of a runtime, for a bounded time. Tasks are gone by then.
    pub(super) fn tear_down(&self) {
        let deadline = self.tick().saturating_add(limits::runtime::TEARDOWN_NS_MAX);
        let empty = {
            let io = &mut *self.io.borrow_mut();
            io.ops.abandon_all(&mut *io.driver);
            io.ops.is_empty()
        };
        let mut waiting = !empty;
        while waiting && self.tick() < deadline {
            let io = &mut *self.io.borrow_mut();
            self.close_pending(io);
            if io
                .driver
                .turn(Park::For(Duration::from_millis(10)), &mut io.events)
                .is_err()
            {
                break;
            }
            for event in io.events.drain(..) {
                io.ops.apply(&mut *io.driver, event);
            }
            waiting = !io.ops.is_empty();
        }
        let io = &mut *self.io.borrow_mut();
        if waiting {
            // The kernel may still write to their memory, so it is never freed (see UringDriver's drop for the
            // buffers).
            let pool = io.driver.buffers();
            let ops = std::mem::replace(&mut io.ops, OpTable::new(pool, CloseQueue::default()));
            // Their handles go with them, and would never be closed.
            io.driver.give_up(ops.descriptors());
            std::mem::forget(ops);
        }
        self.close_pending(io);
        let _ = io.driver.turn(Park::Poll, &mut io.events);
    }

    pub(super) fn handle(&self, fd: std::os::fd::RawFd) -> Handle {
        super::driver::HandleInner::new(fd, Rc::clone(&self.closing))
    }
}

/// Makes `context` the thread's own until the guard drops.
pub(super) fn enter(context: Rc<Context>) -> Entered {
    Entered {
        previous: CURRENT.with(|current| current.replace(Some(context))),
    }
}

/// Restores what was before; see [`enter`].
pub(super) struct Entered {
    previous: Option<Rc<Context>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let previous = self.previous.take();
        // During thread exit the slot may be gone; then there is nothing to restore.
        let _ = CURRENT.try_with(|current| current.replace(previous));
    }
}

/// Runs `f` with the thread's context, if this thread is a worker.
pub(super) fn try_with<R>(f: impl FnOnce(&Rc<Context>) -> R) -> Option<R> {
    CURRENT
        .try_with(|current| current.borrow().as_ref().map(f))
        .ok()
        .flatten()
}

/// Runs `f` with the thread's context.
///
/// # Panics
/// On a thread that is no worker: a mistake in this program, never of its input.
#[expect(clippy::expect_used, reason = "a call outside a runtime is a programming error")]
pub(super) fn with<R>(f: impl FnOnce(&Rc<Context>) -> R) -> R {
    try_with(f).expect("this call needs a runtime on its thread: call it from inside Runtime::block_on")
}

/// Whether this thread is a worker inside its runtime: a drop may come after the end of it.
pub fn is_here() -> bool {
    try_with(|_| ()).is_some()
}

/// Nanoseconds of the worker's clock, as of its last look: at most one task poll old.
pub fn now_ns() -> u64 {
    with(|context| context.now_ns())
}

/// Nanoseconds of the worker's clock, looked up now.
pub fn precise_now_ns() -> u64 {
    with(|context| context.tick())
}

/// Nanoseconds that a turn of the loop takes: the last one, or the present one if it has taken longer already. What comes
/// now has waited about so long in its socket.
pub fn turn_ns() -> u64 {
    with(|context| {
        let present = context.now_ns().saturating_sub(context.turned_ns.get());
        present.max(context.turn_ns.get())
    })
}

/// Nanoseconds of the longest turn since this was last asked.
pub fn take_longest_turn_ns() -> u64 {
    with(|context| context.longest_turn_ns.take())
}

/// Nanoseconds since the Unix epoch by the driver's clock.
pub fn unix_ns() -> u64 {
    with(|context| context.io.borrow().driver.unix_ns())
}

/// Runs `f` with the worker's random generator, seeded once a worker: all randomness comes from here (invariant 6).
pub fn random<R>(f: impl FnOnce(&mut fastrand::Rng) -> R) -> R {
    with(|context| f(&mut context.rng.borrow_mut()))
}

/// The name of the driver in use: "uring", "epoll" or "sim".
pub fn driver_name() -> &'static str {
    with(|context| context.io.borrow().driver.name())
}

/// Operations in flight or not yet taken, and timers: what a leak test looks at.
pub fn in_flight() -> (usize, usize) {
    with(|context| (context.io.borrow().ops.len(), context.timers.borrow().len()))
}
