//! Reads answers off an HTTP/1.1 connection, one after the other: heads by `httparse`, bodies by length or in chunks
//! (RFC 9112 sections 6 and 7). Sans-IO.
//!
//! A body that ends with the connection is refused: an answer whose end cannot be checked cannot be called right.

use super::events::Events;
use crate::answer::{FrameError, HEAD_BYTES_MAX, Told};

/// Most header lines in an answer.
const HEADERS_MAX: usize = 96;
/// Longest line of a chunk's size with its extensions, and longest trailer line, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// A whole answer has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) status: u16,
    /// The server closes the connection after it.
    pub(super) close: bool,
    pub(super) told: Told,
    /// Bytes of head and body.
    pub(super) bytes: u64,
    /// Whole events; only where they were asked for.
    pub(super) events: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Body bytes still to come.
    Body(u64),
    /// The line with a chunk's size.
    Size,
    /// Bytes of the chunk still to come.
    Chunk(u64),
    /// The line's end behind a chunk.
    ChunkEnd,
    Trailers,
}

/// Where the reader stands.
#[derive(Debug, Default)]
pub(super) struct Reader {
    state: State,
    /// Start of a head or line that has not arrived whole; empty (and without heap) in the common case.
    partial: Vec<u8>,
    answer: Option<Heard>,
    events: Events,
}

impl Reader {
    /// Some bytes of an answer have been read.
    pub(super) fn started(&self) -> bool {
        self.answer.is_some() || !self.partial.is_empty()
    }

    /// Whole events of the answer that is being read.
    pub(super) fn events(&self) -> u64 {
        self.events.count
    }

    /// Takes bytes: gives how many it took, and the answer where one is whole now. It takes all of them unless an answer
    /// ends before. `head` says that the answer has no body; `sse` that events are to be counted.
    ///
    /// # Errors
    /// [`FrameError`]; the reader is of no further use then.
    pub(super) fn feed(&mut self, bytes: &[u8], head: bool, sse: bool) -> Result<(usize, Option<Heard>), FrameError> {
        let mut at = 0_usize;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let (used, done) = match self.state {
                State::Head => self.feed_head(rest, head)?,
                State::Body(left) | State::Chunk(left) => {
                    let used = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if sse {
                        self.events.feed(rest.get(..used).unwrap_or_default());
                    }
                    let left = left.saturating_sub(used as u64);
                    let chunked = matches!(self.state, State::Chunk(_));
                    self.state = match (chunked, left) {
                        (true, 0) => State::ChunkEnd,
                        (true, _) => State::Chunk(left),
                        (false, _) => State::Body(left),
                    };
                    (used, !chunked && left == 0)
                }
                State::Size | State::ChunkEnd | State::Trailers => self.feed_line(rest)?,
            };
            at = at.saturating_add(used);
            if let Some(answer) = &mut self.answer {
                answer.bytes = answer.bytes.saturating_add(used as u64);
            }
            if done && let Some(mut answer) = self.answer.take() {
                answer.events = self.events.count;
                self.state = State::Head;
                self.events = Events::default();
                return Ok((at, Some(answer)));
            }
            if at >= bytes.len() {
                return Ok((at, None));
            }
        }
    }

    /// Gives how much was taken, and whether the answer is whole.
    fn feed_head(&mut self, bytes: &[u8], head: bool) -> Result<(usize, bool), FrameError> {
        let before = self.partial.len();
        let read = if before == 0 {
            read_head(bytes, head)?
        } else {
            self.partial.extend_from_slice(bytes);
            read_head(&self.partial, head)?
        };
        let Some(read) = read else {
            if before == 0 {
                self.partial.extend_from_slice(bytes);
            }
            return Ok((bytes.len(), false));
        };
        self.partial.clear();
        let used = read.head_len.saturating_sub(before);
        // 1xx is interim: the final answer follows (RFC 9110 section 15.2).
        if (100..200).contains(&read.answer.status) {
            return Ok((used, false));
        }
        self.answer = Some(Heard {
            bytes: before as u64,
            ..read.answer
        });
        self.state = read.body;
        Ok((used, read.body == State::Body(0)))
    }

    fn feed_line(&mut self, bytes: &[u8]) -> Result<(usize, bool), FrameError> {
        let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
            self.partial.extend_from_slice(bytes);
            return match self.partial.len() {
                ..=LINE_BYTES_MAX => Ok((bytes.len(), false)),
                _ => Err(FrameError::BadChunk),
            };
        };
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(bytes.get(..end).unwrap_or_default());
        let line = line.strip_suffix(b"\r").ok_or(FrameError::BadChunk)?;
        let used = end.saturating_add(1);
        match self.state {
            State::ChunkEnd if line.is_empty() => self.state = State::Size,
            State::Trailers if line.is_empty() => return Ok((used, true)),
            State::Trailers => {}
            State::Size => {
                let size = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii_end();
                let is_hex = !size.is_empty() && size.len() <= 15 && size.iter().all(u8::is_ascii_hexdigit);
                let text = std::str::from_utf8(size)
                    .ok()
                    .filter(|_| is_hex)
                    .ok_or(FrameError::BadChunk)?;
                self.state = match u64::from_str_radix(text, 16) {
                    Ok(0) => State::Trailers,
                    Ok(size) => State::Chunk(size),
                    Err(_) => return Err(FrameError::BadChunk),
                };
            }
            _ => return Err(FrameError::BadChunk),
        }
        Ok((used, false))
    }
}

struct Head {
    answer: Heard,
    head_len: usize,
    body: State,
}

fn read_head(bytes: &[u8], head_request: bool) -> Result<Option<Head>, FrameError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = match response.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        _ => return Err(FrameError::BadHead),
    };
    let status = response.code.ok_or(FrameError::BadHead)?;
    let mut close = response.version == Some(0);
    let mut length = None;
    let mut chunked = false;
    let mut told = Told::Unsaid;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let text = std::str::from_utf8(header.value)
                .map_err(|_| FrameError::BadLength)?
                .trim();
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(FrameError::BadLength);
            }
            let value: u64 = text.parse().map_err(|_| FrameError::BadLength)?;
            if length.is_some_and(|before| before != value) {
                return Err(FrameError::BadLength);
            }
            length = Some(value);
        } else if is("transfer-encoding") {
            if chunked || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(FrameError::TransferEncoding);
            }
            chunked = true;
        } else if is("cache-status") {
            told = Told::read(header.value);
        } else if is("connection") {
            let has = |word: &str| {
                header
                    .value
                    .split(|&b| b == b',')
                    .any(|t| t.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
            };
            close = has("close") || (close && !has("keep-alive"));
        }
    }
    let no_body = head_request || status < 200 || status == 204 || status == 304;
    let body = match (no_body, chunked, length) {
        (true, ..) => State::Body(0),
        // Both is how answers are smuggled (RFC 9112 section 6.3).
        (_, true, Some(_)) => return Err(FrameError::BadLength),
        (_, true, None) => State::Size,
        (_, false, length) => State::Body(length.ok_or(FrameError::BadLength)?),
    };
    Ok(Some(Head {
        answer: Heard {
            status,
            close,
            told,
            bytes: 0,
            events: 0,
        },
        head_len,
        body,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All answers in `bytes`, fed in pieces of `step`.
    fn all(bytes: &[u8], step: usize, sse: bool) -> Result<Vec<Heard>, FrameError> {
        let mut reader = Reader::default();
        let mut heard = Vec::new();
        for piece in bytes.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() {
                let (used, answer) = reader.feed(rest, false, sse)?;
                heard.extend(answer);
                rest = &rest[used..];
            }
        }
        assert!(!reader.started(), "something is left");
        Ok(heard)
    }

    #[test]
    fn pipelined_answers_in_any_pieces_are_the_same_answers() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nCache-Status: a; hit\r\n\r\n4;x=y\r\nabcd\r\n0a\r\n0123456789\r\n0\r\nT: v\r\n\r\n\
            HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        let whole = all(text, text.len(), false).unwrap();
        assert_eq!(whole.iter().map(|h| h.status).collect::<Vec<_>>(), [200, 404, 204]);
        assert_eq!(whole.iter().map(|h| h.close).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(whole[1].told, Told::Hit);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".len() as u64;
        assert_eq!(whole.iter().map(|h| h.bytes).sum::<u64>() + interim, text.len() as u64);
        for step in 1..text.len() {
            let got = all(text, step, false).unwrap();
            assert_eq!(got.len(), 3, "{step}");
            assert!(
                got.iter()
                    .zip(&whole)
                    .all(|(a, b)| (a.status, a.close) == (b.status, b.close)),
                "{step}"
            );
        }
    }

    #[test]
    fn events_are_counted_across_chunks() {
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n7\r\ndata: b\r\n2\r\n\n\n\r\n0\r\n\r\n";
        for step in [1, 7, 1000] {
            assert_eq!(all(text, step, true).unwrap()[0].events, 2, "{step}");
        }
        assert_eq!(all(text, 1000, false).unwrap()[0].events, 0);
    }

    #[test]
    fn bad_frames_are_errors() {
        let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        for (bytes, error) in [
            ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), FrameError::BadLength),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n".to_owned(),
                FrameError::BadLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                FrameError::BadLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
                FrameError::TransferEncoding,
            ),
            ("SMTP ready\r\n\r\n".to_owned(), FrameError::BadHead),
            (chunked("x\r\n"), FrameError::BadChunk),
            (chunked("\r\n"), FrameError::BadChunk),
            (chunked("1\nab"), FrameError::BadChunk),
            (chunked("1\r\nabc\r\n"), FrameError::BadChunk),
            (chunked("1111111111111111\r\n"), FrameError::BadChunk),
            (chunked(&"1;".repeat(3000)), FrameError::BadChunk),
        ] {
            assert_eq!(
                Reader::default().feed(bytes.as_bytes(), false, false).err(),
                Some(error),
                "{bytes}"
            );
        }
    }

    #[test]
    fn a_head_request_has_no_body() {
        let mut reader = Reader::default();
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(reader.feed(text, true, false).unwrap().0, text.len());
        assert!(!reader.started());
    }
}
