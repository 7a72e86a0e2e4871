//! Fresh connections that a worker hands to another one which has fewer.

use std::time::Duration;

/// Connections that may wait for one worker to take them. A worker takes all of them in one turn, so this is what may come
/// in one; who finds the queue full keeps what it has.
pub const WAITING_MAX: usize = 256;
/// What has not been taken for so long is taken back: its worker is stuck, or busy for longer than a client should wait
/// for. Longer than a turn takes that has to wait for its CPU (at 20 ms, on a machine with four times as much to do as it
/// has CPUs, a burst of a thousand was taken back in part), and a client of a stuck worker waits for it once.
pub const TAKE_BACK: Duration = Duration::from_millis(50);
/// A worker whose places are all taken, as are those of the others, looks again after so long whether one of them has some.
/// Its clients wait for no longer than that, and to look costs a cache miss for each worker.
pub const ROOM_AGAIN: Duration = Duration::from_millis(20);
/// The same, nanoseconds.
pub const ROOM_AGAIN_NS: u64 = ROOM_AGAIN.as_nanos() as u64;
/// Connections that a worker without a place has handed out and that nobody serves yet, at most: what it accepts for others
/// is on nobody's account until they take it, and they may be slow. With [`OUT_AGAIN`] some 16000 a second.
pub const OUT_MAX: usize = 16;
/// When there are so many, between two looks whether they were taken.
pub const OUT_AGAIN: Duration = Duration::from_millis(1);
/// Workers that are looked at before a connection is handed over; of more, others each time. Each look may be a cache
/// miss (some 100 ns), and an accept takes some 10 us.
pub const PEERS_MAX: usize = 16;
/// In so long (nanoseconds) the count of connections accepted lately halves: a power of two, so that a shift gives the
/// epoch. 4.3 s: a client that asks a hundred times, each time on a new connection, is seen as a whole.
pub const EPOCH_NS: u64 = 1 << 32;

const _: () = assert!(OUT_MAX <= WAITING_MAX);
const _: () = assert!(EPOCH_NS.is_power_of_two());
const _: () = assert!(TAKE_BACK.as_millis() >= super::drain::ASK_AGAIN.as_millis());
