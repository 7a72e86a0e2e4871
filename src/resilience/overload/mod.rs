//! Overload: what a worker lets in when more is asked of it than it can do in time.
//!
//! * [`Adaptive`](limit::Adaptive) learns how many requests may be in flight.
//! * [`Gate`](gate::Gate) has a bounded queue in front of that, and says who is let in and who is sent away.
//! * [`Admission`] is the gate of a worker: to wait at it, and to count.
//!
//! Called by `story::service` for what waits or computes: a new story, a lookup in Redis or the store, a page of a list. An
//! answer from the worker's own cache costs less than to refuse it, so it passes no gate; nor do equal requests that
//! share a flight, nor probes, metrics and admin routes. Each worker has its own: nothing here is shared. Deliberately
//! absent: priorities among clients (`rate` is about those), and anything that looks at the machine's load.

mod admission;
mod gate;
mod limit;
#[cfg(test)]
mod tests;

pub use admission::{Admission, Entering, Figures, Pass};
pub use limit::End;

use crate::limits::overload as limits;
use std::time::Duration;

/// What an operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether the limit adapts and requests wait at it; else `in_flight_max` alone holds.
    pub enabled: bool,
    /// Within what a request should be answered.
    pub target: Duration,
    /// Requests in flight on one worker, at most.
    pub in_flight_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            enabled: true,
            target: Duration::from_millis(limits::TARGET_MS),
            in_flight_max: limits::IN_FLIGHT_MAX as usize,
        }
    }
}

impl Settings {
    fn target_ns(self) -> u64 {
        u64::try_from(self.target.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// For whom something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it.
    Request,
    /// Nobody does: it is done where there is room to spare, and never waits.
    Background,
}

/// Why somebody is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has waited for too long to be answered in time.
    Waited,
    /// More wait than there is room for, or than can be let in soon.
    QueueFull,
    /// The loop's turns take so long that it would come too late whatever is done.
    Lag,
    /// Nobody waits for it, and there is other work.
    Background,
    /// As many are in flight as there may be, and nobody waits at this gate: it is switched off.
    Limit,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Reason; 5] = [
        Reason::Waited,
        Reason::QueueFull,
        Reason::Lag,
        Reason::Background,
        Reason::Limit,
    ];

    /// As the metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Waited => "waited",
            Reason::QueueFull => "queue_full",
            Reason::Lag => "lag",
            Reason::Background => "background",
            Reason::Limit => "limit",
        }
    }
}
