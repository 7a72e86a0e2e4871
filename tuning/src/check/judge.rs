//! The judgement on each setting: one function each, from the text of a file to a finding.

use super::{Finding, Read, cgroup};

/// Accept queue that a burst of connections needs; also the backlog that the service asks for.
const SOMAXCONN_MIN: u64 = 4096;
/// Half-open connections, where no SYN cookies take over.
const SYN_BACKLOG_MIN: u64 = 4096;
/// Ports for connections out of the host (databases, the upstream, load tests); the default range has 28232.
const PORTS_MIN: u64 = 20_000;
/// Files beyond the connections: rings, stores, logs, pools.
const FILES_SPARE: u64 = 1024;
/// Locked memory that rings and their buffers may be counted against.
const MEMLOCK_BYTES_MIN: u64 = 8 * 1024 * 1024;

const NOT_READABLE: &str = "not readable";

/// All findings, in the order of their weight.
pub(super) fn all(read: Read<'_>, connections: u64) -> Vec<Finding> {
    vec![
        kernel(read),
        uring_disabled(read),
        seccomp(read),
        nofile(read, connections),
        memlock(read),
        somaxconn(read),
        syn_backlog(read),
        port_range(read),
        quota(read),
        governor(read),
        huge_pages(read),
    ]
}

fn number(read: Read<'_>, path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn kernel(read: Read<'_>) -> Finding {
    let name = "kernel version";
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let remedy = "run on a node image with Linux 6.1 or later";
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 1) => Finding::ok(
            name,
            release,
            "6.1 and later have all of io_uring that the service uses",
        ),
        (Some(Ok(_)), Some(Ok(_))) => {
            let why = "before 6.1 there is no DEFER_TASKRUN: the service falls back to epoll";
            Finding::warn(name, release, why, remedy)
        }
        _ => Finding::warn(
            name,
            NOT_READABLE,
            "whether io_uring is there cannot be told",
            "look at `uname -r`",
        ),
    }
}

fn uring_disabled(read: Read<'_>) -> Finding {
    let name = "kernel.io_uring_disabled";
    let remedy = "sysctl -w kernel.io_uring_disabled=0";
    match number(read, "/proc/sys/kernel/io_uring_disabled") {
        Some(0) => Finding::ok(name, "0", "every process may use io_uring"),
        Some(1) => {
            let why = "only privileged processes and kernel.io_uring_group may use io_uring: others fall back to epoll";
            Finding::warn(name, "1", why, remedy)
        }
        Some(n) => Finding::warn(
            name,
            n.to_string(),
            "io_uring is off: the service falls back to epoll",
            remedy,
        ),
        None => Finding::ok(
            name,
            "absent",
            "the setting came with 6.6; before it nothing is disabled",
        ),
    }
}

fn seccomp(read: Read<'_>) -> Finding {
    let name = "seccomp filter";
    let status = read("/proc/self/status").unwrap_or_default();
    match status.lines().find_map(|l| l.strip_prefix("Seccomp:")).map(str::trim) {
        Some("0") => Finding::ok(name, "none", "no filter stands between the service and io_uring"),
        Some(mode) => {
            let why = "a filter is on; the default ones of Docker and containerd refuse io_uring, and epoll takes over";
            let remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile; \
                          `roadtrip-bench floor --port 0` tells whether they pass";
            Finding::warn(name, format!("mode {mode}"), why, remedy)
        }
        None => Finding::ok(name, "absent", "the kernel has no seccomp"),
    }
}

/// Soft and hard limit of a line of /proc/self/limits; `u64::MAX` is unlimited.
fn limit(read: Read<'_>, name: &str) -> Option<(u64, u64)> {
    let text = read("/proc/self/limits")?;
    let mut fields = text
        .lines()
        .find_map(|l| l.strip_prefix(name))?
        .split_ascii_whitespace()
        .map(|f| match f {
            "unlimited" => Some(u64::MAX),
            _ => f.parse().ok(),
        });
    Some((fields.next()??, fields.next()??))
}

fn shown(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}

fn nofile(read: Read<'_>, connections: u64) -> Finding {
    let name = "open files (RLIMIT_NOFILE)";
    let needed = connections.saturating_add(FILES_SPARE);
    let Some((soft, hard)) = limit(read, "Max open files") else {
        return Finding::warn(name, NOT_READABLE, "each connection is a file", "look at `ulimit -n`");
    };
    let value = format!("soft {}, hard {}", shown(soft), shown(hard));
    let remedy =
        format!("ulimit -n {needed} (systemd: LimitNOFILE={needed}; containers: the runtime's default ulimits)");
    if soft >= needed {
        Finding::ok(
            name,
            value,
            format!("{connections} connections and {FILES_SPARE} other files fit"),
        )
    } else if hard >= needed {
        let why = format!("{needed} files are needed; the soft limit is lower, though the hard one would allow them");
        Finding::warn(name, value, why, remedy)
    } else {
        Finding::warn(
            name,
            value,
            format!("{needed} files are needed: connections beyond the limit are refused"),
            remedy,
        )
    }
}

fn memlock(read: Read<'_>) -> Finding {
    let name = "locked memory (RLIMIT_MEMLOCK)";
    let remedy = "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; containers: --ulimit memlock=-1)";
    match limit(read, "Max locked memory") {
        Some((soft, _)) if soft >= MEMLOCK_BYTES_MIN => Finding::ok(
            name,
            format!("{} bytes", shown(soft)),
            "rings and their buffers fit, where the kernel counts them",
        ),
        Some((soft, _)) => {
            let why = "rings and their buffers may count against it, for all processes of the user: set-up may fail";
            Finding::warn(name, format!("{soft} bytes"), why, remedy)
        }
        None => Finding::warn(name, NOT_READABLE, "rings may count against it", "look at `ulimit -l`"),
    }
}

fn somaxconn(read: Read<'_>) -> Finding {
    let name = "net.core.somaxconn";
    match number(read, "/proc/sys/net/core/somaxconn") {
        Some(n) if n >= SOMAXCONN_MIN => Finding::ok(name, n.to_string(), "a burst of connections can wait for accept"),
        other => Finding::warn(
            name,
            other.map_or(NOT_READABLE.to_owned(), |n| n.to_string()),
            "it caps the accept queue: in a burst, connections are dropped and come back a second later",
            format!("sysctl -w net.core.somaxconn={SOMAXCONN_MIN}"),
        ),
    }
}

fn syn_backlog(read: Read<'_>) -> Finding {
    let name = "net.ipv4.tcp_max_syn_backlog";
    let Some(n) = number(read, "/proc/sys/net/ipv4/tcp_max_syn_backlog") else {
        let why = "not shown in this network namespace; it bounds half-open connections where SYN cookies are off";
        return Finding::ok(name, NOT_READABLE, why);
    };
    let cookies = number(read, "/proc/sys/net/ipv4/tcp_syncookies").is_some_and(|c| c > 0);
    if n >= SYN_BACKLOG_MIN {
        Finding::ok(name, n.to_string(), "half-open connections have room")
    } else if cookies {
        Finding::ok(
            name,
            n.to_string(),
            "low, but SYN cookies are on and take over when the queue is full",
        )
    } else {
        let why = "SYN cookies are off, so a burst of half-open connections is dropped";
        Finding::warn(
            name,
            n.to_string(),
            why,
            format!("sysctl -w net.ipv4.tcp_max_syn_backlog={SYN_BACKLOG_MIN}"),
        )
    }
}

fn port_range(read: Read<'_>) -> Finding {
    let name = "net.ipv4.ip_local_port_range";
    let text = read("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = text.split_ascii_whitespace().map(str::parse::<u64>);
    let remedy = "sysctl -w net.ipv4.ip_local_port_range='10240 65535'";
    let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else {
        return Finding::ok(
            name,
            NOT_READABLE,
            "not shown in this network namespace; it bounds connections going out",
        );
    };
    let ports = high.saturating_add(1).saturating_sub(low);
    let value = format!("{low} to {high}");
    if ports >= PORTS_MIN {
        Finding::ok(name, value, format!("{ports} connections can go out to one address"))
    } else {
        let why = format!("only {ports} connections can go out to one address: databases, the upstream, load tests");
        Finding::warn(name, value, why, remedy)
    }
}

fn quota(read: Read<'_>) -> Finding {
    let name = "cgroup CPU quota";
    match cgroup::quota_cpus(read) {
        None => Finding::ok(name, "none", "the service is never throttled"),
        Some(cpus) if cpus >= 1.0 && (cpus - cpus.round()).abs() < 0.005 => Finding::ok(
            name,
            format!("{cpus:.0} CPUs"),
            "a whole number: one worker for each CPU uses it up evenly",
        ),
        Some(cpus) => Finding::warn(
            name,
            format!("{cpus:.2} CPUs"),
            "workers are whole and the quota is not: at full load each is stopped for part of every period, which shows in P99",
            format!("set the pod's CPU limit to {:.0}", cpus.ceil().max(1.0)),
        ),
    }
}

fn governor(read: Read<'_>) -> Finding {
    let name = "CPU frequency governor";
    let path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    match read(path).map(|t| t.trim().to_owned()) {
        None => Finding::ok(
            name,
            "absent",
            "the CPU's frequency is not this system's to choose (a virtual machine)",
        ),
        Some(g) if g == "performance" => Finding::ok(name, g, "the frequency does not follow the load with a delay"),
        Some(g) => {
            let why = "the frequency follows the load with a delay: latency at low load is higher, figures less steady";
            Finding::warn(name, g, why, "cpupower frequency-set -g performance")
        }
    }
}

fn huge_pages(read: Read<'_>) -> Finding {
    let name = "transparent huge pages";
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let text = read(path).unwrap_or_default();
    let chosen = text
        .split_ascii_whitespace()
        .find_map(|w| w.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        None => Finding::ok(name, "absent", "pages are small, and memory is what is used"),
        Some("always") => Finding::warn(
            name,
            "always",
            "sparse heaps are rounded up to 2 MiB pages: resident memory grows, and compaction shows in the tail of latency",
            format!("echo madvise > {path}"),
        ),
        Some(mode) => Finding::ok(name, mode, "only memory that asks for huge pages gets them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max locked memory         8388608              unlimited            bytes     \n\
                          Max open files            20000                40000                files     \n";

    fn judged(files: &[(&str, &str)], connections: u64) -> Vec<Finding> {
        all(
            &|path| files.iter().find(|(p, _)| *p == path).map(|(_, t)| (*t).to_owned()),
            connections,
        )
    }

    fn one(setting: &str, files: &[(&str, &str)]) -> Finding {
        judged(files, 8000).into_iter().find(|f| f.setting == setting).unwrap()
    }

    #[test]
    fn a_good_host_has_no_warning() {
        let good = [
            ("/proc/sys/kernel/osrelease", "6.18.44-x\n"),
            ("/proc/sys/kernel/io_uring_disabled", "0\n"),
            ("/proc/self/status", "Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n"),
            ("/proc/self/limits", LIMITS),
            ("/proc/sys/net/core/somaxconn", "4096\n"),
            ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
            ("/proc/sys/net/ipv4/tcp_syncookies", "1\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("/proc/self/cgroup", "0::/\n"),
            (
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never\n",
            ),
        ];
        let findings = judged(&good, 8000);
        assert!(findings.iter().all(|f| f.ok && f.remedy.is_none()), "{findings:#?}");
        assert!(
            judged(&good, 19_000)
                .iter()
                .any(|f| !f.ok && f.setting.starts_with("open files"))
        );
    }

    #[test]
    fn each_bad_setting_warns_and_names_a_remedy() {
        let bad: [(&str, &[(&str, &str)]); 13] = [
            ("kernel version", &[("/proc/sys/kernel/osrelease", "5.15.0-91-generic")]),
            ("kernel version", &[("/proc/sys/kernel/osrelease", "odd")]),
            (
                "kernel.io_uring_disabled",
                &[("/proc/sys/kernel/io_uring_disabled", "1")],
            ),
            (
                "kernel.io_uring_disabled",
                &[("/proc/sys/kernel/io_uring_disabled", "2")],
            ),
            ("seccomp filter", &[("/proc/self/status", "Seccomp:\t2")]),
            (
                "open files (RLIMIT_NOFILE)",
                &[("/proc/self/limits", "Max open files  1024  1024 files")],
            ),
            (
                "locked memory (RLIMIT_MEMLOCK)",
                &[("/proc/self/limits", "Max locked memory  65536 65536 bytes")],
            ),
            ("net.core.somaxconn", &[("/proc/sys/net/core/somaxconn", "128")]),
            (
                "net.ipv4.tcp_max_syn_backlog",
                &[
                    ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "128"),
                    ("/proc/sys/net/ipv4/tcp_syncookies", "0"),
                ],
            ),
            (
                "net.ipv4.ip_local_port_range",
                &[("/proc/sys/net/ipv4/ip_local_port_range", "50000 60000")],
            ),
            (
                "cgroup CPU quota",
                &[
                    ("/proc/self/cgroup", "0::/"),
                    ("/sys/fs/cgroup/cpu.max", "150000 100000"),
                ],
            ),
            (
                "CPU frequency governor",
                &[("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")],
            ),
            (
                "transparent huge pages",
                &[("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")],
            ),
        ];
        for (setting, files) in bad {
            let finding = one(setting, files);
            assert!(!finding.ok && finding.remedy.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn a_limit_that_only_the_soft_one_bars_says_so() {
        let finding = one(
            "open files (RLIMIT_NOFILE)",
            &[("/proc/self/limits", "Max open files 1024 unlimited files")],
        );
        assert!(
            !finding.ok && finding.why.contains("hard one would allow"),
            "{finding:?}"
        );
        assert_eq!(finding.value, "soft 1024, hard unlimited");
    }

    #[test]
    fn old_and_new_kernels() {
        assert!(one("kernel version", &[("/proc/sys/kernel/osrelease", "6.1.0")]).ok);
        assert!(!one("kernel version", &[("/proc/sys/kernel/osrelease", "6.0.19")]).ok);
        assert!(one("kernel version", &[("/proc/sys/kernel/osrelease", "10.0-rc1")]).ok);
    }
}
