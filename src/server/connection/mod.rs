//! One connection: requests in, answers out, in order.
//!
//! The future of an idle connection is small and holds no buffer (invariant 5): what a half-read request needs is
//! boxed while it exists, write memory comes from the worker's spares and goes back when the kernel has taken it, and
//! whatever waits for something else than input is a boxed future. A request that comes whole, and whose answer
//! is at hand, is read from the receive buffer and answered without a heap allocation; several in one buffer are
//! answered with one write.

mod answer;
mod read;

use super::app::{App, Later};
use super::guests::Guest;
use super::http2;
use super::transport::Transport;
use crate::http::{BodyDecoder, Exchange, HeadScanner, Reject, Status};
use crate::runtime::context;
use crate::runtime::time::Sleep;
use answer::guarded;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Serves `stream` to its end. `early` are bytes that came before and are not read yet.
pub(super) fn serve<A: App, T: Transport>(stream: T, guest: Guest<A>, early: Vec<u8>) -> Serve<A, T> {
    let sleep = Sleep::after(guest.server().settings.head_timeout);
    let mut connection = Connection {
        stream,
        guest,
        sleep,
        pending: None,
        out: Vec::new(),
        since_ns: context::now_ns(),
        requests: 0,
        answered: false,
        unread: false,
    };
    if early.is_empty() {
        return Serve::Fast(connection);
    }
    connection.unread = true;
    connection.pending.get_or_insert_default().bytes = early;
    Serve::Slow(Box::pin(connection.go_slow(Next::Read)))
}

/// The future of a connection, written by hand: an `async fn` would be three times as large in the state that nearly
/// all connections are in, which is waiting for a request.
pub(super) enum Serve<A: App, T: Transport> {
    /// Waiting for input; what comes is answered at once.
    Fast(Connection<A, T>),
    /// Waiting for something else; gives the connection back if it goes on.
    Slow(Pin<Box<dyn Future<Output = Option<Connection<A, T>>>>>),
    Ended,
}

impl<A: App, T: Transport> Future for Serve<A, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let serve = self.get_mut();
        loop {
            match serve {
                Serve::Fast(connection) => {
                    let next = match ready!(connection.poll_input(cx)) {
                        Input::Bytes(buffer) => connection.feed(&buffer),
                        Input::End | Input::Draining => Next::Close,
                        Input::Broken => {
                            *serve = Serve::Ended;
                            return Poll::Ready(());
                        }
                        Input::Late => match connection.late() {
                            Some(next) => next,
                            None => continue,
                        },
                    };
                    if matches!(next, Next::Read) {
                        match connection.flush_now(cx) {
                            Flushed::Done => continue,
                            Flushed::Busy => {}
                            Flushed::Broken => {
                                *serve = Serve::Ended;
                                return Poll::Ready(());
                            }
                        }
                    }
                    if let Serve::Fast(connection) = std::mem::replace(serve, Serve::Ended) {
                        *serve = Serve::Slow(Box::pin(connection.go_slow(next)));
                    }
                }
                Serve::Slow(slow) => match ready!(slow.as_mut().poll(cx)) {
                    Some(connection) => *serve = Serve::Fast(connection),
                    None => {
                        *serve = Serve::Ended;
                        return Poll::Ready(());
                    }
                },
                Serve::Ended => return Poll::Ready(()),
            }
        }
    }
}

/// A request that is not whole, and bytes that wait their turn.
#[derive(Default)]
struct Pending {
    /// Received and not yet read; begins with an unfinished head unless `body` is set.
    bytes: Vec<u8>,
    scanner: HeadScanner,
    body: Option<PendingBody>,
}

struct PendingBody {
    /// The bytes of the head, read again when the body is whole.
    head: Vec<u8>,
    decoder: BodyDecoder,
    body: Vec<u8>,
}

pub(super) struct Connection<A: App, T: Transport> {
    stream: T,
    guest: Guest<A>,
    sleep: Sleep,
    pending: Option<Box<Pending>>,
    out: Vec<u8>,
    /// When the present phase (idle, head, body) or the last send began, nanoseconds of the worker's clock.
    since_ns: u64,
    /// Requests answered.
    requests: u32,
    /// A request was answered since the last look: the next phase begins anew even where it is of the same kind.
    answered: bool,
    /// [`step_back`](Self::step_back) has put bytes among the pending ones that nobody has looked at.
    unread: bool,
}

enum Input<B> {
    Bytes(B),
    /// The peer sends no more, but may still read.
    End,
    /// The connection broke.
    Broken,
    Late,
    Draining,
}

enum Next {
    /// Everything received is read.
    Read,
    /// Enough is written; there is more to read.
    Flush,
    Later(Later, Exchange),
    /// The client speaks HTTP/2, beginning with these bytes.
    Http2(Vec<u8>),
    Close,
    /// At once: the peer is gone, or as good as gone.
    Drop,
}

/// What became of an attempt to send.
enum Flushed {
    Done,
    /// The kernel still has the answers before.
    Busy,
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Head,
    Body,
}

impl<A: App, T: Transport> Connection<A, T> {
    /// What takes more than answering at once; `None` at the end of the connection.
    async fn go_slow(mut self, mut next: Next) -> Option<Connection<A, T>> {
        loop {
            next = match next {
                Next::Read => {
                    if !self.flush().await {
                        return None;
                    }
                    if !self.unread {
                        return Some(self);
                    }
                    // The wait took them out of the receive queue: no event will tell of them again.
                    self.feed(&[])
                }
                Next::Flush => {
                    if !self.flush().await {
                        return None;
                    }
                    self.feed(&[])
                }
                Next::Later(later, exchange) => {
                    // What is answered already does not wait for it.
                    if !self.flush().await || !self.step_back().await {
                        return None;
                    }
                    let reply = guarded(later).await;
                    match self.reply(reply, exchange).await {
                        Ok(true) => {
                            // What was sent meanwhile was not read: its time begins now.
                            self.begin();
                            self.feed(&[])
                        }
                        Ok(false) => Next::Close,
                        Err(()) => Next::Drop,
                    }
                }
                Next::Http2(early) => {
                    http2::serve(self.stream, self.guest, early).await;
                    return None;
                }
                Next::Drop => return None,
                Next::Close => {
                    if self.flush().await {
                        self.linger().await;
                    }
                    return None;
                }
            };
        }
    }

    fn phase(&self) -> Phase {
        match &self.pending {
            None => Phase::Idle,
            Some(pending) if pending.body.is_some() => Phase::Body,
            // An empty line behind a request (RFC 9112 section 2.2) begins no other: no clock runs for it, and none is
            // turned back.
            Some(pending) if matches!(pending.bytes[..], [b'\r'] | [b'\r', b'\n']) => Phase::Idle,
            Some(_) => Phase::Head,
        }
    }

    fn poll_input(&mut self, cx: &Context<'_>) -> Poll<Input<T::Bytes>> {
        match self.stream.poll_recv(cx) {
            Poll::Ready(Ok(Some(buffer))) => return Poll::Ready(Input::Bytes(buffer)),
            Poll::Ready(Ok(None)) => return Poll::Ready(Input::End),
            Poll::Ready(Err(_)) => return Poll::Ready(Input::Broken),
            Poll::Pending => {}
        }
        if self.guest.server().ending_idle.get() && self.phase() == Phase::Idle {
            return Poll::Ready(Input::Draining);
        }
        self.sleep.poll_elapsed(cx).map(|()| Input::Late)
    }

    /// How long the present phase may last.
    fn allowed(&self) -> Duration {
        let settings = &self.guest.server().settings;
        match self.phase() {
            Phase::Idle => settings.keep_alive,
            Phase::Head => settings.head_timeout,
            Phase::Body => settings.body_timeout,
        }
    }

    /// The timer fired: for this phase, or for an earlier one that has ended since.
    fn late(&mut self) -> Option<Next> {
        let now = context::now_ns();
        let spent = Duration::from_nanos(now.saturating_sub(self.since_ns));
        let sending = self.stream.is_sending();
        let allowed = if sending {
            self.guest.server().settings.write_timeout
        } else {
            self.allowed()
        };
        if spent < allowed {
            self.sleep.reset(allowed.saturating_sub(spent));
            return None;
        }
        if sending {
            // The peer takes nothing: there is nothing to say to it, and nothing to wait for.
            return Some(Next::Drop);
        }
        if self.phase() != Phase::Idle {
            let reject = Reject::new(Status::REQUEST_TIMEOUT, "the request took too long to arrive");
            self.refuse(&reject);
        }
        Some(Next::Close)
    }

    /// Begins a phase: its clock runs from now.
    fn begin(&mut self) {
        self.since_ns = context::now_ns();
        let write_timeout = self.guest.server().settings.write_timeout;
        self.sleep.reset(self.allowed().min(write_timeout));
    }
}
