//! From addresses to listening sockets; and what may be wrong with an address.

use super::file::{SocketFile, lock_folder};
use super::{Port, Ports};
use crate::config::{At, Bind, Config, Listen};
use crate::limits::connection::LISTEN_BACKLOG;
use crate::runtime::net::listen;
use crate::server::Terms;
use crate::supervisor::boot::BootError;
use crate::supervisor::handover::{Group, Inherited, Whose};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

impl Ports {
    /// Listens on every address of the configuration, for so many workers; with what is inherited, as far as it fits. Of an
    /// address there may be more sockets than workers then: see [`sockets`](Self::sockets).
    pub(in crate::supervisor) fn open(
        config: &Config,
        workers: usize,
        inherited: &mut Inherited,
    ) -> Result<Ports, BootError> {
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
