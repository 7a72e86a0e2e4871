//! Connections that came while memory is short, in the order in which they came: when there are too many of them, the
//! oldest makes way for the newest, so that who holds places and says nothing does not shut out probes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// One connection's place among them.
#[derive(Debug)]
pub(super) struct Ticket {
    number: u64,
    /// It makes way: its task is to end it.
    is_over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// All that are open; no more than it is told.
#[derive(Debug, Default)]
pub(super) struct Late {
    next: Cell<u64>,
    /// They have asked for nothing yet.
    silent: RefCell<BTreeMap<u64, Rc<Ticket>>>,
    /// They have their answer, or will.
    asked: RefCell<BTreeMap<u64, Rc<Ticket>>>,
}

impl Late {
    /// One more. True if another one had to make way for it, so that they are at most `max`.
    pub(super) fn enter(&self, max: usize) -> (Rc<Ticket>, bool) {
        let ousts = self.count() >= max.max(1) && self.oust();
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let ticket = Rc::new(Ticket {
            number,
            is_over: Cell::new(false),
            waker: RefCell::new(None),
        });
        self.silent.borrow_mut().insert(number, Rc::clone(&ticket));
        (ticket, ousts)
    }

    /// The oldest makes way: of those that have not asked, and only where all have, of those. They have been answered, as a
    /// rule, and wait for their clients to close.
    fn oust(&self) -> bool {
        let silent = self.silent.borrow_mut().pop_first();
        let oldest = silent.or_else(|| self.asked.borrow_mut().pop_first());
        let Some((_, ticket)) = oldest else { return false };
        ticket.is_over.set(true);
        if let Some(waker) = ticket.waker.take() {
            waker.wake();
        }
        true
    }

    /// It has asked for something.
    pub(super) fn asks(&self, ticket: &Ticket) {
        let silent = self.silent.borrow_mut().remove(&ticket.number);
        self.asked
            .borrow_mut()
            .extend(silent.map(|ticket| (ticket.number, ticket)));
    }

    /// It is gone.
    pub(super) fn leave(&self, ticket: &Ticket) {
        if self.silent.borrow_mut().remove(&ticket.number).is_none() {
            self.asked.borrow_mut().remove(&ticket.number);
        }
    }

    /// Memory is short no more: those that came meanwhile are connections as any other.
    pub(super) fn forget(&self) {
        self.silent.borrow_mut().clear();
        self.asked.borrow_mut().clear();
    }

    fn count(&self) -> usize {
        self.silent.borrow().len().saturating_add(self.asked.borrow().len())
    }
}

impl Ticket {
    fn is_over(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.is_over.get()
    }
}

/// Serves such a connection, whatever is spoken on it, until it ends or has to make way.
pub(super) async fn until_over(ticket: Rc<Ticket>, connection: impl Future<Output = ()>) {
    // Boxed: an argument that is pinned in place is there twice.
    let mut connection = Box::pin(connection);
    poll_fn(|cx| {
        if ticket.is_over(cx) {
            return Poll::Ready(());
        }
        connection.as_mut().poll(cx)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_has_not_asked_makes_way_and_then_the_oldest() {
        let late = Late::default();
        let tickets: Vec<_> = (0..3).map(|_| late.enter(3)).collect();
        assert!(tickets.iter().all(|(_, ousts)| !ousts));
        let over = |of: &[(Rc<Ticket>, bool)]| of.iter().map(|(ticket, _)| ticket.is_over.get()).collect::<Vec<_>>();
        late.asks(&tickets[0].0);
        let (fourth, ousts) = late.enter(3);
        assert!(ousts && late.count() == 3);
        assert_eq!(over(&tickets), [false, true, false]);
        // It ends now, and takes nobody else's place with it.
        late.leave(&tickets[1].0);
        late.asks(&tickets[2].0);
        late.asks(&fourth);
        assert_eq!(late.count(), 3);
        let (fifth, ousts) = late.enter(3);
        assert!(ousts && !fifth.is_over.get());
        assert_eq!(over(&tickets), [true, true, false]);
        late.leave(&fourth);
        assert!(!late.enter(3).1, "there is a place");
        late.forget();
        assert_eq!(late.count(), 0);
        late.asks(&fifth);
        late.leave(&fifth);
        assert_eq!(late.count(), 0);
        assert!(!late.enter(0).1 && late.enter(0).1);
    }
}
