//! The two handlers on axum, over hyper's HTTP/1.1 connection and one current-thread runtime of tokio.

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::routing::{get, post};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use peer_common::{Field, REFUSAL, RequestId, service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

type Values = Vec<(HeaderName, HeaderValue)>;

/// Field values of both answers, made ahead.
struct Ready {
    live: Values,
    story: Values,
}

fn ready() -> &'static Ready {
    static READY: OnceLock<Ready> = OnceLock::new();
    READY.get_or_init(|| {
        let made = |fields: &[Field]| -> Values {
            let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).expect("a field name");
            fields
                .iter()
                .map(|(n, value)| (name(n), HeaderValue::from_static(value)))
                .collect()
        };
        Ready {
            live: made(&service().live_fields),
            story: service().any().map(|story| made(&story.fields)).unwrap_or_default(),
        }
    })
}

fn answer(status: StatusCode, asked: &HeaderMap, fields: &Values, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.reserve(12);
    let sent = asked.get(REQUEST_ID);
    let id = match RequestId::of(sent.map(HeaderValue::as_bytes)) {
        RequestId::Made(text) => HeaderValue::from_bytes(&text).ok(),
        RequestId::Sent(_) => sent.cloned(),
    };
    headers.insert(REQUEST_ID, id.unwrap_or(HeaderValue::from_static("0")));
    for (name, value) in fields {
        headers.insert(name.clone(), value.clone());
    }
    answer
}

async fn live(headers: HeaderMap) -> Response<Body> {
    let mut body = Vec::with_capacity(96);
    service().live(&mut body);
    answer(StatusCode::OK, &headers, &ready().live, body.into())
}

async fn generate(headers: HeaderMap, body: Bytes) -> Response<Body> {
    match service().story(&body) {
        Ok(story) => answer(
            StatusCode::OK,
            &headers,
            &ready().story,
            Bytes::from_static(story.json.as_bytes()),
        ),
        Err(refused) => {
            let status = StatusCode::from_u16(refused.0).unwrap_or(StatusCode::NOT_FOUND);
            let kind = vec![(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            )];
            answer(status, &headers, &kind, Bytes::from_static(REFUSAL.as_bytes()))
        }
    }
}

fn main() -> std::io::Result<()> {
    ready();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve())
}

async fn serve() -> std::io::Result<()> {
    let router = Router::new()
        .route("/health/v2/live", get(live))
        .route("/api/v1/stories/generate", post(generate));
    let router = TowerToHyperService::new(router);
    let listener = tokio::net::TcpListener::bind(peer_common::address()).await?;
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).pipeline_flush(true);
    // It counts while a connection is idle; those are measured: as long as the service keeps them.
    builder.header_read_timeout(Duration::from_secs(75));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = builder.serve_connection(TokioIo::new(stream), router.clone());
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}
