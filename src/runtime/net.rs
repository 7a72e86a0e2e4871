//! Listeners and streams.
//!
//! A listening socket is owned by the process and lent to a worker as a duplicate descriptor: the kernel's accept
//! queue belongs to the socket, so a worker can go and another can take over without losing a connection.
//!
//! [`Stream`] is used in two ways. The HTTP server takes received buffers whole ([`Stream::recv`]) and hands whole
//! buffers to be sent ([`Stream::send`]). Client libraries see tokio's `AsyncRead` and `AsyncWrite`, which copy.

use super::context;
use super::driver::buffers::RecvBuffer;
use super::driver::ops::OpTable;
use super::driver::{Driver, Handle, HandleInner, Keepalive, Op, OpId, Shutdown, SocketAddrAny};
use crate::limits;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

mod client;
pub mod listen;

/// A listening socket lent to this worker.
#[derive(Debug)]
pub struct Listener {
    handle: Handle,
    shared: bool,
    one_at_a_time: bool,
    op: Option<OpId>,
}

impl Listener {
    /// Over a duplicate of the process's socket, from which no other worker accepts meanwhile.
    pub fn new(socket: OwnedFd) -> io::Result<Listener> {
        Listener::adopt(socket, false)
    }

    /// Over a duplicate of a socket from which other workers accept, too.
    pub fn shared(socket: OwnedFd) -> io::Result<Listener> {
        Listener::adopt(socket, true)
    }

    /// Other workers accept from the socket, too.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    fn adopt(socket: OwnedFd, shared: bool) -> io::Result<Listener> {
        context::with(|context| {
            let fd = context.io.borrow_mut().driver.adopt(socket)?;
            Ok(Listener {
                handle: context.handle(fd),
                shared,
                one_at_a_time: false,
                op: None,
            })
        })
    }

    /// Over a number of the simulated network.
    pub fn from_driver(fd: RawFd) -> Listener {
        context::with(|context| Listener {
            handle: context.handle(fd),
            shared: false,
            one_at_a_time: false,
            op: None,
        })
    }

    /// The next connection.
    ///
    /// # Errors
    /// Those of accept(2). After an error the next call starts accepting anew, so a caller that is out of descriptors
    /// (EMFILE, ENFILE) waits a little first.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// See [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<io::Result<Stream>> {
        context::with(|context| {
            let io = &mut *context.io.borrow_mut();
            let op = *self.op.get_or_insert_with(|| {
                let op = OpTable::accept_op(Handle::clone(&self.handle), self.shared, self.one_at_a_time);
                io.ops.start(&mut *io.driver, op)
            });
            let accepted = ready!(io.ops.poll_accept(&mut *io.driver, op, self.one_at_a_time, cx));
            if accepted.is_err() {
                io.ops.abandon(&mut *io.driver, op);
                self.op = None;
            }
            Poll::Ready(accepted.map(|fd| Stream::new(context.handle(fd))))
        })
    }

    /// From the next [`poll_accept`](Self::poll_accept) on each of them accepts one connection and no more, and between them
    /// nobody is accepted: for a caller who may not have room for all that wait in the kernel's queue. Or else what comes is
    /// accepted as it comes, which is cheaper. (io_uring before Linux 6.10: one is accepted ahead, with a turn of the loop.)
    pub fn take_one_at_a_time(&mut self, one_at_a_time: bool) {
        self.one_at_a_time = one_at_a_time;
    }

    /// Stops accepting until the next [`accept`](Self::accept): for a caller who has no room. What the kernel has
    /// accepted by then is given out all the same.
    pub fn pause(&mut self) {
        if let Some(op) = self.op {
            context::with(|context| {
                let io = &mut *context.io.borrow_mut();
                io.ops.pause_accept(&mut *io.driver, op);
            });
        }
    }

    /// From now on the socket takes no new handshakes; those that have begun get through. For a socket that is about to be
    /// closed for good: those who come too late are not answered, and refused when they try again. False for a Unix socket,
    /// which has no handshakes, and goes on as it was.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn hush(&self) -> io::Result<bool> {
        context::with(|context| {
            let io = &mut *context.io.borrow_mut();
            let local = io.driver.local_addr(self.handle.fd())?;
            if local.address_family() == rustix::net::AddressFamily::UNIX {
                return Ok(false);
            }
            io.driver.hush(self.handle.fd()).map(|()| true)
        })
    }

    /// Stops accepting and gives out the connections that were accepted already: nothing in the kernel's queue is
    /// lost, since that stays with the process's socket.
    pub async fn stop(mut self) -> Vec<Stream> {
        let Some(op) = self.op.take() else { return Vec::new() };
        let _pending = Abandon(Some(op));
        let fds = poll_fn(|cx| {
            context::with(|context| {
                let io = &mut *context.io.borrow_mut();
                io.ops.poll_stop_accept(&mut *io.driver, op, cx)
            })
        })
        .await;
        context::with(|context| fds.into_iter().map(|fd| Stream::new(context.handle(fd))).collect())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        abandon(self.op);
    }
}

/// Memory to build a send in; [`Stream::start_send_detached`] brings it back, as does [`recycle`].
pub fn write_buffer() -> Vec<u8> {
    context::with(|context| context.io.borrow_mut().ops.spare())
}

/// Gives memory from [`write_buffer`] back.
pub fn recycle(data: Vec<u8>) {
    context::with(|context| context.io.borrow_mut().ops.recycle(data));
}

fn abandon(op: Option<OpId>) {
    if let Some(op) = op {
        context::try_with(|context| {
            let io = &mut *context.io.borrow_mut();
            io.ops.abandon(&mut *io.driver, op);
        });
    }
}

/// A connected stream socket. Dropping it abandons what is in flight and closes it.
#[derive(Debug)]
pub struct Stream {
    handle: Handle,
    recv: Option<OpId>,
    send: Option<OpId>,
    /// What `AsyncRead` has taken and not yet copied out; boxed, so that the HTTP server's streams stay small.
    rest: Option<Box<(RecvBuffer, usize)>>,
}

impl Stream {
    fn new(handle: Handle) -> Stream {
        Stream {
            handle,
            recv: None,
            send: None,
            rest: None,
        }
    }

    /// Over a connected socket that was accepted elsewhere.
    ///
    /// # Errors
    /// When the driver cannot take it in; the socket is closed then.
    pub fn adopt(socket: OwnedFd) -> io::Result<Stream> {
        context::with(|context| {
            let fd = context.io.borrow_mut().driver.adopt(socket)?;
            Ok(Stream::new(context.handle(fd)))
        })
    }

    /// Gives the socket up, for another worker to [`adopt`](Self::adopt): one of which nothing was asked yet.
    ///
    /// # Errors
    /// The stream as it was, where it is in use, or the driver cannot do that.
    pub fn release(self) -> Result<OwnedFd, Stream> {
        if self.recv.is_some() || self.send.is_some() || self.rest.is_some() {
            return Err(self);
        }
        let handle = Handle::clone(&self.handle);
        drop(self);
        context::with(|context| {
            let fd = HandleInner::give_up(handle).map_err(Stream::new)?;
            let released = context.io.borrow_mut().driver.release(fd);
            released.map_err(|_| Stream::new(context.handle(fd)))
        })
    }

    /// Connects to `addr` (TCP with TCP_NODELAY, or a Unix socket). The caller bounds the time.
    ///
    /// # Errors
    /// Those of connect(2).
    pub async fn connect(addr: SocketAddrAny) -> io::Result<Stream> {
        let (stream, op) = context::with(|context| {
            let io = &mut *context.io.borrow_mut();
            let fd = io.driver.socket(&addr)?;
            let handle = context.handle(fd);
            let op = Op::Connect {
                socket: Handle::clone(&handle),
                addr: Box::new(addr),
            };
            io::Result::Ok((Stream::new(handle), io.ops.start(&mut *io.driver, op)))
        })?;
        let mut pending = Abandon(Some(op));
        poll_fn(|cx| context::with(|context| context.io.borrow_mut().ops.poll_connect(op, cx))).await?;
        pending.0 = None;
        Ok(stream)
    }

    /// The next bytes, or `None` at the end of the stream. The first call arms one multishot receive that lasts for
    /// the life of the stream.
    ///
    /// # Errors
    /// Those of recv(2), again at each call.
    pub async fn recv(&mut self) -> io::Result<Option<RecvBuffer>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// See [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<RecvBuffer>>> {
        self.poll_recv_upto(|_| limits::runtime::RECV_QUEUE_BUFFERS_MAX, cx)
    }

    /// `buffers_max` is asked once, with how many buffers the worker has.
    fn poll_recv_upto(
        &mut self,
        buffers_max: impl FnOnce(u16) -> u16,
        cx: &Context<'_>,
    ) -> Poll<io::Result<Option<RecvBuffer>>> {
        context::with(|context| {
            let io = &mut *context.io.borrow_mut();
            let op = *self.recv.get_or_insert_with(|| {
                let op = super::driver::ops::OpTable::recv_op(
                    Handle::clone(&self.handle),
                    buffers_max(io.driver.buffers().count()),
                );
                io.ops.start(&mut *io.driver, op)
            });
            io.ops.poll_recv(&mut *io.driver, op, cx)
        })
    }

    /// Stops receiving until the next [`recv`](Self::recv), and gives what has arrived. More may arrive until
    /// [`poll_paused`](Self::poll_paused) is ready; after that the bytes wait in the socket, whose window then holds the
    /// peer back, and none in the worker's buffers.
    pub fn pause_recv(&mut self) -> Vec<RecvBuffer> {
        let Some(op) = self.recv else { return Vec::new() };
        context::with(|context| {
            let io = &mut *context.io.borrow_mut();
            io.ops.pause_recv(&mut *io.driver, op)
        })
    }

    /// Ready, a turn or two after [`pause_recv`](Self::pause_recv), once nothing more arrives by itself.
    pub fn poll_paused(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Some(op) = self.recv else { return Poll::Ready(()) };
        context::with(|context| context.io.borrow_mut().ops.poll_paused(op, cx))
    }

    /// True if bytes have come that were not given out yet, or wait in the kernel. A system call.
    pub fn has_more(&self) -> bool {
        context::with(|context| {
            let io = context.io.borrow();
            self.recv.is_some_and(|op| io.ops.has_received(op))
                || io.driver.unread_bytes(self.handle.fd()).is_ok_and(|bytes| bytes > 0)
        })
    }

    /// Starts to send all of `data`. Only one send may be in flight: [`poll_sent`](Self::poll_sent) must have been
    /// ready since the last.
    pub fn start_send(&mut self, data: Vec<u8>) {
        self.start_with(data, OpTable::start);
    }

    fn start_with(&mut self, data: Vec<u8>, start: impl FnOnce(&mut OpTable, &mut dyn Driver, Op) -> OpId) {
        debug_assert!(!self.is_sending(), "two sends in flight would mix their bytes");
        context::with(|context| {
            let io = &mut *context.io.borrow_mut();
            let op = Op::Send {
                socket: Handle::clone(&self.handle),
                data,
                sent: 0,
            };
            self.send = Some(start(&mut io.ops, &mut *io.driver, op));
        });
    }

    /// Ready when nothing is in flight: with the result of the last send and its memory.
    pub fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<(io::Result<()>, Vec<u8>)> {
        let Some(op) = self.send else {
            return Poll::Ready((Ok(()), Vec::new()));
        };
        let sent = ready!(context::with(|context| context.io.borrow_mut().ops.poll_send(op, cx)));
        self.send = None;
        Poll::Ready(sent)
    }

    /// As [`start_send`](Self::start_send), for a caller that need not see success: the memory goes to the worker's
    /// spare buffers by itself. A failure shows in the next [`poll_sent`](Self::poll_sent), and mostly in the next
    /// receive.
    pub fn start_send_detached(&mut self, data: Vec<u8>) {
        self.start_with(data, OpTable::start_detached);
    }

    /// True while a send is in flight.
    pub fn is_sending(&self) -> bool {
        self.send
            .is_some_and(|op| context::with(|context| context.io.borrow().ops.is_sending(op)))
    }

    /// Bytes of the send in flight that the kernel has taken so far; 0 with none in flight. It grows while the peer reads.
    pub fn taken_bytes(&self) -> usize {
        self.send
            .map_or(0, |op| context::with(|context| context.io.borrow().ops.progress(op).0))
    }

    /// Bytes of the send in flight that the kernel has not taken: they are held here.
    pub fn unsent_bytes(&self) -> usize {
        let Some(op) = self.send else { return 0 };
        let (taken, all) = context::with(|context| context.io.borrow().ops.progress(op));
        all.saturating_sub(taken)
    }

    /// Lets the close throw away what the peer has not taken and reset the connection: for a peer that has had its
    /// chance, whose bytes the kernel would otherwise keep for as long as it takes one now and then.
    pub fn reset_on_close(&self) {
        context::with(|context| {
            // Refused: then the kernel keeps them.
            let _ = context.io.borrow_mut().driver.reset_on_close(self.handle.fd());
        });
    }

    /// How long the kernel holds on to bytes that the peer does not take, before it gives the connection up, closed or
    /// not. Not while the peer's pace is watched from here: the kernel counts from when the peer's window was first full,
    /// and the window opening by less than the next piece does not set it back, so it would cut off who reads slowly.
    ///
    /// # Errors
    /// Those of setsockopt(2), where this is no TCP.
    pub fn give_up_after(&self, time: Duration) -> io::Result<()> {
        context::with(|context| context.io.borrow_mut().driver.give_up_after(self.handle.fd(), time))
    }

    /// Bytes that were sent, of this send and those before, and wait in the kernel for the peer to take them; the end of
    /// the stream counts as one. A system call; 0 where the connection is broken or the kernel does not tell.
    pub fn queued_bytes(&self) -> usize {
        context::with(|context| context.io.borrow().driver.queued_bytes(self.handle.fd()).unwrap_or(0))
    }

    /// Sends all of `data`; gives the memory back.
    ///
    /// # Errors
    /// Those of send(2); how much was sent before is not known.
    pub async fn send(&mut self, data: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.start_send(data);
        poll_fn(|cx| self.poll_sent(cx)).await
    }

    /// Ends one or both directions.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        context::with(|context| context.io.borrow_mut().driver.shutdown(self.handle.fd(), how))
    }

    /// How soon a silent death of the peer is noticed, on TCP.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_keepalive(&self, keepalive: &Keepalive) -> io::Result<()> {
        context::with(|context| {
            let io = &mut *context.io.borrow_mut();
            io.driver.set_keepalive(self.handle.fd(), keepalive)
        })
    }

    /// True for a Unix socket; of a socket that broke, too.
    pub fn is_unix(&self) -> bool {
        context::with(|context| {
            let local = context.io.borrow().driver.local_addr(self.handle.fd());
            local.is_ok_and(|addr| addr.address_family() == rustix::net::AddressFamily::UNIX)
        })
    }

    /// The other end, where it is an IP address.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        context::with(|context| {
            let addr = context.io.borrow().driver.peer_addr(self.handle.fd()).ok()??;
            SocketAddr::try_from(addr).ok()
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        abandon(self.recv);
        abandon(self.send);
    }
}

/// Abandons an operation unless it was disarmed.
struct Abandon(Option<OpId>);

impl Drop for Abandon {
    fn drop(&mut self) {
        abandon(self.0);
    }
}
