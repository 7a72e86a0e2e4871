//! The process that this one is to replace, and what the two say to each other: a byte at a time, by two pipes.
//!
//! The pipes are named in the table of the hand-over (`handover`), and the other side of the agreement is `upgrade`. Called by
//! `boot`.

use super::lead::Event;
use super::postponed::Postponed;
use crate::runtime::driver::choose::IoDriver;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// "All but what one process has at a time": the store, where it is this machine's file, and the mode of the sockets, where
/// this process's driver wants another one than the old process's.
pub(super) const PREPARED: u8 = b'P';
/// "Serving."
pub(super) const READY: u8 = b'R';
/// "It is yours."
pub(super) const GO: u8 = b'G';
/// "You are given up: end." A kill reaches the process that was started, which may be a script whose child is this one. That
/// the pipe has ended, without this, says that the old process has handed over, or broken down.
pub(super) const GIVEN_UP: u8 = b'X';

/// The process that this one is to replace.
#[derive(Debug)]
pub(super) struct Parent {
    ready: OwnedFd,
    go: OwnedFd,
    /// How its workers talk to the kernel; an older version does not say.
    driver: Option<IoDriver>,
}

impl Parent {
    /// One that is told by `ready`, and heard on `go`.
    pub(super) fn new(ready: OwnedFd, go: OwnedFd, driver: Option<IoDriver>) -> Parent {
        Parent { ready, go, driver }
    }

    /// Its workers want the listening sockets in the mode in which those of this driver do: O_NONBLOCK belongs to the socket,
    /// which both processes have. Not known is no.
    pub(super) fn agrees_on(&self, driver: IoDriver) -> bool {
        self.driver == Some(driver)
    }

    /// Says that all is ready but what one process has at a time, and waits until it is free. A parent that has broken down has
    /// let go of it, too. False: this process is given up.
    ///
    /// # Errors
    /// It has not answered in this time, or nothing that this version knows.
    pub(super) fn wait_for_go(&self, time: Duration) -> io::Result<bool> {
        let _ = rustix::io::write(&self.ready, &[PREPARED]);
        match self.hear(time)? {
            Heard::Nothing => Err(io::ErrorKind::TimedOut.into()),
            Heard::Byte(GIVEN_UP) => Ok(false),
            Heard::Byte(GO) | Heard::End => Ok(true),
            Heard::Byte(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Whether this process is given up by now.
    pub(super) fn has_given_up(&self) -> bool {
        matches!(self.hear(Duration::ZERO), Ok(Heard::Byte(GIVEN_UP)))
    }

    fn hear(&self, time: Duration) -> io::Result<Heard> {
        let time = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
        loop {
            match poll(&mut [PollFd::new(&self.go, PollFlags::IN)], Some(&time)) {
                Ok(0) => return Ok(Heard::Nothing),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let mut byte = [0];
        let count = rustix::io::read(&self.go, &mut byte)?;
        Ok(if count == 0 { Heard::End } else { Heard::Byte(byte[0]) })
    }

    /// Hears the parent on a thread of its own from now on: until it has taken note that this process serves it may give it up,
    /// and then it says which signals it has had for this one meanwhile. `events` hears both. To be called before anything of
    /// the sockets is touched that could be undone only by serving: this can fail.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn listen(self, events: &Sender<Event>) -> io::Result<Announce> {
        let Parent { ready, go, .. } = self;
        let events = events.clone();
        // Ends when the parent hands over, or ends: the other end is nobody else's.
        std::thread::Builder::new().name("parent".into()).spawn(move || {
            let mut byte = [0];
            loop {
                match rustix::io::read(&go, &mut byte) {
                    Ok(1) if byte == [GIVEN_UP] => {
                        let _ = events.send(Event::GivenUp);
                        return;
                    }
                    Ok(1) => {
                        if let Some(signal) = Postponed::of_byte(byte[0]) {
                            let _ = events.send(Event::Signal(signal));
                        }
                    }
                    Err(Errno::INTR) => {}
                    _ => return,
                }
            }
        })?;
        Ok(Announce(ready))
    }
}

/// Where a parent hears that this process serves.
#[derive(Debug)]
pub(super) struct Announce(OwnedFd);

impl Announce {
    /// Says so.
    pub(super) fn ready(self) {
        // Fails where the parent has ended meanwhile: then this one serves alone.
        let _ = rustix::io::write(&self.0, &[READY]);
    }
}

/// What there is to read.
enum Heard {
    Nothing,
    Byte(u8),
    End,
}
