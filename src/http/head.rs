//! Request heads: the fast reader, which only ever says yes, and what it gives.

use super::bytes;
use super::fields::{BodyFraming, Fields, Span};
use super::scanner::HeadScanner;
use super::target::{self, Target};
use super::types::{Method, Reject, Version};
use crate::limits::http::{HEAD_BYTES_MAX, HEADERS_MAX, LEADING_EMPTY_LINES_MAX, TARGET_BYTES_MAX};

/// A request head that passed every check. Borrows the bytes it was read from, and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'b> {
    /// The method.
    pub method: Method,
    /// The request target as sent, for logs. ASCII.
    pub target: &'b str,
    /// The path, escapes not decoded but well formed: begins with `/`, or is `*` (OPTIONS only).
    pub path: &'b str,
    /// What follows the first `?`, escapes not decoded but well formed; `None` without a `?`.
    pub query: Option<&'b str>,
    /// The version.
    pub version: Version,
    /// Host and port asked for: of the target where it names them (RFC 9112 section 3.2.2), else the Host field. Where
    /// both are there they are the same but for case. Well formed; empty only in HTTP/1.0 without Host.
    pub host: &'b str,
    /// How long the body is. Bounds are [`super::BodyDecoder::new`]'s to check.
    pub framing: BodyFraming,
    /// Whether the client lets the connection stay open.
    pub keep_alive: bool,
    /// Whether the client waits for 100 before it sends its body: send [`super::CONTINUE_100`] before reading on.
    pub expect_continue: bool,
    /// All fields.
    pub headers: Headers<'b>,
    head: &'b [u8],
    fields: Fields,
}

impl<'b> RequestHead<'b> {
    /// Content-Type. Sent at most once.
    pub fn content_type(&self) -> Option<&'b [u8]> {
        self.fields.content_type.of(self.head)
    }

    /// Authorization. Sent at most once. A secret: never log it.
    pub fn authorization(&self) -> Option<&'b [u8]> {
        self.fields.authorization.of(self.head)
    }

    /// The lines of Accept, in order.
    pub fn accept(&self) -> impl Iterator<Item = &'b [u8]> + Clone {
        self.lines("accept", self.fields.accept)
    }

    /// The lines of Accept-Encoding, in order.
    pub fn accept_encoding(&self) -> impl Iterator<Item = &'b [u8]> + Clone {
        self.lines("accept-encoding", self.fields.accept_encoding)
    }

    /// The lines of Content-Encoding, in order.
    pub fn content_encoding(&self) -> impl Iterator<Item = &'b [u8]> + Clone {
        self.lines("content-encoding", self.fields.content_encoding)
    }

    /// Whether there is any precondition: see [`super::conditional::Conditions::of`].
    pub fn is_conditional(&self) -> bool {
        self.fields.conditional
    }

    /// The line at `first`, and those after it where the head has any: only then is it walked again.
    fn lines(&self, name: &'static str, first: Span) -> impl Iterator<Item = &'b [u8]> + Clone {
        let more = if self.fields.wishes_repeated {
            self.headers.lines
        } else {
            &[]
        };
        let rest = Headers { lines: more }.get_all(name).skip(1);
        first.of(self.head).into_iter().chain(rest)
    }

    /// The first X-Request-ID, as sent: its reader decides whether it is well formed.
    pub fn x_request_id(&self) -> Option<&'b [u8]> {
        self.fields.x_request_id.of(self.head)
    }

    /// traceparent (W3C Trace Context), as sent; empty where it was sent twice.
    pub fn traceparent(&self) -> Option<&'b [u8]> {
        self.fields.traceparent.of(self.head)
    }
}

/// The fields of a head, in order, as sent. Found by walking the checked bytes again: nothing is stored per field.
#[derive(Clone, Copy)]
pub struct Headers<'b> {
    /// Field lines, each with its CRLF, already checked.
    lines: &'b [u8],
}

impl<'b> Headers<'b> {
    /// (name, value) of each field; names as sent, values trimmed.
    pub fn iter(self) -> HeaderIter<'b> {
        HeaderIter { rest: self.lines }
    }

    /// The first value under `name`, in whichever case.
    pub fn get(self, name: &str) -> Option<&'b [u8]> {
        self.get_all(name).next()
    }

    /// Every value under `name`, in order.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = &'b [u8]> + Clone {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl<'b> IntoIterator for Headers<'b> {
    type Item = (&'b str, &'b [u8]);
    type IntoIter = HeaderIter<'b>;

    fn into_iter(self) -> HeaderIter<'b> {
        self.iter()
    }
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Walks the fields of a head.
#[derive(Clone)]
pub struct HeaderIter<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for HeaderIter<'b> {
    type Item = (&'b str, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\r', self.rest)?;
        let line = self.rest.get(..end)?;
        self.rest = self.rest.get(end + 2..)?;
        let colon = memchr::memchr(b':', line)?;
        let name = std::str::from_utf8(line.get(..colon)?).ok()?;
        Some((name, bytes::trim(line.get(colon + 1..)?)))
    }
}

/// Reads a request head from the start of `buf`: the head and how many bytes it took, `None` while bytes are
/// missing, or a refusal, as early as the bytes so far can no longer become a request.
///
/// Where `None` comes back and bytes trickle in, asking again each time costs the square of the length:
/// [`HeadScanner::parse`] does the same in one pass over the bytes.
pub fn parse_head(buf: &[u8]) -> Result<Option<(RequestHead<'_>, usize)>, Reject> {
    HeadScanner::new().parse(buf)
}

/// The fast path: a whole, valid head, or `None` for anything else, whose reason [`HeadScanner`] then finds.
/// Whatever this takes, the scanner must take, too (property test `reader_and_scanner_agree`).
///
/// Never an error; in the shape of [`parse_head`], so that the head is written once and not copied on.
pub(super) fn accept(buf: &[u8]) -> Result<Option<(RequestHead<'_>, usize)>, Reject> {
    Ok(read(buf))
}

#[inline(always)]
fn read(buf: &[u8]) -> Option<(RequestHead<'_>, usize)> {
    let head = buf.get(..HEAD_BYTES_MAX).unwrap_or(buf);
    let mut at = 0;
    for _ in 0..LEADING_EMPTY_LINES_MAX {
        if head.get(at..)?.first_chunk::<2>() != Some(b"\r\n") {
            break;
        }
        at += 2;
    }
    let (method, method_len) = match head.get(at..)? {
        [b'G', b'E', b'T', b' ', ..] => (Method::Get, 4),
        [b'P', b'O', b'S', b'T', b' ', ..] => (Method::Post, 5),
        [b'H', b'E', b'A', b'D', b' ', ..] => (Method::Head, 5),
        other => {
            let len = bytes::token_len(other.get(..8).unwrap_or(other));
            let method = Method::from_token(other.get(..len)?).ok()?;
            if other.get(len) != Some(&b' ') {
                return None;
            }
            (method, len + 1)
        }
    };
    at += method_len;
    let rest = head.get(at..)?;
    let target_len = bytes::target_len(rest);
    if target_len > TARGET_BYTES_MAX {
        return None;
    }
    let Target {
        whole,
        path,
        query,
        authority,
    } = target::parse(method, rest.get(..target_len)?).ok()?;
    at += target_len;
    let version = match head.get(at..)?.first_chunk::<11>()? {
        b" HTTP/1.1\r\n" => Version::Http11,
        b" HTTP/1.0\r\n" => Version::Http10,
        _ => return None,
    };
    at += 11;

    let fields_start = at;
    let mut fields = Fields::default();
    let mut count = 0;
    loop {
        let line = head.get(at..)?;
        let name_len = bytes::token_len(line);
        match line.get(name_len)? {
            b':' if name_len > 0 && count < HEADERS_MAX => {}
            b'\r' if name_len == 0 && line.get(1) == Some(&b'\n') => break,
            _ => return None,
        }
        let after_name = line.get(name_len + 1..)?;
        let value_len = bytes::value_len(after_name);
        if after_name.get(value_len..)?.first_chunk::<2>() != Some(b"\r\n") {
            return None;
        }
        let padded = after_name.get(..value_len)?;
        let (start, end) = bytes::trimmed(padded);
        let value_at = at + name_len + 1;
        fields
            .note(
                line.get(..name_len)?,
                padded.get(start..end)?,
                Span::new(value_at + start, value_at + end),
            )
            .ok()?;
        at = value_at + value_len + 2;
        count += 1;
    }
    let verdict = fields.finish(version).ok()?;
    let host = match authority {
        Some(authority) => {
            target::check_same(authority.as_bytes(), fields.host.of(head)).ok()?;
            authority
        }
        None => std::str::from_utf8(fields.host.of(head).unwrap_or_default()).ok()?,
    };
    let request = RequestHead {
        method,
        target: whole,
        path,
        query,
        version,
        host,
        framing: verdict.framing,
        keep_alive: verdict.keep_alive,
        expect_continue: verdict.expect_continue,
        headers: Headers {
            lines: head.get(fields_start..at)?,
        },
        head,
        fields,
    };
    Some((request, at + 2))
}
