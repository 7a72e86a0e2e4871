//! Families of metrics, of the `prometheus` crate's own messages.

use super::BOUNDS_NS;
use super::registry::Merged;
use super::{OTHER, STATUSES};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;

pub(super) type Workers = BTreeMap<u32, Merged>;

/// A counter family of cells, per worker, zeros left out.
pub(super) fn table(
    (name, help): (&str, &str),
    workers: &Workers,
    cells: impl Iterator<Item = (usize, Vec<LabelPair>)> + Clone,
) -> MetricFamily {
    let mut metrics = Vec::new();
    for worker in workers.values() {
        for (cell, mut labels) in cells.clone() {
            let count = get(worker, cell);
            if count > 0 {
                labels.push(worker_id(worker));
                metrics.push(counter(labels, count));
            }
        }
    }
    family(name, help, MetricType::COUNTER, metrics)
}

pub(super) fn get(worker: &Merged, at: usize) -> u64 {
    worker.cells.get(at).copied().unwrap_or_default()
}

pub(super) fn sum(workers: &Workers, cells: std::ops::Range<usize>) -> Vec<u64> {
    let total = |at| {
        workers
            .values()
            .fold(0u64, |total, worker| total.wrapping_add(get(worker, at)))
    };
    cells.map(total).collect()
}

pub(super) fn name(set: &[&'static str], at: usize) -> &'static str {
    set.get(at).copied().unwrap_or(OTHER)
}

pub(super) fn status(column: usize) -> String {
    STATUSES.get(column).map_or_else(|| OTHER.to_owned(), u16::to_string)
}

pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

pub(super) fn worker_id(worker: &Merged) -> LabelPair {
    label("worker_id", &worker.label)
}

pub(super) fn counter(labels: Vec<LabelPair>, count: u64) -> Metric {
    let mut value = Counter::default();
    // Exact up to 2^53: three thousand years at a million a second, two years of bytes at 1 Tbit/s.
    value.set_value(count as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(value);
    metric
}

pub(super) fn gauge(labels: Vec<LabelPair>, level: f64) -> Metric {
    let mut value = Gauge::default();
    value.set_value(level);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(value);
    metric
}

/// A histogram of times from its cells: a count per bucket, the one past the last bound, nanoseconds in all.
pub(super) fn histogram(labels: Vec<LabelPair>, cells: &[u64]) -> Metric {
    histogram_of(labels, &BOUNDS_NS.map(|bound_ns| bound_ns as f64 / 1e9), 1e9, cells)
}

/// A histogram from its cells: a count per bound, the one past the last, and the sum in units of which `scale` make one.
pub(super) fn histogram_of(labels: Vec<LabelPair>, bounds: &[f64], scale: f64, cells: &[u64]) -> Metric {
    let mut total = 0;
    let mut buckets = Vec::with_capacity(bounds.len());
    for (bound, count) in bounds.iter().zip(cells) {
        total += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(total);
        buckets.push(bucket);
    }
    // The count is that of the buckets, so that the two always agree, whatever a worker writes meanwhile.
    total += cells.get(bounds.len()).copied().unwrap_or_default();
    let mut value = Histogram::default();
    value.set_bucket(buckets);
    value.set_sample_count(total);
    value.set_sample_sum(cells.get(bounds.len() + 1).copied().unwrap_or_default() as f64 / scale);
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(value);
    metric
}
