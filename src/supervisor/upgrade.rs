//! The old process's side of a hot upgrade (SIGUSR2): start the binary again, hand it the listening sockets, and leave
//! when it serves. Until then nothing is given up that cannot be had back.
//!
//! With PostgreSQL the two serve side by side for a moment: the new process says "ready", the old one leaves. The embedded
//! store is one process's at a time, so there the new process first says "all but that". Then the old one accepts no
//! more (connections wait in the sockets' queues, which both processes have), finishes what it has, lets go of the store
//! and says "go". If the new process then fails all the same, the old one opens the store and accepts again.
//! The mode of the sockets (O_NONBLOCK) is one process's at a time, too: where the new process takes the other IO_DRIVER, it
//! is the same with PostgreSQL, but that the old one says "go" as soon as none of its workers accepts any more.

use super::family;
use super::handover::{Left, TABLE};
use super::lead::Event;
use super::parent::{GIVEN_UP, GO, PREPARED, READY};
use crate::limits::life::{GIVEN_UP_LOOK, GIVEN_UP_MAX, KILLED_MAX};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How this process was started: so is the next one.
#[derive(Debug)]
pub(super) struct Origin {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// A new process that does not serve yet.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// Which attempt.
    pub(super) number: u64,
    /// The process.
    pub(super) child: Pid,
    /// When it is given up.
    pub(super) until: Instant,
    /// How far it is.
    pub(super) stage: Stage,
    /// It has ended, and its number may be another's by now.
    pub(super) is_reaped: bool,
    begun: Instant,
    go: io::PipeWriter,
}

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The new process starts.
    Starting,
    /// It waits for the store, and the old one finishes what it has; until then at most.
    Emptying(Instant),
    /// It waits for the sockets, and the old one stops accepting; until then at most.
    Stopping(Instant),
    /// What it has waited for is the new process's.
    Given,
}

/// What the new process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// All but the store, or the sockets.
    Prepared,
    /// It serves.
    Ready,
}

impl Origin {
    /// Of this process; to be called before the working directory could change.
    pub(super) fn of_this_process() -> io::Result<Origin> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().map(PathBuf::from);
        // A path is taken as it was given: where it leads through a link that is moved to a new version, that one is
        // meant. A bare name was looked up in PATH by whoever started this.
        let given = name.filter(|name| name.components().count() > 1);
        let program = match given {
            Some(path) => std::path::absolute(path)?,
            None => std::env::current_exe()?,
        };
        Ok(Origin {
            program,
            arguments: arguments.collect(),
        })
    }

    /// Starts the program again, with what `leave` leaves to it. `events` hears what it says.
    ///
    /// # Errors
    /// It cannot be started: no such file, no right, no descriptors.
    pub(super) fn start_again(
        &self,
        number: u64,
        leave: impl FnOnce(&mut Left) -> io::Result<()>,
        time: Duration,
        events: &Sender<Event>,
    ) -> io::Result<Upgrade> {
        let (mut hear, ready) = io::pipe()?;
        let (going, go) = io::pipe()?;
        let mut left = Left::default();
        leave(&mut left)?;
        left.pipe("ready", &ready.into())?;
        left.pipe("go", &going.into())?;
        let mut command = Command::new(&self.program);
        // systemd's word was for this process.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        let child = command.args(&self.arguments).env(TABLE, left.table()).spawn()?;
        drop(left);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let child = pid.ok_or_else(|| io::Error::other("a process without an id"))?;
        let events = events.clone();
        let listening = std::thread::Builder::new().name("upgrade".into()).spawn(move || {
            let mut byte = [0];
            while let Ok(1) = hear.read(&mut byte) {
                let said = match byte {
                    [PREPARED] => Said::Prepared,
                    [READY] => Said::Ready,
                    _ => continue,
                };
                if events.send(Event::Upgrade(number, said)).is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        let upgrade = Upgrade {
            number,
            child,
            until: begun + time,
            stage: Stage::Starting,
            is_reaped: false,
            begun,
            go,
        };
        match listening {
            Ok(_) => Ok(upgrade),
            Err(error) => {
                upgrade.end();
                Err(error)
            }
        }
    }

    /// What is started, for the log.
    pub(super) fn program(&self) -> std::path::Display<'_> {
        self.program.display()
    }
}

impl Upgrade {
    /// Says that what it waits for is free.
    pub(super) fn go(&mut self) {
        // Fails where it has died: that is told otherwise.
        let _ = self.go.write_all(&[GO]);
        self.stage = Stage::Given;
    }

    /// Passes on signals that came meanwhile. By the pipe: the process that was started may be a script.
    pub(super) fn pass_on(&mut self, signals: &[i32]) {
        let bytes: Vec<u8> = signals.iter().filter_map(|signal| u8::try_from(*signal).ok()).collect();
        if let Err(error) = self.go.write_all(&bytes) {
            tracing::warn!(%error, "signals that came during the upgrade could not be passed on to the new process");
        }
    }

    /// Since the begin.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Nothing that it has asked for is kept from it.
    fn may_serve(&self) -> bool {
        match self.stage {
            Stage::Starting | Stage::Given => true,
            Stage::Emptying(_) | Stage::Stopping(_) => false,
        }
    }

    /// Ends the new process, and waits for that: it then holds neither socket nor store. By a word first, since its workers
    /// may have begun to serve, and what they have accepted they are to answer: until the old process has heard that the new
    /// one is ready, neither knows of the other how far it is. Who has not ended in [`GIVEN_UP_MAX`] is killed. What was
    /// started may be a script that has started the server in its turn: so its children end, too, and whoever is out of sight
    /// reads that it is given up.
    pub(super) fn end(&self) {
        // Fails where nobody is left to read it.
        let _ = (&self.go).write_all(&[GIVEN_UP]);
        if self.is_reaped {
            return;
        }
        let mut descendants = family::descendants(self.child);
        let patience = if self.may_serve() { GIVEN_UP_MAX } else { Duration::ZERO };
        let until = Instant::now() + patience;
        // ECHILD: somebody has seen its end already.
        let has_ended = |options| !matches!(waitpid(Some(self.child), options), Ok(None) | Err(Errno::INTR));
        let mut is_gone = has_ended(WaitOptions::NOHANG);
        while !is_gone && Instant::now() < until {
            std::thread::sleep(GIVEN_UP_LOOK);
            is_gone = has_ended(WaitOptions::NOHANG);
        }
        family::wait(&descendants, until);
        if !is_gone {
            // It may have started others since.
            descendants.extend(family::descendants(self.child));
        }
        if !is_gone && kill_process(self.child, Signal::KILL).is_ok() {
            while !has_ended(WaitOptions::empty()) {}
        }
        family::end(&descendants, KILLED_MAX);
    }
}
