//! The receive buffers that the kernel may take from.

use crate::runtime::driver::buffers::{BufferId, BufferPool};
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

const PAGE: usize = 4096;

/// The ring of `io_uring_buf` entries that the kernel takes receive buffers from.
pub(super) struct BufferRing {
    pub(super) entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    pub(super) fn new(count: u16) -> io::Result<BufferRing> {
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

    pub(super) fn add(&mut self, pool: &BufferPool, id: BufferId) {
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

    pub(super) fn publish(&mut self) {
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
