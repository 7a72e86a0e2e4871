//! The share of a core that the telling of new stories may use: a burst of misses must not keep a cached story, or a
//! probe, waiting for all of them.
//!
//! Time is cut into windows (`limits::story::CPU_WINDOW_NS`), of each of which telling may have a part. Who comes when that is
//! used up waits in a line, and the first of it for the next window. In a line, because whoever looks at the right moment
//! would be served otherwise, and somebody would wait for seconds.

use crate::limits::story as limits;
use crate::runtime::context;
use crate::runtime::time::sleep;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// See the page of this module.
#[derive(Default)]
pub(super) struct Share {
    /// The present window, and how much of it was used, nanoseconds.
    present: Cell<(u64, u64)>,
    line: RefCell<VecDeque<Rc<Place>>>,
}

/// A place in the line; with whom to wake when it is the first.
#[derive(Default)]
struct Place(RefCell<Option<Waker>>);

/// Leaves the line when it is dropped, whether its turn came or its task is given up.
struct Standing<'s> {
    share: &'s Share,
    place: Rc<Place>,
}

impl Standing<'_> {
    fn is_first(&self) -> bool {
        let line = self.share.line.borrow();
        line.front().is_some_and(|first| Rc::ptr_eq(first, &self.place))
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let was_first = self.is_first();
        let mut line = self.share.line.borrow_mut();
        line.retain(|place| !Rc::ptr_eq(place, &self.place));
        if was_first
            && let Some(first) = line.front()
            && let Some(waker) = first.0.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

impl Share {
    /// Waits until something of the share is left. Whoever gets through works before anybody else looks: in the same poll.
    pub(super) async fn take_turn(&self) {
        if self.line.borrow().is_empty() && self.has_room() {
            return;
        }
        let standing = Standing {
            share: self,
            place: Rc::default(),
        };
        self.line.borrow_mut().push_back(Rc::clone(&standing.place));
        poll_fn(|cx| {
            if standing.is_first() {
                return Poll::Ready(());
            }
            *standing.place.0.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        while !self.has_room() {
            let next_ns = (self.present.get().0 + 1).saturating_mul(limits::CPU_WINDOW_NS);
            sleep(Duration::from_nanos(next_ns.saturating_sub(context::now_ns()))).await;
        }
    }

    /// Does a piece of work, and books its time.
    pub(super) fn work<T>(&self, piece: impl FnOnce() -> T) -> T {
        let begun = context::precise_now_ns();
        let done = piece();
        self.book(context::precise_now_ns().saturating_sub(begun));
        done
    }

    fn book(&self, ns: u64) {
        let (window, used) = self.present.get();
        self.present.set((window, used.saturating_add(ns)));
    }

    fn has_room(&self) -> bool {
        let window = context::now_ns() / limits::CPU_WINDOW_NS;
        if self.present.get().0 != window {
            self.present.set((window, 0));
        }
        self.present.get().1 < limits::CPU_WINDOW_SHARE_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::driver::sim::{SimConfig, SimDriver};
    use crate::runtime::executor::{JoinHandle, Runtime, spawn};

    const PIECE_NS: u64 = limits::CPU_WINDOW_SHARE_NS / 4;

    type Done = Rc<RefCell<Vec<(u32, u64)>>>;

    /// Works for one piece when it is its turn; notes who, and in which window.
    fn worker(share: &Rc<Share>, done: &Done, who: u32) -> JoinHandle<()> {
        let (share, done) = (Rc::clone(share), Rc::clone(done));
        spawn("worker", async move {
            share.take_turn().await;
            share.book(PIECE_NS);
            done.borrow_mut().push((who, context::now_ns() / limits::CPU_WINDOW_NS));
        })
    }

    fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(Rc<Share>, Done) -> F) {
        let (driver, _) = SimDriver::new(1, SimConfig::calm());
        Runtime::new(Box::new(driver), 1)
            .block_on(test(Rc::default(), Done::default()))
            .unwrap();
    }

    #[test]
    fn whoever_came_first_is_first_and_a_window_has_its_share() {
        run(|share, done| async move {
            let mut workers = Vec::new();
            for who in 0..200 {
                workers.push(worker(&share, &done, who));
                if who % 3 == 0 {
                    // Those who come at the begin of a window do not get before those who wait for it.
                    sleep(Duration::from_millis(1)).await;
                }
            }
            for worker in workers {
                worker.await.unwrap();
            }
            let done = done.borrow();
            assert!(done.iter().map(|(who, _)| *who).eq(0..200), "{done:?}");
            for of_window in done.chunk_by(|one, other| one.1 == other.1) {
                assert!(of_window.len() <= 4, "{of_window:?}");
            }
            assert!(share.line.borrow().is_empty());
        });
    }

    #[test]
    fn who_is_given_up_leaves_the_line_and_the_next_one_moves_up() {
        run(|share, done| async move {
            let workers: Vec<_> = (0..20).map(|who| worker(&share, &done, who)).collect();
            // Four work, the fifth is the first of the line.
            sleep(Duration::from_nanos(1)).await;
            for (who, worker) in workers.into_iter().enumerate() {
                if (4..10).contains(&who) {
                    worker.abort();
                } else {
                    worker.await.unwrap();
                }
            }
            let mut done: Vec<u32> = done.borrow().iter().map(|(who, _)| *who).collect();
            done.sort_unstable();
            assert_eq!(done.len(), 14, "{done:?}");
            assert!(share.line.borrow().is_empty());
        });
    }
}
