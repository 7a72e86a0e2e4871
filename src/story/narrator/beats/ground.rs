//! Where the place lies, and the country around it.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

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
        "The capital of these parts, {cap}, is {far} off to the {dir}: {time} at motorway speed, if only the road ran straight, which roads do not.",
    ),
    Line(
        A | K,
        "Messengers from here to the capital would ride {dir}. {cap} is {far} away, and that is measured over the ground as a bird would have it, not as a horse would.",
    ),
    Line(
        H,
        "The capital is {cap}, {far} to the {dir}. Distances to capitals have always been worth writing down.",
    ),
    Line(
        H | S,
        "Measured along the great circle, the capital, {cap}, is {far} distant, on a bearing to the {dir}.",
    ),
    Line(
        M,
        "Who is in charge? The map points to {cap}, the capital. But {cap} is {far} away to the {dir}, and a good deal can happen in {far_plain}.",
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
        "The capital, {cap}, is {far} away to the {dir}. Let it be grand. Nobody is in a hurry here.",
    ),
    Line(
        R | N,
        "Far to the {dir}, {far} from here, is {cap}, the capital, with a star beside its name on the map.",
    ),
    Line(
        N,
        "A bird bound for the capital would set its course {dir} and fly {far} before {cap} came up beneath it.",
    ),
    Line(
        M | S,
        "Draw a line from here to {cap}, the capital. It runs to the {dir} and is {far} long; at a hundred kilometres an hour one would be on it for {time}.",
    ),
    Line(
        H | C,
        "Every country has one place that believes itself to be the middle. In {land} that is {cap}, the capital, which from here is {far} to the {dir}.",
    ),
    Line(
        A | F,
        "If this were a board game, {cap} would be the square where you collect your crown, since it is the capital. From here it is {far} to the {dir}.",
    ),
    Line(
        K | N,
        "{cap} has the title of capital, and {cap} is {far} from here, to the {dir}. The sun, one should add, rises without asking it.",
    ),
    Line(
        ALL,
        "{cap} is the capital, and it is not round the corner: {far} to the {dir}, or {time} at a hundred kilometres an hour on a road without bends.",
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
    Line(
        H | C,
        "For scale: {land} has {area} square kilometres and {people} people. Shared out fairly, that puts {density} on every square kilometre, although no country has ever shared out anything fairly.",
    ),
    Line(
        M | S,
        "Two numbers about {land}: {area} square kilometres, {people} people. Divide, and each square kilometre has {density}. Real people, of course, huddle.",
    ),
    Line(
        A | F,
        "How big is {land}? It measures {area} square kilometres, and it is home to {people} people. If each square kilometre got its fair share, there would be {density} on it.",
    ),
    Line(
        K | R,
        "It is a country of {people} people and {area} square kilometres, and if they spread themselves over it like dew there would be {density} on each.",
    ),
    Line(
        ALL,
        "The country around it, {land}, has {people} people and {area} square kilometres, which comes to {density} on each.",
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
    Line(
        H | C,
        "By land {land} has to get along with {count}, and here is the full guest list: {list}.",
    ),
    Line(
        M | S,
        "Counting only borders on land, {land} touches {count}. They are {list}.",
    ),
    Line(K | N, "Where {land} ends, others begin, {count} in all: {list}."),
    Line(
        F | R,
        "Hand in hand with {land} on the map stand {list}. That makes {count} to share a border with.",
    ),
];

const ONE_BORDER: Bank = &[
    Line(ALL, "By land {land} has one neighbour and no more: {list}."),
    Line(
        A | K,
        "There is a single border that one could cross by land from {land}, and beyond it lies {list}.",
    ),
    Line(
        H | M | S,
        "The list of land neighbours of {land} is a short one. It reads: {list}.",
    ),
    Line(
        F | C,
        "How many countries share a land border with {land}? Exactly one, so there can be no quarrel about which: {list}.",
    ),
    Line(R | N, "{land} touches one other country by land, and only one: {list}."),
];

const ISLANDED: Bank = &[
    Line(
        ALL,
        "The gazetteer lists not one land border for {land}. No other country begins where it ends.",
    ),
    Line(
        A | M | K,
        "And mind this: by the gazetteer's record, {land} shares no land border with anyone. Whatever roads there are, the record knows of no country at the far end of them.",
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
    // GeoNames counts the leased base at Guantánamo as a border of the United States with Cuba; a listener would not.
    let odd = |name: &&&str| matches!((t.f.country.code, **name), ("US", "Cuba") | ("CU", "United States"));
    let all: Vec<&str> =
        t.f.country
            .neighbours
            .iter()
            .filter(|name| !odd(name))
            .copied()
            .collect();
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
    if n == 1 {
        return t.say(ONE_BORDER, &[("list", &words::list(&names))]);
    }
    let count = format!("{} countries", words::number(n));
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
    Line(
        H | M,
        "The list for {land} runs to {n} places. Most of them you will never see, and none of them knows it was counted.",
    ),
    Line(
        A | N,
        "{n} places in {land} have made it into the gazetteer. You could aim for {n_other} others. You did not, and so this one gets the story.",
    ),
    Line(
        K | R,
        "There are {n} names in the book for {land}. A finger came down on one of them, and the finger was yours.",
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
