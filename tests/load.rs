//! Load by programs that are not ours: not one error is allowed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::tools::{run, run_command};
use common::{PATIENCE, Setup, on_each_driver};
use sonic_rs::JsonValueTrait;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const SCRIPT: &str = r#"
local places = {"San Francisco", "Kyoto", "Lisbon", "Nairobi", "Quito", "Oslo", "Hobart", "Fez"}
local styles = {"adventure", "history", "mystery", "family"}
local n = 0
request = function()
  n = n + 1
  local body = string.format('{"location":"%s","style":"%s","variation":%d}',
    places[n % #places + 1], styles[n % #styles + 1], math.floor(n / 64) % 40)
  return wrk.format("POST", "/api/v1/stories/generate", {["Content-Type"] = "application/json"}, body)
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("requests=%d connect=%d read=%d write=%d status=%d timeout=%d\n",
    summary.requests, e.connect, e.read, e.write, e.status, e.timeout))
end
"#;

#[test]
fn wrk_on_the_story_route_sees_no_error() {
    let folder = TempDir::new().unwrap();
    let script = folder.path().join("stories.lua");
    std::fs::write(&script, SCRIPT).unwrap();
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("WORKERS", "2").start();
        let mut wrk = Command::new("wrk");
        // A time limit far above what a slow machine takes: a late answer is not what is looked for here.
        wrk.args(["-t2", "-c64", "-d3s", "--timeout", "30s", "-s"]);
        wrk.arg(&script).arg(server.url("")).stdin(Stdio::null());
        let said = run_command(wrk, PATIENCE).expect(0).out();
        let line = said.lines().find(|line| line.starts_with("requests=")).unwrap();
        assert!(line.ends_with(" connect=0 read=0 write=0 status=0 timeout=0"), "{said}");
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
        let requests: u64 = line["requests=".len()..].split(' ').next().unwrap().parse().unwrap();
        assert!(requests > 100, "{said}");
        eprintln!("{driver}: {line}");
        // Every worker has had its part, and nothing was booked as an error.
        let text = server.get("/metrics").text();
        let metrics = common::exposition::Exposition::parse(&text);
        let told = metrics.sum("http_requests_total", &[("method", "POST"), ("status", "200")]);
        assert!(told >= requests as f64, "{told} booked, {requests} seen by wrk");
        assert_eq!(metrics.sum("http_requests_total", &[("method", "POST")]), told);
        assert_eq!(metrics.values("http_requests_total", "worker_id").len(), 2);
        server.stop();
    });
}

#[test]
fn the_loop_of_the_guide_prints_who_answered() {
    // The guide pipes into jq; the field is read here, so that jq need not be installed.
    let server = Setup::new().env("WORKERS", "2").start();
    let url = server.url("/health/v2/worker");
    let program = format!("for i in $(seq 100); do curl -s --max-time 50 {url}; echo; done");
    let said = run("sh", &["-c", &program]).expect(0).out();
    let mut workers = std::collections::BTreeMap::new();
    for line in said.lines() {
        let answer: sonic_rs::Value = sonic_rs::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        *workers
            .entry(answer["worker_id"].as_str().unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(workers.values().sum::<i32>(), 100);
    assert_eq!(workers.len(), 2, "{workers:?}");
}

#[test]
fn a_thousand_connections_are_served_and_let_go() {
    common::raise_open_files();
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let mut streams: Vec<_> = (0..1000).map(|_| server.connect()).collect();
        for round in 0..3 {
            for stream in &mut streams {
                stream.send(format!(
                    "GET /health HTTP/1.1\r\nHost: t\r\nX-Request-ID: r{round}\r\n\r\n"
                ));
            }
            for stream in &mut streams {
                let answer = stream.read().expect(200);
                assert_eq!(answer.field("x-request-id"), Some(format!("r{round}").as_str()));
            }
        }
        drop(streams);
        common::until("the connections to be gone", || {
            let text = server.get("/metrics").text();
            common::exposition::Exposition::parse(&text).sum("http_connections_open", &[]) <= 1.0
        });
    });
}

#[test]
fn a_low_soft_limit_of_open_files_is_raised() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .wrapped(["prlimit", "--nofile=64:1000", "--"])
            .start();
        let mut streams: Vec<_> = (0..300).map(|_| server.connect()).collect();
        for stream in &mut streams {
            stream.get("/health").expect(200);
        }
    });
}

#[test]
fn connections_above_the_limit_wait_their_turn() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("CONNECTIONS_MAX", "4")
            .env("CONNECTIONS_PER_ADDRESS", "0")
            .start();
        let mut held: Vec<_> = (0..4).map(|_| server.connect()).collect();
        for stream in &mut held {
            stream.get("/health").expect(200);
        }
        let mut next = server.connect();
        next.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
        next.expect_silence(std::time::Duration::from_millis(500));
        // The others wait in the kernel's queue and cost no descriptor, but for those that came in one go with `next`.
        let open = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        let before = open();
        let crowd: Vec<_> = (0..100).map(|_| server.connect()).collect();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(open() <= before + 1, "{} were taken above the limit", open() - before);
        drop(crowd);
        held.pop();
        next.read().expect(200);
        for stream in &mut held {
            stream.get("/health").expect(200);
        }
    });
}
