//! The JSON report. Its shape is `bench/schema/run.schema.json`; a test holds the two together.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde::Serialize;

use crate::load::accounting::Accounts;
use crate::load::engine::{Job, Measured, Protocol};
use crate::load::profile::Segment;
use crate::load::report::{Percentiles, Report};
use crate::load::search::Search;
use crate::load::source::Source;
use crate::load::threshold::Judged;

/// Steps of the percentile curve for each halving of what is left: the default of HdrHistogram's own tools.
pub(super) const TICKS_PER_HALF: u32 = 5;

#[derive(Serialize)]
struct Tool {
    name: &'static str,
    version: &'static str,
    build: &'static str,
}

#[derive(Clone, Serialize)]
struct Host {
    cpu: String,
    cores: usize,
    kernel: String,
    load_average: Option<f64>,
}

impl Host {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Self {
            // Arm has no model name.
            cpu: field("model name")
                .or_else(|| field("CPU part"))
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().and_then(|t| t.parse().ok()),
        }
    }
}

#[derive(Serialize)]
struct TargetPart {
    url: String,
    address: String,
    protocol: &'static str,
    tls: bool,
}

#[derive(Serialize)]
struct RequestPart {
    name: String,
    weight: f64,
    method: String,
    path: String,
    sse: bool,
}

#[derive(Serialize)]
struct ScenarioPart {
    name: String,
    arrivals: &'static str,
    profile: Vec<Segment>,
    connections: u32,
    threads: u32,
    pipeline: u32,
    streams: u32,
    short_lived: bool,
    spawn_rate: Option<f64>,
    warmup_seconds: f64,
    duration_seconds: f64,
    in_flight_max: u64,
    seed: u64,
    driver: &'static str,
    requests: Vec<RequestPart>,
}

#[derive(Serialize)]
struct ClassPart {
    name: String,
    requests: u64,
    errors: u64,
    events: u64,
    latency_us: Percentiles,
    first_event_us: Option<Percentiles>,
}

#[derive(Serialize)]
pub(super) struct IntervalPart {
    pub(super) start_seconds: f64,
    pub(super) seconds: f64,
    pub(super) intended_rate: Option<f64>,
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) errors: u64,
    pub(super) in_flight: u64,
    pub(super) latency_us: Percentiles,
}

#[derive(Serialize)]
struct Point {
    percentile: f64,
    us: f64,
    count: u64,
}

#[derive(Serialize)]
struct HistogramPart {
    unit: &'static str,
    encoding: &'static str,
    data: String,
}

/// Whether the figures say something of the server, and how the program ends.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) sound: bool,
    pub(crate) exit_code: u8,
    pub(crate) reasons: Vec<String>,
}

/// What is known before a run.
pub(crate) struct Opening {
    started_at: String,
    host: Host,
    /// Where the requests go, as it was asked for.
    pub(crate) url: String,
    /// Of the scenario.
    pub(crate) name: String,
}

impl Opening {
    pub(crate) fn new(url: String, name: String) -> Self {
        let now = jiff::Timestamp::now();
        Self {
            started_at: now.round(jiff::Unit::Second).unwrap_or(now).to_string(),
            host: Host::read(),
            url,
            name,
        }
    }
}

/// The report.
#[derive(Serialize)]
pub(crate) struct Document {
    schema: &'static str,
    tool: Tool,
    pub(crate) command: Vec<String>,
    started_at: String,
    host: Host,
    target: TargetPart,
    scenario: ScenarioPart,
    #[serde(flatten)]
    pub(crate) report: Report,
    classes: Vec<ClassPart>,
    pub(super) intervals: Vec<IntervalPart>,
    spectrum: Vec<Point>,
    histogram: HistogramPart,
    pub(crate) server: Option<Accounts>,
    pub(crate) search: Option<Search>,
    pub(crate) thresholds: Vec<Judged>,
    pub(crate) verdict: Verdict,
}

impl Document {
    /// Of a run.
    ///
    /// # Errors
    /// The histogram cannot be written, which no histogram of ours is.
    pub(crate) fn new(opening: &Opening, job: &Job, measured: &Measured, report: Report) -> Result<Self, String> {
        let names = job.source.class_names();
        let classes = names
            .iter()
            .zip(&measured.classes)
            .map(|(name, class)| ClassPart {
                name: name.clone(),
                requests: class.latency.len(),
                errors: class.errors,
                events: class.events,
                latency_us: Percentiles::of(&class.latency),
                first_event_us: class.first_event.as_ref().map(Percentiles::of),
            })
            .collect();
        Ok(Self {
            schema: "roadtrip-bench/run/1",
            tool: Tool {
                name: "roadtrip-bench",
                version: env!("CARGO_PKG_VERSION"),
                build: if cfg!(debug_assertions) { "debug" } else { "optimised" },
            },
            command: std::env::args().collect(),
            started_at: opening.started_at.clone(),
            host: opening.host.clone(),
            target: TargetPart {
                url: opening.url.clone(),
                address: job.address.to_string(),
                protocol: match job.protocol {
                    Protocol::H1 => "http/1.1",
                    Protocol::H2 => "h2",
                },
                tls: job.tls.is_some(),
            },
            scenario: scenario(opening, job, measured),
            classes,
            intervals: intervals(job, measured),
            spectrum: spectrum(&report.latency),
            histogram: HistogramPart {
                unit: "ns",
                encoding: "hdr-v2-deflate-base64",
                data: encode(&report.latency)?,
            },
            report,
            server: None,
            search: None,
            thresholds: Vec::new(),
            verdict: Verdict {
                sound: true,
                exit_code: 0,
                reasons: Vec::new(),
            },
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.report.text(&self.target.url)];
        if self.classes.len() > 1 || self.classes.iter().any(|c| c.first_event_us.is_some()) {
            for class in &self.classes {
                lines.push(format!(
                    "{:<13} {} answers, {} errors; us {}",
                    class.name,
                    class.requests,
                    class.errors,
                    class.latency_us.row()
                ));
                if let Some(first) = &class.first_event_us {
                    lines.push(format!("  first event us {}; {} events", first.row(), class.events));
                }
            }
        }
        lines.extend(self.server.as_ref().map(Accounts::text));
        lines.extend(self.search.as_ref().map(Search::text));
        for judged in self.thresholds.iter().filter(|judged| judged.failed) {
            lines.push(format!("FAILED: {} (measured: {:.4})", judged.fail_if, judged.value));
        }
        lines.join("\n")
    }
}

fn scenario(opening: &Opening, job: &Job, measured: &Measured) -> ScenarioPart {
    let requests = match &job.source {
        Source::Mix(mix) => mix
            .classes()
            .iter()
            .map(|class| RequestPart {
                name: class.name.clone(),
                weight: class.weight,
                method: class.method.clone(),
                path: class.path.to_string(),
                sse: class.sse,
            })
            .collect(),
        Source::Series(..) => Vec::new(),
        Source::Replay(replay) => replay
            .classes()
            .iter()
            .zip(&measured.classes)
            .map(|(method, class)| RequestPart {
                name: method.clone(),
                weight: class.latency.len() as f64,
                method: method.clone(),
                path: "of the log".to_owned(),
                sse: false,
            })
            .collect(),
    };
    let (pipeline, streams) = match job.protocol {
        Protocol::H1 => (job.depth, 1),
        Protocol::H2 => (1, job.depth),
    };
    ScenarioPart {
        name: opening.name.clone(),
        arrivals: job.law.word(),
        profile: job.law.profile().map_or(Vec::new(), |p| p.segments().to_vec()),
        connections: job.connections,
        threads: job.threads,
        pipeline,
        streams,
        short_lived: job.short_lived,
        spawn_rate: job.spawn_rate,
        warmup_seconds: job.warmup_ns as f64 / 1e9,
        duration_seconds: job.duration_ns as f64 / 1e9,
        in_flight_max: job.in_flight_max,
        seed: job.seed,
        driver: measured.driver,
        requests,
    }
}

fn intervals(job: &Job, measured: &Measured) -> Vec<IntervalPart> {
    let length = job.interval_ns as f64 / 1e9;
    let all = job.duration_ns as f64 / 1e9;
    measured
        .intervals
        .iter()
        .map(|snapshot| {
            let start = snapshot.index as f64 * length;
            let seconds = length.min(all - start).max(1e-9);
            IntervalPart {
                start_seconds: start,
                seconds,
                intended_rate: job.law.profile().map(|p| p.mean_between(start, start + seconds)),
                requests: snapshot.latency.len(),
                requests_per_second: snapshot.latency.len() as f64 / seconds,
                errors: snapshot.errors,
                in_flight: snapshot.in_flight,
                latency_us: Percentiles::of(&snapshot.latency),
            }
        })
        .collect()
}

fn spectrum(h: &Histogram<u64>) -> Vec<Point> {
    let mut count = 0_u64;
    h.iter_quantiles(TICKS_PER_HALF)
        .map(|step| {
            count = count.saturating_add(step.count_since_last_iteration());
            Point {
                percentile: (step.quantile_iterated_to() * 100.0).clamp(0.0, 100.0),
                us: step.value_iterated_to() as f64 / 1000.0,
                count,
            }
        })
        .collect()
}

fn encode(h: &Histogram<u64>) -> Result<String, String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(h, &mut bytes)
        .map_err(|e| format!("cannot write the histogram: {e:?}"))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;

    #[test]
    fn the_histogram_comes_back_as_it_was() {
        let mut h = crate::load::tally::latency_histogram();
        (1..5000_u64).for_each(|i| h.saturating_record(i * i));
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(encode(&h).unwrap())
            .unwrap();
        let back: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(back, h);
        let points = spectrum(&h);
        assert_eq!(points.last().map(|p| p.count), Some(4999));
        assert!(
            points
                .windows(2)
                .all(|w| w[0].us <= w[1].us && w[0].percentile <= w[1].percentile)
        );
    }
}
