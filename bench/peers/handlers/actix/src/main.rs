//! The two handlers on actix-web, with one worker.

use std::sync::OnceLock;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
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

fn answer(status: StatusCode, request: &HttpRequest, fields: &Values, body: Bytes) -> HttpResponse {
    let mut answer = HttpResponse::with_body(status, body).map_into_boxed_body();
    let headers = answer.headers_mut();
    headers.reserve(12);
    let sent = request.headers().get(REQUEST_ID);
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

async fn live(request: HttpRequest) -> HttpResponse {
    let mut body = Vec::with_capacity(96);
    service().live(&mut body);
    answer(StatusCode::OK, &request, &ready().live, body.into())
}

async fn generate(request: HttpRequest, body: Bytes) -> HttpResponse {
    match service().story(&body) {
        Ok(story) => answer(
            StatusCode::OK,
            &request,
            &ready().story,
            Bytes::from_static(story.json.as_bytes()),
        ),
        Err(refused) => {
            let status = StatusCode::from_u16(refused.0).unwrap_or(StatusCode::NOT_FOUND);
            answer(status, &request, &Vec::new(), Bytes::from_static(REFUSAL.as_bytes()))
        }
    }
}

fn main() -> std::io::Result<()> {
    ready();
    let server = || {
        HttpServer::new(|| {
            App::new()
                .route("/health/v2/live", web::get().to(live))
                .route("/api/v1/stories/generate", web::post().to(generate))
        })
        .workers(1)
        .tcp_nodelay(true)
        // Idle connections are measured: as long as the service keeps them.
        .keep_alive(Duration::from_secs(75))
        .bind(peer_common::address())
    };
    actix_web::rt::System::new().block_on(async move { server()?.run().await })
}
