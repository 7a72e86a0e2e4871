//! Committed results, read back: what `load --json-file`, `compare`, `suite` and `life` write (bench/schema/).
//!
//! What a later version adds is passed over. Of runs, which are many, only what the page shows is read; the others are read
//! into what wrote them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{compare, life, suite};

/// Everything found below a folder.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Runs of the load generator, by name of their file.
    pub(super) runs: Vec<Run>,
    /// Comparisons with peers, by name of their file: names (of files or of folders) begin with the date, so the last is
    /// the latest.
    pub(super) comparisons: Vec<Comparison>,
    /// Suites, the latest last.
    pub(super) suites: Vec<Kept<suite::Report>>,
    /// Lives, the latest last.
    pub(super) lives: Vec<Kept<life::Report>>,
    /// Files that are neither, with the reason.
    pub(super) passed_over: Vec<String>,
}

impl Inputs {
    /// The suites that are shown: the latest that was no quick one; else the latest.
    pub(super) fn suite(&self) -> Option<&Kept<suite::Report>> {
        let whole = self.suites.iter().rev().find(|one| !one.report.settings.quick);
        whole.or(self.suites.last())
    }

    /// Runs that are steps of no suite.
    pub(super) fn single(&self) -> Vec<Run> {
        let is_step = |run: &Run| self.suites.iter().any(|one| one.has(run));
        self.runs.iter().filter(|run| !is_step(run)).cloned().collect()
    }

    /// What suites measured, the latest first: as evidence a quick one counts only where there is no other.
    pub(super) fn evidence(&self) -> impl Iterator<Item = &Kept<suite::Report>> {
        let are_quick = self.suite().is_some_and(|shown| shown.report.settings.quick);
        let all = self.suites.iter().rev();
        all.filter(move |one| one.report.settings.quick == are_quick)
    }

    /// Runs of these suites of what is shown.
    pub(super) fn steps(&self, names: &[&str]) -> Vec<Run> {
        self.suite().map_or(vec![], |shown| self.steps_of(shown, names))
    }

    /// Runs of these suites of one file.
    pub(super) fn steps_of(&self, shown: &Kept<suite::Report>, names: &[&str]) -> Vec<Run> {
        let is_of = |run: &Run| names.iter().any(|name| run.group.rsplit('/').next() == Some(name));
        self.runs
            .iter()
            .filter(|run| shown.has(run) && is_of(run))
            .cloned()
            .collect()
    }

    /// The latest comparison, in all of its sittings.
    pub(super) fn latest(&self) -> Vec<&Comparison> {
        let Some(last) = self.comparisons.last() else {
            return vec![];
        };
        let beside = |other: &&Comparison| other.group == last.group && !last.group.is_empty();
        let sittings: Vec<&Comparison> = self.comparisons.iter().filter(beside).collect();
        if sittings.is_empty() { vec![last] } else { sittings }
    }
}

/// A run of `roadtrip-bench load`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Run {
    /// File, from the folder of runs.
    #[serde(skip)]
    pub(super) file: String,
    /// Runs in one folder belong together: a curve is made of them.
    #[serde(skip)]
    pub(super) group: String,
    pub(super) command: Vec<String>,
    pub(super) started_at: String,
    pub(super) host: Host,
    pub(super) target: Target,
    pub(super) scenario: Scenario,
    pub(super) mode: Mode,
    pub(super) connections: u32,
    pub(super) rate: Option<f64>,
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) latency_us: Latency,
    pub(super) error_count: u64,
    pub(super) generator_limits: Vec<String>,
    pub(super) spectrum: Vec<Step>,
    pub(super) server: Option<Server>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Host {
    pub(super) cpu: String,
    pub(super) cores: u32,
    pub(super) kernel: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Target {
    pub(super) url: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Scenario {
    pub(super) name: String,
}

/// Who decides when a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// A schedule.
    Open,
    /// The answer before.
    Closed,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Step {
    pub(super) percentile: f64,
    pub(super) us: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Server {
    pub(super) user_us_per_request: f64,
    pub(super) system_us_per_request: f64,
    pub(super) cpu_utilisation: f64,
    #[serde(default)]
    pub(super) per_thread: Vec<Thread>,
    #[serde(default)]
    pub(super) workers: Vec<Worker>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Thread {
    pub(super) name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Worker {}

impl Run {
    /// Workers of the server, by what it says of itself, or by the names of its threads.
    pub(super) fn workers(&self) -> Option<usize> {
        let server = self.server.as_ref()?;
        let named = server
            .per_thread
            .iter()
            .filter(|thread| thread.name.starts_with("worker-"))
            .count();
        Some(server.workers.len().max(named)).filter(|&workers| workers > 0)
    }

    /// Whether its latency says anything about the server.
    pub(super) fn is_sound(&self) -> bool {
        self.generator_limits.is_empty() && self.error_count == 0
    }

    /// Name in a table or a key.
    pub(super) fn label(&self) -> String {
        let stem = self.file.rsplit('/').next().unwrap_or(&self.file);
        stem.strip_suffix(".json").unwrap_or(stem).to_owned()
    }
}

/// What a file holds, and where it was.
#[derive(Clone, Debug)]
pub(super) struct Kept<R> {
    pub(super) file: String,
    /// Its folder: a comparison may be made in several sittings.
    pub(super) group: String,
    pub(super) report: R,
}

impl Kept<suite::Report> {
    /// The file of a step, from the folder of runs; where the step has none, this one.
    pub(super) fn file_of(&self, step: &suite::Step) -> String {
        match (step.file.as_deref(), self.group.as_str()) {
            (None, _) => self.file.clone(),
            (Some(file), "") => file.to_owned(),
            (Some(file), group) => format!("{group}/{file}"),
        }
    }

    /// Whether a run is one of its steps.
    pub(super) fn has(&self, run: &Run) -> bool {
        let below = if self.group.is_empty() {
            String::new()
        } else {
            format!("{}/", self.group)
        };
        let name = run.file.strip_prefix(&below);
        let steps = self.report.suites.iter().flat_map(|suite| &suite.steps);
        name.is_some()
            && steps
                .filter_map(|step| step.file.as_deref())
                .any(|file| Some(file) == name)
    }
}

/// A run of `roadtrip-bench compare`.
pub(super) type Comparison = Kept<compare::Report>;

/// What they are told apart by.
#[derive(Deserialize)]
struct Kind {
    schema: Option<String>,
    format: Option<String>,
    /// The first files of `life` say nothing else of themselves.
    is_sound: Option<bool>,
}

/// Folders in folders, at most.
const DEPTH_MAX: u32 = 4;

/// Reads every `.json` below `folder`.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn read(folder: &Path) -> Result<Inputs, String> {
    let mut files = Vec::new();
    collect(folder, DEPTH_MAX, &mut files)?;
    files.sort();
    let mut inputs = Inputs::default();
    for path in files {
        let file = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        if let Err(why) = take(&mut inputs, &path, &file) {
            inputs.passed_over.push(format!("{file}: {why}"));
        }
    }
    Ok(inputs)
}

fn collect(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if depth > 0 {
                collect(&path, depth.saturating_sub(1), files)?;
            }
        } else if path.extension().is_some_and(|ext| ext == "json") {
            files.push(path);
        }
    }
    Ok(())
}

fn take(inputs: &mut Inputs, path: &Path, file: &str) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    // The first line of the error names the fault; the rest quotes the file.
    let plain = |e: sonic_rs::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let kind: Kind = sonic_rs::from_slice(&bytes).map_err(plain)?;
    let group = file
        .rsplit_once('/')
        .map_or(String::new(), |(folder, _)| folder.to_owned());
    let file = file.to_owned();
    match (kind.schema.as_deref(), kind.format.as_deref(), kind.is_sound) {
        (Some("roadtrip-bench/run/1"), ..) => {
            let mut run: Run = sonic_rs::from_slice(&bytes).map_err(plain)?;
            (run.file, run.group) = (file, group);
            inputs.runs.push(run);
        }
        (_, Some(compare::FORMAT), _) => {
            let report = sonic_rs::from_slice(&bytes).map_err(plain)?;
            inputs.comparisons.push(Kept { file, group, report });
        }
        (_, Some(suite::FORMAT), _) => {
            let report = sonic_rs::from_slice(&bytes).map_err(plain)?;
            inputs.suites.push(Kept { file, group, report });
        }
        (_, Some(life::FORMAT), _) | (None, None | Some(""), Some(_)) => {
            let report = sonic_rs::from_slice(&bytes).map_err(plain)?;
            inputs.lives.push(Kept { file, group, report });
        }
        _ => {
            return Err("neither a run nor a comparison, a suite or a life of a version that is known here".to_owned());
        }
    }
    Ok(())
}
