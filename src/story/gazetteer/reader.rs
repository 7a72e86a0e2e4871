//! Reads the tables of `gazetteer.bin` in place. A read outside a table gives zero or nothing, never a panic; the
//! layout stands in `data/layout.md`.

/// One table: bytes that live as long as the program.
pub(super) type Table = &'static [u8];

/// How many tables version 1 holds.
pub(super) const TABLES: usize = 13;

const MAGIC: &[u8; 4] = b"RTGZ";
const VERSION: u32 = 1;

/// Little-endian 16 bits at a byte offset.
pub(super) fn u16_at(table: Table, at: usize) -> u16 {
    table
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |b| u16::from_le_bytes(*b))
}

/// Little-endian 24 bits at a byte offset.
pub(super) fn u24_at(table: Table, at: usize) -> u32 {
    table
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |&[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
}

/// Little-endian 32 bits at a byte offset.
pub(super) fn u32_at(table: Table, at: usize) -> u32 {
    table
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |b| u32::from_le_bytes(*b))
}

/// Little-endian 64 bits at a byte offset.
pub(super) fn u64_at(table: Table, at: usize) -> u64 {
    table
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |b| u64::from_le_bytes(*b))
}

/// One byte.
pub(super) fn u8_at(table: Table, at: usize) -> u8 {
    table.get(at).copied().unwrap_or(0)
}

/// The length-prefixed text at an offset of the string table.
pub(super) fn text_at(strings: Table, at: usize) -> &'static str {
    let length = usize::from(u8_at(strings, at));
    let start = at.saturating_add(1);
    strings
        .get(start..start.saturating_add(length))
        .and_then(|raw| std::str::from_utf8(raw).ok())
        .unwrap_or("")
}

/// The first of `0..count` for which `less` is false; `less` must be true for a prefix.
pub(super) fn lower_bound(count: usize, less: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if less(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Splits the file into its tables; none where the header is not that of this version.
pub(super) fn tables(file: Table) -> Option<[Table; TABLES]> {
    if !file.starts_with(MAGIC) || u32_at(file, 4) != VERSION || u32_at(file, 8) as usize != TABLES {
        return None;
    }
    let mut out: [Table; TABLES] = [&[]; TABLES];
    for (slot, table) in out.iter_mut().enumerate() {
        let start = u32_at(file, 12 + 8 * slot) as usize;
        let length = u32_at(file, 16 + 8 * slot) as usize;
        *table = file.get(start..start.checked_add(length)?)?;
    }
    Some(out)
}
