//! HTTP/2 over the simulated network, one promise at a time.

use super::app::pattern;
use super::http2::ask;
use super::http2_raw::{PREFACE, Raw, fields, frame, get};
use super::{House, millis, secs, settings, simulate};
use crate::limits::connection::PENDING_FREE_BYTES;
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::net::Stream;
use crate::runtime::time::{sleep, timeout};
use crate::server::Settings;
use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, SendRequest};
use http::{Method, Request};
use std::time::Duration;

fn since(from_ns: u64) -> Duration {
    Duration::from_nanos(context::now_ns() - from_ns)
}

#[track_caller]
fn assert_took(took: Duration, limit: Duration) {
    assert!(took >= limit && took < limit + secs(2), "{took:?}, not {limit:?}");
}

fn network(seed: u64) -> SimConfig {
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
