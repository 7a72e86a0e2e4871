//! One stream: a request, from its fields to the end of its answer.
//!
//! What can be answered at once is, in the connection's own turn; what must wait is a task of its own, which ends with
//! the connection, and whose handler is dropped when the client resets the stream.

use super::body::{Body, Gone, Held, Memory, Pending, Piece, Upload};
use super::gate::Gate;
use super::request;
use crate::http::{self as http1, BodyDecoder, Exchange, Reject, Response, Status, Version};
use crate::limits;
use crate::runtime::executor::{JoinHandle, spawn};
use crate::runtime::time::timeout;
use crate::runtime::{context, net};
use crate::server::Server;
use crate::server::app::{App, Later, Outbox, Outcome, Reply, ReplyBody, Request};
use crate::server::budget::BUSY;
use crate::server::guests::Peer;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What the streams of a connection share.
pub(super) struct Shared<A: App> {
    pub(super) server: Rc<Server<A>>,
    pub(super) peer: Peer<'static>,
    /// Bytes of answers made and not taken.
    pub(super) answers: Rc<Gate>,
    /// Bodies that have grown past their first window.
    pub(super) bodies: Rc<Gate>,
    /// Answers under way that are not made yet.
    pub(super) laters: Rc<Gate>,
    /// Shut until the client knows our settings.
    pub(super) settled: Rc<Gate>,
    /// What its unfinished requests hold.
    pub(super) pending: Rc<Pending>,
    /// Requests answered since `drive` last asked.
    pub(super) answered: Cell<u32>,
    pub(super) tasks: RefCell<Slab<JoinHandle<()>>>,
}

/// An answer: a head as HTTP/1.1 has it, and its body, where that is not behind it.
pub(super) struct Answer {
    /// The head, and perhaps the body.
    pub(super) written: Vec<u8>,
    pub(super) apart: Option<Memory>,
}

/// What came of a request.
enum Made {
    Answer(Answer),
    Later(Later, Exchange),
}

/// A part of an answer that the client's windows have no room for yet.
pub(super) struct Rest {
    pub(super) stream: SendStream<Piece>,
    pub(super) body: Rc<Body>,
    pub(super) at: usize,
}

/// What is to be done before a stream has ended.
enum Work {
    /// Reads the body and answers.
    Gather {
        head: Vec<u8>,
        upload: Upload,
    },
    Later(Later, Exchange),
    Send(Rest),
}

/// Answers a request that has come, at once or in a task.
pub(super) fn begin<A: App>(
    shared: &Rc<Shared<A>>,
    request: ::http::Request<RecvStream>,
    mut respond: SendResponse<Piece>,
) {
    // Reset in the bytes in which it came: nothing is done for it.
    if respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready() {
        return;
    }
    let (parts, body) = request.into_parts();
    let mut head = net::write_buffer();
    let is_whole = body.is_end_stream();
    let written = request::write_head(&parts, !is_whole, &mut head);
    drop(parts);
    let made = match written {
        Err(reject) => Made::Answer(shared.refuse(&reject, &head, false)),
        Ok(()) if is_whole && shared.answers.is_open() => shared.call(&head, &[]),
        Ok(()) => {
            let upload = Upload {
                stream: body,
                unreleased: 0,
                settled: Rc::clone(&shared.settled),
            };
            return spawn_work(shared, respond, Work::Gather { head, upload });
        }
    };
    net::recycle(head);
    let work = match made {
        Made::Later(later, exchange) => Work::Later(later, exchange),
        Made::Answer(answer) => match shared.start(&mut respond, answer) {
            Ok(Some(rest)) => Work::Send(rest),
            Ok(None) | Err(Gone) => return,
        },
    };
    spawn_work(shared, respond, work);
}

/// Takes the task off the list at its end, whatever that is.
struct Listed<A: App> {
    shared: Rc<Shared<A>>,
    key: usize,
}

impl<A: App> Drop for Listed<A> {
    fn drop(&mut self) {
        let task = self.shared.tasks.borrow_mut().try_remove(self.key);
        drop(task);
    }
}

fn spawn_work<A: App>(shared: &Rc<Shared<A>>, respond: SendResponse<Piece>, work: Work) {
    let mut tasks = shared.tasks.borrow_mut();
    let listed = Listed {
        shared: Rc::clone(shared),
        key: tasks.vacant_key(),
    };
    tasks.insert(spawn("stream", async move {
        // An error has nobody to be told to: with the last handle dropped, the library resets what is still open.
        let mut refused = None;
        let _ = listed.shared.work(respond, work, &mut refused).await;
        if let Some(upload) = refused {
            Upload::linger(upload).await;
        }
        drop(listed);
    }));
}

impl<A: App> Shared<A> {
    /// Does it, and what follows from it. Leaves in `refused` a body that was answered before its end.
    async fn work(
        &self,
        mut respond: SendResponse<Piece>,
        mut work: Work,
        refused: &mut Option<Upload>,
    ) -> Result<(), Gone> {
        loop {
            let made = match work {
                Work::Send(rest) => return self.finish(rest).await,
                Work::Gather { head, mut upload } => {
                    let made = self.gather(&mut respond, &head, &mut upload).await?;
                    net::recycle(head);
                    *refused = (!upload.stream.is_end_stream()).then_some(upload);
                    made
                }
                Work::Later(later, exchange) => {
                    let reply = self.guarded(&mut respond, later).await?;
                    match reply {
                        Some(Reply {
                            body: ReplyBody::Events(events),
                            status,
                            content_type,
                            fields,
                        }) => {
                            let head = self.write(|out, date| {
                                let mut response =
                                    Response::begin(out, exchange, status, date).content_type(content_type);
                                for (name, value) in &fields {
                                    response = response.header(*name, value);
                                }
                                let _ = response.stream();
                            });
                            let bodiless = exchange.is_head || status.is_bodiless();
                            return self.events(&mut respond, &head, (!bodiless).then_some(events)).await;
                        }
                        Some(reply) => Made::Answer(self.written(reply, exchange)),
                        None => Made::Answer(self.failed(None, exchange)),
                    }
                }
            };
            work = match made {
                Made::Later(later, exchange) => Work::Later(later, exchange),
                Made::Answer(answer) => match self.start(&mut respond, answer)? {
                    Some(rest) => Work::Send(rest),
                    None => return Ok(()),
                },
            };
        }
    }

    /// Lets the application write into memory for an answer.
    fn write(&self, write: impl FnOnce(&mut Vec<u8>, &[u8; 29])) -> Vec<u8> {
        let mut out = net::write_buffer();
        let mut clock = self.server.clock.borrow_mut();
        let (_, date) = clock.read();
        write(&mut out, date);
        out
    }

    /// `heard` is what came of the head.
    fn refuse(&self, reject: &Reject, heard: &[u8], is_head: bool) -> Answer {
        let exchange = Exchange {
            is_head,
            version: Version::Http2,
            keep_alive: true,
        };
        let written = self.write(|out, date| {
            let outbox = Outbox { out, exchange, date };
            self.server.app.refuse_heard(reject, heard, outbox);
        });
        Answer { written, apart: None }
    }

    fn failed(&self, request: Option<&Request<'_>>, exchange: Exchange) -> Answer {
        let written = self.write(|out, date| {
            self.server.app.failed(request, Outbox { out, exchange, date });
        });
        Answer { written, apart: None }
    }

    /// A reply that is whole. Its body is sent from where it is.
    fn written(&self, reply: Reply, exchange: Exchange) -> Answer {
        let bodiless = exchange.is_head || reply.status.is_bodiless();
        let (body, is_sized) = match reply.body {
            ReplyBody::Bytes(bytes) => (Memory::Own(bytes), true),
            ReplyBody::Shared(bytes) => (Memory::Shared(bytes), true),
            ReplyBody::Omitted => (Memory::Own(Vec::new()), false),
            ReplyBody::Events(_) => (Memory::Own(Vec::new()), true),
        };
        let written = self.write(|out, date| {
            let mut response = Response::begin(out, exchange, reply.status, date);
            if !reply.status.is_bodiless() {
                response = response.content_type(reply.content_type);
            }
            for (name, value) in &reply.fields {
                response = response.header(*name, value);
            }
            if is_sized {
                response.length(body.bytes().len() as u64);
            } else {
                response.unsized_head();
            }
        });
        Answer {
            written,
            apart: (!bodiless).then_some(body),
        }
    }

    /// Asks the application.
    fn call(&self, head: &[u8], body: &[u8]) -> Made {
        let mut head = match http1::parse_head(head) {
            Ok(Some((parsed, bytes))) if bytes == head.len() => parsed,
            Ok(_) => {
                let reject = Reject::new(Status::BAD_REQUEST, "the request could not be read");
                return Made::Answer(self.refuse(&reject, head, false));
            }
            Err(reject) => return Made::Answer(self.refuse(&reject, head, head.starts_with(b"HEAD "))),
        };
        head.version = Version::Http2;
        let exchange = Exchange::of(&head);
        let mut out = net::write_buffer();
        let (unix_ns, date) = {
            let mut clock = self.server.clock.borrow_mut();
            let (unix_ns, date) = clock.read();
            (unix_ns, *date)
        };
        let request = Request {
            head: &head,
            body,
            peer: self.peer,
            received_ns: context::now_ns(),
            unix_ns,
        };
        let (app, outbox) = (
            &self.server.app,
            Outbox {
                out: &mut out,
                exchange,
                date: &date,
            },
        );
        let outcome = catch_unwind(AssertUnwindSafe(|| app.call(&request, outbox)));
        match outcome {
            Ok(Outcome::Done { .. }) => Made::Answer(Answer {
                written: out,
                apart: None,
            }),
            Ok(Outcome::Later(later)) => {
                net::recycle(out);
                Made::Later(later, exchange)
            }
            Err(_) => {
                net::recycle(out);
                Made::Answer(self.failed(Some(&request), exchange))
            }
        }
    }

    /// Reads the body, within its bounds, and asks the application.
    async fn gather(&self, respond: &mut SendResponse<Piece>, head: &[u8], upload: &mut Upload) -> Result<Made, Gone> {
        let is_head = head.starts_with(b"HEAD ");
        let mut held = self.pending.begin();
        let framing = match http1::parse_head(head) {
            Ok(Some((parsed, _))) => {
                // For its refusal of a length that is too much; the frames need no decoder.
                BodyDecoder::new(parsed.framing, limits::http::BODY_BYTES_MAX).and_then(|decoder| {
                    let left = usize::try_from(decoder.bytes_left().unwrap_or(0)).unwrap_or(usize::MAX);
                    // Refused before it is sent, where its length is known and there is no room for it.
                    let fits = held.grow(head.len()) && held.has_room(left);
                    if fits { Ok(parsed.expect_continue) } else { Err(BUSY) }
                })
            }
            Ok(None) => Err(Reject::new(Status::BAD_REQUEST, "the request could not be read")),
            Err(reject) => Err(reject),
        };
        match framing {
            Err(reject) => return Ok(Made::Answer(self.refuse(&reject, head, is_head))),
            Ok(true) if !upload.stream.is_end_stream() => {
                let mut interim = ::http::Response::new(());
                *interim.status_mut() = ::http::StatusCode::CONTINUE;
                respond.send_informational(interim)?;
            }
            Ok(_) => {}
        }
        let mut patience = self.server.settings.body_timeout;
        if self.peer.is_late() {
            patience = patience.min(limits::memory::LATE_PATIENCE);
        }
        let gathered = match timeout(patience, self.read(respond, upload, &mut held)).await {
            Ok(gathered) => gathered?,
            Err(_) => Err(Reject::new(
                Status::REQUEST_TIMEOUT,
                "the request took too long to arrive",
            )),
        };
        match gathered {
            Ok(body) => {
                // Answers that nobody takes are not added to.
                poll_fn(|cx| match respond.poll_reset(cx) {
                    Poll::Ready(_) => Poll::Ready(Err(Gone)),
                    Poll::Pending if self.answers.is_open_or_wait(cx) => Poll::Ready(Ok(())),
                    Poll::Pending => Poll::Pending,
                })
                .await?;
                Ok(self.call(head, &body))
            }
            Err(reject) => Ok(Made::Answer(self.refuse(&reject, head, is_head))),
        }
    }

    /// The whole body, or why it is refused.
    async fn read(
        &self,
        respond: &mut SendResponse<Piece>,
        upload: &mut Upload,
        held: &mut Held,
    ) -> Result<Result<Vec<u8>, Reject>, Gone> {
        let mut gathered = Vec::new();
        let mut place = None;
        while let Some(data) = upload.next().await {
            let data = data?;
            if data.len() > limits::http::BODY_BYTES_MAX - gathered.len() {
                return Ok(Err(Reject::new(Status::CONTENT_TOO_LARGE, "the body is too large")));
            }
            if !held.grow(data.len()) {
                return Ok(Err(BUSY));
            }
            gathered.extend_from_slice(&data);
            drop(data);
            let nearly = gathered.len() >= limits::http2::STREAM_WINDOW_BYTES / 2;
            if place.is_none() && nearly && !upload.stream.is_end_stream() {
                // Its first window is soon used up: it goes on when it is its turn.
                poll_fn(|cx| match respond.poll_reset(cx) {
                    Poll::Ready(_) => Poll::Ready(Err(Gone)),
                    Poll::Pending if self.bodies.is_open_or_wait(cx) => Poll::Ready(Ok(())),
                    Poll::Pending => Poll::Pending,
                })
                .await?;
                place = Some(self.bodies.take(1));
            }
            if place.is_some() {
                upload.release()?;
            }
        }
        upload.release()?;
        Ok(Ok(gathered))
    }

    /// Awaits a reply; `None` if its handler panicked. Dropped when the client resets the stream. It does not begin while too
    /// many answers wait to be taken, or are under way; once begun it goes on, since it may hold a permit, or a place in a
    /// queue, that are the whole worker's and not this client's to keep.
    async fn guarded(&self, respond: &mut SendResponse<Piece>, mut later: Later) -> Result<Option<Reply>, Gone> {
        let mut place = None;
        poll_fn(|cx| {
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            if place.is_none() {
                if !self.answers.is_open_or_wait(cx) || !self.laters.is_open_or_wait(cx) {
                    return Poll::Pending;
                }
                // From now on it goes on: what it holds of the worker, others wait for.
                place = Some(self.laters.take(1));
            }
            match catch_unwind(AssertUnwindSafe(|| later.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(reply)) => Poll::Ready(Ok(Some(reply))),
                Err(_) => Poll::Ready(Ok(None)),
            }
        })
        .await
    }

    pub(super) fn count(&self) {
        self.answered.set(self.answered.get().saturating_add(1));
    }
}
