//! Content codings: the bytes that come out of them, what they cost, and real clients that read them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::http::{Connection, Response};
use common::tools::{curl, python};
use common::{Server, Setup, on_each_driver};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::Read;

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

fn decode(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        None => out.extend_from_slice(bytes),
        Some("gzip") => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        Some("br") => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap()),
        Some("zstd") => out = zstd::stream::decode_all(bytes).unwrap(),
        Some(other) => panic!("unknown coding {other}"),
    }
    out
}

fn decoded(answer: &Response) -> Vec<u8> {
    decode(answer.field("content-encoding"), &answer.body)
}

fn tell_in(stream: &mut Connection, body: &str, codings: &str) -> Response {
    stream.send(format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nAccept-Encoding: {codings}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    stream.read()
}

/// How many bodies the server has compressed so far, all workers.
fn compressions(server: &Server) -> f64 {
    let text = server.get("/metrics").expect(200).text();
    Exposition::parse(&text).sum("http_compressions_total", &[])
}

#[test]
fn what_is_decoded_is_what_was_meant() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let runner_config = Config {
            cases: 60,
            failure_persistence: None,
            ..Config::default()
        };
        let styles = prop::sample::select(vec!["adventure", "mystery", "folklore", "science"]);
        let lengths = prop::sample::select(vec!["short", "medium", "long"]);
        let places = prop::sample::select(vec![
            "Zürich",
            "São Paulo",
            "東京",
            "Nowhere at all",
            "\"quoted\" \\\\ place",
        ]);
        let codings = prop::collection::vec(
            (
                prop::sample::select(vec!["gzip", "br", "zstd", "identity", "*"]),
                0u8..=9,
            ),
            0..4,
        );
        TestRunner::new(runner_config)
            .run(
                &(places, styles, lengths, 0u8..3, codings),
                |(place, style, length, variation, codings)| {
                    let place = place.replace('\\', "\\\\").replace('"', "\\\"");
                    let body = format!(
                        r#"{{"location":"{place}","style":"{style}","length":"{length}","variation":{variation}}}"#
                    );
                    let list = codings
                        .iter()
                        .map(|(name, q)| format!("{name};q=0.{q}"))
                        .collect::<Vec<_>>()
                        .join(", ");
                    let mut stream = server.connect();
                    let plain = stream.tell(&body).expect(200);
                    prop_assert_eq!(plain.field("content-encoding"), None);
                    let coded = tell_in(&mut stream, &body, &list);
                    if coded.status == 406 {
                        return Ok(());
                    }
                    let coded = coded.expect(200);
                    if let Some(coding) = coded.field("content-encoding") {
                        prop_assert!(list.contains(coding) || list.contains('*'), "{} {}", coding, list);
                        prop_assert!(coded.body.len() < plain.body.len());
                    }
                    prop_assert_eq!(decoded(&coded), plain.body);
                    // The same from its own place, and again.
                    let path = coded.field("content-location").unwrap();
                    for _ in 0..2 {
                        let again = stream
                            .get_with(path, &format!("Accept-Encoding: {list}\r\n"))
                            .expect(200);
                        prop_assert_eq!(again.field("content-encoding"), coded.field("content-encoding"));
                        prop_assert_eq!(again.field("etag"), coded.field("etag"));
                        prop_assert_eq!(&again.body, &coded.body);
                    }
                    Ok(())
                },
            )
            .unwrap();
    });
}

#[test]
fn a_cached_story_costs_no_compression() {
    let server = Setup::new().env("WORKERS", "1").start();
    let mut stream = server.connect();
    let body = r#"{"location":"Bergen","length":"long"}"#;
    let plain = stream.tell(body).expect(200);
    let path = plain.field("content-location").unwrap().to_owned();
    let before = compressions(&server);
    for coding in CODINGS {
        let first = tell_in(&mut stream, body, coding).expect(200);
        assert_eq!(first.field("content-encoding"), Some(coding));
        assert_eq!(first.field("cache-status"), Some("roadtrip-api; hit"));
        for _ in 0..50 {
            assert_eq!(tell_in(&mut stream, body, coding).body, first.body);
            let by_id = stream
                .get_with(&path, &format!("Accept-Encoding: {coding}\r\n"))
                .expect(200);
            assert_eq!(by_id.body, first.body);
        }
    }
    // Once for each coding, in 303 answers.
    assert_eq!(compressions(&server) - before, 3.0);
    // A wish that is spelt otherwise leads to the same story and its own entry; a story from the store begins anew.
    let other = r#"{"location":"bergen ","length":"long"}"#;
    stream.tell(other).expect(200);
    for _ in 0..10 {
        assert_eq!(decoded(&tell_in(&mut stream, other, "br").expect(200)), plain.body);
    }
    assert!(compressions(&server) - before <= 4.0);
    // Nothing is compressed for who does not take it, or for what is not modified.
    let now = compressions(&server);
    stream
        .get_with(&path, "Accept-Encoding: gzip\r\nIf-None-Match: *\r\n")
        .expect(304);
    stream.get(&path).expect(200);
    stream.tell(body).expect(200);
    assert_eq!(compressions(&server), now);
}

#[test]
fn the_cache_counts_what_codings_take() {
    let server = Setup::new().env("WORKERS", "1").env("CACHE_BYTES", "256K").start();
    let mut stream = server.connect();
    for variation in 0..150 {
        let body = format!(r#"{{"location":"Rome","length":"medium","variation":{variation}}}"#);
        let plain = stream.tell(&body).expect(200).body;
        for coding in CODINGS {
            assert_eq!(decoded(&tell_in(&mut stream, &body, coding).expect(200)), plain);
        }
    }
    let status = server.json("/health/v2/status");
    use sonic_rs::JsonValueTrait;
    let cache = &status["components"]["worker"]["cache"];
    let bytes = cache["bytes"].as_u64().unwrap();
    let entries = cache["entries"].as_u64().unwrap();
    assert!(bytes <= 256 * 1024, "{bytes}");
    // 2.7 KB plain and 4.3 KB in the three codings: plain alone there would be room for 80.
    assert!((10..50).contains(&entries), "{entries} entries of {bytes} bytes");
}

#[test]
fn what_never_changes_is_compressed_once_for_all_workers() {
    let server = Setup::new().env("WORKERS", "2").start();
    let before = compressions(&server);
    for path in ["/openapi.json", "/docs"] {
        let plain = server.get(path).expect(200);
        for coding in CODINGS {
            let mut tags = Vec::new();
            for _ in 0..8 {
                // Connections of their own: on either worker.
                let answer = server
                    .connect()
                    .get_with(path, &format!("Accept-Encoding: {coding}\r\n"))
                    .expect(200);
                assert_eq!(answer.field("content-encoding"), Some(coding), "{path}");
                assert_eq!(decoded(&answer), plain.body);
                assert!(
                    answer.body.len() * 2 < plain.body.len(),
                    "{path} {coding}: {}",
                    answer.body.len()
                );
                tags.push(answer.field("etag").unwrap().to_owned());
            }
            tags.dedup();
            assert_eq!(tags.len(), 1);
            assert_ne!(Some(tags[0].as_str()), plain.field("etag"));
        }
    }
    assert_eq!(compressions(&server) - before, 6.0);
}

#[test]
fn long_answers_are_compressed_beside_the_workers() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).env("WORKERS", "1").start();
        let mut stream = server.connect();
        for variation in 0..60 {
            stream
                .tell(&format!(
                    r#"{{"location":"Rome","length":"long","variation":{variation}}}"#
                ))
                .expect(200);
        }
        let path = "/api/v1/stories?limit=60";
        let plain = stream.get(path).expect(200);
        assert!(plain.body.len() > 200_000, "{}", plain.body.len());
        // Many at once: some may be sent as they are where the queue is full, none may be wrong.
        std::thread::scope(|scope| {
            for turn in 0..12 {
                let (server, plain) = (&server, &plain);
                scope.spawn(move || {
                    let mut stream = server.connect();
                    for coding in CODINGS {
                        let answer = stream
                            .get_with(path, &format!("Accept-Encoding: {coding}\r\n"))
                            .expect(200);
                        assert_eq!(decoded(&answer), plain.body, "{turn} {coding}");
                        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
                    }
                });
            }
        });
        let alone = stream.get_with(path, "Accept-Encoding: gzip, br, zstd\r\n").expect(200);
        assert_eq!(alone.field("content-encoding"), Some("zstd"));
        // A client that leaves while its answer is compressed disturbs nobody.
        for _ in 0..20 {
            let mut gone = server.connect();
            gone.send(format!(
                "GET {path} HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n"
            ));
            drop(gone);
        }
        let after = stream.get_with(path, "Accept-Encoding: gzip\r\n").expect(200);
        assert_eq!(decoded(&after), plain.body);
        // Pipelined behind each other, in order.
        stream.send(format!(
            "GET {path} HTTP/1.1\r\nHost: t\r\nAccept-Encoding: br\r\n\r\nGET /health HTTP/1.1\r\nHost: t\r\n\r\n"
        ));
        assert_eq!(decoded(&stream.read().expect(200)), plain.body);
        assert_eq!(stream.read().expect(200).text(), r#"{"status":"healthy"}"#);
    });
}

#[test]
fn compression_can_be_switched_off() {
    let server = Setup::new().env("COMPRESSION", "off").start();
    let mut stream = server.connect();
    let body = r#"{"location":"Rome"}"#;
    for answer in [
        tell_in(&mut stream, body, "gzip, br, zstd"),
        stream.get_with("/docs", "Accept-Encoding: gzip\r\n"),
        stream.get_with("/metrics", "Accept-Encoding: gzip\r\n"),
    ] {
        assert_eq!(answer.expect(200).field("content-encoding"), None);
    }
    tell_in(&mut stream, body, "gzip, identity;q=0").expect(406);
    assert_eq!(compressions(&server), 0.0);
}

#[test]
fn short_answers_and_probes_stay_as_they_are() {
    let server = Server::start();
    let mut stream = server.connect();
    for path in [
        "/health",
        "/health/v2/live",
        "/health/v2/ready",
        "/health/v2/worker",
        "/api/v1/styles",
        "/nowhere",
    ] {
        let answer = stream.get_with(path, "Accept-Encoding: gzip, br, zstd\r\n");
        assert_eq!(answer.field("content-encoding"), None, "{path}");
    }
    // A long error is an answer like any other.
    let faults = format!(r#"{{"location":7,"interests":[{}]}}"#, vec!["7"; 400].join(","));
    let plain = stream.tell(&faults).expect(422);
    let coded = tell_in(&mut stream, &faults, "gzip").expect(422);
    assert_eq!(
        coded.field("content-encoding").is_some(),
        plain.body.len() >= 1024,
        "{} bytes",
        plain.body.len()
    );
}

#[test]
fn curl_and_python_read_it() {
    let server = Server::start();
    let body = r#"{"location":"Zürich","length":"long"}"#;
    let plain = server.tell(body).expect(200);
    let url = server.url("/api/v1/stories/generate");
    assert_eq!(curl(&["--compressed", "--json", body, &url]), plain.body);
    for coding in CODINGS {
        let field = format!("Accept-Encoding: {coding}");
        assert_eq!(
            curl(&["--compressed", "-H", &field, "--json", body, &url]),
            plain.body,
            "{coding}"
        );
        for path in ["/docs", "/openapi.json"] {
            let page = curl(&["--compressed", "-H", &field, &server.url(path)]);
            assert_eq!(page, server.get(path).body, "{coding} {path}");
        }
    }
    let program = r#"
import gzip, http.client, sys, urllib.request
base, path = sys.argv[1], sys.argv[2]
def get(path, coding):
    request = urllib.request.Request(base + path, headers={"Accept-Encoding": coding} if coding else {})
    with urllib.request.urlopen(request, timeout=50) as r:
        return r.read(), r.headers
for p in (path, "/docs", "/openapi.json"):
    plain, headers = get(p, None)
    assert headers["Content-Encoding"] is None and "Accept-Encoding" in headers["Vary"], dict(headers)
    coded, headers = get(p, "gzip")
    assert headers["Content-Encoding"] == "gzip", dict(headers)
    assert int(headers["Content-Length"]) == len(coded)
    assert gzip.decompress(coded) == plain, p
text, headers = get("/metrics", "gzip")
assert b"http_requests_total" in gzip.decompress(text)
print("ok")
"#;
    let told = python(program, &[&server.url(""), plain.field("content-location").unwrap()]);
    assert_eq!(told.trim(), "ok");
}
