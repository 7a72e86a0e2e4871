//! From a configuration to a serving process, and to its end.

use super::certificate;
use super::drain;
use super::elders::Elders;
use super::fleet::{Fleet, Told};
use super::handover::Inherited;
use super::lead::{Event, Lead};
use super::memory::{self, Memory};
use super::parent::Parent;
use super::pid_file::PidFile;
use super::ports::Ports;
use super::rescue::Rescue;
use super::stay;
use super::upgrade::Origin;
use super::watchdog;
use crate::cache::redis;
use crate::config::{Config, StoreAt};
use crate::limits::life::HANDOVER_MAX;
use crate::routes::{LABELS, Lifecycle, Process};
use crate::runtime::driver::choose;
use crate::runtime::topology::Topology;
use crate::server::{Balance, TrustedProxies};
use crate::store::Opened;
use crate::store::embedded::{self, Embedded};
use crate::store::journal::{self, Journal};
use crate::store::postgres::{self, Postgres};
use crate::telemetry::logging::LogControl;
use crate::telemetry::metrics::Registry;
use crate::tls::TlsError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

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
    /// The process that this one was to replace did not let go of the store, or of the sockets.
    #[error(
        "the process before does not make way: {0}.\nCause: it is stopped, or hangs.\nRemedy: end it, and start anew."
    )]
    Handover(io::Error),
    /// The process that this one was to replace does not want it any more.
    #[error(
        "the process before has given this one up.\nCause: it was told to end, or this one was not ready in UPGRADE_TIMEOUT.\nRemedy: none is needed where the end was asked for; else see what took so long."
    )]
    GivenUp,
    /// The system refuses threads or signals.
    #[error(
        "the system refuses what the server needs: {0}.\nCause: a limit on threads or descriptors.\nRemedy: raise RLIMIT_NPROC or the cgroup's pids.max, and RLIMIT_NOFILE."
    )]
    System(#[from] io::Error),
}

/// What all workers read.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) process: Arc<Process>,
    pub(super) io_driver: choose::IoDriver,
    pub(super) redis: Option<Arc<redis::Plan>>,
    pub(super) trusted: Arc<TrustedProxies>,
    /// What TLS connections are made with; none where no port speaks it.
    pub(super) tls: Option<certificate::Settings>,
    /// Who stands in for workers that do not accept.
    pub(super) rescue: Arc<Rescue>,
    /// By which workers share fresh connections out.
    pub(super) balance: Arc<Balance>,
    /// What they are to do about memory.
    pub(super) memory: Memory,
}

/// Opens the store; waits so long for another process to let go of its file.
pub(super) fn open_store(config: &Config, workers: usize, lock_wait: Duration) -> Result<Opened, BootError> {
    match &config.store {
        StoreAt::Folder(dir) => {
            let config = embedded::Config {
                lock_wait,
                ..embedded::Config::new(dir)
            };
            Ok(Opened::Embedded(Embedded::open(config)?))
        }
        StoreAt::Postgres(postgres) => {
            let postgres = Postgres::new(postgres, workers)?;
            // Its folder may be another process's still: it waits for that on a thread of its own.
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

/// Serves until told to end. Blocks the calling thread. Gives the exit code: 0, or that of the process which this one has
/// stayed behind.
///
/// # Errors
/// [`BootError`] when the process cannot begin to serve; an error of a running worker likewise.
pub fn serve(config: Config, log: LogControl) -> Result<u8, BootError> {
    let started = Instant::now();
    crate::telemetry::panics::log_them();
    let mut inherited = Inherited::take();
    if inherited.is_given_up {
        return Err(BootError::GivenUp);
    }
    let origin = Origin::of_this_process()?;
    let (sender, events) = mpsc::channel();
    let is_ending = Arc::new(AtomicBool::new(false));
    listen_for_signals(sender.clone(), Arc::clone(&is_ending))?;
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
    registry.watch_log(log.counters());
    let loaded = match &config.tls {
        Some(files) => Some((files.clone(), certificate::first(files, &registry)?)),
        None => None,
    };
    let workers = topology.workers;
    let redis = plan_redis(&config, workers)?;
    let parent = inherited.parent();
    let mut elders = Elders::new(inherited.alive(), parent.is_some());
    let pids = inherited.pids();
    let ports = Ports::open(&config, workers, &mut inherited)?;
    inherited.close_rest();
    let (io_driver, fallback) = choose_driver(config.io_driver.into(), workers)?;
    if let Some(parent) = &parent
        && (matches!(config.store, StoreAt::Folder(_)) || !parent.agrees_on(io_driver))
    {
        // Everything else is known to work by now: nobody serves for as short as can be.
        let time = config.life.upgrade_timeout + Duration::from_secs(1);
        if !parent.wait_for_go(time).map_err(BootError::Handover)? {
            return Err(BootError::GivenUp);
        }
    }
    let lock_wait = if parent.is_some() { HANDOVER_MAX } else { Duration::ZERO };
    let store = open_store(&config, workers, lock_wait)?;
    if parent.as_ref().is_some_and(Parent::has_given_up) {
        return Err(BootError::GivenUp);
    }
    // Before the workers begin, as it may fail.
    let announce = parent.map(|parent| parent.listen(&sender)).transpose()?;
    if let Opened::Journaled(_, journal) = &store {
        registry.watch_journal(journal.handle());
    }
    let plan = memory::Plan::of(&config, workers);
    for reason in &plan.reasons {
        tracing::info!("memory: {reason}");
    }
    for warning in &plan.warnings {
        tracing::warn!("memory: {warning}");
    }
    let process = Process::new(host, topology, registry, config.admin_token.clone(), store.kind());
    process.set_face(config.face.clone());
    process.rate.apply(config.rate_limit.clone());
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
    let is_first = std::process::id() == 1;
    let stays = config.life.upgrade_stay.unwrap_or(is_first) && pids.is_none();
    if stays && !is_first {
        // Of those that it stays behind, some are children of children.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)?;
    }
    let pid_file = config.life.pid_file.clone();
    let (memory, stop_looking) = memory::watch(plan, &process)?;
    let shared = Arc::new(Shared {
        io_driver,
        memory,
        tls,
        process: Arc::clone(&process),
        trusted: Arc::new(config.trusted.clone()),
        config,
        redis,
        rescue: Arc::default(),
        balance: Arc::default(),
    });

    shared.rescue.departures.set_elders(elders.look(Instant::now()));
    // Of inherited sockets there may be more: each has its worker until its queue is empty.
    let lives = workers.max(ports.sockets());
    let mut fleet = Fleet::new(Arc::clone(&shared), ports, store.lend(), sender.clone());
    let begun = fleet
        .launch(lives)
        .and_then(|()| wait_until_serving(&events, &mut fleet));
    let (early, broken) = match begun {
        Ok(early) => (early, None),
        // The sockets are those that the old process goes on with: workers that serve already are told to leave them as they
        // are. Those that lose their supervisor would end them.
        Err(error) if announce.is_some() => (Vec::new(), Some(error)),
        Err(error) => return Err(error),
    };
    let is_whole = broken.is_none();
    if is_whole {
        fleet.want(workers);
    }
    for signal in early {
        // Nobody else has the other end.
        let _ = sender.send(Event::Signal(signal));
    }
    let pid_file = pid_file.filter(|_| is_whole).and_then(|path| PidFile::write(&path));
    if is_whole {
        process.advance(Lifecycle::Serving);
        if let Some(announce) = announce {
            fleet.ports.take_files();
            announce.ready();
        }
        for addr in fleet.ports.names() {
            tracing::info!(addr, "listening");
        }
        tracing::info!(
            addr = fleet.ports.names().collect::<Vec<_>>().join(","),
            port = fleet.ports.number(),
            tls = shared.tls.is_some(),
            workers,
            pinned = process.topology.pin,
            open_files_max = open_files,
            pid = std::process::id(),
            started_in_ms = started.elapsed().as_millis() as u64,
            "ready"
        );
    }

    let (stop_watch, watch_stopped) = mpsc::channel();
    let watching = Arc::clone(&process);
    let listed = Arc::clone(&fleet.watched);
    let (watch, rescue) = (shared.config.watch, Arc::clone(&shared.rescue));
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watchdog::run(&listed, &watching, watch, &rescue, &watch_stopped))?;

    let over = Lead {
        events,
        sender,
        fleet,
        store: Some(store),
        reloader,
        log,
        origin,
        pid_file,
        pids,
        elders,
        presence: None,
        stays,
        is_ending,
        broken,
    }
    .run();
    if !over.in_time {
        tracing::error!("a worker did not end in time; the process ends without it");
    }
    drop((stop_watch, stop_looking));
    let patience = drain::store_patience(over.graceful);
    if over.store.is_some_and(|store| store.close(patience).is_err()) {
        tracing::error!("the store did not close in time; every answered story is kept");
    }
    match (over.failed, over.stay) {
        (Some(error), _) => Err(error),
        (None, Some((serving, successors, gone))) => Ok(stay::stay(&over.events, serving, &successors, gone)),
        (None, None) => {
            tracing::info!(in_time = over.in_time, "ended");
            Ok(0)
        }
    }
}

/// Hears signals on a thread of its own, so that a second SIGINT ends the process whatever the others do.
fn listen_for_signals(events: Sender<Event>, is_ending: Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = Signals::new([
        SIGTERM, SIGQUIT, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGCHLD,
    ])?;
    let listening = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT && is_ending.load(Ordering::Relaxed) {
                // Answered stories are safe on disk; nothing else needs an orderly end.
                std::process::exit(130);
            }
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    listening.map(drop)
}

/// Waits for every worker's word that it serves; gives the signals that came meanwhile.
fn wait_until_serving(events: &Receiver<Event>, fleet: &mut Fleet) -> Result<Vec<i32>, BootError> {
    let mut signals = Vec::new();
    while !fleet.is_up() {
        let now = Instant::now();
        let (next, told) = fleet.tick(now);
        if let Told::Fatal(error) = told {
            return Err(error);
        }
        let wait = next.map_or(Duration::from_secs(1), |next| next.saturating_duration_since(now));
        match events.recv_timeout(wait) {
            Ok(Event::Word(word)) => {
                if let Told::Fatal(error) = fleet.hear(word) {
                    return Err(error);
                }
            }
            Ok(Event::Signal(signal)) => signals.push(signal),
            Ok(Event::GivenUp) => return Err(BootError::GivenUp),
            Ok(Event::Upgrade(..)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    Ok(signals)
}
