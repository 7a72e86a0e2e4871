//! From what a traveller typed to a place: the whole as a name, then name and qualifiers, then slips of the keys.

use super::reader::{lower_bound, u64_at};
use super::slips::{self, Slip};
use super::{Found, Gazetteer, PlaceId, fold};

/// Bytes of the bucket directory before the entries of the name table.
pub(super) const BUCKETS: usize = 3 * ((1 << 16) + 1);

/// No name with all its qualifiers is longer; what is, is no name.
const TEXT_BYTES_MAX: usize = 256;

/// Qualifiers in one question: "Springfield, Sangamon County, Illinois, USA" has three.
const PARTS_MAX: usize = 6;

/// Words of a qualifier without a comma: "Saint Pierre and Miquelon" has four, "Democratic Republic of the Congo" five,
/// "South Georgia and the South Sandwich Islands" seven.
const TAIL_WORDS_MAX: usize = 7;

/// Inhabitants a place must have to be thought meant by a misspelt name: short keys and two edits are weak evidence.
const MEANT_SHORT_MIN: u32 = 100_000;
const MEANT_MIDDLING_MIN: u32 = 50_000;
const MEANT_TWO_EDITS_MIN: u32 = 25_000;

/// What a word after a comma may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Qualifier {
    Country(usize),
    Region(usize),
}

/// Keys, those with a bit set for the seam before them added to the one before.
fn run_together(keys: &[String], joined: u32) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        match out.last_mut() {
            Some(last) if (joined << 1) >> index & 1 == 1 => last.push_str(key),
            _ => out.push(key.clone()),
        }
    }
    out
}

/// See [`Gazetteer::find`].
pub(super) fn find(gazetteer: &Gazetteer, text: &str) -> Found {
    if text.len() > TEXT_BYTES_MAX {
        return Found::Unknown;
    }
    let whole = gazetteer.key(text);
    if whole.is_empty() {
        return Found::Unknown;
    }
    let parts: Vec<String> = text
        .split(|character| is_comma(character) || may_part(character))
        .map(|part| gazetteer.key(part))
        .filter(|key| !key.is_empty())
        .take(PARTS_MAX)
        .collect();
    // After a comma stands a qualifier ("Oliva, ES") before it is the end of a name ("Olivais").
    if text.contains(is_comma)
        && let Some(id) = gazetteer.each_apart(&parts)
    {
        return Found::Exact(id);
    }
    if let Some(id) = gazetteer.named(&whole).next() {
        return Found::Exact(id);
    }
    match parts.as_slice() {
        [] => Found::Unknown,
        [_] => without_comma(gazetteer, text, &whole),
        more => with_commas(gazetteer, text, more),
    }
}

/// Characters that part a name from its qualifiers.
fn is_comma(character: char) -> bool {
    matches!(character, ',' | ';' | '|' | '\n' | '，' | '、' | '،')
}

/// Characters that may do so, or belong to a name: "Halle (Saale)", "Reichenbach/Vogtland".
fn may_part(character: char) -> bool {
    matches!(character, '/' | '(' | ')')
}

/// Names before qualifiers without a comma: each way to split, with what the qualifier may mean.
fn splits(gazetteer: &Gazetteer, words: &[String]) -> impl Iterator<Item = (String, Vec<Vec<Qualifier>>)> {
    (1..=TAIL_WORDS_MAX).filter_map(|tail| {
        let (head, tail) = words.split_at_checked(words.len().checked_sub(tail)?)?;
        let meanings = gazetteer.meanings(&tail.concat());
        (!head.is_empty() && !meanings.is_empty()).then(|| (head.concat(), vec![meanings]))
    })
}

/// "Springfield Illinois", or one name with a slip.
fn without_comma(gazetteer: &Gazetteer, text: &str, whole: &str) -> Found {
    let words = gazetteer.folder.words(text);
    let splits = || splits(gazetteer, &words);
    let exact = splits().find_map(|(head, qualifiers)| gazetteer.qualified(&head, &qualifiers));
    if let Some(id) = exact {
        return Found::Exact(id);
    }
    // A slip in the whole before a slip in the part before a supposed qualifier.
    gazetteer
        .slipped(whole, &[])
        .or_else(|| splits().find_map(|(head, qualifiers)| gazetteer.slipped(&head, &qualifiers)))
        .unwrap_or(Found::Unknown)
}

/// "Name, Region, Country", in this order or the other way round.
fn with_commas(gazetteer: &Gazetteer, text: &str, keys: &[String]) -> Found {
    let exact = gazetteer.each_apart(keys).or_else(|| gazetteer.some_joined(keys));
    // "Reichenbach/Vogtland Germany".
    let exact = exact.or_else(|| {
        let words = gazetteer.folder.words(text);
        splits(gazetteer, &words).find_map(|(head, qualifiers)| gazetteer.qualified(&head, &qualifiers))
    });
    if let Some(id) = exact {
        return Found::Exact(id);
    }
    let Some((name, rest)) = keys.split_first() else {
        return Found::Unknown;
    };
    // What is no country or region (a county, a motorway, a slip) does not count; the answer is then only close.
    let meanings: Vec<_> = rest
        .iter()
        .map(|key| gazetteer.meanings(key))
        .filter(|m| !m.is_empty())
        .collect();
    if meanings.len() < rest.len()
        && let Some(id) = gazetteer.qualified(name, &meanings)
    {
        return gazetteer.close(id, name);
    }
    if let Some(found) = gazetteer.slipped(name, &meanings) {
        return found;
    }
    // "Eiffel Tower, Paris, France": unknown itself, but in a place that is known by its own name.
    for (index, key) in rest.iter().enumerate() {
        let further: Vec<_> = rest
            .iter()
            .skip(index + 1)
            .map(|key| gazetteer.meanings(key))
            .filter(|m| !m.is_empty())
            .collect();
        if let Some(id) = gazetteer.qualified(key, &further)
            && gazetteer.key(gazetteer.place(id).name) == *key
        {
            return gazetteer.close(id, key);
        }
    }
    Found::Unknown
}

impl Gazetteer {
    /// The place that these name and qualify, each by itself, in this order or the other way round.
    fn each_apart(&self, keys: &[String]) -> Option<PlaceId> {
        let qualified = |name: &String, rest: &mut dyn Iterator<Item = &String>| {
            let meanings: Vec<_> = rest.map(|key| self.meanings(key)).collect();
            let all_mean = !meanings.is_empty() && meanings.iter().all(|m| !m.is_empty());
            all_mean.then(|| self.qualified(name, &meanings)).flatten()
        };
        let (first, after) = keys.split_first()?;
        let (last, before) = keys.split_last()?;
        qualified(first, &mut after.iter()).or_else(|| qualified(last, &mut before.iter().rev()))
    }

    /// The same where neighbours are one name that has a comma or parentheses in it, as few as will do: "Hennef (Sieg),
    /// Germany". A key is its words run together, so keys run together are the key of the whole.
    fn some_joined(&self, keys: &[String]) -> Option<PlaceId> {
        let seams = keys.len().saturating_sub(1);
        (1..seams).find_map(|joins| {
            let with_joins = (0u32..1 << seams).filter(|joined| joined.count_ones() as usize == joins);
            with_joins
                .map(|joined| run_together(keys, joined))
                .find_map(|keys| self.each_apart(&keys))
        })
    }

    /// The countries and regions that a qualifier may mean, likeliest first.
    fn meanings(&self, key: &str) -> Vec<Qualifier> {
        let hash = fold::hash40(key);
        let count = self.qualifiers.len() / 8;
        let first = lower_bound(count, |i| u64_at(self.qualifiers, 8 * i) >> 24 < hash);
        (first..count)
            .map(|i| u64_at(self.qualifiers, 8 * i))
            .take_while(|entry| entry >> 24 == hash)
            .map(|entry| {
                let index = (entry & 0x7F_FFFF) as usize;
                if entry & 0x80_0000 == 0 {
                    Qualifier::Region(index)
                } else {
                    Qualifier::Country(index)
                }
            })
            .collect()
    }

    /// The likeliest place with this key to which every qualifier applies.
    fn qualified(&self, key: &str, qualifiers: &[Vec<Qualifier>]) -> Option<PlaceId> {
        let applies = |id: PlaceId, meaning: &Qualifier| match *meaning {
            Qualifier::Country(country) => self.country_of(id).0 == country,
            Qualifier::Region(region) => self.region(id) == Some(region),
        };
        let Some((first, rest)) = qualifiers.split_first() else {
            return self.named(key).next();
        };
        // The likelier meaning of the first qualifier goes before the likelier place: "Ontario, CA".
        first.iter().find_map(|meaning| {
            self.named(key)
                .find(|&id| applies(id, meaning) && rest.iter().all(|meanings| meanings.iter().any(|m| applies(id, m))))
        })
    }

    /// The place most likely meant by a misspelt key.
    fn slipped(&self, key: &str, qualifiers: &[Vec<Qualifier>]) -> Option<Found> {
        let mut best: Option<((usize, bool, u32), PlaceId, &'static str)> = None;
        slips::each(self.slips, key, |slip: Slip| {
            let order = (slip.edits, slip.first_differs, slip.place);
            if best.as_ref().is_some_and(|(least, ..)| *least <= order) {
                return;
            }
            let inhabitants = if slip.edits > 1 {
                MEANT_TWO_EDITS_MIN
            } else if key.len() < 6 {
                MEANT_SHORT_MIN
            } else if key.len() < 8 {
                MEANT_MIDDLING_MIN
            } else {
                0
            };
            if let Some(id) = self.qualified(slip.key, qualifiers)
                && (self.population(id) >= inhabitants || !qualifiers.is_empty())
            {
                best = Some((order, id, slip.key));
            }
        });
        best.map(|(_, id, key)| self.close(id, key))
    }

    /// A close find, with the name of the place that has this key.
    fn close(&self, id: PlaceId, key: &str) -> Found {
        let name = self.place(id).name;
        let matched = std::iter::once(name)
            .chain(self.other_names(id))
            .find(|name| self.key(name) == *key)
            .unwrap_or(name)
            .to_owned();
        Found::Close { id, matched }
    }
}
