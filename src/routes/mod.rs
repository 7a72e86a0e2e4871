//! The HTTP face: which path does what, and how answers and errors look.
//!
//! [`Api`] is the application of one worker: `server` calls it with whole requests, it calls `story::service`, and
//! keeps the books (metrics, access log). What is at hand is answered at once, without a heap allocation; what must
//! wait becomes a future. Deliberately absent: sockets, SQL, and anything shared between workers but what
//! [`Process`] and the metrics registry hold.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
pub mod client;
mod compress;
mod docs;
mod dress;
mod fixed;
mod forms;
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

use crate::http::negotiate::{self, MediaType};
use crate::http::{FieldLines, FieldName, FieldPart, Method, Reject, RequestHead, Response, Status, field};
use crate::runtime::context;
use crate::runtime::heartbeat::Heartbeat;
use crate::server::{App, Later, Outbox, Outcome, Reply, ReplyBody, Request};
use crate::story::service::StoryService;
use crate::telemetry::logging::{self, Access, AccessLog};
use crate::telemetry::metrics::{ExecutorFigures, Labels, WorkerMetrics};
use client::{Client, Forwarding};
use dress::{Dress, NO_STORE};
use health::Checks;
use problem::{PROBLEM_JSON, Problem};
use request_id::RequestId;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
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
    id: String,
    dress: Dress,
    /// Answers are compressed for who takes it.
    compression: bool,
    started_ns: u64,
    requests: Cell<u64>,
    accepting: Cell<bool>,
    checks: Checks,
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
    head: &'r RequestHead<'r>,
    id: RequestId<'r>,
    begun_ns: u64,
    request: &'r Request<'r>,
    /// The connection is TLS.
    secure: bool,
    /// The origin that asks, where CORS names it.
    origin: Option<&'r [u8]>,
}

/// What the headers of a request change about its answer (RFC 9110 section 12.5.5), Origin aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vary {
    Nothing,
    Coding,
    KindAndCoding,
}

impl Vary {
    /// The field's value, `with_origin` where Origin changes it too.
    const fn text(self, with_origin: bool) -> Option<&'static str> {
        match (self, with_origin) {
            (Vary::Nothing, false) => None,
            (Vary::Nothing, true) => Some("Origin"),
            (Vary::Coding, false) => Some("Accept-Encoding"),
            (Vary::Coding, true) => Some("Accept-Encoding, Origin"),
            (Vary::KindAndCoding, false) => Some("Accept, Accept-Encoding"),
            (Vary::KindAndCoding, true) => Some("Accept, Accept-Encoding, Origin"),
        }
    }
}

/// What the books need to know of a request.
struct Asked<'r> {
    route: Route,
    method: Method,
    path: &'r str,
    id: RequestId<'r>,
    begun_ns: u64,
    from: From<'r>,
}

/// Whose address is logged.
#[derive(Clone, Copy)]
enum From<'r> {
    /// This request's, to be found when it is logged.
    Request(&'r Request<'r>),
    Found(Option<IpAddr>),
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
    client: Option<IpAddr>,
    secure: bool,
    origin: Option<Vec<u8>>,
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
        forwarding: Forwarding,
    ) -> Api {
        metrics.io_driver(context::driver_name());
        let id = process.worker_id(metrics.id());
        let face = process.face();
        let worker = Worker {
            dress: Dress::new(&face, &id),
            compression: face.compression,
            process,
            metrics,
            heartbeat,
            service,
            access,
            forwarding,
            id,
            started_ns: context::now_ns(),
            requests: Cell::new(0),
            accepting: Cell::new(true),
            checks: Checks::default(),
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

    /// Answers where no request is at hand. So with CORS for named origins there is no saying whether its origin is one
    /// of them: a script then learns that the request failed, and not how.
    fn without_request(&self, outbox: Outbox<'_>, id: &RequestId<'_>, problem: &Problem) -> bool {
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
        response.body(&problem.to_json(id.as_str()))
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
        } = *asked;
        let elapsed = Duration::from_nanos(context::precise_now_ns().saturating_sub(begun_ns));
        self.requests.set(self.requests.get().wrapping_add(1));
        self.metrics
            .request_ended(route as usize, method.as_str(), status.code(), elapsed);
        if self.access.wants(status.code()) {
            let client = match from {
                From::Request(request) => self.client(request).addr,
                From::Found(addr) => addr,
            };
            logging::access(&Access {
                request_id: id.as_str(),
                client,
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

impl Call<'_> {
    /// Answers at once.
    fn answer(
        &self,
        outbox: Outbox<'_>,
        status: Status,
        content_type: &str,
        vary: Vary,
        fields: &[(FieldName, &[u8])],
        body: &[u8],
    ) -> Outcome {
        let mut response = outbox
            .respond(status)
            .header(field::X_REQUEST_ID, self.id.as_bytes())
            .lines(self.worker.dress.stamps(self.secure).plain.all());
        if !status.is_bodiless() {
            response = response.content_type(content_type);
        }
        if let Some(vary) = self.worker.dress.vary(vary) {
            response = response.header(field::VARY, vary);
        }
        for (name, value) in fields {
            response = response.header(*name, value);
        }
        self.finish(response, status, body)
    }

    /// Answers at once with `stamp`, which says what the body is, and the lines in `more`.
    fn answer_stamped(
        &self,
        outbox: Outbox<'_>,
        status: Status,
        stamp: &FieldLines,
        more: FieldPart<'_>,
        body: &[u8],
    ) -> Outcome {
        let response = outbox
            .respond(status)
            .header(field::X_REQUEST_ID, self.id.as_bytes())
            .lines(stamp.all())
            .lines(more);
        self.finish(response, status, body)
    }

    fn finish(&self, response: Response<'_>, status: Status, body: &[u8]) -> Outcome {
        let keep_alive = self.worker.dress.share(response, self.origin).body(body);
        let asked = Asked {
            route: self.route,
            method: self.method,
            path: self.path,
            id: self.id,
            begun_ns: self.begun_ns,
            from: From::Request(self.request),
        };
        self.worker.book(&asked, status, body.len());
        Outcome::Done { keep_alive }
    }

    /// Answers a probe at once with a JSON body. Accept and Accept-Encoding are not looked at: the status is the answer,
    /// and a balancer that asks for HTML must not be told that the pod is down.
    fn probe(&self, outbox: Outbox<'_>, status: Status, body: &[u8]) -> Outcome {
        let stamp = &self.worker.dress.stamps(self.secure).probe;
        self.answer_stamped(outbox, status, stamp, FieldPart::EMPTY, body)
    }

    /// The same with JSON that `write` appends to a buffer.
    fn write_probe(&self, outbox: Outbox<'_>, status: Status, write: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        self.written(write, |body| self.probe(outbox, status, body))
    }

    /// Gives `answer` what `write` appends to a buffer.
    fn written(&self, write: impl FnOnce(&mut Vec<u8>), answer: impl FnOnce(&[u8]) -> Outcome) -> Outcome {
        let mut body = self.worker.scratch.take();
        body.clear();
        write(&mut body);
        let outcome = answer(&body);
        self.worker.scratch.replace(body);
        outcome
    }

    /// Whether Accept takes in what the path has.
    fn takes(&self, media: &MediaType) -> bool {
        negotiate::acceptance(self.head.accept(), media).weight > 0
    }

    /// The 406 for media types.
    fn refuse_kind(&self, outbox: Outbox<'_>, has: &str) -> Outcome {
        let detail = format!("Accept takes nothing that this path has, which is {has}");
        self.problem(outbox, &Problem::new(Status::NOT_ACCEPTABLE, detail))
    }

    /// Answers at once with an error.
    fn problem(&self, outbox: Outbox<'_>, problem: &Problem) -> Outcome {
        self.problem_with(outbox, problem, &[])
    }

    /// The same, with more fields.
    fn problem_with(&self, outbox: Outbox<'_>, problem: &Problem, more: &[(FieldName, &'static [u8])]) -> Outcome {
        let body = problem.to_json(self.id.as_str());
        let mut fields: Vec<(FieldName, &'static [u8])> = vec![(field::CACHE_CONTROL, NO_STORE.as_bytes())];
        fields.extend_from_slice(more);
        if problem.status == Status::METHOD_NOT_ALLOWED {
            fields.push((field::ALLOW, self.route.allow().as_bytes()));
        }
        let Some(seconds) = problem.retry_after_s else {
            return self.coded(outbox, problem.status, PROBLEM_JSON, &fields, &body);
        };
        let seconds = seconds.to_string();
        let mut fields: Vec<(FieldName, &[u8])> = fields;
        fields.push((field::RETRY_AFTER, seconds.as_bytes()));
        self.answer(outbox, problem.status, PROBLEM_JSON, Vary::Nothing, &fields, &body)
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
            // The connection is not at hand at the end of it. What waits can bear a system call.
            client: (self.worker.access != AccessLog::Off)
                .then(|| self.worker.client(self.request).addr)
                .flatten(),
            secure: self.secure,
            origin: self.origin.map(<[u8]>::to_vec),
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
        vary: Vary,
        mut fields: Vec<(FieldName, Vec<u8>)>,
        body: ReplyBody,
    ) -> Reply {
        let bytes = match &body {
            ReplyBody::Bytes(bytes) => bytes.len(),
            ReplyBody::Shared(bytes) => (**bytes).as_ref().len(),
            ReplyBody::Events(_) | ReplyBody::Omitted => 0,
        };
        self.book(status, bytes);
        fields.push((field::X_REQUEST_ID, self.id.clone().into_bytes()));
        fields.extend(self.worker.dress.vary(vary).map(|vary| (field::VARY, vary.into())));
        self.worker
            .dress
            .put_on(&mut fields, self.secure, self.origin.as_deref());
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
                from: From::Found(self.client),
            };
            self.worker.book(&asked, status, bytes);
        }
    }

    /// An error answer, counted.
    fn problem(&mut self, problem: &Problem) -> Reply {
        let body = problem.to_json(&self.id);
        let mut fields = vec![(field::CACHE_CONTROL, NO_STORE.into())];
        if let Some(seconds) = problem.retry_after_s {
            fields.push((field::RETRY_AFTER, seconds.to_string().into_bytes()));
        }
        let body = ReplyBody::Bytes(body);
        self.end(problem.status, PROBLEM_JSON, Vary::Nothing, fields, body)
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
            head,
            id: RequestId::of(head),
            begun_ns: request.received_ns,
            request,
            secure: request.peer.is_secure(),
            origin: self.worker.dress.origin(head),
        };
        self.worker.metrics.request_began();
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
        self.worker.metrics.request_rejected(reject.status.code());
        let id = RequestId::made();
        let mut problem = Problem::new(reject.status, reject.detail);
        if reject.status == Status::SERVICE_UNAVAILABLE {
            problem.retry_after_s = Some(crate::limits::connection::RETRY_AFTER_S);
        }
        self.without_request(outbox, &id, &problem);
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
        self.without_request(outbox, &id, &problem)
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
