//! The command line of `load`.

use std::path::PathBuf;

use super::accounting;
use super::threshold::Threshold;
use crate::answer::Told;
use crate::target::RequestArgs;

/// Load a server, and say what it did, what that cost it, and whether the figures can be trusted
///
/// Closed loop: each connection asks again as soon as it is answered (throughput), or after a user's think time. Open loop
/// (--rate, --profile, --replay): requests are due at times of their own, whatever the server does, and latency counts from
/// when each was due. What is asked is one --url, the mix of a --scenario, or the log of a --replay. Every answer is checked
/// to its last byte.
///
/// Exit codes: 0 sound; 1 errors (no answer, broken framing, a wrong status, a request not sent), unless a --fail-if speaks of
/// errors; 2 nothing could be measured; 3 a --fail-if holds, or --search found no rate; 4 the generator was the limit: the
/// figures say nothing of the server.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  roadtrip-bench load --url http://127.0.0.1:8080/health --connections 64 --duration 5
  roadtrip-bench load --url http://127.0.0.1:8080/api/v1/stories/generate --method POST \\
      --body '{\"location\":\"San Francisco\",\"style\":\"adventure\"}' --rate 3000 --duration 30 --json
  roadtrip-bench load --url http://127.0.0.1:8080 --scenario bench/scenarios/guide.toml --fail-if 'p99>200ms'
  roadtrip-bench load --url https://localhost:8443/health --http2 --streams 32 --insecure --poisson --rate 5000
  roadtrip-bench load --url http://127.0.0.1:8080/health --search 'p99>10ms' --search 'errors>0.1%' --duration 10

bench/README.md is the manual.")]
pub(crate) struct Args {
    /// What to ask for, http:// or https://; with --scenario or --replay, what goes before each path
    #[arg(long)]
    pub(super) url: String,
    #[command(flatten)]
    pub(super) request: RequestArgs,

    /// Scenario file (TOML): a mix of requests with their data, and defaults for the load
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "body", "body_file", "sse", "cache_status"], help_heading = "What is asked")]
    pub(super) scenario: Option<PathBuf>,
    /// Access log to replay: this server's JSON lines, Common or Combined Log Format
    #[arg(long, value_name = "FILE", help_heading = "What is asked")]
    pub(super) replay: Option<PathBuf>,
    /// Replay that many times as fast as it was
    #[arg(long, default_value_t = 1.0, requires = "replay", help_heading = "What is asked")]
    pub(super) replay_speed: f64,
    /// Replay in the closed loop: the log's order, not its times
    #[arg(long, requires = "replay", conflicts_with_all = ["rate", "profile"], help_heading = "What is asked")]
    pub(super) replay_closed: bool,
    /// The answer is a stream of server-sent events; adds Accept, counts events, times the first
    #[arg(long, help_heading = "What is asked")]
    pub(super) sse: bool,
    /// What each answer's Cache-Status must say; an answer that says something else is an error
    #[arg(long, value_enum, help_heading = "What is asked")]
    pub(super) cache_status: Option<Told>,
    /// Start of all randomness: arrivals, mixes, keys, think times
    #[arg(long, default_value_t = 1, help_heading = "What is asked")]
    pub(super) seed: u64,

    /// Connections, shared out over the threads [default: 64]
    #[arg(long, short = 'c', value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Connections")]
    pub(super) connections: Option<u32>,
    /// Requests under way on one HTTP/1.1 connection [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024), conflicts_with = "http2", help_heading = "Connections")]
    pub(super) pipeline: Option<u32>,
    /// A connection for each request, opened when it is due and closed by the server
    #[arg(long, help_heading = "Connections")]
    pub(super) short_lived: bool,
    /// Speak HTTP/2: by ALPN over https://, by prior knowledge over http://
    #[arg(long, help_heading = "Connections")]
    pub(super) http2: bool,
    /// Requests under way on one HTTP/2 connection [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Connections")]
    pub(super) streams: Option<u32>,
    /// Begin that many connections a second, as users come; all at once before the start without it
    #[arg(long, help_heading = "Connections")]
    pub(super) spawn_rate: Option<f64>,
    /// PEM file of the roots to check the server's certificate by, instead of the system's
    #[arg(long, value_name = "FILE", help_heading = "Connections")]
    pub(super) cacert: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, conflicts_with = "cacert", help_heading = "Connections")]
    pub(super) insecure: bool,
    /// Seconds a connection may take to open
    #[arg(long, default_value_t = 5.0, help_heading = "Connections")]
    pub(super) connect_timeout: f64,
    /// Seconds an answer may take, from the send
    #[arg(long, default_value_t = 5.0, help_heading = "Connections")]
    pub(super) timeout: f64,

    /// Open loop: requests per second over all threads
    #[arg(long, short = 'r', help_heading = "Load")]
    pub(super) rate: Option<f64>,
    /// Open loop with a rate that changes: ramp:FROM:TO:SECONDS, step:FROM:TO:STEPS:SECONDS,
    /// spike:BASE:PEAK:BEFORE:DURING:AFTER, or FROM-TO@SECONDS,...; sets the duration
    #[arg(long, conflicts_with_all = ["rate", "duration"], help_heading = "Load")]
    pub(super) profile: Option<String>,
    /// Arrivals at random (Poisson) instead of at constant intervals
    #[arg(long, help_heading = "Load")]
    pub(super) poisson: bool,
    /// Seconds to measure [default: 10, or as long as a log]
    #[arg(long, short = 'd', help_heading = "Load")]
    pub(super) duration: Option<f64>,
    /// Seconds of load before that [default: 0]; errors count there too, latency does not
    #[arg(long, help_heading = "Load")]
    pub(super) warmup: Option<f64>,
    /// Due and unanswered requests, over all threads, beyond which arrivals are skipped (and counted as errors)
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), help_heading = "Load")]
    pub(super) in_flight_max: u64,

    /// Threads, each with its own share of the connections
    #[arg(long, short = 't', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Generator")]
    pub(super) threads: u32,
    /// CPUs to pin the threads to, one each, for example 1,2
    #[arg(long, value_delimiter = ',', help_heading = "Generator")]
    pub(super) cpus: Vec<usize>,
    /// What the generator runs on: auto, uring or epoll
    #[arg(long, default_value = "auto", help_heading = "Generator")]
    pub(super) driver: String,
    /// Report a run as sound even where the generator was the limit (it still says so)
    #[arg(long, help_heading = "Generator")]
    pub(super) accept_generator_limits: bool,

    /// Fail (exit code 3) where this holds, for example 'p99>200ms', 'errors>0.1%', 'story.p99.9>=1s', 'rps<2900'; may be
    /// repeated
    #[arg(long, value_name = "CONDITION", help_heading = "Verdict")]
    pub(super) fail_if: Vec<Threshold>,
    /// Look for the highest rate at which none of these conditions holds; may be repeated. Each trial lasts --duration
    #[arg(long, value_name = "CONDITION", conflicts_with_all = ["rate", "profile", "replay", "csv", "hlog"], help_heading = "Verdict")]
    pub(super) search: Vec<Threshold>,
    /// Rate of the search's first trial
    #[arg(long, default_value_t = 1000.0, help_heading = "Verdict")]
    pub(super) search_from: f64,
    /// Rate at which the search stops
    #[arg(long, default_value_t = 1_000_000.0, help_heading = "Verdict")]
    pub(super) search_max: f64,
    /// Width at which it is content, as a share of the rate
    #[arg(long, default_value_t = 0.03, help_heading = "Verdict")]
    pub(super) search_within: f64,
    /// Seconds of rest between trials
    #[arg(long, default_value_t = 0.5, help_heading = "Verdict")]
    pub(super) search_rest: f64,

    /// Account for the server's process: CPU, switches, memory, spread over workers. A number, or `auto` for the one that
    /// listens at the URL's port on this machine
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub(super) server_pid: Option<String>,
    /// Count the server's system calls as well; slows it down
    #[arg(long, value_enum, requires = "server_pid", help_heading = "Server")]
    pub(super) syscalls: Option<accounting::Tool>,

    /// Print the report as JSON (bench/schema/run.schema.json)
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// Write the same to a file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) json_file: Option<PathBuf>,
    /// Write the time series as CSV
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) csv: Option<PathBuf>,
    /// Write the percentile curve in HdrHistogram's format
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) hgrm: Option<PathBuf>,
    /// Write an HdrHistogram interval log (V2)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) hlog: Option<PathBuf>,
    /// Seconds of an interval of the series and of the view
    #[arg(long, default_value_t = 1.0, help_heading = "Output")]
    pub(super) interval: f64,
    /// No view while it runs
    #[arg(long, short = 'q', help_heading = "Output")]
    pub(super) quiet: bool,
}
