//! Content codings of answers. Times are of one virtual CPU of a Xeon, optimised build.

/// Bytes of a body below which it is sent as it is: head and body fit in one packet either way, and a short story
/// saves less than its own head takes.
pub const BODY_BYTES_MIN: usize = 1024;
/// Bytes of a body up to which a worker compresses it itself. The slowest coding that it uses there, gzip for a kept
/// body, takes 0.02 ms a KiB: 0.6 ms. Longer ones go to the helper thread.
pub const WORKER_BYTES_MAX: usize = 32 * 1024;
/// Bodies waiting for the helper thread; more are sent as they are. The longest page of a list takes it some 10 ms,
/// so who waits at the end of the queue waits under a second; and 64 of them are 64 MiB.
pub const QUEUE_MAX: usize = 64;
/// Milliseconds that an answer waits for the helper thread; after that it goes as it is.
pub const WAIT_MS_MAX: u64 = 2_000;

const _: () = assert!(BODY_BYTES_MIN < WORKER_BYTES_MAX);
const _: () = assert!(WORKER_BYTES_MAX < super::store::PAGE_BYTES_MAX);
const _: () = assert!(WAIT_MS_MAX < super::server::WRITE_TIMEOUT_MS);
