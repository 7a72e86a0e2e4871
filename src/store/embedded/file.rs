//! The file under redb: redb's own backend, plus its size as a figure and the end of an interrupted birth.

use redb::{BackendError, StorageBackend, backends::FileBackend};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The first bytes of every finished redb file.
const MAGIC_BYTES: usize = 9;
/// redb's header: its first page.
const HEADER_BYTES: u64 = 4096;
/// No unfinished file is larger: redb begins with 72 KiB.
const BIRTH_BYTES_MAX: u64 = 1024 * 1024;

/// Switches of the tests: which system call fails, as a full disk would make it.
#[derive(Debug, Default)]
pub(super) struct Faults {
    #[cfg(test)]
    pub(super) disk_full: AtomicBool,
    #[cfg(test)]
    pub(super) flush_slow_ms: AtomicU64,
}

impl Faults {
    fn on_write(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn on_flush(&self) {
        #[cfg(test)]
        std::thread::sleep(std::time::Duration::from_millis(
            self.flush_slow_ms.load(Ordering::Relaxed),
        ));
    }
}

/// The store's file.
#[derive(Debug)]
pub(super) struct StoreFile {
    inner: FileBackend,
    /// A second descriptor of the same open file, to look at its first bytes.
    file: File,
    bytes: Arc<AtomicU64>,
    /// Whether the birth was looked at: once, before redb writes.
    looked: AtomicBool,
    faults: Arc<Faults>,
}

impl StoreFile {
    /// Opens the file, creating it for its owner alone (mode 0600).
    pub(super) fn open(path: &Path, bytes: Arc<AtomicU64>, faults: Arc<Faults>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let inner = FileBackend::new(file.try_clone()?).map_err(io::Error::other)?;
        Ok(StoreFile {
            inner,
            file,
            bytes,
            looked: AtomicBool::new(false),
            faults,
        })
    }

    /// Whether redb was killed while it made this file: it writes its magic number last, after the flush of an
    /// otherwise empty file, and then refuses what lacks it. Nothing can have been kept in such a file, and that is
    /// checked: all behind the header is zero.
    fn is_unfinished(&self, bytes: u64) -> io::Result<bool> {
        if bytes == 0 || bytes > BIRTH_BYTES_MAX {
            return Ok(false);
        }
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.file.read_exact_at(&mut content, 0)?;
        let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == 0);
        let magic = content.get(..MAGIC_BYTES).unwrap_or(&content);
        let body = content.get(usize::try_from(HEADER_BYTES).unwrap_or(0)..).unwrap_or(&[]);
        Ok(is_zero(magic) && is_zero(body))
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        let mut bytes = self.inner.len()?;
        // redb asks for the length first, and under its lock, so no other process is making the file just now.
        if !self.looked.swap(true, Ordering::Relaxed) && self.is_unfinished(bytes)? {
            self.inner.set_len(0)?;
            bytes = 0;
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)?;
        self.bytes.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.on_flush();
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.on_write()?;
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
