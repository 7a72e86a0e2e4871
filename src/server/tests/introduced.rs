//! Connections of trusted proxies, which begin with a PROXY header, or should.

use super::client::{Client, Ended, Terms};
use super::wire::Ask;
use super::{House, Settings, millis, secs, settings, simulate};
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::time::sleep;
use crate::server::TrustedProxies;
use std::sync::Arc;

fn network(seed: u64) -> SimConfig {
    if seed.is_multiple_of(2) {
        SimConfig::calm()
    } else {
        SimConfig::rough()
    }
}

/// Everybody is a trusted proxy.
fn introducing() -> Settings {
    Settings {
        trusted: Arc::new(TrustedProxies::parse("*").unwrap()),
        ..settings()
    }
}

async fn connect(house: &House) -> Client {
    Client::connect(house.addr.clone(), Terms::Strict).await.unwrap()
}

/// A header of some kind, and whether it tells of an address.
fn header(rng: &mut fastrand::Rng) -> (Vec<u8>, bool) {
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let kind = rng.u8(..5);
    match kind {
        0 => v2 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\r\n".to_vec(),
        1 => v2 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 443\r\n".to_vec(),
        2 => v2 = b"PROXY UNKNOWN\r\n".to_vec(),
        3 => v2.extend([0x20, 0, 0, 0]),
        _ => {
            // With one TLV, which may be longer than a receive buffer.
            let tlv = rng.u16(..4000);
            v2.extend([0x21, 0x11]);
            v2.extend((12 + 3 + tlv).to_be_bytes());
            v2.extend([192, 0, 2, 7, 198, 51, 100, 1, 16, 225, 1, 187, 4]);
            v2.extend(tlv.to_be_bytes());
            v2.extend(vec![b'x'; tlv.into()]);
        }
    }
    (v2, matches!(kind, 0 | 1 | 4))
}

#[test]
fn a_header_in_any_pieces_is_followed_by_ordinary_service() {
    run_seeds("a_header_in_any_pieces_is_followed_by_ordinary_service", 300, |seed| {
        simulate(seed, network(seed), introducing(), secs(30), move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut clients = Vec::new();
            let count = rng.usize(1..6);
            for _ in 0..count {
                let mut client = connect(&house).await;
                let mut rng = fastrand::Rng::with_seed(rng.u64(..));
                clients.push(spawn("client", async move {
                    let asks: Vec<Ask> = (0..3).map(|n| Ask::size(n, 100)).collect();
                    // The first request in the same packet as the end of the header, or not.
                    let (mut bytes, tells) = header(&mut rng);
                    let together = rng.bool();
                    if together {
                        bytes.extend(asks[0].bytes());
                        client.want(asks[0].want.clone());
                    }
                    client.scatter(&mut rng, &bytes);
                    for ask in &asks[usize::from(together)..] {
                        client.ask(ask);
                    }
                    client.until_answered(3).await;
                    assert_eq!(client.answered, 3);
                    usize::from(tells)
                }));
            }
            let mut telling = 0;
            for client in clients {
                telling += client.await.expect("a client");
            }
            assert_eq!(house.app().told.get(), 3 * telling);
            let app = house.app();
            assert_eq!(
                (app.opened.get(), app.unintroduced.get(), app.calls.get()),
                (count, 0, 3 * count)
            );
        });
    });
}

#[test]
fn without_a_header_it_ends_without_an_answer() {
    run_seeds("without_a_header_it_ends_without_an_answer", 100, |seed| {
        simulate(seed, network(seed), introducing(), secs(30), move |house| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            // Says nothing, or not all of it.
            for begin in [&b""[..], b"PROXY TCP4 192.0.2.7", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"] {
                let mut client = connect(&house).await;
                client.push(millis(0), begin.to_vec());
                let took = client.until_ended().await;
                assert!(took >= secs(5) && took < secs(6), "{took:?}");
            }
            assert_eq!(house.app().unintroduced.get(), 3);
            // Says something else: at once.
            for (count, other) in [
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "PROXY TCP4 x\r\n",
                "\r\n\r\n\0\r\nQUIT\n\x31",
            ]
            .into_iter()
            .enumerate()
            {
                // What it sends on meets a closed socket.
                let mut client = Client::connect(house.addr.clone(), Terms::Lossy).await.unwrap();
                client.scatter(&mut rng, other.as_bytes());
                let took = client.until_ended().await;
                assert!(took < secs(3), "{took:?}");
                assert_eq!((client.answered, house.app().unintroduced.get()), (0, count + 4));
            }
            // Goes without a word, as a probe does: nobody's fault.
            let mut client = connect(&house).await;
            client.half_close();
            client.until_ended().await;
            assert_eq!(client.ended, Some(Ended::Cleanly));
            assert_eq!((house.app().unintroduced.get(), house.app().calls.get()), (6, 0));
        });
    });
}

#[test]
fn a_silent_one_does_not_hold_up_the_end() {
    run_seeds("a_silent_one_does_not_hold_up_the_end", 40, |seed| {
        simulate(seed, network(seed), introducing(), secs(30), move |house| async move {
            let mut silent = connect(&house).await;
            let mut begun = Client::connect(house.addr.clone(), Terms::Draining).await.unwrap();
            begun.push(millis(0), b"PROXY UNK".to_vec());
            begun.flushed().await;
            while house.server.open() < 2 {
                sleep(millis(1)).await;
            }
            sleep(millis(200)).await;
            let from = context::now_ns();
            house.stop();
            assert!(silent.until_ended().await < secs(1));
            // What has begun is finished.
            let mut ask = Ask::size(1, 10);
            ask.want.close = true;
            begun.want(ask.want.clone());
            begun.push(millis(0), [b"NOWN\r\n", &ask.bytes()[..]].concat());
            begun.until_ended().await;
            assert_eq!(begun.ended, Some(Ended::Cleanly));
            // Between the header and the request it is idle, and a rough network parts them.
            assert!(begun.answered == 1 || !seed.is_multiple_of(2));
            assert_eq!(house.stopped().await, 0);
            assert!(context::now_ns() - from < 5_000_000_000);
            assert_eq!(house.app().unintroduced.get(), 0);
        });
    });
}
