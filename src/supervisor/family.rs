//! The processes that one has started, and those that they have: to end all of them, where a kill of the first alone would
//! leave the others.
//!
//! Not by a process group: the new process of an upgrade is to stay in the old one's, so that whoever signals that group (a
//! terminal, a supervisor that kills whole groups) reaches it.

use crate::limits::life::DESCENDANTS_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Handles of the descendants that the kernel shows (`/proc/PID/task/PID/children`); none where it shows none. Whose parent has
/// ended is not among them.
pub(super) fn descendants(of: Pid) -> Vec<OwnedFd> {
    let mut known = vec![of];
    let mut handles = Vec::new();
    let mut at = 0;
    while let Some(pid) = known.get(at).map(|pid| pid.as_raw_nonzero()) {
        at += 1;
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = list.split_whitespace().filter_map(|child| child.parse().ok());
        for child in children.filter_map(Pid::from_raw) {
            if handles.len() >= DESCENDANTS_MAX {
                return handles;
            }
            if let Ok(handle) = pidfd_open(child, PidfdFlags::empty()) {
                handles.push(handle);
                known.push(child);
            }
        }
    }
    handles
}

/// Kills them, and waits for so long at most until all have ended.
pub(super) fn end(handles: &[OwnedFd], time: Duration) {
    for handle in handles {
        // Fails where it has ended.
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
    let until = Instant::now() + time;
    for handle in handles {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).unwrap_or_default();
        // Readable is ended. A signal that cuts the wait short is no harm: the kill is on its way.
        let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left));
    }
}
