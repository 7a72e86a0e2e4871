//! A story as server-sent events (WHATWG HTML section 9.2): `token` events as the text arrives, then `story` with the
//! whole object, the same bytes as the plain answer.
//!
//! Never compressed: each event would have to be flushed out of the encoder, which costs most of what compression saves
//! on so few bytes, and a proxy that decodes in blocks would hold events back.

use super::dress::NO_STORE;
use super::generate::Shared;
use super::{LaterCall, Vary};
use crate::http::{Status, field};
use crate::limits::drain::RETRY_MS;
use crate::server::{Events, Reply, ReplyBody};
use crate::story::types::Story;
use serde::Serialize;
use std::task::{Context, Poll};

/// Its media type.
pub(super) const CONTENT_TYPE: &str = "text/event-stream";

/// Characters of text in one event, about: a few words, as a reader takes them in.
const TOKEN_BYTES: usize = 48;

struct StoryEvents {
    whole: Shared,
    text: String,
    at: usize,
}

pub(super) fn reply(call: &mut LaterCall, story: Shared, cache_status: &str) -> Reply {
    // The kept bytes are the truth; the text is read out of them.
    let text = match sonic_rs::from_slice::<Story>(story.body()) {
        Ok(parsed) => parsed.story,
        Err(error) => {
            tracing::error!(
                %error,
                request_id = call.id,
                trace_id = call.trace.trace_id(),
                span_id = call.trace.span_id(),
                "a kept story cannot be read"
            );
            String::new()
        }
    };
    let fields = vec![
        (field::CACHE_STATUS, cache_status.as_bytes().to_vec()),
        (field::CACHE_CONTROL, NO_STORE.into()),
    ];
    let events = StoryEvents {
        whole: story,
        text,
        at: 0,
    };
    call.end(
        Status::OK,
        CONTENT_TYPE,
        Vary::KindAndCoding,
        fields,
        ReplyBody::Events(Box::new(events)),
    )
}

/// The end of the piece that begins at `at`: behind a space, so that the pieces put together are the text.
fn piece_end(text: &str, at: usize) -> usize {
    let mut end = at;
    for (offset, c) in text.get(at..).unwrap_or_default().char_indices() {
        if offset >= TOKEN_BYTES && c == ' ' {
            return at + offset + 1;
        }
        end = at + offset + c.len_utf8();
    }
    end
}

/// The end of a stream whose server ends: when to ask again, and why.
pub(super) fn farewell(out: &mut Vec<u8>) {
    let text = format!(
        "retry: {RETRY_MS}\nevent: shutdown\ndata: {{\"reason\":\"this server is shutting down; ask again\",\"retry_ms\":{RETRY_MS}}}\n\n"
    );
    out.extend_from_slice(text.as_bytes());
}

impl Events for StoryEvents {
    fn poll_next(&mut self, _cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, ()>> {
        #[derive(Serialize)]
        struct Token<'t> {
            text: &'t str,
        }
        if self.at < self.text.len() {
            let end = piece_end(&self.text, self.at);
            let text = self.text.get(self.at..end).unwrap_or_default();
            self.at = end;
            out.extend_from_slice(b"event: token\ndata: ");
            if sonic_rs::to_writer(&mut *out, &Token { text }).is_err() {
                return Poll::Ready(Err(()));
            }
            out.extend_from_slice(b"\n\n");
            return Poll::Ready(Ok(true));
        }
        // JSON has no raw line breaks, so that one data line holds it.
        out.extend_from_slice(b"event: story\ndata: ");
        out.extend_from_slice(self.whole.body());
        out.extend_from_slice(b"\n\n");
        Poll::Ready(Ok(false))
    }

    fn end_early(&mut self, out: &mut Vec<u8>) -> bool {
        farewell(out);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::piece_end;

    #[test]
    fn pieces_put_together_are_the_text() {
        for text in [
            "",
            "short",
            &"word ".repeat(100),
            &"ünï cødé ".repeat(40),
            &"x".repeat(500),
        ] {
            let (mut at, mut joined, mut pieces) = (0, String::new(), 0);
            while at < text.len() {
                let end = piece_end(text, at);
                assert!(end > at);
                joined.push_str(&text[at..end]);
                at = end;
                pieces += 1;
            }
            assert_eq!(joined, text);
            assert!(pieces <= text.len() / 48 + 1);
        }
    }
}
