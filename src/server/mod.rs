//! Joins `runtime` and `http`: accepts connections, reads requests, sends answers, drains.
//!
//! Called by `supervisor`, which owns the process and its listening sockets; calls the application through [`App`],
//! and knows nothing of routes or stories. Deliberately absent: TLS, the PROXY protocol (later), and any state
//! shared between workers.

mod accept;
mod app;
mod begin;
mod connection;
mod guests;
mod http2;
#[cfg(test)]
mod tests;
mod transport;

pub use accept::{Port, run, run_to_end};
pub use app::{App, Events, Later, Outbox, Outcome, Reply, ReplyBody, Request};
pub use guests::Peer;

use crate::http::DateCache;
use crate::runtime::{context, executor};
use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What an operator may set; see `config`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An idle connection is closed after this.
    pub keep_alive: Duration,
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// For the peer to take an answer.
    pub write_timeout: Duration,
    /// Connections of this worker; more wait in the kernel's accept queue.
    pub connections_max: usize,
}

/// One worker's server.
pub struct Server<A> {
    app: A,
    settings: Settings,
    open: Cell<usize>,
    draining: Cell<bool>,
    ending_idle: Cell<bool>,
    clock: RefCell<WallClock>,
    /// The accept loop, waiting for room; and whoever waits for the last connection to go.
    room: RefCell<Option<Waker>>,
    empty: RefCell<Option<Waker>>,
}

impl<A: App> Server<A> {
    /// A server of `app` on this worker. To be called inside the runtime, whose clock it reads.
    pub fn new(app: A, settings: Settings) -> Server<A> {
        Server {
            app,
            settings,
            open: Cell::new(0),
            draining: Cell::new(false),
            ending_idle: Cell::new(false),
            clock: RefCell::new(WallClock::new()),
            room: RefCell::new(None),
            empty: RefCell::new(None),
        }
    }

    /// The application.
    pub fn app(&self) -> &A {
        &self.app
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// True once draining has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on every answer says `Connection: close`.
    pub fn begin_drain(&self) {
        self.draining.set(true);
    }

    /// From now on idle connections end, too.
    pub fn end_idle(&self) {
        self.ending_idle.set(true);
        executor::wake_all();
    }

    /// Ready once no connection is open.
    pub fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        if self.open.get() == 0 {
            return Poll::Ready(());
        }
        *self.empty.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn opened(&self) {
        self.open.set(self.open.get() + 1);
        self.app.opened();
    }

    fn closed(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.app.closed();
        let room = self.room.borrow_mut().take();
        let empty = if self.open.get() == 0 {
            self.empty.borrow_mut().take()
        } else {
            None
        };
        for waker in [room, empty].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The wall clock for dates and time stamps: looked up ten times a second, and carried on by the worker's own clock in
/// between, so that a request pays an addition.
struct WallClock {
    offset_ns: u64,
    looked_ns: u64,
    date: DateCache,
}

/// How long the offset between the clocks is trusted.
const WALL_CLOCK_NS: u64 = 100_000_000;

impl WallClock {
    fn new() -> WallClock {
        let (now, unix) = (context::now_ns(), context::unix_ns());
        WallClock {
            offset_ns: unix.wrapping_sub(now),
            looked_ns: now,
            date: DateCache::new(unix / 1_000_000_000),
        }
    }

    /// Nanoseconds since the Unix epoch, and the Date field, as of the worker's last look at its clock.
    fn read(&mut self) -> (u64, &[u8; 29]) {
        let now = context::now_ns();
        if now.wrapping_sub(self.looked_ns) >= WALL_CLOCK_NS {
            self.offset_ns = context::unix_ns().wrapping_sub(now);
            self.looked_ns = now;
        }
        let unix_ns = self.offset_ns.wrapping_add(now);
        (unix_ns, self.date.at(unix_ns / 1_000_000_000))
    }
}
