//! How long to wait before the next attempt.
//!
//! Capped exponential growth with full jitter: any time from nothing to the cap of this attempt. Of the usual schemes
//! it is the one that spreads twenty pods best that lost their database in the same millisecond (Brooker, "Exponential
//! Backoff And Jitter", AWS Architecture Blog, 2015).

use crate::runtime::context;
use std::time::Duration;

/// Pauses between attempts; grows with each, until [`reset`](Backoff::reset).
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// The first pause is at most `first`, each later one at most twice the one before, and none longer than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Backoff {
        Backoff {
            first,
            cap,
            attempts: 0,
        }
    }

    /// The pause after one more failure. Its randomness is the runtime's.
    pub fn next_pause(&mut self) -> Duration {
        context::random(|rng| self.next_with(rng))
    }

    /// The same with another source of randomness.
    pub fn next_with(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let most = self.most();
        self.attempts = self.attempts.saturating_add(1);
        let ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.u64(0..=ns))
    }

    /// The longest that the next pause may be.
    pub fn most(&self) -> Duration {
        let factor = 1u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }

    /// Failures since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It worked: the next failure begins anew.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_spread_below_it() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, cap);
        let mut rng = fastrand::Rng::with_seed(7);
        let mut most = first;
        for _ in 0..100 {
            assert_eq!(backoff.most(), most.min(cap));
            assert!(backoff.next_with(&mut rng) <= most.min(cap));
            most = (most * 2).min(cap);
        }
        // Spread: of many pauses at the cap some lie in each quarter.
        let mut quarters = [0; 4];
        for _ in 0..400 {
            let pause = backoff.next_with(&mut rng);
            quarters[(pause.as_millis() as usize * 4 / 5001).min(3)] += 1;
        }
        assert!(quarters.iter().all(|count| *count > 40), "{quarters:?}");
        backoff.reset();
        assert_eq!(backoff.most(), first);
    }
}
