//! Beats: each makes one paragraph part out of one fact, or stays silent where the fact is missing or told.
//!
//! The rule of the house: a phrasing may state only what its beat computed from `Facts` (and arithmetic or the
//! geometry of the globe); buildings, food, rivers, weather, people and events are not in the gazetteer, so they
//! are not in here. Phrasings that imagine say so ("picture", "suppose", "the tale might").

mod abroad;
mod crowd;
mod globe;
mod ground;
mod names;
mod near;
mod people;
mod roads;
mod sky;
mod sun;
mod travel;
mod whereabouts;

pub(super) use whereabouts::{asked_point, whereabouts};

use super::tale::{A, C, F, H, K, M, N, R, S, Styles, Tale};

/// What a part of the story is about. A story goes through some of them, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chapter {
    /// The country around the place.
    Ground,
    /// How many live there.
    People,
    /// What lies near, and the roads there.
    Near,
    /// What it is called.
    Names,
    /// Sun, stars, clocks.
    Sky,
    /// The whole globe seen from here.
    Globe,
}

impl Chapter {
    pub(super) const ALL: [Chapter; 6] = [
        Chapter::Ground,
        Chapter::People,
        Chapter::Near,
        Chapter::Names,
        Chapter::Sky,
        Chapter::Globe,
    ];

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// One beat.
pub(super) struct Beat {
    pub(super) chapter: Chapter,
    /// Styles that reach for it first.
    pub(super) loved: Styles,
    /// Weight among the rest: 0 is told only where a long story has room.
    pub(super) weight: u32,
    pub(super) tell: fn(&mut Tale<'_>) -> Option<String>,
}

const fn beat(chapter: Chapter, loved: Styles, weight: u32, tell: fn(&mut Tale<'_>) -> Option<String>) -> Beat {
    Beat {
        chapter,
        loved,
        weight,
        tell,
    }
}

/// The beat that tells how many live there, as an index into [`BEATS`]; a test keeps it true.
pub(super) const HEADS: usize = 6;

/// Every beat; within a chapter in the order in which they follow each other in a story.
pub(super) static BEATS: &[Beat] = &[
    beat(Chapter::Ground, A | H | R, 3, ground::capital),
    beat(Chapter::Ground, H | M | S, 2, ground::size),
    beat(Chapter::Ground, A | H | K, 2, ground::borders),
    beat(Chapter::Ground, C | S | F, 1, ground::crowd_of_places),
    beat(Chapter::Ground, C, 0, ground::telephone),
    beat(Chapter::Ground, C | F, 0, ground::money),
    beat(Chapter::People, H | S | M, 4, people::heads),
    beat(Chapter::People, H | M, 2, people::region_rank),
    beat(Chapter::People, C | R | S, 2, crowd::share),
    beat(Chapter::People, F | C, 2, crowd::hand_in_hand),
    beat(Chapter::People, F | S | K, 1, crowd::counting),
    beat(Chapter::People, C | F | M, 1, crowd::guests),
    beat(Chapter::Near, A | M | K, 4, near::nearest),
    beat(Chapter::Near, A | K | F, 3, near::ring),
    beat(Chapter::Near, M | C | R, 2, near::larger),
    beat(Chapter::Near, A | M, 2, near::metropolis),
    beat(Chapter::Near, A | M | K, 3, abroad::abroad),
    beat(Chapter::Near, S | M, 1, roads::triangle),
    beat(Chapter::Near, A | K | N | R, 1, roads::on_foot),
    beat(Chapter::Near, F | M, 1, roads::riddle),
    beat(Chapter::Near, S | C | R, 1, roads::sound_and_light),
    beat(Chapter::Near, A | N | S, 1, roads::horizon),
    beat(Chapter::Near, H | C | F, 1, roads::together),
    beat(Chapter::Near, A | F, 1, travel::by_car),
    beat(Chapter::Near, C | S, 0, travel::by_air),
    beat(Chapter::Near, N | R, 0, travel::by_bicycle),
    beat(Chapter::Names, H | K | R, 3, names::others),
    beat(Chapter::Names, H | S | M, 1, names::scripts),
    beat(Chapter::Names, M | C | F | K, 3, names::namesakes),
    beat(Chapter::Names, F | C, 1, names::letters),
    beat(Chapter::Sky, N | R | K, 3, sun::long_days),
    beat(Chapter::Sky, N | S, 2, sun::noon_heights),
    beat(Chapter::Sky, S | F, 1, sun::shadow),
    beat(Chapter::Sky, N | S, 1, sun::equinox),
    beat(Chapter::Sky, C | M | S, 2, sky::solar_clock),
    beat(Chapter::Sky, C | H, 1, sky::zone),
    beat(Chapter::Sky, R | N | S, 1, sky::greenwich),
    beat(Chapter::Sky, R | N | A | K | S, 3, sky::pole_star),
    beat(Chapter::Globe, A | N | S, 2, globe::equator),
    beat(Chapter::Globe, S | H, 1, globe::degree),
    beat(Chapter::Globe, A | R | K, 2, globe::parallel),
    beat(Chapter::Globe, S | C | F, 2, globe::spin),
    beat(Chapter::Globe, A | R | N | H, 3, globe::same_latitude),
    beat(Chapter::Globe, K | M | F | A, 3, globe::antipode),
    beat(Chapter::Globe, S | N, 0, globe::halfway),
];

/// What a beat is, apart from where it stands in a story.
pub(super) type Teller = fn(&mut Tale<'_>) -> Option<String>;

/// Beats that answer an interest, best first.
pub(super) mod answers {
    use super::{Teller, abroad, globe, ground, names, near, roads, sky, sun, travel};

    pub(in super::super) const STARS: &[Teller] = &[sky::pole_star, sky::greenwich, sun::equinox];
    pub(in super::super) const LIGHT: &[Teller] = &[
        sun::noon_heights,
        sun::long_days,
        sun::shadow,
        sun::equinox,
        sky::solar_clock,
    ];
    pub(in super::super) const CLOCKS: &[Teller] = &[sky::solar_clock, sky::greenwich, sky::zone];
    pub(in super::super) const EARTH: &[Teller] = &[
        globe::degree,
        globe::equator,
        globe::parallel,
        globe::antipode,
        globe::same_latitude,
    ];
    pub(in super::super) const PHYSICS: &[Teller] = &[globe::spin, roads::sound_and_light, roads::horizon];
    pub(in super::super) const NUMBERS: &[Teller] = &[roads::triangle, roads::together, globe::parallel, globe::degree];
    pub(in super::super) const WORDS: &[Teller] = &[names::others, names::scripts, names::letters, names::namesakes];
    pub(in super::super) const STATE: &[Teller] = &[ground::borders, ground::size, abroad::abroad];
    pub(in super::super) const FOOT: &[Teller] = &[roads::on_foot, near::nearest];
    pub(in super::super) const HEIGHTS: &[Teller] = &[roads::horizon, roads::on_foot];
    pub(in super::super) const MAPS: &[Teller] = &[globe::degree, near::ring, roads::triangle, near::nearest];
    pub(in super::super) const MONEY: &[Teller] = &[ground::money];
    pub(in super::super) const SIGNALS: &[Teller] = &[ground::telephone, roads::sound_and_light];
    pub(in super::super) const RAIL: &[Teller] = &[travel::by_rail];
    pub(in super::super) const AIR: &[Teller] = &[travel::by_air];
    pub(in super::super) const ROAD: &[Teller] = &[travel::by_car, ground::capital];
    pub(in super::super) const BICYCLE: &[Teller] = &[travel::by_bicycle];
    pub(in super::super) const RUNNING: &[Teller] = &[travel::marathons, roads::on_foot];
    pub(in super::super) const MUSIC: &[Teller] = &[travel::by_sound];
}
