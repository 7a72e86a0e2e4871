//! The journal under test: its folder alone, and before a real PostgreSQL.

mod database;
mod figures;
mod folder;

use super::*;
use crate::store::contract::{id_at, record};
use crate::store::{Kept, Record, StoreError, StoryKey};
use crate::story::types::Style;
use writer::Writer;

/// A story of so many bytes.
fn told(number: u64, bytes: usize) -> Record {
    let mut told = record(1_700_000_000_000 + number, number, "rome", Style::History);
    while told.json.len() < bytes {
        told.json.extend_from_slice(told.id.to_string().as_bytes());
    }
    told.json.truncate(bytes.max(1));
    told
}

/// A folder that is open, without its threads.
struct Open {
    log: Arc<Log>,
    writer: Writer,
    figures: Arc<Figures>,
}

/// Locks a folder that is nobody's. A child that another test has just forked holds all that is open here, for the
/// moment until it becomes another program.
fn locked(dir: &Path) -> Folder {
    for _ in 0..2000 {
        if let Ok(folder) = Folder::lock(dir).unwrap() {
            return folder;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the folder stays locked");
}

/// The same for a whole journal.
fn unlocked(journal: &Journal) {
    for _ in 0..2000 {
        if journal.handle().report().state != "locked" {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the folder stays locked");
}

fn open(dir: &Path, bytes_max: u64) -> Open {
    let folder = locked(dir);
    let found = folder.read().unwrap();
    let figures = Arc::new(Figures::default());
    let (log, next) = Log::new(folder, found, Arc::clone(&figures));
    let writer = Writer::new(Arc::clone(&log), next, bytes_max);
    Open { log, writer, figures }
}

impl Open {
    fn keep(&mut self, records: &[Record]) -> Vec<Result<Kept, StoreError>> {
        self.writer.keep(records.to_vec())
    }

    fn has(&self, record: &Record) -> bool {
        let spot = self.log.index().of_id(record.id);
        let by_id = spot.map(|spot| spot.read().unwrap());
        assert!(by_id.is_none() || by_id.as_ref() == Some(record), "another story");
        by_id.is_some()
    }

    fn of_key(&self, key: &StoryKey) -> Option<Kept> {
        self.log.index().of_key(key).map(|spot| spot.kept().unwrap())
    }
}

/// Names and contents of the files with this ending.
fn files(dir: &Path, end: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|own| own == end));
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}
