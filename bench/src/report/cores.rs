//! Section of the suite `cores`: throughput by workers, beside what it would be if they shared nothing.

use super::curves::{curve_of, in_words};
use super::input::{Inputs, Kept};
use super::page::{Block, Section, Table};
use super::svg::{self, Axis, Series, Words, figure};
use super::usl;
use crate::suite;

/// A step: how many workers, and what they did.
struct Point<'s> {
    workers: f64,
    step: &'s suite::Step,
}

impl Point<'_> {
    fn place(&self) -> (f64, f64) {
        (self.workers, self.step.requests_per_second)
    }

    /// Throughput over that of one worker times as many.
    fn efficiency(&self, first: &Self) -> f64 {
        let ideal = first.step.requests_per_second * self.workers / first.workers;
        self.step.requests_per_second / ideal
    }

    /// The same in words: of lower bounds it is a bound itself, or nothing.
    fn efficiency_in_words(&self, first: &Self) -> String {
        let value = format!("{:.2}", self.efficiency(first));
        match (self.step.is_lower_bound, first.step.is_lower_bound) {
            (false, false) => value,
            (true, false) => format!("at least {value}"),
            (false, true) => format!("at most {value}"),
            (true, true) => "not known".to_owned(),
        }
    }

    fn rate_in_words(&self) -> String {
        let mark = if self.step.is_lower_bound { ">= " } else { "" };
        format!("{mark}{}", figure(self.step.requests_per_second))
    }

    fn row(&self, first: &Self, fit: &Result<usl::Fit, String>) -> Vec<String> {
        let of = |name: &str| self.step.figures.get(name).copied();
        vec![
            self.workers.to_string(),
            self.rate_in_words(),
            figure(self.step.requests_per_second / self.workers),
            self.efficiency_in_words(first),
            self.step.cpu_us_per_request.map_or("-".to_owned(), figure),
            of("requests_per_cpu_second").map_or("-".to_owned(), figure),
            of("share_of_quota_used").map_or("-".to_owned(), |used| format!("{:.0} %", used * 100.0)),
            of("busiest_worker_over_mean").map_or("-".to_owned(), figure),
            fit.as_ref().map_or("-".to_owned(), |fit| figure(fit.at(self.workers))),
        ]
    }
}

/// Of the latest suites that have two steps of it.
pub(super) fn section(inputs: &Inputs) -> Option<Section> {
    inputs.evidence().find_map(|kept| {
        let points = points(kept);
        (points.len() > 1).then(|| drawn(kept, &points))
    })
}

fn points(kept: &Kept<suite::Report>) -> Vec<Point<'_>> {
    let steps = kept.report.suites.iter().filter(|one| one.name == "cores");
    let mut points: Vec<Point<'_>> = steps
        .flat_map(|one| &one.steps)
        .filter(|step| step.state == suite::State::Passed && step.requests > 0)
        .filter_map(|step| {
            let workers = *step.figures.get("workers")?;
            (workers >= 1.0).then_some(Point { workers, step })
        })
        .collect();
    points.sort_by(|a, b| a.workers.total_cmp(&b.workers));
    points
}

fn drawn(kept: &Kept<suite::Report>, points: &[Point<'_>]) -> Section {
    let mut blocks = vec![Block::Text(format!(
        "Suite `cores` of `{}`, {} on {} ({} CPUs): the cached story in a closed loop, each worker pinned to a CPU of its own, all of \
         them in a control group with the same share of a CPU for each. Workers that share nothing lie on the ideal line. \
         What is below it is what they share, or what their CPUs do (caches, clock, a core's two threads), with each other and with \
         the generator, which runs on the same CPUs. Stopped for the rest of each period, they are not measured at the load of whole \
         CPUs.",
        kept.file, kept.report.version.ours, kept.report.machine.cpu, kept.report.machine.cpus
    ))];
    if let [first, .., last] = points {
        blocks.push(of_points(points, first, last));
        let bounds: Vec<String> = points
            .iter()
            .filter(|point| point.step.is_lower_bound)
            .map(|point| format!("with {} worker(s): {}", point.workers, point.step.reasons.join("; ")))
            .collect();
        if !bounds.is_empty() {
            blocks.push(Block::Caution(format!("Lower bounds are {}.", bounds.join(". "))));
        }
    }
    Section {
        heading: "Scaling with cores".to_owned(),
        blocks,
    }
}

fn of_points(points: &[Point<'_>], first: &Point<'_>, last: &Point<'_>) -> Block {
    // A curve through lower bounds would be a law of nothing.
    let sound: Vec<(f64, f64)> = points
        .iter()
        .filter(|point| !point.step.is_lower_bound)
        .map(Point::place)
        .collect();
    let fit = usl::fit(&sound);
    let (n, rate) = first.place();
    let mut series = vec![
        Series {
            name: "measured".to_owned(),
            points: points.iter().map(Point::place).collect(),
            marked: true,
            style: 0,
        },
        Series {
            name: "ideal: the first times as many".to_owned(),
            points: vec![first.place(), (last.workers, rate * last.workers / n)],
            marked: false,
            style: 2,
        },
    ];
    series.extend(fit.iter().map(|fit| curve_of(fit, n, last.workers)));
    let x = Axis::counts(
        "workers of the server, one a core",
        points.iter().map(|point| point.workers),
    );
    let y = Axis::linear(
        "requests a second",
        series.iter().flat_map(|one| one.points.iter().map(|point| point.1)),
    );
    let efficiency = format!(
        "Efficiency with {} workers (throughput over {} times that with {n}): {}.",
        last.workers,
        last.workers / n,
        last.efficiency_in_words(first)
    );
    let words = format!("{efficiency} {}", in_words(&fit));
    let description = format!(
        "From {} requests a second with {n} worker(s) to {} with {}, beside a straight line of proportion. {words}",
        first.rate_in_words(),
        last.rate_in_words(),
        last.workers
    );
    let words_of_drawing = Words {
        id: "cores",
        title: "Scaling with cores: throughput by workers",
        description: &description,
    };
    Block::Figure {
        svg: svg::lines(&words_of_drawing, &x, &y, &series),
        caption: format!("Throughput by workers. {words}"),
        table: Table {
            caption: "Each worker on a CPU of its own, with the same share of it".to_owned(),
            head: vec![
                "workers",
                "requests/s",
                "for each",
                "efficiency",
                "CPU us/request",
                "requests per CPU-second",
                "quota used",
                "busiest worker over the mean",
                "by the law",
            ],
            rows: points.iter().map(|point| point.row(first, &fit)).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{State, Step};

    fn step(workers: f64, rate: f64, is_lower_bound: bool) -> Step {
        let mut step = Step::without_run("w", "", State::Passed, None);
        (step.requests, step.requests_per_second, step.is_lower_bound) = (1, rate, is_lower_bound);
        step.figures.insert("workers".to_owned(), workers);
        step
    }

    fn drawing(steps: &[Step]) -> (String, String) {
        let points: Vec<Point<'_>> = steps
            .iter()
            .map(|step| Point {
                workers: step.figures["workers"],
                step,
            })
            .collect();
        match of_points(&points, &points[0], points.last().unwrap()) {
            Block::Figure { svg, caption, .. } => (svg, caption),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_points_have_an_efficiency_and_no_law() {
        let (svg, caption) = drawing(&[step(1.0, 1000.0, false), step(2.0, 1900.0, false)]);
        assert!(
            caption.contains("Efficiency with 2 workers") && caption.contains(": 0.95."),
            "{caption}"
        );
        assert!(caption.contains("2 different points, and 5 are needed"), "{caption}");
        assert!(
            svg.contains("ideal") && !svg.contains("scalability law</text>"),
            "{svg}"
        );
    }

    #[test]
    fn five_points_have_a_law_and_bounds_are_no_points_of_it() {
        let rate = |n: f64| 1000.0 * n / (1.0 + 0.02 * (n - 1.0));
        let all = |is_bound: bool| [1.0, 2.0, 4.0, 8.0, 16.0].map(|n| step(n, rate(n), is_bound && n > 8.0));
        let (svg, caption) = drawing(&all(false));
        assert!(
            caption.contains("α = 0.0200") && svg.contains("scalability law</text>"),
            "{caption}"
        );
        let (_, caption) = drawing(&all(true));
        assert!(
            caption.contains(": at least 0.77.") && caption.contains("4 different points"),
            "{caption}"
        );
    }
}
