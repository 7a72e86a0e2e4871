//! Limits of time, rate, size and number: who keeps within them is served, who does not is told or cut off.

use super::app::pieces;
use super::client::{Client, Ended, Terms};
use super::wire::{Ask, Framing};
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

/// A network whose sockets hold little, so that a reader's pace is the sender's.
fn narrow(bytes: usize) -> SimConfig {
    SimConfig {
        socket_buffer_bytes: bytes,
        delay_ns_max: 0,
        ..SimConfig::calm()
    }
}

#[test]
fn a_slow_reader_that_reads_is_served_however_long_it_takes() {
    run_seeds("a_slow_reader_that_reads_is_served_however_long_it_takes", 12, |seed| {
        simulate(seed, narrow(2000), settings(), secs(30), move |house| async move {
            let mut client = connect(&house, Terms::Strict).await;
            // 2 to 4 KB each time, some 600 B/s at least.
            client.slow(secs(3));
            let from = context::now_ns();
            let asks = match seed % 4 {
                // Alone, or with another behind it that makes the server wait for the first.
                0 => vec![Ask::size(1, 50_000)],
                1 => vec![Ask::size(1, 30_000), Ask::size(2, 30_000)],
                2 => vec![Ask::later(1, 100, 50_000), Ask::size(2, 10)],
                _ => vec![Ask::size(1, 10), Ask::later(3, 0, 50_000)],
            };
            asks.iter().for_each(|ask| client.ask(ask));
            client.until_answered(asks.len()).await;
            assert_eq!(client.answered, asks.len());
            let took = since(from);
            assert!(
                took > 2 * settings().write_timeout,
                "too quick to show anything: {took:?}"
            );
        });
    });
}

#[test]
fn a_reader_that_takes_less_than_the_floor_is_cut_off() {
    run_seeds("a_reader_that_takes_less_than_the_floor_is_cut_off", 24, |seed| {
        let floor = seed % 4 != 0;
        let limits = Settings {
            write_rate_min: if floor { 500 } else { 0 },
            ..settings()
        };
        simulate(seed, narrow(300), limits, secs(30), move |house| async move {
            let mut client = connect(&house, Terms::Lossy).await;
            // Every 8 s some 300 to 600 bytes: never 10 s without one, and 75 B/s at most.
            client.slow(secs(8));
            client.ask(&match seed % 3 {
                0 => Ask::size(1, 20_000),
                1 => Ask::later(1, 10, 20_000),
                _ => {
                    let mut ask = Ask::get(0, "/events/0/40/1000", &pieces(0, 40, 1000));
                    ask.want.framing = Framing::Chunked;
                    ask
                }
            });
            if seed % 2 == 0 {
                client.ask(&Ask::size(2, 10));
            }
            let from = context::now_ns();
            let reading = spawn("reader", async move {
                client.dwell(secs(100)).await;
            });
            while house.server.open() == 0 {
                sleep(millis(1)).await;
            }
            if floor {
                house.until_empty(secs(60)).await;
                let (took, limit) = (since(from), settings().write_timeout);
                assert!(took >= limit && took < 2 * limit, "{took:?}");
            } else {
                sleep(secs(90)).await;
                assert_eq!(house.server.open(), 1, "without a floor a byte now and then is enough");
            }
            reading.await.unwrap();
        });
    });
}

#[test]
fn slow_readers_together_hold_no_more_than_their_budget() {
    run_seeds("slow_readers_together_hold_no_more_than_their_budget", 20, |seed| {
        let limits = Settings {
            pending_bytes_max: 100_000,
            ..settings()
        };
        simulate(seed, narrow(3000), limits.clone(), secs(30), move |house| async move {
            let readers: Vec<_> = (0..10)
                .map(|n| {
                    let house = house.clone();
                    spawn("reader", async move {
                        let mut client = connect(&house, Terms::Lossy).await;
                        client.slow(millis(1500));
                        client.ask(&if seed % 2 == 0 {
                            Ask::size(n, 30_000)
                        } else {
                            Ask::later(n, 10, 30_000)
                        });
                        client.until_answered(1).await;
                        client.answered
                    })
                })
                .collect();
            for _ in 0..40 {
                sleep(millis(500)).await;
                assert!(house.server.pending_bytes() <= limits.pending_bytes_max);
            }
            let mut answered = 0;
            for reader in readers {
                answered += reader.await.unwrap();
            }
            // 30 KB each, less what the sockets took and what is free of charge.
            assert!((3..9).contains(&answered), "{answered} of ten");
            let mut quick = connect(&house, Terms::Strict).await;
            quick.ask(&Ask::size(1, 30_000));
            quick.until_answered(1).await;
            assert_eq!(quick.answered, 1);
        });
    });
}

#[test]
fn an_empty_line_now_and_then_keeps_no_connection() {
    run_seeds("an_empty_line_now_and_then_keeps_no_connection", 10, |seed| {
        simulate(seed, SimConfig::calm(), settings(), secs(30), |house| async move {
            let mut client = connect(&house, Terms::Strict).await;
            client.ask(&Ask::size(1, 10));
            client.until_answered(1).await;
            for _ in 0..20 {
                client.push(secs(3), b"\r\n".to_vec());
            }
            let took = client.until_ended().await;
            assert!(took < settings().keep_alive + secs(2), "{took:?}");
        });
    });
}

/// Bodies by their rate: (bytes a second, whole body, whether it comes through). 8 s are allowed, 5 of them as a grace.
const BODIES: [(usize, usize, bool); 5] = [
    (700, 4200, true),
    (100, 400, true),
    (100, 4000, false),
    (10, 4000, false),
    // Above the floor, but too long for the time there is.
    (700, 9000, false),
];

#[test]
fn a_body_that_trickles_is_refused() {
    run_seeds("a_body_that_trickles_is_refused", 60, |seed| {
        simulate(seed, network(seed), settings(), secs(30), move |house| async move {
            let (rate, bytes, whole) = BODIES[seed as usize % BODIES.len()];
            let is_chunked = seed % 3 == 0;
            let mut client = connect(&house, Terms::Strict).await;
            let body = vec![b'x'; bytes];
            let mut ask = Ask::get(1, "/", &body);
            let framing = if is_chunked {
                "Transfer-Encoding: chunked".to_owned()
            } else {
                format!("Content-Length: {bytes}")
            };
            ask.head = format!("POST /echo/1 HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n").into_bytes();
            client.want(if whole {
                ask.want
            } else {
                Ask::refused(vec![], 408).want
            });
            client.push(Duration::ZERO, ask.head);
            let from = context::now_ns();
            for piece in body.chunks(rate.div_ceil(2)) {
                let piece = if is_chunked {
                    // Decoded bytes count: here each has five bytes of framing beside it.
                    piece
                        .iter()
                        .flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n'])
                        .collect()
                } else {
                    piece.to_vec()
                };
                client.push(millis(500), piece);
            }
            if is_chunked {
                client.push(Duration::ZERO, b"0\r\n\r\n".to_vec());
            }
            client.until_answered(1).await;
            assert_eq!(client.answered, 1);
            let took = since(from);
            let expected = match (rate, whole) {
                (_, true) => secs(4)..millis(7000),
                (700, _) => secs(8)..millis(8800),
                (100, _) => millis(5800)..millis(7200),
                _ => secs(5)..millis(5800),
            };
            assert!(
                expected.contains(&took) || whole && took < expected.end,
                "{rate} B/s of {bytes}: {took:?}"
            );
        });
    });
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
