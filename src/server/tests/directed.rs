//! One promise at a time.

use super::client::{Client, Terms};
use super::random::{Manner, garbage};
use super::wire::Ask;
use super::{House, Settings, millis, secs, settings, simulate};
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::{JoinHandle, spawn};
use crate::runtime::time::sleep;
use std::time::Duration;

/// Every second seed is rough.
pub(super) fn network(seed: u64) -> SimConfig {
    if seed.is_multiple_of(2) {
        SimConfig::calm()
    } else {
        SimConfig::rough()
    }
}

pub(super) async fn connect(house: &House) -> Client {
    Client::connect(house.addr.clone(), Terms::Strict).await.unwrap()
}

pub(super) fn since(from_ns: u64) -> Duration {
    Duration::from_nanos(context::now_ns() - from_ns)
}

#[track_caller]
pub(super) fn assert_took(took: Duration, limit: Duration) {
    assert!(took >= limit && took < limit + secs(1), "{took:?}, not {limit:?}");
}

pub(super) async fn all<T: 'static>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("a client"));
    }
    results
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    run_seeds("an_idle_connection_is_closed_in_silence", 40, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let fresh = connect(&house);
            let used = connect(&house);
            let (mut fresh, mut used) = (fresh.await, used.await);
            let from = context::now_ns();
            // Each answer begins the wait anew.
            for n in 0..3 {
                used.ask(&Ask::size(n, 10));
                used.until_answered(n as usize + 1).await;
                sleep(secs(15)).await;
            }
            fresh.until_ended().await;
            // Noticed late: the loop above was asleep.
            assert!(since(from) >= secs(45));
            assert_took(used.until_ended().await + secs(15) + millis(50), secs(20));
        });
    });
}

/// One empty line may come behind a request; the clock of an idle connection runs on. More of them are the begin of a
/// request that does not come.
#[test]
fn empty_lines_keep_no_connection_open() {
    run_seeds("empty_lines_keep_no_connection_open", 40, |seed| {
        simulate(seed, network(seed), settings(), secs(30), move |house| async move {
            let mut client = connect(&house).await;
            client.ask(&Ask::size(1, 10));
            client.until_answered(1).await;
            let from = context::now_ns();
            client.push(secs(12), b"\r\n".to_vec());
            if seed.is_multiple_of(4) {
                client.push(secs(1), b"\r\n".to_vec());
                client.want(Ask::refused(vec![], 408).want);
                client.until_ended().await;
                assert_took(since(from), secs(13) + settings().head_timeout);
                assert_eq!(client.answered, 2);
            } else {
                client.until_ended().await;
                assert_took(since(from) + millis(100), settings().keep_alive);
            }
        });
    });
}

#[test]
fn a_trickle_does_not_stretch_the_time_of_a_head() {
    run_seeds("a_trickle_does_not_stretch_the_time_of_a_head", 40, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let mut client = connect(&house).await;
            client.ask(&Ask::size(1, 10));
            client.until_answered(1).await;
            let from = context::now_ns();
            client.want(Ask::refused(vec![], 408).want);
            for byte in Ask::size(2, 10).head {
                client.push(secs(1), vec![byte]);
            }
            client.until_ended().await;
            assert_took(since(from), secs(1) + settings().head_timeout);
            assert_eq!(client.answered, 2);
        });
    });
}

#[test]
fn the_time_of_an_answer_is_not_counted_against_the_next_head() {
    run_seeds(
        "the_time_of_an_answer_is_not_counted_against_the_next_head",
        40,
        |seed| {
            simulate(seed, network(seed), settings(), secs(30), |house| async move {
                let mut client = connect(&house).await;
                let (first, second) = (Ask::later(1, 12_000, 10), Ask::size(2, 10));
                client.want(first.want);
                client.want(second.want);
                let (begun, rest) = second.head.split_at(20);
                client.push(Duration::ZERO, [&first.head[..], begun].concat());
                client.until_answered(1).await;
                client.push(settings().head_timeout - secs(1), rest.to_vec());
                client.until_answered(2).await;
                assert_eq!(client.answered, 2);
            });
        },
    );
}

#[test]
fn each_answer_has_its_own_time_to_be_taken() {
    run_seeds("each_answer_has_its_own_time_to_be_taken", 10, |seed| {
        let config = SimConfig {
            socket_buffer_bytes: 2000,
            // A receive that is stopped stops at once, so the client's pace is what it asks for.
            delay_ns_max: 0,
            ..SimConfig::calm()
        };
        simulate(seed, config, settings(), secs(30), |house| async move {
            let mut client = connect(&house).await;
            // 2 to 4 KB each time, so about seven of the ten seconds for an answer.
            client.slow(millis(1100));
            let from = context::now_ns();
            for n in 0..3 {
                let ask = Ask::size(n, 20_000);
                client.want(ask.want.clone());
                client.push(millis(500), ask.bytes());
            }
            for n in 1..=3 {
                client.until_answered(n).await;
                println!("{n}: {:?}", since(from));
            }
            assert_eq!(client.answered, 3);
            assert!(
                since(from) > settings().write_timeout,
                "too quick to show anything: {:?}",
                since(from)
            );
        });
    });
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off_in_time() {
    run_seeds("a_peer_that_takes_nothing_is_cut_off_in_time", 40, |seed| {
        let config = SimConfig {
            socket_buffer_bytes: 3000,
            ..network(seed / 2)
        };
        simulate(seed, config, settings(), secs(30), move |house| async move {
            let mut client = Client::connect(house.addr.clone(), Terms::Lossy).await.unwrap();
            client.ask(&match seed % 3 {
                0 => Ask::get(0, "/events/0/40/1000", b""),
                _ => Ask::size(1, 20_000),
            });
            if seed.is_multiple_of(2) {
                // Behind it, one that waits for its turn.
                client.push(millis(100), Ask::size(2, 10).bytes());
            }
            client.stop_reading();
            let from = context::now_ns();
            client.flushed().await;
            while house.app().opened.get() == 0 {
                sleep(millis(1)).await;
            }
            house.until_empty(secs(15)).await;
            let (took, limit) = (since(from), settings().write_timeout);
            // The kernel takes the first bytes at once, which is seen at the first look.
            assert!(took >= limit && took < limit + limit / 4 + secs(1), "{took:?}");
        });
    });
}

#[test]
fn a_flood_is_not_taken_in() {
    run_seeds("a_flood_is_not_taken_in", 8, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let mut client = Client::connect(house.addr.clone(), Terms::Lossy).await.unwrap();
            client.stop_reading();
            let mut ask = Ask::size(1, 1000);
            ask.head = b"POST /echo/1 HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n".to_vec();
            ask.body = vec![b'x'; 1000];
            assert!(!client.pour(ask, 2000).await, "all taken in");
            let received = house.app().received.get();
            assert!(received < 400_000, "{received} bytes for a peer that takes nothing");
        });
    });
}

#[test]
fn pipelined_requests_are_answered_with_one_write() {
    run_seeds("pipelined_requests_are_answered_with_one_write", 10, |seed| {
        simulate(seed, SimConfig::calm(), settings(), secs(30), |house| async move {
            let mut client = connect(&house).await;
            let asks: Vec<Ask> = (0..40).map(|n| Ask::size(n, 20)).collect();
            asks.iter().for_each(|ask| client.want(ask.want.clone()));
            client.push(Duration::ZERO, asks.iter().flat_map(Ask::bytes).collect());
            client.until_answered(40).await;
            assert_eq!(house.app().sends.get(), 1);
        });
    });
}

#[test]
fn an_answer_at_hand_does_not_wait_for_a_slow_one_behind_it() {
    run_seeds("an_answer_at_hand_does_not_wait_for_a_slow_one_behind_it", 40, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let mut client = connect(&house).await;
            let (quick, slow) = (Ask::size(1, 20), Ask::later(2, 9000, 20));
            client.want(quick.want.clone());
            client.want(slow.want.clone());
            client.push(Duration::ZERO, [quick.bytes(), slow.bytes()].concat());
            let from = context::now_ns();
            client.until_answered(1).await;
            assert!(since(from) < secs(1), "{:?}", since(from));
            client.until_answered(2).await;
            assert!(since(from) >= secs(9));
        });
    });
}

#[test]
fn a_panic_costs_one_request() {
    run_seeds("a_panic_costs_one_request", 40, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let mut client = connect(&house).await;
            for n in 0..9u64 {
                let path = ["panic", "latepanic", "size"][n as usize % 3];
                let mut ask = Ask::size(n, 30);
                ask.head = format!("GET /{path}/{n}/30 HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes();
                if path != "size" {
                    (ask.want.status, ask.want.n, ask.want.body) = (500, None, b"failed".to_vec());
                }
                client.ask(&ask);
            }
            client.until_answered(9).await;
            assert_eq!((house.app().failed.get(), house.app().opened.get()), (6, 1));
        });
    });
}

#[test]
fn more_connections_than_there_is_room_for_wait_their_turn() {
    run_seeds("more_connections_than_there_is_room_for_wait_their_turn", 60, |seed| {
        let settings = Settings {
            connections_max: 3,
            ..settings()
        };
        simulate(seed, network(seed), settings, secs(30), move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let clients = (0..10)
                .map(|n| {
                    let (house, ms) = (house.clone(), rng.u64(0..3000));
                    spawn("client", async move {
                        let mut client = connect(&house).await;
                        client.ask(&Ask::later(n, ms, 20));
                        client.until_answered(1).await;
                        assert_eq!(client.answered, 1);
                    })
                })
                .collect();
            all(clients).await;
            let app = house.app();
            assert_eq!((app.opened.get(), app.open_max.get()), (10, 3));
        });
    });
}

#[test]
fn a_refusal_reaches_a_peer_that_goes_on_sending() {
    run_seeds("a_refusal_reaches_a_peer_that_goes_on_sending", 200, |seed| {
        simulate(seed, network(seed), settings(), secs(30), move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut client = connect(&house).await;
            client.ask(&garbage(&mut rng));
            for _ in 0..rng.usize(0..20) {
                client.push(millis(rng.u64(0..5)), vec![b'x'; 5000]);
            }
            client.until_ended().await;
            assert_eq!((client.answered, house.app().refused.get()), (1, 1));
        });
    });
}

/// Connections that wait for a slow answer have sent more meanwhile: others need the buffers.
#[test]
fn who_waits_for_an_answer_holds_no_receive_buffers() {
    run_seeds("who_waits_for_an_answer_holds_no_receive_buffers", 40, |seed| {
        let config = SimConfig {
            buffers: 64,
            ..network(seed)
        };
        simulate(seed, config, settings(), secs(30), move |house| async move {
            let clients: Vec<_> = (0..12)
                .map(|n| {
                    let house = house.clone();
                    spawn("client", async move {
                        let mut client = connect(&house).await;
                        client.ask(&Ask::later(n, 5000, 20));
                        for at in 0..30 {
                            client.ask(&Ask::size(at, 200));
                        }
                        client.until_answered(31).await;
                        assert_eq!(client.answered, 31);
                    })
                })
                .collect();
            sleep(secs(3)).await;
            let out = house.net.as_ref().unwrap().buffers_out();
            assert_eq!(out, 0, "seed {seed}: receive buffers are held during a wait");
            all(clients).await;
        });
    });
}

/// A connection that was refused, and takes its answers so slowly that the refusal cannot be sent: what it sends meanwhile
/// must not hold the buffers of the others.
#[test]
fn who_is_refused_and_reads_nothing_holds_no_receive_buffers() {
    run_seeds(
        "who_is_refused_and_reads_nothing_holds_no_receive_buffers",
        40,
        |seed| {
            let config = SimConfig {
                buffers: 64,
                socket_buffer_bytes: 3000,
                ..network(seed)
            };
            simulate(seed, config, settings(), secs(30), move |house| async move {
                let mut clients = Vec::new();
                for n in 0..12 {
                    let mut client = Client::connect(house.addr.clone(), Terms::Lossy).await.unwrap();
                    client.stop_reading();
                    client.ask(&Ask::size(n, 20_000));
                    client.ask(&Ask::refused(b"nonsense\r\n".to_vec(), 400));
                    for _ in 0..8 {
                        client.push(millis(100), vec![b'x'; 700]);
                    }
                    clients.push(spawn("client", async move {
                        client.flushed().await;
                        sleep(secs(20)).await;
                    }));
                }
                sleep(secs(4)).await;
                let out = house.net.as_ref().unwrap().buffers_out();
                assert_eq!(out, 0, "seed {seed}: receive buffers are held");
                assert_eq!(house.server.open(), 12);
                all(clients).await;
            });
        },
    );
}

#[test]
fn a_client_that_vanishes_takes_its_connection_with_it() {
    run_seeds("a_client_that_vanishes_takes_its_connection_with_it", 100, |seed| {
        simulate(seed, network(seed), settings(), secs(30), move |house| async move {
            let load = super::random::load(Terms::Strict, 8000);
            for at in 0..4 {
                super::random::client(house.clone(), seed * 4 + at, Manner::Vanishes, load.clone()).await;
            }
            // Nobody there: not even the write timeout is needed.
            house.until_empty(secs(3)).await;
        });
    });
}
