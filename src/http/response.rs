//! Responses into bytes, appended to the connection's write buffer.
//!
//! What the exchange allows (a body, the chunked coding, an open connection) is decided by [`Exchange`], from the
//! request, so a handler cannot frame an answer wrongly.

use super::bytes;
use super::head::RequestHead;
use super::types::{Method, Reject, Status, Version};

/// The interim response that asks for the body (RFC 9110 section 15.2.1).
pub const CONTINUE_100: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A field name a handler may send: a token, and none of those the encoder owns.
///
/// Make it a `const`; a bad name then fails the build:
///
/// ```
/// use roadtrip_api::http::FieldName;
/// const X_WORKER_ID: FieldName = FieldName::new("X-Worker-ID");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldName(&'static str);

impl FieldName {
    /// A name. For constants only: it panics where `name` is no token (RFC 9110 section 5.1) or is one of
    /// Connection, Content-Length, Date, Transfer-Encoding, which the encoder writes.
    pub const fn new(name: &'static str) -> FieldName {
        const OWNED: [&str; 4] = ["connection", "content-length", "date", "transfer-encoding"];
        let text = name.as_bytes();
        assert!(!text.is_empty(), "a field name is empty");
        let mut at = 0;
        while at < text.len() {
            assert!(bytes::is_token(text[at]), "a field name is no token");
            at += 1;
        }
        let mut owned = 0;
        while owned < OWNED.len() {
            assert!(
                !text.eq_ignore_ascii_case(OWNED[owned].as_bytes()),
                "the encoder writes this field"
            );
            owned += 1;
        }
        FieldName(name)
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Names of fields that answers carry.
pub mod field {
    use super::FieldName;

    /// RFC 9110 section 12.5.1: in a 415, what would be taken.
    pub const ACCEPT: FieldName = FieldName::new("Accept");
    /// RFC 9110 section 12.5.3: in a 415, which codings would be taken.
    pub const ACCEPT_ENCODING: FieldName = FieldName::new("Accept-Encoding");
    /// RFC 9110 section 10.2.1
    pub const ALLOW: FieldName = FieldName::new("Allow");
    /// RFC 9111 section 5.2
    pub const CACHE_CONTROL: FieldName = FieldName::new("Cache-Control");
    /// RFC 9211
    pub const CACHE_STATUS: FieldName = FieldName::new("Cache-Status");
    /// RFC 9110 section 8.4
    pub const CONTENT_ENCODING: FieldName = FieldName::new("Content-Encoding");
    /// RFC 9110 section 8.7
    pub const CONTENT_LOCATION: FieldName = FieldName::new("Content-Location");
    /// RFC 9110 section 8.3, where lines are made ahead; otherwise see [`super::Response::content_type`].
    pub const CONTENT_TYPE: FieldName = FieldName::new("Content-Type");
    /// RFC 9110 section 8.8.3
    pub const ETAG: FieldName = FieldName::new("ETag");
    /// RFC 9110 section 8.8.2
    pub const LAST_MODIFIED: FieldName = FieldName::new("Last-Modified");
    /// RFC 9110 section 10.2.2
    pub const LOCATION: FieldName = FieldName::new("Location");
    /// draft-ietf-httpapi-ratelimit-headers (-08 to -11)
    pub const RATE_LIMIT: FieldName = FieldName::new("RateLimit");
    /// The same draft.
    pub const RATE_LIMIT_POLICY: FieldName = FieldName::new("RateLimit-Policy");
    /// RFC 9110 section 10.2.3
    pub const RETRY_AFTER: FieldName = FieldName::new("Retry-After");
    /// RFC 9110 section 10.2.4
    pub const SERVER: FieldName = FieldName::new("Server");
    /// RFC 9110 section 12.5.5
    pub const VARY: FieldName = FieldName::new("Vary");
    /// Fetch, "CORS protocol"; likewise the next five.
    pub const ALLOW_ORIGIN: FieldName = FieldName::new("Access-Control-Allow-Origin");
    /// Whether answers to requests with credentials may be read.
    pub const ALLOW_CREDENTIALS: FieldName = FieldName::new("Access-Control-Allow-Credentials");
    /// Methods that the path takes.
    pub const ALLOW_METHODS: FieldName = FieldName::new("Access-Control-Allow-Methods");
    /// Fields that the path reads.
    pub const ALLOW_HEADERS: FieldName = FieldName::new("Access-Control-Allow-Headers");
    /// Seconds for which a browser may remember what a preflight said.
    pub const MAX_AGE: FieldName = FieldName::new("Access-Control-Max-Age");
    /// Fields of an answer that scripts may read.
    pub const EXPOSE_HEADERS: FieldName = FieldName::new("Access-Control-Expose-Headers");
    /// W3C Content Security Policy.
    pub const CONTENT_SECURITY_POLICY: FieldName = FieldName::new("Content-Security-Policy");
    /// W3C Referrer Policy.
    pub const REFERRER_POLICY: FieldName = FieldName::new("Referrer-Policy");
    /// RFC 6797
    pub const STRICT_TRANSPORT_SECURITY: FieldName = FieldName::new("Strict-Transport-Security");
    /// Fetch, "X-Content-Type-Options".
    pub const CONTENT_TYPE_OPTIONS: FieldName = FieldName::new("X-Content-Type-Options");
    /// RFC 7034: what `frame-ancestors` says, to browsers that do not know it.
    pub const X_FRAME_OPTIONS: FieldName = FieldName::new("X-Frame-Options");
    /// The request's id, echoed or made.
    pub const X_REQUEST_ID: FieldName = FieldName::new("X-Request-ID");
    /// The worker that answers.
    pub const X_WORKER_ID: FieldName = FieldName::new("X-Worker-ID");
}

/// Field lines written ahead, for answers that have much in common: one copy instead of a check and four copies each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldLines(Vec<u8>);

impl FieldLines {
    /// None.
    pub const fn new() -> FieldLines {
        FieldLines(Vec::new())
    }

    /// These and one more, its value made safe as by [`Response::header`].
    #[must_use]
    pub fn with(mut self, name: FieldName, value: impl AsRef<[u8]>) -> FieldLines {
        push_field(&mut self.0, name, value.as_ref());
        self
    }

    /// Those of them that begin within `range`, which must run between ends of lines as [`bytes`](Self::bytes) told
    /// them. Nothing where it does not.
    pub fn part(&self, range: std::ops::Range<usize>) -> FieldPart<'_> {
        let part = self.0.get(range).unwrap_or_default();
        debug_assert!(
            part.is_empty() || part.starts_with(b"\r\n"),
            "a part begins within a line"
        );
        FieldPart(part)
    }

    /// All of them.
    pub fn all(&self) -> FieldPart<'_> {
        FieldPart(&self.0)
    }

    /// Their length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Some of the lines of [`FieldLines`].
#[derive(Clone, Copy, Debug)]
pub struct FieldPart<'l>(&'l [u8]);

impl FieldPart<'_> {
    /// No lines.
    pub const EMPTY: FieldPart<'static> = FieldPart(&[]);
}

/// What the request fixes about its answer. Taken from the head before the head's bytes are let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The request was HEAD: fields as for GET, no body.
    pub is_head: bool,
    /// What the client speaks.
    pub version: Version,
    /// The connection may stay open after this answer. The server clears it when draining.
    pub keep_alive: bool,
}

impl Exchange {
    /// The exchange that a request opens.
    pub fn of(request: &RequestHead<'_>) -> Exchange {
        Exchange {
            is_head: request.method == Method::Head,
            version: request.version,
            keep_alive: request.keep_alive,
        }
    }

    /// The exchange of a request that was refused: nothing about it is trusted, and the connection closes.
    pub const fn refused() -> Exchange {
        Exchange {
            is_head: false,
            version: Version::Http11,
            keep_alive: false,
        }
    }
}

/// A response head being written. Ends with one of [`body`](Self::body), [`length`](Self::length) or
/// [`stream`](Self::stream); dropped before that, it leaves half a head in the buffer.
#[must_use = "a response head is finished by body, length or stream"]
pub struct Response<'o> {
    out: &'o mut Vec<u8>,
    exchange: Exchange,
    status: Status,
}

/// Bytes of a head without the handler's fields, at most; reserved at once so that the pieces do not each grow it.
const HEAD_RESERVE_BYTES: usize = 320;

impl<'o> Response<'o> {
    /// Begins a response at the end of `out`: status line, Date (as of [`super::DateCache`]), and Connection where it
    /// is not what the version implies. Server is the application's to send, as it can be configured.
    #[inline]
    pub fn begin(out: &'o mut Vec<u8>, exchange: Exchange, status: Status, date: &[u8; 29]) -> Response<'o> {
        out.reserve(HEAD_RESERVE_BYTES);
        out.extend_from_slice(status.opening());
        out.extend_from_slice(date);
        Response { out, exchange, status }
    }

    /// The answer to a refusal, whole: plain text, connection closed. For where no handler is there to do better.
    pub fn refuse(out: &'o mut Vec<u8>, reject: &Reject, date: &[u8; 29]) {
        Response::begin(out, Exchange::refused(), reject.status, date)
            .content_type("text/plain; charset=utf-8")
            .body(reject.detail.as_bytes());
    }

    /// Content-Type.
    #[inline]
    pub fn content_type(self, media_type: &str) -> Response<'o> {
        self.out.extend_from_slice(b"\r\nContent-Type: ");
        push_value(self.out, media_type.as_bytes());
        self
    }

    /// Any other field. Bytes that may not stand in a value (CR, LF, NUL, other controls) become spaces, so that
    /// text from a client cannot add fields or responses (RFC 9110 section 5.5).
    #[inline]
    pub fn header(self, name: FieldName, value: impl AsRef<[u8]>) -> Response<'o> {
        push_field(self.out, name, value.as_ref());
        self
    }

    /// Lines made ahead.
    #[inline]
    pub fn lines(self, lines: FieldPart<'_>) -> Response<'o> {
        self.out.extend_from_slice(lines.0);
        self
    }

    /// Ends the head with the length of `body`, and appends it, unless the exchange or the status forbids a body.
    /// Gives whether the connection may stay open.
    #[inline]
    pub fn body(self, body: &[u8]) -> bool {
        let send = !self.exchange.is_head && !self.status.is_bodiless();
        let out = self.end_with_length(body.len() as u64);
        if send {
            out.0.extend_from_slice(body);
        }
        out.1
    }

    /// Ends the head with a length only, for a HEAD whose body need not be made, or a body sent from elsewhere:
    /// then exactly `body_bytes` bytes must follow, unless [`Response::omits_body`]. Gives whether the connection
    /// may stay open.
    pub fn length(self, body_bytes: u64) -> bool {
        self.end_with_length(body_bytes).1
    }

    /// Ends the head of an answer to HEAD without saying how long the body of GET is, which would have to be made to be
    /// known (RFC 9110 section 9.3.2 allows it). For an answer that has a body it says that there is none.
    pub fn unsized_head(self) -> bool {
        if !self.omits_body() {
            return self.end_with_length(0).1;
        }
        let keep_alive = self.exchange.keep_alive;
        self.end();
        keep_alive
    }

    /// Whether this answer has no body whatever the handler has: HEAD, 204, 304.
    pub fn omits_body(&self) -> bool {
        self.exchange.is_head || self.status.is_bodiless()
    }

    /// Ends the head of a body whose length is not known: chunked, for HTTP/1.0 until the connection closes, for HTTP/2
    /// as it is.
    pub fn stream(mut self) -> BodyStream {
        let form = if self.omits_body() {
            StreamForm::Omitted
        } else {
            match self.exchange.version {
                Version::Http10 => StreamForm::UntilClose,
                Version::Http11 => StreamForm::Chunked,
                Version::Http2 => StreamForm::Framed,
            }
        };
        // HEAD announces what GET would (RFC 9112 section 6.1).
        if self.exchange.version == Version::Http10 {
            self.exchange.keep_alive &= form == StreamForm::Omitted;
        } else if self.exchange.version == Version::Http11 && !self.status.is_bodiless() {
            self.out.extend_from_slice(b"\r\nTransfer-Encoding: chunked");
        }
        let keep_alive = self.exchange.keep_alive;
        self.end();
        BodyStream { form, keep_alive }
    }

    fn end_with_length(self, body_bytes: u64) -> (&'o mut Vec<u8>, bool) {
        // RFC 9110 section 8.6: none in 204; in 304 it would have to be that of the 200, which is not at hand.
        if !self.status.is_bodiless() {
            self.out.extend_from_slice(b"\r\nContent-Length: ");
            push_decimal(self.out, body_bytes);
        }
        let keep_alive = self.exchange.keep_alive;
        (self.end(), keep_alive)
    }

    fn end(self) -> &'o mut Vec<u8> {
        let connection: &[u8] = match (self.exchange.keep_alive, self.exchange.version) {
            (true, Version::Http11) | (_, Version::Http2) => b"\r\n\r\n",
            (true, Version::Http10) => b"\r\nConnection: keep-alive\r\n\r\n",
            (false, _) => b"\r\nConnection: close\r\n\r\n",
        };
        self.out.extend_from_slice(connection);
        self.out
    }
}

/// A body under way, piece by piece. Holds no buffer, so it can wait for its pieces.
#[must_use = "a streamed body ends with finish"]
#[derive(Debug)]
pub struct BodyStream {
    form: StreamForm,
    keep_alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamForm {
    Chunked,
    UntilClose,
    /// As it is: the frames around it say where it ends.
    Framed,
    Omitted,
}

impl BodyStream {
    /// Whether no body is sent, so that none need be made: an answer to HEAD.
    pub fn is_omitted(&self) -> bool {
        self.form == StreamForm::Omitted
    }

    /// Appends one piece. An empty one appends nothing: an empty chunk would end the body.
    pub fn chunk(&self, out: &mut Vec<u8>, data: &[u8]) {
        match self.form {
            _ if data.is_empty() => {}
            StreamForm::Omitted => {}
            StreamForm::UntilClose | StreamForm::Framed => out.extend_from_slice(data),
            StreamForm::Chunked => {
                push_hex(out, data.len() as u64);
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Ends the body. Gives whether the connection may stay open. A body that fails half way is not finished but
    /// the connection closed, so that the client sees it (RFC 9112 section 8).
    pub fn finish(self, out: &mut Vec<u8>) -> bool {
        if self.form == StreamForm::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        self.keep_alive
    }
}

#[inline]
fn push_field(out: &mut Vec<u8>, name: FieldName, value: &[u8]) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name.0.as_bytes());
    out.extend_from_slice(b": ");
    push_value(out, value);
}

#[inline]
fn push_value(out: &mut Vec<u8>, value: &[u8]) {
    if bytes::value_len(value) == value.len() {
        out.extend_from_slice(value);
    } else {
        out.extend(value.iter().map(|&b| if bytes::is_value(b) { b } else { b' ' }));
    }
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    push_digits(out, number, 10);
}

fn push_hex(out: &mut Vec<u8>, number: u64) {
    push_digits(out, number, 16);
}

fn push_digits(out: &mut Vec<u8>, mut number: u64, base: u64) {
    // 20 digits hold u64::MAX in base 10.
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        let value = (number % base) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        used += 1;
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}
