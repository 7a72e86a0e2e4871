#![doc = include_str!("conformance.md")]

use super::scanner::DISAGREEMENT;
use super::{BodyDecoder, BodyFraming, HeadScanner, Reject, RequestHead, Version};
use crate::limits::http::BODY_BYTES_MAX;

/// The table is its own documentation: the tests read what people read.
const TABLE: &str = include_str!("conformance.md");
const CHUNKED_HEAD: &str = r"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n";

struct Row {
    text: String,
    input: Vec<u8>,
    /// For each message, the words of its answer.
    answers: Vec<Vec<String>>,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut prefix = "";
    for line in TABLE.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match cells[..] {
            ["input", ..] => prefix = "",
            ["chunked input", ..] => prefix = CHUNKED_HEAD,
            [input, answer, _] if input.starts_with('`') => {
                let input = input.trim_matches('`');
                let answers = answer.split("; ").map(|a| {
                    let words = a.split_whitespace();
                    words.map(|word| String::from_utf8(unescape(word)).unwrap()).collect()
                });
                rows.push(Row {
                    text: line.to_owned(),
                    input: unescape(&format!("{prefix}{input}")),
                    answers: answers.collect(),
                });
            }
            _ => assert!(cells.len() < 3 || cells[0] == "---", "a row that is none: {line}"),
        }
    }
    rows
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let repeated = || -> Option<(&str, usize, &str)> {
            let (inside, after) = rest.strip_prefix('{')?.split_once('}')?;
            let (what, times) = inside.rsplit_once('*')?;
            Some((what, times.parse().ok()?, after))
        };
        if let Some((what, times, after)) = repeated() {
            out.extend(unescape(what).repeat(times));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\\') {
            let (byte, len) = match after.as_bytes()[0] {
                b'r' => (b'\r', 1),
                b'n' => (b'\n', 1),
                b't' => (b'\t', 1),
                b'\\' => (b'\\', 1),
                b'x' => (u8::from_str_radix(&after[1..3], 16).unwrap(), 3),
                other => panic!("unknown escape {other}"),
            };
            out.push(byte);
            rest = &after[len..];
        } else {
            out.extend(first.to_string().bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Reads as a connection does: what has arrived, from the first byte not dealt with; says each message in words.
#[derive(Default)]
pub(super) struct Reader {
    held: Vec<u8>,
    scanner: HeadScanner,
    body: Option<(Vec<String>, BodyDecoder, Vec<u8>)>,
    pub(super) said: Vec<Vec<String>>,
    refused: bool,
}

impl Reader {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.refused {
            return;
        }
        self.held.extend_from_slice(bytes);
        if let Err(reject) = self.advance() {
            assert_ne!(reject, DISAGREEMENT);
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

#[test]
fn each_row_whole() {
    let rows = rows();
    assert!(rows.len() > 150, "the table was not found: {} rows", rows.len());
    for row in rows {
        let said = read([&row.input[..]]);
        let agree = said.len() == row.answers.len()
            && said
                .iter()
                .zip(&row.answers)
                .all(|(said, asked)| asked.iter().all(|word| said.contains(word)));
        assert!(agree, "{}\nsaid: {:.2000}", row.text, format!("{said:?}"));
    }
}

#[test]
fn each_row_split_anywhere() {
    for row in rows() {
        let whole = read([&row.input[..]]);
        let step = row.input.len().div_ceil(400).max(1);
        for at in (0..=row.input.len()).step_by(step) {
            let (a, b) = row.input.split_at(at);
            assert!(read([a, b]) == whole, "split at {at}: {}", row.text);
        }
        assert!(read(row.input.chunks(1)) == whole, "byte by byte: {}", row.text);
    }
}
