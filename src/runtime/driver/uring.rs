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
use super::{Driver, Event, Keepalive, Op, OpId, Park, Shutdown, SocketAddrAny, Unparker, system};
use crate::limits;
use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// `user_data` of entries whose completion says nothing to the table.
const INTERNAL: u64 = u64::MAX;
/// `user_data` of the read on the wake-up descriptor.
const WAKE: u64 = u64::MAX - 1;
/// The only buffer group.
const GROUP: u16 = 0;
const PAGE: usize = 4096;

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
    backlog: Vec<cqueue::Entry>,
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
            backlog: Vec::new(),
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
        loop {
            // SAFETY: every pointer in an entry made by this file leads to memory that its owner keeps until the last
            // completion: the table for operations, this struct for the wake-up counter.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            if self.flush().is_err() {
                // The kernel takes nothing more before completions are taken off (EBUSY) or memory is free (EAGAIN).
                self.backlog.extend(self.ring.completion());
            }
        }
    }

    /// Hands the queued entries over, waiting for nothing.
    fn flush(&mut self) -> io::Result<()> {
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn enter(&mut self, park: Park) -> io::Result<()> {
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
                // A signal, the end of the time, or completions that must be taken first: all normal.
                Some(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN) => Ok(()),
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
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
        let park = if self.backlog.is_empty() && self.ring.completion().is_empty() {
            park
        } else {
            Park::Poll
        };
        self.enter(park)?;
        if !self.backlog.is_empty() {
            for entry in std::mem::take(&mut self.backlog) {
                events.extend(self.event_of(&entry));
            }
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

    fn now_ns(&self) -> u64 {
        system::now_ns()
    }

    fn unix_ns(&self) -> u64 {
        system::unix_ns()
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

    fn close(&mut self, fd: RawFd) {
        self.push(opcode::Close::new(Fd(fd)).build().user_data(INTERNAL));
    }

    fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        Ok(rustix::net::shutdown(borrow(fd), how)?)
    }

    fn set_keepalive(&mut self, fd: RawFd, keepalive: &Keepalive) -> io::Result<()> {
        system::set_keepalive(borrow(fd), keepalive)
    }

    fn peer_addr(&self, fd: RawFd) -> io::Result<Option<SocketAddrAny>> {
        Ok(rustix::net::getpeername(borrow(fd))?)
    }

    fn local_addr(&self, fd: RawFd) -> io::Result<SocketAddrAny> {
        Ok(rustix::net::getsockname(borrow(fd))?)
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

fn borrow<'fd>(fd: RawFd) -> BorrowedFd<'fd> {
    // SAFETY: the number comes from a live `Handle`, which keeps the descriptor open for the length of the call.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
