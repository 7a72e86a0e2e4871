//! A server from a binary of its own, which can be replaced while it runs.

use super::{BINARY, Server, Setup, until};
use rustix::process::{Pid, Signal, kill_process};
use sonic_rs::JsonValueTrait;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A server from a binary of its own, whose successors end with it.
pub struct House {
    pub server: Server,
    pub folder: TempDir,
}

/// Puts this binary, or a script, in the place of another.
pub fn install(text: Option<&str>, at: &Path) {
    let new = at.with_extension("new");
    match text {
        Some(script) => fs::write(&new, script).unwrap(),
        None => drop(fs::copy(BINARY, &new).unwrap()),
    }
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    // As a package manager does it: the running one keeps its file.
    fs::rename(&new, at).unwrap();
}

impl House {
    pub fn start(setup: Setup) -> House {
        let folder = TempDir::new().unwrap();
        let binary = folder.path().join("roadtrip-api");
        install(None, &binary);
        let pid_file = folder.path().join("pid");
        let setup = setup.env("PIDFILE", pid_file.to_str().unwrap()).env("WORKERS", "2");
        let server = setup.binary(&binary).start();
        House { server, folder }
    }

    pub fn binary(&self) -> PathBuf {
        self.folder.path().join("roadtrip-api")
    }

    pub fn pid_in(&self, file: &str) -> Option<u32> {
        fs::read_to_string(self.folder.path().join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Who answers.
    pub fn serving(&self) -> u32 {
        u32::try_from(self.server.json("/health/v2/worker")["pid"].as_u64().unwrap()).unwrap()
    }

    /// Upgrades, and waits until the old process has ended.
    pub fn upgrade(&self) -> u32 {
        let old = self.serving();
        signal(old, Signal::USR2);
        until("another process to serve", || {
            self.pid_in("pid").is_some_and(|pid| pid != old) && self.serving() != old
        });
        self.serving()
    }

    pub fn said(&self, what: &str) -> usize {
        self.server.all_said().matches(what).count()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Whoever said that it is ready, and runs this copy of the binary.
        for line in self.server.log.lines() {
            let pid = sonic_rs::from_str::<sonic_rs::Value>(&line)
                .ok()
                .and_then(|line| line["pid"].as_u64());
            let Some(pid) = pid.and_then(|pid| u32::try_from(pid).ok()) else {
                continue;
            };
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            if exe.starts_with(self.folder.path()) {
                signal(pid, Signal::KILL);
            }
        }
    }
}

/// To a process that may have ended.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

/// No such process, or only its remains, which whoever started it has not asked for.
pub fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| state == 'Z')
}
