//! Connections that come in bursts, where few places are free: they are let in fast, and never more than there are places.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::Connection;
use common::{Setup, kernel_is_at_least, on_each_driver, until};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

fn setup(driver: &str, places: usize) -> Option<Setup> {
    if !cfg!(debug_assertions) {
        println!("not in a release build: it cannot be asked for faults");
        return None;
    }
    let setup = Setup::new()
        .driver(driver)
        .env("FAULTS", "1")
        .env("WORKERS", "1")
        .env("CONNECTIONS_MAX", &places.to_string())
        .env("CONNECTIONS_PER_ADDRESS", "0");
    Some(setup)
}

/// Holds the worker for so long.
fn block(connection: &mut Connection, ms: u64) {
    connection.send(format!(
        "GET /api/v1/styles HTTP/1.1\r\nHost: t\r\nX-Fault: block={ms}\r\n\r\n"
    ));
}

/// Connections that the server has accepted: those in the kernel's queue have no inode yet.
fn accepted(ports: &[u16]) -> usize {
    // A socket of both families has all its connections in the second.
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    let is_one = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let local = words.get(1).and_then(|addr| addr.split_once(':'));
        let port = local.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let (state, inode) = (words.get(3), words.get(9));
        port.is_some_and(|port| ports.contains(&port)) && state == Some(&"01") && inode != Some(&"0")
    };
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter(is_one)
        .count()
}

/// Says so however it ends: threads of a scope are waited for, also where it panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each turn of the worker is held up, as a busy one's is: two hundred that come at once do not need two hundred of them.
#[test]
fn a_burst_is_let_in_within_few_turns_where_places_are_few() {
    on_each_driver(|driver| {
        let Some(setup) = setup(driver, 300) else { return };
        if driver == "uring" && !kernel_is_at_least(6, 10) {
            return println!("io_uring accepts one a turn here");
        }
        let server = setup.start();
        let (ends, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
        let hold = || {
            let mut connection = server.connect();
            while !ends.load(Ordering::Relaxed) {
                block(&mut connection, 40);
                connection.read();
                turns.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let over = Over(&ends);
            // While one is answered, another waits: no turn is short.
            for _ in 0..3 {
                scope.spawn(hold);
            }
            until("turns to be held up", || turns.load(Ordering::Relaxed) >= 6);
            let before = turns.load(Ordering::Relaxed);
            let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
            let port = [server.addr().port()];
            until("all to be let in", || accepted(&port) >= 203);
            let after = turns.load(Ordering::Relaxed);
            for client in &mut clients {
                client.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
            }
            for client in &mut clients {
                client.read().expect(200);
            }
            drop(over);
            println!("{driver}: 200 connections in {} turns", after - before);
            assert!(after - before < 100, "{driver}: {} turns", after - before);
        });
    });
}

/// On several ports at once, whatever becomes of those that are served.
#[test]
fn all_ports_together_accept_no_more_than_there_are_places() {
    on_each_driver(|driver| {
        let Some(setup) = setup(driver, 21) else { return };
        let server = setup.env("BIND", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0").start();
        let ports: Vec<u16> = server
            .log
            .lines()
            .iter()
            .filter(|line| line.contains(r#""message":"listening""#))
            .filter_map(|line| line.split_once("127.0.0.1:")?.1.split_once('"')?.0.parse().ok())
            .collect();
        assert_eq!(ports.len(), 3, "{}", server.all_said());
        let connect = |at: usize| TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], ports[at % 3]))).unwrap();
        let mut holder = server.connect();
        block(&mut holder, 300);
        // All are there when it looks at its ports.
        let mut clients: Vec<TcpStream> = (0..90).map(connect).collect();
        holder.read().expect(200);
        let full = |clients: usize| (clients + 1).min(21);
        for (round, gone) in [0, 1, 2, 5, 11, 20].into_iter().enumerate() {
            // Those who came first are served, and go.
            clients.drain(..gone);
            until("all places to be taken", || accepted(&ports) >= full(clients.len()));
            // What is closed in a turn may be so a moment later than what is accepted in its place.
            for _ in 0..4 {
                sleep(Duration::from_millis(20));
                let mut counts = std::iter::from_fn(|| {
                    sleep(Duration::from_millis(5));
                    Some(accepted(&ports))
                });
                assert!(
                    counts.by_ref().take(3).any(|count| count <= 21),
                    "{driver}, round {round}: more than there are places"
                );
            }
        }
        drop(clients);
        for port in ports {
            Connection::open(SocketAddr::from(([127, 0, 0, 1], port)))
                .get("/health")
                .expect(200);
        }
    });
}
