//! `spread` with the service as it is, and with a server that is another.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

const BIN: &str = env!("CARGO_BIN_EXE_roadtrip-bench");

/// The service, which a build of the workspace has put beside this package's program.
fn service() -> PathBuf {
    let path = PathBuf::from(BIN).with_file_name("roadtrip-api");
    if !path.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "-p", "roadtrip-api", "--bin", "roadtrip-api"])
            .status();
        assert!(built.unwrap().success());
    }
    path
}

fn spread(server: &str, more: &[&str]) -> Output {
    let small = [
        "--workers",
        "2",
        "-n",
        "1",
        "--load-ms",
        "100",
        "--churn-ms",
        "200",
        "--json",
    ];
    Command::new(BIN)
        .args(["spread", "--server-cmd", server])
        .args(small)
        .args(more)
        .output()
        .unwrap()
}

fn sum(numbers: &Value) -> u64 {
    let numbers = numbers.as_array().unwrap();
    numbers.iter().map(|number| number.as_u64().unwrap()).sum()
}

#[test]
fn every_connection_is_found_at_a_worker_whichever_way() {
    let server = service();
    let out = spread(server.to_str().unwrap(), &["--ways", "off,on", "-c", "4,20"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = sonic_rs::from_slice(&out.stdout).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (run, way) in runs.iter().zip(["off", "on"]) {
        assert_eq!(run["way"].as_str(), Some(way));
        for (crowd, count) in run["crowds"].as_array().unwrap().iter().zip([4, 20]) {
            assert_eq!(sum(&crowd["connections"]), count, "{run}");
            assert!(sum(&crowd["requests"]) >= count, "{run}");
        }
        assert_eq!(sum(&run["one_by_one"]), 100);
        assert!(run["churn_cpu_us"].as_f64().unwrap() > 0.0, "{run}");
        assert_eq!(run["churn_handed"].as_f64() == Some(0.0), way == "off", "{run}");
    }
}

#[test]
fn a_spread_that_is_too_uneven_fails_the_run() {
    let server = service();
    // Three connections on two workers differ by one at least.
    let args = ["--ways", "on", "-c", "3", "--max-difference", "0"];
    let out = spread(server.to_str().unwrap(), &args);
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
}

/// A server that answers each GET with nothing.
const NAMELESS: &str = r#"
import http.server, os
class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answers).serve_forever()
"#;

#[test]
fn a_server_that_names_no_workers_is_not_measured() {
    let out = spread(&format!("python3 -c '{NAMELESS}'"), &["--ways", "off", "-c", "2"]);
    let why = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{why}");
    assert!(why.contains("X-Worker-ID"), "{why}");
}
