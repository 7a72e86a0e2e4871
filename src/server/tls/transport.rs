//! [`TlsTransport`]: a [`Session`] over a [`Stream`].
//!
//! Records that TLS itself sends (handshake, new keys, alerts) wait in the session while a send is in flight, and go on
//! from [`poll_recv`](Transport::poll_recv) and [`poll_sent`](Transport::poll_sent): a caller that waits for either
//! need not know of them.

use super::session::Session;
use crate::runtime::driver::Shutdown;
use crate::runtime::net::{self, Stream};
use crate::server::transport::Transport;
use rustls::{Error, ServerConfig};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

/// TLS over a socket, from the server's side.
pub(crate) struct TlsTransport {
    stream: Stream,
    inner: Box<Inner>,
}

/// Boxed, so that a connection's future is as small as in the clear.
struct Inner {
    session: Session,
    /// Bytes of the send in flight, and of those before it since last nothing was in flight.
    in_flight: usize,
    sent_before: usize,
    /// Nothing can be sent any more.
    send_failed: Option<io::ErrorKind>,
    /// A byte has come.
    heard: bool,
    /// Its early bytes are HTTP in the clear.
    is_plain: bool,
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(in crate::server) enum Refusal {
    /// The client has left.
    Left,
    /// The socket broke.
    Broken(io::Error),
    /// The two cannot agree, or one of them makes mistakes. The alert is sent.
    Refused(Error),
    /// The client speaks HTTP in the clear.
    Plain,
}

/// Whether the first bytes of a connection are a method; a record begins with a byte below 32 (RFC 8446 section 5.1).
fn is_method(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

impl TlsTransport {
    /// `early` are bytes that came already, as they came.
    ///
    /// # Errors
    /// When rustls does not take the settings.
    pub(crate) fn new(stream: Stream, settings: Arc<ServerConfig>, early: &[u8]) -> Result<TlsTransport, Error> {
        let mut transport = TlsTransport {
            stream,
            inner: Box::new(Inner {
                session: Session::new(settings)?,
                in_flight: 0,
                sent_before: 0,
                send_failed: None,
                heard: false,
                is_plain: is_method(early),
            }),
        };
        if transport.inner.is_plain {
            transport.inner.heard = true;
        } else if !early.is_empty() {
            transport.hear(early);
        }
        Ok(transport)
    }

    /// Ready when the handshake is through.
    pub(in crate::server) fn poll_handshake(&mut self, cx: &Context<'_>) -> Poll<Result<(), Refusal>> {
        if self.inner.is_plain {
            return Poll::Ready(Err(Refusal::Plain));
        }
        loop {
            if self.inner.session.fault.is_some() {
                // With the alert, the peer knows why.
                let sent = ready!(self.poll_sent(cx)).0;
                return Poll::Ready(Err(match (self.inner.session.fault.clone(), sent) {
                    (Some(fault), _) => Refusal::Refused(fault),
                    (None, Err(error)) => Refusal::Broken(error),
                    (None, Ok(())) => Refusal::Left,
                }));
            }
            self.drive(cx);
            if !self.inner.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.stream.poll_recv(cx)) {
                Ok(Some(bytes)) if !self.inner.heard && is_method(&bytes) => {
                    self.inner.heard = true;
                    return Poll::Ready(Err(Refusal::Plain));
                }
                Ok(Some(bytes)) => self.hear(&bytes),
                Ok(None) => return Poll::Ready(Err(Refusal::Left)),
                Err(error) => return Poll::Ready(Err(Refusal::Broken(error))),
            }
        }
    }

    /// True once the peer has sent anything.
    pub(super) fn has_heard(&self) -> bool {
        self.inner.heard
    }

    /// What the client has chosen to speak (ALPN), once the handshake is through.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.inner.session.protocol()
    }

    /// The socket, for a last word below TLS.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Bytes of memory that its buffers hold.
    #[cfg(test)]
    pub(in crate::server) fn held_bytes(&self) -> usize {
        self.inner.session.held_bytes()
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.inner.heard = true;
        self.inner.session.open(bytes);
        self.kick();
    }

    /// Sends what is sealed, if nothing is in flight.
    fn kick(&mut self) {
        let inner = &self.inner;
        if inner.session.outgoing.is_empty() || inner.send_failed.is_some() || self.stream.is_sending() {
            return;
        }
        // Nothing is in flight, so this is ready: the waker is for form's sake.
        let _ = self.poll_sent(&Context::from_waker(Waker::noop()));
    }

    /// The same, and the caller is woken when what is in flight is sent and more waits behind it.
    fn drive(&mut self, cx: &Context<'_>) {
        if !self.inner.session.outgoing.is_empty() && self.inner.send_failed.is_none() {
            let _ = self.poll_sent(cx);
        }
    }
}

#[cfg(test)]
thread_local! {
    /// A transport was dropped by a panic: the executor survives that, and a test must not.
    pub(in crate::server) static PANICKED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
impl Drop for Inner {
    fn drop(&mut self) {
        PANICKED.set(PANICKED.get() || std::thread::panicking());
    }
}

impl Transport for TlsTransport {
    type Bytes = Vec<u8>;
    const SECURE: bool = true;

    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        loop {
            if !self.inner.session.plain.is_empty() {
                return Poll::Ready(Ok(Some(std::mem::take(&mut self.inner.session.plain))));
            }
            if self.inner.session.fault.is_some() {
                let _ = ready!(self.poll_sent(cx));
                let fault = self.inner.session.fault.clone().map(io::Error::other);
                return Poll::Ready(fault.map_or(Ok(None), Err));
            }
            self.drive(cx);
            if self.inner.session.ended {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.stream.poll_recv(cx))? {
                Some(bytes) => self.hear(&bytes),
                // Without a close_notify as well: what was cut off, if anything, is missed by HTTP's own framing.
                None => self.inner.session.ended = true,
            }
        }
    }

    fn pause_recv(&mut self) -> Vec<Vec<u8>> {
        for bytes in self.stream.pause_recv() {
            self.hear(&bytes);
        }
        if self.inner.session.plain.is_empty() {
            return Vec::new();
        }
        vec![std::mem::take(&mut self.inner.session.plain)]
    }

    fn poll_paused(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.stream.poll_paused(cx)
    }

    fn start_send_detached(&mut self, data: Vec<u8>) {
        if !self.is_sending() {
            (self.inner.in_flight, self.inner.sent_before) = (0, 0);
        }
        if !self.inner.session.seal(&data) {
            self.inner.send_failed.get_or_insert(io::ErrorKind::BrokenPipe);
        }
        net::recycle(data);
        self.kick();
    }

    fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<(io::Result<()>, Vec<u8>)> {
        loop {
            let (result, memory) = ready!(self.stream.poll_sent(cx));
            let inner = &mut *self.inner;
            inner.sent_before += std::mem::take(&mut inner.in_flight);
            if let Err(error) = result {
                inner.send_failed = Some(error.kind());
                inner.session.take_outgoing();
                return Poll::Ready((Err(error), memory));
            }
            if !inner.session.outgoing.is_empty() {
                net::recycle(memory);
                let data = inner.session.take_outgoing();
                inner.in_flight = data.len();
                self.stream.start_send_detached(data);
                continue;
            }
            inner.sent_before = 0;
            return Poll::Ready((inner.send_failed.map_or(Ok(()), |kind| Err(kind.into())), memory));
        }
    }

    fn is_sending(&self) -> bool {
        self.stream.is_sending() || !self.inner.session.outgoing.is_empty() && self.inner.send_failed.is_none()
    }

    fn taken_bytes(&self) -> usize {
        if self.is_sending() {
            self.inner.sent_before + self.stream.taken_bytes()
        } else {
            0
        }
    }

    fn say_goodbye(&mut self) {
        self.inner.session.say_goodbye();
        self.kick();
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}
