//! Whether the two servers are the same service: the same stories for the same wishes, the same fields, and each reads
//! what the other has kept. Without this a figure could be won by leaving something out.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sonic_rs::{JsonContainerTrait, JsonValueMutTrait, JsonValueTrait, Value};

use super::CACHE_BYTES;
use super::backends::Backends;
use super::side::{Setup, Side};
use super::wishes;
use crate::target::Target;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Fields that a told story has in its answer.
const FIELDS: [&str; 8] = [
    "cache-status",
    "content-length",
    "content-location",
    "content-type",
    "etag",
    "vary",
    "x-request-id",
    "x-worker-id",
];

/// An answer with its bytes.
pub(crate) struct Heard {
    pub(crate) status: u16,
    fields: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    /// A field's value by its name in lower case; empty where there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Result<Value, String> {
        sonic_rs::from_slice(&self.body).map_err(|e| format!("an answer is no JSON: {e}"))
    }
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// No whole answer.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Result<Heard, String> {
    let mut bytes = Vec::new();
    let mut exchange = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut chunk = [0; 16 * 1024];
        while whole(&bytes).is_none() {
            match stream.read(&mut chunk)? {
                0 => break,
                n => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            }
        }
        Ok(())
    };
    exchange().map_err(|e| format!("{address}: {e}"))?;
    whole(&bytes).ok_or_else(|| format!("{address} gave no whole answer: {}", String::from_utf8_lossy(&bytes)))
}

fn whole(bytes: &[u8]) -> Option<Heard> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(bytes) else {
        return None;
    };
    let fields: BTreeMap<String, String> = response
        .headers
        .iter()
        .map(|one| {
            (
                one.name.to_ascii_lowercase(),
                String::from_utf8_lossy(one.value).into_owned(),
            )
        })
        .collect();
    let length = fields
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    Some(Heard {
        status: response.code?,
        body: bytes.get(head..head.checked_add(length)?)?.to_vec(),
        fields,
    })
}

/// Asks both for the same, from nothing and across each other, and compares.
///
/// # Errors
/// The first difference, in words; or what kept it from being looked for.
pub(super) fn check(setup: &Setup<'_>, backends: &Backends, sides: [&Side; 2]) -> Result<(), String> {
    let bodies: Vec<String> = (0..20)
        .map(|number| wishes::body(number * 7))
        .chain([
            r#"{"location":"sf","length":"short","interests":["Food","history"]}"#.to_owned(),
            r#"{"location":{"lat":48.2,"lng":16.37,"name":"Home"},"style":"nature","length":"long"}"#.to_owned(),
            r#"{"location":{"lat":-47.5,"lng":-120}}"#.to_owned(),
            r#"{"location":"Nowhere On Any Map At All","style":"comedy"}"#.to_owned(),
        ])
        .collect();
    let mut told: Vec<Vec<Value>> = Vec::new();
    let [a, b] = sides;
    for (side, other) in [(a, b), (b, a)] {
        backends.forget_all()?;
        let first = {
            let _server = setup.serve(side, CACHE_BYTES)?;
            let first = bodies
                .iter()
                .map(|body| tell(side, body, "stored"))
                .collect::<Result<Vec<_>, _>>()?;
            for (body, before) in bodies.iter().zip(&first) {
                same_bytes(side, body, before, &tell(side, body, "hit")?)?;
            }
            by_id(side, &first)?;
            first
        };
        // What the one has kept the other reads, in Redis and without it.
        backends.wait_for_redis(2 * bodies.len())?;
        for tier in ["detail=redis", "detail=store"] {
            if tier == "detail=store" {
                backends.redis("FLUSHALL")?;
            }
            let _server = setup.serve(other, CACHE_BYTES)?;
            for (body, before) in bodies.iter().zip(&first) {
                same_bytes(other, body, before, &tell(other, body, tier)?)?;
            }
        }
        told.push(first.iter().map(bare).collect::<Result<_, _>>()?);
    }
    let [of_a, of_b] = told.as_slice() else {
        return Err("two sides have not told".to_owned());
    };
    for ((body, one), other) in bodies.iter().zip(of_a).zip(of_b) {
        if one != other {
            return Err(format!("for {body} A tells {one:?} and B tells {other:?}"));
        }
    }
    Ok(())
}

fn tell(side: &Side, body: &str, expected: &str) -> Result<Heard, String> {
    let target = Target::parse(&side.url())?;
    let heard = ask(side.address, &wishes::request(&target, body.to_owned())?)?;
    let name = &side.name;
    if heard.status != 200 {
        return Err(format!("{name} answers {body} with {}", heard.status));
    }
    if !heard.field("cache-status").ends_with(expected) {
        let said = heard.field("cache-status");
        return Err(format!("{name} says {said:?} of {body}, which should be {expected:?}"));
    }
    match FIELDS.iter().find(|field| heard.field(field).is_empty()) {
        Some(missing) => Err(format!("{name} answers without {missing}")),
        None => Ok(heard),
    }
}

/// The story without what must differ.
fn bare(heard: &Heard) -> Result<Value, String> {
    let mut story = heard.json()?;
    if let Some(fields) = story.as_object_mut() {
        for name in ["id", "created_at"] {
            if fields.remove(&name).is_none() {
                return Err(format!("a story has no {name}"));
            }
        }
    }
    Ok(story)
}

fn same_bytes(side: &Side, body: &str, before: &Heard, now: &Heard) -> Result<(), String> {
    let (etag, location) = ("etag", "content-location");
    let same = before.body == now.body
        && before.field(etag) == now.field(etag)
        && before.field(location) == now.field(location);
    match same {
        true => Ok(()),
        false => Err(format!(
            "{} gives other bytes, or another tag, for {body} than were told",
            side.name
        )),
    }
}

/// Each story at its own place, and the first of the list.
fn by_id(side: &Side, told: &[Heard]) -> Result<(), String> {
    let get = |path: &str| {
        ask(
            side.address,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
        )
    };
    for heard in told {
        let path = heard.field("content-location");
        let found = get(path)?;
        if found.status != 200 || found.body != heard.body || found.field("etag") != heard.field("etag") {
            return Err(format!("{} gives another story at {path} than was told", side.name));
        }
    }
    let page = get("/api/v1/stories?limit=5")?.json()?;
    let listed = page["stories"]
        .as_array()
        .map(|all| all.iter().filter_map(|one| one["id"].as_str()).collect::<Vec<_>>());
    let listed = listed.unwrap_or_default();
    let known = |id: &&str| told.iter().any(|heard| heard.field("content-location").ends_with(*id));
    if listed.len() != 5 || !listed.iter().all(known) || page["next_cursor"].as_str().is_none() {
        return Err(format!("{}: the list does not have the stories told last", side.name));
    }
    Ok(())
}
