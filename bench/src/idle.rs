//! `idle`: bytes of memory that a server keeps for an idle keep-alive connection.
//!
//! Opens many connections, asks once on each (so that every one has been used, as in production), waits, and reads the
//! server's memory before and after. Kernel memory of the sockets is not in a process' RSS and not counted.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::Serialize;

use crate::answer::Reader;
use crate::procfs::Memory;
use crate::server::Server;
use crate::target::{RequestArgs, Target};
use crate::{EXIT_FOUND_ERRORS, clock, open_files};

/// Connections from one loopback source address: well below the 28232 ports of the default ip_local_port_range.
const PER_SOURCE: usize = 10_000;
/// Descriptors that this process needs besides the connections.
const SPARE_FILES: u64 = 64;
/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Measure a server's memory per idle keep-alive connection
///
/// Opens the connections, sends one request on each and reads the answer, waits, and compares the server's resident
/// memory (exact, from smaps_rollup; the process and its descendants) with what it was after a short warm-up. Against
/// 127.0.0.1 the connections come from several loopback source addresses, so that ports do not run short. Exit code 1
/// where a connection failed or did not stay open.
#[derive(clap::Args)]
#[command(
    after_help = "Example: roadtrip-bench idle --url http://127.0.0.1:8080/health --server-cmd 'env PORT=8080 target/release/roadtrip-api serve'"
)]
pub(crate) struct Args {
    /// What to ask for, http:// only
    #[arg(long)]
    url: String,
    #[command(flatten)]
    request: RequestArgs,
    /// Command that starts the server; run by `sh -c "exec ..."`
    #[arg(long, required_unless_present = "pid", conflicts_with = "pid")]
    server_cmd: Option<String>,
    /// Process id of a running server
    #[arg(long)]
    pid: Option<u32>,
    /// CPU to pin a started server to
    #[arg(long)]
    server_cpu: Option<usize>,
    /// Connections to keep open
    #[arg(long, short = 'n', default_value_t = 8000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Connections opened, used and closed before the first reading, so that what a server sets up once is not counted
    #[arg(long, default_value_t = 64)]
    warmup_connections: u32,
    /// Seconds to wait before each reading
    #[arg(long, default_value_t = 2.0)]
    settle: f64,
    /// Exit with code 1 where a connection costs more bytes of RSS than this
    #[arg(long)]
    max_bytes: Option<f64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    connections: usize,
    /// Connections that the server had closed by the time of the reading.
    closed_by_server: usize,
    before: Memory,
    with_connections: Memory,
    after_close: Memory,
    rss_bytes_per_connection: f64,
    pss_bytes_per_connection: f64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let target = Target::parse(&args.url)?;
    let address = target.address()?;
    let request = target.request_bytes(&args.request)?;
    let settle = Duration::try_from_secs_f64(args.settle).map_err(|e| format!("--settle: {e}"))?;
    let wanted = args.connections as usize;
    // Before the server starts: a started server inherits the raised limit.
    open_files::allow(u64::from(args.connections).saturating_add(SPARE_FILES))?;
    let server = match (&args.server_cmd, args.pid) {
        (Some(command), _) => Server::start(command, address, args.server_cpu)?,
        (None, Some(pid)) => Server::running(pid, address)?,
        (None, None) => return Err("a server needs --server-cmd or --pid".to_owned()),
    };
    let cost = Cost::measure(&Question {
        pid: server.pid,
        address,
        request: &request,
        head: args.request.method == "HEAD",
        warmup: args.warmup_connections as usize,
        connections: wanted,
        settle,
    })?;
    eprintln!("{wanted} connections opened and used in {:.2} s", cost.opening_s);
    std::thread::sleep(settle);
    let report = Report {
        connections: wanted,
        closed_by_server: cost.closed_by_server,
        before: cost.before,
        with_connections: cost.with_connections,
        after_close: Memory::read(server.pid)?,
        rss_bytes_per_connection: cost.rss_per_connection(),
        pss_bytes_per_connection: cost.per(cost.before.pss, cost.with_connections.pss),
    };
    let closed_by_server = report.closed_by_server;
    crate::print_report(args.json, &report, text)?;
    let too_much = args.max_bytes.is_some_and(|max| report.rss_bytes_per_connection > max);
    Ok(if closed_by_server > 0 || too_much {
        ExitCode::from(EXIT_FOUND_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

/// What is asked of a server to learn what its idle connections cost.
pub(crate) struct Question<'q> {
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
    pub(crate) request: &'q [u8],
    /// The request is HEAD.
    pub(crate) head: bool,
    /// Connections opened, used and closed first.
    pub(crate) warmup: usize,
    pub(crate) connections: usize,
    /// Before each reading.
    pub(crate) settle: Duration,
}

/// What idle connections cost.
pub(crate) struct Cost {
    connections: usize,
    before: Memory,
    with_connections: Memory,
    /// Connections that the server had closed by the time of the second reading.
    pub(crate) closed_by_server: usize,
    /// Seconds that it took to open and use them.
    opening_s: f64,
}

impl Cost {
    /// Reads the server's memory before and with the connections, which are closed when this returns.
    ///
    /// # Errors
    /// A connection could not be opened or was not answered, or the server is gone.
    pub(crate) fn measure(question: &Question<'_>) -> Result<Self, String> {
        let ask = |count: usize| open_and_ask(question.address, question.request, count, question.head);
        drop(ask(question.warmup)?);
        std::thread::sleep(question.settle);
        let before = Memory::read(question.pid)?;
        let start_ns = clock::now_ns();
        let streams = ask(question.connections)?;
        let opening_s = (clock::now_ns() - start_ns) as f64 / 1e9;
        std::thread::sleep(question.settle);
        Ok(Self {
            connections: question.connections,
            before,
            with_connections: Memory::read(question.pid)?,
            closed_by_server: streams.iter().filter(|stream| !still_open(stream)).count(),
            opening_s,
        })
    }

    /// RSS bytes of one.
    pub(crate) fn rss_per_connection(&self) -> f64 {
        self.per(self.before.rss, self.with_connections.rss)
    }

    fn per(&self, before: u64, with: u64) -> f64 {
        (with as f64 - before as f64) / self.connections.max(1) as f64
    }
}

fn text(r: &Report) -> String {
    let row = |name: &str, m: &Memory| format!("{name:<22} RSS {:>9} KiB   PSS {:>9} KiB", m.rss / 1024, m.pss / 1024);
    let mut lines = vec![
        row("before", &r.before),
        row(&format!("{} connections", r.connections), &r.with_connections),
        row("after closing them", &r.after_close),
        format!(
            "bytes per idle connection: RSS {:.0}, PSS {:.0}",
            r.rss_bytes_per_connection, r.pss_bytes_per_connection
        ),
    ];
    if r.closed_by_server > 0 {
        lines.push(format!(
            "ERROR: the server had closed {} of them: raise its idle timeout or file limit",
            r.closed_by_server
        ));
    }
    lines.join("\n")
}

/// The second octet of the next round's sources. Closed connections keep their ports for a minute (TIME_WAIT), and a load of
/// short-lived ones leaves thousands of those at 127.0.0.1: each round has addresses of its own, other processes others.
fn next_round() -> u8 {
    static ROUND: AtomicU32 = AtomicU32::new(0);
    let round = ROUND.fetch_add(1, Ordering::Relaxed);
    let number = std::process::id().wrapping_mul(7).wrapping_add(round) % 250;
    u8::try_from(number).unwrap_or(0).saturating_add(1)
}

/// The source address of connection `index`: 127.ROUND.0.1, 127.ROUND.0.2 ... towards an IPv4 loopback, else the kernel's choice.
fn source(server: SocketAddr, round: u8, index: usize) -> Option<Ipv4Addr> {
    let IpAddr::V4(to) = server.ip() else { return None };
    let last = u8::try_from(index / PER_SOURCE).ok()?.checked_add(1)?;
    to.is_loopback().then_some(Ipv4Addr::new(127, round, 0, last))
}

fn connect(server: SocketAddr, round: u8, index: usize) -> std::io::Result<TcpStream> {
    let Some(source) = source(server, round, index) else {
        return TcpStream::connect_timeout(&server, ANSWER_LIMIT);
    };
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
    rustix::net::connect(&socket, &server)?;
    Ok(TcpStream::from(socket))
}

fn open_and_ask(server: SocketAddr, request: &[u8], count: usize, head: bool) -> Result<Vec<TcpStream>, String> {
    let mut streams = Vec::with_capacity(count);
    let mut chunk = vec![0; 16 * 1024];
    let round = next_round();
    for index in 0..count {
        let mut one = || -> std::io::Result<TcpStream> {
            let mut stream = connect(server, round, index)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            stream.write_all(request)?;
            let mut reader = Reader::new(head);
            loop {
                let n = stream.read(&mut chunk)?;
                if n == 0 {
                    return Err(std::io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "closed before the answer was whole",
                    ));
                }
                match reader.feed(chunk.get(..n).unwrap_or_default()) {
                    Ok(None) => {}
                    Ok(Some(a)) if (200..300).contains(&a.status) && !a.close => return Ok(stream),
                    Ok(Some(a)) if a.close => return Err(std::io::Error::other("the answer closes the connection")),
                    Ok(Some(a)) => return Err(std::io::Error::other(format!("status {}", a.status))),
                    Err(e) => return Err(std::io::Error::other(e.to_string())),
                }
            }
        };
        let stream = one().map_err(|e| format!("connection {} of {count} to {server}: {e}", index + 1))?;
        streams.push(stream);
    }
    Ok(streams)
}

/// The server has neither closed the connection nor said anything unasked.
fn still_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).is_ok() && stream.peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_change_before_ports_run_short() {
        let loopback = "127.0.0.1:80".parse().unwrap();
        assert_eq!(source(loopback, 9, 0), Some(Ipv4Addr::new(127, 9, 0, 1)));
        assert_eq!(source(loopback, 9, 9_999), Some(Ipv4Addr::new(127, 9, 0, 1)));
        assert_eq!(source(loopback, 9, 10_000), Some(Ipv4Addr::new(127, 9, 0, 2)));
        assert_eq!(source("192.0.2.1:80".parse().unwrap(), 9, 0), None);
        assert_eq!(source("[::1]:80".parse().unwrap(), 9, 20_000), None);
        let rounds: std::collections::BTreeSet<u8> = (0..250).map(|_| next_round()).collect();
        assert!(rounds.len() == 250 && !rounds.contains(&0) && !rounds.contains(&255));
    }

    #[test]
    fn a_closed_connection_is_noticed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connect(listener.local_addr().unwrap(), 9, 0).unwrap();
        let (server_side, _) = listener.accept().unwrap();
        assert!(still_open(&stream));
        drop(server_side);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!still_open(&stream));
    }
}
