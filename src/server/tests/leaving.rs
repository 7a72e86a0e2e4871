//! The end of a server whose sockets end with it: who has come is served, who comes is refused, and nothing hangs.

use super::client::{Client, Ended, Terms};
use super::wire::{Ask, Scale};
use super::directed::all;
use super::random::plan;
use super::{House, Settings, millis, secs, settings, simulate_to_end};
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::time::sleep;

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
    assert_eq!(client.ended, Some(Ended::Cleanly), "a connection that was made was broken");
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
                assert!(answered.is_some() || from_ms + 1 >= stop_ms, "refused in good times");
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
