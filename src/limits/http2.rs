//! HTTP/2 (RFC 9113). Heads and bodies of requests have the limits of [`http`](super::http); here is what streams and frames add.
//!
//! What one connection can hold at the worst, all of it at once: heads that wait for their bodies (`STREAMS_MAX` of
//! `HEADER_LIST_BYTES_MAX`, 1.8 MiB), begun bodies (`CONNECTION_WINDOW_BYTES`, 0.4 MiB), bodies that go on
//! (`BODIES_MAX` of `http::BODY_BYTES_MAX`, 0.5 MiB), answers that are not taken (`ANSWERS_BYTES_MAX`, and what is
//! made of `LATERS_MAX` when that is reached: 2 MiB and as many pages, of 0.3 MiB as stories go, or 1 MiB at most), input and output under way (`connection::PIPELINED_BYTES_MAX` and two of
//! `connection::WRITE_BATCH_BYTES`, 0.4 MiB): 15 MiB, or 37. A connection of HTTP/1.1 reaches 1.5 MiB. An
//! idle one of HTTP/2 holds frame buffers and tables of the library: the README has the measured figure.

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
