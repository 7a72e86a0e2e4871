//! Charts as SVG that takes its colours from the page: CSS variables, so that one drawing is right in light and dark.
//!
//! Not plotters: its SVG has colours written into it, and no title or description. What a chart needs here (axes, lines,
//! bars, whiskers) is a page of code. A series is told apart by its dashes and marks as well as by its colour.

use std::fmt::Write;

/// Size of a chart's own coordinates, which the page scales, and room for labels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 54.0;
/// Line styles and colours that the page has.
pub(super) const STYLES: usize = 6;

/// Text for markup.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

/// A number with three significant digits, thousands apart.
pub(super) fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    let digits = (2.0 - magnitude).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

/// The same without zeros at its end: for axes.
fn short(value: f64) -> String {
    let text = figure(value);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// One direction of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    label: String,
    log: bool,
    min: f64,
    max: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From zero to what holds all values, in round steps.
    pub(super) fn linear(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let step = round_step(if most > 0.0 { most / 5.0 } else { 1.0 });
        let steps = (most / step).ceil().max(1.0);
        let ticks = (0..=steps as u32)
            .map(|i| f64::from(i) * step)
            .map(|at| (at, short(at)))
            .collect();
        Self {
            label: label.to_owned(),
            log: false,
            min: 0.0,
            max: steps * step,
            ticks,
        }
    }

    /// [`linear`](Self::linear) for what there is no half of.
    pub(super) fn counts(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let mut axis = Self::linear(label, values);
        axis.ticks.retain(|(at, _)| at.fract() == 0.0);
        axis
    }

    /// By powers of ten (with 2 and 5 between where there are few); values that are not above zero have no place on it.
    pub(super) fn log(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::MAX, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high {
            (1.0, 10.0)
        } else {
            (low * 0.94, high * 1.06)
        };
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let parts: &[f64] = match high / low {
            few if few < 8.0 => &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
            some if some < 2000.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let ticks: Vec<(f64, String)> = (first..=last)
            .flat_map(|power| parts.iter().map(move |part| part * 10_f64.powi(power)))
            .filter(|at| (low..=high).contains(at))
            .map(|at| (at, short(at)))
            .collect();
        Self {
            label: label.to_owned(),
            log: true,
            min: low,
            max: high,
            ticks,
        }
    }

    /// Percentiles, ever finer towards 100: by 1/(1-p).
    pub(super) fn percentiles(label: &str, top: f64) -> Self {
        let names = [
            (0.0, "0 %"),
            (50.0, "50 %"),
            (90.0, "90 %"),
            (99.0, "99 %"),
            (99.9, "99.9 %"),
            (99.99, "99.99 %"),
            (99.999, "99.999 %"),
        ];
        let ticks = names.map(|(at, name)| (rarity(at), name.to_owned()));
        Self {
            label: label.to_owned(),
            log: true,
            min: 1.0,
            max: rarity(top.clamp(90.0, 99.999)),
            ticks: ticks.to_vec(),
        }
    }

    /// The share of the way, 0 to 1, at which a value stands; `None` outside of the axis.
    fn place(&self, value: f64) -> Option<f64> {
        let of = |value: f64| if self.log { value.ln() } else { value };
        if self.log && value <= 0.0 {
            return None;
        }
        let share = (of(value) - of(self.min)) / (of(self.max) - of(self.min));
        (share.is_finite() && (-0.001..=1.001).contains(&share)).then_some(share)
    }
}

/// Place of a percentile on [`Axis::percentiles`].
pub(super) fn rarity(percentile: f64) -> f64 {
    1.0 / (1.0 - (percentile / 100.0).min(0.99999))
}

fn round_step(about: f64) -> f64 {
    let power = 10_f64.powf(about.log10().floor());
    let part = about / power;
    power
        * [1.0, 2.0, 2.5, 5.0]
            .into_iter()
            .find(|step| part <= *step)
            .unwrap_or(10.0)
}

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Points have marks; without, it is a computed curve.
    pub(super) marked: bool,
    /// Which of the [`STYLES`].
    pub(super) style: usize,
}

/// What every drawing says in words.
#[derive(Clone, Debug)]
pub(super) struct Words<'w> {
    /// Unique on the page; letters, digits, hyphens.
    pub(super) id: &'w str,
    pub(super) title: &'w str,
    /// What is to be seen, for who does not see it.
    pub(super) description: &'w str,
}

fn open(words: &Words<'_>, height: f64) -> String {
    let Words { id, title, description } = words;
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>\n",
        escape(title),
        escape(description)
    )
}

/// A chart of lines.
pub(super) fn lines(words: &Words<'_>, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let rows = series.len().div_ceil(3) as f64;
    let height = HEIGHT + rows * 20.0;
    let mut out = open(words, height);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let across = |value: f64| x.place(value).map(|share| LEFT + share * (right - LEFT));
    let up = |value: f64| y.place(value).map(|share| bottom - share * (bottom - TOP));
    for (at, name) in &x.ticks {
        if let Some(px) = across(*at) {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                bottom + 18.0
            );
        }
    }
    for (at, name) in &y.ticks {
        if let Some(py) = up(*at) {
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{py:.1}\" y2=\"{py:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 8.0,
                py + 4.0
            );
        }
    }
    let _ = writeln!(
        out,
        "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + right) / 2.0,
        bottom + 42.0,
        escape(&x.label),
        (TOP + bottom) / 2.0,
        escape(&y.label)
    );
    for (index, one) in series.iter().enumerate() {
        let style = one.style % STYLES;
        let placed: Vec<(f64, f64)> = one
            .points
            .iter()
            .filter_map(|&(at, value)| Some((across(at)?, up(value)?)))
            .collect();
        if placed.len() > 1 {
            let path: Vec<String> = placed.iter().map(|(px, py)| format!("{px:.1} {py:.1}")).collect();
            let curve = if one.marked { "" } else { " curve" };
            let _ = writeln!(out, "<path class=\"line s{style}{curve}\" d=\"M{}\"/>", path.join("L"));
        }
        if one.marked {
            for (px, py) in placed {
                out.push_str(&mark(px, py, style));
            }
        }
        let (kx, ky) = (
            LEFT + (index % 3) as f64 * 225.0,
            HEIGHT + 8.0 + (index / 3) as f64 * 20.0,
        );
        let curve = if one.marked { "" } else { " curve" };
        let _ = writeln!(
            out,
            "<path class=\"line s{style}{curve}\" d=\"M{kx} {ky}h26\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            kx + 32.0,
            ky + 4.0,
            escape(&one.name)
        );
        if one.marked {
            out.push_str(&mark(kx + 13.0, ky, style));
        }
    }
    out.push_str("</svg>");
    out
}

/// A mark of a series; each style has a form of its own.
fn mark(x: f64, y: f64, style: usize) -> String {
    let form = match style {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\""),
        1 => format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"",
            x - 3.5,
            y - 3.5
        ),
        2 => format!("<path d=\"M{x:.1} {:.1}l4.2 7.4h-8.4z\"", y - 4.6),
        3 => format!("<path d=\"M{x:.1} {:.1}l4.6 4.6l-4.6 4.6l-4.6-4.6z\"", y - 4.6),
        4 => format!("<path d=\"M{x:.1} {:.1}l4.2-7.4h-8.4z\"", y + 4.6),
        _ => format!("<ellipse cx=\"{x:.1}\" cy=\"{y:.1}\" rx=\"5\" ry=\"2.5\""),
    };
    format!("{form} class=\"mark m{style}\"/>\n")
}

/// A bar with an interval.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    /// Stacked, from zero (or from one, for ratios): value and style.
    pub(super) parts: Vec<(f64, usize)>,
    /// Ends of the whisker.
    pub(super) interval: Option<(f64, f64)>,
    /// Written at its end.
    pub(super) text: String,
}

/// Height of a row of bars, the width of their names, and room for the text at their ends.
const ROW: f64 = 30.0;
const NAMES: f64 = 190.0;
const ENDS: f64 = 150.0;

/// Horizontal bars. On a logarithmic axis they begin at 1, which is a ratio's middle; `band` is where a ratio says
/// nothing.
pub(super) fn bars(
    words: &Words<'_>,
    x: &Axis,
    bars: &[Bar],
    band: Option<(f64, f64)>,
    key: &[(&str, usize)],
) -> String {
    let bottom = TOP + bars.len() as f64 * ROW;
    let height = bottom + BOTTOM + if key.is_empty() { 0.0 } else { 20.0 };
    let mut out = open(words, height);
    let right = WIDTH - ENDS;
    let across = |value: f64| {
        let inside = value.clamp(x.min, x.max);
        NAMES + x.place(inside).unwrap_or(0.0) * (right - NAMES)
    };
    if let Some((low, high)) = band {
        let (from, to) = (across(low), across(high));
        let _ = writeln!(
            out,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            (to - from).max(1.0),
            bottom - TOP
        );
    }
    for (at, name) in &x.ticks {
        if x.place(*at).is_some() {
            let px = across(*at);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                bottom + 18.0
            );
        }
    }
    let origin = if x.log { 1.0 } else { 0.0 };
    let base = across(origin);
    for (index, bar) in bars.iter().enumerate() {
        let top = TOP + index as f64 * ROW + 6.0;
        let middle = top + 9.0;
        let mut from = origin;
        let mut end = base;
        for (value, style) in &bar.parts {
            let to = if x.log { *value } else { from + value };
            let (a, b) = (across(from), across(to));
            let _ = writeln!(
                out,
                "<rect class=\"bar m{}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"18\"/>",
                style % STYLES,
                a.min(b),
                (a - b).abs().max(1.0)
            );
            from = to;
            end = end.max(b);
        }
        if let Some((low, high)) = bar.interval {
            let (a, b) = (across(low), across(high));
            let _ = writeln!(
                out,
                "<path class=\"whisker\" d=\"M{a:.1} {middle:.1}H{b:.1}M{a:.1} {:.1}v10M{b:.1} {:.1}v10\"/>",
                middle - 5.0,
                middle - 5.0
            );
            end = end.max(b);
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 10.0,
            middle + 4.0,
            escape(&bar.name),
            end + 8.0,
            middle + 4.0,
            escape(&bar.text)
        );
    }
    let _ = writeln!(
        out,
        "<line class=\"axis\" x1=\"{base:.1}\" x2=\"{base:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (NAMES + right) / 2.0,
        bottom + 42.0,
        escape(&x.label)
    );
    for (index, (name, style)) in key.iter().enumerate() {
        let kx = NAMES + index as f64 * 200.0;
        let _ = writeln!(
            out,
            "<rect class=\"bar m{style}\" x=\"{kx}\" y=\"{:.1}\" width=\"14\" height=\"12\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 54.0,
            kx + 20.0,
            bottom + 64.0,
            escape(name)
        );
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1234567.0, "1,234,567"),
            (1.0, "1.00"),
            (0.012345, "0.0123"),
            (99.94, "99.9"),
            (-1500.4, "-1,500"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn axes_hold_their_values() {
        let axis = Axis::linear("x", [3.0, 470.0].into_iter());
        assert_eq!((axis.min, axis.max), (0.0, 500.0));
        assert_eq!(axis.place(250.0), Some(0.5));
        assert_eq!(axis.place(501.0), None);
        let axis = Axis::log("x", [0.0, 10.0, 1000.0].into_iter());
        assert!((axis.place(100.0).unwrap() - 0.5).abs() < 0.01);
        assert_eq!(axis.place(0.0), None);
        // No value at all is an axis still.
        assert!(Axis::log("x", std::iter::empty()).place(2.0).is_some());
        assert!(Axis::linear("x", std::iter::empty()).place(0.0).is_some());
        let axis = Axis::percentiles("p", 99.99);
        assert!(axis.place(rarity(0.0)).unwrap().abs() < 1e-9);
        assert!((axis.place(rarity(99.0)).unwrap() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn drawings_say_what_they_show_and_leave_out_what_has_no_place() {
        let words = Words {
            id: "a",
            title: "T <1>",
            description: "D & d",
        };
        let axis = Axis::linear("x", [10.0].into_iter());
        let series = Series {
            name: "one".into(),
            points: vec![(1.0, 1.0), (5.0, f64::NAN), (9.0, 9.0)],
            marked: true,
            style: 0,
        };
        let svg = lines(&words, &axis, &axis, &[series]);
        assert!(svg.contains("<title id=\"a-t\">T &lt;1&gt;</title>") && svg.contains("D &amp; d"));
        // Two points and the key's.
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN"));
        let bar = Bar {
            name: "axum".into(),
            parts: vec![(2.0, 1)],
            interval: Some((1.8, 400.0)),
            text: "2.00".into(),
        };
        let svg = bars(
            &words,
            &Axis::log("ratio", [0.5, 4.0].into_iter()),
            &[bar],
            Some((0.95, 1.05)),
            &[("k", 1)],
        );
        assert!(svg.contains("class=\"whisker\"") && svg.contains("class=\"band\"") && !svg.contains("NaN"));
    }
}
