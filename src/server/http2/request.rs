//! A request's fields as the head of an HTTP/1.1 message, for the one strict reader.

use crate::http::{Reject, Status};
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;

const fn bad(detail: &'static str) -> Reject {
    Reject::new(Status::BAD_REQUEST, detail)
}

/// Fields that speak of a connection: not for a message in frames (RFC 9113 section 8.2.2). The library refuses them
/// by itself; were one to come through, it would change the framing of what is written here.
const OF_CONNECTIONS: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Appends the head to `out`, with `Transfer-Encoding: chunked` for a body of unknown length.
///
/// # Errors
/// 400 where the two versions of the host differ (RFC 9113 section 8.3.1), and where something would not stay in its
/// place in the head. All else is the reader's to judge.
pub(super) fn write_head(parts: &Parts, has_body: bool, out: &mut Vec<u8>) -> Result<(), Reject> {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let target = if parts.method == http::Method::CONNECT {
        authority.unwrap_or("*")
    } else {
        let path = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        // Any other form would name a host of its own.
        if !path.starts_with('/') && path != "*" {
            return Err(bad(":path must be a path"));
        }
        path
    };
    push(out, target.as_bytes())?;
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        for host in parts.headers.get_all(header::HOST) {
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                return Err(bad(":authority and Host differ"));
            }
        }
        field(out, b"host", authority.as_bytes())?;
    }
    for name in parts.headers.keys() {
        let values = parts.headers.get_all(name);
        match name {
            name if name == header::HOST && authority.is_some() => {}
            // Speaks of the hop, too; the library lets it pass with `trailers` only.
            name if name == header::TE => {}
            name if name == header::COOKIE => cookies(out, values)?,
            name if OF_CONNECTIONS.contains(&name.as_str()) => {
                return Err(bad("a field that has no place in HTTP/2"));
            }
            name => values
                .iter()
                .try_for_each(|value| field(out, HeaderName::as_str(name).as_bytes(), value.as_bytes()))?,
        }
    }
    if has_body && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Crumbs of one cookie are one line (RFC 9113 section 8.2.3).
fn cookies(out: &mut Vec<u8>, crumbs: header::GetAll<'_, HeaderValue>) -> Result<(), Reject> {
    let mut line = Vec::new();
    for crumb in crumbs {
        if !line.is_empty() {
            line.extend_from_slice(b"; ");
        }
        line.extend_from_slice(crumb.as_bytes());
    }
    field(out, b"cookie", &line)
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Reject> {
    push(out, name)?;
    out.extend_from_slice(b": ");
    push(out, value)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends what stays on its line (RFC 9113 section 8.2.1).
fn push(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Reject> {
    if memchr::memchr3(b'\r', b'\n', 0, bytes).is_some() {
        return Err(bad("a line end in a field"));
    }
    out.extend_from_slice(bytes);
    Ok(())
}
