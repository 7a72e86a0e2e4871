//! Whatever happens to PostgreSQL and on the way to it, under load: nothing hangs, no story that was answered is lost or
//! another one, each refusal is a 503 that says when to come again, and all is well again by itself.
//!
//! The table that this prints stands in `tests/faults.md`; UPDATE_FAULTS=1 writes it there. FAULT_SEED=n repeats what the
//! proxy did, FAULT_ROUNDS=n makes each fault last n times as long.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::postgres::{Postgres, free_port};
use common::proxy::{self, Door, Mischief, Proxy};
use common::redis::{Redis, breaker, metrics};
use common::siege::{Row, is_ready, siege, stories_of};
use common::{Server, Setup, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const ALL_OF_OURS: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'roadtrip-api'";

/// How long a fault lasts.
fn lasts(ms: u64) {
    let rounds = std::env::var("FAULT_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    std::thread::sleep(Duration::from_millis(ms * rounds));
}

fn on(url: &str) -> Setup {
    Setup::new().env("DATABASE_URL", url).env("WORKERS", "2")
}

fn started(setup: Setup) -> Server {
    let server = setup.start();
    until("readiness", || is_ready(&server));
    server
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What happens to the connections that are there when it begins.
#[derive(Clone, Copy, PartialEq)]
enum Present {
    Stay,
    Reset,
    Silent,
}
use Present::{Reset, Silent, Stay};

/// What may happen on the way: to present connections, to chunks and to new connections, and for how long, milliseconds.
fn ways() -> Vec<(&'static str, Present, Mischief, u64)> {
    let none = Mischief::default;
    let (refused, silent) = (Door::Refused, Door::BlackHole);
    vec![
        ("none", Stay, none(), 0),
        (
            "each chunk delayed by up to 50 ms",
            Stay,
            Mischief {
                delay: (100, 50),
                ..none()
            },
            1500,
        ),
        (
            "one chunk in 20 cut in its middle",
            Stay,
            Mischief { cut: 5, ..none() },
            1500,
        ),
        (
            "one chunk in 20 cut by RST",
            Stay,
            Mischief { reset: 5, ..none() },
            1500,
        ),
        (
            "garbage before one message in 20",
            Stay,
            Mischief { garbage: 5, ..none() },
            1500,
        ),
        (
            "64 bytes a millisecond",
            Stay,
            Mischief {
                dribble: Some(64),
                ..none()
            },
            1500,
        ),
        (
            "nothing goes through for 2 s",
            Stay,
            Mischief { hold: true, ..none() },
            2000,
        ),
        (
            "old connections RST, new ones refused, 2 s",
            Reset,
            Mischief {
                door: refused,
                ..none()
            },
            2000,
        ),
        (
            "old connections RST, new ones a black hole, 2 s",
            Reset,
            Mischief { door: silent, ..none() },
            2000,
        ),
        ("old connections a black hole", Silent, none(), 2000),
        (
            "old and new connections a black hole, 3 s",
            Silent,
            Mischief { door: silent, ..none() },
            3000,
        ),
        (
            "one chunk in 50 is the last to come through",
            Stay,
            Mischief { swallow: 2, ..none() },
            1500,
        ),
        (
            "delays, cuts, RST, garbage and silence",
            Stay,
            Mischief {
                delay: (20, 30),
                cut: 2,
                reset: 2,
                garbage: 2,
                swallow: 1,
                ..none()
            },
            2000,
        ),
    ]
}

/// One half of them.
fn on_the_way(seed: u64, right: &Server, half: usize) -> Vec<Row> {
    let database = Postgres::start();
    let proxy = Proxy::start(addr(database.port), seed);
    let url = format!("postgresql://owner@127.0.0.1:{}/trips?sslmode=disable", proxy.port);
    let server = started(on(&url));
    let (mut ways, middle) = (ways(), 7);
    let ways = if half == 0 {
        ways.drain(..middle)
    } else {
        ways.drain(middle..)
    };
    ways.map(|(name, present, mischief, ms)| {
        let happens = || {
            proxy.set(mischief);
            match present {
                Stay => {}
                Reset => proxy.end_present(true),
                Silent => proxy.swallow_present(),
            }
            lasts(ms);
            proxy.lift();
        };
        siege(name, &server, right, happens, || stories_of(&database))
    })
    .collect()
}

/// Over TLS any byte may be another: the records have checksums.
fn through_tls(seed: u64, right: &Server) -> Vec<Row> {
    let mut database = Postgres::start();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let chain = database.write("server.crt", &params.self_signed(&key).unwrap().pem());
    let key = database.write("server.key", &key.serialize_pem());
    database.stop();
    database.set(&[
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", chain.display()),
        format!("ssl_key_file={}", key.display()),
    ]);
    database.launch();
    let proxy = Proxy::start(addr(database.port), seed);
    let url = format!("postgresql://owner@127.0.0.1:{}/trips?sslmode=require", proxy.port);
    let server = started(on(&url));
    let happens = || {
        proxy.set(Mischief {
            flip: 3,
            ..Mischief::default()
        });
        lasts(1500);
        proxy.lift();
    };
    vec![siege(
        "a byte flipped in one chunk of 33, under TLS",
        &server,
        right,
        happens,
        || stories_of(&database),
    )]
}

fn of_the_server(right: &Server, half: usize) -> Vec<Row> {
    let postgres = Postgres::with(&["max_connections=20", "superuser_reserved_connections=3"]);
    // Who is no superuser has no place kept free.
    postgres.sql("CREATE ROLE teller LOGIN; GRANT ALL ON SCHEMA public TO teller");
    let server = started(on(&postgres.url_of("teller", "127.0.0.1", "sslmode=disable")));
    let postgres = RefCell::new(postgres);
    let row = |name: &str, happens: &dyn Fn()| siege(name, &server, right, happens, || stories_of(&postgres.borrow()));
    let sql = |text: &str| postgres.borrow().sql(text);
    let lock = |mode: &str| {
        let lock = postgres
            .borrow()
            .session("owner", &format!("BEGIN; LOCK TABLE stories IN {mode} MODE"));
        let held = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'owner' AND state = 'idle in transaction'";
        until("the lock", || sql(held) == "1");
        lock
    };
    if half == 0 {
        return vec![
            row("pg_terminate_backend of all, 20 times in 2 s", &|| {
                for _ in 0..20 {
                    sql(ALL_OF_OURS);
                    lasts(100);
                }
            }),
            row("SIGSTOP of all processes, 3 s", &|| {
                postgres.borrow().freeze(true);
                lasts(3000);
                postgres.borrow().freeze(false);
            }),
            row("default_transaction_read_only=on, 1.5 s", &|| {
                sql("ALTER SYSTEM SET default_transaction_read_only = on");
                sql("SELECT pg_reload_conf()");
                shows(&server, NO_WRITES, "degraded");
                lasts(1000);
                sql("ALTER SYSTEM RESET default_transaction_read_only");
                sql("SELECT pg_reload_conf()");
            }),
            row("too many connections (53300), after all were ended", &|| {
                let mut hogs = Vec::new();
                // Whoever is ended leaves a place, and either side may have it: so again and again.
                let mut is_away = || {
                    for _ in 0..4 {
                        hogs.push(postgres.borrow().session("teller", "SELECT 1"));
                    }
                    sql(ALL_OF_OURS);
                    let all = metrics(&server);
                    let is_away = all.matching("database_state", &[]).any(|(_, value)| value == AWAY);
                    is_away && server.all_said().contains("53300")
                };
                until("no place is left", &mut is_away);
                lasts(1500);
                until("the status page says why", || {
                    is_away() && says_why(&server, "unhealthy")
                });
            }),
        ];
    }
    vec![
        row("LOCK TABLE, 3 s and more: nobody reads or writes", &|| {
            let _lock = lock("ACCESS EXCLUSIVE");
            shows(&server, SLOW, "degraded");
            lasts(3000);
            // The server says that it works on them: no call is run a second time.
            assert!(!server.all_said().contains("led nowhere"));
        }),
        row("LOCK TABLE in share mode, 3 s: nobody writes", &|| {
            let _lock = lock("SHARE");
            lasts(3000);
        }),
        row("restart, fast", &|| {
            postgres.borrow_mut().stop();
            lasts(300);
            postgres.borrow_mut().launch();
        }),
        row("restart, immediate", &|| {
            postgres.borrow_mut().stop_by(Signal::QUIT);
            lasts(300);
            postgres.borrow_mut().launch();
        }),
        row("kill -9 of all processes, 1 s", &|| {
            postgres.borrow_mut().kill_9();
            lasts(1000);
            postgres.borrow_mut().launch();
        }),
    ]
}

/// A primary and a real standby, which is promoted when the primary is gone; twice, and the second time the primary is
/// gone without a word, as a machine is that lost its power.
fn failover(right: &Server) -> Vec<Row> {
    let first = RefCell::new(Postgres::start());
    // The schema comes by replication too.
    let (port, second) = (first.borrow().port, first.borrow().standby(free_port()));
    let server = started(on(&format!(
        "postgresql://owner@127.0.0.1:{port},127.0.0.1:{}/trips?sslmode=disable&target_session_attrs=read-write",
        second.port
    )));
    let row = |name: &str, of: &Postgres, happens: &dyn Fn()| siege(name, &server, right, happens, || stories_of(of));
    let killed = row("failover: primary killed, standby promoted", &second, &|| {
        first.borrow_mut().kill_9();
        lasts(500);
        second.promote();
    });
    let third = second.standby(port);
    let silent = row("failover back: primary silent, standby promoted", &third, &|| {
        second.freeze(true);
        lasts(500);
        third.promote();
    });
    vec![killed, silent]
}

fn with_redis(seed: u64, right: &Server) -> Vec<Row> {
    let (postgres, redis) = (RefCell::new(Postgres::start()), RefCell::new(Redis::start()));
    let proxy = Proxy::start(addr(postgres.borrow().port), seed);
    let url = format!("postgresql://owner@127.0.0.1:{}/trips?sslmode=disable", proxy.port);
    let server = started(on(&url).env("REDIS_URL", &redis.borrow().url()));
    let row = |name: &str, happens: &dyn Fn()| siege(name, &server, right, happens, || stories_of(&postgres.borrow()));
    let back = || {
        redis.borrow_mut().restart();
        breaker(&server, 0.0);
    };
    vec![
        row("Redis away", &|| {
            redis.borrow_mut().kill();
            breaker(&server, 2.0);
            let page = server.json("/health/v2/status");
            assert_eq!(word(&page["components"]["database"]), "healthy");
            assert_ne!(word(&page["components"]["redis"]), "healthy");
            assert_eq!(word(&page), "degraded");
            lasts(1000);
            back();
        }),
        row("Redis away, PostgreSQL slow (each chunk 0.3 s)", &|| {
            redis.borrow_mut().kill();
            proxy.set(Mischief {
                delay: (100, 600),
                ..Mischief::default()
            });
            shows(&server, SLOW, "degraded");
            lasts(1000);
            proxy.lift();
            back();
        }),
        row("Redis and PostgreSQL away", &|| {
            redis.borrow_mut().kill();
            postgres.borrow_mut().kill_9();
            shows(&server, AWAY, "unhealthy");
            lasts(1000);
            postgres.borrow_mut().launch();
            back();
        }),
    ]
}

/// The status of a part of the status page.
fn word(part: &sonic_rs::Value) -> &str {
    part["status"].as_str().unwrap_or_default()
}

const SLOW: f64 = 1.0;
const NO_WRITES: f64 = 2.0;
const AWAY: f64 = 3.0;

/// Waits until a worker's gauge has this value, and until the page of some worker says why in this status or a worse one.
fn shows(server: &Server, state: f64, status: &str) {
    until(&format!("database_state {state}"), || {
        metrics(server)
            .matching("database_state", &[])
            .any(|(_, value)| value == state)
    });
    until("the status page says why", || says_why(server, status));
}

fn says_why(server: &Server, status: &str) -> bool {
    let page = server.json("/health/v2/status");
    let database = &page["components"]["database"];
    let fits = [status, "unhealthy"].contains(&word(database)) && word(&page) != "healthy";
    fits && database["reason"].as_str().is_some() && database["state"].as_str() != Some("serving")
}

#[test]
fn whatever_happens_to_postgresql_nothing_hangs_and_nothing_is_lost() {
    let seed = proxy::seed();
    println!("{}", Row::HEAD);
    let right = Server::start();
    let right = &right;
    let parts: [Box<dyn FnOnce() -> Vec<Row> + Send>; 7] = [
        Box::new(move || on_the_way(seed, right, 0)),
        Box::new(move || on_the_way(seed, right, 1)),
        Box::new(move || through_tls(seed, right)),
        Box::new(move || of_the_server(right, 0)),
        Box::new(move || of_the_server(right, 1)),
        Box::new(move || failover(right)),
        Box::new(move || with_redis(seed, right)),
    ];
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let running: Vec<_> = parts.into_iter().map(|part| scope.spawn(part)).collect();
        running.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let table: Vec<String> = rows.iter().map(Row::text).collect();
    println!("\n{}\n{}", Row::HEAD, table.join("\n"));
    if std::env::var_os("UPDATE_FAULTS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, _) = text.split_once("With FAULT_SEED=").unwrap();
        let text = format!("{head}With FAULT_SEED={seed}:\n\n{}\n{}\n", Row::HEAD, table.join("\n"));
        std::fs::write(&path, text).unwrap();
    }
    let faults: Vec<String> = rows.iter().flat_map(Row::faults).collect();
    assert!(faults.is_empty(), "FAULT_SEED={seed}\n{}", faults.join("\n"));
}

#[test]
fn a_call_on_a_dead_connection_is_answered_over_another() {
    let database = Postgres::start();
    let proxy = Proxy::start(addr(database.port), proxy::seed());
    let url = format!("postgresql://owner@127.0.0.1:{}/trips?sslmode=disable", proxy.port);
    let server = started(on(&url));
    for number in 0..4 {
        proxy.swallow_present();
        // Found out by the deadline of the statement alone, this would be a 503.
        let body = format!(r#"{{"location":"Cork","variation":{number}}}"#);
        server.tell(&body).expect(200);
    }
    assert!(server.all_said().contains("led nowhere"));
}

#[test]
fn one_lost_ping_drops_no_pod_and_two_do() {
    let database = Postgres::start();
    let proxy = Proxy::start(addr(database.port), proxy::seed());
    let url = format!("postgresql://owner@127.0.0.1:{}/trips?sslmode=disable", proxy.port);
    let server = started(on(&url).env("WORKERS", "1"));
    let checks = || server.json("/health/v2/worker")["checks_performed"].as_u64().unwrap();
    let is_ready = || server.get("/health/v2/ready").status == 200;
    let ping_ms = || {
        let page = server.json("/health/v2/status");
        page["components"]["database"]["ping_ms"].as_f64().unwrap()
    };
    let after = |number: u64, each: &dyn Fn()| {
        until("the checks", || {
            each();
            checks() >= number
        });
    };
    let hold = Mischief {
        hold: true,
        ..Mischief::default()
    };
    let begun = checks();
    after(begun + 1, &|| {});
    proxy.set(hold);
    after(begun + 2, &|| assert!(is_ready()));
    assert!(ping_ms() >= 1900.0, "this ping was not lost");
    proxy.lift();
    after(begun + 3, &|| assert!(is_ready()));
    assert!(ping_ms() < 1900.0, "this ping was lost");
    proxy.set(hold);
    until("unreadiness", || !is_ready());
    assert!(checks() >= begun + 5, "one lost ping dropped the pod");
    proxy.lift();
    until("readiness", is_ready);
}
