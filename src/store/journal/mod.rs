//! Stories that PostgreSQL cannot take now, on this pod's disk until it can.
//!
//! With STORE_OUTAGE=journal a story is kept here where the database is away, refuses, or does not answer in time: a
//! record in a segment ([`folder`], [`record`]), flushed before the story is answered. While there are such stories they
//! are found by id and by request on every worker of the pod, and [`replay`] puts them into the database as soon as it
//! answers. A start of the program replays whatever an earlier one left, however it ended.
//!
//! [`Journal`] is the process's part, opened by the supervisor; [`Client`] a worker's, and a store like the others. All
//! files are the helper threads' ([`threads`]): one for the process, not one a worker, so that one flush is shared by
//! all workers, a story is found on each, and the number of workers may change. Workers only look at counters, and ask
//! where those say that there is something to find: with an empty journal a call costs one load more.
//!
//! Segments, and not a table of the embedded store's engine, because of what must hold on bad days: a full disk must not
//! keep the journal from getting empty (removing a file needs no space, deleting rows of a copy-on-write tree does); space
//! goes back to the disk with the stories; JOURNAL_BYTES_MAX is a bound on files; and damage costs the stories that it
//! hits, where damage to a tree hides whatever hangs below it.
//!
//! **One key, two stories.** The table of stories has one row a key. Where another pod told a story for the same request
//! meanwhile, that one stays the answer to the request, and the journal's goes in under a key of its own
//! (`replay::apart`): its id was answered, and is found for good.
//!
//! Deliberately absent: lists (they are the database's, and 503 without it), and reading another pod's journal (its
//! stories are found through Redis, and by all once they are replayed).

mod client;
mod folder;
pub mod limits;
mod record;
mod replay;
#[cfg(test)]
mod tests;
mod threads;
mod writer;

pub use client::Client;

use crate::store::postgres;
use folder::Folder;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use threads::{Ends, Running};
use writer::{Log, Writer};

/// Where the journal is, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// JOURNAL_DIR.
    pub dir: PathBuf,
    /// JOURNAL_BYTES_MAX: bytes of all segments.
    pub bytes_max: u64,
    /// STORE_OUTAGE=journal. Else it only replays what is there from before.
    pub takes: bool,
}

impl Config {
    /// Whether there is anything to open: it takes stories, or has some from before.
    pub fn is_needed(&self) -> bool {
        self.takes || folder::is_used(&self.dir)
    }
}

/// Why the journal did not open. The text says what is wrong, the likely cause, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the journal in {dir}: {source}\n  cause: {cause}\n  remedy: {remedy}")]
pub struct OpenError {
    dir: PathBuf,
    source: io::Error,
    cause: &'static str,
    remedy: &'static str,
}

impl OpenError {
    fn new(dir: &Path, source: io::Error) -> OpenError {
        let (cause, remedy) = match source.kind() {
            ErrorKind::PermissionDenied => (
                "the folder or a file in it belongs to another user",
                "give it to the user that runs roadtrip-api (chown), or point JOURNAL_DIR at a folder it may write",
            ),
            ErrorKind::ReadOnlyFilesystem => (
                "a container with a read-only root, or a disk that the kernel remounted after an error",
                "mount a writable volume and point JOURNAL_DIR at it; after disk errors see the kernel log",
            ),
            _ if folder::is_full(&source) => (
                "the disk or the quota of JOURNAL_DIR is full",
                "free space there, or point JOURNAL_DIR at another disk; or set STORE_OUTAGE=refuse",
            ),
            _ => (
                "see above",
                "check the folder JOURNAL_DIR and its disk; or set STORE_OUTAGE=refuse",
            ),
        };
        OpenError {
            dir: dir.to_owned(),
            source,
            cause,
            remedy,
        }
    }
}

/// Counts of the process, written by the helper threads and the replay, read by all.
#[derive(Debug, Default)]
struct Figures {
    /// Stories that are not in the database.
    records: AtomicU64,
    bytes: AtomicU64,
    /// When the oldest of them was told, milliseconds since the Unix epoch; 0: there is none.
    oldest_ms: AtomicU64,
    /// Files with damage.
    set_aside: AtomicU64,
    kept: AtomicU64,
    replayed: AtomicU64,
    refused: AtomicU64,
    /// Stories that the database will not have, in the last replay.
    unwanted: AtomicU64,
    /// The last write failed.
    failing: AtomicBool,
    /// Why.
    trouble: Mutex<Option<String>>,
}

impl Figures {
    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True where there was trouble and is none now.
    fn set_trouble(&self, reason: Option<String>) -> bool {
        let failing = reason.is_some();
        let was = self.failing.swap(failing, Ordering::Relaxed);
        if was || failing {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        }
        was && !failing
    }
}

/// What the process and its workers share.
#[derive(Debug)]
struct Shared {
    config: Config,
    workers: usize,
    figures: Arc<Figures>,
    /// Set once the folder is this process's.
    ends: OnceLock<Ends>,
    running: Mutex<Option<Running>>,
    /// Who has the folder, where it is not this process.
    held: Mutex<Option<String>>,
    closing: AtomicBool,
    /// The database did not take a story: the next ones go to the journal at once.
    away: AtomicBool,
    /// A worker replays.
    replaying: AtomicBool,
    /// No replay before this time, nanoseconds of the workers' clock.
    replay_ns: AtomicU64,
}

impl Shared {
    /// Opens the folder and starts the threads; where another process has it, says which.
    fn open(&self) -> io::Result<Result<(), String>> {
        let folder = match Folder::lock(&self.config.dir)? {
            Ok(folder) => folder,
            Err(who) => return Ok(Err(who)),
        };
        let found = folder.read()?;
        let (log, next) = Log::new(folder, found, Arc::clone(&self.figures));
        let writer = Writer::new(Arc::clone(&log), next, self.config.bytes_max);
        let (puts, reads) = (limits::PUTS_PER_WORKER, limits::READS_PER_WORKER);
        let (ends, running) = threads::start(
            &log,
            writer,
            puts.saturating_mul(self.workers),
            reads.saturating_mul(self.workers),
        )?;
        let records = self.records();
        if records > 0 {
            tracing::warn!(
                stories = records,
                dir = %self.config.dir.display(),
                "the journal has stories that are not in PostgreSQL yet: they are put there as soon as it answers"
            );
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        let _ = self.ends.set(ends);
        Ok(Ok(()))
    }

    fn set_held(&self, who: String) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
    }

    fn records(&self) -> u64 {
        self.figures.records.load(Ordering::Relaxed)
    }

    /// Whether it keeps stories now.
    fn has_room(&self) -> bool {
        let room = self
            .config
            .bytes_max
            .saturating_sub(self.figures.bytes.load(Ordering::Relaxed));
        self.config.takes
            && self.ends.get().is_some()
            && !self.figures.failing.load(Ordering::Relaxed)
            && room >= record::RECORD_BYTES_MAX as u64
    }
}

/// The process's journal.
#[derive(Debug)]
pub struct Journal(Handle);

/// The same, lent: to workers, and to whoever tells its figures.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

impl Journal {
    /// Opens it, for so many workers. Where another process has the folder (the one before this, which still drains), a
    /// thread waits for it, and until then nothing is kept. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: &Config, workers: usize) -> Result<Journal, OpenError> {
        let shared = Arc::new(Shared {
            config: config.clone(),
            workers: workers.max(1),
            figures: Arc::default(),
            ends: OnceLock::new(),
            running: Mutex::default(),
            held: Mutex::default(),
            closing: AtomicBool::new(false),
            away: AtomicBool::new(false),
            replaying: AtomicBool::new(false),
            replay_ns: AtomicU64::new(0),
        });
        let failed = |error| OpenError::new(&config.dir, error);
        if let Err(who) = shared.open().map_err(failed)? {
            tracing::warn!("the journal waits: {who}");
            shared.set_held(who);
            let waiting = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("journal-lock".into());
            thread.spawn(move || wait_for_lock(&waiting)).map_err(failed)?;
        }
        Ok(Journal(Handle(shared)))
    }

    /// What to lend.
    pub fn handle(&self) -> Handle {
        self.0.clone()
    }

    /// Keeps what waits, and ends the threads. Blocks up to the deadline. What is in the journal stays there, for the
    /// next start.
    ///
    /// # Errors
    /// When it did not end in time.
    pub fn close(self, deadline: Duration) -> Result<(), crate::store::embedded::CloseTimedOut> {
        let shared = &self.0.0;
        shared.closing.store(true, Ordering::Relaxed);
        let running = shared.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = running.is_none_or(|running| running.close(deadline));
        let records = shared.records();
        if records > 0 {
            tracing::warn!(
                stories = records,
                dir = %shared.config.dir.display(),
                "stories stay in the journal: they were answered and are nowhere else; the next start with this JOURNAL_DIR puts them into PostgreSQL"
            );
        }
        if ended {
            Ok(())
        } else {
            Err(crate::store::embedded::CloseTimedOut)
        }
    }
}

impl Drop for Journal {
    /// Without [`Journal::close`] the threads still end by themselves, but nobody waits for them.
    fn drop(&mut self) {
        self.0.0.closing.store(true, Ordering::Relaxed);
        drop(self.0.0.running.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn wait_for_lock(shared: &Shared) {
    let (mut pause_ms, mut told) = (limits::LOCK_POLL_MS, String::new());
    while !shared.closing.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(pause_ms));
        match shared.open() {
            Ok(Ok(())) => {
                tracing::info!("the journal is this process's now");
                return;
            }
            Ok(Err(who)) => shared.set_held(who),
            Err(error) => {
                // It may pass (no thread to be had, a disk that fails): there are stories in it, and it is read whole
                // each time.
                let error = OpenError::new(&shared.config.dir, error).to_string();
                if told != error {
                    tracing::error!(error, "the journal is of no use; trying on");
                    told.clone_from(&error);
                }
                shared.set_held(error);
                pause_ms = limits::OPEN_AGAIN_MS;
            }
        }
    }
}

/// Where the journal stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In one word: `idle`, `keeping` (the database is away), `replaying` (stories wait for it), `full`, `failing`,
    /// `locked` (another process has the folder), `off` (it only replays).
    pub state: &'static str,
    /// Stories that are not in the database.
    pub records: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Of how many it may have.
    pub bytes_max: u64,
    /// When the oldest of the stories was told, milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
    /// Files of damage that were set aside.
    pub set_aside: u64,
    /// Stories that the database will not have: they stay.
    pub unwanted: u64,
    /// Stories kept since the start.
    pub kept: u64,
    /// Stories replayed since the start.
    pub replayed: u64,
    /// Stories refused because it was full.
    pub refused: u64,
    /// What is wrong with it.
    pub reason: Option<String>,
}

impl Report {
    const FULL: &'static str = "the journal is full (JOURNAL_BYTES_MAX)";

    /// Whether an operator should look.
    pub fn is_well(&self) -> bool {
        matches!(self.state, "idle" | "off") && self.records == 0 && self.set_aside == 0
    }
}

impl Handle {
    /// A worker's store: PostgreSQL with this journal behind it. Call it on the worker, in its runtime.
    pub fn attach(&self, database: &postgres::Postgres) -> Client {
        Client::new(database.attach(), Arc::clone(&self.0))
    }

    /// Where it stands. Never waits for a disk.
    pub fn report(&self) -> Report {
        let shared = &*self.0;
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let figures = &shared.figures;
        let held = shared.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = figures.trouble();
        let records = get(&figures.records);
        let state = if shared.ends.get().is_none() {
            "locked"
        } else if trouble.is_some() {
            "failing"
        } else if shared.config.takes && !shared.has_room() {
            "full"
        } else if shared.away.load(Ordering::Relaxed) && shared.config.takes {
            "keeping"
        } else if records > 0 {
            "replaying"
        } else if shared.config.takes {
            "idle"
        } else {
            "off"
        };
        Report {
            state,
            records,
            bytes: get(&figures.bytes),
            bytes_max: shared.config.bytes_max,
            oldest_ms: Some(get(&figures.oldest_ms)).filter(|_| records > 0),
            set_aside: get(&figures.set_aside),
            unwanted: get(&figures.unwanted),
            kept: get(&figures.kept),
            replayed: get(&figures.replayed),
            refused: get(&figures.refused),
            reason: held
                .or(trouble)
                .or_else(|| (state == "full").then(|| Report::FULL.to_owned())),
        }
    }
}
