//! What one worker counts.
//!
//! Single writer by construction: [`WorkerMetrics`] is handed out once per worker life, can be moved to the worker's
//! thread, but neither cloned nor shared between threads. So an addition is a relaxed load and a relaxed store
//! (plain `mov`s on x86) instead of a locked instruction of some 20 cycles, and the lines stay in the core's own
//! cache until a scrape reads them. Relaxed is enough: figures order nothing.

use super::cells::{Cells, HISTOGRAM_CELLS, Layout, Slot};
use super::overload::Overload;
use super::rate::Rate;
use super::shared_cache::Shared;
use super::{DRIVERS, backends, bucket, method_row, status_column};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a worker's figures are kept in; the registry holds it for longer than the worker lives.
pub(super) struct Kept {
    pub(super) id: u32,
    pub(super) layout: Layout,
    pub(super) cells: Cells,
    /// A [`WorkerMetrics`] writes to it.
    pub(super) live: AtomicBool,
    /// Set by whoever watches the worker, not by the worker: a stuck one cannot tell.
    pub(super) healthy: AtomicBool,
    /// How often it was found stuck; by whoever watches it, too.
    pub(super) stuck: AtomicU64,
    /// No worker of this id is wanted any more.
    pub(super) dismissed: AtomicBool,
    /// Index into [`DRIVERS`].
    pub(super) driver: AtomicU64,
}

/// Figures of the executor's loop since its start, as the executor counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecutorFigures {
    /// Turns of the loop (submit, wait, reap, run).
    pub turns: u64,
    /// Tasks polled.
    pub polls: u64,
    /// Polls that held the core for too long.
    pub stalls: u64,
}

/// The pen of one worker: neither `Clone` nor `Sync`, see the module's page. Dropping it ends the worker's gauges;
/// its counters stay and go on when a worker of the same id is started again.
///
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<roadtrip_api::telemetry::metrics::WorkerMetrics>();
/// ```
pub struct WorkerMetrics {
    kept: Arc<Kept>,
    /// The executor's figures as last told: a worker started again begins at 0, its series must not.
    executor: Cell<ExecutorFigures>,
    // Send, but not Sync.
    _one_thread: PhantomData<Cell<()>>,
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerMetrics")
            .field("id", &self.kept.id)
            .finish_non_exhaustive()
    }
}

impl WorkerMetrics {
    pub(super) fn new(kept: Arc<Kept>) -> Self {
        kept.live.store(true, Ordering::Relaxed);
        kept.healthy.store(true, Ordering::Relaxed);
        kept.dismissed.store(false, Ordering::Relaxed);
        kept.driver.store(0, Ordering::Relaxed);
        Self {
            kept,
            executor: Cell::default(),
            _one_thread: PhantomData,
        }
    }

    /// The worker's id.
    pub fn id(&self) -> u32 {
        self.kept.id
    }

    pub(super) fn add(&self, slot: Slot, n: u64) {
        self.kept.cells.add(self.kept.layout.slot(slot), n);
    }

    fn get(&self, slot: Slot) -> u64 {
        self.kept.cells.get(self.kept.layout.slot(slot))
    }

    fn observe(&self, histogram: usize, elapsed: Duration) {
        let ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.kept.cells.add(histogram + bucket(ns), 1);
        self.kept.cells.add(histogram + HISTOGRAM_CELLS - 1, ns);
    }

    pub(super) fn add_shared(&self, at: usize) {
        self.kept.cells.add(self.kept.layout.shared(at), 1);
    }

    pub(super) fn set_shared(&self, cell: Shared, value: u64) {
        self.kept.cells.set(self.kept.layout.shared(cell as usize), value);
    }

    pub(super) fn add_rate(&self, cell: Rate, n: u64) {
        self.kept.cells.add(self.kept.layout.rate(cell), n);
    }

    pub(super) fn set_rate(&self, cell: Rate, value: u64) {
        self.kept.cells.set(self.kept.layout.rate(cell), value);
    }

    pub(super) fn add_overload(&self, at: usize) {
        self.kept.cells.add(self.kept.layout.overload(at), 1);
    }

    pub(super) fn set_overload(&self, cell: Overload, value: u64) {
        self.kept.cells.set(self.kept.layout.overload(cell as usize), value);
    }

    pub(super) fn observe_overload(&self, at: usize, elapsed: Duration) {
        self.observe(self.kept.layout.overload(at), elapsed);
    }

    pub(super) fn observe_shared(&self, at: usize, elapsed: Duration) {
        self.observe(self.kept.layout.shared(at), elapsed);
    }

    pub(super) fn add_backend(&self, at: usize, n: u64) {
        self.kept.cells.add(self.kept.layout.backend(at), n);
    }

    pub(super) fn set_backend(&self, at: usize, value: u64) {
        self.kept.cells.set(self.kept.layout.backend(at), value);
    }

    pub(super) fn observe_backend(&self, at: usize, elapsed: Duration) {
        self.observe(self.kept.layout.backend(at), elapsed);
    }

    /// A request's head has been read and its handling begins.
    #[inline]
    pub fn request_began(&self) {
        self.add(Slot::RequestsActive, 1);
    }

    /// The answer to a request that [began](Self::request_began) has been handed to the kernel. `route` is an index
    /// into [`Labels::routes`](super::Labels::routes), `method` as on the wire.
    #[inline]
    pub fn request_ended(&self, route: usize, method: &str, status: u16, elapsed: Duration) {
        let layout = self.kept.layout;
        self.kept
            .cells
            .add(layout.request(route, method_row(method), status_column(status)), 1);
        self.observe(layout.route(route), elapsed);
        self.kept.cells.subtract(layout.slot(Slot::RequestsActive), 1);
    }

    /// A request that began was given up without an answer (the client left, the worker ends).
    #[inline]
    pub fn request_abandoned(&self) {
        self.kept.cells.subtract(self.kept.layout.slot(Slot::RequestsActive), 1);
    }

    /// Bytes that are no request were answered with `status` and the connection closed. Not part of
    /// `http_requests_total`: there is no route and no method.
    pub fn request_rejected(&self, status: u16) {
        self.kept.cells.add(self.kept.layout.reject(status_column(status)), 1);
    }

    /// A connection was accepted.
    #[inline]
    pub fn connection_opened(&self) {
        self.add(Slot::ConnectionsAccepted, 1);
        self.add(Slot::ConnectionsOpen, 1);
    }

    /// A trusted proxy's connection had no PROXY header, and was closed.
    pub fn proxy_refused(&self) {
        self.add(Slot::ProxyRefused, 1);
    }

    /// A connection was closed as soon as it was accepted: its address holds too many.
    pub fn connection_turned_away(&self) {
        self.add(Slot::ConnectionsTurnedAway, 1);
    }

    /// A connection was closed.
    #[inline]
    pub fn connection_closed(&self) {
        self.kept
            .cells
            .subtract(self.kept.layout.slot(Slot::ConnectionsOpen), 1);
    }

    /// A TLS handshake has ended; `elapsed` from the connection's begin. Only those that succeeded are timed: the others
    /// tell of their clients' patience.
    pub fn shook_hands(&self, ok: bool, elapsed: Duration) {
        if ok {
            self.observe(self.kept.layout.handshakes(), elapsed);
        } else {
            self.add(Slot::HandshakesFailed, 1);
        }
    }

    /// Bytes came in.
    #[inline]
    pub fn received(&self, bytes: u64) {
        self.add(Slot::BytesReceived, bytes);
    }

    /// Bytes went out.
    #[inline]
    pub fn sent(&self, bytes: u64) {
        self.add(Slot::BytesSent, bytes);
    }

    /// The cache had it.
    #[inline]
    pub fn cache_hit(&self) {
        self.add(Slot::CacheHits, 1);
    }

    /// The cache did not have it.
    #[inline]
    pub fn cache_missed(&self) {
        self.add(Slot::CacheMisses, 1);
    }

    /// A handler panicked; its request is answered all the same.
    pub fn handler_panicked(&self) {
        self.add(Slot::HandlerPanics, 1);
    }

    /// Connections were taken for another worker.
    pub fn stood_in(&self, connections: u64) {
        self.add(Slot::StandInConnections, connections);
    }

    /// A connection was handed to another worker.
    pub fn handed_over(&self) {
        self.add(Slot::ConnectionsHanded, 1);
    }

    /// One that was handed over was not taken.
    pub fn handed_back(&self) {
        self.add(Slot::ConnectionsHandedBack, 1);
    }

    /// A body was compressed.
    pub fn compressed(&self) {
        self.add(Slot::Compressions, 1);
    }

    /// Entries gave way to others.
    pub fn cache_evicted(&self, entries: u64) {
        self.add(Slot::CacheEvictions, entries);
    }

    /// What the cache holds now.
    pub fn cache_holds(&self, entries: u64, bytes: u64) {
        self.kept.cells.set(self.kept.layout.slot(Slot::CacheEntries), entries);
        self.kept.cells.set(self.kept.layout.slot(Slot::CacheBytes), bytes);
    }

    /// A story was kept; `elapsed` from asking the store to its word that it is safe.
    pub fn store_committed(&self, elapsed: Duration) {
        self.observe(self.kept.layout.store(), elapsed);
    }

    /// The store refused or failed.
    pub fn store_failed(&self) {
        self.add(Slot::StoreFailures, 1);
    }

    /// A story was told anew. `style` is an index into [`Labels::styles`](super::Labels::styles).
    pub fn story_generated(&self, style: usize) {
        self.kept.cells.add(self.kept.layout.style(style), 1);
    }

    /// The executor's figures since its start; called now and then, not each turn.
    pub fn executor(&self, now: ExecutorFigures) {
        let before = self.executor.replace(now);
        self.add(Slot::LoopTurns, now.turns.saturating_sub(before.turns));
        self.add(Slot::LoopPolls, now.polls.saturating_sub(before.polls));
        self.add(Slot::LoopStalls, now.stalls.saturating_sub(before.stalls));
    }

    /// Which driver the worker runs on: "uring", "epoll" or "sim".
    pub fn io_driver(&self, driver: &str) {
        let at = DRIVERS.iter().position(|known| *known == driver).unwrap_or(0);
        self.kept.driver.store(at as u64, Ordering::Relaxed);
    }

    /// Requests being handled now.
    pub fn requests_active(&self) -> u64 {
        self.get(Slot::RequestsActive)
    }

    /// Connections open now.
    pub fn connections_open(&self) -> u64 {
        self.get(Slot::ConnectionsOpen)
    }
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        for slot in Slot::GAUGES {
            self.kept.cells.set(self.kept.layout.slot(slot), 0);
        }
        self.set_shared(Shared::Breaker, 0);
        backends::end(&self.kept.cells, self.kept.layout);
        self.rate_state(false, false);
        self.overload_at(0, 0, 0);
        self.loop_lag(Duration::ZERO);
        self.kept.healthy.store(false, Ordering::Relaxed);
        // Release: whoever takes these cells over sees all that was written to them.
        self.kept.live.store(false, Ordering::Release);
    }
}
