//! The processes that one has started, and those that they have: to end all of them, where a kill of the first alone would
//! leave the others.
//!
//! Not by a process group: the new process of an upgrade is to stay in the old one's, so that whoever signals that group (a
//! terminal, a supervisor that kills whole groups) reaches it.

use crate::limits::life::DESCENDANTS_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Handles of the descendants that the kernel shows (`/proc/PID/task/TID/children`, for each thread those that it has
/// started); none where it shows none. Whose parent has ended is not among them. `of` is a child of this process that was not
/// waited for.
pub(super) fn descendants(of: Pid) -> Vec<OwnedFd> {
    let mut known = vec![of];
    let mut handles = Vec::new();
    let mut at = 0;
    while let Some(parent) = known.get(at).copied() {
        at += 1;
        for child in children(parent) {
            if handles.len() >= DESCENDANTS_MAX {
                return handles;
            }
            // A number may be another process's by the time that it is opened: whose parent is the same, is the same.
            if let Ok(handle) = pidfd_open(child, PidfdFlags::empty())
                && parent_of(child) == Some(parent.as_raw_nonzero().get())
            {
                handles.push(handle);
                known.push(child);
            }
        }
    }
    handles
}

fn children(of: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", of.as_raw_nonzero()))
        .into_iter()
        .flatten();
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let numbers = list.split_whitespace().filter_map(|number| number.parse().ok());
            numbers.filter_map(Pid::from_raw).collect::<Vec<_>>()
        })
        .collect()
}

/// Field 4 of its stat, the second behind the name in parentheses.
fn parent_of(pid: Pid) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Kills them, and waits for so long at most until all have ended.
pub(super) fn end(handles: &[OwnedFd], time: Duration) {
    for handle in handles {
        // Fails where it has ended.
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
    wait(handles, Instant::now() + time);
}

/// Waits until all have ended, or it is that late.
pub(super) fn wait(handles: &[OwnedFd], until: Instant) {
    for handle in handles {
        loop {
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).unwrap_or_default();
            // Readable is ended.
            match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left)) {
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    #[test]
    fn who_was_started_by_another_thread_is_found_and_ended_and_strangers_are_not() {
        // Of a child: what this process itself has started is not asked for.
        let script = "import subprocess, threading\n\
             t = threading.Thread(target=lambda: subprocess.Popen(['sleep', '60']).wait())\n\
             t.start(); subprocess.Popen(['sleep', '60']).wait()";
        let start = |words: &[&str]| -> Child {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).stdin(Stdio::null()).spawn().unwrap()
        };
        let mut family = start(&["python3", "-c", script]);
        let mut stranger = start(&["sleep", "60"]);
        let pid = Pid::from_child(&family);
        let until = Instant::now() + Duration::from_secs(20);
        let name = |child: &Pid| fs::read_to_string(format!("/proc/{}/comm", child.as_raw_nonzero()));
        // What starts python may be a script itself.
        let are_there = || {
            let sleeping = |child: &Pid| name(child).is_ok_and(|name| name == "sleep\n");
            children(pid).iter().filter(|child| sleeping(child)).count() == 2
        };
        while !are_there() {
            assert!(Instant::now() < until, "{:?}", children(pid));
            std::thread::sleep(Duration::from_millis(10));
        }
        let found = descendants(pid);
        assert_eq!(found.len(), 2);
        end(&found, Duration::from_secs(5));
        assert!(family.wait().unwrap().success(), "it had only waited for them");
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
