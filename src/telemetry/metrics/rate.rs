//! Figures of rate limits.

use super::worker::WorkerMetrics;
use prometheus::proto::MetricType;

/// Figures that are one cell each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    Enabled,
    Open,
    Allowed,
    Leases,
    Crowded,
    Shared,
    Unshared,
    RefusedClient,
    RefusedPod,
}

/// Cells of the block.
pub(super) const CELLS: usize = Rate::RefusedPod as usize + 1;

/// Cells of refusals, by scope.
pub(super) const SCOPES: [(Rate, &str); 2] = [(Rate::RefusedClient, "client"), (Rate::RefusedPod, "pod")];

/// Families with one series per worker.
pub(super) const PER_WORKER: [(Rate, MetricType, &str, &str); CELLS - SCOPES.len()] = [
    (
        Rate::Enabled,
        MetricType::GAUGE,
        "rate_limit_enabled",
        "1 where requests are limited.",
    ),
    (
        Rate::Open,
        MetricType::GAUGE,
        "rate_limit_open",
        "1 where requests are limited and REDIS_URL is set, but Redis cannot be told: each pod limits on its own.",
    ),
    (
        Rate::Allowed,
        MetricType::COUNTER,
        "rate_limit_allowed_total",
        "Requests that the limits let through; not those of routes and clients without limits.",
    ),
    (
        Rate::Leases,
        MetricType::COUNTER,
        "rate_limit_leases_total",
        "Leases that the worker began or ended: looks into the table that the workers share.",
    ),
    (
        Rate::Crowded,
        MetricType::COUNTER,
        "rate_limit_crowded_total",
        "Clients that began with a part of another's requests charged, because more clients were active than are told apart.",
    ),
    (
        Rate::Shared,
        MetricType::COUNTER,
        "rate_limit_redis_leases_total",
        "Accounts of clients settled with the other pods.",
    ),
    (
        Rate::Unshared,
        MetricType::COUNTER,
        "rate_limit_redis_failures_total",
        "Accounts of clients that could not be settled with the other pods.",
    ),
];

impl WorkerMetrics {
    /// Whether requests are limited, and whether the other pods should know of it and do not.
    pub fn rate_state(&self, enabled: bool, open: bool) {
        self.set_rate(Rate::Enabled, u64::from(enabled));
        self.set_rate(Rate::Open, u64::from(open));
    }

    /// A request passed.
    #[inline]
    pub fn rate_allowed(&self) {
        self.add_rate(Rate::Allowed, 1);
    }

    /// A request was refused, by the pod's limit or by its client's.
    #[inline]
    pub fn rate_limited(&self, by_pod: bool) {
        self.add_rate(if by_pod { Rate::RefusedPod } else { Rate::RefusedClient }, 1);
    }

    /// A lease was settled; its client shares the place of another if `crowded`.
    pub fn rate_leased(&self, crowded: bool) {
        self.add_rate(Rate::Leases, 1);
        self.add_rate(Rate::Crowded, u64::from(crowded));
    }

    /// So many clients were settled with the other pods.
    pub fn rate_shared(&self, clients: u64) {
        self.add_rate(Rate::Shared, clients);
    }

    /// So many were not.
    pub fn rate_unshared(&self, clients: u64) {
        self.add_rate(Rate::Unshared, clients);
    }
}
