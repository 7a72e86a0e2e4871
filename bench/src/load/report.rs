//! What a run found: counts, percentiles, and whether the generator was the limit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::engine::{Job, Measured};
use super::errors::Errors;
#[cfg(test)]
use super::tally::latency_histogram;
use crate::answer::Told;

/// Share of a thread's wall time, spent on a CPU or waiting for one, above which the thread was the limit.
const BUSY_SHARE_MAX: f64 = 0.95;
/// Lateness of the generator's own sends, at the 99th percentile, above which the schedule was missed: 1 ms.
const LAG_P99_US_MAX: f64 = 1000.0;

/// Percentiles in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    pub(crate) fn of(h: &Histogram<u64>) -> Self {
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

    pub(super) fn row(&self) -> String {
        format!(
            "mean {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1}",
            self.mean, self.p50, self.p90, self.p99, self.p999, self.p9999, self.max
        )
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

/// The sums of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// `closed` or `open`.
    pub(crate) mode: &'static str,
    /// Connections.
    pub(crate) connections: u32,
    /// Mean requests per second asked for; open loop only.
    pub(crate) rate: Option<f64>,
    /// Seconds measured, up to the last answer.
    pub(crate) seconds: f64,
    /// Answers measured.
    pub(crate) requests: u64,
    /// Answers, warm-up included: what a server's CPU time over the whole run is divided by.
    pub(crate) requests_with_warmup: u64,
    /// Answers per second.
    pub(crate) requests_per_second: f64,
    /// Bytes of answers, warm-up included.
    pub(crate) bytes_received: u64,
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
    pub(super) latency: Histogram<u64>,
}

impl Report {
    pub(super) fn of(job: &Job, measured: &Measured) -> Self {
        let rate = job.law.rate();
        let seconds = measured.elapsed_ns as f64 / 1e9;
        let requests = measured.latency.len();
        let mut errors = measured.errors.clone();
        if requests == 0 && errors.total() == 0 {
            errors.nothing();
        }
        let threads: Vec<ThreadUse> = measured
            .threads
            .iter()
            .map(|&[wall, cpu, starved]| ThreadUse {
                cpu_share: cpu as f64 / wall.max(1) as f64,
                starved_share: starved as f64 / wall.max(1) as f64,
            })
            .collect();
        let lag = rate.map(|_| Percentiles::of(&measured.lag));
        Self {
            mode: if rate.is_some() { "open" } else { "closed" },
            connections: job.connections,
            rate,
            seconds,
            requests,
            requests_with_warmup: measured.answers,
            requests_per_second: requests as f64 / seconds.max(1e-9),
            bytes_received: measured.bytes,
            latency_us: Percentiles::of(&measured.latency),
            latency_2xx_us: Percentiles::of(&measured.latency_2xx),
            latency_503_us: Percentiles::of(&measured.latency_503),
            generator_limits: limits(&threads, lag.as_ref()),
            generator_lag_us: lag,
            statuses: measured.statuses.iter().map(|(s, n)| (s.to_string(), *n)).collect(),
            cache_statuses: Told::ALL
                .into_iter()
                .zip(measured.told)
                .filter(|(_, count)| *count > 0)
                .collect(),
            error_count: errors.total(),
            errors,
            reconnects: measured.reconnects,
            threads,
            latency: measured.latency.clone(),
        }
    }

    /// Errors as a share of what was asked, warm-up included.
    pub(crate) fn error_share(&self) -> f64 {
        // An answer with the wrong status is among the answers; what was never answered is not.
        let unanswered = self
            .error_count
            .saturating_sub(self.errors.status)
            .saturating_sub(self.errors.cache_status);
        let asked = self.requests_with_warmup.saturating_add(unanswered);
        self.error_count as f64 / asked.max(1) as f64
    }

    /// The report for people.
    pub(crate) fn text(&self, url: &str) -> String {
        let mut out = String::new();
        let rate = self.rate.map_or(String::new(), |r| {
            format!(" at {} requests/s", (r * 10.0).round() / 10.0)
        });
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
        let from = if self.rate.is_some() {
            "from when due"
        } else {
            "from the send"
        };
        let _ = writeln!(out, "latency us    {}  ({from})", self.latency_us.row());
        if let Some(lag) = &self.generator_lag_us {
            let _ = writeln!(out, "own lag us    {}", lag.row());
        }
        let e = &self.errors;
        let _ = writeln!(
            out,
            "errors        {} (connect {}, io {}, timeout {}, framing {}, status {}, cache-status {}, unsent {}, skipped {}){}",
            self.error_count,
            e.connect,
            e.io,
            e.timeouts,
            e.framing,
            e.status,
            e.cache_status,
            e.unsent,
            e.skipped,
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

#[cfg(test)]
impl Default for Report {
    /// Of a run that found nothing.
    fn default() -> Self {
        Self {
            mode: "open",
            connections: 0,
            rate: None,
            seconds: 0.0,
            requests: 0,
            requests_with_warmup: 0,
            requests_per_second: 0.0,
            bytes_received: 0,
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
        }
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
        for (cpu_share, starved_share) in [(0.99, 0.0), (0.5, 0.46)] {
            let busy = ThreadUse {
                cpu_share,
                starved_share,
            };
            assert_eq!(limits(&[calm.clone(), busy], None).len(), 1);
        }
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
    fn the_share_of_errors_is_of_what_was_asked() {
        let mut report = Report {
            requests_with_warmup: 90,
            ..Report::default()
        };
        report.errors.status(503);
        (0..10).for_each(|_| report.errors.timeout());
        report.error_count = report.errors.total();
        assert!((report.error_share() - 0.11).abs() < 1e-12, "{}", report.error_share());
    }
}
