//! What must hold of any bytes whatever, as functions that panic where it does not: property tests give them random
//! bytes, `fuzz/` gives them bytes that a fuzzer grew. Not in a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // Reason: a property that fails is a panic.

use super::head::accept;
use super::scanner::DISAGREEMENT;
use super::types::STATUSES;
use super::*;
use crate::limits::http::{BODY_BYTES_MAX, HEADERS_MAX};
use std::ops::Range;

/// Reads as a connection does: what has arrived, from the first byte not dealt with; says each message in words.
#[derive(Default)]
pub(super) struct Reader {
    held: Vec<u8>,
    scanner: HeadScanner,
    body: Option<(Vec<String>, BodyDecoder, Vec<u8>)>,
    pub(super) said: Vec<Vec<String>>,
    refused: bool,
    /// Where each body stands in `bodies`, for who asks.
    raw: Option<Vec<Range<usize>>>,
    bodies: Vec<u8>,
}

impl Reader {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.refused {
            return;
        }
        self.held.extend_from_slice(bytes);
        if let Err(reject) = self.advance() {
            assert_ne!(reject, DISAGREEMENT, "{}", self.held.escape_ascii());
            self.said.push(vec![reject.status.code().to_string()]);
            self.refused = true;
        }
    }

    fn advance(&mut self) -> Result<(), Reject> {
        loop {
            if let Some((_, decoder, payload)) = &mut self.body {
                let (used, done) = decoder.decode_into(&self.held, payload)?;
                self.held.drain(..used);
                if !done {
                    return Ok(());
                }
                let (mut words, _, payload) = self.body.take().unwrap();
                words.push(format!("body={}", String::from_utf8_lossy(&payload)));
                if let Some(raw) = &mut self.raw {
                    let start = self.bodies.len();
                    self.bodies.extend_from_slice(&payload);
                    raw.push(start..self.bodies.len());
                }
                self.said.push(words);
            }
            if self.held.is_empty() {
                return Ok(());
            }
            let Some((head, len)) = self.scanner.parse(&self.held)? else {
                return Ok(());
            };
            assert!(self.scanner.is_fresh());
            self.body = Some((
                describe(&head),
                BodyDecoder::new(head.framing, BODY_BYTES_MAX)?,
                Vec::new(),
            ));
            self.held.drain(..len);
        }
    }

    /// No more bytes come.
    pub(super) fn end(mut self) -> Vec<Vec<String>> {
        if !self.refused && (self.body.is_some() || !self.held.is_empty()) {
            self.said.push(vec!["more".to_owned()]);
        }
        self.said
    }
}

fn describe(head: &RequestHead<'_>) -> Vec<String> {
    let mut words = vec![
        head.method.to_string(),
        if head.version == Version::Http11 {
            "HTTP/1.1"
        } else {
            "HTTP/1.0"
        }
        .to_owned(),
        format!("target={}", head.target),
        format!("path={}", head.path),
        format!("host={}", head.host),
        match head.framing {
            BodyFraming::None => "none".to_owned(),
            BodyFraming::Length(length) => format!("length={length}"),
            BodyFraming::Chunked => "chunked".to_owned(),
        },
        if head.keep_alive { "keep-alive" } else { "close" }.to_owned(),
        if head.expect_continue { "continue" } else { "at-once" }.to_owned(),
    ];
    words.extend(head.query.map(|query| format!("query={query}")));
    words.extend(
        head.headers
            .iter()
            .map(|(name, value)| format!("{name}=<{}>", String::from_utf8_lossy(value))),
    );
    words
}

/// What is said of `pieces`, one after the other.
pub(super) fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<Vec<String>> {
    let mut reader = Reader::default();
    for piece in pieces {
        reader.feed(piece);
    }
    reader.end()
}

/// Places to cut `bytes` at: all where there are few, else some that the bytes themselves choose.
fn places(bytes: &[u8]) -> Vec<usize> {
    if bytes.len() <= 128 {
        return (0..=bytes.len()).collect();
    }
    let seed = bytes
        .iter()
        .fold(0u64, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..16).map(|_| rng.usize(0..=bytes.len())).collect()
}

/// Heads, bodies and refusals are the same however the bytes are split; the fast reader of heads takes what the careful
/// one takes; and what they take is what another reader takes, read the same way.
pub(crate) fn messages(input: &[u8]) {
    head(input);
    let whole = read([input]);
    for at in places(input) {
        let (a, b) = input.split_at(at);
        assert_eq!(read([a, b]), whole, "split at {at}: {}", input.escape_ascii());
    }
    assert_eq!(read(input.chunks(1)), whole, "byte by byte: {}", input.escape_ascii());
}

/// As [`messages`], of the first head alone.
pub(crate) fn head(input: &[u8]) {
    // Every prefix, in one pass: this is the scanner at its work.
    let mut scanner = HeadScanner::new();
    let scanned = (0..=input.len()).find_map(|len| match scanner.scan(&input[..len]) {
        Ok(true) => Some(Ok(len)),
        Ok(false) => None,
        Err(reject) => Some(Err(reject)),
    });
    match (accept(input).unwrap(), scanned) {
        (Some((head, len)), scanned) => {
            assert_eq!(scanned, Some(Ok(len)), "{}", input.escape_ascii());
            compare(input, &head, len);
        }
        (None, Some(Ok(len))) => panic!("only the scanner takes {}", input[..len].escape_ascii()),
        (None, _) => {}
    }
}

/// Stricter than httparse, never laxer, and never of another opinion.
fn compare(input: &[u8], head: &RequestHead<'_>, len: usize) {
    let shown = input[..len].escape_ascii();
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(input), Ok(httparse::Status::Complete(len)), "{shown}");
    assert_eq!(theirs.method, Some(head.method.as_str()), "{shown}");
    assert_eq!(theirs.path, Some(head.target), "{shown}");
    assert_eq!(
        theirs.version,
        Some(u8::from(head.version == Version::Http11)),
        "{shown}"
    );
    assert!(
        head.headers
            .iter()
            .eq(theirs.headers.iter().map(|field| (field.name, field.value))),
        "{shown}"
    );

    // What the fields mean, read once more as plainly as can be.
    let all = |name: &str| {
        let of_name = theirs
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        of_name
            .map(|field| String::from_utf8_lossy(field.value).to_lowercase())
            .collect::<Vec<_>>()
    };
    let hosts = all("host");
    assert!(
        hosts.len() <= 1 && (hosts.len() == 1 || head.version == Version::Http10),
        "{shown}"
    );
    assert_eq!(
        head.host.to_lowercase(),
        match (hosts.first(), head.target.split_once("://")) {
            (_, Some((_, rest))) if !head.target.starts_with('/') =>
                rest.split(['/', '?']).next().unwrap().to_lowercase(),
            (Some(host), _) => host.clone(),
            (None, _) => String::new(),
        },
        "{shown}"
    );
    let framing = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => BodyFraming::None,
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => BodyFraming::Length(length.parse().unwrap()),
        ([], [coding]) if coding == "chunked" && head.version == Version::Http11 => BodyFraming::Chunked,
        odd => panic!("taken with {odd:?}: {shown}"),
    };
    assert_eq!(head.framing, framing, "{shown}");
    let options = all("connection").join(",");
    let says = |what: &str| {
        options
            .split(',')
            .any(|option| option.trim_matches([' ', '\t']) == what)
    };
    let stays = !says("close") && (head.version == Version::Http11 || says("keep-alive"));
    assert_eq!(head.keep_alive, stays, "{shown}");
    assert!(
        !head.target.contains(|c: char| !c.is_ascii_graphic() || c == '#'),
        "{shown}"
    );
    assert!(
        head.path.starts_with('/') || (head.path == "*" && head.method == Method::Options),
        "{shown}"
    );
}

/// A chunked body is the same however it is split: its payload, its end, its refusal. `body_bytes_max` is kept to.
pub(crate) fn chunked(input: &[u8], body_bytes_max: usize) {
    let run = |pieces: &[&[u8]]| {
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked, body_bytes_max).unwrap();
        let (mut out, mut used) = (Vec::new(), 0);
        for piece in pieces {
            match decoder.decode_into(piece, &mut out) {
                Ok((n, done)) => {
                    used += n;
                    if done {
                        assert!(decoder.is_done());
                        return (out, Ok((used, true)));
                    }
                    assert_eq!(n, piece.len(), "all is consumed until done");
                }
                Err(reject) => return (out, Err(reject)),
            }
        }
        (out, Ok((used, false)))
    };
    let whole = run(&[input]);
    assert!(whole.0.len() <= body_bytes_max);
    for at in places(input) {
        let (a, b) = input.split_at(at);
        assert_eq!(run(&[a, b]), whole, "split at {at}: {}", input.escape_ascii());
    }
    assert_eq!(
        run(&input.chunks(1).collect::<Vec<_>>()),
        whole,
        "{}",
        input.escape_ascii()
    );
    if let (body, Ok((used, true))) = whole {
        assert_eq!(plain_chunks(&input[..used]), Some(body), "{}", input.escape_ascii());
    }
}

/// The payload of a whole chunked body, by the grammar and nothing else: line by line, with no state.
fn plain_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end])
            .unwrap_or_else(|error| std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap());
        let size = usize::from_str_radix(line.split([';', ' ', '\t']).next()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            // Trailers end with an empty line, and with them the body.
            return rest.ends_with(b"\r\n").then_some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Queries and segments of paths: what is decoded comes back when it is escaped again.
pub(crate) fn query(text: &str) {
    let escaped = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    if let Ok(decoded) = query::segment(text) {
        assert_eq!(query::segment(&escaped(&decoded)).as_deref(), Ok(&*decoded));
    }
    let pairs: Result<Vec<_>, _> = query::pairs(text).collect();
    if let Ok(pairs) = pairs {
        let again: Vec<String> = pairs
            .iter()
            .map(|(n, v)| format!("{}={}", escaped(n), escaped(v)))
            .collect();
        let again = again.join("&");
        let again: Vec<_> = query::pairs(&again).map(Result::unwrap).collect();
        assert_eq!(again, pairs);
    }
}

/// Whatever a handler gives, another reader reads one answer of it, with the fields that were meant and no other.
/// The first four bytes choose the exchange; the rest are a value and a body.
pub(crate) fn response(data: &[u8]) {
    let Some(([status, flags, cut, pieces], rest)) = data.split_first_chunk() else {
        return;
    };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let exchange = Exchange {
        is_head: flags & 1 != 0,
        version: if flags & 2 != 0 {
            Version::Http10
        } else {
            Version::Http11
        },
        keep_alive: flags & 4 != 0,
    };
    let (value, body) = rest.split_at(usize::from(*cut).min(rest.len()));
    let mut out = Vec::new();
    let response = Response::begin(&mut out, exchange, status, b"Sun, 06 Nov 1994 08:49:37 GMT");
    let response = response.content_type("text/plain").header(field::X_REQUEST_ID, value);
    let streamed = flags & 8 != 0;
    let stays = if streamed {
        let stream = response.stream();
        for piece in body.chunks(usize::from(*pieces).max(1)) {
            stream.chunk(&mut out, piece);
        }
        stream.finish(&mut out)
    } else {
        response.body(body)
    };
    let omits = exchange.is_head || status.is_bodiless();
    let until_close = streamed && !omits && exchange.version == Version::Http10;
    assert_eq!(stays, exchange.keep_alive && !until_close);
    let mut at = 0;
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut theirs = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(len)) = theirs.parse(&out) else {
        panic!("no head: {}", out.escape_ascii())
    };
    at += len;
    assert_eq!(theirs.code, Some(status.code()));
    let field = |name: &str| {
        let mut all = theirs
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        let first = all.next().map(|field| field.value);
        assert!(all.next().is_none(), "{name} twice");
        first
    };
    let names = theirs.headers.iter().map(|field| field.name);
    let known = [
        "Server",
        "Date",
        "Content-Type",
        "X-Request-ID",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
    ];
    assert!(
        names.clone().all(|name| known.contains(&name)),
        "{:?}",
        names.collect::<Vec<_>>()
    );
    let clean: Vec<u8> = value
        .iter()
        .map(|&b| if bytes::is_value(b) { b } else { b' ' })
        .collect();
    assert_eq!(field("X-Request-ID"), Some(bytes::trim(&clean)));
    assert_eq!(
        field("Connection"),
        match (stays, exchange.version) {
            (false, _) => Some(&b"close"[..]),
            (true, Version::Http10) => Some(&b"keep-alive"[..]),
            (true, Version::Http11 | Version::Http2) => None,
        }
    );
    let length = field("Content-Length").map(|length| String::from_utf8_lossy(length).into_owned());
    let is_chunked = field("Transfer-Encoding") == Some(b"chunked");
    assert!(!(is_chunked && length.is_some()));
    if status.is_bodiless() {
        assert!(!is_chunked && length.is_none());
    }
    if omits {
        assert_eq!(at, out.len());
    } else if is_chunked {
        assert!(streamed);
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked, usize::MAX >> 8).unwrap();
        let mut payload = Vec::new();
        assert_eq!(
            decoder.decode_into(&out[at..], &mut payload),
            Ok((out.len() - at, true))
        );
        assert_eq!(payload, body);
    } else {
        assert_eq!(length, (!until_close).then(|| body.len().to_string()));
        assert_eq!(&out[at..], body);
    }
}

/// What a client that sends `input` and no more is owed: of each request in turn.
pub(crate) struct Owed {
    /// The request's method, target and body; or the status of a refusal.
    pub(crate) what: Result<(String, Vec<u8>), u16>,
    /// It is a HEAD.
    pub(crate) is_head: bool,
    /// 100 may come first.
    pub(crate) may_continue: bool,
    /// Nothing comes after it.
    pub(crate) last: bool,
}

impl Owed {
    /// A refusal with this status.
    pub(crate) fn refusal(status: u16) -> Owed {
        Owed {
            what: Err(status),
            is_head: false,
            // Its head may have been in order.
            may_continue: true,
            last: true,
        }
    }
}

/// Reads `input` as a server must, with the reader alone; true if it ends within a request.
pub(crate) fn owed(input: &[u8]) -> (Vec<Owed>, bool) {
    let mut all = Vec::new();
    let mut reader = Reader {
        raw: Some(Vec::new()),
        ..Reader::default()
    };
    reader.feed(input);
    let bodies = reader.raw.take().unwrap();
    for (at, words) in reader.said.iter().enumerate() {
        let has = |word: &str| words.iter().any(|said| said == word);
        let Some(Range { start, end }) = bodies.get(at).cloned() else {
            let status = words[0].parse().unwrap();
            all.push(Owed::refusal(status));
            break;
        };
        let target = words.iter().find_map(|word| word.strip_prefix("target=")).unwrap();
        let body = reader.bodies[start..end].to_vec();
        let last = has("close");
        all.push(Owed {
            what: Ok((format!("{} {target}", words[0]), body)),
            is_head: words[0] == "HEAD",
            may_continue: has("continue"),
            last,
        });
        if last {
            break;
        }
    }
    let unfinished = all.last().is_none_or(|owed| !owed.last) && reader.end().last() == Some(&vec!["more".to_owned()]);
    (all, unfinished)
}
