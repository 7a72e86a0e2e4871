//! The end of a server whose sockets end with it: who has come is served, who comes is refused, and nothing hangs.

use super::client::{Client, Ended, Terms};
use super::directed::all;
use super::random::plan;
use super::wire::{Ask, Scale};
use super::{House, Settings, millis, secs, settings, simulate_to_end};
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::time::sleep;
use std::time::Duration;

fn network(seed: u64) -> SimConfig {
    let config = if seed.is_multiple_of(2) {
        SimConfig::calm()
    } else {
        SimConfig::rough()
    };
    SimConfig {
        // Queues are to be long here.
        backlog_max: 64,
        ..config
    }
}

/// Asks once on a connection of its own; none if it was refused.
async fn ask_once(house: &House, ask: &Ask) -> Option<usize> {
    let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.ok()?;
    client.ask(ask);
    client.until_ended().await;
    assert_eq!(
        client.ended,
        Some(Ended::Cleanly),
        "a connection that was made was broken"
    );
    Some(client.answered)
}

/// Clients that come, one after another, before the end and within it, some of which the server has no room for: a
/// connection that is made is served.
#[test]
fn a_connection_that_is_made_is_served_or_was_never_made() {
    run_seeds("a_connection_that_is_made_is_served_or_was_never_made", 300, |seed| {
        let room = if seed.is_multiple_of(3) { 2 } else { 1000 };
        let settings = Settings {
            connections_max: room,
            ..settings()
        };
        simulate_to_end(seed, network(seed), settings, secs(60), move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let stop_ms = rng.u64(0..400);
            let clients = (0..rng.u64(5..40))
                .map(|n| {
                    let (house, from_ms) = (house.clone(), rng.u64(0..600));
                    let ask = if rng.bool() {
                        Ask::size(n, 100)
                    } else {
                        Ask::later(n, rng.u64(0..300), 100)
                    };
                    spawn("client", async move {
                        sleep(millis(from_ms)).await;
                        (from_ms, ask_once(&house, &ask).await)
                    })
                })
                .collect();
            sleep(millis(stop_ms)).await;
            house.stop();
            for (from_ms, answered) in all(clients).await {
                // Refused only once it was told to end.
                // A packet may be twenty times as long on its way as most are.
                assert!(answered.is_some() || from_ms + 21 >= stop_ms, "refused in good times");
                assert!(answered.is_none_or(|answered| answered == 1), "taken, and not answered");
            }
            assert_eq!(house.stopped().await, 0);
        });
    });
}

/// Batches of any depth, before the end, within it, and at its very moments.
#[test]
fn of_what_had_come_by_then_nothing_is_lost_behind_the_answer_that_says_close() {
    run_seeds("of_what_had_come_by_then_nothing_is_lost", 300, |seed| {
        // A batch comes in one piece: what is still on its way when the server says close could not be saved.
        let config = SimConfig {
            delay_ns_max: [1_000, 50_000, 500_000][(seed % 3) as usize],
            ..SimConfig::calm()
        };
        simulate_to_end(seed, config, settings(), secs(60), move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let clients = (0..rng.usize(1..6))
                .map(|_| {
                    let mut rng = fastrand::Rng::with_seed(rng.u64(..));
                    let house = house.clone();
                    spawn("client", async move {
                        let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
                        let scale = Scale {
                            big_bytes: 2000,
                            later_ms: 5,
                        };
                        loop {
                            // All in one piece, and then all of its answers.
                            let number = rng.u64(1..20);
                            let asks = plan(&mut rng, number, false, scale);
                            let waits = asks.iter().any(|ask| ask.waits);
                            if waits {
                                continue;
                            }
                            let before = client.answered;
                            let mut batch = Vec::new();
                            for ask in &asks {
                                client.want(ask.want.clone());
                                batch.extend(ask.bytes());
                            }
                            client.push(millis(0), batch);
                            if !client.until_answered(before + asks.len()).await || client.is_over() {
                                break (before + asks.len(), client);
                            }
                            sleep(millis(rng.u64(0..20))).await;
                        }
                    })
                })
                .collect();
            sleep(millis(rng.u64(50..300))).await;
            house.stop();
            for (asked, mut client) in all(clients).await {
                client.until_ended().await;
                assert_eq!((client.answered, client.ended), (asked, Some(Ended::Cleanly)));
            }
            assert_eq!(house.stopped().await, 0);
        });
    });
}

/// One that had to wait for room is let in when the idle ones have gone already. It has as long for its request as they
/// had.
#[test]
fn who_is_let_in_late_has_a_moment_for_its_request() {
    run_seeds("who_is_let_in_late_has_a_moment_for_its_request", 50, |seed| {
        let settings = Settings {
            connections_max: 1,
            ..settings()
        };
        simulate_to_end(seed, SimConfig::calm(), settings, secs(60), move |house| async move {
            let mut first = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
            first.ask(&Ask::later(1, 600, 100));
            let mut late = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
            sleep(millis(100)).await;
            house.stop();
            first.until_ended().await;
            while house.app().opened.get() < 2 {
                sleep(millis(1)).await;
            }
            sleep(millis(seed % 150)).await;
            late.ask(&Ask::size(2, 100));
            late.until_ended().await;
            assert_eq!((first.answered, late.answered), (1, 1));
            assert_eq!(house.stopped().await, 0);
        });
    });
}

/// Requests that come at the very moment at which idle connections end. What the kernel has by then is read before.
#[test]
fn no_half_is_ended_over_a_request_that_lies_there() {
    run_seeds("no_half_is_ended_over_a_request_that_lies_there", 200, |seed| {
        let config = SimConfig {
            interrupt: 0.5,
            no_buffers: 0.3,
            end_multishot: 0.5,
            // For so long a receive may not be armed.
            delay_ns_max: 400_000,
            ..SimConfig::calm()
        };
        let settings = Settings {
            keep_alive: millis(900),
            ..settings()
        };
        // Ended by the drain, or by the keep-alive time.
        let drains = seed.is_multiple_of(2);
        simulate_to_end(seed, config, settings, secs(60), move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut clients = Vec::new();
            for n in 0..20u64 {
                let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
                client.ask(&Ask::size(n, 10));
                client.until_answered(1).await;
                clients.push(client);
            }
            let after_us = if drains { 250_000 } else { 900_000 };
            let clients = clients.into_iter().map(|mut client| {
                let pause = Duration::from_micros(after_us + rng.u64(..6_000) - 3_000);
                spawn("client", async move {
                    sleep(pause).await;
                    client.ask(&Ask::size(1, 10));
                    // Answered or not: it may have been on its way.
                    client.until_ended().await;
                })
            });
            let clients = clients.collect();
            if drains {
                house.stop();
            }
            all(clients).await;
            assert_eq!(house.net.as_ref().unwrap().ended_over_unread(), 0);
        });
    });
}

/// However short the time is, whoever has come with a request is answered.
#[test]
fn who_waits_for_a_place_is_answered_within_whatever_time_there_is() {
    run_seeds(
        "who_waits_for_a_place_is_answered_within_whatever_time_there_is",
        20,
        |seed| {
            let settings = Settings {
                connections_max: 2,
                ..settings()
            };
            let graceful = millis([40, 150, 200, 300][seed as usize % 4]);
            simulate_to_end(seed, SimConfig::calm(), settings, graceful, move |house| async move {
                let mut holds = Vec::new();
                for _ in 0..2 {
                    let mut client = Client::connect(house.addr.clone(), Terms::Lossy).await.unwrap();
                    client.push(Duration::ZERO, b"GET / HTTP/1.1\r\n".to_vec());
                    holds.push(client);
                }
                while house.server.open() < 2 {
                    sleep(millis(1)).await;
                }
                let mut waiting = Vec::new();
                for n in 0..20 {
                    let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
                    client.ask(&Ask::size(n, 100));
                    client.flushed().await;
                    waiting.push(client);
                }
                sleep(millis(10)).await;
                house.stop();
                for client in &mut waiting {
                    client.until_ended().await;
                    assert_eq!((client.answered, client.ended), (1, Some(Ended::Cleanly)));
                }
                drop((holds, waiting));
                house.stopped().await;
            });
        },
    );
}
