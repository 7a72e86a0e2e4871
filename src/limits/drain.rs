//! The end of a server, and workers that are stuck.

use std::time::Duration;

/// From the last handshake that is begun to the end of listening: time for a client's ACK to come back. Two of a network's
/// round trips in a cluster are far under it, and round the world it is one.
pub const HANDSHAKE: Duration = Duration::from_millis(150);
/// Nobody has come for so long: the kernel's queue is empty.
pub const LULL: Duration = Duration::from_millis(20);
/// For who waits in the kernel's queue for a place, as others end, when all of them are taken: requests end within this as a
/// rule, and what takes longer may take the whole graceful time. At most a quarter of that.
pub const ROOM: Duration = Duration::from_millis(500);
/// From the begin of draining to the end of idle connections, and from a late connection to its own end if it says
/// nothing: longer than a request takes that was sent before, or right behind the handshake, and nothing against the
/// graceful timeout.
pub const IDLE: Duration = Duration::from_millis(250);
/// Before the graceful time is over, bodies that are made while they are sent are brought to an end, so that their
/// clients get it: at most so long before, and at most a quarter of the time.
pub const BODIES_END_BEFORE: Duration = Duration::from_secs(5);
/// Of DRAIN_DELAY, the last part (a quarter) in which answers say that the connection closes: early enough that who asks
/// once a second has moved on by the end, late enough that there is somewhere else to go.
pub const LEAVE_PART: u32 = 4;
/// DRAIN_DELAY in production: what kube-proxy and most load balancers take to notice that a pod is not ready.
pub const DELAY_PRODUCTION_MS: u64 = 5_000;
/// For what the store has not written: every answered story is on disk before its answer, so there is little.
pub const STORE_CLOSE: Duration = Duration::from_secs(5);
/// What a client of a body that was ended early is told to wait before it asks again, milliseconds (the `retry` field of
/// WHATWG HTML section 9.2.6): another pod takes it at once, and not all of them in the same moment.
pub const RETRY_MS: u32 = 2_000;

/// Between two looks into the queue of a worker that is stuck. While one is, this is what its new clients wait for.
pub const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Milliseconds without a turn after which a worker is stuck.
pub const WORKER_TIMEOUT_MS: u64 = 10_000;
/// The least WORKER_TIMEOUT: a machine that swaps must not be taken for a bug.
pub const WORKER_TIMEOUT_MS_MIN: u64 = 1_000;
/// Frames of a stuck worker's stack that are logged.
pub const FRAMES_MAX: usize = 64;
/// Bytes of its stack that are looked at: frames are a few hundred bytes, buffers in them some thousand.
pub const STACK_BYTES_MAX: usize = 256 * 1024;
/// For a thread to answer to a signal; one that does not is in the kernel.
pub const INTERRUPT: Duration = Duration::from_millis(250);

/// When bodies come to an end, from the begin of draining.
pub fn bodies_end_after(graceful: Duration) -> Duration {
    graceful.saturating_sub(BODIES_END_BEFORE.min(graceful / 4))
}

/// What listening ends with.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// See [`HANDSHAKE`].
    pub handshake: Duration,
    /// See [`ROOM`].
    pub room: Duration,
    /// See [`LULL`].
    pub lull: Duration,
}

impl Waits {
    /// Where there is time.
    pub const ALL: Waits = Waits {
        handshake: HANDSHAKE,
        room: ROOM,
        lull: LULL,
    };

    /// Within the graceful time: of which a quarter at least is left for the answers, whatever it is (a quarter, a quarter, and
    /// two lulls of an eighth).
    pub fn within(graceful: Duration) -> Waits {
        Waits {
            handshake: HANDSHAKE.min(graceful / 4),
            room: ROOM.min(graceful / 4),
            lull: LULL.min(graceful / 8),
        }
    }
}

const _: () = assert!(IDLE.as_millis() < super::connection::LINGER_MS as u128);
const _: () = assert!(HANDSHAKE.as_millis() < IDLE.as_millis());
const _: () = assert!(WORKER_TIMEOUT_MS_MIN <= WORKER_TIMEOUT_MS);
