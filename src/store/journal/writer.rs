//! Appending to segments: whatever puts wait go in one write and one flush, and are answered after it.

use super::folder::{self, Folder, Found, Index, Place, Unreadable};
use super::{Figures, Report, limits, record};
use crate::limits::store::{RETRY_AFTER_S, RETRY_MS};
use crate::store::{Kept, Record, StoreError, StoryKey};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What the helper threads share; workers never lock it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) folder: Folder,
    index: Mutex<Index>,
    pub(super) figures: Arc<Figures>,
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// Switches of the tests: which system call fails.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) write: std::sync::atomic::AtomicBool,
    pub(super) flush: std::sync::atomic::AtomicBool,
    pub(super) truncate: std::sync::atomic::AtomicBool,
}

impl Log {
    pub(super) fn new(folder: Folder, found: Found, figures: Arc<Figures>) -> (Arc<Log>, u64) {
        figures.set_aside.store(found.set_aside, Ordering::Relaxed);
        let log = Arc::new(Log {
            folder,
            index: Mutex::new(found.index),
            figures,
            #[cfg(test)]
            faults: Faults::default(),
        });
        log.tell(&log.index());
        (log, found.next_segment)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The figures of an index that has changed. Before any answer: a worker looks at them to know whether to ask.
    pub(super) fn tell(&self, index: &Index) {
        let count = u64::try_from(index.len()).unwrap_or(u64::MAX);
        self.figures.bytes.store(index.bytes(), Ordering::Relaxed);
        let oldest = index.oldest_ms().unwrap_or(0);
        self.figures.oldest_ms.store(oldest, Ordering::Relaxed);
        self.figures.records.store(count, Ordering::Relaxed);
    }

    fn append(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.write.load(Ordering::Relaxed) {
            // As much as still fits.
            let part = bytes.get(..bytes.len() / 2).unwrap_or_default();
            file.write_all_at(part, offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, offset)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.flush.load(Ordering::Relaxed) {
            return Err(io::Error::other("meant"));
        }
        file.sync_data()
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.truncate.load(Ordering::Relaxed) {
            return Err(io::Error::other("meant"));
        }
        file.set_len(bytes)
    }
}

/// The segment that is appended to.
#[derive(Debug)]
struct Current {
    number: u64,
    file: Arc<File>,
    bytes: u64,
}

/// The writer thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    log: Arc<Log>,
    current: Option<Current>,
    next_segment: u64,
    bytes_max: u64,
    segment_bytes: u64,
    /// Until when nothing is tried, after a failure.
    paused_until: Option<Instant>,
}

/// What becomes of a record of a batch.
enum Fate {
    /// Another one answers its request, or it is refused.
    Settled(Result<Kept, StoreError>),
    /// The one of that number in this batch answers the same request.
    As(usize),
    /// It is written, at this distance from the batch's begin, with this length.
    Written(u64, usize),
}

impl Writer {
    pub(super) fn new(log: Arc<Log>, next_segment: u64, bytes_max: u64) -> Writer {
        Writer {
            log,
            current: None,
            next_segment,
            bytes_max,
            segment_bytes: limits::SEGMENT_BYTES.min(bytes_max / limits::SEGMENT_PART),
            paused_until: None,
        }
    }

    /// Keeps a batch; the outcome of each record.
    pub(super) fn keep(&mut self, records: Vec<Record>) -> Vec<Result<Kept, StoreError>> {
        if let Err(error) = self.pause_over() {
            return records.iter().map(|_| Err(error.clone())).collect();
        }
        let mut bytes = Vec::new();
        let fates = self.decide(&records, &mut bytes);
        let written = if bytes.is_empty() {
            Ok(())
        } else {
            self.write(&bytes, &records, &fates)
        };
        if let Err(error) = &written {
            tracing::error!(%error, stories = records.len(), "the journal could not keep stories");
        }
        let mut outcomes: Vec<Option<Result<Kept, StoreError>>> = Vec::with_capacity(records.len());
        let mut twins = Vec::new();
        for (number, (record, fate)) in records.into_iter().zip(fates).enumerate() {
            outcomes.push(match (fate, &written) {
                (Fate::Settled(outcome), _) => Some(outcome),
                (Fate::Written(..), Ok(())) => Some(Ok(folder::kept(record))),
                (Fate::Written(..), Err(error)) => Some(Err(error.clone())),
                (Fate::As(first), _) => {
                    twins.push((number, first));
                    None
                }
            });
        }
        for (twin, first) in twins {
            let outcome = outcomes.get(first).cloned().flatten();
            if let Some(place) = outcomes.get_mut(twin) {
                *place = outcome;
            }
        }
        let kept = outcomes.iter().flatten().filter(|outcome| outcome.is_ok()).count();
        self.log.figures.kept.fetch_add(kept as u64, Ordering::Relaxed);
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(Err(StoreError::Closed)))
            .collect()
    }

    /// Says what becomes of each record, and appends those to be written to `bytes`.
    fn decide(&self, records: &[Record], bytes: &mut Vec<u8>) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(records.len());
        let mut keys: HashMap<StoryKey, usize> = HashMap::new();
        let mut ids: HashMap<Uuid, usize> = HashMap::new();
        let before = self.log.index().bytes();
        for (number, record) in records.iter().enumerate() {
            let (of_key, of_id) = {
                let index = self.log.index();
                (index.of_key(&record.key), index.of_id(record.id))
            };
            // One that cannot be read any more answers nobody.
            let first = of_key.and_then(|spot| spot.kept().ok());
            fates.push(if let Some(first) = first {
                Fate::Settled(Ok(first))
            } else if let Some(first) = keys.get(&record.key) {
                Fate::As(*first)
            } else if of_id.is_some() || ids.contains_key(&record.id) {
                Fate::Settled(Err(StoreError::Invalid(format!(
                    "the id {} is another story's",
                    record.id
                ))))
            } else {
                let begin = bytes.len();
                record::write(record, bytes);
                if before.saturating_add(bytes.len() as u64) > self.bytes_max {
                    bytes.truncate(begin);
                    self.log.figures.refused.fetch_add(1, Ordering::Relaxed);
                    Fate::Settled(Err(StoreError::unavailable(Report::FULL)))
                } else {
                    keys.insert(record.key, number);
                    ids.insert(record.id, number);
                    Fate::Written(begin as u64, bytes.len() - begin)
                }
            });
        }
        fates
    }

    /// Writes a batch behind what is there, and makes it durable.
    fn write(&mut self, bytes: &[u8], records: &[Record], fates: &[Fate]) -> Result<(), StoreError> {
        let (number, begin) = match self.try_write(bytes) {
            Ok(written) => written,
            Err(error) => return Err(self.failed(&error)),
        };
        self.set_trouble(None);
        let mut index = self.log.index();
        Folder::grown(&mut index, number, begin.saturating_add(bytes.len() as u64));
        for (record, fate) in records.iter().zip(fates) {
            if let Fate::Written(distance, length) = fate {
                let place = Place {
                    segment: number,
                    offset: begin.saturating_add(*distance),
                };
                index.insert(record.id, record.key, place, *length);
            }
        }
        self.log.tell(&index);
        Ok(())
    }

    /// The segment, and where in it the bytes begin.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<(u64, u64)> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.bytes >= self.segment_bytes)
        {
            self.end_segment();
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let number = self.next_segment;
                // Also where it fails: a name that could not be taken back would be in the way for ever.
                self.next_segment = number.saturating_add(1);
                let file = self.log.folder.begin(number)?;
                Folder::add(&mut self.log.index(), number, Arc::clone(&file));
                self.current.insert(Current { number, file, bytes: 0 })
            }
        };
        let begin = current.bytes;
        let appended = self.log.append(&current.file, bytes, begin);
        let flushed = appended.and_then(|()| self.log.flush(&current.file));
        if let Err(error) = flushed {
            // What is there of the batch must not be found at the next start: those who waited are told that it is not
            // kept. Nor is more written behind it: after a flush that failed nobody knows what the disk has (what was
            // flushed before, it has).
            let cut = self
                .log
                .truncate(&current.file, begin)
                .and_then(|()| self.log.flush(&current.file));
            if let Err(error) = cut {
                tracing::warn!(%error, "a part of a batch stays in the journal: a story refused now may be kept after all");
            }
            self.end_segment();
            return Err(error);
        }
        current.bytes = begin.saturating_add(bytes.len() as u64);
        Ok((current.number, begin))
    }

    /// Nothing more goes into the present segment; it goes away where nothing is in it.
    fn end_segment(&mut self) {
        self.current = None;
        let mut index = self.log.index();
        self.log.folder.forget(&mut index, &[], None);
        self.log.tell(&index);
    }

    /// These stories are in the database.
    pub(super) fn forget(&mut self, ids: &[Uuid]) {
        let mut index = self.log.index();
        let current = self.current.as_ref().map(|current| current.number);
        self.log.folder.forget(&mut index, ids, current);
        self.log.tell(&index);
        let is_empty = index.len() == 0;
        drop(index);
        if is_empty {
            self.end_segment();
        }
    }

    /// This story cannot be read: its bytes go into a file of their own, and it is no more waited for.
    pub(super) fn set_aside(&mut self, id: Uuid) {
        let Some(spot) = self.log.index().of_id(id) else { return };
        let Err(Unreadable::Damaged(bytes)) = spot.read() else {
            return;
        };
        let figures = &self.log.figures;
        let mut files = figures.set_aside.load(Ordering::Relaxed);
        if self
            .log
            .folder
            .set_aside(spot.place.segment, spot.place.offset, &bytes, &mut files)
        {
            figures.set_aside.store(files, Ordering::Relaxed);
            self.forget(&[id]);
        }
    }

    /// After a failed write, tries whether writing works again. Without this a pod that is out of the balancer would get
    /// no put that could show it.
    pub(super) fn probe(&mut self) -> Result<(), StoreError> {
        self.pause_over()?;
        match self.log.folder.probe(limits::PROBE_BYTES) {
            Ok(()) => {
                self.set_trouble(None);
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&mut self, error: &io::Error) -> StoreError {
        let reason = if folder::is_full(error) {
            format!(
                "the disk or quota of JOURNAL_DIR is full ({error}); free space there, the journal goes on by itself"
            )
        } else {
            format!("the journal cannot be written: {error}")
        };
        let now = Instant::now();
        self.paused_until = now.checked_add(Duration::from_millis(RETRY_MS));
        self.set_trouble(Some(reason.clone()));
        StoreError::unavailable(reason)
    }

    fn set_trouble(&mut self, reason: Option<String>) {
        if reason.is_none() {
            self.paused_until = None;
        }
        if self.log.figures.set_trouble(reason) {
            tracing::info!("the journal takes stories again");
        }
    }

    /// The answer while the pause after a failure lasts.
    fn pause_over(&self) -> Result<(), StoreError> {
        match self.paused_until {
            Some(until) if Instant::now() < until => Err(StoreError::Unavailable {
                reason: self.log.figures.trouble().unwrap_or_default(),
                retry_after_s: RETRY_AFTER_S,
            }),
            _ => Ok(()),
        }
    }
}
