//! The offline storyteller: facts in, a story to listen to in a car out.
//!
//! Called by `story::service` (and by nothing else). A story is made of *beats* (`beats/`), each of which turns one
//! fact into a few sentences or stays silent, told in a *voice* (`voices/`) that owns the opening, the links and the
//! ending, and put in order by `compose`. The same request gives the same bytes on every machine: `seed` draws,
//! `words` rounds, and nothing else decides.
//!
//! Deliberately absent: anything that [`Facts`] does not hold. No sentence speaks of buildings, food, rivers,
//! weather, people or events of a real place; what is imagined is told as imagined. No I/O, no clock, no markup.

mod angle;
mod beats;
mod compose;
mod interests;
mod pen;
mod seed;
mod tale;
mod unknown;
mod voices;
mod words;

#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::types::{Language, Length, ResolvedLocation, StoryRequest, Style, Telling};
use seed::Fnv;
use tale::Tale;

/// Who told it. The number goes up whenever the same request would be told in other words.
pub const GENERATED_BY: &str = "narrator/1";

/// How a story is to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask<'r> {
    /// The manner.
    pub style: Style,
    /// How long: about 150, 450 or 900 words.
    pub length: Length,
    /// The language; English is the only one so far.
    pub language: Language,
    /// What the traveller likes, in the order given. Untrusted text.
    pub interests: &'r [String],
    /// 0 is the first telling; each next number gives another opening, choice of facts, order and ending. After
    /// twelve, openings come round again.
    pub variation: u32,
}

impl<'r> From<&'r StoryRequest> for Ask<'r> {
    fn from(request: &'r StoryRequest) -> Self {
        Self {
            style: request.style,
            length: request.length,
            language: request.language,
            interests: &request.interests,
            variation: request.variation,
        }
    }
}

impl Ask<'_> {
    /// What is asked, apart from the variation, as a seed.
    fn seed(&self, place: u64) -> u64 {
        let seed = Fnv::new()
            .number(place)
            .text(self.style.as_str())
            .text(self.length.as_str())
            .text(self.language.as_str());
        self.interests
            .iter()
            .fold(seed, |seed, interest| seed.text(interest))
            .finish()
    }
}

/// Tells about a known place.
///
/// Short stories have 120 to 190 words, medium ones 380 to 540, long ones 760 to 1050. Far from everywhere (fewer than
/// four places within 300 km) a long story may end after 660 words; and if the gazetteer held next to nothing of a
/// place (no people, no names, no neighbours, no figures of the country), after 330, a medium one after 300. Many long
/// interests make a short story longer.
pub fn tell(facts: &Facts<'_>, ask: &Ask<'_>) -> Telling {
    let mut tale = Tale::new(facts, ask.style, ask.seed(u64::from(facts.place.id)), ask.variation);
    let (title, story) = compose::compose(&mut tale, ask.style, ask.length, ask.interests);
    let place = &facts.place;
    Telling {
        title,
        duration_seconds: compose::seconds(compose::count(&story)),
        story,
        location: ResolvedLocation {
            name: place.name.to_owned(),
            country: Some(place.country.to_owned()),
            lat: Some(place.lat),
            lng: Some(place.lng),
        },
    }
}

/// Tells a traveller that the gazetteer does not know the place, without inventing one. `asked` is the traveller's
/// words, or the coordinates as text; untrusted.
pub fn tell_unknown(asked: &str, ask: &Ask<'_>) -> Telling {
    let (title, story) = unknown::compose(asked, ask);
    Telling {
        title,
        duration_seconds: compose::seconds(compose::count(&story)),
        story,
        location: ResolvedLocation {
            name: words::plain(asked, 200),
            country: None,
            lat: None,
            lng: None,
        },
    }
}
