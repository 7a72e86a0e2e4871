//! `soak`: a mix at a constant rate for long, while the server's memory and descriptors are looked at each second.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::report::Step;
use super::stage::{Judge, Spec, Stage, beside, words};
use crate::life::{Sample, growth, look};

/// Requests a second.
const RATE: &str = "500";
/// Fewer seconds say nothing of growth: caches are still filling.
const JUDGED_SECONDS: f64 = 300.0;
/// A small cache is full early, so that one that fills is not taken for a leak.
const CACHE_BYTES: &str = "1M";
/// Growth behind the first half that is none: part of the mean, or bytes; and descriptors.
const RSS_PART: f64 = 0.02;
const RSS_BYTES: f64 = 2.0 * 1024.0 * 1024.0;
const DESCRIPTORS: f64 = 2.0;

pub(super) fn run(stage: &Stage) -> Result<Vec<Step>, String> {
    let running = stage.serve(&[("CACHE_BYTES", CACHE_BYTES)])?;
    let file = stage.workshop.root.join("bench/scenarios/zipf.toml");
    let all = words(&[
        "--url",
        &running.url(""),
        "--scenario",
        &file.display().to_string(),
        "-c",
        "32",
        "--rate",
        RATE,
    ]);
    let seconds = stage.soak_seconds;
    let what = format!("{RATE} requests a second of bench/scenarios/zipf.toml for {seconds:.0} s");
    let pid = running.server.pid;
    let begun = Instant::now();
    let (mut step, samples) = beside(
        |is_over| {
            let mut samples: Vec<Sample> = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                samples.extend(look(pid, begun));
                let next = Duration::from_secs(samples.len() as u64);
                // In short pieces, so that the end is not waited for.
                while begun.elapsed() < next && !is_over.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            samples
        },
        || {
            let spec = Spec {
                name: "mix",
                what: &what,
                words: all,
                fail_if: &["errors>0"],
                judge: Judge::Latency,
                seconds: Some((stage.warmup, seconds)),
            };
            stage.step("soak", &running, &spec)
        },
    )?;
    let behind: Vec<Sample> = samples
        .into_iter()
        .filter(|sample| sample.second >= seconds / 2.0)
        .collect();
    let (rss, rss_growth) = growth(&behind, |sample| sample.rss as f64);
    let (descriptors, more_descriptors) = growth(&behind, |sample| sample.descriptors as f64);
    for (name, value) in [
        ("rss_bytes", rss),
        ("rss_growth_bytes", rss_growth),
        ("descriptors", descriptors),
        ("descriptors_growth", more_descriptors),
    ] {
        step.figures.insert(name.to_owned(), value);
    }
    if seconds >= JUDGED_SECONDS {
        let tolerance = (rss * RSS_PART).max(RSS_BYTES);
        step.check("rss_growth_bytes>tolerance", rss_growth, rss_growth > tolerance);
        step.check("descriptors_growth>2", more_descriptors, more_descriptors > DESCRIPTORS);
    } else {
        step.reasons.push(format!(
            "{seconds:.0} s are too short to judge growth, which takes {JUDGED_SECONDS:.0} s"
        ));
    }
    Ok(vec![step])
}
