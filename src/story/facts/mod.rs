//! What is true of a place: everything the narrator may say, computed from the gazetteer, nothing invented.
//!
//! Pure arithmetic over [`gazetteer`](super::gazetteer) data; the same place gives the same facts. Distances are
//! great-circle kilometres on a sphere of 6371.0088 km (IUGG mean radius); bearings are initial bearings.

mod compute;
mod sky;
#[cfg(test)]
mod tests;

/// One of the eight winds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compass {
    /// 337.5 to 22.5 degrees.
    North,
    /// 22.5 to 67.5 degrees.
    NorthEast,
    /// 67.5 to 112.5 degrees.
    East,
    /// 112.5 to 157.5 degrees.
    SouthEast,
    /// 157.5 to 202.5 degrees.
    South,
    /// 202.5 to 247.5 degrees.
    SouthWest,
    /// 247.5 to 292.5 degrees.
    West,
    /// 292.5 to 337.5 degrees.
    NorthWest,
}

/// A place, as the narrator needs to name and count it. Text borrows from the embedded gazetteer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlaceFacts<'g> {
    /// GeoNames id.
    pub id: u32,
    /// Its GeoNames name, in Latin letters with its diacritics.
    pub name: &'g str,
    /// First-order division (state, province, region) in English; empty where unknown.
    pub region: &'g str,
    /// ISO 3166-1 alpha-2.
    pub country_code: &'g str,
    /// The country's English name ("United States", "Netherlands": without article).
    pub country: &'g str,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lng: f64,
    /// Inhabitants by GeoNames; 0 where unknown.
    pub population: u32,
}

/// Another place seen from this one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour<'g> {
    /// The other place.
    pub place: PlaceFacts<'g>,
    /// Great-circle kilometres.
    pub km: f64,
    /// In which direction it lies from here.
    pub direction: Compass,
}

/// What is true of the country.
#[derive(Debug, Clone, PartialEq)]
pub struct CountryFacts<'g> {
    /// English name.
    pub name: &'g str,
    /// ISO 3166-1 alpha-2.
    pub code: &'g str,
    /// Name of the capital; empty where there is none.
    pub capital: &'g str,
    /// English name of the continent.
    pub continent: &'g str,
    /// English name of the currency ("Dollar"); empty where unknown.
    pub currency: &'g str,
    /// Inhabitants; 0 where unknown.
    pub population: u64,
    /// Square kilometres; 0 where unknown.
    pub area_km2: f64,
    /// English names of the countries that share a land border.
    pub neighbours: Vec<&'g str>,
    /// Telephone prefix without plus ("1", "44"); empty where unknown.
    pub phone: &'g str,
    /// How many places GeoNames lists in it (of 500 inhabitants or more, parts of cities left out): what the ranks
    /// count.
    pub places: u32,
}

/// Length of the day and place of the sun, from latitude and longitude (NOAA's sunrise equation, refraction
/// -0.833 degrees).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Daylight {
    /// Minutes from sunrise to sunset at the June solstice; 1440 where the sun does not set, 0 where it does not rise.
    pub june_minutes: u32,
    /// The same at the December solstice.
    pub december_minutes: u32,
    /// Height of the noon sun above the horizon at the June solstice, degrees; negative below it.
    pub june_noon_degrees: f64,
    /// The same at the December solstice.
    pub december_noon_degrees: f64,
    /// Standard-time clock at mean solar noon, minutes after midnight (720 is 12:00).
    pub solar_noon_minutes: u32,
}

/// All that the narrator may say about a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts<'g> {
    /// The place itself.
    pub place: PlaceFacts<'g>,
    /// Its country.
    pub country: CountryFacts<'g>,
    /// It is the country's capital.
    pub is_capital: bool,
    /// 1 for the most populous place of its country; none where its population is unknown or it is a part of a city.
    pub rank_in_country: Option<u32>,
    /// 1 for the most populous place of its region; none where region or population is unknown or it
    /// is a part of a city.
    pub rank_in_region: Option<u32>,
    /// How many places GeoNames lists in its region, counted like [`CountryFacts::places`]; 0 where the region is
    /// unknown.
    pub places_in_region: u32,
    /// Up to eight of its other names, most telling first (other scripts and languages), never the name itself.
    pub other_names: Vec<&'g str>,
    /// Up to eight nearest places (parts of the same city left out), nearest first.
    pub near: Vec<Neighbour<'g>>,
    /// The nearest place with more inhabitants.
    pub nearest_larger: Option<Neighbour<'g>>,
    /// The nearest place of at least a million inhabitants, unless it is this one.
    pub nearest_metropolis: Option<Neighbour<'g>>,
    /// The capital of its country, unless it is this one.
    pub to_capital: Option<Neighbour<'g>>,
    /// The nearest place in each of up to three other countries, nearest first, within 600 km.
    pub across_borders: Vec<Neighbour<'g>>,
    /// Up to four well-known places within a degree of its latitude on other continents or far away (over 2000 km),
    /// most populous first.
    pub same_latitude: Vec<Neighbour<'g>>,
    /// Up to four other places of the same name, most populous first.
    pub namesakes: Vec<Neighbour<'g>>,
    /// The known place nearest to its antipode, with the distance from the antipode.
    pub antipode: Option<Neighbour<'g>>,
    /// Kilometres from the equator.
    pub equator_km: f64,
    /// Kilometres from the nearer pole.
    pub pole_km: f64,
    /// IANA time zone.
    pub timezone: &'g str,
    /// Minutes east of UTC in standard time.
    pub utc_offset_minutes: i32,
    /// Day length and sun.
    pub daylight: Daylight,
    /// The traveller's own point and name for it, where a point was asked: the point seen from the place, with the
    /// traveller's name for it.
    pub asked_point: Option<AskedPoint>,
}

/// A point that the traveller gave, seen from the place it was resolved to.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedPoint {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lng: f64,
    /// The traveller's name for it.
    pub name: Option<String>,
    /// Kilometres from the place to the point.
    pub km: f64,
    /// Direction of the point from the place.
    pub direction: Compass,
}
