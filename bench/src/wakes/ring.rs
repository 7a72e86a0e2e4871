//! Rings of one thread that runs its completions itself, as the server's driver has them, and the two entries that wake one. With
//! `unsafe`, since the kernel is handed the address of the eight bytes that it reads an eventfd into.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

/// Entries; one or two are in use.
const ENTRIES: u32 = 8;
/// Completions of no interest: a nop, or the giver's own of a message.
const OWN: u64 = 1;
/// The completion that wakes.
const WAKE: u64 = 2;

/// A ring of one thread; of that thread only, as the driver's are.
pub(super) struct Ring {
    ring: IoUring,
    /// Where the kernel reads counters to. Leaked: it takes a ring down after its descriptor is closed.
    counter: &'static mut [u8; 8],
}

impl Ring {
    /// One of the calling thread.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            ring: IoUring::builder()
                .setup_single_issuer()
                .setup_defer_taskrun()
                .build(ENTRIES)?,
            counter: Box::leak(Box::new([0; 8])),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the only address in an entry of this file is that of `counter`, which is never freed, and which nobody else
        // reads or writes.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::Error::other("the submission queue is full"))
    }

    /// Queues a read of an eventfd, which ends with the next wake-up.
    pub(super) fn queue_read(&mut self, eventfd: RawFd) -> io::Result<()> {
        let entry = opcode::Read::new(Fd(eventfd), self.counter.as_mut_ptr(), 8)
            .build()
            .user_data(WAKE);
        self.push(&entry)
    }

    /// Queues a message to another ring, which wakes whoever waits for its completions.
    pub(super) fn queue_message(&mut self, other: RawFd) -> io::Result<()> {
        let entry = opcode::MsgRingData::new(Fd(other), 0, WAKE, None)
            .build()
            .user_data(OWN);
        self.push(&entry)
    }

    /// Queues what ends at once, in place of what a worker has to hand over anyway.
    pub(super) fn queue_nop(&mut self) -> io::Result<()> {
        self.push(&opcode::Nop::new().build().user_data(OWN))
    }

    /// Hands over what is queued.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.ring.submit().map(drop)
    }

    /// Hands over what is queued, and waits for a completion; how many of them were wake-ups.
    ///
    /// # Errors
    /// The kernel's, also where a read or a message failed.
    pub(super) fn wait(&mut self) -> io::Result<u32> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            // Stopped and gone on, or looked at by a debugger.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let mut wakes = 0;
        for completion in self.ring.completion() {
            if completion.result() < 0 {
                return Err(io::Error::from_raw_os_error(-completion.result()));
            }
            wakes += u32::from(completion.user_data() == WAKE);
        }
        Ok(wakes)
    }
}
