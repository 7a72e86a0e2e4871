//! Figures for the ear: rounded as a speaker would round them, and said in words where words are easier to hear.
//!
//! All rounding is done on integers or by exact IEEE operations; nothing depends on the machine.

use crate::story::facts::Compass;

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const ORDINALS: [&str; 20] = [
    "zeroth",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
];
const TENTHS: [&str; 10] = [
    "",
    "",
    "twentieth",
    "thirtieth",
    "fortieth",
    "fiftieth",
    "sixtieth",
    "seventieth",
    "eightieth",
    "ninetieth",
];

/// Kilometres in a statute mile (international mile, exact).
const KM_PER_MILE: f64 = 1.609_344;

/// Rounds a finite, not negative number to a whole one; anything else is 0.
pub(super) fn whole(value: f64) -> u64 {
    if value.is_finite() && value > 0.0 {
        (value + 0.5).floor() as u64
    } else {
        0
    }
}

/// "seven", "fifty-six": words below a hundred.
fn small(n: u64) -> Option<String> {
    let n = usize::try_from(n).ok()?;
    if let Some(word) = SMALL.get(n) {
        return Some((*word).to_owned());
    }
    let (tens, ones) = (TENS.get(n / 10)?, SMALL.get(n % 10)?);
    Some(if n % 10 == 0 {
        (*tens).to_owned()
    } else {
        format!("{tens}-{ones}")
    })
}

/// Digits with thousands separators from ten thousand on, and in thousands written as the eye expects: "1,250".
pub(super) fn digits(n: u64) -> String {
    let plain = n.to_string();
    let mut out = String::with_capacity(plain.len() + plain.len() / 3);
    for (i, digit) in plain.chars().enumerate() {
        if i > 0 && (plain.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A whole number as a speaker says it: words up to twenty and for round tens, else digits.
pub(super) fn number(n: u64) -> String {
    if n <= 20 || (n < 100 && n.is_multiple_of(10)) {
        small(n).unwrap_or_default()
    } else {
        digits(n)
    }
}

/// Always words below a hundred: "forty-six".
pub(super) fn spelled(n: u64) -> String {
    small(n).unwrap_or_else(|| digits(n))
}

/// "first", "twenty-third", "134th".
pub(super) fn ordinal(n: u64) -> String {
    let at = usize::try_from(n).unwrap_or(usize::MAX);
    if let Some(word) = ORDINALS.get(at) {
        return (*word).to_owned();
    }
    if n < 100 {
        let (tens, ones) = (at / 10, at % 10);
        return match (TENS.get(tens), TENTHS.get(tens), ORDINALS.get(ones)) {
            (_, Some(word), _) if ones == 0 => (*word).to_owned(),
            (Some(tens), _, Some(ones)) => format!("{tens}-{ones}"),
            _ => digits(n),
        };
    }
    let ending = match (n % 100, n % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{}{ending}", digits(n))
}

/// Rounds to what the ear keeps: units below 50, fives below 100, tens below 1000, fifties below 3000, then
/// hundreds.
pub(super) fn ear(value: f64) -> u64 {
    let step = match value {
        v if v < 50.0 => 1,
        v if v < 100.0 => 5,
        v if v < 1000.0 => 10,
        v if v < 3000.0 => 50,
        _ => 100,
    };
    whole(value / step as f64).saturating_mul(step)
}

fn unit(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// "560 kilometres", "one kilometre", "less than a kilometre". Without "about": the caller hedges.
pub(super) fn kilometres(km: f64) -> String {
    match ear(km) {
        0 => "less than a kilometre".to_owned(),
        n => unit(n, "kilometre", "kilometres"),
    }
}

/// "350 miles" for the same distance.
pub(super) fn miles(km: f64) -> String {
    // From the rounded kilometres, so that the two figures agree with each other.
    match ear(ear(km) as f64 / KM_PER_MILE) {
        0 => "less than a mile".to_owned(),
        n => unit(n, "mile", "miles"),
    }
}

/// "560 kilometres or 350 miles": both units where both say something.
pub(super) fn both(km: f64) -> String {
    if km < 1.5 {
        kilometres(km)
    } else {
        format!("{} or {}", kilometres(km), miles(km))
    }
}

/// A head count without its noun, hedged: "some 870 thousand", "just over two million", "about 4,300".
/// None where the gazetteer has no figure.
pub(super) fn heads(n: u64) -> Option<String> {
    // Far more than there are people, so that rounding up cannot overflow.
    let n = n.min(1_000_000_000_000_000);
    Some(match n {
        0 => return None,
        1..=49 => number(n),
        50..=999 => format!("some {}", digits((n + 5) / 10 * 10)),
        1_000..=9_949 => format!("about {}", digits((n + 50) / 100 * 100)),
        9_950..=99_499 => format!("about {} thousand", number((n + 500) / 1_000)),
        99_500..=989_999 => format!("some {} thousand", digits((n + 5_000) / 10_000 * 10)),
        990_000..=9_949_999 => millions(n),
        9_950_000..=994_999_999 => format!("some {} million", number((n + 500_000) / 1_000_000)),
        _ => format!("about {} billion", tenths((n + 50_000_000) / 100_000_000)),
    })
}

fn tenths(n: u64) -> String {
    if n.is_multiple_of(10) {
        number(n / 10)
    } else {
        format!("{}.{}", n / 10, n % 10)
    }
}

fn millions(n: u64) -> String {
    let whole = (n + 500_000) / 1_000_000;
    let base = whole * 1_000_000;
    let say = if whole == 1 { "a".to_owned() } else { number(whole) };
    // "Just over" may mean up to a twentieth, and never more than a hundred thousand people.
    let close = (base / 20).min(100_000);
    match (n >= base, n.abs_diff(base)) {
        (_, gap) if gap <= close / 3 => format!("about {say} million"),
        (true, gap) if gap <= close => format!("just over {say} million"),
        (false, gap) if gap <= close => format!("nearly {say} million"),
        _ => format!("some {} million", tenths((n + 50_000) / 100_000)),
    }
}

/// "fourteen hours and forty-six minutes".
pub(super) fn day_length(minutes: u32) -> String {
    let (h, m) = (u64::from(minutes / 60), u64::from(minutes % 60));
    let hours = format!("{} {}", spelled(h), if h == 1 { "hour" } else { "hours" });
    let rest = format!("{} {}", spelled(m), if m == 1 { "minute" } else { "minutes" });
    match (h, m) {
        (0, _) => rest,
        (_, 0) => hours,
        _ => format!("{hours} and {rest}"),
    }
}

/// A travelling time, rounded as people round it: "about forty minutes", "five and a half hours", "39 hours".
pub(super) fn travel(hours: f64) -> String {
    let minutes = whole(hours * 60.0);
    match minutes {
        0 | 1 => "about a minute".to_owned(),
        2..=19 => format!("about {} minutes", spelled(minutes)),
        20..=57 => format!("about {} minutes", spelled((minutes + 2) / 5 * 5)),
        58..=704 => {
            let halves = (minutes + 15) / 30;
            match (halves / 2, halves % 2) {
                (1, 0) => "about an hour".to_owned(),
                (1, _) => "about an hour and a half".to_owned(),
                (h, 0) => format!("about {} hours", spelled(h)),
                (h, _) => format!("about {} and a half hours", spelled(h)),
            }
        }
        _ => format!("about {} hours", number(ear(hours))),
    }
}

/// Whole days, at least one: "one day", "23 days".
pub(super) fn days(days: f64) -> String {
    unit(ear(days).max(1), "day", "days")
}

/// A clock time for the ear near the middle of the day: "nine minutes to one", "exactly twelve".
pub(super) fn clock(minutes_after_midnight: u32) -> String {
    let minutes = minutes_after_midnight % 1440;
    let (hour, minute) = (minutes / 60, minutes % 60);
    let name = |h: u32| spelled(u64::from(if h.is_multiple_of(12) { 12 } else { h % 12 }));
    match minute {
        0 => format!("exactly {}", name(hour)),
        15 => format!("a quarter past {}", name(hour)),
        30 => format!("half past {}", name(hour)),
        45 => format!("a quarter to {}", name(hour + 1)),
        1 => format!("one minute past {}", name(hour)),
        59 => format!("one minute to {}", name(hour + 1)),
        m if m < 30 => format!("{} minutes past {}", spelled(u64::from(m)), name(hour)),
        m => format!("{} minutes to {}", spelled(u64::from(60 - m)), name(hour + 1)),
    }
}

/// How far a clock runs from Greenwich: "eight hours behind", "five and a half hours ahead of". Empty at zero.
pub(super) fn offset(minutes: i32) -> String {
    let size = minutes.unsigned_abs();
    let long = match (size / 60, size % 60) {
        (0, 0) => return String::new(),
        (0, 30) => "half an hour".to_owned(),
        (1, 0) => "one hour".to_owned(),
        (1, 30) => "an hour and a half".to_owned(),
        (h, 0) => format!("{} hours", spelled(u64::from(h))),
        (h, 30) => format!("{} and a half hours", spelled(u64::from(h))),
        (h, 15) => format!("{} and a quarter hours", spelled(u64::from(h))),
        (h, 45) => format!("{} and three quarter hours", spelled(u64::from(h))),
        _ => day_length(size),
    };
    format!("{long} {}", if minutes < 0 { "behind" } else { "ahead of" })
}

/// "north-west".
pub(super) const fn wind(direction: Compass) -> &'static str {
    match direction {
        Compass::North => "north",
        Compass::NorthEast => "north-east",
        Compass::East => "east",
        Compass::SouthEast => "south-east",
        Compass::South => "south",
        Compass::SouthWest => "south-west",
        Compass::West => "west",
        Compass::NorthWest => "north-west",
    }
}

/// "A", "A and B", "A, B and C".
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

/// How many times one count holds another: "twice", "about three times", "nearly half as large again as".
pub(super) fn times(ratio: f64) -> Option<String> {
    Some(match ratio {
        r if !r.is_finite() || r < 1.75 => return None,
        r if r < 2.3 => "about twice".to_owned(),
        r if r < 2.75 => "two and a half times".to_owned(),
        r if r < 20.0 => format!("about {} times", number(whole(r))),
        r => format!("about {} times", number(ear(r))),
    })
}

/// A country's name with the article that English gives it: "the Netherlands", "France".
pub(super) fn land(country: &str) -> String {
    let name = country.trim();
    let name = name.strip_prefix("The ").unwrap_or(name);
    const WITH: [&str; 11] = [
        "Bahamas",
        "Comoros",
        "Gambia",
        "Maldives",
        "Netherlands",
        "Philippines",
        "Seychelles",
        "Vatican",
        "Isle of Man",
        "Netherlands Antilles",
        "Ivory Coast",
    ];
    let article = WITH.contains(&name)
        || name.starts_with("United ")
        || name.contains(" Islands")
        || name.contains("Republic")
        || name.contains("Territor")
        || name.contains("Emirates");
    if article {
        format!("the {name}")
    } else {
        name.to_owned()
    }
}

/// A region's name as it stands after "in": "the Northern Territory", "Bavaria".
pub(super) fn region(region: &str) -> String {
    let name = region.trim();
    let name = name.strip_prefix("The ").unwrap_or(name);
    const LAST: [&str; 19] = [
        "Region",
        "District",
        "Territory",
        "Province",
        "Oblast",
        "Governorate",
        "Department",
        "Republic",
        "Islands",
        "Krai",
        "County",
        "Municipality",
        "Prefecture",
        "Country",
        "Voivodeship",
        "Area",
        "Highlands",
        "Parish",
        "Division",
    ];
    const FIRST: [&str; 8] = [
        "Republic of ",
        "Province of ",
        "State of ",
        "Department of ",
        "Community of ",
        "Region of ",
        "City of ",
        "Autonomous ",
    ];
    const WINDS: [&str; 10] = [
        "Western", "Eastern", "Northern", "Southern", "North", "South", "East", "West", "Central", "Centre",
    ];
    if WINDS
        .iter()
        .any(|wind| name == *wind || name.ends_with(&format!(" {wind}")))
    {
        return format!("the {name} region");
    }
    let article = LAST.iter().any(|word| name.ends_with(&format!(" {word}")))
        || FIRST.iter().any(|word| name.starts_with(word))
        || matches!(
            name,
            "Northwest Territories"
                | "Balearics"
                | "Canary Islands"
                | "Western Cape"
                | "Eastern Cape"
                | "Northern Cape"
                | "Free State"
                | "Basque Country"
                | "District of Columbia"
                | "Federal District"
        );
    if article {
        format!("the {name}")
    } else {
        name.to_owned()
    }
}

/// Text from outside made safe to speak: control and invisible formatting characters, markup brackets, back-ticks
/// and double quotes are dropped, runs of white space become one space, and the length is capped in characters.
pub(super) fn plain(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(256));
    let mut kept = 0;
    for c in text.chars() {
        if kept >= chars_max {
            break;
        }
        if c.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
                kept += 1;
            }
        } else if !(c.is_control()
            || hidden(c)
            || matches!(c, '<' | '>' | '`' | '"' | '“' | '”' | '„' | '«' | '»' | '{' | '}'))
        {
            out.push(c);
            kept += 1;
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Formatting characters that could hide or reorder text on a screen (bidirectional controls, zero width, tags).
const fn hidden(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
