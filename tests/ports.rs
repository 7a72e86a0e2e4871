//! Where the server listens, and whose word it takes about who asks: BIND, Unix sockets, the PROXY protocol,
//! X-Forwarded-For and Forwarded.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::find;
use common::ports::{HEALTHY, exchange, from, request, unix};
use common::tools::curl;
use common::{Server, Setup, on_each_driver, until};
use sonic_rs::JsonValueTrait;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

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

fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        // Past the capture of the test harness: a skip must be seen.
        let _ = std::io::stderr().write_all(b"skipped: this machine has no IPv6\n");
    }
    has
}

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
    // Below those that the kernel gives to the clients and servers of other tests, which come in between.
    let first = 12_000 + (std::process::id() * 7 % 15_000) as u16;
    let is_free =
        |port: &u16| TcpListener::bind(("0.0.0.0", *port)).is_ok() && TcpListener::bind(("::", *port)).is_ok();
    let free = (first..first + 1000).find(is_free).unwrap();
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
    // The kernel takes down a ring, and with it the socket on which an accept was armed, after its process is gone.
    until("the killed server's socket to go", || {
        UnixStream::connect(&path).is_err()
    });
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
fn addresses_of_this_machine_are_what_they_say() {
    // What the tests above lean on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = from("127.0.0.2", listener.local_addr().unwrap());
    assert_eq!(
        stream.local_addr().unwrap().ip(),
        "127.0.0.2".parse::<IpAddr>().unwrap()
    );
}
