//! Request bodies: Content-Length and the chunked coding (RFC 9112 sections 6 and 7), in pieces of any size.

use std::ops::Range;

use super::bytes;
use super::fields::BodyFraming;
use super::types::{Reject, Status};
use crate::limits::http::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

const TOO_LARGE: Reject = Reject::new(Status::CONTENT_TOO_LARGE, "the body is too large");
const CHUNK: Reject = Reject::bad("the chunked body is malformed");
const CHUNK_LONG: Reject = Reject::bad("a chunk line is too long");

/// Takes one body apart. 48 bytes, no heap. Chunk extensions and trailers are checked and dropped.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Payload bytes still to come: of the body, or of the chunk.
    left: u64,
    /// Payload bytes that may still be announced.
    budget: u64,
    /// Bytes of the chunk line so far.
    line: usize,
    /// Bytes of extensions so far, in all chunks.
    extensions: usize,
    /// Bytes of trailers so far.
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fixed,
    /// Before the first digit of a chunk size.
    SizeStart,
    Size,
    /// White space after the size: only an extension may follow (RFC 9112 section 7.1.1, BWS).
    SizePadding,
    Extension,
    /// Between the quotes of an extension's value. A line that ended in them could be read as going on.
    Quoted,
    /// After a backslash between the quotes.
    QuotedPair,
    SizeLf,
    Chunk,
    ChunkCr,
    ChunkLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// What one call of [`BodyDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are dealt with.
    pub consumed: usize,
    /// Which of them are payload; may be empty.
    pub payload: Range<usize>,
    /// The body is whole: what follows `consumed` is the next request.
    pub done: bool,
}

impl BodyDecoder {
    /// A decoder of a body of at most `body_bytes_max` payload bytes. Refuses with 413 at once where the length
    /// is known to be more: before any 100 Continue.
    pub fn new(framing: BodyFraming, body_bytes_max: usize) -> Result<BodyDecoder, Reject> {
        let budget = body_bytes_max as u64;
        let (state, left) = match framing {
            BodyFraming::None => (State::Fixed, 0),
            BodyFraming::Length(length) if length > budget => return Err(TOO_LARGE),
            BodyFraming::Length(length) => (State::Fixed, length),
            BodyFraming::Chunked => (State::SizeStart, 0),
        };
        Ok(BodyDecoder {
            state,
            left,
            budget,
            line: 0,
            extensions: 0,
            trailers: 0,
        })
    }

    /// Whether the body is whole. True from the start where there is none.
    pub fn is_done(&self) -> bool {
        self.state == State::Done || (self.state == State::Fixed && self.left == 0)
    }

    /// Payload bytes still to come, where the client said how many: what to reserve.
    pub fn bytes_left(&self) -> Option<u64> {
        (self.state == State::Fixed).then_some(self.left)
    }

    /// Deals with the start of `input`, up to the end of its first piece of payload. Unless `done`, call again with
    /// the rest; where `consumed` is all of it, with the bytes that arrive next. After a refusal, close.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Reject> {
        let mut at = 0;
        while !self.is_done() {
            if matches!(self.state, State::Fixed | State::Chunk) {
                let here = input.len().saturating_sub(at);
                let take = usize::try_from(self.left).map_or(here, |left| left.min(here));
                self.left -= take as u64;
                if self.left == 0 && self.state == State::Chunk {
                    self.state = State::ChunkCr;
                }
                return Ok(Decoded {
                    consumed: at + take,
                    payload: at..at + take,
                    done: self.is_done(),
                });
            }
            let Some(&byte) = input.get(at) else { break };
            self.state = self.step(byte)?;
            at += 1;
        }
        Ok(Decoded {
            consumed: at,
            payload: at..at,
            done: self.is_done(),
        })
    }

    /// Decodes `input` as far as it goes, appending the payload to `out`, which grows by at most `body_bytes_max`
    /// over all calls. Gives the bytes consumed and whether the body is whole.
    pub fn decode_into(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), Reject> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let piece = self.decode(rest)?;
            out.extend_from_slice(rest.get(piece.payload).unwrap_or_default());
            at += piece.consumed;
            if piece.done || at >= input.len() {
                return Ok((at, piece.done));
            }
        }
    }

    /// One byte outside payload.
    fn step(&mut self, byte: u8) -> Result<State, Reject> {
        let lf = |next: State| if byte == b'\n' { Ok(next) } else { Err(CHUNK) };
        match self.state {
            State::SizeStart
            | State::Size
            | State::SizePadding
            | State::Extension
            | State::Quoted
            | State::QuotedPair => self.chunk_line(byte),
            State::SizeLf => lf(if self.left == 0 {
                State::TrailerStart
            } else {
                State::Chunk
            }),
            State::ChunkCr if byte == b'\r' => Ok(State::ChunkLf),
            State::ChunkCr => Err(CHUNK),
            State::ChunkLf => {
                self.line = 0;
                lf(State::SizeStart)
            }
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => self.trailer(byte),
            State::EndLf => lf(State::Done),
            // Not reached: `decode` deals with these.
            State::Fixed | State::Chunk | State::Done => Ok(self.state),
        }
    }

    fn chunk_line(&mut self, byte: u8) -> Result<State, Reject> {
        self.line += 1;
        if self.line > CHUNK_LINE_BYTES_MAX {
            return Err(CHUNK_LONG);
        }
        match (self.state, byte) {
            (State::SizeStart | State::Size, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                // No overflow: `left` stays within the budget, which a usize holds.
                let left = self.left.saturating_mul(16).saturating_add(u64::from(digit));
                if left > self.budget {
                    return Err(TOO_LARGE);
                }
                self.left = left;
                Ok(State::Size)
            }
            (State::SizeStart, _) => Err(CHUNK),
            (State::Size | State::SizePadding, b';') => Ok(State::Extension),
            (State::Size | State::SizePadding, b' ' | b'\t') => Ok(State::SizePadding),
            (State::Size | State::Extension, b'\r') => {
                self.budget -= self.left;
                Ok(State::SizeLf)
            }
            (State::Extension, b'"') => self.extension(State::Quoted),
            (State::Extension, _) if bytes::is_extension(byte) => self.extension(State::Extension),
            (State::Quoted, b'"') => self.extension(State::Extension),
            (State::Quoted, b'\\') => self.extension(State::QuotedPair),
            (State::Quoted | State::QuotedPair, _) if bytes::is_value(byte) => self.extension(State::Quoted),
            _ => Err(CHUNK),
        }
    }

    /// One more byte of an extension.
    fn extension(&mut self, next: State) -> Result<State, Reject> {
        self.extensions += 1;
        if self.extensions > CHUNK_EXTENSION_BYTES_MAX {
            Err(CHUNK_LONG)
        } else {
            Ok(next)
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Reject> {
        const TRAILER: Reject = Reject::bad("a trailer field is malformed");
        if self.state == State::TrailerStart && byte == b'\r' {
            return Ok(State::EndLf);
        }
        self.trailers += 1;
        if self.trailers > TRAILER_BYTES_MAX {
            return Err(Reject::new(
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the trailer is too large",
            ));
        }
        match (self.state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, _) if bytes::is_token(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if bytes::is_value(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(TRAILER),
        }
    }
}
