//! A request's ids: honoured or made, and wherever something is said of the request.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::Response;
use common::tools::run;
use common::{Server, Setup, until};
use sonic_rs::{JsonValueTrait, Value};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn server() -> Server {
    Setup::new()
        .env("ACCESS_LOG", "all")
        .env("HEAD_TIMEOUT", "300ms")
        .start()
}

/// The line of the request with this id.
fn line(server: &Server, id: &str) -> Value {
    let mut found = None;
    until(&format!("a line of {id}"), || {
        found = server.log.find(|line| line["request_id"].as_str() == Some(id));
        found.is_some()
    });
    found.unwrap()
}

fn is_hex(value: &Value, digits: usize) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[test]
fn a_valid_trace_is_gone_on_with_under_a_span_of_its_own() {
    let server = server();
    let fields = format!("X-Request-ID: mine\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n");
    // At once, later, and as an error.
    for path in ["/health/v2/live", "/api/v1/stories", "/nothing"] {
        let id = format!("mine{}", path.replace('/', "-"));
        let fields = fields.replace("mine", &id);
        let answer = server.connect().get_with(path, &fields);
        assert_eq!(answer.field("x-request-id"), Some(id.as_str()));
        let line = line(&server, &id);
        assert_eq!(line["trace_id"].as_str(), Some(TRACE), "{line:?}");
        assert_eq!(line["parent_id"].as_str(), Some(SPAN));
        assert_eq!(line["sampled"].as_bool(), Some(true));
        assert!(
            is_hex(&line["span_id"], 16) && line["span_id"].as_str() != Some(SPAN),
            "{line:?}"
        );
        if answer.status == 404 {
            let problem = answer.json();
            assert_eq!(problem["request_id"].as_str(), Some(id.as_str()));
            assert_eq!(problem["trace_id"].as_str(), Some(TRACE));
        }
    }
    // Without an id of its own the trace's is the request's.
    let answer = server
        .connect()
        .get_with("/health", &format!("traceparent: 00-{TRACE}-{SPAN}-00\r\n"));
    assert_eq!(answer.field("x-request-id"), Some(TRACE));
    assert_eq!(line(&server, TRACE)["sampled"].as_bool(), Some(false));
}

#[test]
fn a_trace_that_is_none_is_begun_anew() {
    let server = server();
    for (n, bad) in [
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        // Sent twice.
        format!("00-{TRACE}-{SPAN}-01\r\ntraceparent: 00-{TRACE}-{SPAN}-01"),
    ]
    .iter()
    .enumerate()
    {
        let id = format!("bad-{n}");
        let fields = format!("X-Request-ID: {id}\r\ntraceparent: {bad}\r\n");
        let problem = server.connect().get_with("/nothing", &fields).expect(404).json();
        let line = line(&server, &id);
        assert!(
            is_hex(&line["trace_id"], 32) && line["trace_id"].as_str() != Some(TRACE),
            "{line:?}"
        );
        assert!(
            line["parent_id"].is_null() || line.get("parent_id").is_none(),
            "{line:?}"
        );
        assert_eq!(problem["trace_id"].as_str(), line["trace_id"].as_str());
    }
    // Nothing sent at all: one id for both, so that either finds the other.
    let answer = server.get("/nothing").expect(404);
    let id = answer.field("x-request-id").unwrap();
    assert_eq!(line(&server, id)["trace_id"].as_str(), Some(id));
    assert_eq!(answer.json()["trace_id"].as_str(), Some(id));
}

#[test]
fn refused_heads_are_answered_under_the_id_that_they_brought() {
    let server = server();
    let ask = |bytes: &str| -> Response {
        let mut connection = server.connect();
        connection.send(bytes);
        connection.read()
    };
    let ids = format!("X-Request-ID: mine\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n");
    let long = "x".repeat(17 * 1024);
    for (status, head) in [
        (400, format!("GET / HTTP/1.1\r\n{ids}Host: a\r\nHost: b\r\n\r\n")),
        (400, format!("GET / HTTP/1.1\r\nHost: a\r\n{ids}Bad Name: 1\r\n\r\n")),
        (
            505,
            format!("GET / HTTP/1.1\r\nHost: a\r\n{ids}\r\n").replace("/1.1", "/3.0"),
        ),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{ids}Long: {long}\r\n\r\n")),
        (
            413,
            format!("POST / HTTP/1.1\r\nHost: a\r\n{ids}Content-Length: 99999999\r\n\r\n"),
        ),
        (
            400,
            format!("POST / HTTP/1.1\r\nHost: a\r\n{ids}Transfer-Encoding: chunked\r\n\r\nnone\r\n"),
        ),
        // Too slow: within the head, whose lines so far are heard, and within the body.
        (408, format!("GET / HTTP/1.1\r\n{ids}Host: a\r\nSlow")),
    ] {
        let answer = ask(&head);
        assert_eq!(answer.status, status, "{answer:?}");
        let problem = answer.json();
        assert_eq!(answer.field("x-request-id"), Some("mine"), "{head:.60}: {answer:?}");
        assert_eq!(problem["request_id"].as_str(), Some("mine"));
        assert_eq!(problem["trace_id"].as_str(), Some(TRACE), "{problem:?}");
    }
    // What could not stand in an id is not repeated; what stands behind the head is not heard.
    for odd in [
        "GET / HTTP/1.1\r\nX-Request-ID: a\"b\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nX-Request-ID: mine\r\n",
    ] {
        let answer = ask(odd).expect(400);
        assert_eq!(answer.field("x-request-id").map(str::len), Some(32), "{answer:?}");
    }
}

#[test]
fn events_and_http2_keep_them_too() {
    let server = server();
    let fields = format!("X-Request-ID: events\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\nAccept: text/event-stream\r\n");
    let body = r#"{"location":"Rome"}"#;
    let mut connection = server.connect();
    connection.send(format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(connection.read().expect(200).field("x-request-id"), Some("events"));
    assert_eq!(line(&server, "events")["trace_id"].as_str(), Some(TRACE));
    let parent = format!("traceparent: 00-{TRACE}-{SPAN}-01");
    for (id, path, more) in [
        ("h2-live", "/health/v2/live", "Accept: */*"),
        ("h2-none", "/nothing", "Accept: */*"),
        // Refused by the reader of heads.
        ("h2-refused", "/health", "Expect: the-unexpected"),
    ] {
        let header = format!("X-Request-ID: {id}");
        let url = server.url(path);
        let args = [
            "-sS",
            "--http2-prior-knowledge",
            "-i",
            "-H",
            &header,
            "-H",
            &parent,
            "-H",
            more,
            &url,
        ];
        let answer = run("curl", &args).expect(0).out();
        assert!(answer.contains(&format!("x-request-id: {id}\r\n")), "{answer}");
        if path == "/health" {
            assert!(answer.starts_with("HTTP/2 417"), "{answer}");
        } else {
            assert_eq!(line(&server, id)["trace_id"].as_str(), Some(TRACE), "{id}");
        }
        if !answer.starts_with("HTTP/2 200") {
            assert!(answer.contains(&format!("\"trace_id\":\"{TRACE}\"")), "{answer}");
        }
    }
}

#[test]
fn all_who_share_a_flight_are_in_the_log_when_it_fails() {
    // A database that is not there: what is asked of it fails, for all who wait for the one answer.
    let port = common::postgres::free_port();
    let server = Setup::new()
        .env("WORKERS", "1")
        .env("DATABASE_URL", &format!("postgresql://u:p@127.0.0.1:{port}/none"))
        .start();
    let body = r#"{"location":"Oslo"}"#;
    let ask = |id: String| {
        let mut connection = server.connect();
        connection.send(format!(
            "POST /api/v1/stories/generate HTTP/1.1\r\nHost: a\r\nX-Request-ID: {id}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        connection.read().expect(503)
    };
    std::thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || ask(format!("flight-{n}")));
        }
    });
    for n in 0..4 {
        let id = format!("flight-{n}");
        let failed = |line: &Value| {
            line["message"].as_str() == Some("the store failed a request") && line["request_id"].as_str() == Some(&id)
        };
        until("each has its line", || server.log.find(failed).is_some());
        let line = server.log.find(failed).unwrap();
        assert!(
            is_hex(&line["trace_id"], 32) && is_hex(&line["span_id"], 16),
            "{line:?}"
        );
        // The line of the request itself has the same.
        let access =
            |line: &Value| line["target"].as_str() == Some("access") && line["request_id"].as_str() == Some(&id);
        until("and one of the request", || server.log.find(access).is_some());
        let access = server.log.find(access).unwrap();
        assert_eq!(access["span_id"].as_str(), line["span_id"].as_str());
    }
}
