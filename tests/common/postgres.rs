//! A real PostgreSQL, started by the test that needs it, with a folder of its own.
//!
//! Self-contained: the unit tests of the store include this file, too. PostgreSQL refuses to run as root, so a test that
//! is root runs it as `nobody`, through setpriv.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The owner of the databases, who may do everything.
pub const OWNER: &str = "owner";
const NOBODY: u32 = 65534;

/// A server with its folder; both are gone when this is dropped.
pub struct Postgres {
    dir: TempDir,
    pub port: u16,
    child: Option<Child>,
    settings: Vec<String>,
}

/// A program of PostgreSQL: Debian keeps the server's out of PATH.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut found: Vec<PathBuf> = versions.map(|one| one.unwrap().path().join("bin")).collect();
        found.sort();
        folders.extend(found.into_iter().rev());
    }
    let found = folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: install postgresql (tests/run does)"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as somebody whom PostgreSQL accepts.
pub fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        "--clear-groups",
        "--",
    ]);
    command.arg(program);
    command
}

/// Makes a file that of whom [`unprivileged`] runs as.
pub fn give_away(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A port of loopback where nobody listens, below those that the kernel gives out (`net.ipv4.ip_local_port_range`): one
/// of those would be anybody's as soon as its server is stopped, and that server could not start again. Found by
/// knocking and not by listening: a child forked in that moment would hold the socket for a moment longer.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..30_000);
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

/// A process's state and its parent's id, as in proc_pid_stat(5); `None` where it is gone.
fn state_of(pid: &str) -> Option<(char, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state ppid ...
    let (_, tail) = stat.rsplit_once(')')?;
    let mut words = tail.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.to_owned()))
}

fn wait_until(so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "a process does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Postgres {
    /// A running server with an empty database `trips`.
    pub fn start() -> Postgres {
        Postgres::with(&[])
    }

    /// The same with these settings (`name=value`).
    pub fn with(settings: &[&str]) -> Postgres {
        let dir = TempDir::new().unwrap();
        give_away(dir.path());
        let mut server = Postgres {
            dir,
            port: free_port(),
            child: None,
            settings: settings.iter().map(|one| (*one).to_owned()).collect(),
        };
        let made = unprivileged(&program("initdb"))
            .arg("-D")
            .arg(server.data())
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
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.launch();
        server.sql_in("postgres", "CREATE DATABASE trips");
        server
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The folder of the Unix socket, and of files for the server to read.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file that the server may read, and nobody else.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        give_away(&path);
        path
    }

    /// Replaces the rules of who may connect how; connections by the Unix socket stay allowed to all.
    pub fn allow(&self, rules: &str) {
        std::fs::write(
            self.data().join("pg_hba.conf"),
            format!("local all all trust\n{rules}\n"),
        )
        .unwrap();
        self.sql_in("postgres", "SELECT pg_reload_conf()");
        // The postmaster reads it when the signal reaches it.
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Further settings, from the next start on.
    pub fn set(&mut self, settings: &[String]) {
        self.settings.extend(settings.iter().cloned());
    }

    /// Starts the server, and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = unprivileged(&program("postgres"));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        command.args(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "shared_buffers=16MB",
            "max_connections=100",
        ] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while self.try_sql("postgres", "SELECT 1").is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL ended: {}", self.log());
            assert!(Instant::now() < deadline, "PostgreSQL does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> rustix::process::Pid {
        let pid = self.child.as_ref().expect("it runs").id();
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    fn children(&self) -> Vec<rustix::process::Pid> {
        let parent = self.pid().as_raw_nonzero().get().to_string();
        let mut pids = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name();
            let Some(name) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
                continue;
            };
            if state_of(name).is_some_and(|(_, of)| of == parent) {
                pids.extend(rustix::process::Pid::from_raw(name.parse().unwrap()));
            }
        }
        pids
    }

    /// Ends every process of the server as a power cut does.
    pub fn kill_9(&mut self) {
        // Stopped first, so that it has no child which is not on the list.
        let _ = rustix::process::kill_process(self.pid(), rustix::process::Signal::STOP);
        let parent = self.pid().as_raw_nonzero().to_string();
        wait_until(|| state_of(&parent).is_none_or(|(state, _)| "TZ".contains(state)));
        let children = self.children();
        let _ = rustix::process::kill_process(self.pid(), rustix::process::Signal::KILL);
        for child in &children {
            let _ = rustix::process::kill_process(*child, rustix::process::Signal::KILL);
        }
        self.child.take().unwrap().wait().unwrap();
        // Whoever still dies has the shared memory, and the next start would refuse to begin. A zombie has it no more.
        for child in children {
            let child = child.as_raw_nonzero().to_string();
            wait_until(|| state_of(&child).is_none_or(|(state, _)| "ZX".contains(state)));
        }
        // The next start looks at them, and at whether their process lives; a new process may have taken the number.
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        let _ = std::fs::remove_file(self.dir.path().join(format!(".s.PGSQL.{}.lock", self.port)));
    }

    /// Ends the server in good order, connections first.
    pub fn stop(&mut self) {
        self.stop_by(rustix::process::Signal::INT);
    }

    /// Ends it by this signal: SIGINT is the fast shutdown, SIGQUIT the immediate one.
    pub fn stop_by(&mut self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
        self.child.take().unwrap().wait().unwrap();
    }

    /// A streaming standby of this server on that port, made by pg_basebackup; running. From then on this server commits what the
    /// standby has too (`synchronous_standby_names`).
    pub fn standby(&self, port: u16) -> Postgres {
        let dir = TempDir::new().unwrap();
        give_away(dir.path());
        let mut standby = Postgres {
            dir,
            port,
            child: None,
            settings: self.settings.clone(),
        };
        let made = unprivileged(&program("pg_basebackup"))
            .arg("-D")
            .arg(standby.data())
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", OWNER])
            .arg("-h")
            .arg(self.dir.path())
            .args(["-p", &self.port.to_string()])
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        standby.launch();
        self.sql_in("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql_in("postgres", "SELECT pg_reload_conf()");
        let deadline = Instant::now() + PATIENCE;
        while self.sql("SELECT string_agg(sync_state, ',') FROM pg_stat_replication") != "sync" {
            assert!(
                Instant::now() < deadline,
                "the standby does not follow: {}",
                standby.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        standby
    }

    /// A session of that user that runs `sql` and then holds what it has (a place, a lock) until this is dropped.
    pub fn session(&self, user: &str, sql: &str) -> Session {
        let mut child = Command::new(program("psql"))
            .args(["-X", "-q", "-U", user, "-d", "trips", "-h"])
            .arg(OsString::from(self.dir.path()))
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // One that was refused has ended.
        let _ = writeln!(child.stdin.as_mut().unwrap(), "{sql};");
        Session(child)
    }

    /// Makes this standby the primary, by `pg_ctl promote`.
    pub fn promote(&self) {
        let ran = unprivileged(&program("pg_ctl"))
            .args(["promote", "-w", "-D"])
            .arg(self.data())
            .current_dir("/")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Stops every process of the server where it stands (true), or lets them go on.
    pub fn freeze(&self, still: bool) {
        let signal = if still {
            rustix::process::Signal::STOP
        } else {
            rustix::process::Signal::CONT
        };
        for pid in self.children().into_iter().chain([self.pid()]) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// DATABASE_URL over TCP, for the owner.
    pub fn url(&self) -> String {
        format!("postgresql://{OWNER}@127.0.0.1:{}/trips?sslmode=disable", self.port)
    }

    /// DATABASE_URL over TCP with this before the @ and this behind the question mark.
    pub fn url_of(&self, user_info: &str, host: &str, query: &str) -> String {
        format!("postgresql://{user_info}@{host}:{}/trips?{query}", self.port)
    }

    /// DATABASE_URL over the Unix socket.
    pub fn socket_url(&self) -> String {
        format!(
            "postgresql://{OWNER}@/trips?host={}&port={}",
            self.dir.path().display(),
            self.port
        )
    }

    /// Runs SQL in the database `trips` and gives what psql prints: values alone, a row a line.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("trips", sql)
    }

    fn sql_in(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql)
            .unwrap_or_else(|said| panic!("{sql}: {said}"))
    }

    /// The same, or what psql says.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let ran = Command::new(program("psql"))
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
            .arg(OsString::from(self.dir.path()))
            .args(["-p", &self.port.to_string(), "-c", sql])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        match ran.status.success() {
            true => Ok(String::from_utf8_lossy(&ran.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
        }
    }
}

/// See [`Postgres::session`].
pub struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        // Its backend reads the end, and with it goes what it held.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.freeze(false);
            self.kill_9();
        }
    }
}
