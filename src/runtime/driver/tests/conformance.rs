//! The suite, run against each driver.

use super::BUFFERS_MAX;
use super::{Exchange, Rig, pattern, poll};
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::driver::{Park, Shutdown};
use std::io;
use std::time::Duration;

fn echo(rig: &mut Rig) {
    for bytes in [1, 100, 4096, 4097, rig.big_bytes.min(60_000) / 2] {
        let (listener, addr) = rig.listen();
        let mut exchange = Exchange::begin(rig, &listener, &addr, pattern(bytes, 1));
        rig.until("an echo", |rig| exchange.step(rig).then_some(()));
        exchange.assert_good();
    }
}

fn many_connections_at_once(rig: &mut Rig) {
    let mut all = Vec::new();
    for at in 0..rig.many.min(30) {
        let (listener, addr) = rig.listen();
        all.push(Exchange::begin(
            rig,
            &listener,
            &addr,
            pattern(3000 + 500 * at, at as u64),
        ));
    }
    rig.until("all echoes", |rig| {
        // Counted, not `all`: each has to take its step.
        let done = all.iter_mut().filter_map(|one| one.step(rig).then_some(())).count();
        (done == all.len()).then_some(())
    });
    all.iter().for_each(Exchange::assert_good);
}

fn one_listener_many_clients(rig: &mut Rig) {
    let (listener, addr) = rig.listen();
    let accept = rig.accept(&listener);
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let socket = rig.socket(&addr);
            (rig.connect(&socket, &addr), socket)
        })
        .collect();
    for (connect, _) in &clients {
        rig.until("connect", |rig| rig.poll_connect(*connect)).unwrap();
    }
    for _ in 0..clients.len() {
        let fd = rig.until("accept", |rig| rig.poll_accept(accept)).unwrap();
        drop(rig.handle(fd));
    }
    assert!(rig.poll_accept(accept).is_none(), "more accepted than connected");
}

fn a_stopped_accept_loses_no_connection(rig: &mut Rig) {
    let (listener, addr) = rig.listen();
    let accept = rig.accept(&listener);
    let mut clients = Vec::new();
    let mut accepted = 0;
    for round in 0..5 {
        let connects: Vec<_> = (0..8)
            .map(|_| {
                let socket = rig.socket(&addr);
                let id = rig.connect(&socket, &addr);
                clients.push(socket);
                id
            })
            .collect();
        if round % 2 == 0 {
            rig.turn(Park::Poll);
        }
        // Whatever had been accepted at that moment comes out; the rest waits in the listener for the next accept.
        let taken = rig.until("the accept's end", |rig| {
            poll(|cx| rig.table.poll_stop_accept(rig.driver.as_mut(), accept, cx))
        });
        accepted += taken.len();
        for fd in taken {
            drop(rig.handle(fd));
        }
        // A poll arms it again.
        if let Some(fd) = rig.poll_accept(accept) {
            accepted += 1;
            drop(rig.handle(fd.unwrap()));
        }
        for id in connects {
            rig.until("connect", |rig| rig.poll_connect(id)).unwrap();
        }
    }
    while accepted < clients.len() {
        let fd = rig.until("the rest", |rig| rig.poll_accept(accept)).unwrap();
        drop(rig.handle(fd));
        accepted += 1;
    }
}

/// Whatever was before: an accept that goes on is stopped, and goes on when it may again.
fn one_connection_at_a_time_and_no_more(rig: &mut Rig) {
    let (listener, addr) = rig.listen();
    let accept = rig.accept(&listener);
    assert!(rig.poll_accept(accept).is_none());
    let connect = |rig: &mut Rig, count: usize| {
        let all: Vec<_> = (0..count)
            .map(|_| {
                let socket = rig.socket(&addr);
                (rig.connect(&socket, &addr), socket)
            })
            .collect();
        for (connect, _) in &all {
            rig.until("connect", |rig| rig.poll_connect(*connect)).unwrap();
        }
        all
    };
    for round in 0..3 {
        // Nothing has come yet, so that nothing is accepted before it stops.
        assert!(rig.poll_accept_one(accept).is_none());
        rig.settle(2);
        let clients = connect(rig, 6);
        for at in 0..3 {
            let fd = rig.until("accept", |rig| rig.poll_accept_one(accept)).unwrap();
            drop(rig.handle(fd));
            rig.settle(2);
            let waiting = rig.table.accepted(accept);
            assert_eq!(waiting, 0, "round {round}, {at}: more than was asked for");
        }
        for _ in 0..3 {
            let fd = rig.until("the rest", |rig| rig.poll_accept(accept)).unwrap();
            drop(rig.handle(fd));
        }
        assert!(rig.poll_accept(accept).is_none());
        drop(clients);
    }
}

fn a_big_send_meets_a_slow_reader(rig: &mut Rig) {
    let (client, server) = rig.pair();
    let data = pattern(rig.big_bytes, 2);
    let send = rig.send(&client, data.clone());
    let recv = rig.recv(&server);
    let mut got = Vec::new();
    let mut sent = false;
    rig.until("all of it", |rig| {
        sent = sent || rig.poll_send(send).map(Result::unwrap).is_some();
        if let Some(bytes) = rig.poll_recv(recv) {
            got.extend_from_slice(&bytes.unwrap().unwrap());
        }
        rig.turn(Park::Poll);
        while let Some(bytes) = rig.poll_recv(recv) {
            got.extend_from_slice(&bytes.unwrap().unwrap());
        }
        sent = sent || rig.poll_send(send).map(Result::unwrap).is_some();
        (sent && got.len() >= data.len()).then_some(())
    });
    assert!(got == data, "bytes lost or out of order");
}

fn a_reader_that_does_not_read_stops_the_sender(rig: &mut Rig) {
    let (client, server) = rig.pair();
    let data = pattern(rig.big_bytes, 3);
    let send = rig.send(&client, data.clone());
    let recv = rig.recv(&server);
    rig.settle(30);
    let taken = usize::from(rig.driver.buffers().taken());
    assert!(taken >= usize::from(BUFFERS_MAX), "{taken}");
    // A driver may have more under way when it is told to stop. io_uring fills as many buffers as there are bytes in
    // the socket before it comes back from one wait; the simulation
    // cancels when it likes.
    if rig.driver.name() == "epoll" {
        assert!(
            taken <= usize::from(BUFFERS_MAX) * 2,
            "{taken} buffers for one connection"
        );
    }
    rig.settle(30);
    assert_eq!(usize::from(rig.driver.buffers().taken()), taken, "it has not stopped");
    assert!(rig.poll_send(send).is_none(), "the send cannot be through");
    let mut sent = false;
    let mut got = Vec::new();
    rig.until("all of it", |rig| {
        while let Some(bytes) = rig.poll_recv(recv) {
            got.extend_from_slice(&bytes.unwrap().unwrap());
        }
        sent = sent || rig.poll_send(send).map(Result::unwrap).is_some();
        (sent && got.len() == data.len()).then_some(())
    });
    assert!(got == data, "bytes lost or out of order");
}

/// What a stall is measured by: what the kernel has taken of a send, less what waits there for the peer.
fn a_slow_reader_is_seen_to_read(rig: &mut Rig) {
    let (client, server) = rig.pair();
    let data = pattern(rig.big_bytes, 6);
    let send = rig.send(&client, data.clone());
    let recv = rig.recv(&server);
    rig.settle(30);
    let seen = |rig: &Rig| {
        (
            rig.table.progress(send).0,
            rig.driver.queued_bytes(client.fd()).unwrap(),
        )
    };
    let before = seen(rig);
    rig.settle(10);
    assert_eq!(seen(rig), before, "nobody reads, and something moves");
    assert!(before.0 > 0 && before.0 < data.len(), "{before:?} of {}", data.len());
    assert!(before.1 > 0 && before.1 <= before.0, "{before:?}");
    let mut got = Vec::new();
    let mut sent = false;
    let (mut partly, mut last) = (0, before.0 - before.1);
    rig.until("all of it", |rig| {
        while let Some(bytes) = rig.poll_recv(recv) {
            got.extend_from_slice(&bytes.unwrap().unwrap());
        }
        if !sent {
            let (taken, queued) = seen(rig);
            partly += usize::from(taken > before.0);
            // Not each time: the kernel may have bytes already whose event is not booked yet.
            last = last.max(taken.saturating_sub(queued));
        }
        sent = sent || rig.poll_send(send).map(Result::unwrap).is_some();
        (sent && got.len() == data.len()).then_some(())
    });
    assert!(got == data, "bytes lost or out of order");
    assert!(partly > 1, "the send is never seen half taken");
    assert!(last > before.0 - before.1, "{last} after {before:?}");
    assert_eq!(rig.table.progress(send), (0, 0), "nothing is in flight");
    rig.until("an empty queue", |rig| {
        (rig.driver.queued_bytes(client.fd()).unwrap() == 0).then_some(())
    });
}

fn receives_that_find_no_buffer_lose_nothing(rig: &mut Rig) {
    let mut streams = Vec::new();
    let each = rig.big_bytes.min(80_000) / 2;
    for at in 0..rig.many {
        let (client, server) = rig.pair();
        let data = pattern(each, at as u64);
        let send = rig.send(&client, data.clone());
        let recv = rig.recv(&server);
        streams.push((client, server, send, recv, data));
    }
    rig.settle(40);
    let pool = rig.driver.buffers();
    assert_eq!(pool.taken(), pool.count(), "the test is meant to use them all up");
    // The starved ones first.
    let mut got = vec![Vec::new(); streams.len()];
    let mut sent = vec![false; streams.len()];
    rig.until("starved streams", |rig| {
        for (at, (_, _, send, recv, _)) in streams.iter().enumerate().rev() {
            while let Some(bytes) = rig.poll_recv(*recv) {
                got[at].extend_from_slice(&bytes.unwrap().unwrap());
            }
            sent[at] = sent[at] || rig.poll_send(*send).map(Result::unwrap).is_some();
        }
        let whole = |at: usize| sent[at] && got[at].len() == each;
        (0..streams.len()).all(whole).then_some(())
    });
    for (at, stream) in streams.iter().enumerate() {
        assert!(got[at] == stream.4, "bytes lost or out of order");
    }
}

fn abandoned_at_every_point_nothing_leaks(rig: &mut Rig) {
    let mut turns = 0;
    loop {
        let (listener, addr) = rig.listen();
        let mut exchange = Exchange::begin(
            rig,
            &listener,
            &addr,
            pattern(rig.big_bytes.min(30_000) / 4, turns as u64),
        );
        let mut finished = false;
        for _ in 0..turns {
            finished = exchange.step(rig);
            if finished {
                break;
            }
            rig.turn(Park::For(Duration::from_millis(1)));
        }
        drop((exchange, listener));
        rig.assert_clean();
        if finished {
            return;
        }
        turns += if rig.net.is_some() { 1 + turns / 3 } else { 1 };
        assert!(turns < 5000, "the exchange never ends");
    }
}

fn cancelled_and_started_again_no_byte_is_lost_twice(rig: &mut Rig) {
    // A receive that is abandoned may take bytes with it; one that never had any must leave them to the next.
    let (client, server) = rig.pair();
    for round in 0..20u8 {
        let first = rig.recv(&server);
        if round % 2 == 0 {
            rig.turn(Park::Poll);
        }
        rig.abandon(first);
        rig.until("the old receive's end", |rig| (rig.table.is_empty()).then_some(()));
        let send = rig.send(&client, vec![round; 10]);
        let second = rig.recv(&server);
        let mut got = Vec::new();
        rig.until("ten bytes", |rig| {
            while let Some(bytes) = rig.poll_recv(second) {
                got.extend_from_slice(&bytes.unwrap().unwrap());
            }
            (got.len() == 10).then_some(())
        });
        assert_eq!(got, [round; 10]);
        rig.until("the send", |rig| rig.poll_send(send)).unwrap();
        rig.abandon(second);
        rig.until("the receive's end", |rig| (rig.table.is_empty()).then_some(()));
    }
}

fn nobody_listens(rig: &mut Rig) {
    let (listener, addr) = rig.listen();
    drop(listener);
    rig.turn(Park::Poll);
    rig.turn(Park::Poll);
    let socket = rig.socket(&addr);
    let connect = rig.connect(&socket, &addr);
    let error = rig.until("a refusal", |rig| rig.poll_connect(connect)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
}

fn the_end_of_a_stream_comes_after_its_bytes(rig: &mut Rig) {
    for bytes in [0, 1, 4096, 9000] {
        let (client, server) = rig.pair();
        let recv = rig.recv(&server);
        let mut got = Vec::new();
        if bytes > 0 {
            let send = rig.send(&client, pattern(bytes, 4));
            rig.until("the send", |rig| {
                while let Some(bytes) = rig.poll_recv(recv) {
                    got.extend_from_slice(&bytes.unwrap().unwrap());
                }
                rig.poll_send(send)
            })
            .unwrap();
        }
        drop(client);
        got.extend(rig.read_all(recv).unwrap());
        assert!(got == pattern(bytes, 4));
        // And again, for as long as one asks.
        assert!(matches!(rig.poll_recv(recv), Some(Ok(None))));
    }
}

fn a_peer_that_closes_with_bytes_unread_resets(rig: &mut Rig) {
    let (client, server) = rig.pair();
    let recv = rig.recv(&client);
    let send = rig.send(&client, pattern(1000, 5));
    rig.until("the send", |rig| rig.poll_send(send)).unwrap();
    rig.settle(5);
    drop(server);
    let error = rig.until("a reset", |rig| rig.poll_recv(recv)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    let send = rig.send(&client, pattern(1000, 5));
    let error = rig.until("the next send", |rig| rig.poll_send(send)).unwrap_err();
    assert!(
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
        "{error}"
    );
}

fn a_send_after_shutdown_fails_without_a_signal(rig: &mut Rig) {
    let (client, _server) = rig.pair();
    rig.driver.shutdown(client.fd(), Shutdown::Both).unwrap();
    let send = rig.send(&client, vec![1; 10]);
    let error = rig.until("the send", |rig| rig.poll_send(send)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error}");
}

fn a_wait_ends_with_its_time(rig: &mut Rig) {
    rig.settle(3);
    let before = rig.driver.now_ns();
    while rig.driver.now_ns() - before < 20_000_000 {
        assert_eq!(rig.turn(Park::For(Duration::from_millis(21))), 0);
    }
    assert!(rig.driver.unix_ns() > 1_600_000_000_000_000_000);
}

fn another_thread_ends_the_wait(rig: &mut Rig) {
    for _ in 0..if rig.net.is_some() { 1 } else { 20 } {
        let unparker = rig.driver.unparker();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            unparker.unpark();
        });
        if rig.driver.name() == "sim" {
            // It never sleeps, so nobody could wake it.
            other.join().unwrap();
            rig.turn(Park::Forever);
        } else {
            rig.turn(Park::Forever);
            other.join().unwrap();
        }
        // Called while awake, it ends the next wait.
        rig.driver.unparker().unpark();
        rig.driver.unparker().unpark();
        rig.turn(Park::Forever);
    }
}

macro_rules! conformance {
    ($($name:ident)*) => {
        mod epoll_conforms {
            $(#[test] fn $name() { super::run(super::Rig::epoll(), super::$name); })*
        }
        mod uring_conforms {
            $(#[test] fn $name() { super::run(super::Rig::uring(), super::$name); })*
        }
        mod uring_before_6_10_conforms {
            $(#[test] fn $name() { super::run(super::Rig::uring_without_accept_now(), super::$name); })*
        }
        mod sim_conforms {
            $(#[test] fn $name() {
                super::run_seeds(stringify!($name), 50, |seed| {
                    super::run(Some(super::Rig::sim(seed, super::SimConfig::rough())), super::$name);
                });
            })*
        }
    };
}

fn run(rig: Option<Rig>, test: impl FnOnce(&mut Rig)) {
    if let Some(mut rig) = rig {
        test(&mut rig);
        rig.assert_clean();
    }
}

conformance! {
    echo
    many_connections_at_once
    one_listener_many_clients
    a_stopped_accept_loses_no_connection
    one_connection_at_a_time_and_no_more
    a_big_send_meets_a_slow_reader
    a_reader_that_does_not_read_stops_the_sender
    a_slow_reader_is_seen_to_read
    receives_that_find_no_buffer_lose_nothing
    abandoned_at_every_point_nothing_leaks
    cancelled_and_started_again_no_byte_is_lost_twice
    nobody_listens
    the_end_of_a_stream_comes_after_its_bytes
    a_peer_that_closes_with_bytes_unread_resets
    a_send_after_shutdown_fails_without_a_signal
    a_wait_ends_with_its_time
    another_thread_ends_the_wait
}
