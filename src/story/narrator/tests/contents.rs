//! What stories say: figures that follow from the facts, interests as asked, nothing about a place that is not known.

use super::*;
use crate::story::facts::{AskedPoint, Compass, Neighbour};
use std::collections::BTreeSet;

/// Each figure of a story that stands before "kilometres", "people", "inhabitants" or "degrees" is one of the facts, or
/// follows from them by the geometry that the beats name.
#[test]
fn every_figure_is_derivable() {
    let mut checked = 0;
    every(|f, _, told| {
        let all = f
            .near
            .iter()
            .chain(&f.across_borders)
            .chain(&f.same_latitude)
            .chain(&f.namesakes);
        let others: Vec<&Neighbour<'_>> = all
            .chain(&f.nearest_larger)
            .chain(&f.nearest_metropolis)
            .chain(&f.to_capital)
            .chain(&f.antipode)
            .collect();

        let mut km: Vec<f64> = others.iter().map(|other| other.km).collect();
        km.extend([f.equator_km, f.pole_km, (f.place.lat.abs() - 45.0).abs() * 111.195]);
        let round = 40_075.017 * f.place.lat.to_radians().cos();
        km.extend([
            round,
            round / 24.0,
            round / 360.0,
            f64::from(f.place.population) * 0.0015,
        ]);
        // Speeds, lengths and areas that phrasings name.
        km.extend([
            300.0,
            5.0,
            20.0,
            80.0,
            100.0,
            160.0,
            800.0,
            42.0,
            150e6,
            f.country.area_km2,
            1.0,
        ]);
        // Height of a lookout that sees over the curve of the Earth.
        km.extend(others.iter().map(|other| other.km * other.km / (2.0 * 6371.0088)));
        for one in &f.near {
            let (lat, lng) = (one.place.lat, one.place.lng);
            km.extend(
                f.near
                    .iter()
                    .filter_map(|two| angle::apart_km(lat, lng, two.place.lat, two.place.lng)),
            );
        }

        let mut heads: Vec<f64> = others.iter().map(|other| f64::from(other.place.population)).collect();
        let near: f64 = f
            .near
            .iter()
            .filter(|near| near.km < 150.0)
            .map(|near| f64::from(near.place.population))
            .sum();
        let country = f.country.population as f64;
        let here = f64::from(f.place.population);
        // A million is the measure of a metropolis; the country over the place is the village of so many people.
        heads.extend([here, near, country, 1e6, country / here, country / f.country.area_km2]);

        let light = &f.daylight;
        let (lat, lng) = (f.place.lat.abs(), f.place.lng.abs());
        // A fist at arm's length covers ten degrees.
        let mut degrees = vec![lat, lng, 180.0 - lng, 90.0 - lat, 10.0, 90.0];
        degrees.extend([light.june_noon_degrees, light.december_noon_degrees]);

        for sentence in sentences(&told.story) {
            for (unit, known) in [
                (" kilometre", &km),
                (" square kilometre", &km),
                (" people", &heads),
                (" inhabitants", &heads),
                (" degrees", &degrees),
            ] {
                for (at, _) in sentence.match_indices(unit) {
                    let Some(value) = spoken(&sentence[..at]) else { continue };
                    // "Two people in a car" are the travellers.
                    if unit == " people" && value == 2.0 {
                        continue;
                    }
                    checked += 1;
                    let near = |known: &&f64| (*known - value).abs() <= 0.055 * *known + 0.55;
                    assert!(
                        known.iter().any(|known| near(&known)),
                        "{}: {value}{unit} in: {sentence}",
                        f.place.name
                    );
                }
            }
        }
    });
    assert!(checked > 10_000, "only {checked} figures were found");
}

/// The number at the end of a text: "about 1,150", "five", "some 9.6 million".
fn spoken(text: &str) -> Option<f64> {
    let mut words = text.split(' ').rev();
    let mut last = words.next()?;
    let mut factor = 1.0;
    if let Some((_, scale)) = [("hundred", 100.0), ("thousand", 1e3), ("million", 1e6)]
        .iter()
        .find(|scale| scale.0 == last)
    {
        factor = *scale;
        last = words.next()?;
    }
    if last == "a" {
        return Some(factor);
    }
    if let Ok(value) = last.replace(',', "").parse::<f64>() {
        return Some(value * factor);
    }
    (0..100).find(|n| words::spelled(*n) == last).map(|n| n as f64 * factor)
}

#[test]
fn interests_are_spoken() {
    let wanted = [
        "food",
        "trains",
        "astronomy",
        "languages",
        "birdwatching",
        "vintage sewing machines",
        "maths",
        "flying",
    ];
    let interests: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
    for place in PLACES.iter().step_by(4) {
        let facts = facts(place);
        for style in Style::ALL {
            for length in Length::ALL {
                for n in [1, 3, 8] {
                    for start in 0..=8 - n {
                        let asked = &interests[start..start + n];
                        let told = tell(
                            &facts,
                            &Ask {
                                interests: asked,
                                ..ask(*style, *length, 0)
                            },
                        );
                        for interest in asked {
                            assert!(
                                told.story.contains(interest.as_str()),
                                "{place} {style} {length}: {interest}\n{}",
                                told.story
                            );
                        }
                        tidy(&told.story, &facts);
                        assert!(
                            compose::count(&told.story) <= if matches!(length, Length::Short) { 260 } else { 1100 }
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn interests_are_text_and_nothing_else() {
    let facts = facts("Basel");
    let nasty: Vec<String> = [
        "<script>alert(1)</script>",
        "a\u{202e}b\n\nc\u{0}",
        "{name} {",
        "“\"",
        "   ",
        "…",
        "x".repeat(400).as_str(),
    ]
    .map(str::to_owned)
    .to_vec();
    for length in Length::ALL {
        let told = tell(
            &facts,
            &Ask {
                interests: &nasty,
                ..ask(Style::Comedy, *length, 2)
            },
        );
        assert!(
            !told.story.contains(['<', '>', '{', '}', '\u{202e}', '\u{0}', '"', '`']),
            "{}",
            told.story
        );
        assert!(
            told.story.contains("scriptalert(1)/script") && told.story.contains("ab c"),
            "{}",
            told.story
        );
        tidy(&told.story, &facts);
    }
}

#[test]
fn an_unknown_place_is_not_invented() {
    for asked in [
        "Xyzzyville",
        "12.5, -170",
        "",
        "<b>\n“Atlantis”</b>",
        "Old Aunt Mary's farm, somewhere",
    ] {
        for style in Style::ALL {
            for length in Length::ALL {
                let tellings: Vec<Telling> = (0..3).map(|v| tell_unknown(asked, &ask(*style, *length, v))).collect();
                for told in &tellings {
                    let words = compose::count(&told.story);
                    let band = match length {
                        Length::Short => 90..=190,
                        Length::Medium => 190..=400,
                        Length::Long => 300..=600,
                    };
                    assert!(band.contains(&words), "{asked} {style} {length}: {words} words");
                    assert!(
                        told.location.country.is_none() && told.location.lat.is_none() && told.location.lng.is_none()
                    );
                    assert!(told.story.contains("not") && !told.story.contains(['<', '>', '{', '}']));
                    assert!(!told.title.is_empty());
                    tidy(&told.story, &bare("Basel"));
                }
                assert_ne!(tellings[0].story, tellings[1].story);
            }
        }
    }
}

#[test]
fn an_asked_point_is_told() {
    let mut facts = facts("Basel");
    for (name, km) in [
        (Some("Grandma's\nhouse <3"), 3.2),
        (None, 12.0),
        (Some("home"), 0.2),
        (Some(" \n"), 0.0),
    ] {
        facts.asked_point = Some(AskedPoint {
            lat: 47.5,
            lng: 7.5,
            name: name.map(str::to_owned),
            km,
            direction: Compass::West,
        });
        for style in Style::ALL {
            let story = tell(&facts, &ask(*style, Length::Short, 0)).story;
            let said = name.map(|name| words::plain(name, 80)).filter(|name| !name.is_empty());
            assert!(story.contains(said.as_deref().unwrap_or("48 degrees north")), "{story}");
            tidy(&story, &facts);
        }
    }
}

/// A phrase bank may not state figures of its own beyond the speeds and constants listed here.
#[test]
fn voices_state_no_figures() {
    for style in Style::ALL {
        let voice = voices::voice(*style);
        assert!(voice.threads.len() >= 6);
        let mut lines: Vec<&str> = voice.asides.to_vec();
        for thread in voice.threads {
            lines.extend(
                thread
                    .titles
                    .iter()
                    .chain(thread.open)
                    .chain(thread.turns)
                    .chain(thread.close),
            );
        }
        lines.extend(voice.enter.iter().flat_map(|lines| lines.iter()));
        let all: BTreeSet<&&str> = lines.iter().collect();
        assert_eq!(all.len(), lines.len(), "{style}: a line twice");
        for line in lines {
            // The mean distance of the sun.
            let rest = line.replace("150 million", "");
            assert!(!rest.contains(|c: char| c.is_ascii_digit()), "{line}");
            assert!(!line.to_lowercase().contains("the {name}"), "{line}");
        }
    }
}

#[test]
fn interests_are_known_by_their_words() {
    let facts = facts("Basel");
    let told = |interest: &str, style: Style| {
        let interests = [interest.to_owned()];
        tell(
            &facts,
            &Ask {
                interests: &interests,
                ..ask(style, Length::Short, 0)
            },
        )
        .story
    };
    for style in Style::ALL {
        assert!(told("amateur Astronomy", *style).contains("48 degrees"), "{style}");
        assert!(
            told("hiking with dogs", *style).contains("kilometres an hour"),
            "{style}"
        );
        assert!(
            told("old trains", *style).contains("a hundred and sixty kilometres an hour"),
            "{style}"
        );
        let names = told("other languages", *style);
        assert!(
            ["Basle", "letters", "characters", "script", "hangul", "kana"]
                .iter()
                .any(|w| names.contains(w)),
            "{names}"
        );
    }
    // No fact is bent to fit what is not known, and a word inside a word is not known.
    for interest in ["party games", "quilting", "scarves"] {
        assert!(
            told(interest, Style::History).contains("no record is at hand")
                || told(interest, Style::History).contains("not in the book")
                || told(interest, Style::History).contains("silent"),
            "{interest}"
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Whatever figures the facts hold, and whatever the traveller writes, a story comes out and nothing breaks.
    #[test]
    fn no_figure_and_no_word_breaks_the_teller(
        lat in -90.0..=90.0_f64,
        lng in -180.0..=180.0_f64,
        heads in proptest::num::u32::ANY,
        rank in proptest::option::of(0_u32..20_000),
        june in 0_u32..=1440,
        december in 0_u32..=1440,
        noon in -60.0..=90.0_f64,
        km in 0.0..20_100.0_f64,
        offset in -900_i32..900,
        area in proptest::num::f64::ANY,
        words in proptest::collection::vec(".{0,60}", 0..8),
        style in 0_usize..9,
        length in 0_usize..3,
        variation in proptest::num::u32::ANY,
    ) {
        let mut f = facts("Basel");
        (f.place.lat, f.place.lng, f.place.population, f.rank_in_country, f.rank_in_region) = (lat, lng, heads, rank, rank);
        (f.daylight.june_minutes, f.daylight.december_minutes) = (june, december);
        (f.daylight.june_noon_degrees, f.daylight.december_noon_degrees) = (noon, -noon);
        (f.utc_offset_minutes, f.daylight.solar_noon_minutes, f.country.area_km2) = (offset, june, area);
        (f.equator_km, f.pole_km) = (km, 10_000.0 - km);
        for other in f.near.iter_mut().chain(&mut f.across_borders).chain(&mut f.antipode).chain(&mut f.to_capital) {
            (other.km, other.place.population) = (km, heads);
        }
        let (style, length) = (Style::ALL[style], Length::ALL[length]);
        let asked = Ask { style, length, language: Language::En, interests: &words, variation };
        let told = tell(&f, &asked);
        proptest::prop_assert!(told.story.contains("Basel") && !told.title.is_empty());
        proptest::prop_assert!(!told.story.chars().any(|c| c.is_control() && c != '\n'));
        let unknown = tell_unknown(words.first().map_or("", String::as_str), &asked);
        proptest::prop_assert!(!unknown.story.chars().any(|c| c.is_control() && c != '\n'));
    }
}
