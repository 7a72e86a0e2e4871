//! From a body to a key, and from a key to a story: the library's words and narrator, and values that may cross threads.

use crate::Failure;
use axum::http::HeaderValue;
use bytes::Bytes;
use roadtrip_api::limits::story as limits;
use roadtrip_api::store::StoryKey;
use roadtrip_api::story::gazetteer::{Found, Gazetteer, PlaceId};
use roadtrip_api::story::key::{self, Asked, AskedLocation};
use roadtrip_api::story::narrator::{self, Ask};
use roadtrip_api::story::types::uuid_text::UuidText;
use roadtrip_api::story::types::{Language, Length, LocationQuery, Story, StoryRequest, Style};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// A story as the cache holds it: its bytes, and its header values made ahead.
pub(crate) struct Told {
    pub(crate) id: Uuid,
    pub(crate) created_ms: u64,
    pub(crate) json: Bytes,
    pub(crate) etag: HeaderValue,
    pub(crate) location: HeaderValue,
    pub(crate) last_modified: HeaderValue,
}

impl Told {
    pub(crate) fn new(id: Uuid, created_ms: u64, json: impl Into<Bytes>) -> Told {
        let json = json.into();
        let value =
            |text: String| HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""));
        let mut etag = String::with_capacity(34);
        etag.push('"');
        // Hexadecimal digits are ASCII.
        etag.push_str(std::str::from_utf8(&roadtrip_api::cache::story::opaque_of(&json)).unwrap_or_default());
        etag.push('"');
        let date = roadtrip_api::http::imf_fixdate(created_ms / 1000);
        Told {
            id,
            created_ms,
            etag: value(etag),
            location: value(format!("/api/v1/stories/{id}")),
            last_modified: HeaderValue::from_bytes(&date).unwrap_or(HeaderValue::from_static("")),
            json,
        }
    }
}

/// Text that borrows where the JSON has no escapes.
struct Text<'a>(Cow<'a, str>);

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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

struct LocationVisitor;

impl<'de> Visitor<'de> for LocationVisitor {
    type Value = Location<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or an object with lat and lng")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Location<'de>, E> {
        Ok(Location::Name(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Location<'de>, E> {
        Ok(Location::Name(Cow::Owned(text.to_owned())))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Location<'de>, M::Error> {
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

impl<'de: 'a, 'a> Deserialize<'de> for Location<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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
    variation: Option<u32>,
}

/// A checked wish that borrows from the body.
pub(crate) struct Wish<'a> {
    location: Location<'a>,
    style: Style,
    length: Length,
    language: Language,
    interests: Vec<Cow<'a, str>>,
    variation: u32,
}

impl<'a> Wish<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Status and words: 400 where it is no JSON, 422 where it is not what is asked for.
    pub(crate) fn read(body: &'a [u8]) -> Result<Wish<'a>, (u16, String)> {
        let told: Body<'a> = sonic_rs::from_slice(body).map_err(|error| {
            let status = if sonic_rs::from_slice::<IgnoredAny>(body).is_ok() {
                422
            } else {
                400
            };
            let text = error.to_string();
            (status, text.lines().next().unwrap_or_default().to_owned())
        })?;
        let fault = |what: &str| Err((422, what.to_owned()));
        match &told.location {
            Location::Name(name) if name.len() > limits::LOCATION_BYTES_MAX || name.trim().is_empty() => {
                return fault("location");
            }
            Location::Point { lat, lng, .. } if !(-90.0..=90.0).contains(lat) || !(-180.0..=180.0).contains(lng) => {
                return fault("location");
            }
            _ => {}
        }
        let interests: Vec<Cow<'a, str>> = told.interests.into_iter().flatten().map(|text| text.0).collect();
        if interests.len() > limits::INTERESTS_MAX || interests.iter().any(|one| one.len() > limits::INTEREST_BYTES_MAX)
        {
            return fault("interests");
        }
        fn word<T: FromStr<Err = impl fmt::Display> + Default>(text: Option<Text<'_>>) -> Result<T, (u16, String)> {
            text.map_or_else(
                || Ok(T::default()),
                |text| text.0.parse().map_err(|error| (422, format!("{error}"))),
            )
        }
        Ok(Wish {
            style: word(told.style)?,
            length: word(told.length)?,
            language: word(told.language)?,
            location: told.location,
            interests,
            variation: told.variation.unwrap_or_default(),
        })
    }

    fn asked(&self) -> Asked<'_> {
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

    /// The canonical bytes, into memory that is used again.
    pub(crate) fn canonical(&self, out: &mut Vec<u8>) {
        key::request_bytes(out, &self.asked());
    }

    pub(crate) fn to_request(&self) -> StoryRequest {
        self.asked().to_request()
    }
}

/// A request with its place found.
pub(crate) struct Resolved {
    asked: StoryRequest,
    place: Option<PlaceId>,
    pub(crate) key: StoryKey,
}

/// What is to be kept.
pub(crate) struct Record {
    pub(crate) key: StoryKey,
    pub(crate) id: Uuid,
    pub(crate) json: Vec<u8>,
    pub(crate) location_key: String,
    pub(crate) style: &'static str,
    pub(crate) created_ms: u64,
}

pub(crate) fn resolve(asked: StoryRequest) -> Resolved {
    let gazetteer = Gazetteer::embedded();
    let place = match &asked.location {
        LocationQuery::Name(name) => match gazetteer.find(name) {
            Found::Exact(id) | Found::Close { id, .. } => Some(id),
            Found::Unknown => None,
        },
        LocationQuery::Point { lat, lng, .. } => gazetteer.nearest(*lat, *lng).map(|(id, _)| id),
    };
    let interests: Vec<Cow<'_, str>> = asked.interests.iter().map(|one| Cow::Borrowed(one.as_str())).collect();
    let borrowed = Asked {
        location: match &asked.location {
            LocationQuery::Name(name) => AskedLocation::Name(name),
            LocationQuery::Point { lat, lng, name } => AskedLocation::Point {
                lat: *lat,
                lng: *lng,
                name: name.as_deref(),
            },
        },
        style: asked.style,
        length: asked.length,
        language: asked.language,
        interests: &interests,
        variation: asked.variation,
    };
    let canonical = key::story_bytes(&borrowed, place.map(|id| gazetteer.place(id).id));
    Resolved {
        key: StoryKey::of_canonical(&canonical),
        place,
        asked,
    }
}

impl Resolved {
    pub(crate) fn tell(&self) -> Result<Record, Failure> {
        let gazetteer = Gazetteer::embedded();
        let ask = Ask::from(&self.asked);
        let telling = match (self.place, &self.asked.location) {
            (Some(id), LocationQuery::Name(_)) => narrator::tell(&gazetteer.facts(id), &ask),
            (Some(id), LocationQuery::Point { lat, lng, name }) => {
                narrator::tell(&gazetteer.facts(id).seen_from(*lat, *lng, name.clone()), &ask)
            }
            (None, LocationQuery::Name(name)) => narrator::tell_unknown(name, &ask),
            (None, LocationQuery::Point { lat, lng, .. }) => {
                narrator::tell_unknown(&format!("{lat:.4}, {lng:.4}"), &ask)
            }
        };
        let created_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let id = uuid::Builder::from_unix_timestamp_millis(created_ms, &random).into_uuid();
        let location_key = key::location_key(&telling.location.name);
        let story = Story {
            id: UuidText(id),
            title: telling.title,
            story: telling.story,
            location: telling.location,
            style: self.asked.style,
            length: self.asked.length,
            language: self.asked.language,
            generated_by: narrator::GENERATED_BY.to_owned(),
            duration_seconds: telling.duration_seconds,
            created_at: format!("{:.3}", jiff::Timestamp::from_millisecond(i64::try_from(created_ms)?)?),
        };
        Ok(Record {
            key: self.key,
            id,
            json: sonic_rs::to_vec(&story)?,
            location_key,
            style: self.asked.style.as_str(),
            created_ms,
        })
    }
}
