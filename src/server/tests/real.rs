//! The same promises on io_uring and epoll, over loopback.

use super::client::{Client, Ended, Terms};
use super::random::{Load, Manner, client};
use super::wire::{Ask, Scale};
use super::{House, Listening, Settings, TestApp, accept, millis, secs, serve};
use crate::runtime::context;
use crate::runtime::driver::SocketAddrAny;
use crate::runtime::driver::choose::{IoDriver, open};
use crate::runtime::executor::{Runtime, spawn};
use crate::runtime::net::{Listener, listen};
use crate::runtime::time::sleep;
use crate::server::Server;
use std::future::{Future, ready};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

fn settings() -> Settings {
    Settings {
        keep_alive: millis(900),
        head_timeout: millis(1500),
        body_timeout: millis(1500),
        write_timeout: millis(500),
        connections_max: 1000,
        ..Settings::default()
    }
}

fn load() -> Load {
    Load {
        terms: Terms::Strict,
        scale: Scale {
            big_bytes: 200_000,
            later_ms: 20,
        },
        limits: settings(),
        // The machine has other things to do as well.
        slack: secs(5),
    }
}

fn on_each_driver<F: Future<Output = ()> + 'static>(
    graceful: Duration,
    scenario: impl Fn(House) -> F + Clone + 'static,
) {
    for kind in [IoDriver::Uring, IoDriver::Epoll] {
        match open(kind) {
            Ok((driver, _)) => {
                let times = (settings(), graceful, secs(60));
                serve(driver, Listening::Real, 1, times, scenario.clone());
            }
            Err(error) => println!("SKIPPED: {error}"),
        }
    }
}

#[test]
fn a_crowd_on_real_sockets() {
    on_each_driver(secs(5), |house| async move {
        let manners = [
            Manner::Stays,
            Manner::HalfCloses,
            Manner::SendsGarbage,
            Manner::Idles,
            Manner::Stalls,
        ];
        let clients: Vec<_> = (0..120)
            .map(|seed| {
                let manner = manners[seed as usize % manners.len()];
                spawn("client", client(house.clone(), seed, manner, load()))
            })
            .collect();
        for client in clients {
            client.await.expect("a client");
        }
    });
}

#[test]
fn real_clients_that_vanish_or_take_nothing() {
    on_each_driver(secs(5), |house| async move {
        let clients: Vec<_> = (0..30)
            .map(|seed| {
                let house = house.clone();
                spawn("client", async move {
                    let mut client = Client::connect(house.addr.clone(), Terms::Lossy).await.unwrap();
                    // More than both sockets hold.
                    for n in 0..40 {
                        client.ask(&Ask::size(n, 250_000));
                    }
                    if seed % 2 == 0 {
                        client.until_answered(seed as usize % 3).await;
                    } else {
                        client.stop_reading();
                        client.flushed().await;
                        sleep(millis(100)).await;
                        let from = context::precise_now_ns();
                        while house.server.open() > 0 && context::precise_now_ns() - from < 5_000_000_000 {
                            sleep(millis(20)).await;
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("a client");
        }
        house.until_empty(secs(5)).await;
    });
}

#[test]
fn draining_real_connections() {
    on_each_driver(millis(600), |house| async move {
        let mut clients = Vec::new();
        for (kind, ms) in [(0, 2_500), (1, 100), (2, 0), (1, 200), (2, 0)] {
            let mut client = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
            if ms > 0 {
                client.ask(&Ask::later(kind, ms, 100_000));
            }
            clients.push((
                kind,
                spawn("client", async move {
                    // Nobody waits for the first.
                    client.dwell(secs(1)).await;
                    (client.answered, client.ended)
                }),
            ));
        }
        sleep(millis(50)).await;
        house.stop();
        assert_eq!(house.stopped().await, 1);
        for (kind, client) in clients {
            let expected = match kind {
                0 => (0, None),
                1 => (1, Some(Ended::Cleanly)),
                _ => (0, Some(Ended::Cleanly)),
            };
            assert_eq!(client.await.expect("a client"), expected, "kind {kind}");
        }
    });
}

/// A listener outlives the worker that accepted from it: who waits in its queue is served by the next.
#[test]
fn connections_in_the_queue_are_served_by_the_next_worker() {
    for kind in [IoDriver::Uring, IoDriver::Epoll] {
        let Ok((driver, _)) = open(kind) else {
            println!("SKIPPED: no {kind}");
            continue;
        };
        let run = async {
            let socket = listen::tcp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into(), 64).unwrap();
            let addr = SocketAddrAny::from(listen::local_addr(&socket).unwrap());
            for n in 0..5 {
                let server = Rc::new(Server::new(TestApp::default(), settings()));
                let first = Listener::new(socket.try_clone().unwrap()).unwrap();
                // It is told to stop before it has begun.
                accept::run(Rc::clone(&server), first, ready(()), secs(1)).await;
                let mut client = Client::connect(addr.clone(), Terms::Strict).await.unwrap();
                client.ask(&Ask::size(n, 100));
                let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
                let second = Listener::new(socket.try_clone().unwrap()).unwrap();
                let server = Rc::new(Server::new(TestApp::default(), settings()));
                let run = accept::run(Rc::clone(&server), second, async move { drop(stopped.await) }, secs(1));
                let run = spawn("accept", run);
                client.until_answered(1).await;
                assert_eq!(client.answered, 1);
                drop((client, stop));
                assert_eq!(run.await, Ok(0));
            }
        };
        Runtime::new(driver, 1).block_on(run).unwrap();
    }
}
