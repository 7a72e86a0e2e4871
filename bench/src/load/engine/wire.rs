//! A connection: the runtime's stream, in the clear or under TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use roadtrip_api::runtime::net::{self, Stream};
use roadtrip_api::runtime::time::timeout;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// Bytes taken from a TLS connection at once: a record.
const RECORD_BYTES: usize = 16 * 1024;

/// TLS towards one server.
#[derive(Clone)]
pub(crate) struct TlsTo {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl std::fmt::Debug for TlsTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsTo({:?})", self.name)
    }
}

/// A connection.
pub(super) enum Wire {
    Plain(Stream),
    Sealed(Box<Sealed>),
}

/// TLS, and what is to be sent over it.
pub(super) struct Sealed {
    stream: TlsStream<Stream>,
    outgoing: Vec<u8>,
    written: usize,
    flushing: bool,
    chunk: Vec<u8>,
}

/// Opens a connection within `limit`.
///
/// # Errors
/// In words: refused, no answer in time, no TLS.
pub(super) async fn connect(address: SocketAddr, tls: Option<&TlsTo>, limit: Duration) -> Result<Wire, String> {
    let opening = async {
        let stream = Stream::connect(address.into())
            .await
            .map_err(|e| format!("connect: {e}"))?;
        match tls {
            None => Ok(Wire::Plain(stream)),
            Some(tls) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(&tls.config));
                let stream = connector
                    .connect(tls.name.clone(), stream)
                    .await
                    .map_err(|e| format!("TLS: {e}"))?;
                Ok(Wire::Sealed(Box::new(Sealed {
                    stream,
                    outgoing: Vec::new(),
                    written: 0,
                    flushing: false,
                    chunk: vec![0; RECORD_BYTES],
                })))
            }
        }
    };
    timeout(limit, opening)
        .await
        .unwrap_or_else(|_| Err("connect: no answer in time".to_owned()))
}

impl Wire {
    /// Memory to write requests to.
    pub(super) fn memory(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(_) => net::write_buffer(),
            Self::Sealed(sealed) => std::mem::take(&mut sealed.outgoing),
        }
    }

    /// Gives memory back unused.
    pub(super) fn unused(&mut self, memory: Vec<u8>) {
        match self {
            Self::Plain(_) => net::recycle(memory),
            Self::Sealed(sealed) => sealed.outgoing = memory,
        }
    }

    /// Starts to send; nothing may be in flight.
    pub(super) fn start_send(&mut self, data: Vec<u8>) {
        match self {
            Self::Plain(stream) => stream.start_send_detached(data),
            Self::Sealed(sealed) => {
                sealed.outgoing = data;
                sealed.written = 0;
                sealed.flushing = true;
            }
        }
    }

    /// Ready when nothing is in flight.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => {
                let (result, memory) = ready!(stream.poll_sent(cx));
                net::recycle(memory);
                Poll::Ready(result)
            }
            Self::Sealed(sealed) => sealed.poll_sent(cx),
        }
    }

    /// True where a send needs to be driven by [`poll_sent`](Self::poll_sent).
    pub(super) fn needs_driving(&self) -> bool {
        matches!(self, Self::Sealed(sealed) if sealed.flushing)
    }

    /// Gives the next bytes to `take`; `None` at the end of the stream.
    pub(super) fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Poll<io::Result<Option<R>>> {
        match self {
            Self::Plain(stream) => {
                let bytes = ready!(stream.poll_recv(cx))?;
                Poll::Ready(Ok(bytes.map(|bytes| take(&bytes))))
            }
            Self::Sealed(sealed) => {
                let mut chunk = std::mem::take(&mut sealed.chunk);
                let mut buffer = ReadBuf::new(&mut chunk);
                let polled = Pin::new(&mut sealed.stream).poll_read(cx, &mut buffer);
                let got = polled.map_ok(|()| {
                    let bytes = buffer.filled();
                    (!bytes.is_empty()).then(|| take(bytes))
                });
                sealed.chunk = chunk;
                match got {
                    // Cut off without close_notify: HTTP's own framing tells whether anything is missing.
                    Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(None)),
                    got => got,
                }
            }
        }
    }
}

impl Sealed {
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.flushing {
            return Poll::Ready(Ok(()));
        }
        while let Some(left) = self.outgoing.get(self.written..).filter(|left| !left.is_empty()) {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.written.saturating_add(n);
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.flushing = false;
        self.outgoing.clear();
        Poll::Ready(Ok(()))
    }
}

// For h2, which brings its own buffers.
impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Sealed(sealed) => Pin::new(&mut sealed.stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Sealed(sealed) => Pin::new(&mut sealed.stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Sealed(sealed) => Pin::new(&mut sealed.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Sealed(sealed) => Pin::new(&mut sealed.stream).poll_shutdown(cx),
        }
    }
}
