//! What the pool, the batches and the statements tell the metrics of their worker, and the status page.

use super::fault::{Fault, Remedy};
use super::statements::Query;
use crate::runtime::context;
use crate::store::StoreError;
use crate::telemetry::metrics::{Closed, Failed, WorkerMetrics};
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

/// The connections of a worker now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PoolFigures {
    /// Open.
    pub open: usize,
    /// Of those, with calls in flight.
    pub busy: usize,
    /// Of those, without.
    pub idle: usize,
    /// Calls that wait for one.
    pub waiting: usize,
    /// Of those open, the ones that a pooler answers.
    pub pooled: usize,
    /// Attempts to connect that failed since one succeeded.
    pub reconnect_attempts: u32,
    /// The pause before the next attempt, or until lately; 0 where none failed.
    pub reconnect_pause_ms: u64,
}

/// The way to a worker's metrics; leads nowhere until they are known (in tests, and for `migrate`).
#[derive(Clone, Default)]
pub(super) struct Observer(Rc<OnceCell<Rc<WorkerMetrics>>>);

impl Observer {
    /// From now on to these. The first call counts.
    pub(super) fn tell(&self, metrics: Rc<WorkerMetrics>) {
        let _ = self.0.set(metrics);
    }

    fn with(&self, say: impl FnOnce(&WorkerMetrics)) {
        if let Some(metrics) = self.0.get() {
            say(metrics);
        }
    }

    pub(super) fn levels(&self, now: PoolFigures) {
        self.with(|metrics| metrics.database_levels(now.open, now.busy, now.waiting));
    }

    pub(super) fn opened(&self) {
        self.with(WorkerMetrics::database_opened);
    }

    pub(super) fn connect_failed(&self, attempts: u32, pause: Duration) {
        self.with(|metrics| metrics.database_connect_failed(attempts, pause));
    }

    pub(super) fn closed(&self, why: Closed) {
        self.with(|metrics| metrics.database_closed(why));
    }

    pub(super) fn waited_since(&self, begun_ns: u64) {
        let elapsed = Duration::from_nanos(context::now_ns().saturating_sub(begun_ns));
        self.with(|metrics| metrics.database_waited(elapsed));
    }

    pub(super) fn answered_since(&self, query: Query, begun_ns: u64) {
        let elapsed = Duration::from_nanos(context::precise_now_ns().saturating_sub(begun_ns));
        self.with(|metrics| metrics.database_answered(query.number(), elapsed));
    }

    pub(super) fn batch(&self, puts: usize) {
        self.with(|metrics| metrics.database_batch(puts));
    }

    /// A call on a connection failed.
    pub(super) fn failed(&self, fault: &Fault) {
        let how = match (fault.remedy, &fault.error) {
            (Remedy::Repeat, _) => Failed::Serialization,
            (Remedy::LeaveServer, _) => Failed::ReadOnly,
            (Remedy::Tell, StoreError::Timeout) => Failed::Timeout,
            (Remedy::Tell, StoreError::Invalid(_)) => Failed::Invalid,
            (Remedy::Tell, StoreError::Corrupt(_)) => Failed::Corrupt,
            (Remedy::Tell, _) => Failed::Refused,
            _ => Failed::Connection,
        };
        self.with(|metrics| metrics.database_failed(how));
    }

    /// A call got no connection.
    pub(super) fn not_had(&self, error: &StoreError) {
        let how = match error {
            StoreError::Timeout => Failed::PoolTimeout,
            StoreError::Overloaded => Failed::PoolFull,
            // The worker ends.
            StoreError::Closed => return,
            _ => Failed::NoConnection,
        };
        self.with(|metrics| metrics.database_failed(how));
    }
}
