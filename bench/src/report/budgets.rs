//! The design's budgets (DESIGN.md, section 6) as a table: what is asked, what the runs on this page measured, and whether
//! that is met, in plain words. Nothing is filled in by hand; where no run has it, it is not measured.

use std::path::Path;

use super::input::{Comparison, Inputs, Mode, Run};
use super::page::{Block, Section, Table};
use super::svg::figure;
use crate::compare::budgets::{self, Budget, Outcome};
use crate::stats::Interval;
use crate::suite::{State, Step};

/// Rate of the guide, and what its 99.9th percentile must stay below.
const RATE: f64 = 3000.0;
const P999_MS: f64 = 1.0;
/// Share of the capacity, and the same there.
const SHARE: f64 = 0.8;
const P999_AT_SHARE_MS: f64 = 5.0;
/// Before anybody asks.
const COLD_START_MS: f64 = 100.0;
const IDLE_RSS_MB: f64 = 24.0;
const WAKE_UPS: f64 = 2.0;

/// A line of the table.
struct Line {
    what: String,
    asked: String,
    measured: String,
    outcome: Outcome,
    words: String,
    from: String,
}

impl Line {
    /// Of one value that must stay below a bound.
    fn below(what: &str, bound: f64, unit: &str, measured: Option<(f64, String)>, missing: &str) -> Self {
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
    let what = "p99.9 at 80 % of the capacity, one worker, arrivals at random";
    let (step, why) = passed(inputs, "latency", |step| {
        step.figures.get("share_of_capacity") == Some(&SHARE)
    });
    let at_share = step.map(|(step, from)| (step.latency_us.p999 / 1000.0, from));
    lines.push(Line::below(what, P999_AT_SHARE_MS, "ms", at_share, &why));
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
        let (found, why) = passed(inputs, "start", |one| one.name == step);
        let value = found.and_then(|(step, from)| Some((step.figures.get(name)? * scale, from)));
        lines.push(Line::below(what, bound, unit, value, &why));
    }
    lines.push(allocations(beside));
    let count = |outcomes: &[Outcome]| lines.iter().filter(|line| outcomes.contains(&line.outcome)).count();
    let mut blocks = vec![Block::Text(format!(
        "{} met, {} missed, {} not measured in the runs of this page. A ratio is a median of pairs measured in turns; narrowly means \
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
    let (Some((step, from)), _) = passed(inputs, "arena", |step| step.name == "idle-10k") else {
        return;
    };
    let bytes = step.figures.get("rss_bytes_per_connection").copied();
    let Some(interval) = bytes.and_then(|bytes| Interval::of(&[bytes])) else {
        return;
    };
    let fresh = Line::of(budgets::idle(Some(interval)), &from);
    if let Some(line) = lines.iter_mut().find(|line| line.what == fresh.what)
        && line.outcome == Outcome::NotMeasured
    {
        *line = fresh;
    }
}

/// A step of the suites that are shown, with one worker, if it passed; else why there is none.
fn passed<'i>(inputs: &'i Inputs, suite: &str, is_it: impl Fn(&Step) -> bool) -> (Option<(&'i Step, String)>, String) {
    let Some(shown) = inputs.suite() else {
        return (None, format!("no run of the suite {suite}"));
    };
    if shown.report.settings.workers != 1 {
        return (None, "the suites were run with several workers".to_owned());
    }
    let steps = shown
        .report
        .suites
        .iter()
        .filter(|one| one.name == suite)
        .flat_map(|one| &one.steps);
    match steps.into_iter().find(|step| is_it(step)) {
        None => (None, format!("no such step of the suite {suite}")),
        Some(step) if step.state == State::Passed => {
            let from = step
                .file
                .as_deref()
                .map_or(shown.file.clone(), |file| match shown.group.as_str() {
                    "" => file.to_owned(),
                    group => format!("{group}/{file}"),
                });
            (Some((step, from)), String::new())
        }
        Some(step) => (
            None,
            format!("{} of the suite {suite} was {}", step.name, step.state.word()),
        ),
    }
}

/// p99.9 at 3000 requests a second on one CPU: of every sound run at that rate, but of the suites only those that are shown.
fn at_the_guides_rate(inputs: &Inputs) -> Line {
    let what = format!("p99.9 at {RATE} requests a second, one worker");
    let mut runs = inputs.single();
    runs.extend(inputs.steps(&["guide"]));
    let fits = |run: &&Run| {
        run.mode == Mode::Open
            && run.workers() == Some(1)
            && run.rate.is_some_and(|rate| (rate / RATE - 1.0).abs() < 0.02)
    };
    let mut sound: Vec<&Run> = runs.iter().filter(fits).filter(|run| run.is_sound()).collect();
    sound.sort_by(|a, b| a.latency_us.p999.total_cmp(&b.latency_us.p999));
    let unsound = runs.iter().filter(fits).count().saturating_sub(sound.len());
    let missing = match unsound {
        0 => "no run at this rate with one worker".to_owned(),
        _ => format!("{unsound} run(s) at this rate, in each of which the generator was the limit or answers failed"),
    };
    // Of an even number the worse of the two in the middle.
    let median = sound.get(sound.len() / 2);
    let measured = median.map(|run| {
        (
            run.latency_us.p999 / 1000.0,
            format!("{}; sound runs: {}", run.file, sound.len()),
        )
    });
    Line::below(&what, P999_MS, "ms", measured, &missing)
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
