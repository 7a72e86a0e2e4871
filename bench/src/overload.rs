//! `overload`: what a server does with more than it can do. Finds the most new stories a second that it tells, offers
//! multiples of that whether they are answered or not, and meanwhile asks for what it has at hand and for probes.
//!
//! Every new story is another one, so that no cache helps. Answers of 503 are what is looked for here; whatever else is no
//! 200 is an error. Deliberately absent: HTTP/2, several workers told apart.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::clock::SECOND_NS;
use crate::load::{self, Percentiles, Plan, Report, Requests};
use crate::server::Server;
use crate::stats::Interval;
use crate::target::{RequestArgs, Target};
use crate::tiers::wishes;
use crate::{EXIT_FOUND_ERRORS, clock};

/// Path that tells stories.
const STORIES: &str = "/api/v1/stories/generate";
/// Path that is probed.
const PROBE: &str = "/health/v2/ready";
/// Nanoseconds that an answer may take, or a connection.
const TIMEOUT_NS: u64 = 10 * SECOND_NS;
/// Wishes that are at hand.
const AT_HAND: u32 = 100;
/// Probes a second.
const PROBES: f64 = 50.0;
/// Connections of the closed loops that look for the peak.
const PEAK_CONNECTIONS: [u32; 3] = [32, 64, 128];
/// Wishes told ahead of everything, that are at hand afterwards.
const AHEAD: u32 = 0;

/// Offer a server multiples of the new stories that it can tell, and count what it answers in time
///
/// First finds the peak: closed loops of 32, 64 and 128 connections that each ask for new stories all the time. Then offers
/// --times of it, each for --duration seconds at a constant rate (open loop: latency counts from when a request was due), with
/// 50 probes a second beside it, and the greatest once more with --cached requests a second for stories that are at hand. At
/// the end the peak is looked for again, and the greatest that was seen counts. Every answer must be 200 or, to a new story,
/// 503; else the exit code is 1.
///
/// With --rounds all of it is done so often, and a ratio is the median of the rounds', each to the mean of the peaks before and
/// after: a machine that strays does so for both. The greatest of many peaks beside one row says how it strays.
#[derive(clap::Args)]
#[command(after_help = "Example:
  roadtrip-bench overload --url http://127.0.0.1:8099 --server-cpu 0 --load-cpu 1 \\
      --server-cmd 'env PORT=8099 WORKERS=1 PIN=never LOG_LEVEL=warning DATA_DIR=/tmp/overload target/release/roadtrip-api'")]
pub(crate) struct Args {
    /// Where the server listens, http:// only
    #[arg(long)]
    url: String,
    /// Command that starts it; without one it is running already
    #[arg(long)]
    server_cmd: Option<String>,
    /// CPU that the server is pinned to
    #[arg(long)]
    server_cpu: Option<usize>,
    /// CPU that the load runs on
    #[arg(long)]
    load_cpu: Option<usize>,
    /// Multiples of the peak to offer
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 2.0, 3.0])]
    times: Vec<f64>,
    /// Requests a second for what is at hand, beside the last multiple once more; 0: leave that out
    #[arg(long, default_value_t = 2000.0)]
    cached: f64,
    /// Take this as the peak, new stories a second, instead of looking for it
    #[arg(long)]
    peak: Option<f64>,
    /// Seconds of each load
    #[arg(long, short = 'd', default_value_t = 8.0)]
    duration: f64,
    /// Times that all of it is done, in turns
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with = "peak")]
    rounds: u32,
    /// Connections of the open loops
    #[arg(long, short = 'c', default_value_t = 1024, value_parser = clap::value_parser!(u32).range(8..=10_000))]
    connections: u32,
    /// Exit with code 1 where a ratio to the peak is below this
    #[arg(long)]
    min_ratio: Option<f64>,
    /// Exit with code 1 where a 99th percentile of what was answered 200 is above this, milliseconds
    #[arg(long)]
    max_p99_ms: Option<f64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    /// New stories a second, at most; of several rounds the median of the peaks.
    peak_per_second: f64,
    /// Rows of the last round; of several rounds the ratios are medians of all.
    rows: Vec<Row>,
    /// Each peak that was looked for, new stories a second.
    peaks: Vec<f64>,
    /// For each row, the ratio of each round.
    ratios: Vec<Vec<f64>>,
    /// What the generator could not do.
    cautions: Vec<String>,
}

/// One load.
#[derive(Debug, Serialize)]
struct Row {
    times: f64,
    /// New stories asked for, a second.
    offered_per_second: f64,
    /// Answered 200, a second; with --rounds, as all rates here, in the last of them.
    goodput_per_second: f64,
    ratio_to_peak: f64,
    /// Of those, from when each was due.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Answered 503, a second, and after how long.
    shed_per_second: f64,
    shed_p99_ms: f64,
    cached: Option<Beside>,
    probes: Beside,
    /// Neither 200 nor 503, or 503 where there is no reason for it.
    errors: u64,
    first_error: Option<String>,
}

/// What was asked beside the new stories.
#[derive(Debug, Serialize)]
struct Beside {
    offered_per_second: f64,
    answered: u64,
    not_ok: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Row {
    /// What must not happen, and latencies, are the worst of all rounds.
    fn keep_worst_of(&mut self, before: Row) {
        self.p99_ms = self.p99_ms.max(before.p99_ms);
        self.max_ms = self.max_ms.max(before.max_ms);
        self.shed_p99_ms = self.shed_p99_ms.max(before.shed_p99_ms);
        self.errors = self.errors.saturating_add(before.errors);
        self.first_error = before.first_error.or(self.first_error.take());
        self.probes.keep_worst_of(&before.probes);
        if let (Some(cached), Some(before)) = (&mut self.cached, &before.cached) {
            cached.keep_worst_of(before);
        }
    }
}

impl Beside {
    fn keep_worst_of(&mut self, before: &Beside) {
        self.answered = self.answered.saturating_add(before.answered);
        self.not_ok = self.not_ok.saturating_add(before.not_ok);
        self.p99_ms = self.p99_ms.max(before.p99_ms);
        self.max_ms = self.max_ms.max(before.max_ms);
    }

    fn of(report: &Report, rate: f64) -> Self {
        let Percentiles { p50, p99, max, .. } = report.latency_us;
        Self {
            offered_per_second: rate,
            answered: report.requests,
            not_ok: report.error_count,
            p50_ms: p50 / 1000.0,
            p99_ms: p99 / 1000.0,
            max_ms: max / 1000.0,
        }
    }
}

struct Bench<'a> {
    args: &'a Args,
    target: Target,
    /// The next wish that has never been asked for.
    next: u32,
    cautions: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    if !(args.duration > 0.0 && args.duration <= 600.0) {
        return Err(format!("--duration takes up to 600 seconds, not {}", args.duration));
    }
    let base = args.url.trim_end_matches('/');
    let target = Target::parse(&format!("{base}{STORIES}"))?;
    let address = target.address()?;
    let _server = match &args.server_cmd {
        Some(command) => Some(Server::start(command, address, args.server_cpu)?),
        None => None,
    };
    let mut bench = Bench {
        args,
        target,
        // Others than those of a run before on the same store.
        next: 1_000_000 + u32::try_from((clock::now_ns() / SECOND_NS) % 4000).unwrap_or(0) * 1_000_000,
        cautions: Vec::new(),
    };
    bench.tell_ahead()?;
    let found = match (args.rounds, args.peak) {
        (1, Some(peak)) if peak > 0.0 => bench.once(peak)?,
        (1, Some(peak)) => return Err(format!("--peak takes requests a second, not {peak}")),
        (1, None) => {
            let peak = bench.find_peak()?;
            bench.once(peak)?
        }
        (rounds, _) => bench.in_turns(rounds)?,
    };
    crate::print_report(args.json, &found, text)?;
    let late = |row: &Row| args.max_p99_ms.is_some_and(|most| row.p99_ms > most);
    let little = |row: &Row| args.min_ratio.is_some_and(|least| row.ratio_to_peak < least);
    let wrong = |row: &Row| row.errors > 0 || row.probes.not_ok > 0;
    let cached_wrong = |row: &Row| row.cached.as_ref().is_some_and(|cached| cached.not_ok > 0);
    Ok(
        if found
            .rows
            .iter()
            .any(|row| late(row) || little(row) || wrong(row) || cached_wrong(row))
        {
            ExitCode::from(EXIT_FOUND_ERRORS)
        } else {
            ExitCode::SUCCESS
        },
    )
}

impl Bench<'_> {
    /// One load after the other.
    fn rows(&mut self, peak: f64) -> Result<Vec<Row>, String> {
        let (args, mut rows) = (self.args, Vec::new());
        let last = args.times.iter().copied().fold(0.0, f64::max);
        let mixed = (args.cached > 0.0).then_some((last, args.cached));
        for (times, cached) in args.times.iter().map(|&times| (times, 0.0)).chain(mixed) {
            let row = self.row(times, times * peak, cached)?;
            eprintln!("{}", line(&row));
            rows.push(row);
        }
        Ok(rows)
    }

    fn once(&mut self, peak: f64) -> Result<Found, String> {
        let mut rows = self.rows(peak)?;
        let mut peaks = vec![peak];
        if self.args.peak.is_none() {
            peaks.push(self.find_peak()?);
        }
        let told = rows.iter().map(|row| row.goodput_per_second);
        let peak = told.chain(peaks.iter().copied()).fold(0.0, f64::max);
        for row in &mut rows {
            row.ratio_to_peak = row.goodput_per_second / peak;
        }
        Ok(Found {
            peak_per_second: peak,
            ratios: rows.iter().map(|row| vec![row.ratio_to_peak]).collect(),
            rows,
            peaks,
            cautions: std::mem::take(&mut self.cautions),
        })
    }

    fn in_turns(&mut self, rounds: u32) -> Result<Found, String> {
        let mut peaks = vec![self.find_peak()?];
        let (mut told, mut rows): (Vec<Vec<f64>>, Vec<Row>) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let peak = peaks.last().copied().unwrap_or_default();
            let before = rows;
            rows = self.rows(peak)?;
            told.push(rows.iter().map(|row| row.goodput_per_second).collect());
            for (row, before) in rows.iter_mut().zip(before) {
                row.keep_worst_of(before);
            }
            peaks.push(self.find_peak()?);
        }
        let beside = |(round, goodput): (&[f64], f64)| goodput / (round.iter().sum::<f64>() / round.len() as f64);
        let ratios: Vec<Vec<f64>> = (0..rows.len())
            .map(|row| {
                let goodputs = told.iter().filter_map(|round| round.get(row).copied());
                peaks.windows(2).zip(goodputs).map(beside).collect()
            })
            .collect();
        for (row, ratios) in rows.iter_mut().zip(&ratios) {
            row.ratio_to_peak = middle(ratios);
        }
        Ok(Found {
            peak_per_second: middle(&peaks),
            rows,
            peaks,
            ratios,
            cautions: std::mem::take(&mut self.cautions),
        })
    }

    fn plan(&self, requests: Requests, connections: u32, rate: Option<f64>, seconds: f64) -> Result<Plan, String> {
        Ok(Plan {
            address: self.target.address()?,
            requests,
            expect: None,
            head_request: false,
            connections,
            threads: 1,
            duration_ns: (seconds * SECOND_NS as f64) as u64,
            warmup_ns: 0,
            rate,
            connect_timeout_ns: TIMEOUT_NS,
            timeout_ns: TIMEOUT_NS,
            cpus: self.args.load_cpu.into_iter().collect(),
        })
    }

    /// Wishes never asked for, so many.
    fn new_wishes(&mut self, count: f64) -> Result<Requests, String> {
        let count = count.clamp(1.0, 50_000_000.0) as u32;
        let from = self.next;
        self.next = from.saturating_add(count);
        wishes::requests(&self.target, from..self.next, (0..count).collect(), false)
    }

    fn at_hand(&self, again: bool) -> Result<Requests, String> {
        wishes::requests(&self.target, AHEAD..AHEAD + AT_HAND, (0..AT_HAND).collect(), again)
    }

    /// Has told what is to be at hand, twice: the second time each must come from the server's own cache.
    fn tell_ahead(&self) -> Result<(), String> {
        for _ in 0..2 {
            let told = load::measure(&self.plan(self.at_hand(false)?, 1, None, 60.0)?)?;
            if told.error_count > 0 || told.requests != u64::from(AT_HAND) {
                return Err(format!(
                    "the stories that are to be at hand cannot be told: {}",
                    told.errors.first.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }

    fn find_peak(&mut self) -> Result<f64, String> {
        let mut peak = 0.0_f64;
        for connections in PEAK_CONNECTIONS {
            let seconds = self.args.duration / 2.0;
            let requests = self.new_wishes(seconds * 20_000.0)?;
            let report = load::measure(&self.plan(requests, connections, None, seconds)?)?;
            let goodput = report.latency_2xx_us.count as f64 / report.seconds.max(1e-9);
            eprintln!(
                "closed loop, {connections} connections: {goodput:.0}/s, p99 {:.1} ms, not 200: {}",
                report.latency_2xx_us.p99 / 1000.0,
                report.error_count
            );
            peak = peak.max(goodput);
        }
        if peak > 0.0 {
            Ok(peak)
        } else {
            Err("no new story was told".to_owned())
        }
    }

    fn row(&mut self, times: f64, rate: f64, cached: f64) -> Result<Row, String> {
        let seconds = self.args.duration;
        let requests = self.new_wishes(rate * seconds + 1.0)?;
        let stories = self.plan(requests, self.args.connections, Some(rate), seconds)?;
        let probe = Target::parse(&format!("http://{}{PROBE}", self.target.authority))?;
        let probe = probe.request_bytes(&RequestArgs {
            method: "GET".to_owned(),
            body: None,
            body_file: None,
            headers: Vec::new(),
        })?;
        let probes = self.plan(Requests::same(probe), 4, Some(PROBES), seconds)?;
        let beside = match cached > 0.0 {
            true => Some(self.plan(self.at_hand(true)?, 32, Some(cached), seconds)?),
            false => None,
        };
        let measure = |plan: &Plan| load::measure(plan);
        let (stories, probes, beside) = std::thread::scope(|scope| {
            let probes = scope.spawn(|| measure(&probes));
            let beside = beside.as_ref().map(|plan| scope.spawn(|| measure(plan)));
            let stories = measure(&stories);
            let joined = |handle: std::thread::ScopedJoinHandle<'_, Result<Report, String>>| {
                handle.join().unwrap_or_else(|_| Err("a load panicked".to_owned()))
            };
            (stories, joined(probes), beside.map(joined).transpose())
        });
        let (stories, probes, beside) = (stories?, probes?, beside?);
        for report in [Some(&stories), Some(&probes), beside.as_ref()].into_iter().flatten() {
            for limit in report
                .generator_limits
                .iter()
                .filter(|limit| limit.contains("schedule"))
            {
                self.cautions.push(format!("at {times} times the peak: {limit}"));
            }
        }
        let shed = stories.statuses.get("503").copied().unwrap_or(0);
        let ok = stories.latency_2xx_us.count;
        Ok(Row {
            times,
            offered_per_second: rate,
            goodput_per_second: ok as f64 / stories.seconds.max(1e-9),
            ratio_to_peak: 0.0,
            p50_ms: stories.latency_2xx_us.p50 / 1000.0,
            p99_ms: stories.latency_2xx_us.p99 / 1000.0,
            max_ms: stories.latency_2xx_us.max / 1000.0,
            shed_per_second: shed as f64 / stories.seconds.max(1e-9),
            shed_p99_ms: stories.latency_503_us.p99 / 1000.0,
            cached: beside.map(|report| Beside::of(&report, cached)),
            probes: Beside::of(&probes, PROBES),
            errors: stories.error_count.saturating_sub(shed),
            first_error: stories.errors.first.filter(|_| stories.error_count > shed),
        })
    }
}

fn middle(values: &[f64]) -> f64 {
    Interval::of(values).map_or(0.0, |interval| interval.median)
}

fn line(row: &Row) -> String {
    let beside = |what: &Beside| format!("{} of {} not 200, p99 {:.1}", what.not_ok, what.answered, what.p99_ms);
    format!(
        "| {:.1} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.0} ({:.1}) | {} | {} | {}{} |",
        row.times,
        row.offered_per_second,
        row.goodput_per_second,
        row.ratio_to_peak,
        row.p50_ms,
        row.p99_ms,
        row.shed_per_second,
        row.shed_p99_ms,
        row.cached.as_ref().map_or("-".to_owned(), beside),
        beside(&row.probes),
        row.errors,
        row.first_error
            .as_ref()
            .map_or(String::new(), |first| format!(" ({first})")),
    )
}

fn text(found: &Found) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "peak: {:.0} new stories a second\n", found.peak_per_second);
    let _ = writeln!(
        out,
        "| times | offered/s | goodput/s | of peak | p50 ms | p99 ms | 503/s (p99 ms) | at hand | probes | errors |"
    );
    let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for row in &found.rows {
        let _ = writeln!(out, "{}", line(row));
    }
    if found.peaks.len() > 2 {
        let all = |values: &[f64], digits: usize| {
            let words: Vec<String> = values.iter().map(|value| format!("{value:.digits$}")).collect();
            words.join(", ")
        };
        let _ = writeln!(out, "\npeaks: {}", all(&found.peaks, 0));
        for (row, ratios) in found.rows.iter().zip(&found.ratios) {
            let beside = if row.cached.is_some() { ", others beside" } else { "" };
            let _ = writeln!(out, "{} times{beside}: {}", row.times, all(ratios, 2));
        }
        let _ = writeln!(
            out,
            "A ratio is that of a round to the mean of the peaks before and after it. The table has the last round's rates and p50, \
             medians of the ratios, the worst p99, and sums of what was answered and was wrong."
        );
    }
    for caution in &found.cautions {
        let _ = writeln!(out, "CAUTION: {caution}");
    }
    out
}
