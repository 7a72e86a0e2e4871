//! Negotiation, conditions, CORS and security fields (RFC 9110, Fetch), against the real server. The table is
//! `semantics.md`, which people read too.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::{Connection, Response};
use common::tools::curl;
use common::{Server, Setup, on_each_driver};
use sonic_rs::JsonValueTrait;

const TABLE: &str = include_str!("semantics.md");

struct Row<'t> {
    text: &'t str,
    request: Vec<&'t str>,
    answer: Vec<&'t str>,
}

/// The pieces between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn rows() -> Vec<Row<'static>> {
    let rows: Vec<_> = TABLE
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|text| {
            let cells: Vec<&str> = text.trim_matches('|').split(" | ").collect();
            let [request, answer, _section] = cells[..] else {
                panic!("three cells: {text}")
            };
            Row {
                text,
                request: quoted(request),
                answer: quoted(answer),
            }
        })
        .collect();
    assert!(rows.len() > 120, "the table was not found: {} rows", rows.len());
    rows
}

/// What stands for the names in braces.
fn fill(server: &Server) -> Vec<(&'static str, String)> {
    let told = server.tell(r#"{"location":"Bergen","length":"medium"}"#).expect(200);
    let id = told.json()["id"].as_str().unwrap().to_owned();
    let rome = server.tell(r#"{"location":"Rome"}"#).expect(200).json();
    let kept = server.get(&format!("/api/v1/stories/{id}")).expect(200);
    assert_eq!(kept.body, told.body);
    assert!(kept.body.len() > 1500, "long enough to be compressed");
    let date = kept.field("last-modified").unwrap().to_owned();
    let second = roadtrip_second(&kept.json()["created_at"].as_str().unwrap()[..19]);
    let at = |second: i64| {
        let stamp = jiff::Timestamp::from_second(second).unwrap();
        stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    assert_eq!(date, at(second), "Last-Modified is created_at");
    let etag = kept.field("etag").unwrap();
    vec![
        ("{id}", id),
        ("{rome}", rome["id"].as_str().unwrap().to_owned()),
        ("{tag}", etag.trim_matches('"').to_owned()),
        ("{date}", date),
        ("{before}", at(second - 1)),
        ("{after}", at(second + 1)),
    ]
}

/// `2026-11-23T21:26:32` in seconds since 1970.
fn roadtrip_second(text: &str) -> i64 {
    format!("{text}Z").parse::<jiff::Timestamp>().unwrap().as_second()
}

fn run(row: &Row<'_>, stream: &mut Connection, names: &[(&str, String)]) {
    let filled = |text: &str| {
        names
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let (method, path) = row.request[0].split_once(' ').unwrap();
    let body = row.request[1..].iter().find(|piece| piece.starts_with('{')).copied();
    let mut request = format!("{method} {} HTTP/1.1\r\nHost: t\r\n", filled(path));
    for field in row.request[1..].iter().filter(|piece| !piece.starts_with('{')) {
        request += &format!("{}\r\n", filled(field));
    }
    if let Some(body) = body {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.send(format!("{request}\r\n{}", body.unwrap_or_default()));
    let mut answer = stream
        .try_read(method == "HEAD")
        .unwrap_or_else(|error| panic!("{}: {error}", row.text));
    if answer.status == 100 {
        answer = stream.read();
    }
    assert_eq!(answer.status.to_string(), row.answer[0], "{}\n{answer:?}", row.text);
    for word in &row.answer[1..] {
        let word = filled(word);
        if word == "empty" {
            assert!(answer.body.is_empty(), "{}\n{answer:?}", row.text);
        } else if let Some(name) = word.strip_prefix("no ") {
            assert_eq!(answer.field(name), None, "{}", row.text);
        } else {
            let (name, value) = word.split_once(": ").unwrap();
            assert_eq!(answer.field(name), Some(value), "{}\n{:?}", row.text, answer.fields);
        }
    }
    for name in ["x-request-id", "x-worker-id", "date", "x-content-type-options"] {
        assert!(answer.field(name).is_some(), "{name}: {}", row.text);
    }
}

#[test]
fn each_row_of_the_table() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).env("WORKERS", "1").start();
        let names = fill(&server);
        let mut stream = server.connect();
        for row in rows() {
            run(&row, &mut stream, &names);
            if row.answer.contains(&"Connection: close") {
                assert!(stream.is_closed(), "{}", row.text);
                stream = server.connect();
            } else {
                // In step: nothing of the answer was left over.
                stream.get("/health").expect(200);
            }
        }
    });
}

#[test]
fn each_row_with_nothing_cached() {
    // Every story comes from the store, and every coding is made anew.
    let server = Setup::new().env("CACHE_BYTES", "0").start();
    let names = fill(&server);
    for row in rows() {
        run(&row, &mut server.connect(), &names);
    }
}

#[test]
fn the_page_may_do_what_it_needs_and_nothing_else() {
    let server = Server::start();
    let page = server.get("/docs").expect(200);
    let policy = page.field("content-security-policy").unwrap();
    let stated = page.text();
    let stated = stated
        .split_once("http-equiv=\"Content-Security-Policy\" content=\"")
        .unwrap()
        .1;
    let stated = stated.split_once('"').unwrap().0;
    // The page was tested under the policy that it states; the field says the same and forbids frames.
    assert_eq!(policy, format!("{stated}; frame-ancestors 'none'"));
    for needed in [
        "default-src 'none'",
        "connect-src 'self'",
        "script-src 'sha256-",
        "style-src 'sha256-",
    ] {
        assert!(policy.contains(needed), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
}

const APP: &str = "https://app.example";

fn cors(env: &[(&str, &str)]) -> Server {
    env.iter()
        .fold(Setup::new(), |setup, (name, value)| setup.env(name, value))
        .start()
}

fn origin_of(answer: &Response) -> Option<&str> {
    answer.field("access-control-allow-origin")
}

#[test]
fn cors_for_named_origins() {
    let server = cors(&[
        ("CORS_ORIGINS", "https://app.example:443, http://localhost:3000"),
        ("CORS_CREDENTIALS", "true"),
        ("CORS_MAX_AGE", "90s"),
    ]);
    let mut stream = server.connect();
    let told = stream.tell(r#"{"location":"Rome"}"#).expect(200);
    assert_eq!(origin_of(&told), None);
    assert_eq!(told.field("vary"), Some("Accept, Accept-Encoding, Origin"));
    let story = told.field("content-location").unwrap().to_owned();
    let body = r#"{"location":"Rome"}"#;
    let ask = |request: &str, fields: &str, body: &str| {
        format!(
            "{request} HTTP/1.1\r\nHost: t\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    // Answers of every kind: at once, later, from the cache and from the store, errors of handlers and of the router.
    for (request, body, status) in [
        ("GET /health", "", 200),
        ("GET /docs", "", 200),
        ("GET /api/v1/stories", "", 200),
        (format!("GET {story}").as_str(), "", 200),
        ("POST /api/v1/stories/generate", body, 200),
        ("POST /api/v1/stories/generate", r#"{"location":"Oslo"}"#, 200),
        ("POST /api/v1/stories/generate", "{}", 422),
        ("POST /api/v1/stories/generate", "{", 400),
        ("GET /nowhere", "", 404),
        ("GET /api/v1/stories/018f0000-0000-7000-8000-000000000000", "", 404),
        ("DELETE /health", "", 405),
        ("POST /health/v2/shutdown/graceful", "", 403),
    ] {
        for (origin, allowed) in [(APP, true), ("https://evil.example", false), ("null", false)] {
            stream.send(ask(request, &format!("Origin: {origin}\r\n"), body));
            let answer = stream.read().expect(status);
            assert_eq!(origin_of(&answer), allowed.then_some(origin), "{request} {origin}");
            assert_eq!(
                answer.field("access-control-allow-credentials"),
                allowed.then_some("true"),
                "{request}"
            );
            let exposed = answer.field("access-control-expose-headers");
            assert_eq!(exposed.is_some(), allowed, "{request}");
            if let Some(exposed) = exposed {
                for name in [
                    "ETag",
                    "Cache-Status",
                    "X-Request-ID",
                    "Retry-After",
                    "Content-Location",
                ] {
                    assert!(exposed.split(", ").any(|held| held == name), "{name}: {exposed}");
                }
            }
            let vary = answer.field("vary").unwrap_or_default();
            assert!(vary.split(", ").any(|name| name == "Origin"), "{request}: Vary: {vary}");
        }
    }
    // Events, too.
    stream.send(ask(
        "POST /api/v1/stories/generate",
        &format!("Origin: {APP}\r\nAccept: text/event-stream\r\n"),
        body,
    ));
    assert_eq!(origin_of(&stream.read().expect(200)), Some(APP));
    // Not modified, too: a browser takes these fields for the ones it has kept.
    stream.send(ask(
        &format!("GET {story}"),
        &format!("Origin: {APP}\r\nIf-None-Match: *\r\n"),
        "",
    ));
    assert_eq!(origin_of(&stream.read().expect(304)), Some(APP));
    // What is no request has no origin; it still says that answers differ by it.
    let mut broken = server.connect();
    broken.send(format!("GET /health HTTP/1.1\r\nOrigin: {APP}\r\n\r\n"));
    let refused = broken.read().expect(400);
    assert_eq!((origin_of(&refused), refused.field("vary")), (None, Some("Origin")));
}

#[test]
fn preflights_say_what_the_path_takes() {
    let server = cors(&[("CORS_ORIGINS", APP), ("CORS_MAX_AGE", "90s")]);
    let mut stream = server.connect();
    let mut preflight = |path: &str, origin: &str, method: &str| {
        stream.send(format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: t\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
             Access-Control-Request-Headers: content-type\r\n\r\n"
        ));
        stream.read()
    };
    let answer = preflight("/api/v1/stories/generate", APP, "POST").expect(204);
    assert_eq!(origin_of(&answer), Some(APP));
    assert_eq!(answer.field("access-control-allow-methods"), Some("POST"));
    assert_eq!(
        answer.field("access-control-allow-headers"),
        Some("Content-Type, X-Request-ID, traceparent")
    );
    assert_eq!(answer.field("access-control-max-age"), Some("90"));
    assert_eq!(answer.field("access-control-allow-credentials"), None);
    assert_eq!(answer.field("allow"), Some("POST, OPTIONS"));
    assert_eq!(answer.field("vary"), Some("Origin"));
    assert!(answer.body.is_empty());
    // The browser, not the server, compares with what it wants.
    let answer = preflight("/docs", APP, "DELETE").expect(204);
    assert_eq!(answer.field("access-control-allow-methods"), Some("GET, HEAD"));
    assert!(
        answer
            .field("access-control-allow-headers")
            .unwrap()
            .contains("If-None-Match")
    );
    let answer = preflight("/docs", "https://evil.example", "GET").expect(204);
    for name in ["origin", "methods", "headers"] {
        assert_eq!(answer.field(&format!("access-control-allow-{name}")), None);
    }
    assert_eq!(answer.field("vary"), Some("Origin"));
    assert_eq!(origin_of(&preflight("/nowhere", APP, "GET").expect(404)), Some(APP));
    // OPTIONS without the question is no preflight.
    stream.send(format!("OPTIONS /docs HTTP/1.1\r\nHost: t\r\nOrigin: {APP}\r\n\r\n"));
    let plain = stream.read().expect(204);
    assert_eq!(plain.field("access-control-allow-methods"), None);
    assert_eq!(origin_of(&plain), Some(APP));
}

#[test]
fn cors_for_all() {
    let server = cors(&[("CORS_ORIGINS", "*")]);
    let mut stream = server.connect();
    for (path, fields) in [
        ("/health", ""),
        ("/api/v1/stories", "Origin: https://any.example\r\n"),
        ("/nowhere", "Origin: null\r\n"),
    ] {
        let answer = stream.get_with(path, fields);
        assert_eq!(origin_of(&answer), Some("*"), "{path}");
        assert_eq!(answer.field("access-control-allow-credentials"), None);
        let vary = answer.field("vary").unwrap_or_default();
        assert!(!vary.contains("Origin"), "the answer is the same for all: {vary}");
    }
    stream.send(
        "OPTIONS /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nOrigin: https://any.example\r\n\
         Access-Control-Request-Method: POST\r\n\r\n",
    );
    let answer = stream.read().expect(204);
    assert_eq!(answer.field("access-control-allow-methods"), Some("POST"));
    // What is no request is refused with it, too.
    let mut broken = server.connect();
    broken.send("nonsense\r\n\r\n");
    assert_eq!(origin_of(&broken.read().expect(400)), Some("*"));
}

#[test]
fn bad_settings_are_refused_at_boot() {
    for (env, word) in [
        (
            &[("CORS_ORIGINS", "*"), ("CORS_CREDENTIALS", "yes")][..],
            "CORS_CREDENTIALS",
        ),
        (&[("CORS_ORIGINS", "https://app.example/")], "CORS_ORIGINS"),
        (&[("CORS_ORIGINS", "null")], "CORS_ORIGINS"),
        (&[("SERVER_HEADER", "a b")], "SERVER_HEADER"),
    ] {
        let setup = env
            .iter()
            .fold(Setup::new(), |setup, (name, value)| setup.env(name, value));
        let ran = setup.run(&[]).expect(78);
        assert!(ran.err().contains(word), "{}", ran.err());
    }
}

#[test]
fn the_server_field_is_the_operators() {
    for (value, expected) in [("trip/2.1", Some("trip/2.1")), ("off", None)] {
        let server = cors(&[("SERVER_HEADER", value)]);
        let mut stream = server.connect();
        for path in ["/health", "/api/v1/stories", "/nowhere"] {
            assert_eq!(stream.get(path).field("server"), expected, "{path}");
        }
        assert_eq!(stream.tell(r#"{"location":"Rome"}"#).field("server"), expected);
        stream.send("nonsense\r\n\r\n");
        assert_eq!(stream.read().expect(400).field("server"), expected);
    }
}

#[test]
fn curl_keeps_what_it_has_by_tag_and_by_date() {
    let server = Server::start();
    let told = server.tell(r#"{"location":"Rome"}"#).expect(200);
    let url = server.url(told.field("content-location").unwrap());
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (tag, body) = (path("tag"), path("body"));
    let status = ["-w", "%{http_code}", "-o", &body];
    for (flags, expected) in [
        (vec!["--etag-save", &tag], "200"),
        (vec!["--etag-compare", &tag], "304"),
        (vec!["-z", &body, "-R"], "304"),
    ] {
        let args = [&status[..], &flags, &[&url]].concat();
        assert_eq!(String::from_utf8(curl(&args)).unwrap(), expected, "{flags:?}");
    }
}
