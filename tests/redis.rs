//! Redis as the shared cache, against a real redis-server: what processes share, what a stampede costs, the ways to
//! connect, and what is refused. `redis_faults.rs` has what happens to it under load.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::story_request;
use common::redis::{Redis, asked, breaker, id_of, metrics, setup, status, sum};
use common::{Server, Setup, until};
use sonic_rs::JsonValueTrait;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Instant;

#[test]
fn a_story_told_by_one_process_is_the_others_and_stays_so() {
    let mut redis = Redis::start();
    let folder = tempfile::TempDir::new().unwrap();
    let one = setup(&redis.url()).start();
    let mut two = setup(&redis.url()).data(folder.path()).start();
    breaker(&one, 0.0);
    breaker(&two, 0.0);
    let told = one.tell(&asked("Rome", 1)).expect(200);
    assert_eq!(told.field("cache-status"), Some("roadtrip-api; fwd=miss; stored"));
    let path = format!("/api/v1/stories/{}", id_of(&told.body));
    // Written in the background.
    until("the story in Redis", || redis.cli(&["DBSIZE"]) == "2");
    let found = two.tell(&asked("Rome", 1)).expect(200);
    assert_eq!(
        found.field("cache-status"),
        Some("roadtrip-api; fwd=miss; detail=redis")
    );
    assert_eq!(found.body, told.body);
    assert_eq!(sum(&two, "stories_generated_total"), 0.0);

    // By id alone, from a process that has not told it and was not asked for it.
    let three = setup(&redis.url()).start();
    breaker(&three, 0.0);
    assert_eq!(three.get(&path).expect(200).body, told.body);

    // Whoever has answered a story has it, whatever becomes of Redis and of the one who told it.
    redis.kill();
    drop(one);
    two.stop();
    let two = setup(&redis.url()).data(folder.path()).start();
    assert_eq!(two.get(&path).expect(200).body, told.body);
    assert_eq!(three.get(&path).expect(200).body, told.body);
    assert_eq!(two.tell(&asked("Rome", 1)).expect(200).body, told.body);
    let unknown = "/api/v1/stories/018f0000-0000-7000-8000-000000000000";
    two.get(unknown).expect(404);
    two.get("/api/v1/stories/018f0000-0000-4000-8000-000000000000")
        .expect(404);
}

#[test]
fn one_of_many_tells_a_story_that_all_want_at_once() {
    const KEYS: u64 = 20;
    let redis = Redis::start();
    // Time enough for a busy machine: what is measured is who tells, not how fast.
    let start = |_| setup(&redis.url()).env("REDIS_TIMEOUT", "2s").start();
    let servers: Vec<Server> = (0..4).map(start).collect();
    servers.iter().for_each(|server| breaker(server, 0.0));
    let answers: Mutex<HashMap<u64, Vec<Vec<u8>>>> = Mutex::default();
    for key in 0..KEYS {
        let gate = std::sync::Barrier::new(32);
        std::thread::scope(|scope| {
            for client in 0..32 {
                let (server, gate, answers) = (&servers[client % 4], &gate, &answers);
                scope.spawn(move || {
                    let mut connection = server.connect();
                    gate.wait();
                    let body = connection.tell(&asked("Kyoto", key)).expect(200).body;
                    answers.lock().unwrap().entry(key).or_default().push(body);
                });
            }
        });
    }
    for bodies in answers.into_inner().unwrap().into_values() {
        assert_eq!(bodies.len(), 32);
        assert!(bodies.iter().all(|body| *body == bodies[0]), "all are told the same");
    }
    let all = |name| servers.iter().map(|server| sum(server, name)).sum::<f64>();
    let (told, waits, joined) = (
        all("stories_generated_total"),
        all("redis_lock_waits_total"),
        all("story_flights_joined_total"),
    );
    println!(
        "stampede: {KEYS} keys, 4 processes of 2 workers, 32 clients: {told} told, {waits} waited, {joined} joined"
    );
    // One each, and a few more where the machine held somebody up for longer than anybody waits.
    assert!(
        (KEYS as f64..=KEYS as f64 * 1.25).contains(&told),
        "{told} stories told for {KEYS} keys"
    );
}

#[test]
fn an_absent_redis_costs_a_request_nothing() {
    let port = common::postgres::free_port();
    let server = setup(&format!("redis://127.0.0.1:{port}")).start();
    breaker(&server, 2.0);
    let mut stream = server.connect();
    for number in 0..50 {
        stream.tell(&asked("Rome", number)).expect(200);
    }
    // Nothing was tried for their sake: no command, no timeout; only the attempts to connect failed.
    let now = metrics(&server);
    for kind in ["timeout", "lost", "full"] {
        assert_eq!(now.sum("redis_errors_total", &[("kind", kind)]), 0.0, "{kind}");
    }
    assert_eq!(now.sum("redis_command_duration_seconds_count", &[]), 0.0);
    assert!(now.sum("redis_writes_left_out_total", &[]) >= 50.0);
    let said = server.all_said();
    assert_eq!(
        said.lines().filter(|line| line.contains("Redis is away")).count(),
        2,
        "once a worker: {said}"
    );
}

#[test]
fn a_unix_socket_an_acl_user_and_a_database() {
    const RIGHTS: &[&str] = &[
        "resetkeys",
        "~mine:*",
        "-@all",
        "+get",
        "+set",
        "+del",
        "+eval",
        "+ping",
        "+hello",
        "+select",
    ];
    let redis = Redis::start();
    let mut words = vec!["ACL", "SETUSER", "app", "on", ">s3ntinel-%/@"];
    words.extend_from_slice(RIGHTS);
    assert_eq!(redis.cli(&words), "OK");
    let url = format!("redis+unix://app:s3ntinel-%25%2F%40@{}?db=3", redis.socket().display());
    let setup = || setup(&url).env("REDIS_PREFIX", "mine:");
    let (one, two) = (setup().start(), setup().start());
    breaker(&one, 0.0);
    breaker(&two, 0.0);
    let told = one.tell(&asked("Rome", 1)).expect(200);
    until("the story in Redis", || redis.cli(&["-n", "3", "DBSIZE"]) == "2");
    let found = two.tell(&asked("Rome", 1)).expect(200);
    assert_eq!(
        found.field("cache-status"),
        Some("roadtrip-api; fwd=miss; detail=redis")
    );
    assert_eq!(found.body, told.body);
    let keys = redis.cli(&["-n", "3", "KEYS", "*"]);
    assert!(keys.lines().all(|key| key.starts_with("mine:")), "{keys}");
    for server in [&one, &two] {
        let errors = metrics(server).sum("redis_errors_total", &[("kind", "permission")]);
        assert_eq!(errors, 0.0, "the rights in the README are enough");
    }
    // One connection a worker, under a name that an operator recognises.
    let clients = redis.cli(&["CLIENT", "LIST"]);
    assert_eq!(
        clients
            .lines()
            .filter(|line| line.contains("name=roadtrip-api:"))
            .count(),
        4,
        "{clients}"
    );
}

#[test]
fn passwords_appear_nowhere() {
    let redis = Redis::with(&["--requirepass", "s3ntinel"]);
    for (password, state) in [("s3ntinel", 0.0), ("wrong-s3ntinel", 2.0)] {
        let url = redis.url().replace("redis://", &format!("redis://:{password}@"));
        let setup = || setup(&url).env("LOG_LEVEL", "trace");
        let mut server = setup().start();
        breaker(&server, state);
        server.tell(&asked("Rome", 1)).expect(200);
        let checked = setup().run(&["check"]).expect(0);
        let mut said = server.get("/health/v2/status").text() + &server.get("/health/v2/ready").text();
        said += &server.get("/metrics").text();
        if state == 2.0 {
            until("the log says why", || {
                server.log.find(|line| line["kind"].as_str() == Some("auth")).is_some()
            });
        }
        server.stop();
        said += &server.all_said();
        said += &checked.out();
        said += &checked.err();
        assert!(!said.contains("s3ntinel"), "{said}");
    }
}

#[test]
fn what_is_not_supported_is_refused_at_boot_by_name() {
    for (url, word) in [
        ("redis-cluster://:s3ntinel@a:1", "Redis Cluster"),
        ("redis+sentinel://:s3ntinel@a/mymaster", "Sentinel"),
        ("redis://:s3ntinel@a:1,b:2", "several hosts"),
        ("redis://:s3ntinel@a?decode_responses=true", "decode_responses"),
        ("rediss://:s3ntinel@a#insecure", "#insecure"),
        ("redis://:s3nt/inel@a", "percent-encode"),
    ] {
        let ran = Setup::new().env("REDIS_URL", url).run(&["serve"]).expect(78);
        assert!(ran.err().contains("REDIS_URL") && ran.err().contains(word), "{ran:?}");
        assert!(!ran.err().contains("s3nt"), "{ran:?}");
    }
    let ran = Setup::new()
        .env("REDIS_URL", "rediss://a?ssl_ca_certs=/nonexistent.pem")
        .run(&["serve"]);
    assert_eq!(ran.status.code(), Some(69));
    assert!(
        ran.err().contains("/nonexistent.pem") && ran.err().contains("Remedy"),
        "{ran:?}"
    );
}

#[test]
fn a_node_of_a_cluster_is_not_used_and_said_so() {
    // Not left to itself, which is the port and 10,000: somebody's outgoing connection may have that.
    let bus = common::postgres::free_port().to_string();
    let redis = Redis::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    let server = setup(&redis.url()).start();
    until("the status says so", || status(&server, "reason").contains("Cluster"));
    server.tell(&asked("Rome", 1)).expect(200);
    assert!(
        server
            .log
            .find(|line| line["kind"].as_str() == Some("cluster"))
            .is_some()
    );
}

#[test]
fn tls_is_verified() {
    let dir = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = write("ca.pem", params.self_signed(&authority_key).unwrap().pem());
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = write("cert.pem", cert.signed_by(&key, &issuer).unwrap().pem());
    let key = write("key.pem", key.serialize_pem());
    let port = common::postgres::free_port().to_string();
    let redis = Redis::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]);
    redis.wait_until_loaded();
    // As the README has it: a user with these rights and no more, over TLS.
    let rights = "ACL SETUSER app on >s3ntinel ~roadtrip:v1:* -@all +hello +ping +select +get +set +del +eval";
    assert_eq!(redis.cli(&rights.split(' ').collect::<Vec<_>>()), "OK");
    let server = setup(&format!("rediss://app:s3ntinel@localhost:{port}?ssl_ca_certs={ca}")).start();
    breaker(&server, 0.0);
    server.tell(&asked("Rome", 1)).expect(200);
    until("the story in Redis", || redis.cli(&["DBSIZE"]) == "2");
    // Another name than the certificate's, and an authority that nobody knows.
    for url in [
        format!("rediss://127.0.0.1:{port}?ssl_ca_certs={ca}"),
        format!("rediss://localhost:{port}?ssl_ca_certs={cert}"),
    ] {
        let server = setup(&url).start();
        breaker(&server, 2.0);
        let line = server.log.find(|line| line["kind"].as_str() == Some("connect"));
        assert!(
            line.unwrap()["detail"].as_str().unwrap().contains("TLS"),
            "{}",
            server.all_said()
        );
        server.tell(&asked("Rome", 2)).expect(200);
    }
}

#[test]
fn what_is_past_its_time_is_served_and_looked_up_meanwhile() {
    let redis = Redis::start();
    let server = setup(&redis.url())
        .env("WORKERS", "1")
        .env("CACHE_TTL_SECONDS", "1s")
        .start();
    breaker(&server, 0.0);
    let mut stream = server.connect();
    let told = stream.tell(&asked("Rome", 1)).expect(200);
    let path = format!("/api/v1/stories/{}", id_of(&told.body));
    // What each coding's answers wear, by the first of them; and in which a stale and a fresh one were seen.
    let mut worn: HashMap<&str, Vec<(String, String)>> = HashMap::new();
    let mut seen = HashSet::new();
    let begun = Instant::now();
    let mut codings = ["identity", "gzip"].into_iter().cycle();
    until("a stale answer in each coding, and a fresh one after it", || {
        let coding = codings.next().unwrap();
        let fields = format!("Host: test\r\nAccept-Encoding: {coding}\r\n");
        stream.send(story_request(&asked("Rome", 1)).replacen("Host: test\r\n", &fields, 1));
        let answer = stream.read().expect(200);
        // Of how late it is Cache-Status alone tells: the rest, its own time and id aside, is that of a fresh one.
        let mut fields = answer.fields.clone();
        fields.retain(|(name, _)| {
            !["cache-status", "date", "x-request-id"].contains(&name.to_ascii_lowercase().as_str())
        });
        fields.sort();
        assert_eq!(
            *worn.entry(coding).or_insert_with(|| fields.clone()),
            fields,
            "{coding}"
        );
        assert_eq!(answer.field("content-location"), Some(path.as_str()));
        assert_eq!(answer.field("vary"), Some("Accept, Accept-Encoding"));
        match answer.field("content-encoding") {
            Some("gzip") => {
                let mut body = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut body).unwrap();
                assert!(coding == "gzip" && body == told.body);
            }
            none => assert!(none.is_none() && coding == "identity" && answer.body == told.body),
        }
        assert_eq!(stream.get(&path).expect(200).body, told.body);
        let cache = answer.field("cache-status").unwrap();
        let stale = cache.starts_with("roadtrip-api; hit; ttl=-");
        assert!(
            stale || cache == "roadtrip-api; hit",
            "{cache} after {:?}",
            begun.elapsed()
        );
        if stale || seen.contains(&(coding, true)) {
            seen.insert((coding, stale));
        }
        seen.len() == 4
    });
    let now = metrics(&server);
    assert!(now.sum("cache_stale_while_revalidate_total", &[]) >= 1.0);
    assert_eq!(now.sum("stories_generated_total", &[]), 1.0);
}

#[test]
fn connections_are_no_more_than_allowed() {
    let redis = Redis::start();
    let server = setup(&redis.url())
        .env("WORKERS", "3")
        .env("REDIS_MAX_CONNECTIONS", "2")
        .start();
    until("both connections", || {
        let clients = redis.cli(&["CLIENT", "LIST"]);
        clients
            .lines()
            .filter(|line| line.contains("name=roadtrip-api:"))
            .count()
            == 2
    });
    for number in 0..30 {
        server.tell(&asked("Rome", number % 10)).expect(200);
    }
    let clients = redis.cli(&["CLIENT", "LIST"]);
    assert_eq!(
        clients
            .lines()
            .filter(|line| line.contains("name=roadtrip-api:"))
            .count(),
        2
    );
}

#[test]
fn with_postgresql_both_are_shared_and_each_stands_in_for_the_other() {
    let mut postgres = common::postgres::Postgres::start();
    let mut redis = Redis::start();
    let (redis_url, database_url) = (redis.url(), postgres.url());
    let setup = || {
        setup(&redis_url)
            .env("ENVIRONMENT", "production")
            .env("AUTO_MIGRATE", "true")
            .env("DATABASE_URL", &database_url)
            .env("WORKERS", "1")
    };
    let servers = [(); 3].map(|()| setup().start());
    let [one, two, three] = &servers;
    for server in &servers {
        breaker(server, 0.0);
        until("ready", || server.get("/health/v2/ready").status == 200);
    }
    let told = one.tell(&asked("Rome", 1)).expect(200);
    let path = format!("/api/v1/stories/{}", id_of(&told.body));
    until("the story in Redis", || redis.cli(&["DBSIZE"]) == "2");
    let found = two.tell(&asked("Rome", 1)).expect(200);
    assert_eq!(
        found.field("cache-status"),
        Some("roadtrip-api; fwd=miss; detail=redis")
    );
    assert_eq!(found.body, told.body);

    // An id that nobody has is looked for once in a while, and none that exists hides behind that.
    let unknown = "/api/v1/stories/018f0000-0000-7000-8000-000000000000";
    for _ in 0..5 {
        three.get(unknown).expect(404);
    }
    assert!(sum(three, "cache_absent_hits_total") >= 1.0);
    let fresh = three.tell(&asked("Rome", 2)).expect(200);
    for server in &servers {
        let path = format!("/api/v1/stories/{}", id_of(&fresh.body));
        assert_eq!(server.get(&path).expect(200).body, fresh.body);
    }

    // Without Redis: the database has it.
    redis.kill();
    breaker(three, 2.0);
    let found = three.tell(&asked("Rome", 1)).expect(200);
    assert_eq!(
        found.field("cache-status"),
        Some("roadtrip-api; fwd=miss; detail=store")
    );
    assert_eq!(found.body, told.body);
    redis.restart();
    servers.iter().for_each(|server| breaker(server, 0.0));

    // Without the database: Redis has it.
    let shared = one.tell(&asked("Rome", 3)).expect(200);
    until("the story in Redis", || redis.cli(&["DBSIZE"]) == "2");
    postgres.kill_9();
    let found = three.tell(&asked("Rome", 3)).expect(200);
    assert_eq!(found.body, shared.body);
    let found = two.get(&format!("/api/v1/stories/{}", id_of(&shared.body))).expect(200);
    assert_eq!(found.body, shared.body);
    assert_eq!(two.get(&path).expect(200).body, told.body);
    let refused = two.tell(&asked("Rome", 4)).expect(503);
    assert!(refused.field("retry-after").is_some());
}
