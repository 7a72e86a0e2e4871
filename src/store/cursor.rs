//! Where the next page of a list begins, as text that clients hand back unread.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The form of the text: its first two bytes. Another order of the lists takes another number.
const FORM: &str = "c1";
/// Hexadecimal digits of a UUID.
const DIGITS: usize = 32;

/// A place in a list: the last story seen. Stories are ordered by (created_at, id), and a UUIDv7 begins with its
/// creation time in milliseconds (RFC 9562 section 5.7), so the id alone is that pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    last: Uuid,
}

/// Why a text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not a text this API gave out.
    #[error("the cursor is malformed; use the one from the page before, or none to begin anew")]
    Malformed,
    /// Given out by another version of this API.
    #[error("the cursor comes from another version of this API; begin anew without one")]
    OtherVersion,
}

impl Cursor {
    /// The page that follows this story.
    pub fn after(last: Uuid) -> Self {
        Cursor { last }
    }

    /// The last story seen.
    pub fn last(self) -> Uuid {
        self.last
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}{:x}", self.last.as_simple())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let Some(digits) = text.strip_prefix(FORM) else {
            let mut chars = text.chars();
            let other_form = chars.next() == Some('c') && chars.next().is_some_and(|c| c.is_ascii_digit());
            return Err(if other_form {
                CursorError::OtherVersion
            } else {
                CursorError::Malformed
            });
        };
        // One spelling only: `Uuid` would take hyphens, braces and capitals too.
        let canonical = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != DIGITS || !digits.bytes().all(canonical) {
            return Err(CursorError::Malformed);
        }
        let last = Uuid::try_parse(digits).map_err(|_| CursorError::Malformed)?;
        if last.get_version_num() != 7 {
            return Err(CursorError::Malformed);
        }
        Ok(Cursor { last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uuid_v7(bits: u128) -> Uuid {
        Uuid::from_u128(bits & !(0xf << 76) & !(0b11 << 62) | (7 << 76) | (0b10 << 62))
    }

    #[test]
    fn a_cursor_of_another_version_says_so() {
        assert_eq!("c2whatever".parse::<Cursor>(), Err(CursorError::OtherVersion));
        assert_eq!("".parse::<Cursor>(), Err(CursorError::Malformed));
        assert_eq!("c".parse::<Cursor>(), Err(CursorError::Malformed));
        assert_eq!("é1".parse::<Cursor>(), Err(CursorError::Malformed));
    }

    proptest! {
        #[test]
        fn text_comes_back(bits: u128) {
            let cursor = Cursor::after(uuid_v7(bits));
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in "\\PC{0,40}|c1[0-9a-fA-F-]{28,38}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                // One spelling per cursor.
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
