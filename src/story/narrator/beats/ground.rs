//! Where the place lies, and the country around it.

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
        "It lies in {in}, in {land}, and for two people in a car that is address enough.",
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
    Line(
        R,
        "It lies in {land}, and for two people in a car that is address enough.",
    ),
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
        "The scene is {name}, capital of {land}, in {continent}. A capital has few hiding places and many addresses.",
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
        "In {continent} there is {land}, and {land} has put its capital here, in {name}.",
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

/// "38 degrees north and 122 degrees west", to a whole degree.
pub(in super::super) fn coordinates(lat: f64, lng: f64) -> String {
    let side = |value: f64, plus: &'static str, minus: &'static str| {
        let n = words::whole(value.abs());
        if n == 0 {
            return (if plus == "north" {
                "the equator"
            } else {
                "the meridian of Greenwich"
            })
            .to_owned();
        }
        format!(
            "{} {} {}",
            words::number(n),
            if n == 1 { "degree" } else { "degrees" },
            if value < 0.0 { minus } else { plus }
        )
    };
    format!("{} and {}", side(lat, "north", "south"), side(lng, "east", "west"))
}

const CAPITAL: Bank = &[
    Line(
        ALL,
        "The capital, {cap}, lies {far} to the {dir}. At a steady hundred kilometres an hour, along a road as straight as a ruler, that would be {time}.",
    ),
    Line(
        ALL,
        "From here to {cap}, the capital, it is {far} as the crow flies, and the crow would be flying {dir}.",
    ),
    Line(
        A,
        "The seat of government, {cap}, is {far} off to the {dir}: {time} at motorway speed, if only the road ran straight, which roads do not.",
    ),
    Line(
        A | K,
        "Messengers from here to the capital would ride {dir}. {cap} is {far} away, and that is measured over the ground as a bird would have it, not as a horse would.",
    ),
    Line(
        H,
        "Power in {land} is exercised from {cap}, {far} to the {dir}. Distances like that one have always been worth writing down.",
    ),
    Line(
        H | S,
        "Measured along the great circle, the capital, {cap}, is {far} distant, on a bearing to the {dir}.",
    ),
    Line(
        M,
        "Who decides? On paper, {cap}, the capital. But {cap} is {far} away to the {dir}, and a good deal can happen in {far_plain}.",
    ),
    Line(
        F,
        "Guess how far it is to the capital, {cap}. Everybody ready? It is {far}, to the {dir}. Closest guess picks the next song.",
    ),
    Line(
        C,
        "The capital, {cap}, keeps a respectful distance: {far}, to the {dir}. It is {time} at a hundred kilometres an hour, not counting the argument about the exit.",
    ),
    Line(
        R,
        "The capital, {cap}, is {far} away to the {dir}. Let it govern. Nobody is in a hurry here.",
    ),
    Line(
        R | N,
        "Far to the {dir}, {far} from here, is {cap}, the capital, minding the country's business.",
    ),
    Line(
        N,
        "A bird bound for the capital would set its course {dir} and fly {far} before {cap} came up beneath it.",
    ),
];

/// Distance and direction of the capital.
pub(super) fn capital(t: &mut Tale<'_>) -> Option<String> {
    let capital = t.f.to_capital?;
    if capital.km < 20.0 || !t.fresh(topic::CAPITAL) || !t.meet(&capital.place) {
        return None;
    }
    let (far, time) = (t.far(capital.km), words::travel(capital.km / 100.0));
    let plain = words::kilometres(capital.km);
    let dir = words::wind(capital.direction);
    t.say(
        CAPITAL,
        &[
            ("cap", capital.place.name),
            ("far", &far),
            ("far_plain", &plain),
            ("dir", dir),
            ("time", &time),
        ],
    )
}

const SIZE: Bank = &[
    Line(
        ALL,
        "{land} covers {area} square kilometres and counts {people} people. Spread them evenly, and each square kilometre gets {density}.",
    ),
    Line(
        A | N,
        "There is room to roam: {land} takes up {area} square kilometres of the planet, and {people} people share them, {density} to the square kilometre.",
    ),
    Line(
        A | K,
        "The realm on our map, {land}, is {area} square kilometres wide, and {people} people live in it. Deal the land out fairly, and every square kilometre would hold {density}.",
    ),
    Line(
        H | S,
        "The country as a whole is entered at {area} square kilometres and {people} inhabitants, a density of {density} to the square kilometre.",
    ),
    Line(
        H,
        "Behind the place stands the country. {land}, by the gazetteer's figures, has {people} inhabitants on {area} square kilometres.",
    ),
    Line(
        M,
        "Consider the size of the haystack. {land} is {area} square kilometres with {people} people in it, and somewhere among them, at this moment, is whoever knows the rest of this story.",
    ),
    Line(
        F,
        "Picture {land} cut into squares, a kilometre long and a kilometre wide. You would need {area} of them, and if everybody in the country spread out politely, there would be {density} in each.",
    ),
    Line(
        C,
        "{land} has {area} square kilometres for {people} people. Shared out, that puts {density} on each square kilometre, and every one of them convinced that the others are in the way.",
    ),
    Line(
        R | N,
        "Around it lies a country of {people} people on {area} square kilometres. If they all stood apart as evenly as stars on a flag, each square kilometre would hold {density}.",
    ),
];

/// Area, inhabitants and density of the country.
pub(super) fn size(t: &mut Tale<'_>) -> Option<String> {
    let country = &t.f.country;
    if !(country.area_km2 >= 1.0 && country.population > 0) || t.told & topic::SAME_NAME != 0 {
        return None;
    }
    let people = words::heads(country.population)?;
    let area = words::heads(words::whole(country.area_km2))?;
    let per = country.population as f64 / country.area_km2;
    let density = if per < 0.75 {
        "less than one person".to_owned()
    } else if per < 1.5 {
        "about one person".to_owned()
    } else {
        format!("about {}", words::number(words::ear(per)))
    };
    if !t.fresh(topic::LAND_SIZE) {
        return None;
    }
    t.say(SIZE, &[("area", &area), ("people", &people), ("density", &density)])
}

const BORDERS: Bank = &[
    Line(ALL, "{land} shares its land borders with {count}: {list}."),
    Line(
        A,
        "Keep a few passports' worth of directions in mind: {land} touches {count} by land, namely {list}.",
    ),
    Line(
        A | K,
        "Walk far enough along the edge of {land} and you would be peering into {count}, one after another: {list}.",
    ),
    Line(H | S, "On its land frontiers {land} has {count}: {list}."),
    Line(
        M,
        "There are ways out. {land} has land borders with {count}: {list}. Note them; a map with exits reads differently from a map without.",
    ),
    Line(
        F,
        "Now a game for the back seat. {land} has land borders with {count}. Name them before I do! Time is up: {list}.",
    ),
    Line(
        C,
        "{land} shares a garden fence with {count}, and here they are, in no order of tidiness: {list}.",
    ),
    Line(
        R | N,
        "Beyond the edges of {land} other countries begin, with no line that a bird would notice: {list}.",
    ),
];

const ISLANDED: Bank = &[
    Line(
        ALL,
        "The gazetteer lists not one land border for {land}. No other country begins where it ends.",
    ),
    Line(
        A | M | K,
        "And mind this: by the gazetteer's record, {land} shares no land border with anyone. Wherever the road goes, it does not cross into another country.",
    ),
    Line(
        H | S,
        "In the column for land neighbours, the entry for {land} is empty: it has none.",
    ),
    Line(
        F | C,
        "Here is a quick one: how many countries share a land border with {land}? Take your time. The answer is none at all.",
    ),
    Line(
        R | N,
        "{land} has no land neighbour. It ends, everywhere, without another country beginning.",
    ),
];

/// The countries that share a land border.
pub(super) fn borders(t: &mut Tale<'_>) -> Option<String> {
    let all = &t.f.country.neighbours;
    if !t.fresh(topic::BORDERS) {
        return None;
    }
    if all.is_empty() {
        return t.say(ISLANDED, &[]);
    }
    let shown = if all.len() > 9 { 6 } else { all.len() };
    let mut names: Vec<String> = all.iter().take(shown).map(|name| words::land(name)).collect();
    let left = (all.len() - shown) as u64;
    if left > 0 {
        names.push(format!("{} more", words::number(left)));
    }
    let n = all.len() as u64;
    let count = if n == 1 {
        "one country".to_owned()
    } else {
        format!("{} countries", words::number(n))
    };
    t.say(BORDERS, &[("count", &count), ("list", &words::list(&names))])
}

const PLACES: Bank = &[
    Line(ALL, "My gazetteer knows {n} places in {land}, and this is one of them."),
    Line(
        A | K,
        "There are {n} names for {land} in my book of places, {n_other} besides this one. Any of them might have had the story; this one got it.",
    ),
    Line(
        H | S,
        "The gazetteer that I work from records {n} populated places in {land}; {name} is a single line among them.",
    ),
    Line(
        M,
        "Of the {n} places that the file on {land} contains, only one concerns us.",
    ),
    Line(
        F,
        "My book of places has {n} names in {land}. If we told one story every day, it would take us {days} to get through them, so it is lucky we picked a good one.",
    ),
    Line(
        C,
        "My gazetteer lists {n} places in {land}. At one a day it would take {days} to be bored by all of them, so let us be delighted by this one.",
    ),
    Line(
        R | N,
        "{n} places in {land} have a line in my gazetteer. It is a fine thing to stop at a single one and look at it properly.",
    ),
];

/// How many places of the gazetteer lie in the country.
pub(super) fn crowd_of_places(t: &mut Tale<'_>) -> Option<String> {
    let n = u64::from(t.f.country.places);
    if n < 3 || !t.fresh(topic::LAND_PLACES) {
        return None;
    }
    let days = if n < 60 {
        format!("{} days", words::number(n))
    } else {
        year_words(n)
    };
    t.say(
        PLACES,
        &[
            ("n", &words::number(n)),
            ("n_other", &words::number(n - 1)),
            ("days", &days),
        ],
    )
}

/// Days as months or years where those are easier to hear.
fn year_words(days: u64) -> String {
    match days {
        0..=59 => format!("{} days", words::number(days)),
        60..=699 => format!("about {} months", words::number((days + 15) / 30)),
        _ => format!("about {} years", words::number((days + 183) / 365)),
    }
}

const PHONE: Bank = &[
    Line(
        ALL,
        "Anyone who wants to telephone to {land} from abroad dials plus {code} first.",
    ),
    Line(
        A | M | K,
        "One number is worth keeping in the glove box: plus {code}. It is the telephone's way of saying {land}.",
    ),
    Line(
        H | S,
        "In the world's telephone numbering {land} answers to plus {code}.",
    ),
    Line(
        F | C,
        "To ring somebody in {land} from another country you start with plus {code}. It does not help if nobody is at home.",
    ),
    Line(
        R | N,
        "If you ever need to hear a voice from {land} when you are far away, the number begins with plus {code}.",
    ),
];

/// The telephone prefix.
pub(super) fn telephone(t: &mut Tale<'_>) -> Option<String> {
    let code: Vec<String> = t.f.country.phone.split('-').map(str::to_owned).collect();
    if t.f.country.phone.is_empty()
        || !t.f.country.phone.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        || !t.fresh(topic::PHONE)
    {
        return None;
    }
    t.say(PHONE, &[("code", &code.join(" "))])
}

const MONEY: Bank = &[
    Line(ALL, "Money in {land} goes by the name of {coin}."),
    Line(
        A | M | K,
        "For tolls and wagers you will want the coin of the country; in {land} it is called the {coin}.",
    ),
    Line(H | S, "The currency of {land} is entered as the {coin}."),
    Line(
        F | C,
        "If anyone in this car owes anyone else an ice cream, in {land} the debt is reckoned in the {coin}.",
    ),
    Line(
        R | N,
        "The money here is called the {coin}; the view along the way is not charged for.",
    ),
];

/// The currency.
pub(super) fn money(t: &mut Tale<'_>) -> Option<String> {
    let coin = t.f.country.currency.trim().to_lowercase();
    if coin.is_empty() || !t.fresh(topic::MONEY) {
        return None;
    }
    t.say(MONEY, &[("coin", &coin)])
}
