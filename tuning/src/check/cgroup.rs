//! The CPU quota that applies to this process: the tightest of its cgroup and every parent, v2 or v1.

use super::Read;

/// The tightest quota in CPUs; `None` where there is none.
pub(super) fn quota_cpus(read: Read<'_>) -> Option<f64> {
    let groups = read("/proc/self/cgroup")?;
    let mut tightest: Option<f64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let v1 = controllers.split(',').any(|c| c == "cpu");
        if !controllers.is_empty() && !v1 {
            continue;
        }
        for group in with_parents(path) {
            let quota = if v1 {
                v1_quota(read, group)
            } else {
                v2_quota(read, group)
            };
            if let Some(quota) = quota {
                tightest = Some(tightest.map_or(quota, |t| t.min(quota)));
            }
        }
    }
    tightest
}

/// `/a/b` gives `/a/b`, `/a` and the root, which is empty.
fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path.trim_end_matches('/')), |p| {
        p.rfind('/').and_then(|at| p.get(..at))
    })
}

/// `cpu.max` is "quota period" in microseconds, or "max period" (Documentation/admin-guide/cgroup-v2.rst).
fn v2_quota(read: Read<'_>, group: &str) -> Option<f64> {
    let text = read(&format!("/sys/fs/cgroup{group}/cpu.max"))?;
    let mut fields = text.split_ascii_whitespace();
    ratio(fields.next()?, fields.next()?)
}

/// `cpu.cfs_quota_us` is -1 for none (Documentation/scheduler/sched-bwc.rst).
fn v1_quota(read: Read<'_>, group: &str) -> Option<f64> {
    let file = |name: &str| {
        ["cpu", "cpu,cpuacct"]
            .iter()
            .find_map(|mount| read(&format!("/sys/fs/cgroup/{mount}{group}/{name}")))
    };
    ratio(file("cpu.cfs_quota_us")?.trim(), file("cpu.cfs_period_us")?.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(files: &[(&str, &str)]) -> Option<f64> {
        quota_cpus(&|path| {
            files
                .iter()
                .find(|(p, _)| *p == path)
                .map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_tightest_of_group_and_parents_counts() {
        let v2 = [
            ("/proc/self/cgroup", "0::/pod/app\n"),
            ("/sys/fs/cgroup/pod/app/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ];
        assert_eq!(quota(&v2), Some(1.5));
        let v1 = [
            ("/proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/pod\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us", "200000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(quota(&v1), Some(2.0));
    }

    #[test]
    fn no_quota_and_odd_text_are_none() {
        assert_eq!(quota(&[]), None);
        assert_eq!(
            quota(&[
                ("/proc/self/cgroup", "0::/\n"),
                ("/sys/fs/cgroup/cpu.max", "max 100000")
            ]),
            None
        );
        assert_eq!(
            quota(&[("/proc/self/cgroup", "x\n0::/\n"), ("/sys/fs/cgroup/cpu.max", "1 0")]),
            None
        );
        let root = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/cpu.max", "50000 100000"),
        ];
        assert_eq!(quota(&root), Some(0.5));
    }
}
