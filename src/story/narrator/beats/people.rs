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
    if n < 4 || region.is_empty() || region == t.f.country.name || !t.fresh(topic::REGION_RANK) {
        return None;
    }
    let within = words::region(region);
    let rank = t.f.rank_in_region.unwrap_or(0);
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

const SHARE: Bank = &[
    Line(
        ALL,
        "Stop people anywhere in {land} and ask where they live: if the figures are right, one in every {n} would say {name}.",
    ),
    Line(
        A | K,
        "Gather the whole country on one hill, call out the name of {name}, and one person in {n} would step forward.",
    ),
    Line(
        H | S,
        "Set against the population of {land}, that makes one inhabitant in {n}.",
    ),
    Line(
        M,
        "Pick anyone in {land} at random. The odds that they are from here are one in {n}. Not proof of anything, but odds are odds.",
    ),
    Line(
        F,
        "Imagine all of {land} drawing lots for where to live. One ticket in every {n} would say {name}.",
    ),
    Line(
        C,
        "One person in every {n} in {land} lives here. The others, one must assume, have their reasons.",
    ),
    Line(
        R | N,
        "Of every {n} people in {land}, one belongs to {name}. Finding the right one is another matter; people manage it all the time.",
    ),
];

/// One in how many of the country.
pub(super) fn share(t: &mut Tale<'_>) -> Option<String> {
    let (here, all) = (u64::from(t.f.place.population), t.f.country.population);
    if here == 0 || all / here < 2 || t.told & topic::HEADS == 0 || !t.fresh(topic::SHARE) {
        return None;
    }
    t.say(SHARE, &[("n", &words::number(words::ear(all as f64 / here as f64)))])
}

const CHAIN_FAR: Bank = &[
    Line(
        F,
        "Imagine that everybody here joins hands, a metre and a half from one person to the next. The line would be {chain} long. That is enough to get to {to}, {trips}.",
    ),
    Line(
        F | C,
        "Suppose the whole population held hands in a line, with a metre and a half for each. It would stretch {chain}: all the way to {to}, {trips}, and somebody in the middle would need the bathroom.",
    ),
    Line(
        C,
        "Put everybody in one queue, a metre and a half apiece, and it runs for {chain}. The front of it could be in {to}, {trips}, and the back would still ask what the queue is for.",
    ),
    Line(
        S | H | M,
        "A way to feel the number: allow a metre and a half for each inhabitant, in single file. The file is {chain} long, and would reach {to}, {trips}.",
    ),
    Line(
        A | K | N,
        "Picture everyone here walking in single file, a metre and a half to each. The line would be {chain} long, and could reach {to}, {trips}.",
    ),
    Line(
        R,
        "If everyone here took the next one by the hand, a metre and a half between them, the line would run for {chain}. It would reach {to}, {trips}. Two hands are enough for a start.",
    ),
];

const CHAIN_NEAR: Bank = &[
    Line(
        F,
        "Imagine that everybody here joins hands, a metre and a half from one to the next. How long is the line? It comes to {chain}.",
    ),
    Line(
        F | C,
        "If the whole population lined up for a photograph, with a metre and a half for each, the photographer would have to walk {chain} to get everybody in.",
    ),
    Line(
        C | M | H,
        "Lay the population out in a queue, a metre and a half apiece, and it is {chain} long. That is the whole of it, with nobody left at home to answer the door.",
    ),
    Line(
        A | K | N | S,
        "Picture everyone here in single file, a metre and a half to each. From the first to the last it would be {chain}.",
    ),
    Line(
        R,
        "If everyone here took the next one by the hand, a metre and a half between them, the line would be {chain} long, and a slow dance down its length would take the evening.",
    ),
];

/// The line that the inhabitants would make, and how far it would reach.
pub(super) fn hand_in_hand(t: &mut Tale<'_>) -> Option<String> {
    let km = f64::from(t.f.place.population) * 0.0015;
    if km < 0.3 || t.told & topic::HEADS == 0 || !t.fresh(topic::CHAIN) {
        return None;
    }
    let chain = if km < 1.0 {
        format!("{} metres", words::digits(words::ear(km * 1000.0)))
    } else {
        format!("about {}", words::kilometres(km))
    };
    let goals = [t.f.to_capital, t.f.nearest_metropolis, t.f.nearest_larger];
    let goal = goals
        .into_iter()
        .flatten()
        .filter(|goal| goal.km > 15.0 && goal.km < km)
        .max_by(|a, b| a.km.total_cmp(&b.km));
    let Some(goal) = goal else {
        return t.say(CHAIN_NEAR, &[("chain", &chain)]);
    };
    let trips = match (km / goal.km).floor() as u64 {
        0 | 1 => "with some people to spare".to_owned(),
        2 => "there and back again".to_owned(),
        n => format!("{} times over", words::number(n)),
    };
    let to = t.called(&goal.place);
    t.say(CHAIN_FAR, &[("chain", &chain), ("to", &to), ("trips", &trips)])
}

const COUNTING: Bank = &[
    Line(
        ALL,
        "Count the inhabitants aloud, one every second, without a pause for breath, and you would be at it for {long}.",
    ),
    Line(
        F,
        "Who wants to count everyone who lives here? One number every second, no stopping for sandwiches or sleep: you would be finished in {long}.",
    ),
    Line(
        S | H,
        "Counted at one a second, day and night, the population would occupy a patient clerk for {long}.",
    ),
    Line(
        K | A | M,
        "Suppose a tale in which somebody must greet each person here by name, one every second, never resting. It would take {long}, and that is a long time to keep smiling.",
    ),
    Line(
        C,
        "If you shook hands with everyone here, a second for each, you would be done in {long}, and so would your hand.",
    ),
    Line(
        R | N,
        "Say good evening to everyone here, one person a second, and you would need {long}. One good evening, said properly, may do.",
    ),
];

/// How long it would take to count the inhabitants.
pub(super) fn counting(t: &mut Tale<'_>) -> Option<String> {
    let seconds = f64::from(t.f.place.population);
    if seconds < 600.0 || t.told & topic::HEADS == 0 || !t.fresh(topic::COUNTING) {
        return None;
    }
    let hours = seconds / 3600.0;
    let long = if hours < 36.0 {
        words::travel(hours)
    } else {
        format!("about {}", words::days(hours / 24.0))
    };
    t.say(COUNTING, &[("long", &long)])
}

const GUESTS_BIGGER: Bank = &[
    Line(
        ALL,
        "Next to {other} it is the big sister, with {times} as many people by the count.",
    ),
    Line(
        F,
        "Suppose that everyone from {other} came to visit. This place would have {times} as many hosts as guests, so there would be enough beds for everybody.",
    ),
    Line(
        C,
        "Compared with {other} it has {times} as many people, which is the sort of thing one is too polite to mention over there.",
    ),
    Line(
        M | H | S,
        "Set the figures side by side. This place has {times} as many inhabitants as {other}.",
    ),
    Line(
        A | K | R | N,
        "Weigh it against {other}, and the scale comes down on this side: {times} as many people live here.",
    ),
];

const GUESTS_SMALLER: Bank = &[
    Line(
        ALL,
        "Beside {other} it is the small one. Over there live {times} as many people.",
    ),
    Line(
        F,
        "What if everyone from {other} came to tea at once? They would bring {times} as many people as there are hosts here. Put the kettle on early.",
    ),
    Line(
        C,
        "{other} has {times} as many people. {name} has, on that reckoning, a far better chance of a quiet lunch.",
    ),
    Line(
        M | H | S,
        "Set the figures side by side, and {other} shows {times} as many inhabitants.",
    ),
    Line(
        A | K | R | N,
        "Weigh it against {other}, and the scale goes down on the far side: {times} as many people live over there.",
    ),
];

/// The place beside another of a very different size.
pub(super) fn guests(t: &mut Tale<'_>) -> Option<String> {
    let here = f64::from(t.f.place.population);
    if here < 1.0 || t.told & topic::HEADS == 0 || t.told & topic::GUEST != 0 {
        return None;
    }
    let others = [t.f.near.first(), t.f.nearest_larger.as_ref(), t.f.near.get(1)];
    let at = t.draw(0x6e5, 3);
    let (other, ratio) = (0..3)
        .filter_map(|i| others.get((i + at) % 3).copied().flatten())
        .find_map(|other| {
            let there = f64::from(other.place.population);
            let ratio = if there > here {
                there / here
            } else {
                here / there.max(0.1)
            };
            (there >= 1.0 && (1.75..5000.0).contains(&ratio)).then_some((*other, ratio))
        })?;
    t.told |= topic::GUEST;
    let times = words::times(ratio)?;
    let name = t.called(&other.place);
    let bank = if f64::from(other.place.population) > here {
        GUESTS_SMALLER
    } else {
        GUESTS_BIGGER
    };
    t.say(bank, &[("other", &name), ("times", &times)])
}
