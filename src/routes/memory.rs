//! What a worker does while memory is short, and what it says of it.

use super::call::Call;
use super::problem::Problem;
use super::{Api, Worker};
use crate::http::Status;
use crate::limits::memory as limits;
use crate::resilience::memory::Level;
use crate::server::{Outbox, Outcome};
use serde::Serialize;

impl Api {
    /// One step: of what the cache holds, `keep` thousandths are kept, and what that frees goes back to the system.
    pub async fn shrink_cache(&self, keep: u32) {
        let pushed_out = self.worker.service.shrink_cache(keep).await;
        self.worker.metrics.cache_squeezed(pushed_out);
        self.worker.tell_figures();
        crate::runtime::driver::heap::give_back();
    }

    /// Nothing of the cache but its least size is to be used, until it [grows](Self::grow_cache).
    pub fn keep_cache_small(&self) {
        self.worker
            .service
            .cache()
            .borrow_mut()
            .shrink_to(limits::CACHE_BYTES_MIN);
    }

    /// The cache has less than its own size.
    pub fn cache_is_small(&self) -> bool {
        self.worker.service.cache_is_small()
    }

    /// One step back to it.
    pub fn grow_cache(&self) {
        self.worker.service.grow_cache();
    }

    /// Whether to leave what need not be done, such as to look up stories that are answered already.
    pub fn set_frugal(&self, frugal: bool) {
        self.worker.service.set_frugal(frugal);
    }
}

/// The answer to a connection that came while memory is short.
#[cold]
pub(super) fn refuse(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    call.worker.metrics.refused_for_memory();
    // No line for each: the change of level has one, and they are counted.
    call.shed.set(true);
    let mut problem = Problem::new(
        Status::SERVICE_UNAVAILABLE,
        "memory is short: new connections are not served for now; try again soon, elsewhere if you can",
    );
    problem.retry_after_s = Some(limits::RETRY_AFTER_S);
    call.problem(outbox, &problem)
}

/// Memory in /health/v2/status.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Part {
    level: Level,
    limit_bytes: u64,
    used_bytes: u64,
    working_set_bytes: u64,
    /// Where the limit stands.
    limit: String,
}

/// None where no limit is known.
pub(super) fn part(worker: &Worker) -> Option<Part> {
    let memory = &worker.process.memory;
    let figures = memory.figures()?;
    Some(Part {
        level: memory.level(),
        limit_bytes: figures.limit,
        used_bytes: figures.used,
        working_set_bytes: figures.working_set,
        limit: memory.source(),
    })
}

/// How the component `system` is.
pub(super) fn word(worker: &Worker) -> &'static str {
    match worker.process.memory.level() {
        Level::Calm => "healthy",
        Level::Soft => "degraded",
        Level::Hard => "unhealthy",
    }
}
