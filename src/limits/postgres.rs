//! PostgreSQL. What an operator may change stands in `config`; these are the defaults and the bounds.

/// The port where the connection string names none.
pub const PORT: u16 = 5432;
/// Servers in one connection string.
pub const HOSTS_MAX: usize = 16;
/// Milliseconds for one server to take a connection (name, TCP, TLS, authentication) where `connect_timeout` is not
/// given.
pub const CONNECT_MS: u64 = 5_000;
/// Seconds of silence before the first keepalive probe: below the 350 s after which cloud load balancers forget an
/// idle connection, and above the 5 s of the readiness check, which keeps one connection busy anyway.
pub const KEEPALIVE_IDLE_S: u64 = 30;
/// Seconds between two probes.
pub const KEEPALIVE_INTERVAL_S: u64 = 5;
/// Probes without an answer that make a connection broken.
pub const KEEPALIVE_PROBES: u32 = 3;
/// Seconds that sent data may stay without an acknowledgement.
pub const USER_TIMEOUT_S: u64 = 15;

/// Connections that a worker keeps: the guide's `pool_size`. A bound; one or two are the rule.
pub const POOL_SIZE: u64 = 20;
/// Connections beyond that, closed as soon as they are idle: the guide's `max_overflow`.
pub const MAX_OVERFLOW: u64 = 40;
/// The most that either may be.
pub const POOL_BOUND: u64 = 1_000;
/// Milliseconds that a call waits for a connection.
pub const POOL_WAIT_MS: u64 = 2_000;
/// The most that it may wait: a call must end within `story::STORE_MS_MAX`.
pub const POOL_WAIT_MS_MAX: u64 = 4_000;
/// Calls of one worker that may wait for a connection; more are refused as overload.
pub const POOL_WAITERS_MAX: usize = 1024;
/// Milliseconds after which a connection is closed and opened anew, more or less a tenth: long enough to cost
/// nothing, short enough that load moves to a server that joined, and that the server's caches of a session end.
pub const RECYCLE_MS: u64 = 30 * 60 * 1000;
/// Milliseconds without use after which a connection is closed.
pub const IDLE_MS: u64 = 60_000;
/// Milliseconds without use after which a connection is asked whether it lives before it is used.
pub const PRE_PING_IDLE_MS: u64 = 10_000;
/// Milliseconds for the answer to that.
pub const PRE_PING_MS: u64 = 1_000;
/// Bytes that a server may send until a connection is set up: certificates and parameters are a few KiB.
pub const GREETING_BYTES_MAX: u64 = 256 * 1024;
/// Calls in flight on each connection beyond which another is opened: at 50 us a lookup, 64 are 3 ms of queue.
pub const DEPTH_GROW: u32 = 64;
/// Calls in flight on one connection, at most.
pub const DEPTH_MAX: u32 = 256;
/// What a batch of puts counts for in these: who reads must not wait behind a flush if it can be helped, so a second
/// connection is opened for the reads.
pub const WRITE_WEIGHT: u32 = 64;
/// Batches of puts in flight per worker: while one waits for the server's flush, the next is on its way.
pub const BATCHES_MAX: u32 = 2;
/// Bytes of stories in one batch, about.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Milliseconds for one statement, here and (as `statement_timeout`) at the server.
pub const STATEMENT_MS: u64 = 4_000;
/// Attempts of a call whose connection broke, or whose transaction the server asked to repeat.
pub const ATTEMPTS_MAX: u32 = 5;
/// Milliseconds for which calls wait for the way back after the last connection broke; later ones are told at once.
pub const GRACE_MS: u64 = 1_500;
/// Longest first pause between attempts to connect, milliseconds; each later one at most twice as long.
pub const BACKOFF_FIRST_MS: u64 = 100;
/// Longest pause between attempts to connect, milliseconds: forty workers then ask a server that is starting some
/// forty times a second, and are back a second after it.
pub const BACKOFF_MAX_MS: u64 = 2_000;
/// Milliseconds that a connection may take to say goodbye.
pub const GOODBYE_MS: u64 = 1_000;
/// Milliseconds without an outcome after which the next host of the list is tried beside the one before.
pub const NEXT_HOST_MS: u64 = 500;
/// Milliseconds without any outcome after which a server is dialled once more, beside the attempt that hangs.
pub const AGAIN_MS: u64 = 1_000;
/// Milliseconds that a call waits for an answer before its connection is doubted: twenty times what a slow commit
/// takes. New calls then go to another connection, where the server is asked what became of the first.
pub const SILENCE_MS: u64 = 1_000;
/// Milliseconds between two looks at a connection that is doubted.
pub const DOUBT_LOOK_MS: u64 = 100;
/// Milliseconds that a connection must have lived for its end to be an accident: then the next is opened at once.
/// Below that pauses grow, for a server that takes connections and breaks them must not be asked all the time.
pub const STABLE_MS: u64 = 1_000;
/// The longest of those pauses, milliseconds: below `GRACE_MS`, so that calls live through it.
pub const FLAP_MS_MAX: u64 = 400;
/// Milliseconds over which workers and pods that lost their connections in the same moment spread their first
/// attempts.
pub const SPREAD_MS: u64 = 30;
/// Milliseconds between two reconnects because the one server that is configured takes no writes: its name may lead
/// to the new primary.
pub const READONLY_REDIAL_MS: u64 = 15_000;
/// Milliseconds of the mean statement beyond which the server counts as slow: more than the 200 ms that the service
/// promises for a whole answer.
pub const SLOW_MS: u64 = 250;
/// Milliseconds for which it counts as slow after the last statement that was.
pub const SLOW_FOR_MS: u64 = 10_000;
/// Milliseconds between two looks at how large the tables are.
pub const SIZES_MS: u64 = 60_000;
/// Pods that the service may grow to, for the comparison with the server's `max_connections`: the guide's autoscaler.
pub const PODS_MAX: u64 = 20;
/// The most that PODS_MAX may be.
pub const PODS_BOUND: u64 = 10_000;
/// Seconds that one migration waits for another process's, at most.
pub const MIGRATION_LOCK_S: u64 = 60;

const _: () = assert!(DEPTH_GROW < DEPTH_MAX && WRITE_WEIGHT <= DEPTH_GROW);
const _: () = assert!(STATEMENT_MS < super::story::STORE_MS_MAX && POOL_WAIT_MS <= POOL_WAIT_MS_MAX);
const _: () = assert!(POOL_WAIT_MS_MAX < super::story::STORE_MS_MAX);
const _: () = assert!(PRE_PING_IDLE_MS > super::health::CHECK_MS && GRACE_MS <= POOL_WAIT_MS);
const _: () = assert!(BATCH_BYTES_MAX > super::store::STORY_BYTES_MAX);
// A call whose connection is found dead can still be run on another.
const _: () = assert!(3 * SILENCE_MS < STATEMENT_MS && FLAP_MS_MAX + SPREAD_MS < GRACE_MS);
const _: () = assert!(PRE_PING_MS <= SILENCE_MS && DOUBT_LOOK_MS < SILENCE_MS);
