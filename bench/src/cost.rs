//! `cost`: CPU per request of server A against server B, the way every ratio of this project is measured: both in one
//! run, in turns, each on the same core, medians of at least five pairs.
//!
//! A single figure of CPU per request moves by tens of per cent with the machine's mood; the ratio of two servers
//! measured a few seconds apart does not. So the pairs are listed, and the ratio quoted is the median of theirs.

use std::process::{Command, ExitCode};

use serde::Serialize;

use crate::load::Requests;
use crate::procfs::CpuTimes;
use crate::server::Server;
use crate::target::{RequestArgs, Target};
use crate::{EXIT_FOUND_ERRORS, clock, load};

/// Server utilisation below which the server waited for the load: CPU per request is then of a half-idle server, whose
/// wake-ups it pays for.
const UTILISATION_MIN: f64 = 0.9;
/// Nanoseconds that an answer of the own load generator may take.
const TIMEOUT_NS: u64 = 5_000_000_000;

/// Compare the CPU time per request of two servers, A and B, in alternating runs
///
/// Starts A and B (or takes running ones by --a-pid, --b-pid), each pinned to --server-cpu, and loads them in turns
/// from --load-cpu: A, B, B, A, A, B ... CPU time is the exact run time of all threads of the server and its
/// descendants (/proc/<pid>/task/*/schedstat), not ticks of 10 ms. A server that shuts threads or children down during
/// a run loses their time: measure with recycling off. Prints every pair, and medians.
#[derive(clap::Args)]
#[command(after_help = "Example:
  roadtrip-bench cost --tool wrk \\
      --a-cmd 'env PORT=8080 target/release/roadtrip-api serve' --a-url http://127.0.0.1:8080/health/v2/live \\
      --b-cmd 'target/release/roadtrip-bench floor --port 9000' --b-url http://127.0.0.1:9000/ --max-ratio 1.10")]
pub(crate) struct Args {
    /// Command that starts server A; run by `sh -c "exec ..."`, so set variables with `env NAME=value`
    #[arg(long, required_unless_present = "a_pid", conflicts_with = "a_pid")]
    a_cmd: Option<String>,
    /// Process id of a running server A; it is left where it is pinned
    #[arg(long)]
    a_pid: Option<u32>,
    /// What to ask A for
    #[arg(long)]
    a_url: String,
    /// Name of A in the report
    #[arg(long, default_value = "A")]
    a_name: String,
    /// Command that starts server B
    #[arg(long, required_unless_present = "b_pid", conflicts_with = "b_pid")]
    b_cmd: Option<String>,
    /// Process id of a running server B
    #[arg(long)]
    b_pid: Option<u32>,
    /// What to ask B for
    #[arg(long)]
    b_url: String,
    /// Name of B in the report
    #[arg(long, default_value = "B")]
    b_name: String,
    #[command(flatten)]
    request: RequestArgs,
    /// Pairs of runs; medians of fewer than 5 are not quoted as results
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Seconds of each run
    #[arg(long, short = 'd', default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    duration: u32,
    /// Seconds of load on each server before the first pair
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    warmup: u32,
    /// Connections
    #[arg(long, short = 'c', default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// CPU that started servers are pinned to
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU that the load runs on
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Load generator: wrk from PATH, or the `load` of this program (which also checks every answer)
    #[arg(long, value_enum, default_value = "load")]
    tool: Tool,
    /// Exit with code 1 where the median ratio A/B of CPU per request is above this
    #[arg(long)]
    max_ratio: Option<f64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Tool {
    /// The program wrk.
    Wrk,
    /// `roadtrip-bench load`.
    Load,
}

/// One run against one server.
#[derive(Clone, Debug, Serialize)]
struct Run {
    /// CPU microseconds per request.
    cpu_us_per_request: f64,
    requests_per_second: f64,
    /// CPU time of the server over wall time, all its threads: 1.0 is one CPU.
    utilisation: f64,
    requests: u64,
    errors: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Pair {
    a: Run,
    b: Run,
    /// CPU per request of A over that of B.
    cpu_ratio: f64,
    /// Throughput of A over that of B.
    throughput_ratio: f64,
}

#[derive(Debug, Serialize)]
struct Medians {
    a_cpu_us_per_request: f64,
    b_cpu_us_per_request: f64,
    a_requests_per_second: f64,
    b_requests_per_second: f64,
    a_utilisation: f64,
    b_utilisation: f64,
    cpu_ratio: f64,
    throughput_ratio: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    a: String,
    b: String,
    tool: Tool,
    connections: u32,
    seconds_per_run: u32,
    pairs: Vec<Pair>,
    medians: Medians,
    errors: u64,
    /// Why the figures are to be taken with care; empty where there is no reason.
    cautions: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let a = Side::new(args, &args.a_url, args.a_cmd.as_deref(), args.a_pid)?;
    let b = Side::new(args, &args.b_url, args.b_cmd.as_deref(), args.b_pid)?;
    for side in [&a, &b] {
        side.load(args, args.warmup)?;
    }
    let mut pairs = Vec::new();
    for index in 0..args.pairs {
        // ABBA: what drifts with time does not fall on one of the two.
        let (run_a, run_b) = if index % 2 == 0 {
            let first = a.load(args, args.duration)?;
            (first, b.load(args, args.duration)?)
        } else {
            let first = b.load(args, args.duration)?;
            (a.load(args, args.duration)?, first)
        };
        let pair = Pair {
            cpu_ratio: run_a.cpu_us_per_request / run_b.cpu_us_per_request,
            throughput_ratio: run_a.requests_per_second / run_b.requests_per_second,
            a: run_a,
            b: run_b,
        };
        eprintln!("pair {} of {}: {}", index + 1, args.pairs, line(&pair));
        pairs.push(pair);
    }
    let report = report(args, pairs);
    crate::print_report(args.json, &report, text)?;
    let missed = args.max_ratio.is_some_and(|max| report.medians.cpu_ratio > max);
    if missed {
        eprintln!("the ratio {:.3} is above --max-ratio", report.medians.cpu_ratio);
    }
    Ok(if report.errors > 0 || missed {
        ExitCode::from(EXIT_FOUND_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

/// One of the two servers, and what it is asked.
struct Side {
    server: Server,
    url: String,
    target: Target,
}

impl Side {
    fn new(args: &Args, url: &str, command: Option<&str>, pid: Option<u32>) -> Result<Self, String> {
        let target = Target::parse(url)?;
        let address = target.address()?;
        let server = match (command, pid) {
            (Some(command), _) => Server::start(command, address, Some(args.server_cpu))?,
            (None, Some(pid)) => Server::running(pid, address)?,
            (None, None) => return Err("a server needs a command or a pid".to_owned()),
        };
        Ok(Self {
            server,
            url: url.to_owned(),
            target,
        })
    }

    fn load(&self, args: &Args, seconds: u32) -> Result<Run, String> {
        let before = CpuTimes::read(self.server.pid)?;
        let start_ns = clock::now_ns();
        let (requests, errors, requests_per_second) = match args.tool {
            Tool::Load => {
                let report = load::measure(&load::Plan {
                    address: self.target.address()?,
                    requests: Requests::same(self.target.request_bytes(&args.request)?),
                    expect: None,
                    head_request: args.request.method == "HEAD",
                    connections: args.connections,
                    threads: 1,
                    duration_ns: u64::from(seconds).saturating_mul(clock::SECOND_NS),
                    warmup_ns: 0,
                    rate: None,
                    connect_timeout_ns: TIMEOUT_NS,
                    timeout_ns: TIMEOUT_NS,
                    cpus: vec![args.load_cpu],
                })?;
                (
                    report.requests_with_warmup,
                    report.error_count,
                    report.requests_per_second,
                )
            }
            Tool::Wrk => self.wrk(args, seconds)?,
        };
        let wall_ns = clock::now_ns().saturating_sub(start_ns);
        let cpu_ns = CpuTimes::read(self.server.pid)?.since(&before);
        if requests == 0 {
            return Err(format!("{} answered nothing", self.url));
        }
        Ok(Run {
            cpu_us_per_request: cpu_ns as f64 / 1000.0 / requests as f64,
            requests_per_second,
            utilisation: cpu_ns as f64 / wall_ns.max(1) as f64,
            requests,
            errors,
        })
    }

    /// Requests, errors and requests per second by wrk.
    fn wrk(&self, args: &Args, seconds: u32) -> Result<(u64, u64, f64), String> {
        let mut command = Command::new("wrk");
        command.args([
            "-t1",
            &format!("-c{}", args.connections),
            &format!("-d{seconds}s"),
            "--timeout",
            "5s",
        ]);
        let script = script(&args.request)?;
        // wrk takes a method or a body by a script file only.
        let path = std::env::temp_dir().join(format!("roadtrip-bench-wrk-{}.lua", std::process::id()));
        if let Some(script) = &script {
            std::fs::write(&path, script).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            command.arg("-s").arg(&path);
        }
        command.arg(&self.url);
        let output = clock::while_pinned(Some(args.load_cpu), || command.output())?
            .map_err(|e| format!("cannot run wrk: {e}; install it or use --tool load"));
        if script.is_some() {
            let _ = std::fs::remove_file(&path);
        }
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout);
        read_wrk(&text).ok_or_else(|| format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A wrk script for requests other than a plain GET.
fn script(request: &RequestArgs) -> Result<Option<Vec<u8>>, String> {
    let (body, headers) = (request.body_bytes()?, request.header_pairs()?);
    if request.method == "GET" && body.is_none() && headers.is_empty() {
        return Ok(None);
    }
    let mut lua = format!("wrk.method = {}\n", lua_string(request.method.as_bytes()));
    for (name, value) in headers {
        lua.push_str(&format!(
            "wrk.headers[{}] = {}\n",
            lua_string(name.as_bytes()),
            lua_string(value.as_bytes())
        ));
    }
    if let Some(body) = body {
        lua.push_str(&format!("wrk.body = {}\n", lua_string(&body)));
    }
    Ok(Some(lua.into_bytes()))
}

/// Any bytes as a Lua string: decimal escapes need no thought about quoting.
fn lua_string(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|b| format!("\\{b:03}")).collect();
    format!("\"{escaped}\"")
}

/// Requests, errors and requests per second of what wrk printed.
fn read_wrk(text: &str) -> Option<(u64, u64, f64)> {
    let (mut requests, mut errors, mut rate) = (None, 0_u64, None);
    for line in text.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            requests = count.parse().ok();
        } else if let Some(value) = line.strip_prefix("Requests/sec:") {
            rate = value.trim().parse().ok();
        } else if line.starts_with("Socket errors:") || line.starts_with("Non-2xx") {
            let numbers = line
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|s| s.parse::<u64>().ok());
            // "Non-2xx or 3xx responses: 5": the 2 and the 3 are not counts.
            let skip = if line.starts_with("Non-2xx") { 2 } else { 0 };
            errors = errors.saturating_add(numbers.skip(skip).fold(0, u64::saturating_add));
        }
    }
    Some((requests?, errors, rate?))
}

/// The middle value, or the mean of the two middle ones; 0 for none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(0.0);
    let lower = values
        .len()
        .checked_sub(1)
        .and_then(|last| values.get(last / 2))
        .copied()
        .unwrap_or(upper);
    f64::midpoint(lower, upper)
}

fn report(args: &Args, pairs: Vec<Pair>) -> Report {
    let of = |f: fn(&Pair) -> f64| median(pairs.iter().map(f));
    let medians = Medians {
        a_cpu_us_per_request: of(|p| p.a.cpu_us_per_request),
        b_cpu_us_per_request: of(|p| p.b.cpu_us_per_request),
        a_requests_per_second: of(|p| p.a.requests_per_second),
        b_requests_per_second: of(|p| p.b.requests_per_second),
        a_utilisation: of(|p| p.a.utilisation),
        b_utilisation: of(|p| p.b.utilisation),
        cpu_ratio: of(|p| p.cpu_ratio),
        throughput_ratio: of(|p| p.throughput_ratio),
    };
    let mut cautions = Vec::new();
    if pairs.len() < 5 {
        cautions.push(format!(
            "{} pairs are too few for a result: take 5 or more",
            pairs.len()
        ));
    }
    for (name, utilisation) in [
        (&args.a_name, medians.a_utilisation),
        (&args.b_name, medians.b_utilisation),
    ] {
        if utilisation < UTILISATION_MIN {
            cautions.push(format!(
                "{name} was only {:.0} % busy: the load was the limit, so throughput is the load's, not the server's",
                utilisation * 100.0
            ));
        }
    }
    let errors = pairs
        .iter()
        .map(|p| p.a.errors.saturating_add(p.b.errors))
        .fold(0, u64::saturating_add);
    Report {
        a: args.a_name.clone(),
        b: args.b_name.clone(),
        tool: args.tool,
        connections: args.connections,
        seconds_per_run: args.duration,
        pairs,
        medians,
        errors,
        cautions,
    }
}

fn line(pair: &Pair) -> String {
    let one = |r: &Run| {
        format!(
            "{:7.3} us {:9.0} req/s {:5.1} %",
            r.cpu_us_per_request,
            r.requests_per_second,
            r.utilisation * 100.0
        )
    };
    format!(
        "A {}   B {}   A/B {:.3} (throughput {:.3})",
        one(&pair.a),
        one(&pair.b),
        pair.cpu_ratio,
        pair.throughput_ratio
    )
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!(
        "A = {}, B = {}; CPU us per request, requests/s, server utilisation; {} connections, {} s a run",
        report.a, report.b, report.connections, report.seconds_per_run
    )];
    lines.extend(
        report
            .pairs
            .iter()
            .enumerate()
            .map(|(i, pair)| format!("pair {:>2}  {}", i + 1, line(pair))),
    );
    let m = &report.medians;
    lines.push(format!(
        "medians  A {:7.3} us {:9.0} req/s {:5.1} %   B {:7.3} us {:9.0} req/s {:5.1} %   A/B {:.3} (throughput {:.3})",
        m.a_cpu_us_per_request,
        m.a_requests_per_second,
        m.a_utilisation * 100.0,
        m.b_cpu_us_per_request,
        m.b_requests_per_second,
        m.b_utilisation * 100.0,
        m.cpu_ratio,
        m.throughput_ratio
    ));
    lines.push(format!("errors   {}", report.errors));
    lines.extend(report.cautions.iter().map(|c| format!("CAUTION: {c}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read() {
        let text = "Running 5s test @ http://127.0.0.1:9000/\n  1 threads and 64 connections\n  Thread Stats   Avg\n\
                    \x20 304374 requests in 5.10s, 72.28MB read\n  Socket errors: connect 0, read 2, write 1, timeout 4\n\
                    \x20 Non-2xx or 3xx responses: 5\nRequests/sec:  59681.12\nTransfer/sec:     14.17MB\n";
        assert_eq!(read_wrk(text), Some((304_374, 12, 59_681.12)));
        assert_eq!(read_wrk("unable to connect"), None);
    }

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([7.0].into_iter()), 7.0);
        assert_eq!(median(std::iter::empty()), 0.0);
    }

    #[test]
    fn a_body_cannot_break_out_of_the_script() {
        assert_eq!(lua_string(b"a\"\n0"), "\"\\097\\034\\010\\048\"");
        let get = RequestArgs {
            method: "GET".into(),
            body: None,
            body_file: None,
            headers: vec![],
        };
        assert_eq!(script(&get).unwrap(), None);
        let post = RequestArgs {
            method: "POST".into(),
            body: Some("{}".into()),
            ..get
        };
        let lua = String::from_utf8(script(&post).unwrap().unwrap()).unwrap();
        assert!(lua.contains("wrk.method") && lua.contains("wrk.headers") && lua.contains("wrk.body"));
    }
}
