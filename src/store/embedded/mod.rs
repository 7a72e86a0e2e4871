//! The default store: one file in DATA_DIR, kept by helper threads so that no worker waits for a disk.
//!
//! One thread writes. It takes whatever puts wait, up to a bound, and commits them together with one durable flush
//! (group commit): a lone put is committed at once, and under load the flush is shared. A few threads read, each from
//! its own snapshot, so that a read does not wait behind a flush. Queues are bounded, and a full one refuses at once.
//!
//! The file is a redb database ([`schema`] has the tables). Every commit records the allocator's state
//! (`set_quick_repair`), because the alternative is a walk through the whole file at the first start after a
//! `kill -9`: 720 ms at 100 000 stories of 3 KB, and more as the file grows, while the whole cold start has 100 ms;
//! with the record it is under 1 ms. The price is a second flush a commit: a lone put takes 0.6 ms instead of 0.35;
//! from 64 waiting clients on, who share the flush, no difference could be measured.
//!
//! A failed write (disk full) is answered as unavailable and the server lives on: [`engine`] closes the file and opens
//! it again, which rolls back to the last commit, and reads are served meanwhile. Deliberately absent: compaction and
//! deletion (stories are kept), and a second process on the same file.

mod containment;
mod engine;
mod file;
mod open;
mod schema;
#[cfg(test)]
mod tests;
mod threads;

pub use open::OpenError;

use super::{Cursor, Filter, Health, Kept, Page, Record, StoreError, StoryKey};
use crate::limits::store as limits;
use engine::Engine;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};
use threads::{PutMessage, Read, ReadMessage};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// How to open the store.
#[derive(Debug, Clone)]
pub struct Config {
    /// DATA_DIR: the folder of the file, created with mode 0700 where it does not exist.
    pub dir: PathBuf,
    /// How long to wait for another process to let go of the file: zero normally, the drain time in a hot upgrade.
    pub lock_wait: Duration,
    /// Bytes of the file that may be held in this process's memory.
    pub page_cache_bytes: usize,
    /// Puts that may wait.
    pub put_queue: usize,
    /// Reader threads, at least one.
    pub readers: usize,
    /// Reads that may wait for one reader thread.
    pub read_queue: usize,
    /// The pause after a failed write before the next attempt.
    pub retry: Duration,
}

impl Config {
    /// The defaults of `limits::store`, in this folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Config {
            dir: dir.into(),
            lock_wait: Duration::ZERO,
            page_cache_bytes: limits::PAGE_CACHE_BYTES,
            put_queue: limits::PUT_QUEUE_MAX,
            readers: limits::READERS,
            read_queue: limits::READ_QUEUE_MAX,
            retry: Duration::from_millis(limits::RETRY_MS),
        }
    }
}

/// The store did not close in time; what was answered is kept nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the story store did not close in time; answered stories are kept, waiting ones may be lost")]
pub struct CloseTimedOut;

/// The open store: owns the threads. Kept by `main`; workers hold [`Client`]s.
#[derive(Debug)]
pub struct Embedded {
    client: Client,
    /// Room kept in each queue for the word to close, so that a full queue cannot keep the store open.
    close_puts: Option<mpsc::OwnedPermit<PutMessage>>,
    close_reads: Vec<mpsc::OwnedPermit<ReadMessage>>,
    /// Disconnects when the last thread ended.
    ended: std_mpsc::Receiver<()>,
}

impl Embedded {
    /// Opens or creates the store. Blocks on the disk: call it before the workers start, or off them.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_engine(Engine::open(config)?)
    }

    fn open_engine(engine: Engine) -> Result<Self, OpenError> {
        let engine = Arc::new(engine);
        let config = engine.config();
        let (end_sender, ended) = std_mpsc::channel::<()>();
        // One place more than configured: the reserved one.
        let (puts, put_receiver) = mpsc::channel(config.put_queue.max(1).saturating_add(1));
        let close_puts = puts.clone().try_reserve_owned().ok();
        threads::spawn("store-write", end_sender.clone(), {
            let engine = Arc::clone(&engine);
            move || threads::write(&engine, put_receiver)
        })?;
        let mut reads = Vec::new();
        let mut close_reads = Vec::new();
        for number in 0..config.readers.max(1) {
            let (sender, receiver) = mpsc::channel(config.read_queue.max(1).saturating_add(1));
            close_reads.extend(sender.clone().try_reserve_owned().ok());
            threads::spawn(&format!("store-read-{number}"), end_sender.clone(), {
                let engine = Arc::clone(&engine);
                move || threads::read(&engine, receiver)
            })?;
            reads.push(sender);
        }
        let client = Client {
            engine,
            puts,
            reads: reads.into(),
        };
        Ok(Embedded {
            client,
            close_puts,
            close_reads,
            ended,
        })
    }

    /// A handle for a worker.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Commits what waits, answers it, closes the file and ends the threads; calls after this are answered
    /// [`StoreError::Closed`]. Blocks up to the deadline.
    pub fn close(mut self, deadline: Duration) -> Result<(), CloseTimedOut> {
        self.say_close();
        match self.ended.recv_timeout(deadline) {
            // Nobody sends: the threads only hold the sender while they live.
            Ok(()) | Err(std_mpsc::RecvTimeoutError::Disconnected) => {
                self.client.engine.close();
                Ok(())
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) => Err(CloseTimedOut),
        }
    }

    fn say_close(&mut self) {
        if let Some(permit) = self.close_puts.take() {
            permit.send(PutMessage::Close);
        }
        for permit in self.close_reads.drain(..) {
            permit.send(ReadMessage::Close);
        }
    }
}

impl Drop for Embedded {
    /// Without [`Embedded::close`] the threads still end by themselves, but nobody waits for them.
    fn drop(&mut self) {
        self.say_close();
    }
}

/// A worker's handle to the embedded store.
#[derive(Debug, Clone)]
pub struct Client {
    engine: Arc<Engine>,
    puts: mpsc::Sender<PutMessage>,
    reads: Arc<[mpsc::Sender<ReadMessage>]>,
}

impl Client {
    /// See [`super::Store::get`].
    pub async fn get(&self, id: Uuid) -> Result<Option<Kept>, StoreError> {
        let (answer, waiting) = oneshot::channel();
        self.ask(Read::Get(id, answer))?;
        answered(waiting).await
    }

    /// See [`super::Store::find`].
    pub async fn find(&self, key: StoryKey) -> Result<Option<Kept>, StoreError> {
        let (answer, waiting) = oneshot::channel();
        self.ask(Read::Find(key, answer))?;
        answered(waiting).await
    }

    /// See [`super::Store::put`].
    pub async fn put(&self, record: Record) -> Result<Kept, StoreError> {
        record.check()?;
        let (answer, waiting) = oneshot::channel();
        self.refused(self.puts.try_send(PutMessage::Put(record, answer)))?;
        answered(waiting).await
    }

    /// See [`super::Store::list`].
    pub async fn list(&self, filter: Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let (answer, waiting) = oneshot::channel();
        let limit = limit.clamp(1, crate::limits::story::PAGE_MAX);
        self.ask(Read::List {
            filter,
            cursor,
            limit,
            answer,
        })?;
        answered(waiting).await
    }

    /// See [`super::Store::ping`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        let (answer, waiting) = oneshot::channel();
        self.ask(Read::Ping(answer))?;
        answered(waiting).await?;
        if !self.engine.is_in_trouble() {
            return Ok(());
        }
        let (answer, waiting) = oneshot::channel();
        self.refused(self.puts.try_send(PutMessage::Probe(answer)))?;
        answered(waiting).await
    }

    /// See [`super::Store::health`].
    pub fn health(&self) -> Health {
        let mut health = self.engine.health();
        health.put_queue = waiting_in(&self.puts);
        health.read_queue = self.reads.iter().map(waiting_in).sum();
        health
    }

    /// Hands a read to the reader with the most room.
    fn ask(&self, read: Read) -> Result<(), StoreError> {
        let Some(reader) = self.reads.iter().max_by_key(|sender| sender.capacity()) else {
            return Err(StoreError::Closed);
        };
        self.refused(reader.try_send(ReadMessage::Read(read)))
    }

    fn refused<T>(&self, sent: Result<(), TrySendError<T>>) -> Result<(), StoreError> {
        match sent {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.engine.figures().refused.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::Overloaded)
            }
            Err(TrySendError::Closed(_)) => Err(StoreError::Closed),
        }
    }
}

/// Messages in a queue, without the place reserved for the word to close.
fn waiting_in<T>(sender: &mpsc::Sender<T>) -> usize {
    sender
        .max_capacity()
        .saturating_sub(sender.capacity())
        .saturating_sub(1)
}

/// Waits for a helper thread. One that dies drops the answer, which must not leave a worker waiting.
async fn answered<T>(waiting: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    waiting.await.unwrap_or(Err(StoreError::Closed))
}

/// Milliseconds since `start`, for log lines.
fn ms_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
