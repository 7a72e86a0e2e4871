//! What a certificate says of itself: names, dates, fingerprint. A reader of just that much DER (X.690), for the log and
//! for warnings; what a certificate is worth is for rustls to judge.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use std::fmt;

/// Characters of a subject that are shown.
const SUBJECT_CHARS_MAX: usize = 200;
/// DNS names that are shown.
const NAMES_MAX: usize = 5;

/// What the log tells of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its subject, as `CN=example.org, O=Example`; where that is empty, its DNS names.
    pub subject: String,
    /// First second of its validity.
    pub not_before: Timestamp,
    /// Last second of its validity.
    pub not_after: Timestamp,
    /// SHA-256 of its DER, as `openssl x509 -fingerprint -sha256` prints it.
    pub fingerprint: String,
}

impl Facts {
    /// Of a certificate in DER; none where its form is not that of RFC 5280.
    pub fn of(der: &[u8]) -> Option<Facts> {
        let mut fields = Der(Der(Der(der).expect(SEQUENCE)?).expect(SEQUENCE)?);
        fields.skip(VERSION);
        fields.expect(INTEGER)?; // The serial number.
        fields.expect(SEQUENCE)?; // The signature's algorithm.
        fields.expect(SEQUENCE)?; // The issuer.
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let not_before = time(validity.next()?)?;
        let not_after = time(validity.next()?)?;
        let mut subject = distinguished_name(fields.expect(SEQUENCE)?);
        if subject.is_empty() {
            fields.expect(SEQUENCE)?; // The public key.
            subject = alternative_names(fields).unwrap_or_default();
        }
        let digest = Sha256::digest(der);
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Some(Facts {
            subject: subject.chars().take(SUBJECT_CHARS_MAX).collect(),
            not_before,
            not_after,
            fingerprint: pairs.join(":"),
        })
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts {
            subject,
            not_before,
            not_after,
            fingerprint,
        } = self;
        write!(
            f,
            "{subject}, valid from {not_before} to {not_after}, SHA-256 {fingerprint}"
        )
    }
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version of a certificate, and its extensions: RFC 5280 section 4.1.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `dNSName` of a GeneralName: RFC 5280 section 4.2.1.6.
const DNS_NAME: u8 = 0x82;
/// id-ce-subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Attributes of a name that are shown, by the third number of 2.5.4.x (X.520).
const ATTRIBUTES: [(u8, &str); 6] = [(3, "CN"), (10, "O"), (11, "OU"), (7, "L"), (8, "ST"), (6, "C")];

/// Elements one behind the other.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next element: tag and content.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            // Four bytes of length are more than any certificate has.
            let count = usize::from(first & 0x7f);
            let (bytes, after) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
            rest = after;
            bytes
                .iter()
                .fold(0usize, |length, byte| length << 8 | usize::from(*byte))
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    /// The next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }

    /// Passes over the next element if it has this tag.
    fn skip(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            let _ = self.next();
        }
    }
}

/// Time of RFC 5280 section 4.1.2.5: in UTC, with seconds.
fn time((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME if text.len() == 12 => {
            let year: i16 = text.get(..2)?.parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME if text.len() == 14 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let civil = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

/// A name as people write it.
fn distinguished_name(name: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut sets = Der(name);
    while let Some((_, set)) = sets.next() {
        let mut pairs = Der(set);
        while let Some((_, pair)) = pairs.next() {
            let mut pair = Der(pair);
            if let Some([0x55, 4, number]) = pair.expect(OID)
                && let Some((_, label)) = ATTRIBUTES.iter().find(|(known, _)| known == number)
                && let Some((_, value)) = pair.next()
            {
                parts.push(format!("{label}={}", shown(value)));
            }
        }
    }
    parts.join(", ")
}

/// The DNS names among the extensions, which are somewhere in what follows the public key.
fn alternative_names(mut rest: Der<'_>) -> Option<String> {
    let extensions = loop {
        let (tag, content) = rest.next()?;
        if tag == EXTENSIONS {
            break Der(content).expect(SEQUENCE)?;
        }
    };
    let mut extensions = Der(extensions);
    while let Some(extension) = extensions.expect(SEQUENCE) {
        let mut extension = Der(extension);
        if extension.expect(OID)? != SUBJECT_ALT_NAME {
            continue;
        }
        // Between the two may stand whether the extension is critical.
        let value = loop {
            let (tag, content) = extension.next()?;
            if tag == OCTET_STRING {
                break content;
            }
        };
        let mut names = Der(Der(value).expect(SEQUENCE)?);
        let found: Vec<String> = std::iter::from_fn(|| names.next())
            .filter(|(tag, _)| *tag == DNS_NAME)
            .take(NAMES_MAX)
            .map(|(_, name)| format!("DNS:{}", shown(name)))
            .collect();
        return Some(found.join(", "));
    }
    None
}

/// Text that may stand in a log line.
fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .chars()
        .filter(|c| !c.is_control())
        .take(SUBJECT_CHARS_MAX)
        .collect()
}
