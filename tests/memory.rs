//! Memory that runs short, in a control group with a real limit: caches shrink, then new connections are refused, probes
//! are answered all the while, and it ends when it is over. Who fills the group beside the server is a file in memory,
//! which the kernel counts as it counts a process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::http::Connection;
use common::{Server, Setup, until};
use rustix::process::Signal;
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A control group of this test with a limit; gone with its value.
struct Group {
    dir: PathBuf,
    limit: u64,
    /// Files in memory that are counted in it.
    files: Vec<PathBuf>,
}

impl Group {
    /// None, and a word about it, where this process may not make one.
    fn new(limit: u64) -> Option<Group> {
        match Group::try_new(limit) {
            Ok(group) => Some(group),
            Err(error) => {
                // Past the capture of the test harness: a skip must be seen.
                let why = format!("skipped: no control group with a limit of memory can be made here ({error})\n");
                let _ = std::io::stderr().write_all(why.as_bytes());
                None
            }
        }
    }

    fn try_new(limit: u64) -> std::io::Result<Group> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "roadtrip-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let path = |begin: &str| {
            let line = own.lines().find(|line| line.split(':').nth(1) == Some(begin));
            line.and_then(|line| line.splitn(3, ':').nth(2))
                .map(|path| path.trim_start_matches('/').to_owned())
        };
        let (dir, file) = match path("memory") {
            Some(own) => (
                Path::new("/sys/fs/cgroup/memory").join(own).join(name),
                "memory.limit_in_bytes",
            ),
            None => {
                let parent = Path::new("/sys/fs/cgroup").join(path("").unwrap_or_default());
                // Refused where the group holds processes itself.
                let controllers = fs::read_to_string(parent.join("cgroup.subtree_control"))?;
                if !controllers.contains("memory") {
                    fs::write(parent.join("cgroup.subtree_control"), "+memory")?;
                }
                (parent.join(name), "memory.max")
            }
        };
        fs::create_dir(&dir)?;
        let group = Group {
            dir,
            limit,
            files: Vec::new(),
        };
        fs::write(group.dir.join(file), limit.to_string())?;
        Ok(group)
    }

    /// Words before a command that is to run in the group.
    fn enter(&self) -> Vec<String> {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.dir.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    fn setup(&self) -> Setup {
        Setup::new().wrapped(self.enter())
    }

    /// Others take so many bytes.
    fn take(&mut self, bytes: u64) {
        let file = PathBuf::from(format!(
            "/dev/shm/{}-{}",
            self.dir.file_name().unwrap().display(),
            self.files.len()
        ));
        let [sh, c, script, name] = <[String; 4]>::try_from(self.enter()).unwrap();
        let status = Command::new(sh)
            .args([c, script, name])
            .args(["head", "-c", &bytes.to_string(), "/dev/zero"])
            .stdout(fs::File::create(&file).unwrap())
            .status()
            .unwrap();
        self.files.push(file);
        assert!(status.success(), "{status}");
    }

    /// Others take as much as brings use to that share of the limit, thousandths.
    fn fill(&mut self, server: &Server, share: u64) {
        let used = figure(server, "memory_used_bytes") as u64;
        self.take((self.limit / 1000 * share).saturating_sub(used));
    }

    /// Others give back what they have taken.
    fn release(&mut self) {
        for file in self.files.drain(..) {
            fs::remove_file(file).unwrap();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        // The server that was in it has been waited for; the kernel may take a moment longer.
        for _ in 0..100 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn metrics(server: &Server) -> Exposition {
    Exposition::parse(&server.get("/metrics").expect(200).text())
}

fn figure(server: &Server, name: &str) -> f64 {
    metrics(server).sum(name, &[])
}

fn level(server: &Server) -> f64 {
    figure(server, "memory_pressure_level")
}

fn cache(server: &Server, name: &str) -> u64 {
    let status: Value = server.get("/health/v2/status").json();
    status["components"]["worker"]["cache"][name].as_u64().unwrap()
}

fn story(n: usize) -> String {
    format!(r#"{{"location":"Rome","length":"long","variation":{n}}}"#)
}

fn reason(server: &Server) -> (u16, Option<String>) {
    let ready = server.get("/health/v2/ready");
    let reason = ready.json()["checks"]["worker"]["reason"].as_str().map(str::to_owned);
    (ready.status, reason)
}

/// New connections get health and metrics, and nothing else.
fn expect_refusal(server: &Server) {
    assert_eq!(reason(server), (503, Some("memory is short".to_owned())));
    for path in ["/health", "/health/v2/live", "/health/v2/worker", "/metrics"] {
        assert!(server.get(path).expect(200).closes(), "{path}");
    }
    let refused = server.tell(&story(0)).expect(503);
    assert!(
        refused.closes() && refused.field("retry-after") == Some("5"),
        "{refused:?}"
    );
    assert!(refused.json()["detail"].as_str().unwrap().contains("memory is short"));
    server.get("/api/v1/styles").expect(503);
    let status = server.get("/health/v2/status").expect(503).json();
    let system = &status["components"]["system"];
    assert_eq!(
        (status["status"].as_str(), system["status"].as_str()),
        (Some("unhealthy"), Some("unhealthy"))
    );
    assert_eq!(system["memory"]["level"].as_str(), Some("hard"));
}

/// No control group is needed for this: the process alone is more than the least that it may have.
#[test]
fn a_size_that_is_given_by_hand_is_compared_with_the_process() {
    let setup = Setup::new().env("MEMORY_MAX", "16M").env("WORKERS", "1");
    let told = setup.run(&["check"]);
    let limit = "memory: limit 16M (MEMORY_MAX): caches shrink from 12M on, new connections are refused from 14M";
    assert!(told.out().contains(limit), "{}", told.out());
    assert!(told.out().contains("warning: CACHE_BYTES=64M"), "{}", told.out());
    assert!(told.out().contains("it does not fit"), "{}", told.out());
    let server = setup.start();
    expect_refusal(&server);
    assert_eq!(figure(&server, "memory_limit_bytes"), (16 * MIB) as f64);
    assert!(figure(&server, "http_connections_refused_for_memory_total") >= 2.0);

    let server = Setup::new().env("MEMORY_MAX", "off").start();
    server.tell(&story(0)).expect(200);
    assert!(metrics(&server).matching("memory_limit_bytes", &[]).next().is_none());
    assert!(
        server.get("/health/v2/status").json()["components"]["system"]
            .get("memory")
            .is_none()
    );
}

/// Clients that take all descriptors do not end the watch over memory with them.
#[test]
fn without_a_descriptor_memory_is_as_short_as_before() {
    let server = Setup::new().env("MEMORY_MAX", "16M").env("WORKERS", "1").start();
    assert_eq!(level(&server), 2.0);
    let pid = server.pid().to_string();
    let highest = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    // What is open stays so: not even one more can be opened from here on.
    let limit = |soft: usize| {
        let ran = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={soft}:")])
            .status()
            .unwrap();
        assert!(ran.success());
    };
    limit(highest.saturating_sub(4));
    // Nothing says that nothing has changed: it took 1.1 s.
    std::thread::sleep(Duration::from_millis(1500));
    limit(highest + 100);
    let found = metrics(&server);
    let names = [
        "memory_pressure_level",
        "memory_pressure_reached_total",
        "memory_looks_failed_total",
    ];
    // Each level was reached once.
    assert_eq!(names.map(|name| found.sum(name, &[])), [2.0, 2.0, 0.0]);
    let said = server.all_said();
    assert!(!said.contains("memory is less short"), "{said}");
    server.tell(&story(0)).expect(503);
}

/// Idle connections take all places that there are at the hard level, and a probe is answered.
#[test]
fn who_says_nothing_does_not_shut_out_probes() {
    common::raise_open_files();
    common::on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("MEMORY_MAX", "16M")
            .env("WORKERS", "1")
            .start();
        let mut silent: Vec<Connection> = (0..600).map(|_| server.connect()).collect();
        for _ in 0..20 {
            server.get("/health/v2/live").expect(200);
        }
        // The oldest had to make way, and the newest did not. Those are closed after two seconds.
        assert!(silent[0].is_closed());
        let mut newest = silent.pop().unwrap();
        newest.get("/health/v2/live").expect(200);
    });
}

/// What a worker's clients may leave unfinished follows the number of workers.
#[test]
fn budgets_are_divided_anew_when_there_are_other_numbers_of_workers() {
    let server = Setup::new().env("MEMORY_MAX", "256M").env("WORKERS", "1").start();
    let said = |what: &str| server.all_said().matches(what).count();
    server.signal(Signal::TTIN);
    // Of the first; the second begins with it, or hears of it.
    until("half as much", || said("PENDING_BYTES_MAX of a worker is 16M now") >= 1);
    until("two workers", || figure(&server, "worker_health_status") == 2.0);
    server.signal(Signal::TTOU);
    until("as much as before", || {
        said("PENDING_BYTES_MAX of a worker is 32M now") >= 1
    });
}

#[test]
fn caches_shrink_then_new_connections_are_refused_and_it_ends_when_it_is_over() {
    common::on_each_driver(|driver| {
        let Some(mut group) = Group::new(160 * MIB) else { return };
        let server = group.setup().driver(driver).env("WORKERS", "1").start();
        let system: Value = server.get("/health/v2/status").expect(200).json()["components"]["system"].clone();
        let memory = system["memory"].as_object().expect("a limit");
        assert_eq!(memory.get(&"limit_bytes").as_u64(), Some(group.limit), "{memory:?}");
        assert!(
            memory.get(&"limit").as_str().unwrap().contains("roadtrip-test-"),
            "{memory:?}"
        );
        assert_eq!((memory.get(&"level").as_str(), level(&server)), (Some("calm"), 0.0));
        let mut early = server.connect();
        for n in 0..600 {
            early.tell(&story(n)).expect(200);
        }
        let (full, capacity) = (cache(&server, "bytes"), cache(&server, "capacity_bytes"));
        assert!(full > 2 * MIB && capacity == 64 * MIB, "{full} of {capacity}");

        group.fill(&server, 800);
        until("the soft level", || level(&server) == 1.0);
        until("a smaller cache", || cache(&server, "bytes") < full / 10 * 9);
        assert!(cache(&server, "capacity_bytes") < full);
        assert!(figure(&server, "cache_pressure_evictions_total") > 0.0);
        assert_eq!(reason(&server), (200, None));
        assert_eq!(
            server.get("/health/v2/status").expect(200).json()["status"].as_str(),
            Some("degraded")
        );
        server.tell(&story(1)).expect(200);

        group.fill(&server, 920);
        until("the hard level", || level(&server) == 2.0);
        until("the worker's word", || server.tell(&story(1)).status == 503);
        expect_refusal(&server);
        // Who was there before is served, news and all. Idle, it would have been closed after a while.
        if !early.has_ended() {
            early.tell(&story(1000)).expect(200);
        }
        until("the smallest cache", || cache(&server, "bytes") <= MIB);

        group.release();
        until("calm", || level(&server) == 0.0);
        until("a new connection", || server.tell(&story(1001)).status == 200);
        assert_eq!(reason(&server), (200, None));
        let small = cache(&server, "capacity_bytes");
        until("a larger cache", || {
            cache(&server, "capacity_bytes") > small.max(2 * MIB)
        });
        let metrics = metrics(&server);
        for level in ["soft", "hard"] {
            assert_eq!(
                metrics.sum("memory_pressure_reached_total", &[("level", level)]),
                1.0,
                "{level}"
            );
        }
        let said = server.all_said();
        for words in [
            "memory is getting short",
            "memory is short: new",
            "memory is no longer short",
        ] {
            assert_eq!(said.matches(words).count(), 1, "{words}: {said}");
        }
    });
}

/// However large PENDING_BYTES_MAX is, what clients send and do not end stays within a part of the limit.
#[test]
fn bodies_larger_than_the_pod_are_survived() {
    common::raise_open_files();
    let Some(group) = Group::new(128 * MIB) else { return };
    // On a disk: the pages of a store in a tmpfs would be the group's, and for good.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut server = group
        .setup()
        .data(folder.path())
        .env("WORKERS", "1")
        .env("CACHE_BYTES", "1G")
        .env("PENDING_BYTES_MAX", "1G")
        .start();
    // 180 MB of bodies that do not come to an end.
    let head = "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n";
    let body = "x".repeat(0xf000 - 1);
    let begun = format!("{head}Transfer-Encoding: chunked\r\n\r\nf000\r\n{body}");
    let mut held: Vec<Connection> = Vec::new();
    for _ in 0..3000 {
        let mut stream = server.connect();
        // Refused while it sends: the rest of what it has goes nowhere.
        let _ = stream.stream.write_all(begun.as_bytes());
        held.push(stream);
    }
    assert_eq!(server.try_wait(), None, "killed by bodies");
    server.get("/health/v2/live").expect(200);
    drop(held);
    until("calm after the bodies", || level(&server) == 0.0);
    server.tell(&story(1)).expect(200);
    server.stop();
}
