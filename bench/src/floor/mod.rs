//! `floor`: the raw io_uring server that every CPU budget is a ratio against.
//!
//! It reads nothing of what it receives: each received buffer is answered with the same fixed bytes. That is right
//! for clients that send one small request and wait for its answer (`wrk` without pipelining, `roadtrip-bench load`),
//! and wrong for any other. What it costs is what the kernel's TCP path and io_uring cost, and nothing else.

mod ring;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::target::{RequestArgs, Target};
use crate::{answer, clock};

/// Queue of connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Shortest answer that `--answer-bytes` can make: its head, with an empty body.
const ANSWER_BYTES_MIN: usize = 38;
/// Longest: above it one send would no longer fit a socket buffer, and the floor would measure something else.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Answer fixed bytes, unparsed, from one io_uring thread: the floor that CPU budgets are ratios against
///
/// One thread; SINGLE_ISSUER and DEFER_TASKRUN; multishot accept and recv; a provided buffer ring; registered files;
/// sends that post no completion. One answer for each received buffer: drive it with clients that neither pipeline
/// nor send requests longer than 4096 bytes. Prints "listening on ADDRESS" and runs until it is ended.
#[derive(clap::Args)]
#[command(
    after_help = "Example: roadtrip-bench floor --cpu 0 --port 9000 & taskset -c 1 wrk -t1 -c64 -d5 http://127.0.0.1:9000/"
)]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// CPU to pin the thread to; without it the thread runs where it may
    #[arg(long)]
    cpu: Option<usize>,
    /// Answer as long as the one to GET /health/v2/live, head included
    #[arg(long, value_enum, default_value = "health", conflicts_with_all = ["answer_bytes", "answer_like", "answer_file"])]
    answer: Kind,
    /// Answer of exactly this many bytes, head included
    #[arg(long, value_name = "N", conflicts_with = "answer_like")]
    answer_bytes: Option<usize>,
    /// Ask this URL once at start, and answer with the bytes that came: equally long by construction
    #[arg(long, value_name = "URL")]
    answer_like: Option<String>,
    /// Answer with the bytes of this file, head and body
    #[arg(long, value_name = "FILE", conflicts_with_all = ["answer_bytes", "answer_like"])]
    answer_file: Option<std::path::PathBuf>,
    #[command(flatten)]
    request: RequestArgs,
    /// Connections that may be open at once
    #[arg(long, default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// The liveness answer.
    Health,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let answer = match (&args.answer_file, &args.answer_like, args.answer_bytes, args.answer) {
        (Some(path), ..) => std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?,
        (None, Some(url), ..) => fetch(&Target::parse(url)?, &args.request)?,
        (None, None, Some(n), _) => filler(n)?,
        (None, None, None, Kind::Health) => health(),
    };
    if let Some(cpu) = args.cpu {
        clock::pin_to(cpu)?;
    }
    let (listener, address) = listen(SocketAddr::new(args.host, args.port))?;
    let floor = ring::Floor::new(listener, answer.clone(), args.connections)?;
    println!("listening on {address}");
    println!("answering {} bytes", answer.len());
    let _ = std::io::stdout().flush();
    floor.serve()
}

/// The liveness answer in the shape the service gives it: `worker_id` and `timestamp` of their usual lengths. Where
/// equal length to the byte matters, `--answer-like` asks the service itself.
fn health() -> Vec<u8> {
    let body = br#"{"status":"alive","worker_id":"0","timestamp":"2026-01-01T00:00:00.000Z"}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         x-request-id: 00000000-0000-7000-8000-000000000000\r\nx-worker-id: 0\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A sound answer of exactly `total` bytes.
fn filler(total: usize) -> Result<Vec<u8>, String> {
    if !(ANSWER_BYTES_MIN..=ANSWER_BYTES_MAX).contains(&total) {
        return Err(format!(
            "--answer-bytes takes {ANSWER_BYTES_MIN} to {ANSWER_BYTES_MAX}, not {total}"
        ));
    }
    // The length of the head depends on the digits of the body's length; leading zeros (allowed by RFC 9110 section
    // 8.6: 1*DIGIT) fill the one total in ten that no plain number reaches.
    for digits in 1..=7 {
        let head_len = ANSWER_BYTES_MIN - 1 + digits;
        let Some(body_len) = total.checked_sub(head_len) else {
            break;
        };
        if body_len.to_string().len() <= digits {
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_len:0digits$}\r\n\r\n").into_bytes();
            answer.resize(total, b'x');
            return Ok(answer);
        }
    }
    Err(format!("no answer of {total} bytes"))
}

/// One answer of a running server, head and body.
///
/// # Errors
/// It does not answer, or without success, or too much.
pub(crate) fn fetch(target: &Target, request: &RequestArgs) -> Result<Vec<u8>, String> {
    let say = |e: std::io::Error| format!("cannot ask {} for the answer to imitate: {e}", target.authority);
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&target.address()?, limit).map_err(say)?;
    stream.set_read_timeout(Some(limit)).map_err(say)?;
    stream.write_all(&target.request_bytes(request)?).map_err(say)?;
    let mut reader = answer::Reader::new(request.method == "HEAD");
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut chunk).map_err(say)?;
        let came = chunk.get(..n).unwrap_or_default();
        bytes.extend_from_slice(came);
        if n == 0 || bytes.len() > ANSWER_BYTES_MAX {
            return Err(format!(
                "{} gave no whole answer of at most {ANSWER_BYTES_MAX} bytes",
                target.authority
            ));
        }
        match reader.feed(came).map_err(|e| e.to_string())? {
            Some(answer) if (200..300).contains(&answer.status) => return Ok(bytes),
            Some(answer) => {
                return Err(format!(
                    "{} answered {}: nothing to imitate",
                    target.authority, answer.status
                ));
            }
            None => {}
        }
    }
}

/// A listener with SO_REUSEPORT and TCP_NODELAY; accepted sockets inherit the latter, which saves a call for each.
fn listen(address: SocketAddr) -> Result<(OwnedFd, SocketAddr), String> {
    let open = || -> rustix::io::Result<(OwnedFd, SocketAddr)> {
        let family = if address.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, BACKLOG)?;
        let bound = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
        Ok((fd, bound))
    };
    open().map_err(|e| format!("cannot listen on {address}: {e}; is another server on that port?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_met_to_the_byte_and_is_sound_http() {
        for n in (ANSWER_BYTES_MIN..2500).chain([9_999, 10_038, 10_047, 100_048, 1_000_050, ANSWER_BYTES_MAX]) {
            let bytes = filler(n).unwrap();
            assert_eq!(bytes.len(), n);
            assert_eq!(
                answer::Reader::new(false).feed(&bytes).unwrap().map(|a| a.status),
                Some(200),
                "{n}"
            );
        }
        assert!(filler(ANSWER_BYTES_MIN - 1).is_err());
        assert!(filler(ANSWER_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn the_health_answer_is_one_whole_answer() {
        assert_eq!(
            answer::Reader::new(false).feed(&health()).unwrap().map(|a| a.status),
            Some(200)
        );
    }

    #[test]
    fn a_taken_address_is_refused_with_its_name() {
        let why = listen("192.0.2.1:9".parse().unwrap()).unwrap_err();
        assert!(why.contains("192.0.2.1:9"), "{why}");
        let (_fd, address) = listen("[::1]:0".parse().unwrap()).unwrap();
        assert_ne!(address.port(), 0);
    }
}
