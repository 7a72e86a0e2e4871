//! Taking turns on a machine where others measure and build: a file that is locked while a pair is measured.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the lock is kept at a stretch, at most by one pair more: others wait meanwhile.
const STRETCH: Duration = Duration::from_secs(150);

/// The lock, or none.
pub(super) struct Turns {
    file: Option<File>,
    since: Option<Instant>,
}

impl Turns {
    /// Of `path`, which flock(1) can lock as well.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn of(path: Option<&Path>) -> Result<Self, String> {
        let open = |path: &Path| {
            let mut options = File::options();
            options.create(true).truncate(false).write(true).open(path)
        };
        let file = path.map(|path| open(path).map_err(|e| format!("cannot open --lock {}: {e}", path.display())));
        Ok(Self {
            file: file.transpose()?,
            since: None,
        })
    }

    /// Waits for the turn, unless it is still ours.
    ///
    /// # Errors
    /// The kernel refuses the lock.
    pub(super) fn begin(&mut self) -> Result<(), String> {
        if let (Some(file), None) = (&self.file, self.since) {
            file.lock().map_err(|e| format!("cannot take the --lock: {e}"))?;
            self.since = Some(Instant::now());
        }
        Ok(())
    }

    /// A pair is done: gives the turn away where it has lasted long enough.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.since {
            Some(since) if since.elapsed() >= STRETCH => self.leave(),
            _ => Ok(()),
        }
    }

    /// Gives the turn away.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn leave(&mut self) -> Result<(), String> {
        if let (Some(file), Some(_)) = (&self.file, self.since.take()) {
            file.unlock().map_err(|e| format!("cannot give the --lock back: {e}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_keeps_others_out_until_it_is_left() {
        let path = std::env::temp_dir().join(format!("roadtrip-bench-turn-{}", std::process::id()));
        let (mut ours, mut none) = (Turns::of(Some(&path)).unwrap(), Turns::of(None).unwrap());
        ours.begin().unwrap();
        ours.end().unwrap();
        let other = File::open(&path).unwrap();
        assert!(other.try_lock().is_err());
        ours.leave().unwrap();
        other.try_lock().unwrap();
        none.begin()
            .and_then(|()| none.end())
            .and_then(|()| none.leave())
            .unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
