//! The life of an operation, the same for every driver (invariant 3).
//!
//! ```text
//!            arm                    last event
//!   (new) --------> Armed ------------------------------> Done --- taken ---> (free)
//!                    | |  queue full: cancel
//!                    | +-------------> Stopping -- last --> Idle -- queue drained: arm --> Armed
//!                    |
//!                    | ENOBUFS --> Starved -- buffers have come back: arm --> Armed     (Starved -- paused --> Idle)
//!                    | future dropped: cancel
//!                    +--> Abandoned -- last event --> (free)
//!
//!            arm a detached send            all sent                       error
//!   (new) ---------------------> Detached ----------> (free)     Detached -------> Done
//! ```
//!
//! An entry, with the memory and the descriptor of its operation, is freed in `Done`, `Idle`, `Starved` or after the last event,
//! never while armed. Nothing outside this file and its folder frees an entry.
//!
//! - `accept`: what the consumer of an accept asks for

mod accept;

use super::buffers::{BufferPool, BufferQueue, RecvBuffer, Spares};
use super::{CloseQueue, Driver, Event, Op, OpId, error_of};
use crate::limits;
use rustix::io::Errno;
use slab::Slab;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

const ECANCELED: i32 = -Errno::CANCELED.raw_os_error();
const EINTR: i32 = -Errno::INTR.raw_os_error();
const ENOBUFS: i32 = -Errno::NOBUFS.raw_os_error();

/// What a whole send comes back with: its result, and its memory for reuse.
pub type Sent = (io::Result<()>, Vec<u8>);
/// What a receive gives: bytes, or `None` at the end of the stream.
pub type Received = io::Result<Option<RecvBuffer>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With the driver.
    Armed,
    /// With the driver, which was asked to stop because the consumer is behind.
    Stopping,
    /// A multishot operation that is not with the driver; the consumer's next poll arms it again.
    Idle,
    /// A receive that found no buffer; armed again when some have come back.
    Starved,
    /// Ended, with this result; not with the driver.
    Done(i32),
    /// A send with the driver whose success nobody needs to see: it frees itself. A failure becomes `Done`.
    Detached,
    /// With the driver, but nobody will ask for the result.
    Abandoned,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    state: State,
    op: Op,
    waker: Option<Waker>,
}

/// All operations of a worker.
pub struct OpTable {
    entries: Slab<Entry>,
    generation: u32,
    pool: Rc<BufferPool>,
    closing: CloseQueue,
    /// Receives that ended with ENOBUFS, to be armed when buffers have come back.
    starved: Vec<OpId>,
    spares: Spares,
}

impl OpTable {
    /// An empty table over the driver's buffers.
    pub fn new(pool: Rc<BufferPool>, closing: CloseQueue) -> OpTable {
        // Reserved in one piece: growth by doubling would copy megabytes in the middle of a turn. Pages that are not
        // touched cost nothing.
        let entries = Slab::with_capacity(limits::runtime::OPS_RESERVED);
        OpTable {
            entries,
            generation: 0,
            pool,
            closing,
            starved: Vec::new(),
            spares: Spares::default(),
        }
    }

    /// Operations that are not yet free.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nothing is in flight or waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Starts an operation. The caller owns the id and must take the result or abandon it.
    pub fn start(&mut self, driver: &mut dyn Driver, op: Op) -> OpId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index = self.entries.insert(Entry {
            generation,
            state: State::Armed,
            op,
            waker: None,
        });
        let id = OpId {
            index: index as u32,
            generation,
        };
        if let Some(entry) = self.entries.get_mut(index) {
            driver.arm(id, &mut entry.op);
        }
        id
    }

    fn entry(&mut self, id: OpId) -> Option<&mut Entry> {
        self.entries
            .get_mut(id.index as usize)
            .filter(|entry| entry.generation == id.generation)
    }

    /// Nobody will ask for the result any more. The entry goes now if the driver does not hold it, and otherwise with
    /// its last event.
    pub fn abandon(&mut self, driver: &mut dyn Driver, id: OpId) {
        let Some(entry) = self.entry(id) else { return };
        entry.waker = None;
        match entry.state {
            State::Armed | State::Detached => {
                entry.state = State::Abandoned;
                driver.cancel(id, &entry.op);
                self.drop_ready(id);
            }
            State::Stopping => {
                entry.state = State::Abandoned;
                self.drop_ready(id);
            }
            State::Idle | State::Starved | State::Done(_) => {
                self.drop_ready(id);
                self.free(id);
            }
            State::Abandoned => {}
        }
    }

    /// Gives back what arrived for nobody.
    fn drop_ready(&mut self, id: OpId) {
        let pool = Rc::clone(&self.pool);
        let closing = Rc::clone(&self.closing);
        match self.entry(id).map(|entry| &mut entry.op) {
            Some(Op::Recv { ready, .. }) => while ready.pop(&pool).is_some() {},
            Some(Op::Accept { ready, .. }) => closing.borrow_mut().extend(ready.drain(..)),
            _ => {}
        }
    }

    fn free(&mut self, id: OpId) -> Option<Op> {
        self.entry(id)?;
        Some(self.entries.remove(id.index as usize).op)
    }

    /// Books an event; returns who is to be woken, once no borrow is held.
    pub fn apply(&mut self, driver: &mut dyn Driver, event: Event) -> Option<Waker> {
        let pool = Rc::clone(&self.pool);
        let Some(entry) = self
            .entries
            .get_mut(event.op.index as usize)
            .filter(|e| e.generation == event.op.generation)
        else {
            debug_assert!(false, "an event for an operation that is free: {event:?}");
            if let Some(buffer) = event.buffer {
                pool.give_back(buffer);
            }
            return None;
        };
        if entry.state == State::Abandoned {
            if let Some(buffer) = event.buffer {
                pool.give_back(buffer);
            }
            if let (Op::Accept { asks: false, .. }, true) = (&entry.op, event.result >= 0) {
                self.closing.borrow_mut().push(event.result);
            }
            if !event.more {
                self.free(event.op);
            }
            return None;
        }
        if event.result == EINTR && !event.more && matches!(entry.state, State::Armed | State::Detached) {
            driver.arm(event.op, &mut entry.op);
            return None;
        }
        match &mut entry.op {
            Op::Recv { ready, buffers_max, .. } => {
                if let Some(buffer) = event.buffer {
                    if event.result > 0 {
                        ready.push(&pool, buffer, event.result as u32);
                    } else {
                        pool.give_back(buffer);
                    }
                }
                if event.result == ENOBUFS && !event.more && entry.state == State::Armed {
                    entry.state = State::Starved;
                    self.starved.push(event.op);
                    return None;
                }
                let full = ready.len() >= usize::from(*buffers_max);
                Self::after_multishot(driver, entry, event, event.result > 0, full)
            }
            Op::Accept {
                ready,
                shared,
                single,
                asks,
                told,
                ..
            } => {
                if event.result >= 0 && *asks {
                    *told = if *shared {
                        limits::runtime::ACCEPTS_PER_TURN_SHARED
                    } else {
                        limits::runtime::ACCEPTS_PER_TURN
                    };
                } else if event.result >= 0 {
                    ready.push_back(event.result);
                }
                let full = *asks || *single || ready.len() >= limits::runtime::ACCEPT_QUEUE_MAX;
                Self::after_multishot(driver, entry, event, event.result >= 0, full)
            }
            Op::Send { data, sent, .. } => {
                if event.result > 0 {
                    *sent = sent.saturating_add(event.result as usize).min(data.len());
                    if *sent < data.len() {
                        driver.arm(event.op, &mut entry.op);
                        return None;
                    }
                }
                if entry.state == State::Detached && event.result >= 0 {
                    let waker = entry.waker.take();
                    if let Some(Op::Send { data, .. }) = self.free(event.op) {
                        self.recycle(data);
                    }
                    return waker;
                }
                entry.state = State::Done(event.result);
                entry.waker.take()
            }
            Op::Connect { .. } => {
                entry.state = State::Done(event.result);
                entry.waker.take()
            }
        }
    }

    fn after_multishot(
        driver: &mut dyn Driver,
        entry: &mut Entry,
        event: Event,
        good: bool,
        full: bool,
    ) -> Option<Waker> {
        if event.more {
            if full && entry.state == State::Armed {
                // Back pressure: the consumer is behind, so the socket's own window shall fill.
                entry.state = State::Stopping;
                driver.cancel(event.op, &entry.op);
            }
        } else if good || (entry.state == State::Stopping && matches!(event.result, ECANCELED | EINTR | ENOBUFS)) {
            // The kernel ended it for reasons of its own (a completion queue that overflowed), or as asked, or it
            // was quicker with a reason that does not end the stream.
            if full || entry.state == State::Stopping {
                entry.state = State::Idle;
            } else {
                entry.state = State::Armed;
                driver.arm(event.op, &mut entry.op);
            }
        } else {
            // End of stream (0) or an error.
            entry.state = State::Done(event.result);
        }
        entry.waker.take()
    }

    /// Arms the receives that ran out of buffers, once consumers do not hold all of them. Called before each turn.
    pub fn feed(&mut self, driver: &mut dyn Driver) {
        // Not `has_returned`: the driver may have taken the buffers back before it reported the ENOBUFS, and nothing
        // would come back after that.
        if self.starved.is_empty() || self.pool.taken() == self.pool.count() {
            return;
        }
        for id in std::mem::take(&mut self.starved) {
            if let Some(entry) = self.entry(id)
                && entry.state == State::Starved
            {
                entry.state = State::Armed;
                driver.arm(id, &mut entry.op);
            }
        }
    }

    fn wait(entry: &mut Entry, cx: &Context<'_>) {
        match &mut entry.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// The next received bytes; `None` at the end of the stream. After the end or an error the id stays valid and
    /// keeps giving the same answer, until it is abandoned.
    pub fn poll_recv(&mut self, driver: &mut dyn Driver, id: OpId, cx: &Context<'_>) -> Poll<Received> {
        let pool = Rc::clone(&self.pool);
        let Some(entry) = self.entry(id) else {
            return Poll::Ready(Ok(None));
        };
        let state = entry.state;
        let Op::Recv { ready, .. } = &mut entry.op else {
            return Poll::Ready(Ok(None));
        };
        if let Some(buffer) = ready.pop(&pool) {
            return Poll::Ready(Ok(Some(buffer)));
        }
        match state {
            State::Done(0) => Poll::Ready(Ok(None)),
            State::Done(result) => Poll::Ready(Err(error_of(result))),
            State::Idle => {
                Self::wait(entry, cx);
                entry.state = State::Armed;
                driver.arm(id, &mut entry.op);
                Poll::Pending
            }
            _ => {
                Self::wait(entry, cx);
                Poll::Pending
            }
        }
    }

    /// True if a receive holds bytes that are not taken.
    pub fn has_received(&self, id: OpId) -> bool {
        let entry = self.entries.get(id.index as usize);
        entry.is_some_and(|entry| {
            entry.generation == id.generation && matches!(&entry.op, Op::Recv { ready, .. } if !ready.is_empty())
        })
    }

    /// Stops a receive until the next [`poll_recv`](Self::poll_recv), and takes what has arrived: for a consumer that
    /// will be busy for a while, and must not hold the worker's buffers meanwhile.
    pub fn pause_recv(&mut self, driver: &mut dyn Driver, id: OpId) -> Vec<RecvBuffer> {
        let pool = Rc::clone(&self.pool);
        let Some(entry) = self.entry(id) else { return Vec::new() };
        match entry.state {
            State::Armed => {
                entry.state = State::Stopping;
                driver.cancel(id, &entry.op);
            }
            // Not to be armed when buffers come back: nobody would take what arrives.
            State::Starved => entry.state = State::Idle,
            _ => {}
        }
        match &mut entry.op {
            Op::Recv { ready, .. } => std::iter::from_fn(|| ready.pop(&pool)).collect(),
            _ => Vec::new(),
        }
    }

    /// Ready once the driver has let go of a receive that [`pause_recv`](Self::pause_recv) stopped: then nothing more
    /// arrives by itself.
    pub fn poll_paused(&mut self, id: OpId, cx: &Context<'_>) -> Poll<()> {
        match self.entry(id) {
            Some(entry) if entry.state == State::Stopping => {
                Self::wait(entry, cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Starts a send whose success nobody needs to see: the operation then frees itself and its memory goes to the
    /// worker's spare buffers, so that an idle connection holds neither. [`poll_send`](Self::poll_send) still tells.
    pub fn start_detached(&mut self, driver: &mut dyn Driver, op: Op) -> OpId {
        let id = self.start(driver, op);
        if let Some(entry) = self.entry(id) {
            entry.state = State::Detached;
        }
        id
    }

    /// Memory for a write: empty, and with capacity where a spare buffer was at hand.
    pub fn spare(&mut self) -> Vec<u8> {
        self.spares.take()
    }

    /// Takes memory back for [`spare`](Self::spare), within bounds.
    pub fn recycle(&mut self, data: Vec<u8>) {
        self.spares.keep(data);
    }

    /// True while the send is with the driver; false also for one that has freed itself.
    pub fn is_sending(&self, id: OpId) -> bool {
        self.entries
            .get(id.index as usize)
            .is_some_and(|entry| entry.generation == id.generation && !matches!(entry.state, State::Done(_)))
    }

    /// Of a send in flight, the bytes that the kernel has taken, and those in all.
    pub fn progress(&self, id: OpId) -> (usize, usize) {
        match self
            .entries
            .get(id.index as usize)
            .map(|entry| (entry.generation, &entry.op))
        {
            Some((generation, Op::Send { data, sent, .. })) if generation == id.generation => (*sent, data.len()),
            _ => (0, 0),
        }
    }

    /// The end of a send. Frees the operation when ready. An operation that is gone was detached and has succeeded.
    pub fn poll_send(&mut self, id: OpId, cx: &Context<'_>) -> Poll<Sent> {
        let gone = || Poll::Ready((Ok(()), Vec::new()));
        let Some(entry) = self.entry(id) else { return gone() };
        let State::Done(result) = entry.state else {
            Self::wait(entry, cx);
            return Poll::Pending;
        };
        match self.free(id) {
            Some(Op::Send { data, .. }) => Poll::Ready((if result < 0 { Err(error_of(result)) } else { Ok(()) }, data)),
            _ => gone(),
        }
    }

    /// The end of a connect. Frees the operation when ready.
    pub fn poll_connect(&mut self, id: OpId, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(entry) = self.entry(id) else {
            return Poll::Ready(Err(error_of(ECANCELED)));
        };
        let State::Done(result) = entry.state else {
            Self::wait(entry, cx);
            return Poll::Pending;
        };
        self.free(id);
        Poll::Ready(if result < 0 { Err(error_of(result)) } else { Ok(()) })
    }

    /// Abandons everything; the entries go as their last events come in. For the end of a runtime.
    pub fn abandon_all(&mut self, driver: &mut dyn Driver) {
        let ids: Vec<OpId> = self
            .entries
            .iter()
            .map(|(index, entry)| OpId {
                index: index as u32,
                generation: entry.generation,
            })
            .collect();
        for id in ids {
            self.abandon(driver, id);
        }
    }

    /// The numbers that operations are on, each once.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut fds: Vec<RawFd> = self.entries.iter().map(|(_, entry)| entry.op.fd()).collect();
        fds.sort_unstable();
        fds.dedup();
        fds
    }

    /// An empty receive operation on `socket`, which stops while `buffers_max` of its buffers wait.
    pub fn recv_op(socket: super::Handle, buffers_max: u16) -> Op {
        Op::Recv {
            socket,
            ready: BufferQueue::new(),
            buffers_max,
        }
    }
}
