//! Memory: when it is short, and what is done then. Shares of the limit are in thousandths of it.

use std::time::Duration;

/// The whole limit.
pub const WHOLE: u32 = 1000;
/// From here on caches shrink: the guide's target, 3 GB of a pod's 4.
pub const SOFT: u32 = 750;
/// From here on new connections get health and metrics only: the guide's alert, 3.5 GB of 4.
pub const HARD: u32 = 875;
/// Below this the soft level ends: far enough under it that one burst does not begin it again.
pub const SOFT_END: u32 = 700;
/// Below this the hard level becomes the soft one.
pub const HARD_END: u32 = 812;
/// Below this caches that were made smaller grow again. Between this and [`SOFT`] they stay as they are, so that a cache
/// larger than its pod does not fill and shrink in turns.
pub const ROOMY: u32 = 600;
/// For so long use must stay below a level's end before the level ends.
pub const SETTLE: Duration = Duration::from_millis(500);
/// Between two steps in which caches shrink: what the last one gave back shows by then.
pub const STEP: Duration = Duration::from_millis(250);
/// Of what a cache holds, the least part that is left by one step.
pub const KEEP_MIN: u32 = 250;
/// The most that is left: a smaller step is none.
pub const KEEP_MAX: u32 = 950;
/// A step frees so many times what is above [`SOFT_END`], as not all memory is cache.
pub const STEP_FACTOR: u32 = 2;
/// Bytes that a worker's cache keeps in any case: some 250 stories, which are those that are asked for most.
pub const CACHE_BYTES_MIN: u64 = 1024 * 1024;
/// Bytes of a cache that are freed before others have their turn: some milliseconds of work.
pub const CHUNK_BYTES: u64 = 2 * 1024 * 1024;
/// Between two steps in which a cache grows again, each by an eighth.
pub const GROW: Duration = Duration::from_secs(1);
/// The same once so many steps were [in vain](STEPS_IN_VAIN): caches cannot grow meanwhile, and workers need not wake.
pub const STEP_IN_VAIN: Duration = Duration::from_secs(5);
/// So many steps in a row without the soft level ending: it is not the caches that take the memory.
pub const STEPS_IN_VAIN: u32 = 20;

/// Longest pause between two looks, far from the soft level.
pub const LOOK_MAX: Duration = Duration::from_millis(500);
/// Shortest, and the pause at the hard level.
pub const LOOK_MIN: Duration = Duration::from_millis(50);
/// Pause at the soft level.
pub const LOOK_SOFT: Duration = Duration::from_millis(100);
/// Milliseconds of pause for each thousandth of the limit that the soft level is away: use that grows by a quarter of the
/// limit in a second is seen as it crosses the level.
pub const LOOK_MS_PER_SHARE: u64 = 4;
/// Pause behind a look that panicked; doubled for each more in a row.
pub const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The longest of these pauses.
pub const LOOK_AGAIN_MAX: Duration = Duration::from_secs(30);
/// So many looks in a row that panicked end whatever level there was: one may be chance, and the level still true.
pub const LOOKS_FAILED: u32 = 2;
/// Pause behind a look that could read nothing.
pub const LOOK_BLIND: Duration = Duration::from_millis(250);
/// Where looks can read nothing for so long, memory counts as not short until one can: the limits have been looked at anew
/// by then, and to refuse connections for ever is an outage.
pub const BLIND_MAX: Duration = Duration::from_secs(75);
/// Between two looks at what the limits are: a pod may be resized in place.
pub const LIMITS_AGAIN: Duration = Duration::from_secs(30);

/// Connections of a worker that came at the hard level, at most; where more come, the oldest that has not asked for anything
/// makes way, or of those that have, where they are more than half. Probes and scrapers are a dozen; over TLS each takes some
/// 20 KB while it is greeted. Where fewer places are free, half of those, and half of [`LATE_BEYOND`] at least.
pub const LATE_MAX: usize = 512;
/// Of them, so many may come where no place is free: half of these to stay until they have their answer, since several come in
/// one turn, and half for those that make way and end in the next.
pub const LATE_BEYOND: usize = 16;
/// For such a connection to send its request, and then to take the answer.
pub const LATE_PATIENCE: Duration = Duration::from_secs(2);
/// At the hard level an idle connection is kept for so long at most: its socket alone takes some 5 KB of the kernel's
/// memory, which the limit counts.
pub const IDLE: Duration = Duration::from_secs(5);
/// At the hard level answers that clients are slow to take may hold this part of PENDING_BYTES_MAX.
pub const ANSWERS_PART: usize = 8;
/// Of the limit, the part that all budgets of PENDING_BYTES_MAX together may have (a quarter): clients fill them faster than
/// anybody looks.
pub const PENDING_PART: u64 = 4;
/// What a client that is refused is told to wait, seconds: by then readiness has led it elsewhere.
pub const RETRY_AFTER_S: u32 = 5;
/// The least MEMORY_MAX: below it the process itself does not fit.
pub const MEMORY_MAX_MIN: u64 = 16 * 1024 * 1024;

const _: () = assert!(ROOMY < SOFT_END && SOFT_END < SOFT && SOFT < HARD_END && HARD_END < HARD && HARD < WHOLE);
const _: () = assert!(LOOK_AGAIN.as_millis() < LOOK_AGAIN_MAX.as_millis());
const _: () = assert!(BLIND_MAX.as_millis() > 2 * LIMITS_AGAIN.as_millis());
const _: () = assert!(KEEP_MIN < KEEP_MAX && KEEP_MAX < WHOLE);
const _: () = assert!(LOOK_MIN.as_millis() <= LOOK_SOFT.as_millis() && LOOK_SOFT.as_millis() <= LOOK_MAX.as_millis());
const _: () = assert!(LOOK_SOFT.as_millis() < STEP.as_millis() && STEP.as_millis() <= SETTLE.as_millis());
const _: () = assert!(CACHE_BYTES_MIN / super::cache::ENTRY_FRACTION > super::cache::ENTRY_BYTES_TYPICAL);
