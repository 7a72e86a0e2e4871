//! What `fuzz/` calls: each function takes any bytes, and panics where a promise is broken. Only with the feature
//! `fuzzing`, never in a server.
//!
//! The promises themselves stand in the `check.rs` of each room, where property tests keep them too. Absent on purpose:
//! anything that a test of the crate cannot run.

use crate::config::Config;
use crate::limits::http::BODY_BYTES_MAX;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Requests on a connection: readers agree, splits change nothing, httparse is of the same opinion.
pub fn head(data: &[u8]) {
    crate::http::check::messages(data);
}

/// A chunked body: splits change nothing, the bound is kept, a plain reader finds the same payload.
pub fn chunked(data: &[u8]) {
    crate::http::check::chunked(data, BODY_BYTES_MAX);
    crate::http::check::chunked(data, 20);
}

/// A query or a segment of a path.
pub fn query(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        crate::http::check::query(text);
        crate::routes::check::list_query(text);
    }
}

/// The body of a story request, up to the telling.
pub fn story(data: &[u8]) {
    crate::routes::check::story_request(data);
}

/// An answer as a handler gives it.
pub fn response(data: &[u8]) {
    crate::http::check::response(data);
}

/// A connection under the simulation: its first bytes are the network and the schedule, the rest the wire.
pub fn connection(data: &[u8]) {
    crate::server::check::connection(data);
}

/// A PROXY header, and what may stand in its place.
pub fn proxy(data: &[u8]) {
    crate::server::proxy::check::header(data);
}

/// Lines of X-Forwarded-For or Forwarded; the first byte says of which.
pub fn forwarded(data: &[u8]) {
    crate::routes::client::check::forwarding(data);
}

/// Lines of Accept or Accept-Encoding.
pub fn accept(data: &[u8]) {
    crate::http::negotiate::check::wishes(data);
}

/// Variables, a line each: taken or refused with words.
pub fn config(data: &[u8]) {
    let pairs = data.split(|&byte| byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|&byte| byte == b'=')?;
        let (name, value) = line.split_at_checked(at)?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(name), text(value.get(1..)?)))
    });
    match Config::read(pairs) {
        Ok(config) => drop(format!("{config:?}")),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}
