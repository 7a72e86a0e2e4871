//! The moments before workers drain, and after.

use super::worker::Want;
use crate::limits::drain::{LEAVE_PART, STORE_CLOSE};
use std::time::Duration;
use tokio::sync::watch;

/// Lets DRAIN_DELAY pass, in which everything is served: readiness says no already, and whoever sends clients here learns
/// of it. In its last part clients are told to move on.
pub(super) fn delay(want: &watch::Sender<Want>, delay: Duration) {
    if delay.is_zero() {
        return;
    }
    let leaving = delay / LEAVE_PART;
    std::thread::sleep(delay.saturating_sub(leaving));
    let _ = want.send(Want::Leave);
    std::thread::sleep(leaving);
}

/// How long the store may take to close: part of the sum that TERMINATION_GRACE is compared with.
pub(super) fn store_patience(graceful: Duration) -> Duration {
    graceful.clamp(Duration::from_secs(1), STORE_CLOSE)
}
