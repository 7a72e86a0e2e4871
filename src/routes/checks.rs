//! How the dependencies are, asked in the background ([`Checks::refresh`]): a probe answers from the last result, so
//! that a slow database makes no probe slow. A dependency is down after two failures in a row and up after one success:
//! one lost ping drops no pod.

use super::Worker;
use crate::limits;
use crate::runtime::context;
use crate::runtime::time::{self, timeout};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// What the background checks found.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) done: Cell<u64>,
    pub(super) store: Dependency,
    pub(super) redis: Dependency,
    second: RefCell<SecondText>,
}

/// The present second as text, RFC 3339 without zone.
#[derive(Debug, Default)]
struct SecondText {
    unix_second: u64,
    text: String,
}

/// Failures in a row after which a dependency counts as down.
const FAILURES_DOWN: u32 = 2;

/// What is known of one dependency.
#[derive(Debug, Default)]
pub(super) struct Dependency {
    failures: Cell<u32>,
    known: Cell<bool>,
    latency_ns: Cell<u64>,
    /// Why the last look failed, if it did.
    pub(super) reason: RefCell<Option<String>>,
}

/// What a check changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Down,
    Back,
}

impl Dependency {
    /// Asks once, within the time of a check.
    async fn ask<E: std::fmt::Display>(&self, ping: impl Future<Output = Result<(), E>>) -> Option<Change> {
        let begun = context::precise_now_ns();
        let limit = Duration::from_millis(limits::health::CHECK_TIMEOUT_MS);
        let failure = match timeout(limit, ping).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(time::Elapsed) => Some("no answer in time".to_owned()),
        };
        self.latency_ns.set(context::precise_now_ns().saturating_sub(begun));
        let change = match failure {
            Some(_) => {
                let failures = self.failures.get().saturating_add(1);
                self.failures.set(failures);
                (failures == FAILURES_DOWN).then_some(Change::Down)
            }
            None => {
                self.known.set(true);
                (self.failures.replace(0) >= FAILURES_DOWN).then_some(Change::Back)
            }
        };
        *self.reason.borrow_mut() = failure;
        change
    }

    pub(super) fn is_up(&self) -> bool {
        self.known.get() && self.failures.get() < FAILURES_DOWN
    }

    /// The word of the status page: one failure is a warning, two are an outage.
    pub(super) fn word(&self) -> &'static str {
        match (self.is_up(), self.reason.borrow().is_some()) {
            (true, false) => "healthy",
            (true, true) => "degraded",
            (false, _) => "unhealthy",
        }
    }

    pub(super) fn ping_ms(&self) -> f64 {
        self.latency_ns.get() as f64 / 1e6
    }
}

impl Checks {
    /// How long to wait before the next look: not for long where the store is down, so that the pod is back soon after
    /// it.
    pub(super) fn pause(&self) -> Duration {
        let ms = if self.store.is_up() {
            limits::health::CHECK_MS
        } else {
            limits::health::RECHECK_MS
        };
        Duration::from_millis(ms)
    }

    /// Asks the dependencies once.
    pub(super) async fn refresh(&self, worker: &Worker) {
        match self.store.ask(worker.service.store().ping()).await {
            Some(Change::Down) => tracing::warn!(
                worker_id = worker.id,
                reason = self.store.reason.borrow().as_deref(),
                has_journal = worker.service.store().journal().is_some(),
                "the store is down: this worker is not ready, unless a journal takes its place"
            ),
            Some(Change::Back) => tracing::info!(worker_id = worker.id, "the store is back"),
            None => {}
        }
        if let Some(redis) = worker.service.redis() {
            // Its own log tells of changes.
            self.redis.ask(redis.ping()).await;
        }
        self.done.set(self.done.get() + 1);
    }

    /// Appends `unix_ns` as RFC 3339 UTC with milliseconds; the second is formatted once.
    pub(super) fn timestamp(&self, out: &mut Vec<u8>, unix_ns: u64) {
        let mut second = self.second.borrow_mut();
        let unix_second = unix_ns / 1_000_000_000;
        if second.unix_second != unix_second || second.text.is_empty() {
            let at = i64::try_from(unix_second)
                .ok()
                .and_then(|s| jiff::Timestamp::from_second(s).ok());
            second.text = at
                .map(|at| at.to_string())
                .unwrap_or_default()
                .trim_end_matches('Z')
                .to_owned();
            second.unix_second = unix_second;
        }
        out.extend_from_slice(second.text.as_bytes());
        let millis = unix_ns / 1_000_000 % 1000;
        let digit = |n: u64| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}
