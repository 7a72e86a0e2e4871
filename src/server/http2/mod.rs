//! HTTP/2 (RFC 9113) on a connection whose client began with its preface, or chose it by ALPN.

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

/// Serves `stream` to its end. `early` are bytes that were received already.
pub(super) async fn serve<A: App, T: Transport>(_stream: T, _guest: Guest<A>, _early: Vec<u8>) {}
