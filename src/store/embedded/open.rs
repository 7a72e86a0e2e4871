//! Opening the file: where it lies, who may have it, and what to do where it will not open.

use super::containment::{Contained, Panicked, contained};
use super::file::{Faults, StoreFile};
use super::schema::{self, SCHEMA_VERSION};
use super::{Config, ms_since};
use redb::{Database, DatabaseError, ReadableDatabase};
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// The file's name in DATA_DIR.
pub(super) const FILE_NAME: &str = "stories.redb";
/// How often a held lock is tried again while waiting for it.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Why the store did not open. The text says what is wrong, the likely cause, and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder or the file may not be read or written by this user.
    #[error(
        "cannot open the story store {path}: permission denied\n  cause: the folder or the file belongs to another \
         user\n  remedy: give it to the user that runs roadtrip-api (chown), or point DATA_DIR at a folder it may write"
    )]
    NoPermission {
        /// What was being opened or made.
        path: PathBuf,
    },
    /// The file system is mounted read-only.
    #[error(
        "cannot open the story store {path}: the file system is read-only\n  cause: a container with a read-only root, \
         or a disk that the kernel remounted after an error\n  remedy: mount a writable volume and point DATA_DIR at \
         it; after disk errors see the kernel log"
    )]
    ReadOnly {
        /// What was being opened or made.
        path: PathBuf,
    },
    /// No space, or no quota, for even the first pages.
    #[error(
        "cannot open the story store {path}: no space left\n  cause: the disk or the quota of DATA_DIR is full\n  \
         remedy: free space there, or point DATA_DIR at another disk"
    )]
    DiskFull {
        /// What was being opened or made.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error(
        "cannot open the story store {path}: another process has it open\n  cause: another roadtrip-api runs with the \
         same DATA_DIR\n  remedy: stop that one (fuser {path} shows it), or give each its own DATA_DIR"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer roadtrip-api.
    #[error(
        "cannot open the story store {path}: its format is newer ({detail})\n  cause: a newer roadtrip-api wrote \
         it\n  remedy: run that version again, or point DATA_DIR at another folder; the file was left as it is"
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Found and known versions.
        detail: String,
    },
    /// Written in a form too old to be read.
    #[error(
        "cannot open the story store {path}: its format is too old ({detail})\n  cause: it was not written by any \
         released roadtrip-api\n  remedy: move the file away; a new one will be made"
    )]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// The version found.
        detail: String,
    },
    /// Not a store, or damaged beyond what a crash can do.
    #[error(
        "cannot open the story store {path}: it is damaged ({detail})\n  cause: a failing disk, or something else \
         wrote into the file; a crash or kill -9 does not do this\n  remedy: restore it from a backup, or move it \
         away to begin with an empty store; the file was left as it is"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// No helper thread to be had.
    #[error(
        "cannot start the story store's thread {name}: {source}\n  cause: the limit of processes and threads (ulimit \
         -u, the container's pids limit) is reached\n  remedy: raise it"
    )]
    NoThread {
        /// Which one.
        name: String,
        /// The system's words.
        source: io::Error,
    },
    /// Anything else the system said.
    #[error("cannot open the story store {path}: {source}\n  remedy: check the folder DATA_DIR and its disk")]
    Io {
        /// What was being opened or made.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            ErrorKind::PermissionDenied => OpenError::NoPermission { path },
            ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpenError::DiskFull { path },
            // redb's word for "this is no redb file", and what comes of a page number that leads beyond its end.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => OpenError::Corrupt {
                path,
                detail: source.to_string(),
            },
            _ => OpenError::Io { path, source },
        }
    }

    fn from_redb(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => OpenError::Locked {
                path: path.to_path_buf(),
            },
            redb::Error::UpgradeRequired(version) => OpenError::OlderFormat {
                path: path.to_path_buf(),
                detail: format!("redb file format {version}"),
            },
            redb::Error::Io(source) => OpenError::from_io(path, source),
            // redb has no variant for it. Were its wording to change, the file would be called damaged, and still
            // left as it is.
            redb::Error::Corrupted(detail) if detail.contains("file format version") => OpenError::NewerFormat {
                path: path.to_path_buf(),
                detail,
            },
            other => OpenError::Corrupt {
                path: path.to_path_buf(),
                detail: other.to_string(),
            },
        }
    }
}

/// Makes DATA_DIR where it does not exist: for its owner alone, since stories say where people go.
pub(super) fn create_dir(dir: &Path) -> Result<(), OpenError> {
    let missing = dir
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let parents: Vec<&Path> = missing.filter_map(Path::parent).collect();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| OpenError::from_io(dir, source))?;
    parents.into_iter().try_for_each(keep_names)
}

/// Makes the names in a folder durable: the flush of a file does not cover its name (fsync(2)).
fn keep_names(dir: &Path) -> Result<(), OpenError> {
    // The parent of a relative name may be empty.
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| OpenError::from_io(dir, source))
}

/// Opens or creates the file and its tables; gives the number of stories kept too. Waits for the lock as configured.
pub(super) fn open_database(
    config: &Config,
    lock_wait: Duration,
    bytes: &Arc<AtomicU64>,
    faults: &Arc<Faults>,
) -> Result<(Contained<Database>, u64), OpenError> {
    let path = config.dir.join(FILE_NAME);
    let start = Instant::now();
    let is_new = !path.exists();
    let database = loop {
        let file = StoreFile::open(&path, Arc::clone(bytes), Arc::clone(faults))
            .map_err(|source| OpenError::from_io(&path, source))?;
        match within(&path, || build(config, file))? {
            Ok(database) => break Contained::abandoned(database),
            Err(DatabaseError::DatabaseAlreadyOpen) if start.elapsed() < lock_wait => std::thread::sleep(LOCK_POLL),
            Err(error) => return Err(OpenError::from_redb(&path, error.into())),
        }
    };
    if is_new {
        keep_names(&config.dir)?;
    }
    let stories = within(&path, || prepare(&path, &database))??;
    tracing::debug!(stories, ms = ms_since(start), "story store open");
    Ok((database, stories))
}

fn build(config: &Config, file: StoreFile) -> Result<Database, DatabaseError> {
    redb::Builder::new()
        .set_cache_size(config.page_cache_bytes)
        .set_repair_callback(|session| {
            // Not after a kill: every commit of ours records what a repair would have to find out.
            tracing::warn!(
                progress = session.progress(),
                "the story store is being checked from end to end"
            );
        })
        .create_with_backend(file)
}

/// Checks the version of the tables, makes them in a new file, and counts the stories.
fn prepare(path: &Path, database: &Database) -> Result<u64, OpenError> {
    let found = schema::version(database).map_err(|error| OpenError::from_redb(path, error))?;
    match found {
        None => schema::create(database).map_err(|error| OpenError::from_redb(path, error))?,
        Some(version) if version > SCHEMA_VERSION => {
            let detail = format!("version {version}; this program knows up to {SCHEMA_VERSION}");
            return Err(OpenError::NewerFormat {
                path: path.to_path_buf(),
                detail,
            });
        }
        Some(SCHEMA_VERSION) => {}
        Some(version) => {
            return Err(OpenError::OlderFormat {
                path: path.to_path_buf(),
                detail: format!("version {version}"),
            });
        }
    }
    let read = || -> Result<u64, redb::Error> { schema::count(&database.begin_read()?) };
    read().map_err(|error| OpenError::from_redb(path, error))
}

/// redb may panic on a file that something else wrote into; that is a damaged file, not a reason to die.
fn within<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, OpenError> {
    contained(work).map_err(|Panicked| OpenError::Corrupt {
        path: path.to_path_buf(),
        detail: Panicked::DETAIL.to_owned(),
    })
}

/// Only to say what a storage error means for the store: see [`super::engine`].
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    // EFBIG: the file size limit of the process (RLIMIT_FSIZE) or of the file system.
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// Whether redb refuses everything until the file is opened anew.
pub(super) fn is_latched(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_)
    ) || matches!(error, redb::Error::DatabaseClosed | redb::Error::TransactionPoisoned)
}
