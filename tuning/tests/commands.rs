//! The subcommands run as a user runs them.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Output};

use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

fn tuning(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadtrip-tuning"))
        .args(args)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    sonic_rs::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn plan_fits_or_says_that_it_does_not() {
    let out = tuning(&["plan", "--rps", "30000", "--cpu-us", "9.5", "--json"]);
    assert!(out.status.success(), "{out:?}");
    let plan = json(&out);
    assert_eq!(plan["pods"].as_u64(), Some(10));
    assert_eq!(plan["bound_by"].as_str(), Some("rate"));
    let out = tuning(&["plan", "--rps", "90000"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("DOES NOT FIT"));
    assert_eq!(tuning(&["plan", "--rps", "-1"]).status.code(), Some(2));
    assert_eq!(tuning(&["plan"]).status.code(), Some(2));
    assert_eq!(tuning(&["plan", "--rps", "1", "--cores", "0"]).status.code(), Some(2));
}

#[test]
fn the_table_is_the_guides() {
    let out = tuning(&["plan", "--table"]);
    assert!(out.status.success());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    for row in [
        "| 4    | 12000 ",
        "| 8    | 24000 ",
        "| 16   | 48000 ",
        "| 20   | 60000 ",
        "$1000",
    ] {
        assert!(text.contains(row), "{row}: {text}");
    }
    assert_eq!(
        json(&tuning(&["plan", "--table", "--json"])).as_array().unwrap().len(),
        4
    );
}

#[test]
fn check_reads_this_host_and_its_exit_code_agrees_with_its_findings() {
    let out = tuning(&["check", "--json"]);
    let report = json(&out);
    let findings = report.as_array().unwrap();
    assert_eq!(findings.len(), 11);
    let well = findings.iter().all(|f| f["ok"].as_bool().unwrap());
    assert_eq!(out.status.code(), Some(i32::from(!well)));
    let out = tuning(&["check", "--connections", "18446744073709551614"]);
    assert_eq!(
        out.status.code(),
        Some(1),
        "no limit but `unlimited` is that high: {out:?}"
    );
}
