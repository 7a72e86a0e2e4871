//! `neighbour`: the service as a pod with 1 CPU of all: in a control group with a quota, alone and beside a neighbour that
//! takes whatever CPU it gets. The group is made below this process' own, and removed afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use super::report::{State, Step};
use super::stage::{Judge, Spec, Stage, words};
use crate::compare::quoted;
use crate::guard::Folder;
use crate::server::Spinner;

/// Microseconds of a period, and of CPU in it: one CPU.
const PERIOD_US: u64 = 100_000;
const QUOTA_US: u64 = 100_000;

/// A control group with a quota, removed when dropped: a folder to look at.
struct Group(Folder);

impl Group {
    /// # Errors
    /// In words: no such controller here, or no right to make a group.
    fn new() -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("/proc/self/cgroup: {e}"))?;
        let of = |wanted: &str| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let controllers = parts.next()?;
                let path = parts.next()?.trim_start_matches('/');
                controllers.split(',').any(|one| one == wanted).then(|| path.to_owned())
            })
        };
        let name = format!("roadtrip-suite-{}", std::process::id());
        let make = |path: PathBuf, limits: &[(&str, String)]| -> Result<Self, String> {
            let group = Self(Folder::at(path).map_err(|e| format!("a control group: {e}"))?);
            for (file, value) in limits {
                fs::write(group.0.0.join(file), value)
                    .map_err(|e| format!("cannot set {file} of {}: {e}", group.0.0.display()))?;
            }
            Ok(group)
        };
        if let Some(own) = of("cpu") {
            let limits = [
                ("cpu.cfs_period_us", PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", QUOTA_US.to_string()),
            ];
            return make(Path::new("/sys/fs/cgroup/cpu").join(own).join(&name), &limits);
        }
        let own = of("").ok_or("there is no cpu controller of control groups here")?;
        let limits = [("cpu.max", format!("{QUOTA_US} {PERIOD_US}"))];
        make(Path::new("/sys/fs/cgroup").join(own).join(&name), &limits)
    }

    /// Words before a command that put it into the group.
    fn words(&self) -> String {
        format!(
            "sh -c 'echo $$ > \"$0\" && exec \"$@\"' {}",
            quoted(&self.0.0.join("cgroup.procs"))
        )
    }

    /// Periods in which it was stopped, and seconds for which.
    fn throttled(&self) -> (f64, f64) {
        let text = fs::read_to_string(self.0.0.join("cpu.stat")).unwrap_or_default();
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

pub(super) fn run(stage: &Stage) -> Result<Vec<Step>, String> {
    let group = match Group::new() {
        Ok(group) => group,
        Err(why) => {
            let what = "a pod with 1 CPU beside a neighbour";
            return Ok(vec![Step::without_run("group", what, State::Skipped, Some(why))]);
        }
    };
    let mut steps = Vec::new();
    for (name, what, workers, is_noisy, rate) in [
        (
            "alone",
            "1 CPU of quota, as many workers as it takes for that, 1000 stories/s",
            "",
            false,
            Some("1000"),
        ),
        (
            "two-workers",
            "1 CPU of quota for two workers, as fast as they answer: the kernel stops them",
            "2",
            false,
            None,
        ),
        (
            "noisy",
            "1 CPU of quota beside a neighbour that spins on the server's CPU, 1000 stories/s",
            "",
            true,
            Some("1000"),
        ),
    ] {
        // Two workers in a quota of one CPU are stopped only where they find two CPUs.
        let cpu = if workers == "2" { None } else { stage.server_cpu };
        let running = stage.serve_by(&group.words(), cpu, &[("WORKERS", workers)])?;
        running.prime()?;
        let _neighbour = is_noisy.then(|| Spinner::start(stage.server_cpu)).transpose()?;
        let before = group.throttled();
        let mut all = stage.cached_story(&running);
        all.extend(words(&["-c", "32"]));
        all.extend(rate.iter().flat_map(|rate| words(&["--rate", rate])));
        let mut step = stage.step(
            "neighbour",
            &running,
            &Spec {
                name,
                what,
                words: all,
                fail_if: if rate.is_some() {
                    &["p99>200ms", "errors>0"]
                } else {
                    &["errors>0"]
                },
                judge: if rate.is_some() {
                    Judge::Latency
                } else {
                    Judge::Throughput
                },
                seconds: None,
            },
        );
        let after = group.throttled();
        step.figures.insert("throttled_periods".to_owned(), after.0 - before.0);
        step.figures.insert("throttled_seconds".to_owned(), after.1 - before.1);
        steps.push(step);
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_gone_when_it_is_dropped() {
        match Group::new() {
            Err(why) => assert!(why.contains("control group") || why.contains("cpu"), "{why}"),
            Ok(group) => {
                let path = group.0.0.clone();
                assert!(path.exists() && group.throttled() == (0.0, 0.0));
                drop(group);
                assert!(!path.exists());
            }
        }
    }
}
