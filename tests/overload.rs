//! More than the server can do: what is answered, what is shed, and what must not notice.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::frames::*;
use common::http::story_request;
use common::{PATIENCE, Server, Setup};
use sonic_rs::JsonValueTrait;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const CACHED: &str = r#"{"location":"Paris","style":"history"}"#;

fn figure(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    Exposition::parse(&server.get("/metrics").expect(200).text()).sum(name, labels)
}

fn wish(number: u32) -> String {
    format!(r#"{{"location":"Rome","style":"mystery","variation":{number}}}"#)
}

/// Waits until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn beyond_its_capacity_it_answers_200_or_503_and_nobody_else_notices() {
    // As little as it may have in flight, and as short a wait as can be set: more than a handful is too much.
    let server = Setup::new()
        .env("WORKERS", "1")
        .env("LATENCY_TARGET", "20ms")
        .env("IN_FLIGHT_MAX", "4")
        .start();
    server.tell(CACHED).expect(200);
    let (told, shed, over) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                let mut client = server.connect();
                while !over.load(Ordering::Relaxed) {
                    let answer = client.tell(&wish(next.fetch_add(1, Ordering::Relaxed)));
                    if answer.status == 200 {
                        told.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    shed.fetch_add(1, Ordering::Relaxed);
                    let answer = answer.expect(503);
                    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
                    let wait: u32 = answer.field("retry-after").unwrap().parse().unwrap();
                    assert!((1..=5).contains(&wait), "{wait}");
                    let problem = answer.json();
                    assert!(
                        problem["detail"].as_str().unwrap().contains("more is asked"),
                        "{problem:?}"
                    );
                    assert!(!answer.closes(), "who is shed keeps its connection");
                }
            });
        }
        for path in [
            "/health",
            "/health/v2/live",
            "/health/v2/ready",
            "/metrics",
            "/health/v2/status",
        ] {
            let server = &server;
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    server.get(path).expect(200);
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
        scope.spawn(|| {
            let mut client = server.connect();
            while !over.load(Ordering::Relaxed) {
                let answer = client.tell(CACHED).expect(200);
                assert_eq!(answer.field("cache-status"), Some("roadtrip-api; hit"));
            }
        });
        let deadline = Instant::now() + PATIENCE;
        while told.load(Ordering::Relaxed) < 50 || shed.load(Ordering::Relaxed) < 50 {
            assert!(Instant::now() < deadline, "{told:?} told, {shed:?} shed");
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
    });
    let (told, shed) = (told.into_inner(), shed.into_inner());
    let by_reason = |reason| figure(&server, "overload_shed_total", &[("reason", reason)]);
    let counted: f64 = ["waited", "queue_full", "lag"].into_iter().map(by_reason).sum();
    assert_eq!(counted, f64::from(shed));
    assert_eq!(
        figure(&server, "overload_queue_wait_seconds_count", &[]),
        f64::from(told + 1),
        "the first one as well"
    );
    assert!(
        server
            .log
            .find(|line| line["message"]
                .as_str()
                .is_some_and(|said| said.starts_with("overload:")))
            .is_some(),
        "the log says so"
    );
    let of_each =
        |line: &sonic_rs::Value| line["target"].as_str() == Some("access") && line["status"].as_u64() == Some(503);
    assert!(server.log.find(of_each).is_none(), "and not for each");

    // It is over as soon as it is over.
    until("nothing is left in flight", || {
        figure(&server, "overload_in_flight", &[]) == 0.0
    });
    until("a story is told", || server.tell(&wish(u32::MAX)).status == 200);
    until("it says that all is well", || {
        server.json("/health/v2/worker")["overload"]["overloaded"].as_bool() == Some(false)
    });
    let state = &server.json("/health/v2/worker")["overload"];
    assert_eq!(
        (state["queued"].as_u64(), state["in_flight"].as_u64()),
        (Some(0), Some(0))
    );
    assert_eq!(
        (state["limit"].as_u64(), state["target_ms"].as_u64()),
        (Some(4), Some(20))
    );
}

#[test]
fn a_burst_that_there_is_time_for_is_told_whole() {
    let server = Setup::new().env("WORKERS", "1").env("LATENCY_TARGET", "60s").start();
    std::thread::scope(|scope| {
        for client in 0..25 {
            let server = &server;
            scope.spawn(move || {
                // Twenty on connections of their own, before any of them is read.
                let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
                for (at, connection) in clients.iter_mut().enumerate() {
                    connection.send(story_request(&wish(client * 20 + at as u32)));
                }
                for mut connection in clients {
                    connection.read().expect(200);
                }
            });
        }
    });
    assert_eq!(figure(&server, "overload_shed_total", &[]), 0.0);
    assert_eq!(figure(&server, "stories_generated_total", &[]), 500.0);
}

#[test]
fn switched_off_there_is_no_queue() {
    let server = Setup::new()
        .env("WORKERS", "1")
        .env("OVERLOAD", "off")
        .env("IN_FLIGHT_MAX", "4")
        .start();
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    let mut statuses = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    while !statuses.contains(&503) {
        assert!(Instant::now() < deadline, "{statuses:?}");
        for client in &mut clients {
            number += 1;
            client.send(story_request(&wish(number)));
        }
        statuses.extend(clients.iter_mut().map(|client| client.read().status));
    }
    assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 503].contains(status)));
    assert!(figure(&server, "overload_shed_total", &[("reason", "limit")]) > 0.0);
    assert_eq!(figure(&server, "overload_queued", &[]), 0.0);
}

#[test]
fn who_reads_no_answers_keeps_nobody_else_from_a_new_story() {
    // Four may be in flight, and whoever waits for that waits for a minute.
    let server = Setup::new()
        .env("WORKERS", "1")
        .env("LATENCY_TARGET", "60s")
        .env("IN_FLIGHT_MAX", "4")
        .env("WRITE_TIMEOUT", "300s")
        .start();
    let mut teller = server.connect();
    for number in 0..60 {
        teller
            .tell(&format!(
                r#"{{"location":"Cairo","length":"long","variation":{number}}}"#
            ))
            .expect(200);
    }
    let page = teller.get("/api/v1/stories?limit=100").expect(200).body.len();
    assert!(page > 200_000);
    // Two clients without a window ask for more pages than a connection may have made and not taken (two MiB): some are made,
    // some are under way when it is too much, and some have to wait for those.
    let clients: Vec<Frames> = (0..2)
        .map(|_| {
            let mut client = Frames::open_with(server.addr(), &[0, 4, 0, 0, 0, 0]);
            // At once: none that comes when it is too much already is begun.
            let asked = request("GET", "/api/v1/stories?limit=100", &[]);
            let all = (0..32).flat_map(|stream| frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &asked));
            client.send(&[&all.collect::<Vec<u8>>()]);
            client
        })
        .collect();
    // Whatever is let in ends, whoever reads what it was for: more than two MiB are made.
    until("nothing is left in flight", || {
        let answer = server.get("/metrics").expect(200).text();
        let figures = Exposition::parse(&answer);
        let of = |name| figures.sum(name, &[]);
        of("overload_queue_wait_seconds_count") > 60.0 + 1.0 + 10.0
            && of("overload_in_flight") == 0.0
            && of("overload_queued") == 0.0
    });
    let mut other = server.connect();
    other.tell(&wish(1)).expect(200);
    drop(clients);
}

/// Else it takes a worker's CPU for every single story, and commits each alone.
#[test]
fn the_thread_that_commits_waits_until_the_worker_has_done_its_share() {
    let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    if own.rsplit_once(')').unwrap().1.split_whitespace().nth(38) != Some("0") {
        return println!("these tests run with another policy, which the server leaves as it is");
    }
    let server = Setup::new().env("WORKERS", "1").start();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    // sched(7): 0 is the usual policy, 3 is SCHED_BATCH. Fields 19 and 41 of proc_pid_stat(5), with the name as the second.
    let policies: Vec<(String, [String; 2])> = tasks
        .map(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            let (start, rest) = stat.rsplit_once(')').unwrap();
            let name = start.split_once('(').unwrap().1;
            let field = |number: usize| rest.split_whitespace().nth(number - 3).unwrap().to_owned();
            (name.to_owned(), [field(41), field(19)])
        })
        .collect();
    let of = |name: &str| {
        let found = policies.iter().find(|(known, _)| known == name);
        found.map(|(_, fields)| fields.clone()).expect("no such thread")
    };
    let aside: i32 = of("store-write")[1].parse().unwrap();
    let worker: i32 = of("worker-0")[1].parse().unwrap();
    assert_eq!(
        (&of("store-write")[0][..], &of("worker-0")[0][..]),
        ("3", "0"),
        "{policies:?}"
    );
    assert_eq!(aside, (worker + 5).min(19), "{policies:?}");
}
