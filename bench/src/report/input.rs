//! Committed results, read back: what `load --json-file` and `compare` write (bench/schema/).
//!
//! Only what the page shows is read, and what a later version adds is passed over; which of the two a file is stands in
//! its first member.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Everything found below a folder.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Runs of the load generator, by name of their file.
    pub(super) runs: Vec<Run>,
    /// Comparisons with peers, by name of their file: names (of files or of folders) begin with the date, so the last is
    /// the latest.
    pub(super) comparisons: Vec<Comparison>,
    /// Files that are neither, with the reason.
    pub(super) passed_over: Vec<String>,
}

impl Inputs {
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

/// A run of `roadtrip-bench compare`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Comparison {
    #[serde(skip)]
    pub(super) file: String,
    /// Its folder: a comparison may be made in several sittings.
    #[serde(skip)]
    pub(super) group: String,
    pub(super) begun: String,
    pub(super) command: String,
    pub(super) note: Option<String>,
    pub(super) version: Version,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) noise: Vec<Noise>,
    pub(super) peers: Vec<Peer>,
    pub(super) budgets: Vec<Budget>,
    pub(super) cautions: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Version {
    pub(super) ours: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cpus: u32,
    pub(super) kernel: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Settings {
    pub(super) quick: bool,
    pub(super) pairs: u32,
    pub(super) connections: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Noise {
    pub(super) scenario: String,
    pub(super) requests_per_cpu_second: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) fairness: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) rows: Vec<Row>,
    pub(super) idle: Option<Idle>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    pub(super) scenario: String,
    pub(super) a: Figures,
    pub(super) b: Figures,
    pub(super) requests_per_cpu_second: Estimate,
    pub(super) p99: Estimate,
    pub(super) errors: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Figures {
    pub(super) cpu_us_per_request: f64,
}

/// A ratio of the service to a peer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Estimate {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) verdict: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Idle {
    pub(super) b_median: f64,
    pub(super) a_median: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Budget {
    pub(super) what: String,
    pub(super) outcome: String,
    pub(super) words: String,
}

/// What both begin with.
#[derive(Deserialize)]
struct Kind {
    schema: Option<String>,
    format: Option<String>,
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
    match (kind.schema.as_deref(), kind.format.as_deref()) {
        (Some("roadtrip-bench/run/1"), _) => {
            let mut run: Run = sonic_rs::from_slice(&bytes).map_err(plain)?;
            run.group = group;
            run.file = file.to_owned();
            inputs.runs.push(run);
        }
        (_, Some("roadtrip-bench compare 1")) => {
            let mut comparison: Comparison = sonic_rs::from_slice(&bytes).map_err(plain)?;
            comparison.file = file.to_owned();
            comparison.group = group;
            inputs.comparisons.push(comparison);
        }
        _ => return Err("neither a run nor a comparison of a version that is known here".to_owned()),
    }
    Ok(())
}
