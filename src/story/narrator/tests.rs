//! What must hold of every story.

use super::*;
use crate::story::facts::Neighbour;
use crate::story::gazetteer::{Found, Gazetteer};
use std::collections::BTreeSet;

/// Big, small, remote, polar, equatorial, border and island places, capitals, city states, odd names.
const PLACES: &[&str] = &[
    "San Francisco",
    "Paris",
    "Basel",
    "Singapore",
    "Longyearbyen",
    "Quito",
    "Adamstown",
    "The Hague",
    "Luxembourg",
    "Washington",
    "'s-Hertogenbosch",
    "Ushuaia",
    "Suva",
    "Kathmandu",
    "Tokyo",
    "Vatican City",
    "Monaco",
    "Djibouti",
    "Springfield, Illinois",
    "Saint-Denis",
    "Nairobi",
    "Alice Springs",
    "Reykjavik",
    "Libreville",
    "Apia",
    "Barrow",
];

fn facts(name: &str) -> Facts<'static> {
    let gazetteer = Gazetteer::embedded();
    match gazetteer.find(name) {
        Found::Exact(id) | Found::Close { id, .. } => gazetteer.facts(id),
        Found::Unknown => panic!("{name} is not in the gazetteer"),
    }
}

fn ask(style: Style, length: Length, variation: u32) -> Ask<'static> {
    Ask {
        style,
        length,
        language: Language::En,
        interests: &[],
        variation,
    }
}

/// What little may be known of a place: no people, names, neighbours or country figures.
fn bare(name: &str) -> Facts<'static> {
    let mut facts = facts(name);
    facts.place.population = 0;
    facts.place.region = "";
    facts.rank_in_country = None;
    facts.rank_in_region = None;
    facts.places_in_region = 0;
    facts.other_names.clear();
    facts.near.clear();
    facts.nearest_larger = None;
    facts.nearest_metropolis = None;
    facts.to_capital = None;
    facts.across_borders.clear();
    facts.same_latitude.clear();
    facts.namesakes.clear();
    facts.antipode = None;
    facts.is_capital = false;
    facts.country.population = 0;
    facts.country.area_km2 = 0.0;
    facts.country.currency = "";
    facts.country.phone = "";
    facts.country.places = 1;
    facts
}

/// Every style, length and three variations of every place.
fn every(mut check: impl FnMut(&Facts<'_>, &Ask<'_>, &Telling)) {
    for place in PLACES {
        let facts = facts(place);
        for style in Style::ALL {
            for length in Length::ALL {
                for variation in 0..3 {
                    let ask = ask(*style, *length, variation);
                    check(&facts, &ask, &tell(&facts, &ask));
                }
            }
        }
    }
}

fn sentences(story: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    for word in story.split_whitespace() {
        let last = out.last_mut().unwrap();
        if !last.is_empty() {
            last.push(' ');
        }
        last.push_str(word);
        if word.trim_end_matches(['”', ')']).ends_with(['.', '!', '?']) {
            out.push(String::new());
        }
    }
    out.retain(|sentence| !sentence.is_empty());
    out
}

#[test]
fn same_request_same_bytes() {
    let facts = facts("Reykjavik");
    let interests = ["trains".to_owned(), "food".to_owned()];
    let mut ask = ask(Style::Romance, Length::Long, 4);
    ask.interests = &interests;
    assert_eq!(tell(&facts, &ask), tell(&facts.clone(), &ask));
}

/// Guards the promise of `GENERATED_BY`: whoever changes these words must know that kept keys now tell otherwise. The
/// hash is of the drawing only, so that mending a phrase does not break it.
#[test]
fn draws_are_the_same_on_every_machine() {
    assert_eq!(Fnv::new().text("roadtrip").finish(), 0xd0f9_4ae1_eec1_5201);
    assert_eq!(seed::mix(0, 0), 0xe220_a839_7b1d_cdaf);
    assert_eq!(seed::mix(0, 1), 0x6e78_9e6a_a1b9_65f4);
}

#[test]
fn lengths_stay_in_their_bands() {
    every(|facts, ask, told| {
        let words = compose::count(&told.story);
        let band = match ask.length {
            Length::Short => 120..=190,
            Length::Medium => 380..=540,
            Length::Long => 740..=1050,
        };
        assert!(
            band.contains(&words),
            "{} {} {}: {words} words",
            facts.place.name,
            ask.style,
            ask.length
        );
        assert_eq!(u64::from(told.duration_seconds), (words as u64 * 60).div_ceil(150));
    });
}

#[test]
fn a_place_of_few_facts_still_gets_a_story() {
    for place in ["Adamstown", "Quito", "Longyearbyen", "Singapore"] {
        let facts = bare(place);
        for style in Style::ALL {
            for (length, floor) in [(Length::Short, 110), (Length::Medium, 300), (Length::Long, 330)] {
                let told = tell(&facts, &ask(*style, length, 1));
                let words = compose::count(&told.story);
                assert!(
                    words >= floor,
                    "{place} {style} {length}: {words} words\n{}",
                    told.story
                );
                tidy(&told.story, &facts);
            }
        }
    }
}

/// What no text may contain, whatever it says.
fn tidy(story: &str, facts: &Facts<'_>) {
    let name = facts.place.name;
    for bad in [
        "  ",
        " .",
        " ,",
        " ;",
        "..",
        ",,",
        ",.",
        "{",
        "}",
        "\n\n\n",
        " \n",
        "\n ",
        " a hour",
        " 1 kilometres",
        "one kilometres",
        "one miles",
        " the the ",
        " The the ",
        "the The ",
        " a a ",
        "one people",
        "zero ",
        " of the of ",
        " in in ",
    ] {
        assert!(!story.contains(bad), "{name}: {bad:?} in\n{story}");
    }
    for (open, shut) in [('“', '”'), ('(', ')')] {
        assert_eq!(
            story.matches(open).count(),
            story.matches(shut).count(),
            "{name}: quotes in\n{story}"
        );
    }
    for paragraph in story.split("\n\n") {
        let first = paragraph.chars().next().unwrap();
        assert!(
            first.is_uppercase() || "“'’".contains(first) || !first.is_alphabetic(),
            "{name}: {paragraph}"
        );
        assert!(paragraph.ends_with(['.', '!', '?']), "{name}: {paragraph}");
    }
    let all = sentences(story);
    for sentence in &all {
        let first = sentence.chars().next().unwrap();
        let kept = ["D.C.", "St.", "U.S.", "Mt.", "Ft.", "'s-"]
            .iter()
            .any(|abbreviation| story.contains(abbreviation));
        assert!(!first.is_lowercase() || kept, "{name}: {sentence}");
    }
    let set: BTreeSet<&String> = all.iter().filter(|sentence| sentence.split(' ').count() > 3).collect();
    assert_eq!(
        set.len(),
        all.iter().filter(|sentence| sentence.split(' ').count() > 3).count(),
        "{name}: a sentence twice in\n{story}"
    );
}

#[test]
fn every_text_is_tidy() {
    every(|facts, ask, told| {
        tidy(&told.story, facts);
        assert!(
            told.title.split(' ').count() <= 12 && !told.title.contains('{'),
            "{}",
            told.title
        );
        assert!(
            told.story.contains(facts.place.name),
            "{} {}",
            facts.place.name,
            ask.style
        );
        assert!(
            told.story.contains(facts.place.country.trim_start_matches("The ")),
            "{} {}",
            facts.place.name,
            ask.style
        );
    });
}

#[test]
fn variations_differ() {
    let mut worst = 0.0_f64;
    let mut openings_seen = 0;
    for place in PLACES.iter().take(12) {
        let facts = facts(place);
        for style in Style::ALL {
            for length in Length::ALL {
                let tellings: Vec<Telling> = (0..6).map(|v| tell(&facts, &ask(*style, *length, v))).collect();
                let mut shared_all = Vec::new();
                for (i, one) in tellings.iter().enumerate() {
                    for two in tellings.iter().skip(i + 1) {
                        let (a, b) = (sentences(&one.story), sentences(&two.story));
                        assert_ne!(a.first(), b.first(), "{place} {style}: the same opening");
                        assert_ne!(a.last(), b.last(), "{place} {style}: the same ending");
                        let shared = a.iter().filter(|sentence| b.contains(sentence)).count();
                        shared_all.push(shared as f64 / a.len().min(b.len()) as f64);
                    }
                }
                openings_seen += 1;
                let mean = shared_all.iter().sum::<f64>() / shared_all.len() as f64;
                let most = shared_all.iter().copied().fold(0.0, f64::max);
                assert!(
                    mean < 0.3,
                    "{place} {style} {length}: variations share {mean:.2} of their sentences"
                );
                assert!(
                    most < 0.5,
                    "{place} {style} {length}: two variations share {most:.2} of their sentences"
                );
                worst = worst.max(most);
            }
        }
    }
    assert!(openings_seen > 0 && worst > 0.0, "nothing was compared");
}

#[test]
fn twelve_variations_have_twelve_openings() {
    let facts = facts("Kathmandu");
    for style in Style::ALL {
        let openings: BTreeSet<String> = (0..12)
            .map(|v| {
                tell(&facts, &ask(*style, Length::Medium, v))
                    .story
                    .split("\n\n")
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(openings.len(), 12, "{style}");
    }
}

/// Each "N kilometres" of a story is a distance of the facts, or follows from them by the geometry that the beats name.
#[test]
fn every_distance_is_derivable() {
    every(|facts, _, told| {
        let f = facts;
        let mut known: Vec<f64> = Vec::new();
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
        known.extend(others.iter().map(|other| other.km));
        known.extend([f.equator_km, f.pole_km, (f.place.lat.abs() - 45.0).abs() * 111.195]);
        let round = 40_075.017 * f.place.lat.to_radians().cos();
        known.extend([
            round,
            round / 24.0,
            round / 360.0,
            f64::from(f.place.population) * 0.0015,
        ]);
        // Speeds and areas that phrasings name.
        known.extend([
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
        known.extend(others.iter().map(|other| other.km * other.km / (2.0 * 6371.0088)));
        for one in &f.near {
            known.extend(
                f.near
                    .iter()
                    .filter_map(|two| angle::apart_km(one.place.lat, one.place.lng, two.place.lat, two.place.lng)),
            );
        }
        for sentence in sentences(&told.story) {
            for (before, _) in sentence
                .match_indices(" kilometre")
                .chain(sentence.match_indices(" square kilometre"))
                .map(|(at, hit)| (sentence.split_at(at).0, hit))
            {
                let Some(value) = spoken(before) else { continue };
                assert!(
                    known.iter().any(|km| (km - value).abs() <= 0.055 * km + 0.55),
                    "{}: {value} km in: {sentence}",
                    f.place.name
                );
            }
        }
    });
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
    for place in PLACES {
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
    use crate::story::facts::{AskedPoint, Compass};
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

/// Prints stories for reading: `STORY="Reykjavik|romance|medium|0|food;trains" cargo test reader -- --nocapture`.
#[test]
fn reader() {
    let Ok(wanted) = std::env::var("STORY") else { return };
    for line in wanted.lines() {
        let part: Vec<&str> = line.split('|').collect();
        let interests: Vec<String> = part
            .get(4)
            .map(|all| {
                all.split(';')
                    .filter(|interest| !interest.is_empty())
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        let ask = Ask {
            style: part[1].parse().unwrap(),
            length: part[2].parse().unwrap(),
            language: Language::En,
            interests: &interests,
            variation: part[3].parse().unwrap(),
        };
        let told = match Gazetteer::embedded().find(part[0]) {
            Found::Exact(id) | Found::Close { id, .. } => tell(&Gazetteer::embedded().facts(id), &ask),
            Found::Unknown => tell_unknown(part[0], &ask),
        };
        println!(
            "=== {line}\n# {} [{} words]\n{}\n",
            told.title,
            compose::count(&told.story),
            told.story
        );
    }
}

#[test]
fn tmp_shared() {
    if std::env::var("SHARED").is_err() {
        return;
    }
    for length in Length::ALL {
        let mut all: Vec<(f64, String)> = vec![];
        for place in ["San Francisco", "Basel", "Adamstown", "Quito", "Tokyo"] {
            let facts = facts(place);
            for style in Style::ALL {
                let t: Vec<Telling> = (0..6).map(|v| tell(&facts, &ask(*style, *length, v))).collect();
                for i in 0..6 {
                    for j in i + 1..6 {
                        let (a, b) = (sentences(&t[i].story), sentences(&t[j].story));
                        let shared = a.iter().filter(|s| b.contains(s)).count();
                        all.push((
                            shared as f64 / a.len().min(b.len()) as f64,
                            format!("{place} {style} {i} {j}"),
                        ));
                    }
                }
            }
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let n = all.len();
        println!(
            "{length}: mean {:.3} p50 {:.3} p90 {:.3} p99 {:.3} max {:?} {:?}",
            all.iter().map(|a| a.0).sum::<f64>() / n as f64,
            all[n / 2].0,
            all[n * 9 / 10].0,
            all[n * 99 / 100].0,
            all[n - 1],
            all[n - 2]
        );
    }
}

#[test]
fn tmp_mass() {
    if std::env::var("MASS").is_err() {
        return;
    }
    let g = Gazetteer::embedded();
    let ids: Vec<_> = g.places().collect();
    let mut n = 0;
    for (i, id) in ids.iter().enumerate() {
        if i % 41 != 0 {
            continue;
        }
        let facts = g.facts(*id);
        for k in 0..3_usize {
            let style = Style::ALL[(i + k * 4) % 9];
            let length = Length::ALL[k % 3];
            let told = tell(&facts, &ask(style, length, (i % 7) as u32));
            let r = std::panic::catch_unwind(|| tidy(&told.story, &facts));
            let words = compose::count(&told.story);
            let band = match length {
                Length::Short => 120..=190,
                Length::Medium => 380..=540,
                Length::Long => 740..=1050,
            };
            if !band.contains(&words) {
                println!("LENGTH {} {style} {length} {words}", facts.place.name);
            }
            if r.is_err() {
                println!("BAD {} {style} {length}", facts.place.name);
            }
            n += 1;
        }
    }
    println!("told {n}");
}
