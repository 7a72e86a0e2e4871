//! Sections of comparisons with peers: ratios with their intervals, and the design's budgets.

use super::input::{Budget, Comparison, Mode, Run};
use super::page::{Block, Section, Table};
use super::svg::{self, Axis, Bar, Words, figure};

/// Budgets that runs of the load generator answer: rate, percentile, bound in milliseconds.
const RATE: f64 = 3000.0;
const P999_MS: f64 = 1.0;

/// The design's budgets, met or missed in plain words.
pub(super) fn budgets(sittings: &[&Comparison], runs: &[Run]) -> Section {
    let mut best: Vec<&Budget> = Vec::new();
    for budget in sittings.iter().flat_map(|sitting| &sitting.budgets) {
        // Each sitting has all budgets, and has measured some.
        match best.iter_mut().find(|known| known.what == budget.what) {
            Some(known) if known.outcome == "not measured" => *known = budget,
            Some(_) => {}
            None => best.push(budget),
        }
    }
    let mut rows: Vec<Vec<String>> = best
        .iter()
        .map(|budget| vec![budget.what.clone(), budget.outcome.clone(), budget.words.clone()])
        .collect();
    rows.push(at_the_guides_rate(runs));
    for (what, where_) in [
        (
            "cold start to ready, resident memory and wake-ups when idle",
            "README.md, Performance",
        ),
        (
            "no heap allocation for a cached story",
            "tests/allocations.rs, in each run of the tests",
        ),
    ] {
        rows.push(vec![
            what.to_owned(),
            "elsewhere".to_owned(),
            format!("measured by another way: {where_}"),
        ]);
    }
    let met = rows
        .iter()
        .filter(|row| row.get(1).is_some_and(|outcome| outcome.starts_with("met")))
        .count();
    let missed = rows
        .iter()
        .filter(|row| row.get(1).is_some_and(|outcome| outcome.starts_with("missed")))
        .count();
    let mut blocks = vec![Block::Text(format!(
        "{met} met, {missed} missed, {} not measured in the runs of this page. A ratio is a median of pairs measured in \
         turns; narrowly means that its interval reaches across the limit.",
        rows.len() - met - missed
    ))];
    blocks.push(Block::Table(Table {
        caption: "Budgets of the design, section 6".to_owned(),
        head: vec!["what", "outcome", "in words"],
        rows,
    }));
    Section {
        heading: "Budgets".to_owned(),
        blocks,
    }
}

/// p99.9 at 3000 requests a second on one CPU.
fn at_the_guides_rate(runs: &[Run]) -> Vec<String> {
    let what = format!("p99.9 at {RATE} requests a second, one worker");
    let fits = |run: &&Run| {
        run.mode == Mode::Open
            && run.workers() == Some(1)
            && run.rate.is_some_and(|rate| (rate / RATE - 1.0).abs() < 0.02)
    };
    let sound: Vec<f64> = runs
        .iter()
        .filter(fits)
        .filter(|run| run.is_sound())
        .map(|run| run.latency_us.p999 / 1000.0)
        .collect();
    let unsound = runs.iter().filter(fits).count() - sound.len();
    let (outcome, words) = match sound.iter().copied().reduce(f64::min) {
        None if unsound > 0 => (
            "not measured",
            format!(
                "{unsound} runs at this rate, in each of which the generator was the limit: below {P999_MS} ms is asked"
            ),
        ),
        None => (
            "not measured",
            format!("no run at this rate with one worker: below {P999_MS} ms is asked"),
        ),
        Some(_) => {
            let mut sorted = sound.clone();
            sorted.sort_by(f64::total_cmp);
            let median = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
            let outcome = if median < P999_MS { "met" } else { "missed" };
            let words = format!(
                "{outcome}: {} ms, where below {P999_MS} ms is asked; sound runs: {}",
                figure(median),
                sorted.len()
            );
            (outcome, words)
        }
    };
    vec![what, outcome.to_owned(), words]
}

/// Ratios to peers, a drawing a scenario.
pub(super) fn ratios(comparison: &Comparison, sitting: usize) -> Section {
    let settings = &comparison.settings;
    let machine = &comparison.machine;
    let mut blocks = vec![Block::Text(format!(
        "`{}` begun {}: {} against each peer on {} ({} CPUs, Linux {}), {} pairs of runs with {} connections{}. Bars are medians \
         of the pairs' ratios with the interval that holds the true median; right of 1 this service does more requests \
         with a second of CPU. In the grey band a ratio says nothing: the service against itself strays as far.",
        comparison.file,
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
    for scenario in ["live", "story"] {
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
                let ratio = &row.requests_per_cpu_second;
                Bar {
                    name: peer.name.clone(),
                    parts: vec![(ratio.median, if ratio.verdict == "slower" { 1 } else { 0 })],
                    interval: Some((ratio.low, ratio.high)),
                    text: format!("{:.2}x, {}", ratio.median, ratio.verdict),
                }
            })
            .collect();
        let ends = rows
            .iter()
            .flat_map(|(_, row)| [row.requests_per_cpu_second.low, row.requests_per_cpu_second.high]);
        let x = Axis::log(
            "requests per CPU-second, this service over the peer",
            ends.chain([0.8, 1.25]),
        );
        let noise = comparison.noise.iter().find(|noise| noise.scenario == scenario);
        let band = noise
            .and_then(|noise| noise.requests_per_cpu_second)
            .map(|noise| (1.0 / (1.0 + noise), 1.0 + noise));
        let title = format!("Requests per CPU-second beside peers, {scenario}");
        let words = Words {
            id: &format!("peers-{sitting}-{scenario}"),
            title: &title,
            description: &rows
                .iter()
                .map(|(peer, row)| format!("{}: {:.2}", peer.name, row.requests_per_cpu_second.median))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let table_rows = rows.iter().map(|(peer, row)| {
            let ratio = &row.requests_per_cpu_second;
            vec![
                peer.name.clone(),
                format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high),
                ratio.verdict.clone(),
                figure(row.a.cpu_us_per_request),
                figure(row.b.cpu_us_per_request),
                format!("{:.2}, {}", row.p99.median, row.p99.verdict),
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

fn peers(comparison: &Comparison) -> Table {
    let rows = comparison.peers.iter().map(|peer| {
        let idle = peer.idle.as_ref().map_or("-".to_owned(), |idle| {
            format!("{} and {}", figure(idle.a_median), figure(idle.b_median))
        });
        let state = peer
            .reason
            .as_ref()
            .map_or(peer.state.clone(), |reason| format!("{}: {reason}", peer.state));
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
