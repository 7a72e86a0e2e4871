//! The pen: picks phrasings and fills them, and never writes the same one twice in a story.

use super::seed::{Fnv, below, mix};
use crate::story::types::Style;

/// A set of styles, one bit each.
pub(super) type Styles = u16;

/// Adventure.
pub(super) const A: Styles = 1;
/// History.
pub(super) const H: Styles = 1 << 1;
/// Mystery.
pub(super) const M: Styles = 1 << 2;
/// Family.
pub(super) const F: Styles = 1 << 3;
/// Comedy.
pub(super) const C: Styles = 1 << 4;
/// Romance.
pub(super) const R: Styles = 1 << 5;
/// Nature.
pub(super) const N: Styles = 1 << 6;
/// Folklore.
pub(super) const K: Styles = 1 << 7;
/// Science.
pub(super) const S: Styles = 1 << 8;
/// Every style.
pub(super) const ALL: Styles = 0x1ff;

/// The bit of a style.
pub(super) const fn bit(style: Style) -> Styles {
    match style {
        Style::Adventure => A,
        Style::History => H,
        Style::Mystery => M,
        Style::Family => F,
        Style::Comedy => C,
        Style::Romance => R,
        Style::Nature => N,
        Style::Folklore => K,
        Style::Science => S,
    }
}

/// A phrasing and the styles that may use it. `{key}` is filled with a value of the beat or one of the common ones
/// (`name`, `land`, `in`, `continent`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Line(pub(super) Styles, pub(super) &'static str);

/// The phrasings of one fact.
pub(super) type Bank = &'static [Line];

/// A value for a phrasing.
pub(super) type Var<'v> = (&'static str, &'v str);

/// Picks by seed, style and variation, and remembers what it wrote.
pub(super) struct Pen {
    style: Style,
    /// Hash of place, style, length, language and interests; not of the variation.
    seed: u64,
    variation: u32,
    /// Phrasings used, so that no frame comes twice.
    pub(super) used: Vec<&'static str>,
    /// Values that every phrasing may use.
    common: Vec<(&'static str, String)>,
}

impl Pen {
    pub(super) fn new(style: Style, seed: u64, variation: u32, common: Vec<(&'static str, String)>) -> Self {
        Self {
            style,
            seed,
            variation,
            used: Vec::with_capacity(64),
            common,
        }
    }

    /// A draw that differs between variations.
    pub(super) fn draw(&self, salt: u64, n: usize) -> usize {
        below(mix(self.seed, u64::from(self.variation)), salt, n)
    }

    /// A draw that comes round to each of `n` once in every `n` variations, in step with nothing else: each round
    /// starts anew from a draw of its own. Neighbouring variations of a round never draw the same.
    pub(super) fn walk(&self, salt: u64, n: usize) -> usize {
        if n == 0 {
            return 0;
        }
        let (round, step) = (self.variation as usize / n, self.variation as usize % n);
        (below(mix(self.seed, salt), round as u64, n) + step) % n
    }

    /// A draw that goes round and round through all of `n`, one with each variation.
    pub(super) fn cycle(&self, salt: u64, n: usize) -> usize {
        match n {
            0 => 0,
            _ => (below(self.seed, salt, n) + self.variation as usize % n) % n,
        }
    }

    /// Picks an unused phrasing fit for the style and fills it. None where every fit one has been used.
    pub(super) fn say(&mut self, bank: Bank, vars: &[Var<'_>]) -> Option<String> {
        let style = bit(self.style);
        let own = |line: &&Line| line.0 & style != 0 && line.0 != ALL && !self.used.contains(&line.1);
        let any = |line: &&Line| line.0 & style != 0 && !self.used.contains(&line.1);
        // What is written for the style goes before what suits all: of three or more to choose from, at most one is
        // for all, drawn from those there are.
        let owned = bank.iter().filter(own).count();
        let common = bank.iter().filter(any).count() - owned;
        let n = if owned >= 3 {
            owned
        } else {
            owned + common.min(3 - owned)
        };
        let salt = salt(bank.first()?.1);
        let at = self.walk(salt, n);
        let line = match at.checked_sub(owned) {
            None => bank.iter().filter(own).nth(at)?,
            Some(past) => {
                let at = (self.draw(salt, common) + past) % common.max(1);
                bank.iter().filter(|line| line.0 == ALL).filter(any).nth(at)?
            }
        };
        self.used.push(line.1);
        Some(self.fill(line.1, vars))
    }

    /// Picks from lines that all fit the style (those of its voice).
    pub(super) fn pick(&mut self, lines: &'static [&'static str], vars: &[Var<'_>]) -> Option<String> {
        let fresh = |line: &&&'static str| !self.used.contains(*line);
        let n = lines.iter().filter(fresh).count();
        let line = lines.iter().filter(fresh).nth(self.walk(salt(lines.first()?), n))?;
        self.used.push(line);
        Some(self.fill(line, vars))
    }

    /// Fills a phrasing. A value at the beginning of a sentence gets a capital; a value that ends in a full stop
    /// ("Washington, D.C.") swallows the one that follows.
    pub(super) fn fill(&self, line: &str, vars: &[Var<'_>]) -> String {
        let mut out = String::with_capacity(line.len() + 96);
        let mut rest = line;
        while let Some((literal, tail)) = rest.split_once('{') {
            push_literal(&mut out, literal);
            let Some((key, tail)) = tail.split_once('}') else { break };
            let own = vars.iter().find(|var| var.0 == key).map(|var| var.1);
            let value = own
                .or_else(|| self.common.iter().find(|var| var.0 == key).map(|var| var.1.as_str()))
                .unwrap_or_default();
            debug_assert!(!value.is_empty(), "no value for {{{key}}} in: {line}");
            if starts_sentence(&out, literal) {
                push_capital(&mut out, value)
            } else {
                out.push_str(value)
            }
            rest = tail;
        }
        push_literal(&mut out, rest);
        out
    }
}

/// The draw of a bank depends on its first line, so that two banks do not walk in step.
fn salt(first: &str) -> u64 {
    Fnv::new().text(first).finish()
}

fn push_literal(out: &mut String, literal: &str) {
    let literal = match literal.strip_prefix('.') {
        Some(rest) if out.ends_with('.') => rest,
        _ => literal,
    };
    out.push_str(literal);
}

/// Whether a value that follows `literal` begins a sentence: at the very start, or after a literal (not a value, which
/// may be an abbreviation) that ends one.
fn starts_sentence(out: &str, literal: &str) -> bool {
    out.is_empty()
        || literal
            .strip_suffix(' ')
            .is_some_and(|before| before.ends_with(['.', '!', '?']))
}

fn push_capital(out: &mut String, value: &str) {
    let mut chars = value.chars();
    if let Some(first) = chars.next() {
        out.extend(first.to_uppercase());
        out.push_str(chars.as_str());
    }
}
