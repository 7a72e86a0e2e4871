//! From the journal into the database: in batches, oldest first, by one worker of the process at a time.
//!
//! A replay begins with a ping that the database answered, after a pause of random length, and ends where the journal is
//! empty or a put fails; then the next one begins after a pause that grows. What was put twice (a crash came before the
//! journal forgot it, or the first attempt had been kept after all) is there once: puts are by id and key.

use super::client::Inner;
use super::folder::Place;
use super::limits;
use super::threads::{Batch, Ends};
use crate::runtime::context;
use crate::runtime::executor::{spawn, spawn_detached};
use crate::runtime::time::sleep;
use crate::store::{Record, StoreError, StoryKey, postgres};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

/// Ends the worker's turn to replay, however it ended.
struct Turn(Arc<super::Shared>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.replaying.store(false, Ordering::Release);
    }
}

/// Begins a replay in the background, unless one is under way or its time has not come.
pub(super) fn begin(client: &Rc<Inner>, ends: Ends) {
    let journal = &client.journal;
    let is_due = context::now_ns() >= journal.replay_ns.load(Ordering::Relaxed);
    if !is_due || journal.replaying.swap(true, Ordering::Acquire) {
        return;
    }
    let turn = Turn(Arc::clone(journal));
    let client = Rc::clone(client);
    spawn_detached("journal-replay", async move {
        let _turn = turn;
        let jitter_ms = context::random(|rng| rng.u64(0..=limits::REPLAY_JITTER_MS));
        sleep(Duration::from_millis(jitter_ms)).await;
        let pause = match run(&client, &ends).await {
            Ok(0) => {
                client.backoff.borrow_mut().reset();
                Duration::ZERO
            }
            Ok(_) => client.backoff.borrow_mut().next_pause(),
            Err(error) => {
                let pause = client.backoff.borrow_mut().next_pause();
                tracing::warn!(%error, stories_left = client.journal.records(), "the replay of the journal stopped");
                pause
            }
        };
        let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        let next_ns = context::now_ns().saturating_add(pause_ns);
        client.journal.replay_ns.store(next_ns, Ordering::Relaxed);
    });
}

/// From the oldest story to the youngest. Stories that the database will not have are left, and do not stop it; gives
/// their number.
async fn run(client: &Rc<Inner>, ends: &Ends) -> Result<u64, StoreError> {
    let mut from = Place::default();
    let (mut replayed, mut unwanted) = (0u64, 0u64);
    loop {
        let batch = ends.batch(from, limits::REPLAY_STORIES, limits::REPLAY_BYTES).await?;
        let Some(next) = batch.next else { break };
        let outcome = put(client, ends, batch).await?;
        replayed = replayed.saturating_add(outcome.replayed);
        unwanted = unwanted.saturating_add(outcome.unwanted);
        client
            .journal
            .figures
            .replayed
            .fetch_add(outcome.replayed, Ordering::Relaxed);
        match outcome.error {
            Some(error) => return Err(error),
            None => client.note_back(),
        }
        from = next;
    }
    client.journal.figures.unwanted.store(unwanted, Ordering::Relaxed);
    if replayed > 0 {
        tracing::info!(stories = replayed, "stories of the journal are in PostgreSQL now");
    }
    Ok(unwanted)
}

struct Outcome {
    replayed: u64,
    unwanted: u64,
    /// Why a story could not be put now.
    error: Option<StoreError>,
}

/// Puts a batch, and forgets what the database has.
async fn put(client: &Rc<Inner>, ends: &Ends, batch: Batch) -> Result<Outcome, StoreError> {
    batch.damaged.iter().for_each(|id| ends.set_aside(*id));
    // At once: they share a statement.
    let puts: Vec<_> = batch
        .records
        .into_iter()
        .map(|record| {
            let (id, database) = (record.id, client.database.clone());
            (id, spawn("journal-put", put_one(database, record)))
        })
        .collect();
    let (mut done, mut outcome) = (
        Vec::with_capacity(puts.len()),
        Outcome {
            replayed: 0,
            unwanted: 0,
            error: None,
        },
    );
    for (id, put) in puts {
        match put.await.unwrap_or(Err(StoreError::Closed)) {
            Ok(()) => done.push(id),
            Err(error) if error.is_retryable() => outcome.error = Some(error),
            Err(error) => {
                outcome.unwanted = outcome.unwanted.saturating_add(1);
                tracing::error!(%id, %error, "PostgreSQL will not have a story of the journal: it stays there");
            }
        }
    }
    outcome.replayed = u64::try_from(done.len()).unwrap_or(u64::MAX);
    if !done.is_empty() {
        ends.forget(done).await?;
    }
    Ok(outcome)
}

/// Puts a story so that its id is found for good.
async fn put_one(database: postgres::Client, record: Record) -> Result<(), StoreError> {
    let id = record.id;
    if database.put(record.clone()).await?.id == id {
        return Ok(());
    }
    // Another pod told a story for this request: that one answers it.
    let key = apart(id);
    match database.put(Record { key, ..record }).await?.id == id {
        true => Ok(()),
        false => Err(StoreError::Invalid(format!(
            "the key of the id {id} is another story's"
        ))),
    }
}

/// The key of a story that does not answer its request: no request has it, because the canonical form of each begins
/// with another byte.
pub(super) fn apart(id: Uuid) -> StoryKey {
    StoryKey::of_canonical(&[b"\0told apart", &id.as_bytes()[..]].concat())
}
