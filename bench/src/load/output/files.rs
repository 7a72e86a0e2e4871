//! Files for other tools: CSV, the percentile table of HdrHistogram (`.hgrm`), and interval logs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use super::document::{Document, TICKS_PER_HALF};
use crate::load::engine::{Job, Measured};

/// Writes a file whole.
///
/// # Errors
/// A sentence with its name.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// The time series, a line for each interval.
pub(crate) fn csv(document: &Document) -> String {
    let mut out = String::from(
        "start_seconds,seconds,intended_rate,requests,requests_per_second,errors,in_flight,\
         mean_us,p50_us,p90_us,p99_us,p999_us,p9999_us,max_us\n",
    );
    for i in &document.intervals {
        let l = &i.latency_us;
        let rate = i.intended_rate.map_or(String::new(), |r| format!("{r:.1}"));
        let _ = writeln!(
            out,
            "{:.3},{:.3},{rate},{},{:.1},{},{},{:.1},{:.1},{:.1},{:.1},{:.1},{:.1},{:.1}",
            i.start_seconds,
            i.seconds,
            i.requests,
            i.requests_per_second,
            i.errors,
            i.in_flight,
            l.mean,
            l.p50,
            l.p90,
            l.p99,
            l.p999,
            l.p9999,
            l.max
        );
    }
    out
}

/// The percentile table, in milliseconds, as `outputPercentileDistribution` of the Java original prints it: what the
/// plotter on hdrhistogram.github.io reads.
pub(crate) fn hgrm(h: &Histogram<u64>) -> String {
    const MS: f64 = 1e6;
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0_u64;
    for step in h.iter_quantiles(TICKS_PER_HALF) {
        count = count.saturating_add(step.count_since_last_iteration());
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to() as f64 / MS;
        if quantile < 1.0 {
            let _ = writeln!(
                out,
                "{value:12.3} {quantile:2.12} {count:10} {:14.2}",
                1.0 / (1.0 - quantile)
            );
        } else {
            let _ = writeln!(out, "{value:12.3} {quantile:2.12} {count:10}");
        }
    }
    let _ = writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]",
        h.mean() / MS,
        h.stdev() / MS,
        h.max() as f64 / MS,
        h.len(),
        h.buckets(),
        2048
    );
    out
}

/// An interval log (V2, deflated), a histogram of nanoseconds for each interval; its maxima are in milliseconds.
///
/// # Errors
/// None that a buffer has.
pub(crate) fn interval_log(job: &Job, measured: &Measured) -> Result<Vec<u8>, String> {
    let told = |e: &dyn std::fmt::Debug| format!("cannot write the interval log: {e:?}");
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let length = Duration::from_nanos(job.interval_ns);
    let measured_for = Duration::from_nanos(job.duration_ns);
    let start = SystemTime::now()
        .checked_sub(measured_for)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(concat!(
            "[Logged with roadtrip-bench ",
            env!("CARGO_PKG_VERSION"),
            "; values in ns]"
        ))
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(|e| told(&e))?;
    for snapshot in &measured.intervals {
        let place = u32::try_from(snapshot.index).unwrap_or(u32::MAX);
        let begins = length.saturating_mul(place);
        log.write_histogram(&snapshot.latency, begins, length, None)
            .map_err(|e| told(&e))?;
    }
    drop(log);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::latency_histogram;

    #[test]
    fn the_percentile_table_is_that_of_the_original() {
        let mut h = latency_histogram();
        (1..=1000_u64).for_each(|i| h.saturating_record(i * 1_000_000));
        let text = hgrm(&h);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0].split_ascii_whitespace().collect::<Vec<_>>(),
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        let fields: Vec<f64> = lines[2].split_ascii_whitespace().map(|f| f.parse().unwrap()).collect();
        assert_eq!(fields.len(), 4);
        let last = lines.iter().rfind(|l| !l.starts_with('#')).unwrap();
        let fields: Vec<f64> = last.split_ascii_whitespace().map(|f| f.parse().unwrap()).collect();
        assert!(fields.len() == 3 && fields[1] == 1.0 && fields[2] == 1000.0, "{last}");
        assert!((fields[0] - 1000.0).abs() < 1.0);
        assert!(text.contains("#[Mean    =") && text.contains("Total count    =         1000]"));
    }
}
