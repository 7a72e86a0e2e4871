//! /metrics and /health/v2/metrics/worker.

use super::Call;
use super::dress::NO_STORE;
use crate::http::negotiate::MediaType;
use crate::http::{Status, field};
use crate::server::{Outbox, Outcome};
use crate::telemetry::metrics::CONTENT_TYPE;

/// [`CONTENT_TYPE`] taken apart.
const MEDIA: MediaType = MediaType {
    kind: "text",
    subtype: "plain",
    parameters: &[("version", "0.0.4")],
};

/// Everything.
pub(super) fn all(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    text(call, outbox, |call| call.worker.process.registry.text())
}

/// Every worker of the pod, by worker_id.
pub(super) fn worker(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    text(call, outbox, |call| call.worker.process.registry.worker_text())
}

fn text(call: &Call<'_>, outbox: Outbox<'_>, make: impl FnOnce(&Call<'_>) -> String) -> Outcome {
    if !call.takes(&MEDIA) {
        return call.refuse_kind(outbox, CONTENT_TYPE);
    }
    call.worker.tell_figures();
    let fields = [(field::CACHE_CONTROL, NO_STORE.as_bytes())];
    call.coded(outbox, Status::OK, CONTENT_TYPE, &fields, make(call).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_the_one_that_is_sent() {
        let mut text = format!("{}/{}", MEDIA.kind, MEDIA.subtype);
        for (name, value) in MEDIA.parameters {
            text += &format!("; {name}={value}");
        }
        assert_eq!(CONTENT_TYPE, text + "; charset=utf-8");
    }
}
