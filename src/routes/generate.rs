//! POST /api/v1/stories/generate.

use super::problem::Problem;
use super::{Call, JSON, input, sse, wants_events};
use crate::cache::local::CachedStory;
use crate::http::{FieldName, Status, field};
use crate::server::{Outbox, Outcome, ReplyBody, Request};
use crate::story::key;
use crate::story::service::{Source, TellError};
use std::rc::Rc;

/// RFC 9211: the per-core cache had it; it was in Redis or in the store; it was told now (or with an equal request);
/// the per-core cache had it past its time, and nothing else could be asked.
fn cache_status(source: Source) -> &'static str {
    match source {
        Source::Cache => "roadtrip-api; hit",
        Source::Redis => "roadtrip-api; fwd=miss; detail=redis",
        Source::Store => "roadtrip-api; fwd=miss; detail=store",
        Source::Told => "roadtrip-api; fwd=miss; stored",
        Source::Joined => "roadtrip-api; fwd=miss; collapsed",
        Source::Stale => "roadtrip-api; fwd=stale; fwd-status=503; detail=stale-if-error",
    }
}

pub(super) fn generate(call: &Call<'_>, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
    if let Some(media) = request.head.content_type()
        && !is_json(media)
    {
        let problem = Problem::new(Status::UNSUPPORTED_MEDIA_TYPE, "send application/json");
        return call.problem(outbox, &problem);
    }
    let wish = match input::read(request.body) {
        Ok(wish) => wish,
        Err(problem) => return call.problem(outbox, &problem),
    };
    let events = wants_events(request, outbox.exchange());
    let service = &call.worker.service;
    let mut canonical = call.worker.key.borrow_mut();
    key::request_bytes(&mut canonical, &wish.asked());
    if let Some(story) = service.cached(&canonical) {
        call.worker.metrics.cache_hit();
        if !events {
            let fields: [(FieldName, &[u8]); 1] = [(field::CACHE_STATUS, cache_status(Source::Cache).as_bytes())];
            return call.answer(outbox, Status::OK, JSON, &fields, story.body());
        }
        return call.later(|mut call| async move { sse::reply(&mut call, story, cache_status(Source::Cache)) });
    }
    if let Some((story, late_s)) = service.stale(&canonical, || wish.asked().to_request()) {
        call.worker.metrics.cache_hit();
        // Served past its time (RFC 5861), which a negative ttl says (RFC 9211 section 2.3).
        let status = format!("roadtrip-api; hit; ttl=-{late_s}");
        if !events {
            let fields: [(FieldName, &[u8]); 1] = [(field::CACHE_STATUS, status.as_bytes())];
            return call.answer(outbox, Status::OK, JSON, &fields, story.body());
        }
        return call.later(|mut call| async move { sse::reply(&mut call, story, &status) });
    }
    call.worker.metrics.cache_missed();
    let canonical: Rc<[u8]> = canonical.as_slice().into();
    let asked = wish.asked().to_request();
    let service = Rc::clone(service);
    call.later(|mut call| async move {
        match service.tell(&canonical, asked).await {
            Ok((story, source)) if events => sse::reply(&mut call, story, cache_status(source)),
            Ok((story, source)) => call.end(
                Status::OK,
                JSON,
                vec![(field::CACHE_STATUS, cache_status(source).as_bytes().to_vec())],
                ReplyBody::Shared(story),
            ),
            Err(error) => call.problem(&problem_of(&error, &call.id)),
        }
    })
}

/// `application/json` or a `+json` type, with any parameters (RFC 6839 section 3.1).
fn is_json(media: &[u8]) -> bool {
    let media = media
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if media.eq_ignore_ascii_case(b"application/json") {
        return true;
    }
    let lower = media.to_ascii_lowercase();
    lower.starts_with(b"application/") && lower.ends_with(b"+json")
}

/// The error of the domain as the client sees it; what only the operator may see goes to the log.
pub(super) fn problem_of(error: &TellError, request_id: &str) -> Problem {
    let (status, detail, retry_after_s) = match error {
        TellError::Store(error) => {
            tracing::warn!(request_id, %error, "the store failed a request");
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
            "too many stories are being told at once",
            Some(1),
        ),
        TellError::Timeout => (Status::SERVICE_UNAVAILABLE, "the story took too long", Some(1)),
        TellError::Internal => (Status::INTERNAL_SERVER_ERROR, "the story could not be told", None),
    };
    Problem {
        retry_after_s,
        ..Problem::new(status, detail)
    }
}

/// The story for whoever holds it.
pub(super) type Shared = Rc<CachedStory>;
