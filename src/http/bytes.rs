//! Byte classes of the grammar, and the loops that run over them.

/// `tchar` (RFC 9110 section 5.6.2): methods, field names, list tokens.
const TOKEN: u8 = 1;
/// Bytes of a path outside `%` escapes: `pchar` and `/` (RFC 3986 section 3.3), and `[ ] |`, which browsers leave
/// as they are. A backslash stays out: some systems read it as a slash.
const PATH: u8 = 2;
/// Bytes of a query: any visible ASCII but `#`. Wider than RFC 3986 section 3.4, as browsers and people send it.
const QUERY: u8 = 4;
/// Bytes of a `reg-name` outside `%` escapes (RFC 3986 section 3.2.2), but the comma: two Host lines that somebody on
/// the way made one look so.
const REG_NAME: u8 = 8;
/// Bytes between the brackets of an IP literal (RFC 3986 section 3.2.2).
const IP_LITERAL: u8 = 16;
/// Bytes of a chunk extension outside its quotes: of names and values, `;`, `=` and white space (RFC 9112 section
/// 7.1.1).
const EXTENSION: u8 = 32;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut at = 0;
    while at < 256 {
        let b = at as u8;
        let alnum = b.is_ascii_alphanumeric();
        let unreserved = alnum || matches!(b, b'-' | b'.' | b'_' | b'~');
        let sub_delim = matches!(
            b,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        );
        let token = alnum
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(b, b'^' | b'_' | b'`' | b'|' | b'~');
        let mut class = 0;
        if token {
            class |= TOKEN;
        }
        if unreserved || sub_delim || matches!(b, b':' | b'@' | b'/' | b'[' | b']' | b'|') {
            class |= PATH;
        }
        if b > b' ' && b < 0x7f && b != b'#' {
            class |= QUERY;
        }
        if unreserved || (sub_delim && b != b',') {
            class |= REG_NAME;
        }
        if unreserved || sub_delim || b == b':' {
            class |= IP_LITERAL;
        }
        if token || matches!(b, b';' | b'=' | b' ' | b'\t') {
            class |= EXTENSION;
        }
        table[at] = class;
        at += 1;
    }
    table
}

const fn is(b: u8, class: u8) -> bool {
    // In bounds: a u8 indexes 256 entries.
    CLASS[b as usize] & class != 0
}

pub(super) const fn is_token(b: u8) -> bool {
    is(b, TOKEN)
}

pub(super) const fn is_path(b: u8) -> bool {
    is(b, PATH)
}

pub(super) const fn is_query(b: u8) -> bool {
    is(b, QUERY)
}

pub(super) const fn is_reg_name(b: u8) -> bool {
    is(b, REG_NAME)
}

pub(super) const fn is_ip_literal(b: u8) -> bool {
    is(b, IP_LITERAL)
}

pub(super) const fn is_extension(b: u8) -> bool {
    is(b, EXTENSION)
}

/// Bytes of a request target of any form: visible ASCII.
pub(super) const fn is_target(b: u8) -> bool {
    b > b' ' && b < 0x7f
}

/// Bytes of a field value (RFC 9110 section 5.5): tab, space, visible ASCII, and bytes above 0x7f as they are.
pub(super) const fn is_value(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

/// How many bytes from the start form a token.
#[inline]
pub(super) fn token_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| !is_token(b)).unwrap_or(bytes.len())
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// How many bytes from the start `plain` takes, with `odd` marking, eight bytes at a time, where it may not.
///
/// `odd` may mark too much after its first mark (borrows run upwards), never before it.
#[inline]
fn run_len(bytes: &[u8], odd: impl Fn(u64) -> u64, plain: impl Fn(u8) -> bool) -> usize {
    let mut len = 0;
    let mut rest = bytes;
    loop {
        let mut step = rest.len();
        if let Some((word, _)) = rest.split_first_chunk::<8>() {
            let marks = odd(u64::from_le_bytes(*word));
            if marks == 0 {
                len += 8;
                rest = rest.get(8..).unwrap_or_default();
                continue;
            }
            step = (marks.trailing_zeros() / 8) as usize;
        } else if let Some(stop) = rest.iter().position(|&b| !plain(b)) {
            step = stop;
        }
        len += step;
        match rest.get(step) {
            // A mark on a byte that is allowed after all (the tab in values).
            Some(&b) if plain(b) => {
                len += 1;
                rest = rest.get(step + 1..).unwrap_or_default();
            }
            _ => return len,
        }
    }
}

/// How many bytes from the start may stand in a field value.
#[inline]
pub(super) fn value_len(bytes: &[u8]) -> usize {
    run_len(
        bytes,
        |word| {
            let below_space = word.wrapping_sub(ONES * 0x20) & !word;
            let del = word ^ (ONES * 0x7f);
            (below_space | (del.wrapping_sub(ONES) & !del)) & HIGHS
        },
        is_value,
    )
}

/// How many bytes from the start may stand in a request target.
#[inline]
pub(super) fn target_len(bytes: &[u8]) -> usize {
    run_len(
        bytes,
        |word| {
            let to_space = word.wrapping_sub(ONES * 0x21) & !word;
            let del = word ^ (ONES * 0x7f);
            (to_space | (del.wrapping_sub(ONES) & !del) | word) & HIGHS
        },
        is_target,
    )
}

/// Where the value stands in `bytes` without the white space around it: (start, end).
pub(super) fn trimmed(bytes: &[u8]) -> (usize, usize) {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let start = bytes.iter().position(|b| !is_space(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    (start, end)
}

/// `bytes` without white space around it.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let (start, end) = trimmed(bytes);
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eight_at_a_time_equals_one_at_a_time(
            bytes in proptest::collection::vec(prop_oneof![8 => 0x20u8..0x7f, 1 => any::<u8>(), 1 => Just(b'\t')], 0..60)
        ) {
            let value = bytes.iter().position(|&b| !is_value(b)).unwrap_or(bytes.len());
            let target = bytes.iter().position(|&b| !is_target(b)).unwrap_or(bytes.len());
            prop_assert_eq!(value_len(&bytes), value);
            prop_assert_eq!(target_len(&bytes), target);
        }
    }

    #[test]
    fn every_byte_stops_where_its_class_ends() {
        for b in 0..=u8::MAX {
            for place in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[place] = b;
                assert_eq!(value_len(&bytes), if is_value(b) { 20 } else { place }, "{b:#x}");
                assert_eq!(target_len(&bytes), if is_target(b) { 20 } else { place }, "{b:#x}");
            }
        }
    }
}
