//! The two handlers on ntex, with one worker on its own io_uring runtime.

use std::sync::OnceLock;

use ntex::SharedCfg;
use ntex::http::header::{HeaderName, HeaderValue};
use ntex::http::{HttpServiceConfig, StatusCode};
use ntex::time::Seconds;
use ntex::util::Bytes;
use ntex::web::{self, App, HttpRequest, HttpResponse, HttpServer};
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
    let mut answer = HttpResponse::with_body(status, body.into());
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

#[ntex::main]
async fn main() -> std::io::Result<()> {
    ready();
    // Idle connections are measured: as long as the service keeps them.
    let config = SharedCfg::new("peer").add(HttpServiceConfig::new().set_keepalive_timeout(Seconds(75)));
    HttpServer::new(async || {
        App::new()
            .route("/health/v2/live", web::get().to(live))
            .route("/api/v1/stories/generate", web::post().to(generate))
    })
    .workers(1)
    .config(config)
    .bind(peer_common::address())?
    .run()
    .await
}
