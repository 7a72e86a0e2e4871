//! Figures of the journal: of the process, so without a worker's label.

use super::families::{counter, family, gauge};
use crate::runtime::context;
use crate::store::journal::Handle;
use prometheus::proto::{MetricFamily, MetricType};

/// The families of a journal that is there.
pub(super) fn families(journal: &Handle) -> Vec<MetricFamily> {
    let report = journal.report();
    let unix_ms = if context::is_here() {
        context::unix_ns() / 1_000_000
    } else {
        0
    };
    let age_ms = report.oldest_ms.map_or(0, |oldest| unix_ms.saturating_sub(oldest));
    let level = |name, help, level: f64| family(name, help, MetricType::GAUGE, vec![gauge(Vec::new(), level)]);
    let count = |name, help, count| family(name, help, MetricType::COUNTER, vec![counter(Vec::new(), count)]);
    vec![
        level(
            "store_journal_records",
            "Stories in the journal that are not in PostgreSQL.",
            report.records as f64,
        ),
        level(
            "store_journal_bytes",
            "Bytes of the journal's files.",
            report.bytes as f64,
        ),
        level(
            "store_journal_capacity_bytes",
            "Bytes that the journal's files may have.",
            report.bytes_max as f64,
        ),
        level(
            "store_journal_oldest_seconds",
            "Age of the oldest story in the journal; 0 where it is empty.",
            age_ms as f64 / 1e3,
        ),
        level(
            "store_journal_taking",
            "1 while PostgreSQL is away and new stories go to the journal, else 0.",
            f64::from(u8::from(report.state == "keeping")),
        ),
        level(
            "store_journal_damaged_files",
            "Files of damage that were set aside in JOURNAL_DIR.",
            report.set_aside as f64,
        ),
        level(
            "store_journal_unwanted",
            "Stories of the journal that PostgreSQL will not have.",
            report.unwanted as f64,
        ),
        count("store_journal_kept_total", "Stories kept in the journal.", report.kept),
        count(
            "store_journal_replayed_total",
            "Stories of the journal put into PostgreSQL.",
            report.replayed,
        ),
        count(
            "store_journal_refused_total",
            "Stories refused because the journal was full.",
            report.refused,
        ),
    ]
}
