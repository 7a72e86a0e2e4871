//! The body of POST /api/v1/stories/generate: JSON to a checked wish, borrowing the request's bytes.

use super::problem::{FieldError, Problem};
use crate::http::Status;
use crate::limits::story as limits;
use crate::story::key::{Asked, AskedLocation};
use crate::story::types::UnknownWord;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Unexpected, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Text that borrows where the JSON has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

enum Location<'a> {
    Name(Cow<'a, str>),
    Point {
        lat: f64,
        lng: f64,
        name: Option<Cow<'a, str>>,
    },
}

impl<'de: 'a, 'a> Deserialize<'de> for Location<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LocationVisitor;
        impl<'de> Visitor<'de> for LocationVisitor {
            type Value = Location<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("location: a name, or an object with lat and lng")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Location::Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Location::Name(Cow::Owned(text.to_owned())))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let (mut lat, mut lng, mut name) = (None, None, None);
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "lat" | "latitude" => lat = Some(map.next_value::<f64>()?),
                        "lng" | "lon" | "longitude" => lng = Some(map.next_value::<f64>()?),
                        "name" => name = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let lat = lat.ok_or_else(|| M::Error::missing_field("location.lat"))?;
                let lng = lng.ok_or_else(|| M::Error::missing_field("location.lng"))?;
                Ok(Location::Point { lat, lng, name })
            }
        }
        deserializer.deserialize_any(LocationVisitor)
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    location: Location<'a>,
    #[serde(borrow, default)]
    style: Option<Text<'a>>,
    #[serde(borrow, default)]
    length: Option<Text<'a>>,
    #[serde(borrow, default)]
    language: Option<Text<'a>>,
    #[serde(borrow, default)]
    interests: Option<Vec<Text<'a>>>,
    #[serde(default)]
    variation: Option<Whole>,
}

/// A whole number, also where it is written as 2.0 or 2e0: JSON has one kind of number, and a client that computes
/// with floats sends them so.
struct Whole(u32);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 0 to {}", u32::MAX)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                let fault = || E::invalid_value(Unexpected::Unsigned(number), &self);
                u32::try_from(number).map(Whole).map_err(|_| fault())
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
                    // In range and whole: the cast is exact.
                    Ok(Whole(number as u32))
                } else {
                    Err(E::invalid_value(Unexpected::Float(number), &self))
                }
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

/// A checked wish. [`Wish::asked`] is its borrowed form.
pub(super) struct Wish<'a> {
    location: Location<'a>,
    style: crate::story::types::Style,
    length: crate::story::types::Length,
    language: crate::story::types::Language,
    interests: Vec<Cow<'a, str>>,
    variation: u32,
}

impl Wish<'_> {
    /// For the key and the service.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            location: match &self.location {
                Location::Name(name) => AskedLocation::Name(name),
                Location::Point { lat, lng, name } => AskedLocation::Point {
                    lat: *lat,
                    lng: *lng,
                    name: name.as_deref(),
                },
            },
            style: self.style,
            length: self.length,
            language: self.language,
            interests: &self.interests,
            variation: self.variation,
        }
    }
}

/// Collects faults by field.
#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(FieldError {
            field,
            message: message.into(),
        });
    }

    fn word<T: FromStr<Err = UnknownWord> + Default>(&mut self, field: &'static str, text: Option<Text<'_>>) -> T {
        match text.map(|text| text.0.parse::<T>()) {
            None => T::default(),
            Some(Ok(word)) => word,
            Some(Err(unknown)) => {
                self.add(field, unknown.to_string());
                T::default()
            }
        }
    }

    fn name(&mut self, field: &'static str, text: &str) {
        if text.len() > limits::LOCATION_BYTES_MAX {
            self.add(field, format!("at most {} bytes", limits::LOCATION_BYTES_MAX));
        } else if !text.chars().any(|c| !c.is_whitespace() && !c.is_control()) {
            self.add(field, "must not be empty");
        }
    }
}

/// Reads a body.
///
/// # Errors
/// 400 where it is no JSON, 422 where it is JSON but not what is asked for: all faults at once.
pub(super) fn read(body: &[u8]) -> Result<Wish<'_>, Problem> {
    if body.is_empty() {
        return Err(Problem::new(
            Status::BAD_REQUEST,
            "the body is empty; send JSON with at least a location",
        ));
    }
    if is_too_deep(body) {
        return Err(Problem::new(
            Status::BAD_REQUEST,
            format!("the JSON is nested more than {} deep", limits::JSON_DEPTH_MAX),
        ));
    }
    let body: Body<'_> = sonic_rs::from_slice(body).map_err(|error| malformed(body, &error))?;
    let mut faults = Faults::default();
    match &body.location {
        Location::Name(name) => faults.name("location", name),
        Location::Point { lat, lng, name } => {
            if !(-90.0..=90.0).contains(lat) {
                faults.add("location.lat", "must lie between -90 and 90 degrees");
            }
            if !(-180.0..=180.0).contains(lng) {
                faults.add("location.lng", "must lie between -180 and 180 degrees");
            }
            if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
                faults.name("location.name", name);
            }
        }
    }
    let interests: Vec<Cow<'_, str>> = body.interests.into_iter().flatten().map(|text| text.0).collect();
    if interests.len() > limits::INTERESTS_MAX {
        faults.add("interests", format!("at most {}", limits::INTERESTS_MAX));
    }
    if interests.iter().any(|word| word.len() > limits::INTEREST_BYTES_MAX) {
        faults.add(
            "interests",
            format!("each at most {} bytes", limits::INTEREST_BYTES_MAX),
        );
    }
    let wish = Wish {
        style: faults.word("style", body.style),
        length: faults.word("length", body.length),
        language: faults.word("language", body.language),
        location: body.location,
        interests,
        variation: body.variation.map_or(0, |number| number.0),
    };
    if faults.0.is_empty() {
        Ok(wish)
    } else {
        Err(Problem::invalid(faults.0))
    }
}

/// The JSON reader recurses into values that it skips, so depth must be bounded before it (invariant 2). Counting
/// brackets decides for every sane request; only a body with many is walked.
fn is_too_deep(body: &[u8]) -> bool {
    if memchr::memchr2_iter(b'[', b'{', body).count() <= limits::JSON_DEPTH_MAX {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in body {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > limits::JSON_DEPTH_MAX {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Tells JSON that is broken (400) from JSON that is something else than asked for (422): the second is what an
/// independent reader of the same bytes accepts.
fn malformed(body: &[u8], error: &sonic_rs::Error) -> Problem {
    let text = error.to_string();
    // The first line names the fault and its place; the rest quotes the input.
    let detail = text.lines().next().unwrap_or_default().to_owned();
    if sonic_rs::from_slice::<IgnoredAny>(body).is_ok() {
        Problem::new(
            Status::UNPROCESSABLE_CONTENT,
            format!("the JSON is not a story request: {detail}"),
        )
    } else {
        Problem::new(Status::BAD_REQUEST, format!("the body is not valid JSON: {detail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::types::{Length, Style};
    use proptest::prelude::*;

    fn status(body: &str) -> u16 {
        read(body.as_bytes()).err().map_or(200, |problem| problem.status.code())
    }

    #[test]
    fn a_plain_wish_borrows_and_has_defaults() {
        let body = br#"{"location":"San Francisco","style":"mystery","unknown":{"a":[1]}}"#;
        let wish = read(body).unwrap();
        assert!(matches!(&wish.location, Location::Name(Cow::Borrowed("San Francisco"))));
        assert_eq!(
            (wish.style, wish.length, wish.variation),
            (Style::Mystery, Length::Medium, 0)
        );
        let escaped = read(br#"{"location":"S\u00e3o Paulo","style":null}"#).unwrap();
        assert!(matches!(escaped.asked().location, AskedLocation::Name("São Paulo")));
        let point = read(br#"{"location":{"lat":37.5,"lng":-122,"name":"here"}}"#).unwrap();
        assert!(matches!(
            point.asked().location,
            AskedLocation::Point {
                lat: 37.5,
                lng: -122.0,
                name: Some("here")
            }
        ));
    }

    #[test]
    fn each_fault_has_its_status_and_all_faults_come_together() {
        for broken in [
            "",
            "{",
            "{\"location\":\"x\"",
            "nonsense",
            "{\"location\":\"\u{1}\"}",
            "{\"location\":\"x\"} {",
        ] {
            assert_eq!(status(broken), 400, "{broken:?}");
        }
        for other in [
            "{}",
            "[]",
            "7",
            "null",
            r#"{"location":5}"#,
            r#"{"location":""}"#,
            r#"{"location":"  "}"#,
            r#"{"location":{"lat":91,"lng":0}}"#,
            r#"{"location":{"lat":1}}"#,
            r#"{"location":"x","variation":-1}"#,
            r#"{"location":"x","variation":1.5}"#,
            r#"{"location":"x","interests":"food"}"#,
            r#"{"location":"x","language":"xx"}"#,
        ] {
            assert_eq!(status(other), 422, "{other}");
        }
        let long = "x".repeat(300);
        let body = format!(r#"{{"location":"{long}","style":"opera","length":"epic"}}"#);
        let problem = read(body.as_bytes()).err();
        let fields: Vec<_> = problem.unwrap().errors.iter().map(|error| error.field).collect();
        assert_eq!(fields, ["location", "style", "length"]);
    }

    #[test]
    fn a_variation_is_any_whole_number_however_written() {
        let variation =
            |text: &str| read(format!(r#"{{"location":"x","variation":{text}}}"#).as_bytes()).map(|w| w.variation);
        for (text, number) in [
            ("0", 0),
            ("7", 7),
            ("7.0", 7),
            ("-0.0", 0),
            ("2e3", 2000),
            ("4294967295", u32::MAX),
            ("4294967295.0", u32::MAX),
            ("null", 0),
        ] {
            assert_eq!(variation(text).ok(), Some(number), "{text}");
        }
        for text in [
            "-1",
            "-1.0",
            "1.5",
            "4294967296",
            "4294967296.0",
            "1e300",
            "\"7\"",
            "true",
            "[7]",
        ] {
            let status = variation(text).err().map(|problem| problem.status);
            assert_eq!(status, Some(Status::UNPROCESSABLE_CONTENT), "{text}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let nested = |depth: usize| format!(r#"{{"location":"x","y":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(status(&nested(limits::JSON_DEPTH_MAX - 1)), 200);
        assert_eq!(status(&nested(limits::JSON_DEPTH_MAX)), 400);
        assert_eq!(status(&nested(30_000)), 400);
        assert_eq!(status(&"[{\"a\":".repeat(10_000)), 400);
        // Brackets in text, and side by side, are not depth.
        let brackets = "[\\\"{".repeat(40);
        assert_eq!(
            status(&format!(
                r#"{{"location":"x","y":"{brackets}","z":[{}[]]}}"#,
                "[],".repeat(500)
            )),
            200
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body);
        }

        #[test]
        fn any_values_give_an_answer(name in ".{0,40}", lat in any::<f64>(), variation in any::<i64>()) {
            let name = sonic_rs::to_string(&name).unwrap();
            let lat = if lat.is_finite() { lat } else { 0.0 };
            let _ = read(format!(r#"{{"location":{name},"variation":{variation}}}"#).as_bytes());
            let _ = read(format!(r#"{{"location":{{"lat":{lat},"lng":0,"name":{name}}}}}"#).as_bytes());
        }
    }
}
