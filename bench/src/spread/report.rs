//! Medians of the repeats, as a table.

use serde::Serialize;

use super::{Run, Way};
use crate::cost::median;

/// What `spread` found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    crowds: Vec<CrowdRow>,
    churns: Vec<ChurnRow>,
    /// Every repeat.
    runs: Vec<Run>,
}

/// Medians over the repeats.
#[derive(Debug, Serialize)]
struct CrowdRow {
    workers: u32,
    connections: u32,
    way: Way,
    connections_min: f64,
    connections_max: f64,
    /// Of the worker that had the most in any repeat, less the one that had the least in the same.
    difference_worst: u64,
    /// Standard deviation over mean.
    requests_cv: f64,
    /// The busiest worker's requests over the mean of all.
    requests_max_over_mean: f64,
    requests: f64,
}

#[derive(Debug, Serialize)]
struct ChurnRow {
    workers: u32,
    way: Way,
    one_by_one_min: f64,
    one_by_one_max: f64,
    one_by_one_difference_worst: u64,
    churn_per_second: f64,
    churn_cpu_us: f64,
    churn_handed: f64,
}

fn difference(numbers: &[u64]) -> u64 {
    let (least, most) = ends(numbers);
    most.saturating_sub(least)
}

/// The least and the most.
fn ends(numbers: &[u64]) -> (u64, u64) {
    let (least, most) = (numbers.iter().min(), numbers.iter().max());
    (least.copied().unwrap_or(0), most.copied().unwrap_or(0))
}

fn mean(numbers: &[u64]) -> f64 {
    numbers.iter().sum::<u64>() as f64 / numbers.len().max(1) as f64
}

/// Standard deviation over mean; 0 of nothing.
fn variation(numbers: &[u64]) -> f64 {
    let mean = mean(numbers);
    if mean == 0.0 {
        return 0.0;
    }
    let squares: f64 = numbers.iter().map(|&n| (n as f64 - mean).powi(2)).sum();
    (squares / numbers.len().max(1) as f64).sqrt() / mean
}

impl Report {
    pub(super) fn new(runs: Vec<Run>) -> Report {
        let mut keys: Vec<(u32, Way)> = Vec::new();
        for run in &runs {
            if !keys.contains(&(run.workers, run.way)) {
                keys.push((run.workers, run.way));
            }
        }
        let mut report = Report {
            crowds: Vec::new(),
            churns: Vec::new(),
            runs: Vec::new(),
        };
        for &(workers, way) in &keys {
            let own = || runs.iter().filter(move |run| (run.workers, run.way) == (workers, way));
            let counts = own().next().map(|run| run.crowds.len()).unwrap_or(0);
            for at in 0..counts {
                let crowds = || own().filter_map(move |run| run.crowds.get(at));
                let of = |f: &dyn Fn(&super::CrowdRun) -> f64| median(crowds().map(f));
                report.crowds.push(CrowdRow {
                    workers,
                    way,
                    connections: crowds().next().map(|crowd| crowd.count).unwrap_or(0),
                    connections_min: of(&|crowd| ends(&crowd.connections).0 as f64),
                    connections_max: of(&|crowd| ends(&crowd.connections).1 as f64),
                    difference_worst: crowds().map(|crowd| difference(&crowd.connections)).max().unwrap_or(0),
                    requests_cv: of(&|crowd| variation(&crowd.requests)),
                    requests_max_over_mean: of(&|crowd| {
                        ends(&crowd.requests).1 as f64 / mean(&crowd.requests).max(1.0)
                    }),
                    requests: of(&|crowd| crowd.requests.iter().sum::<u64>() as f64),
                });
            }
            let of = |f: &dyn Fn(&Run) -> f64| median(own().map(f));
            report.churns.push(ChurnRow {
                workers,
                way,
                one_by_one_min: of(&|run| ends(&run.one_by_one).0 as f64),
                one_by_one_max: of(&|run| ends(&run.one_by_one).1 as f64),
                one_by_one_difference_worst: own().map(|run| difference(&run.one_by_one)).max().unwrap_or(0),
                churn_per_second: of(&|run| run.churn_per_second),
                churn_cpu_us: of(&|run| run.churn_cpu_us),
                churn_handed: of(&|run| run.churn_handed),
            });
        }
        let rank = |row: &CrowdRow| (row.workers, row.connections);
        report.crowds.sort_by_key(rank);
        report.runs = runs;
        report
    }

    /// The greatest difference between two workers' connections in any repeat in which the server shared them out.
    pub(super) fn difference_of_on(&self) -> u64 {
        let own = self.crowds.iter().filter(|row| row.way == Way::On);
        own.map(|row| row.difference_worst).max().unwrap_or(0)
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![
            "| workers | connections | way | connections of a worker | worst difference | requests: variation | busiest / mean | requests |".to_owned(),
            "| --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
        ];
        for row in &self.crowds {
            lines.push(format!(
                "| {} | {} | {} | {} to {} | {} | {:.1}% | {:.2} | {:.0} |",
                row.workers,
                row.connections,
                row.way.name(),
                row.connections_min,
                row.connections_max,
                row.difference_worst,
                row.requests_cv * 100.0,
                row.requests_max_over_mean,
                row.requests,
            ));
        }
        lines.push(String::new());
        lines.push(
            "| workers | way | 100 one by one | worst difference | connections/s | server CPU us each | handed over of 1000 |"
                .to_owned(),
        );
        lines.push("| --- | --- | --- | --- | --- | --- | --- |".to_owned());
        for row in &self.churns {
            lines.push(format!(
                "| {} | {} | {} to {} | {} | {:.0} | {:.2} | {:.1} |",
                row.workers,
                row.way.name(),
                row.one_by_one_min,
                row.one_by_one_max,
                row.one_by_one_difference_worst,
                row.churn_per_second,
                row.churn_cpu_us,
                row.churn_handed,
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::CrowdRun;
    use super::*;

    fn run(way: Way, connections: &[u64], requests: &[u64]) -> Run {
        let crowd = CrowdRun {
            count: connections.iter().sum::<u64>() as u32,
            connections: connections.to_vec(),
            requests: requests.to_vec(),
        };
        Run {
            workers: 2,
            way,
            crowds: vec![crowd],
            one_by_one: vec![40, 60],
            churn_per_second: 1000.0,
            churn_cpu_us: 30.0,
            churn_handed: 2.0,
        }
    }

    #[test]
    fn medians_are_of_one_way_and_the_worst_is_kept() {
        let report = Report::new(vec![
            run(Way::Off, &[0, 4], &[0, 100]),
            run(Way::On, &[2, 2], &[50, 50]),
            run(Way::Off, &[1, 3], &[50, 50]),
            run(Way::On, &[1, 3], &[40, 60]),
            run(Way::Off, &[1, 3], &[25, 75]),
            run(Way::On, &[2, 2], &[50, 50]),
        ]);
        assert_eq!(report.crowds.len(), 2);
        let [off, on] = &report.crowds[..] else { panic!() };
        assert_eq!(
            (off.connections_min, off.connections_max, off.difference_worst),
            (1.0, 3.0, 4)
        );
        assert_eq!(
            (on.connections_min, on.connections_max, on.difference_worst),
            (2.0, 2.0, 2)
        );
        assert_eq!((off.requests_cv, off.requests_max_over_mean), (0.5, 1.5));
        assert_eq!(report.difference_of_on(), 2);
        let text = report.text();
        assert!(
            text.contains("| 2 | 4 | off | 1 to 3 | 4 | 50.0% | 1.50 | 100 |"),
            "{text}"
        );
        assert!(
            text.contains("| 2 | on | 40 to 60 | 20 | 1000 | 30.00 | 2.0 |"),
            "{text}"
        );
    }

    #[test]
    fn nothing_varies_by_nothing() {
        assert_eq!((variation(&[]), variation(&[0, 0]), difference(&[])), (0.0, 0.0, 0));
    }
}
