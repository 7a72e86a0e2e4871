//! What the kernel says of a process: CPU time and memory, from /proc. Linux only.

use std::collections::BTreeMap;
use std::fs;

/// CPU time of a process and all its descendants, in nanoseconds.
///
/// Summed over the threads alive now from `/proc/<pid>/task/<tid>/schedstat` (first field: time on a CPU, exact),
/// where `/proc/<pid>/stat` would count by ticks of 10 ms. A thread that ended between two readings takes its time
/// with it; [`CpuTimes::since`] counts only threads seen in both readings or new in the second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes(BTreeMap<(u32, u32), u64>);

impl CpuTimes {
    /// Reads the times of `pid` and its descendants.
    ///
    /// # Errors
    /// The process is gone, or the kernel has no schedstat.
    pub(crate) fn read(pid: u32) -> Result<Self, String> {
        let mut times = BTreeMap::new();
        for process in with_descendants(pid) {
            let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else {
                continue;
            };
            for task in tasks.flatten() {
                let Some(tid) = task.file_name().to_str().and_then(|s| s.parse::<u32>().ok()) else {
                    continue;
                };
                let path = format!("/proc/{process}/task/{tid}/schedstat");
                if let Some(ns) = fs::read_to_string(path)
                    .ok()
                    .and_then(|text| schedstat(&text))
                    .map(|s| s.0)
                {
                    times.insert((process, tid), ns);
                }
            }
        }
        if times.is_empty() {
            return Err(format!(
                "cannot read the CPU time of process {pid}: it is gone, or /proc has no schedstat"
            ));
        }
        Ok(Self(times))
    }

    /// Nanoseconds used by one thread since `before`.
    pub(crate) fn of_thread_since(&self, pid: u32, tid: u32, before: &Self) -> u64 {
        let of = |times: &Self| times.0.get(&(pid, tid)).copied().unwrap_or(0);
        of(self).saturating_sub(of(before))
    }

    /// Nanoseconds used since `before`.
    pub(crate) fn since(&self, before: &Self) -> u64 {
        self.0
            .iter()
            .map(|(task, &ns)| ns.saturating_sub(before.0.get(task).copied().unwrap_or(0)))
            .fold(0, u64::saturating_add)
    }
}

/// Time on a CPU and time waiting for one, in nanoseconds, of a schedstat line (Documentation/scheduler/sched-stats).
fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// Time the calling thread has waited for a CPU, in nanoseconds; 0 where the kernel does not say.
pub(crate) fn this_thread_starved_ns() -> u64 {
    fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|t| schedstat(&t))
        .map_or(0, |s| s.1)
}

/// `pid` and every process under it.
pub(crate) fn with_descendants(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|s| s.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) = fs::read_to_string(format!("/proc/{child}/stat"))
            .ok()
            .and_then(|t| parent_of(&t))
        {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(next) = all.get(at) {
        all.extend(children.remove(next).unwrap_or_default());
        at += 1;
    }
    all
}

/// Field 4 of `/proc/<pid>/stat`; the name in field 2 may hold spaces and brackets, so counting starts after the last.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Memory of a process and its descendants, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Memory {
    /// Resident set: VmRSS, shared pages counted in each process.
    pub(crate) rss: u64,
    /// Proportional set: shared pages divided among those that map them.
    pub(crate) pss: u64,
}

impl Memory {
    /// Reads `/proc/<pid>/smaps_rollup`, which walks the page tables and so is exact (VmRSS in `status` lags by up to
    /// 64 pages for each thread).
    ///
    /// # Errors
    /// The process is gone, or belongs to somebody else.
    pub(crate) fn read(pid: u32) -> Result<Self, String> {
        let mut sum = Self::default();
        for process in with_descendants(pid) {
            let path = format!("/proc/{process}/smaps_rollup");
            match fs::read_to_string(&path) {
                Ok(text) => {
                    sum.rss = sum.rss.saturating_add(kib_field(&text, "Rss:").unwrap_or(0));
                    sum.pss = sum.pss.saturating_add(kib_field(&text, "Pss:").unwrap_or(0));
                }
                Err(e) if process == pid => return Err(format!("cannot read {path}: {e}")),
                Err(_) => {}
            }
        }
        Ok(sum)
    }
}

/// A line `Name:   123 kB` in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lines_are_read() {
        assert_eq!(schedstat("123 45 6\n"), Some((123, 45)));
        assert_eq!(schedstat("x"), None);
        assert_eq!(parent_of("12 (a) b) c) S 7 1 1"), Some(7));
        assert_eq!(parent_of("12"), None);
        assert_eq!(
            kib_field("00-ff r\nRss:      8 kB\nPss:  3 kB\nPss_Anon: 1 kB", "Pss:"),
            Some(3072)
        );
        assert_eq!(kib_field("", "Rss:"), None);
    }

    #[test]
    fn own_cpu_and_memory_are_found() {
        let pid = std::process::id();
        let before = CpuTimes::read(pid).unwrap();
        let start = crate::clock::now_ns();
        while crate::clock::now_ns() - start < 60_000_000 {}
        let used = CpuTimes::read(pid).unwrap().since(&before);
        assert!(used > 5_000_000, "{used}");
        let memory = Memory::read(pid).unwrap();
        assert!(memory.rss >= memory.pss && memory.pss > 100_000, "{memory:?}");
        assert!(with_descendants(pid).contains(&pid));
        assert!(CpuTimes::read(u32::MAX - 1).is_err() && Memory::read(u32::MAX - 1).is_err());
    }

    #[test]
    fn threads_that_come_and_go_are_counted_once() {
        let before = CpuTimes(BTreeMap::from([((1, 1), 10), ((1, 2), 99)]));
        let after = CpuTimes(BTreeMap::from([((1, 1), 15), ((1, 3), 7)]));
        assert_eq!(after.since(&before), 12);
    }
}
