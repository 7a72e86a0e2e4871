//! Threads of a process, from /proc: ticks in and out of the kernel, and context switches.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use super::ThreadCost;
use crate::procfs::{CpuTimes, with_descendants};

/// One thread's counts since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Thread {
    name: String,
    user_ticks: u64,
    system_ticks: u64,
    voluntary: u64,
    involuntary: u64,
}

/// Threads of a process and its descendants, by process and thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads(BTreeMap<(u32, u32), Thread>);

impl Threads {
    /// Those alive now.
    pub(super) fn read(pid: u32) -> Self {
        let mut threads = BTreeMap::new();
        for process in with_descendants(pid) {
            for entry in fs::read_dir(format!("/proc/{process}/task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let Some(tid) = entry.file_name().to_str().and_then(|s| s.parse::<u32>().ok()) else {
                    continue;
                };
                let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
                if let Some(thread) = parse(&read("stat"), &read("status")) {
                    threads.insert((process, tid), thread);
                }
            }
        }
        Self(threads)
    }

    /// What they counted since `before`; a thread that is new counts in full.
    pub(super) fn since(&self, before: &Self) -> Self {
        let each = self.0.iter().map(|(key, now)| {
            let then = before.0.get(key).cloned().unwrap_or_default();
            let used = Thread {
                name: now.name.clone(),
                user_ticks: now.user_ticks.saturating_sub(then.user_ticks),
                system_ticks: now.system_ticks.saturating_sub(then.system_ticks),
                voluntary: now.voluntary.saturating_sub(then.voluntary),
                involuntary: now.involuntary.saturating_sub(then.involuntary),
            };
            (*key, used)
        });
        Self(each.collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn sum(&self, of: impl Fn(&Thread) -> u64) -> u64 {
        self.0.values().map(of).fold(0, u64::saturating_add)
    }

    /// CPU time out of the kernel, as a share.
    pub(super) fn user_share(&self) -> f64 {
        let (user, system) = (self.sum(|t| t.user_ticks) as f64, self.sum(|t| t.system_ticks) as f64);
        if user + system > 0.0 {
            user / (user + system)
        } else {
            0.0
        }
    }

    pub(super) fn voluntary(&self) -> u64 {
        self.sum(|t| t.voluntary)
    }

    pub(super) fn involuntary(&self) -> u64 {
        self.sum(|t| t.involuntary)
    }

    /// Thread by thread, busiest first.
    pub(super) fn costs(&self, now: &CpuTimes, before: &CpuTimes, count_max: usize) -> Vec<ThreadCost> {
        let mut costs: Vec<ThreadCost> = self
            .0
            .iter()
            .map(|(&(process, tid), thread)| ThreadCost {
                tid,
                name: thread.name.clone(),
                cpu_seconds: now.of_thread_since(process, tid, before) as f64 / 1e9,
                voluntary_switches: thread.voluntary,
                involuntary_switches: thread.involuntary,
            })
            .filter(|cost| cost.cpu_seconds > 0.0)
            .collect();
        costs.sort_by(|a, b| b.cpu_seconds.total_cmp(&a.cpu_seconds));
        costs.truncate(count_max);
        costs
    }
}

/// `/proc/<pid>/task/<tid>/stat` (fields 2, 14 and 15 of proc_pid_stat(5)) and `status`.
fn parse(stat: &str, status: &str) -> Option<Thread> {
    let (before, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let user_ticks = fields.nth(11)?.parse().ok()?;
    let system_ticks = fields.next()?.parse().ok()?;
    let switches = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    Some(Thread {
        name: before.split_once('(')?.1.to_owned(),
        user_ticks,
        system_ticks,
        voluntary: switches("voluntary_ctxt_switches:")?,
        involuntary: switches("nonvoluntary_ctxt_switches:")?,
    })
}

/// The command line of a process; paths below the present folder as seen from there, since runs are kept and passed on.
pub(super) fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = bytes
        .split(|b| *b == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let words = words.join(" ");
    match std::env::current_dir() {
        Ok(folder) if folder.parent().is_some() => words.replace(&format!("{}/", folder.display()), ""),
        _ => words,
    }
}

/// The process that listens at an address of this machine, or at all addresses. Of several (a parent and its workers, who
/// share a socket) the one whose descendants the others are, as numbers go the lowest.
pub(super) fn listener(address: SocketAddr) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .flat_map(|path| listening(&fs::read_to_string(path).unwrap_or_default(), address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().find(|pid| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
    })
}

/// Inodes of the sockets that listen on a port: state 0A (proc_net_tcp, Documentation/networking).
fn listening(table: &str, port: u16) -> Vec<u64> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let listens = *fields.get(3)? == "0A" && local == port;
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lines_are_read() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 5";
        let status = "Name:\ta\nvoluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t4\n";
        let thread = parse(stat, status).unwrap();
        assert_eq!(
            (
                thread.name.as_str(),
                thread.user_ticks,
                thread.system_ticks,
                thread.voluntary,
                thread.involuntary
            ),
            ("a) b", 30, 12, 9, 4)
        );
        assert_eq!(parse("7 (x) S", status), None);
        let table = "  sl  local_address rem_address st\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n\
             1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000 0 0 4712 1\n";
        assert_eq!(listening(table, 8080), [4711]);
        assert!(listening(table, 8081).is_empty());
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener_socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listener(listener_socket.local_addr().unwrap());
        assert_eq!(found, Some(std::process::id()));
        assert!(!command(std::process::id()).is_empty());
    }

    #[test]
    fn switches_go_up() {
        let pid = std::process::id();
        let before = Threads::read(pid);
        std::thread::sleep(std::time::Duration::from_millis(5));
        let used = Threads::read(pid).since(&before);
        assert!(used.count() >= 1 && used.voluntary() >= 1, "{used:?}");
        assert!((0.0..=1.0).contains(&used.user_share()));
    }
}
