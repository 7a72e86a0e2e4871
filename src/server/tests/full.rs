//! A worker whose places are all taken, beside others: who comes to it is handed on, waits, or is taken back; none is lost, and there
//! are never more than there are places.

use super::balance::{ask, places, simulate, standing};
use super::client::{Client, Ended, Terms};
use super::directed::all;
use super::wire::Ask;
use super::{millis, secs, settings};
use crate::limits::balance as limits;
use crate::runtime::context;
use crate::runtime::driver::SocketAddrAny;
use crate::runtime::driver::sim::run_seeds;
use crate::runtime::executor::spawn;
use crate::runtime::time::sleep;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn who_is_full_is_handed_nothing() {
    run_seeds("who_is_full_is_handed_nothing", 20, |seed| {
        simulate(seed, settings(), 1, move |crew| async move {
            let (seat, leaves) = crew.another(Arc::clone(&crew.heartbeat), 3);
            let clients = (0..20).map(|n| {
                let crew = crew.clone();
                spawn(
                    "client",
                    async move { ask(crew.connect(0, Terms::Strict).await, n).await },
                )
            });
            let held = all(clients.collect()).await;
            // Three at a time, as long as they are not taken: it had room for no more.
            assert!((3..=20).contains(&crew.handed_over()), "{}", crew.handed_over());
            assert_eq!(crew.open(), [held.len()]);
            drop((seat, leaves));
        });
    });
}

#[test]
fn who_is_full_hands_to_whoever_has_a_place() {
    run_seeds("who_is_full_hands_to_whoever_has_a_place", 40, |seed| {
        simulate(seed, places(4), 2, move |crew| async move {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            for n in 0..8 {
                let before = crew.open()[1];
                let client = ask(crew.connect(n as usize % 2, Terms::Strict).await, n).await;
                let to = if crew.open()[1] > before {
                    &mut second
                } else {
                    &mut first
                };
                to.push(client);
            }
            assert_eq!(crew.open(), [4, 4]);
            second.truncate(1);
            while crew.open()[1] > 1 {
                sleep(millis(1)).await;
            }
            let newcomers = (10..13).map(|n| {
                let crew = crew.clone();
                spawn(
                    "client",
                    async move { ask(crew.connect(0, Terms::Strict).await, n).await },
                )
            });
            second.extend(all(newcomers.collect()).await);
            assert_eq!(crew.open(), [4, 4]);
            // Now there is a place nowhere, and then elsewhere.
            let mut waits = crew.connect(0, Terms::Strict).await;
            waits.ask(&Ask::size(20, 50));
            waits.dwell(millis(200)).await;
            assert_eq!((waits.answered, crew.open()), (0, vec![4, 4]));
            second.truncate(3);
            let from = context::now_ns();
            waits.until_answered(1).await;
            let took = Duration::from_nanos(context::now_ns() - from);
            assert_eq!(waits.answered, 1);
            assert!(took < limits::ROOM_AGAIN + secs(1), "{took:?}");
            assert_eq!(crew.handed_back(), 0);
        });
    });
}

/// Each time that one makes a turn again, what it had no time for comes back: to be served where there are places.
#[test]
fn who_is_full_stays_within_its_places_whatever_the_other_does_not_take() {
    run_seeds(
        "who_is_full_stays_within_its_places_whatever_the_other_does_not_take",
        10,
        |seed| {
            simulate(seed, places(4), 1, move |crew| async move {
                let mut held = Vec::new();
                for n in 0..4 {
                    held.push(ask(crew.connect(0, Terms::Strict).await, n).await);
                }
                let leaving = Rc::new(Cell::new(false));
                let (_still, heartbeat) = standing();
                let (seat, leaves) = crew.another(heartbeat, 1000);
                let clients = (10..60).map(|n| {
                    let crew = crew.clone();
                    let leaving = Rc::clone(&leaving);
                    spawn("client", async move {
                        let client = crew.connect(0, Terms::Strict).await;
                        let client = ask(client, n).await;
                        while !leaving.get() {
                            sleep(millis(1)).await;
                        }
                        drop(client);
                    })
                });
                let clients = clients.collect();
                for _ in 0..40 {
                    sleep(millis(10)).await;
                    assert_eq!(crew.open(), [4]);
                }
                assert!(
                    (1..=limits::OUT_MAX).contains(&crew.handed_over()),
                    "{}",
                    crew.handed_over()
                );
                // As there are places here, they are served, and none is lost.
                held.truncate(2);
                leaving.set(true);
                all(clients).await;
                while crew.open() != [2] {
                    sleep(millis(1)).await;
                }
                drop((seat, leaves));
            });
        },
    );
}

#[test]
fn what_one_does_not_take_of_a_full_worker_goes_to_a_third_that_has_a_place() {
    run_seeds(
        "what_one_does_not_take_of_a_full_worker_goes_to_a_third_that_has_a_place",
        10,
        |seed| {
            simulate(seed, places(4), 2, move |crew| async move {
                let mut held = Vec::new();
                for n in 0..8 {
                    held.push(ask(crew.connect(n as usize % 2, Terms::Strict).await, n).await);
                }
                assert_eq!(crew.open(), [4, 4]);
                let (_still, heartbeat) = standing();
                let (seat, leaves) = crew.another(heartbeat, 1000);
                let clients = (10..40).map(|n| {
                    let crew = crew.clone();
                    spawn("client", async move {
                        let client = crew.connect(0, Terms::Strict).await;
                        drop(ask(client, n).await);
                    })
                });
                let clients = clients.collect();
                sleep(millis(200)).await;
                assert_eq!(crew.open(), [4, 4]);
                // Wherever those are.
                held.drain(..3);
                all(clients).await;
                while crew.open().iter().sum::<usize>() != 5 {
                    sleep(millis(1)).await;
                }
                drop((seat, leaves));
            });
        },
    );
}

/// It came before memory was short, and is let in when it is, by the next place: whoever comes in the same turn, beyond the places,
/// does not oust him before his request can be read.
#[test]
fn who_waits_at_a_full_worker_is_answered_though_memory_is_short_meanwhile() {
    run_seeds(
        "who_waits_at_a_full_worker_is_answered_though_memory_is_short_meanwhile",
        40,
        |seed| {
            simulate(seed, places(4), 1, move |crew| async move {
                let server = Rc::clone(&crew.workers[0].server);
                let waiting = || server.seat.get().map_or(0, |seat| seat.waiting());
                let mut held = Vec::new();
                for n in 0..4 {
                    held.push(ask(crew.connect(0, Terms::Strict).await, n).await);
                }
                let comes = |n: u64, addr: SocketAddrAny| {
                    spawn("client", async move {
                        let mut client = Client::connect(addr, Terms::Strict).await.unwrap();
                        let mut question = Ask::size(n, 50);
                        question.want.close = true;
                        client.ask(&question);
                        client.until_ended().await;
                        assert_eq!((client.answered, client.ended), (1, Some(Ended::Cleanly)));
                    })
                };
                // One that was accepted, and for which there is no place any more.
                let mut other = crew.other.take().unwrap();
                let first = comes(10, crew.other_addr.clone());
                let stream = other.accept().await.unwrap();
                assert!(server.seat.get().unwrap().keep(Default::default(), stream).is_ok());
                sleep(millis(50)).await;
                server.set_short(true);
                let second = comes(11, crew.workers[0].addr.clone());
                // There is no place for either.
                for _ in 0..20 {
                    sleep(millis(10)).await;
                    assert_eq!((crew.open(), waiting()), (vec![4], 1));
                }
                held.truncate(3);
                // The next place is the first one's; the second may have one beyond them, and does not oust him.
                first.await.expect("the one that waited here");
                second.await.expect("the one that waited in the kernel's queue");
                assert_eq!(crew.count(|app| app.late.get()), 2);
                while crew.open() != [3] {
                    sleep(millis(1)).await;
                }
                server.set_short(false);
                held.push(ask(crew.connect(0, Terms::Strict).await, 12).await);
                drop((held, other));
            });
        },
    );
}
