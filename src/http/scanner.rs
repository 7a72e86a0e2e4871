//! The careful reader: byte by byte, resumable, and the one place that says why a head is refused.

use super::bytes;
use super::fields::{Fields, Span};
use super::head::{RequestHead, accept};
use super::target;
use super::types::{Method, Reject, Status, Version};
use crate::limits::http::{HEAD_BYTES_MAX, HEADERS_MAX, LEADING_EMPTY_LINES_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX};

/// Not seen while the scanner and the fast reader take the same heads; tests look for it.
pub(super) const DISAGREEMENT: Reject = Reject::bad("the request could not be read");

/// Reads a head that comes in pieces, looking at each byte a fixed number of times however small the pieces are.
///
/// One per connection, while a head is incomplete; 64 bytes, no heap. Use:
///
/// 1. bytes arrive: append them to what the connection holds, and call [`HeadScanner::parse`] with all of it, from
///    the first byte of the request;
/// 2. `Ok(None)`: keep the scanner and the bytes, wait for more;
/// 3. `Ok(Some((head, len)))`: the scanner is fresh again; the body or the next request begins at `len`;
/// 4. `Err`: answer, close; asked again, it errs again.
///
/// A refusal comes with the byte that rules the request out, or at the end of the target or field line that holds
/// it. It is the same however the bytes were split.
#[derive(Clone, Debug)]
pub struct HeadScanner {
    state: State,
    method: Method,
    version: Version,
    /// Bytes looked at so far: at most `HEAD_BYTES_MAX`, so this and the offsets below fit 16 bits.
    at: u16,
    /// Where the element being read (method, target, version, field line) began.
    begun: u16,
    /// Where the field name ended.
    name_end: u16,
    empty_lines: u8,
    count: u8,
    /// The authority of an absolute-form target.
    authority: Span,
    fields: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    StartLf,
    Method,
    Target,
    Version,
    RequestLf,
    LineStart,
    Name,
    Value,
    ValueLf,
    EndLf,
    Done,
}

impl Default for HeadScanner {
    fn default() -> Self {
        HeadScanner::new()
    }
}

impl HeadScanner {
    /// A scanner before its first byte.
    pub fn new() -> HeadScanner {
        HeadScanner {
            state: State::Start,
            method: Method::Get,
            version: Version::Http11,
            at: 0,
            begun: 0,
            name_end: 0,
            empty_lines: 0,
            count: 0,
            authority: Span::default(),
            fields: Fields::default(),
        }
    }

    /// Whether no part of a request has been seen: a connection in this state may be closed as idle.
    pub fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// As [`super::parse_head`], where `buf` begins with the bytes of the last call.
    pub fn parse<'b>(&mut self, buf: &'b [u8]) -> Result<Option<(RequestHead<'b>, usize)>, Reject> {
        // Most heads arrive whole: the scan below is for those that do not, and for those to be refused.
        if self.at == 0 {
            let whole = accept(buf);
            if matches!(whole, Ok(Some(_))) {
                return whole;
            }
        }
        self.resume(buf)
    }

    #[cold]
    fn resume<'b>(&mut self, buf: &'b [u8]) -> Result<Option<(RequestHead<'b>, usize)>, Reject> {
        if !self.scan(buf)? {
            return Ok(None);
        }
        *self = HeadScanner::new();
        // The scanner and the reader agree (tested); were they ever not to, the request is not to be trusted.
        match accept(buf) {
            Ok(Some(whole)) => Ok(Some(whole)),
            _ => Err(DISAGREEMENT),
        }
    }

    /// Whether the head is whole.
    pub(super) fn scan(&mut self, buf: &[u8]) -> Result<bool, Reject> {
        let head = buf.get(..HEAD_BYTES_MAX).unwrap_or(buf);
        while self.state != State::Done {
            let Some(&byte) = head.get(usize::from(self.at)) else {
                break;
            };
            self.step(head, byte)?;
            self.at += 1;
        }
        if self.state == State::Done {
            return Ok(true);
        }
        if head.len() == HEAD_BYTES_MAX {
            return Err(Reject::new(
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request head is too large",
            ));
        }
        Ok(false)
    }

    fn step(&mut self, head: &[u8], byte: u8) -> Result<(), Reject> {
        let line_end = |next: State, error: &'static str| {
            if byte == b'\n' {
                Ok(next)
            } else {
                Err(Reject::bad(error))
            }
        };
        self.state = match self.state {
            State::Start => self.start(byte)?,
            State::StartLf => line_end(State::Start, "a CR without LF")?,
            State::Method => self.in_method(head, byte)?,
            State::Target => self.in_target(head, byte)?,
            State::Version => self.in_version(byte)?,
            State::RequestLf => line_end(State::LineStart, "a CR without LF")?,
            State::LineStart => self.line_start(byte)?,
            State::Name => self.in_name(byte)?,
            State::Value => in_value(byte)?,
            State::ValueLf => {
                let next = line_end(State::LineStart, "a CR without LF in a field value")?;
                self.end_field(head)?;
                next
            }
            State::EndLf => {
                let next = line_end(State::Done, "a CR without LF")?;
                self.fields.finish(self.version)?;
                if let Some(authority) = self.authority.of(head) {
                    target::check_same(authority, self.fields.host.of(head))?;
                }
                next
            }
            State::Done => State::Done,
        };
        Ok(())
    }

    /// The element being read, up to the byte in hand.
    fn element<'b>(&self, head: &'b [u8]) -> &'b [u8] {
        head.get(usize::from(self.begun)..usize::from(self.at))
            .unwrap_or_default()
    }

    fn element_len(&self) -> usize {
        usize::from(self.at - self.begun)
    }

    fn start(&mut self, byte: u8) -> Result<State, Reject> {
        if byte == b'\r' && usize::from(self.empty_lines) < LEADING_EMPTY_LINES_MAX {
            self.empty_lines += 1;
            return Ok(State::StartLf);
        }
        if !bytes::is_token(byte) {
            return Err(Reject::bad("this is no HTTP request"));
        }
        self.begun = self.at;
        Ok(State::Method)
    }

    fn in_method(&mut self, head: &[u8], byte: u8) -> Result<State, Reject> {
        if byte == b' ' {
            self.method = Method::from_token(self.element(head))?;
            self.begun = self.at + 1;
            return Ok(State::Target);
        }
        if !bytes::is_token(byte) {
            return Err(Reject::bad("this is no HTTP request"));
        }
        if self.element_len() >= METHOD_BYTES_MAX {
            return Err(Reject::new(Status::NOT_IMPLEMENTED, "unknown method"));
        }
        Ok(State::Method)
    }

    fn in_target(&mut self, head: &[u8], byte: u8) -> Result<State, Reject> {
        if byte == b' ' {
            let whole = self.element(head);
            if let Some(authority) = target::parse(self.method, whole)?.authority {
                // Behind the scheme and its two slashes.
                let start = memchr::memchr(b':', whole).map_or(0, |colon| usize::from(self.begun) + colon + 3);
                self.authority = Span::new(start, start + authority.len());
            }
            self.begun = self.at + 1;
            return Ok(State::Version);
        }
        if !bytes::is_target(byte) {
            return Err(Reject::bad(match byte {
                b'\r' | b'\n' => "the request line names no version",
                _ => "the request target holds a byte that must be escaped",
            }));
        }
        if self.element_len() == 0 && !matches!(byte, b'/' | b'*' | b'h' | b'H') {
            return Err(target::FORM);
        }
        if self.element_len() >= TARGET_BYTES_MAX {
            return Err(Reject::new(Status::URI_TOO_LONG, "the request target is too long"));
        }
        Ok(State::Target)
    }

    /// RFC 9112 section 2.3: `HTTP/` DIGIT `.` DIGIT.
    fn in_version(&mut self, byte: u8) -> Result<State, Reject> {
        const VERSION: Reject = Reject::bad("the version is malformed");
        const OTHER: Reject = Reject::new(
            Status::HTTP_VERSION_NOT_SUPPORTED,
            "only HTTP/1.1 and HTTP/1.0 are spoken",
        );
        match (self.element_len(), byte) {
            (0, b'H') | (1 | 2, b'T') | (3, b'P') | (4, b'/') | (5, b'1') | (6, b'.') => {}
            (5, b'0'..=b'9') => return Err(OTHER),
            (7, b'0') => self.version = Version::Http10,
            (7, b'1') => self.version = Version::Http11,
            (7, b'2'..=b'9') => return Err(OTHER),
            (8, b'\r') => return Ok(State::RequestLf),
            _ => return Err(VERSION),
        }
        Ok(State::Version)
    }

    fn line_start(&mut self, byte: u8) -> Result<State, Reject> {
        match byte {
            b'\r' => Ok(State::EndLf),
            _ if usize::from(self.count) == HEADERS_MAX => Err(Reject::new(
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "too many header fields",
            )),
            b' ' | b'\t' => Err(Reject::bad("a header line begins with white space")),
            b'\n' => Err(Reject::bad("an LF without CR")),
            _ if bytes::is_token(byte) => {
                self.begun = self.at;
                Ok(State::Name)
            }
            _ => Err(Reject::bad("a field name holds a byte that it must not")),
        }
    }

    fn in_name(&mut self, byte: u8) -> Result<State, Reject> {
        match byte {
            b':' => {
                self.name_end = self.at;
                Ok(State::Value)
            }
            b' ' | b'\t' => Err(Reject::bad("white space between a field name and its colon")),
            _ if bytes::is_token(byte) => Ok(State::Name),
            _ => Err(Reject::bad("a field name holds a byte that it must not")),
        }
    }

    /// At the LF of a field line.
    fn end_field(&mut self, head: &[u8]) -> Result<(), Reject> {
        let name_end = usize::from(self.name_end);
        let name = head.get(usize::from(self.begun)..name_end).unwrap_or_default();
        let value_at = name_end + 1;
        // Without the CR before this LF.
        let padded = head.get(value_at..usize::from(self.at) - 1).unwrap_or_default();
        let (start, end) = bytes::trimmed(padded);
        self.fields.note(
            name,
            padded.get(start..end).unwrap_or_default(),
            Span::new(value_at + start, value_at + end),
        )?;
        self.count += 1;
        Ok(())
    }
}

fn in_value(byte: u8) -> Result<State, Reject> {
    match byte {
        b'\r' => Ok(State::ValueLf),
        b'\n' => Err(Reject::bad("an LF without CR")),
        _ if bytes::is_value(byte) => Ok(State::Value),
        _ => Err(Reject::bad("a field value holds a control byte")),
    }
}
