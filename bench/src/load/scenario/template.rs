//! Text with places for data: `{{set}}`, `{{set|json}}` (within a JSON string), `{{set|url}}` (within a path or query).

use super::data::DataSet;

/// How a value is made fit for its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Raw,
    Json,
    Url,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Data { set: usize, escape: Escape },
}

/// Text, and data sets by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    source: String,
    parts: Vec<Part>,
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}

impl Template {
    /// Text as it is.
    pub(crate) fn text(text: &str) -> Self {
        Self::bytes(text.as_bytes().to_vec())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self {
            source: String::from_utf8_lossy(&bytes).into_owned(),
            parts: vec![Part::Text(bytes)],
        }
    }

    /// Reads the places; `sets` are the known names, in the order of their numbers.
    ///
    /// # Errors
    /// An open bracket, an unknown set or escape.
    pub(crate) fn parse(text: &str, sets: &[String]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after
                .split_once("}}")
                .ok_or_else(|| format!("{text:?}: a {{{{ is never closed"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.as_bytes().to_vec()));
            }
            let (name, escape) = inside.split_once('|').unwrap_or((inside, ""));
            let escape = match escape.trim() {
                "" => Escape::Raw,
                "json" => Escape::Json,
                "url" => Escape::Url,
                other => return Err(format!("{text:?}: {other:?} is no way to write a value: json or url")),
            };
            let name = name.trim();
            let set = sets
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| format!("{text:?}: there is no data set {name:?}"))?;
            parts.push(Part::Data { set, escape });
            rest = behind;
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Text(rest.as_bytes().to_vec()));
        }
        Ok(Self {
            source: text.to_owned(),
            parts,
        })
    }

    /// Always the same.
    pub(crate) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Appends the text, with the value that `place_of` gives for each set.
    pub(super) fn write(&self, sets: &[DataSet], mut place_of: impl FnMut(usize) -> u64, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Data { set, escape } => {
                    if let Some(data) = sets.get(*set) {
                        data.with(place_of(*set), |value| append(value, *escape, out));
                    }
                }
            }
        }
    }
}

fn append(value: &str, escape: Escape, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let nibble = |n: u8| HEX.get(usize::from(n & 15)).copied().unwrap_or(b'0');
    match escape {
        Escape::Raw => out.extend_from_slice(value.as_bytes()),
        Escape::Json => {
            for &b in value.as_bytes() {
                match b {
                    b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
                    0..0x20 => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', nibble(b >> 4), nibble(b)]),
                    _ => out.push(b),
                }
            }
        }
        Escape::Url => {
            for &b in value.as_bytes() {
                if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                    out.push(b);
                } else {
                    out.extend_from_slice(&[b'%', nibble(b >> 4), nibble(b)]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn written(text: &str, value: &str) -> Result<String, String> {
        let template = Template::parse(text, &["a".to_owned(), "b".to_owned()])?;
        let list = |value: &str| {
            let table = toml::Table::from_iter([("values".to_owned(), toml::Value::from(vec![value]))]);
            DataSet::new("a", table.try_into().unwrap(), Path::new(".")).unwrap()
        };
        let mut out = Vec::new();
        template.write(&[list(value), list("second")], |_| 0, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_stand_where_they_are_named() {
        assert_eq!(written("x{{a}}y{{ b }}{{a}}", "1").unwrap(), "x1ysecond1");
        assert_eq!(written("no place", "1").unwrap(), "no place");
        assert_eq!(written("", "1").unwrap(), "");
        assert!(Template::text("{{a}}").is_fixed() && !Template::parse("{{a}}", &["a".into()]).unwrap().is_fixed());
    }

    #[test]
    fn a_value_cannot_break_out_of_its_surroundings() {
        let body = written("{\"x\":\"{{a|json}}\"}", "q\" \\ \t é").unwrap();
        let read: std::collections::BTreeMap<String, String> = sonic_rs::from_str(&body).unwrap();
        assert_eq!(read["x"], "q\" \\ \t é");
        assert_eq!(written("/p?q={{a|url}}", "a b/é&").unwrap(), "/p?q=a%20b%2F%C3%A9%26");
    }

    #[test]
    fn what_is_no_template_is_told() {
        for bad in ["{{a", "{{c}}", "{{a|html}}", "{{}}"] {
            assert!(written(bad, "").is_err(), "{bad}");
        }
    }
}
