//! How many live there, and what such a number is like.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

const HEADS_FIRST: Bank = &[
    Line(
        ALL,
        "By the GeoNames count {heads} people live here, and no other place in {land} has more.",
    ),
    Line(
        A,
        "You are heading for the big one: with {heads} people, nothing in {land} is larger.",
    ),
    Line(
        A | K,
        "Of all the gathering places of {land} this is the greatest. The gazetteer counts {heads} people.",
    ),
    Line(
        H | S,
        "It leads its country's table: {heads} inhabitants in the gazetteer, first of all the places of {land}.",
    ),
    Line(
        M,
        "You would think it hard to overlook. The count says {heads} people, more than anywhere else in {land}.",
    ),
    Line(
        F,
        "Which is the biggest place in all of {land}? You are listening to its story. It has {heads} people.",
    ),
    Line(
        C,
        "It is the largest place in {land}, with {heads} people, so if you cannot find a parking space, at least you are in good company.",
    ),
    Line(
        R | N,
        "No place in {land} holds more people: {heads}, by the gazetteer's count, and any two of them might be in the next car.",
    ),
    Line(
        H | C,
        "It is number one in {land}, by heads: {heads} of them. Number two has been looking up at it ever since somebody drew up the table.",
    ),
    Line(
        M | S,
        "On the list of {land}, sorted by population, it takes the first line, with {heads} people.",
    ),
    Line(
        A | F,
        "First prize! With {heads} people this is the largest place of them all in {land}.",
    ),
    Line(
        K | R,
        "In all of {land} there is no larger company than this: {heads} people, by the count.",
    ),
    Line(
        ALL,
        "With {heads} people by the gazetteer's figures, it is the largest place in {land}.",
    ),
];

const HEADS_HIGH: Bank = &[
    Line(
        ALL,
        "By the GeoNames count it has {heads} people, which makes it the {rank} largest place in {land}.",
    ),
    Line(
        A,
        "Expect company: {heads} people live here, and only {above} in {land} can show more.",
    ),
    Line(
        A | K,
        "The counters of heads have been here too. They wrote down {heads} people, and {rank} place among all the places of {land}.",
    ),
    Line(
        H | S,
        "The figure in the gazetteer is {heads} inhabitants; ranked by that figure it stands {rank} in {land}.",
    ),
    Line(
        M,
        "Take the first figure in the file. It says {heads} people, and {rank} place in the whole of {land}. That is a lot of witnesses.",
    ),
    Line(
        F,
        "Try to picture {heads} people. That is how many live here, and it makes this number {number} in the whole of {land}.",
    ),
    Line(
        C,
        "It is the {rank} largest place in {land}, with {heads} people, each of whom will tell you that it used to be quieter. Or so one imagines; the gazetteer has not asked.",
    ),
    Line(
        R | N,
        "There are {heads} people here, by the count. In the long list of the places of {land} it comes {rank}.",
    ),
    Line(
        H | C,
        "By the GeoNames figures {heads} people live here. In the championship of {land} this amounts to {rank} place.",
    ),
    Line(
        M | S,
        "Population, according to the gazetteer: {heads} people. Position in the table of {land}: number {number}.",
    ),
    Line(
        A | F,
        "Count the people, and you get to {heads}. Line up all the places of {land} by size, and this is the {rank} in the line.",
    ),
    Line(
        K | R,
        "There are {heads} who call it home. Only {above} in {land} can gather more.",
    ),
    Line(
        ALL,
        "It has {heads} people, says the gazetteer, and stands {rank} in the whole of {land}.",
    ),
];

const HEADS_LOW: Bank = &[
    Line(
        ALL,
        "The GeoNames count gives it {heads} people; among the places of {land} that is rank {number}.",
    ),
    Line(
        A,
        "It is no metropolis: {heads} people by the count, and rank {number} in {land}. The best places to arrive are often of that size.",
    ),
    Line(
        A | K,
        "{heads} people, says the count, and {above} in {land} are larger. Small places make good tales: everybody in them matters.",
    ),
    Line(
        H | S,
        "The gazetteer enters {heads} inhabitants, and by that measure the place stands at number {number} in {land}.",
    ),
    Line(
        M,
        "The file says {heads} people. In the table of {land} it stands at number {number}, low enough that nobody would think to look here. That is worth noticing.",
    ),
    Line(
        F,
        "Number {number} is not a prize-winner's number. But that is where this place stands in {land}, with {heads} people.",
    ),
    Line(
        C,
        "With {heads} people it is number {number} in {land}. There is no medal for that. There is not even a certificate.",
    ),
    Line(
        R | N,
        "{heads} people call it home, if the gazetteer has counted right. It is number {number} in {land}, and number one for anyone who waits at a window there.",
    ),
    Line(
        H | C,
        "It holds place number {number} in {land}, with {heads} people. Somebody has to, and it does so without complaint.",
    ),
    Line(
        M | S,
        "In the gazetteer it has {heads} people. Sort {land} by population, scroll down to line {number}, and there it is.",
    ),
    Line(
        A | F,
        "How many people live here? The count says {heads}. That makes it number {number} in {land}.",
    ),
    Line(
        K | R,
        "It is not one of the great ones: {heads} people live here, and {above} in {land} are larger. But tales, like travellers, do not stop only at the great ones.",
    ),
    Line(
        ALL,
        "The gazetteer counts {heads} people here, and {above} in {land} with more.",
    ),
];

const HEADS_ONLY: Bank = &[
    Line(ALL, "The gazetteer gives it {heads} people."),
    Line(
        A | M | K,
        "As for company, the count in the gazetteer is {heads} people.",
    ),
    Line(H | S, "The recorded number of inhabitants is {heads}."),
    Line(
        F | C | R | N,
        "It is home to {heads} people, or was when somebody last counted for the gazetteer.",
    ),
    Line(A | F, "Living there, by the count, are {heads} people."),
    Line(
        M | C | N,
        "The count stands at {heads} people, and I pass it on as I found it.",
    ),
];

const HEADS_NONE: Bank = &[
    Line(
        ALL,
        "How many people live here, the gazetteer does not say; the space for the number is empty.",
    ),
    Line(
        A | K,
        "No one has written down for me how many live here. The place has its name and its spot on the globe, and keeps its number to itself.",
    ),
    Line(
        H | S,
        "The column for inhabitants is blank. I would rather leave it so than guess.",
    ),
    Line(
        M,
        "One figure is missing from the file: nobody has filled in how many people live here.",
    ),
    Line(
        F | C,
        "How many people live here? My gazetteer shrugs. There is a space for the number, and nothing in it.",
    ),
    Line(
        R | N,
        "The gazetteer names this place and does not count it, which leaves you free to think of it as yours.",
    ),
];

/// Inhabitants, and the rank in the country.
pub(super) fn heads(t: &mut Tale<'_>) -> Option<String> {
    if !t.fresh(topic::HEADS | topic::RANK) {
        return None;
    }
    let Some(heads) = words::heads(u64::from(t.f.place.population)) else {
        return t.say(HEADS_NONE, &[]);
    };
    let rank = u64::from(t.f.rank_in_country.unwrap_or(0));
    // A rank beyond the number of places listed would only confuse a listener.
    let rank = if rank > u64::from(t.f.country.places) { 0 } else { rank };
    let above = match rank.saturating_sub(1) {
        1 => "one place".to_owned(),
        n => format!("{} places", words::number(n)),
    };
    let vars = [
        ("heads", heads.as_str()),
        ("rank", &words::ordinal(rank)),
        ("number", &words::number(rank)),
        ("above", &above),
    ];
    match (rank, t.f.country.places) {
        (0, _) | (_, 0..=2) => t.say(HEADS_ONLY, &vars),
        (1, _) => t.say(HEADS_FIRST, &vars),
        (2..=60, _) => t.say(HEADS_HIGH, &vars),
        _ => t.say(HEADS_LOW, &vars),
    }
}

const REGION_FIRST: Bank = &[
    Line(
        ALL,
        "Within {in} nothing is larger: of the {n} places that the gazetteer lists there, this one comes first.",
    ),
    Line(
        A | K,
        "Inside {in} it has no rival. The book lists {n} places there, and this is the largest of them.",
    ),
    Line(H | M | S, "In its own division, {in}, it heads a list of {n} places."),
    Line(
        F | C,
        "In {in} it wins. There are {n} places on the list, and this one has the most people, so it gets to hold the map.",
    ),
    Line(
        R | N,
        "In {in}, among {n} places, none has more lights to switch on of an evening. That, at least, is what the head count suggests.",
    ),
    Line(
        H | C,
        "In {in} it is undisputed. {n} places are listed there, and the others are smaller.",
    ),
    Line(
        M | S,
        "Filter the table to {in}: {n} places remain, and the first line is this one.",
    ),
    Line(
        K | R,
        "Among the {n} places of {in} it wears the crown, if numbers make a crown.",
    ),
];

const REGION_LATER: Bank = &[
    Line(ALL, "Narrow it down to {in}, and it comes {rank} among {n} places."),
    Line(
        A | K,
        "Closer to home, in {in}, it stands {rank} out of {n}: no mean place at the table.",
    ),
    Line(
        H | M | S,
        "Within {in} the table has {n} lines, and this is the {rank}.",
    ),
    Line(
        F | C,
        "In {in} alone, which has {n} places on the list, it finishes {rank}. Polite applause from the back seat, please.",
    ),
    Line(
        R | N,
        "And in {in}, one of {n} places, it is the {rank} by the number of its people.",
    ),
    Line(
        H | C,
        "Within {in}, where {n} places compete, it comes {rank}, which is not nothing.",
    ),
    Line(M | S, "Filter the table to {in}, and of {n} places this is the {rank}."),
    Line(K | R, "Among the {n} places of {in} it is the {rank} in size."),
];

const REGION_COUNT: Bank = &[
    Line(ALL, "{in} has {n} places in the gazetteer, this one among them."),
    Line(A | K | M, "The book knows {n} places in {in}; we want only this one."),
    Line(H | S, "For {in} the gazetteer holds {n} entries in all."),
    Line(
        F | C | R | N,
        "It has company in {in}: {n} places in the gazetteer, counting this one.",
    ),
];

/// Rank within the region.
pub(super) fn region_rank(t: &mut Tale<'_>) -> Option<String> {
    let n = t.f.places_in_region;
    let region = t.f.place.region.trim();
    if n < 4
        || t.told & topic::HEADS == 0
        || region.is_empty()
        || region == t.f.country.name
        || !t.fresh(topic::REGION_RANK)
    {
        return None;
    }
    let within = words::region(region);
    let rank = t.f.rank_in_region.filter(|rank| *rank <= n).unwrap_or(0);
    let vars = [
        ("in", within.as_str()),
        ("n", &words::number(u64::from(n))),
        ("rank", &words::ordinal(u64::from(rank))),
    ];
    match rank {
        1 => t.say(REGION_FIRST, &vars),
        2..=40 => t.say(REGION_LATER, &vars),
        _ => t.say(REGION_COUNT, &vars),
    }
}
