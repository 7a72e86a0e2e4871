//! What the traveller likes, woven in: a known interest is answered with a true angle on the place, an unknown one is
//! handed back as something to look out for. Interests are text from outside; they are spoken, never interpreted
//! beyond a lookup of their words.

use super::beats::{BEATS, Chapter, travel};
use super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale};
use super::words;

/// How an interest can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Angle {
    /// By the beats of a chapter.
    Chapter(Chapter),
    Rail,
    Air,
    Bicycle,
    Running,
    Music,
    Driving,
    Food,
    Wild,
    Past,
    Arts,
}

/// Words by which an interest is known; matched against the start of each of its words, in lower case.
const KNOWN: &[(&str, Angle)] = &[
    ("astronom", Angle::Chapter(Chapter::Sky)),
    ("star", Angle::Chapter(Chapter::Sky)),
    ("sky", Angle::Chapter(Chapter::Sky)),
    ("sun", Angle::Chapter(Chapter::Sky)),
    ("moon", Angle::Chapter(Chapter::Sky)),
    ("space", Angle::Chapter(Chapter::Sky)),
    ("night", Angle::Chapter(Chapter::Sky)),
    ("photo", Angle::Chapter(Chapter::Sky)),
    ("light", Angle::Chapter(Chapter::Sky)),
    ("time", Angle::Chapter(Chapter::Sky)),
    ("clock", Angle::Chapter(Chapter::Sky)),
    ("season", Angle::Chapter(Chapter::Sky)),
    ("physic", Angle::Chapter(Chapter::Globe)),
    ("geograph", Angle::Chapter(Chapter::Globe)),
    ("globe", Angle::Chapter(Chapter::Globe)),
    ("travel", Angle::Chapter(Chapter::Globe)),
    ("geolog", Angle::Chapter(Chapter::Globe)),
    ("scien", Angle::Chapter(Chapter::Globe)),
    ("math", Angle::Chapter(Chapter::People)),
    ("number", Angle::Chapter(Chapter::People)),
    ("statistic", Angle::Chapter(Chapter::People)),
    ("people", Angle::Chapter(Chapter::People)),
    ("demograph", Angle::Chapter(Chapter::People)),
    ("language", Angle::Chapter(Chapter::Names)),
    ("linguist", Angle::Chapter(Chapter::Names)),
    ("name", Angle::Chapter(Chapter::Names)),
    ("word", Angle::Chapter(Chapter::Names)),
    ("etymolog", Angle::Chapter(Chapter::Names)),
    ("politic", Angle::Chapter(Chapter::Ground)),
    ("border", Angle::Chapter(Chapter::Ground)),
    ("econom", Angle::Chapter(Chapter::Ground)),
    ("map", Angle::Chapter(Chapter::Near)),
    ("hik", Angle::Chapter(Chapter::Near)),
    ("walk", Angle::Chapter(Chapter::Near)),
    ("train", Angle::Rail),
    ("rail", Angle::Rail),
    ("locomotive", Angle::Rail),
    ("plane", Angle::Air),
    ("flying", Angle::Air),
    ("flight", Angle::Air),
    ("aviation", Angle::Air),
    ("aircraft", Angle::Air),
    ("airplane", Angle::Air),
    ("cycl", Angle::Bicycle),
    ("bike", Angle::Bicycle),
    ("biking", Angle::Bicycle),
    ("bicycl", Angle::Bicycle),
    ("running", Angle::Running),
    ("jogging", Angle::Running),
    ("marathon", Angle::Running),
    ("sport", Angle::Running),
    ("music", Angle::Music),
    ("song", Angle::Music),
    ("jazz", Angle::Music),
    ("opera", Angle::Music),
    ("driving", Angle::Driving),
    ("road", Angle::Driving),
    ("car", Angle::Driving),
    ("cars", Angle::Driving),
    ("motor", Angle::Driving),
    ("food", Angle::Food),
    ("cook", Angle::Food),
    ("wine", Angle::Food),
    ("coffee", Angle::Food),
    ("beer", Angle::Food),
    ("restaurant", Angle::Food),
    ("bird", Angle::Wild),
    ("wildlife", Angle::Wild),
    ("animal", Angle::Wild),
    ("plant", Angle::Wild),
    ("tree", Angle::Wild),
    ("nature", Angle::Wild),
    ("garden", Angle::Wild),
    ("histor", Angle::Past),
    ("archaeolog", Angle::Past),
    ("castle", Angle::Past),
    ("ruin", Angle::Past),
    ("art", Angle::Arts),
    ("arts", Angle::Arts),
    ("architect", Angle::Arts),
    ("museum", Angle::Arts),
    ("book", Angle::Arts),
    ("literature", Angle::Arts),
    ("film", Angle::Arts),
    ("theatre", Angle::Arts),
];

fn angle(interest: &str) -> Option<Angle> {
    let lower = interest.to_lowercase();
    lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .find_map(|word| {
            // Stems of three letters or fewer ("art", "car", "sun", "map") must be the whole word.
            let fits = |stem: &str| {
                if stem.len() <= 3 && stem != "hik" {
                    word == stem
                } else {
                    word.starts_with(stem)
                }
            };
            KNOWN.iter().find(|known| fits(known.0)).map(|known| known.1)
        })
}

const LEAD: Bank = &[
    Line(
        ALL,
        "Somebody in this car asked for {interest}, so here is a contribution.",
    ),
    Line(ALL, "You mentioned {interest}. Then this may be for you."),
    Line(
        A | K,
        "And for whoever set out in search of {interest}, a find along the way.",
    ),
    Line(A | M, "There was a request for {interest}. It has not been forgotten."),
    Line(
        H | S,
        "On the subject of {interest}, which you named, the figures allow this much.",
    ),
    Line(
        H | S | M,
        "Under the heading of {interest}, as requested, I can offer the following.",
    ),
    Line(F | C, "A special announcement for the fan of {interest} among us!"),
    Line(F | C, "And now, by popular demand, meaning yours: {interest}."),
    Line(
        R | N | K,
        "You said that you care for {interest}. Here is something near to it.",
    ),
    Line(R | N, "With {interest} in mind, as you wished, listen to this."),
    Line(A | F, "Who was it that likes {interest}? Pay attention now."),
    Line(
        K | C,
        "And for the friend of {interest}, whom no tale should leave out, there is this.",
    ),
    Line(
        H | N,
        "You named {interest} among the things you care for. The following bears on that.",
    ),
    Line(
        M | R | S,
        "There was {interest} on your list. I have looked, and found this.",
    ),
];

const FOOD: Bank = &[
    Line(
        ALL,
        "The gazetteer keeps no menus, so with {interest} I shall not tell you tales. Ask somebody local, who will be flattered.",
    ),
    Line(
        A | K | M,
        "Concerning {interest}, my map is blank. In such cases explorers follow their noses.",
    ),
    Line(
        H | S,
        "On {interest} the source contains nothing; the matter will have to be settled by tasting.",
    ),
    Line(
        F | C,
        "What about {interest}? My gazetteer has never had a bite of anything. You will have to test that part yourselves, and thoroughly.",
    ),
    Line(
        R | N,
        "As to {interest}, nothing is written down, and that is as it should be. Find it together.",
    ),
];

const WILD: Bank = &[
    Line(
        ALL,
        "As for {interest}, the gazetteer counts people and nothing else that lives, so I name no species. Watch the edges of the road.",
    ),
    Line(
        A | K | M,
        "Of {interest} the map shows no trace, and I will not draw in what I have not seen. Keep your eyes on the margins.",
    ),
    Line(
        H | S,
        "On {interest} there are no data here, and a guess would be worse than a gap. Observe, and note the time and place.",
    ),
    Line(
        F | C,
        "Who is looking out for {interest}? My gazetteer only knows people. So the first one to spot something tells the rest of us.",
    ),
    Line(
        R | N,
        "And for {interest}, I have no list, only advice: stop somewhere, switch off the engine, and give it five minutes.",
    ),
];

const PAST: Bank = &[
    Line(
        ALL,
        "You care for {interest}. The gazetteer holds positions and counts, no dates, and so I leave the past to those who have its papers.",
    ),
    Line(
        A | K | M | R | N,
        "On {interest} I must be honest: my source knows where things are and not what happened there. Look for the oldest name on the oldest wall, if there is one.",
    ),
    Line(
        H | S | F | C,
        "For {interest} one needs archives. I have a gazetteer, which is a book without a single date in it. Do ask when you arrive.",
    ),
];

const ARTS: Bank = &[
    Line(
        ALL,
        "For {interest} my source has no entry, and I would sooner leave a gap than paint in something false. Keep an hour free for it.",
    ),
    Line(
        A | K | M | R | N,
        "Of {interest} nothing is marked on the map. That makes it a proper discovery, if you make one.",
    ),
    Line(
        H | S | F | C,
        "As for {interest}, the gazetteer is no critic: it lists places, not works. You will have to be the judge.",
    ),
];

const LOOK_OUT: Bank = &[
    Line(
        ALL,
        "And {interest}? About that the gazetteer is silent, and I do not make things up. Look out for it along the way.",
    ),
    Line(
        ALL,
        "With {interest} I cannot help from here; it is not in the book of places. Keep your eyes open, and it may find you.",
    ),
    Line(
        A | K,
        "Nothing on my map speaks of {interest}. So leave that space white, and fill it in yourselves.",
    ),
    Line(
        H | S,
        "Concerning {interest}, no record is at hand. The question may be taken to the spot.",
    ),
    Line(
        M,
        "One matter is unsolved: {interest}. The file has not a word about it. You may have better luck on the ground.",
    ),
    Line(
        F | C,
        "Who asked for {interest}? My book of places does not know a thing about that. The first to spot some gets to be smug all day.",
    ),
    Line(
        R | N,
        "And for {interest}, which you also like, I have no map. Perhaps it is waiting where no map has looked.",
    ),
];

/// The interests, told.
pub(super) struct Woven {
    /// One part for each interest that a fact answers.
    pub(super) parts: Vec<String>,
    /// The sentence or two for all the others.
    pub(super) rest: Option<String>,
}

/// Weaves the interests in, at most `parts_max` of them with facts of their own.
pub(super) fn weave(t: &mut Tale<'_>, interests: &[String], parts_max: usize) -> Woven {
    let mut woven = Woven {
        parts: Vec::new(),
        rest: None,
    };
    let mut rest: Vec<(String, Option<Angle>)> = Vec::new();
    let mut seen: Vec<String> = Vec::with_capacity(interests.len());
    for interest in interests {
        let interest = words::plain(interest, 60);
        let interest = interest.trim_end_matches(['.', '!', '?', ',', ';', ':']).to_owned();
        if interest.is_empty() || seen.contains(&interest) {
            continue;
        }
        seen.push(interest.clone());
        let angle = angle(&interest);
        let told = if woven.parts.len() < parts_max {
            angle.and_then(|angle| answer(t, &interest, angle))
        } else {
            None
        };
        match told {
            Some(part) => woven.parts.push(part),
            None => rest.push((interest, angle)),
        }
    }
    woven.rest = hand_back(t, &rest);
    woven
}

fn answer(t: &mut Tale<'_>, interest: &str, angle: Angle) -> Option<String> {
    let mark = t.mark();
    let told = match angle {
        Angle::Chapter(chapter) => {
            let beats: Vec<_> = BEATS
                .iter()
                .filter(|beat| beat.chapter == chapter && beat.weight > 0)
                .collect();
            let at = t.draw(0x1a7e, beats.len());
            (0..beats.len()).find_map(|i| {
                let beat = beats.get((i + at) % beats.len())?;
                let mark = t.mark();
                (beat.tell)(t).or_else(|| {
                    t.back_to(&mark);
                    None
                })
            })
        }
        Angle::Rail => travel::by_rail(t),
        Angle::Air => travel::by_air(t),
        Angle::Driving => travel::by_car(t),
        Angle::Bicycle => travel::by_bicycle(t),
        Angle::Running => travel::marathons(t),
        Angle::Music => travel::by_sound(t),
        Angle::Food | Angle::Wild | Angle::Past | Angle::Arts => None,
    };
    let Some(told) = told else {
        t.back_to(&mark);
        return None;
    };
    let Some(lead) = t.say(LEAD, &[("interest", interest)]) else {
        t.back_to(&mark);
        return None;
    };
    Some(format!("{lead} {told}"))
}

/// What no fact answers: together in one breath where there are several, else by kind.
fn hand_back(t: &mut Tale<'_>, rest: &[(String, Option<Angle>)]) -> Option<String> {
    let bank = match rest {
        [] => return None,
        [(_, Some(Angle::Food))] => FOOD,
        [(_, Some(Angle::Wild))] => WILD,
        [(_, Some(Angle::Past))] => PAST,
        [(_, Some(Angle::Arts))] => ARTS,
        _ => LOOK_OUT,
    };
    let names: Vec<String> = rest.iter().map(|part| part.0.clone()).collect();
    t.say(bank, &[("interest", &words::list(&names))])
}
