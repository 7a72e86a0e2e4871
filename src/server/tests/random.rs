//! Clients of all manners at once.

use super::client::{Client, Ended, Terms};
use super::wire::{Ask, Scale, random};
use super::{House, Settings, millis, secs, settings, simulate_on};
use crate::limits::server::BODY_GRACE_MS;
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::time::{sleep, timeout};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

/// What a client does once it has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Reads everything and leaves.
    Stays,
    /// Ends its half after the last request.
    HalfCloses,
    /// Is gone at some moment.
    Vanishes,
    /// Reads with pauses.
    ReadsSlowly,
    /// Ends with bytes that are no request.
    SendsGarbage,
    /// Leaves the connection open and says nothing.
    Idles,
    /// Begins another request, and stops in its head or body.
    Stalls,
    /// Sends and sends, and reads nothing.
    Floods,
}

pub(super) const MANNERS: [Manner; 8] = [
    Manner::Stays,
    Manner::HalfCloses,
    Manner::Vanishes,
    Manner::ReadsSlowly,
    Manner::SendsGarbage,
    Manner::Idles,
    Manner::Stalls,
    Manner::Floods,
];

/// Bytes that are refused, and how.
pub(super) fn garbage(rng: &mut fastrand::Rng) -> Ask {
    let long = |bytes: usize| "x".repeat(bytes);
    let post = |fields: &str, body: &str| format!("POST /echo/1 HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n{body}");
    let (text, status) = match rng.u8(..17) {
        0 => ("GET /size/1/1 HTTP/1.1\r\n\r\n".into(), 400),
        1 => ("\u{16}\u{3}\u{1}\u{2}hello".into(), 400),
        2 => ("BREW /pot HTTP/1.1\r\nHost: test\r\n\r\n".into(), 501),
        3 => ("GET / HTTP/2.0\r\nHost: test\r\n\r\n".into(), 505),
        4 => ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".into(), 505),
        5 => (format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", long(9000)), 414),
        6 => (
            format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", long(17_000)),
            431,
        ),
        7 => (
            format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: y\r\n".repeat(70)),
            431,
        ),
        8 => (post("Content-Length: 70000", &long(70_000)), 413),
        9 => (
            post("Transfer-Encoding: chunked", &format!("11170\r\n{}", long(70_000))),
            413,
        ),
        10 => (post("Transfer-Encoding: chunked", "5\r\nhello!!"), 400),
        11 => (post("Transfer-Encoding: gzip", "hello"), 501),
        12 => (post("Transfer-Encoding: chunked\r\nContent-Length: 5", "hello"), 400),
        13 => (post("Content-Length: 5\r\nExpect: tea", "hello"), 417),
        14 => ("CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n".into(), 501),
        15 => ("GET / HTTP/1.1\r\nHost: test\r\n Folded: yes\r\n\r\n".into(), 400),
        _ => (post("Content-Length: 70000\r\nExpect: 100-continue", ""), 413),
    };
    Ask::refused(text.into_bytes(), status)
}

/// A random conversation, so many requests long.
pub(super) fn plan(rng: &mut fastrand::Rng, number: u64, last_may_close: bool, scale: Scale) -> Vec<Ask> {
    let from = rng.u64(..1_000_000);
    (0..number)
        .map(|at| random(rng, from + at, last_may_close && at + 1 == number, scale))
        .collect()
}

/// What the run allows.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) terms: Terms,
    pub(super) scale: Scale,
    pub(super) limits: Settings,
    /// How much later than the server a client may see that its time is up.
    pub(super) slack: Duration,
}

fn within(took: Duration, limit: Duration, slack: Duration, what: &str) {
    assert!(took >= limit, "{what} ended after {took:?}, not {limit:?}");
    assert!(took <= limit + slack, "{what} lasted {took:?}, not {limit:?}");
}

/// One connection, from its beginning to its end.
pub(super) async fn client(house: House, seed: u64, manner: Manner, load: Load) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let Ok(mut client) = house.connect(load.terms).await else {
        assert!(matches!(load.terms, Terms::Lossy | Terms::Besieged), "refused");
        return;
    };
    let limits = load.limits.clone();
    let (number, depth) = (rng.u64(0..6), rng.usize(1..5));
    let stays_open = !matches!(manner, Manner::Stays | Manner::HalfCloses | Manner::ReadsSlowly);
    let mut asks = plan(rng, number, !stays_open, load.scale);
    if manner == Manner::SendsGarbage {
        asks.push(garbage(rng));
    }
    if manner == Manner::ReadsSlowly {
        client.slow(millis(rng.u64(1..60)));
    }
    if manner == Manner::Vanishes {
        let _ = timeout(millis(rng.u64(0..1500)), async {
            client.converse(rng, &asks, depth).await;
            client.until_answered(asks.len()).await;
        })
        .await;
        return;
    }
    client.converse(rng, &asks, depth).await;
    let closes = asks.last().is_some_and(|ask| ask.want.close);
    match manner {
        Manner::Stays | Manner::ReadsSlowly | Manner::Vanishes => {
            client.until_answered(asks.len()).await;
            if closes {
                client.until_ended().await;
            }
        }
        Manner::HalfCloses => {
            client.half_close();
            let took = client.until_ended().await;
            // In a siege it may not even have been accepted.
            assert!(
                took < secs(60) || load.terms == Terms::Besieged,
                "answered and not closed"
            );
        }
        Manner::SendsGarbage => {
            client.until_ended().await;
        }
        Manner::Idles => {
            if client.until_answered(asks.len()).await && !client.is_over() {
                let took = client.until_ended().await;
                if load.terms == Terms::Strict {
                    // Answered before the client saw it.
                    within(
                        took + millis(500),
                        limits.keep_alive,
                        load.slack + millis(500),
                        "an idle connection",
                    );
                }
            }
        }
        Manner::Stalls => stall(&mut client, rng, load.clone(), asks.len()).await,
        Manner::Floods => flood(&mut client, load.clone()).await,
    }
    if load.terms == Terms::Strict && manner != Manner::Floods {
        assert_ne!(client.ended, Some(Ended::Broken));
        let expected = asks.len() + usize::from(manner == Manner::Stalls);
        assert_eq!(client.answered, expected, "{manner:?}");
    }
}

/// Begins a request and does not end it: 408.
async fn stall(client: &mut Client, rng: &mut fastrand::Rng, load: Load, before: usize) {
    if !client.until_answered(before).await {
        return;
    }
    let in_body = rng.bool();
    let head = b"POST /echo/1 HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n";
    let from = context::now_ns();
    client.want(Ask::refused(vec![], 408).want);
    // One by one or at once, the clock starts with the first.
    let sent = if in_body {
        head.len() + rng.usize(0..3)
    } else {
        rng.usize(1..head.len())
    };
    let bytes: Vec<u8> = head.iter().chain(b"body").take(sent).copied().collect();
    client.scatter(rng, &bytes);
    client.flushed().await;
    let sent_ns = context::now_ns();
    client.until_ended().await;
    if load.terms == Terms::Strict {
        let limits = &load.limits;
        let limit = if in_body {
            // Fewer than three bytes, which earn it nothing to speak of.
            limits.body_timeout.min(millis(BODY_GRACE_MS))
        } else {
            limits.head_timeout
        };
        let took = Duration::from_nanos(context::now_ns() - from);
        let spread = Duration::from_nanos(sent_ns - from);
        within(took, limit, load.slack + spread, "half a request");
    }
}

/// Sends and reads nothing: after a while the server gives up.
async fn flood(client: &mut Client, load: Load) {
    client.stop_reading();
    let from = context::now_ns();
    let sent = client.pour(Ask::size(7, 300), 4_000).await;
    let took = Duration::from_nanos(context::now_ns() - from);
    let limits = load.limits;
    if load.terms == Terms::Strict {
        assert!(!sent, "the server takes everything and holds the answers");
        // The answers before the flood may have been waiting already.
        within(took + millis(500), limits.write_timeout, secs(5), "a flood");
    }
}

/// Up to seven clients; then the house must be empty.
fn crowd(seed: u64, config: SimConfig, load: Load) {
    crowd_on(None, seed, config, load);
}

/// The same over TLS, if they have settings for it.
pub(super) fn crowd_on(tls: Option<Arc<ClientConfig>>, seed: u64, config: SimConfig, load: Load) {
    simulate_on(tls, seed, config, settings(), secs(30), move |house| async move {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut clients = Vec::new();
        for _ in 0..rng.usize(1..8) {
            let manner = MANNERS[rng.usize(..MANNERS.len())];
            clients.push(spawn(
                "client",
                client(house.clone(), rng.u64(..), manner, load.clone()),
            ));
            if rng.bool() {
                sleep(millis(rng.u64(0..30))).await;
            }
        }
        for client in clients {
            client.await.expect("a client");
        }
    });
}

pub(super) fn load(terms: Terms, big_bytes: usize) -> Load {
    Load {
        terms,
        scale: Scale {
            big_bytes,
            later_ms: 300,
        },
        limits: settings(),
        slack: secs(2),
    }
}

#[test]
fn a_crowd_on_a_calm_network() {
    run_seeds("a_crowd_on_a_calm_network", 400, |seed| {
        // The socket buffers take 64 KiB.
        let big = if seed % 16 == 0 { 200_000 } else { 10_000 };
        crowd(seed, SimConfig::calm(), load(Terms::Strict, big));
    });
}

#[test]
fn a_crowd_on_a_rough_network() {
    run_seeds("a_crowd_on_a_rough_network", 600, |seed| {
        crowd(seed, SimConfig::rough(), load(Terms::Strict, 12_000));
    });
}

#[test]
fn a_crowd_on_a_hostile_network() {
    run_seeds("a_crowd_on_a_hostile_network", 600, |seed| {
        crowd(seed, SimConfig::hostile(), load(Terms::Lossy, 12_000));
    });
}
