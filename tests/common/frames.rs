//! HTTP/2 by hand: frames out, frames in, and no library in between, so that anything can be sent.

use super::PATIENCE;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// A frame as it stands on the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    // A length of seven bits and more (RFC 7541 section 5.1).
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut left = text.len() - 127;
        while left >= 128 {
            block.push((left % 128) as u8 | 128);
            left /= 128;
        }
        block.push(left as u8);
    }
    block.extend(text);
}

/// Fields as literals; `indexed`: into the dynamic table.
pub fn literals(indexed: bool, list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(if indexed { 0x40 } else { 0 });
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

/// The fields of a request, and more.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
    ];
    literals(false, &[&own, more].concat())
}

/// One frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status in HEADERS that are the first of their connection: later ones may name it by the dynamic table.
    pub fn status(&self) -> u16 {
        const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        assert_eq!(self.kind, HEADERS);
        let first = self.payload[0];
        if (0x88..=0x8e).contains(&first) {
            return STATIC[usize::from(first - 0x88)];
        }
        assert_eq!(first, 0x48, "no status: {:02x?}", self.payload);
        let (length, text) = (self.payload[1], &self.payload[2..]);
        let text = &text[..usize::from(length & 127)];
        if length & 128 == 0 {
            return String::from_utf8_lossy(text).parse().unwrap();
        }
        // Digits in Huffman's code (RFC 7541 appendix B): 0 to 2 have five bits, the others six.
        let mut bits = text
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
        let mut status = 0;
        for _ in 0..3 {
            let mut code: u16 = (0..5).fold(0, |code, _| code << 1 | u16::from(bits.next().unwrap()));
            if code > 2 {
                code = (code << 1 | u16::from(bits.next().unwrap())) - 0x19 + 3;
            }
            status = status * 10 + code;
        }
        status
    }
}

/// A connection that has sent its preface.
pub struct Frames {
    pub stream: TcpStream,
    got: Vec<u8>,
}

impl Frames {
    /// Connects; says nothing.
    pub fn silent(addr: SocketAddr) -> Frames {
        Frames::over(TcpStream::connect_timeout(&addr, PATIENCE).unwrap())
    }

    /// Over a connection that is made; says nothing.
    pub fn over(stream: TcpStream) -> Frames {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Frames {
            stream,
            got: Vec::new(),
        }
    }

    /// Connects, with these settings (pairs of 16 and 32 bits).
    pub fn open_with(addr: SocketAddr, settings: &[u8]) -> Frames {
        let mut frames = Frames::silent(addr);
        assert!(frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)]));
        frames
    }

    /// Connects.
    pub fn open(addr: SocketAddr) -> Frames {
        Frames::open_with(addr, &[])
    }

    /// The same; none where nobody listens.
    pub fn try_open(addr: SocketAddr) -> Option<Frames> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).ok()?;
        // A connection to a free port may meet itself.
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            return None;
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Frames {
            stream,
            got: Vec::new(),
        };
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, [])]);
        Some(frames)
    }

    /// Sends a frame.
    pub fn try_send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(frame)
    }

    /// Sends bytes; false if the server has ended the connection.
    pub fn send(&mut self, parts: &[&[u8]]) -> bool {
        self.stream.write_all(&parts.concat()).is_ok()
    }

    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.got.first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if self.got.len() >= 9 + length {
                    let payload = self.got.drain(..9 + length).skip(9).collect();
                    return Some(Frame {
                        kind,
                        flags,
                        stream,
                        payload,
                    });
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(bytes) => self.got.extend(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes"),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Closed with bytes of ours unread.
                Err(error) => {
                    println!("{error}");
                    return None;
                }
            }
        }
    }

    /// The next frame of this kind.
    pub fn find(&mut self, kind: u8) -> Option<Frame> {
        self.next_of(&[kind])
    }

    /// The next frame of one of these kinds.
    pub fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// The body of this stream's answer, to its end, and the status of its head where that is the connection's first.
    pub fn answer(&mut self, stream: u32) -> (Option<Frame>, Vec<u8>) {
        let (mut head, mut body) = (None, Vec::new());
        loop {
            let frame = self.next().expect("the connection ended before the answer");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS => head = Some(frame.clone()),
                DATA => body.extend(&frame.payload),
                RST_STREAM => panic!("reset with {}", frame.code()),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return (head, body);
            }
        }
    }

    /// GOAWAY's code, once the connection has ended; `None` without one.
    pub fn farewell(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.find(GOAWAY) {
            code = Some(frame.code());
        }
        code
    }
}
