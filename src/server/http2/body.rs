//! The bodies of a stream: one on its way in, one on its way out.

use super::gate::{Gate, Taken};
use crate::limits;
use crate::runtime::net;
use crate::runtime::time::timeout;
use crate::server::budget::{Budget, Reserved};
use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// The client has reset the stream, takes nothing, or is gone: there is nobody to answer.
pub(super) struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Gone {
        Gone
    }
}

/// The memory of an answer: back to the worker's spares once all of it is sent.
pub(super) struct Body {
    pub(super) memory: Memory,
    pub(super) _taken: Taken,
    /// Of the worker's budget for answers that peers are slow to take.
    pub(super) _held: Option<Reserved>,
}

pub(super) enum Memory {
    Own(Vec<u8>),
    Shared(Rc<dyn AsRef<[u8]>>),
}

impl Memory {
    /// Bytes that go when this goes; what others share stays anyway.
    pub(super) fn own_bytes(&self) -> usize {
        match self {
            Memory::Own(bytes) => bytes.capacity(),
            Memory::Shared(_) => 0,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Memory::Own(bytes) => bytes,
            Memory::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Memory::Own(bytes) = &mut self.memory {
            net::recycle(std::mem::take(bytes));
        }
    }
}

/// A part of an answer, on its way through the library.
pub(super) struct Piece {
    pub(super) body: Option<Rc<Body>>,
    pub(super) at: usize,
    pub(super) end: usize,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    fn chunk(&self) -> &[u8] {
        let bytes = self.body.as_ref().map(|body| body.memory.bytes());
        bytes.and_then(|bytes| bytes.get(self.at..self.end)).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.end);
    }
}

/// A body on its way in.
pub(super) struct Upload {
    pub(super) stream: RecvStream,
    /// Bytes read and not yet given back to the client's windows.
    pub(super) unreleased: usize,
    pub(super) settled: Rc<Gate>,
}

impl Upload {
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Gone>> {
        let data = poll_fn(|cx| {
            // What a client sent before it knew our settings may be more than its window then is. The library looks
            // whether the window is to be opened when something is given back, and not when the settings take effect.
            self.settled.is_open_or_wait(cx);
            let _ = self.stream.flow_control().release_capacity(0);
            self.stream.poll_data(cx)
        })
        .await?;
        Some(match data {
            Ok(data) => {
                self.unreleased += data.len();
                Ok(data)
            }
            Err(_) => Err(Gone),
        })
    }

    pub(super) fn release(&mut self) -> Result<(), Gone> {
        let bytes = std::mem::take(&mut self.unreleased);
        Ok(self.stream.flow_control().release_capacity(bytes)?)
    }

    /// Behind an early answer: drops what the client still sends, for a while, as a closing connection of HTTP/1.1 does.
    /// The reset that follows (RFC 9113 section 8.1) would make some clients forget the answer.
    pub(super) async fn linger(mut self) {
        let _ = timeout(Duration::from_millis(limits::connection::LINGER_MS), async {
            let mut left = limits::connection::LINGER_BYTES_MAX;
            while self.release().is_ok()
                && let Some(Ok(data)) = self.next().await
                && data.len() < left
            {
                left -= data.len();
            }
        })
        .await;
    }
}

/// What the unfinished requests of a connection hold: a part for free, as any connection has it, and the rest out of the
/// worker's budget.
pub(super) struct Pending {
    budget: Rc<Budget>,
    bytes: Cell<usize>,
    reserved: RefCell<Option<Reserved>>,
}

impl Pending {
    pub(super) fn new(budget: &Rc<Budget>) -> Rc<Pending> {
        Rc::new(Pending {
            budget: Rc::clone(budget),
            bytes: Cell::new(0),
            reserved: RefCell::new(None),
        })
    }

    /// The part of one request, which holds nothing yet.
    pub(super) fn begin(self: &Rc<Pending>) -> Held {
        Held {
            pending: Rc::clone(self),
            bytes: 0,
        }
    }

    /// False where there is no room: then it stays as it was.
    fn resize(&self, bytes: usize) -> bool {
        let above = bytes.saturating_sub(limits::connection::PENDING_FREE_BYTES);
        let mut reserved = self.reserved.borrow_mut();
        let fits = match &mut *reserved {
            Some(reserved) if above > 0 => reserved.resize(above),
            _ => {
                *reserved = (above > 0).then(|| self.budget.reserve(above)).flatten();
                above == 0 || reserved.is_some()
            }
        };
        if fits {
            self.bytes.set(bytes);
        }
        fits
    }
}

/// What one request holds; dropping it gives that back.
pub(super) struct Held {
    pending: Rc<Pending>,
    bytes: usize,
}

impl Held {
    /// So many bytes more. False where there is no room.
    #[must_use = "what was not reserved must not be held"]
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let fits = self.pending.resize(self.pending.bytes.get().saturating_add(bytes));
        if fits {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        fits
    }

    /// True if so many bytes more, beyond the free part, could be held now.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let above = bytes.saturating_sub(limits::connection::PENDING_FREE_BYTES);
        above == 0 || self.pending.budget.has_room(above)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Less always fits.
        let _ = self.pending.resize(self.pending.bytes.get().saturating_sub(self.bytes));
    }
}

/// How much of `bytes` the client has room for: at least one.
pub(super) async fn room(stream: &mut SendStream<Piece>, bytes: usize) -> Result<usize, Gone> {
    stream.reserve_capacity(bytes);
    poll_fn(|cx| {
        loop {
            let room = stream.capacity().min(bytes);
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Gone)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
