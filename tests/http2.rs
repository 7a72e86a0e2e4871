//! HTTP/2 with the clients that people use: curl, nghttp, h2load. On each driver.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::frames::{self, Frames};
use common::tools::run;
use common::{Server, Setup, on_each_driver, until};
use sonic_rs::JsonValueTrait;

fn on_each(test: impl Fn(&Server)) {
    on_each_driver(|driver| test(&Setup::new().driver(driver).start()));
}

/// curl over HTTP/2: the body, and behind it version, status and type.
fn curl(server: &Server, path: &str, args: &[&str]) -> (String, String) {
    let url = server.url(path);
    let form = "\n%{http_version} %{http_code} %{content_type}";
    let args = [&["-sS", "--http2-prior-knowledge", "-w", form, &url], args].concat();
    let out = run("curl", &args).expect(0).out();
    let (body, tail) = out.rsplit_once('\n').unwrap();
    (body.to_owned(), tail.to_owned())
}

const STORY: &str = "/api/v1/stories/generate";

#[test]
fn curl_sees_the_same_over_both_versions() {
    on_each(|server| {
        let json = ["-H", "Content-Type: application/json"];
        let tell = |body: &str| curl(server, STORY, &[&json[..], &["-d", body]].concat());
        let (told, tail) = tell(r#"{"location":"Rome"}"#);
        assert_eq!(tail, "2 200 application/json");
        // Kept by then: the same bytes.
        let plain = server.tell(r#"{"location":"Rome"}"#).expect(200);
        assert_eq!(told, plain.text());
        let id = plain.json()["id"].as_str().unwrap().to_owned();
        for path in [
            "/docs",
            "/openapi.json",
            "/health",
            "/api/v1/styles",
            &format!("/api/v1/stories/{id}"),
        ] {
            let (body, tail) = curl(server, path, &[]);
            let plain = server.get(path).expect(200);
            assert!(body == plain.text(), "{path}");
            assert_eq!(
                tail,
                format!("2 200 {}", plain.field("content-type").unwrap()),
                "{path}"
            );
        }
        // Fields, too.
        let (head, _) = curl(server, &format!("/api/v1/stories/{id}"), &["-I"]);
        let etag = server
            .get(&format!("/api/v1/stories/{id}"))
            .field("etag")
            .unwrap()
            .to_owned();
        assert!(head.contains(&format!("etag: {etag}")), "{head}");
        assert!(
            head.contains(&format!("content-length: {}", plain.body.len())),
            "{head}"
        );
        for odd in ["connection:", "transfer-encoding:", "keep-alive:"] {
            assert!(!head.contains(odd), "{head}");
        }
        let (body, tail) = curl(
            server,
            &format!("/api/v1/stories/{id}"),
            &["-H", &format!("If-None-Match: {etag}")],
        );
        assert!(body.is_empty() && tail.starts_with("2 304 "), "{tail}: {body}");
        // A story as it is told, with Expect, and what is refused.
        let (events, tail) = curl(
            server,
            STORY,
            &[
                &json[..],
                &["-H", "Accept: text/event-stream", "-d", r#"{"location":"Oslo"}"#],
            ]
            .concat(),
        );
        assert_eq!(tail, "2 200 text/event-stream");
        assert!(
            events.contains("event: token") && events.contains("event: story"),
            "{events}"
        );
        let waits = ["-H", "Expect: 100-continue", "-d", r#"{"location":"Rome"}"#];
        assert_eq!(curl(server, STORY, &[&json[..], &waits].concat()).0, told);
        let big = "x".repeat(70_000);
        let (problem, tail) = tell(&big);
        assert_eq!(tail, "2 413 application/problem+json");
        assert!(problem.contains("the body is too large"), "{problem}");
        assert_eq!(tell("{}").1, "2 422 application/problem+json");
        assert_eq!(curl(server, "/nothing", &[]).1, "2 404 application/problem+json");
        assert_eq!(
            curl(server, STORY, &["-X", "DELETE"]).1,
            "2 405 application/problem+json"
        );
        // RFC 9113 section 3.1: an offer of h2c is not taken up.
        let url = server.url("/health");
        let out = run("curl", &["-sS", "--http2", "-w", "%{http_version}", &url])
            .expect(0)
            .out();
        assert!(out.ends_with("1.1"), "{out}");
    });
}

#[test]
fn many_streams_and_connections_are_all_answered() {
    on_each(|server| {
        server.tell(r#"{"location":"Rome"}"#).expect(200);
        let dir = tempfile::TempDir::new().unwrap();
        let body = dir.path().join("body");
        std::fs::write(&body, r#"{"location":"Rome"}"#).unwrap();
        let body = body.to_str().unwrap();
        let (live, story) = (server.url("/health/v2/live"), server.url(STORY));
        let json = "content-type: application/json";
        let loads: [&[&str]; 3] = [
            &["-n", "4000", "-c", "10", "-m", "100", &live],
            &["-n", "1000", "-c", "10", "-m", "20", "-d", body, "-H", json, &story],
            // Windows of 4 KiB and 8 KiB: a page takes many turns.
            &[
                "-n",
                "300",
                "-c",
                "3",
                "-m",
                "10",
                "-w",
                "12",
                "-W",
                "13",
                &server.url("/docs"),
            ],
        ];
        for args in loads {
            let out = run("h2load", args).expect(0).out();
            let all = args[1];
            let line =
                format!("{all} total, {all} started, {all} done, {all} succeeded, 0 failed, 0 errored, 0 timeout");
            assert!(out.contains(&line), "{out}");
            assert!(out.contains(&format!("{all} 2xx")), "{out}");
        }
        // Counted as any other: the connections, which are gone, and the requests.
        let sum = |text: &str, name: &str, with: &str| -> u64 {
            text.lines()
                .filter(|line| line.starts_with(name) && line.contains(with))
                .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
                .sum()
        };
        until("the clients' connections to be gone", || {
            sum(&server.get("/metrics").text(), "http_connections_open", "") == 1
        });
        let metrics = server.get("/metrics").expect(200).text();
        assert_eq!(
            sum(&metrics, "http_requests_total{", "/health/v2/live"),
            4000,
            "{metrics}"
        );
    });
}

#[test]
fn nghttp_gets_a_page_with_trailers_behind_its_request() {
    on_each(|server| {
        let dir = tempfile::TempDir::new().unwrap();
        let body = dir.path().join("body");
        std::fs::write(&body, r#"{"location":"Rome","length":"long"}"#).unwrap();
        let url = server.url(STORY);
        let args = [
            "-H",
            "content-type: application/json",
            "--trailer",
            "x-checksum: 1",
            "-d",
            body.to_str().unwrap(),
            // Its windows are of 1 KiB.
            "-w10",
            "-W10",
            &url,
        ];
        let told = run("nghttp", &args).expect(0).out();
        assert_eq!(
            told,
            server.tell(r#"{"location":"Rome","length":"long"}"#).expect(200).text()
        );
        // Verbose, it says what the server sent: no frame that is an error.
        let out = run("nghttp", &["-nv", "-m", "20", &server.url("/health/v2/live")])
            .expect(0)
            .out();
        assert_eq!(out.matches(":status: 200").count(), 20, "{out}");
        assert!(
            !out.contains("recv RST_STREAM") && !out.contains("recv GOAWAY"),
            "{out}"
        );
    });
}

#[test]
fn a_server_that_stops_finishes_its_streams() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).start();
        let mut busy = Frames::open(server.addr());
        let fields = [("content-type", "application/json"), ("accept", "text/event-stream")];
        let head = frames::request("POST", STORY, &fields);
        let body = br#"{"location":"Oslo","length":"long"}"#;
        // Its head is there, its body is not.
        busy.send(&[&frames::frame(frames::HEADERS, frames::END_HEADERS, 1, head)]);
        busy.send(&[&frames::frame(frames::PING, 0, 0, [0; 8])]);
        busy.find(frames::PING).unwrap();
        let mut idle = Frames::open(server.addr());
        idle.find(frames::SETTINGS).unwrap();
        server.terminate();
        assert_eq!(idle.farewell(), Some(0));
        busy.send(&[&frames::frame(frames::DATA, frames::END_STREAM, 1, body)]);
        let (_, told) = busy.answer(1);
        assert!(String::from_utf8(told).unwrap().contains("event: story"));
        assert_eq!(busy.farewell(), Some(0));
        drop((busy, idle));
        assert_eq!(server.wait().code(), Some(0));
    });
}

#[test]
fn the_access_log_has_them() {
    let mut server = Setup::new().env("ACCESS_LOG", "all").start();
    curl(&server, "/health/v2/live?over=2", &[]);
    server.stop();
    let line = server.log.find(|line| line["target"].as_str() == Some("access"));
    assert!(line.is_some(), "{}", server.all_said());
}
