//! Every row of `src/http/conformance.md` against the running server, over real sockets: in one piece, split in two at
//! every place, and byte by byte. The answer has the status that the row says, or is an answer to a request; it is well
//! formed; the next request is answered where the row leaves the connection open; and nothing else comes.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "../src/http/conformance/table.rs"]
mod table;

use common::{PATIENCE, Server, Setup, on_each_driver, raise_open_files, uring_is_here};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use table::{Row, rows};

/// Stands behind every input, and is answered where the row's own requests leave the connection in order.
const BEHIND: &str = "GET /health HTTP/1.1\r\nHost: a\r\nX-Request-ID: behind\r\nConnection: close\r\n\r\n";
/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Connections at once.
const BATCH: usize = 200;
/// Between the two parts: long enough for an idle server to look at the first alone. Were it not, the test would only
/// prove less.
const PAUSE: Duration = Duration::from_millis(15);

/// Where to cut a row: everywhere, but in rows of thousands of bytes, which are one byte repeated for the most part.
fn cuts(row: &Row, every: usize) -> Vec<usize> {
    let bytes = row.input.len();
    if bytes <= 3000 {
        return (0..=bytes).step_by(every).collect();
    }
    let ends = (0..=150).chain(bytes - 150..=bytes);
    let spread = (1..100).map(|at| bytes / 100 * at);
    ends.chain(spread).step_by(every).collect()
}

/// What the table says of one message.
enum Says<'r> {
    Takes(&'r [String]),
    Refuses(u16),
    More,
}

fn says(words: &[String]) -> Says<'_> {
    match words {
        [word] if word == "more" => Says::More,
        [word] if word.parse::<u16>().is_ok() => Says::Refuses(word.parse().unwrap()),
        words => Says::Takes(words),
    }
}

/// True if nothing stands behind the bytes: they end within a request, and the server has nothing to answer, or are
/// HTTP/2's.
fn is_last(row: &Row) -> bool {
    let last = row.answers.last();
    is_preface(row) || last.is_some_and(|words| matches!(says(words), Says::More))
}

/// Whether the preface of HTTP/2 is what a server that speaks it looks for in these bytes.
fn is_preface(row: &Row) -> bool {
    row.input.starts_with(PREFACE) || PREFACE.starts_with(&row.input)
}

/// One connection under way.
struct Talk<'r> {
    row: &'r Row,
    cut: usize,
    stream: TcpStream,
    got: Vec<u8>,
}

impl<'r> Talk<'r> {
    fn open(server: &Server, row: &'r Row, cut: usize) -> Talk<'r> {
        let stream = TcpStream::connect_timeout(&server.addr(), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Talk {
            row,
            cut,
            stream,
            got: Vec::new(),
        }
    }

    /// The first part.
    fn begin(&mut self) {
        self.send(&self.row.input[..self.cut]);
    }

    /// The rest, and what stands behind it. What has come meanwhile is read first: a server that has closed may answer
    /// bytes with a reset, and that may take an answer away.
    fn go_on(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        self.read();
        self.stream.set_nonblocking(false).unwrap();
        let mut rest = self.row.input[self.cut..].to_vec();
        if !is_last(self.row) {
            rest.extend_from_slice(BEHIND.as_bytes());
        }
        self.send(&rest);
        self.say_the_end();
    }

    /// Each byte in a write of its own.
    fn drip(&mut self) {
        for byte in &self.row.input {
            self.send(std::slice::from_ref(byte));
        }
        if !is_last(self.row) {
            self.send(BEHIND.as_bytes());
        }
        self.say_the_end();
    }

    fn say_the_end(&mut self) {
        if is_last(self.row) {
            // Fails where the server has closed already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        // To a server that has refused what came before, and closed, nothing can be sent: its answer is judged.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads until the end of the connection, or until nothing is there if the socket does not wait.
    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(bytes) => self.got.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.is_waiting() => return,
                Err(error) => panic!("{error} {}", self.shown()),
            }
        }
    }

    fn is_waiting(&self) -> bool {
        rustix::fs::fcntl_getfl(&self.stream).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK))
    }

    fn shown(&self) -> String {
        let got = self.got.get(..1500).unwrap_or(&self.got);
        format!("cut at {}: {}\ngot: {}", self.cut, self.row.text, got.escape_ascii())
    }

    /// Reads to the end and compares with the row.
    fn judge(mut self) {
        self.read();
        if is_preface(self.row) {
            // HTTP/2 begins with SETTINGS (type 4 on stream 0), and so does its refusal. Half a preface is no request.
            let frame = self.got.get(3..9);
            let is_settings = frame.is_some_and(|frame| frame[0] == 4 && frame[2..] == [0; 4]);
            let is_half = !self.row.input.starts_with(PREFACE) && self.got.is_empty();
            assert!(is_half || is_settings, "{}", self.shown());
            return;
        }
        let mut at = 0;
        let mut open = true;
        for words in &self.row.answers {
            if !open {
                break;
            }
            match says(words) {
                Says::More => open = false,
                Says::Refuses(status) => {
                    let answer = self.answer(&mut at, false, false);
                    assert_eq!(answer.status, status, "{}", self.shown());
                    assert!(answer.closes, "{}", self.shown());
                    open = false;
                }
                Says::Takes(words) => {
                    let has = |word: &str| words.iter().any(|said| said == word);
                    let answer = self.answer(&mut at, has("HEAD"), has("continue"));
                    // A path of the table's is no route, and no method of it either; `*` is the server.
                    let fits = matches!(answer.status, 200 | 204 | 404 | 405);
                    assert!(fits, "a request that was not taken: {}", self.shown());
                    open = !answer.closes;
                    assert!(!open || !has("close"), "left open: {}", self.shown());
                    assert!(open || !has("keep-alive"), "closed: {}", self.shown());
                }
            }
        }
        if open {
            let answer = self.answer(&mut at, false, false);
            assert_eq!((answer.status, answer.id.as_str()), (200, "behind"), "{}", self.shown());
            assert!(answer.closes, "{}", self.shown());
        }
        assert_eq!(at, self.got.len(), "something else came: {}", self.shown());
    }

    /// Reads one answer strictly.
    fn answer(&self, at: &mut usize, to_head: bool, may_continue: bool) -> Answer {
        let mut bytes = &self.got[*at..];
        if may_continue && let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
            bytes = rest;
        }
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let head = match response.parse(bytes) {
            Ok(httparse::Status::Complete(head)) => head,
            other => panic!("no answer ({other:?}): {}", self.shown()),
        };
        let status = response.code.unwrap();
        assert_eq!(response.version, Some(1), "{}", self.shown());
        assert!(
            !bytes[..head].windows(2).any(|two| two[0] != b'\r' && two[1] == b'\n'),
            "{}",
            self.shown()
        );
        let field = |name: &str| {
            let mut all = response
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(name));
            let first = all
                .next()
                .map(|field| std::str::from_utf8(field.value).unwrap().to_owned());
            assert!(all.next().is_none(), "{name} twice: {}", self.shown());
            first
        };
        assert!(
            field("date").is_some_and(|date| date.ends_with(" GMT")),
            "{}",
            self.shown()
        );
        assert_eq!(field("transfer-encoding"), None, "{}", self.shown());
        let id = field("x-request-id").unwrap_or_default();
        let length = field("content-length").map(|length| length.parse::<usize>().unwrap());
        let body_bytes = match (to_head || status == 204, length) {
            (true, _) => 0,
            (false, Some(length)) => length,
            (false, None) => panic!("no length: {}", self.shown()),
        };
        let body = bytes
            .get(head..head + body_bytes)
            .unwrap_or_else(|| panic!("half a body: {}", self.shown()));
        if status >= 400 && !to_head {
            assert_eq!(
                field("content-type").as_deref(),
                Some("application/problem+json"),
                "{}",
                self.shown()
            );
            let text = std::str::from_utf8(body).unwrap();
            assert!(
                text.contains(&format!("\"status\":{status}")) && text.contains(&id),
                "{}",
                self.shown()
            );
        }
        *at = self.got.len() - bytes.len() + head + body_bytes;
        Answer {
            status,
            closes: field("connection").as_deref() == Some("close"),
            id,
        }
    }
}

struct Answer {
    status: u16,
    closes: bool,
    id: String,
}

/// Runs the table at every `every`th cut; gives how many connections that took.
fn run(server: &Server, every: usize) -> usize {
    let rows = rows();
    let all: Vec<(&Row, usize)> = rows
        .iter()
        .flat_map(|row| cuts(row, every).into_iter().map(move |cut| (row, cut)))
        .collect();
    // Two at a time: while one waits, the other works.
    std::thread::scope(|scope| {
        let (first, second) = all.split_at(all.len() / 2);
        for half in [first, second] {
            scope.spawn(move || {
                for batch in half.chunks(BATCH) {
                    let mut talks: Vec<Talk<'_>> =
                        batch.iter().map(|(row, cut)| Talk::open(server, row, *cut)).collect();
                    talks.iter_mut().for_each(Talk::begin);
                    std::thread::sleep(PAUSE);
                    talks.iter_mut().for_each(Talk::go_on);
                    talks.into_iter().for_each(Talk::judge);
                }
            });
        }
    });
    // Byte by byte, each row on its own: the server is seldom slower than a client that makes a call for each byte.
    for row in rows.iter().step_by(every) {
        let mut talk = Talk::open(server, row, row.input.len());
        talk.drip();
        talk.judge();
    }
    assert_eq!(server.get("/health").status, 200);
    all.len() + rows.len().div_ceil(every)
}

#[test]
fn every_row_of_the_table_at_every_split() {
    raise_open_files();
    let server = Setup::new().start();
    let connections = run(&server, 1);
    println!("{connections} connections");
    assert!(connections > 20_000, "{connections} connections");
}

#[test]
fn the_other_driver_answers_alike() {
    raise_open_files();
    if uring_is_here() {
        run(&Setup::new().driver("epoll").start(), 1);
    }
}

#[test]
fn methods_that_a_route_does_not_have() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let mut stream = server.connect();
        for method in ["TRACE", "PATCH", "PUT", "DELETE"] {
            stream.send(format!(
                "{method} /health HTTP/1.1\r\nHost: a\r\nX-Secret: s3cret\r\n\r\n"
            ));
            let answer = stream.read().expect(405);
            assert!(
                answer.field("allow").is_some() && !answer.text().contains("s3cret"),
                "{method}"
            );
        }
        stream.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
        assert!(stream.read().expect(501).closes());
    });
}
