//! The open database, and its way back after a failure.
//!
//! redb refuses everything after a failed system call until the file is opened anew. So the database sits in a slot:
//! who finds it failed empties the slot, opens the file again (which rolls back to the last commit), and everyone goes
//! on. Time comes from the system here, not from a runtime: these are helper threads, outside the simulation.

use super::containment::{Contained, Panicked, contained};
use super::file::Faults;
use super::open::{self, OpenError};
use super::schema::{self, Tables};
use super::{Config, ms_since};
use crate::limits::store::{RETRY_AFTER_S, STORY_BYTES_MAX};
use crate::store::{Health, Kept, Record, State, StoreError};
use redb::{Database, ReadTransaction, ReadableDatabase};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Free bytes without which the disk counts as full: a few of the largest stories.
const PROBE_FREE_BYTES: u64 = 4 * STORY_BYTES_MAX as u64;

/// Counts, written by the helper threads and read at scrape.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) stories: AtomicU64,
    pub(super) puts: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) last_commit_us: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Engine {
    config: Config,
    slot: RwLock<Slot>,
    /// Why the last write or opening failed, until one succeeds.
    trouble: Mutex<Option<Trouble>>,
    figures: Figures,
    file_bytes: Arc<AtomicU64>,
    faults: Arc<Faults>,
    /// redb panicked: then the file is not written to at its closing.
    is_damaged: AtomicBool,
    /// A write panicked: then nothing more is written, lest live pages be taken for free ones.
    is_read_only: AtomicBool,
}

struct Slot {
    database: Option<Contained<Database>>,
    /// Counts the openings, so that one failure is not repaired twice.
    generation: u64,
    is_closed: bool,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Trouble {
    reason: String,
    /// When to try again.
    retry_at: Instant,
}

/// What a failed piece of work means.
struct Failure {
    error: StoreError,
    /// The database must be opened anew before anything else works.
    is_latched: bool,
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        let is_latched = open::is_latched(&error);
        let error = match error {
            redb::Error::Corrupted(detail) => StoreError::Corrupt(detail),
            // A page number that leads beyond the end.
            redb::Error::Io(source) if source.kind() == ErrorKind::UnexpectedEof => {
                StoreError::Corrupt(source.to_string())
            }
            redb::Error::Io(source) if open::is_disk_full(&source) => StoreError::unavailable(format!(
                "the disk or quota of DATA_DIR is full ({source}); free space there, the store goes on by itself"
            )),
            other => StoreError::unavailable(other.to_string()),
        };
        Failure { error, is_latched }
    }
}

impl Engine {
    pub(super) fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_with(config, Arc::new(Faults::default()))
    }

    pub(super) fn open_with(config: Config, faults: Arc<Faults>) -> Result<Self, OpenError> {
        open::create_dir(&config.dir)?;
        let file_bytes = Arc::new(AtomicU64::new(0));
        let (database, stories) = open::open_database(&config, config.lock_wait, &file_bytes, &faults)?;
        let figures = Figures {
            stories: AtomicU64::new(stories),
            ..Figures::default()
        };
        Ok(Engine {
            config,
            slot: RwLock::new(Slot {
                database: Some(database),
                generation: 0,
                is_closed: false,
            }),
            trouble: Mutex::new(None),
            figures,
            file_bytes,
            faults,
            is_damaged: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    pub(super) fn health(&self) -> Health {
        let trouble = self.trouble();
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Health {
            available: trouble.is_none(),
            // It is in trouble after a failed write.
            state: trouble.as_ref().map_or(State::Serving, |_| State::NoWrites),
            reason: trouble.map(|trouble| trouble.reason),
            stories: get(&self.figures.stories),
            file_bytes: get(&self.file_bytes),
            puts: get(&self.figures.puts),
            commits: get(&self.figures.commits),
            refused: get(&self.figures.refused),
            failures: get(&self.figures.failures),
            last_commit: Duration::from_micros(get(&self.figures.last_commit_us)),
            put_queue: 0,
            read_queue: 0,
            connections: 0,
        }
    }

    /// Runs a read on a snapshot.
    pub(super) fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with(|database| work(&database.begin_read()?))
    }

    /// Whether writes fail, as far as is known.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble().is_some()
    }

    /// After a failed write, tries whether writing works again. Without this a server that is taken out of the
    /// balancer while its disk is full would get no put that could show that space is back.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        self.pause_over()?;
        // A commit as small as the probe's fits into pages freed before, however full the disk; a story does not.
        let free = rustix::fs::statvfs(&self.config.dir).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        if free.is_ok_and(|bytes| bytes < PROBE_FREE_BYTES) {
            let error = StoreError::unavailable("the disk of DATA_DIR is full; free space there".to_owned());
            self.set_trouble(Some(error.to_string()));
            return Err(error);
        }
        let tried = self.write(schema::probe);
        self.set_trouble(tried.as_ref().err().map(ToString::to_string));
        tried
    }

    /// Keeps a batch in one durable commit; the outcome of each record, or one error for all.
    pub(super) fn commit(&self, records: &[Record]) -> Result<Vec<Outcome>, StoreError> {
        self.pause_over()?;
        let start = Instant::now();
        match self.write(|database| write_batch(database, records)) {
            Ok((outcomes, stories)) => {
                if let Some(stories) = stories {
                    let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.figures.last_commit_us.store(us, Ordering::Relaxed);
                    self.figures.stories.store(stories, Ordering::Relaxed);
                    self.figures.commits.fetch_add(1, Ordering::Relaxed);
                    self.set_trouble(None);
                }
                let kept = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                self.figures
                    .puts
                    .fetch_add(u64::try_from(kept).unwrap_or(0), Ordering::Relaxed);
                Ok(outcomes)
            }
            Err(error) => {
                self.figures.failures.fetch_add(1, Ordering::Relaxed);
                if error != StoreError::Closed {
                    tracing::error!(%error, stories_waiting = records.len(), "stories could not be kept");
                    self.set_trouble(Some(error.to_string()));
                }
                Err(error)
            }
        }
    }

    /// Closes the file, for good.
    pub(super) fn close(&self) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        slot.is_closed = true;
        let Some(database) = slot.database.take() else {
            return;
        };
        if self.is_damaged.load(Ordering::Relaxed) {
            return;
        }
        let error = match contained(|| database.into_inner().close()) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(Panicked) => Panicked::DETAIL.to_owned(),
        };
        // Nothing is lost: the next start finds the last commit.
        tracing::warn!(error, "the story store did not close cleanly");
    }

    fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, reason: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_some() && reason.is_none() {
            tracing::info!("the story store is well again");
        }
        *trouble = reason.map(|reason| Trouble {
            reason,
            retry_at: after(self.config.retry),
        });
    }

    /// After a write that panicked there are no others, whatever a pause would say.
    fn writable(&self) -> Result<(), StoreError> {
        if self.is_read_only.load(Ordering::Relaxed) {
            let detail = format!("{}; nothing is written until it is restored", Panicked::DETAIL);
            return Err(StoreError::Corrupt(detail));
        }
        Ok(())
    }

    /// The answer to a write while the pause after a failed one lasts.
    fn pause_over(&self) -> Result<(), StoreError> {
        self.writable()?;
        let Some(trouble) = self.trouble() else {
            return Ok(());
        };
        let left_ms = trouble.retry_at.saturating_duration_since(Instant::now()).as_millis();
        if left_ms == 0 {
            return Ok(());
        }
        let left_s = u32::try_from(left_ms.div_ceil(1000))
            .unwrap_or(RETRY_AFTER_S)
            .max(RETRY_AFTER_S);
        Err(StoreError::Unavailable {
            reason: trouble.reason,
            retry_after_s: left_s,
        })
    }

    /// Runs a write, after [`Engine::pause_over`]. Called by the writer thread alone.
    fn write<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with(|database| {
            // Stays so where the work does not come back.
            self.is_read_only.store(true, Ordering::Relaxed);
            let outcome = work(database);
            self.is_read_only.store(false, Ordering::Relaxed);
            outcome
        })
    }

    /// Runs work on the open database, opening it again where it is not.
    fn with<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let mut is_second_try = false;
        loop {
            let seen = {
                let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
                if slot.is_closed {
                    return Err(StoreError::Closed);
                }
                if let Some(database) = &slot.database {
                    let failure = match contained(|| work(database)) {
                        Ok(Ok(value)) => return Ok(value),
                        Ok(Err(error)) => Failure::from(error),
                        Err(Panicked) => {
                            self.is_damaged.store(true, Ordering::Relaxed);
                            Failure {
                                error: StoreError::Corrupt(Panicked::DETAIL.to_owned()),
                                is_latched: true,
                            }
                        }
                    };
                    if failure.is_latched {
                        let generation = slot.generation;
                        drop(slot);
                        self.reopen(generation, Some(&failure.error));
                    }
                    return Err(failure.error);
                }
                slot.generation
            };
            if is_second_try {
                let reason = self
                    .trouble()
                    .map_or_else(|| "the file is not open".to_owned(), |trouble| trouble.reason);
                return Err(StoreError::unavailable(reason));
            }
            is_second_try = true;
            self.reopen(seen, None);
        }
    }

    /// Closes the database of that generation and opens the next. At once after a failure (`fresh`); where an opening
    /// failed before, not before its pause is over.
    fn reopen(&self, generation: u64, fresh: Option<&StoreError>) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        let is_paused = fresh.is_none() && self.trouble().is_some_and(|trouble| Instant::now() < trouble.retry_at);
        if slot.generation != generation || slot.is_closed || is_paused {
            return;
        }
        let start = Instant::now();
        // The lock of the old one must go first.
        drop(slot.database.take());
        match open::open_database(&self.config, Duration::ZERO, &self.file_bytes, &self.faults) {
            Ok((database, stories)) => {
                let cause = fresh.map(ToString::to_string);
                tracing::warn!(
                    cause,
                    ms = ms_since(start),
                    "the story store was opened again after a failure"
                );
                self.figures.stories.store(stories, Ordering::Relaxed);
                slot.database = Some(database);
                slot.generation = slot.generation.wrapping_add(1);
            }
            Err(error) => {
                tracing::error!(%error, "the story store could not be opened again");
                self.set_trouble(Some(error.to_string()));
            }
        }
    }
}

fn after(pause: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(pause).unwrap_or(now)
}

/// What became of a record: kept as it is (none), or the story kept before under its key, or refused.
pub(super) type Outcome = Result<Option<Kept>, StoreError>;

/// Each record's outcome, and the number of stories now kept where something was written.
type Batch = (Vec<Outcome>, Option<u64>);

fn write_batch(database: &Database, records: &[Record]) -> Result<Batch, redb::Error> {
    let transaction = schema::begin_write(database)?;
    let mut outcomes = Vec::with_capacity(records.len());
    let mut is_changed = false;
    let mut row = Vec::new();
    let stories = {
        let mut tables = Tables::open(&transaction)?;
        for record in records {
            let kept = schema::story_of_key(&*tables.stories, &*tables.keys, &record.key)?;
            outcomes.push(match kept {
                Some(first) => Ok(Some(first)),
                None if redb::ReadableTable::get(&*tables.stories, &record.id.into_bytes())?.is_some() => {
                    Err(StoreError::Invalid(format!("the id {} is another story's", record.id)))
                }
                None => {
                    tables.insert(record, &mut row)?;
                    is_changed = true;
                    Ok(None)
                }
            });
        }
        redb::ReadableTableMetadata::len(&*tables.stories)?
    };
    if !is_changed {
        transaction.into_inner().abort()?;
        return Ok((outcomes, None));
    }
    transaction.into_inner().commit()?;
    Ok((outcomes, Some(stories)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::containment::hush_contained_panics;

    #[test]
    fn after_a_write_that_panicked_nothing_is_written_and_reads_go_on() {
        hush_contained_panics();
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            retry: Duration::ZERO,
            ..Config::new(dir.path())
        };
        let engine = Engine::open(config.clone()).unwrap();
        let corrupt = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::Corrupt(_)));
        let read = |engine: &Engine| engine.read(|at| schema::count(at).map(drop));
        // A read that panics stops nothing else.
        assert!(corrupt(engine.read(|_| panic!("meant"))));
        assert_eq!((read(&engine), engine.probe()), (Ok(()), Ok(())));
        assert!(corrupt(engine.write(|_| panic!("meant"))));
        assert!(corrupt(engine.probe()) && corrupt(engine.commit(&[]).map(drop)));
        assert_eq!(read(&engine), Ok(()));
        // Closed without a write, and sound.
        let file = dir.path().join(open::FILE_NAME);
        let content = std::fs::read(&file).unwrap();
        engine.close();
        assert!(std::fs::read(&file).unwrap() == content);
        let engine = Engine::open(config).unwrap();
        assert_eq!((read(&engine), engine.probe()), (Ok(()), Ok(())));
    }
}
