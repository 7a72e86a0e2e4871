//! The generic cell rate algorithm (ITU-T I.371 annex A, virtual scheduling): one number per client says all.
//!
//! That number is the theoretical arrival time, here *due*: the moment at which the client would be back at a full burst.
//! A request is let through if it moves `due` no further than a burst's time ahead of now; so over any time d no more than
//! rate x d + burst are. Pure arithmetic over nanoseconds of one clock; every sum saturates.

use super::limits;
use std::fmt;

/// So many in such a time, as people write it: "50/s", "600/m", "1000/h".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    const fn seconds(self) -> u64 {
        match self {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3600,
        }
    }
}

impl Rate {
    /// Reads a whole number from 1 to a million, with `/s`, `/m` or `/h` behind it, or nothing, which is `/s`.
    pub fn parse(text: &str) -> Option<Rate> {
        let (count, unit) = match text.split_once('/') {
            None => (text, Unit::Second),
            Some((count, "s")) => (count, Unit::Second),
            Some((count, "m")) => (count, Unit::Minute),
            Some((count, "h")) => (count, Unit::Hour),
            Some(_) => return None,
        };
        let plain = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        let count: u64 = plain.then(|| count.parse().ok())??;
        ((1..=limits::RATE_MAX).contains(&count)).then(|| Rate {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            unit,
        })
    }

    /// Requests per unit.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Nanoseconds from one request to the next, rounded up: never more than the rate.
    fn interval_ns(self) -> u64 {
        (self.unit.seconds() * 1_000_000_000).div_ceil(u64::from(self.count.max(1)))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "s",
            Unit::Minute => "m",
            Unit::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// A limit: a rate, and how much of it may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In the long run.
    pub rate: Rate,
    /// At once, requests.
    pub burst: u32,
}

impl Limit {
    /// A limit, unless its burst is 0 or takes more than a day to come back.
    pub fn new(rate: Rate, burst: u32) -> Option<Limit> {
        let window = rate.interval_ns().checked_mul(u64::from(burst))?;
        (burst > 0 && u64::from(burst) <= limits::BURST_MAX && window <= limits::WINDOW_NS_MAX)
            .then_some(Limit { rate, burst })
    }
}

/// A limit made ready for use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    interval_ns: u64,
    burst: u32,
    lease: u32,
}

impl From<Limit> for Quota {
    fn from(limit: Limit) -> Quota {
        Quota {
            interval_ns: limit.rate.interval_ns(),
            burst: limit.burst,
            lease: (limit.burst / limits::LEASE_PART).clamp(1, limits::LEASE_MAX),
        }
    }
}

impl Quota {
    /// Requests at once.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// Requests that a worker may let through before it tells the others, and a pod before it tells Redis.
    pub fn lease(self) -> u32 {
        self.lease
    }

    /// The time that so many requests take.
    pub(super) fn time_ns(self, requests: u32) -> u64 {
        self.interval_ns.saturating_mul(u64::from(requests))
    }

    /// The time in which a spent burst comes back.
    pub fn window_ns(self) -> u64 {
        self.time_ns(self.burst)
    }

    /// One request at `now`: the next `due`, or for how long it is too early, nanoseconds, at least 1.
    #[inline]
    pub fn admit(self, due: u64, now: u64) -> Result<u64, u64> {
        let next = due.max(now).saturating_add(self.interval_ns);
        let latest = now.saturating_add(self.window_ns());
        if next <= latest { Ok(next) } else { Err(next - latest) }
    }

    /// Requests that would be let through at once at `now`.
    pub fn left(self, due: u64, now: u64) -> u32 {
        let backlog = due.saturating_sub(now);
        let left = self.window_ns().saturating_sub(backlog) / self.interval_ns.max(1);
        u32::try_from(left).unwrap_or(u32::MAX)
    }
}

/// What somebody who lets requests through on credit knows of a client, and has let through since he last said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// By what he knows and has let through himself.
    pub(super) due: u64,
    /// `due` as the account that is common to all had it when he last looked.
    pub(super) seen: u64,
    /// Let through since then.
    pub(super) taken: u32,
    /// When he let the last one through.
    pub(super) last_ns: u64,
}

impl Account {
    /// Lets one more through on credit, if his own knowledge allows it.
    pub(super) fn take(&mut self, quota: Quota, now: u64) -> Result<(), u64> {
        self.due = quota.admit(self.due, now)?;
        self.taken = self.taken.saturating_add(1);
        self.last_ns = now;
        Ok(())
    }

    /// What the common account comes to with what he has taken.
    ///
    /// If nobody else has charged it since he looked, his own is the truth, to the nanosecond: whoever asks on one worker
    /// gets his whole limit. Otherwise all that he took is charged as of his last one. That is never too little: it is what
    /// would stand there had the others' come first and his all at that moment, and no order of the same requests at
    /// earlier times leaves more. It is too much by the length of a lease at most.
    pub(super) fn settled(&self, common: u64, quota: Quota) -> u64 {
        if common == self.seen {
            return self.due.max(common);
        }
        match self.taken {
            0 => common,
            taken => common.max(self.last_ns).saturating_add(quota.time_ns(taken)),
        }
    }

    /// He has settled, and this is the common account now.
    pub(super) fn is_settled_at(&mut self, common: u64) {
        self.due = common;
        self.seen = common;
        self.taken = 0;
    }
}
