//! The words of the domain: what may be asked, and what a story is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Declares a closed vocabulary: the enum, its wire names, `ALL`, parsing, and serde by those names.
macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$vmeta:meta])* $variant:ident = $wire:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $wire)] $variant),+
        }

        impl $name {
            /// Every value, in the order in which the API lists them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// Every name on the wire, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($wire),+];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $wire),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($wire => Ok($name::$variant),)+
                    _ => Err(UnknownWord { what: $what, known: &[$($wire),+] }),
                }
            }
        }
    };
}

/// A word outside a closed vocabulary; the message lists what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWord {
    /// The field, as the API calls it.
    pub what: &'static str,
    /// The words that would have been right.
    pub known: &'static [&'static str],
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {}; known: {}", self.what, self.known.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

vocabulary! {
    /// The manner of telling.
    Style, "style" {
        /// The road ahead, told as a quest. The default.
        #[default]
        Adventure = "adventure",
        /// Measured, with the figures in the foreground.
        History = "history",
        /// Questions first, facts as clues.
        Mystery = "mystery",
        /// For the back seat: games, counting, wonder.
        Family = "family",
        /// Dry jokes that never bend a fact.
        Comedy = "comedy",
        /// For two in the front seats.
        Romance = "romance",
        /// Light, latitude, sky and land.
        Nature = "nature",
        /// Told as a fireside tale, with the imagined parts named as imagined.
        Folklore = "folklore",
        /// How we know: the geometry of the globe, measured.
        Science = "science",
    }
}

vocabulary! {
    /// How long the telling takes, read aloud at about 150 words a minute.
    Length, "length" {
        /// About one minute.
        Short = "short",
        /// About three minutes. The default.
        #[default]
        Medium = "medium",
        /// About six minutes.
        Long = "long",
    }
}

impl Length {
    /// Seconds that it takes read aloud, about.
    pub const fn about_seconds(self) -> u32 {
        match self {
            Length::Short => 60,
            Length::Medium => 180,
            Length::Long => 360,
        }
    }
}

vocabulary! {
    /// The language of the telling (BCP 47).
    Language, "language" {
        /// English, the default and the only one the embedded narrator speaks.
        #[default]
        En = "en",
    }
}

/// Where the story is to be about.
#[derive(Debug, Clone, PartialEq)]
pub enum LocationQuery {
    /// A name as a traveller would type it: "San Francisco", "Springfield, Illinois", "München".
    Name(String),
    /// A point on the globe, with what the traveller calls it, if anything.
    Point {
        /// Degrees north, -90 to 90.
        lat: f64,
        /// Degrees east, -180 to 180.
        lng: f64,
        /// The traveller's own name for the point.
        name: Option<String>,
    },
}

/// A checked request for a story. Limits are those of `limits::story`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoryRequest {
    /// Where.
    pub location: LocationQuery,
    /// In which manner.
    pub style: Style,
    /// How long.
    pub length: Length,
    /// In which language.
    pub language: Language,
    /// What the traveller likes, up to `limits::story::INTERESTS_MAX` words, in the order given.
    pub interests: Vec<String>,
    /// 0 is the first telling; another number asks for another telling of the same place.
    pub variation: u32,
}

/// The place as the gazetteer resolved it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedLocation {
    /// The name of the place, or the traveller's words where the gazetteer does not know it.
    pub name: String,
    /// The country's English name; none for an unknown place.
    pub country: Option<String>,
    /// Degrees north; none for an unknown place asked by name.
    pub lat: Option<f64>,
    /// Degrees east; none for an unknown place asked by name.
    pub lng: Option<f64>,
}

/// What the narrator returns: the text without identity or time.
#[derive(Debug, Clone, PartialEq)]
pub struct Telling {
    /// A title of a few words.
    pub title: String,
    /// The text; paragraphs are separated by one blank line.
    pub story: String,
    /// The place as resolved.
    pub location: ResolvedLocation,
    /// Seconds to read it aloud.
    pub duration_seconds: u32,
}

/// A story told and kept. Serialised in this field order; the bytes of a kept story never change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// UUIDv7: sorts by creation time (RFC 9562).
    pub id: uuid_text::UuidText,
    /// A title of a few words.
    pub title: String,
    /// The text; paragraphs are separated by one blank line.
    pub story: String,
    /// The place as resolved.
    pub location: ResolvedLocation,
    /// The manner it was told in.
    pub style: Style,
    /// The length it was told at.
    pub length: Length,
    /// The language it was told in.
    pub language: Language,
    /// Who told it: "narrator/1" for the embedded one.
    pub generated_by: String,
    /// Seconds to read it aloud.
    pub duration_seconds: u32,
    /// When it was told, RFC 3339 UTC with milliseconds.
    pub created_at: String,
}

/// A UUID that is text on the wire.
pub mod uuid_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    /// A [`Uuid`], serialised in hyphenated lower case.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct UuidText(pub Uuid);

    impl Serialize for UuidText {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut buffer = Uuid::encode_buffer();
            serializer.serialize_str(self.0.hyphenated().encode_lower(&mut buffer))
        }
    }

    impl<'de> Deserialize<'de> for UuidText {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            Uuid::try_parse(&text).map(UuidText).map_err(serde::de::Error::custom)
        }
    }
}
