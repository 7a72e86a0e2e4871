//! `start`: how soon the service is ready, on a new store, and what it takes while nobody asks.

use std::fs;
use std::time::{Duration, Instant};

use super::report::{State, Step};
use super::stage::Stage;
use crate::cost::median;
use crate::procfs::Memory;

const STARTS: u32 = 9;
const STARTS_QUICK: u32 = 3;
/// From the start of an idle server until it is looked at. For its first seconds (limits::life::ASK_FIRST of the service) a
/// worker asks for connections again and again, whether any came or not: that is no idle server yet.
const SETTLE: Duration = Duration::from_secs(11);
/// Steps shorter than this are not waited for that long, and have no wake-ups.
const SECONDS_MIN: f64 = 1.0;

/// Voluntary switches of the worker threads: each is a wake-up before it. And how many workers there are.
fn wake_ups(pid: u32) -> (u64, u64) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let of = |task: fs::DirEntry| {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if !read("comm").starts_with("worker-") {
            return None;
        }
        let status = read("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line?.trim().parse::<u64>().ok()
    };
    tasks.filter_map(of).fold((0, 0), |(sum, workers), switches| {
        (u64::saturating_add(sum, switches), u64::saturating_add(workers, 1))
    })
}

pub(super) fn run(stage: &Stage) -> Result<Vec<Step>, String> {
    // Waits while the others start.
    let (running, since) = (stage.serve(&[])?, Instant::now());
    let cold = cold_starts(stage)?;
    let mut idle = Step::without_run("idle", "memory and wake-ups while nobody asks", State::Passed, None);
    let pid = running.server.pid;
    if stage.seconds >= SECONDS_MIN {
        std::thread::sleep(SETTLE.saturating_sub(since.elapsed()));
        wake_ups_of(pid, stage.seconds, &mut idle);
    } else {
        idle.reasons
            .push(format!("steps of less than {SECONDS_MIN} s have no wake-ups"));
    }
    idle.figures
        .insert("rss_bytes".to_owned(), Memory::read(pid)?.rss as f64);
    for step in [&cold, &idle] {
        eprintln!(
            "start      {:<16} {:<9} {:?}",
            step.name,
            step.state.word(),
            step.figures
        );
    }
    Ok(vec![cold, idle])
}

fn wake_ups_of(pid: u32, seconds: f64, idle: &mut Step) {
    let (begun, before) = (Instant::now(), wake_ups(pid));
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let after = wake_ups(pid);
    if after.1 == 0 {
        idle.state = State::Broken;
        idle.reasons
            .push("no thread of the service is named worker-*".to_owned());
        return;
    }
    let each = after.0.saturating_sub(before.0) as f64 / begun.elapsed().as_secs_f64() / after.1 as f64;
    idle.figures.insert("wake_ups_per_second_and_worker".to_owned(), each);
}

fn cold_starts(stage: &Stage) -> Result<Step, String> {
    let mut cold = Step::without_run(
        "cold-start",
        "from the start of the process to ready, embedded store, each time a new one",
        State::Passed,
        None,
    );
    let mut times = Vec::new();
    for _ in 0..if stage.quick { STARTS_QUICK } else { STARTS } {
        let begun = Instant::now();
        let _running = stage.serve(&[])?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    let most = times.iter().copied().fold(0.0, f64::max);
    cold.figures.insert("starts".to_owned(), times.len() as f64);
    cold.figures.insert("median_ms".to_owned(), median(times.into_iter()));
    cold.figures.insert("longest_ms".to_owned(), most);
    Ok(cold)
}
