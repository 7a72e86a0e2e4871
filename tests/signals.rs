//! The end of a process, asked for in each way, and what must not end it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::{find, story_request};
use common::tools::{curl, run};
use common::{Server, Setup, on_each_driver, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::time::{Duration, Instant};

/// Patience of these servers for requests in flight: longer than a test waits for anything, so that no test passes
/// because it ran out.
const GRACEFUL: &str = "300s";

#[test]
fn an_idle_server_ends_at_once_in_good_order() {
    on_each_driver(|driver| {
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
            let mut server = Setup::new().driver(driver).env("GRACEFUL_TIMEOUT", GRACEFUL).start();
            server.get("/health").expect(200);
            server.signal(signal);
            assert_eq!(server.wait().code(), Some(0), "{signal:?}: {}", server.all_said());
            assert!(!server.is_listening());
        }
    });
}

#[test]
fn draining_says_so_finishes_what_is_in_flight_and_ends() {
    on_each_driver(|driver| {
        let mut server = Setup::new()
            .driver(driver)
            .env("GRACEFUL_TIMEOUT", GRACEFUL)
            .env("BODY_TIMEOUT", GRACEFUL)
            .env("BODY_RATE_MIN", "0")
            .env("HEAD_TIMEOUT", GRACEFUL)
            .env("DRAIN_DELAY", "8s")
            .start();
        // Three requests in flight: one lacks the end of its body, one the end of its head, one streams.
        let body = r#"{"location":"Cusco","style":"history"}"#;
        let request = story_request(body);
        let mut in_body = server.connect();
        in_body.send(&request[..request.len() - 5]);
        let mut in_head = server.connect();
        in_head.send("GET /health/v2/worker HTTP/1.1\r\nHost: t");
        let mut idle = server.connect();
        idle.get("/health").expect(200);
        let mut prober = server.connect();
        assert_eq!(
            prober.get("/health/v2/ready").expect(200).json()["status"].as_str(),
            Some("ready")
        );
        // Known to be received.
        until("the server to have read both halves", || {
            let text = server.get("/metrics").text();
            let metrics = common::exposition::Exposition::parse(&text);
            metrics.sum("http_connections_open", &[]) >= 5.0
        });

        server.terminate();
        // Within the delay: readiness is 503 on old connections and on new ones, the rest is served.
        until("readiness to answer 503", || {
            prober.get("/health/v2/ready").status == 503
        });
        let refused = prober.get("/health/v2/ready").expect(503).json();
        assert_eq!(
            (refused["ready"].as_bool(), refused["status"].as_str()),
            (Some(false), Some("shutdown"))
        );
        server.get("/health/v2/ready").expect(503);
        server.get("/health/v2/status").expect(503);
        server.get("/health/v2/live").expect(200);
        server.tell(r#"{"location":"Cusco","style":"comedy"}"#).expect(200);
        let worker = prober.get("/health/v2/worker").expect(200).json();
        assert_eq!(worker["shutting_down"].as_bool(), Some(true));

        // After it: idle connections are closed, no new ones are taken.
        assert!(idle.is_closed() && prober.is_closed());
        until("the port to be closed", || !server.is_listening());
        assert!(server.try_wait().is_none(), "it ended with requests in flight");
        in_body.send(&request[request.len() - 5..]);
        let told = in_body.read().expect(200);
        assert!(told.closes() && in_body.is_closed(), "{told:?}");
        assert_eq!(told.json()["location"]["name"].as_str(), Some("Cusco"));
        assert!(server.try_wait().is_none(), "it ended with a request in flight");
        in_head.send("\r\n\r\n");
        assert!(in_head.read().expect(200).closes() && in_head.is_closed());
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
        assert!(
            server
                .log
                .find(|line| line["message"].as_str() == Some("ended"))
                .is_some()
        );

        // What was told while draining is kept.
        let again = Setup::new().driver(driver).data(&server.data).start();
        assert_eq!(again.tell(body).expect(200).body, told.body);
    });
}

#[test]
fn a_load_that_runs_while_the_end_comes_loses_no_answer() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("DRAIN_DELAY", "1s").start();
        let addr = server.addr();
        let begun = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    let begun = &begun;
                    scope.spawn(move || {
                        let (mut whole, mut told_to_close) = (0, false);
                        let mut stream = common::http::Connection::open(addr);
                        loop {
                            use std::io::Write;
                            if stream
                                .stream
                                .write_all(b"GET /api/v1/styles HTTP/1.1\r\nHost: t\r\n\r\n")
                                .is_err()
                            {
                                break;
                            }
                            match stream.try_read(false) {
                                Ok(answer) => {
                                    assert_eq!(answer.status, 200);
                                    whole += 1;
                                    begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                    if answer.closes() {
                                        told_to_close = true;
                                        assert!(stream.is_closed());
                                        break;
                                    }
                                }
                                // It never pauses, so every request is on its way when the end begins.
                                Err(why) => panic!("a request was lost: {why}"),
                            }
                        }
                        (whole, told_to_close)
                    })
                })
                .collect();
            until("the load to run", || {
                begun.load(std::sync::atomic::Ordering::Relaxed) > 500
            });
            server.terminate();
            for client in clients {
                let (whole, told_to_close) = client.join().unwrap();
                assert!(whole > 0 && told_to_close);
            }
        });
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

#[test]
fn a_worker_with_nothing_to_finish_closes_its_port_too() {
    on_each_driver(|driver| {
        let mut server = Setup::new()
            .driver(driver)
            .env("WORKERS", "4")
            .env("GRACEFUL_TIMEOUT", GRACEFUL)
            .env("BODY_TIMEOUT", GRACEFUL)
            .start();
        let mut held = server.connect();
        let request = story_request(r#"{"location":"Cusco"}"#);
        held.send(&request[..request.len() - 1]);
        std::thread::sleep(Duration::from_millis(200));
        server.terminate();
        until("draining to begin", || server.all_said().contains("draining"));
        std::thread::sleep(Duration::from_millis(500));
        // The kernel spreads them over the four sockets.
        let taken = (0..32).filter(|_| server.is_listening()).count();
        assert_eq!(taken, 0, "connections are taken that nobody serves");
        held.send(&request[request.len() - 1..]);
        held.read().expect(200);
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

#[test]
fn a_request_that_never_ends_is_cut_off_at_the_graceful_timeout() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("GRACEFUL_TIMEOUT", "1s").start();
        let mut stream = server.connect();
        let request = story_request(r#"{"location":"Cusco"}"#);
        stream.send(&request[..request.len() - 1]);
        server.get("/health").expect(200);
        std::thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        server.terminate();
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
        assert!(begun.elapsed() >= Duration::from_millis(900), "it did not wait");
        assert!(stream.try_read(false).is_err());
        assert!(server.all_said().contains("cut off"), "{}", server.all_said());
    });
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    on_each_driver(|driver| {
        let mut server = Setup::new()
            .driver(driver)
            .env("GRACEFUL_TIMEOUT", GRACEFUL)
            .env("DRAIN_DELAY", GRACEFUL)
            .start();
        server.signal(Signal::INT);
        until("draining to begin", || server.get("/health/v2/ready").status == 503);
        std::thread::sleep(Duration::from_millis(100));
        server.signal(Signal::INT);
        assert_eq!(server.wait().code(), Some(130));
    });
}

#[test]
fn other_signals_do_not_end_it() {
    let mut server = Server::start();
    for signal in [
        Signal::HUP,
        Signal::USR1,
        Signal::CHILD,
        Signal::TTIN,
        Signal::TTOU,
        Signal::PIPE,
    ] {
        server.signal(signal);
        server.get("/health").expect(200);
    }
    until("the log to name them", || {
        ["SIGHUP", "SIGUSR1", "one worker more"]
            .iter()
            .all(|name| server.all_said().contains(name))
    });
    assert!(server.try_wait().is_none());
    server.stop();
}

#[test]
fn the_end_can_be_asked_for_over_http_from_this_machine() {
    on_each_driver(|driver| {
        for host in ["127.0.0.1", "localhost"] {
            let mut server = Setup::new().driver(driver).start();
            let url = format!("http://{host}:{}/health/v2/shutdown/graceful", server.port);
            let mut idle = server.connect();
            idle.get("/health").expect(200);
            server.get("/health/v2/shutdown/graceful").expect(405);
            // Behind a proxy on this machine, or in a browser, anyone comes from loopback.
            for field in [
                "X-Forwarded-For: 198.51.100.7",
                "Forwarded: for=198.51.100.7",
                "Via: 1.1 proxy",
                "Origin: null",
            ] {
                let answer = curl(&["-X", "POST", "-H", field, "-w", " %{http_code}", &url]);
                assert!(
                    answer.ends_with(b" 403"),
                    "{field}: {}",
                    String::from_utf8_lossy(&answer)
                );
            }
            let answer = curl(&["-X", "POST", "-w", " %{http_code}", &url]);
            assert!(answer.ends_with(b" 202"), "{}", String::from_utf8_lossy(&answer));
            assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
            assert!(idle.is_closed());
        }
    });
}

/// An address of this machine that is not loopback, if it has one.
fn outer_address() -> Option<std::net::IpAddr> {
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn from_elsewhere_the_end_needs_the_token() {
    let Some(ip) = outer_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let token = "a-token-of-good-length";
    let mut server = Setup::new().env("ADMIN_TOKEN", token).start();
    let url = format!("http://{ip}:{}/health/v2/shutdown/graceful", server.port);
    let ask = |fields: &[&str]| {
        let mut args = vec!["-X", "POST", "-o", "/dev/null", "-w", "%{http_code}"];
        args.extend(fields.iter().flat_map(|field| ["-H", field]));
        args.push(&url);
        String::from_utf8(curl(&args)).unwrap()
    };
    assert_eq!(ask(&[]), "403");
    assert_eq!(ask(&["Authorization: Bearer wrong-token-of-length"]), "403");
    assert_eq!(ask(&["X-Forwarded-For: 127.0.0.1"]), "403");
    assert!(server.try_wait().is_none());
    assert_eq!(ask(&[&format!("Authorization: Bearer {token}")]), "202");
    assert_eq!(server.wait().code(), Some(0));
    assert!(
        find(server.all_said().as_bytes(), token.as_bytes()).is_none(),
        "the token is in the log"
    );
}

#[test]
fn a_second_server_is_told_what_it_collides_with() {
    let first = Server::start();
    let port = first.port.to_string();
    let other = Setup::new().env("PORT", &port).run(&["serve"]).expect(69).err();
    for part in [port.as_str(), "another process has the port", "Remedy", "PORT"] {
        assert!(other.contains(part), "{part} is missing: {other}");
    }
    let other = Setup::new().data(&first.data).run(&["serve"]).expect(69).err();
    for part in [
        "another process has it open",
        "remedy",
        "DATA_DIR",
        first.data.to_str().unwrap(),
    ] {
        assert!(other.contains(part), "{part} is missing: {other}");
    }
    assert!(other.lines().count() <= 24 && !other.contains("panicked"), "{other}");
    // The first has not noticed.
    first.tell(r#"{"location":"Cusco"}"#).expect(200);
    run(
        "curl",
        &[
            "-sSf",
            "--max-time",
            "50",
            "-o",
            "/dev/null",
            &first.url("/health/v2/ready"),
        ],
    )
    .expect(0);
}

#[test]
fn a_port_is_free_for_the_next_server_at_once() {
    let mut first = Server::start();
    let port = first.port.to_string();
    first.get("/health").expect(200);
    let mut stream = first.connect();
    stream.get("/health").expect(200);
    first.stop();
    // The server closed first: its sockets are in TIME_WAIT.
    let second = Setup::new().env("PORT", &port).start();
    second.get("/health").expect(200);
}

#[test]
fn ready_in_the_log_is_ready_to_a_probe() {
    on_each_driver(|driver| {
        for _ in 0..10 {
            let server = Setup::new().driver(driver).env("WORKERS", "4").start();
            for _ in 0..8 {
                server.get("/health/v2/ready").expect(200);
            }
        }
    });
}
