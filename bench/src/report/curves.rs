//! Sections of runs of the load generator: latency against throughput, percentiles, scaling, CPU a request.

use std::collections::BTreeMap;

use super::input::{Mode, Run};
use super::page::{Block, Section, Table};
use super::svg::{self, Axis, Bar, STYLES, Series, Words, figure};
use super::usl;

/// Curves in one drawing of percentiles; more cannot be told apart.
const SPECTRA_MAX: usize = STYLES;

/// A figure of a run.
type Figure = fn(&Run) -> f64;
/// Where a run stands on an axis, if anywhere.
type Place = fn(&Run) -> Option<f64>;

fn by_group(runs: &[Run]) -> BTreeMap<&str, Vec<&Run>> {
    let mut groups: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        groups.entry(&run.group).or_default().push(run);
    }
    groups
}

fn distinct(values: impl Iterator<Item = f64>) -> usize {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values.len()
}

fn named(group: &str) -> String {
    if group.is_empty() {
        "runs".to_owned()
    } else {
        format!("`{group}`")
    }
}

/// Letters, digits and hyphens of a name.
fn id(prefix: &str, group: &str) -> String {
    let plain = group.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    format!("{prefix}-{}", plain.collect::<String>())
}

/// Why latencies of some runs are not the server's.
fn caution(runs: &[&Run]) -> Option<Block> {
    let late: Vec<String> = runs
        .iter()
        .filter(|run| !run.is_sound())
        .map(|run| run.label())
        .collect();
    (!late.is_empty()).then(|| {
        Block::Caution(format!(
            "In {} of {} runs the generator was the limit or answers failed, so these say nothing of the server: {}.",
            late.len(),
            runs.len(),
            late.join(", ")
        ))
    })
}

/// Throughput against latency, for each folder with at least two rates.
pub(super) fn throughput_latency(runs: &[Run]) -> Option<Section> {
    let mut blocks = vec![Block::Text(
        "Open loop: requests are due by a schedule, and latency counts from when each was due. Where the curves turn \
         upwards the server (or the generator) is full."
            .to_owned(),
    )];
    for (group, runs) in by_group(runs) {
        let mut open: Vec<&Run> = runs.iter().copied().filter(|run| run.mode == Mode::Open).collect();
        if distinct(open.iter().filter_map(|run| run.rate)) < 2 {
            continue;
        }
        open.sort_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second));
        let percentiles: [(&str, Figure); 3] = [
            ("p50", |run| run.latency_us.p50 / 1000.0),
            ("p99", |run| run.latency_us.p99 / 1000.0),
            ("p99.9", |run| run.latency_us.p999 / 1000.0),
        ];
        let series: Vec<Series> = percentiles
            .iter()
            .enumerate()
            .map(|(style, (name, of))| Series {
                name: (*name).to_owned(),
                points: open.iter().map(|run| (run.requests_per_second, of(run))).collect(),
                marked: true,
                style,
            })
            .collect();
        let x = Axis::linear("requests a second", open.iter().map(|run| run.requests_per_second));
        let y = Axis::log(
            "milliseconds",
            series.iter().flat_map(|one| one.points.iter().map(|point| point.1)),
        );
        let title = format!("Throughput against latency: {}", group.trim_matches('`'));
        let most = open.last().map_or(0.0, |run| run.requests_per_second);
        let words = Words {
            id: &id("tl", group),
            title: &title,
            description: &format!(
                "Latency percentiles over throughput up to {} requests a second, on a logarithmic axis of milliseconds.",
                figure(most)
            ),
        };
        let rows = open.iter().map(|run| {
            let mut row = vec![
                run.label(),
                run.rate.map_or("-".to_owned(), figure),
                figure(run.requests_per_second),
            ];
            row.extend(percentiles.iter().map(|(_, of)| figure(of(run))));
            row.extend([
                figure(run.latency_us.max / 1000.0),
                if run.is_sound() { "yes" } else { "no" }.to_owned(),
            ]);
            row
        });
        blocks.push(Block::Figure {
            svg: svg::lines(&words, &x, &y, &series),
            caption: format!("{}: latency by throughput.", named(group)),
            table: Table {
                caption: "Milliseconds".to_owned(),
                head: vec!["run", "intended/s", "answered/s", "p50", "p99", "p99.9", "max", "sound"],
                rows: rows.collect(),
            },
        });
        blocks.extend(caution(&open));
    }
    section("Throughput against latency", blocks)
}

/// The percentile curve of each run.
pub(super) fn spectra(runs: &[Run]) -> Option<Section> {
    let mut blocks = vec![Block::Text(
        "Each step to the right is ten times rarer. What a user meets who makes many requests is far to the right."
            .to_owned(),
    )];
    for (group, runs) in by_group(runs) {
        let mut runs: Vec<&Run> = runs.into_iter().filter(|run| run.spectrum.len() > 2).collect();
        if runs.is_empty() {
            continue;
        }
        runs.sort_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second));
        // Evenly over what there is, the first and the last among them.
        let kept: Vec<&Run> = if runs.len() <= SPECTRA_MAX {
            runs.clone()
        } else {
            (0..SPECTRA_MAX)
                .filter_map(|i| runs.get(i * (runs.len() - 1) / (SPECTRA_MAX - 1)).copied())
                .collect()
        };
        let series: Vec<Series> = kept
            .iter()
            .enumerate()
            .map(|(style, run)| Series {
                name: run.label(),
                points: run
                    .spectrum
                    .iter()
                    .map(|step| (svg::rarity(step.percentile), step.us / 1000.0))
                    .collect(),
                marked: false,
                style,
            })
            .collect();
        let top = kept
            .iter()
            .flat_map(|run| run.spectrum.iter().map(|step| step.percentile))
            .filter(|percentile| *percentile < 100.0)
            .fold(0.0, f64::max);
        let x = Axis::percentiles("percentile", top);
        let y = Axis::log(
            "milliseconds",
            series.iter().flat_map(|one| one.points.iter().map(|point| point.1)),
        );
        let title = format!("Percentiles of latency: {group}");
        let words = Words {
            id: &id("ps", group),
            title: &title,
            description: &format!(
                "Latency in milliseconds by percentile for {} runs, both axes logarithmic.",
                kept.len()
            ),
        };
        let rows = runs.iter().map(|run| {
            let l = run.latency_us;
            let mut row = vec![run.label(), figure(run.requests_per_second)];
            row.extend([l.p50, l.p99, l.p999, l.max].map(|us| figure(us / 1000.0)));
            row
        });
        blocks.push(Block::Figure {
            svg: svg::lines(&words, &x, &y, &series),
            caption: if kept.len() < runs.len() {
                format!("{}: {} of its {} runs.", named(group), kept.len(), runs.len())
            } else {
                format!("{}: percentiles of latency.", named(group))
            },
            table: Table {
                caption: "Milliseconds".to_owned(),
                head: vec!["run", "answered/s", "p50", "p99", "p99.9", "max"],
                rows: rows.collect(),
            },
        });
    }
    section("Percentile spectrum", blocks)
}

/// Throughput by what there is more of, with a fit of the universal scalability law.
pub(super) fn scaling(runs: &[Run]) -> Option<Section> {
    let mut blocks = vec![Block::Text(
        "Closed loop: each connection asks again when it is answered. The dashed curve is Gunther's universal scalability \
         law, fitted by least squares: α is the share that cannot go side by side, β what keeping up with the others costs."
            .to_owned(),
    )];
    for (group, runs) in by_group(runs) {
        let closed: Vec<&Run> = runs.into_iter().filter(|run| run.mode == Mode::Closed).collect();
        let by: [(&str, &str, Place); 2] = [
            ("cores", "workers of the server, one a core", |run| {
                run.workers().map(|workers| workers as f64)
            }),
            ("connections", "connections", |run| Some(f64::from(run.connections))),
        ];
        let usual = usual_workers(&closed);
        for (name, label, of) in by {
            // Of several runs at one place the best: the others had a neighbour.
            let mut best: Vec<(f64, f64)> = Vec::new();
            for run in &closed {
                if name == "connections" && run.workers() != usual {
                    continue;
                }
                let Some(place) = of(run) else { continue };
                match best.iter_mut().find(|point| point.0 == place) {
                    Some(point) => point.1 = point.1.max(run.requests_per_second),
                    None => best.push((place, run.requests_per_second)),
                }
            }
            best.sort_by(|a, b| a.0.total_cmp(&b.0));
            if best.len() < 2 {
                continue;
            }
            blocks.extend(scaling_figure(group, name, label, &best));
        }
        blocks.extend(caution(&closed));
    }
    section("Scaling", blocks)
}

/// How many workers most runs have: a curve over connections is of one server.
fn usual_workers(runs: &[&Run]) -> Option<usize> {
    let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    for run in runs {
        *counts.entry(run.workers()).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(_, runs)| *runs)
        .and_then(|(workers, _)| workers)
}

/// The curve of a fit from one place to another.
pub(super) fn curve_of(fit: &usl::Fit, first: f64, last: f64) -> Series {
    let steps = 60;
    let at = |i: i32| first + (last - first) * f64::from(i) / f64::from(steps);
    Series {
        name: "universal scalability law".to_owned(),
        points: (0..=steps).map(|i| (at(i), fit.at(at(i)))).collect(),
        marked: false,
        style: 1,
    }
}

/// What a fit says, or why there is none.
pub(super) fn in_words(fit: &Result<usl::Fit, String>) -> String {
    match fit {
        Ok(fit) => {
            let peak = fit.peak().map_or("nowhere".to_owned(), |n| format!("at {}", figure(n)));
            format!(
                "α = {:.4}, β = {:.6}, λ = {} requests a second, R² = {:.4}; greatest throughput by the fit: {peak}.",
                fit.alpha,
                fit.beta,
                figure(fit.lambda),
                fit.r2
            )
        }
        Err(why) => format!("There is {why}."),
    }
}

fn scaling_figure(group: &str, name: &str, label: &str, best: &[(f64, f64)]) -> Vec<Block> {
    let mut series = vec![Series {
        name: "measured".to_owned(),
        points: best.to_vec(),
        marked: true,
        style: 0,
    }];
    let fit = usl::fit(best);
    let (first, last) = (best.first().map_or(1.0, |p| p.0), best.last().map_or(1.0, |p| p.0));
    series.extend(fit.iter().map(|fit| curve_of(fit, first, last)));
    let words_of_fit = in_words(&fit);
    let x = Axis::counts(label, best.iter().map(|point| point.0));
    let y = Axis::linear(
        "requests a second",
        series.iter().flat_map(|one| one.points.iter().map(|point| point.1)),
    );
    let title = format!("Throughput by {name}: {group}");
    let words = Words {
        id: &id(&format!("sc-{name}"), group),
        title: &title,
        description: &format!(
            "From {} requests a second with {first} to {} with {last}. {words_of_fit}",
            best.first().map_or("-".to_owned(), |p| figure(p.1)),
            best.last().map_or("-".to_owned(), |p| figure(p.1)),
        ),
    };
    let rows = best.iter().map(|&(n, rate)| {
        let said = fit.as_ref().map_or("-".to_owned(), |fit| figure(fit.at(n)));
        vec![n.to_string(), figure(rate), figure(rate / n), said]
    });
    vec![Block::Figure {
        svg: svg::lines(&words, &x, &y, &series),
        caption: format!("{} by {name}. {words_of_fit}", named(group)),
        table: Table {
            caption: "Requests a second".to_owned(),
            head: vec!["of them", "measured", "for each", "by the law"],
            rows: rows.collect(),
        },
    }]
}

/// CPU a request, in the kernel and out of it.
pub(super) fn cpu(runs: &[Run]) -> Option<Section> {
    let mut blocks = vec![Block::Text(
        "CPU time of the server process over its answers, from the kernel's own account. The kernel's part is TCP and \
         system calls; the user part is this program."
            .to_owned(),
    )];
    for (group, runs) in by_group(runs) {
        let measured: Vec<_> = runs
            .iter()
            .filter_map(|run| run.server.as_ref().map(|server| (run, server)))
            .collect();
        if measured.is_empty() {
            continue;
        }
        let bars: Vec<Bar> = measured
            .iter()
            .map(|(run, server)| Bar {
                name: run.label(),
                parts: vec![(server.user_us_per_request, 0), (server.system_us_per_request, 1)],
                interval: None,
                text: format!(
                    "{} us",
                    figure(server.user_us_per_request + server.system_us_per_request)
                ),
            })
            .collect();
        let x = Axis::linear(
            "microseconds of CPU a request",
            bars.iter().map(|bar| bar.parts.iter().map(|part| part.0).sum()),
        );
        let title = format!("CPU a request: {group}");
        let words = Words {
            id: &id("cpu", group),
            title: &title,
            description: &format!(
                "Stacked bars of user and system time a request for {} runs.",
                bars.len()
            ),
        };
        let rows = measured.iter().map(|(run, server)| {
            vec![
                run.label(),
                figure(server.user_us_per_request),
                figure(server.system_us_per_request),
                figure(server.cpu_utilisation),
                run.requests.to_string(),
            ]
        });
        blocks.push(Block::Figure {
            svg: svg::bars(&words, &x, &bars, None, &[("user", 0), ("system", 1)]),
            caption: format!("{}: CPU time a request, split.", named(group)),
            table: Table {
                caption: "Microseconds a request; CPUs in use".to_owned(),
                head: vec!["run", "user", "system", "CPUs in use", "answers"],
                rows: rows.collect(),
            },
        });
    }
    section("CPU per request", blocks)
}

/// A section, where it has more than its opening words.
fn section(heading: &str, blocks: Vec<Block>) -> Option<Section> {
    (blocks.len() > 1).then(|| Section {
        heading: heading.to_owned(),
        blocks,
    })
}
