//! What is known of the process's memory: written by who looks, read by health routes and scrapes.

use super::Level;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The figures of one look at memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// The limit that is nearest to be reached, bytes; 0: none is known.
    pub limit: u64,
    /// What counts against it and cannot be taken back, bytes.
    pub used: u64,
    /// The working set as the kubelet counts it, bytes.
    pub working_set: u64,
}

/// See the module's page. Relaxed throughout: figures order nothing.
#[derive(Debug, Default)]
pub struct Pressure {
    level: AtomicU8,
    limit: AtomicU64,
    used: AtomicU64,
    working_set: AtomicU64,
    /// Changes of the level upwards, by the level that was reached.
    reached: [AtomicU64; 2],
    /// Looks that panicked, or found nothing to read.
    failed: AtomicU64,
    /// Where the limit stands, in words.
    source: Mutex<String>,
}

impl Pressure {
    /// How short memory is. One load.
    pub fn level(&self) -> Level {
        Level::of(self.level.load(Ordering::Relaxed))
    }

    /// Takes what a look has found.
    pub fn set(&self, level: Level, figures: Figures) {
        let before = self.level();
        for (reached, count) in [Level::Soft, Level::Hard].into_iter().zip(&self.reached) {
            if before < reached && level >= reached {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.limit.store(figures.limit, Ordering::Relaxed);
        self.used.store(figures.used, Ordering::Relaxed);
        self.working_set.store(figures.working_set, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// A look has panicked, or could read nothing.
    pub fn look_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many looks have.
    pub fn looks_failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Names where the limit stands.
    pub fn set_source(&self, source: &str) {
        let mut known = self.source.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *known != source {
            source.clone_into(&mut known);
        }
    }

    /// Where the limit stands.
    pub fn source(&self) -> String {
        self.source
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// The last figures; none where nobody looks.
    pub fn figures(&self) -> Option<Figures> {
        let figures = Figures {
            limit: self.limit.load(Ordering::Relaxed),
            used: self.used.load(Ordering::Relaxed),
            working_set: self.working_set.load(Ordering::Relaxed),
        };
        (figures.limit > 0).then_some(figures)
    }

    /// How often each level above calm was reached.
    pub fn reached(&self) -> [(Level, u64); 2] {
        let [soft, hard] = &self.reached;
        [(Level::Soft, soft), (Level::Hard, hard)].map(|(level, count)| (level, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_as_they_are_reached() {
        let pressure = Pressure::default();
        assert_eq!((pressure.level(), pressure.figures()), (Level::Calm, None));
        let figures = Figures {
            limit: 100,
            used: 90,
            working_set: 95,
        };
        for level in [
            Level::Calm,
            Level::Hard,
            Level::Hard,
            Level::Soft,
            Level::Hard,
            Level::Calm,
            Level::Soft,
        ] {
            pressure.set(level, figures);
            assert_eq!(pressure.level(), level);
        }
        assert_eq!(pressure.reached(), [(Level::Soft, 2), (Level::Hard, 2)]);
        assert_eq!(pressure.figures(), Some(figures));
        pressure.set_source("here");
        assert_eq!(pressure.source(), "here");
    }
}
