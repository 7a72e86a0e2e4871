//! Figures of the caches beyond the worker's own: Redis, the locks in it, stale answers.

use super::cells::HISTOGRAM_CELLS;
use super::worker::WorkerMetrics;
use crate::cache::redis::Fault;
use prometheus::proto::MetricType;
use std::time::Duration;

/// Figures that are one cell each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shared {
    Breaker,
    Hits,
    Misses,
    ValuesRefused,
    WritesLeftOut,
    LockWaits,
    LockTimeouts,
    FlightsJoined,
    StaleRevalidated,
    StaleOnError,
    AbsentHits,
    DatabaseState,
}

const SINGLE: usize = Shared::DatabaseState as usize + 1;
/// Cells of the block: single figures, faults by kind, the latency histogram.
pub(super) const CELLS: usize = SINGLE + Fault::ALL.len() + HISTOGRAM_CELLS;

/// Place in the block of a kind of fault.
pub(super) fn fault(kind: usize) -> usize {
    SINGLE + kind.min(Fault::ALL.len() - 1)
}

/// Place in the block of the histogram.
pub(super) const LATENCY: usize = SINGLE + Fault::ALL.len();

/// Families with one series per worker.
pub(super) const PER_WORKER: [(Shared, MetricType, &str, &str); SINGLE] = [
    (
        Shared::Breaker,
        MetricType::GAUGE,
        "redis_breaker_state",
        "The breaker in front of Redis: 0 closed (in use, or none is configured), 1 half-open (connecting), 2 open (away).",
    ),
    (
        Shared::Hits,
        MetricType::COUNTER,
        "redis_hits_total",
        "Lookups that found a story in Redis.",
    ),
    (
        Shared::Misses,
        MetricType::COUNTER,
        "redis_misses_total",
        "Lookups that found none in Redis.",
    ),
    (
        Shared::ValuesRefused,
        MetricType::COUNTER,
        "redis_values_refused_total",
        "Values in Redis that are no story of ours: counted as misses.",
    ),
    (
        Shared::WritesLeftOut,
        MetricType::COUNTER,
        "redis_writes_left_out_total",
        "Stories not written to Redis because it is away or takes no writes, or too many writes are under way.",
    ),
    (
        Shared::LockWaits,
        MetricType::COUNTER,
        "redis_lock_waits_total",
        "Flights that waited for another worker or pod to tell their story.",
    ),
    (
        Shared::LockTimeouts,
        MetricType::COUNTER,
        "redis_lock_timeouts_total",
        "Flights that waited in vain and told it themselves.",
    ),
    (
        Shared::FlightsJoined,
        MetricType::COUNTER,
        "story_flights_joined_total",
        "Requests that joined an equal one under way on their worker.",
    ),
    (
        Shared::StaleRevalidated,
        MetricType::COUNTER,
        "cache_stale_while_revalidate_total",
        "Answers past their time, served at once while they were looked up anew.",
    ),
    (
        Shared::StaleOnError,
        MetricType::COUNTER,
        "cache_stale_if_error_total",
        "Answers past their time, served because they could not be looked up.",
    ),
    (
        Shared::AbsentHits,
        MetricType::COUNTER,
        "cache_absent_hits_total",
        "Ids answered 404 from memory, because they were looked for in vain a moment ago.",
    ),
    (
        Shared::DatabaseState,
        MetricType::GAUGE,
        "database_state",
        "The story store as the worker sees it: 0 serving, 1 slow, 2 takes no writes, 3 away.",
    ),
];

impl WorkerMetrics {
    /// The breaker's state: 0 closed, 1 half-open, 2 open.
    pub fn redis_breaker(&self, state: u64) {
        self.set_shared(Shared::Breaker, state);
    }

    /// How the story store serves: 0 well, 1 slowly, 2 without writes, 3 not.
    pub fn database_state(&self, state: u64) {
        self.set_shared(Shared::DatabaseState, state);
    }

    /// A lookup found a story.
    pub fn redis_hit(&self) {
        self.add_shared(Shared::Hits as usize);
    }

    /// A lookup found none.
    pub fn redis_missed(&self) {
        self.add_shared(Shared::Misses as usize);
    }

    /// A value was no story of ours.
    pub fn redis_value_refused(&self) {
        self.add_shared(Shared::ValuesRefused as usize);
    }

    /// A story was not written.
    pub fn redis_write_left_out(&self) {
        self.add_shared(Shared::WritesLeftOut as usize);
    }

    /// A command or a connection failed; `kind` is an index into [`Fault::ALL`].
    pub fn redis_failed(&self, kind: usize) {
        self.add_shared(fault(kind));
    }

    /// Commands were answered, after so long.
    pub fn redis_observed(&self, elapsed: Duration) {
        self.observe_shared(LATENCY, elapsed);
    }

    /// A flight waits for another worker or pod.
    pub fn lock_waited(&self) {
        self.add_shared(Shared::LockWaits as usize);
    }

    /// It waited in vain.
    pub fn lock_timed_out(&self) {
        self.add_shared(Shared::LockTimeouts as usize);
    }

    /// A request joined an equal one.
    pub fn flight_joined(&self) {
        self.add_shared(Shared::FlightsJoined as usize);
    }

    /// A stale answer was served while it is looked up anew.
    pub fn stale_revalidated(&self) {
        self.add_shared(Shared::StaleRevalidated as usize);
    }

    /// A stale answer was served because of an error.
    pub fn stale_on_error(&self) {
        self.add_shared(Shared::StaleOnError as usize);
    }

    /// An id was known to be absent.
    pub fn absent_hit(&self) {
        self.add_shared(Shared::AbsentHits as usize);
    }
}

const _: () = assert!(PER_WORKER.len() == SINGLE);
