//! A hot upgrade in the old process, step by step: see [`super::upgrade`] for the agreement.

use super::boot;
use super::lead::{Course, Phase};
use super::stay::{self, Successors};
use super::upgrade::Stage;
use crate::limits::life as limits;
use crate::runtime::driver::choose::IoDriver;
use crate::store::Opened;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Course {
    /// Starts the new process.
    pub(super) fn start_upgrade(&mut self) {
        if self.lead.stays && self.successors.is_none() {
            match Successors::new() {
                Ok(successors) => self.successors = Some(successors),
                Err(error) => return tracing::error!(%error, "SIGUSR2: no upgrade, as there is no pipe for it"),
            }
        }
        if let Some(file) = &mut self.lead.pid_file {
            file.step_aside();
        }
        self.upgrades += 1;
        let lead = &self.lead;
        let pids = self
            .successors
            .as_ref()
            .map(|successors| &successors.say)
            .or(lead.pids.as_ref());
        let time = self.shared().config.life.upgrade_timeout;
        let program = lead.origin.program();
        match lead
            .origin
            .start_again(self.upgrades, &lead.fleet.ports, pids, time, &lead.sender)
        {
            Ok(upgrade) => {
                tracing::info!(%program, pid = %upgrade.child.as_raw_nonzero(), "SIGUSR2: the new process starts");
                self.upgrade = Some(upgrade);
            }
            Err(error) => {
                tracing::error!(%program, %error, "SIGUSR2: the new process cannot be started; this one goes on");
                self.step_back();
            }
        }
    }

    pub(super) fn tick_upgrade(&mut self, now: Instant) -> Option<Instant> {
        let upgrade = self.upgrade.as_mut()?;
        if upgrade.until <= now {
            self.upgrade_failed("it did not become ready in UPGRADE_TIMEOUT");
            return Some(now);
        }
        let until = upgrade.until;
        let Stage::Emptying(end) = upgrade.stage else {
            return Some(until);
        };
        if !self.lead.fleet.is_empty() && now < end {
            return Some(until.min(end));
        }
        if let Some(store) = self.lead.store.take()
            && store.close(limits::HANDOVER_MAX).is_err()
        {
            tracing::error!("the store did not close in time; every answered story is kept");
        }
        upgrade.go();
        Some(until)
    }

    /// The new process waits for the store.
    pub(super) fn prepared(&mut self) {
        let is_embedded = matches!(self.lead.store, Some(Opened::Embedded(_)));
        let Some(upgrade) = &mut self.upgrade else { return };
        if !is_embedded {
            // It has another kind of store than this one.
            return upgrade.go();
        }
        tracing::info!("the new process is prepared; new connections wait while the store is handed over");
        upgrade.stage = Stage::Emptying(Instant::now() + limits::HANDOVER_MAX);
        self.lead.fleet.leave(limits::HANDOVER_IDLE);
    }

    /// The new process serves.
    pub(super) fn hand_over(&mut self) {
        let Some(upgrade) = self.upgrade.take() else { return };
        if upgrade.stage == Stage::Starting {
            self.lead.fleet.leave(limits::RETIRE_IDLE);
        }
        // One that stays passes it on.
        self.lead.is_ending.store(self.successors.is_none(), Ordering::Relaxed);
        self.phase = Phase::HandedOver(upgrade.child);
        if let Some(pids) = &self.lead.pids {
            stay::name_successor(pids, upgrade.child);
        }
        tracing::info!(
            pid = %upgrade.child.as_raw_nonzero(),
            took_ms = upgrade.elapsed().as_millis() as u64,
            "the new process serves; this one finishes what it has"
        );
    }

    pub(super) fn upgrade_failed(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        upgrade.kill();
        tracing::error!(
            pid = %upgrade.child.as_raw_nonzero(),
            why,
            after_ms = upgrade.elapsed().as_millis() as u64,
            "the new process does not serve; this one goes on"
        );
        self.step_back();
        self.shared().rescue.departures.changed();
        self.lead
            .fleet
            .ports
            .set_nonblocking(matches!(self.shared().io_driver, IoDriver::Epoll));
        if upgrade.stage == Stage::Starting {
            return;
        }
        // It had stopped accepting, and perhaps given up the store.
        let store = match self.lead.store.take() {
            Some(store) => Ok(store),
            None => boot::open_store(&self.shared().config, self.lead.fleet.wanted(), limits::HANDOVER_MAX),
        };
        let resumed = store.and_then(|store| {
            let lent = store.lend();
            self.lead.store = Some(store);
            self.lead.fleet.resume(lent)
        });
        if let Err(error) = resumed {
            tracing::error!("{error}");
            self.failed = Some(error);
            self.begin_end();
        }
    }

    /// This process is the one that serves, still.
    pub(super) fn step_back(&mut self) {
        self.shared().process.registry.lives.upgrade_failed();
        if let Some(file) = &mut self.lead.pid_file {
            file.step_back();
        }
    }
}
