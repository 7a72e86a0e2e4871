//! The table of `conformance.md`, read: the tests read what people read. Also part of `tests/conformance.rs` and of
//! `fuzz/`.

const TABLE: &str = include_str!("../conformance.md");
const CHUNKED_HEAD: &str = r"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n";

/// A row.
pub(crate) struct Row {
    /// As it stands in the table.
    pub(crate) text: String,
    /// What the client sends.
    pub(crate) input: Vec<u8>,
    /// For each message, the words of its answer.
    pub(crate) answers: Vec<Vec<String>>,
}

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
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
