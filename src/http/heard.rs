//! What can be told of a head that was refused, or did not come whole.

use super::bytes;

/// The first value under `name` among the field lines in `bytes`, which are a head or the begin of one. Only of lines that
/// are whole, before the empty line, and only values that could stand in a head; for what is safe to repeat whatever it
/// says, as an id is: nothing here was checked as a request is.
pub fn heard<'b>(head: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let mut rest = head;
    // Empty lines may stand before the request line, which has no colon that could mislead: no name has a space.
    let mut begun = false;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest.get(..end)?.strip_suffix(b"\r");
        rest = rest.get(end + 1..)?;
        let Some(line) = line else { continue };
        if line.is_empty() {
            if begun {
                return None;
            }
            continue;
        }
        begun = true;
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (field, value) = (line.get(..colon)?, bytes::trim(line.get(colon + 1..)?));
        if field.eq_ignore_ascii_case(name.as_bytes()) && bytes::value_len(value) == value.len() {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::heard;

    #[test]
    fn whole_lines_are_heard_and_nothing_else() {
        let id = |head: &str| heard(head.as_bytes(), "x-request-id").map(|id| String::from_utf8_lossy(id).into_owned());
        for (head, said) in [
            ("GET / HTTP/1.1\r\nX-Request-ID: a\r\n", Some("a")),
            ("\r\nGET / HTTP/9\r\nHost a\r\nx-request-id:\ta \r\n\r\n", Some("a")),
            ("GET / HTTP/1.1\nHost: b\r\nX-Request-ID: a\r\n", Some("a")),
            // Not whole; behind the head; in the request line; not to be repeated.
            ("GET / HTTP/1.1\r\nX-Request-ID: a", None),
            ("GET / HTTP/1.1\r\nX-Request-ID: a\n", None),
            ("GET / HTTP/1.1\r\n\r\nX-Request-ID: a\r\n", None),
            ("GET /X-Request-ID: HTTP/1.1\r\n", None),
            ("GET / HTTP/1.1\r\nX-Request-ID: a\u{0}b\r\n", None),
            ("", None),
            ("\r\n\r\n", None),
        ] {
            assert_eq!(id(head).as_deref(), said, "{head:?}");
        }
    }
}
