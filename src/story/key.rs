//! The canonical form of a request: equal bytes for requests that ask for the same story.
//!
//! Two forms. [`request_bytes`] is made from the words as typed and is what the per-core cache compares, byte by byte.
//! [`story_bytes`] has the place as resolved in its stead, so that "SF" and "San Francisco" are one story; its SHA-256
//! is the store's key.

use super::types::{Language, Length, LocationQuery, StoryRequest, Style};

/// What a request asks for, borrowed from wherever it stands: the form that the fast path hashes without a copy.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where.
    pub location: AskedLocation<'a>,
    /// In which manner.
    pub style: Style,
    /// How long.
    pub length: Length,
    /// In which language.
    pub language: Language,
    /// What the traveller likes.
    pub interests: Interests<'a>,
    /// Which telling.
    pub variation: u32,
}

/// The place of a request, borrowed.
#[derive(Debug, Clone, Copy)]
pub enum AskedLocation<'a> {
    /// By name.
    Name(&'a str),
    /// By coordinates, checked to be on the globe.
    Point {
        /// Degrees north.
        lat: f64,
        /// Degrees east.
        lng: f64,
        /// The traveller's name for it.
        name: Option<&'a str>,
    },
}

/// Up to `limits::story::INTERESTS_MAX` words.
pub type Interests<'a> = &'a [std::borrow::Cow<'a, str>];

impl Asked<'_> {
    /// An owned request.
    pub fn to_request(&self) -> StoryRequest {
        StoryRequest {
            location: match self.location {
                AskedLocation::Name(name) => LocationQuery::Name(squeeze(name)),
                AskedLocation::Point { lat, lng, name } => LocationQuery::Point {
                    lat,
                    lng,
                    name: name.map(squeeze).filter(|name| !name.is_empty()),
                },
            },
            style: self.style,
            length: self.length,
            language: self.language,
            interests: self
                .interests
                .iter()
                .map(|word| squeeze(word))
                .filter(|word| !word.is_empty())
                .collect(),
            variation: self.variation,
        }
    }
}

/// Without control characters, with single spaces, trimmed.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_folded(text, |c| out.push(c), false);
    out
}

/// Feeds the characters of `text` with white space (and controls) squeezed, in lower case if `lower`.
fn push_folded(text: &str, mut push: impl FnMut(char), lower: bool) {
    let mut gap = false;
    let mut begun = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = begun;
            continue;
        }
        if std::mem::take(&mut gap) {
            push(' ');
        }
        begun = true;
        if !lower {
            push(c);
        } else if c.is_ascii() {
            push(c.to_ascii_lowercase());
        } else {
            c.to_lowercase().for_each(&mut push);
        }
    }
}

fn extend_folded(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        // Most names have one word in ASCII.
        out.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
        return;
    }
    let mut buffer = [0u8; 4];
    push_folded(
        text,
        |c| out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
        true,
    );
}

/// Form of the bytes below; part of them, so that a later form cannot be taken for this one.
const FORM: u8 = 1;

fn extend_manner(out: &mut Vec<u8>, asked: &Asked<'_>) {
    out.push(FORM);
    out.extend_from_slice(&[asked.style as u8, asked.length as u8, asked.language as u8]);
    out.extend_from_slice(&asked.variation.to_le_bytes());
}

fn extend_interests(out: &mut Vec<u8>, interests: Interests<'_>) {
    if interests.is_empty() {
        return;
    }
    // Their order and repetition do not make another story.
    let mut words: Vec<Vec<u8>> = interests
        .iter()
        .map(|word| {
            let mut folded = Vec::with_capacity(word.len());
            extend_folded(&mut folded, word);
            folded
        })
        .filter(|word| !word.is_empty())
        .collect();
    words.sort();
    words.dedup();
    for word in words {
        out.push(0);
        out.extend_from_slice(&word);
    }
}

/// About eleven metres: what lies closer has the same story.
const DEGREE_PARTS: f64 = 10_000.0;

fn extend_point(out: &mut Vec<u8>, lat: f64, lng: f64, name: Option<&str>) {
    out.push(b'P');
    out.extend_from_slice(&((lat * DEGREE_PARTS).round() as i32).to_le_bytes());
    out.extend_from_slice(&((lng * DEGREE_PARTS).round() as i32).to_le_bytes());
    extend_folded(out, name.unwrap_or_default());
}

/// The cache key of a request as typed, written to `out` (cleared first). Allocates nothing where there are no
/// interests and `out` has room.
pub fn request_bytes(out: &mut Vec<u8>, asked: &Asked<'_>) {
    out.clear();
    extend_manner(out, asked);
    match asked.location {
        AskedLocation::Name(name) => {
            out.push(b'N');
            extend_folded(out, name);
        }
        AskedLocation::Point { lat, lng, name } => extend_point(out, lat, lng, name),
    }
    extend_interests(out, asked.interests);
}

/// The store's canonical bytes: as [`request_bytes`], with `place` (a GeoNames id) instead of a name that resolved to
/// it.
pub fn story_bytes(asked: &Asked<'_>, place: Option<u32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    match (asked.location, place) {
        (AskedLocation::Name(_), Some(id)) => {
            extend_manner(&mut out, asked);
            out.push(b'G');
            out.extend_from_slice(&id.to_le_bytes());
            extend_interests(&mut out, asked.interests);
        }
        _ => request_bytes(&mut out, asked),
    }
    out
}

/// The folded name that lists are filtered by.
pub fn location_key(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    push_folded(name, |c| out.push(c), true);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn asked<'a>(name: &'a str, interests: Interests<'a>) -> Asked<'a> {
        Asked {
            location: AskedLocation::Name(name),
            style: Style::default(),
            length: Length::default(),
            language: Language::default(),
            interests,
            variation: 0,
        }
    }

    fn bytes(asked: &Asked<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        request_bytes(&mut out, asked);
        out
    }

    #[test]
    fn case_and_space_do_not_make_another_request() {
        assert_eq!(
            bytes(&asked("San Francisco", &[])),
            bytes(&asked(" san\t FRANCISCO\n", &[]))
        );
        assert_eq!(bytes(&asked("MÜNCHEN", &[])), bytes(&asked("münchen", &[])));
        assert_ne!(bytes(&asked("Paris", &[])), bytes(&asked("Parish", &[])));
    }

    #[test]
    fn order_and_repetition_of_interests_do_not_either_but_their_borders_do() {
        let of = |words: &[&'static str]| {
            let words: Vec<Cow<'static, str>> = words.iter().map(|word| Cow::Borrowed(*word)).collect();
            bytes(&asked("Paris", &words))
        };
        assert_eq!(of(&["food", "Trains"]), of(&["trains", "food", "food "]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&[]), of(&["food"]));
    }

    #[test]
    fn every_other_part_makes_another_request() {
        let base = asked("Paris", &[]);
        let others = [
            Asked {
                style: Style::Mystery,
                ..base
            },
            Asked {
                length: Length::Long,
                ..base
            },
            Asked { variation: 1, ..base },
            Asked {
                location: AskedLocation::Point {
                    lat: 48.85,
                    lng: 2.35,
                    name: Some("Paris"),
                },
                ..base
            },
        ];
        for other in others {
            assert_ne!(bytes(&base), bytes(&other));
            assert_ne!(story_bytes(&base, Some(1)), story_bytes(&other, Some(1)));
        }
        assert_eq!(
            story_bytes(&asked("SF", &[]), Some(7)),
            story_bytes(&asked("San Francisco", &[]), Some(7))
        );
        assert_ne!(story_bytes(&base, Some(7)), story_bytes(&base, Some(8)));
    }

    #[test]
    fn an_owned_request_has_its_words_squeezed() {
        let words = [Cow::Borrowed(" deep\u{0} sky "), Cow::Borrowed("  ")];
        let request = asked(" New\n York ", &words).to_request();
        assert_eq!(request.location, LocationQuery::Name("New York".into()));
        assert_eq!(request.interests, ["deep sky"]);
    }
}
