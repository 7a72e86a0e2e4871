//! What is left of a process that has handed over and must not end: as process 1 its end is the container's.
//!
//! It passes signals on to the process that serves, takes note of orphans (a process 1 that does not leaves a zombie of
//! each), and ends when and as that process does. When that one is replaced in turn, it hears the successor's id from it,
//! on a pipe that is handed on.

use super::lead::Event;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;

/// The pipe of successors.
#[derive(Debug)]
pub(super) struct Successors {
    hear: OwnedFd,
    /// To be left to the process that takes over.
    pub(super) say: OwnedFd,
}

impl Successors {
    /// A new pipe.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new() -> io::Result<Successors> {
        let (hear, say) = io::pipe()?;
        let hear = OwnedFd::from(hear);
        ioctl_fionbio(&hear, true)?;
        Ok(Successors { hear, say: say.into() })
    }

    /// The last that was named since the last call, if any.
    fn latest(&self) -> Option<Pid> {
        let mut bytes = Vec::new();
        let mut piece = [0; 256];
        loop {
            match rustix::io::read(&self.hear, &mut piece) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let pid = text.lines().last()?.trim().parse().ok()?;
        Pid::from_raw(pid)
    }
}

/// Tells a process that stays behind who serves from now on. To be called before this one ends.
pub(super) fn name_successor(say: &OwnedFd, pid: Pid) {
    let line = format!("{}\n", pid.as_raw_nonzero());
    if let Err(error) = rustix::io::write(say, line.as_bytes()) {
        tracing::error!(%error, "process 1 could not be told of the new process");
    }
}

/// How a process ended, as a shell says it.
pub(super) fn exit_code(status: rustix::process::WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Takes note of every child that has ended; calls `seen` with each.
pub(super) fn reap(mut seen: impl FnMut(Pid, rustix::process::WaitStatus)) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        seen(pid, status);
    }
}

/// A signal that a served process understands.
fn passed_on(signal: i32) -> Option<Signal> {
    Some(match signal {
        SIGTERM => Signal::TERM,
        SIGQUIT => Signal::QUIT,
        SIGINT => Signal::INT,
        SIGHUP => Signal::HUP,
        SIGUSR1 => Signal::USR1,
        SIGUSR2 => Signal::USR2,
        SIGTTIN => Signal::TTIN,
        SIGTTOU => Signal::TTOU,
        _ => return None,
    })
}

/// Passes a signal on to the process that serves.
pub(super) fn pass_on(signal: i32, to: Pid) {
    if let Some(signal) = passed_on(signal)
        && let Err(error) = kill_process(to, signal)
    {
        tracing::warn!(%error, ?signal, "the signal could not be passed on to the process that serves");
    }
}

/// Stays until the process that serves has ended; gives its exit code.
pub(super) fn stay(events: &Receiver<Event>, mut serving: Pid, successors: &Successors, mut gone: Option<u8>) -> u8 {
    tracing::info!(
        pid = %serving.as_raw_nonzero(),
        "this process stays behind the one that serves, and passes signals on to it"
    );
    if let Some(pid) = successors.latest() {
        (serving, gone) = (pid, None);
    }
    loop {
        if let Some(code) = gone {
            tracing::info!(code, "the process that served has ended, and so does this one");
            return code;
        }
        let event = events.recv();
        // Who is named by one that has ended meanwhile may have ended, too.
        let mut ended = Vec::new();
        if let Ok(Event::Signal(SIGCHLD)) = event {
            reap(|pid, status| ended.push((pid, status)));
        }
        if let Some(pid) = successors.latest() {
            serving = pid;
            tracing::info!(pid = %serving.as_raw_nonzero(), "another process serves now");
        }
        if let Some((_, status)) = ended.into_iter().find(|(pid, _)| *pid == serving) {
            gone = Some(exit_code(status));
        }
        match event {
            Ok(Event::Signal(signal)) => pass_on(signal, serving),
            Ok(_) => {}
            // No signal will come any more.
            Err(_) => return 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_successor_counts() {
        let successors = Successors::new().unwrap();
        assert!(successors.latest().is_none());
        for pid in [7, 8, 90_001] {
            name_successor(&successors.say, Pid::from_raw(pid).unwrap());
        }
        assert_eq!(successors.latest(), Pid::from_raw(90_001));
        assert!(successors.latest().is_none());
    }
}
