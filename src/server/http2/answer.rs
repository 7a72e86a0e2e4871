//! The answers that this server writes, read back: they are [`crate::http::Response`]'s, so their form is known.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

/// Fields in a head: room for those of a story.
const FIELDS_TYPICAL: usize = 12;

/// The head at the begin of `bytes`, and where the body begins; `None` for what is no head of ours.
pub(super) fn read_head(bytes: &[u8]) -> Option<(Response<()>, usize)> {
    let line = bytes.strip_prefix(b"HTTP/1.1 ")?;
    let status = StatusCode::from_bytes(line.get(..3)?).ok()?;
    let mut at = memchr::memchr(b'\n', bytes)? + 1;
    let mut fields = HeaderMap::with_capacity(FIELDS_TYPICAL);
    loop {
        let rest = bytes.get(at..)?;
        let end = memchr::memchr(b'\r', rest)?;
        at += end + 2;
        if end == 0 {
            break;
        }
        let line = rest.get(..end)?;
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 2..)?);
        fields.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    Some((response, at))
}
