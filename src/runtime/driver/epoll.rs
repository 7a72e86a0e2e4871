//! The epoll driver, for where io_uring is forbidden. The events mean what they mean for io_uring.
//!
//! Streams are registered once, edge-triggered, for both directions, so that a request costs one receive and one send
//! and no `epoll_ctl`:
//!
//! - a send is tried when it is armed, and waits for EPOLLOUT only after EAGAIN;
//! - a receive that does not fill its buffer has drained the socket (epoll(7), question 9), which saves the receive
//!   that would say EAGAIN. An end of stream, an error or urgent data can make that wrong, so after EPOLLRDHUP,
//!   EPOLLHUP, EPOLLERR or EPOLLPRI a socket is read until it says EAGAIN, 0 or an error.
//!
//! Listeners are level-triggered and registered only while an accept is armed: several workers may share one, and a
//! worker that is not accepting must not swallow the edge.
//!
//! No operation's memory is kept: a send that must wait asks to be armed again (`-EINTR`) when it can go on. So there
//! is nothing unsafe here.
//!
//! A listener's O_NONBLOCK belongs to the open socket, not to the descriptor: it holds for every worker and process
//! that has a duplicate. io_uring answers EAGAIN on such a listener, and epoll would block in `accept` on one that
//! io_uring has made blocking. All workers that share a listener must therefore use the same driver. A process that takes
//! over with the other one waits until nobody here accepts; a worker that was stuck then looks before it accepts, and gets EAGAIN.

mod accept;

use super::buffers::{BufferId, BufferPool};
use super::{Driver, Event, Op, OpId, Park, SocketAddrAny, Unparker, system};
use crate::limits;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// Event data of the wake-up descriptor; those of sockets are their numbers.
const WAKE: u64 = u64::MAX;
/// Kernel events taken in one turn. More are taken in the next.
const EVENTS_PER_TURN: usize = 1024;
/// Buffers that one socket may fill in one turn, so that a fast sender does not keep the others waiting.
const RECVS_PER_TURN: usize = limits::runtime::RECV_QUEUE_BUFFERS_MAX as usize;
/// Connections that one listener may give in one turn.
const ACCEPTS_PER_TURN: usize = limits::runtime::ACCEPTS_PER_TURN as usize;
/// "Arm it again": the table does so without telling anybody.
const AGAIN: i32 = -Errno::INTR.raw_os_error();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// Not in the epoll set.
    None,
    /// A stream: both directions, edge-triggered.
    Edge,
    /// A listener with an armed accept: level-triggered.
    Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Accept,
    Recv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Send,
    Connect,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    reader: Option<(OpId, Reader)>,
    writer: Option<(OpId, Writer)>,
    watch: Watch,
    /// Others may hold the same open socket, so closing the descriptor does not take it out of the epoll set.
    adopted: bool,
    /// See [`Op::Accept`].
    shared: bool,
    /// Its consumer is told that somebody is there, and accepts by itself.
    asks: bool,
    /// A receive or an accept may find something.
    readable: bool,
    /// The last send found the socket's buffer full.
    blocked: bool,
    /// A short receive no longer means "drained". Of a listener: it is not known whether somebody is there.
    thorough: bool,
    /// Stands in `EpollDriver::runnable`.
    listed: bool,
}

/// epoll.
pub struct EpollDriver {
    epoll: OwnedFd,
    /// By descriptor number. The driver owns what it numbers.
    sockets: Vec<Option<Socket>>,
    pool: Rc<BufferPool>,
    /// Buffers to receive into; the last used, and so the warmest, on top.
    free: Vec<BufferId>,
    /// Descriptors with a reader that may find something.
    runnable: Vec<RawFd>,
    /// Those of them whose turn it is: swapped with `runnable`, so that no turn allocates.
    running: Vec<RawFd>,
    /// What happened since the last turn.
    queued: Vec<Event>,
    /// The kernel's events of this turn.
    ready: Vec<epoll::Event>,
    /// The last turn gave out queued events without asking the kernel.
    skipped: bool,
    unparker: Unparker,
}

impl EpollDriver {
    /// Makes the epoll set.
    pub fn new() -> io::Result<EpollDriver> {
        Self::with_pool(BufferPool::new(
            limits::runtime::RECV_BUFFERS,
            limits::runtime::RECV_BUFFER_BYTES,
        ))
    }

    /// With other buffers than a worker's.
    pub(super) fn with_pool(pool: Rc<BufferPool>) -> io::Result<EpollDriver> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        // Edge-triggered: each write is an edge of its own, so nobody has to read the counter.
        epoll::add(
            &set,
            &wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        Ok(EpollDriver {
            epoll: set,
            sockets: Vec::new(),
            pool,
            free: Vec::new(),
            runnable: Vec::new(),
            running: Vec::new(),
            queued: Vec::new(),
            ready: Vec::with_capacity(EVENTS_PER_TURN),
            skipped: false,
            unparker: Unparker::new(Some(wake)),
        })
    }

    fn take_in(&mut self, fd: OwnedFd, adopted: bool) -> RawFd {
        let number = fd.as_raw_fd();
        let slot = number as usize;
        if slot >= self.sockets.len() {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(Socket {
            fd,
            reader: None,
            writer: None,
            watch: Watch::None,
            adopted,
            shared: false,
            asks: false,
            readable: false,
            blocked: false,
            thorough: false,
            listed: false,
        });
        number
    }

    fn socket_of(&self, fd: RawFd) -> Result<&Socket, Errno> {
        let slot = usize::try_from(fd).map_err(|_| Errno::BADF)?;
        self.sockets.get(slot).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    fn event(&mut self, op: OpId, result: i32) {
        self.queued.push(Event {
            op,
            result,
            buffer: None,
            more: false,
        });
    }

    /// Waits for the kernel and books what it says.
    fn wait(&mut self, park: Park) -> io::Result<()> {
        let timeout = match park {
            Park::Poll => Some(Timespec::default()),
            Park::For(time) => Some(Timespec {
                tv_sec: time.as_secs().min(i32::MAX as u64) as _,
                tv_nsec: time.subsec_nanos().into(),
            }),
            Park::Forever => None,
        };
        self.ready.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.ready),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for at in 0..self.ready.len() {
            let (data, flags) = (self.ready[at].data.u64(), self.ready[at].flags);
            if data != WAKE {
                self.book(data as RawFd, flags);
            }
        }
        Ok(())
    }

    fn book(&mut self, fd: RawFd, flags: epoll::EventFlags) {
        use epoll::EventFlags as F;
        let Some(Some(socket)) = self.sockets.get_mut(fd as usize) else {
            return;
        };
        if flags.intersects(F::RDHUP | F::HUP | F::ERR | F::PRI) {
            socket.thorough = true;
        }
        if flags.intersects(F::IN | F::RDHUP | F::HUP | F::ERR | F::PRI) {
            socket.readable = true;
            if socket.reader.is_some() && !socket.listed {
                socket.listed = true;
                self.runnable.push(fd);
            }
        }
        if flags.intersects(F::OUT | F::HUP | F::ERR) {
            socket.blocked = false;
            match socket.writer.take() {
                Some((id, Writer::Send)) => self.event(id, AGAIN),
                Some((id, Writer::Connect)) => {
                    let result = match rustix::net::sockopt::socket_error(&socket.fd) {
                        Ok(Ok(())) => 0,
                        Ok(Err(error)) | Err(error) => -error.raw_os_error(),
                    };
                    self.event(id, result);
                }
                None => {}
            }
        }
    }

    /// Lets every runnable reader have its share.
    fn work(&mut self) {
        // Those that are listed meanwhile have their turn next time.
        std::mem::swap(&mut self.runnable, &mut self.running);
        for at in 0..self.running.len() {
            let fd = self.running[at];
            let Some(Some(socket)) = self.sockets.get_mut(fd as usize) else {
                continue;
            };
            socket.listed = false;
            if !socket.readable {
                continue;
            }
            match socket.reader {
                Some((id, Reader::Recv)) => self.receive(fd, id),
                Some((id, Reader::Accept)) => self.accept(fd, id),
                None => {}
            }
            if let Some(Some(socket)) = self.sockets.get_mut(fd as usize)
                && socket.readable
                && socket.reader.is_some()
                && !socket.listed
            {
                socket.listed = true;
                self.runnable.push(fd);
            }
        }
        self.running.clear();
    }

    fn receive(&mut self, fd: RawFd, op: OpId) {
        let Some(Some(socket)) = self.sockets.get_mut(fd as usize) else {
            return;
        };
        for _ in 0..RECVS_PER_TURN {
            let Some(buffer) = self.free.pop() else {
                socket.reader = None;
                return self.event(op, -Errno::NOBUFS.raw_os_error());
            };
            let received = self.pool.fill(buffer, |bytes| {
                rustix::net::recv(&socket.fd, bytes, RecvFlags::DONTWAIT).map(|(_, count)| count)
            });
            match received {
                Ok(count) if count > 0 => {
                    self.queued.push(Event {
                        op,
                        result: count as i32,
                        buffer: Some(buffer),
                        more: true,
                    });
                    if count < self.pool.buffer_bytes() && !socket.thorough {
                        socket.readable = false;
                        return;
                    }
                }
                other => {
                    self.free.push(buffer);
                    match other {
                        Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => {
                            socket.readable = false;
                            return;
                        }
                        end => {
                            socket.reader = None;
                            let result = end.map_or_else(|error| -error.raw_os_error(), |_| 0);
                            return self.event(op, result);
                        }
                    }
                }
            }
        }
    }

    fn try_arm(&mut self, id: OpId, op: &mut Op) -> Result<Option<i32>, Errno> {
        let fd = op.fd();
        let Some(Some(socket)) = self.sockets.get_mut(usize::try_from(fd).map_err(|_| Errno::BADF)?) else {
            return Err(Errno::BADF);
        };
        match op {
            Op::Accept { .. } | Op::Recv { .. } if socket.reader.is_some() => return Err(Errno::BUSY),
            Op::Send { .. } | Op::Connect { .. } if socket.writer.is_some() => return Err(Errno::BUSY),
            Op::Accept {
                shared, single, asks, ..
            } => {
                *asks = *single;
                socket.shared = *shared;
                socket.asks = *single;
                watch(&self.epoll, socket, Watch::Level)?;
                socket.reader = Some((id, Reader::Accept));
                // The next turn looks by itself: in one that is long this may be cancelled before epoll has been asked.
                socket.readable = true;
                socket.thorough = true;
                if !socket.listed {
                    socket.listed = true;
                    self.runnable.push(fd);
                }
            }
            Op::Recv { .. } => {
                watch(&self.epoll, socket, Watch::Edge)?;
                socket.reader = Some((id, Reader::Recv));
                if socket.readable && !socket.listed {
                    socket.listed = true;
                    self.runnable.push(fd);
                }
            }
            Op::Send { data, sent, .. } => {
                if !socket.blocked {
                    let rest = data.get(*sent..).unwrap_or_default();
                    match rustix::net::send(&socket.fd, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                        Ok(count) => return Ok(Some(i32::try_from(count).unwrap_or(i32::MAX))),
                        Err(Errno::AGAIN) => socket.blocked = true,
                        Err(error) => return Err(error),
                    }
                }
                // Only now, if it is the first operation: being added reports a socket that has become writable.
                watch(&self.epoll, socket, Watch::Edge)?;
                socket.writer = Some((id, Writer::Send));
            }
            Op::Connect { addr, .. } => {
                match rustix::net::connect(&socket.fd, addr.as_ref()) {
                    Ok(()) => return Ok(Some(0)),
                    Err(Errno::INPROGRESS) => {}
                    Err(error) => return Err(error),
                }
                watch(&self.epoll, socket, Watch::Edge)?;
                socket.writer = Some((id, Writer::Connect));
            }
        }
        Ok(None)
    }
}

fn watch(set: &OwnedFd, socket: &mut Socket, wanted: Watch) -> Result<(), Errno> {
    use epoll::EventFlags as F;
    if socket.watch == wanted {
        return Ok(());
    }
    let data = epoll::EventData::new_u64(socket.fd.as_raw_fd() as u64);
    let flags = match wanted {
        Watch::None => return Ok(()),
        // Of all that wait for it, one that is idle. But whoever only asks may not come: then the others must know, too.
        Watch::Level if socket.shared && !socket.asks => F::IN | F::EXCLUSIVE,
        Watch::Level => F::IN,
        Watch::Edge => F::IN | F::OUT | F::RDHUP | F::PRI | F::ET,
    };
    epoll::add(set, &socket.fd, data, flags)?;
    socket.watch = wanted;
    Ok(())
}

impl Driver for EpollDriver {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn arm(&mut self, id: OpId, op: &mut Op) {
        match self.try_arm(id, op) {
            Ok(None) => {}
            Ok(Some(result)) => self.event(id, result),
            Err(error) => self.event(id, -error.raw_os_error()),
        }
    }

    fn accept_now(&mut self, listener: RawFd) -> io::Result<Option<RawFd>> {
        self.take_one(listener)
    }

    fn cancel(&mut self, id: OpId, op: &Op) {
        let fd = op.fd();
        let Some(Some(socket)) = self.sockets.get_mut(fd as usize) else {
            return;
        };
        if socket.reader == Some((id, Reader::Accept)) {
            self.stop_accepting(fd);
        } else if socket.reader == Some((id, Reader::Recv)) {
            socket.reader = None;
        } else if socket.writer.is_some_and(|(writer, _)| writer == id) {
            socket.writer = None;
        } else {
            // Its last event is queued already.
            return;
        }
        self.event(id, -Errno::CANCELED.raw_os_error());
    }

    fn turn(&mut self, park: Park, events: &mut Vec<Event>) -> io::Result<()> {
        self.pool.take_returned(&mut self.free);
        // What is queued can be told without asking the kernel, which halves the calls of a quiet connection; but not
        // twice in a row, or a chain of sends that always succeed would keep the other sockets waiting.
        self.skipped = !self.skipped && !self.queued.is_empty();
        if !self.skipped {
            let idle = self.queued.is_empty() && self.runnable.is_empty();
            self.wait(if idle { park } else { Park::Poll })?;
        }
        self.work();
        events.append(&mut self.queued);
        self.unparker.acknowledge();
        Ok(())
    }

    fn buffers(&self) -> Rc<BufferPool> {
        Rc::clone(&self.pool)
    }

    fn unparker(&self) -> Unparker {
        self.unparker.clone()
    }

    fn socket(&mut self, addr: &SocketAddrAny) -> io::Result<RawFd> {
        let fd = system::socket(addr, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        Ok(self.take_in(fd, false))
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<RawFd> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(self.take_in(fd, true))
    }

    fn release(&mut self, fd: RawFd) -> io::Result<OwnedFd> {
        let slot = usize::try_from(fd).ok().and_then(|slot| self.sockets.get_mut(slot));
        let socket = slot.and_then(Option::take).ok_or(Errno::BADF)?;
        debug_assert!(
            socket.watch == Watch::None,
            "given away while it is watched: {socket:?}"
        );
        Ok(socket.fd)
    }

    fn close(&mut self, fd: RawFd) {
        let Some(slot) = self.sockets.get_mut(fd as usize) else {
            return;
        };
        if let Some(socket) = slot.take() {
            debug_assert!(
                socket.reader.is_none() && socket.writer.is_none(),
                "closed with an armed operation: {socket:?}"
            );
            if socket.adopted && socket.watch != Watch::None {
                let _ = epoll::delete(&self.epoll, &socket.fd);
            }
        }
    }

    fn descriptor(&self, fd: RawFd) -> io::Result<BorrowedFd<'_>> {
        Ok(self.socket_of(fd)?.fd.as_fd())
    }
}
