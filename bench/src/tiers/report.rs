//! Pairs of runs made into rows: medians of each side, and the ratio with its spread.

use serde::Serialize;

use super::side::Run;
use crate::cost::median;

/// Two runs, one after the other.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    pub(super) a: Run,
    pub(super) b: Run,
    /// Requests per CPU-second of A over those of B.
    pub(super) ratio: f64,
}

/// Medians of one side.
#[derive(Debug, Serialize)]
struct Side {
    requests_per_cpu_second: f64,
    cpu_us_per_request: f64,
    requests_per_second: f64,
    utilisation: f64,
    postgres_cpu_us_per_request: f64,
    redis_cpu_us_per_request: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_per_request_at_rate: f64,
}

impl Side {
    fn of(pairs: &[Pair], side: fn(&Pair) -> &Run) -> Self {
        let of = |figure: fn(&Run) -> f64| median(pairs.iter().map(|pair| figure(side(pair))));
        Self {
            requests_per_cpu_second: of(|run| run.requests_per_cpu_second),
            cpu_us_per_request: of(|run| run.cpu_us_per_request),
            requests_per_second: of(|run| run.requests_per_second),
            utilisation: of(|run| run.utilisation),
            postgres_cpu_us_per_request: of(|run| run.postgres_cpu_us_per_request),
            redis_cpu_us_per_request: of(|run| run.redis_cpu_us_per_request),
            p50_us: of(|run| run.p50_us),
            p99_us: of(|run| run.p99_us),
            cpu_us_per_request_at_rate: of(|run| run.cpu_us_per_request_at_rate),
        }
    }
}

/// One row of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    row: &'static str,
    rate: f64,
    a: Side,
    b: Side,
    /// Requests per CPU-second of A over those of B: the median of the pairs, and the least and the greatest.
    pub(super) ratio: f64,
    ratio_least: f64,
    ratio_greatest: f64,
    pub(super) errors: u64,
    pairs: Vec<Pair>,
}

impl Row {
    pub(super) fn new(row: &'static str, rate: f64, pairs: Vec<Pair>) -> Self {
        let ratios = || pairs.iter().map(|pair| pair.ratio);
        Self {
            row,
            rate,
            a: Side::of(&pairs, |pair| &pair.a),
            b: Side::of(&pairs, |pair| &pair.b),
            ratio: median(ratios()),
            ratio_least: ratios().fold(f64::INFINITY, f64::min),
            ratio_greatest: ratios().fold(0.0, f64::max),
            errors: pairs
                .iter()
                .map(|pair| pair.a.errors.saturating_add(pair.b.errors))
                .fold(0, u64::saturating_add),
            pairs,
        }
    }
}

impl Row {
    /// Why its figures are to be taken with care.
    pub(super) fn cautions(&self) -> Vec<String> {
        let row = self.row;
        let runs = || self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
        let mut found = Vec::new();
        if let Some(first) = runs().find_map(|run| run.first_error.as_deref()) {
            found.push(format!("{row}: {} errors, first: {first}", self.errors));
        }
        let late = runs().filter(|run| !run.generator_limits.is_empty()).count();
        if late > 0 {
            found.push(format!(
                "{row}: in {late} runs the generator missed its schedule, so p50 and p99 are its own"
            ));
        }
        found
    }
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) a: String,
    pub(super) b: String,
    pub(super) a_command: String,
    pub(super) b_command: String,
    pub(super) connections: u32,
    pub(super) seconds_per_load: f64,
    pub(super) stories: u32,
    pub(super) rows: Vec<Row>,
    /// Why the figures are to be taken with care; empty where there is no reason.
    pub(super) cautions: Vec<String>,
}

/// One line for a pair, as it is measured.
pub(super) fn line(pair: &Pair) -> String {
    let one = |run: &Run| {
        format!(
            "{:7.2} us {:6.0} req/s {:3.0} % p99 {:6.0} us",
            run.cpu_us_per_request,
            run.requests_per_second,
            run.utilisation * 100.0,
            run.p99_us
        )
    };
    format!("A {}   B {}   A/B {:.3}", one(&pair.a), one(&pair.b), pair.ratio)
}

/// The report for people.
pub(super) fn text(report: &Report) -> String {
    let mut lines = vec![
        format!(
            "A = {}, B = {}; {} connections, {} s a load, medians; the ratio is of requests per CPU-second",
            report.a, report.b, report.connections, report.seconds_per_load
        ),
        format!(
            "{:<6} {:>9} {:>9} {:>6} {:>13} | {:>7} {:>7} | {:>5} {:>15} | {:>13} {:>13} | {:>11} {:>11} | {:>11}",
            "row",
            "A r/cpu-s",
            "B r/cpu-s",
            "A/B",
            "spread",
            "A us",
            "B us",
            "rate",
            "us at rate A/B",
            "A p50/p99 us",
            "B p50/p99 us",
            "A pg/redis",
            "B pg/redis",
            "busy A/B"
        ),
    ];
    for row in &report.rows {
        let (a, b) = (&row.a, &row.b);
        lines.push(format!(
            "{:<6} {:>9.0} {:>9.0} {:>6.3} {:>13} | {:>7.2} {:>7.2} | {:>5.0} {:>15} | {:>13} {:>13} | {:>11} {:>11} | {:>11}",
            row.row,
            a.requests_per_cpu_second,
            b.requests_per_cpu_second,
            row.ratio,
            format!("{:.3} - {:.3}", row.ratio_least, row.ratio_greatest),
            a.cpu_us_per_request,
            b.cpu_us_per_request,
            row.rate,
            format!("{:.1}/{:.1}", a.cpu_us_per_request_at_rate, b.cpu_us_per_request_at_rate),
            format!("{:.0}/{:.0}", a.p50_us, a.p99_us),
            format!("{:.0}/{:.0}", b.p50_us, b.p99_us),
            format!("{:.1}/{:.1}", a.postgres_cpu_us_per_request, a.redis_cpu_us_per_request),
            format!("{:.1}/{:.1}", b.postgres_cpu_us_per_request, b.redis_cpu_us_per_request),
            format!("{:.0} %/{:.0} %", a.utilisation * 100.0, b.utilisation * 100.0),
        ));
    }
    lines.extend(report.cautions.iter().map(|caution| format!("CAUTION: {caution}")));
    lines.join("\n")
}
