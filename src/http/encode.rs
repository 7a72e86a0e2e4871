//! Content codings: bytes in, fewer bytes out. Pure work without I/O, bounded by the length of what is given.
//!
//! How long it may take decides where it may run: see `limits::compression`. Deliberately absent: decoding (a request
//! body with a coding is refused, so that no small body can become a large one), `deflate` (two readings of it are in
//! use), and streams (events are sent as they are, see `routes::sse`).

use super::negotiate::Coding;
use std::io::{self, Write};

/// How much work the bytes are worth. Levels were measured on stories of 1 to 5 KB, pages of 62 KB, and metrics of 9 KB
/// (one virtual CPU of a Xeon): beyond them the time grows much faster than the bytes shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For one answer. A story's page of 62 KB: zstd 0.10 ms to 18 %, br 0.24 ms to 18 %, gzip 0.40 ms to 33 %.
    Once,
    /// For a body that is kept and sent many times. A story of 2.7 KB: br 0.09 ms to 52 %, zstd 0.06 ms to 53 %, gzip
    /// 0.11 ms to 53 %.
    Kept,
    /// For a body that never changes, made once by a helper thread. 71 KB: br 15 ms to 13.8 %, zstd 5 ms to 14.2 %,
    /// gzip 2 ms to 15.0 %.
    Fixed,
}

impl Effort {
    /// What the server would rather send, where the client weighs them alike: the smallest of what is kept, and of what
    /// is made for one answer the one that costs least for its size.
    pub const fn preference(self) -> [Coding; 3] {
        match self {
            Effort::Once => [Coding::Zstd, Coding::Br, Coding::Gzip],
            Effort::Kept | Effort::Fixed => [Coding::Br, Coding::Zstd, Coding::Gzip],
        }
    }
}

/// `body` in that coding. An error only where the encoder fails, which is a mistake or a lack of memory: send the bytes
/// as they are then.
pub fn encode(coding: Coding, effort: Effort, body: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Gzip => gzip(effort, body),
        Coding::Br => br(effort, body),
        Coding::Zstd => zstd(effort, body),
    }
}

fn gzip(effort: Effort, body: &[u8]) -> io::Result<Vec<u8>> {
    let level = match effort {
        Effort::Once => 1,
        Effort::Kept => 6,
        Effort::Fixed => 9,
    };
    // No name and no time in the header: the same bytes give the same bytes.
    let out = Vec::with_capacity(body.len() / 2);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
    encoder.write_all(body)?;
    encoder.finish()
}

fn br(effort: Effort, body: &[u8]) -> io::Result<Vec<u8>> {
    let quality = match effort {
        Effort::Once => 1,
        // From 5 on a small body takes twenty times as long.
        Effort::Kept => 4,
        Effort::Fixed => 9,
    };
    // A window that holds the body; a larger one only takes memory. RFC 7932 section 9.1 allows 10 to 24.
    let window = (usize::BITS - body.len().leading_zeros()).clamp(10, 22);
    let mut out = Vec::with_capacity(body.len() / 2);
    let mut encoder = brotli::CompressorWriter::new(&mut out, body.len().clamp(64, 64 * 1024), quality, window);
    encoder.write_all(body)?;
    // Ends the stream; `drop` would do the same and hide an error.
    encoder.into_inner();
    Ok(out)
}

fn zstd(effort: Effort, body: &[u8]) -> io::Result<Vec<u8>> {
    let level = match effort {
        Effort::Once => 1,
        Effort::Kept => 9,
        Effort::Fixed => 12,
    };
    // The window follows the body's length, so it stays far below the 8 MiB that RFC 9659 allows.
    zstd::bulk::compress(body, level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    pub(in crate::http) fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
            Coding::Br => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap()),
            Coding::Zstd => out = zstd::stream::decode_all(bytes).unwrap(),
        }
        out
    }

    #[test]
    fn text_becomes_smaller_and_comes_back() {
        let text = "The road to Bergen is long, and the rain knows every mile of it by name. ".repeat(40);
        for coding in Coding::ALL {
            for effort in [Effort::Once, Effort::Kept, Effort::Fixed] {
                let made = encode(coding, effort, text.as_bytes()).unwrap();
                assert!(
                    made.len() < text.len() / 4,
                    "{coding:?} {effort:?}: {} bytes",
                    made.len()
                );
                assert_eq!(decode(coding, &made), text.as_bytes(), "{coding:?} {effort:?}");
                assert_eq!(made, encode(coding, effort, text.as_bytes()).unwrap());
            }
        }
    }

    #[test]
    fn what_comes_out_is_what_its_name_says() {
        assert!(
            encode(Coding::Gzip, Effort::Once, b"x")
                .unwrap()
                .starts_with(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0])
        );
        assert!(
            encode(Coding::Zstd, Effort::Once, b"x")
                .unwrap()
                .starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_bytes_come_back(
            seed in prop::collection::vec(any::<u8>(), 0..300), times in 1usize..200,
            at in 0usize..3, effort in prop::sample::select(vec![Effort::Once, Effort::Kept]),
        ) {
            let body = seed.repeat(times);
            let made = encode(Coding::ALL[at], effort, &body).unwrap();
            prop_assert_eq!(decode(Coding::ALL[at], &made), body);
        }
    }
}
