//! What every peer does alike, so that only the foundation differs: reading a request's JSON, building the key, looking
//! it up, the request's id, a counter, and the bytes of a probe.
//!
//! The story and the field lines come from files that `roadtrip-bench compare` has written from the service's own
//! answers, so that answers are the same bytes. There is no narrator here: another request than that one is refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// Longest location, bytes; as in the service.
const LOCATION_BYTES_MAX: usize = 200;
/// Most interests, as in the service.
const INTERESTS_MAX: usize = 8;
/// Longest request id that is echoed, bytes.
const ID_BYTES_MAX: usize = 128;

/// A field of every answer: name and value.
pub type Field = (&'static str, &'static str);

/// A cached story: its bytes, and the fields made ahead.
#[derive(Debug)]
pub struct Story {
    /// The body.
    pub json: &'static str,
    /// All fields but Date, Content-Length and X-Request-ID.
    pub fields: Vec<Field>,
}

/// What a peer serves.
#[derive(Debug)]
pub struct Service {
    stories: HashMap<Box<[u8]>, Story, ahash::RandomState>,
    /// Fields of the probe's answer; as those of a story.
    pub live_fields: Vec<Field>,
    worker_id: &'static str,
    probes: AtomicU64,
    told: AtomicU64,
    refused: AtomicU64,
}

/// Why there is no story: the status to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u16);

#[derive(Deserialize)]
struct Wish<'a> {
    location: &'a str,
    style: Option<&'a str>,
    length: Option<&'a str>,
    language: Option<&'a str>,
    interests: Option<Vec<&'a str>>,
    variation: Option<u32>,
}

thread_local! {
    /// The key of the request at hand: kept for its capacity.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The second last told, and its text up to the fraction.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Where to listen: HOST and PORT.
pub fn address() -> SocketAddr {
    let variable = |name: &str| std::env::var(name).ok();
    let host = variable("HOST").and_then(|text| text.parse().ok());
    let port = variable("PORT").and_then(|text| text.parse().ok());
    SocketAddr::new(host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port.unwrap_or(8080))
}

/// The service; reads the files in PEER_ANSWERS the first time. Panics where they are missing: call it at start.
pub fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let folder = std::env::var("PEER_ANSWERS").expect("PEER_ANSWERS names no folder");
        Service::read(Path::new(&folder)).unwrap_or_else(|e| panic!("{folder}: {e}"))
    })
}

impl Service {
    fn read(folder: &Path) -> std::io::Result<Service> {
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).map(|text| &*text.leak());
        let fields = |text: &'static str| -> Vec<Field> { text.lines().filter_map(|l| l.split_once(": ")).collect() };
        let live_fields = fields(text("live.fields")?);
        let story = Story {
            json: text("story.json")?,
            fields: fields(text("story.fields")?),
        };
        let mut key = Vec::new();
        key_of(text("request.json")?.as_bytes(), &mut key)
            .map_err(|Refused(status)| std::io::Error::other(format!("request.json is a {status}")))?;
        let worker = live_fields
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("x-worker-id"));
        Ok(Service {
            stories: [(key.into_boxed_slice(), story)].into_iter().collect(),
            worker_id: worker.map_or("peer-0", |(_, value)| value),
            live_fields,
            probes: AtomicU64::new(0),
            told: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// The story that a request body asks for.
    ///
    /// # Errors
    /// 400, 422: the body is no wish. 404: it is not the one that is at hand.
    #[inline]
    pub fn story(&self, body: &[u8]) -> Result<&Story, Refused> {
        let found = KEY.with_borrow_mut(|key| {
            key_of(body, key)?;
            self.stories.get(key.as_slice()).ok_or(Refused(404))
        });
        count(if found.is_ok() { &self.told } else { &self.refused });
        found
    }

    /// The story at hand: for a peer that makes its field lines ahead.
    pub fn any(&self) -> Option<&Story> {
        self.stories.values().next()
    }

    /// Appends the probe's body.
    #[inline]
    pub fn live(&self, out: &mut Vec<u8>) {
        count(&self.probes);
        out.extend_from_slice(b"{\"status\":\"alive\",\"worker_id\":\"");
        out.extend_from_slice(self.worker_id.as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != now.as_secs() || text.is_empty() {
                let at = jiff::Timestamp::from_second(now.as_secs() as i64).unwrap_or_default();
                *text = at.to_string().trim_end_matches('Z').to_owned();
                *second = now.as_secs();
            }
            out.extend_from_slice(text.as_bytes());
        });
        let digit = |n: u32| b'0' + (n % 10) as u8;
        let millis = now.subsec_millis();
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis)]);
        out.extend_from_slice(b"Z\"}");
    }

    /// Probes, stories told, requests refused: for a scrape.
    pub fn counts(&self) -> [u64; 3] {
        [&self.probes, &self.told, &self.refused].map(|one| one.load(Ordering::Relaxed))
    }
}

/// One more. The peers have one worker: a load and a store, as the service's own counters.
#[inline]
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The canonical bytes of a wish: what is written differently and means the same has the same.
fn key_of(body: &[u8], key: &mut Vec<u8>) -> Result<(), Refused> {
    let wish: Wish<'_> = sonic_rs::from_slice(body).map_err(|_| Refused(400))?;
    let location = wish.location.trim();
    if location.is_empty() || location.len() > LOCATION_BYTES_MAX {
        return Err(Refused(422));
    }
    key.clear();
    key.extend(location.bytes().map(|byte| byte.to_ascii_lowercase()));
    for (value, preset) in [
        (wish.style, "adventure"),
        (wish.length, "medium"),
        (wish.language, "en"),
    ] {
        key.push(0);
        key.extend_from_slice(value.unwrap_or(preset).as_bytes());
    }
    key.push(0);
    key.extend_from_slice(&wish.variation.unwrap_or(0).to_be_bytes());
    if let Some(mut interests) = wish.interests {
        if interests.len() > INTERESTS_MAX {
            return Err(Refused(422));
        }
        interests.sort_unstable();
        for interest in interests {
            key.push(0);
            key.extend_from_slice(interest.as_bytes());
        }
    }
    Ok(())
}

/// A request's id: the client's where it is well formed, else 128 random bits in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub enum RequestId<'r> {
    /// As sent.
    Sent(&'r [u8]),
    /// Made.
    Made([u8; 32]),
}

impl<'r> RequestId<'r> {
    /// Of what X-Request-ID says, if there is one.
    #[inline]
    pub fn of(sent: Option<&'r [u8]>) -> RequestId<'r> {
        let well = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        if let Some(sent) = sent
            && !sent.is_empty()
            && sent.len() <= ID_BYTES_MAX
            && sent.iter().all(well)
        {
            return RequestId::Sent(sent);
        }
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(fastrand::u128(..).to_be_bytes()) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        RequestId::Made(text)
    }

    /// Its bytes: ASCII.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Sent(sent) => sent,
            RequestId::Made(text) => text,
        }
    }
}

/// The body of a refusal.
pub const REFUSAL: &str = "{\"title\":\"refused\"}";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(body: &str) -> Result<Vec<u8>, Refused> {
        let mut key = b"left over".to_vec();
        key_of(body.as_bytes(), &mut key).map(|()| key)
    }

    #[test]
    fn equal_wishes_have_equal_keys_and_others_have_others() {
        let one = key(r#"{"location":"San Francisco","style":"adventure"}"#).unwrap();
        assert_eq!(key(r#"{"style":null,"location":"  san francisco "}"#).unwrap(), one);
        for other in [
            r#"{"location":"San Francisco","style":"nature"}"#,
            r#"{"location":"San Francisco","length":"short"}"#,
            r#"{"location":"San Francisco","variation":1}"#,
            r#"{"location":"San Francisco","interests":["food"]}"#,
        ] {
            assert_ne!(key(other).unwrap(), one, "{other}");
        }
        assert_eq!(key("{"), Err(Refused(400)));
        assert_eq!(key(r#"{"location":" "}"#), Err(Refused(422)));
    }

    #[test]
    fn ids_are_echoed_only_where_they_are_well_formed() {
        assert_eq!(RequestId::of(Some(b"abc-1")).as_bytes(), b"abc-1");
        for bad in [None, Some(&b""[..]), Some(b"a\r\nb")] {
            assert_eq!(RequestId::of(bad).as_bytes().len(), 32);
        }
    }
}
