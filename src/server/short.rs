//! A server whose memory is short: who is connected is served, who comes now gets a short answer to one request.
//!
//! The application decides by [`Peer::is_late`](super::Peer::is_late) what that answer is. Large bodies wait for better
//! times, slow readers may hold less, idle connections end sooner.

use super::Server;
use super::app::App;
use crate::limits::memory as limits;
use crate::runtime::executor;

impl<A: App> Server<A> {
    /// From now on memory is short, or is not any more.
    pub fn set_short(&self, short: bool) {
        if self.short.replace(short) == short {
            return;
        }
        let max = self.settings.pending_bytes_max;
        let (requests, answers) = if short {
            (0, max / limits::ANSWERS_PART)
        } else {
            (max, max)
        };
        self.pending.set_max(requests);
        self.answers.set_max(answers);
        self.keep_idle_as_fits();
    }

    /// How long idle connections are kept, by how many places are free and whether memory is short. Those that have less
    /// time now are told.
    pub(super) fn keep_idle_as_fits(&self) {
        let before = self.idle_for.get();
        let mut idle_for = self.settings.keep_alive;
        if self.crowded.get() {
            idle_for = idle_for.min(self.settings.head_timeout);
        }
        if self.short.get() {
            idle_for = idle_for.min(limits::IDLE);
        }
        self.idle_for.set(idle_for);
        self.hurried
            .set(self.ending_idle.get() || self.crowded.get() || self.short.get());
        if idle_for < before {
            executor::wake_all();
        }
    }

    /// One more that came while memory is short. False where there are so many that it is closed at once: those that are
    /// there, probes among them, are to have an answer.
    pub(super) fn lets_in_late(&self) -> bool {
        self.late.set(self.late.get() + 1);
        let is_in = self.late.get() <= limits::LATE_MAX;
        if !is_in {
            self.app.refused_for_memory();
        }
        is_in
    }

    pub(super) fn late_left(&self) {
        self.late.set(self.late.get().saturating_sub(1));
    }
}
