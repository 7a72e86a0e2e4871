//! The bodies of a stream: one on its way in, one on its way out.

use super::gate::{Gate, Taken};
use crate::limits;
use crate::runtime::net;
use crate::runtime::time::timeout;
use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
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
    pub(super) taken: Taken,
}

pub(super) enum Memory {
    Own(Vec<u8>),
    Shared(Rc<dyn AsRef<[u8]>>),
}

impl Memory {
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
