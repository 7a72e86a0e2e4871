//! A client of HTTP/2 that writes frames by hand.

use super::House;
use crate::runtime::net::Stream;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client of frames made by hand.
pub(super) struct Raw {
    pub(super) stream: Stream,
    pub(super) got: Vec<u8>,
    pub(super) ended: bool,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without indexing (RFC 7541 section 6.2.2).
pub(super) fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        assert!(name.len() < 127 && value.len() < 127);
        block.extend([0, name.len() as u8]);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block
}

pub(super) fn get(path: &str) -> Vec<u8> {
    fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
    ])
}

impl Raw {
    pub(super) async fn connect(house: &House) -> Raw {
        Raw {
            stream: Stream::connect(house.addr.clone()).await.unwrap(),
            got: Vec::new(),
            ended: false,
        }
    }

    pub(super) async fn send(&mut self, parts: &[&[u8]]) {
        let _ = self.stream.send(parts.concat()).await;
    }

    /// (kind, flags, stream, payload) of the next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some(head) = self.got.first_chunk::<9>() {
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if self.got.len() >= 9 + len {
                    let (kind, flags) = (head[3], head[4]);
                    let bytes: Vec<u8> = self.got.drain(..9 + len).collect();
                    return Some((kind, flags, id, bytes[9..].to_vec()));
                }
            }
            match self.stream.recv().await {
                Ok(Some(bytes)) => self.got.extend_from_slice(&bytes),
                _ => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }

    /// The next frame of this kind.
    pub(super) async fn find(&mut self, wanted: u8) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            let frame = self.next().await?;
            if frame.0 == wanted {
                return Some(frame);
            }
        }
    }

    /// The code of the GOAWAY that ends the connection: the last of them.
    pub(super) async fn farewell(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some((_, _, _, payload)) = self.find(7).await {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        code
    }
}
