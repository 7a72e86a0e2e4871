//! Floods of HTTP/2 frames against the running server: each ends, others are answered meanwhile, memory stays bounded.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::frames::*;
use common::{Server, Setup, on_each_driver, until};
use std::sync::atomic::{AtomicBool, Ordering};

const CALM: u32 = 11;

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, request("GET", path, &[]))
}

/// Begins a POST.
fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&[("content-type", "application/json")], more].concat();
    frame(
        HEADERS,
        END_HEADERS,
        stream,
        request("POST", "/api/v1/stories/generate", &fields),
    )
}

fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

fn rst(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, 8u32.to_be_bytes())
}

/// Asks on connections of its own while `attack` lasts, and how much the server has grown meanwhile, in KiB.
fn during(server: &Server, attack: impl FnOnce() + Send) -> u64 {
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = rss();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        let attacker = scope.spawn(move || {
            let _over = Over(over);
            attack();
        });
        let mut most = before;
        let mut kept = Frames::open(server.addr());
        let mut next = 1;
        loop {
            let last = over.load(Ordering::Acquire);
            server.get("/health/v2/live").expect(200);
            kept.send(&[&get(next, "/health"), &update(0, 20)]);
            assert_eq!(kept.answer(next).1, br#"{"status":"healthy"}"#);
            next += 2;
            most = most.max(rss());
            if last {
                break;
            }
        }
        attacker.join().unwrap();
        most - before
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// More than any attack may take of a server: a connection may hold 15 MiB, and each attack has one at a time.
const GROWN_KIB_MAX: u64 = 24 * 1024;

#[test]
fn floods_end_and_leave_others_alone() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).env("WORKERS", "1").start();
        // Bytes to be sent again and again, made from the stream's number.
        type Make = fn(u32) -> Vec<u8>;
        let open = |stream| frame(HEADERS, 0, stream, request("GET", "/health", &[]));
        let floods: &[(&str, Vec<u8>, Make)] = &[
            ("rapid reset", vec![], |stream| {
                [get(stream, "/health"), rst(stream)].concat()
            }),
            ("rapid reset of bodies", vec![], |stream| {
                [post(stream, &[]), rst(stream)].concat()
            }),
            // The server is made to reset: what was asked for is malformed, or breaks its stream.
            ("made you reset", vec![], |stream| {
                frame(HEADERS, 5, stream, literals(false, &[(":method", "GET")]))
            }),
            ("made you reset by windows", vec![], |stream| {
                [post(stream, &[]), update(stream, 0x7fff_ffff)].concat()
            }),
            ("made you reset by lengths", vec![], |stream| {
                [post(stream, &[("content-length", "1")]), frame(DATA, 1, stream, b"ab")].concat()
            }),
            ("streams refused", vec![], |stream| post(stream, &[])),
            ("PING", vec![], |_| frame(PING, 0, 0, [0; 8])),
            ("SETTINGS", vec![], |_| frame(SETTINGS, 0, 0, [0, 4, 0, 0, 0, 9])),
            ("PRIORITY", vec![], |stream| frame(PRIORITY, 0, stream, [0, 0, 0, 0, 1])),
            ("WINDOW_UPDATE", vec![], |_| update(0, 1)),
            ("unknown frames", vec![], |_| frame(0xfa, 0, 0, [])),
            ("empty DATA", post(1, &[]), |_| frame(DATA, 0, 1, [])),
            ("CONTINUATION", open(1), |_| frame(CONTINUATION, 0, 1, [])),
            ("CONTINUATION with fields", open(1), |_| {
                frame(CONTINUATION, 0, 1, literals(false, &[("x", "y")]))
            }),
        ];
        for (what, before, make) in floods {
            let grown = during(&server, || {
                let mut client = Frames::open(server.addr());
                client.send(&[before]);
                let mut batch = Vec::new();
                for n in 0..60_000u32 {
                    batch.extend(make(2 * n + 1));
                    if batch.len() > 8192 && !client.send(&[&std::mem::take(&mut batch)]) {
                        break;
                    }
                }
                client.send(&[&batch]);
                // The server may have closed while bytes were on their way: then its last word may be lost.
                let code = client.farewell();
                assert!(matches!(code, None | Some(CALM)), "{what}: {code:?}");
                println!("{driver}, {what}: {code:?}");
            });
            assert!(grown < GROWN_KIB_MAX, "{what}: {grown} KiB more");
        }
        // In one packet, so that the last word arrives: just over the bounds.
        for (what, before, make) in floods {
            let mut client = Frames::open(server.addr());
            client.send(&[before]);
            let number = if matches!(*what, "PING" | "PRIORITY" | "WINDOW_UPDATE" | "unknown frames")
                || what.starts_with("SETTINGS")
            {
                1100
            } else {
                260
            };
            let batch: Vec<u8> = (0..number).flat_map(|n| make(2 * n + 1)).collect();
            client.send(&[&batch]);
            assert_eq!(client.farewell(), Some(CALM), "{what}");
        }
    });
}

#[test]
fn a_bomb_of_references_is_not_unpacked() {
    let server = Setup::new().env("WORKERS", "1").start();
    let grown = during(&server, || {
        for _ in 0..20 {
            let mut client = Frames::open(server.addr());
            // One field of nearly the whole table, and 64,000 times the same again: 250 MB of fields in 64 KB.
            let mut block = request("GET", "/health", &[]);
            block.extend(literals(true, &[("x", &"y".repeat(4000))]));
            client.send(&[&frame(HEADERS, 1, 1, &block)]);
            for _ in 0..4 {
                client.send(&[&frame(CONTINUATION, 0, 1, vec![0xbe; 16_000])]);
            }
            client.send(&[&frame(CONTINUATION, 4, 1, [])]);
            match client.next_of(&[HEADERS, GOAWAY, RST_STREAM]) {
                Some(frame) if frame.kind == HEADERS => assert_eq!(frame.status(), 431),
                Some(frame) => assert_eq!(frame.code(), CALM),
                None => {}
            }
        }
    });
    assert!(grown < GROWN_KIB_MAX, "{grown} KiB more");
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("WRITE_TIMEOUT", "2")
            .start();
        let mut teller = server.connect();
        for n in 0..60 {
            teller
                .tell(&format!(r#"{{"location":"Cairo","length":"long","variation":{n}}}"#))
                .expect(200);
        }
        let page = teller.get("/api/v1/stories?limit=100").expect(200).body.len();
        assert!(page > 200_000);
        let grown = during(&server, || {
            // A hundred pages on each of eight connections, 160 MB and more; half with no window, half with no reader.
            let mut clients: Vec<Frames> = (0..8)
                .map(|n: u8| {
                    let window = if n.is_multiple_of(2) {
                        [0; 4]
                    } else {
                        [0x7f, 0xff, 0xff, 0xff]
                    };
                    let mut client = Frames::open_with(server.addr(), &[&[0, 4][..], &window].concat());
                    client.send(&[&update(0, 0x7000_0000)]);
                    for stream in 0..100 {
                        client.send(&[&get(2 * stream + 1, "/api/v1/stories?limit=100")]);
                    }
                    client
                })
                .collect();
            for (n, client) in clients.iter_mut().enumerate() {
                if n % 2 == 1 {
                    // Cut off: where nobody listens any more, sending fails.
                    until("the end of a connection that takes nothing", || {
                        !client.send(&[&frame(PING, 0, 0, [0; 8])])
                    });
                } else {
                    // Reset one after the other.
                    // Or at once, where those of all connections together are too much (ENHANCE_YOUR_CALM).
                    let code = client.find(RST_STREAM).unwrap().code();
                    assert!([8, 11].contains(&code), "{code}");
                }
            }
        });
        // Two MiB and 32 pages for each, of 100.
        println!("{driver}: {grown} KiB more, for pages of {} KiB", page / 1024);
        let bound = 8 * (2048 + 33 * page as u64 / 1024) + GROWN_KIB_MAX;
        assert!(grown < bound, "{grown} KiB more, not {bound}");
    });
}
