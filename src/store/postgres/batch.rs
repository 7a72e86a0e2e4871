//! Puts, in batches.
//!
//! The stories that wait go in one statement, and so in one transaction and one flush of the server's log; a lone put
//! goes at once, and what arrives meanwhile is the next batch. Two batches may be in flight. The alternative, one
//! statement a story pipelined on one connection, pays a flush for each: see `figures` in the tests.
//!
//! A record is put by its own task, so that whoever stops waiting abandons the answer, never the put.

use super::fault::{Fault, Remedy};
use super::pool::{Kind, Pool};
use super::statements::{self, Columns, Query};
use crate::limits::postgres as limits;
use crate::limits::store::{BATCH_PUTS_MAX, PUT_QUEUE_MAX, RETRY_AFTER_S, RETRY_MS};
use crate::runtime::context;
use crate::runtime::executor::{spawn_detached, yield_now};
use crate::store::{Kept, Record, StoreError};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

type Outcome = Result<Kept, StoreError>;

struct Waiting {
    record: Record,
    answer: oneshot::Sender<Outcome>,
}

/// The puts of one worker.
pub(super) struct Puts {
    pool: Rc<Pool>,
    queue: RefCell<VecDeque<Waiting>>,
    flying: Cell<u32>,
    /// Why the server takes no writes, and until when none is tried.
    trouble: RefCell<Option<(String, u64)>>,
}

impl Puts {
    pub(super) fn new(pool: Rc<Pool>) -> Rc<Puts> {
        Rc::new(Puts {
            pool,
            queue: RefCell::default(),
            flying: Cell::new(0),
            trouble: RefCell::default(),
        })
    }

    /// Puts waiting.
    pub(super) fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Nothing waits and nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty() && self.flying.get() == 0
    }

    /// Why the server takes no writes, as far as is known.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().as_ref().map(|(reason, _)| reason.clone())
    }

    /// See [`crate::store::Store::put`].
    pub(super) async fn put(self: &Rc<Self>, record: Record) -> Outcome {
        record.check()?;
        self.pause_over()?;
        let (answer, waiting) = oneshot::channel();
        {
            let mut queue = self.queue.borrow_mut();
            if queue.len() >= PUT_QUEUE_MAX {
                self.pool.shared.figures.refused.fetch_add(1, Ordering::Relaxed);
                return Err(StoreError::Overloaded);
            }
            queue.push_back(Waiting { record, answer });
        }
        if self.flying.get() < limits::BATCHES_MAX {
            self.flying.set(self.flying.get() + 1);
            let flight = Flight(Rc::clone(self));
            spawn_detached("postgres-put", async move {
                // What else is put in this turn comes along.
                yield_now().await;
                while flight.0.fly().await {}
            });
        }
        waiting.await.unwrap_or(Err(StoreError::Closed))
    }

    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.queue.borrow_mut();
        let mut bytes = 0usize;
        let mut batch = Vec::new();
        while let Some(next) = queue.front() {
            bytes = bytes.saturating_add(next.record.json.len());
            if !batch.is_empty() && (batch.len() >= BATCH_PUTS_MAX || bytes > limits::BATCH_BYTES_MAX) {
                break;
            }
            batch.extend(queue.pop_front());
        }
        // In one order on all workers and pods: two batches with the same keys in different orders would each wait for
        // the other's row.
        batch.sort_by(|one, other| one.record.key.as_bytes().cmp(other.record.key.as_bytes()));
        batch
    }

    /// Puts the next batch; false where nothing waits.
    async fn fly(&self) -> bool {
        let batch = self.take();
        if batch.is_empty() {
            return false;
        }
        let (records, answers): (Vec<Record>, Vec<_>) = batch.into_iter().map(|one| (one.record, one.answer)).unzip();
        self.pool.observer.batch(records.len());
        let outcomes = self.commit(&records).await;
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            let _ = answer.send(outcome);
        }
        true
    }

    /// Commits records, and gives the outcome of each.
    async fn commit(&self, records: &[Record]) -> Vec<Outcome> {
        let begun = context::precise_now_ns();
        let figures = &self.pool.shared.figures;
        match self.put_all(records).await {
            Ok(outcomes) => {
                let us = context::precise_now_ns().saturating_sub(begun) / 1000;
                figures.last_commit_us.store(us, Ordering::Relaxed);
                figures.commits.fetch_add(1, Ordering::Relaxed);
                let kept = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                figures.puts.fetch_add(kept as u64, Ordering::Relaxed);
                self.set_trouble(None);
                outcomes
            }
            // One record that the server will not have must not take the others with it.
            Err(Fault {
                error: StoreError::Invalid(_),
                ..
            }) if records.len() > 1 => {
                let mut outcomes = Vec::with_capacity(records.len());
                for record in records {
                    let alone = self.put_all(std::slice::from_ref(record)).await;
                    outcomes.push(match alone {
                        Ok(mut outcome) => outcome.pop().unwrap_or(Err(StoreError::Closed)),
                        Err(fault) => Err(fault.error),
                    });
                }
                outcomes
            }
            Err(fault) => {
                figures.failures.fetch_add(1, Ordering::Relaxed);
                let error = fault.error;
                tracing::error!(%error, stories_waiting = records.len(), "stories could not be kept");
                // A connection that broke says nothing about writes: the pool knows about those.
                if matches!(error, StoreError::Unavailable { .. })
                    && (fault.remedy == Remedy::LeaveServer
                        || (fault.remedy == Remedy::Tell && self.pool.trouble().is_none()))
                {
                    self.set_trouble(Some(error.to_string()));
                }
                records.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn put_all(&self, records: &[Record]) -> Result<Vec<Outcome>, Fault> {
        let columns = Columns::of(records);
        let parameters = columns.parameters();
        let written = self
            .pool
            .run(Kind::Write, async |connection| {
                let client = connection.client()?;
                let rows = connection.statements.run(client, Query::Put, &parameters).await?;
                let mut written: HashMap<Vec<u8>, uuid::Uuid> = HashMap::with_capacity(rows.len());
                for row in &rows {
                    let (id, key): (uuid::Uuid, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
                    let is_ours = |record: &Record| record.id == id && record.key.as_bytes()[..] == key;
                    if !records.iter().any(is_ours) {
                        return Err(Fault::nonsense("another story"));
                    }
                    written.insert(key, id);
                }
                Ok(written)
            })
            .await?;
        // Those whose key was there before, or whose id is another story's.
        let missing: Vec<&[u8]> = records
            .iter()
            .map(|record| &record.key.as_bytes()[..])
            .filter(|key| !written.contains_key(*key))
            .collect();
        let mut kept = self.kept_first(&missing).await?;
        for record in records {
            let key = &record.key.as_bytes()[..];
            if written.get(key) == Some(&record.id) {
                // Of two records with one key in this batch the first was written.
                kept.entry(key.to_vec()).or_insert_with(|| Kept {
                    id: record.id,
                    created_ms: record.created_ms,
                    json: record.json.clone(),
                });
            }
        }
        let outcome = |record: &Record| match kept.get(&record.key.as_bytes()[..]) {
            Some(kept) => Ok(kept.clone()),
            None => Err(StoreError::Invalid(format!("the id {} is another story's", record.id))),
        };
        Ok(records.iter().map(outcome).collect())
    }

    /// The stories kept under these keys.
    async fn kept_first(&self, keys: &[&[u8]]) -> Result<HashMap<Vec<u8>, Kept>, Fault> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        self.pool
            .run(Kind::Read, async |connection| {
                let client = connection.client()?;
                let rows = connection.statements.run(client, Query::FindMany, &[&keys]).await?;
                let mut kept = HashMap::with_capacity(rows.len());
                for row in &rows {
                    let key: Vec<u8> = row.try_get(3)?;
                    if !keys.contains(&&key[..]) {
                        return Err(Fault::nonsense("another key"));
                    }
                    kept.insert(key, statements::kept(row)?);
                }
                Ok(kept)
            })
            .await
    }

    fn set_trouble(&self, reason: Option<String>) {
        let retry_ns = context::now_ns().saturating_add(RETRY_MS * 1_000_000);
        let before = self.trouble.replace(reason.map(|reason| (reason, retry_ns)));
        if before.is_some() && self.trouble.borrow().is_none() {
            tracing::info!("PostgreSQL takes writes again");
        }
    }

    /// The answer to a put while the pause after a failed one lasts.
    fn pause_over(&self) -> Result<(), StoreError> {
        match &*self.trouble.borrow() {
            Some((reason, retry_ns)) if context::now_ns() < *retry_ns => Err(StoreError::Unavailable {
                reason: reason.clone(),
                retry_after_s: RETRY_AFTER_S,
            }),
            _ => Ok(()),
        }
    }

    /// After a failed write, tries whether writing works again: a row as large as a story, which the transaction takes
    /// back. Without this a pod that is out of the balancer because of a full disk would get no put that could show
    /// that space is back.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let outcome = self
            .pool
            .run(Kind::Write, async |connection| {
                match connection.client()?.batch_execute(PROBE).await {
                    Err(error) if error.code().is_some_and(|code| code.code() == PROBE_DONE) => Ok(()),
                    Err(error) => Err(Fault::from(error)),
                    Ok(()) => Ok(()),
                }
            })
            .await;
        match outcome {
            Ok(()) => {
                self.set_trouble(None);
                Ok(())
            }
            Err(fault) => {
                self.set_trouble(Some(fault.error.to_string()));
                Err(fault.error)
            }
        }
    }

    /// Waits until nothing is in flight, for a bounded time.
    pub(super) async fn finish(&self) {
        let end = context::now_ns().saturating_add(limits::STATEMENT_MS * 1_000_000);
        while !self.is_idle() && context::now_ns() < end {
            crate::runtime::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The SQLSTATE by which the probe says that its write worked; raising it is also what takes the row back.
const PROBE_DONE: &str = "RT001";

/// One statement, so that no other call's can come in between. The digits do not compress to less than a few pages.
const PROBE: &str = "DO $$ BEGIN \
    INSERT INTO stories (id, key, json, location_key, style, created_ms) \
    SELECT gen_random_uuid(), decode(md5(random()::text) || md5(random()::text), 'hex'), \
           string_agg(decode(md5(n::text || random()::text), 'hex'), ''::bytea), '', '', 0 \
    FROM generate_series(1, 4096) n; \
    RAISE EXCEPTION USING ERRCODE = 'RT001', MESSAGE = 'the probe takes its row back'; END $$";

/// One of the tasks that put batches; counted however it ends. One that panicked must not leave its queue behind.
struct Flight(Rc<Puts>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.flying.set(self.0.flying.get().saturating_sub(1));
    }
}
