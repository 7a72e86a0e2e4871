//! HTTP/2 (RFC 9113) on a connection whose client began with its preface, or chose it by ALPN.
//!
//! Called by `connection`, and by whoever negotiated `h2` in TLS; calls the application as `connection` does. Frames,
//! HPACK, stream states and flow control are the crate `h2`'s; here is what it leaves to its user: bytes, requests,
//! time, and bounds on what a client may make of it.
//!
//! A request is written down as the head of an HTTP/1.1 message, as a proxy would do, and read by the one strict
//! reader, [`crate::http::parse_head`]: target, host, names, numbers and sizes are checked in one place, and what is
//! refused in one version is refused in the other (`request`). An answer is written by the application as ever, and
//! read back (`answer`).
//!
//! - `wire`: bytes between the transport and the library; no receive buffer is held across a wait
//! - `meter`: counts the frames that go by, both ways: floods
//! - `drive`: one connection: streams, time, draining
//! - `stream`: one request, from its head to the end of its answer
//! - `body`: what it sends, and what it is sent
//! - `gate`: what the streams of a connection share: bodies under way, answers not taken
//!
//! Deliberately absent: server push, priorities, CONNECT in either form, trailers (dropped), `Upgrade: h2c` (RFC 9113
//! section 3.1 removed it). Where it differs from HTTP/1.1 on the same bytes: the library takes a fragment off a
//! `:path`; it resets streams whose fields are malformed (RFC 9113 section 8.1.1) where HTTP/1.1 answers 400; it
//! answers 431 by itself, without a body and uncounted, to lists that are past any limit. It lets pseudo-fields stand in
//! trailers, which are dropped whole. A body has its time, and no rate: streams share their connection's, so a slow client
//! with many bodies would be taken for an attacker.

mod answer;
mod body;
mod drive;
mod gate;
mod meter;
mod request;
mod send;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use super::app::App;
use super::guests::Guest;
use super::transport::Transport;

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// True if `bytes`, the first of a connection, are the preface of HTTP/2 or the begin of it.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    begins(bytes) || PREFACE.starts_with(bytes)
}

/// True if `bytes` begin with the whole preface.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFACE)
}

/// Serves `stream` to its end. `early` are bytes that were received already. Every wait in it has its deadline.
pub(super) async fn serve<A: App, T: Transport>(stream: T, guest: Guest<A>, early: Vec<u8>) {
    drive::serve(stream, guest, early).await;
}
