//! `churn` and `slow`: connections that come and go all the time, and clients that take their time on purpose; both
//! beside clients that do neither.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::report::{State, Step};
use super::stage::{Judge, Running, Spec, Stage, beside, words};
use crate::{clock, open_files};

/// The guide's bound: slow and short-lived neighbours are no excuse.
const BOUND: &str = "p99>200ms";
/// Requests a second of the clients that behave.
const FAST_RATE: &str = "1000";
/// How often a slow client does a little.
const TRICKLE: Duration = Duration::from_millis(500);
/// Descriptors that a server may have more than before all connections came: log files, probes under way.
const DESCRIPTORS_SPARE: f64 = 8.0;

fn fast<'s>(stage: &Stage, running: &Running, name: &'s str, what: &'s str) -> Spec<'s> {
    let mut all = stage.cached_story(running);
    all.extend(words(&["-c", "16", "--rate", FAST_RATE]));
    Spec {
        name,
        what,
        words: all,
        fail_if: &[BOUND, "errors>0"],
        judge: Judge::Latency,
        seconds: None,
    }
}

fn descriptors(pid: u32) -> f64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0.0, |all| all.count() as f64)
}

pub(super) fn churn(stage: &Stage) -> Result<Vec<Step>, String> {
    let running = stage.serve(&[])?;
    running.prime()?;
    let before = descriptors(running.server.pid);
    let live = running.url("/health/v2/live");
    let rates: &[&str] = if stage.quick {
        &["500"]
    } else {
        &["500", "1000", "2000"]
    };
    let mut steps = Vec::new();
    for rate in rates {
        let what = format!("{rate} connections a second, each for one request");
        let all = words(&["--url", &live, "--short-lived", "-c", "64", "--rate", rate]);
        let name = format!("new-{rate}");
        let mut step = stage.step(
            "churn",
            &running,
            &Spec {
                name: &name,
                what: &what,
                words: all,
                fail_if: &[BOUND, "errors>0"],
                judge: Judge::Latency,
                seconds: None,
            },
        );
        // What was closed is gone a moment later.
        let begun = Instant::now();
        let mut left = descriptors(running.server.pid) - before;
        while left > DESCRIPTORS_SPARE && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(50));
            left = descriptors(running.server.pid) - before;
        }
        step.check("descriptors_left>8", left, left > DESCRIPTORS_SPARE);
        steps.push(step);
    }
    Ok(steps)
}

/// What a slow client does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slow {
    /// Sends its head byte by byte.
    Head,
    /// Sends its body byte by byte.
    Body,
    /// Asks for much, and takes a few bytes at a time.
    Reader,
}

impl Slow {
    fn begin(self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        match self {
            Self::Head => stream.write_all(b"GET /health HTTP/1.1\r\nHost: bench\r\nX-Slow: ")?,
            Self::Body => stream.write_all(
                b"POST /api/v1/stories/generate HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
                  Content-Length: 60000\r\n\r\n{",
            )?,
            Self::Reader => {
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096)?;
                let request = b"GET /openapi.json HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: identity\r\n\r\n";
                stream.write_all(&request.repeat(8))?;
            }
        }
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// A little more; false where the server has closed.
    fn trickle(self, stream: &mut TcpStream) -> bool {
        let blocked = |e: std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock;
        let mut some = [0; 32];
        if self == Self::Reader {
            return match stream.read(&mut some) {
                Ok(count) => count > 0,
                Err(e) => blocked(e),
            };
        }
        // An answer (408) is the server's way to say that it has seen enough.
        let is_open = match stream.read(&mut some) {
            Ok(_) => false,
            Err(e) => blocked(e),
        };
        is_open && stream.write(b" ").map_or_else(blocked, |_| true)
    }
}

/// Opens so many, and keeps them slow until it is over; how many were opened and how many the server closed.
fn keep_slow(
    slow: Slow,
    address: SocketAddr,
    count: usize,
    cpu: Option<usize>,
    is_over: &AtomicBool,
) -> (usize, usize) {
    if let Some(cpu) = cpu {
        // Unpinned it would disturb the server, and say nothing else.
        let _ = clock::pin_to(cpu);
    }
    let (mut open, mut opened, mut closed) = (Vec::new(), 0_usize, 0_usize);
    while !is_over.load(Ordering::Acquire) {
        // Who was cut off comes back, as an attacker does.
        let mut refused = false;
        while open.len() < count && !refused && !is_over.load(Ordering::Acquire) {
            match slow.begin(address) {
                Ok(stream) => {
                    open.push(stream);
                    opened = opened.saturating_add(1);
                }
                Err(_) => refused = true,
            }
        }
        let before = open.len();
        open.retain_mut(|stream| slow.trickle(stream));
        closed = closed.saturating_add(before.saturating_sub(open.len()));
        std::thread::sleep(TRICKLE);
    }
    (opened, closed)
}

pub(super) fn slow(stage: &Stage) -> Result<Vec<Step>, String> {
    let count = if stage.quick { 300 } else { 4000 };
    open_files::allow(count as u64 + 256)?;
    let running = stage.serve(&[("CONNECTIONS_PER_ADDRESS", "0")])?;
    running.prime()?;
    let mut steps = vec![stage.step(
        "slow",
        &running,
        &fast(stage, &running, "alone", "1000 cached stories a second, nobody else"),
    )];
    for (name, what, slow) in [
        ("heads", "beside clients that send their heads byte by byte", Slow::Head),
        (
            "bodies",
            "beside clients that send their bodies byte by byte",
            Slow::Body,
        ),
        (
            "readers",
            "beside clients that read their answers 32 bytes at a time",
            Slow::Reader,
        ),
    ] {
        let (address, cpu) = (running.address, stage.load_cpu);
        let (mut step, (opened, closed)) = beside(
            |is_over| keep_slow(slow, address, count, cpu, is_over),
            || {
                // Until most of them are there.
                std::thread::sleep(Duration::from_millis(if stage.quick { 300 } else { 2000 }));
                stage.step("slow", &running, &fast(stage, &running, name, what))
            },
        )?;
        step.figures.insert("slow_connections".to_owned(), opened as f64);
        step.figures.insert("cut_off".to_owned(), closed as f64);
        if opened < count {
            step.state = State::Broken;
            step.reasons
                .push(format!("{opened} of {count} slow clients could connect"));
        }
        steps.push(step);
    }
    Ok(steps)
}
