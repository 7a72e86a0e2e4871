//! Connections that have gone silent.
//!
//! A call that waits for long may wait for a server that works (a lock, a slow disk), or on a connection that leads
//! nowhere: a firewall forgot it, its server lost power, bytes were lost on the way. TCP finds the latter out after minutes
//! at worst. So a connection that has not answered for a second is *doubted*: new calls go on another one, where the
//! server is asked what the process behind the first does (`pg_stat_activity`). Where it waits for a question, or is not
//! there, the connection is dead: it is ended, and its calls are run elsewhere within their time. Where it works, they wait
//! on. Where no other connection can be had, the server is away, and new calls are told so before long.

use super::lease::{Connection, Kind};
use super::{Pool, Trouble, ns_after};
use crate::limits::postgres as limits;
use crate::runtime::context;
use crate::runtime::executor::spawn_detached;
use crate::runtime::time::{Elapsed, sleep, timeout};
use crate::telemetry::metrics::Closed;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio_postgres::SimpleQueryMessage;

const LOOK: Duration = Duration::from_millis(limits::DOUBT_LOOK_MS);
const SILENCE_NS: u64 = limits::SILENCE_MS * 1_000_000;

impl Pool {
    /// Awaits a call for at most that long; doubts its connection where it does not answer meanwhile.
    pub(super) async fn watched<T>(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        most: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut call = pin!(call);
        let end_ns = ns_after(most);
        loop {
            let left = Duration::from_nanos(end_ns.saturating_sub(context::now_ns()));
            match timeout(left.min(Duration::from_nanos(SILENCE_NS)), call.as_mut()).await {
                Ok(value) => return Ok(value),
                Err(elapsed) if context::now_ns() >= end_ns => return Err(elapsed),
                Err(_) => self.doubt(connection),
            }
        }
    }

    fn doubt(self: &Rc<Self>, connection: &Rc<Connection>) {
        let silent_ns = context::now_ns().saturating_sub(connection.answered_ns.get());
        if silent_ns < SILENCE_NS || connection.doubted.replace(true) {
            return;
        }
        self.lost(Some(connection));
        if self.witness().is_none_or(|other| other.unheard_ns() >= SILENCE_NS) {
            // The others may have died with it.
            self.dial(Duration::ZERO);
        }
        let (me, doubted) = (Rc::downgrade(self), Rc::downgrade(connection));
        spawn_detached("postgres-doubt", resolve(me, doubted, context::now_ns()));
    }

    /// The connection that was heard last.
    fn witness(&self) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let usable = connections.iter().filter(|one| one.is_usable());
        usable.min_by_key(|one| one.unheard_ns()).map(Rc::clone)
    }

    fn believe(&self, connection: &Connection) {
        connection.doubted.set(false);
        self.serves(connection);
        self.changed.notify_waiters();
    }

    /// Asks over another connection what the server does for this one; true where it does nothing.
    async fn is_dead(self: &Rc<Self>, connection: &Connection) -> Option<bool> {
        let pid = connection.link.backend?;
        let lease = self.lease(self.witness()?, Kind::Read);
        let question = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}");
        let asked = lease.connection.client().ok()?.simple_query(&question);
        let said = self.watched(&lease.connection, 2 * Duration::from_millis(limits::PRE_PING_MS), asked);
        let said = said.await.ok()?;
        lease.answered();
        let state = said.ok()?.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        // Without a row the process is gone, or the other connection leads to the server that took its place.
        Some(state.is_none_or(|state| state == "idle"))
    }

    /// Whether a connection on which nobody waits any more answers.
    async fn answers(self: &Rc<Self>, connection: &Rc<Connection>) -> bool {
        let lease = self.lease(Rc::clone(connection), Kind::Read);
        let Ok(client) = connection.client() else { return false };
        let most = Duration::from_millis(limits::PRE_PING_MS);
        let does = matches!(timeout(most, client.check_connection()).await, Ok(Ok(())));
        if does {
            lease.answered();
        }
        does
    }
}

/// Looks at a doubted connection until it answers, or is found dead, or is not in the pool any more.
async fn resolve(pool: Weak<Pool>, doubted: Weak<Connection>, since_ns: u64) {
    let mut ask_ns = 0;
    loop {
        sleep(LOOK).await;
        let (Some(pool), Some(connection)) = (pool.upgrade(), doubted.upgrade()) else {
            return;
        };
        let is_here = pool.connections.borrow().iter().any(|one| Rc::ptr_eq(one, &connection));
        if !is_here || pool.closed.get() {
            return;
        }
        let is_unheld = connection.holders.get() == 0;
        if connection.answered_ns.get() > since_ns || (is_unheld && pool.answers(&connection).await) {
            return pool.believe(&connection);
        }
        let now = context::now_ns();
        // As long as any call may take: whoever asked on it gave up before its own call's end. It would count in the
        // pool's bound, and keep the way to another host shut, for as long as its server is frozen.
        if is_unheld && now.saturating_sub(since_ns) >= limits::STATEMENT_MS * 1_000_000 {
            connection.why.set(Closed::Timeout);
            connection.link.cut();
            return;
        }
        if pool.is_down() {
            pool.lost(None);
            let reason = format!("{} does not answer", connection.link.target);
            if pool.trouble.borrow().is_none() {
                pool.set_trouble(Trouble {
                    reason,
                    retry_ns: ns_after(Duration::from_nanos(SILENCE_NS)),
                });
            }
            continue;
        }
        // While bytes come it may be that a long answer is on its way.
        let unheard_ns = connection.unheard_ns();
        let unanswered_ns = now.saturating_sub(connection.answered_ns.get());
        if now < ask_ns || (unheard_ns < SILENCE_NS && unanswered_ns < 3 * SILENCE_NS) {
            continue;
        }
        ask_ns = now.saturating_add(SILENCE_NS);
        if pool.is_dead(&connection).await == Some(true) && connection.answered_ns.get() <= since_ns {
            tracing::warn!(server = %connection.link.target, "a connection to PostgreSQL led nowhere");
            connection.link.cut();
            return;
        }
    }
}
