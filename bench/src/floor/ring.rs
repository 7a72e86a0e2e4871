//! The ring of the floor server. With `unsafe`, as `wakes/ring.rs` and no other module of this package: the kernel is handed addresses
//! here (the answer, the buffer ring), and the compiler cannot see how long it keeps them.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use rustix::net::{RecvFlags, SendFlags, Shutdown};

/// Entries of the submission queue: two for each completion of a full batch of 1024.
const SQ_ENTRIES: u32 = 2048;
/// Entries of the completion queue.
const CQ_ENTRIES: u32 = 8192;
/// Buffers in the provided ring; a power of two.
const BUFFERS: u16 = 1024;
/// Bytes of one buffer: a request of the routes under load fits with room to spare.
const BUFFER_BYTES: u32 = 4096;
/// The only buffer group.
const GROUP: u16 = 0;

const OP_ACCEPT: u64 = 0;
const OP_RECV: u64 = 1;
const OP_SEND: u64 = 2;
const OP_END: u64 = 3;

/// Operation, generation of the slot and slot of a registered file, in one `user_data`. The generation tells a late
/// completion of a closed connection from one of its successor in the same slot.
fn pack(op: u64, generation: u32, slot: u32) -> u64 {
    op << 56 | u64::from(generation & 0x00ff_ffff) << 32 | u64::from(slot)
}

/// Operation, generation, slot.
fn unpack(data: u64) -> (u64, u32, u32) {
    (data >> 56, (data >> 32) as u32 & 0x00ff_ffff, data as u32)
}

/// The memory of the buffer ring, for its layout only.
#[repr(C, align(4096))]
struct EntryPages([BufRingEntry; BUFFERS as usize]);
/// The memory of the buffers, for its layout only.
#[repr(C, align(4096))]
struct BytePages([u8; BUFFERS as usize * BUFFER_BYTES as usize]);

/// Zeroed memory that is never freed: the kernel takes a ring down behind the caller's back, after its descriptor is
/// closed, so no moment within the process is known to be safe.
fn leak<Pages>() -> NonNull<Pages> {
    let layout = Layout::new::<Pages>();
    assert!(layout.size() > 0, "an allocation has a size");
    // SAFETY: the layout's size is above zero, by the line above.
    NonNull::new(unsafe { alloc_zeroed(layout) })
        .unwrap_or_else(|| handle_alloc_error(layout))
        .cast()
}

/// The provided buffer ring: entries that the kernel reads, and the buffers they point into.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        let mut buffers = Self {
            entries: leak::<EntryPages>().cast(),
            bytes: leak::<BytePages>().cast(),
            tail: 0,
        };
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        buffers.publish();
        buffers
    }

    /// Puts buffer `id` at the ring's end; the kernel sees it after [`Self::publish`].
    fn give_back(&mut self, id: u16) {
        let at = usize::from(self.tail & (BUFFERS - 1));
        let offset = usize::from(id & (BUFFERS - 1)) * BUFFER_BYTES as usize;
        // SAFETY: `at` is below BUFFERS and `offset` below the size of `bytes` (both are masked), so both pointers
        // stay inside the allocations of `new`, which are never freed. The kernel does not read an entry at
        // or beyond the published tail, and this thread is the only writer. The setters leave `resv`, where the tail
        // of entry 0 lies, as it is.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(at);
            entry.set_addr(self.bytes.as_ptr().add(offset) as u64);
            entry.set_len(BUFFER_BYTES);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer given back so far.
    fn publish(&self) {
        // SAFETY: `entries` points at the first entry of the live, zeroed, page-aligned ring; its tail is a u16 that
        // is aligned and that only this thread writes, and the kernel reads it with acquire ordering.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

/// The server, ready to serve. What the kernel is pointed at is leaked, and so outlives the ring.
pub(super) struct Floor {
    ring: IoUring,
    buffers: Buffers,
    answer: &'static [u8],
    listener: OwnedFd,
    generations: Box<[u32]>,
}

impl Floor {
    /// Sets the ring up.
    ///
    /// # Errors
    /// A sentence with the errno, its likely cause and the remedy.
    pub(super) fn new(listener: OwnedFd, answer: Vec<u8>, connections: u32) -> Result<Self, String> {
        let ring = build_ring().map_err(|e| explain("set up an io_uring", &e))?;
        let buffers = Buffers::new();
        ring.submitter()
            .register_files_sparse(connections)
            .map_err(|e| explain(&format!("register {connections} files (see `ulimit -n`)"), &e))?;
        // SAFETY: the ring of entries is page-aligned, has BUFFERS entries and is never freed.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(buffers.entries.as_ptr() as u64, BUFFERS, GROUP, 0)
        }
        .map_err(|e| explain("register the buffer ring", &e))?;
        let generations = vec![0; connections as usize].into_boxed_slice();
        Ok(Self {
            ring,
            buffers,
            answer: answer.leak(),
            listener,
            generations,
        })
    }

    /// Serves until the process is ended.
    ///
    /// # Errors
    /// The ring itself failed; a failing connection is only closed.
    pub(super) fn serve(mut self) -> Result<ExitCode, String> {
        let (mut submitter, sq, mut cq) = self.ring.split();
        // Saves the kernel one look-up of the ring's descriptor for each enter; older kernels do without.
        let _ = submitter.register_ring_fd();
        let mut out = Outbox { submitter, sq };
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
            .allocate_file_index(true)
            .build()
            .user_data(pack(OP_ACCEPT, 0, 0));
        let answer_len = u32::try_from(self.answer.len()).map_err(|_| "the answer is too long")?;
        let send_flags = (SendFlags::NOSIGNAL.bits() | RecvFlags::WAITALL.bits()) as i32;
        out.push(&accept)?;
        loop {
            out.enter(1)?;
            cq.sync();
            for cqe in &mut cq {
                let (op, generation, slot) = unpack(cqe.user_data());
                let result = cqe.result();
                match op {
                    OP_RECV => {
                        if let Some(id) = cqueue::buffer_select(cqe.flags()) {
                            self.buffers.give_back(id);
                        }
                        if result > 0 {
                            // WAITALL: the kernel finishes a short send by itself. SKIP_SUCCESS: only a failed send
                            // posts a completion.
                            let send = opcode::Send::new(Fixed(slot), self.answer.as_ptr(), answer_len)
                                .flags(send_flags)
                                .build()
                                .flags(squeue::Flags::SKIP_SUCCESS)
                                .user_data(pack(OP_SEND, generation, slot));
                            out.push(&send)?;
                        }
                        if cqueue::more(cqe.flags()) {
                            continue;
                        }
                        // Ended: by choice of the kernel or for want of buffers (arm again), or with the connection.
                        if result > 0 || result == -rustix::io::Errno::NOBUFS.raw_os_error() {
                            out.push(&recv(generation, slot))?;
                        } else {
                            if let Some(g) = self.generations.get_mut(slot as usize) {
                                *g = g.wrapping_add(1) & 0x00ff_ffff;
                            }
                            let close = opcode::Close::new(Fixed(slot))
                                .build()
                                .flags(squeue::Flags::SKIP_SUCCESS)
                                .user_data(pack(OP_END, generation, slot));
                            out.push(&close)?;
                        }
                    }
                    OP_ACCEPT => {
                        if let Ok(slot) = u32::try_from(result) {
                            let generation = self.generations.get(slot as usize).copied().unwrap_or(0);
                            out.push(&recv(generation, slot))?;
                        }
                        // A full file table ends the accept; the connection that found it full is refused.
                        if !cqueue::more(cqe.flags()) {
                            out.push(&accept)?;
                        }
                    }
                    // The send failed: make the recv end too, which closes. Unless the slot is someone else's by now.
                    OP_SEND if self.generations.get(slot as usize) == Some(&generation) => {
                        let end = opcode::Shutdown::new(Fixed(slot), Shutdown::Both as i32)
                            .build()
                            .flags(squeue::Flags::SKIP_SUCCESS)
                            .user_data(pack(OP_END, generation, slot));
                        out.push(&end)?;
                    }
                    _ => {}
                }
            }
            self.buffers.publish();
        }
    }
}

/// The way into the kernel: the queue, and the call that empties it.
struct Outbox<'a> {
    submitter: Submitter<'a>,
    sq: SubmissionQueue<'a>,
}

impl Outbox<'_> {
    fn push(&mut self, entry: &squeue::Entry) -> Result<(), String> {
        // SAFETY: every entry points at the answer or at nothing, and the answer is never freed; buffers of a recv
        // come from the registered ring, which is never freed either. Descriptors are looked up by the kernel.
        while unsafe { self.sq.push(entry) }.is_err() {
            self.enter(0)?;
        }
        Ok(())
    }

    fn enter(&mut self, want: usize) -> Result<(), String> {
        self.sq.sync();
        match self.submitter.submit_and_wait(want) {
            Ok(_) => {}
            // A signal, or completions first: the caller's loop comes back.
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ResourceBusy) => {}
            Err(e) => return Err(explain("enter the ring", &e)),
        }
        self.sq.sync();
        Ok(())
    }
}

fn recv(generation: u32, slot: u32) -> squeue::Entry {
    opcode::RecvMulti::new(Fixed(slot), GROUP)
        .build()
        .user_data(pack(OP_RECV, generation, slot))
}

fn build_ring() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_clamp()
        .setup_cqsize(CQ_ENTRIES)
        .setup_submit_all();
    let plain = builder.clone();
    // 6.6 and later: one indirection less for each submission.
    builder.setup_no_sqarray();
    match builder.build(SQ_ENTRIES) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => plain.build(SQ_ENTRIES),
        other => other,
    }
}

/// What failed, the errno, its likely cause and the remedy.
fn explain(what: &str, error: &io::Error) -> String {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let cause = match errno {
        Some(Errno::PERM) => {
            "EPERM: a seccomp filter or kernel.io_uring_disabled forbids it; run outside the container, or allow \
             io_uring_setup, io_uring_enter and io_uring_register in its profile"
        }
        Some(Errno::NOSYS) => "ENOSYS: the kernel has no io_uring, or a seccomp filter says so; Linux 6.1 is needed",
        Some(Errno::INVAL) => "EINVAL: the kernel is older than 6.1, where DEFER_TASKRUN came",
        Some(Errno::NOMEM) => "ENOMEM: RLIMIT_MEMLOCK or the memory limit is too low; see `ulimit -l`",
        Some(Errno::MFILE) => "EMFILE: more files than RLIMIT_NOFILE allows; raise `ulimit -n` or lower --connections",
        _ => "no known cause",
    };
    format!("cannot {what}: {error} ({cause})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_comes_back_as_it_went() {
        for (op, generation, slot) in [(OP_ACCEPT, 0, 0), (OP_RECV, 0x00ff_ffff, u32::MAX), (OP_END, 7, 12345)] {
            assert_eq!(unpack(pack(op, generation, slot)), (op, generation, slot));
        }
    }

    #[test]
    fn buffers_go_round_the_ring() {
        let mut buffers = Buffers::new();
        assert_eq!(buffers.tail, BUFFERS);
        for round in 0..70_u16 {
            for id in 0..BUFFERS {
                buffers.give_back(id);
            }
            buffers.publish();
            assert_eq!(buffers.tail, BUFFERS.wrapping_mul(round.wrapping_add(2)));
        }
    }

    #[test]
    fn a_refusal_names_errno_and_remedy() {
        let text = explain("set up an io_uring", &io::Error::from_raw_os_error(1));
        assert!(text.contains("EPERM") && text.contains("seccomp"), "{text}");
    }
}
