//! Fresh connections are shared out between workers: evenly, on every kind of port, and without one that is lost, whatever
//! becomes of the worker that it was handed to.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::house::{House, is_gone};
use common::http::Connection;
use common::load::{Kind, Load};
use common::tls::{self, Authority};
use common::{Server, Setup, on_each_driver, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Connections of each worker.
#[derive(Debug)]
struct Spread(Vec<u64>);

impl Spread {
    fn of(workers: usize, answers: impl IntoIterator<Item = u64>) -> Spread {
        let mut spread = vec![0; workers];
        for worker in answers {
            spread[worker as usize] += 1;
        }
        Spread(spread)
    }

    /// No worker has more than so many more than another, but for those that were handed over and taken back: where a
    /// worker did not get its CPU in time.
    fn expect_within(&self, difference: u64, server: &Server, what: &str) {
        let (least, most) = (self.0.iter().min().unwrap(), self.0.iter().max().unwrap());
        let back = metric(server, "worker_connections_handed_back_total") as u64;
        assert!(
            most - least <= difference + 2 * back,
            "{what}: {self:?}, {back} taken back"
        );
    }
}

fn metric(server: &Server, name: &str) -> f64 {
    Exposition::parse(&server.get("/metrics").text()).sum(name, &[])
}

/// Which worker answers.
fn worker(connection: &mut Connection) -> u64 {
    let answer = connection.get("/health/v2/worker").expect(200);
    answer.json()["worker"].as_u64().unwrap()
}

/// Connections that stay, each used once before the next is made; with the worker of each.
fn gather(server: &Server, count: usize) -> Vec<(Connection, u64)> {
    let one = |_| {
        let mut connection = server.connect();
        let worker = worker(&mut connection);
        (connection, worker)
    };
    (0..count).map(one).collect()
}

#[test]
fn connections_that_stay_are_even_and_so_are_a_hundred_that_do_not() {
    on_each_driver(|driver| {
        for workers in [2, 4] {
            let server = Setup::new().driver(driver).env("WORKERS", &workers.to_string()).start();
            let open = || metric(&server, "http_connections_open");
            for count in [4, 16, 64] {
                let held = gather(&server, count);
                let spread = Spread::of(workers, held.iter().map(|(_, worker)| *worker));
                spread.expect_within(2, &server, &format!("{driver}, {count} connections"));
                drop(held);
                until("them to be gone", || open() <= 1.0);
            }
            // The guide's loop.
            let short = (0..100).map(|_| worker(&mut server.connect()));
            let spread = Spread::of(workers, short);
            spread.expect_within(20, &server, &format!("{driver}, one by one"));
            assert!(metric(&server, "worker_connections_handed_total") > 0.0);
        }
    });
}

/// A worker whose places are all taken leaves nobody in its queue to whom another has a place.
#[test]
fn newcomers_are_served_wherever_there_is_a_place() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "2")
            .env("CONNECTIONS_MAX", "4")
            .env("CONNECTIONS_PER_ADDRESS", "0")
            .start();
        let mut held = gather(&server, 8);
        // Each new one has an even chance to come to the one that is full.
        for _ in 0..5 {
            let mut stays = 1;
            held.retain(|(_, worker)| {
                let is_kept = *worker == 0 || stays > 0;
                stays -= i32::from(*worker == 1 && is_kept);
                is_kept
            });
            held.extend(gather(&server, 3));
        }
        let spread = Spread::of(2, held.iter().map(|(_, worker)| *worker));
        assert_eq!(spread.0, [4, 4]);
    });
}

#[test]
fn balance_can_be_switched_off() {
    let server = Setup::new().env("WORKERS", "2").env("BALANCE", "off").start();
    drop(gather(&server, 40));
    assert_eq!(metric(&server, "worker_connections_handed_total"), 0.0);
    let alone = Setup::new().env("WORKERS", "1").start();
    drop(gather(&alone, 10));
    assert_eq!(metric(&alone, "worker_connections_handed_total"), 0.0);
}

/// What is spoken on a port holds for who is handed a connection of it.
#[test]
fn connections_of_every_kind_of_port_are_shared_out() {
    on_each_driver(|driver| {
        let setup = || Setup::new().driver(driver).env("WORKERS", "2");

        let authority = Authority::new();
        let pair = authority.issue("server", tls::KINDS[0]);
        let server = tls::sealed(setup(), &pair).start();
        let config = authority.client(None);
        let mut held = Vec::new();
        let spread = Spread::of(
            2,
            (0..16).map(|_| {
                let mut client = tls::Client::connect(server.addr(), &config);
                let (status, body) = client.get("/health/v2/worker");
                assert_eq!(status, 200);
                held.push(client);
                sonic_rs::from_slice::<sonic_rs::Value>(&body).unwrap()["worker"]
                    .as_u64()
                    .unwrap()
            }),
        );
        let (_, body) = held[0].get("/metrics");
        let figures = Exposition::parse(&String::from_utf8(body).unwrap());
        let back = figures.sum("worker_connections_handed_back_total", &[]) as u64;
        assert!(spread.0[0].abs_diff(spread.0[1]) <= 2 + 2 * back, "TLS: {spread:?}");

        let server = setup()
            .env("PROXY_PROTOCOL", "on")
            .env("TRUSTED_PROXIES", "loopback")
            .start();
        let mut held = Vec::new();
        let mut introduced = || {
            let mut connection = server.connect();
            connection.send("PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n");
            let worker = worker(&mut connection);
            held.push(connection);
            worker
        };
        let spread = Spread::of(2, (0..16).map(|_| introduced()));
        let figures = Exposition::parse(&held[0].get("/metrics").text());
        let back = figures.sum("worker_connections_handed_back_total", &[]) as u64;
        assert!(spread.0[0].abs_diff(spread.0[1]) <= 2 + 2 * back, "PROXY: {spread:?}");
        assert_eq!(figures.sum("http_proxy_headers_refused_total", &[]), 0.0);

        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("s");
        let bind = format!("127.0.0.1:0,unix:{}", path.display());
        let server = setup().env("BIND", &bind).start();
        let mut held = Vec::new();
        let mut local = || {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
            stream
                .write_all(b"GET /health/v2/worker HTTP/1.1\r\nHost: test\r\n\r\n")
                .unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            let worker = loop {
                line.clear();
                assert!(reader.read_line(&mut line).unwrap() > 2, "no X-Worker-ID");
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("x-worker-id")
                {
                    let (_, number) = value.trim().rsplit_once('-').unwrap();
                    break number.parse::<u64>().unwrap();
                }
            };
            held.push(reader);
            worker
        };
        let spread = Spread::of(2, (0..16).map(|_| local()));
        spread.expect_within(2, &server, "a Unix socket");
    });
}

#[test]
fn nobody_is_lost_between_workers_that_come_and_go() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("WORKERS", "3").start();
        let load = Load::start(server.addr(), &comers());
        let said = |server: &Server, what: &str| server.all_said().matches(what).count();
        for round in 1..=3 {
            server.signal(Signal::HUP);
            until("the round to be over", || said(&server, "the round is over") >= round);
            server.signal(Signal::TTIN);
            until("one more", || metric(&server, "worker_health_status") == 4.0);
            load.go_on_for(100);
            server.signal(Signal::TTOU);
            until("one fewer", || said(&server, "there is one fewer") >= round);
            load.go_on_for(100);
        }
        let handed = metric(&server, "worker_connections_handed_total");
        assert!(handed > 0.0, "nothing was handed over: this test has shown nothing");
        load.let_end();
        server.terminate();
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
        load.stop()
            .expect_none_failed(&format!("HUP, TTIN, TTOU x3, then TERM, {driver}"));
        assert_eq!(said(&server, "is lost"), 0, "{}", server.all_said());
    });
}

/// Clients of all sorts, most of whom come and go.
fn comers() -> Vec<Kind> {
    let mut kinds = vec![Kind::Short; 12];
    kinds.extend([Kind::KeepAlive(Duration::from_millis(5)); 8]);
    kinds
}

/// As lives that share out stand beside lives that do not.
#[test]
fn balance_is_switched_by_a_reload_and_nobody_waits_for_it() {
    on_each_driver(|driver| {
        let env_file = tempfile::NamedTempFile::new().unwrap();
        let switch = |balance: &str| std::fs::write(env_file.path(), format!("BALANCE={balance}\n")).unwrap();
        switch("on");
        let mut server = Setup::new()
            .driver(driver)
            .env("WORKERS", "2")
            .env("ENV_FILE", env_file.path().to_str().unwrap())
            .start();
        let load = Load::start(server.addr(), &comers());
        let handed = || metric(&server, "worker_connections_handed_total");
        let rounds = || server.all_said().matches("the round is over").count();
        for (round, balance) in (1..).zip(["off", "on", "off", "on"]) {
            switch(balance);
            server.signal(Signal::HUP);
            until("the round to be over", || rounds() == round);
            if balance == "on" {
                let before = handed();
                until("one to be handed over", || handed() > before);
            } else {
                // By one that was accepted in the last moment.
                load.go_on_for(20);
                let before = handed();
                load.go_on_for(200);
                assert_eq!(handed(), before, "round {round}");
            }
        }
        let tally = load.stop();
        tally.expect_none_failed(&format!("BALANCE off, on, off, on by HUP, {driver}"));
        assert!(tally.longest_wait < Duration::from_secs(10), "{tally:?}");
        server.stop();
    });
}

#[test]
fn nobody_is_lost_between_workers_of_a_process_that_is_upgraded() {
    on_each_driver(|driver| {
        let house = House::start(Setup::new().driver(driver));
        let load = Load::start(house.server.addr(), &comers());
        for _ in 0..2 {
            let old = house.serving();
            let handed = || metric(&house.server, "worker_connections_handed_total");
            until("one to be handed over", || handed() > 0.0);
            house.upgrade();
            until("the old process to end", || is_gone(old));
            load.go_on_for(100);
        }
        load.stop()
            .expect_none_failed(&format!("USR2 x2, connections are shared out, {driver}"));
        assert_eq!(house.said("is lost"), 0, "{}", house.server.all_said());
    });
}

/// A worker that is stuck has the fewest connections: it gets none all the same.
#[test]
fn a_stuck_worker_keeps_nobody_waiting_to_whom_others_have_time() {
    if !cfg!(debug_assertions) {
        println!("not in a release build: it cannot be asked for faults");
        return;
    }
    on_each_driver(|driver| {
        let mut server = Setup::new()
            .driver(driver)
            .env("FAULTS", "1")
            .env("WORKERS", "2")
            .env("WORKER_TIMEOUT", "1s")
            .env("DRAIN_DELAY", "0s")
            .start();
        let mut stuck = server.connect();
        let itself = worker(&mut stuck);
        stuck.send("GET /api/v1/styles HTTP/1.1\r\nHost: test\r\nX-Fault: block=8000\r\n\r\n");
        // It has one, and so few that it would be handed every second of these.
        let held = gather(&server, 16);
        if stuck.has_ended() {
            println!("this machine is too slow to tell one from the other: no claim is made");
            return;
        }
        assert!(held.iter().all(|(_, worker)| *worker != itself));
        let figures = Exposition::parse(&held_metrics(held));
        assert!(figures.sum("worker_connections_handed_back_total", &[]) >= 1.0);
        // The end comes while it is stuck.
        server.terminate();
        stuck.read().expect(200);
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

fn held_metrics(mut held: Vec<(Connection, u64)>) -> String {
    held[0].0.get("/metrics").expect(200).text()
}
