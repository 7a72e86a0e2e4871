//! How fast the server answers.

use crate::limits::postgres as limits;
use crate::runtime::context;
use std::cell::Cell;

/// The mean time of the latest statements, as calls saw it. One that was given up counts with its deadline.
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Pace {
    mean_ns: Cell<u64>,
    slow_ns: Cell<u64>,
}

impl Pace {
    pub(super) fn note(&self, took_ns: u64) {
        let mean = self.mean_ns.get();
        // The weight of the newest is an eighth.
        self.mean_ns.set((mean - mean / 8).saturating_add(took_ns / 8));
        if took_ns > limits::SLOW_MS * 1_000_000 {
            self.slow_ns.set(context::now_ns());
        }
    }

    /// The mean, milliseconds, where the server is slow.
    pub(in crate::store::postgres) fn slow_ms(&self) -> Option<u64> {
        let mean_ms = self.mean_ns.get() / 1_000_000;
        let since_ns = context::now_ns().saturating_sub(self.slow_ns.get());
        (mean_ms > limits::SLOW_MS && since_ns < limits::SLOW_FOR_MS * 1_000_000).then_some(mean_ms)
    }
}
