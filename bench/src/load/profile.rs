//! Intended rates over time: ramps, steps, spikes, as pieces of straight lines.

use serde::{Deserialize, Serialize};

/// Highest rate, in requests per second: beyond it, a nanosecond clock and doubles no longer tell arrivals apart well.
pub(crate) const RATE_MAX: f64 = 10_000_000.0;
/// Longest profile: a day.
const SECONDS_MAX: f64 = 86_400.0;
/// Most pieces.
const SEGMENTS_MAX: usize = 10_000;

/// A rate that goes evenly from one value to another.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    /// Requests per second at its start.
    pub(crate) from: f64,
    /// At its end.
    pub(crate) to: f64,
    /// How long it lasts.
    pub(crate) seconds: f64,
}

impl Segment {
    /// Requests of its first `t` seconds.
    fn count(&self, t: f64) -> f64 {
        self.from * t + (self.to - self.from) / (2.0 * self.seconds) * t * t
    }

    /// When `count` requests have come; the inverse of [`Segment::count`], in the form that stays exact for flat ones.
    fn time(&self, count: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        let sum = self.from + root;
        if sum > 0.0 { 2.0 * count / sum } else { 0.0 }
    }
}

/// Segments, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profile {
    segments: Vec<Segment>,
}

impl Profile {
    /// Checks them.
    ///
    /// # Errors
    /// A sentence: none, too long, a rate that is none.
    pub(crate) fn new(segments: Vec<Segment>) -> Result<Self, String> {
        if segments.is_empty() || segments.len() > SEGMENTS_MAX {
            return Err(format!("a profile takes 1 to {SEGMENTS_MAX} segments"));
        }
        for s in &segments {
            let rate = |r: f64| (0.0..=RATE_MAX).contains(&r);
            let time = s.seconds > 0.0 && s.seconds <= SECONDS_MAX;
            if !(rate(s.from) && rate(s.to) && time) {
                return Err(format!(
                    "{} to {} requests/s over {} s is no segment: rates are 0 to {RATE_MAX}, times up to {SECONDS_MAX} s",
                    s.from, s.to, s.seconds
                ));
            }
        }
        let profile = Self { segments };
        if profile.seconds() > SECONDS_MAX {
            return Err(format!("a profile lasts up to {SECONDS_MAX} s"));
        }
        if profile.mean() <= 0.0 {
            return Err("a profile without one request".to_owned());
        }
        Ok(profile)
    }

    /// Always the same rate.
    ///
    /// # Errors
    /// A rate that is none.
    pub(crate) fn flat(rate: f64, seconds: f64) -> Result<Self, String> {
        if !(rate > 0.0 && rate <= RATE_MAX) {
            return Err(format!("--rate takes up to {RATE_MAX} requests per second, not {rate}"));
        }
        Self::new(vec![Segment {
            from: rate,
            to: rate,
            seconds,
        }])
    }

    /// Reads what the command line says:
    ///
    /// - `ramp:FROM:TO:SECONDS`
    /// - `step:FROM:TO:STEPS:SECONDS`, each step that long, the first at FROM, the last at TO
    /// - `spike:BASE:PEAK:BEFORE:DURING:AFTER`, seconds of each
    /// - `RATE@SECONDS` or `FROM-TO@SECONDS`, any number of them, with commas between
    ///
    /// # Errors
    /// A sentence with the forms.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number = |t: &str| t.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        let numbers = |t: &str| t.split(':').map(number).collect::<Option<Vec<f64>>>();
        let flat = |rate, seconds| Segment {
            from: rate,
            to: rate,
            seconds,
        };
        let read = || -> Option<Vec<Segment>> {
            if let Some(rest) = text.strip_prefix("ramp:") {
                let [from, to, seconds] = numbers(rest)?.try_into().ok()?;
                return Some(vec![Segment { from, to, seconds }]);
            }
            if let Some(rest) = text.strip_prefix("step:") {
                let [from, to, steps, seconds] = numbers(rest)?.try_into().ok()?;
                if !(1.0..=SEGMENTS_MAX as f64).contains(&steps) {
                    return None;
                }
                let steps = steps as u32;
                let last = f64::from(steps.saturating_sub(1).max(1));
                let rate = |step: u32| from + (to - from) * f64::from(step) / last;
                return Some((0..steps).map(|step| flat(rate(step), seconds)).collect());
            }
            if let Some(rest) = text.strip_prefix("spike:") {
                let [base, peak, before, during, after] = numbers(rest)?.try_into().ok()?;
                return Some(vec![flat(base, before), flat(peak, during), flat(base, after)]);
            }
            text.split(',')
                .map(|piece| {
                    let (rates, seconds) = piece.split_once('@')?;
                    let (from, to) = rates.split_once('-').unwrap_or((rates, rates));
                    Some(Segment {
                        from: number(from)?,
                        to: number(to)?,
                        seconds: number(seconds)?,
                    })
                })
                .collect()
        };
        let segments = read().ok_or_else(|| {
            format!(
                "{text:?} is no profile: ramp:FROM:TO:SECONDS, step:FROM:TO:STEPS:SECONDS, \
                 spike:BASE:PEAK:BEFORE:DURING:AFTER, or FROM-TO@SECONDS,..."
            )
        })?;
        Self::new(segments)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How long it lasts.
    pub(crate) fn seconds(&self) -> f64 {
        self.segments.iter().map(|s| s.seconds).sum()
    }

    /// All its requests.
    fn total(&self) -> f64 {
        self.segments.iter().map(|s| s.count(s.seconds)).sum()
    }

    /// Requests per second on average.
    pub(crate) fn mean(&self) -> f64 {
        self.total() / self.seconds()
    }

    /// The mean rate between two times.
    pub(crate) fn mean_between(&self, from: f64, to: f64) -> f64 {
        let upto = |t: f64| {
            let (mut left, mut count) = (t, 0.0);
            for s in &self.segments {
                let part = left.clamp(0.0, s.seconds);
                count += s.count(part);
                left -= s.seconds;
            }
            count
        };
        (upto(to) - upto(from)) / (to - from).max(1e-9)
    }

    /// With `seconds` at its first rate before it: the warm-up.
    pub(crate) fn with_warmup(&self, seconds: f64) -> Self {
        let mut segments = self.segments.clone();
        if let Some(first) = segments.first().filter(|_| seconds > 0.0) {
            // A ramp from nothing would warm nothing up.
            let rate = if first.from > 0.0 { first.from } else { self.mean() };
            segments.insert(
                0,
                Segment {
                    from: rate,
                    to: rate,
                    seconds,
                },
            );
        }
        Self { segments }
    }

    /// Seconds until `count` requests have come, if they do.
    pub(crate) fn time_of(&self, count: f64) -> Option<f64> {
        let (mut left, mut start) = (count, 0.0);
        for s in &self.segments {
            let here = s.count(s.seconds);
            if left < here {
                return Some(start + s.time(left).min(s.seconds));
            }
            left -= here;
            start += s.seconds;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_command_line() {
        let segments = |text: &str| Profile::parse(text).unwrap().segments;
        let s = |from, to, seconds| Segment { from, to, seconds };
        assert_eq!(segments("ramp:100:5000:30"), [s(100.0, 5000.0, 30.0)]);
        assert_eq!(
            segments("step:1000:3000:3:10"),
            [
                s(1000.0, 1000.0, 10.0),
                s(2000.0, 2000.0, 10.0),
                s(3000.0, 3000.0, 10.0)
            ]
        );
        assert_eq!(
            segments("spike:500:5000:10:2:8"),
            [s(500.0, 500.0, 10.0), s(5000.0, 5000.0, 2.0), s(500.0, 500.0, 8.0)]
        );
        assert_eq!(segments("0-10@1, 10@2.5"), [s(0.0, 10.0, 1.0), s(10.0, 10.0, 2.5)]);
        for bad in [
            "",
            "ramp:1:2",
            "step:1:2:0:1",
            "10",
            "-5@1",
            "10@0",
            "0@5",
            "nan@1",
            "1@inf",
            "1e9@1",
            "1@90000",
        ] {
            assert!(Profile::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ramp_has_its_area() {
        let p = Profile::parse("ramp:0:1000:10").unwrap();
        assert!((p.mean() - 500.0).abs() < 1e-9);
        assert!((p.mean_between(9.0, 10.0) - 950.0).abs() < 1e-6);
        // Half of the requests come in the last 10 - 10/sqrt(2) seconds.
        assert!((p.time_of(2500.0).unwrap() - 10.0 / 2_f64.sqrt()).abs() < 1e-6);
        assert_eq!(p.time_of(5000.0), None);
        let warm = p.with_warmup(2.0);
        assert!((warm.seconds() - 12.0).abs() < 1e-9 && warm.time_of(999.0).unwrap() < 2.0);
    }

    proptest! {
        #[test]
        fn times_go_forward_and_lie_within(
            pieces in prop::collection::vec((0.0..1e5_f64, 1.0..1e5_f64, 0.01..100.0_f64), 1..6),
            counts in prop::collection::vec(0.0..1.0_f64, 1..50),
        ) {
            let profile = Profile::new(pieces.into_iter().map(|(from, to, seconds)| Segment { from, to, seconds }).collect()).unwrap();
            let mut counts: Vec<f64> = counts.into_iter().map(|c| c * profile.total()).collect();
            counts.sort_by(f64::total_cmp);
            let mut before = 0.0;
            for count in counts {
                if let Some(t) = profile.time_of(count) {
                    prop_assert!(t >= before - 1e-6 && t <= profile.seconds() + 1e-9);
                    // And it is the inverse.
                    let back = profile.mean_between(0.0, t) * t.max(1e-9);
                    prop_assert!((back - count).abs() <= 1e-6 * profile.total() + 1e-3, "{} {}", back, count);
                    before = t;
                }
            }
        }
    }
}
