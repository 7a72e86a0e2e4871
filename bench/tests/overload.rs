//! `overload` from one end to the other, with the service as it is.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
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

fn run(folder: &Path, more: &[&str]) -> std::process::Output {
    // An address of its own: no other test's server may take the port once this one's has ended.
    let address = TcpListener::bind("127.83.17.6:0").unwrap().local_addr().unwrap();
    let command = format!(
        "env HOST={} PORT={} WORKERS=1 LOG_LEVEL=warning DATA_DIR={} {}",
        address.ip(),
        address.port(),
        folder.display(),
        service().display()
    );
    let url = format!("http://{address}");
    let small = ["-c", "64", "--times", "1,3", "--cached", "100", "--json"];
    let short = if more.contains(&"-d") { &[][..] } else { &["-d", "0.6"] };
    let ours = ["overload", "--url", &url, "--server-cmd", &command];
    Command::new(BIN)
        .args(ours)
        .args(small)
        .args(short)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn each_multiple_is_offered_and_every_answer_counted() {
    let folder = std::env::temp_dir().join(format!("roadtrip-bench-overload-{}", std::process::id()));
    let out = run(&folder, &[]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let report: Value = sonic_rs::from_slice(&out.stdout).unwrap();
    assert!(report["peak_per_second"].as_f64().unwrap() > 0.0);
    let rows = report["rows"].as_array().unwrap();
    let times: Vec<_> = rows.iter().map(|row| row["times"].as_f64().unwrap()).collect();
    assert_eq!(times, [1.0, 3.0, 3.0]);
    for row in rows {
        let (offered, goodput) = (&row["offered_per_second"], &row["goodput_per_second"]);
        assert!(
            goodput.as_f64().unwrap() > 0.0 && offered.as_f64().unwrap() > 0.0,
            "{row:?}"
        );
        assert!(row["ratio_to_peak"].as_f64().unwrap() <= 1.0);
        assert_eq!(row["errors"].as_u64(), Some(0), "{row:?}");
        assert!(row["probes"]["answered"].as_u64().unwrap() > 0);
    }
    assert!(rows[1]["cached"].is_null());
    assert_eq!(rows[2]["cached"]["not_ok"].as_u64(), Some(0));
    assert!(rows[2]["cached"]["answered"].as_u64().unwrap() > 30);
    // What is asked too much of is told by the exit code.
    let out = run(&folder, &["--min-ratio", "1.1"]);
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let out = run(&folder, &["--rounds", "2", "-d", "0.4"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = sonic_rs::from_slice(&out.stdout).unwrap();
    assert_eq!(report["peaks"].as_array().unwrap().len(), 3);
    let all = report["ratios"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    for (row, ratios) in report["rows"].as_array().unwrap().iter().zip(all) {
        let ratios: Vec<f64> = ratios
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|ratio| ratio.as_f64())
            .collect();
        assert_eq!(ratios.len(), 2);
        let ratio = row["ratio_to_peak"].as_f64().unwrap();
        assert!(
            (ratio - (ratios[0] + ratios[1]) / 2.0).abs() < 1e-9,
            "{ratio} of {ratios:?}"
        );
    }
    let _ = std::fs::remove_dir_all(&folder);
}
