//! Properties over whole heads, bodies and responses.

use proptest::prelude::*;

use super::check::{self, read};
use super::*;
use crate::limits::http::BODY_BYTES_MAX;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn owned(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Heads that are valid, with names that mean nothing here so that any may stand beside any.
fn valid_head() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        Just("GET"),
        Just("POST"),
        Just("PUT"),
        Just("DELETE"),
        Just("PATCH"),
        Just("HEAD")
    ];
    let target = "/[a-z0-9/._~-]{0,30}(\\?([a-z0-9=&+]|%[0-9a-fA-F]{2}){0,20})?";
    let field = (
        "x-[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,15}",
        "[ \t]{0,2}([\\x21-\\x7e][\t -~]{0,30})?",
    );
    (method, target, 0..2u8, proptest::collection::vec(field, 0..12)).prop_map(|(method, target, minor, fields)| {
        let mut head = format!("{method} {target} HTTP/1.{minor}\r\nHost: a.example\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}:{value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    })
}

/// Bytes that are nearly requests: pieces of requests in any order, some broken.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just(b"GET / HTTP/1.1\r\n".to_vec()),
        2 => Just(b"POST /a?b HTTP/1.1\r\n".to_vec()),
        1 => Just(b"OPTIONS http://A HTTP/1.0\r\n".to_vec()),
        4 => Just(b"Host: a\r\n".to_vec()),
        2 => Just(b"Content-Length: 3\r\n".to_vec()),
        2 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        1 => Just(b"Connection: close\r\n".to_vec()),
        1 => Just(b"Expect: 100-continue\r\n".to_vec()),
        4 => Just(b"\r\n".to_vec()),
        2 => Just(b"3\r\nabc\r\n".to_vec()),
        2 => Just(b"0\r\n\r\n".to_vec()),
        1 => Just(b"x: \t y \r\n".to_vec()),
        1 => prop_oneof![Just(b"\r".to_vec()), Just(b"\n".to_vec()), Just(b" ".to_vec()), Just(b"\0".to_vec())],
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// A valid head with up to three bytes changed, put in or taken out.
fn damaged_head() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3u8);
    (valid_head(), proptest::collection::vec(change, 1..4)).prop_map(|(mut head, changes)| {
        for (at, byte, how) in changes {
            let at = at.index(head.len());
            match how {
                0 => head[at] = byte,
                1 => head.insert(at, byte),
                _ => drop(head.remove(at)),
            }
        }
        head
    })
}

fn any_input() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => nearly_requests(),
        4 => damaged_head(),
        1 => valid_head(),
        1 => proptest::collection::vec(any::<u8>(), 0..100),
    ]
}

/// `bytes` cut at the places given.
fn cut<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.push(0);
    at.push(bytes.len());
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    proptest::collection::vec(any::<prop::sample::Index>(), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The fast reader takes a head exactly where the scanner does, and reads of it what httparse reads.
    #[test]
    fn readers_agree(input in any_input()) {
        check::messages(&input);
    }

    #[test]
    fn splits_change_nothing(input in any_input(), cuts in cuts()) {
        let whole = read([&input[..]]);
        prop_assert_eq!(&read(cut(&input, &cuts)), &whole);
        prop_assert_eq!(&read(input.chunks(1)), &whole);
    }

    #[test]
    fn valid_heads_are_read_as_httparse_reads_them(input in valid_head()) {
        let (head, len) = parse_head(&input).unwrap().unwrap();
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut theirs = httparse::Request::new(&mut fields);
        prop_assert_eq!(theirs.parse(&input).unwrap(), httparse::Status::Complete(len));
        prop_assert_eq!(Some(head.method.as_str()), theirs.method);
        prop_assert_eq!(Some(head.target), theirs.path);
        prop_assert_eq!(Some(u8::from(head.version == Version::Http11)), theirs.version);
        let ours: Vec<_> = head.headers.iter().collect();
        let theirs: Vec<_> = theirs.headers.iter().map(|field| (field.name, field.value)).collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn pipelined_requests_come_apart(
        requests in proptest::collection::vec((valid_head(), "[a-z]{0,40}", 0..3u8), 1..5), cuts in cuts()
    ) {
        let mut input = Vec::new();
        let mut bodies = Vec::new();
        for (head, body, how) in &requests {
            let how = if head.windows(9).any(|w| w == b"HTTP/1.0\r") { how % 2 } else { *how };
            input.extend_from_slice(&head[..head.len() - 2]);
            match how {
                0 => input.extend_from_slice(b"\r\n"),
                1 => input.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len()).bytes()),
                _ => {
                    input.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    for piece in body.as_bytes().chunks(7) {
                        input.extend(format!("{:X};e=1\r\n{}\r\n", piece.len(), owned(piece)).bytes());
                    }
                    input.extend_from_slice(b"0\r\nt: v\r\n\r\n");
                }
            }
            bodies.push(format!("body={}", if how == 0 { "" } else { body }));
        }
        let said = read(cut(&input, &cuts));
        prop_assert_eq!(said.len(), bodies.len());
        for (said, body) in said.iter().zip(&bodies) {
            prop_assert!(said.contains(body), "{:?} lacks {}", said, body);
        }
    }

    #[test]
    fn chunked_pieces_equal_the_whole(input in proptest::collection::vec(
        prop_oneof![3 => Just(&b"3\r\nabc\r\n"[..]), 1 => Just(&b"0\r\n\r\n"[..]), 1 => Just(&b"1;a\r\nb\r\n"[..]),
            1 => Just(&b"5"[..]), 1 => Just(&b"\r\n"[..]), 1 => Just(&b"x: y\r\n"[..]), 1 => Just(&b";x=\"a\\\""[..])], 0..8)) {
        check::chunked(&input.concat(), 20);
    }

    #[test]
    fn any_response_is_read_back(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        check::response(&data);
    }

    #[test]
    fn any_query_is_decoded_or_refused(text in "([a-z=&+%]|%[0-9a-f]{2}|\\PC){0,30}") {
        check::query(&text);
    }

    #[test]
    fn responses_are_read_back(
        body in proptest::collection::vec(any::<u8>(), 0..300), id in proptest::collection::vec(any::<u8>(), 0..40),
        status in prop::sample::select(types::STATUSES), is_head: bool, http11: bool, keep_alive: bool,
    ) {
        let version = if http11 { Version::Http11 } else { Version::Http10 };
        let exchange = Exchange { is_head, version, keep_alive };
        let mut out = Vec::new();
        let stays = Response::begin(&mut out, exchange, status, DATE)
            .content_type("application/json")
            .header(field::X_REQUEST_ID, &id)
            .body(&body);
        prop_assert_eq!(stays, keep_alive);

        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut theirs = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(len) = theirs.parse(&out).unwrap() else { panic!("half a head") };
        prop_assert_eq!(theirs.code, Some(status.code()));
        prop_assert_eq!(theirs.reason, Some(status.reason()));
        let get = |name: &str| {
            let mut found = theirs.headers.iter().filter(|field| field.name == name).map(|field| owned(field.value));
            let first = found.next();
            assert_eq!(found.next(), None, "{name} twice");
            first
        };
        let bodiless = status.is_bodiless();
        prop_assert_eq!(get("Content-Length"), (!bodiless).then(|| body.len().to_string()));
        prop_assert_eq!(get("Date"), Some(owned(DATE)));
        let connection = get("Connection");
        prop_assert_eq!(connection.as_deref(), match (keep_alive, http11) {
            (false, _) => Some("close"),
            (true, false) => Some("keep-alive"),
            (true, true) => None,
        });
        let expected = 4 + usize::from(!bodiless) + usize::from(!(keep_alive && http11)) - 1;
        prop_assert_eq!(theirs.headers.len(), expected, "no field was smuggled in: {}", owned(&out));
        prop_assert_eq!(&out[len..], if is_head || bodiless { &[][..] } else { &body[..] });
    }

    #[test]
    fn streams_are_read_back(pieces in proptest::collection::vec("[a-z]{0,40}", 0..6)) {
        let exchange = Exchange { is_head: false, version: Version::Http11, keep_alive: true };
        let mut out = Vec::new();
        let stream = Response::begin(&mut out, exchange, Status::OK, DATE).stream();
        let head = out.len();
        for piece in &pieces {
            stream.chunk(&mut out, piece.as_bytes());
        }
        prop_assert!(stream.finish(&mut out));
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked, BODY_BYTES_MAX).unwrap();
        let mut body = Vec::new();
        prop_assert_eq!(decoder.decode_into(&out[head..], &mut body).unwrap(), (out.len() - head, true));
        prop_assert_eq!(owned(&body), pieces.concat());
    }
}

fn streamed(is_head: bool, version: Version, status: Status) -> (String, bool) {
    let mut out = Vec::new();
    let exchange = Exchange {
        is_head,
        version,
        keep_alive: true,
    };
    let stream = Response::begin(&mut out, exchange, status, DATE).stream();
    stream.chunk(&mut out, b"hello world, hello");
    let stays = stream.finish(&mut out);
    (owned(&out), stays)
}

#[test]
fn streams_by_version_and_method() {
    let (text, stays) = streamed(false, Version::Http11, Status::OK);
    assert!(
        stays && text.ends_with("\r\nTransfer-Encoding: chunked\r\n\r\n12\r\nhello world, hello\r\n0\r\n\r\n"),
        "{text}"
    );
    let (text, stays) = streamed(false, Version::Http10, Status::OK);
    assert!(
        !stays && text.ends_with("\r\nConnection: close\r\n\r\nhello world, hello"),
        "{text}"
    );
    assert!(!text.contains("Transfer-Encoding"), "{text}");
    let (text, stays) = streamed(true, Version::Http11, Status::OK);
    assert!(
        stays && text.ends_with("\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "{text}"
    );
    let (text, stays) = streamed(true, Version::Http10, Status::OK);
    assert!(stays && text.ends_with("\r\nConnection: keep-alive\r\n\r\n"), "{text}");
    let (text, stays) = streamed(false, Version::Http11, Status::NO_CONTENT);
    assert!(
        stays && !text.contains("Transfer") && text.ends_with("GMT\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn a_response_to_the_byte() {
    let mut out = b"before".to_vec();
    let exchange = Exchange {
        is_head: false,
        version: Version::Http11,
        keep_alive: true,
    };
    Response::begin(&mut out, exchange, Status::OK, DATE)
        .content_type("application/json")
        .header(field::X_WORKER_ID, "3")
        .header(field::X_REQUEST_ID, "a\r\nSet-Cookie: b")
        .body(b"{}");
    assert_eq!(
        owned(&out),
        "beforeHTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: application/json\r\nX-Worker-ID: 3\r\nX-Request-ID: a  Set-Cookie: b\r\n\
         Content-Length: 2\r\n\r\n{}"
    );
    out.clear();
    Response::refuse(&mut out, &Reject::new(Status::URI_TOO_LONG, "long"), DATE);
    assert_eq!(
        owned(&out),
        "HTTP/1.1 414 URI Too Long\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlong"
    );
}

#[test]
fn lengths_of_any_size() {
    for (length, text) in [(0, "0"), (9, "9"), (10, "10"), (u64::MAX, "18446744073709551615")] {
        let mut out = Vec::new();
        let exchange = Exchange {
            is_head: true,
            version: Version::Http11,
            keep_alive: true,
        };
        assert!(Response::begin(&mut out, exchange, Status::OK, DATE).length(length));
        assert!(owned(&out).ends_with(&format!("\r\nContent-Length: {text}\r\n\r\n")));
    }
}

#[test]
fn known_fields_are_the_first_of_their_name() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nACCEPT: x\r\nAccept: y\r\nContent-type: t\r\naccept-Encoding: e\r\n\
        x-request-ID: i\r\nTraceParent: p\r\nIf-None-Match:\r\nAuthorization: s\r\n\r\n";
    let (head, _) = parse_head(input).unwrap().unwrap();
    assert!(head.accept().eq([b"x", b"y"]));
    assert_eq!(head.headers.get_all("accept").collect::<Vec<_>>(), [b"x", b"y"]);
    assert_eq!(head.content_type(), Some(&b"t"[..]));
    assert!(head.accept_encoding().eq([b"e"]));
    assert_eq!(head.x_request_id(), Some(&b"i"[..]));
    assert_eq!(head.traceparent(), Some(&b"p"[..]));
    assert!(head.is_conditional());
    assert_eq!(head.authorization(), Some(&b"s"[..]));
    assert_eq!(head.headers.get("cookie"), None);
    assert!(!format!("{head:?}").contains("<s>"));
    let (bare, _) = parse_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
    assert_eq!((bare.accept().count(), bare.content_type()), (0, None));
    assert!(!bare.is_conditional());
}

#[test]
fn bytes_in_drops_cost_no_more_than_once() {
    // 16 KiB byte by byte: quadratic reading would be 134 million steps, many seconds here.
    let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nx: ".to_vec();
    input.resize(16_000, b'a');
    input.extend_from_slice(b"\r\n\r\n");
    let mut scanner = HeadScanner::new();
    let start = std::time::Instant::now();
    for len in 1..input.len() {
        assert!(scanner.parse(&input[..len]).unwrap().is_none());
        assert!(!scanner.is_fresh());
    }
    let (_, len) = scanner.parse(&input).unwrap().unwrap();
    assert_eq!(len, input.len());
    assert!(scanner.is_fresh());
    assert!(start.elapsed().as_millis() < 2_000, "{:?}", start.elapsed());
}

#[test]
fn sizes_promised_in_the_docs() {
    assert!(size_of::<HeadScanner>() <= 64, "{}", size_of::<HeadScanner>());
    assert!(size_of::<BodyDecoder>() <= 48, "{}", size_of::<BodyDecoder>());
    assert!(size_of::<RequestHead<'_>>() <= 256, "{}", size_of::<RequestHead<'_>>());
}

#[test]
fn fixed_bodies_say_what_is_left() {
    let mut decoder = BodyDecoder::new(BodyFraming::Length(5), 10).unwrap();
    assert_eq!(decoder.bytes_left(), Some(5));
    assert_eq!(
        decoder.decode(b"abc").unwrap(),
        Decoded {
            consumed: 3,
            payload: 0..3,
            done: false
        }
    );
    assert_eq!(decoder.bytes_left(), Some(2));
    assert_eq!(
        decoder.decode(b"").unwrap(),
        Decoded {
            consumed: 0,
            payload: 0..0,
            done: false
        }
    );
    assert_eq!(
        decoder.decode(b"deGET").unwrap(),
        Decoded {
            consumed: 2,
            payload: 0..2,
            done: true
        }
    );
    assert_eq!(
        decoder.decode(b"GET").unwrap(),
        Decoded {
            consumed: 0,
            payload: 0..0,
            done: true
        }
    );
    assert!(BodyDecoder::new(BodyFraming::None, 10).unwrap().is_done());
    assert_eq!(
        BodyDecoder::new(BodyFraming::Length(11), 10).unwrap_err().status,
        Status::CONTENT_TOO_LARGE
    );
}
