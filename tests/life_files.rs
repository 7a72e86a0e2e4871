//! Files that a running process follows (ENV_FILE, LOG_FILE, PIDFILE), sockets that it is given, and workers that break down.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::load::{Kind, Load};
use common::{BINARY, PATIENCE, Server, Setup, on_each_driver, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::fs;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn metric(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    Exposition::parse(&server.get("/metrics").text()).sum(name, labels)
}

fn said(server: &Server, what: &str) -> usize {
    server.all_said().matches(what).count()
}

#[test]
fn what_the_env_file_says_takes_effect_at_hup() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("env");
    fs::write(&file, "LOG_LEVEL=info\nREQUESTS_PER_CONNECTION=1000\n").unwrap();
    let mut server = Setup::new()
        .env("ENV_FILE", file.to_str().unwrap())
        .env("WORKERS", "2")
        // The file wins.
        .env("REQUESTS_PER_CONNECTION", "1")
        .start();
    assert!(!server.get("/health").expect(200).closes());
    let reload = |text: &str, done: &str| {
        fs::write(&file, text).unwrap();
        let before = said(&server, done);
        server.signal(Signal::HUP);
        until(done, || said(&server, done) > before);
    };
    reload(
        "LOG_LEVEL=debug\nACCESS_LOG=all\nREQUESTS_PER_CONNECTION=1\nPORT=1\nADMIN_TOKEN=secret-of-good-length\n",
        "the round is over",
    );
    assert!(server.get("/health").expect(200).closes());
    until("the access log", || said(&server, "\"target\":\"access\"") > 0);
    let line = server.log.find(|line| line["changed"].as_str().is_some()).unwrap();
    assert_eq!(
        line["changed"].as_str(),
        Some("REQUESTS_PER_CONNECTION=1 LOG_LEVEL=debug ACCESS_LOG=all")
    );
    let line = server.log.find(|line| line["variables"].as_str().is_some()).unwrap();
    assert_eq!(line["variables"].as_str(), Some("PORT,ADMIN_TOKEN"));
    assert!(!server.all_said().contains("secret-of"));
    // A faulty file changes nothing, and says what is wrong with it.
    let lives = said(&server, "was replaced");
    reload("KEEP_ALIVE=soon\nREQUESTS_PER_CONNECTION=1000\n", "KEEP_ALIVE is");
    reload("KEEP_ALIVE\n", "line 1 is not NAME=value");
    assert!(server.get("/health").expect(200).closes());
    assert_eq!(said(&server, "was replaced"), lives);
    // Levels go up again, too.
    reload(
        "LOG_LEVEL=error\nREQUESTS_PER_CONNECTION=7\nKEEP_ALIVE=never\n",
        "KEEP_ALIVE is",
    );
    fs::write(&file, "LOG_LEVEL=error\nREQUESTS_PER_CONNECTION=7\n").unwrap();
    server.signal(Signal::HUP);
    until("a new life", || !server.get("/health").expect(200).closes());
    let lines = server.log.lines().len();
    server.signal(Signal::USR1);
    server.signal(Signal::HUP);
    until("the round", || metric(&server, "worker_restarts_total", &[]) >= 6.0);
    assert_eq!(server.log.lines().len(), lines, "{}", server.all_said());
    server.stop();
}

#[test]
fn a_rotated_log_goes_on_in_a_new_file() {
    let folder = TempDir::new().unwrap();
    let (log, old) = (folder.path().join("api.log"), folder.path().join("api.log.1"));
    let port = free_port().to_string();
    // Nothing comes to stdout, which the usual start waits for.
    let setup = Setup::new().env("PORT", &port).env("LOG_FILE", log.to_str().unwrap());
    let data = TempDir::new().unwrap();
    let mut child = Killed(setup.command(&[], Some(data.path())).spawn().unwrap());
    let text = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default();
    until("ready", || text(&log).contains("\"ready\""));
    fs::rename(&log, &old).unwrap();
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, Signal::USR1).unwrap();
    until("the new file", || text(&log).contains("opened again"));
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(child.0.wait().unwrap().success());
    assert!(text(&log).contains("\"ended\"") && !text(&old).contains("\"ended\""));
    // One that cannot be written is a fault at start.
    let missing = folder.path().join("missing/api.log");
    let ran = Setup::new()
        .env("LOG_FILE", missing.to_str().unwrap())
        .run(&[])
        .expect(71);
    assert!(ran.err().contains("cannot open the log file"), "{}", ran.err());
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("[::]:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn the_pid_file_is_there_while_it_serves() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("api.pid");
    let mut server = Setup::new().env("PIDFILE", file.to_str().unwrap()).start();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", server.pid()));
    server.stop();
    assert!(!file.exists());
    // It is not worth the service.
    let mut server = Setup::new().env("PIDFILE", "/proc/api.pid").start();
    assert_eq!(said(&server, "PIDFILE cannot be written"), 1);
    server.stop();
}

/// A worker's driver fails for good: the one way to break an executor from outside.
#[test]
fn a_worker_that_breaks_down_starts_again_and_the_others_do_not_notice() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("WORKERS", "2").start();
        let folder = format!("/proc/{}/task", server.pid());
        let tasks = fs::read_dir(&folder).unwrap().map(|task| task.unwrap().file_name());
        let first = tasks
            .filter_map(|task| task.into_string().ok())
            .find(|task| fs::read_to_string(format!("{folder}/{task}/comm")).unwrap().trim() == "worker-0")
            .unwrap();
        // A connection of the other worker.
        let mut other = loop {
            let mut connection = server.connect();
            if connection.get("/health/v2/worker").json()["worker"].as_u64() == Some(1) {
                break connection;
            }
        };
        // And some of its own.
        let mut own = Vec::new();
        while own.len() < 3 {
            let mut connection = server.connect();
            if connection.get("/health/v2/worker").json()["worker"].as_u64() == Some(0) {
                own.push(connection);
            }
        }
        let call = if driver == "uring" {
            "io_uring_enter"
        } else {
            "epoll_pwait,epoll_pwait2,epoll_wait"
        };
        let fault = format!("inject={call}:error=EBADF");
        let words = [
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &fault,
            "-p",
            &first,
        ];
        let mut strace = Killed(std::process::Command::new("strace").args(words).spawn().unwrap());
        until("the worker to break down", || {
            // It may have to be woken up to find out.
            let _ = std::net::TcpStream::connect_timeout(&server.addr(), PATIENCE);
            said(&server, "the worker broke down") == 1
        });
        let _ = strace.0.kill();
        // They end with it: nobody would answer on them any more.
        assert!(own.iter_mut().all(common::http::Connection::is_closed));
        // The next life: those who wait in its queue are served, too.
        let begun = Instant::now();
        for _ in 0..32 {
            server.get("/health").expect(200);
        }
        assert!(begun.elapsed() < PATIENCE);
        other.get("/health").expect(200);
        assert_eq!(metric(&server, "worker_restarts_total", &[("reason", "panic")]), 1.0);
        let health = [("component", "worker")];
        until("both to be healthy", || {
            metric(&server, "worker_health_status", &health) == 2.0
        });
        let load = Load::start(server.addr(), &Kind::MIX);
        server.signal(Signal::HUP);
        load.go_on_for(300);
        load.stop().expect_none_failed(&format!("after a breakdown, {driver}"));
        server.stop();
    });
}

/// systemd's socket activation, by hand: the socket is descriptor 3, and LISTEN_PID the server's own.
#[test]
fn a_socket_of_systemd_is_served_and_handed_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = rustix::io::fcntl_dupfd_cloexec(&listener, 100).unwrap();
    rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&kept);
    let script = format!("exec 3<&{number} {number}<&-; export LISTEN_PID=$$ LISTEN_FDS=1; exec {BINARY}");
    let server = Setup::new()
        .env("BIND", &format!("127.0.0.1:{port}"))
        .env("WORKERS", "2")
        .wrapped(["bash", "-c", &script])
        .start();
    drop(kept);
    let load = Load::start(server.addr(), &Kind::MIX);
    server.signal(Signal::HUP);
    until("a round", || said(&server, "the round is over") == 1);
    server.signal(Signal::TTOU);
    load.go_on_for(200);
    std::thread::sleep(Duration::from_millis(1500));
    load.go_on_for(200);
    load.stop().expect_none_failed("a socket of systemd, HUP, TTOU");
    // The process before has it still: had the server opened one of its own, this port would have been taken.
    drop(listener);
    server.get("/health").expect(200);
}
