//! The gate of a worker: to wait at, to go through, to be counted.

use super::gate::{Arrival, Gate, Permit, Ticket, Verdict};
use super::{End, Reason, Settings, Urgency};
use crate::limits::overload as limits;
use crate::runtime::context;
use crate::runtime::time::Sleep;
use crate::telemetry::metrics::WorkerMetrics;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Who waits, as the gate knows him.
#[derive(Default)]
struct Place {
    verdict: Cell<Option<Result<Permit, Reason>>>,
    waker: Cell<Option<Waker>>,
}

/// One worker's gate.
pub struct Admission {
    settings: Settings,
    gate: RefCell<Gate<Rc<Place>>>,
    metrics: Rc<WorkerMetrics>,
    /// Shed since the log was told, and when that was.
    untold: Cell<u64>,
    told_ns: Cell<u64>,
}

/// How things stand at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// The limit adapts, and requests wait at it.
    pub enabled: bool,
    /// There is more than can be served.
    pub overloaded: bool,
    /// Within what a request should be answered, milliseconds.
    pub target_ms: u64,
    /// How many may be in flight.
    pub limit: usize,
    /// How many are.
    pub in_flight: usize,
    /// How many wait.
    pub queued: usize,
    /// Latency with hardly anything in flight, milliseconds.
    pub baseline_ms: f64,
    /// What the last turn of the loop took, milliseconds.
    pub lag_ms: f64,
}

impl Admission {
    /// To be called inside the worker's runtime.
    pub fn new(settings: Settings, metrics: Rc<WorkerMetrics>) -> Rc<Admission> {
        let now = context::now_ns();
        let gate = Gate::new(settings, now);
        metrics.overload_at(gate.limit(), 0, 0);
        Rc::new(Admission {
            settings,
            gate: RefCell::new(gate),
            metrics,
            untold: Cell::default(),
            told_ns: Cell::default(),
        })
    }

    /// Comes with work that has been here since `since_ns`: to be let in at once, or to wait.
    ///
    /// # Errors
    /// It is sent away at once.
    pub fn arrive(self: &Rc<Self>, since_ns: u64, urgency: Urgency) -> Result<Entering, Reason> {
        let now = context::now_ns();
        let place = Rc::new(Place::default());
        let turn_ns = context::turn_ns();
        let arrival = self
            .gate
            .borrow_mut()
            .arrive(now, since_ns, turn_ns, urgency, Rc::clone(&place));
        match arrival {
            Arrival::Refused(reason) => {
                self.count_shed(now, reason);
                Err(reason)
            }
            Arrival::In(permit) => {
                self.metrics.overload_admitted(Duration::ZERO);
                place.verdict.set(Some(Ok(permit)));
                self.tell();
                Ok(Entering::new(self, place, None, since_ns))
            }
            Arrival::Waits(ticket) => {
                let entering = Entering::new(self, place, Some(ticket), since_ns);
                self.settle();
                Ok(entering)
            }
        }
    }

    /// Whether a request that comes now is to be answered 503 at once; it is counted then.
    pub fn refuses(&self) -> bool {
        let now = context::now_ns();
        let refused = self.gate.borrow_mut().refuses(now, context::turn_ns());
        if let Some(reason) = refused {
            self.count_shed(now, reason);
        }
        refused.is_some()
    }

    /// For how long somebody waits to be let in, at most.
    pub fn wait_max(&self) -> Duration {
        if self.settings.enabled {
            self.settings.target
        } else {
            Duration::ZERO
        }
    }

    /// Tells everybody whose turn it is.
    fn settle(&self) {
        let now = context::now_ns();
        loop {
            let next = self.gate.borrow_mut().next(now);
            let Some((place, verdict)) = next else { break };
            place.verdict.set(Some(match verdict {
                Verdict::In(permit, waited_ns) => {
                    self.metrics.overload_admitted(Duration::from_nanos(waited_ns));
                    Ok(permit)
                }
                Verdict::Shed(reason) => {
                    self.count_shed(now, reason);
                    Err(reason)
                }
            }));
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
        self.tell();
    }

    fn leave(&self, permit: Permit, end: End) {
        self.gate.borrow_mut().leave(context::precise_now_ns(), permit, end);
        self.settle();
    }

    fn tell(&self) {
        let gate = self.gate.borrow();
        self.metrics.overload_at(gate.limit(), gate.in_flight(), gate.queued());
    }

    fn count_shed(&self, now: u64, reason: Reason) {
        self.metrics.overload_shed(reason as usize);
        if reason == Reason::Background {
            return;
        }
        self.untold.set(self.untold.get().saturating_add(1));
        if now.saturating_sub(self.told_ns.get()) >= limits::TELL_NS {
            self.told_ns.set(now);
            let gate = self.gate.borrow();
            tracing::warn!(
                requests = self.untold.take(),
                reason = reason.name(),
                limit = gate.limit(),
                in_flight = gate.in_flight(),
                queued = gate.queued(),
                "overload: requests were answered 503; no line is written for each"
            );
        }
    }

    /// How things stand.
    pub fn figures(&self) -> Figures {
        let gate = self.gate.borrow();
        let now = context::now_ns();
        Figures {
            enabled: self.settings.enabled,
            overloaded: gate.is_overloaded(now) || gate.is_lagging(now),
            target_ms: u64::try_from(self.settings.target.as_millis()).unwrap_or(u64::MAX),
            limit: gate.limit(),
            in_flight: gate.in_flight(),
            queued: gate.queued(),
            baseline_ms: gate.baseline_ns() as f64 / 1e6,
            lag_ms: context::turn_ns() as f64 / 1e6,
        }
    }
}

/// On the way in. Dropping it gives the place up.
pub struct Entering {
    admission: Rc<Admission>,
    place: Rc<Place>,
    /// Where it had to wait.
    ticket: Option<Ticket>,
    since_ns: u64,
    /// When it is to be looked whether it has waited for too long: first for what one may wait in overload.
    sleep: Option<Sleep>,
}

impl Entering {
    fn new(admission: &Rc<Admission>, place: Rc<Place>, ticket: Option<Ticket>, since_ns: u64) -> Entering {
        Entering {
            admission: Rc::clone(admission),
            place,
            ticket,
            since_ns,
            sleep: None,
        }
    }

    fn taken(&self) -> Option<Result<Pass, Reason>> {
        let verdict = self.place.verdict.take()?;
        Some(verdict.map(|permit| Pass {
            admission: Rc::clone(&self.admission),
            permit,
            end: Cell::new(End::Untold),
        }))
    }

    /// How long to wait for the next look.
    fn pause(&self) -> Duration {
        let now = context::now_ns();
        let gate = self.admission.gate.borrow();
        let waited = now.saturating_sub(self.since_ns);
        let hurry = gate.hurry_ns();
        let until = if waited < hurry { hurry } else { gate.wait_ns_max(now) };
        // A millisecond at least, the grain of timers.
        Duration::from_nanos(until.saturating_sub(waited)).max(Duration::from_millis(1))
    }
}

impl Future for Entering {
    type Output = Result<Pass, Reason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(taken) = self.taken() {
                self.ticket = None;
                return Poll::Ready(taken);
            }
            self.place.waker.set(Some(cx.waker().clone()));
            let pause = self.pause();
            let sleep = self.sleep.get_or_insert_with(|| Sleep::after(pause));
            if sleep.poll_elapsed(cx).is_pending() {
                return Poll::Pending;
            }
            self.admission.settle();
            let pause = self.pause();
            if let Some(sleep) = &mut self.sleep {
                sleep.reset(pause);
            }
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        // The runtime may be gone, and with it everybody who could wait.
        if !context::is_here() {
            return;
        }
        match self.place.verdict.take() {
            // Let in and not there any more.
            Some(Ok(permit)) => self.admission.leave(permit, End::Untold),
            Some(Err(_)) => {}
            None => {
                let waited = self
                    .ticket
                    .is_some_and(|ticket| self.admission.gate.borrow_mut().withdraw(ticket));
                if waited {
                    self.admission.metrics.overload_left();
                    self.admission.tell();
                }
            }
        }
    }
}

/// The right to be in flight, for as long as it is held. What it says of the latency is nothing, unless told.
pub struct Pass {
    admission: Rc<Admission>,
    permit: Permit,
    end: Cell<End>,
}

impl Pass {
    /// How it ended.
    pub fn end(self, end: End) {
        self.end.set(end);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if context::is_here() {
            self.admission.leave(self.permit, self.end.get());
        }
    }
}
