//! One value out of one variable, by its kind. Every fault is collected; nothing here stops at the first.

use super::variables::{Kind, Preset, VARIABLES, Variable};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;

/// Longest part of a wrong value that is repeated in a message, characters.
const SHOWN_CHARS_MAX: usize = 80;

/// What is wrong with one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong and what would be right. Never holds a secret.
    pub problem: String,
}

/// All that is wrong with the environment, at least one fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(
            f,
            "{count} environment variable{} cannot be used:",
            if count == 1 { "" } else { "s" }
        )?;
        for error in &self.0 {
            write!(f, "\n  {} {}", error.variable, error.problem)?;
        }
        Ok(())
    }
}

/// A variable as it holds after parsing, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub variable: &'static str,
    /// Its value in words; secrets redacted.
    pub value: String,
    /// Whether the environment gave it (or else the default holds).
    pub set: bool,
}

/// Reads variables and gathers faults, warnings and what holds in the end.
pub(super) struct Reader {
    env: HashMap<OsString, OsString>,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
    pub(super) settings: Vec<Setting>,
}

impl Reader {
    pub(super) fn new(env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            env: env.into_iter().collect(),
            errors: Vec::new(),
            warnings: Vec::new(),
            settings: Vec::with_capacity(VARIABLES.len()),
        }
    }

    /// The raw value; blank counts as not set, because manifests often leave a variable blank.
    pub(super) fn raw(&self, name: &str) -> Option<&OsStr> {
        let value = self.env.get(OsStr::new(name)).map(OsString::as_os_str)?;
        value
            .to_str()
            .is_none_or(|text| !text.trim().is_empty())
            .then_some(value)
    }

    pub(super) fn fault(&mut self, variable: &Variable, problem: String) {
        self.errors.push(ConfigError {
            variable: variable.name,
            problem,
        });
    }

    pub(super) fn note(&mut self, variable: &Variable, value: String, set: bool) {
        self.settings.push(Setting {
            variable: variable.name,
            value,
            set,
        });
    }

    /// As [`given`](Self::given), for values with more ways to be wrong than one line can say: `parse` gives the fault,
    /// in words that follow the variable's name.
    pub(super) fn given_or_why<T>(
        &mut self,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let mut why = None;
        let faults = self.errors.len();
        let parse = |text: &str| parse(text).map_err(|fault| why = Some(fault)).ok();
        let value = self.given(variable, parse, show);
        if let (Some(why), Some(fault)) = (why, self.errors.get_mut(faults)) {
            fault.problem = why;
        }
        value
    }

    /// Parses a set variable with `parse`; notes the value, or the fault with what is allowed.
    pub(super) fn given<T>(
        &mut self,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Option<T>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let Some(raw) = self.raw(variable.name) else {
            self.note(variable, variable.preset_text(), false);
            return None;
        };
        match raw.to_str().map(str::trim).and_then(parse) {
            Some(value) => {
                let shown = show(&value);
                self.note(variable, shown, true);
                Some(value)
            }
            None => {
                let shown = if variable.is_secret() {
                    "has a value (not shown)".to_owned()
                } else {
                    shown(raw)
                };
                self.fault(variable, format!("{shown}, but must be {}", variable.allowed()));
                None
            }
        }
    }

    /// A count, a time in milliseconds or a size in bytes, where the environment gives one.
    pub(super) fn number_given(&mut self, variable: &Variable) -> Option<u64> {
        let show = |value: &u64| {
            Variable {
                preset: Preset::Number(*value),
                ..*variable
            }
            .preset_text()
        };
        self.given(variable, |text| parse_number(variable.kind, text), show)
    }

    /// The same, or the default of the table.
    pub(super) fn number(&mut self, variable: &Variable) -> u64 {
        let preset = if let Preset::Number(value) = variable.preset {
            value
        } else {
            0
        };
        self.number_given(variable).unwrap_or(preset)
    }

    /// The canonical word, or the default of the table.
    pub(super) fn word(&mut self, variable: &Variable) -> &'static str {
        let preset = if let Preset::Word(word) = variable.preset {
            word
        } else {
            ""
        };
        let words = if let Kind::Word(words) = variable.kind {
            words
        } else {
            &[]
        };
        let parse = |text: &str| {
            words
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text))
                .map(|(_, word)| *word)
        };
        self.given(variable, parse, |word| (*word).to_owned()).unwrap_or(preset)
    }

    /// Warns of variables that are nearly ours: a typing slip would otherwise be silence.
    pub(super) fn warn_of_near_misses(&mut self) {
        let mut slips: Vec<String> = Vec::new();
        for name in self.env.keys().filter_map(|name| name.to_str()) {
            if let Some(meant) = near_miss(name) {
                slips.push(format!("{} is not read; did you mean {meant}?", printable(name)));
            }
        }
        // The environment has no order; the report has.
        slips.sort();
        self.warnings.append(&mut slips);
    }
}

/// A value as a message may repeat it.
fn shown(raw: &OsStr) -> String {
    match raw.to_str() {
        Some(text) => format!("is {}", printable(text)),
        None => format!("is {} (not UTF-8)", printable(&raw.to_string_lossy())),
    }
}

fn printable(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("{cut:?}{more}")
}

/// A count, milliseconds or bytes within the bounds of `kind`; none for anything else.
pub(super) fn parse_number(kind: Kind, text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let suffix = suffix.trim_start();
    let (unit, min, max) = match kind {
        Kind::Count { min, max } => (if suffix.is_empty() { 1 } else { return None }, min, max),
        Kind::Duration { ms_min, ms_max } => {
            let unit = match suffix {
                "" | "s" => 1000,
                "ms" => 1,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            (unit, ms_min, ms_max)
        }
        Kind::Bytes { min, max } | Kind::Memory { min, max } => {
            let unit = match suffix.to_ascii_lowercase().as_str() {
                "" | "b" => 1,
                "k" | "ki" | "kib" => 1 << 10,
                "m" | "mi" | "mib" => 1 << 20,
                "g" | "gi" | "gib" => 1 << 30,
                _ => return None,
            };
            (unit, min, max)
        }
        Kind::Mode => {
            let mode = u64::from_str_radix(text, 8).ok()?;
            return (digits == text.len() && mode <= 0o777).then_some(mode);
        }
        _ => return None,
    };
    number.checked_mul(unit).filter(|value| (min..=max).contains(value))
}

/// An address to listen on; `None` inside stands for every address.
pub(super) fn parse_address(text: &str) -> Option<Option<IpAddr>> {
    match text {
        "*" => Some(None),
        "localhost" => Some(Some(IpAddr::from([127, 0, 0, 1]))),
        _ => {
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            bare.parse().ok().map(Some)
        }
    }
}

/// The variable of ours that `name` is one slip away from; short names are too near to too much.
fn near_miss(name: &str) -> Option<&'static str> {
    const LETTERS_MIN: usize = 6;
    if name.len() > 40 || VARIABLES.iter().any(|variable| variable.name == name) {
        return None;
    }
    VARIABLES.iter().map(|variable| variable.name).find(|ours| {
        let same_letters = ours.len() >= LETTERS_MIN && squeezed(name) == squeezed(ours);
        same_letters || (ours.len() >= LETTERS_MIN && slips(name.as_bytes(), ours.as_bytes()) == 1)
    })
}

fn squeezed(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

/// Edits between two names, a swap of neighbours counting as one (optimal string alignment distance).
fn slips(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(above.len());
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let get = |line: &[usize], at: usize| line.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut best = (get(&above, j) + usize::from(x != y))
                .min(get(&above, j + 1) + 1)
                .min(get(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                best = best.min(get(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(a.len())
}
