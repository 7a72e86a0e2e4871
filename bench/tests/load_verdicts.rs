//! `load` on what it finds: exit codes, searches, skips, the generator's own limits, and the files it leaves.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{BIN, json, load, ok, server};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use sonic_rs::{JsonContainerTrait, JsonValueTrait};

#[test]
fn conditions_decide_the_exit_code() {
    // Every tenth answer is a 503, and none comes before 5 ms.
    let (url, _) = server(|n, _| {
        std::thread::sleep(Duration::from_millis(5));
        Some(match n % 10 {
            9 => b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => ok(),
        })
    });
    let code = |conditions: &[&str]| {
        let mut args = vec!["--url", &url, "-c", "2", "-d", "1", "--rate", "100"];
        conditions.iter().for_each(|c| args.extend(["--fail-if", c]));
        let out = load(&args);
        let report = json(&out);
        assert_eq!(
            report["verdict"]["exit_code"].as_i64(),
            out.status.code().map(i64::from)
        );
        assert_eq!(report["thresholds"].as_array().unwrap().len(), conditions.len());
        out.status.code()
    };
    assert_eq!(code(&[]), Some(1), "errors alone fail");
    assert_eq!(code(&["errors>50%"]), Some(0), "unless somebody says how many may be");
    assert_eq!(code(&["errors>5%"]), Some(3));
    assert_eq!(code(&["errors>50%", "p50>1ms"]), Some(3));
    assert_eq!(code(&["errors>50%", "p99>60s", "rps<10"]), Some(0));
    assert_eq!(code(&["p99>60s"]), Some(1), "a condition on time forgives no errors");
    for bad in [&["--fail-if", "p99"][..], &["--fail-if", "nobody.p99>1ms", "-d", "0.1"]] {
        let out = load(&[&["--url", &url], bad].concat());
        assert_eq!(out.status.code(), Some(2), "{out:?}");
    }
}

#[test]
fn a_search_finds_where_a_server_gives_up() {
    // Refuses what comes beyond 400 a second, by a bucket of 40.
    let bucket = Mutex::new((40.0_f64, Instant::now()));
    let (url, _) = server(move |_, _| {
        let mut bucket = bucket.lock().unwrap();
        let now = Instant::now();
        let filled = (bucket.0 + (now - bucket.1).as_secs_f64() * 400.0).min(40.0);
        *bucket = ((filled - 1.0).max(0.0), now);
        Some(if filled >= 1.0 {
            ok()
        } else {
            b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n".to_vec()
        })
    });
    let out = load(&[
        "--url",
        &url,
        "-c",
        "4",
        "-d",
        "0.6",
        "--search",
        "errors>1%",
        "--search-from",
        "100",
        "--search-max",
        "5000",
        "--search-within",
        "0.1",
        "--search-rest",
        "0.1",
    ]);
    let report = json(&out);
    let search = &report["search"];
    let found = search["found_rate"].as_f64().unwrap();
    // The bucket lets 40 more through in each trial.
    assert!((250.0..=490.0).contains(&found), "{search:?}");
    assert!(search["upper_bound"].as_f64().unwrap() > 400.0);
    let trials = search["trials"].as_array().unwrap();
    assert_eq!(trials.last().unwrap()["phase"].as_str(), Some("confirm"));
    assert_eq!(out.status.code(), Some(0), "{search:?}");
    // The report is that of the confirming repeat.
    assert_eq!(report["rate"].as_f64(), trials.last().unwrap()["rate"].as_f64());
    let out = load(&[
        "--url",
        &url,
        "-c",
        "2",
        "-d",
        "0.3",
        "--search",
        "rps>1",
        "--search-from",
        "50",
    ]);
    assert_eq!(out.status.code(), Some(3), "nothing keeps that");
}

#[test]
fn what_is_due_beyond_the_bound_is_skipped_and_counted() {
    // One answer takes half a second, on the only connection; 20 requests may wait.
    let (url, served) = server(|n, _| {
        if n == 10 {
            std::thread::sleep(Duration::from_millis(500));
        }
        Some(ok())
    });
    let out = load(&[
        "--url",
        &url,
        "-c",
        "1",
        "-d",
        "1",
        "--rate",
        "200",
        "--in-flight-max",
        "20",
    ]);
    assert_eq!(out.status.code(), Some(1));
    let report = json(&out);
    let skipped = report["errors"]["skipped"].as_u64().unwrap();
    // 100 were due within the half second.
    assert!((50..=180).contains(&skipped), "{skipped}");
    assert_eq!(report["requests"].as_u64().unwrap() + skipped, 200);
    assert_eq!(served.load(std::sync::atomic::Ordering::SeqCst) + skipped, 200);
    assert_eq!(report["error_count"].as_u64(), Some(skipped));
    assert!(report["intervals"][0]["errors"].as_u64().unwrap() > 0);
}

#[test]
fn a_generator_that_missed_its_schedule_refuses_its_own_figures() {
    let (url, _) = server(|_, _| Some(ok()));
    let run = |more: &[&str]| {
        let child = Command::new(BIN)
            .args([
                "load", "--json", "--quiet", "--url", &url, "-c", "4", "-d", "4", "--rate", "500",
            ])
            .args(more)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        std::thread::sleep(Duration::from_secs(2));
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        child.wait_with_output().unwrap()
    };
    let out = run(&[]);
    let report = json(&out);
    assert_eq!(
        out.status.code(),
        Some(4),
        "{:?} {:?}",
        report["verdict"],
        report["generator_lag_us"]
    );
    assert_eq!(report["verdict"]["sound"].as_bool(), Some(false));
    let limits = report["generator_limits"].as_array().unwrap();
    assert!(
        limits.iter().any(|l| l.as_str().unwrap().contains("schedule")),
        "{limits:?}"
    );
    // Each request that was due meanwhile is late by the generator's doing, with a connection for it or without.
    assert!(report["generator_lag_us"]["p99"].as_f64().unwrap() > 100_000.0);
    assert_eq!(report["generator_lag_us"]["count"].as_u64(), Some(2000));
    let out = run(&["--accept-generator-limits"]);
    assert_eq!(out.status.code(), Some(0), "{:?}", json(&out)["verdict"]);
}

#[test]
fn profiles_change_the_rate_and_the_series_shows_it() {
    let (url, served) = server(|_, _| Some(ok()));
    let out = load(&["--url", &url, "-c", "8", "--profile", "spike:50:400:1:1:1"]);
    assert!(out.status.success(), "{out:?}");
    let report = json(&out);
    assert_eq!(served.load(std::sync::atomic::Ordering::SeqCst), 500);
    let intended: Vec<f64> = report["intervals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["intended_rate"].as_f64().unwrap())
        .collect();
    assert_eq!(
        intended.iter().map(|r| r.round()).collect::<Vec<_>>(),
        [50.0, 400.0, 50.0]
    );
    assert_eq!(report["scenario"]["profile"].as_array().unwrap().len(), 3);
    let out = load(&[
        "--url",
        &url,
        "-c",
        "8",
        "--profile",
        "ramp:0:400:1",
        "--poisson",
        "--seed",
        "9",
    ]);
    let count = json(&out)["requests"].as_u64().unwrap();
    // 200 are expected; five standard deviations are 71.
    assert!((129..=271).contains(&count), "{count}");
}

#[test]
fn keys_are_drawn_by_zipfs_law_on_the_wire() {
    let seen = std::sync::Arc::new(Mutex::new(std::collections::BTreeMap::<String, u64>::new()));
    let (url, _) = {
        let seen = seen.clone();
        server(move |_, head| {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            *seen.lock().unwrap().entry(path).or_default() += 1;
            Some(ok())
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("z.toml");
    std::fs::write(
        &file,
        "name = 'z'\n[data.k]\nrange = [1, 11]\nzipf = 1.0\n[[request]]\npath = '/k/{{k}}'\n",
    )
    .unwrap();
    let base = url.trim_end_matches("/x");
    let file = file.to_str().unwrap();
    let out = load(&[
        "--url",
        base,
        "--scenario",
        file,
        "-c",
        "4",
        "-d",
        "2",
        "--rate",
        "1000",
    ]);
    assert!(out.status.success(), "{out:?}");
    let seen = seen.lock().unwrap();
    let all: u64 = seen.values().sum();
    assert_eq!((all, seen.len()), (2000, 10));
    let sum: f64 = (1..=10).map(|k| 1.0 / f64::from(k)).sum();
    for k in 1..=10 {
        let share = 1.0 / f64::from(k) / sum;
        let deviation = (2000.0 * share * (1.0 - share)).sqrt();
        let got = seen[&format!("/k/{k}")] as f64;
        assert!((got - 2000.0 * share).abs() < 5.0 * deviation, "{k}: {got}");
    }
}

#[test]
fn the_files_say_what_the_report_says() {
    let (url, _) = server(|_, _| Some(ok()));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, hgrm, hlog, file) = (path("a.csv"), path("a.hgrm"), path("a.hlog"), path("a.json"));
    let out = load(&[
        "--url",
        &url,
        "-c",
        "2",
        "-d",
        "1.5",
        "--warmup",
        "0.3",
        "--rate",
        "200",
        "--interval",
        "0.5",
        "--csv",
        &csv,
        "--hgrm",
        &hgrm,
        "--hlog",
        &hlog,
        "--json-file",
        &file,
    ]);
    assert!(out.status.success(), "{out:?}");
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let report = json(&out);
    assert_eq!(report["requests"].as_u64(), Some(300));
    assert_eq!(report["requests_with_warmup"].as_u64(), Some(360));
    let same: sonic_rs::Value = sonic_rs::from_str(&read(&file)).unwrap();
    assert_eq!(same["requests"].as_u64(), Some(300));
    let rows: Vec<Vec<String>> = read(&csv)
        .lines()
        .map(|l| l.split(',').map(str::to_owned).collect())
        .collect();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows.iter().all(|row| row.len() == 14));
    let counted: u64 = rows[1..].iter().map(|row| row[3].parse::<u64>().unwrap()).sum();
    assert_eq!(counted, 300);
    assert!(read(&hgrm).contains("Total count    =          300]"));
    // The log's histograms, and the one in the report, are read by the library that others use.
    let log = std::fs::read(&hlog).unwrap();
    let mut sum = 0;
    for entry in IntervalLogIterator::new(&log) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let bytes = decode(interval.encoded_histogram());
            let h: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            sum += h.len();
        }
    }
    assert_eq!(sum, 300);
    let bytes = decode(report["histogram"]["data"].as_str().unwrap());
    let h: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
    assert_eq!(h.len(), 300);
    let p99 = report["latency_us"]["p99"].as_f64().unwrap();
    assert!((h.value_at_quantile(0.99) as f64 / 1000.0 - p99).abs() < 1e-6);
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn a_run_tells_how_it_goes() {
    let (url, _) = server(|_, _| Some(ok()));
    let run = |quiet: &[&str]| {
        let asked = [
            "load",
            "--url",
            &url,
            "-c",
            "1",
            "-d",
            "0.6",
            "--rate",
            "50",
            "--interval",
            "0.2",
            "--accept-generator-limits",
        ];
        let out = Command::new(BIN).args(asked).args(quiet).output().unwrap();
        String::from_utf8(out.stderr).unwrap()
    };
    let told = run(&[]);
    // No terminal here: plain lines, without control characters.
    assert!(
        told.lines().count() >= 2 && told.contains("p99") && !told.contains('\x1b'),
        "{told}"
    );
    assert_eq!(run(&["--quiet"]), "");
}
