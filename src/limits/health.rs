//! Background checks of the dependencies.

/// Milliseconds between two looks at the dependencies: two failures make one unready, so ten seconds, which is what
/// a readiness probe's own threshold would take.
pub const CHECK_MS: u64 = 5_000;
/// Milliseconds between two looks while the store is down.
pub const RECHECK_MS: u64 = 1_000;
/// Milliseconds for one look.
pub const CHECK_TIMEOUT_MS: u64 = 2_000;
/// Nanoseconds for which figures read from /proc are served again.
pub const SYSTEM_NS: u64 = 1_000_000_000;

/// Milliseconds between two looks of the watchdog.
pub const WATCH_MS: u64 = 1_000;
/// Milliseconds for all workers to say that they serve.
pub const BOOT_MS_MAX: u64 = 30_000;
/// Milliseconds beyond the graceful timeout for threads to wind up.
pub const DRAIN_MARGIN_MS: u64 = 3_000;

const _: () = assert!(CHECK_TIMEOUT_MS < CHECK_MS && RECHECK_MS < CHECK_MS);
const _: () = assert!(WATCH_MS < super::drain::WORKER_TIMEOUT_MS);
