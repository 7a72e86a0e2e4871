//! Data sets: the values that templates draw, and how often each is drawn.

use std::path::Path;

use fastrand::Rng;
use serde::Deserialize;

/// Values in one set: some 100 MB of table for a Zipf law.
const VALUES_MAX: u64 = 10_000_000;

/// A `[data.NAME]` table of a scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// The values themselves.
    values: Option<Vec<String>>,
    /// A file with one value a line, beside the scenario file.
    file: Option<std::path::PathBuf>,
    /// The numbers from the first up to, and without, the second.
    range: Option<[u64; 2]>,
    /// Exponent of a Zipf law: the k-th value is drawn 1/k^zipf times as often as the first.
    zipf: Option<f64>,
    /// One after the other over all threads, from the first again after the last.
    #[serde(default)]
    in_turn: bool,
}

#[derive(Clone, Debug)]
enum Values {
    List(Vec<String>),
    Range { from: u64, count: u64 },
}

#[derive(Clone, Debug)]
enum Law {
    Uniform,
    Zipf(Zipf),
    InTurn,
}

/// Values with a law.
#[derive(Clone, Debug)]
pub(crate) struct DataSet {
    values: Values,
    law: Law,
}

impl DataSet {
    /// From its description; files are looked for in `folder`.
    ///
    /// # Errors
    /// A sentence: no values, two kinds of them, a file that cannot be read, a law that is none.
    pub(super) fn new(name: &str, description: Description, folder: &Path) -> Result<Self, String> {
        let values = match (description.values, description.file, description.range) {
            (Some(list), None, None) => Values::List(list),
            (None, Some(file), None) => {
                let path = folder.join(file);
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| format!("data set {name}: cannot read {}: {e}", path.display()))?;
                Values::List(
                    text.lines()
                        .filter(|l| !l.trim().is_empty())
                        .map(str::to_owned)
                        .collect(),
                )
            }
            (None, None, Some([from, to])) => Values::Range {
                from,
                count: to.saturating_sub(from),
            },
            _ => return Err(format!("data set {name} takes one of `values`, `file` and `range`")),
        };
        let count = match &values {
            Values::List(list) => list.len() as u64,
            Values::Range { count, .. } => *count,
        };
        if let Values::List(list) = &values
            && let Some(bad) = list.iter().find(|v| v.contains(['\r', '\n', '\0']))
        {
            return Err(format!("data set {name}: {bad:?} would break a request's lines"));
        }
        if count == 0 || count > VALUES_MAX {
            return Err(format!(
                "data set {name} has {count} values, and 1 to {VALUES_MAX} are taken"
            ));
        }
        let law = match (description.zipf, description.in_turn) {
            (Some(_), true) => return Err(format!("data set {name}: `zipf` or `in_turn`, not both")),
            (Some(s), false) if (0.0..=10.0).contains(&s) => Law::Zipf(Zipf::new(count, s)),
            (Some(s), false) => return Err(format!("data set {name}: zipf = {s} is not within 0 to 10")),
            (None, true) => Law::InTurn,
            (None, false) => Law::Uniform,
        };
        Ok(Self { values, law })
    }

    fn count(&self) -> u64 {
        match &self.values {
            Values::List(list) => list.len() as u64,
            Values::Range { count, .. } => *count,
        }
    }

    /// Draws the place of a value; `turn` is the request's number over all threads.
    pub(super) fn draw(&self, rng: &mut Rng, turn: u64) -> u64 {
        match &self.law {
            Law::Uniform => rng.u64(..self.count().max(1)),
            Law::Zipf(zipf) => zipf.draw(rng),
            Law::InTurn => turn % self.count().max(1),
        }
    }

    /// Gives the value at a place to `write`.
    pub(super) fn with<R>(&self, place: u64, write: impl FnOnce(&str) -> R) -> R {
        match &self.values {
            Values::List(list) => write(
                usize::try_from(place)
                    .ok()
                    .and_then(|place| list.get(place))
                    .map_or("", String::as_str),
            ),
            Values::Range { from, .. } => write(&from.saturating_add(place).to_string()),
        }
    }
}

/// Zipf's law over `0..n`: exact, by its table of cumulated shares.
#[derive(Clone, Debug)]
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    /// `count` values, exponent `s`; with 0 all are alike.
    fn new(count: u64, s: f64) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=count)
            .map(|rank| {
                sum += (rank as f64).powf(-s);
                sum
            })
            .collect();
        Self { cumulated }
    }

    /// A place, the most frequent first.
    fn draw(&self, rng: &mut Rng) -> u64 {
        let all = self.cumulated.last().copied().unwrap_or(0.0);
        let at = rng.f64() * all;
        let place = self.cumulated.partition_point(|&upto| upto <= at);
        place.min(self.cumulated.len().saturating_sub(1)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<DataSet, String> {
        DataSet::new("d", toml::from_str(text).unwrap(), Path::new("."))
    }

    #[test]
    fn zipf_draws_by_its_law() {
        // The share of rank k is 1/k^s over the sum. 200000 draws: each count within five standard deviations.
        for s in [0.0, 0.8, 1.0, 1.5] {
            let (count, draws) = (100_u64, 200_000_u32);
            let zipf = Zipf::new(count, s);
            let rng = &mut Rng::with_seed(7);
            let mut seen = vec![0_u32; count as usize];
            (0..draws).for_each(|_| seen[zipf.draw(rng) as usize] += 1);
            let sum: f64 = (1..=count).map(|k| (k as f64).powf(-s)).sum();
            for (place, &got) in seen.iter().enumerate() {
                let share = ((place + 1) as f64).powf(-s) / sum;
                let expected = share * f64::from(draws);
                let deviation = (expected * (1.0 - share)).sqrt();
                assert!(
                    (f64::from(got) - expected).abs() <= 5.0 * deviation + 1.0,
                    "s {s}, rank {}: {got} for {expected}",
                    place + 1
                );
            }
        }
        assert_eq!(Zipf::new(1, 1.0).draw(&mut Rng::with_seed(1)), 0);
    }

    #[test]
    fn sets_are_lists_files_and_ranges() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.txt"), "Oslo\n\nRome\n").unwrap();
        let rng = &mut Rng::with_seed(1);
        let file: Description = toml::from_str("file = 'p.txt'\nin_turn = true").unwrap();
        let file = DataSet::new("p", file, dir.path()).unwrap();
        let got: Vec<String> = (0..3).map(|t| file.with(file.draw(rng, t), str::to_owned)).collect();
        assert_eq!(got, ["Oslo", "Rome", "Oslo"]);
        let range = set("range = [10, 12]").unwrap();
        assert_eq!(range.with(1, str::to_owned), "11");
        assert!((0..100).all(|_| range.draw(rng, 0) < 2));
    }

    #[test]
    fn what_is_no_set_is_told() {
        for bad in [
            "",
            "values = []",
            "values = ['a']\nrange = [0, 1]",
            "range = [3, 3]",
            "range = [0, 99999999999]",
            "values = ['a']\nzipf = -1.0",
            "values = ['a']\nzipf = 1.0\nin_turn = true",
            "file = '/no/such/file'",
        ] {
            assert!(set(bad).is_err_and(|e| e.contains("data set d")), "{bad}");
        }
        assert!(toml::from_str::<Description>("value = ['a']").is_err());
    }
}
