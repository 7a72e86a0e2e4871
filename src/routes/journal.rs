//! The journal of the process, as health tells of it.

use super::Worker;
use serde::Serialize;

/// Whether stories are kept though the database is away.
pub(super) fn takes_over(worker: &Worker) -> bool {
    let journal = worker.service.store().journal();
    journal.is_some_and(|journal| journal.takes_over())
}

/// Its figures.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    state: &'static str,
    records: u64,
    bytes: u64,
    capacity_bytes: u64,
    oldest_seconds: f64,
    kept: u64,
    replayed: u64,
    refused: u64,
    damaged_files: u64,
    unwanted: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The figures, and whether all is well; none where there is no journal.
pub(super) fn part(worker: &Worker, unix_ns: u64) -> Option<(Part, bool)> {
    let report = worker.service.store().journal()?.handle().report();
    let is_well = report.is_well();
    let age_ms = report
        .oldest_ms
        .map_or(0, |oldest| (unix_ns / 1_000_000).saturating_sub(oldest));
    let part = Part {
        state: report.state,
        records: report.records,
        bytes: report.bytes,
        capacity_bytes: report.bytes_max,
        oldest_seconds: age_ms as f64 / 1e3,
        kept: report.kept,
        replayed: report.replayed,
        refused: report.refused,
        damaged_files: report.set_aside,
        unwanted: report.unwanted,
        reason: report.reason,
    };
    Some((part, is_well))
}
