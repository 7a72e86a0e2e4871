//! A worker's budget of bytes for requests that are not whole.

use crate::http::{Reject, Status};
use std::cell::Cell;
use std::rc::Rc;

/// No room for a request that comes in pieces.
pub(super) const BUSY: Reject = Reject::new(
    Status::SERVICE_UNAVAILABLE,
    "too many requests are being received at once; try again soon",
);

/// So many bytes may be held at one time, all connections of a worker together.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: Cell<usize>,
    held: Cell<usize>,
}

impl Budget {
    /// Of `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Rc<Budget> {
        Rc::new(Budget {
            bytes_max: Cell::new(bytes_max),
            held: Cell::new(0),
        })
    }

    /// From now on so many; what is held beyond that stays held.
    pub(super) fn set_max(&self, bytes_max: usize) {
        self.bytes_max.set(bytes_max);
    }

    /// Bytes held now.
    pub(super) fn held(&self) -> usize {
        self.held.get()
    }

    /// True if so many bytes more could be held now. A promise of nothing: only a reservation is kept.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.bytes_max.get().saturating_sub(self.held.get())
    }

    /// Reserves `bytes` until the guard is dropped; none where there is no room.
    pub(super) fn reserve(self: &Rc<Budget>, bytes: usize) -> Option<Reserved> {
        let mut reserved = Reserved {
            budget: Rc::clone(self),
            bytes: 0,
        };
        reserved.resize(bytes).then_some(reserved)
    }
}

/// Bytes of a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Reserved {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Reserved {
    /// Reserves `bytes` in the place of what is reserved. False where there is no room: then it stays as it was.
    #[must_use = "what was not reserved must not be held"]
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let others = self.budget.held.get().saturating_sub(self.bytes);
        if bytes > self.bytes && bytes > self.budget.bytes_max.get().saturating_sub(others) {
            return false;
        }
        self.budget.held.set(others.saturating_add(bytes));
        self.bytes = bytes;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.held.set(self.budget.held.get().saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_given_back() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(budget.has_room(40) && !budget.has_room(41));
        assert!(budget.reserve(41).is_none());
        let second = budget.reserve(40).unwrap();
        assert!(!first.resize(61), "there is no room");
        assert_eq!(budget.held(), 100);
        assert!(first.resize(10) && first.resize(60) && budget.reserve(0).is_some());
        drop(second);
        assert!(first.resize(100) && !first.resize(101) && !first.resize(usize::MAX));
        budget.set_max(0);
        assert!(budget.reserve(1).is_none() && !first.resize(101));
        assert_eq!(budget.held(), 100, "what is held stays held");
        assert!(first.resize(40) && !first.resize(41), "but does not grow");
        drop(first);
        assert_eq!(budget.held(), 0);
    }
}
