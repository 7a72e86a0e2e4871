//! What the kernel and the server itself say of the server, over a run: CPU, switches, memory, and how the requests
//! spread over its workers.
//!
//! Reading costs the server nothing but one scrape before and one after the load; counting system calls does (see
//! [`syscalls`]), and is done only where asked for.

mod process;
mod syscalls;
mod workers;

use std::net::SocketAddr;

use serde::Serialize;

use crate::clock::now_ns;
use crate::procfs::{CpuTimes, Memory};
use process::Threads;
pub(crate) use syscalls::Tool;
use syscalls::{Counter, Syscalls};
use workers::Worker;

/// Fewer connections than this, and a page more or less says nothing of one.
const CONNECTIONS_MIN: u32 = 100;
/// Threads told of one by one.
const THREADS_TOLD_MAX: usize = 64;

/// Memory at three moments.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Memories {
    pub(crate) before: Memory,
    connected: Option<Memory>,
    pub(crate) after: Memory,
}

#[derive(Clone, Debug, Serialize)]
struct ThreadCost {
    tid: u32,
    name: String,
    cpu_seconds: f64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

/// The server's side of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Accounts {
    pid: u32,
    command: String,
    threads: usize,
    wall_seconds: f64,
    pub(crate) cpu_us_per_request: f64,
    user_us_per_request: f64,
    system_us_per_request: f64,
    pub(crate) cpu_utilisation: f64,
    voluntary_switches_per_request: f64,
    involuntary_switches_per_request: f64,
    pub(crate) memory: Memories,
    bytes_per_connection: Option<f64>,
    per_thread: Vec<ThreadCost>,
    workers: Vec<Worker>,
    pub(crate) worker_imbalance: Option<f64>,
    syscalls: Option<Syscalls>,
}

/// Readings under way.
pub(crate) struct Accountant {
    pid: u32,
    address: SocketAddr,
    tool: Option<Tool>,
    before: Memory,
    connected: Option<Memory>,
    start: Option<Start>,
    end: Option<End>,
}

struct Start {
    at_ns: u64,
    cpu: CpuTimes,
    threads: Threads,
    workers: Vec<(String, u64)>,
    counter: Option<Counter>,
}

struct End {
    at_ns: u64,
    cpu: CpuTimes,
    threads: Threads,
    memory: Memory,
    workers: Vec<(String, u64)>,
    syscalls: Option<Result<Vec<syscalls::Call>, String>>,
}

impl Accountant {
    /// Of process `pid`; without a number, of the one that listens at `address`.
    ///
    /// # Errors
    /// No such process, none that listens there, or somebody else's.
    pub(crate) fn new(pid: Option<u32>, address: SocketAddr, tool: Option<Tool>) -> Result<Self, String> {
        let pid = match pid {
            Some(pid) => pid,
            None => process::listener(address)
                .ok_or_else(|| format!("cannot find the process that listens on {address}: give its --server-pid"))?,
        };
        Ok(Self {
            pid,
            address,
            tool,
            before: Memory::read(pid)?,
            connected: None,
            start: None,
            end: None,
        })
    }

    /// Connections are open and unused.
    ///
    /// # Errors
    /// The process is gone, or system calls cannot be counted.
    pub(crate) fn connected(&mut self) -> Result<(), String> {
        self.connected = Some(Memory::read(self.pid)?);
        let workers = workers::scrape(self.address).unwrap_or_default();
        let counter = self.tool.map(|tool| Counter::start(tool, self.pid)).transpose()?;
        self.start = Some(Start {
            at_ns: now_ns(),
            cpu: CpuTimes::read(self.pid)?,
            threads: Threads::read(self.pid),
            workers,
            counter,
        });
        Ok(())
    }

    /// Everything is answered; connections are still open.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn answered(&mut self) -> Result<(), String> {
        let (at_ns, cpu, threads) = (now_ns(), CpuTimes::read(self.pid)?, Threads::read(self.pid));
        let counter = self.start.as_mut().and_then(|start| start.counter.take());
        let syscalls = counter.map(Counter::finish);
        self.end = Some(End {
            at_ns,
            cpu,
            threads,
            memory: Memory::read(self.pid)?,
            workers: workers::scrape(self.address).unwrap_or_default(),
            syscalls,
        });
        Ok(())
    }

    /// The accounts, for so many requests and connections.
    ///
    /// # Errors
    /// The run ended before it began, or the counts of system calls could not be read.
    pub(crate) fn accounts(self, requests: u64, connections: u32, kept_open: bool) -> Result<Accounts, String> {
        let (Some(start), Some(end)) = (self.start, self.end) else {
            return Err("the run was over before the server could be looked at".to_owned());
        };
        let each = |sum: f64| sum / requests.max(1) as f64;
        let wall = end.at_ns.saturating_sub(start.at_ns).max(1) as f64 / 1e9;
        let cpu_us = end.cpu.since(&start.cpu) as f64 / 1000.0;
        let used = end.threads.since(&start.threads);
        let user_share = used.user_share();
        let opened = self.connected.filter(|_| kept_open && connections >= CONNECTIONS_MIN);
        let workers = workers::spread(&start.workers, &end.workers);
        let syscalls = match end.syscalls {
            None => None,
            Some(calls) => self
                .tool
                .map(|tool| Ok::<_, String>(Syscalls::new(tool, calls?, requests)))
                .transpose()?,
        };
        Ok(Accounts {
            pid: self.pid,
            command: process::command(self.pid),
            threads: used.count(),
            wall_seconds: wall,
            cpu_us_per_request: each(cpu_us),
            user_us_per_request: each(cpu_us * user_share),
            system_us_per_request: each(cpu_us * (1.0 - user_share)),
            cpu_utilisation: cpu_us / 1e6 / wall,
            voluntary_switches_per_request: each(used.voluntary() as f64),
            involuntary_switches_per_request: each(used.involuntary() as f64),
            memory: Memories {
                before: self.before,
                connected: self.connected,
                after: end.memory,
            },
            bytes_per_connection: opened
                .map(|opened| (opened.rss as f64 - self.before.rss as f64) / f64::from(connections)),
            per_thread: used.costs(&end.cpu, &start.cpu, THREADS_TOLD_MAX),
            worker_imbalance: workers::imbalance(&workers),
            workers,
            syscalls,
        })
    }
}

impl Accounts {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut lines = vec![
            format!(
                "server {:<6} {:.2} us CPU a request ({:.2} user, {:.2} system), {:.2} CPUs in use",
                self.pid,
                self.cpu_us_per_request,
                self.user_us_per_request,
                self.system_us_per_request,
                self.cpu_utilisation
            ),
            format!(
                "switches      {:.4} voluntary, {:.4} involuntary a request; {} threads",
                self.voluntary_switches_per_request, self.involuntary_switches_per_request, self.threads
            ),
            format!(
                "memory        RSS {:.1} MiB before, {:.1} connected, {:.1} after{}",
                mib(self.memory.before.rss),
                self.memory.connected.map_or(0.0, |m| mib(m.rss)),
                mib(self.memory.after.rss),
                self.bytes_per_connection
                    .map_or(String::new(), |b| format!("; {b:.0} bytes per open connection"))
            ),
        ];
        if !self.workers.is_empty() {
            let shares: Vec<String> = self
                .workers
                .iter()
                .map(|w| format!("{}: {} ({:.1} %)", w.worker_id, w.requests, w.share * 100.0))
                .collect();
            lines.push(format!("workers       {}", shares.join(", ")));
        }
        if let Some(syscalls) = &self.syscalls {
            lines.push(syscalls.text());
        }
        lines.join("\n")
    }
}
