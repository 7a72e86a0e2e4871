//! The bytes below the frames: tokio's traits, which the library wants, over a [`Transport`].
//!
//! Reading copies out of the worker's receive buffers and lets them go; while nobody reads, [`Wire::step_back`] stops
//! receiving. Writing gathers what the library writes in one turn, and [`Wire::push`] sends it, in the worker's spare
//! buffers: one send is in flight, one is being written.

use super::PREFACE;
use super::meter::Meter;
use crate::limits;
use crate::runtime::{context, net};
use crate::server::Server;
use crate::server::app::App;
use crate::server::pace::{self, Pace};
use crate::server::transport::Transport;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct Wire<A: App, T: Transport> {
    stream: T,
    server: Rc<Server<A>>,
    pub(super) meter: Meter,
    /// Received and not yet read, from `at`.
    rest: Vec<u8>,
    at: usize,
    /// Written and not yet handed over.
    out: Vec<u8>,
    /// When the send in flight is looked at, nanoseconds of the worker's clock, and its credit from the first look on.
    look_ns: u64,
    pace: Option<Pace>,
    /// The library waits for input.
    reading: bool,
    /// The peer has ended its half, or the connection is broken.
    ended: bool,
    /// Our half is ended, in good order.
    shut: bool,
    said_goodbye: bool,
}

impl<A: App, T: Transport> Wire<A, T> {
    pub(super) fn new(stream: T, server: Rc<Server<A>>, early: Vec<u8>) -> Wire<A, T> {
        let now_ns = context::now_ns();
        Wire {
            stream,
            server,
            meter: Meter::new(PREFACE.len(), now_ns),
            rest: early,
            at: 0,
            out: Vec::new(),
            look_ns: now_ns,
            pace: None,
            reading: false,
            ended: false,
            shut: false,
            said_goodbye: false,
        }
    }

    /// True while the library waits for the client.
    pub(super) fn is_reading(&self) -> bool {
        self.reading
    }

    /// When the send in flight is to be looked at again, if there is one; 0 where the peer has taken too little of it.
    pub(super) fn look_at_send(&mut self, now_ns: u64) -> Option<u64> {
        if !self.stream.is_sending() {
            self.pace = None;
            return None;
        }
        if now_ns >= self.look_ns {
            let taken = pace::taken(&self.stream);
            let settings = &self.server.settings;
            let pace = self.pace.get_or_insert_with(|| Pace::new(settings, now_ns, taken));
            let Some(credit) = pace.look(now_ns, taken) else {
                self.stream.stream().reset_on_close();
                return Some(0);
            };
            let next = credit.min(self.server.look);
            self.look_ns = now_ns.saturating_add(u64::try_from(next.as_nanos()).unwrap_or(u64::MAX));
        }
        Some(self.look_ns)
    }

    /// The connection is closed on this side, and not yet on the other.
    pub(super) fn is_half_closed(&self) -> bool {
        self.shut && !self.ended
    }

    fn poll_read(&mut self, cx: &Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reading = false;
        if self.meter.verdict().is_some() {
            // Nothing more is read of it: `drive` sees the verdict after this poll.
            return Poll::Pending;
        }
        if self.at < self.rest.len() {
            let left = self.rest.get(self.at..).unwrap_or_default();
            let part = left.get(..into.remaining()).unwrap_or(left);
            into.put_slice(part);
            self.meter.received(part, context::now_ns());
            self.at += part.len();
            if self.at >= self.rest.len() {
                (self.rest, self.at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        match self.stream.poll_recv(cx) {
            Poll::Pending => {
                self.reading = true;
                Poll::Pending
            }
            Poll::Ready(Ok(None)) => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.ended = true;
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(Some(buffer))) => {
                self.server.app.received(buffer.len());
                let part = buffer.get(..into.remaining()).unwrap_or(&buffer);
                into.put_slice(part);
                self.meter.received(part, context::now_ns());
                self.rest
                    .extend_from_slice(buffer.get(part.len()..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Before a wait: where it is not for input, copies what has arrived out of the worker's receive buffers and stops
    /// receiving, so that a peer who sends without reading holds none of them. False if it has sent too much.
    pub(super) fn step_back(&mut self, cx: &Context<'_>) -> bool {
        if self.reading || self.ended {
            return true;
        }
        // Twice: what arrived until the driver let go, too.
        for _ in 0..2 {
            for buffer in self.stream.pause_recv() {
                self.server.app.received(buffer.len());
                self.rest.extend_from_slice(&buffer);
            }
            if self.stream.poll_paused(cx).is_pending() {
                break;
            }
        }
        self.meter.excuse(context::now_ns());
        self.rest.len().saturating_sub(self.at) <= limits::connection::PIPELINED_BYTES_MAX
    }

    fn write(&mut self, cx: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.out.len() >= limits::connection::WRITE_BATCH_BYTES {
            ready!(self.push(cx))?;
        }
        if self.out.capacity() == 0 {
            self.out = net::write_buffer();
        }
        let room = limits::connection::WRITE_BATCH_BYTES.saturating_sub(self.out.len());
        let part = data.get(..room).unwrap_or(data);
        self.out.extend_from_slice(part);
        self.meter.sent(part, context::now_ns());
        Poll::Ready(Ok(part.len()))
    }

    /// Hands what was written to the kernel, once it has taken what was before.
    pub(super) fn push(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (result, memory) = ready!(self.stream.poll_sent(cx));
        result?;
        net::recycle(memory);
        let out = std::mem::take(&mut self.out);
        self.server.app.sent(out.len());
        let look = u64::try_from(self.server.look.as_nanos()).unwrap_or(u64::MAX);
        self.look_ns = context::now_ns().saturating_add(look);
        // Each send has its own time.
        self.pace = None;
        self.stream.start_send_detached(out);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.push(cx))?;
        if !self.said_goodbye {
            self.said_goodbye = true;
            self.stream.say_goodbye();
        }
        let (result, _) = ready!(self.stream.poll_sent(cx));
        result?;
        self.stream.shutdown_write()?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }

    /// After our end: reads and drops, so that the kernel sends no reset that would overtake the last frames. Ready
    /// once the peer has ended too, or has sent more than `left`.
    pub(super) fn poll_drained(&mut self, cx: &Context<'_>, left: &mut usize) -> Poll<()> {
        self.rest = Vec::new();
        loop {
            match ready!(self.stream.poll_recv(cx)) {
                Ok(Some(bytes)) if bytes.len() < *left => *left -= bytes.len(),
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// A [`Wire`] as the library has it. `drive` has the other half.
pub(super) struct Duplex<A: App, T: Transport>(pub(super) Rc<RefCell<Wire<A, T>>>);

impl<A: App, T: Transport> AsyncRead for Duplex<A, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, into)
    }
}

impl<A: App, T: Transport> AsyncWrite for Duplex<A, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let mut written = 0;
        for slice in slices {
            match wire.write(cx, slice) {
                Poll::Ready(Ok(bytes)) => {
                    written += bytes;
                    if bytes < slice.len() {
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if written == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done at once: what is written in one turn goes out together at its end, when `drive` pushes it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }
}
