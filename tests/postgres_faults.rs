//! Whatever happens to PostgreSQL and on the way to it, under load: nothing hangs, no story that was answered is lost or
//! another one, each refusal is a 503 that says when to come again, and all is well again by itself.
//!
//! The table that this prints stands in `tests/faults.md`; UPDATE_FAULTS=1 writes it there. FAULT_SEED=n repeats what the
//! proxy did, FAULT_ROUNDS=n makes each fault last n times as long.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::postgres::Postgres;
use common::proxy::{self, Door, Mischief, Proxy};
use common::redis::{Redis, breaker, metrics};
use common::siege::{Row, is_ready, siege, stories_of};
use common::{Server, Setup, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::cell::RefCell;
use std::net::SocketAddr;
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

fn on_the_way(seed: u64, right: &Server) -> Vec<Row> {
    let database = Postgres::start();
    let proxy = Proxy::start(addr(database.port), seed);
    let url = format!("postgresql://owner@127.0.0.1:{}/trips?sslmode=disable", proxy.port);
    let server = started(on(&url));
    let row = |name: &str, happens: &dyn Fn()| siege(name, &server, right, happens, || stories_of(&database));
    let during = |mischief: Mischief, ms: u64| {
        proxy.set(mischief);
        lasts(ms);
        proxy.lift();
    };
    let none = Mischief::default;
    vec![
        row("none", &|| {}),
        row("each chunk delayed by up to 50 ms", &|| {
            during(
                Mischief {
                    delay: (100, 50),
                    ..none()
                },
                1500,
            );
        }),
        row("one chunk in 20 cut in its middle", &|| {
            during(Mischief { cut: 5, ..none() }, 1500);
        }),
        row("one chunk in 20 cut by RST", &|| {
            during(Mischief { reset: 5, ..none() }, 1500);
        }),
        row("garbage before one message in 20", &|| {
            during(Mischief { garbage: 5, ..none() }, 1500);
        }),
        row("new connections refused, old ones RST", &|| {
            proxy.set(Mischief {
                door: Door::Refused,
                ..none()
            });
            proxy.end_present(true);
            lasts(2000);
            proxy.lift();
        }),
        row("new connections a black hole, old ones RST", &|| {
            proxy.set(Mischief {
                door: Door::BlackHole,
                ..none()
            });
            proxy.end_present(true);
            lasts(2000);
            proxy.lift();
        }),
        row("old connections a black hole", &|| {
            proxy.swallow_present();
            lasts(2000);
        }),
        row("old and new connections a black hole", &|| {
            proxy.set(Mischief {
                door: Door::BlackHole,
                ..none()
            });
            proxy.swallow_present();
            lasts(3000);
            proxy.lift();
        }),
        row("one chunk in 50 is the last of its connection", &|| {
            during(Mischief { swallow: 2, ..none() }, 1500);
        }),
        row("nothing goes through for 2 s", &|| {
            during(Mischief { hold: true, ..none() }, 2000);
        }),
        row("64 bytes a millisecond", &|| {
            during(
                Mischief {
                    dribble: Some(64),
                    ..none()
                },
                1500,
            );
        }),
        row("delays, cuts, RST, garbage and silence", &|| {
            let all = Mischief {
                delay: (20, 30),
                cut: 2,
                reset: 2,
                garbage: 2,
                swallow: 1,
                ..none()
            };
            during(all, 2000);
        }),
    ]
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

fn of_the_server(right: &Server) -> Vec<Row> {
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
    vec![
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
            until("no place is left", || {
                for _ in 0..4 {
                    hogs.push(postgres.borrow().session("teller", "SELECT 1"));
                }
                sql(ALL_OF_OURS);
                server.all_said().contains("53300")
            });
            lasts(1500);
            shows(&server, AWAY, "unhealthy");
        }),
        row("LOCK TABLE, 3 s and more: nobody reads or writes", &|| {
            let _lock = lock("ACCESS EXCLUSIVE");
            shows(&server, SLOW, "degraded");
            lasts(3000);
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

/// A primary and a real standby, which is promoted when the primary is killed: over and over, the dead one's place taken
/// by a new standby of the other.
fn failover(right: &Server) -> Vec<Row> {
    let primary = Postgres::start();
    let server_of = |ports: [u16; 2]| {
        started(on(&format!(
            "postgresql://owner@127.0.0.1:{},127.0.0.1:{}/trips?sslmode=disable&target_session_attrs=read-write",
            ports[0], ports[1]
        )))
    };
    // The schema comes by replication too.
    let standby = primary.standby();
    let server = server_of([primary.port, standby.port]);
    let (primary, row) = (RefCell::new(primary), |name: &str, happens: &dyn Fn()| {
        siege(name, &server, right, happens, || stories_of(&standby))
    });
    vec![row("failover: kill -9 of the primary, pg_ctl promote", &|| {
        primary.borrow_mut().kill_9();
        lasts(500);
        standby.promote();
    })]
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
    until("the status page says why", || {
        let page = server.json("/health/v2/status");
        let database = &page["components"]["database"];
        let fits = [status, "unhealthy"].contains(&word(database)) && word(&page) != "healthy";
        fits && database["reason"].as_str().is_some() && database["state"].as_str() != Some("serving")
    });
}

#[test]
fn whatever_happens_to_postgresql_nothing_hangs_and_nothing_is_lost() {
    let seed = proxy::seed();
    println!("{}", Row::HEAD);
    let right = Server::start();
    let right = &right;
    let parts: [Box<dyn FnOnce() -> Vec<Row> + Send>; 3] = [
        Box::new(move || on_the_way(seed, right)),
        Box::new(move || of_the_server(right)),
        Box::new(move || [failover(right), with_redis(seed, right), through_tls(seed, right)].concat()),
    ];
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let running: Vec<_> = parts.into_iter().map(|part| scope.spawn(part)).collect();
        running.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let table: Vec<String> = rows.iter().map(Row::text).collect();
    println!("\n{}\n{}", Row::HEAD, table.join("\n"));
    let faults: Vec<String> = rows.iter().flat_map(Row::faults).collect();
    assert!(faults.is_empty(), "FAULT_SEED={seed}\n{}", faults.join("\n"));
}
