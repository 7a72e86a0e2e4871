//! `roadtrip-bench`: the load generator, the floor server and the measurements behind every figure that the
//! project quotes. One file (or folder) per subcommand.
//!
//! Who may call it: people and test scripts, from the command line. It knows the service by its outside (HTTP over TCP,
//! and what the kernel says of the process). Of the service's crate it takes the runtime, which carries the generator as it
//! carries the server, and nothing of its HTTP: a yardstick must not share that with what it measures. Deliberately absent:
//! any load aimed beyond what the command line names.
//!
//! Exit codes: 0 the run is sound; 1 it ran, and what it measured has errors or misses a limit; 2 it could not run; 3 a
//! threshold of `load` was missed; 4 the generator of `load` was the limit, and its figures say nothing of the server.

mod answer;
mod clock;
mod compare;
mod cost;
mod flame;
mod floor;
mod group;
mod guard;
mod hiccups;
mod idle;
mod life;
mod load;
mod machine;
mod open_files;
mod overload;
mod procfs;
mod ratchet;
mod refuse;
mod report;
mod server;
mod spread;
mod stats;
mod suite;
mod target;
mod tiers;
mod told;
mod wakes;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code where the run took place and found errors or a missed limit.
const EXIT_FOUND_ERRORS: u8 = 1;
/// Exit code where nothing could be measured.
const EXIT_COULD_NOT_RUN: u8 = 2;
/// Exit code where a condition that was to fail the run holds.
const EXIT_MISSED_THRESHOLD: u8 = 3;
/// Exit code where the generator was the limit.
const EXIT_GENERATOR_LIMIT: u8 = 4;

#[derive(Parser)]
#[command(
    name = "roadtrip-bench",
    version,
    about = "Load generator, floor server and measurements for roadtrip-api"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Floor(floor::Args),
    Load(Box<load::Args>),
    Cost(cost::Args),
    Compare(compare::Args),
    Hiccups(hiccups::Args),
    Idle(idle::Args),
    Life(life::Args),
    Overload(overload::Args),
    Spread(spread::Args),
    #[command(name = "flamegraph")]
    Flame(flame::Args),
    Ratchet(ratchet::Args),
    Report(report::Args),
    Suite(Box<suite::Args>),
    Tiers(tiers::Args),
    Wakes(wakes::Args),
    RefuseUring(refuse::Args),
    Guard(guard::Args),
}

/// Prints what a subcommand found: as JSON, or as its text. A reader that has gone (a closed pipe) is an error.
fn print_report<R: serde::Serialize>(as_json: bool, report: &R, text: impl FnOnce(&R) -> String) -> Result<(), String> {
    let told = if as_json {
        sonic_rs::to_string_pretty(report).map_err(|e| format!("cannot write the report: {e}"))?
    } else {
        text(report)
    };
    writeln!(std::io::stdout(), "{told}").map_err(|e| format!("cannot print the report: {e}"))
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Floor(args) => floor::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Cost(args) => cost::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Hiccups(args) => hiccups::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Life(args) => life::run(&args),
        Command::Overload(args) => overload::run(&args),
        Command::Spread(args) => spread::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Ratchet(args) => ratchet::run(&args),
        Command::Flame(args) => flame::run(&args),
        Command::Suite(args) => suite::run(&args),
        Command::Tiers(args) => tiers::run(&args),
        Command::Wakes(args) => wakes::run(&args),
        Command::RefuseUring(args) => refuse::run(&args),
        Command::Guard(args) => guard::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(why) => {
            eprintln!("roadtrip-bench: {why}");
            ExitCode::from(EXIT_COULD_NOT_RUN)
        }
    }
}
