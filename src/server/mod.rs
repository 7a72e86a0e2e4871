//! Joins `runtime` and `http`: accepts connections, reads requests, sends answers, drains.
//!
//! Called by `supervisor`, which owns the process and its listening sockets; calls the application through [`App`],
//! and knows nothing of routes or stories. Deliberately absent: any state shared between workers but for the settings
//! of TLS and the trusted proxies, which are read only, and for `balance`, by which fresh connections change hands.

mod accept;
mod app;
mod balance;
mod begin;
mod budget;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
mod connection;
mod crowd;
mod guests;
mod http2;
mod late;
mod pace;
pub mod proxy;
mod short;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod trust;

pub use accept::{Leave, Port, run, run_to_end, stand_in};
pub use app::{App, Events, Later, Outbox, Outcome, Reply, ReplyBody, Request};
pub use balance::{Balance, Leaves, Seat};
pub use begin::Terms;
pub use guests::{Origin, Peer};
pub use trust::TrustedProxies;

use crate::http::DateCache;
use crate::limits;
use crate::runtime::{context, executor};
use budget::Budget;
use crowd::Crowd;
use late::Late;
use rustls::ServerConfig;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What an operator may set; see `config`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An idle connection is closed after this.
    pub keep_alive: Duration,
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body, at most.
    pub body_timeout: Duration,
    /// Bytes per second of a body, after a grace; 0: no floor.
    pub body_rate_min: u64,
    /// Without the peer taking a byte of an answer.
    pub write_timeout: Duration,
    /// Bytes per second of an answer that the peer takes; 0: no floor.
    pub write_rate_min: u64,
    /// Connections of this worker; more wait in the kernel's accept queue.
    pub connections_max: usize,
    /// Whose PROXY headers are taken, on ports whose terms ask for them; and who is exempt from limits per address.
    pub trusted: Arc<TrustedProxies>,
    /// Of those, from one address; more are closed at once. 0: no limit.
    pub connections_per_address: usize,
    /// On one connection; the last answer says close. 0: no limit.
    pub requests_per_connection: u32,
    /// Bytes of this worker for requests that are not whole, and as many for answers that are not taken.
    pub pending_bytes_max: usize,
}

impl Default for Settings {
    /// What holds where nothing is set in the environment.
    fn default() -> Settings {
        use limits::server as preset;
        let bytes = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Settings {
            keep_alive: Duration::from_millis(preset::KEEP_ALIVE_MS),
            head_timeout: Duration::from_millis(preset::HEAD_TIMEOUT_MS),
            body_timeout: Duration::from_millis(preset::BODY_TIMEOUT_MS),
            body_rate_min: preset::BODY_RATE_MIN,
            write_timeout: Duration::from_millis(preset::WRITE_TIMEOUT_MS),
            write_rate_min: preset::WRITE_RATE_MIN,
            connections_max: bytes(preset::CONNECTIONS_MAX),
            connections_per_address: bytes(preset::CONNECTIONS_MAX / 2),
            requests_per_connection: u32::try_from(preset::REQUESTS_PER_CONNECTION).unwrap_or(0),
            pending_bytes_max: bytes(preset::PENDING_BYTES_MAX),
            trusted: Arc::default(),
        }
    }
}

/// One worker's server.
pub struct Server<A> {
    app: A,
    settings: Settings,
    open: Cell<usize>,
    draining: Cell<bool>,
    ending_idle: Cell<bool>,
    /// Bodies that are made while they are sent come to an end.
    ending_bodies: Cell<bool>,
    /// From the begin of draining to the end of idle connections.
    drain_idle: Cell<Duration>,
    /// Nearly all places are taken.
    crowded: Cell<bool>,
    /// Memory is short; and the connections that came since.
    short: Cell<bool>,
    late: Late,
    /// Idle connections must look at their time again: they end, or they have less of it than they thought.
    hurried: Cell<bool>,
    /// How long an idle connection is kept now.
    idle_for: Cell<Duration>,
    /// An answer says close unless its request is one of so many first ones of its connection: none once draining.
    requests_before_close: Cell<u32>,
    /// From the begin of a send to the first look at it.
    look: Duration,
    /// Who holds how many connections.
    crowd: Crowd,
    /// What the two that follow have where memory is not short.
    pending_bytes_max: Cell<usize>,
    /// What requests that are not whole may hold; of all protocols.
    pending: Rc<Budget>,
    /// What answers may hold that their peers are slow to take; of all protocols.
    answers: Rc<Budget>,
    clock: RefCell<WallClock>,
    /// This worker's own hold on the settings that new TLS connections are made with.
    tls: RefCell<Option<Arc<ServerConfig>>>,
    /// This worker's place among others; none where it shares nothing with them.
    seat: OnceCell<Seat>,
    /// The accept loop, waiting for room; and whoever waits for the last connection to go.
    room: RefCell<Option<Waker>>,
    empty: RefCell<Option<Waker>>,
    /// The accept loop, and whether it is to ask the kernel anew.
    door: RefCell<Option<Waker>>,
    asking_again: Cell<bool>,
    /// To be called when it has stopped accepting.
    when_shut: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl<A: App> Server<A> {
    /// A server of `app` on this worker. To be called inside the runtime, whose clock it reads.
    pub fn new(app: A, settings: Settings) -> Server<A> {
        Server {
            app,
            open: Cell::new(0),
            draining: Cell::new(false),
            ending_idle: Cell::new(false),
            ending_bodies: Cell::new(false),
            drain_idle: Cell::new(limits::drain::IDLE),
            crowded: Cell::new(false),
            short: Cell::new(false),
            late: Late::default(),
            hurried: Cell::new(false),
            idle_for: Cell::new(settings.keep_alive),
            requests_before_close: Cell::new(match settings.requests_per_connection {
                0 => u32::MAX,
                count => count,
            }),
            look: pace::first_look_after(&settings),
            crowd: Crowd::default(),
            pending_bytes_max: Cell::new(settings.pending_bytes_max),
            pending: Budget::new(settings.pending_bytes_max),
            answers: Budget::new(settings.pending_bytes_max),
            settings,
            clock: RefCell::new(WallClock::new()),
            tls: RefCell::new(None),
            seat: OnceCell::new(),
            room: RefCell::new(None),
            empty: RefCell::new(None),
            door: RefCell::new(None),
            asking_again: Cell::new(false),
            when_shut: RefCell::new(None),
        }
    }

    /// The application.
    pub fn app(&self) -> &A {
        &self.app
    }

    /// Settings for the TLS connections that come from now on; those that are there keep theirs.
    pub fn set_tls(&self, settings: Arc<ServerConfig>) {
        *self.tls.borrow_mut() = Some(settings);
    }

    /// Fresh connections are shared with other workers from now on.
    pub fn share(&self, seat: Seat) {
        // A second one would be no place of this life.
        let _ = self.seat.set(seat);
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// True once draining has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on every answer says `Connection: close`, and GOAWAY is sent. May be called while connections are still
    /// accepted, and more than once.
    pub fn begin_drain(&self) {
        if !self.draining.replace(true) {
            self.requests_before_close.set(0);
            // HTTP/2 has a word for it that need not wait for an answer.
            executor::wake_all();
        }
    }

    /// How long idle connections are kept once draining begins. Where there is a successor they may be kept for longer:
    /// whoever asks again is answered, told to close, and comes back to the successor.
    pub fn keep_idle_for(&self, time: Duration) {
        self.drain_idle.set(time);
    }

    /// From now on idle connections end, too.
    pub fn end_idle(&self) {
        self.ending_idle.set(true);
        self.hurried.set(true);
        executor::wake_all();
    }

    /// From now on bodies that are made while they are sent are told to come to an end.
    pub fn end_bodies(&self) {
        self.ending_bodies.set(true);
        executor::wake_all();
    }

    /// Has the accept loop of [`run`] or [`run_to_end`] look into the kernel's queues: its accepts are armed anew. For when
    /// somebody else who waited for the same connections was woken in its place, and has not come for them.
    pub fn ask_again(&self) {
        if let Some(waker) = self.door.borrow_mut().take() {
            self.asking_again.set(true);
            waker.wake();
        }
    }

    /// Has this called, once, when connections are no longer accepted: what is in the kernel's queues by then is others'.
    pub fn when_shut(&self, tell: impl FnOnce() + 'static) {
        *self.when_shut.borrow_mut() = Some(Box::new(tell));
    }

    /// Ready once no connection is open.
    pub fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        if self.open.get() == 0 {
            return Poll::Ready(());
        }
        *self.empty.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// True for addresses that may hold any number of connections: proxies that are trusted, whose connections are
    /// others'.
    fn is_exempt(&self, addr: IpAddr) -> bool {
        self.settings.trusted.contains(addr)
    }

    /// Bytes held by requests that are not whole, and by answers that are not taken, beyond what each connection may
    /// hold anyway.
    pub fn pending_bytes(&self) -> usize {
        self.pending.held().saturating_add(self.answers.held())
    }

    /// Of the places, an eighth is left: who says nothing keeps his for no longer than who says something slowly. The
    /// answers do not say close: whoever asks is served, and a new handshake for each request is no help now.
    fn look_around(&self) {
        let max = self.settings.connections_max;
        let free = max.saturating_sub(self.open.get());
        let part = max / limits::connection::CROWDED_PART;
        if !self.crowded.get() && free <= part {
            self.crowded.set(true);
            self.keep_idle_as_fits();
        } else if self.crowded.get() && free > 2 * part {
            self.crowded.set(false);
            self.keep_idle_as_fits();
        }
    }

    fn opened(&self) {
        self.open.set(self.open.get() + 1);
        if let Some(seat) = self.seat.get() {
            seat.opened(self.open.get());
        }
        self.app.opened();
        self.look_around();
    }

    fn closed(&self) {
        self.app.closed();
        self.left();
    }

    /// A place is free.
    fn left(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        if let Some(seat) = self.seat.get() {
            seat.left(self.open.get());
        }
        self.look_around();
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
