//! `cores`: what a worker more brings. The cached story in a closed loop, by 1, 2, 4 ... workers up to the CPUs there are, each
//! pinned to a CPU of its own, all in a control group with a share of a CPU for each.
//!
//! The quota is there for the generator's sake: it costs about as much as what it measures, and without other machines it has
//! what the server leaves it. So throughput is what the server can do on that quota, and what a worker more brings less than the
//! first is what workers share, or what their CPUs do (caches, clock, the two threads of a core), with the generator, too. The
//! quota is the group's and not a worker's: the kernel hands it out in slices of 5 ms a CPU (sched_cfs_bandwidth_slice_us), so the
//! period is one in which there are several for each, else workers would take turns. Beyond the quota they are all stopped:
//! they are not measured beside all that a whole CPU each would do.

use roadtrip_api::runtime::topology;

use super::report::{State, Step};
use super::stage::{Judge, Spec, Stage, hold_to_quota, words};
use crate::group::Group;
use crate::open_files;

/// Microseconds of a period: what kubelet asks of the kernel, and six slices for each worker.
const PERIOD_US: u64 = 100_000;
/// Of its quota, what a server has to use up for its throughput to be more than a lower bound: efficiencies are ratios of these.
const USED_MIN: f64 = 0.97;
/// CPUs for each worker.
const SHARE: f64 = 0.3;
/// Connections for each worker: batches are as large with many as with one.
const CONNECTIONS: usize = 64;
/// Descriptors that are left to everything else.
const SPARE_FILES: u64 = 256;
const STEPS_MAX: usize = 8;

/// Powers of two and the last; of more than there may be the first, and the greatest.
fn counts(cpus: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1_usize), |n| n.checked_mul(2));
    let mut all: Vec<usize> = powers.take_while(|n| *n < cpus).chain([cpus]).collect();
    let excess = all.len().saturating_sub(STEPS_MAX);
    all.drain(1..1 + excess);
    all
}

pub(super) fn run(stage: &Stage) -> Result<Vec<Step>, String> {
    let cpus = topology::affinity().ok_or("the kernel does not say which CPUs there are")?;
    let skipped = |why: String| {
        let what = "workers on CPUs of their own";
        Ok(vec![Step::without_run("group", what, State::Skipped, Some(why))])
    };
    if cpus.len() < 2 {
        return skipped("there is 1 CPU here, and scaling with cores takes two".to_owned());
    }
    let group = match Group::new("cores", PERIOD_US, SHARE) {
        Ok(group) => group,
        Err(why) => return skipped(why),
    };
    let one = |workers| {
        step(stage, &group, &cpus, workers).unwrap_or_else(|why| {
            let what = "the cached story by so many workers";
            Step::without_run(&named(workers), what, State::Broken, Some(why))
        })
    };
    Ok(counts(cpus.len()).into_iter().map(one).collect())
}

/// A name that sorts by the number.
fn named(workers: usize) -> String {
    format!("workers-{workers:03}")
}

fn step(stage: &Stage, group: &Group, cpus: &[usize], workers: usize) -> Result<Step, String> {
    let quota = SHARE * workers as f64;
    let name = named(workers);
    let connections = CONNECTIONS.saturating_mul(workers);
    // Each thread of the generator has to have one.
    let cpus = cpus.get(..connections).unwrap_or(cpus);
    let what = format!("the cached story by {workers} worker(s) on {quota:.1} CPUs of quota");
    if let Err(why) = group.limit(Some(quota)) {
        return Ok(Step::without_run(&name, &what, State::Skipped, Some(why)));
    }
    open_files::allow(connections as u64 + SPARE_FILES)?;
    // On no one CPU: each worker finds its own.
    let env = [("WORKERS", workers.to_string()), ("PIN", "always".to_owned())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let running = stage.serve_by(&group.words(), None, &env)?;
    running.prime()?;
    let mut all = stage.cached_story(&running);
    all.extend(words(&["-c", &connections.to_string()]));
    let spec = Spec {
        name: &name,
        what: &what,
        words: all,
        fail_if: &["errors>0"],
        judge: Judge::Throughput,
        seconds: None,
    };
    let mut step = stage.step_on(cpus, "cores", &running, &spec);
    if step.requests > 0 {
        hold_to_quota(&mut step, quota, USED_MIN);
    }
    step.figures.insert("workers".to_owned(), workers as f64);
    step.figures.insert("quota_cpus".to_owned(), quota);
    if let Some(us) = step.cpu_us_per_request.filter(|us| *us > 0.0) {
        step.figures.insert("requests_per_cpu_second".to_owned(), 1e6 / us);
    }
    Ok(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_powers_of_two_and_the_last() {
        for (cpus, expected) in [
            (2, &[1, 2][..]),
            (6, &[1, 2, 4, 6]),
            (8, &[1, 2, 4, 8]),
            (96, &[1, 2, 4, 8, 16, 32, 64, 96]),
            (192, &[1, 4, 8, 16, 32, 64, 128, 192]),
        ] {
            assert_eq!(counts(cpus), expected, "{cpus}");
        }
    }
}
