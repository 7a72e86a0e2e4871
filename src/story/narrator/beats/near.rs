//! What lies near, and across the borders.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

const NEAREST: Bank = &[
    Line(ALL, "The nearest neighbour on the map is {near}, {far} to the {dir}."),
    Line(
        ALL,
        "Leave to the {dir}, and the first name you come to is {near}, {far} off.",
    ),
    Line(
        A,
        "First waypoint: {near}. It is {far} to the {dir}, the closest name on the chart.",
    ),
    Line(
        A | K,
        "No place is nearer than {near}. Set out to the {dir}, and after {far} you could knock on its first door.",
    ),
    Line(
        H | S,
        "Its nearest recorded neighbour is {near}, at {far}, bearing {dir}.",
    ),
    Line(
        H,
        "Neighbours come first in any account of a place, and here the first is {near}, {far} to the {dir}.",
    ),
    Line(
        M,
        "Who would have seen anything? The nearest neighbour is {near}, {far} to the {dir}. Begin the questions there.",
    ),
    Line(
        M | S,
        "Draw a circle round {name} and let it grow. The first name it touches is {near}, {far} to the {dir}.",
    ),
    Line(
        F,
        "Now, who lives next door? {near} does, {far} to the {dir}. If this place sneezed, {near} would be the one to say bless you.",
    ),
    Line(
        F | C,
        "If it ever runs out of sugar, the nearest place to ask is {near}, {far} to the {dir}.",
    ),
    Line(
        C,
        "Its next-door neighbour is {near}, {far} to the {dir}, which is near enough to compare and far enough to deny it.",
    ),
    Line(
        R,
        "The one it leans towards is {near}, {far} to the {dir}; no other name on the map is closer.",
    ),
    Line(
        R | N,
        "Nearest of all is {near}, {far} to the {dir}. Between the two, the map has no other name to offer.",
    ),
    Line(
        N,
        "Go {dir} and let the land pass for {far}: then comes {near}, the first other name.",
    ),
    Line(
        H | C,
        "Nobody lives closer than {near}, going by the map: {far} to the {dir}. Whatever the two think of each other is not recorded.",
    ),
    Line(
        M | S,
        "By distance alone the first name to examine is {near}. It lies {far} to the {dir}, and nothing else is closer.",
    ),
    Line(
        A | F,
        "Start small. The very next place is {near}, and you would get there by going {far} to the {dir}.",
    ),
    Line(
        K | R,
        "Every place has one to which it would turn first. Here that one is {near}, {far} to the {dir}.",
    ),
    Line(ALL, "Next on the map comes {near}. It is {far} away, to the {dir}."),
    Line(
        ALL,
        "Nothing on the map is closer than {near}, which lies {far} to the {dir}.",
    ),
];

const ALONE: Bank = &[
    Line(
        ALL,
        "Its nearest neighbour on my map is {near}, and it is {far} away, to the {dir}. In between, the gazetteer has nothing to say.",
    ),
    Line(
        A,
        "The nearest other name on the chart is {near}, {far} to the {dir}. Check the tank, check the water, check both again.",
    ),
    Line(
        A | K,
        "Look for the neighbours, and you look a long time. The nearest is {near}, {far} away to the {dir}.",
    ),
    Line(
        H | S,
        "Its isolation can be measured: the nearest recorded place is {near}, at {far}, bearing {dir}.",
    ),
    Line(
        M,
        "Ask the neighbours? There is a difficulty. The nearest is {near}, {far} to the {dir}.",
    ),
    Line(
        F | C,
        "Popping next door takes planning here. Next door is {near}, {far} to the {dir}.",
    ),
    Line(
        R | N,
        "It keeps its distance from the world. The nearest other name on my map is {near}, {far} to the {dir}.",
    ),
    Line(
        H | C,
        "Company is scarce. The nearest place on record is {near}, {far} to the {dir}, and one would hardly go over to borrow an egg.",
    ),
    Line(
        A | F,
        "Guess how far it is to the next-door neighbour. It is {far}, to the {dir}, and the neighbour is called {near}!",
    ),
    Line(
        K | S,
        "One could call it a lonely spot, by the numbers: {near}, the nearest other name, lies {far} to the {dir}.",
    ),
];

/// For an empty list of neighbours: the facts look 300 km around and leave out what lies within the place itself.
const NOBODY: Bank = &[
    Line(
        ALL,
        "No neighbour can be reported. Beyond its own outskirts my gazetteer has no other name within three hundred kilometres.",
    ),
    Line(
        A | K,
        "Look all round the horizon, and then beyond it: for three hundred kilometres on every side my map has no other name to steer by.",
    ),
    Line(
        H | M | S,
        "The list of neighbours is empty. Outside the place itself, nothing is on record within three hundred kilometres.",
    ),
    Line(
        F | C,
        "Who lives next door? Nobody! Go three hundred kilometres in any direction, and my gazetteer knows no other place.",
    ),
    Line(
        R | N,
        "There is no neighbour. On every side, for three hundred kilometres, the map is without another name.",
    ),
];

/// The nearest place.
pub(super) fn nearest(t: &mut Tale<'_>) -> Option<String> {
    if t.f.near.is_empty() {
        return if t.fresh(topic::NEAREST) {
            t.say(NOBODY, &[])
        } else {
            None
        };
    }
    let near = *t.f.near.iter().find(|near| near.place.name != t.f.place.name)?;
    if !t.fresh(topic::NEAREST) || !t.meet(&near.place) {
        return None;
    }
    let (far, name) = (t.far(near.km), t.called(&near.place));
    let bank = if near.km < 60.0 { NEAREST } else { ALONE };
    t.say(
        bank,
        &[("near", &name), ("far", &far), ("dir", words::wind(near.direction))],
    )
}

const RING: Bank = &[
    Line(ALL, "Look around, and the neighbourhood takes shape: {ring}."),
    Line(
        ALL,
        "Others stand close by, each with its own number on the signpost: {ring}.",
    ),
    Line(
        A,
        "Three roads, if we may have one in each direction, and three prizes: {ring}. Pick one for the way home.",
    ),
    Line(
        A | K,
        "If this were a chart with a compass rose in the corner, these would be the names around it: {ring}.",
    ),
    Line(
        H | S,
        "The entries nearby, with distance and bearing, are these: {ring}.",
    ),
    Line(
        H,
        "No place stands alone in the records. Around this one are listed {ring}.",
    ),
    Line(
        M,
        "Now the others who were within reach. {ring}. Three names, three directions, and no alibis so far.",
    ),
    Line(S, "Three more fixes complete the survey: {ring}."),
    Line(
        F,
        "Turn on the spot, in your head, please, not in the seat belt, and point to them in turn: {ring}.",
    ),
    Line(
        F | C,
        "Imagine shouting hello from the rooftops. It would have to carry to the rest of the family: {ring}.",
    ),
    Line(
        C,
        "The rest of the neighbourhood association consists of {ring}. Minutes of the meetings have not survived, because I have just imagined them.",
    ),
    Line(R, "There are detours for two in almost every direction: {ring}."),
    Line(R | N, "Further out the names thin into distance: {ring}."),
    Line(
        N,
        "Around it the land is dotted with names, as far as the eye could never see: {ring}.",
    ),
    Line(
        M | C,
        "The others on the guest list are these: {ring}. They all say they were at home, and for once that seems likely.",
    ),
    Line(
        H | K,
        "Round about lie others, as they have lain on every map of these parts: {ring}.",
    ),
    Line(
        S | N,
        "Sample the surroundings in a few more directions, and you find {ring}.",
    ),
    Line(A | F, "And there is more to pick from. Near by on the map are {ring}."),
    Line(
        ALL,
        "Round about, in no particular order but that of distance, lie {ring}.",
    ),
    Line(ALL, "The map has more names near by: {ring}."),
];

/// Three more places around.
pub(super) fn ring(t: &mut Tale<'_>) -> Option<String> {
    // The phrasings speak of "others" and "more": the first neighbour must have been told.
    if t.told & topic::RING != 0 || t.told & topic::NEAREST == 0 {
        return None;
    }
    let first = t.f.near.iter().find(|near| near.place.name != t.f.place.name)?.place.id;
    let others: Vec<_> = t
        .unmet_near(5)
        .into_iter()
        .filter(|near| near.place.id != first)
        .take(3)
        .collect();
    if others.len() < 3 {
        return None;
    }
    t.told |= topic::RING;
    let mut parts = Vec::with_capacity(3);
    for near in &others {
        t.meet(&near.place);
        parts.push(format!(
            "{} {} to the {}",
            t.called(&near.place),
            words::kilometres(near.km),
            words::wind(near.direction)
        ));
    }
    t.say(RING, &[("ring", &words::list(&parts))])
}

const LARGER: Bank = &[
    Line(
        ALL,
        "To find a place with more people than this one, you would travel {dir} for {far}, as far as {big}.",
    ),
    Line(
        A,
        "Should you crave something bigger, steer {dir}: {big} is the nearest place that outnumbers this one, {far} away.",
    ),
    Line(
        A | K,
        "Every place has a bigger brother somewhere, and the nearest one here is {big}. The way to it is {dir}, and it is {far}.",
    ),
    Line(
        H | S,
        "The nearest place with a larger population is {big}, at a distance of {far} to the {dir}.",
    ),
    Line(
        M,
        "Who casts a shadow over it? Going by numbers alone, {big}: the nearest larger place, {far} to the {dir}.",
    ),
    Line(
        F,
        "Which is the closest place that has even more people? It is {big}, {far} to the {dir}.",
    ),
    Line(
        C,
        "It is the biggest thing around until you get to {big}, {far} to the {dir}, and there is no need to bring that up.",
    ),
    Line(
        R | N,
        "For a bigger crowd one would go {dir}, {far}, to {big}. It can be left where it is.",
    ),
    Line(
        H | C,
        "Nothing bigger comes along until {big}, {far} to the {dir}. Small places measure such things exactly, and so do large ones.",
    ),
    Line(
        M | S,
        "Search outward for the first place with more people, and the search ends {far} to the {dir}, in {big}.",
    ),
    Line(
        A | F,
        "Here is a treasure hunt: find the nearest place that has more people. You would have to go {far} to the {dir}. It is {big}.",
    ),
    Line(
        K | R,
        "The next one to outshine it in numbers is {big}, {far} away to the {dir}.",
    ),
    Line(
        N,
        "Follow the land to the {dir}, and {far} on the settlements have grown past this one: there is {big}.",
    ),
    Line(
        ALL,
        "The first place on the way up in size is {big}: it has more people than this one, and it lies {far} to the {dir}.",
    ),
    Line(
        ALL,
        "If this one should be too small for you, {big} is larger, and no larger place is nearer. Go {dir} for {far}.",
    ),
];

/// The nearest larger place.
pub(super) fn larger(t: &mut Tale<'_>) -> Option<String> {
    let big = t.f.nearest_larger?;
    if !t.fresh(topic::LARGER) || !t.meet(&big.place) {
        return None;
    }
    let (far, name) = (t.far(big.km), t.called(&big.place));
    t.say(
        LARGER,
        &[("big", &name), ("far", &far), ("dir", words::wind(big.direction))],
    )
}

const METRO: Bank = &[
    Line(
        ALL,
        "The nearest city of a million or more is {big}, {far} to the {dir}, with {heads} people.",
    ),
    Line(
        A,
        "The bright lights, if you want them, are {far} to the {dir}: that is {big}, {heads} people strong and the nearest place in the million class.",
    ),
    Line(
        A | K,
        "Beyond the near hills, if there are hills, somewhere to the {dir}, sits a giant: {big}, with {heads} people. It is {far} away.",
    ),
    Line(
        H | S,
        "The nearest place with a million inhabitants is {big}: {heads}, at {far} to the {dir}.",
    ),
    Line(
        M,
        "Anyone who wished to vanish in a crowd would make for {big}. It has {heads} people, and it is the nearest place with a million: {far} to the {dir}.",
    ),
    Line(
        F,
        "A million is a one and six noughts. The nearest place with that many people is {big}. It has {heads}, and it is {far} to the {dir}.",
    ),
    Line(
        C,
        "If you miss traffic, proper traffic, the nearest city of a million is {big}, {far} to the {dir}. It has {heads} people, and one may assume that some of them drive.",
    ),
    Line(
        R,
        "A million strangers and more are waiting in {big}, {far} to the {dir}: {heads}, by the count. It only takes two to be somewhere else.",
    ),
    Line(
        R | N,
        "The glow of a great city would have to come from {big}, {far} to the {dir}, where {heads} people live. No place with a million is nearer.",
    ),
    Line(
        H | C,
        "To see a place with more than a million inhabitants, one goes to {big}, which has {heads} of them. It is {far} to the {dir}, and the parking there is presumably no better.",
    ),
    Line(
        M | S,
        "The nearest population in seven figures belongs to {big}, {heads} in all, at a distance of {far} to the {dir}.",
    ),
    Line(
        A | F,
        "Big city alert! The closest place with a million people is {big}. It has {heads}, and it lies {far} to the {dir}.",
    ),
    Line(
        K | N,
        "Where the numbers run past a million, there is {big}: {heads} people, {far} to the {dir}. Nothing as large lies nearer.",
    ),
    Line(
        ALL,
        "For a city that counts its people in millions, look {dir}: {big} has {heads}, and it is {far} away.",
    ),
    Line(
        ALL,
        "A place with a million inhabitants is not next door. The nearest, {big}, has {heads} and lies {far} to the {dir}.",
    ),
];

/// The nearest place of a million.
pub(super) fn metropolis(t: &mut Tale<'_>) -> Option<String> {
    let big = t.f.nearest_metropolis?;
    let heads = words::heads(u64::from(big.place.population))?;
    if !t.fresh(topic::METRO) || !t.meet(&big.place) {
        return None;
    }
    let (far, name) = (t.far(big.km), t.called(&big.place));
    t.say(
        METRO,
        &[
            ("big", &name),
            ("far", &far),
            ("heads", &heads),
            ("dir", words::wind(big.direction)),
        ],
    )
}
