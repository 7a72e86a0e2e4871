//! The workers: slots whose listening sockets the process owns, and the lives that serve them one after the other.
//!
//! A slot's life is replaced without a gap: the new life accepts from the slot's sockets before the old one is told to
//! leave. Two lives may accept from one socket for a moment; what waits in its queue belongs to the socket, not to a life.
//! A life that breaks down is followed by another after a pause. Driven by the supervising thread alone: it never blocks.

use super::boot::{BootError, Shared};
use super::lead::Event;
use super::ports::Ports;
use super::slot::{Coming, Life, Slot};
use super::watchdog::Watched;
use super::worker::{self, Birth, Want, What, Word};
use crate::limits::life as limits;
use crate::runtime::heartbeat::Heartbeat;
use crate::store::Lent;
use crate::telemetry::metrics::Reason;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// See the page of this module.
pub(super) struct Fleet {
    pub(super) shared: Arc<Shared>,
    pub(super) ports: Ports,
    pub(super) watched: Watched,
    store: Lent,
    events: Sender<Event>,
    slots: Vec<Slot>,
    /// How many slots there should be.
    wanted: usize,
    /// Lives so far.
    lives: u64,
    /// Threads that have said their last word.
    ended: Vec<JoinHandle<()>>,
    /// Lives that did not end in time. Kept: one that loses its supervisor ends its sockets, too.
    lost: Vec<Life>,
    /// All slots are served, or were.
    is_up: bool,
    /// Clients are told to move on.
    moving_on: bool,
    ending: bool,
}

/// Where the replacement of a slot's life stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The new life does not serve yet.
    Coming,
    /// It does, and the old one finishes what it has.
    Leaving,
    /// There is one life, or none.
    Settled,
    /// The new life could not begin; the old one goes on.
    Failed,
}

/// What the lead must know.
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// A worker has had as many requests as it should.
    Worn(u32, u64),
    /// The process cannot go on like this.
    Fatal(BootError),
}

impl Fleet {
    pub(super) fn new(shared: Arc<Shared>, ports: Ports, store: Lent, events: Sender<Event>) -> Fleet {
        Fleet {
            shared,
            ports,
            watched: Watched::default(),
            store,
            events,
            slots: Vec::new(),
            wanted: 0,
            lives: 0,
            ended: Vec::new(),
            lost: Vec::new(),
            is_up: false,
            moving_on: false,
            ending: false,
        }
    }

    /// Slots, those that are being given up included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many workers there should be. Changes follow one at a time.
    pub(super) fn want(&mut self, count: usize) {
        self.wanted = count;
        self.shared.process.registry.lives.set_workers(count);
        self.shared.memory.divide_by(count);
    }

    /// See [`want`](Self::want).
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Begins a first life in so many slots.
    ///
    /// # Errors
    /// No thread, or no descriptor.
    pub(super) fn launch(&mut self, count: usize) -> Result<(), BootError> {
        self.want(count);
        for index in 0..count {
            self.shared.rescue.lend(index as u32, self.ports.lend(index)?);
            self.slots.push(Slot::new());
            self.begin(index, None)?;
        }
        Ok(())
    }

    /// True once every slot is served for the first time.
    pub(super) fn is_up(&mut self) -> bool {
        self.is_up |= self.slots.iter().all(|slot| slot.present.is_some());
        self.is_up
    }

    fn begin(&mut self, index: usize, why: Option<Reason>) -> std::io::Result<()> {
        self.lives += 1;
        let (want, wanted) = watch::channel(if self.moving_on { Want::MoveOn } else { Want::Serve });
        let now = Instant::now();
        let thread = worker::start(Birth {
            worker: index as u32,
            life: self.lives,
            ports: self.ports.lend(index)?,
            shared: Arc::clone(&self.shared),
            store: self.store.clone(),
            events: self.events.clone(),
            want: wanted,
        })?;
        let life = Life {
            number: self.lives,
            want,
            thread,
            began: now,
            until: Some(now + limits::BEGIN_MAX),
        };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.restart_at = None;
            slot.not_replaced = false;
            slot.coming = Some(Coming { life, why });
        }
        Ok(())
    }

    /// Begins another life in a slot that is served, in place of the present one. False where it is not the moment.
    pub(super) fn replace(&mut self, index: u32, why: Reason) -> bool {
        let at = index as usize;
        let fits = |slot: &Slot| slot.present.is_some() && slot.coming.is_none() && !slot.is_closing();
        if self.ending || !self.slots.get(at).is_some_and(fits) {
            return false;
        }
        if let Err(error) = self.begin(at, Some(why)) {
            self.not_begun(at, &error.to_string());
        }
        true
    }

    /// Where the replacement of that slot's life stands.
    pub(super) fn progress(&self, index: u32) -> Progress {
        match self.slots.get(index as usize) {
            Some(slot) if slot.coming.is_some() => Progress::Coming,
            Some(slot) if slot.not_replaced => Progress::Failed,
            Some(slot) if !slot.leaving.is_empty() => Progress::Leaving,
            _ => Progress::Settled,
        }
    }

    /// Takes a life's word.
    pub(super) fn hear(&mut self, word: Word) -> Told {
        if word.what.is_last() {
            self.shared.rescue.departures.stopped(word.worker, word.life);
        }
        let at = word.worker as usize;
        let graceful = self.graceful();
        let Some(slot) = self.slots.get_mut(at) else {
            return Told::Nothing;
        };
        let is = |life: &Life| life.number == word.life;
        match word.what {
            What::Serving(heartbeat) => {
                let Some(Coming { mut life, why }) = slot.coming.take_if(|coming| is(&coming.life)) else {
                    return Told::Nothing;
                };
                slot.failures = 0;
                life.until = None;
                if !std::mem::replace(&mut slot.was_served, true) && self.is_up {
                    self.ports.spread();
                }
                if let Some(former) = slot.present.replace(life) {
                    self.shared.rescue.departures.told(word.worker, former.number);
                    slot.leaving.push(former.leave(limits::RETIRE_IDLE, graceful));
                }
                if let Some(why) = why {
                    self.shared.process.registry.lives.restarted(why);
                    tracing::info!(
                        worker = word.worker,
                        reason = why.name(),
                        "the worker was replaced by a new life"
                    );
                }
                note(&self.watched, word.worker, Some(heartbeat));
            }
            What::Worn(requests) => {
                if slot.present.as_ref().is_some_and(is) {
                    return Told::Worn(word.worker, requests);
                }
            }
            What::NotBegun(reason) => {
                if let Some(coming) = slot.coming.take_if(|coming| is(&coming.life)) {
                    self.ended.push(coming.life.thread);
                    return self.not_begun(at, &reason);
                }
            }
            What::Broken(why) => return self.broken(at, word.life, &why),
            What::Ended(cut_off) => {
                if cut_off > 0 {
                    self.shared.process.registry.lives.cut_off(cut_off);
                    tracing::warn!(
                        worker = word.worker,
                        connections = cut_off,
                        "connections were cut off at the graceful timeout"
                    );
                }
                let (life, was_present) = slot.take(word.life);
                let Some(life) = life else { return Told::Nothing };
                let was_told = life.until.is_some();
                self.ended.push(life.thread);
                if was_present && !was_told {
                    return Told::Fatal(BootError::Worker {
                        worker: word.worker,
                        reason: "it ended without being asked".to_owned(),
                    });
                }
            }
        }
        Told::Nothing
    }

    fn broken(&mut self, at: usize, number: u64, why: &str) -> Told {
        let ending = self.ending;
        let Some(slot) = self.slots.get_mut(at) else {
            return Told::Nothing;
        };
        if let Some(coming) = slot.coming.take_if(|coming| coming.life.number == number) {
            self.ended.push(coming.life.thread);
            return self.not_begun(at, why);
        }
        let (life, was_present) = slot.take(number);
        let Some(life) = life else { return Told::Nothing };
        let lived = life.began.elapsed();
        self.ended.push(life.thread);
        // The connections of that life are lost; those in its sockets' queues are not.
        if !was_present || ending {
            tracing::error!(worker = at, why, "the worker broke down while it ended");
            return Told::Nothing;
        }
        if std::mem::take(&mut slot.closing) {
            // What is left in its queues is for the next life.
            slot.close_at = Some(Instant::now());
        }
        if lived >= limits::HEALTHY {
            slot.pause = limits::RESTART_PAUSE;
        }
        if slot.coming.is_none() {
            tracing::error!(
                worker = at,
                pause_ms = slot.pause.as_millis() as u64,
                lived_ms = lived.as_millis() as u64,
                why,
                "the worker broke down; it starts again"
            );
            slot.restart_at = Some(Instant::now() + slot.next_pause());
        }
        self.shared.process.registry.lives.restarted(Reason::Panic);
        Told::Nothing
    }

    /// A life could not begin.
    fn not_begun(&mut self, at: usize, reason: &str) -> Told {
        let ending = self.ending;
        let Some(slot) = self.slots.get_mut(at) else {
            return Told::Nothing;
        };
        slot.not_replaced = true;
        if slot.present.is_some() || ending {
            tracing::error!(
                worker = at,
                reason,
                "the worker could not be replaced; the one before goes on"
            );
            return Told::Nothing;
        }
        slot.failures += 1;
        if !slot.was_served && self.is_up {
            // Nothing was led to its sockets yet.
            tracing::error!(
                worker = at,
                reason,
                "the worker that was asked for could not begin; there is none more"
            );
            self.slots.truncate(at);
            self.shared.rescue.dismiss(at as u32);
            self.ports.remove_last();
            self.want(at);
            return Told::Nothing;
        }
        if !self.is_up || slot.failures > limits::BEGIN_FAILURES_MAX {
            return Told::Fatal(BootError::Worker {
                worker: at as u32,
                reason: reason.to_owned(),
            });
        }
        tracing::error!(
            worker = at,
            pause_ms = slot.pause.as_millis() as u64,
            reason,
            "the worker could not start again; it is tried once more"
        );
        slot.restart_at = Some(Instant::now() + slot.next_pause());
        Told::Nothing
    }

    /// What is due by now; gives when to come again.
    pub(super) fn tick(&mut self, now: Instant) -> (Option<Instant>, Told) {
        for thread in self.ended.extract_if(.., |thread| thread.is_finished()) {
            let _ = thread.join();
        }
        let mut told = Told::Nothing;
        for at in 0..self.slots.len() {
            if let Told::Fatal(error) = self.tick_slot(at, now) {
                told = Told::Fatal(error);
            }
        }
        if !self.ending {
            self.fit();
        }
        let mut next = self.slots.iter().flat_map(Slot::due).min();
        if !self.ended.is_empty() {
            // Threads wind up after their last word: a moment.
            next = Some(next.map_or(now + Duration::from_millis(5), |next| {
                next.min(now + Duration::from_millis(5))
            }));
        }
        (next, told)
    }

    fn tick_slot(&mut self, at: usize, now: Instant) -> Told {
        let ending = self.ending;
        let graceful = self.graceful();
        let is_due = |when: Option<Instant>| when.is_some_and(|when| when <= now);
        let Some(slot) = self.slots.get_mut(at) else {
            return Told::Nothing;
        };
        for life in slot.leaving.extract_if(.., |life| is_due(life.until)) {
            tracing::error!(worker = at, "a former life does not end; it is left alone");
            self.lost.push(life);
        }
        if let Some(coming) = slot.coming.take_if(|coming| is_due(coming.life.until)) {
            // Its thread may still be at it: should it ever serve, it leaves at once.
            self.shared.rescue.departures.told(at as u32, coming.life.number);
            slot.leaving.push(coming.life.leave(Duration::ZERO, graceful));
            return self.not_begun(at, "it did not say that it serves; the log may say why");
        }
        if is_due(slot.close_at)
            && let Some(present) = &mut slot.present
        {
            slot.close_at = None;
            slot.closing = true;
            self.shared.rescue.give_up(at as u32);
            present.tell(Want::Close, graceful);
        }
        if is_due(slot.restart_at)
            && !ending
            && slot.coming.is_none()
            && let Err(error) = self.begin(at, None)
        {
            return self.not_begun(at, &error.to_string());
        }
        Told::Nothing
    }

    /// One slot more or fewer, where another number is wanted and nothing of the kind is under way.
    fn fit(&mut self) {
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
                    let _ = self.not_begun(index, &error.to_string());
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

    fn graceful(&self) -> Duration {
        self.shared.config.timeouts.graceful
    }

    /// Every life stops accepting and finishes what it has; the sockets' queues stay for others. Idle connections are kept
    /// for so long.
    pub(super) fn leave(&mut self, idle: Duration) {
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

    /// After [`leave`](Self::leave), begins again with this store.
    ///
    /// # Errors
    /// No thread, or no descriptor.
    pub(super) fn resume(&mut self, store: Lent) -> Result<(), BootError> {
        self.store = store;
        for index in 0..self.slots.len() {
            self.begin(index, None)?;
        }
        Ok(())
    }

    /// Everything is served, and clients are told to move on.
    pub(super) fn move_on(&mut self) {
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
    pub(super) fn end(&mut self) {
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

    /// True while nothing of it changes: no slot is coming or going.
    pub(super) fn is_settled(&self) -> bool {
        let is_steady = |slot: &Slot| slot.coming.is_none() && !slot.is_closing();
        self.slots.len() == self.wanted && self.slots.iter().all(is_steady)
    }

    /// True if some life did not end in time. It is left as it is: one that loses its supervisor ends its sockets, which
    /// may be another process's by now.
    pub(super) fn forget_lost(&mut self) -> bool {
        let lost = std::mem::take(&mut self.lost);
        let any = !lost.is_empty();
        std::mem::forget(lost);
        any
    }

    /// True once no life is left; with its threads.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Slot::is_empty) && self.ended.iter().all(JoinHandle::is_finished)
    }
}

/// What the watchdog looks at.
fn note(watched: &Watched, index: u32, heartbeat: Option<Arc<Heartbeat>>) {
    let mut list = watched.lock().unwrap_or_else(PoisonError::into_inner);
    list.retain(|(known, _)| *known != index);
    list.extend(heartbeat.map(|heartbeat| (index, heartbeat)));
}
