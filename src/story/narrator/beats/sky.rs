//! Clocks and stars.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

const SOLAR: Bank = &[
    Line(
        ALL,
        "Clock and sun do not quite agree here. By standard time the sun is at its highest, on average over the year, at {time}.",
    ),
    Line(
        A | K,
        "Do not trust the clock to tell you noon. By standard time the sun's own noon comes, on the average of the year, at {time}.",
    ),
    Line(
        H | S,
        "Mean solar noon falls at {time} by standard time; the gap is the price of sharing one clock across a whole zone.",
    ),
    Line(
        M,
        "Someone has tampered with the clocks, and everyone knows about it. Standard time says {time} when, on average, the sun stands highest.",
    ),
    Line(
        F | C,
        "Twelve o'clock is not noon here, whatever the clock says. By standard time the sun reaches the top, on average, at {time}. Lunch may be moved accordingly.",
    ),
    Line(
        C,
        "Noon, the real one with the sun at the top, takes place on average at {time} by standard time. The clock has been told, and does not care.",
    ),
    Line(
        R | N,
        "The sun keeps its own hours. It reaches its height, averaged over the year, at {time} by standard time.",
    ),
    Line(
        A | N,
        "The sun crosses the meridian here, on the yearly average, at {time} by standard time. A stick in the ground would tell you so without a battery.",
    ),
    Line(
        H | M,
        "Noon by the clock and noon by the sun parted company when time was unified. On the yearly average the sun culminates here at {time}, standard time.",
    ),
    Line(
        S,
        "Equation of time aside, the sun transits here at {time} by standard time. The rest is bureaucracy.",
    ),
    Line(
        K | R,
        "There are two noons here, one on the wall and one in the sky. The one in the sky comes, on average, at {time} by the standard-time one on the wall.",
    ),
    Line(
        ALL,
        "When the clock says twelve, the sun has not been asked. On the average of the year it stands highest at {time}, standard time.",
    ),
    Line(
        ALL,
        "The highest point of the sun comes, as a yearly average, at {time} by standard time, and not on the stroke of twelve.",
    ),
];

const PUNCTUAL: Bank = &[
    Line(
        ALL,
        "Clock and sun agree unusually well here: on average over the year the sun is highest at {time}, standard time.",
    ),
    Line(
        A | M | K | H | S,
        "The clocks here are nearly honest. By standard time the sun stands highest, on the average of the year, at {time}.",
    ),
    Line(
        F | C | R | N,
        "When the clock says twelve here, it almost means it. By standard time the sun tops out, on average, at {time}.",
    ),
];

/// Solar noon against the clock.
pub(super) fn solar_clock(t: &mut Tale<'_>) -> Option<String> {
    let noon = t.f.daylight.solar_noon_minutes;
    if t.f.place.lat.abs() > 85.0 || !t.fresh(topic::CLOCK) {
        return None;
    }
    let bank = if noon.abs_diff(720) <= 5 { PUNCTUAL } else { SOLAR };
    t.say(bank, &[("time", &words::clock(noon))])
}

const ZONE: Bank = &[
    Line(
        ALL,
        "In standard time its clocks run {offset} Greenwich, in the zone that computers know as {zone}.",
    ),
    Line(
        A | M | K,
        "Set your watch: standard time here is {offset} Greenwich. The zone goes by the name of {zone}.",
    ),
    Line(
        H | S,
        "Standard time is {offset} Universal Time; in the time zone database the entry is {zone}.",
    ),
    Line(
        F | C,
        "What time is it there? In standard time, {offset} Greenwich. The zone is called {zone}, in case anyone's watch asks.",
    ),
    Line(
        R | N,
        "When it is twelve in Greenwich, a clock on standard time here is {offset} it; the zone is named {zone}.",
    ),
    Line(
        A | F,
        "Think of a clock in Greenwich. In standard time, this place is {offset} it, and its zone is called {zone}.",
    ),
    Line(
        H | C,
        "By decree its clocks run, in standard time, {offset} Greenwich. The decree has a name in the books, and the name is {zone}.",
    ),
    Line(
        M | K | S,
        "The official time here, without any summer allowance, is {offset} Greenwich, under the heading {zone}.",
    ),
];

const ZONE_ZERO: Bank = &[
    Line(ALL, "In standard time its clocks agree with Greenwich to the minute."),
    Line(
        A | M | K | F | C,
        "There is no need to touch your watch if you come from Greenwich: standard time here is exactly the same.",
    ),
    Line(
        H | S | R | N,
        "Standard time here is Universal Time itself, nothing added and nothing taken away.",
    ),
];

/// Time zone.
pub(super) fn zone(t: &mut Tale<'_>) -> Option<String> {
    let offset = words::offset(t.f.utc_offset_minutes);
    // "America/Argentina/Ushuaia" is spoken as "Ushuaia".
    let zone = t.f.timezone.rsplit('/').next().unwrap_or_default().replace('_', " ");
    if zone.is_empty() || zone == "UTC" || !t.fresh(topic::ZONE) {
        return None;
    }
    if offset.is_empty() {
        return t.say(ZONE_ZERO, &[]);
    }
    t.say(ZONE, &[("offset", &offset), ("zone", &zone)])
}

const GREENWICH: Bank = &[
    Line(
        ALL,
        "The turning Earth brings the sun over {name} {gap} {side} it stands over Greenwich.",
    ),
    Line(
        A | K,
        "The sun that lights Greenwich lights this meridian too, only {gap} {other}: the Earth takes its time to turn.",
    ),
    Line(
        H | M | S,
        "By longitude alone, at four minutes of time to the degree, the sun crosses this meridian {gap} {side} it crosses that of Greenwich.",
    ),
    Line(
        F | C,
        "The sun has rounds to make, like a postman. It gets to the meridian here {gap} {side} it gets to Greenwich.",
    ),
    Line(
        R | N,
        "The noon that reaches this place is the same one that Greenwich gets, {gap} {other}.",
    ),
    Line(
        A | F,
        "Noon travels. It gets to this meridian {gap} {side} it gets to the one at Greenwich, and it never stops for petrol.",
    ),
    Line(
        H | C,
        "Greenwich may keep the official noon, but the sun is over this meridian {gap} {other}.",
    ),
    Line(
        K | R,
        "The same sun stands over Greenwich and over this place, though not together: here it is {gap} {other}.",
    ),
    Line(
        ALL,
        "Measured by the sun, and not by decree, this place lives {gap} {alt} Greenwich.",
    ),
];

/// The sun's way from Greenwich, four minutes to the degree.
pub(super) fn greenwich(t: &mut Tale<'_>) -> Option<String> {
    let minutes = words::whole(t.f.place.lng.abs() * 4.0);
    if minutes < 10 || t.f.place.lat.abs() > 85.0 || !t.fresh(topic::GREENWICH) {
        return None;
    }
    let east = t.f.place.lng > 0.0;
    let gap = words::day_length(u32::try_from(minutes).unwrap_or(0));
    t.say(
        GREENWICH,
        &[
            ("gap", &gap),
            ("side", if east { "before" } else { "after" }),
            ("other", if east { "earlier" } else { "later" }),
            ("alt", if east { "ahead of" } else { "behind" }),
        ],
    )
}

const NORTH_STAR: Bank = &[
    Line(
        ALL,
        "On a clear night the Pole Star stands about {n} above the horizon, due north: as many degrees as the latitude. It will not move while you look.",
    ),
    Line(
        A,
        "If the instruments fail, find the Pole Star. From here it stands about {n} above the northern horizon, and that angle is your latitude.",
    ),
    Line(
        A | K,
        "There is one lamp in the sky that nobody has to trim. The Pole Star stands {n} up in the north here, give or take a degree, and the whole night turns about it.",
    ),
    Line(
        H | S,
        "The altitude of Polaris equals the latitude to within a degree, so here it stands at about {n}.",
    ),
    Line(
        M,
        "One witness never leaves its post. The Pole Star stands about {n} above the northern horizon here, on every night of every year, and sees everything.",
    ),
    Line(
        F | C,
        "Look north on a clear night, and count up about {n} from the horizon. A fist at arm's length is ten. There is the Pole Star, the only one that never wanders off.",
    ),
    Line(
        R,
        "And at night, if it is clear, there is the Pole Star, about {n} up in the north. Everything else up there moves on. It stays.",
    ),
    Line(
        N | S,
        "All the stars here wheel about a point {n} above the northern horizon, and the Pole Star keeps within a degree of it.",
    ),
    Line(
        H | C,
        "You can read off the latitude at night. The Pole Star hangs about {n} above the northern horizon, and there is no subscription.",
    ),
    Line(
        M | F,
        "One light in the sky never moves. Look due north, about {n} up: there is the Pole Star, exactly where it was last night.",
    ),
    Line(
        K | R,
        "They would have pointed to it from any doorstep: the Pole Star, about {n} up in the north, the nail on which the sky is hung.",
    ),
];

const SOUTH_SKY: Bank = &[
    Line(
        ALL,
        "The Pole Star never shows itself here. The sky turns instead about a point {n} above the southern horizon.",
    ),
    Line(
        A,
        "Forget the Pole Star; from here it lies below the horizon. Your anchor is the southern pole of the sky, {n} above the horizon to the south, and no bright star marks it.",
    ),
    Line(
        A | K,
        "No star marks the still point of this sky. It stands {n} up in the south, a dark hub, and all the rest go round it.",
    ),
    Line(
        H | S,
        "The southern celestial pole stands {n} above the horizon, equal to the latitude. Polaris is never seen.",
    ),
    Line(
        M,
        "The most reliable witness of the north, the Pole Star, has never seen this place. The sky turns about an unmarked point, {n} above the southern horizon.",
    ),
    Line(
        F | C,
        "You can look for the Pole Star here all night long. It is hiding under the floor! The southern sky spins about an empty spot {n} up, in the south.",
    ),
    Line(
        R | N,
        "The stars here wheel about the south, around a dark place {n} above the horizon; the Pole Star belongs to other people.",
    ),
    Line(
        H | C,
        "The Pole Star, of which northerners are so proud, cannot be seen from here at all. The point on which this sky turns is {n} above the southern horizon, and it is vacant.",
    ),
    Line(
        M | F,
        "Which star never rises here? The Pole Star! The sky of the south turns about a place {n} above the horizon where there is no bright star at all.",
    ),
    Line(
        S | K,
        "The hub of the southern sky lies {n} above the horizon here. Nothing bright marks it, and all the stars go round it once a day.",
    ),
];

const LEVEL_SKY: Bank = &[
    Line(
        ALL,
        "So close to the equator both poles of the sky lie down near the horizon, and over a year nearly every star there is can be seen.",
    ),
    Line(
        A | K | R | N,
        "Few places are shown so much. Here by the equator the sky hides almost none of its stars; they rise straight up and go straight down.",
    ),
    Line(
        H | M | S | F | C,
        "Near the equator the celestial poles sit on the horizon, so in the course of a year almost all the stars come past.",
    ),
];

const PLOUGH: &str = " The Plough, which some call the Big Dipper, never sets here.";
const CROSS: &str = " The Southern Cross never sets here.";

/// Which sky: the height of the celestial pole, and a constellation that never sets.
pub(super) fn pole_star(t: &mut Tale<'_>) -> Option<String> {
    let lat = t.f.place.lat;
    if !t.fresh(topic::POLARIS) {
        return None;
    }
    let degrees = words::whole(lat.abs());
    let n = format!("{} degrees", words::number(degrees));
    let bank = match lat {
        _ if lat.abs() < 4.0 => LEVEL_SKY,
        _ if lat > 0.0 => NORTH_STAR,
        _ => SOUTH_SKY,
    };
    let mut told = t.say(bank, &[("n", &n)])?;
    // The Plough's southernmost star, Alkaid, has declination +49.3; the Cross's northernmost, Gacrux, -57.1.
    if lat > 41.5 && lat < 75.0 {
        told.push_str(PLOUGH);
    } else if lat < -33.5 {
        told.push_str(CROSS);
    }
    Some(told)
}
