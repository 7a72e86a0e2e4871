//! What a number of people is like: shares, chains, comparisons. Told only after the number itself.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

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
        "Set against the population of {land}, the people of this place come to one inhabitant in {n}.",
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
    Line(
        H | C,
        "Of the people of {land}, one in every {n} lives here and is presumably right about where to turn off.",
    ),
    Line(
        M | S,
        "Divide the country by the place, and the quotient is {n}: one person out of that many lives here.",
    ),
    Line(
        A | F,
        "Think of {n} people from all over {land}, standing in a row. One of them, on average, would come from {name}.",
    ),
    Line(
        K | R,
        "If {land} were a village of {n} people, just one of them would be from {name}.",
    ),
    Line(
        ALL,
        "One in every {n} people in {land} lives here, if the counts can be trusted.",
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
    Line(
        R | K,
        "Let them all take hands, with a metre and a half to each. The chain would go on for {chain}; its far end could be in {to}, {trips}.",
    ),
    Line(
        A | N,
        "All of them in a row, a metre and a half apiece, make a line of {chain}. You could lay it from here to {to}, {trips}.",
    ),
    Line(
        H | S,
        "Suppose every inhabitant stood for a metre and a half of rope. The rope would measure {chain} and reach {to}, {trips}.",
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
    Line(
        R | K,
        "Let them all take hands, with a metre and a half to each, and the chain would be {chain} long.",
    ),
    Line(
        A | N,
        "All of them in a row, a metre and a half apiece, make a line of {chain}. One could walk along it and greet each in turn.",
    ),
    Line(
        H | S,
        "Suppose every inhabitant stood for a metre and a half of rope. The rope would measure {chain}.",
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
    Line(
        H | C,
        "An official with a stamp, one stamp for each inhabitant and one inhabitant each second, would go home after {long}.",
    ),
    Line(
        M | S,
        "To grasp a number, count it. At one a second, without a break, this one takes {long}.",
    ),
    Line(
        A | F,
        "Suppose everyone here filed past your window, one each second. You would be waving for {long}.",
    ),
    Line(
        K | R,
        "Suppose that each of them were given one star, one every second, until all had theirs. It would take {long}.",
    ),
    Line(
        ALL,
        "It would take {long} merely to count the people here, one each second, without a stop.",
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
    Line(
        A | F,
        "Put it on a seesaw with {other}, and {other} goes up in the air: there are {times} as many people here.",
    ),
    Line(
        H | N,
        "Where {other} has one inhabitant, so to speak, this place has {times} as many.",
    ),
    Line(
        K | C,
        "Beside {other} it can feel like a giant, having {times} as many people.",
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
    Line(
        A | F,
        "Put it on a seesaw with {other}, and this side goes up in the air: {other} has {times} as many people.",
    ),
    Line(
        H | N,
        "It keeps company with {other}, which counts {times} as many inhabitants.",
    ),
    Line(
        K | C,
        "Beside {other} it can feel small, since that place has {times} as many people. It has fewer queues to show for it.",
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
