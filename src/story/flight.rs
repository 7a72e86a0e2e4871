//! A flight: the one telling of a story for all who ask for the same at the same time. It waits to be let in with its
//! passengers, is given up if they all leave before that, and always lands.

use super::service::{Outcome, StoryService, TellError};
use crate::resilience::overload::{End, Entering, Pass};
use crate::store::StoreError;
use crate::telemetry::trace::Trace;
use slab::Slab;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// One flight.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) outcome: Option<Outcome>,
    /// A seat for each who waits, with whom to wake for him: one, however often he asks.
    seats: Slab<Option<Waker>>,
    /// Its task, while it waits to be let in.
    grounded: Option<Waker>,
}

/// Somebody who waits for a flight. When the last one leaves one that has not been let in yet, there is no flight.
pub(super) struct Passenger {
    flight: Rc<RefCell<Flight>>,
    seat: usize,
}

impl Passenger {
    pub(super) fn aboard(flight: Rc<RefCell<Flight>>) -> Passenger {
        let seat = flight.borrow_mut().seats.insert(None);
        Passenger { flight, seat }
    }

    /// What came of the flight, once it has landed.
    pub(super) fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut flight = self.flight.borrow_mut();
        if let Some(outcome) = &flight.outcome {
            return Poll::Ready(outcome.clone());
        }
        if let Some(seat) = flight.seats.get_mut(self.seat)
            && !seat.as_ref().is_some_and(|known| known.will_wake(cx.waker()))
        {
            *seat = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Passenger {
    fn drop(&mut self) {
        let mut flight = self.flight.borrow_mut();
        let seat = flight.seats.try_remove(self.seat);
        let task = flight.seats.is_empty().then(|| flight.grounded.take()).flatten();
        drop(flight);
        drop(seat);
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
        if flight.seats.is_empty() {
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
                self.log_failure(flight.seats.len());
            }
            let wakers = flight.seats.iter_mut().filter_map(|(_, seat)| seat.take());
            wakers.collect::<Vec<Waker>>()
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::{Caching, Source};
    use super::super::types::{Language, Length, LocationQuery, StoryRequest, Style};
    use super::*;
    use crate::backend::tests::run;
    use crate::resilience::overload::{Settings, Urgency};
    use crate::routes::LABELS;
    use crate::runtime::context;
    use crate::runtime::driver::sim::{SimConfig, SimDriver};
    use crate::runtime::executor::Runtime;
    use crate::runtime::time::{sleep, timeout};
    use crate::store::Store;
    use crate::store::embedded::{Config, Embedded};
    use crate::telemetry::metrics::Registry;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    const TARGET: Duration = Duration::from_secs(60);

    fn asked() -> StoryRequest {
        StoryRequest {
            location: LocationQuery::Name("Rome".into()),
            style: Style::Mystery,
            length: Length::Short,
            language: Language::default(),
            interests: Vec::new(),
            variation: 0,
        }
    }

    fn nobody() -> Rc<Trace> {
        Rc::new(Trace::from_parts("test", None, None, || 1))
    }

    /// A service that waits for a minute at most, with as many in flight as there may be.
    async fn full(store: Store) -> (Rc<StoryService>, Vec<Pass>) {
        let metrics = Rc::new(Registry::new(LABELS).worker(0));
        let caching = Caching {
            bytes: 1 << 20,
            ttl: Duration::from_secs(3600),
            ..Caching::default()
        };
        let overload = Settings {
            target: TARGET,
            in_flight_max: 4,
            ..Settings::default()
        };
        let service = StoryService::guarded(store, None, caching, overload, metrics);
        let mut passes = Vec::new();
        for _ in 0..4 {
            passes.push(service.enter(Urgency::Request).await.unwrap());
        }
        (service, passes)
    }

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_asks_often_waits_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Config::new(dir.path())).unwrap();
        let client = Store::from(store.client());
        run(async move {
            let (service, passes) = full(client).await;
            let wakes = Arc::new(Wakes::default());
            let waker = Waker::from(Arc::clone(&wakes));
            let mut cx = Context::from_waker(&waker);
            let trace = nobody();
            let mut told = pin!(service.tell(b"rome", asked(), &trace));
            for _ in 0..100 {
                assert!(told.as_mut().poll(&mut cx).is_pending());
            }
            drop(passes);
            let landed = async {
                while wakes.0.load(Ordering::Relaxed) == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(Duration::from_secs(20), landed).await.unwrap();
            assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
            let Poll::Ready(Ok((_, source))) = told.as_mut().poll(&mut cx) else {
                panic!("it was woken for nothing");
            };
            assert_eq!(source, Source::Told);
        });
    }

    #[test]
    fn a_new_story_waits_to_be_let_in_for_as_long_as_the_target_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Config::new(dir.path())).unwrap();
        let client = Store::from(store.client());
        let (driver, _) = SimDriver::new(1, SimConfig::calm());
        let told = Runtime::new(Box::new(driver), 1).block_on(async move {
            let (service, _passes) = full(client).await;
            let begun = context::now_ns();
            let told = service.tell(b"rome", asked(), &nobody()).await;
            (told.map(|_| ()), Duration::from_nanos(context::now_ns() - begun))
        });
        let (told, waited) = told.unwrap();
        // It is sent away for what it is, and not told that the story takes too long.
        assert_eq!(told, Err(TellError::Overloaded));
        assert!(waited >= TARGET && waited < 2 * TARGET, "{waited:?}");
    }
}
