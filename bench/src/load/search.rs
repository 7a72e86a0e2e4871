//! The highest rate at which a server keeps a promise: doubled until it does not, bisected, and tried once more.
//!
//! The confirming repeat is what the report shows: the highest of many noisy trials is a lucky one, and its repeat is not.

use std::fmt::Write as _;

use serde::Serialize;

use super::report::{Percentiles, Report};

/// Trials at most, whatever the width: doubling from 1 to 10 million and bisecting to a percent takes half.
const TRIALS_MAX: usize = 64;

/// How to search.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) from: f64,
    pub(crate) most: f64,
    /// Bisecting ends where the two ends are this close, as a share of the upper.
    pub(crate) within: f64,
    /// Trials count even where the generator was the limit.
    pub(crate) accept_limits: bool,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trial {
    phase: &'static str,
    rate: f64,
    requests_per_second: f64,
    latency_us: Percentiles,
    error_share: f64,
    kept: bool,
    generator_limits: Vec<String>,
    why: Vec<String>,
}

/// What a trial found.
pub(crate) struct Found {
    pub(crate) report: Report,
    /// What was not kept.
    pub(crate) why: Vec<String>,
}

/// What the search found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Search {
    goal: Vec<String>,
    pub(crate) found_rate: Option<f64>,
    pub(crate) confirmed: bool,
    upper_bound: Option<f64>,
    pub(crate) trials: Vec<Trial>,
    /// The generator was the limit where the search ended.
    #[serde(skip)]
    pub(crate) generator_limit: Option<String>,
}

/// What a trial says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Kept,
    Missed,
    /// Nothing of the server: the generator was the limit, twice.
    Nothing,
}

impl Search {
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for trial in &self.trials {
            let end = match (trial.kept, trial.generator_limits.is_empty()) {
                (true, _) => "kept".to_owned(),
                (false, false) => "the generator was the limit".to_owned(),
                (false, true) => format!("not kept: {}", trial.why.join(", ")),
            };
            let _ = writeln!(
                out,
                "{:<13} {:>10.0}/s  p50 {:.1} p99 {:.1} us, {:.3} % errors: {end}",
                trial.phase,
                trial.rate,
                trial.latency_us.p50,
                trial.latency_us.p99,
                trial.error_share * 100.0
            );
        }
        let goal = self.goal.join(", ");
        let _ = match self.found_rate {
            Some(rate) => write!(
                out,
                "the highest rate with none of {goal}: {rate:.0} requests/s{}{}",
                if self.confirmed { ", confirmed by a repeat" } else { "" },
                self.upper_bound
                    .map_or(", and no higher one was tried".to_owned(), |r| format!(
                        "; {r:.0} is too much"
                    ))
            ),
            None => write!(out, "no rate that was tried keeps {goal}"),
        };
        out
    }
}

/// Searches; `trial` runs one rate. A trial in which the generator was the limit is tried once more (a machine has its
/// moments), and then ends the search there: what lies beyond, this generator cannot say.
///
/// # Errors
/// What `trial` says: nothing could be measured.
pub(crate) fn search(
    plan: &Plan,
    goal: Vec<String>,
    mut trial: impl FnMut(f64) -> Result<Found, String>,
) -> Result<Search, String> {
    let mut trials: Vec<Trial> = Vec::new();
    let mut generator_limit = None;
    let mut run = |phase: &'static str, rate: f64, trials: &mut Vec<Trial>| -> Result<Said, String> {
        let mut last = None;
        for _ in 0..2 {
            let found = trial(rate)?;
            let limit = found
                .report
                .generator_limits
                .first()
                .cloned()
                .filter(|_| !plan.accept_limits);
            let kept = found.why.is_empty() && limit.is_none();
            trials.push(Trial {
                phase,
                rate,
                requests_per_second: found.report.requests_per_second,
                latency_us: found.report.latency_us.clone(),
                error_share: found.report.error_share(),
                kept,
                generator_limits: found.report.generator_limits,
                why: found.why,
            });
            match limit {
                None if kept => return Ok(Said::Kept),
                None => return Ok(Said::Missed),
                Some(why) => last = Some(why),
            }
        }
        generator_limit = last;
        Ok(Said::Nothing)
    };
    let (mut low, mut high) = (None, None);
    let mut rate = plan.from.min(plan.most);
    while trials.len() < TRIALS_MAX {
        match run("grow", rate, &mut trials)? {
            Said::Kept => {
                low = Some(rate);
                if rate >= plan.most {
                    break;
                }
                rate = (rate * 2.0).min(plan.most);
            }
            Said::Missed => {
                high = Some(rate);
                break;
            }
            Said::Nothing => break,
        }
    }
    while let Some(above) = high {
        let below = low.unwrap_or(0.0);
        if trials.len() >= TRIALS_MAX || above - below <= plan.within * above || above < 1.0 {
            break;
        }
        let middle = f64::midpoint(below, above);
        match run("bisect", middle, &mut trials)? {
            Said::Kept => low = Some(middle),
            Said::Missed => high = Some(middle),
            Said::Nothing => break,
        }
    }
    // A repeat that fails takes the answer down a step, until one holds.
    let mut confirmed = false;
    while let Some(rate) = low {
        let said = run("confirm", rate, &mut trials)?;
        confirmed = said == Said::Kept;
        if said != Said::Missed || trials.len() >= TRIALS_MAX {
            break;
        }
        high = Some(rate);
        let lower = rate * (1.0 - plan.within.max(0.01));
        low = (lower >= 1.0).then_some(lower);
    }
    Ok(Search {
        goal,
        found_rate: low,
        confirmed,
        upper_bound: high,
        trials,
        generator_limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(from: f64, most: f64) -> Plan {
        Plan {
            from,
            most,
            within: 0.02,
            accept_limits: false,
        }
    }

    fn against(limit: impl Fn(usize, f64) -> bool, plan: &Plan) -> Search {
        let mut count = 0;
        search(plan, vec!["p99>1ms".to_owned()], |rate| {
            count += 1;
            let why = if limit(count, rate) {
                vec![]
            } else {
                vec!["p99>1ms".to_owned()]
            };
            Ok(Found {
                report: Report::default(),
                why,
            })
        })
        .unwrap()
    }

    #[test]
    fn a_limit_is_found_within_its_width_and_confirmed() {
        for limit in [3.0, 137.0, 12_345.0, 4_000_000.0] {
            let s = against(|_, rate| rate <= limit, &plan(100.0, 10_000_000.0));
            let found = s.found_rate.unwrap();
            assert!(found <= limit && found >= limit * 0.95 - 1.0, "{found} for {limit}");
            assert!(s.confirmed && s.trials.last().unwrap().phase == "confirm");
            assert!(s.upper_bound.unwrap() > limit && s.generator_limit.is_none());
        }
    }

    #[test]
    fn a_lucky_trial_is_not_believed() {
        // Beyond 1000 the server keeps its promise only the first time that it is asked for so much.
        let seen = std::cell::Cell::new(false);
        let s = against(
            |_, rate| rate <= 1000.0 || rate <= 1600.0 && !seen.replace(true),
            &plan(800.0, 1e6),
        );
        assert!(s.found_rate.unwrap() <= 1000.0 && s.confirmed, "{s:?}");
    }

    #[test]
    fn what_keeps_everything_or_nothing_says_so() {
        let s = against(|_, _| true, &plan(100.0, 1000.0));
        assert_eq!((s.found_rate, s.upper_bound, s.confirmed), (Some(1000.0), None, true));
        assert!(s.text().contains("no higher one"));
        let s = against(|_, _| false, &plan(100.0, 1000.0));
        assert_eq!((s.found_rate, s.confirmed), (None, false));
        assert!(s.text().contains("no rate"));
    }

    #[test]
    fn a_generator_at_its_limit_is_no_limit_of_the_server() {
        let s = search(&plan(100.0, 1e6), vec![], |rate| {
            let mut report = Report::default();
            if rate > 500.0 {
                report.generator_limits.push("it missed its own schedule".to_owned());
            }
            Ok(Found { report, why: vec![] })
        })
        .unwrap();
        assert!(s.generator_limit.is_some() && s.confirmed);
        // Twice too much for the generator at 800, and no more was tried.
        assert_eq!((s.found_rate, s.upper_bound, s.trials.len()), (Some(400.0), None, 6));
        // Once is no reason.
        let mut count = 0;
        let s = search(&plan(100.0, 400.0), vec![], |_| {
            count += 1;
            let mut report = Report::default();
            if count == 2 {
                report.generator_limits.push("a moment".to_owned());
            }
            Ok(Found { report, why: vec![] })
        })
        .unwrap();
        assert!(s.generator_limit.is_none() && s.found_rate == Some(400.0) && s.confirmed);
    }
}
