//! The memory of one worker's figures: an array of cells, and where each figure lies in it.

use super::{BOUNDS_NS, METHODS, STATUS_COLUMNS, backends, overload, rate, shared_cache};
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells on a line.
const LINE_CELLS: usize = 16;

/// Two cache lines of 64 bytes: x86 prefetches them in pairs, so a neighbour's figures must not share the pair.
#[repr(align(128))]
#[derive(Default)]
struct Line([AtomicU64; LINE_CELLS]);

/// Figures that are one cell each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    RequestsActive,
    ConnectionsOpen,
    ConnectionsAccepted,
    ProxyRefused,
    ConnectionsTurnedAway,
    BytesReceived,
    BytesSent,
    CacheHits,
    CacheMisses,
    CacheEvictions,
    CacheEntries,
    CacheBytes,
    Compressions,
    StoreFailures,
    LoopTurns,
    LoopPolls,
    LoopStalls,
    HandshakesFailed,
    HandlerPanics,
    StandInConnections,
    ConnectionsHanded,
    ConnectionsHandedBack,
    CacheSqueezed,
    RefusedForMemory,
}

impl Slot {
    pub(super) const COUNT: usize = Slot::RefusedForMemory as usize + 1;

    /// Figures of what is now; they end with the worker. The others count for ever.
    pub(super) const GAUGES: [Slot; 4] = [
        Slot::RequestsActive,
        Slot::ConnectionsOpen,
        Slot::CacheEntries,
        Slot::CacheBytes,
    ];
}

/// Cells of a histogram: the buckets, the one past the last bound, and the sum of nanoseconds.
pub(super) const HISTOGRAM_CELLS: usize = BOUNDS_NS.len() + 2;
const ROUTE_CELLS: usize = HISTOGRAM_CELLS + METHODS.len() * STATUS_COLUMNS;

/// Where figures lie: slots, rejects by status, the histograms of the store and of handshakes, stories by style, what
/// lies beyond the worker's own cache, and a block per route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Routes, `other` included.
    pub(super) routes: usize,
    /// Styles, `other` included.
    pub(super) styles: usize,
}

impl Layout {
    pub(super) fn len(self) -> usize {
        self.route_start(self.routes)
    }

    pub(super) fn slot(self, slot: Slot) -> usize {
        slot as usize
    }

    pub(super) fn reject(self, column: usize) -> usize {
        Slot::COUNT + column
    }

    /// First cell of the store's histogram.
    pub(super) fn store(self) -> usize {
        self.reject(STATUS_COLUMNS)
    }

    /// First cell of the histogram of TLS handshakes that succeeded.
    pub(super) fn handshakes(self) -> usize {
        self.store() + HISTOGRAM_CELLS
    }

    pub(super) fn style(self, style: usize) -> usize {
        self.style_start() + style.min(self.styles.saturating_sub(1))
    }

    fn style_start(self) -> usize {
        self.handshakes() + HISTOGRAM_CELLS
    }

    /// A cell of the block of [`shared_cache`].
    pub(super) fn shared(self, at: usize) -> usize {
        self.style_start() + self.styles + at.min(shared_cache::CELLS - 1)
    }

    /// A cell of the block of [`backends`].
    pub(super) fn backend(self, at: usize) -> usize {
        self.style_start() + self.styles + shared_cache::CELLS + at.min(backends::CELLS - 1)
    }

    /// A cell of the block of [`rate`].
    pub(super) fn rate(self, cell: rate::Rate) -> usize {
        self.style_start() + self.styles + shared_cache::CELLS + backends::CELLS + cell as usize
    }

    /// A cell of the block of [`overload`].
    pub(super) fn overload(self, at: usize) -> usize {
        let begin = self.style_start() + self.styles + shared_cache::CELLS + backends::CELLS + rate::CELLS;
        begin + at.min(overload::CELLS - 1)
    }

    /// First cell of a route's block, which begins with its histogram. Blocks begin on a line of their own.
    fn route_start(self, route: usize) -> usize {
        let begin = (self.overload(0) + overload::CELLS).next_multiple_of(LINE_CELLS);
        begin + route * ROUTE_CELLS.next_multiple_of(LINE_CELLS)
    }

    pub(super) fn route(self, route: usize) -> usize {
        self.route_start(route.min(self.routes.saturating_sub(1)))
    }

    pub(super) fn request(self, route: usize, method: usize, column: usize) -> usize {
        self.route(route) + HISTOGRAM_CELLS + method * STATUS_COLUMNS + column
    }
}

/// The cells of one worker. One thread writes, any thread reads.
pub(super) struct Cells(Box<[Line]>);

impl Cells {
    pub(super) fn new(cells: usize) -> Self {
        Self((0..cells.div_ceil(LINE_CELLS)).map(|_| Line::default()).collect())
    }

    #[inline]
    fn cell(&self, at: usize) -> Option<&AtomicU64> {
        self.0.get(at / LINE_CELLS)?.0.get(at % LINE_CELLS)
    }

    /// Adds; for the one writer only. A load and a store, not a locked addition: nobody else writes in between.
    #[inline]
    pub(super) fn add(&self, at: usize, n: u64) {
        if let Some(cell) = self.cell(at) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    /// Subtracts, down to 0; for the one writer only.
    #[inline]
    pub(super) fn subtract(&self, at: usize, n: u64) {
        if let Some(cell) = self.cell(at) {
            cell.store(cell.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
        }
    }

    /// Sets; for the one writer only.
    #[inline]
    pub(super) fn set(&self, at: usize, value: u64) {
        if let Some(cell) = self.cell(at) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self, at: usize) -> u64 {
        self.cell(at).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Adds every cell to `sums`. Cells are read one after the other: a scrape is not a moment, it is a few
    /// microseconds, which rates do not notice.
    pub(super) fn add_to(&self, sums: &mut [u64]) {
        let cells = self.0.iter().flat_map(|line| line.0.iter());
        for (sum, cell) in sums.iter_mut().zip(cells) {
            *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
        }
    }
}
