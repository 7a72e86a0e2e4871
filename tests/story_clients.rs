//! Stories to clients of other kinds: as a stream of events, to another language's HTTP library, to many at once.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::tools::{curl, python};
use common::{Server, Setup, on_each_driver};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::collections::BTreeSet;

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}: {value:?}"))
}

/// Event name and data of each event.
fn events(stream: &str) -> Vec<(String, String)> {
    assert!(stream.ends_with("\n\n"), "the last event is not whole");
    let read = |event: &str| {
        let (name, data) = event.split_once('\n').expect(event);
        (
            name.strip_prefix("event: ").expect(event).to_owned(),
            data.strip_prefix("data: ").expect(event).to_owned(),
        )
    };
    stream.trim_end_matches('\n').split("\n\n").map(read).collect()
}

#[test]
fn events_carry_the_text_and_then_the_same_bytes() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        for length in ["short", "long"] {
            let body = format!(r#"{{"location":"Zürich","style":"folklore","length":"{length}"}}"#);
            let url = server.url("/api/v1/stories/generate");
            let ask = ["-N", "-H", "Accept: text/event-stream", "--json", &body, &url];
            // Told anew, then from a cache or the store: the events are the same.
            let first = String::from_utf8(curl(&ask)).unwrap();
            for _ in 0..4 {
                assert_eq!(String::from_utf8(curl(&ask)).unwrap(), first);
            }
            let mut all = events(&first);
            let (last, whole) = all.pop().unwrap();
            assert_eq!(last, "story");
            let plain = server.tell(&body).expect(200);
            assert_eq!(whole.as_bytes(), plain.body);
            let mut joined = String::new();
            for (name, data) in &all {
                assert_eq!(name, "token");
                joined.push_str(text(&sonic_rs::from_str::<Value>(data).unwrap(), "text"));
            }
            assert!(all.len() > 5);
            assert_eq!(joined, text(&plain.json(), "story"));
        }
        // A keep-alive connection is in step after a stream, and the answer says what it is.
        let mut stream = server.connect();
        let body = r#"{"location":"Zürich","length":"short"}"#;
        stream.send(format!(
            "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let streamed = stream.read().expect(200);
        assert_eq!(streamed.field("content-type"), Some("text/event-stream"));
        assert!(streamed.field("x-request-id").is_some() && streamed.field("x-worker-id").is_some());
        assert!(streamed.chunks.len() > 3, "the text did not come in pieces");
        stream.get("/health").expect(200);
        // Refusals stay plain problems.
        stream.send(
            "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\nContent-Length: 2\r\n\r\n{}",
        );
        let refused = stream.read().expect(422);
        assert_eq!(refused.field("content-type"), Some("application/problem+json"));
        // A client of HTTP/1.0 knows no chunks: the end of the connection ends the stream.
        stream.send(format!(
            "POST /api/v1/stories/generate HTTP/1.0\r\nAccept: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut stream.stream, &mut rest).unwrap();
        let rest = String::from_utf8(rest).unwrap();
        let (head, stream) = rest.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200") && !head.to_lowercase().contains("transfer-encoding"),
            "{head}"
        );
        assert_eq!(events(stream).last().unwrap().0, "story");
    });
}

#[test]
fn a_python_client_with_its_own_parser_gets_the_same() {
    let server = Server::start();
    let program = r#"
import http.client, json, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=50)
seen = set()
for turn in range(20):
    c.request("POST", "/api/v1/stories/generate", json.dumps({"location": "Nairobi", "style": "nature"}),
              {"Content-Type": "application/json", "X-Request-ID": "py-%d" % turn})
    r = c.getresponse()
    body = r.read()
    assert r.status == 200, (r.status, body)
    assert r.getheader("X-Request-ID") == "py-%d" % turn
    seen.add(body)
    c.request("GET", "/api/v1/stories/" + json.loads(body)["id"])
    r = c.getresponse()
    assert r.read() == body
    c.request("POST", "/api/v1/stories/generate", iter([b'{"location":', b'"Nairobi",', b'"style":"nature"}']),
              {"Content-Type": "application/json"}, encode_chunked=True)
    r = c.getresponse()
    assert r.read() == body, "a chunked request has another answer"
assert len(seen) == 1, len(seen)
print(json.loads(seen.pop())["location"]["country"])
"#;
    assert_eq!(python(program, &[&server.port.to_string()]).trim(), "Kenya");
}

#[test]
fn equal_requests_at_one_time_get_one_story() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let bodies: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..24)
                .map(|_| {
                    scope.spawn(|| {
                        server
                            .tell(r#"{"location":"Reykjavik","style":"science"}"#)
                            .expect(200)
                            .body
                    })
                })
                .collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(bodies.len(), 1, "the same request was answered with different stories");
        let listed = server.json("/api/v1/stories");
        assert_eq!(listed["stories"].as_array().unwrap().len(), 1);
    });
}
