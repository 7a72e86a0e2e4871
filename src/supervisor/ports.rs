//! The process's listening sockets, and what is lent of them to each worker.
//!
//! Of a TCP address every worker has a socket of its own, in one SO_REUSEPORT group, and the kernel spreads connections
//! over them. Unix sockets know no such groups: there is one for all workers.

use super::boot::BootError;
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
    /// Of TCP.
    addr: Option<SocketAddr>,
    terms: Terms,
    /// One for each worker; or one for all.
    sockets: Vec<OwnedFd>,
    _file: Option<SocketFile>,
}

/// What a worker has of a port, for all its lives.
pub(super) struct Lent {
    socket: OwnedFd,
    is_shared: bool,
    /// What is spoken on it.
    pub(super) terms: Terms,
}

impl Ports {
    /// Listens on every address of the configuration, for so many workers.
    pub(super) fn open(config: &Config, workers: usize) -> Result<Ports, BootError> {
        let open = |bind: &Bind| {
            let terms = terms(config, bind);
            match &bind.at {
                At::Tcp(at) => tcp(at, terms, workers),
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
        Ok(Ports(config.listen.iter().map(open).collect::<Result<_, _>>()?))
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
            let is_shared = port.addr.is_none();
            let own = if is_shared { 0 } else { index };
            let socket = port
                .sockets
                .get(own)
                .ok_or_else(|| io::Error::other("a worker too many"))?;
            Ok(Lent {
                socket: socket.try_clone()?,
                is_shared,
                terms: port.terms,
            })
        };
        self.0.iter().map(lend).collect()
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

    /// To accept from. To be called inside the worker's runtime.
    pub(super) fn listener(self) -> io::Result<Listener> {
        if self.is_shared {
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
    /// serves, and their clients would wait for the end of the process instead of turning elsewhere at once.
    pub(super) fn end(&self, room: usize) -> Vec<OwnedFd> {
        let accept = || {
            std::iter::from_fn(|| rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC).ok())
                .take(room)
                .collect()
        };
        let shutdown = || rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read);
        let (waiting, ended) = if self.is_shared {
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
fn tcp(at: &Listen, terms: Terms, workers: usize) -> Result<Port, BootError> {
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
                    addr: Some(bound),
                    terms,
                    sockets,
                    _file: None,
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
        addr: None,
        terms,
        sockets: vec![socket],
        _file: file,
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
