//! What went wrong, by kind.

use serde::Serialize;

use crate::answer::Told;

/// Errors by kind.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Errors {
    /// Connections that could not be opened.
    pub(crate) connect: u64,
    /// Sends and receives that failed, connections closed under a request.
    pub(crate) io: u64,
    /// Answers that did not come in time.
    pub(crate) timeouts: u64,
    /// Answers whose framing is broken.
    pub(crate) framing: u64,
    /// Answers with a status that is not right: outside 2xx, unless the scenario says otherwise.
    pub(crate) status: u64,
    /// Answers whose Cache-Status says another thing than what was asked for.
    pub(crate) cache_status: u64,
    /// Requests that were due and never sent: open loop, when the server or the connections fell too far behind.
    pub(crate) unsent: u64,
    /// Requests that were due while too many others were under way.
    pub(crate) skipped: u64,
    /// The first one, in words.
    pub(crate) first: Option<String>,
}

impl Errors {
    fn note(count: &mut u64, first: &mut Option<String>, what: impl FnOnce() -> String) {
        *count = count.saturating_add(1);
        if first.is_none() {
            *first = Some(what());
        }
    }

    pub(super) fn connect(&mut self, what: &str) {
        Self::note(&mut self.connect, &mut self.first, || what.to_owned());
    }

    pub(super) fn io(&mut self, what: &str) {
        Self::note(&mut self.io, &mut self.first, || what.to_owned());
    }

    pub(super) fn timeout(&mut self) {
        Self::note(&mut self.timeouts, &mut self.first, || "no answer in time".to_owned());
    }

    pub(super) fn frame(&mut self, what: &str) {
        Self::note(&mut self.framing, &mut self.first, || what.to_owned());
    }

    pub(super) fn status(&mut self, status: u16) {
        Self::note(&mut self.status, &mut self.first, || format!("status {status}"));
    }

    pub(super) fn told(&mut self, told: Told, expected: Told) {
        Self::note(&mut self.cache_status, &mut self.first, || {
            format!("Cache-Status says {} and not {}", told.word(), expected.word())
        });
    }

    pub(super) fn skipped(&mut self) {
        Self::note(&mut self.skipped, &mut self.first, || {
            "a request was due while as many as allowed were under way".to_owned()
        });
    }

    pub(super) fn unsent(&mut self, count: u64) {
        self.unsent = self.unsent.saturating_add(count);
        if count > 0 {
            self.first
                .get_or_insert_with(|| "requests were due, and no connection was free until the end".to_owned());
        }
    }

    /// A run without one answer is no success, even where nothing failed within it.
    pub(super) fn nothing(&mut self) {
        Self::note(&mut self.timeouts, &mut self.first, || {
            "not one answer within the time measured".to_owned()
        });
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        [
            self.connect,
            self.io,
            self.timeouts,
            self.framing,
            self.status,
            self.cache_status,
            self.unsent,
            self.skipped,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    pub(super) fn add(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.connect, other.connect),
            (&mut self.io, other.io),
            (&mut self.timeouts, other.timeouts),
            (&mut self.framing, other.framing),
            (&mut self.status, other.status),
            (&mut self.cache_status, other.cache_status),
            (&mut self.unsent, other.unsent),
            (&mut self.skipped, other.skipped),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.first = self.first.take().or(other.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_add_up_and_keep_the_first() {
        let (mut a, mut b) = (Errors::default(), Errors::default());
        b.status(503);
        b.timeout();
        b.skipped();
        a.add(b);
        a.unsent(2);
        assert_eq!((a.total(), a.first.as_deref()), (5, Some("status 503")));
    }
}
