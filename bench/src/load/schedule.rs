//! When requests are due, in the open loop.

use crate::clock::SECOND_NS;

/// Constant arrivals of one thread: its share of the rate, shifted so that the threads' arrivals interleave evenly.
#[derive(Debug)]
pub(super) struct Schedule {
    start_ns: u64,
    end_ns: u64,
    /// Nanoseconds between two arrivals of this thread; a float, since rounding it would bend the rate.
    interval_ns: f64,
    offset_ns: f64,
    taken: u64,
}

impl Schedule {
    /// `rate` is over all threads, in requests per second; arrivals lie in `start_ns..end_ns`.
    pub(super) fn new(rate: f64, thread: u32, threads: u32, start_ns: u64, end_ns: u64) -> Self {
        let all = SECOND_NS as f64 / rate;
        Self {
            start_ns,
            end_ns,
            interval_ns: all * f64::from(threads),
            offset_ns: all * f64::from(thread),
            taken: 0,
        }
    }

    /// When the next request is due; `None` when all have been taken.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        // From the count, not by adding up: errors do not add up either.
        let after = self.offset_ns + self.interval_ns * self.taken as f64;
        let due = self.start_ns.saturating_add(after.round() as u64);
        (due < self.end_ns).then_some(due)
    }

    /// Takes the next request if it is due by `now_ns`: gives its due time.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_due_ns().filter(|&due| due <= now_ns)?;
        self.taken = self.taken.saturating_add(1);
        Some(due)
    }

    /// Takes everything that is left: how many requests were due and never sent.
    pub(super) fn drain(&mut self) -> u64 {
        let mut left = 0_u64;
        while self.take(u64::MAX).is_some() {
            left = left.saturating_add(1);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_even_and_the_rate_is_met() {
        for (rate, threads) in [(1000.0, 1), (3000.0, 2), (7777.0, 3), (0.5, 1)] {
            let mut all = Vec::new();
            for thread in 0..threads {
                let mut s = Schedule::new(rate, thread, threads, 1_000, 1_000 + 4 * SECOND_NS);
                while let Some(due) = s.take(u64::MAX) {
                    all.push(due);
                }
                assert_eq!(s.drain(), 0);
            }
            all.sort_unstable();
            assert_eq!(all.len() as f64, (rate * 4.0).round(), "{rate} over {threads}");
            let gap = SECOND_NS as f64 / rate;
            assert!(
                all.windows(2).all(|w| ((w[1] - w[0]) as f64 - gap).abs() <= 2.0),
                "{rate} over {threads}"
            );
        }
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let mut s = Schedule::new(10.0, 0, 1, 0, SECOND_NS);
        assert_eq!(s.take(0), Some(0));
        assert_eq!(s.take(99_999_999), None);
        assert_eq!(s.take(250_000_000), Some(100_000_000));
        assert_eq!(s.take(250_000_000), Some(200_000_000));
        assert_eq!(s.take(250_000_000), None);
        assert_eq!(s.drain(), 7);
    }
}
