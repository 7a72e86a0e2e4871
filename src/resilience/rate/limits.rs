//! Static limits of rate limiting, each with its reason.

/// Clients that a process tells apart at most, in sets of [`TABLE_WAYS`]. What happens beyond is in [`super::table`]: a
/// newcomer may be refused too early only where more than this many bursts were spent by others within the time that a
/// burst takes to come back. 3 MiB, made when the limit is first switched on.
pub const TABLE_SETS: usize = 8192;
/// Clients of a set. Eight: the fullest set of a full table then holds what the others do, give or take a few.
pub const TABLE_WAYS: usize = 8;
/// Clients whose leases a worker holds at most, in sets of [`HELD_WAYS`]: 256 KiB a worker. One beyond costs a look into the
/// process' table each time it asks, and nothing else.
pub const HELD_SETS: usize = 1024;
/// Leases of a set.
pub const HELD_WAYS: usize = 4;

/// A lease is this part of the burst: what each further worker (or pod) may let through beyond the limit.
pub const LEASE_PART: u32 = 16;
/// Requests of a lease at most.
pub const LEASE_MAX: u32 = 64;
/// Nanoseconds for which a lease holds: then the worker looks what others have let through meanwhile.
pub const LEASE_NS: u64 = 100_000_000;

/// Requests of a rate at most, per unit of its time.
pub const RATE_MAX: u64 = 1_000_000;
/// Requests of a burst at most.
pub const BURST_MAX: u64 = 1_000_000;
/// Nanoseconds in which a spent burst comes back, at most: a day. All sums of times then stay far from the end of 64 bits.
pub const WINDOW_NS_MAX: u64 = 86_400_000_000_000;
/// Requests a second that a client may send where nothing is set: a thirtieth of a pod.
pub const CLIENT_RATE: &str = "100/s";
/// Requests a second of a pod where nothing is set: what the scaling guide plans a pod for.
pub const POD_RATE: &str = "3000/s";
/// Characters of the field that names a client (RATE_LIMIT_KEY).
pub const KEY_CHARS_MAX: usize = 64;

/// Clients that one command to Redis settles.
pub const CHARGES_PER_COMMAND: usize = 64;
/// Clients of a worker that wait to be settled in Redis; one more waits in the table for its next lease.
pub const CHARGES_WAITING_MAX: usize = 4096;
/// Milliseconds between two attempts to tell Redis what it did not take.
pub const CHARGE_RETRY_MS: u64 = 1_000;
/// Seconds after which a settlement with Redis counts as lost (its worker is gone), and may be tried anew.
pub const CHARGE_LOST_S: u32 = 5;
/// Milliseconds for which Redis remembers a client beyond its backlog: a pod that comes back within it finds what it left.
pub const REMEMBER_MS: u64 = 60_000;

const _: () = assert!(TABLE_SETS.is_power_of_two() && HELD_SETS.is_power_of_two());
const _: () = assert!(LEASE_MAX as u64 <= BURST_MAX);
const _: () = assert!(WINDOW_NS_MAX < u64::MAX / 1024);
const _: () = assert!(RATE_MAX <= 1_000_000_000);
