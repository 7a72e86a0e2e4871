//! The report for people, in Markdown.

use std::fmt::Write as _;

use super::Scenario;
use super::report::{PeerReport, Report, Row, State};
use crate::stats::Estimate;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    budgets(&mut out, report);
    for scenario in Scenario::ALL {
        table(&mut out, report, scenario);
    }
    idle(&mut out, report);
    absent(&mut out, report);
    how(&mut out, report);
    out.truncate(out.trim_end().len());
    out
}

fn head(out: &mut String, report: &Report) {
    let (m, s) = (&report.machine, &report.settings);
    let _ = writeln!(out, "# Comparison of {}\n", report.begun);
    if let Some(note) = &report.note {
        let _ = writeln!(out, "{note}\n");
    }
    let _ = writeln!(out, "| | |\n| --- | --- |");
    let commit = report.version.commit.as_deref().unwrap_or("not known");
    let memory = m.memory_bytes as f64 / f64::from(1 << 30);
    let cpus = match (s.server_cpu, s.load_cpu) {
        (Some(server), Some(load)) => format!("servers on CPU {server}, load on CPU {load}"),
        _ => "not pinned".to_owned(),
    };
    let share = match s.server_share {
        share if share < 1.0 => format!(", servers with {share} of a CPU in the closed loop (requests/s are of that)"),
        _ => String::new(),
    };
    let rows = [
        ("command", format!("`{}`", report.command)),
        ("service", format!("{}, commit {commit}", report.version.ours)),
        (
            "machine",
            format!("{}, {} CPUs, {memory:.1} GiB, Linux {}", m.cpu, m.cpus, m.kernel),
        ),
        (
            "load average",
            format!("{} before, {} after", m.load_before, m.load_after),
        ),
        (
            "runs",
            format!(
                "{} pairs, {} s closed loop and {} s at a fixed rate each, {} connections, {cpus}{share}; {:.0} s in all",
                s.pairs, s.seconds_closed, s.seconds_open, s.connections, report.seconds
            ),
        ),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    let _ = writeln!(out);
    for caution in &report.cautions {
        let _ = writeln!(out, "- Caution: {caution}.");
    }
    if !report.cautions.is_empty() {
        let _ = writeln!(out);
    }
}

fn budgets(out: &mut String, report: &Report) {
    let _ = writeln!(
        out,
        "## Budgets\n\n| budget | asked | measured | interval | the floor in its place | |\n| --- | --- | --- | --- | --- | --- |"
    );
    for budget in &report.budgets {
        let digits = if budget.scenario == "idle" { 0 } else { 2 };
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let sign = match budget.rule {
            super::budgets::Rule::AtLeast => ">=",
            super::budgets::Rule::AtMost => "<=",
        };
        let _ = writeln!(
            out,
            "| {} | {sign} {} | {} | {} to {} | {} | {} |",
            budget.what,
            budget.limit,
            number(budget.measured),
            number(budget.low),
            number(budget.high),
            number(budget.floor_reaches),
            budget.outcome.words()
        );
    }
    let _ = writeln!(out);
}

fn table(out: &mut String, report: &Report, scenario: Scenario) {
    let rows: Vec<(&PeerReport, &Row)> = report
        .peers
        .iter()
        .flat_map(|peer| peer.rows.iter().map(move |row| (peer, row)))
        .filter(|(_, row)| row.scenario == scenario)
        .collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "## {}\n", scenario.title());
    let _ = writeln!(
        out,
        "Service against peer. Requests per CPU-second: above 1 the service is better; p50, p99: below 1.\n\n\
         | peer | requests/CPU-s | | CPU us | requests/s | | p50 us | | p99 us | | answer bytes |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for (peer, row) in rows {
        let (a, b) = (&row.a, &row.b);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.2} / {:.2} | {:.0} / {:.0} ({:.0} / {:.0} % busy) | {} | {:.0} / {:.0} | {} | {:.0} / {:.0} | {} | {} / {} |",
            peer.name,
            ratio(&row.requests_per_cpu_second),
            row.requests_per_cpu_second.verdict.words(),
            a.cpu_us_per_request,
            b.cpu_us_per_request,
            a.requests_per_second,
            b.requests_per_second,
            a.utilisation * 100.0,
            b.utilisation * 100.0,
            row.requests_per_second.verdict.words(),
            a.p50_us,
            b.p50_us,
            row.p50.verdict.words(),
            a.p99_us,
            b.p99_us,
            row.p99.verdict.words(),
            row.a_answer_bytes,
            row.b_answer_bytes,
        );
    }
    if let Some(noise) = report.noise.iter().find(|noise| noise.scenario == scenario) {
        let share =
            |value: Option<f64>| value.map_or("not known".to_owned(), |value| format!("{:.1} %", value * 100.0));
        let _ = writeln!(
            out,
            "\nNoise floor, from the service against itself (row aa): requests/CPU-s {}, requests/s {}, p50 {}, p99 {}.\n",
            share(noise.requests_per_cpu_second),
            share(noise.requests_per_second),
            share(noise.p50),
            share(noise.p99)
        );
    } else {
        let _ = writeln!(out, "\nThere was no A/A run, so nothing is judged.\n");
    }
}

fn ratio(estimate: &Estimate) -> String {
    let i = &estimate.interval;
    format!("{:.3} ({:.3} to {:.3})", i.median, i.low, i.high)
}

fn idle(out: &mut String, report: &Report) {
    let peers: Vec<_> = report
        .peers
        .iter()
        .filter_map(|peer| peer.idle.as_ref().map(|idle| (peer, idle)))
        .collect();
    if peers.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## RSS of an idle connection\n\n| peer | service, bytes | peer, bytes | connections |\n| --- | --- | --- | --- |"
    );
    for (peer, idle) in peers {
        let _ = writeln!(
            out,
            "| {} | {:.0} | {:.0} | {} |",
            peer.name, idle.a_median, idle.b_median, idle.connections
        );
    }
    let _ = writeln!(out);
}

fn absent(out: &mut String, report: &Report) {
    let absent: Vec<_> = report
        .peers
        .iter()
        .filter(|peer| peer.state != State::Measured)
        .collect();
    if absent.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Not measured\n");
    for peer in absent {
        let word = if peer.state == State::Missing {
            "missing"
        } else {
            "failed"
        };
        let reason = peer.reason.as_deref().unwrap_or_default().replace('\n', "\n    ");
        let _ = writeln!(out, "- {} {word}: {reason}", peer.name);
    }
    let _ = writeln!(out);
}

fn how(out: &mut String, report: &Report) {
    let _ = writeln!(
        out,
        "## The peers\n\n| peer | what | version | otherwise than the service |\n| --- | --- | --- | --- |"
    );
    for peer in &report.peers {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            peer.name,
            peer.what,
            peer.version.as_deref().unwrap_or("-"),
            peer.fairness
        );
    }
    let coverage = report
        .peers
        .iter()
        .flat_map(|peer| &peer.rows)
        .map(|row| row.requests_per_cpu_second.interval.coverage)
        .next()
        .unwrap_or(0.0);
    let _ = writeln!(
        out,
        "\n## How to read it\n\nThe service (A) and a peer (B) are measured in turns, A B, B A, A B ..., each run in a new process, and \
         a ratio is that of the two runs of a pair. The ratio quoted is the median of the pairs; the interval \
         encloses the true median with a probability of {:.1} % (order statistics: no assumption of how runs are \
         spread). The noise floor is how far that interval reaches from 1 where the service is held against itself, and \
         a verdict is given only where the whole interval of a ratio lies beyond it. CPU time is the exact run time \
         (user and system) of all threads of the server; answers were checked to be alike before anything was \
         measured, and again at every start. p50 and p99 are counted from when a request was due.",
        coverage * 100.0
    );
}
