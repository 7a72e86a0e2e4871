//! HTTP/1.1 on the wire (RFC 9112).

/// Bytes of a request line and its headers together. nginx allows 8 KiB a line, most proxies 8 to 16 KiB in all.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the request target: longer gives 414. RFC 9110 section 4.1 asks for at least 8000.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Header fields in a request: more gives 431. Browsers send about 20, proxies add about 10.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request body: a story request is under 4 KiB, the rest is margin. More gives 413.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one chunk-size line with its extensions: extensions are ignored, so anything long is an attack.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of all trailer fields of one body.
pub const TRAILER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of all chunk extensions of one body: else one-byte chunks could carry 256 ignored bytes each.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// Empty lines skipped before a request line (RFC 9112 section 2.2): old clients end a body with one.
pub const LEADING_EMPTY_LINES_MAX: usize = 2;
/// Bytes of a method. The longest known one has 7; longer tokens are refused without waiting for their end.
pub const METHOD_BYTES_MAX: usize = 24;

const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEADERS_MAX * 4 < HEAD_BYTES_MAX);
// Offsets into a head are kept in 16 bits, counts in 8.
const _: () = assert!(HEAD_BYTES_MAX < u16::MAX as usize);
const _: () = assert!(HEADERS_MAX <= u8::MAX as usize);
const _: () = assert!(LEADING_EMPTY_LINES_MAX <= u8::MAX as usize);
