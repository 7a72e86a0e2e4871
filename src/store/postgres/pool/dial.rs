//! How a pool gets a connection more.

use super::trouble::Trouble;
use super::{Connection, Pool, ns_after, open};
use crate::runtime::context;
use crate::runtime::executor::spawn_detached;
use crate::runtime::time::sleep;
use crate::store::postgres::connect::Link;
use crate::store::postgres::statements::Statements;
use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Pool {
    pub(super) fn grow(&self) {
        if context::now_ns() >= self.grow_ns.get() {
            self.dial(Duration::ZERO);
        }
    }

    /// No call can be served now.
    pub(super) fn is_down(&self) -> bool {
        !self.connections.borrow().iter().any(|one| one.is_usable())
    }

    /// Opens one more connection in the background, unless that is under way or there are as many as may be. Where it
    /// fails and there is none that answers, tries on until there is one.
    pub(super) fn dial(&self, pause: Duration) {
        let open = self.connections.borrow().len();
        let is_full = open >= self.shared.pool.size.saturating_add(self.shared.pool.overflow);
        if self.closed.get() || is_full || self.dialing.replace(true) {
            return;
        }
        let (me, shared) = (Weak::clone(&self.me), Arc::clone(&self.shared));
        spawn_detached("postgres-dial", async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            loop {
                let outcome = open::open(&shared).await;
                let Some(pool) = me.upgrade() else { return };
                let Some(pause) = pool.dialled(outcome) else {
                    pool.dialing.set(false);
                    return;
                };
                drop(pool);
                sleep(pause).await;
            }
        });
    }

    /// Takes the outcome of an attempt in; the pause before the next one, where there must be one.
    fn dialled(self: &Rc<Self>, outcome: Result<Link, String>) -> Option<Duration> {
        let again = match outcome {
            Ok(_) if self.closed.get() => None,
            Ok(link) => {
                self.add(link);
                None
            }
            Err(reason) => {
                let pause = self.backoff.borrow_mut().next_pause();
                self.pause.set(pause);
                self.observer.connect_failed(self.backoff.borrow().attempts(), pause);
                let retry_ns = ns_after(pause);
                self.grow_ns.set(retry_ns);
                if self.is_down() {
                    self.set_trouble(Trouble { reason, retry_ns });
                    Some(pause).filter(|_| !self.closed.get())
                } else {
                    tracing::warn!(reason, "one more connection to PostgreSQL could not be opened");
                    None
                }
            }
        };
        self.changed.notify_waiters();
        again
    }

    fn add(self: &Rc<Self>, link: Link) {
        let now = context::now_ns();
        let age = self.shared.pool.recycle;
        // A tenth more or less, so that what was opened together is not closed together.
        let jitter = context::random(|rng| rng.f64()) * 0.2 + 0.9;
        let connection = Rc::new(Connection {
            statements: Statements::new(
                self.shared.settings.prepares(link.backend.is_some()),
                self.observer.clone(),
            ),
            why: Cell::default(),
            begun: Cell::new(0),
            answered: Cell::new(0),
            holders: Cell::new(0),
            writes: Cell::new(0),
            used_ns: Cell::new(now),
            answered_ns: Cell::new(now),
            doubted: Cell::new(false),
            opened_ns: now,
            expires_ns: ns_after(age.mul_f64(jitter)),
            link,
        });
        self.backoff.borrow_mut().reset();
        self.connections.borrow_mut().push(Rc::clone(&connection));
        self.shared.figures.connections.fetch_add(1, Ordering::Relaxed);
        self.observer.opened();
        self.tell_levels();
        self.serves(&connection);
        let (me, ended) = (Weak::clone(&self.me), Rc::downgrade(&connection));
        connection.link.end.then(move || {
            if let (Some(pool), Some(connection)) = (me.upgrade(), ended.upgrade()) {
                pool.ended(&connection);
            }
        });
    }

    /// A connection answers.
    pub(super) fn serves(&self, connection: &Connection) {
        self.down_ns.set(None);
        if self.trouble.borrow_mut().take().is_some() {
            tracing::info!(server = %connection.link.target, "PostgreSQL is back");
        }
    }
}
