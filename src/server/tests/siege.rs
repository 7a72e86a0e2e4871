//! Peers that mean harm, on networks that fail at everything, against a server that may be told to end meanwhile: no
//! panic, no hang, and nothing left of any of them.

use super::client::{Client, Terms};
use super::random::{self, Load, MANNERS, garbage, plan};
use super::wire::{Ask, Scale};
use super::{House, Settings, millis, secs, settings, simulate};
use crate::runtime::driver::Shutdown;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::{JoinHandle, spawn};
use crate::runtime::net::Stream;
use crate::runtime::time::{sleep, timeout};

/// What no client does.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// Stops within a request, at any byte, and says that nothing more comes.
    HalfClosesWithin,
    /// Asks for much, takes the first bytes, and resets the connection.
    ResetsMidAnswer,
    /// A byte at a time, both ways.
    Drips,
    /// Sends request after request and waits for none.
    PipelinesOn,
    /// Connects, and says nothing.
    SaysNothing,
    /// Sends bytes of any kind.
    Babbles,
    /// Opens connection after connection, and leaves them at any moment.
    OpensMany,
    /// Ends its half before it has said anything, and stays.
    EndsAtOnce,
}

const HARMS: [Harm; 8] = [
    Harm::HalfClosesWithin,
    Harm::ResetsMidAnswer,
    Harm::Drips,
    Harm::PipelinesOn,
    Harm::SaysNothing,
    Harm::Babbles,
    Harm::OpensMany,
    Harm::EndsAtOnce,
];

/// Each fault at its own rate: never, now and then, or nearly always.
fn network(rng: &mut fastrand::Rng) -> SimConfig {
    let mut rate = || [0.0, 0.0, 0.02, 0.2, 0.9][rng.usize(..5)];
    let (short_read, short_write, no_buffers, end_multishot) = (rate(), rate(), rate(), rate());
    let (interrupt, cancel_race, spurious_turn, too_many_files) = (rate(), rate(), rate(), rate());
    let socket_buffer_bytes = [1, 7, 300, 5000, 64 * 1024][rng.usize(..5)];
    SimConfig {
        short_read,
        short_write,
        no_buffers,
        end_multishot,
        interrupt,
        cancel_race,
        spurious_turn,
        too_many_files,
        reset: [0.0, 0.005, 0.05][rng.usize(..3)],
        refuse: [0.0, 0.3][rng.usize(..2)],
        connect_timeout: [0.0, 0.1][rng.usize(..2)],
        // A window of a byte takes a step for each byte: they must be short.
        delay_ns_max: if socket_buffer_bytes < 100 {
            20_000
        } else {
            [0, 50_000, 1_000_000][rng.usize(..3)]
        },
        socket_buffer_bytes,
        backlog_max: rng.usize(1..20),
        buffers: [2, 8, 64][rng.usize(..3)],
        buffer_bytes: [16, 512, 4096][rng.usize(..3)],
        ..SimConfig::calm()
    }
}

/// Reads whatever comes until the connection ends; it must look like answers.
async fn until_ended(stream: &mut Stream) {
    let mut first = Vec::new();
    while let Ok(Some(bytes)) = stream.recv().await {
        if first.len() < 9 {
            first.extend_from_slice(&bytes);
        }
    }
    let shown = &first[..first.len().min(9)];
    assert!(b"HTTP/1.1 ".starts_with(shown), "{}", first.escape_ascii());
}

async fn harm(house: House, seed: u64, harm: Harm, load: Load) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    if matches!(harm, Harm::OpensMany) {
        return open_many(house, rng).await;
    }
    if matches!(
        harm,
        Harm::Babbles | Harm::ResetsMidAnswer | Harm::SaysNothing | Harm::EndsAtOnce
    ) {
        let Ok(mut stream) = Stream::connect(house.addr.clone()).await else {
            return;
        };
        match harm {
            Harm::Babbles => {
                let mut bytes: Vec<u8> = plan(rng, 3, false, load.scale).iter().flat_map(Ask::bytes).collect();
                for _ in 0..rng.usize(1..6) {
                    let at = rng.usize(..=bytes.len());
                    let noise: Vec<u8> = (0..rng.usize(..4)).map(|_| rng.u8(..)).collect();
                    bytes.splice(at..(at + rng.usize(..3)).min(bytes.len()), noise);
                }
                // While it sends it does not read: the server may give up on it.
                let sent = timeout(secs(100), stream.send(bytes)).await;
                if matches!(sent, Ok((Ok(()), _))) {
                    let _ = stream.shutdown(Shutdown::Write);
                    until_ended(&mut stream).await;
                }
            }
            Harm::ResetsMidAnswer => {
                let ask = [
                    Ask::size(1, 9000),
                    Ask::get(1, "/events/1/20/300", b""),
                    Ask::later(1, 20, 9000),
                ];
                let asks = ask[rng.usize(..3)].bytes().repeat(rng.usize(1..4));
                if stream.send(asks).await.0.is_ok() {
                    for _ in 0..rng.usize(..4) {
                        let _ = timeout(secs(2), stream.recv()).await;
                    }
                }
                // With bytes unread, closing it is a reset.
            }
            Harm::EndsAtOnce => {
                let _ = stream.shutdown(Shutdown::Write);
                until_ended(&mut stream).await;
            }
            _ => until_ended(&mut stream).await,
        }
        return;
    }
    let Ok(mut client) = Client::connect(house.addr.clone(), load.terms).await else {
        return;
    };
    match harm {
        Harm::HalfClosesWithin => {
            let asks = plan(rng, 2, false, load.scale);
            if client.converse(rng, &asks[..1], 1).await && !asks[1].want.continues {
                let bytes = asks[1].bytes();
                let end = rng.usize(..bytes.len());
                client.scatter(rng, &bytes[..end]);
                client.flushed().await;
            }
            client.half_close();
            client.until_ended().await;
        }
        Harm::Drips => {
            client.slow(millis(1));
            let ask = Ask::size(3, 50);
            client.want(ask.want.clone());
            for byte in ask.bytes() {
                client.push(millis(rng.u64(..3)), vec![byte]);
            }
            client.until_answered(1).await;
        }
        _ => {
            for _ in 0..rng.usize(1..150) {
                client.ask(&Ask::size(rng.u64(..1000), rng.usize(..100)));
            }
            if rng.bool() {
                client.ask(&garbage(rng));
                client.until_ended().await;
            } else {
                client.drive(|client| client.answered > rng.usize(..150)).await;
            }
        }
    }
}

async fn open_many(house: House, rng: &mut fastrand::Rng) {
    let open: Vec<JoinHandle<()>> = (0..rng.usize(1..40))
        .map(|_| {
            let (addr, stays, speaks) = (house.addr.clone(), rng.u64(..200), rng.u8(..3));
            spawn("one of many", async move {
                let Ok(mut stream) = Stream::connect(addr).await else {
                    return;
                };
                if speaks == 0 {
                    let _ = timeout(secs(1), stream.send(Ask::size(1, 100).bytes())).await;
                }
                sleep(millis(stays)).await;
            })
        })
        .collect();
    for one in open {
        one.await.expect("one of many");
    }
}

// Reason: what else an operator may set is as in the other tests.
#[allow(clippy::needless_update)]
fn siege(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5ee9e);
    let config = network(&mut rng);
    let is_tiny = config.socket_buffer_bytes < 100;
    // Long enough for a network that gives a byte at a time.
    let limits = Settings {
        keep_alive: secs(60),
        head_timeout: secs(60),
        body_timeout: secs(120),
        write_timeout: secs(60),
        connections_max: [2, 5, 1000][rng.usize(..3)],
        ..settings()
    };
    let load = Load {
        terms: Terms::Besieged,
        scale: Scale {
            big_bytes: if is_tiny { 300 } else { 12_000 },
            later_ms: 300,
        },
        limits: limits.clone(),
        slack: secs(2),
    };
    let drains = rng.u8(..3) == 0;
    let (drain_ms, graceful) = (rng.u64(..3000), [secs(0), secs(2), secs(300)][rng.usize(..3)]);
    simulate(seed, config, limits, graceful, move |house| async move {
        let mut peers = Vec::new();
        for _ in 0..rng.usize(1..if is_tiny { 4 } else { 9 }) {
            let seed = rng.u64(..);
            let peer = match rng.u8(..3) {
                0 => spawn(
                    "client",
                    random::client(house.clone(), seed, MANNERS[rng.usize(..MANNERS.len())], load.clone()),
                ),
                _ => spawn(
                    "harm",
                    harm(house.clone(), seed, HARMS[rng.usize(..HARMS.len())], load.clone()),
                ),
            };
            peers.push(peer);
            if rng.bool() {
                sleep(millis(rng.u64(0..50))).await;
            }
        }
        if drains {
            sleep(millis(drain_ms)).await;
            house.stop();
            house.stopped().await;
        }
        for peer in peers {
            peer.await.expect("a peer");
        }
        if !drains {
            // Somebody who has long gone may still wait to be accepted.
            house.stop();
            house.stopped().await;
        }
    });
}

#[test]
fn a_siege_leaves_nothing_behind() {
    run_seeds("a_siege_leaves_nothing_behind", 500, siege);
}
