//! What became of workers and of the process: written by the supervisor alone, a few times an hour.

use super::families::{counter, family, gauge, label};
use prometheus::proto::{MetricFamily, MetricType};
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a worker was replaced by a new life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It broke down: its executor panicked, or its driver failed.
    Panic,
    /// SIGHUP.
    Reload,
    /// MAX_REQUESTS.
    Requests,
    /// WORKER_RSS_MAX.
    Memory,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [Reason::Panic, Reason::Reload, Reason::Requests, Reason::Memory];

    /// The value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Panic => "panic",
            Reason::Reload => "reload",
            Reason::Requests => "max_requests",
            Reason::Memory => "memory",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Lives {
    restarts: [AtomicU64; Reason::ALL.len()],
    cut_off: AtomicU64,
    upgrades_failed: AtomicU64,
    workers: AtomicU64,
}

impl Lives {
    /// A worker begins another life.
    pub fn restarted(&self, why: Reason) {
        if let Some(count) = self.restarts.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A former life ended with so many connections cut off at the graceful timeout.
    pub fn cut_off(&self, connections: usize) {
        self.cut_off.fetch_add(connections as u64, Ordering::Relaxed);
    }

    /// A new binary did not become ready.
    pub fn upgrade_failed(&self) {
        self.upgrades_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// So many workers are wanted now.
    pub fn set_workers(&self, count: usize) {
        self.workers.store(count as u64, Ordering::Relaxed);
    }

    /// Workers that are wanted now.
    pub fn workers(&self) -> usize {
        usize::try_from(self.workers.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let restarts = Reason::ALL.iter().zip(&self.restarts);
        vec![
            family(
                "worker_restarts_total",
                "Workers that were replaced by a new life, by reason.",
                MetricType::COUNTER,
                restarts
                    .map(|(why, count)| counter(vec![label("reason", why.name())], get(count)))
                    .collect(),
            ),
            family(
                "worker_connections_cut_off_total",
                "Connections that were still open when the graceful time of their worker's life was over.",
                MetricType::COUNTER,
                vec![counter(Vec::new(), get(&self.cut_off))],
            ),
            family(
                "process_upgrades_failed_total",
                "New binaries that did not become ready, after which this process went on.",
                MetricType::COUNTER,
                vec![counter(Vec::new(), get(&self.upgrades_failed))],
            ),
            family(
                "workers_wanted",
                "Workers that this process has or is about to have.",
                MetricType::GAUGE,
                vec![gauge(Vec::new(), get(&self.workers) as f64)],
            ),
        ]
    }
}
