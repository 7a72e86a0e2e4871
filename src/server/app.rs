//! What the server asks of an application, and what an application gives.

use super::guests::Peer;
use crate::http::{Exchange, FieldName, Reject, RequestHead, Response, Status};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The application of a worker.
pub trait App: 'static {
    /// Answers a whole request: at once into `outbox`, or later. Runs on the worker; must not block.
    fn call(&self, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome;

    /// Answers bytes that are no request, or a request that took too long. The connection closes after it.
    fn refuse(&self, reject: &Reject, outbox: Outbox<'_>);

    /// The same, where `heard` is what came of the head: a part of it, or one that is faulty.
    fn refuse_heard(&self, reject: &Reject, _heard: &[u8], outbox: Outbox<'_>) {
        self.refuse(reject, outbox);
    }

    /// Answers in place of a handler that panicked just now: of `request`, or, where it had left that behind to answer
    /// later, of the one that it knows itself. The connection stays open.
    fn failed(&self, request: Option<&Request<'_>>, outbox: Outbox<'_>) -> bool;

    /// A connection was accepted.
    fn opened(&self) {}

    /// A connection of a trusted proxy, on a port where they introduce theirs (PROXY protocol), began without a header, and
    /// is closed.
    fn unintroduced(&self) {}

    /// A connection is gone.
    fn closed(&self) {}

    /// A TLS handshake has ended, well or not, after so long.
    fn shook_hands(&self, _ok: bool, _elapsed: Duration) {}

    /// A connection was accepted and closed at once: its address holds too many.
    fn turned_away(&self) {}

    /// A connection that was accepted here was handed to another worker.
    fn handed_over(&self) {}

    /// One that was handed to another worker was not taken, and is served here after all.
    fn handed_back(&self) {}

    /// A connection that came while memory is short was closed unheard: there are too many of them.
    fn refused_for_memory(&self) {}

    /// So many bytes came in.
    fn received(&self, _bytes: usize) {}

    /// So many bytes were handed to be sent.
    fn sent(&self, _bytes: usize) {}
}

/// A whole request.
pub struct Request<'r> {
    /// Its head.
    pub head: &'r RequestHead<'r>,
    /// Its body.
    pub body: &'r [u8],
    /// Who asks.
    pub peer: Peer<'r>,
    /// When its last bytes were received, nanoseconds of the worker's clock.
    pub received_ns: u64,
    /// The same moment, nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

/// Where an answer is written.
pub struct Outbox<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) exchange: Exchange,
    pub(super) date: &'o [u8; 29],
}

impl<'o> Outbox<'o> {
    /// Begins the answer.
    pub fn respond(self, status: Status) -> Response<'o> {
        Response::begin(self.out, self.exchange, status, self.date)
    }

    /// What the request allows.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }
}

/// What a handler did.
pub enum Outcome {
    /// The answer is written; `keep_alive` as its [`Response`] said.
    Done {
        /// The connection may stay open.
        keep_alive: bool,
    },
    /// The answer comes later. Later requests of the connection wait for it; other connections do not.
    Later(Later),
}

/// An answer under way. It bounds its own time.
pub type Later = Pin<Box<dyn Future<Output = Reply>>>;

/// An answer by value.
pub struct Reply {
    /// Status.
    pub status: Status,
    /// Content-Type.
    pub content_type: &'static str,
    /// Other fields.
    pub fields: Vec<(FieldName, Vec<u8>)>,
    /// Body.
    pub body: ReplyBody,
}

/// The body of a [`Reply`].
pub enum ReplyBody {
    /// Made for this answer.
    Bytes(Vec<u8>),
    /// Kept by someone, a cache for one.
    Shared(Rc<dyn AsRef<[u8]>>),
    /// None, to a HEAD: what GET would send need not be made for it, and its length is not told.
    Omitted,
    /// Piece by piece, each sent before the next is asked for: the peer's pace is the producer's.
    Events(Box<dyn Events>),
}

/// A body that is made while it is sent.
pub trait Events {
    /// Appends the next piece to `out`; false after the last. An error ends the connection without the body's proper
    /// end, so that the client sees that something is missing.
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, ()>>;

    /// The server ends, and cannot wait for the rest: appends what the body's own form has to say that, and gives true,
    /// and the body ends in good order. False if it has no word for it: then it goes on until it is cut off.
    fn end_early(&mut self, _out: &mut Vec<u8>) -> bool {
        false
    }
}

impl Reply {
    /// Writes head and body; for [`ReplyBody::Events`] the caller writes the body.
    pub(super) fn write(&self, outbox: Outbox<'_>) -> bool {
        let mut response = outbox.respond(self.status);
        if !self.status.is_bodiless() {
            response = response.content_type(self.content_type);
        }
        for (name, value) in &self.fields {
            response = response.header(*name, value);
        }
        match &self.body {
            ReplyBody::Bytes(bytes) => response.body(bytes),
            ReplyBody::Shared(bytes) => response.body((**bytes).as_ref()),
            ReplyBody::Omitted => response.unsized_head(),
            ReplyBody::Events(_) => response.body(&[]),
        }
    }
}
