//! The HTTP face: which path does what, and how answers and errors look.
//!
//! [`Api`] is the application of one worker: `server` calls it with whole requests, it calls `story::service`, and
//! keeps the books (metrics, access log). What is at hand is answered at once, without a heap allocation; what must
//! wait becomes a future. Deliberately absent: sockets, SQL, and anything shared between workers but what
//! [`Process`] and the metrics registry hold.

mod checks;
mod docs;
mod generate;
mod health;
mod input;
mod metrics;
mod problem;
mod process;
mod request_id;
mod router;
mod sse;
mod stories;

pub use docs::OPENAPI;
pub use process::{Lifecycle, Process, Stuck};
pub use router::Route;

use crate::http::{Exchange, FieldName, Method, Reject, Status, field};
use crate::runtime::context;
use crate::runtime::heartbeat::Heartbeat;
use crate::server::{App, Later, Outbox, Outcome, Reply, ReplyBody, Request};
use crate::story::service::StoryService;
use crate::telemetry::logging::{self, Access, AccessLog};
use crate::telemetry::metrics::{ExecutorFigures, Labels, WorkerMetrics};
use checks::Checks;
use problem::{PROBLEM_JSON, Problem};
use request_id::RequestId;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Media type of everything that is not said to be something else.
const JSON: &str = "application/json";

/// The label sets of the metrics registry.
pub const LABELS: Labels = Labels {
    routes: Route::NAMES,
    styles: crate::story::types::Style::NAMES,
};

/// The application of one worker.
pub struct Api {
    worker: Rc<Worker>,
}

/// What the handlers of one worker share.
pub(crate) struct Worker {
    process: Arc<Process>,
    metrics: Rc<WorkerMetrics>,
    heartbeat: Arc<Heartbeat>,
    service: Rc<StoryService>,
    access: AccessLog,
    id: String,
    started_ns: u64,
    requests: Cell<u64>,
    accepting: Cell<bool>,
    checks: Checks,
    /// Figures of /proc, and when they were read.
    system: RefCell<Option<(u64, health::System)>>,
    /// Canonical bytes of the request at hand: kept for its capacity.
    key: RefCell<Vec<u8>>,
    /// A body being written: kept for its capacity.
    scratch: RefCell<Vec<u8>>,
}

/// What is known of a request while it is answered.
struct Call<'r> {
    worker: &'r Rc<Worker>,
    route: Route,
    method: Method,
    path: &'r str,
    id: RequestId<'r>,
    begun_ns: u64,
}

/// What the books need to know of a request.
struct Asked<'r> {
    route: Route,
    method: Method,
    path: &'r str,
    id: RequestId<'r>,
    begun_ns: u64,
}

/// The same, owned, for an answer that comes later. Dropping it without [`end`](LaterCall::end) counts the request as
/// given up.
struct LaterCall {
    worker: Rc<Worker>,
    route: Route,
    method: Method,
    path: String,
    id: String,
    begun_ns: u64,
    ended: bool,
}

impl Api {
    /// The application of worker `index`. To be called inside its runtime.
    pub fn new(
        process: Arc<Process>,
        metrics: Rc<WorkerMetrics>,
        heartbeat: Arc<Heartbeat>,
        service: Rc<StoryService>,
        access: AccessLog,
    ) -> Api {
        metrics.io_driver(context::driver_name());
        let id = process.worker_id(metrics.id());
        let worker = Worker {
            process,
            metrics,
            heartbeat,
            service,
            access,
            id,
            started_ns: context::now_ns(),
            requests: Cell::new(0),
            accepting: Cell::new(true),
            checks: Checks::default(),
            system: RefCell::default(),
            key: RefCell::default(),
            scratch: RefCell::default(),
        };
        Api {
            worker: Rc::new(worker),
        }
    }

    /// Asks the dependencies how they are, for the first time: to be awaited before the worker counts as serving, so
    /// that the first probe after "ready" finds an answer.
    pub async fn look(&self) {
        self.worker.checks.refresh(&self.worker).await;
    }

    /// Runs for as long as the worker: asks the dependencies how they are, and brings slow figures up to date.
    pub fn housekeeping(&self) -> impl Future<Output = ()> + 'static {
        let worker = Rc::clone(&self.worker);
        async move {
            loop {
                worker.tell_figures();
                crate::runtime::time::sleep(Duration::from_millis(crate::limits::health::CHECK_MS)).await;
                worker.checks.refresh(&worker).await;
            }
        }
    }

    /// The worker takes no new connections any more.
    pub fn stop_accepting(&self) {
        self.worker.accepting.set(false);
    }
}

impl Worker {
    /// Figures that are cheaper to tell now and then than with each event.
    fn tell_figures(&self) {
        let figures = self.service.cache().borrow().figures();
        self.metrics.cache_holds(figures.entries, figures.bytes);
        self.metrics.executor(ExecutorFigures {
            turns: self.heartbeat.turns(),
            polls: self.heartbeat.pulse().polls,
            stalls: self.heartbeat.stalls(),
        });
    }

    /// Counts and logs a request that is answered.
    fn book(&self, asked: &Asked<'_>, status: Status, bytes: usize) {
        let Asked {
            route,
            method,
            path,
            id,
            begun_ns,
        } = *asked;
        let elapsed = Duration::from_nanos(context::precise_now_ns().saturating_sub(begun_ns));
        self.requests.set(self.requests.get().wrapping_add(1));
        self.metrics
            .request_ended(route as usize, method.as_str(), status.code(), elapsed);
        if self.access.wants(status.code()) {
            logging::access(&Access {
                request_id: id.as_str(),
                worker_id: &self.id,
                method: method.as_str(),
                route: route.name(),
                path,
                status: status.code(),
                duration: elapsed,
                bytes: bytes as u64,
            });
        }
    }
}

impl<'r> Call<'r> {
    /// Answers at once.
    fn answer(
        &self,
        outbox: Outbox<'_>,
        status: Status,
        content_type: &str,
        fields: &[(FieldName, &[u8])],
        body: &[u8],
    ) -> Outcome {
        let mut response = router::stamp(outbox.respond(status), self.id.as_bytes(), &self.worker.id);
        if !status.is_bodiless() {
            response = response.content_type(content_type);
        }
        for (name, value) in fields {
            response = response.header(*name, value);
        }
        let keep_alive = response.body(body);
        let asked = Asked {
            route: self.route,
            method: self.method,
            path: self.path,
            id: self.id,
            begun_ns: self.begun_ns,
        };
        self.worker.book(&asked, status, body.len());
        Outcome::Done { keep_alive }
    }

    /// Answers at once with a JSON body.
    fn json(&self, outbox: Outbox<'_>, status: Status, body: &[u8]) -> Outcome {
        self.answer(outbox, status, JSON, &[], body)
    }

    /// Answers at once with JSON that `write` appends to a buffer.
    fn write_json(&self, outbox: Outbox<'_>, status: Status, write: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let mut body = self.worker.scratch.take();
        body.clear();
        write(&mut body);
        let outcome = self.json(outbox, status, &body);
        self.worker.scratch.replace(body);
        outcome
    }

    /// Answers at once with an error.
    fn problem(&self, outbox: Outbox<'_>, problem: &Problem) -> Outcome {
        let body = problem.to_json(self.id.as_str());
        let allow = self.route.allow();
        let retry_after = problem.retry_after_s.map(|seconds| seconds.to_string());
        let mut fields: Vec<(FieldName, &[u8])> = Vec::new();
        if problem.status == Status::METHOD_NOT_ALLOWED {
            fields.push((field::ALLOW, allow.as_bytes()));
        }
        if let Some(seconds) = &retry_after {
            fields.push((field::RETRY_AFTER, seconds.as_bytes()));
        }
        self.answer(outbox, problem.status, PROBLEM_JSON, &fields, &body)
    }

    /// Answers later.
    fn later<F: Future<Output = Reply> + 'static>(&self, make: impl FnOnce(LaterCall) -> F) -> Outcome {
        let later: Later = Box::pin(make(LaterCall {
            worker: Rc::clone(self.worker),
            route: self.route,
            method: self.method,
            path: self.path.to_owned(),
            id: self.id.as_str().to_owned(),
            begun_ns: self.begun_ns,
            ended: false,
        }));
        Outcome::Later(later)
    }
}

impl LaterCall {
    /// The answer, counted.
    fn end(
        &mut self,
        status: Status,
        content_type: &'static str,
        mut fields: Vec<(FieldName, Vec<u8>)>,
        body: ReplyBody,
    ) -> Reply {
        let bytes = match &body {
            ReplyBody::Bytes(bytes) => bytes.len(),
            ReplyBody::Shared(bytes) => (**bytes).as_ref().len(),
            ReplyBody::Events(_) => 0,
        };
        self.book(status, bytes);
        fields.push((field::X_REQUEST_ID, self.id.clone().into_bytes()));
        fields.push((field::X_WORKER_ID, self.worker.id.clone().into_bytes()));
        Reply {
            status,
            content_type,
            fields,
            body,
        }
    }

    fn book(&mut self, status: Status, bytes: usize) {
        if !std::mem::replace(&mut self.ended, true) {
            let asked = Asked {
                route: self.route,
                method: self.method,
                path: &self.path,
                id: RequestId::Sent(&self.id),
                begun_ns: self.begun_ns,
            };
            self.worker.book(&asked, status, bytes);
        }
    }

    /// An error answer, counted.
    fn problem(&mut self, problem: &Problem) -> Reply {
        let body = problem.to_json(&self.id);
        let mut fields = Vec::new();
        if let Some(seconds) = problem.retry_after_s {
            fields.push((field::RETRY_AFTER, seconds.to_string().into_bytes()));
        }
        self.end(problem.status, PROBLEM_JSON, fields, ReplyBody::Bytes(body))
    }
}

impl Drop for LaterCall {
    fn drop(&mut self) {
        if !self.ended {
            self.worker.metrics.request_abandoned();
        }
    }
}

impl App for Api {
    fn call(&self, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
        let head = request.head;
        let (route, story_id) = Route::of(head.path);
        let call = Call {
            worker: &self.worker,
            route,
            method: head.method,
            path: head.path,
            id: RequestId::of(head),
            begun_ns: request.received_ns,
        };
        self.worker.metrics.request_began();
        if !route.takes(head.method) {
            return refuse_method(&call, outbox);
        }
        match route {
            Route::Generate => generate::generate(&call, request, outbox),
            Route::Live => health::live(&call, request, outbox),
            Route::Story => stories::story(&call, request, story_id, outbox),
            Route::Stories => stories::list(&call, request, outbox),
            Route::Styles => call.json(outbox, Status::OK, stories::styles()),
            Route::Health => call.json(outbox, Status::OK, br#"{"status":"healthy"}"#),
            Route::Ready => health::ready(&call, outbox),
            Route::Status => health::status(&call, request, outbox),
            Route::Worker => health::worker(&call, outbox),
            Route::Shutdown => health::shutdown(&call, request, outbox),
            Route::WorkerMetrics => metrics::worker(&call, outbox),
            Route::Metrics => metrics::all(&call, outbox),
            Route::OpenApi => call.json(outbox, Status::OK, docs::OPENAPI.as_bytes()),
            Route::Docs => call.answer(
                outbox,
                Status::OK,
                "text/html; charset=utf-8",
                &[],
                docs::PAGE.as_bytes(),
            ),
            Route::Unknown => call.problem(
                outbox,
                &Problem::new(Status::NOT_FOUND, "there is nothing at this path"),
            ),
        }
    }

    fn refuse(&self, reject: &Reject, outbox: Outbox<'_>) {
        self.worker.metrics.request_rejected(reject.status.code());
        let id = RequestId::made();
        let body = Problem::new(reject.status, reject.detail).to_json(id.as_str());
        router::stamp(outbox.respond(reject.status), id.as_bytes(), &self.worker.id)
            .content_type(PROBLEM_JSON)
            .body(&body);
    }

    fn failed(&self, outbox: Outbox<'_>) -> bool {
        self.worker.metrics.request_abandoned();
        self.worker
            .metrics
            .request_rejected(Status::INTERNAL_SERVER_ERROR.code());
        let id = RequestId::made();
        tracing::error!(
            request_id = id.as_str(),
            worker_id = self.worker.id,
            "a handler panicked"
        );
        let problem = Problem::new(
            Status::INTERNAL_SERVER_ERROR,
            "a mistake in the server; the log has it under this id",
        );
        let body = problem.to_json(id.as_str());
        router::stamp(outbox.respond(problem.status), id.as_bytes(), &self.worker.id)
            .content_type(PROBLEM_JSON)
            .body(&body)
    }

    fn opened(&self) {
        self.worker.metrics.connection_opened();
    }

    fn closed(&self) {
        self.worker.metrics.connection_closed();
    }

    fn received(&self, bytes: usize) {
        self.worker.metrics.received(bytes as u64);
    }

    fn sent(&self, bytes: usize) {
        self.worker.metrics.sent(bytes as u64);
    }
}

fn refuse_method(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    if call.route == Route::Unknown {
        // `OPTIONS *` asks about the server itself (RFC 9110 section 9.3.7).
        return match (call.method, call.path) {
            (Method::Options, "*") => call.answer(
                outbox,
                Status::NO_CONTENT,
                JSON,
                &[(field::ALLOW, b"GET, HEAD, POST, OPTIONS")],
                &[],
            ),
            _ => call.problem(
                outbox,
                &Problem::new(Status::NOT_FOUND, "there is nothing at this path"),
            ),
        };
    }
    if call.method == Method::Options {
        return call.answer(
            outbox,
            Status::NO_CONTENT,
            JSON,
            &[(field::ALLOW, call.route.allow().as_bytes())],
            &[],
        );
    }
    let detail = format!("{} is not for this path; it takes {}", call.method, call.route.allow());
    call.problem(outbox, &Problem::new(Status::METHOD_NOT_ALLOWED, detail))
}

/// An exchange is asked about rarely enough that handlers take it from the outbox.
fn wants_events(request: &Request<'_>, exchange: Exchange) -> bool {
    !exchange.is_head
        && request.head.headers.get_all("accept").any(|line| {
            std::str::from_utf8(line).unwrap_or_default().split(',').any(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default();
                let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
                media.eq_ignore_ascii_case("text/event-stream") && !refused
            })
        })
}
