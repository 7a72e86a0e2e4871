//! One of two servers, started anew for each run, and measured.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::answers::{self, Answer, Answers};
use crate::group::Group;
use crate::load::{self, Plan, Report, Requests};
use crate::procfs::CpuTimes;
use crate::server::Server;
use crate::target::Target;
use crate::told::quoted;
use crate::{clock, idle};

/// Nanoseconds that an answer may take, or a connection.
const TIMEOUT_NS: u64 = 10_000_000_000;
/// How long a server may take from listening until it answers alike.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long the socket of an ended server may take to go away.
const QUIET_LIMIT: Duration = Duration::from_secs(20);
/// Seconds of load before anything counts.
const WARM_SECONDS: f64 = 0.3;
/// Connections opened, used and closed before memory is read.
const IDLE_WARMUP: usize = 64;
/// Before memory is read.
const IDLE_SETTLE: Duration = Duration::from_millis(300);

/// How each run is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) seconds_closed: f64,
    pub(super) seconds_open: f64,
    pub(super) connections: u32,
    pub(super) idle_connections: u32,
    pub(super) server_cpu: Option<usize>,
    pub(super) load_cpu: Option<usize>,
    /// CPUs that a server gets in the closed loop; `None`: all of its own.
    pub(super) share: Option<f64>,
}

/// A server under measurement.
pub(super) struct Side {
    pub(super) name: String,
    /// With `{port}` and `{scenario}` in place of what each start fills in.
    pub(super) command: String,
    pub(super) address: SocketAddr,
    environment: String,
    /// Where its share of a CPU is kept to.
    group: Option<Rc<Group>>,
}

/// One run of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) requests: u64,
    /// Answers over the CPU time of the server in the closed loop: all its threads and processes, user and system.
    pub(crate) requests_per_cpu_second: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) utilisation: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) cpu_us_per_request_at_rate: f64,
    pub(crate) requests_at_rate: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) generator_limits: Vec<String>,
}

/// A server that runs, what it is asked, and how long its answer is.
struct Running {
    server: Server,
    target: Target,
    request: Vec<u8>,
}

impl Side {
    /// A server of this command, on a port of its own, with its files in `folder`, in this control group.
    ///
    /// # Errors
    /// No port is free.
    pub(super) fn new(name: &str, command: String, folder: &Path, group: Option<Rc<Group>>) -> Result<Self, String> {
        let address = free_address()?;
        Ok(Self {
            environment: format!(
                "env PORT={} HOST={} WORKERS=1 PIN=never LOG_LEVEL=warning DATA_DIR={} PEER_ANSWERS={}",
                address.port(),
                address.ip(),
                quoted(&folder.join("store")),
                quoted(folder)
            ),
            name: name.to_owned(),
            command,
            address,
            group,
        })
    }

    /// The command of a scenario, filled in.
    pub(super) fn command_of(&self, scenario: Scenario) -> String {
        self.command
            .replace("{port}", &self.address.port().to_string())
            .replace("{scenario}", scenario.name())
    }

    /// Starts it and waits until it answers; and alike, where it is known how.
    fn start(&self, scenario: Scenario, method: &str, way: &Way, like: Option<&Answers>) -> Result<Running, String> {
        self.until_quiet();
        let into = self.group.as_ref().map(|group| group.words()).unwrap_or_default();
        let before = format!("{into} {}", self.environment);
        let command = format!("{before} {}", self.command_of(scenario));
        self.limit(None)?;
        let server = Server::start(command.trim_start(), self.address, way.server_cpu)
            .map_err(|why| why.replace(&format!("{} ", before.trim_start()), ""))?;
        let target = Target::parse(&format!("http://{}{}", self.address, scenario.path()))?;
        let wish = answers::request(scenario, method);
        let begun = Instant::now();
        loop {
            let heard = answers::ask(&target, &wish)
                .and_then(|answer| like.map_or(Ok(()), |answers| answers.alike(scenario, &answer)));
            match heard {
                Ok(()) => break,
                Err(why) if begun.elapsed() > READY_LIMIT => return Err(why),
                // A worker may boot behind a socket that listens already; a difference does not go away.
                Err(why) if why.contains("not the same") => return Err(why),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(Running {
            request: target.request_bytes(&wish)?,
            server,
            target,
        })
    }

    /// Lets it have so many CPUs.
    fn limit(&self, share: Option<f64>) -> Result<(), String> {
        self.group.as_ref().map_or(Ok(()), |group| group.limit(share))
    }

    /// Waits until nobody listens here any more. A ring outlives its process by what the kernel needs to take it down,
    /// and an accept that was armed on it keeps the socket as long. Whoever stays is told of by [`Server::start`].
    fn until_quiet(&self) {
        let begun = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_millis(500)).is_ok()
            && begun.elapsed() < QUIET_LIMIT
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One answer for each request that `Answers` is made of.
    ///
    /// # Errors
    /// It does not start or does not answer.
    pub(super) fn ask(&self, scenario: Scenario, method: &str, way: &Way) -> Result<Answer, String> {
        let running = self.start(scenario, method, way, None)?;
        answers::ask(&running.target, &answers::request(scenario, method))
    }

    /// Whether it answers alike; how long its answer is.
    ///
    /// # Errors
    /// It does not; the difference.
    pub(super) fn check(&self, scenario: Scenario, method: &str, way: &Way, like: &Answers) -> Result<u64, String> {
        let running = self.start(scenario, method, way, Some(like))?;
        let answer = answers::ask(&running.target, &answers::request(scenario, method))?;
        Ok(answer.bytes.len() as u64)
    }

    /// Starts it, warms it, and measures it in the closed loop and at the rate.
    ///
    /// # Errors
    /// Nothing could be measured. Errors of requests are counted.
    pub(super) fn run(
        &self,
        scenario: Scenario,
        method: &str,
        rate: f64,
        way: &Way,
        like: &Answers,
    ) -> Result<Run, String> {
        let running = self.start(scenario, method, way, Some(like))?;
        let load = |seconds: f64, rate: Option<f64>| running.load(way, seconds, rate);
        load(WARM_SECONDS, None)?;
        self.limit(way.share)?;
        let pid = running.server.pid;
        let (before, start_ns) = (CpuTimes::read(pid)?, clock::now_ns());
        let closed = load(way.seconds_closed, None)?;
        let between = CpuTimes::read(pid)?;
        let wall_ns = clock::now_ns().saturating_sub(start_ns);
        self.limit(None)?;
        let open = load(way.seconds_open, Some(rate))?;
        let after = CpuTimes::read(pid)?;
        if closed.requests_with_warmup == 0 || open.requests_with_warmup == 0 {
            let first = closed.errors.first.or(open.errors.first).unwrap_or_default();
            return Err(format!("{} answered nothing: {first}", self.name));
        }
        let (answers, cpu_ns) = (closed.requests_with_warmup as f64, between.since(&before) as f64);
        let mut generator_limits = open.generator_limits.clone();
        // In the closed loop the generator is as busy as it can be, and that harms nothing but throughput.
        generator_limits.retain(|limit| limit.contains("schedule"));
        Ok(Run {
            requests: closed.requests_with_warmup,
            requests_per_cpu_second: answers * 1e9 / cpu_ns.max(1.0),
            cpu_us_per_request: cpu_ns / 1000.0 / answers,
            requests_per_second: closed.requests_per_second,
            utilisation: cpu_ns / wall_ns.max(1) as f64 / way.share.unwrap_or(1.0),
            p50_us: open.latency_us.p50,
            p99_us: open.latency_us.p99,
            cpu_us_per_request_at_rate: after.since(&between) as f64 / 1000.0 / open.requests_with_warmup as f64,
            requests_at_rate: open.requests_with_warmup,
            errors: closed.error_count.saturating_add(open.error_count),
            first_error: closed.errors.first.or(open.errors.first),
            generator_limits,
        })
    }

    /// RSS bytes of an idle connection that has asked for the probe once.
    ///
    /// # Errors
    /// A connection was not answered.
    pub(super) fn idle(&self, way: &Way, like: &Answers) -> Result<f64, String> {
        let running = self.start(Scenario::Live, "GET", way, Some(like))?;
        // What is set up once, such as the pages of a ring of buffers, is not what a connection costs.
        running.load(way, WARM_SECONDS, None)?;
        let wanted = way.idle_connections as usize;
        let cost = idle::Cost::measure(&idle::Question {
            pid: running.server.pid,
            address: self.address,
            request: &running.request,
            head: false,
            warmup: IDLE_WARMUP,
            connections: wanted,
            settle: IDLE_SETTLE,
        })?;
        match cost.closed_by_server {
            0 => Ok(cost.rss_per_connection()),
            closed => Err(format!("{} closed {closed} of {wanted} idle connections", self.name)),
        }
    }
}

impl Running {
    fn load(&self, way: &Way, seconds: f64, rate: Option<f64>) -> Result<Report, String> {
        load::measure(&Plan {
            address: self.target.address()?,
            requests: Requests::same(self.request.clone()),
            expect: None,
            head_request: false,
            connections: way.connections,
            threads: 1,
            duration_ns: (seconds * clock::SECOND_NS as f64) as u64,
            warmup_ns: 0,
            rate,
            connect_timeout_ns: TIMEOUT_NS,
            timeout_ns: TIMEOUT_NS,
            cpus: way.load_cpu.into_iter().collect(),
        })
    }
}

/// An address of loopback where nobody listens at the moment, and that is not given out: below the ports that the
/// kernel takes for clients, of which there are thousands here, and whose remains would keep a server off its own port.
///
/// # Errors
/// All ports tried are taken.
pub(super) fn free_address() -> Result<SocketAddr, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
    // Above the ports of well-known services; where the kernel's own begin as low as that, among them.
    let above = 10_000;
    let room = first.unwrap_or(32_768_u16).saturating_sub(above).max(1000);
    // Two runs at a time begin at different places.
    let begin = std::process::id().wrapping_mul(37) % u32::from(room);
    (0..room)
        .find_map(|_| {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = above.saturating_add(u16::try_from((begin + step) % u32::from(room)).unwrap_or(0));
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?.local_addr().ok()
        })
        .ok_or_else(|| format!("no port from {above} to {} is free", above.saturating_add(room)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_each_is_another() {
        let found: Vec<_> = (0..20).map(|_| free_address().unwrap()).collect();
        let held: Vec<_> = found
            .iter()
            .map(|address| TcpListener::bind(address).unwrap())
            .collect();
        assert!(found.iter().all(|address| address.port() >= 10_000));
        assert!(!found.contains(&free_address().unwrap()));
        drop(held);
    }

    #[test]
    fn commands_are_filled_in() {
        let side = Side::new(
            "x",
            "run --port {port} {scenario}.answer".to_owned(),
            Path::new("/f"),
            None,
        )
        .unwrap();
        let expected = format!("run --port {} story.answer", side.address.port());
        assert_eq!(side.command_of(Scenario::Story), expected);
    }
}
