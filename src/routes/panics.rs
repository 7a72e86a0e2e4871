//! Handlers that panic: the request is answered 500, counted and logged under its id, and nothing else is touched.

use super::call::{Asked, From, LaterCall, Traced};
use super::problem::Problem;
use super::request_id::RequestId;
use super::{Api, Route};
use crate::http::{Method, Status};
use crate::server::{Events, Outbox, Request};
use crate::telemetry::trace::Trace;
use std::cell::OnceCell;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};

/// What the books need to know of a request that was to be answered later.
pub(super) struct Lost {
    route: Route,
    method: Method,
    path: String,
    id: String,
    begun_ns: u64,
    client: Option<IpAddr>,
    trace: Rc<Trace>,
}

impl Lost {
    /// Taken out of a call that is being unwound.
    pub(super) fn of(call: &mut LaterCall) -> Lost {
        Lost {
            route: call.route,
            method: call.method,
            path: std::mem::take(&mut call.path),
            id: std::mem::take(&mut call.id),
            begun_ns: call.begun_ns,
            client: call.client,
            trace: Rc::clone(&call.trace),
        }
    }
}

/// Answers in place of a handler that has panicked just now: of `request`, or of one that was to be answered later.
pub(super) fn answer(api: &Api, request: Option<&Request<'_>>, outbox: Outbox<'_>) -> bool {
    let worker = &api.worker;
    worker.metrics.handler_panicked();
    let lost = worker.lost.take();
    let trace = OnceCell::new();
    let asked = match (&lost, request) {
        (Some(lost), _) => Some(Asked {
            route: lost.route,
            method: lost.method,
            path: &lost.path,
            id: RequestId::Sent(&lost.id),
            begun_ns: lost.begun_ns,
            from: From::Found(lost.client),
            trace: Traced::Known(&lost.trace),
            shed: false,
        }),
        (None, Some(request)) => Some(Asked {
            route: Route::of(request.head.path).0,
            method: request.head.method,
            path: request.head.path,
            id: RequestId::of(request.head),
            begun_ns: request.received_ns,
            from: From::Request(request),
            trace: Traced::Call(&trace, request.head),
            shed: false,
        }),
        // It was answered already, as far as its handler is concerned.
        (None, None) => None,
    };
    let id = match &asked {
        Some(asked) => asked.id,
        None => RequestId::made(),
    };
    let trace_id = asked
        .as_ref()
        .map(|asked| asked.trace.with(&asked.id, |trace| trace.trace_id().to_owned()));
    tracing::error!(
        request_id = id.as_str(),
        trace_id,
        worker_id = worker.id,
        route = asked.as_ref().map(|asked| asked.route.name()),
        "a handler panicked; its request is answered 500"
    );
    let problem = Problem::new(
        Status::INTERNAL_SERVER_ERROR,
        "a mistake in the server; the log has it under this id",
    );
    if let Some(asked) = &asked {
        worker.book(asked, problem.status, 0);
    }
    api.without_request(outbox, &id, trace_id.as_deref(), &problem)
}

/// A body that is made while it is sent, whose panics are logged under the request's id. Its answer has begun, so that
/// all that can be done is to end it in a way that shows.
pub(super) struct Watched {
    pub(super) events: Box<dyn Events>,
    pub(super) request_id: String,
}

impl Events for Watched {
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, ()>> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.events.poll_next(cx, out)));
        polled.unwrap_or_else(|_| {
            tracing::error!(
                request_id = self.request_id,
                "a handler panicked in the middle of its answer, which ends there"
            );
            Poll::Ready(Err(()))
        })
    }

    fn end_early(&mut self, out: &mut Vec<u8>) -> bool {
        self.events.end_early(out)
    }
}
