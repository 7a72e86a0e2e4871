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
use super::worker::{self, Birth, NotBegun, Want, What, Word};
use crate::limits::health::DRAIN_MARGIN_MS;
use crate::limits::life as limits;
use crate::runtime::heartbeat::Heartbeat;
use crate::store::Lent;
use crate::telemetry::metrics::Reason;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

mod ending;
mod size;

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
            self.not_begun(at, error.into());
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
                slot.failing_since = None;
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
                    return self.not_begun(at, reason);
                }
                // It was told to leave before it could begin: nobody else's word says that it is gone.
                let (life, _) = slot.take(word.life);
                self.ended.extend(life.map(|life| life.thread));
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
            return self.not_begun(at, why.into());
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
    fn not_begun(&mut self, at: usize, why: NotBegun) -> Told {
        let ending = self.ending;
        let reason = why.reason.as_str();
        let comes_back = self.comes_back(at, why.is_starved);
        let Some(slot) = self.slots.get_mut(at) else {
            return Told::Nothing;
        };
        slot.not_replaced = true;
        if slot.present.is_some() || ending {
            slot.failing_since = None;
            tracing::error!(
                worker = at,
                reason,
                "the worker could not be replaced; the one before goes on"
            );
            return Told::Nothing;
        }
        if !slot.was_served && self.is_up {
            // Nothing was led to its sockets yet.
            tracing::error!(
                worker = at,
                reason,
                "the worker that was asked for could not begin; there is none more"
            );
            // One that hangs may still come to something: it is told to leave, and not that its supervisor is gone.
            self.lost.extend(self.slots.drain(at..).flat_map(|slot| slot.leaving));
            self.shared.rescue.dismiss(at as u32);
            self.ports.remove_last();
            self.want(at);
            return Told::Nothing;
        }
        if comes_back && self.is_up {
            let pause = slot.next_pause().min(limits::STARVED_PAUSE);
            tracing::error!(
                worker = at,
                pause_ms = pause.as_millis() as u64,
                reason,
                "the worker could not start again; it is tried until those who leave, or clients, have given back what they hold"
            );
            slot.restart_at = Some(Instant::now() + pause);
            return Told::Nothing;
        }
        slot.failures += 1;
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

    /// What a life lacked to begin with may be given back: by former lives (threads, too), whose connections end at
    /// GRACEFUL_TIMEOUT at the latest, or by clients while other workers serve. Not for longer than that in a row.
    fn comes_back(&mut self, at: usize, is_starved: bool) -> bool {
        let time = self.graceful() + Duration::from_millis(DRAIN_MARGIN_MS);
        let others = self.slots.iter().any(|slot| slot.present.is_some());
        let leaving = self.slots.iter().any(|slot| !slot.leaving.is_empty());
        let Some(slot) = self.slots.get_mut(at) else {
            return false;
        };
        let since = *slot.failing_since.get_or_insert_with(Instant::now);
        (leaving || (others && is_starved)) && since.elapsed() < time
    }

    /// What is due by now; gives when to come again.
    pub(super) fn tick(&mut self, now: Instant) -> (Option<Instant>, Told) {
        for thread in self.ended.extract_if(.., |thread| thread.is_finished()) {
            let _ = thread.join();
        }
        // Late, but not lost.
        self.lost.retain(|life| !life.thread.is_finished());
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
            return self.not_begun(at, "it did not say that it serves; the log may say why".into());
        }
        if is_due(slot.close_at)
            && let Some(present) = &mut slot.present
        {
            slot.close_at = None;
            slot.closing = true;
            self.shared.rescue.give_up(at as u32);
            present.tell(Want::Close, graceful);
        }
        if slot.closing
            && let Some(present) = slot.present.take_if(|present| is_due(present.until))
        {
            tracing::error!(
                worker = at,
                "the worker that is given up does not end; it is left alone, and another takes what waits for it"
            );
            self.lost.push(present);
            self.shared.rescue.abandon(at as u32);
            slot.abandoned = Some(now + limits::ABANDON_SETTLE);
        }
        slot.abandoned = slot.abandoned.filter(|until| now < *until);
        if is_due(slot.restart_at)
            && !ending
            && slot.coming.is_none()
            && let Err(error) = self.begin(at, None)
        {
            return self.not_begun(at, error.into());
        }
        Told::Nothing
    }

    fn graceful(&self) -> Duration {
        self.shared.config.timeouts.graceful
    }
}

/// What the watchdog looks at.
fn note(watched: &Watched, index: u32, heartbeat: Option<Arc<Heartbeat>>) {
    let mut list = watched.lock().unwrap_or_else(PoisonError::into_inner);
    list.retain(|(known, _)| *known != index);
    list.extend(heartbeat.map(|heartbeat| (index, heartbeat)));
}
