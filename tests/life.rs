//! Workers are replaced, added, taken away and worn out under a load that must not notice.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::load::{Kind, Load};
use common::{Server, Setup, on_each_driver, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::time::Duration;

fn metric(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    Exposition::parse(&server.get("/metrics").text()).sum(name, labels)
}

fn said(server: &Server, what: &str) -> usize {
    server.all_said().matches(what).count()
}

fn pool(driver: &str) -> Setup {
    Setup::new().driver(driver).env("WORKERS", "2")
}

#[test]
fn no_request_is_lost_as_every_worker_is_replaced_again_and_again() {
    on_each_driver(|driver| {
        let mut server = pool(driver).start();
        let load = Load::start(server.addr(), &Kind::MIX);
        for round in 1..=5 {
            server.signal(Signal::HUP);
            until("the round to be over", || said(&server, "the round is over") >= round);
            load.go_on_for(200);
        }
        assert_eq!(metric(&server, "worker_restarts_total", &[("reason", "reload")]), 10.0);
        load.stop().expect_none_failed(&format!("HUP x5, {driver}"));
        assert_eq!(metric(&server, "worker_connections_cut_off_total", &[]), 0.0);
        server.stop();
    });
}

#[test]
fn many_hups_at_once_are_two_rounds_and_a_term_behind_them_drains() {
    on_each_driver(|driver| {
        let mut server = pool(driver).env("DRAIN_DELAY", "2s").start();
        let load = Load::start(server.addr(), &Kind::MIX);
        for _ in 0..30 {
            server.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(2));
        }
        load.go_on_for(100);
        load.let_end();
        server.terminate();
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
        load.stop().expect_none_failed(&format!("HUP x30, then TERM, {driver}"));
        assert!(
            said(&server, "was replaced by a new life") <= 4,
            "{}",
            server.all_said()
        );
        assert_eq!(said(&server, "cut off"), 0);
    });
}

#[test]
fn workers_come_and_go() {
    on_each_driver(|driver| {
        let mut server = pool(driver).start();
        let load = Load::start(server.addr(), &Kind::MIX);
        let workers = |server: &Server| server.json("/health/v2/status")["components"]["worker"]["workers"].as_u64();
        for _ in 0..2 {
            server.signal(Signal::TTIN);
            until("three workers", || {
                metric(&server, "worker_health_status", &[("component", "worker")]) == 3.0
            });
            assert_eq!(workers(&server), Some(3));
            until("the third to be asked", || {
                server.json("/health/v2/worker")["worker"].as_u64() == Some(2)
            });
            server.signal(Signal::TTOU);
            until("two workers", || {
                metric(&server, "worker_health_status", &[("component", "worker")]) == 2.0
            });
            assert_eq!(workers(&server), Some(2));
            load.go_on_for(200);
        }
        // The last one stays.
        for _ in 0..3 {
            server.signal(Signal::TTOU);
            std::thread::sleep(Duration::from_millis(20));
        }
        until("one worker", || {
            metric(&server, "worker_health_status", &[("component", "worker")]) == 1.0
        });
        load.go_on_for(200);
        load.stop().expect_none_failed(&format!("TTIN, TTOU, {driver}"));
        assert!(said(&server, "no fewer") > 0, "{}", server.all_said());
        server.stop();
    });
}

#[test]
fn a_worker_that_has_had_its_requests_is_replaced() {
    on_each_driver(|driver| {
        let mut server = pool(driver)
            .env("MAX_REQUESTS", "300")
            .env("MAX_REQUESTS_JITTER", "100")
            .start();
        let load = Load::start(server.addr(), &Kind::MIX);
        until("four lives to be over", || {
            metric(&server, "worker_restarts_total", &[("reason", "max_requests")]) >= 4.0
        });
        load.stop().expect_none_failed(&format!("MAX_REQUESTS, {driver}"));
        server.stop();
    });
}

#[test]
fn workers_are_replaced_one_at_a_time_for_the_process_s_memory() {
    // Less than any process has.
    let mut server = Setup::new().env("WORKERS", "2").env("WORKER_RSS_MAX", "1M").start();
    let load = Load::start(server.addr(), &Kind::MIX);
    until("a worker to be replaced", || {
        metric(&server, "worker_restarts_total", &[("reason", "memory")]) >= 1.0
    });
    load.go_on_for(300);
    load.stop().expect_none_failed("WORKER_RSS_MAX");
    // However little it helps: not all the time.
    assert_eq!(metric(&server, "worker_restarts_total", &[("reason", "memory")]), 1.0);
    server.stop();
}

#[test]
fn a_connection_of_a_former_life_is_served_and_told_to_close() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("WORKERS", "1").start();
        let mut idle = server.connect();
        idle.get("/health").expect(200);
        let mut half = server.connect();
        half.send("GET /health HTTP/1.1\r\nHo");
        server.json("/health");
        server.signal(Signal::HUP);
        until("the round to be over", || said(&server, "was replaced") == 1);
        // Younger than the new life, and not closed.
        let mut next = server.connect();
        next.get("/health").expect(200);
        assert!(idle.get("/health").expect(200).closes() && idle.is_closed());
        half.send("st: t\r\n\r\n");
        assert!(half.read().expect(200).closes() && half.is_closed());
        assert!(!next.get("/health").expect(200).closes());
        server.stop();
    });
}

#[test]
fn what_is_lost_is_counted() {
    let mut server = pool("epoll").start();
    let load = Load::start(server.addr(), &Kind::MIX);
    server.kill();
    std::thread::sleep(Duration::from_millis(100));
    let tally = load.stop();
    for kind in ["KeepAlive", "Short", "Pipelined", "Http2", "Events", "Stories"] {
        assert!(
            tally.failed.iter().any(|line| line.starts_with(kind)),
            "{kind}: {tally:?}"
        );
    }
}

/// Twenty workers more and fewer while sixteen clients connect all the time: `cargo test --test life spread -- --ignored
/// --nocapture`.
#[test]
#[ignore = "a measurement"]
fn spread_over_sockets_that_come_and_go() {
    let server = pool("uring").start();
    let load = Load::start(server.addr(), &[Kind::Short; 16]);
    let health = [("component", "worker")];
    for _ in 0..20 {
        server.signal(Signal::TTIN);
        until("three", || metric(&server, "worker_health_status", &health) == 3.0);
        server.signal(Signal::TTOU);
        until("two", || metric(&server, "worker_health_status", &health) == 2.0);
    }
    let tally = load.stop();
    println!(
        "{}\n{:#?}",
        tally.row("TTIN, TTOU x20"),
        tally.failed.iter().take(3).collect::<Vec<_>>()
    );
}

/// The kernel wakes one of those who wait for a connection. Where that one stops waiting at the same moment, somebody else
/// must come for the connection, though no other connection brings him.
#[test]
fn a_lonely_connection_is_served_whoever_was_woken_for_it() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("WORKERS", "1").start();
        for round in 1..=60 {
            server.signal(Signal::HUP);
            while said(&server, "the round is over") < round {
                // One at a time: nobody brings the one before to notice. It has PATIENCE.
                assert_eq!(server.get("/health").status, 200, "round {round}, {driver}");
            }
        }
        server.stop();
    });
}
