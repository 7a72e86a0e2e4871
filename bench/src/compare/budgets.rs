//! The design's budgets, and whether they are met.

use serde::{Deserialize, Serialize};

use super::report::PeerReport;
use crate::stats::Interval;

/// Which way a budget is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rule {
    #[serde(rename = "at least")]
    AtLeast,
    #[serde(rename = "at most")]
    AtMost,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    #[serde(rename = "met")]
    Met,
    #[serde(rename = "met narrowly")]
    MetNarrowly,
    /// By a server that has a share of a CPU, at a part of what that can do.
    MetOnAShare,
    #[serde(rename = "missed narrowly")]
    MissedNarrowly,
    #[serde(rename = "missed")]
    Missed,
    /// Of upper bounds that are not below what is asked; only `report` has such.
    #[serde(rename = "not shown")]
    NotShown,
    #[serde(rename = "not measured")]
    NotMeasured,
}

impl Outcome {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::MetNarrowly => "met narrowly",
            Self::MetOnAShare => "met on a share of a CPU",
            Self::MissedNarrowly => "missed narrowly",
            Self::Missed => "missed",
            Self::NotShown => "not shown",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One budget, and what was measured of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Budget {
    pub(crate) what: String,
    pub(crate) peer: String,
    pub(crate) scenario: String,
    pub(crate) rule: Rule,
    pub(crate) limit: f64,
    pub(crate) measured: Option<f64>,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    pub(crate) outcome: Outcome,
    /// What the floor, which reads nothing of a request, comes to in its place: more than that is not to be had of this
    /// kernel and machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) floor_reaches: Option<f64>,
    pub(crate) words: String,
}

/// Requests per CPU-second, the service's over the peer's, at least.
const PEERS: [(&str, f64, &[&str]); 6] = [
    ("axum", 1.7, &["live", "story"]),
    ("actix-web", 1.4, &["live", "story"]),
    ("ntex", 1.4, &["live", "story"]),
    ("may_minihttp", 1.2, &["live", "story"]),
    ("nginx", 1.4, &["live", "story"]),
    ("fastapi", 40.0, &["story"]),
];
/// CPU a request, the service's over the floor's, at most.
const FLOOR: [(&str, f64); 2] = [("live", 1.10), ("story", 1.25)];
/// RSS bytes of an idle connection, at most.
const IDLE_BYTES: f64 = 512.0;

/// All budgets, held against what was measured.
pub(crate) fn all(peers: &[PeerReport]) -> Vec<Budget> {
    let peer = |name: &str| peers.iter().find(|peer| peer.name == name);
    let interval = |name: &str, scenario: &str| {
        let row = peer(name)?.rows.iter().find(|row| row.scenario.name() == scenario)?;
        Some((row.requests_per_cpu_second.interval, row.requests_per_cpu_second.noise))
    };
    let mut found = Vec::new();
    for (scenario, limit) in FLOOR {
        // More requests a CPU-second is less CPU a request.
        let turned = interval("floor", scenario).map(|(i, noise)| {
            let turned = Interval {
                median: 1.0 / i.median,
                low: 1.0 / i.high,
                high: 1.0 / i.low,
                coverage: i.coverage,
            };
            (turned, noise)
        });
        let what = format!("CPU a request, {scenario}, over the floor's");
        found.push(Budget::of(what, "floor", scenario, Rule::AtMost, limit, turned));
    }
    for (name, limit, scenarios) in PEERS {
        for scenario in scenarios {
            let what = format!("requests per CPU-second, {scenario}, over {name}'s");
            let measured = interval(name, scenario);
            let reaches = measured
                .zip(interval("floor", scenario))
                .map(|((peer, _), (floor, _))| peer.median / floor.median);
            found.push(Budget::of(what, name, scenario, Rule::AtLeast, limit, measured).floor_reaches(reaches));
        }
    }
    // The service stands on the left of every peer: all its rounds are one sample.
    let rounds: Vec<f64> = peers
        .iter()
        .filter_map(|peer| peer.idle.as_ref())
        .flat_map(|idle| idle.a_bytes.iter().copied())
        .collect();
    found.push(idle(Interval::of(&rounds)));
    found
}

/// What an idle connection may cost, and what rounds measured.
pub(crate) fn idle(measured: Option<Interval>) -> Budget {
    let what = "RSS bytes of an idle connection".to_owned();
    // Memory is read exactly; what it varies by is in the rounds.
    let measured = measured.map(|interval| (interval, Some(0.0)));
    Budget::of(what, "-", "idle", Rule::AtMost, IDLE_BYTES, measured)
}

impl Budget {
    fn of(
        what: String,
        peer: &str,
        scenario: &'static str,
        rule: Rule,
        limit: f64,
        measured: Option<(Interval, Option<f64>)>,
    ) -> Self {
        let outcome = measured.map_or(Outcome::NotMeasured, |(i, noise)| {
            // A median that is as near to the limit as a server strays from itself says little, however narrow its
            // interval; and without an A/A run it is not known how near that is.
            let beyond = |distance: f64| noise.is_some_and(|noise| distance >= 1.0 + noise);
            let (over, under) = (beyond(i.median / limit), beyond(limit / i.median));
            let (kept, surely, surely_not) = match rule {
                Rule::AtLeast => (i.median >= limit, i.low >= limit && over, i.high < limit && under),
                Rule::AtMost => (i.median <= limit, i.high <= limit && under, i.low > limit && over),
            };
            match (kept, surely, surely_not) {
                (true, true, _) => Outcome::Met,
                (true, false, _) => Outcome::MetNarrowly,
                (false, _, true) => Outcome::Missed,
                (false, _, false) => Outcome::MissedNarrowly,
            }
        });
        let (unit, digits) = if scenario == "idle" { (" B", 0) } else { ("x", 2) };
        let bound = match rule {
            Rule::AtLeast => "at least",
            Rule::AtMost => "at most",
        };
        let measured = measured.map(|(interval, _)| interval);
        let words = match measured {
            None => format!("not measured: {bound} {limit}{unit} is asked"),
            Some(i) => format!(
                "{}: {:.digits$}{unit} ({:.digits$} to {:.digits$}), where {bound} {limit}{unit} is asked",
                outcome.words(),
                i.median,
                i.low,
                i.high
            ),
        };
        Self {
            what,
            peer: peer.to_owned(),
            scenario: scenario.to_owned(),
            rule,
            limit,
            measured: measured.map(|i| i.median),
            low: measured.map(|i| i.low),
            high: measured.map(|i| i.high),
            outcome,
            floor_reaches: None,
            words,
        }
    }

    fn floor_reaches(mut self, reaches: Option<f64>) -> Self {
        if let Some(reaches) = reaches {
            self.words
                .push_str(&format!(" (the floor, which reads nothing, reaches {reaches:.2}x)"));
        }
        self.floor_reaches = reaches;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Scenario;
    use crate::compare::report::tests::{asked, pairs};
    use crate::compare::report::{Idle, Noise, Row, State};

    fn peer(name: &str, ratios: &[f64], bytes: f64) -> PeerReport {
        let noise = Noise::of(Scenario::Live, &pairs(&[0.98, 1.0, 1.0, 1.0, 1.02]));
        PeerReport {
            name: name.to_owned(),
            what: String::new(),
            version: None,
            fairness: String::new(),
            state: State::Measured,
            reason: None,
            command: None,
            rows: Row::of(asked(), pairs(ratios), Some(&noise)).into_iter().collect(),
            idle: Some(Idle::of(100, vec![bytes], vec![9000.0])),
        }
    }

    #[test]
    fn budgets_are_met_missed_or_between() {
        let found = all(&[
            peer("floor", &[0.95, 0.95, 0.96, 0.94, 0.8], 400.0),
            peer("axum", &[1.8, 1.9, 1.75, 1.8, 1.8], 500.0),
            peer("ntex", &[1.3, 1.3, 1.45, 1.3, 1.3], 600.0),
            peer("nginx", &[1.1, 1.1, 1.2, 1.1, 1.1], 450.0),
            // Surely beyond the limit, and by less than the noise.
            peer("actix-web", &[1.41; 5], 475.0),
        ]);
        let of = |name: &str| found.iter().find(|b| b.peer == name && b.scenario == "live").unwrap();
        assert_eq!(of("floor").outcome, Outcome::MetNarrowly);
        assert!((of("floor").high.unwrap() - 1.25).abs() < 1e-9);
        assert_eq!(of("axum").outcome, Outcome::Met);
        assert_eq!(of("ntex").outcome, Outcome::MissedNarrowly);
        assert_eq!(of("nginx").outcome, Outcome::Missed);
        assert_eq!(of("actix-web").outcome, Outcome::MetNarrowly);
        assert_eq!(of("may_minihttp").outcome, Outcome::NotMeasured);
        let idle = found.last().unwrap();
        assert_eq!((idle.outcome, idle.measured), (Outcome::MetNarrowly, Some(475.0)));
        assert_eq!(
            idle.words,
            "met narrowly: 475 B (400 to 600), where at most 512 B is asked"
        );
        assert_eq!(
            of("axum").words,
            "met: 1.80x (1.75 to 1.90), where at least 1.7x is asked (the floor, which reads nothing, reaches 1.89x)"
        );
        assert_eq!(of("may_minihttp").floor_reaches, None);
    }
}
