//! Connections, whatever they carry.

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
/// With fewer free places than this for each of its ports a worker takes connections out of the kernel's queues one by one, as
/// it has places: an accept that goes on takes all that wait in a queue at once, and those that find no place then would hold
/// descriptors, and be lost to all others.
pub const ACCEPT_ALL_PLACES: usize = LISTEN_BACKLOG as usize;
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
