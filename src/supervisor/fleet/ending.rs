//! Workers that leave or end together: the process ends, or another takes over, or does not after all.

use super::{Fleet, Told};
use crate::store::Lent;
use crate::supervisor::boot::BootError;
use crate::supervisor::slot::Slot;
use crate::supervisor::worker::Want;
use std::thread::JoinHandle;
use std::time::Duration;

impl Fleet {
    /// Every life stops accepting and finishes what it has; the sockets' queues stay for others. Idle connections are kept
    /// for so long.
    pub(in crate::supervisor) fn leave(&mut self, idle: Duration) {
        let graceful = self.graceful();
        let departures = &self.shared.rescue.departures;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let coming = slot.coming.take().map(|coming| coming.life);
            let lives = slot.present.take().into_iter().chain(coming);
            slot.leaving.extend(lives.map(|life| {
                // Where this process goes on after all, its next lives must know whom they come after.
                departures.told(index as u32, life.number);
                life.leave(idle, graceful)
            }));
            slot.restart_at = None;
        }
    }

    /// The same, and no other life begins: not for one that breaks down, and not where there are fewer than are wanted.
    pub(in crate::supervisor) fn leave_for_good(&mut self, idle: Duration) {
        self.ending = true;
        self.leave(idle);
    }

    /// After [`leave`](Self::leave), begins again with this store.
    ///
    /// # Errors
    /// A life cannot begin, and nothing says that it can later: former lives may hold what it lacks for a while.
    pub(in crate::supervisor) fn resume(&mut self, store: Lent) -> Result<(), BootError> {
        self.store = store;
        // From the last: one that never served goes with its slot.
        for index in (0..self.slots.len()).rev() {
            if let Err(error) = self.begin(index, None)
                && let Told::Fatal(error) = self.not_begun(index, error.into())
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Everything is served, and clients are told to move on.
    pub(in crate::supervisor) fn move_on(&mut self) {
        self.moving_on = true;
        for slot in &self.slots {
            // One that is given up leaves anyway.
            let present = slot.present.iter().filter(|life| life.until.is_none());
            for life in present.chain(slot.coming.iter().map(|coming| &coming.life)) {
                let _ = life.want.send(Want::MoveOn);
            }
        }
    }

    /// Every life ends, the sockets' queues included.
    pub(in crate::supervisor) fn end(&mut self) {
        self.ending = true;
        for index in 0..self.slots.len() {
            let is_served = |slot: &Slot| slot.present.is_some() || slot.coming.is_some();
            if !self.slots.get(index).is_some_and(is_served)
                && let Err(error) = self.begin(index, None)
            {
                // It has broken down; who waits in its sockets' queues was to be served by its next life.
                tracing::error!(worker = index, %error, "a worker cannot begin again; who waits for it is turned away");
            }
        }
        let graceful = self.graceful();
        for slot in &mut self.slots {
            slot.restart_at = None;
            slot.close_at = None;
            let coming = slot.coming.take().map(|coming| coming.life);
            let lives = slot
                .present
                .take()
                .into_iter()
                .chain(coming)
                .chain(slot.leaving.drain(..));
            slot.leaving = lives
                .map(|mut life| {
                    life.tell(Want::End, graceful);
                    life
                })
                .collect();
        }
    }

    /// True if some life did not end in time. It is left as it is: one that loses its supervisor ends its sockets, which
    /// may be another process's by now.
    pub(in crate::supervisor) fn forget_lost(&mut self) -> bool {
        let lost = std::mem::take(&mut self.lost);
        let any = !lost.is_empty();
        std::mem::forget(lost);
        any
    }

    /// True once no life is left; with its threads.
    pub(in crate::supervisor) fn is_empty(&self) -> bool {
        self.slots.iter().all(Slot::is_empty) && self.ended.iter().all(JoinHandle::is_finished)
    }
}
