//! What the place is called, here and elsewhere.

use super::super::tale::{A, ALL, Bank, C, F, H, K, Line, M, N, R, S, Tale, topic};
use super::super::words;

const OTHERS: Bank = &[
    Line(ALL, "{name} is not its only name. The gazetteer also lists {names}."),
    Line(
        A,
        "Should anyone along the way speak of {names}, do not turn round. It is the same place under another name.",
    ),
    Line(
        A | K,
        "Places that are spoken of often gather names. This one has gathered {names}.",
    ),
    Line(
        H,
        "In the register of names it appears more than once: {names} all point to this spot.",
    ),
    Line(
        H | S,
        "The gazetteer gives it several names. Beside {name} it enters {names}.",
    ),
    Line(
        M,
        "It goes by other names. In the file we find {names}. One place, several aliases.",
    ),
    Line(
        M | C,
        "A place with an alias always has something to say for itself. This one has been entered as {names}.",
    ),
    Line(
        F | C,
        "Some people have a nickname; this place has a whole drawer of them. It is also called {names}. Try saying each one out loud.",
    ),
    Line(
        F,
        "Here is one for practising your best voice: the place is called {name}, but also {names}. Which do you like best?",
    ),
    Line(
        R,
        "What we call {name}, others call {names}. Everything that is dear to more than one person ends up with more than one name.",
    ),
    Line(
        R | N,
        "Other tongues have said it otherwise: {names}. Each is the same spot on the Earth, held in a different mouth.",
    ),
    Line(
        S | N,
        "The spot has one set of coordinates and several labels; the gazetteer adds {names}.",
    ),
    Line(
        K | C,
        "It has been called other things, some of them politely. The gazetteer offers {names}.",
    ),
    Line(
        H | N,
        "Names wear down and grow back in other shapes. Here the collection includes {names}.",
    ),
    Line(
        A | M,
        "If you hear anybody ask the way to {names}, you can point in the same direction. It is all one place.",
    ),
    Line(
        S | R,
        "Ask in another language, and the answer changes its sound: {names} are on the list, and all of them mean here.",
    ),
    Line(
        ALL,
        "Under other names it is the same place still. Among them are {names}.",
    ),
];

const ONE_OTHER: Bank = &[
    Line(ALL, "It has a second name in the gazetteer: {names}."),
    Line(
        A | K | R | N,
        "It answers to one other name as well, and that name is {names}.",
    ),
    Line(H | M | S, "The register holds one alias for it: {names}."),
    Line(F | C, "It has a spare name, in case the first one wears out: {names}."),
];

/// Whether an alias is worth saying: spelled in Latin letters, no code, and not the name itself in other dress.
fn tellable(alias: &str, name: &str) -> bool {
    let letters = alias.chars().filter(|c| c.is_alphabetic()).count();
    letters >= 3
        && alias.chars().count() <= 40
        && alias.chars().next().is_some_and(char::is_uppercase)
        && alias
            .chars()
            .all(|c| (c as u32) < 0x250 || ('\u{1e00}'..='\u{1eff}').contains(&c) || "’‘ʻʼ".contains(c))
        && !alias.chars().any(|c| c.is_ascii_digit() || ",;()/{}\"".contains(c))
        && !(letters <= 4 && alias.chars().all(|c| !c.is_lowercase()))
        && folded(alias) != folded(name)
}

/// Letters only, lower case, the commonest marks taken off: enough to see that "Zurich" is "Zürich".
fn folded(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphabetic())
        .flat_map(char::to_lowercase)
        .map(|c| match c {
            'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
            'ç' | 'ć' | 'č' => 'c',
            'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => 'e',
            'ì'..='ï' | 'ī' | 'į' | 'ı' => 'i',
            'ñ' | 'ń' | 'ň' => 'n',
            'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
            'ś' | 'š' | 'ş' | 'ș' => 's',
            'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
            'ý' | 'ÿ' => 'y',
            'ź' | 'ż' | 'ž' => 'z',
            'ł' => 'l',
            'ţ' | 'ț' => 't',
            'ğ' => 'g',
            other => other,
        })
        .collect()
}

/// Other names in Latin letters, up to three.
pub(super) fn others(t: &mut Tale<'_>) -> Option<String> {
    let mut shown: Vec<String> = Vec::with_capacity(3);
    for alias in t.f.other_names.iter().filter(|alias| tellable(alias, t.f.place.name)) {
        if shown.len() < 3 && !shown.iter().any(|other| folded(other) == folded(alias)) {
            shown.push((*alias).to_owned());
        }
    }
    if shown.is_empty() || !t.fresh(topic::NAMES) {
        return None;
    }
    let bank = if shown.len() == 1 { ONE_OTHER } else { OTHERS };
    t.say(bank, &[("names", &words::list(&shown))])
}

const SCRIPTS: Bank = &[
    Line(ALL, "Written in {script} it becomes {word}."),
    Line(
        A | K,
        "Its name has travelled. On a signpost in {script} it would read {word}.",
    ),
    Line(H | S, "The gazetteer also keeps it in {script}: {word}."),
    Line(
        M,
        "And should you find a scrap of paper with {word} on it, that is no cipher. It is the same name in {script}.",
    ),
    Line(
        F | C,
        "In {script} it looks like this, and whoever is not driving may try to draw it: {word}.",
    ),
    Line(R | N, "In {script} the name is drawn rather differently: {word}."),
    Line(
        A | N | R,
        "On a page in {script} you would pass it by without knowing, unless somebody had shown you this: {word}.",
    ),
    Line(H | M, "In {script} the record reads {word}."),
    Line(
        S | C | F | K,
        "Change the alphabet, and it puts on a different coat. In {script} it goes out as {word}.",
    ),
];

/// The script of a name by its first letter, where it is one that a listener would know by name.
fn script(name: &str) -> Option<&'static str> {
    Some(match name.chars().find(|c| c.is_alphabetic())? {
        '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => "Greek letters",
        '\u{400}'..='\u{52f}' => "Cyrillic letters",
        '\u{530}'..='\u{58f}' => "Armenian letters",
        '\u{590}'..='\u{5ff}' => "Hebrew letters",
        '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' => "Arabic letters",
        '\u{900}'..='\u{97f}' => "the Devanagari script",
        '\u{980}'..='\u{9ff}' => "the Bengali script",
        '\u{b80}'..='\u{bff}' => "the Tamil script",
        '\u{e00}'..='\u{e7f}' => "Thai letters",
        '\u{10a0}'..='\u{10ff}' => "Georgian letters",
        '\u{3040}'..='\u{309f}' => "Japanese hiragana",
        '\u{30a0}'..='\u{30ff}' => "Japanese katakana",
        '\u{4e00}'..='\u{9fff}' => "Chinese characters",
        '\u{ac00}'..='\u{d7af}' => "Korean hangul",
        _ => return None,
    })
}

/// The name in another script.
pub(super) fn scripts(t: &mut Tale<'_>) -> Option<String> {
    let known: Vec<(&str, &str)> =
        t.f.other_names
            .iter()
            .filter_map(|name| Some((script(name)?, *name)))
            .collect();
    let (script, word) = *known.get(t.draw(0x5c7, known.len()))?;
    if !t.fresh(topic::SCRIPTS) {
        return None;
    }
    t.say(SCRIPTS, &[("script", script), ("word", word)])
}

const NAMESAKE: Bank = &[
    Line(
        ALL,
        "It shares its name. There is another {name} {where}, {far} away to the {dir}.",
    ),
    Line(
        A,
        "A warning to navigators: the map holds another {name}, {where}, {far} to the {dir}. Make sure that you arrive in the right one.",
    ),
    Line(
        A | K,
        "In the old tales a double always turns up. Here it is: another {name}, {where}, {far} off to the {dir}.",
    ),
    Line(
        H | S,
        "The name is not unique. The gazetteer has another {name} {where}, {far} distant, to the {dir}.",
    ),
    Line(
        M,
        "Then a complication. There is a second {name}. It lies {where}, {far} to the {dir}, and nobody mentioned it until now.",
    ),
    Line(
        F | C,
        "Guess what: it has a twin! Another {name} sits {where}, {far} away to the {dir}. I wonder which of them gets the other one's post.",
    ),
    Line(
        C,
        "There is another {name}, {where}, {far} to the {dir}. Check what you typed before you set off; stranger holidays have begun with less.",
    ),
    Line(
        R | N,
        "Somewhere else the same name is spoken too. Another {name} lies {where}, {far} to the {dir}.",
    ),
    Line(
        H | M,
        "Whoever files by name alone will go wrong here, because there is {a_name} {where} as well, {far} to the {dir}.",
    ),
    Line(
        S | N,
        "Two spots on the globe answer to this name. The other {name} is {where}, {far} to the {dir}.",
    ),
    Line(
        K | R,
        "It has a sister that it has never met. She is called {name} as well, and lives {where}, {far} to the {dir}.",
    ),
];

const NAMESAKES: Bank = &[
    Line(
        ALL,
        "The name has company. Others called {name} are to be found {list}.",
    ),
    Line(
        A,
        "Navigators, take care. Besides this one the gazetteer knows {a_name} {list}, and each would be a very different drive.",
    ),
    Line(
        A | K,
        "A good name gets planted more than once. You will find another {name} {list}.",
    ),
    Line(
        H | S,
        "Several places bear the name. Apart from this one, the gazetteer has {a_name} {list}.",
    ),
    Line(
        M,
        "The name alone proves nothing, because there are others: {a_name} {list}. We had better make sure that we have the right one.",
    ),
    Line(
        F | C,
        "Would the real {name} please stand up? There is also one {list}. This is how letters end up having adventures.",
    ),
    Line(
        R | N,
        "The same word means home elsewhere too. There is {a_name} {list}.",
    ),
    Line(
        H | M,
        "One name, several places. The gazetteer also has {a_name} {list}, and an address without a country would be of little use.",
    ),
    Line(
        S | C,
        "A name is not an identifier, as anyone knows who has ordered something online. There is also {a_name} {list}.",
    ),
    Line(
        K | R,
        "Somebody liked the sound of it and said it again elsewhere, or so one may imagine. There is {a_name} {list}, too.",
    ),
    Line(
        N,
        "Like a seed on the wind the name has come up elsewhere. There is {a_name} {list}.",
    ),
    Line(
        ALL,
        "Say {name} elsewhere in the world, and you may be misunderstood. There is {a_name} {list}.",
    ),
];

/// Other places of the same name.
pub(super) fn namesakes(t: &mut Tale<'_>) -> Option<String> {
    let mut seen: Vec<String> = Vec::with_capacity(3);
    let mut first = None;
    for other in t.f.namesakes.iter().filter(|other| other.km > 30.0) {
        let region = words::region(other.place.region);
        let country = words::land(other.place.country);
        let here = if other.place.country_code == t.f.place.country_code && !region.is_empty() {
            region
        } else {
            country
        };
        let here = format!("in {here}");
        if !seen.contains(&here) && seen.len() < 3 {
            seen.push(here);
            first = first.or(Some(*other));
        }
    }
    let first = first?;
    if !t.fresh(topic::NAMESAKES) {
        return None;
    }
    if seen.len() == 1 {
        t.meet(&first.place);
        let far = t.far(first.km);
        let place = seen.first().cloned().unwrap_or_default();
        return t.say(
            NAMESAKE,
            &[("where", &place), ("far", &far), ("dir", words::wind(first.direction))],
        );
    }
    t.say(NAMESAKES, &[("list", &words::list(&seen))])
}

const LETTERS: Bank = &[
    Line(
        ALL,
        "As a word it has {n} letters, and it begins with {first} and ends with {last}.",
    ),
    Line(
        F,
        "Spell it! It has {n} letters, it starts with {first}, it ends with {last}, and the first one to get it right chooses where we stop.",
    ),
    Line(
        F | C,
        "Here is a game that costs nothing. The name has {n} letters. Take turns finding words that begin with {first}, until somebody is tired or we are there.",
    ),
    Line(
        C | M,
        "Examine the name itself. It has {n} letters, {first} at the front and {last} at the back, and not one of them has an alibi.",
    ),
    Line(
        K | A | R,
        "Say it slowly. {n} letters, from {first} to {last}; a word like that fits on a signpost or into a song.",
    ),
    Line(
        H | S | N,
        "Written out, the name takes {n} letters, the first of them {first} and the last {last}.",
    ),
    Line(
        A | N,
        "{n} letters on a signpost, {first} in front and {last} behind: that is all there is to a name, and it is enough to steer by.",
    ),
    Line(
        H | M,
        "The name is a matter of {n} letters. It opens with {first} and closes with {last}, and everybody spells it as best they can.",
    ),
    Line(
        S | C,
        "Data on the name: {n} letters, first letter {first}, last letter {last}. Conclusions: none. But it does fill a line.",
    ),
    Line(
        K | R,
        "Count the letters on your fingers, and you get to {n}, with {first} to begin and {last} to end.",
    ),
];

/// The letters of the name.
pub(super) fn letters(t: &mut Tale<'_>) -> Option<String> {
    let letters: Vec<char> = t.f.place.name.chars().filter(|c| c.is_alphabetic()).collect();
    let (first, last) = (letters.first()?, letters.last()?);
    if letters.len() < 3 || !t.fresh(topic::LETTERS) {
        return None;
    }
    let capital = |c: &char| c.to_uppercase().collect::<String>();
    let n = words::number(letters.len() as u64);
    t.say(
        LETTERS,
        &[("n", &n), ("first", &capital(first)), ("last", &capital(last))],
    )
}
