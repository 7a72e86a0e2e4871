//! Limits of time and rate: who keeps within them is served, who does not is told or cut off.

use super::app::pieces;
use super::client::{Client, Terms};
use super::wire::{Ask, Framing};
use super::{House, Settings, millis, secs, settings, simulate};
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::time::sleep;
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
fn an_empty_line_keeps_no_connection() {
    run_seeds("an_empty_line_keeps_no_connection", 10, |seed| {
        simulate(seed, SimConfig::calm(), settings(), secs(30), |house| async move {
            let mut client = connect(&house, Terms::Strict).await;
            client.ask(&Ask::size(1, 10));
            client.until_answered(1).await;
            // One: more are the begin of a request, for which the clock of a head runs.
            client.push(secs(3), b"\r\n".to_vec());
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
