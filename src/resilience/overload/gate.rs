//! Who is let in, who waits, and who is sent away; on a clock that the caller moves.
//!
//! Whoever waits is let in by age. Where somebody has been waiting all the time for as long as the target, there is
//! more than can be served (CoDel's criterion: a queue that does not become empty is no burst). Then what has waited for a
//! tenth of the target is sent away, oldest first, as CoDel in "Fail at Scale" does it (ACM Queue 13(8), 2015), and no more may
//! wait than can be let in within half of that time: others are sent away as they come.
//!
//! That does not end as soon as somebody can be let in and nobody waits, as CoDel's does for packets that leave one by one:
//! a group commit has many leave at once, who empty so short a queue each time, and then all would wait for as long as the
//! target again, hundreds of them, again and again. It ends when the places that were left free could have served those who
//! were sent away (a virtual queue: the one that there would be had they waited), or nobody has been sent away for as long as the
//! target.
//!
//! The newest does not go first then, as it does there (adaptive LIFO). That is for a queue in which whoever is old is hopeless;
//! in this one the oldest has waited for a tenth of the target, and what newer ones overtake has cost a wait for nothing.

use super::limit::{Adaptive, End};
use super::{Reason, Settings, Urgency};
use crate::limits::overload as limits;
use std::collections::BTreeMap;

/// A place in the queue.
pub(super) type Ticket = u64;

/// The right to be in flight; to be given back by [`Gate::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permit {
    begun_ns: u64,
    was_low: bool,
}

/// What became of somebody who comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    In(Permit),
    Waits(Ticket),
    Refused(Reason),
}

/// What became of somebody who waited.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let in after so many nanoseconds.
    In(Permit, u64),
    Shed(Reason),
}

#[derive(Debug)]
struct Waiting<T> {
    since_ns: u64,
    who: T,
}

/// The gate of one worker. `T` is how the caller knows who waits.
#[derive(Debug)]
pub(super) struct Gate<T> {
    settings: Settings,
    limit: Adaptive,
    in_flight: usize,
    queue: BTreeMap<Ticket, Waiting<T>>,
    next: Ticket,
    /// Since when there is always somebody who waits, or there was until he was sent away and nothing has become free since.
    waited_since_ns: Option<u64>,
    /// When somebody was last sent away because there was more than can be served.
    sent_away_ns: Option<u64>,
    /// Those who were, less those whom the places left free since could have served; and when that was true.
    missed: (f64, u64),
    /// How long a place is held of late, whatever becomes of who holds it, nanoseconds; 0: nobody has left yet.
    held_ns: f64,
    /// Since when turns are long, and when that was last seen.
    lag_ns: Option<(u64, u64)>,
}

impl<T> Gate<T> {
    pub(super) fn new(settings: Settings, now: u64) -> Gate<T> {
        Gate {
            settings,
            limit: Adaptive::new(settings, now),
            in_flight: 0,
            queue: BTreeMap::new(),
            next: 0,
            waited_since_ns: None,
            sent_away_ns: None,
            missed: (0.0, now),
            held_ns: 0.0,
            lag_ns: None,
        }
    }

    pub(super) fn limit(&self) -> usize {
        if self.settings.enabled {
            self.limit.limit()
        } else {
            self.settings.in_flight_max
        }
    }

    pub(super) fn baseline_ns(&self) -> u64 {
        self.limit.baseline_ns()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// There is more than can be served.
    pub(super) fn is_overloaded(&self, now: u64) -> bool {
        let target = self.settings.target_ns();
        let for_as_long = |since: u64| now.saturating_sub(since) >= target;
        self.waited_since_ns.is_some_and(for_as_long)
            || (self.sent_away_ns.is_some_and(|last| !for_as_long(last)) && self.missed(now) > 0.0)
    }

    /// Of those who were sent away, how many the free places could not have served by now: a place serves one in the time that
    /// it is held. Where that is not known, none.
    fn missed(&self, now: u64) -> f64 {
        let (missed, since) = self.missed;
        if self.held_ns <= 0.0 {
            return missed;
        }
        let free = self.limit().saturating_sub(self.in_flight);
        (missed - free as f64 * now.saturating_sub(since) as f64 / self.held_ns).max(0.0)
    }

    /// Keeps [`missed`](Self::missed) before the number of free places changes.
    fn settle_missed(&mut self, now: u64) {
        // The clock is read once a turn, and anew when somebody leaves.
        self.missed = (self.missed(now), self.missed.1.max(now));
    }

    /// Somebody is sent away because there is more than can be served. No more are kept in mind than can be served within a part
    /// of the target, so that it ends as soon after a long rush as after a short one; or than may be in flight, since a commit that
    /// takes as long as that leaves as many free. The limit is the learnt one: while the baseline is measured it is low.
    fn send_away(&mut self, now: u64) {
        self.settle_missed(now);
        self.sent_away_ns = Some(now);
        let limit = self.limit.learnt() as f64;
        let part = (self.settings.target_ns() / limits::MISSED_PART) as f64;
        let most = if self.held_ns > 0.0 {
            limit * part / self.held_ns
        } else {
            0.0
        };
        self.missed.0 = (self.missed.0 + 1.0).min(most.max(limit));
    }

    /// A place was held for so long. A moving average; one that was held for ever does not outweigh the others.
    fn see_held(&mut self, held_ns: u64) {
        let most = self.settings.target_ns().saturating_mul(limits::SAMPLE_CAP);
        let held = held_ns.min(most).max(1) as f64;
        self.held_ns = if self.held_ns > 0.0 {
            self.held_ns + (held - self.held_ns) / limits::BASELINE_SAMPLES as f64
        } else {
            held
        };
    }

    /// The loop's turns have been long for a while.
    pub(super) fn is_lagging(&self, now: u64) -> bool {
        let long = self.settings.target_ns() / limits::LAG_FOR_PART;
        // What was seen before a pause tells nothing.
        self.lag_ns
            .is_some_and(|(since, seen)| now.saturating_sub(since) >= long && now.saturating_sub(seen) < 2 * long)
    }

    /// For how long one may wait, nanoseconds.
    pub(super) fn wait_ns_max(&self, now: u64) -> u64 {
        if self.is_overloaded(now) {
            self.hurry_ns()
        } else {
            self.settings.target_ns()
        }
    }

    /// For how long one may wait where there is more than can be served.
    pub(super) fn hurry_ns(&self) -> u64 {
        self.settings.target_ns() / limits::HURRY_PART
    }

    fn see_turn(&mut self, now: u64, turn_ns: u64) {
        let is_long = turn_ns >= self.settings.target_ns() / limits::LAG_PART;
        let pause = self.settings.target_ns() / limits::LAG_FOR_PART * 2;
        self.lag_ns = match self.lag_ns {
            Some((since, seen)) if is_long && now.saturating_sub(seen) < pause => Some((since, now)),
            _ => is_long.then_some((now, now)),
        };
    }

    /// Whether somebody who comes now is to be sent away at once, before anything is done for him: there is more than can be
    /// served, and as many wait as can be let in soon.
    pub(super) fn refuses(&mut self, now: u64, turn_ns: u64) -> Option<Reason> {
        if !self.settings.enabled {
            return (self.in_flight >= self.settings.in_flight_max).then_some(Reason::Limit);
        }
        self.see_turn(now, turn_ns);
        if self.is_lagging(now) {
            return Some(Reason::Lag);
        }
        if self.is_crowded(now) {
            self.send_away(now);
            return Some(Reason::QueueFull);
        }
        None
    }

    /// There is more than can be served, and as many wait as can be let in soon: whoever comes now would wait in vain.
    fn is_crowded(&self, now: u64) -> bool {
        let limit = self.limit();
        self.in_flight >= limit && self.queue.len() >= self.enough(limit) && self.is_overloaded(now)
    }

    /// As many as are let in within half of [`hurry_ns`](Self::hurry_ns), by Little's law, where `limit` are in flight: who comes
    /// last is let in before he is sent away, though not all are let in evenly. And a part of the limit at most.
    fn enough(&self, limit: usize) -> usize {
        let most = limit / limits::WAITING_PART;
        let soon = (limit as u64).saturating_mul(self.hurry_ns() / 2) / self.limit.latency_ns().max(1);
        most.min(usize::try_from(soon).unwrap_or(usize::MAX)).max(1)
    }

    /// Somebody comes who has been here since `since_ns`; a turn of the loop takes `turn_ns`. [`Gate::next`] is to be
    /// called afterwards where he waits: others may have to go for it. What [`Gate::refuses`] holds here too, so that no way
    /// in gets before the others by not asking.
    pub(super) fn arrive(&mut self, now: u64, since_ns: u64, turn_ns: u64, urgency: Urgency, who: T) -> Arrival {
        if !self.settings.enabled {
            let max = self.settings.in_flight_max;
            return if urgency == Urgency::Background && self.in_flight.saturating_mul(2) >= max {
                Arrival::Refused(Reason::Background)
            } else if self.in_flight < max {
                Arrival::In(self.begin(now))
            } else {
                Arrival::Refused(Reason::Limit)
            };
        }
        self.see_turn(now, turn_ns);
        if self.is_lagging(now) {
            return Arrival::Refused(match urgency {
                Urgency::Background => Reason::Background,
                Urgency::Request => Reason::Lag,
            });
        }
        let limit = self.limit();
        let has_room = self.queue.is_empty() && self.in_flight < limit;
        match urgency {
            Urgency::Background if has_room && self.in_flight.saturating_mul(2) < limit => Arrival::In(self.begin(now)),
            Urgency::Background => Arrival::Refused(Reason::Background),
            Urgency::Request if has_room => {
                self.waited_since_ns = None;
                Arrival::In(self.begin(now))
            }
            Urgency::Request if self.is_crowded(now) => {
                self.send_away(now);
                Arrival::Refused(Reason::QueueFull)
            }
            Urgency::Request => {
                self.waited_since_ns.get_or_insert(now);
                let ticket = self.next;
                self.next = self.next.wrapping_add(1);
                self.queue.insert(ticket, Waiting { since_ns, who });
                Arrival::Waits(ticket)
            }
        }
    }

    fn begin(&mut self, now: u64) -> Permit {
        self.settle_missed(now);
        self.in_flight = self.in_flight.saturating_add(1);
        Permit {
            begun_ns: now,
            was_low: self.limit.began(now, self.in_flight),
        }
    }

    /// Somebody's request has ended. [`Gate::next`] is to be called afterwards.
    pub(super) fn leave(&mut self, now: u64, permit: Permit, end: End) {
        self.settle_missed(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        let latency = now.saturating_sub(permit.begun_ns);
        self.see_held(latency);
        self.limit.ended(now, latency, permit.was_low, end);
        if self.in_flight < self.limit() {
            self.look_whether_empty();
        }
    }

    /// Somebody waits no longer; whether he did.
    pub(super) fn withdraw(&mut self, ticket: Ticket) -> bool {
        let waited = self.queue.remove(&ticket).is_some();
        self.look_whether_empty();
        waited
    }

    /// Whose turn it is, for better or worse; to be called until nobody's is.
    pub(super) fn next(&mut self, now: u64) -> Option<(T, Verdict)> {
        let wait_ns_max = self.wait_ns_max(now);
        let (_, oldest) = self.queue.first_key_value()?;
        let reason = if now.saturating_sub(oldest.since_ns) >= wait_ns_max {
            Some(Reason::Waited)
        } else {
            (self.queue.len() > limits::QUEUE_MAX).then_some(Reason::QueueFull)
        };
        if let Some(reason) = reason {
            // An empty queue ends nothing here: where little comes, nobody else waits when the last one is sent away, and
            // the next would wait for as long again.
            let (_, gone) = self.queue.pop_first()?;
            if self.is_overloaded(now) {
                self.send_away(now);
            }
            if self.in_flight < self.limit() {
                self.look_whether_empty();
            }
            return Some((gone.who, Verdict::Shed(reason)));
        }
        if self.in_flight >= self.limit() {
            return None;
        }
        let (_, chosen) = self.queue.pop_first()?;
        self.look_whether_empty();
        let waited = now.saturating_sub(chosen.since_ns);
        Some((chosen.who, Verdict::In(self.begin(now), waited)))
    }

    fn look_whether_empty(&mut self) {
        if self.queue.is_empty() {
            self.waited_since_ns = None;
        }
    }
}
