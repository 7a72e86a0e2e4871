//! A strict reader of Prometheus' text format 0.0.4: what it does not know it refuses.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a series, sorted.
pub type LabelSet = BTreeMap<String, String>;

/// All series of one scrape.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Kind by family.
    pub kinds: BTreeMap<String, String>,
    /// Value by name and labels.
    pub samples: BTreeMap<(String, LabelSet), f64>,
}

impl Exposition {
    /// Reads a scrape; any fault of form is a panic that names the line.
    pub fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut exposition = Exposition::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert_eq!(name, family, "TYPE stands apart from HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(
                    exposition.kinds.insert(name.into(), kind.into()).is_none(),
                    "twice: {line}"
                );
            } else {
                let (name, labels, value) = sample(line);
                let base = match exposition.kinds.get(&family).map(String::as_str) {
                    Some("histogram") => ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|suffix| name.strip_suffix(suffix))
                        .unwrap_or_else(|| panic!("no part of a histogram: {line}")),
                    Some("counter") => {
                        assert!(
                            name.ends_with("_total") || name == "process_cpu_seconds_total",
                            "{line}"
                        );
                        assert!(value >= 0.0, "{line}");
                        &name
                    }
                    _ => &name,
                };
                assert_eq!(base, family, "a sample outside its family: {line}");
                assert!(
                    exposition.samples.insert((name, labels), value).is_none(),
                    "twice: {line}"
                );
            }
        }
        exposition.check_histograms();
        exposition
    }

    /// The sum of all series of a name whose labels include these.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|(_, value)| value).sum()
    }

    /// Series of a name whose labels include these.
    pub fn matching<'e>(
        &'e self,
        name: &'e str,
        labels: &'e [(&'e str, &'e str)],
    ) -> impl Iterator<Item = (&'e LabelSet, f64)> {
        self.samples
            .iter()
            .filter(move |((known, has), _)| {
                known == name
                    && labels
                        .iter()
                        .all(|(label, value)| has.get(*label).map(String::as_str) == Some(*value))
            })
            .map(|((_, labels), value)| (labels, *value))
    }

    /// The values of one label of a name.
    pub fn values(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.matching(name, &[])
            .map(|(labels, _)| labels[label].clone())
            .collect()
    }

    /// Buckets rise with their bounds, end in +Inf, and +Inf is the count.
    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut series: BTreeMap<LabelSet, Vec<(f64, f64)>> = BTreeMap::new();
            for (labels, value) in self.matching(&format!("{name}_bucket"), &[]) {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bucket has its bound");
                series
                    .entry(labels)
                    .or_default()
                    .push((bound.replace("+Inf", "inf").parse().unwrap(), value));
            }
            assert!(!series.is_empty(), "{name} has no series");
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                    "{name} is not cumulative: {buckets:?}"
                );
                let (bound, all) = buckets[buckets.len() - 1];
                assert!(bound.is_infinite(), "{name} has no +Inf");
                assert_eq!(self.samples.get(&(format!("{name}_count"), labels.clone())), Some(&all));
                assert!(self.samples[&(format!("{name}_sum"), labels)] >= 0.0);
            }
        }
    }
}

fn sample(line: &str) -> (String, LabelSet, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let name = &line[..end];
    let word = |text: &str| {
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    assert!(word(name), "{line}");
    let mut labels = LabelSet::new();
    let mut rest = &line[end..];
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(word(label), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let close = loop {
                match chars.next().expect(line) {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().expect(line).1 {
                        'n' => value.push('\n'),
                        c @ ('"' | '\\') => value.push(c),
                        c => panic!("\\{c} in {line}"),
                    },
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.into(), value).is_none(), "{line}");
            rest = &after[close + 1..];
            if let Some(after) = rest.strip_prefix(',') {
                rest = after;
            } else {
                rest = rest.strip_prefix('}').expect(line);
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').expect(line);
    assert!(!value.contains(' '), "{line}");
    (
        name.to_owned(),
        labels,
        value.parse().unwrap_or_else(|_| panic!("{line}")),
    )
}
