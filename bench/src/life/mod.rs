//! `life`: what clients notice of everything that may happen to a server that lives: signals, upgrades, faults, restarts of
//! what is behind it. One run is one server, one thing that happens, and a constant open-loop load of every kind of client;
//! the table says of each run how many requests were due, answered and lost, and for how long nobody was answered.
//!
//! `load` has the rules of what counts as failed. Who may call it: people (the long table, the soak) and `tests/life.rs` (a
//! short one). Servers are started from a copy of the binary on free ports of loopback, and ended by pid. Deliberately absent:
//! TLS, and clients on other machines.

mod client;
mod ends;
mod faults;
mod http1;
mod http2;
mod jump;
mod load;
mod report;
mod runs;
mod signals;
mod soak;
mod stage;

pub(crate) use report::{FORMAT, Report};
pub(crate) use soak::{Sample, growth, look};

use crate::EXIT_FOUND_ERRORS;
use runs::{Bench, RUNS, Stand};
use stage::Stop;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Run a server through signals, upgrades and faults under constant load, and count what clients lose
///
/// Each run starts a server of its own. The load is open-loop: keep-alive, idle, short-lived, pipelined, SSE, HTTP/2 and
/// story clients together, each request due at its time. The table (Markdown, on standard output) has for each run the
/// requests offered, answered, failed, and the longest gap. Exit code 1 where a request failed that must not, 0 else. Runs that
/// cannot be done here (a program is missing, no right) are named with the reason.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  roadtrip-bench life                                   every run, on both drivers where that matters
  roadtrip-bench life --only hup --only usr2 --driver epoll
  roadtrip-bench life --only none --soak 30m --rate 500
  roadtrip-bench life --json bench/runs/life.json > bench/runs/life.md")]
pub(crate) struct Args {
    /// The server's binary; else roadtrip-api beside this program
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// A debug build of it, which can be asked for faults; else the same if it is one, or ../debug/roadtrip-api
    #[arg(long, value_name = "FILE")]
    faulty_server: Option<PathBuf>,
    /// Only this run; may be repeated. `none` for none, `list` to see them
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// auto: uring, and epoll for the main ones; where io_uring is refused, epoll alone
    #[arg(long, value_name = "DRIVER", default_value = "auto", value_parser = ["auto", "uring", "epoll"])]
    driver: String,
    /// Requests per second, over all clients
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Seconds of load from the moment when something happens; longer where that takes longer
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// File for the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// File for the report as Markdown, beside standard output
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Afterwards: constant load for so long (30m, 90s), memory and descriptors looked at each second
    #[arg(long, value_name = "TIME", value_parser = time)]
    soak: Option<Duration>,
    /// SIGHUP so often during the soak
    #[arg(long, value_name = "TIME", value_parser = time, requires = "soak")]
    soak_hup: Option<Duration>,
}

/// `90s`, `30m`, `2h`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 90s, 30m or 2h");
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    if args.only.iter().any(|name| name == "list") {
        for run in RUNS {
            println!("{:14} {}", run.name, run.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_known = |name: &String| name == "none" || RUNS.iter().any(|run| run.name == name);
    if let Some(unknown) = args.only.iter().find(|name| !is_known(name)) {
        return Err(format!("there is no run {unknown:?}; --only list shows them"));
    }
    if !(20.0..=20_000.0).contains(&args.rate) || !(0.5..=600.0).contains(&args.seconds) {
        return Err("--rate takes 20 to 20000, --seconds 0.5 to 600".to_owned());
    }
    let bench = bench(args)?;
    let mut report = Report {
        format: FORMAT.to_owned(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        version: output(&bench.binary, &["--version"]),
        kernel: first_line("/proc/sys/kernel/osrelease"),
        cpu: cpu(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        began: output(Path::new("date"), &["-u", "+%Y-%m-%d %H:%M UTC"]),
        rate: args.rate,
        rows: Vec::new(),
        skipped: BTreeMap::new(),
        broken: BTreeMap::new(),
        soak: None,
        is_sound: false,
    };
    let is_wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    for run in RUNS.iter().filter(|run| is_wanted(run.name)) {
        for driver in drivers(args, run.on_both) {
            eprintln!("{}, {driver} ...", run.what);
            let stand = Stand {
                bench: &bench,
                run,
                driver,
            };
            let name = format!("{} ({driver})", run.name);
            match (run.act)(&stand) {
                Ok(row) => {
                    if let Some(fault) = row.fault() {
                        eprintln!("  FAULT: {fault}");
                    }
                    report.rows.push(row);
                }
                Err(Stop::Skip(why)) => drop(report.skipped.insert(name, why)),
                Err(Stop::Failed(why)) => {
                    eprintln!("  {why}");
                    report.broken.insert(name, why);
                }
            }
        }
    }
    if let Some(time) = args.soak {
        let driver = if args.driver == "epoll" { "epoll" } else { "auto" };
        report.soak = Some(soak::run(&bench, driver, time, args.soak_hup)?);
    }
    let is_flat = report
        .soak
        .as_ref()
        .is_none_or(|soak| soak.is_flat && soak.row.fault().is_none());
    report.is_sound = is_flat && report.broken.is_empty() && report.rows.iter().all(|row| row.fault().is_none());
    write(args, &report)?;
    Ok(if report.is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FOUND_ERRORS)
    })
}

fn write(args: &Args, report: &Report) -> Result<(), String> {
    let cannot = |file: &Path, error: std::io::Error| format!("cannot write {}: {error}", file.display());
    if let Some(file) = &args.json {
        let json = sonic_rs::to_string_pretty(report).map_err(|e| format!("cannot write the report: {e}"))?;
        std::fs::write(file, json + "\n").map_err(|error| cannot(file, error))?;
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, report.text()).map_err(|error| cannot(file, error))?;
    }
    crate::print_report(false, report, Report::text)
}

/// Which drivers a run is done on.
fn drivers(args: &Args, on_both: bool) -> Vec<&'static str> {
    match args.driver.as_str() {
        "uring" => vec!["uring"],
        "epoll" => vec!["epoll"],
        _ if !has_uring() => vec!["epoll"],
        _ if on_both => vec!["uring", "epoll"],
        _ => vec!["uring"],
    }
}

fn has_uring() -> bool {
    io_uring::IoUring::new(8).is_ok()
}

fn bench(args: &Args) -> Result<Bench, String> {
    let own = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let beside = own.with_file_name("roadtrip-api");
    let binary = args.server.clone().unwrap_or(beside);
    if !binary.exists() {
        return Err(format!(
            "there is no {}: cargo build, or name it with --server",
            binary.display()
        ));
    }
    // One that knows faults has the word for it in its text.
    let is_faulty = |path: &PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| {
            let word = b"a fault that was asked for";
            bytes.windows(word.len()).any(|window| window == word)
        })
    };
    let debug = binary
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join("debug/roadtrip-api"));
    let faulty = args
        .faulty_server
        .clone()
        .into_iter()
        .chain([binary.clone()])
        .chain(debug)
        .find(is_faulty);
    Ok(Bench {
        binary,
        faulty,
        rate: args.rate,
        seconds: args.seconds,
    })
}

fn output(program: &Path, args: &[&str]) -> String {
    let ran = Command::new(program).args(args).output();
    ran.map_or_else(
        |_| "?".to_owned(),
        |ran| String::from_utf8_lossy(&ran.stdout).trim().to_owned(),
    )
}

fn first_line(file: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or("?").to_owned()
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": "))
        .map_or("?", |(_, name)| name)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "m", "1", "0s", "99h", "1.5m", "-1s", "é"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_runs_are_distinct() {
        let names: std::collections::BTreeSet<_> = RUNS.iter().map(|run| run.name).collect();
        assert_eq!(names.len(), RUNS.len());
    }
}
