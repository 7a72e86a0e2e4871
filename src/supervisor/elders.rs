//! The processes before this one, as long as a worker of theirs may still wait for connections.
//!
//! Where several wait for the connections of one socket, the kernel wakes one of them (`departures`). A worker of the process
//! before that is stuck does not come when it is woken, and does not stop waiting when it is told to. So this process asks
//! for connections again and again until nobody before it waits any more. It learns that from a pipe, whose one end the
//! process before keeps for so long, or until it is no more: then the other end hears of it. One that is upgraded in its turn
//! hands on what it has not heard the end of.
//!
//! Called by `boot` and `lead`.

use crate::limits::life::{ASK_UNKNOWN, ELDERS_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// See the page of this module.
#[derive(Debug, Default)]
pub(super) struct Elders {
    /// Of the oldest first.
    ends: Vec<OwnedFd>,
    /// The process before says nothing of this kind: it is an older version. Then it is counted on for so long.
    until: Option<Instant>,
}

impl Elders {
    /// Those whose pipes the process before has left; none where there is no process before.
    pub(super) fn new(ends: Vec<OwnedFd>, has_parent: bool) -> Elders {
        let until = (has_parent && ends.is_empty()).then(|| Instant::now() + ASK_UNKNOWN);
        Elders { ends, until }
    }

    /// Looks whether one may still wait for connections.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        self.ends.retain(is_held);
        self.until = self.until.filter(|until| now < *until);
        !self.ends.is_empty() || self.until.is_some()
    }

    /// What is left to the next process.
    pub(super) fn ends(&self) -> &[OwnedFd] {
        // Of so many stuck processes in a row the oldest are given up.
        let skipped = self.ends.len().saturating_sub(ELDERS_MAX - 1);
        self.ends.get(skipped..).unwrap_or_default()
    }
}

/// Somebody has the other end of the pipe.
fn is_held(end: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(end, PollFlags::IN)];
    match poll(&mut ends, Some(&Timespec::default())) {
        Ok(0) | Err(Errno::INTR) => true,
        // Nothing is ever written to it.
        _ => false,
    }
}

/// This process's own pipe: closed to the next one when dropped.
#[derive(Debug)]
pub(super) struct Presence {
    /// To be left to the next process.
    pub(super) hear: OwnedFd,
    /// Closed at exec: no child has it.
    _held: OwnedFd,
}

impl Presence {
    /// A new pipe.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new() -> io::Result<Presence> {
        let (hear, held) = io::pipe()?;
        Ok(Presence {
            hear: hear.into(),
            _held: held.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_until_it_lets_go() {
        let now = Instant::now();
        assert!(!Elders::new(Vec::new(), false).look(now));
        let (one, other) = (Presence::new().unwrap(), Presence::new().unwrap());
        let ends = [&one, &other].map(|presence| presence.hear.try_clone().unwrap());
        let mut elders = Elders::new(ends.into(), true);
        assert!(elders.look(now) && elders.ends().len() == 2);
        drop(one);
        assert!(elders.look(now) && elders.ends().len() == 1);
        drop(other);
        assert!(!elders.look(now) && elders.ends().is_empty());
    }

    #[test]
    fn one_that_knows_of_no_pipe_is_counted_on_for_a_while() {
        let mut elders = Elders::new(Vec::new(), true);
        assert!(elders.look(Instant::now()));
        assert!(!elders.look(Instant::now() + ASK_UNKNOWN));
    }

    #[test]
    fn however_many_are_stuck_a_bounded_number_is_handed_on() {
        let presence = Presence::new().unwrap();
        let ends = (0..2 * ELDERS_MAX).map(|_| presence.hear.try_clone().unwrap());
        let mut elders = Elders::new(ends.collect(), true);
        assert!(elders.look(Instant::now()));
        // And this process's own.
        assert_eq!(elders.ends().len() + 1, ELDERS_MAX);
    }
}
