//! Conditions on a run: `p99>200ms`, `errors>0.1%`, `story.p99.9>=1s`, `rps<2900`.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::engine::Measured;
use super::report::Report;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// Latency at a quantile; of the first event where `first`.
    Quantile {
        quantile: f64,
        first: bool,
    },
    Mean,
    Max,
    Rate,
    ErrorCount,
    ErrorShare,
    Skipped,
    Requests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    More,
    MoreOrAlike,
    Less,
    LessOrAlike,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    text: String,
    class: Option<String>,
    metric: Metric,
    relation: Relation,
    /// Microseconds, a share, or a number.
    bound: f64,
}

/// What became of a condition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// As it was written.
    pub(crate) fail_if: String,
    pub(crate) value: f64,
    pub(crate) failed: bool,
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const FORMS: &str = "[CLASS.]METRIC OP VALUE, where METRIC is p50, p99, p99.9 and so on, first.p99 (first event), mean, max, \
                     rps, errors, skipped or requests; OP is >, >=, < or <=; times have a unit (ns, us, ms, s), errors a number or %";

impl std::str::FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("{text:?} is no condition: {FORMS}"))
    }
}

impl Threshold {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['<', '>'])?;
        let (name, rest) = text.split_at(at);
        let (relation, value) = if let Some(v) = rest.strip_prefix(">=") {
            (Relation::MoreOrAlike, v)
        } else if let Some(v) = rest.strip_prefix("<=") {
            (Relation::LessOrAlike, v)
        } else if let Some(v) = rest.strip_prefix('>') {
            (Relation::More, v)
        } else {
            (Relation::Less, rest.strip_prefix('<')?)
        };
        let (name, value) = (name.trim(), value.trim());
        // A class's name may have dots in it, and so has p99.9: the metric is the longest end that is one.
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        let (start, read) = starts
            .filter_map(|start| Some((start, metric(name.get(start..)?)?)))
            .next()?;
        let class = name.get(..start.saturating_sub(1)).filter(|class| !class.is_empty());
        let number = |t: &str| t.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let (metric, bound) = match read {
            Metric::ErrorCount => match value.strip_suffix('%') {
                Some(share) => (Metric::ErrorShare, number(share)? / 100.0),
                None => (Metric::ErrorCount, number(value)?),
            },
            Metric::Rate | Metric::Skipped | Metric::Requests => (read, number(value)?),
            Metric::Quantile { .. } | Metric::Mean | Metric::Max => {
                let (digits, unit) = value.split_at(value.find(|c: char| c.is_ascii_alphabetic())?);
                let us = match unit.trim() {
                    "ns" => 0.001,
                    "us" => 1.0,
                    "ms" => 1e3,
                    "s" => 1e6,
                    _ => return None,
                };
                (read, number(digits)? * us)
            }
            Metric::ErrorShare => return None,
        };
        // These are of the whole run.
        if class.is_some() && matches!(metric, Metric::Rate | Metric::Skipped | Metric::ErrorShare) {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            class: class.map(str::to_owned),
            metric,
            relation,
            bound,
        })
    }

    /// It speaks of errors: then errors by themselves fail nothing.
    pub(crate) fn is_of_errors(&self) -> bool {
        matches!(self.metric, Metric::ErrorCount | Metric::ErrorShare)
    }

    /// Looks at a run.
    ///
    /// # Errors
    /// The class that is named is none of the run's.
    pub(crate) fn judge(&self, report: &Report, names: &[String], measured: &Measured) -> Result<Judged, String> {
        let class = match &self.class {
            None => None,
            Some(name) => {
                let place = names.iter().position(|known| known == name);
                let class = place.and_then(|place| measured.classes.get(place));
                Some(class.ok_or_else(|| format!("{self}: no request is named {name:?}, but {}", names.join(", ")))?)
            }
        };
        let latency = class.map_or(&report.latency, |class| &class.latency);
        let us = |h: &Histogram<u64>, quantile: f64| h.value_at_quantile(quantile) as f64 / 1000.0;
        let value = match self.metric {
            Metric::Quantile { quantile, first: false } => us(latency, quantile),
            Metric::Quantile { quantile, first: true } => {
                let firsts = match class {
                    Some(class) => class.first_event.as_ref(),
                    None => measured.classes.iter().find_map(|class| class.first_event.as_ref()),
                };
                us(
                    firsts.ok_or_else(|| format!("{self}: no request is a stream of events"))?,
                    quantile,
                )
            }
            Metric::Mean => latency.mean() / 1000.0,
            Metric::Max => latency.max() as f64 / 1000.0,
            Metric::Rate => report.requests_per_second,
            Metric::ErrorCount => class.map_or(report.error_count, |class| class.errors) as f64,
            Metric::ErrorShare => report.error_share(),
            Metric::Skipped => report.errors.skipped as f64,
            Metric::Requests => latency.len() as f64,
        };
        Ok(Judged {
            fail_if: self.text.clone(),
            value,
            failed: self.holds(value),
        })
    }

    fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::More => value > self.bound,
            Relation::MoreOrAlike => value >= self.bound,
            Relation::Less => value < self.bound,
            Relation::LessOrAlike => value <= self.bound,
        }
    }
}

fn metric(name: &str) -> Option<Metric> {
    let quantile = |name: &str| {
        let percent = name.strip_prefix('p')?.parse::<f64>().ok()?;
        (percent > 0.0 && percent <= 100.0).then_some(percent / 100.0)
    };
    Some(match name {
        "mean" => Metric::Mean,
        "max" => Metric::Max,
        "rps" => Metric::Rate,
        "errors" => Metric::ErrorCount,
        "skipped" => Metric::Skipped,
        "requests" => Metric::Requests,
        _ => match name.strip_prefix("first.") {
            Some(name) => Metric::Quantile {
                quantile: quantile(name)?,
                first: true,
            },
            None => Metric::Quantile {
                quantile: quantile(name)?,
                first: false,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        let read = |text: &str| text.parse::<Threshold>().unwrap();
        let t = read("p99>200ms");
        assert_eq!(
            (t.class.as_deref(), t.relation, t.bound),
            (None, Relation::More, 200_000.0)
        );
        let t = read("story.v2.p99.9 >= 1.5s");
        assert_eq!((t.class.as_deref(), t.bound), (Some("story.v2"), 1_500_000.0));
        assert!(matches!(t.metric, Metric::Quantile { quantile, first: false } if (quantile - 0.999).abs() < 1e-9));
        let t = read("stream.first.p50>10us");
        assert_eq!(t.class.as_deref(), Some("stream"));
        assert!(matches!(t.metric, Metric::Quantile { first: true, .. }));
        assert_eq!(read("errors>0.1%").metric, Metric::ErrorShare);
        assert!((read("errors>0.1%").bound - 0.001).abs() < 1e-12);
        assert_eq!(read("errors>0").metric, Metric::ErrorCount);
        assert_eq!(read("GET /health.errors>3").class.as_deref(), Some("GET /health"));
        assert!(read("rps<2900").holds(2899.0) && !read("rps<2900").holds(2900.0));
        assert!(read("rps<=2900").holds(2900.0) && read("skipped>=0").holds(0.0));
    }

    #[test]
    fn what_is_no_condition_is_told() {
        for bad in [
            "", "p99", "p99>200", "p0>1ms", "p101>1ms", "p99>-1ms", "p99=1ms", "rps<1ms", "x>1", "a.rps<1", "p99>1h",
        ] {
            assert!(bad.parse::<Threshold>().is_err_and(|e| e.contains("METRIC")), "{bad}");
        }
    }
}
