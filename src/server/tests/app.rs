//! The application under test: one path for each way a handler may behave. `/kind/n/a/b`, where n is the request's
//! number and comes back in X-Request-ID.

use super::super::{App, Events, Outbox, Outcome, Reply, ReplyBody, Request};
use crate::http::{FieldName, Reject, Status, field};
use crate::runtime::context;
use crate::runtime::time::{Sleep, sleep};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The longest body that the application gives.
pub(super) const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// The body of `bytes` bytes that belongs to request `n`.
pub(super) fn pattern(n: u64, bytes: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..PATTERN_BYTES_MAX + 256).map(|_| rng.u8(b' '..b'~')).collect()
    });
    let from = (n % 256) as usize;
    &BYTES[from..from + bytes]
}

/// What the tests' PROXY headers tell of.
const TOLD: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

/// Ends the handler as a panic does, but without a message.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("meant"))
}

#[derive(Default)]
pub(super) struct TestApp {
    pub(super) opened: Cell<usize>,
    pub(super) closed: Cell<usize>,
    pub(super) open_max: Cell<usize>,
    pub(super) received: Cell<usize>,
    pub(super) sent: Cell<usize>,
    pub(super) sends: Cell<usize>,
    pub(super) calls: Cell<usize>,
    pub(super) refused: Cell<usize>,
    pub(super) failed: Cell<usize>,
    /// Requests over TLS.
    pub(super) secure: Cell<usize>,
    /// Handshakes that went well, and that did not.
    pub(super) shaken: Cell<usize>,
    pub(super) unshaken: Cell<usize>,
    pub(super) unintroduced: Cell<usize>,
    /// Requests from [`TOLD`].
    pub(super) told: Cell<usize>,
    pub(super) turned_away: Cell<usize>,
    /// Connections that were given to another worker, and those of them that it did not take.
    pub(super) handed_over: Cell<usize>,
    pub(super) handed_back: Cell<usize>,
    /// Requests of connections that came while memory was short, and such that were closed at once.
    pub(super) late: Cell<usize>,
    pub(super) refused_late: Cell<usize>,
}

fn add(cell: &Cell<usize>, number: usize) {
    cell.set(cell.get() + number);
}

fn answer(outbox: Outbox<'_>, status: Status, n: u64, body: &[u8]) -> Outcome {
    let keep_alive = outbox
        .respond(status)
        .content_type("text/plain")
        .header(field::X_REQUEST_ID, n.to_string().as_bytes())
        .body(body);
    Outcome::Done { keep_alive }
}

fn reply(n: u64, body: ReplyBody) -> Reply {
    Reply {
        status: Status::OK,
        content_type: "text/plain",
        fields: vec![(field::X_REQUEST_ID, n.to_string().into_bytes())] as Vec<(FieldName, Vec<u8>)>,
        body,
    }
}

fn ms(number: usize) -> Duration {
    Duration::from_millis(number as u64)
}

impl App for TestApp {
    fn call(&self, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
        add(&self.calls, 1);
        add(&self.secure, usize::from(request.peer.is_secure()));
        add(&self.late, usize::from(request.peer.is_late()));
        let peer = request.peer.addr().expect("it has an address").ip();
        if TOLD.iter().any(|told| told.parse() == Ok(peer)) {
            add(&self.told, 1);
        } else {
            assert!(peer.is_loopback());
        }
        assert!(request.received_ns <= context::precise_now_ns());
        let mut parts = request.head.path.split('/').skip(1);
        let kind = parts.next().unwrap_or_default();
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0usize);
        let (n, a, b) = (number() as u64, number(), number());
        let body = request.body.to_vec();
        match kind {
            // At once: /size/n/bytes
            "size" => answer(outbox, Status::OK, n, pattern(n, a)),
            "echo" => answer(outbox, Status::OK, n, request.body),
            "nothing" => answer(outbox, Status::NO_CONTENT, n, b""),
            "unchanged" => answer(outbox, Status::NOT_MODIFIED, n, b""),
            "panic" => {
                // Half an answer is in the buffer by then.
                let _ = answer(outbox, Status::OK, n, pattern(n, a));
                panic_quietly()
            }
            // /later/n/ms/bytes
            "later" => Outcome::Later(Box::pin(async move {
                sleep(ms(a)).await;
                let body = pattern(n, b);
                reply(
                    n,
                    if n.is_multiple_of(2) {
                        ReplyBody::Bytes(body.to_vec())
                    } else {
                        ReplyBody::Shared(Rc::new(body))
                    },
                )
            })),
            "latewrite" => {
                // Begun here, and then left to later.
                let _ = answer(outbox, Status::OK, n, pattern(n, 100));
                Outcome::Later(Box::pin(
                    async move { reply(n, ReplyBody::Bytes(pattern(n, b).to_vec())) },
                ))
            }
            "lateecho" => Outcome::Later(Box::pin(async move {
                sleep(ms(a)).await;
                reply(n, ReplyBody::Bytes(body))
            })),
            "latepanic" => Outcome::Later(Box::pin(async move {
                sleep(ms(a)).await;
                panic_quietly()
            })),
            // /events/n/pieces/bytes
            "events" | "eventserror" | "eventspanic" => {
                let end = match kind {
                    "events" => Ending::Proper,
                    "eventserror" => Ending::Error,
                    _ => Ending::Panic,
                };
                let events = Pieces {
                    n,
                    next: 0,
                    count: a,
                    bytes: b,
                    end,
                    pause: None,
                };
                Outcome::Later(Box::pin(async move { reply(n, ReplyBody::Events(Box::new(events))) }))
            }
            _ => answer(outbox, Status::NOT_FOUND, n, b"not found"),
        }
    }

    fn refuse(&self, reject: &Reject, outbox: Outbox<'_>) {
        add(&self.refused, 1);
        outbox.respond(reject.status).body(reject.detail.as_bytes());
    }

    fn failed(&self, _request: Option<&Request<'_>>, outbox: Outbox<'_>) -> bool {
        add(&self.failed, 1);
        outbox.respond(Status::INTERNAL_SERVER_ERROR).body(b"failed")
    }

    fn unintroduced(&self) {
        add(&self.unintroduced, 1);
    }

    fn opened(&self) {
        add(&self.opened, 1);
        self.open_max
            .set(self.open_max.get().max(self.opened.get() - self.closed.get()));
    }

    fn closed(&self) {
        add(&self.closed, 1);
    }

    fn shook_hands(&self, ok: bool, _elapsed: Duration) {
        add(if ok { &self.shaken } else { &self.unshaken }, 1);
    }

    fn handed_over(&self) {
        add(&self.handed_over, 1);
    }

    fn handed_back(&self) {
        add(&self.handed_back, 1);
    }

    fn turned_away(&self) {
        add(&self.turned_away, 1);
    }

    fn refused_for_memory(&self) {
        add(&self.refused_late, 1);
    }

    fn received(&self, bytes: usize) {
        add(&self.received, bytes);
    }

    fn sent(&self, bytes: usize) {
        add(&self.sent, bytes);
        add(&self.sends, 1);
    }
}

enum Ending {
    Proper,
    Error,
    Panic,
}

/// A body in pieces, some of which take a while.
struct Pieces {
    n: u64,
    next: usize,
    count: usize,
    bytes: usize,
    end: Ending,
    pause: Option<Sleep>,
}

/// What all pieces come to.
pub(super) fn pieces(n: u64, count: usize, bytes: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|at| pattern(n + at as u64, bytes))
        .copied()
        .collect()
}

impl Events for Pieces {
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, ()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.poll_elapsed(cx));
            self.pause = None;
        }
        let at = self.next;
        self.next += 1;
        if at < self.count {
            out.extend_from_slice(pattern(self.n + at as u64, self.bytes));
            if at % 3 == 1 {
                self.pause = Some(sleep(Duration::from_millis(5 * (self.n % 7))));
            }
            // The last piece says so itself, or an empty one after it does.
            let proper = matches!(self.end, Ending::Proper);
            return Poll::Ready(Ok(!(proper && self.n.is_multiple_of(2) && self.next == self.count)));
        }
        match self.end {
            Ending::Proper => Poll::Ready(Ok(false)),
            Ending::Error => Poll::Ready(Err(())),
            Ending::Panic => panic_quietly(),
        }
    }
}
