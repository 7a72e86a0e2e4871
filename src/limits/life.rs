//! The life of the process and of its workers: replacement, hand-over, recovery. Defaults of what an operator may change,
//! and what he may not.

use std::time::Duration;

/// How long a former life of a worker keeps idle connections: whoever asks again in that time is answered with
/// `Connection: close` and comes back to its successor, so that no request meets a closing connection.
pub const RETIRE_IDLE: Duration = Duration::from_secs(5);
/// The same in a hand-over of the embedded store, during which new connections wait: what was sent before its client
/// could know of the end is answered.
pub const HANDOVER_IDLE: Duration = Duration::from_millis(250);
/// The most that new connections wait in such a hand-over for requests in flight.
pub const HANDOVER_MAX: Duration = Duration::from_secs(5);
/// The longest wait for a former life before the next worker of a round is replaced.
pub const ROUND_STEP_MAX: Duration = Duration::from_secs(2);
/// For a worker to say that it serves, or that it cannot.
pub const BEGIN_MAX: Duration = Duration::from_secs(super::health::BOOT_MS_MAX / 1000);
/// From the moment when no new connection is led to a socket to its end: handshakes that have begun, with a round trip
/// of a second, come through.
pub const STEER_SETTLE: Duration = Duration::from_secs(1);
/// From the moment when a worker that is given up should have ended, and has not, to the end of its sockets: another worker is
/// told to take what waits in their queues, and has taken it.
pub const ABANDON_SETTLE: Duration = Duration::from_secs(3);

/// From its beginning a life asks the kernel for connections again and again for so long: the ring of a life that broke
/// down, or of a process that has just ended, may have been woken in its place. Longer than the kernel takes to wind those up.
pub const ASK_FIRST: Duration = Duration::from_secs(5);
/// The same in a process whose predecessor does not say when it stops accepting: an older version, from the start of this one.
pub const ASK_UNKNOWN: Duration = Duration::from_secs(10);
/// Processes that a successor hears the end of: those of as many upgrades in a row, each with a worker that never ended.
pub const ELDERS_MAX: usize = 16;
/// The same after another life has said that it accepts no more.
pub const ASK_AFTER: Duration = Duration::from_secs(1);

/// First pause before a worker that broke down starts again; doubled each time.
pub const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);
/// A life that was longer than this was a healthy one: the next pause is the first again.
pub const HEALTHY: Duration = Duration::from_secs(60);
/// A worker that broke down and cannot even begin so often in a row ends the process: its share of the connections has
/// nobody.
pub const BEGIN_FAILURES_MAX: u32 = 5;

/// The longest pause before a worker that lacked descriptors tries again, while somebody is to give some back.
pub const STARVED_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at a worker's requests and at the process's memory.
pub const LOOK: Duration = Duration::from_secs(1);
/// Between two workers that are replaced for the process's memory: what the first gave back shows by then.
pub const RSS_PAUSE: Duration = Duration::from_secs(10);

/// Milliseconds for a new binary to become ready.
pub const UPGRADE_TIMEOUT_MS: u64 = 30_000;
/// What a new binary that is given up has to end by itself, with what its workers have accepted by then: it leaves with
/// [`HANDOVER_IDLE`] for idle connections.
pub const GIVEN_UP_MAX: Duration = Duration::from_secs(2);
/// Between two looks whether it has ended.
pub const GIVEN_UP_LOOK: Duration = Duration::from_millis(2);
/// The longest wait for the end of processes that were killed.
pub const KILLED_MAX: Duration = Duration::from_secs(1);
/// Processes that a failed upgrade's new process has started, and that are ended with it.
pub const DESCENDANTS_MAX: usize = 64;
/// Requests after which a worker may be replaced: more is never.
pub const MAX_REQUESTS_BOUND: u64 = 1_000_000_000_000;
/// Bytes of memory that anybody may name.
pub const RSS_BOUND: u64 = 1 << 50;
/// Bytes of an ENV_FILE.
pub const ENV_FILE_BYTES_MAX: u64 = 1 << 20;
/// Sockets taken over from another process: so many addresses with so many workers each.
pub const INHERITED_MAX: usize = super::listen::ADDRESSES_MAX * super::server::WORKERS_MAX;
/// Between two looks whether the workers of the old process have stopped accepting, in an upgrade that waits for it.
pub const STOPPED_LOOK: Duration = Duration::from_millis(5);

const _: () = assert!(HANDOVER_IDLE.as_millis() < HANDOVER_MAX.as_millis());
const _: () = assert!(2 * HANDOVER_IDLE.as_millis() < GIVEN_UP_MAX.as_millis());
const _: () = assert!(ROUND_STEP_MAX.as_millis() < RETIRE_IDLE.as_millis());
const _: () = assert!(ASK_FIRST.as_millis() <= ASK_UNKNOWN.as_millis());
const _: () = assert!(ELDERS_MAX > 1);
// The watchdog has looked twice.
const _: () = assert!(ABANDON_SETTLE.as_millis() > 2 * super::health::WATCH_MS as u128);
const _: () = assert!(RESTART_PAUSE.as_millis() < RESTART_PAUSE_MAX.as_millis());
