//! Life of a connection, of a request and of a worker. What an operator may change stands in `config`; these are
//! the defaults and the bounds of those variables.

/// The port where PORT is not set: the one that the service's Kubernetes objects name.
pub const PORT_DEFAULT: u64 = 8080;
/// Permissions of a Unix socket's file where BIND_UNIX_MODE is not set: owner and group may connect.
pub const UNIX_MODE: u64 = 0o660;
/// Milliseconds that an idle keep-alive connection is held. nginx closes after 75 s; load balancers close their
/// side after 60 s (AWS) or earlier, and the server must be the later one or requests race with the close.
pub const KEEP_ALIVE_MS: u64 = 75_000;
/// Milliseconds from the first byte of a request head to its last: a slow phone needs one, a slowloris all day.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;
/// Milliseconds for a whole request body: 64 KiB at 2.2 KiB/s, slower than any link that can play a story.
pub const BODY_TIMEOUT_MS: u64 = 30_000;
/// Bytes per second of a request body at least. GPRS on one time slot, the slowest that a phone still gets, is
/// 1000 B/s; half of that is Apache's floor too (mod_reqtimeout, MinRate=500).
pub const BODY_RATE_MIN: u64 = 500;
/// Milliseconds that a body has beyond what that rate gives it: a radio link wakes up in two, and loses packets.
pub const BODY_GRACE_MS: u64 = 5_000;
/// Milliseconds without the client taking a byte of its answer: a train in a tunnel, not a peer that is gone.
/// What the kernel holds for a connection is watched in the same way before it is closed; only for HTTP/2 the kernel
/// does that (TCP_USER_TIMEOUT).
pub const WRITE_TIMEOUT_MS: u64 = 30_000;
/// Bytes per second of an answer that a client takes at least, for the same reason as those of a body. Below it
/// the credit of WRITE_TIMEOUT is used up.
pub const WRITE_RATE_MIN: u64 = 500;
/// The most that either rate may be, bytes per second: a client over any radio link would be cut off.
pub const RATE_MIN_BOUND: u64 = 1024 * 1024;
/// Requests on one connection before it is closed. Nothing grows with them here (nginx closes after 1000 to free
/// what does), so this only lets connections move to other workers and pods in time: a quarter of an hour at 1000
/// requests a second.
pub const REQUESTS_PER_CONNECTION: u64 = 1_000_000;
/// Bytes per worker for requests that are not whole (bodies being read, requests that wait behind an answer): a
/// thousand bodies of the greatest size. 3000 of them took 206 MB before there was a limit.
pub const PENDING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most that PENDING_BYTES_MAX may be, 1 TiB: more is a slip of the unit.
pub const PENDING_BYTES_BOUND: u64 = 1 << 40;
/// Milliseconds for requests in flight after SIGTERM: gunicorn's `graceful_timeout`, and what Kubernetes grants.
pub const GRACEFUL_TIMEOUT_MS: u64 = 30_000;
/// No configured time is longer than a day: more is a slip of the unit.
pub const TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;
/// Connections per worker. 16384 idle ones are 8 MiB at 512 B each, and stay under the usual 65536 file
/// descriptors with four workers.
pub const CONNECTIONS_MAX: u64 = 16_384;
/// The most that CONNECTIONS_MAX may be: a million sockets per worker is past what one core can serve.
pub const CONNECTIONS_BOUND: u64 = 1_048_576;
/// Workers of one process. Larger machines exist, but gain more from two processes than from one.
pub const WORKERS_MAX: usize = 1024;
/// Bytes of cached answers per worker: about 15,000 medium stories. Filled only as they are asked for, so an idle
/// process pays nothing.
pub const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The most that CACHE_BYTES may be, 1 TiB: more is a slip of the unit.
pub const CACHE_BYTES_BOUND: u64 = 1 << 40;
/// Milliseconds that a cached answer is served. Stories do not go stale; this only returns memory of places
/// that nobody passes any more.
pub const CACHE_TTL_MS: u64 = 3600 * 1000;
/// Milliseconds past that during which it is served once more while it is looked up anew.
pub const STALE_WHILE_REVALIDATE_MS: u64 = 600 * 1000;
/// Milliseconds past that during which it is served where it cannot be looked up: stories do not change, so that
/// only memory bounds this.
pub const STALE_IF_ERROR_MS: u64 = 24 * 3600 * 1000;
/// The longest that CACHE_TTL_SECONDS may be: 30 days.
pub const CACHE_TTL_MS_BOUND: u64 = 30 * 24 * 3600 * 1000;
/// Characters of ADMIN_TOKEN at least: 16 random ones are out of reach of guessing over a network.
pub const ADMIN_TOKEN_CHARS_MIN: usize = 16;
/// Characters of ADMIN_TOKEN at most: it must fit in a request head with room to spare.
pub const ADMIN_TOKEN_CHARS_MAX: usize = 1024;
/// Characters of REDIS_PREFIX at most: it stands before every key, in memory that is Redis'.
pub const REDIS_PREFIX_CHARS_MAX: usize = 64;
/// Origins in CORS_ORIGINS: each request's Origin is compared with all of them.
pub const CORS_ORIGINS_MAX: usize = 64;
/// Milliseconds that a preflight's answer is remembered: ten minutes, so that a change of the origins is seen soon.
/// Chromium caps it at two hours.
pub const CORS_MAX_AGE_MS: u64 = 600_000;
/// Milliseconds of HSTS. 0: a browser that was told cannot be untold, so an operator must ask for it.
pub const HSTS_MAX_AGE_MS: u64 = 0;
/// The longest HSTS_MAX_AGE: two years, what preload lists ask for.
pub const HSTS_MAX_AGE_MS_BOUND: u64 = 2 * 365 * 24 * 3600 * 1000;
/// Characters of SERVER_HEADER: it stands in every answer.
pub const SERVER_HEADER_CHARS_MAX: usize = 64;
/// Log lines that wait for the writer thread; more are dropped and counted. At 300 B a line this is 5 MiB.
pub const LOG_QUEUE_LINES: usize = 16_384;

const _: () = assert!(HEAD_TIMEOUT_MS <= GRACEFUL_TIMEOUT_MS && BODY_TIMEOUT_MS <= GRACEFUL_TIMEOUT_MS);
const _: () = assert!(BODY_GRACE_MS < BODY_TIMEOUT_MS);
const _: () = assert!(WRITE_RATE_MIN <= RATE_MIN_BOUND && BODY_RATE_MIN <= RATE_MIN_BOUND);
const _: () = assert!(REQUESTS_PER_CONNECTION < u32::MAX as u64);
const _: () = assert!(PENDING_BYTES_MAX >= 16 * super::connection::PIPELINED_BYTES_MAX as u64);
const _: () = assert!(PENDING_BYTES_MAX <= PENDING_BYTES_BOUND);
const _: () = assert!(HEAD_TIMEOUT_MS < KEEP_ALIVE_MS && KEEP_ALIVE_MS < TIMEOUT_MS_MAX);
const _: () = assert!(CONNECTIONS_MAX <= CONNECTIONS_BOUND);
const _: () = assert!(CACHE_BYTES <= CACHE_BYTES_BOUND && CACHE_TTL_MS <= CACHE_TTL_MS_BOUND);
const _: () = assert!(STALE_WHILE_REVALIDATE_MS <= STALE_IF_ERROR_MS && STALE_IF_ERROR_MS <= CACHE_TTL_MS_BOUND);
const _: () = assert!(super::redis::TTL_MS <= CACHE_TTL_MS_BOUND);
const _: () = assert!(ADMIN_TOKEN_CHARS_MAX < super::http::HEAD_BYTES_MAX);
