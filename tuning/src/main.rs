//! `roadtrip-tuning`: how many pods a load needs (`plan`), and whether a host is fit to run one (`check`).
//!
//! Who may call it: people and scripts, from the command line. It reads /proc and /sys and its own arguments, never
//! the service. Deliberately absent: anything that changes a host.
//!
//! Exit codes: 0 all well; 1 the plan does not fit its limits, or the host has something to warn of; 2 bad arguments.

mod check;
mod plan;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code where the answer is "not as it should be".
const EXIT_NOT_WELL: u8 = 1;
/// Exit code where the question made no sense.
const EXIT_BAD_QUESTION: u8 = 2;

#[derive(Parser)]
#[command(
    name = "roadtrip-tuning",
    version,
    about = "Capacity planning and host checks for roadtrip-api"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Plan(plan::Args),
    Check(check::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Plan(args) => plan::run(&args),
        Command::Check(args) => check::run(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NOT_WELL),
        Err(why) => {
            eprintln!("roadtrip-tuning: {why}");
            ExitCode::from(EXIT_BAD_QUESTION)
        }
    }
}
