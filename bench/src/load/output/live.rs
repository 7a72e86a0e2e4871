//! A run while it runs, on standard error: a view that is drawn again each interval on a terminal, a line each elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use crate::load::engine::Job;
use crate::load::report::Percentiles;
use crate::load::tally::Snapshot;

/// Cells of the progress bar, and of the picture of the last rates.
const BAR_CELLS: usize = 40;
/// Eighths of a cell.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The view.
pub(crate) struct Live {
    terminal: bool,
    threads: u32,
    interval_seconds: f64,
    duration_seconds: f64,
    warmup_seconds: f64,
    title: String,
    /// Intervals that not every thread has told of, with how many have.
    pending: BTreeMap<i64, (u32, Snapshot)>,
    rates: Vec<f64>,
    errors: u64,
    /// Lines of the view that stand on the terminal.
    drawn: usize,
}

impl Live {
    /// Of a run; nothing is shown where `quiet`.
    pub(crate) fn new(job: &Job, title: String, quiet: bool) -> Option<Self> {
        (!quiet).then(|| Self {
            terminal: std::io::stderr().is_terminal(),
            threads: job.threads,
            interval_seconds: job.interval_ns as f64 / 1e9,
            duration_seconds: job.duration_ns as f64 / 1e9,
            warmup_seconds: job.warmup_ns as f64 / 1e9,
            title,
            pending: BTreeMap::new(),
            rates: Vec::new(),
            errors: 0,
            drawn: 0,
        })
    }

    /// Takes what one thread tells; shows an interval once all have told of it.
    pub(crate) fn add(&mut self, snapshot: &Snapshot) {
        let (told, sum) = self
            .pending
            .entry(snapshot.index)
            .and_modify(|(told, sum)| {
                sum.add(snapshot);
                *told += 1;
            })
            .or_insert_with(|| (1, snapshot.clone()));
        if *told < self.threads {
            return;
        }
        let sum = sum.clone();
        self.pending.remove(&snapshot.index);
        self.errors = self.errors.saturating_add(sum.errors);
        // The last one is cut short, and would look like a drop.
        let whole = (sum.index as f64 + 1.0) * self.interval_seconds <= self.duration_seconds + 1e-9;
        if whole {
            self.rates.push(sum.answers as f64 / self.interval_seconds);
            self.show(&sum);
        }
    }

    fn show(&mut self, sum: &Snapshot) {
        let text = if self.terminal { self.view(sum) } else { self.line(sum) };
        // Nobody reads it where this fails: the run goes on.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn at(&self, sum: &Snapshot) -> f64 {
        (sum.index as f64 + 1.0) * self.interval_seconds
    }

    fn line(&self, sum: &Snapshot) -> String {
        let rate = self.rates.last().copied().unwrap_or(0.0);
        let at = self.at(sum);
        if sum.index < 0 {
            return format!("{at:>7.1} s  warm-up  {rate:>9.1}/s  errors {}\n", self.errors);
        }
        let p = Percentiles::of(&sum.latency);
        format!(
            "{at:>7.1} s  {rate:>9.1}/s  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.2} ms  in flight {}  errors {}\n",
            p.p50 / 1e3,
            p.p99 / 1e3,
            p.p999 / 1e3,
            p.max / 1e3,
            sum.in_flight,
            self.errors
        )
    }

    fn view(&mut self, sum: &Snapshot) -> String {
        let all = self.warmup_seconds + self.duration_seconds;
        let done = ((self.at(sum) + self.warmup_seconds) / all.max(1e-9)).clamp(0.0, 1.0);
        let full = (done * BAR_CELLS as f64) as usize;
        let bar: String = (0..BAR_CELLS).map(|cell| if cell < full { '█' } else { '░' }).collect();
        let phase = if sum.index < 0 { "warm-up" } else { "measuring" };
        let p = Percentiles::of(&sum.latency);
        let rate = self.rates.last().copied().unwrap_or(0.0);
        let lines = [
            self.title.clone(),
            format!(
                "{bar} {:>3.0} %  {phase}, {:.0} of {all:.0} s",
                done * 100.0,
                done * all
            ),
            format!("rate      {rate:>11.1}/s  {}", sparks(&self.rates)),
            format!(
                "latency   p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
                p.p50 / 1e3,
                p.p90 / 1e3,
                p.p99 / 1e3,
                p.p999 / 1e3,
                p.max / 1e3
            ),
            format!(
                "in flight {:>11}    errors {}{}",
                sum.in_flight,
                self.errors,
                sum.first_error.as_ref().map_or(String::new(), |e| format!(" ({e})"))
            ),
        ];
        let mut out = String::new();
        if self.drawn > 0 {
            // Up to the first line of the view.
            out.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &lines {
            // Cleared to its end: a line may be shorter than what stood there.
            out.push_str(&format!("\r{}\x1b[K\n", line.chars().take(110).collect::<String>()));
        }
        self.drawn = lines.len();
        out
    }
}

/// The last values as a row of bars, against the highest of them.
fn sparks(values: &[f64]) -> String {
    let last = values.get(values.len().saturating_sub(BAR_CELLS)..).unwrap_or_default();
    let most = last.iter().copied().fold(0.0, f64::max).max(1e-9);
    last.iter()
        .map(|value| {
            let eighth = (value / most * 7.0).round().clamp(0.0, 7.0) as usize;
            BARS.get(eighth).copied().unwrap_or(' ')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::Tally;

    fn live(terminal: bool) -> Live {
        Live {
            terminal,
            threads: 2,
            interval_seconds: 1.0,
            duration_seconds: 10.0,
            warmup_seconds: 1.0,
            title: "http://h/".to_owned(),
            pending: BTreeMap::new(),
            rates: vec![1.0, 7.0],
            errors: 0,
            drawn: 0,
        }
    }

    #[test]
    fn a_view_is_drawn_over_the_last_one() {
        let mut live = live(true);
        let snapshot = Tally::new(1).roll(3, 5);
        let first = live.view(&snapshot);
        assert!(
            !first.contains("\x1b[5A") && first.contains(" 45 %") && first.contains("measuring"),
            "{first}"
        );
        assert!(live.view(&snapshot).starts_with("\x1b[5A"));
        assert_eq!(sparks(&[0.0, 7.0]), "▁█");
        assert_eq!(sparks(&[1.0; 100]).chars().count(), BAR_CELLS);
    }

    #[test]
    fn an_interval_waits_for_all_threads() {
        let mut live = live(false);
        live.add(&Tally::new(1).roll(0, 1));
        assert_eq!((live.rates.len(), live.pending.len()), (2, 1));
        live.add(&Tally::new(1).roll(0, 2));
        assert_eq!((live.rates.len(), live.pending.len()), (3, 0));
        assert!(live.line(&Tally::new(1).roll(-1, 0)).contains("warm-up"));
    }
}
