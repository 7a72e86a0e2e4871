//! Sections of comparisons with peers: ratios with their intervals.

use super::input::Comparison;
use super::page::{Block, Section, Table};
use super::svg::{self, Axis, Bar, Words, figure};
use crate::compare::{Report, Scenario, State};
use crate::stats::Verdict;

/// Ratios to peers, a drawing a scenario.
pub(super) fn ratios(comparison: &Comparison, sitting: usize) -> Section {
    let file = &comparison.file;
    let comparison = &comparison.report;
    let settings = &comparison.settings;
    let machine = &comparison.machine;
    let mut blocks = vec![Block::Text(format!(
        "`{}` begun {}: {} against each peer on {} ({} CPUs, Linux {}), {} pairs of runs with {} connections{}. Bars are medians \
         of the pairs' ratios with the interval that holds the true median; right of 1 this service does more requests \
         with a second of CPU. In the grey band a ratio says nothing: the service against itself strays as far.",
        file,
        comparison.begun,
        comparison.version.ours,
        machine.cpu,
        machine.cpus,
        machine.kernel,
        settings.pairs,
        settings.connections,
        if settings.quick { ", quick builds" } else { "" },
    ))];
    blocks.extend(comparison.note.as_ref().map(|note| Block::Text(note.clone())));
    for scenario in Scenario::ALL {
        let name = scenario.name();
        let rows: Vec<_> = comparison
            .peers
            .iter()
            .flat_map(|peer| {
                peer.rows
                    .iter()
                    .filter(|row| row.scenario == scenario)
                    .map(move |row| (peer, row))
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let bars: Vec<Bar> = rows
            .iter()
            .map(|(peer, row)| {
                let ratio = &row.requests_per_cpu_second.interval;
                Bar {
                    name: peer.name.clone(),
                    parts: vec![(
                        ratio.median,
                        if row.requests_per_cpu_second.verdict == Verdict::Slower {
                            1
                        } else {
                            0
                        },
                    )],
                    interval: Some((ratio.low, ratio.high)),
                    text: format!("{:.2}x, {}", ratio.median, row.requests_per_cpu_second.verdict.words()),
                }
            })
            .collect();
        let ends = rows.iter().flat_map(|(_, row)| {
            [
                row.requests_per_cpu_second.interval.low,
                row.requests_per_cpu_second.interval.high,
            ]
        });
        let x = Axis::log(
            "requests per CPU-second, this service over the peer",
            ends.chain([0.8, 1.25]),
        );
        let noise = comparison.noise.iter().find(|noise| noise.scenario == scenario);
        let band = noise
            .and_then(|noise| noise.requests_per_cpu_second)
            .map(|noise| (1.0 / (1.0 + noise), 1.0 + noise));
        let title = format!("Requests per CPU-second beside peers, {name}");
        let words = Words {
            id: &format!("peers-{sitting}-{name}"),
            title: &title,
            description: &rows
                .iter()
                .map(|(peer, row)| format!("{}: {:.2}", peer.name, row.requests_per_cpu_second.interval.median))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let table_rows = rows.iter().map(|(peer, row)| {
            let ratio = &row.requests_per_cpu_second.interval;
            vec![
                peer.name.clone(),
                format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high),
                row.requests_per_cpu_second.verdict.words().to_owned(),
                figure(row.a.cpu_us_per_request),
                figure(row.b.cpu_us_per_request),
                format!("{:.2}, {}", row.p99.interval.median, row.p99.verdict.words()),
                row.errors.to_string(),
            ]
        });
        blocks.push(Block::Figure {
            svg: svg::bars(&words, &x, &bars, band, &[]),
            caption: format!("{title}. Logarithmic."),
            table: Table {
                caption: "Ratios: this service over the peer. CPU in microseconds a request".to_owned(),
                head: vec![
                    "peer",
                    "requests per CPU-second",
                    "verdict",
                    "CPU, ours",
                    "CPU, peer",
                    "p99",
                    "errors",
                ],
                rows: table_rows.collect(),
            },
        });
    }
    blocks.push(Block::Table(peers(comparison)));
    blocks.extend(
        comparison
            .cautions
            .iter()
            .map(|caution| Block::Caution(caution.clone())),
    );
    blocks.push(Block::Text(format!("Command: `{}`", comparison.command)));
    Section {
        heading: if sitting == 0 {
            "Beside peers".to_owned()
        } else {
            format!("Beside peers, {}", sitting.saturating_add(1))
        },
        blocks,
    }
}

fn peers(comparison: &Report) -> Table {
    let rows = comparison.peers.iter().map(|peer| {
        let idle = peer.idle.as_ref().map_or("-".to_owned(), |idle| {
            format!("{} and {}", figure(idle.a_median), figure(idle.b_median))
        });
        let state = match peer.state {
            State::Measured => "measured",
            State::Missing => "missing",
            State::Failed => "failed",
        };
        let state = peer
            .reason
            .as_ref()
            .map_or(state.to_owned(), |reason| format!("{state}: {reason}"));
        vec![
            peer.name.clone(),
            peer.version.clone().unwrap_or_else(|| "-".to_owned()),
            state,
            idle,
            peer.fairness.clone(),
        ]
    });
    Table {
        caption: "Who was measured, and what each does less or otherwise".to_owned(),
        head: vec![
            "peer",
            "version",
            "state",
            "bytes an idle connection, ours and the peer's",
            "fairness",
        ],
        rows: rows.collect(),
    }
}
