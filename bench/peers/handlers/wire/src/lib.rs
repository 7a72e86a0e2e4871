//! A connection over the service's own `http/`, without its runtime: bytes in, answers out. The peers that are engines
//! (monoio, glommio) bring the sockets.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use peer_common::{Field, REFUSAL, RequestId, Story};
use roadtrip_api::http::{
    BodyFraming, DateCache, Exchange, FieldLines, FieldName, Method, Reject, RequestHead, Response, Status, field,
    parse_head,
};

/// Longest body.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// What else may wait to become a request.
const PENDING_BYTES_MAX: usize = 128 * 1024;

/// Field lines of both answers, made ahead; as the service has them.
struct Lines {
    live: FieldLines,
    story: FieldLines,
}

fn lines() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let service = peer_common::service();
        let made = |fields: &[Field]| {
            let add = |lines: FieldLines, (name, value): &Field| lines.with(FieldName::new(name), value);
            fields.iter().fold(FieldLines::new(), add)
        };
        Lines {
            live: made(&service.live_fields),
            story: service.any().map(|story| made(&story.fields)).unwrap_or_default(),
        }
    })
}

/// Reads the answers' files; call it at start.
pub fn prepare() {
    lines();
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    /// Bytes of a request that is not whole.
    pending: Vec<u8>,
    date: DateCache,
    live: Vec<u8>,
}

impl Default for Wire {
    fn default() -> Wire {
        Wire {
            pending: Vec::new(),
            date: DateCache::new(0),
            live: Vec::new(),
        }
    }
}

impl Wire {
    /// Appends the answers to all requests that are whole with `input`. Gives whether the connection stays open.
    pub fn answer(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        self.date.at(SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs());
        if self.pending.is_empty() {
            let (taken, open) = self.all(input, out);
            self.pending.extend_from_slice(input.get(taken..).unwrap_or_default());
            return open;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(input);
        let (taken, open) = self.all(&pending, out);
        pending.drain(..taken);
        let open = open && pending.len() <= PENDING_BYTES_MAX;
        self.pending = pending;
        open
    }

    fn all(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            match self.one(rest, out) {
                Ok(Some((taken, true))) => at += taken,
                Ok(Some((taken, false))) => return (at + taken, false),
                Ok(None) => break,
                Err(reject) => {
                    Response::refuse(out, &reject, self.date.get());
                    return (input.len(), false);
                }
            }
        }
        (at, true)
    }

    fn one(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, bool)>, Reject> {
        let Some((head, head_len)) = parse_head(input)? else {
            return Ok(None);
        };
        let body_len = match head.framing {
            BodyFraming::None => 0,
            BodyFraming::Length(length) if length <= BODY_BYTES_MAX => length as usize,
            BodyFraming::Length(_) => return Err(Reject::new(Status::CONTENT_TOO_LARGE, "the body is too large")),
            // No client of these measurements sends them.
            BodyFraming::Chunked => return Err(Reject::new(Status::LENGTH_REQUIRED, "send Content-Length")),
        };
        let end = head_len + body_len;
        let Some(body) = input.get(head_len..end) else {
            return Ok(None);
        };
        Ok(Some((end, self.respond(&head, body, out))))
    }

    fn respond(&mut self, head: &RequestHead<'_>, body: &[u8], out: &mut Vec<u8>) -> bool {
        let service = peer_common::service();
        let id = RequestId::of(head.x_request_id());
        let begin = |out, status, date| {
            Response::begin(out, Exchange::of(head), status, date).header(field::X_REQUEST_ID, id.as_bytes())
        };
        let (status, refusal) = match (head.method, head.path) {
            (Method::Get, "/health/v2/live") => {
                self.live.clear();
                service.live(&mut self.live);
                return begin(out, Status::OK, self.date.get())
                    .lines(lines().live.all())
                    .body(&self.live);
            }
            (Method::Post, "/api/v1/stories/generate") => match service.story(body) {
                Ok(Story { json, .. }) => {
                    let response = begin(out, Status::OK, self.date.get()).lines(lines().story.all());
                    return response.body(json.as_bytes());
                }
                Err(refused) => (Status::from_code(refused.0).unwrap_or(Status::NOT_FOUND), REFUSAL),
            },
            _ => (Status::NOT_FOUND, REFUSAL),
        };
        begin(out, status, self.date.get())
            .content_type("application/problem+json")
            .body(refusal.as_bytes())
    }
}
