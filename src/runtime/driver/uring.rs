//! The io_uring driver.
//!
//! One ring per worker, made on the worker's thread: SINGLE_ISSUER (6.0) and DEFER_TASKRUN (6.1) let completions run
//! only when this thread asks for them, which takes the interrupts and the locks out of the path. Receives are
//! multishot (6.0) into a provided buffer ring (5.19), accepts are multishot (5.19). A kernel or a platform without
//! any of these refuses at [`UringDriver::new`], and the caller falls back to epoll.
//!
//! Buffers are classic (not incremental) and receives are not bundled: the combination reorders data on some 6.13+
//! kernels (liburing issue 1423).
#![allow(unsafe_code)] // Reason: submission entries carry raw pointers; see the SAFETY lines.

use super::buffers::{BufferId, BufferPool};
use super::{Driver, Event, Op, OpId, Park, SocketAddrAny, Unparker, system};
use crate::limits;
use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// `user_data` of entries whose completion says nothing to the table.
const INTERNAL: u64 = u64::MAX;
/// `user_data` of the read on the wake-up descriptor.
const WAKE: u64 = u64::MAX - 1;
/// The only buffer group.
const GROUP: u16 = 0;
const PAGE: usize = 4096;
/// Between two tries where the kernel takes nothing.
const REFUSAL_PAUSE: Duration = Duration::from_millis(1);

/// The ring of `io_uring_buf` entries that the kernel takes receive buffers from.
struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    fn new(count: u16) -> io::Result<BufferRing> {
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(bytes, PAGE).map_err(io::Error::other)?;
        // SAFETY: the layout's size is not zero (the count is a non-zero constant).
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast::<BufRingEntry>()) else {
            handle_alloc_error(layout)
        };
        Ok(BufferRing {
            entries,
            layout,
            mask: count - 1,
            tail: 0,
        })
    }

    fn add(&mut self, pool: &BufferPool, id: BufferId) {
        let slot = usize::from(self.tail & self.mask);
        // SAFETY: the slot lies inside the allocation. Only this thread writes entries, and the kernel reads an entry
        // only after the tail has passed it. Zeroed memory is a valid entry. The tail shares its bytes with the
        // reserved field of entry 0, which the three setters leave alone.
        let entry = unsafe { self.entries.add(slot).as_mut() };
        entry.set_addr(pool.address(id) as u64);
        entry.set_len(pool.buffer_bytes() as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: `entries` is the page-aligned base of the ring, as `tail` wants, and the kernel reads the tail with
        // acquire, so it is written as an atomic with release.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; the driver unregisters the ring before it drops this.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) }
    }
}

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
                shared,
                single,
                ..
            } if *shared || *single => {
                opcode::Accept::new(Fd(listener.fd()), std::ptr::null_mut(), std::ptr::null_mut())
                    .flags(rustix_flags(SocketFlags::CLOEXEC))
                    .build()
            }
            Op::Accept { listener, .. } => opcode::AcceptMulti::new(Fd(listener.fd()))
                .flags(rustix_flags(SocketFlags::CLOEXEC))
                .build(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Its peers would wait for ever: a worker that breaks down leaves a process that goes on.
    #[test]
    fn a_ring_that_takes_nothing_any_more_leaves_no_descriptor_open_and_closes_none_twice() {
        let Ok(mut driver) = UringDriver::new() else {
            println!("SKIPPED: no io_uring here");
            return;
        };
        let pipe = || {
            let (hear, say) = io::pipe().unwrap();
            (OwnedFd::from(hear).into_raw_fd(), say)
        };
        let ((first, first_say), (second, second_say), (third, third_say)) = (pipe(), pipe(), pipe());
        let is_heard = |mut say: &io::PipeWriter| io::Write::write(&mut say, b"x").is_ok();
        driver.close(first);
        driver.flush().unwrap();
        assert!(!is_heard(&first_say));
        // Somebody else has the number now, and keeps it.
        let (other, other_say) = io::pipe().unwrap();
        let other = rustix::io::fcntl_dupfd_cloexec(&other, first).unwrap();
        driver.refusing = true;
        driver.close(second);
        driver.give_up(vec![third]);
        assert!(is_heard(&second_say) && is_heard(&third_say));
        drop(driver);
        assert!(!is_heard(&second_say) && !is_heard(&third_say));
        assert!(is_heard(&other_say));
        drop(other);
    }

    /// A kernel that takes nothing must not hold the worker for ever; one that takes things again gets all of them.
    #[test]
    fn a_kernel_that_takes_nothing_ends_the_turn_and_loses_nothing() {
        let Ok(mut driver) = UringDriver::new() else {
            println!("SKIPPED: no io_uring here");
            return;
        };
        let count = limits::runtime::SUBMISSION_ENTRIES as usize * 3;
        let id = |index: usize| OpId {
            index: index as u32,
            generation: 1,
        };
        let mut events = Vec::new();
        driver.refusing = true;
        for index in 0..count {
            driver.push(opcode::Nop::new().build().user_data(id(index).to_bits()));
        }
        for _ in 0..3 {
            driver.turn(Park::Forever, &mut events).unwrap();
        }
        assert!(events.is_empty() && driver.refusals == 3);
        driver.refusing = false;
        while events.len() < count {
            driver.turn(Park::Forever, &mut events).unwrap();
        }
        assert_eq!(driver.refusals, 0);
        let order: Vec<OpId> = events.iter().map(|event| event.op).collect();
        assert_eq!(order, (0..count).map(id).collect::<Vec<_>>());
        // For good: an error, in bounded time.
        driver.refusing = true;
        driver.refusals = limits::runtime::REFUSALS_MAX - 3;
        let ended = (0..3).find_map(|_| driver.turn(Park::Forever, &mut events).err());
        assert!(ended.is_some());
        driver.refusing = false;
    }
}
