//! `load`: an HTTP/1.1 keep-alive load generator. Closed loop (each connection asks again when answered) or open loop
//! (`--rate`: requests are due at constant intervals, and latency counts from when each was due, so that a stalled
//! server cannot hide its stall by keeping the generator from asking).
//!
//! Threads share nothing while they run; histograms are merged afterwards, never percentiles. Every answer is checked
//! to the last byte. Deliberately absent: pipelining, TLS, chunked answers.

mod report;
mod requests;
mod schedule;
mod worker;

use std::process::ExitCode;
use std::sync::Barrier;
use std::time::Duration;

pub(crate) use report::{Percentiles, Report};
pub(crate) use requests::Requests;
use worker::{Outcome, Worker};

use crate::answer::Told;
use crate::target::{RequestArgs, Target};
use crate::{EXIT_FOUND_ERRORS, clock};

/// Load a server over keep-alive connections, closed loop or at a constant rate, and check every answer
///
/// Without --rate each connection asks again as soon as it is answered (throughput). With --rate requests are due at
/// constant intervals whatever the server does, and latency counts from the due time. Any error (no answer, broken
/// framing, a status outside 2xx, a request that could not be sent) gives exit code 1. The report says where the
/// generator itself, and not the server, was the limit.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  roadtrip-bench load --url http://127.0.0.1:8080/health --connections 64 --duration 5
  roadtrip-bench load --url http://127.0.0.1:8080/api/v1/stories/generate --method POST \\
      --body '{\"location\":\"San Francisco\",\"style\":\"adventure\"}' --rate 3000 --duration 30 --json")]
pub(crate) struct Args {
    /// What to ask for, http:// only
    #[arg(long)]
    url: String,
    #[command(flatten)]
    request: RequestArgs,
    /// Connections, kept alive, shared out over the threads
    #[arg(long, short = 'c', default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Threads, each with its own share of the connections
    #[arg(long, short = 't', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Seconds to measure
    #[arg(long, short = 'd', default_value_t = 10.0)]
    duration: f64,
    /// Seconds of load before that; errors count there too, latency does not
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    /// Open loop: requests per second over all threads, at constant intervals
    #[arg(long, short = 'r')]
    rate: Option<f64>,
    /// Seconds a connection may take to open
    #[arg(long, default_value_t = 5.0)]
    connect_timeout: f64,
    /// Seconds an answer may take, from the send
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
    /// CPUs to pin the threads to, one each, for example 1,2
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// What each answer's Cache-Status must say; an answer that says something else is an error
    #[arg(long, value_enum)]
    cache_status: Option<Told>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let target = Target::parse(&args.url)?;
    let plan = Plan {
        address: target.address()?,
        requests: Requests::same(target.request_bytes(&args.request)?),
        expect: args.cache_status,
        head_request: args.request.method == "HEAD",
        connections: args.connections,
        threads: args.threads,
        duration_ns: seconds("--duration", args.duration)?.max(1),
        warmup_ns: seconds("--warmup", args.warmup)?,
        rate: args.rate,
        connect_timeout_ns: seconds("--connect-timeout", args.connect_timeout)?.max(1),
        timeout_ns: seconds("--timeout", args.timeout)?.max(1),
        cpus: args.cpus.clone(),
    };
    let report = measure(&plan)?;
    crate::print_report(args.json, &report, |report| report.text(&args.url))?;
    Ok(if report.error_count == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FOUND_ERRORS)
    })
}

/// Seconds of the command line in nanoseconds.
fn seconds(name: &str, value: f64) -> Result<u64, String> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|d| d.as_secs() <= 86_400)
        .and_then(|d| u64::try_from(d.as_nanos()).ok())
        .ok_or_else(|| format!("{name} takes 0 to 86400 seconds, not {value}"))
}

/// What one run is to do. All times in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where the server listens.
    pub(crate) address: std::net::SocketAddr,
    /// What is asked.
    pub(crate) requests: Requests,
    /// What each answer's Cache-Status must say.
    pub(crate) expect: Option<Told>,
    /// Answers have no body, as the request is HEAD.
    pub(crate) head_request: bool,
    /// Connections over all threads; at least one for each thread is opened.
    pub(crate) connections: u32,
    /// Threads; at least one.
    pub(crate) threads: u32,
    /// Time measured.
    pub(crate) duration_ns: u64,
    /// Time before that.
    pub(crate) warmup_ns: u64,
    /// Requests per second over all threads; `None` is the closed loop.
    pub(crate) rate: Option<f64>,
    /// Limit of opening a connection.
    pub(crate) connect_timeout_ns: u64,
    /// Limit of an answer.
    pub(crate) timeout_ns: u64,
    /// CPUs to pin to, by thread, round robin; empty for no pinning.
    pub(crate) cpus: Vec<usize>,
}

/// Runs the load and reports.
///
/// # Errors
/// Where nothing could be measured: no connection, no thread, no CPU of that number. Errors of single requests are
/// counted in the report.
pub(crate) fn measure(plan: &Plan) -> Result<Report, String> {
    if plan.connections < plan.threads || plan.threads == 0 {
        return Err(format!(
            "{} threads need at least as many connections, not {}",
            plan.threads, plan.connections
        ));
    }
    if let Some(rate) = plan.rate
        && !(rate > 0.0 && rate <= 10_000_000.0)
    {
        return Err(format!("--rate takes up to 10000000 requests per second, not {rate}"));
    }
    // Nobody starts before everybody has connected, or given up.
    let gate = Barrier::new(plan.threads as usize);
    let outcomes: Vec<Result<Outcome, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..plan.threads)
            .map(|index| {
                scope.spawn({
                    let gate = &gate;
                    move || one_thread(plan, index, gate)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|h| h.join().unwrap_or_else(|_| Err("a load thread panicked".to_owned())))
            .collect()
    });
    let mut report = Report::new(plan);
    for outcome in outcomes {
        report.add(outcome?);
    }
    report.finish();
    Ok(report)
}

fn one_thread(plan: &Plan, index: u32, gate: &Barrier) -> Result<Outcome, String> {
    let ready = match plan.cpus.get(index as usize % plan.cpus.len().max(1)) {
        Some(&cpu) => clock::pin_to(cpu),
        None => Ok(()),
    }
    .and_then(|()| Worker::new(plan, index))
    .and_then(|mut worker| worker.connect_all().map(|()| worker));
    gate.wait();
    ready?.run()
}
