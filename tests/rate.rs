//! Rate limits of the real server: who is let through how often, what is said of it, and how it is switched. Limits are so
//! slow here that nothing comes back while a test runs, so that counts are exact.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::http::{Connection, Response};
use common::redis::Redis;
use common::tools::run;
use common::{Server, Setup, until};
use sonic_rs::JsonValueTrait;

const LIMITED: &str = "/api/v1/styles";

fn limited(client: &str, pod: &str) -> Setup {
    Setup::new()
        .env("RATE_LIMIT_ENABLED", "true")
        .env("RATE_LIMIT_CLIENT", client)
        .env("RATE_LIMIT_POD", pod)
}

/// How many of `count` requests on a connection pass; all others must be 429.
fn passed(connection: &mut Connection, count: usize, fields: &str) -> usize {
    let asked = (0..count).map(|_| connection.get_with(LIMITED, fields));
    asked.filter(is_pass).count()
}

fn is_pass(answer: &Response) -> bool {
    assert!(matches!(answer.status, 200 | 429), "{answer:?}");
    answer.status == 200
}

fn sum(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    Exposition::parse(&server.get("/metrics").expect(200).text()).sum(name, labels)
}

fn state(server: &Server) -> sonic_rs::Value {
    let page = server.json("/health/v2/status");
    page["components"]["rate_limit"].clone()
}

#[test]
fn one_connection_gets_its_whole_limit_and_hears_how_it_stands() {
    let server = limited("40/h", "off").env("WORKERS", "4").start();
    let mut connection = server.connect();
    for left in (0..40).rev() {
        let answer = connection.get(LIMITED).expect(200);
        assert_eq!(answer.field("ratelimit-policy"), Some("\"client\";q=40;w=3600"));
        let standing = answer.field("ratelimit").unwrap();
        assert!(standing.starts_with(&format!("\"client\";r={left};t=")), "{standing}");
    }
    let refused = connection.get_with(LIMITED, "X-Request-ID: mine\r\n").expect(429);
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    assert_eq!(refused.field("ratelimit-policy"), Some("\"client\";q=40;w=3600"));
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    // One of 40 comes back each 90 s.
    assert!((1..=90).contains(&wait), "{wait}");
    assert_eq!(
        refused.field("ratelimit"),
        Some(format!("\"client\";r=0;t={wait}").as_str())
    );
    let problem = refused.json();
    assert_eq!(problem["status"].as_u64(), Some(429));
    assert_eq!(problem["request_id"].as_str(), Some("mine"));
    // It goes for all paths alike, errors and preflights too, on any connection.
    for path in ["/docs", "/openapi.json", "/nothing", "/api/v1/stories"] {
        server.get(path).expect(429);
    }
    server.tell(r#"{"location":"Rome"}"#).expect(429);
    connection.send(format!("OPTIONS {LIMITED} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(connection.read().status, 429);
    // And never for those who look after the pod.
    for path in [
        "/health",
        "/health/v2/live",
        "/health/v2/ready",
        "/health/v2/worker",
        "/metrics",
    ] {
        let answer = server.get(path).expect(200);
        assert_eq!(
            (answer.field("ratelimit"), answer.field("ratelimit-policy")),
            (None, None)
        );
    }
    assert_eq!(sum(&server, "rate_limit_allowed_total", &[]), 40.0);
    assert_eq!(sum(&server, "rate_limit_refused_total", &[("scope", "client")]), 7.0);
    assert_eq!(state(&server)["client"]["burst"].as_u64(), Some(40));
}

#[test]
fn stories_told_at_once_later_or_as_events_say_it_too() {
    let server = limited("40/h", "off").start();
    let mut connection = server.connect();
    let told = connection.tell(r#"{"location":"Rome"}"#).expect(200);
    let cached = connection.tell(r#"{"location":"Rome"}"#).expect(200);
    let body = r#"{"location":"Oslo"}"#;
    connection.send(format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let events = connection.read().expect(200);
    let missing = connection.get("/api/v1/stories/none").expect(404);
    for (left, answer) in [(39, told), (38, cached), (37, events), (36, missing)] {
        let standing = answer.field("ratelimit").unwrap();
        assert!(standing.starts_with(&format!("\"client\";r={left};t=")), "{standing}");
    }
}

#[test]
fn many_connections_over_many_workers_get_no_more_than_a_lease_each_on_top() {
    let (burst, workers, connections) = (320, 4, 64);
    let lease = burst / 16;
    let server = limited(&format!("{burst}/h"), "off")
        .env("WORKERS", &workers.to_string())
        .start();
    let total: usize = std::thread::scope(|scope| {
        let client = || {
            let mut connection = server.connect();
            // In pieces of five at once, as one who wants the most from each worker's credit would.
            (0..4)
                .map(|_| {
                    let request = format!("GET {LIMITED} HTTP/1.1\r\nHost: a\r\n\r\n");
                    connection.send(request.repeat(5));
                    (0..5).filter(|_| is_pass(&connection.read())).count()
                })
                .sum::<usize>()
        };
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(
        (burst..=burst + workers * lease + 1).contains(&total),
        "{total} of {} passed",
        connections * 20
    );
    // What was had on credit is owed: nobody passes any more.
    assert_eq!(passed(&mut server.connect(), 5, ""), 0);
}

#[test]
fn the_pod_has_a_limit_too() {
    let server = limited("off", "10/h").start();
    let mut connection = server.connect();
    assert_eq!(passed(&mut connection, 30, ""), 10);
    let refused = connection.get(LIMITED).expect(429);
    assert!(refused.field("ratelimit").unwrap().starts_with("\"pod\";r=0;t="));
    assert_eq!(refused.field("ratelimit-policy"), Some("\"pod\";q=10;w=3600"));
    assert_eq!(sum(&server, "rate_limit_refused_total", &[("scope", "pod")]), 21.0);
}

#[test]
fn it_is_switched_without_a_restart_by_who_may() {
    let server = Setup::new()
        .env("ADMIN_TOKEN", "0123456789abcdef")
        .env("RATE_LIMIT_CLIENT", "5/h")
        .start();
    let put = |body: &str, fields: &str| {
        let mut connection = server.connect();
        connection.send(format!(
            "PUT /admin/rate-limit HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        connection.read()
    };
    let mut connection = server.connect();
    assert_eq!(passed(&mut connection, 20, ""), 20);
    assert_eq!(connection.get(LIMITED).field("ratelimit"), None);
    // A word of forwarding: whoever asks may be anywhere.
    put(r#"{"enabled":true}"#, "X-Forwarded-For: 8.8.8.8\r\n").expect(403);
    put(
        r#"{"enabled":true}"#,
        "Authorization: Bearer 0123456789abcdeF\r\nVia: 1.1 a\r\n",
    )
    .expect(403);
    let token = "Authorization: Bearer 0123456789abcdef\r\nVia: 1.1 a\r\n";
    let on = put(r#"{"enabled":true}"#, token).expect(200).json();
    assert_eq!(
        (on["enabled"].as_bool(), on["client"]["rate"].as_str()),
        (Some(true), Some("5/h"))
    );
    assert_eq!(passed(&mut connection, 20, ""), 5);
    // Other numbers give no fresh burst, and none give one.
    put(r#"{"client":{"rate":"10/h"}}"#, "").expect(200);
    assert_eq!(passed(&mut connection, 20, ""), 0);
    put(r#"{"enabled":false}"#, "").expect(200);
    assert_eq!(passed(&mut connection, 20, ""), 20);
    put(r#"{"enabled":true}"#, "").expect(200);
    assert_eq!(passed(&mut connection, 20, ""), 0);
    put(r#"{"client":null}"#, "").expect(200);
    assert_eq!(passed(&mut connection, 20, ""), 20);
    for bad in ["", "{", r#"{"client":{"rate":"fast"}}"#, r#"{"enabled":"yes"}"#] {
        assert!(matches!(put(bad, "").status, 400 | 422), "{bad}");
    }
    let seen = server.json("/admin/rate-limit");
    assert!(
        seen["client"].is_null() && seen["enabled"].as_bool() == Some(true),
        "{seen:?}"
    );
    let told = |line: &sonic_rs::Value| line["message"].as_str() == Some("the rate limits of this pod were set");
    assert!(server.log.find(told).is_some());
}

#[test]
fn behind_proxies_the_client_counts_by_their_word_alone() {
    let trusting = limited("5/h", "off").env("TRUSTED_PROXIES", "loopback").start();
    let mut connection = trusting.connect();
    for client in ["203.0.113.1", "203.0.113.2", "2001:db8:1:2::1"] {
        let by = format!("X-Forwarded-For: {client}\r\n");
        assert_eq!(passed(&mut connection, 8, &by), 5, "{client}");
    }
    // The /64 is one client; what a client says of itself stands further left, and is nobody's word.
    assert_eq!(
        passed(&mut connection, 3, "X-Forwarded-For: 2001:db8:1:2:ffff::9\r\n"),
        0
    );
    assert_eq!(
        passed(&mut connection, 3, "X-Forwarded-For: 8.8.8.8, 203.0.113.1\r\n"),
        0
    );
    assert_eq!(passed(&mut connection, 8, "X-Forwarded-For: 2001:db8:1:3::1\r\n"), 5);
    // Those of whom the proxy knows nothing are one.
    assert_eq!(passed(&mut connection, 8, "X-Forwarded-For: unknown\r\n"), 5);
    let wary = limited("5/h", "off").start();
    let mut connection = wary.connect();
    let forged = (0..20).filter(|n| {
        let by = format!("X-Forwarded-For: 203.0.113.{n}\r\n");
        is_pass(&connection.get_with(LIMITED, &by))
    });
    assert_eq!(forged.count(), 5);
}

#[test]
fn a_key_names_a_client_and_the_exempt_have_no_limit() {
    let server = limited("5/h", "20/h")
        .env("TRUSTED_PROXIES", "loopback")
        .env("RATE_LIMIT_KEY", "X-API-Key")
        .env("RATE_LIMIT_EXEMPT", "192.0.2.0/24")
        .start();
    let mut connection = server.connect();
    let from = |addr: &str, key: &str| format!("X-Forwarded-For: {addr}\r\n{key}");
    assert_eq!(passed(&mut connection, 40, &from("192.0.2.7", "")), 40);
    assert_eq!(passed(&mut connection, 8, &from("203.0.113.1", "X-API-Key: a\r\n")), 5);
    assert_eq!(passed(&mut connection, 3, &from("203.0.113.2", "x-api-key: a\r\n")), 0);
    assert_eq!(passed(&mut connection, 8, &from("203.0.113.1", "X-API-Key: b\r\n")), 5);
    // Without a key, or with two of them, it is the address.
    assert_eq!(passed(&mut connection, 3, &from("203.0.113.1", "")), 3);
    let two = "X-API-Key: c\r\nX-API-Key: d\r\n";
    assert_eq!(passed(&mut connection, 8, &from("203.0.113.1", two)), 2);
    // And all together have no more than the pod.
    assert_eq!(passed(&mut connection, 8, &from("203.0.113.9", "")), 5);
    assert_eq!(passed(&mut connection, 8, &from("203.0.113.8", "")), 0);
}

#[test]
fn http2_is_limited_alike() {
    let server = limited("12/h", "off").env("WORKERS", "1").start();
    let ran = run("h2load", &["-n20", "-c1", "-m4", &server.url(LIMITED)])
        .expect(0)
        .out();
    assert!(ran.contains("status codes: 12 2xx, 0 3xx, 8 4xx, 0 5xx"), "{ran}");
    let head = run("curl", &["-sS", "--http2-prior-knowledge", "-I", &server.url(LIMITED)]);
    let head = head.expect(0).out();
    assert!(head.starts_with("HTTP/2 429"), "{head}");
    for field in [
        "retry-after: ",
        "ratelimit: \"client\";r=0;t=",
        "ratelimit-policy: \"client\";q=12;w=3600",
    ] {
        assert!(head.contains(field), "{head}");
    }
    // The one client on either version.
    server.get(LIMITED).expect(429);
    let probe = run(
        "curl",
        &["-sS", "--http2-prior-knowledge", "-I", &server.url("/health")],
    );
    assert!(probe.expect(0).out().starts_with("HTTP/2 200"));
}

/// Two pods with one Redis and room for 160 requests of a client, so that a lease is ten.
fn pods(redis: &Redis) -> [Server; 2] {
    [(); 2].map(|()| {
        limited("160/h", "off")
            .env("WORKERS", "2")
            .env("REDIS_URL", &redis.url())
            .start()
    })
}

const LEASE: usize = 10;

#[test]
fn pods_with_one_redis_share_a_limit() {
    let redis = Redis::start();
    let pods = pods(&redis);
    pods.iter().for_each(|pod| common::redis::breaker(pod, 0.0));
    assert_eq!(state(&pods[0])["scope"].as_str(), Some("all pods"));
    let mut connections = pods.each_ref().map(Server::connect);
    // By turns: each pod tells the other of a lease at a time.
    let mut total = 0;
    for round in 0..40 {
        total += passed(&mut connections[round % 2], 10, "");
        // A settlement is under way, and nobody waits for it but this test: what a pod keeps to itself is a lease of its
        // worker and one of its own.
        let told = || {
            pods.iter()
                .map(|pod| sum(pod, "rate_limit_redis_leases_total", &[]))
                .sum::<f64>()
        };
        let least = total as f64 / (2 * LEASE + 1) as f64 - 3.0;
        until("leases are settled", || total >= 160 || told() >= least);
    }
    // One pod alone would have let 160 through, and both without Redis 320.
    assert!((160 - LEASE..=160 + 6 * LEASE).contains(&total), "{total}");
    // A pod that is new knows what was spent as soon as it has asked.
    let third = limited("160/h", "off").env("REDIS_URL", &redis.url()).start();
    common::redis::breaker(&third, 0.0);
    let mut connection = third.connect();
    let begun = passed(&mut connection, 2 * LEASE + 2, "");
    until("the third pod has asked", || {
        sum(&third, "rate_limit_redis_leases_total", &[]) > 0.0
    });
    assert!(begun > 0 && passed(&mut connection, 30, "") <= 1, "{begun}");
    // The accounts are where the README says, and are not kept for ever.
    let keys = redis.cli(&["--scan", "--pattern", "roadtrip:v1:r:*"]);
    assert_eq!(keys.lines().count(), 1, "{keys}");
    let left: u64 = redis.cli(&["PTTL", keys.trim()]).parse().unwrap();
    assert!(left > 0 && left < 4 * 3600 * 1000, "{left}");
}

#[test]
fn one_pod_alone_on_redis_loses_nothing_of_its_limit() {
    let redis = Redis::start();
    let pod = limited("160/h", "off").env("REDIS_URL", &redis.url()).start();
    common::redis::breaker(&pod, 0.0);
    let mut connection = pod.connect();
    let mut total = 0;
    for _ in 0..30 {
        total += passed(&mut connection, 10, "");
    }
    assert_eq!(total, 160);
}

#[test]
fn without_redis_pods_limit_on_their_own_and_say_so() {
    let mut redis = Redis::start();
    let pods = pods(&redis);
    pods.iter().for_each(|pod| common::redis::breaker(pod, 0.0));
    redis.kill();
    // Open between pods, never within one.
    for pod in &pods {
        let mut connection = pod.connect();
        assert_eq!(passed(&mut connection, 200, ""), 160);
        until("the status says so", || {
            state(pod)["status"].as_str() == Some("degraded")
        });
        assert_eq!(state(pod)["scope"].as_str(), Some("pod (Redis is away)"));
        assert_eq!(pod.json("/health/v2/status")["status"].as_str(), Some("degraded"));
        assert!(
            pod.get("/health/v2/ready").status == 200,
            "nothing is wrong with the pod"
        );
        until("the metric says so", || {
            sum(pod, "rate_limit_redis_failures_total", &[]) > 0.0
        });
        let told = |line: &sonic_rs::Value| {
            let text = line["message"].as_str().unwrap_or_default();
            text.starts_with("rate limits hold within each pod only")
        };
        until("the log says so", || pod.log.find(told).is_some());
        let lines = pod.all_said();
        assert_eq!(
            lines.matches("rate limits hold within each pod only").count(),
            1,
            "once"
        );
    }
    // Back: what was owed is told, and holds for both.
    redis.restart();
    pods.iter().for_each(|pod| common::redis::breaker(pod, 0.0));
    until("the gauge says that it is well", || {
        pods.iter().all(|pod| sum(pod, "rate_limit_open", &[]) == 0.0)
    });
    for pod in &pods {
        assert_eq!(passed(&mut pod.connect(), 20, ""), 0);
    }
}
