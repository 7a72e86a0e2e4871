//! Answers to bytes, and bytes to the kernel.

use super::{Connection, Flushed, Next, Unread};
use crate::http::{self, Exchange, Reject, RequestHead, Response};
use crate::limits;
use crate::runtime::context;
use crate::runtime::net;
use crate::runtime::time::timeout;
use crate::server::app::{App, Events, Later, Outbox, Outcome, Reply, ReplyBody, Request};
use crate::server::budget::Reserved;
use crate::server::pace;
use crate::server::transport::Transport;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

impl<A: App, T: Transport> Connection<A, T> {
    /// The write buffer, with memory.
    pub(super) fn memory(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = net::write_buffer();
        }
        &mut self.out
    }

    /// Asks the application. `more`: bytes of a next request are at hand.
    pub(super) fn call(&mut self, head: &RequestHead<'_>, body: &[u8], more: bool) -> Option<Next> {
        self.memory();
        let mut exchange = Exchange::of(head);
        let begun = self.out.len();
        self.answered = true;
        self.requests = self.requests.saturating_add(1);
        exchange.keep_alive &= self.may_stay(more);
        let mut clock = self.guest.server().clock.borrow_mut();
        let (unix_ns, date) = clock.read();
        let request = Request {
            head,
            body,
            peer: self.guest.peer(self.stream.stream(), T::SECURE),
            received_ns: context::now_ns(),
            unix_ns,
        };
        let app = &self.guest.server().app;
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
                if self.guest.server().app.failed(Some(&request), outbox) {
                    None
                } else {
                    Some(Next::Close)
                }
            }
        }
    }

    /// Another request may follow the present one; of which there are bytes at hand already, if `more`.
    fn may_stay(&self, more: bool) -> bool {
        // One answer, whatever was asked for.
        if self.guest.is_late() {
            self.guest.asks();
            return false;
        }
        self.requests < self.guest.server().requests_before_close.get() || self.must_stay(more)
    }

    /// Draining, the answer that says close is the last: requests that have come behind it by then would be lost (RFC 9112
    /// section 9.6 forbids to answer them). So it is the last of those that are here, for as long as there is time.
    #[cold]
    fn must_stay(&self, more: bool) -> bool {
        let server = self.guest.server();
        server.is_draining() && !server.ending_bodies.get() && (more || self.stream.stream().has_more())
    }

    pub(super) fn refuse(&mut self, reject: &Reject) {
        self.refuse_heard(reject, &[]);
    }

    /// The same, where `heard` is what came of the head.
    pub(super) fn refuse_heard(&mut self, reject: &Reject, heard: &[u8]) {
        self.memory();
        let mut clock = self.guest.server().clock.borrow_mut();
        let (_, date) = clock.read();
        self.guest.server().app.refuse_heard(
            reject,
            heard,
            Outbox {
                out: &mut self.out,
                exchange: Exchange::refused(),
                date,
            },
        );
    }

    /// Writes a later answer; true if the connection goes on. An error if the connection is broken or the peer takes
    /// nothing for too long: then there is nothing to wait for again.
    pub(super) async fn reply(&mut self, reply: Option<Reply>, mut exchange: Exchange) -> Result<bool, ()> {
        let more = self.pending.as_ref().is_some_and(|pending| !pending.bytes.is_empty());
        exchange.keep_alive &= self.may_stay(more || self.unread == Unread::Lost);
        self.memory();
        match reply {
            Some(Reply {
                status,
                content_type,
                fields,
                body: ReplyBody::Events(events),
            }) => {
                // Nobody reads until the last of them.
                if !self.step_back().await {
                    return Err(());
                }
                let stream = {
                    let mut clock = self.guest.server().clock.borrow_mut();
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
                let mut clock = self.guest.server().clock.borrow_mut();
                let (_, date) = clock.read();
                Ok(reply.write(Outbox {
                    out: &mut self.out,
                    exchange,
                    date,
                }))
            }
            None => {
                let mut clock = self.guest.server().clock.borrow_mut();
                let (_, date) = clock.read();
                let outbox = Outbox {
                    out: &mut self.out,
                    exchange,
                    date,
                };
                Ok(self.guest.server().app.failed(None, outbox))
            }
        }
    }

    pub(super) async fn events(&mut self, mut events: Box<dyn Events>, stream: http::BodyStream) -> Result<bool, ()> {
        if stream.is_omitted() {
            // HEAD: nothing of it is sent, so nothing of it is made.
            return Ok(stream.finish(self.memory()));
        }
        let mut piece = Vec::new();
        loop {
            piece.clear();
            // A panic counts as a failure: what was streamed before it still reaches the client.
            let server = self.guest.server();
            let next = poll_fn(|cx| {
                if server.ending_bodies.get() && events.end_early(&mut piece) {
                    return Poll::Ready(Ok(false));
                }
                catch_unwind(AssertUnwindSafe(|| events.poll_next(cx, &mut piece))).unwrap_or(Poll::Ready(Err(())))
            });
            let more = match next.await {
                Ok(more) => more,
                Err(()) => {
                    // The missing last chunk tells the client.
                    return if self.flush().await { Ok(false) } else { Err(()) };
                }
            };
            stream.chunk(self.memory(), &piece);
            if !more {
                return Ok(stream.finish(&mut self.out));
            }
            if !self.flush().await {
                return Err(());
            }
        }
    }

    /// Hands the answers to the kernel, if it has taken those before.
    pub(super) fn flush_now(&mut self, cx: &Context<'_>) -> Flushed {
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
        self.guest.server().app.sent(out.len());
        self.stream.start_send_detached(out);
        Flushed::Done
    }

    /// Hands the answers to the kernel, once it has taken those before. False if the connection is broken or the peer
    /// takes nothing for too long.
    pub(super) async fn flush(&mut self) -> bool {
        match poll_fn(|cx| Poll::Ready(self.flush_now(cx))).await {
            Flushed::Done => return true,
            Flushed::Broken => return false,
            Flushed::Busy => {}
        }
        if !self.until_sent().await {
            return false;
        }
        matches!(poll_fn(|cx| Poll::Ready(self.flush_now(cx))).await, Flushed::Done)
    }

    /// Reserves what the answers hold that the kernel has not taken; none where slow peers hold too much already. Then
    /// this one is cut off: it is the last that was found to be slow.
    fn hold_answers(&self) -> Option<Reserved> {
        let bytes = self.stream.stream().unsent_bytes().saturating_add(self.out.capacity());
        let above = bytes.saturating_sub(limits::connection::PENDING_FREE_BYTES);
        let held = self.guest.server().answers.reserve(above);
        if held.is_none() {
            self.stream.stream().reset_on_close();
        }
        held
    }

    /// Waits until the kernel has the last answers. False if the connection is broken or the peer takes too little of
    /// them: there is nothing to say to it then, and nothing to wait for.
    pub(super) async fn until_sent(&mut self) -> bool {
        if !self.step_back().await {
            return false;
        }
        let Some(_held) = self.hold_answers() else { return false };
        match pace::sent(&mut self.stream, &self.guest.server().settings).await {
            Some(memory) => net::recycle(memory),
            None => return false,
        }
        // The next send has its own time, as has a half-read request: nothing was read meanwhile.
        self.begin();
        true
    }

    /// Waits for a later answer, which is `None` where it panicked. Whoever asks mostly sends nothing meanwhile, so the
    /// receive stays armed; the first bytes that come are the last ([`step_back`](Self::step_back)). `None` if they are
    /// too many.
    pub(super) async fn wait_for(&mut self, later: Later) -> Option<Option<Reply>> {
        let mut reply = pin!(guarded(later));
        let waited = poll_fn(|cx| match reply.as_mut().poll(cx) {
            Poll::Ready(reply) => Poll::Ready(Ok(reply)),
            // The end of the stream, or a broken one, is told again when the answer is there.
            Poll::Pending => self.stream.poll_recv(cx).map(|came| Err(came.ok().flatten())),
        });
        match waited.await {
            Ok(reply) => Some(reply),
            Err(None) => Some(reply.await),
            Err(Some(bytes)) => {
                if !self.step_back_from(vec![bytes]).await {
                    return None;
                }
                Some(reply.await)
            }
        }
    }

    /// Before a wait that is not for input: copies what has arrived out of the worker's receive buffers, and stops
    /// receiving, so that a peer who sends without reading holds none of them. False if it has sent too much.
    pub(super) async fn step_back(&mut self) -> bool {
        self.step_back_from(Vec::new()).await
    }

    async fn step_back_from(&mut self, mut arrived: Vec<T::Bytes>) -> bool {
        arrived.append(&mut self.stream.pause_recv());
        poll_fn(|cx| self.stream.poll_paused(cx)).await;
        arrived.append(&mut self.stream.pause_recv());
        if arrived.is_empty() {
            return true;
        }
        for buffer in &arrived {
            self.guest.server().app.received(buffer.len());
        }
        if self.unread == Unread::Lost {
            return true;
        }
        self.unread = Unread::Yes;
        let bytes = &mut self.pending.get_or_insert_default().bytes;
        for buffer in arrived {
            bytes.extend_from_slice(&buffer);
        }
        if bytes.len() > limits::connection::PIPELINED_BYTES_MAX {
            // It does not read: the kernel need not keep for it what it has not taken.
            self.stream.stream().reset_on_close();
            return false;
        }
        if !self.reserve() {
            // The answers under way are not the ones to suffer.
            self.pending = None;
            self.unread = Unread::Lost;
        }
        true
    }

    /// Closes without taking the last answer away from the peer: unread bytes at close would make the kernel send a
    /// reset, which may overtake the answer (RFC 9112 section 9.6).
    pub(super) async fn linger(&mut self) {
        self.stream.say_goodbye();
        let Some(_held) = self.hold_answers() else { return };
        let mut left = limits::connection::LINGER_BYTES_MAX;
        // What arrives while the answer waits to be taken is dropped at once, and stopped when it is too much: a peer that
        // is refused and reads nothing must not hold the worker's receive buffers for as long as its patience lasts.
        let drop_arrivals = |stream: &mut T, cx: &Context<'_>| {
            while left > 0
                && let Poll::Ready(Ok(Some(bytes))) = stream.poll_recv(cx)
            {
                left = left.saturating_sub(bytes.len());
            }
            if left == 0 {
                drop(stream.pause_recv());
                if stream.poll_paused(cx).is_ready() {
                    drop(stream.pause_recv());
                }
            }
        };
        if pace::sent_meanwhile(&mut self.stream, &self.guest.server().settings, drop_arrivals)
            .await
            .is_none()
        {
            return;
        }
        if self.stream.shutdown_write().is_err() {
            return;
        }
        let stream = &mut self.stream;
        let ended = timeout(Duration::from_millis(limits::connection::LINGER_MS), async {
            while left > 0 {
                match poll_fn(|cx| stream.poll_recv(cx)).await {
                    Ok(Some(bytes)) => left = left.saturating_sub(bytes.len()),
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
            false
        })
        .await;
        // Not for who goes on sending: the close will reset the connection.
        if ended != Ok(false) {
            pace::drained(self.stream.stream(), &self.guest.server().settings).await;
        }
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
