//! Static limits of the journal, with their reasons; relations between them are asserted.

use crate::limits::{redis, store, story};

/// Bytes of all segments, where JOURNAL_BYTES_MAX is not given: some 80 000 stories of 3 KB, which is half an hour at
/// 50 new ones a second.
pub const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The least that JOURNAL_BYTES_MAX may be: some segments with the largest stories.
pub const BYTES_LEAST: u64 = 1024 * 1024;
/// The most: the index is in memory, at some 400 bytes a story, and a start reads all of it.
pub const BYTES_BOUND: u64 = 8 * 1024 * 1024 * 1024;
/// Bytes of a segment after which the next one is begun: what is read at once at start, and what a story that was not
/// replayed keeps from being given back to the disk. A batch may go beyond it.
pub(super) const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Of a small journal a segment is a part.
pub(super) const SEGMENT_PART: u64 = 8;
/// Puts of each worker that may wait for the writer: what may be under way on one.
pub(super) const PUTS_PER_WORKER: usize = story::FLIGHTS_MAX;
/// Reads that may wait for the reader, of each worker.
pub(super) const READS_PER_WORKER: usize = 1024;
/// Bytes that a look whether the disk takes writes again writes: a few of the largest stories.
pub(super) const PROBE_BYTES: usize = 4 * store::STORY_BYTES_MAX;
/// Milliseconds that a health check waits for that look.
pub(super) const PROBE_MS: u64 = 500;
/// Milliseconds between two looks whether another process has let go of the folder.
pub(super) const LOCK_POLL_MS: u64 = 100;

/// Milliseconds between two attempts to open a folder that was let go of and could not be read.
pub(super) const OPEN_AGAIN_MS: u64 = 1_000;

/// Milliseconds that PostgreSQL has for a put before the journal keeps it: beyond the time that a broken connection is
/// given to come back, and within a call's, with room for a flush of a slow disk.
pub(super) const PUT_MS: u64 = 3_000;
/// Milliseconds that it has to find the story of a request.
pub(super) const FIND_MS: u64 = 2_000;
/// The same while it is known to be away: it may still take reads.
pub(super) const FIND_AWAY_MS: u64 = 250;

/// Stories that are replayed at a time, and bytes of them, about.
pub(super) const REPLAY_STORIES: usize = 64;
/// See [`REPLAY_STORIES`].
pub(super) const REPLAY_BYTES: usize = 1024 * 1024;
/// A replay begins any time up to this after the database is found back, so that all pods do not begin at once.
pub(super) const REPLAY_JITTER_MS: u64 = 1_000;
/// Longest first pause after a replay that failed, milliseconds; each later one at most twice as long.
pub(super) const REPLAY_PAUSE_FIRST_MS: u64 = 1_000;
/// Longest pause.
pub(super) const REPLAY_PAUSE_MAX_MS: u64 = 30_000;

const _: () = assert!(crate::limits::postgres::GRACE_MS < FIND_MS && FIND_MS < PUT_MS);
const _: () = assert!(PUT_MS + store::RETRY_MS < story::STORE_MS_MAX);
// A lookup, the wait for another pod's story, another lookup, and a put.
const _: () = assert!(2 * FIND_MS + redis::LOCK_WAIT_MS + story::STORE_MS_MAX < story::TELL_MS_MAX);
const _: () = assert!(BYTES_LEAST <= BYTES_MAX && BYTES_MAX <= BYTES_BOUND);
const _: () = assert!(BYTES_LEAST / SEGMENT_PART > super::record::RECORD_BYTES_MAX as u64);
