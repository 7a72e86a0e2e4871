//! What must hold of any body and any query whatever; see `http/check.rs`. Not in a server.
#![allow(clippy::unwrap_used)] // Reason: a property that fails is a panic.

use super::{input, stories};
use crate::limits::story as limits;
use crate::story::gazetteer::{Found, Gazetteer};
use crate::story::key::{AskedLocation, request_bytes, story_bytes};
use crate::story::narrator::{self, Ask};
use crate::story::types::LocationQuery;

/// A body is refused as 400 or 422, or within every limit; then it has one key, however much white space it is sent
/// with, and there is something to tell.
pub(crate) fn story_request(body: &[u8]) {
    let wish = match input::read(body) {
        Ok(wish) => wish,
        Err(problem) => {
            assert!(matches!(problem.status.code(), 400 | 422), "{}", problem.status);
            let json = problem.to_json("id", None);
            assert!(
                sonic_rs::from_slice::<sonic_rs::Value>(&json).is_ok(),
                "{}",
                json.escape_ascii()
            );
            return;
        }
    };
    let asked = wish.asked();
    if let AskedLocation::Name(name) | AskedLocation::Point { name: Some(name), .. } = asked.location {
        assert!(name.len() <= limits::LOCATION_BYTES_MAX);
    }
    if let AskedLocation::Point { lat, lng, .. } = asked.location {
        assert!(lat.abs() <= 90.0 && lng.abs() <= 180.0);
    }
    assert!(asked.interests.len() <= limits::INTERESTS_MAX);
    assert!(
        asked
            .interests
            .iter()
            .all(|word| word.len() <= limits::INTEREST_BYTES_MAX)
    );
    let (mut key, mut again) = (Vec::new(), b"left over".to_vec());
    request_bytes(&mut key, &asked);
    let spaced = [b"\n ", body, b"\t\r\n"].concat();
    request_bytes(&mut again, &input::read(&spaced).ok().unwrap().asked());
    assert_eq!(key, again);
    assert_eq!(story_bytes(&asked, None), key);

    let request = asked.to_request();
    let ask = Ask::from(&request);
    let gazetteer = Gazetteer::embedded();
    let telling = match &request.location {
        LocationQuery::Name(name) => match gazetteer.find(name) {
            Found::Exact(id) | Found::Close { id, .. } => narrator::tell(&gazetteer.facts(id), &ask),
            Found::Unknown => narrator::tell_unknown(name, &ask),
        },
        LocationQuery::Point { lat, lng, name } => match gazetteer.nearest(*lat, *lng) {
            Some((id, _)) => narrator::tell(&gazetteer.facts(id).seen_from(*lat, *lng, name.clone()), &ask),
            None => narrator::tell_unknown(&format!("{lat:.4}, {lng:.4}"), &ask),
        },
    };
    assert!(!telling.title.is_empty() && !telling.story.is_empty());
}

/// A query of the list is refused, or within the limits; a cursor in it comes back as it was given out.
pub(crate) fn list_query(text: &str) {
    if let Ok(wish) = stories::read_query(text) {
        assert!((1..=limits::PAGE_MAX).contains(&wish.limit));
        if let Some(cursor) = wish.cursor {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let _ = wish.filter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_request_is_told_or_refused(
            name in "(Rome|San Francisco|\\PC{0,30})", style in "(mystery|comedy|x)?", interest in "\\PC{0,20}", lat in -91.0..91.0,
        ) {
            let quoted = |text: &str| sonic_rs::to_string(text).unwrap();
            let (name, interest) = (quoted(&name), quoted(&interest));
            let style = if style.is_empty() { "null".to_owned() } else { quoted(&style) };
            let rest = format!(r#""style":{style},"interests":[{interest}]"#);
            story_request(format!(r#"{{"location":{name},{rest}}}"#).as_bytes());
            story_request(format!(r#"{{"location":{{"lat":{lat},"lng":7,"name":{name}}},{rest}}}"#).as_bytes());
        }

        #[test]
        fn any_list_is_asked_or_refused(text in "(cursor=c1[0-9a-f]{32}&)?(limit=[0-9]{0,4}&)?([a-z=&+%]|\\PC){0,20}") {
            list_query(&text);
        }
    }
}
