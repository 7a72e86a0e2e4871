//! When a fresh connection is handed over: a rule over numbers.
//!
//! Connections that stay are what makes cores uneven: for them it counts who has how many open, and each is handed over
//! that keeps the difference within one. Of connections that end at once the kernel's hash gives every worker as many, but
//! for a difference that grows with the root of their number; a hand-over costs more than it mends there. So what is
//! borne is a part of that root, of what came lately and is gone: nothing while all that came are there still, one or two
//! after a hundred that came and went, and where thousands do in a second, a few of a hundred are handed over. This holds for
//! who has more open as well: of a few short connections at a time one worker has twice as many every other moment, and
//! each would be handed over that comes to it then (measured: a quarter of all).

/// What a worker has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Connections that are open, those that wait for it to take them included.
    pub(super) open: usize,
    /// Connections that it began to serve in the last seconds.
    pub(super) lately: usize,
}

impl Load {
    /// Which of two is to have the next connection: the lesser.
    pub(super) fn key(self) -> (usize, usize) {
        (self.open, self.lately)
    }

    /// The difference that is not worth a hand-over.
    fn slack(self) -> usize {
        self.lately.saturating_sub(self.open).isqrt() / SLACK_PART
    }
}

/// Of the root of the connections that have come lately and are gone, the part that two workers may differ by.
const SLACK_PART: usize = 4;

/// True if a connection that came to who has `own` is to go to who has `least`.
pub(super) fn goes_over(own: Load, least: Load) -> bool {
    let slack = own.slack();
    if own.open > least.open.saturating_add(slack) {
        return true;
    }
    // It must not be paid for with a difference in what stays.
    own.open >= least.open && own.lately > least.lately.saturating_add(slack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(open: usize, lately: usize) -> Load {
        Load { open, lately }
    }

    /// Workers that `pick` says each next connection comes to; gives the hand-overs.
    struct Workers(Vec<Load>);

    impl Workers {
        fn new(count: usize) -> Workers {
            Workers(vec![Load::default(); count])
        }

        /// A connection comes to worker `at`; gives whom it is served by.
        fn comes_to(&mut self, at: usize) -> usize {
            let others = (0..self.0.len()).filter(|other| *other != at);
            let least = others.min_by_key(|other| self.0[*other].key());
            let to = least
                .filter(|least| goes_over(self.0[at], self.0[*least]))
                .unwrap_or(at);
            self.0[to].open += 1;
            self.0[to].lately += 1;
            to
        }

        fn spread(&self, of: impl Fn(&Load) -> usize) -> usize {
            let of = || self.0.iter().map(&of);
            of().max().unwrap() - of().min().unwrap()
        }
    }

    #[test]
    fn connections_that_stay_differ_by_one_at_most_wherever_they_come_to() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let count = rng.usize(2..9);
            let mut workers = Workers::new(count);
            let all_to_one = rng.bool();
            for _ in 0..rng.usize(1..300) {
                workers.comes_to(if all_to_one { 0 } else { rng.usize(..count) });
                assert!(workers.spread(|load| load.open) <= 1, "seed {seed}: {:?}", workers.0);
            }
        }
    }

    #[test]
    fn a_hundred_that_come_and_go_differ_by_a_few_and_thousands_are_hardly_ever_handed_over() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut workers = Workers::new(2);
            let mut handed = 0;
            for n in 1..=20_000 {
                let at = rng.usize(..2);
                let to = workers.comes_to(at);
                workers.0[to].open -= 1;
                handed += usize::from(to != at);
                if n == 100 {
                    assert!(workers.spread(|load| load.lately) <= 3, "seed {seed}: {:?}", workers.0);
                }
            }
            assert!(handed < 20_000 / 20, "seed {seed}: {handed}");
        }
    }

    #[test]
    fn what_stays_counts_before_what_came_lately() {
        // Fresh after a restart: it gets what comes, however much it had lately.
        assert!(goes_over(load(8, 0), load(0, 8)));
        assert!(!goes_over(load(0, 8), load(8, 0)));
        // Even in what stays: then it is what came lately.
        assert!(goes_over(load(8, 9), load(8, 0)));
        assert!(!goes_over(load(8, 8), load(8, 8)));
        // 100 that are gone bear a difference of 2.
        assert!(!goes_over(load(40, 140), load(38, 140)));
        assert!(goes_over(load(41, 141), load(38, 140)));
        assert!(!goes_over(load(0, 102), load(0, 100)));
        assert!(goes_over(load(0, 103), load(0, 100)));
    }

    #[test]
    fn no_number_is_too_large() {
        let most = load(usize::MAX, usize::MAX);
        assert!(!goes_over(most, most));
        assert!(goes_over(load(usize::MAX, 0), load(0, usize::MAX)));
        assert!(!goes_over(load(0, usize::MAX), most));
    }
}
