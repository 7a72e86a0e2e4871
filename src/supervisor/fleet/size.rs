//! How many workers there are: the last slot comes and goes, one at a time.

use super::{Fleet, note};
use crate::limits::life as limits;
use crate::supervisor::slot::Slot;
use std::time::Instant;

impl Fleet {
    /// Slots, those that are being given up included.
    pub(in crate::supervisor) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many workers there should be. Changes follow one at a time.
    pub(in crate::supervisor) fn want(&mut self, count: usize) {
        self.wanted = count;
        self.shared.process.registry.lives.set_workers(count);
        self.shared.memory.divide_by(count);
    }

    /// See [`want`](Self::want).
    pub(in crate::supervisor) fn wanted(&self) -> usize {
        self.wanted
    }

    /// One slot more or fewer, where another number is wanted and nothing of the kind is under way.
    pub(super) fn fit(&mut self) {
        let Some(last) = self.slots.last() else { return };
        if last.is_closing() {
            if last.closing && last.is_empty() {
                self.slots.pop();
                let index = self.slots.len() as u32;
                self.shared.rescue.dismiss(index);
                self.ports.remove_last();
                self.shared.process.registry.dismiss(index);
                note(&self.watched, index, None);
                tracing::info!(
                    worker = index,
                    workers = self.slots.len(),
                    "the worker has ended; there is one fewer"
                );
                // Another number may be wanted by now, and nothing else brings this thread here again.
                self.fit();
            }
            return;
        }
        if self.slots.len() < self.wanted {
            let index = self.slots.len();
            // Nothing is led to its sockets before it serves.
            if let Err(error) = self.ports.add() {
                tracing::error!(%error, "there can be no more workers");
                self.want(index);
                return;
            }
            match self.ports.lend(index) {
                Ok(sockets) => self.shared.rescue.lend(index as u32, sockets),
                Err(error) => tracing::warn!(worker = index, %error, "nobody could stand in for the new worker"),
            }
            self.slots.push(Slot::new());
            match self.begin(index, None) {
                Ok(()) => tracing::info!(worker = index, workers = self.slots.len(), "one worker more starts"),
                Err(error) => {
                    let _ = self.not_begun(index, error.into());
                }
            }
        } else if self.slots.len() > self.wanted
            && self.slots.len() > 1
            && last.present.is_some()
            && last.coming.is_none()
        {
            self.ports.steer_past_last();
            let index = self.slots.len() - 1;
            tracing::info!(
                worker = index,
                "one worker fewer: nothing new is led to it, and it ends"
            );
            if let Some(last) = self.slots.last_mut() {
                last.close_at = Some(Instant::now() + limits::STEER_SETTLE);
            }
        }
    }

    /// True while nothing of it changes: no slot is coming or going.
    pub(in crate::supervisor) fn is_settled(&self) -> bool {
        let is_steady = |slot: &Slot| slot.coming.is_none() && !slot.is_closing();
        self.slots.len() == self.wanted && self.slots.iter().all(is_steady)
    }

    /// What it is that keeps it from being settled.
    pub(in crate::supervisor) fn why_unsettled(&self) -> Option<&'static str> {
        let last = self.slots.last();
        Some(if last.is_some_and(Slot::is_closing) {
            "a worker is being given up"
        } else if self.slots.iter().any(|slot| slot.coming.is_some()) {
            "a new life of a worker has not begun to serve"
        } else if !self.is_settled() {
            "another number of workers is wanted"
        } else {
            return None;
        })
    }
}
