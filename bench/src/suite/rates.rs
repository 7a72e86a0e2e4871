//! `guide`, `saturation` and `latency`: what the scaling guide asks of a pod, what more and more load does to it, and how
//! long answers take at shares of what it can do.

use super::report::{HICCUPS, State, Step};
use super::stage::{Judge, Running, Spec, Stage, hold_to_quota, words};
use crate::compare::UTILISATION_MIN;
use crate::hiccups;

/// The guide's bound of the 99th percentile, and what it asks of a pod.
const GUIDE_P99: &str = "p99>200ms";
const GUIDE_RATE: &str = "3000";
/// The same for threads that do nothing.
const HICCUPS_RATE: f64 = 3000.0;
/// Users of its Locust run.
const GUIDE_USERS: &str = "1000";
/// Steps of the saturation curve, as shares of the capacity.
const CURVE: [f64; 9] = [0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5];
const CURVE_QUICK: [f64; 6] = [0.1, 0.5, 0.9, 1.0, 1.2, 1.5];
/// Shares of the capacity at which latency is looked at.
const SHARES: [f64; 8] = [0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95];
const SHARES_QUICK: [f64; 5] = [0.1, 0.5, 0.8, 0.9, 0.95];
/// Due and unanswered requests at which a step beyond the capacity gives arrivals up: a second's worth at most rates.
const IN_FLIGHT: &str = "50000";

/// How late threads wake that do nothing, at the guide's rate, on the CPUs of server and load: what of a tail is the machine's. Its
/// latencies are those of the CPU with the worse p99.9. Where they cannot be had, that ends no suite.
fn machine(stage: &Stage) -> Step {
    let what = "how late threads that do nothing wake, at 3000 moments a second: the machine's own part";
    let step = |state, why| Step::without_run(HICCUPS, what, state, why);
    let mut cpus = vec![stage.server_cpu, stage.load_cpu];
    cpus.dedup();
    let seconds = stage.seconds.max(1.0);
    let found = match hiccups::measure(&cpus, HICCUPS_RATE, seconds) {
        Ok(found) => found,
        Err(why) => return step(State::Skipped, Some(why)),
    };
    let mut step = step(State::Passed, None);
    for one in found {
        let cpu = one.cpu.map_or("any".to_owned(), |cpu| cpu.to_string());
        step.figures.insert(format!("cpu_{cpu}_p999_us"), one.wait_us.p999);
        step.figures.insert(format!("cpu_{cpu}_pauses"), one.pauses as f64);
        step.figures
            .insert(format!("cpu_{cpu}_paused_percent"), one.paused_share * 100.0);
        if one.wait_us.p999 >= step.latency_us.p999 {
            (step.requests, step.rate) = (one.wait_us.count, Some(HICCUPS_RATE));
            step.requests_per_second = one.wait_us.count as f64 / seconds;
            step.latency_us = one.wait_us;
        }
    }
    eprintln!(
        "{HICCUPS}: threads that do nothing wake {:.0} us late at p99.9, {:.0} us at most",
        step.latency_us.p999, step.latency_us.max
    );
    step
}

pub(super) fn guide(stage: &Stage) -> Result<Vec<Step>, String> {
    let machine = machine(stage);
    let running = stage.serve(&[])?;
    running.prime()?;
    let file = stage.workshop.root.join("bench/scenarios/guide.toml");
    let file = file.display().to_string();
    let base = words(&["--url", &running.url(""), "--scenario", &file]);
    let with = |more: &[&str]| [base.clone(), words(more)].concat();
    let rate = Spec {
        name: "rate-3000",
        what: "the guide's mix at 3000 requests a second: what it asks of a pod",
        words: with(&["-c", "64", "--spawn-rate", "100000", "--rate", GUIDE_RATE]),
        fail_if: &[GUIDE_P99, "rps<2970", "errors>0"],
        judge: Judge::Latency,
        seconds: Some((stage.warmup, stage.seconds.max(1.0))),
    };
    let (spawn, seconds) = if stage.quick {
        ("500", (2.2, stage.seconds.max(2.0)))
    } else {
        ("10", (100.0, 60.0))
    };
    let users = Spec {
        name: "locust-1000",
        what: "its Locust run: 1000 users, ten stories for a status, 1 to 3 s of thought",
        words: with(&["-c", GUIDE_USERS, "--spawn-rate", spawn]),
        fail_if: &[GUIDE_P99, "errors>0"],
        judge: Judge::Latency,
        seconds: Some(seconds),
    };
    Ok(vec![
        machine,
        stage.step("guide", &running, &rate),
        stage.step("guide", &running, &users),
    ])
}

/// What the service does in the closed loop, unless it is known.
fn capacity(stage: &mut Stage, suite: &str, running: &Running) -> (f64, Option<Step>) {
    if let Some(known) = stage.capacity {
        return (known, None);
    }
    let mut words = stage.cached_story(running);
    words.extend(["-c".to_owned(), "64".to_owned()]);
    let mut step = stage.step(
        suite,
        running,
        &Spec {
            name: "capacity",
            what: "the cached story in a closed loop of 64 connections: what shares are of",
            words,
            fail_if: &[],
            judge: Judge::Throughput,
            seconds: None,
        },
    );
    if let Some((_, share)) = &stage.group {
        hold_to_quota(&mut step, *share, UTILISATION_MIN);
    }
    if step.state == State::Passed {
        stage.capacity = Some(step.requests_per_second);
    }
    (step.requests_per_second, Some(step))
}

/// A name that sorts by the share.
fn named(share: f64) -> String {
    format!("share-{:03.0}", share * 100.0)
}

fn shares(
    stage: &mut Stage,
    suite: &str,
    shares: &[f64],
    more: &[&str],
    judge: impl Fn(f64) -> Judge,
) -> Result<Vec<Step>, String> {
    let running = stage.serve(&[])?;
    running.prime()?;
    let (most, first) = capacity(stage, suite, &running);
    let is_lower_bound = first.as_ref().is_some_and(|step| step.is_lower_bound);
    let mut steps: Vec<Step> = first.into_iter().collect();
    if steps.iter().any(|step| step.state != State::Passed) {
        return Ok(steps);
    }
    for &share in shares {
        let rate = (most * share).max(1.0);
        let mut words = stage.cached_story(&running);
        words.extend(["-c", "256", "--in-flight-max", IN_FLIGHT].map(str::to_owned));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words.extend(["--rate".to_owned(), format!("{rate:.0}")]);
        let what = format!("the cached story at {:.0} % of the capacity", share * 100.0);
        let mut step = stage.step(
            suite,
            &running,
            &Spec {
                name: &named(share),
                what: &what,
                words,
                fail_if: &[],
                // Where the generator was the limit of the capacity too, its last tenth is the generator's.
                judge: judge(if is_lower_bound { share + 0.1 } else { share }),
                seconds: None,
            },
        );
        step.figures.insert("share_of_capacity".to_owned(), share);
        steps.push(step);
    }
    Ok(steps)
}

pub(super) fn saturation(stage: &mut Stage) -> Result<Vec<Step>, String> {
    let all: &[f64] = if stage.quick { &CURVE_QUICK } else { &CURVE };
    shares(stage, "saturation", all, &[], |share| {
        if share < 0.95 { Judge::Latency } else { Judge::Beyond }
    })
}

pub(super) fn latency(stage: &mut Stage) -> Result<Vec<Step>, String> {
    let all: &[f64] = if stage.quick { &SHARES_QUICK } else { &SHARES };
    // Users know nothing of each other: arrivals at random, which queue even below the capacity.
    let mut steps = vec![machine(stage)];
    steps.extend(shares(stage, "latency", all, &["--poisson"], |_| Judge::Latency)?);
    Ok(steps)
}
