//! HTTP/2 over the simulated network, one promise at a time.

use super::app::pattern;
use super::http2::ask;
use super::http2_raw::{PREFACE, Raw, fields, frame, get};
use super::{millis, secs, settings, simulate};
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::net::Stream;
use crate::runtime::time::{sleep, timeout};
use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use http::{Method, Request};
use std::time::Duration;

pub(super) fn since(from_ns: u64) -> Duration {
    Duration::from_nanos(context::now_ns() - from_ns)
}

#[track_caller]
pub(super) fn assert_took(took: Duration, limit: Duration) {
    assert!(took >= limit && took < limit + secs(2), "{took:?}, not {limit:?}");
}

pub(super) fn network(seed: u64) -> SimConfig {
    if seed.is_multiple_of(2) {
        SimConfig::calm()
    } else {
        SimConfig::rough()
    }
}

#[test]
fn the_preface_may_be_split_anywhere() {
    let sent = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, &get("/size/1/10"))].concat();
    for split in 1..sent.len() {
        let sent = sent.clone();
        simulate(
            split as u64,
            SimConfig::calm(),
            settings(),
            secs(30),
            move |house| async move {
                let mut client = Raw::connect(&house).await;
                let (first, second) = sent.split_at(split);
                client.send(&[first]).await;
                sleep(millis(50)).await;
                client.send(&[second]).await;
                let (_, _, _, body) = client.find(0).await.expect("an answer");
                assert_eq!(body, pattern(1, 10));
            },
        );
    }
    // One byte at a time.
    simulate(1, SimConfig::calm(), settings(), secs(30), move |house| async move {
        let mut client = Raw::connect(&house).await;
        for byte in sent {
            client.send(&[&[byte]]).await;
        }
        assert_eq!(client.find(0).await.expect("an answer").3, pattern(1, 10));
    });
}

#[test]
fn what_only_begins_as_the_preface_is_refused() {
    for split in 4..PREFACE.len() {
        simulate(
            split as u64,
            SimConfig::calm(),
            settings(),
            secs(30),
            move |house| async move {
                let mut client = Raw::connect(&house).await;
                client.send(&[&PREFACE[..split]]).await;
                sleep(millis(50)).await;
                client.send(&[b"!"]).await;
                assert!(client.next().await.is_none());
                assert!(
                    client.got.starts_with(b"HTTP/1.1 505 "),
                    "{}",
                    client.got.escape_ascii()
                );
            },
        );
        // And one that stops there has the time of a head.
        simulate(
            split as u64,
            SimConfig::calm(),
            settings(),
            secs(30),
            move |house| async move {
                let mut client = Raw::connect(&house).await;
                client.send(&[&PREFACE[..split]]).await;
                let from = context::now_ns();
                assert!(client.next().await.is_none());
                assert!(
                    client.got.starts_with(b"HTTP/1.1 408 "),
                    "{}",
                    client.got.escape_ascii()
                );
                assert_took(since(from), settings().head_timeout);
            },
        );
    }
}

#[test]
fn what_is_begun_and_not_ended_has_its_time() {
    let settings_frame = frame(4, 0, 0, &[]);
    let head = frame(1, 5, 1, &get("/size/1/10"));
    let open_block = frame(1, 1, 1, &get("/size/1/10"));
    let data = frame(0, 0, 1, &[0; 500]);
    let post = frame(
        1,
        4,
        1,
        &fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "test"),
            (":path", "/echo/1"),
        ]),
    );
    let limits = settings();
    let cases = [
        (PREFACE.to_vec(), limits.head_timeout),
        ([PREFACE, &settings_frame[..4]].concat(), limits.head_timeout),
        ([PREFACE, &settings_frame, &head[..5]].concat(), limits.head_timeout),
        ([PREFACE, &settings_frame, &head[..15]].concat(), limits.head_timeout),
        ([PREFACE, &settings_frame, &open_block].concat(), limits.head_timeout),
        (
            [PREFACE, &settings_frame, &post, &data[..20]].concat(),
            limits.body_timeout,
        ),
        ([PREFACE, &settings_frame].concat(), limits.keep_alive),
        ([PREFACE, &settings_frame, &head].concat(), limits.keep_alive),
    ];
    for (at, (sent, limit)) in cases.into_iter().enumerate() {
        for seed in 0..6 {
            let sent = sent.clone();
            simulate(seed, network(seed), settings(), secs(30), move |house| async move {
                let mut client = Raw::connect(&house).await;
                client.send(&[&sent]).await;
                let from = context::now_ns();
                assert_eq!(client.farewell().await, Some(0), "case {at}");
                // A client that does not answer the first GOAWAY has a second more.
                assert_took(since(from), limit);
            });
        }
    }
}

#[test]
fn a_body_that_stops_is_answered_408_and_the_others_go_on() {
    run_seeds("a_body_that_stops_is_answered_408", 20, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let stream = Stream::connect(house.addr.clone()).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            spawn("h2 client", async move {
                let _ = connection.await;
            });
            let from = context::now_ns();
            let mut ready = send.clone().ready().await.unwrap();
            let request = Request::post("http://test/echo/1").body(()).unwrap();
            let (response, mut upload) = ready.send_request(request, false).unwrap();
            upload.send_data(Bytes::from_static(b"begun"), false).unwrap();
            let whole = ask(&send, Method::GET, "/size/2/100", b"", Duration::ZERO)
                .await
                .unwrap();
            assert_eq!(whole.body, pattern(2, 100));
            assert_eq!(response.await.unwrap().status(), 408);
            assert_took(since(from), settings().body_timeout);
            let whole = ask(&send, Method::GET, "/size/3/100", b"", Duration::ZERO)
                .await
                .unwrap();
            assert_eq!(whole.body, pattern(3, 100));
        });
    });
}

#[test]
fn a_stream_that_is_not_taken_is_reset_and_the_others_go_on() {
    run_seeds("a_stream_that_is_not_taken_is_reset", 20, |seed| {
        simulate(seed, network(seed), settings(), secs(30), move |house| async move {
            let stream = Stream::connect(house.addr.clone()).await.unwrap();
            let mut builder = Builder::new();
            builder.initial_window_size(100);
            let (send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            spawn("h2 client", async move {
                let _ = connection.await;
            });
            let from = context::now_ns();
            let path = if seed % 3 == 0 {
                "/events/0/40/1000"
            } else {
                "/size/1/20000"
            };
            let mut ready = send.clone().ready().await.unwrap();
            let request = Request::get(format!("http://test{path}")).body(()).unwrap();
            let (response, _) = ready.send_request(request, true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let error = loop {
                match body.data().await {
                    // Nothing is released: the window stays shut.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => panic!("all of it, through a window of 100 bytes"),
                }
            };
            assert_eq!(error.reason(), Some(Reason::CANCEL));
            assert_took(since(from), settings().write_timeout);
            let whole = ask(&send, Method::GET, "/size/3/80", b"", Duration::ZERO)
                .await
                .unwrap();
            assert_eq!(whole.body, pattern(3, 80));
        });
    });
}

#[test]
fn a_peer_that_reads_nothing_is_cut_off_in_time_and_holds_no_buffer() {
    run_seeds("a_peer_that_reads_nothing_is_cut_off", 20, |seed| {
        let config = SimConfig {
            socket_buffer_bytes: 3000,
            ..network(seed)
        };
        simulate(seed, config, settings(), secs(30), |house| async move {
            let mut client = Raw::connect(&house).await;
            // Windows as wide as they go.
            let settings_frame = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
            let wide = frame(8, 0, 0, &0x7000_0000u32.to_be_bytes());
            client.send(&[PREFACE, &settings_frame, &wide]).await;
            let from = context::now_ns();
            client.stream.start_send(
                (0..90)
                    .flat_map(|n| frame(1, 5, 2 * n + 1, &get("/size/1/20000")))
                    .collect(),
            );
            sleep(secs(5)).await;
            // It says nothing more, and takes nothing: its bytes are not in the worker's buffers.
            assert_eq!(house.net.as_ref().unwrap().buffers_out(), 0);
            house.until_empty(secs(20)).await;
            // Noticed at the next look.
            let limit = settings().write_timeout;
            assert!(
                since(from) >= limit && since(from) < limit * 5 / 4 + secs(2),
                "{:?}",
                since(from)
            );
        });
    });
}

#[test]
fn a_drain_finishes_what_is_begun_and_closes() {
    run_seeds("a_drain_finishes_what_is_begun", 30, |seed| {
        simulate(seed, network(seed), settings(), secs(30), move |house| async move {
            let stream = Stream::connect(house.addr.clone()).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            let driving = spawn("h2 client", connection);
            let slow = {
                let send = send.clone();
                spawn("slow", async move {
                    ask(&send, Method::GET, "/later/1/3000/500", b"", Duration::ZERO).await
                })
            };
            let idle = Stream::connect(house.addr.clone()).await.unwrap();
            let (idle_send, idle_connection) = h2::client::handshake(idle).await.unwrap();
            let idle = spawn("h2 client", idle_connection);
            let mut rude = Raw::connect(&house).await;
            rude.send(&[PREFACE, &frame(4, 0, 0, &[])]).await;
            sleep(secs(1)).await;
            house.stop();
            let from = context::now_ns();
            assert!(idle.await.expect("the idle one").is_ok());
            assert!(since(from) < secs(1), "{:?}", since(from));
            // One that does not answer to GOAWAY, either.
            assert_eq!(rude.farewell().await, Some(0));
            assert!(since(from) < secs(3), "{:?}", since(from));
            drop(rude);
            assert_eq!(slow.await.expect("slow").unwrap().body, pattern(1, 500));
            assert!(driving.await.expect("the busy one").is_ok());
            assert!(ask(&send, Method::GET, "/size/1/1", b"", Duration::ZERO).await.is_err());
            drop((send, idle_send));
            assert_eq!(house.stopped().await, 0);
        });
    });
}

#[test]
fn a_reset_drops_the_handler() {
    run_seeds("a_reset_drops_the_handler", 20, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let stream = Stream::connect(house.addr.clone()).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            spawn("h2 client", async move {
                let _ = connection.await;
            });
            ask(&send, Method::GET, "/size/3/80", b"", Duration::ZERO)
                .await
                .unwrap();
            sleep(secs(1)).await;
            let before = context::in_flight().1;
            let asking = ask(&send, Method::GET, "/later/1/900000/10", b"", Duration::ZERO);
            assert!(timeout(secs(1), asking).await.is_err());
            sleep(secs(2)).await;
            // Its timer went with it.
            assert!(context::in_flight().1 <= before, "{} timers", context::in_flight().1);
            let whole = ask(&send, Method::GET, "/size/3/80", b"", Duration::ZERO)
                .await
                .unwrap();
            assert_eq!(whole.body, pattern(3, 80));
        });
    });
}

#[test]
fn many_bodies_at_once_take_turns() {
    run_seeds("many_bodies_at_once_take_turns", 10, |seed| {
        simulate(seed, network(seed), settings(), secs(30), |house| async move {
            let stream = Stream::connect(house.addr.clone()).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            spawn("h2 client", async move {
                let _ = connection.await;
            });
            let asks: Vec<_> = (0..60)
                .map(|n| {
                    let send = send.clone();
                    spawn("ask", async move {
                        let body = pattern(n, 20_000);
                        let path = format!("/echo/{n}");
                        let answer = ask(&send, Method::POST, &path, body, Duration::ZERO).await.unwrap();
                        assert_eq!(answer.head.status(), 200, "{}", answer.body.escape_ascii());
                        assert!(answer.body == body, "{} bytes", answer.body.len());
                    })
                })
                .collect();
            for ask in asks {
                ask.await.expect("a body");
            }
        });
    });
}
