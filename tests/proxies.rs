//! What trusted proxies say of clients: PROXY headers and forwarding fields.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::ports::{HEALTHY, exchange, from, logged, request, unix};
use common::tools::{curl, run};
use common::{Setup, on_each_driver};
use std::io::Write;
use std::time::Duration;
use tempfile::TempDir;

/// A header of version 2 that tells of 192.0.2.7 port 4321, with a TLV.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x11\xc0\x00\x02\x07\xc6\x33\x64\x01\x10\xe1\x01\xbb\x04\x00\x02xx";

const V1: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 443\r\n";

#[test]
fn proxy_headers_hold_at_every_split_point() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("TRUSTED_PROXIES", "127.0.0.3")
            .env("PROXY_PROTOCOL", "on")
            .env("ACCESS_LOG", "all")
            .start();
        for (name, header, client) in [("v1", V1, "2001:db8::7"), ("v2", V2, "192.0.2.7")] {
            std::thread::scope(|scope| {
                // At most this much behind the header: the last splits part the request.
                for split in 0..=header.len() + 3 {
                    let server = &server;
                    scope.spawn(move || {
                        let id = format!("{name}-{split}");
                        let bytes = [header, request(&id, "").as_bytes()].concat();
                        let mut stream = from("127.0.0.3", server.addr());
                        stream.write_all(&bytes[..split]).unwrap();
                        std::thread::sleep(Duration::from_millis(20));
                        let answer = exchange(stream, &bytes[split..]);
                        assert!(answer.ends_with(HEALTHY), "{id}: {answer}");
                        assert_eq!(logged(server, &id), client, "{id}");
                    });
                }
            });
            // One byte at a time.
            let id = format!("{name}-bytes");
            let mut stream = from("127.0.0.3", server.addr());
            for byte in [header, request(&id, "").as_bytes()].concat() {
                stream.write_all(&[byte]).unwrap();
            }
            assert!(exchange(stream, b"").ends_with(HEALTHY));
            assert_eq!(logged(&server, &id), client);
        }
    });
}

#[test]
fn only_trusted_proxies_introduce_and_they_must() {
    on_each_driver(|driver| {
        let setup = || {
            Setup::new()
                .driver(driver)
                .env("TRUSTED_PROXIES", "127.0.0.3")
                .env("PROXY_PROTOCOL", "on")
                .env("ACCESS_LOG", "all")
                .env("HEAD_TIMEOUT", "1s")
        };
        let server = setup().start();
        let refused = || Exposition::parse(&server.get("/metrics").text()).sum("http_proxy_headers_refused_total", &[]);
        // Anybody else is an ordinary client, for whom a header is no request.
        assert!(exchange(from("127.0.0.2", server.addr()), request("plain", "").as_bytes()).ends_with(HEALTHY));
        assert_eq!(logged(&server, "plain"), "127.0.0.2");
        // By its method that is none of HTTP's, or by its NUL.
        for (header, status) in [(V1, 501), (V2, 400)] {
            let answer = exchange(
                from("127.0.0.2", server.addr()),
                &[header, request("forged", "").as_bytes()].concat(),
            );
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        assert_eq!(refused(), 0.0);
        // A proxy without a header, or with a bad one, gets no answer at all; a silent one neither.
        let bad = V2
            .iter()
            .copied()
            .map(|byte| if byte == 0x11 { 0x12 } else { byte })
            .collect::<Vec<_>>();
        for (count, bytes) in [
            request("bare", "").as_bytes(),
            &bad,
            b"PROXY TCP4 x\r\n",
            b"PROXY TCP4",
            b"",
        ]
        .iter()
        .enumerate()
        {
            let answer = exchange(from("127.0.0.3", server.addr()), bytes);
            assert_eq!(answer, "", "{:?}", String::from_utf8_lossy(bytes));
            assert_eq!(refused(), count as f64 + 1.0);
        }
        // curl speaks version 1.
        let args = [
            "--haproxy-protocol",
            "--interface",
            "127.0.0.3",
            "-H",
            "X-Request-ID: curl",
            &server.url("/health"),
        ];
        assert_eq!(curl(&args), HEALTHY.as_bytes());
        assert_eq!(logged(&server, "curl"), "127.0.0.3");
        let args = [
            "-sS",
            "--interface",
            "127.0.0.3",
            "--max-time",
            "20",
            &server.url("/health"),
        ];
        assert_ne!(run("curl", &args).status.code(), Some(0));
        // LOCAL and UNKNOWN: the proxy asks for itself.
        for (id, header) in [
            ("unknown", &b"PROXY UNKNOWN\r\n"[..]),
            ("local", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"),
        ] {
            let bytes = [header, request(id, "").as_bytes()].concat();
            assert!(exchange(from("127.0.0.3", server.addr()), &bytes).ends_with(HEALTHY));
            assert_eq!(logged(&server, id), "127.0.0.3");
        }
        // One that opens and closes is a probe.
        let before = refused();
        drop(from("127.0.0.3", server.addr()));
        server.get("/health").expect(200);
        assert_eq!(refused(), before);
    });
}

#[test]
fn the_healthcheck_introduces_itself_where_it_is_trusted() {
    let setup = |port: &str| {
        Setup::new()
            .env("TRUSTED_PROXIES", "loopback")
            .env("PROXY_PROTOCOL", "on")
            .env("BIND", &format!("127.0.0.1:{port}"))
    };
    let server = setup("0").start();
    setup(&server.port.to_string()).run(&["healthcheck"]).expect(0);
    // By PORT alone, and without the word it would be closed on.
    let said = Setup::new()
        .env("PORT", &server.port.to_string())
        .run(&["healthcheck"])
        .expect(1)
        .err();
    assert!(!said.is_empty());
}

#[test]
fn forwarding_headers_are_a_trusted_proxys_to_send() {
    on_each_driver(|driver| {
        for (by, name) in [("x-forwarded-for", "X-Forwarded-For"), ("forwarded", "Forwarded")] {
            let server = Setup::new()
                .driver(driver)
                .env("TRUSTED_PROXIES", "127.0.0.3,127.0.0.4")
                .env("FORWARDED", by)
                .env("ACCESS_LOG", "all")
                .start();
            let say = |addr: &str| {
                if by == "forwarded" {
                    format!("for=\"{addr}\"")
                } else {
                    addr.to_owned()
                }
            };
            let other = if by == "forwarded" {
                "X-Forwarded-For: 8.8.8.8"
            } else {
                "Forwarded: for=8.8.8.8"
            };
            let (client, forged, hop) = (say("[2001:db8::7]"), say("127.0.0.1"), say("127.0.0.4"));
            for (id, peer, fields, is) in [
                ("none", "127.0.0.3", String::new(), "127.0.0.3"),
                ("one", "127.0.0.3", format!("{name}: {client}\r\n"), "2001:db8::7"),
                (
                    "forged",
                    "127.0.0.3",
                    format!("{name}: {forged}, {client}\r\n"),
                    "2001:db8::7",
                ),
                (
                    "lines",
                    "127.0.0.3",
                    format!("{name}: {forged}\r\n{name}: {client}\r\n"),
                    "2001:db8::7",
                ),
                (
                    "two",
                    "127.0.0.3",
                    format!("{name}: {forged}, {client}, {hop}\r\n"),
                    "2001:db8::7",
                ),
                (
                    "hidden",
                    "127.0.0.3",
                    format!("{name}: {forged}, {}\r\n", say("unknown")),
                    "-",
                ),
                (
                    "other",
                    "127.0.0.3",
                    format!("{other}\r\n{name}: {client}\r\n"),
                    "2001:db8::7",
                ),
                ("otheralone", "127.0.0.3", format!("{other}\r\n"), "127.0.0.3"),
                (
                    "spoof",
                    "127.0.0.2",
                    format!("{name}: {forged}\r\n{other}\r\n"),
                    "127.0.0.2",
                ),
            ] {
                let answer = exchange(from(peer, server.addr()), request(id, &fields).as_bytes());
                assert!(answer.ends_with(HEALTHY), "{id}: {answer}");
                assert_eq!(logged(&server, id), is, "{by} {id}");
            }
            // What waits for the store is logged by the same rule.
            let body = r#"{"location":"Cusco","style":"history"}"#;
            let ask = format!(
                "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nX-Request-ID: told\r\n{name}: {client}\r\n\
                 Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            assert!(exchange(from("127.0.0.3", server.addr()), ask.as_bytes()).starts_with("HTTP/1.1 200"));
            assert_eq!(logged(&server, "told"), "2001:db8::7");
        }
    });
}

#[test]
fn the_shutdown_route_is_for_who_is_local_all_the_way() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let mut server = Setup::new()
        .env("TRUSTED_PROXIES", "127.0.0.3,10.0.0.0/8,unix")
        .env("BIND", &format!("127.0.0.1:0,unix:{}", path.display()))
        .start();
    let ask = |fields: &str| {
        format!("POST /health/v2/shutdown/graceful HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{fields}\r\n")
    };
    for (peer, fields) in [
        ("127.0.0.3", "X-Forwarded-For: 203.0.113.9\r\n"),
        ("127.0.0.3", "X-Forwarded-For: 127.0.0.1, 203.0.113.9\r\n"),
        ("127.0.0.3", "X-Forwarded-For: 127.0.0.1, 10.0.0.1\r\n"),
        ("127.0.0.3", "X-Forwarded-For: unknown\r\n"),
        (
            "127.0.0.3",
            "X-Forwarded-For: 127.0.0.1\r\nOrigin: http://localhost\r\n",
        ),
        ("127.0.0.3", "Forwarded: for=127.0.0.1\r\n"),
        ("127.0.0.2", "X-Forwarded-For: 127.0.0.1\r\n"),
        ("127.0.0.2", "Via: 1.1 a\r\n"),
    ] {
        let answer = exchange(from(peer, server.addr()), ask(fields).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 403"), "{peer} {fields}: {answer}");
    }
    for fields in ["", "X-Forwarded-For: 203.0.113.9\r\n"] {
        let answer = exchange(unix(&path).unwrap(), ask(fields).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 403"), "{fields}: {answer}");
    }
    let answer = exchange(
        from("127.0.0.3", server.addr()),
        ask("X-Forwarded-For: 127.0.0.1\r\n").as_bytes(),
    );
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_unix_socket_introduces_where_it_is_trusted() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let setup = |trusted: &str| {
        Setup::new()
            .env("TRUSTED_PROXIES", trusted)
            .env("PROXY_PROTOCOL", "on")
            .env("ACCESS_LOG", "all")
            .env("BIND", &format!("unix:{}", path.display()))
    };
    let mut server = setup("unix").start();
    for (id, header, client) in [("v1", V1, "2001:db8::7"), ("v2", V2, "192.0.2.7")] {
        let bytes = [header, request(id, "").as_bytes()].concat();
        assert!(exchange(unix(&path).unwrap(), &bytes).ends_with(HEALTHY));
        assert_eq!(logged(&server, id), client);
    }
    assert_eq!(exchange(unix(&path).unwrap(), request("bare", "").as_bytes()), "");
    setup("unix").run(&["healthcheck"]).expect(0);
    server.stop();
    let server = setup("loopback").start();
    assert!(exchange(unix(&path).unwrap(), request("plain", "").as_bytes()).ends_with(HEALTHY));
    assert_eq!(logged(&server, "plain"), "-");
    let forged = [V1, request("forged", "").as_bytes()].concat();
    assert!(exchange(unix(&path).unwrap(), &forged).starts_with("HTTP/1.1 501"));
}
