//! Signals to a process one of whose workers makes no turns.
//!
//! The faults are asked for by `X-Fault`, which a release build does not know.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::house::{House, is_gone, signal};
use common::http::Connection;
use common::load::{Kind, Load};
use common::postgres::Postgres;
use common::{Server, Setup, until, uring_is_here};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::time::{Duration, Instant};

fn setup(driver: &str) -> Setup {
    Setup::new().driver(driver).env("FAULTS", "1").env("WORKERS", "2")
}

fn is_release() -> bool {
    if !cfg!(debug_assertions) {
        println!("not in a release build: it cannot be asked for faults");
    }
    !cfg!(debug_assertions)
}

/// Holds that worker for so long, by the request of the connection that is given.
fn hold(server: &Server, worker: u64, ms: u64) -> Connection {
    let mut found = None;
    until("a connection to that worker", || {
        let mut connection = server.connect();
        let answer = connection.get("/health/v2/worker").expect(200);
        found = (answer.json()["worker"].as_u64() == Some(worker)).then_some(connection);
        found.is_some()
    });
    let mut held = found.unwrap();
    held.send(format!(
        "GET /api/v1/styles HTTP/1.1\r\nHost: t\r\nX-Fault: block={ms}\r\n\r\n"
    ));
    held
}

fn said(server: &Server, what: &str) -> usize {
    server.all_said().matches(what).count()
}

fn workers(server: &Server) -> u64 {
    server.json("/health/v2/status")["components"]["worker"]["workers"]
        .as_u64()
        .unwrap()
}

/// Ends a load in which liveness may have told of the stuck worker, and nothing else failed.
fn expect_none_failed(load: Load, what: &str) {
    let mut tally = load.stop();
    tally.failed.retain(|why| !why.contains(r#"{"status":"stuck""#));
    println!("{}", tally.row(what));
    assert!(tally.failed.is_empty(), "{what}: {:#?}", tally.failed);
}

/// The stuck worker of the old process is woken for connections of the socket, too, and comes for none: not in the first
/// seconds, and not later, while its process is there.
#[test]
fn a_new_process_serves_everybody_while_the_old_one_is_stuck() {
    if is_release() || !uring_is_here() {
        println!("io_uring alone wakes one of those who wait");
        return;
    }
    let database = Postgres::start();
    let setup = setup("uring").env("DATABASE_URL", &database.url());
    let house = House::start(setup.env("UPGRADE_STAY", "true").env("GRACEFUL_TIMEOUT", "1s"));
    let first = house.server.pid();
    let held = hold(&house.server, 0, 120_000);
    let second = house.upgrade();
    until("the first to stay", || house.said("stays behind") == 1);
    // The next one has the sockets from the second, which knows of the first and tells it.
    signal(second, Signal::USR2);
    until("a third", || house.serving() != second);
    until("the second to end", || is_gone(second));
    // Longer than a new life asks in any case.
    std::thread::sleep(Duration::from_secs(6));
    let begun = Instant::now();
    for _ in 0..40 {
        house.server.get("/health").expect(200);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!is_gone(first) && !held.has_ended());
}

/// A worker that is given up must end in its time, or is left alone: who waits for the number of workers to settle, waits no
/// longer. What comes for it meanwhile goes to others.
#[test]
fn a_stuck_worker_can_be_given_up_and_keeps_no_signal_waiting() {
    if is_release() {
        return;
    }
    on_each_driver_at_once(|driver| {
        let setup = setup(driver).env("WORKER_TIMEOUT", "1s").env("GRACEFUL_TIMEOUT", "1s");
        let house = House::start(setup);
        let server = &house.server;
        let first = server.pid();
        let held = hold(server, 1, 120_000);
        until("somebody to stand in", || said(server, "standing in") == 1);
        let load = Load::start(server.addr(), &Kind::MIX);
        server.signal(Signal::TTOU);
        until("it to be given up", || said(server, "nothing new is led to it") == 1);
        server.signal(Signal::TTIN);
        until("it to wait", || said(server, "the signal is followed later") == 1);
        until("one worker more", || said(server, "one worker more starts") == 1);
        assert_eq!(said(server, "there is one fewer"), 1);
        until("two workers that serve", || {
            Exposition::parse(&server.get("/metrics").text()).sum("worker_health_status", &[]) == 2.0
        });
        for _ in 0..20 {
            server.get("/health").expect(200);
        }
        assert_ne!(house.upgrade(), first);
        assert!(!held.has_ended() || is_gone(first));
        load.go_on_for(100);
        expect_none_failed(load, &format!("TTOU, TTIN, USR2, a worker is stuck, {driver}"));
    });
}

#[test]
fn workers_come_and_go_beside_one_that_is_stuck() {
    if is_release() {
        return;
    }
    on_each_driver_at_once(|driver| {
        let server = setup(driver).env("WORKER_TIMEOUT", "1s").start();
        let held = hold(&server, 0, 120_000);
        until("somebody to stand in", || said(&server, "standing in") == 1);
        let load = Load::start(server.addr(), &Kind::MIX);
        server.signal(Signal::TTIN);
        until("the third to be asked", || {
            server.json("/health/v2/worker")["worker"].as_u64() == Some(2)
        });
        assert_eq!(workers(&server), 3);
        server.signal(Signal::TTOU);
        until("it to be gone", || said(&server, "there is one fewer") == 1);
        assert_eq!(workers(&server), 2);
        load.go_on_for(100);
        assert!(!held.has_ended());
        expect_none_failed(load, &format!("TTIN, TTOU, another worker is stuck, {driver}"));
    });
}

/// Most of the time is spent in waiting.
fn on_each_driver_at_once(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        let uring = uring_is_here().then(|| scope.spawn(|| test("uring")));
        test("epoll");
        if let Some(uring) = uring {
            uring.join().expect("on io_uring");
        }
    });
}
