//! `flamegraph`: where the server's CPU time goes, drawn for each hot scenario, and beside the last committed drawing.
//!
//! perf samples `cpu-clock`, a timer, which is there without hardware counters (virtual machines, CI), with the stack's
//! bytes copied and unwound by call frame information, because release builds keep no frame pointer. Folding and drawing
//! is inferno's. Not a measurement of speed: shares only, and a frame below a per cent or so is noise.

mod drive;
mod record;
mod scenario;

use std::path::PathBuf;
use std::process::ExitCode;

/// Record and draw on-CPU flame graphs of the server's hot scenarios
///
/// For each scenario: starts the server with one worker, loads it, records with perf, and writes NAME.svg and
/// NAME.folded.gz into the folder; where a NAME.folded.gz was there already, NAME.diff.svg as well, which is red where there
/// is more than before. The server must be built with line tables (the profiles release and max are). Needs perf and
/// h2load; openssl for the scenario tls, and PostgreSQL for the scenario postgres.
#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo build --profile max --workspace
  target/max/roadtrip-bench flamegraph --server target/max/roadtrip-api")]
pub(crate) struct Args {
    /// The server's binary, with its symbols
    #[arg(long, value_name = "FILE")]
    server: PathBuf,
    /// Where drawings and stacks are kept
    #[arg(long, value_name = "FOLDER", default_value = "flamegraphs")]
    folder: PathBuf,
    /// Only these scenarios; all where none is named
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Seconds of each recording
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Samples a second
    #[arg(long, default_value_t = 499, value_parser = clap::value_parser!(u32).range(10..=5000))]
    frequency: u32,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    std::fs::create_dir_all(&args.folder).map_err(|e| format!("cannot make {}: {e}", args.folder.display()))?;
    for scenario in scenario::chosen(&args.only)? {
        let scratch = Scratch::new(scenario.name)?;
        let running = drive::start(&args.server, scenario, &scratch.0, args.seconds)?;
        let folded = record::fold(running.pid(), &scratch.0, args.seconds, args.frequency)?;
        running.end()?;
        let drawn = record::draw(&args.folder, scenario, &folded)?;
        eprintln!("{:<16} {drawn}", scenario.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self, String> {
        let number = crate::clock::now_ns();
        let path = std::env::temp_dir().join(format!("roadtrip-flame-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
