//! The engine: one runtime of the server's own kind on each thread (executor, timers, io_uring or epoll), its connections
//! as tasks. Threads share nothing while they run; histograms are merged afterwards, never percentiles.
//!
//! The runtime is the only thing taken from the service's crate. Heads are read by `httparse`, HTTP/2 by `h2`, TLS by
//! rustls: a yardstick does not share its HTTP with what it measures.

mod desk;
mod events;
mod h1;
mod h2;
mod pace;
mod reader;
mod thread;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use hdrhistogram::Histogram;
use roadtrip_api::runtime::driver::choose::IoDriver;

use super::arrivals::Law;
use super::errors::Errors;
use super::scenario::Expect;
use super::source::Source;
use super::tally::{ClassTally, Snapshot, Tally, latency_histogram};
use crate::answer::Told;
use crate::clock::now_ns;
pub(crate) use wire::TlsTo;

/// What is right for the answers to one class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) expect: Expect,
    pub(crate) told: Option<Told>,
}

/// HTTP's version on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    H1,
    H2,
}

/// What one run is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsTo>,
    pub(crate) protocol: Protocol,
    /// What is asked.
    pub(crate) source: Source,
    /// By class; 2xx where there is none.
    pub(crate) rules: Vec<Rules>,
    /// When; the profile without the warm-up.
    pub(crate) law: Law,
    /// Connections over all threads; at least one for each.
    pub(crate) connections: u32,
    /// Requests under way on one connection.
    pub(crate) depth: u32,
    /// A connection for each request.
    pub(crate) short_lived: bool,
    /// Connections that begin each second; all at once before the start where none is given.
    pub(crate) spawn_rate: Option<f64>,
    /// Threads; at least one.
    pub(crate) threads: u32,
    /// CPUs to pin to, by thread, round robin; empty for no pinning.
    pub(crate) cpus: Vec<usize>,
    pub(crate) driver: IoDriver,
    pub(crate) warmup_ns: u64,
    pub(crate) duration_ns: u64,
    /// Length of an interval of the series.
    pub(crate) interval_ns: u64,
    /// Due and unanswered requests beyond which arrivals are skipped.
    pub(crate) in_flight_max: u64,
    pub(crate) connect_limit: Duration,
    pub(crate) answer_limit: Duration,
    pub(crate) seed: u64,
}

/// What one thread found.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) driver: &'static str,
    /// From the end of the warm-up to the last answer.
    pub(super) elapsed_ns: u64,
    /// Whole run of the thread: wall, CPU used, time spent waiting for a CPU.
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
    pub(super) starved_ns: u64,
}

/// What all threads found.
pub(crate) struct Measured {
    pub(super) latency: Histogram<u64>,
    pub(super) lag: Histogram<u64>,
    pub(super) latency_2xx: Histogram<u64>,
    pub(super) latency_503: Histogram<u64>,
    pub(super) classes: Vec<ClassTally>,
    /// In order, without the warm-up.
    pub(super) intervals: Vec<Snapshot>,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) told: [u64; Told::ALL.len()],
    pub(super) errors: Errors,
    pub(super) answers: u64,
    pub(super) bytes: u64,
    pub(super) reconnects: u64,
    pub(super) elapsed_ns: u64,
    /// By thread: wall, CPU, starved.
    pub(super) threads: Vec<[u64; 3]>,
    pub(super) driver: &'static str,
}

/// Moments of a run that somebody may want to look at.
pub(super) enum Moment<'m> {
    /// Connections are open and unused; the load has not begun.
    Connected,
    /// An interval of one thread is over.
    Interval(&'m Snapshot),
    /// Everything is answered; connections are still open.
    Answered,
}

/// Where threads and their starter meet.
struct Gates {
    meet: Barrier,
    failed: AtomicBool,
    start_ns: AtomicU64,
}

/// Runs a load.
///
/// # Errors
/// Where nothing could be measured: no connection, no thread, no CPU of that number. Errors of single requests are counted.
pub(super) fn run(job: &Arc<Job>, mut look: impl FnMut(Moment<'_>)) -> Result<Measured, String> {
    if job.connections < job.threads || job.threads == 0 {
        return Err(format!(
            "{} threads need at least as many connections, not {}",
            job.threads, job.connections
        ));
    }
    let gates = Gates {
        meet: Barrier::new(job.threads as usize + 1),
        failed: AtomicBool::new(false),
        start_ns: AtomicU64::new(0),
    };
    let last = i64::try_from(job.duration_ns.div_ceil(job.interval_ns.max(1)).saturating_sub(1)).unwrap_or(i64::MAX);
    let (sender, receiver) = mpsc::channel::<Snapshot>();
    let mut merged: BTreeMap<i64, Snapshot> = BTreeMap::new();
    let outcomes: Vec<Result<Outcome, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..job.threads)
            .map(|index| {
                let (gates, sender, job) = (&gates, sender.clone(), Arc::clone(job));
                scope.spawn(move || thread::run(&job, index, gates, sender))
            })
            .collect();
        drop(sender);
        // Everybody has connected, or given up.
        gates.meet.wait();
        let failed = gates.failed.load(Ordering::Acquire);
        if !failed {
            look(Moment::Connected);
        }
        gates.start_ns.store(now_ns(), Ordering::Release);
        gates.meet.wait();
        // Ends when each thread has dropped its sender.
        for mut snapshot in &receiver {
            look(Moment::Interval(&snapshot));
            if snapshot.index < 0 {
                // The thread looked at its clock a little late: what was due by then is of the first interval.
                if snapshot.latency.is_empty() {
                    continue;
                }
                (snapshot.index, snapshot.errors, snapshot.in_flight) = (0, 0, 0);
            }
            // What is answered after the end belongs to the last.
            snapshot.index = snapshot.index.min(last);
            match merged.get_mut(&snapshot.index) {
                Some(sum) => sum.add(&snapshot),
                None => {
                    merged.insert(snapshot.index, snapshot);
                }
            }
        }
        gates.meet.wait();
        if !failed {
            look(Moment::Answered);
        }
        gates.meet.wait();
        handles
            .into_iter()
            .map(|h| h.join().unwrap_or_else(|_| Err("a load thread panicked".to_owned())))
            .collect()
    });
    let mut sum = Measured {
        latency: latency_histogram(),
        lag: latency_histogram(),
        latency_2xx: latency_histogram(),
        latency_503: latency_histogram(),
        classes: Vec::new(),
        intervals: merged.into_values().collect(),
        statuses: BTreeMap::new(),
        told: [0; Told::ALL.len()],
        errors: Errors::default(),
        answers: 0,
        bytes: 0,
        reconnects: 0,
        elapsed_ns: job.duration_ns,
        threads: Vec::new(),
        driver: "",
    };
    for outcome in outcomes {
        sum.add(outcome?);
    }
    for interval in &sum.intervals {
        // Same bounds on both sides: adding cannot fail.
        let _ = sum.latency.add(&interval.latency);
    }
    Ok(sum)
}

impl Measured {
    fn add(&mut self, outcome: Outcome) {
        let tally = outcome.tally;
        let _ = self.lag.add(&tally.lag);
        let _ = self.latency_2xx.add(&tally.latency_2xx);
        let _ = self.latency_503.add(&tally.latency_503);
        for (place, class) in tally.classes.into_iter().enumerate() {
            match self.classes.get_mut(place) {
                Some(sum) => sum.add(&class),
                None => self.classes.push(class),
            }
        }
        for (status, count) in tally.statuses {
            let sum = self.statuses.entry(status).or_default();
            *sum = sum.saturating_add(count);
        }
        for (sum, count) in self.told.iter_mut().zip(tally.told) {
            *sum = sum.saturating_add(count);
        }
        self.errors.add(tally.errors);
        self.answers = self.answers.saturating_add(tally.answers);
        self.bytes = self.bytes.saturating_add(tally.bytes);
        self.reconnects = self.reconnects.saturating_add(tally.reconnects);
        self.elapsed_ns = self.elapsed_ns.max(outcome.elapsed_ns);
        self.threads.push([outcome.wall_ns, outcome.cpu_ns, outcome.starved_ns]);
        self.driver = outcome.driver;
    }
}
