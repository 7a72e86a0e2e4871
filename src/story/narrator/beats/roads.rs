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
