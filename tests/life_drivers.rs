//! A new process that talks to the kernel in another way than the old one takes over: the mode of a listening socket
//! (O_NONBLOCK) is both processes', and each driver wants its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::house::{House, install, is_gone};
use common::load::{Kind, Load};
use common::postgres::Postgres;
use common::{Setup, until, uring_is_here};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::path::Path;

fn take(driver: &str, env_file: &Path) {
    std::fs::write(env_file, format!("IO_DRIVER={driver}\n")).unwrap();
}

/// A house whose IO_DRIVER is in a file, which the next process reads.
fn house(setup: Setup, driver: &str) -> (House, tempfile::NamedTempFile) {
    let env_file = tempfile::NamedTempFile::new().unwrap();
    take(driver, env_file.path());
    let setup = setup.env("ENV_FILE", env_file.path().to_str().unwrap());
    (House::start(setup), env_file)
}

fn driver_of(house: &House) -> String {
    let worker = house.server.json("/health/v2/worker");
    worker["io_driver"].as_str().unwrap().to_owned()
}

fn there_and_back(setup: Setup, what: &str) {
    let (house, env_file) = house(setup, "epoll");
    let load = Load::start(house.server.addr(), &Kind::MIX);
    for driver in ["uring", "epoll", "epoll", "uring"] {
        let old = house.serving();
        take(driver, env_file.path());
        house.upgrade();
        assert_eq!(driver_of(&house), driver);
        load.go_on_for(200);
        until("the old process to end", || is_gone(old));
    }
    load.stop().expect_none_failed(what);
    assert_eq!(house.said("cut off"), 0);
}

#[test]
fn a_process_with_another_driver_takes_over_beside_postgresql() {
    if !uring_is_here() {
        println!("io_uring is refused here: there is one driver");
        return;
    }
    let database = Postgres::start();
    there_and_back(
        Setup::new().env("DATABASE_URL", &database.url()),
        "USR2 x4, other drivers, PostgreSQL",
    );
}

#[test]
fn a_process_with_another_driver_takes_over_the_embedded_store() {
    if uring_is_here() {
        there_and_back(Setup::new(), "USR2 x4, other drivers");
    }
}

/// It has set the sockets' mode already, and ends.
#[test]
fn an_old_process_goes_on_after_one_with_another_driver_has_failed() {
    if !uring_is_here() {
        return;
    }
    let database = Postgres::start();
    let (house, _env_file) = house(Setup::new().env("DATABASE_URL", &database.url()), "uring");
    let load = Load::start(house.server.addr(), &Kind::MIX);
    let pid = house.serving();
    // dd sets O_NONBLOCK on the open file that is its standard input, and leaves it so.
    let fails = r#"#!/usr/bin/env bash
for word in $ROADTRIP_API_HANDOVER; do
    case $word in
        ready=*) ready=${word#*=} ;;
        go=*) go=${word#*=} ;;
        listen=*) listen="$listen ${word##*:}" ;;
    esac
done
printf P >&$ready
read -r -N 1 -u $go
for number in ${listen//,/ }; do dd iflag=nonblock count=0 status=none <&$number; done
sleep 0.3
exit 3
"#;
    install(Some(fails), &house.binary());
    house.server.signal(Signal::USR2);
    until("the old one to go on", || house.said("it ended with code 3") == 1);
    load.go_on_for(200);
    assert_eq!((house.serving(), driver_of(&house)), (pid, "uring".to_owned()));
    load.stop().expect_none_failed("USR2, another driver, broken");
}
