//! Bytes to requests: what is whole is answered, what is not is kept.

use super::{Connection, Next, Pending, PendingBody, Unread};
use crate::http::{self, BodyDecoder, BodyFraming, HeadScanner, Reject, Status};
use crate::limits;
use crate::server::app::App;
use crate::server::budget::BUSY;
use crate::server::http2;
use crate::server::transport::Transport;

impl<A: App, T: Transport> Connection<A, T> {
    /// Reads `input`, after what was left over, and answers what is whole.
    pub(super) fn feed(&mut self, input: &[u8]) -> Next {
        self.guest.server().app.received(input.len());
        if std::mem::replace(&mut self.unread, Unread::No) == Unread::Lost {
            self.refuse(&BUSY);
            return Next::Close;
        }
        let before = self.phase();
        let waiting = match &mut self.pending {
            Some(pending) => std::mem::take(&mut pending.bytes),
            None => Vec::new(),
        };
        let mut next = if waiting.is_empty() {
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
        if self.pending.is_some() && !self.reserve() {
            let pending = self.pending.take();
            if matches!(next, Next::Read) {
                self.refuse_heard(&BUSY, pending.as_deref().map_or(&[], Pending::head));
                next = Next::Close;
            } else {
                self.unread = Unread::Lost;
            }
        }
        // Not for an empty line between two requests: one now and then would keep an idle connection for ever.
        if std::mem::take(&mut self.answered) || self.phase() != before {
            self.begin();
        }
        next
    }

    /// Reserves what the pending request holds beyond what every connection may hold. False if there is no room.
    #[must_use = "what was not reserved must not be held"]
    pub(super) fn reserve(&mut self) -> bool {
        let Some(pending) = &mut self.pending else { return true };
        let body = pending.body.as_ref();
        let held = pending.bytes.capacity() + body.map_or(0, |body| body.head.capacity() + body.body.capacity());
        let above = held.saturating_sub(limits::connection::PENDING_FREE_BYTES);
        match &mut pending.reserved {
            Some(_) if above == 0 => pending.reserved = None,
            Some(reserved) => return reserved.resize(above),
            None if above == 0 => {}
            None => {
                pending.reserved = self.guest.server().pending.reserve(above);
                return pending.reserved.is_some();
            }
        }
        true
    }

    /// Keeps unread bytes, in whichever form they are at hand; lets go of the box when there is nothing to keep.
    pub(super) fn keep(&mut self, slice: &[u8], mut bytes: Vec<u8>) {
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
    pub(super) fn read(&mut self, input: &[u8]) -> (usize, Next) {
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
                    self.refuse_heard(&reject, rest);
                    return (input.len(), Next::Close);
                }
            }
        }
    }

    /// Reads a head, and answers if the body is there too; `None` to go on.
    pub(super) fn read_head(&mut self, rest: &[u8]) -> Result<(usize, Option<Next>), Reject> {
        let parsed = match &mut self.pending {
            Some(pending) => pending.scanner.parse(rest),
            None => http::parse_head(rest),
        };
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(reject) => return self.not_http1(rest, reject),
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
            let next = self.call(&head, body, after.len() > body.len());
            return Ok((head_bytes + body.len(), next));
        }
        let decoder = BodyDecoder::new(head.framing, limits::http::BODY_BYTES_MAX)?;
        // Refused before it is sent, where its length is known and there is no room for it.
        let above = usize::try_from(decoder.bytes_left().unwrap_or(0)).unwrap_or(usize::MAX);
        let above = above.saturating_sub(limits::connection::PENDING_FREE_BYTES);
        if above > 0 && !self.guest.server().pending.has_room(above) {
            return Err(BUSY);
        }
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

    /// What is no HTTP/1.1 may be HTTP/2, at the begin of a connection (RFC 9113 section 3.3).
    #[cold]
    fn not_http1(&mut self, rest: &[u8], reject: Reject) -> Result<(usize, Option<Next>), Reject> {
        if self.requests > 0 || !http2::may_begin(rest) {
            return Err(reject);
        }
        if http2::begins(rest) {
            return Ok((rest.len(), Some(Next::Http2(rest.to_vec()))));
        }
        // The rest of the preface is still on its way; the clock of a head runs.
        self.pending.get_or_insert_default().scanner = HeadScanner::new();
        Ok((0, Some(Next::Read)))
    }

    pub(super) fn read_body(&mut self, mut pending: PendingBody, rest: &[u8]) -> Result<(usize, Option<Next>), Reject> {
        // Doubled, as a Vec does, but not beyond the end of the body.
        if let Some(left) = pending.decoder.bytes_left()
            && rest.len() > pending.body.capacity().saturating_sub(pending.body.len())
        {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            pending.body.reserve_exact(rest.len().max(pending.body.len()).min(left));
        }
        let (used, done) = match pending.decoder.decode_into(rest, &mut pending.body) {
            Ok(decoded) => decoded,
            Err(reject) => {
                self.refuse_heard(&reject, &pending.head);
                return Ok((rest.len(), Some(Next::Close)));
            }
        };
        if !done {
            self.pending.get_or_insert_default().body = Some(pending);
            return Ok((used, Some(Next::Read)));
        }
        let Some((head, _)) = http::parse_head(&pending.head)? else {
            return Err(Reject::new(Status::BAD_REQUEST, "the request could not be read"));
        };
        let next = self.call(&head, &pending.body, rest.len() > used);
        Ok((used, next))
    }
}
