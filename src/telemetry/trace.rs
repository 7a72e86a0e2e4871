//! What names a request beyond this process: its id, and its place in a trace (W3C Trace Context, level 2).
//!
//! A request that brings a valid `traceparent` goes on with that trace; one that does not begins one, whose id is the
//! request's where that has the form. Either way the request is a span of its own, with an id made here. All of it stands in
//! the request's log lines; `trace_id` in its error body; an upstream that speaks HTTP is sent [`Trace::traceparent`] and
//! [`Trace::tracestate`].
//!
//! Databases are told nothing: PostgreSQL answers many requests by one statement, and sends them behind each other on one
//! connection, so neither application_name nor a comment could name one; a comment would also make each statement a new
//! one to prepare. What fails there is logged by each request that waited for it, under its own ids.
//!
//! Sans-IO and total. Made only where something is to be said: a request that is answered well and not logged pays nothing.
//! Deliberately absent: exporters, baggage, and a vendor's entry of our own in `tracestate`.

use crate::http::{Headers, RequestHead};
use std::fmt;

/// Bytes of `tracestate` that are handed on; section 3.3.1.5 asks for 512 at least.
const STATE_BYTES_MAX: usize = 512;
/// Its members at most (section 3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;
/// A member longer than this is the first to go where it is too much (section 3.3.1.5).
const LONG_MEMBER_BYTES: usize = 128;
/// Bytes of a key, and of a value (sections 3.3.1.3.1 and 3.3.1.3.2).
const STATE_WORD_BYTES_MAX: usize = 256;

/// The flags that are known: sampled (section 3.2.2.5.1), and that the trace id is random (3.2.2.5.2).
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// A `traceparent` that was sent: valid by section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent<'b> {
    /// 32 digits, not all 0.
    pub trace_id: &'b str,
    /// The caller's span: 16 digits, not all 0.
    pub span_id: &'b str,
    flags: u8,
}

impl<'b> Parent<'b> {
    /// Reads `<2 version>-<32 trace id>-<16 parent id>-<2 flags>`, hexadecimal digits in lower case. Version ff is none; of
    /// a version after 00 more may follow behind a dash (section 4).
    pub fn read(sent: &'b [u8]) -> Option<Parent<'b>> {
        let text = std::str::from_utf8(sent).ok()?;
        let (fields, more) = text.split_at_checked(55)?;
        let mut parts = fields.split('-');
        let mut part = |bytes: usize| parts.next().filter(|part| part.len() == bytes && is_hex(part));
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_known = match version {
            "ff" => false,
            "00" => more.is_empty(),
            _ => more.is_empty() || more.starts_with('-'),
        };
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (is_known && is_nonzero(trace_id) && is_nonzero(span_id)).then_some(Parent {
            trace_id,
            span_id,
            flags,
        })
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_nonzero(text: &str) -> bool {
    text.bytes().any(|b| b != b'0')
}

/// A request's names.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    request_id: String,
    trace_id: String,
    span_id: String,
    parent_id: Option<String>,
    flags: u8,
    state: Option<String>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("request_id", &self.request_id)
            .field("traceparent", &self.traceparent())
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Of a request with this id; `random` are fresh bits.
    pub fn of(request_id: &str, head: &RequestHead<'_>, random: impl FnMut() -> u64) -> Trace {
        Trace::from_parts(request_id, head.traceparent(), Some(head.headers), random)
    }

    /// The same, of what was read of a head.
    pub fn from_parts(
        request_id: &str,
        traceparent: Option<&[u8]>,
        headers: Option<Headers<'_>>,
        mut random: impl FnMut() -> u64,
    ) -> Trace {
        // 0 is no id.
        let mut nonzero = || loop {
            let bits = random();
            if bits != 0 {
                break bits;
            }
        };
        let span_id = format!("{:016x}", nonzero());
        let request = request_id.to_owned();
        if let Some(parent) = traceparent.and_then(Parent::read) {
            return Trace {
                request_id: request,
                trace_id: parent.trace_id.to_owned(),
                span_id,
                parent_id: Some(parent.span_id.to_owned()),
                flags: parent.flags & (SAMPLED | RANDOM),
                state: headers.and_then(|headers| state(headers.get_all("tracestate"))),
            };
        }
        // Without a valid traceparent a tracestate is not looked at (section 3.3.1).
        let is_trace_id = request_id.len() == 32 && is_hex(request_id) && is_nonzero(request_id);
        let (trace_id, flags) = if is_trace_id {
            (request.clone(), 0)
        } else {
            (format!("{:016x}{:016x}", nonzero(), nonzero()), RANDOM)
        };
        Trace {
            request_id: request,
            trace_id,
            span_id,
            parent_id: None,
            flags,
            state: None,
        }
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// This request's own span, 16 hexadecimal digits.
    pub fn span_id(&self) -> &str {
        &self.span_id
    }

    /// The caller's span, where there is one.
    pub fn parent_id(&self) -> Option<&str> {
        self.parent_id.as_deref()
    }

    /// The caller records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What to send an upstream: this request is its caller.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// What to send with it.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// The members of all lines as one list (section 3.3.1), bounded; none where any of it is invalid.
fn state<'b>(lines: impl Iterator<Item = &'b [u8]>) -> Option<String> {
    let mut members: Vec<&str> = Vec::new();
    for line in lines {
        let line = std::str::from_utf8(line).ok()?;
        // Empty ones are allowed.
        for member in line
            .split(',')
            .map(|member| member.trim_matches([' ', '\t']))
            .filter(|m| !m.is_empty())
        {
            let (key, value) = member.split_once('=')?;
            let is_new = members
                .iter()
                .all(|known| known.split_once('=').is_some_and(|(other, _)| other != key));
            if !is_key(key) || !is_value(value) || !is_new || members.len() >= STATE_MEMBERS_MAX {
                return None;
            }
            members.push(member);
        }
    }
    let length = |members: &[&str]| {
        members
            .iter()
            .map(|member| member.len() + 1)
            .sum::<usize>()
            .saturating_sub(1)
    };
    while length(&members) > STATE_BYTES_MAX {
        // The last of the long ones, else the last: those on the left are the youngest.
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER_BYTES);
        members.remove(long.unwrap_or(members.len().saturating_sub(1)));
    }
    (!members.is_empty()).then(|| members.join(","))
}

fn is_key(key: &str) -> bool {
    let first = key.bytes().next();
    let begins = first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let goes_on = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(&b);
    begins && key.len() <= STATE_WORD_BYTES_MAX && key.bytes().all(goes_on)
}

fn is_value(value: &str) -> bool {
    let fits = |b: u8| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=';
    !value.is_empty() && value.len() <= STATE_WORD_BYTES_MAX && value.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_head;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn of(id: &str, fields: &str) -> Trace {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, _) = parse_head(head.as_bytes()).unwrap().unwrap();
        let mut next = 0;
        Trace::of(id, &head, || {
            // Begins with 0, which is no id.
            next += 1;
            next - 1
        })
    }

    #[test]
    fn a_valid_parent_is_gone_on_with_and_the_span_is_new() {
        let trace = of("mine", &format!("traceparent: 00-{TRACE}-{SPAN}-01\r\n"));
        assert_eq!((trace.request_id(), trace.trace_id()), ("mine", TRACE));
        assert_eq!(trace.parent_id(), Some(SPAN));
        assert_eq!(trace.span_id(), "0000000000000001");
        assert!(trace.is_sampled());
        assert_eq!(trace.traceparent(), format!("00-{TRACE}-0000000000000001-01"));
        // Flags that nobody knows are not handed on; that of level 2 is.
        let trace = of("mine", &format!("traceparent: 00-{TRACE}-{SPAN}-fe\r\n"));
        assert!(!trace.is_sampled() && trace.traceparent().ends_with("-02"));
        // Of a later version, what is known of it.
        let trace = of("mine", &format!("traceparent: 01-{TRACE}-{SPAN}-01-what-else\r\n"));
        assert_eq!(trace.traceparent(), format!("00-{TRACE}-0000000000000001-01"));
    }

    #[test]
    fn anything_else_begins_a_trace() {
        for bad in [
            String::new(),
            "00".into(),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("01-{TRACE}-{SPAN}-01more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{SPAN}"),
            format!(" 0-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(Parent::read(bad.as_bytes()), None, "{bad}");
            let trace = of("mine", &format!("traceparent: {bad}\r\ntracestate: a=1\r\n"));
            assert_eq!((trace.parent_id(), trace.tracestate()), (None, None));
            assert_eq!(trace.trace_id(), "00000000000000020000000000000003");
            assert!(trace.traceparent().ends_with("-02"));
        }
        // Two of them are none (section 3.2).
        let line = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\n");
        assert_eq!(of("mine", &line.repeat(2)).parent_id(), None);
        // An id that has the form is the trace's too.
        assert_eq!(of(TRACE, "").trace_id(), TRACE);
        assert_ne!(of(&"0".repeat(32), "").trace_id(), "0".repeat(32));
    }

    #[test]
    fn a_tracestate_is_handed_on_whole_or_not_at_all_and_is_bounded() {
        let with = |lines: &str| {
            let fields = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\n{lines}");
            of("mine", &fields).tracestate().map(str::to_owned)
        };
        assert_eq!(
            with("tracestate: a=1 , b@v=x y\r\ntracestate: ,c=3\r\n").as_deref(),
            Some("a=1,b@v=x y,c=3")
        );
        for bad in ["a", "A=1", "=1", "a=", "a=1,a=2", "a=1=2", "a\u{e9}=1", "@a=1"] {
            assert_eq!(with(&format!("tracestate: {bad}\r\n")), None, "{bad}");
        }
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(with(&format!("tracestate: {}\r\n", many(32))), Some(many(32)));
        assert_eq!(with(&format!("tracestate: {}\r\n", many(33))), None);
        let long = format!("a={},b={},c=1", "x".repeat(250), "y".repeat(250));
        let kept = with(&format!("tracestate: {long},d={}\r\n", "z".repeat(120))).unwrap();
        assert_eq!(kept, format!("a={},c=1,d={}", "x".repeat(250), "z".repeat(120)));
    }

    proptest! {
        #[test]
        fn what_is_sent_on_is_valid_and_bounded(
            parent in "[0-9a-f-]{50,60}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
            state in "([a-z@]{1,3}=[ -~]{0,40},?){0,40}",
            id in "[0-9a-f]{30,33}",
        ) {
            let trace = of(&id, &format!("traceparent: {parent}\r\ntracestate: {state}\r\n"));
            let sent = trace.traceparent();
            let read = Parent::read(sent.as_bytes());
            prop_assert!(read.is_some_and(|parent| parent.span_id == trace.span_id()), "{}", sent);
            prop_assert!(trace.tracestate().is_none_or(|state| !state.is_empty() && state.len() <= 512));
        }
    }
}
