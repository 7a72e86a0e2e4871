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
    /// Bytes of all chunk extensions of one body: else one-byte chunks could carry 256 ignored bytes each.
    pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
    /// Empty lines skipped before a request line (RFC 9112 section 2.2): old clients end a body with one.
    pub const LEADING_EMPTY_LINES_MAX: usize = 2;
    /// Bytes of a method. The longest known one has 7; longer tokens are refused without waiting for their end.
    pub const METHOD_BYTES_MAX: usize = 24;

    const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
    const _: () = assert!(HEADERS_MAX * 4 < HEAD_BYTES_MAX);
    // Offsets into a head are kept in 16 bits.
    const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize);
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

/// The executor and its drivers.
pub mod runtime {
    /// Receive buffers of a worker. Only requests being read hold one, so this bounds reads in one turn, not
    /// connections; a receive that finds none is armed again when some have come back. A power of two (kernel).
    pub const RECV_BUFFERS: u16 = 512;
    /// Bytes of one receive buffer: nearly every request fits in one; a body of the greatest size takes sixteen.
    pub const RECV_BUFFER_BYTES: usize = 4096;
    /// Buffers that one connection may have waiting before its receive is stopped: a fast sender with a slow handler
    /// must not take the buffers of the others.
    pub const RECV_QUEUE_BUFFERS_MAX: usize = 4;
    /// Accepted connections that may wait to be taken before accepting stops.
    pub const ACCEPT_QUEUE_MAX: usize = 256;
    /// Submission queue entries: one turn's operations; when it is full the driver submits early.
    pub const SUBMISSION_ENTRIES: u32 = 1024;
    /// Completion queue entries: several turns' worth, so that bursts of multishot events do not overflow into the
    /// kernel's slow list.
    pub const COMPLETION_ENTRIES: u32 = 4096;
    /// Operations for which address space is reserved at start (an idle connection has one, a busy one two).
    pub const OPS_RESERVED: usize = 32 * 1024;
    /// Task polls in one turn before the driver is asked again, so that a busy queue cannot starve the sockets.
    pub const POLLS_PER_TURN_MAX: usize = 512;
    /// Write buffers that a worker keeps for reuse: about as many as there are answers in one turn.
    pub const SPARE_BUFFERS_MAX: usize = 128;
    /// Bytes of capacity above which a write buffer is not kept: with the count, this bounds what is kept.
    pub const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;
    /// Bytes that one `AsyncWrite::poll_write` takes: larger writes come in pieces, so that one does not copy megabytes.
    pub const WRITE_COPY_BYTES_MAX: usize = 64 * 1024;
    /// Nanoseconds that a task may hold the core before the stall detector names it.
    pub const STALL_NS: u64 = 100_000_000;
    /// Nanoseconds that the end of a runtime waits for the kernel to give operations back.
    pub const TEARDOWN_NS_MAX: u64 = 2_000_000_000;

    const _: () = assert!(RECV_BUFFERS.is_power_of_two() && RECV_BUFFERS <= 32768);
    const _: () = assert!(RECV_QUEUE_BUFFERS_MAX * 16 <= RECV_BUFFERS as usize);
    const _: () = assert!(COMPLETION_ENTRIES >= 2 * SUBMISSION_ENTRIES);
}

/// Connections.
pub mod server {
    /// Bytes of answers after which a batch of pipelined requests is sent before more are read.
    pub const WRITE_BATCH_BYTES: usize = 64 * 1024;
    /// Milliseconds that a closing connection waits for its peer to close: long enough for a round trip round the
    /// world, short enough to cost nothing.
    pub const LINGER_MS: u64 = 1000;
    /// Bytes that a closing connection reads and drops: a body of the greatest size that was refused, with margin.
    pub const LINGER_BYTES_MAX: usize = 256 * 1024;
    /// Milliseconds without accepting after an accept failed (no descriptors, no memory).
    pub const ACCEPT_PAUSE_MS: u64 = 100;

    const _: () = assert!(LINGER_BYTES_MAX > super::http::BODY_BYTES_MAX + super::http::HEAD_BYTES_MAX);
}
