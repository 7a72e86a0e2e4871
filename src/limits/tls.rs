//! TLS.

/// Bytes of a file of certificates or of a key: a chain has some 5 KiB, all authorities of a browser 200 KiB.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes received that are part of something not yet whole: a record has at most 16 KiB and 261 B (RFC 8446 section
/// 5.2), and a client's certificate chain, which may take several, some 5 KiB.
pub const INCOMING_BYTES_MAX: usize = 32 * 1024;
/// Bytes of records of TLS itself (the handshake, alerts, new keys) that wait for the peer to read: the longest is
/// the first flight with the certificate chain. A peer that makes more of them than that reads none.
pub const UNASKED_BYTES_MAX: usize = 64 * 1024;
/// Bytes that a record may add to what it carries: TLS 1.2 with AES-GCM adds 5 + 8 + 16, TLS 1.3 5 + 1 + 16. What
/// does not fit is made room for; this only makes that rare.
pub const RECORD_OVERHEAD_BYTES: usize = 29;
/// Bytes that a record carries at most (RFC 8446 section 5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(INCOMING_BYTES_MAX > RECORD_BYTES_MAX + 2048 + 5);
