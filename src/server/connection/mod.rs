//! One connection: requests in, answers out, in order.
//!
//! The future of an idle connection is small and holds no buffer (invariant 5): what a half-read request needs is
//! boxed while it exists, write memory comes from the worker's spares and goes back when the kernel has taken it, and
//! whatever waits for something else than input is a boxed future. A request that comes whole, and whose answer
//! is at hand, is read from the receive buffer and answered without a heap allocation; several in one buffer are
//! answered with one write.

mod answer;
mod read;

use super::Settings;
use super::app::{App, Later};
use super::budget::Reserved;
use super::guests::Guest;
use super::http2;
use super::transport::Transport;
use crate::http::{BodyDecoder, Exchange, HeadScanner, Reject, Status};
use crate::limits;
use crate::runtime::context;
use crate::runtime::time::Sleep;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Serves `stream` to its end. `early` are bytes that came before and are not read yet.
pub(super) fn serve<A: App, T: Transport>(stream: T, guest: Guest<A>, early: Vec<u8>) -> Serve<A, T> {
    let mut connection = Connection::new(stream, guest);
    if early.is_empty() {
        return Serve::Fast(connection);
    }
    connection.unread = Unread::Yes;
    connection.pending.get_or_insert_default().bytes = early;
    Serve::Slow(Box::pin(connection.go_slow(Next::Read)))
}

/// Ends a connection on which nothing else is to be said than this answer, if any.
pub(super) async fn part<A: App, T: Transport>(stream: T, guest: Guest<A>, reject: Option<Reject>) {
    let mut connection = Connection::new(stream, guest);
    if let Some(reject) = reject {
        connection.refuse(&reject);
    }
    connection.go_slow(Next::Close).await;
}

/// What is not answered at once; gives the connection back if it goes on.
type Slow<A, T> = Pin<Box<dyn Future<Output = Option<Connection<A, T>>>>>;

/// The future of a connection, written by hand: an `async fn` would be three times as large in the state that nearly
/// all connections are in, which is waiting for a request.
pub(super) enum Serve<A: App, T: Transport> {
    /// Waiting for input; what comes is answered at once.
    Fast(Connection<A, T>),
    /// Waiting for something else; gives the connection back if it goes on.
    Slow(Slow<A, T>),
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
    /// What it may hold beyond what every connection may.
    reserved: Option<Reserved>,
}

impl Pending {
    /// What came of the head.
    fn head(&self) -> &[u8] {
        self.body.as_ref().map_or(&self.bytes, |body| &body.head)
    }
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
    unread: Unread,
}

/// Bytes that came while nobody read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    No,
    /// They are among the pending ones: no event will tell of them again.
    Yes,
    /// There was no room for them: the next thing to say is that.
    Lost,
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
    /// A send takes its time: to be watched.
    Watch,
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
    fn new(stream: T, guest: Guest<A>) -> Connection<A, T> {
        let sleep = Sleep::after(guest.patience(guest.server().settings.head_timeout));
        Connection {
            stream,
            guest,
            sleep,
            pending: None,
            out: Vec::new(),
            since_ns: context::now_ns(),
            requests: 0,
            answered: false,
            unread: Unread::No,
        }
    }

    /// What takes more than answering at once; `None` at the end of the connection.
    async fn go_slow(mut self, mut next: Next) -> Option<Connection<A, T>> {
        loop {
            next = match next {
                Next::Read => {
                    if !self.flush().await {
                        return None;
                    }
                    if self.unread == Unread::No {
                        return Some(self);
                    }
                    self.feed(&[])
                }
                Next::Watch => {
                    if !self.until_sent().await {
                        return None;
                    }
                    Next::Read
                }
                Next::Flush => {
                    if !self.flush().await {
                        return None;
                    }
                    self.feed(&[])
                }
                Next::Later(later, exchange) => {
                    // What is answered already does not wait for it.
                    if !self.flush().await {
                        return None;
                    }
                    let reply = self.wait_for(later).await?;
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
                    // Boxed by itself: as a part of this future it would make every other slow one larger.
                    Box::pin(http2::serve(self.stream, self.guest, early)).await;
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
        if self.guest.server().hurried.get() && self.phase() == Phase::Idle && self.must_go() {
            return Poll::Ready(Input::Draining);
        }
        self.sleep.poll_elapsed(cx).map(|()| Input::Late)
    }

    /// Whether an idle connection ends, now that there is less time for it. What it still has begins with its phase.
    #[cold]
    fn must_go(&mut self) -> bool {
        let spent = self.spent();
        let server = self.guest.server();
        let mut idle_for = self.guest.patience(server.idle_for.get());
        if server.ending_idle.get() {
            // Who was served has had its time since the drain began.
            idle_for = if self.requests > 0 {
                Duration::ZERO
            } else {
                limits::drain::IDLE
            };
        }
        if spent >= idle_for {
            // A request that has come meanwhile is no event yet.
            return !self.stream.stream().has_more();
        }
        if !self.stream.is_sending() {
            self.sleep.reset(idle_for.saturating_sub(spent));
        }
        false
    }

    /// Since the present phase began.
    fn spent(&self) -> Duration {
        Duration::from_nanos(context::now_ns().saturating_sub(self.since_ns))
    }

    /// How long the present phase may last.
    fn allowed(&self) -> Duration {
        let server = self.guest.server();
        self.guest.patience(match self.phase() {
            Phase::Idle => server.idle_for.get(),
            Phase::Head => server.settings.head_timeout,
            Phase::Body => self.body_time(&server.settings),
        })
    }

    /// A body has its grace and what its bytes have earned by now: who sends less than the rate runs out of it.
    fn body_time(&self, settings: &Settings) -> Duration {
        let body = self.pending.as_ref().and_then(|pending| pending.body.as_ref());
        let bytes = body.map_or(0, |body| body.body.len() as u64);
        let earned_ms = match settings.body_rate_min {
            0 => return settings.body_timeout,
            rate => bytes.saturating_mul(1000) / rate,
        };
        let grace = Duration::from_millis(limits::server::BODY_GRACE_MS.saturating_add(earned_ms));
        settings.body_timeout.min(grace)
    }

    /// The timer fired: for this phase, or for an earlier one that has ended since.
    fn late(&mut self) -> Option<Next> {
        let spent = self.spent();
        let sending = self.stream.is_sending();
        let allowed = if sending {
            self.guest.server().look
        } else {
            self.allowed()
        };
        if spent < allowed {
            self.sleep.reset(allowed.saturating_sub(spent));
            return None;
        }
        if sending {
            return Some(Next::Watch);
        }
        if self.phase() == Phase::Idle {
            if self.stream.stream().has_more() {
                // A request has come in the last moment, and is no event yet.
                self.sleep.reset(Duration::from_millis(1));
                return None;
            }
        } else {
            let reject = Reject::new(Status::REQUEST_TIMEOUT, "the request took too long to arrive");
            let pending = self.pending.take();
            self.refuse_heard(&reject, pending.as_deref().map_or(&[], Pending::head));
            self.pending = pending;
        }
        Some(Next::Close)
    }

    /// Begins a phase: its clock runs from now.
    fn begin(&mut self) {
        self.since_ns = context::now_ns();
        let look = self.guest.server().look;
        self.sleep.reset(self.allowed().min(look));
    }
}
