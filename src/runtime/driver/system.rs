//! What the real drivers have in common: clocks and sockets.

use super::{Keepalive, SocketAddrAny};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

/// CLOCK_MONOTONIC, nanoseconds.
pub(super) fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// CLOCK_REALTIME, nanoseconds since the Unix epoch.
pub(super) fn unix_ns() -> u64 {
    clock_ns(ClockId::Realtime)
}

/// A stream socket of the address's family, with TCP_NODELAY where it is TCP.
pub(super) fn socket(addr: &SocketAddrAny, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = addr.address_family();
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if family == AddressFamily::INET || family == AddressFamily::INET6 {
        sockopt::set_tcp_nodelay(&fd, true)?;
    }
    Ok(fd)
}

/// See [`super::Driver::set_keepalive`].
pub(super) fn set_keepalive(fd: BorrowedFd<'_>, keepalive: &Keepalive) -> io::Result<()> {
    let user_timeout_ms = u32::try_from(keepalive.user_timeout.as_millis()).unwrap_or(u32::MAX);
    // Whole seconds to the kernel, and 0 is refused.
    let seconds = |time: Duration| time.max(Duration::from_secs(1));
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, seconds(keepalive.idle))?;
    sockopt::set_tcp_keepintvl(fd, seconds(keepalive.interval))?;
    sockopt::set_tcp_keepcnt(fd, keepalive.probes)?;
    sockopt::set_tcp_user_timeout(fd, user_timeout_ms)?;
    Ok(())
}
