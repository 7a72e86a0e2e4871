//! The parts that need no connection.

use super::answer::read_head;
use super::meter::{Meter, Unfinished};
use super::request::write_head;
use crate::http::{self as http1, BodyFraming, Exchange, Method, Reject, Response, Status, Version, field};
use crate::limits::http2 as limits;
use h2::Reason;
use http::Request;
use proptest::prelude::*;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend(payload);
    bytes
}

/// A meter whose client has begun properly.
fn meter() -> Meter {
    let mut meter = Meter::new(super::PREFACE.len(), 0);
    meter.received(super::PREFACE, 0);
    meter.received(&frame(4, 0, &[]), 0);
    assert_eq!((meter.verdict(), meter.unfinished()), (None, None));
    meter
}

/// How many of this frame are let pass.
fn passed(meter: &mut Meter, bytes: &[u8], now_ns: u64) -> u32 {
    let mut number = 0;
    while meter.verdict().is_none() && number < 100_000 {
        meter.received(bytes, now_ns);
        number += 1;
    }
    number - 1
}

#[test]
fn what_asks_for_nothing_is_counted_and_what_asks_is_not() {
    for (kind, flags, payload) in [
        (2, 0, 5),
        (4, 0, 6),
        (6, 0, 8),
        (8, 0, 4),
        (0, 0, 0),
        (9, 4, 9),
        (250, 0, 3),
    ] {
        let mut meter = meter();
        // The first SETTINGS counts, too.
        let let_pass = passed(&mut meter, &frame(kind, flags, &vec![0; payload]), 0);
        assert_eq!(let_pass, limits::CONTROL_FRAMES_MAX - 1, "{kind}");
        assert_eq!(meter.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
    }
    for (kind, flags, payload) in [(1, 5, 20), (0, 0, 20), (0, 1, 0)] {
        assert_eq!(
            passed(&mut meter(), &frame(kind, flags, &vec![0; payload]), 0),
            99_999,
            "{kind}"
        );
    }
}

#[test]
fn answers_data_and_time_make_good() {
    let ping = frame(6, 0, &[0; 8]);
    let mut meter = meter();
    for second in 1..100 {
        for _ in 0..limits::CONTROL_FRAMES_PER_S {
            meter.received(&ping, second * 1_000_000_000);
        }
    }
    for _ in 0..10_000 {
        (0..limits::CONTROL_FRAMES_PER_ANSWER).for_each(|_| meter.received(&ping, 0));
        meter.answered(1);
        (0..limits::CONTROL_FRAMES_PER_DATA).for_each(|_| meter.received(&ping, 0));
        meter.sent(&frame(0, 0, b"data"), 0);
    }
    assert_eq!(meter.verdict(), None);
}

#[test]
fn resets_are_counted_both_ways_against_answers() {
    let reset = frame(3, 0, &8u32.to_be_bytes());
    assert_eq!(passed(&mut meter(), &reset, 0), limits::RESETS_MAX);
    let mut both = meter();
    for _ in 0..limits::RESETS_MAX / 2 {
        both.received(&reset, 0);
        both.sent(&reset, 0);
    }
    assert_eq!(both.verdict(), None);
    both.sent(&reset, 0);
    assert_eq!(both.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
    // An answer ahead of its request's end is an answer.
    let mut early = meter();
    (0..10_000).for_each(|_| early.sent(&frame(3, 0, &[0; 4]), 0));
    // And whoever is answered as often as he resets is a client.
    for _ in 0..10_000 {
        early.received(&reset, 0);
        early.answered(1);
    }
    assert_eq!(early.verdict(), None);
}

#[test]
fn what_is_begun_is_known_and_since_when() {
    let mut meter = Meter::new(super::PREFACE.len(), 5);
    assert_eq!(meter.unfinished(), Some(Unfinished::Head(5)));
    meter.received(super::PREFACE, 6);
    assert_eq!(
        meter.unfinished(),
        Some(Unfinished::Head(5)),
        "the preface is not the begin"
    );
    meter.received(&frame(4, 0, &[]), 7);
    assert_eq!(meter.unfinished(), None);
    let open = frame(1, 0, b"fields");
    meter.received(&open[..3], 10);
    assert_eq!(meter.unfinished(), Some(Unfinished::Head(10)));
    meter.received(&open[3..], 20);
    assert_eq!(meter.unfinished(), Some(Unfinished::Head(10)), "the list goes on");
    meter.received(&frame(9, 0, b"more"), 30);
    assert_eq!(meter.unfinished(), Some(Unfinished::Head(10)));
    meter.received(&frame(9, 4, b"last"), 40);
    assert_eq!(meter.unfinished(), None);
    let data = frame(0, 1, b"body");
    meter.received(&data[..10], 50);
    assert_eq!(meter.unfinished(), Some(Unfinished::Data(50)));
    meter.excuse(60);
    assert_eq!(meter.unfinished(), Some(Unfinished::Data(60)));
    meter.received(&data[10..], 70);
    assert_eq!(meter.unfinished(), None);
}

#[test]
fn the_first_frame_is_settings() {
    for first in [frame(6, 0, &[0; 8]), frame(4, 1, &[]), frame(1, 5, b"x")] {
        let mut meter = Meter::new(0, 0);
        meter.received(&first, 0);
        assert_eq!(meter.verdict(), Some(Reason::PROTOCOL_ERROR));
    }
}

proptest! {
    /// Frames are found however their bytes are split.
    #[test]
    fn splits_change_nothing(
        frames in prop::collection::vec((0u8..12, 0u8..6, prop::collection::vec(any::<u8>(), 0..30)), 0..200),
        cuts in prop::collection::vec(1usize..40, 1..50),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
        let (mut whole, mut split) = (meter(), meter());
        whole.received(&bytes, 9);
        whole.sent(&bytes, 9);
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            split.received(piece, 9);
            split.sent(piece, 9);
            rest = after;
        }
        prop_assert_eq!(whole.verdict(), split.verdict());
        prop_assert_eq!(whole.unfinished(), split.unfinished());
    }

    /// Whatever fields come, what is written is one head, and no more than that.
    #[test]
    fn a_head_that_is_written_is_one_head(
        method in "[A-Z]{1,8}",
        path in "/[ -~]{0,20}",
        fields in prop::collection::vec(("[a-z-]{1,18}", prop::collection::vec(any::<u8>(), 0..20)), 0..10),
        has_body in any::<bool>(),
    ) {
        let mut builder = Request::builder().method(method.as_str()).uri(format!("http://host{path}"));
        for (name, value) in &fields {
            if let Ok(value) = http::HeaderValue::from_bytes(value) {
                builder = builder.header(name.as_str(), value);
            }
        }
        let Ok(request) = builder.body(()) else { return Ok(()) };
        let mut out = Vec::new();
        if write_head(&request.into_parts().0, has_body, &mut out).is_ok() {
            let at = memchr::memmem::find(&out, b"\r\n\r\n");
            prop_assert_eq!(at, Some(out.len() - 4));
            if let Ok(parsed) = http1::parse_head(&out) {
                prop_assert_eq!(parsed.map(|(_, bytes)| bytes), Some(out.len()));
            }
        }
    }
}

fn written(request: http::request::Builder, has_body: bool) -> Result<String, Reject> {
    let mut out = Vec::new();
    write_head(&request.body(()).unwrap().into_parts().0, has_body, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn a_head_is_written_as_a_proxy_would() {
    let request = Request::post("http://a.example:81/b?c=d")
        .header("accept", "x/y")
        .header("cookie", "e=f")
        .header("te", "trailers")
        .header("x", "1")
        .header("x", "2")
        .header("host", "A.example:81")
        .header("cookie", "g=h");
    let head = written(request, true).unwrap();
    assert_eq!(
        head,
        "POST /b?c=d HTTP/1.1\r\nhost: a.example:81\r\naccept: x/y\r\ncookie: e=f; g=h\r\nx: 1\r\nx: 2\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let (parsed, bytes) = http1::parse_head(head.as_bytes()).unwrap().unwrap();
    assert_eq!(bytes, head.len());
    assert_eq!(
        (parsed.method, parsed.host, parsed.framing),
        (Method::Post, "a.example:81", BodyFraming::Chunked)
    );
    let known = Request::post("http://a/").header("content-length", "5");
    assert!(written(known, true).unwrap().ends_with("content-length: 5\r\n\r\n"));
    let only_host = Request::get("/x").header("host", "b");
    assert_eq!(written(only_host, false).unwrap(), "GET /x HTTP/1.1\r\nhost: b\r\n\r\n");
    let star = Request::options("*").header("host", "b");
    assert!(written(star, false).unwrap().starts_with("OPTIONS * HTTP/1.1\r\n"));
    let tunnel = Request::connect("a:443");
    assert_eq!(
        written(tunnel, false).unwrap(),
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"
    );
}

#[test]
fn a_head_that_would_be_read_otherwise_is_not_written() {
    let refused = [
        Request::get("http://a/").header("host", "b"),
        Request::get("http://a/").header("host", "a").header("host", "b"),
        Request::get("http://a/").header("transfer-encoding", "chunked"),
        Request::get("http://a/").header("connection", "close"),
        Request::get("http://a/").header("upgrade", "h2c"),
    ];
    for request in refused {
        let shown = format!("{request:?}");
        let reject = written(request, false).expect_err(&shown);
        assert_eq!(reject.status, Status::BAD_REQUEST, "{shown}");
    }
}

#[test]
fn every_answer_is_read_back() {
    let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
    for (is_head, status) in [
        (false, Status::OK),
        (true, Status::OK),
        (false, Status::NO_CONTENT),
        (false, Status::NOT_FOUND),
    ] {
        let exchange = Exchange {
            is_head,
            version: Version::Http2,
            keep_alive: false,
        };
        let mut out = Vec::new();
        Response::begin(&mut out, exchange, status, date)
            .content_type("a/b")
            .header(field::ETAG, "\"x: y\"")
            .header(field::CACHE_CONTROL, "")
            .body(b"body");
        let (head, at) = read_head(&out).unwrap();
        assert_eq!(head.status(), status.code());
        let sent: &[u8] = if is_head || status == Status::NO_CONTENT {
            b""
        } else {
            b"body"
        };
        assert_eq!(&out[at..], sent);
        let fields = head.headers();
        assert_eq!(
            (&fields["etag"], &fields["content-type"]),
            (&"\"x: y\"".parse().unwrap(), &"a/b".parse().unwrap())
        );
        assert_eq!(fields["cache-control"], "");
        assert_eq!(fields.contains_key("content-length"), status != Status::NO_CONTENT);
        assert!(!fields.contains_key("connection"));
    }
    let exchange = Exchange {
        is_head: false,
        version: Version::Http2,
        keep_alive: true,
    };
    let mut out = Vec::new();
    let stream = Response::begin(&mut out, exchange, Status::OK, date).stream();
    let (head, at) = read_head(&out).unwrap();
    assert!(!head.headers().contains_key("transfer-encoding") && at == out.len());
    stream.chunk(&mut out, b"as it is");
    assert!(stream.finish(&mut out));
    assert_eq!(&out[at..], b"as it is");
    for odd in [
        &b""[..],
        b"HTTP/1.1 ",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nx",
        b"HTTP/1.1 200 OK\r\nx: y\r\n",
        b"body",
    ] {
        assert!(read_head(odd).is_none(), "{}", odd.escape_ascii());
    }
}
