//! A driver with an alarm to the nanosecond.
//!
//! The runtime's timers go by the millisecond, which suits timeouts and is too coarse for a schedule of arrivals. This one
//! shortens the driver's own wait, so that an arrival wakes its task when it is due, and nothing spins until then.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use roadtrip_api::runtime::driver::buffers::BufferPool;
use roadtrip_api::runtime::driver::{Driver, Event, Op, OpId, Park, SocketAddrAny, Unparker};

/// When to wake whom.
#[derive(Debug)]
pub(super) struct Alarm {
    at_ns: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Alarm {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            at_ns: Cell::new(u64::MAX),
            waker: RefCell::new(None),
        })
    }

    /// One alarm at a time: this one takes the place of the last.
    pub(super) fn set(&self, at_ns: u64, waker: &Waker) {
        self.at_ns.set(at_ns);
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn shorten(&self, park: Park, now_ns: impl FnOnce() -> u64) -> Park {
        let at_ns = self.at_ns.get();
        if at_ns == u64::MAX || park == Park::Poll {
            return park;
        }
        let left = at_ns.saturating_sub(now_ns());
        match park {
            _ if left == 0 => Park::Poll,
            Park::For(other) => Park::For(other.min(Duration::from_nanos(left))),
            _ => Park::For(Duration::from_nanos(left)),
        }
    }

    fn ring(&self, now_ns: impl FnOnce() -> u64) {
        let at_ns = self.at_ns.get();
        if at_ns == u64::MAX || now_ns() < at_ns {
            return;
        }
        self.at_ns.set(u64::MAX);
        // Cloned, as a wake may look for the next alarm.
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A driver that also rings an [`Alarm`].
pub(super) struct Paced {
    inner: Box<dyn Driver>,
    alarm: Rc<Alarm>,
}

impl Paced {
    pub(super) fn new(inner: Box<dyn Driver>, alarm: Rc<Alarm>) -> Self {
        Self { inner, alarm }
    }
}

impl Driver for Paced {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn arm(&mut self, id: OpId, op: &mut Op) {
        self.inner.arm(id, op);
    }

    fn accept_now(&mut self, listener: RawFd) -> io::Result<Option<RawFd>> {
        self.inner.accept_now(listener)
    }

    fn cancel(&mut self, id: OpId, op: &Op) {
        self.inner.cancel(id, op);
    }

    fn turn(&mut self, park: Park, events: &mut Vec<Event>) -> io::Result<()> {
        let park = self.alarm.shorten(park, || self.inner.now_ns());
        let turned = self.inner.turn(park, events);
        self.alarm.ring(|| self.inner.now_ns());
        turned
    }

    fn buffers(&self) -> Rc<BufferPool> {
        self.inner.buffers()
    }

    fn unparker(&self) -> Unparker {
        self.inner.unparker()
    }

    fn socket(&mut self, addr: &SocketAddrAny) -> io::Result<RawFd> {
        self.inner.socket(addr)
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<RawFd> {
        self.inner.adopt(fd)
    }

    fn release(&mut self, fd: RawFd) -> io::Result<OwnedFd> {
        self.inner.release(fd)
    }

    fn close(&mut self, fd: RawFd) {
        self.inner.close(fd);
    }

    fn give_up(&mut self, fds: Vec<RawFd>) {
        self.inner.give_up(fds);
    }

    fn descriptor(&self, fd: RawFd) -> io::Result<BorrowedFd<'_>> {
        self.inner.descriptor(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadtrip_api::runtime::driver::choose::{IoDriver, open};
    use roadtrip_api::runtime::executor::Runtime;
    use std::task::Poll;

    #[test]
    fn an_alarm_rings_when_due_and_never_before() {
        for kind in [IoDriver::Auto, IoDriver::Epoll] {
            let alarm = Alarm::new();
            let driver = open(kind).unwrap().0;
            let runtime = Runtime::new(Box::new(Paced::new(driver, alarm.clone())), 1);
            let rung = runtime
                .block_on(async move {
                    let mut rung = 0;
                    for _ in 0..20 {
                        let due = crate::clock::now_ns() + 300_000;
                        std::future::poll_fn(|cx| {
                            let early = alarm.at_ns.get() == due;
                            if crate::clock::now_ns() >= due {
                                rung += i32::from(!early);
                                return Poll::Ready(());
                            }
                            alarm.set(due, cx.waker());
                            Poll::Pending
                        })
                        .await;
                    }
                    rung
                })
                .unwrap();
            // Nothing else would have woken it.
            assert_eq!(rung, 20);
        }
    }

    #[test]
    fn other_waits_are_only_shortened() {
        let alarm = Alarm::new();
        assert_eq!(alarm.shorten(Park::Forever, || 0), Park::Forever);
        alarm.set(1_000, Waker::noop());
        assert_eq!(alarm.shorten(Park::Poll, || 0), Park::Poll);
        assert_eq!(
            alarm.shorten(Park::Forever, || 400),
            Park::For(Duration::from_nanos(600))
        );
        assert_eq!(
            alarm.shorten(Park::For(Duration::from_nanos(5)), || 400),
            Park::For(Duration::from_nanos(5))
        );
        assert_eq!(alarm.shorten(Park::Forever, || 1_000), Park::Poll);
    }
}
