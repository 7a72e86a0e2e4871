//! Which sockets of a SO_REUSEPORT group new connections are led to.
#![allow(unsafe_code)] // Reason: SO_ATTACH_REUSEPORT_CBPF has no safe name; see the SAFETY line.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `skb` ancillary data of classic BPF (kernel, include/uapi/linux/filter.h): a random number.
const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;

const fn step(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        // Codes are 16 bits wide.
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Leads new connections of the group of `socket` to its first `count` sockets, by lot; the order is that in which they
/// began to listen. What others have in their queues, or half way through a handshake, stays theirs. Connections are
/// spread by hash again once that program is gone: see [`spread`].
///
/// # Errors
/// Those of setsockopt(2): a kernel or sandbox without it. `count` is at least 1.
pub(in crate::runtime) fn steer(socket: BorrowedFd<'_>, count: u32) -> io::Result<()> {
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, RANDOM),
        step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count.max(1)),
        step(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let bytes = size_of::<libc::sock_fprog>() as libc::socklen_t;
    set(
        socket,
        libc::SO_ATTACH_REUSEPORT_CBPF,
        (&raw const program).cast(),
        bytes,
    )
}

/// Takes the program of [`steer`] away.
///
/// # Errors
/// Those of setsockopt(2); ENOENT where there is none.
pub(in crate::runtime) fn spread(socket: BorrowedFd<'_>) -> io::Result<()> {
    let nothing: libc::c_int = 0;
    let bytes = size_of::<libc::c_int>() as libc::socklen_t;
    set(
        socket,
        libc::SO_DETACH_REUSEPORT_BPF,
        (&raw const nothing).cast(),
        bytes,
    )
}

fn set(
    socket: BorrowedFd<'_>,
    name: libc::c_int,
    value: *const libc::c_void,
    bytes: libc::socklen_t,
) -> io::Result<()> {
    // SAFETY: `value` points to `bytes` bytes that live for the length of the call, and what a program points to does,
    // too; the kernel copies both and writes nothing. The descriptor is open meanwhile.
    let refused = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, bytes) };
    if refused == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
