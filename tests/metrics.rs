//! Both scrapes read strictly, and the books compared with what was asked.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::http::Connection;
use common::{Server, Setup, on_each_driver, until};
use std::collections::BTreeSet;

fn scrape(server: &Server, path: &str) -> Exposition {
    let answer = server.get(path).expect(200);
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    Exposition::parse(&answer.text())
}

/// A connection to each worker, found by asking new connections who serves them.
fn one_to_each_worker(server: &Server, workers: usize) -> Vec<Connection> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    until("every worker to answer", || {
        let mut stream = server.connect();
        let id = stream
            .get("/health")
            .expect(200)
            .field("x-worker-id")
            .unwrap()
            .to_owned();
        if seen.insert(id) {
            found.push(stream);
        }
        found.len() == workers
    });
    found
}

/// The part of X-Worker-ID before the worker's number: the label has the same text as the header.
fn host_of(server: &common::Server) -> String {
    let answer = server.get("/health");
    let id = answer.field("x-worker-id").unwrap().to_owned();
    id.rsplit_once('-').unwrap().0.to_owned()
}

#[test]
fn the_names_of_the_guide_are_there_for_every_worker() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).env("WORKERS", "3").start();
        let _streams = one_to_each_worker(&server, 3);
        server.tell(r#"{"location":"Bern"}"#).expect(200);
        let host = host_of(&server);
        let ids = BTreeSet::from([0, 1, 2].map(|worker| format!("{host}-{worker}")));
        for path in ["/metrics", "/health/v2/metrics/worker"] {
            let metrics = scrape(&server, path);
            for (name, kind) in [
                ("http_requests_total", "counter"),
                ("worker_health_status", "gauge"),
                ("worker_active_requests", "gauge"),
                ("http_connections_open", "gauge"),
                ("io_driver_info", "gauge"),
                ("stories_generated_total", "counter"),
            ] {
                assert_eq!(
                    metrics.kinds.get(name).map(String::as_str),
                    Some(kind),
                    "{name} in {path}"
                );
            }
            for name in ["http_requests_total", "worker_health_status", "worker_active_requests"] {
                assert_eq!(metrics.values(name, "worker_id"), ids, "{name} in {path}");
            }
            // As the guide's query has it.
            let healthy: Vec<f64> = metrics
                .matching("worker_health_status", &[("component", "worker")])
                .map(|(_, value)| value)
                .collect();
            assert_eq!(healthy, [1.0, 1.0, 1.0]);
            assert_eq!(
                metrics.values("io_driver_info", "driver"),
                BTreeSet::from([driver.to_owned()])
            );
        }
        let metrics = scrape(&server, "/metrics");
        assert_eq!(metrics.kinds["http_request_duration_seconds"], "histogram");
        let bounds = metrics.values("http_request_duration_seconds_bucket", "le");
        for bound in ["0.2", "0.5", "+Inf"] {
            assert!(bounds.contains(bound), "{bounds:?}");
        }
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_start_time_seconds",
        ] {
            assert!(metrics.sum(name, &[]) > 0.0, "{name}");
        }
        assert_eq!(
            metrics.sum("roadtrip_build_info", &[("version", env!("CARGO_PKG_VERSION"))]),
            1.0
        );
    });
}

#[test]
fn the_books_add_up_to_what_was_asked() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).env("WORKERS", "2").start();
        let mut streams = one_to_each_worker(&server, 2);
        let before = scrape(&server, "/metrics");
        let mut bytes_back = 0;
        for (at, stream) in streams.iter_mut().enumerate() {
            for n in 0..50 {
                // The second worker finds the stories of the first in the store.
                let body = format!(r#"{{"location":"Bern","style":"comedy","variation":{}}}"#, n % 5);
                bytes_back += stream.tell(&body).expect(200).body.len();
                stream.get("/health").expect(200);
                if n % 5 == 0 {
                    stream.get("/nowhere").expect(404);
                    stream.tell("{}").expect(422);
                    stream.send("DELETE /health HTTP/1.1\r\nHost: t\r\n\r\n");
                    stream.read().expect(405);
                    stream.send("HEAD /docs HTTP/1.1\r\nHost: t\r\n\r\n");
                    stream.read_head().expect(200);
                }
            }
            assert!(at < 2);
        }
        for _ in 0..3 {
            let mut bad = server.connect();
            bad.send("nonsense\r\n\r\n");
            bad.read().expect(400);
        }
        let metrics = scrape(&server, "/metrics");
        let grown = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels) - before.sum(name, labels);
        let requests = |method, route, status| {
            grown(
                "http_requests_total",
                &[("method", method), ("route", route), ("status", status)],
            )
        };
        let generate = "/api/v1/stories/generate";
        assert_eq!(requests("POST", generate, "200"), 100.0);
        assert_eq!(requests("POST", generate, "422"), 20.0);
        assert_eq!(requests("GET", "/health", "200"), 100.0);
        assert_eq!(requests("GET", "unknown", "404"), 20.0);
        assert_eq!(requests("DELETE", "/health", "405"), 20.0);
        assert_eq!(requests("HEAD", "/docs", "200"), 20.0);
        assert_eq!(grown("http_requests_rejected_total", &[("status", "400")]), 3.0);
        // Five stories were told, once each, whoever was asked; the rest came from a cache or the store.
        assert_eq!(grown("stories_generated_total", &[("style", "comedy")]), 5.0);
        assert_eq!(grown("stories_generated_total", &[]), 5.0);
        assert_eq!(grown("store_commits_total", &[]), 5.0);
        assert_eq!(grown("store_commit_duration_seconds_count", &[]), 5.0);
        assert_eq!(grown("cache_hits_total", &[]), 90.0);
        assert_eq!(grown("cache_misses_total", &[]), 10.0);
        // Every request is in the histogram, each in the bucket of half a minute at the latest.
        for route in [generate, "/health", "unknown"] {
            let counted = grown("http_request_duration_seconds_count", &[("route", route)]);
            assert_eq!(counted, grown("http_requests_total", &[("route", route)]), "{route}");
        }
        let host = host_of(&server);
        for worker in ["0", "1"].map(|worker| format!("{host}-{worker}")) {
            assert!(grown("http_requests_total", &[("worker_id", &worker)]) >= 140.0);
        }
        assert!(grown("http_sent_bytes_total", &[]) > bytes_back as f64);
        assert!(grown("http_received_bytes_total", &[]) > 100.0 * 100.0);
        assert_eq!(grown("http_connections_accepted_total", &[]), 4.0);
        assert_eq!(metrics.sum("worker_active_requests", &[]), 1.0, "the scrape itself");
        drop(streams);
        until("the connections to be gone", || {
            scrape(&server, "/metrics").sum("http_connections_open", &[]) <= 1.0
        });
    });
}

#[test]
fn a_request_under_way_is_seen() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let mut waiting = server.connect();
        waiting.send("POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nContent-Length: 19\r\n\r\n{");
        let scraped = scrape(&server, "/health/v2/metrics/worker");
        // A request counts as active once it is whole; until then its connection is what is seen.
        assert!(scraped.sum("http_connections_open", &[]) >= 1.0);
        waiting.send(r#""location":"Bern"}"#);
        waiting.read().expect(200);
    });
}

#[test]
fn the_pools_of_postgresql_and_redis_tell_their_figures() {
    let database = common::postgres::Postgres::start();
    let mut redis = common::redis::Redis::start();
    let server = common::redis::setup(&redis.url())
        .env("DATABASE_URL", &database.url())
        .start();
    until("readiness", || {
        (0..8).all(|_| server.get("/health/v2/ready").status == 200)
    });
    common::redis::breaker(&server, 0.0);
    for n in 0..30 {
        let body = format!(r#"{{"location":"Bern","variation":{n}}}"#);
        server.tell(&body).expect(200);
    }
    server.get("/api/v1/stories?location=bern").expect(200);
    let metrics = scrape(&server, "/metrics");
    let sum = |name: &str| metrics.sum(name, &[]);
    let open = sum("database_connections_open");
    assert!(open >= 2.0, "one for each worker: {open}");
    assert_eq!(
        open,
        sum("database_connections_busy") + sum("database_connections_idle")
    );
    assert_eq!(open, sum("database_connections_opened_total"), "none was closed");
    assert_eq!(metrics.values("database_connections_open", "worker_id").len(), 2);
    for (name, value) in [
        ("database_pool_waiting", 0.0),
        ("database_reconnect_attempts", 0.0),
        ("database_reconnect_pause_seconds", 0.0),
        ("redis_connections_open", 2.0),
        ("redis_connections_opened_total", 2.0),
        ("redis_reconnect_attempts", 0.0),
        ("database_batch_puts_sum", 30.0),
    ] {
        assert_eq!(sum(name), value, "{name}");
    }
    let asked = |statement| metrics.sum("database_query_duration_seconds_count", &[("statement", statement)]);
    assert_eq!(asked("list_of_location"), 1.0);
    assert!(asked("put") >= 1.0 && asked("put") <= 30.0);
    assert!(asked("find") >= 1.0);
    assert_eq!(metrics.kinds["database_query_duration_seconds"], "histogram");
    assert_eq!(metrics.kinds["database_batch_puts"], "histogram");
    let status = server.json("/health/v2/status");
    let pool = &status["components"]["database"]["pool"];
    use sonic_rs::JsonValueTrait;
    assert!(
        pool["open"].as_u64().unwrap() >= 1 && pool["pooled"].as_u64() == Some(0),
        "{pool:?}"
    );

    // Both go away.
    database
        .sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'roadtrip-api'");
    redis.kill();
    until("what was lost is told", || {
        let metrics = scrape(&server, "/health/v2/metrics/worker");
        metrics.sum("database_connections_closed_total", &[("reason", "lost")]) >= 2.0
            && metrics.sum("redis_connections_closed_total", &[]) >= 2.0
            && metrics.sum("redis_connections_open", &[]) == 0.0
            && metrics.sum("redis_reconnect_attempts", &[]) >= 2.0
    });
    let mut database = database;
    database.stop();
    until("the attempts are told", || {
        let metrics = scrape(&server, "/metrics");
        metrics.sum("database_reconnect_attempts", &[]) >= 2.0
            && metrics.sum("database_connect_failures_total", &[]) >= 2.0
            && metrics.sum("database_connections_open", &[]) == 0.0
    });
    assert_eq!(server.tell(r#"{"location":"Oslo"}"#).status, 503);
    let metrics = scrape(&server, "/metrics");
    assert!(metrics.sum("database_errors_total", &[("class", "no_connection")]) >= 1.0);
}
