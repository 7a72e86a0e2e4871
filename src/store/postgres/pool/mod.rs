//! The connections of one worker.
//!
//! Unlike most pools this one lends a connection to many calls at once: PostgreSQL answers in the order of the
//! questions, so the calls of a loaded worker go behind each other on one connection without waiting for a round trip
//! each, and a second one is opened only where more than `DEPTH_GROW` calls are in flight on each. (The kept pools,
//! deadpool and bb8, lend a connection to one call at a time, and want `Send` connections and tokio's timer.)
//!
//! While no connection is open, one task tries to open one, with pauses that grow; calls wait for it for a moment after
//! the last connection broke (a restart, a failover), and are told at once after that. A connection on which a call waits
//! for long gets no new ones, and is ended where the server does not know of its question ([`doubt`]).

mod dial;
mod doubt;
mod lease;
mod open;
mod pace;
#[cfg(test)]
mod tests;
mod trouble;

pub(super) use lease::{Connection, Kind};

use super::Shared;
use super::fault::{Fault, Remedy};
use super::observe::{Observer, PoolFigures};
use crate::backend::backoff::Backoff;
use crate::limits::postgres as limits;
use crate::runtime::context;
use crate::runtime::time::{sleep, timeout};
use crate::store::StoreError;
use crate::telemetry::metrics::Closed;
use lease::{Counted, Lease};
use pace::Pace;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use trouble::Trouble;

pub(super) struct Pool {
    pub(super) shared: Arc<Shared>,
    connections: RefCell<Vec<Rc<Connection>>>,
    dialing: Cell<bool>,
    backoff: RefCell<Backoff>,
    /// Set while no connection can be opened.
    trouble: RefCell<Option<Trouble>>,
    /// Another connection is not opened before this time, because the last attempt failed.
    grow_ns: Cell<u64>,
    /// Since when there is no connection that answers.
    down_ns: Cell<Option<u64>>,
    /// Connections in a row that were the last and broke after a moment.
    flaps: Cell<u32>,
    /// When connections were last given up because the server takes no writes.
    left_ns: Cell<Option<u64>>,
    pub(super) pace: Pace,
    changed: Notify,
    waiting: Cell<usize>,
    closed: Cell<bool>,
    pub(super) observer: Observer,
    /// The pause after the last failed attempt to connect.
    pause: Cell<Duration>,
    me: Weak<Pool>,
}

impl Pool {
    /// With no connection yet; the first is opened in the background.
    pub(super) fn new(shared: Arc<Shared>) -> Rc<Pool> {
        let ms = Duration::from_millis;
        let pool = Rc::new_cyclic(|me| Pool {
            shared,
            connections: RefCell::default(),
            dialing: Cell::new(false),
            backoff: RefCell::new(Backoff::new(ms(limits::BACKOFF_FIRST_MS), ms(limits::BACKOFF_MAX_MS))),
            trouble: RefCell::default(),
            grow_ns: Cell::new(0),
            down_ns: Cell::new(Some(context::now_ns())),
            flaps: Cell::new(0),
            left_ns: Cell::new(None),
            pace: Pace::default(),
            changed: Notify::new(),
            waiting: Cell::new(0),
            closed: Cell::new(false),
            observer: Observer::default(),
            pause: Cell::new(Duration::ZERO),
            me: Weak::clone(me),
        });
        pool.dial(Duration::ZERO);
        pool
    }

    /// Why no connection can be had, if none can.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().as_ref().map(|trouble| trouble.reason.clone())
    }

    /// The connections now.
    pub(super) fn figures(&self) -> PoolFigures {
        let connections = self.connections.borrow();
        let count = |so: fn(&Connection) -> bool| connections.iter().filter(|one| so(one)).count();
        let busy = count(|one| one.holders.get() > 0);
        let attempts = self.backoff.borrow().attempts();
        PoolFigures {
            open: connections.len(),
            busy,
            idle: connections.len() - busy,
            waiting: self.waiting.get(),
            pooled: count(|one| one.link.backend.is_none()),
            reconnect_attempts: attempts,
            reconnect_pause_ms: match attempts {
                0 => 0,
                _ => u64::try_from(self.pause.get().as_millis()).unwrap_or(u64::MAX),
            },
        }
    }

    fn tell_levels(&self) {
        self.observer.levels(self.figures());
    }

    /// Calls in flight and waiting.
    pub(super) fn in_flight(&self) -> usize {
        let held: u32 = self.connections.borrow().iter().map(|one| one.holders.get()).sum();
        usize::try_from(held)
            .unwrap_or(usize::MAX)
            .saturating_add(self.waiting.get())
    }

    /// Runs one statement on a connection: again on another where the first broke, or where the server asks for it. So
    /// the statement must be one that may be run twice.
    pub(super) async fn run<T>(
        self: &Rc<Self>,
        kind: Kind,
        statement: impl AsyncFn(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let end_ns = ns_after(Duration::from_millis(crate::limits::story::STORE_MS_MAX));
        let mut attempt = 1;
        loop {
            let lease = match self.acquire(kind).await {
                Ok(lease) => lease,
                Err(error) => {
                    self.observer.not_had(&error);
                    return Err(Fault::told(error));
                }
            };
            let left = Duration::from_nanos(end_ns.saturating_sub(context::now_ns()));
            let most = left.min(Duration::from_millis(limits::STATEMENT_MS));
            let begun_ns = context::now_ns();
            let outcome = self
                .watched(&lease.connection, most, statement(&lease.connection))
                .await;
            self.pace.note(context::now_ns().saturating_sub(begun_ns));
            let fault = match outcome {
                Ok(Ok(value)) => {
                    lease.answered();
                    return Ok(value);
                }
                Ok(Err(fault)) => {
                    lease.answered();
                    fault
                }
                Err(_) => {
                    // It may be that the server hangs, or the network: no new call shall find out on this connection.
                    lease.connection.why.set(Closed::Timeout);
                    self.retire(&lease.connection);
                    let fault = Fault::told(StoreError::Timeout);
                    self.observer.failed(&fault);
                    return Err(fault);
                }
            };
            self.observer.failed(&fault);
            match fault.remedy {
                Remedy::Tell => return Err(fault),
                Remedy::Reconnect => {
                    lease.connection.why.set(Closed::Fault);
                    self.retire(&lease.connection);
                }
                Remedy::Cut => {
                    lease.connection.why.set(Closed::Fault);
                    lease.connection.link.cut();
                }
                Remedy::LeaveServer if !self.leave(&lease.connection) => return Err(fault),
                Remedy::LeaveServer => {}
                Remedy::Repeat => {}
            }
            if attempt == limits::ATTEMPTS_MAX || context::now_ns() >= end_ns {
                return Err(fault);
            }
            attempt += 1;
            drop(lease);
            if fault.remedy == Remedy::Repeat {
                let ms = context::random(|rng| rng.u64(1..=20));
                sleep(Duration::from_millis(ms)).await;
            }
        }
    }

    /// A connection with room, within the time that a call may wait for one.
    async fn acquire(self: &Rc<Self>, kind: Kind) -> Result<Lease, StoreError> {
        let end_ns = ns_after(self.shared.pool.wait);
        loop {
            if self.closed.get() {
                return Err(StoreError::Closed);
            }
            let connection = match self.choose(kind) {
                Some(found) => found,
                None => {
                    self.dial(Duration::ZERO);
                    self.wait(end_ns).await?;
                    continue;
                }
            };
            if connection.load() >= limits::DEPTH_MAX {
                self.wait(end_ns).await?;
                continue;
            }
            let lease = self.lease(connection, kind);
            if self.lives(&lease).await {
                return Ok(lease);
            }
            lease.connection.why.set(Closed::Ping);
            self.retire(&lease.connection);
        }
    }

    fn lease(self: &Rc<Self>, connection: Rc<Connection>, kind: Kind) -> Lease {
        connection.holders.set(connection.holders.get().saturating_add(1));
        if kind == Kind::Write {
            connection.writes.set(connection.writes.get().saturating_add(1));
        }
        let number = connection.begun.get().saturating_add(1);
        connection.begun.set(number);
        self.tell_levels();
        Lease {
            pool: Rc::clone(self),
            connection,
            kind,
            number,
        }
    }

    /// Asks a connection that was idle for long whether it is still there (`pre_ping`): a firewall may have forgotten it
    /// without a word.
    async fn lives(&self, lease: &Lease) -> bool {
        let connection = &lease.connection;
        let idle_ns = context::now_ns().saturating_sub(connection.used_ns.get());
        if !self.shared.pool.pre_ping || idle_ns < limits::PRE_PING_IDLE_MS * 1_000_000 || connection.holders.get() > 1
        {
            return true;
        }
        let Ok(client) = connection.client() else { return false };
        let most = Duration::from_millis(limits::PRE_PING_MS);
        matches!(timeout(most, client.check_connection()).await, Ok(Ok(())))
    }

    /// The one with the least in flight; of equals the oldest, so that the younger ones get idle and close. Batches of
    /// puts go behind each other where there is room, so that the flushes they wait for hold up the reads of one
    /// connection and not of all. Where even the least is loaded, one more is opened.
    fn choose(&self, kind: Kind) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let open = || connections.iter().filter(|one| one.is_usable());
        let least = Rc::clone(open().min_by_key(|one| one.load())?);
        let writes = open().find(|one| kind == Kind::Write && one.writes.get() > 0 && one.load() < limits::DEPTH_MAX);
        let chosen = writes.map_or_else(|| Rc::clone(&least), Rc::clone);
        drop(connections);
        if least.load() >= limits::DEPTH_GROW {
            self.grow();
        }
        Some(chosen)
    }

    /// Waits for a change, or says why there is no point in it.
    async fn wait(&self, end_ns: u64) -> Result<(), StoreError> {
        let trouble = self.trouble.borrow().clone().map(|trouble| trouble.error());
        let now = context::now_ns();
        let down_for_ns = now.saturating_sub(self.down_ns.get().unwrap_or(now));
        if let Some(error) = &trouble
            && down_for_ns > limits::GRACE_MS * 1_000_000
        {
            return Err(error.clone());
        }
        if self.waiting.get() >= limits::POOL_WAITERS_MAX {
            return Err(StoreError::Overloaded);
        }
        let left = Duration::from_nanos(end_ns.saturating_sub(context::now_ns()));
        let begun_ns = context::now_ns();
        let counted = Counted::new(&self.waiting);
        self.tell_levels();
        let outcome = timeout(left, self.changed.notified()).await;
        drop(counted);
        self.tell_levels();
        self.observer.waited_since(begun_ns);
        outcome.map_err(|_| trouble.unwrap_or(StoreError::Timeout))
    }

    fn set_trouble(&self, trouble: Trouble) {
        let before = self.trouble.replace(Some(trouble.clone()));
        if before.is_none_or(|before| before.reason != trouble.reason) {
            tracing::warn!(reason = trouble.reason, "PostgreSQL does not serve; trying on");
        }
    }

    /// A connection ended that was not told to.
    fn ended(&self, connection: &Rc<Connection>) {
        if self.remove(connection) {
            let reason = connection.link.end.reason();
            tracing::info!(server = %connection.link.target, reason, "a connection to PostgreSQL ended");
            self.lost(Some(connection));
        }
    }

    /// Takes a connection out: no new call gets it, those that hold it may finish.
    fn retire(&self, connection: &Rc<Connection>) {
        if self.remove(connection) {
            self.lost(Some(connection));
        }
    }

    /// Takes out all connections to a server, unless there is no other and that was done a moment ago: then false.
    fn leave(&self, connection: &Rc<Connection>) -> bool {
        let now = context::now_ns();
        let lately = |ns| now.saturating_sub(ns) < limits::READONLY_REDIAL_MS * 1_000_000;
        if self.shared.settings.hosts.len() < 2 && self.left_ns.get().is_some_and(lately) {
            return false;
        }
        self.left_ns.set(Some(now));
        let target = &connection.link.target;
        let left: Vec<Rc<Connection>> = {
            let connections = self.connections.borrow();
            connections
                .iter()
                .filter(|one| one.link.target == *target)
                .map(Rc::clone)
                .collect()
        };
        left.iter().for_each(|one| {
            one.why.set(Closed::ReadOnly);
            self.remove(one);
        });
        self.lost(None);
        true
    }

    fn remove(&self, connection: &Rc<Connection>) -> bool {
        let mut connections = self.connections.borrow_mut();
        let before = connections.len();
        connections.retain(|one| !Rc::ptr_eq(one, connection));
        let removed = connections.len() < before;
        drop(connections);
        if removed {
            self.observer.closed(connection.why.get());
            self.tell_levels();
            self.shared.figures.connections.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// Where that was the last connection that answers, opens another without being asked: calls are likely to follow.
    /// At once where it had lived (and all workers and pods that lost theirs with it, spread over a moment); after a
    /// pause that grows where the server breaks what it takes.
    fn lost(&self, connection: Option<&Rc<Connection>>) {
        let now = context::now_ns();
        if self.is_down() && !self.closed.get() {
            if self.down_ns.get().is_none() {
                self.down_ns.set(Some(now));
            }
            if let Some(connection) = connection {
                let lived_ns = now.saturating_sub(connection.opened_ns);
                let is_flap = lived_ns < limits::STABLE_MS * 1_000_000;
                self.flaps
                    .set(if is_flap { self.flaps.get().saturating_add(1) } else { 0 });
            }
            let most = match self.flaps.get() {
                0 => limits::SPREAD_MS,
                flaps => (limits::SPREAD_MS << flaps.min(16)).min(limits::FLAP_MS_MAX),
            };
            self.dial(Duration::from_millis(context::random(|rng| rng.u64(0..=most))));
        }
        self.changed.notify_waiters();
    }

    fn given_back(&self, connection: &Rc<Connection>) {
        let open = self.connections.borrow().len();
        if open > self.shared.pool.size && connection.load() == 0 {
            connection.why.set(Closed::Overflow);
            self.remove(connection);
        }
        self.tell_levels();
        if self.waiting.get() > 0 {
            self.changed.notify_one();
        }
    }

    /// Closes what is idle, old, or clogged by a call that nobody waits for any more. Called with each health check.
    pub(super) fn tidy(&self) {
        let now = context::now_ns();
        let idle = |one: &Connection| now.saturating_sub(one.used_ns.get()) > limits::IDLE_MS * 1_000_000;
        let old = |one: &Connection| now > one.expires_ns;
        let clogged = |one: &Connection| {
            one.load() > 0 && now.saturating_sub(one.used_ns.get()) > 2 * limits::STATEMENT_MS * 1_000_000
        };
        let done: Vec<Rc<Connection>> = {
            let connections = self.connections.borrow();
            let unheld = connections.iter().filter(|one| one.holders.get() == 0);
            unheld
                .filter(|one| idle(one) || old(one) || clogged(one))
                .map(Rc::clone)
                .collect()
        };
        for connection in &done {
            connection.why.set(match () {
                () if old(connection) => Closed::Age,
                () if idle(connection) => Closed::Idle,
                () => Closed::Timeout,
            });
            self.remove(connection);
        }
        // One that is in use without a pause gets old, too: it finishes what it has, and gets nothing new.
        let next = self.connections.borrow().iter().find(|one| old(one)).map(Rc::clone);
        if let Some(connection) = next {
            connection.why.set(Closed::Age);
            self.retire(&connection);
        }
    }

    /// Lets what is in flight finish for a bounded time, and closes.
    pub(super) async fn close(&self) {
        self.closed.set(true);
        self.changed.notify_waiters();
        let end_ns = ns_after(Duration::from_millis(limits::GOODBYE_MS));
        while self.in_flight() > 0 && context::now_ns() < end_ns {
            sleep(Duration::from_millis(5)).await;
        }
        let links: Vec<Rc<Connection>> = self.connections.take();
        let ends: Vec<_> = links.iter().map(|one| Rc::clone(&one.link.end)).collect();
        let open = u64::try_from(links.len()).unwrap_or(u64::MAX);
        self.shared.figures.connections.fetch_sub(open, Ordering::Relaxed);
        links.iter().for_each(|_| self.observer.closed(Closed::Shutdown));
        self.tell_levels();
        drop(links);
        while ends.iter().any(|end| !end.is()) && context::now_ns() < end_ns {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let left = u64::try_from(self.connections.borrow().len()).unwrap_or(0);
        self.shared.figures.connections.fetch_sub(left, Ordering::Relaxed);
    }
}

fn ns_after(duration: Duration) -> u64 {
    context::now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
