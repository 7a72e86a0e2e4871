//! The process's listening sockets, and what is lent of them to each worker.
//!
//! Of a TCP address every worker has a socket of its own, in one SO_REUSEPORT group, and the kernel spreads connections
//! over them. Unix sockets know no such groups: there is one for all workers, as there is where somebody else (systemd)
//! made the socket; that one stays as it is when the process ends. Sockets that another process hands over (`handover`) are taken as they are.

use super::boot::BootError;
use super::handover::Whose;
use crate::limits::connection::LISTEN_BACKLOG;
use crate::runtime::net::{Listener, listen};
use crate::server::Terms;
use file::SocketFile;
use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

mod file;
mod open;

/// All listening sockets; dropping them removes the files of Unix sockets.
pub(super) struct Ports(Vec<Port>);

struct Port {
    name: String,
    /// The address as it is configured.
    bind: String,
    /// Of TCP.
    addr: Option<SocketAddr>,
    v6only: bool,
    terms: Terms,
    /// One for each worker; or one for all.
    sockets: Vec<OwnedFd>,
    whose: Whose,
    /// Of a Unix socket that was handed over, with whose file it is not decided yet.
    path: Option<PathBuf>,
    file: Option<SocketFile>,
}

/// What a worker has of a port, for all its lives.
pub(super) struct Lent {
    socket: OwnedFd,
    whose: Whose,
    /// What is spoken on it.
    pub(super) terms: Terms,
}

impl Ports {
    /// How many sockets there are of each address of which workers have their own; at most so many workers can be lent some.
    /// 0 where all share all.
    pub(super) fn sockets(&self) -> usize {
        let own = self.0.iter().filter(|port| !port.whose.is_shared());
        own.map(|port| port.sockets.len()).max().unwrap_or(0)
    }

    /// One socket more of each address that has fewer than another.
    fn even_out(&mut self) -> Result<(), BootError> {
        let most = self.sockets();
        for port in self
            .0
            .iter_mut()
            .filter(|port| !port.whose.is_shared() && port.sockets.len() < most)
        {
            port.add()?;
        }
        Ok(())
    }

    /// One socket more of each address, for one worker more. Nothing is led there before [`spread`](Self::spread), as far
    /// as the kernel can.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2); nothing is added then.
    pub(super) fn add(&mut self) -> io::Result<()> {
        let before = self.sockets();
        self.steer_to(before);
        let added = self
            .0
            .iter_mut()
            .filter(|port| !port.whose.is_shared())
            .try_for_each(Port::add);
        if added.is_err() {
            for port in &mut self.0 {
                if !port.whose.is_shared() {
                    port.sockets.truncate(before);
                }
            }
        }
        added
    }

    /// Leads new connections past the last worker's sockets, as far as the kernel can.
    pub(super) fn steer_past_last(&self) {
        self.steer_to(self.sockets().saturating_sub(1));
    }

    fn steer_to(&self, count: usize) {
        for port in self.0.iter().filter(|port| !port.whose.is_shared() && count > 0) {
            if let Some(Err(error)) = port.sockets.first().map(|socket| listen::steer(socket, count)) {
                tracing::warn!(
                    %error,
                    addr = port.name,
                    "a connection may be lost as a worker's socket is opened or closed: the system cannot lead it past"
                );
            }
        }
    }

    /// Lets the kernel spread connections over all sockets again.
    pub(super) fn spread(&self) {
        for first in self
            .0
            .iter()
            .filter(|port| !port.whose.is_shared())
            .filter_map(|port| port.sockets.first())
        {
            // ENOENT: nothing stood in its way.
            let _ = listen::spread(first);
        }
    }

    /// Closes the last worker's sockets, whose queues are empty; connections are spread over the others. A life that hangs
    /// has duplicates of them: from now on they do not listen, or the kernel would lead connections there.
    pub(super) fn remove_last(&mut self) {
        for port in self
            .0
            .iter_mut()
            .filter(|port| !port.whose.is_shared() && port.sockets.len() > 1)
        {
            if let Some(socket) = port.sockets.pop() {
                // ENOTCONN: whoever had it has done so already.
                let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Read);
            }
        }
        self.spread();
    }

    /// The sockets, for a process that takes over: each group by its configured address.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&str, Whose, &[OwnedFd])> {
        self.0
            .iter()
            .map(|port| (port.bind.as_str(), port.whose, port.sockets.as_slice()))
    }

    /// Sets the mode that all drivers of this process want; another process may have set it otherwise.
    pub(super) fn set_nonblocking(&self, is: bool) {
        for socket in self.0.iter().flat_map(|port| &port.sockets) {
            let _ = rustix::io::ioctl_fionbio(socket, is);
        }
    }

    /// Another process has the sockets now, and their files.
    pub(super) fn leave_files(&mut self) {
        for port in &mut self.0 {
            if let Some(file) = port.file.take() {
                std::mem::forget(file);
            }
        }
    }

    /// The files of inherited Unix sockets are this process's from now on.
    pub(super) fn take_files(&mut self) {
        for port in &mut self.0 {
            if let Some(path) = port.path.take() {
                port.file = SocketFile::of(&path).ok();
            }
        }
    }

    /// The addresses, as they came to be.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|port| port.name.as_str())
    }

    /// The number of the first TCP port.
    pub(super) fn number(&self) -> Option<u16> {
        self.0.iter().find_map(|port| port.addr).map(|addr| addr.port())
    }

    /// What worker `index` gets.
    pub(super) fn lend(&self, index: usize) -> io::Result<Vec<Lent>> {
        let lend = |port: &Port| {
            let own = if port.whose.is_shared() { 0 } else { index };
            let socket = port
                .sockets
                .get(own)
                .ok_or_else(|| io::Error::other("a worker too many"))?;
            Ok(Lent {
                socket: socket.try_clone()?,
                whose: port.whose,
                terms: port.terms,
            })
        };
        self.0.iter().map(lend).collect()
    }
}

impl Port {
    fn add(&mut self) -> io::Result<()> {
        let addr = self.addr.ok_or_else(|| io::Error::other("no address of TCP"))?;
        self.sockets.push(listen::tcp_of(addr, self.v6only, LISTEN_BACKLOG)?);
        Ok(())
    }
}

impl Lent {
    /// Another descriptor of the socket.
    pub(super) fn duplicate(&self) -> io::Result<Lent> {
        Ok(Lent {
            socket: self.socket.try_clone()?,
            ..*self
        })
    }

    /// Other workers accept from it, too.
    pub(super) fn is_shared(&self) -> bool {
        self.whose.is_shared()
    }

    /// Somebody else keeps it beyond the process's end, with what waits in its queue.
    pub(super) fn stays(&self) -> bool {
        self.whose == Whose::Giver
    }

    /// To accept from. To be called inside the worker's runtime.
    pub(super) fn listener(self) -> io::Result<Listener> {
        if self.is_shared() {
            Listener::shared(self.socket)
        } else {
            Listener::new(self.socket)
        }
    }

    /// To accept from beside the worker whose socket it is. To be called inside another worker's runtime.
    pub(super) fn listener_beside(self) -> io::Result<Listener> {
        Listener::shared(self.socket)
    }

    /// Takes what waits in the kernel's queue, at most `room` and no more than a queue holds, and ends listening. The process holds the socket too, so
    /// that closing this worker's duplicate would leave it open: the kernel would go on taking connections that nobody
    /// serves, and their clients would wait for the end of the process instead of turning elsewhere at once. A socket that
    /// stays is left as it is.
    pub(super) fn end(&self, room: usize) -> Vec<OwnedFd> {
        if self.stays() {
            return Vec::new();
        }
        let accept = || {
            std::iter::from_fn(|| rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC).ok())
                // Where it cannot be ended for those who come, there would be no end to it.
                .take(room.min(LISTEN_BACKLOG as usize + 1))
                .collect()
        };
        let shutdown = || rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read);
        let (waiting, ended) = if self.is_shared() {
            // The first worker that drains ends it for all: they were told at the same time. What waits is kept by the
            // kernel, and an accept does not block any more. O_NONBLOCK is not touched: it is every worker's, and some
            // may still have an accept in flight.
            match shutdown() {
                Ok(()) => (accept(), Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            }
        } else {
            // What waits would be reset. No accept of this worker is armed any more, so how io_uring wants the socket does
            // not matter now.
            let waiting = rustix::io::ioctl_fionbio(&self.socket, true).map(|()| accept());
            (waiting.unwrap_or_default(), shutdown())
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "a listening socket stays open while draining");
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    /// A life that hangs at its start, or is stuck, has its duplicates for as long as it likes.
    #[test]
    fn nobody_is_led_to_a_socket_that_was_given_up_whoever_has_duplicates_of_it() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = listen::tcp_of(any, false, 64).unwrap();
        let addr = listen::local_addr(&socket).unwrap();
        let mut ports = Ports(vec![Port {
            name: addr.to_string(),
            bind: addr.to_string(),
            addr: Some(addr),
            v6only: false,
            terms: Terms::default(),
            sockets: vec![socket],
            whose: Whose::Workers,
            path: None,
            file: None,
        }]);
        ports.add().unwrap();
        let hangs = ports.lend(1).unwrap();
        ports.spread();
        ports.remove_last();
        // By hash one in two would go there.
        let clients: Vec<TcpStream> = (0..32).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let first = ports.lend(0).unwrap();
        rustix::io::ioctl_fionbio(&first[0].socket, true).unwrap();
        let taken = std::iter::from_fn(|| rustix::net::accept(&first[0].socket).ok()).count();
        assert_eq!(taken, clients.len());
        drop(hangs);
    }

    /// Listening ends for those who come, and who has come is the process's.
    #[test]
    fn at_the_end_as_many_are_taken_as_there_is_room_for_and_nobody_waits_any_more() {
        let socket = listen::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 64).unwrap();
        let addr = listen::local_addr(&socket).unwrap();
        let clients: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let lent = Lent {
            socket,
            whose: Whose::Workers,
            terms: Terms::default(),
        };
        assert_eq!(lent.end(3).len(), 3);
        assert!(TcpStream::connect(addr).is_err(), "it listens still");
        // Nobody is there, and it does not wait for anybody.
        assert!(lent.end(3).is_empty());
        drop(clients);
    }

    /// Whoever is let in makes room for the next, so that there would be no end to it. Only with Unix sockets does the next
    /// one come at once: TCP tries again after a second.
    #[test]
    fn at_the_end_no_more_are_taken_than_a_queue_holds_though_others_come_all_the_while() {
        use std::os::unix::net::UnixStream;
        use std::sync::atomic::{AtomicBool, Ordering};
        let most = LISTEN_BACKLOG as usize + 1;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let raised = rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
        let holds = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        if limit.maximum.is_some_and(|files| files < 3 * most as u64)
            || holds.trim().parse::<usize>().unwrap() + 1 < most
        {
            println!("skipped: not so many descriptors, or not so long a queue, can be had here");
            return;
        }
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let socket = listen::unix(&rustix::net::SocketAddrUnix::new(&path).unwrap(), None, LISTEN_BACKLOG).unwrap();
        let lent = Lent {
            socket,
            whose: Whose::Workers,
            terms: Terms::default(),
        };
        let clients: Vec<UnixStream> = (0..most).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut more = Vec::new();
                    while !ends.load(Ordering::Relaxed)
                        && let Ok(stream) = UnixStream::connect(&path)
                    {
                        more.push(stream);
                    }
                });
            }
            // They are at it, and find no room.
            std::thread::sleep(std::time::Duration::from_millis(50));
            let taken = lent.end(usize::MAX).len();
            ends.store(true, Ordering::Relaxed);
            // Those who still wait for room are refused.
            drop(lent);
            assert_eq!(taken, most);
        });
        drop(clients);
    }
}
