//! The sun over the place: length of the days, height at noon, shadows.

use super::super::angle::{cos_deg, sin_deg};
use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

/// Tilt of the Earth's axis, degrees: the sun stands overhead at noon twice a year nearer to the equator than this.
const TILT: f64 = 23.44;

const DAYS: Bank = &[
    Line(
        ALL,
        "At the {lm} solstice the sun stays up for {long}; at the {sm} solstice it manages {short}.",
    ),
    Line(
        A,
        "Plan by the light. In late {lm} the day lasts {long}, enough for any expedition; in late {sm} you have {short}, so start early.",
    ),
    Line(
        A | K,
        "The year here swings like a gate. It opens in {lm}, when the sun is up for {long}, and it closes in {sm}, at {short}.",
    ),
    Line(
        H | S,
        "Day length, from sunrise to sunset, runs from {short} at the {sm} solstice to {long} at the {lm} solstice.",
    ),
    Line(
        M,
        "Consider how much darkness there is to work in. In late {sm} the sun is up for only {short}; in late {lm}, for {long}.",
    ),
    Line(
        F,
        "When is the best day for staying up late? In late {lm}: the sun is up for {long}. In late {sm} it goes home after {short}, and so should everybody.",
    ),
    Line(
        C,
        "The sun keeps seasonal opening hours. In late {lm} it is on duty for {long}. In late {sm} it puts in {short} and calls it a day.",
    ),
    Line(
        R,
        "In late {lm} a day here lasts {long}, from the first edge of the sun to the last. In late {sm} there are {short} of it, and long evenings to talk through.",
    ),
    Line(
        R | N,
        "Light is what the seasons deal in. {lm} gives {long} from sunrise to sunset; {sm} gives {short}, and keeps the rest for the stars.",
    ),
    Line(
        N,
        "At the turn of the year in {sm} the sun is above the horizon for {short}. Half a year on, in {lm}, it does not leave the sky for {long}.",
    ),
    Line(
        H | C,
        "The sun attends for {long} at the {lm} solstice, and for {short} at the {sm} one. Nobody has ever managed to negotiate.",
    ),
    Line(
        M | S,
        "From geometry alone: {long} of sun at the {lm} solstice, {short} at the {sm} solstice.",
    ),
    Line(
        A | F,
        "Take the longest day of the year, in {lm}, and you get {long} of sun. Take the shortest, in {sm}, and you get {short}. You would notice the difference.",
    ),
    Line(
        K,
        "In {lm}, Day rules over {long}; in {sm}, it has to make do with {short}, and Night laughs last.",
    ),
    Line(
        ALL,
        "The longest day of the year falls in {lm} and lasts {long}; the shortest, in {sm}, lasts {short}.",
    ),
    Line(
        ALL,
        "Between the solstice of {sm}, with {short} of daylight, and that of {lm}, with {long}, the whole year is played out.",
    ),
];

const EVEN: Bank = &[
    Line(
        ALL,
        "The days hardly change here. The longest lasts {long}, the shortest {short}, and that is the whole of the seasons as far as daylight goes.",
    ),
    Line(
        A | K,
        "No need to race the winter dark: the longest day of the year is {long}, and the shortest still {short}.",
    ),
    Line(
        H | M | S,
        "Day length is close to constant: {short} at one solstice, {long} at the other.",
    ),
    Line(
        F | C,
        "What time is bedtime in summer? About the same as in winter! The longest day here is {long}, the shortest {short}.",
    ),
    Line(
        R | N,
        "The sun is faithful here: {long} on the longest day, {short} on the shortest, and hardly a whisper between them.",
    ),
];

const EQUAL: Bank = &[
    Line(
        ALL,
        "Summer and winter do not differ here by a minute of daylight: both solstices give {long}.",
    ),
    Line(
        A | K | R | N,
        "The sun plays no favourites here. At either solstice the day lasts {long}, to the minute.",
    ),
    Line(
        H | M | S | F | C,
        "Here is a tidy result: {long} of daylight at one solstice, and exactly the same at the other.",
    ),
];

const POLAR: Bank = &[
    Line(
        ALL,
        "Around the {lm} solstice the sun does not set at all, and around the {sm} solstice it does not rise.",
    ),
    Line(
        A,
        "Bring a blindfold or a lamp. In late {lm} there is no sunset to camp by; in late {sm} there is no sunrise to set out at.",
    ),
    Line(
        A | K,
        "A teller of tales would never dare to invent it: in late {lm} a day without a night, and in late {sm} a night without a day.",
    ),
    Line(
        H | S,
        "The latitude settles the matter: at the {lm} solstice the sun stays above the horizon for the full twenty-four hours, at the {sm} solstice below it.",
    ),
    Line(
        M,
        "Something is wrong with the clock, you think. It is not. In late {lm} the sun here never sets; in late {sm} it never comes up.",
    ),
    Line(
        F | C,
        "Bedtime is a difficult subject here. In late {lm} the sun never goes down, and in late {sm} it never gets up.",
    ),
    Line(
        R | N,
        "In late {lm} the sun goes round the sky and forgets to leave. In late {sm} it stays below the edge of the world, and the day belongs to whoever lights the lamp.",
    ),
];

const NO_SUNSET: Bank = &[
    Line(
        ALL,
        "At the {lm} solstice the sun does not set; at the {sm} solstice the day lasts {short}.",
    ),
    Line(
        A | K | R | N,
        "In late {lm} evening never quite arrives: the sun stays above the horizon right round the clock. In late {sm} the light lasts {short}, and then it is over.",
    ),
    Line(
        H | M | S | F | C,
        "In late {lm} there is no sunset at all. In late {sm} sunrise and sunset stand only {short} apart.",
    ),
];

fn months(t: &Tale<'_>) -> (&'static str, &'static str) {
    if t.f.place.lat >= 0.0 {
        ("June", "December")
    } else {
        ("December", "June")
    }
}

/// The longest and the shortest day.
pub(super) fn long_days(t: &mut Tale<'_>) -> Option<String> {
    let light = &t.f.daylight;
    let (long, short) = if t.f.place.lat >= 0.0 {
        (light.june_minutes, light.december_minutes)
    } else {
        (light.december_minutes, light.june_minutes)
    };
    if !t.fresh(topic::SUMMER | topic::WINTER) {
        return None;
    }
    let (lm, sm) = months(t);
    let bank = match (long, short) {
        (1440.., 0) => POLAR,
        (1440.., _) => NO_SUNSET,
        (a, b) if a == b => EQUAL,
        (a, b) if a.saturating_sub(b) <= 60 => EVEN,
        _ => DAYS,
    };
    let (long, short) = (
        words::day_length(long),
        if short == 0 {
            "no time at all".to_owned()
        } else {
            words::day_length(short)
        },
    );
    t.say(bank, &[("lm", lm), ("sm", sm), ("long", &long), ("short", &short)])
}

const HEIGHTS: Bank = &[
    Line(
        ALL,
        "At noon the sun climbs to {high} degrees above the horizon in late {lm}, and to {low} in late {sm}.",
    ),
    Line(
        A | K,
        "Read the season from the noon sun: {high} degrees up in late {lm}, and a mere {low} in late {sm}. Sailors have steered by less.",
    ),
    Line(
        H | M | S,
        "The noon altitude of the sun is {high} degrees at the {lm} solstice and {low} at the {sm} one; the difference is the tilt of the Earth, twice over.",
    ),
    Line(
        F | C,
        "Stretch out your arm and make a fist: that covers about ten degrees of sky. At noon in late {lm} the sun stands {high} degrees up, in late {sm} {low}. You can work out the fists.",
    ),
    Line(
        R | N,
        "In late {lm} the noon light falls from {high} degrees; in late {sm} it comes in low, at {low}, and every fence post draws a line across the ground.",
    ),
    Line(
        H | C,
        "The sun rises in rank as well as in fact: {high} degrees at noon in late {lm}, and only {low} in late {sm}, when it hardly seems to be trying.",
    ),
    Line(
        M | S,
        "Measure the sun at noon on the solstices, and you get {high} degrees in {lm} and {low} in {sm}. Those two angles fix the latitude.",
    ),
    Line(
        A | F,
        "In late {lm}, at noon, the sun is {high} degrees up, so tip your head back. In late {sm} it is only {low} degrees up, and gets you right in the eye.",
    ),
    Line(
        K | R,
        "At noon in late {lm} the sun looks down from {high} degrees. In late {sm} it comes no higher than {low}, and looks you in the face.",
    ),
    Line(
        ALL,
        "The noon sun of late {lm} stands {high} degrees high; that of late {sm} has sunk to {low}.",
    ),
];

const LOW_SUN: Bank = &[
    Line(
        ALL,
        "Even at midsummer noon, in late {lm}, the sun climbs no higher than {high} degrees.",
    ),
    Line(
        A | K | N | R,
        "The sun never climbs far: {high} degrees at noon in late {lm} is the highest it will go all year.",
    ),
    Line(
        H | M | S | F | C,
        "The greatest height that the noon sun reaches all year, in late {lm}, is {high} degrees. In late {sm} it does not clear the horizon at all.",
    ),
];

const OVERHEAD: Bank = &[
    Line(
        ALL,
        "This is the zone between the tropics, so twice a year the noon sun passes straight overhead and an upright post has no shadow.",
    ),
    Line(
        A | K,
        "Twice a year, at noon, a traveller standing here has no shadow. It is not a spell. Between the tropics the sun passes straight overhead.",
    ),
    Line(
        H | M | S,
        "Its latitude is smaller than the tilt of the Earth, so on two days of the year the noon sun stands at the zenith and shadows vanish.",
    ),
    Line(
        F | C,
        "Here is a trick that works only between the tropics. On two days of the year, at noon, the sun is exactly overhead, and your shadow hides under your shoes.",
    ),
    Line(
        R | N,
        "Between the tropics the sun visits the top of the sky twice a year. At noon on those days nothing upright casts a shadow.",
    ),
];

/// The noon sun at the solstices.
pub(super) fn noon_heights(t: &mut Tale<'_>) -> Option<String> {
    let light = &t.f.daylight;
    let (high, low) = if t.f.place.lat >= 0.0 {
        (light.june_noon_degrees, light.december_noon_degrees)
    } else {
        (light.december_noon_degrees, light.june_noon_degrees)
    };
    if !t.fresh(topic::NOON) {
        return None;
    }
    let (lm, sm) = months(t);
    if t.f.place.lat.abs() < TILT - 0.2 {
        return t.say(OVERHEAD, &[]);
    }
    let bank = match low {
        low if low >= 1.0 => HEIGHTS,
        low if low < -1.0 => LOW_SUN,
        // Grazing the horizon, where refraction decides: nothing short is true of it.
        _ => return None,
    };
    let (high, low) = (words::number(words::whole(high)), words::number(words::whole(low)));
    t.say(bank, &[("lm", lm), ("sm", sm), ("high", &high), ("low", &low)])
}

const SHADOW: Bank = &[
    Line(
        ALL,
        "A metre stick set upright at noon throws a shadow of {short} in late {lm} and of {long} in late {sm}.",
    ),
    Line(
        A | K,
        "No instruments? A stick will do. One metre of it, upright, at noon: a shadow of {short} in late {lm}, of {long} in late {sm}.",
    ),
    Line(
        H | M | S,
        "Eratosthenes measured the Earth with shadows. Here a rod of one metre would give him {short} at noon in late {lm}, and {long} in late {sm}.",
    ),
    Line(
        F | C,
        "An experiment for the next stop: stand a metre stick upright at noon. In late {lm} its shadow here is {short} long; in late {sm} it grows to {long}.",
    ),
    Line(
        R | N,
        "Shadows keep the calendar. Anything a metre tall throws {short} of shade at noon in late {lm}, and {long} in late {sm}.",
    ),
    Line(
        A | N,
        "Plant a stick in the ground, a metre tall. In late {lm}, at noon, its shadow reaches {short}; in late {sm}, {long}.",
    ),
    Line(
        H | M,
        "The shadow of a metre rule at noon is a clock hand for the whole year: {short} in late {lm}, {long} in late {sm}.",
    ),
    Line(
        S | C,
        "Take one metre stick and a noon. In late {lm} you get {short} of shadow, in late {sm} {long}, with no batteries required.",
    ),
    Line(
        K | R,
        "At noon in late {lm} a child a metre tall has a shadow of {short}. In late {sm} the same child would trail one of {long}.",
    ),
];

/// Shadow of a metre stick at noon, said in centimetres or metres.
fn shade(height: f64) -> Option<String> {
    if !(5.0..=88.0).contains(&height) {
        return None;
    }
    let metres = cos_deg(height) / sin_deg(height);
    Some(if metres < 0.995 {
        format!("{} centimetres", words::number(words::whole(metres * 100.0)))
    } else {
        let halves = words::whole(metres * 2.0);
        match (halves / 2, halves % 2) {
            (1, 0) => "about a metre".to_owned(),
            (n, 0) => format!("about {} metres", words::number(n)),
            (n, _) => format!("about {} and a half metres", words::number(n)),
        }
    })
}

/// The shadow of a metre stick.
pub(super) fn shadow(t: &mut Tale<'_>) -> Option<String> {
    let light = &t.f.daylight;
    let (high, low) = if t.f.place.lat >= 0.0 {
        (light.june_noon_degrees, light.december_noon_degrees)
    } else {
        (light.december_noon_degrees, light.june_noon_degrees)
    };
    let (short, long) = (shade(high)?, shade(low)?);
    if t.f.place.lat.abs() < TILT || !t.fresh(topic::SHADOW) {
        return None;
    }
    let (lm, sm) = months(t);
    t.say(SHADOW, &[("lm", lm), ("sm", sm), ("short", &short), ("long", &long)])
}

const EQUINOX: Bank = &[
    Line(
        ALL,
        "In March and in September comes a day when light and dark are all but equal, here as everywhere; on it, the noon sun stands {n} degrees high.",
    ),
    Line(
        A | K,
        "Twice a year the whole world agrees. At the equinoxes day and night come out nearly even, here too, and the noon sun stands {n} degrees up.",
    ),
    Line(
        H | M | S,
        "At the equinoxes the noon sun stands at ninety degrees less the latitude. For this place that leaves {n}.",
    ),
    Line(
        F | C,
        "Twice a year, in March and September, day and night get nearly the same share, like two halves of a sandwich. Here the noon sun is then {n} degrees up.",
    ),
    Line(
        R | N,
        "At the equinoxes day and night share out the hours like friends, and at noon the sun stands here at {n} degrees.",
    ),
    Line(
        A | N | F,
        "When March or September brings the equinox, the noon sun stops at {n} degrees, just as far from the zenith as this place is from the equator.",
    ),
    Line(
        K | R | C,
        "Twice a year the sun plays fair, and gives day and night nearly equal shares everywhere. Here it stands {n} degrees high at noon on those days.",
    ),
    Line(
        ALL,
        "On the days of the equinox, in March and September, the sun at noon reaches {n} degrees here.",
    ),
];

/// The noon sun at the equinoxes.
pub(super) fn equinox(t: &mut Tale<'_>) -> Option<String> {
    let height = 90.0 - t.f.place.lat.abs();
    if height < 3.0 || !t.fresh(topic::EQUINOX) {
        return None;
    }
    t.say(EQUINOX, &[("n", &words::number(words::whole(height)))])
}
