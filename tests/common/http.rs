//! A client that trusts nothing: raw bytes out, and a strict reader of what comes back.

use super::PATIENCE;
use sonic_rs::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// A connection with what was received and not yet read.
pub struct Connection {
    pub stream: TcpStream,
    received: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Each chunk of a chunked body.
    pub chunks: Vec<Vec<u8>>,
}

impl Response {
    /// The one value of a field; a field that stands twice is a fault.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands twice: {self:?}");
        value.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        sonic_rs::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    /// The same, checked to have this status.
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self:?} {}", String::from_utf8_lossy(&self.body));
        self
    }

    /// True if the server said that it will close.
    pub fn closes(&self) -> bool {
        self.field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Connection {
    /// Connects.
    pub fn open(addr: SocketAddr) -> Connection {
        Connection::over(TcpStream::connect_timeout(&addr, PATIENCE).unwrap())
    }

    /// Over one that is made.
    pub fn over(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Says that nothing more comes.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a GET and reads its answer.
    pub fn get(&mut self, path: &str) -> Response {
        self.get_with(path, "")
    }

    /// The same with more fields, each with its line end.
    pub fn get_with(&mut self, path: &str, fields: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        self.read()
    }

    /// Sends a story request and reads its answer.
    pub fn tell(&mut self, body: &str) -> Response {
        self.send(story_request(body));
        self.read()
    }

    /// Reads the answer to anything but HEAD.
    pub fn read(&mut self) -> Response {
        self.try_read(false)
            .unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads the answer to HEAD.
    pub fn read_head(&mut self) -> Response {
        self.try_read(true).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads an answer, or says why there is none.
    pub fn try_read(&mut self, to_head: bool) -> Result<Response, String> {
        let head = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..at + 4).collect();
                break String::from_utf8(head).map_err(|_| "a head that is no UTF-8")?;
            }
            self.more("in the head")?;
        };
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap();
        let rest = first
            .strip_prefix("HTTP/1.1 ")
            .ok_or(format!("no status line: {first:?}"))?;
        let (code, reason) = rest.split_once(' ').ok_or(format!("no reason: {first:?}"))?;
        let status: u16 = code.parse().map_err(|_| format!("no status: {first:?}"))?;
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or(format!("no field: {line:?}"))?;
            let token = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if name.is_empty() || !name.chars().all(token) || value.chars().any(char::is_control) {
                return Err(format!("a bad field: {line:?}"));
            }
            fields.push((name.to_owned(), value.to_owned()));
        }
        let mut response = Response {
            status,
            reason: reason.to_owned(),
            fields,
            body: Vec::new(),
            chunks: Vec::new(),
        };
        let length = response.field("content-length").map(str::to_owned);
        let coding = response.field("transfer-encoding").map(str::to_owned);
        if to_head || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        match (length, coding.as_deref()) {
            (Some(length), None) => {
                let length: usize = length.parse().map_err(|_| "a bad Content-Length")?;
                response.body = self.take(length)?;
            }
            (None, Some("chunked")) => loop {
                let line = self.line()?;
                let length = usize::from_str_radix(&line, 16).map_err(|_| format!("a bad chunk line {line:?}"))?;
                let chunk = self.take(length)?;
                if !self.line()?.is_empty() {
                    return Err("a chunk without its end".into());
                }
                if length == 0 {
                    break;
                }
                response.body.extend_from_slice(&chunk);
                response.chunks.push(chunk);
            },
            both => return Err(format!("no framing, or two: {both:?}")),
        }
        Ok(response)
    }

    /// True if nothing is left and the peer has closed in good order.
    pub fn is_closed(&mut self) -> bool {
        self.received.is_empty() && matches!(self.more("at the end"), Err(why) if why.starts_with("closed"))
    }

    /// Checks that nothing comes within a moment and that the peer does not close.
    pub fn expect_silence(&mut self, moment: std::time::Duration) {
        assert!(
            self.received.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&self.received)
        );
        self.stream.set_read_timeout(Some(moment)).unwrap();
        let came = self.more("in silence");
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match came {
            Ok(()) => panic!("not silent: {:?}", String::from_utf8_lossy(&self.received)),
            Err(why) => assert!(
                !why.starts_with("closed") && !why.contains("reset"),
                "not silent: {why}"
            ),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n") {
                let line: Vec<u8> = self.received.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.more("in a line")?;
        }
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        while self.received.len() < bytes {
            self.more("in the body")?;
        }
        Ok(self.received.drain(..bytes).collect())
    }

    fn more(&mut self, place: &str) -> Result<(), String> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(format!("closed {place} after {} bytes", self.received.len())),
                Ok(bytes) => {
                    self.received.extend_from_slice(&buffer[..bytes]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("{error} {place}")),
            }
        }
    }
}

/// The bytes of a story request.
pub fn story_request(body: &str) -> String {
    format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Where `needle` begins.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}
