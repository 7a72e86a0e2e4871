//! What answers wear beside what they say: the fields that are the same for all of a worker's answers, and those of
//! CORS. Written ahead, so that all of them cost an answer one copy.

use super::{JSON, Vary};
use crate::config::{Cors, Face, Origins};
use crate::http::{FieldLines, FieldName, RequestHead, Response, field};

/// Fields that scripts of other origins may read, beside those that Fetch always lets them read.
const EXPOSED: &str =
    "Allow, Cache-Status, Content-Location, ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID, X-Worker-ID";

/// Cache-Control of a story at its own place: it never changes, so a client may keep it for a day without asking.
pub(super) const CACHE_FOR: &str = "public, max-age=86400, immutable";

/// Cache-Control of what is true now only, and of errors: a 404 may be cached where nothing is said of it (RFC 9110
/// section 15.1), and a story may be told the next moment.
pub(super) const NO_STORE: &str = "no-store";

/// Cache-Status of a story from the worker's own cache (RFC 9211).
pub(super) const HIT: &str = "roadtrip-api; hit";

/// A worker's wardrobe.
pub(super) struct Dress {
    /// In the clear, and over TLS.
    stamps: [Stamps; 2],
    /// The same fields one by one, for answers by value.
    singles: [Vec<(FieldName, String)>; 2],
    sharing: Option<Sharing>,
    max_age: String,
}

/// Lines for the beginning of an answer, whole for the answers that must be quick.
pub(super) struct Stamps {
    /// For any answer.
    pub(super) plain: FieldLines,
    /// For a probe's JSON.
    pub(super) probe: FieldLines,
    /// For a story from the cache, asked for by its wish.
    pub(super) told: FieldLines,
    /// For a story asked for by its id.
    pub(super) kept: FieldLines,
}

/// CORS with named origins: the answer depends on who asks.
struct Sharing {
    origins: Vec<String>,
    /// What an answer to one of them says beside its name.
    lines: FieldLines,
    singles: Vec<(FieldName, String)>,
}

impl Dress {
    /// For the answers of the worker `worker_id`.
    pub(super) fn new(face: &Face, worker_id: &str) -> Dress {
        let sharing = face.cors.as_ref().and_then(Sharing::new);
        let singles = [false, true].map(|secure| singles(face, worker_id, secure));
        let stamps = singles.each_ref().map(|singles| {
            let plain = lines(singles);
            let with_vary = |lines: FieldLines, what: Vary| with_vary(lines, what.text(sharing.is_some()));
            let json = || plain.clone().with(field::CONTENT_TYPE, JSON);
            Stamps {
                probe: with_vary(json().with(field::CACHE_CONTROL, NO_STORE), Vary::Nothing),
                told: told(&plain, HIT, Vary::KindAndCoding.text(sharing.is_some())),
                kept: with_vary(json().with(field::CACHE_CONTROL, CACHE_FOR), Vary::Coding),
                plain,
            }
        });
        Dress {
            stamps,
            singles,
            sharing,
            max_age: face
                .cors
                .as_ref()
                .map(|cors| cors.max_age.as_secs().to_string())
                .unwrap_or_default(),
        }
    }

    /// Lines for an answer on a connection that is TLS, or is not.
    #[inline]
    pub(super) fn stamps(&self, secure: bool) -> &Stamps {
        let [clear, tls] = &self.stamps;
        if secure { tls } else { clear }
    }

    /// [`Stamps::told`] with another Cache-Status, written now.
    pub(super) fn told(&self, secure: bool, cache_status: &str) -> FieldLines {
        let plain = &self.stamps(secure).plain;
        told(plain, cache_status, self.vary(Vary::KindAndCoding))
    }

    /// The request's origin, where it is one of those that may read the answer by name.
    #[inline]
    pub(super) fn origin<'r>(&self, head: &RequestHead<'r>) -> Option<&'r [u8]> {
        self.sharing.as_ref()?.origin(head)
    }

    /// Whether preflights are answered, whoever sends them.
    fn any_origin(&self) -> bool {
        self.sharing.is_none() && !self.max_age.is_empty()
    }

    /// Vary for an answer that varies with `what`.
    pub(super) fn vary(&self, what: Vary) -> Option<&'static str> {
        what.text(self.sharing.is_some())
    }

    /// Adds what an allowed origin is to see.
    #[inline]
    pub(super) fn share<'o>(&self, response: Response<'o>, origin: Option<&[u8]>) -> Response<'o> {
        match (origin, &self.sharing) {
            (Some(origin), Some(sharing)) => response.header(field::ALLOW_ORIGIN, origin).lines(sharing.lines.all()),
            _ => response,
        }
    }

    /// All of it for an answer by value.
    pub(super) fn put_on(&self, fields: &mut Vec<(FieldName, Vec<u8>)>, secure: bool, origin: Option<&[u8]>) {
        let owned = |(name, value): &(FieldName, String)| (*name, value.clone().into_bytes());
        let [clear, tls] = &self.singles;
        fields.extend(if secure { tls } else { clear }.iter().map(owned));
        if let (Some(origin), Some(sharing)) = (origin, &self.sharing) {
            fields.push((field::ALLOW_ORIGIN, origin.to_vec()));
            fields.extend(sharing.singles.iter().map(owned));
        }
    }

    /// The fields of the answer to a preflight (Fetch, "CORS-preflight request") beside Access-Control-Allow-Origin;
    /// `None` where the request is none, or its origin may not read answers. What is asked for is not looked at: the
    /// answer says what the path takes, and the browser compares.
    pub(super) fn preflight<'a>(
        &'a self,
        head: &RequestHead<'_>,
        allow: &'static str,
        reads: &'static str,
    ) -> Option<[(FieldName, &'a [u8]); 3]> {
        let asked = head.headers.get("access-control-request-method").is_some() && head.headers.get("origin").is_some();
        if !asked || !(self.any_origin() || self.origin(head).is_some()) {
            return None;
        }
        // A preflight asks about other methods than its own.
        let methods = allow.strip_suffix(", OPTIONS").unwrap_or(allow);
        Some([
            (field::ALLOW_METHODS, methods.as_bytes()),
            (field::ALLOW_HEADERS, reads.as_bytes()),
            (field::MAX_AGE, self.max_age.as_bytes()),
        ])
    }
}

impl Sharing {
    fn new(cors: &Cors) -> Option<Sharing> {
        let Origins::These(origins) = &cors.origins else {
            return None;
        };
        let mut singles = Vec::new();
        if cors.credentials {
            singles.push((field::ALLOW_CREDENTIALS, "true".to_owned()));
        }
        singles.push((field::EXPOSE_HEADERS, EXPOSED.to_owned()));
        Some(Sharing {
            origins: origins.clone(),
            lines: lines(&singles),
            singles,
        })
    }

    /// Scheme and host are alike in either case (RFC 6454 section 4), and nothing else has letters; otherwise byte by
    /// byte: no prefix, no suffix, no other port. Two Origin fields are none.
    fn origin<'r>(&self, head: &RequestHead<'r>) -> Option<&'r [u8]> {
        let mut sent = head.headers.get_all("origin");
        let (origin, None) = (sent.next()?, sent.next()) else {
            return None;
        };
        let known = |known: &String| origin.eq_ignore_ascii_case(known.as_bytes());
        self.origins.iter().any(known).then_some(origin)
    }
}

fn with_vary(lines: FieldLines, vary: Option<&str>) -> FieldLines {
    match vary {
        Some(text) => lines.with(field::VARY, text),
        None => lines,
    }
}

fn told(plain: &FieldLines, cache_status: &str, vary: Option<&str>) -> FieldLines {
    let json = plain.clone().with(field::CONTENT_TYPE, JSON);
    with_vary(json.with(field::CACHE_STATUS, cache_status), vary)
}

fn lines(singles: &[(FieldName, String)]) -> FieldLines {
    singles
        .iter()
        .fold(FieldLines::new(), |lines, (name, value)| lines.with(*name, value))
}

fn singles(face: &Face, worker_id: &str, secure: bool) -> Vec<(FieldName, String)> {
    let mut all = Vec::new();
    if let Some(server) = &face.server {
        all.push((field::SERVER, server.clone()));
    }
    all.push((field::X_WORKER_ID, worker_id.to_owned()));
    // Nothing is guessed to be what it is not said to be.
    all.push((field::CONTENT_TYPE_OPTIONS, "nosniff".to_owned()));
    // Over a connection in the clear it would mean nothing (RFC 6797 section 7.2).
    if secure && !face.hsts_max_age.is_zero() {
        let value = format!("max-age={}", face.hsts_max_age.as_secs());
        all.push((field::STRICT_TRANSPORT_SECURITY, value));
    }
    if matches!(&face.cors, Some(cors) if cors.origins == Origins::Any) {
        all.push((field::ALLOW_ORIGIN, "*".to_owned()));
        all.push((field::EXPOSE_HEADERS, EXPOSED.to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_head;
    use std::time::Duration;

    fn dress(origins: &[&str], credentials: bool) -> Dress {
        let face = Face {
            cors: Some(Cors {
                origins: Origins::These(origins.iter().map(|origin| (*origin).to_owned()).collect()),
                credentials,
                max_age: Duration::from_secs(600),
            }),
            ..Face::default()
        };
        Dress::new(&face, "pod-0")
    }

    fn allowed(dress: &Dress, fields: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, _) = parse_head(head.as_bytes()).unwrap().unwrap();
        dress.origin(&head).is_some()
    }

    #[test]
    fn only_the_very_origin_is_one_of_them() {
        let dress = dress(&["https://app.example", "http://localhost:3000"], false);
        for good in ["https://app.example", "HTTPS://App.Example", "http://localhost:3000"] {
            assert!(allowed(&dress, &format!("Origin: {good}\r\n")), "{good}");
        }
        for bad in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://evil-app.example",
            "https://evil.example/https://app.example",
            "https://app.example/",
            "https://app.example https://evil.example",
            "http://localhost",
            "null",
            "*",
            "",
        ] {
            assert!(!allowed(&dress, &format!("Origin: {bad}\r\n")), "{bad}");
        }
        assert!(!allowed(&dress, ""));
        let twice = "Origin: https://app.example\r\nOrigin: https://evil.example\r\n";
        assert!(!allowed(&dress, twice));
    }

    #[test]
    fn hsts_is_for_tls_alone_and_only_where_asked_for() {
        let has = |dress: &Dress, secure| {
            let mut fields = Vec::new();
            dress.put_on(&mut fields, secure, None);
            fields
                .iter()
                .any(|(name, value)| *name == field::STRICT_TRANSPORT_SECURITY && value == b"max-age=60")
        };
        let face = Face {
            hsts_max_age: Duration::from_secs(60),
            ..Face::default()
        };
        let on = Dress::new(&face, "pod-0");
        assert!(has(&on, true) && !has(&on, false));
        assert!(on.stamps(true).told.bytes() > on.stamps(false).told.bytes());
        assert!(!has(&Dress::new(&Face::default(), "pod-0"), true));
    }
}
