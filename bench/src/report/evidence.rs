//! Which of many runs of suites a budget is held against, and the two lines of long waits, which also take runs of a server
//! that had a share of a CPU (`suite --server-share`).

use super::budgets::Line;
use super::input::{Inputs, Kept, Mode, Run};
use super::svg::figure;
use crate::compare::budgets::Outcome;
use crate::suite::{self, State, Step};

/// Rate of the guide, and what its 99.9th percentile must stay below.
const RATE: f64 = 3000.0;
const P999_MS: f64 = 1.0;
/// Share of the capacity, and the same there.
const SHARE: f64 = 0.8;
const P999_AT_SHARE_MS: f64 = 5.0;

/// A step, and the suites that it is of.
pub(super) type Found<'i> = (&'i Step, &'i Kept<suite::Report>);

/// Why there is no such step.
pub(super) struct Missing {
    pub(super) why: String,
    /// There is one, and it failed or answers were wrong: nothing else may stand in for it.
    has_failed: bool,
}

/// A step of suites on whole CPUs.
pub(super) fn passed<'i>(inputs: &'i Inputs, suite: &str, is_it: impl Fn(&Step) -> bool) -> Result<Found<'i>, Missing> {
    let whole = inputs.evidence().filter(|kept| !kept.report.settings.has_share());
    latest_step(whole, suite, is_it, |_| Ok(()))
}

/// The step of the latest suites with one worker in which it passed and that `stand`. One that was left out, or in which the
/// generator was the limit, says nothing, and earlier ones are asked; one that failed is no reason to go back to a time when it
/// did not.
fn latest_step<'i>(
    suites: impl Iterator<Item = &'i Kept<suite::Report>>,
    suite: &str,
    is_it: impl Fn(&Step) -> bool,
    stand: impl Fn(&suite::Report) -> Result<(), String>,
) -> Result<Found<'i>, Missing> {
    let (mut first_why, mut are_any) = (None, false);
    for kept in suites {
        are_any = true;
        let report = &kept.report;
        let of_it = report.suites.iter().filter(|one| one.name == suite);
        let why = match of_it.flat_map(|one| &one.steps).find(|step| is_it(step)) {
            _ if report.settings.workers != 1 => "the suites were run with several workers".to_owned(),
            None => continue,
            Some(step) if step.state == State::Passed => match stand(report) {
                Ok(()) => return Ok((step, kept)),
                Err(why) => why,
            },
            Some(step) => {
                let why = format!("{} of the suite {suite} was {}", step.name, step.state.word());
                if matches!(step.state, State::Failed | State::Broken) {
                    return Err(Missing { why, has_failed: true });
                }
                why
            }
        };
        first_why.get_or_insert(why);
    }
    // What was looked at says more than what was not asked.
    let what = if are_any { "such step" } else { "run" };
    Err(Missing {
        why: first_why.unwrap_or_else(|| format!("no {what} of the suite {suite}")),
        has_failed: false,
    })
}

/// p99.9 at a share of the capacity; where no run on a whole CPU says anything, of one on a share of a CPU, if its capacity is
/// known: 80 % of less than the server can do on that share are fewer.
pub(super) fn at_a_share_of_the_capacity(inputs: &Inputs) -> Line {
    let what = "p99.9 at 80 % of the capacity, one worker, arrivals at random";
    let is_it = |step: &Step| step.figures.get("share_of_capacity") == Some(&SHARE);
    let ms = |step: &Step| step.latency_us.p999 / 1000.0;
    let missing = match passed(inputs, "latency", is_it) {
        Ok((step, kept)) => {
            let line = Line::below(what, P999_AT_SHARE_MS, "ms", Some((ms(step), kept.file_of(step))), "");
            return with_circumstances(line, kept, "latency");
        }
        Err(missing) => missing,
    };
    let shared = inputs.evidence().filter(|kept| kept.report.settings.has_share());
    match latest_step(shared, "latency", is_it, has_capacity) {
        Ok((step, kept)) if !missing.has_failed => {
            let evidence = (ms(step), kept.report.settings.server_share, kept.file_of(step));
            Line::at_most(
                what,
                P999_AT_SHARE_MS,
                "ms",
                evidence,
                Outcome::MetOnAShare,
                &missing.why,
            )
        }
        _ => Line::below(what, P999_AT_SHARE_MS, "ms", None, &missing.why),
    }
}

/// The same line, with the server where it is none that the suites have built, and with what the machine alone had threads wait that do
/// nothing, where the suites have looked. It excuses nothing: what is missed is missed.
fn with_circumstances(mut line: Line, kept: &Kept<suite::Report>, suite: &str) -> Line {
    let server = &kept.report.version.ours;
    if !server.contains(", profile ") {
        line.words.push_str(&format!(" (of the server {server})"));
    }
    let mut suites = kept.report.suites.iter().filter(|one| one.name == suite);
    let step = suites.find_map(|one| one.steps.iter().find(|step| step.name == suite::HICCUPS));
    if let Some(step) = step {
        let ms = figure(step.latency_us.p999 / 1000.0);
        line.words.push_str(&format!(
            " (threads that do nothing woke {ms} ms late there, at their p99.9)"
        ));
    }
    line
}

fn has_capacity(report: &suite::Report) -> Result<(), String> {
    let mut steps = report.suites.iter().flat_map(|one| &one.steps);
    match steps.find(|step| step.name == "capacity") {
        None => Err("its capacity was given and not measured".to_owned()),
        Some(step) if step.is_lower_bound => Err("its capacity is a lower bound".to_owned()),
        Some(_) => Ok(()),
    }
}

/// p99.9 at 3000 requests a second on one CPU: of every sound run of `load` at that rate, and of the latest suites with a sound
/// one; where there is none, of the latest on a share of a CPU with one.
pub(super) fn at_the_guides_rate(inputs: &Inputs) -> Line {
    let what = format!("p99.9 at {RATE} requests a second, one worker");
    let fits = |run: &Run| {
        run.mode == Mode::Open
            && run.workers() == Some(1)
            && run.rate.is_some_and(|rate| (rate / RATE - 1.0).abs() < 0.02)
    };
    let of_suites = |has_share: bool| {
        let suites = inputs
            .evidence()
            .filter(move |kept| kept.report.settings.has_share() == has_share);
        let runs = suites.map(|kept| {
            let mut runs = inputs.steps_of(kept, &["guide"]);
            runs.retain(fits);
            (kept.report.settings.server_share, runs)
        });
        let mut runs: Vec<(f64, Vec<Run>)> = runs.filter(|(_, runs)| !runs.is_empty()).collect();
        // The latest that says anything: that answers failed is something.
        let telling = |run: &Run| run.is_sound() || has_failed(run);
        let at = runs.iter().position(|(_, runs)| runs.iter().any(telling));
        (!runs.is_empty()).then(|| runs.swap_remove(at.unwrap_or(0)))
    };
    let mut whole = inputs.single();
    whole.retain(fits);
    whole.extend(of_suites(false).into_iter().flat_map(|(_, runs)| runs));
    let missing = match whole.len() {
        0 => "no run at this rate with one worker".to_owned(),
        some => format!("{some} run(s) at this rate, in each of which the generator was the limit or answers failed"),
    };
    // As above: what failed on a whole CPU is not made up for by less, nor by another run.
    if let Some(run) = whole.iter().find(|run| has_failed(run)) {
        let why = format!("answers failed in {}", run.file);
        return Line::below(&what, P999_MS, "ms", None, &why);
    }
    if let Some((ms, run, from)) = median(whole) {
        let line = Line::below(&what, P999_MS, "ms", Some((ms, from)), "");
        let suites = inputs.evidence().find(|kept| kept.has(&run));
        return match suites {
            Some(kept) => with_circumstances(line, kept, "guide"),
            None => line,
        };
    }
    let shared = of_suites(true).and_then(|(share, runs)| median(runs).map(|(ms, _, from)| (ms, share, from)));
    match shared {
        Some(evidence) => Line::at_most(&what, P999_MS, "ms", evidence, Outcome::Met, &missing),
        _ => Line::below(&what, P999_MS, "ms", None, &missing),
    }
}

/// Answers failed, and not for the generator's sake.
fn has_failed(run: &Run) -> bool {
    run.error_count > 0 && run.generator_limits.is_empty()
}

/// p99.9 in milliseconds of the run in the middle of those that are sound, that run, and where it is from; of an even number the worse
/// of the two in the middle.
fn median(mut runs: Vec<Run>) -> Option<(f64, Run, String)> {
    runs.retain(Run::is_sound);
    runs.sort_by(|a, b| a.latency_us.p999.total_cmp(&b.latency_us.p999));
    let (middle, count) = (runs.len() / 2, runs.len());
    let run = (middle < count).then(|| runs.swap_remove(middle))?;
    let from = format!("{}; sound runs: {count}", run.file);
    Some((run.latency_us.p999 / 1000.0, run, from))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::input;

    /// The latest suites of the tests' data that were not quick, and a copy of a later day, on 0.3 of a CPU.
    fn inputs(change: impl Fn(&mut suite::Report)) -> Inputs {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/report-suites/runs");
        let mut inputs = input::read(&folder).unwrap();
        inputs.suites.retain(|one| !one.report.settings.quick);
        let mut later = inputs.suites[0].clone();
        later.group = "2026-01-09-suite".to_owned();
        later.file = "2026-01-09-suite/suite.json".to_owned();
        later.report.settings.server_share = 0.3;
        let mut capacity = Step::without_run("capacity", "", State::Passed, None);
        capacity.requests = 1;
        of(&mut later.report, "latency").insert(0, capacity);
        of(&mut later.report, "latency")[1].latency_us.p999 = 3100.0;
        change(&mut later.report);
        inputs.suites.push(later);
        inputs
    }

    fn of<'r>(report: &'r mut suite::Report, name: &str) -> &'r mut Vec<Step> {
        &mut report.suites.iter_mut().find(|one| one.name == name).unwrap().steps
    }

    fn told(line: Line) -> (Outcome, String, String) {
        (line.outcome, line.measured, line.from)
    }

    #[test]
    fn what_a_whole_cpu_has_shown_comes_before_a_share() {
        let found = told(at_a_share_of_the_capacity(&inputs(|_| ())));
        let from = "2026-01-02-suite/latency/share-080.json".to_owned();
        assert_eq!(found, (Outcome::Met, "2.10 ms".to_owned(), from));
    }

    #[test]
    fn a_share_of_a_cpu_shows_what_is_met_and_nothing_else() {
        let line = |state: State, change: &dyn Fn(&mut suite::Report)| {
            let mut inputs = inputs(change);
            of(&mut inputs.suites[0].report, "latency")[0].state = state;
            at_a_share_of_the_capacity(&inputs)
        };
        let met = line(State::Unsound, &|_| ());
        assert_eq!(
            met.words,
            "met on a share of a CPU: 3.10 ms on 0.3 of a CPU (of what that can do; a quota only adds waiting, but the rate is smaller, \
             too), where below 5.00 ms is asked; on a whole CPU: share-080 of the suite latency was not sound"
        );
        let from = "2026-01-09-suite/latency/share-080.json".to_owned();
        assert_eq!(
            told(met),
            (
                Outcome::MetOnAShare,
                "at most 3.10 ms (on 0.3 of a CPU)".to_owned(),
                from
            )
        );
        let slow = line(State::Unsound, &|report| {
            of(report, "latency")[1].latency_us.p999 = 9000.0
        });
        assert!(
            slow.words
                .starts_with("not shown: 9.00 ms on 0.3 of a CPU (an upper bound"),
            "{}",
            slow.words
        );
        assert_eq!(slow.outcome, Outcome::NotShown);
        // Of what is 80 %, if the capacity may be more?
        let bound = line(State::Skipped, &|report| of(report, "latency")[0].is_lower_bound = true);
        assert_eq!(bound.outcome, Outcome::NotMeasured);
        let unsound = line(State::Unsound, &|report| {
            of(report, "latency")[1].state = State::Unsound
        });
        assert_eq!(unsound.outcome, Outcome::NotMeasured);
        // Errors on a whole CPU are the server's.
        let broken = line(State::Broken, &|_| ());
        assert!(
            broken.outcome == Outcome::NotMeasured && broken.words.contains("was broken"),
            "{}",
            broken.words
        );
    }

    #[test]
    fn the_guides_rate_is_looked_for_in_all_suites() {
        let run = |inputs: &Inputs, day: &str, ms: f64| {
            let mut run = inputs.runs[0].clone();
            run.file = format!("{day}-suite/guide/rate-3000.json");
            run.group = format!("{day}-suite/guide");
            (run.rate, run.latency_us.p999) = (Some(RATE), ms * 1000.0);
            run
        };
        let mut inputs = inputs(|_| ());
        for kept in &mut inputs.suites {
            let mut step = Step::without_run("rate-3000", "", State::Passed, None);
            step.file = Some("guide/rate-3000.json".to_owned());
            let mut guide = kept.report.suites[0].clone();
            (guide.name, guide.steps) = ("guide".to_owned(), vec![step]);
            kept.report.suites.push(guide);
        }
        let mut hiccups = Step::without_run(suite::HICCUPS, "", State::Passed, None);
        hiccups.latency_us.p999 = 700.0;
        of(&mut inputs.suites[0].report, "guide").insert(0, hiccups);
        let (whole, share) = (run(&inputs, "2026-01-02", 0.8), run(&inputs, "2026-01-09", 0.9));
        inputs.runs = vec![share.clone()];
        let found = told(at_the_guides_rate(&inputs));
        assert_eq!(
            (found.0, found.1.as_str()),
            (Outcome::Met, "at most 0.900 ms (on 0.3 of a CPU)")
        );
        inputs.runs = vec![whole, share];
        let line = at_the_guides_rate(&inputs);
        assert!(
            line.words.ends_with("woke 0.700 ms late there, at their p99.9)"),
            "{}",
            line.words
        );
        assert!(!line.words.contains("of the server"), "{}", line.words);
        // Another server than the suites' own is named.
        let mut other = inputs.suites[0].clone();
        other.report.version.ours = "some/other".to_owned();
        let named = with_circumstances(at_the_guides_rate(&inputs), &other, "guide").words;
        assert!(named.contains("(of the server some/other)"), "{named}");
        let found = told(line);
        assert_eq!((found.0, found.1.as_str()), (Outcome::Met, "0.800 ms"));
        // Nor is a run in which answers failed made up for by an older one.
        inputs.runs[0].error_count = 3;
        let found = at_the_guides_rate(&inputs);
        assert!(
            found.outcome == Outcome::NotMeasured && found.words.contains("answers failed in 2026-01-02"),
            "{}",
            found.words
        );
        // What is too slow on a share is not missed.
        inputs.runs.remove(0);
        inputs.runs[0].latency_us.p999 = 4000.0;
        assert_eq!(told(at_the_guides_rate(&inputs)).0, Outcome::NotShown);
    }

    #[test]
    fn suites_of_another_kind_hide_no_evidence() {
        // Later, on a whole CPU, and only of other suites.
        let inputs = inputs(|report| {
            report.settings.server_share = 1.0;
            report.suites.retain(|one| one.name == "neighbour");
        });
        assert_eq!(told(at_a_share_of_the_capacity(&inputs)).1, "2.10 ms");
        let found = passed(&inputs, "start", |step| step.name == "cold-start");
        assert_eq!(found.ok().unwrap().1.group, "2026-01-02-suite");
        // Nor does it hide why there is none.
        let mut inputs = inputs;
        of(&mut inputs.suites[0].report, "latency")[0].state = State::Unsound;
        let words = at_a_share_of_the_capacity(&inputs).words;
        assert!(
            words.contains("share-080 of the suite latency was not sound"),
            "{words}"
        );
    }
}
