//! Real sockets whose other end is the test's own: what a rig that is both ends cannot do.

use super::Rig;
use crate::runtime::driver::{Handle, Park};
use rustix::net::SendFlags;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

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
