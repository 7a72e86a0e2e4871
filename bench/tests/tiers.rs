//! `tiers` from one end to the other, with the service on both sides, and PostgreSQL and Redis as they are.
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

fn tiers(a: &str, b: &str, more: &[&str]) -> Output {
    let small = [
        "--pairs",
        "1",
        "-d",
        "0.3",
        "-c",
        "8",
        "--stories",
        "600",
        "--warmup",
        "40",
        "--rate",
        "100",
    ];
    let sides = ["tiers", "--a-cmd", a, "--b-cmd", b, "--json"];
    Command::new(BIN).args(sides).args(small).args(more).output().unwrap()
}

#[test]
fn each_row_is_measured_and_answered_from_its_tier() {
    let command = format!("{} serve", service().display());
    let out = tiers(&command, &command, &[]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("both tell the same stories"), "{said}");
    let report: Value = sonic_rs::from_slice(&out.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["row"].as_str().unwrap()).collect();
    assert_eq!(names, ["l1", "redis", "store", "mix", "told"]);
    for (row, tier) in rows.iter().zip(["hit", "redis", "store", "", "stored"]) {
        assert_eq!(row["errors"].as_u64(), Some(0), "{row:?}");
        assert!(row["ratio"].as_f64().unwrap() > 0.0);
        for side in ["a", "b"] {
            let run = &row["pairs"][0][side];
            let asked = run["requests"].as_u64().unwrap() + 30;
            let told = run["told"].as_object().unwrap();
            let from = |word: &str| told.get(&word).and_then(|count| count.as_u64()).unwrap_or(0);
            match tier {
                // So few wishes need not come from every tier; each must come from one.
                "" => {
                    let all = ["hit", "redis", "store", "stored", "collapsed"].map(from);
                    assert_eq!(all.iter().sum::<u64>(), asked, "{run:?}");
                    assert!(from("hit") > 0 && from("store") > 0, "{run:?}");
                }
                tier => assert_eq!((from(tier), told.len()), (asked, 1), "{run:?}"),
            }
            assert!(run["cpu_us_per_request"].as_f64().unwrap() > 0.0 && run["p99_us"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn what_is_not_the_same_service_is_not_measured() {
    let service = service();
    // It cannot read what the other has kept in Redis.
    let (a, b) = (
        format!("{} serve", service.display()),
        format!("env REDIS_PREFIX=other: {} serve", service.display()),
    );
    let out = tiers(&a, &b, &["--rows", "l1"]);
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("which should be \"detail=redis\""), "{said}");
}
