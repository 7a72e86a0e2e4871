//! A connection of HTTP/1.1, read to the last byte, and every way in which an answer can fail to come told apart.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Header fields that an answer may have.
const FIELDS_MAX: usize = 64;
/// Bytes of an answer, at most: stories and metrics are far smaller.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The connection ends behind it.
    pub(super) closes: bool,
    /// Retry-After is there: the server has said that it cannot now.
    pub(super) is_announced: bool,
    /// Who answered.
    pub(super) worker: Option<u32>,
    pub(super) body: Vec<u8>,
}

/// One connection, whose worker is known from its first answer on.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    got: Vec<u8>,
    pub(super) worker: Option<u32>,
}

/// What an idle connection is found to be before it is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Open,
    /// Ended in good order while nothing was asked.
    Closed,
}

/// Connects within `limit`. A connection to a port where nobody listens may meet itself, where the kernel gives it that
/// very port as its own: that is a refusal.
///
/// # Errors
/// A sentence.
pub(super) fn connect(addr: SocketAddr, limit: Duration) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&addr, limit).map_err(|error| format!("connect: {error}"))?;
    if stream.local_addr().ok() == stream.peer_addr().ok() {
        return Err("connect: nobody listens".to_owned());
    }
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_write_timeout(Some(limit)))
        .map_err(|error| format!("connect: {error}"))?;
    Ok(stream)
}

/// Looks whether a connection on which nothing is asked still stands.
///
/// # Errors
/// It was reset, or holds bytes that nobody asked for.
pub(super) fn look(stream: &TcpStream) -> Result<Found, String> {
    let peeked = stream.set_nonblocking(true).and_then(|()| {
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        peeked
    });
    match peeked {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Found::Open),
        Ok(0) => Ok(Found::Closed),
        Ok(_) => Err("idle: bytes that nobody asked for".to_owned()),
        Err(error) => Err(format!("idle: {error}")),
    }
}

/// Reads some bytes behind `got`, before `deadline`.
///
/// # Errors
/// The end, a reset, or nothing in time.
pub(super) fn read_more(stream: &mut TcpStream, got: &mut Vec<u8>, deadline: Instant) -> Result<(), String> {
    let mut buffer = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("no answer in time".to_owned());
        }
        stream
            .set_read_timeout(Some(left))
            .map_err(|error| format!("read: {error}"))?;
        match stream.read(&mut buffer) {
            Ok(0) if got.is_empty() => return Err("closed without an answer".to_owned()),
            Ok(0) => return Err("closed within an answer".to_owned()),
            Ok(bytes) => {
                got.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(format!("read: {error}")),
        }
    }
}

impl Connection {
    pub(super) fn open(addr: SocketAddr, limit: Duration) -> Result<Self, String> {
        Ok(Self {
            stream: connect(addr, limit)?,
            got: Vec::new(),
            worker: None,
        })
    }

    /// See [`look`].
    pub(super) fn look(&self) -> Result<Found, String> {
        look(&self.stream)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("send: {error}"))
    }

    /// The next answer to a request that is not HEAD.
    ///
    /// # Errors
    /// A sentence, which says what came instead.
    pub(super) fn read(&mut self, deadline: Instant) -> Result<Answer, String> {
        loop {
            if let Some((answer, length)) = parse(&self.got)? {
                self.got.drain(..length);
                self.worker = answer.worker.or(self.worker);
                return Ok(answer);
            }
            if self.got.len() > ANSWER_BYTES_MAX {
                return Err("an answer without end".to_owned());
            }
            read_more(&mut self.stream, &mut self.got, deadline)?;
        }
    }
}

/// A whole answer and its length; none where bytes are missing.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let head_len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("no answer of HTTP: {error}")),
    };
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let is_chunked = field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = field("content-length").map(|text| text.parse::<usize>());
    let rest = bytes.get(head_len..).unwrap_or_default();
    let (body, body_len) = match (is_chunked, length) {
        (true, None) => match dechunk(rest)? {
            Some(whole) => whole,
            None => return Ok(None),
        },
        (false, Some(Ok(length))) => match rest.get(..length) {
            Some(body) => (body.to_vec(), length),
            None => return Ok(None),
        },
        _ => return Err("an answer whose length cannot be told".to_owned()),
    };
    let answer = Answer {
        status: head.code.unwrap_or(0),
        closes: field("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close")),
        is_announced: field("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()),
        // The host's name, a dash, the worker's number.
        worker: field("x-worker-id")
            .and_then(|id| id.rsplit('-').next())
            .and_then(|number| number.parse().ok()),
        body,
    };
    Ok(Some((answer, head_len.saturating_add(body_len))))
}

/// A chunked body without trailers, and its length on the wire (RFC 9112 section 7.1).
fn dechunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut body = Vec::new();
    let mut at = 0_usize;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok(None);
        };
        let size = rest.get(..line).and_then(|digits| std::str::from_utf8(digits).ok());
        let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size
            .filter(|size| *size <= ANSWER_BYTES_MAX)
            .ok_or("a chunk without a size")?;
        let data = line + 2;
        let Some(chunk) = rest.get(data..data + size + 2) else {
            return Ok(None);
        };
        let (chunk, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err("a chunk that is longer than it says".to_owned());
        }
        body.extend_from_slice(chunk);
        at += data + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not_there() {
        let plain = b"HTTP/1.1 200 OK\r\nX-Worker-ID: a-host-7\r\nContent-Length: 5\r\n\r\nhello";
        let chunked =
            b"HTTP/1.1 503 No\r\nRetry-After: 2\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for (bytes, status, body) in [(&plain[..], 200, &b"hello"[..]), (chunked, 503, b"abc")] {
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]).unwrap(), None, "{cut}");
            }
            let (answer, length) = parse(&[bytes, b"HTTP"].concat()).unwrap().unwrap();
            assert_eq!((answer.status, &*answer.body, length), (status, body, bytes.len()));
            assert_eq!(answer.closes, status == 503);
            assert_eq!(answer.is_announced, status == 503);
            assert_eq!(answer.worker, (status == 200).then_some(7));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for bytes in [
            &b"SMTP\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
