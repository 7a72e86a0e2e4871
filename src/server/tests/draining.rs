//! The end of a server, case by case.

use super::client::{Client, Ended, Terms};
use super::directed::{all, network, since};
use super::random::plan;
use super::wire::{Ask, Scale};
use super::{millis, secs, settings, simulate};
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::time::sleep;
use std::time::Duration;

/// Connections in every state, and a drain at some moment.
#[test]
fn draining_loses_no_answer() {
    run_seeds("draining_loses_no_answer", 500, |seed| {
        let graceful = secs(60);
        simulate(seed, network(seed), settings(), graceful, move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let count = rng.usize(1..8);
            let mut clients = Vec::new();
            for _ in 0..count {
                let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
                let mut rng = fastrand::Rng::with_seed(rng.u64(..));
                clients.push(spawn("client", async move {
                    let scale = Scale {
                        big_bytes: 8000,
                        later_ms: 300,
                    };
                    let (number, depth) = (rng.u64(0..12), rng.usize(1..6));
                    let asks = plan(&mut rng, number, false, scale);
                    if rng.u8(..4) == 0 {
                        client.slow(millis(rng.u64(1..30)));
                    }
                    client.converse(&mut rng, &asks, depth).await;
                    if rng.u8(..4) == 0 {
                        client.half_close();
                    }
                    // Until the drain, or until idle for too long.
                    client.until_ended().await;
                    assert_eq!(client.ended, Some(Ended::Cleanly));
                    client.answered
                }));
            }
            sleep(millis(rng.u64(0..1500))).await;
            while house.app().opened.get() < count {
                sleep(millis(1)).await;
            }
            let from = context::now_ns();
            house.stop();
            assert_eq!(house.stopped().await, 0);
            assert!(since(from) < graceful, "the last one was waited for in vain");
            let answered: usize = all(clients).await.into_iter().sum();
            assert_eq!(
                answered,
                house.app().calls.get(),
                "a request was taken and not answered"
            );
        });
    });
}

/// A client cannot know of the end before it is told: what it sends within a moment of the begin is answered, on a
/// connection that is new as on one that was used before.
#[test]
fn a_request_on_its_way_when_draining_begins_is_answered() {
    run_seeds("a_request_on_its_way_when_draining_begins_is_answered", 100, |seed| {
        simulate(seed, SimConfig::calm(), settings(), secs(5), move |house| async move {
            let mut fresh = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
            let mut used = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
            used.ask(&Ask::size(1, 100));
            used.until_answered(1).await;
            while house.app().opened.get() < 2 {
                sleep(millis(1)).await;
            }
            house.stop();
            sleep(millis(seed % 50)).await;
            fresh.ask(&Ask::size(2, 100));
            used.ask(&Ask::size(3, 100));
            fresh.until_ended().await;
            used.until_ended().await;
            assert_eq!((fresh.answered, used.answered), (1, 2));
            assert_eq!(house.stopped().await, 0);
        });
    });
}

#[test]
fn the_answers_of_a_draining_server_say_close() {
    run_seeds("the_answers_of_a_draining_server_say_close", 40, |seed| {
        simulate(seed, network(seed), settings(), secs(30), move |house| async move {
            let mut clients = Vec::new();
            for (n, begun) in [20, 1000, 1000].into_iter().enumerate() {
                let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
                let mut ask = Ask::later(n as u64, if n == 2 { 2000 } else { 0 }, 20);
                if n == 1 {
                    ask.head = format!("POST /echo/{n} HTTP/1.1\r\nHost: test\r\nContent-Length: 20\r\n\r\n").into();
                    ask.body = ask.want.body.clone();
                }
                // Half a head, half a body, and an answer that takes its time.
                let bytes = ask.bytes();
                let (now, later) = bytes.split_at(begun.min(bytes.len() - if n == 1 { 9 } else { 0 }));
                client.want(ask.want.clone());
                client.push(Duration::ZERO, now.to_vec());
                client.push(secs(2), later.to_vec());
                clients.push(spawn("client", async move {
                    client.until_answered(1).await;
                    let said = client.is_over() && client.ended.is_none();
                    client.until_ended().await;
                    (client.answered, said)
                }));
            }
            sleep(secs(1)).await;
            house.stop();
            assert_eq!(house.stopped().await, 0);
            assert_eq!(all(clients).await, [(1, true); 3]);
        });
    });
}

#[test]
fn draining_ends_with_the_graceful_time_and_counts_who_is_cut_off() {
    run_seeds(
        "draining_ends_with_the_graceful_time_and_counts_who_is_cut_off",
        60,
        |seed| {
            simulate(seed, network(seed), settings(), secs(5), move |house| async move {
                let mut rng = fastrand::Rng::with_seed(seed);
                let numbers = [rng.usize(0..4), rng.usize(0..4), rng.usize(0..4)];
                let mut clients = Vec::new();
                // Too long, long, idle.
                for (kind, ms) in [(0, 40_000), (1, 3_000), (2, 0)] {
                    for n in 0..numbers[kind] {
                        let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
                        if ms > 0 {
                            client.ask(&Ask::later(n as u64, ms, 20));
                        }
                        clients.push(spawn("client", async move {
                            let from = context::now_ns();
                            client.until_ended().await;
                            (kind, client.answered, since(from))
                        }));
                    }
                }
                while house.app().opened.get() < clients.len() {
                    sleep(millis(1)).await;
                }
                sleep(millis(200)).await;
                let from = context::now_ns();
                house.stop();
                assert_eq!(house.stopped().await, numbers[0]);
                let expected = match numbers {
                    [0, 0, _] => secs(0),
                    [0, ..] => secs(2),
                    _ => secs(5),
                };
                assert!(
                    since(from) >= expected && since(from) < expected + millis(1900),
                    "{:?}",
                    since(from)
                );
                for (kind, answered, took) in all(clients).await {
                    assert_eq!(answered, usize::from(kind < 2));
                    assert!(kind != 2 || took < secs(2), "an idle connection was kept for {took:?}");
                }
            });
        },
    );
}
