//! What signals ask for while an upgrade is under way: it is done by whoever serves after it.

use crate::limits::server::WORKERS_MAX;
use signal_hook::consts::signal::{SIGHUP, SIGTTIN, SIGTTOU, SIGUSR1};

/// However many signals come, a reload, a log to open, and a number of workers.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    reload: bool,
    reopen: bool,
    workers: i32,
}

impl Postponed {
    /// Takes note of a signal; false: it is none that can wait.
    pub(super) fn note(&mut self, signal: i32) -> bool {
        let max = i32::try_from(WORKERS_MAX).unwrap_or(i32::MAX);
        match signal {
            SIGHUP => self.reload = true,
            SIGUSR1 => self.reopen = true,
            SIGTTIN => self.workers = self.workers.saturating_add(1).min(max),
            SIGTTOU => self.workers = self.workers.saturating_sub(1).max(-max),
            _ => return false,
        }
        true
    }

    /// The signals that ask for the same.
    pub(super) fn signals(&self) -> Vec<i32> {
        let of_workers = if self.workers > 0 { SIGTTIN } else { SIGTTOU };
        let mut signals = vec![of_workers; self.workers.unsigned_abs() as usize];
        signals.extend(self.reopen.then_some(SIGUSR1));
        signals.extend(self.reload.then_some(SIGHUP));
        signals
    }

    /// What the pipe to the new process may say: signals that can wait, by their numbers.
    pub(super) fn of_byte(byte: u8) -> Option<i32> {
        let signal = i32::from(byte);
        Postponed::default().note(signal).then_some(signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_and_again_is_asked_for_once() {
        let mut postponed = Postponed::default();
        for signal in [SIGHUP, SIGTTIN, SIGHUP, SIGTTOU, SIGTTIN, SIGTTIN, SIGUSR1] {
            assert!(postponed.note(signal));
        }
        assert_eq!(postponed.signals(), [SIGTTIN, SIGTTIN, SIGUSR1, SIGHUP]);
        assert!(Postponed::default().signals().is_empty());
        assert_eq!(Postponed::of_byte(SIGHUP as u8), Some(SIGHUP));
        assert!(Postponed::of_byte(super::super::parent::GO).is_none());
    }
}
