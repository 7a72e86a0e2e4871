//! Sections of suites, and of what clients lost while a server lived through something.

use super::input::{Inputs, Kept};
use super::page::{Block, Section, Table};
use crate::{life, suite};

/// The suites that are shown, a table each.
pub(super) fn suites(inputs: &Inputs) -> Option<Section> {
    let shown = inputs.suite()?;
    let (report, machine) = (&shown.report, &shown.report.machine);
    let mut blocks = vec![Block::Text(format!(
        "`{}` begun {}: {} on {} ({} CPUs, Linux {}), {} worker(s), {} s a step{}{}. Load average before: {}. A step that is not sound \
         says nothing of the server: the generator was its limit. `>=`: the server may do more.",
        shown.file,
        report.begun,
        report.version.ours,
        machine.cpu,
        machine.cpus,
        machine.kernel,
        report.settings.workers,
        report.settings.seconds,
        if report.settings.quick { ", quick" } else { "" },
        report.settings.share_in_words(),
        machine.load_before,
    ))];
    blocks.extend(report.note.as_ref().map(|note| Block::Text(note.clone())));
    blocks.extend(report.cautions.iter().map(|caution| Block::Caution(caution.clone())));
    for suite in &report.suites {
        blocks.push(Block::Table(Table {
            caption: format!("{}: {}. {}", suite.name, suite.state.word(), suite.what),
            head: vec![
                "step",
                "outcome",
                "asked/s",
                "answered/s",
                "p50 us",
                "p99 us",
                "p99.9 us",
                "errors",
                "CPU us/request",
                "CPUs",
                "more",
            ],
            rows: suite.steps.iter().map(suite::row).collect(),
        }));
        let reasons = suite.steps.iter().filter(|step| !step.reasons.is_empty());
        blocks.extend(reasons.map(|step| {
            Block::Caution(format!(
                "{}, {}, {}: {}",
                suite.name,
                step.name,
                step.state.word(),
                step.reasons.join("; ")
            ))
        }));
    }
    blocks.push(Block::Text(format!("Command: `{}`", report.command)));
    Some(Section {
        heading: "Suites".to_owned(),
        blocks,
    })
}

/// The latest table of runs, and the latest soak, which may be of another file.
pub(super) fn lives(inputs: &Inputs) -> Vec<Section> {
    let with_rows = inputs.lives.iter().rev().find(|one| !one.report.rows.is_empty());
    let with_soak = inputs.lives.iter().rev().find(|one| one.report.soak.is_some());
    with_rows
        .map(runs)
        .into_iter()
        .chain(with_soak.and_then(soak))
        .collect()
}

fn opening(kept: &Kept<life::Report>) -> Block {
    let report = &kept.report;
    Block::Text(format!(
        "`{}` of {}: {} on {} x {}, Linux {}; {} requests a second were due all the time. Command: `{}`",
        kept.file, report.began, report.version, report.cpus, report.cpu, report.kernel, report.rate, report.command
    ))
}

fn runs(kept: &Kept<life::Report>) -> Section {
    let report = &kept.report;
    let rows = report.rows.iter().map(|row| {
        let mut cells = vec![row.what.clone(), row.driver.clone()];
        cells.extend(
            [
                row.offered,
                row.answered,
                row.failed,
                row.lost_with_worker,
                row.refused,
                row.longest_gap_ms,
                row.longest_wait_ms,
            ]
            .map(|count| count.to_string()),
        );
        cells.push(
            row.fault()
                .map_or("as it must be".to_owned(), |fault| format!("FAULT: {fault}")),
        );
        cells
    });
    let mut blocks = vec![
        opening(kept),
        Block::Table(Table {
            caption: "Requests by what became of them; times in milliseconds, from when a request was due".to_owned(),
            head: vec![
                "what happened",
                "driver",
                "offered",
                "answered",
                "failed",
                "lost with a worker",
                "503",
                "longest gap",
                "longest wait",
                "outcome",
            ],
            rows: rows.collect(),
        }),
    ];
    let named = |word: &str, (name, why): (&String, &String)| Block::Caution(format!("{word}: {name}: {why}"));
    blocks.extend(report.skipped.iter().map(|one| named("Skipped", one)));
    blocks.extend(report.broken.iter().map(|one| named("Came to nothing", one)));
    Section {
        heading: "What clients lose while it is signalled, upgraded and broken".to_owned(),
        blocks,
    }
}

fn soak(kept: &Kept<life::Report>) -> Option<Section> {
    let soak = kept.report.soak.as_ref()?;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let words = format!(
        "{:.0} s on {}, {} SIGHUPs meanwhile: {} offered, {} answered, {} failed, longest gap {} ms. Growth is that of the line of least \
         squares through {} looks behind a warm-up of {:.0} s. {}",
        soak.row.seconds,
        soak.row.driver,
        soak.hups,
        soak.row.offered,
        soak.row.answered,
        soak.row.failed,
        soak.row.longest_gap_ms,
        soak.looks,
        soak.warm_seconds,
        if soak.is_flat { "Flat." } else { "Not flat." }
    );
    let table = Table {
        caption: "Memory and descriptors".to_owned(),
        head: vec!["what", "mean", "growth over the time", "tolerance"],
        rows: vec![
            vec![
                "resident memory, MiB".to_owned(),
                format!(
                    "{:.1} ({:.1} to {:.1})",
                    mib(soak.rss_mean),
                    mib(soak.rss_least as f64),
                    mib(soak.rss_most as f64)
                ),
                format!("{:+.2}", mib(soak.rss_growth)),
                format!("{:.2}", mib(soak.rss_tolerance)),
            ],
            vec![
                "descriptors".to_owned(),
                format!("{:.1}", soak.descriptors_mean),
                format!("{:+.2}", soak.descriptors_growth),
                format!("{:.0}", soak.descriptors_tolerance),
            ],
        ],
    };
    Some(Section {
        heading: "Soak".to_owned(),
        blocks: vec![opening(kept), Block::Text(words), Block::Table(table)],
    })
}
