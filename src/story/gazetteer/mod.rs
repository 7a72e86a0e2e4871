//! Real places, embedded: some 66 000 places of GeoNames with their names in many tongues, found by name or by point.
//!
//! Called by the narrator and by whatever resolves a request's location. The data file is built by `data/build.py`
//! (layout in `data/layout.md`, licence in `data/NOTICE`) and read where it lies in the executable: nothing is parsed,
//! unpacked or allocated at start. Deliberately absent: streets and sights, elevation, anything that would need the
//! network, and every fact that is not in GeoNames or pure geometry.
//!
//! How a name is understood ([`Gazetteer::find`]):
//! - Case, accents, apostrophes and punctuation do not matter; "St." is "Saint", "Mt" "Mount", "Ft" "Fort".
//! - Any name that GeoNames lists counts: "NYC", "SF", "München", "東京". A place's own name weighs more than a name
//!   by which it is also known, so "York" is the English city and not the Toronto of old.
//! - Among homonyms the most prominent wins: inhabitants times the number of tongues that have a name for the place,
//!   doubled for capitals. A qualifier decides otherwise: "Paris, Texas", "Springfield IL", "Cordoba, Spain",
//!   "Springfield, Illinois, USA". After a comma a US state's code goes before a country's ("CA").
//! - A country resolves to its capital, a region to its largest place, unless a city of that name is more likely
//!   meant: "New York" is the city, "California" Los Angeles, "Georgia" Tbilisi and "Georgia, USA" Atlanta.
//! - Slips of the keys are forgiven in Latin letters where nothing matches exactly: one edit from four letters on,
//!   two from eight on; the shorter the name or the worse the slip, the larger a place must be to be thought meant.
//! - Something unknown "in" a known place ("Eiffel Tower, Paris") is answered with the place, as close.
//! - All else is unknown.

mod find;
mod fold;
pub(crate) mod geo;
mod grid;
mod reader;
mod slips;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use self::fold::Folder;
use self::grid::Grid;
use self::reader::{TABLES, Table, text_at, u8_at, u16_at, u24_at, u32_at, u64_at};
use super::facts::PlaceFacts;

static FILE: &[u8] = include_bytes!("data/gazetteer.bin");

/// Bytes of one place.
const PLACE: usize = 36;
/// Bytes of one country.
const COUNTRY: usize = 42;
/// Bytes of one region.
const REGION: usize = 8;
/// Bytes of one time zone.
const ZONE: usize = 5;
/// "No such place" in three bytes.
const NO_PLACE: u32 = 0xFF_FFFF;
/// "No such region".
const NO_REGION: u16 = 0xFFFF;

/// A place of the gazetteer: an index, smaller for more inhabitants. Valid for this build of the data only, so it is
/// never stored; [`PlaceFacts::id`] is what lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceId(pub(super) u32);

/// What a name led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The name is the place's, or its country's or region's.
    Exact(PlaceId),
    /// Nothing is called that; this is the likeliest place to be meant.
    Close {
        /// The place.
        id: PlaceId,
        /// The place's name as it would have been right: one that GeoNames gives it, or of its country or region.
        matched: String,
    },
    /// No place is known by anything like it.
    Unknown,
}

/// The embedded places. Reads in place; cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Gazetteer {
    strings: Table,
    places: Table,
    alternates: Table,
    countries: Table,
    regions: Table,
    zones: Table,
    grid: Grid,
    names: Table,
    qualifiers: Table,
    slips: Table,
    folder: Folder,
}

impl Gazetteer {
    /// The gazetteer of this executable. The first call checks the header; later calls cost a load.
    pub fn embedded() -> &'static Self {
        static EMBEDDED: OnceLock<Gazetteer> = OnceLock::new();
        // The file is part of the executable; tests prove that its header is right, so the empty one is never seen.
        EMBEDDED.get_or_init(|| Self::over(reader::tables(FILE).unwrap_or([&[]; TABLES])))
    }

    fn over(tables: [Table; TABLES]) -> Self {
        let [
            strings,
            places,
            alternates,
            countries,
            regions,
            zones,
            cells,
            members,
            names,
            qualifiers,
            slips,
            table,
            text,
        ] = tables;
        let grid = Grid { cells, members };
        let folder = Folder { table, text };
        Self {
            strings,
            places,
            alternates,
            countries,
            regions,
            zones,
            grid,
            names,
            qualifiers,
            slips,
            folder,
        }
    }

    /// How many places it knows.
    pub fn len(&self) -> usize {
        self.places.len() / PLACE
    }

    /// It knows none. Never so in a good build.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whom to thank for the data, as its licence (CC BY 4.0) asks.
    pub fn attribution() -> &'static str {
        "Place data from GeoNames (https://www.geonames.org), CC BY 4.0, selected and rearranged"
    }

    /// The place of that name; see the head of this module for how a name is understood. Never panics.
    pub fn find(&self, text: &str) -> Found {
        find::find(self, text)
    }

    /// The place nearest to a point, and how many kilometres away; none where the point is not on the globe.
    pub fn nearest(&self, lat: f64, lng: f64) -> Option<(PlaceId, f64)> {
        if !geo::on_the_globe(lat, lng) {
            return None;
        }
        self.nearest_where((lat, lng), |_| true)
    }

    /// The place as the narrator names and counts it.
    pub fn place(&self, id: PlaceId) -> PlaceFacts<'_> {
        let at = self.at(id);
        let (lat, lng) = self.point(id);
        let (country, _) = self.country_of(id);
        PlaceFacts {
            id: u32_at(self.places, at),
            name: self.text(u24_at(self.places, at + 16)),
            region: self
                .region(id)
                .map_or("", |region| self.text(u24_at(self.regions, region * REGION))),
            country_code: self.code(country),
            country: self.text(u24_at(self.countries, country * COUNTRY + 2)),
            lat,
            lng,
            population: self.population(id),
        }
    }

    /// Every place, most populous first.
    pub fn places(&self) -> impl Iterator<Item = PlaceId> + use<> {
        (0..u32::try_from(self.len()).unwrap_or(0)).map(PlaceId)
    }

    fn at(&self, id: PlaceId) -> usize {
        (id.0 as usize).saturating_mul(PLACE)
    }

    fn text(&self, at: u32) -> &'static str {
        text_at(self.strings, at as usize)
    }

    fn code(&self, country: usize) -> &'static str {
        let at = country * COUNTRY;
        self.countries
            .get(at..at + 2)
            .and_then(|raw| std::str::from_utf8(raw).ok())
            .unwrap_or("")
    }

    /// Degrees north and east.
    pub(super) fn point(&self, id: PlaceId) -> (f64, f64) {
        let at = self.at(id);
        let degrees = |at| f64::from(u32_at(self.places, at).cast_signed()) / 1e5;
        (degrees(at + 4), degrees(at + 8))
    }

    /// Inhabitants; 0 where unknown.
    pub(super) fn population(&self, id: PlaceId) -> u32 {
        u32_at(self.places, self.at(id) + 12)
    }

    /// Up to eight other names, most telling first.
    pub(super) fn other_names(&self, id: PlaceId) -> Vec<&'static str> {
        let at = u24_at(self.places, self.at(id) + 19) as usize;
        let count = usize::from(u8_at(self.alternates, at));
        (0..count)
            .map(|i| self.text(u24_at(self.alternates, at + 1 + 3 * i)))
            .collect()
    }

    /// Rank by inhabitants in the country and in the region; 0 where it has none.
    pub(super) fn ranks(&self, id: PlaceId) -> (u32, u32) {
        let at = self.at(id);
        (u24_at(self.places, at + 22), u24_at(self.places, at + 25))
    }

    /// Index of the region, where it has a name.
    pub(super) fn region(&self, id: PlaceId) -> Option<usize> {
        Some(u16_at(self.places, self.at(id) + 28))
            .filter(|&region| region != NO_REGION)
            .map(usize::from)
    }

    /// How many names GeoNames has for it, 255 or more as 255: how widely it is known.
    pub(super) fn names(&self, id: PlaceId) -> u8 {
        u8_at(self.places, self.at(id) + 34)
    }

    /// Places that the ranks of a region count.
    pub(super) fn places_in_region(&self, region: usize) -> u32 {
        u24_at(self.regions, region * REGION + 3)
    }

    /// IANA time zone and its standard offset in minutes east of UTC.
    pub(super) fn zone(&self, id: PlaceId) -> (&'static str, i32) {
        let at = usize::from(u16_at(self.places, self.at(id) + 30)) * ZONE;
        (
            self.text(u24_at(self.zones, at)),
            i32::from(u16_at(self.zones, at + 3).cast_signed()),
        )
    }

    /// Index of the country, and its capital.
    pub(super) fn country_of(&self, id: PlaceId) -> (usize, Option<PlaceId>) {
        let country = usize::from(u8_at(self.places, self.at(id) + 32));
        let capital = u24_at(self.countries, country * COUNTRY + 17);
        (country, Some(PlaceId(capital)).filter(|_| capital != NO_PLACE))
    }

    /// GeoNames lists it beside the city it is a borough or quarter of.
    pub(super) fn is_part(&self, id: PlaceId) -> bool {
        u8_at(self.places, self.at(id) + 33) & 2 != 0
    }

    /// What is true of a country.
    pub(super) fn country(&self, country: usize) -> super::facts::CountryFacts<'static> {
        let at = country * COUNTRY;
        let text = |slot: usize| self.text(u24_at(self.countries, at + 2 + 3 * slot));
        let list = u24_at(self.countries, at + 20) as usize;
        let neighbours = (0..usize::from(u8_at(self.alternates, list)))
            .map(|i| usize::from(u8_at(self.alternates, list + 1 + i)))
            .map(|other| self.text(u24_at(self.countries, other * COUNTRY + 2)))
            .collect();
        super::facts::CountryFacts {
            name: text(0),
            code: self.code(country),
            capital: text(1),
            continent: text(2),
            currency: text(3),
            phone: text(4),
            population: u64_at(self.countries, at + 26),
            area_km2: f64::from(u32_at(self.countries, at + 34)),
            neighbours,
            places: u24_at(self.countries, at + 23),
        }
    }

    /// Places around a point that `wanted` takes, with their distances in kilometres; see [`Grid::around`]. Who is surely
    /// beyond the reach is not visited, others beyond it may be.
    pub(super) fn around(
        &self,
        point: (f64, f64),
        reach_km: f64,
        wanted: impl Fn(PlaceId) -> bool,
        mut visit: impl FnMut(PlaceId, f64) -> f64,
    ) {
        let mut reach = reach_km;
        self.grid.around(point.0, point.1, reach_km, |index| {
            let id = PlaceId(index);
            let there = self.point(id);
            if !geo::is_beyond(point, there, reach) && wanted(id) {
                reach = visit(id, geo::distance_km(point, there));
            }
            reach
        });
    }

    /// The nearest place that `wanted` takes. Looks in wider and wider rings, so that an empty sea costs cells, not
    /// places.
    pub(super) fn nearest_where(&self, point: (f64, f64), wanted: impl Fn(PlaceId) -> bool) -> Option<(PlaceId, f64)> {
        // The last ring is more than half the way round the globe.
        [60.0, 240.0, 960.0, 3840.0, 20_100.0].into_iter().find_map(|ring| {
            let mut best: Option<(PlaceId, f64)> = None;
            self.around(point, ring, &wanted, |id, km| {
                if km <= ring && best.is_none_or(|(_, least)| km < least) {
                    best = Some((id, km));
                }
                best.map_or(ring, |(_, least)| least)
            });
            best
        })
    }

    /// The key a name is found by.
    pub(super) fn key(&self, name: &str) -> String {
        self.folder.key(name)
    }

    /// Places that have a name with this key, likeliest first.
    pub(super) fn named(&self, key: &str) -> impl Iterator<Item = PlaceId> + use<> {
        let names = self.names;
        let hash = fold::hash40(key);
        let bucket = (hash >> 24) as usize * 3;
        let start = u24_at(names, bucket) as usize;
        let count = (u24_at(names, bucket + 3) as usize).saturating_sub(start);
        let rest = u32::try_from(hash & 0xFF_FFFF).unwrap_or(0);
        let entry = move |i: usize| find::BUCKETS + 6 * (start + i);
        let first = reader::lower_bound(count, |i| u24_at(names, entry(i)) < rest);
        (first..count)
            .take_while(move |&i| u24_at(names, entry(i)) == rest)
            .map(move |i| PlaceId(u24_at(names, entry(i) + 3)))
    }
}
