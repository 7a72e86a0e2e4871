//! Accepting: as they come, one for each arming, or by the consumer's own hand.

use super::{ACCEPTS_PER_TURN, EpollDriver, Event, OpId, Watch, watch};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

const ACCEPTED: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

impl EpollDriver {
    /// See [`Driver::accept_now`](crate::runtime::driver::Driver::accept_now).
    pub(super) fn take_one(&mut self, fd: RawFd) -> io::Result<Option<RawFd>> {
        let listener = &self.socket_of(fd)?.fd;
        if !does_not_wait(listener) {
            return Err(Errno::AGAIN.into());
        }
        match rustix::net::accept_with(listener, ACCEPTED) {
            Ok(accepted) => Ok(Some(self.take_in(accepted, false))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Somebody may be there.
    pub(super) fn accept(&mut self, fd: RawFd, op: OpId) {
        let Ok(listener) = self.socket_of(fd) else { return };
        let (shared, asks) = (listener.shared, listener.asks);
        if asks {
            return self.tell(fd, op);
        }
        if !does_not_wait(&listener.fd) {
            self.stop_accepting(fd);
            return self.event(op, -Errno::AGAIN.raw_os_error());
        }
        for _ in 0..if shared { 1 } else { ACCEPTS_PER_TURN } {
            let Ok(socket) = self.socket_of(fd) else { return };
            match rustix::net::accept_with(&socket.fd, ACCEPTED) {
                Ok(accepted) => {
                    let result = self.take_in(accepted, false);
                    self.queued.push(Event {
                        op,
                        result,
                        buffer: None,
                        more: true,
                    });
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    self.stop_accepting(fd);
                    self.event(op, -error.raw_os_error());
                    break;
                }
            }
        }
        // Level-triggered: the kernel says it again if there are more.
        if let Some(Some(socket)) = self.sockets.get_mut(fd as usize) {
            socket.readable = false;
            if shared && socket.watch == Watch::Level {
                // To the end of the queue of those that wait for it: the next connection is the next worker's.
                socket.watch = Watch::None;
                let again =
                    epoll::delete(&self.epoll, &socket.fd).and_then(|()| watch(&self.epoll, socket, Watch::Level));
                if let Err(error) = again {
                    socket.reader = None;
                    self.event(op, -error.raw_os_error());
                }
            }
        }
    }

    /// Somebody is there, or this was the look that comes with arming, and nobody is.
    fn tell(&mut self, fd: RawFd, op: OpId) {
        let Some(Some(listener)) = self.sockets.get_mut(fd as usize) else {
            return;
        };
        if std::mem::replace(&mut listener.thorough, false) {
            let mut look = [PollFd::new(&listener.fd, PollFlags::IN)];
            // Should it fail, epoll will tell.
            if !matches!(poll(&mut look, Some(&Timespec::default())), Ok(1..)) {
                listener.readable = false;
                return;
            }
        }
        self.stop_accepting(fd);
        self.event(op, 0);
    }

    pub(super) fn stop_accepting(&mut self, fd: RawFd) {
        if let Some(Some(socket)) = self.sockets.get_mut(fd as usize) {
            socket.reader = None;
            socket.readable = false;
            if socket.watch == Watch::Level {
                socket.watch = Watch::None;
                // It was added, so this cannot fail but for a descriptor that is no more.
                let _ = epoll::delete(&self.epoll, &socket.fd);
            }
        }
    }
}

/// Another process may have it otherwise, and the flag is the socket's.
fn does_not_wait(listener: &OwnedFd) -> bool {
    fcntl_getfl(listener).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}
