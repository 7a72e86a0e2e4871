//! The PROXY protocol, versions 1 and 2: what a load balancer says, before the first byte of a client's connection, about
//! where that comes from (HAProxy's `doc/proxy-protocol.txt`).
//!
//! For `server::begin`, which asks for a header on the connections of trusted proxies only: the receiver must not guess
//! (section 5 of the specification), since a client could forge one. Sans-IO and total: [`parse`] takes any bytes.
//!
//! Deliberately absent: a sender; UDP; what the TLVs tell beyond the checksum (TLS of the client's side, SNI).

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::SocketAddr;

/// Where a proxied connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The proxy has opened it for itself (version 2 LOCAL: a health check), or does not say (UNKNOWN, UNSPEC): the
    /// socket's own peer counts.
    Peer,
    /// From this address.
    Addr(SocketAddr),
    /// From a Unix socket of the proxy's machine: there is no address.
    Unix,
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where the connection comes from.
    pub source: Source,
    /// Bytes that the header took; the client's follow.
    pub bytes: usize,
}

/// Why bytes are no header. The connection is to be closed without an answer: whoever is there speaks another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They begin neither as version 1 nor as version 2 does.
    #[error("no PROXY header")]
    NotProxy,
    /// Version 1: a line longer than 107 bytes.
    #[error("a PROXY line without an end")]
    LineTooLong,
    /// Version 1: not as section 2.1 has it.
    #[error("a malformed PROXY line")]
    Line,
    /// Version 2: neither LOCAL nor PROXY, or of another version.
    #[error("an unknown version or command of the PROXY protocol")]
    Command,
    /// Version 2: an unknown family, or datagrams.
    #[error("an address family or transport that no stream comes by")]
    Family,
    /// Version 2: too short for its addresses.
    #[error("a PROXY header too short for its addresses")]
    TooShort,
    /// Version 2: longer than `limits::proxy::HEADER_BYTES_MAX`.
    #[error("a PROXY header that is too long")]
    TooLong,
    /// Version 2: a TLV that ends behind the header, or a checksum of a wrong length, or two.
    #[error("a malformed PROXY TLV")]
    Tlv,
    /// Version 2: the CRC32C does not match.
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// Reads the header that `bytes` begin with; `None` while bytes are missing, which is at most for
/// `limits::proxy::HEADER_BYTES_MAX` of them.
///
/// # Errors
/// [`Fault`], as early as no more bytes could make it a header.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    // The two begin differently (P, and CR), so at most one can match.
    if starts(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else if starts(bytes, v1::BEGIN) {
        v1::parse(bytes)
    } else {
        Err(Fault::NotProxy)
    }
}

/// True if `bytes` begin with `with`, or are the begin of it.
fn starts(bytes: &[u8], with: &[u8]) -> bool {
    let common = bytes.len().min(with.len());
    bytes.get(..common) == with.get(..common)
}
