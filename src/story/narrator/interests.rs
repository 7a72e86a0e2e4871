//! What the traveller likes, woven in: a known interest is answered with a true angle on the place, an unknown one is
//! handed back as something to look out for. Interests are text from outside; they are spoken, never interpreted
//! beyond a lookup of their words.

use super::beats::{Teller, answers};
use super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale};
use super::words;

/// How an interest can be answered.
#[derive(Debug, Clone, Copy)]
enum Angle {
    /// By a fact: the first of these beats that has something to say.
    Fact(&'static [Teller]),
    /// Not by facts, but with a word of its own: eating and drinking,
    Food,
    /// whatever lives and is not counted,
    Wild,
    /// the past,
    Past,
    /// and the arts.
    Arts,
}

use Angle::{Arts, Fact, Food, Past, Wild};

/// Words by which an interest is known, in lower case. One of four letters or more matches the start of a word; a
/// shorter one must be the whole word ("art" is not "party").
#[rustfmt::skip]
const KNOWN: &[(Angle, &[&str])] = &[
    (Fact(answers::STARS), &["astronom", "star", "sky", "skies", "moon", "space", "night", "planet", "telescope"]),
    (Fact(answers::LIGHT), &["photo", "light", "sun", "sunset", "season", "weather", "paint"]),
    (Fact(answers::CLOCKS), &["time", "clock", "watch", "watches", "calendar"]),
    (Fact(answers::EARTH), &["geograph", "globe", "travel", "geolog", "scien", "sailing", "ocean"]),
    (Fact(answers::PHYSICS), &["physic", "speed", "engineer"]),
    (Fact(answers::NUMBERS), &["math", "number", "statistic", "people", "demograph", "geometr"]),
    (Fact(answers::WORDS), &["language", "linguist", "name", "names", "word", "words", "etymolog", "spelling"]),
    (Fact(answers::STATE), &["politic", "border", "econom", "flag", "countries"]),
    (Fact(answers::FOOT), &["hik", "walk", "pilgrim", "trekking"]),
    (Fact(answers::HEIGHTS), &["mountain", "climb", "tower", "viewpoint"]),
    (Fact(answers::MAPS), &["map", "maps", "cartograph", "navigat", "orienteer"]),
    (Fact(answers::MONEY), &["money", "coin", "shopping", "finance"]),
    (Fact(answers::SIGNALS), &["phone", "telephone", "radio", "technolog", "telecom"]),
    (Fact(answers::RAIL), &["train", "rail", "locomotive"]),
    (Fact(answers::AIR), &["plane", "planes", "flying", "flight", "aviation", "aircraft", "airplane", "airport"]),
    (Fact(answers::ROAD), &["driving", "road", "car", "cars", "motor", "truck"]),
    (Fact(answers::BICYCLE), &["cycl", "bike", "biking", "bicycl"]),
    (Fact(answers::RUNNING), &["running", "jogging", "marathon", "sport"]),
    (Fact(answers::MUSIC), &["music", "song", "singing", "jazz", "opera", "concert"]),
    (Food, &["food", "cook", "wine", "coffee", "beer", "restaurant", "bakery", "cheese", "cuisine", "chocolate"]),
    (Wild, &["bird", "wildlife", "animal", "plant", "tree", "trees", "nature", "garden", "flower", "fish", "forest"]),
    (Past, &["histor", "archaeolog", "castle", "ruin", "ancient", "war", "medieval"]),
    (Arts, &["art", "arts", "architect", "museum", "book", "books", "literature", "film", "films", "movie", "theatre", "poetry"]),
];

fn angle(interest: &str) -> Option<Angle> {
    let lower = interest.to_lowercase();
    lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .find_map(|word| {
            // "hik" and its like are stems all the same: no other word begins so.
            let fits = |stem: &&str| {
                if stem.len() <= 3 && *stem != "hik" {
                    word == *stem
                } else {
                    word.starts_with(*stem)
                }
            };
            KNOWN.iter().find(|known| known.1.iter().any(fits)).map(|known| known.0)
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
        let told = match angle {
            Some(Fact(tellers)) if woven.parts.len() < parts_max => answer(t, &interest, tellers),
            _ => None,
        };
        match told {
            Some(part) => woven.parts.push(part),
            None => rest.push((interest, angle)),
        }
    }
    woven.rest = hand_back(t, &rest);
    woven
}

fn answer(t: &mut Tale<'_>, interest: &str, tellers: &[Teller]) -> Option<String> {
    let mark = t.mark();
    // The best answer comes first; where there are many, every second variation begins with the next best.
    let from = if tellers.len() > 3 { t.walk(0x1a7e, 2) } else { 0 };
    let told = (0..tellers.len()).find_map(|i| {
        let mark = t.mark();
        tellers
            .get((i + from) % tellers.len())
            .and_then(|tell| tell(t))
            .or_else(|| {
                t.back_to(&mark);
                None
            })
    });
    let lead = told.is_some().then(|| t.say(LEAD, &[("interest", interest)])).flatten();
    match (lead, told) {
        (Some(lead), Some(told)) => Some(format!("{lead} {told}")),
        _ => {
            t.back_to(&mark);
            None
        }
    }
}

/// What no fact answers: together in one breath where there are several, else by kind.
fn hand_back(t: &mut Tale<'_>, rest: &[(String, Option<Angle>)]) -> Option<String> {
    let bank = match rest {
        [] => return None,
        [(_, Some(Food))] => FOOD,
        [(_, Some(Wild))] => WILD,
        [(_, Some(Past))] => PAST,
        [(_, Some(Arts))] => ARTS,
        _ => LOOK_OUT,
    };
    let names: Vec<String> = rest.iter().map(|part| part.0.clone()).collect();
    t.say(bank, &[("interest", &words::list(&names))])
}
