//! The one place that talks to the kernel: submit an operation, reap its events.
//!
//! Called by `runtime::core` only. A [`Driver`] is thin on purpose: it arms operations and reports events. What an
//! operation's life looks like (armed, stopping, abandoned, done), when a multishot operation is armed again, and who
//! is woken, is decided once, in [`ops`], for all three implementations:
//!
//! - [`uring`]: io_uring with multishot accept and recv and a provided buffer ring;
//! - [`epoll`]: where io_uring is forbidden;
//! - [`sim`]: a seeded network in memory, for tests.
//!
//! The contract that makes cancellation safe (invariant 3): the memory of an armed [`Op`] is neither freed, moved nor
//! written until its last event (`more == false`) has been reaped. `OpTable` keeps it; dropping a future only marks
//! the operation abandoned.
//!
//! Deliberately absent: files (helper threads do those), DNS, UDP.

pub mod buffers;
pub mod choose;
pub mod epoll;
pub mod heap;
mod hush;
pub mod inherit;
pub mod interrupt;
pub mod ops;
pub mod sim;
pub(super) mod steer;
mod system;
#[cfg(test)]
mod tests;
pub mod uring;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buffers::{BufferId, BufferPool, BufferQueue};
pub use rustix::net::{Shutdown, SocketAddrAny};
pub use system::do_not_cut_in;

/// Names an operation: its slot in the table and the generation of the slot, so that a late event of a slot's
/// previous tenant is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId {
    /// Slot in the operation table.
    pub index: u32,
    /// How often operations have been made so far, wrapping.
    pub generation: u32,
}

impl OpId {
    /// As io_uring's `user_data`.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from `user_data`.
    pub fn from_bits(bits: u64) -> OpId {
        OpId {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

/// Descriptors whose last user is gone, to be closed by the driver at the end of the turn: a drop may happen in the
/// middle of anything.
pub type CloseQueue = Rc<RefCell<Vec<RawFd>>>;

/// A descriptor as the driver numbers it, shared between the stream and its operations in flight. It is closed when
/// the last of them is gone: never under an operation that is still armed.
#[derive(Debug)]
pub struct HandleInner {
    fd: RawFd,
    closing: CloseQueue,
}

/// Shared ownership of a [`HandleInner`].
pub type Handle = Rc<HandleInner>;

impl HandleInner {
    /// Takes over `fd`, a number that the driver of this runtime gave out.
    pub fn new(fd: RawFd, closing: CloseQueue) -> Handle {
        Rc::new(HandleInner { fd, closing })
    }

    /// The driver's number.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Gives the number up without closing it, unless somebody else holds it as well.
    ///
    /// # Errors
    /// The handle, where it is held elsewhere, too.
    pub fn give_up(handle: Handle) -> Result<RawFd, Handle> {
        let mut inner = Rc::try_unwrap(handle)?;
        Ok(std::mem::replace(&mut inner.fd, GIVEN_UP))
    }
}

/// No descriptor's number.
const GIVEN_UP: RawFd = -1;

impl Drop for HandleInner {
    fn drop(&mut self) {
        if self.fd != GIVEN_UP {
            self.closing.borrow_mut().push(self.fd);
        }
    }
}

/// An operation, with everything that the kernel may touch while it is armed.
#[derive(Debug)]
pub enum Op {
    /// Accepts until cancelled or until an error, unless `single`; each event's result is a descriptor, unless it `asks`.
    Accept {
        /// The listening socket.
        listener: Handle,
        /// Other workers accept from the very same socket: one connection is taken at a time, or the kernel would give
        /// one worker all of them (it wakes the one that waits first, and an accept that goes on waits first for ever).
        shared: bool,
        /// The consumer has not many places, and what finds none is to wait in the kernel's queue. Its last event is its only
        /// one: it says that somebody is there, for [`Driver::accept_now`] to take, or is one connection where the driver has no
        /// such thing.
        single: bool,
        /// Set by the driver that arms it: the event is no descriptor, and nobody is accepted by it.
        asks: bool,
        /// How many may be taken at once before it is armed again, as somebody is there.
        told: u16,
        /// Accepted and not yet taken.
        ready: VecDeque<RawFd>,
    },
    /// Receives into provided buffers until end of stream, error or cancel.
    Recv {
        /// The connected socket.
        socket: Handle,
        /// Received and not yet taken.
        ready: BufferQueue,
        /// So many of those stop it.
        buffers_max: u16,
    },
    /// Sends `data[sent..]`. The table arms it again after a short write.
    Send {
        /// The connected socket.
        socket: Handle,
        /// What is sent; handed back at the end.
        data: Vec<u8>,
        /// Bytes already accepted by the kernel.
        sent: usize,
    },
    /// Connects.
    Connect {
        /// The fresh socket.
        socket: Handle,
        /// Where to; boxed so that its address is stable.
        addr: Box<SocketAddrAny>,
    },
}

impl Op {
    /// The descriptor that it works on.
    pub fn fd(&self) -> RawFd {
        match self {
            Op::Accept { listener, .. } => listener.fd(),
            Op::Recv { socket, .. } | Op::Send { socket, .. } | Op::Connect { socket, .. } => socket.fd(),
        }
    }

    /// True for operations with many events.
    pub fn is_multishot(&self) -> bool {
        matches!(self, Op::Accept { .. } | Op::Recv { .. })
    }
}

/// One thing that happened to an operation.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Which operation.
    pub op: OpId,
    /// Not negative: bytes, or the accepted descriptor, or 0. Negative: an errno.
    pub result: i32,
    /// The provided buffer that holds what was received.
    pub buffer: Option<BufferId>,
    /// The operation is still armed. `false` is its last event until it is armed again.
    pub more: bool,
}

/// How long a driver may wait for the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Park {
    /// Not at all: submit and look.
    Poll,
    /// Until an event, a wake-up or this much time.
    For(Duration),
    /// Until an event or a wake-up.
    Forever,
}

/// TCP keepalive of a socket (tcp(7)): a peer that vanished without a word is found by probes while nothing is sent,
/// and by the user timeout while something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (TCP_KEEPIDLE).
    pub idle: Duration,
    /// Between two probes (TCP_KEEPINTVL).
    pub interval: Duration,
    /// Probes without an answer before the connection counts as broken (TCP_KEEPCNT).
    pub probes: u32,
    /// Sent data without an acknowledgement before it does (TCP_USER_TIMEOUT, RFC 5482).
    pub user_timeout: Duration,
}

/// What the runtime asks of the kernel. All calls come from the one thread that made the driver.
pub trait Driver {
    /// "uring", "epoll" or "sim".
    fn name(&self) -> &'static str;

    /// Arms `op`. An immediate failure is reported as an event, like any other.
    fn arm(&mut self, id: OpId, op: &mut Op);

    /// Accepts one connection of a listener's queue, and waits for none: nobody is there any more where it gives none. To be
    /// called when an accept that [asks](Op::Accept::asks) has said so.
    ///
    /// # Errors
    /// Those of accept(2); EAGAIN where that would wait.
    fn accept_now(&mut self, listener: RawFd) -> io::Result<Option<RawFd>>;

    /// Asks for the end of an armed operation. Its last event still comes: with its result if that was quicker, with
    /// `-ECANCELED` otherwise.
    fn cancel(&mut self, id: OpId, op: &Op);

    /// Submits what was armed, waits as told, appends what happened to `events`.
    fn turn(&mut self, park: Park, events: &mut Vec<Event>) -> io::Result<()>;

    /// The buffers that `Recv` fills.
    fn buffers(&self) -> Rc<BufferPool>;

    /// Nanoseconds of the monotonic clock, or of the simulated one.
    fn now_ns(&self) -> u64 {
        system::now_ns()
    }

    /// Nanoseconds since the Unix epoch, or simulated.
    fn unix_ns(&self) -> u64 {
        system::unix_ns()
    }

    /// Wakes this driver from other threads.
    fn unparker(&self) -> Unparker;

    /// A fresh TCP or Unix stream socket for a `Connect` to `addr`, ready for this driver.
    fn socket(&mut self, addr: &SocketAddrAny) -> io::Result<RawFd>;

    /// Takes a descriptor that was made elsewhere (a listener lent by the supervisor). The driver gets a duplicate
    /// and numbers it.
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<RawFd>;

    /// Gives up a connected socket on which nothing was ever armed, for another worker to [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// EBADF for a number that names nothing.
    fn release(&mut self, fd: RawFd) -> io::Result<OwnedFd>;

    /// Closes a descriptor on which nothing is armed.
    fn close(&mut self, fd: RawFd);

    /// The runtime is at its end, and has operations on these numbers that the kernel does not give back: they are to be
    /// closed with the driver at the latest, or their peers would wait for a process that serves others. No more is armed then.
    /// A driver that owns its sockets has nothing to do.
    fn give_up(&mut self, _fds: Vec<RawFd>) {}

    /// The kernel's descriptor behind a number. The simulation has none, and answers what follows by itself.
    ///
    /// # Errors
    /// EBADF for a number that names nothing.
    fn descriptor(&self, fd: RawFd) -> io::Result<BorrowedFd<'_>>;

    /// Ends one or both directions.
    ///
    /// # Errors
    /// Those of shutdown(2).
    fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        Ok(rustix::net::shutdown(self.descriptor(fd)?, how)?)
    }

    /// How soon a silent death of the peer is noticed on a TCP socket.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    fn set_keepalive(&mut self, fd: RawFd, keepalive: &Keepalive) -> io::Result<()> {
        system::set_keepalive(self.descriptor(fd)?, keepalive)
    }

    /// The other end's address; none for an unnamed socket.
    ///
    /// # Errors
    /// Those of getpeername(2).
    fn peer_addr(&self, fd: RawFd) -> io::Result<Option<SocketAddrAny>> {
        Ok(rustix::net::getpeername(self.descriptor(fd)?)?)
    }

    /// This end's address.
    ///
    /// # Errors
    /// Those of getsockname(2).
    fn local_addr(&self, fd: RawFd) -> io::Result<SocketAddrAny> {
        Ok(rustix::net::getsockname(self.descriptor(fd)?)?)
    }

    /// Bytes that were sent on a stream and that its peer has not taken: they wait in the kernel. The end of the stream
    /// counts as one.
    ///
    /// # Errors
    /// Those of ioctl(2), and the connection's own where it is broken.
    fn queued_bytes(&self, fd: RawFd) -> io::Result<usize> {
        system::queued_bytes(self.descriptor(fd)?)
    }

    /// Bytes that have arrived on a stream and wait in the kernel to be received.
    ///
    /// # Errors
    /// Those of ioctl(2).
    fn unread_bytes(&self, fd: RawFd) -> io::Result<usize> {
        let bytes = rustix::io::ioctl_fionread(self.descriptor(fd)?)?;
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// A listening TCP socket takes no new handshakes from now on, and finishes those that have begun.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    fn hush(&mut self, fd: RawFd) -> io::Result<()> {
        hush::hush(self.descriptor(fd)?)
    }

    /// Lets the stream's close throw away what its peer has not taken, and reset the connection.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    fn reset_on_close(&mut self, fd: RawFd) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_linger(
            self.descriptor(fd)?,
            Some(Duration::ZERO),
        )?)
    }

    /// How long the kernel holds on to bytes that a peer does not take before it gives the connection up, closed or
    /// not (TCP_USER_TIMEOUT).
    ///
    /// # Errors
    /// Those of setsockopt(2); ENOPROTOOPT or EOPNOTSUPP for what is no TCP.
    fn give_up_after(&mut self, fd: RawFd, time: Duration) -> io::Result<()> {
        system::give_up_after(self.descriptor(fd)?, time)
    }
}

#[derive(Debug)]
struct UnparkerShared {
    eventfd: Option<OwnedFd>,
    notified: AtomicBool,
}

/// Ends a driver's wait from any thread. Cheap when the driver is awake: only the first call after the driver last
/// looked makes a system call.
#[derive(Debug, Clone)]
pub struct Unparker(Arc<UnparkerShared>);

impl Unparker {
    /// With an eventfd for a real driver; without for the simulation, which never sleeps.
    pub fn new(eventfd: Option<OwnedFd>) -> Unparker {
        Unparker(Arc::new(UnparkerShared {
            eventfd,
            notified: AtomicBool::new(false),
        }))
    }

    /// Ends the wait, or the next one.
    pub fn unpark(&self) {
        if self.0.notified.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(eventfd) = &self.0.eventfd {
            // The counter cannot overflow: `notified` allows one write per look. A failed write (EBADF at tear-down)
            // means that nobody waits any more.
            let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Called by the driver after it woke and before the runtime looks at its queues: calls that come later write
    /// again.
    pub fn acknowledge(&self) {
        if self.0.notified.load(Ordering::Acquire) {
            self.0.notified.swap(false, Ordering::AcqRel);
        }
    }

    /// The descriptor to wait on.
    pub fn eventfd(&self) -> Option<impl AsFd + '_> {
        self.0.eventfd.as_ref()
    }
}

/// The errno of an event's negative result.
pub fn error_of(result: i32) -> io::Error {
    io::Error::from_raw_os_error(result.saturating_neg())
}
