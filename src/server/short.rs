//! A server whose memory is short: who is connected is served, who comes now gets a short answer to one request.
//!
//! The application decides by [`Peer::is_late`](super::Peer::is_late) what that answer is. Large bodies wait for better
//! times, slow readers may hold less, idle connections end sooner.

use super::Server;
use super::app::App;
use super::late::Ticket;
use crate::limits::memory as limits;
use crate::runtime::executor;
use std::rc::Rc;

impl<A: App> Server<A> {
    /// From now on memory is short, or is not any more.
    pub fn set_short(&self, short: bool) {
        if self.short.replace(short) == short {
            return;
        }
        if !short {
            self.late.forget();
        }
        self.budget_as_fits();
        self.keep_idle_as_fits();
    }

    /// From now on requests that are not whole may hold so many bytes, and answers that are not taken as many: less while
    /// memory is short. What is held beyond that stays held.
    pub fn set_pending_bytes_max(&self, bytes: usize) {
        self.pending_bytes_max.set(bytes);
        self.budget_as_fits();
    }

    /// See [`set_pending_bytes_max`](Self::set_pending_bytes_max).
    pub fn pending_bytes_max(&self) -> usize {
        self.pending_bytes_max.get()
    }

    fn budget_as_fits(&self) {
        let max = self.pending_bytes_max.get();
        let (requests, answers) = if self.short.get() {
            (0, max / limits::ANSWERS_PART)
        } else {
            (max, max)
        };
        self.pending.set_max(requests);
        self.answers.set_max(answers);
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

    /// Beyond the number of places, how many more are let in: who comes while memory is short takes another's place, which is
    /// free a moment later.
    pub(super) fn places_beyond(&self) -> usize {
        if self.short.get() && self.late.count() > 0 {
            limits::LATE_BEYOND
        } else {
            0
        }
    }

    /// One more that came while memory is short: its place among those. Where there are too many, the oldest of them makes
    /// way, so that those who come, probes among them, have their answer.
    pub(super) fn lets_in_late(&self) -> Rc<Ticket> {
        // It is counted already. Half of what the others leave: the rest is for those that make way, until they are gone.
        let late = self.late.count().saturating_add(self.late.leaving()).saturating_add(1);
        let others = self.open.get().saturating_sub(late);
        let places = self.settings.connections_max.saturating_sub(others);
        // Several may come within one turn, before any of them could be read: they are not to oust each other then. As many as
        // are let in beyond the places, and half of those.
        let many = (places / 2).max(limits::LATE_BEYOND / 2);
        let (ticket, ousts) = self.late.enter(limits::LATE_MAX.min(many));
        if ousts {
            self.app.refused_for_memory();
        }
        ticket
    }
}
