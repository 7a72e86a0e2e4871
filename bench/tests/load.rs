//! `load` against the service itself: each protocol, scenarios, accounting, replay, and a stall that must be seen.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Service, free_address, json, load};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

/// `bench/schema/run.schema.json` holds for this.
fn assert_fits_the_schema(report: &Value) {
    common::assert_fits("run.schema.json", report);
}

fn all_went_well(out: &std::process::Output) -> Value {
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout)
            .chars()
            .take(3000)
            .collect::<String>(),
        String::from_utf8_lossy(&out.stderr)
    );
    let report = json(out);
    assert_eq!(report["error_count"].as_u64(), Some(0), "{:?}", report["errors"]);
    assert!(report["requests"].as_u64().unwrap() > 0);
    assert_fits_the_schema(&report);
    report
}

#[test]
fn every_protocol_gets_its_answers_in_both_loops() {
    let service = Service::start(&[]);
    let url = service.url("/health");
    let protocols: [&[&str]; 5] = [
        &[],
        &["--pipeline", "8"],
        &["--short-lived"],
        &["--http2", "--streams", "4"],
        &["--driver", "epoll", "-t", "2"],
    ];
    for protocol in protocols {
        let closed = [&["--url", &url, "-c", "4", "-d", "0.4"], protocol].concat();
        let report = all_went_well(&load(&closed));
        assert_eq!(report["mode"].as_str(), Some("closed"));
        let open = [&["--url", &url, "-c", "4", "-d", "1", "--rate", "200"], protocol].concat();
        let report = all_went_well(&load(&open));
        // Not one more and not one less than were due.
        assert_eq!(report["requests"].as_u64(), Some(200), "{protocol:?}");
        assert_eq!(report["latency_us"]["count"].as_u64(), Some(200));
        let lag = report["generator_lag_us"]["count"].as_u64();
        assert_eq!(lag, Some(200), "{protocol:?}");
    }
}

#[test]
fn tls_is_spoken_and_certificates_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let made = rcgen::generate_simple_self_signed(vec![address.ip().to_string()]).unwrap();
    let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let service = Service::start_at(address, &[("TLS_CERT", cert), ("TLS_KEY", key)]);
    let url = format!("https://{}/health", service.address);
    let ask = |more: &[&str]| load(&[&["--url", &url, "-c", "2", "-d", "0.5", "--rate", "100"], more].concat());
    for more in [
        &["--cacert", cert][..],
        &["--insecure", "--http2", "--streams", "2"],
        &["--insecure", "--short-lived"],
        &["--insecure", "--pipeline", "4"],
    ] {
        let report = all_went_well(&ask(more));
        assert_eq!(report["requests"].as_u64(), Some(50), "{more:?}");
        assert_eq!(report["target"]["tls"].as_bool(), Some(true));
    }
    let out = ask(&[]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("certificate"), "{out:?}");
}

#[test]
fn events_are_counted_and_the_first_is_timed() {
    let service = Service::start(&[]);
    let url = service.url("/api/v1/stories/generate");
    let body = r#"{"location":"Paris","style":"history"}"#;
    for protocol in [&[][..], &["--http2"]] {
        let asked = [
            &[
                "--url", &url, "--method", "POST", "--body", body, "--sse", "-c", "2", "-d", "0.5",
            ],
            protocol,
        ]
        .concat();
        let report = all_went_well(&load(&asked));
        let class = &report["classes"][0];
        // A story is many tokens.
        assert!(
            class["events"].as_u64().unwrap() > 3 * class["requests"].as_u64().unwrap(),
            "{class:?}"
        );
        let (first, whole) = (&class["first_event_us"], &class["latency_us"]);
        assert_eq!(first["count"].as_u64(), whole["count"].as_u64());
        assert!(first["p50"].as_f64().unwrap() <= whole["p50"].as_f64().unwrap());
    }
    // A plain answer is no stream.
    let health = service.url("/health");
    let out = load(&["--url", &health, "--sse", "-c", "1", "-d", "0.2"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(json(&out)["errors"]["framing"].as_u64().unwrap() > 0);
}

#[test]
fn a_scenario_is_asked_by_its_weights_and_its_users_think() {
    let service = Service::start(&[]);
    let url = service.url("");
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/guide.toml");
    // By rate: ten stories for each look at the health.
    let asked = [
        "--url",
        &url,
        "--scenario",
        guide,
        "--rate",
        "550",
        "-d",
        "2",
        "--warmup",
        "0",
        "--spawn-rate",
        "1000",
        "-c",
        "16",
    ];
    let report = all_went_well(&load(&asked));
    assert_eq!(report["requests"].as_u64(), Some(1100));
    let by_name = |name: &str| {
        let classes = report["classes"].as_array().unwrap();
        let class = classes.iter().find(|c| c["name"].as_str() == Some(name)).unwrap();
        class["requests"].as_u64().unwrap()
    };
    let (status, story) = (by_name("status"), by_name("story"));
    assert_eq!(status + story, 1100);
    // 100 are expected; five standard deviations are 48.
    assert!((52..=148).contains(&status), "{status} looks at the health");
    // By users: each asks, and then thinks for a second at least, so that none asks again.
    let asked = [
        "--url",
        &url,
        "--scenario",
        guide,
        "-c",
        "20",
        "--spawn-rate",
        "100",
        "--warmup",
        "0",
        "-d",
        "0.9",
    ];
    let report = all_went_well(&load(&asked));
    assert_eq!(report["requests"].as_u64(), Some(20));
    for other in ["zipf", "cached-story", "probes", "stream"] {
        let path = format!("{}/scenarios/{other}.toml", env!("CARGO_MANIFEST_DIR"));
        let report = all_went_well(&load(&["--url", &url, "--scenario", &path, "-c", "4", "-d", "0.5"]));
        assert_eq!(report["scenario"]["name"].as_str(), Some(other));
    }
}

#[test]
fn a_stopped_server_shows_in_the_tail_of_what_was_due_meanwhile() {
    let service = Service::start(&[]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(service.pid()).unwrap()).unwrap();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    });
    let url = service.url("/health");
    // Two connections only: a generator that waits for answers would have two slow ones.
    let report = all_went_well(&load(&["--url", &url, "-c", "2", "-d", "5", "--rate", "300"]));
    stopper.join().unwrap();
    assert_eq!(report["requests"].as_u64(), Some(1500));
    // 90 of 1500 were due within the stall: one in a hundred waited longer than five sixths of it.
    let p99 = report["latency_us"]["p99"].as_f64().unwrap();
    assert!(p99 > 200_000.0, "{:?}", report["latency_us"]);
    // A third of them waited longer than two thirds of it.
    let curve = report["spectrum"].as_array().unwrap();
    let slow = curve.iter().find(|p| p["us"].as_f64().unwrap() > 200_000.0).unwrap();
    assert!(1500 - slow["count"].as_u64().unwrap() > 10, "{slow:?}");
    // And the series says when.
    let intervals = report["intervals"].as_array().unwrap();
    assert_eq!(intervals.len(), 5);
    let worst = |i: &Value| i["latency_us"]["max"].as_f64().unwrap();
    assert!(intervals.iter().any(|i| worst(i) > 200_000.0), "{intervals:?}");
}

#[test]
fn the_server_is_accounted_for() {
    let service = Service::start(&[]);
    let url = service.url("/health");
    let pid = service.pid().to_string();
    let asked = |pid: &str| {
        load(&[
            "--url",
            &url,
            "-c",
            "120",
            "-d",
            "1",
            "--warmup",
            "0.2",
            "--server-pid",
            pid,
        ])
    };
    let report = all_went_well(&asked(&pid));
    let server = &report["server"];
    let of = |name: &str| server[name].as_f64().unwrap();
    assert!(of("cpu_us_per_request") > 0.5, "{server:?}");
    let parts = of("user_us_per_request") + of("system_us_per_request");
    assert!((parts - of("cpu_us_per_request")).abs() < 1e-6);
    assert!(of("voluntary_switches_per_request") > 0.0, "{server:?}");
    // It may be nothing: what was freed since the boot serves for connections, too. How many
    // bytes a connection takes is for `idle` to say, with enough of them.
    let rss = |when: &str| server["memory"][when]["rss"].as_f64().unwrap();
    assert!(rss("before") > 1e6 && rss("connected") > 1e6, "{server:?}");
    let grown = (rss("connected") - rss("before")) / 120.0;
    assert!((of("bytes_per_connection") - grown).abs() < 1e-6, "{server:?}");
    // Two workers, and between them every request; the scrapes are requests, too.
    let workers = server["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2, "{workers:?}");
    let counted: u64 = workers.iter().map(|w| w["requests"].as_u64().unwrap()).sum();
    let asked_for = report["requests_with_warmup"].as_u64().unwrap();
    assert!(
        (asked_for..=asked_for + 3).contains(&counted),
        "{counted} of {asked_for}"
    );
    assert!(of("worker_imbalance") >= 1.0);
    // The same process, found by its port.
    assert_eq!(
        json(&asked("auto"))["server"]["pid"].as_u64(),
        Some(u64::from(service.pid()))
    );
    assert_eq!(asked("4294967290").status.code(), Some(2));
}

#[test]
fn system_calls_are_counted_where_that_is_allowed() {
    let service = Service::start(&[("IO_DRIVER", "epoll")]);
    let url = service.url("/health");
    let pid = service.pid().to_string();
    let out = load(&[
        "--url",
        &url,
        "-c",
        "4",
        "-d",
        "0.5",
        "--rate",
        "200",
        "--server-pid",
        &pid,
        "--syscalls",
        "strace",
    ]);
    if out.status.code() == Some(2) && String::from_utf8_lossy(&out.stderr).contains("cannot count system calls") {
        eprintln!("this machine forbids tracing: {}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let report = all_went_well(&out);
    let syscalls = &report["server"]["syscalls"];
    // By epoll an answer takes a receive and a send at least.
    assert!(syscalls["per_request"].as_f64().unwrap() > 1.5, "{syscalls:?}");
}

#[test]
fn the_servers_own_log_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..100)
        .map(|n| {
            let (path, status) = if n % 4 == 3 { ("/nothing/here", 404) } else { ("/health", 200) };
            format!(
                "{{\"timestamp\":\"2026-01-01T00:00:0{}.{:03}Z\",\"level\":\"INFO\",\"message\":\"request\",\"method\":\"GET\",\
                 \"path\":\"{path}\",\"status\":{status},\"duration_us\":50,\"bytes\":1}}\n",
                n / 50,
                n % 50 * 20
            )
        })
        .collect();
    let log = folder.path().join("access.log");
    std::fs::write(&log, lines).unwrap();
    let log = log.to_str().unwrap();
    let service = Service::start(&[]);
    let url = service.url("");
    // Two seconds of log in one; what was 404 then may be 404 now.
    let report = all_went_well(&load(&[
        "--url",
        &url,
        "--replay",
        log,
        "--replay-speed",
        "2",
        "-c",
        "4",
        "-t",
        "2",
    ]));
    assert_eq!(report["statuses"]["200"].as_u64(), Some(75));
    assert_eq!(report["statuses"]["404"].as_u64(), Some(25));
    let seconds = report["seconds"].as_f64().unwrap();
    assert!((0.9..2.0).contains(&seconds), "{seconds}");
    // At a rate of one's own, and as fast as it goes.
    let report = all_went_well(&load(&[
        "--url", &url, "--replay", log, "--rate", "400", "-c", "4", "-d", "5",
    ]));
    assert_eq!(report["requests"].as_u64(), Some(100));
    let report = all_went_well(&load(&[
        "--url",
        &url,
        "--replay",
        log,
        "--replay-closed",
        "-c",
        "4",
        "-d",
        "20",
    ]));
    assert_eq!(report["requests"].as_u64(), Some(100));
    // A status that differs from the log's is an error.
    let text = std::fs::read_to_string(log).unwrap().replace("404", "410");
    std::fs::write(log, text).unwrap();
    let out = load(&["--url", &url, "--replay", log, "--replay-closed", "-c", "4"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(json(&out)["errors"]["status"].as_u64(), Some(25));
}
