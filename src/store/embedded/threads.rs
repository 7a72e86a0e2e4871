//! The helper threads: one that commits, a few that read. Each takes from its own bounded queue, and sleeps while it
//! is empty.

use super::OpenError;
use super::engine::Engine;
use super::schema::{self, KEYS, STORIES};
use crate::limits::store::BATCH_PUTS_MAX;
use crate::store::{Cursor, Filter, Kept, Page, Record, StoreError, StoryKey, step_aside};
use std::sync::mpsc as std_mpsc;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Where the asker waits. It may have stopped waiting: then the answer is let go, and the work is done all the same.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// For the writer.
#[derive(Debug)]
pub(super) enum PutMessage {
    Put(Record, Answer<Kept>),
    /// Try whether writing works again.
    Probe(Answer<()>),
    Close,
}

/// For a reader.
#[derive(Debug)]
pub(super) enum ReadMessage {
    Read(Read),
    Close,
}

#[derive(Debug)]
pub(super) enum Read {
    Get(Uuid, Answer<Option<Kept>>),
    Find(StoryKey, Answer<Option<Kept>>),
    List {
        filter: Filter,
        cursor: Option<Cursor>,
        limit: usize,
        answer: Answer<Page>,
    },
    Ping(Answer<()>),
}

impl Read {
    /// Nobody waits any more: under overload, work for those who gave up only delays the others.
    fn is_abandoned(&self) -> bool {
        match self {
            Read::Get(_, answer) | Read::Find(_, answer) => answer.is_closed(),
            Read::List { answer, .. } => answer.is_closed(),
            Read::Ping(answer) => answer.is_closed(),
        }
    }
}

/// Starts a helper thread. It holds `end` as long as it lives.
pub(super) fn spawn(
    name: &str,
    end: std_mpsc::Sender<()>,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), OpenError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        work();
        drop(end);
    });
    thread.map(drop).map_err(|source| OpenError::NoThread {
        name: name.to_owned(),
        source,
    })
}

/// The writer: takes what waits, up to a bound, and commits it together.
///
/// Nobody is kept waiting for company: a lone put is committed at once, and what arrives meanwhile is the next batch.
pub(super) fn write(engine: &Engine, mut queue: mpsc::Receiver<PutMessage>) {
    step_aside();
    let mut messages = Vec::new();
    // Ends when the queue is closed and empty, or nobody is left to fill it.
    while queue.blocking_recv_many(&mut messages, BATCH_PUTS_MAX) > 0 {
        let mut records = Vec::with_capacity(messages.len());
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                PutMessage::Put(record, answer) => {
                    records.push(record);
                    answers.push(answer);
                }
                PutMessage::Probe(answer) => {
                    let _ = answer.send(engine.probe());
                }
                // What is in the queue is still taken; nothing more gets in.
                PutMessage::Close => queue.close(),
            }
        }
        if records.is_empty() {
            continue;
        }
        match engine.commit(&records) {
            Ok(outcomes) => {
                for ((record, answer), outcome) in records.into_iter().zip(answers).zip(outcomes) {
                    let as_given = || Kept {
                        id: record.id,
                        created_ms: record.created_ms,
                        json: record.json,
                    };
                    let _ = answer.send(outcome.map(|first| first.unwrap_or_else(as_given)));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// A reader.
pub(super) fn read(engine: &Engine, mut queue: mpsc::Receiver<ReadMessage>) {
    while let Some(message) = queue.blocking_recv() {
        match message {
            ReadMessage::Read(read) => answer(engine, read),
            ReadMessage::Close => queue.close(),
        }
    }
}

fn answer(engine: &Engine, read: Read) {
    if read.is_abandoned() {
        return;
    }
    match read {
        Read::Get(id, answer) => {
            let found = engine.read(|at| schema::story(&at.open_table(STORIES)?, id.into_bytes()));
            let _ = answer.send(found);
        }
        Read::Find(key, answer) => {
            let found = engine.read(|at| schema::story_of_key(&at.open_table(STORIES)?, &at.open_table(KEYS)?, &key));
            let _ = answer.send(found);
        }
        Read::List {
            filter,
            cursor,
            limit,
            answer,
        } => {
            let _ = answer.send(engine.read(|at| schema::page(at, &filter, cursor, limit)));
        }
        Read::Ping(answer) => {
            let _ = answer.send(engine.read(|at| schema::count(at).map(drop)));
        }
    }
}
