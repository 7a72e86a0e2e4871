//! A client of HTTP/2 that tells a request that was left out (RFC 9113 section 6.8) from one that was lost. Frames by hand:
//! `h2load` counts requests that it had not sent yet when GOAWAY came, and a library would hide what this looks for.

use super::http1::{self, Found};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` in the static table (RFC 7541 appendix A).
const INDEXED_200: u8 = 0x88;
/// Frames are no larger unless SETTINGS allow it, which ours do not.
const FRAME_BYTES_MAX: usize = 16 << 10;

/// One connection.
pub(super) struct Session {
    stream: TcpStream,
    got: Vec<u8>,
    next: u32,
    /// The greatest stream that the server will answer, once it has said so.
    last: Option<u32>,
    pub(super) worker: Option<u32>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Went {
    /// Bodies of answers with status 200.
    pub(super) answers: Vec<Vec<u8>>,
    /// Streams behind GOAWAY's last: not looked at, and to be sent again.
    pub(super) left_out: u64,
    /// Why the rest of them has no answer.
    pub(super) lost: Option<String>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of a GET, all literals without Huffman's code; nothing in it is longer than 126 bytes.
fn head(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "bench"),
        (":path", path),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap_or(0));
            block.extend(text.as_bytes());
        }
    }
    block
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_be_bytes)
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Session {
    /// Connects and says so.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn open(addr: SocketAddr, limit: Duration) -> Result<Self, String> {
        let mut stream = http1::connect(addr, limit)?;
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&hello).map_err(|error| format!("send: {error}"))?;
        Ok(Self {
            stream,
            got: Vec::new(),
            next: 1,
            last: None,
            worker: None,
        })
    }

    /// Takes what came while nothing was asked: PINGs and SETTINGS are answered, GOAWAY is heard.
    ///
    /// # Errors
    /// It was reset.
    pub(super) fn look(&mut self) -> Result<Found, String> {
        loop {
            while let Some(came) = self.take()? {
                self.housekeeping(&came)?;
            }
            match http1::look(&self.stream) {
                Ok(Found::Closed) => return Ok(Found::Closed),
                Ok(Found::Open) if self.last.is_some() => return Ok(Found::Closed),
                Ok(Found::Open) => return Ok(Found::Open),
                // Bytes are there: frames.
                Err(why) if why.starts_with("idle: bytes") => {
                    http1::read_more(&mut self.stream, &mut self.got, Instant::now() + Duration::from_secs(1))?;
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// True once the server has said that it leaves.
    pub(super) fn is_leaving(&self) -> bool {
        self.last.is_some()
    }

    /// So many requests at once.
    pub(super) fn ask(&mut self, path: &str, count: u64, deadline: Instant) -> Went {
        let mut went = Went::default();
        let mut waiting: BTreeMap<u32, (Vec<u8>, bool)> = BTreeMap::new();
        let mut bytes = Vec::new();
        for _ in 0..count {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, self.next, &head(path)));
            waiting.insert(self.next, (Vec::new(), false));
            self.next += 2;
        }
        // What cannot be sent will not be answered; what came before may say why.
        let sent = self.stream.write_all(&bytes);
        while !waiting.is_empty() {
            if let Err(why) = self.one(&mut waiting, &mut went, deadline) {
                let sent = sent.as_ref().err().map(|error| format!(" (send: {error})"));
                went.lost = Some(format!("{why}{}", sent.unwrap_or_default()));
                break;
            }
        }
        went
    }

    fn one(
        &mut self,
        waiting: &mut BTreeMap<u32, (Vec<u8>, bool)>,
        went: &mut Went,
        deadline: Instant,
    ) -> Result<(), String> {
        let Some(came) = self.take()? else {
            return http1::read_more(&mut self.stream, &mut self.got, deadline);
        };
        match came.kind {
            RST_STREAM => {
                return Err(format!(
                    "a stream was reset with {}",
                    number(&came.payload, 0).unwrap_or(0)
                ));
            }
            HEADERS | DATA => {
                if came.kind == HEADERS
                    && let Some((_, is_ok)) = waiting.get_mut(&came.stream)
                {
                    *is_ok = came.payload.first() == Some(&INDEXED_200);
                }
                if came.kind == DATA {
                    let credit = u32::try_from(came.payload.len()).unwrap_or(0).to_be_bytes();
                    if !came.payload.is_empty() {
                        self.send(&frame(WINDOW_UPDATE, 0, 0, &credit));
                    }
                    if let Some((body, _)) = waiting.get_mut(&came.stream) {
                        body.extend(&came.payload);
                    }
                }
                if came.flags & END_STREAM != 0
                    && let Some((body, is_ok)) = waiting.remove(&came.stream)
                {
                    if !is_ok {
                        return Err(format!("not 200: {}", String::from_utf8_lossy(&body)));
                    }
                    went.answers.push(body);
                }
            }
            _ => {
                self.housekeeping(&came)?;
                if let Some(last) = self.last {
                    went.left_out += waiting.split_off(&last.saturating_add(1)).len() as u64;
                }
            }
        }
        Ok(())
    }

    fn housekeeping(&mut self, came: &Frame) -> Result<(), String> {
        match came.kind {
            SETTINGS if came.flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, &[])),
            PING if came.flags & ACK == 0 => self.send(&frame(PING, ACK, 0, &came.payload)),
            GOAWAY => {
                let code = number(&came.payload, 4).unwrap_or(u32::MAX);
                if code != 0 {
                    return Err(format!("GOAWAY with {code}"));
                }
                self.last = number(&came.payload, 0);
            }
            _ => {}
        }
        Ok(())
    }

    /// Where it fails, the connection has ended, and reading will say so.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A frame that has come whole.
    fn take(&mut self) -> Result<Option<Frame>, String> {
        let Some(head) = self.got.first_chunk::<9>() else {
            return Ok(None);
        };
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err("a frame that is larger than allowed".to_owned());
        }
        if self.got.len() < 9 + length {
            return Ok(None);
        }
        let payload = self.got.drain(..9 + length).skip(9).collect();
        Ok(Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// A server that answers as `frames` says, once it has the preface, SETTINGS and so many requests.
    fn server(requests: usize, frames: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let one = frame(HEADERS, 5, 1, &head("/x")).len();
            let mut came = vec![0; PREFACE.len() + 9 + requests * one];
            stream.read_exact(&mut came).unwrap();
            stream.write_all(&frames).unwrap();
            // Not before the client has had it all.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        addr
    }

    fn ask(requests: usize, frames: &[Vec<u8>]) -> Went {
        let addr = server(requests, frames.concat());
        let limit = Duration::from_secs(20);
        let mut session = Session::open(addr, limit).unwrap();
        session.ask("/x", requests as u64, Instant::now() + limit)
    }

    #[test]
    fn answers_and_what_was_left_out_are_told_from_what_was_lost() {
        let ok = |stream| frame(HEADERS, END_HEADERS, stream, &[INDEXED_200]);
        let body = |stream| frame(DATA, END_STREAM, stream, b"hello");
        let goaway = |last: u32, code: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
        let went = ask(
            3,
            &[frame(SETTINGS, 0, 0, &[]), ok(1), goaway(3, 0), body(1), ok(3), body(3)],
        );
        assert_eq!((went.answers.len(), went.left_out, went.lost), (2, 1, None));
        let went = ask(2, &[ok(1), body(1)]);
        assert_eq!((went.answers.len(), went.left_out), (1, 0));
        assert!(went.lost.unwrap().starts_with("closed"));
        let why = |frames: &[Vec<u8>]| ask(1, frames).lost.unwrap();
        assert!(why(&[goaway(1, 2)]).contains("GOAWAY with 2"));
        assert!(why(&[frame(RST_STREAM, 0, 1, &7_u32.to_be_bytes())]).contains("reset with 7"));
        assert!(why(&[frame(HEADERS, END_HEADERS, 1, &[0x8e]), body(1)]).contains("not 200"));
    }
}
