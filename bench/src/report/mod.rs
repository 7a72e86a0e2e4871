//! `report`: one page of everything measured, from the runs that are committed.
//!
//! The page is HTML with its drawings and its style in it (no script, nothing fetched), and the same in Markdown without
//! the drawings. Nothing is computed here that the runs do not hold, but for the fit of the universal scalability law.

mod budgets;
mod cores;
mod curves;
mod evidence;
mod input;
mod page;
mod peers;
mod suites;
mod svg;
mod usl;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use input::Inputs;
use page::{Block, Section, Table};

/// Make a page with plots from committed runs
///
/// Reads every .json below the folder: what `load --json-file`, `compare` and `suite` write (bench/schema), and `life --json`.
/// Runs in one folder make one curve. Of comparisons, suites, lives and soaks the last by name is shown; of comparisons with
/// those in the same folder, of suites rather one that was not quick. The first section is the design's budgets, met or missed
/// by these runs: a budget that the suites shown do not measure is held against earlier ones.
#[derive(clap::Args)]
#[command(after_help = "Example:
  roadtrip-bench report --runs bench/runs --html bench/runs/report.html --markdown bench/runs/report.md
  roadtrip-bench report --budgets bench/runs/budgets.md")]
pub(crate) struct Args {
    /// Folder of the runs
    #[arg(long, value_name = "FOLDER", default_value = "bench/runs")]
    runs: PathBuf,
    /// Where the page goes
    #[arg(long, value_name = "FILE", default_value = "bench/runs/report.html")]
    html: PathBuf,
    /// Where the Markdown goes
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Where the table of the budgets goes alone, as Markdown
    #[arg(long, value_name = "FILE")]
    budgets: Option<PathBuf>,
    /// The page's title
    #[arg(long, default_value = "roadtrip-api: what was measured")]
    title: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let inputs = input::read(&args.runs)?;
    let found = [
        inputs.runs.len(),
        inputs.comparisons.len(),
        inputs.suites.len(),
        inputs.lives.len(),
    ];
    if found.iter().all(|&count| count == 0) {
        return Err(format!(
            "{} holds no run and no comparison, suite or life{}",
            args.runs.display(),
            inputs
                .passed_over
                .iter()
                .map(|why| format!("\n  {why}"))
                .collect::<String>()
        ));
    }
    let sections = sections(&inputs, &args.runs);
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    write(&args.html, page::html(&args.title, &sections))?;
    if let Some(path) = &args.markdown {
        write(path, page::markdown(&args.title, &sections))?;
    }
    if let Some(path) = &args.budgets {
        write(path, page::markdown(&args.title, sections.get(..1).unwrap_or_default()))?;
    }
    let [runs, comparisons, suites, lives] = found;
    eprintln!(
        "{runs} runs, {comparisons} comparisons, {suites} suites, {lives} lives, {} files passed over: {}",
        inputs.passed_over.len(),
        args.html.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn sections(inputs: &Inputs, folder: &Path) -> Vec<Section> {
    let latest = inputs.latest();
    // The budgets come first: `--budgets` is of the first alone.
    let mut sections = vec![budgets::section(inputs, folder)];
    sections.extend(
        latest
            .iter()
            .enumerate()
            .map(|(sitting, one)| peers::ratios(one, sitting)),
    );
    sections.extend(suites::suites(inputs));
    let single = inputs.single();
    // Steps of a suite make a curve where they differ by their rate alone.
    let with = |names: &[&str]| [single.clone(), inputs.steps(names)].concat();
    sections.extend(curves::throughput_latency(&with(&["saturation", "latency"])));
    sections.extend(curves::spectra(&with(&["saturation", "latency", "slow"])));
    sections.extend(curves::cpu(&with(&["arena", "latency"])));
    sections.extend(curves::scaling(&single));
    sections.extend(cores::section(inputs));
    sections.extend(suites::lives(inputs));
    sections.push(evidence(inputs));
    sections
}

/// Where every figure comes from.
fn evidence(inputs: &Inputs) -> Section {
    let rows = inputs.runs.iter().map(|run| {
        vec![
            run.file.clone(),
            run.started_at.clone(),
            format!("{}, {} CPUs, Linux {}", run.host.cpu, run.host.cores, run.host.kernel),
            format!("{}, {}", run.scenario.name, run.target.url),
            format!("`{}`", crate::told::line(&run.command)),
        ]
    });
    let mut blocks = vec![Block::Table(Table {
        caption: "Runs of the load generator on this page".to_owned(),
        head: vec!["file", "begun", "machine", "scenario", "command"],
        rows: rows.collect(),
    })];
    let shown: Vec<&str> = inputs.latest().iter().map(|one| one.file.as_str()).collect();
    let others = inputs
        .comparisons
        .iter()
        .filter(|other| !shown.contains(&other.file.as_str()));
    let mut others: Vec<String> = others.map(|other| format!("`{}`", other.file)).collect();
    let suite = inputs.suite().map(|shown| shown.file.as_str());
    let suites = inputs.suites.iter().filter(|other| Some(other.file.as_str()) != suite);
    others.extend(suites.map(|other| format!("`{}`", other.file)));
    if !others.is_empty() {
        blocks.push(Block::Text(format!(
            "Other comparisons and suites, whose tables are not shown: {}.",
            others.join(", ")
        )));
    }
    blocks.extend(
        inputs
            .passed_over
            .iter()
            .map(|why| Block::Caution(format!("Passed over: {why}"))),
    );
    Section {
        heading: "Evidence".to_owned(),
        blocks,
    }
}
