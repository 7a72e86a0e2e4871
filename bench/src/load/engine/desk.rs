//! A thread's desk: hands requests out to its slots when they are due, and books what comes back.
//!
//! A slot asks for its next request. In the closed loop it gets one at once. In the open loop the pacer gives each arrival
//! to the slot that has waited longest; where none waits, the arrival does, and its latency counts from when it was due:
//! a stalled server cannot hide its stall by keeping the generator from asking (no coordinated omission).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use roadtrip_api::runtime::context::precise_now_ns;

use super::Job;
use super::pace::Alarm;
use super::reader::Heard;
use crate::load::arrivals::Arrivals;
use crate::load::scenario::Drawn;
use crate::load::source::Cursor;
use crate::load::tally::{Counted, Tally};

#[derive(Debug, Default)]
struct Slot {
    /// A request is due for it since then.
    assigned: Option<u64>,
    /// Waits for a request since then.
    waits_since: Option<u64>,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct State {
    arrivals: Option<Arrivals>,
    /// Due, and without a slot; oldest first.
    backlog: VecDeque<u64>,
    /// Slots that wait, longest first; an entry is stale where the slot does not.
    waiting: VecDeque<u32>,
    slots: Vec<Slot>,
    /// Requests that slots have taken and that are not over.
    under_way: u64,
    /// Nothing new is due any more.
    closed: bool,
    root: Option<Waker>,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) drawn: Drawn,
    /// Where its latency starts.
    due_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) first_event_ns: Option<u64>,
}

/// One thread's desk.
pub(super) struct Desk {
    pub(super) job: Arc<Job>,
    pub(super) thread: u32,
    alarm: Rc<Alarm>,
    state: RefCell<State>,
    pub(super) tally: RefCell<Tally>,
    cursor: RefCell<Cursor>,
    measure_from_ns: Cell<u64>,
    end_ns: Cell<u64>,
    in_flight_max: u64,
}

impl Desk {
    pub(super) fn new(job: Arc<Job>, thread: u32, alarm: Rc<Alarm>) -> Rc<Self> {
        let cursor = Cursor::new(
            &job.source,
            thread,
            job.threads,
            job.seed.wrapping_add(u64::from(thread)),
        );
        let classes = job.source.class_names().len();
        let in_flight_max = (job.in_flight_max / u64::from(job.threads.max(1))).max(1);
        Rc::new(Self {
            job,
            thread,
            alarm,
            state: RefCell::default(),
            tally: RefCell::new(Tally::new(classes)),
            cursor: RefCell::new(cursor),
            measure_from_ns: Cell::new(u64::MAX),
            end_ns: Cell::new(u64::MAX),
            in_flight_max,
        })
    }

    /// Sets the times; `arrivals` are those of the open loop.
    pub(super) fn open(&self, measure_from_ns: u64, end_ns: u64, arrivals: Option<Arrivals>) {
        self.measure_from_ns.set(measure_from_ns);
        self.end_ns.set(end_ns);
        self.state.borrow_mut().arrivals = arrivals;
    }

    /// A place for one request at a time.
    pub(super) fn slot(&self) -> u32 {
        let mut state = self.state.borrow_mut();
        state.slots.push(Slot::default());
        u32::try_from(state.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The next request for a slot, by when it was due; `None` when the load is over.
    pub(super) fn poll_next(&self, slot: u32, cx: &Context<'_>) -> Poll<Option<u64>> {
        let now = precise_now_ns();
        let state = &mut *self.state.borrow_mut();
        let Some(own) = state.slots.get_mut(slot as usize) else {
            return Poll::Ready(None);
        };
        if let Some(due) = own.assigned.take() {
            let since = own.waits_since.take().unwrap_or(due);
            state.under_way = state.under_way.saturating_add(1);
            self.late(due, since, now);
            return Poll::Ready(Some(due));
        }
        if let Some(due) = state.backlog.pop_front() {
            own.waits_since = None;
            state.under_way = state.under_way.saturating_add(1);
            return Poll::Ready(Some(due));
        }
        if state.arrivals.is_none() && !state.closed {
            if now < self.end_ns.get() && self.cursor.borrow_mut().promise() {
                state.under_way = state.under_way.saturating_add(1);
                return Poll::Ready(Some(now));
            }
            state.close();
        }
        if state.closed {
            return Poll::Ready(None);
        }
        let Some(own) = state.slots.get_mut(slot as usize) else {
            return Poll::Ready(None);
        };
        if own.waits_since.is_none() {
            own.waits_since = Some(now);
            state.waiting.push_back(slot);
        }
        if !own.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            own.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Books how late the generator was itself: from when a request was due and somebody free to ask. For what finds nobody
    /// free, that is how late the pacer saw it.
    fn late(&self, due: u64, since: u64, now: u64) {
        if due >= self.measure_from_ns.get() {
            let late = now.saturating_sub(due.max(since));
            self.tally.borrow_mut().lag.saturating_record(late);
        }
    }

    /// A slot that cannot take a request now: what it was given goes to another.
    pub(super) fn leave(&self, slot: u32) {
        let state = &mut *self.state.borrow_mut();
        let Some(own) = state.slots.get_mut(slot as usize) else {
            return;
        };
        own.waits_since = None;
        if let Some(due) = own.assigned.take() {
            match state.next_waiting() {
                Some(other) => state.assign(other, due),
                None => state.backlog.push_front(due),
            }
        }
    }

    /// Hands out what is due; ready when nothing more will be.
    pub(super) fn poll_pace(&self, cx: &Context<'_>) -> Poll<()> {
        let now = precise_now_ns();
        let state = &mut *self.state.borrow_mut();
        let Some(arrivals) = &mut state.arrivals else {
            return Poll::Ready(());
        };
        let mut cursor = self.cursor.borrow_mut();
        let mut due_now = Vec::new();
        let next = loop {
            if !cursor.has_more() {
                break None;
            }
            match arrivals.take(now) {
                Some(due) => {
                    cursor.promise();
                    due_now.push(due);
                }
                None => break arrivals.next_due_ns(),
            }
        };
        for due in due_now {
            if let Some(slot) = state.next_waiting() {
                state.assign(slot, due);
                continue;
            }
            self.late(due, due, now);
            if state.under_way.saturating_add(state.backlog.len() as u64) < self.in_flight_max {
                state.backlog.push_back(due);
            } else {
                cursor.skip();
                self.tally.borrow_mut().errors.skipped();
            }
        }
        match next {
            Some(at) => {
                self.alarm.set(at, cx.waker());
                Poll::Pending
            }
            None => {
                state.close();
                Poll::Ready(())
            }
        }
    }

    /// Ends the load: nobody is given anything new.
    pub(super) fn close(&self) {
        self.state.borrow_mut().close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// Ready when the load is over and everything is answered.
    pub(super) fn poll_quiet(&self, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.closed && state.under_way == 0 && state.backlog.is_empty() {
            return Poll::Ready(());
        }
        state.root = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Due and unanswered.
    pub(super) fn in_flight(&self) -> u64 {
        let state = self.state.borrow();
        state.under_way.saturating_add(state.backlog.len() as u64)
    }

    /// Books what is left when nobody waits any longer.
    pub(super) fn give_up(&self) {
        let state = &mut *self.state.borrow_mut();
        state.close();
        let mut tally = self.tally.borrow_mut();
        let assigned = state.slots.iter().filter(|slot| slot.assigned.is_some()).count();
        tally.errors.unsent(state.backlog.len().saturating_add(assigned) as u64);
        (0..state.under_way).for_each(|_| tally.errors.timeout());
        state.backlog.clear();
        state.under_way = 0;
    }

    /// Writes the request that a slot took, for HTTP/1.1.
    pub(super) fn draw_h1(&self, due_ns: u64, out: &mut Vec<u8>) -> Option<Flight> {
        let drawn = self.cursor.borrow_mut().draw_h1(&self.job.source, out)?;
        Some(Flight::new(drawn, due_ns))
    }

    /// The same for HTTP/2.
    pub(super) fn draw_h2(&self, due_ns: u64) -> Option<(Flight, http::Request<()>, bytes::Bytes)> {
        let scheme = if self.job.tls.is_some() { "https" } else { "http" };
        let (drawn, request, body) = self.cursor.borrow_mut().draw_h2(&self.job.source, scheme)?;
        Some((Flight::new(drawn, due_ns), request, body))
    }

    /// A request is over, well or not.
    fn end(&self) {
        let state = &mut *self.state.borrow_mut();
        state.under_way = state.under_way.saturating_sub(1);
        if state.closed
            && state.under_way == 0
            && let Some(root) = &state.root
        {
            root.wake_by_ref();
        }
    }

    /// A request that a slot took came to nothing; `note` says how.
    pub(super) fn failed(&self, flight: Option<&Flight>, note: impl FnOnce(&mut crate::load::Errors)) {
        {
            let mut tally = self.tally.borrow_mut();
            note(&mut tally.errors);
            if let Some(flight) = flight {
                tally.class_error(flight.drawn.class);
            }
        }
        self.end();
    }

    /// A request was answered; gives the user's pause.
    pub(super) fn answered(&self, flight: &Flight, heard: &Heard) -> Option<Duration> {
        let now = precise_now_ns();
        let class = flight.drawn.class;
        {
            let tally = &mut *self.tally.borrow_mut();
            let counted = Counted {
                class,
                status: heard.status,
                told: heard.told,
                bytes: heard.bytes,
                events: heard.events,
                latency_ns: now.saturating_sub(flight.due_ns),
                first_event_ns: flight.first_event_ns.map(|at| at.saturating_sub(flight.due_ns)),
                measured: flight.due_ns >= self.measure_from_ns.get(),
            };
            tally.answered(&counted, now);
            let rules = self.job.rules.get(usize::from(class));
            let right = flight.drawn.expect == Some(heard.status)
                || rules.map_or((200..300).contains(&heard.status), |r| r.expect.takes(heard.status));
            let told = rules.and_then(|r| r.told).filter(|told| *told != heard.told);
            if !right {
                tally.errors.status(heard.status);
                tally.class_error(class);
            } else if let Some(expected) = told {
                tally.errors.told(heard.told, expected);
                tally.class_error(class);
            } else if flight.drawn.sse && heard.events == 0 {
                tally.errors.frame("a stream of events without one event");
                tally.class_error(class);
            }
        }
        self.end();
        self.cursor
            .borrow_mut()
            .think(&self.job.source, class)
            .filter(|_| self.job.law.rate().is_none())
            .map(Duration::from_secs_f64)
    }
}

impl Flight {
    fn new(drawn: Drawn, due_ns: u64) -> Self {
        Self {
            drawn,
            due_ns,
            sent_ns: precise_now_ns(),
            first_event_ns: None,
        }
    }
}

impl State {
    fn next_waiting(&mut self) -> Option<u32> {
        while let Some(slot) = self.waiting.pop_front() {
            let waits = |s: &Slot| s.waits_since.is_some() && s.assigned.is_none();
            if self.slots.get(slot as usize).is_some_and(waits) {
                return Some(slot);
            }
        }
        None
    }

    fn assign(&mut self, slot: u32, due_ns: u64) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.assigned = Some(due_ns);
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        for waker in self
            .slots
            .iter()
            .filter_map(|slot| slot.waker.as_ref())
            .chain(&self.root)
        {
            waker.wake_by_ref();
        }
    }
}
