//! The helper threads: one writes, one reads. Each takes from its own bounded queue, and sleeps while it is empty.

use super::folder::{Place, Unreadable};
use super::writer::{Log, Writer};
use crate::limits::store::BATCH_PUTS_MAX;
use crate::store::{Kept, Record, StoreError, StoryKey, step_aside};
use std::io;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Where the asker waits. It may have stopped waiting: then the answer is let go, and the work is done all the same.
type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
enum ToWriter {
    Keep(Record, Answer<Kept>),
    Forget(Vec<Uuid>, Answer<()>),
    SetAside(Uuid),
    Probe(Answer<()>),
    Close,
}

#[derive(Debug)]
enum ToReader {
    Get(Uuid, Answer<Option<Kept>>),
    Find(StoryKey, Answer<Option<Kept>>),
    Batch(Place, usize, usize, Answer<Batch>),
    Close,
}

/// Stories to replay.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// Those whose bytes are no record any more.
    pub(super) damaged: Vec<Uuid>,
    /// Where the next batch begins; none: there are no more.
    pub(super) next: Option<Place>,
}

/// The queues to the threads of an open journal.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    writer: mpsc::Sender<ToWriter>,
    reader: mpsc::Sender<ToReader>,
}

/// The threads, to be ended.
#[derive(Debug)]
pub(super) struct Running {
    /// Room kept in each queue for the word to close.
    close_writer: Option<mpsc::OwnedPermit<ToWriter>>,
    close_reader: Option<mpsc::OwnedPermit<ToReader>>,
    /// Disconnects when the last thread ended.
    ended: std_mpsc::Receiver<()>,
}

/// Starts the threads.
pub(super) fn start(log: &Arc<Log>, mut writer: Writer, puts: usize, reads: usize) -> io::Result<(Ends, Running)> {
    let (to_writer, mut for_writer) = mpsc::channel(puts.max(1).saturating_add(1));
    let (to_reader, mut for_reader) = mpsc::channel(reads.max(1).saturating_add(1));
    let running_permits = (
        to_writer.clone().try_reserve_owned().ok(),
        to_reader.clone().try_reserve_owned().ok(),
    );
    let (end, ended) = std_mpsc::channel::<()>();
    let other_end = end.clone();
    std::thread::Builder::new()
        .name("journal-write".into())
        .spawn(move || {
            step_aside();
            write(&mut writer, &mut for_writer);
            drop(end);
        })?;
    let log = Arc::clone(log);
    std::thread::Builder::new().name("journal-read".into()).spawn(move || {
        read(&log, &mut for_reader);
        drop(other_end);
    })?;
    let ends = Ends {
        writer: to_writer,
        reader: to_reader,
    };
    let running = Running {
        close_writer: running_permits.0,
        close_reader: running_permits.1,
        ended,
    };
    Ok((ends, running))
}

impl Running {
    /// Lets the threads do what is in their queues, and end. False where they did not in time.
    pub(super) fn close(mut self, deadline: Duration) -> bool {
        self.say_close();
        // Nobody sends: the threads only hold the sender while they live.
        !matches!(
            self.ended.recv_timeout(deadline),
            Err(std_mpsc::RecvTimeoutError::Timeout)
        )
    }

    fn say_close(&mut self) {
        if let Some(permit) = self.close_writer.take() {
            permit.send(ToWriter::Close);
        }
        if let Some(permit) = self.close_reader.take() {
            permit.send(ToReader::Close);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.say_close();
    }
}

fn write(writer: &mut Writer, queue: &mut mpsc::Receiver<ToWriter>) {
    let mut messages = Vec::new();
    // Nobody is kept waiting for company: what arrives during a flush is the next batch.
    while queue.blocking_recv_many(&mut messages, BATCH_PUTS_MAX) > 0 {
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                ToWriter::Keep(record, answer) => {
                    records.push(record);
                    answers.push(answer);
                }
                ToWriter::Forget(ids, answer) => {
                    writer.forget(&ids);
                    let _ = answer.send(Ok(()));
                }
                ToWriter::SetAside(id) => writer.set_aside(id),
                ToWriter::Probe(answer) => {
                    let _ = answer.send(writer.probe());
                }
                // What is in the queue is still taken; nothing more gets in.
                ToWriter::Close => queue.close(),
            }
        }
        if !records.is_empty() {
            for (answer, outcome) in answers.into_iter().zip(writer.keep(records)) {
                let _ = answer.send(outcome);
            }
        }
    }
}

fn read(log: &Log, queue: &mut mpsc::Receiver<ToReader>) {
    while let Some(message) = queue.blocking_recv() {
        match message {
            ToReader::Get(id, answer) => {
                let spot = log.index().of_id(id);
                let _ = answer.send(spot.map(|spot| spot.kept()).transpose());
            }
            ToReader::Find(key, answer) => {
                let spot = log.index().of_key(&key);
                let _ = answer.send(spot.map(|spot| spot.kept()).transpose());
            }
            ToReader::Batch(place, stories, bytes, answer) => {
                let _ = answer.send(batch(log, place, stories, bytes));
            }
            ToReader::Close => queue.close(),
        }
    }
}

fn batch(log: &Log, place: Place, stories: usize, bytes: usize) -> Result<Batch, StoreError> {
    let spots = log.index().from(place, stories, bytes);
    let mut batch = Batch {
        next: spots.last().map(|last| Place {
            offset: last.place.offset.saturating_add(1),
            ..last.place
        }),
        ..Batch::default()
    };
    for spot in spots {
        match spot.read() {
            Ok(record) => batch.records.push(record),
            Err(Unreadable::Damaged(_)) => batch.damaged.push(spot.id),
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(batch)
}

impl Ends {
    pub(super) async fn keep(&self, record: Record) -> Result<Kept, StoreError> {
        let (answer, waiting) = oneshot::channel();
        sent(self.writer.try_send(ToWriter::Keep(record, answer)))?;
        answered(waiting).await
    }

    pub(super) async fn forget(&self, ids: Vec<Uuid>) -> Result<(), StoreError> {
        let (answer, waiting) = oneshot::channel();
        sent(self.writer.try_send(ToWriter::Forget(ids, answer)))?;
        answered(waiting).await
    }

    /// Where there is no room in the queue, the next replay finds the story again.
    pub(super) fn set_aside(&self, id: Uuid) {
        let _ = self.writer.try_send(ToWriter::SetAside(id));
    }

    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let (answer, waiting) = oneshot::channel();
        sent(self.writer.try_send(ToWriter::Probe(answer)))?;
        answered(waiting).await
    }

    pub(super) async fn get(&self, id: Uuid) -> Result<Option<Kept>, StoreError> {
        let (answer, waiting) = oneshot::channel();
        sent(self.reader.try_send(ToReader::Get(id, answer)))?;
        answered(waiting).await
    }

    pub(super) async fn find(&self, key: StoryKey) -> Result<Option<Kept>, StoreError> {
        let (answer, waiting) = oneshot::channel();
        sent(self.reader.try_send(ToReader::Find(key, answer)))?;
        answered(waiting).await
    }

    pub(super) async fn batch(&self, from: Place, stories: usize, bytes: usize) -> Result<Batch, StoreError> {
        let (answer, waiting) = oneshot::channel();
        sent(self.reader.try_send(ToReader::Batch(from, stories, bytes, answer)))?;
        answered(waiting).await
    }
}

fn sent<T>(sent: Result<(), TrySendError<T>>) -> Result<(), StoreError> {
    sent.map_err(|error| match error {
        TrySendError::Full(_) => StoreError::Overloaded,
        TrySendError::Closed(_) => StoreError::Closed,
    })
}

/// Waits for a helper thread. One that dies drops the answer, which must not leave a worker waiting.
async fn answered<T>(waiting: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    waiting.await.unwrap_or(Err(StoreError::Closed))
}
