//! One connection: its streams, its time, its end.

use super::body::{Pending, Piece};
use super::gate::{Gate, Taken};
use super::meter::Unfinished;
use super::stream::{self, Shared};
use super::wire::{Duplex, Wire};
use crate::limits;
use crate::runtime::context;
use crate::runtime::time::{Sleep, timeout};
use crate::server::Settings;
use crate::server::app::App;
use crate::server::guests::Guest;
use crate::server::transport::Transport;
use h2::Reason;
use h2::server::{Builder, Connection};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

const LINGER: Duration = Duration::from_millis(limits::connection::LINGER_MS);

/// See [`super::serve`].
pub(super) async fn serve<A: App, T: Transport>(stream: T, guest: Guest<A>, early: Vec<u8>) {
    let server = Rc::clone(guest.server_rc());
    let peer = guest.peer(stream.stream(), T::SECURE).detached();
    // How fast a client takes an answer is watched by its windows here, and not by what the kernel holds. A Unix socket has
    // no such thing: its peer is a process of this machine, which ends and then is gone.
    let _ = stream.stream().give_up_after(server.settings.write_timeout);
    let wire = Rc::new(RefCell::new(Wire::new(stream, Rc::clone(&server), early)));
    let Some(h2) = shake_hands(&wire, guest.patience(server.settings.head_timeout)).await else {
        return;
    };
    let shared = Rc::new(Shared {
        peer,
        answers: Gate::new(limits::http2::ANSWERS_BYTES_MAX),
        bodies: Gate::new(limits::http2::BODIES_MAX),
        laters: Gate::new(limits::http2::LATERS_MAX),
        settled: Gate::new(1),
        pending: Pending::new(&server.pending),
        answered: Default::default(),
        tasks: Default::default(),
        server,
    });
    let mut drive = Drive {
        h2,
        unsettled: Some(shared.settled.take(1)),
        wire: Rc::clone(&wire),
        shared,
        sleep: Sleep::after(Duration::ZERO),
        stage: Stage::Open,
        idle_ns: Some(context::now_ns()),
        requests: 0,
    };
    if guest.is_late() {
        // What it has sent by now is answered, and no more.
        drive.leave();
    }
    poll_fn(|cx| {
        let polled = drive.poll(cx);
        if drive.requests > 0 && guest.is_late() {
            guest.asks();
        }
        polled
    })
    .await;
    // With it go the tasks of its streams, and what the library holds.
    drop(drive);
    if wire.borrow().is_half_closed() {
        let mut left = limits::connection::LINGER_BYTES_MAX;
        let _ = timeout(LINGER, poll_fn(|cx| wire.borrow_mut().poll_drained(cx, &mut left))).await;
    }
    drop(guest);
}

/// Sends our settings and reads the preface. `None` if the client does not begin in time, or with something else.
async fn shake_hands<A: App, T: Transport>(
    wire: &Rc<RefCell<Wire<A, T>>>,
    patience: Duration,
) -> Option<Connection<Duplex<A, T>, Piece>> {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits::http2::STREAMS_MAX as u32)
        .max_header_list_size(limits::http2::HEADER_LIST_BYTES_MAX as u32)
        .initial_window_size(limits::http2::STREAM_WINDOW_BYTES as u32)
        .initial_connection_window_size(limits::http2::CONNECTION_WINDOW_BYTES as u32)
        .max_send_buffer_size(limits::http2::STREAM_SEND_BYTES_MAX)
        // How often a client may reset, or make us reset, the meter says; this is out of its way, as the library warns in
        // the log each time.
        .max_pending_accept_reset_streams(limits::http2::PENDING_RESETS_MAX)
        .max_local_error_reset_streams(None);
    let mut hands = pin!(builder.handshake(Duplex(Rc::clone(wire))));
    let shaken = timeout(
        patience,
        poll_fn(|cx| {
            let polled = hands.as_mut().poll(cx);
            // A failure shows in what is read.
            let _ = wire.borrow_mut().push(cx);
            polled
        }),
    );
    shaken.await.ok()?.ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// GOAWAY is sent: what the client has begun is finished. Since when, nanoseconds of the worker's clock.
    Leaving(u64),
    /// Nothing is finished any more.
    Ending(u64),
}

/// What the clock says.
enum Due {
    Later,
    /// Something was done about it.
    Now,
    Gone,
}

struct Drive<A: App, T: Transport> {
    h2: Connection<Duplex<A, T>, Piece>,
    wire: Rc<RefCell<Wire<A, T>>>,
    shared: Rc<Shared<A>>,
    /// Until the client has acknowledged our settings.
    unsettled: Option<Taken>,
    sleep: Sleep,
    stage: Stage,
    /// Since when there is no stream, nanoseconds of the worker's clock.
    idle_ns: Option<u64>,
    /// Begun on this connection.
    requests: u32,
}

impl<A: App, T: Transport> Drive<A, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut begun = 0;
        loop {
            let answered = self.shared.answered.take();
            self.wire.borrow_mut().meter.answered(answered);
            // As many as it may have; none more once draining.
            if self.stage == Stage::Open && self.requests >= self.shared.server.requests_before_close.get() {
                self.leave();
            }
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.idle_ns = None;
                    self.requests = self.requests.saturating_add(1);
                    stream::begin(&self.shared, request, respond);
                    begun += 1;
                    if begun < limits::http2::STREAMS_MAX {
                        continue;
                    }
                    // Other connections have their turn.
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if self.unsettled.is_some() && self.wire.borrow().meter.is_settled() {
                self.unsettled = None;
            }
            let verdict = self.wire.borrow().meter.verdict();
            if let Some(reason) = verdict
                && self.end(reason)
            {
                continue;
            }
            if let Poll::Ready(Err(_)) = self.wire.borrow_mut().push(cx) {
                return Poll::Ready(());
            }
            let bounded = self.wire.borrow_mut().step_back(cx);
            if !bounded && self.end(Reason::ENHANCE_YOUR_CALM) {
                continue;
            }
            match self.look_at_the_clock(cx) {
                Due::Later => return Poll::Pending,
                Due::Now => {}
                Due::Gone => return Poll::Ready(()),
            }
        }
    }

    /// No new streams; those that the client has begun are finished (RFC 9113 section 6.8).
    fn leave(&mut self) {
        self.stage = Stage::Leaving(context::now_ns());
        self.h2.graceful_shutdown();
    }

    /// The end, at once. False if it has begun already.
    fn end(&mut self, reason: Reason) -> bool {
        if matches!(self.stage, Stage::Ending(_)) {
            return false;
        }
        self.stage = Stage::Ending(context::now_ns());
        self.h2.abrupt_shutdown(reason);
        true
    }

    fn look_at_the_clock(&mut self, cx: &Context<'_>) -> Due {
        let now = context::now_ns();
        let (gone, over) = self.deadlines(now);
        if gone <= now {
            // It takes nothing, not even our farewell.
            return Due::Gone;
        }
        if let Some((due, action)) = over
            && due <= now
        {
            match action {
                Action::Leave => self.leave(),
                Action::End(reason) => {
                    self.end(reason);
                }
            }
            return Due::Now;
        }
        let next = over.map_or(gone, |(due, _)| due.min(gone));
        if next == u64::MAX {
            return Due::Later;
        }
        self.sleep.reset(Duration::from_nanos(next.saturating_sub(now)));
        match self.sleep.poll_elapsed(cx) {
            Poll::Ready(()) => Due::Now,
            Poll::Pending => Due::Later,
        }
    }

    /// When the client counts as gone, and when something else is due, nanoseconds of the worker's clock.
    fn deadlines(&mut self, now: u64) -> (u64, Option<(u64, Action)>) {
        let Settings {
            head_timeout,
            body_timeout,
            ..
        } = self.shared.server.settings;
        let mut wire = self.wire.borrow_mut();
        let sending = wire.look_at_send(now);
        let is_idle = !self.h2.has_streams() && self.shared.tasks.borrow().is_empty();
        self.idle_ns = is_idle.then_some(match (self.idle_ns, sending) {
            (Some(since), None) => since,
            // The client still reads: a connection that is ended now would lose what the library has handed over.
            _ => now,
        });
        let stalled = sending.unwrap_or(u64::MAX);
        if let Stage::Ending(since) = self.stage {
            return (stalled.min(after(since, LINGER)), None);
        }
        let unfinished = match wire.meter.unfinished() {
            _ if !wire.is_reading() => None,
            None => None,
            Some(Unfinished::Head(since)) => Some((after(since, head_timeout), Action::End(Reason::NO_ERROR))),
            Some(Unfinished::Data(since)) => Some((after(since, body_timeout), Action::End(Reason::NO_ERROR))),
        };
        let idle = self.idle_ns.map(|since| match self.stage {
            Stage::Open if self.shared.server.ending_idle.get() => (now, Action::Leave),
            Stage::Open => (after(since, self.shared.server.idle_for.get()), Action::Leave),
            // The client need not answer that it has seen it.
            Stage::Leaving(left) | Stage::Ending(left) => {
                (after(since.max(left), LINGER), Action::End(Reason::NO_ERROR))
            }
        });
        let over = unfinished.into_iter().chain(idle).min_by_key(|(due, _)| *due);
        (stalled, over)
    }
}

impl<A: App, T: Transport> Drop for Drive<A, T> {
    fn drop(&mut self) {
        let tasks = self.shared.tasks.take();
        for (_, task) in tasks {
            task.abort();
        }
    }
}

#[derive(Clone, Copy)]
enum Action {
    Leave,
    End(Reason),
}

fn after(since_ns: u64, time: Duration) -> u64 {
    since_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
