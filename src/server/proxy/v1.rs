//! Version 1: one line of text (section 2.1 of the specification).

use super::{Fault, Header, Source};
use crate::limits::proxy::LINE_BYTES_MAX;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const BEGIN: &[u8] = b"PROXY ";

/// As [`super::parse`], of bytes that begin as version 1 does.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        return if window.len() < LINE_BYTES_MAX {
            Ok(None)
        } else {
            Err(Fault::LineTooLong)
        };
    };
    let line = window
        .get(BEGIN.len()..end)
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(Fault::Line)?;
    Ok(Some(Header {
        source: source(line).ok_or(Fault::Line)?,
        bytes: end + 2,
    }))
}

/// What stands between `PROXY ` and the end of the line.
fn source(line: &str) -> Option<Source> {
    // "the receiver must ignore anything presented before the CRLF" of UNKNOWN.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Source::Peer);
    }
    let mut words = line.split(' ');
    let addr: fn(&str) -> Option<IpAddr> = match words.next()? {
        // Rust's reader takes four decimal numbers without leading zeros, nothing else.
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        // Any number of hexadecimal digits up to four, `::` once, 128 bits in all; no zone.
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return None,
    };
    let (from, to) = (addr(words.next()?)?, addr(words.next()?)?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    // The destination is checked for being one, and not used.
    let _ = (to, to_port);
    words
        .next()
        .is_none()
        .then_some(Source::Addr(SocketAddr::new(from, from_port)))
}

/// 0 to 65535 in decimal, without a sign or leading zeros.
fn port(word: &str) -> Option<u16> {
    let canonical = word == "0" || word.starts_with(|c: char| ('1'..='9').contains(&c));
    canonical.then(|| word.parse().ok()).flatten()
}
