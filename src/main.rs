//! Command line -> configuration -> one subcommand.

mod kill;

use clap::{Parser, Subcommand};
use roadtrip_api::config::{self, At, Config};
use roadtrip_api::{routes, supervisor, telemetry, tls};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
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
    /// Brings the database of DATABASE_URL to the schema of this binary, or says what it has. Any number of processes may
    /// do so at once.
    #[command(after_help = MIGRATE_CODES)]
    Migrate {
        /// `up` applies what is pending; `status` only says what is.
        #[arg(value_enum, default_value_t = MigrateAction::Up)]
        action: MigrateAction,
        /// Print the statements that `up` would run, and run none.
        #[arg(long)]
        dry_run: bool,
        /// Seconds to wait for a database that is not there yet.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
        wait: u64,
    },
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

/// What `migrate` does.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MigrateAction {
    /// Applies what is pending.
    Up,
    /// Says what is applied and what is pending.
    Status,
}

const MIGRATE_CODES: &str = "Exit codes: 0 the database is up to date (now); 1 migrations are pending (status, --dry-run); \
65 this binary does not fit the database; 69 the database is away or refuses; 78 DATABASE_URL is missing or wrong.";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if kill::is_asked(arguments.next().as_deref()) {
        let arguments: Vec<String> = arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        return match kill::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr().lock(), "kill: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve(),
        Command::Check => check(),
        Command::Migrate { action, dry_run, wait } => migrate(action, dry_run, Duration::from_secs(wait)),
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
    let (guard, control) = match telemetry::logging::init(config.log, config.life.log_file.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            complain(error);
            return ExitCode::from(71); // EX_OSERR
        }
    };
    let ended = supervisor::serve(config, control);
    // What is queued is written before the process ends.
    drop(guard);
    match ended {
        Ok(code) => ExitCode::from(code),
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
    let memory = supervisor::memory::Plan::of(&config, topology.workers);
    for reason in &memory.reasons {
        print(&format!("memory: {reason}"));
    }
    match roadtrip_api::runtime::driver::choose::open(config.io_driver.into()) {
        Ok((driver, None)) => print(&format!("driver: {}", driver.name())),
        Ok((driver, Some(fallback))) => print(&format!("driver: {} ({fallback})", driver.name())),
        Err(error) => {
            complain(error);
            return ExitCode::FAILURE;
        }
    }
    // The files that the two URLs name; nobody is asked for anything over the network.
    if let Err(error) = supervisor::check_files(&config) {
        complain(error);
        return ExitCode::FAILURE;
    }
    let mut warnings = [config.warnings, topology.warnings, memory.warnings].concat();
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

fn migrate(action: MigrateAction, dry_run: bool, wait: Duration) -> ExitCode {
    let config = match Config::for_migration() {
        Ok(config) => config,
        Err(errors) => {
            complain(errors);
            return ExitCode::from(78);
        }
    };
    let what = match (action, dry_run) {
        (MigrateAction::Status, _) => supervisor::migrate::What::Status,
        (MigrateAction::Up, true) => supervisor::migrate::What::DryRun,
        (MigrateAction::Up, false) => supervisor::migrate::What::Up,
    };
    match supervisor::migrate::run(&config, what, wait, print) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn healthcheck(path: &str, timeout: Duration) -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(errors) => {
            complain(errors);
            return ExitCode::from(78);
        }
    };
    let mut last = String::from("no address to ask");
    for bind in &config.listen {
        let secure = bind.is_tls(config.tls.is_some());
        if secure && config.tls.as_ref().is_some_and(|files| files.client_ca.is_some()) {
            last = format!("{bind} wants a certificate (TLS_CLIENT_CA), and this command has none to show");
            continue;
        }
        for door in doors(&bind.at) {
            match ask(&config, &door, path, timeout, secure) {
                Ok(200) => return ExitCode::SUCCESS,
                Ok(status) => {
                    complain(format_args!("{path} answered {status}"));
                    return ExitCode::FAILURE;
                }
                Err(error) => last = format!("{door:?}: {error}"),
            }
        }
    }
    complain(last);
    ExitCode::FAILURE
}

/// Where a server on this machine may be asked.
#[derive(Debug)]
enum Door {
    Tcp(SocketAddr),
    Unix(SocketAddrUnix),
}

fn doors(at: &At) -> Vec<Door> {
    match at {
        At::Tcp(listen) => {
            let hosts = match listen.address {
                Some(address) if !address.is_unspecified() => vec![address],
                Some(IpAddr::V4(_)) => vec![Ipv4Addr::LOCALHOST.into()],
                Some(IpAddr::V6(_)) if listen.v6only => vec![Ipv6Addr::LOCALHOST.into()],
                _ => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            };
            let door = |host| Door::Tcp(SocketAddr::new(host, listen.port));
            hosts.into_iter().map(door).collect()
        }
        At::Unix(path) => SocketAddrUnix::new(path).map(Door::Unix).into_iter().collect(),
        At::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())
            .map(Door::Unix)
            .into_iter()
            .collect(),
    }
}

/// The status of a GET, or why there is none.
fn ask(config: &Config, door: &Door, path: &str, timeout: Duration, secure: bool) -> std::io::Result<u16> {
    match door {
        Door::Tcp(addr) => {
            let stream = TcpStream::connect_timeout(addr, timeout)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            let is_proxy = config.trusted.contains(stream.local_addr()?.ip());
            exchange(stream, config.proxy_protocol && is_proxy, path, secure)
        }
        Door::Unix(addr) => {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // Before it connects, which waits where the server's queue is full.
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
            rustix::net::connect(&socket, addr)?;
            let stream = UnixStream::from(socket);
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            exchange(
                stream,
                config.proxy_protocol && config.trusted.contains_unix(),
                path,
                secure,
            )
        }
    }
}

fn exchange(mut stream: impl Read + Write, is_proxy: bool, path: &str, secure: bool) -> std::io::Result<u16> {
    if is_proxy {
        // Whom the server trusts to introduce its clients must introduce itself.
        stream.write_all(b"PROXY UNKNOWN\r\n")?;
    }
    if secure {
        status_of(tls::probe(stream)?, path)
    } else {
        status_of(stream, path)
    }
}

fn status_of(mut stream: impl Read + Write, path: &str) -> std::io::Result<u16> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut head)?;
    let status = head
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|text| text.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no HTTP answer"))
}
