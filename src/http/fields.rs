//! What the header fields say about framing and connection, field by field.

use super::bytes;
use super::target;
use super::types::{Reject, Status, Version};

/// Where a value stands in the head: byte offsets. Heads are bounded to 16 bits (asserted in `limits::http`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        Span {
            start: start as u16,
            end: end as u16,
        }
    }

    /// The bytes meant; an empty value is kept apart from an absent one by its start, which is never 0.
    pub(super) fn of(self, head: &[u8]) -> Option<&[u8]> {
        if self.start == 0 {
            None
        } else {
            head.get(usize::from(self.start)..usize::from(self.end))
        }
    }

    fn is_set(self) -> bool {
        self.start != 0
    }

    /// False where it was set already.
    fn set_first(&mut self, at: Span) -> bool {
        let first = !self.is_set();
        if first {
            *self = at;
        }
        first
    }
}

/// How long the body is (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body: neither Content-Length nor Transfer-Encoding.
    None,
    /// Content-Length, in bytes; may be 0.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// Gathers the fields of one head. Holds offsets only, so a half-read head can rest without its bytes borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields {
    pub(super) host: Span,
    pub(super) content_type: Span,
    pub(super) content_encoding: Span,
    pub(super) accept: Span,
    pub(super) accept_encoding: Span,
    pub(super) x_request_id: Span,
    pub(super) traceparent: Span,
    pub(super) authorization: Span,
    /// Meaningful where `has_length`; apart from it, as an Option of it takes eight bytes more.
    length: u64,
    has_length: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    /// Accept, Accept-Encoding or Content-Encoding stands on more than one line.
    pub(super) wishes_repeated: bool,
    /// Any of If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since is there.
    pub(super) conditional: bool,
}

/// What the fields come to once the head is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) framing: BodyFraming,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
}

impl Fields {
    /// Takes in one field: a name of token bytes, its trimmed value, and where that stands.
    #[inline]
    pub(super) fn note(&mut self, name: &[u8], value: &[u8], at: Span) -> Result<(), Reject> {
        // By length first: most names are told apart, or known to be none of ours, by that alone.
        match name.len() {
            4 if is(name, b"host") => return self.note_host(value, at),
            6 if is(name, b"accept") => self.wishes_repeated |= !self.accept.set_first(at),
            6 if is(name, b"expect") => return self.note_expect(value),
            10 if is(name, b"connection") => self.note_connection(value),
            8 if is(name, b"if-match") => self.conditional = true,
            // Two of them are none (W3C Trace Context section 3.2).
            11 if is(name, b"traceparent") && !self.traceparent.set_first(at) => {
                self.traceparent = Span::new(at.start.into(), at.start.into());
            }
            12 if is(name, b"content-type") => {
                return once(&mut self.content_type, at, Reject::bad("Content-Type is repeated"));
            }
            12 if is(name, b"x-request-id") => _ = self.x_request_id.set_first(at),
            13 if is(name, b"if-none-match") => self.conditional = true,
            13 if is(name, b"authorization") => {
                return once(&mut self.authorization, at, Reject::bad("Authorization is repeated"));
            }
            14 if is(name, b"content-length") => return self.note_length(value),
            15 if is(name, b"accept-encoding") => self.wishes_repeated |= !self.accept_encoding.set_first(at),
            16 if is(name, b"content-encoding") => self.wishes_repeated |= !self.content_encoding.set_first(at),
            17 if is(name, b"transfer-encoding") => return self.note_coding(value),
            17 if is(name, b"if-modified-since") => self.conditional = true,
            19 if is(name, b"if-unmodified-since") => self.conditional = true,
            14 | 17 if looks_like_framing(name) => {
                return Err(Reject::bad(
                    "a field that others may take for Content-Length or Transfer-Encoding",
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn note_host(&mut self, value: &[u8], at: Span) -> Result<(), Reject> {
        once(&mut self.host, at, Reject::bad("Host is repeated"))?;
        target::check_host(value)
    }

    /// RFC 9110 section 8.6: digits and nothing else. A list of equal lengths is allowed by it, and refused here.
    fn note_length(&mut self, value: &[u8]) -> Result<(), Reject> {
        const LENGTH: Reject = Reject::bad("Content-Length is no number of bytes");
        if self.has_length {
            return Err(Reject::bad("Content-Length is repeated"));
        }
        if value.is_empty() {
            return Err(LENGTH);
        }
        let mut length = 0u64;
        for digit in value {
            if !digit.is_ascii_digit() {
                return Err(LENGTH);
            }
            length = length
                .checked_mul(10)
                .and_then(|l| l.checked_add(u64::from(digit - b'0')))
                .ok_or(LENGTH)?;
        }
        self.length = length;
        self.has_length = true;
        Ok(())
    }

    /// RFC 9112 sections 6.1 and 7: chunked, once and last. Several lines are one list.
    fn note_coding(&mut self, value: &[u8]) -> Result<(), Reject> {
        for coding in value.split(|&b| b == b',') {
            let coding = bytes::trim(coding);
            if coding.is_empty() {
                return Err(Reject::bad("Transfer-Encoding has an empty element"));
            }
            let name = coding.get(..bytes::token_len(coding)).unwrap_or_default();
            if self.chunked {
                return Err(Reject::bad("chunked must be the last transfer coding, and stand once"));
            }
            // Where chunked does not follow either, section 6.3 says 400 and 6.1 says 501; this one says more.
            if !name.eq_ignore_ascii_case(b"chunked") {
                return Err(Reject::new(
                    Status::NOT_IMPLEMENTED,
                    "only the chunked transfer coding is understood",
                ));
            }
            if name.len() != coding.len() {
                return Err(Reject::bad("the chunked coding takes no parameters"));
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// RFC 9112 section 9.6. Several lines are one list; unknown options are other parties' business.
    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|&b| b == b',') {
            let option = bytes::trim(option);
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9110 section 10.1.1.
    fn note_expect(&mut self, value: &[u8]) -> Result<(), Reject> {
        for expectation in value.split(|&b| b == b',') {
            if !bytes::trim(expectation).eq_ignore_ascii_case(b"100-continue") {
                return Err(Reject::new(
                    Status::EXPECTATION_FAILED,
                    "only 100-continue can be expected",
                ));
            }
        }
        self.expect_continue = true;
        Ok(())
    }

    /// Judges the whole.
    pub(super) fn finish(&self, version: Version) -> Result<Verdict, Reject> {
        let http11 = version == Version::Http11;
        if http11 && !self.host.is_set() {
            return Err(Reject::bad("Host is missing"));
        }
        let framing = match (self.has_length, self.chunked) {
            (false, false) => BodyFraming::None,
            (true, false) => BodyFraming::Length(self.length),
            // RFC 9112 section 6.3 lets a server read it as chunked; two readings are what smuggling lives on.
            (true, true) => return Err(Reject::bad("both Content-Length and Transfer-Encoding")),
            // RFC 9112 section 6.1: the framing is faulty, whatever it was meant to be.
            (false, true) if !http11 => return Err(Reject::bad("Transfer-Encoding in HTTP/1.0")),
            (false, true) => BodyFraming::Chunked,
        };
        let has_body = !matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        Ok(Verdict {
            framing,
            keep_alive: !self.close && (http11 || self.keep_alive),
            // A 1.0 client must not be sent 100 (RFC 9110 section 10.1.1); without a body nobody waits for it.
            expect_continue: self.expect_continue && http11 && has_body,
        })
    }
}

/// Whether a name of token bytes is `known`, which is in lower case.
///
/// Setting bit 5 lowers letters. It also makes CR a hyphen and the like, but no other token byte becomes a letter,
/// a digit or a hyphen (test `no_other_name_is_taken_for_a_known_one`).
#[inline]
fn is<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    let Some(name) = name.first_chunk::<N>() else {
        return false;
    };
    let mut odd = 0;
    let mut at = 0;
    // Without a way out of it, the loop becomes a few wide compares. In bounds: both arrays have N bytes.
    while at < N {
        odd |= (name[at] | 0x20) ^ known[at];
        at += 1;
    }
    odd == 0
}

/// Whether a name becomes one of the framing fields where `_` is taken for `-`, as CGI and its heirs do: with such a
/// party in front, two readings of one message (no RFC names them; nginx drops all names with `_`).
#[cold]
fn looks_like_framing(name: &[u8]) -> bool {
    let like = |known: &[u8]| {
        let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
        name.len() == known.len() && name.iter().zip(known).all(same)
    };
    like(b"content-length") || like(b"transfer-encoding")
}

fn once(span: &mut Span, at: Span, repeated: Reject) -> Result<(), Reject> {
    if span.is_set() {
        return Err(repeated);
    }
    *span = at;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_name_is_taken_for_a_known_one() {
        for byte in (0..=u8::MAX).filter(|&b| bytes::is_token(b)) {
            for known in (b'a'..=b'z').chain([b'-']) {
                assert_eq!(
                    is(&[byte], &[known]),
                    byte.to_ascii_lowercase() == known,
                    "{byte:#x} {known:#x}"
                );
            }
        }
    }
}
