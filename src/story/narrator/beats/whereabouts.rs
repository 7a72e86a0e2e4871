//! Where the place lies: the one beat that every story has.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words::{self, plain};

const WHERE_REGION: Bank = &[
    Line(ALL, "On the map it belongs to {in}, in {land}, and so to {continent}."),
    Line(
        A,
        "Get the chart straight first: {continent}, then {land}, then {in}, and there, under your fingertip, {name}.",
    ),
    Line(
        A | K,
        "To find it you go into {continent}, into {land}, into {in}, and keep going until the map says {name}.",
    ),
    Line(
        A,
        "The approach is simple to say and pleasant to drive: {continent}, {land}, {in}, {name}, in that order.",
    ),
    Line(
        H,
        "For the record: {name} stands in {in}, in {land}, and is entered in the books under {continent}.",
    ),
    Line(
        H | S,
        "Its entry is plain enough. Place: {name}. Division: {in}. Country: {land}. Continent: {continent}.",
    ),
    Line(
        H,
        "The geographer files {name} under {in}, {in_} under {land}, and all of it under {continent}.",
    ),
    Line(
        S,
        "Address first, as on any specimen label: {name}, in {in}, in {land}, {continent}, planet Earth.",
    ),
    Line(
        M,
        "What is certain fits on a luggage label: {name}, in {in}, in {land}. The continent is {continent}. The rest has to be worked out.",
    ),
    Line(
        M,
        "Start with the one thing nobody disputes. The scene is {in}, in {land}, and the name on the file is {name}.",
    ),
    Line(
        F,
        "If you sent a postcard there, you would write {name} on the first line, then {in}, then {land}, and, if the postman came from another planet, {continent} as well.",
    ),
    Line(
        F | C,
        "To find it from outer space, aim for {continent}, steer for {land}, slow down over {in}, and stop when somebody says {name}.",
    ),
    Line(
        C,
        "It is in {in}, which is in {land}, which is in {continent}, which is as far as the filing system goes before it gets silly.",
    ),
    Line(
        R,
        "It lies in {in}, in {land}, and for two in a car that is address enough.",
    ),
    Line(
        R | N,
        "Somewhere in {continent} there is {land}; somewhere in {land} there is {in}; and there, at the end of that sentence, is {name}.",
    ),
    Line(
        N,
        "Its patch of the Earth is in {in}, in {land}, under the skies of {continent}.",
    ),
    Line(
        K,
        "The old way to begin is to say where. In {continent}, in {land}, in {in}, there was, and there still is, a place called {name}.",
    ),
    Line(
        M | C,
        "Exhibit one is an address: {name}, {in}, {land}, {continent}. Nobody contests it.",
    ),
    Line(
        H | N,
        "It stands in {in}, which is in {land}, which is in {continent}; and each of those words was drawn on the land by somebody.",
    ),
    Line(
        A | F,
        "Now find it. Put your finger on {continent}, slide it to {land}, look for {in}, and stop at the word {name}.",
    ),
    Line(
        S | R,
        "Begin wide and end close: {continent}, then {land}, then {in}, then {name}.",
    ),
    Line(
        K,
        "In {in}, in the country of {land}, on the wide earth of {continent}: that is where this tale has its home.",
    ),
];

const WHERE_COUNTRY: Bank = &[
    Line(ALL, "The map puts it in {land}, and so in {continent}."),
    Line(
        A,
        "Unroll the chart: {continent} first, then {land}, then a dot, and the dot says {name}.",
    ),
    Line(
        A | K,
        "To find it you go into {continent}, into {land}, and keep going until the map says {name}.",
    ),
    Line(
        H | S,
        "Its entry is short. Place: {name}. Country: {land}. Continent: {continent}.",
    ),
    Line(H, "The books enter {name} under {land}, and {land} under {continent}."),
    Line(S, "The label reads: {name}, {land}, {continent}, planet Earth."),
    Line(
        M,
        "What is certain fits on a luggage label: {name}, {land}, {continent}. The rest has to be worked out.",
    ),
    Line(
        M | K,
        "Begin with what nobody disputes: this is {land}, and the name on the map is {name}.",
    ),
    Line(
        F,
        "On a postcard you would write {name}, then {land}, and then, for a postman from another planet, {continent}.",
    ),
    Line(
        F | C,
        "From outer space it is easy: aim for {continent}, steer for {land}, and brake when somebody says {name}.",
    ),
    Line(
        C,
        "It is in {land}, which is in {continent}, and there the paperwork ends.",
    ),
    Line(R, "It lies in {land}, and for two in a car that is address enough."),
    Line(
        R | N,
        "Somewhere in {continent} there is {land}, and somewhere in {land}, keeping its own hours of light, is {name}.",
    ),
    Line(
        N,
        "Its patch of the Earth is in {land}, under the skies of {continent}.",
    ),
    Line(
        K,
        "In {continent}, in {land}, there was, and there still is, a place called {name}.",
    ),
    Line(
        M | C,
        "Exhibit one is an address, and a short one: {name}, {land}, {continent}.",
    ),
    Line(
        H | N,
        "It stands in {land}, in {continent}, and the map gives it a line like any other.",
    ),
    Line(
        A | F,
        "Now find it. Put your finger on {continent}, slide it to {land}, and look for the word {name}.",
    ),
    Line(
        S | R,
        "Begin wide and end close: {continent}, then {land}, then {name}.",
    ),
];

const WHERE_CAPITAL: Bank = &[
    Line(
        ALL,
        "It is the capital of {land}, in {continent}, which is the shortest way of saying where it stands.",
    ),
    Line(
        A,
        "Get the chart straight first: {continent}, then {land}, then the capital itself, and that is {name}.",
    ),
    Line(
        A | K,
        "Go into {continent}, go into {land}, and follow the signs to the capital: that is {name}.",
    ),
    Line(
        H | S,
        "Its entry is short and grand. Place: {name}. Country: {land}. Continent: {continent}. Office held: capital.",
    ),
    Line(
        H,
        "{name} is the capital of {land}; in the tables of {continent} that one word sets it above larger and smaller alike.",
    ),
    Line(
        M,
        "The scene is {name}, capital of {land}, in {continent}. A star on the map, for everyone to see.",
    ),
    Line(
        F | C,
        "It is the capital of {land}, in {continent}, so it gets a star on the map where other places make do with a dot.",
    ),
    Line(
        C,
        "{name} is the capital of {land}, in {continent}, a job it cannot resign from.",
    ),
    Line(
        R | N,
        "In {continent} there is {land}, and {land} has its capital here, in {name}.",
    ),
    Line(
        R,
        "It is the capital of {land}, and it will be ours too, for the length of this story.",
    ),
    Line(
        N | S,
        "It stands in {land}, in {continent}, and the country calls it its capital; sun and latitude treat it like any other spot.",
    ),
    Line(
        K,
        "In {continent} there is a country, {land}; and every country in a tale must have its chief place, and this one's is {name}.",
    ),
    Line(
        F,
        "If {land} were a class, {name} would be the one chosen to hand out the register: it is the capital. The school, if you like, is {continent}.",
    ),
    Line(
        M | C,
        "Exhibit one is a title: capital of {land}, {continent}. It came with the address.",
    ),
    Line(
        H | N,
        "In {continent} lies {land}, and of all the names in {land} this is the one with a star beside it: the capital.",
    ),
    Line(
        A | F,
        "Look for the star on the map of {land}, in {continent}. A star means capital, and next to it is written {name}.",
    ),
    Line(
        S | R,
        "Begin wide and end close: {continent}, then {land}, then its capital, and that is {name}.",
    ),
];

const WHERE_STATE: Bank = &[
    Line(
        ALL,
        "{name} is the name of the place and of the country around it, in {continent}: say it once and you have said both.",
    ),
    Line(
        A | M | S,
        "One word does for two here. The country is called {name}, the place is called {name}, and the continent is {continent}.",
    ),
    Line(
        F | C,
        "It is in a country of the very same name, in {continent}, so nobody there ever loses their way on the envelope.",
    ),
    Line(
        R | N | K,
        "The country, in {continent}, bears the same name as the place: {name} within {name}, like a box within a box.",
    ),
];

const WHERE_APART: Bank = &[
    Line(
        ALL,
        "It belongs to {land}, but the ground on which it stands is counted to {continent}.",
    ),
    Line(
        A | K,
        "To find it you must look for {land} where you might not expect it, in {continent}; and there the map says {name}.",
    ),
    Line(
        H | M | S,
        "Two entries have to be kept apart here. The country is {land}; the continent, for this spot, is {continent}.",
    ),
    Line(
        F | C,
        "The country is {land}, and the continent is {continent}, which is where this piece of the country happens to be.",
    ),
    Line(
        R | N,
        "It is a part of {land}, and its own ground is {continent}; a country can reach that far.",
    ),
];

const POINT: Bank = &[
    Line(
        ALL,
        "The point you gave me, {point}, lies {far} to the {dir} of it; {name} is the nearest place that the gazetteer knows.",
    ),
    Line(
        A | K | N | R,
        "You asked for {point}. That is {far} to the {dir} of {name}, the nearest name on my map, so from here we look out towards you.",
    ),
    Line(
        H | M | S | F | C,
        "To be exact, you pointed at {point}, which is {far} to the {dir}. The nearest place in the gazetteer is {name}, and so it gets the story.",
    ),
];

const POINT_HERE: Bank = &[
    Line(
        ALL,
        "The point you gave me, {point}, is less than a kilometre from the spot where the gazetteer pins {name}.",
    ),
    Line(
        A | K | N | R | F,
        "You asked for {point}: that is {name} itself, within a kilometre of where the map drives in its pin.",
    ),
];

/// Country and continent; always told, right after the opening.
pub(in super::super) fn whereabouts(t: &mut Tale<'_>) -> Option<String> {
    let (place, country) = (&t.f.place, &t.f.country);
    let within = words::region(place.region);
    let bank = if place.name == country.name {
        t.told |= topic::SAME_NAME;
        WHERE_STATE
    } else if t.continent() != country.continent {
        WHERE_APART
    } else if t.f.is_capital {
        WHERE_CAPITAL
    } else if place.region.trim().is_empty() || place.region == place.name || place.region == country.name {
        WHERE_COUNTRY
    } else {
        WHERE_REGION
    };
    t.say(bank, &[("in_", &within)])
}

/// The traveller's own point, where a point was asked; always told.
pub(in super::super) fn asked_point(t: &mut Tale<'_>) -> Option<String> {
    let asked = t.f.asked_point.as_ref()?;
    let name = asked
        .name
        .as_deref()
        .map(|name| plain(name, 80))
        .filter(|name| !name.is_empty());
    let point = name.unwrap_or_else(|| coordinates(asked.lat, asked.lng));
    if asked.km < 0.95 {
        return t.say(POINT_HERE, &[("point", &point)]);
    }
    let (far, dir) = (t.far(asked.km), words::wind(asked.direction));
    t.say(POINT, &[("point", &point), ("far", &far), ("dir", dir)])
}

/// "38 degrees north and 122 degrees west", to a whole degree; "the equator at 71 degrees west".
pub(in super::super) fn coordinates(lat: f64, lng: f64) -> String {
    let side = |value: f64, plus: &'static str, minus: &'static str| {
        let n = words::whole(value.abs());
        let unit = if n == 1 { "degree" } else { "degrees" };
        (n > 0).then(|| format!("{} {unit} {}", words::number(n), if value < 0.0 { minus } else { plus }))
    };
    match (side(lat, "north", "south"), side(lng, "east", "west")) {
        (Some(lat), Some(lng)) => format!("{lat} and {lng}"),
        (None, Some(lng)) => format!("the equator at {lng}"),
        (Some(lat), None) => format!("{lat} on the meridian of Greenwich"),
        (None, None) => "the equator on the meridian of Greenwich".to_owned(),
    }
}
