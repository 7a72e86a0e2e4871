//! Times to get somewhere at a stated speed, in a straight line.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

const RAIL: Bank = &[
    Line(
        ALL,
        "Picture a train that could run dead straight to {to}, {dir} of here, at a hundred and sixty kilometres an hour. It would need {time}. Whether there are rails, the gazetteer does not say.",
    ),
    Line(
        A | K | R | N,
        "Imagine an express, for a moment, at a hundred and sixty kilometres an hour on perfectly straight rails to {to}. You would lean back for {time}. The rails I have imagined; the distance I have not.",
    ),
    Line(
        H | M | S | F | C,
        "An imaginary express at a hundred and sixty kilometres an hour, on a dead straight track, would take {time} to {to}. Real timetables, I am afraid, are not in the gazetteer.",
    ),
];

const AIR: Bank = &[
    Line(
        ALL,
        "In an airliner at eight hundred kilometres an hour, going straight and never mind the taxiing, {to} would be {time} away.",
    ),
    Line(
        A | K | R | N,
        "Lift off in your mind. At eight hundred kilometres an hour, on the great circle, {to} would slide underneath after {time}.",
    ),
    Line(
        H | M | S | F | C,
        "Along the great circle, at the eight hundred kilometres an hour of an airliner, the flight to {to} takes {time}, not counting the search for the boarding pass.",
    ),
];

const BICYCLE: Bank = &[
    Line(
        ALL,
        "By bicycle, at twenty kilometres an hour and in a straight line, {to} would be {time} away.",
    ),
    Line(
        A | K | R | N | F,
        "Suppose we had brought bicycles. At twenty kilometres an hour, and as straight as you can steer, {to} is {time} off.",
    ),
    Line(
        H | M | S | C,
        "Converted to bicycle, at twenty kilometres an hour without detours or punctures, {to} is {time} away.",
    ),
];

const RUNNING: Bank = &[
    Line(
        ALL,
        "Laid out in a straight line, the way to {to} would make {n} times a marathon.",
    ),
    Line(
        A | K | R | N | F,
        "How many marathons is it to {to}? On a straight course, {n}, and there would be nobody to hand out water.",
    ),
    Line(
        H | M | S | C,
        "A marathon is a little over 42 kilometres. In that currency, {to} lies at a price of {n}.",
    ),
];

const MUSIC: Bank = &[
    Line(
        ALL,
        "Sound goes 343 metres in a second. If a band played here and nothing muffled it, {to} would hear the first note after {time}.",
    ),
    Line(
        A | K | R | N | F,
        "Suppose that somebody sang here, so loudly that it carried. In {to} they would hear it {time} later, which is the speed of sound for you.",
    ),
    Line(
        H | M | S | C,
        "At the speed of sound, 343 metres a second, a chord struck here would be due in {to} after {time}. The gazetteer does not say who is playing.",
    ),
];

const DRIVING: Bank = &[
    Line(
        ALL,
        "At an even eighty kilometres an hour, on a road without a bend, {to} would be {time} away. Real roads bend, which is why one brings a story.",
    ),
    Line(
        A | K | R | N | F,
        "Suppose the road ran straight and you kept to eighty kilometres an hour. Then {to} would come up after {time}.",
    ),
    Line(
        H | M | S | C,
        "At a constant eighty kilometres an hour, in a straight line, the drive to {to} is computed at {time}. Corners are extra.",
    ),
];

/// The time to a goal at a speed: the nearest goal within a range.
fn journey(t: &mut Tale<'_>, bank: Bank, km_per_hour: f64, range: std::ops::Range<f64>, topic: u64) -> Option<String> {
    let goals = [
        t.f.near.first().copied(),
        t.f.nearest_larger,
        t.f.to_capital,
        t.f.nearest_metropolis,
    ];
    let goal = goals
        .into_iter()
        .flatten()
        .filter(|goal| range.contains(&goal.km))
        .min_by(|a, b| a.km.total_cmp(&b.km))?;
    if !t.fresh(topic) {
        return None;
    }
    let (to, time) = (t.called(&goal.place), words::travel(goal.km / km_per_hour));
    t.say(
        bank,
        &[("to", &to), ("time", &time), ("dir", words::wind(goal.direction))],
    )
}

pub(in super::super) fn marathons(t: &mut Tale<'_>) -> Option<String> {
    let goals = [t.f.to_capital, t.f.nearest_metropolis, t.f.nearest_larger];
    let goal = goals.into_iter().flatten().find(|goal| goal.km >= 80.0)?;
    if !t.fresh(topic::MARATHON) {
        return None;
    }
    let n = format!("about {}", words::number(words::ear(goal.km / 42.195)));
    let to = t.called(&goal.place);
    t.say(RUNNING, &[("to", &to), ("n", &n)])
}

/// The time by an express train.
pub(in super::super) fn by_rail(t: &mut Tale<'_>) -> Option<String> {
    journey(t, RAIL, 160.0, 60.0..3000.0, topic::RAIL)
}

/// The time in an airliner.
pub(in super::super) fn by_air(t: &mut Tale<'_>) -> Option<String> {
    journey(t, AIR, 800.0, 300.0..20_000.0, topic::FLIGHT)
}

/// The time at the wheel.
pub(in super::super) fn by_car(t: &mut Tale<'_>) -> Option<String> {
    // Where nothing is near there is no road to speak of, not even an imagined one.
    t.f.near.first()?;
    journey(t, DRIVING, 80.0, 15.0..1500.0, topic::DRIVE)
}

/// The time on a bicycle.
pub(in super::super) fn by_bicycle(t: &mut Tale<'_>) -> Option<String> {
    // Where nothing is near there is no road to speak of, not even an imagined one.
    t.f.near.first()?;
    journey(t, BICYCLE, 20.0, 4.0..200.0, topic::RIDE)
}

/// When a sound would be heard.
pub(in super::super) fn by_sound(t: &mut Tale<'_>) -> Option<String> {
    journey(t, MUSIC, 1234.8, 10.0..2000.0, topic::LIGHTSPEED)
}
