//! Distances set against each other and against travelling times.

use super::super::angle::apart_km;
use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;
use crate::story::facts::Neighbour;

const TRIANGLE: Bank = &[
    Line(
        ALL,
        "Two of its neighbours, {one} and {two}, are {side} apart; with {name} at the third corner they make a triangle on the map.",
    ),
    Line(
        A | K,
        "From {one} to {two} it is {side}. Visit both, come back here, and you have walked the edges of a triangle.",
    ),
    Line(
        H | M | S,
        "One more measurement closes the figure: from {one} to {two} it is {side}. Three places, three sides, nothing left to chance.",
    ),
    Line(
        F | C,
        "Join {name}, {one} and {two} with a pencil, and you get a triangle. The side that does not touch {name} is {side} long. There may be a quiz.",
    ),
    Line(
        R | N,
        "And {one} and {two} have a distance of their own, {side}, in which we play no part.",
    ),
    Line(
        A | F,
        "Let {one} and {two} be the goals of a game. It is {side} from one goal to the other, and {name} is where the spectators sit.",
    ),
    Line(
        K | C,
        "Meanwhile {one} and {two}, which are {side} apart, have always had {name} to talk about.",
    ),
    Line(
        N | S,
        "Of the triangle between {name}, {one} and {two}, the side that faces {name} is {side} long.",
    ),
    Line(
        ALL,
        "From {one} to {two}, both of them close by, the distance is {side}.",
    ),
];

/// The distance between two of the neighbours.
pub(super) fn triangle(t: &mut Tale<'_>) -> Option<String> {
    let mut others = t.f.near.iter().filter(|near| near.place.name != t.f.place.name);
    let (one, two) = (*others.next()?, *others.next()?);
    let km = apart_km(one.place.lat, one.place.lng, two.place.lat, two.place.lng)?;
    if km < 2.0 || one.place.name == two.place.name || !t.fresh(topic::TRIANGLE) {
        return None;
    }
    let side = format!("about {}", words::kilometres(km));
    let (one, two) = (t.called(&one.place), t.called(&two.place));
    t.say(TRIANGLE, &[("one", &one), ("two", &two), ("side", &side)])
}

const FOOT: Bank = &[
    Line(
        ALL,
        "On foot, at an easy five kilometres an hour, {to} would be {time} away, if the path ran straight.",
    ),
    Line(
        A,
        "Suppose the car refused. On foot, at five kilometres an hour and without a detour, {to} is {time} off. Be kind to the car.",
    ),
    Line(
        A | K,
        "Travellers before engines reckoned in walking. At five kilometres an hour, in a straight line, {to} is {time} from here.",
    ),
    Line(
        H | S,
        "Converted into walking, at five kilometres an hour and in a straight line, {to} stands at {time}.",
    ),
    Line(
        M,
        "Could a man on foot have come from {to}? At five kilometres an hour, going straight, he would have needed {time}.",
    ),
    Line(
        F | C,
        "Shall we walk to {to}? At five kilometres an hour, and without anybody stopping to look at a beetle, it would take {time}. No? Then stay in your seats.",
    ),
    Line(
        R | N,
        "Walk it, side by side, at five kilometres an hour, and {to} would come after {time}, supposing a straight path and no reason to stop.",
    ),
    Line(
        H | C,
        "Our ancestors would have walked it. To {to}, straight across, at five kilometres an hour, they would have needed {time}, and they would have talked about it for a week.",
    ),
    Line(
        M | S,
        "At a walking pace of five kilometres an hour, neglecting hills, the straight line to {to} takes {time}.",
    ),
    Line(
        F | N,
        "If you could hop straight across the country on two legs, at five kilometres an hour, you would be in {to} after {time}.",
    ),
    Line(
        K | R,
        "Those who have time might go on foot. {to} would be {time} away at five kilometres an hour, with the path drawn straight.",
    ),
    Line(
        ALL,
        "Anyone setting out on foot for {to}, straight across and at five kilometres an hour, should allow {time}.",
    ),
];

/// Walking time to a place near by.
pub(super) fn on_foot(t: &mut Tale<'_>) -> Option<String> {
    let goal =
        t.f.near
            .iter()
            .filter(|near| near.km > 2.0 && near.km < 60.0 && near.place.name != t.f.place.name)
            .nth(t.draw(0xf007, 2))?;
    if !t.fresh(topic::WALK) {
        return None;
    }
    let (to, time) = (t.called(&goal.place), words::travel(goal.km / 5.0));
    t.say(FOOT, &[("to", &to), ("time", &time)])
}

const RIDDLE: Bank = &[
    Line(
        ALL,
        "A question in between: which is closer to {name}, {one} or {two}? It is {nearer}.",
    ),
    Line(
        A | K,
        "A gatekeeper in a tale would ask it like this: which lies nearer, {one} or {two}? Whoever says {nearer} may pass.",
    ),
    Line(
        H | S,
        "A test of one's inner map: of {one} and {two}, the nearer is {nearer}.",
    ),
    Line(
        M,
        "Try your judgement. {one} or {two}: which of them is closer? The tape measure says {nearer}.",
    ),
    Line(
        F,
        "Riddle time! Which is closer to {name}: {one}, or {two}? Hands up, no peeking at the map. The answer is {nearer}.",
    ),
    Line(
        C,
        "Quick, without thinking: which is closer, {one} or {two}? It is {nearer}. The map does not award points for confidence.",
    ),
    Line(
        R | N,
        "If you had to choose by nearness alone, {one} or {two}, it would have to be {nearer}.",
    ),
    Line(
        A | H,
        "Navigators, test yourselves: is {one} nearer, or {two}? The chart says {nearer}.",
    ),
    Line(
        C | K,
        "Two names walk up to the bar, {one} and {two}. The one that had less far to come is {nearer}.",
    ),
    Line(
        S | N | R,
        "Guess before you measure. Of {one} and {two}, the closer one is {nearer}.",
    ),
];

/// Which of two is nearer.
pub(super) fn riddle(t: &mut Tale<'_>) -> Option<String> {
    let fit = |near: &&Neighbour<'_>| near.place.name != t.f.place.name && !t.met(&near.place);
    let nearer = *t.f.near.iter().find(fit)?;
    let further =
        t.f.near
            .iter()
            .filter(fit)
            .find(|far| far.km > nearer.km * 1.08 + 0.5 && far.place.name != nearer.place.name)?;
    if !t.fresh(topic::RING) {
        return None;
    }
    let (yes, no) = (t.called(&nearer.place), t.called(&further.place));
    let (one, two) = if t.draw(0x71d, 2) == 0 {
        (&yes, &no)
    } else {
        (&no, &yes)
    };
    t.say(RIDDLE, &[("one", one), ("two", two), ("nearer", &yes)])
}

const LIGHT: Bank = &[
    Line(
        ALL,
        "A flash of light, going straight, would get from here to {to} in {light} of a second; a sound in air would need {sound}.",
    ),
    Line(
        S | H,
        "Light crosses from here to {to} in {light} of a second. Sound in air, at 343 metres a second, takes {sound}. So a signal fire beats a bell, and always has.",
    ),
    Line(
        C | F,
        "If you shouted from here to {to}, and the shout did not give up on the way, it would arrive after {sound}. A lamp would be seen in {light} of a second. This is why nobody telephones by shouting.",
    ),
    Line(
        A | K | M,
        "Suppose one had to send word to {to}. A lamp signal would cross in {light} of a second, and a gunshot, if it carried, would be heard after {sound}.",
    ),
    Line(
        R | N,
        "A light lit here could be in {to} after {light} of a second; a word spoken aloud, were it never to fade, would arrive after {sound}.",
    ),
    Line(
        A | F,
        "Ready, steady, flash! Light from here reaches {to} in {light} of a second. Sound would come puffing in after {sound}.",
    ),
    Line(
        H | N,
        "News once went at the speed of what could be seen or heard. From here to {to}, a flash would take {light} of a second, and a sound in air {sound}.",
    ),
    Line(
        M | C | K,
        "A signal to {to}? Light would do it in {light} of a second. A trumpet, assuming heroic lungs, would be heard after {sound}.",
    ),
    Line(
        ALL,
        "Light needs {light} of a second from here to {to}. Sound, if it could last the distance, would need {sound}.",
    ),
];

/// Light and sound to the capital or a metropolis.
pub(super) fn sound_and_light(t: &mut Tale<'_>) -> Option<String> {
    let goal = [t.f.to_capital, t.f.nearest_metropolis, t.f.nearest_larger]
        .into_iter()
        .flatten()
        .find(|goal| (30.0..3000.0).contains(&goal.km))?;
    if !t.fresh(topic::LIGHTSPEED) {
        return None;
    }
    // 299,792 km/s; said as one n-th of a second, so it must stay well below one.
    let parts = words::ear(299_792.458 / goal.km);
    let light = format!(
        "one {}",
        if parts.is_multiple_of(1000) {
            format!("{} thousandth", words::digits(parts / 1000))
        } else {
            words::ordinal(parts)
        }
    );
    let (to, sound) = (t.called(&goal.place), words::travel(goal.km / (0.343 * 3600.0)));
    t.say(LIGHT, &[("to", &to), ("light", &light), ("sound", &sound)])
}

const HORIZON: Bank = &[
    Line(
        ALL,
        "The Earth is round, and it shows: were the ground between smooth as a ball, you would have to climb {high} before {to} came up over the horizon.",
    ),
    Line(
        A | N,
        "Could one see as far as {to}? On a smooth round Earth, with nothing in between, the lookout would have to stand {high} up.",
    ),
    Line(
        H | M | S,
        "The curve of the Earth hides {to}. On a perfectly smooth globe an eye would need to be raised {high} to see that far.",
    ),
    Line(
        A | F,
        "How tall must a giraffe be to see {to} from here, if the Earth were as smooth as an apple? It would need its eyes {high} up!",
    ),
    Line(
        C | S,
        "If the Earth were flat you could see {to} from here. It is not, so even on perfectly smooth ground you would need a ladder of {high}. Mention this to anyone who doubts the globe.",
    ),
    Line(
        K | R,
        "From a tower {high} tall, in a world without hills or haze, you might see as far as {to}. Nobody has built it; it stands only in this sentence.",
    ),
    Line(
        ALL,
        "Could you see {to} from here? On a perfectly smooth Earth, yes, from a height of {high}.",
    ),
];

/// How high one would have to stand to see another place over the curve of the Earth: d squared over 2 R.
pub(super) fn horizon(t: &mut Tale<'_>) -> Option<String> {
    let goals = [
        t.f.to_capital,
        t.f.nearest_larger,
        t.f.near.first().copied(),
        t.f.nearest_metropolis,
    ];
    let goal = goals
        .into_iter()
        .flatten()
        .find(|goal| (16.0..400.0).contains(&goal.km) && goal.place.name != t.f.place.name)?;
    if !t.fresh(topic::HORIZON) {
        return None;
    }
    let metres = goal.km * goal.km / (2.0 * 6371.0088) * 1000.0;
    let high = if metres < 2000.0 {
        format!("{} metres", words::number(words::ear(metres)))
    } else {
        words::kilometres(metres / 1000.0)
    };
    let to = t.called(&goal.place);
    t.say(HORIZON, &[("to", &to), ("high", &high)])
}

const TOGETHER: Bank = &[
    Line(
        ALL,
        "Add up the {n} nearest places that have been counted, and you get {sum} people between them.",
    ),
    Line(
        A | N,
        "Gather in everyone from the {n} nearest counted places, and there would be {sum} people round the fire.",
    ),
    Line(
        H | M | S,
        "Taken together, the {n} nearest places with a count come to {sum} inhabitants.",
    ),
    Line(
        F | C,
        "If the {n} nearest places on the list all came over for a party, you would have to lay the table for {sum}.",
    ),
    Line(
        H | K,
        "The near neighbours, {n} of them with a count, have {sum} people in all. It is a company that any tale could use.",
    ),
    Line(
        C | R | S,
        "All in all the {n} nearest places that anyone has counted hold {sum} people. It is more than will fit in the car.",
    ),
    Line(
        ALL,
        "The neighbourhood, taken as the {n} nearest places with a count, is home to {sum} people.",
    ),
];

/// How many live in the nearest places together.
pub(super) fn together(t: &mut Tale<'_>) -> Option<String> {
    let counted =
        t.f.near
            .iter()
            .filter(|near| near.km < 150.0 && near.place.population > 0);
    let (n, sum) = counted.fold((0_u64, 0_u64), |(n, sum), near| {
        (n + 1, sum + u64::from(near.place.population))
    });
    if n < 3 || !t.fresh(topic::TOGETHER) {
        return None;
    }
    let sum = words::heads(sum)?;
    t.say(TOGETHER, &[("n", &words::number(n)), ("sum", &sum)])
}
