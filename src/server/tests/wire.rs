//! Requests as bytes, and a strict reader of what comes back.

use super::app::{pattern, pieces};
use crate::http::imf_fixdate;

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Content-Length.
    Length,
    Chunked,
    /// HTTP/1.0 and no length.
    UntilClose,
    /// 204 and 304.
    Bodiless,
    /// Chunked, with its end missing, since its maker failed.
    Broken,
}

/// What must come back for a request.
#[derive(Clone)]
pub(super) struct Want {
    pub(super) status: u16,
    /// X-Request-ID; none where the handler did not get to write it.
    pub(super) n: Option<u64>,
    pub(super) body: Vec<u8>,
    pub(super) is_head: bool,
    pub(super) framing: Framing,
    pub(super) close: bool,
    pub(super) is_http10: bool,
    /// 100 may come first.
    pub(super) continues: bool,
}

/// Without the body, which is long.
impl std::fmt::Debug for Want {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Want {
            status,
            n,
            is_head,
            framing,
            close,
            is_http10,
            continues,
            body,
        } = self;
        let bytes = body.len();
        write!(
            f,
            "{status} for {n:?} ({framing:?}, {bytes} bytes, head {is_head}, close {close}, 1.0 {is_http10}, 100 {continues})"
        )
    }
}

/// A request, and what must come back.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) head: Vec<u8>,
    /// As on the wire.
    pub(super) body: Vec<u8>,
    /// The client sends the body only after a 100.
    pub(super) waits: bool,
    pub(super) want: Want,
}

impl Ask {
    /// A GET of `path`, which is answered with `body` and a length.
    pub(super) fn get(n: u64, path: &str, body: &[u8]) -> Ask {
        Ask {
            head: format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes(),
            body: Vec::new(),
            waits: false,
            want: Want {
                status: 200,
                n: Some(n),
                body: body.to_vec(),
                is_head: false,
                framing: Framing::Length,
                close: false,
                is_http10: false,
                continues: false,
            },
        }
    }

    pub(super) fn size(n: u64, bytes: usize) -> Ask {
        Ask::get(n, &format!("/size/{n}/{bytes}"), pattern(n, bytes))
    }

    pub(super) fn later(n: u64, ms: u64, bytes: usize) -> Ask {
        Ask::get(n, &format!("/later/{n}/{ms}/{bytes}"), pattern(n, bytes))
    }

    /// The answer to bytes that are no request.
    pub(super) fn refused(bytes: Vec<u8>, status: u16) -> Ask {
        let mut ask = Ask::get(0, "/", b"");
        ask.head = bytes;
        ask.want.status = status;
        ask.want.n = None;
        ask.want.close = true;
        ask
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body].concat()
    }
}

/// What the load is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Bytes of big bodies.
    pub(super) big_bytes: usize,
    /// Milliseconds that slow handlers take, at most.
    pub(super) later_ms: u64,
}

/// The body in chunks of any size, with extensions and trailers now and then.
fn chunked(rng: &mut fastrand::Rng, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rng.usize(1..=rest.len()));
        let extension = if rng.u8(..8) == 0 { ";a=\"b\"" } else { "" };
        wire.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
        rest = after;
    }
    wire.extend_from_slice(b"0\r\n");
    if rng.u8(..8) == 0 {
        wire.extend_from_slice(b"Checksum: 1\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

/// A well-formed request of any kind. `last` ones may close the connection.
pub(super) fn random(rng: &mut fastrand::Rng, n: u64, last: bool, scale: Scale) -> Ask {
    let small = rng.usize(0..300);
    let big = rng.usize(scale.big_bytes / 2..=scale.big_bytes);
    let ms = rng.u64(0..=scale.later_ms);
    let body = pattern(n, if rng.u8(..4) == 0 { rng.usize(0..4000) } else { small }).to_vec();
    let (path, status, answer, framing, has_body) = match rng.u8(0..if last { 24 } else { 22 }) {
        0..6 => (
            format!("/size/{n}/{small}"),
            200,
            pattern(n, small).to_vec(),
            Framing::Length,
            false,
        ),
        6 => (
            format!("/size/{n}/{big}"),
            200,
            pattern(n, big).to_vec(),
            Framing::Length,
            false,
        ),
        7 | 8 => (
            format!("/later/{n}/{ms}/{small}"),
            200,
            pattern(n, small).to_vec(),
            Framing::Length,
            false,
        ),
        9 => (
            format!("/later/{n}/{ms}/{big}"),
            200,
            pattern(n, big).to_vec(),
            Framing::Length,
            false,
        ),
        10 => (
            format!("/latewrite/{n}/0/{small}"),
            200,
            pattern(n, small).to_vec(),
            Framing::Length,
            false,
        ),
        11 => (
            format!("/panic/{n}/{small}"),
            500,
            b"failed".to_vec(),
            Framing::Length,
            false,
        ),
        12 => (
            format!("/latepanic/{n}/{ms}"),
            500,
            b"failed".to_vec(),
            Framing::Length,
            false,
        ),
        13 | 14 => {
            let (count, bytes) = (rng.usize(0..12), rng.usize(0..200));
            let body = pieces(n, count, bytes);
            (
                format!("/events/{n}/{count}/{bytes}"),
                200,
                body,
                Framing::Chunked,
                false,
            )
        }
        15..18 => (format!("/echo/{n}"), 200, body.clone(), Framing::Length, true),
        18 => (format!("/lateecho/{n}/{ms}"), 200, body.clone(), Framing::Length, true),
        19 => (format!("/nothing/{n}"), 204, vec![], Framing::Bodiless, false),
        20 => (format!("/unchanged/{n}"), 304, vec![], Framing::Bodiless, false),
        21 => (
            format!("/nowhere/{n}"),
            404,
            b"not found".to_vec(),
            Framing::Length,
            false,
        ),
        kind => {
            let (count, bytes) = (rng.usize(0..6), rng.usize(1..200));
            let name = if kind == 22 { "eventserror" } else { "eventspanic" };
            let body = pieces(n, count, bytes);
            (
                format!("/{name}/{n}/{count}/{bytes}"),
                200,
                body,
                Framing::Broken,
                false,
            )
        }
    };
    let is_head = !has_body && rng.u8(..8) == 0;
    // What HEAD leaves out is not made either, so that it cannot break.
    let framing = match framing {
        Framing::Broken if is_head => Framing::Chunked,
        framing => framing,
    };
    let breaks = framing == Framing::Broken;
    let is_http10 = !breaks && rng.u8(..8) == 0;
    let streams_to_10 = is_http10 && framing == Framing::Chunked;
    // An answer without an end in HTTP/1.0 ends with the connection.
    let is_http10 = is_http10 && (last || !streams_to_10 || is_head);
    let framing = if is_http10 && framing == Framing::Chunked {
        Framing::UntilClose
    } else {
        framing
    };
    let close = last && rng.bool() || framing == Framing::UntilClose && !is_head;
    let mut head = String::new();
    for _ in 0..rng.u8(..16).saturating_sub(13) {
        head.push_str("\r\n");
    }
    let method = if is_head {
        "HEAD"
    } else if has_body {
        "POST"
    } else {
        "GET"
    };
    head.push_str(&format!(
        "{method} {path} HTTP/1.{}\r\nHost: test\r\n",
        u8::from(!is_http10)
    ));
    match (close, is_http10) {
        (true, false) => head.push_str("Connection: close\r\n"),
        (false, true) => head.push_str("Connection: keep-alive\r\n"),
        _ => {}
    }
    for at in 0..rng.u8(..64).saturating_sub(40) {
        head.push_str(&format!("X-Filler-{at}: {}\r\n", "x".repeat(rng.usize(0..100))));
    }
    let mut wire_body = Vec::new();
    let mut continues = false;
    if has_body {
        if rng.bool() || is_http10 {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            wire_body = body;
        } else {
            head.push_str("Transfer-Encoding: chunked\r\n");
            wire_body = chunked(rng, &body);
        }
        continues = !is_http10 && !wire_body.is_empty() && rng.u8(..3) == 0;
        if continues {
            head.push_str("Expect: 100-continue\r\n");
        }
    }
    head.push_str("\r\n");
    Ask {
        head: head.into_bytes(),
        body: wire_body,
        waits: continues && rng.bool(),
        want: Want {
            status,
            n: (status != 500).then_some(n),
            body: answer,
            is_head,
            framing,
            close,
            is_http10,
            continues,
        },
    }
}

/// What the strict reader found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    More,
    /// 100, and its bytes.
    Continue(usize),
    /// The whole answer: its bytes, and whether it says that the connection closes.
    Whole(usize, bool),
}

/// Reads the answer that `want` describes from the start of `bytes`; anything else is an error. `ended` after the last
/// byte. `may_close`: the server may say `close` where the client did not (it drains). `unix_s`: now.
pub(super) fn read(bytes: &[u8], want: &Want, ended: bool, may_close: bool, unix_s: u64) -> Result<Read, String> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let head_bytes = match response.parse(bytes).map_err(|error| format!("no answer: {error}"))? {
        httparse::Status::Partial => return Ok(Read::More),
        httparse::Status::Complete(head_bytes) => head_bytes,
    };
    if response.version != Some(1) {
        return Err(format!("version {:?}", response.version));
    }
    if response.code == Some(100) {
        return if want.continues && response.headers.is_empty() {
            Ok(Read::Continue(head_bytes))
        } else {
            Err("100 that nobody waits for".into())
        };
    }
    if response.code != Some(want.status) {
        return Err(format!("status {:?}, not {}", response.code, want.status));
    }
    let field = |name: &str| -> Result<Option<&str>, String> {
        let mut all = response
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        let first = all.next().map(|field| std::str::from_utf8(field.value).unwrap_or("?"));
        if all.next().is_some() {
            return Err(format!("{name} stands twice"));
        }
        Ok(first)
    };
    let expect = |name: &str, value: Option<String>| -> Result<(), String> {
        let is = field(name)?;
        if is == value.as_deref() {
            Ok(())
        } else {
            Err(format!("{name} is {is:?}, not {value:?}"))
        }
    };
    // The answer may have been under way for a while.
    let is_date = |date: &str| (0..1500).any(|ago| imf_fixdate(unix_s - ago)[..] == *date.as_bytes());
    if !field("date")?.is_some_and(is_date) {
        return Err(format!("the date is {:?}", field("date")?));
    }
    let close = field("connection")? == Some("close");
    if !(close && may_close) {
        let connection = match (want.close, want.is_http10) {
            (true, _) => Some("close"),
            (false, true) => Some("keep-alive"),
            (false, false) => None,
        };
        expect("connection", connection.map(String::from))?;
    }
    if let Some(n) = want.n {
        expect("x-request-id", Some(n.to_string()))?;
    }
    let rest = &bytes[head_bytes..];
    let refused = want.close && want.n.is_none() && want.status != 500;
    let length = (want.framing == Framing::Length).then(|| want.body.len().to_string());
    // The words of a refusal are the application's business.
    if !refused {
        expect("content-length", length)?;
    }
    let is_chunked = matches!(want.framing, Framing::Chunked | Framing::Broken);
    expect("transfer-encoding", is_chunked.then(|| "chunked".into()))?;
    if want.is_head || want.framing == Framing::Bodiless {
        return Ok(Read::Whole(head_bytes, close));
    }
    let same = |body: &[u8]| {
        if body == want.body {
            Ok(())
        } else {
            Err(format!("another body: {} bytes, not {}", body.len(), want.body.len()))
        }
    };
    match want.framing {
        Framing::Length => {
            let length: usize = field("content-length")?
                .and_then(|length| length.parse().ok())
                .ok_or("no length")?;
            let Some(body) = rest.get(..length) else {
                return Ok(Read::More);
            };
            if !refused {
                same(body)?;
            }
            Ok(Read::Whole(head_bytes + length, close))
        }
        Framing::UntilClose if !ended => Ok(Read::More),
        Framing::UntilClose => same(rest).map(|()| Read::Whole(bytes.len(), close)),
        Framing::Chunked | Framing::Broken | Framing::Bodiless => {
            let mut body = Vec::new();
            let mut at = 0;
            loop {
                let line = &rest[at..];
                let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
                    break;
                };
                let size = std::str::from_utf8(&line[..end])
                    .ok()
                    .and_then(|hex| usize::from_str_radix(hex, 16).ok());
                let size = size.ok_or_else(|| format!("a chunk line {:?}", line[..end].escape_ascii().to_string()))?;
                let Some(chunk) = line.get(end + 2..end + 2 + size + 2) else {
                    break;
                };
                if !chunk.ends_with(b"\r\n") {
                    return Err("a chunk without its end".into());
                }
                body.extend_from_slice(&chunk[..size]);
                at += end + 2 + size + 2;
                if size == 0 {
                    return match want.framing {
                        Framing::Broken => Err("a proper end of a body that failed".into()),
                        _ => same(&body).map(|()| Read::Whole(head_bytes + at, close)),
                    };
                }
            }
            if want.framing == Framing::Broken && ended {
                if at < rest.len() || !want.body.starts_with(&body) {
                    return Err("another beginning of a body".into());
                }
                return Ok(Read::Whole(bytes.len(), true));
            }
            Ok(Read::More)
        }
    }
}
