//! All workers' figures of this process. Locked when a worker starts and when someone asks; never to count.

use super::cells::{Cells, Layout, Slot};
use super::lives::Lives;
use super::worker::{Kept, WorkerMetrics};
use super::{Labels, expose, journal, memory};
use crate::resilience::memory::Pressure;
use crate::store::journal::Handle;
use crate::telemetry::logging::LogCounters;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Hands out [`WorkerMetrics`] and renders what they hold.
pub struct Registry {
    labels: Labels,
    /// Stands before a worker's number in the label `worker_id`.
    prefix: String,
    layout: Layout,
    workers: Mutex<Vec<Arc<Kept>>>,
    log: OnceLock<LogCounters>,
    journal: OnceLock<Handle>,
    memory: OnceLock<Arc<Pressure>>,
    /// Seconds since 1970; [`NO_CERTIFICATE`] where none is served.
    certificate_expiry: AtomicI64,
    /// What became of workers and of the process.
    pub lives: Lives,
}

/// No certificate expires then.
const NO_CERTIFICATE: i64 = i64::MIN;

/// One worker in a few figures, for the health routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerSummary {
    /// The worker's id.
    pub id: u32,
    /// Alive, and not found stuck.
    pub healthy: bool,
    /// Requests being handled.
    pub requests_active: u64,
    /// Connections open.
    pub connections_open: u64,
}

/// The figures of one worker id at a scrape, all its lives added up.
pub(super) struct Merged {
    /// The value of the label `worker_id`.
    pub(super) label: String,
    pub(super) cells: Vec<u64>,
    pub(super) healthy: bool,
    pub(super) stuck: u64,
    /// See [`Registry::dismiss`].
    pub(super) dismissed: bool,
    /// None where no worker of the id lives.
    pub(super) driver: Option<usize>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry for these labels. Each label set must be free of doubles: two equal ones would be two series of
    /// one name, which Prometheus refuses.
    pub fn new(labels: Labels) -> Arc<Self> {
        Self::of_pod(labels, String::new())
    }

    /// The same, with a text before each worker's number in the label `worker_id`: the pod's name and a dash make it
    /// the id that headers, health routes and log lines show, so that one joins with the other.
    pub fn of_pod(labels: Labels, prefix: String) -> Arc<Self> {
        // With `other`, which takes every index past the end.
        let layout = Layout {
            routes: labels.routes.len() + 1,
            styles: labels.styles.len() + 1,
        };
        Arc::new(Self {
            labels,
            prefix,
            layout,
            workers: Mutex::new(Vec::new()),
            log: OnceLock::new(),
            journal: OnceLock::new(),
            memory: OnceLock::new(),
            certificate_expiry: AtomicI64::new(NO_CERTIFICATE),
            lives: Lives::default(),
        })
    }

    /// The pen of a worker that starts, to be moved to its thread. A worker started again under its old id goes on
    /// with the counters of its former life; if that one still lives (a hand-over), both are added up at the scrape.
    pub fn worker(&self, id: u32) -> WorkerMetrics {
        let mut workers = self.lock();
        let former = workers
            .iter()
            .find(|kept| kept.id == id && !kept.live.load(Ordering::Acquire));
        let kept = match former {
            Some(former) => Arc::clone(former),
            None => {
                let kept = Arc::new(Kept {
                    id,
                    layout: self.layout,
                    cells: Cells::new(self.layout.len()),
                    live: AtomicBool::new(true),
                    healthy: AtomicBool::new(true),
                    stuck: AtomicU64::new(0),
                    dismissed: AtomicBool::new(false),
                    driver: AtomicU64::new(0),
                });
                workers.push(Arc::clone(&kept));
                kept
            }
        };
        // Still under the lock, so that nobody else takes the same cells.
        WorkerMetrics::new(kept)
    }

    /// The watchdog's word on the living workers of this id.
    pub fn set_health(&self, id: u32, healthy: bool) {
        for kept in self
            .lock()
            .iter()
            .filter(|kept| kept.id == id && kept.live.load(Ordering::Relaxed))
        {
            kept.healthy.store(healthy, Ordering::Relaxed);
        }
    }

    /// The watchdog found the living worker of this id stuck.
    pub fn found_stuck(&self, id: u32) {
        let workers = self.lock();
        let living = workers
            .iter()
            .find(|kept| kept.id == id && kept.live.load(Ordering::Relaxed));
        if let Some(kept) = living {
            kept.stuck.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The worker of this id was ended for good, as fewer were asked for: it is not unhealthy, it is none any more.
    pub fn dismiss(&self, id: u32) {
        for kept in self.lock().iter().filter(|kept| kept.id == id) {
            kept.dismissed.store(true, Ordering::Relaxed);
        }
    }

    /// Lets the scrape tell how many log lines were dropped. The first call counts.
    pub fn watch_log(&self, counters: LogCounters) {
        let _ = self.log.set(counters);
    }

    /// Lets the scrape tell of the journal. The first call counts.
    pub fn watch_journal(&self, journal: Handle) {
        let _ = self.journal.set(journal);
    }

    /// Lets the scrape tell of memory. The first call counts.
    pub fn watch_memory(&self, memory: Arc<Pressure>) {
        let _ = self.memory.set(memory);
    }

    /// Bytes in the caches of all workers, as they told last.
    pub fn cache_bytes(&self) -> u64 {
        let get = |kept: &Arc<Kept>| kept.cells.get(kept.layout.slot(Slot::CacheBytes));
        self.lock().iter().map(get).sum()
    }

    /// Lets the scrape tell when the served certificate expires, seconds since 1970.
    pub fn certificate_expires(&self, unix_s: i64) {
        self.certificate_expiry.store(unix_s, Ordering::Relaxed);
    }

    /// The text of `/metrics`: everything. [`CONTENT_TYPE`](super::CONTENT_TYPE) goes with it.
    pub fn text(&self) -> String {
        let mut families = expose::everything(
            &self.labels,
            self.layout,
            &self.merged(),
            self.log.get(),
            Some(self.certificate_expiry.load(Ordering::Relaxed)).filter(|expiry| *expiry != NO_CERTIFICATE),
        );
        families.extend(self.journal.get().map(journal::families).into_iter().flatten());
        families.extend(
            self.memory
                .get()
                .map(|memory| memory::families(memory))
                .into_iter()
                .flatten(),
        );
        families.extend(self.lives.families());
        expose::render(families)
    }

    /// The text of `/health/v2/metrics/worker`: the families that are told per worker, for every worker of the pod.
    pub fn worker_text(&self) -> String {
        expose::render(expose::per_worker(&self.labels, self.layout, &self.merged()))
    }

    /// Every worker that was ever started, by id.
    pub fn summaries(&self) -> Vec<WorkerSummary> {
        let mut summaries: BTreeMap<u32, WorkerSummary> = BTreeMap::new();
        for kept in self.lock().iter() {
            let get = |slot| kept.cells.get(kept.layout.slot(slot));
            let this = WorkerSummary {
                id: kept.id,
                healthy: kept.healthy.load(Ordering::Relaxed),
                requests_active: get(Slot::RequestsActive),
                connections_open: get(Slot::ConnectionsOpen),
            };
            let live = kept.live.load(Ordering::Relaxed);
            summaries
                .entry(kept.id)
                .and_modify(|sum| {
                    // A former life says nothing about the health of the present one.
                    sum.healthy = if live { this.healthy } else { sum.healthy };
                    sum.requests_active += this.requests_active;
                    sum.connections_open += this.connections_open;
                })
                .or_insert(this);
        }
        summaries.into_values().collect()
    }

    fn merged(&self) -> BTreeMap<u32, Merged> {
        let workers: Vec<Arc<Kept>> = self.lock().clone();
        let mut merged: BTreeMap<u32, Merged> = BTreeMap::new();
        for kept in workers {
            let sums = merged.entry(kept.id).or_insert_with(|| Merged {
                label: format!("{}{}", self.prefix, kept.id),
                cells: vec![0; self.layout.len()],
                healthy: false,
                stuck: 0,
                dismissed: true,
                driver: None,
            });
            sums.stuck += kept.stuck.load(Ordering::Relaxed);
            sums.dismissed &= kept.dismissed.load(Ordering::Relaxed);
            kept.cells.add_to(&mut sums.cells);
            if kept.live.load(Ordering::Acquire) {
                // Of two lives at once the later one speaks.
                sums.healthy = kept.healthy.load(Ordering::Relaxed);
                sums.driver = usize::try_from(kept.driver.load(Ordering::Relaxed)).ok();
            }
        }
        merged
    }

    /// How many sets of cells are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Kept>>> {
        // A list of Arcs is whole at any moment: a panic elsewhere while it was held spoils nothing.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
