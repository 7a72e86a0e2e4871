//! A PostgreSQL and a Redis of the measurement's own, in a folder that is gone afterwards. Both are ended by pid.
//!
//! PostgreSQL refuses to run as root, so root runs it as `nobody`, through setpriv. It keeps its promises (fsync,
//! synchronous_commit); what is set is what would make runs differ: no checkpoint and no autovacuum in the middle of one.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::clock;
use crate::guard::{Folder, Watched};

/// How long either may take to start, a statement to run, or a process to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who owns the database.
const OWNER: &str = "owner";
/// `nobody`.
const NOBODY: u32 = 65534;

/// Both, and their folder.
pub(crate) struct Backends {
    postgres: Process,
    postgres_port: u16,
    redis: Process,
    redis_port: u16,
    cpu: Option<usize>,
    /// Last, so that it goes when both have ended.
    folder: Folder,
}

/// A process that is ended when dropped: asked by the signal, and after [`PATIENCE`] killed.
struct Process {
    child: Child,
    goodbye: Signal,
    _watched: Watched,
}

impl Process {
    fn end(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The child has not been waited for, so the pid is still its own.
            let _ = kill_process(pid, self.goodbye);
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has been waited for has no process any more: its id may be another's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// Ports below those that Linux gives to outgoing connections (ip_local_port_range: 32768 and up): nobody takes one while
/// its server restarts.
const PORTS: std::ops::Range<u64> = 10_240..32_768;

fn free_port() -> Result<u16, String> {
    let span = PORTS.end - PORTS.start;
    let begin = clock::now_ns() / 1000 + u64::from(std::process::id());
    let numbers = (0..span).map(|step| PORTS.start + (begin + step) % span);
    numbers
        .filter_map(|number| u16::try_from(number).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| "there is no free port".to_owned())
}

/// An address of loopback where nobody listens at the moment.
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

/// A program of PostgreSQL: Debian keeps the server's out of PATH.
fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|one| one.path().join("bin")).collect();
    found.sort();
    folders.extend(found.into_iter().rev());
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| format!("{name} is missing; on Debian: apt-get install postgresql redis-server"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as somebody whom PostgreSQL accepts.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    command.args([&user, &group, "--clear-groups", "--"]).arg(program);
    command
}

fn spawn(mut command: Command, cpu: Option<usize>, goodbye: Signal) -> Result<Process, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let spawned = clock::while_pinned(cpu, || Watched::spawn(&mut command, goodbye))?;
    let (child, watched) = spawned.map_err(|e| format!("cannot start {command:?}: {e}"))?;
    Ok(Process {
        child,
        goodbye,
        _watched: watched,
    })
}

/// PostgreSQL on what `initdb` has made in the folder.
fn postgres_command(folder: &Path, port: u16) -> Result<Command, String> {
    let mut command = unprivileged(&program("postgres")?);
    command
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .current_dir("/");
    command.args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "max_connections=200",
        "shared_buffers=512MB",
        "max_wal_size=8GB",
        "checkpoint_timeout=1h",
        "autovacuum=off",
    ] {
        command.args(["-c", setting]);
    }
    Ok(command)
}

fn redis_command(folder: &Path, port: u16) -> Result<Command, String> {
    let mut command = Command::new(program("redis-server")?);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
    command.arg("--dir").arg(folder);
    Ok(command)
}

/// Waits until `ready`, or says what does not come.
fn until(what: &str, mut ready: impl FnMut() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !ready() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{what} after {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Backends {
    /// Starts both on `cpu`, with an empty database `trips`.
    ///
    /// # Errors
    /// A program is missing, or does not start.
    pub(crate) fn start(cpu: Option<usize>) -> Result<Self, String> {
        let folder = Folder::named("tiers")?;
        if is_root() {
            std::os::unix::fs::chown(&folder.0, Some(NOBODY), Some(NOBODY))
                .map_err(|e| format!("cannot give {} away: {e}", folder.0.display()))?;
        }
        let data = folder.0.join("data");
        let made = unprivileged(&program("initdb")?)
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                OWNER,
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ])
            .current_dir("/")
            .output()
            .map_err(|e| format!("cannot run initdb: {e}"))?;
        if !made.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let (postgres_port, redis_port) = (free_port()?, free_port()?);
        let postgres = spawn(postgres_command(&folder.0, postgres_port)?, cpu, Signal::INT)?;
        let redis = spawn(redis_command(&folder.0, redis_port)?, cpu, Signal::TERM)?;
        let backends = Self {
            folder,
            postgres,
            postgres_port,
            redis,
            redis_port,
            cpu,
        };
        backends.until_both_answer()?;
        backends.sql_in("postgres", "CREATE DATABASE trips")?;
        Ok(backends)
    }

    fn until_both_answer(&self) -> Result<(), String> {
        until("PostgreSQL does not answer", || {
            self.sql_in("postgres", "SELECT 1").is_ok()
        })?;
        until("Redis does not answer", || self.redis("PING").is_ok())
    }

    /// Ends PostgreSQL as an operator does (fast shutdown), and starts it again after `away`.
    ///
    /// # Errors
    /// It does not come back.
    pub(crate) fn restart_postgres(&mut self, away: Duration) -> Result<(), String> {
        self.postgres.end();
        std::thread::sleep(away);
        let command = postgres_command(&self.folder.0, self.postgres_port)?;
        self.postgres = spawn(command, self.cpu, Signal::INT)?;
        self.until_both_answer()
    }

    /// The same for Redis, which forgets everything.
    ///
    /// # Errors
    /// It does not come back.
    pub(crate) fn restart_redis(&mut self, away: Duration) -> Result<(), String> {
        self.redis.end();
        std::thread::sleep(away);
        self.redis = spawn(redis_command(&self.folder.0, self.redis_port)?, self.cpu, Signal::TERM)?;
        self.until_both_answer()
    }

    /// DATABASE_URL: TCP, as in production.
    pub(crate) fn database_url(&self) -> String {
        format!(
            "postgresql://{OWNER}@127.0.0.1:{}/trips?sslmode=disable",
            self.postgres_port
        )
    }

    /// REDIS_URL.
    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis_port)
    }

    /// PostgreSQL's first process; its others are children of it.
    pub(crate) fn postgres_pid(&self) -> u32 {
        self.postgres.child.id()
    }

    /// Redis' process.
    pub(crate) fn redis_pid(&self) -> u32 {
        self.redis.child.id()
    }

    /// Runs SQL in the database `trips`; gives what psql prints, values alone.
    ///
    /// # Errors
    /// What psql says.
    pub(crate) fn sql(&self, sql: &str) -> Result<String, String> {
        self.sql_in("trips", sql)
    }

    /// No story anywhere.
    ///
    /// # Errors
    /// Either refuses.
    pub(crate) fn forget_all(&self) -> Result<(), String> {
        self.redis("FLUSHALL")?;
        // There is no table before the first server has made it.
        if self.sql("SELECT to_regclass('stories')")?.is_empty() {
            return Ok(());
        }
        self.sql("TRUNCATE stories").map(drop)
    }

    /// Waits until Redis has so many keys: servers write to it in the background.
    ///
    /// # Errors
    /// They do not come.
    pub(crate) fn wait_for_redis(&self, keys: usize) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let held = self.redis("DBSIZE")?.parse().unwrap_or(0);
            if held >= keys {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(format!("Redis has {held} keys and not {keys}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn sql_in(&self, database: &str, sql: &str) -> Result<String, String> {
        let ran = Command::new(program("psql")?)
            .args([
                "-X",
                "-q",
                "-t",
                "-A",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                OWNER,
                "-d",
                database,
            ])
            .arg("-h")
            .arg(&self.folder.0)
            .args(["-p", &self.postgres_port.to_string(), "-c", sql])
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot run psql: {e}"))?;
        match ran.status.success() {
            true => Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned()),
            false => Err(format!("{sql}: {}", String::from_utf8_lossy(&ran.stderr).trim())),
        }
    }

    /// Sends a command without arguments that could need quoting; the first line of the answer without its mark.
    ///
    /// # Errors
    /// No connection, or the error that Redis answers with.
    pub(crate) fn redis(&self, command: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.redis_port));
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // An inline command: the protocol's form for people.
            stream.write_all(format!("{command}\r\n").as_bytes())?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(line)
        };
        let line = ask().map_err(|e| format!("Redis, {command}: {e}"))?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", rest)) => Ok(rest.to_owned()),
            _ => Err(format!("Redis, {command}: {line:?}")),
        }
    }
}
