//! Stories at rest: kept once, found by id, by the content of their request, or in pages, newest first.
//!
//! Called by `story::service`, through one [`Store`] handle per worker; opened and closed by the supervisor through
//! [`Opened`]. [`embedded`] keeps them in a file, [`postgres`] in a database that pods share, with [`journal`] for the
//! time in which that one is away. A put is answered when the story would survive a power cut, and the same key always gives
//! the same bytes: whoever wrote first wins, on whichever core.
//!
//! Deliberately absent: timers (the caller wraps a call in its own deadline), identity and time (ids and creation
//! times are handed in), HTTP, and the wording of JSON (a story is bytes here). Dropping a call's future abandons
//! the answer, never the put.

#[cfg(test)]
pub(crate) mod contract;
mod cursor;
pub mod embedded;
mod error;
pub mod journal;
pub mod postgres;
mod types;

pub use cursor::{Cursor, CursorError};
pub use error::StoreError;
pub use types::{Filter, Health, Kept, Page, Record, State, StoryKey};

use crate::runtime::driver::do_not_cut_in;
use uuid::Uuid;

/// The store of the process: kept by the supervisor, lent to workers.
#[derive(Debug)]
pub enum Opened {
    /// The file in DATA_DIR.
    Embedded(embedded::Embedded),
    /// The database of DATABASE_URL.
    Postgres(postgres::Postgres),
    /// The same, with the journal in JOURNAL_DIR.
    Journaled(postgres::Postgres, journal::Journal),
}

impl Opened {
    /// What to hand to a worker's thread.
    pub fn lend(&self) -> Lent {
        match self {
            Opened::Embedded(embedded) => Lent::Embedded(embedded.client()),
            Opened::Postgres(postgres) => Lent::Postgres(postgres.clone()),
            Opened::Journaled(postgres, journal) => Lent::Journaled(postgres.clone(), journal.handle()),
        }
    }

    /// The word for it in health checks.
    pub fn kind(&self) -> &'static str {
        match self {
            Opened::Embedded(_) => "embedded",
            Opened::Postgres(_) | Opened::Journaled(..) => "postgresql",
        }
    }

    /// Closes it after the workers have ended. Blocks up to the deadline.
    ///
    /// # Errors
    /// When it did not close in time.
    pub fn close(self, deadline: std::time::Duration) -> Result<(), embedded::CloseTimedOut> {
        match self {
            Opened::Embedded(embedded) => embedded.close(deadline),
            // Each worker closed its own connections.
            Opened::Postgres(_) => Ok(()),
            Opened::Journaled(_, journal) => journal.close(deadline),
        }
    }
}

/// The store on its way to a worker.
#[derive(Debug, Clone)]
pub enum Lent {
    /// See [`Opened`].
    Embedded(embedded::Client),
    /// See [`Opened`].
    Postgres(postgres::Postgres),
    /// See [`Opened`].
    Journaled(postgres::Postgres, journal::Handle),
}

impl Lent {
    /// The worker's handle; call it on the worker, in its runtime.
    pub fn attach(&self) -> Store {
        match self {
            Lent::Embedded(client) => Store::Embedded(client.clone()),
            Lent::Postgres(postgres) => Store::Postgres(postgres.attach()),
            Lent::Journaled(postgres, journal) => Store::Journaled(journal.attach(postgres)),
        }
    }
}

/// A worker's handle to the store. Cheap to clone. The embedded store's futures may be awaited on any executor,
/// PostgreSQL's on their worker.
#[derive(Debug, Clone)]
pub enum Store {
    /// The file in DATA_DIR.
    Embedded(embedded::Client),
    /// The database of DATABASE_URL.
    Postgres(postgres::Client),
    /// The same, with the journal in JOURNAL_DIR.
    Journaled(journal::Client),
}

impl From<embedded::Client> for Store {
    fn from(client: embedded::Client) -> Self {
        Store::Embedded(client)
    }
}

impl Store {
    /// The story of that id, if kept.
    pub async fn get(&self, id: Uuid) -> Result<Option<Kept>, StoreError> {
        match self {
            Store::Embedded(client) => client.get(id).await,
            Store::Postgres(client) => client.get(id).await,
            Store::Journaled(client) => client.get(id).await,
        }
    }

    /// The story told for that request, if kept.
    pub async fn find(&self, key: &StoryKey) -> Result<Option<Kept>, StoreError> {
        match self {
            Store::Embedded(client) => client.find(*key).await,
            Store::Postgres(client) => client.find(*key).await,
            Store::Journaled(client) => client.find(*key).await,
        }
    }

    /// Keeps a story, and answers once it is durable.
    ///
    /// Where the key is kept already, the story kept first is returned and the record is let go: compare ids to
    /// know. [`StoreError::Invalid`] says that the record breaks a rule of [`Record`]. After
    /// [`StoreError::Unavailable`] the story may or may not be kept; putting it again is safe.
    pub async fn put(&self, record: Record) -> Result<Kept, StoreError> {
        match self {
            Store::Embedded(client) => client.put(record).await,
            Store::Postgres(client) => client.put(record).await,
            Store::Journaled(client) => client.put(record).await,
        }
    }

    /// One page of the stories that pass the filter, newest first.
    ///
    /// `limit` is clamped to 1..=`limits::story::PAGE_MAX`; a page may also end early at
    /// `limits::store::PAGE_BYTES_MAX`. Every story kept before the first page was asked for is seen exactly once.
    pub async fn list(&self, filter: Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        match self {
            Store::Embedded(client) => client.list(filter, cursor, limit).await,
            Store::Postgres(client) => client.list(filter, cursor, limit).await,
            Store::Journaled(client) => client.list(filter, cursor, limit).await,
        }
    }

    /// Reads something small, to know that the store answers; where the last write failed, also tries whether
    /// writing works again. So a readiness check that asks this finds the way back by itself.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Store::Embedded(client) => client.ping().await,
            Store::Postgres(client) => client.ping().await,
            Store::Journaled(client) => client.ping().await,
        }
    }

    /// Whether all pods share this store: then what one pod was told is kept there for all.
    pub fn is_shared(&self) -> bool {
        match self {
            Store::Embedded(_) => false,
            Store::Postgres(_) | Store::Journaled(_) => true,
        }
    }

    /// The journal behind the database, where there is one.
    pub fn journal(&self) -> Option<&journal::Client> {
        match self {
            Store::Embedded(_) | Store::Postgres(_) => None,
            Store::Journaled(client) => Some(client),
        }
    }

    /// Figures of the whole store (not of this handle). Never waits.
    pub fn health(&self) -> Health {
        match self {
            Store::Embedded(client) => client.health(),
            Store::Postgres(client) => client.health(),
            Store::Journaled(client) => client.health(),
        }
    }

    /// Tells these metrics what becomes of the worker's connections, where it has any.
    pub fn observe(&self, metrics: &std::rc::Rc<crate::telemetry::metrics::WorkerMetrics>) {
        if let Some(client) = self.database() {
            client.observe(std::rc::Rc::clone(metrics));
        }
    }

    /// The worker's connections now, where it has any.
    pub fn pool(&self) -> Option<postgres::PoolFigures> {
        self.database().map(postgres::Client::figures)
    }

    fn database(&self) -> Option<&postgres::Client> {
        match self {
            Store::Embedded(_) => None,
            Store::Postgres(client) => Some(client),
            Store::Journaled(client) => Some(client.database()),
        }
    }

    /// Ends this worker's use of the store: puts in flight are waited for, for a bounded time.
    pub async fn close(&self) {
        match self {
            // It belongs to the process, which closes it.
            Store::Embedded(_) => {}
            Store::Postgres(client) => client.close().await,
            Store::Journaled(client) => client.close().await,
        }
    }
}

/// Steps of nice(2) below the workers: of the CPU time that both want, the thread gets a quarter.
const ASIDE: i32 = 5;

/// To be called on a thread that commits what has come together. On a worker's CPU it would cut in for every single put, and
/// commit each alone at the price of many together: under overload that was a tenth of what a worker tells, and a quarter where the
/// disk is memory. And what the worker has not read by then waits longer, while a later commit only has more in it.
pub(crate) fn step_aside() {
    // Of the calling thread, on Linux.
    let nicer = || {
        let own = rustix::process::getpriority_process(None)?;
        rustix::process::setpriority_process(None, own.saturating_add(ASIDE).min(19))?;
        Ok(())
    };
    if let Err(error) = do_not_cut_in().and_then(|()| nicer()) {
        tracing::debug!(%error, "the store commits as often as it can, which takes more CPU under load");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::types::Style;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    /// Polls until ready; enough for a test of plumbing.
    fn wait<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return value;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_story_goes_round() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = embedded::Embedded::open(embedded::Config::new(dir.path())).unwrap();
        let store = Store::from(embedded.client());
        let record = Record {
            key: StoryKey::of_canonical(b"rome"),
            id: Uuid::from_u128(5000 << 80 | 7 << 76 | 0b10 << 62),
            json: b"{}".to_vec(),
            location_key: "rome".to_owned(),
            style: Style::History,
            created_ms: 5000,
        };
        let kept = wait(store.put(record.clone())).unwrap();
        assert_eq!(wait(store.get(record.id)).unwrap(), Some(kept.clone()));
        assert_eq!(wait(store.find(&record.key)).unwrap(), Some(kept.clone()));
        let filter = Filter {
            location: Some("rome".to_owned()),
            style: Some(Style::Comedy),
        };
        assert_eq!(wait(store.list(filter.clone(), None, 1)).unwrap(), Page::default());
        let filter = Filter {
            style: Some(Style::History),
            ..filter
        };
        assert_eq!(
            wait(store.list(filter, None, 1)).unwrap(),
            Page {
                items: vec![kept],
                next: None
            }
        );
        wait(store.ping()).unwrap();
        assert_eq!(store.health().stories, 1);
        embedded.close(Duration::from_secs(10)).unwrap();
        assert_eq!(wait(store.ping()), Err(StoreError::Closed));
    }

    #[test]
    fn errors_say_whether_to_try_again() {
        let all = [
            StoreError::unavailable("x"),
            StoreError::Overloaded,
            StoreError::Timeout,
            StoreError::Closed,
            StoreError::Corrupt(String::new()),
            StoreError::Invalid(String::new()),
        ];
        for error in &all {
            assert_eq!(error.is_retryable(), error.retry_after_s().is_some(), "{error}");
        }
        let kinds: std::collections::BTreeSet<_> = all.iter().map(StoreError::kind).collect();
        assert_eq!(kinds.len(), all.len());
    }
}
