//! Story requests and answers.

/// Bytes of a place name as typed. The longest name in the gazetteer is under 100 bytes.
pub const LOCATION_BYTES_MAX: usize = 200;
/// Interests in one request (DESIGN: up to 8).
pub const INTERESTS_MAX: usize = 8;
/// Bytes of one interest.
pub const INTEREST_BYTES_MAX: usize = 60;
/// Stories on a page, at most, and by default.
pub const PAGE_MAX: usize = 100;
/// Stories on a page where the client does not say.
pub const PAGE_DEFAULT: usize = 20;

/// Nesting of a request's JSON: a story request has two levels, and the reader recurses into what it skips.
pub const JSON_DEPTH_MAX: usize = 32;
/// Stories under way on one worker, waiting for a generation or the store: what `overload` lets in at most. About
/// what the store's queue takes; at 10 ms each that is 100,000 a second.
pub const FLIGHTS_MAX: usize = 1024;
/// Nanoseconds of the window in which the telling of new stories may use a share of the core.
pub const CPU_WINDOW_NS: u64 = 4_000_000;
/// That share: half, so that a thousand misses at once delay a cached story by two milliseconds and not by all of
/// them. It bounds new stories to some 5000 a second and core, several times what the disk commits.
pub const CPU_WINDOW_SHARE_NS: u64 = 2_000_000;
/// Milliseconds for one call to the store.
pub const STORE_MS_MAX: u64 = 5_000;
/// Milliseconds from a miss to an answer, beside the wait to be let in (LATENCY_TARGET): two calls to the store, and the
/// telling.
pub const TELL_MS_MAX: u64 = 12_000;

const _: () = assert!(CPU_WINDOW_SHARE_NS < CPU_WINDOW_NS);
const _: () = assert!(TELL_MS_MAX > 2 * STORE_MS_MAX);
const _: () = assert!(INTERESTS_MAX * INTEREST_BYTES_MAX + LOCATION_BYTES_MAX < super::http::BODY_BYTES_MAX);
const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX);
const _: () = assert!(FLIGHTS_MAX as u64 <= super::server::CONNECTIONS_MAX);
