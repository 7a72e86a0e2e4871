//! `suite` as a user runs it, on a debug build of the service, with steps far too short to mean anything: what is kept fits
//! its schema, every step has its run, and what does not hold ends the program with the right code.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{BIN, assert_fits, binary};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

fn suite(ours: &str, words: &[&str]) -> Output {
    Command::new(BIN)
        .args([
            "suite",
            "--quick",
            "--seconds",
            "0.15",
            "--accept-generator-limits",
            "--ours",
            ours,
        ])
        .args(words)
        .output()
        .unwrap()
}

fn service() -> String {
    format!("{} serve", binary().display())
}

fn read(path: &Path) -> Value {
    sonic_rs::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The report that was kept, held to its schema, and its folder.
fn kept(out: &Path) -> (Value, PathBuf) {
    let folder = std::fs::read_dir(out).unwrap().next().unwrap().unwrap().path();
    let report = read(&folder.join("suite.json"));
    assert_fits("suite.schema.json", &report);
    (report, folder)
}

fn states(report: &Value) -> Vec<(String, String)> {
    let steps = report["suites"].as_array().unwrap().iter().flat_map(|suite| {
        let name = suite["name"].as_str().unwrap().to_owned();
        let steps = suite["steps"].as_array().unwrap().iter();
        steps.map(move |step| {
            let (step, state) = (step["name"].as_str().unwrap(), step["state"].as_str().unwrap());
            (format!("{name}/{step}"), state.to_owned())
        })
    });
    steps.collect()
}

#[test]
fn suites_keep_what_they_find_and_every_step_its_run() {
    let out = tempfile::tempdir().unwrap();
    let names = ["saturation", "churn", "neighbour", "soak"];
    let more = [
        "--capacity",
        "400",
        "--soak",
        "0.5",
        "--note",
        "a test",
        "--out",
        out.path().to_str().unwrap(),
    ];
    let ran = suite(&service(), &[&names[..], &more[..]].concat());
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let (report, folder) = kept(out.path());
    let found: Vec<_> = report["suites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(found, names);
    let mut runs = 0;
    for step in report["suites"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|suite| suite["steps"].as_array().unwrap().iter())
    {
        if step["state"].as_str() == Some("skipped") {
            assert!(
                step["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()),
                "{step}"
            );
            continue;
        }
        // Of the same words as on a command line, and as whole as its report.
        let run = read(&folder.join(step["file"].as_str().unwrap()));
        assert_fits("run.schema.json", &run);
        assert!(run["server"]["pid"].as_u64().is_some());
        let command = step["command"].as_str().unwrap();
        assert!(command.starts_with("roadtrip-bench load --url "), "{command}");
        assert!(!command.contains("/roadtrip-bench-suite-"), "{command}");
        runs += 1;
    }
    assert!(runs >= 8, "{runs}");
    // What was asked of it: the rates of the curve.
    let curve = report["suites"][0]["steps"].as_array().unwrap();
    let rates: Vec<f64> = curve.iter().map(|step| step["rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [40.0, 200.0, 360.0, 400.0, 480.0, 600.0]);
    // And nothing is left behind.
    let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(
        page.contains("## neighbour") && page.contains("a test") && page.contains("too short to judge growth"),
        "{page}"
    );
}

#[test]
fn what_nobody_asks_is_looked_at() {
    let out = tempfile::tempdir().unwrap();
    let ran = suite(&service(), &["start", "--out", out.path().to_str().unwrap()]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let (report, _) = kept(out.path());
    let start = report["suites"][0]["steps"].as_array().unwrap();
    assert!(
        start[0]["figures"]["median_ms"]
            .as_f64()
            .is_some_and(|ms| ms > 1.0 && ms < 30_000.0),
        "{}",
        start[0]
    );
    assert!(
        start[1]["figures"]["rss_bytes"]
            .as_f64()
            .is_some_and(|bytes| bytes > 1e6),
        "{}",
        start[1]
    );
    // Not of a server that has just started, which no budget is of.
    assert!(start[1]["figures"].get("wake_ups_per_second_and_worker").is_none());
    assert!(start[1]["reasons"].to_string().contains("no wake-ups"), "{}", start[1]);
}

#[test]
fn slow_clients_are_there_beside_the_fast_ones() {
    let out = tempfile::tempdir().unwrap();
    let ran = suite(&service(), &["slow", "--out", out.path().to_str().unwrap()]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let (report, _) = kept(out.path());
    let steps = report["suites"][0]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 4);
    for step in steps.iter().skip(1) {
        assert_eq!(step["figures"]["slow_connections"].as_f64(), Some(300.0), "{step}");
        assert_eq!(step["errors"].as_u64(), Some(0), "{step}");
    }
}

#[test]
fn servers_have_the_share_that_they_are_given_and_workers_a_cpu_each() {
    let out = tempfile::tempdir().unwrap();
    let names = ["latency", "cores", "--server-share", "0.5"];
    let ran = suite(
        &service(),
        &[&names[..], &["--out", out.path().to_str().unwrap()]].concat(),
    );
    let said = String::from_utf8_lossy(&ran.stderr);
    if said.contains("--server-share: ") {
        assert_eq!(ran.status.code(), Some(2), "{said}");
        eprintln!("no control groups here: {said}");
        return;
    }
    // At 95 % of what a debug build does beside other tests some answers may be 503.
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{said}");
    let (report, folder) = kept(out.path());
    assert_eq!(report["settings"]["server_share"].as_f64(), Some(0.5));
    let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(page.contains("each server on 0.5 of a CPU"), "{page}");
    // `least`: the share of its quota below which a server could have done more; where cores are compared it is a greater one.
    let used = |step: &Value, least: f64| {
        let used = step["figures"]["share_of_quota_used"].as_f64().unwrap();
        // What the kernel hands out in slices may be a little more in so short a time.
        assert!(used > 0.0 && used < 1.5, "{step}");
        assert_eq!(step["is_lower_bound"].as_bool(), Some(used < least), "{step}");
    };
    let steps = report["suites"][0]["steps"].as_array().unwrap();
    // What the machine itself does comes first, and is no run.
    let hiccups = &steps[0];
    assert_eq!(hiccups["name"].as_str(), Some("hiccups"), "{hiccups}");
    assert!(
        hiccups["requests"].as_u64() > Some(2000) && hiccups["latency_us"]["p999"].as_f64() > Some(0.0),
        "{hiccups}"
    );
    assert!(
        page.contains("| hiccups: how late threads that do nothing wake"),
        "{page}"
    );
    used(
        steps
            .iter()
            .find(|step| step["name"].as_str() == Some("capacity"))
            .unwrap(),
        0.9,
    );
    let steps = report["suites"][1]["steps"].as_array().unwrap();
    if steps[0]["state"].as_str() == Some("skipped") {
        assert!(steps[0]["reasons"].to_string().contains("1 CPU"), "{}", steps[0]);
        return;
    }
    for (step, workers) in steps.iter().zip([1.0, 2.0]) {
        assert_eq!(step["state"].as_str(), Some("passed"), "{step}");
        assert_eq!(step["figures"]["workers"].as_f64(), Some(workers), "{step}");
        used(step, 0.97);
        let run = read(&folder.join(step["file"].as_str().unwrap()));
        assert_eq!(run["server"]["workers"].as_array().unwrap().len() as f64, workers);
    }
    assert!(
        steps.len() >= 2 && steps[1]["figures"]["busiest_worker_over_mean"].as_f64() < Some(2.1),
        "{}",
        steps[1]
    );
    // None is made for what is no share.
    assert_eq!(
        suite("true", &["churn", "--server-share", "0.01"]).status.code(),
        Some(2)
    );
}

#[test]
fn the_arena_asks_of_every_tier() {
    let out = tempfile::tempdir().unwrap();
    let ran = suite(&service(), &["arena", "--out", out.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let (report, folder) = kept(out.path());
    let states = states(&report);
    if states.contains(&("arena/databases".to_owned(), "skipped".to_owned())) {
        eprintln!("no databases here: {said}");
        return;
    }
    let names: Vec<&str> = states
        .iter()
        .map(|(name, _)| name.trim_start_matches("arena/"))
        .collect();
    let all = [
        "baseline",
        "pipelined",
        "short-lived",
        "json",
        "json-by-id",
        "gzip",
        "br",
        "upload-1k",
        "upload-16k",
        "upload-64k",
        "redis",
        "crud-read",
        "crud-list",
        "crud-create",
        "crud-mix",
        "idle-10k",
    ];
    assert_eq!(names, all);
    assert!(states.iter().all(|(_, state)| state == "passed"), "{states:?}");
    // Each answer of the row came from Redis; a compressed one is shorter than the story.
    let redis = read(&folder.join("arena/redis.json"));
    assert_eq!(redis["cache_statuses"]["redis"], redis["requests_with_warmup"]);
    let steps = report["suites"][0]["steps"].as_array().unwrap();
    assert!(
        steps[5]["figures"]["body_bytes"]
            .as_f64()
            .is_some_and(|bytes| bytes > 100.0 && bytes < 2000.0)
    );
    let idle = &steps[15]["figures"];
    assert!(
        idle["connections"].as_f64().is_some_and(|count| count > 500.0),
        "{idle}"
    );
    assert!(
        idle["rss_bytes_per_connection"]
            .as_f64()
            .is_some_and(|bytes| bytes < 20_000.0),
        "{idle}"
    );
}

#[test]
fn what_does_not_hold_is_told_by_the_exit_code() {
    let out = tempfile::tempdir().unwrap();
    // 429 to nearly all of the mix.
    let limited = format!("env RATE_LIMIT_ENABLED=true RATE_LIMIT_CLIENT=20/s {}", service());
    let ran = suite(
        &limited,
        &["soak", "--soak", "0.3", "--out", out.path().to_str().unwrap()],
    );
    let (report, _) = kept(out.path());
    let step = &report["suites"][0]["steps"][0];
    let reasons = step["reasons"].to_string();
    assert!(
        reasons.contains("errors>0 holds") && reasons.contains("429"),
        "{reasons}"
    );
    match step["state"].as_str() {
        Some("failed") => assert_eq!(ran.status.code(), Some(3)),
        // A machine that is busy with other tests: then it is not said that the service failed.
        Some("unsound") => assert_eq!(ran.status.code(), Some(0)),
        other => panic!("{other:?}: {reasons}"),
    }
    // A server that tells no stories: the suite breaks, in words.
    let ran = suite(&format!("{BIN} floor --port {{port}}"), &["churn"]);
    assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("is no hit"));
    // And what is no suite is none.
    assert_eq!(suite("true", &["no-such"]).status.code(), Some(2));
}
