//! A request while it is answered, and the ways to answer it: at once into the connection's buffer, or later by value.
//! Whichever way, it is counted, and the answer wears what all answers wear.

use super::Worker;
use super::dress::NO_STORE;
use super::generate::problem_of;
use super::panics;
use super::problem::{PROBLEM_JSON, Problem};
use super::rate;
use super::request_id::RequestId;
use super::router::Route;
use crate::http::negotiate::{self, MediaType};
use crate::http::{FieldLines, FieldName, FieldPart, Method, RequestHead, Response, Status, field};
use crate::resilience::rate::{Scope, Standing};
use crate::runtime::context;
use crate::server::{Later, Outbox, Outcome, Reply, ReplyBody, Request};
use crate::story::service::TellError;
use crate::telemetry::logging::AccessLog;
use crate::telemetry::trace::Trace;
use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;

/// What is known of a request while it is answered.
pub(super) struct Call<'r> {
    pub(super) worker: &'r Rc<Worker>,
    pub(super) route: Route,
    pub(super) method: Method,
    pub(super) path: &'r str,
    pub(super) head: &'r RequestHead<'r>,
    pub(super) id: RequestId<'r>,
    pub(super) begun_ns: u64,
    pub(super) request: &'r Request<'r>,
    /// The connection is TLS.
    pub(super) secure: bool,
    /// The origin that asks, where CORS names it.
    pub(super) origin: Option<&'r [u8]>,
    /// How the client stands towards its rate limit, where it has one.
    pub(super) standing: Option<Standing>,
    /// Its place in a trace, once something is to be said of it.
    pub(super) trace: OnceCell<Rc<Trace>>,
    /// It is shed.
    pub(super) shed: Cell<bool>,
}

/// What the headers of a request change about its answer (RFC 9110 section 12.5.5), Origin aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vary {
    Nothing,
    Coding,
    KindAndCoding,
}

impl Vary {
    /// The field's value, `with_origin` where Origin changes it too.
    pub(super) const fn text(self, with_origin: bool) -> Option<&'static str> {
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
pub(super) struct Asked<'r> {
    pub(super) route: Route,
    pub(super) method: Method,
    pub(super) path: &'r str,
    pub(super) id: RequestId<'r>,
    pub(super) begun_ns: u64,
    pub(super) from: From<'r>,
    pub(super) trace: Traced<'r>,
    /// It was shed: there is a line about all of them, and in the access log only where that has everything.
    pub(super) shed: bool,
}

/// Where the trace of a request is, which is made only if it is logged.
#[derive(Clone, Copy)]
pub(super) enum Traced<'r> {
    Call(&'r OnceCell<Rc<Trace>>, &'r RequestHead<'r>),
    Known(&'r Trace),
}

impl Traced<'_> {
    pub(super) fn with<R>(self, id: &RequestId<'_>, f: impl FnOnce(&Trace) -> R) -> R {
        match self {
            Traced::Call(cell, head) => f(cell.get_or_init(|| trace_of(id, head))),
            Traced::Known(trace) => f(trace),
        }
    }
}

fn trace_of(id: &RequestId<'_>, head: &RequestHead<'_>) -> Rc<Trace> {
    Rc::new(Trace::of(id.as_str(), head, || context::random(|rng| rng.u64(..))))
}

/// Whose address is logged.
#[derive(Clone, Copy)]
pub(super) enum From<'r> {
    /// This request's, to be found when it is logged.
    Request(&'r Request<'r>),
    Found(Option<IpAddr>),
}

/// The same, owned, for an answer that comes later. Dropping it without [`end`](LaterCall::end) counts the request as
/// given up.
pub(super) struct LaterCall {
    pub(super) worker: Rc<Worker>,
    pub(super) route: Route,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) id: String,
    pub(super) begun_ns: u64,
    pub(super) client: Option<IpAddr>,
    pub(super) secure: bool,
    pub(super) origin: Option<Vec<u8>>,
    pub(super) standing: Option<Standing>,
    pub(super) trace: Rc<Trace>,
    /// It was shed.
    pub(super) shed: bool,
    pub(super) ended: bool,
}

impl Call<'_> {
    /// Its place in a trace.
    pub(super) fn trace(&self) -> &Rc<Trace> {
        self.trace.get_or_init(|| trace_of(&self.id, self.head))
    }

    /// Answers at once.
    pub(super) fn answer(
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
    pub(super) fn answer_stamped(
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
        let mut response = self.worker.dress.share(response, self.origin);
        if let Some(standing) = self.standing {
            response = rate::tell(&self.worker.turnstile, response, Scope::Client, standing);
        }
        let keep_alive = response.body(body);
        let asked = Asked {
            route: self.route,
            method: self.method,
            path: self.path,
            id: self.id,
            begun_ns: self.begun_ns,
            from: From::Request(self.request),
            trace: Traced::Call(&self.trace, self.head),
            shed: self.shed.get(),
        };
        self.worker.book(&asked, status, body.len());
        Outcome::Done { keep_alive }
    }

    /// Answers a probe at once with a JSON body. Accept and Accept-Encoding are not looked at: the status is the answer,
    /// and a balancer that asks for HTML must not be told that the pod is down.
    pub(super) fn probe(&self, outbox: Outbox<'_>, status: Status, body: &[u8]) -> Outcome {
        let stamp = &self.worker.dress.stamps(self.secure).probe;
        self.answer_stamped(outbox, status, stamp, FieldPart::EMPTY, body)
    }

    /// The same with JSON that `write` appends to a buffer.
    pub(super) fn write_probe(&self, outbox: Outbox<'_>, status: Status, write: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        self.written(write, |body| self.probe(outbox, status, body))
    }

    /// Gives `answer` what `write` appends to a buffer.
    pub(super) fn written(&self, write: impl FnOnce(&mut Vec<u8>), answer: impl FnOnce(&[u8]) -> Outcome) -> Outcome {
        let mut body = self.worker.scratch.take();
        body.clear();
        write(&mut body);
        let outcome = answer(&body);
        self.worker.scratch.replace(body);
        outcome
    }

    /// Whether Accept takes in what the path has.
    pub(super) fn takes(&self, media: &MediaType) -> bool {
        negotiate::acceptance(self.head.accept(), media).weight > 0
    }

    /// The 406 for media types.
    pub(super) fn refuse_kind(&self, outbox: Outbox<'_>, has: &str) -> Outcome {
        let detail = format!("Accept takes nothing that this path has, which is {has}");
        self.problem(outbox, &Problem::new(Status::NOT_ACCEPTABLE, detail))
    }

    /// Answers at once with an error.
    pub(super) fn problem(&self, outbox: Outbox<'_>, problem: &Problem) -> Outcome {
        self.problem_with(outbox, problem, &[])
    }

    /// Answers at once that there is too much to do.
    #[cold]
    pub(super) fn shed(&self, outbox: Outbox<'_>) -> Outcome {
        self.shed.set(true);
        self.problem(outbox, &problem_of(&TellError::Overloaded, self.trace()))
    }

    /// The same, with more fields.
    pub(super) fn problem_with(
        &self,
        outbox: Outbox<'_>,
        problem: &Problem,
        more: &[(FieldName, &'static [u8])],
    ) -> Outcome {
        let body = problem.to_json(self.id.as_str(), Some(self.trace().trace_id()));
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

    /// The same, with fields made for this answer.
    pub(super) fn problem_owned(
        &self,
        outbox: Outbox<'_>,
        problem: &Problem,
        more: &[(FieldName, Vec<u8>)],
    ) -> Outcome {
        let body = problem.to_json(self.id.as_str(), Some(self.trace().trace_id()));
        let seconds = problem.retry_after_s.unwrap_or_default().to_string();
        let mut fields: Vec<(FieldName, &[u8])> = vec![(field::CACHE_CONTROL, NO_STORE.as_bytes())];
        fields.extend(more.iter().map(|(name, value)| (*name, &value[..])));
        if problem.retry_after_s.is_some() {
            fields.push((field::RETRY_AFTER, seconds.as_bytes()));
        }
        self.answer(outbox, problem.status, PROBLEM_JSON, Vary::Nothing, &fields, &body)
    }

    /// Answers later.
    pub(super) fn later<F: Future<Output = Reply> + 'static>(&self, make: impl FnOnce(LaterCall) -> F) -> Outcome {
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
            standing: self.standing,
            trace: Rc::clone(self.trace()),
            shed: false,
            ended: false,
        }));
        Outcome::Later(later)
    }
}

impl LaterCall {
    /// The answer, counted.
    pub(super) fn end(
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
        let body = match body {
            ReplyBody::Events(events) => ReplyBody::Events(Box::new(panics::Watched {
                events,
                request_id: self.id.clone(),
            })),
            whole => whole,
        };
        fields.push((field::X_REQUEST_ID, self.id.clone().into_bytes()));
        fields.extend(self.worker.dress.vary(vary).map(|vary| (field::VARY, vary.into())));
        if let Some(standing) = self.standing {
            fields.extend(rate::fields(&self.worker.turnstile, Scope::Client, standing));
        }
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

    pub(super) fn book(&mut self, status: Status, bytes: usize) {
        if !std::mem::replace(&mut self.ended, true) {
            let asked = Asked {
                route: self.route,
                method: self.method,
                path: &self.path,
                id: RequestId::Sent(&self.id),
                begun_ns: self.begun_ns,
                from: From::Found(self.client),
                trace: Traced::Known(&self.trace),
                shed: self.shed,
            };
            self.worker.book(&asked, status, bytes);
        }
    }

    /// The answer where there is no story, counted.
    pub(super) fn failed(&mut self, error: &TellError) -> Reply {
        self.shed = *error == TellError::Overloaded;
        self.problem(&problem_of(error, &self.trace))
    }

    /// An error answer, counted.
    pub(super) fn problem(&mut self, problem: &Problem) -> Reply {
        let body = problem.to_json(&self.id, Some(self.trace.trace_id()));
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
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            // It will be answered 500, and counted then.
            let lost = panics::Lost::of(self);
            self.worker.lost.replace(Some(lost));
        } else {
            self.worker.metrics.request_abandoned();
        }
    }
}
