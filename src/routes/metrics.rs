//! /metrics and /health/v2/metrics/worker.

use super::Call;
use crate::http::Status;
use crate::server::{Outbox, Outcome};
use crate::telemetry::metrics::CONTENT_TYPE;

/// Everything.
pub(super) fn all(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    call.worker.tell_figures();
    let text = call.worker.process.registry.text();
    call.answer(outbox, Status::OK, CONTENT_TYPE, &[], text.as_bytes())
}

/// Every worker of the pod, by worker_id.
pub(super) fn worker(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    call.worker.tell_figures();
    let text = call.worker.process.registry.worker_text();
    call.answer(outbox, Status::OK, CONTENT_TYPE, &[], text.as_bytes())
}
