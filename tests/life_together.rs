//! Two things at once: signals that meet signals, a stuck worker, a database that is away, a socket that is somebody else's.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::house::{House, install, is_gone, signal};
use common::http::Connection;
use common::load::{Kind, Load};
use common::postgres::Postgres;
use common::redis::id_of;
use common::{BINARY, PATIENCE, Server, Setup, on_each_driver, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

fn said(server: &Server, what: &str) -> usize {
    server.all_said().matches(what).count()
}

fn metric(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    Exposition::parse(&server.get("/metrics").text()).sum(name, labels)
}

#[test]
fn a_round_goes_past_a_worker_that_is_stuck() {
    if !cfg!(debug_assertions) {
        println!("not in a release build: it cannot be asked for faults");
        return;
    }
    on_each_driver(|driver| {
        let setup = Setup::new().driver(driver).env("WORKERS", "2").env("FAULTS", "1");
        let mut server = setup.env("WORKER_TIMEOUT", "1s").start();
        let load = Load::start(server.addr(), &Kind::MIX);
        let mut held = server.connect();
        held.send("GET /api/v1/styles HTTP/1.1\r\nHost: t\r\nX-Fault: block=5000\r\n\r\n");
        until("it to be seen", || said(&server, "a worker is stuck") == 1);
        server.signal(Signal::HUP);
        until("the round to be over", || said(&server, "the round is over") == 1);
        load.go_on_for(200);
        // What waited with the worker is answered when it goes on, by the life that was replaced.
        held.read().expect(200);
        until("the worker to be back", || server.get("/health/v2/live").status == 200);
        server.signal(Signal::HUP);
        until("another round", || said(&server, "the round is over") == 2);
        load.go_on_for(100);
        let mut tally = load.stop();
        // That one is stuck is what liveness is asked for.
        let is_told = |why: &String| why.contains(r#"{"status":"stuck""#);
        let told = tally.failed.extract_if(.., |why| is_told(why)).count();
        assert!(told > 0, "nobody was told");
        println!("{}", tally.row(&format!("HUP, a worker is stuck, {driver}")));
        assert!(tally.failed.is_empty(), "{driver}: {:#?}", tally.failed);
        assert_eq!(metric(&server, "worker_restarts_total", &[("reason", "reload")]), 4.0);
        server.stop();
    });
}

#[test]
fn a_term_behind_two_hups_drains_in_the_midst_of_a_round() {
    on_each_driver(|driver| {
        for pause_ms in [0, 30, 400] {
            let mut server = Setup::new()
                .driver(driver)
                .env("WORKERS", "3")
                .env("DRAIN_DELAY", "1s")
                .start();
            let load = Load::start(server.addr(), &Kind::MIX);
            server.signal(Signal::HUP);
            until("a round", || said(&server, "every worker is replaced") == 1);
            std::thread::sleep(Duration::from_millis(pause_ms));
            server.signal(Signal::HUP);
            load.let_end();
            server.terminate();
            assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
            load.stop()
                .expect_none_failed(&format!("HUP, HUP, TERM after {pause_ms} ms, {driver}"));
            assert_eq!(said(&server, "cut off"), 0);
        }
    });
}

#[test]
fn a_term_behind_a_usr2_leaves_one_process_or_none_and_loses_nothing() {
    on_each_driver(|driver| {
        let mut handed_over = 0;
        for pause_ms in [0, 60, 150, 300, 500, 2000] {
            let mut house = House::start(Setup::new().driver(driver).env("DRAIN_DELAY", "1s"));
            let load = Load::start(house.server.addr(), &Kind::MIX);
            let old = house.server.pid();
            install(None, &house.binary());
            house.server.signal(Signal::USR2);
            std::thread::sleep(Duration::from_millis(pause_ms));
            let before = load.answered();
            // Whichever way it goes: clients may come to find nobody there.
            load.let_end();
            signal(old, Signal::TERM);
            // Not waited for yet: a successor has its output.
            until("the end of the old one", || is_gone(old));
            if house.said("this one finishes what it has") == 1 {
                // It was the new one's already, and the word to the old one changes nothing.
                handed_over += 1;
                load.go_on_for(100);
                let new = house.serving();
                assert!(new != old && !is_gone(new));
                signal(new, Signal::TERM);
                until("the end of the new one", || is_gone(new));
            } else {
                assert!(!house.server.is_listening(), "{}", house.server.all_said());
            }
            assert_eq!(house.server.wait().code(), Some(0), "{}", house.server.all_said());
            assert!(load.answered() > before);
            load.stop()
                .expect_none_failed(&format!("USR2, TERM after {pause_ms} ms, {driver}"));
            assert_eq!(house.said("cut off"), 0, "{}", house.server.all_said());
        }
        println!("{driver}: {handed_over} of 6 handed over");
    });
}

#[test]
fn workers_that_come_and_go_within_rounds_are_as_many_as_were_asked_for() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("WORKERS", "2").start();
        let load = Load::start(server.addr(), &Kind::MIX);
        let workers = |server: &Server| server.json("/health/v2/status")["components"]["worker"]["workers"].as_u64();
        let (hup, more, fewer) = (Signal::HUP, Signal::TTIN, Signal::TTOU);
        // Two and: one more, one fewer, one fewer, one more, one more, one fewer.
        for (number, what) in [hup, more, hup, fewer, fewer, hup, more, hup, more, hup, fewer]
            .into_iter()
            .enumerate()
        {
            server.signal(what);
            std::thread::sleep(Duration::from_millis(40 * (number as u64 % 4)));
        }
        let health = [("component", "worker")];
        until("two workers, and no round", || {
            let asked = said(&server, "every worker is replaced") + said(&server, "another round follows");
            said(&server, "the round is over") == asked
                && workers(&server) == Some(2)
                && metric(&server, "worker_health_status", &health) == 2.0
        });
        load.go_on_for(300);
        load.stop().expect_none_failed(&format!("HUP, TTIN, TTOU, {driver}"));
        assert_eq!(said(&server, "cut off"), 0);
        server.stop();
    });
}

/// The folder is one process's at a time, and the two serve side by side for a moment.
#[test]
fn a_new_binary_takes_the_journal_over() {
    let mut database = Postgres::start();
    let setup = Setup::new()
        .env("DATABASE_URL", &database.url())
        .env("STORE_OUTAGE", "journal");
    let house = House::start(setup);
    let journal =
        |what: &str| house.server.json("/health/v2/status")["components"]["database"]["journal"][what].clone();
    let tell = |number: u32| {
        let body = format!(r#"{{"location":"Cork","length":"short","variation":{number}}}"#);
        let mut told = None;
        until("a story", || {
            // Between the two nobody may have the folder: then it is 503 and Retry-After, and never another story.
            let answer = house.server.tell(&body);
            assert!(
                answer.status == 200 || answer.status == 503 && answer.field("retry-after").is_some(),
                "{answer:?}"
            );
            told = (answer.status == 200).then_some(answer.body);
            told.is_some()
        });
        (body, told.unwrap())
    };
    until("the database", || house.server.get("/health/v2/ready").status == 200);
    let load = Load::start(house.server.addr(), &Kind::MIX);
    let mut told = vec![tell(0)];
    // With a database nobody notices.
    let first = house.serving();
    house.upgrade();
    until("the old process to end", || is_gone(first));
    load.go_on_for(100);
    load.stop().expect_none_failed("USR2, a journal");
    until("the journal", || journal("state").as_str() == Some("idle"));
    // Without one, what the old process has written is not lost, nor told anew.
    database.stop();
    told.extend((1..6).map(tell));
    assert_eq!(journal("records").as_u64(), Some(5));
    let second = house.serving();
    house.upgrade();
    told.extend((6..9).map(tell));
    until("the old process to end", || is_gone(second));
    told.extend((9..12).map(tell));
    for (body, story) in &told[1..] {
        let mut again = Vec::new();
        until("it to be found", || {
            again = house.server.tell(body).body;
            again.starts_with(b"{\"id\"")
        });
        assert_eq!(again, *story, "another story for {body}");
    }
    database.launch();
    until("the replay", || {
        journal("records").as_u64() == Some(0) && house.server.get("/health/v2/ready").status == 200
    });
    for (body, story) in &told {
        let id = id_of(story);
        let kept = database.sql(&format!(
            "SELECT convert_from(json, 'UTF8') FROM stories WHERE id = '{id}'"
        ));
        assert_eq!(kept.trim_end().as_bytes(), story, "{body}");
    }
}

/// As systemd starts a service on the socket, which it keeps.
fn activated(socket: impl AsFd, setup: Setup) -> (Setup, OwnedFd) {
    let kept = rustix::io::fcntl_dupfd_cloexec(socket, 100).unwrap();
    rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).unwrap();
    let number = kept.as_raw_fd();
    let script = format!("exec 3<&{number} {number}<&-; export LISTEN_PID=$$ LISTEN_FDS=1; exec {BINARY}");
    (setup.env("WORKERS", "2").wrapped(["bash", "-c", &script]), kept)
}

#[test]
fn a_socket_of_systemd_outlives_the_process_with_whoever_waits() {
    on_each_driver(|driver| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let setup = Setup::new()
            .driver(driver)
            .env("BIND", &addr.to_string())
            .data(folder.path());
        let (setup, kept) = activated(&listener, setup);
        let mut server = setup.clone().start();
        let load = Load::start(addr, &Kind::MIX);
        for _ in 0..2 {
            // A request that is under way is finished, by whoever has it.
            let mut half = server.connect();
            // Who is not accepted by the time of the end is the next start's, too.
            half.get("/health").expect(200);
            half.send("GET /health HTTP/1.1\r\nHo");
            server.terminate();
            until("draining", || said(&server, "draining") == 1);
            // Who comes now is not refused, and is for the next start.
            let mut late = Connection::open(addr);
            late.send("GET /health/v2/worker HTTP/1.1\r\nHost: t\r\n\r\n");
            half.send("st: t\r\n\r\n");
            assert!(half.read().expect(200).closes());
            assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
            let mut nobody = Connection::open(addr);
            nobody.send("GET /health/v2/worker HTTP/1.1\r\nHost: t\r\n\r\n");
            std::thread::sleep(Duration::from_millis(100));
            server = setup.clone().start();
            late.read().expect(200);
            let answered = nobody.read().expect(200).json();
            assert_eq!(answered["pid"].as_u64(), Some(server.pid().into()));
            load.go_on_for(200);
        }
        load.stop()
            .expect_none_failed(&format!("a socket of systemd, TERM x2, {driver}"));
        drop(kept);
        server.stop();
        // Only its keeper closes it.
        std::net::TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    });
}

#[test]
fn a_unix_socket_of_systemd_outlives_the_process_and_its_upgrade() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let setup = Setup::new().env("BIND", &format!("unix:{}", path.display()));
    let (setup, kept) = activated(&listener, setup);
    let setup = setup.data(folder.path());
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /health/v2/worker HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            .unwrap();
        stream
    };
    let pid = |mut stream: UnixStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").expect("no answer");
        let json: sonic_rs::Value = sonic_rs::from_str(body).unwrap();
        u32::try_from(json["pid"].as_u64().unwrap()).unwrap()
    };
    let mut server = setup.clone().start();
    let first = pid(ask());
    assert_eq!(first, server.pid());
    // A successor has it from this one, and knows whose it is.
    server.signal(Signal::USR2);
    until("another process to serve", || pid(ask()) != first);
    let second = pid(ask());
    until("the old process to end", || is_gone(first));
    signal(second, Signal::TERM);
    until("its end", || is_gone(second));
    // Not before: the second has its output.
    assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    let waiting = ask();
    let mut third = setup.start();
    assert_eq!(pid(waiting), third.pid());
    third.stop();
    drop(kept);
    assert!(path.exists(), "its file is systemd's");
}
