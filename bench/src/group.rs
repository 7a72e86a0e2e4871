//! A control group with a quota of CPU: a pod's limit, or a server that a load on one CPU can saturate.
//!
//! Made below this process' own group, in version 1 or 2 of the file system, and removed afterwards.

use std::fs;
use std::path::Path;

use crate::guard::Folder;
use crate::told::quoted;

/// Microseconds of quota that the kernel asks for at least, and of a period.
const QUOTA_MIN_US: u64 = 1000;
/// With this period a group has the shortest that its share allows: what waits for a quota waits least.
pub(crate) const PERIOD_MIN_US: u64 = 1000;

/// A control group, removed when dropped.
pub(crate) struct Group {
    folder: Folder,
    period_us: u64,
    is_first_version: bool,
}

impl Group {
    /// A group whose processes get `share` CPUs together, period by period; the period is longer where the quota would be
    /// less than the kernel takes.
    ///
    /// # Errors
    /// In words: no such controller here, or no right to make a group.
    pub(crate) fn new(what: &str, period_us: u64, share: f64) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("/proc/self/cgroup: {e}"))?;
        let of = |wanted: &str| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let controllers = parts.next()?;
                let path = parts.next()?.trim_start_matches('/');
                controllers.split(',').any(|one| one == wanted).then(|| path.to_owned())
            })
        };
        let name = format!("roadtrip-{what}-{}", std::process::id());
        let (path, is_first_version) = match of("cpu") {
            Some(own) => (Path::new("/sys/fs/cgroup/cpu").join(own), true),
            None => {
                let own = of("").ok_or("there is no cpu controller of control groups here")?;
                (Path::new("/sys/fs/cgroup").join(own), false)
            }
        };
        let group = Self {
            folder: Folder::at(path.join(name)).map_err(|e| format!("a control group: {e}"))?,
            period_us,
            is_first_version,
        };
        group.limit(Some(share))?;
        Ok(group)
    }

    /// Sets how many CPUs its processes get together; `None`: as many as there are.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn limit(&self, share: Option<f64>) -> Result<(), String> {
        let period_us = share.map_or(self.period_us, |share| period(self.period_us, share));
        let quota = share.map(|share| ((period_us as f64 * share) as u64).max(QUOTA_MIN_US));
        if self.is_first_version {
            self.set("cpu.cfs_period_us", &period_us.to_string())?;
            return self.set(
                "cpu.cfs_quota_us",
                &quota.map_or("-1".to_owned(), |quota| quota.to_string()),
            );
        }
        let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
        self.set("cpu.max", &format!("{quota} {period_us}"))
    }

    fn set(&self, file: &str, value: &str) -> Result<(), String> {
        let path = &self.folder.0;
        fs::write(path.join(file), value).map_err(|e| format!("cannot set {file} of {}: {e}", path.display()))
    }

    /// Words before a command that put it into the group.
    pub(crate) fn words(&self) -> String {
        format!(
            "sh -c 'echo $$ > \"$0\" && exec \"$@\"' {}",
            quoted(&self.folder.0.join("cgroup.procs"))
        )
    }

    /// Periods in which it was stopped, and seconds for which.
    pub(crate) fn throttled(&self) -> (f64, f64) {
        let text = fs::read_to_string(self.folder.0.join("cpu.stat")).unwrap_or_default();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok())
        };
        // Version 1 counts nanoseconds, version 2 microseconds.
        let time = of("throttled_time")
            .map(|ns| ns / 1e9)
            .or(of("throttled_usec").map(|us| us / 1e6));
        (of("nr_throttled").unwrap_or(0.0), time.unwrap_or(0.0))
    }
}

/// The period asked for, or the shortest in which so many CPUs are a quota that the kernel takes.
fn period(asked_us: u64, share: f64) -> u64 {
    asked_us.max((QUOTA_MIN_US as f64 / share).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_has_a_longer_period_and_no_larger_quota() {
        for (asked, share, expected) in [
            (5000, 0.3, 5000),
            (5000, 0.05, 20_000),
            (PERIOD_MIN_US, 0.3, 3334),
            (PERIOD_MIN_US, 2.0, 1000),
        ] {
            assert_eq!(period(asked, share), expected, "{share} of {asked}");
        }
    }

    #[test]
    fn a_group_is_gone_when_it_is_dropped() {
        match Group::new("test", 100_000, 0.5) {
            Err(why) => assert!(why.contains("control group") || why.contains("cpu"), "{why}"),
            Ok(group) => {
                let path = group.folder.0.clone();
                assert!(path.exists() && group.throttled() == (0.0, 0.0));
                group.limit(None).unwrap();
                group.limit(Some(0.1)).unwrap();
                drop(group);
                assert!(!path.exists());
            }
        }
    }
}
