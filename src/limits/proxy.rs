//! What proxies say: the PROXY protocol (HAProxy's `doc/proxy-protocol.txt`), X-Forwarded-For, Forwarded (RFC 7239).

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
