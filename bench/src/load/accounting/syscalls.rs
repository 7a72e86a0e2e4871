//! System calls of the server, by `strace -c` or `perf trace -s`.
//!
//! Both slow the server down, strace by a multiple: counts per request hold, figures of time and rate beside them do not.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::procfs::with_descendants;

/// How long a tool may take to attach, and to print its sums.
const ATTACH: Duration = Duration::from_millis(700);
const END_LIMIT: Duration = Duration::from_secs(10);

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tool {
    /// `strace -c -f`; needs leave to trace the process
    Strace,
    /// `perf trace -s`; needs the kernel's syscall trace points
    Perf,
}

/// One call's counts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Call {
    name: String,
    count: u64,
    errors: u64,
    per_request: f64,
}

/// The counts of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Syscalls {
    tool: Tool,
    per_request: f64,
    calls: Vec<Call>,
}

impl Syscalls {
    pub(super) fn new(tool: Tool, mut calls: Vec<Call>, requests: u64) -> Self {
        for call in &mut calls {
            call.per_request = call.count as f64 / requests.max(1) as f64;
        }
        calls.sort_by_key(|call| std::cmp::Reverse(call.count));
        Self {
            tool,
            per_request: calls.iter().map(|call| call.per_request).sum(),
            calls,
        }
    }

    pub(super) fn text(&self) -> String {
        let calls: Vec<String> = self
            .calls
            .iter()
            .take(8)
            .map(|call| format!("{} {:.3}", call.name, call.per_request))
            .collect();
        format!("syscalls      {:.3} a request: {}", self.per_request, calls.join(", "))
    }
}

/// A tool at work.
pub(super) struct Counter {
    tool: Tool,
    child: Child,
}

impl Counter {
    /// Attaches to a process and its descendants.
    ///
    /// # Errors
    /// The tool is not there, or may not.
    pub(super) fn start(tool: Tool, pid: u32) -> Result<Self, String> {
        let pids: Vec<String> = with_descendants(pid).iter().map(u32::to_string).collect();
        let mut command = match tool {
            Tool::Strace => {
                let mut command = Command::new("strace");
                command.args(["-c", "-f", "-q", "-U", "calls,errors,name"]);
                pids.iter().for_each(|pid| {
                    command.args(["-p", pid]);
                });
                command
            }
            Tool::Perf => {
                let mut command = Command::new("perf");
                command.args(["trace", "-s", "-p", &pids.join(",")]);
                command
            }
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start {tool:?} to count system calls: {e}"))?;
        std::thread::sleep(ATTACH);
        if let Ok(Some(_)) = child.try_wait() {
            let why = child
                .wait_with_output()
                .map(|o| String::from_utf8_lossy(&o.stderr).trim().to_owned());
            return Err(format!(
                "{tool:?} cannot count system calls: {}",
                why.unwrap_or_default()
            ));
        }
        Ok(Self { tool, child })
    }

    /// Detaches, and gives the counts.
    ///
    /// # Errors
    /// The tool does not end, or says something else.
    pub(super) fn finish(mut self) -> Result<Vec<Call>, String> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The child has not been waited for, so the pid is still its own.
            let _ = kill_process(pid, Signal::INT);
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > END_LIMIT {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Err(format!("{:?} did not end", self.tool));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = self.child.wait_with_output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        let calls = match self.tool {
            Tool::Strace => strace(&text),
            Tool::Perf => perf(&text),
        };
        if calls.is_empty() {
            return Err(format!("{:?} counted nothing; it said: {}", self.tool, text.trim()));
        }
        Ok(calls)
    }
}

fn call(name: &str, count: &str, errors: &str) -> Option<Call> {
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_name && name != "total").then_some(Call {
        name: name.to_owned(),
        count: count.parse().ok()?,
        errors: errors.parse().ok()?,
        per_request: 0.0,
    })
}

/// Lines `calls [errors] name`.
fn strace(text: &str) -> Vec<Call> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [count, name] => call(name, count, "0"),
            [count, errors, name] => call(name, count, errors),
            _ => None,
        }
    };
    text.lines().filter_map(of_line).collect()
}

/// Lines `name calls errors total min avg max stddev`, of each thread.
fn perf(text: &str) -> Vec<Call> {
    let mut sums: std::collections::BTreeMap<String, Call> = std::collections::BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [name, count, errors, _, _, _, _, _] = fields.as_slice()
            && let Some(call) = call(name, count, errors)
        {
            let sum = sums.entry(call.name.clone()).or_insert(Call {
                count: 0,
                errors: 0,
                ..call.clone()
            });
            sum.count = sum.count.saturating_add(call.count);
            sum.errors = sum.errors.saturating_add(call.errors);
        }
    }
    sums.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_tables_are_read() {
        let text = "strace: Process 7 attached\n    calls    errors syscall\n--------- --------- ----------------\n     \
                    1200           io_uring_enter\n       30        10 recvfrom\n--------- --------- ----------------\n     1230        10 total\n";
        let calls = Syscalls::new(Tool::Strace, strace(text), 600);
        let names: Vec<(&str, u64, u64)> = calls
            .calls
            .iter()
            .map(|c| (c.name.as_str(), c.count, c.errors))
            .collect();
        assert_eq!(names, [("io_uring_enter", 1200, 0), ("recvfrom", 30, 10)]);
        assert!((calls.per_request - 2.05).abs() < 1e-9);
        let text = " worker (12), 100 events, 5.0%\n   syscall            calls  errors  total       min       avg       max       stddev\n\
                    \x20  io_uring_enter       50      0   10.0     0.001     0.002     0.010      5.0%\n\
                    \x20  io_uring_enter       10      2   10.0     0.001     0.002     0.010      5.0%\n";
        assert_eq!(perf(text)[0].count, 60);
        assert_eq!(perf(text)[0].errors, 2);
    }
}
