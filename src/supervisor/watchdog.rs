//! Looks for workers that make no turn: held by a task, or between tasks, or in the kernel.
//!
//! A worker that has nothing to do makes no turns either, so one that has stood still for half of the time is woken: if it
//! can, it makes one. What is found goes to the log with what the thread is doing, to liveness and readiness, to the
//! metrics, and to [`Rescue`], which has other workers take its connections. With STUCK=abort it ends the process.

use super::rescue::Rescue;
use crate::config::Watch;
use crate::limits;
use crate::routes::{Lifecycle, Process, Stuck};
use crate::runtime::heartbeat::{Heartbeat, Pulse};
use crate::runtime::stack;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The workers under watch, by index; a worker that starts again replaces its entry.
pub(super) type Watched = Arc<Mutex<Vec<(u32, Arc<Heartbeat>)>>>;

/// For the log's thread to write what was said last.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// One worker, as it was seen last.
struct Seen {
    worker: u32,
    heartbeat: Arc<Heartbeat>,
    pulse: Pulse,
    /// Since when it has stood still.
    since: Instant,
    is_asked: bool,
    is_stuck: bool,
}

impl Seen {
    fn new(worker: u32, heartbeat: Arc<Heartbeat>, now: Instant) -> Seen {
        Seen {
            worker,
            pulse: heartbeat.pulse(),
            heartbeat,
            since: now,
            is_asked: false,
            is_stuck: false,
        }
    }

    /// Looks again; true if it stands still for too long.
    fn look(&mut self, now: Instant, timeout: Duration) -> bool {
        let pulse = self.heartbeat.pulse();
        if self.heartbeat.has_ended() || self.pulse.goes_on(&pulse) {
            (self.since, self.is_asked) = (now, false);
        }
        self.pulse = pulse;
        let stood = now.saturating_duration_since(self.since);
        if stood >= timeout / 2 && !self.is_asked {
            self.heartbeat.ask_for_a_turn();
            self.is_asked = true;
        }
        // Asked at the last look at the latest, and not in the same one.
        stood >= timeout && self.is_asked
    }
}

/// Looks until `stop` disconnects.
pub(super) fn run(watched: &Watched, process: &Process, watch: Watch, rescue: &Rescue, stop: &Receiver<()>) {
    let pause = Duration::from_millis(limits::health::WATCH_MS).min(watch.timeout / 4);
    let mut seen: Vec<Seen> = Vec::new();
    let mut looked = Instant::now();
    loop {
        match stop.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
        let now = Instant::now();
        // Where this thread did not run either (the machine stood still, SIGSTOP), the workers had no chance.
        let late = now.duration_since(looked).saturating_sub(2 * pause);
        looked = now;
        let workers = watched.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        seen.retain(|seen| workers.iter().any(|(_, beat)| Arc::ptr_eq(beat, &seen.heartbeat)));
        for (worker, heartbeat) in workers {
            if !seen.iter().any(|seen| Arc::ptr_eq(&heartbeat, &seen.heartbeat)) {
                seen.push(Seen::new(worker, heartbeat, now));
            }
        }
        let mut stuck = Vec::new();
        for seen in &mut seen {
            seen.since = (seen.since + late).min(now);
            let (before, since) = (seen.is_stuck, seen.since);
            seen.is_stuck = seen.look(now, watch.timeout);
            if seen.is_stuck {
                stuck.push(Stuck {
                    worker: seen.worker,
                    task: seen.pulse.place(),
                    seconds: now.duration_since(seen.since).as_secs(),
                });
            }
            process.registry.set_health(seen.worker, !seen.is_stuck);
            match (before, seen.is_stuck) {
                (false, true) => process.registry.found_stuck(seen.worker),
                (true, false) => tracing::warn!(
                    worker = seen.worker,
                    seconds = now.duration_since(since).as_secs(),
                    ended = seen.heartbeat.has_ended(),
                    "the worker is no longer stuck"
                ),
                _ => continue,
            }
        }
        let is_new = |found: &Stuck| !process.stuck().iter().any(|known| known.worker == found.worker);
        let fresh: Vec<Stuck> = stuck.iter().filter(|found| is_new(found)).cloned().collect();
        // Probes and clients first: what follows takes its time.
        process.set_stuck(stuck);
        let serving = process.lifecycle() == Lifecycle::Serving;
        let is_away = |seen: &&Seen| seen.is_stuck || (serving && seen.heartbeat.has_ended());
        let away: Vec<u32> = seen.iter().filter(is_away).map(|seen| seen.worker).collect();
        let here: Vec<u32> = seen
            .iter()
            .filter(|seen| !seen.is_stuck && !seen.heartbeat.has_ended())
            .map(|seen| seen.worker)
            .collect();
        rescue.assign(&away, &here);
        for found in &fresh {
            if let Some(seen) = seen.iter().find(|seen| seen.worker == found.worker) {
                tell(found, &seen.heartbeat, rescue.stand_in_of(found.worker));
            }
        }
        if watch.abort && !fresh.is_empty() {
            tracing::error!("STUCK=abort: the process ends at once");
            std::thread::sleep(LAST_WORDS);
            std::process::abort();
        }
    }
}

fn tell(found: &Stuck, heartbeat: &Heartbeat, stand_in: Option<u32>) {
    let doing = stack::doing(heartbeat.tid());
    tracing::error!(
        worker = found.worker,
        task = found.task,
        seconds = found.seconds,
        stand_in,
        tid = heartbeat.tid(),
        state = doing.state,
        wchan = doing.wchan,
        syscall = doing.syscall,
        kernel_stack = doing.kernel_stack,
        stack = doing.stack,
        "a worker is stuck: it makes no turns, and its connections wait"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::LABELS;
    use crate::runtime::driver::choose::{self, IoDriver};
    use crate::runtime::executor::{Runtime, spawn};
    use crate::runtime::time::sleep;
    use crate::runtime::topology::{Pin, Topology};
    use crate::telemetry::metrics::Registry;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn process() -> Arc<Process> {
        Process::new(
            "pod".into(),
            Topology::detect(None, Pin::Never),
            Registry::new(LABELS),
            None,
            "embedded",
        )
    }

    /// Runs `work` on a worker that is watched.
    fn watched<F: Future<Output = ()> + 'static>(
        timeout: Duration,
        work: impl FnOnce(Arc<Process>) -> F,
    ) -> Arc<Process> {
        let process = process();
        let (driver, _) = choose::open(IoDriver::Auto).unwrap();
        let runtime = Runtime::new(driver, 1);
        let list: Watched = Arc::new(Mutex::new(vec![(0, runtime.heartbeat())]));
        let (stop, stopped) = std::sync::mpsc::channel();
        let watching = Arc::clone(&process);
        let watch = Watch { timeout, abort: false };
        let thread = std::thread::spawn(move || run(&list, &watching, watch, &Rescue::default(), &stopped));
        runtime.block_on(work(Arc::clone(&process))).unwrap();
        let patience = Instant::now() + PATIENCE;
        while !process.stuck().is_empty() {
            assert!(Instant::now() < patience, "the watchdog does not let go");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(runtime);
        drop(stop);
        thread.join().unwrap();
        process
    }

    fn hold(process: &Process) {
        let patience = Instant::now() + PATIENCE;
        while process.stuck().is_empty() {
            assert!(Instant::now() < patience, "the watchdog sees nothing");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_worker_that_holds_its_core_is_found_and_named_and_let_go_again() {
        watched(Duration::from_secs(1), |process| async move {
            spawn("hog", async move {
                hold(&process);
                assert_eq!((process.stuck()[0].worker, process.stuck()[0].task), (0, "hog"));
            })
            .await
            .unwrap();
            sleep(Duration::from_secs(2)).await;
        });
    }

    /// Ends at once, and holds the core when it is dropped, which is behind its last poll.
    struct Behind(Arc<Process>);

    impl Future for Behind {
        type Output = ();

        fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
            std::task::Poll::Ready(())
        }
    }

    impl Drop for Behind {
        fn drop(&mut self) {
            hold(&self.0);
            assert_eq!(self.0.stuck()[0].task, "(between tasks)");
        }
    }

    #[test]
    fn a_worker_that_is_stuck_between_polls_is_found_too() {
        watched(Duration::from_secs(1), |process| async move {
            crate::runtime::executor::spawn_detached("behind", Behind(process));
            sleep(Duration::from_secs(2)).await;
        });
    }

    /// Nothing to do for much longer than the time, and no timer within it.
    #[test]
    fn a_worker_that_has_nothing_to_do_is_not_stuck() {
        watched(Duration::from_secs(1), |process| async move {
            let begun = Instant::now();
            sleep(Duration::from_secs(4)).await;
            assert!(begun.elapsed() >= Duration::from_secs(4));
            assert!(process.stuck().is_empty());
            let text = process.registry.text();
            assert!(
                !text
                    .lines()
                    .any(|line| line.starts_with("worker_stuck_total") && !line.ends_with(" 0"))
            );
        });
    }
}
