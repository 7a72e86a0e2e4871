//! Handlers that fail on purpose, for tests of what must come of it. Not in a release build: the module is not compiled
//! there. In a debug build it does nothing unless the process was started with `FAULTS=1`; then a request says by
//! `X-Fault` what is to happen in place of its route.

use super::{Call, Vary, sse};
use crate::http::{Status, field};
use crate::runtime::executor::spawn_detached;
use crate::runtime::time::{Sleep, sleep};
use crate::server::{Events, Outbox, Outcome, ReplyBody};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Whether this process was started for such tests. Not among `config`'s variables: nobody is to find it there.
pub(super) fn are_allowed() -> bool {
    std::env::var_os("FAULTS").is_some_and(|value| value == "1")
}

/// What the request asks for, done.
pub(super) fn commit(call: &Call<'_>, fault: &[u8], outbox: Outbox<'_>) -> Outcome {
    let text = std::str::from_utf8(fault).unwrap_or_default();
    let (kind, number) = text.split_once('=').unwrap_or((text, "0"));
    let time = Duration::from_millis(number.parse().unwrap_or(0));
    match kind {
        "panic" => panic!("a fault that was asked for"),
        "later-panic" => call.later(move |call| async move {
            sleep(time).await;
            panic!("a fault that was asked for, later, by {}", call.id)
        }),
        // Holds the core, in a system call.
        "block" => {
            std::thread::sleep(time);
            call.probe(outbox, Status::OK, b"{}")
        }
        // Holds the core, computing.
        "spin" => {
            spin(time);
            call.probe(outbox, Status::OK, b"{}")
        }
        // Holds the core while no task is being polled.
        "between" => {
            // The future of a task that has ended is dropped behind its last poll.
            spawn_detached("faulty", HoldsInDrop(time));
            call.probe(outbox, Status::OK, b"{}")
        }
        "later" => call.later(move |mut call| async move {
            sleep(time).await;
            let body = ReplyBody::Bytes(b"{}".to_vec());
            call.end(Status::OK, super::JSON, Vary::Nothing, Vec::new(), body)
        }),
        // An event now and then, without end; or until it panics.
        "events" | "events-panic" => {
            let events = Endless {
                every: time,
                pause: None,
                left: if kind == "events" { u32::MAX } else { 3 },
            };
            call.later(move |mut call| async move {
                let fields = vec![(field::CACHE_CONTROL, b"no-store".to_vec())];
                let body = ReplyBody::Events(Box::new(events));
                call.end(Status::OK, sse::CONTENT_TYPE, Vary::Nothing, fields, body)
            })
        }
        _ => call.probe(outbox, Status::NOT_FOUND, br#"{"fault":"unknown"}"#),
    }
}

#[inline(never)]
fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

struct HoldsInDrop(Duration);

impl Future for HoldsInDrop {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for HoldsInDrop {
    #[inline(never)]
    fn drop(&mut self) {
        std::thread::sleep(self.0);
    }
}

struct Endless {
    every: Duration,
    pause: Option<Sleep>,
    left: u32,
}

impl Events for Endless {
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, ()>> {
        let every = self.every;
        ready!(self.pause.get_or_insert_with(|| sleep(every)).poll_elapsed(cx));
        self.pause = None;
        assert!(self.left > 0, "a fault that was asked for, in a stream");
        self.left -= 1;
        out.extend_from_slice(b"event: token\ndata: {\"text\":\"on and on\"}\n\n");
        Poll::Ready(Ok(true))
    }

    fn end_early(&mut self, out: &mut Vec<u8>) -> bool {
        sse::farewell(out);
        true
    }
}
