//! Dates of HTTP: the Date field (RFC 9110 section 6.6.1), written once a second, and dates that clients send.

/// The current second as an IMF-fixdate (RFC 9110 section 5.6.7), for instance `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// One per worker, moved on by whoever holds the worker's clock.
#[derive(Clone, Debug)]
pub struct DateCache {
    unix_second: u64,
    text: [u8; 29],
}

/// The last second of the year 9999: later ones have no IMF-fixdate and are held here.
const LAST_SECOND: u64 = 253_402_300_799;

impl DateCache {
    /// A cache at `unix_second`, seconds since 1970 UTC.
    pub fn new(unix_second: u64) -> DateCache {
        DateCache {
            unix_second,
            text: imf_fixdate(unix_second),
        }
    }

    /// Moves to `unix_second`; costs a comparison where that is the second held.
    #[inline]
    pub fn at(&mut self, unix_second: u64) -> &[u8; 29] {
        if self.unix_second != unix_second {
            *self = DateCache::new(unix_second);
        }
        &self.text
    }

    /// The date as of the last move.
    #[inline]
    pub fn get(&self) -> &[u8; 29] {
        &self.text
    }
}

/// `unix_second` as an IMF-fixdate.
pub fn imf_fixdate(unix_second: u64) -> [u8; 29] {
    let second = unix_second.min(LAST_SECOND);
    let days = second / 86_400;
    let of_day = second % 86_400;
    // Days into years as in H. Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so
    // that the leap day comes last, and run in eras of 400 years, of 146097 days each.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    // 1 January 1970 was a Thursday.
    let [w0, w1, w2] = *match days % 7 {
        0 => b"Thu",
        1 => b"Fri",
        2 => b"Sat",
        3 => b"Sun",
        4 => b"Mon",
        5 => b"Tue",
        _ => b"Wed",
    };
    let [m0, m1, m2] = *match month {
        1 => b"Jan",
        2 => b"Feb",
        3 => b"Mar",
        4 => b"Apr",
        5 => b"May",
        6 => b"Jun",
        7 => b"Jul",
        8 => b"Aug",
        9 => b"Sep",
        10 => b"Oct",
        11 => b"Nov",
        _ => b"Dec",
    };
    let [d0, d1] = two_digits(day);
    let [y0, y1] = two_digits(year / 100);
    let [y2, y3] = two_digits(year % 100);
    let [h0, h1] = two_digits(of_day / 3_600);
    let [n0, n1] = two_digits(of_day / 60 % 60);
    let [s0, s1] = two_digits(of_day % 60);
    [
        w0, w1, w2, b',', b' ', d0, d1, b' ', m0, m1, m2, b' ', y0, y1, y2, y3, b' ', h0, h1, b':', n0, n1, b':', s0,
        s1, b' ', b'G', b'M', b'T',
    ]
}

fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Reads an HTTP-date in each of its three forms (RFC 9110 section 5.6.7), seconds since 1970 UTC. `None` for what is
/// none, for days that no calendar has, and for dates before 1970 (nothing here is as old). The name of the weekday
/// must be one, and is not held against the date.
pub(super) fn parse_http_date(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    const SHORT: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const LONG: [&str; 7] = [
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
    ];
    let (weekday, rest) = text.split_once(' ')?;
    let parts: Vec<&str> = rest.splitn(6, ' ').collect();
    match (weekday.strip_suffix(','), &parts[..]) {
        // Sun, 06 Nov 1994 08:49:37 GMT
        (Some(name), [day, month, year, time, "GMT"]) if SHORT.contains(&name) => {
            unix_second(number(year, 4)?, month_of(month)?, number(day, 2)?, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT: of the century that is nearest, this being the twenty-first.
        (Some(name), [date, time, "GMT"]) if LONG.contains(&name) => {
            let mut parts = date.splitn(4, '-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            let year = number(year, 2)?;
            let year = if year < 70 { 2000 + year } else { 1900 + year };
            match parts.next() {
                None => unix_second(year, month_of(month)?, number(day, 2)?, time),
                Some(_) => None,
            }
        }
        // Sun Nov  6 08:49:37 1994
        (None, [month, "", day, time, year]) if SHORT.contains(&weekday) => {
            unix_second(number(year, 4)?, month_of(month)?, number(day, 1)?, time)
        }
        (None, [month, day, time, year]) if SHORT.contains(&weekday) => {
            unix_second(number(year, 4)?, month_of(month)?, number(day, 2)?, time)
        }
        _ => None,
    }
}

/// January is 1.
fn month_of(name: &str) -> Option<u64> {
    const NAMES: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    NAMES.iter().position(|known| *known == name).map(|at| at as u64 + 1)
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

fn unix_second(year: u64, month: u64, day: u64, time: &str) -> Option<u64> {
    let mut parts = time.splitn(3, ':');
    let (hour, minute, second) = (
        number(parts.next()?, 2)?,
        number(parts.next()?, 2)?,
        number(parts.next()?, 2)?,
    );
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    // Second 60 is a leap second.
    if year < 1970 || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // The other way round as in `imf_fixdate`.
    let march_year = if month <= 2 { year - 1 } else { year };
    let march_month = if month <= 2 { month + 9 } else { month - 3 };
    let (era, year_of_era) = (march_year / 400, march_year % 400);
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(unix_second: u64) -> String {
        String::from_utf8(imf_fixdate(unix_second).to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        // The example of RFC 9110.
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(LAST_SECOND), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), text(LAST_SECOND));
    }

    #[test]
    fn the_cache_moves() {
        let mut cache = DateCache::new(10);
        assert_eq!(cache.at(10), &imf_fixdate(10));
        assert_eq!(cache.at(11), &imf_fixdate(11));
        assert_eq!(cache.at(5), &imf_fixdate(5));
        assert_eq!(cache.get(), &imf_fixdate(5));
    }

    #[test]
    fn dates_in_each_form_are_read() {
        for (text, second) in [
            // The three examples of RFC 9110.
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Wed Nov 16 08:49:37 1994", 784_975_777),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Saturday, 01-Jan-00 00:00:00 GMT", 946_684_800),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), Some(second), "{text}");
        }
        for text in [
            "",
            " ",
            "Sun",
            "0",
            "784111777",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Wed, 29 Feb 1900 08:49:37 GMT",
            "Thu, 29 Feb 2001 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sunday, 06-Nov-94-1 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 \u{660}MT",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_http_date(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(second in 0..=LAST_SECOND) {
            prop_assert_eq!(parse_http_date(&imf_fixdate(second)), Some(second));
        }

        #[test]
        fn any_text_is_read_or_not(text in "[A-Za-z0-9 ,:-]{0,40}") {
            let _ = parse_http_date(text.as_bytes());
        }

        #[test]
        fn as_jiff_writes_it(second in 0..LAST_SECOND - 100_000) {
            let stamp = jiff::Timestamp::from_second(second as i64).unwrap();
            prop_assert_eq!(text(second), stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
    }
}
