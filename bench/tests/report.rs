//! The page of committed runs, made from invented ones (tests/data/report) as a user makes it.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn report(runs: &Path, out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadtrip-bench"))
        .args(["report", "--runs"])
        .arg(runs)
        .arg("--html")
        .arg(out.join("page.html"))
        .arg("--markdown")
        .arg(out.join("page.md"))
        .output()
        .unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_page_shows_every_kind_of_run_and_fetches_nothing() {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/report");
    let out = scratch("report");
    let made = report(&runs, &out);
    assert!(made.status.success(), "{made:?}");
    let page = std::fs::read_to_string(out.join("page.html")).unwrap();
    for heading in [
        "Budgets",
        "Beside peers",
        "Beside peers, 2",
        "Throughput against latency",
        "Percentile spectrum",
        "CPU per request",
        "Scaling",
        "Evidence",
    ] {
        assert!(page.contains(&format!(">{heading}</h2>")), "{heading}");
    }
    // live, story, in two sittings; saturation; two spectra; two of CPU; cores and connections.
    assert_eq!(page.matches("<svg ").count(), 11);
    assert_eq!(page.matches("<svg ").count(), page.matches("</desc>").count());
    assert_eq!(
        page.matches("<figure>").count(),
        page.matches("The figures as a table").count()
    );
    let mut ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id stands twice");
    for fetched in ["src=", "<script", "<link", "@import", "url("] {
        assert!(!page.contains(fetched), "{fetched}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    assert!(page.contains("prefers-color-scheme:dark"));
    // Connections have eight places, cores two.
    assert!(page.contains("α = 0.03") && page.contains("R² = "), "a fit");
    assert!(
        page.contains("no fit of the universal scalability law: 2 different points"),
        "a refusal"
    );
    assert!(page.contains("other.json: neither a run nor a comparison"));
    // The rate at which the generator was late is not passed off as the server's.
    assert!(page.contains("these say nothing of the server: rate-225000"));
    let text = std::fs::read_to_string(out.join("page.md")).unwrap();
    assert!(text.contains("| ntex | 1.35 (1.27 to 1.43) | faster |"), "{text}");
    // Each sitting has measured some of the budgets.
    assert!(text.contains("| missed narrowly |") && text.contains("| missed |") && text.contains("| met |"));
    assert!(text.contains("p99.9 at 3000 requests a second, one worker | met"));
}

#[test]
fn nothing_to_show_is_said() {
    let empty = scratch("report-empty");
    let made = report(&empty, &empty);
    assert_eq!(made.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&made.stderr).contains("holds no run"));
    assert_eq!(report(Path::new("/nonexistent"), &empty).status.code(), Some(2));
}
