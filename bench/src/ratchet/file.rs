//! The committed counts, and the verdict over new ones.
//!
//! One line a scenario, so that a change of the file reads as what it is. The file says which way of building its counts
//! are of; a count of another architecture is not compared.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What stands above the counts whenever the file is written.
const PREFACE: &str = "\
# What a hot request may cost. `bench/ratchet` counts [instructions] (user space, cachegrind, the image's static binary) and
# tests/allocations.rs counts [allocations] (heap, per request, once warm); both fail where a figure has grown.
#
# Where a change is worth its price, or makes a request cheaper:   bench/ratchet --accept
# and commit the difference, which is then the price that the change is reviewed with.
";

/// The architecture as Rust names it. Without AVX2 an x86-64 takes other ways through the same binary (JSON, searches), so
/// that is another one here.
fn here() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx2") {
        return "x86_64 without AVX2";
    }
    std::env::consts::ARCH
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ratchet {
    /// Growth up to this is noise, in per cent of the count.
    tolerance_percent: f64,
    /// Architecture of the counts, as [`here`] names it.
    architecture: String,
    /// Per request, by scenario.
    #[serde(default)]
    instructions: BTreeMap<String, u64>,
    /// Per request, by scenario of tests/allocations.rs. Only carried along here.
    #[serde(default)]
    allocations: BTreeMap<String, f64>,
}

/// What a count is beside the file's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "percent")]
pub(super) enum Verdict {
    /// Within the tolerance, either way.
    Same(f64),
    /// Cheaper than the tolerance: worth accepting, so that it stays so.
    Cheaper(f64),
    /// Dearer than the tolerance.
    Dearer(f64),
    /// The file has no count.
    Unknown,
    /// The file's counts are of another architecture.
    NotCompared,
}

impl Verdict {
    /// Whether a further count may say otherwise.
    pub(super) fn is_dearer(self) -> bool {
        matches!(self, Self::Dearer(_))
    }

    /// Whether CI is to stop at it.
    pub(super) fn is_failure(self) -> bool {
        matches!(self, Self::Dearer(_) | Self::Unknown)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(percent) => write!(f, "as on file ({percent:+.2} %)"),
            Self::Cheaper(percent) => write!(f, "CHEAPER by {:.2} %: accept it", percent.abs()),
            Self::Dearer(percent) => write!(f, "DEARER by {percent:.2} %"),
            Self::Unknown => f.write_str("NOT ON FILE"),
            Self::NotCompared => f.write_str("not compared: the file is of another architecture"),
        }
    }
}

impl Ratchet {
    /// Reads the file; one that is not there is an empty one.
    ///
    /// # Errors
    /// It cannot be read, or is no ratchet file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|e| format!("{} is no ratchet file: {e}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self {
                tolerance_percent: 2.0,
                architecture: here().to_owned(),
                instructions: BTreeMap::new(),
                allocations: BTreeMap::new(),
            }),
            Err(e) => Err(format!("cannot read {}: {e}", path.display())),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|e| format!("cannot write the counts: {e}"))?;
        std::fs::write(path, format!("{PREFACE}{text}")).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    pub(super) fn tolerance_percent(&self) -> f64 {
        self.tolerance_percent
    }

    /// The count on file.
    pub(super) fn allowed(&self, scenario: &str) -> Option<f64> {
        self.instructions.get(scenario).map(|&count| count as f64)
    }

    pub(super) fn judge(&self, scenario: &str, instructions: f64) -> Verdict {
        if self.architecture != here() {
            return Verdict::NotCompared;
        }
        let Some(allowed) = self.allowed(scenario).filter(|&allowed| allowed > 0.0) else {
            return Verdict::Unknown;
        };
        let percent = (instructions / allowed - 1.0) * 100.0;
        if percent > self.tolerance_percent {
            Verdict::Dearer(percent)
        } else if percent < -self.tolerance_percent {
            Verdict::Cheaper(percent)
        } else {
            Verdict::Same(percent)
        }
    }

    /// Takes a count as what is allowed from now on.
    pub(super) fn accept(&mut self, scenario: &str, instructions: f64) {
        if self.architecture != here() {
            // Counts of two architectures do not stand in one file.
            self.architecture = here().to_owned();
            self.instructions.clear();
        }
        self.instructions
            .insert(scenario.to_owned(), instructions.round() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratchet() -> Ratchet {
        let text = format!(
            "tolerance_percent = 2.0\narchitecture = \"{}\"\n[instructions]\nlive = 1000\n[allocations]\nlive = 0.0\n",
            here()
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn growth_fails_and_shrinking_is_told() {
        let ratchet = ratchet();
        assert!(matches!(ratchet.judge("live", 1019.0), Verdict::Same(_)));
        assert!(matches!(ratchet.judge("live", 981.0), Verdict::Same(_)));
        assert!(matches!(ratchet.judge("live", 970.0), Verdict::Cheaper(_)));
        assert!(ratchet.judge("live", 1021.0).is_failure());
        assert!(
            ratchet.judge("other", 1.0).is_failure(),
            "a scenario without a count is no pass"
        );
        let other = Ratchet {
            architecture: "another".into(),
            ..ratchet
        };
        assert_eq!(other.judge("live", 9999.0), Verdict::NotCompared);
    }

    #[test]
    fn what_is_accepted_is_read_again_and_the_rest_is_carried_along() {
        let folder = std::env::temp_dir().join(format!("roadtrip-ratchet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("ratchet.toml");
        let mut ratchet = ratchet();
        ratchet.accept("story", 2000.4);
        ratchet.write(&path).unwrap();
        let again = Ratchet::read(&path).unwrap();
        assert_eq!(again, ratchet);
        assert_eq!(
            (again.allowed("live"), again.allowed("story")),
            (Some(1000.0), Some(2000.0))
        );
        assert_eq!(again.allocations.get("live"), Some(&0.0));
        std::fs::write(&path, "nonsense").unwrap();
        assert!(Ratchet::read(&path).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(Ratchet::read(&path).unwrap().allowed("live"), None);
    }

    #[test]
    fn the_committed_file_has_a_count_for_every_scenario() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ratchet.toml");
        let ratchet = Ratchet::read(&path).unwrap();
        for scenario in super::super::scenario::all() {
            assert!(ratchet.allowed(scenario.name).is_some(), "{}", scenario.name);
        }
    }
}
