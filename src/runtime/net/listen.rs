//! Listening sockets, made by the process.

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// One listening TCP socket of a SO_REUSEPORT group: every worker gets its own, and the kernel spreads
/// connections over them by hash. TCP_NODELAY is set here, since accepted sockets inherit it.
///
/// # Errors
/// As bind(2) and listen(2) give them; EADDRINUSE also where the port is held by another user's group.
pub fn tcp(addr: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    tcp_of(addr, false, backlog)
}

/// The same, where an IPv6 socket may be told to leave IPv4 alone: `[::]` takes both otherwise.
///
/// # Errors
/// As [`tcp`].
pub fn tcp_of(addr: SocketAddr, v6only: bool, backlog: i32) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6only)?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    // Inherited too. One receive event may empty a whole socket buffer into the worker's receive buffers, so this
    // bounds what one peer can take of them at once.
    sockopt::set_socket_recv_buffer_size(&socket, crate::limits::connection::SOCKET_RECV_BYTES)?;
    // And this what one peer that does not read can take of the kernel's memory for all TCP of the machine.
    sockopt::set_socket_send_buffer_size(&socket, crate::limits::connection::SOCKET_SEND_BYTES)?;
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// A listening Unix socket. There are no groups of them: all workers share this one. `mode`: who may connect, for one
/// that has a file; set before anybody can.
///
/// # Errors
/// As bind(2), chmod(2) and listen(2) give them; a file that was made is removed then.
pub fn unix(addr: &SocketAddrUnix, mode: Option<u32>, backlog: i32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, addr)?;
    let file = addr.path();
    let listening = match (&file, mode) {
        // Not by umask, which is the whole process's: other threads may be making files. Nobody can connect
        // before listen(2).
        (Some(path), Some(mode)) => rustix::fs::chmod(&**path, Mode::from_raw_mode(mode)),
        _ => Ok(()),
    }
    .and_then(|()| rustix::net::listen(&socket, backlog));
    if let (Err(_), Some(path)) = (listening, file) {
        let _ = rustix::fs::unlink(path);
    }
    listening?;
    Ok(socket)
}

/// Leads new connections of a SO_REUSEPORT group to its first `count` sockets, in the order in which they began to
/// listen: those behind them can then be closed without a connection that is lost. Ends with [`spread`].
///
/// # Errors
/// Those of setsockopt(2).
pub fn steer(any_of_group: &OwnedFd, count: usize) -> io::Result<()> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    crate::runtime::driver::steer::steer(any_of_group.as_fd(), count)
}

/// Lets the kernel spread the connections of the group by hash again.
///
/// # Errors
/// Those of setsockopt(2).
pub fn spread(any_of_group: &OwnedFd) -> io::Result<()> {
    crate::runtime::driver::steer::spread(any_of_group.as_fd())
}

/// The address that a listening socket got (port 0 asks for any).
pub fn local_addr(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)
}
