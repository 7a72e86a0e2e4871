//! What is asked for: bodies that all are different stories, numbered, and orders to ask for them in. The same numbers
//! give the same bytes in every run.

use crate::load::Requests;
use crate::target::{RequestArgs, Target};

/// Places that the gazetteer knows by these very names.
const PLACES: [&str; 16] = [
    "San Francisco",
    "Paris",
    "Rome",
    "Berlin",
    "Madrid",
    "Vienna",
    "Lisbon",
    "Oslo",
    "Denver",
    "Chicago",
    "Boston",
    "Seattle",
    "Kyoto",
    "Sydney",
    "Cairo",
    "Lima",
];
/// Manners of telling.
const STYLES: [&str; 9] = [
    "adventure",
    "history",
    "mystery",
    "family",
    "comedy",
    "romance",
    "nature",
    "folklore",
    "science",
];

/// The body of wish number `number`.
pub(crate) fn body(number: u32) -> String {
    let number = number as usize;
    let place = PLACES.get(number % PLACES.len()).copied().unwrap_or_default();
    let rest = number / PLACES.len();
    let style = STYLES.get(rest % STYLES.len()).copied().unwrap_or_default();
    let variation = rest / STYLES.len();
    format!("{{\"location\":\"{place}\",\"style\":\"{style}\",\"variation\":{variation}}}")
}

/// The whole request of a body.
///
/// # Errors
/// The address makes no URL.
pub(super) fn request(target: &Target, body: String) -> Result<Vec<u8>, String> {
    target.request_bytes(&RequestArgs {
        method: "POST".to_owned(),
        body: Some(body),
        body_file: None,
        headers: Vec::new(),
    })
}

/// Requests for the wishes `numbers`, in the order of `order` (places in `numbers`).
///
/// # Errors
/// As [`request`].
pub(crate) fn requests(
    target: &Target,
    numbers: std::ops::Range<u32>,
    order: Vec<u32>,
    again: bool,
) -> Result<Requests, String> {
    let all = numbers
        .map(|number| request(target, body(number)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Requests::series(all.iter().map(Vec::as_slice), order, again))
}

/// A generator of numbers that anybody can write down: splitmix64.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The numbers from 0 up to `count`, shuffled.
    pub(super) fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count).collect();
        for last in (1..all.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).unwrap_or(0);
            all.swap(last, other);
        }
        all
    }

    /// `draws` numbers from 0 up to `count`, the k-th of them (from 1) with a weight of 1/k: Zipf's law with exponent 1.
    pub(super) fn zipf(&mut self, count: u32, draws: usize) -> Vec<u32> {
        let mut sums = Vec::with_capacity(count as usize);
        let mut sum = 0.0;
        for rank in 1..=count {
            sum += 1.0 / f64::from(rank);
            sums.push(sum);
        }
        (0..draws)
            .map(|_| {
                let at = self.share() * sum;
                let place = sums.partition_point(|upto| *upto <= at);
                u32::try_from(place).unwrap_or(u32::MAX).min(count.saturating_sub(1))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_number_is_another_wish() {
        let bodies: HashSet<String> = (0..5000).map(body).collect();
        assert_eq!(bodies.len(), 5000);
        assert_eq!(
            body(0),
            r#"{"location":"San Francisco","style":"adventure","variation":0}"#
        );
    }

    #[test]
    fn orders_are_whole_and_the_same_each_time() {
        let order = Draw(1).shuffled(1000);
        assert_eq!(order, Draw(1).shuffled(1000));
        assert_ne!(order, Draw(2).shuffled(1000));
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), 1000);
    }

    #[test]
    fn zipf_asks_for_the_first_half_as_often_as_for_the_second() {
        let draws = Draw(3).zipf(100, 100_000);
        let share = |rank: u32| draws.iter().filter(|&&drawn| drawn == rank).count() as f64 / 100_000.0;
        // The hundredth harmonic number is 5.187.
        assert!((share(0) - 1.0 / 5.187).abs() < 0.01, "{}", share(0));
        assert!((share(9) - 0.1 / 5.187).abs() < 0.005, "{}", share(9));
        assert!(draws.iter().all(|&drawn| drawn < 100));
    }
}
