//! `life` in short: what the long table shows, held by a test. The rows that need a database, or the machine for longer, are
//! by hand: see the README.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::Command;

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

fn life(args: &[&str]) -> (Option<i32>, Value) {
    service();
    let folder = tempfile();
    let file = folder.join("life.json");
    let out = Command::new(BIN)
        .args(["life", "--rate", "250", "--seconds", "1", "--json"])
        .arg(&file)
        .args(args)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stderr),
        String::from_utf8_lossy(&out.stdout)
    );
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {said}"));
    std::fs::remove_dir_all(folder).unwrap();
    println!("{said}");
    (out.status.code(), sonic_rs::from_str(&text).unwrap())
}

fn tempfile() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "roadtrip-life-test-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

/// Every run took place, and nobody lost a request, but for those whose worker broke down, and by SIGKILL.
fn nobody_loses_a_request(driver: &str, runs: &[&str]) {
    if driver == "uring" && io_uring::IoUring::new(8).is_err() {
        eprintln!("skipped: io_uring is not available here");
        return;
    }
    let only: Vec<&str> = runs.iter().flat_map(|run| ["--only", *run]).collect();
    let (code, report) = life(&[&["--driver", driver][..], &only].concat());
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        let (run, failed) = (row["run"].as_str().unwrap(), row["failed"].as_u64().unwrap());
        assert_eq!(failed > 0, run == "kill", "{row}");
        assert!(row["answered"].as_u64().unwrap() > 100, "{row}");
        if !matches!(run, "breakdown" | "kill") {
            assert_eq!(row["lost_with_worker"].as_u64(), Some(0), "{row}");
            assert_eq!(row["offered"], row["answered"], "{row}");
        }
    }
    let missing: Vec<_> = runs
        .iter()
        .filter(|run| !rows.iter().any(|row| row["run"].as_str() == Some(**run)))
        .filter(|run| **run != "clock" || cfg!(target_arch = "x86_64"))
        .filter(|run| **run != "panic" || cfg!(debug_assertions))
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?}: {}{}",
        report["skipped"],
        report["broken"]
    );
    assert_eq!((code, report["is_sound"].as_bool()), (Some(0), Some(true)));
}

#[test]
fn nobody_loses_a_request_on_io_uring() {
    let runs = ["hup", "usr2", "panic", "breakdown", "stuck", "clock", "systemd", "kill"];
    nobody_loses_a_request("uring", &runs);
}

#[test]
fn nobody_loses_a_request_on_epoll() {
    let runs = [
        "ttin",
        "usr2",
        "usr2-broken",
        "max-requests",
        "breakdown",
        "descriptors",
        "systemd",
    ];
    nobody_loses_a_request("epoll", &runs);
}

#[test]
fn a_soak_is_looked_at_each_second() {
    let (_, report) = life(&["--only", "none", "--soak", "4s"]);
    let soak = &report["soak"];
    assert_eq!(soak["row"]["failed"].as_u64(), Some(0), "{soak}");
    assert!(soak["samples"].as_array().unwrap().len() >= 3);
    assert!(soak["rss_mean"].as_f64().unwrap() > 1e6 && soak["descriptors_mean"].as_f64().unwrap() > 10.0);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for args in [
        &["--only", "nothing-of-the-kind"][..],
        &["--rate", "0"],
        &["--soak", "soon"],
        &["--server", "/nowhere/roadtrip-api"],
    ] {
        let out = Command::new(BIN).arg("life").args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(!out.stderr.is_empty());
    }
    let list = Command::new(BIN).args(["life", "--only", "list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains("usr2-broken"));
}
