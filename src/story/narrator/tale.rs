//! One telling in the making: the facts, the voice, and the memory of what has been said.

use super::pen::Pen;
pub(super) use super::pen::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Styles, Var, bit};
use super::words;
use crate::story::facts::{Facts, Neighbour, PlaceFacts};
use crate::story::types::Style;

/// What a story may tell once. A bit each; a beat that would tell a told one stays silent.
pub(super) mod topic {
    /// Adds a named bit for each topic.
    macro_rules! topics {
        ($($name:ident)+) => { topics!(@ 0u32, $($name)+); };
        (@ $n:expr, $name:ident $($rest:ident)*) => {
            pub(in super::super) const $name: u64 = 1 << $n;
            topics!(@ $n + 1, $($rest)*);
        };
        (@ $n:expr,) => {};
    }
    topics! {
        HEADS RANK REGION_RANK SHARE COUNTING CHAIN LAND_SIZE LAND_PLACES PHONE MONEY BORDERS
        NEAREST RING LARGER METRO CAPITAL ABROAD TRIANGLE GUEST LIGHTSPEED WALK MARATHON FLIGHT DRIVE RIDE RAIL HORIZON TOGETHER
        NAMES SCRIPTS NAMESAKES LETTERS SAME_NAME
        SUMMER WINTER NOON SHADOW CLOCK ZONE POLARIS GREENWICH EQUINOX
        EQUATOR POLE PARALLEL SPIN SAME_LATITUDE ANTIPODE DEGREE HALFWAY COORDINATES
    }
}

/// Marks in a text under construction: a place's name, where it is, and the end of that. Control characters, so that
/// no name and no traveller's word contains them.
pub(super) const NAME: char = '\u{1}';
pub(super) const WHERE: char = '\u{2}';
pub(super) const END: char = '\u{3}';

/// A telling in the making.
pub(super) struct Tale<'a> {
    pub(super) f: &'a Facts<'a>,
    pub(super) pen: Pen,
    /// Topics told.
    pub(super) told: u64,
    /// Places whose distance has been told.
    places: Vec<u32>,
    /// How often a distance has been given, to vary its hedge.
    distances: u32,
}

/// Where a telling stood before a beat that did not fit.
pub(super) struct Mark {
    told: u64,
    used: usize,
    places: usize,
    distances: u32,
}

impl<'a> Tale<'a> {
    pub(super) fn new(f: &'a Facts<'a>, style: Style, seed: u64, variation: u32) -> Self {
        let land = words::land(f.place.country);
        let region = f.place.region.trim();
        let within = if region.is_empty() || region == f.place.name || region == f.place.country {
            land.clone()
        } else {
            words::region(region)
        };
        let common = vec![
            ("name", f.place.name.to_owned()),
            (
                "a_name",
                format!("{} {}", if vowel(f.place.name) { "an" } else { "a" }, f.place.name),
            ),
            ("land", land),
            ("in", within),
            ("continent", continent(f).to_owned()),
        ];
        let pen = Pen::new(style, seed, variation, common);
        Self {
            f,
            pen,
            told: 0,
            places: Vec::with_capacity(32),
            distances: 0,
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            told: self.told,
            used: self.pen.used.len(),
            places: self.places.len(),
            distances: self.distances,
        }
    }

    pub(super) fn back_to(&mut self, mark: &Mark) {
        self.told = mark.told;
        self.pen.used.truncate(mark.used);
        self.places.truncate(mark.places);
        self.distances = mark.distances;
    }

    /// A draw that differs between variations.
    pub(super) fn draw(&self, salt: u64, n: usize) -> usize {
        self.pen.draw(salt, n)
    }

    /// A draw that walks on with each variation; see [`Pen::walk`].
    pub(super) fn walk(&self, salt: u64, n: usize) -> usize {
        self.pen.walk(salt, n)
    }

    /// Says one unused phrasing of a bank; see [`Pen::say`].
    pub(super) fn say(&mut self, bank: Bank, vars: &[Var<'_>]) -> Option<String> {
        self.pen.say(bank, vars)
    }

    /// Says one unused line; see [`Pen::pick`].
    pub(super) fn pick(&mut self, lines: &'static [&'static str], vars: &[Var<'_>]) -> Option<String> {
        self.pen.pick(lines, vars)
    }

    /// The continent that the place stands on.
    pub(super) fn continent(&self) -> &'a str {
        continent(self.f)
    }

    /// True once for a topic: whether it is new, and from now on told.
    pub(super) fn fresh(&mut self, topics: u64) -> bool {
        let new = self.told & topics == 0;
        self.told |= topics;
        new
    }

    /// True once for a place: whether its distance is new, and from now on told.
    pub(super) fn meet(&mut self, place: &PlaceFacts<'_>) -> bool {
        let new = place.id != self.f.place.id && !self.places.contains(&place.id);
        if new {
            self.places.push(place.id);
        }
        new
    }

    /// Whether the distance to a place has been told.
    pub(super) fn met(&self, place: &PlaceFacts<'_>) -> bool {
        self.places.contains(&place.id)
    }

    /// A distance, hedged: both units the first two times and every fourth after.
    pub(super) fn far(&mut self, km: f64) -> String {
        let n = self.distances;
        self.distances += 1;
        if km < 0.95 {
            return "less than a kilometre".to_owned();
        }
        let hedge = match n % 3 {
            0 => "about",
            1 => "some",
            _ => "roughly",
        };
        if n < 2 || n % 4 == 3 {
            format!("{hedge} {}", words::both(km))
        } else {
            format!("{hedge} {}", words::kilometres(km))
        }
    }

    /// Another place, said so that a listener knows where: "Lyon", "Geneva in Switzerland", "Springfield in Missouri".
    /// The second part is marked, because it is dropped where the place has come up before; only the finished story
    /// knows the order.
    pub(super) fn called(&self, place: &PlaceFacts<'_>) -> String {
        let here = &self.f.place;
        let whereabouts = if place.country_code != here.country_code {
            if place.name == place.country {
                String::new()
            } else {
                words::land(place.country)
            }
        } else if place.name == here.name && place.region != place.name {
            words::region(place.region)
        } else {
            String::new()
        };
        if whereabouts.is_empty() {
            return place.name.to_owned();
        }
        format!("{NAME}{}{WHERE} in {whereabouts}{END}", place.name)
    }

    /// The nearest places whose distance has not been told, up to `n`.
    pub(super) fn unmet_near(&self, n: usize) -> Vec<Neighbour<'a>> {
        self.f
            .near
            .iter()
            .filter(|near| !self.met(&near.place) && near.place.name != self.f.place.name)
            .take(n)
            .copied()
            .collect()
    }
}

/// Whether English puts "an" before a name.
fn vowel(name: &str) -> bool {
    name.chars()
        .next()
        .is_some_and(|c| "AEIOUÀÁÂÄÅÆÈÉÊËÌÍÎÏÒÓÔÖØÙÚÛÜĀĒĪŌŪ".contains(c))
        && !name.starts_with("Eu")
}

/// The continent that the place stands on, where its country lies on two: geography, coarsely drawn.
fn continent<'g>(f: &Facts<'g>) -> &'g str {
    let (lat, lng) = (f.place.lat, f.place.lng);
    match f.place.country_code {
        // Behind the Urals.
        "RU" if !(-100.0..=60.0).contains(&lng) => "Asia",
        // Thrace and Gallipoli.
        "TR" if (lat > 40.97 && lng < 29.0) || (lat > 40.35 && lng < 27.3) => "Europe",
        // Sinai.
        "EG" if lng > 32.6 && lat < 31.4 && lat > 27.7 => "Asia",
        // Hawaii; Easter Island.
        "US" if lng < -154.0 && lat < 30.0 => "Oceania",
        "CL" if lng < -100.0 => "Oceania",
        _ => f.country.continent,
    }
}
