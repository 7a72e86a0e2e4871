//! A long load under which neither memory nor descriptors may grow.

use super::client::story_request;
use super::http1::Connection;
use super::load::{DEADLINE, Load};
use super::report::Row;
use super::runs::Bench;
use super::stage::{Plan, Server, signal};
use crate::procfs::Memory;
use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

/// Of the time, the first part is warm-up: caches fill, the allocator finds its size.
const WARM_PART: u32 = 4;
/// Growth that is none: so much of the mean, or so many bytes, over all of the time behind the warm-up.
const RSS_PART: f64 = 0.02;
const RSS_BYTES: f64 = 2.0 * 1024.0 * 1024.0;
/// The same of descriptors: connections of one moment are more or fewer than those of another.
const DESCRIPTORS: f64 = 2.0;
/// Looks that are written down, at most.
const SAMPLES_MAX: usize = 360;
/// A small cache is full early, so that one that fills is not taken for a leak.
const CACHE_BYTES: &str = "1M";
/// Stories told before: so many a second of the soak, and at most so many. They fill the embedded store's page cache (8 MiB),
/// which the few new stories of the load would take half an hour for.
const FILL_PER_SECOND: u64 = 20;
const FILL_MAX: u64 = 12_000;
const FILLERS: u64 = 4;
/// Their variations begin here, far from the load's.
const FILL_FROM: u64 = 100_000_000;

/// One look.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sample {
    pub(crate) second: f64,
    pub(crate) rss: u64,
    pub(crate) descriptors: u64,
}

/// What came of it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Soak {
    pub(crate) row: Row,
    /// Signals sent meanwhile.
    pub(crate) hups: u64,
    pub(crate) warm_seconds: f64,
    pub(crate) rss_mean: f64,
    /// The line through the samples behind the warm-up, times their span.
    pub(crate) rss_growth: f64,
    pub(crate) rss_tolerance: f64,
    pub(crate) descriptors_mean: f64,
    pub(crate) descriptors_growth: f64,
    pub(crate) descriptors_tolerance: f64,
    pub(crate) is_flat: bool,
    /// The least and the most behind the warm-up.
    pub(crate) rss_least: u64,
    pub(crate) rss_most: u64,
    pub(crate) looks: usize,
    /// Some of the looks, evenly.
    samples: Vec<Sample>,
}

/// Mean, and growth over the span, of the line with the least squares.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let across: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let along: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let span = match (points.first(), points.last()) {
        (Some(first), Some(last)) => last.0 - first.0,
        _ => 0.0,
    };
    (y, if along > 0.0 { across / along * span } else { 0.0 })
}

/// The mean of what samples have, and its growth over their span.
pub(crate) fn growth(samples: &[Sample], of: fn(&Sample) -> f64) -> (f64, f64) {
    let points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.second, of(sample))).collect();
    line(&points)
}

/// Looks at a process.
///
/// # Errors
/// It is gone.
pub(crate) fn look(pid: u32, begun: Instant) -> Result<Sample, String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| format!("descriptors of {pid}: {e}"))?;
    Ok(Sample {
        second: begun.elapsed().as_secs_f64(),
        rss: Memory::read(pid)?.rss,
        descriptors: descriptors.count() as u64,
    })
}

/// Tells so many new stories.
fn fill(server: &Server, stories: u64) -> Result<(), String> {
    let filler = |number: u64| -> Result<(), String> {
        let mut connection = Connection::open(server.addr(), DEADLINE)?;
        let mut variation = FILL_FROM + number;
        while variation < FILL_FROM + stories {
            let body = format!(r#"{{"location":"Cork","length":"short","variation":{variation}}}"#);
            connection.send(story_request(&body, "application/json").as_bytes())?;
            let answer = connection.read(Instant::now() + DEADLINE)?;
            match answer.status {
                200 => variation += FILLERS,
                // It has other things to do.
                503 if answer.is_announced => std::thread::sleep(Duration::from_millis(100)),
                other => return Err(format!("a new story was answered {other}")),
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let fillers: Vec<_> = (0..FILLERS).map(|number| scope.spawn(move || filler(number))).collect();
        fillers
            .into_iter()
            .try_for_each(|filler| filler.join().map_err(|_| "a client broke".to_owned())?)
    })
}

/// Loads a server for so long. With `hup_every` its workers are replaced again and again meanwhile.
pub(super) fn run(bench: &Bench, driver: &str, time: Duration, hup_every: Option<Duration>) -> Result<Soak, String> {
    let plan = Plan::new(&bench.binary, driver)?.env("CACHE_BYTES", CACHE_BYTES);
    let mut server = Server::start(plan)?;
    fill(&server, (time.as_secs() * FILL_PER_SECOND).min(FILL_MAX))?;
    let load = Load::start(server.addr(), bench.rate)?;
    load.watch_gaps();
    let begun = Instant::now();
    let (mut samples, mut hups) = (Vec::new(), 0);
    let mut next = Duration::ZERO;
    let mut next_hup = hup_every;
    while begun.elapsed() < time {
        samples.push(look(server.first(), begun)?);
        if next_hup.is_some_and(|at| begun.elapsed() >= at) {
            signal(server.first(), Signal::HUP);
            hups += 1;
            next_hup = next_hup.zip(hup_every).map(|(at, every)| at + every);
        }
        next += Duration::from_secs(1);
        if next.as_secs().is_multiple_of(60) {
            let sample = samples.last().map_or(0, |sample| sample.rss);
            eprintln!(
                "{} s: {:.1} MiB, {} answered",
                next.as_secs(),
                sample as f64 / 1048576.0,
                load.answered()
            );
        }
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    let tally = load.stop()?;
    let mut row = Row::new("soak", "constant load", driver, begun.elapsed().as_secs_f64(), &tally);
    row.settle(&tally.failures, &[]);
    server.end()?;
    Ok(judge(row, hups, samples, time / WARM_PART))
}

fn judge(row: Row, hups: u64, samples: Vec<Sample>, warm: Duration) -> Soak {
    let warm_seconds = warm.as_secs_f64();
    let points = |of: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        let behind = samples.iter().filter(|sample| sample.second >= warm_seconds);
        behind.map(|sample| (sample.second, of(sample))).collect()
    };
    let (rss_mean, rss_growth) = line(&points(|sample| sample.rss as f64));
    let (descriptors_mean, descriptors_growth) = line(&points(|sample| sample.descriptors as f64));
    let rss_tolerance = (rss_mean * RSS_PART).max(RSS_BYTES);
    let behind = samples.iter().filter(|sample| sample.second >= warm_seconds);
    let (rss_least, rss_most) = behind.fold((u64::MAX, 0), |(least, most), sample| {
        (least.min(sample.rss), most.max(sample.rss))
    });
    let (looks, step) = (samples.len(), samples.len().div_ceil(SAMPLES_MAX).max(1));
    Soak {
        is_flat: rss_growth <= rss_tolerance && descriptors_growth <= DESCRIPTORS,
        row,
        hups,
        warm_seconds,
        rss_mean,
        rss_growth,
        rss_tolerance,
        descriptors_mean,
        descriptors_growth,
        descriptors_tolerance: DESCRIPTORS,
        rss_least,
        rss_most,
        looks,
        samples: samples.into_iter().step_by(step).collect(),
    }
}

impl Soak {
    pub(super) fn text(&self) -> String {
        let mib = |bytes: f64| bytes / 1048576.0;
        let row = &self.row;
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## Soak\n\n{:.0} s on {}, {} SIGHUPs meanwhile, CACHE_BYTES={CACHE_BYTES}, the store's page cache filled before: \
             {} offered, {} answered, {} failed, longest gap {} ms. Behind a warm-up of {:.0} s, by the line of least squares through {} looks, one a second:\n\n\
             | | mean | growth over the time | tolerance |\n| --- | --: | --: | --: |\n\
             | resident memory | {:.1} MiB ({:.1} to {:.1}) | {:+.2} MiB | {:.2} MiB |\n\
             | descriptors | {:.1} | {:+.2} | {:.0} |\n\n{}\n",
            row.seconds,
            row.driver,
            self.hups,
            row.offered,
            row.answered,
            row.failed,
            row.longest_gap_ms,
            self.warm_seconds,
            self.looks,
            mib(self.rss_mean),
            mib(self.rss_least as f64),
            mib(self.rss_most as f64),
            mib(self.rss_growth),
            mib(self.rss_tolerance),
            self.descriptors_mean,
            self.descriptors_growth,
            self.descriptors_tolerance,
            if self.is_flat { "Flat." } else { "NOT FLAT." }
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::load::Tally;

    fn soak(rss: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Soak {
        let sample = |second: u64| Sample {
            second: second as f64,
            rss: rss(second),
            descriptors: descriptors(second),
        };
        let row = Row::new("soak", "", "epoll", 1000.0, &Tally::default());
        judge(row, 0, (0..1000).map(sample).collect(), Duration::from_secs(250))
    }

    #[test]
    fn a_slow_leak_is_found_and_noise_is_none() {
        let noisy = |second: u64| (50 << 20) + (second * 7919 % 13) * (1 << 18);
        let connections = |second: u64| 40 + second % 3;
        assert!(soak(noisy, connections).is_flat);
        // A warm-up may grow as it likes.
        let warms_up = |second: u64| noisy(second) - ((250_u64.saturating_sub(second)) << 16);
        assert!(soak(warms_up, connections).is_flat);
        // 4 KiB a second, below the noise of any two looks.
        let leaks = soak(|second| noisy(second) + (second << 12), connections);
        assert!(!leaks.is_flat && (leaks.rss_growth - 3.0e6).abs() < 0.3e6, "{leaks:?}");
        assert!(!soak(noisy, |second| connections(second) + second / 200).is_flat);
    }
}
