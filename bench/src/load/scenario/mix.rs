//! A mix of requests, drawn by weight, and written for either protocol.

use bytes::Bytes;
use fastrand::Rng;
use serde::Deserialize;

use super::data::DataSet;
use super::template::Template;
use crate::answer::Told;

/// A user's pause between an answer and the next request, in seconds; closed loop only.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(crate) enum Think {
    /// Always as long.
    Fixed(f64),
    /// Evenly between the two.
    Uniform([f64; 2]),
    /// Exponential, with this mean.
    Exponential {
        /// In seconds.
        mean: f64,
    },
}

impl Think {
    fn is_sound(self) -> bool {
        let fits = |s: f64| (0.0..=86_400.0).contains(&s);
        match self {
            Self::Fixed(s) | Self::Exponential { mean: s } => fits(s),
            Self::Uniform([a, b]) => fits(a) && fits(b) && a <= b,
        }
    }

    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Fixed(s) => s,
            Self::Uniform([a, b]) => a + (b - a) * rng.f64(),
            Self::Exponential { mean } => -mean * (1.0 - rng.f64()).ln(),
        }
    }
}

/// Which statuses are right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expect(Vec<u16>);

impl Expect {
    /// These; 2xx where none are named.
    ///
    /// # Errors
    /// A number that is no final status.
    pub(crate) fn of(statuses: Vec<u16>) -> Result<Self, String> {
        match statuses.iter().find(|s| !(200..600).contains(*s)) {
            Some(bad) => Err(format!("{bad} is no status that ends a request")),
            None => Ok(Self(statuses)),
        }
    }

    pub(crate) fn takes(&self, status: u16) -> bool {
        if self.0.is_empty() {
            (200..300).contains(&status)
        } else {
            self.0.contains(&status)
        }
    }
}

/// One kind of request.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) name: String,
    /// Share, against the sum of all.
    pub(crate) weight: f64,
    pub(crate) method: String,
    pub(crate) path: Template,
    pub(crate) headers: Vec<(String, Template)>,
    pub(crate) body: Option<Template>,
    pub(crate) expect: Expect,
    /// What each answer's Cache-Status must say.
    pub(crate) told: Option<Told>,
    /// The answer is a stream of events.
    pub(crate) sse: bool,
    pub(crate) think: Option<Think>,
}

/// What was drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    /// Number of the class.
    pub(crate) class: u16,
    /// The answer has no body, whatever its length says.
    pub(crate) head: bool,
    /// The answer is a stream of events.
    pub(crate) sse: bool,
    /// A status that is right besides those of the class.
    pub(crate) expect: Option<u16>,
}

/// Classes with their data.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    sets: Vec<DataSet>,
    classes: Vec<Class>,
    /// Weights, summed up.
    upto: Vec<f64>,
    /// HTTP/1.1 bytes of classes without data.
    fixed: Vec<Option<Vec<u8>>>,
    authority: String,
    close: bool,
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl Mix {
    /// An empty one. `close` asks the server to close after each answer.
    pub(crate) fn new(sets: Vec<DataSet>, authority: &str, close: bool) -> Self {
        Self {
            sets,
            classes: Vec::new(),
            upto: Vec::new(),
            fixed: Vec::new(),
            authority: authority.to_owned(),
            close,
        }
    }

    /// Adds a class; headers that each request needs are added where it has none.
    ///
    /// # Errors
    /// A sentence, where it would break the framing or can never be drawn.
    pub(crate) fn add(&mut self, mut class: Class) -> Result<(), String> {
        let name = &class.name;
        if !is_token(&class.method) {
            return Err(format!("{name}: {:?} is not a request method", class.method));
        }
        if !(class.weight > 0.0 && class.weight <= 1e9) {
            return Err(format!("{name}: weight {} is not within 0 to 1e9", class.weight));
        }
        if class.think.is_some_and(|think| !think.is_sound()) {
            return Err(format!("{name}: think takes 0 to 86400 seconds"));
        }
        // With the values in it, as a raw one may break a line.
        let written = |template: &Template| {
            let mut out = Vec::new();
            template.write(&self.sets, |_| 0, &mut out);
            out
        };
        let path = written(&class.path);
        if !path.starts_with(b"/") || path.iter().any(|b| *b <= b' ' || *b == 0x7f) {
            return Err(format!(
                "{name}: a path starts with / and has no white space; is a |url missing?"
            ));
        }
        for (header, value) in &class.headers {
            if !is_token(header) || written(value).iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                return Err(format!("{name}: header {header:?} is not \"Name: value\" on one line"));
            }
        }
        let mut default = |header: &str, value: &str| {
            if !class.headers.iter().any(|(h, _)| h.eq_ignore_ascii_case(header)) {
                class.headers.push((header.to_owned(), Template::text(value)));
            }
        };
        if class.body.is_some() {
            default("content-type", "application/json");
        }
        if class.sse {
            default("accept", "text/event-stream");
        }
        if self.close {
            default("connection", "close");
        }
        let is_fixed = class.path.is_fixed()
            && class.body.as_ref().is_none_or(Template::is_fixed)
            && class.headers.iter().all(|(_, value)| value.is_fixed());
        let sum = self.upto.last().copied().unwrap_or(0.0) + class.weight;
        let bytes = is_fixed.then(|| {
            let mut out = Vec::new();
            self.write_h1(&class, &mut |_| 0, &mut out);
            out
        });
        self.classes.push(class);
        self.upto.push(sum);
        self.fixed.push(bytes);
        Ok(())
    }

    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn write_h1(&self, class: &Class, place_of: &mut dyn FnMut(usize) -> u64, out: &mut Vec<u8>) {
        out.extend_from_slice(class.method.as_bytes());
        out.push(b' ');
        class.path.write(&self.sets, &mut *place_of, out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if !class.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            out.extend_from_slice(b"Host: ");
            out.extend_from_slice(self.authority.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in &class.headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            value.write(&self.sets, &mut *place_of, out);
            out.extend_from_slice(b"\r\n");
        }
        let Some(template) = &class.body else {
            out.extend_from_slice(b"\r\n");
            return;
        };
        let mut body = Vec::new();
        template.write(&self.sets, &mut *place_of, &mut body);
        out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(&body);
    }

    fn pick(&self, rng: &mut Rng) -> (Drawn, Option<&Class>) {
        let place = if self.classes.len() > 1 {
            let at = rng.f64() * self.upto.last().copied().unwrap_or(0.0);
            let last = self.classes.len().saturating_sub(1);
            self.upto.partition_point(|&upto| upto <= at).min(last)
        } else {
            0
        };
        let class = self.classes.get(place);
        let drawn = Drawn {
            class: u16::try_from(place).unwrap_or(u16::MAX),
            head: class.is_some_and(|c| c.method == "HEAD"),
            sse: class.is_some_and(|c| c.sse),
            expect: None,
        };
        (drawn, class)
    }

    /// Draws a value for each set, once a request: a key in the path and in the body is the same key.
    fn places<'m>(&'m self, rng: &'m mut Rng, turn: u64) -> impl FnMut(usize) -> u64 + 'm {
        let mut drawn: Vec<Option<u64>> = vec![None; self.sets.len()];
        move |set| {
            let Some(place) = drawn.get_mut(set) else { return 0 };
            *place.get_or_insert_with(|| self.sets.get(set).map_or(0, |data| data.draw(rng, turn)))
        }
    }

    /// Draws a request and appends it; `turn` is its number over all threads.
    pub(crate) fn draw_h1(&self, rng: &mut Rng, turn: u64, out: &mut Vec<u8>) -> Drawn {
        let (drawn, class) = self.pick(rng);
        match (self.fixed.get(usize::from(drawn.class)), class) {
            (Some(Some(bytes)), _) => out.extend_from_slice(bytes),
            (_, Some(class)) => self.write_h1(class, &mut self.places(rng, turn), out),
            _ => {}
        }
        drawn
    }

    /// Draws a request for HTTP/2; `None` where its values make no request.
    pub(crate) fn draw_h2(&self, rng: &mut Rng, turn: u64, scheme: &str) -> Option<(Drawn, http::Request<()>, Bytes)> {
        let (drawn, class) = self.pick(rng);
        let class = class?;
        let mut place_of = self.places(rng, turn);
        let mut uri = format!("{scheme}://{}", self.authority).into_bytes();
        class.path.write(&self.sets, &mut place_of, &mut uri);
        let mut request = http::Request::builder()
            .method(class.method.as_bytes())
            .uri(uri.as_slice());
        for (name, value) in &class.headers {
            // RFC 9113 section 8.2.2.
            if name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case("connection") {
                continue;
            }
            let mut out = Vec::new();
            value.write(&self.sets, &mut place_of, &mut out);
            request = request.header(name.as_str(), out);
        }
        let mut body = Vec::new();
        if let Some(template) = &class.body {
            template.write(&self.sets, &mut place_of, &mut body);
            request = request.header("content-length", body.len());
        }
        Some((drawn, request.body(()).ok()?, Bytes::from(body)))
    }

    /// The pause after an answer to a request of this class, in seconds.
    pub(crate) fn think(&self, class: u16, rng: &mut Rng) -> Option<f64> {
        self.classes.get(usize::from(class))?.think.map(|think| think.draw(rng))
    }
}
