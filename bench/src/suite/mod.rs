//! `suite`: the loads that benchmark engineers reach for, as one command. Each suite starts the service anew, runs its steps
//! with the engine of `load` in this process, and judges them; `report` shows what is kept.
//!
//! `stage` starts servers and runs steps, `arena`, `rates`, `clients`, `neighbour`, `cores` and `soak` are the suites, `report`
//! is what came of them. Deliberately absent: resuming, other services than this one (`compare` has them), other machines.

mod arena;
mod clients;
mod cores;
mod neighbour;
mod rates;
mod report;
mod soak;
mod stage;
mod start;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use report::Settings;
pub(crate) use report::{FORMAT, HICCUPS, Report, State, Step, Suite, row};
use stage::Stage;

use crate::compare::Workshop;
use crate::group::{Group, PERIOD_MIN_US};
use crate::guard::Folder;
use crate::machine::{self, Machine, Version};
use crate::told;
use crate::{EXIT_FOUND_ERRORS, EXIT_GENERATOR_LIMIT, EXIT_MISSED_THRESHOLD, open_files};

/// Descriptors for connections of the widest load beside `idle-10k`.
const FILES: u64 = 2048;

/// Run suites of loads against the service: start, arena, guide, saturation, latency, churn, slow, neighbour, cores, soak
///
/// Builds the service (profile max; release with --quick), starts it anew for each suite on --server-cpu, and runs the suite's
/// steps with the engine of `load` from --load-cpu. Databases are PostgreSQL and Redis of its own. Prints Markdown; --out keeps
/// that, the JSON (bench/schema/suite.schema.json) and every step's whole run (bench/schema/run.schema.json).
///
/// A step of the open loop in which the generator was the limit is `not sound`: nothing is said of the server. In the closed
/// loop a busy generator makes requests/s a lower bound (`>=`); CPU a request stands. What cannot be done here (no PostgreSQL,
/// no right to make a control group) is `skipped`, with the reason. `guide` and `latency` begin with how late threads that do nothing
/// wake (`hiccups`).
///
/// Exit codes: 0 everything asked holds; 1 answers were wrong or did not come, or a suite broke; 2 nothing could be measured;
/// 3 something asked does not hold, such as the guide's p99 of 200 ms; 4 none of these, and a step was not sound.
#[derive(clap::Args)]
#[command(after_help = "Suites:
  start       cold start to ready, resident memory and wake-ups of one that nobody asks
  arena       baseline, pipelined, short-lived, JSON, gzip and br, uploads, CRUD on PostgreSQL, cached through Redis, 10k idle
  guide       3000 requests a second with p99 below 200 ms; the Locust mix at 1000 users
  saturation  rates up to 1.5 times what the service can do
  latency     percentiles at 10 % to 95 % of that, arrivals at random
  churn       connections that come and go
  slow        slow heads, bodies and readers beside fast clients
  neighbour   a pod with 1 CPU of quota, alone and beside a neighbour that spins
  cores       the cached story by 1, 2, 4 ... workers, each on a CPU of its own with 0.3 of it by quota
  soak        a mix for --soak seconds; memory and descriptors must not grow

Examples:
  cargo run --release -p roadtrip-bench -- suite --quick
  roadtrip-bench suite --server-cpu 0 --load-cpu 1 --out bench/runs
  roadtrip-bench suite guide latency --server-cpu 0 --load-cpu 1
  roadtrip-bench suite guide latency --server-cpu 0 --load-cpu 1 --server-share 0.3 --out bench/runs")]
pub(crate) struct Args {
    /// Suites; all of them without a name
    #[arg(value_name = "NAME", value_parser = NAMES)]
    names: Vec<String>,
    /// Small versions: all of them within three minutes of the build
    #[arg(long)]
    quick: bool,
    /// Seconds of each step [default: 10, with --quick 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds of the soak [default: 600, with --quick 5]; fewer than 300 do not judge growth
    #[arg(long, value_name = "SECONDS")]
    soak: Option<f64>,
    /// Requests a second that `saturation` and `latency` take as what the service can do, instead of measuring it
    #[arg(long, value_name = "RATE")]
    capacity: Option<f64>,
    /// Workers of the service
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: u32,
    /// CPU that the service is pinned to
    #[arg(long)]
    server_cpu: Option<usize>,
    /// CPU that the load and the databases run on
    #[arg(long)]
    load_cpu: Option<usize>,
    /// Share of a CPU that each server gets, by the quota of a control group: so little that a generator on one CPU can drive
    /// it to its capacity. 1: no quota. `neighbour` and `cores` have quotas of their own
    #[arg(long, value_name = "CPUS", default_value_t = 1.0)]
    server_share: f64,
    /// Exit as if steps that are not sound had not been run (they are still marked)
    #[arg(long)]
    accept_generator_limits: bool,
    /// Take what was built before
    #[arg(long)]
    no_build: bool,
    /// Command that starts the service, in place of the one built here; its port is in PORT
    #[arg(long, value_name = "COMMAND")]
    ours: Option<String>,
    /// File for the JSON report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder that gets a folder DATE-suite (DATE-suite-2 ...) with the JSON, the Markdown and every run
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What is to be said of the circumstances; stands in the report
    #[arg(long)]
    note: Option<String>,
    /// The repository, where it is not the one that this program was built from
    #[arg(long, value_name = "FOLDER")]
    repo: Option<PathBuf>,
}

/// In the order in which they run: `saturation` finds what `latency` takes shares of.
const NAMES: [&str; 10] = [
    "start",
    "arena",
    "guide",
    "saturation",
    "latency",
    "churn",
    "slow",
    "neighbour",
    "cores",
    "soak",
];

fn what(name: &str) -> &'static str {
    match name {
        "start" => "The service before anybody asks: how soon it is ready, and what it takes while it waits.",
        "arena" => "What public comparisons ask, each alone, as fast as it is answered.",
        "guide" => "What the scaling guide asks of a pod: 3000 requests a second, p99 below 200 ms; 1000 users.",
        "saturation" => {
            "Constant rates up to beyond what the service can do. At 95 % of it and above errors are expected."
        }
        "latency" => "Arrivals at random (Poisson) at shares of what the service can do.",
        "churn" => "Connections that come and go; none may be left behind.",
        "slow" => "1000 cached stories a second beside clients that are slow on purpose.",
        "neighbour" => "A control group with a quota of 1 CPU, as a pod has.",
        "cores" => {
            "Scaling with cores: the cached story by more and more workers, each on a CPU of its own with the same share of it. \
             Throughput is in proportion to workers where they share nothing."
        }
        _ => "A mix at a constant rate for long.",
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let seconds = args.seconds.unwrap_or(if args.quick { 1.0 } else { 10.0 });
    let soak_seconds = args.soak.unwrap_or(if args.quick { 5.0 } else { 600.0 });
    for (name, value, most) in [("--seconds", seconds, 600.0), ("--soak", soak_seconds, 86_400.0)] {
        if !(value > 0.0 && value <= most) {
            return Err(format!("{name} takes up to {most} seconds, not {value}"));
        }
    }
    if args.capacity.is_some_and(|rate| !(1.0..=1e7).contains(&rate)) {
        return Err("--capacity takes requests a second".to_owned());
    }
    if !(0.05..=1.0).contains(&args.server_share) {
        return Err(format!("--server-share takes 0.05 to 1, not {}", args.server_share));
    }
    let group = (args.server_share < 1.0)
        .then(|| Group::new("share", PERIOD_MIN_US, args.server_share))
        .transpose()
        .map_err(|why| format!("--server-share: {why}"))?
        .map(|group| (group, args.server_share));
    let folder = Folder::named("bench-suite")?;
    let workshop = Workshop {
        root: PathBuf::new(),
        folder: folder.0.clone(),
        quick: args.quick,
        no_build: args.no_build,
        load_cpu: args.load_cpu,
        group: None,
    }
    .at_its_place(args.repo.as_deref())?;
    let (command, ours) = match &args.ours {
        Some(command) => (command.clone(), command.clone()),
        None => workshop.ours()?,
    };
    open_files::allow(FILES)?;
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default();
    let (begun, start) = (now.to_string(), Instant::now());
    let out = args
        .out
        .as_ref()
        .map(|out| told::dated(out, &begun, "suite"))
        .transpose()?;
    let mut machine = Machine::read();
    let mut stage = Stage {
        command,
        workers: args.workers,
        seconds,
        warmup: (seconds / 10.0).clamp(0.1, 1.0),
        quick: args.quick,
        soak_seconds,
        server_cpu: args.server_cpu,
        load_cpu: args.load_cpu,
        group,
        capacity: args.capacity,
        out: out.clone(),
        stores: Cell::new(0),
        workshop,
    };
    let is_wanted = |name: &&str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    let suites: Vec<Suite> = NAMES
        .into_iter()
        .filter(is_wanted)
        .map(|name| one(&mut stage, name))
        .collect();
    machine.load_after = machine::load();
    let report = Report {
        format: FORMAT.to_owned(),
        begun,
        seconds: start.elapsed().as_secs_f64(),
        command: told::typed(),
        note: args.note.clone(),
        version: Version {
            bench: env!("CARGO_PKG_VERSION").to_owned(),
            commit: machine::commit(&stage.workshop.root),
            ours: stage.workshop.told(&ours),
        },
        machine,
        settings: Settings {
            quick: args.quick,
            seconds,
            workers: args.workers,
            server_cpu: args.server_cpu,
            load_cpu: args.load_cpu,
            server_share: args.server_share,
            capacity: stage.capacity,
        },
        cautions: cautions(args, &suites),
        suites,
    };
    publish(args, out.as_deref(), &report)?;
    Ok(ExitCode::from(exit_code(&report.suites, args.accept_generator_limits)))
}

/// Runs a suite; whatever goes wrong stands in it, and the next one's turn comes.
fn one(stage: &mut Stage, name: &str) -> Suite {
    let begun = Instant::now();
    let found = match name {
        "start" => start::run(stage),
        "arena" => arena::run(stage),
        "guide" => rates::guide(stage),
        "saturation" => rates::saturation(stage),
        "latency" => rates::latency(stage),
        "churn" => clients::churn(stage),
        "slow" => clients::slow(stage),
        "neighbour" => neighbour::run(stage),
        "cores" => cores::run(stage),
        _ => soak::run(stage),
    };
    let mut steps = found.unwrap_or_else(|why| {
        let why = stage.workshop.told(&why);
        eprintln!("{name}: broke: {why}");
        vec![Step::without_run("suite", "the suite itself", State::Broken, Some(why))]
    });
    for step in &mut steps {
        step.reasons = step.reasons.iter().map(|why| stage.workshop.told(why)).collect();
    }
    Suite {
        name: name.to_owned(),
        what: what(name).to_owned(),
        state: steps.iter().map(|step| step.state).max().unwrap_or(State::Skipped),
        seconds: begun.elapsed().as_secs_f64(),
        steps,
    }
}

fn exit_code(suites: &[Suite], accepts_limits: bool) -> u8 {
    let has = |state| {
        suites
            .iter()
            .flat_map(|suite| &suite.steps)
            .any(|step| step.state == state)
    };
    if has(State::Failed) {
        EXIT_MISSED_THRESHOLD
    } else if has(State::Broken) {
        EXIT_FOUND_ERRORS
    } else if has(State::Unsound) && !accepts_limits {
        EXIT_GENERATOR_LIMIT
    } else {
        0
    }
}

fn cautions(args: &Args, suites: &[Suite]) -> Vec<String> {
    let mut found = Vec::new();
    if args.quick {
        found.push("a quick run: short steps, and built without link-time optimisation".to_owned());
    }
    if cfg!(debug_assertions) {
        found.push("the generator is a debug build".to_owned());
    }
    // `cores` pins its servers itself, and has its load everywhere.
    let are_pinned = args.server_cpu.is_some() && args.load_cpu.is_some() && args.server_cpu != args.load_cpu;
    if !are_pinned && suites.iter().any(|suite| suite.name != "cores") {
        found.push("server and load were not pinned to CPUs of their own (--server-cpu, --load-cpu)".to_owned());
    }
    let steps = || suites.iter().flat_map(|suite| &suite.steps);
    let bounds = steps().filter(|step| step.is_lower_bound).count();
    if bounds > 0 {
        found.push(format!(
            "in {bounds} closed loops the generator was busy all the time, or the server did not use up its quota: their requests/s \
             are lower bounds"
        ));
    }
    if steps().any(|step| step.name == "capacity" && step.is_lower_bound) {
        found.push(
            "the capacity is what generator and server do together: shares of it are shares of less than the server can do"
                .to_owned(),
        );
    }
    found
}

fn publish(args: &Args, out: Option<&Path>, report: &Report) -> Result<(), String> {
    let json = sonic_rs::to_string_pretty(report).map_err(|e| format!("cannot write the report: {e}"))?;
    let page = report.markdown();
    let put = |path: &Path, text: &str| {
        std::fs::write(path, format!("{}\n", text.trim_end()))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    if let Some(path) = &args.json {
        put(path, &json)?;
    }
    if let Some(out) = out {
        put(&out.join("suite.json"), &json)?;
        put(&out.join("README.md"), &page)?;
        eprintln!("kept in {}", out.display());
    }
    crate::print_report(false, &(), |()| page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(states: &[State]) -> Suite {
        let step = |state: &State| Step::without_run("a", "b", *state, None);
        Suite {
            name: "x".to_owned(),
            what: String::new(),
            state: State::Passed,
            seconds: 0.0,
            steps: states.iter().map(step).collect(),
        }
    }

    #[test]
    fn what_is_known_to_fail_comes_before_what_is_not_known() {
        let code = |states: &[State]| exit_code(&[suite(states)], false);
        assert_eq!(code(&[State::Passed, State::Skipped]), 0);
        assert_eq!(code(&[State::Unsound, State::Passed]), EXIT_GENERATOR_LIMIT);
        assert_eq!(code(&[State::Unsound, State::Broken]), EXIT_FOUND_ERRORS);
        assert_eq!(code(&[State::Broken, State::Failed]), EXIT_MISSED_THRESHOLD);
        assert_eq!(exit_code(&[suite(&[State::Unsound])], true), 0);
    }

    #[test]
    fn a_check_fails_a_step_but_says_nothing_of_one_that_is_not_sound() {
        let mut step = Step::without_run("a", "b", State::Passed, None);
        step.check("x>1", 0.5, false);
        assert_eq!((step.state, step.reasons.len()), (State::Passed, 0));
        step.check("x>1", 2.0, true);
        assert_eq!((step.state, step.reasons.len()), (State::Failed, 1));
        let mut step = Step::without_run("a", "b", State::Unsound, None);
        step.check("x>1", 2.0, true);
        assert_eq!(step.state, State::Unsound);
    }
}
