//! What the real drivers have in common: clocks and sockets.
#![allow(unsafe_code)] // Reason: an ioctl and a system call that have no safe names; see the SAFETY lines.

use super::{Keepalive, SocketAddrAny};
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// tty_ioctl(4); for sockets it is SIOCOUTQ of tcp(7) and unix(7).
const TIOCOUTQ: Opcode = if cfg!(any(target_arch = "powerpc", target_arch = "powerpc64")) {
    0x4004_7473
} else {
    0x5411
};

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

/// Has the calling thread, when there is work for it, wait for the time slice of whoever runs on its CPU to end instead of cutting
/// in (SCHED_BATCH, sched(7)): its share of a CPU stays the same. For threads beside the workers whose work is
/// cheaper the more of it there is at once.
///
/// # Errors
/// A sandbox refuses it: then it goes on as before.
pub fn do_not_cut_in() -> io::Result<()> {
    // SAFETY: 0 is the calling thread; no memory.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    if policy != libc::c_long::from(libc::SCHED_OTHER) {
        // Somebody has set another one, for all threads alike.
        return Ok(());
    }
    // struct sched_param of the kernel, which is all that it reads; musl's has more, and its function is a stub.
    let priority: libc::c_int = 0;
    // SAFETY: 0 is the calling thread, and the priority outlives the call, which only reads it.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &raw const priority) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

/// What waits in the kernel to be taken by the peer: for TCP, sent and not acknowledged.
pub(super) fn queued_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: TIOCOUTQ writes one int and reads nothing.
    let bytes = unsafe { ioctl(fd, Getter::<TIOCOUTQ, i32>::new()) }?;
    if bytes > 0 {
        // A broken connection throws its bytes away, but the difference of two counters that is told here stays.
        sockopt::socket_error(fd)??;
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// TCP_USER_TIMEOUT, see tcp(7). 0 would mean the system's own, which is a quarter of an hour.
pub(super) fn give_up_after(fd: BorrowedFd<'_>, time: Duration) -> io::Result<()> {
    let ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1);
    Ok(sockopt::set_tcp_user_timeout(fd, ms)?)
}
