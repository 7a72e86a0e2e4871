//! What a connection asks of the bytes below it: a socket as it is, or TLS over one.
//!
//! The receiving half gives whole buffers, the sending half takes whole buffers, and only one send is in flight:
//! [`Stream`]'s terms, so that a plain socket pays nothing for there being another kind.

use crate::runtime::driver::Shutdown;
use crate::runtime::driver::buffers::RecvBuffer;
use crate::runtime::net::Stream;
use std::io;
use std::ops::Deref;
use std::task::{Context, Poll};

/// A connected transport.
pub(crate) trait Transport: Unpin + 'static {
    /// What a receive gives.
    type Bytes: Deref<Target = [u8]>;

    /// Nobody on the way can read along.
    const SECURE: bool;

    /// The socket.
    fn stream(&self) -> &Stream;

    /// The next bytes; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the connection is broken; again at each call.
    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<Self::Bytes>>>;

    /// Stops receiving until the next [`poll_recv`](Self::poll_recv), and gives what has arrived. More may arrive until
    /// [`poll_paused`](Self::poll_paused) is ready.
    fn pause_recv(&mut self) -> Vec<Self::Bytes>;

    /// Ready once nothing more arrives by itself.
    fn poll_paused(&mut self, cx: &Context<'_>) -> Poll<()>;

    /// Starts to send all of `data`; [`poll_sent`](Self::poll_sent) must have been ready since the last.
    fn start_send_detached(&mut self, data: Vec<u8>);

    /// Ready when nothing is in flight: with the result of the last send, and its memory where that is at hand.
    fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<(io::Result<()>, Vec<u8>)>;

    /// True while a send is in flight.
    fn is_sending(&self) -> bool;

    /// Bytes of the send in flight that the kernel has taken: it grows while the peer reads. 0 with none in flight.
    fn taken_bytes(&self) -> usize;

    /// Says, where the transport has a word for it, that nothing more will be sent. To be followed by
    /// [`poll_sent`](Self::poll_sent) and [`shutdown_write`](Self::shutdown_write).
    fn say_goodbye(&mut self);

    /// Ends the sending direction of the socket.
    ///
    /// # Errors
    /// Those of shutdown(2).
    fn shutdown_write(&self) -> io::Result<()>;
}

impl Transport for Stream {
    type Bytes = RecvBuffer;
    const SECURE: bool = false;

    fn stream(&self) -> &Stream {
        self
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<RecvBuffer>>> {
        Stream::poll_recv(self, cx)
    }

    fn pause_recv(&mut self) -> Vec<RecvBuffer> {
        Stream::pause_recv(self)
    }

    fn poll_paused(&mut self, cx: &Context<'_>) -> Poll<()> {
        Stream::poll_paused(self, cx)
    }

    fn start_send_detached(&mut self, data: Vec<u8>) {
        Stream::start_send_detached(self, data);
    }

    fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<(io::Result<()>, Vec<u8>)> {
        Stream::poll_sent(self, cx)
    }

    fn is_sending(&self) -> bool {
        Stream::is_sending(self)
    }

    fn taken_bytes(&self) -> usize {
        Stream::taken_bytes(self)
    }

    fn say_goodbye(&mut self) {}

    fn shutdown_write(&self) -> io::Result<()> {
        Stream::shutdown(self, Shutdown::Write)
    }
}
