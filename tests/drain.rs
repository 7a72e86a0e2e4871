//! The end of a server under load: nobody who was in time loses an answer.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::crowd::Crowd;
use common::frames::{self, Frames};
use common::http::{Connection, story_request};
use common::{Setup, on_each_driver, until};
use sonic_rs::JsonValueTrait;
use std::time::{Duration, Instant};

fn setup(driver: &str) -> Setup {
    Setup::new()
        .driver(driver)
        .env("WORKERS", "2")
        .env("GRACEFUL_TIMEOUT", "40s")
        .env("CONNECTIONS_PER_ADDRESS", "0")
}

#[test]
fn clients_of_every_kind_lose_nothing_when_the_end_comes() {
    on_each_driver(|driver| {
        // With a delay, as in production, and without: then the end comes in the middle of everything.
        for (round, delay) in [("0s"), ("0s"), ("400ms")].into_iter().enumerate() {
            let mut server = setup(driver).env("DRAIN_DELAY", delay).start();
            server.tell(r#"{"location":"Cusco"}"#).expect(200);
            let crowd = Crowd::start(server.addr());
            crowd.warm(20);
            std::thread::sleep(Duration::from_millis(61 * round as u64));
            server.terminate();
            assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
            crowd.wait(&format!("TERM, {driver}, DRAIN_DELAY={delay}"));
            assert!(!server.all_said().contains("cut off"), "{}", server.all_said());
        }
    });
}

#[test]
fn who_waits_in_the_kernels_queue_is_served() {
    on_each_driver(|driver| {
        let mut server = setup(driver)
            .env("WORKERS", "1")
            .env("CONNECTIONS_MAX", "2")
            .env("DRAIN_DELAY", "0s")
            .start();
        // Both places are taken by requests that lack their end.
        let request = story_request(r#"{"location":"Cusco"}"#);
        let (begin, end) = request.split_at(request.len() - 3);
        let mut within: Vec<Connection> = (0..2).map(|_| server.connect()).collect();
        within.iter_mut().for_each(|connection| connection.send(begin));
        // And these wait, each with its request behind it.
        let mut waiting: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
        for connection in &mut waiting {
            connection.send("GET /api/v1/styles HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        std::thread::sleep(Duration::from_millis(200));
        server.terminate();
        until("draining to begin", || server.all_said().contains("draining"));
        std::thread::sleep(Duration::from_millis(600));
        assert!(server.try_wait().is_none(), "it ended with requests in flight");
        for connection in &mut within {
            connection.send(end);
            assert!(connection.read().expect(200).closes());
        }
        for connection in &mut waiting {
            assert!(connection.read().expect(200).closes());
            assert!(connection.is_closed());
        }
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

/// Requests that do not end hold all places until the end: who waits for one is served all the same.
#[test]
fn who_waits_in_the_kernels_queue_is_served_though_no_place_becomes_free() {
    on_each_driver(|driver| {
        let mut server = setup(driver)
            .env("WORKERS", "1")
            .env("CONNECTIONS_MAX", "2")
            .env("DRAIN_DELAY", "0s")
            .env("GRACEFUL_TIMEOUT", "3s")
            .start();
        let request = story_request(r#"{"location":"Cusco"}"#);
        let (begin, end) = request.split_at(request.len() - 3);
        let mut within: Vec<Connection> = (0..2).map(|_| server.connect()).collect();
        within.iter_mut().for_each(|connection| connection.send(begin));
        let mut waiting: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
        for connection in &mut waiting {
            connection.send("GET /api/v1/styles HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        std::thread::sleep(Duration::from_millis(200));
        server.terminate();
        for connection in &mut waiting {
            assert!(connection.read().expect(200).closes());
            assert!(connection.is_closed());
        }
        assert!(server.try_wait().is_none(), "it ended with requests in flight");
        for connection in &mut within {
            connection.send(end);
            assert!(connection.read().expect(200).closes());
        }
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

#[test]
fn a_batch_that_has_come_is_answered_whole_and_its_last_answer_says_close() {
    on_each_driver(|driver| {
        let mut server = setup(driver).env("DRAIN_DELAY", "0s").start();
        let mut held = server.connect();
        let request = story_request(r#"{"location":"Cusco"}"#);
        held.send(&request[..request.len() - 1]);
        let mut batch = server.connect();
        batch.get("/health").expect(200);
        // Half of a request before the end begins: the connection is not idle.
        let one = format!(
            "GET /api/v1/styles HTTP/1.1\r\nHost: test\r\nX-Padding: {}\r\n\r\n",
            "x".repeat(900)
        );
        let all = one.repeat(12);
        batch.send(&all[..500]);
        std::thread::sleep(Duration::from_millis(100));
        server.terminate();
        until("draining to begin", || server.all_said().contains("draining"));
        std::thread::sleep(Duration::from_millis(500));
        batch.send(&all[500..]);
        for at in 0..12 {
            let answer = batch
                .try_read(false)
                .unwrap_or_else(|why| panic!("request {at}: {why}"));
            assert_eq!((answer.status, answer.closes()), (200, at == 11), "request {at}");
        }
        assert!(batch.is_closed());
        held.send(&request[request.len() - 1..]);
        held.read().expect(200);
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

#[test]
fn http2_is_told_in_two_steps_and_streams_in_between_are_served() {
    on_each_driver(|driver| {
        let mut server = setup(driver).env("DRAIN_DELAY", "0s").start();
        let mut client = Frames::open(server.addr());
        let get = |id: u32| {
            let flags = frames::END_STREAM | frames::END_HEADERS;
            frames::frame(
                frames::HEADERS,
                flags,
                id,
                frames::request("GET", "/api/v1/styles", &[]),
            )
        };
        client.send(&[&frames::frame(frames::SETTINGS, frames::ACK, 0, []), &get(1)]);
        client.answer(1);
        server.terminate();
        // Idle, it hears at once, and not with the end of idle connections.
        let first = client.find(frames::GOAWAY).expect("a first GOAWAY");
        assert_eq!((&first.payload[..4], first.code()), (&[0x7f, 0xff, 0xff, 0xff][..], 0));
        let ping = client.find(frames::PING).expect("a PING behind it");
        // Sent before the client has seen it, for all that the server knows.
        client.send(&[&get(3), &frames::frame(frames::PING, frames::ACK, 0, &ping.payload)]);
        let mut last = None;
        let mut answered = false;
        while let Some(frame) = client.next() {
            match frame.kind {
                frames::GOAWAY => last = Some(frame.payload[..4].to_vec()),
                frames::DATA | frames::HEADERS if frame.flags & frames::END_STREAM != 0 => {
                    assert_eq!(frame.stream, 3);
                    answered = true;
                }
                _ => {}
            }
        }
        assert!(answered, "a stream within the last one's number was not answered");
        assert_eq!(
            last.as_deref(),
            Some(&[0, 0, 0, 3][..]),
            "the last GOAWAY names the last stream"
        );
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

/// Only a debug build can be asked for a stream without an end.
fn faults(driver: &str) -> Option<Setup> {
    if !cfg!(debug_assertions) {
        println!("not in a release build: it cannot be asked for faults");
        return None;
    }
    Some(setup(driver).env("FAULTS", "1"))
}

#[test]
fn a_stream_without_an_end_is_ended_with_a_hint_before_the_time_is_over() {
    on_each_driver(|driver| {
        let Some(setup) = faults(driver) else { return };
        let mut server = setup.env("DRAIN_DELAY", "0s").env("GRACEFUL_TIMEOUT", "6s").start();
        let mut plain = server.connect();
        plain.send("GET /health HTTP/1.1\r\nHost: test\r\nX-Fault: events=20\r\n\r\n");
        // One that waits for its next event when the time comes.
        let mut silent = server.connect();
        silent.send("GET /health HTTP/1.1\r\nHost: test\r\nX-Fault: events=900000\r\n\r\n");
        let mut streams = Frames::open(server.addr());
        let head = frames::request("GET", "/health", &[("x-fault", "events=20")]);
        let flags = frames::END_STREAM | frames::END_HEADERS;
        streams.send(&[
            &frames::frame(frames::SETTINGS, frames::ACK, 0, []),
            &frames::frame(frames::HEADERS, flags, 1, head),
        ]);
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        server.terminate();
        let (_, body) = streams.answer(1);
        let said = [
            String::from_utf8(body).unwrap(),
            plain.read().expect(200).text(),
            silent.read().expect(200).text(),
        ];
        // They have what they came for.
        drop((streams, plain, silent));
        for text in &said {
            let end = text.rfind("retry: ").unwrap_or_else(|| panic!("no hint: {text}"));
            assert!(
                text[end..].starts_with("retry: 2000\nevent: shutdown\ndata: {"),
                "{text}"
            );
            assert!(text.ends_with("\n\n"), "{text}");
        }
        assert!(said[0].contains("on and on") && said[1].contains("on and on") && !said[2].contains("on and on"));
        assert!(
            begun.elapsed() >= Duration::from_millis(4400),
            "they had three quarters of the time"
        );
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
        assert!(!server.all_said().contains("cut off"), "{}", server.all_said());
    });
}

#[test]
fn late_in_the_delay_answers_say_close_and_everything_is_served_all_the_while() {
    on_each_driver(|driver| {
        let mut server = setup(driver).env("DRAIN_DELAY", "5s").start();
        let mut client = server.connect();
        client.get("/health").expect(200);
        server.terminate();
        until("readiness to say so", || server.get("/health/v2/ready").status == 503);
        server.get("/health/v2/live").expect(200);
        let begun = Instant::now();
        let mut stayed = 0;
        while !client.get("/api/v1/styles").expect(200).closes() {
            stayed += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(stayed > 0, "told at once: there is nowhere to go yet");
        assert!(client.is_closed());
        if begun.elapsed() < Duration::from_secs(4) {
            // Connections are still taken, and served.
            server.get("/api/v1/styles").expect(200);
            assert!(server.is_listening());
        }
        assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
    });
}

#[test]
fn what_does_not_fit_into_the_pods_grace_is_said_at_start() {
    let server = Setup::new().env("TERMINATION_GRACE", "30").start();
    let line = server.log.find(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("TERMINATION_GRACE"))
    });
    let line = line.unwrap_or_else(|| panic!("{}", server.all_said()));
    assert_eq!(line["level"].as_str(), Some("WARN"));
    assert!(line["message"].as_str().unwrap().contains("may take 38s"), "{line}");
    let checked = Setup::new()
        .env("TERMINATION_GRACE", "30")
        .run(&["check"])
        .expect(0)
        .out();
    assert!(
        checked.contains("warning: TERMINATION_GRACE is 30s, but the end may take 38s"),
        "{checked}"
    );
    let refused = Setup::new()
        .env("TERMINATION_GRACE", "5")
        .env("DRAIN_DELAY", "6")
        .run(&["serve"])
        .expect(78)
        .err();
    assert!(refused.contains("before it begins to drain"), "{refused}");
}

#[test]
fn through_a_unix_socket_the_end_needs_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let token = "a-token-of-good-length";
    let mut server = Setup::new()
        .env("BIND", &format!("unix:{}", path.display()))
        .env("ADMIN_TOKEN", token)
        .start();
    let ask = |fields: &[&str]| {
        let mut args = vec![
            "-X",
            "POST",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--unix-socket",
            path.to_str().unwrap(),
        ];
        args.extend(fields.iter().flat_map(|field| ["-H", field]));
        args.push("http://localhost/health/v2/shutdown/graceful");
        String::from_utf8(common::tools::curl(&args)).unwrap()
    };
    // Whoever may write to the file: a proxy, as a rule, with anybody behind it.
    assert_eq!(ask(&[]), "403");
    assert_eq!(ask(&["Authorization: Bearer a-token-of-good-lengtX"]), "403");
    assert!(server.try_wait().is_none());
    assert_eq!(ask(&[&format!("Authorization: Bearer {token}")]), "202");
    assert_eq!(server.wait().code(), Some(0), "{}", server.all_said());
}

#[test]
fn who_waits_with_a_request_is_answered_however_short_the_time_is() {
    on_each_driver(|driver| {
        for graceful in ["0s", "150ms"] {
            let mut server = setup(driver)
                .env("WORKERS", "1")
                .env("CONNECTIONS_MAX", "2")
                .env("GRACEFUL_TIMEOUT", graceful)
                .env("DRAIN_DELAY", "0s")
                .start();
            let mut within: Vec<Connection> = (0..2).map(|_| server.connect()).collect();
            for connection in &mut within {
                connection.get("/health").expect(200);
                connection.send("POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nabc");
            }
            let mut waiting: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
            for connection in &mut waiting {
                connection.send("GET /api/v1/styles HTTP/1.1\r\nHost: test\r\n\r\n");
            }
            server.terminate();
            for mut connection in waiting {
                assert!(connection.read().expect(200).closes(), "{driver}, {graceful}");
            }
            server.wait();
        }
    });
}
