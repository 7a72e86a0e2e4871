//! The subcommands run as a user runs them, against servers on loopback.
//!
//! Tests that need io_uring skip themselves, with a line that says so, where the kernel refuses a ring.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

const BIN: &str = env!("CARGO_BIN_EXE_roadtrip-bench");

fn bench(args: &[&str]) -> Output {
    Command::new(BIN).args(args).output().unwrap()
}

/// `load` on a machine that is busy with other tests.
fn load(args: &[&str]) -> Output {
    bench(&[&["load", "--quiet", "--accept-generator-limits"], args].concat())
}

fn json(output: &Output) -> Value {
    sonic_rs::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// The floor server on a free port; ended when dropped.
struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    fn start(args: &[&str]) -> Option<Self> {
        let mut child = Command::new(BIN)
            .args(["floor", "--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        if let Some(address) = line.strip_prefix("listening on ") {
            return Some(Self {
                address: address.trim().parse().unwrap(),
                child,
            });
        }
        let mut why = String::new();
        child.stderr.as_mut().unwrap().read_to_string(&mut why).unwrap();
        child.wait().unwrap();
        assert!(
            why.contains("set up an io_uring"),
            "the floor failed, and not for want of io_uring: {why}"
        );
        eprintln!("SKIPPED: {why}");
        None
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that answers each request head with what `answer` gives for its number; `None` closes the connection.
/// Reads until the empty line only: for requests without a body.
fn server(bind: &str, answer: impl Fn(u64) -> Option<Vec<u8>> + Send + Sync + 'static) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind(bind).unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let served = Arc::new(AtomicU64::new(0));
    let (count, answer) = (served.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count, answer) = (stream.unwrap(), count.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut chunk = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut chunk) {
                    seen.extend_from_slice(&chunk[..n]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        match answer(count.fetch_add(1, Ordering::SeqCst)) {
                            Some(bytes) if stream.write_all(&bytes).is_ok() => {}
                            _ => return,
                        }
                    }
                }
            });
        }
    });
    (url, served)
}

fn ok() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()
}

#[test]
fn load_counts_what_the_server_served() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let (url, served) = server(bind, |_| Some(ok()));
        let out = load(&["--url", &url, "-c", "4", "-t", "2", "-d", "0.5", "--json"]);
        assert!(out.status.success(), "{out:?}");
        let report = json(&out);
        let requests = report["requests"].as_u64().unwrap();
        assert!(requests > 10);
        assert_eq!(requests, served.load(Ordering::SeqCst));
        assert_eq!(report["statuses"]["200"].as_u64(), Some(requests));
        assert_eq!(report["error_count"].as_u64(), Some(0));
        assert_eq!(report["latency_us"]["count"].as_u64(), Some(requests));
        assert_eq!(report["threads"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn open_loop_sends_exactly_what_is_due() {
    let (url, served) = server("127.0.0.1:0", |_| Some(ok()));
    let out = load(&[
        "--url", &url, "-c", "8", "-t", "2", "-d", "2", "--rate", "300", "--json",
    ]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(json(&out)["requests"].as_u64(), Some(600));
    assert_eq!(served.load(Ordering::SeqCst), 600);
}

#[test]
fn a_stall_of_the_server_is_seen_by_every_request_that_was_due_meanwhile() {
    // One answer in the middle takes 400 ms, on the only connection, at 100 requests/s: a generator that waits
    // politely would see one slow request; some 40 were due within the stall and all of them waited.
    let (url, _) = server("127.0.0.1:0", |n| {
        if n == 50 {
            std::thread::sleep(Duration::from_millis(400));
        }
        Some(ok())
    });
    let out = load(&["--url", &url, "-c", "1", "-d", "2", "--rate", "100", "--json"]);
    assert!(out.status.success(), "{out:?}");
    let report = json(&out);
    assert_eq!(report["requests"].as_u64(), Some(200));
    assert!(report["latency_us"]["p90"].as_f64().unwrap() > 100_000.0, "{report:?}");
    assert!(report["latency_us"]["p50"].as_f64().unwrap() < 100_000.0, "{report:?}");
}

#[test]
fn bad_answers_fail_the_run_and_are_named() {
    let kind = |answer: fn(u64) -> Option<Vec<u8>>, kind: &str| {
        let (url, _) = server("127.0.0.1:0", answer);
        let out = load(&["--url", &url, "-c", "2", "-d", "0.4", "--timeout", "0.15", "--json"]);
        assert_eq!(out.status.code(), Some(1), "{kind}: {out:?}");
        let report = json(&out);
        assert!(report["errors"][kind].as_u64().unwrap() > 0, "{kind}: {report:?}");
        assert!(report["errors"]["first"].is_str());
    };
    kind(
        |_| Some(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "status",
    );
    kind(
        |_| Some(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlong".to_vec()),
        "framing",
    );
    kind(|_| Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), "framing");
    kind(
        |_| Some(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_vec()),
        "timeouts",
    );
    kind(|n| (n < 20).then(ok), "io");
}

#[test]
fn an_answer_from_another_tier_fails_the_run() {
    let (url, _) = server("127.0.0.1:0", |n| {
        let tier = if n % 2 == 0 { "detail=redis" } else { "detail=store" };
        Some(format!("HTTP/1.1 200 OK\r\nCache-Status: a; fwd=miss; {tier}\r\nContent-Length: 0\r\n\r\n").into_bytes())
    });
    let ask = |expected: &[&str]| load(&[&["--url", &url, "-c", "1", "-d", "0.3", "--json"], expected].concat());
    let out = ask(&["--cache-status", "redis"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let report = json(&out);
    let (redis, store) = (&report["cache_statuses"]["redis"], &report["cache_statuses"]["store"]);
    assert!(redis.as_u64().unwrap() > 0, "{report:?}");
    assert_eq!(report["errors"]["cache_status"].as_u64(), store.as_u64());
    assert!(ask(&[]).status.success());
}

#[test]
fn a_server_that_closes_after_answers_is_followed_without_error() {
    let (url, served) = server("127.0.0.1:0", |_| {
        Some(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    let out = load(&["--url", &url, "-c", "2", "-d", "0.4", "--json"]);
    assert!(out.status.success(), "{out:?}");
    let report = json(&out);
    assert_eq!(report["requests"].as_u64(), Some(served.load(Ordering::SeqCst)));
    assert!(report["reconnects"].as_u64().unwrap() > 0);
}

#[test]
fn nobody_listening_is_no_measurement() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out = load(&["--url", &format!("http://{free}/"), "-d", "1"]);
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("is the server up"));
}

#[test]
fn the_floor_answers_the_bytes_asked_for_and_survives_many_connections() {
    let Some(floor) = Floor::start(&["--answer-bytes", "777", "--connections", "256"]) else {
        return;
    };
    let out = load(&["--url", &floor.url(), "-c", "100", "-d", "0.5", "--json"]);
    assert!(out.status.success(), "{out:?}");
    // Slots of closed connections are used again: more connections in all than there are slots.
    for _ in 0..400 {
        let mut stream = std::net::TcpStream::connect(floor.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = vec![0; 777];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(
            stream.read_to_end(&mut answer).unwrap(),
            0,
            "closes on EOF, and says nothing more"
        );
    }
}

#[test]
fn the_floor_imitates_a_server_to_the_byte() {
    let (url, _) = server("127.0.0.1:0", |_| Some(ok()));
    let Some(floor) = Floor::start(&["--answer-like", &url]) else {
        return;
    };
    let mut stream = std::net::TcpStream::connect(floor.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = vec![0; ok().len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, ok());
}

#[test]
fn a_refused_ring_is_told_with_errno_and_remedy() {
    for (errno, name) in [("EPERM", "EPERM"), ("enosys", "ENOSYS")] {
        let out = bench(&["refuse-uring", "--errno", errno, "--", BIN, "floor", "--port", "0"]);
        assert_eq!(out.status.code(), Some(2), "{out:?}");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(text.contains("set up an io_uring") && text.contains(name), "{text}");
    }
    let out = bench(&["refuse-uring", "--", "echo", "other calls pass"]);
    assert!(out.status.success() && out.stdout == b"other calls pass\n", "{out:?}");
    assert_eq!(
        bench(&["refuse-uring", "--", "/no/such/program"]).status.code(),
        Some(2)
    );
}

#[test]
fn cost_of_two_equal_floors() {
    let (Some(a), Some(b)) = (Floor::start(&[]), Floor::start(&[])) else {
        return;
    };
    let (a_pid, b_pid) = (a.child.id().to_string(), b.child.id().to_string());
    let cpu = first_cpu();
    let args = [
        "cost",
        "--a-pid",
        &a_pid,
        "--a-url",
        &a.url(),
        "--b-pid",
        &b_pid,
        "--b-url",
        &b.url(),
        "--pairs",
        "2",
        "-d",
        "1",
        "--warmup",
        "1",
        "--load-cpu",
        &cpu,
        "-c",
        "16",
    ];
    let out = bench(&[&args[..], &["--json"]].concat());
    assert!(out.status.success(), "{out:?}");
    let report = json(&out);
    assert_eq!(report["pairs"].as_array().unwrap().len(), 2);
    assert_eq!(report["errors"].as_u64(), Some(0));
    let ratio = report["medians"]["cpu_ratio"].as_f64().unwrap();
    assert!((0.3..3.0).contains(&ratio), "{ratio}");
    assert!(report["medians"]["a_cpu_us_per_request"].as_f64().unwrap() > 0.5);
    assert!(
        report["cautions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c.as_str().unwrap().contains("too few"))
    );

    let out = bench(&[&args[..], &["--max-ratio", "0.01"]].concat());
    assert_eq!(out.status.code(), Some(1), "{out:?}");
}

/// The first CPU this process may use.
fn first_cpu() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status
        .lines()
        .find_map(|l| l.strip_prefix("Cpus_allowed_list:"))
        .unwrap()
        .trim();
    list.chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn idle_starts_a_server_counts_its_memory_and_ends_it() {
    if Floor::start(&[]).is_none() {
        return;
    }
    // An address of its own: no other test's server may take the port once this one's has ended.
    let address = TcpListener::bind("127.83.17.5:0").unwrap().local_addr().unwrap();
    let command = format!("{BIN} floor --host {} --port {}", address.ip(), address.port());
    let url = format!("http://{address}/");
    let out = bench(&[
        "idle",
        "--url",
        &url,
        "--server-cmd",
        &command,
        "-n",
        "200",
        "--settle",
        "0.1",
        "--json",
    ]);
    assert!(out.status.success(), "{out:?}");
    let report = json(&out);
    assert_eq!(report["connections"].as_u64(), Some(200));
    assert_eq!(report["closed_by_server"].as_u64(), Some(0));
    assert!(report["before"]["rss"].as_u64().unwrap() > 100_000);
    // The floor keeps nothing for a connection; a buffer for each would be thousands.
    assert!(
        report["rss_bytes_per_connection"].as_f64().unwrap() < 3000.0,
        "{report:?}"
    );
    // A ring is torn down by a kernel thread after its process has been reaped, and with it the last
    // reference to the listener: the port may answer for a moment longer.
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "the server is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn idle_notices_connections_that_were_closed() {
    // Answers, then closes half a second later.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(&ok());
                std::thread::sleep(Duration::from_millis(500));
            });
        }
    });
    let pid = std::process::id().to_string();
    let out = bench(&[
        "idle", "--url", &url, "--pid", &pid, "-n", "5", "--settle", "1", "--json",
    ]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert_eq!(json(&out)["closed_by_server"].as_u64(), Some(5));
}

#[test]
fn help_explains_each_command() {
    for command in [
        "floor",
        "load",
        "cost",
        "compare",
        "idle",
        "life",
        "overload",
        "spread",
        "flamegraph",
        "ratchet",
        "report",
        "suite",
        "tiers",
        "refuse-uring",
    ] {
        let out = bench(&[command, "--help"]);
        assert!(out.status.success());
        assert!(String::from_utf8_lossy(&out.stdout).contains("Example"), "{command}");
    }
}

#[test]
fn hiccups_tells_how_late_it_woke_and_fails_where_that_is_too_late() {
    let asked = ["hiccups", "--rate", "1000", "--duration", "0.2", "--json"];
    let ran = bench(&[&asked[..], &["--max-p999-us", "60000000"]].concat());
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let found = json(&ran);
    let one = &found.as_array().unwrap()[0];
    assert_eq!(one["wait_us"]["count"].as_u64(), Some(199), "{one}");
    // Nobody wakes in no time.
    let ran = bench(&[&asked[..], &["--max-p999-us", "0"]].concat());
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    for wrong in [["--max-p999-us", "nan"], ["--cpu", "100000"]] {
        let ran = bench(&[&asked[..], &wrong].concat());
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    }
}

#[test]
fn wakes_has_a_ratio_for_each_message() {
    if Floor::start(&[]).is_none() {
        return;
    }
    let ran = bench(&["wakes", "--count", "20", "--rounds", "2", "--json"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let rows = json(&ran);
    let rows = rows.as_array().unwrap();
    let ways: Vec<_> = rows.iter().map(|row| row["way"].as_str().unwrap()).collect();
    assert_eq!(
        ways,
        ["eventfd", "msg-ring", "eventfd-and-entry", "msg-ring-with-entry"]
    );
    for (row, has_ratio) in rows.iter().zip([false, true, false, true]) {
        assert_eq!(row["ratio"]["giver"]["median"].as_f64() > Some(0.0), has_ratio, "{row}");
    }
}
