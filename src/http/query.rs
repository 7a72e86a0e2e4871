//! Percent-decoding of what a target carries (RFC 3986 section 2.1; queries as HTML forms write them, WHATWG URL
//! section 5.1).

use std::borrow::Cow;

/// An escape is no `%` and two hex digits, or the text that comes of it is no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a % escape is malformed or does not decode to UTF-8")]
pub struct BadEscape;

/// The (name, value) pairs of a query, decoded, in order; `a` alone is (`a`, ""). Empty pairs are left out. Allocates
/// only for a part that holds an escape or a `+`.
pub fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), BadEscape>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name, true)?, decode(value, true)?))
    })
}

/// One segment of a path, decoded. Split the path at `/` first: `%2F` is not a separator.
pub fn segment(text: &str) -> Result<Cow<'_, str>, BadEscape> {
    decode(text, false)
}

fn decode(text: &str, plus_is_space: bool) -> Result<Cow<'_, str>, BadEscape> {
    let plain = |&b: &u8| b != b'%' && !(plus_is_space && b == b'+');
    if text.as_bytes().iter().all(plain) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let high = hex(rest.next())?;
                high << 4 | hex(rest.next())?
            }
            b'+' if plus_is_space => b' ',
            _ => byte,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadEscape)
}

fn hex(digit: Option<u8>) -> Result<u8, BadEscape> {
    let value = digit.and_then(|d| char::from(d).to_digit(16)).ok_or(BadEscape)?;
    // At most 15.
    Ok(value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(query: &str) -> Result<Vec<(String, String)>, BadEscape> {
        pairs(query)
            .map(|pair| pair.map(|(n, v)| (n.into_owned(), v.into_owned())))
            .collect()
    }

    fn owned(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    #[test]
    fn pairs_as_forms_write_them() {
        assert_eq!(all(""), Ok(vec![]));
        assert_eq!(all("&&"), Ok(vec![]));
        assert_eq!(
            all("location=S%C3%A3o+Paulo&limit=5&flag&x=a=b&=v"),
            Ok(owned(&[
                ("location", "São Paulo"),
                ("limit", "5"),
                ("flag", ""),
                ("x", "a=b"),
                ("", "v")
            ]))
        );
        assert_eq!(all("a%26b=%3D%2B"), Ok(owned(&[("a&b", "=+")])));
    }

    #[test]
    fn bad_escapes_are_errors() {
        for query in ["a=%", "a=%4", "a=%zz", "%=1", "a=%+1", "a=%C3", "a=%ED%A0%80"] {
            assert_eq!(all(query), Err(BadEscape), "{query}");
        }
    }

    #[test]
    fn segments_keep_plus_and_slash() {
        assert_eq!(segment("a+b").unwrap(), "a+b");
        assert_eq!(segment("a%2Fb%20c").unwrap(), "a/b c");
        assert!(matches!(segment("plain"), Ok(Cow::Borrowed("plain"))));
        assert_eq!(segment("%g0"), Err(BadEscape));
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(text in "\\PC{0,20}") {
            let escaped: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(segment(&escaped).unwrap(), text.as_str());
            let query = format!("{escaped}={escaped}");
            prop_assert_eq!(all(&query).unwrap(), if text.is_empty() { owned(&[("", "")]) } else { owned(&[(&text, &text)]) });
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in "\\PC{0,40}") {
            let _ = all(&text);
            let _ = segment(&text);
        }
    }
}
