//! What the consumer of an accept asks for: connections, a rest, the end.

#[cfg(test)]
use super::Entry;
use super::{ECANCELED, OpTable, State};
use crate::runtime::driver::{Driver, Handle, Op, OpId, error_of};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll};

impl OpTable {
    /// An accept on `listener`; see [`Op::Accept`].
    pub fn accept_op(listener: Handle, shared: bool, single: bool) -> Op {
        Op::Accept {
            listener,
            shared,
            single,
            asks: false,
            told: 0,
            ready: VecDeque::new(),
        }
    }

    /// The next accepted descriptor. If `one`, no more than it is accepted from now on: where the driver can do that
    /// ([`Driver::accept_now`]), nobody is accepted but by this call. An error ends the operation (EMFILE, for one): abandon
    /// it and start another.
    pub fn poll_accept(
        &mut self,
        driver: &mut dyn Driver,
        id: OpId,
        one: bool,
        cx: &Context<'_>,
    ) -> Poll<io::Result<RawFd>> {
        let Some(entry) = self.entry(id) else {
            return Poll::Ready(Err(error_of(ECANCELED)));
        };
        let Op::Accept { ready, single, .. } = &mut entry.op else {
            return Poll::Ready(Err(error_of(ECANCELED)));
        };
        let taken = ready.pop_front();
        let goes_on = !std::mem::replace(single, one);
        if one && goes_on && entry.state == State::Armed {
            // It would go on and on.
            entry.state = State::Stopping;
            driver.cancel(id, &entry.op);
        }
        if let Some(fd) = taken {
            return Poll::Ready(Ok(fd));
        }
        match entry.state {
            State::Done(result) => return Poll::Ready(Err(error_of(result))),
            State::Idle => {
                if let Some(taken) = Self::take_waiting(driver, &mut entry.op) {
                    return Poll::Ready(taken);
                }
                entry.state = State::Armed;
                driver.arm(id, &mut entry.op);
            }
            _ => {}
        }
        Self::wait(entry, cx);
        Poll::Pending
    }

    /// One of those who are said to wait, for a consumer who takes one.
    fn take_waiting(driver: &mut dyn Driver, op: &mut Op) -> Option<io::Result<RawFd>> {
        let Op::Accept {
            listener, single, told, ..
        } = op
        else {
            return None;
        };
        let left = std::mem::take(told);
        if left == 0 || !*single {
            return None;
        }
        let taken = driver.accept_now(listener.fd()).transpose();
        if let Some(Ok(_)) = taken {
            *told = left - 1;
        }
        // None: they are gone, to somebody else or for good.
        taken
    }

    /// The last arming of an accept was a question, whose answer is no descriptor.
    #[cfg(test)]
    pub fn asks(&self, id: OpId) -> bool {
        matches!(
            self.entries.get(id.index as usize),
            Some(Entry { generation, op: Op::Accept { asks: true, .. }, .. }) if *generation == id.generation
        )
    }

    /// Connections that an accept holds and that are not taken.
    #[cfg(test)]
    pub fn accepted(&self, id: OpId) -> usize {
        match self.entries.get(id.index as usize) {
            Some(Entry {
                generation,
                op: Op::Accept { ready, .. },
                ..
            }) if *generation == id.generation => ready.len(),
            _ => 0,
        }
    }

    /// Stops an accept until the next [`poll_accept`](Self::poll_accept): the connections that come meanwhile wait in
    /// the kernel's queue, where another user of the socket may take them.
    pub fn pause_accept(&mut self, driver: &mut dyn Driver, id: OpId) {
        if let Some(entry) = self.entry(id)
            && entry.state == State::Armed
        {
            entry.state = State::Stopping;
            driver.cancel(id, &entry.op);
        }
    }

    /// Stops an accept without losing a connection: ready once the driver has let go of it, with everything that was
    /// accepted and not yet taken. The id must still be abandoned.
    pub fn poll_stop_accept(&mut self, driver: &mut dyn Driver, id: OpId, cx: &Context<'_>) -> Poll<Vec<RawFd>> {
        let Some(entry) = self.entry(id) else {
            return Poll::Ready(Vec::new());
        };
        if entry.state == State::Armed {
            entry.state = State::Stopping;
            driver.cancel(id, &entry.op);
        }
        match (entry.state, &mut entry.op) {
            (State::Stopping, _) => {
                Self::wait(entry, cx);
                Poll::Pending
            }
            (_, Op::Accept { ready, .. }) => Poll::Ready(std::mem::take(ready).into()),
            _ => Poll::Ready(Vec::new()),
        }
    }
}
