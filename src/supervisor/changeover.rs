//! A hot upgrade in the old process, step by step: see [`super::upgrade`] for the agreement.

use super::boot;
use super::elders::Presence;
use super::handover::Left;
use super::lead::{Course, Phase};
use super::stay::{self, Successors};
use super::upgrade::Stage;
use crate::limits::life as limits;
use crate::routes::Lifecycle;
use crate::runtime::driver::choose::IoDriver;
use crate::store::Opened;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Course {
    /// Starts the new process.
    pub(super) fn start_upgrade(&mut self) {
        if let Err(error) = self.make_pipes() {
            return tracing::error!(%error, "SIGUSR2: no upgrade, as there is no pipe for it");
        }
        if let Some(file) = &mut self.lead.pid_file {
            file.step_aside();
        }
        self.upgrades += 1;
        let lead = &self.lead;
        let time = self.shared().config.life.upgrade_timeout;
        let program = lead.origin.program();
        let leave = |left: &mut Left| self.leave_to(left);
        match lead.origin.start_again(self.upgrades, leave, time, &lead.sender) {
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

    /// For all successors that there may come to be.
    fn make_pipes(&mut self) -> io::Result<()> {
        if self.lead.stays && self.successors.is_none() {
            self.successors = Some(Successors::new()?);
        }
        if self.lead.presence.is_none() {
            self.lead.presence = Some(Presence::new()?);
        }
        Ok(())
    }

    /// What the new process is to have.
    fn leave_to(&self, left: &mut Left) -> io::Result<()> {
        let lead = &self.lead;
        for (bind, whose, sockets) in lead.fleet.ports.groups() {
            left.sockets(bind, whose, sockets)?;
        }
        left.driver(self.shared().io_driver);
        let own = lead.presence.as_ref().map(|presence| &presence.hear);
        for end in lead.elders.ends().iter().chain(own) {
            left.pipe("alive", end)?;
        }
        let successors = self.successors.as_ref().map(|successors| &successors.say);
        match successors.or(lead.pids.as_ref()) {
            Some(pids) => left.pipe("pids", pids),
            None => Ok(()),
        }
    }

    pub(super) fn tick_upgrade(&mut self, now: Instant) -> Option<Instant> {
        let (until, stage) = self.upgrade.as_ref().map(|upgrade| (upgrade.until, upgrade.stage))?;
        if until <= now {
            self.upgrade_failed("it did not become ready in UPGRADE_TIMEOUT");
            return Some(now);
        }
        match stage {
            Stage::Starting | Stage::Given => return Some(until),
            Stage::Emptying(end) if !self.lead.fleet.is_empty() && now < end => return Some(until.min(end)),
            // No word tells.
            Stage::Stopping(end) if !self.departures().are_over() && now < end => {
                return Some(until.min(now + limits::STOPPED_LOOK));
            }
            Stage::Emptying(_) => {
                if let Some(store) = self.lead.store.take()
                    && store.close(limits::HANDOVER_MAX).is_err()
                {
                    tracing::error!("the store did not close in time; every answered story is kept");
                }
            }
            Stage::Stopping(_) if !self.departures().are_over() => tracing::warn!(
                "a worker does not stop accepting; should it go on, connections may wait until it has ended"
            ),
            Stage::Stopping(_) => {}
        }
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.go();
        }
        Some(until)
    }

    /// The new process waits for what one process has at a time.
    pub(super) fn prepared(&mut self) {
        let is_embedded = matches!(self.lead.store, Some(Opened::Embedded(_)));
        let starting = self.upgrade.as_mut();
        let Some(upgrade) = starting.filter(|upgrade| upgrade.stage == Stage::Starting) else {
            return;
        };
        let end = Instant::now() + limits::HANDOVER_MAX;
        if is_embedded {
            tracing::info!("the new process is prepared; new connections wait while the store is handed over");
            upgrade.stage = Stage::Emptying(end);
            self.lead.fleet.leave(limits::HANDOVER_IDLE);
        } else {
            tracing::info!(
                "the new process is prepared; new connections wait for it, as it takes another IO_DRIVER, or another store"
            );
            upgrade.stage = Stage::Stopping(end);
            self.lead.fleet.leave(limits::RETIRE_IDLE);
        }
    }

    /// The new process serves.
    pub(super) fn hand_over(&mut self) {
        let Some(mut upgrade) = self.upgrade.take() else { return };
        upgrade.pass_on(&std::mem::take(&mut self.postponed).signals());
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
        upgrade.end();
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
        if upgrade.stage != Stage::Starting {
            self.take_back();
        }
        for signal in std::mem::take(&mut self.postponed).signals() {
            self.signal(signal);
        }
    }

    fn take_back(&mut self) {
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

    /// This process is the new one, and the old one has turned back, or ends, in the moment in which this one began to serve.
    pub(super) fn given_up(&mut self) {
        // One that was told to end meanwhile must not end the sockets, either.
        if !matches!(self.phase, Phase::Serving | Phase::Delaying(_)) {
            return;
        }
        if self.upgrade.is_some() {
            self.upgrade_failed("this process is given up itself");
        }
        let error = self.lead.broken.take().unwrap_or(boot::BootError::GivenUp);
        tracing::error!("{error}");
        self.failed = Some(error);
        self.wants_upgrade = false;
        self.rounds.clear();
        // Removed, if it is not the old one's again.
        self.lead.pid_file = None;
        self.lead.is_ending.store(true, Ordering::Relaxed);
        self.shared().process.advance(Lifecycle::Draining);
        self.phase = Phase::GivenUp;
        self.lead.fleet.leave_for_good(limits::HANDOVER_IDLE);
    }

    /// This process is the one that serves, still.
    pub(super) fn step_back(&mut self) {
        self.shared().process.registry.lives.upgrade_failed();
        if let Some(file) = &mut self.lead.pid_file {
            file.step_back();
        }
    }
}
