//! A client of HTTP/2 that tells a request that was left out from one that was lost. (`h2load` does not: it counts requests
//! that it had not sent yet when GOAWAY came.)

use super::super::frames::{self, ACK, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, SETTINGS, frame};
use super::{Client, NobodyThere};
use std::collections::BTreeMap;

/// A connection.
pub(super) struct Session {
    frames: Frames,
    next: u32,
    /// The greatest stream that the server will answer, once it has said so.
    last: Option<u32>,
}

impl Client {
    /// So many requests at once, until all are answered.
    pub(super) fn ask_streams(&mut self, count: usize) -> Result<(), NobodyThere> {
        let mut left = count;
        while left > 0 {
            let mut session = match self.http2.take() {
                Some(session) => session,
                None => {
                    let Some(stream) = self.connect_raw()? else {
                        return Ok(());
                    };
                    let mut frames = Frames::over(stream);
                    // What cannot be sent will not be answered.
                    frames.send(&[frames::PREFACE, &frame(SETTINGS, 0, 0, [])]);
                    let (next, last) = (1, None);
                    Session { frames, next, last }
                }
            };
            let mut waiting: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            let head = frames::request("GET", "/health/v2/live", &[]);
            let mut bytes = Vec::new();
            for _ in 0..left {
                bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, session.next, &head));
                waiting.insert(session.next, Vec::new());
                session.next += 2;
            }
            self.tally.offered += left as u64;
            session.frames.send(&[&bytes]);
            let mut has_ended = false;
            while !waiting.is_empty() {
                let Some(came) = session.frames.next() else {
                    has_ended = true;
                    break;
                };
                match came.kind {
                    SETTINGS if came.flags & ACK == 0 => {
                        session.frames.send(&[&frame(SETTINGS, ACK, 0, [])]);
                    }
                    PING if came.flags & ACK == 0 => {
                        session.frames.send(&[&frame(PING, ACK, 0, &came.payload)]);
                    }
                    GOAWAY if came.code() == 0 => {
                        let last = u32::from_be_bytes(came.payload[..4].try_into().unwrap());
                        session.last = Some(last);
                        // RFC 9113 section 6.8: these were not looked at.
                        let left_out = waiting.split_off(&last.saturating_add(1));
                        self.tally.sent_again += left_out.len() as u64;
                        self.tally.offered -= left_out.len() as u64;
                    }
                    GOAWAY => {
                        self.fail("GOAWAY", came.code());
                        return Ok(());
                    }
                    HEADERS | DATA => {
                        if came.kind == DATA {
                            // So that neither window closes.
                            let credit = (came.payload.len() as u32).to_be_bytes();
                            session.frames.send(&[&frame(frames::WINDOW_UPDATE, 0, 0, credit)]);
                            waiting.entry(came.stream).or_default().extend(&came.payload);
                        }
                        if came.flags & END_STREAM != 0 {
                            let body = waiting.remove(&came.stream).unwrap_or_default();
                            if body.starts_with(br#"{"status":"alive""#) {
                                left -= 1;
                                self.count_answer();
                            } else {
                                self.fail("answer", String::from_utf8_lossy(&body));
                                return Ok(());
                            }
                        }
                    }
                    frames::RST_STREAM => {
                        self.fail("reset", came.code());
                        return Ok(());
                    }
                    _ => {}
                }
            }
            if !waiting.is_empty() {
                // Whoever leaves says so first: an end without GOAWAY is none in good order.
                let lost = waiting.len();
                self.fail("streams", format!("{lost} unanswered, last {:?}", session.last));
                return Ok(());
            }
            if session.last.is_some() {
                self.tally.told_to_close += 1;
            } else if !has_ended {
                self.http2 = Some(session);
            }
        }
        Ok(())
    }
}
