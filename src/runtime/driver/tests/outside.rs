//! Real sockets whose other end is the test's own: what a rig that is both ends cannot do.

use super::{OpId, OpTable, Rig, poll};
use crate::limits::runtime::ACCEPTS_PER_TURN;
use crate::runtime::driver::{Handle, Park, Shutdown};
use rustix::net::SendFlags;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A listener of the rig, and a duplicate of it that the rig does not have.
fn listening(rig: &mut Rig) -> (Handle, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = rig.driver.adopt(listener.try_clone().unwrap().into()).unwrap();
    rig.open.insert(fd);
    (rig.handle(fd), listener)
}

/// IORING_ACCEPT_DONTWAIT is of Linux 6.10.
fn accepts_do_not_wait_here() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.trim().parse::<u32>().ok());
    let is_here = (numbers.next().unwrap(), numbers.next().unwrap_or(0)) >= (6, 10);
    if !is_here {
        println!("before Linux 6.10 io_uring accepts one a turn");
    }
    is_here
}

/// So many that are in a listener's queue.
fn waiting(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (0..count).map(connect).collect()
}

/// Takes who can be taken without another turn, `most` at most.
fn taken_at_once(rig: &mut Rig, accept: OpId, most: usize) -> usize {
    let taken = std::iter::from_fn(|| rig.poll_accept_one(accept)).take(most);
    let taken: Vec<_> = taken.map(Result::unwrap).collect();
    for fd in &taken {
        drop(rig.handle(*fd));
    }
    taken.len()
}

/// A worker with few places gets on in long turns, and takes nobody before it has a place for him.
#[test]
fn of_those_who_wait_many_are_taken_in_one_turn_and_none_unasked() {
    if !accepts_do_not_wait_here() {
        return;
    }
    let all = usize::from(ACCEPTS_PER_TURN) + 10;
    let rigs = [
        (Rig::epoll(), usize::from(ACCEPTS_PER_TURN)),
        (Rig::uring(), usize::from(ACCEPTS_PER_TURN)),
        (Rig::uring_without_accept_now(), 1),
    ];
    for (mut rig, per_turn) in rigs.into_iter().filter_map(|(rig, most)| Some((rig?, most))) {
        let (handle, listener) = listening(&mut rig);
        let accept = rig.start(OpTable::accept_op(Rc::clone(&handle), false, true));
        let clients = waiting(&listener, all);
        let in_queue = || connections_in_queue(&listener);
        rig.settle(2);
        let ahead = if per_turn == 1 { 1 } else { 0 };
        assert_eq!((rig.table.accepted(accept), in_queue()), (ahead, all - ahead));
        // No more than there are places.
        let mut taken = taken_at_once(&mut rig, accept, 3);
        assert_eq!(taken, per_turn.min(3));
        rig.settle(2);
        assert!(in_queue() >= all - 4, "taken without a place: {}", in_queue());
        while taken < all {
            rig.settle(2);
            let before = taken;
            taken += taken_at_once(&mut rig, accept, all);
            assert!(
                taken - before <= per_turn && taken > before,
                "{before} and then {taken}"
            );
            assert!(taken == all || per_turn == 1 || taken >= per_turn, "{taken}");
        }
        assert_eq!(in_queue(), 0);
        assert!(rig.poll_accept_one(accept).is_none());
        drop((handle, clients));
        rig.assert_clean();
    }
}

/// Told that somebody is there, and then gone: its next user has them.
#[test]
fn who_was_not_asked_for_is_left_to_the_next_user() {
    if !accepts_do_not_wait_here() {
        return;
    }
    for mut rig in real() {
        for stops in [false, true] {
            let (handle, listener) = listening(&mut rig);
            let accept = rig.start(OpTable::accept_op(Rc::clone(&handle), false, true));
            let clients = waiting(&listener, 5);
            rig.settle(2);
            assert_eq!(taken_at_once(&mut rig, accept, 2), 2);
            if stops {
                let left = rig.until("the accept's end", |rig| {
                    poll(|cx| rig.table.poll_stop_accept(rig.driver.as_mut(), accept, cx))
                });
                assert!(left.is_empty());
            }
            rig.abandon(accept);
            drop(handle);
            rig.settle(2);
            listener.set_nonblocking(true).unwrap();
            assert_eq!(std::iter::from_fn(|| listener.accept().ok()).count(), 3);
            drop(clients);
            rig.assert_clean();
        }
    }
}

/// Others may be quicker, and the listener blocks: nobody waits for who is gone.
#[test]
fn who_is_gone_holds_nobody_up() {
    if !accepts_do_not_wait_here() {
        return;
    }
    for mut rig in real() {
        let (handle, listener) = listening(&mut rig);
        let accept = rig.start(OpTable::accept_op(Rc::clone(&handle), false, true));
        for _ in 0..3 {
            let clients = waiting(&listener, 2);
            rig.settle(2);
            for _ in 0..2 {
                listener.accept().unwrap();
            }
            assert!(rig.poll_accept_one(accept).is_none());
            rig.settle(1);
            assert!(rig.poll_accept_one(accept).is_none());
            drop(clients);
            // And it is still there.
            let client = waiting(&listener, 1);
            rig.settle(2);
            assert_eq!(taken_at_once(&mut rig, accept, 9), 1);
            drop(client);
        }
        // Ended by somebody else: an error, as of any accept.
        rustix::net::shutdown(&listener, Shutdown::Read).unwrap();
        let error = rig.until("an error", |rig| rig.poll_accept_one(accept)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
        drop(handle);
        rig.assert_clean();
    }
}

/// In the place of received bytes /proc has, for a listener, how many wait in its queue.
fn connections_in_queue(listener: &TcpListener) -> usize {
    let wanted = format!(":{:04X} 00000000:0000 0A", listener.local_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find(|line| line.contains(&wanted)).unwrap();
    let queued = line.split_whitespace().nth(4).and_then(|queues| queues.split_once(':'));
    usize::from_str_radix(queued.unwrap().1, 16).unwrap()
}

/// A stream of the rig, a duplicate of it that the rig does not have, and its peer.
fn lent(rig: &mut Rig) -> (Handle, OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    let mine = OwnedFd::from(listener.accept().unwrap().0);
    let kept = mine.try_clone().unwrap();
    let fd = rig.driver.adopt(mine).unwrap();
    rig.open.insert(fd);
    (rig.handle(fd), kept, peer)
}

fn real() -> impl Iterator<Item = Rig> {
    [Rig::epoll(), Rig::uring()].into_iter().flatten()
}

#[test]
fn urgent_data_does_not_stop_a_stream() {
    for mut rig in real() {
        let (stream, _kept, mut peer) = lent(&mut rig);
        let recv = rig.recv(&stream);
        for round in 0..20 {
            peer.write_all(b"before").unwrap();
            rustix::net::send(&peer, b"!", SendFlags::OOB).unwrap();
            peer.write_all(b"after").unwrap();
            let mut got = Vec::new();
            rig.until("what stands behind the urgent byte", |rig| {
                while let Some(bytes) = rig.poll_recv(recv) {
                    got.extend_from_slice(&bytes.unwrap().unwrap());
                }
                (got.len() == 11).then_some(())
            });
            assert_eq!(got, b"beforeafter", "round {round}");
        }
        drop(stream);
        rig.assert_clean();
    }
}

#[test]
fn a_closed_duplicate_wakes_nobody() {
    for mut rig in real() {
        let (stream, kept, mut peer) = lent(&mut rig);
        let recv = rig.recv(&stream);
        rig.turn(Park::Poll);
        rig.abandon(recv);
        drop(stream);
        rig.assert_clean();
        // The socket itself lives on in the duplicate.
        peer.write_all(b"for somebody else").unwrap();
        let begun = Instant::now();
        assert_eq!(rig.turn(Park::For(Duration::from_millis(50))), 0);
        assert!(begun.elapsed() >= Duration::from_millis(50), "{}", rig.driver.name());
        drop(kept);
    }
}

#[test]
fn a_fast_sender_does_not_keep_the_others_waiting() {
    for mut rig in real() {
        let (fast, kept, mut peer) = lent(&mut rig);
        let flood = std::thread::spawn(move || {
            let block = vec![7; 1 << 16];
            // Until the rig's end is closed.
            while peer.write_all(&block).is_ok() {}
        });
        let fast_recv = rig.recv(&fast);
        let (other, _other_kept, mut other_peer) = lent(&mut rig);
        let recv = rig.recv(&other);
        for _ in 0..20 {
            other_peer.write_all(b"hello").unwrap();
            let mut turns = 0;
            let mut got = 0;
            while got < 5 {
                rig.turn(Park::For(Duration::from_secs(5)));
                while let Some(bytes) = rig.poll_recv(fast_recv) {
                    assert!(bytes.unwrap().is_some());
                }
                while let Some(bytes) = rig.poll_recv(recv) {
                    got += bytes.unwrap().unwrap().len();
                }
                turns += 1;
                assert!(turns < 500, "{}: the other stream is never served", rig.driver.name());
            }
        }
        drop(kept);
        drop((fast, other));
        rig.assert_clean();
        flood.join().unwrap();
    }
}

#[test]
fn a_stream_is_told_how_long_the_kernel_holds_on() {
    use rustix::net::sockopt::tcp_user_timeout;
    for mut rig in real() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let fd = rig.driver.adopt(client.try_clone().unwrap().into()).unwrap();
        rig.open.insert(fd);
        let handle = rig.handle(fd);
        rig.driver.give_up_after(fd, Duration::from_millis(12_345)).unwrap();
        assert_eq!(tcp_user_timeout(&client), Ok(12_345), "{}", rig.driver.name());
        // A Unix socket has no such thing, and says so.
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let unix = rig.driver.adopt(here.into()).unwrap();
        rig.open.insert(unix);
        let unix_handle = rig.handle(unix);
        assert!(rig.driver.give_up_after(unix, Duration::from_secs(1)).is_err());
        assert_eq!(rig.driver.queued_bytes(unix).unwrap(), 0);
        drop((handle, unix_handle));
        rig.assert_clean();
    }
}
