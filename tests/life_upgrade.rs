//! A new binary takes over under a load that must not notice; or does not, and nothing is lost either.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::house::{House, install, is_gone, signal};
use common::load::{Kind, Load};
use common::{Setup, on_each_driver, tools, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::fs;

#[test]
fn a_new_binary_takes_over_without_a_lost_request_twice() {
    on_each_driver(|driver| {
        let house = House::start(Setup::new().driver(driver));
        let load = Load::start(house.server.addr(), &Kind::MIX);
        let kept = house.server.tell(r#"{"location":"Cusco"}"#).expect(200);
        let mut old = house.server.pid();
        for _ in 0..2 {
            install(None, &house.binary());
            let new = house.upgrade();
            until("the old process to end", || is_gone(old));
            assert_eq!(house.pid_in("pid"), Some(new));
            assert_eq!(house.pid_in("pid.oldbin"), None);
            load.go_on_for(200);
            old = new;
        }
        // What the first told, the third knows.
        let again = house.server.tell(r#"{"location":"Cusco"}"#).expect(200);
        assert_eq!(again.json()["id"].as_str(), kept.json()["id"].as_str());
        // The others' signals work on the new one.
        signal(old, Signal::HUP);
        until("a round", || house.said("the round is over") == 1);
        load.stop().expect_none_failed(&format!("USR2 x2, {driver}"));
        signal(old, Signal::TERM);
        until("the end", || is_gone(old));
        assert_eq!(house.pid_in("pid"), None);
        assert!(!house.server.is_listening());
    });
}

#[test]
fn a_binary_that_does_not_become_ready_is_ended_and_nothing_is_lost() {
    on_each_driver(|driver| {
        let house = House::start(Setup::new().driver(driver).env("UPGRADE_TIMEOUT", "2s"));
        let load = Load::start(house.server.addr(), &Kind::MIX);
        let pid = house.server.pid();
        let prepared_and_stuck =
            "#!/usr/bin/env bash\nn=${ROADTRIP_API_HANDOVER##*ready=}; n=${n%% *}; printf P >&$n; exec sleep 1000\n";
        let prepared_and_gone = prepared_and_stuck.replace("exec sleep 1000", "sleep 1; exit 3");
        for (number, (script, why)) in [
            ("#!/bin/sh\nexit 7\n", "it ended with code 7"),
            ("no program", "cannot be started"),
            ("#!/bin/sh\nexec sleep 1000\n", "did not become ready"),
            // After these two the old one has let go of its store already.
            (&prepared_and_gone, "it ended with code 3"),
            (prepared_and_stuck, "did not become ready"),
        ]
        .into_iter()
        .enumerate()
        {
            install(Some(script), &house.binary());
            house.server.signal(Signal::USR2);
            until(why, || {
                house.said("this one goes on") == number + 1 && house.said(why) > 0
            });
            load.go_on_for(200);
            assert_eq!((house.serving(), house.pid_in("pid")), (pid, Some(pid)));
            assert_eq!(house.pid_in("pid.oldbin"), None);
        }
        let failed = house.server.get("/metrics").text();
        assert!(failed.contains("process_upgrades_failed_total 5"), "{failed}");
        // And then a good one.
        install(None, &house.binary());
        assert_ne!(house.upgrade(), pid);
        load.go_on_for(100);
        load.stop().expect_none_failed(&format!("USR2, broken x5, {driver}"));
    });
}

/// The former lives' connections hold what the next ones need: nobody ends for it, and it is tried until there is some.
#[test]
fn without_a_descriptor_the_old_process_goes_on_after_a_failed_upgrade() {
    on_each_driver(|driver| {
        let mut house = House::start(Setup::new().driver(driver).env("FAULTS", "1"));
        let pid = house.server.pid();
        let mut held: Vec<_> = (0..4).map(|_| house.server.connect()).collect();
        for stream in &mut held {
            stream.send("GET /health HTTP/1.1\r\nHost: t\r\nX-Fault: later=20000\r\n\r\n");
        }
        let script = "#!/usr/bin/env bash\nn=${ROADTRIP_API_HANDOVER##*ready=}; n=${n%% *}; printf P >&$n\n\
                      until [ -e \"$0.fail\" ]; do sleep 0.05; done; exit 3\n";
        house.server.get("/health").expect(200);
        install(Some(script), &house.binary());
        house.server.signal(Signal::USR2);
        until("it to be prepared", || {
            house.said("new connections wait while the store") == 1
        });
        // Not even one more can be opened from here on.
        let limit = |soft: u32| {
            let words = ["--pid", &pid.to_string(), &format!("--nofile={soft}:")];
            assert!(tools::run("prlimit", &words).status.success());
        };
        limit(8);
        fs::write(house.folder.path().join("roadtrip-api.fail"), "").unwrap();
        // Each of two workers more often than is the end where nobody leaves.
        until("six attempts of each", || {
            assert_eq!(house.said("draining"), 0, "it ends");
            house.said("could not start again") >= 12
        });
        assert_eq!(house.server.try_wait(), None);
        limit(1024);
        assert_eq!(house.serving(), pid);
        until("both to serve", || {
            house
                .server
                .get("/metrics")
                .text()
                .contains("process_upgrades_failed_total 1")
        });
        house.server.tell(r#"{"location":"Oslo"}"#).expect(200);
    });
}

/// Nobody has to let go of anything first: the two serve side by side for a moment.
#[test]
fn with_postgresql_nobody_waits_for_the_new_binary() {
    let database = common::postgres::Postgres::start();
    let house = House::start(Setup::new().env("DATABASE_URL", &database.url()));
    let load = Load::start(house.server.addr(), &Kind::MIX);
    for _ in 0..2 {
        let old = house.serving();
        house.upgrade();
        load.go_on_for(200);
        until("the old process to end", || is_gone(old));
    }
    assert_eq!(house.said("the store is handed over"), 0);
    load.stop().expect_none_failed("USR2 x2, PostgreSQL");
}

#[test]
fn an_end_that_is_asked_for_during_an_upgrade_is_the_old_ones() {
    let mut house = House::start(Setup::new());
    install(Some("#!/bin/sh\nexec sleep 1000\n"), &house.binary());
    house.server.signal(Signal::USR2);
    until("the new one to start", || house.said("the new process starts") == 1);
    house.server.get("/health").expect(200);
    house.server.terminate();
    assert_eq!(house.server.wait().code(), Some(0), "{}", house.server.all_said());
    assert_eq!(house.said("the end was asked for"), 1);
}

#[test]
fn a_process_that_stays_passes_signals_on_and_ends_as_the_last_one_does() {
    let mut house = House::start(Setup::new().env("UPGRADE_STAY", "true"));
    let load = Load::start(house.server.addr(), &Kind::MIX);
    let first = house.server.pid();
    let second = house.upgrade();
    load.go_on_for(100);
    assert!(!is_gone(first));
    // To the one that stays, as an operator would who knows of nothing: each reaches the one that serves.
    until("the first to stay", || house.said("stays behind") == 1);
    signal(first, Signal::HUP);
    until("a round", || house.said("the round is over") == 1);
    signal(first, Signal::USR2);
    until("a third", || {
        house.said("stays behind") == 1 && house.serving() != second
    });
    let third = house.serving();
    until("the second to end", || {
        is_gone(second) && house.said("another process serves now") == 1
    });
    assert!(!is_gone(first));
    signal(first, Signal::USR1);
    until("the third to hear", || house.said("SIGUSR1") == 1);
    load.go_on_for(100);
    load.stop().expect_none_failed("USR2 x2, the first stays");
    house.server.terminate();
    assert_eq!(house.server.wait().code(), Some(0), "{}", house.server.all_said());
    assert!(is_gone(third));
}

#[test]
fn as_process_1_it_stays_and_leaves_no_zombie() {
    let inside = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
    let tried = tools::run(inside[0], &[&inside[1..], &["true"]].concat());
    let mut words: Vec<&str> = inside.to_vec();
    if !tried.status.success() {
        // Not root, but perhaps allowed to be so in a namespace.
        words.extend(["--user", "--map-root-user"]);
    }
    let house = House::start(Setup::new().wrapped(words));
    assert_eq!(house.serving(), 1, "it does not run as process 1");
    let load = Load::start(house.server.addr(), &Kind::MIX);
    // What the kernel shows of the namespace from outside: the children of unshare's only child.
    let children = |pid: u32| -> Vec<u32> {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let one = children(house.server.pid())[0];
    let enter = |command: &str| {
        let target = one.to_string();
        let ran = tools::run("nsenter", &["--target", &target, "--pid", "--", "sh", "-c", command]);
        assert!(ran.status.success(), "{}", ran.err());
    };
    // An orphan: its parent ends first. `sh` in the namespace has process 1 for its child's next parent.
    enter("(sleep 0.2 & ) ; kill -HUP 1");
    until("a round", || house.said("the round is over") == 1);
    until("no zombies", || children(one).iter().all(|pid| !is_gone(*pid)));
    enter("kill -USR2 1");
    until("another process to serve", || house.serving() != 1);
    let second = house.serving();
    // It may answer before the first has heard that it does.
    until("the first to stay", || house.said("stays behind") == 1);
    enter("kill -USR2 1");
    until("a third", || {
        let serving = house.serving();
        serving != 1 && serving != second
    });
    until("the second to be gone", || children(one).len() == 1);
    load.go_on_for(100);
    load.stop().expect_none_failed("USR2 x2 as process 1");
    enter("(sleep 0.1 & ) ; true");
    until("no zombies", || children(one).iter().all(|pid| !is_gone(*pid)));
    enter("kill -TERM 1");
    until("process 1 to end", || is_gone(one));
    assert!(house.said("and so does this one") == 1, "{}", house.server.all_said());
}
