//! Descriptors that a process was started with.
#![allow(unsafe_code)] // Reason: a number becomes an owned descriptor; see the SAFETY lines.

use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// What is expected of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// A listening stream socket.
    Listener,
    /// An end of a pipe.
    Pipe,
}

/// Numbers that were taken: each has one owner.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes over descriptor `number`, which whoever started this process has left open and named, and closes it to
/// processes that this one starts. To be called at boot, with numbers out of the environment, before anything else is
/// opened: what this process has opened itself is its own.
///
/// # Errors
/// It is not open, was taken before, is a standard stream, or is not what it should be.
pub fn take(number: RawFd, nature: Nature) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: the number is not -1, and only looked at: where it is not open, the first call fails with EBADF.
    let lent = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(lent)?;
    let fits = match nature {
        Nature::Listener => sockopt::socket_acceptconn(lent)?,
        Nature::Pipe => FileType::from_raw_mode(fstat(lent)?.st_mode) == FileType::Fifo,
    };
    if !fits {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fcntl_setfd(lent, FdFlags::CLOEXEC)?;
    taken.insert(number);
    // SAFETY: it is open, is no standard stream, was named as left for this process, and is taken this once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
