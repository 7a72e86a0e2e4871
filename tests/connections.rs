//! Connections that are slow, half closed, reused or gone. On each driver.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::{Connection, story_request};
use common::tools::run;
use common::{Server, Setup, on_each_driver};
use sonic_rs::JsonValueTrait;
use std::io::Read;
use std::time::Duration;

fn on_each(test: impl Fn(&Server)) {
    on_each_driver(|driver| test(&Setup::new().driver(driver).start()));
}

#[test]
fn a_request_may_come_byte_by_byte_and_the_end_may_be_half() {
    on_each(|server| {
        let plain = server.tell(r#"{"location":"Rome"}"#).expect(200).body;
        let mut stream = server.connect();
        for _ in 0..3 {
            for byte in story_request(r#"{"location":"Rome"}"#).bytes() {
                stream.send([byte]);
            }
            assert_eq!(stream.read().expect(200).body, plain);
        }
        // A client that says "no more" behind its request still gets its answer: told anew, listed, streamed.
        for n in 0..20 {
            let mut half = server.connect();
            half.send(story_request(&format!(
                r#"{{"location":"Oslo","length":"long","variation":{n}}}"#
            )));
            half.half_close();
            half.read().expect(200);
            assert!(half.is_closed());
        }
        let mut half = server.connect();
        half.send("GET /api/v1/stories?limit=100 HTTP/1.1\r\nHost: t\r\n\r\n");
        half.half_close();
        assert!(half.read().expect(200).body.len() > 20 * 3000);
        assert!(half.is_closed());
        let body = r#"{"location":"Oslo","length":"long","style":"comedy"}"#;
        let mut half = server.connect();
        half.send(story_request(body).replace("Host: test", "Host: test\r\nAccept: text/event-stream"));
        half.half_close();
        assert!(half.read().expect(200).text().contains("event: story"));
        assert!(half.is_closed());
        // Many at once, then the half close.
        let mut half = server.connect();
        half.send("GET /docs HTTP/1.1\r\nHost: t\r\n\r\n".repeat(100));
        half.half_close();
        for _ in 0..100 {
            half.read().expect(200);
        }
        assert!(half.is_closed());
    });
}

#[test]
fn a_large_answer_reaches_a_slow_reader_whole() {
    on_each(|server| {
        let mut stream = server.connect();
        for n in 0..60 {
            stream
                .tell(&format!(r#"{{"location":"Cairo","length":"long","variation":{n}}}"#))
                .expect(200);
        }
        let whole = stream.get("/api/v1/stories?limit=100").expect(200).body;
        assert!(whole.len() > 200_000, "{}", whole.len());
        // Twenty of them at once are more than the socket holds; the reader takes a little at a time.
        let mut slow = server.connect();
        slow.send("GET /api/v1/stories?limit=100 HTTP/1.1\r\nHost: t\r\n\r\n".repeat(20));
        slow.half_close();
        std::thread::sleep(Duration::from_millis(500));
        for _ in 0..20 {
            assert!(slow.read().expect(200).body == whole);
        }
        assert!(slow.is_closed());
    });
}

#[test]
fn a_slow_head_gets_408_and_a_slow_body_too() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("HEAD_TIMEOUT", "1s")
            .env("BODY_TIMEOUT", "1s")
            .env("KEEP_ALIVE", "4s")
            .start();
        for part in [
            "G",
            "GET /health HTTP/1.1\r\nHost: t\r\n",
            "POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nabc",
        ] {
            let mut stream = server.connect();
            stream.get("/health").expect(200);
            stream.send(part);
            let late = stream.read().expect(408);
            assert!(late.closes() && stream.is_closed(), "{part:?}");
        }
        // Bytes that trickle do not buy time.
        let mut stream = server.connect();
        let answer = std::thread::scope(|scope| {
            let mut dripping = stream.stream.try_clone().unwrap();
            scope.spawn(move || {
                for byte in "GET /health HTTP/1.1\r\nHost: t\r\nX: "
                    .bytes()
                    .chain(std::iter::repeat_n(b'x', 10_000))
                {
                    if std::io::Write::write_all(&mut dripping, &[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let answer = stream.try_read(false);
            let _ = stream.stream.shutdown(std::net::Shutdown::Both);
            answer
        });
        assert_eq!(answer.unwrap().status, 408);
        // An idle connection is closed without a word, used or not.
        let (mut used, mut unused) = (server.connect(), server.connect());
        used.get("/health").expect(200);
        assert!(used.is_closed() && unused.is_closed());
    });
}

#[test]
fn curl_reuses_its_connection() {
    on_each(|server| {
        let url = server.url("/health");
        let ran = run(
            "curl",
            &[
                "-sS",
                "--max-time",
                "50",
                "-w",
                "%{num_connects} ",
                "-o",
                "/dev/null",
                &url,
                "-o",
                "/dev/null",
                &url,
                "-o",
                "/dev/null",
                &url,
            ],
        );
        assert_eq!(ran.expect(0).out(), "1 0 0 ");
    });
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).env("WORKERS", "1").start();
        let files = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        server.get("/health").expect(200);
        let before = files();
        for n in 0..100 {
            let mut stream: Connection = server.connect();
            match n % 4 {
                0 => {}
                1 => stream.send("GET /hea"),
                2 => stream.send("POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc"),
                // Unread answers make the kernel send a reset.
                _ => {
                    stream.send("GET /docs HTTP/1.1\r\nHost: t\r\n\r\n".repeat(20));
                    let _ = stream.stream.read(&mut [0; 10]);
                }
            }
        }
        common::until("every socket to be closed", || files() <= before + 1);
        common::until("the books to be even", || {
            let worker = server.json("/health/v2/worker");
            (worker["open_connections"].as_u64(), worker["active_requests"].as_u64()) == (Some(1), Some(0))
        });
    });
}

/// Who finds no place waits in the kernel's queue: what has been accepted holds a descriptor, and is lost with its worker.
#[test]
fn no_more_are_accepted_than_there_are_places() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("CONNECTIONS_MAX", "20")
            .env("CONNECTIONS_PER_ADDRESS", "0")
            .start();
        let files = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        let before = files();
        // All places but one.
        let mut held: Vec<_> = (0..19).map(|_| server.connect()).collect();
        for connection in &mut held {
            connection.get("/health").expect(200);
        }
        let waiting: Vec<_> = (0..200)
            .map(|_| std::net::TcpStream::connect(server.addr()).unwrap())
            .collect();
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(50));
            assert!(files() <= before + 24, "{} beside {before}", files() - before);
            // One place more, and more would come at once.
            held.pop();
        }
        drop(waiting);
        server.connect().get("/health").expect(200);
    });
}
