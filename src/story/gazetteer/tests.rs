//! Known names, known homonyms, and what must stay unknown.

use super::*;
use proptest::prelude::*;

fn gazetteer() -> &'static Gazetteer {
    Gazetteer::embedded()
}

/// "Name, Region, CC" of what was found, with its kind in front.
fn found(text: &str) -> String {
    let told = |id| {
        let place = gazetteer().place(id);
        format!("{}, {}, {}", place.name, place.region, place.country_code)
    };
    match gazetteer().find(text) {
        Found::Exact(id) => told(id),
        Found::Close { id, matched } => format!("~{matched}: {}", told(id)),
        Found::Unknown => "?".to_owned(),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(asked, expected)| found(asked) != *expected)
        .map(|(asked, expected)| format!("{asked:?}: {} instead of {expected}", found(asked)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_file_is_the_one_this_code_reads() {
    let tables = reader::tables(FILE).expect("header of this version");
    let last = tables.last().unwrap();
    assert_eq!(
        tables.iter().map(|table| table.len()).sum::<usize>() + 12 + 8 * TABLES,
        FILE.len()
    );
    assert!(!last.is_empty());
    assert!(gazetteer().len() > 60_000, "{}", gazetteer().len());
    assert!(FILE.len() < 9_000_000, "{}", FILE.len());
    assert!(Gazetteer::attribution().contains("GeoNames"));
}

#[test]
fn a_wrong_header_is_no_gazetteer() {
    for file in [
        &b""[..],
        b"RTGZ",
        b"RTGZ\x02\0\0\0\x0d\0\0\0",
        b"XXXX\x01\0\0\0\x0d\0\0\0",
    ] {
        assert!(reader::tables(file).is_none());
    }
    let empty = Gazetteer::over([&[]; TABLES]);
    assert!(empty.is_empty());
    assert_eq!(empty.find("Paris"), Found::Unknown);
    assert_eq!(empty.nearest(1.0, 1.0), None);
    assert_eq!(empty.place(PlaceId(7)).name, "");
}

#[test]
fn every_record_reads_whole() {
    for id in gazetteer().places() {
        let place = gazetteer().place(id);
        assert!(
            !place.name.is_empty() && !place.country.is_empty() && place.country_code.len() == 2,
            "{place:?}"
        );
        assert!(geo::on_the_globe(place.lat, place.lng), "{place:?}");
        let (zone, offset) = gazetteer().zone(id);
        assert!(
            !zone.is_empty() && (-720..=840).contains(&offset),
            "{place:?} {zone} {offset}"
        );
        assert!(
            gazetteer().named(&gazetteer().key(place.name)).any(|other| other == id),
            "{place:?}"
        );
        let others = gazetteer().other_names(id);
        assert!(
            others.len() <= 8 && !others.contains(&place.name) && !others.contains(&""),
            "{place:?} {others:?}"
        );
    }
}

#[test]
fn names_in_many_tongues() {
    check(&[
        ("San Francisco", "San Francisco, California, US"),
        ("  san   FRANCISCO ", "San Francisco, California, US"),
        ("SF", "San Francisco, California, US"),
        ("SFO", "San Francisco, California, US"),
        ("NYC", "New York City, New York, US"),
        ("LA", "Los Angeles, California, US"),
        ("München", "Munich, Bavaria, DE"),
        ("Mu\u{308}nchen", "Munich, Bavaria, DE"),
        ("Muenchen", "Munich, Bavaria, DE"),
        ("東京", "Tokyo, Tokyo, JP"),
        ("Москва", "Moscow, Moscow, RU"),
        ("МОСКВА", "Moscow, Moscow, RU"),
        ("القاهرة", "Cairo, Cairo, EG"),
        ("서울", "Seoul, Seoul, KR"),
        ("Αθήνα", "Athens, Attica, GR"),
        ("St. Louis", "St. Louis, Missouri, US"),
        ("Saint Louis", "St. Louis, Missouri, US"),
        ("L’Aquila", "L'Aquila, Abruzzo, IT"),
        ("Tromso", "Tromsø, Troms, NO"),
        ("Wien", "Vienna, Vienna, AT"),
        ("Roma", "Rome, Latium, IT"),
        ("Köln", "Köln, North Rhine-Westphalia, DE"),
        ("Cologne", "Köln, North Rhine-Westphalia, DE"),
    ]);
}

#[test]
fn homonyms_and_qualifiers() {
    check(&[
        ("Paris", "Paris, Île-de-France, FR"),
        ("Paris, Texas", "Paris, Texas, US"),
        ("Paris, TX", "Paris, Texas, US"),
        ("paris tx", "Paris, Texas, US"),
        ("Paris France", "Paris, Île-de-France, FR"),
        ("London", "London, England, GB"),
        ("London, Ontario", "London, Ontario, CA"),
        ("London, ON", "London, Ontario, CA"),
        ("London, Canada", "London, Ontario, CA"),
        ("Springfield, Illinois", "Springfield, Illinois, US"),
        ("Springfield, IL, USA", "Springfield, Illinois, US"),
        ("Springfield Illinois", "Springfield, Illinois, US"),
        ("Portland OR", "Portland, Oregon, US"),
        ("Portland, Maine", "Portland, Maine, US"),
        ("Vancouver, BC", "Vancouver, British Columbia, CA"),
        ("Vancouver, WA", "Vancouver, Washington, US"),
        ("Ontario, CA", "Ontario, California, US"),
        ("Birmingham, AL", "Birmingham, Alabama, US"),
        ("Birmingham", "Birmingham, England, GB"),
        ("Cordoba, Spain", "Córdoba, Andalusia, ES"),
        ("Sydney, NSW", "Sydney, New South Wales, AU"),
        ("York", "York, England, GB"),
        ("Washington", "Washington, District of Columbia, US"),
        ("Washington, DC", "Washington, District of Columbia, US"),
        ("Cambridge, MA", "Cambridge, Massachusetts, US"),
        ("日本、東京", "Tokyo, Tokyo, JP"),
        ("Halle (Saale)", "Halle (Saale), Saxony-Anhalt, DE"),
    ]);
}

#[test]
fn countries_and_regions_lead_to_a_place() {
    check(&[
        ("France", "Paris, Île-de-France, FR"),
        ("USA", "Washington, District of Columbia, US"),
        ("Mexico", "Mexico City, Mexico City, MX"),
        ("Singapore", "Singapore, , SG"),
        ("Luxembourg", "Luxembourg, Luxembourg, LU"),
        ("Georgia", "Tbilisi, Tbilisi, GE"),
        ("Georgia, USA", "Atlanta, Georgia, US"),
        ("New York", "New York City, New York, US"),
        ("California", "Los Angeles, California, US"),
        ("Bavaria", "Munich, Bavaria, DE"),
        ("Scotland", "Glasgow, Scotland, GB"),
        ("Vatican", "Vatican City, , VA"),
        ("Monaco", "Monaco, Monaco, MC"),
        ("日本", "Tokyo, Tokyo, JP"),
    ]);
}

#[test]
fn slips_are_forgiven_and_said_to_be() {
    check(&[
        ("San Frnacisco", "~San Francisco: San Francisco, California, US"),
        ("Lodnon", "~London: London, England, GB"),
        ("Reykjavk", "~Reykjavík: Reykjavík, Capital Region, IS"),
        ("Sprngfield, Illinois", "~Springfield: Springfield, Illinois, US"),
        ("Los Angelse", "~Los Angeles: Los Angeles, California, US"),
        ("Eiffel Tower, Paris", "~Paris: Paris, Île-de-France, FR"),
        (
            "Springfield, Sangamon County, Illinois",
            "~Springfield: Springfield, Illinois, US",
        ),
        ("Albuqerque", "~Albuquerque: Albuquerque, New Mexico, US"),
    ]);
}

#[test]
fn the_unknown_stays_unknown() {
    for text in [
        "",
        " ",
        "...",
        "?!,;",
        ",,,,",
        "Xyzzyplugh",
        "asdfgh",
        "qwertyuiop",
        "Mordor",
        "Hogwarts",
        "Gotham",
        "Rivendell",
        "Xyzzyplugh, France",
        "Paris, Japan",
        "\u{0}",
        "🚗🚗",
        "zzzz",
        "lorem ipsum dolor sit amet",
    ] {
        assert_eq!(gazetteer().find(text), Found::Unknown, "{text:?}: {}", found(text));
    }
    assert_eq!(gazetteer().find(&"🚗".repeat(50)), Found::Unknown);
    assert_eq!(gazetteer().find(&"Paris".repeat(1000)), Found::Unknown);
    assert_eq!(gazetteer().find(&", ".repeat(100)), Found::Unknown);
}

#[test]
fn the_nearest_place_to_a_point() {
    let near = |lat, lng| {
        gazetteer()
            .nearest(lat, lng)
            .map(|(id, km)| (gazetteer().place(id).name, km))
    };
    let (name, km) = near(48.8584, 2.2945).unwrap();
    assert!(km < 5.0, "{name} {km}");
    // The poles, the date line from both sides, and the emptiest sea (Point Nemo) have a nearest place too.
    for (lat, lng) in [
        (90.0, 0.0),
        (-90.0, 180.0),
        (-16.8, 180.0),
        (-16.8, -180.0),
        (-48.88, -123.39),
        (0.0, 0.0),
    ] {
        let (name, km) = near(lat, lng).unwrap();
        assert!(km < 4500.0, "{name} {km}");
    }
    let (east, west) = (near(-16.8, 180.0).unwrap(), near(-16.8, -180.0).unwrap());
    assert!(east.0 == west.0 && (east.1 - west.1).abs() < 1e-6, "{east:?} {west:?}");
    for (lat, lng) in [
        (f64::NAN, 0.0),
        (0.0, f64::NAN),
        (f64::INFINITY, 0.0),
        (90.1, 0.0),
        (0.0, 180.5),
        (0.0, -181.0),
    ] {
        assert_eq!(gazetteer().nearest(lat, lng), None);
    }
}

#[test]
fn a_name_alone_and_with_what_it_lies_in_finds_its_name() {
    let mut wrong = Vec::new();
    for id in gazetteer().places() {
        let place = gazetteer().place(id);
        let (name, region) = (place.name, place.region);
        let key = gazetteer().key(name);
        for asked in [
            name.to_owned(),
            format!("{name}, {}", place.country_code),
            format!("{name}, {region}"),
            format!("{name}, {region}, {}", place.country),
        ] {
            // Codes mean a US state first ("Paris, DE"), so only the name is certain.
            match gazetteer().find(&asked) {
                Found::Exact(found) if gazetteer().named(&key).any(|other| other == found) => {}
                _ => wrong.push(format!("{asked:?}: {}", found(&asked))),
            }
        }
    }
    assert!(wrong.is_empty(), "{} names:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_name_may_have_in_it_what_parts_names() {
    let arba_minch = "Arba Minch, Southern Nations, Nationalities, and People's Region, ET";
    check(&[
        ("Hennef (Sieg), DE", "Hennef (Sieg), North Rhine-Westphalia, DE"),
        ("Hennef (Sieg) Germany", "Hennef (Sieg), North Rhine-Westphalia, DE"),
        ("Germany, Hennef (Sieg)", "Hennef (Sieg), North Rhine-Westphalia, DE"),
        ("Reichenbach/Vogtland, Saxony", "Reichenbach/Vogtland, Saxony, DE"),
        ("Reichenbach/Vogtland DE", "Reichenbach/Vogtland, Saxony, DE"),
        (
            "Arba Minch, Southern Nations, Nationalities, and People's Region, Ethiopia",
            arba_minch,
        ),
        ("Kinshasa Democratic Republic of the Congo", "Kinshasa, Kinshasa, CD"),
        // A qualifier after a comma goes before a longer name that the letters would spell.
        ("Oliva, ES", "Oliva, Valencia, ES"),
        ("Olivaes", "Olivais, Lisbon, PT"),
        // No part of a name, no qualifier: close, as ever.
        (
            "Hennef (Xyzzy), DE",
            "~Hennef (Sieg): Hennef (Sieg), North Rhine-Westphalia, DE",
        ),
    ]);
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in any::<String>()) {
        let _ = gazetteer().find(&text);
    }

    #[test]
    fn any_words_get_an_answer(text in "[a-zA-Zäñ' ,.()東京Мو\u{300}-\u{305}]{0,40}") {
        let _ = gazetteer().find(&text);
    }

    #[test]
    fn the_grid_finds_what_a_scan_finds(lat in -90.0f64..=90.0, lng in -180.0f64..=180.0) {
        let (_, km) = gazetteer().nearest(lat, lng).unwrap();
        let scanned = gazetteer()
            .places()
            .map(|id| geo::distance_km((lat, lng), gazetteer().point(id)))
            .fold(f64::INFINITY, f64::min);
        prop_assert!((km - scanned).abs() < 1e-6, "{km} {scanned}");
    }

    #[test]
    fn what_is_surely_beyond_is_farther(
        from in (-90.0f64..=90.0, -180.0f64..=180.0),
        to in (-90.0f64..=90.0, -180.0f64..=180.0),
        share in 0.99f64..=1.0,
    ) {
        // Straight north or south, where nothing but the latitude counts, and anywhere else.
        for to in [to, (to.0, from.1)] {
            let km = (to.0 - from.0).abs() * geo::KM_PER_DEGREE * share;
            let distance = geo::distance_km(from, to);
            prop_assert!(!geo::is_beyond(from, to, km) || distance > km, "{distance} {km}");
            prop_assert!(!geo::is_beyond(from, to, distance));
        }
    }
}

/// Prints what the calls cost; `cargo test --release --lib costs -- --ignored --nocapture`.
#[test]
#[ignore = "measures, proves nothing"]
fn costs() {
    let time = |what: &str, rounds: u32, call: &mut dyn FnMut(u32)| {
        // The least of three, so that a preempted thread does not count as work.
        let mut timed = |round| {
            let start = std::time::Instant::now();
            call(round);
            start.elapsed().as_nanos()
        };
        let mut each: Vec<_> = (0..rounds)
            .map(|round| (0..3).map(|_| timed(round)).min().unwrap_or_default())
            .collect();
        each.sort_unstable();
        let at = |share: usize| each[(each.len() - 1) * share / 100] / 1000;
        println!("{what:32} us: median {} p99 {} worst {}", at(50), at(99), at(100));
    };
    let count = u32::try_from(gazetteer().len()).unwrap();
    time("facts", 20_000, &mut |round| {
        std::hint::black_box(gazetteer().facts(PlaceId(round * 7919 % count)));
    });
    time("find, exact", 20_000, &mut |round| {
        std::hint::black_box(gazetteer().find(gazetteer().place(PlaceId(round * 7919 % count)).name));
    });
    for miss in [
        "Xyzzyplugh",
        "San Frnacisco",
        "Lodnon",
        "Sprngfield, Illinois",
        "asdfgh",
        "arsetonil",
        "lorem ipsum dolor sit amet",
        "qaz wsx edc rfv tgb",
    ] {
        time(miss, 300, &mut |_| {
            std::hint::black_box(gazetteer().find(miss));
        });
    }
    time("nearest", 20_000, &mut |round| {
        let (lat, lng) = (
            f64::from(round * 7919 % 1800) / 10.0 - 90.0,
            f64::from(round * 104_729 % 3600) / 10.0 - 180.0,
        );
        std::hint::black_box(gazetteer().nearest(lat, lng));
    });
}
