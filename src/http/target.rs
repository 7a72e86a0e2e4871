//! The request target in its four forms (RFC 9112 section 3.2), and the host it names.

use super::bytes;
use super::types::{Method, Reject};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// As sent.
    pub(super) whole: &'b str,
    /// Begins with `/`, or is `*`.
    pub(super) path: &'b str,
    pub(super) query: Option<&'b str>,
    /// Of an absolute-form target: takes the place of the Host field (RFC 9112 section 3.2.2).
    pub(super) authority: Option<&'b str>,
}

/// No target in any form begins so.
pub(super) const FORM: Reject = Reject::bad("the request target must be a path or an http URI");

/// Reads a target of visible ASCII bytes (others are refused).
pub(super) fn parse(method: Method, whole: &[u8]) -> Result<Target<'_>, Reject> {
    let whole = ascii(whole)?;
    if whole.as_bytes().first() == Some(&b'/') {
        let (path, query) = path_and_query(whole)?;
        return Ok(Target {
            whole,
            path,
            query,
            authority: None,
        });
    }
    if whole == "*" {
        return match method {
            Method::Options => Ok(Target {
                whole,
                path: whole,
                query: None,
                authority: None,
            }),
            _ => Err(Reject::bad("only OPTIONS may ask for *")),
        };
    }
    absolute(method, whole)
}

fn absolute(method: Method, whole: &str) -> Result<Target<'_>, Reject> {
    let scheme_len = ["http://", "https://"]
        .iter()
        .find(|scheme| {
            whole
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .ok_or(FORM)?
        .len();
    let rest = whole.get(scheme_len..).ok_or(FORM)?;
    let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(authority_len).ok_or(FORM)?;
    check_host(authority.as_bytes())?;
    let (path, query) = path_and_query(rest)?;
    // RFC 9112 section 3.2.4: OPTIONS of a URI without path and query asks for the server as a whole.
    let path = match (path, query, method) {
        ("", None, Method::Options) => "*",
        ("", ..) => "/",
        _ => path,
    };
    Ok(Target {
        whole,
        path,
        query,
        authority: Some(authority),
    })
}

fn path_and_query(text: &str) -> Result<(&str, Option<&str>), Reject> {
    const BYTE: Reject = Reject::bad("the request target holds a byte that must be escaped");
    let mut rest = text.as_bytes().iter();
    loop {
        match rest.next() {
            Some(&b) if bytes::is_path(b) => {}
            Some(b'%') if takes_escape(&mut rest) => {}
            Some(b'%') => return Err(Reject::bad("the path holds a % that begins no escape")),
            Some(b'?') => break,
            Some(_) => return Err(BYTE),
            None => return Ok((text, None)),
        }
    }
    let query_len = rest.len();
    while let Some(&b) = rest.next() {
        match b {
            b'%' if takes_escape(&mut rest) => {}
            b'%' => return Err(Reject::bad("the query holds a % that begins no escape")),
            _ if bytes::is_query(b) => {}
            _ => return Err(BYTE),
        }
    }
    let mark = text.len() - query_len - 1;
    match (text.get(..mark), text.get(mark + 1..)) {
        (Some(path), Some(query)) => Ok((path, Some(query))),
        _ => Err(BYTE),
    }
}

/// Takes the two digits after a `%`.
fn takes_escape(rest: &mut std::slice::Iter<'_, u8>) -> bool {
    matches!((rest.next(), rest.next()), (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// What follows the `reg-name`, which must not be empty (RFC 3986 section 3.2.2).
fn after_reg_name(host: &[u8]) -> Option<&[u8]> {
    let mut rest = host.iter();
    let mut len = 0;
    while let Some(&b) = rest.next() {
        match b {
            _ if bytes::is_reg_name(b) => len += 1,
            b'%' if takes_escape(&mut rest) => len += 3,
            b':' => break,
            _ => return None,
        }
    }
    if len == 0 { None } else { host.get(len..) }
}

/// Refuses a Host field that is not the authority of an absolute-form target, as the client must send it (RFC 9112
/// section 3.2). By section 3.2.2 the target's would count; but who filters by one and serves by the other is fooled.
pub(super) fn check_same(authority: &[u8], host: Option<&[u8]>) -> Result<(), Reject> {
    match host {
        Some(host) if !host.eq_ignore_ascii_case(authority) => {
            Err(Reject::bad("Host is not the authority of the request target"))
        }
        _ => Ok(()),
    }
}

/// The text of bytes that should be ASCII.
pub(super) fn ascii(bytes: &[u8]) -> Result<&str, Reject> {
    const ASCII: Reject = Reject::bad("the request target and the host must be ASCII");
    let text = std::str::from_utf8(bytes).map_err(|_| ASCII)?;
    if text.is_ascii() { Ok(text) } else { Err(ASCII) }
}

/// Refuses what is no `uri-host [ ":" port ]` (RFC 9110 section 7.2): user information, bad brackets or port, an
/// empty host (RFC 9110 section 4.2.1).
pub(super) fn check_host(host: &[u8]) -> Result<(), Reject> {
    const HOST: Reject = Reject::bad("the host is malformed");
    let after = match host {
        [b'[', inside @ ..] => {
            let end = inside.iter().position(|&b| !bytes::is_ip_literal(b)).ok_or(HOST)?;
            match inside.split_at_checked(end) {
                Some((literal, [b']', after @ ..])) if is_ip_literal(literal) => after,
                _ => return Err(HOST),
            }
        }
        _ => after_reg_name(host).ok_or(HOST)?,
    };
    match after {
        [] => Ok(()),
        // At most five digits, so the sum stays far from overflow.
        [b':', port @ ..] if port.len() <= 5 && port.iter().all(u8::is_ascii_digit) => {
            let number = port.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            if number <= 65535 { Ok(()) } else { Err(HOST) }
        }
        _ => Err(HOST),
    }
}

/// An IPv6 address, or `IPvFuture` (RFC 3986 section 3.2.2).
fn is_ip_literal(text: &[u8]) -> bool {
    match text {
        [b'v' | b'V', version @ ..] => {
            let hex = version.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            hex > 0 && version.get(hex) == Some(&b'.') && version.len() > hex + 1
        }
        _ => std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok()),
    }
}
