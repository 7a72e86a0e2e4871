//! Limits of number and room: connections, requests, bytes, descriptors. Who is within them is served.

use super::client::{Client, Ended, Terms};
use super::wire::Ask;
use super::{House, Settings, millis, secs, settings, simulate};
use crate::limits::connection::PENDING_FREE_BYTES;
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::net::Stream;
use crate::runtime::time::{sleep, timeout};
use std::time::Duration;

fn network(seed: u64) -> SimConfig {
    if seed.is_multiple_of(2) {
        SimConfig::calm()
    } else {
        SimConfig::rough()
    }
}

async fn connect(house: &House, terms: Terms) -> Client {
    Client::connect(house.addr.clone(), terms).await.unwrap()
}

fn since(from_ns: u64) -> Duration {
    Duration::from_nanos(context::now_ns() - from_ns)
}

#[test]
fn the_last_request_of_a_connection_is_told_so() {
    run_seeds("the_last_request_of_a_connection_is_told_so", 30, |seed| {
        let limits = Settings {
            requests_per_connection: 3,
            ..settings()
        };
        simulate(seed, network(seed), limits, secs(30), move |house| async move {
            let mut client = connect(&house, Terms::Strict).await;
            let mut asks = [Ask::size(0, 10), Ask::later(1, 10, 10), Ask::size(2, 10)];
            if seed % 3 == 0 {
                asks[2] = Ask::later(2, 10, 10);
            }
            asks[2].want.close = true;
            for (at, ask) in asks.iter().enumerate() {
                client.ask(ask);
                if seed % 2 == 0 {
                    client.until_answered(at + 1).await;
                }
            }
            // One too many gets no answer.
            if seed % 2 == 1 {
                client.push(Duration::ZERO, Ask::size(3, 10).bytes());
            }
            client.until_ended().await;
            assert_eq!((client.answered, client.ended), (3, Some(Ended::Cleanly)));
            assert_eq!(house.app().calls.get(), 3);
        });
    });
}

#[test]
fn an_address_holds_so_many_connections_and_no_more() {
    run_seeds("an_address_holds_so_many_connections_and_no_more", 30, |seed| {
        let limits = Settings {
            connections_per_address: 3,
            ..settings()
        };
        simulate(seed, network(seed), limits, secs(30), move |house| async move {
            let mut held = Vec::new();
            for n in 0..3 {
                let mut client = connect(&house, Terms::Strict).await;
                client.ask(&Ask::size(n, 10));
                client.until_answered(1).await;
                held.push(client);
            }
            for _ in 0..20 {
                let mut more = connect(&house, Terms::Lossy).await;
                let took = more.until_ended().await;
                assert!(took < secs(1), "not closed at once: {took:?}");
            }
            assert_eq!(house.app().turned_away.get(), 20);
            // A place that is free is taken.
            drop(held.pop());
            while house.server.open() > 2 {
                sleep(millis(1)).await;
            }
            let mut next = connect(&house, Terms::Strict).await;
            next.ask(&Ask::size(7, 10));
            next.until_answered(1).await;
            assert_eq!((next.answered, house.app().turned_away.get()), (1, 20));
            for client in &mut held {
                client.ask(&Ask::size(8, 10));
                client.until_answered(2).await;
            }
        });
    });
}

fn post(path: &str, bytes: usize) -> Ask {
    let mut ask = Ask::get(1, "/", &vec![b'y'; bytes]);
    ask.head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
    ask.body = ask.want.body.clone();
    ask
}

#[test]
fn bodies_beyond_the_budget_are_refused_and_small_ones_are_not() {
    run_seeds(
        "bodies_beyond_the_budget_are_refused_and_small_ones_are_not",
        40,
        |seed| {
            let limits = Settings {
                pending_bytes_max: 40_000,
                ..settings()
            };
            simulate(seed, network(seed), limits, secs(30), move |house| async move {
                // Three bodies of 16 KB but for their last byte: 12 KB of each are the budget's, so there is no fourth.
                let mut slow = Vec::new();
                for _ in 0..3 {
                    let mut client = connect(&house, Terms::Strict).await;
                    let ask = post("/echo/1", 16_000);
                    client.want(ask.want.clone());
                    let (now, last) = ask.body.split_at(15_999);
                    client.push(Duration::ZERO, [&ask.head, now].concat());
                    client.flushed().await;
                    slow.push((client, last.to_vec()));
                }
                while house.server.pending_bytes() < 35_000 {
                    sleep(millis(10)).await;
                }
                let mut next = connect(&house, Terms::Strict).await;
                let ask = post("/echo/1", 16_000);
                next.want(Ask::refused(vec![], 503).want);
                // Told before it has sent the body, or in the middle of one whose length it does not say.
                if seed % 2 == 0 {
                    next.push(Duration::ZERO, ask.head);
                } else {
                    let head = b"POST /echo/1 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3e80\r\n";
                    next.push(Duration::ZERO, [&head[..], &ask.body].concat());
                }
                next.until_ended().await;
                assert_eq!(next.answered, 1);
                // Who sends little in two pieces is served all the same.
                let mut small = connect(&house, Terms::Strict).await;
                let ask = post("/echo/1", PENDING_FREE_BYTES / 2 - 200);
                small.want(ask.want.clone());
                small.push(Duration::ZERO, ask.head);
                small.push(millis(300), ask.body);
                small.until_answered(1).await;
                assert_eq!(small.answered, 1);
                // And so are the slow ones, in the end; then there is room again.
                for (mut client, last) in slow {
                    client.push(Duration::ZERO, last);
                    client.until_answered(1).await;
                    assert_eq!(client.answered, 1);
                }
                assert_eq!(house.server.pending_bytes(), 0);
                let mut again = connect(&house, Terms::Strict).await;
                again.ask(&post("/echo/1", 16_000));
                again.until_answered(1).await;
                assert_eq!(again.answered, 1);
            });
        },
    );
}

#[test]
fn what_waits_behind_an_answer_counts_and_the_answer_still_comes() {
    run_seeds(
        "what_waits_behind_an_answer_counts_and_the_answer_still_comes",
        40,
        |seed| {
            let limits = Settings {
                pending_bytes_max: 4_000,
                ..settings()
            };
            let config = SimConfig {
                buffer_bytes: 16 * 1024,
                ..SimConfig::calm()
            };
            simulate(seed, config, limits, secs(30), move |house| async move {
                let mut client = connect(&house, Terms::Strict).await;
                let first = Ask::later(1, 2000, 20);
                client.want(first.want.clone());
                client.want(Ask::refused(vec![], 503).want);
                // In one go: what comes later waits in the socket.
                let behind = (0..1000).flat_map(|n| Ask::size(n, 10).bytes());
                client.push(Duration::ZERO, first.bytes().into_iter().chain(behind).collect());
                client.until_ended().await;
                assert_eq!(client.answered, 2);
                assert_eq!(
                    house.app().calls.get(),
                    1,
                    "of what was thrown away something was answered"
                );
            });
        },
    );
}

/// Silent clients have all places; new ones get in within the time of a head, and who asks is not disturbed.
#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    run_seeds("a_crowd_that_says_nothing_keeps_nobody_out", 30, |seed| {
        let limits = Settings {
            connections_max: 16,
            ..settings()
        };
        simulate(seed, network(seed), limits.clone(), secs(30), move |house| async move {
            let mut busy = connect(&house, Terms::Strict).await;
            busy.ask(&Ask::size(0, 10));
            busy.until_answered(1).await;
            let from = context::now_ns();
            let mut crowd = Vec::new();
            for n in 0..15 {
                let mut client = connect(&house, Terms::Strict).await;
                if n % 2 == 0 {
                    client.ask(&Ask::size(n, 10));
                    client.until_answered(1).await;
                }
                crowd.push(client);
            }
            let asking = spawn("asking", async move {
                for n in 1..12 {
                    sleep(secs(1)).await;
                    busy.ask(&Ask::size(n, 10));
                    busy.until_answered(n as usize + 1).await;
                    assert_eq!(busy.answered, n as usize + 1, "who asks is cut off");
                }
            });
            let mut new = connect(&house, Terms::Strict).await;
            new.ask(&Ask::size(9, 10));
            new.until_answered(1).await;
            assert_eq!(new.answered, 1);
            assert!(since(from) < limits.head_timeout + secs(2), "{:?}", since(from));
            assert!(
                since(from) >= limits.head_timeout - secs(1),
                "somebody was sent away for nothing"
            );
            for client in &mut crowd {
                client.until_ended().await;
                assert_eq!(client.ended, Some(Ended::Cleanly));
            }
            assert!(since(from) < limits.head_timeout + secs(4), "{:?}", since(from));
            asking.await.unwrap();
            // With room, an idle connection has its time again.
            let mut idle = connect(&house, Terms::Strict).await;
            assert!(idle.until_ended().await >= limits.keep_alive);
        });
    });
}

/// No descriptors: who is connected is served, who comes waits, and it goes on by itself.
#[test]
fn out_of_descriptors_it_serves_and_recovers() {
    run_seeds("out_of_descriptors_it_serves_and_recovers", 40, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let net = house.net.clone().unwrap();
            let mut old = connect(&house, Terms::Strict).await;
            old.ask(&Ask::size(1, 10));
            old.until_answered(1).await;
            net.configure(|config| config.too_many_files = 1.0);
            let mut new = Vec::new();
            for n in 0..4 {
                let mut client = connect(&house, Terms::Strict).await;
                client.ask(&Ask::size(n, 10));
                new.push(client);
            }
            for n in 2..10 {
                old.ask(&Ask::size(n, 10));
                old.until_answered(n as usize).await;
                sleep(millis(500)).await;
            }
            assert_eq!((old.answered, house.app().opened.get()), (9, 1));
            net.configure(|config| config.too_many_files = 0.0);
            for client in &mut new {
                client.until_answered(1).await;
                assert_eq!(client.answered, 1);
            }
        });
    });
}

/// What a client that sends as it likes gets: the first line, or nothing.
async fn raw(house: House, pieces: Vec<(Duration, Vec<u8>)>, patience: Duration) -> Vec<u8> {
    let Ok(mut stream) = Stream::connect(house.addr.clone()).await else {
        return Vec::new();
    };
    for (pause, piece) in pieces {
        sleep(pause).await;
        match timeout(patience, stream.send(piece)).await {
            Ok((Ok(()), _)) => {}
            _ => break,
        }
    }
    let mut got = Vec::new();
    let _ = timeout(patience, async {
        while let Ok(Some(bytes)) = stream.recv().await {
            got.extend_from_slice(&bytes);
        }
    })
    .await;
    got
}

/// Many clients with bodies, heads and crowds of requests in pieces, on a server with little room for all of it. What
/// is held must come to nothing at the end: `serve` looks.
#[test]
fn a_crowd_beyond_every_limit() {
    run_seeds("a_crowd_beyond_every_limit", 300, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limits = Settings {
            connections_max: rng.usize(4..20),
            connections_per_address: rng.usize(0..12),
            requests_per_connection: rng.u32(0..5),
            pending_bytes_max: rng.usize(0..60_000),
            ..settings()
        };
        let config = match seed % 3 {
            0 => SimConfig::calm(),
            1 => SimConfig::rough(),
            _ => SimConfig::hostile(),
        };
        simulate(seed, config, limits, secs(30), move |house| async move {
            let mut clients = Vec::new();
            for _ in 0..rng.usize(1..16) {
                let mut bytes = Vec::new();
                for _ in 0..rng.usize(1..5) {
                    bytes.extend(match rng.u8(..4) {
                        0 => Ask::size(1, rng.usize(..3000)).bytes(),
                        1 => Ask::later(1, rng.u64(..2000), 10).bytes(),
                        _ => post("/echo/1", rng.usize(..30_000)).bytes(),
                    });
                }
                if rng.u8(..4) == 0 {
                    bytes.truncate(rng.usize(..bytes.len()));
                }
                let mut pieces = Vec::new();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(rng.usize(1..=rest.len()).max(rest.len() / 8).min(rest.len()));
                    pieces.push((millis(rng.u64(..1500)), piece.to_vec()));
                    rest = after;
                }
                let patience = millis(rng.u64(..8000));
                clients.push(spawn("client", raw(house.clone(), pieces, patience)));
                if rng.bool() {
                    sleep(millis(rng.u64(..300))).await;
                }
            }
            for client in clients {
                let got = client.await.unwrap();
                let text = String::from_utf8_lossy(&got);
                let first = text.get(..12).unwrap_or_default();
                assert!(
                    ["", "HTTP/1.1 200", "HTTP/1.1 408", "HTTP/1.1 503"].contains(&first),
                    "{first}"
                );
            }
            assert!(house.server.open() <= house.server.settings.connections_max);
        });
    });
}
