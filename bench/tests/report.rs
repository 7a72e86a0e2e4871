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
    assert!(
        text.contains("p99.9 at 3000 requests a second, one worker | below 1.00 ms | 0.453 ms | met |"),
        "{text}"
    );
    assert!(text.contains("not measured: there is no ratchet.toml beside the runs"));
}

#[test]
fn every_file_that_is_committed_can_be_read() {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let made = report(&runs, &scratch("report-committed"));
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() && said.contains(" 0 files passed over"), "{said}");
}

#[test]
fn nothing_to_show_is_said() {
    let empty = scratch("report-empty");
    let made = report(&empty, &empty);
    assert_eq!(made.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&made.stderr).contains("holds no run"));
    assert_eq!(report(Path::new("/nonexistent"), &empty).status.code(), Some(2));
}

#[test]
fn suites_and_lives_are_shown_and_fill_the_budgets() {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/report-suites/runs");
    let out = scratch("report-suites");
    let budgets = out.join("budgets.md");
    let made = Command::new(env!("CARGO_BIN_EXE_roadtrip-bench"))
        .args(["report", "--runs"])
        .arg(&runs)
        .arg("--html")
        .arg(out.join("page.html"))
        .arg("--markdown")
        .arg(out.join("page.md"))
        .arg("--budgets")
        .arg(&budgets)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(
        said.starts_with("2 runs, 0 comparisons, 2 suites, 1 lives, 0 files passed over"),
        "{said}"
    );
    let budgets = std::fs::read_to_string(&budgets).unwrap();
    for line in [
        "| CPU a request, live, over the floor's | at most 1.1x | - | not measured |",
        "| RSS bytes of an idle connection | at most 512 B | 400 B | met",
        "| p99.9 at 3000 requests a second, one worker | below 1.00 ms | - | not measured |",
        "| p99.9 at 80 % of the capacity, one worker, arrivals at random | below 5.00 ms | 2.10 ms | met |",
        "| cold start to ready, embedded store, median | below 100 ms | 61.5 ms | met |",
        "| resident memory when nobody asks | below 24.0 MB | 25.0 MB | missed | missed: 25.0 MB, where below 24.0 MB is asked |",
        "| wake-ups of an idle worker | below 2.00 a second | 0.600 a second | met |",
        "| heap allocations of a cached story, once warm | none | at most 0 | met |",
    ] {
        assert!(budgets.contains(line), "{line} is not in\n{budgets}");
    }
    assert!(budgets.contains("2026-01-02-suite/latency/share-080.json") && !budgets.contains("## Suites"));
    let page = std::fs::read_to_string(out.join("page.md")).unwrap();
    // The whole run is shown, not the quick one that came after it.
    assert!(
        page.contains("| baseline: invented | passed | - | >= 123456 |"),
        "{page}"
    );
    assert!(
        page.contains("cannot make the control group") && !page.contains("999"),
        "{page}"
    );
    assert!(page.contains("not shown: `2026-01-03-suite/suite.json`"), "{page}");
    // Steps make a curve, but arena's and single runs' do not mix.
    assert!(page.contains("`2026-01-02-suite/latency`: latency by throughput.") && !page.contains("## Scaling\n"));
    // Workers beside the line of proportion; two points make no law.
    assert!(
        page.contains("## Scaling with cores\n")
            && page.contains("| 2 | 117,000 | 58,500 | 0.97 | 5.00 | 200,000 | 99 % | 1.02 | - |")
    );
    assert!(page.contains("2 different points, and 5 are needed"), "{page}");
    let html = std::fs::read_to_string(out.join("page.html")).unwrap();
    assert!(html.contains("id=\"cores-t\"") && html.contains(">ideal: the first times as many</text>"));
    // Tables of many columns leave the column of the text.
    assert!(html.contains("<div class=\"scroll wide\""));
    assert!(page.contains("| nothing happens | uring | 1247 | 1247 | 0 |") && page.contains("as it must be"));
    assert!(page.contains("Skipped: jump (uring): no right"));
    assert!(page.contains("540017 answered, 0 failed") && page.contains("Flat."));
}
