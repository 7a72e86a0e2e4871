//! The nearest places in other countries.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

const ABROAD_ONE: Bank = &[
    Line(
        ALL,
        "Another country is within reach: {first} is {far} away, to the {dir}.",
    ),
    Line(
        A,
        "The border is an invitation. On the other side, {far} to the {dir}, lies {first}.",
    ),
    Line(
        A | K,
        "Go {dir} long enough, and the names are written in another country's hand: the first is {first}, {far} away.",
    ),
    Line(
        H | S,
        "The nearest place under another flag is {first}, {far} to the {dir}.",
    ),
    Line(
        M,
        "And there is a way out of the country. {first} lies {far} to the {dir}, over a line that only maps can see.",
    ),
    Line(
        F | C,
        "Without much trouble you could send a postcard from abroad: {first} is only {far} to the {dir}. Somebody remember the stamps.",
    ),
    Line(
        R | N,
        "To the {dir}, {far} from here, the country is a different one, and the name on the map is {first}.",
    ),
    Line(
        H | C,
        "Abroad is nearer than you might expect: {first}, {far} to the {dir}, answers to a different government altogether.",
    ),
    Line(
        M | S,
        "The nearest name on the far side of a border is {first}. It is {far} to the {dir}.",
    ),
    Line(
        A | F,
        "Want to touch another country? Head {dir} for {far}, and you would come to {first}.",
    ),
    Line(
        K | R,
        "There is a line out there, drawn on paper, and beyond it, {far} to the {dir}, people in {first} go by other laws.",
    ),
];

const ABROAD_FAR: Bank = &[
    Line(
        ALL,
        "To be abroad takes a while from here: the nearest foreign name is {first}, {far} to the {dir}.",
    ),
    Line(
        A | K,
        "Foreign parts begin, for our purposes, {far} to the {dir}, with a name that is worth the journey: {first}.",
    ),
    Line(
        H | M | S,
        "The nearest place under another flag is {first}, at {far} to the {dir}.",
    ),
    Line(
        F | C,
        "If you want to send a postcard from abroad, the closest place to buy one is {first}, {far} to the {dir}. Pack something to eat.",
    ),
    Line(
        R | N,
        "Another country is {far} off, to the {dir}; its nearest name is {first}.",
    ),
    Line(
        H | C,
        "Foreign parts start late here. The first foreign name is {first}, {far} to the {dir}.",
    ),
    Line(
        A | F,
        "It would be quite a trip to another country: {first} is the nearest place abroad, and it is {far} to the {dir}.",
    ),
    Line(
        M | S,
        "Nearest point abroad, by the gazetteer: {first}, {far}, to the {dir}.",
    ),
    Line(
        K | N,
        "Go {dir}, and keep going for {far}, until the map changes colour. There, first among the foreign names, is {first}.",
    ),
];

const ABROAD_MORE: Bank = &[
    Line(ALL, "More than one country is within reach. There is {list}."),
    Line(
        A,
        "Have the passports ready, because the borders are generous here: {list}.",
    ),
    Line(
        A | K,
        "Frontiers gather in this corner of the map. Beyond them lie {list}.",
    ),
    Line(H | S, "Across the frontiers the nearest places are these: {list}."),
    Line(
        M,
        "There are several ways to leave the country, which never makes an inquiry easier: {list}.",
    ),
    Line(
        F | C,
        "How many countries could you visit before somebody asks whether we are there yet? Try these: {list}.",
    ),
    Line(
        R | N,
        "From here the foreign names are near enough to be daydreams: {list}.",
    ),
    Line(
        H | C,
        "This is one of those corners in which one can go abroad by mistake: {list}.",
    ),
    Line(M | S, "Across the borders these are the names to look up: {list}."),
    Line(A | F, "Count the countries you could reach from here! There is {list}."),
    Line(K | R, "The neighbours speak with other seals and stamps: {list}."),
];

/// The nearest places in other countries.
pub(super) fn abroad(t: &mut Tale<'_>) -> Option<String> {
    let new: Vec<_> =
        t.f.across_borders
            .iter()
            .filter(|other| !t.met(&other.place))
            .take(3)
            .copied()
            .collect();
    let first = *new.first()?;
    if !t.fresh(topic::ABROAD) {
        return None;
    }
    if new.len() == 1 || first.km > 250.0 {
        t.meet(&first.place);
        let (far, name) = (t.far(first.km), t.called(&first.place));
        let bank = if first.km < 120.0 { ABROAD_ONE } else { ABROAD_FAR };
        return t.say(
            bank,
            &[("first", &name), ("far", &far), ("dir", words::wind(first.direction))],
        );
    }
    let mut parts = Vec::with_capacity(3);
    for other in &new {
        t.meet(&other.place);
        parts.push(format!(
            "{}, {} to the {}",
            t.called(&other.place),
            words::kilometres(other.km),
            words::wind(other.direction)
        ));
    }
    t.say(ABROAD_MORE, &[("list", &parts.join("; "))])
}
