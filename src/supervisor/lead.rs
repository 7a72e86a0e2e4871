//! The supervising thread once all workers serve: signals, workers' words and times, one after the other.
//!
//! Everything here happens in one place and in one order, and nothing blocks for longer than a file takes to open, but for
//! the end of a new process that is given up (`upgrade`, up to 3 s): what takes time is a state, and a time to look again.

use super::boot::{BootError, Shared};
use super::certificate::Reloader;
use super::departures::Departures;
use super::drain::Delay;
use super::elders::{Elders, Presence};
use super::fleet::{Fleet, Told};
use super::pid_file::PidFile;
use super::postponed::Postponed;
use super::rounds::{Asked, Rounds};
use super::stay::{self, Successors};
use super::upgrade::{Origin, Said, Upgrade};
use super::worker::Word;
use crate::limits::life as limits;
use crate::limits::server::WORKERS_MAX;
use crate::routes::Lifecycle;
use crate::runtime::topology::memory::resident_bytes;
use crate::store::Opened;
use crate::telemetry::logging::LogControl;
use crate::telemetry::metrics::Reason;
use rustix::process::Pid;
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// What the supervising thread hears. Bounded by what there is to hear: the kernel keeps one signal of a kind, a life has
/// a few words, an upgrade two.
#[derive(Debug)]
pub(super) enum Event {
    /// A signal.
    Signal(i32),
    /// A worker's word.
    Word(Word),
    /// A new process's, of that attempt.
    Upgrade(u64, Said),
    /// The process before has given this one up, when it served already.
    GivenUp,
}

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Told to end; connections are still taken until then.
    Delaying(Delay),
    /// Told to end, and the workers know.
    Ending,
    /// Another process serves; this one finishes what it has.
    HandedOver(Pid),
    /// The process before serves, or nobody does any more; this one finishes what it has, and leaves the sockets as they are.
    GivenUp,
}

/// The supervising thread's own.
pub(super) struct Lead {
    pub(super) events: Receiver<Event>,
    pub(super) sender: Sender<Event>,
    pub(super) fleet: Fleet,
    pub(super) store: Option<Opened>,
    pub(super) reloader: Option<Reloader>,
    pub(super) log: LogControl,
    pub(super) origin: Origin,
    pub(super) pid_file: Option<PidFile>,
    /// Where a process that stays behind hears of this one's successor.
    pub(super) pids: Option<OwnedFd>,
    /// Who may still wait for connections of the same sockets.
    pub(super) elders: Elders,
    /// What says the same of this process to its successor, once there has been one.
    pub(super) presence: Option<Presence>,
    /// This process stays behind its successor.
    pub(super) stays: bool,
    /// A second SIGINT is to end the process at once.
    pub(super) is_ending: Arc<AtomicBool>,
    /// Why this process, the new one of an upgrade, cannot serve: it begins as one that is given up, then.
    pub(super) broken: Option<BootError>,
}

/// How it came to its end.
pub(super) struct Over {
    /// What of the store is left to close.
    pub(super) store: Option<Opened>,
    /// All workers ended in time.
    pub(super) in_time: bool,
    /// GRACEFUL_TIMEOUT, as it came to be.
    pub(super) graceful: Duration,
    /// What made it end, if nobody asked.
    pub(super) failed: Option<BootError>,
    /// The process to stay behind, with how it ended if it has.
    pub(super) stay: Option<(Pid, Successors, Option<u8>)>,
    /// Held to the process's end where a worker of it may still wait for connections.
    pub(super) _presence: Option<Presence>,
    pub(super) events: Receiver<Event>,
}

/// What the supervising thread has in hand.
pub(super) struct Course {
    pub(super) lead: Lead,
    pub(super) phase: Phase,
    pub(super) rounds: Rounds,
    pub(super) wants_upgrade: bool,
    pub(super) upgrade: Option<Upgrade>,
    pub(super) upgrades: u64,
    pub(super) postponed: Postponed,
    pub(super) successors: Option<Successors>,
    /// How the process that was handed over to has ended.
    gone: Option<u8>,
    next_look: Instant,
    /// When to look at those before this process; none when they are gone.
    elders_at: Option<Instant>,
    rss_pause_until: Instant,
    rss_turn: u32,
    pub(super) failed: Option<BootError>,
}

impl Lead {
    /// Goes on until the process is to end and its workers have ended, or another process has taken over.
    pub(super) fn run(self) -> Over {
        let now = Instant::now();
        let mut course = Course {
            lead: self,
            phase: Phase::Serving,
            rounds: Rounds::default(),
            wants_upgrade: false,
            upgrade: None,
            upgrades: 0,
            postponed: Postponed::default(),
            successors: None,
            gone: None,
            next_look: now,
            elders_at: Some(now),
            rss_pause_until: now,
            rss_turn: 0,
            failed: None,
        };
        if course.lead.broken.is_some() {
            // Before anything else, which would be that of a process that serves.
            course.given_up();
        }
        loop {
            let now = Instant::now();
            let next = course.tick(now);
            if course.phase != Phase::Serving && course.lead.fleet.is_empty() && !course.is_delaying() {
                break;
            }
            let wait = next.map_or(Duration::from_secs(3600), |next| next.saturating_duration_since(now));
            match course.lead.events.recv_timeout(wait) {
                Ok(event) => course.hear(event),
                Err(RecvTimeoutError::Timeout) => {}
                // It holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        course.over()
    }
}

impl Course {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.lead.fleet.shared
    }

    pub(super) fn departures(&self) -> &Departures {
        &self.shared().rescue.departures
    }

    fn is_delaying(&self) -> bool {
        matches!(self.phase, Phase::Delaying(_))
    }

    fn over(self) -> Over {
        let mut fleet = self.lead.fleet;
        fleet.shared.rescue.dismiss_all();
        let stay = match (self.phase, self.successors) {
            (Phase::HandedOver(pid), successors) => {
                fleet.ports.leave_files();
                successors.map(|successors| (pid, successors, self.gone))
            }
            (Phase::GivenUp, _) => {
                fleet.ports.leave_files();
                None
            }
            _ => None,
        };
        Over {
            store: self.lead.store,
            graceful: fleet.shared.config.timeouts.graceful,
            in_time: !fleet.forget_lost(),
            failed: self.failed,
            stay,
            _presence: self.lead.presence,
            events: self.lead.events,
        }
    }

    /// What is due by now; gives when to come again.
    fn tick(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Vec<Instant> = Vec::new();
        if let Phase::Delaying(delay) = &mut self.phase {
            if delay.until <= now {
                self.phase = Phase::Ending;
                self.lead.fleet.end();
            } else {
                if delay.move_on.take_if(|at| *at <= now).is_some() {
                    self.lead.fleet.move_on();
                }
                next.extend(delay.move_on);
                next.push(delay.until);
            }
        }
        let (due, told) = self.lead.fleet.tick(now);
        next.extend(due);
        self.take(told);
        next.extend(self.look_at_elders(now));
        next.extend(self.look_at_departures(now));
        if self.phase == Phase::Serving {
            if self.upgrade.is_none() {
                next.extend(self.rounds.tick(&mut self.lead.fleet, now, self.wants_upgrade));
                next.extend(self.look_at_memory(now));
            }
            if self.wants_upgrade && self.rounds.is_between() && self.lead.fleet.is_settled() {
                self.wants_upgrade = false;
                self.start_upgrade();
            }
            next.extend(self.tick_upgrade(now));
        }
        next.into_iter().min()
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Signal(SIGCHLD) => self.reap(),
            Event::Signal(signal) => self.signal(signal),
            Event::Word(word) => {
                let told = self.lead.fleet.hear(word);
                self.take(told);
            }
            Event::Upgrade(number, said) => {
                if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.number == number) {
                    match said {
                        Said::Prepared => self.prepared(),
                        Said::Ready => self.hand_over(),
                    }
                }
            }
            Event::GivenUp => self.given_up(),
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Nothing => {}
            Told::Worn(worker, requests) => {
                tracing::info!(worker, requests, "the worker has had MAX_REQUESTS; it is replaced");
                self.rounds.ask(worker, Reason::Requests);
            }
            Told::Fatal(error) => {
                tracing::error!("{error}");
                self.failed = Some(error);
                self.begin_end();
            }
        }
    }

    pub(super) fn signal(&mut self, signal: i32) {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("?");
        match self.phase {
            Phase::HandedOver(serving) if self.successors.is_some() => return stay::pass_on(signal, serving),
            Phase::HandedOver(serving) => {
                tracing::warn!(
                    signal = name,
                    serving = %serving.as_raw_nonzero(),
                    "another process serves; this one ends by itself and does nothing on signals"
                );
                return;
            }
            Phase::Delaying(_) | Phase::Ending | Phase::GivenUp => {
                tracing::info!(signal = name, "the process ends already");
                return;
            }
            Phase::Serving => {}
        }
        let wanted = self.lead.fleet.wanted();
        if matches!(signal, SIGTTIN | SIGTTOU | SIGUSR2)
            && let Some(why) = self.what_comes_first(signal)
        {
            tracing::info!(signal = name, why, "the signal is followed later");
        }
        let waits = self.upgrade.is_some() && self.postponed.note(signal);
        match signal {
            SIGTERM | SIGQUIT | SIGINT => self.begin_end(),
            SIGUSR1 => self.reopen_log(),
            _ if waits => {
                tracing::info!(
                    signal = name,
                    "an upgrade is under way; the signal is for whoever serves after it"
                );
            }
            _ if self.upgrade.is_some() => {
                tracing::warn!(signal = name, "an upgrade is under way; the signal is ignored");
            }
            SIGHUP => self.reload(),
            SIGTTIN if wanted < WORKERS_MAX => self.lead.fleet.want(wanted + 1),
            SIGTTOU if wanted > 1 => self.lead.fleet.want(wanted - 1),
            SIGTTIN | SIGTTOU => tracing::warn!(signal = name, workers = wanted, "no more, or no fewer, can there be"),
            SIGUSR2 => self.wants_upgrade = true,
            _ => tracing::warn!(signal = name, "nothing is done on this signal"),
        }
    }

    /// Each of these has an end in sight: a life begins in `BEGIN_MAX` or is given up, and ends in GRACEFUL_TIMEOUT or is left
    /// alone.
    fn what_comes_first(&self, signal: i32) -> Option<&'static str> {
        if signal == SIGUSR2 && !self.rounds.is_between() {
            return Some("workers are being replaced");
        }
        self.lead.fleet.why_unsettled()
    }

    fn reopen_log(&self) {
        match self.lead.log.reopen() {
            Ok(Some(path)) => tracing::info!(path = %path.display(), "SIGUSR1: the log was opened again"),
            Ok(None) => tracing::info!("SIGUSR1: the log goes to stdout; there is nothing to open again"),
            Err(error) => tracing::error!("SIGUSR1: {error}; the log goes on where it was"),
        }
    }

    fn reload(&mut self) {
        if let Some(reloader) = &self.lead.reloader {
            reloader.ask();
        }
        match self.shared().config.reload() {
            Ok(reloaded) => {
                for warning in &reloaded.config.warnings {
                    tracing::warn!("reload: {warning}");
                }
                if !reloaded.needs_restart.is_empty() {
                    let names = reloaded.needs_restart.join(",");
                    tracing::warn!(
                        variables = names,
                        "reload: these have changed, and take effect in a new process only"
                    );
                }
                let config = reloaded.config;
                self.lead.log.set_level(config.log.level);
                if config.rate_limit != self.shared().config.rate_limit {
                    // What was set at run time since holds unless the variables have changed.
                    self.shared().process.rate.apply(config.rate_limit.clone());
                }
                self.lead.fleet.shared = Arc::new(Shared {
                    trusted: Arc::new(config.trusted.clone()),
                    config,
                    ..Shared::clone(self.shared())
                });
                let asked = self.rounds.reload(self.lead.fleet.len());
                let what = match asked {
                    Asked::Begins => "SIGHUP: every worker is replaced, one after the other",
                    Asked::Follows => "SIGHUP: another round follows the one that runs",
                    Asked::Joins => "SIGHUP: the round that follows the one that runs does for this, too",
                };
                tracing::info!(changed = reloaded.changed.join(" "), "{what}");
            }
            Err(errors) => {
                tracing::error!("SIGHUP: the settings stay as they are, and no worker is replaced, because {errors}");
            }
        }
    }

    /// Has the workers ask for connections while somebody before this process may be woken in their place.
    fn look_at_elders(&mut self, now: Instant) -> Option<Instant> {
        if self.elders_at.is_some_and(|at| at <= now) {
            let are_there = self.lead.elders.look(now);
            self.departures().set_elders(are_there);
            self.elders_at = are_there.then(|| now + limits::LOOK);
        }
        self.elders_at
    }

    /// Lets the successor know once no worker of this process waits for connections any more.
    fn look_at_departures(&mut self, now: Instant) -> Option<Instant> {
        let Phase::HandedOver(_) = self.phase else { return None };
        if self.departures().are_over() {
            self.lead.presence = None;
        }
        // That a worker stops is no event.
        self.lead.presence.is_some().then(|| now + limits::LOOK)
    }

    fn look_at_memory(&mut self, now: Instant) -> Option<Instant> {
        let max = self.shared().config.life.rss_max;
        if max == 0 {
            return None;
        }
        if now < self.next_look {
            return Some(self.next_look);
        }
        self.next_look = now + limits::LOOK;
        let rss = resident_bytes(Path::new("/"));
        if rss > max && self.rounds.is_idle() && now >= self.rss_pause_until {
            let worker = self.rss_turn % (self.lead.fleet.len().max(1) as u32);
            self.rss_turn = self.rss_turn.wrapping_add(1);
            self.rss_pause_until = now + limits::RSS_PAUSE;
            tracing::warn!(
                worker,
                rss,
                max,
                "more memory than WORKER_RSS_MAX; a worker is replaced"
            );
            self.rounds.ask(worker, Reason::Memory);
        }
        Some(self.next_look)
    }

    pub(super) fn begin_end(&mut self) {
        if self.phase != Phase::Serving {
            return;
        }
        let begun = Instant::now();
        // First of all, as the end of a new process may take a while, which counts as part of the delay.
        self.lead.is_ending.store(true, Ordering::Relaxed);
        self.shared().process.advance(Lifecycle::Draining);
        if self.upgrade.is_some() {
            self.postponed = Postponed::default();
            self.upgrade_failed("the end was asked for");
        }
        self.wants_upgrade = false;
        self.rounds.clear();
        let timeouts = self.shared().config.timeouts;
        tracing::info!(
            drain_delay_ms = timeouts.drain_delay.as_millis() as u64,
            graceful_timeout_ms = timeouts.graceful.as_millis() as u64,
            "draining: readiness is 503, requests in flight are finished"
        );
        self.phase = Phase::Delaying(Delay::new(begun, timeouts.drain_delay));
    }

    /// Children that have ended: a new process that failed, and orphans, where this is process 1.
    fn reap(&mut self) {
        let mut ended = Vec::new();
        stay::reap(|pid, status| ended.push((pid, status)));
        for (pid, status) in ended {
            let code = stay::exit_code(status);
            if self.phase == Phase::HandedOver(pid) {
                tracing::error!(code, "the process that took over has ended");
                self.gone = Some(code);
            } else if let Some(upgrade) = self.upgrade.as_mut().filter(|upgrade| upgrade.child == pid) {
                upgrade.is_reaped = true;
                self.upgrade_failed(&format!("it ended with code {code}"));
            }
        }
    }
}
