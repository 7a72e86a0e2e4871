//! What pairs of runs come to: a median with its interval, the noise floor of an A/A run, and a verdict beyond it.
//!
//! The interval is that of order statistics: between the k-th smallest and the k-th largest value lies the true median
//! with a probability that follows from the binomial distribution alone (David and Nagaraja, Order Statistics, section
//! 7.1). It assumes nothing of how the values are spread: neither that they are symmetric, as Hodges-Lehmann does, nor
//! that five of them stand for all that could have come, as a bootstrap does, whose intervals are too narrow for so few.
//! It needs no random numbers, so the same values give the same interval. The price: with fewer than six values no
//! interval reaches 95 %, and the coverage that it has stands beside it.

use serde::{Deserialize, Serialize};

use crate::cost::median;

/// Coverage that an interval has where there are values enough for it.
const COVERAGE: f64 = 0.95;
/// Fewer values are not judged: the interval of four covers 87.5 %.
const VALUES_MIN: usize = 5;

/// A median, and where the true one is likely to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// The median of the values.
    pub(crate) median: f64,
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
    /// Probability that the true median lies between the two.
    pub(crate) coverage: f64,
}

impl Interval {
    /// Of values that are independent of each other; `None` where there are none, or one is no number.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        if sorted.iter().any(|value| value.is_nan()) {
            return None;
        }
        // The innermost pair of values that covers enough, else the outermost.
        let inward = (0..sorted.len() / 2)
            .take_while(|&skipped| coverage(sorted.len(), skipped) >= COVERAGE)
            .last();
        let skipped = inward.unwrap_or(0);
        Some(Self {
            median: median(sorted.iter().copied()),
            low: sorted.get(skipped).copied()?,
            high: sorted.iter().nth_back(skipped).copied()?,
            coverage: coverage(sorted.len(), skipped),
        })
    }

    /// How far from 1 the interval of a ratio reaches, as a factor less 1: 0.03 for 0.98 to 1.03. Of the ratios of a
    /// server to itself this is the noise floor: medians of as many pairs stray so far where nothing differs.
    pub(crate) fn stray(&self) -> f64 {
        self.high.max(1.0 / self.low) - 1.0
    }
}

/// Probability that the median of a distribution lies within a sorted sample of `count` without the `skipped` values at
/// either end: less the probability that too few fall below it, or too few above.
fn coverage(count: usize, skipped: usize) -> f64 {
    // The terms of (1/2 + 1/2)^count, each from the last.
    let mut term = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut tail = 0.0;
    for below in 0..=skipped {
        tail += term;
        term *= (count.saturating_sub(below)) as f64 / (below + 1) as f64;
    }
    (1.0 - 2.0 * tail).max(0.0)
}

/// What may be said of A against B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// A is better, by more than noise.
    #[serde(rename = "faster")]
    Faster,
    /// A is worse, by more than noise.
    #[serde(rename = "slower")]
    Slower,
    /// The interval is not wholly beyond what a server differs from itself.
    #[serde(rename = "within noise")]
    WithinNoise,
    /// Too few pairs, or no A/A run to know the noise from.
    #[serde(rename = "not judged")]
    NotJudged,
}

impl Verdict {
    /// The words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::WithinNoise => "within noise",
            Self::NotJudged => "not judged",
        }
    }
}

/// Which way a ratio A/B is good for A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Good {
    /// Requests a second.
    High,
    /// Microseconds.
    Low,
}

/// The ratios A/B of pairs of runs, and the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// The ratio.
    #[serde(flatten)]
    pub(crate) interval: Interval,
    /// The noise floor that it was held against.
    pub(crate) noise: Option<f64>,
    /// What follows.
    pub(crate) verdict: Verdict,
}

impl Estimate {
    /// Judges ratios against the floor that an A/A run gave; `None` where there are no ratios.
    pub(crate) fn of(ratios: &[f64], noise: Option<f64>, good: Good) -> Option<Self> {
        let interval = Interval::of(ratios)?;
        let verdict = match noise {
            Some(noise) if ratios.len() >= VALUES_MIN => {
                let beyond = 1.0 + noise;
                match (interval.low > beyond, interval.high < 1.0 / beyond) {
                    (true, _) if good == Good::High => Verdict::Faster,
                    (true, _) => Verdict::Slower,
                    (_, true) if good == Good::High => Verdict::Slower,
                    (_, true) => Verdict::Faster,
                    (false, false) => Verdict::WithinNoise,
                }
            }
            _ => Verdict::NotJudged,
        };
        Some(Self {
            interval,
            noise,
            verdict,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn coverages_are_those_of_the_tables() {
        // David and Nagaraja's table; also any table of the sign test.
        for (count, skipped, expected) in [
            (1, 0, 0.0),
            (4, 0, 0.875),
            (5, 0, 0.9375),
            (6, 0, 0.96875),
            (9, 1, 0.9609375),
            (10, 1, 0.978515625),
            (20, 5, 0.958610534667969),
        ] {
            let found = coverage(count, skipped);
            assert!((found - expected).abs() < 1e-12, "{count} {skipped}: {found}");
        }
    }

    #[test]
    fn the_ends_are_values_as_far_in_as_95_per_cent_allow() {
        let of = |count: u32| {
            let values: Vec<f64> = (1..=count).map(f64::from).collect();
            let i = Interval::of(&values).unwrap();
            (i.low, i.median, i.high)
        };
        assert_eq!(of(5), (1.0, 3.0, 5.0));
        assert_eq!(of(8), (1.0, 4.5, 8.0));
        assert_eq!(of(9), (2.0, 5.0, 8.0));
        assert_eq!(of(20), (6.0, 10.5, 15.0));
        assert_eq!(Interval::of(&[]), None);
        assert_eq!(Interval::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn verdicts_need_the_whole_interval_beyond_the_noise() {
        let judge = |ratios: &[f64], noise, good| Estimate::of(ratios, noise, good).unwrap().verdict;
        let (high, low, around) = (
            [1.2, 1.3, 1.25, 1.22, 1.4],
            [0.5, 0.6, 0.7, 0.6, 0.6],
            [0.9, 1.3, 1.3, 1.3, 1.3],
        );
        assert_eq!(judge(&high, Some(0.05), Good::High), Verdict::Faster);
        assert_eq!(judge(&high, Some(0.05), Good::Low), Verdict::Slower);
        assert_eq!(judge(&high, Some(0.21), Good::High), Verdict::WithinNoise);
        assert_eq!(judge(&low, Some(0.05), Good::High), Verdict::Slower);
        assert_eq!(judge(&low, Some(0.05), Good::Low), Verdict::Faster);
        // As far from 1 as the noise, counted as a factor either way.
        assert_eq!(judge(&low, Some(0.5), Good::Low), Verdict::WithinNoise);
        assert_eq!(judge(&around, Some(0.0), Good::High), Verdict::WithinNoise);
        assert_eq!(judge(&high[..4], Some(0.0), Good::High), Verdict::NotJudged);
        assert_eq!(judge(&high, None, Good::High), Verdict::NotJudged);
    }

    /// Numbers that look random, the same each time (SplitMix64), in 0..1.
    fn draws(mut state: u64) -> impl Iterator<Item = f64> {
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        })
    }

    #[test]
    fn intervals_hold_the_true_median_as_often_as_they_say() {
        for count in [5, 6, 9, 15] {
            // Skewed, as times are: the median of -ln(u) is ln 2.
            let mut values = draws(count as u64).map(|u| -(1.0 - u).ln());
            let (mut held, mut said) = (0, 0.0);
            for _ in 0..4000 {
                let sample: Vec<f64> = values.by_ref().take(count).collect();
                let interval = Interval::of(&sample).unwrap();
                held += u32::from(interval.low <= 2_f64.ln() && 2_f64.ln() <= interval.high);
                said = interval.coverage;
            }
            let share = f64::from(held) / 4000.0;
            assert!((share - said).abs() < 0.015, "{count} values: {share} and not {said}");
        }
    }

    #[test]
    fn a_server_is_seldom_found_to_differ_from_itself_and_a_faster_one_is_found() {
        let mut noise = draws(7).map(|u| 0.9 + u / 5.0);
        let (mut false_alarms, mut found) = (0, 0);
        for _ in 0..1000 {
            let mut take = |factor: f64| -> Vec<f64> { noise.by_ref().take(6).map(|n| n * factor).collect() };
            let floor = Interval::of(&take(1.0)).unwrap().stray();
            let judge = |ratios: &[f64]| Estimate::of(ratios, Some(floor), Good::High).unwrap().verdict;
            false_alarms += u32::from(judge(&take(1.0)) != Verdict::WithinNoise);
            found += u32::from(judge(&take(1.5)) == Verdict::Faster);
        }
        assert!(false_alarms < 20, "{false_alarms} of 1000");
        assert_eq!(found, 1000);
    }

    proptest! {
        #[test]
        fn an_interval_encloses_its_median_and_ignores_order_and_scale(
            mut values in prop::collection::vec(0.01_f64..100.0, 1..40),
            scale in 0.01_f64..100.0,
            turn in 0_usize..40,
        ) {
            let i = Interval::of(&values).unwrap();
            prop_assert!(i.low <= i.median && i.median <= i.high);
            prop_assert!(values.contains(&i.low) && values.contains(&i.high));
            prop_assert!((0.0..1.0).contains(&i.coverage));
            prop_assert_eq!(i.coverage >= COVERAGE, values.len() >= 6);
            let middle = turn % values.len();
            values.rotate_left(middle);
            prop_assert_eq!(Interval::of(&values).unwrap(), i);
            let scaled: Vec<f64> = values.iter().map(|value| value * scale).collect();
            let s = Interval::of(&scaled).unwrap();
            prop_assert_eq!((s.low, s.high), (i.low * scale, i.high * scale));
        }

        #[test]
        fn verdicts_turn_round_with_the_sides(
            ratios in prop::collection::vec(0.2_f64..5.0, 5..12),
            noise in 0.0_f64..0.5,
        ) {
            let turned: Vec<f64> = ratios.iter().map(|ratio| 1.0 / ratio).collect();
            let judge = |ratios: &[f64], good| Estimate::of(ratios, Some(noise), good).unwrap().verdict;
            // B against A, where less is better, is A against B where more is.
            let (there, back) = (judge(&ratios, Good::High), judge(&turned, Good::Low));
            let edge = Interval::of(&ratios).unwrap();
            let near = |end: f64| (end - (1.0 + noise)).abs() < 1e-9 || (end - 1.0 / (1.0 + noise)).abs() < 1e-9;
            if !near(edge.low) && !near(edge.high) {
                prop_assert_eq!(there, back);
            }
            // More noise never makes a verdict firmer.
            let louder = Estimate::of(&ratios, Some(noise * 2.0 + 0.01), Good::High).unwrap().verdict;
            prop_assert!(louder == there || louder == Verdict::WithinNoise);
        }
    }
}
