//! Receive buffers, shared by all connections of a worker: an idle connection holds none (invariant 5).
//!
//! One allocation, cut into buffers of equal size. The driver fills a buffer, the table queues it on its operation,
//! the stream hands it out as a [`RecvBuffer`], whose drop gives it back. Nothing here is shared between threads.
#![allow(unsafe_code)] // Reason: the kernel writes into this memory; see the SAFETY lines.

use crate::limits::runtime as limits;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ops::Deref;
use std::rc::Rc;

/// Number of a buffer in its pool.
pub type BufferId = u16;

const NONE: u16 = u16::MAX;

/// The worker's receive buffers.
#[derive(Debug)]
pub struct BufferPool {
    memory: Box<[UnsafeCell<u8>]>,
    buffer_bytes: usize,
    /// Per buffer: bytes received, and the next buffer of the queue that it stands in.
    filled: Box<[Cell<(u32, u16)>]>,
    /// In queues and handed out: the driver will not have these before a consumer lets go.
    taken: Cell<u16>,
    /// Given back, not yet with the driver again.
    returned: RefCell<Vec<BufferId>>,
}

impl BufferPool {
    /// `count` buffers (at most 32768, a power of two for the kernel's ring) of `buffer_bytes` each. All start with
    /// the driver, which calls [`take_returned`](Self::take_returned) for its first look.
    pub fn new(count: u16, buffer_bytes: usize) -> Rc<BufferPool> {
        let bytes = usize::from(count) * buffer_bytes;
        // Zeroed pages are only mapped when the kernel first writes to them.
        let memory: Box<[UnsafeCell<u8>]> = {
            let zeroed: Box<[u8]> = vec![0u8; bytes].into_boxed_slice();
            // SAFETY: UnsafeCell<u8> has the layout of u8 (repr(transparent)), so a box of one is a box of the other.
            unsafe { Box::from_raw(Box::into_raw(zeroed) as *mut [UnsafeCell<u8>]) }
        };
        Rc::new(BufferPool {
            memory,
            buffer_bytes,
            filled: vec![Cell::new((0, NONE)); usize::from(count)].into_boxed_slice(),
            taken: Cell::new(0),
            returned: RefCell::new((0..count).collect()),
        })
    }

    /// How many buffers there are.
    pub fn count(&self) -> u16 {
        self.filled.len() as u16
    }

    /// Bytes of one buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Moves the buffers that were given back into `into`.
    pub fn take_returned(&self, into: &mut Vec<BufferId>) {
        into.append(&mut self.returned.borrow_mut());
    }

    /// True if buffers wait to go back to the driver.
    pub fn has_returned(&self) -> bool {
        !self.returned.borrow().is_empty()
    }

    /// Buffers that consumers hold, in queues or in their hands.
    pub fn taken(&self) -> u16 {
        self.taken.get()
    }

    /// Gives a buffer back that was never handed out as a [`RecvBuffer`].
    pub fn give_back(&self, id: BufferId) {
        self.returned.borrow_mut().push(id);
    }

    /// Where the buffer begins, for the kernel or for a driver to write to. The pointer is good for
    /// `buffer_bytes` as long as the pool lives.
    pub(super) fn address(&self, id: BufferId) -> *mut u8 {
        debug_assert!(id < self.count());
        // From the whole allocation's pointer, so that its provenance covers the buffer and not one byte.
        UnsafeCell::raw_get(self.memory.as_ptr().wrapping_add(usize::from(id) * self.buffer_bytes))
    }

    /// A driver that copies itself (epoll, sim) writes through this. The buffer must be with the driver: not in a
    /// queue and not handed out.
    pub(super) fn fill<R>(&self, id: BufferId, write: impl FnOnce(&mut [u8]) -> R) -> R {
        // SAFETY: the range lies inside `memory`; a buffer that is with the driver has no other reference (ids leave
        // the driver only by `Event::buffer` and come back only by `give_back`), and the slice ends with the call.
        write(unsafe { std::slice::from_raw_parts_mut(self.address(id), self.buffer_bytes) })
    }
}

/// Buffers received and not yet taken, linked through the pool: no allocation per connection.
#[derive(Debug)]
pub struct BufferQueue {
    head: u16,
    tail: u16,
    len: u16,
}

impl BufferQueue {
    /// An empty queue.
    pub const fn new() -> BufferQueue {
        BufferQueue {
            head: NONE,
            tail: NONE,
            len: 0,
        }
    }

    /// How many buffers wait.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends buffer `id`, which holds `bytes`.
    pub fn push(&mut self, pool: &BufferPool, id: BufferId, bytes: u32) {
        let bytes = bytes.min(pool.buffer_bytes as u32);
        pool.filled[usize::from(id)].set((bytes, NONE));
        if self.tail == NONE {
            self.head = id;
        } else {
            let link = &pool.filled[usize::from(self.tail)];
            link.set((link.get().0, id));
        }
        self.tail = id;
        self.len += 1;
        pool.taken.set(pool.taken.get() + 1);
    }

    /// Takes the oldest.
    pub fn pop(&mut self, pool: &Rc<BufferPool>) -> Option<RecvBuffer> {
        if self.head == NONE {
            return None;
        }
        let id = self.head;
        let (bytes, next) = pool.filled[usize::from(id)].get();
        self.head = next;
        if next == NONE {
            self.tail = NONE;
        }
        self.len -= 1;
        Some(RecvBuffer {
            pool: Rc::clone(pool),
            id,
            bytes,
        })
    }
}

impl Default for BufferQueue {
    fn default() -> Self {
        BufferQueue::new()
    }
}

/// Received bytes. Dropping it gives the buffer back to the worker: parse, then let go, and never hold it across a
/// wait.
#[derive(Debug)]
pub struct RecvBuffer {
    pool: Rc<BufferPool>,
    id: BufferId,
    bytes: u32,
}

impl Deref for RecvBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the first `bytes` of the buffer were written before its event was reaped (`push` caps the count at
        // the buffer's size); the driver does not get the buffer again before this value is dropped, so nobody
        // writes while the slice lives.
        unsafe { std::slice::from_raw_parts(self.pool.address(self.id), self.bytes as usize) }
    }
}

impl Drop for RecvBuffer {
    fn drop(&mut self) {
        self.pool.taken.set(self.pool.taken.get() - 1);
        self.pool.give_back(self.id);
    }
}

/// Memory of finished sends, kept for the next ones, within bounds.
#[derive(Debug, Default)]
pub struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// Empty memory, with capacity where some is at hand.
    pub fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps memory for [`take`](Self::take), unless there is enough of it or it is too large.
    pub fn keep(&mut self, mut data: Vec<u8>) {
        let capacity = data.capacity();
        if capacity > 0 && capacity <= limits::SPARE_BUFFER_BYTES_MAX && self.0.len() < limits::SPARE_BUFFERS_MAX {
            data.clear();
            self.0.push(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_hands_out_in_order_and_a_drop_gives_back() {
        let pool = BufferPool::new(4, 16);
        let mut ids = Vec::new();
        pool.take_returned(&mut ids);
        assert_eq!(ids, [0, 1, 2, 3]);
        let mut queue = BufferQueue::new();
        for id in [2u16, 0, 3] {
            pool.fill(id, |bytes| bytes[0] = id as u8 + 10);
            queue.push(&pool, id, 1);
        }
        assert_eq!((queue.len(), pool.taken()), (3, 3));
        let order: Vec<u8> = std::iter::from_fn(|| queue.pop(&pool).map(|b| b[0])).collect();
        assert_eq!((order.as_slice(), pool.taken()), ([12, 10, 13].as_slice(), 0));
        assert!(queue.is_empty() && queue.pop(&pool).is_none());
        let mut back = Vec::new();
        pool.take_returned(&mut back);
        assert_eq!(back, [2, 0, 3]);
    }

    #[test]
    fn a_count_above_the_buffer_size_is_capped() {
        let pool = BufferPool::new(1, 8);
        let mut queue = BufferQueue::new();
        queue.push(&pool, 0, 4000);
        assert_eq!(queue.pop(&pool).unwrap().len(), 8);
    }
}
