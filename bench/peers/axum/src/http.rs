//! Routes, and answers as the service gives them.

use crate::service::{Service, Source};
use crate::story::{Told, Wish};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::routing::{get, post};
use bytes::Bytes;
use roadtrip_api::store::Cursor;
use roadtrip_api::story::key::location_key;
use roadtrip_api::story::types::Style;
use serde::Deserialize;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const WORKER_ID: HeaderName = HeaderName::from_static("x-worker-id");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=86400, immutable");

type Answer = Response<Body>;

pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/api/v1/stories/generate", post(generate))
        .route("/api/v1/stories/{id}", get(story))
        .route("/api/v1/stories", get(list))
        .route("/health", get(healthy))
        .route("/health/v2/live", get(healthy))
        .route("/health/v2/ready", get(ready))
        .with_state(service)
}

thread_local! {
    /// Canonical bytes of the request at hand: kept for its capacity.
    static CANONICAL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The client's id where it is well formed, else 128 random bits in hexadecimal.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(sent) = headers.get(REQUEST_ID) {
        let bytes = sent.as_bytes();
        let well = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        if !bytes.is_empty() && bytes.len() <= 128 && bytes.iter().all(well) {
            return sent.clone();
        }
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(fastrand::u128(..).to_be_bytes()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

fn dressed(status: StatusCode, id: HeaderValue, kind: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.reserve(12);
    headers.insert(REQUEST_ID, id);
    headers.insert(header::SERVER, HeaderValue::from_static("peer-axum"));
    headers.insert(WORKER_ID, HeaderValue::from_static("peer-0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_TYPE, kind);
    answer
}

fn problem(id: HeaderValue, status: u16, detail: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let detail = sonic_rs::to_string(detail).unwrap_or_default();
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":{detail},\"request_id\":\"{}\"}}",
        status.canonical_reason().unwrap_or_default(),
        status.as_u16(),
        id.to_str().unwrap_or_default()
    );
    let mut answer = dressed(status, id, PROBLEM, body.into());
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn told(id: HeaderValue, told: &Told, cache_status: &'static str) -> Answer {
    let mut answer = dressed(StatusCode::OK, id, JSON, told.json.clone());
    let headers = answer.headers_mut();
    headers.insert(CACHE_STATUS, HeaderValue::from_static(cache_status));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    headers.insert(header::CONTENT_LOCATION, told.location.clone());
    headers.insert(header::ETAG, told.etag.clone());
    answer
}

async fn generate(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> Answer {
    let id = request_id(&headers);
    if let Some(kind) = headers.get(header::CONTENT_TYPE)
        && kind != "application/json"
        && !kind.as_bytes().to_ascii_lowercase().starts_with(b"application/json")
    {
        return problem(id, 415, "send application/json");
    }
    let wish = match Wish::read(&body) {
        Ok(wish) => wish,
        Err((status, detail)) => return problem(id, status, &detail),
    };
    let at_hand = CANONICAL.with_borrow_mut(|canonical| {
        wish.canonical(canonical);
        service
            .cached(canonical)
            .ok_or_else(|| Box::<[u8]>::from(canonical.as_slice()))
    });
    let canonical = match at_hand {
        Ok(story) => return told(id, &story, "roadtrip-api; hit"),
        Err(canonical) => canonical,
    };
    match service.tell(&canonical, || wish.to_request()).await {
        Ok((story, source)) => told(
            id,
            &story,
            match source {
                Source::Redis => "roadtrip-api; fwd=miss; detail=redis",
                Source::Store => "roadtrip-api; fwd=miss; detail=store",
                Source::Told => "roadtrip-api; fwd=miss; stored",
                Source::Joined => "roadtrip-api; fwd=miss; collapsed",
            },
        ),
        Err(error) => problem(id, 503, &error),
    }
}

async fn story(State(service): State<Arc<Service>>, Path(text): Path<String>, headers: HeaderMap) -> Answer {
    let request = request_id(&headers);
    let Ok(id) = Uuid::try_parse(&text) else {
        return problem(request, 404, "this is no story id");
    };
    match service.by_id(id).await {
        Ok(Some(told)) => {
            let held = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| *tag == told.etag);
            let (status, body) = match held {
                true => (StatusCode::NOT_MODIFIED, Bytes::new()),
                false => (StatusCode::OK, told.json.clone()),
            };
            let mut answer = dressed(status, request, JSON, body);
            let headers = answer.headers_mut();
            headers.insert(header::CACHE_CONTROL, IMMUTABLE);
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            headers.insert(header::ETAG, told.etag.clone());
            headers.insert(header::LAST_MODIFIED, told.last_modified.clone());
            answer
        }
        Ok(None) => problem(request, 404, "no story has this id"),
        Err(error) => problem(request, 503, &error.to_string()),
    }
}

#[derive(Deserialize)]
struct ListQuery {
    location: Option<String>,
    style: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

async fn list(State(service): State<Arc<Service>>, headers: HeaderMap, Query(query): Query<ListQuery>) -> Answer {
    let id = request_id(&headers);
    let location = query
        .location
        .as_deref()
        .filter(|text| !text.trim().is_empty())
        .map(location_key);
    let style = match query.style.as_deref().map(str::parse::<Style>).transpose() {
        Ok(style) => style.map(Style::as_str),
        Err(unknown) => return problem(id, 422, &unknown.to_string()),
    };
    let limit = query.limit.unwrap_or(20).clamp(1, 100);
    let behind = match query
        .cursor
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(str::parse::<Cursor>)
        .transpose()
    {
        Ok(cursor) => cursor.map_or(Uuid::max(), Cursor::last),
        Err(error) => return problem(id, 422, &error.to_string()),
    };
    // One more than asked for, to know whether there is another page.
    match service.store.list(location.as_deref(), style, behind, limit + 1).await {
        Ok(mut stories) => {
            let more = stories.len() > limit as usize;
            stories.truncate(limit as usize);
            let mut body = b"{\"stories\":[".to_vec();
            for (index, (_, json)) in stories.iter().enumerate() {
                body.extend((index > 0).then_some(b','));
                body.extend_from_slice(json);
            }
            body.extend_from_slice(b"],\"next_cursor\":");
            match stories.last().filter(|_| more) {
                Some((last, _)) => body.extend_from_slice(format!("\"{}\"", Cursor::after(*last)).as_bytes()),
                None => body.extend_from_slice(b"null"),
            }
            body.push(b'}');
            let mut answer = dressed(StatusCode::OK, id, JSON, body.into());
            answer
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            answer
        }
        Err(error) => problem(id, 503, &error.to_string()),
    }
}

async fn healthy(headers: HeaderMap) -> Answer {
    let body = Bytes::from_static(br#"{"status":"healthy"}"#);
    dressed(StatusCode::OK, request_id(&headers), JSON, body)
}

async fn ready(State(service): State<Arc<Service>>, headers: HeaderMap) -> Answer {
    let id = request_id(&headers);
    let asked = tokio::time::timeout(Duration::from_secs(1), service.store.ping()).await;
    match asked.map_err(Into::into).flatten() {
        Ok(()) => dressed(StatusCode::OK, id, JSON, Bytes::from_static(br#"{"ready":true}"#)),
        Err(error) => problem(id, 503, &error.to_string()),
    }
}
