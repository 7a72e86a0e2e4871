//! A connection of the pool, and a call's hold on it.

use super::Pool;
use crate::limits::postgres as limits;
use crate::runtime::context;
use crate::store::postgres::connect::Link;
use crate::store::postgres::fault::Fault;
use crate::store::postgres::statements::Statements;
use crate::telemetry::metrics::Closed;
use std::cell::Cell;
use std::rc::Rc;

/// A connection that calls share.
pub(in crate::store::postgres) struct Connection {
    pub(super) link: Link,
    pub(in crate::store::postgres) statements: Statements,
    /// Calls begun, and the latest that has been answered: answers come in the order of the questions, so what lies
    /// between is in flight, whether or not somebody still waits for it.
    pub(super) begun: Cell<u64>,
    pub(super) answered: Cell<u64>,
    /// Calls that hold it now, and batches of puts among them.
    pub(super) holders: Cell<u32>,
    pub(super) writes: Cell<u32>,
    pub(super) used_ns: Cell<u64>,
    pub(super) answered_ns: Cell<u64>,
    /// A call has waited for long: no new one gets it until it is known why (`doubt`).
    pub(super) doubted: Cell<bool>,
    pub(super) opened_ns: u64,
    pub(super) expires_ns: u64,
    /// Why it is given up, where somebody decided it.
    pub(super) why: Cell<Closed>,
}

impl Connection {
    /// What statements are sent through.
    pub(in crate::store::postgres) fn client(&self) -> Result<&tokio_postgres::Client, Fault> {
        self.link
            .client()
            .ok_or_else(|| Fault::broken("the connection was closed"))
    }

    /// New calls may go on it.
    pub(super) fn is_usable(&self) -> bool {
        !self.link.end.is() && !self.doubted.get()
    }

    /// For how long nothing was received on it.
    pub(super) fn unheard_ns(&self) -> u64 {
        context::now_ns().saturating_sub(self.link.heard.get())
    }

    pub(super) fn load(&self) -> u32 {
        let in_flight = self.begun.get().saturating_sub(self.answered.get());
        let reads = u32::try_from(in_flight).unwrap_or(u32::MAX).max(self.holders.get());
        reads.saturating_add(self.writes.get().saturating_mul(limits::WRITE_WEIGHT - 1))
    }
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::postgres) enum Kind {
    Read,
    Write,
}

/// A connection held by a call.
pub(super) struct Lease {
    pub(super) pool: Rc<Pool>,
    pub(super) connection: Rc<Connection>,
    pub(super) kind: Kind,
    pub(super) number: u64,
}

impl Lease {
    pub(super) fn answered(&self) {
        let answered = &self.connection.answered;
        answered.set(answered.get().max(self.number));
        self.connection.answered_ns.set(context::now_ns());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.holders.set(connection.holders.get().saturating_sub(1));
        if self.kind == Kind::Write {
            connection.writes.set(connection.writes.get().saturating_sub(1));
        }
        connection.used_ns.set(context::now_ns());
        self.pool.given_back(connection);
    }
}

/// One more in a counter, as long as this lives.
pub(super) struct Counted<'c>(&'c Cell<usize>);

impl<'c> Counted<'c> {
    pub(super) fn new(counter: &'c Cell<usize>) -> Counted<'c> {
        counter.set(counter.get().saturating_add(1));
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
