//! Faults within a worker: a handler that panics costs its own request, a worker that is stuck costs those that it has,
//! and nobody else pays.
//!
//! The faults are asked for by `X-Fault`, which a release build does not know, and a debug build only with FAULTS=1.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::frames::{self, Frames};
use common::http::{Connection, Response};
use common::{PATIENCE, Server, Setup, on_each_driver, until};
use sonic_rs::{JsonValueTrait, Value};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

fn on_each(test: impl Fn(Setup)) {
    if !cfg!(debug_assertions) {
        println!("not in a release build: it cannot be asked for faults");
        return;
    }
    on_each_driver(|driver| {
        test(
            Setup::new()
                .driver(driver)
                .env("FAULTS", "1")
                .env("CONNECTIONS_PER_ADDRESS", "0"),
        )
    });
}

fn asking(fault: &str, more: &str) -> String {
    format!("GET /api/v1/styles HTTP/1.1\r\nHost: test\r\nX-Fault: {fault}\r\n{more}\r\n")
}

fn metrics(server: &Server) -> Exposition {
    Exposition::parse(&server.get("/metrics").text())
}

fn line(server: &Server, message: &str) -> Option<Value> {
    server
        .log
        .find(|line| line["message"].as_str().is_some_and(|said| said.contains(message)))
}

#[test]
fn a_panic_costs_its_own_request_and_nothing_else() {
    on_each(|setup| {
        let server = setup.env("WORKERS", "1").env("ACCESS_LOG", "all").start();
        let mut beside = server.connect();
        beside.send(asking("later=600", ""));
        let mut client = server.connect();
        let mut panics = 0.0;
        for (fault, id) in [("panic", "id-at-once"), ("later-panic=20", "id-later")] {
            // Before it and behind it in one write: both are answered.
            let id_field = format!("X-Request-ID: {id}\r\n");
            client.send(
                [
                    "GET /health HTTP/1.1\r\nHost: test\r\n\r\n",
                    &asking(fault, &id_field),
                    &asking("later=5", ""),
                ]
                .concat(),
            );
            client.read().expect(200);
            let failed = client.read().expect(500);
            assert_eq!(failed.field("content-type"), Some("application/problem+json"));
            assert_eq!(failed.field("x-request-id"), Some(id));
            assert_eq!(failed.json()["request_id"].as_str(), Some(id));
            assert!(!failed.closes());
            client.read().expect(200);
            // The log has a thread of its own.
            let wait_for = |fits: &dyn Fn(&Value) -> bool| {
                until("the log to tell", || server.log.find(fits).is_some());
                server.log.find(fits).unwrap()
            };
            let is_its_own = |line: &Value| line["request_id"].as_str() == Some(id);
            let panicked = |line: &Value| line["message"].as_str().unwrap().contains("panicked");
            let logged = wait_for(&|line| is_its_own(line) && panicked(line));
            assert_eq!(logged["level"].as_str(), Some("ERROR"));
            assert_eq!(logged["route"].as_str(), Some("/api/v1/styles"));
            // In the books as any other request.
            let access = wait_for(&|line| is_its_own(line) && line["target"].as_str() == Some("access"));
            assert_eq!(access["status"].as_u64(), Some(500));
            panics += 1.0;
            let metrics = metrics(&server);
            assert_eq!(metrics.sum("http_handler_panics_total", &[]), panics);
            let labels = [("route", "/api/v1/styles"), ("status", "500")];
            assert_eq!(metrics.sum("http_requests_total", &labels), panics);
        }
        // What was said of it, and where.
        let said = line(&server, "panicked").unwrap();
        assert!(
            said["message_of_panic"]
                .as_str()
                .unwrap()
                .contains("a fault that was asked for")
        );
        assert!(said["place"].as_str().unwrap().contains("faults.rs"));
        beside.read().expect(200);
        // Nobody is counted twice, or for ever: this one asks.
        assert_eq!(metrics(&server).sum("worker_active_requests", &[]), 1.0);
        assert!(server.get("/health/v2/live").status == 200);
    });
}

#[test]
fn a_panic_in_the_middle_of_a_stream_shows_and_is_logged() {
    on_each(|setup| {
        let server = setup.env("WORKERS", "1").start();
        let mut client = server.connect();
        client.send(asking("events-panic=5", "X-Request-ID: id-stream\r\n"));
        let why = client.try_read(false).expect_err("its last chunk must be missing");
        assert!(why.starts_with("closed"), "{why}");
        until("the log to tell", || {
            server
                .log
                .find(|line| line["request_id"].as_str() == Some("id-stream"))
                .is_some()
        });
        server.get("/api/v1/styles").expect(200);
        assert_eq!(metrics(&server).sum("worker_active_requests", &[]), 1.0);
    });
}

#[test]
fn over_http2_only_the_stream_is_touched() {
    on_each(|setup| {
        let server = setup.env("WORKERS", "1").start();
        let mut client = Frames::open(server.addr());
        let flags = frames::END_STREAM | frames::END_HEADERS;
        let get = |stream: u32, fault: &str| {
            let head = frames::request(
                "GET",
                "/api/v1/styles",
                &[("x-fault", fault), ("x-request-id", "id-of-a-stream")],
            );
            frames::frame(frames::HEADERS, flags, stream, head)
        };
        client.send(&[
            &frames::frame(frames::SETTINGS, frames::ACK, 0, []),
            &get(1, "panic"),
            &get(3, "later=300"),
            &get(5, "later-panic=50"),
            &get(7, "later=5"),
        ]);
        let mut ended = Vec::new();
        let mut statuses = Vec::new();
        while ended.len() < 4 {
            let frame = client.next().expect("the connection ended");
            assert!(!matches!(frame.kind, frames::RST_STREAM | frames::GOAWAY), "{frame:?}");
            if frame.kind == frames::HEADERS && statuses.is_empty() {
                statuses.push(frame.status());
            }
            if frame.stream > 0 && frame.flags & frames::END_STREAM != 0 {
                ended.push(frame.stream);
            }
        }
        assert_eq!((&*ended, &*statuses), (&[1, 7, 5, 3][..], &[500][..]));
        assert_eq!(metrics(&server).sum("http_handler_panics_total", &[]), 2.0);
        let labels = [("status", "500")];
        assert_eq!(metrics(&server).sum("http_requests_total", &labels), 2.0);
    });
}

#[test]
fn nobody_can_ask_for_faults_unless_the_process_was_started_for_it() {
    let server = Setup::new().start();
    let mut client = server.connect();
    client.send(asking("panic", ""));
    client.read().expect(200);
}

/// A server of two workers, one of which is held for so long by `fault`.
fn stuck(setup: Setup, fault: &str) -> (Server, Connection) {
    let server = setup.env("WORKERS", "2").env("WORKER_TIMEOUT", "1s").start();
    let mut held = server.connect();
    held.send(asking(fault, ""));
    (server, held)
}

/// Asks on connections of their own, all at once, and gives the answers.
fn ask_many(server: &Server, number: usize, path: &str) -> Vec<Response> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..number).map(|_| scope.spawn(|| server.get(path))).collect();
        asking.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn a_stuck_worker_is_seen_and_another_takes_its_connections() {
    on_each(|setup| {
        std::thread::scope(|scope| {
            for (fault, task, within) in [
                ("block=7000", "connection", "commit"),
                ("between=7000", "(between tasks)", "HoldsInDrop"),
            ] {
                let setup = setup.clone();
                scope.spawn(move || is_seen_and_helped(setup, fault, task, within));
            }
        });
    });
}

fn is_seen_and_helped(setup: Setup, fault: &str, task: &str, within: &str) {
    let begun = Instant::now();
    let (server, mut held) = stuck(setup, fault);
    until("liveness to know", || server.get("/health/v2/live").status == 503);
    // On both sockets; those of the stuck worker do not wait until it goes on.
    let probes = ask_many(&server, 24, "/health/v2/styles-or-nothing");
    assert!(probes.iter().all(|probe| probe.status == 404));
    if begun.elapsed() > Duration::from_secs(6) {
        println!("this machine is too slow to tell one from the other: no claim is made");
        return;
    }
    // Whoever answers knows of it.
    for probe in ask_many(&server, 8, "/health/v2/live") {
        assert_eq!(probe.expect(503).json()["status"].as_str(), Some("stuck"));
    }
    for probe in ask_many(&server, 8, "/health/v2/ready") {
        let ready = probe.expect(503).json();
        assert_eq!(ready["status"].as_str(), Some("not_ready"));
        assert_eq!(ready["checks"]["worker"]["reason"].as_str(), Some("a worker is stuck"));
    }
    let figures = metrics(&server);
    assert_eq!(figures.sum("worker_stuck_total", &[]), 1.0);
    assert_eq!(figures.sum("worker_health_status", &[]), 1.0);
    until("the stack to be logged", || {
        line(&server, "a worker is stuck").is_some()
    });
    let found = line(&server, "a worker is stuck").unwrap();
    assert_eq!(found["task"].as_str(), Some(task));
    assert_eq!(found["state"].as_str(), Some("S"), "{found}");
    assert!(found["stack"].as_str().unwrap().contains(within), "{found}");
    assert!(found["stack"].as_str().unwrap().contains("block_on"), "{found}");

    // It comes back: liveness too, and the log says for how long.
    held.read().expect(200);
    until("liveness to return", || server.get("/health/v2/live").status == 200);
    until("the log to tell", || line(&server, "no longer stuck").is_some());
    let back = line(&server, "no longer stuck").unwrap();
    assert!(back["seconds"].as_u64().unwrap() >= 1, "{back}");
    until("the stand-in to say what it did", || {
        line(&server, "no longer standing in").is_some()
    });
    let taken = line(&server, "no longer standing in").unwrap()["connections"]
        .as_u64()
        .unwrap();
    assert!(
        taken > 0,
        "of so many connections some must have been its own: {}",
        server.all_said()
    );
    assert_eq!(
        metrics(&server).sum("worker_stand_in_connections_total", &[]),
        taken as f64
    );
    // Each accepts from its own socket again.
    let answered = ask_many(&server, 24, "/health/v2/worker");
    let of = |worker| {
        answered
            .iter()
            .filter(|answer| answer.json()["worker"].as_u64() == Some(worker))
            .count()
    };
    assert!(of(0) > 0 && of(1) > 0);
}

#[test]
fn a_worker_that_computes_is_seen_and_can_be_told_to_end_the_process() {
    on_each(|setup| {
        let (mut server, held) = stuck(setup.env("STUCK", "abort"), "spin=60000");
        let begun = Instant::now();
        let status = server.wait();
        assert_eq!(status.signal(), Some(6), "{status}: {}", server.all_said());
        assert!(begun.elapsed() < PATIENCE);
        let found = line(&server, "a worker is stuck").unwrap_or_else(|| panic!("{}", server.all_said()));
        assert!(found["stack"].as_str().unwrap().contains("spin"), "{found}");
        assert_eq!(
            (found["state"].as_str(), found["syscall"].as_str()),
            (Some("R"), Some("running"))
        );
        assert!(line(&server, "STUCK=abort").is_some(), "{}", server.all_said());
        drop(held);
    });
}

#[test]
fn a_drain_while_a_worker_is_stuck_serves_who_waits_for_it() {
    on_each(|setup| {
        let (mut server, mut held) = stuck(setup.env("DRAIN_DELAY", "0s"), "block=4000");
        until("it to be seen", || line(&server, "standing in").is_some());
        // They are accepted and not answered by the time of the end, or wait in the queue.
        let mut clients: Vec<Connection> = (0..24).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send("GET /api/v1/styles HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        server.terminate();
        for client in &mut clients {
            client.read().expect(200);
        }
        // And the request that holds the worker is answered when it goes on.
        held.read().expect(200);
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

#[test]
fn the_only_worker_is_seen_too() {
    on_each(|setup| {
        let server = setup.env("WORKERS", "1").env("WORKER_TIMEOUT", "1s").start();
        let mut held = server.connect();
        held.send(asking("spin=3500", ""));
        until("it to be seen", || line(&server, "a worker is stuck").is_some());
        held.read().expect(200);
        until("liveness to return", || server.get("/health/v2/live").status == 200);
        assert_eq!(metrics(&server).sum("worker_stuck_total", &[]), 1.0);
    });
}

/// A machine that stands still (a snapshot, a debugger, a container that is paused) has no worker that is stuck.
#[test]
fn a_process_that_was_stopped_is_not_taken_for_a_stuck_one() {
    use rustix::process::Signal;
    let mut server = Setup::new().env("WORKER_TIMEOUT", "1s").env("STUCK", "abort").start();
    server.get("/health").expect(200);
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(3));
    server.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(700));
    assert!(server.try_wait().is_none(), "{}", server.all_said());
    server.get("/health/v2/live").expect(200);
    assert_eq!(metrics(&server).sum("worker_stuck_total", &[]), 0.0);
}
