//! TLS: the same promises as in the clear, and those that only TLS makes.

use super::client::{Ended, Terms};
use super::random::{crowd_on, load};
use super::wire::Ask;
use super::wire_tls::{TlsWire, Wire, keys};
use super::{House, Listening, accept, millis, secs, settings, simulate_on};
use crate::runtime::context;
use crate::runtime::driver::choose::{IoDriver, open};
use crate::runtime::driver::sim::{SimConfig, SimDriver, run_seeds};
use crate::runtime::driver::{Shutdown, SocketAddrAny};
use crate::runtime::executor::{Runtime, spawn};
use crate::runtime::net::{Listener, Stream};
use crate::runtime::time::{sleep, timeout};
use crate::server::{Server, Terms as PortTerms};
use rustls::ClientConfig;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// TLS 1.2 and 1.3 in turn.
fn version(seed: u64) -> Option<Arc<ClientConfig>> {
    let keys = keys();
    Some(Arc::clone(if seed.is_multiple_of(2) {
        &keys.tls13
    } else {
        &keys.tls12
    }))
}

#[test]
fn a_crowd_over_tls_on_a_calm_network() {
    run_seeds("a_crowd_over_tls_on_a_calm_network", 150, |seed| {
        let big = if seed % 16 == 0 { 200_000 } else { 10_000 };
        crowd_on(version(seed), seed, SimConfig::calm(), load(Terms::Strict, big));
    });
}

#[test]
fn a_crowd_over_tls_on_a_rough_network() {
    run_seeds("a_crowd_over_tls_on_a_rough_network", 200, |seed| {
        crowd_on(version(seed), seed, SimConfig::rough(), load(Terms::Strict, 12_000));
    });
}

#[test]
fn a_crowd_over_tls_on_a_hostile_network() {
    run_seeds("a_crowd_over_tls_on_a_hostile_network", 300, |seed| {
        crowd_on(version(seed), seed, SimConfig::hostile(), load(Terms::Lossy, 12_000));
    });
}

pub(super) fn calmly<F: Future<Output = ()> + 'static>(scenario: impl Fn(House) -> F + Clone + 'static) {
    for seed in 0..2 {
        simulate_on(
            version(seed),
            seed,
            SimConfig::calm(),
            settings(),
            secs(30),
            scenario.clone(),
        );
    }
}

/// Reads what comes until the end; true if the end was clean.
pub(super) async fn drain(stream: &mut Stream) -> (Vec<u8>, bool) {
    let mut got = Vec::new();
    loop {
        match stream.recv().await {
            Ok(Some(bytes)) => got.extend_from_slice(&bytes),
            Ok(None) => return (got, true),
            Err(_) => return (got, false),
        }
    }
}

/// The bytes that a client begins with.
pub(super) fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut tls = rustls::ClientConnection::new(Arc::clone(config), "test".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).unwrap();
    bytes
}

pub(super) async fn send(stream: &mut Stream, bytes: &[u8]) {
    let (sent, _) = stream.send(bytes.to_vec()).await;
    sent.unwrap();
}

#[test]
fn requests_over_tls_are_secure_and_counted_in_plain_bytes() {
    calmly(|house| async move {
        let mut client = house.connect(Terms::Strict).await.unwrap();
        let ask = Ask::size(3, 100);
        let bytes = ask.bytes().len();
        client.ask(&ask);
        client.until_answered(1).await;
        let app = house.app();
        assert_eq!((app.secure.get(), app.calls.get()), (1, 1));
        assert_eq!((app.shaken.get(), app.unshaken.get()), (1, 0));
        assert_eq!(app.received.get(), bytes);
    });
}

#[test]
fn a_handshake_has_the_time_of_a_head_in_all() {
    calmly(|house| async move {
        let limit = settings().head_timeout;
        for kind in 0..3 {
            let mut stream = Stream::connect(house.addr.clone()).await.unwrap();
            let from = context::now_ns();
            let hello = hello(house.tls.as_ref().unwrap());
            match kind {
                // Nothing; half a hello; a hello byte by byte, which never is too slow at any one of them.
                0 => {}
                1 => send(&mut stream, &hello[..hello.len() / 2]).await,
                _ => {
                    let pause = limit / (hello.len() as u32 / 2);
                    for byte in &hello {
                        if stream.send(vec![*byte]).await.0.is_err() {
                            break;
                        }
                        sleep(pause).await;
                    }
                }
            }
            drain(&mut stream).await;
            let took = Duration::from_nanos(context::now_ns() - from);
            assert!(took >= limit, "kind {kind} ended after {took:?}");
            if kind < 2 {
                assert!(took < limit + secs(1), "kind {kind} ended after {took:?}");
            }
        }
        assert_eq!(house.app().unshaken.get(), 3);
        // Who leaves without a word has not failed.
        drop(Stream::connect(house.addr.clone()).await.unwrap());
        house.until_empty(secs(2)).await;
        assert_eq!((house.app().shaken.get(), house.app().unshaken.get()), (0, 3));
    });
}

#[test]
fn what_is_no_tls_is_told_why() {
    calmly(|house| async move {
        let mut stream = Stream::connect(house.addr.clone()).await.unwrap();
        send(&mut stream, b"G").await;
        sleep(millis(50)).await;
        send(&mut stream, b"ET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let (got, clean) = drain(&mut stream).await;
        let got = String::from_utf8(got).unwrap();
        assert!(clean && got.starts_with("HTTP/1.1 400 "), "{got}");
        assert!(got.contains("speaks TLS"), "{got}");
        drop(stream);
        // A record of an unknown kind, one that is too long, and one that is no handshake: each gets a fatal alert.
        for garbage in [
            &b"\x00\x01\x02\x03\x04\x05\x06\x07"[..],
            b"\x16\x03\x01\xff\xff\x01\x02",
            b"\x16\x03\x01\x00\x05\xff\x00\x00\x01\x00",
            b"\x17\x03\x03\x00\x05hello",
        ] {
            let mut stream = Stream::connect(house.addr.clone()).await.unwrap();
            send(&mut stream, garbage).await;
            let (got, clean) = drain(&mut stream).await;
            assert!(clean, "{garbage:?}");
            assert!(matches!(got[..], [0x15, 3, _, 0, 2, 2, _]), "{got:x?} to {garbage:x?}");
        }
        assert_eq!((house.app().refused.get(), house.app().calls.get()), (1, 0));
        assert_eq!(house.app().unshaken.get(), 5);
    });
}

#[test]
fn a_cut_is_an_end_and_a_flipped_bit_is_a_fault() {
    calmly(|house| async move {
        // The socket ends without close_notify, within a request: nothing is answered, and nothing hangs.
        let Wire::Tls(mut wire) = Wire::connect(&house, house.addr.clone()).await.unwrap() else {
            panic!("not TLS")
        };
        wire.tls.writer().write_all(b"GET /size/1/1 HT").unwrap();
        poll_fn(|cx| wire.poll_sent(cx)).await.0.unwrap();
        wire.stream.shutdown(Shutdown::Write).unwrap();
        // The server says goodbye all the same.
        assert!(matches!(poll_fn(|cx| wire.poll_recv(cx)).await, Ok(None)));
        drop(wire);
        house.until_empty(secs(5)).await;

        let Wire::Tls(mut wire) = Wire::connect(&house, house.addr.clone()).await.unwrap() else {
            panic!("not TLS")
        };
        wire.tls
            .writer()
            .write_all(b"GET /size/1/1 HTTP/1.1\r\nHost: test\r\n\r\n")
            .unwrap();
        let mut sealed = Vec::new();
        wire.tls.write_tls(&mut sealed).unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        send(&mut wire.stream, &sealed).await;
        // A fatal alert, and no answer.
        assert!(poll_fn(|cx| wire.poll_recv(cx)).await.is_err());
        assert!(wire.broken, "no alert came");
        drop(wire);
        house.until_empty(secs(5)).await;
        assert_eq!(house.app().calls.get(), 0);
    });
}

/// Asks for new keys again and again, reading nothing: the server's own must not pile up for it.
#[test]
fn a_flood_of_new_keys_is_ended() {
    simulate_on(
        version(0),
        1,
        SimConfig::calm(),
        settings(),
        secs(30),
        |house| async move {
            let mut wire = TlsWire::connect(house.addr.clone(), house.tls.as_ref().unwrap())
                .await
                .unwrap();
            let mut refused = false;
            for _ in 0..200 {
                wire.tls.refresh_traffic_keys().unwrap();
                if poll_fn(|cx| wire.poll_sent(cx)).await.0.is_err() {
                    refused = true;
                    break;
                }
                sleep(millis(1)).await;
            }
            assert!(refused, "200 changes of keys were borne");
            drop(wire);
            house.until_empty(secs(5)).await;
        },
    );
}

/// New keys now and then are in order, also while an answer is under way.
#[test]
fn new_keys_between_requests() {
    simulate_on(
        version(0),
        1,
        SimConfig::rough(),
        settings(),
        secs(30),
        |house| async move {
            let mut client = house.connect(Terms::Strict).await.unwrap();
            for n in 0..100 {
                if let Wire::Tls(wire) = client.wire() {
                    wire.tls.refresh_traffic_keys().unwrap();
                }
                client.ask(&Ask::size(n, 3_000));
                client.until_answered(n as usize + 1).await;
            }
            assert_eq!(client.answered, 100);
        },
    );
}

/// Bytes of the handshake and after it are damaged, one bit at a time: the connection ends, and nothing else does.
#[test]
fn damaged_bytes_harm_their_own_connection_only() {
    run_seeds("damaged_bytes_harm_their_own_connection_only", 400, |seed| {
        simulate_on(
            version(seed),
            seed,
            SimConfig::rough(),
            settings(),
            secs(30),
            move |house| async move {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut tls =
                    rustls::ClientConnection::new(Arc::clone(house.tls.as_ref().unwrap()), "test".try_into().unwrap())
                        .unwrap();
                tls.writer()
                    .write_all(b"GET /size/1/1 HTTP/1.1\r\nHost: test\r\n\r\n")
                    .unwrap();
                let mut stream = Stream::connect(house.addr.clone()).await.unwrap();
                let mut whole_until = rng.usize(..600);
                let _ = timeout(secs(20), async {
                    loop {
                        let mut sealed = Vec::new();
                        while tls.wants_write() {
                            tls.write_tls(&mut sealed).unwrap();
                        }
                        for byte in &mut sealed {
                            if whole_until == 0 {
                                *byte ^= 1 << rng.u8(..8);
                                whole_until = rng.usize(1..600);
                            }
                            whole_until -= 1;
                        }
                        if !sealed.is_empty() && stream.send(sealed).await.0.is_err() {
                            return;
                        }
                        let Ok(Some(bytes)) = stream.recv().await else { return };
                        let mut rest = &bytes[..];
                        while !rest.is_empty() {
                            let _ = tls.read_tls(&mut rest);
                            if tls.process_new_packets().is_err() {
                                return;
                            }
                        }
                    }
                })
                .await;
                drop(stream);
                let mut client = house.connect(Terms::Strict).await.unwrap();
                client.ask(&Ask::size(1, 10));
                client.until_answered(1).await;
                assert_eq!(client.answered, 1);
            },
        );
    });
}

#[test]
fn draining_says_goodbye_and_does_not_wait_for_the_silent() {
    calmly(|house| async move {
        let mut idle = house.connect(Terms::Draining).await.unwrap();
        idle.ask(&Ask::size(1, 10));
        idle.until_answered(1).await;
        let mut silent = Stream::connect(house.addr.clone()).await.unwrap();
        sleep(millis(50)).await;
        let from = context::now_ns();
        house.stop();
        assert_eq!(house.stopped().await, 0);
        let took = Duration::from_nanos(context::now_ns() - from);
        assert!(took < secs(3), "{took:?}");
        idle.until_ended().await;
        // With close_notify: the client of these tests takes nothing less for clean.
        assert_eq!(idle.ended, Some(Ended::Cleanly));
        assert!(drain(&mut silent).await.0.is_empty());
    });
}

#[test]
fn a_crowd_over_tls_on_real_sockets() {
    for kind in [IoDriver::Uring, IoDriver::Epoll] {
        let Ok((driver, _)) = open(kind) else {
            println!("SKIPPED: no {kind}");
            continue;
        };
        let listening = Listening::Tls(Box::new(Listening::Real), Arc::clone(&keys().tls13));
        let times = (settings(), secs(5), secs(60));
        super::serve(driver, listening, 1, times, |house| async move {
            let clients: Vec<_> = (0..40)
                .map(|n| {
                    let house = house.clone();
                    spawn("client", async move {
                        let mut client = house.connect(Terms::Strict).await.unwrap();
                        for at in 0..5 {
                            client.ask(&Ask::size(n + at, 60_000));
                            client.ask(&Ask::later(n + at, 5, 100));
                        }
                        client.until_answered(10).await;
                        assert_eq!(client.answered, 10);
                    })
                })
                .collect();
            for client in clients {
                client.await.expect("a client");
            }
        });
    }
}

/// A port that speaks TLS on a server that has no certificate serves nobody, and goes on.
#[test]
fn no_certificate_no_connection() {
    let (driver, net) = SimDriver::new(1, SimConfig::calm());
    let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let listener = net.listen(addr.clone());
    Runtime::new(Box::new(driver), 1)
        .block_on(async move {
            let server = Rc::new(Server::new(super::TestApp::default(), settings()));
            let port = accept::Port {
                listener: Listener::from_driver(listener),
                terms: PortTerms {
                    tls: true,
                    proxy: false,
                },
                stays: false,
            };
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let stopping = async move { drop(stopped.await) };
            let run = spawn("accept", accept::run(Rc::clone(&server), port, stopping, secs(1)));
            for _ in 0..2 {
                let mut stream = Stream::connect(addr.clone()).await.unwrap();
                assert!(drain(&mut stream).await.0.is_empty());
            }
            drop(stop);
            assert_eq!(run.await, Ok(0));
        })
        .unwrap();
}
