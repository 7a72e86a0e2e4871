//! Whether PostgreSQL itself answers, or a pooler in between.
//!
//! A pooler in transaction mode (PgBouncer before 1.21, and later ones without `max_prepared_statements`) gives each
//! transaction another session. Statements that were prepared are then missing there, or, worse, are another client's of
//! the same name; and a SET reaches whoever has that session next. So neither may be done where a pooler is in between,
//! unless the operator says that it is safe (`statement_cache=on`).
//!
//! How it shows: a server tells each connection a process id for cancelling (PostgreSQL documentation, section 55.2.1,
//! BackendKeyData), and its own `pg_backend_pid()` is that id. A pooler tells an id of its own making, in each of its
//! modes. tokio-postgres keeps the id to itself, so it is read off the cancellation that it would send.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Length of a CancelRequest: its length, its code, the process id, the secret key, four bytes each.
const CANCEL_REQUEST_BYTES: usize = 16;

/// The process id that the connection was told; none where this library does not do as it did.
pub(super) async fn told_pid(client: &Client) -> Option<i32> {
    let paper = Paper::default();
    client
        .cancel_token()
        .cancel_query_raw(paper.clone(), Blank)
        .await
        .ok()?;
    let written = paper.0.borrow();
    let (_, request) = written.split_at_checked(written.len().checked_sub(CANCEL_REQUEST_BYTES)?)?;
    let pid: [u8; 4] = request.get(8..12)?.try_into().ok()?;
    Some(i32::from_be_bytes(pid))
}

/// A stream that leads nowhere, and keeps what is written to it. To the question for TLS it says yes.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl AsyncRead for Paper {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() > 0 {
            out.put_slice(b"S");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paper {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Paper {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// TLS that leaves the bytes as they are.
struct Blank;

impl TlsConnect<Paper> for Blank {
    type Stream = Paper;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Paper>>;

    fn connect(self, stream: Paper) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}
