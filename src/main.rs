//! Command line -> configuration -> one subcommand.

use clap::{Parser, Subcommand};
use roadtrip_api::config::{self, Config};
use roadtrip_api::{routes, supervisor, telemetry, tls};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The AI Road Trip Storyteller API: true stories about places, over HTTP.
///
/// Settings come from the environment; `roadtrip-api help serve` lists every variable.
#[derive(Parser)]
#[command(name = "roadtrip-api", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM (the default).
    #[command(after_help = config::help_text())]
    Serve,
    /// Reads the environment, says what would hold and how workers would be laid out, and ends: 0 if all is well.
    Check,
    /// Prints the API description (OpenAPI, JSON).
    Openapi,
    /// Asks a running server on this machine whether it is ready: exit code 0 or 1. For a container's HEALTHCHECK.
    Healthcheck {
        /// What to ask.
        #[arg(long, default_value = "/health/v2/ready")]
        path: String,
        /// Seconds to wait.
        #[arg(long, default_value_t = 2)]
        timeout: u64,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve(),
        Command::Check => check(),
        Command::Openapi => {
            print(routes::OPENAPI);
            ExitCode::SUCCESS
        }
        Command::Healthcheck { path, timeout } => healthcheck(&path, Duration::from_secs(timeout.clamp(1, 60))),
    }
}

/// To stdout; a reader that has gone away is no error.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// To stderr.
fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "roadtrip-api: {text}");
}

fn serve() -> ExitCode {
    // The allocator asks for huge pages, and each holds 2 MiB for what may be a few objects: with 8000 idle connections
    // that made 1300 B a connection out of 430 B, and doubled the process. Refused (an old kernel, a sandbox), it only
    // costs memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(errors) => {
            complain(errors);
            return ExitCode::from(78); // EX_CONFIG
        }
    };
    let guard = match telemetry::logging::init(config.log) {
        Ok(guard) => guard,
        Err(error) => {
            complain(error);
            return ExitCode::from(71); // EX_OSERR
        }
    };
    let ended = supervisor::serve(config, guard.counters());
    // What is queued is written before the process ends.
    drop(guard);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::from(69) // EX_UNAVAILABLE
        }
    }
}

fn check() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(errors) => {
            complain(errors);
            return ExitCode::from(78);
        }
    };
    for setting in &config.settings {
        print(&format!("{}={}", setting.variable, setting.value));
    }
    let topology = roadtrip_api::runtime::topology::Topology::detect(config.workers, config.pin);
    for reason in &topology.reasons {
        print(&format!("workers: {reason}"));
    }
    match roadtrip_api::runtime::driver::choose::open(config.io_driver.into()) {
        Ok((driver, None)) => print(&format!("driver: {}", driver.name())),
        Ok((driver, Some(fallback))) => print(&format!("driver: {} ({fallback})", driver.name())),
        Err(error) => {
            complain(error);
            return ExitCode::FAILURE;
        }
    }
    let mut warnings = [config.warnings, topology.warnings].concat();
    if let Some(files) = &config.tls {
        match tls::load(files, None) {
            Ok(mut loaded) => {
                print(&format!("certificate: {}", loaded.facts));
                warnings.append(&mut loaded.warnings);
            }
            Err(error) => {
                complain(error);
                return ExitCode::FAILURE;
            }
        }
    }
    for warning in warnings {
        print(&format!("warning: {warning}"));
    }
    ExitCode::SUCCESS
}

fn healthcheck(path: &str, timeout: Duration) -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(errors) => {
            complain(errors);
            return ExitCode::from(78);
        }
    };
    let port = config.listen.port;
    let hosts = match config.listen.address {
        Some(address) if !address.is_unspecified() => vec![address],
        _ => vec![IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)],
    };
    if config.tls.as_ref().is_some_and(|files| files.client_ca.is_some()) {
        complain("TLS_CLIENT_CA is set, and this command has no certificate to show: ask with a client that has one");
        return ExitCode::FAILURE;
    }
    let mut last = String::from("no address to ask");
    for host in hosts {
        match ask(SocketAddr::new(host, port), path, timeout, config.tls.is_some()) {
            Ok(200) => return ExitCode::SUCCESS,
            Ok(status) => {
                complain(format_args!("{path} answered {status}"));
                return ExitCode::FAILURE;
            }
            Err(error) => last = format!("{host}:{port}: {error}"),
        }
    }
    complain(last);
    ExitCode::FAILURE
}

/// What both a socket and TLS over one are.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// The status of a GET, or why there is none.
fn ask(addr: SocketAddr, path: &str, timeout: Duration, secure: bool) -> std::io::Result<u16> {
    let stream = TcpStream::connect_timeout(&addr, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut stream: Box<dyn Stream> = if secure {
        Box::new(tls::probe(stream)?)
    } else {
        Box::new(stream)
    };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut head)?;
    let status = head
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|text| text.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no HTTP answer"))
}
