//! Redis, the cache that pods share. What an operator may change has its bounds in `server`.

/// Milliseconds that a request waits for a lookup before it goes on to the store: fifty times a round trip within a
/// data centre, and unnoticed beside the 200 ms that the service promises.
pub const LOOKUP_MS: u64 = 50;
/// The most that REDIS_TIMEOUT may be: longer, and the store would answer sooner.
pub const LOOKUP_MS_BOUND: u64 = 2_000;
/// Milliseconds for a write or a release in the background, which nobody waits for.
pub const WRITE_MS: u64 = 1_000;
/// Milliseconds that such a write may wait for a command to go with: under load the next comes sooner.
pub const WRITE_LINGER_MS: u64 = 1;
/// Milliseconds to connect, with TLS and the greeting.
pub const CONNECT_MS: u64 = 2_000;
/// Connections of a pod, as the scaling guide has it; a worker needs one, since commands are pipelined on it.
pub const CONNECTIONS_MAX: u64 = 100;
/// The most that REDIS_MAX_CONNECTIONS may be: Redis itself takes 10,000 clients unless told otherwise.
pub const CONNECTIONS_BOUND: u64 = 10_000;
/// Commands of a worker that wait for their answers; more are given up at once. A flight has two at most.
pub const IN_FLIGHT_MAX: usize = 4 * super::story::FLIGHTS_MAX;
/// Bytes of commands that wait to be sent; more are given up at once.
pub const OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Writes in the background; more are left out and counted: the store has the story anyway.
pub const WRITES_MAX: usize = 256;
/// Timeouts in a row after which Redis counts as away.
pub const TIMEOUTS_IN_ROW: u32 = 5;
/// Milliseconds a connection must have served for its loss to be an accident: then the next is made at once, and
/// lookups wait for it within their time. Below that, pauses grow.
pub const STABLE_MS: u64 = 1_000;
/// Milliseconds of the first pause between two attempts to connect; doubled each time, with jitter.
pub const BACKOFF_MS: u64 = 50;
/// The longest pause: so long at most goes by unused after Redis is back.
pub const BACKOFF_MS_MAX: u64 = 5_000;
/// Milliseconds without writes after Redis refused one (a replica, out of memory, no disk).
pub const WRITES_OFF_MS: u64 = 5_000;
/// Milliseconds between two reconnects because of a read-only server: its name may lead to the new primary.
pub const READONLY_REDIAL_MS: u64 = 15_000;
/// Milliseconds that stories are kept: a day, in which most places that are asked for are asked for again.
pub const TTL_MS: u64 = 24 * 3600 * 1000;
/// Milliseconds after which the lock on a key falls by itself, should its owner die: longer than a story takes.
pub const LOCK_MS: u64 = 10_000;
/// Milliseconds that a flight waits for the lock's owner before it tells the story itself.
pub const LOCK_WAIT_MS: u64 = 1_500;
/// First pause between two looks while waiting, milliseconds; doubled up to the second, with jitter.
pub const LOCK_PAUSE_MS: u64 = 4;
/// See above.
pub const LOCK_PAUSE_MS_MAX: u64 = 64;
/// Bytes of a line of the protocol: error texts are the longest, and they are short.
pub const LINE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a value that is read: a story with its envelope. A longer one is read past and counts as a miss.
pub const VALUE_BYTES_MAX: usize = super::store::STORY_BYTES_MAX + super::store::LOCATION_KEY_BYTES_MAX + 256;
/// The longest value that Redis itself allows (proto-max-bulk-len): a greater length is garbage.
pub const BULK_BYTES_BOUND: u64 = 512 * 1024 * 1024;
/// Items of one answer that is a list: the greeting has some twenty, and loaded modules add to it.
pub const ITEMS_MAX: usize = 1024;
/// Bytes that are asked of the socket at once, and the least that a connection holds for it.
pub const READ_BYTES: usize = 16 * 1024;
/// Ids known not to exist, per worker, and for how many milliseconds.
pub const ABSENT_IDS_MAX: usize = 1024;
/// See above.
pub const ABSENT_MS: u64 = 3_000;
/// Only ids made longer ago than this may count as absent: whatever this pod stores from now on was made later, so
/// that no story can hide behind such an entry.
pub const ABSENT_AGE_MS: u64 = 60_000;
/// Milliseconds between two background refreshes of one stale story.
pub const REFRESH_PAUSE_MS: u64 = 1_000;

const _: () = assert!(LOOKUP_MS <= LOOKUP_MS_BOUND && LOOKUP_MS_BOUND <= CONNECT_MS);
const _: () = assert!(LOCK_WAIT_MS < LOCK_MS && LOCK_PAUSE_MS < LOCK_PAUSE_MS_MAX);
const _: () = assert!(LOCK_WAIT_MS + 2 * super::story::STORE_MS_MAX < super::story::TELL_MS_MAX);
const _: () = assert!(ABSENT_AGE_MS > 2 * super::story::TELL_MS_MAX && ABSENT_MS < ABSENT_AGE_MS);
const _: () = assert!(BACKOFF_MS < BACKOFF_MS_MAX && STABLE_MS < READONLY_REDIAL_MS);
const _: () = assert!(CONNECT_MS <= super::health::CHECK_TIMEOUT_MS);
