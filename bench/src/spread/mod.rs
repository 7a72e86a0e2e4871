//! `spread`: how evenly a server's workers share connections and requests, by each way to share them.
//!
//! Starts the server anew for each way and repeat, in turns, and asks each connection's worker for its name. The ways: the
//! kernel's hash (`off`), a draw by a BPF program (`lot`), SO_INCOMING_CPU (`cpu`), and the server's own (`on`).

mod client;
mod report;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde::Serialize;

use crate::procfs::CpuTimes;
use crate::server::Server;
use crate::{EXIT_FOUND_ERRORS, clock};
use client::{ByWorker, Crowd};
use report::Report;

/// Puts a way of the kernel's in force.
const STEER: &str = include_str!("steer.py");
/// What is asked for: it names the worker, and needs neither store nor cache.
const PATH: &str = "/health/v2/worker";
/// The guide's loop.
const ONE_BY_ONE: u32 = 100;
/// From the end of a crowd to the next: the server has seen all of it go.
const PAUSE: Duration = Duration::from_millis(50);

/// Measure how evenly workers share connections and requests
///
/// For each number of workers and each way, starts the server, opens the connections at once, asks on all of them for a
/// while, and counts connections and requests by X-Worker-ID; then 100 requests one after the other on connections of
/// their own; then connections that come and go as fast as they can, with the server's CPU time for each. Repeats run
/// in turns, and the table has their medians. The ways lot and cpu need python3 and the right to trace the server. Exit code
/// 1 where `on` leaves a greater difference than --max-difference.
#[derive(clap::Args)]
#[command(after_help = "Example: roadtrip-bench spread --server-cmd target/release/roadtrip-api")]
pub(crate) struct Args {
    /// Command that starts the server; run by `sh -c "exec ..."` with PORT, WORKERS, BALANCE and DATA_DIR set
    #[arg(long, default_value = "target/release/roadtrip-api")]
    server_cmd: String,
    /// Numbers of workers
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4], value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Vec<u32>,
    /// Numbers of connections that stay
    #[arg(long, short = 'c', value_delimiter = ',', default_values_t = [4, 16, 64, 1000], value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: Vec<u32>,
    /// Ways to share them
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Way::ALL)]
    ways: Vec<Way>,
    /// Repeats, of which the medians are told
    #[arg(long, short = 'n', default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Milliseconds of load on each crowd of connections
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    load_ms: u32,
    /// Milliseconds of connections that come and go
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    churn_ms: u32,
    /// Exit with code 1 where, the server sharing, a worker has so many connections more than another
    #[arg(long)]
    max_difference: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// The kernel's hash
    Off,
    /// A BPF program that draws lots
    Lot,
    /// Each socket wants the connections of one CPU
    Cpu,
    /// The server's workers hand connections over
    On,
}

impl Way {
    const ALL: [Way; 4] = [Way::Off, Way::Lot, Way::Cpu, Way::On];

    /// What the table calls it.
    fn name(self) -> &'static str {
        match self {
            Way::Off => "off",
            Way::Lot => "lot",
            Way::Cpu => "cpu",
            Way::On => "on",
        }
    }
}

/// One repeat of one way.
#[derive(Debug, Serialize)]
struct Run {
    workers: u32,
    way: Way,
    crowds: Vec<CrowdRun>,
    /// Of 100 requests one by one, how many each worker answered.
    one_by_one: Vec<u64>,
    churn_per_second: f64,
    /// The server's CPU microseconds for each connection that came and went.
    churn_cpu_us: f64,
    /// Of a thousand of those, how many were handed over.
    churn_handed: f64,
}

#[derive(Debug, Serialize)]
struct CrowdRun {
    count: u32,
    /// Of each worker, ascending.
    connections: Vec<u64>,
    requests: Vec<u64>,
}

/// A folder for the server's store, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn make(port: u16) -> Result<Folder, String> {
        let path = std::env::temp_dir().join(format!("roadtrip-spread-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let most = args.connections.iter().max().copied().unwrap_or(0);
    crate::open_files::allow(u64::from(most).saturating_add(64))?;
    let mut runs = Vec::new();
    for &workers in &args.workers {
        for repeat in 0..args.repeats {
            for &way in &args.ways {
                eprintln!(
                    "{workers} workers, {}, repeat {} of {}",
                    way.name(),
                    repeat + 1,
                    args.repeats
                );
                runs.push(one(args, workers, way)?);
            }
        }
    }
    let report = Report::new(runs);
    crate::print_report(args.json, &report, Report::text)?;
    let too_uneven = args.max_difference.is_some_and(|max| report.difference_of_on() > max);
    Ok(if too_uneven {
        ExitCode::from(EXIT_FOUND_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

/// A port that is free now.
fn free_port() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map_err(|e| format!("no free port: {e}"))
}

fn one(args: &Args, workers: u32, way: Way) -> Result<Run, String> {
    let address = free_port()?;
    let folder = Folder::make(address.port())?;
    let command = format!(
        "env PORT={} WORKERS={workers} BALANCE={} DATA_DIR='{}' LOG_LEVEL=error CONNECTIONS_PER_ADDRESS=0 {}",
        address.port(),
        if way == Way::On { "on" } else { "off" },
        folder.0.display(),
        args.server_cmd
    );
    let server = Server::start(&command, address, None)?;
    if matches!(way, Way::Lot | Way::Cpu) {
        steer(way, server.pid, address.port())?;
    }
    // All workers are there: each has been asked, where chance has it.
    client::get(address, PATH)?;
    // Whoever asked whether it is ready has left, and counts no longer.
    std::thread::sleep(PAUSE);
    let crowds: Result<Vec<CrowdRun>, String> = args
        .connections
        .iter()
        .map(|&count| {
            let mut crowd = Crowd::gather(address, PATH, count)?;
            crowd.load(address, PATH, Duration::from_millis(args.load_ms.into()))?;
            let run = CrowdRun {
                count,
                connections: of_each(workers, crowd.connections()),
                requests: of_each(workers, crowd.answers()),
            };
            drop(crowd);
            std::thread::sleep(PAUSE);
            Ok(run)
        })
        .collect();
    let crowds = crowds?;
    let one_by_one = of_each(workers, client::one_by_one(address, PATH, ONE_BY_ONE)?);
    let (before, handed) = (CpuTimes::read(server.pid)?, handed_over(address));
    let from = clock::now_ns();
    let count = client::churn(address, PATH, Duration::from_millis(args.churn_ms.into()))?.max(1) as f64;
    let seconds = clock::now_ns().saturating_sub(from) as f64 / 1e9;
    let cpu_ns = CpuTimes::read(server.pid)?.since(&before) as f64;
    Ok(Run {
        workers,
        way,
        crowds,
        one_by_one,
        churn_per_second: count / seconds,
        churn_cpu_us: cpu_ns / 1000.0 / count,
        churn_handed: (handed_over(address) - handed) * 1000.0 / count,
    })
}

/// The numbers, ascending, with a nought for each worker that has nothing.
fn of_each(workers: u32, by: ByWorker) -> Vec<u64> {
    let mut numbers: Vec<u64> = by.into_values().collect();
    numbers.resize(numbers.len().max(workers as usize), 0);
    numbers.sort_unstable();
    numbers
}

/// Connections that the server says it has handed over; 0 of a server that has no such figure.
fn handed_over(address: SocketAddr) -> f64 {
    let text = client::get(address, "/metrics").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text
        .lines()
        .filter(|line| line.starts_with("worker_connections_handed_total"));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn steer(way: Way, pid: u32, port: u16) -> Result<(), String> {
    let ran = Command::new("python3")
        .args(["-c", STEER, way.name(), &pid.to_string(), &port.to_string()])
        .output()
        .map_err(|e| format!("cannot run python3: {e}; leave --ways lot and cpu out"))?;
    if ran.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&ran.stderr);
    Err(format!(
        "the sockets cannot be steered by {}: {}",
        way.name(),
        why.trim().lines().last().unwrap_or_default()
    ))
}
