//! The cache of each core. How much it holds is `server::CACHE_BYTES`.

/// An entry may take at most this part of the cache (one sixteenth): one giant must not push everything out.
pub const ENTRY_FRACTION: u64 = 16;
/// Bytes an entry costs beside its key and its body: slab slot, hash slots, reference counts, ETag, the entry of
/// the index by id, and the allocator's rounding.
pub const ENTRY_OVERHEAD_BYTES: u64 = 320;
/// Bytes that a story costs in each coding beside its bytes and field lines: reference counts, lengths, and the
/// allocator's rounding of three blocks.
pub const FORM_OVERHEAD_BYTES: usize = 128;
/// Bytes of a typical entry: sizes the memory of lately evicted keys, nothing else.
pub const ENTRY_BYTES_TYPICAL: u64 = 4 * 1024;

const _: () = assert!(super::server::CACHE_BYTES / ENTRY_FRACTION > super::store::STORY_BYTES_MAX as u64);
const _: () = assert!(ENTRY_BYTES_TYPICAL > ENTRY_OVERHEAD_BYTES);
