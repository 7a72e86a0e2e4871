//! Scenario files: what is asked, how often, with which data, and the load that goes with it.
//!
//! TOML; bench/README.md is the reference. What the file says of the load is a default that the command line overrides.

mod data;
mod mix;
mod template;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

pub(crate) use mix::{Class, Drawn, Expect, Mix, Think};
pub(crate) use template::Template;

use super::profile::Segment;
use crate::answer::Told;

/// Longest scenario, in requests: their numbers are 16 bits wide.
const REQUESTS_MAX: usize = 1000;

/// The load of a scenario file: defaults of the command line's flags of the same names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadDefaults {
    pub(crate) connections: Option<u32>,
    pub(crate) spawn_rate: Option<f64>,
    pub(crate) rate: Option<f64>,
    #[serde(default)]
    pub(crate) poisson: bool,
    pub(crate) duration: Option<f64>,
    pub(crate) warmup: Option<f64>,
    pub(crate) pipeline: Option<u32>,
    pub(crate) streams: Option<u32>,
    #[serde(default)]
    pub(crate) short_lived: bool,
    #[serde(default)]
    pub(crate) http2: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    load: LoadDefaults,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    think: Option<Think>,
    #[serde(default)]
    data: BTreeMap<String, data::Description>,
    #[serde(default)]
    profile: Vec<Segment>,
    #[serde(rename = "request")]
    requests: Vec<Request>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    name: Option<String>,
    #[serde(default = "one")]
    weight: f64,
    #[serde(default = "get")]
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// Statuses that are right; 2xx where none are named.
    #[serde(default)]
    status: Vec<u16>,
    cache_status: Option<Told>,
    #[serde(default)]
    sse: bool,
    think: Option<Think>,
}

fn one() -> f64 {
    1.0
}

fn get() -> String {
    "GET".to_owned()
}

/// A scenario, read.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) load: LoadDefaults,
    pub(crate) profile: Vec<Segment>,
    pub(crate) mix: Mix,
}

impl Scenario {
    /// Reads a file. `authority` is what the Host header says; `base` goes before each path; `short_lived` asks the server
    /// to close after each answer, where the file or the command line wants that.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong in it.
    pub(crate) fn read(path: &Path, authority: &str, base: &str, short_lived: bool) -> Result<Self, String> {
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("cannot read the scenario {}: {e}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder, authority, base, short_lived)
            .map_err(|e| format!("scenario {}: {e}", path.display()))
    }

    fn parse(text: &str, folder: &Path, authority: &str, base: &str, short_lived: bool) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        if file.requests.is_empty() || file.requests.len() > REQUESTS_MAX {
            return Err(format!("it takes 1 to {REQUESTS_MAX} [[request]] tables"));
        }
        let _ = file.description;
        let names: Vec<String> = file.data.keys().cloned().collect();
        let sets = file
            .data
            .into_iter()
            .map(|(name, description)| data::DataSet::new(&name, description, folder))
            .collect::<Result<Vec<_>, _>>()?;
        let mut mix = Mix::new(sets, authority, short_lived || file.load.short_lived);
        for request in file.requests {
            let template = |text: &str| Template::parse(text, &names);
            let mut headers = file.headers.clone();
            headers.extend(request.headers);
            let headers = headers
                .into_iter()
                .map(|(name, value)| Ok((name, template(&value)?)))
                .collect::<Result<Vec<_>, String>>()?;
            mix.add(Class {
                name: request
                    .name
                    .unwrap_or_else(|| format!("{} {}", request.method, request.path)),
                weight: request.weight,
                method: request.method,
                path: template(&format!("{base}{}", request.path))?,
                headers,
                body: request.body.as_deref().map(template).transpose()?,
                expect: Expect::of(request.status)?,
                told: request.cache_status,
                sse: request.sse,
                think: request.think.or(file.think),
            })?;
        }
        Ok(Self {
            name: file.name,
            load: file.load,
            profile: file.profile,
            mix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn parse(text: &str) -> Result<Scenario, String> {
        Scenario::parse(text, Path::new("."), "h:1", "", false)
    }

    #[test]
    fn the_scenarios_of_the_repository_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut found = 0;
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            if entry.path().extension().is_some_and(|e| e == "toml") {
                let scenario = Scenario::read(&entry.path(), "h", "", false).unwrap();
                assert_eq!(entry.path().file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
                let mut out = Vec::new();
                for turn in 0..100 {
                    scenario.mix.draw_h1(&mut Rng::with_seed(turn), turn, &mut out);
                }
                assert!(!String::from_utf8(out).unwrap().contains("{{"));
                found += 1;
            }
        }
        assert!(found >= 4, "{found} scenarios");
    }

    #[test]
    fn the_mix_is_drawn_by_its_weights() {
        let s = parse(
            "name = 'x'\n[[request]]\nname = 'a'\npath = '/a'\n[[request]]\nname = 'b'\nweight = 10\npath = '/b'\n\
             [[request]]\nname = 'c'\nweight = 0.5\npath = '/c'\n",
        )
        .unwrap();
        let rng = &mut Rng::with_seed(3);
        let (mut seen, draws) = ([0_u32; 3], 100_000_u32);
        for turn in 0..draws {
            let drawn = s.mix.draw_h1(rng, u64::from(turn), &mut Vec::new());
            seen[usize::from(drawn.class)] += 1;
        }
        for (got, weight) in seen.into_iter().zip([1.0, 10.0, 0.5]) {
            let share = weight / 11.5;
            let deviation = (f64::from(draws) * share * (1.0 - share)).sqrt();
            assert!(
                (f64::from(got) - share * f64::from(draws)).abs() < 5.0 * deviation,
                "{seen:?}"
            );
        }
    }

    #[test]
    fn a_request_carries_its_data_its_length_and_its_host() {
        let s = parse(
            "name = 'x'\nthink = [1.0, 3.0]\n[headers]\nX-All = 'yes'\n[data.p]\nvalues = ['S \"F\"']\n[[request]]\n\
             method = 'POST'\npath = '/s?q={{p|url}}'\nbody = '{\"l\":\"{{p|json}}\"}'\nheaders = {X-One = '{{p}}'}\nsse = true\n",
        )
        .unwrap();
        let mut out = Vec::new();
        let drawn = s.mix.draw_h1(&mut Rng::with_seed(1), 0, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("POST /s?q=S%20%22F%22 HTTP/1.1\r\nHost: h:1\r\n"),
            "{text}"
        );
        for part in [
            "X-All: yes\r\n",
            "X-One: S \"F\"\r\n",
            "accept: text/event-stream\r\n",
            "content-type: application/json\r\n",
            "content-length: 15\r\n\r\n{\"l\":\"S \\\"F\\\"\"}",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let (_, request, body) = s.mix.draw_h2(&mut Rng::with_seed(1), 0, "http").unwrap();
        assert_eq!(request.uri().to_string(), "http://h:1/s?q=S%20%22F%22");
        assert_eq!(request.headers()["x-all"], "yes");
        assert_eq!(body.len(), 15);
        assert!(
            drawn.sse
                && s.mix
                    .think(drawn.class, &mut Rng::with_seed(1))
                    .is_some_and(|t| (1.0..=3.0).contains(&t))
        );
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told() {
        for (bad, word) in [
            ("", "name"),
            ("name = 'x'", "request"),
            ("name = 'x'\nrequest = []", "1 to"),
            ("name = 'x'\n[[request]]\npath = '/{{p}}'", "no data set"),
            ("name = 'x'\n[[request]]\npath = '/'\nweigth = 1", "weigth"),
            ("name = 'x'\n[[request]]\npath = '/'\nweight = 0", "weight"),
            ("name = 'x'\n[[request]]\npath = 'nothing'", "path"),
            ("name = 'x'\n[[request]]\npath = '/a b'", "path"),
            ("name = 'x'\n[[request]]\npath = '/'\nmethod = 'GE T'", "method"),
            (
                "name = 'x'\n[[request]]\npath = '/'\nheaders = {A = \"x\\r\\ny\"}",
                "header",
            ),
            ("name = 'x'\n[[request]]\npath = '/'\nstatus = [99]", "status"),
            ("name = 'x'\nthink = -1.0\n[[request]]\npath = '/'", "think"),
        ] {
            let told = parse(bad).unwrap_err();
            assert!(told.contains(word), "{bad:?}: {told}");
        }
    }
}
