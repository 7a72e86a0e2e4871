//! The same requests over HTTP/1.1, over HTTP/2 in the clear, and over both in TLS: the same answers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::tls::{Authority, sealed};
use common::tools::{curl, run};
use common::{Server, Setup, on_each_driver, until};
use std::path::Path;
use std::process::{Command, Stdio};

/// Status, fields in order of their names, and body.
#[derive(Debug, PartialEq, Eq)]
struct Answer(String, Vec<String>, Vec<u8>);

/// What speaks of the connection, or of the moment.
const NOT_COMPARED: [&str; 5] = ["connection", "transfer-encoding", "keep-alive", "date", "age"];

const NAME: &str = "the-same-for-all";

fn ask(folder: &Path, base: &str, version: &str, path: &str, args: &[&str]) -> Answer {
    let (head, body) = (folder.join("head"), folder.join("body"));
    let _ = std::fs::remove_file(&body);
    let url = format!("{base}{path}");
    let own = [
        version,
        "-k",
        "-H",
        &format!("X-Request-ID: {NAME}"),
        // Else each request has a trace id of its own, which bodies of errors name.
        "-H",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "-H",
        "Expect:",
        "-D",
        head.to_str().unwrap(),
        "-o",
        body.to_str().unwrap(),
        "-w",
        "%{http_version}",
        &url,
    ];
    let spoken = curl(&[&own, args].concat());
    let wanted: &[u8] = if version == "--http1.1" { b"1.1" } else { b"2" };
    assert_eq!(spoken, wanted, "{version} {url}");
    let text = std::fs::read_to_string(head).unwrap();
    let mut lines = text.trim_end().lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let mut fields: Vec<String> = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            let name = name.to_lowercase();
            (!NOT_COMPARED.contains(&name.as_str())).then(|| format!("{name}: {value}"))
        })
        .collect();
    fields.sort();
    // With -I, curl puts the fields there.
    let mut body = match args.contains(&"-I") {
        true => Vec::new(),
        false => std::fs::read(&body).unwrap_or_default(),
    };
    // What the reader of heads refuses gets a name of the server's own.
    for field in &mut fields {
        if let Some(id) = field.strip_prefix("x-request-id: ")
            && id != NAME
        {
            body = String::from_utf8(body).unwrap().replace(id, NAME).into_bytes();
            *field = format!("x-request-id: {}", "x".repeat(id.len()));
        }
    }
    Answer(status, fields, body)
}

const STORY: &str = "/api/v1/stories/generate";
const JSON: &str = "Content-Type: application/json";
const ROME: &str = r#"{"location":"Rome","length":"long"}"#;

#[test]
fn the_same_request_has_the_same_answer_in_both_versions() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| format!("@{}", folder.path().join(name).display());
    std::fs::write(folder.path().join("big"), "x".repeat(65_537)).unwrap();
    std::fs::write(folder.path().join("full"), " ".repeat(65_536)).unwrap();
    let (big, full) = (path("big"), path("full"));
    let cases: Vec<(&str, Vec<&str>)> = vec![
        ("/health", vec![]),
        ("/health/", vec!["-I"]),
        ("/health/v2/ready", vec!["-I"]),
        ("/docs", vec![]),
        ("/docs", vec!["-H", "Accept-Encoding: gzip"]),
        ("/docs", vec!["-H", "Accept-Encoding: br, gzip;q=0.1", "-I"]),
        ("/openapi.json", vec!["-H", "Accept-Encoding: zstd"]),
        ("/openapi.json", vec!["-H", "Accept-Encoding: identity;q=0, *;q=0"]),
        ("/openapi.json", vec!["-H", "Range: bytes=0-9"]),
        ("/openapi.json", vec!["-H", "If-None-Match: *"]),
        ("/openapi.json", vec!["-H", "If-None-Match: *", "-I"]),
        ("/openapi.json", vec!["-H", "If-Match: \"other\""]),
        ("/api/v1/styles", vec!["-H", "Origin: https://a.example"]),
        ("/api/v1/styles", vec!["-H", "Origin: https://b.example"]),
        ("/api/v1/styles", vec!["-H", "Accept: image/png"]),
        ("/api/v1/stories?limit=1", vec![]),
        ("/api/v1/stories?limit=x", vec![]),
        ("/api/v1/stories/nothing", vec![]),
        ("/nothing", vec![]),
        ("/nothing", vec!["-I"]),
        (STORY, vec!["-X", "DELETE"]),
        (STORY, vec!["-X", "BREW"]),
        (STORY, vec!["-X", "OPTIONS"]),
        (
            STORY,
            vec![
                "-X",
                "OPTIONS",
                "-H",
                "Origin: https://a.example",
                "-H",
                "Access-Control-Request-Method: POST",
            ],
        ),
        (STORY, vec!["-H", JSON, "-d", ROME]),
        (
            STORY,
            vec!["-H", JSON, "-d", ROME, "-H", "Accept-Encoding: zstd, br, gzip"],
        ),
        (STORY, vec!["-H", JSON, "-d", ROME, "-H", "Accept: text/event-stream"]),
        (STORY, vec!["-H", JSON, "-d", ROME, "-H", "Accept: image/png"]),
        (STORY, vec!["-H", JSON, "-d", "{}"]),
        (STORY, vec!["-H", JSON, "-d", "{"]),
        (STORY, vec!["-H", "Content-Type: text/plain", "-d", ROME]),
        (STORY, vec!["-H", JSON, "-H", "Content-Encoding: gzip", "-d", ROME]),
        (STORY, vec!["-H", JSON, "--data-binary", &full]),
        (STORY, vec!["-H", JSON, "--data-binary", &big]),
        ("/health", vec!["-X", "GET", "-d", "a body that nobody reads"]),
    ];
    on_each_driver(|driver| {
        let authority = Authority::new();
        let setup = || {
            Setup::new()
                .driver(driver)
                .env("WORKERS", "1")
                .env("CORS_ORIGINS", "https://a.example")
                .env("RATE_LIMIT_ENABLED", "false")
        };
        let plain = setup().start();
        let secret = sealed(setup(), &authority.issue("trips", "p256")).start();
        let mut differing = Vec::new();
        for (base, newer) in [
            (plain.url(""), "--http2-prior-knowledge"),
            (format!("https://127.0.0.1:{}", secret.port), "--http2"),
        ] {
            // Told, so that both find it kept.
            ask(folder.path(), &base, newer, STORY, &["-H", JSON, "-d", ROME]);
            for (path, args) in &cases {
                let one = ask(folder.path(), &base, "--http1.1", path, args);
                let two = ask(folder.path(), &base, newer, path, args);
                if one != two {
                    let shown = |answer: &Answer| format!("{} {:?} {} bytes", answer.0, answer.1, answer.2.len());
                    differing.push(format!("{base} {path} {args:?}\n {}\n {}", shown(&one), shown(&two)));
                }
            }
        }
        assert!(differing.is_empty(), "{}", differing.join("\n"));
        for server in [&plain, &secret] {
            assert!(!server.all_said().contains("panicked"));
        }
    });
}

fn https(server: &Server, path: &str) -> String {
    format!("https://127.0.0.1:{}{path}", server.port)
}

#[test]
fn many_streams_over_tls_are_all_answered() {
    on_each_driver(|driver| {
        let authority = Authority::new();
        let mut server = sealed(Setup::new().driver(driver), &authority.issue("trips", "p256")).start();
        let loads: [&[&str]; 2] = [
            &["-n", "3000", "-c", "10", "-m", "50", &https(&server, "/health/v2/live")],
            // Small windows, so that records are partly filled and a page takes many turns.
            &[
                "-n",
                "200",
                "-c",
                "3",
                "-m",
                "10",
                "-w",
                "12",
                "-W",
                "13",
                &https(&server, "/docs"),
            ],
        ];
        for args in loads {
            let out = run("h2load", args).expect(0).out();
            let all = args[1];
            let line = format!("{all} done, {all} succeeded, 0 failed, 0 errored, 0 timeout");
            assert!(out.contains(&line) && out.contains("Application protocol: h2"), "{out}");
        }
        let out = run("nghttp", &["-ans", "-m", "5", &https(&server, "/docs")])
            .expect(0)
            .out();
        assert_eq!(out.matches("  200  ").count(), 5, "{out}");
        let metrics = || {
            let text = curl(&["-k", "--http2", &https(&server, "/metrics")]);
            Exposition::parse(&String::from_utf8(text).unwrap())
        };
        until("the clients' connections to be gone", || {
            metrics().sum("http_connections_open", &[]) <= 1.0
        });
        assert_eq!(metrics().sum("worker_active_requests", &[]), 1.0, "this one");
        // Told to end under load, it finishes what is begun: h2load says so of each stream that got a head.
        let mut load = Command::new("h2load")
            .args(["-D", "20", "-c", "4", "-m", "20", &https(&server, "/docs")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the load to begin", || {
            metrics().sum("http_connections_open", &[]) >= 5.0
        });
        server.stop();
        let _ = load.kill();
        load.wait().unwrap();
        assert!(!server.all_said().contains("panicked"));
    });
}
