//! Stories at rest, and the queues to the threads that keep them.

/// Bytes of one story's JSON. Six minutes read aloud are about 6 KiB in Latin script and 20 KiB in a script of
/// three bytes a character; the rest is margin. It bounds what a full queue can hold.
pub const STORY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the folded place name that lists are filtered by. Folding may lengthen a name, hardly double it.
pub const LOCATION_KEY_BYTES_MAX: usize = 2 * super::story::LOCATION_BYTES_MAX;
/// Puts waiting for the writer thread; more are refused as overload. At 3 KiB a story this is 3 MiB and about
/// four commits' worth, so who waits at the end of it still waits well under a second.
pub const PUT_QUEUE_MAX: usize = 1024;
/// Puts in one commit: large enough that the disk flush is shared widely, small enough that a batch of the
/// largest stories (16 MiB) fits beside everything else.
pub const BATCH_PUTS_MAX: usize = 256;
/// Reader threads: two, so that one read from a cold disk does not hold up the others.
pub const READERS: usize = 2;
/// Reads waiting for one reader thread. A read takes tens of microseconds, so a full queue is milliseconds.
pub const READ_QUEUE_MAX: usize = 512;
/// Bytes of stories on one page of a list: the page ends early where the stories are long.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that the embedded store may keep of its file in memory; the kernel's page cache holds the rest.
pub const PAGE_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Milliseconds between a failed write (disk full, say) and the next attempt; until then puts are refused at
/// once instead of each finding the disk full anew.
pub const RETRY_MS: u64 = 1000;
/// What a refused client is told to wait, seconds.
pub const RETRY_AFTER_S: u32 = 1;

const _: () = assert!(STORY_BYTES_MAX <= PAGE_BYTES_MAX);
const _: () = assert!(BATCH_PUTS_MAX <= PUT_QUEUE_MAX);
// The location's length is written in 16 bits.
const _: () = assert!(LOCATION_KEY_BYTES_MAX <= u16::MAX as usize);
