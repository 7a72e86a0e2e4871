//! One of the two servers: started anew for each run, so that its own memory is empty, and measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Args;
use super::backends::Backends;
use crate::answer::Told;
use crate::clock;
use crate::load::{self, Plan, Report, Requests};
use crate::procfs::CpuTimes;
use crate::server::Server;
use crate::target::Target;

/// Nanoseconds that an answer may take, or a connection.
const TIMEOUT_NS: u64 = 10_000_000_000;
/// How long a server may take until it says that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// For what a server does after its last answer (writes to Redis), so that it counts as well.
const AFTERWARDS: Duration = Duration::from_millis(50);

/// What all runs have in common.
pub(super) struct Setup<'a> {
    pub(super) args: &'a Args,
    pub(super) backends: &'a Backends,
}

/// A server under measurement.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) address: SocketAddr,
}

/// What is asked in a run, and how.
pub(super) struct Errand {
    /// Before anything counts; its answers may come from anywhere.
    pub(super) warm: Requests,
    /// How many those are.
    pub(super) warm_count: usize,
    /// As fast as they are answered.
    pub(super) closed: Requests,
    /// At a constant rate.
    pub(super) open: Requests,
    /// Requests a second of the latter.
    pub(super) rate: f64,
    /// Where every answer must come from.
    pub(super) expect: Option<Told>,
    /// What the server's own cache may hold.
    pub(super) cache_bytes: u64,
}

/// One run of one server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    /// Answers over the CPU time of the server: all its threads, user and system.
    pub(super) requests_per_cpu_second: f64,
    pub(super) cpu_us_per_request: f64,
    /// CPU time of the server over wall time: 1.0 is one CPU.
    pub(super) utilisation: f64,
    pub(super) postgres_cpu_us_per_request: f64,
    pub(super) redis_cpu_us_per_request: f64,
    /// At the constant rate, from when each request was due.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU time a request at that rate.
    pub(super) cpu_us_per_request_at_rate: f64,
    /// Requests answered from each place, both loads.
    pub(super) told: std::collections::BTreeMap<Told, u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// Where the generator was late, or had no CPU left.
    pub(super) generator_limits: Vec<String>,
}

impl Side {
    /// Where it tells stories.
    pub(super) fn url(&self) -> String {
        format!("http://{}/api/v1/stories/generate", self.address)
    }

    /// The same taken apart.
    ///
    /// # Errors
    /// None for an address.
    pub(super) fn target(&self) -> Result<Target, String> {
        Target::parse(&self.url())
    }
}

impl Setup<'_> {
    /// Starts a side and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn serve(&self, side: &Side, cache_bytes: u64) -> Result<Server, String> {
        // One worker. On a machine that others use, Redis may take longer than a service would wait for it, and the
        // answer would come from another tier than the row's.
        let command = format!(
            "env PORT={} HOST={} WORKERS=1 PIN=never LOG_LEVEL=warning REDIS_TIMEOUT=2 CACHE_BYTES={cache_bytes} \
             'DATABASE_URL={}' 'REDIS_URL={}' {}",
            side.address.port(),
            side.address.ip(),
            self.backends.database_url(),
            self.backends.redis_url(),
            side.command
        );
        let server = Server::start(&command, side.address, self.args.server_cpu)?;
        let ready = Target::parse(&format!("http://{}/health/v2/ready", side.address))?;
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", ready.path, ready.authority).into_bytes();
        let begun = Instant::now();
        while !super::alike::ask(side.address, &request).is_ok_and(|heard| heard.status == 200) {
            if begun.elapsed() > READY_LIMIT {
                return Err(format!("{} is not ready after {} s", side.name, READY_LIMIT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Loads a side.
    ///
    /// # Errors
    /// Nothing could be measured.
    pub(super) fn load(
        &self,
        side: &Side,
        requests: Requests,
        expect: Option<Told>,
        rate: Option<f64>,
        seconds: f64,
    ) -> Result<Report, String> {
        load::measure(&Plan {
            address: side.address,
            requests,
            expect,
            head_request: false,
            connections: self.args.connections,
            threads: 1,
            duration_ns: (seconds * clock::SECOND_NS as f64) as u64,
            warmup_ns: 0,
            rate,
            connect_timeout_ns: TIMEOUT_NS,
            timeout_ns: TIMEOUT_NS,
            cpus: self.args.load_cpu.into_iter().collect(),
        })
    }

    /// Starts a side, warms it, and measures it under both loads.
    ///
    /// # Errors
    /// Nothing could be measured, or the warm-up went wrong: errors of the measured loads are counted.
    pub(super) fn run(&self, side: &Side, errand: Errand) -> Result<Run, String> {
        let server = self.serve(side, errand.cache_bytes)?;
        let warm = self.load(side, errand.warm, None, None, 600.0)?;
        if warm.error_count > 0 || warm.requests != errand.warm_count as u64 {
            let first = warm.errors.first.unwrap_or_default();
            return Err(format!(
                "{}: the warm-up went wrong: {} answers, {first}",
                side.name, warm.requests
            ));
        }
        std::thread::sleep(AFTERWARDS);
        let pids = [server.pid, self.backends.postgres_pid(), self.backends.redis_pid()];
        let read = || {
            pids.iter()
                .map(|&pid| CpuTimes::read(pid))
                .collect::<Result<Vec<_>, _>>()
        };
        let seconds = self.args.duration;
        let (before, start_ns) = (read()?, clock::now_ns());
        let closed = self.load(side, errand.closed, errand.expect, None, seconds)?;
        std::thread::sleep(AFTERWARDS);
        let between = read()?;
        let wall_ns = clock::now_ns().saturating_sub(start_ns);
        let open = self.load(side, errand.open, errand.expect, Some(errand.rate), seconds)?;
        std::thread::sleep(AFTERWARDS);
        let after = read()?;
        let used = |from: &[CpuTimes], to: &[CpuTimes], which: usize| match (from.get(which), to.get(which)) {
            (Some(from), Some(to)) => to.since(from) as f64,
            _ => 0.0,
        };
        let answers = closed.requests_with_warmup.max(1) as f64;
        let cpu_ns = used(&before, &between, 0);
        let mut told = closed.cache_statuses.clone();
        for (from, count) in &open.cache_statuses {
            *told.entry(*from).or_default() += count;
        }
        let mut generator_limits = open.generator_limits.clone();
        // A generator that shares its CPU with the databases is busy in the closed loop, and harms nothing there.
        generator_limits.retain(|limit| limit.contains("schedule"));
        Ok(Run {
            requests: closed.requests_with_warmup,
            requests_per_second: closed.requests_per_second,
            requests_per_cpu_second: answers * 1e9 / cpu_ns.max(1.0),
            cpu_us_per_request: cpu_ns / 1000.0 / answers,
            utilisation: cpu_ns / wall_ns.max(1) as f64,
            postgres_cpu_us_per_request: used(&before, &between, 1) / 1000.0 / answers,
            redis_cpu_us_per_request: used(&before, &between, 2) / 1000.0 / answers,
            p50_us: open.latency_us.p50,
            p99_us: open.latency_us.p99,
            cpu_us_per_request_at_rate: used(&between, &after, 0) / 1000.0 / open.requests_with_warmup.max(1) as f64,
            told,
            errors: closed.error_count.saturating_add(open.error_count),
            first_error: closed.errors.first.or(open.errors.first),
            generator_limits,
        })
    }
}
