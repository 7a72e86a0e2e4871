//! Facts against truths known from elsewhere.

use super::*;
use crate::story::gazetteer::{Found, Gazetteer, PlaceId, geo};

#[track_caller]
fn id(name: &str) -> PlaceId {
    match Gazetteer::embedded().find(name) {
        Found::Exact(id) => id,
        other => panic!("{name}: {other:?}"),
    }
}

#[track_caller]
fn facts(name: &str) -> Facts<'static> {
    Gazetteer::embedded().facts(id(name))
}

fn names<'a>(list: &'a [Neighbour<'_>]) -> Vec<&'a str> {
    list.iter().map(|neighbour| neighbour.place.name).collect()
}

#[test]
fn san_francisco() {
    let facts = facts("San Francisco");
    assert_eq!(
        (facts.place.id, facts.country.code, facts.is_capital),
        (5_391_959, "US", false)
    );
    let near = names(&facts.near);
    assert!(near.contains(&"Daly City") && near.contains(&"Oakland"), "{near:?}");
    assert!(
        !near.contains(&"Mission District") && !near.contains(&"Sunset District"),
        "{near:?}"
    );
    assert_eq!(facts.near.len(), 8);
    assert!(facts.near.is_sorted_by(|a, b| a.km <= b.km));
    let larger = facts.nearest_larger.unwrap();
    assert_eq!((larger.place.name, larger.direction), ("San Jose", Compass::SouthEast));
    let capital = facts.to_capital.unwrap();
    assert!(
        (capital.km - 3930.0).abs() < 20.0 && capital.direction == Compass::East,
        "{capital:?}"
    );
    assert_eq!(
        (facts.timezone, facts.utc_offset_minutes),
        ("America/Los_Angeles", -480)
    );
    assert!(
        (facts.daylight.solar_noon_minutes as i32 - 730).abs() <= 1,
        "{:?}",
        facts.daylight
    );
    assert!(
        facts.other_names.contains(&"旧金山")
            || facts.other_names.contains(&"三藩市")
            || facts.other_names.contains(&"舊金山")
    );
    assert!(
        facts.namesakes.iter().all(|other| other.place.name == "San Francisco"),
        "{:?}",
        names(&facts.namesakes)
    );
    assert_eq!(facts.namesakes.len(), 4);
    assert!(facts.across_borders.iter().all(|other| other.km <= 600.0));
}

#[test]
fn distances_and_bearings() {
    let there = Gazetteer::embedded().place(id("Los Angeles"));
    let seen = facts("San Francisco").seen_from(there.lat, there.lng, Some("the city of angels".to_owned()));
    let point = seen.asked_point.unwrap();
    assert!(
        (point.km - 559.0).abs() < 2.0 && point.direction == Compass::SouthEast,
        "{point:?}"
    );
    assert_eq!(facts("London").seen_from(f64::NAN, 0.0, None).asked_point, None);
    for (degrees, wind) in [
        (0.0, Compass::North),
        (22.4, Compass::North),
        (22.5, Compass::NorthEast),
        (67.5, Compass::East),
        (135.0, Compass::SouthEast),
        (180.0, Compass::South),
        (225.0, Compass::SouthWest),
        (270.0, Compass::West),
        (315.0, Compass::NorthWest),
        (337.4, Compass::NorthWest),
        (337.5, Compass::North),
        (-90.0, Compass::West),
    ] {
        assert_eq!(Compass::from_degrees(degrees), wind, "{degrees}");
    }
}

#[test]
fn daylight() {
    // London's longest day: 16 h 38 min; its shortest: 7 h 50 min.
    let london = facts("London").daylight;
    assert!((997..=1000).contains(&london.june_minutes), "{london:?}");
    assert!((469..=472).contains(&london.december_minutes), "{london:?}");
    assert!((london.june_noon_degrees - 61.93).abs() < 0.1, "{london:?}");
    // Quito: twelve hours and seven minutes all year, the sun 23 degrees off the zenith.
    let quito = facts("Quito");
    assert!(
        (726..=728).contains(&quito.daylight.june_minutes) && (726..=728).contains(&quito.daylight.december_minutes)
    );
    assert!(quito.equator_km < 30.0, "{}", quito.equator_km);
    let tromso = facts("Tromsø").daylight;
    assert_eq!((tromso.june_minutes, tromso.december_minutes), (1440, 0));
    assert!(tromso.december_noon_degrees < 0.0);
    // Reykjavík lies south of the circle: 21 h 8 min, and 4 h 7 min.
    let reykjavik = facts("Reykjavik").daylight;
    assert!((1264..=1272).contains(&reykjavik.june_minutes), "{reykjavik:?}");
    assert!((244..=252).contains(&reykjavik.december_minutes), "{reykjavik:?}");
    for (lat, june, december) in [(90.0, 1440, 0), (-90.0, 0, 1440), (89.999, 1440, 0)] {
        let pole = sky::daylight(lat, 0.0, 0);
        assert_eq!((pole.june_minutes, pole.december_minutes), (june, december), "{lat}");
    }
    assert_eq!(sky::daylight(0.0, 180.0, 720).solar_noon_minutes, 720);
    assert_eq!(sky::daylight(0.0, -180.0, 720).solar_noon_minutes, 720);
}

#[test]
fn capitals_and_countries() {
    let paris = facts("Paris");
    assert!(
        paris.is_capital && paris.to_capital.is_none() && paris.rank_in_country == Some(1),
        "{paris:?}"
    );
    assert_eq!(
        (paris.country.capital, paris.country.continent, paris.country.currency),
        ("Paris", "Europe", "Euro")
    );
    assert!(paris.country.neighbours.contains(&"Spain") && paris.country.neighbours.contains(&"Germany"));
    assert_eq!(paris.country.phone, "33");
    assert!((paris.country.area_km2 - 547_030.0).abs() < 1.0);
    let lyon = facts("Lyon");
    assert_eq!(
        (lyon.place.region, lyon.rank_in_region),
        ("Auvergne-Rhône-Alpes", Some(1))
    );
    assert_eq!(lyon.to_capital.unwrap().place.name, "Paris");
    assert_eq!(lyon.across_borders.first().map(|n| n.place.country_code), Some("CH"));
    assert_eq!(facts("Rotterdam").country.name, "Netherlands");
    let vatican = facts("Vatican City");
    assert!(
        vatican.is_capital && vatican.country.neighbours == ["Italy"],
        "{vatican:?}"
    );
    assert_eq!(vatican.across_borders.first().map(|n| n.place.country_code), Some("IT"));
    assert_eq!(facts("Chicago").rank_in_country, Some(3));
    let gazetteer = Gazetteer::embedded();
    let capitals = gazetteer
        .places()
        .filter(|&id| gazetteer.country_of(id).1 == Some(id))
        .count();
    assert!((235..=250).contains(&capitals), "{capitals}");
}

#[test]
fn other_names_lead_with_the_local_one() {
    for (asked, first) in [
        ("Munich", "München"),
        ("Prague", "Praha"),
        ("Tokyo", "東京"),
        ("Moscow", "Москва"),
    ] {
        assert_eq!(facts(asked).other_names.first(), Some(&first), "{asked}");
    }
    // Machine transliterations are searched, not shown.
    for id in Gazetteer::embedded().places().take(3000) {
        for name in Gazetteer::embedded().facts(id).other_names {
            assert!(!name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        }
    }
}

#[test]
fn the_other_side_of_the_globe() {
    let madrid = facts("Madrid").antipode.unwrap();
    assert_eq!(madrid.place.country_code, "NZ", "{madrid:?}");
    assert!(madrid.km < 200.0);
    let auckland = facts("Auckland").antipode.unwrap();
    assert_eq!(auckland.place.country_code, "ES", "{auckland:?}");
    let suva = facts("Suva");
    assert_eq!((suva.country.code, suva.utc_offset_minutes), ("FJ", 720));
    assert!(suva.near.iter().all(|other| other.km <= 300.0) && !suva.near.is_empty());
    let latitude = facts("Madrid").same_latitude;
    assert!(
        latitude
            .iter()
            .all(|other| (other.place.lat - 40.4165).abs() <= 1.0 && other.km > 2000.0),
        "{latitude:?}"
    );
    assert_eq!(latitude.len(), 4);
}

#[test]
fn the_largest_place_has_no_larger() {
    let first = Gazetteer::embedded().places().next().unwrap();
    let facts = Gazetteer::embedded().facts(first);
    assert_eq!(facts.nearest_larger, None);
    assert!(facts.nearest_metropolis.is_some());
}

#[test]
fn the_nearest_metropolis_is_the_one_that_a_plain_scan_finds() {
    let gazetteer = Gazetteer::embedded();
    for id in gazetteer.places().step_by(991) {
        let here = gazetteer.point(id);
        let scanned = gazetteer
            .places()
            .filter(|&other| other != id && gazetteer.population(other) >= 1_000_000 && !gazetteer.is_part(other))
            .map(|other| geo::distance_km(here, gazetteer.point(other)))
            .fold(f64::INFINITY, f64::min);
        let found = gazetteer.facts(id).nearest_metropolis.map(|near| near.km);
        assert_eq!(found, Some(scanned), "{}", gazetteer.place(id).name);
    }
}

#[test]
fn every_list_keeps_its_promise() {
    let gazetteer = Gazetteer::embedded();
    for id in gazetteer.places().step_by(97) {
        let facts = gazetteer.facts(id);
        assert!(facts.near.len() <= 8 && facts.near.iter().all(|n| n.place.id != facts.place.id));
        assert!(facts.other_names.len() <= 8);
        assert!(facts.across_borders.len() <= 3);
        assert!(
            facts
                .across_borders
                .iter()
                .all(|n| n.place.country_code != facts.place.country_code)
        );
        assert!(facts.namesakes.len() <= 4 && facts.same_latitude.len() <= 4);
        assert!(
            facts
                .nearest_larger
                .is_none_or(|n| n.place.population > facts.place.population)
        );
        assert!(facts.daylight.june_minutes <= 1440 && facts.daylight.solar_noon_minutes <= 1440);
        assert!((facts.equator_km + facts.pole_km - 10_007.6).abs() < 0.1);
    }
}
