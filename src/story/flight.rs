//! A flight: the one telling of a story for all who ask for the same at the same time. It waits to be let in with its
//! passengers, is given up if they all leave before that, and always lands.

use super::service::{Outcome, StoryService, TellError};
use crate::resilience::overload::{End, Entering, Pass};
use crate::store::StoreError;
use crate::telemetry::trace::Trace;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// One flight.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) outcome: Option<Outcome>,
    pub(super) waiting: Vec<Waker>,
    /// How many wait for it.
    passengers: usize,
    /// Its task, while it waits to be let in.
    grounded: Option<Waker>,
}

/// Somebody who waits for a flight. When the last one leaves one that has not been let in yet, there is no flight.
pub(super) struct Passenger(Rc<RefCell<Flight>>);

impl Passenger {
    pub(super) fn aboard(flight: Rc<RefCell<Flight>>) -> Passenger {
        let mut boarded = flight.borrow_mut();
        boarded.passengers = boarded.passengers.saturating_add(1);
        drop(boarded);
        Passenger(flight)
    }
}

impl Drop for Passenger {
    fn drop(&mut self) {
        let mut flight = self.0.borrow_mut();
        flight.passengers = flight.passengers.saturating_sub(1);
        let task = (flight.passengers == 0).then(|| flight.grounded.take()).flatten();
        drop(flight);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The flight is let in; or it is not (an error), or nobody waits for it any more (`None`).
pub(super) async fn take_off(mut entering: Entering, flight: &RefCell<Flight>) -> Option<Result<Pass, TellError>> {
    poll_fn(|cx| {
        if let Poll::Ready(entered) = Pin::new(&mut entering).poll(cx) {
            flight.borrow_mut().grounded = None;
            return Poll::Ready(Some(entered.map_err(|_| TellError::Overloaded)));
        }
        let mut flight = flight.borrow_mut();
        if flight.passengers == 0 {
            return Poll::Ready(None);
        }
        flight.grounded = Some(cx.waker().clone());
        Poll::Pending
    })
    .await
}

/// What an outcome says of how busy whoever was asked is.
pub(super) fn end_of<T>(outcome: &Result<T, TellError>) -> End {
    match outcome {
        Ok(_) => End::Done,
        Err(TellError::Timeout | TellError::Store(StoreError::Timeout | StoreError::Overloaded)) => End::Dropped,
        Err(_) => End::Untold,
    }
}

/// Takes a flight off the list however it ended, and wakes those who wait; a flight that panicked has no outcome.
pub(super) struct Landing {
    pub(super) service: Rc<StoryService>,
    pub(super) request: Rc<[u8]>,
    pub(super) flight: Rc<RefCell<Flight>>,
    /// Who asked first; nobody where a stale story is looked up anew.
    pub(super) leader: Option<Rc<Trace>>,
}

impl Landing {
    /// Those who wait each log what they are told; this is what binds their lines together, and names the task's.
    fn log_failure(&self, waiting: usize) {
        let leader = self.leader.as_deref();
        tracing::error!(
            request_id = leader.map(Trace::request_id),
            trace_id = leader.map(Trace::trace_id),
            span_id = leader.map(Trace::span_id),
            waiting,
            "a flight failed by a mistake; its first passenger has these ids"
        );
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.service.forget_flight(&self.request);
        let waiting = {
            let mut flight = self.flight.borrow_mut();
            flight.outcome.get_or_insert(Err(TellError::Internal));
            if matches!(flight.outcome, Some(Err(TellError::Internal))) {
                self.log_failure(flight.waiting.len());
            }
            std::mem::take(&mut flight.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
