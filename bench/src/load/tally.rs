//! The counts of one thread, and what it tells of each interval while it runs.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::errors::Errors;
use crate::answer::Told;

/// Longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// 1 ns to two minutes, three digits.
pub(super) fn latency_histogram() -> Histogram<u64> {
    // The bounds are constants that the crate accepts; the fallback resizes itself and loses nothing.
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).unwrap_or_else(|_| {
        let mut h =
            Histogram::new_from(&Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!("3 digits are valid")));
        h.auto(true);
        h
    })
}

/// What one thread counted between two looks.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// Number of the interval from the end of the warm-up; negative within it.
    pub(super) index: i64,
    /// Nanoseconds; of answers that count.
    pub(super) latency: Histogram<u64>,
    /// Answers in all, those of the warm-up as well.
    pub(super) answers: u64,
    pub(super) errors: u64,
    /// Due and unanswered at its end.
    pub(super) in_flight: u64,
    /// The first error of the run, once there is one.
    pub(super) first_error: Option<String>,
}

impl Snapshot {
    fn new(index: i64) -> Self {
        Self {
            index,
            latency: latency_histogram(),
            answers: 0,
            errors: 0,
            in_flight: 0,
            first_error: None,
        }
    }

    /// Joins another thread's of the same interval.
    pub(super) fn add(&mut self, other: &Self) {
        // Same bounds on both sides: adding cannot fail.
        let _ = self.latency.add(&other.latency);
        self.answers = self.answers.saturating_add(other.answers);
        self.errors = self.errors.saturating_add(other.errors);
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }
}

/// The counts of one kind of request.
#[derive(Clone, Debug)]
pub(super) struct ClassTally {
    pub(super) latency: Histogram<u64>,
    /// Until the first whole event.
    pub(super) first_event: Option<Histogram<u64>>,
    pub(super) errors: u64,
    pub(super) events: u64,
}

impl ClassTally {
    fn new() -> Self {
        Self {
            latency: latency_histogram(),
            first_event: None,
            errors: 0,
            events: 0,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        let _ = self.latency.add(&other.latency);
        if let Some(theirs) = &other.first_event {
            let _ = self.first_event.get_or_insert_with(latency_histogram).add(theirs);
        }
        self.errors = self.errors.saturating_add(other.errors);
        self.events = self.events.saturating_add(other.events);
    }
}

/// An answer, as it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) class: u16,
    pub(super) status: u16,
    pub(super) told: Told,
    pub(super) bytes: u64,
    pub(super) events: u64,
    pub(super) latency_ns: u64,
    pub(super) first_event_ns: Option<u64>,
    /// It was due after the warm-up.
    pub(super) measured: bool,
}

/// The counts of one thread.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) classes: Vec<ClassTally>,
    /// Nanoseconds by which the generator itself was late, with a slot free: open loop only.
    pub(super) lag: Histogram<u64>,
    /// Nanoseconds, of the answers of 2xx and of those of 503: an overloaded server tells the one from the other.
    pub(super) latency_2xx: Histogram<u64>,
    pub(super) latency_503: Histogram<u64>,
    /// Answers by status, after the warm-up.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Answers by what their Cache-Status says, warm-up included; by the numbers of [`Told`].
    pub(super) told: [u64; Told::ALL.len()],
    pub(super) errors: Errors,
    /// Answers, warm-up included.
    pub(super) answers: u64,
    pub(super) bytes: u64,
    pub(super) reconnects: u64,
    pub(super) last_answer_ns: u64,
    interval: Snapshot,
    errors_told: u64,
}

impl Tally {
    pub(super) fn new(classes: usize) -> Self {
        Self {
            classes: (0..classes).map(|_| ClassTally::new()).collect(),
            lag: latency_histogram(),
            latency_2xx: latency_histogram(),
            latency_503: latency_histogram(),
            statuses: BTreeMap::new(),
            told: [0; Told::ALL.len()],
            errors: Errors::default(),
            answers: 0,
            bytes: 0,
            reconnects: 0,
            last_answer_ns: 0,
            interval: Snapshot::new(0),
            errors_told: 0,
        }
    }

    /// Counts an answer that ended at `now_ns`.
    pub(super) fn answered(&mut self, answer: &Counted, now_ns: u64) {
        self.last_answer_ns = now_ns;
        self.answers = self.answers.saturating_add(1);
        self.bytes = self.bytes.saturating_add(answer.bytes);
        self.interval.answers = self.interval.answers.saturating_add(1);
        if let Some(count) = self.told.get_mut(answer.told as usize) {
            *count = count.saturating_add(1);
        }
        if !answer.measured {
            return;
        }
        self.interval.latency.saturating_record(answer.latency_ns);
        match answer.status {
            200..300 => self.latency_2xx.saturating_record(answer.latency_ns),
            503 => self.latency_503.saturating_record(answer.latency_ns),
            _ => {}
        }
        let count = self.statuses.entry(answer.status).or_default();
        *count = count.saturating_add(1);
        if let Some(class) = self.classes.get_mut(usize::from(answer.class)) {
            class.latency.saturating_record(answer.latency_ns);
            class.events = class.events.saturating_add(answer.events);
            if let Some(ns) = answer.first_event_ns {
                class
                    .first_event
                    .get_or_insert_with(latency_histogram)
                    .saturating_record(ns);
            }
        }
    }

    /// Books an error to a class as well; the kind is noted in `errors`.
    pub(super) fn class_error(&mut self, class: u16) {
        if let Some(class) = self.classes.get_mut(usize::from(class)) {
            class.errors = class.errors.saturating_add(1);
        }
    }

    /// Ends an interval, and begins the one numbered `next`.
    pub(super) fn roll(&mut self, index: i64, in_flight: u64) -> Snapshot {
        let mut done = std::mem::replace(&mut self.interval, Snapshot::new(index.saturating_add(1)));
        let errors = self.errors.total();
        done.index = index;
        done.errors = errors.saturating_sub(self.errors_told);
        done.in_flight = in_flight;
        done.first_error.clone_from(&self.errors.first);
        self.errors_told = errors;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_disjoint_and_the_warm_up_has_no_latency() {
        let mut tally = Tally::new(1);
        let answer = |measured| Counted {
            class: 0,
            status: 200,
            told: Told::Hit,
            bytes: 10,
            events: 0,
            latency_ns: 1000,
            first_event_ns: None,
            measured,
        };
        tally.answered(&answer(false), 1);
        tally.errors.timeout();
        let warm = tally.roll(-1, 3);
        assert_eq!(
            (warm.answers, warm.latency.len(), warm.errors, warm.in_flight),
            (1, 0, 1, 3)
        );
        tally.answered(&answer(true), 2);
        let mut first = tally.roll(0, 0);
        assert_eq!((first.answers, first.latency.len(), first.errors), (1, 1, 0));
        assert_eq!((tally.answers, tally.bytes, tally.classes[0].latency.len()), (2, 20, 1));
        let shed = Counted {
            status: 503,
            ..answer(true)
        };
        tally.answered(&shed, 3);
        assert_eq!((tally.latency_2xx.len(), tally.latency_503.len()), (1, 1));
        first.add(&first.clone());
        assert_eq!((first.answers, first.latency.len()), (2, 2));
    }
}
