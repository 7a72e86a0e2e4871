//! What streams, and connections with streams, have of a worker at most: bytes that wait to be sent, places, and time to read.

use super::app::pattern;
use super::http2::ask;
use super::http2_directed::{network, since};
use super::http2_raw::{PREFACE, Raw, frame, get};
use super::{House, millis, secs, settings, simulate};
use crate::limits::connection::PENDING_FREE_BYTES;
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::net::Stream;
use crate::runtime::time::sleep;
use crate::server::Settings;
use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, SendRequest};
use http::{Method, Request};
use std::time::Duration;

/// A client with these many bytes of window for each stream.
async fn client(house: &House, window: u32) -> SendRequest<Bytes> {
    let stream = Stream::connect(house.addr.clone()).await.unwrap();
    let mut builder = Builder::new();
    builder.initial_window_size(window);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    spawn("h2 client", async move {
        let _ = connection.await;
    });
    send
}

#[test]
fn bodies_of_streams_are_of_the_same_budget() {
    run_seeds("bodies_of_streams_are_of_the_same_budget", 20, |seed| {
        let limits = Settings {
            pending_bytes_max: 40_000,
            ..settings()
        };
        simulate(seed, network(seed), limits, secs(30), move |house| async move {
            let send = client(&house, 65_535).await;
            let mut slow = Vec::new();
            for _ in 0..2 {
                let mut ready = send.clone().ready().await.unwrap();
                let request = Request::post("http://test/echo/1").body(()).unwrap();
                let (response, mut upload) = ready.send_request(request, false).unwrap();
                upload.send_data(Bytes::from_static(&[b'y'; 19_000]), false).unwrap();
                slow.push((response, upload));
            }
            while house.server.pending_bytes() < 2 * 19_000 - PENDING_FREE_BYTES {
                sleep(millis(10)).await;
            }
            // On this connection or on another; with a length or without.
            let other = if seed % 2 == 0 {
                send
            } else {
                client(&house, 65_535).await
            };
            let answer = ask(&other, Method::POST, "/echo/2", &[b'x'; 16_000], Duration::ZERO).await;
            assert_eq!(answer.unwrap().head.status(), 503);
            // Who sends little is served all the same, if his connection does not hold much already.
            if seed % 2 == 1 {
                let little = vec![b'x'; PENDING_FREE_BYTES / 2];
                let answer = ask(&other, Method::POST, "/echo/2", &little, Duration::ZERO)
                    .await
                    .unwrap();
                assert_eq!((answer.head.status().as_u16(), answer.body), (200, little));
            }
            for (at, (response, mut upload)) in slow.into_iter().enumerate() {
                if at == 0 {
                    upload.send_data(Bytes::from_static(b"z"), true).unwrap();
                    assert_eq!(response.await.unwrap().status(), 200);
                } else {
                    upload.send_reset(Reason::CANCEL);
                }
            }
            while house.server.pending_bytes() > 0 {
                sleep(millis(10)).await;
            }
        });
    });
}

#[test]
fn a_connection_has_so_many_streams_and_is_told_of_the_end() {
    run_seeds("a_connection_has_so_many_streams", 20, |seed| {
        let limits = Settings {
            requests_per_connection: 3,
            ..settings()
        };
        simulate(seed, network(seed), limits, secs(30), move |house| async move {
            let send = client(&house, 65_535).await;
            let from = context::now_ns();
            for n in 0..3 {
                let answer = ask(&send, Method::GET, &format!("/size/{n}/100"), b"", Duration::ZERO).await;
                assert_eq!(answer.unwrap().body, pattern(n, 100));
            }
            house.until_empty(secs(5)).await;
            assert!(since(from) < settings().keep_alive);
            assert!(send.ready().await.is_err(), "the connection has ended");
        });
    });
}

#[test]
fn silent_connections_make_room_in_a_crowd() {
    run_seeds("silent_connections_make_room_in_a_crowd", 10, |seed| {
        let limits = Settings {
            connections_max: 16,
            ..settings()
        };
        simulate(seed, network(seed), limits.clone(), secs(30), move |house| async move {
            let from = context::now_ns();
            let mut crowd = Vec::new();
            for _ in 0..16 {
                crowd.push(client(&house, 65_535).await);
            }
            let new = client(&house, 65_535).await;
            let answer = ask(&new, Method::GET, "/size/1/10", b"", Duration::ZERO).await;
            assert_eq!(answer.unwrap().body, pattern(1, 10));
            assert!(since(from) < limits.head_timeout + secs(4), "{:?}", since(from));
        });
    });
}

#[test]
fn a_slow_reader_of_a_stream_is_served_however_long_it_takes() {
    run_seeds("a_slow_reader_of_a_stream_is_served", 12, |seed| {
        // Slow in giving back windows, or in reading at all, the windows being wide.
        let (window, buffer) = if seed % 2 == 0 { (4000, 65_536) } else { (1 << 20, 2000) };
        let config = SimConfig {
            socket_buffer_bytes: buffer,
            delay_ns_max: 0,
            ..SimConfig::calm()
        };
        simulate(seed, config, settings(), secs(30), move |house| async move {
            let from = context::now_ns();
            if seed % 2 == 0 {
                let send = client(&house, window).await;
                let answer = ask(&send, Method::GET, "/size/1/50000", b"", secs(3)).await;
                assert_eq!(answer.unwrap().body, pattern(1, 50_000));
            } else {
                let mut raw = Raw::connect(&house).await;
                let wide = frame(4, 0, 0, &[0, 4, 0, 0x10, 0, 0]);
                let get = frame(1, 5, 1, &get("/size/1/50000"));
                raw.send(&[PREFACE, &wide, &get]).await;
                let mut left = 50_000;
                while left > 0 {
                    let bytes = raw.stream.recv().await.unwrap().expect("cut off");
                    left -= bytes.len().min(left);
                    // Some 1000 B/s at most, and never as long without a byte as it may be.
                    sleep(millis(bytes.len() as u64)).await;
                }
            }
            assert!(
                since(from) > 2 * settings().write_timeout,
                "too quick: {:?}",
                since(from)
            );
        });
    });
}

/// Answers that nobody takes, over several connections: the worker keeps so many bytes of them and no more, and a client
/// that reads is answered all the same.
#[test]
fn answers_that_are_not_taken_are_of_one_budget() {
    run_seeds("answers_that_are_not_taken_are_of_one_budget", 20, |seed| {
        let limits = Settings {
            pending_bytes_max: 150_000,
            ..settings()
        };
        simulate(
            seed,
            SimConfig::calm(),
            limits.clone(),
            secs(30),
            move |house| async move {
                let mut crowd = Vec::new();
                for connection in 0..4 {
                    let mut raw = Raw::connect(&house).await;
                    // A window of 100 bytes a stream.
                    let narrow = frame(4, 0, 0, &[0, 4, 0, 0, 0, 100]);
                    raw.send(&[PREFACE, &narrow]).await;
                    for stream in 0..5 {
                        let path = if (seed + connection) % 2 == 0 {
                            "/size/1/30000"
                        } else {
                            "/later/5/30000"
                        };
                        raw.send(&[&frame(1, 5, 1 + 2 * stream, &get(path))]).await;
                    }
                    crowd.push(raw);
                }
                sleep(secs(1)).await;
                let held = house.server.pending_bytes();
                assert!(
                    (30_000..=limits.pending_bytes_max).contains(&held),
                    "{held} bytes are held"
                );
                let send = client(&house, 65_535).await;
                let answer = ask(&send, Method::GET, "/size/1/3000", b"", secs(3)).await;
                assert_eq!(answer.unwrap().body, pattern(1, 3000));
                drop(crowd);
                sleep(secs(2)).await;
                assert_eq!(house.server.pending_bytes(), 0);
            },
        );
    });
}
