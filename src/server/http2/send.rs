//! The way of an answer to a client of HTTP/2, as its windows allow.

use super::answer;
use super::body::{Body, Gone, Memory, Piece, room};
use super::stream::{Answer, Rest, Shared};
use crate::limits;
use crate::runtime::time::timeout;
use crate::runtime::{context, net};
use crate::server::app::{App, Events};
use crate::server::budget::Reserved;
use crate::server::pace::Pace;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;

impl<A: App> Shared<A> {
    /// Sends the head, and the body if the client has room for it.
    pub(super) fn start(&self, respond: &mut SendResponse<Piece>, answer: Answer) -> Result<Option<Rest>, Gone> {
        let Some((response, at)) = answer::read_head(&answer.written) else {
            // An application that wrote no answer. The stream ends in an error, the others go on.
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Err(Gone);
        };
        let (memory, at) = match answer.apart {
            Some(body) => {
                net::recycle(answer.written);
                (body, 0)
            }
            None => (Memory::Own(answer.written), at),
        };
        let bytes = memory.bytes().len();
        if bytes <= at {
            respond.send_response(response, true)?;
            self.count();
            return Ok(None);
        }
        // Others wait before it: the client is slow to take what it asked for.
        let is_behind = self.answers.taken() > limits::connection::WRITE_BATCH_BYTES;
        let mut stream = respond.send_response(response, false)?;
        self.count();
        stream.reserve_capacity(bytes - at);
        let fits = stream.capacity() >= bytes - at;
        let body = Rc::new(Body {
            _held: if is_behind || !fits {
                self.hold(&memory, &mut stream)?
            } else {
                None
            },
            _taken: self.answers.take(bytes),
            memory,
        });
        if fits {
            let piece = Piece {
                body: Some(body),
                at,
                end: bytes,
            };
            stream.send_data(piece, true)?;
            return Ok(None);
        }
        Ok(Some(Rest { stream, body, at }))
    }

    /// Counts an answer that is not taken at once among those of the worker, of all protocols. Where they are too much
    /// already the stream is reset: as HTTP/1.1 does with whoever is slow then.
    fn hold(&self, memory: &Memory, stream: &mut SendStream<Piece>) -> Result<Option<Reserved>, Gone> {
        let above = memory
            .own_bytes()
            .saturating_sub(limits::connection::PENDING_FREE_BYTES);
        match self.server.answers.reserve(above) {
            Some(held) => Ok(Some(held)),
            None => {
                stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                Err(Gone)
            }
        }
    }

    /// Sends the rest of an answer, as the client's windows allow.
    pub(super) async fn finish(&self, mut rest: Rest) -> Result<(), Gone> {
        self.send(&mut rest.stream, &rest.body, rest.at, true).await
    }

    /// Sends `body` from `at`, as the client's windows allow. It has the same credit as a client of HTTP/1.1, only that
    /// what it takes shows in its windows.
    async fn send(
        &self,
        stream: &mut SendStream<Piece>,
        body: &Rc<Body>,
        mut at: usize,
        ends: bool,
    ) -> Result<(), Gone> {
        let bytes = body.memory.bytes().len();
        let taken = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
        let settings = &self.server.settings;
        let mut pace = Pace::new(settings, context::now_ns(), taken(at));
        let mut credit = settings.write_timeout;
        while at < bytes {
            let wanted = (bytes - at).min(limits::connection::WRITE_BATCH_BYTES);
            if let Ok(room) = timeout(credit, room(stream, wanted)).await {
                let end = at + room?;
                let piece = Piece {
                    body: Some(Rc::clone(body)),
                    at,
                    end,
                };
                at = end;
                stream.send_data(piece, ends && at == bytes)?;
            }
            match pace.look(context::now_ns(), taken(at)) {
                Some(left) => credit = left,
                None if at < bytes => {
                    // As HTTP/1.1 drops a connection whose client takes nothing.
                    stream.send_reset(Reason::CANCEL);
                    return Err(Gone);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Sends a body that is made while it is sent.
    pub(super) async fn events(
        &self,
        respond: &mut SendResponse<Piece>,
        head: &[u8],
        events: Option<Box<dyn Events>>,
    ) -> Result<(), Gone> {
        let Some((response, _)) = answer::read_head(head) else {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Err(Gone);
        };
        let mut stream = respond.send_response(response, events.is_none())?;
        self.count();
        let Some(mut events) = events else { return Ok(()) };
        loop {
            let mut out = net::write_buffer();
            let next = poll_fn(|cx| {
                if stream.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Gone));
                }
                if self.server.ending_bodies.get() && events.end_early(&mut out) {
                    return Poll::Ready(Ok(Ok(false)));
                }
                catch_unwind(AssertUnwindSafe(|| events.poll_next(cx, &mut out)))
                    .unwrap_or(Poll::Ready(Err(())))
                    .map(Ok)
            });
            let more = match next.await? {
                Ok(more) => more,
                Err(()) => {
                    // The client sees that something is missing; what the library still has of it is lost.
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Err(Gone);
                }
            };
            let taken = self.answers.take(out.len());
            let memory = Memory::Own(out);
            let body = Rc::new(Body {
                _held: self.hold(&memory, &mut stream)?,
                _taken: taken,
                memory,
            });
            self.send(&mut stream, &body, 0, false).await?;
            if !more {
                let end = Piece {
                    body: None,
                    at: 0,
                    end: 0,
                };
                stream.send_data(end, true)?;
                return Ok(());
            }
        }
    }
}
