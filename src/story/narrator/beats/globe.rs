//! The place on the globe: equator and pole, the parallel, the far side.

use super::super::angle::cos_deg;
use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;
use super::whereabouts::coordinates;

/// Length of the equator, kilometres (WGS 84).
const EQUATOR_KM: f64 = 40_075.017;

const EQUATOR: Bank = &[
    Line(
        ALL,
        "Seen on a globe it sits {eq} {side} of the equator and {pole} from the {which} Pole.",
    ),
    Line(
        A,
        "Two great marks frame every voyage. From here the equator is {eq} off, the {which} Pole {pole}.",
    ),
    Line(
        A | K,
        "If you had to choose between the ice and the heat, you would ride {pole} for the {which} Pole, or {eq} for the equator.",
    ),
    Line(
        H | S,
        "In the large frame of the globe it lies {eq} {side} of the equator; to the {which} Pole there remain {pole}.",
    ),
    Line(
        M,
        "Two fixed points cannot lie. The equator is {eq} away, the {which} Pole {pole}. Whatever else is doubtful, the place is between them.",
    ),
    Line(
        F | C,
        "Which is closer, penguins and polar bears or the equator? Never mind the animals, here are the numbers: it is {pole} to the {which} Pole, and {eq} to the equator.",
    ),
    Line(
        R | N,
        "Between the {which} Pole, {pole} away, and the equator, {eq} away, this is its place in the order of warm and cold.",
    ),
    Line(
        A | N,
        "Two ways to leave the middle of the map. Towards the {which} Pole you would have {pole} of globe in front of you; towards the equator, {eq}.",
    ),
    Line(
        H | M,
        "The globe has only two natural landmarks, and this is where they stand from here: the equator at {eq}, the {which} Pole at {pole}.",
    ),
    Line(
        S | C,
        "The distance to the equator is {eq}, and to the {which} Pole {pole}. Add the two, and you get a quarter of the way round the Earth, as you would from anywhere. It never fails.",
    ),
    Line(
        K | R,
        "Somewhere between the ice and the long noon of the equator every place has to settle. This one settled {pole} from the {which} Pole and {eq} from the equator.",
    ),
    Line(
        F,
        "Two great big distances! All the way to the {which} Pole it is {pole}. All the way to the equator it is {eq}. Which walk would you pick?",
    ),
    Line(
        ALL,
        "From pole to equator is a long way, and this place has its spot on it: {pole} from the {which} Pole, {eq} from the equator.",
    ),
    Line(
        ALL,
        "It lies {eq} {side} of the equator, while the {which} Pole is {pole} off.",
    ),
];

const ON_EQUATOR: Bank = &[
    Line(
        ALL,
        "The equator itself is only {eq} away. The poles are as far off as poles can be.",
    ),
    Line(
        A | K,
        "The belt of the world runs close by: {eq}, and you could stand with a foot in each half of the Earth.",
    ),
    Line(
        H | M | S,
        "It lies {eq} {side} of the equator, in other words next to it, as the globe counts.",
    ),
    Line(
        F | C,
        "The equator is practically in the garden: only {eq} away. Jump over it, and you have changed hemispheres.",
    ),
    Line(
        R | N,
        "The equator passes {eq} from here, without a sound, dividing nothing that you could see.",
    ),
];

/// Equator and pole.
pub(super) fn equator(t: &mut Tale<'_>) -> Option<String> {
    if !t.fresh(topic::EQUATOR | topic::POLE) {
        return None;
    }
    let (side, which) = if t.f.place.lat >= 0.0 {
        ("north", "North")
    } else {
        ("south", "South")
    };
    if t.f.equator_km < 150.0 {
        let eq = t.far(t.f.equator_km);
        return t.say(ON_EQUATOR, &[("eq", &eq), ("side", side)]);
    }
    let (eq, pole) = (t.far(t.f.equator_km), words::kilometres(t.f.pole_km));
    t.say(
        EQUATOR,
        &[("eq", &eq), ("pole", &pole), ("side", side), ("which", which)],
    )
}

const DEGREE: Bank = &[
    Line(
        ALL,
        "Its coordinates, to the nearest degree, are {at}. At this latitude one degree of longitude is {wide} wide.",
    ),
    Line(
        A | K,
        "Two numbers will always bring you back: {at}, to the nearest degree. Each degree east or west here is worth {wide} of ground.",
    ),
    Line(
        H | M | S,
        "To the nearest degree the position is {at}. Meridians draw together towards the poles, and at this latitude they stand {wide} apart, degree by degree.",
    ),
    Line(
        F | C,
        "Every spot on Earth has a secret address in numbers. Here it is, to the nearest degree: {at}. Move one degree sideways and you have gone {wide}.",
    ),
    Line(
        R | N,
        "The globe's own name for it is {at}, to the nearest degree, and from one meridian to the next it is {wide} here.",
    ),
    Line(
        A | N,
        "Write the position on your hand, to the nearest degree: {at}. One degree sideways along this latitude is {wide} of ground.",
    ),
    Line(
        H | M,
        "A position is a fact that nobody can talk away: {at}, to the nearest degree. On this latitude a degree east or west amounts to {wide}.",
    ),
    Line(
        S | C,
        "To the nearest degree we are talking about {at}. A degree of longitude, which is a generous helping at the equator, has shrunk here to {wide}.",
    ),
    Line(
        K | R,
        "On the great net that people have thrown over the Earth, this is the knot at {at}, to the nearest degree. The next thread east or west is {wide} away.",
    ),
];

/// Coordinates and the width of a degree.
pub(super) fn degree(t: &mut Tale<'_>) -> Option<String> {
    let (lat, lng) = (t.f.place.lat, t.f.place.lng);
    if lat.abs() > 88.0 || !t.fresh(topic::DEGREE | topic::COORDINATES) {
        return None;
    }
    let wide = format!("about {}", words::kilometres(EQUATOR_KM * cos_deg(lat) / 360.0));
    t.say(DEGREE, &[("at", &coordinates(lat, lng)), ("wide", &wide)])
}

const PARALLEL: Bank = &[
    Line(
        ALL,
        "Keep due east from here, never leaving the latitude, and after {round} you are back where you began. At a hundred kilometres an hour, day and night, that takes {days}.",
    ),
    Line(
        A,
        "The longest detour on offer is due east, all the way round, along this parallel: {round}, or {days} at a hundred kilometres an hour without a stop. The far end of it is here.",
    ),
    Line(
        A | K,
        "Suppose a rider who swore never to turn left or right. Going east along this parallel, round the whole Earth, the rider would come home after {round}.",
    ),
    Line(
        H | M | S,
        "The parallel through this point measures {round} round the Earth. A hundred kilometres an hour would cover it in {days}.",
    ),
    Line(
        F | C,
        "Are we there yet? Drive due east, right round the world on this line of latitude, and the answer is: in {days}, after {round}, at a hundred kilometres an hour, without stopping once. Then we would be there. Here, I mean.",
    ),
    Line(
        R,
        "Two people could set off from here, one due east, one due west, keep to this latitude, and meet again on the other side of the Earth, with {round} between them end to end.",
    ),
    Line(
        R | N,
        "The line of latitude that passes through here goes on round the Earth for {round} and closes on itself again, like a ring.",
    ),
    Line(
        N,
        "Set a feather on this latitude and blow it due east, and it has {round} to go before it comes home. Even at a hundred kilometres an hour, never resting, that is {days}.",
    ),
    Line(
        H | M,
        "To go round the world without once changing latitude takes, from here, {round}. At a hundred kilometres an hour one would be missed for {days}.",
    ),
    Line(
        S | C,
        "Cut the Earth along this latitude, and the edge of the slice is {round} long. A car doing a hundred kilometres an hour without a stop would drive round the edge in {days}, which nobody should attempt with children.",
    ),
    Line(
        K,
        "Tie a thread here, walk due east with the other end, and do not stop. When you come back from the west, {round} of thread will have run through your fingers.",
    ),
    Line(
        F,
        "How long would a rope have to be to go right round the world, due east, and come back to this very spot? It would be {round}! A car at a hundred kilometres an hour would need {days} to drive along it.",
    ),
    Line(
        ALL,
        "A whole turn of the globe along this latitude comes to {round}. A car at a hundred kilometres an hour, never stopping, would take {days}.",
    ),
];

/// The circle of latitude.
pub(super) fn parallel(t: &mut Tale<'_>) -> Option<String> {
    let km = EQUATOR_KM * cos_deg(t.f.place.lat);
    if km < 3000.0 || !t.fresh(topic::PARALLEL) {
        return None;
    }
    let round = format!("about {}", words::kilometres(km));
    let days = format!("about {}", words::days(km / 2400.0));
    t.say(PARALLEL, &[("round", &round), ("days", &days)])
}

const SPIN: Bank = &[
    Line(
        ALL,
        "It feels like standing still, but the turning Earth carries this spot eastward at {speed} an hour.",
    ),
    Line(
        A | K,
        "Nobody here has ever stood still. The Earth turns, and this spot rides along with it, eastward, at {speed} an hour.",
    ),
    Line(
        H | M | S,
        "By the rotation of the Earth every point of this latitude travels eastward at {speed} an hour.",
    ),
    Line(
        F,
        "Hold on tight, because even parked cars are fast here. The Earth is turning, and it carries this place along at {speed} an hour.",
    ),
    Line(
        C,
        "The speed limit is ignored by everyone, including the town hall, if there is one. Thanks to the turning Earth the whole place does {speed} an hour, eastward, without indicating.",
    ),
    Line(
        R | N,
        "Lie back in the grass, and you are under way: the Earth carries this latitude towards the sunrise at {speed} an hour.",
    ),
    Line(
        A | N,
        "Even a tent pitched here is on the move. The globe rolls eastward, and at this latitude it takes the tent along at {speed} an hour.",
    ),
    Line(
        H | M,
        "Strictly speaking nobody has ever spent a night in one place. At this latitude the ground moves eastward at {speed} an hour, beds included.",
    ),
    Line(
        S | C,
        "One turn a day, over the circumference of this latitude: that makes {speed} an hour for everything here, cats and traffic lights included.",
    ),
    Line(
        K | R,
        "The ground only seems to be still. It is a great wheel, and here it runs eastward at {speed} an hour, so gently that no glass is ever spilled.",
    ),
    Line(
        F,
        "Who is faster, a racing car or a sleeping dog in this place? The dog! The Earth turns and carries it along at {speed} an hour, basket and all.",
    ),
    Line(
        ALL,
        "Stand still here, and you travel all the same: the turning Earth takes this latitude eastward at {speed} an hour.",
    ),
    Line(
        ALL,
        "Nothing seems to stir, and yet this spot is doing {speed} an hour, due east, together with the whole turning Earth.",
    ),
];

/// Speed of rotation.
pub(super) fn spin(t: &mut Tale<'_>) -> Option<String> {
    if !t.fresh(topic::SPIN) {
        return None;
    }
    let speed = format!(
        "about {}",
        words::kilometres(EQUATOR_KM * cos_deg(t.f.place.lat) / 24.0)
    );
    t.say(SPIN, &[("speed", &speed)])
}

const SAME: Bank = &[
    Line(
        ALL,
        "Follow its latitude round the globe, and within a degree of the line you meet {list}.",
    ),
    Line(
        A,
        "There is a secret road along the latitude, and it runs through famous company: within a degree of the line lie {list}.",
    ),
    Line(
        A | K,
        "Distant cousins share this circle of the Earth. Within a degree of the same latitude stand {list}.",
    ),
    Line(H | S, "On nearly the same latitude, within a degree, one finds {list}."),
    Line(
        M,
        "Look along the line of latitude, because somebody always overlooks it. Within a degree of it are {list}. They have very nearly the same sun at noon, and nothing else in common that I could prove.",
    ),
    Line(
        F,
        "Which far-off places have days nearly as long as here, all year round? Those at the same latitude! Within a degree of the line you find {list}.",
    ),
    Line(
        C,
        "Latitude makes odd neighbours. Within a degree of the same line you find {list}, and nobody has ever asked them whether they mind.",
    ),
    Line(
        R,
        "Noon light at very nearly this slant falls on others as well. Within a degree of this latitude lie {list}.",
    ),
    Line(
        R | N,
        "This slant of light is shared. Within a degree of the same latitude lie {list}, and their days are very nearly as long as the days here.",
    ),
    Line(
        N | K,
        "The sun makes hardly a difference between places on one latitude. It treats this one much like {list}, all within a degree of the line.",
    ),
    Line(
        H | M,
        "Latitude keeps a list of its own, and this place shares a page with {list}: all of them lie within a degree.",
    ),
    Line(
        S | C,
        "Draw the parallel right round the globe, allow one degree either way, and the line collects {list}. It is not a club. There is no newsletter.",
    ),
    Line(
        A | F,
        "Run a finger along the globe at this height, and within one degree you touch {list}. That is a journey round half the world with one finger.",
    ),
    Line(
        S,
        "Equal latitude means equal sun at noon and equal day length, all through the year. Within a degree, the companions are {list}.",
    ),
    Line(
        ALL,
        "Places far apart can share a latitude. This one has, within a degree, {list} for company.",
    ),
    Line(
        ALL,
        "Go round the world at this height, so to speak, and you come near {list}: all within a degree of the same latitude.",
    ),
];

/// Well-known places on the same latitude.
pub(super) fn same_latitude(t: &mut Tale<'_>) -> Option<String> {
    let mut names = Vec::with_capacity(3);
    let new: Vec<_> =
        t.f.same_latitude
            .iter()
            .filter(|other| !t.met(&other.place))
            .take(3)
            .collect();
    for other in new {
        names.push(t.called(&other.place));
    }
    if names.len() < 2 || !t.fresh(topic::SAME_LATITUDE) {
        return None;
    }
    t.say(SAME, &[("list", &words::list(&names))])
}

const ANTIPODE: Bank = &[
    Line(
        ALL,
        "On the exact opposite side of the globe the point is {at}. The known place closest to it is {anti}, {far} from the mark.",
    ),
    Line(
        A,
        "For those who find every road too short: the farthest you can get from here on this planet is {at}, and the nearest place to it in the gazetteer is {anti}, {far} short of the spot.",
    ),
    Line(
        A | K,
        "Every place has its opposite, under the feet, on the underside of the Earth. The one nearest to the opposite of this is {anti}, {far} off the mark.",
    ),
    Line(
        H | S,
        "The antipode lies at {at}, to the nearest degree; {anti} comes closest to it, {far} away.",
    ),
    Line(
        M,
        "If someone wished to be as far from here as the planet allows, we would look at {at}. The nearest known place to that point is {anti}, {far} from it.",
    ),
    Line(
        F,
        "If you could dig straight through the Earth, where would you come up? Near {anti}! You would still have {far} to go from your hole, so bring shoes.",
    ),
    Line(
        C,
        "Dig straight down, right through the Earth, and you will be late for supper. You would come out {far} from {anti}, which is the nearest thing to a welcome on that side.",
    ),
    Line(
        R | N,
        "On the far side of the Earth, where it is night when it is day here, the nearest known place to the opposite point is {anti}, {far} from it.",
    ),
    Line(
        N,
        "Under your feet, at the other end of the Earth, the point is {at}. The nearest known place to it is {anti}, {far} off; there the sun goes down when yours comes up.",
    ),
    Line(
        H | M,
        "Ask which place is hardest to reach from here, and geometry points to {at}, on the reverse of the globe. The closest entry to that point is {anti}, {far} from it.",
    ),
    Line(
        S | C,
        "Turn both coordinates inside out, and you have the antipode, {at}. The gazetteer gets within {far} of it, with {anti}. Nobody can go further away than that, however hard they are trying.",
    ),
    Line(
        K | R,
        "They say that a stone dropped down a bottomless well comes out on the other side of the world. From here it would come out {far} from {anti}, the nearest name to that far side.",
    ),
    Line(
        A | F,
        "Think of the longest needle there is, and push it straight through the globe from here. The point comes out near {anti}, or not so near: there are still {far} in between.",
    ),
    Line(
        ALL,
        "Straight through the Earth from here one would come to {at}. No place that I know of is nearer to that point than {anti}, and it is {far} away from it.",
    ),
    Line(
        ALL,
        "The far side of the world, seen from here, is {at}. Nearest to it lies {anti}, still {far} away.",
    ),
];

/// The far side.
pub(super) fn antipode(t: &mut Tale<'_>) -> Option<String> {
    let anti = t.f.antipode?;
    if !t.fresh(topic::ANTIPODE) || !t.meet(&anti.place) {
        return None;
    }
    let (lat, lng) = (t.f.place.lat, t.f.place.lng);
    let at = coordinates(-lat, if lng > 0.0 { lng - 180.0 } else { lng + 180.0 });
    let (far, name) = (t.far(anti.km), t.called(&anti.place));
    t.say(ANTIPODE, &[("at", &at), ("anti", &name), ("far", &far)])
}

const HALFWAY: Bank = &[
    Line(
        ALL,
        "Halfway between equator and pole runs the forty-fifth parallel; it passes {far} {dir} of here.",
    ),
    Line(
        A | K | R | N,
        "The middle line between the heat and the ice, the forty-fifth parallel, crosses the globe {far} {dir} of here.",
    ),
    Line(
        H | M | S | F | C,
        "The forty-fifth parallel, which is as far from the pole as from the equator, lies {far} {dir}.",
    ),
];

/// The forty-fifth parallel.
pub(super) fn halfway(t: &mut Tale<'_>) -> Option<String> {
    let lat = t.f.place.lat;
    let gap = lat.abs() - 45.0;
    if !(0.2..20.0).contains(&gap.abs()) || !t.fresh(topic::HALFWAY) {
        return None;
    }
    let far = t.far(gap.abs() * 111.195);
    let dir = if (gap > 0.0) == (lat > 0.0) {
        "to the south"
    } else {
        "to the north"
    };
    t.say(HALFWAY, &[("far", &far), ("dir", dir)])
}
