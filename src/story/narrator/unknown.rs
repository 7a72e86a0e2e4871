//! What to tell when the gazetteer does not know the place: that it does not, and how a map comes by its names.
//!
//! The general remarks on maps here are true of maps at large; nothing is said of the place that was asked for.

use super::Ask;
use super::pen::{A, ALL, Bank, C, F, H, K, Line, M, N, Pen, R, S};
use super::words;
use crate::story::types::Length;

const TITLES: Bank = &[
    Line(ALL, "Not on My Map"),
    Line(ALL, "A White Spot"),
    Line(A | K, "Beyond the Edge of the Map"),
    Line(H | S, "No Entry Found"),
    Line(M, "The Missing Name"),
    Line(F | C, "Where on Earth?"),
    Line(R | N, "Somewhere Unwritten"),
];

const OPEN: Bank = &[
    Line(
        ALL,
        "I have looked, and I have to tell you honestly: I do not know “{asked}”. It is not in my gazetteer, or not under that name.",
    ),
    Line(
        ALL,
        "“{asked}”, you said, and I went through my list of places from end to end. There is no such entry, and so there is no story of it that I could tell you truthfully.",
    ),
    Line(
        A,
        "Every map has an edge, and we have just reached it. “{asked}” lies beyond. I have no bearing for it, no distance, not even a dot.",
    ),
    Line(
        A | K,
        "The guide stops, looks at the map, turns it round and looks again. “{asked}” is not on it. An honest guide says so.",
    ),
    Line(
        H | S,
        "A search of the gazetteer for “{asked}” returns nothing. That is a result as well, and it should be reported as it is.",
    ),
    Line(
        M,
        "Here is a proper mystery. You ask about “{asked}”; I search every line of the file; and there is nothing there. No dot, no number, no trace.",
    ),
    Line(
        F | C,
        "Well, this is embarrassing. You want to hear about “{asked}”, and I, who know so many places, have never heard of it.",
    ),
    Line(
        R | N,
        "You have asked for “{asked}”, and I have no such name on my map. I would rather say so than make up a place that is not there.",
    ),
];

const HONEST: Bank = &[
    Line(
        ALL,
        "I could invent something. It would be easy: a market square, an old bridge, a legend. But you would be driving towards a place that I had made up, and that is no way to treat a traveller.",
    ),
    Line(
        A | K | M,
        "Tellers of tales have always been tempted at this point to draw in a dragon. I shall leave the spot white. White is an honest colour for a map.",
    ),
    Line(
        H | S,
        "The rule in such cases is simple: where the source is silent, the account stops. Everything I tell of a place comes out of a record, and here there is none.",
    ),
    Line(
        F | C,
        "I could make something up, of course. It would have a giant ice cream and a castle made of biscuits. You would notice when you got there, though, and then who would believe me about the next one?",
    ),
    Line(
        R | N,
        "A made-up story would sound just as sweet. But you will stand there one day, perhaps, and look for what I promised. So I promise nothing.",
    ),
];

const MEANWHILE: Bank = &[
    Line(
        ALL,
        "That a place is missing from a list says something about the list, and nothing about the place. Names get onto maps because somebody wrote them down; a great many were never written down anywhere that I could read.",
    ),
    Line(
        ALL,
        "A gazetteer is a humble book: names, positions, a few numbers. It is put together from the lists of countries and the corrections of careful people, and it is never finished.",
    ),
    Line(
        H | S,
        "For most of the past a map-maker had to ask: what do you call that? The answer went onto the paper, spelled as the map-maker heard it. Many names on maps are a traveller's spelling of a stranger's word.",
    ),
    Line(
        A | K,
        "The white patches on old maps were never empty. People lived in them and knew perfectly well where they were. It was only the map that was lost.",
    ),
    Line(
        M,
        "Consider who draws up such lists. Someone has to hear the name, spell it and fix it in place. At every step it may slip away, and nobody notices what was never entered.",
    ),
    Line(
        F | C,
        "Do you know how a place gets onto a map? Somebody has to tell the map. It cannot look out of the window by itself. So perhaps nobody has told mine yet.",
    ),
    Line(
        R | N,
        "Most of the good spots on this Earth have no entry anywhere: a bend in the road, a stone to sit on, the place where two people once stopped. They do very well without.",
    ),
];

const MORE: Bank = &[
    Line(
        ALL,
        "One place can have a dozen names. The people who live there use one, their neighbours use another, and the road sign has a third. I may well know it by one that you have not tried.",
    ),
    Line(
        ALL,
        "Then there is the matter of size. No list goes down to every farm, every crossroads and every street. A spot may be dear to you and yet too small for mine.",
    ),
    Line(
        A | K | R | N,
        "There is some comfort in it. If every spot had been entered already, there would be nothing left to find, and you would not have had to leave the house.",
    ),
    Line(
        H | S | M,
        "Spelling is the usual suspect. Letters with marks on them, words joined or parted, a name carried from one alphabet into another: each of these has hidden a place from a search before.",
    ),
    Line(
        F | C,
        "Here is a game for the road. Everybody invents one thing that might be at a place nobody knows, and everybody else says whether they believe it. Mind you, it is all invented, and that is what makes it a game and not a lie.",
    ),
];

const STILL: Bank = &[
    Line(
        ALL,
        "To find a place on the globe, two numbers are enough: how far north or south, and how far east or west. Everything that a person calls a place has such a pair, whether or not it has been given a name.",
    ),
    Line(
        ALL,
        "The equator is about 40,000 kilometres long, and the places with a name are a scatter of dots on that ball. Between the dots is nearly everything.",
    ),
    Line(
        ALL,
        "When at last you get there, look round. Note what the sign says, letter for letter. That is how every entry in every gazetteer began.",
    ),
    Line(
        A | K | R | N,
        "A road does not need to know the name of its end. It takes you there all the same, bend by bend, and when the engine stops you are somewhere, and somewhere is always a place.",
    ),
    Line(
        H | S | M | F | C,
        "A name that is on no list can still be asked about. Stop, roll down the window, and say it to somebody. That is older than any map, and it still works remarkably well.",
    ),
];

const INTEREST: Bank = &[
    Line(
        ALL,
        "You mentioned {interest} as well. I cannot say whether you will find it there, so keep your eyes open; that much I can recommend anywhere.",
    ),
    Line(
        A | K | R | N,
        "And since you care for {interest}: look out for it on the way. What one is looking for, one tends to find sooner.",
    ),
    Line(
        H | M | S | F | C,
        "As for {interest}, which you also asked about, I have nothing to go on. The spot itself will know better.",
    ),
];

const ADVICE: Bank = &[
    Line(
        ALL,
        "So let us try again. Give me another spelling, or add the country or the region after a comma. Or give me the point itself, as latitude and longitude, and I shall look for the nearest name I know.",
    ),
    Line(
        A | K,
        "Try another way in: a different spelling, the name that the locals use, the country after a comma. Or hand me the coordinates, and I shall steer by those to the nearest place on my map.",
    ),
    Line(
        H | S | M,
        "There are three ways to proceed. Another spelling; the name with its region or country after a comma; or the coordinates, from which I can work out the nearest known place.",
    ),
    Line(
        F | C,
        "Shall we try once more? Maybe it is spelled another way. Maybe it needs its country after a comma. And if everything fails, latitude and longitude never do: I shall find the nearest place that I know.",
    ),
    Line(
        R | N,
        "Tell me its name in another way, or which country it is in, after a comma; or only the two numbers, latitude and longitude. Then I shall look for the nearest name that I know.",
    ),
];

const CLOSE: Bank = &[
    Line(
        ALL,
        "Until then, drive carefully. You may be on your way to a place that is on nobody's map but yours.",
    ),
    Line(
        A,
        "And if no spelling helps, well, then it is the rarest thing of all: a place that you will have to discover for yourselves.",
    ),
    Line(
        K | M,
        "Until then the page stays white, and the story waits for its first word. I hope that you will bring it to me.",
    ),
    Line(
        H | S,
        "Until better evidence turns up the entry remains open. I look forward to closing it.",
    ),
    Line(
        F | C,
        "And if you do get there before I find it: send me a postcard! Put the sender's address on it, please, in block letters.",
    ),
    Line(
        R | N,
        "And if it is never found on any map, it can still be yours. Some of the best places are.",
    ),
];

/// Title and text for a place that is not known.
pub(super) fn compose(asked: &str, ask: &Ask<'_>) -> (String, String) {
    let asked = words::plain(asked, 120);
    let asked = if asked.is_empty() {
        "a place without a name".to_owned()
    } else {
        asked
    };
    let seed = ask.seed(super::Fnv::new().text(&asked).finish());
    let mut pen = Pen::new(ask.style, seed, ask.variation, vec![("asked", asked)]);

    let interests: Vec<String> = ask
        .interests
        .iter()
        .map(|text| words::plain(text, 60))
        .filter(|text| !text.is_empty())
        .collect();
    let interest = words::list(&interests);
    let mut paragraphs: Vec<Option<String>> = Vec::with_capacity(10);
    let title = pen.say(TITLES, &[]).unwrap_or_default();
    paragraphs.push(pen.say(OPEN, &[]));
    let body: &[Bank] = match ask.length {
        Length::Short => &[MEANWHILE],
        Length::Medium => &[HONEST, MEANWHILE, MORE, STILL],
        Length::Long => &[HONEST, MEANWHILE, MORE, STILL, MEANWHILE, STILL, MORE, MEANWHILE, STILL],
    };
    for bank in body {
        paragraphs.push(pen.say(bank, &[]));
    }
    if !interest.is_empty() {
        paragraphs.push(pen.say(INTEREST, &[("interest", &interest)]));
    }
    paragraphs.push(pen.say(ADVICE, &[]));
    paragraphs.push(pen.say(CLOSE, &[]));
    let story: Vec<String> = paragraphs.into_iter().flatten().collect();
    (title, story.join("\n\n"))
}
