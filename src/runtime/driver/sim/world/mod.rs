//! Sockets, the pipes between them, and the agenda of what happens when.
//!
//! An operation is tried when its agenda entry comes due, and again whenever what it waited for has changed. All
//! collections are ordered, so that a seed always gives the same run.
//!
//! - `operations`: what an operation does when it is tried
//! - `faults`: resets, and what a test does to a connection

mod faults;
mod operations;

use super::SimConfig;
use crate::runtime::driver::buffers::{BufferId, BufferPool};
use crate::runtime::driver::{Event, Op, OpId, Shutdown, SocketAddrAny};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::hash::Hasher;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Held back until healed.
const NEVER: u64 = u64::MAX;
/// The lowest descriptor; small numbers would hide a mix-up with the process's own.
const FIRST_FD: RawFd = 1000;
const TRACE_LINES: usize = 300;

type Key = u64;

#[derive(Debug, Clone, Copy)]
enum Action {
    /// Gives the operation a chance.
    Try(Key),
    /// Ends the operation, if it is still the same arming, with this errno.
    End(Key, u64, Errno),
    /// Something has arrived at this end of the connection.
    Arrive(u64, usize),
}

#[derive(Debug)]
enum Kind {
    /// One connection, or as many as come; or only whether there is one.
    Accept {
        single: bool,
        asks: bool,
    },
    Recv,
    Send {
        data: *const u8,
        bytes: usize,
        hash: u64,
    },
    Connect(SocketAddrAny),
}

#[derive(Debug)]
struct Armed {
    id: OpId,
    fd: RawFd,
    kind: Kind,
    /// Which arming: a cancel must not hit the next one.
    serial: u64,
}

#[derive(Debug)]
enum Role {
    Fresh,
    Listener {
        addr: SocketAddrAny,
        backlog: VecDeque<u64>,
        is_hushed: bool,
    },
    Stream {
        conn: u64,
        side: usize,
    },
}

#[derive(Debug)]
struct Socket {
    role: Role,
    /// The armed accept or receive.
    reader: Option<Key>,
    /// The armed send or connect.
    writer: Option<Key>,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    /// When they arrive, and the bytes.
    chunks: VecDeque<(u64, VecDeque<u8>)>,
    bytes: usize,
    last_ns: u64,
    /// When the end of the stream arrives.
    fin_ns: Option<u64>,
}

#[derive(Debug)]
struct End {
    /// Its descriptor; none before it is accepted and after it is closed.
    fd: Option<RawFd>,
    closed: bool,
    addr: SocketAddrAny,
    no_read: bool,
    no_write: bool,
    /// When a reset arrives.
    reset_ns: Option<u64>,
    reset_told: bool,
}

#[derive(Debug)]
struct Conn {
    /// By the side that writes.
    pipes: [Pipe; 2],
    ends: [End; 2],
    held: bool,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) config: SimConfig,
    pub(super) rng: fastrand::Rng,
    pub(super) now_ns: u64,
    pub(super) pool: Rc<BufferPool>,
    pub(super) events: Vec<Event>,
    agenda: BTreeMap<(u64, u64), Action>,
    sequence: u64,
    sockets: BTreeMap<RawFd, Socket>,
    conns: BTreeMap<u64, Conn>,
    ops: BTreeMap<Key, Armed>,
    free: Vec<BufferId>,
    with_driver: Vec<bool>,
    next_port: u16,
    /// Numbers that were given up, by the descriptor that stands for each.
    pub(super) released: BTreeMap<RawFd, RawFd>,
    trace: VecDeque<(u64, &'static str, i64, i64)>,
    /// Halves of connections that were ended while bytes lay unread.
    pub(super) ended_over_unread: usize,
}

impl World {
    pub(super) fn new(seed: u64, config: SimConfig) -> World {
        let pool = BufferPool::new(config.buffers, config.buffer_bytes);
        World {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now_ns: 0,
            events: Vec::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            sockets: BTreeMap::new(),
            conns: BTreeMap::new(),
            ops: BTreeMap::new(),
            free: Vec::new(),
            with_driver: vec![false; usize::from(pool.count())],
            pool,
            next_port: 40_000,
            released: BTreeMap::new(),
            trace: VecDeque::new(),
            ended_over_unread: 0,
            config,
        }
    }

    fn violation(&self, what: &str, fd: RawFd) -> ! {
        // The trace follows when the world is dropped.
        panic!(
            "the driver's contract is broken: {what} (descriptor {fd}, seed {})",
            self.seed
        )
    }

    fn note(&mut self, what: &'static str, about: i64, value: i64) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back((self.now_ns, what, about, value));
    }

    pub(super) fn trace(&self) -> String {
        let mut text = String::new();
        for (at, what, about, value) in &self.trace {
            let _ = writeln!(text, "{:>14} ns  {what:<12} {about:>6} {value}", at);
        }
        text
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.f64() < probability
    }

    fn after_delay(&mut self) -> u64 {
        let usual = self.rng.u64(0..=self.config.delay_ns_max);
        let factor = if self.rng.u8(0..32) == 0 { 20 } else { 1 };
        self.now_ns + usual * factor
    }

    fn schedule(&mut self, at_ns: u64, action: Action) {
        self.sequence += 1;
        self.agenda.insert((at_ns, self.sequence), action);
    }

    fn try_soon(&mut self, key: Option<Key>) {
        if let Some(key) = key {
            let at = self.after_delay();
            self.schedule(at, Action::Try(key));
        }
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn run_due(&mut self) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now_ns
        {
            match entry.remove() {
                Action::Try(key) => self.try_op(key),
                Action::End(key, serial, errno) => {
                    if self.ops.get(&key).is_some_and(|op| op.serial == serial) {
                        if errno == Errno::CANCELED && self.chance(self.config.cancel_race) {
                            self.try_op(key);
                        }
                        if self.ops.contains_key(&key) {
                            self.end(key, -errno.raw_os_error());
                        }
                    }
                }
                Action::Arrive(conn, side) => {
                    let fd = self.conns.get(&conn).and_then(|conn| conn.ends[side].fd);
                    if let Some(socket) = fd.and_then(|fd| self.sockets.get(&fd)) {
                        let (reader, writer) = (socket.reader, socket.writer);
                        if let Some(key) = reader {
                            self.try_op(key);
                        }
                        self.try_soon(writer);
                    }
                }
            }
        }
    }

    // What the driver is asked for.

    pub(super) fn arm(&mut self, id: OpId, op: &mut Op) {
        let fd = op.fd();
        let key = id.to_bits();
        let (is_reader, kind) = match op {
            Op::Accept { single, asks, .. } => {
                let single = *single;
                *asks = single && self.chance(self.config.ask);
                (true, Kind::Accept { single, asks: *asks })
            }
            Op::Recv { .. } => (true, Kind::Recv),
            Op::Send { data, sent, .. } => {
                let rest = data.get(*sent..).unwrap_or_default();
                let kind = Kind::Send {
                    data: rest.as_ptr(),
                    bytes: rest.len(),
                    hash: hash(rest),
                };
                (false, kind)
            }
            Op::Connect { addr, .. } => (false, Kind::Connect((**addr).clone())),
        };
        self.note("arm", i64::from(fd), key as u32 as i64);
        if self.ops.contains_key(&key) {
            self.violation("an operation is armed twice", fd);
        }
        let Some(socket) = self.sockets.get_mut(&fd) else {
            self.violation("an operation is armed on a closed descriptor", fd)
        };
        let place = if is_reader {
            &mut socket.reader
        } else {
            &mut socket.writer
        };
        if place.replace(key).is_some() {
            self.violation("two operations of one direction on one socket", fd);
        }
        self.sequence += 1;
        let serial = self.sequence;
        self.ops.insert(key, Armed { id, fd, kind, serial });
        self.try_soon(Some(key));
    }

    pub(super) fn cancel(&mut self, id: OpId, fd: RawFd) {
        self.note("cancel", i64::from(fd), i64::from(id.index));
        // Its last event may be on its way to the table: then there is nothing to cancel.
        if let Some(serial) = self.ops.get(&id.to_bits()).map(|op| op.serial) {
            let at = self.after_delay();
            self.schedule(at, Action::End(id.to_bits(), serial, Errno::CANCELED));
        }
    }

    pub(super) fn take_buffers_back(&mut self) {
        let mut ids = Vec::new();
        self.pool.take_returned(&mut ids);
        for id in ids {
            if std::mem::replace(&mut self.with_driver[usize::from(id)], true) {
                self.violation("a buffer is given back twice", -1);
            }
            self.free.push(id);
        }
    }

    fn new_fd(&mut self, role: Role) -> RawFd {
        // The lowest free one, as the kernel does: a stale number soon means another socket.
        let mut fd = FIRST_FD;
        while self.sockets.contains_key(&fd) {
            fd += 1;
        }
        let socket = Socket {
            role,
            reader: None,
            writer: None,
        };
        self.sockets.insert(fd, socket);
        fd
    }

    pub(super) fn listen(&mut self, addr: SocketAddrAny) -> RawFd {
        self.new_fd(Role::Listener {
            addr,
            backlog: VecDeque::new(),
            is_hushed: false,
        })
    }

    pub(super) fn socket(&mut self) -> RawFd {
        self.new_fd(Role::Fresh)
    }

    pub(super) fn close(&mut self, fd: RawFd) {
        self.note("close", i64::from(fd), 0);
        let Some(socket) = self.sockets.remove(&fd) else {
            self.violation("a descriptor is closed that is not open", fd)
        };
        if socket.reader.is_some() || socket.writer.is_some() {
            self.violation("a descriptor is closed under an armed operation", fd);
        }
        match socket.role {
            Role::Fresh => {}
            Role::Listener { backlog, .. } => {
                for conn in backlog {
                    self.close_end(conn, 1);
                }
            }
            Role::Stream { conn, side } => self.close_end(conn, side),
        }
    }

    fn close_end(&mut self, id: u64, side: usize) {
        let at = self.after_delay();
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let accepted = conn.ends[side].fd.take().is_some();
        conn.ends[side].closed = true;
        let unread = conn.pipes[1 - side].bytes > 0;
        if unread || !accepted {
            let at = if conn.held {
                NEVER
            } else {
                at.max(conn.pipes[side].last_ns)
            };
            conn.ends[1 - side].reset_ns.get_or_insert(at);
            self.arrives(id, 1 - side, at);
        } else {
            self.finish(id, side, at);
        }
        if self
            .conns
            .get(&id)
            .is_some_and(|conn| conn.ends.iter().all(|end| end.closed))
        {
            self.conns.remove(&id);
        }
    }

    fn arrives(&mut self, conn: u64, side: usize, at_ns: u64) {
        if at_ns != NEVER {
            self.schedule(at_ns, Action::Arrive(conn, side));
        }
    }

    /// Sends the end of the stream.
    fn finish(&mut self, id: u64, side: usize, at: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let held = conn.held;
        let pipe = &mut conn.pipes[side];
        if pipe.fin_ns.is_none() {
            let at = if held { NEVER } else { at.max(pipe.last_ns) };
            pipe.fin_ns = Some(at);
            self.arrives(id, 1 - side, at);
        }
    }

    fn stream(&self, fd: RawFd) -> Result<(u64, usize), Errno> {
        match self.sockets.get(&fd).map(|socket| &socket.role) {
            Some(Role::Stream { conn, side }) => Ok((*conn, *side)),
            Some(_) => Err(Errno::NOTCONN),
            None => self.violation("a closed descriptor is used", fd),
        }
    }

    pub(super) fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> Result<(), Errno> {
        self.note("shutdown", i64::from(fd), 0);
        let (id, side) = self.stream(fd)?;
        if how == Shutdown::Write && self.unread_bytes(fd)? > 0 {
            self.ended_over_unread += 1;
        }
        let at = self.after_delay();
        let now = self.now_ns;
        let conn = self.conns.get_mut(&id).ok_or(Errno::NOTCONN)?;
        let end = &mut conn.ends[side];
        if end.reset_ns.is_some_and(|at| at <= now) {
            return Err(Errno::NOTCONN);
        }
        end.no_read |= how != Shutdown::Write;
        end.no_write |= how != Shutdown::Read;
        if how != Shutdown::Read {
            self.finish(id, side, at);
        }
        self.arrives(id, side, at);
        Ok(())
    }

    pub(super) fn addr(&self, fd: RawFd, of_peer: bool) -> Result<SocketAddrAny, Errno> {
        if let (Some(Role::Listener { addr, .. }), false) = (self.sockets.get(&fd).map(|socket| &socket.role), of_peer)
        {
            return Ok(addr.clone());
        }
        let (conn, side) = self.stream(fd)?;
        let conn = self.conns.get(&conn).ok_or(Errno::NOTCONN)?;
        Ok(conn.ends[if of_peer { 1 - side } else { side }].addr.clone())
    }

    /// Bytes on their way from this end, or arrived and not yet read.
    pub(super) fn queued_bytes(&self, fd: RawFd) -> Result<usize, Errno> {
        let (conn, side) = self.stream(fd)?;
        Ok(self.conns.get(&conn).map_or(0, |conn| conn.pipes[side].bytes))
    }

    /// Bytes that have arrived at this end and are not yet read.
    pub(super) fn unread_bytes(&self, fd: RawFd) -> Result<usize, Errno> {
        let (conn, side) = self.stream(fd)?;
        let pipe = self.conns.get(&conn).map(|conn| &conn.pipes[1 - side]);
        let arrived = |pipe: &Pipe| {
            let chunks = pipe.chunks.iter().take_while(|(at, _)| *at <= self.now_ns);
            chunks.map(|(_, chunk)| chunk.len()).sum()
        };
        Ok(pipe.map_or(0, arrived))
    }

    /// A listener drops the first packets of connections from now on.
    pub(super) fn hush(&mut self, fd: RawFd) {
        self.note("hush", i64::from(fd), 0);
        if let Some(Role::Listener { is_hushed, .. }) = self.sockets.get_mut(&fd).map(|socket| &mut socket.role) {
            *is_hushed = true;
        }
    }

    // What the test looks at.

    pub(super) fn open_fds(&self) -> Vec<RawFd> {
        self.sockets.keys().copied().collect()
    }

    pub(super) fn armed(&self) -> Vec<(OpId, RawFd)> {
        self.ops.values().map(|op| (op.id, op.fd)).collect()
    }

    pub(super) fn buffers_out(&self) -> usize {
        self.with_driver.iter().filter(|with| !**with).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "simulation, seed {}: the last {} steps\n{}",
                self.seed,
                self.trace.len(),
                self.trace()
            );
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
