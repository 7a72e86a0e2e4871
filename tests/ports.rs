//! Where the server listens, and whose word it takes about who asks: BIND, Unix sockets, the PROXY protocol,
//! X-Forwarded-For and Forwarded.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::http::find;
use common::tools::{curl, run};
use common::{PATIENCE, Server, Setup, on_each_driver, until};
use rustix::net::{AddressFamily, SocketType};
use sonic_rs::JsonValueTrait;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// A request after which the server closes, named `id` in the access log.
fn request(id: &str, fields: &str) -> String {
    format!("GET /health HTTP/1.1\r\nHost: t\r\nX-Request-ID: {id}\r\nConnection: close\r\n{fields}\r\n")
}

/// Sends `bytes` and reads to the end; a connection that the peer resets has ended, too.
fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    let mut got = Vec::new();
    // The server may close before it has all.
    let _ = stream.write_all(bytes);
    match stream.read_to_end(&mut got) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&got)),
    }
    String::from_utf8(got).unwrap()
}

/// A connection that comes from this address of the machine.
fn from(addr: &str, to: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(addr.parse().unwrap(), 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn unix(path: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Ok(stream)
}

/// The addresses that the server says it listens on, in the order of BIND.
fn addresses(server: &Server) -> Vec<String> {
    let lines = server.log.lines();
    let parsed = lines
        .iter()
        .filter_map(|line| sonic_rs::from_str::<sonic_rs::Value>(line).ok());
    parsed
        .filter(|line| line["message"].as_str() == Some("listening"))
        .map(|line| line["addr"].as_str().unwrap().to_owned())
        .collect()
}

/// The client that the access log names for a request; `-` for none.
fn logged(server: &Server, id: &str) -> String {
    let mut client = None;
    until("the request's line", || {
        let line = server.log.find(|line| line["request_id"].as_str() == Some(id));
        client = line.map(|line| line["client"].as_str().unwrap_or("-").to_owned());
        client.is_some()
    });
    client.unwrap()
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        // Past the capture of the test harness: a skip must be seen.
        let _ = std::io::stderr().write_all(b"skipped: this machine has no IPv6\n");
    }
    has
}

const HEALTHY: &str = r#"{"status":"healthy"}"#;

#[test]
fn every_address_of_bind_answers_and_its_file_goes_at_the_end() {
    on_each_driver(|driver| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("api.sock");
        let name = format!("roadtrip-test-{}-{driver}", std::process::id());
        let v6 = if has_ipv6() { ",http://[::1]:0" } else { "" };
        let bind = format!("127.0.0.1:0,unix:{},unix:@{name},localhost:0{v6}", path.display());
        let mut server = Setup::new()
            .driver(driver)
            .env("WORKERS", "2")
            .env("BIND", &bind)
            .start();
        let said = addresses(&server);
        assert_eq!(said.len(), bind.split(',').count(), "{said:?}");
        assert!(said[0].starts_with("127.0.0.1:") && said[0].ends_with(&format!(":{}", server.port)));
        assert_eq!(
            said[1..3],
            [format!("unix:{}", path.display()), format!("unix:@{name}")]
        );
        for addr in said.iter().filter(|addr| !addr.starts_with("unix:")) {
            let family = if addr.starts_with('[') { "-6" } else { "-4" };
            let got = curl(&[family, "-g", &format!("http://{addr}/health")]);
            assert_eq!(got, HEALTHY.as_bytes(), "{addr}");
        }
        let by_path = curl(&["--unix-socket", path.to_str().unwrap(), "http://any/health"]);
        let by_name = curl(&["--abstract-unix-socket", &name, "http://any/health"]);
        assert_eq!(
            (by_path.as_slice(), by_name.as_slice()),
            (HEALTHY.as_bytes(), HEALTHY.as_bytes())
        );
        let file = std::fs::symlink_metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o660);
        server.stop();
        assert!(!path.exists(), "the file is left");
        let gone = UnixStream::connect_addr(&UnixAddr::from_abstract_name(&name).unwrap());
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(!server.all_said().contains("\"WARN\""), "{}", server.all_said());
    });
}

#[test]
fn a_port_of_all_addresses_takes_ipv4_and_ipv6_and_one_for_each_keeps_them_apart() {
    if !has_ipv6() {
        return;
    }
    for bind in [":0", "[::]:0"] {
        let server = Setup::new().env("BIND", bind).start();
        for (family, host) in [("-4", "127.0.0.1"), ("-6", "[::1]")] {
            let got = curl(&[family, "-g", &format!("http://{host}:{}/health", server.port)]);
            assert_eq!(got, HEALTHY.as_bytes(), "{bind} {family}");
        }
    }
    // As people write it who want both, whatever the system's default is.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Setup::new().env("BIND", &format!("0.0.0.0:{free},[::]:{free}")).start();
    assert_eq!(addresses(&server), [format!("0.0.0.0:{free}"), format!("[::]:{free}")]);
    for (family, host) in [("-4", "127.0.0.1"), ("-6", "[::1]")] {
        let got = curl(&[family, "-g", &format!("http://{host}:{free}/health")]);
        assert_eq!(got, HEALTHY.as_bytes(), "{family}");
    }
}

#[test]
fn a_unix_socket_serves_alone_with_the_mode_that_was_asked_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api.sock");
    let bind = format!("unix://{}", path.display());
    let setup = || Setup::new().env("BIND", &bind).env("BIND_UNIX_MODE", "600");
    let server = setup().start();
    assert_eq!(server.port, 0, "it names no TCP port");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(exchange(unix(&path).unwrap(), request("u", "").as_bytes()).ends_with(HEALTHY));
    setup().run(&["healthcheck"]).expect(0);
    // The shutdown route is for loopback; a Unix socket has its own users.
    let ask = "POST /health/v2/shutdown/graceful HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    assert!(exchange(unix(&path).unwrap(), ask.as_bytes()).starts_with("HTTP/1.1 403"));
}

#[test]
fn the_connections_of_a_unix_socket_are_spread_over_the_workers() {
    on_each_driver(|driver| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("s");
        let bind = format!("unix:{}", path.display());
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "3")
            .env("BIND", &bind)
            .start();
        let mut by_worker = [0; 3];
        for _ in 0..90 {
            let answer = exchange(unix(&path).unwrap(), request("s", "").as_bytes());
            let at = find(answer.as_bytes(), b"X-Worker-ID: ").unwrap();
            let id = answer[at..].lines().next().unwrap();
            by_worker[id[id.rfind('-').unwrap() + 1..].parse::<usize>().unwrap()] += 1;
        }
        assert!(
            by_worker.iter().all(|&count| count >= 10),
            "{driver}: {by_worker:?} {}",
            server.all_said()
        );
    });
}

#[test]
fn a_dead_servers_file_is_replaced_and_nobody_elses() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api.sock");
    let bind = format!("unix:{}", path.display());
    let setup = || Setup::new().env("BIND", &bind);
    // Killed: the file stays.
    let mut first = setup().start();
    first.kill();
    assert!(path.exists());
    let second = setup().start();
    assert!(exchange(unix(&path).unwrap(), request("a", "").as_bytes()).ends_with(HEALTHY));
    // A second one is told why not, and leaves the first in peace.
    let said = setup().run(&[]).expect(69).err();
    assert!(
        said.contains(&bind) && said.contains("in use") && said.contains("Remedy"),
        "{said}"
    );
    assert!(exchange(unix(&path).unwrap(), request("b", "").as_bytes()).ends_with(HEALTHY));
    drop(second);
    // One that listens and does not accept lives, too, also where its queue is full.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&other, 0).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    assert!(setup().run(&[]).expect(69).err().contains("in use"));
    drop(other);
    // What is no socket is not removed.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "dear").unwrap();
    let said = setup().run(&[]).expect(69).err();
    assert!(said.contains("no socket"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), b"dear");
    let said = Setup::new()
        .env("BIND", &format!("unix:{}/no/s", dir.path().display()))
        .run(&[]);
    assert!(said.expect(69).err().contains("folder is missing"));
}

#[test]
fn a_server_that_cannot_have_every_address_begins_on_none() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api.sock");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = held.local_addr().unwrap();
    let said = Setup::new()
        .env("BIND", &format!("unix:{},{addr}", path.display()))
        .run(&[]);
    let said = said.expect(69).err();
    assert!(said.contains(&addr.to_string()) && said.contains("Remedy"), "{said}");
    assert!(!path.exists(), "the file of a server that never was");
}

#[test]
fn a_file_that_is_another_servers_by_now_is_left() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api.sock");
    let mut server = Setup::new().env("BIND", &format!("unix:{}", path.display())).start();
    std::fs::remove_file(&path).unwrap();
    let _next = UnixListener::bind(&path).unwrap();
    server.stop();
    assert!(path.exists());
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    for (name, value, why) in [
        ("BIND", "https://127.0.0.1:0", "TLS"),
        ("BIND", "127.0.0.1:0,fe80::1%eth0", "zone"),
        ("PROXY_PROTOCOL", "on", "TRUSTED_PROXIES"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.0/8"),
        ("FORWARDED", "both", "x-forwarded-for, forwarded"),
        ("BIND_UNIX_MODE", "8", "octal"),
    ] {
        let said = Setup::new().env(name, value).run(&["check"]).expect(78).err();
        assert!(said.contains(name) && said.contains(why), "{said}");
    }
    let warned = Setup::new()
        .env("BIND", "127.0.0.1:1")
        .env("PORT", "2")
        .env("TRUSTED_PROXIES", "*");
    let said = warned.run(&["check"]).expect(0).out();
    assert!(
        said.contains("BIND wins over PORT=2") && said.contains("trusts every address"),
        "{said}"
    );
    assert!(
        !Setup::new()
            .env("BIND", ":2")
            .env("PORT", "2")
            .run(&["check"])
            .expect(0)
            .out()
            .contains("wins")
    );
}

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

/// One that connects anew for each request, until it is turned away; every connection that was taken gets its answer.
fn connects_anew<S: Read + Write>(connect: impl Fn() -> std::io::Result<S>, begun: &AtomicUsize) {
    loop {
        let stream = match connect() {
            Ok(stream) => stream,
            Err(error) => {
                let turned_away = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
                assert!(turned_away, "{error}");
                return;
            }
        };
        let answer = exchange(stream, request("anew", "").as_bytes());
        assert!(
            answer.ends_with(HEALTHY),
            "a connection was taken and not served: {answer:?}"
        );
        begun.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn draining_loses_no_request_on_any_port() {
    on_each_driver(|driver| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("s");
        let mut server = Setup::new()
            .driver(driver)
            .env("WORKERS", "2")
            .env("BIND", &format!("127.0.0.1:0,unix:{},localhost:0", path.display()))
            .start();
        let said = addresses(&server);
        let begun = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let begun = &begun;
            let path = &path;
            for _ in 0..2 {
                scope.spawn(move || connects_anew(|| unix(path), begun));
            }
            for addr in [&said[0], &said[2]] {
                let addr: SocketAddr = addr.parse().unwrap();
                scope.spawn(move || {
                    let mut connection = common::http::Connection::open(addr);
                    loop {
                        connection.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
                        let answer = connection.try_read(false).expect("a request was lost");
                        begun.fetch_add(1, Ordering::Relaxed);
                        if answer.expect(200).closes() {
                            return;
                        }
                    }
                });
            }
            until("the load to run", || begun.load(Ordering::Relaxed) > 500);
            server.terminate();
        });
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
        assert!(!path.exists());
        assert!(!server.all_said().contains("accept failed"), "{}", server.all_said());
    });
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

#[test]
fn addresses_of_this_machine_are_what_they_say() {
    // What the tests above lean on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = from("127.0.0.2", listener.local_addr().unwrap());
    assert_eq!(
        stream.local_addr().unwrap().ip(),
        "127.0.0.2".parse::<IpAddr>().unwrap()
    );
}
