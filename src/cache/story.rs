//! A story as it goes out, made once: its bytes, its content codings, and the field lines that name them.

use crate::http::conditional::{Validators, entity_tag};
use crate::http::negotiate::Coding;
use crate::http::{FieldLines, FieldPart, field, imf_fixdate};
use crate::limits::cache::FORM_OVERHEAD_BYTES;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::rc::Rc;
use uuid::Uuid;

/// Hexadecimal digits of the plain bytes' entity tag.
const OPAQUE_BYTES: usize = 32;

/// A story as it goes out. What it says never changes: with another coding it is another value that shares what this one has, so
/// that whoever counts its bytes counts right.
#[derive(Debug, PartialEq, Eq)]
pub struct CachedStory {
    id: Uuid,
    opaque: [u8; OPAQUE_BYTES],
    modified_s: Option<u64>,
    expires_ms: u64,
    /// Nobody need look it up anew before this, coarse milliseconds.
    refresh_ms: Cell<u64>,
    plain: Rc<Form>,
    /// By [`Coding::index`], those that were asked for so far.
    coded: [Option<Rc<Form>>; 3],
}

/// The story in one coding, with its field lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    body: Box<[u8]>,
    /// Content-Location; then Content-Encoding and ETag; then Last-Modified.
    lines: FieldLines,
    /// Where the second and the third group begin.
    marks: [usize; 2],
}

impl Form {
    fn new(story: Uuid, opaque: &[u8], modified_s: Option<u64>, coding: Option<Coding>, body: Box<[u8]>) -> Rc<Form> {
        let mut lines = FieldLines::new().with(field::CONTENT_LOCATION, location(story));
        let first = lines.bytes();
        if let Some(coding) = coding {
            lines = lines.with(field::CONTENT_ENCODING, coding.as_str());
        }
        lines = lines.with(field::ETAG, entity_tag(opaque, coding));
        let second = lines.bytes();
        if let Some(second) = modified_s {
            lines = lines.with(field::LAST_MODIFIED, imf_fixdate(second));
        }
        Rc::new(Form {
            body,
            lines,
            marks: [first, second],
        })
    }

    /// The bytes to send.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// For an answer from another place than the story's own: Content-Location, Content-Encoding, ETag.
    pub fn lines_elsewhere(&self) -> FieldPart<'_> {
        let [_, end] = self.marks;
        self.lines.part(0..end)
    }

    /// For an answer from the story's own place: Content-Encoding, ETag, Last-Modified.
    pub fn lines_at_home(&self) -> FieldPart<'_> {
        let [start, _] = self.marks;
        self.lines.part(start..self.lines.bytes())
    }

    fn weight(&self) -> usize {
        let bytes = self.body.len().saturating_add(self.lines.bytes());
        bytes.saturating_add(FORM_OVERHEAD_BYTES)
    }
}

/// The bytes, for whoever sends them without knowing what they are.
impl AsRef<[u8]> for Form {
    fn as_ref(&self) -> &[u8] {
        self.body()
    }
}

impl CachedStory {
    /// A story that may be answered from the cache until `expires_ms` on the runtime's coarse clock. The caller
    /// spreads the times (jitter), so that what was cached together does not expire together.
    pub fn new(id: Uuid, body: impl Into<Box<[u8]>>, expires_ms: u64) -> Self {
        let body = body.into();
        let opaque = opaque_of(&body);
        // A UUIDv7 begins with the time at which the story was told (RFC 9562 section 5.7), the same that stands in it
        // as `created_at`; and it has not changed since.
        let told = id.get_timestamp().filter(|_| id.get_version_num() == 7);
        let modified_s = told.map(|told| told.to_unix().0);
        CachedStory {
            id,
            opaque,
            modified_s,
            expires_ms,
            refresh_ms: Cell::new(0),
            plain: Form::new(id, &opaque, modified_s, None, body),
            coded: [const { None }; 3],
        }
    }

    /// The same story with its bytes in one more coding.
    #[must_use]
    pub fn with(&self, coding: Coding, body: impl Into<Box<[u8]>>) -> Self {
        let mut coded = self.coded.clone();
        if let Some(place) = coded.get_mut(coding.index()) {
            *place = Some(Form::new(
                self.id,
                &self.opaque,
                self.modified_s,
                Some(coding),
                body.into(),
            ));
        }
        CachedStory {
            id: self.id,
            opaque: self.opaque,
            modified_s: self.modified_s,
            expires_ms: self.expires_ms,
            refresh_ms: self.refresh_ms.clone(),
            plain: Rc::clone(&self.plain),
            coded,
        }
    }

    /// True for the first who asks within `pause_ms`: whoever gets it looks the story up anew.
    pub fn is_first_to_refresh(&self, now_ms: u64, pause_ms: u64) -> bool {
        let due = now_ms >= self.refresh_ms.get();
        if due {
            self.refresh_ms.set(now_ms.saturating_add(pause_ms));
        }
        due
    }

    /// Whether the other is this story, whatever codings each has.
    pub fn is_same(&self, other: &CachedStory) -> bool {
        self.id == other.id && self.opaque == other.opaque
    }

    /// The story's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The JSON, ready to send.
    pub fn body(&self) -> &[u8] {
        self.plain.body()
    }

    /// The story in that coding; `None` where nobody has asked for it yet.
    pub fn form(&self, coding: Option<Coding>) -> Option<&Rc<Form>> {
        match coding {
            None => Some(&self.plain),
            Some(coding) => self.coded.get(coding.index())?.as_ref(),
        }
    }

    /// The strong entity tag with its quotes (RFC 9110 section 8.8.3): the head of the plain bytes' SHA-256, so it is
    /// the same on every core and in every process, and the coding's name.
    pub fn etag(&self, coding: Option<Coding>) -> Vec<u8> {
        entity_tag(&self.opaque, coding)
    }

    /// What conditional requests are held against.
    pub fn validators(&self) -> Validators<'_> {
        Validators {
            opaque: &self.opaque,
            modified_s: self.modified_s,
        }
    }

    /// Its own place.
    pub fn location(&self) -> String {
        location(self.id)
    }

    /// Last-Modified, where it is known.
    pub fn last_modified(&self) -> Option<[u8; 29]> {
        self.modified_s.map(imf_fixdate)
    }

    /// When it stops being answered, coarse milliseconds.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Bytes of all its forms with their lines.
    pub(super) fn weight(&self) -> usize {
        let coded = self.coded.iter().flatten().map(|form| form.weight());
        coded.fold(self.plain.weight(), usize::saturating_add)
    }
}

fn location(story: Uuid) -> String {
    format!("/api/v1/stories/{story}")
}

/// The first half of a SHA-256 in hexadecimal digits.
pub fn opaque_of(body: &[u8]) -> [u8; OPAQUE_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let hash: [u8; 32] = Sha256::digest(body).into();
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let digits = nibbles.filter_map(|nibble| DIGITS.get(usize::from(nibble)).copied());
    let mut opaque = [b'0'; OPAQUE_BYTES];
    for (place, digit) in opaque.iter_mut().zip(digits) {
        *place = digit;
    }
    opaque
}
