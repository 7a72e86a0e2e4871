//! The io_uring driver.
//!
//! One ring per worker, made on the worker's thread: SINGLE_ISSUER (6.0) and DEFER_TASKRUN (6.1) let completions run
//! only when this thread asks for them, which takes the interrupts and the locks out of the path. Receives are
//! multishot (6.0) into a provided buffer ring (5.19), accepts are multishot (5.19). A kernel or a platform without
//! any of these refuses at [`UringDriver::new`], and the caller falls back to epoll.
//!
//! Where a consumer has few places, listeners are polled, and connections are taken one by one without waiting: see
//! `accept_now`, whose flag is of 6.10. Before that, one accept is armed for one connection.
//!
//! Buffers are classic (not incremental) and receives are not bundled: the combination reorders data on some 6.13+
//! kernels (liburing issue 1423).
#![allow(unsafe_code)] // Reason: submission entries carry raw pointers; see the SAFETY lines.

mod accept_now;
mod buffer_ring;
#[cfg(test)]
mod tests;

use super::buffers::{BufferId, BufferPool};
use super::{Driver, Event, Op, OpId, Park, SocketAddrAny, Unparker, system};
use crate::limits;
use crate::runtime::topology::is_starved;
use accept_now::AcceptNow;
use buffer_ring::BufferRing;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// `user_data` of entries whose completion says nothing to the table.
const INTERNAL: u64 = u64::MAX;
/// `user_data` of the read on the wake-up descriptor.
const WAKE: u64 = u64::MAX - 1;
/// The only buffer group.
const GROUP: u16 = 0;
/// Between two tries where the kernel takes nothing.
const REFUSAL_PAUSE: Duration = Duration::from_millis(1);

/// io_uring.
pub struct UringDriver {
    ring: IoUring,
    buffer_ring: BufferRing,
    pool: Rc<BufferPool>,
    returning: Vec<BufferId>,
    /// Operations armed since the last drop of this counter, to know at the end what the kernel still holds.
    in_kernel: usize,
    /// Entries that the kernel would not take so far. They go before all others, in their order; what may be armed or
    /// cancelled at one time bounds them.
    waiting: VecDeque<squeue::Entry>,
    /// Entries so far.
    pushed: u64,
    /// Descriptors to be closed, with the number of the entry that does it, unless the kernel is known to have taken that.
    closing: VecDeque<(u64, RawFd)>,
    /// Descriptors to be closed at the end.
    given_up: Vec<RawFd>,
    /// Turns in a row in which the kernel took nothing and gave nothing.
    refusals: u32,
    /// It takes nothing, as far as this driver can see.
    #[cfg(test)]
    refusing: bool,
    unparker: Unparker,
    wake_counter: Box<[u8; 8]>,
    wake_armed: bool,
    now: Now,
}

/// The way to [`Driver::accept_now`].
enum Now {
    /// Nobody has asked for it.
    Untried,
    /// As it should be.
    There(Box<AcceptNow>),
    /// This kernel does not know it.
    Absent,
}

impl UringDriver {
    /// Sets the ring up and tries its parts. Any error means: this machine will not have it.
    pub fn new() -> io::Result<UringDriver> {
        let ring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(limits::runtime::COMPLETION_ENTRIES)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .dontfork()
            .build(limits::runtime::SUBMISSION_ENTRIES)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(Errno::OPNOTSUPP.into());
        }
        let pool = BufferPool::new(limits::runtime::RECV_BUFFERS, limits::runtime::RECV_BUFFER_BYTES);
        let buffer_ring = BufferRing::new(pool.count())?;
        // SAFETY: the memory is page-aligned, holds `count` entries, and outlives the registration: `drop` below
        // unregisters it before it is freed.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffer_ring.entries.as_ptr() as u64,
                pool.count(),
                GROUP,
                0,
            )?;
        }
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let mut driver = UringDriver {
            ring,
            buffer_ring,
            pool,
            returning: Vec::new(),
            in_kernel: 0,
            waiting: VecDeque::new(),
            pushed: 0,
            closing: VecDeque::new(),
            given_up: Vec::new(),
            refusals: 0,
            #[cfg(test)]
            refusing: false,
            unparker: Unparker::new(Some(wake)),
            wake_counter: Box::new([0; 8]),
            wake_armed: false,
            now: Now::Untried,
        };
        driver.return_buffers();
        driver.arm_wake();
        driver.flush()?;
        Ok(driver)
    }

    fn return_buffers(&mut self) {
        if !self.pool.has_returned() {
            return;
        }
        self.pool.take_returned(&mut self.returning);
        for id in self.returning.drain(..) {
            self.buffer_ring.add(&self.pool, id);
        }
        self.buffer_ring.publish();
    }

    fn arm_wake(&mut self) {
        let Some(fd) = self.unparker.eventfd().map(|fd| fd.as_fd().as_raw_fd()) else {
            return;
        };
        let entry = opcode::Read::new(Fd(fd), self.wake_counter.as_mut_ptr(), 8)
            .build()
            .user_data(WAKE);
        self.wake_armed = true;
        self.push(entry);
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.pushed += 1;
        if !self.waiting.is_empty() || !self.offer(&entry) {
            self.waiting.push_back(entry);
            self.queue_waiting();
        }
    }

    /// Entries that the kernel has taken: it takes them in their order.
    fn taken(&mut self) -> u64 {
        let left = self.ring.submission().len() + self.waiting.len();
        self.pushed - left as u64
    }

    /// False if the submission queue is full.
    fn offer(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every pointer in an entry made by this file leads to memory that its owner keeps until the last
        // completion: the table for operations, this struct for the wake-up counter.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Moves what waits into the submission queue, which is handed over where it is full. What the kernel does not take
    /// (EBUSY: completions must be taken off first; EAGAIN: no memory) waits for the next turn.
    fn queue_waiting(&mut self) {
        while let Some(entry) = self.waiting.pop_front() {
            if !self.offer(&entry) {
                self.waiting.push_front(entry);
                if self.flush().is_err() {
                    return;
                }
            }
        }
    }

    /// What the kernel would say, where a test plays one that takes nothing.
    fn refusal(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.refusing {
            return Err(Errno::AGAIN.into());
        }
        Ok(())
    }

    /// Whether [`Driver::accept_now`] can be had. Its ring is made when it is needed: most workers never do.
    fn accepts_now(&mut self) -> bool {
        if matches!(self.now, Now::Untried) {
            self.now = match AcceptNow::new() {
                Ok(now) => Now::There(Box::new(now)),
                Err(error) if is_starved(&error) => Now::Untried,
                Err(_) => Now::Absent,
            };
        }
        matches!(self.now, Now::There(_))
    }

    /// As on a kernel before 6.10.
    #[cfg(test)]
    pub fn forget_accept_now(&mut self) {
        self.now = Now::Absent;
    }

    /// Hands the queued entries over, waiting for nothing.
    fn flush(&mut self) -> io::Result<()> {
        self.refusal()?;
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands the queued entries over and waits as told; why the kernel took nothing, where that may pass.
    fn enter(&mut self, park: Park) -> io::Result<Option<io::Error>> {
        if let Err(error) = self.refusal() {
            return Ok(Some(error));
        }
        let submitter = self.ring.submitter();
        let entered = match park {
            Park::Forever => submitter.submit_and_wait(1).map(drop),
            Park::For(time) => {
                let time = Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
                submitter
                    .submit_with_args(1, &SubmitArgs::new().timespec(&time))
                    .map(drop)
            }
            Park::Poll => {
                let time = Timespec::new();
                submitter
                    .submit_with_args(1, &SubmitArgs::new().timespec(&time))
                    .map(drop)
            }
        };
        match entered {
            Err(error) => match Errno::from_io_error(&error) {
                // A signal, or the end of the time.
                Some(Errno::INTR | Errno::TIME) => Ok(None),
                Some(Errno::BUSY | Errno::AGAIN) => Ok(Some(error)),
                _ => Err(error),
            },
            Ok(()) => Ok(None),
        }
    }

    /// A turn in which the kernel took nothing and gave nothing: that passes, or it does not.
    #[cold]
    fn refused(&mut self, error: io::Error) -> io::Result<()> {
        self.refusals += 1;
        if self.refusals >= limits::runtime::REFUSALS_MAX {
            return Err(error);
        }
        std::thread::sleep(REFUSAL_PAUSE);
        Ok(())
    }

    fn event_of(&mut self, entry: &cqueue::Entry) -> Option<Event> {
        let more = cqueue::more(entry.flags());
        match entry.user_data() {
            INTERNAL => None,
            WAKE => {
                self.wake_armed = false;
                None
            }
            bits => {
                if !more {
                    self.in_kernel = self.in_kernel.saturating_sub(1);
                }
                let buffer = cqueue::buffer_select(entry.flags());
                Some(Event {
                    op: OpId::from_bits(bits),
                    result: entry.result(),
                    buffer,
                    more,
                })
            }
        }
    }
}

impl Driver for UringDriver {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn arm(&mut self, id: OpId, op: &mut Op) {
        let entry = match op {
            Op::Accept {
                listener,
                single: true,
                asks,
                ..
            } if self.accepts_now() => {
                *asks = true;
                // Not exclusively, as an accept would wait: whoever only asks may not come.
                opcode::PollAdd::new(Fd(listener.fd()), libc::POLLIN as u32).build()
            }
            Op::Accept {
                listener,
                shared,
                single,
                asks,
                ..
            } if *shared || *single => {
                *asks = false;
                opcode::Accept::new(Fd(listener.fd()), std::ptr::null_mut(), std::ptr::null_mut())
                    .flags(rustix_flags(SocketFlags::CLOEXEC))
                    .build()
            }
            Op::Accept { listener, asks, .. } => {
                *asks = false;
                opcode::AcceptMulti::new(Fd(listener.fd()))
                    .flags(rustix_flags(SocketFlags::CLOEXEC))
                    .build()
            }
            Op::Recv { socket, .. } => opcode::RecvMulti::new(Fd(socket.fd()), GROUP).build(),
            Op::Send { socket, data, sent } => {
                let rest = data.get(*sent..).unwrap_or_default();
                let bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                // Without MSG_WAITALL: the table goes on after a short write, and sees by it that the peer reads.
                let flags = rustix::net::SendFlags::NOSIGNAL.bits();
                opcode::Send::new(Fd(socket.fd()), rest.as_ptr(), bytes)
                    .flags(flags as i32)
                    .build()
            }
            Op::Connect { socket, addr } => {
                opcode::Connect::new(Fd(socket.fd()), addr.as_ptr().cast(), addr.addr_len()).build()
            }
        };
        self.in_kernel += 1;
        self.push(entry.user_data(id.to_bits()));
    }

    fn accept_now(&mut self, listener: RawFd) -> io::Result<Option<RawFd>> {
        let Now::There(now) = &mut self.now else {
            return Err(Errno::AGAIN.into());
        };
        let accepted = now.accept(listener);
        if now.is_broken() {
            self.now = Now::Untried;
        }
        accepted
    }

    fn cancel(&mut self, id: OpId, _op: &Op) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(id.to_bits())).build();
        self.push(entry.user_data(INTERNAL));
    }

    fn turn(&mut self, park: Park, events: &mut Vec<Event>) -> io::Result<()> {
        self.return_buffers();
        if !self.wake_armed {
            self.arm_wake();
        }
        if !self.waiting.is_empty() {
            self.queue_waiting();
        }
        let park = if self.waiting.is_empty() && self.ring.completion().is_empty() {
            park
        } else {
            Park::Poll
        };
        let refusal = self.enter(park)?;
        match refusal {
            Some(error) if self.ring.completion().is_empty() => self.refused(error)?,
            _ => self.refusals = 0,
        }
        loop {
            // Taken one by one, since a completion's bookkeeping needs `self`; the queue's head is published when
            // the guard drops.
            let Some(entry) = self.ring.completion().next() else {
                break;
            };
            events.extend(self.event_of(&entry));
        }
        self.unparker.acknowledge();
        Ok(())
    }

    fn buffers(&self) -> Rc<BufferPool> {
        Rc::clone(&self.pool)
    }

    fn unparker(&self) -> Unparker {
        self.unparker.clone()
    }

    fn socket(&mut self, addr: &SocketAddrAny) -> io::Result<RawFd> {
        // Blocking, as io_uring wants it: with O_NONBLOCK it would answer EAGAIN instead of waiting.
        Ok(system::socket(addr, SocketFlags::CLOEXEC)?.into_raw_fd())
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<RawFd> {
        rustix::io::ioctl_fionbio(&fd, false)?;
        Ok(fd.into_raw_fd())
    }

    fn release(&mut self, fd: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: the number was given up by its last `Handle`, unclosed, so it is open and nobody else's; nothing was armed
        // on it, so no operation has it either.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn close(&mut self, fd: RawFd) {
        let taken = self.taken();
        while self.closing.front().is_some_and(|(number, _)| *number < taken) {
            self.closing.pop_front();
        }
        self.closing.push_back((self.pushed, fd));
        self.push(opcode::Close::new(Fd(fd)).build().user_data(INTERNAL));
    }

    fn give_up(&mut self, fds: Vec<RawFd>) {
        self.given_up = fds;
    }

    fn descriptor(&self, fd: RawFd) -> io::Result<BorrowedFd<'_>> {
        // SAFETY: the number comes from a live `Handle`, which keeps the descriptor open for the length of the call.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        let _ = self.flush();
        if self.in_kernel > 0 {
            // The runtime waits for its operations before it drops the driver. If the kernel has not let go in that
            // time, the receive buffers must outlive the process's use of them: leaking is the safe end.
            std::mem::forget(Rc::clone(&self.pool));
        }
        // A ring that takes nothing any more closes nothing either. What the kernel has in hand it holds by itself.
        let taken = self.taken();
        let left = self.closing.drain(..).filter(|(number, _)| *number >= taken);
        for fd in left.map(|(_, fd)| fd).chain(self.given_up.drain(..)) {
            // SAFETY: the number was handed over to be closed, by `close`, whose entry the kernel has not taken and never
            // will, as the ring ends here; or by `give_up`, for operations whose handles are gone without a drop.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        if self.wake_armed {
            // The read on the eventfd ends with the ring, asynchronously; its eight bytes stay for it.
            std::mem::forget(std::mem::replace(&mut self.wake_counter, Box::new([0; 8])));
        }
    }
}

fn rustix_flags(flags: SocketFlags) -> i32 {
    flags.bits() as i32
}
