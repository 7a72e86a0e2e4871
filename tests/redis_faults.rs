//! Whatever happens to Redis under load: no client sees an error, and no story that was answered is lost.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::Connection;
use common::proxy::{self, Mischief, Proxy};
use common::redis::{Redis, asked, breaker, id_of, metrics, setup, status, sum};
use common::{Server, until};
use sonic_rs::JsonValueTrait;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What clients saw.
#[derive(Default)]
struct Tally {
    /// Another number for each load, so that each has stories of its own.
    round: u64,
    sent: AtomicU64,
    right: AtomicU64,
    server_errors: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// Per server and request: the answer, which must not change.
    answers: Mutex<HashMap<(u16, String), Vec<u8>>>,
}

impl Tally {
    /// Asks one of the servers for story after story until told to stop: every other time for one that is new.
    fn ask(&self, servers: &[&Server], client: u64, stop: &AtomicBool) {
        let server = servers[client as usize % servers.len()];
        let mut connection: Connection = server.connect();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let body = if number % 2 == 0 {
                asked("Lisbon", self.round * 1_000_000 + client * 100_000 + number)
            } else {
                asked("Oslo", number % 40)
            };
            self.sent.fetch_add(1, Ordering::Relaxed);
            let answer = connection.tell(&body);
            match answer.status {
                200 => {
                    let mut answers = self.answers.lock().unwrap();
                    let known = answers
                        .entry((server.port, body.clone()))
                        .or_insert_with(|| answer.body.clone());
                    if *known == answer.body {
                        self.right.fetch_add(1, Ordering::Relaxed);
                    } else {
                        self.wrong.lock().unwrap().push(format!("another story for {body}"));
                    }
                }
                500.. => drop(self.server_errors.fetch_add(1, Ordering::Relaxed)),
                other => self.wrong.lock().unwrap().push(format!("{other} for {body}")),
            }
            if answer.closes() {
                connection = server.connect();
            }
        }
    }

    /// Stories that were answered and are not to be had by id from whoever answered them.
    fn missing(&self, servers: &[&Server]) -> (usize, usize) {
        let answers = self.answers.lock().unwrap();
        let mut missing = 0;
        for server in servers {
            let mut connection = server.connect();
            for ((_, body), story) in answers.iter().filter(|((port, _), _)| *port == server.port) {
                let found = connection.get(&format!("/api/v1/stories/{}", id_of(story)));
                if found.status != 200 || found.body != *story {
                    eprintln!("missing: {body}: {}", found.status);
                    missing += 1;
                }
            }
        }
        (answers.len(), missing)
    }
}

/// Load on two servers while something happens to Redis; prints the row of the table, and demands that no client saw it.
/// Gives the answers.
fn under_load(name: &str, servers: [&Server; 2], happens: impl FnOnce()) -> HashMap<(u16, String), Vec<u8>> {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let round = ROUND.fetch_add(1, Ordering::Relaxed);
    let (tally, stop) = (
        Tally {
            round,
            ..Tally::default()
        },
        AtomicBool::new(false),
    );
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (tally, stop) = (&tally, &stop);
            scope.spawn(move || tally.ask(&servers, client, stop));
        }
        let at_least = |more: u64| {
            let before = tally.right.load(Ordering::Relaxed);
            until("answers go on", || tally.right.load(Ordering::Relaxed) >= before + more);
        };
        // Even where something fails the clients must be told to stop, or the scope never ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            at_least(100);
            happens();
            at_least(100);
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    let (kept, missing) = tally.missing(&servers);
    let answers = std::mem::take(&mut *tally.answers.lock().unwrap());
    let (sent, right, errors) = (
        tally.sent.into_inner(),
        tally.right.into_inner(),
        tally.server_errors.into_inner(),
    );
    println!("| {name} | {sent} | {right} | {errors} | {kept} | {missing} |");
    assert_eq!(tally.wrong.into_inner().unwrap(), Vec::<String>::new(), "{name}");
    assert_eq!(
        (sent, errors, missing),
        (right, 0, 0),
        "{name}: sent = right, no 5xx, nothing missing"
    );
    answers
}

#[test]
fn no_client_sees_what_happens_to_redis() {
    println!("| fault | sent | right | 5xx | stories | missing |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut redis = Redis::start();
    let folders = [(); 2].map(|()| tempfile::TempDir::new().unwrap());
    let start = |url: &str| [0, 1].map(|at| setup(url).data(folders[at].path()).start());
    let [one, two] = start(&redis.url());
    let servers = [&one, &two];
    let ports = servers.map(|server| server.port);
    let mut answers = HashMap::new();
    let all_use_it = || servers.iter().for_each(|server| breaker(server, 0.0));
    let moment = || std::thread::sleep(Duration::from_millis(400));
    all_use_it();

    answers.extend(under_load("none", servers, || {}));
    answers.extend(under_load("FLUSHALL, ten times", servers, || {
        for _ in 0..10 {
            redis.cli(&["FLUSHALL"]);
            std::thread::sleep(Duration::from_millis(30));
        }
    }));
    answers.extend(under_load(
        "CLIENT KILL of every connection, ten times",
        servers,
        || {
            for _ in 0..10 {
                redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
                std::thread::sleep(Duration::from_millis(50));
            }
        },
    ));
    all_use_it();
    answers.extend(under_load("kill -9, and a restart", servers, || {
        redis.kill();
        servers.iter().for_each(|server| breaker(server, 2.0));
        redis.restart();
        all_use_it();
    }));
    answers.extend(under_load("stopped (SIGSTOP): a black hole", servers, || {
        redis.signal(rustix::process::Signal::STOP);
        servers.iter().for_each(|server| {
            until("the breaker opens", || sum(server, "redis_breaker_state") > 0.0);
        });
        moment();
        redis.signal(rustix::process::Signal::CONT);
        all_use_it();
    }));
    answers.extend(under_load("busy in a script (DEBUG SLEEP)", servers, || {
        redis.cli(&["DEBUG", "SLEEP", "0.5"]);
        all_use_it();
    }));
    answers.extend(under_load("out of memory, noeviction", servers, || {
        redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        until("writes are refused", || {
            servers
                .iter()
                .all(|server| metrics(server).sum("redis_errors_total", &[("kind", "out_of_memory")]) > 0.0)
        });
        until("the status says so", || status(&one, "status") == "degraded");
        redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    }));
    answers.extend(under_load("a replica: READONLY", servers, || {
        redis.cli(&["REPLICAOF", "127.0.0.1", &common::postgres::free_port().to_string()]);
        until("writes are refused", || {
            servers
                .iter()
                .all(|server| metrics(server).sum("redis_errors_total", &[("kind", "read_only")]) > 0.0)
        });
        redis.cli(&["REPLICAOF", "NO", "ONE"]);
    }));
    all_use_it();
    answers.extend(under_load("another password", servers, || {
        redis.cli(&["CONFIG", "SET", "requirepass", "another"]);
        redis.cli(&["-a", "another", "CLIENT", "KILL", "TYPE", "normal"]);
        servers.iter().for_each(|server| breaker(server, 2.0));
        for server in servers {
            until("the status says why", || status(server, "reason").contains("password"));
            assert_eq!(
                server.get("/health/v2/ready").status,
                200,
                "Redis away makes no pod unready"
            );
            server.get("/health/v2/status").expect(200);
        }
        redis.cli(&["-a", "another", "CONFIG", "SET", "requirepass", ""]);
        all_use_it();
    }));
    answers.extend(under_load("LOADING", servers, || {
        redis.cli(&["DEBUG", "POPULATE", "2000", "filler", "100"]);
        redis.cli(&["SAVE"]);
        redis.restart_with(&[
            "--key-load-delay",
            "500",
            "--loading-process-events-interval-bytes",
            "1024",
        ]);
        until("LOADING was seen", || {
            metrics(&one).sum("redis_errors_total", &[("kind", "loading")]) > 0.0
        });
        redis.wait_until_loaded();
        all_use_it();
    }));
    redis.restart();
    all_use_it();

    // Each change is in the log once a worker, not once a request.
    for server in servers {
        let said = server.all_said();
        let lines = said.lines().filter(|line| line.contains("Redis")).count();
        assert!(lines < 150, "{lines} lines on Redis");
    }

    // Once more from the disks alone: no Redis, nothing in memory.
    redis.kill();
    for server in servers {
        server.terminate();
    }
    drop([one, two]);
    let servers = start(&redis.url());
    let mut missing = 0;
    for (server, port) in servers.iter().zip(ports) {
        let mut connection = server.connect();
        for ((_, body), story) in answers.iter().filter(|((asked, _), _)| *asked == port) {
            let found = connection.get(&format!("/api/v1/stories/{}", id_of(story)));
            if found.status != 200 || found.body != *story {
                eprintln!("missing: {body}: {}", found.status);
                missing += 1;
            }
        }
    }
    println!("{} stories answered, {missing} missing without Redis", answers.len());
    assert_eq!(missing, 0);
}

#[test]
fn a_port_that_talks_nonsense_is_no_redis() {
    for nonsense in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"$5\r\nab",
        b"",
        b"*1000000000\r\n",
        b"\x16\x03\x01\x02",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://:s3ntinel@{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for taken in listener.incoming() {
                let mut taken = taken.unwrap();
                std::thread::spawn(move || {
                    let mut piece = [0; 512];
                    while matches!(taken.read(&mut piece), Ok(1..)) {
                        // Half an answer and silence, or an end without a word.
                        if nonsense.is_empty() || taken.write_all(nonsense).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let one = setup(&url).start();
        let two = setup(&url).start();
        under_load(&format!("{:?}", String::from_utf8_lossy(nonsense)), [&one, &two], || {});
        until("the status says so", || status(&one, "status") == "unhealthy");
        assert_eq!(one.json("/health/v2/status")["status"].as_str(), Some("degraded"));
        one.get("/health/v2/ready").expect(200);
        assert!(!one.all_said().contains("s3ntinel") && !two.all_said().contains("s3ntinel"));
    }
}

#[test]
fn no_client_sees_what_happens_on_the_way_to_redis() {
    let seed = proxy::seed();
    let redis = Redis::start();
    let proxy = Proxy::start(redis.addr(), seed);
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let (one, two) = (setup(&url).start(), setup(&url).start());
    let servers = [&one, &two];
    servers.iter().for_each(|server| breaker(server, 0.0));
    under_load(&format!("delay, cut, flip, swallow (seed {seed})"), servers, || {
        proxy.set(Mischief {
            delay: (8, 150),
            cut: 5,
            flip: 5,
            swallow: 2,
            ..Mischief::default()
        });
        std::thread::sleep(Duration::from_secs(4));
        proxy.lift();
    });
    // It mends by itself.
    servers.iter().for_each(|server| breaker(server, 0.0));
    assert!(proxy.done() > 0);
    let failed = |server| sum(server, "redis_errors_total");
    assert!(failed(&one) + failed(&two) > 0.0, "the proxy did something");
}
