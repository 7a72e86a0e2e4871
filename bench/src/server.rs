//! Servers under measurement: started here (and ended by pid), or already running.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use crate::clock;
use crate::guard::Watched;

/// How long a server may take from its start until its port answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to end after SIGTERM; then SIGKILL.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A server: its process, and whether it is ours to end.
pub(crate) struct Server {
    /// Process id; descendants are found from it.
    pub(crate) pid: u32,
    child: Option<Child>,
    _watched: Option<Watched>,
}

impl Server {
    /// Starts `command` through `sh -c "exec ..."` (so the pid is the server's own; set variables with `env A=b cmd`),
    /// pinned to `cpu` where given, its standard output dropped, and waits until `address` accepts connections.
    ///
    /// # Errors
    /// The port is already taken, the command does not start, ends early, or does not listen within 30 s.
    pub(crate) fn start(command: &str, address: SocketAddr, cpu: Option<usize>) -> Result<Self, String> {
        if answers(address) {
            return Err(format!(
                "{address} answers before {command:?} is started: end what listens there, or give its --pid"
            ));
        }
        let spawn = || {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {command}")]);
            shell.stdin(Stdio::null()).stdout(Stdio::null());
            Watched::spawn(&mut shell, Signal::TERM).map_err(|e| format!("cannot start {command:?}: {e}"))
        };
        let (child, watched) = clock::while_pinned(cpu, spawn)??;
        let mut server = Self {
            pid: child.id(),
            child: Some(child),
            _watched: Some(watched),
        };
        let start = Instant::now();
        while !answers(address) {
            if let Some(status) = server.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                server.child = None;
                return Err(format!(
                    "{command:?} ended before {address} answered ({status}); see its messages above"
                ));
            }
            if start.elapsed() > START_LIMIT {
                return Err(format!(
                    "{command:?} does not listen on {address} after {} s",
                    START_LIMIT.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    /// A server that somebody else started, and will end.
    ///
    /// # Errors
    /// No such process, or nothing listens.
    pub(crate) fn running(pid: u32, address: SocketAddr) -> Result<Self, String> {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return Err(format!("there is no process {pid}"));
        }
        if !answers(address) {
            return Err(format!("nothing answers on {address}"));
        }
        Ok(Self {
            pid,
            child: None,
            _watched: None,
        })
    }
}

/// A process that takes whatever CPU it gets; ended when dropped.
pub(crate) struct Spinner(Child, #[expect(dead_code, reason = "held until its end")] Watched);

impl Spinner {
    /// Starts it, pinned to `cpu` where given.
    ///
    /// # Errors
    /// There is no shell, or no such CPU.
    pub(crate) fn start(cpu: Option<usize>) -> Result<Self, String> {
        let spawn = || Watched::spawn(Command::new("sh").args(["-c", "while :; do :; done"]), Signal::KILL);
        let (child, watched) = clock::while_pinned(cpu, spawn)?.map_err(|e| format!("cannot start a shell: {e}"))?;
        Ok(Self(child, watched))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        // The child has not been waited for, so the pid is still its own.
        let _ = kill_process(pid, Signal::TERM);
        if !ends_within(END_LIMIT, || !matches!(child.try_wait(), Ok(None))) {
            let _ = child.kill();
            let _ = child.wait();
        }
        // A shell ends without those that it has started. Its number is not given out while its group has members.
        let is_empty = || test_kill_process_group(pid).is_err();
        if !is_empty() {
            let _ = kill_process_group(pid, Signal::TERM);
            if !ends_within(END_LIMIT, is_empty) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
        }
    }
}

fn ends_within(limit: Duration, mut has_ended: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if has_ended() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_taken_port_and_an_early_end_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        assert!(Server::start("true", taken, None).is_err_and(|e| e.contains("answers before")));
        drop(listener);
        assert!(Server::start("false", taken, None).is_err_and(|e| e.contains("ended before")));
        // What a shell has started ends with it.
        let spawn = || {
            let mut shell = Command::new("sh");
            Watched::spawn(shell.args(["-c", "sleep 60 & wait"]), Signal::TERM)
        };
        let (child, watched) = spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let members =
            || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        assert!(ends_within(END_LIMIT, || !members().is_empty()));
        drop(Server {
            pid: child.id(),
            child: Some(child),
            _watched: Some(watched),
        });
        assert!(test_kill_process_group(group).is_err());
        assert!(Server::running(std::process::id(), taken).is_err_and(|e| e.contains("nothing answers")));
        assert!(Server::running(u32::MAX - 1, taken).is_err_and(|e| e.contains("no process")));
    }
}
