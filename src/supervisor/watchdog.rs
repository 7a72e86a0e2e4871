//! Looks for a worker that holds its core.

use crate::limits;
use crate::routes::{Process, Stuck};
use crate::runtime::heartbeat::{Heartbeat, Pulse};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The workers under watch, by index; a worker that starts again replaces its entry.
pub(super) type Watched = Arc<Mutex<Vec<(u32, Arc<Heartbeat>)>>>;

/// Looks once a second until `stop` disconnects.
pub(super) fn run(watched: &Watched, process: &Process, stop: &Receiver<()>) {
    let mut seen: Vec<(u32, Pulse, Instant)> = Vec::new();
    let mut told: Vec<u32> = Vec::new();
    loop {
        match stop.recv_timeout(Duration::from_millis(limits::health::WATCH_MS)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
        let now = Instant::now();
        let workers = watched.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let mut stuck = Vec::new();
        let mut next = Vec::with_capacity(workers.len());
        for (worker, heartbeat) in workers {
            let pulse = heartbeat.pulse();
            let since = match seen.iter().find(|(known, ..)| *known == worker) {
                Some((_, before, since)) if *before == pulse => *since,
                _ => now,
            };
            let held = now.duration_since(since);
            match pulse.task {
                Some(task) if held >= Duration::from_millis(limits::health::STUCK_MS) => {
                    stuck.push(Stuck {
                        worker,
                        task,
                        seconds: held.as_secs(),
                    });
                }
                _ => {}
            }
            next.push((worker, pulse, since));
        }
        seen = next;
        for found in &stuck {
            if !told.contains(&found.worker) {
                tracing::error!(
                    worker = found.worker,
                    task = found.task,
                    seconds = found.seconds,
                    "a worker is stuck: a task holds its core"
                );
            }
        }
        for worker in &told {
            if !stuck.iter().any(|found| found.worker == *worker) {
                tracing::info!(worker, "the worker goes on");
            }
        }
        told = stuck.iter().map(|found| found.worker).collect();
        for (worker, _, _) in &seen {
            process.registry.set_health(*worker, !told.contains(worker));
        }
        process.set_stuck(stuck);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::LABELS;
    use crate::runtime::driver::choose::{self, IoDriver};
    use crate::runtime::executor::{Runtime, spawn};
    use crate::runtime::topology::{Pin, Topology};
    use crate::telemetry::metrics::Registry;

    #[test]
    fn a_worker_that_holds_its_core_is_found_and_named_and_let_go_again() {
        let process = Process::new(
            "pod".into(),
            Topology::detect(None, Pin::Never),
            Registry::new(LABELS),
            None,
            "embedded",
        );
        let (driver, _) = choose::open(IoDriver::Auto).unwrap();
        let runtime = Runtime::new(driver, 1);
        let watched: Watched = Arc::new(Mutex::new(vec![(0, runtime.heartbeat())]));
        let (stop, stopped) = std::sync::mpsc::channel();
        let watching = Arc::clone(&process);
        let thread = std::thread::spawn(move || run(&watched, &watching, &stopped));
        let hogged = Arc::clone(&process);
        runtime
            .block_on(async move {
                spawn("hog", async move {
                    let patience = Instant::now() + Duration::from_secs(30);
                    while hogged.stuck().is_empty() {
                        assert!(Instant::now() < patience, "the watchdog sees nothing");
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    assert_eq!((hogged.stuck()[0].worker, hogged.stuck()[0].task), (0, "hog"));
                })
                .await
                .unwrap();
            })
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(30);
        while !process.stuck().is_empty() {
            assert!(Instant::now() < patience, "the watchdog does not let go");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(stop);
        thread.join().unwrap();
    }
}
