//! A stream as client libraries see it: tokio's `AsyncRead` and `AsyncWrite`, which copy.

use super::Stream;
use crate::limits;
use crate::runtime::driver::Shutdown;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            // A database answers many calls at once, and is no stranger.
            match ready!(self.poll_recv_upto(limits::runtime::client_recv_buffers_max, cx))? {
                Some(buffer) => self.rest = Some(Box::new((buffer, 0))),
                None => return Poll::Ready(Ok(())),
            }
        }
        if let Some(rest) = &mut self.rest {
            let (buffer, taken) = &mut **rest;
            let left = buffer.get(*taken..).unwrap_or_default();
            let bytes = left.len().min(out.remaining());
            out.put_slice(left.get(..bytes).unwrap_or_default());
            *taken += bytes;
            if *taken >= buffer.len() {
                self.rest = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let (result, mut memory) = ready!(self.poll_sent(cx));
        result?;
        let part = data.get(..limits::runtime::WRITE_COPY_BYTES_MAX).unwrap_or(data);
        memory.clear();
        memory.extend_from_slice(part);
        self.start_send(memory);
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx).map(|(result, _)| result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (result, _) = ready!(self.poll_sent(cx));
        result?;
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}
