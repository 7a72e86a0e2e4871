//! Where the kernel refuses io_uring the server serves the same on epoll, and says why: under the seccomp filters of
//! container runtimes (EPERM, ENOSYS), and for a user who may lock no memory.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BINARY, Server, Setup, tools, uring_is_here};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

/// The server under a filter that refuses io_uring.
fn refusing(errno: &str) -> Setup {
    let bench = tools::bench().to_str().unwrap().to_owned();
    Setup::new().wrapped([&bench, "refuse-uring", "--errno", errno, "--"])
}

/// Part `worker` of the status.
fn worker_status(server: &Server) -> Value {
    server.json("/health/v2/status")["components"]["worker"].clone()
}

/// The text of a story without what differs between two tellings: id and time.
fn essence(server: &Server, body: &str) -> Vec<String> {
    let story = server.tell(body).expect(200).json();
    let fields = ["title", "story", "style", "length", "generated_by"].iter();
    fields.map(|field| story[*field].as_str().unwrap().to_owned()).collect()
}

fn serves_on_epoll_because_of(server: &Server, errno: &str) {
    let worker = worker_status(server);
    assert_eq!(worker["io_driver"].as_str(), Some("epoll"));
    assert_eq!(worker["status"].as_str(), Some("degraded"));
    let why = worker["io_driver_fallback"].as_str().unwrap();
    for part in [errno, "errno", "likely cause:", "remedy:"] {
        assert!(why.contains(part), "{part} is missing: {why}");
    }
    // One line in the log, however many workers there are.
    let lines = server.log.lines();
    let said: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("io_uring is not available"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains(errno) && said[0].contains(r#""level":"WARN""#),
        "{said:?}"
    );
    // Degraded is no reason to send traffic elsewhere.
    server.get("/health/v2/ready").expect(200);
    server.get("/health/v2/live").expect(200);
}

#[test]
fn the_driver_asked_for_is_the_driver_that_serves() {
    common::on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let worker = worker_status(&server);
        assert_eq!(worker["io_driver"].as_str(), Some(driver));
        assert!(worker["io_driver_fallback"].is_null(), "{worker:?}");
        assert_eq!(worker["status"].as_str(), Some("healthy"));
        let metrics = common::exposition::Exposition::parse(&server.get("/metrics").text());
        assert_eq!(
            metrics.values("io_driver_info", "driver"),
            BTreeSet::from([driver.to_owned()])
        );
    });
    let auto = Setup::new().driver("auto").start();
    let expected = if uring_is_here() { "uring" } else { "epoll" };
    assert_eq!(worker_status(&auto)["io_driver"].as_str(), Some(expected));
}

#[test]
fn under_a_filter_that_refuses_io_uring_it_serves_the_same() {
    let free = Server::start();
    for errno in ["EPERM", "ENOSYS"] {
        let server = refusing(errno).start();
        serves_on_epoll_because_of(&server, errno);
        for body in [
            r#"{"location":"San Francisco","style":"adventure"}"#,
            r#"{"location":"Lagos","style":"comedy","length":"long"}"#,
            r#"{"location":{"lat":10.5,"lng":-66.9},"style":"history"}"#,
            r#"{"location":"Nowhere in particular"}"#,
        ] {
            assert_eq!(essence(&server, body), essence(&free, body), "{errno}: {body}");
        }
        let stories = server.json("/api/v1/stories");
        assert_eq!(stories["stories"].as_array().unwrap().len(), 4);
        let said = refusing(errno).run(&["check"]).expect(0).out();
        let line = said
            .lines()
            .find(|line| line.starts_with("driver: "))
            .unwrap()
            .to_owned();
        assert!(line.starts_with("driver: epoll (") && line.contains(errno), "{line}");
    }
}

#[test]
fn whoever_demands_io_uring_is_told_why_it_cannot_be() {
    for errno in ["EPERM", "ENOSYS"] {
        for args in [&["serve"][..], &["check"]] {
            let ran = refusing(errno).driver("uring").run(args);
            assert!(!ran.status.success() && ran.status.code().is_some(), "{ran:?}");
            let said = ran.err();
            for part in [
                "IO_DRIVER=uring",
                errno,
                "errno",
                "likely cause:",
                "remedy:",
                "IO_DRIVER=auto",
            ] {
                assert!(said.contains(part), "{args:?}: {part} is missing: {said}");
            }
            assert!(said.lines().count() <= 24, "more than a screen: {said}");
        }
    }
}

#[test]
fn whoever_asks_for_epoll_is_not_warned_of_it() {
    let server = refusing("EPERM").driver("epoll").start();
    let worker = worker_status(&server);
    assert_eq!(
        (worker["io_driver"].as_str(), worker["status"].as_str()),
        (Some("epoll"), Some("healthy"))
    );
    assert!(!server.all_said().contains("io_uring is not available"));
}

/// Words that take away the right to lock memory: root and CAP_IPC_LOCK are not bound by RLIMIT_MEMLOCK, so both go.
fn without_locked_memory() -> Vec<&'static str> {
    let mut words = Vec::new();
    if rustix::process::geteuid().is_root() {
        words.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        words.extend(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]);
    }
    words.extend(["prlimit", "--memlock=0:0", "--"]);
    words
}

#[test]
fn a_user_who_may_lock_no_memory_is_served_too() {
    // A copy where that user can reach it: the build folder may be closed to others.
    let folder = TempDir::new().unwrap();
    let open = |path: &PathBuf, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(&folder.path().to_path_buf(), 0o755);
    let (binary, data) = (folder.path().join("roadtrip-api"), folder.path().join("data"));
    std::fs::copy(BINARY, &binary).unwrap();
    open(&binary, 0o755);
    std::fs::create_dir(&data).unwrap();
    open(&data, 0o777);
    let setup = || {
        Setup::new()
            .wrapped(without_locked_memory())
            .binary(&binary)
            .data(&data)
    };

    let mut server = setup().start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let locked = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"))
        .unwrap();
    assert!(locked.split_whitespace().nth(3) == Some("0"), "{locked}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let effective = status.lines().find(|line| line.starts_with("CapEff:")).unwrap();
    assert!(effective.ends_with("0000000000000000"), "{effective}");

    server.tell(r#"{"location":"Quito"}"#).expect(200);
    let driver = worker_status(&server)["io_driver"].as_str().unwrap().to_owned();
    server.get("/health/v2/ready").expect(200);
    let demanded = setup().driver("uring");
    if driver == "uring" {
        // A kernel that does not count rings against the limit: nothing is degraded, and the demand is met.
        assert!(worker_status(&server)["io_driver_fallback"].is_null());
        server.stop();
        demanded.start().tell(r#"{"location":"Quito"}"#).expect(200);
        return;
    }
    if uring_is_here() {
        serves_on_epoll_because_of(&server, "ENOMEM");
        let why = worker_status(&server)["io_driver_fallback"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(why.contains("RLIMIT_MEMLOCK"), "{why}");
    }
    server.stop();
    let ran = demanded.run(&["serve"]);
    assert!(!ran.status.success(), "{ran:?}");
    for part in ["IO_DRIVER=uring", "errno", "likely cause:", "remedy:"] {
        assert!(ran.err().contains(part), "{part} is missing: {}", ran.err());
    }
}
