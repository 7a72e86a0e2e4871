//! Every static limit of the server, with its reason. Relations between them are asserted at compile time.
//!
//! Units stand last in a name. What an operator may change at run time is in `config.rs`; these are its defaults
//! and its bounds.

pub mod balance;
pub mod drain;
pub mod life;
pub mod memory;
pub mod overload;

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
    // Offsets into a head are kept in 16 bits, counts in 8.
    const _: () = assert!(HEAD_BYTES_MAX < u16::MAX as usize);
    const _: () = assert!(HEADERS_MAX <= u8::MAX as usize);
    const _: () = assert!(LEADING_EMPTY_LINES_MAX <= u8::MAX as usize);
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
    /// Milliseconds from a miss to an answer: two calls to the store, and the telling.
    pub const TELL_MS_MAX: u64 = 12_000;

    const _: () = assert!(CPU_WINDOW_SHARE_NS < CPU_WINDOW_NS);
    const _: () = assert!(TELL_MS_MAX > 2 * STORE_MS_MAX);
    const _: () = assert!(INTERESTS_MAX * INTEREST_BYTES_MAX + LOCATION_BYTES_MAX < super::http::BODY_BYTES_MAX);
    const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX);
    const _: () = assert!(FLIGHTS_MAX as u64 <= super::server::CONNECTIONS_MAX);
}

/// The executor and its drivers.
pub mod runtime {
    /// Receive buffers of a worker. Only requests being read hold one, so this bounds reads in one turn, not
    /// connections; a receive that finds none is armed again when some have come back. A power of two (kernel).
    pub const RECV_BUFFERS: u16 = 512;
    /// Bytes of one receive buffer: an API client's request behind two proxies fits in one, and what does not is put
    /// together. All of them are touched in time, so this times their number is resident memory: 1 MiB a worker.
    pub const RECV_BUFFER_BYTES: usize = 2048;
    /// Buffers that one connection may have waiting before its receive is stopped: a fast sender with a slow handler
    /// must not take the buffers of the others.
    pub const RECV_QUEUE_BUFFERS_MAX: u16 = 4;
    /// The same of a connection that this process has opened, to a database, of `buffers` that the worker has: the answers
    /// to a turn's calls come together, and to stop and begin again for every fourth buffer of them costs more than they
    /// do. A part of all, so that a client which writes before it reads on cannot take the ones its peer's answer needs.
    pub const fn client_recv_buffers_max(buffers: u16) -> u16 {
        let part = buffers / 16;
        if part > RECV_QUEUE_BUFFERS_MAX {
            part
        } else {
            RECV_QUEUE_BUFFERS_MAX
        }
    }
    /// Accepted connections that may wait to be taken before accepting stops.
    pub const ACCEPT_QUEUE_MAX: usize = 256;
    /// Submission queue entries: one turn's operations; when it is full the driver submits early.
    pub const SUBMISSION_ENTRIES: u32 = 1024;
    /// Turns in a row, a millisecond each, in which io_uring may take nothing and give nothing (no memory for requests)
    /// before the worker gives its ring up and begins anew with another: half of the time after which the watchdog
    /// calls it stuck.
    pub const REFUSALS_MAX: u32 = 5_000;
    /// Completion queue entries: several turns' worth, so that bursts of multishot events do not overflow into the
    /// kernel's slow list.
    pub const COMPLETION_ENTRIES: u32 = 4096;
    /// Operations for which address space is reserved at start (an idle connection has one, a busy one two).
    pub const OPS_RESERVED: usize = 32 * 1024;
    /// Tasks, and timers, for which address space is reserved at start: a connection is one of each.
    pub const TASKS_RESERVED: usize = 32 * 1024;
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
    const _: () = assert!(RECV_QUEUE_BUFFERS_MAX * 16 <= RECV_BUFFERS);
    const _: () = assert!(COMPLETION_ENTRIES >= 2 * SUBMISSION_ENTRIES);
    const _: () = assert!((REFUSALS_MAX as u64) < super::drain::WORKER_TIMEOUT_MS);
}

/// Connections, whatever they carry.
pub mod connection {
    /// Bytes of answers after which a batch of pipelined requests is sent before more are read.
    pub const WRITE_BATCH_BYTES: usize = 64 * 1024;
    /// Milliseconds that a closing connection waits for its peer to close: long enough for a round trip round the
    /// world, short enough to cost nothing.
    pub const LINGER_MS: u64 = 1000;
    /// Bytes that a closing connection reads and drops: a body of the greatest size that was refused, with margin.
    pub const LINGER_BYTES_MAX: usize = 256 * 1024;
    /// SO_RCVBUF of a connection (the kernel doubles it for its own book-keeping): a body of the greatest size, and at
    /// most about an eighth of a worker's receive buffers in one burst.
    pub const SOCKET_RECV_BYTES: usize = 64 * 1024;
    /// SO_SNDBUF of a connection (doubled, too): it holds any story, and gives 1 MB/s to a client 100 ms away. Left to
    /// itself the kernel takes up to 4 MB (tcp_wmem) for each peer that does not read, and 4000 of those used up what it
    /// has for all connections of the machine (tcp_mem): others then waited for seconds.
    pub const SOCKET_SEND_BYTES: usize = 64 * 1024;
    /// Milliseconds before the first look at a send under way; later ones come at a part of the write timeout.
    pub const FIRST_LOOK_MS: u64 = 2_000;
    /// Bytes of further requests that a connection may have sent while an answer is under way. A peer that sends more
    /// without reading is no client.
    pub const PIPELINED_BYTES_MAX: usize = 256 * 1024;
    /// Connections that may wait in a socket's accept queue; the kernel caps it at net.core.somaxconn.
    pub const LISTEN_BACKLOG: i32 = 4096;
    /// Milliseconds without accepting after an accept failed (no descriptors, no memory).
    pub const ACCEPT_PAUSE_MS: u64 = 100;
    /// Looks at a send under way in one write timeout: a peer that stops is cut off at most a quarter late.
    pub const WRITE_LOOKS: u32 = 4;
    /// Bytes of an unfinished request that each connection may hold outside the worker's budget: a story request is
    /// under 4 KiB, so those that come in two packets are served while others' bodies have used the budget up. With
    /// the greatest number of connections this is 64 MiB, as much as the budget.
    pub const PENDING_FREE_BYTES: usize = 4 * 1024;
    /// Of the connections that a worker may have, the part (an eighth) that is left when it begins to close idle ones
    /// sooner. It stops when twice that is free.
    pub const CROWDED_PART: usize = 8;
    /// What a client is told to wait, seconds, where the budget for unfinished requests is used up.
    pub const RETRY_AFTER_S: u32 = 5;

    const _: () = assert!(LINGER_BYTES_MAX > super::http::BODY_BYTES_MAX + super::http::HEAD_BYTES_MAX);
}

/// Listening sockets.
pub mod listen {
    /// Addresses in BIND. Each TCP one is a socket of every worker.
    pub const ADDRESSES_MAX: usize = 16;
    /// Bytes of a Unix socket's path, or of an abstract name: `sun_path` has 108, one of them for the zero at the end of a
    /// path or the begin of a name (unix(7)).
    pub const UNIX_PATH_BYTES_MAX: usize = 107;
    /// Milliseconds to wait for another process that looks at the same Unix socket's folder.
    pub const UNIX_LOCK_MS_MAX: u64 = 1_000;
}

/// What proxies say: the PROXY protocol (HAProxy's `doc/proxy-protocol.txt`), X-Forwarded-For, Forwarded (RFC 7239).
pub mod proxy {
    /// Bytes of a version 1 line with its CRLF (section 2.1 of the specification).
    pub const LINE_BYTES_MAX: usize = 107;
    /// Bytes of a version 2 header. The specification allows 64 KiB; 536 is what it expects, and the rest is for the names
    /// in a client's certificate.
    pub const HEADER_BYTES_MAX: usize = 4096;
    /// Hops that the search for a client goes back. Real chains have one to three.
    pub const HOPS_MAX: usize = 16;
    /// Lines of one forwarding field, the last ones, that are looked at: each hop may add one.
    pub const FIELD_LINES_MAX: usize = HOPS_MAX;

    const _: () = assert!(LINE_BYTES_MAX < HEADER_BYTES_MAX);
}

/// TLS.
pub mod tls {
    /// Bytes of a file of certificates or of a key: a chain has some 5 KiB, all authorities of a browser 200 KiB.
    pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
    /// Bytes received that are part of something not yet whole: a record has at most 16 KiB and 261 B (RFC 8446 section
    /// 5.2), and a client's certificate chain, which may take several, some 5 KiB.
    pub const INCOMING_BYTES_MAX: usize = 32 * 1024;
    /// Bytes of records of TLS itself (the handshake, alerts, new keys) that wait for the peer to read: the longest is
    /// the first flight with the certificate chain. A peer that makes more of them than that reads none.
    pub const UNASKED_BYTES_MAX: usize = 64 * 1024;
    /// Bytes that a record may add to what it carries: TLS 1.2 with AES-GCM adds 5 + 8 + 16, TLS 1.3 5 + 1 + 16. What
    /// does not fit is made room for; this only makes that rare.
    pub const RECORD_OVERHEAD_BYTES: usize = 29;
    /// Bytes that a record carries at most (RFC 8446 section 5.1).
    pub const RECORD_BYTES_MAX: usize = 16 * 1024;

    const _: () = assert!(INCOMING_BYTES_MAX > RECORD_BYTES_MAX + 2048 + 5);
}

/// HTTP/2 (RFC 9113). Heads and bodies of requests have the limits of [`http`]; here is what streams and frames add.
///
/// What one connection can hold at the worst, all of it at once: heads that wait for their bodies (`STREAMS_MAX` of
/// `HEADER_LIST_BYTES_MAX`, 1.8 MiB), begun bodies (`CONNECTION_WINDOW_BYTES`, 0.4 MiB), bodies that go on
/// (`BODIES_MAX` of `http::BODY_BYTES_MAX`, 0.5 MiB), answers that are not taken (`ANSWERS_BYTES_MAX`, and what is
/// made of `LATERS_MAX` when that is reached: 2 MiB and as many pages, of 0.3 MiB as stories go, or 1 MiB at most), input and output under way (`connection::PIPELINED_BYTES_MAX` and two of
/// `connection::WRITE_BATCH_BYTES`, 0.4 MiB): 15 MiB, or 37. A connection of HTTP/1.1 reaches 1.5 MiB. An
/// idle one of HTTP/2 holds frame buffers and tables of the library: the README has the measured figure.
pub mod http2 {
    /// Streams that a client may have open: what RFC 9113 section 6.5.2 asks for at least, and what clients assume
    /// before they have read our settings.
    pub const STREAMS_MAX: usize = 100;
    /// Bytes of a list of fields, each with the 32 bytes that RFC 9113 section 6.5.2 adds: any head that HTTP/1.1 may
    /// send fits, so that the answer to one that is too large is the same.
    pub const HEADER_LIST_BYTES_MAX: usize = super::http::HEAD_BYTES_MAX + 32 * super::http::HEADERS_MAX;
    /// Bytes of a body that a client may send before we have read any: a story request, so that it needs no second
    /// round trip, and small enough that `STREAMS_MAX` of them may rest.
    pub const STREAM_WINDOW_BYTES: usize = 4 * 1024;
    /// Bytes of all bodies that a client may send before we have read any. As large as the streams' windows together:
    /// streams that wait cannot take the window from those that are read.
    pub const CONNECTION_WINDOW_BYTES: usize = STREAMS_MAX * STREAM_WINDOW_BYTES;
    /// Bodies of a connection that may grow past their stream's first window at a time; others wait for their turn.
    pub const BODIES_MAX: usize = 8;
    /// Bytes of a stream's answer that wait behind those of other streams, beyond which it is not asked for more: a
    /// producer is at most this far ahead of its client.
    pub const STREAM_SEND_BYTES_MAX: usize = 64 * 1024;
    /// Bytes of answers that are made and not yet taken by the client, beyond which no request of the connection is
    /// begun, and none that is under way goes on: two pages of a list.
    pub const ANSWERS_BYTES_MAX: usize = 2 * 1024 * 1024;
    /// Answers of a connection that are under way and not made yet: stories being told, pages being read. Others wait,
    /// but not those that are at hand. What is made of them is made whether there is room or not.
    pub const LATERS_MAX: usize = 32;
    /// Streams reset by either side in excess of those answered (CVE-2023-44487, CVE-2025-8671): one set of streams
    /// cancelled at once is a page that was left; a second one right after it is not.
    pub const RESETS_MAX: u32 = 150;
    /// Resets forgiven in a second: someone who types and cancels as he types.
    pub const RESETS_PER_S: u64 = 5;
    /// Streams that the library may hold reset and not yet seen by us: those of one read beyond `RESETS_MAX`.
    pub const PENDING_RESETS_MAX: usize = 1000;
    /// Frames that ask for nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, CONTINUATION, unknown ones)
    /// that may come in a burst.
    pub const CONTROL_FRAMES_MAX: u32 = 1000;
    /// Such frames forgiven in a second: pings of a connection that is watched, and more.
    pub const CONTROL_FRAMES_PER_S: u64 = 20;
    /// Such frames that an answer is good for: priorities, and the windows of what it carried.
    pub const CONTROL_FRAMES_PER_ANSWER: u32 = 4;
    /// Such frames that a DATA frame of ours is good for: the windows of the stream and of the connection.
    pub const CONTROL_FRAMES_PER_DATA: u32 = 2;

    const _: () = assert!(STREAM_WINDOW_BYTES < super::http::BODY_BYTES_MAX);
    const _: () = assert!(
        CONNECTION_WINDOW_BYTES > 65_535,
        "a window begins so large, and only grows"
    );
    const _: () = assert!(ANSWERS_BYTES_MAX > super::store::PAGE_BYTES_MAX);
    const _: () = assert!(RESETS_MAX as usize > STREAMS_MAX);
}

/// Stories at rest, and the queues to the threads that keep them.
pub mod store {
    /// Bytes of one story's JSON. Six minutes read aloud are about 6 KiB in Latin script and 20 KiB in a script of
    /// three bytes a character; the rest is margin. It bounds what a full queue can hold.
    pub const STORY_BYTES_MAX: usize = 64 * 1024;
    /// Bytes of the folded place name that lists are filtered by. Folding may lengthen a name, hardly double it.
    pub const LOCATION_KEY_BYTES_MAX: usize = 2 * super::story::LOCATION_BYTES_MAX;
    /// Puts waiting for the writer thread; more are refused as overload. At 3 KiB a story this is 3 MiB and about
    /// four commits' worth, so who waits at the end of it still waits well under a second.
    pub const PUT_QUEUE_MAX: usize = 1024;
    /// Puts in one commit: large enough that the disk flush is shared widely, small enough that a batch of the
    /// largest stories (16 MiB) fits beside everything else.
    pub const BATCH_PUTS_MAX: usize = 256;
    /// Reader threads: two, so that one read from a cold disk does not hold up the others.
    pub const READERS: usize = 2;
    /// Reads waiting for one reader thread. A read takes tens of microseconds, so a full queue is milliseconds.
    pub const READ_QUEUE_MAX: usize = 512;
    /// Bytes of stories on one page of a list: the page ends early where the stories are long.
    pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
    /// Bytes that the embedded store may keep of its file in memory; the kernel's page cache holds the rest.
    pub const PAGE_CACHE_BYTES: usize = 8 * 1024 * 1024;
    /// Milliseconds between a failed write (disk full, say) and the next attempt; until then puts are refused at
    /// once instead of each finding the disk full anew.
    pub const RETRY_MS: u64 = 1000;
    /// What a refused client is told to wait, seconds.
    pub const RETRY_AFTER_S: u32 = 1;

    const _: () = assert!(STORY_BYTES_MAX <= PAGE_BYTES_MAX);
    const _: () = assert!(BATCH_PUTS_MAX <= PUT_QUEUE_MAX);
    // The location's length is written in 16 bits.
    const _: () = assert!(LOCATION_KEY_BYTES_MAX <= u16::MAX as usize);
}

/// The way to database and cache servers.
pub mod backend {
    /// Threads that look up names: two, so that one dead name server does not hold up the lookup of another name.
    pub const DNS_THREADS: usize = 2;
    /// Lookups that may wait for them; each worker of a pod has a few to ask at a time.
    pub const DNS_QUEUE_MAX: usize = 256;
}

/// PostgreSQL. What an operator may change stands in `config`; these are the defaults and the bounds.
pub mod postgres {
    /// The port where the connection string names none.
    pub const PORT: u16 = 5432;
    /// Servers in one connection string.
    pub const HOSTS_MAX: usize = 16;
    /// Milliseconds for one server to take a connection (name, TCP, TLS, authentication) where `connect_timeout` is not
    /// given.
    pub const CONNECT_MS: u64 = 5_000;
    /// Seconds of silence before the first keepalive probe: below the 350 s after which cloud load balancers forget an
    /// idle connection, and above the 5 s of the readiness check, which keeps one connection busy anyway.
    pub const KEEPALIVE_IDLE_S: u64 = 30;
    /// Seconds between two probes.
    pub const KEEPALIVE_INTERVAL_S: u64 = 5;
    /// Probes without an answer that make a connection broken.
    pub const KEEPALIVE_PROBES: u32 = 3;
    /// Seconds that sent data may stay without an acknowledgement.
    pub const USER_TIMEOUT_S: u64 = 15;

    /// Connections that a worker keeps: the guide's `pool_size`. A bound; one or two are the rule.
    pub const POOL_SIZE: u64 = 20;
    /// Connections beyond that, closed as soon as they are idle: the guide's `max_overflow`.
    pub const MAX_OVERFLOW: u64 = 40;
    /// The most that either may be.
    pub const POOL_BOUND: u64 = 1_000;
    /// Milliseconds that a call waits for a connection.
    pub const POOL_WAIT_MS: u64 = 2_000;
    /// The most that it may wait: a call must end within `story::STORE_MS_MAX`.
    pub const POOL_WAIT_MS_MAX: u64 = 4_000;
    /// Calls of one worker that may wait for a connection; more are refused as overload.
    pub const POOL_WAITERS_MAX: usize = 1024;
    /// Milliseconds after which a connection is closed and opened anew, more or less a tenth: long enough to cost
    /// nothing, short enough that load moves to a server that joined, and that the server's caches of a session end.
    pub const RECYCLE_MS: u64 = 30 * 60 * 1000;
    /// Milliseconds without use after which a connection is closed.
    pub const IDLE_MS: u64 = 60_000;
    /// Milliseconds without use after which a connection is asked whether it lives before it is used.
    pub const PRE_PING_IDLE_MS: u64 = 10_000;
    /// Milliseconds for the answer to that.
    pub const PRE_PING_MS: u64 = 1_000;
    /// Bytes that a server may send until a connection is set up: certificates and parameters are a few KiB.
    pub const GREETING_BYTES_MAX: u64 = 256 * 1024;
    /// Calls in flight on each connection beyond which another is opened: at 50 us a lookup, 64 are 3 ms of queue.
    pub const DEPTH_GROW: u32 = 64;
    /// Calls in flight on one connection, at most.
    pub const DEPTH_MAX: u32 = 256;
    /// What a batch of puts counts for in these: who reads must not wait behind a flush if it can be helped, so a second
    /// connection is opened for the reads.
    pub const WRITE_WEIGHT: u32 = 64;
    /// Batches of puts in flight per worker: while one waits for the server's flush, the next is on its way.
    pub const BATCHES_MAX: u32 = 2;
    /// Bytes of stories in one batch, about.
    pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
    /// Milliseconds for one statement, here and (as `statement_timeout`) at the server.
    pub const STATEMENT_MS: u64 = 4_000;
    /// Attempts of a call whose connection broke, or whose transaction the server asked to repeat.
    pub const ATTEMPTS_MAX: u32 = 5;
    /// Milliseconds for which calls wait for the way back after the last connection broke; later ones are told at once.
    pub const GRACE_MS: u64 = 1_500;
    /// Longest first pause between attempts to connect, milliseconds; each later one at most twice as long.
    pub const BACKOFF_FIRST_MS: u64 = 100;
    /// Longest pause between attempts to connect, milliseconds: forty workers then ask a server that is starting some
    /// forty times a second, and are back a second after it.
    pub const BACKOFF_MAX_MS: u64 = 2_000;
    /// Milliseconds that a connection may take to say goodbye.
    pub const GOODBYE_MS: u64 = 1_000;
    /// Milliseconds without an outcome after which the next host of the list is tried beside the one before.
    pub const NEXT_HOST_MS: u64 = 500;
    /// Milliseconds without any outcome after which a server is dialled once more, beside the attempt that hangs.
    pub const AGAIN_MS: u64 = 1_000;
    /// Milliseconds that a call waits for an answer before its connection is doubted: twenty times what a slow commit
    /// takes. New calls then go to another connection, where the server is asked what became of the first.
    pub const SILENCE_MS: u64 = 1_000;
    /// Milliseconds between two looks at a connection that is doubted.
    pub const DOUBT_LOOK_MS: u64 = 100;
    /// Milliseconds that a connection must have lived for its end to be an accident: then the next is opened at once.
    /// Below that pauses grow, for a server that takes connections and breaks them must not be asked all the time.
    pub const STABLE_MS: u64 = 1_000;
    /// The longest of those pauses, milliseconds: below `GRACE_MS`, so that calls live through it.
    pub const FLAP_MS_MAX: u64 = 400;
    /// Milliseconds over which workers and pods that lost their connections in the same moment spread their first
    /// attempts.
    pub const SPREAD_MS: u64 = 30;
    /// Milliseconds between two reconnects because the one server that is configured takes no writes: its name may lead
    /// to the new primary.
    pub const READONLY_REDIAL_MS: u64 = 15_000;
    /// Milliseconds of the mean statement beyond which the server counts as slow: more than the 200 ms that the service
    /// promises for a whole answer.
    pub const SLOW_MS: u64 = 250;
    /// Milliseconds for which it counts as slow after the last statement that was.
    pub const SLOW_FOR_MS: u64 = 10_000;
    /// Milliseconds between two looks at how large the tables are.
    pub const SIZES_MS: u64 = 60_000;
    /// Pods that the service may grow to, for the comparison with the server's `max_connections`: the guide's autoscaler.
    pub const PODS_MAX: u64 = 20;
    /// The most that PODS_MAX may be.
    pub const PODS_BOUND: u64 = 10_000;
    /// Seconds that one migration waits for another process's, at most.
    pub const MIGRATION_LOCK_S: u64 = 60;

    const _: () = assert!(DEPTH_GROW < DEPTH_MAX && WRITE_WEIGHT <= DEPTH_GROW);
    const _: () = assert!(STATEMENT_MS < super::story::STORE_MS_MAX && POOL_WAIT_MS <= POOL_WAIT_MS_MAX);
    const _: () = assert!(POOL_WAIT_MS_MAX < super::story::STORE_MS_MAX);
    const _: () = assert!(PRE_PING_IDLE_MS > super::health::CHECK_MS && GRACE_MS <= POOL_WAIT_MS);
    const _: () = assert!(BATCH_BYTES_MAX > super::store::STORY_BYTES_MAX);
    // A call whose connection is found dead can still be run on another.
    const _: () = assert!(3 * SILENCE_MS < STATEMENT_MS && FLAP_MS_MAX + SPREAD_MS < GRACE_MS);
    const _: () = assert!(PRE_PING_MS <= SILENCE_MS && DOUBT_LOOK_MS < SILENCE_MS);
}

/// The cache of each core. How much it holds is `server::CACHE_BYTES`.
pub mod cache {
    /// An entry may take at most this part of the cache (one sixteenth): one giant must not push everything out.
    pub const ENTRY_FRACTION: u64 = 16;
    /// Bytes an entry costs beside its key and its body: slab slot, hash slots, reference counts, ETag, the entry of
    /// the index by id, and the allocator's rounding.
    pub const ENTRY_OVERHEAD_BYTES: u64 = 320;
    /// Bytes that a story costs in each coding beside its bytes and field lines: reference counts, lengths, and the
    /// allocator's rounding of three blocks.
    pub const FORM_OVERHEAD_BYTES: usize = 128;
    /// Bytes of a typical entry: sizes the memory of lately evicted keys, nothing else.
    pub const ENTRY_BYTES_TYPICAL: u64 = 4 * 1024;

    const _: () = assert!(super::server::CACHE_BYTES / ENTRY_FRACTION > super::store::STORY_BYTES_MAX as u64);
    const _: () = assert!(ENTRY_BYTES_TYPICAL > ENTRY_OVERHEAD_BYTES);
}

/// Redis, the cache that pods share. What an operator may change has its bounds in `server`.
pub mod redis {
    /// Milliseconds that a request waits for a lookup before it goes on to the store: fifty times a round trip within a
    /// data centre, and unnoticed beside the 200 ms that the service promises.
    pub const LOOKUP_MS: u64 = 50;
    /// The most that REDIS_TIMEOUT may be: longer, and the store would answer sooner.
    pub const LOOKUP_MS_BOUND: u64 = 2_000;
    /// Milliseconds for a write or a release in the background, which nobody waits for.
    pub const WRITE_MS: u64 = 1_000;
    /// Milliseconds that such a write may wait for a command to go with: under load the next comes sooner.
    pub const WRITE_LINGER_MS: u64 = 1;
    /// Milliseconds to connect, with TLS and the greeting.
    pub const CONNECT_MS: u64 = 2_000;
    /// Connections of a pod, as the scaling guide has it; a worker needs one, since commands are pipelined on it.
    pub const CONNECTIONS_MAX: u64 = 100;
    /// The most that REDIS_MAX_CONNECTIONS may be: Redis itself takes 10,000 clients unless told otherwise.
    pub const CONNECTIONS_BOUND: u64 = 10_000;
    /// Commands of a worker that wait for their answers; more are given up at once. A flight has two at most.
    pub const IN_FLIGHT_MAX: usize = 4 * super::story::FLIGHTS_MAX;
    /// Bytes of commands that wait to be sent; more are given up at once.
    pub const OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
    /// Writes in the background; more are left out and counted: the store has the story anyway.
    pub const WRITES_MAX: usize = 256;
    /// Timeouts in a row after which Redis counts as away.
    pub const TIMEOUTS_IN_ROW: u32 = 5;
    /// Milliseconds a connection must have served for its loss to be an accident: then the next is made at once, and
    /// lookups wait for it within their time. Below that, pauses grow.
    pub const STABLE_MS: u64 = 1_000;
    /// Milliseconds of the first pause between two attempts to connect; doubled each time, with jitter.
    pub const BACKOFF_MS: u64 = 50;
    /// The longest pause: so long at most goes by unused after Redis is back.
    pub const BACKOFF_MS_MAX: u64 = 5_000;
    /// Milliseconds without writes after Redis refused one (a replica, out of memory, no disk).
    pub const WRITES_OFF_MS: u64 = 5_000;
    /// Milliseconds between two reconnects because of a read-only server: its name may lead to the new primary.
    pub const READONLY_REDIAL_MS: u64 = 15_000;
    /// Milliseconds that stories are kept: a day, in which most places that are asked for are asked for again.
    pub const TTL_MS: u64 = 24 * 3600 * 1000;
    /// Milliseconds after which the lock on a key falls by itself, should its owner die: longer than a story takes.
    pub const LOCK_MS: u64 = 10_000;
    /// Milliseconds that a flight waits for the lock's owner before it tells the story itself.
    pub const LOCK_WAIT_MS: u64 = 1_500;
    /// First pause between two looks while waiting, milliseconds; doubled up to the second, with jitter.
    pub const LOCK_PAUSE_MS: u64 = 4;
    /// See above.
    pub const LOCK_PAUSE_MS_MAX: u64 = 64;
    /// Bytes of a line of the protocol: error texts are the longest, and they are short.
    pub const LINE_BYTES_MAX: usize = 4 * 1024;
    /// Bytes of a value that is read: a story with its envelope. A longer one is read past and counts as a miss.
    pub const VALUE_BYTES_MAX: usize = super::store::STORY_BYTES_MAX + super::store::LOCATION_KEY_BYTES_MAX + 256;
    /// The longest value that Redis itself allows (proto-max-bulk-len): a greater length is garbage.
    pub const BULK_BYTES_BOUND: u64 = 512 * 1024 * 1024;
    /// Items of one answer that is a list: the greeting has some twenty, and loaded modules add to it.
    pub const ITEMS_MAX: usize = 1024;
    /// Bytes that are asked of the socket at once, and the least that a connection holds for it.
    pub const READ_BYTES: usize = 16 * 1024;
    /// Ids known not to exist, per worker, and for how many milliseconds.
    pub const ABSENT_IDS_MAX: usize = 1024;
    /// See above.
    pub const ABSENT_MS: u64 = 3_000;
    /// Only ids made longer ago than this may count as absent: whatever this pod stores from now on was made later, so
    /// that no story can hide behind such an entry.
    pub const ABSENT_AGE_MS: u64 = 60_000;
    /// Milliseconds between two background refreshes of one stale story.
    pub const REFRESH_PAUSE_MS: u64 = 1_000;

    const _: () = assert!(LOOKUP_MS <= LOOKUP_MS_BOUND && LOOKUP_MS_BOUND <= CONNECT_MS);
    const _: () = assert!(LOCK_WAIT_MS < LOCK_MS && LOCK_PAUSE_MS < LOCK_PAUSE_MS_MAX);
    const _: () = assert!(LOCK_WAIT_MS + 2 * super::story::STORE_MS_MAX < super::story::TELL_MS_MAX);
    const _: () = assert!(ABSENT_AGE_MS > 2 * super::story::TELL_MS_MAX && ABSENT_MS < ABSENT_AGE_MS);
    const _: () = assert!(BACKOFF_MS < BACKOFF_MS_MAX && STABLE_MS < READONLY_REDIAL_MS);
    const _: () = assert!(CONNECT_MS <= super::health::CHECK_TIMEOUT_MS);
}

/// Content codings of answers. Times are of one virtual CPU of a Xeon, optimised build.
pub mod compression {
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
}

/// Background checks of the dependencies.
pub mod health {
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
}

/// Life of a connection, of a request and of a worker. What an operator may change stands in `config`; these are
/// the defaults and the bounds of those variables.
pub mod server {
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
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The text of every source file below a folder but this one.
    fn sources(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("src/limits.rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_limit_is_kept_to_somewhere() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let words: std::collections::HashSet<&str> = text.split(|character| !is_word(character)).collect();
        let mut room = "";
        let mut unread = Vec::new();
        for line in include_str!("limits.rs").lines() {
            if let Some(name) = line.strip_prefix("pub mod ") {
                room = name.trim_end_matches(" {");
            }
            if let Some((name, _)) = line
                .strip_prefix("    pub const ")
                .and_then(|rest| rest.strip_prefix("fn ").unwrap_or(rest).split_once([':', '(']))
                && !words.contains(name)
            {
                unread.push(format!("{room}::{name}"));
            }
        }
        assert!(unread.is_empty(), "nobody reads {unread:?}");
        assert_eq!(room, "server", "the last room was seen");
    }
}
