//! What the client would have: Accept and Accept-Encoding with their weights (RFC 9110 sections 12.4, 12.5.1, 12.5.3).
//!
//! Total, without memory of its own, and linear in the length of the field, which the head's own limit bounds. Several
//! lines of a field are one list. A member that does not follow the grammar is skipped and the others hold: lists
//! grow new members over the years, and a preference that cannot be read is worth less than an answer.

use super::bytes;

/// A weight in thousandths, 0 to 1000; 0 is "not acceptable" (RFC 9110 section 12.4.2).
pub type Weight = u16;

/// The weight of a member that names none.
pub const FULL: Weight = 1000;

/// A media type that an answer can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// The type, in lower case.
    pub kind: &'static str,
    /// The subtype, in lower case.
    pub subtype: &'static str,
    /// Parameters beside `charset`, in lower case. The charset is UTF-8 for whatever is text.
    pub parameters: &'static [(&'static str, &'static str)],
}

impl MediaType {
    /// application/json
    pub const JSON: MediaType = MediaType::plain("application", "json");
    /// text/event-stream
    pub const EVENTS: MediaType = MediaType::plain("text", "event-stream");
    /// text/html
    pub const HTML: MediaType = MediaType::plain("text", "html");

    /// A type without parameters.
    pub const fn plain(kind: &'static str, subtype: &'static str) -> MediaType {
        MediaType {
            kind,
            subtype,
            parameters: &[],
        }
    }
}

/// What Accept says of a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The weight of the most specific range that fits; 0 where none does.
    pub weight: Weight,
    /// The range names type and subtype, not `*`.
    pub is_named: bool,
}

/// What the lines of Accept say of `media`: the most specific range that fits decides (RFC 9110 section 12.5.1), and of
/// several alike the greatest weight. No line, or none with a member that can be read: anything is welcome.
pub fn acceptance<'l>(lines: impl IntoIterator<Item = &'l [u8]>, media: &MediaType) -> Acceptance {
    let mut any = false;
    // Specificity and weight of the best range so far.
    let mut best: Option<(usize, Weight)> = None;
    for member in lines.into_iter().flat_map(members) {
        let Some(range) = Range::read(member) else {
            continue;
        };
        any = true;
        if let Some(specificity) = range.specificity(media) {
            let found = (specificity, range.weight);
            best = Some(best.map_or(found, |best| best.max(found)));
        }
    }
    match best {
        Some((specificity, weight)) => Acceptance {
            weight,
            is_named: specificity >= NAMED,
        },
        None => Acceptance {
            weight: if any { 0 } else { FULL },
            is_named: false,
        },
    }
}

/// Specificities: `*/*`, `type/*`, `type/subtype`, and one more for each parameter.
const NAMED: usize = 2;

/// A media range with its weight, parameters not yet looked at.
struct Range<'l> {
    kind: &'l [u8],
    subtype: &'l [u8],
    parameters: &'l [u8],
    weight: Weight,
}

impl<'l> Range<'l> {
    fn read(member: &'l [u8]) -> Option<Range<'l>> {
        let (kind, rest) = token(member)?;
        let (subtype, parameters) = token(rest.strip_prefix(b"/")?)?;
        // `*` is a token, so that `*/json` would read as a type; it is no range.
        if kind == b"*" && subtype != b"*" {
            return None;
        }
        let mut weight = None;
        for parameter in Parameters(parameters) {
            let (name, value) = parameter?;
            // Wherever it stands: RFC 9110 section 12.4.2 takes "q" for the weight regardless of order.
            if name.eq_ignore_ascii_case(b"q") && weight.replace(read_weight(value)?).is_some() {
                return None;
            }
        }
        Some(Range {
            kind,
            subtype,
            parameters,
            weight: weight.unwrap_or(FULL),
        })
    }

    /// How closely the range names `media`; `None` where it does not take it in.
    fn specificity(&self, media: &MediaType) -> Option<usize> {
        let mut specificity = match (self.kind, self.subtype) {
            (b"*", _) => 0,
            (kind, _) if !kind.eq_ignore_ascii_case(media.kind.as_bytes()) => return None,
            (_, b"*") => 1,
            (_, subtype) if subtype.eq_ignore_ascii_case(media.subtype.as_bytes()) => NAMED,
            _ => return None,
        };
        for (name, value) in Parameters(self.parameters).flatten() {
            let value = unquoted(value);
            let has = || {
                if name.eq_ignore_ascii_case(b"charset") {
                    return is_utf8(value);
                }
                media.parameters.iter().any(|(known, held)| {
                    name.eq_ignore_ascii_case(known.as_bytes()) && value.eq_ignore_ascii_case(held.as_bytes())
                })
            };
            if !name.eq_ignore_ascii_case(b"q") {
                specificity += 1;
                if !has() {
                    return None;
                }
            }
        }
        Some(specificity)
    }
}

/// A content coding that answers can have (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// gzip (RFC 1952).
    Gzip,
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878), in a window of at most 8 MiB (RFC 9659).
    Zstd,
}

impl Coding {
    /// All of them, in the order of [`index`](Self::index).
    pub const ALL: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

    /// The name in Content-Encoding.
    pub const fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Br => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// The coding of a name in lower case.
    pub fn from_name(name: &[u8]) -> Option<Coding> {
        Coding::ALL
            .into_iter()
            .find(|coding| coding.as_str().as_bytes() == name)
    }

    /// Its place in a table of all.
    pub const fn index(self) -> usize {
        match self {
            Coding::Gzip => 0,
            Coding::Br => 1,
            Coding::Zstd => 2,
        }
    }
}

/// What Accept-Encoding says of each coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codings {
    /// By [`Coding::index`].
    coded: [Weight; 3],
    /// `None` where nobody spoke of it: welcome, where nothing better is (RFC 9110 section 12.5.3, rule 2).
    identity: Option<Weight>,
}

impl Codings {
    /// Nothing but the bytes as they are.
    pub const IDENTITY: Codings = Codings {
        coded: [0; 3],
        identity: None,
    };

    /// Reads the lines of Accept-Encoding. No line: anything would be acceptable, but a client that says nothing may
    /// well be unable to decode, so only the bytes as they are. An empty line says just that (RFC 9110 section 12.5.3).
    pub fn of<'l>(lines: impl IntoIterator<Item = &'l [u8]>) -> Codings {
        let mut named: [Option<Weight>; 3] = [None; 3];
        let (mut identity, mut rest) = (None, None);
        for member in lines.into_iter().flat_map(members) {
            let Some((name, weight)) = read_coding(member) else {
                continue;
            };
            let slot = match name.len() {
                1 if name == b"*" => &mut rest,
                8 if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                // RFC 9110 section 8.4.1.3: x-gzip is gzip.
                6 if name.eq_ignore_ascii_case(b"x-gzip") => &mut named[Coding::Gzip.index()],
                4 if name.eq_ignore_ascii_case(b"gzip") => &mut named[Coding::Gzip.index()],
                4 if name.eq_ignore_ascii_case(b"zstd") => &mut named[Coding::Zstd.index()],
                2 if name.eq_ignore_ascii_case(b"br") => &mut named[Coding::Br.index()],
                _ => continue,
            };
            // Of several alike the greatest holds.
            *slot = Some(slot.map_or(weight, |before: Weight| before.max(weight)));
        }
        Codings {
            coded: named.map(|weight| weight.or(rest).unwrap_or(0)),
            identity: identity.or(rest),
        }
    }

    /// Whether an answer may have this coding; `None` is identity.
    pub fn accepts(&self, coding: Option<Coding>) -> bool {
        self.weight(coding) > 0
    }

    /// Whether there is nothing to choose: the client takes no coding, and the bytes as they are.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.coded == [0; 3] && self.identity != Some(0)
    }

    /// The best of the codings in `on_offer`, which come in the server's order of preference, and identity: the
    /// greatest weight wins, then the earlier of the server's. `Err` where nothing on offer is acceptable.
    ///
    /// Identity loses every tie, but wins where the client names it with a greater weight than the others.
    pub fn choose(&self, on_offer: &[Coding]) -> Result<Option<Coding>, NotAcceptable> {
        let mut best: Option<(Weight, Option<Coding>)> = None;
        for coding in on_offer {
            let weight = self.weight(Some(*coding));
            if weight > 0 && best.is_none_or(|(before, _)| weight > before) {
                best = Some((weight, Some(*coding)));
            }
        }
        match (best, self.identity) {
            (None, Some(0)) => Err(NotAcceptable),
            (None, _) => Ok(None),
            (Some((weight, _)), Some(identity)) if identity > weight => Ok(None),
            (Some((_, coding)), _) => Ok(coding),
        }
    }

    fn weight(&self, coding: Option<Coding>) -> Weight {
        match coding {
            Some(coding) => self.coded.get(coding.index()).copied().unwrap_or(0),
            None => self.identity.unwrap_or(1),
        }
    }
}

/// Nothing that the server could send is acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAcceptable;

fn read_coding(member: &[u8]) -> Option<(&[u8], Weight)> {
    let (name, rest) = token(member)?;
    let mut parameters = Parameters(rest);
    let weight = match parameters.next() {
        None => FULL,
        Some(parameter) => {
            let (name, value) = parameter?;
            if !name.eq_ignore_ascii_case(b"q") {
                return None;
            }
            read_weight(value)?
        }
    };
    parameters.next().is_none().then_some((name, weight))
}

/// A media type as a request's Content-Type has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentType<'v> {
    kind: &'v [u8],
    subtype: &'v [u8],
    parameters: &'v [u8],
}

impl<'v> SentType<'v> {
    /// Reads a Content-Type (RFC 9110 section 8.3.1); `None` where it is none.
    pub fn read(value: &'v [u8]) -> Option<SentType<'v>> {
        let (kind, rest) = token(value)?;
        let (subtype, parameters) = token(rest.strip_prefix(b"/")?)?;
        Parameters(parameters)
            .all(|parameter| parameter.is_some())
            .then_some(SentType {
                kind,
                subtype,
                parameters,
            })
    }

    /// `application/json`, or a type that ends in `+json` (RFC 6839 section 3.1).
    pub fn is_json(&self) -> bool {
        let suffix = self.subtype.len().checked_sub(5).and_then(|at| self.subtype.get(at..));
        self.kind.eq_ignore_ascii_case(b"application")
            && (self.subtype.eq_ignore_ascii_case(b"json")
                || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json")))
    }

    /// No charset, or UTF-8. JSON is UTF-8 whatever is said of it (RFC 8259 section 8.1); who says another charset means
    /// other bytes.
    pub fn is_utf8(&self) -> bool {
        Parameters(self.parameters)
            .flatten()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"charset"))
            .all(|(_, value)| is_utf8(unquoted(value)))
    }
}

/// `utf-8`, and `utf8` as many write it.
fn is_utf8(charset: &[u8]) -> bool {
    charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"utf8")
}

/// The members of a list (RFC 9110 section 5.6.1), trimmed, empty ones left out. A comma within quotes parts nothing.
pub(super) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    Split {
        rest: Some(line),
        at: b',',
    }
    .filter(|member| !member.is_empty())
}

/// Splits at a byte that does not stand within a quoted string (RFC 9110 section 5.6.4), and trims.
struct Split<'l> {
    rest: Option<&'l [u8]>,
    at: u8,
}

impl<'l> Iterator for Split<'l> {
    type Item = &'l [u8];

    fn next(&mut self) -> Option<&'l [u8]> {
        let rest = self.rest.take()?;
        let (mut quoted, mut escaped) = (false, false);
        for (place, byte) in rest.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                byte if *byte == self.at && !quoted => {
                    self.rest = rest.get(place + 1..);
                    return Some(bytes::trim(rest.get(..place).unwrap_or_default()));
                }
                _ => {}
            }
        }
        Some(bytes::trim(rest))
    }
}

/// `;name=value` as often as it comes, white space around the semicolons; a value that is quoted keeps its quotes.
/// `None` for one that is none. An empty one is skipped (RFC 9110 section 5.6.6).
struct Parameters<'l>(&'l [u8]);

impl<'l> Iterator for Parameters<'l> {
    type Item = Option<(&'l [u8], &'l [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = bytes::trim(self.0);
            if rest.is_empty() {
                return None;
            }
            let Some(rest) = rest.strip_prefix(b";") else {
                self.0 = &[];
                return Some(None);
            };
            let mut split = Split {
                rest: Some(rest),
                at: b';',
            };
            let parameter = split.next().unwrap_or_default();
            // The semicolon stays for the next turn.
            self.0 = match split.rest {
                Some(after) => rest.get(rest.len() - after.len() - 1..).unwrap_or_default(),
                None => &[],
            };
            if !parameter.is_empty() {
                return Some(read_parameter(parameter));
            }
        }
    }
}

fn read_parameter(parameter: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = token(parameter)?;
    let value = rest.strip_prefix(b"=")?;
    let whole = match value {
        [b'"', inner @ .., b'"'] => {
            // The closing quote must be one, and the only one.
            let mut escaped = false;
            let inside = inner.iter().all(|byte| {
                let fits = escaped || *byte != b'"';
                escaped = !escaped && *byte == b'\\';
                fits
            });
            inside && !escaped
        }
        _ => !value.is_empty() && bytes::token_len(value) == value.len(),
    };
    whole.then_some((name, value))
}

/// Without the quotes. Escapes within stay: nothing that is compared with has any.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    }
}

/// A token at the start, and what follows it.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = bytes::token_len(text);
    if len == 0 { None } else { text.split_at_checked(len) }
}

/// `0`, `0.nnn`, `1`, `1.000` (RFC 9110 section 12.4.2), three decimals at most.
fn read_weight(value: &[u8]) -> Option<Weight> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = match decimals.get(place) {
            None => 0,
            Some(digit) if digit.is_ascii_digit() => Weight::from(digit - b'0'),
            Some(_) => return None,
        };
        thousandths = thousandths * 10 + digit;
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(FULL),
        _ => None,
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
#[cfg(test)]
mod tests;
