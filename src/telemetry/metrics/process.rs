//! The process as the kernel sees it, under the names that all Prometheus clients use. Sources: proc(5).

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;

/// Ticks per second in /proc: the kernel's USER_HZ, 100 on every machine that Rust's Linux targets run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// One figure of the process.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// A counter, or else a gauge.
    pub(super) counts: bool,
    pub(super) value: f64,
}

/// All figures that can be read now; one that cannot is left out.
pub(super) fn figures() -> Vec<Figure> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let gauge = |name, help, value: Option<f64>| {
        value.map(|value| Figure {
            name,
            help,
            counts: false,
            value,
        })
    };
    [
        Some(Figure {
            name: "process_cpu_seconds_total",
            help: "User and system CPU time.",
            counts: true,
            value: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        }),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            field_kib(&status, "VmRSS:"),
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory.",
            field_kib(&status, "VmSize:"),
        ),
        gauge("process_threads", "Threads.", field(&status, "Threads:")),
        gauge(
            "process_open_fds",
            "Open file descriptors.",
            open_fds().map(|count| count as f64),
        ),
        gauge(
            "process_max_fds",
            "Limit of open file descriptors.",
            getrlimit(Resource::Nofile).current.map(|limit| limit as f64),
        ),
        gauge(
            "process_start_time_seconds",
            "Start of the process, seconds since 1970.",
            start_time(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The number behind `name` in /proc/self/status.
fn field(status: &str, name: &str) -> Option<f64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn field_kib(status: &str, name: &str) -> Option<f64> {
    field(status, name).map(|kib| kib * 1024.0)
}

/// Since Linux 6.2 the size of /proc/self/fd is the number of descriptors; before, it is 0 and they are counted.
pub(crate) fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The folder that is read is itself an open file.
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64),
        open => Some(open),
    }
}

/// Boot time and the process's start since then.
fn start_time() -> Option<f64> {
    let boot = field(&fs::read_to_string("/proc/stat").ok()?, "btime ")?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Field 2 is the name in parentheses and may hold anything; field 22 is the start, 19 behind field 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_figures_are_those_of_this_process() {
        let figures = figures();
        assert_eq!(figures.len(), 7);
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age} s old");
        assert!(value("process_resident_memory_bytes") > 500_000.0);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_threads") >= 1.0 && value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") > value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") > 0.0);
    }

    #[test]
    fn descriptors_are_counted() {
        let before = open_fds().unwrap();
        let files: Vec<_> = (0..200).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests open and close theirs meanwhile.
        assert!(open_fds().unwrap() > before + 100);
        drop(files);
    }
}
