//! Names that a slip of the keys may have been meant for: a scan of all keys of about the same length, held cheap by
//! comparing which letters occur (one word each) before comparing letters. Latin keys only.

use super::reader::{Table, u24_at, u32_at};

/// Lengths of the keys in the table.
const SHORTEST: usize = 4;
const LONGEST: usize = 32;

/// A key within reach of what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slip {
    /// Edits: a letter put in, left out, changed, or two neighbours swapped.
    pub(super) edits: usize,
    /// The first letters differ, which people seldom get wrong.
    pub(super) first_differs: bool,
    /// Index of the most populous place with this key; smaller is more populous.
    pub(super) place: u32,
    /// The key.
    pub(super) key: &'static str,
}

/// How many edits a key of so many letters is forgiven.
pub(super) fn forgiven(letters: usize) -> usize {
    match letters {
        0..SHORTEST => 0,
        SHORTEST..8 => 1,
        _ => 2,
    }
}

/// Calls `found` with each key of the table within the forgiven distance of `typed`, which is not itself a key.
pub(super) fn each(table: Table, typed: &str, mut found: impl FnMut(Slip)) {
    let limit = forgiven(typed.len());
    if limit == 0 || typed.len() > LONGEST + limit || !typed.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return;
    }
    let letters = signature(typed.as_bytes());
    for length in typed.len().saturating_sub(limit).max(SHORTEST)..=(typed.len() + limit).min(LONGEST) {
        // At least the difference in length are letters put in or left out, which change one bit each at most; the
        // edits left over may be changed letters, two bits each.
        let apart = length.abs_diff(typed.len());
        let bits_max = u32::try_from(2 * limit - apart).unwrap_or(0);
        let slot = 8 * (length - SHORTEST);
        let count = u32_at(table, slot) as usize;
        let start = u32_at(table, slot + 4) as usize;
        let places = start + 4 * count;
        let keys = places + 3 * count;
        let Some(signatures) = table.get(start..places) else {
            continue;
        };
        for (index, raw) in signatures.as_chunks::<4>().0.iter().enumerate() {
            if (u32::from_le_bytes(*raw) ^ letters).count_ones() > bits_max {
                continue;
            }
            let at = keys + index * length;
            let Some(key) = table.get(at..at + length) else {
                continue;
            };
            let Some(edits) = edits(typed.as_bytes(), key, limit) else {
                continue;
            };
            let Ok(text) = std::str::from_utf8(key) else { continue };
            found(Slip {
                edits,
                first_differs: typed.as_bytes().first() != key.first(),
                place: u24_at(table, places + 3 * index),
                key: text,
            });
        }
    }
}

/// `signature` of index.py.
fn signature(key: &[u8]) -> u32 {
    key.iter().fold(0, |bits, &byte| {
        let bit = if byte.is_ascii_lowercase() {
            byte - b'a'
        } else {
            26 + byte % 6
        };
        bits | 1 << bit
    })
}

/// Edits between two keys (optimal string alignment); none where more than `limit`.
fn edits(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    const WIDTH: usize = LONGEST + 1;
    let mut before = [0usize; WIDTH];
    let mut last: [usize; WIDTH] = std::array::from_fn(|column| column);
    for (i, &x) in a.iter().enumerate() {
        let mut row = [i + 1; WIDTH];
        let mut least = i + 1;
        let (mut left, mut corner) = (i + 1, i);
        for (j, &y) in b.iter().enumerate().take(LONGEST) {
            let above = last.get(j + 1).copied().unwrap_or(WIDTH);
            let mut cost = (corner + usize::from(x != y)).min(above + 1).min(left + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&y) && b.get(j - 1) == Some(&x);
            if swapped && let Some(&two_back) = before.get(j - 1) {
                cost = cost.min(two_back + 1);
            }
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = cost;
            }
            least = least.min(cost);
            (left, corner) = (cost, above);
        }
        // A swap may still step over one bad row.
        if least > limit + 1 {
            return None;
        }
        before = last;
        last = row;
    }
    last.get(b.len()).copied().filter(|&edits| edits <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_as_typists_make_them() {
        for (a, b, expected) in [
            ("london", "london", Some(0)),
            ("lodnon", "london", Some(1)),
            ("londn", "london", Some(1)),
            ("londonn", "london", Some(1)),
            ("landon", "london", Some(1)),
            ("lnodno", "london", Some(2)),
            ("ondonl", "london", Some(2)),
            ("paris", "london", None),
        ] {
            assert_eq!(edits(a.as_bytes(), b.as_bytes(), 2), expected, "{a} {b}");
        }
    }
}
