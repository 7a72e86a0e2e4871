//! When requests are due in the open loop, whatever the server does.

use std::sync::Arc;

use fastrand::Rng;

use super::profile::Profile;
use super::replay::Replay;
use crate::clock::SECOND_NS;

/// What arrivals follow.
#[derive(Clone, Debug)]
pub(crate) enum Law {
    /// None: each connection asks again when it is answered.
    Closed,
    /// Evenly spaced, at the rates of a profile.
    Constant(Profile),
    /// At random and independent of each other (a Poisson process), at the rates of a profile: as many users who know
    /// nothing of each other come.
    Poisson(Profile),
    /// At the times of a log, that many times as fast.
    Log(Arc<Replay>, f64),
}

impl Law {
    /// Intended rates; the closed loop and a log have none.
    pub(crate) fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Constant(profile) | Self::Poisson(profile) => Some(profile),
            Self::Closed | Self::Log(..) => None,
        }
    }

    /// Its name in reports.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Constant(_) => "constant",
            Self::Poisson(_) => "poisson",
            Self::Log(..) => "log",
        }
    }

    /// Mean intended requests per second; `None` in the closed loop.
    pub(crate) fn rate(&self) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Constant(profile) | Self::Poisson(profile) => Some(profile.mean()),
            Self::Log(replay, speed) => Some(replay.mean_rate() * speed),
        }
    }
}

/// The arrivals of one thread: those of all threads interleave.
#[derive(Debug)]
pub(super) struct Arrivals {
    law: Law,
    start_ns: u64,
    end_ns: u64,
    thread: u64,
    threads: u64,
    taken: u64,
    /// Poisson: where the thread's last arrival lies, in requests of all threads.
    upto: f64,
    rng: Rng,
    next_ns: Option<u64>,
}

impl Arrivals {
    /// Arrivals within `start_ns..end_ns`. `law` has the warm-up in it already.
    pub(super) fn new(law: Law, thread: u32, threads: u32, start_ns: u64, end_ns: u64, seed: u64) -> Self {
        let mut arrivals = Self {
            law,
            start_ns,
            end_ns,
            thread: u64::from(thread),
            threads: u64::from(threads.max(1)),
            taken: 0,
            upto: 0.0,
            rng: Rng::with_seed(seed),
            next_ns: None,
        };
        arrivals.step();
        arrivals
    }

    fn step(&mut self) {
        let number = self.thread + self.taken * self.threads;
        let after_ns = match &self.law {
            Law::Closed => None,
            // From the count, not by adding up: errors do not add up either.
            Law::Constant(profile) => profile.time_of(number as f64).map(|s| s * SECOND_NS as f64),
            Law::Poisson(profile) => {
                // Gaps of a unit process are exponential; the profile bends its time.
                self.upto -= (1.0 - self.rng.f64()).ln() * self.threads as f64;
                profile.time_of(self.upto).map(|s| s * SECOND_NS as f64)
            }
            Law::Log(replay, speed) => replay.offset_ns(number).map(|ns| ns as f64 / speed),
        };
        self.next_ns = after_ns
            .map(|after| self.start_ns.saturating_add(after.round() as u64))
            .filter(|&due| due < self.end_ns);
    }

    /// When the next request is due; `None` when all have been taken.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Takes the next request if it is due by `now_ns`: gives its due time.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns.filter(|&due| due <= now_ns)?;
        self.taken = self.taken.saturating_add(1);
        self.step();
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(law: &Law, threads: u32, seconds: u64) -> Vec<u64> {
        let mut all = Vec::new();
        for thread in 0..threads {
            let mut a = Arrivals::new(
                law.clone(),
                thread,
                threads,
                1_000,
                1_000 + seconds * SECOND_NS,
                5 + u64::from(thread),
            );
            while let Some(due) = a.take(u64::MAX) {
                all.push(due);
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn constant_arrivals_are_even_and_the_rate_is_met() {
        for (rate, threads) in [(1000.0, 1), (3000.0, 2), (7777.0, 3), (0.5, 1)] {
            let all = all(&Law::Constant(Profile::flat(rate, 4.0).unwrap()), threads, 4);
            assert_eq!(all.len() as f64, (rate * 4.0).round(), "{rate} over {threads}");
            let gap = SECOND_NS as f64 / rate;
            assert!(
                all.windows(2).all(|w| ((w[1] - w[0]) as f64 - gap).abs() <= 2.0),
                "{rate} over {threads}"
            );
        }
    }

    #[test]
    fn a_step_of_the_profile_is_met_by_both_laws() {
        let profile = Profile::parse("1000@2,4000@2").unwrap();
        for (law, spread) in [
            (Law::Constant(profile.clone()), 1.0),
            (Law::Poisson(profile), 5.0 * 8000_f64.sqrt()),
        ] {
            let all = all(&law, 2, 4);
            let first = all.iter().filter(|&&due| due < 1_000 + 2 * SECOND_NS).count() as f64;
            let second = all.len() as f64 - first;
            assert!(
                (first - 2000.0).abs() <= spread && (second - 8000.0).abs() <= spread,
                "{first} {second}"
            );
        }
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        // Of exponential gaps, the deviation equals the mean, and 1 - 1/e of them are shorter than it.
        let all = all(&Law::Poisson(Profile::flat(5000.0, 10.0).unwrap()), 3, 10);
        let gaps: Vec<f64> = all.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        let short = gaps.iter().filter(|g| **g < mean).count() as f64 / gaps.len() as f64;
        assert!((mean - 200_000.0).abs() < 6_000.0, "{mean}");
        assert!((deviation / mean - 1.0).abs() < 0.03, "{}", deviation / mean);
        assert!((short - 0.632).abs() < 0.02, "{short}");
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let law = Law::Constant(Profile::flat(10.0, 1.0).unwrap());
        let mut a = Arrivals::new(law, 0, 1, 0, SECOND_NS, 1);
        assert_eq!(a.take(0), Some(0));
        assert_eq!(a.take(99_999_999), None);
        assert_eq!(a.take(250_000_000), Some(100_000_000));
        assert_eq!(a.take(250_000_000), Some(200_000_000));
        assert_eq!((a.take(250_000_000), a.next_due_ns()), (None, Some(300_000_000)));
    }
}
