//! A listening socket that takes no new handshakes, and finishes those that it has begun.
//!
//! Linux resets, at the close of a listening socket, what waits in its accept queue, and what is half way through the
//! handshake; the latter cannot be accepted before it is through, and to its client it may be through already. So before
//! such a socket is closed its SYNs are dropped for a moment, as if they were lost on the way: whoever has begun gets
//! through and is served, and whoever has not tries again a second later and is refused in good order.
#![allow(unsafe_code)] // Reason: SO_ATTACH_FILTER has no safe name; see the SAFETY line.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Classic BPF (kernel, Documentation/networking/filter.rst) over a TCP segment, which begins with its header: drops it
/// if of SYN and ACK only SYN is set (RFC 9293 section 3.1: bits 1 and 4 of byte 13).
const NO_SYN: [libc::sock_filter; 5] = [
    step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 13),
    step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0x12),
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0x02),
    step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
    step(libc::BPF_RET | libc::BPF_K, 0, 0),
];

const fn step(code: u32, if_true: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        // Codes are 16 bits wide.
        code: code as u16,
        jt: if_true,
        jf: 0,
        k,
    }
}

/// See [`super::Driver::hush`].
pub(super) fn hush(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut filter = NO_SYN;
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which is as long as it says, and writes nothing; the descriptor is open
    // for the length of the call.
    let refused = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if refused == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::net::listen;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn a_hushed_socket_keeps_what_it_has_and_takes_no_more() {
        let socket = listen::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 8).unwrap();
        let addr = listen::local_addr(&socket).unwrap();
        let mut before = TcpStream::connect(addr).unwrap();
        super::hush(socket.as_fd()).unwrap();
        let late = TcpStream::connect_timeout(&addr, Duration::from_millis(300));
        assert!(late.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
        // What was there is served, in both directions, and ends in good order.
        let (mut accepted, _) = TcpListener::from(socket).accept().unwrap();
        before.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        accepted.write_all(&bytes).unwrap();
        drop(accepted);
        let mut all = Vec::new();
        before.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"hello");
    }
}
