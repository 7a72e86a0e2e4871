//! The report: what bench/schema/compare.schema.json describes. `report` reads it back by the same types.

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::budgets::Budget;
use super::side::Run;
use crate::cost::median;
use crate::machine::{Machine, Version};
use crate::stats::{Estimate, Good, Interval};

/// What is compared in each row, in the order of the report.
const FIGURES: [(Figure, Good); 4] = [
    (|run| run.requests_per_cpu_second, Good::High),
    (|run| run.requests_per_second, Good::High),
    (|run| run.p50_us, Good::Low),
    (|run| run.p99_us, Good::Low),
];

type Figure = fn(&Run) -> f64;

/// Two runs, one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pair {
    /// `ab` or `ba`.
    pub(crate) order: String,
    pub(crate) a: Run,
    pub(crate) b: Run,
}

/// Medians of one side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) requests_per_cpu_second: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) utilisation: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) cpu_us_per_request_at_rate: f64,
}

impl Figures {
    fn of(pairs: &[Pair], side: fn(&Pair) -> &Run) -> Self {
        let of = |figure: Figure| median(pairs.iter().map(|pair| figure(side(pair))));
        Self {
            requests_per_cpu_second: of(|run| run.requests_per_cpu_second),
            cpu_us_per_request: of(|run| run.cpu_us_per_request),
            requests_per_second: of(|run| run.requests_per_second),
            utilisation: of(|run| run.utilisation),
            p50_us: of(|run| run.p50_us),
            p99_us: of(|run| run.p99_us),
            cpu_us_per_request_at_rate: of(|run| run.cpu_us_per_request_at_rate),
        }
    }
}

/// How far a server strays from itself: as a factor, less 1.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Noise {
    pub(crate) scenario: Scenario,
    pub(crate) requests_per_cpu_second: Option<f64>,
    pub(crate) requests_per_second: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

impl Noise {
    /// Of the pairs of an A/A run; without one nothing is known.
    pub(crate) fn of(scenario: Scenario, pairs: &[Pair]) -> Self {
        let [cpu, throughput, p50, p99] = FIGURES.map(|(figure, _)| {
            let ratios = ratios(pairs, figure);
            Interval::of(&ratios).map(|interval| interval.stray())
        });
        Self {
            scenario,
            requests_per_cpu_second: cpu,
            requests_per_second: throughput,
            p50,
            p99,
        }
    }
}

fn ratios(pairs: &[Pair], figure: Figure) -> Vec<f64> {
    // A figure of nothing is kept away from zero: a ratio must stay a number.
    let of = |run: &Run| figure(run).max(1e-9);
    pairs.iter().map(|pair| of(&pair.a) / of(&pair.b)).collect()
}

/// A scenario of a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) rate: f64,
    pub(crate) request: String,
    pub(crate) a_answer_bytes: u64,
    pub(crate) b_answer_bytes: u64,
    pub(crate) a: Figures,
    pub(crate) b: Figures,
    pub(crate) requests_per_cpu_second: Estimate,
    pub(crate) requests_per_second: Estimate,
    pub(crate) p50: Estimate,
    pub(crate) p99: Estimate,
    pub(crate) errors: u64,
    pub(crate) pairs: Vec<Pair>,
}

/// What a row has besides its pairs.
pub(crate) struct Asked {
    pub(crate) scenario: Scenario,
    pub(crate) rate: f64,
    pub(crate) request: String,
    pub(crate) a_answer_bytes: u64,
    pub(crate) b_answer_bytes: u64,
}

impl Row {
    /// Judges pairs against the noise; `None` where there are none.
    pub(crate) fn of(asked: Asked, pairs: Vec<Pair>, noise: Option<&Noise>) -> Option<Self> {
        let floors = [
            noise.and_then(|n| n.requests_per_cpu_second),
            noise.and_then(|n| n.requests_per_second),
            noise.and_then(|n| n.p50),
            noise.and_then(|n| n.p99),
        ];
        let mut judged = FIGURES
            .iter()
            .zip(floors)
            .map(|((figure, good), floor)| Estimate::of(&ratios(&pairs, *figure), floor, *good));
        Some(Self {
            requests_per_cpu_second: judged.next()??,
            requests_per_second: judged.next()??,
            p50: judged.next()??,
            p99: judged.next()??,
            scenario: asked.scenario,
            rate: asked.rate,
            request: asked.request,
            a_answer_bytes: asked.a_answer_bytes,
            b_answer_bytes: asked.b_answer_bytes,
            a: Figures::of(&pairs, |pair| &pair.a),
            b: Figures::of(&pairs, |pair| &pair.b),
            errors: pairs
                .iter()
                .map(|pair| pair.a.errors.saturating_add(pair.b.errors))
                .fold(0, u64::saturating_add),
            pairs,
        })
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b])
    }

    /// Why its figures are to be taken with care.
    pub(crate) fn cautions(&self, peer: &str) -> Vec<String> {
        let mut found = Vec::new();
        let row = format!("{peer}, {}", self.scenario.name());
        if let Some(first) = self.runs().find_map(|run| run.first_error.as_deref()) {
            found.push(format!("{row}: {} errors, first: {first}", self.errors));
        }
        let late = self.runs().filter(|run| !run.generator_limits.is_empty()).count();
        if late > 0 {
            found.push(format!(
                "{row}: in {late} of {} runs the generator missed its schedule, so p50 and p99 are its own",
                self.pairs.len() * 2
            ));
        }
        found
    }
}

/// Memory of idle connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) connections: u32,
    pub(crate) a_bytes: Vec<f64>,
    pub(crate) b_bytes: Vec<f64>,
    pub(crate) a_median: f64,
    pub(crate) b_median: f64,
}

impl Idle {
    /// Of one value a round and side.
    pub(crate) fn of(connections: u32, a_bytes: Vec<f64>, b_bytes: Vec<f64>) -> Self {
        Self {
            connections,
            a_median: median(a_bytes.iter().copied()),
            b_median: median(b_bytes.iter().copied()),
            a_bytes,
            b_bytes,
        }
    }
}

/// What became of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Measured,
    Missing,
    Failed,
}

/// A peer's part of the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerReport {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) version: Option<String>,
    pub(crate) fairness: String,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) command: Option<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) idle: Option<Idle>,
}

/// What runs had of a CPU that say nothing of it.
fn whole() -> f64 {
    1.0
}

/// How it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) pairs: u32,
    pub(crate) seconds_closed: f64,
    pub(crate) seconds_open: f64,
    pub(crate) connections: u32,
    pub(crate) idle_connections: u32,
    pub(crate) idle_rounds: u32,
    pub(crate) server_cpu: Option<usize>,
    pub(crate) load_cpu: Option<usize>,
    /// CPUs that each server got in the closed loop.
    #[serde(default = "whole")]
    pub(crate) server_share: f64,
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
    pub(crate) noise: Vec<Noise>,
    pub(crate) peers: Vec<PeerReport>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) cautions: Vec<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stats::Verdict;

    pub(in crate::compare) fn pairs(ratios: &[f64]) -> Vec<Pair> {
        let run = |requests_per_cpu_second: f64| Run {
            requests: 10,
            requests_per_cpu_second,
            cpu_us_per_request: 1e6 / requests_per_cpu_second,
            requests_per_second: requests_per_cpu_second,
            utilisation: 1.0,
            p50_us: 1e6 / requests_per_cpu_second,
            p99_us: 100.0,
            cpu_us_per_request_at_rate: 9.0,
            requests_at_rate: 5,
            errors: 0,
            first_error: None,
            generator_limits: vec![],
        };
        let pair = |ratio: &f64| Pair {
            order: "ab".to_owned(),
            a: run(100_000.0 * ratio),
            b: run(100_000.0),
        };
        ratios.iter().map(pair).collect()
    }

    pub(in crate::compare) fn asked() -> Asked {
        Asked {
            scenario: Scenario::Live,
            rate: 3000.0,
            request: "GET /".to_owned(),
            a_answer_bytes: 300,
            b_answer_bytes: 300,
        }
    }

    #[test]
    fn rows_are_judged_by_their_pairs_and_the_noise() {
        let noise = Noise::of(Scenario::Live, &pairs(&[0.99, 1.02, 1.0, 1.01, 0.98]));
        assert!((noise.requests_per_cpu_second.unwrap() - (1.0 / 0.98 - 1.0)).abs() < 1e-9);
        assert_eq!(noise.p99, Some(0.0));
        let row = Row::of(asked(), pairs(&[1.5, 1.6, 1.4, 1.5, 1.5]), Some(&noise)).unwrap();
        assert!((row.requests_per_cpu_second.interval.median - 1.5).abs() < 1e-9);
        assert_eq!(row.requests_per_cpu_second.verdict, Verdict::Faster);
        // Half as much time is better, too; and what is the same is the same.
        assert_eq!(row.p50.verdict, Verdict::Faster);
        assert_eq!(row.p99.verdict, Verdict::WithinNoise);
        let row = Row::of(asked(), pairs(&[1.0; 5]), None).unwrap();
        assert_eq!(row.requests_per_cpu_second.verdict, Verdict::NotJudged);
        assert!(Row::of(asked(), vec![], None).is_none());
    }
}
