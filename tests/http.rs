//! HTTP/1.1 on the wire, byte by byte, against the real server (RFC 9110, RFC 9112). On each driver.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::story_request;
use common::tools::curl;
use common::{Server, Setup, on_each_driver};
use sonic_rs::JsonValueTrait;

fn on_each(test: impl Fn(&Server)) {
    on_each_driver(|driver| test(&Setup::new().driver(driver).start()));
}

/// Sends bytes on a new connection and expects this refusal, well formed, and the end of the connection.
fn refused(server: &Server, bytes: impl AsRef<[u8]>, status: u16) {
    let mut stream = server.connect();
    stream.send(&bytes);
    let shown = String::from_utf8_lossy(&bytes.as_ref()[..bytes.as_ref().len().min(80)]).into_owned();
    let answer = stream
        .try_read(false)
        .unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json"),
        "{shown:?}"
    );
    assert_eq!(
        answer.json()["request_id"].as_str(),
        answer.field("x-request-id"),
        "{shown:?}"
    );
    assert!(answer.closes(), "{shown:?}: {answer:?}");
    assert!(stream.is_closed(), "{shown:?}: not closed");
}

#[test]
fn a_connection_serves_many_requests_in_turn() {
    on_each(|server| {
        let mut stream = server.connect();
        for _ in 0..200 {
            assert!(!stream.get("/health").expect(200).closes());
            stream.tell(r#"{"location":"Rome"}"#).expect(200);
            stream.get("/nowhere").expect(404);
        }
        let last = stream.get_with("/health", "Connection: close\r\n").expect(200);
        assert!(last.closes() && stream.is_closed());
        // HTTP/1.0 closes unless asked not to.
        let mut old = server.connect();
        old.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(old.read().expect(200).field("connection"), Some("keep-alive"));
        old.send("GET /health HTTP/1.0\r\n\r\n");
        old.read().expect(200);
        assert!(old.is_closed());
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_each(|server| {
        for batch in [1, 2, 17, 400] {
            let mut stream = server.connect();
            let mut bytes = String::new();
            for n in 0..batch {
                match n % 4 {
                    0 => bytes += &format!("GET /health HTTP/1.1\r\nHost: t\r\nX-Request-ID: n{n}\r\n\r\n"),
                    1 => {
                        let body = format!(r#"{{"location":"Bergen","variation":{}}}"#, n % 7);
                        bytes += &story_request(&body).replacen("\r\n", &format!("\r\nX-Request-ID: n{n}\r\n"), 1);
                    }
                    2 => bytes += &format!("GET /nowhere/{n} HTTP/1.1\r\nHost: t\r\nX-Request-ID: n{n}\r\n\r\n"),
                    _ => bytes += &format!("HEAD /health/v2/live HTTP/1.1\r\nHost: t\r\nX-Request-ID: n{n}\r\n\r\n"),
                }
            }
            let mut sending = stream.stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || std::io::Write::write_all(&mut sending, bytes.as_bytes()).unwrap());
                for n in 0..batch {
                    let answer = stream.try_read(n % 4 == 3).unwrap();
                    assert_eq!(answer.field("x-request-id"), Some(format!("n{n}").as_str()));
                    assert_eq!(answer.status, if n % 4 == 2 { 404 } else { 200 });
                }
            });
            stream.get("/health").expect(200);
        }
    });
}

#[test]
fn one_batch_of_pipelined_requests_is_answered_with_one_write() {
    // On epoll a write is a system call that strace sees; on io_uring it is none. With -D the server stays our child
    // and strace is its grandchild, which also lifts Yama's ban on tracing strangers.
    let folder = tempfile::TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    let calls = "trace=sendto,sendmsg,write,writev";
    let words = [
        "strace",
        "-D",
        "-f",
        "-q",
        "-e",
        calls,
        "-o",
        trace.to_str().unwrap(),
        "--",
    ];
    let mut server = Setup::new().driver("epoll").env("WORKERS", "1").wrapped(words).start();
    let mut stream = server.connect();
    stream.get("/health").expect(200);
    stream.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n".repeat(50));
    for _ in 0..50 {
        stream.read().expect(200);
    }
    server.stop();
    let read = || std::fs::read_to_string(&trace).unwrap_or_default();
    // The pid is padded to a column.
    let pid = server.pid().to_string();
    let of_it = |line: &str| line.split_whitespace().next() == Some(&pid) && line.ends_with("+++ exited with 0 +++");
    common::until("strace to end", || read().lines().any(of_it));
    let text = read();
    // One for the first request, one for the fifty.
    let writes = text.lines().filter(|line| line.contains("HTTP/1.1 200")).count();
    assert_eq!(writes, 2, "{text}");
}

#[test]
fn head_is_get_without_its_body() {
    on_each(|server| {
        let mut stream = server.connect();
        let id = stream.tell(r#"{"location":"Rome"}"#).expect(200).json();
        let story = format!("/api/v1/stories/{}", id["id"].as_str().unwrap());
        for path in [
            "/health",
            "/api/v1/styles",
            "/api/v1/stories",
            "/openapi.json",
            "/docs",
            &story,
            "/nowhere",
        ] {
            let get = stream.get(path);
            stream.send(format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
            let head = stream.read_head();
            assert_eq!(head.status, get.status, "{path}");
            for field in ["content-type", "content-length", "etag", "cache-control"] {
                if path != "/nowhere" || field != "content-length" {
                    assert_eq!(head.field(field), get.field(field), "{field} of {path}");
                }
            }
        }
        stream.get("/health").expect(200);
        let shown = curl(&["-I", &server.url("/health")]);
        assert!(shown.starts_with(b"HTTP/1.1 200"));
    });
}

#[test]
fn paths_and_methods_that_are_not_served() {
    on_each(|server| {
        let mut stream = server.connect();
        for path in [
            "/",
            "/health/v3",
            "/api/v1/stories/a/b",
            "//health",
            "/api/v1/stories/generate/",
        ] {
            let problem = stream.get(path).expect(404);
            assert_eq!(problem.json()["status"].as_u64(), Some(404), "{path}");
        }
        for (method, path, allow) in [
            ("GET", "/api/v1/stories/generate", "POST, OPTIONS"),
            ("DELETE", "/api/v1/stories", "GET, HEAD, OPTIONS"),
            ("PUT", "/health", "GET, HEAD, OPTIONS"),
            ("GET", "/health/v2/shutdown/graceful", "POST, OPTIONS"),
            ("POST", "/metrics", "GET, HEAD, OPTIONS"),
        ] {
            stream.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"
            ));
            assert_eq!(stream.read().expect(405).field("allow"), Some(allow), "{method} {path}");
            stream.send(format!("OPTIONS {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
            assert_eq!(stream.read().expect(204).field("allow"), Some(allow));
        }
        stream.get("/health").expect(200);
    });
}

#[test]
fn what_is_no_request_is_refused() {
    on_each(|server| {
        for method in ["BREW", "CONNECT", "get"] {
            refused(server, format!("{method} /health HTTP/1.1\r\nHost: t\r\n\r\n"), 501);
        }
        refused(server, "GET /health HTTP/2.0\r\nHost: t\r\n\r\n", 505);
        refused(server, "GET /health HTTP/3.7\r\nHost: t\r\n\r\n", 505);
        refused(
            server,
            format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "x".repeat(9000)),
            414,
        );
        refused(
            server,
            format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(17_000)),
            431,
        );
        refused(
            server,
            format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "A: b\r\n".repeat(65)),
            431,
        );
        for bad in [
            "GET /health HTTP/1.1\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /health\r\n\r\n",
            "nonsense\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: t\r\nNo colon\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: t\r\nSpace : x\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: t\r\n folded\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: t\r\nA: \0\r\n\r\n",
            "GET /he alth HTTP/1.1\r\nHost: t\r\n\r\n",
            "POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\n",
            "POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
            "POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /health HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "POST /health HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n",
        ] {
            refused(server, bad, 400);
        }
        refused(
            server,
            "POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        );
        refused(
            server,
            "POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 65537\r\n\r\n",
            413,
        );
        refused(
            server,
            "POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n",
            413,
        );
        // Requests before the bad one are answered; nothing behind it is.
        let mut stream = server.connect();
        stream.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\nnonsense\r\n\r\nGET /health HTTP/1.1\r\nHost: t\r\n\r\n");
        stream.read().expect(200);
        stream.read().expect(400);
        assert!(stream.is_closed());
    });
}

#[test]
fn bodies_come_in_any_shape() {
    on_each(|server| {
        let plain = server.tell(r#"{"location":"Rome"}"#).expect(200).body;
        let mut stream = server.connect();
        let head = "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "13\r\n{\"location\":\"Rome\"}\r\n0\r\n\r\n",
            "1\r\n{\r\nB;ext=\"a;b\"\r\n\"location\":\r\n007\r\n\"Rome\"}\r\n0;last\r\nTrailer: x\r\n\r\n",
        ] {
            stream.send(format!("{head}{body}"));
            assert_eq!(stream.read().expect(200).body, plain);
            for byte in format!("{head}{body}").bytes() {
                stream.send([byte]);
            }
            assert_eq!(stream.read().expect(200).body, plain);
        }
        // As large as allowed: white space around the JSON.
        let large = format!("{{\"location\":\"Rome\"}}{}", " ".repeat(64 * 1024 - 19));
        assert_eq!(stream.tell(&large).expect(200).body, plain);
        // curl's own chunks and its own Expect.
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("body");
        std::fs::write(&file, &large).unwrap();
        let data = format!("@{}", file.display());
        let url = server.url("/api/v1/stories/generate");
        for field in ["Transfer-Encoding: chunked", "Expect: 100-continue"] {
            let field = ["-H", field, "-H", "Content-Type: application/json"];
            let answer = curl(&[&field[..], &["--expect100-timeout", "40", "--data-binary", &data, &url]].concat());
            assert_eq!(answer, plain);
        }
    });
}

#[test]
fn a_client_that_expects_100_waits_for_it() {
    on_each(|server| {
        let mut stream = server.connect();
        let body = r#"{"location":"Rome"}"#;
        for _ in 0..3 {
            let head = story_request(body).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
            stream.send(&head[..head.len() - body.len()]);
            assert_eq!(stream.read().status, 100);
            stream.send(body);
            stream.read().expect(200);
        }
        // What will be refused is refused before the body.
        stream.send("POST /x HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
        stream.read().expect(413);
        assert!(stream.is_closed());
    });
}

#[test]
fn every_answer_says_who_answered_what() {
    on_each(|server| {
        let mut stream = server.connect();
        let minted = stream
            .get("/health")
            .expect(200)
            .field("x-request-id")
            .unwrap()
            .to_owned();
        assert!(
            minted.len() == 32 && minted.bytes().all(|b| b.is_ascii_hexdigit()),
            "{minted}"
        );
        assert_ne!(stream.get("/health").field("x-request-id"), Some(minted.as_str()));
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
        for path in ["/health", "/nowhere", "/api/v1/stories", "/health/v2/ready"] {
            let honoured = stream.get_with(path, "X-Request-ID: abc-123_x\r\n");
            assert_eq!(honoured.field("x-request-id"), Some("abc-123_x"), "{path}");
            let traced = stream.get_with(path, &parent);
            assert_eq!(traced.field("x-request-id"), Some(trace));
            let both = stream.get_with(path, &format!("{parent}X-Request-ID: own\r\n"));
            assert_eq!(both.field("x-request-id"), Some("own"));
            for bad in ["a b", "x\"y", "<script>", &"x".repeat(129), "é"] {
                let refused = stream.get_with(path, &format!("X-Request-ID: {bad}\r\n"));
                assert_eq!(refused.field("x-request-id").unwrap().len(), 32, "{bad} was honoured");
            }
            let answer = stream.get(path);
            assert!(answer.field("x-worker-id").unwrap().ends_with(['0', '1']), "{answer:?}");
            assert!(answer.field("date").unwrap().ends_with(" GMT"));
        }
        let worker = stream.get("/health/v2/worker");
        assert_eq!(worker.json()["worker_id"].as_str(), worker.field("x-worker-id"));
    });
}
