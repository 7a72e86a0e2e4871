//! Micro benchmarks: each step of a request by itself.
//!
//!     cargo bench -p roadtrip-bench --features micro
//!     cargo bench -p roadtrip-bench --features micro -- head     only those with `head` in their name
//!
//! They say which step a change has moved, on this machine and against the run before; what a request costs as a whole
//! they do not say (`ratchet`, `cost` and `compare` do). Unlike the rest of this package they call the service's own
//! functions.
// A benchmark that cannot be set up may end with a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use roadtrip_api::cache::local::LocalCache;
use roadtrip_api::http::encode::{Effort, encode};
use roadtrip_api::http::negotiate::Coding;
use roadtrip_api::http::{DateCache, Exchange, Response, Status, field, parse_head};
use roadtrip_api::routes::{Route, micro};
use roadtrip_api::story::gazetteer::{Found, Gazetteer};
use roadtrip_api::story::key::{Asked, AskedLocation, request_bytes};
use roadtrip_api::story::narrator::{self, Ask};
use roadtrip_api::story::types::{Language, Length, Style};

const LIVE: &[u8] = b"GET /health/v2/live HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";
const BODY: &str = r#"{"location":"San Francisco","style":"adventure"}"#;
const FULL_BODY: &str = r#"{"location":{"lat":48.8566,"lng":2.3522,"name":"Paris"},"style":"mystery","length":"long",
"language":"en","interests":["food","trains","music","old bridges"],"variation":7}"#;

/// A head of `fields` fields, like a browser's.
fn head(fields: usize) -> Vec<u8> {
    let mut head = b"POST /api/v1/stories/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 48\r\n".to_vec();
    for number in 2..fields {
        head.extend_from_slice(format!("X-Field-{number}: text/html,application/json;q=0.9,*/*;q=0.8\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    let heads = [
        ("live", LIVE.to_vec()),
        ("5_fields", head(5)),
        ("20_fields", head(20)),
        ("60_fields", head(60)),
    ];
    for (name, bytes) in heads {
        assert!(parse_head(&bytes).unwrap().is_some());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| black_box(parse_head(black_box(&bytes)).is_ok())));
    }
    group.finish();

    let mut group = c.benchmark_group("route");
    for (name, path) in [
        ("live", "/health/v2/live"),
        ("generate", "/api/v1/stories/generate"),
        ("story", "/api/v1/stories/01890a5d-ac96-774b-bcce-b302099a8057"),
        ("unknown", "/favicon.ico"),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(Route::of(black_box(path)))));
    }
    group.finish();

    let mut group = c.benchmark_group("json");
    for (name, body) in [("small", BODY), ("full", FULL_BODY)] {
        assert!(micro::parse(body.as_bytes()));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| b.iter(|| micro::parse(black_box(body.as_bytes()))));
        let mut key = Vec::new();
        group.bench_function(format!("{name}_to_key"), |b| {
            b.iter(|| micro::parse_to_key(black_box(body.as_bytes()), &mut key))
        });
    }
    group.finish();
}

fn asked<'a>(name: &'a str, interests: &'a [Cow<'a, str>]) -> Asked<'a> {
    Asked {
        location: AskedLocation::Name(name),
        style: Style::default(),
        length: Length::default(),
        language: Language::default(),
        interests,
        variation: 0,
    }
}

fn keys_and_cache(c: &mut Criterion) {
    let mut group = c.benchmark_group("key");
    let interests = ["food", "trains", "music"].map(Cow::Borrowed);
    let mut key = Vec::new();
    for (name, asked) in [
        ("one_word", asked("Paris", &[])),
        ("two_words", asked("San Francisco", &[])),
        ("not_ascii", asked("São Paulo", &[])),
        ("interests", asked("Paris", &interests)),
    ] {
        group.bench_function(name, |b| b.iter(|| request_bytes(&mut key, black_box(&asked))));
    }
    group.finish();

    let mut group = c.benchmark_group("cache");
    let mut cache = LocalCache::new(64 << 20);
    let keys: Vec<Vec<u8>> = (0..10_000_u32)
        .map(|number| format!("request {number:>40}").into_bytes())
        .collect();
    for (number, key) in (1..).zip(&keys) {
        assert!(cache.insert(key, micro::cached_story(number, vec![b'x'; 2700])));
    }
    let mut at = 0;
    group.bench_function("hit_of_10000", |b| {
        b.iter(|| {
            at = (at + 7919) % keys.len();
            cache.get(black_box(&keys[at]), 0).is_some()
        });
    });
    group.bench_function("miss", |b| {
        b.iter(|| cache.get(black_box(b"nobody asked for this"), 0).is_some())
    });
    group.finish();
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("response");
    let date = DateCache::new(1_700_000_000);
    let (request, _) = parse_head(LIVE).unwrap().unwrap();
    let exchange = Exchange::of(&request);
    for (name, body) in [("27_bytes", vec![b'x'; 27]), ("2700_bytes", vec![b'x'; 2700])] {
        let mut out = Vec::with_capacity(8192);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                Response::begin(&mut out, exchange, Status::OK, date.get())
                    .header(field::X_REQUEST_ID, black_box(b"01890a5d-ac96-774b-bcce-b302099a8057"))
                    .content_type("application/json")
                    .header(field::CACHE_CONTROL, "no-store")
                    .body(black_box(&body))
            });
        });
    }
    group.finish();

    let gazetteer = Gazetteer::embedded();
    let Found::Exact(rome) = gazetteer.find("Rome") else {
        panic!("Rome is not found")
    };
    let story = narrator::tell(&gazetteer.facts(rome), &ask(Length::Medium)).story;
    let page = story.repeat(20);
    let mut group = c.benchmark_group("compress");
    for (size, text) in [("story", &story), ("page", &page)] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            for (name, effort) in [("once", Effort::Once), ("kept", Effort::Kept)] {
                group.bench_function(format!("{size}_{}_{name}", coding.as_str()), |b| {
                    b.iter(|| encode(coding, effort, black_box(text.as_bytes())).unwrap().len());
                });
            }
        }
    }
    group.finish();
}

fn ask(length: Length) -> Ask<'static> {
    Ask {
        style: Style::default(),
        length,
        language: Language::default(),
        interests: &[],
        variation: 0,
    }
}

fn stories(c: &mut Criterion) {
    let gazetteer = Gazetteer::embedded();
    let mut group = c.benchmark_group("gazetteer");
    for (name, text) in [
        ("exact", "San Francisco"),
        ("other_name", "Firenze"),
        ("slip", "San Fransisco"),
        ("unknown", "Xqzzyplugh"),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(gazetteer.find(black_box(text)))));
    }
    group.bench_function("nearest", |b| {
        b.iter(|| gazetteer.nearest(black_box(48.85), black_box(2.35)))
    });
    group.finish();

    let Found::Exact(rome) = gazetteer.find("Rome") else {
        panic!("Rome is not found")
    };
    let mut group = c.benchmark_group("story");
    group.bench_function("facts", |b| b.iter(|| black_box(gazetteer.facts(black_box(rome)))));
    for (name, length) in [
        ("short", Length::Short),
        ("medium", Length::Medium),
        ("long", Length::Long),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || gazetteer.facts(rome),
                |facts| black_box(narrator::tell(facts, &ask(length))),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, parsing, keys_and_cache, answers, stories);
criterion_main!(benches);
