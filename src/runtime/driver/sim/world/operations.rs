//! What an operation does when it is tried: something, nothing yet, or its end.
#![allow(unsafe_code)] // Reason: reads the bytes of an armed send where they lie, as the kernel does.

use super::{Action, BufferId, Conn, End, Event, Key, Kind, NEVER, Role, Socket, SocketAddrAny, World, hash};
use rustix::io::Errno;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;

impl World {
    /// The last event.
    pub(super) fn end(&mut self, key: Key, result: i32) {
        self.tell(key, result, None, false);
    }

    fn tell(&mut self, key: Key, result: i32, buffer: Option<BufferId>, more: bool) {
        let Some(op) = self.ops.get(&key) else { return };
        let (id, fd) = (op.id, op.fd);
        self.events.push(Event {
            op: id,
            result,
            buffer,
            more,
        });
        self.note(
            if more { "event" } else { "last event" },
            i64::from(fd),
            i64::from(result),
        );
        if !more {
            self.ops.remove(&key);
            if let Some(socket) = self.sockets.get_mut(&fd) {
                for place in [&mut socket.reader, &mut socket.writer] {
                    place.take_if(|held| *held == key);
                }
            }
        }
    }

    pub(super) fn try_op(&mut self, key: Key) {
        if !self.ops.contains_key(&key) {
            return;
        }
        if self.chance(self.config.interrupt) {
            return self.end(key, -Errno::INTR.raw_os_error());
        }
        let Some(op) = self.ops.get(&key) else { return };
        let fd = op.fd;
        let outcome = match &op.kind {
            Kind::Accept { single, asks } => self.try_accept(key, fd, *single, *asks),
            Kind::Recv => self.try_recv(key, fd),
            Kind::Send {
                data,
                bytes,
                hash: before,
            } => {
                // SAFETY: none if the caller breaks invariant 3, which is what this looks for; otherwise the table
                // keeps the vector unmoved until the last event, which has not been told.
                let data = unsafe { std::slice::from_raw_parts(*data, *bytes) };
                if hash(data) != *before {
                    self.violation("the bytes of an armed send have changed", fd);
                }
                self.try_send(key, fd, data)
            }
            Kind::Connect(addr) => {
                let addr = addr.clone();
                self.try_connect(key, fd, addr)
            }
        };
        if let Err(errno) = outcome {
            self.end(key, -errno.raw_os_error());
        }
    }

    fn try_accept(&mut self, key: Key, fd: RawFd, single: bool, asks: bool) -> Result<(), Errno> {
        if asks {
            let listener = self.sockets.get(&fd).map(|socket| &socket.role);
            if matches!(listener, Some(Role::Listener { backlog, .. }) if !backlog.is_empty()) {
                self.end(key, 0);
            }
            return Ok(());
        }
        let Some(accepted) = self.accept(fd)? else {
            return Ok(());
        };
        let more = !single && !self.chance(self.config.end_multishot);
        self.tell(key, accepted, None, more);
        self.try_soon(Some(key));
        Ok(())
    }

    /// Takes one out of a listener's queue.
    pub(in crate::runtime::driver::sim) fn accept(&mut self, fd: RawFd) -> Result<Option<RawFd>, Errno> {
        let emfile = self.chance(self.config.too_many_files);
        let Some(Role::Listener { backlog, .. }) = self.sockets.get_mut(&fd).map(|socket| &mut socket.role) else {
            return Err(Errno::INVAL);
        };
        if backlog.is_empty() {
            return Ok(None);
        }
        if emfile {
            // Of the process, of the system, of the kernel's memory; accept(2) lists them together.
            let errors = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
            return Err(errors[self.rng.usize(0..errors.len())]);
        }
        let Some(conn) = backlog.pop_front() else {
            return Ok(None);
        };
        let accepted = self.new_fd(Role::Stream { conn, side: 1 });
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.ends[1].fd = Some(accepted);
        }
        self.note("accepted", i64::from(fd), i64::from(accepted));
        Ok(Some(accepted))
    }

    fn try_recv(&mut self, key: Key, fd: RawFd) -> Result<(), Errno> {
        let (id, side) = self.stream(fd)?;
        let now = self.now_ns;
        let starve = self.chance(self.config.no_buffers);
        let short = self.chance(self.config.short_read);
        let conn = self.conns.get_mut(&id).ok_or(Errno::NOTCONN)?;
        let end = &mut conn.ends[side];
        let pipe = &mut conn.pipes[1 - side];
        let arrived: usize = pipe
            .chunks
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, chunk)| chunk.len())
            .sum();
        if arrived == 0 {
            if end.reset_ns.is_some_and(|at| at <= now) && !end.reset_told {
                end.reset_told = true;
                return Err(Errno::CONNRESET);
            }
            if end.reset_told || end.no_read || pipe.fin_ns.is_some_and(|at| at <= now) {
                self.end(key, 0);
            }
            return Ok(());
        }
        if starve {
            return Err(Errno::NOBUFS);
        }
        let Some(buffer) = self.free.pop() else {
            return Err(Errno::NOBUFS);
        };
        self.with_driver[usize::from(buffer)] = false;
        let mut count = arrived.min(self.pool.buffer_bytes());
        if short {
            count = self.rng.usize(1..=count);
        }
        self.pool.fill(buffer, |bytes| {
            let mut target = bytes[..count].iter_mut();
            while target.len() > 0
                && let Some((_, chunk)) = pipe.chunks.front_mut()
            {
                let part = chunk.len().min(target.len());
                for (from, to) in chunk.drain(..part).zip(&mut target) {
                    *to = from;
                }
                if chunk.is_empty() {
                    pipe.chunks.pop_front();
                }
            }
        });
        pipe.bytes -= count;
        let writer = conn.ends[1 - side].fd;
        let more = !self.chance(self.config.end_multishot);
        self.tell(key, count as i32, Some(buffer), more);
        self.try_soon(Some(key));
        let room = writer
            .and_then(|fd| self.sockets.get(&fd))
            .and_then(|socket| socket.writer);
        self.try_soon(room);
        Ok(())
    }

    fn try_send(&mut self, key: Key, fd: RawFd, data: &[u8]) -> Result<(), Errno> {
        let (id, side) = self.stream(fd)?;
        let now = self.now_ns;
        if self.chance(self.config.reset) {
            self.reset(id, now);
        }
        let short = self.chance(self.config.short_write);
        let at = self.after_delay();
        let conn = self.conns.get_mut(&id).ok_or(Errno::PIPE)?;
        let end = &mut conn.ends[side];
        if end.reset_ns.is_some_and(|at| at <= now) && !end.reset_told {
            end.reset_told = true;
            return Err(Errno::CONNRESET);
        }
        if end.no_write || end.reset_told {
            return Err(Errno::PIPE);
        }
        if conn.ends[1 - side].closed {
            // Taken, lost, and answered with a reset.
            if !conn.held {
                conn.ends[side].reset_ns.get_or_insert(at);
                self.arrives(id, side, at);
            }
            self.end(key, data.len() as i32);
            return Ok(());
        }
        let pipe = &mut conn.pipes[side];
        let mut count = data
            .len()
            .min(self.config.socket_buffer_bytes.saturating_sub(pipe.bytes));
        if count == 0 && !data.is_empty() {
            return Ok(());
        }
        if short && count > 1 {
            count = self.rng.usize(1..=count);
        }
        let at = if conn.held { NEVER } else { at.max(pipe.last_ns) };
        if at != NEVER {
            pipe.last_ns = at;
        }
        pipe.bytes += count;
        pipe.chunks.push_back((at, data[..count].iter().copied().collect()));
        self.arrives(id, 1 - side, at);
        self.end(key, count as i32);
        Ok(())
    }

    fn try_connect(&mut self, key: Key, fd: RawFd, to: SocketAddrAny) -> Result<(), Errno> {
        if !matches!(self.sockets.get(&fd).map(|socket| &socket.role), Some(Role::Fresh)) {
            return Err(Errno::ISCONN);
        }
        let serial = self.ops.get(&key).map_or(0, |op| op.serial);
        if self.chance(self.config.connect_timeout) {
            let at = self.now_ns + self.config.connect_timeout_ns;
            self.schedule(at, Action::End(key, serial, Errno::TIMEDOUT));
            return Ok(());
        }
        let listening = |(fd, socket): (&RawFd, &Socket)| match &socket.role {
            Role::Listener { addr, .. } if *addr == to => Some(*fd),
            _ => None,
        };
        let listeners: Vec<RawFd> = self.sockets.iter().filter_map(listening).collect();
        if listeners.is_empty() || self.chance(self.config.refuse) {
            return Err(Errno::CONNREFUSED);
        }
        let listener = listeners[self.rng.usize(0..listeners.len())];
        let now = self.now_ns;
        let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.next_port).into();
        let Some(Role::Listener { backlog, is_hushed, .. }) =
            self.sockets.get_mut(&listener).map(|socket| &mut socket.role)
        else {
            return Err(Errno::CONNREFUSED);
        };
        if *is_hushed || backlog.len() >= self.config.backlog_max {
            // The packet is dropped and sent again.
            self.schedule(now + 200_000_000, Action::Try(key));
            return Ok(());
        }
        self.sequence += 1;
        let conn = self.sequence;
        backlog.push_back(conn);
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
        let end = |fd, addr| End {
            fd,
            closed: false,
            addr,
            no_read: false,
            no_write: false,
            reset_ns: None,
            reset_told: false,
        };
        let ends = [end(Some(fd), local), end(None, to)];
        self.conns.insert(
            conn,
            Conn {
                pipes: Default::default(),
                ends,
                held: false,
            },
        );
        if let Some(socket) = self.sockets.get_mut(&fd) {
            socket.role = Role::Stream { conn, side: 0 };
        }
        let accept = self.sockets.get(&listener).and_then(|socket| socket.reader);
        self.try_soon(accept);
        self.end(key, 0);
        Ok(())
    }
}
