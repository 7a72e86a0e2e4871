//! `ratchet`: instructions per request in user space, counted by cachegrind, held against a committed file.
//!
//! Time moves by tens of per cent on a shared machine; the number of instructions that a given binary executes for a
//! given request does not. So a count is a gate that CI can keep: a change that makes a hot request dearer fails, and
//! whoever wants it so says `--accept`, and the diff of the file shows the price.
//!
//! What it cannot see: the kernel (most of a small request), caches, branches, waiting. Those are `cost`'s and
//! `compare`'s. A count belongs to one binary's way of being built (profile, target, compiler, libc) and to the
//! instruction sets that valgrind offers it; `file.rs` has what is said of that.

mod cachegrind;
mod file;
mod scenario;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::EXIT_FOUND_ERRORS;
use cachegrind::Counts;
use file::{Ratchet, Verdict};
use scenario::Scenario;

/// Requests of the longer of two runs beyond those of the shorter.
const REQUESTS_DEFAULT: u32 = 2000;

/// Count instructions per request under valgrind, and fail where they have grown
///
/// Starts the server under `valgrind --tool=cachegrind` twice for each scenario, on epoll with one worker, and asks it
/// the same on one connection, one request at a time: 500 times, and 500 + --requests times. The difference of the two
/// totals, divided, is what one request costs; start, warming up and end cancel out.
#[derive(clap::Args)]
#[command(after_help = "Example:
  deploy/image/build binary
  roadtrip-bench ratchet --server target/x86_64-unknown-linux-gnu/max/roadtrip-api")]
pub(crate) struct Args {
    /// The server's binary
    #[arg(long, value_name = "FILE")]
    server: PathBuf,
    /// The file with the counts that are allowed
    #[arg(long, value_name = "FILE", default_value = "bench/ratchet.toml")]
    file: PathBuf,
    /// Only these scenarios; all where none is named
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Requests that are counted
    #[arg(long, default_value_t = REQUESTS_DEFAULT, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    requests: u32,
    /// Write what was counted into the file, higher or lower, in place of comparing
    #[arg(long)]
    accept: bool,
    /// Keep cachegrind's files in this folder, for cg_annotate
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Further counts of a scenario that seems to have become dearer; the lowest counts.
const RECOUNTS_MAX: u32 = 2;

/// What was found for one scenario.
#[derive(Debug, serde::Serialize)]
struct Row {
    scenario: &'static str,
    instructions_per_request: f64,
    allowed: Option<f64>,
    verdict: Verdict,
}

#[derive(Debug, serde::Serialize)]
struct Report {
    requests: u32,
    tolerance_percent: f64,
    rows: Vec<Row>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let chosen = scenario::chosen(&args.only)?;
    let mut ratchet = Ratchet::read(&args.file)?;
    let mut rows = Vec::new();
    for scenario in chosen {
        let mut instructions = count(args, &scenario)?;
        // Work in the background falls into a run or beside it, on a busy machine now and then: what a request has really
        // come to cost, it costs each time.
        for _ in 0..RECOUNTS_MAX {
            if args.accept || !ratchet.judge(scenario.name, instructions).is_dearer() {
                break;
            }
            instructions = instructions.min(count(args, &scenario)?);
        }
        let verdict = ratchet.judge(scenario.name, instructions);
        eprintln!(
            "{:<18} {instructions:>10.0} instructions a request: {verdict}",
            scenario.name
        );
        rows.push(Row {
            scenario: scenario.name,
            instructions_per_request: instructions,
            allowed: ratchet.allowed(scenario.name),
            verdict,
        });
    }
    if args.accept {
        for row in &rows {
            ratchet.accept(row.scenario, row.instructions_per_request);
        }
        ratchet.write(&args.file)?;
    }
    let failed = rows.iter().any(|row| row.verdict.is_failure()) && !args.accept;
    let report = Report {
        requests: args.requests,
        tolerance_percent: ratchet.tolerance_percent(),
        rows,
    };
    crate::print_report(args.json, &report, text)?;
    if failed {
        eprintln!(
            "a request has become dearer, or has no count in {}. Where that is meant, run the same with --accept and \
             commit the file",
            args.file.display()
        );
    }
    Ok(if failed {
        ExitCode::from(EXIT_FOUND_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

/// Instructions of one request: the difference of two runs.
fn count(args: &Args, scenario: &Scenario) -> Result<f64, String> {
    let many = cachegrind::WARMUP_REQUESTS.saturating_add(args.requests);
    let run = |requests| cachegrind::count(&args.server, scenario, requests, args.keep.as_deref());
    // Side by side: a count does not mind company.
    let (few, many) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(many));
        let few = run(cachegrind::WARMUP_REQUESTS);
        (
            few,
            other
                .join()
                .unwrap_or_else(|_| Err("the longer run panicked".to_owned())),
        )
    });
    per_request(few?, many?)
}

fn per_request(few: Counts, many: Counts) -> Result<f64, String> {
    let instructions = many.instructions.checked_sub(few.instructions);
    let answers = many.answers.checked_sub(few.answers).filter(|&answers| answers > 0);
    match (instructions, answers) {
        (Some(instructions), Some(answers)) if instructions > 0 => Ok(instructions as f64 / f64::from(answers)),
        _ => Err(format!("more requests took fewer instructions: {few:?}, {many:?}")),
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!(
        "instructions a request in user space, over {} requests; {} % more fail",
        report.requests, report.tolerance_percent
    )];
    lines.extend(report.rows.iter().map(|row| {
        let allowed = row
            .allowed
            .map_or_else(|| "none".to_owned(), |allowed| format!("{allowed:.0}"));
        format!(
            "{:<18} {:>10.0}   on file {allowed:>10}   {}",
            row.scenario, row.instructions_per_request, row.verdict
        )
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_difference_of_two_runs() {
        let counts = |instructions, answers| Counts { instructions, answers };
        assert_eq!(per_request(counts(1_000, 10), counts(5_000, 30)), Ok(200.0));
        assert!(per_request(counts(1_000, 10), counts(900, 30)).is_err());
        assert!(per_request(counts(1_000, 10), counts(2_000, 10)).is_err());
    }
}
