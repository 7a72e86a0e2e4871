//! What a run found: counts, percentiles, and whether the generator was the limit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Plan;
use super::worker::Outcome;
use crate::answer::Told;

/// Longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;
/// Share of a thread's wall time, spent on a CPU or waiting for one, above which the thread was the limit.
const BUSY_SHARE_MAX: f64 = 0.95;
/// Lateness of the generator's own sends, at the 99th percentile, above which the schedule was missed: 1 ms.
const LAG_P99_US_MAX: f64 = 1000.0;

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

/// Errors by kind.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Errors {
    /// Connections that could not be opened.
    pub(crate) connect: u64,
    /// Sends and receives that failed, connections closed under a request.
    pub(crate) io: u64,
    /// Answers that did not come in time.
    pub(crate) timeouts: u64,
    /// Answers whose framing is broken.
    pub(crate) framing: u64,
    /// Answers with a status outside 2xx.
    pub(crate) status: u64,
    /// Answers whose Cache-Status says another thing than what was asked for.
    pub(crate) cache_status: u64,
    /// Requests that were due and never sent: open loop, when the server or the connections fell too far behind.
    pub(crate) unsent: u64,
    /// The first one, in words.
    pub(crate) first: Option<String>,
}

impl Errors {
    fn note(count: &mut u64, first: &mut Option<String>, what: &str) {
        *count = count.saturating_add(1);
        first.get_or_insert_with(|| what.to_owned());
    }

    pub(super) fn connect(&mut self, what: &str) {
        Self::note(&mut self.connect, &mut self.first, what);
    }

    pub(super) fn io(&mut self, what: &str) {
        Self::note(&mut self.io, &mut self.first, what);
    }

    pub(super) fn timeout(&mut self) {
        Self::note(&mut self.timeouts, &mut self.first, "no answer in time");
    }

    pub(super) fn frame(&mut self, what: &str) {
        Self::note(&mut self.framing, &mut self.first, what);
    }

    pub(super) fn status(&mut self, status: u16) {
        Self::note(&mut self.status, &mut self.first, &format!("status {status}"));
    }

    pub(super) fn told(&mut self, told: Told, expected: Told) {
        let (told, expected) = (told.word(), expected.word());
        Self::note(
            &mut self.cache_status,
            &mut self.first,
            &format!("Cache-Status says {told} and not {expected}"),
        );
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        [
            self.connect,
            self.io,
            self.timeouts,
            self.framing,
            self.status,
            self.cache_status,
            self.unsent,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    fn add(&mut self, other: Self) {
        self.connect = self.connect.saturating_add(other.connect);
        self.io = self.io.saturating_add(other.io);
        self.timeouts = self.timeouts.saturating_add(other.timeouts);
        self.framing = self.framing.saturating_add(other.framing);
        self.status = self.status.saturating_add(other.status);
        self.cache_status = self.cache_status.saturating_add(other.cache_status);
        self.unsent = self.unsent.saturating_add(other.unsent);
        self.first = self.first.take().or(other.first);
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    /// Samples.
    pub(crate) count: u64,
    /// Arithmetic mean.
    pub(crate) mean: f64,
    /// Median.
    pub(crate) p50: f64,
    /// 90th percentile.
    pub(crate) p90: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
    /// 99.9th percentile.
    pub(crate) p999: f64,
    /// 99.99th percentile.
    pub(crate) p9999: f64,
    /// Largest.
    pub(crate) max: f64,
}

impl Percentiles {
    fn of(h: &Histogram<u64>) -> Self {
        let at = |quantile: f64| h.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: h.len(),
            mean: h.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: h.max() as f64 / 1000.0,
        }
    }
}

/// One thread of the generator.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ThreadUse {
    /// Share of the wall time on a CPU.
    pub(crate) cpu_share: f64,
    /// Share of the wall time waiting for a CPU that others held.
    pub(crate) starved_share: f64,
}

/// The report of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// `closed` or `open`.
    pub(crate) mode: &'static str,
    /// Connections.
    pub(crate) connections: u32,
    /// Requests per second asked for; open loop only.
    pub(crate) rate: Option<f64>,
    /// Seconds measured, up to the last answer.
    pub(crate) seconds: f64,
    /// Answers measured.
    pub(crate) requests: u64,
    /// Answers, warm-up included: what a server's CPU time over the whole run is divided by.
    pub(crate) requests_with_warmup: u64,
    /// Answers per second.
    pub(crate) requests_per_second: f64,
    /// Latency in microseconds; open loop: from when the request was due.
    pub(crate) latency_us: Percentiles,
    /// The same of the answers of 2xx.
    pub(crate) latency_2xx_us: Percentiles,
    /// The same of the answers of 503.
    pub(crate) latency_503_us: Percentiles,
    /// Lateness of the generator in microseconds, with a connection free; open loop only.
    pub(crate) generator_lag_us: Option<Percentiles>,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<String, u64>,
    /// Answers by what their Cache-Status says, warm-up included.
    pub(crate) cache_statuses: BTreeMap<Told, u64>,
    /// Sum of `errors`.
    pub(crate) error_count: u64,
    /// Errors by kind.
    pub(crate) errors: Errors,
    /// Connections opened again.
    pub(crate) reconnects: u64,
    /// CPU use of the generator's threads.
    pub(crate) threads: Vec<ThreadUse>,
    /// Why the generator, not the server, was the limit; empty where it was not.
    pub(crate) generator_limits: Vec<String>,
    #[serde(skip)]
    latency: Histogram<u64>,
    #[serde(skip)]
    latency_2xx: Histogram<u64>,
    #[serde(skip)]
    latency_503: Histogram<u64>,
    #[serde(skip)]
    lag: Histogram<u64>,
    #[serde(skip)]
    elapsed_ns: u64,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            mode: if plan.rate.is_some() { "open" } else { "closed" },
            connections: plan.connections,
            rate: plan.rate,
            seconds: 0.0,
            requests: 0,
            requests_with_warmup: 0,
            requests_per_second: 0.0,
            latency_us: Percentiles::default(),
            latency_2xx_us: Percentiles::default(),
            latency_503_us: Percentiles::default(),
            generator_lag_us: None,
            statuses: BTreeMap::new(),
            cache_statuses: BTreeMap::new(),
            error_count: 0,
            errors: Errors::default(),
            reconnects: 0,
            threads: Vec::new(),
            generator_limits: Vec::new(),
            latency: latency_histogram(),
            latency_2xx: latency_histogram(),
            latency_503: latency_histogram(),
            lag: latency_histogram(),
            elapsed_ns: plan.duration_ns,
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        // Same bounds on both sides: adding cannot fail.
        let _ = self.latency.add(&outcome.latency);
        let _ = self.latency_2xx.add(&outcome.latency_2xx);
        let _ = self.latency_503.add(&outcome.latency_503);
        let _ = self.lag.add(&outcome.lag);
        for (status, count) in outcome.statuses {
            let sum = self.statuses.entry(status.to_string()).or_default();
            *sum = sum.saturating_add(count);
        }
        for (told, count) in Told::ALL.into_iter().zip(outcome.told).filter(|(_, count)| *count > 0) {
            let sum = self.cache_statuses.entry(told).or_default();
            *sum = sum.saturating_add(count);
        }
        self.errors.add(outcome.errors);
        self.requests_with_warmup = self.requests_with_warmup.saturating_add(outcome.answers);
        self.reconnects = self.reconnects.saturating_add(outcome.reconnects);
        self.elapsed_ns = self.elapsed_ns.max(outcome.elapsed_ns);
        let wall = outcome.wall_ns.max(1) as f64;
        self.threads.push(ThreadUse {
            cpu_share: outcome.cpu_ns as f64 / wall,
            starved_share: outcome.starved_ns as f64 / wall,
        });
    }

    pub(super) fn finish(&mut self) {
        self.seconds = self.elapsed_ns as f64 / 1e9;
        self.requests = self.latency.len();
        self.requests_per_second = self.requests as f64 / self.seconds.max(1e-9);
        self.latency_us = Percentiles::of(&self.latency);
        self.latency_2xx_us = Percentiles::of(&self.latency_2xx);
        self.latency_503_us = Percentiles::of(&self.latency_503);
        self.generator_lag_us = self.rate.map(|_| Percentiles::of(&self.lag));
        self.error_count = self.errors.total();
        if self.requests == 0 && self.error_count == 0 {
            self.errors.note_nothing();
            self.error_count = self.errors.total();
        }
        self.generator_limits = limits(&self.threads, self.generator_lag_us.as_ref());
    }

    /// The report for people.
    pub(crate) fn text(&self, url: &str) -> String {
        let mut out = String::new();
        let rate = self.rate.map_or(String::new(), |r| format!(" at {r} requests/s"));
        let _ = writeln!(
            out,
            "{url}: {} loop{rate}, {} connections, {:.2} s",
            self.mode, self.connections, self.seconds
        );
        let _ = writeln!(
            out,
            "requests      {:>12}   {:.1} per second",
            self.requests, self.requests_per_second
        );
        let statuses: Vec<String> = self.statuses.iter().map(|(s, n)| format!("{s}: {n}")).collect();
        let _ = writeln!(out, "statuses      {}", statuses.join(", "));
        if self.cache_statuses.keys().any(|told| *told != Told::Unsaid) {
            let told: Vec<String> = self
                .cache_statuses
                .iter()
                .map(|(t, n)| format!("{}: {n}", t.word()))
                .collect();
            let _ = writeln!(out, "cache-status  {}", told.join(", "));
        }
        let row = |p: &Percentiles| {
            format!(
                "mean {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1}",
                p.mean, p.p50, p.p90, p.p99, p.p999, p.p9999, p.max
            )
        };
        let from = if self.rate.is_some() {
            "from when due"
        } else {
            "from the send"
        };
        let _ = writeln!(out, "latency us    {}  ({from})", row(&self.latency_us));
        if let Some(lag) = &self.generator_lag_us {
            let _ = writeln!(out, "own lag us    {}", row(lag));
        }
        let e = &self.errors;
        let _ = writeln!(
            out,
            "errors        {} (connect {}, io {}, timeout {}, framing {}, status {}, cache-status {}, unsent {}){}",
            self.error_count,
            e.connect,
            e.io,
            e.timeouts,
            e.framing,
            e.status,
            e.cache_status,
            e.unsent,
            e.first
                .as_ref()
                .map_or(String::new(), |first| format!("; first: {first}"))
        );
        let _ = writeln!(out, "reconnects    {}", self.reconnects);
        for (i, t) in self.threads.iter().enumerate() {
            let _ = writeln!(
                out,
                "thread {i:<6} {:.0} % CPU, {:.0} % waiting for a CPU",
                t.cpu_share * 100.0,
                t.starved_share * 100.0
            );
        }
        for limit in &self.generator_limits {
            let _ = writeln!(out, "THE GENERATOR WAS THE LIMIT: {limit}");
        }
        out.truncate(out.trim_end().len());
        out
    }
}

impl Errors {
    /// A run without one answer is no success, even where nothing failed within it.
    fn note_nothing(&mut self) {
        Self::note(
            &mut self.timeouts,
            &mut self.first,
            "not one answer within the time measured",
        );
    }
}

/// Why the generator was the limit, if it was.
fn limits(threads: &[ThreadUse], lag_us: Option<&Percentiles>) -> Vec<String> {
    let mut found = Vec::new();
    for (i, t) in threads.iter().enumerate() {
        if t.cpu_share + t.starved_share >= BUSY_SHARE_MAX {
            found.push(format!(
                "thread {i} used {:.0} % of a CPU and waited for one {:.0} % of the time; give it more threads or CPUs",
                t.cpu_share * 100.0,
                t.starved_share * 100.0
            ));
        }
    }
    if let Some(lag) = lag_us.filter(|lag| lag.p99 > LAG_P99_US_MAX) {
        found.push(format!(
            "it missed its own schedule: 1 % of the sends were {:.0} us late or later",
            lag.p99
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_or_starved_or_late_generator_says_so() {
        let calm = ThreadUse {
            cpu_share: 0.5,
            starved_share: 0.1,
        };
        assert!(limits(std::slice::from_ref(&calm), None).is_empty());
        assert_eq!(
            limits(
                &[
                    calm.clone(),
                    ThreadUse {
                        cpu_share: 0.99,
                        starved_share: 0.0
                    }
                ],
                None
            )
            .len(),
            1
        );
        assert_eq!(
            limits(
                &[ThreadUse {
                    cpu_share: 0.5,
                    starved_share: 0.46
                }],
                None
            )
            .len(),
            1
        );
        let late = Percentiles {
            p99: 1500.0,
            ..Percentiles::default()
        };
        assert!(limits(&[calm], Some(&late))[0].contains("1500"));
    }

    #[test]
    fn percentiles_are_microseconds_of_the_merged_histogram() {
        let (mut a, mut b) = (latency_histogram(), latency_histogram());
        (1..=50_u64).for_each(|i| a.saturating_record(i * 1000));
        (51..=100_u64).for_each(|i| b.saturating_record(i * 1000));
        a.add(&b).unwrap();
        let p = Percentiles::of(&a);
        assert_eq!(p.count, 100);
        assert!(
            (p.p50 - 50.0).abs() < 0.1 && (p.p99 - 99.0).abs() < 0.2 && (p.max - 100.0).abs() < 0.2,
            "{p:?}"
        );
    }

    #[test]
    fn a_latency_beyond_the_bounds_counts_as_the_longest() {
        let mut h = latency_histogram();
        h.saturating_record(u64::MAX);
        assert!(Percentiles::of(&h).max >= 119e6);
    }

    #[test]
    fn errors_add_up_and_keep_the_first() {
        let (mut a, mut b) = (Errors::default(), Errors::default());
        b.status(503);
        b.timeout();
        a.add(b);
        assert_eq!((a.total(), a.first.as_deref()), (2, Some("status 503")));
    }
}
