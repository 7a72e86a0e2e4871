//! `report`: one page of everything measured, from the runs that are committed.
//!
//! The page is HTML with its drawings and its style in it (no script, nothing fetched), and the same in Markdown without
//! the drawings. Nothing is computed here that the runs do not hold, but for the fit of the universal scalability law.

mod curves;
mod input;
mod page;
mod peers;
mod svg;
mod usl;

use std::path::PathBuf;
use std::process::ExitCode;

use input::Inputs;
use page::{Block, Section, Table};

/// Make a page with plots from committed runs
///
/// Reads every .json below the folder: what `load --json-file` writes (bench/schema/run.schema.json) and what `compare`
/// writes (bench/schema/compare.schema.json). Runs in one folder make one curve; of the comparisons the last by name is
/// shown, with those in the same folder.
#[derive(clap::Args)]
#[command(after_help = "Example:
  roadtrip-bench report --runs bench/runs --html bench/runs/report.html --markdown bench/runs/report.md")]
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
    /// The page's title
    #[arg(long, default_value = "roadtrip-api: what was measured")]
    title: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let inputs = input::read(&args.runs)?;
    if inputs.runs.is_empty() && inputs.comparisons.is_empty() {
        return Err(format!(
            "{} holds no run and no comparison{}",
            args.runs.display(),
            inputs
                .passed_over
                .iter()
                .map(|why| format!("\n  {why}"))
                .collect::<String>()
        ));
    }
    let sections = sections(&inputs);
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    write(&args.html, page::html(&args.title, &sections))?;
    if let Some(path) = &args.markdown {
        write(path, page::markdown(&args.title, &sections))?;
    }
    eprintln!(
        "{} runs, {} comparisons, {} files passed over: {}",
        inputs.runs.len(),
        inputs.comparisons.len(),
        inputs.passed_over.len(),
        args.html.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn sections(inputs: &Inputs) -> Vec<Section> {
    let latest = inputs.latest();
    let mut sections = vec![peers::budgets(&latest, &inputs.runs)];
    sections.extend(
        latest
            .iter()
            .enumerate()
            .map(|(sitting, one)| peers::ratios(one, sitting)),
    );
    sections.extend(curves::throughput_latency(&inputs.runs));
    sections.extend(curves::spectra(&inputs.runs));
    sections.extend(curves::cpu(&inputs.runs));
    sections.extend(curves::scaling(&inputs.runs));
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
            format!("`{}`", run.command.join(" ")),
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
    let others: Vec<String> = others.map(|other| format!("`{}`", other.file)).collect();
    if !others.is_empty() {
        blocks.push(Block::Text(format!(
            "Earlier comparisons, not shown: {}.",
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
