//! The server of one run: its process or processes, what they say, and what is done to them. All in a folder that is gone
//! afterwards; every process is ended by its id.

use super::http1::{Answer, Connection};
pub(super) use crate::guard::Folder;
use crate::guard::Watched;
pub(super) use crate::tiers::backends::free_address;
use rustix::process::{Pid, Signal, kill_process};
use sonic_rs::{JsonValueTrait, Value};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything of the server may take. Far more than it should: the machine may be slow and busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Why a run gives no row.
#[derive(Debug)]
pub(super) enum Stop {
    /// It cannot be done here.
    Skip(String),
    /// It was done, and something else than wanted came of it.
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self::Failed(why.to_owned())
    }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) binary: PathBuf,
    pub(super) env: Vec<(String, String)>,
    /// Words in front of the command.
    pub(super) wrapper: Vec<String>,
    pub(super) addr: SocketAddr,
}

impl Plan {
    pub(super) fn new(binary: &Path, driver: &str) -> Result<Self, String> {
        let plan = Self {
            binary: binary.to_owned(),
            env: Vec::new(),
            wrapper: Vec::new(),
            addr: free_address()?,
        };
        let port = plan.addr.port().to_string();
        Ok(plan
            .env("HOST", "127.0.0.1")
            .env("PORT", &port)
            .env("WORKERS", "2")
            .env("LOG_FORMAT", "json")
            .env("IO_DRIVER", driver))
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub(super) struct Killed(pub(super) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that runs from a copy of its own.
#[derive(Debug)]
pub(super) struct Server {
    plan: Plan,
    child: Child,
    /// Its processes, of an upgrade too: they are of one group.
    _watched: Watched,
    folder: Folder,
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It does not get ready; with the last of what it said.
    pub(super) fn start(plan: Plan) -> Result<Self, String> {
        let folder = Folder::new()?;
        install(&plan.binary, &folder.0.join("roadtrip-api"))?;
        let (child, watched) = Self::spawn(&plan, &folder.0)?;
        let mut server = Self {
            plan,
            child,
            _watched: watched,
            folder,
        };
        server.until_ready()?;
        Ok(server)
    }

    fn spawn(plan: &Plan, folder: &Path) -> Result<(Child, Watched), String> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("said.log"));
        let log = log.map_err(|e| format!("cannot keep what the server says: {e}"))?;
        let other = log
            .try_clone()
            .map_err(|e| format!("cannot keep what the server says: {e}"))?;
        let binary = folder.join("roadtrip-api").display().to_string();
        let mut words = plan.wrapper.clone();
        // A shell's words have it where they want it.
        if words.iter().any(|word| word.contains("$BINARY")) {
            words = words.iter().map(|word| word.replace("$BINARY", &binary)).collect();
        } else {
            words.push(binary);
            words.push("serve".to_owned());
        }
        let (program, args) = words.split_first().ok_or("no command")?;
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DATA_DIR", folder.join("data"))
            .envs(plan.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(other);
        Watched::spawn(&mut command, Signal::TERM).map_err(|e| format!("cannot start {program}: {e}"))
    }

    /// Starts it again in the same folder, after its end.
    pub(super) fn start_again(&mut self) -> Result<(), String> {
        (self.child, self._watched) = Self::spawn(&self.plan, &self.folder.0)?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            if self.get("/health/v2/ready").is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "the server ended before it was ready ({status}): {}",
                    self.tail()
                ));
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("the server is not ready: {}", self.tail()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.plan.addr
    }

    /// The process that was started, which may be a wrapper's.
    pub(super) fn first(&self) -> u32 {
        self.child.id()
    }

    /// One GET on a connection of its own.
    pub(super) fn get(&self, path: &str) -> Result<Answer, String> {
        get(self.plan.addr, path, "")
    }

    pub(super) fn json(&self, path: &str) -> Result<Value, String> {
        let answer = self.get(path)?;
        sonic_rs::from_slice(&answer.body).map_err(|e| format!("{path}: {e}"))
    }

    /// The process that answers, as it numbers itself.
    pub(super) fn serving(&self) -> Result<u32, String> {
        let pid = self.json("/health/v2/worker")?["pid"].as_u64();
        pid.and_then(|pid| u32::try_from(pid).ok())
            .ok_or_else(|| "nobody says who serves".to_owned())
    }

    /// The sum of a metric over lines that have all these labels.
    pub(super) fn metric(&self, name: &str, label: &str) -> Result<f64, String> {
        let answer = self.get("/metrics")?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        });
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Everything that it said, on its output and in its log file.
    pub(super) fn all_said(&self) -> String {
        ["said.log", "api.log", "api.log.1"]
            .iter()
            .filter_map(|name| fs::read_to_string(self.folder.0.join(name)).ok())
            .collect()
    }

    pub(super) fn said(&self, what: &str) -> usize {
        self.all_said().matches(what).count()
    }

    pub(super) fn tail(&self) -> String {
        let said = self.all_said();
        let lines: Vec<&str> = said.lines().collect();
        lines
            .get(lines.len().saturating_sub(12)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Waits until it is so.
    ///
    /// # Errors
    /// It is not, after [`PATIENCE`].
    pub(super) fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) -> Result<(), String> {
        let begun = Instant::now();
        while !so(self) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("in vain waited for: {what}; the server said:\n{}", self.tail()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Puts another program in its binary's place, as a package manager does.
    pub(super) fn replace_by_script(&self, script: &str) -> Result<(), String> {
        let (new, at) = (self.folder.0.join("new"), self.folder.0.join("roadtrip-api"));
        fs::write(&new, script)
            .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&new, &at))
            .map_err(|e| format!("cannot put a script in the binary's place: {e}"))
    }

    /// The same binary again, as a new file.
    pub(super) fn reinstall(&self) -> Result<(), String> {
        install(&self.plan.binary, &self.folder.0.join("roadtrip-api"))
    }

    /// Every process of this run's copy of the binary.
    fn processes(&self) -> Vec<u32> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&self.folder.0)))
            .collect()
    }

    /// Asks the present process for its end, and waits until all of this run's have ended.
    ///
    /// # Errors
    /// They have not in time, or not in good order.
    pub(super) fn end(&mut self) -> Result<(), String> {
        for pid in self.processes() {
            signal(pid, Signal::TERM);
        }
        self.until("the end of all processes", |server| server.processes().is_empty())?;
        let status = self.child.wait().map_err(|e| format!("cannot wait: {e}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the server ended with {status}: {}", self.tail()))
        }
    }

    /// Waits for the end of the process that was started.
    pub(super) fn wait(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("the server does not end: {}", self.tail()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn install(binary: &Path, at: &Path) -> Result<(), String> {
    let new = at.with_extension("new");
    let _ = fs::remove_file(&new);
    // Another file each time, even where it is the same: a rename replaces the old one's name.
    fs::copy(binary, &new)
        .and_then(|_| fs::rename(&new, at))
        .map_err(|e| format!("cannot copy {}: {e}", binary.display()))
}

/// One GET on a connection of its own.
pub(super) fn get(addr: SocketAddr, path: &str, fields: &str) -> Result<Answer, String> {
    let mut connection = Connection::open(addr, Duration::from_secs(5))?;
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n{fields}\r\n").as_bytes())?;
    connection.read(Instant::now() + Duration::from_secs(10))
}

pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// No such process, or only its remains, which whoever started it has not asked for.
pub(super) fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| state == 'Z')
}

/// Threads of a process with this name.
pub(super) fn threads_of(pid: u32, name: &str) -> Vec<u32> {
    let all = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|thread| {
            fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .collect()
}

/// Whether a program is there to be run.
pub(super) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
