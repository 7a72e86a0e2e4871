//! What suites found: what bench/schema/suite.schema.json describes, and the same as Markdown. `report` reads it back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::load::{Judged, Percentiles};
use crate::machine::{Machine, Version};

/// What a file of this kind is named.
pub(crate) const FORMAT: &str = "roadtrip-bench suite 1";

/// The step that says what of latencies is the machine's.
pub(crate) const HICCUPS: &str = "hiccups";

/// What became of a step or a suite; the later the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It could not be done here.
    Skipped,
    /// Everything asked of it holds.
    Passed,
    /// The generator was the limit: nothing is said of the server.
    Unsound,
    /// Answers were wrong or did not come, or it could not be measured.
    Broken,
    /// Something asked of it does not hold.
    Failed,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Passed => "passed",
            Self::Unsound => "not sound",
            Self::Broken => "broken",
            Self::Failed => "FAILED",
        }
    }
}

/// One load of a suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) state: State,
    /// Why it is not `passed`.
    pub(crate) reasons: Vec<String>,
    /// The whole run, by run.schema.json, from the folder of this file.
    pub(crate) file: Option<String>,
    /// What `roadtrip-bench load` would have to be asked for the same.
    pub(crate) command: Option<String>,
    /// Requests a second asked for; none in the closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    /// Closed loop, and the generator was busy: the server may do more.
    pub(crate) is_lower_bound: bool,
    pub(crate) latency_us: Percentiles,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) cpu_us_per_request: Option<f64>,
    /// CPUs that the server used.
    pub(crate) cpu_utilisation: Option<f64>,
    pub(crate) checks: Vec<Judged>,
    pub(crate) generator_limits: Vec<String>,
    /// What only some steps have; the unit is in the name.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Step {
    /// One that has no run.
    pub(crate) fn without_run(name: &str, what: &str, state: State, reason: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            state,
            reasons: reason.into_iter().collect(),
            file: None,
            command: None,
            rate: None,
            requests: 0,
            requests_per_second: 0.0,
            is_lower_bound: false,
            latency_us: Percentiles::default(),
            errors: 0,
            first_error: None,
            cpu_us_per_request: None,
            cpu_utilisation: None,
            checks: Vec::new(),
            generator_limits: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    /// Holds a condition of the suite's own against it.
    pub(crate) fn check(&mut self, fail_if: &str, value: f64, failed: bool) {
        self.checks.push(Judged {
            fail_if: fail_if.to_owned(),
            value,
            failed,
        });
        if failed && self.state != State::Unsound {
            self.state = State::Failed;
        }
        if failed {
            self.reasons.push(format!("{fail_if} holds: {value:.4}"));
        }
    }
}

/// One suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) state: State,
    pub(crate) seconds: f64,
    pub(crate) steps: Vec<Step>,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) seconds: f64,
    pub(crate) workers: u32,
    pub(crate) server_cpu: Option<usize>,
    pub(crate) load_cpu: Option<usize>,
    /// CPUs that a server got; 1: no quota. Servers of `neighbour` and `cores` have quotas of their own.
    #[serde(default = "whole")]
    pub(crate) server_share: f64,
    /// Requests a second taken as what the server can do.
    pub(crate) capacity: Option<f64>,
}

/// Files of before there were shares.
fn whole() -> f64 {
    1.0
}

impl Settings {
    pub(crate) fn has_share(&self) -> bool {
        self.server_share < 1.0
    }

    /// Behind other settings: what a server had of a CPU.
    pub(crate) fn share_in_words(&self) -> String {
        if self.has_share() {
            format!(
                "; each server on {} of a CPU by the quota of a control group, except in neighbour and cores",
                self.server_share
            )
        } else {
            String::new()
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: String,
    pub(crate) begun: String,
    pub(crate) seconds: f64,
    pub(crate) command: String,
    pub(crate) note: Option<String>,
    pub(crate) version: Version,
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    pub(crate) suites: Vec<Suite>,
    pub(crate) cautions: Vec<String>,
}

impl Report {
    /// For people.
    pub(crate) fn markdown(&self) -> String {
        let (machine, settings) = (&self.machine, &self.settings);
        let mut out = String::from("# Suites\n");
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n    {}\n\n{}; {}; begun {}, {:.0} s. {}, {} CPUs, Linux {}; load average before `{}`, after `{}`. {} s a step, {} \
             worker(s){}{}.\n",
            self.command,
            self.version.ours,
            self.version.commit.as_deref().unwrap_or("no commit"),
            self.begun,
            self.seconds,
            machine.cpu,
            machine.cpus,
            machine.kernel,
            machine.load_before,
            machine.load_after,
            settings.seconds,
            settings.workers,
            settings.share_in_words(),
            settings.capacity.map_or(String::new(), |rate| format!(
                "; capacity taken: {rate:.0} requests/s of the cached story"
            ))
        );
        if let Some(note) = &self.note {
            let _ = write!(out, "\n{note}\n");
        }
        for caution in &self.cautions {
            let _ = write!(out, "\n> **Caution.** {caution}\n");
        }
        out.push_str("\n| suite | outcome | steps | seconds |\n| --- | --- | ---: | ---: |\n");
        for suite in &self.suites {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:.1} |",
                suite.name,
                suite.state.word(),
                suite.steps.len(),
                suite.seconds
            );
        }
        for suite in &self.suites {
            let _ = write!(out, "\n## {}\n\n{}\n", suite.name, suite.what);
            out.push_str(
                "\n| step | outcome | asked/s | answered/s | p50 us | p99 us | p99.9 us | errors | server CPU us/request | CPUs | more |\n\
                 | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
            );
            for step in &suite.steps {
                let _ = writeln!(out, "| {} |", row(step).join(" | "));
            }
            for step in suite.steps.iter().filter(|step| !step.reasons.is_empty()) {
                let _ = write!(
                    out,
                    "\n- {}, {}: {}",
                    step.name,
                    step.state.word(),
                    step.reasons.join("; ")
                );
            }
            if suite.steps.iter().any(|step| !step.reasons.is_empty()) {
                out.push('\n');
            }
        }
        out.push_str(
            "\n`>=`: the generator was busy all the time, or the server did not use up its quota, so it may do more; its CPU a \
             request stands. *not sound*: the generator was the limit, and the figures say nothing of the server. *skipped*: it \
             could not be done here.\n",
        );
        out
    }
}

/// The cells of a step; also for the page of `report`.
pub(crate) fn row(step: &Step) -> Vec<String> {
    let had_a_run = step.requests > 0;
    let us = |value: f64| {
        if had_a_run {
            format!("{value:.0}")
        } else {
            "-".to_owned()
        }
    };
    let more: Vec<String> = step
        .figures
        .iter()
        .map(|(name, value)| match name.strip_prefix("share") {
            Some(_) => format!("{}: {:.0} %", name.replace('_', " "), value * 100.0),
            None => format!("{}: {}", name.replace('_', " "), short(*value)),
        })
        .collect();
    vec![
        format!("{}: {}", step.name, step.what),
        step.state.word().to_owned(),
        step.rate.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        if had_a_run {
            let mark = if step.is_lower_bound { ">= " } else { "" };
            format!("{mark}{:.0}", step.requests_per_second)
        } else {
            "-".to_owned()
        },
        us(step.latency_us.p50),
        us(step.latency_us.p99),
        us(step.latency_us.p999),
        if had_a_run {
            step.errors.to_string()
        } else {
            "-".to_owned()
        },
        step.cpu_us_per_request.map_or("-".to_owned(), |us| format!("{us:.2}")),
        step.cpu_utilisation.map_or("-".to_owned(), |cpus| format!("{cpus:.2}")),
        more.join("; "),
    ]
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}
