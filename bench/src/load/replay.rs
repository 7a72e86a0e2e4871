//! An access log as a load: its requests in its order, at its times or others.
//!
//! Read are the server's own log (`LOG_FORMAT=json`, lines whose message is `request`) and the Common and Combined Log
//! Formats of Apache and nginx. A log has no bodies: requests with a method that carries one get the body of the command
//! line, or are left out. Nor has it request headers.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scenario::Drawn;
use crate::clock::SECOND_NS;

/// Most requests taken from a log; each is 16 bytes.
const ENTRIES_MAX: usize = 20_000_000;

/// One request of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Since the first.
    offset_ns: u64,
    line: u32,
    status: u16,
}

/// Method, path, and the bytes on HTTP/1.1.
#[derive(Clone, Debug)]
struct Line {
    class: u16,
    method: String,
    path: String,
    bytes: Vec<u8>,
}

/// A log, read.
#[derive(Debug)]
pub(crate) struct Replay {
    entries: Vec<Entry>,
    lines: Vec<Line>,
    /// Methods, by the number of their class.
    classes: Vec<String>,
    body: Option<Vec<u8>>,
    authority: String,
    headers: Vec<(String, String)>,
    /// Lines of the log that are no request.
    pub(crate) unread: u64,
    /// Requests left out for want of a body.
    pub(crate) bodiless: u64,
}

/// What each request gets besides what the log says.
#[derive(Debug, Default)]
pub(crate) struct Dress {
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) close: bool,
}

struct Read<'l> {
    at_ns: i128,
    /// The time is to the second only.
    coarse: bool,
    method: &'l str,
    path: &'l str,
    status: u16,
}

#[derive(Deserialize)]
struct Json<'l> {
    timestamp: &'l str,
    message: &'l str,
    method: &'l str,
    path: std::borrow::Cow<'l, str>,
    status: u16,
    #[serde(default)]
    duration_us: u64,
}

fn json(line: &str) -> Option<(i128, String, String, u16)> {
    let json: Json<'_> = sonic_rs::from_str(line).ok()?;
    if json.message != "request" {
        return None;
    }
    let at: jiff::Timestamp = json.timestamp.parse().ok()?;
    // The line is written with the answer; the request came before.
    let at_ns = at.as_nanosecond() - i128::from(json.duration_us) * 1000;
    Some((at_ns, json.method.to_owned(), json.path.into_owned(), json.status))
}

/// `host ident user [10/Oct/2000:13:55:36 -0700] "GET /p HTTP/1.0" 200 2326 ...`
fn common(line: &str) -> Option<Read<'_>> {
    let (_, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once('"')?;
    let at = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time)
        .ok()?
        .to_timestamp()
        .ok()?;
    let mut words = request.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/") {
        return None;
    }
    Some(Read {
        at_ns: at.as_nanosecond(),
        coarse: true,
        method,
        path,
        status: rest.split_ascii_whitespace().next()?.parse().ok()?,
    })
}

fn is_sound(method: &str, path: &str, status: u16) -> bool {
    !method.is_empty()
        && method.bytes().all(|b| b.is_ascii_uppercase())
        && path.starts_with('/')
        && path.bytes().all(|b| b > b' ' && b != 0x7f)
        && (200..600).contains(&status)
}

impl Replay {
    /// Reads a log; the format is seen line by line.
    ///
    /// # Errors
    /// No request in it, or too many.
    pub(crate) fn parse(text: &str, dress: Dress) -> Result<Self, String> {
        let mut replay = Self {
            entries: Vec::new(),
            lines: Vec::new(),
            classes: Vec::new(),
            body: dress.body,
            authority: dress.authority,
            headers: dress.headers,
            unread: 0,
            bodiless: 0,
        };
        if replay.body.is_some()
            && !replay
                .headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case("content-type"))
        {
            replay
                .headers
                .push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let mut known: BTreeMap<(String, String), u32> = BTreeMap::new();
        let mut raw: Vec<(i128, bool, u32, u16)> = Vec::new();
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let read = json(line).map(|(at, m, p, s)| (at, false, m, p, s)).or_else(|| {
                common(line).map(|r| (r.at_ns, r.coarse, r.method.to_owned(), r.path.to_owned(), r.status))
            });
            let Some((at_ns, coarse, method, path, status)) = read.filter(|r| is_sound(&r.2, &r.3, r.4)) else {
                replay.unread += 1;
                continue;
            };
            if matches!(method.as_str(), "POST" | "PUT" | "PATCH") && replay.body.is_none() {
                replay.bodiless += 1;
                continue;
            }
            let line = match known.get(&(method.clone(), path.clone())) {
                Some(&line) => line,
                None => {
                    let number = u32::try_from(replay.lines.len()).unwrap_or(u32::MAX);
                    let line = replay.line(&method, &path, dress.close);
                    replay.lines.push(line);
                    known.insert((method, path), number);
                    number
                }
            };
            raw.push((at_ns, coarse, line, status));
            if raw.len() > ENTRIES_MAX {
                return Err(format!("the log has more than {ENTRIES_MAX} requests"));
            }
        }
        // By time; in the log's order within the same: it is written in the order of the answers.
        raw.sort_by_key(|entry| entry.0);
        let first = raw
            .first()
            .ok_or_else(|| match replay.bodiless {
                0 => "the log has no request that can be read (JSON of this server, Common or Combined Log Format)"
                    .to_owned(),
                n => format!("the log's {n} requests all need a body: give one with --body"),
            })?
            .0;
        let mut at = 0;
        while let Some(&(at_ns, coarse, ..)) = raw.get(at) {
            let alike = raw.get(at..).unwrap_or_default();
            let alike = alike.partition_point(|entry| entry.0 == at_ns).max(1);
            for (place, entry) in raw.iter().skip(at).take(alike).enumerate() {
                // Times to the second: those of one second are spread over it evenly.
                let within = if coarse {
                    SECOND_NS * place as u64 / alike as u64
                } else {
                    0
                };
                replay.entries.push(Entry {
                    offset_ns: u64::try_from(at_ns - first).unwrap_or(u64::MAX).saturating_add(within),
                    line: entry.2,
                    status: entry.3,
                });
            }
            at += alike;
        }
        replay.entries.sort_by_key(|entry| entry.offset_ns);
        Ok(replay)
    }

    fn line(&mut self, method: &str, path: &str, close: bool) -> Line {
        let class = match self.classes.iter().position(|m| m == method) {
            Some(class) => class,
            None => {
                self.classes.push(method.to_owned());
                self.classes.len() - 1
            }
        };
        let body = self
            .body
            .as_deref()
            .filter(|_| matches!(method, "POST" | "PUT" | "PATCH"));
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.authority));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        Line {
            class: u16::try_from(class).unwrap_or(u16::MAX),
            method: method.to_owned(),
            path: path.to_owned(),
            bytes,
        }
    }

    /// Its methods, by the numbers of their classes.
    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How many requests it has.
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// From its first request to its last, and the mean gap after that.
    pub(crate) fn seconds(&self) -> f64 {
        let last = self.entries.last().map_or(0, |e| e.offset_ns) as f64 / SECOND_NS as f64;
        (last * (1.0 + 1.0 / self.len().max(1) as f64)).max(0.001)
    }

    pub(super) fn mean_rate(&self) -> f64 {
        self.len() as f64 / self.seconds()
    }

    fn entry(&self, turn: u64) -> Option<(&Entry, &Line)> {
        let entry = self.entries.get(usize::try_from(turn).ok()?)?;
        Some((entry, self.lines.get(entry.line as usize)?))
    }

    /// When request `turn` came, after the first.
    pub(super) fn offset_ns(&self, turn: u64) -> Option<u64> {
        self.entry(turn).map(|(entry, _)| entry.offset_ns)
    }

    fn drawn(entry: &Entry, line: &Line) -> Drawn {
        Drawn {
            class: line.class,
            head: line.method == "HEAD",
            sse: false,
            expect: Some(entry.status),
        }
    }

    /// Appends request `turn`.
    pub(super) fn draw_h1(&self, turn: u64, out: &mut Vec<u8>) -> Option<Drawn> {
        let (entry, line) = self.entry(turn)?;
        out.extend_from_slice(&line.bytes);
        Some(Self::drawn(entry, line))
    }

    /// Request `turn` for HTTP/2.
    pub(super) fn draw_h2(&self, turn: u64, scheme: &str) -> Option<(Drawn, http::Request<()>, bytes::Bytes)> {
        let (entry, line) = self.entry(turn)?;
        let mut request = http::Request::builder()
            .method(line.method.as_bytes())
            .uri(format!("{scheme}://{}{}", self.authority, line.path));
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case("connection") {
                request = request.header(name, value);
            }
        }
        let carries = matches!(line.method.as_str(), "POST" | "PUT" | "PATCH");
        let body = self.body.as_deref().filter(|_| carries).unwrap_or_default();
        Some((
            Self::drawn(entry, line),
            request.body(()).ok()?,
            bytes::Bytes::copy_from_slice(body),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dress(body: Option<&str>) -> Dress {
        Dress {
            authority: "h:1".into(),
            body: body.map(|b| b.as_bytes().to_vec()),
            ..Dress::default()
        }
    }

    #[test]
    fn the_servers_own_log_and_its_times() {
        let line = |at: &str, path: &str, status: u16, us: u64| {
            format!(
                "{{\"timestamp\":\"{at}\",\"level\":\"INFO\",\"message\":\"request\",\"request_id\":\"r\",\"method\":\"GET\",\
                 \"route\":\"x\",\"path\":\"{path}\",\"status\":{status},\"duration_us\":{us},\"bytes\":1,\"target\":\"access\"}}"
            )
        };
        let log = [
            "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"INFO\",\"message\":\"ready\"}".to_owned(),
            line("2026-01-01T00:00:01.000500Z", "/health", 200, 500),
            // Answered later, and asked for before the next.
            line("2026-01-01T00:00:01.300000Z", "/api/v1/stories/1", 404, 200_000),
            line("2026-01-01T00:00:01.200000Z", "/health", 200, 0),
        ]
        .join("\n");
        let r = Replay::parse(&log, dress(None)).unwrap();
        assert_eq!((r.len(), r.unread, r.bodiless), (3, 1, 0));
        let offsets: Vec<u64> = (0..3).filter_map(|t| r.offset_ns(t)).collect();
        assert_eq!(offsets, [0, 100_000_000, 200_000_000]);
        let mut out = Vec::new();
        let drawn = r.draw_h1(1, &mut out).unwrap();
        assert_eq!(drawn.expect, Some(404));
        assert_eq!(out, b"GET /api/v1/stories/1 HTTP/1.1\r\nHost: h:1\r\n\r\n");
        assert!(r.draw_h1(3, &mut out).is_none());
        assert!((r.mean_rate() - 11.25).abs() < 0.1, "{}", r.mean_rate());
    }

    #[test]
    fn common_and_combined_lines_are_spread_over_their_second() {
        let log = "1.2.3.4 - - [10/Oct/2025:13:55:36 +0200] \"GET /a HTTP/1.1\" 200 2326\n\
                   ::1 - bob [10/Oct/2025:13:55:36 +0200] \"POST /b HTTP/1.1\" 201 5 \"-\" \"curl [x] \\\"y\\\"\"\n\
                   1.2.3.4 - - [10/Oct/2025:11:55:38 +0000] \"HEAD /a?q=1 HTTP/2.0\" 200 -\n\
                   1.2.3.4 - - [10/Oct/2025:11:55:38 +0000] \"-\" 400 0\n";
        let r = Replay::parse(log, dress(Some("{}"))).unwrap();
        assert_eq!((r.len(), r.unread), (3, 1));
        let offsets: Vec<u64> = (0..3).filter_map(|t| r.offset_ns(t)).collect();
        assert_eq!(offsets, [0, SECOND_NS / 2, 2 * SECOND_NS]);
        let mut out = Vec::new();
        assert_eq!(r.draw_h1(1, &mut out).unwrap().expect, Some(201));
        assert!(String::from_utf8(out).unwrap().ends_with("content-length: 2\r\n\r\n{}"));
        assert!(r.draw_h1(2, &mut Vec::new()).unwrap().head);
        assert_eq!(r.classes(), ["GET", "POST", "HEAD"]);
        let (_, request, body) = r.draw_h2(1, "http").unwrap();
        assert_eq!((request.uri().path(), &body[..]), ("/b", &b"{}"[..]));
        let bodiless = Replay::parse(log, dress(None)).unwrap();
        assert_eq!((bodiless.len(), bodiless.bodiless), (2, 1));
    }

    #[test]
    fn a_log_without_a_request_is_no_load() {
        assert!(Replay::parse("hello\n", dress(None)).is_err());
        let post = "h - - [10/Oct/2025:13:55:36 +0200] \"POST /b HTTP/1.1\" 201 5";
        assert!(Replay::parse(post, dress(None)).is_err_and(|e| e.contains("--body")));
    }
}
