//! From a place of the gazetteer to all that is true of it.

use super::super::gazetteer::{Gazetteer, PlaceId, geo};
use super::{AskedPoint, Compass, Facts, Neighbour, sky};

/// Lists of neighbours and other names end here.
const NEAR_MAX: usize = 8;
const ABROAD_MAX: usize = 3;
const LATITUDE_MAX: usize = 4;
const NAMESAKES_MAX: usize = 4;

/// Farther than a day's drive nothing is near.
const NEAR_KM: f64 = 300.0;
const ABROAD_KM: f64 = 600.0;
/// Far enough to be another part of the world.
const FAR_KM: f64 = 2000.0;
/// Places of one name closer than this are one place listed twice, or a place and its surroundings.
const SAME_PLACE_KM: f64 = 10.0;

/// So many places are scanned faster than the cells around a remote one are walked.
const SCAN_MAX: u32 = 4000;

const METROPOLIS: u32 = 1_000_000;
/// From how many inhabitants and other names on a place counts as well known.
const WELL_KNOWN: u32 = 250_000;
const WELL_KNOWN_NAMES: u8 = 30;

/// Inhabitants on a square kilometre of a city: turns inhabitants into the radius within which other listed places
/// are its parts. The build script uses the same figure.
const DENSITY: f64 = 5000.0;
const CITY_RADIUS_KM_MAX: f64 = 25.0;

impl Gazetteer {
    /// All that may be said of a place. `asked_point` is none; see [`Facts::seen_from`].
    pub fn facts(&self, id: PlaceId) -> Facts<'_> {
        let here = self.point(id);
        let place = self.place(id);
        let (country, capital) = self.country_of(id);
        let (rank_in_country, rank_in_region) = self.ranks(id);
        let (timezone, utc_offset_minutes) = self.zone(id);
        Facts {
            place,
            country: self.country(country),
            is_capital: capital == Some(id),
            rank_in_country: Some(rank_in_country).filter(|&rank| rank > 0),
            rank_in_region: Some(rank_in_region).filter(|&rank| rank > 0),
            places_in_region: self.region(id).map_or(0, |region| self.places_in_region(region)),
            other_names: self.other_names(id),
            near: self.near(id),
            nearest_larger: self.nearest_larger(id),
            nearest_metropolis: self.nearest_metropolis(id),
            to_capital: capital
                .filter(|&capital| capital != id)
                .map(|capital| self.neighbour(here, capital)),
            across_borders: self.across_borders(id),
            same_latitude: self.same_latitude(id),
            namesakes: self.namesakes(id),
            antipode: self.antipode(id),
            equator_km: here.0.abs() * geo::KM_PER_DEGREE,
            pole_km: (90.0 - here.0.abs()) * geo::KM_PER_DEGREE,
            timezone,
            utc_offset_minutes,
            daylight: sky::daylight(here.0, here.1, utc_offset_minutes),
            asked_point: None,
        }
    }

    fn neighbour(&self, from: (f64, f64), id: PlaceId) -> Neighbour<'_> {
        let to = self.point(id);
        Neighbour {
            place: self.place(id),
            km: geo::distance_km(from, to),
            direction: Compass::from_degrees(geo::bearing_degrees(from, to)),
        }
    }

    fn near(&self, id: PlaceId) -> Vec<Neighbour<'_>> {
        let here = self.point(id);
        let own = self.place(id).name;
        let radius = (f64::from(self.population(id)) / (DENSITY * std::f64::consts::PI))
            .sqrt()
            .min(CITY_RADIUS_KM_MAX);
        let home = (self.country_of(id).0, self.region(id));
        let mut nearest: Vec<(f64, PlaceId)> = Vec::with_capacity(NEAR_MAX + 1);
        self.around(
            here,
            NEAR_KM,
            |other| other != id && !self.is_part(other),
            |other, km| {
                let reach = match nearest.last() {
                    Some(&(km, _)) if nearest.len() == NEAR_MAX => km,
                    _ => NEAR_KM,
                };
                if km > reach {
                    return reach;
                }
                // What lies within its own disc is it, unless it is the larger one (a borough's city is near it).
                // Hamlets deep inside it are too, whatever region they are listed under.
                let within = km < radius
                    && self.population(other) < self.population(id)
                    && ((self.country_of(other).0, self.region(other)) == home
                        || (km < radius / 2.0
                            && self.country_of(other).0 == home.0
                            && self.population(other) < self.population(id) / 100));
                if within || (km < SAME_PLACE_KM && self.place(other).name == own) {
                    return reach;
                }
                let at = nearest.partition_point(|&(nearer, _)| nearer <= km);
                nearest.insert(at, (km, other));
                nearest.truncate(NEAR_MAX);
                if nearest.len() == NEAR_MAX {
                    nearest.last().map_or(NEAR_KM, |&(km, _)| km)
                } else {
                    NEAR_KM
                }
            },
        );
        nearest
            .into_iter()
            .map(|(_, other)| self.neighbour(here, other))
            .collect()
    }

    fn nearest_larger(&self, id: PlaceId) -> Option<Neighbour<'_>> {
        let population = self.population(id);
        if id.0 < SCAN_MAX {
            // The larger ones are few, and may lie half a world away.
            return self.nearest_from(id, population.saturating_add(1));
        }
        let here = self.point(id);
        // Places are sorted by inhabitants: only an earlier one can be larger.
        let larger = |other: PlaceId| other < id && self.population(other) > population && !self.is_part(other);
        self.nearest_where(here, larger)
            .map(|(other, _)| self.neighbour(here, other))
    }

    fn nearest_metropolis(&self, id: PlaceId) -> Option<Neighbour<'_>> {
        self.nearest_from(id, METROPOLIS)
    }

    /// The nearest other place with so many inhabitants, boroughs left out.
    fn nearest_from(&self, id: PlaceId, inhabitants: u32) -> Option<Neighbour<'_>> {
        let here = self.point(id);
        let mut best: Option<(f64, PlaceId)> = None;
        for other in self.places().take_while(|&other| self.population(other) >= inhabitants) {
            let there = self.point(other);
            if best.is_some_and(|(least, _)| geo::is_beyond(here, there, least)) {
                continue;
            }
            let km = geo::distance_km(here, there);
            if other != id && !self.is_part(other) && best.is_none_or(|(least, _)| km < least) {
                best = Some((km, other));
            }
        }
        best.map(|(_, other)| self.neighbour(here, other))
    }

    fn across_borders(&self, id: PlaceId) -> Vec<Neighbour<'_>> {
        let here = self.point(id);
        let home = self.country_of(id).0;
        let mut nearest: Vec<(f64, usize, PlaceId)> = Vec::new();
        let abroad = |other| self.country_of(other).0 != home && !self.is_part(other);
        self.around(here, ABROAD_KM, abroad, |other, km| {
            let country = self.country_of(other).0;
            if km <= ABROAD_KM {
                match nearest.iter_mut().find(|(_, there, _)| *there == country) {
                    Some(entry) if km < entry.0 => *entry = (km, country, other),
                    Some(_) => {}
                    None => nearest.push((km, country, other)),
                }
                nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
                nearest.truncate(ABROAD_MAX);
            }
            if nearest.len() == ABROAD_MAX {
                nearest.last().map_or(ABROAD_KM, |&(km, ..)| km)
            } else {
                ABROAD_KM
            }
        });
        nearest
            .into_iter()
            .map(|(_, _, other)| self.neighbour(here, other))
            .collect()
    }

    fn same_latitude(&self, id: PlaceId) -> Vec<Neighbour<'_>> {
        let here = self.point(id);
        let mut countries = vec![self.country_of(id).0];
        let mut found = Vec::new();
        for other in self.places().take_while(|&other| self.population(other) >= WELL_KNOWN) {
            let there = self.point(other);
            let country = self.country_of(other).0;
            // One for each country: four cities of one plain would say less.
            if (there.0 - here.0).abs() <= 1.0
                && !countries.contains(&country)
                && self.names(other) >= WELL_KNOWN_NAMES
                && !self.is_part(other)
                && geo::distance_km(here, there) > FAR_KM
            {
                countries.push(country);
                found.push(self.neighbour(here, other));
                if found.len() == LATITUDE_MAX {
                    break;
                }
            }
        }
        found
    }

    fn namesakes(&self, id: PlaceId) -> Vec<Neighbour<'_>> {
        let here = self.point(id);
        let key = self.key(self.place(id).name);
        let mut same: Vec<PlaceId> = self
            .named(&key)
            .filter(|&other| other != id && self.key(self.place(other).name) == key)
            .filter(|&other| geo::distance_km(here, self.point(other)) > SAME_PLACE_KM)
            .collect();
        same.sort_unstable();
        same.truncate(NAMESAKES_MAX);
        same.into_iter().map(|other| self.neighbour(here, other)).collect()
    }

    fn antipode(&self, id: PlaceId) -> Option<Neighbour<'_>> {
        let there = geo::antipode(self.point(id));
        self.nearest(there.0, there.1)
            .map(|(other, _)| self.neighbour(there, other))
    }
}

impl Compass {
    /// The wind of a bearing in degrees clockwise from north; any finite figure will do.
    pub fn from_degrees(bearing: f64) -> Self {
        let winds = [
            Self::NorthEast,
            Self::East,
            Self::SouthEast,
            Self::South,
            Self::SouthWest,
            Self::West,
            Self::NorthWest,
        ];
        let turned = bearing.rem_euclid(360.0);
        let mut edge = 22.5;
        let mut wind = Self::North;
        for next in winds {
            if turned >= edge {
                wind = next;
            }
            edge += 45.0;
        }
        if turned >= 337.5 { Self::North } else { wind }
    }
}

impl Facts<'_> {
    /// The same facts with the traveller's own point, seen from the place it was resolved to.
    #[must_use]
    pub fn seen_from(mut self, lat: f64, lng: f64, name: Option<String>) -> Self {
        let place = (self.place.lat, self.place.lng);
        self.asked_point = geo::on_the_globe(lat, lng).then(|| AskedPoint {
            lat,
            lng,
            name,
            km: geo::distance_km(place, (lat, lng)),
            direction: Compass::from_degrees(geo::bearing_degrees(place, (lat, lng))),
        });
        self
    }
}
