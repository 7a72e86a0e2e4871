//! From what a traveller types to the key a name is found by: accents and case gone, apostrophes silent,
//! abbreviations written out, words run together. The letter table comes from the build script, so that both sides
//! fold alike.

use super::reader::{Table, lower_bound, u8_at, u16_at, u24_at};

const ENTRY: usize = 6;

/// Folds text by the table of the gazetteer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folder {
    pub(super) table: Table,
    pub(super) text: Table,
}

impl Folder {
    /// What a character folds to; none where it stays as it is.
    fn folded(self, character: char) -> Option<&'static str> {
        let point = u32::from(character);
        let count = self.table.len() / ENTRY;
        let index = lower_bound(count, |i| u24_at(self.table, i * ENTRY) < point);
        let at = index * ENTRY;
        if index >= count || u24_at(self.table, at) != point {
            return None;
        }
        let start = usize::from(u16_at(self.table, at + 3));
        let length = usize::from(u8_at(self.table, at + 5));
        self.text
            .get(start..start + length)
            .and_then(|raw| std::str::from_utf8(raw).ok())
    }

    /// The folded words of a text, abbreviations written out.
    pub(super) fn words(self, text: &str) -> Vec<String> {
        let mut spaced = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                'a'..='z' | '0'..='9' | ' ' => spaced.push(character),
                'A'..='Z' => spaced.push(character.to_ascii_lowercase()),
                _ => match self.folded(character) {
                    Some(folded) => spaced.push_str(folded),
                    None => spaced.push(character),
                },
            }
        }
        spaced
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| written_out(word).to_owned())
            .collect()
    }

    /// The key of a text; empty where nothing but punctuation was written.
    pub(super) fn key(self, text: &str) -> String {
        self.words(text).concat()
    }
}

/// `WORDS` of folding.py.
fn written_out(word: &str) -> &str {
    match word {
        "st" => "saint",
        "ste" => "sainte",
        "mt" => "mount",
        "ft" => "fort",
        other => other,
    }
}

/// `hash40` of folding.py: the upper 40 bits of 64-bit FNV-1a after one multiply-shift.
pub(super) fn hash40(key: &str) -> u64 {
    let mut value: u64 = 0xCBF2_9CE4_8422_2325;
    for byte in key.bytes() {
        value = (value ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    value ^= value >> 32;
    value.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24
}
