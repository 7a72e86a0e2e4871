//! Figures of the connections to PostgreSQL and Redis, and of what goes over them.
//!
//! A worker has connections of its own, so gauges and counters are per worker; the histograms are told for all workers
//! together, like those of requests.

use super::cells::{Cells, HISTOGRAM_CELLS, Layout};
use super::families::{Workers, counter, family, gauge, get, histogram, histogram_of, label, sum, table, worker_id};
use super::worker::WorkerMetrics;
use crate::cache::redis::Fault as RedisFault;
use prometheus::proto::{MetricFamily, MetricType};
use std::time::Duration;

/// Figures that are one cell each, a series for each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Single {
    Open,
    Busy,
    Idle,
    Waiting,
    ReconnectAttempts,
    ReconnectPauseMs,
    Opened,
    ConnectFailures,
    RedisOpen,
    RedisInFlight,
    RedisOpened,
    RedisReconnectAttempts,
    RedisReconnectPauseMs,
}

const SINGLES: [(Single, MetricType, &str, &str); 13] = [
    (
        Single::Open,
        MetricType::GAUGE,
        "database_connections_open",
        "Connections to PostgreSQL that calls may use.",
    ),
    (
        Single::Busy,
        MetricType::GAUGE,
        "database_connections_busy",
        "Of those, the ones that have calls in flight.",
    ),
    (
        Single::Idle,
        MetricType::GAUGE,
        "database_connections_idle",
        "Of those, the ones that have none.",
    ),
    (
        Single::Waiting,
        MetricType::GAUGE,
        "database_pool_waiting",
        "Calls that wait for a connection to PostgreSQL.",
    ),
    (
        Single::ReconnectAttempts,
        MetricType::GAUGE,
        "database_reconnect_attempts",
        "Attempts in a row to connect to PostgreSQL that failed; 0 since one succeeded.",
    ),
    (
        Single::ReconnectPauseMs,
        MetricType::GAUGE,
        "database_reconnect_pause_seconds",
        "The pause before the next attempt to connect to PostgreSQL, where the last one failed.",
    ),
    (
        Single::Opened,
        MetricType::COUNTER,
        "database_connections_opened_total",
        "Connections to PostgreSQL opened.",
    ),
    (
        Single::ConnectFailures,
        MetricType::COUNTER,
        "database_connect_failures_total",
        "Attempts to connect to PostgreSQL, with each of its hosts, that failed.",
    ),
    (
        Single::RedisOpen,
        MetricType::GAUGE,
        "redis_connections_open",
        "Connections to Redis: a worker has one, or none.",
    ),
    (
        Single::RedisInFlight,
        MetricType::GAUGE,
        "redis_commands_in_flight",
        "Commands to Redis that wait for their answers.",
    ),
    (
        Single::RedisOpened,
        MetricType::COUNTER,
        "redis_connections_opened_total",
        "Connections to Redis opened and greeted.",
    ),
    (
        Single::RedisReconnectAttempts,
        MetricType::GAUGE,
        "redis_reconnect_attempts",
        "Attempts in a row to connect to Redis that failed; 0 since one succeeded.",
    ),
    (
        Single::RedisReconnectPauseMs,
        MetricType::GAUGE,
        "redis_reconnect_pause_seconds",
        "The pause before the next attempt to connect to Redis, where the last one failed.",
    ),
];

/// Why a connection to PostgreSQL was given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Closed {
    /// It ended by itself: the server or the network.
    #[default]
    Lost,
    /// It was idle for long.
    Idle,
    /// It was old.
    Age,
    /// It was one of the overflow, and idle.
    Overflow,
    /// A call on it was not answered in time.
    Timeout,
    /// It did not answer the question whether it lives.
    Ping,
    /// What the server said on it makes it useless.
    Fault,
    /// Its server takes no writes.
    ReadOnly,
    /// The worker ends.
    Shutdown,
}

const CLOSED: [(Closed, &str); 9] = [
    (Closed::Lost, "lost"),
    (Closed::Idle, "idle"),
    (Closed::Age, "age"),
    (Closed::Overflow, "overflow"),
    (Closed::Timeout, "timeout"),
    (Closed::Ping, "ping"),
    (Closed::Fault, "fault"),
    (Closed::ReadOnly, "read_only"),
    (Closed::Shutdown, "shutdown"),
];

/// What kind of failure a call to PostgreSQL met. One that was repeated with success counts as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The connection broke, or became useless.
    Connection,
    /// The statement was not answered in time.
    Timeout,
    /// The server takes no writes.
    ReadOnly,
    /// The server rolled it back for the sake of another.
    Serialization,
    /// The server refused it for a reason of its own, such as a full disk.
    Refused,
    /// The server would not have the values.
    Invalid,
    /// What came back is damaged.
    Corrupt,
    /// There was no connection to be had.
    NoConnection,
    /// None had room in time.
    PoolTimeout,
    /// Too many calls waited for one already.
    PoolFull,
}

const FAILED: [(Failed, &str); 10] = [
    (Failed::Connection, "connection"),
    (Failed::Timeout, "timeout"),
    (Failed::ReadOnly, "read_only"),
    (Failed::Serialization, "serialization"),
    (Failed::Refused, "refused"),
    (Failed::Invalid, "invalid"),
    (Failed::Corrupt, "corrupt"),
    (Failed::NoConnection, "no_connection"),
    (Failed::PoolTimeout, "pool_timeout"),
    (Failed::PoolFull, "pool_full"),
];

/// The statements of the store, by the number under which their times are kept.
pub const STATEMENTS: [&str; 8] = [
    "get",
    "find",
    "find_many",
    "put",
    "list_all",
    "list_of_location",
    "list_of_style",
    "list_of_both",
];

/// Upper bounds of the sizes of batches.
const BATCH_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// A count for each, one past the last, and the sum.
const BATCH_CELLS: usize = BATCH_BOUNDS.len() + 2;

const CLOSED_AT: usize = SINGLES.len();
const FAILED_AT: usize = CLOSED_AT + CLOSED.len();
const REDIS_CLOSED_AT: usize = FAILED_AT + FAILED.len();
const WAIT_AT: usize = REDIS_CLOSED_AT + RedisFault::ALL.len();
const QUERY_AT: usize = WAIT_AT + HISTOGRAM_CELLS;
const BATCH_AT: usize = QUERY_AT + STATEMENTS.len() * HISTOGRAM_CELLS;
/// Cells of the block.
pub(super) const CELLS: usize = BATCH_AT + BATCH_CELLS;

const _: () = assert!(crate::limits::store::BATCH_PUTS_MAX as u64 <= BATCH_BOUNDS[BATCH_BOUNDS.len() - 1]);

impl WorkerMetrics {
    fn single(&self, single: Single, value: u64) {
        self.set_backend(single as usize, value);
    }

    /// The pool of connections to PostgreSQL as it is now.
    pub fn database_levels(&self, open: usize, busy: usize, waiting: usize) {
        let as_u64 = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.single(Single::Open, as_u64(open));
        self.single(Single::Busy, as_u64(busy));
        self.single(Single::Idle, as_u64(open.saturating_sub(busy)));
        self.single(Single::Waiting, as_u64(waiting));
    }

    /// A connection to PostgreSQL was opened.
    pub fn database_opened(&self) {
        self.add_backend(Single::Opened as usize, 1);
        self.single(Single::ReconnectAttempts, 0);
        self.single(Single::ReconnectPauseMs, 0);
    }

    /// An attempt to connect failed, the so manyth in a row; the next is after `pause`.
    pub fn database_connect_failed(&self, attempts: u32, pause: Duration) {
        self.add_backend(Single::ConnectFailures as usize, 1);
        self.single(Single::ReconnectAttempts, attempts.into());
        self.single(Single::ReconnectPauseMs, ms(pause));
    }

    /// A connection to PostgreSQL was given up.
    pub fn database_closed(&self, why: Closed) {
        self.add_backend(CLOSED_AT + why as usize, 1);
    }

    /// A call to PostgreSQL failed.
    pub fn database_failed(&self, how: Failed) {
        self.add_backend(FAILED_AT + how as usize, 1);
    }

    /// A call waited for a connection.
    pub fn database_waited(&self, elapsed: Duration) {
        self.observe_backend(WAIT_AT, elapsed);
    }

    /// A statement, by its number in [`STATEMENTS`], was answered.
    pub fn database_answered(&self, statement: usize, elapsed: Duration) {
        let statement = statement.min(STATEMENTS.len() - 1);
        self.observe_backend(QUERY_AT + statement * HISTOGRAM_CELLS, elapsed);
    }

    /// So many stories go in one statement.
    pub fn database_batch(&self, puts: usize) {
        let puts = u64::try_from(puts).unwrap_or(u64::MAX);
        let bucket = BATCH_BOUNDS.iter().position(|bound| puts <= *bound);
        self.add_backend(BATCH_AT + bucket.unwrap_or(BATCH_BOUNDS.len()), 1);
        self.add_backend(BATCH_AT + BATCH_CELLS - 1, puts);
    }

    /// The connection to Redis is greeted.
    pub fn redis_connected(&self) {
        self.add_backend(Single::RedisOpened as usize, 1);
        self.single(Single::RedisOpen, 1);
        self.single(Single::RedisReconnectAttempts, 0);
        self.single(Single::RedisReconnectPauseMs, 0);
    }

    /// It has ended; `kind` is an index into [`Fault::ALL`](RedisFault::ALL).
    pub fn redis_disconnected(&self, kind: usize) {
        self.add_backend(REDIS_CLOSED_AT + kind.min(RedisFault::ALL.len() - 1), 1);
        self.single(Single::RedisOpen, 0);
        self.single(Single::RedisInFlight, 0);
    }

    /// The next attempt to connect to Redis is after `pause`, the so manyth in a row.
    pub fn redis_pauses(&self, attempts: u32, pause: Duration) {
        self.single(Single::RedisReconnectAttempts, attempts.into());
        self.single(Single::RedisReconnectPauseMs, ms(pause));
    }

    /// Commands to Redis that wait for an answer.
    pub fn redis_in_flight(&self, commands: usize) {
        self.single(Single::RedisInFlight, u64::try_from(commands).unwrap_or(u64::MAX));
    }
}

/// Sets what is now to nothing: the worker has ended.
pub(super) fn end(cells: &Cells, layout: Layout) {
    for (single, kind, ..) in &SINGLES {
        if *kind == MetricType::GAUGE {
            cells.set(layout.backend(*single as usize), 0);
        }
    }
}

fn ms(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

/// The families with series for each worker.
pub(super) fn per_worker(layout: Layout, workers: &Workers) -> Vec<MetricFamily> {
    let mut families: Vec<MetricFamily> = SINGLES
        .iter()
        .map(|(single, kind, name, help)| {
            let metrics = workers.values().map(|worker| {
                let value = get(worker, layout.backend(*single as usize));
                match (kind, single) {
                    (MetricType::COUNTER, _) => counter(vec![worker_id(worker)], value),
                    (_, Single::ReconnectPauseMs | Single::RedisReconnectPauseMs) => {
                        gauge(vec![worker_id(worker)], value as f64 / 1e3)
                    }
                    _ => gauge(vec![worker_id(worker)], value as f64),
                }
            });
            family(name, help, *kind, metrics.collect())
        })
        .collect();
    families.push(table(
        (
            "database_connections_closed_total",
            "Connections to PostgreSQL given up, by reason.",
        ),
        workers,
        CLOSED
            .iter()
            .map(|(why, name)| (layout.backend(CLOSED_AT + *why as usize), vec![label("reason", name)])),
    ));
    families.push(table(
        (
            "database_errors_total",
            "Calls to PostgreSQL that failed, by class; those that were repeated with success count as well.",
        ),
        workers,
        FAILED
            .iter()
            .map(|(how, name)| (layout.backend(FAILED_AT + *how as usize), vec![label("class", name)])),
    ));
    families.push(table(
        (
            "redis_connections_closed_total",
            "Connections to Redis that ended, by what ended them.",
        ),
        workers,
        RedisFault::ALL.iter().map(|fault| {
            (
                layout.backend(REDIS_CLOSED_AT + *fault as usize),
                vec![label("reason", fault.name())],
            )
        }),
    ));
    families
}

/// The histograms, all workers together. One that has counted nothing is left out.
pub(super) fn histograms(layout: Layout, workers: &Workers) -> Vec<MetricFamily> {
    let cells = |at: usize, count: usize| sum(workers, layout.backend(at)..layout.backend(at) + count);
    let has_counted = |metric: &prometheus::proto::Metric| metric.get_histogram().get_sample_count() > 0;
    let wait = histogram(Vec::new(), &cells(WAIT_AT, HISTOGRAM_CELLS));
    let queries = STATEMENTS.iter().enumerate().map(|(at, name)| {
        let cells = cells(QUERY_AT + at * HISTOGRAM_CELLS, HISTOGRAM_CELLS);
        histogram(vec![label("statement", name)], &cells)
    });
    let bounds: Vec<f64> = BATCH_BOUNDS.iter().map(|bound| *bound as f64).collect();
    let batches = histogram_of(Vec::new(), &bounds, 1.0, &cells(BATCH_AT, BATCH_CELLS));
    vec![
        family(
            "database_pool_wait_seconds",
            "Time that calls waited for a connection to PostgreSQL; those that did not wait are not counted.",
            MetricType::HISTOGRAM,
            Some(wait).into_iter().filter(has_counted).collect(),
        ),
        family(
            "database_query_duration_seconds",
            "Time from sending a statement to its answer, preparing it on a new connection included; for puts, a whole batch.",
            MetricType::HISTOGRAM,
            queries.filter(has_counted).collect(),
        ),
        family(
            "database_batch_puts",
            "Stories in one statement.",
            MetricType::HISTOGRAM,
            Some(batches).into_iter().filter(has_counted).collect(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_in_the_order_of_their_numbers() {
        assert!(SINGLES.iter().enumerate().all(|(at, (one, ..))| *one as usize == at));
        assert!(CLOSED.iter().enumerate().all(|(at, (one, _))| *one as usize == at));
        assert!(FAILED.iter().enumerate().all(|(at, (one, _))| *one as usize == at));
    }
}
