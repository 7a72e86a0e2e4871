//! The server with PostgreSQL behind it: migrations, encryption, and nothing lost whatever happens to the database.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::{Connection, story_request};
use common::postgres::Postgres;
use common::{Server, Setup, until};
use sonic_rs::{JsonContainerTrait, JsonValueTrait};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// A server on that database; epoll and io_uring differ below the store only.
fn on(url: &str) -> Setup {
    Setup::new().env("DATABASE_URL", url).env("WORKERS", "2")
}

fn ready(server: &Server) -> bool {
    // Each connection may reach another worker, and each worker has its own connections.
    (0..8).all(|_| server.get("/health/v2/ready").status == 200)
}

fn readiness(server: &Server) -> String {
    server.get("/health/v2/ready").text()
}

fn started(setup: Setup) -> Server {
    let server = setup.start();
    until("readiness", || ready(&server));
    server
}

#[test]
fn twenty_processes_migrate_one_empty_database_at_once() {
    let database = Postgres::start();
    let setup = on(&database.url());
    let all: Vec<common::tools::Ran> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..20).map(|_| scope.spawn(|| setup.run(&["migrate"]))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut applied = 0;
    for ran in &all {
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        applied += ran.out().matches("migrated 0001_stories").count();
        assert!(ran.out().contains("up to date"), "{ran:?}");
    }
    assert_eq!(applied, 1, "one of them applied it");
    assert_eq!(
        database.sql("SELECT count(*), max(version) FROM roadtrip_migrations"),
        "1|1"
    );
    assert_eq!(database.sql("SELECT count(*) FROM stories"), "0");
    assert_eq!(
        database.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "0"
    );
}

#[test]
fn migrate_says_what_is_and_what_would_be() {
    let mut database = Postgres::start();
    let setup = on(&database.url());
    let said = setup.run(&["migrate", "status"]).expect(1).out();
    assert!(
        said.contains("pending  0001_stories") && said.contains("not up to date"),
        "{said}"
    );
    let said = setup.run(&["migrate", "--dry-run"]).expect(1).out();
    assert!(said.contains("CREATE TABLE stories"), "{said}");
    assert_eq!(
        database.sql("SELECT to_regclass('stories') IS NULL"),
        "t",
        "the dry run was wet"
    );
    setup.run(&["migrate", "up"]).expect(0);
    let said = setup.run(&["migrate", "status"]).expect(0).out();
    assert!(said.contains("applied  0001_stories  20"), "{said}");
    assert!(setup.run(&["migrate"]).expect(0).out().contains("up to date"));

    // A database that has gone on, and one whose past was changed.
    database.sql("INSERT INTO roadtrip_migrations (version, name, checksum, needs) VALUES (2, '0002_more', 'x', 1)");
    let said = setup.run(&["migrate"]).expect(0).out();
    assert!(said.contains("newer    0002_more"), "{said}");
    let server = started(on(&database.url()));
    drop(server);
    database.sql("UPDATE roadtrip_migrations SET needs = 2 WHERE version = 2");
    assert!(setup.run(&["migrate"]).expect(65).err().contains("0002_more"));
    database.sql("DELETE FROM roadtrip_migrations WHERE version = 2; UPDATE roadtrip_migrations SET checksum = 'y'");
    for action in ["up", "status"] {
        assert!(
            setup
                .run(&["migrate", action])
                .expect(65)
                .err()
                .contains("0001_stories was changed")
        );
    }
    let server = on(&database.url()).start();
    until("the reason", || {
        readiness(&server).contains("was changed after it was applied")
    });

    database.stop();
    let away = setup.run(&["migrate", "--wait", "0"]).expect(69).err();
    assert!(away.contains("not reachable"), "{away}");
    assert!(Setup::new().run(&["migrate"]).expect(78).err().contains("DATABASE_URL"));
    let wrong = Setup::new().env("DATABASE_URL", "postgresql://u:hidden@db/x?sslcrl=y");
    let said = wrong.run(&["migrate"]).expect(78).err();
    assert!(said.contains("sslcrl") && !said.contains("hidden"), "{said}");
    // The server says the same, and does not start.
    let said = wrong.run(&["check"]).expect(78).err();
    assert!(said.contains("sslcrl") && !said.contains("hidden"), "{said}");
}

#[test]
fn readiness_names_pending_migrations_and_follows_when_they_are_in() {
    let database = Postgres::start();
    let setup = || on(&database.url()).env("ENVIRONMENT", "staging");
    let server = setup().start();
    until("the reason", || readiness(&server).contains("0001_stories"));
    assert_eq!(server.get("/health/v2/ready").status, 503);
    assert_eq!(server.get("/health/v2/live").status, 200);
    let refused = server.tell(r#"{"location":"Cork"}"#);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.field("retry-after").is_some());
    setup().run(&["migrate"]).expect(0);
    until("readiness", || ready(&server));
    server.tell(r#"{"location":"Cork"}"#).expect(200);
    let status = server.json("/health/v2/status");
    let part = &status["components"]["database"];
    assert_eq!(
        (part["kind"].as_str(), part["status"].as_str()),
        (Some("postgresql"), Some("healthy"))
    );
    assert!(part["connections"].as_u64().unwrap() >= 1);
    assert_eq!(database.sql("SELECT count(*) FROM stories"), "1");
    drop(server);

    // A role that may do no more than it needs.
    database.sql(
        "CREATE ROLE teller LOGIN; GRANT SELECT, INSERT ON stories TO teller; GRANT SELECT ON roadtrip_migrations TO teller",
    );
    let server = started(setup().env(
        "DATABASE_URL",
        &database.url_of("teller", "127.0.0.1", "sslmode=disable"),
    ));
    server.tell(r#"{"location":"Oslo"}"#).expect(200);
    assert!(server.get("/api/v1/stories").expect(200).text().contains("Cork"));
}

#[test]
fn pods_share_one_story_and_see_each_others() {
    let database = Postgres::start();
    let pods: Vec<Server> = ["uring", "epoll"]
        .iter()
        .filter(|driver| **driver != "uring" || common::uring_is_here())
        .chain(["epoll"].iter())
        .map(|driver| started(on(&database.url()).driver(driver)))
        .collect();
    let bodies: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..12)
            .map(|number| {
                let pod = &pods[number % pods.len()];
                scope.spawn(|| pod.tell(r#"{"location":"Lisbon","variation":7}"#).expect(200).body)
            })
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(bodies.iter().all(|body| *body == bodies[0]), "one request, two stories");
    assert_eq!(database.sql("SELECT count(*) FROM stories"), "1");
    let story: sonic_rs::Value = sonic_rs::from_slice(&bodies[0]).unwrap();
    let path = format!("/api/v1/stories/{}", story["id"].as_str().unwrap());
    for pod in &pods {
        assert_eq!(pod.get(&path).expect(200).body, bodies[0]);
        let list = pod.json("/api/v1/stories?location=lisbon&style=adventure");
        let first = list.as_object().unwrap().iter().find_map(|(_, value)| value.as_array());
        assert_eq!(first.unwrap().len(), 1, "{list:?}");
    }
}

/// What a load saw.
struct Load {
    /// Request and answer of each 200.
    kept: BTreeMap<String, Vec<u8>>,
    answered: u32,
    refused: u32,
}

/// Tells new stories on a few connections while `trouble` does what it does, and until a few were told after it.
fn load(server: &Server, round: u32, trouble: impl FnOnce()) -> Load {
    const CONNECTIONS: u32 = 12;
    let (kept, over) = (Mutex::new(BTreeMap::new()), AtomicBool::new(false));
    let (answered, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let addr = server.addr();
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (kept, over, answered, refused) = (&kept, &over, &answered, &refused);
            scope.spawn(move || {
                let mut stream = Connection::open(addr);
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let variation = (round * CONNECTIONS + connection) * 100_000 + n;
                    let body = format!(r#"{{"location":"Cork","length":"short","variation":{variation}}}"#);
                    stream.stream.write_all(story_request(&body).as_bytes()).unwrap();
                    let answer = stream.read();
                    match answer.status {
                        200 => {
                            answered.fetch_add(1, Ordering::Relaxed);
                            kept.lock().unwrap().insert(body, answer.body);
                        }
                        503 => {
                            assert!(answer.field("retry-after").is_some(), "{answer:?}");
                            refused.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        _ => panic!("{answer:?}"),
                    }
                }
            });
        }
        until("answers", || answered.load(Ordering::Relaxed) > 100);
        trouble();
        let before = answered.load(Ordering::Relaxed);
        until("answers after it", || answered.load(Ordering::Relaxed) > before + 100);
        over.store(true, Ordering::Relaxed);
    });
    Load {
        kept: kept.into_inner().unwrap(),
        answered: answered.into_inner(),
        refused: refused.into_inner(),
    }
}

/// Every acknowledged story is in the database, byte for byte: asked of a server without a cache.
fn nothing_missing(database: &Postgres, kept: &BTreeMap<String, Vec<u8>>, what: &str) {
    let server = started(on(&database.url()).env("CACHE_BYTES", "0"));
    let mut stream = server.connect();
    let mut missing = 0;
    for (body, answer) in kept {
        let found = stream.tell(body).expect(200);
        let from_store = found.field("cache-status") == Some("roadtrip-api; fwd=miss; detail=store");
        missing += u32::from(!from_store || found.body != *answer);
    }
    assert_eq!(missing, 0, "{what}: acknowledged stories are missing");
}

#[test]
fn kill_9_of_postgresql_under_load_loses_no_acknowledged_story() {
    let mut database = Postgres::start();
    let server = started(on(&database.url()));
    let mut kept = BTreeMap::new();
    for round in 0..4 {
        let seen = load(&server, round, || {
            database.kill_9();
            std::thread::sleep(Duration::from_millis(200 * u64::from(round)));
            database.launch();
        });
        eprintln!(
            "round {round}: {} answered, {} refused with 503",
            seen.answered, seen.refused
        );
        kept.extend(seen.kept);
    }
    drop(server);
    nothing_missing(&database, &kept, "kill -9");
    eprintln!("{} stories acknowledged, 0 missing", kept.len());
}

#[test]
fn ending_every_connection_under_load_costs_no_request() {
    let database = Postgres::start();
    let server = started(on(&database.url()));
    let seen = load(&server, 0, || {
        for _ in 0..10 {
            database.sql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'roadtrip-api'",
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(seen.refused, 0, "of {}", seen.answered);
    drop(server);
    nothing_missing(&database, &seen.kept, "pg_terminate_backend");
}

#[test]
fn a_database_that_is_away_keeps_no_server_from_starting_or_from_telling_what_it_has() {
    let mut database = Postgres::start();
    database.stop();
    let server = on(&database.url()).env("WORKERS", "1").start();
    assert_eq!(server.get("/health/v2/ready").status, 503);
    until("the reason", || readiness(&server).contains("not reachable"));
    database.launch();
    until("readiness", || ready(&server));
    let told = server.tell(r#"{"location":"Cork"}"#).expect(200);
    database.stop();
    let cached = server.tell(r#"{"location":"Cork"}"#).expect(200);
    assert_eq!(cached.body, told.body, "a cached story needs no database");
    until("unreadiness", || server.get("/health/v2/ready").status == 503);
    assert_eq!(server.tell(r#"{"location":"Oslo"}"#).status, 503);
    assert_eq!(server.get("/health/v2/status").status, 503);
    database.launch();
    until("readiness", || ready(&server));
    server.tell(r#"{"location":"Oslo"}"#).expect(200);
    // The log has a thread of its own.
    until("the log's word of it", || {
        let said = |line: &sonic_rs::Value| line["message"].as_str() == Some("PostgreSQL is back");
        server.log.find(said).is_some()
    });
}

#[test]
fn what_an_operator_should_know_is_said_once() {
    let database = Postgres::with(&["synchronous_commit=off", "fsync=off", "max_connections=30"]);
    let server = started(
        on(&database.url())
            .env("PODS_MAX", "3")
            .env("DB_POOL_SIZE", "5")
            .env("DB_MAX_OVERFLOW", "5"),
    );
    let said = server.all_said();
    for part in ["may be 60", "takes 27", "synchronous_commit=off", "fsync=off"] {
        assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
    }
    let quiet = started(
        on(&database.url())
            .env("PODS_MAX", "1")
            .env("DB_POOL_SIZE", "2")
            .env("DB_MAX_OVERFLOW", "1"),
    );
    assert!(!quiet.all_said().contains("max_connections 30"), "{}", quiet.all_said());
}

/// A CA, and a certificate for the name `localhost` of that CA.
struct Certificates {
    ca: String,
    chain: String,
    key: String,
}

fn certificates() -> Certificates {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    Certificates {
        ca,
        chain: params.signed_by(&key, &issuer).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

#[test]
fn encryption_and_passwords_hold_what_they_say_and_are_never_shown() {
    let mut database = Postgres::start();
    let ours = certificates();
    let files = [("server.crt", &ours.chain), ("server.key", &ours.key)].map(|(name, text)| database.write(name, text));
    let (ca, stranger) = (
        database.write("ca.crt", &ours.ca),
        database.write("stranger.crt", &certificates().ca),
    );
    database.stop();
    database.set(&[
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", files[0].display()),
        format!("ssl_key_file={}", files[1].display()),
    ]);
    database.launch();
    // A password with all that must be encoded, and one by each of the old methods.
    const WORD: &str = "s3ntinel@/?#%";
    const ENCODED: &str = "s3ntinel%40%2F%3F%23%25";
    database.sql(&format!(
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD '{WORD}'; \
         CREATE ROLE plain LOGIN PASSWORD '{WORD}'; SET password_encryption = 'md5'; \
         CREATE ROLE md5 LOGIN PASSWORD '{WORD}'; GRANT ALL ON SCHEMA public TO scram, plain, md5"
    ));
    database.allow(
        "hostssl all scram 127.0.0.1/32 scram-sha-256\nhostssl all plain 127.0.0.1/32 password\n\
         hostssl all md5 127.0.0.1/32 md5\nhostnossl all scram 127.0.0.1/32 scram-sha-256",
    );
    let outcome = |user: &str, word: &str, host: &str, query: &str| {
        let setup = on(&database.url_of(&format!("{user}:{word}"), host, query));
        let ran = setup.run(&["migrate", "status", "--wait", "0"]);
        let said = format!("{}{}", ran.out(), ran.err());
        assert!(!said.contains("s3ntinel"), "{said}");
        (ran.status.code(), said)
    };
    let (ca, stranger) = (
        format!("sslrootcert={}", ca.display()),
        format!("sslrootcert={}", stranger.display()),
    );
    let allowed = [
        ("scram", "localhost", "sslmode=disable".to_owned()),
        ("scram", "127.0.0.1", "sslmode=require".to_owned()),
        ("scram", "127.0.0.1", "channel_binding=require".to_owned()),
        ("scram", "127.0.0.1", format!("sslmode=verify-ca&{ca}")),
        (
            "scram",
            "localhost",
            format!("sslmode=verify-full&{ca}&channel_binding=require"),
        ),
        (
            "scram",
            "localhost",
            "sslmode=require&ssl_min_protocol_version=TLSv1.3".to_owned(),
        ),
        ("plain", "localhost", "sslmode=require".to_owned()),
        ("md5", "localhost", "sslmode=prefer".to_owned()),
    ];
    for (user, host, query) in &allowed {
        let (code, said) = outcome(user, ENCODED, host, query);
        assert_eq!(code, Some(1), "{user} {host} {query}: {said}");
    }
    let refused = [
        (
            "scram",
            ENCODED,
            "127.0.0.1",
            format!("sslmode=verify-full&{ca}"),
            "certificate",
        ),
        (
            "scram",
            ENCODED,
            "localhost",
            format!("sslmode=verify-full&{stranger}"),
            "certificate",
        ),
        (
            "scram",
            ENCODED,
            "localhost",
            format!("sslmode=require&{stranger}"),
            "certificate",
        ),
        (
            "scram",
            "s3ntinelwrong",
            "localhost",
            "sslmode=require".to_owned(),
            "28P01",
        ),
        ("md5", ENCODED, "localhost", "sslmode=disable".to_owned(), "28000"),
        (
            "md5",
            ENCODED,
            "localhost",
            "channel_binding=require".to_owned(),
            "binding",
        ),
    ];
    for (user, word, host, query, named) in &refused {
        let (code, said) = outcome(user, word, host, query);
        assert_eq!(code, Some(69), "{user} {host} {query}: {said}");
        assert!(said.contains(named), "{user} {host} {query}: {said}");
    }
    // The server itself: over TLS, well and with a wrong password, and what it says of it at every level.
    let good = database.url_of(
        &format!("scram:{ENCODED}"),
        "localhost",
        &format!("sslmode=verify-full&{ca}"),
    );
    let mut server = started(on(&good).env("LOG_LEVEL", "trace"));
    server.tell(r#"{"location":"Cork"}"#).expect(200);
    assert_eq!(
        database.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'scram'"),
        "t"
    );
    let bad = database.url_of("scram:s3ntinelwrong", "localhost", "sslmode=require");
    let wrong = on(&bad).env("LOG_LEVEL", "trace").start();
    until("the reason", || readiness(&wrong).contains("28P01"));
    for server in [&server, &wrong] {
        for text in [
            server.all_said(),
            readiness(server),
            server.get("/health/v2/status").text(),
        ] {
            assert!(!text.contains("s3ntinel"), "{text}");
        }
    }
    server.stop();
    assert!(!on(&good).run(&["check"]).out().contains("s3ntinel"));
}
