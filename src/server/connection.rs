//! One connection: requests in, answers out, in order.
//!
//! The future of an idle connection is small and holds no buffer (invariant 5): what a half-read request needs is
//! boxed while it exists, write memory comes from the worker's spares and goes back when the kernel has taken it, and
//! whatever waits for something else than input is a boxed future. A request that comes whole, and whose answer
//! is at hand, is read from the receive buffer and answered without a heap allocation; several in one buffer are
//! answered with one write.

use super::Server;
use super::app::{App, Events, Later, Outbox, Outcome, Peer, Reply, ReplyBody, Request};
use crate::http::{self, BodyDecoder, BodyFraming, Exchange, HeadScanner, Reject, RequestHead, Response, Status};
use crate::limits;
use crate::runtime::context;
use crate::runtime::driver::Shutdown;
use crate::runtime::driver::buffers::RecvBuffer;
use crate::runtime::net::{self, Stream};
use crate::runtime::time::{Sleep, timeout};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Serves `stream` to its end.
pub(super) fn serve<A: App>(stream: Stream, server: Rc<Server<A>>) -> Serve<A> {
    let sleep = Sleep::after(server.settings.head_timeout);
    Serve::Fast(Connection {
        stream,
        server,
        sleep,
        pending: None,
        out: Vec::new(),
        since_ns: context::now_ns(),
        answered: false,
        unread: false,
    })
}

/// The future of a connection, written by hand: an `async fn` would be three times as large in the state that nearly
/// all connections are in, which is waiting for a request.
pub(super) enum Serve<A: App> {
    /// Waiting for input; what comes is answered at once.
    Fast(Connection<A>),
    /// Waiting for something else; gives the connection back if it goes on.
    Slow(Pin<Box<dyn Future<Output = Option<Connection<A>>>>>),
    Ended,
}

impl<A: App> Future for Serve<A> {
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

pub(super) struct Connection<A: App> {
    stream: Stream,
    server: Rc<Server<A>>,
    sleep: Sleep,
    pending: Option<Box<Pending>>,
    out: Vec<u8>,
    /// When the present phase (idle, head, body) or the last send began, nanoseconds of the worker's clock.
    since_ns: u64,
    /// A request was answered since the last look: the next phase begins anew even where it is of the same kind.
    answered: bool,
    /// [`step_back`](Self::step_back) has put bytes among the pending ones that nobody has looked at.
    unread: bool,
}

impl<A: App> Drop for Connection<A> {
    fn drop(&mut self) {
        self.server.closed();
    }
}

enum Input {
    Bytes(RecvBuffer),
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

impl<A: App> Connection<A> {
    /// What takes more than answering at once; `None` at the end of the connection.
    async fn go_slow(mut self, mut next: Next) -> Option<Connection<A>> {
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
                    if !self.flush().await || !self.step_back() {
                        return None;
                    }
                    let reply = guarded(later).await;
                    if self.reply(reply, exchange).await {
                        // What was sent meanwhile was not read: its time begins now.
                        self.begin();
                        self.feed(&[])
                    } else {
                        Next::Close
                    }
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
            Some(_) => Phase::Head,
        }
    }

    fn poll_input(&mut self, cx: &Context<'_>) -> Poll<Input> {
        match self.stream.poll_recv(cx) {
            Poll::Ready(Ok(Some(buffer))) => return Poll::Ready(Input::Bytes(buffer)),
            Poll::Ready(Ok(None)) => return Poll::Ready(Input::End),
            Poll::Ready(Err(_)) => return Poll::Ready(Input::Broken),
            Poll::Pending => {}
        }
        if self.server.is_draining() && self.pending.is_none() {
            return Poll::Ready(Input::Draining);
        }
        self.sleep.poll_elapsed(cx).map(|()| Input::Late)
    }

    /// How long the present phase may last.
    fn allowed(&self) -> Duration {
        let settings = &self.server.settings;
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
            self.server.settings.write_timeout
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
        let write_timeout = self.server.settings.write_timeout;
        self.sleep.reset(self.allowed().min(write_timeout));
    }

    /// Reads `input`, after what was left over, and answers what is whole.
    fn feed(&mut self, input: &[u8]) -> Next {
        self.server.app.received(input.len());
        self.unread = false;
        let before = self.phase();
        let waiting = match &mut self.pending {
            Some(pending) => std::mem::take(&mut pending.bytes),
            None => Vec::new(),
        };
        let next = if waiting.is_empty() {
            let (used, next) = self.read(input);
            self.keep(input.get(used..).unwrap_or_default(), Vec::new());
            next
        } else {
            let mut bytes = waiting;
            bytes.extend_from_slice(input);
            let (used, next) = self.read(&bytes);
            bytes.drain(..used.min(bytes.len()));
            self.keep(&[], bytes);
            next
        };
        if std::mem::take(&mut self.answered) || self.phase() != before || before == Phase::Idle {
            self.begin();
        }
        next
    }

    /// Keeps unread bytes, in whichever form they are at hand; lets go of the box when there is nothing to keep.
    fn keep(&mut self, slice: &[u8], mut bytes: Vec<u8>) {
        let idle = match &self.pending {
            Some(pending) => pending.body.is_none(),
            None => true,
        };
        if slice.is_empty() && bytes.is_empty() && idle {
            self.pending = None;
            return;
        }
        bytes.extend_from_slice(slice);
        self.pending.get_or_insert_default().bytes = bytes;
    }

    /// Reads requests from `input` and answers them; gives how many bytes are dealt with.
    fn read(&mut self, input: &[u8]) -> (usize, Next) {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let step = match self.pending.as_mut().and_then(|pending| pending.body.take()) {
                Some(body) => self.read_body(body, rest),
                None if rest.is_empty() => return (at, Next::Read),
                None if self.out.len() >= limits::connection::WRITE_BATCH_BYTES => return (at, Next::Flush),
                None => self.read_head(rest),
            };
            match step {
                Ok((used, next)) => {
                    at += used;
                    if let Some(next) = next {
                        return (at, next);
                    }
                }
                Err(reject) => {
                    self.refuse(&reject);
                    return (input.len(), Next::Close);
                }
            }
        }
    }

    /// Reads a head, and answers if the body is there too; `None` to go on.
    fn read_head(&mut self, rest: &[u8]) -> Result<(usize, Option<Next>), Reject> {
        let parsed = match &mut self.pending {
            Some(pending) => pending.scanner.parse(rest)?,
            None => http::parse_head(rest)?,
        };
        let Some((head, head_bytes)) = parsed else {
            self.pending.get_or_insert_default();
            return Ok((0, Some(Next::Read)));
        };
        let after = rest.get(head_bytes..).unwrap_or_default();
        let whole = match head.framing {
            BodyFraming::None => Some(&[][..]),
            BodyFraming::Length(bytes) if bytes <= limits::http::BODY_BYTES_MAX as u64 => after.get(..bytes as usize),
            _ => None,
        };
        if let Some(body) = whole {
            let next = self.call(&head, body);
            return Ok((head_bytes + body.len(), next));
        }
        let decoder = BodyDecoder::new(head.framing, limits::http::BODY_BYTES_MAX)?;
        if head.expect_continue && after.is_empty() {
            self.memory().extend_from_slice(http::CONTINUE_100);
        }
        let body = PendingBody {
            head: rest.get(..head_bytes).unwrap_or_default().to_vec(),
            decoder,
            body: Vec::new(),
        };
        self.pending.get_or_insert_default().body = Some(body);
        Ok((head_bytes, None))
    }

    fn read_body(&mut self, mut pending: PendingBody, rest: &[u8]) -> Result<(usize, Option<Next>), Reject> {
        let (used, done) = pending.decoder.decode_into(rest, &mut pending.body)?;
        if !done {
            self.pending.get_or_insert_default().body = Some(pending);
            return Ok((used, Some(Next::Read)));
        }
        let Some((head, _)) = http::parse_head(&pending.head)? else {
            return Err(Reject::new(Status::BAD_REQUEST, "the request could not be read"));
        };
        let next = self.call(&head, &pending.body);
        Ok((used, next))
    }

    /// The write buffer, with memory.
    fn memory(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = net::write_buffer();
        }
        &mut self.out
    }

    fn call(&mut self, head: &RequestHead<'_>, body: &[u8]) -> Option<Next> {
        self.memory();
        let mut exchange = Exchange::of(head);
        exchange.keep_alive &= !self.server.is_draining();
        let begun = self.out.len();
        self.answered = true;
        let mut clock = self.server.clock.borrow_mut();
        let (unix_ns, date) = clock.read();
        let request = Request {
            head,
            body,
            peer: Peer(&self.stream),
            received_ns: context::now_ns(),
            unix_ns,
        };
        let app = &self.server.app;
        let out = &mut self.out;
        let outcome = catch_unwind(AssertUnwindSafe(|| app.call(&request, Outbox { out, exchange, date })));
        match outcome {
            Ok(Outcome::Done { keep_alive: true }) => None,
            Ok(Outcome::Done { keep_alive: false }) => Some(Next::Close),
            Ok(Outcome::Later(later)) => {
                self.out.truncate(begun);
                Some(Next::Later(later, exchange))
            }
            Err(_) => {
                self.out.truncate(begun);
                let outbox = Outbox {
                    out: &mut self.out,
                    exchange,
                    date,
                };
                if self.server.app.failed(outbox) {
                    None
                } else {
                    Some(Next::Close)
                }
            }
        }
    }

    fn refuse(&mut self, reject: &Reject) {
        self.memory();
        let mut clock = self.server.clock.borrow_mut();
        let (_, date) = clock.read();
        self.server.app.refuse(
            reject,
            Outbox {
                out: &mut self.out,
                exchange: Exchange::refused(),
                date,
            },
        );
    }

    /// Writes a later answer; true if the connection goes on.
    async fn reply(&mut self, reply: Option<Reply>, mut exchange: Exchange) -> bool {
        exchange.keep_alive &= !self.server.is_draining();
        self.memory();
        match reply {
            Some(Reply {
                status,
                content_type,
                fields,
                body: ReplyBody::Events(events),
            }) => {
                let stream = {
                    let mut clock = self.server.clock.borrow_mut();
                    let (_, date) = clock.read();
                    let mut response =
                        Response::begin(&mut self.out, exchange, status, date).content_type(content_type);
                    for (name, value) in &fields {
                        response = response.header(*name, value);
                    }
                    response.stream()
                };
                self.events(events, stream).await
            }
            Some(reply) => {
                let mut clock = self.server.clock.borrow_mut();
                let (_, date) = clock.read();
                reply.write(Outbox {
                    out: &mut self.out,
                    exchange,
                    date,
                })
            }
            None => {
                let mut clock = self.server.clock.borrow_mut();
                let (_, date) = clock.read();
                self.server.app.failed(Outbox {
                    out: &mut self.out,
                    exchange,
                    date,
                })
            }
        }
    }

    async fn events(&mut self, mut events: Box<dyn Events>, stream: http::BodyStream) -> bool {
        let mut piece = Vec::new();
        loop {
            piece.clear();
            // A panic counts as a failure: what was streamed before it still reaches the client.
            let next = poll_fn(|cx| {
                catch_unwind(AssertUnwindSafe(|| events.poll_next(cx, &mut piece))).unwrap_or(Poll::Ready(Err(())))
            });
            let more = match next.await {
                Ok(more) => more,
                Err(()) => {
                    // The missing last chunk tells the client.
                    self.flush().await;
                    return false;
                }
            };
            stream.chunk(self.memory(), &piece);
            if !more {
                return stream.finish(&mut self.out);
            }
            if !self.flush().await {
                return false;
            }
        }
    }

    /// Hands the answers to the kernel, if it has taken those before.
    fn flush_now(&mut self, cx: &Context<'_>) -> Flushed {
        if self.out.is_empty() {
            return Flushed::Done;
        }
        // A send that has failed meanwhile is taken back here too, or its operation would never be freed.
        match self.stream.poll_sent(cx) {
            Poll::Pending => return Flushed::Busy,
            Poll::Ready((Err(_), _)) => return Flushed::Broken,
            Poll::Ready((Ok(()), _)) => {}
        }
        let out = std::mem::take(&mut self.out);
        self.server.app.sent(out.len());
        self.stream.start_send_detached(out);
        Flushed::Done
    }

    /// Hands the answers to the kernel, once it has taken those before. False if the connection is broken or the peer
    /// takes nothing for too long.
    async fn flush(&mut self) -> bool {
        match poll_fn(|cx| Poll::Ready(self.flush_now(cx))).await {
            Flushed::Done => return true,
            Flushed::Broken => return false,
            Flushed::Busy => {}
        }
        if !self.step_back() {
            return false;
        }
        let stream = &mut self.stream;
        match timeout(self.server.settings.write_timeout, poll_fn(|cx| stream.poll_sent(cx))).await {
            Ok((Ok(()), memory)) => net::recycle(memory),
            Ok((Err(_), _)) | Err(_) => return false,
        }
        // The next send has its own time, as has a half-read request: nothing was read meanwhile.
        self.begin();
        matches!(poll_fn(|cx| Poll::Ready(self.flush_now(cx))).await, Flushed::Done)
    }

    /// Before a wait that is not for input: copies what has arrived out of the worker's receive buffers, and stops
    /// receiving, so that a peer who sends without reading holds none of them. False if it has sent too much.
    fn step_back(&mut self) -> bool {
        let arrived = self.stream.pause_recv();
        if arrived.is_empty() {
            return true;
        }
        self.unread = true;
        let bytes = &mut self.pending.get_or_insert_default().bytes;
        for buffer in arrived {
            self.server.app.received(buffer.len());
            bytes.extend_from_slice(&buffer);
        }
        bytes.len() <= limits::connection::PIPELINED_BYTES_MAX
    }

    /// Closes without taking the last answer away from the peer: unread bytes at close would make the kernel send a
    /// reset, which may overtake the answer (RFC 9112 section 9.6).
    async fn linger(&mut self) {
        let patience = self.server.settings.write_timeout;
        let stream = &mut self.stream;
        if !matches!(
            timeout(patience, poll_fn(|cx| stream.poll_sent(cx))).await,
            Ok((Ok(()), _))
        ) {
            return;
        }
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut left = limits::connection::LINGER_BYTES_MAX;
        let stream = &mut self.stream;
        let _ = timeout(Duration::from_millis(limits::connection::LINGER_MS), async {
            while let Ok(Some(bytes)) = stream.recv().await {
                left = left.saturating_sub(bytes.len());
                if left == 0 {
                    break;
                }
            }
        })
        .await;
    }
}

/// Awaits an answer; `None` if it panicked.
async fn guarded(mut later: Later) -> Option<Reply> {
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| Pin::as_mut(&mut later).poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(reply)) => Poll::Ready(Some(reply)),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}
