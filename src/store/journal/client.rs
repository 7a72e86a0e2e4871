//! A worker's store: PostgreSQL, and the journal for what it does not take.

use super::threads::Ends;
use super::{Handle, Shared, limits, replay};
use crate::backend::backoff::Backoff;
use crate::runtime::time::timeout;
use crate::store::{Cursor, Filter, Health, Kept, Page, Record, StoreError, StoryKey, postgres};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

pub(super) struct Inner {
    pub(super) database: postgres::Client,
    pub(super) journal: Arc<Shared>,
    pub(super) backoff: RefCell<Backoff>,
}

/// A worker's handle to the database and the journal. Not `Send`: the connections are the worker's.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("journal::Client")
    }
}

/// The database has so long; dropping the call abandons its answer, and the story may be kept there all the same.
async fn within<T>(ms: u64, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(Duration::from_millis(ms), call)
        .await
        .unwrap_or(Err(StoreError::Timeout))
}

impl Client {
    pub(super) fn new(database: postgres::Client, journal: Arc<Shared>) -> Client {
        let ms = Duration::from_millis;
        let backoff = Backoff::new(ms(limits::REPLAY_PAUSE_FIRST_MS), ms(limits::REPLAY_PAUSE_MAX_MS));
        Client(Rc::new(Inner {
            database,
            journal,
            backoff: RefCell::new(backoff),
        }))
    }

    /// The journal itself.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.0.journal))
    }

    /// Whether stories are kept though the database is away. Not where the database is there and waits for its
    /// migrations: that is no outage.
    pub fn takes_over(&self) -> bool {
        self.0.journal.has_room() && !self.0.database.is_unfit()
    }

    /// The journal's threads, where there is something to find.
    fn filled(&self) -> Option<&Ends> {
        let journal = &self.0.journal;
        journal.ends.get().filter(|_| journal.records() > 0)
    }

    /// See [`crate::store::Store::get`]. What the journal has is answered from there; nothing is said to be absent while
    /// another process may have it in this journal.
    pub async fn get(&self, id: Uuid) -> Result<Option<Kept>, StoreError> {
        let mut doubt = None;
        if let Some(ends) = self.filled() {
            // First: a story leaves the journal when it is in the database, so one of the two has it at any time.
            match ends.get(id).await {
                Ok(Some(kept)) => return Ok(Some(kept)),
                Ok(None) => {}
                Err(error) => doubt = Some(error),
            }
        } else if self.0.journal.ends.get().is_none() {
            doubt = Some(StoreError::unavailable("the journal is another process's"));
        }
        match (self.0.database.get(id).await?, doubt) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// See [`crate::store::Store::find`].
    pub async fn find(&self, key: StoryKey) -> Result<Option<Kept>, StoreError> {
        if let Some(ends) = self.filled()
            && let Ok(Some(kept)) = ends.find(key).await
        {
            return Ok(Some(kept));
        }
        let ms = if self.is_away() {
            limits::FIND_AWAY_MS
        } else {
            limits::FIND_MS
        };
        let found = within(ms, self.0.database.find(key)).await;
        if let Err(error) = &found {
            self.note_away(error);
        }
        found
    }

    /// See [`crate::store::Store::put`]. An error of the database's that leaves a doubt counts as one: where the story
    /// is there after all, the replay finds it.
    pub async fn put(&self, record: Record) -> Result<Kept, StoreError> {
        record.check()?;
        if self.is_away()
            && self.takes_over()
            && let Ok(kept) = self.keep(record.clone()).await
        {
            return Ok(kept);
        }
        let error = match within(limits::PUT_MS, self.0.database.put(record.clone())).await {
            Ok(kept) => return Ok(kept),
            Err(error) => error,
        };
        self.note_away(&error);
        if !is_outage(&error) || !self.takes_over() {
            return Err(error);
        }
        self.keep(record).await.map_err(|fault| StoreError::Unavailable {
            reason: format!("{error}; nor is it kept in the journal: {fault}"),
            retry_after_s: error.retry_after_s().unwrap_or(crate::limits::store::RETRY_AFTER_S),
        })
    }

    async fn keep(&self, record: Record) -> Result<Kept, StoreError> {
        match self.0.journal.ends.get() {
            Some(ends) => ends.keep(record).await,
            None => Err(StoreError::unavailable("the journal is another process's")),
        }
    }

    /// See [`crate::store::Store::list`]: of the database alone.
    pub async fn list(&self, filter: Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.0.database.list(filter, cursor, limit).await
    }

    /// See [`crate::store::Store::ping`]: of the database. Once it answers, what the journal has is replayed.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let answer = self.0.database.ping().await;
        let journal = &self.0.journal;
        if journal.figures.failing.load(Ordering::Relaxed)
            && let Some(ends) = journal.ends.get()
        {
            // Its outcome is in the figures, whenever that is.
            let _ = within(limits::PROBE_MS, ends.probe()).await;
        }
        answer?;
        if let Some(ends) = self.filled() {
            replay::begin(&self.0, ends.clone());
        } else {
            self.0.note_back();
        }
        Ok(())
    }

    /// See [`crate::store::Store::health`]: the database's.
    pub fn health(&self) -> Health {
        self.0.database.health()
    }

    /// The database's side.
    pub(in crate::store) fn database(&self) -> &postgres::Client {
        &self.0.database
    }

    /// See [`crate::store::Store::close`]. What is in the journal stays there.
    pub async fn close(&self) {
        self.0.database.close().await;
    }

    fn is_away(&self) -> bool {
        self.0.journal.away.load(Ordering::Relaxed)
    }

    fn note_away(&self, error: &StoreError) {
        // A full queue says nothing about the next story.
        let says_away = matches!(error, StoreError::Unavailable { .. } | StoreError::Timeout);
        if says_away && self.takes_over() && !self.0.journal.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "PostgreSQL does not serve: new stories go to the journal");
        }
    }
}

impl Inner {
    /// The database takes stories.
    pub(super) fn note_back(&self) {
        if self.journal.away.swap(false, Ordering::Relaxed) {
            tracing::info!("PostgreSQL serves again: new stories go there");
        }
    }
}

/// Whether the journal may keep what the database answered so: the story is not kept, or nobody knows.
fn is_outage(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable { .. } | StoreError::Timeout | StoreError::Overloaded
    )
}
