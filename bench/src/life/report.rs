//! Rows, the table of them, and the verdict.

use super::load::{Failure, Kind, Tally};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What a file of this kind is named.
pub(crate) const FORMAT: &str = "roadtrip-bench life 1";

/// What must come of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Must {
    /// No request fails but those that a worker took with it.
    FailNone,
    /// Some fail: that this load sees what is lost.
    FailSome,
}

/// A worker that broke down, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken {
    pub(super) worker: u32,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl Broken {
    /// Whether a failure is of a connection that this worker took with it: one that it had answered on, or one that had had
    /// no answer yet (nobody can say then whose it was), cut off while it broke down.
    fn took(&self, failure: &Failure) -> bool {
        let is_its_own = failure.worker.is_none_or(|worker| worker == self.worker);
        let is_cut = ["closed", "read: ", "send: ", "idle: "]
            .iter()
            .any(|way| failure.why.starts_with(way));
        is_its_own && is_cut && (self.from..=self.to).contains(&failure.at)
    }
}

/// What came of a run.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Row {
    pub(crate) run: String,
    pub(crate) what: String,
    pub(crate) driver: String,
    pub(crate) must: Must,
    /// Seconds of load.
    pub(crate) seconds: f64,
    pub(crate) offered: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// On connections that a worker took with it as it broke down: not among `failed`.
    pub(crate) lost_with_worker: u64,
    /// 503 with Retry-After, in runs that allow it.
    pub(crate) refused: u64,
    pub(crate) told_to_close: u64,
    pub(crate) found_closed: u64,
    pub(crate) sent_again: u64,
    pub(crate) longest_gap_ms: u64,
    pub(crate) longest_wait_ms: u64,
    pub(crate) gaps_ms: BTreeMap<String, u64>,
    /// By what it is known that it took place.
    pub(crate) seen: String,
    /// Some of what failed, in words.
    pub(crate) failures: Vec<String>,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Row {
    pub(super) fn new(run: &str, what: &str, driver: &str, seconds: f64, tally: &Tally) -> Self {
        Self {
            run: run.to_owned(),
            what: what.to_owned(),
            driver: driver.to_owned(),
            must: Must::FailNone,
            seconds,
            offered: tally.offered,
            answered: tally.answered,
            failed: tally.failed,
            lost_with_worker: 0,
            refused: tally.refused,
            told_to_close: tally.told_to_close,
            found_closed: tally.found_closed,
            sent_again: tally.sent_again,
            longest_gap_ms: ms(tally.longest_gap),
            longest_wait_ms: ms(tally.longest_wait),
            gaps_ms: tally
                .gaps
                .iter()
                .map(|(kind, gap)| (kind.name().to_owned(), ms(*gap)))
                .collect(),
            seen: String::new(),
            failures: Vec::new(),
        }
    }

    /// Sorts what failed into what the server owes an answer for, and what a worker took with it.
    pub(super) fn settle(&mut self, failures: &[Failure], broken: &[Broken]) {
        for failure in failures {
            if broken.iter().any(|broken| broken.took(failure)) {
                self.lost_with_worker += failure.requests;
                self.failed = self.failed.saturating_sub(failure.requests);
            } else if self.failures.len() < 20 {
                let Failure { at, why, requests, .. } = failure;
                let worker = failure.worker.map_or("?".to_owned(), |worker| worker.to_string());
                self.failures.push(format!(
                    "{} at {} ms, worker {worker}, {requests} request(s): {why}",
                    failure.kind.name(),
                    ms(*at)
                ));
            }
        }
    }

    /// What must not be; none if the run is sound.
    pub(crate) fn fault(&self) -> Option<String> {
        let sum = self.answered + self.refused + self.failed + self.lost_with_worker;
        if sum != self.offered {
            return Some(format!("{} offered, and {sum} came of them", self.offered));
        }
        match self.must {
            _ if self.answered == 0 => Some("nothing was answered".to_owned()),
            Must::FailNone if self.failed > 0 => Some(format!(
                "{} failed, such as: {}",
                self.failed,
                self.failures.first().map_or("?", |first| first)
            )),
            Must::FailSome if self.failed == 0 => Some("nothing failed, though it had to".to_owned()),
            _ => None,
        }
    }
}

/// All of it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Report {
    /// [`FORMAT`]; the first ones had none.
    #[serde(default)]
    pub(crate) format: String,
    pub(crate) command: String,
    pub(crate) version: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) began: String,
    pub(crate) rate: f64,
    pub(crate) rows: Vec<Row>,
    /// Runs that could not be done here, with the reason.
    pub(crate) skipped: BTreeMap<String, String>,
    /// Runs that came to nothing, with the reason.
    pub(crate) broken: BTreeMap<String, String>,
    pub(crate) soak: Option<super::soak::Soak>,
    pub(crate) is_sound: bool,
}

impl Report {
    /// As Markdown.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# Runs under constant load\n\n    {}\n\n{}, Linux {}, {} x {}, {}. {} requests/s were due all the time:\n\
             40 % on keep-alive connections, 2 % on connections with long pauses, 20 % on short-lived ones, 16 % pipelined by\n\
             8, 16 % over HTTP/2 by 4 streams, 3 % event streams, 3 % stories of which every fourth is new. Times in ms.\n",
            self.command, self.version, self.kernel, self.cpus, self.cpu, self.began, self.rate
        );
        if !self.rows.is_empty() {
            text.push_str(
                "| run | driver | offered | answered | failed | lost with the worker | 503 | longest gap | longest wait | \
                 told to close | found closed | sent again | seen |\n\
                 | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |\n",
            );
        }
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.what,
                row.driver,
                row.offered,
                row.answered,
                row.failed,
                row.lost_with_worker,
                row.refused,
                row.longest_gap_ms,
                row.longest_wait_ms,
                row.told_to_close,
                row.found_closed,
                row.sent_again,
                row.seen
            );
        }
        if !self.rows.is_empty() {
            let names = Kind::ALL.map(Kind::name);
            let _ = write!(
                text,
                "\nThe longest gap by kind of client:\n\n| run | driver | {} |\n| --- | --- |{}\n",
                names.join(" | "),
                " --: |".repeat(names.len())
            );
            for row in &self.rows {
                let gaps = names.map(|name| row.gaps_ms.get(name).map_or(String::new(), u64::to_string));
                let _ = writeln!(text, "| {} | {} | {} |", row.what, row.driver, gaps.join(" | "));
            }
        }
        for row in &self.rows {
            if let Some(fault) = row.fault() {
                let _ = writeln!(text, "\nFAULT in {} ({}): {fault}", row.run, row.driver);
            }
        }
        for (name, why) in &self.skipped {
            let _ = writeln!(text, "\nSkipped: {name}: {why}");
        }
        for (name, why) in &self.broken {
            let _ = writeln!(text, "\nCAME TO NOTHING: {name}: {why}");
        }
        if let Some(soak) = &self.soak {
            text.push_str(&soak.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at_ms: u64, worker: Option<u32>, why: &str) -> Failure {
        Failure {
            kind: Kind::Pipelined,
            at: Duration::from_millis(at_ms),
            worker,
            why: why.to_owned(),
            requests: 8,
        }
    }

    #[test]
    fn only_what_the_worker_had_is_lost_with_it() {
        let failures = [
            failure(1500, Some(0), "closed without an answer"),
            failure(1500, None, "read: Connection reset by peer"),
            failure(1500, Some(1), "closed without an answer"),
            failure(1500, Some(0), "a wrong answer: 500 "),
            failure(1500, None, "connect: Connection refused"),
            failure(3000, Some(0), "closed without an answer"),
        ];
        let tally = Tally {
            offered: 100,
            answered: 52,
            failed: 48,
            ..Tally::default()
        };
        let mut row = Row::new("a", "b", "epoll", 1.0, &tally);
        let broken = Broken {
            worker: 0,
            from: Duration::from_secs(1),
            to: Duration::from_secs(2),
        };
        row.settle(&failures, &[broken]);
        assert_eq!((row.failed, row.lost_with_worker, row.failures.len()), (32, 16, 4));
        assert!(row.fault().unwrap().contains("32 failed"));
        row.failed = 31;
        assert!(row.fault().unwrap().contains("99 came"));
    }
}
