//! The new binary of an upgrade is a script that starts the server: whoever gives up the script gives up the server.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::house::{House, install, is_gone, signal};
use common::http::Connection;
use common::load::{Kind, Load};
use common::postgres::Postgres;
use common::{Setup, on_each_driver, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait as _;
use std::fs;
use std::time::Duration;

/// Waits for the server, as its child.
const PLAIN: &str = "REAL \"$@\"\n";
/// The server is nobody's child that the old process could find.
const APART: &str = "(REAL \"$@\" &)\nexec sleep 1000\n";
/// The same, and it starts when the old process has turned back already.
const LATE: &str = "((sleep 0.5; exec REAL \"$@\") &)\nexec sleep 1000\n";

/// The server is ready, and the old process does not hear of it.
const SILENT: &str = r#"#!/usr/bin/env python3
import os, subprocess, sys
table = dict(word.split("=", 1) for word in os.environ["ROADTRIP_API_HANDOVER"].split(" "))
ready = int(table["ready"])
hear, say = os.pipe()
told = os.dup(ready)
os.dup2(say, ready)
os.close(say)
server = subprocess.Popen(["REAL"] + sys.argv[1:], close_fds=False)
os.close(ready)
while byte := os.read(hear, 1):
    if byte != b"R":
        os.write(told, byte)
sys.exit(server.wait())
"#;

/// The same, and only so much of what the server says to the old process comes to it: it does not hear that the server is ready.
/// (Numbers of descriptors may have more than one digit, for which a plain shell has no words.)
const UNHEARD: &str = r#"said=${ROADTRIP_API_HANDOVER##*ready=}; said=${said%% *}
mkfifo "$0.fifo"
(exec 3<"$0.fifo"; head -c HEARD <&3 >&$said; exec sleep 1000) &
(eval "exec REAL \"\$@\" $said>\"$0.fifo\"" &)
exec sleep 1000
"#;

fn house(setup: Setup, script: &str) -> House {
    let house = House::start(setup);
    let real = house.folder.path().join("real");
    install(None, &real);
    let script = script.replace("REAL", real.to_str().unwrap());
    let script = match script.starts_with("#!") {
        true => script,
        false => format!("#!/bin/bash\n{script}"),
    };
    install(Some(&script), &house.binary());
    house
}

/// Processes of the binary that the script starts.
fn new_ones(house: &House) -> usize {
    let real = house.folder.path().join("real");
    let is_one = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.unwrap().path().join("exe"));
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| is_one(entry).ok());
    processes.filter(|exe| *exe == real).count()
}

/// A request that keeps the old process from letting go of the store.
fn hold(house: &House) -> Connection {
    let mut held = house.server.connect();
    held.send("POST /api/v1/stories HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{");
    held
}

fn expect_none(house: &House) {
    until("the new process to end", || new_ones(house) == 0);
    // Whoever is late has come by now.
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(new_ones(house), 0, "{}", house.server.all_said());
}

#[test]
fn the_end_of_the_old_process_is_that_of_a_server_that_a_script_has_started() {
    for script in [PLAIN, APART] {
        let mut house = house(Setup::new(), script);
        let held = hold(&house);
        house.server.signal(Signal::USR2);
        until("the new one to wait", || house.said("is prepared") == 1);
        house.server.terminate();
        drop(held);
        assert_eq!(house.server.wait().code(), Some(0), "{}", house.server.all_said());
        expect_none(&house);
        assert_eq!(house.pid_in("pid"), None);
    }
}

#[test]
fn a_script_that_is_not_ready_in_time_takes_its_server_with_it() {
    for script in [PLAIN, APART] {
        let house = house(Setup::new().env("UPGRADE_TIMEOUT", "1s"), script);
        let pid = house.server.pid();
        let held = hold(&house);
        house.server.signal(Signal::USR2);
        until("the old one to go on", || house.said("this one goes on") == 1);
        drop(held);
        expect_none(&house);
        assert_eq!((house.serving(), house.pid_in("pid")), (pid, Some(pid)));
        house.server.tell(r#"{"location":"Cusco"}"#).expect(200);
    }
}

/// There nothing is waited for.
#[test]
fn a_server_that_comes_late_does_not_begin_beside_postgresql() {
    let database = Postgres::start();
    let mut house = house(Setup::new().env("DATABASE_URL", &database.url()), LATE);
    let pid = house.server.pid();
    house.server.signal(Signal::USR2);
    until("the script to start", || house.said("the new process starts") == 1);
    house.server.terminate();
    assert_eq!(house.server.wait().code(), Some(0), "{}", house.server.all_said());
    until("the new one to say why", || {
        house.said("the process before has given this one up") > 0
    });
    expect_none(&house);
    assert_eq!(house.said("started_in_ms"), 1, "{}", house.server.all_said());
    assert!(is_gone(pid) && house.pid_in("pid").is_none());
}

/// It has said that it is ready, and serves, and the old process has not heard of it: that one goes on, and has the sockets and the
/// store, whether the new one serves or is about to end.
#[test]
fn one_that_is_given_up_when_it_serves_already_leaves_everything_to_the_old_one() {
    let given_up = |setup: Setup, heard: &str, is_told_to_end: bool| {
        let setup = setup.env("UPGRADE_TIMEOUT", "8s").env("DRAIN_DELAY", "60s");
        let house = house(setup, &UNHEARD.replace("HEARD", heard));
        let pid = house.server.pid();
        let load = Load::start(house.server.addr(), &Kind::MIX);
        house.server.signal(Signal::USR2);
        until("the new one to serve", || house.said("started_in_ms") == 2);
        let new = house.server.log.lines().iter().rev().find_map(|line| {
            let line: sonic_rs::Value = sonic_rs::from_str(line).ok()?;
            line.get("started_in_ms").and(line["pid"].as_u64())
        });
        let new = u32::try_from(new.unwrap()).unwrap();
        assert_ne!(new, pid);
        if is_told_to_end {
            signal(new, Signal::TERM);
        }
        until("the old one to go on", || house.said("this one goes on") == 1);
        until("the new one to say why", || {
            house.said("the process before has given this one up") > 0
        });
        until("the new one to end", || is_gone(new));
        expect_none(&house);
        for _ in 0..12 {
            assert_eq!(house.serving(), pid);
        }
        house.server.tell(r#"{"location":"Cusco"}"#).expect(200);
        assert_eq!(house.pid_in("pid"), Some(pid));
        load.go_on_for(100);
        load.stop().expect_none_failed(&format!(
            "given up when it serves, {heard} heard, told to end: {is_told_to_end}"
        ));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| given_up(Setup::new(), "1", false));
        scope.spawn(|| given_up(Setup::new(), "1", true));
        scope.spawn(|| {
            let database = Postgres::start();
            given_up(Setup::new().env("DATABASE_URL", &database.url()), "0", false);
        });
    });
}

/// A certificate is renewed, and a worker asked for, while a new binary starts.
#[test]
fn signals_during_an_upgrade_hold_for_whoever_serves_then() {
    let env_file = tempfile::NamedTempFile::new().unwrap();
    let setup = Setup::new().env("UPGRADE_TIMEOUT", "1s");
    let setup = setup.env("ENV_FILE", env_file.path().to_str().unwrap());
    let house = house(setup, "exec sleep 1000\n");
    let pid = house.server.pid();
    let workers = || house.server.json("/health/v2/status")["components"]["worker"]["workers"].as_u64();
    let meanwhile = || {
        for signal in [Signal::HUP, Signal::TTIN] {
            house.server.signal(signal);
        }
    };
    house.server.signal(Signal::USR2);
    until("the upgrade to begin", || house.said("the new process starts") == 1);
    fs::write(env_file.path(), "UPGRADE_TIMEOUT=20s\n").unwrap();
    meanwhile();
    until("the old one to go on", || house.said("this one goes on") == 1);
    until("the reload", || house.said("changed\":\"UPGRADE_TIMEOUT=") == 1);
    until("a worker more", || workers() == Some(3));
    until("the round", || house.said("the round is over") == 1);
    assert_eq!(house.serving(), pid);
    // And one that takes over, by way of a script: a signal to that would end it.
    let script = format!(
        "#!/bin/sh\nsleep 0.3\n{} \"$@\"\n",
        house.folder.path().join("real").to_str().unwrap()
    );
    install(Some(&script), &house.binary());
    house.server.signal(Signal::USR2);
    until("the second upgrade to begin", || {
        house.said("the new process starts") == 2
    });
    meanwhile();
    until("the new one to serve", || house.said("the new process serves") == 1);
    until("its round", || house.said("the round is over") == 2);
    until("its third worker", || workers() == Some(3));
    assert_ne!(house.serving(), pid);
}

/// It lacks something at one place of its start or another, in turn: the last when some of its workers serve already.
#[test]
fn one_that_fails_at_the_last_moment_leaves_the_sockets_as_they_are() {
    let house = house(Setup::new().env("WORKERS", "3"), "exec sleep 1000\n");
    let pid = house.server.pid();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let real = house.folder.path().join("real");
    let mut failed = 0;
    // With the fewest more than once: another worker may be about to begin, or to fail, when the first has failed.
    let few = std::iter::repeat_n(open - 8, 8);
    for descriptors in few.chain((open - 8..open + 3).step_by(3)) {
        let script = format!("#!/bin/sh\nulimit -n {descriptors}\nexec {} \"$@\"\n", real.display());
        install(Some(&script), &house.binary());
        house.server.signal(Signal::USR2);
        let began = failed + house.said("the new process serves") + 1;
        until("the upgrade to begin", || house.said("the new process starts") == began);
        until("its outcome", || {
            failed = house.said("this one goes on");
            failed + house.said("the new process serves") == began
        });
        if house.said("the new process serves") > 0 {
            break;
        }
        // On each worker's socket.
        for _ in 0..12 {
            house.server.get("/health/v2/live").expect(200);
        }
        house.server.tell(r#"{"location":"Cusco"}"#).expect(200);
        assert_eq!(house.serving(), pid);
    }
    assert_eq!(
        house.said("UPGRADE_TIMEOUT"),
        0,
        "it ends by itself: {}",
        house.server.all_said()
    );
    assert!(failed > 8, "{failed} failed: {}", house.server.all_said());
    assert!(house.said("cannot serve") > 0, "{}", house.server.all_said());
}

/// As when the old process is told to end in the moment in which the new one begins to serve: neither knows of the other.
#[test]
fn what_a_new_process_has_accepted_when_it_is_given_up_is_answered() {
    let wish = r#"{"location":"Petra"}"#;
    on_each_driver(|driver| {
        let setup = Setup::new().driver(driver).env("UPGRADE_TIMEOUT", "4s");
        let mut house = house(setup, SILENT);
        let old = house.server.pid();
        house.server.signal(Signal::USR2);
        until("the new one to serve", || house.serving() != old);
        let mut idle = house.server.connect();
        idle.get("/health").expect(200);
        let mut held = house.server.connect();
        let head = "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nContent-Type: application/json";
        held.send(format!("{head}\r\nContent-Length: {}\r\n\r\n{{", wish.len()));
        until("it to be given up", || {
            house.said("has given this one up") + house.said("this one goes on") > 0
        });
        held.send(&wish[1..]);
        assert!(held.read().expect(200).closes());
        assert!(idle.is_closed());
        until("the old one to go on", || house.said("this one goes on") == 1);
        assert_eq!((house.serving(), new_ones(&house)), (old, 0));
        house.server.stop();
    });
}
