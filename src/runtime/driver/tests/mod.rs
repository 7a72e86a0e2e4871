//! One suite for every driver, through the operation table: what `net` may rely on.
//!
//! - this file: [`Rig`], a driver and a table with nothing above them
//! - `exchange`: a client and a server, step by step
//! - `conformance`: the suite
//! - `outside`: real sockets with the test at the other end

mod conformance;
mod exchange;
mod outside;

pub(super) use exchange::Exchange;

use super::buffers::RecvBuffer;
use super::epoll::EpollDriver;
use super::ops::OpTable;
use super::sim::{SimConfig, SimDriver, SimNet};
use super::uring::UringDriver;
use super::{CloseQueue, Driver, Event, Handle, HandleInner, Op, OpId, Park, SocketAddrAny};
use crate::limits::runtime::RECV_QUEUE_BUFFERS_MAX as BUFFERS_MAX;
use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A driver and a table without an executor: tests poll by hand after each turn.
pub(super) struct Rig {
    pub(super) driver: Box<dyn Driver>,
    pub(super) table: OpTable,
    closing: CloseQueue,
    events: Vec<Event>,
    accepts: HashSet<OpId>,
    /// Given out by the driver and not yet closed.
    open: HashSet<RawFd>,
    /// Bytes that are more than the socket buffers of both ends hold.
    big_bytes: usize,
    /// Connections that together can queue more buffers than there are.
    many: usize,
    pub(super) net: Option<SimNet>,
    next_port: u16,
    /// Every result below zero, by errno, and whether a multishot operation ended well: what a run has met.
    pub(super) met: HashSet<(i32, bool)>,
}

fn poll<T>(poll: impl FnOnce(&Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Rig {
    fn over(driver: Box<dyn Driver>, big_bytes: usize, many: usize) -> Rig {
        let closing: CloseQueue = Rc::default();
        Rig {
            table: OpTable::new(driver.buffers(), Rc::clone(&closing)),
            driver,
            closing,
            events: Vec::new(),
            accepts: HashSet::new(),
            open: HashSet::new(),
            big_bytes,
            many,
            net: None,
            next_port: 1000,
            met: HashSet::new(),
        }
    }

    fn epoll() -> Option<Rig> {
        Some(Rig::over(Box::new(EpollDriver::new().unwrap()), 16 << 20, 160))
    }

    fn uring() -> Option<Rig> {
        match UringDriver::new() {
            Ok(driver) => Some(Rig::over(Box::new(driver), 16 << 20, 160)),
            Err(error) => {
                println!("SKIPPED: no io_uring here: {error}");
                None
            }
        }
    }

    /// As on a kernel before 6.10.
    fn uring_without_accept_now() -> Option<Rig> {
        let mut driver = UringDriver::new().ok()?;
        driver.forget_accept_now();
        Some(Rig::over(Box::new(driver), 16 << 20, 160))
    }

    pub(super) fn sim(seed: u64, config: SimConfig) -> Rig {
        let (driver, net) = SimDriver::new(seed, config);
        let mut rig = Rig::over(Box::new(driver), 30_000, 12);
        rig.net = Some(net);
        rig
    }

    /// One turn as the executor does it. Returns how many events there were.
    pub(super) fn turn(&mut self, park: Park) -> usize {
        // Before the wait: the peers of what was dropped since the last turn wait for their end of stream.
        self.close_dropped();
        self.table.feed(self.driver.as_mut());
        let mut events = std::mem::take(&mut self.events);
        self.driver.turn(park, &mut events).unwrap();
        let count = events.len();
        for event in events.drain(..) {
            self.met.insert((event.result.min(0), event.more));
            if self.accepts.contains(&event.op) && event.result >= 0 && !self.table.asks(event.op) {
                assert!(self.open.insert(event.result), "accepted twice: {event:?}");
            }
            self.table.apply(self.driver.as_mut(), event);
        }
        self.events = events;
        self.close_dropped();
        count
    }

    fn close_dropped(&mut self) {
        let mut closing = std::mem::take(&mut *self.closing.borrow_mut());
        for fd in closing.drain(..) {
            assert!(self.open.remove(&fd), "closed and not open: {fd}");
            self.driver.close(fd);
        }
    }

    /// Turns until `step` gives a value. A turn in which nothing happens although something is waited for fails.
    pub(super) fn until<T>(&mut self, what: &str, mut step: impl FnMut(&mut Rig) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = step(self) {
                return value;
            }
            let asleep = Instant::now();
            // The simulation itself says when it would sleep for ever.
            let count = self.turn(match self.net {
                Some(_) => Park::Forever,
                None => Park::For(Duration::from_secs(5)),
            });
            assert!(
                count > 0 || asleep.elapsed() < Duration::from_secs(4),
                "stalled: {what}"
            );
            assert!(begun.elapsed() < Duration::from_secs(60), "takes for ever: {what}");
        }
    }

    pub(super) fn settle(&mut self, turns: usize) {
        // One event of the simulation is one turn.
        for _ in 0..if self.net.is_some() { 30 * turns } else { turns } {
            self.turn(Park::For(Duration::from_millis(2)));
        }
    }

    pub(super) fn handle(&mut self, fd: RawFd) -> Handle {
        HandleInner::new(fd, Rc::clone(&self.closing))
    }

    pub(super) fn listen(&mut self) -> (Handle, SocketAddrAny) {
        if let Some(net) = &self.net {
            self.next_port += 1;
            let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.next_port));
            let fd = net.listen(addr.clone());
            self.open.insert(fd);
            return (self.handle(fd), addr);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = SocketAddrAny::from(listener.local_addr().unwrap());
        let fd = self.driver.adopt(listener.into()).unwrap();
        self.open.insert(fd);
        assert_eq!(self.driver.local_addr(fd).unwrap(), addr);
        (self.handle(fd), addr)
    }

    pub(super) fn socket(&mut self, addr: &SocketAddrAny) -> Handle {
        let fd = self.driver.socket(addr).unwrap();
        self.open.insert(fd);
        self.handle(fd)
    }

    pub(super) fn start(&mut self, op: Op) -> OpId {
        let accept = matches!(op, Op::Accept { .. });
        let id = self.table.start(self.driver.as_mut(), op);
        if accept {
            self.accepts.insert(id);
        }
        id
    }

    pub(super) fn accept(&mut self, listener: &Handle) -> OpId {
        self.start(OpTable::accept_op(Rc::clone(listener), false, false))
    }

    pub(super) fn connect(&mut self, socket: &Handle, addr: &SocketAddrAny) -> OpId {
        self.start(Op::Connect {
            socket: Rc::clone(socket),
            addr: Box::new(addr.clone()),
        })
    }

    pub(super) fn recv(&mut self, socket: &Handle) -> OpId {
        self.start(OpTable::recv_op(Rc::clone(socket), BUFFERS_MAX))
    }

    pub(super) fn send(&mut self, socket: &Handle, data: Vec<u8>) -> OpId {
        self.start(Op::Send {
            socket: Rc::clone(socket),
            data,
            sent: 0,
        })
    }

    pub(super) fn poll_recv(&mut self, id: OpId) -> Option<io::Result<Option<RecvBuffer>>> {
        poll(|cx| self.table.poll_recv(self.driver.as_mut(), id, cx))
    }

    pub(super) fn poll_accept(&mut self, id: OpId) -> Option<io::Result<RawFd>> {
        poll(|cx| self.table.poll_accept(self.driver.as_mut(), id, false, cx))
    }

    pub(super) fn poll_accept_one(&mut self, id: OpId) -> Option<io::Result<RawFd>> {
        let accepted = poll(|cx| self.table.poll_accept(self.driver.as_mut(), id, true, cx));
        if let Some(Ok(fd)) = accepted {
            // There was no event for it where the driver only says that somebody is there.
            self.open.insert(fd);
        }
        accepted
    }

    pub(super) fn poll_send(&mut self, id: OpId) -> Option<io::Result<()>> {
        poll(|cx| self.table.poll_send(id, cx)).map(|(result, _)| result)
    }

    pub(super) fn poll_connect(&mut self, id: OpId) -> Option<io::Result<()>> {
        poll(|cx| self.table.poll_connect(id, cx))
    }

    pub(super) fn abandon(&mut self, id: OpId) {
        self.table.abandon(self.driver.as_mut(), id);
    }

    /// A connected client and server.
    pub(super) fn pair(&mut self) -> (Handle, Handle) {
        let (listener, addr) = self.listen();
        let accept = self.accept(&listener);
        let client = self.socket(&addr);
        let connect = self.connect(&client, &addr);
        self.until("connect", |rig| rig.poll_connect(connect)).unwrap();
        let fd = self.until("accept", |rig| rig.poll_accept(accept)).unwrap();
        let server = self.handle(fd);
        assert_eq!(
            self.driver.peer_addr(client.fd()).unwrap(),
            Some(self.driver.local_addr(server.fd()).unwrap())
        );
        self.abandon(accept);
        (client, server)
    }

    /// Receives until the end of the stream.
    pub(super) fn read_all(&mut self, recv: OpId) -> io::Result<Vec<u8>> {
        let mut got = Vec::new();
        self.until("everything", |rig| {
            loop {
                match rig.poll_recv(recv)? {
                    Ok(Some(bytes)) => got.extend_from_slice(&bytes),
                    Ok(None) => return Some(Ok(())),
                    Err(error) => return Some(Err(error)),
                }
            }
        })?;
        Ok(got)
    }

    /// Abandons everything and checks that nothing is left: operations, buffers, descriptors.
    pub(super) fn assert_clean(&mut self) {
        self.table.abandon_all(self.driver.as_mut());
        self.until("everything let go of", |rig| rig.table.is_empty().then_some(()));
        self.turn(Park::Poll);
        self.turn(Park::Poll);
        assert_eq!(self.driver.buffers().taken(), 0, "buffers are missing");
        assert!(self.open.is_empty(), "descriptors are left open: {:?}", self.open);
        if let Some(net) = &self.net {
            assert_eq!((net.open_fds(), net.armed(), net.buffers_out()), (vec![], vec![], 0));
        }
    }
}

pub(super) fn pattern(bytes: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut data = vec![0; bytes];
    rng.fill(&mut data);
    data
}
