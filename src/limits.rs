//! Every static limit of the server, with its reason. Relations between them are asserted at compile time.
//!
//! Units stand last in a name. What an operator may change at run time is in `config.rs`; these are its defaults
//! and its bounds.

/// HTTP/1.1 on the wire (RFC 9112).
pub mod http {
    /// Bytes of a request line and its headers together. nginx allows 8 KiB a line, most proxies 8 to 16 KiB in all.
    pub const HEAD_BYTES_MAX: usize = 16 * 1024;
    /// Bytes of the request target: longer gives 414. RFC 9110 section 4.1 asks for at least 8000.
    pub const TARGET_BYTES_MAX: usize = 8 * 1024;
    /// Header fields in a request: more gives 431. Browsers send about 20, proxies add about 10.
    pub const HEADERS_MAX: usize = 64;
    /// Bytes of a request body: a story request is under 4 KiB, the rest is margin. More gives 413.
    pub const BODY_BYTES_MAX: usize = 64 * 1024;
    /// Bytes of one chunk-size line with its extensions: extensions are ignored, so anything long is an attack.
    pub const CHUNK_LINE_BYTES_MAX: usize = 256;
    /// Bytes of all trailer fields of one body.
    pub const TRAILER_BYTES_MAX: usize = 4 * 1024;

    const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
    const _: () = assert!(HEADERS_MAX * 4 < HEAD_BYTES_MAX);
}

/// Story requests and answers.
pub mod story {
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

    const _: () = assert!(INTERESTS_MAX * INTEREST_BYTES_MAX + LOCATION_BYTES_MAX < super::http::BODY_BYTES_MAX);
    const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX);
}

/// Life of a connection, of a request and of a worker. What an operator may change stands in `config`; these are
/// the defaults and the bounds of those variables.
pub mod server {
    /// The port where PORT is not set: the one that the service's Kubernetes objects name.
    pub const PORT_DEFAULT: u64 = 8080;
    /// Milliseconds that an idle keep-alive connection is held. nginx closes after 75 s; load balancers close their
    /// side after 60 s (AWS) or earlier, and the server must be the later one or requests race with the close.
    pub const KEEP_ALIVE_MS: u64 = 75_000;
    /// Milliseconds from the first byte of a request head to its last: a slow phone needs one, a slowloris all day.
    pub const HEAD_TIMEOUT_MS: u64 = 10_000;
    /// Milliseconds for a whole request body: 64 KiB at 2.2 KiB/s, slower than any link that can play a story.
    pub const BODY_TIMEOUT_MS: u64 = 30_000;
    /// Milliseconds that a write may make no progress before the client counts as gone.
    pub const WRITE_TIMEOUT_MS: u64 = 30_000;
    /// Milliseconds for requests in flight after SIGTERM: gunicorn's `graceful_timeout`, and what Kubernetes grants.
    pub const GRACEFUL_TIMEOUT_MS: u64 = 30_000;
    /// Milliseconds between readiness 503 and closed listeners. 0: a deployment that needs it uses a preStop hook,
    /// or sets it to the time that its load balancer takes to notice.
    pub const DRAIN_DELAY_MS: u64 = 0;
    /// No configured time is longer than a day: more is a slip of the unit.
    pub const TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;
    /// Connections per worker. 16384 idle ones are 8 MiB at 512 B each, and stay under the usual 65536 file
    /// descriptors with four workers.
    pub const CONNECTIONS_MAX: u64 = 16_384;
    /// The most that CONNECTIONS_MAX may be: a million sockets per worker is past what one core can serve.
    pub const CONNECTIONS_BOUND: u64 = 1_048_576;
    /// Requests per worker that wait for something slow (generation, the store) at one time. At 10 ms each that is
    /// 100,000 a second; more waiting than that is overload and is answered 503.
    pub const SLOW_REQUESTS_MAX: usize = 1024;
    /// Workers of one process. Larger machines exist, but gain more from two processes than from one.
    pub const WORKERS_MAX: usize = 1024;
    /// Bytes of cached answers per worker: about 10,000 medium stories.
    pub const CACHE_BYTES: u64 = 64 * 1024 * 1024;
    /// The most that CACHE_BYTES may be, 1 TiB: more is a slip of the unit.
    pub const CACHE_BYTES_BOUND: u64 = 1 << 40;
    /// Milliseconds that a cached answer is served. Stories do not go stale; this only returns memory of places
    /// that nobody passes any more.
    pub const CACHE_TTL_MS: u64 = 3600 * 1000;
    /// The longest that CACHE_TTL_SECONDS may be: 30 days.
    pub const CACHE_TTL_MS_BOUND: u64 = 30 * 24 * 3600 * 1000;
    /// Characters of ADMIN_TOKEN at least: 16 random ones are out of reach of guessing over a network.
    pub const ADMIN_TOKEN_CHARS_MIN: usize = 16;
    /// Characters of ADMIN_TOKEN at most: it must fit in a request head with room to spare.
    pub const ADMIN_TOKEN_CHARS_MAX: usize = 1024;
    /// Log lines that wait for the writer thread; more are dropped and counted. At 300 B a line this is 5 MiB.
    pub const LOG_QUEUE_LINES: usize = 16_384;

    const _: () = assert!(HEAD_TIMEOUT_MS <= GRACEFUL_TIMEOUT_MS && BODY_TIMEOUT_MS <= GRACEFUL_TIMEOUT_MS);
    const _: () = assert!(HEAD_TIMEOUT_MS < KEEP_ALIVE_MS && KEEP_ALIVE_MS < TIMEOUT_MS_MAX);
    const _: () = assert!(SLOW_REQUESTS_MAX as u64 <= CONNECTIONS_MAX && CONNECTIONS_MAX <= CONNECTIONS_BOUND);
    const _: () = assert!(CACHE_BYTES <= CACHE_BYTES_BOUND && CACHE_TTL_MS <= CACHE_TTL_MS_BOUND);
    const _: () = assert!(ADMIN_TOKEN_CHARS_MAX < super::http::HEAD_BYTES_MAX);
}
