//! Passwords on their way from a URL to a server, and nowhere else.

use std::borrow::Cow;
use std::fmt;

/// A password. `Debug` and `Display` show three stars; [`expose`](Password::expose) is the one way out.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// From its bytes, decoded.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Password {
        Password(bytes.into())
    }

    /// The bytes: for the client that authenticates, and nobody else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// Decodes percent-encoding (RFC 3986 section 2.1). None where a `%` is not followed by two hexadecimal digits: most
/// often a password that was pasted unencoded.
pub fn percent_decoded(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        let digit = |at: usize| digits.get(at).and_then(|d| char::from(*d).to_digit(16));
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = behind;
    }
    Some(Cow::Owned(bytes))
}

/// The same for text that must be UTF-8.
pub fn percent_decoded_text(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text)?.into_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_shows_nowhere() {
        let password = Password::new(*b"s3ntinel");
        assert_eq!(format!("{password} {password:?}"), "*** Password(***)");
        assert_eq!(password.expose(), b"s3ntinel");
    }

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        for (text, decoded) in [
            ("plain", Some("plain")),
            ("a%40b%2Fc%25", Some("a@b/c%")),
            ("%c3%a9", Some("é")),
            ("%", None),
            ("a%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decoded_text(text).as_deref(), decoded, "{text}");
        }
        assert_eq!(percent_decoded("%ff").as_deref(), Some(&[0xff][..]));
    }
}
