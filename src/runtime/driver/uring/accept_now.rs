//! Accepts that do not wait, on a ring of their own.
//!
//! The listeners of this driver block, for every process and worker that has one: accept4(2) would hold the worker where
//! somebody else has been quicker. IORING_ACCEPT_DONTWAIT (6.10, io_uring_enter(2)) is of the one accept: the kernel tries it
//! while the entry is submitted, and its completion is there when io_uring_enter has returned. Older kernels refuse an accept
//! with that flag by EINVAL, before they look at anything else of it.
//!
//! The ring is no worker's: completions of nothing else can stand before this one, and none of the worker's is delayed.

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::os::fd::RawFd;

/// IORING_ACCEPT_DONTWAIT of io_uring.h; the crate has no name for it.
const DONTWAIT: u16 = 1 << 1;
/// Where `struct io_uring_sqe` has its `ioprio`, which holds an accept's flags.
const IOPRIO_AT: usize = 2;

const _: () = assert!(size_of::<squeue::Entry>() == 64 && align_of::<squeue::Entry>() >= align_of::<u16>());

/// A ring for one accept at a time.
pub(super) struct AcceptNow {
    ring: IoUring,
    /// An entry may be left in it: it is not to be used any more.
    is_broken: bool,
}

impl AcceptNow {
    /// Makes the ring and tries the flag.
    ///
    /// # Errors
    /// EINVAL from a kernel that does not know it; those of io_uring_setup(2).
    pub(super) fn new() -> io::Result<AcceptNow> {
        let ring = IoUring::builder().dontfork().build(1)?;
        let mut now = AcceptNow { ring, is_broken: false };
        match now.accept(-1) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BADF) => Ok(now),
            Err(error) => Err(error),
            Ok(_) => Err(Errno::OPNOTSUPP.into()),
        }
    }

    /// To be replaced by another.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// One connection of the listener's queue; none if nobody is there.
    ///
    /// # Errors
    /// Those of accept(2) and io_uring_enter(2).
    pub(super) fn accept(&mut self, listener: RawFd) -> io::Result<Option<RawFd>> {
        let entry = accept_without_waiting(listener);
        // SAFETY: the entry points to no memory.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        let result = match pushed.map_err(io::Error::other).and_then(|()| self.ring.submit()) {
            Ok(_) => self.ring.completion().next().map(|completion| completion.result()),
            Err(error) => {
                self.is_broken = true;
                return Err(error);
            }
        };
        let Some(result) = result else {
            self.is_broken = true;
            return Err(io::Error::other("an accept that does not wait has not ended"));
        };
        if result >= 0 {
            return Ok(Some(result));
        }
        match Errno::from_raw_os_error(result.saturating_neg()) {
            Errno::AGAIN | Errno::INTR => Ok(None),
            error => Err(error.into()),
        }
    }
}

fn accept_without_waiting(listener: RawFd) -> squeue::Entry {
    let mut entry = opcode::Accept::new(Fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
        .flags(SocketFlags::CLOEXEC.bits() as i32)
        .build();
    // SAFETY: an entry is a `struct io_uring_sqe` (`repr(C)` over nothing else, 64 bytes): its `ioprio` is the aligned u16 at
    // this place, for any value of which the struct is valid.
    unsafe {
        (&raw mut entry)
            .cast::<u8>()
            .add(IOPRIO_AT)
            .cast::<u16>()
            .write(DONTWAIT)
    };
    entry
}
