//! Listening sockets.

/// Addresses in BIND. Each TCP one is a socket of every worker.
pub const ADDRESSES_MAX: usize = 16;
/// Bytes of a Unix socket's path, or of an abstract name: `sun_path` has 108, one of them for the zero at the end of a
/// path or the begin of a name (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;
/// Milliseconds to wait for another process that looks at the same Unix socket's folder.
pub const UNIX_LOCK_MS_MAX: u64 = 1_000;
