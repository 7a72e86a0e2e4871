//! Overload: what a worker has in flight, what waits for it, and what is shed. Times of a part of the target scale with
//! LATENCY_TARGET.

/// Milliseconds within which a request should be answered: the guide's target for the 99th percentile.
pub const TARGET_MS: u64 = 200;
/// The least that LATENCY_TARGET may be: timers are a millisecond fine, and a part of it must be several of them.
pub const TARGET_MS_MIN: u64 = 20;
/// The most: longer than that, no client waits.
pub const TARGET_MS_MAX: u64 = 60_000;
/// Requests in flight on one worker at most, where nothing is set, and the most that may be set: what the queues behind
/// are made for.
pub const IN_FLIGHT_MAX: u64 = super::story::FLIGHTS_MAX as u64;
/// Requests in flight that are always let through: what the adaptive limit never falls below. With fewer a store that
/// commits in groups would commit one by one; and latency at so few in flight is nobody's doing but the store's own, so
/// that what is measured there is the baseline.
pub const LIMIT_MIN: usize = 4;
/// The limit to begin with, and to come back to without being asked: at the 20 ms of a slow disk, 3200 a second.
pub const LIMIT_FIRST: usize = 64;
/// Requests of a worker that wait to be let in. At 2 KiB each that is 2 MiB; at 5000 a second it is as many as can be
/// served within the target.
pub const QUEUE_MAX: usize = 1024;

/// How long a request may wait while there is more than can be served, as a part of the target. Long enough that there is
/// always somebody who waits when a group commit lets many in at once, short beside what the target leaves for serving.
pub const HURRY_PART: u64 = 10;
/// Of the limit, the part that may wait then at most; more are sent away on arrival, which costs less than to have them wait. Whatever
/// becomes free beyond that has the next who comes.
pub const WAITING_PART: usize = 2;
/// Of those who were sent away in a rush, no more are kept in mind than can be served in this part of the target, or than may be in
/// flight if that is more: so long it goes on where everything is free. Several times what a group commit leaves free
/// until others have come, so that it is no end.
pub const MISSED_PART: u64 = 4;
/// Latency beyond the baseline that is no sign of too much in flight, as a part of the target: the wait for the commit
/// before one's own, and for a share of the core.
pub const SLACK_PART: u64 = 8;
/// A turn of the loop as long as this part of the target, again and again, is lag: a new story takes some four turns.
pub const LAG_PART: u64 = 4;
/// How long turns must stay so long until something is shed for it, as a part of the target.
pub const LAG_FOR_PART: u64 = 2;

/// Nanoseconds of latencies that one step of the limit looks at.
pub const WINDOW_NS: u64 = 100_000_000;
/// Latencies that one step looks at, at least.
pub const WINDOW_SAMPLES: u64 = 10;
/// Nanoseconds after which fewer will do.
pub const WINDOW_NS_MAX: u64 = 1_000_000_000;
/// A step takes at most this part (a half) of the limit away: one bad window, a pause of the disk, is no outage.
pub const CUT_PART: f64 = 0.5;
/// A latency counts as at most so many times what is allowed: one of five seconds must not outweigh a thousand good ones.
pub const SAMPLE_CAP: u64 = 4;
/// Latencies that the baseline's moving average looks back on, and that a measurement takes: with fewer, chance makes it half or
/// twice what it is; with more, measurements take too long, and a backend that became slow is seen too late.
pub const BASELINE_SAMPLES: u64 = 16;
/// Nanoseconds of congestion after which the baseline is measured anew, with [`LIMIT_MIN`] in flight, for the first time:
/// perhaps it is not what is in flight that takes so long.
pub const PROBE_FIRST_NS: u64 = 2_000_000_000;
/// The same at most; doubled each time. A measurement takes some four times the latency, in which less is served.
pub const PROBE_NS: u64 = 10_000_000_000;
/// Nanoseconds that such a measurement takes at most, or six times the latency if that is longer.
pub const PROBE_NS_MAX: u64 = 1_000_000_000;

/// Seconds that a client is told to wait: from this to [`RETRY_AFTER_S_MAX`], by chance, so that those who were shed
/// together do not come back together.
pub const RETRY_AFTER_S_MIN: u32 = 1;
/// See above.
pub const RETRY_AFTER_S_MAX: u32 = 5;
/// Nanoseconds between two lines of the log about what was shed: at thousands a second, a line for each would be load.
pub const TELL_NS: u64 = 5_000_000_000;

const _: () = assert!(LIMIT_MIN < LIMIT_FIRST && LIMIT_FIRST as u64 <= IN_FLIGHT_MAX);
const _: () = assert!(TARGET_MS_MIN / HURRY_PART >= 2 && TARGET_MS_MIN / SLACK_PART >= 2);
const _: () = assert!(TARGET_MS_MIN <= TARGET_MS && TARGET_MS <= TARGET_MS_MAX);
const _: () = assert!(WINDOW_NS < WINDOW_NS_MAX && PROBE_NS_MAX < PROBE_FIRST_NS && PROBE_FIRST_NS < PROBE_NS);
const _: () = assert!(RETRY_AFTER_S_MIN < RETRY_AFTER_S_MAX);
