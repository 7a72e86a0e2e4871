//! From a configuration to a serving process, and to its end.

use super::certificate::{self, Reloader};
use super::ports::Ports;
use super::watchdog::{self, Watched};
use super::worker::{self, Want, Word};
use crate::cache::redis;
use crate::config::{Config, StoreAt};
use crate::limits;
use crate::routes::{LABELS, Lifecycle, Process};
use crate::runtime::driver::choose;
use crate::runtime::topology::Topology;
use crate::server::TrustedProxies;
use crate::store::Opened;
use crate::store::embedded::{self, Embedded};
use crate::store::journal::{self, Journal};
use crate::store::postgres::{self, Postgres};
use crate::telemetry::logging::LogCounters;
use crate::telemetry::metrics::Registry;
use crate::tls::TlsError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Why the process did not start: what is wrong, the likely cause, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// An address cannot be had.
    #[error("cannot listen on {addr}: {error}.\n{hint}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system says.
        error: io::Error,
        /// Cause and remedy.
        hint: &'static str,
    },
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] embedded::OpenError),
    /// The certificates for Redis cannot be read.
    #[error(
        "REDIS_URL asks for TLS, but {0}.\nCause: see above.\nRemedy: name a readable PEM file with ?ssl_ca_certs=FILE, or install the system's certificates."
    )]
    Redis(#[from] crate::backend::tls::TlsError),
    /// The database cannot be asked as DATABASE_URL says.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The journal does not open.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A worker did not start.
    #[error("worker {worker} cannot serve: {reason}")]
    Worker {
        /// Which.
        worker: u32,
        /// Why.
        reason: String,
    },
    /// The system refuses threads or signals.
    #[error(
        "the system refuses what the server needs: {0}.\nCause: a limit on threads or descriptors.\nRemedy: raise RLIMIT_NPROC or the cgroup's pids.max, and RLIMIT_NOFILE."
    )]
    System(#[from] io::Error),
}

/// What all workers read.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) process: Arc<Process>,
    pub(super) io_driver: choose::IoDriver,
    pub(super) redis: Option<Arc<redis::Plan>>,
    pub(super) trusted: Arc<TrustedProxies>,
    /// What TLS connections are made with; none where no port speaks it.
    pub(super) tls: Option<certificate::Settings>,
}

fn open_store(config: &Config, workers: usize) -> Result<Opened, BootError> {
    match &config.store {
        StoreAt::Folder(dir) => Ok(Opened::Embedded(Embedded::open(embedded::Config::new(dir))?)),
        StoreAt::Postgres(postgres) => {
            let postgres = Postgres::new(postgres, workers)?;
            match config.journal.as_ref().filter(|journal| journal.is_needed()) {
                Some(journal) => Ok(Opened::Journaled(postgres, Journal::open(journal, workers)?)),
                None => Ok(Opened::Postgres(postgres)),
            }
        }
    }
}

/// Reads the files that DATABASE_URL and REDIS_URL name, as a start does. Connects to nothing.
///
/// # Errors
/// The one with which a start would fail.
pub fn check_files(config: &Config) -> Result<(), BootError> {
    if let StoreAt::Postgres(postgres) = &config.store {
        Postgres::new(postgres, 1)?;
    }
    if let Some(redis) = &config.redis {
        redis::Plan::new(redis.clone())?;
    }
    Ok(())
}

/// Reads what Redis needs, and says how many connections there will be. Whether Redis is there is not asked: a pod must
/// start without it.
fn plan_redis(config: &Config, workers: usize) -> Result<Option<Arc<redis::Plan>>, BootError> {
    let Some(settings) = &config.redis else {
        return Ok(None);
    };
    let plan = redis::Plan::new(settings.clone())?;
    let connections = workers.min(settings.connections_max);
    tracing::info!(server = %settings.target, connections, "Redis is the cache that pods share");
    if connections < workers {
        tracing::warn!(
            workers,
            connections,
            "more workers than REDIS_MAX_CONNECTIONS: those beyond do without Redis"
        );
    }
    Ok(Some(plan))
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // The name stands in headers and JSON: letters, digits, dots and dashes, as DNS has it.
    let clean: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c))
        .take(63)
        .collect();
    if clean.is_empty() {
        "localhost".to_owned()
    } else {
        clean
    }
}

/// Decides the driver for all workers at once, by opening as many as there will be: O_NONBLOCK belongs to a shared
/// listening socket, so io_uring on one worker and epoll on another would break each other, and a limit on locked
/// memory may allow the first ring and refuse the second.
fn choose_driver(
    asked: choose::IoDriver,
    workers: usize,
) -> Result<(choose::IoDriver, Option<choose::Fallback>), BootError> {
    let mut open = Vec::new();
    for worker in 0..workers {
        match choose::open(asked) {
            Ok((_, Some(fallback))) => return Ok((choose::IoDriver::Epoll, Some(fallback))),
            Ok((driver, None)) => open.push(driver),
            Err(error) => {
                return Err(BootError::Worker {
                    worker: worker as u32,
                    reason: error.to_string(),
                });
            }
        }
    }
    let uring = open.first().is_some_and(|driver| driver.name() == "uring");
    Ok((
        if uring {
            choose::IoDriver::Uring
        } else {
            choose::IoDriver::Epoll
        },
        None,
    ))
}

/// Raises the soft limit of open files to the hard one, and gives it. The soft limit is low (1024, as a rule) for the
/// sake of programs that use select(2); this one does not, and each connection takes a descriptor. None: no limit.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Refused: what was allowed before still is.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current
}

/// Serves until told to end. Blocks the calling thread.
///
/// # Errors
/// [`BootError`] when the process cannot begin to serve; an error of a running worker likewise.
pub fn serve(config: Config, log: LogCounters) -> Result<(), BootError> {
    let started = Instant::now();
    let mut signals = Signals::new([SIGTERM, SIGQUIT, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU])?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let open_files = raise_open_files();
    let topology = Topology::detect(config.workers, config.pin);
    for reason in &topology.reasons {
        tracing::info!("workers: {reason}");
    }
    for warning in &topology.warnings {
        tracing::warn!("workers: {warning}");
    }
    let host = host();
    let registry = Registry::of_pod(LABELS, format!("{host}-"));
    registry.watch_log(log);
    let loaded = match &config.tls {
        Some(files) => Some((files.clone(), certificate::first(files, &registry)?)),
        None => None,
    };
    let redis = plan_redis(&config, topology.workers)?;
    let store = open_store(&config, topology.workers)?;
    if let Opened::Journaled(_, journal) = &store {
        registry.watch_journal(journal.handle());
    }
    let ports = Ports::open(&config, topology.workers)?;
    let workers = topology.workers;
    let process = Process::new(host, topology, registry, config.admin_token.clone(), store.kind());
    process.set_face(config.face.clone());
    let (io_driver, fallback) = choose_driver(config.io_driver.into(), workers)?;
    if let Some(fallback) = fallback {
        tracing::warn!("{fallback}");
        process.note_fallback(fallback.to_string());
    }
    let (reloader, tls) = match loaded {
        Some((files, loaded)) => {
            let (reloader, settings) = certificate::keep(files, loaded, Arc::clone(&process.registry))?;
            (Some(reloader), Some(settings))
        }
        None => (None, None),
    };
    let shared = Arc::new(Shared {
        io_driver,
        tls,
        process: Arc::clone(&process),
        trusted: Arc::new(config.trusted.clone()),
        config,
        redis,
    });

    let (words, heard) = mpsc::channel();
    let (want, wanted) = watch::channel(Want::Serve);
    let mut threads = Vec::new();
    for index in 0..workers {
        threads.push(worker::start(
            index as u32,
            ports.lend(index)?,
            Arc::clone(&shared),
            store.lend(),
            words.clone(),
            wanted.clone(),
        )?);
    }
    drop(words);
    let watched = wait_until_serving(&heard, threads.len())?;
    process.advance(Lifecycle::Serving);
    for addr in ports.names() {
        tracing::info!(addr, "listening");
    }
    tracing::info!(
        addr = ports.names().collect::<Vec<_>>().join(","),
        port = ports.number(),
        tls = shared.tls.is_some(),
        workers = threads.len(),
        pinned = process.topology.pin,
        open_files_max = open_files,
        pid = std::process::id(),
        started_in_ms = started.elapsed().as_millis() as u64,
        "ready"
    );

    let (stop_watch, watch_stopped) = mpsc::channel();
    let watching = Arc::clone(&process);
    let listed = Arc::clone(&watched);
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watchdog::run(&listed, &watching, &watch_stopped))?;

    let failed = run_until_told(&mut signals, heard, &watched, &process, reloader.as_ref());
    process.advance(Lifecycle::Draining);
    let delay = shared.config.timeouts.drain_delay;
    let graceful = shared.config.timeouts.graceful;
    if failed.is_none() {
        tracing::info!(
            drain_delay_ms = delay.as_millis() as u64,
            graceful_timeout_ms = graceful.as_millis() as u64,
            "draining: readiness is 503, requests in flight are finished"
        );
    }
    let ended = finish(signals, want, threads, delay, graceful);
    // Nobody listens any more; the files of Unix sockets go.
    drop(ports);
    drop(stop_watch);
    let closing = graceful.max(Duration::from_secs(1));
    if store.close(closing).is_err() {
        tracing::error!("the store did not close in time; every answered story is kept");
    }
    match failed {
        Some(error) => Err(error),
        None => {
            tracing::info!(in_time = ended, "ended");
            Ok(())
        }
    }
}

/// Waits for every worker's word that it serves.
fn wait_until_serving(heard: &Receiver<Word>, workers: usize) -> Result<Watched, BootError> {
    let watched: Watched = Arc::new(Mutex::new(Vec::new()));
    let deadline = Instant::now() + Duration::from_millis(limits::health::BOOT_MS_MAX);
    let mut serving = 0;
    while serving < workers {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Word::Serving(index, heartbeat)) => {
                note(&watched, index, heartbeat);
                serving += 1;
            }
            Ok(Word::Failed(worker, reason)) => return Err(BootError::Worker { worker, reason }),
            Ok(Word::Ended(worker, _)) => {
                return Err(BootError::Worker {
                    worker,
                    reason: "it ended at once".to_owned(),
                });
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let reason = "it did not say that it serves; the log may say why".to_owned();
                return Err(BootError::Worker {
                    worker: serving as u32,
                    reason,
                });
            }
        }
    }
    Ok(watched)
}

fn note(watched: &Watched, index: u32, heartbeat: Arc<crate::runtime::heartbeat::Heartbeat>) {
    let mut list = watched.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    list.retain(|(known, _)| *known != index);
    list.push((index, heartbeat));
}

/// Sleeps until a signal asks for the end, or a worker ends without being asked.
fn run_until_told(
    signals: &mut Signals,
    heard: Receiver<Word>,
    watched: &Watched,
    process: &Arc<Process>,
    reloader: Option<&Reloader>,
) -> Option<BootError> {
    // Workers' words come on a channel, signals on a pipe: a small thread turns the first into the second's kind.
    let failed: Arc<Mutex<Option<BootError>>> = Arc::default();
    let (noting, listed, asked) = (Arc::clone(&failed), Arc::clone(watched), Arc::clone(process));
    let listening = std::thread::Builder::new().name("words".into()).spawn(move || {
        while let Ok(word) = heard.recv() {
            let error = match word {
                Word::Serving(index, heartbeat) => {
                    note(&listed, index, heartbeat);
                    continue;
                }
                Word::Failed(worker, reason) => BootError::Worker { worker, reason },
                Word::Ended(worker, cut_off) => {
                    if cut_off > 0 {
                        tracing::warn!(
                            worker,
                            connections = cut_off,
                            "connections were cut off at the graceful timeout"
                        );
                    }
                    if asked.lifecycle() == Lifecycle::Draining {
                        continue;
                    }
                    BootError::Worker {
                        worker,
                        reason: "it ended without being asked".to_owned(),
                    }
                }
            };
            tracing::error!("{error}");
            *noting.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
        }
    });
    if let Err(error) = listening {
        return Some(BootError::System(error));
    }
    for signal in signals.forever() {
        match (signal, reloader) {
            (SIGTERM | SIGQUIT | SIGINT, _) => break,
            (SIGHUP, Some(reloader)) => reloader.ask(),
            (other, _) => {
                let name = signal_hook::low_level::signal_name(other).unwrap_or("?");
                tracing::warn!(signal = name, "this version does nothing on this signal");
            }
        }
    }
    failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
}

/// Drains the workers. A second SIGINT ends the process at once. True if all ended in time.
fn finish(
    mut signals: Signals,
    want: watch::Sender<Want>,
    threads: Vec<std::thread::JoinHandle<()>>,
    delay: Duration,
    graceful: Duration,
) -> bool {
    let handle = signals.handle();
    let impatient = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT {
                // Answered stories are safe on disk; nothing else needs an orderly end.
                std::process::exit(130);
            }
        }
    });
    if !delay.is_zero() {
        std::thread::sleep(delay);
    }
    let _ = want.send(Want::Drain);
    let deadline = Instant::now() + graceful + Duration::from_millis(limits::health::DRAIN_MARGIN_MS);
    while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let in_time = threads.iter().all(std::thread::JoinHandle::is_finished);
    if in_time {
        for thread in threads {
            let _ = thread.join();
        }
    } else {
        tracing::error!("a worker did not end in time; the process ends without it");
    }
    handle.close();
    if let Ok(impatient) = impatient {
        let _ = impatient.join();
    }
    in_time
}
