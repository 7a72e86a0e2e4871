//! Memory is short: who is connected is served, who comes gets one answer, and it ends when it is over.

use super::client::{Client, Ended, Terms};
use super::http2_raw::{PREFACE, Raw, frame, get};
use super::wire::Ask;
use super::{House, millis, secs, settings, simulate};
use crate::limits::memory as limits;
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
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

#[test]
fn who_comes_late_gets_one_answer_and_who_was_there_is_served() {
    run_seeds(
        "who_comes_late_gets_one_answer_and_who_was_there_is_served",
        40,
        |seed| {
            simulate(seed, network(seed), settings(), secs(30), move |house| async move {
                let mut early = connect(&house, Terms::Strict).await;
                early.ask(&Ask::size(1, 10));
                early.until_answered(1).await;
                house.server.set_short(true);
                for n in 2..6 {
                    early.ask(&Ask::size(n, 10));
                }
                early.until_answered(5).await;
                assert_eq!((early.answered, house.app().late.get()), (5, 0));

                let mut late = connect(&house, Terms::Strict).await;
                let mut ask = if seed % 3 == 0 {
                    Ask::later(1, 10, 10)
                } else {
                    Ask::size(1, 10)
                };
                ask.want.close = true;
                late.ask(&ask);
                // Behind it nothing is answered.
                late.push(Duration::ZERO, Ask::size(2, 10).bytes());
                late.until_ended().await;
                assert_eq!((late.answered, late.ended), (1, Some(Ended::Cleanly)));
                assert_eq!(house.app().late.get(), 1);

                // One that comes late and asks when it is over is like any other.
                let mut patient = connect(&house, Terms::Strict).await;
                patient.dwell(millis(500)).await;
                house.server.set_short(false);
                for n in 1..4 {
                    patient.ask(&Ask::size(n, 10));
                }
                patient.until_answered(3).await;
                assert_eq!((patient.answered, house.app().late.get()), (3, 1));
            });
        },
    );
}

#[test]
fn of_those_who_come_late_so_many_have_a_place_and_the_oldest_makes_way() {
    run_seeds(
        "of_those_who_come_late_so_many_have_a_place_and_the_oldest_makes_way",
        4,
        |seed| {
            let many = super::Settings {
                connections_max: 4 * limits::LATE_MAX,
                ..settings()
            };
            simulate(seed, SimConfig::calm(), many, secs(30), move |house| async move {
                house.server.set_short(true);
                let from = context::now_ns();
                let mut held = Vec::new();
                for _ in 0..limits::LATE_MAX {
                    held.push(connect(&house, Terms::Lossy).await);
                }
                while house.server.open() < limits::LATE_MAX {
                    sleep(millis(1)).await;
                }
                // Who asks has his answer, however many there are that do not.
                for n in 0..10 {
                    let mut probe = connect(&house, Terms::Strict).await;
                    let mut ask = Ask::size(n, 10);
                    ask.want.close = true;
                    probe.ask(&ask);
                    probe.until_ended().await;
                    assert_eq!((probe.answered, probe.ended), (1, Some(Ended::Cleanly)));
                }
                let mut silent = Vec::new();
                while house.app().refused_late.get() < 10 {
                    silent.push(connect(&house, Terms::Lossy).await);
                    sleep(millis(1)).await;
                }
                let took = Duration::from_nanos(context::now_ns() - from);
                assert!(took < limits::LATE_PATIENCE, "they are not there any more: {took:?}");
                // The oldest.
                for client in &mut held[..10] {
                    let took = client.until_ended().await;
                    assert!(took < millis(500), "it has not made way: {took:?}");
                }
                // The others say nothing, and go; then there are places again.
                held.append(&mut silent);
                for client in &mut held {
                    client.until_ended().await;
                }
                let took = Duration::from_nanos(context::now_ns() - from);
                let linger = millis(crate::limits::connection::LINGER_MS);
                assert!(took < limits::LATE_PATIENCE + linger + secs(1), "{took:?}");
                drop(held);
                while house.server.open() > 0 {
                    sleep(millis(1)).await;
                }
                let mut next = connect(&house, Terms::Strict).await;
                let mut ask = Ask::size(1, 10);
                ask.want.close = true;
                next.ask(&ask);
                next.until_ended().await;
                assert_eq!(next.answered, 1);
            });
        },
    );
}

#[test]
fn what_unfinished_requests_may_hold_follows_what_it_is_set_to() {
    run_seeds(
        "what_unfinished_requests_may_hold_follows_what_it_is_set_to",
        4,
        |seed| {
            simulate(seed, network(seed), settings(), secs(30), move |house| async move {
                let refused = async |house: &House| {
                    let mut large = connect(house, Terms::Strict).await;
                    large.want(Ask::refused(vec![], 503).want);
                    large.push(Duration::ZERO, post(16_000).head);
                    large.until_ended().await;
                    assert_eq!(large.answered, 1);
                };
                let served = async |house: &House| {
                    let mut large = connect(house, Terms::Strict).await;
                    large.ask(&post(16_000));
                    large.until_answered(1).await;
                    assert_eq!(large.answered, 1);
                };
                served(&house).await;
                house.server.set_pending_bytes_max(8_000);
                refused(&house).await;
                // Short or not, it is what was said last.
                house.server.set_short(true);
                house.server.set_short(false);
                refused(&house).await;
                house.server.set_pending_bytes_max(100_000);
                served(&house).await;
            });
        },
    );
}

fn post(bytes: usize) -> Ask {
    let mut ask = Ask::get(1, "/", &vec![b'y'; bytes]);
    ask.head = format!("POST /echo/1 HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
    ask.body = ask.want.body.clone();
    ask
}

#[test]
fn large_bodies_wait_for_better_times_and_idle_connections_end_sooner() {
    run_seeds(
        "large_bodies_wait_for_better_times_and_idle_connections_end_sooner",
        20,
        |seed| {
            simulate(seed, network(seed), settings(), secs(30), move |house| async move {
                // It has begun before, and comes to its end.
                let mut begun = connect(&house, Terms::Strict).await;
                let ask = post(16_000);
                begun.want(ask.want.clone());
                let (now, last) = ask.body.split_at(15_999);
                begun.push(Duration::ZERO, [&ask.head, now].concat());
                begun.flushed().await;
                while house.server.pending_bytes() < 10_000 {
                    sleep(millis(10)).await;
                }
                let (mut large, mut small) = (
                    connect(&house, Terms::Strict).await,
                    connect(&house, Terms::Strict).await,
                );
                let mut idle = connect(&house, Terms::Draining).await;
                idle.ask(&Ask::size(1, 10));
                idle.until_answered(1).await;
                while house.server.open() < 4 {
                    sleep(millis(1)).await;
                }
                house.server.set_short(true);
                begun.push(Duration::ZERO, last.to_vec());
                begun.until_answered(1).await;
                assert_eq!(begun.answered, 1);

                large.want(Ask::refused(vec![], 503).want);
                large.push(Duration::ZERO, post(16_000).head);
                large.until_ended().await;
                assert_eq!(large.answered, 1);
                small.ask(&post(1_000));
                small.until_answered(1).await;
                assert_eq!(small.answered, 1);

                let waits = idle.until_ended().await;
                assert!(
                    waits <= limits::IDLE + secs(1),
                    "{waits:?} of a keep-alive of {:?}",
                    settings().keep_alive
                );
                house.server.set_short(false);
                let mut again = connect(&house, Terms::Strict).await;
                again.ask(&post(16_000));
                again.until_answered(1).await;
                again.dwell(limits::IDLE + secs(2)).await;
                assert!(again.ended.is_none(), "the keep-alive is its own again");
            });
        },
    );
}

async fn is_probed(house: &House) {
    let mut probe = connect(house, Terms::Strict).await;
    // As by a client that has a way to go.
    probe.dwell(millis(20)).await;
    let mut ask = Ask::size(1, 10);
    ask.want.close = true;
    probe.ask(&ask);
    let took = probe.until_ended().await;
    assert_eq!((probe.answered, probe.ended), (1, Some(Ended::Cleanly)));
    assert!(took < secs(1), "{took:?}");
}

#[test]
fn with_few_places_who_comes_takes_the_place_of_who_says_nothing() {
    run_seeds(
        "with_few_places_who_comes_takes_the_place_of_who_says_nothing",
        8,
        |seed| {
            let few = super::Settings {
                connections_max: 20,
                ..settings()
            };
            simulate(seed, SimConfig::calm(), few, secs(30), move |house| async move {
                // Of 20 places, all but some are taken before.
                let free = [1, 2, 20][seed as usize % 3];
                let mut early = Vec::new();
                for n in 0..20 - free {
                    let mut client = connect(&house, Terms::Strict).await;
                    client.ask(&Ask::size(n, 10));
                    client.until_answered(1).await;
                    early.push(client);
                }
                house.server.set_short(true);
                let mut silent = Vec::new();
                let from = context::now_ns();
                for _ in 0..60 {
                    silent.push(connect(&house, Terms::Lossy).await);
                }
                for _ in 0..3 {
                    is_probed(&house).await;
                }
                assert!(house.server.open() <= 20 + limits::LATE_BEYOND);
                let took = Duration::from_nanos(context::now_ns() - from);
                assert!(took < limits::LATE_PATIENCE, "the silent are gone: {took:?}");
                house.server.set_short(false);
                drop((early, silent));
            });
        },
    );
}

#[test]
fn who_came_late_and_was_kept_is_not_late_when_memory_is_short_again() {
    run_seeds(
        "who_came_late_and_was_kept_is_not_late_when_memory_is_short_again",
        10,
        |seed| {
            simulate(seed, network(seed), settings(), secs(30), move |house| async move {
                house.server.set_short(true);
                let mut kept = connect(&house, Terms::Strict).await;
                while house.server.open() < 1 {
                    sleep(millis(1)).await;
                }
                house.server.set_short(false);
                kept.ask(&Ask::size(1, 10));
                kept.until_answered(1).await;
                house.server.set_short(true);
                for n in 2..4 {
                    kept.ask(&Ask::size(n, 10));
                }
                kept.until_answered(3).await;
                assert_eq!((kept.answered, house.app().late.get()), (3, 0));
                house.server.set_short(false);
            });
        },
    );
}

/// HTTP/2 without a window: they ask, and take no answer.
#[test]
fn who_asks_and_holds_on_shuts_out_nobody_and_has_not_long() {
    run_seeds("who_asks_and_holds_on_shuts_out_nobody_and_has_not_long", 6, |seed| {
        let few = super::Settings {
            connections_max: 40,
            ..settings()
        };
        simulate(seed, SimConfig::calm(), few, secs(30), move |house| async move {
            house.server.set_short(true);
            let mut holds = Vec::new();
            for _ in 0..20 {
                let mut client = Raw::connect(&house).await;
                let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
                let request = frame(1, 5, 1, &get("/size/1/10"));
                client.send(&[PREFACE, &no_window, &request]).await;
                assert!(client.find(1).await.is_some(), "no answer is begun");
                holds.push(client);
            }
            let from = context::now_ns();
            let mut others = Vec::new();
            for _ in 0..5 {
                // Others come at the same time, which must not take the place of who is about to ask.
                let mut probe = connect(&house, Terms::Strict).await;
                for _ in 0..3 {
                    others.push(connect(&house, Terms::Lossy).await);
                }
                probe.dwell(millis(20)).await;
                let mut ask = Ask::size(1, 10);
                ask.want.close = true;
                probe.ask(&ask);
                probe.until_ended().await;
                assert_eq!((probe.answered, probe.ended), (1, Some(Ended::Cleanly)));
            }
            for mut client in holds {
                while client.next().await.is_some() {}
            }
            let took = Duration::from_nanos(context::now_ns() - from);
            assert!(took < limits::LATE_PATIENCE + secs(1), "{took:?}");
            house.server.set_short(false);
        });
    });
}
