//! Figures of what a worker lets in.

use super::cells::{HISTOGRAM_CELLS, Layout};
use super::families::{Workers, counter, family, gauge, get, histogram, label, sum, table, worker_id};
use super::worker::WorkerMetrics;
use crate::resilience::overload::Reason;
use prometheus::proto::{MetricFamily, MetricType};
use std::time::Duration;

/// Figures that are one cell each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overload {
    Limit,
    InFlight,
    Queued,
    Left,
    LagNs,
}

const SINGLE: usize = Overload::LagNs as usize + 1;
/// Cells of the block: single figures, what was shed by reason, the histogram of waits.
pub(super) const CELLS: usize = SINGLE + Reason::ALL.len() + HISTOGRAM_CELLS;

/// Place in the block of a reason.
fn reason(reason: usize) -> usize {
    SINGLE + reason.min(Reason::ALL.len() - 1)
}

/// Place in the block of the histogram.
const WAIT: usize = SINGLE + Reason::ALL.len();

/// Families with one series per worker.
const PER_WORKER: [(Overload, MetricType, &str, &str); SINGLE - 1] = [
    (
        Overload::Limit,
        MetricType::GAUGE,
        "overload_limit",
        "Requests that may be in flight now: told, or looked up beyond the worker's own cache.",
    ),
    (
        Overload::InFlight,
        MetricType::GAUGE,
        "overload_in_flight",
        "Requests in flight now.",
    ),
    (
        Overload::Queued,
        MetricType::GAUGE,
        "overload_queued",
        "Requests that wait to be let in.",
    ),
    (
        Overload::Left,
        MetricType::COUNTER,
        "overload_left_total",
        "Requests whose clients left while they waited to be let in.",
    ),
];

pub(super) fn per_worker(layout: Layout, workers: &Workers) -> Vec<MetricFamily> {
    let value = |worker, cell: Overload| get(worker, layout.overload(cell as usize));
    let mut families: Vec<MetricFamily> = PER_WORKER
        .into_iter()
        .map(|(cell, kind, name, help)| {
            let series = workers.values().map(|worker| match kind {
                MetricType::COUNTER => counter(vec![worker_id(worker)], value(worker, cell)),
                _ => gauge(vec![worker_id(worker)], value(worker, cell) as f64),
            });
            family(name, help, kind, series.collect())
        })
        .collect();
    families.push(family(
        "executor_lag_seconds",
        "The longest turn of the executor's loop in the last five seconds: what came then waited so long to be seen.",
        MetricType::GAUGE,
        workers
            .values()
            .map(|worker| gauge(vec![worker_id(worker)], value(worker, Overload::LagNs) as f64 / 1e9))
            .collect(),
    ));
    families.push(table(
        (
            "overload_shed_total",
            "Requests that were not let in, by reason; `background` was nobody's request.",
        ),
        workers,
        Reason::ALL.iter().map(|why| {
            (
                layout.overload(reason(*why as usize)),
                vec![label("reason", why.name())],
            )
        }),
    ));
    families
}

/// How long requests waited, all workers together.
pub(super) fn waits(layout: Layout, workers: &Workers) -> MetricFamily {
    let wait = layout.overload(WAIT);
    family(
        "overload_queue_wait_seconds",
        "How long requests waited until they were let in; those that did not wait count as 0.",
        MetricType::HISTOGRAM,
        vec![histogram(Vec::new(), &sum(workers, wait..wait + HISTOGRAM_CELLS))],
    )
}

impl WorkerMetrics {
    /// How many may be in flight, are, and wait.
    pub fn overload_at(&self, limit: usize, in_flight: usize, queued: usize) {
        self.set_overload(Overload::Limit, limit as u64);
        self.set_overload(Overload::InFlight, in_flight as u64);
        self.set_overload(Overload::Queued, queued as u64);
    }

    /// A request was let in after this wait.
    pub fn overload_admitted(&self, waited: Duration) {
        self.observe_overload(WAIT, waited);
    }

    /// A request was sent away; `why` is the number of a [`Reason`].
    pub fn overload_shed(&self, why: usize) {
        self.add_overload(reason(why));
    }

    /// A client left while its request waited.
    pub fn overload_left(&self) {
        self.add_overload(Overload::Left as usize);
    }

    /// The longest turn of the loop lately.
    pub fn loop_lag(&self, longest: Duration) {
        let ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        self.set_overload(Overload::LagNs, ns);
    }
}
