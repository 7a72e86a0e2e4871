//! A bound that streams of one connection share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// So much may be taken at a time; who finds it closed waits.
pub(super) struct Gate {
    taken: Cell<usize>,
    max: usize,
    /// A task stands here once, so a connection's streams bound it.
    waiting: RefCell<Vec<Waker>>,
}

/// A part that is taken; given back when dropped.
pub(super) struct Taken {
    gate: Rc<Gate>,
    amount: usize,
}

impl Gate {
    pub(super) fn new(max: usize) -> Rc<Gate> {
        Rc::new(Gate {
            taken: Cell::new(0),
            max,
            waiting: RefCell::new(Vec::new()),
        })
    }

    /// How much is taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    /// True while less than the bound is taken.
    pub(super) fn is_open(&self) -> bool {
        self.taken.get() < self.max
    }

    /// The same; where it is closed, the task is woken once something was given back.
    pub(super) fn is_open_or_wait(&self, cx: &Context<'_>) -> bool {
        if self.is_open() {
            return true;
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        false
    }

    /// Takes `amount`, open or not: who must not go over the bound asks before.
    pub(super) fn take(self: &Rc<Gate>, amount: usize) -> Taken {
        self.taken.set(self.taken.get().saturating_add(amount));
        Taken {
            gate: Rc::clone(self),
            amount,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let gate = &self.gate;
        gate.taken.set(gate.taken.get().saturating_sub(self.amount));
        if gate.is_open() {
            let waiting = std::mem::take(&mut *gate.waiting.borrow_mut());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}
