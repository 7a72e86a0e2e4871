//! The HTTP face: which path does what, and how answers and errors look.
//!
//! [`Api`] is the application of one worker: `server` calls it with whole requests, it calls `story::service`, and
//! keeps the books (metrics, access log). What is at hand is answered at once, without a heap allocation; what must
//! wait becomes a future. Deliberately absent: sockets, SQL, and anything shared between workers but what
//! [`Process`] and the metrics registry hold.

mod call;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
mod checks;
pub mod client;
mod compress;
mod docs;
mod dress;
#[cfg(debug_assertions)]
mod faults;
mod fixed;
mod forms;
mod generate;
mod health;
mod input;
mod journal;
mod memory;
mod metrics;
#[cfg(feature = "micro")]
#[doc(hidden)]
pub mod micro;
mod panics;
mod problem;
mod process;
mod rate;
mod redis;
mod request_id;
mod router;
mod sse;
mod stories;
mod system;

pub use docs::OPENAPI;
pub use process::{Lifecycle, Process, Stuck};
pub use router::Route;

use crate::http::{FieldName, Method, Reject, Status, field};
use crate::resilience::rate::Turnstile;
use crate::runtime::context;
use crate::runtime::executor::spawn_detached;
use crate::runtime::heartbeat::Heartbeat;
use crate::server::{App, Outbox, Outcome, Request};
use crate::story::service::StoryService;
use crate::telemetry::logging::{self, Access, AccessLog};
use crate::telemetry::metrics::{ExecutorFigures, Labels, WorkerMetrics};
use crate::telemetry::trace::Trace;
use call::{Asked, Call, From, LaterCall, Vary};
use checks::Checks;
use client::{Client, Forwarding};
use dress::{Dress, NO_STORE};
use problem::{PROBLEM_JSON, Problem};
use request_id::RequestId;
use std::cell::{Cell, OnceCell, RefCell};
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
    forwarding: Forwarding,
    turnstile: Rc<Turnstile>,
    id: String,
    dress: Dress,
    /// Answers are compressed for who takes it.
    compression: bool,
    started_ns: u64,
    requests: Cell<u64>,
    /// Evictions that were told of.
    evicted: Cell<u64>,
    accepting: Cell<bool>,
    checks: Checks,
    /// Figures of /proc, and when they were read.
    system: RefCell<Option<(u64, system::System)>>,
    /// Canonical bytes of the request at hand: kept for its capacity.
    key: RefCell<Vec<u8>>,
    /// A body being written: kept for its capacity.
    scratch: RefCell<Vec<u8>>,
    /// The request whose handler has just panicked, where it was to be answered later.
    lost: RefCell<Option<panics::Lost>>,
    /// Requests may ask for faults.
    #[cfg(debug_assertions)]
    faults: bool,
}

impl Api {
    /// The application of worker `index`. To be called inside its runtime.
    pub fn new(
        process: Arc<Process>,
        metrics: Rc<WorkerMetrics>,
        heartbeat: Arc<Heartbeat>,
        service: Rc<StoryService>,
        access: AccessLog,
        forwarding: Forwarding,
    ) -> Api {
        metrics.io_driver(context::driver_name());
        let id = process.worker_id(metrics.id());
        let face = process.face();
        let turnstile = Turnstile::new(
            Arc::clone(&process.rate),
            service.redis().is_some(),
            Rc::clone(&metrics),
        );
        let turnstile = Rc::new(turnstile);
        if let Some(redis) = service.redis() {
            spawn_detached("rate-leases", Rc::clone(&turnstile).share(Rc::clone(redis)));
        }
        let worker = Worker {
            dress: Dress::new(&face, &id),
            compression: face.compression,
            process,
            metrics,
            heartbeat,
            service,
            access,
            forwarding,
            turnstile,
            id,
            started_ns: context::now_ns(),
            requests: Cell::new(0),
            evicted: Cell::new(0),
            accepting: Cell::new(true),
            checks: Checks::default(),
            system: RefCell::default(),
            key: RefCell::default(),
            scratch: RefCell::default(),
            lost: RefCell::default(),
            #[cfg(debug_assertions)]
            faults: faults::are_allowed(),
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
                crate::runtime::time::sleep(worker.checks.pause()).await;
                worker.checks.refresh(&worker).await;
            }
        }
    }

    /// Answers where no request is at hand. So with CORS for named origins there is no saying whether its origin is one
    /// of them: a script then learns that the request failed, and not how.
    fn without_request(
        &self,
        outbox: Outbox<'_>,
        id: &RequestId<'_>,
        trace_id: Option<&str>,
        problem: &Problem,
    ) -> bool {
        let dress = &self.worker.dress;
        let mut response = outbox
            .respond(problem.status)
            .header(field::X_REQUEST_ID, id.as_bytes())
            .lines(dress.stamps(false).plain.all())
            .content_type(PROBLEM_JSON)
            .header(field::CACHE_CONTROL, NO_STORE);
        if let Some(vary) = dress.vary(Vary::Nothing) {
            response = response.header(field::VARY, vary);
        }
        if let Some(seconds) = problem.retry_after_s {
            response = response.header(field::RETRY_AFTER, seconds.to_string());
        }
        response.body(&problem.to_json(id.as_str(), trace_id))
    }

    /// So many connections were taken for another worker.
    pub fn stood_in(&self, connections: u64) {
        self.worker.metrics.stood_in(connections);
    }

    /// Requests answered since the worker's begin.
    pub fn answered(&self) -> u64 {
        self.worker.requests.get()
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
        let told = self.evicted.replace(figures.evictions);
        self.metrics.cache_evicted(figures.evictions.saturating_sub(told));
        self.metrics.database_state(self.service.store().health().state as u64);
        rate::tell_state(self);
        self.metrics
            .loop_lag(Duration::from_nanos(context::take_longest_turn_ns()));
        self.metrics.executor(ExecutorFigures {
            turns: self.heartbeat.turns(),
            polls: self.heartbeat.pulse().polls,
            stalls: self.heartbeat.stalls(),
        });
    }

    /// Who asks: a system call, and a walk over the fields where the peer is a trusted proxy.
    fn client(&self, request: &Request<'_>) -> Client {
        let peer = request.peer;
        client::find(
            peer.origin(),
            peer.is_secure(),
            request.head.headers.iter(),
            &self.forwarding,
        )
    }

    /// Counts and logs a request that is answered.
    fn book(&self, asked: &Asked<'_>, status: Status, bytes: usize) {
        let Asked {
            route,
            method,
            path,
            id,
            begun_ns,
            from,
            trace,
            shed,
        } = *asked;
        let elapsed = Duration::from_nanos(context::precise_now_ns().saturating_sub(begun_ns));
        self.requests.set(self.requests.get().wrapping_add(1));
        self.metrics
            .request_ended(route as usize, method.as_str(), status.code(), elapsed);
        if self.access.wants(status.code()) && !(shed && self.access == AccessLog::Errors) {
            let client = match from {
                From::Request(request) => self.client(request).addr,
                From::Found(addr) => addr,
            };
            trace.with(&id, |trace| {
                logging::access(&Access {
                    trace,
                    client,
                    worker_id: &self.id,
                    method: method.as_str(),
                    route: route.name(),
                    path,
                    status: status.code(),
                    duration: elapsed,
                    bytes: bytes as u64,
                });
            });
        }
    }
}

impl App for Api {
    fn call(&self, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
        let head = request.head;
        let (route, story_id) = Route::of(head.path);
        let mut call = Call {
            worker: &self.worker,
            route,
            method: head.method,
            path: head.path,
            head,
            id: RequestId::of(head),
            begun_ns: request.received_ns,
            request,
            secure: request.peer.is_secure(),
            origin: self.worker.dress.origin(head),
            standing: None,
            trace: OnceCell::new(),
            shed: Cell::new(false),
        };
        self.worker.metrics.request_began();
        #[cfg(debug_assertions)]
        if self.worker.faults
            && let Some(fault) = head.headers.get("x-fault")
        {
            return faults::commit(&call, fault, outbox);
        }
        // The same that limits spare: what orchestrators, balancers and scrapers ask, and administrators.
        if request.peer.is_late() && route.is_limited() {
            return memory::refuse(&call, outbox);
        }
        if route.is_limited() && self.worker.turnstile.is_on() {
            match rate::pass(&call) {
                Ok(standing) => call.standing = standing,
                Err(refused) => return refused.answer(&call, outbox),
            }
        }
        if !route.takes(head.method) {
            return refuse_method(&call, outbox);
        }
        match route {
            Route::Generate => generate::generate(&call, request, outbox),
            Route::Live => health::live(&call, request, outbox),
            Route::Story => stories::story(&call, story_id, outbox),
            Route::Stories => stories::list(&call, request, outbox),
            Route::Styles => fixed::answer(&call, outbox, &stories::STYLES),
            Route::Health => call.probe(outbox, Status::OK, br#"{"status":"healthy"}"#),
            Route::Ready => health::ready(&call, outbox),
            Route::Status => health::status(&call, request, outbox),
            Route::Worker => health::worker(&call, outbox),
            Route::Shutdown => health::shutdown(&call, request, outbox),
            Route::RateLimit => rate::admin(&call, request, outbox),
            Route::WorkerMetrics => metrics::worker(&call, outbox),
            Route::Metrics => metrics::all(&call, outbox),
            Route::OpenApi => fixed::answer(&call, outbox, &docs::DESCRIPTION),
            Route::Docs => fixed::answer(&call, outbox, &docs::DOCS),
            Route::Unknown => call.problem(
                outbox,
                &Problem::new(Status::NOT_FOUND, "there is nothing at this path"),
            ),
        }
    }

    fn refuse(&self, reject: &Reject, outbox: Outbox<'_>) {
        self.refuse_heard(reject, &[], outbox);
    }

    fn refuse_heard(&self, reject: &Reject, heard: &[u8], outbox: Outbox<'_>) {
        self.worker.metrics.request_rejected(reject.status.code());
        let [sent, parent] = ["x-request-id", "traceparent"].map(|name| crate::http::heard(heard, name));
        let id = RequestId::of_fields(sent, parent);
        let trace = Trace::from_parts(id.as_str(), parent, None, || context::random(|rng| rng.u64(..)));
        let mut problem = Problem::new(reject.status, reject.detail);
        if reject.status == Status::SERVICE_UNAVAILABLE {
            problem.retry_after_s = Some(crate::limits::connection::RETRY_AFTER_S);
        }
        self.without_request(outbox, &id, Some(trace.trace_id()), &problem);
    }

    fn failed(&self, request: Option<&Request<'_>>, outbox: Outbox<'_>) -> bool {
        panics::answer(self, request, outbox)
    }

    fn unintroduced(&self) {
        self.worker.metrics.proxy_refused();
    }

    fn opened(&self) {
        self.worker.metrics.connection_opened();
    }

    fn closed(&self) {
        self.worker.metrics.connection_closed();
    }

    fn shook_hands(&self, ok: bool, elapsed: Duration) {
        self.worker.metrics.shook_hands(ok, elapsed);
    }

    fn turned_away(&self) {
        self.worker.metrics.connection_turned_away();
    }

    fn handed_over(&self) {
        self.worker.metrics.handed_over();
    }

    fn handed_back(&self) {
        self.worker.metrics.handed_back();
    }

    fn refused_for_memory(&self) {
        self.worker.metrics.refused_for_memory();
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
            (Method::Options, "*") => options(call, outbox, &[(field::ALLOW, b"GET, HEAD, POST, OPTIONS")]),
            _ => call.problem(
                outbox,
                &Problem::new(Status::NOT_FOUND, "there is nothing at this path"),
            ),
        };
    }
    let allow = call.route.allow();
    if call.method == Method::Options {
        let mut fields = vec![(field::ALLOW, allow.as_bytes())];
        let preflight = call.worker.dress.preflight(call.head, allow, call.route.reads());
        fields.extend(preflight.into_iter().flatten());
        return options(call, outbox, &fields);
    }
    let detail = format!("{} is not for this path; it takes {allow}", call.method);
    call.problem(outbox, &Problem::new(Status::METHOD_NOT_ALLOWED, detail))
}

fn options(call: &Call<'_>, outbox: Outbox<'_>, fields: &[(FieldName, &[u8])]) -> Outcome {
    call.answer(outbox, Status::NO_CONTENT, JSON, Vary::Nothing, fields, &[])
}
