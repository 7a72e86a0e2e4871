//! The budget "request path, cached story: no heap allocation per request once warm", counted; and what other hot requests
//! may allocate, by the figures in bench/ratchet.toml.
//!
//! The server runs on the test's thread, whose allocations are counted; the client is a plain socket on another.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail by panicking")]

use roadtrip_api::resilience::rate::{self, Limit, Rate};
use roadtrip_api::routes::{Api, LABELS, Process};
use roadtrip_api::runtime::driver::choose::{self, IoDriver};
use roadtrip_api::runtime::executor::{Runtime, spawn};
use roadtrip_api::runtime::net::{Listener, listen};
use roadtrip_api::runtime::topology::{Pin, Topology};
use roadtrip_api::server::{self, Server, Settings};
use roadtrip_api::store::Store;
use roadtrip_api::store::embedded::{Config, Embedded};
use roadtrip_api::story::service::StoryService;
use roadtrip_api::telemetry::logging::AccessLog;
use roadtrip_api::telemetry::metrics::Registry;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const BODY: &str = r#"{"location":"San Francisco","style":"adventure"}"#;

/// Asks `count` times on one connection and reads each answer whole; gives the last.
fn ask(addr: SocketAddr, request: &str, count: usize) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = Vec::new();
    for _ in 0..count {
        stream.write_all(request.as_bytes()).unwrap();
        answer.clear();
        let mut piece = [0u8; 16 * 1024];
        loop {
            let bytes = match stream.read(&mut piece) {
                // A read with a timeout is not begun again by the system when something interrupts it.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.unwrap(),
            };
            assert_ne!(bytes, 0, "the server closed the connection");
            answer.extend_from_slice(&piece[..bytes]);
            // The body may be compressed: its length is that of bytes.
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let (head, body) = answer.split_at(end + 4);
            let head = String::from_utf8_lossy(head);
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .unwrap();
            if body.len() >= length.parse::<usize>().unwrap() {
                break;
            }
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// What bench/ratchet.toml allows a request of that name, in allocations.
fn allowed(name: &str) -> f64 {
    let text = include_str!("../bench/ratchet.toml");
    let (_, section) = text.split_once("\n[allocations]\n").unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let mut pairs = lines.filter_map(|line| line.split_once(" = "));
    let (_, number) = pairs.find(|(known, _)| *known == name).unwrap();
    number.parse().unwrap()
}

#[test]
fn a_warm_request_allocates_no_more_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(Config::new(dir.path())).unwrap();
    let registry = Registry::new(LABELS);
    let topology = Topology::detect(None, Pin::Never);
    let process = Process::new("pod".into(), topology, registry.clone(), None, "embedded");
    let limiter = Arc::clone(&process.rate);
    let (driver, _) = choose::open(IoDriver::Auto).unwrap();
    let runtime = Runtime::new(driver, 1);
    let heartbeat = runtime.heartbeat();
    let client = Store::from(store.client());
    let socket = listen::tcp("127.0.0.1:0".parse().unwrap(), 16).unwrap();
    let addr = listen::local_addr(&socket).unwrap();
    runtime
        .block_on(async move {
            let metrics = Rc::new(registry.worker(0));
            let service = StoryService::new(client, 1 << 20, Duration::from_secs(3600), Rc::clone(&metrics));
            let api = Api::new(
                process,
                metrics,
                heartbeat,
                service,
                AccessLog::Errors,
                Default::default(),
            );
            let long = Duration::from_secs(60);
            let settings = Settings {
                keep_alive: long,
                head_timeout: long,
                body_timeout: long,
                write_timeout: long,
                ..Settings::default()
            };
            let server = Rc::new(Server::new(api, settings));
            let listener = Listener::new(socket).unwrap();
            spawn("server", server::run(server, listener, std::future::pending(), long));
        })
        .unwrap();

    let post = format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let live = "GET /health/v2/live HTTP/1.1\r\nHost: a\r\nX-Request-ID: mine\r\n\r\n".to_owned();
    let coded = |coding: &str| post.replace("\r\n\r\n", &format!("\r\nAccept-Encoding: {coding}\r\n\r\n"));
    let list = "GET /api/v1/stories?limit=20 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    for (name, request, marks) in [
        ("story", post.clone(), "Cache-Status: roadtrip-api; hit"),
        ("live", live, "X-Request-ID: mine"),
        ("story_gzip", coded("gzip"), "Content-Encoding: gzip"),
        ("story_br", coded("br"), "Content-Encoding: br"),
        ("list", list, "200 OK"),
        ("limited_story", post.clone(), "RateLimit: \"client\";r="),
    ] {
        if name.starts_with("limited") {
            let plenty = Limit::new(Rate::parse("1000000/s").unwrap(), 1_000_000);
            limiter.apply(rate::Settings {
                enabled: true,
                client: plenty,
                pod: plenty,
                ..rate::Settings::default()
            });
        }
        // Serves until the client's thread is done; the runtime keeps its tasks between two calls.
        let serve = |count: usize| {
            let (done, waiting) = tokio::sync::oneshot::channel();
            let request = request.clone();
            let client = std::thread::spawn(move || {
                let last = ask(addr, &request, count);
                let _ = done.send(());
                last
            });
            let counted = allocation_counter::measure(|| {
                runtime.block_on(async { waiting.await.unwrap() }).unwrap();
            });
            (counted.count_total, client.join().unwrap())
        };
        serve(50);
        let (few, _) = serve(10);
        let (many, last) = serve(1010);
        assert!(last.contains(marks), "{name}: {last}");
        // The root task and the connection allocate, the same in both; a thousand requests add nothing. A handful is
        // for growth that depends on timing (a list of wakers, for one).
        let added = many.saturating_sub(few);
        let most = allowed(name) * 1000.0 * 1.02 + 10.0;
        assert!(
            (added as f64) < most,
            "{name}: 1000 requests allocated {added} times ({few} with 10, {many} with 1010); bench/ratchet.toml allows \
             {most}"
        );
        println!("{name}: {added} allocations in 1000 requests");
    }
    drop(runtime);
    store.close(Duration::from_secs(10)).unwrap();
}
