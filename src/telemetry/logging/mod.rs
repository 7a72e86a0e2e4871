//! Log lines: `tracing` events, formatted on the thread that has something to say, written by a thread of their own.
//!
//! One line per event to stdout (the platform collects it), JSON for machines or text for people, with RFC 3339 UTC
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
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

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

impl LogSettings {
    fn filter(&self) -> LevelFilter {
        LevelFilter::from_level(match self.level {
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
    /// Another subscriber is in place; `init` was called twice.
    #[error("the log is already set up")]
    Twice,
}

/// Sets the log of this process up: on stdout, from now until the guard is dropped.
///
/// # Errors
/// [`LogError`]; the process can go on without a log, but should not.
pub fn init(settings: LogSettings) -> Result<LogGuard, LogError> {
    use std::os::fd::AsFd as _;
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    let (writer, guard) = to_fd(stdout, LOG_QUEUE_LINES);
    tracing::subscriber::set_global_default(subscriber(settings, writer)).map_err(|_| LogError::Twice)?;
    Ok(guard)
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

/// The subscriber for these settings, writing each event to `writer` in one piece.
fn subscriber<W>(settings: LogSettings, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Colours are off: the sink escapes control characters, and a line reads the same in a file.
    let shared = tracing_subscriber::fmt()
        .with_max_level(settings.filter())
        .with_ansi(false)
        .with_thread_names(true)
        // Faults of the log itself would go to stderr by eprintln!, which panics where stderr is closed.
        .log_internal_errors(false)
        .with_writer(writer);
    match settings.format {
        LogFormat::Text => Box::new(shared.with_target(true).finish()),
        LogFormat::Json => Box::new(
            shared
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
    }
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
