//! The way to database and cache servers.

/// Threads that look up names: two, so that one dead name server does not hold up the lookup of another name.
pub const DNS_THREADS: usize = 2;
/// Lookups that may wait for them; each worker of a pod has a few to ask at a time.
pub const DNS_QUEUE_MAX: usize = 256;
