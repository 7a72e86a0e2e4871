//! Conditional requests (RFC 9110 section 13): entity tags, dates, and which of them counts.
//!
//! A representation that never changes but has several codings has one entity tag per coding: the tag of the plain
//! bytes, and the same with `-gzip`, `-br` or `-zstd` before the closing quote (strong tags of different bytes must
//! differ: RFC 9110 section 8.8.3.3). Total; a tag that does not follow the grammar matches nothing.

use super::bytes;
use super::date::parse_http_date;
use super::head::Headers;
use super::negotiate::{Coding, Codings};

/// What the server knows of the representation.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'v> {
    /// The entity tag of the plain bytes, without its quotes; holds no hyphen.
    pub opaque: &'v [u8],
    /// Last-Modified, seconds since 1970 UTC.
    pub modified_s: Option<u64>,
}

/// What becomes of a GET or HEAD whose answer would be 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 200.
    Proceed,
    /// 304, with the coding of the representation that the client has: the entity tag of the answer says which of its
    /// stored answers is still good (RFC 9111 section 4.3.4).
    NotModified(Option<Coding>),
    /// 412.
    Failed,
}

/// The preconditions of a request, apart from its bytes. The lines of a list field are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Vec<u8>>,
    if_none_match: Option<Vec<u8>>,
    modified_since: Date,
    unmodified_since: Date,
}

/// A date field: it counts if it stands once and is a date (RFC 9110 sections 13.1.3, 13.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Date {
    #[default]
    Absent,
    At(u64),
    /// Repeated, or no date: ignored.
    Void,
}

impl Date {
    fn note(&mut self, value: &[u8]) {
        *self = match (*self, parse_http_date(value)) {
            (Date::Absent, Some(second)) => Date::At(second),
            _ => Date::Void,
        };
    }
}

impl Conditions {
    /// The conditions among the fields of a head. Ask [`super::RequestHead::is_conditional`] first: most requests have
    /// none.
    pub fn of(headers: Headers<'_>) -> Conditions {
        let mut conditions = Conditions::default();
        for (name, value) in headers {
            match name.len() {
                8 if name.eq_ignore_ascii_case("if-match") => join(&mut conditions.if_match, value),
                13 if name.eq_ignore_ascii_case("if-none-match") => join(&mut conditions.if_none_match, value),
                17 if name.eq_ignore_ascii_case("if-modified-since") => conditions.modified_since.note(value),
                19 if name.eq_ignore_ascii_case("if-unmodified-since") => conditions.unmodified_since.note(value),
                _ => {}
            }
        }
        conditions
    }

    /// Evaluates them in the order of RFC 9110 section 13.2.2. `selected` is the coding that a 200 would have.
    ///
    /// If-Match takes the tag of any coding, as all are one story. If-None-Match takes the tag of any coding that this
    /// request would accept, and no other: a shared cache that holds the gzip form asks with its tag on behalf of a
    /// client that cannot read it, and must not be told that this form will do.
    pub fn judge(&self, validators: Validators<'_>, codings: &Codings, selected: Option<Coding>) -> Verdict {
        match (&self.if_match, self.unmodified_since, validators.modified_s) {
            (Some(list), ..) if !is_star(list) => {
                let known = |tag: &Tag<'_>| !tag.is_weak && coding_of(tag.opaque, validators.opaque).is_some();
                if !tags(list).any(|tag| known(&tag)) {
                    return Verdict::Failed;
                }
            }
            (None, Date::At(second), Some(modified)) if modified > second => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, self.modified_since, validators.modified_s) {
            (Some(list), ..) if is_star(list) => Verdict::NotModified(selected),
            (Some(list), ..) => {
                let mut held = None;
                for tag in tags(list) {
                    match coding_of(tag.opaque, validators.opaque) {
                        Some(coding) if coding == selected => return Verdict::NotModified(selected),
                        Some(coding) if held.is_none() && codings.accepts(coding) => held = Some(coding),
                        _ => {}
                    }
                }
                held.map_or(Verdict::Proceed, Verdict::NotModified)
            }
            (None, Date::At(second), Some(modified)) if modified <= second => Verdict::NotModified(selected),
            _ => Verdict::Proceed,
        }
    }
}

fn join(list: &mut Option<Vec<u8>>, line: &[u8]) {
    match list {
        None => *list = Some(line.to_vec()),
        Some(list) => {
            list.extend_from_slice(b", ");
            list.extend_from_slice(line);
        }
    }
}

/// `*` stands alone (RFC 9110 section 13.1.1).
fn is_star(list: &[u8]) -> bool {
    bytes::trim(list) == b"*"
}

/// Which coding's tag `opaque` is, of the representation whose plain tag is `plain`; `None` where it is another's.
fn coding_of(opaque: &[u8], plain: &[u8]) -> Option<Option<Coding>> {
    match opaque.strip_prefix(plain)? {
        [] => Some(None),
        [b'-', coding @ ..] => Coding::from_name(coding).map(Some),
        _ => None,
    }
}

/// The entity tag of a coding, with its quotes.
pub fn entity_tag(plain: &[u8], coding: Option<Coding>) -> Vec<u8> {
    let mut tag = Vec::with_capacity(plain.len() + 8);
    tag.push(b'"');
    tag.extend_from_slice(plain);
    if let Some(coding) = coding {
        tag.push(b'-');
        tag.extend_from_slice(coding.as_str().as_bytes());
    }
    tag.push(b'"');
    tag
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag<'l> {
    is_weak: bool,
    /// Between the quotes.
    opaque: &'l [u8],
}

/// The tags of a list. Commas may stand within a tag, and backslashes escape nothing (RFC 9110 section 8.8.3). What is
/// no tag is skipped up to the next comma.
fn tags(list: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        loop {
            let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
            rest = rest.get(start..)?;
            let (is_weak, quoted) = match rest.strip_prefix(b"W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            if let Some(inner) = quoted.strip_prefix(b"\"")
                && let Some(end) = inner.iter().position(|byte| *byte == b'"')
                && let (Some(opaque), Some(after)) = (inner.get(..end), inner.get(end + 1..))
                && matches!(
                    after.iter().find(|byte| !matches!(byte, b' ' | b'\t')),
                    None | Some(b',')
                )
            {
                rest = after;
                return Some(Tag { is_weak, opaque });
            }
            let comma = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            rest = rest.get(comma..)?;
        }
    })
}

#[cfg(test)]
mod tests;
