//! The design's budgets (DESIGN.md, section 6) as a table: what is asked, what the runs on this page measured, and whether
//! that is met, in plain words. Nothing is filled in by hand; where no run has it, it is not measured.

use std::path::Path;

use super::evidence::{at_a_share_of_the_capacity, at_the_guides_rate, passed};
use super::input::{Comparison, Inputs};
use super::page::{Block, Section, Table};
use super::svg::figure;
use crate::compare::budgets::{self, Budget, Outcome};
use crate::stats::Interval;

/// Before anybody asks.
const COLD_START_MS: f64 = 100.0;
const IDLE_RSS_MB: f64 = 24.0;
const WAKE_UPS: f64 = 2.0;

/// A line of the table.
pub(super) struct Line {
    pub(super) what: String,
    asked: String,
    pub(super) measured: String,
    pub(super) outcome: Outcome,
    pub(super) words: String,
    pub(super) from: String,
}

impl Line {
    /// Of one value that must stay below a bound.
    pub(super) fn below(what: &str, bound: f64, unit: &str, measured: Option<(f64, String)>, missing: &str) -> Self {
        let asked = format!("below {} {unit}", figure(bound));
        match measured {
            None => Self {
                what: what.to_owned(),
                words: format!("not measured: {missing}; {asked} is asked"),
                asked,
                measured: "-".to_owned(),
                outcome: Outcome::NotMeasured,
                from: "-".to_owned(),
            },
            Some((value, from)) => {
                let outcome = if value < bound { Outcome::Met } else { Outcome::Missed };
                Self {
                    what: what.to_owned(),
                    measured: format!("{} {unit}", figure(value)),
                    words: format!("{}: {} {unit}, where {asked} is asked", outcome.words(), figure(value)),
                    asked,
                    outcome,
                    from,
                }
            }
        }
    }

    /// The same of a server that had a share of a CPU. What a quota adds is waiting, which is not the server's: below the bound
    /// it is met, and else nothing is shown. Met on a share only where the rate, too, is a part of what the share can do: at less
    /// a second than on a whole CPU not everything is asked for that would be there. `why`: what there is without a share.
    pub(super) fn at_most(
        what: &str,
        bound: f64,
        unit: &str,
        (value, share, from): (f64, f64, String),
        is_met: Outcome,
        why: &str,
    ) -> Self {
        let (asked, value_in_words) = (
            format!("below {} {unit}", figure(bound)),
            format!("{} {unit}", figure(value)),
        );
        let (outcome, more) = if value < bound {
            match is_met {
                Outcome::Met => (is_met, "a quota only adds waiting, so this is an upper bound"),
                _ => (
                    is_met,
                    "of what that can do; a quota only adds waiting, but the rate is smaller, too",
                ),
            }
        } else {
            (
                Outcome::NotShown,
                "an upper bound, as what the quota adds is not the server's",
            )
        };
        Self {
            what: what.to_owned(),
            words: format!(
                "{}: {value_in_words} on {share} of a CPU ({more}), where {asked} is asked; on a whole CPU: {why}",
                outcome.words()
            ),
            asked,
            measured: format!("at most {value_in_words} (on {share} of a CPU)"),
            outcome,
            from,
        }
    }

    fn of(budget: Budget, from: &str) -> Self {
        let unit = if budget.scenario == "idle" { " B" } else { "x" };
        let bound = match budget.rule {
            budgets::Rule::AtLeast => "at least",
            budgets::Rule::AtMost => "at most",
        };
        Self {
            what: budget.what,
            asked: format!("{bound} {}{unit}", budget.limit),
            measured: budget
                .measured
                .map_or("-".to_owned(), |value| format!("{}{unit}", figure(value))),
            from: match budget.outcome {
                Outcome::NotMeasured => "-".to_owned(),
                _ => from.to_owned(),
            },
            outcome: budget.outcome,
            words: budget.words,
        }
    }

    fn cells(self) -> Vec<String> {
        vec![
            self.what,
            self.asked,
            self.measured,
            self.outcome.words().to_owned(),
            self.words,
            self.from,
        ]
    }
}

/// The table. `beside` is the folder of the runs: what a request may allocate stands in the folder around it.
pub(super) fn section(inputs: &Inputs, beside: &Path) -> Section {
    let mut lines = of_comparisons(inputs);
    idle_of_the_suite(inputs, &mut lines);
    lines.push(at_the_guides_rate(inputs));
    lines.push(at_a_share_of_the_capacity(inputs));
    for (what, bound, unit, step, name, scale) in [
        (
            "cold start to ready, embedded store, median",
            COLD_START_MS,
            "ms",
            "cold-start",
            "median_ms",
            1.0,
        ),
        (
            "resident memory when nobody asks",
            IDLE_RSS_MB,
            "MB",
            "idle",
            "rss_bytes",
            1e-6,
        ),
        (
            "wake-ups of an idle worker",
            WAKE_UPS,
            "a second",
            "idle",
            "wake_ups_per_second_and_worker",
            1.0,
        ),
    ] {
        let found = passed(inputs, "start", |one| one.name == step);
        let value = found.as_ref().ok().and_then(|(step, kept)| {
            let value = step.figures.get(name)? * scale;
            Some((value, kept.file_of(step)))
        });
        let why = found.err().map_or(String::new(), |missing| missing.why);
        lines.push(Line::below(what, bound, unit, value, &why));
    }
    lines.push(allocations(beside));
    let count = |outcomes: &[Outcome]| lines.iter().filter(|line| outcomes.contains(&line.outcome)).count();
    let not_shown = match count(&[Outcome::NotShown]) {
        0 => String::new(),
        some => format!("{some} not shown (measured on a share of a CPU, above what is asked), "),
    };
    let on_a_share = match count(&[Outcome::MetOnAShare]) {
        0 => String::new(),
        some => format!("{some} met on a share of a CPU, "),
    };
    let mut blocks = vec![Block::Text(format!(
        "{} met, {on_a_share}{} missed, {not_shown}{} not measured in the runs of this page. A ratio is a median of pairs measured in turns; narrowly means \
         that its interval reaches across the limit, or that it is nearer to it than the service strays from itself.",
        count(&[Outcome::Met, Outcome::MetNarrowly]),
        count(&[Outcome::Missed, Outcome::MissedNarrowly]),
        count(&[Outcome::NotMeasured]),
    ))];
    if inputs.suite().is_some_and(|shown| shown.report.settings.quick) {
        blocks.push(Block::Caution(
            "what comes from a suite comes from a quick one, built without link-time optimisation".to_owned(),
        ));
    }
    if inputs.latest().iter().any(|sitting| sitting.report.settings.quick) {
        blocks.push(Block::Caution(
            "what comes from a comparison comes from a quick one, built without link-time optimisation".to_owned(),
        ));
    }
    blocks.push(Block::Table(Table {
        caption: "Budgets of the design, section 6".to_owned(),
        head: vec!["what", "asked", "measured", "outcome", "in words", "from"],
        rows: lines.into_iter().map(Line::cells).collect(),
    }));
    Section {
        heading: "Budgets".to_owned(),
        blocks,
    }
}

/// Those beside peers, judged anew by the rule of this version. Each sitting has measured some of them; what the latest have
/// not, earlier comparisons may, but no quick ones.
fn of_comparisons(inputs: &Inputs) -> Vec<Line> {
    let mut lines: Vec<Line> = budgets::all(&[])
        .into_iter()
        .map(|budget| Line::of(budget, "-"))
        .collect();
    let latest = inputs.latest();
    let is_other = |one: &&Comparison| !one.report.settings.quick && !latest.iter().any(|known| known.file == one.file);
    let earlier = inputs.comparisons.iter().rev().filter(is_other);
    for sitting in latest.iter().copied().chain(earlier) {
        for budget in budgets::all(&sitting.report.peers) {
            let fresh = Line::of(budget, &sitting.file);
            if let Some(line) = lines.iter_mut().find(|line| line.what == fresh.what)
                && line.outcome == Outcome::NotMeasured
            {
                *line = fresh;
            }
        }
    }
    lines
}

/// A suite's 10,000 idle connections stand in where no comparison looked at idle ones.
fn idle_of_the_suite(inputs: &Inputs, lines: &mut [Line]) {
    let Ok((step, kept)) = passed(inputs, "arena", |step| step.name == "idle-10k") else {
        return;
    };
    let bytes = step.figures.get("rss_bytes_per_connection").copied();
    let Some(interval) = bytes.and_then(|bytes| Interval::of(&[bytes])) else {
        return;
    };
    let fresh = Line::of(budgets::idle(Some(interval)), &kept.file_of(step));
    if let Some(line) = lines.iter_mut().find(|line| line.what == fresh.what)
        && line.outcome == Outcome::NotMeasured
    {
        *line = fresh;
    }
}

/// The ratchet is what tests hold the service to.
fn allocations(beside: &Path) -> Line {
    let what = "heap allocations of a cached story, once warm".to_owned();
    let asked = "none".to_owned();
    let read = || {
        let folder = beside.canonicalize().ok()?;
        let text = std::fs::read_to_string(folder.parent()?.join("ratchet.toml")).ok()?;
        let file: toml::Table = toml::from_str(&text).ok()?;
        file.get("allocations")?.get("story")?.as_float()
    };
    match read() {
        None => Line {
            what,
            words: "not measured: there is no ratchet.toml beside the runs; none is asked".to_owned(),
            asked,
            measured: "-".to_owned(),
            outcome: Outcome::NotMeasured,
            from: "-".to_owned(),
        },
        Some(count) => {
            let outcome = if count == 0.0 { Outcome::Met } else { Outcome::Missed };
            Line {
                what,
                asked,
                measured: format!("at most {count}"),
                outcome,
                words: format!(
                    "{}: tests/allocations.rs fails with more than {count} a request, where none is asked",
                    outcome.words()
                ),
                from: "ratchet.toml".to_owned(),
            }
        }
    }
}
