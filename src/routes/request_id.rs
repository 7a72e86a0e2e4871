//! The request's id: the client's own where it is well formed, else the trace id, else one made here.

use crate::http::RequestHead;
use crate::runtime::context;
use crate::telemetry::trace::Parent;

/// Longest id that is honoured, bytes.
const SENT_BYTES_MAX: usize = 128;

/// An id, borrowed or made; as text.
#[derive(Debug, Clone, Copy)]
pub(super) enum RequestId<'r> {
    /// X-Request-ID as sent, or the trace id of traceparent.
    Sent(&'r str),
    /// 128 random bits in hexadecimal.
    Made([u8; 32]),
}

impl<'r> RequestId<'r> {
    /// The id of a request.
    pub(super) fn of(head: &RequestHead<'r>) -> RequestId<'r> {
        RequestId::of_fields(head.x_request_id(), head.traceparent())
    }

    /// The id of a request that brought these, X-Request-ID and traceparent, as sent.
    pub(super) fn of_fields(x_request_id: Option<&'r [u8]>, traceparent: Option<&'r [u8]>) -> RequestId<'r> {
        if let Some(sent) = x_request_id.and_then(well_formed) {
            return RequestId::Sent(sent);
        }
        if let Some(parent) = traceparent.and_then(Parent::read) {
            return RequestId::Sent(parent.trace_id);
        }
        RequestId::made()
    }

    /// A fresh id.
    pub(super) fn made() -> RequestId<'static> {
        let (high, low) = context::random(|rng| (rng.u64(..), rng.u64(..)));
        let mut text = [0u8; 32];
        for (half, bits) in text.chunks_exact_mut(16).zip([high, low]) {
            half.copy_from_slice(&hexadecimal(bits));
        }
        RequestId::Made(text)
    }

    /// As bytes, for a header: nothing to check.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Sent(text) => text.as_bytes(),
            RequestId::Made(text) => text,
        }
    }

    /// As text, for logs and JSON.
    pub(super) fn as_str(&self) -> &str {
        match self {
            RequestId::Sent(text) => text,
            RequestId::Made(text) => std::str::from_utf8(text).unwrap_or_default(),
        }
    }
}

/// The sixteen digits of a number, without a loop over them: each byte of two words is one digit.
fn hexadecimal(bits: u64) -> [u8; 16] {
    // Spreads the eight digits of a half word over the bytes of a word, then turns 0..=15 into '0'..='9', 'a'..='f':
    // adding 6 carries into bit 4 for ten and above, and 'a' is 39 past '9' + 1.
    let spread = |half: u32| {
        let mut word = u64::from(half);
        word = (word | word << 16) & 0x0000_ffff_0000_ffff;
        word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
        word = (word | word << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = (word + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        word + 0x3030_3030_3030_3030 + letters * 39
    };
    let mut text = [0u8; 16];
    text[..8].copy_from_slice(&spread((bits >> 32) as u32).to_be_bytes());
    text[8..].copy_from_slice(&spread(bits as u32).to_be_bytes());
    text
}

/// Letters, digits and `-_.:/+=@`: what UUIDs, ULIDs, X-Ray and base64 ids are made of, and nothing that a log or a
/// header could mistake.
fn well_formed(sent: &[u8]) -> Option<&str> {
    let fits = !sent.is_empty() && sent.len() <= SENT_BYTES_MAX;
    let clean = || {
        sent.iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
    };
    if fits && clean() {
        std::str::from_utf8(sent).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_break_a_line_are_not_honoured() {
        for good in ["a", "018f-aB_c.d:e/f+g=@", &"x".repeat(128)] {
            assert_eq!(well_formed(good.as_bytes()), Some(good));
        }
        for bad in ["", " a", "a b", "a\"b", "a\\b", "ä", &"x".repeat(129)] {
            assert_eq!(well_formed(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn digits_are_those_of_the_formatter() {
        for bits in [0, 1, 9, 10, 0xf, 0xdead_beef_0123_4567, u64::MAX, 0xa0a0_9999_ffff_0000] {
            assert_eq!(
                std::str::from_utf8(&hexadecimal(bits)),
                Ok(format!("{bits:016x}").as_str())
            );
        }
    }
}
