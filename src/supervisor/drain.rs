//! The moments before workers drain, and after.

use crate::limits::drain::{LEAVE_PART, STORE_CLOSE};
use std::time::{Duration, Instant};

/// What of DRAIN_DELAY passes, and when. All the while everything is served: readiness says no already, and whoever sends
/// clients here learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delay {
    /// From then on clients are told to move on; none once they are.
    pub(super) move_on: Option<Instant>,
    /// Then workers drain.
    pub(super) until: Instant,
}

impl Delay {
    /// Of so long from `now`.
    pub(super) fn new(now: Instant, delay: Duration) -> Delay {
        let until = now + delay;
        Delay {
            move_on: (!delay.is_zero()).then(|| until - delay / LEAVE_PART),
            until,
        }
    }
}

/// How long the store may take to close: part of the sum that TERMINATION_GRACE is compared with.
pub(super) fn store_patience(graceful: Duration) -> Duration {
    graceful.clamp(Duration::from_secs(1), STORE_CLOSE)
}
