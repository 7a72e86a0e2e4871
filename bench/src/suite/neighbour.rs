//! `neighbour`: the service as a pod with 1 CPU of all: in a control group with a quota, alone and beside a neighbour that
//! takes whatever CPU it gets. The group is made below this process' own, and removed afterwards.

use super::report::{State, Step};
use super::stage::{Judge, Spec, Stage, words};
use crate::group::Group;
use crate::server::Spinner;

/// Microseconds of a period: what kubelet asks of the kernel.
const PERIOD_US: u64 = 100_000;

pub(super) fn run(stage: &Stage) -> Result<Vec<Step>, String> {
    let group = match Group::new("suite", PERIOD_US, 1.0) {
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
