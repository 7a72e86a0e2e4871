//! Connections that came while memory is short, in the order in which they came: when there are too many of them, the
//! oldest makes way for the newest, so that who holds places does not shut out probes, whether it says nothing or asks and
//! does not take the answer.

use crate::limits::memory as limits;
use crate::runtime::time::Sleep;
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
    /// It has asked for something.
    has_asked: Cell<bool>,
    /// Memory is short no more: it is a connection as any other, and stays one when memory is short again.
    is_void: Cell<bool>,
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
    /// Those that make way and are not gone yet.
    leaving: Cell<usize>,
}

impl Late {
    /// One more. True if another one had to make way for it, so that they are at most `max`.
    pub(super) fn enter(&self, max: usize) -> (Rc<Ticket>, bool) {
        let ousts = self.count() >= max.max(1) && self.oust(max);
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let ticket = Rc::new(Ticket {
            number,
            is_over: Cell::new(false),
            has_asked: Cell::new(false),
            is_void: Cell::new(false),
            waker: RefCell::new(None),
        });
        self.silent.borrow_mut().insert(number, Rc::clone(&ticket));
        (ticket, ousts)
    }

    /// The oldest makes way: of those that have not asked, unless those that have are more than half. They have been answered,
    /// as a rule, and wait for their clients to close; and who comes must have time to ask.
    fn oust(&self, max: usize) -> bool {
        let (mut silent, mut asked) = (self.silent.borrow_mut(), self.asked.borrow_mut());
        let oldest = if asked.len() > max / 2 {
            asked.pop_first()
        } else {
            silent.pop_first().or_else(|| asked.pop_first())
        };
        let Some((_, ticket)) = oldest else { return false };
        ticket.is_over.set(true);
        self.leaving.set(self.leaving.get().saturating_add(1));
        if let Some(waker) = ticket.waker.take() {
            waker.wake();
        }
        true
    }

    /// It has asked for something.
    pub(super) fn asks(&self, ticket: &Ticket) {
        ticket.has_asked.set(true);
        let silent = self.silent.borrow_mut().remove(&ticket.number);
        self.asked
            .borrow_mut()
            .extend(silent.map(|ticket| (ticket.number, ticket)));
    }

    /// It is gone.
    pub(super) fn leave(&self, ticket: &Ticket) {
        if ticket.is_over.get() {
            self.leaving.set(self.leaving.get().saturating_sub(1));
            return;
        }
        if self.silent.borrow_mut().remove(&ticket.number).is_none() {
            self.asked.borrow_mut().remove(&ticket.number);
        }
    }

    /// Memory is short no more: those that came meanwhile are connections as any other.
    pub(super) fn forget(&self) {
        for of in [&self.silent, &self.asked] {
            for (_, ticket) in std::mem::take(&mut *of.borrow_mut()) {
                ticket.is_void.set(true);
            }
        }
    }

    /// Those that make way and are not gone yet.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.get()
    }

    /// How many there are, without those that make way.
    pub(super) fn count(&self) -> usize {
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

    /// See [`Late::forget`].
    pub(super) fn is_void(&self) -> bool {
        self.is_void.get()
    }
}

/// Serves such a connection, whatever is spoken on it, until it ends or has to make way; or has asked, and not taken its answer
/// in time.
pub(super) async fn until_over(ticket: Rc<Ticket>, connection: impl Future<Output = ()>) {
    // Boxed: an argument that is pinned in place is there twice.
    let mut connection = Box::pin(connection);
    let mut asked = None;
    poll_fn(|cx| {
        if ticket.is_over(cx) || connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !ticket.has_asked.get() || ticket.is_void() {
            return Poll::Pending;
        }
        let asked = asked.get_or_insert_with(|| Sleep::after(limits::LATE_PATIENCE));
        asked.poll_elapsed(cx)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_has_not_asked_makes_way_unless_half_have() {
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
        assert_eq!((late.count(), late.leaving()), (3, 0));
        // Two of three have asked: the newest, which has had no time to, stays.
        let (fifth, ousts) = late.enter(3);
        assert!(ousts && !fifth.is_over.get() && !fourth.is_over.get());
        assert_eq!(over(&tickets), [true, true, false]);
        assert_eq!((late.count(), late.leaving()), (3, 1));
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
