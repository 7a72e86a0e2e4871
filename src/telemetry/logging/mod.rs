//! Log lines: `tracing` events, formatted on the thread that has something to say, written by a thread of their own.
//!
//! One line per event to stdout (the platform collects it) or to a file that can be opened again, JSON for machines or text for people, with RFC 3339 UTC
//! times and the name of the thread. The way out is bounded: a slow or closed stdout makes lines drop, which
//! [`LogCounters`] tells, and never makes a worker wait. User-supplied text cannot forge a line or steer a terminal:
//! see [`sink`].
//!
//! [`init`] is called once, by `main`, before the first worker starts; the [`LogGuard`] it gives lives as long as
//! `main` does and writes out what is queued when dropped.

mod sink;
#[cfg(test)]
mod tests;

use crate::limits::server::LOG_QUEUE_LINES;
use crate::telemetry::trace::Trace;
use sink::{CLOSING_WAIT, Progress, Sink};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, reload};

/// The least level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For a developer.
    Debug,
    /// What happens. The default.
    Info,
    /// What may become a fault.
    Warning,
    /// Faults only (also Python's `critical`).
    Error,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, the event's fields at its top.
    Json,
    /// For people.
    Text,
}

/// Which requests get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Those answered 5xx.
    Errors,
    /// All.
    All,
}

impl AccessLog {
    /// Whether a request answered `status` gets a line. Ask before gathering the fields of [`Access`].
    #[inline]
    pub fn wants(self, status: u16) -> bool {
        match self {
            AccessLog::Off => false,
            AccessLog::Errors => status >= 500,
            AccessLog::All => true,
        }
    }
}

/// What logging needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// The least level.
    pub level: LogLevel,
    /// How lines are written.
    pub format: LogFormat,
    /// Which requests get a line; used by the caller of [`access`].
    pub access: AccessLog,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        LevelFilter::from_level(match self {
            LogLevel::Trace => Level::TRACE,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Info => Level::INFO,
            LogLevel::Warning => Level::WARN,
            LogLevel::Error => Level::ERROR,
        })
    }
}

/// Figures of the way out, for the metrics. Cheap to clone; every clone counts the same lines.
#[derive(Debug, Clone)]
pub struct LogCounters {
    queue: ErrorCounter,
    progress: Arc<Progress>,
}

impl LogCounters {
    /// Lines dropped because the queue was full.
    pub fn queue_full(&self) -> u64 {
        u64::try_from(self.queue.dropped_lines()).unwrap_or(u64::MAX)
    }

    /// Lines dropped because stdout would not take them (closed, or full disk).
    pub fn write_failed(&self) -> u64 {
        self.progress.unwritten.load(Ordering::Relaxed)
    }
}

/// Keeps the log thread. Dropping it writes out what is queued, for up to about a second.
#[must_use = "dropping the guard ends the log"]
pub struct LogGuard {
    counters: LogCounters,
    // Dropped after `drop` below has told the sink to hurry.
    _thread: WorkerGuard,
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl LogGuard {
    /// The figures of the way out.
    pub fn counters(&self) -> LogCounters {
        self.counters.clone()
    }
}

/// What can be changed of the log while it is written.
#[derive(Debug, Clone)]
pub struct LogControl {
    counters: LogCounters,
    level: reload::Handle<LevelFilter, Registry>,
    file: Option<PathBuf>,
}

impl LogControl {
    /// The figures of the way out.
    pub fn counters(&self) -> LogCounters {
        self.counters.clone()
    }

    /// The least level that is logged, from now on.
    pub fn set_level(&self, level: LogLevel) {
        // Fails where there is no log any more.
        let _ = self.level.reload(level.filter());
    }

    /// Opens LOG_FILE again by its name: what is logged from now on goes to the file that has it now. Gives the file;
    /// none where the log goes to stdout.
    ///
    /// # Errors
    /// The file cannot be opened; the log goes on in the one before.
    pub fn reopen(&self) -> Result<Option<&Path>, LogError> {
        let Some(path) = &self.file else { return Ok(None) };
        let fd = open(path)?;
        let progress = &self.counters.progress;
        *progress.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(fd);
        progress.has_next.store(true, Ordering::Release);
        Ok(Some(path))
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let progress = &self.counters.progress;
        progress.closing.store(true, Ordering::Release);
        // The appender's own guard gives up on a full queue after 100 ms and then prints to stdout, which blocks or
        // panics where stdout is what is stuck. So first the sink gets the time to give up and empty the queue.
        let deadline = Instant::now() + CLOSING_WAIT * 2;
        while progress.stuck.load(Ordering::Acquire) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// stdout cannot be duplicated: the process is out of file descriptors.
    #[error("cannot open the log on stdout: {0}; raise the limit of open files")]
    Stdout(#[from] std::io::Error),
    /// LOG_FILE cannot be opened.
    #[error("cannot open the log file {}: {error}; make its folder, give it to the user that runs this, or unset LOG_FILE", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another subscriber is in place; `init` was called twice.
    #[error("the log is already set up")]
    Twice,
}

/// Sets the log of this process up, from now until the guard is dropped: on stdout, or appended to `file`.
///
/// # Errors
/// [`LogError`]; the process can go on without a log, but should not.
pub fn init(settings: LogSettings, file: Option<&Path>) -> Result<(LogGuard, LogControl), LogError> {
    use std::os::fd::AsFd as _;
    let fd = match file {
        Some(path) => open(path)?,
        None => std::io::stdout().as_fd().try_clone_to_owned()?,
    };
    let (writer, guard) = to_fd(fd, LOG_QUEUE_LINES);
    let (subscriber, level) = subscriber(settings, writer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    let control = LogControl {
        counters: guard.counters(),
        level,
        file: file.map(Path::to_path_buf),
    };
    Ok((guard, control))
}

fn open(path: &Path) -> Result<OwnedFd, LogError> {
    let file = std::fs::File::options().append(true).create(true).open(path);
    file.map(OwnedFd::from).map_err(|error| LogError::File {
        path: path.to_path_buf(),
        error,
    })
}

/// A writer whose lines a thread writes to `fd`, and what keeps that thread. At most `lines_max` lines wait.
fn to_fd(fd: OwnedFd, lines_max: usize) -> (NonBlocking, LogGuard) {
    let progress = Arc::new(Progress::default());
    let sink = Sink::new(fd, Arc::clone(&progress));
    let (writer, thread) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(lines_max)
        .thread_name("log")
        .finish(sink);
    let counters = LogCounters {
        queue: writer.error_counter(),
        progress,
    };
    (
        writer,
        LogGuard {
            counters,
            _thread: thread,
        },
    )
}

/// The subscriber for these settings, writing each event to `writer` in one piece; and what changes its level.
fn subscriber<W>(
    settings: LogSettings,
    writer: W,
) -> (
    Box<dyn tracing::Subscriber + Send + Sync>,
    reload::Handle<LevelFilter, Registry>,
)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, level) = reload::Layer::new(settings.level.filter());
    // Colours are off: the sink escapes control characters, and a line reads the same in a file.
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_thread_names(true)
        // Faults of the log itself would go to stderr by eprintln!, which panics where stderr is closed.
        .log_internal_errors(false)
        .with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match settings.format {
        LogFormat::Text => Box::new(registry.with(lines.with_target(true))),
        LogFormat::Json => Box::new(
            registry.with(
                lines
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false),
            ),
        ),
    };
    (subscriber, level)
}

/// What the line of a request tells. Text may be as the client sent it: it is escaped on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The request's id, the client's own or ours, and its place in a trace.
    pub trace: &'a Trace,
    /// Who asked: the address of the client, told by trusted proxies where there are any.
    pub client: Option<IpAddr>,
    /// Which worker served it.
    pub worker_id: &'a str,
    /// Request method.
    pub method: &'a str,
    /// The route's name, as in the metrics.
    pub route: &'a str,
    /// The path asked for, without its query (queries may hold what must not be logged).
    pub path: &'a str,
    /// Status answered.
    pub status: u16,
    /// From the request's last bytes to its answer, written or about to be streamed.
    pub duration: Duration,
    /// Bytes of the answer's body; 0 where it is streamed, which begins only after this line.
    pub bytes: u64,
}

/// Writes the line of one request: WARN for 5xx, INFO for the rest. Whether it is wanted is [`AccessLog::wants`].
pub fn access(request: &Access<'_>) {
    // The level of an event is static, hence the two.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "access",
                request_id = request.trace.request_id(),
                trace_id = request.trace.trace_id(),
                span_id = request.trace.span_id(),
                parent_id = request.trace.parent_id(),
                sampled = request.trace.is_sampled(),
                worker_id = request.worker_id,
                client = request.client.map(tracing::field::display),
                method = request.method,
                route = request.route,
                path = request.path,
                status = request.status,
                duration_us = u64::try_from(request.duration.as_micros()).unwrap_or(u64::MAX),
                bytes = request.bytes,
                "request"
            )
        };
    }
    if request.status >= 500 {
        line!(warn);
    } else {
        line!(info);
    }
}
