//! One suite for every driver, through the operation table: what `net` may rely on.

use super::buffers::RecvBuffer;
use super::epoll::EpollDriver;
use super::ops::OpTable;
use super::sim::{SimConfig, SimDriver, SimNet, run_seeds};
use super::uring::UringDriver;
use super::{CloseQueue, Driver, Event, Handle, Op, OpId, Park, Shutdown, SocketAddrAny};
use crate::limits::runtime::RECV_QUEUE_BUFFERS_MAX;
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

    pub(super) fn sim(seed: u64, config: SimConfig) -> Rig {
        let (driver, net) = SimDriver::new(seed, config);
        let mut rig = Rig::over(Box::new(driver), 60_000, 12);
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
            if self.accepts.contains(&event.op) && event.result >= 0 {
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
        self.table.handle(fd)
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
        self.start(Op::Accept {
            listener: Rc::clone(listener),
            ready: Vec::new(),
        })
    }

    pub(super) fn connect(&mut self, socket: &Handle, addr: &SocketAddrAny) -> OpId {
        self.start(Op::Connect {
            socket: Rc::clone(socket),
            addr: Box::new(addr.clone()),
        })
    }

    pub(super) fn recv(&mut self, socket: &Handle) -> OpId {
        self.start(OpTable::recv_op(Rc::clone(socket)))
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
        poll(|cx| self.table.poll_accept(self.driver.as_mut(), id, cx))
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

/// A client that sends `payload`, a server that echoes it, a half-close, and the ends of both streams.
pub(super) struct Exchange {
    client: Option<Handle>,
    server: Option<Handle>,
    connect: Option<OpId>,
    accept: Option<OpId>,
    client_recv: Option<OpId>,
    server_recv: Option<OpId>,
    client_send: Option<OpId>,
    server_send: Option<OpId>,
    payload: Vec<u8>,
    to_echo: Vec<u8>,
    /// All that the server got.
    got: Vec<u8>,
    echoed: Vec<u8>,
    half_closed: bool,
    server_done: bool,
    client_done: bool,
    failed: Option<io::Error>,
}

impl Exchange {
    pub(super) fn begin(rig: &mut Rig, listener: &Handle, addr: &SocketAddrAny, payload: Vec<u8>) -> Exchange {
        let accept = Some(rig.accept(listener));
        let client = rig.socket(addr);
        let connect = Some(rig.connect(&client, addr));
        Exchange {
            client: Some(client),
            server: None,
            connect,
            accept,
            client_recv: None,
            server_recv: None,
            client_send: None,
            server_send: None,
            payload,
            to_echo: Vec::new(),
            got: Vec::new(),
            echoed: Vec::new(),
            half_closed: false,
            server_done: false,
            client_done: false,
            failed: None,
        }
    }

    /// Goes as far as it can; true at the end, good or bad.
    pub(super) fn step(&mut self, rig: &mut Rig) -> bool {
        match self.try_step(rig) {
            Ok(()) => {}
            Err(error) => self.failed = Some(error),
        }
        (self.client_done && self.server_done) || self.failed.is_some()
    }

    fn try_step(&mut self, rig: &mut Rig) -> io::Result<()> {
        if let Some(id) = self.connect
            && let Some(result) = rig.poll_connect(id)
        {
            self.connect = None;
            result?;
            let client = self.client.clone().unwrap();
            self.client_recv = Some(rig.recv(&client));
            self.client_send = Some(rig.send(&client, self.payload.clone()));
        }
        if let Some(id) = self.accept
            && let Some(result) = rig.poll_accept(id)
        {
            rig.abandon(id);
            self.accept = None;
            let server = rig.handle(result?);
            self.server_recv = Some(rig.recv(&server));
            self.server = Some(server);
        }
        if let Some(id) = self.client_send
            && let Some(result) = rig.poll_send(id)
        {
            self.client_send = None;
            result?;
        }
        while let Some(id) = self.server_recv
            && let Some(result) = rig.poll_recv(id)
        {
            match result? {
                Some(bytes) => {
                    self.to_echo.extend_from_slice(&bytes);
                    self.got.extend_from_slice(&bytes);
                }
                None => {
                    rig.abandon(id);
                    self.server_recv = None;
                    self.server_done = true;
                }
            }
        }
        if let Some(id) = self.server_send
            && let Some(result) = rig.poll_send(id)
        {
            self.server_send = None;
            result?;
        }
        if let (None, Some(server), false) = (self.server_send, &self.server, self.to_echo.is_empty()) {
            let data = std::mem::take(&mut self.to_echo);
            self.server_send = Some(rig.send(server, data));
        }
        while let Some(id) = self.client_recv
            && let Some(result) = rig.poll_recv(id)
        {
            match result? {
                Some(bytes) => self.echoed.extend_from_slice(&bytes),
                None => {
                    rig.abandon(id);
                    self.client_recv = None;
                    self.client_done = true;
                }
            }
        }
        if self.echoed.len() == self.payload.len()
            && self.client_send.is_none()
            && self.client_recv.is_some()
            && !self.half_closed
        {
            self.half_closed = true;
            rig.driver
                .shutdown(self.client.as_ref().unwrap().fd(), Shutdown::Write)?;
        }
        if self.server_done && self.server_send.is_none() {
            self.server = None;
        }
        Ok(())
    }

    /// Lets go in the middle of whatever it is doing.
    pub(super) fn abandon(self, rig: &mut Rig) {
        let ops = [
            self.connect,
            self.accept,
            self.client_recv,
            self.server_recv,
            self.client_send,
            self.server_send,
        ];
        for id in ops.into_iter().flatten() {
            rig.abandon(id);
        }
    }

    /// However it ended: what came through is a beginning of what was sent, and an end of stream comes only after
    /// all of it.
    pub(super) fn assert_honest(&self) {
        assert!(self.payload.starts_with(&self.got), "the server got something else");
        assert!(self.payload.starts_with(&self.echoed), "the client got something else");
        if self.failed.is_none() && self.client_done && self.server_done {
            self.assert_good();
        }
    }

    pub(super) fn assert_good(&self) {
        assert!(self.failed.is_none(), "{:?}", self.failed);
        assert!(self.echoed == self.payload, "the echo differs");
    }
}

fn echo(rig: &mut Rig) {
    for bytes in [1, 100, 4096, 4097, 60_000] {
        let (listener, addr) = rig.listen();
        let mut exchange = Exchange::begin(rig, &listener, &addr, pattern(bytes, 1));
        rig.until("an echo", |rig| exchange.step(rig).then_some(()));
        exchange.assert_good();
    }
}

fn many_connections_at_once(rig: &mut Rig) {
    let mut all = Vec::new();
    for at in 0..30 {
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
    assert!(taken >= RECV_QUEUE_BUFFERS_MAX, "{taken}");
    // A driver may have more under way when it is told to stop. io_uring fills as many buffers as there are bytes in
    // the socket before it comes back from one wait; the simulation
    // cancels when it likes.
    if rig.driver.name() == "epoll" {
        assert!(
            taken <= RECV_QUEUE_BUFFERS_MAX * 2,
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

fn receives_that_find_no_buffer_lose_nothing(rig: &mut Rig) {
    let mut streams = Vec::new();
    let each = 40_000;
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
    for _ in 0..20 {
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
    a_big_send_meets_a_slow_reader
    a_reader_that_does_not_read_stops_the_sender
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
