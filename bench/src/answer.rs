//! Reads answers: head by `httparse`, body by Content-Length (RFC 9112 section 6.3). Sans-IO: bytes in, verdict out.
//!
//! Chunked and close-delimited bodies are refused as errors: the routes under load all answer with a length, and an
//! answer whose end cannot be checked cannot be called right.

use std::fmt;

/// Longest answer head that is read, in bytes; a longer one is an error.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header lines in an answer.
const HEADERS_MAX: usize = 96;

/// Why an answer is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The head is not HTTP/1.1, or is too long.
    BadHead,
    /// No Content-Length on an answer that may have a body, or two that differ, or one that is no number.
    BadLength,
    /// Transfer-Encoding: not read here.
    TransferEncoding,
    /// Bytes after the end of the answer, which nobody asked for.
    Surplus,
    /// The chunks of a body are none (RFC 9112 section 7.1).
    BadChunk,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadHead => "the answer's head is not HTTP/1.1",
            Self::BadLength => "the answer has no single, sound Content-Length",
            Self::TransferEncoding => "the answer has a Transfer-Encoding that this client does not read",
            Self::Surplus => "bytes came after the end of the answer",
            Self::BadChunk => "the answer's chunks are broken",
        })
    }
}

/// What Cache-Status (RFC 9211) says of where an answer came from, in the words of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Told {
    /// `hit`: the server's own memory, fresh.
    Hit,
    /// `detail=redis`.
    Redis,
    /// `detail=store`: PostgreSQL, or the embedded store.
    Store,
    /// `stored`: told now, and kept.
    Stored,
    /// `collapsed`: an equal request was under way.
    Collapsed,
    /// Anything else.
    Other,
    /// No Cache-Status.
    Unsaid,
}

impl Told {
    /// Every value, in the order of its number.
    pub(crate) const ALL: [Self; 7] = [
        Self::Hit,
        Self::Redis,
        Self::Store,
        Self::Stored,
        Self::Collapsed,
        Self::Other,
        Self::Unsaid,
    ];

    /// Reads a field value: the parameters of the one cache that it names.
    pub(crate) fn read(value: &[u8]) -> Self {
        let mut found = Self::Other;
        for parameter in value.split(|&b| b == b';').skip(1) {
            found = match parameter.trim_ascii() {
                b"hit" => Self::Hit,
                b"detail=redis" => Self::Redis,
                b"detail=store" => Self::Store,
                b"stored" => Self::Stored,
                b"collapsed" => Self::Collapsed,
                // Past its time (section 2.3): a hit, but not a fresh one.
                late if late.starts_with(b"ttl=-") => return Self::Other,
                _ => found,
            };
        }
        found
    }

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Redis => "redis",
            Self::Store => "store",
            Self::Stored => "stored",
            Self::Collapsed => "collapsed",
            Self::Other => "other",
            Self::Unsaid => "unsaid",
        }
    }
}

/// A whole answer has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// The server closes the connection after this answer.
    pub(crate) close: bool,
    /// What its Cache-Status says.
    pub(crate) told: Told,
}

/// Where the reader stands within one answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Start of a head that has not arrived whole; empty (and without heap) in the common case.
    partial: Vec<u8>,
    /// Head done: the answer, and body bytes still to come.
    body: Option<(Answer, u64)>,
    /// The request was HEAD: the answer has no body whatever its length says (RFC 9110 section 9.3.2).
    head_request: bool,
}

impl Reader {
    /// A reader for answers to HEAD requests, or to any others.
    pub(crate) fn new(head_request: bool) -> Self {
        Self {
            head_request,
            ..Self::default()
        }
    }

    /// Some bytes of the answer have been read.
    #[cfg(test)]
    fn started(&self) -> bool {
        self.body.is_some() || !self.partial.is_empty()
    }

    /// Takes the next bytes from the socket: `None` means more are needed. After an answer the reader is ready for
    /// the next one; after an error it is of no further use.
    ///
    /// # Errors
    /// [`FrameError`].
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Answer>, FrameError> {
        if self.body.is_some() {
            return self.feed_body(bytes);
        }
        if self.partial.is_empty() {
            return self.feed_head(bytes);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        self.feed_head(&whole)
    }

    fn feed_head(&mut self, mut bytes: &[u8]) -> Result<Option<Answer>, FrameError> {
        loop {
            let Some(head) = read_head(bytes, self.head_request)? else {
                self.partial.extend_from_slice(bytes);
                return Ok(None);
            };
            let rest = bytes.get(head.head_len..).unwrap_or_default();
            // 1xx is interim: the final answer follows (RFC 9110 section 15.2).
            if (100..200).contains(&head.answer.status) {
                bytes = rest;
                continue;
            }
            self.body = Some((head.answer, head.body_len));
            return self.feed_body(rest);
        }
    }

    fn feed_body(&mut self, bytes: &[u8]) -> Result<Option<Answer>, FrameError> {
        let Some((answer, left)) = self.body else {
            return Ok(None);
        };
        let came = bytes.len() as u64;
        if came > left {
            return Err(FrameError::Surplus);
        }
        if came < left {
            self.body = Some((answer, left - came));
            return Ok(None);
        }
        self.body = None;
        Ok(Some(answer))
    }
}

struct Head {
    answer: Answer,
    head_len: usize,
    body_len: u64,
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
    let mut told = Told::Unsaid;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
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
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(FrameError::TransferEncoding);
        } else if header.name.eq_ignore_ascii_case("cache-status") {
            told = Told::read(header.value);
        } else if header.name.eq_ignore_ascii_case("connection") {
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
    let body_len = if no_body {
        0
    } else {
        length.ok_or(FrameError::BadLength)?
    };
    Ok(Some(Head {
        answer: Answer { status, close, told },
        head_len,
        body_len,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn an_answer_in_any_pieces_is_the_same_answer() {
        for cut in 0..=OK.len() {
            let mut r = Reader::new(false);
            let first = r.feed(&OK[..cut]).unwrap();
            let got = if cut == OK.len() {
                first
            } else {
                assert!(first.is_none());
                r.feed(&OK[cut..]).unwrap()
            };
            assert_eq!(
                got,
                Some(Answer {
                    status: 200,
                    close: false,
                    told: Told::Unsaid
                }),
                "cut at {cut}"
            );
            assert!(!r.started());
            assert!(r.feed(OK).unwrap().is_some());
        }
        let mut r = Reader::new(false);
        for (i, b) in OK.iter().enumerate() {
            assert_eq!(r.feed(&[*b]).unwrap().is_some(), i + 1 == OK.len());
        }
    }

    #[test]
    fn surplus_bytes_and_bad_frames_are_errors() {
        let feed = |bytes: &[u8]| Reader::new(false).feed(bytes);
        assert_eq!(
            feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"),
            Err(FrameError::Surplus)
        );
        assert_eq!(feed(b"HTTP/1.1 200 OK\r\n\r\n"), Err(FrameError::BadLength));
        assert_eq!(
            feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            Err(FrameError::BadLength)
        );
        assert_eq!(
            feed(b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n"),
            Err(FrameError::BadLength)
        );
        assert_eq!(
            feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Err(FrameError::TransferEncoding)
        );
        assert_eq!(feed(b"SMTP ready\r\n\r\n"), Err(FrameError::BadHead));
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; HEAD_BYTES_MAX]].concat();
        assert_eq!(feed(&endless), Err(FrameError::BadHead));
    }

    #[test]
    fn cache_status_names_the_tier() {
        for (value, told) in [
            (&b"roadtrip-api; hit"[..], Told::Hit),
            (b"roadtrip-api; hit; ttl=-5", Told::Other),
            (b"roadtrip-api; fwd=miss; detail=redis", Told::Redis),
            (b"roadtrip-api;fwd=miss;detail=store", Told::Store),
            (b"roadtrip-api; fwd=miss; stored", Told::Stored),
            (b"roadtrip-api; fwd=miss; collapsed", Told::Collapsed),
            (b"hit", Told::Other),
            (b"", Told::Other),
        ] {
            assert_eq!(Told::read(value), told, "{}", String::from_utf8_lossy(value));
        }
        for (place, told) in Told::ALL.into_iter().enumerate() {
            assert_eq!(told as usize, place, "{}", told.word());
        }
    }

    #[test]
    fn answers_without_body_and_closing_answers() {
        let feed = |head: bool, bytes: &[u8]| Reader::new(head).feed(bytes).unwrap();
        assert_eq!(
            feed(true, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                .unwrap()
                .status,
            200
        );
        assert_eq!(feed(false, b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().status, 204);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(feed(false, interim).unwrap().status, 200);
        assert!(
            feed(
                false,
                b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n"
            )
            .unwrap()
            .close
        );
        assert!(
            feed(false, b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap()
                .close
        );
        assert!(
            !feed(
                false,
                b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
            )
            .unwrap()
            .close
        );
    }
}
