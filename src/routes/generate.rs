//! POST /api/v1/stories/generate.

use super::problem::Problem;
use super::{Call, LaterCall, Vary, dress, forms, input, sse};
use crate::cache::local::CachedStory;
use crate::http::encode::Effort;
use crate::http::negotiate::{Codings, MediaType, SentType, acceptance};
use crate::http::{FieldName, RequestHead, Status, field};
use crate::limits::overload::{RETRY_AFTER_S_MAX, RETRY_AFTER_S_MIN};
use crate::runtime::context;
use crate::server::{Outbox, Outcome, Reply, Request};
use crate::story::key;
use crate::story::service::{Source, TellError};
use crate::telemetry::trace::Trace;
use std::borrow::Cow;
use std::rc::Rc;

/// RFC 9211: the per-core cache had it; it was in Redis or in the store; it was told now (or with an equal request);
/// the per-core cache had it past its time, and nothing else could be asked.
fn cache_status(source: Source) -> &'static str {
    match source {
        Source::Cache => dress::HIT,
        Source::Redis => "roadtrip-api; fwd=miss; detail=redis",
        Source::Store => "roadtrip-api; fwd=miss; detail=store",
        Source::Told => "roadtrip-api; fwd=miss; stored",
        Source::Joined => "roadtrip-api; fwd=miss; collapsed",
        Source::Stale => "roadtrip-api; fwd=stale; fwd-status=503; detail=stale-if-error",
    }
}

pub(super) fn generate(call: &Call<'_>, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
    if let Err((detail, field)) = readable(call.head) {
        let problem = Problem::new(Status::UNSUPPORTED_MEDIA_TYPE, detail);
        return call.problem_with(outbox, &problem, &[field]);
    }
    let Some(kind) = Kind::wished(call.head) else {
        return call.refuse_kind(outbox, "application/json, or text/event-stream");
    };
    let codings = call.codings();
    if (kind == Kind::Events && !codings.accepts(None)) || call.worker.pick(&codings, Effort::Kept, usize::MAX).is_err()
    {
        return call.refuse_codings(outbox);
    }
    let wish = match input::read(request.body) {
        Ok(wish) => wish,
        Err(problem) => return call.problem(outbox, &problem),
    };
    let service = &call.worker.service;
    let mut canonical = call.worker.key.borrow_mut();
    key::request_bytes(&mut canonical, &wish.asked());
    if let Some(story) = service.cached(&canonical) {
        call.worker.metrics.cache_hit();
        if kind == Kind::Json
            && let Some(form) = forms::at_once(call, Some(&canonical), &story, &codings)
        {
            let stamp = &call.worker.dress.stamps(call.secure).told;
            return call.answer_stamped(outbox, Status::OK, stamp, form.lines_elsewhere(), form.body());
        }
        return soon(
            call,
            kind,
            &canonical,
            story,
            codings,
            cache_status(Source::Cache).into(),
        );
    }
    if let Some((story, late_s)) = service.stale(&canonical, || wish.asked().to_request()) {
        call.worker.metrics.cache_hit();
        // Served past its time (RFC 5861), which a negative ttl says (RFC 9211 section 2.3).
        let status = format!("roadtrip-api; hit; ttl=-{late_s}");
        if kind == Kind::Json
            && let Some(form) = forms::at_once(call, Some(&canonical), &story, &codings)
        {
            let stamp = call.worker.dress.told(call.secure, &status);
            return call.answer_stamped(outbox, Status::OK, &stamp, form.lines_elsewhere(), form.body());
        }
        return soon(call, kind, &canonical, story, codings, status.into());
    }
    call.worker.metrics.cache_missed();
    if service.sheds(&canonical) {
        return call.shed(outbox);
    }
    let canonical: Rc<[u8]> = canonical.as_slice().into();
    let asked = wish.asked().to_request();
    let service = Rc::clone(service);
    call.later(|mut call| async move {
        match service.tell(&canonical, asked, &call.trace).await {
            Ok((story, source)) if kind == Kind::Events => sse::reply(&mut call, story, cache_status(source)),
            Ok((story, source)) => told(&mut call, &canonical, story, cache_status(source), &codings).await,
            Err(error) => call.failed(&error),
        }
    })
}

/// A story from the worker's own cache that cannot go out at once: as events, or in a coding that must be waited for.
fn soon(
    call: &Call<'_>,
    kind: Kind,
    request: &[u8],
    story: Shared,
    codings: Codings,
    status: Cow<'static, str>,
) -> Outcome {
    if kind == Kind::Events {
        return call.later(|mut call| async move { sse::reply(&mut call, story, &status) });
    }
    let request = request.to_vec();
    call.later(|mut call| async move { told(&mut call, &request, story, &status, &codings).await })
}

/// The story as an answer to a wish.
async fn told(call: &mut LaterCall, request: &[u8], story: Shared, status: &str, codings: &Codings) -> Reply {
    let Some((story, coding)) = forms::anyhow(&call.worker, Some(request), story, codings).await else {
        return call.too_busy();
    };
    let mut fields = forms::fields(&story, coding, true);
    fields.push((field::CACHE_STATUS, status.into()));
    forms::reply(call, &story, coding, Vary::KindAndCoding, fields)
}

/// What a story is sent as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Events,
}

impl Kind {
    /// What weighs more in Accept; where both weigh alike, events for who names them and not just takes anything.
    #[inline]
    fn wished(head: &RequestHead<'_>) -> Option<Kind> {
        let mut lines = head.accept();
        match (lines.next(), lines.next()) {
            (None | Some(b"*/*"), None) => Some(Kind::Json),
            _ => Kind::weighed(head),
        }
    }

    fn weighed(head: &RequestHead<'_>) -> Option<Kind> {
        let json = acceptance(head.accept(), &MediaType::JSON);
        let events = acceptance(head.accept(), &MediaType::EVENTS);
        match (json.weight, events.weight) {
            (0, 0) => None,
            (json, events_weight) if events_weight > json => Some(Kind::Events),
            (json, events_weight) if events_weight == json && events.is_named => Some(Kind::Events),
            _ => Some(Kind::Json),
        }
    }
}

/// Whether the body can be read; else what is wrong with what is said of it, and what would be right. Codings are
/// refused: a body is at most 64 KiB, so nothing is gained, and no small body can become a large one.
fn readable(head: &RequestHead<'_>) -> Result<(), (&'static str, (FieldName, &'static [u8]))> {
    if let Some(value) = head.content_type()
        // What nearly everybody sends, without taking it apart.
        && value != b"application/json"
    {
        let accept = (field::ACCEPT, &b"application/json"[..]);
        match SentType::read(value) {
            Some(sent) if !sent.is_json() => return Err(("send application/json", accept)),
            Some(sent) if !sent.is_utf8() => return Err(("send JSON in UTF-8", accept)),
            Some(_) => {}
            None => return Err(("Content-Type is no media type; send application/json", accept)),
        }
    }
    let identity = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    if head
        .content_encoding()
        .flat_map(|line| line.split(|byte| *byte == b','))
        .all(identity)
    {
        Ok(())
    } else {
        Err((
            "send the body as it is, without a content coding",
            (field::ACCEPT_ENCODING, b"identity"),
        ))
    }
}

/// The error of the domain as the client sees it; what only the operator may see goes to the log.
pub(super) fn problem_of(error: &TellError, trace: &Trace) -> Problem {
    let (request_id, trace_id, span_id) = (trace.request_id(), trace.trace_id(), trace.span_id());
    let (status, detail, retry_after_s) = match error {
        TellError::Store(error) => {
            tracing::warn!(request_id, trace_id, span_id, %error, "the store failed a request");
            let status = if error.is_retryable() {
                Status::SERVICE_UNAVAILABLE
            } else {
                Status::INTERNAL_SERVER_ERROR
            };
            (
                status,
                "stories cannot be kept or fetched right now",
                error.retry_after_s(),
            )
        }
        TellError::Overloaded => (
            Status::SERVICE_UNAVAILABLE,
            "more is asked of this server than it can do in time; Retry-After says when to ask again",
            Some(context::random(|random| {
                random.u32(RETRY_AFTER_S_MIN..=RETRY_AFTER_S_MAX)
            })),
        ),
        TellError::Timeout => (Status::SERVICE_UNAVAILABLE, "the story took too long", Some(1)),
        TellError::Internal => {
            tracing::error!(request_id, trace_id, span_id, "a mistake kept a request from its story");
            (Status::INTERNAL_SERVER_ERROR, "the story could not be told", None)
        }
    };
    Problem {
        retry_after_s,
        ..Problem::new(status, detail)
    }
}

/// The story for whoever holds it.
pub(super) type Shared = Rc<CachedStory>;
