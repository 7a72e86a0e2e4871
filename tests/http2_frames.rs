//! HTTP/2 frame by frame against the running server: what RFC 9113 asks of one that gets them wrong.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::frames::*;
use common::{Server, Setup, on_each_driver};

const NO_ERROR: u32 = 0;
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, request("GET", path, &[]))
}

/// Begins a POST.
fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&[("content-type", "application/json")], more].concat();
    frame(
        HEADERS,
        END_HEADERS,
        stream,
        request("POST", "/api/v1/stories/generate", &fields),
    )
}

fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

fn rst(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, 8u32.to_be_bytes())
}

#[test]
fn what_breaks_a_connection_is_said() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let head = request("GET", "/health", &[]);
        let ok = &[PROTOCOL, FRAME_SIZE][..];
        let cases: &[(&str, Vec<u8>, &[u32])] = &[
            ("5.1: DATA on an idle stream", frame(DATA, 0, 1, b"x"), &[PROTOCOL]),
            ("5.1: RST_STREAM on an idle stream", rst(1), &[PROTOCOL]),
            ("5.1: WINDOW_UPDATE on an idle stream", update(1, 1), &[PROTOCOL]),
            (
                "5.1: CONTINUATION on an idle stream",
                frame(CONTINUATION, 4, 1, &head),
                &[PROTOCOL],
            ),
            (
                "5.1.1: a lower stream",
                [get(5, "/health"), get(3, "/health")].concat(),
                &[PROTOCOL, STREAM_CLOSED],
            ),
            ("5.1.1: an even stream", get(2, "/health"), &[PROTOCOL]),
            ("6.1: DATA on stream 0", frame(DATA, 0, 0, b"x"), &[PROTOCOL]),
            (
                "6.1: more padding than payload",
                [post(1, &[]), frame(DATA, PADDED, 1, [9, 1])].concat(),
                &[PROTOCOL],
            ),
            ("6.2: HEADERS on stream 0", frame(HEADERS, 5, 0, &head), &[PROTOCOL]),
            ("6.3: PRIORITY on stream 0", frame(PRIORITY, 0, 0, [0; 5]), &[PROTOCOL]),
            ("6.4: RST_STREAM on stream 0", rst(0), &[PROTOCOL]),
            (
                "6.4: a short RST_STREAM",
                [get(1, "/health"), frame(RST_STREAM, 0, 1, [0; 3])].concat(),
                ok,
            ),
            ("6.5: SETTINGS on a stream", frame(SETTINGS, 0, 1, []), &[PROTOCOL]),
            ("6.5: SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, [0; 5]), ok),
            ("6.5: ACK with a payload", frame(SETTINGS, ACK, 0, [0; 6]), ok),
            (
                "6.5.2: ENABLE_PUSH 2",
                frame(SETTINGS, 0, 0, [0, 2, 0, 0, 0, 2]),
                &[PROTOCOL],
            ),
            (
                "6.5.2: a window of 2^31",
                frame(SETTINGS, 0, 0, [0, 4, 0x80, 0, 0, 0]),
                &[FLOW_CONTROL, PROTOCOL],
            ),
            (
                "6.5.2: frames of 1 KiB",
                frame(SETTINGS, 0, 0, [0, 5, 0, 0, 4, 0]),
                &[PROTOCOL],
            ),
            (
                "6.6: PUSH_PROMISE",
                frame(PUSH_PROMISE, 4, 1, [0, 0, 0, 2]),
                &[PROTOCOL],
            ),
            ("6.7: PING on a stream", frame(PING, 0, 1, [0; 8]), &[PROTOCOL]),
            ("6.7: PING of 6 bytes", frame(PING, 0, 0, [0; 6]), ok),
            ("6.8: GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8]), &[PROTOCOL]),
            ("6.9: WINDOW_UPDATE of 0", update(0, 0), &[PROTOCOL]),
            ("6.9: WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, [0; 3]), ok),
            (
                "6.9.1: a window over 2^31",
                [update(0, 0x7fff_ffff), update(0, 1)].concat(),
                &[FLOW_CONTROL],
            ),
            (
                "6.10: another frame among CONTINUATION",
                [frame(HEADERS, 1, 1, &head), frame(PING, 0, 0, [0; 8])].concat(),
                &[PROTOCOL],
            ),
            (
                "6.10: another stream's CONTINUATION",
                [frame(HEADERS, 1, 1, &head), frame(CONTINUATION, 4, 3, [])].concat(),
                &[PROTOCOL],
            ),
            (
                "6.5: an ACK of nothing",
                [frame(SETTINGS, ACK, 0, []), frame(SETTINGS, ACK, 0, [])].concat(),
                &[PROTOCOL],
            ),
            (
                "4.2: a frame over the limit",
                frame(PING, 0, 0, vec![0; 16_385]),
                &[FRAME_SIZE],
            ),
            (
                "4.3: an index that is not",
                frame(HEADERS, 5, 1, [0xff, 0x80, 1]),
                &[COMPRESSION, PROTOCOL],
            ),
            (
                "4.3: half a field",
                frame(HEADERS, 5, 1, [0x40, 5, b'a']),
                &[COMPRESSION, PROTOCOL],
            ),
        ];
        for (what, bytes, codes) in cases {
            let mut client = Frames::open(server.addr());
            client.send(&[bytes]);
            let code = client.farewell();
            assert!(
                code.is_some_and(|code| codes.contains(&code)),
                "{what}: {code:?}, not {codes:?}"
            );
        }
        // 3.4: the preface ends in SETTINGS.
        for first in [
            frame(PING, 0, 0, [0; 8]),
            frame(SETTINGS, ACK, 0, []),
            get(1, "/health"),
        ] {
            let mut client = Frames::silent(server.addr());
            client.send(&[PREFACE, &first]);
            assert_eq!(client.farewell(), Some(PROTOCOL));
        }
        server.get("/health").expect(200);
    });
}

#[test]
fn what_breaks_a_stream_breaks_no_other() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let path = (":path", "/health");
        let (method, scheme, host) = ((":method", "GET"), (":scheme", "http"), (":authority", "test"));
        let whole = [method, scheme, host, path];
        let with = |field| [&whole[..], &[field]].concat();
        let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
            ("8.3.1: no method", vec![scheme, host, path]),
            ("8.3.1: no scheme", vec![method, host, path]),
            ("8.3.1: no path", vec![method, scheme, host]),
            ("8.3.1: an empty path", vec![method, scheme, host, (":path", "")]),
            ("8.3: a repeated one", with(path)),
            ("8.3: one of answers", with((":status", "200"))),
            ("8.3: an unknown one", with((":tea", "green"))),
            ("8.3: behind a field", vec![method, scheme, host, ("x", "y"), path]),
            ("8.2.1: upper case", with(("X-Large", "y"))),
            ("8.2.1: a line end", with(("x", "a\r\nb: c"))),
            ("8.2.1: NUL", with(("x", "a\0b"))),
            ("8.2.2: connection", with(("connection", "close"))),
            ("8.2.2: transfer-encoding", with(("transfer-encoding", "chunked"))),
            ("8.2.2: upgrade", with(("upgrade", "h2c"))),
            ("8.2.2: te", with(("te", "gzip"))),
            ("8.1.1: a body that is too short", with(("content-length", "5"))),
            (
                "8.1.1: two lengths",
                [&whole[..], &[("content-length", "0"), ("content-length", "1")]].concat(),
            ),
        ];
        for (what, fields) in &cases {
            let mut client = Frames::open(server.addr());
            client.send(&[
                &frame(HEADERS, END_STREAM | END_HEADERS, 1, literals(false, fields)),
                &get(3, "/health"),
            ]);
            let end = client.next_of(&[RST_STREAM, GOAWAY]);
            let end = end.unwrap_or_else(|| panic!("{what}: no reset"));
            assert_eq!(end.code(), PROTOCOL, "{what}");
            // What is no field at all may be an error of the connection (RFC 9113 section 5.4.2).
            if end.kind == GOAWAY {
                println!("{what}: ends the connection");
            } else {
                assert_eq!(end.stream, 1, "{what}");
                assert_eq!(client.answer(3).1, br#"{"status":"healthy"}"#, "{what}");
            }
        }
        let data = [
            (
                "8.1.1: more than was said",
                post(1, &[("content-length", "1")]),
                frame(DATA, 1, 1, b"ab"),
                PROTOCOL,
            ),
            (
                "8.1.1: less than was said",
                post(1, &[("content-length", "9")]),
                frame(DATA, 1, 1, b"ab"),
                PROTOCOL,
            ),
            (
                "6.9.1: a stream's window over 2^31",
                post(1, &[]),
                update(1, 0x7fff_ffff),
                FLOW_CONTROL,
            ),
            (
                "8.1: trailers that end nothing",
                post(1, &[]),
                frame(HEADERS, 4, 1, literals(false, &[("a", "b")])),
                PROTOCOL,
            ),
        ];
        for (what, begin, then, code) in data {
            let mut client = Frames::open(server.addr());
            client.send(&[&begin, &then]);
            match client.next_of(&[RST_STREAM, GOAWAY]) {
                Some(frame) => assert_eq!(frame.code(), code, "{what}"),
                None => panic!("{what}: the end, without a word"),
            }
        }
    });
}

/// What it is, its fields, and the status of the answer.
type Case<'c> = (&'c str, Vec<(&'c str, &'c str)>, u16);

#[test]
fn what_http1_refuses_is_refused() {
    let server = Server::start();
    let cases: &[Case<'_>] = &[
        (
            "two hosts",
            vec![(":authority", "a"), (":path", "/"), ("host", "b")],
            400,
        ),
        ("no host", vec![(":path", "/")], 400),
        ("a user", vec![(":authority", "u@a"), (":path", "/")], 400),
        (
            "a port that is none",
            vec![(":authority", "a:99999"), (":path", "/")],
            400,
        ),
        ("a bad escape", vec![(":authority", "a"), (":path", "/%zz")], 400),
        (
            "two types",
            vec![
                (":authority", "a"),
                (":path", "/"),
                ("content-type", "a/b"),
                ("content-type", "c/d"),
            ],
            400,
        ),
        ("tea", vec![(":authority", "a"), (":path", "/"), ("expect", "tea")], 417),
        ("nothing there", vec![(":authority", "a"), (":path", "/nothing")], 404),
        (
            "the same host twice",
            vec![(":authority", "A"), (":path", "/health"), ("host", "a")],
            200,
        ),
        ("only Host", vec![(":path", "/health"), ("host", "a")], 200),
        (
            "crumbs",
            vec![
                (":authority", "a"),
                (":path", "/health"),
                ("cookie", "a=b"),
                ("cookie", "c=d"),
            ],
            200,
        ),
        (
            "trailers are welcome",
            vec![(":authority", "a"), (":path", "/health"), ("te", "trailers")],
            200,
        ),
    ];
    let long = "x".repeat(17_000);
    let mut large = vec![(":authority", "a"), (":path", "/"), ("x", long.as_str())];
    let many = [vec![(":authority", "a"), (":path", "/")], vec![("x", "y"); 65]].concat();
    let path = format!("/{}", "x".repeat(8192));
    let extra: [Case<'_>; 3] = [
        ("a large head", std::mem::take(&mut large), 431),
        ("many fields", many, 431),
        ("a long target", vec![(":authority", "a"), (":path", &path)], 414),
    ];
    for (what, fields, status) in cases.iter().chain(&extra) {
        let fields = [&[(":method", "GET"), (":scheme", "http")], &fields[..]].concat();
        // Pseudo-fields come first.
        let mut client = Frames::open(server.addr());
        let block = literals(false, &fields);
        let (first, rest) = block.split_at(block.len().min(16_000));
        if rest.is_empty() {
            client.send(&[&frame(HEADERS, 5, 1, first)]);
        } else {
            client.send(&[&frame(HEADERS, 1, 1, first), &frame(CONTINUATION, 4, 1, rest)]);
        }
        assert_eq!(client.find(HEADERS).expect(what).status(), *status, "{what}");
    }
    for (method, path, status) in [("BREW", "/", 501), ("OPTIONS", "*", 204), ("DELETE", "/health", 405)] {
        let mut client = Frames::open(server.addr());
        client.send(&[&frame(HEADERS, 5, 1, request(method, path, &[]))]);
        assert_eq!(client.find(HEADERS).unwrap().status(), status, "{method}");
    }
    let mut client = Frames::open(server.addr());
    let tunnel = literals(false, &[(":method", "CONNECT"), (":authority", "a:443")]);
    client.send(&[&frame(HEADERS, 4, 1, tunnel)]);
    assert_eq!(client.find(HEADERS).unwrap().status(), 501);
    // Past any limit: by the library, without a body.
    let mut client = Frames::open(server.addr());
    let block = literals(
        false,
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            ("x", &"x".repeat(30_000)),
        ],
    );
    client.send(&[
        &frame(HEADERS, 1, 1, &block[..16_000]),
        &frame(CONTINUATION, 4, 1, &block[16_000..]),
    ]);
    assert_eq!(client.find(HEADERS).unwrap().status(), 431);
}

#[test]
fn what_is_allowed_and_rare_is_taken() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let mut client = Frames::open(server.addr());
        assert_eq!(client.find(SETTINGS).unwrap().flags, 0);
        client.send(&[
            &frame(SETTINGS, ACK, 0, []),
            &frame(PING, 0, 0, b"timbuktu"),
            &frame(0xfa, 0xff, 9, b"??"),
        ]);
        let pong = client.find(PING).unwrap();
        assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"timbuktu"[..]));
        // Padded, with a priority, in pieces, with trailers; the server's windows are opened as it reads.
        let body = format!(r#"{{"location":"Rome","interests":["{}"]}}"#, "x".repeat(50));
        let mut padded = vec![3];
        padded.extend(&body.as_bytes()[..10]);
        padded.extend([0; 3]);
        let trailers = frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            literals(false, &[("x-checksum", "1")]),
        );
        client.send(&[
            &frame(PRIORITY, 0, 7, [0, 0, 0, 5, 1]),
            &post(1, &[]),
            &frame(DATA, PADDED, 1, &padded),
            &frame(DATA, 0, 1, &body.as_bytes()[10..]),
            &trailers,
        ]);
        let (head, told) = client.answer(1);
        assert_eq!(head.unwrap().status(), 200);
        let plain = server.tell(&body).expect(200).body;
        assert!(told == plain, "{}", String::from_utf8_lossy(&told));
        // A window of one byte at a time.
        let mut slow = Frames::open_with(server.addr(), &[0, 4, 0, 0, 0, 1]);
        slow.send(&[&get(1, "/health")]);
        let mut body = Vec::new();
        while body.len() < 20 {
            let data = slow.find(DATA).unwrap();
            assert_eq!(data.payload.len(), 1);
            body.extend(data.payload);
            slow.send(&[&update(1, 1)]);
        }
        assert_eq!(body, br#"{"status":"healthy"}"#);
        // 100 before the body (RFC 9110 section 10.1.1), and a body of the greatest size is read, one more is not.
        let mut client = Frames::open(server.addr());
        client.send(&[&post(1, &[("expect", "100-continue"), ("content-length", "20")])]);
        let interim = client.find(HEADERS).unwrap();
        assert_eq!((interim.status(), interim.flags & END_STREAM), (100, 0));
        client.send(&[&frame(DATA, END_STREAM, 1, br#"{"location":"Rome" }"#)]);
        assert_eq!(client.answer(1).0.unwrap().status(), 200);
        let mut client = Frames::open(server.addr());
        client.send(&[&post(1, &[("expect", "100-continue"), ("content-length", "65537")])]);
        assert_eq!(client.find(HEADERS).unwrap().status(), 413);
        client.find(DATA).unwrap();
        let reset = client.find(RST_STREAM).unwrap();
        assert_eq!(reset.code(), NO_ERROR);
    });
}
