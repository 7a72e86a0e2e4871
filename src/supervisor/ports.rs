//! The process's listening sockets, and what is lent of them to each worker.
//!
//! Of a TCP address every worker has a socket of its own, in one SO_REUSEPORT group, and the kernel spreads connections
//! over them. Unix sockets know no such groups: there is one for all workers, as there is where somebody else (systemd)
//! made the socket; that one stays as it is when the process ends. Sockets that another process hands over (`handover`) are taken as they are.

use super::boot::BootError;
use super::handover::{Group, Inherited, Whose};
use crate::config::{At, Bind, Config, Listen};
use crate::limits::connection::LISTEN_BACKLOG;
use crate::limits::listen::UNIX_LOCK_MS_MAX;
use crate::runtime::net::{Listener, listen};
use crate::server::Terms;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    /// Listens on every address of the configuration, for so many workers; with what is inherited, as far as it fits. Of an
    /// address there may be more sockets than workers then: see [`sockets`](Self::sockets).
    pub(super) fn open(config: &Config, workers: usize, inherited: &mut Inherited) -> Result<Ports, BootError> {
        let mut open = |bind: &Bind| {
            let terms = terms(config, bind);
            if let Some(group) = inherited.sockets_of(bind) {
                return adopted(bind, terms, group, workers);
            }
            match &bind.at {
                At::Tcp(at) => tcp(bind, at, terms, workers),
                At::Unix(path) => unix(path, bind, terms, config.unix_mode),
                At::Abstract(name) => {
                    let addr = SocketAddrUnix::new_abstract_name(name.as_bytes());
                    let socket = addr
                        .map_err(io::Error::from)
                        .and_then(|addr| listen::unix(&addr, None, LISTEN_BACKLOG));
                    let socket = socket.map_err(|error| refused(bind, error))?;
                    Ok(shared(bind, terms, socket, None))
                }
            }
        };
        let mut ports = Vec::new();
        for bind in &config.listen {
            ports.push(open(bind)?);
        }
        let mut ports = Ports(ports);
        // Other addresses than before: then they are no fewer sockets than those of the others.
        while ports
            .0
            .iter()
            .any(|port| !port.whose.is_shared() && port.sockets.len() < ports.sockets())
        {
            ports.even_out()?;
        }
        Ok(ports)
    }

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

/// Sockets that another process had.
fn adopted(bind: &Bind, terms: Terms, group: Group, workers: usize) -> Result<Port, BootError> {
    let first = group.sockets.first().ok_or_else(|| io::Error::other("no socket"))?;
    let (addr, v6only) = match &bind.at {
        At::Tcp(at) => (Some(listen::local_addr(first)?), at.v6only),
        _ => (None, false),
    };
    let path = match &bind.at {
        // A giver's file is the giver's.
        At::Unix(path) if group.whose != Whose::Giver => Some(path.clone()),
        _ => None,
    };
    let mut port = Port {
        name: addr.map_or_else(|| bind.to_string(), |addr| addr.to_string()),
        bind: bind.to_string(),
        addr,
        v6only,
        terms,
        sockets: group.sockets,
        whose: group.whose,
        path,
        file: None,
    };
    while !port.whose.is_shared() && port.sockets.len() < workers {
        port.add()?;
    }
    Ok(port)
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

    /// Takes what waits in the kernel's queue, at most `room`, and ends listening. The process holds the socket too, so
    /// that closing this worker's duplicate would leave it open: the kernel would go on taking connections that nobody
    /// serves, and their clients would wait for the end of the process instead of turning elsewhere at once. A socket that
    /// stays is left as it is.
    pub(super) fn end(&self, room: usize) -> Vec<OwnedFd> {
        if self.stays() {
            return Vec::new();
        }
        let accept = || {
            std::iter::from_fn(|| rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC).ok())
                .take(room)
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

/// What is spoken on the connections of an address.
fn terms(config: &Config, bind: &Bind) -> Terms {
    Terms {
        proxy: config.proxy_protocol,
        tls: bind.is_tls(config.tls.is_some()),
    }
}

fn refused(name: &impl ToString, error: io::Error) -> BootError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Cause: another process has the port, or the socket.\nRemedy: end that one, or set PORT or BIND to another (port 0 is any free one)."
        }
        io::ErrorKind::PermissionDenied => {
            "Cause: ports below 1024 need CAP_NET_BIND_SERVICE; a Unix socket needs a folder that this user may write.\nRemedy: set PORT or BIND to what is allowed, or grant the right."
        }
        io::ErrorKind::AddrNotAvailable => {
            "Cause: it is no address of this machine.\nRemedy: set HOST or BIND to one that is, or unset it."
        }
        io::ErrorKind::AlreadyExists => {
            "Cause: a file that is no socket has the name.\nRemedy: move it away, or set BIND to another."
        }
        io::ErrorKind::NotFound => "Cause: its folder is missing.\nRemedy: make the folder, or set BIND to another.",
        _ => "Cause: see the error above.\nRemedy: check PORT, HOST and BIND.",
    };
    BootError::Listen {
        addr: name.to_string(),
        error,
        hint,
    }
}

/// True if another process answers on the address: SO_REUSEPORT would let a second server of the same user share the
/// port in silence, each getting a part of the connections.
fn taken(addr: SocketAddr, v6only: bool) -> bool {
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let plain = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let Ok(plain) = plain else { return false };
    // As std's listener does: connections of an ended server in TIME_WAIT do not count.
    let _ = sockopt::set_socket_reuseaddr(&plain, true);
    if addr.is_ipv6() {
        let _ = sockopt::set_ipv6_v6only(&plain, v6only);
    }
    matches!(rustix::net::bind(&plain, &addr), Err(Errno::ADDRINUSE))
}

/// One listening socket per worker, all on one port.
fn tcp(bind: &Bind, at: &Listen, terms: Terms, workers: usize) -> Result<Port, BootError> {
    let mut last = None;
    for addr in at.candidates() {
        if addr.port() != 0 && taken(addr, at.v6only) {
            return Err(refused(&addr, io::ErrorKind::AddrInUse.into()));
        }
        match listen::tcp_of(addr, at.v6only, LISTEN_BACKLOG) {
            Ok(first) => {
                let bound = listen::local_addr(&first)?;
                let mut sockets = vec![first];
                while sockets.len() < workers {
                    sockets.push(listen::tcp_of(bound, at.v6only, LISTEN_BACKLOG)?);
                }
                return Ok(Port {
                    name: bound.to_string(),
                    bind: bind.to_string(),
                    addr: Some(bound),
                    v6only: at.v6only,
                    terms,
                    sockets,
                    whose: Whose::Workers,
                    path: None,
                    file: None,
                });
            }
            Err(error) => last = Some(refused(&addr, error)),
        }
    }
    Err(last.unwrap_or_else(|| BootError::System(io::Error::other("no address to listen on"))))
}

fn shared(bind: &Bind, terms: Terms, socket: OwnedFd, file: Option<SocketFile>) -> Port {
    Port {
        name: bind.to_string(),
        bind: bind.to_string(),
        addr: None,
        v6only: false,
        terms,
        sockets: vec![socket],
        whose: Whose::Process,
        path: None,
        file,
    }
}

/// A Unix socket with a file. The file of a server that has died is replaced, that of one that lives is not.
fn unix(path: &Path, bind: &Bind, terms: Terms, mode: u32) -> Result<Port, BootError> {
    let open = || {
        let addr = SocketAddrUnix::new(path)?;
        // Of two servers that start at once, one could take the other's fresh file for a dead one's.
        let _lock = lock_folder(path);
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(file) if !file.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(_) if lives(&addr)? => return Err(io::ErrorKind::AddrInUse.into()),
            Ok(_) => std::fs::remove_file(path)?,
        }
        let socket = listen::unix(&addr, Some(mode), LISTEN_BACKLOG)?;
        let file = SocketFile::of(path)?;
        io::Result::Ok((socket, file))
    };
    let (socket, file) = open().map_err(|error| refused(bind, error))?;
    Ok(shared(bind, terms, socket, Some(file)))
}

/// Whether somebody listens on the Unix socket, whose file exists.
fn lives(addr: &SocketAddrUnix) -> io::Result<bool> {
    // Without blocking: a full queue would make this wait.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, addr) {
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Keeps other servers from looking at the same folder meanwhile, while what it gives lives. Where it cannot (a folder that
/// may not be read, one that somebody else holds), it goes on without.
fn lock_folder(path: &Path) -> Option<OwnedFd> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, Mode::empty()).ok()?;
    let deadline = Instant::now() + Duration::from_millis(UNIX_LOCK_MS_MAX);
    while rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(folder)
}

/// The file of a Unix socket, removed at the end: if it is still this one's, and not that of a server that came after.
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            // Whatever becomes of the working directory.
            path: std::path::absolute(path)?,
            id: Self::id(path)?,
        })
    }

    fn id(path: &Path) -> io::Result<(u64, u64)> {
        let file = std::fs::symlink_metadata(path)?;
        Ok((file.dev(), file.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _lock = lock_folder(&self.path);
        if Self::id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the socket's file is left");
        }
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
}
