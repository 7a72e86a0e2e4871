//! A worker's place, and the lives in it: see [`super::fleet`].

use super::worker::Want;
use crate::limits::health::DRAIN_MARGIN_MS;
use crate::limits::life as limits;
use crate::telemetry::metrics::Reason;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A worker's place.
pub(super) struct Slot {
    /// Who serves.
    pub(super) present: Option<Life>,
    /// Who is about to.
    pub(super) coming: Option<Coming>,
    /// Who served before, and finishes.
    pub(super) leaving: Vec<Life>,
    /// When to begin again after a breakdown.
    pub(super) restart_at: Option<Instant>,
    /// The pause before the next restart.
    pub(super) pause: Duration,
    /// Lives in a row that could not begin.
    pub(super) failures: u32,
    /// When the first of these failed.
    pub(super) failing_since: Option<Instant>,
    /// A life has served here.
    pub(super) was_served: bool,
    /// The last attempt to replace the present life came to nothing.
    pub(super) not_replaced: bool,
    /// The slot is being given up: when its queues are to be emptied.
    pub(super) close_at: Option<Instant>,
    /// They are, or are about to be.
    pub(super) closing: bool,
    /// The life that was to empty them did not end in time: until then another worker does it.
    pub(super) abandoned: Option<Instant>,
}

/// One life, begun or told to end.
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) want: watch::Sender<Want>,
    pub(super) thread: JoinHandle<()>,
    pub(super) began: Instant,
    /// Until when it must have ended, if it was told to.
    pub(super) until: Option<Instant>,
}

/// A life that does not serve yet.
pub(super) struct Coming {
    pub(super) life: Life,
    /// Why another life is replaced; none for the first, and after a breakdown.
    pub(super) why: Option<Reason>,
}

impl Slot {
    pub(super) fn new() -> Slot {
        Slot {
            present: None,
            coming: None,
            leaving: Vec::new(),
            restart_at: None,
            pause: limits::RESTART_PAUSE,
            failures: 0,
            failing_since: None,
            was_served: false,
            not_replaced: false,
            close_at: None,
            closing: false,
            abandoned: None,
        }
    }

    /// Given up, or about to be.
    pub(super) fn is_closing(&self) -> bool {
        self.closing || self.close_at.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.present.is_none()
            && self.coming.is_none()
            && self.leaving.is_empty()
            && self.restart_at.is_none()
            && self.abandoned.is_none()
    }

    /// Takes a life out; true if it was the present one.
    pub(super) fn take(&mut self, number: u64) -> (Option<Life>, bool) {
        if let Some(life) = self.present.take_if(|life| life.number == number) {
            return (Some(life), true);
        }
        let at = self.leaving.iter().position(|life| life.number == number);
        (at.map(|at| self.leaving.swap_remove(at)), false)
    }

    /// The pause that is due now; the next one is longer.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(limits::RESTART_PAUSE_MAX);
        pause
    }

    pub(super) fn due(&self) -> impl Iterator<Item = Instant> {
        let leaving = self.leaving.iter().filter_map(|life| life.until);
        let coming = self.coming.as_ref().and_then(|coming| coming.life.until);
        // While the slot is closing, it is the present life's word that is waited for.
        let close = self.close_at.filter(|_| self.present.is_some());
        let closed = self.present.as_ref().and_then(|present| present.until);
        leaving
            .chain(coming)
            .chain(self.restart_at)
            .chain(close)
            .chain(closed)
            .chain(self.abandoned)
    }
}

impl Life {
    pub(super) fn leave(mut self, idle: Duration, graceful: Duration) -> Life {
        self.tell(Want::Leave(idle), graceful);
        self
    }

    pub(super) fn tell(&mut self, want: Want, graceful: Duration) {
        // Fails where it has ended already.
        let _ = self.want.send(want);
        self.until = Some(Instant::now() + graceful + Duration::from_millis(DRAIN_MARGIN_MS));
    }
}
