//! Elements of X-Forwarded-For and Forwarded, from right to left, and what each says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What one hop says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Where its connection came from; none where it does not say (`unknown`, `_hidden`), or not so that it can be read.
    pub(super) addr: Option<IpAddr>,
    /// Whether that was https.
    pub(super) https: Option<bool>,
}

/// The elements of a list from right to left, trimmed; an empty one is an element, which says nothing: skipping it would
/// give the word to whoever wrote further left.
///
/// From right to left also where commas may be quoted: what the last hop appended is well formed, so its quotes pair up
/// whatever a client has left open before it. From left to right such a client could swallow it.
pub(super) struct Elements<'b> {
    rest: Option<&'b [u8]>,
    quoted: bool,
}

impl<'b> Elements<'b> {
    pub(super) fn of(line: &'b [u8], quoted: bool) -> Elements<'b> {
        Elements {
            rest: Some(line),
            quoted,
        }
    }
}

/// Those of a list without quotes.
pub(super) fn elements(line: &[u8]) -> Elements<'_> {
    Elements::of(line, false)
}

impl<'b> Iterator for Elements<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let rest = self.rest?;
        let comma = if self.quoted {
            last_comma(rest)
        } else {
            memchr::memrchr(b',', rest)
        };
        let (before, element) = match comma {
            Some(at) => (rest.get(..at), rest.get(at + 1..).unwrap_or_default()),
            None => (None, rest),
        };
        self.rest = before;
        Some(element.trim_ascii())
    }
}

/// The last comma that stands in no quoted string.
fn last_comma(line: &[u8]) -> Option<usize> {
    let mut in_quotes = false;
    for (at, &byte) in line.iter().enumerate().rev() {
        match byte {
            b',' if !in_quotes => return Some(at),
            b'"' if !in_quotes => in_quotes = true,
            b'"' => {
                // Behind an odd number of backslashes it is one of the string's own characters.
                let before = line.get(..at).unwrap_or_default();
                let backslashes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
                in_quotes = backslashes % 2 == 1;
            }
            _ => {}
        }
    }
    None
}

/// One element of Forwarded (RFC 7239 section 4): pairs with semicolons between, of which `for` and `proto` matter. One
/// that is not well formed says nothing.
pub(super) fn forwarded(element: &[u8]) -> Said {
    pairs(element).unwrap_or_default()
}

fn pairs(mut rest: &[u8]) -> Option<Said> {
    let mut said = Said::default();
    let (mut seen_for, mut seen_proto) = (false, false);
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b";") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some(said);
        }
        let equals = memchr::memchr(b'=', rest)?;
        let (name, value) = (rest.get(..equals)?, rest.get(equals + 1..)?);
        if name.is_empty()
            || !name
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        {
            return None;
        }
        let after;
        let text = if let Some(inner) = value.strip_prefix(b"\"") {
            let end = closing_quote(inner)?;
            after = inner.get(end + 1..)?.trim_ascii_start();
            inner.get(..end)?
        } else {
            // Wider than a token: there are proxies that write an address with its port unquoted.
            let end = value
                .iter()
                .position(|byte| b"; \t\"\\".contains(byte))
                .unwrap_or(value.len());
            after = value.get(end..)?.trim_ascii_start();
            value.get(..end)?
        };
        if !after.is_empty() && !after.starts_with(b";") {
            return None;
        }
        rest = after;
        if name.eq_ignore_ascii_case(b"for") {
            if std::mem::replace(&mut seen_for, true) {
                return None;
            }
            said.addr = node(text);
        } else if name.eq_ignore_ascii_case(b"proto") {
            if std::mem::replace(&mut seen_proto, true) {
                return None;
            }
            said.https = is_https(text);
        }
    }
}

/// Where the quoted string ends whose inside begins `inner`.
fn closing_quote(inner: &[u8]) -> Option<usize> {
    let mut escaped = false;
    inner.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// An address, with or without a port (RFC 7239 section 6; X-Forwarded-For has the same, and IPv6 without brackets).
pub(super) fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (addr, port) = rest.split_once(']')?;
        let well = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let addr: Ipv6Addr = addr.parse().ok()?;
        return well.then(|| addr.to_canonical());
    }
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some(addr.to_canonical());
    }
    let (addr, port) = text.split_once(':')?;
    let addr: Ipv4Addr = addr.parse().ok()?;
    is_port(port).then_some(addr.into())
}

/// A number, or an obfuscated port (RFC 7239 section 6.2).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => !hidden.is_empty() && hidden.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
        None => text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

/// Whether a scheme is https; none for what is neither.
pub(super) fn is_https(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"https") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"http") {
        Some(false)
    } else {
        None
    }
}
