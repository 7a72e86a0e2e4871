//! Constant open-loop load by clients of many kinds, and an honest count of what became of it.
//!
//! Every request is due at a time that does not depend on the server. A client that waits for an answer sends what became
//! due meanwhile as soon as it can; waits count from the due time, and nothing that was due is left out: what cannot be
//! sent or answered within [`DEADLINE`] is a failure.
//!
//! FAILED is: a connection refused or reset; a request that was sent and got no whole answer, whatever the reason; an
//! answer that is not what was asked for, byte by byte where the bytes are known; a status that the run does not allow.
//! Not failed is what HTTP lets a client do without a doubt: to find, before it sends, that an idle connection was closed in
//! good order (`found closed`), and to send again what it had pipelined behind an answer with `Connection: close` (RFC 9112
//! section 9.6) or on a stream that GOAWAY left out (RFC 9113 section 6.8; both `sent again`). Nothing else is ever retried:
//! a request that was sent on an idle connection in the moment of its end is lost, and counts.

use super::client::Client;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From the send to the whole answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// Failures that are kept in words.
const WORDS_MAX: usize = 2000;

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// One connection for as long as it lasts.
    KeepAlive,
    /// The same with long pauses, in which connections end.
    Idle,
    /// A connection for each request.
    Short,
    /// Eight requests at once on a connection that lasts.
    Pipelined,
    /// Stories as streams of events.
    Sse,
    /// Four streams at once on a connection that lasts.
    Http2,
    /// Stories, told anew and again, on a connection that lasts.
    Stories,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::KeepAlive,
        Self::Idle,
        Self::Short,
        Self::Pipelined,
        Self::Sse,
        Self::Http2,
        Self::Stories,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::Idle => "idle",
            Self::Short => "short-lived",
            Self::Pipelined => "pipelined",
            Self::Sse => "SSE",
            Self::Http2 => "HTTP/2",
            Self::Stories => "stories",
        }
    }

    /// Its clients, and their part of the rate in hundredths.
    fn share(self) -> (u32, u32) {
        match self {
            Self::KeepAlive => (6, 40),
            Self::Idle => (6, 2),
            Self::Short => (6, 20),
            Self::Pipelined | Self::Http2 => (2, 16),
            Self::Sse | Self::Stories => (2, 3),
        }
    }

    /// Requests that are due at once.
    pub(super) fn batch(self) -> u64 {
        match self {
            Self::Pipelined => 8,
            Self::Http2 => 4,
            _ => 1,
        }
    }
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// Since the begin of the load.
    pub(super) at: Duration,
    /// Whose connection it was, where it had had an answer before.
    pub(super) worker: Option<u32>,
    pub(super) why: String,
    pub(super) requests: u64,
}

/// What became of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    /// Requests that were due.
    pub(super) offered: u64,
    /// Whole and right answers.
    pub(super) answered: u64,
    /// 503 with Retry-After, where the run allows it.
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) failures: Vec<Failure>,
    /// Connections made anew because the last answer, or GOAWAY, said so.
    pub(super) told_to_close: u64,
    /// Connections found closed before anything was sent.
    pub(super) found_closed: u64,
    /// Requests sent again, which the server had said that it did not look at.
    pub(super) sent_again: u64,
    /// The longest wait for an answer, from the time when it was due.
    pub(super) longest_wait: Duration,
    /// The longest time without any answer.
    pub(super) longest_gap: Duration,
    /// The same for each kind.
    pub(super) gaps: BTreeMap<Kind, Duration>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        let room = WORDS_MAX.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
        self.told_to_close += other.told_to_close;
        self.found_closed += other.found_closed;
        self.sent_again += other.sent_again;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
    }
}

/// The longest time between two answers.
#[derive(Debug, Default)]
struct Gap {
    last_us: AtomicU64,
    longest_us: AtomicU64,
}

impl Gap {
    fn answer(&self, now_us: u64) {
        let last = self.last_us.fetch_max(now_us, Ordering::Relaxed);
        self.longest_us
            .fetch_max(now_us.saturating_sub(last), Ordering::Relaxed);
    }

    fn begin(&self, now_us: u64) {
        self.last_us.store(now_us, Ordering::Relaxed);
        self.longest_us.store(0, Ordering::Relaxed);
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }
}

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) addr: SocketAddr,
    pub(super) begun: Instant,
    /// Microseconds since the begin; what is due later is not asked.
    end_us: AtomicU64,
    /// 503 with Retry-After is an answer, from stories.
    pub(super) may_refuse: AtomicBool,
    answered: AtomicU64,
    all: Gap,
    gaps: [Gap; Kind::ALL.len()],
    /// What each story request, and each other path, was answered first.
    known: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn answer(&self, kind: Kind, count: u64) {
        self.answered.fetch_add(count, Ordering::Relaxed);
        let now = self.now_us();
        self.all.answer(now);
        if let Some(gap) = self.gaps.get(kind as usize) {
            gap.answer(now);
        }
    }

    /// True until `due` is past the end.
    pub(super) fn is_wanted(&self, due: Duration) -> bool {
        due.as_micros() < u128::from(self.end_us.load(Ordering::Relaxed))
    }

    /// True if the same was answered before, or nothing yet.
    pub(super) fn is_as_before(&self, asked: &str, answer: &[u8]) -> bool {
        let mut known = lock(&self.known);
        match known.get(asked) {
            Some(before) => before == answer,
            None => {
                known.insert(asked.to_owned(), answer.to_vec());
                true
            }
        }
    }

    /// What was answered before.
    pub(super) fn before(&self, asked: &str) -> Option<Vec<u8>> {
        lock(&self.known).get(asked).cloned()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients that run.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Begins to ask `addr`, `rate` requests a second over all kinds.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(addr: SocketAddr, rate: f64) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            addr,
            begun: Instant::now(),
            end_us: AtomicU64::new(u64::MAX),
            may_refuse: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            all: Gap::default(),
            gaps: Default::default(),
            known: Mutex::default(),
        });
        let mut load = Self {
            shared,
            clients: Vec::new(),
        };
        for kind in Kind::ALL {
            let (clients, hundredths) = kind.share();
            let each = rate * f64::from(hundredths) / 100.0 / f64::from(clients);
            let every = Duration::from_secs_f64(kind.batch() as f64 / each);
            for number in 0..clients {
                let shared = Arc::clone(&load.shared);
                let client = std::thread::Builder::new()
                    .name(format!("{}-{number}", kind.name()))
                    // Two dozen of them, which do little.
                    .stack_size(256 << 10)
                    .spawn(move || Client::new(shared, kind, number).run(every, every * number / clients))
                    .map_err(|error| format!("cannot start a client: {error}"))?;
                load.clients.push(client);
            }
        }
        Ok(load)
    }

    pub(super) fn may_refuse(&self) {
        self.shared.may_refuse.store(true, Ordering::Relaxed);
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// Answers so far.
    pub(super) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Gaps count from now on: what came before was the begin.
    pub(super) fn watch_gaps(&self) {
        let now = self.shared.now_us();
        for gap in self.shared.gaps.iter().chain([&self.shared.all]) {
            gap.begin(now);
        }
    }

    /// Asks nothing more that is not due yet, and waits for all answers.
    ///
    /// # Errors
    /// A client broke.
    pub(super) fn stop(mut self) -> Result<Tally, String> {
        let shared = Arc::clone(&self.shared);
        let now = shared.now_us();
        shared.end_us.store(now, Ordering::Relaxed);
        // A gap that has not ended counts, too.
        let seen = |gap: &Gap| {
            let open = now.saturating_sub(gap.last_us.load(Ordering::Relaxed));
            gap.longest().max(Duration::from_micros(open))
        };
        let longest = seen(&shared.all);
        let gaps = Kind::ALL.into_iter().zip(shared.gaps.iter().map(seen)).collect();
        let mut tally = Tally::default();
        for client in std::mem::take(&mut self.clients) {
            tally.add(client.join().map_err(|_| "a client broke")?);
        }
        tally.longest_gap = longest;
        tally.gaps = gaps;
        Ok(tally)
    }
}

impl Drop for Load {
    /// A run that came to nothing: its clients end by themselves.
    fn drop(&mut self) {
        self.shared.end_us.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_whole() {
        let sum: u32 = Kind::ALL.iter().map(|kind| kind.share().1).sum();
        assert_eq!(sum, 100);
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }

    /// Nobody listens: every request that was due is there, and failed.
    #[test]
    fn nothing_that_was_due_is_left_out() {
        let addr = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let load = Load::start(addr, 1000.0).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let ran = load.elapsed().as_secs_f64();
        let tally = load.stop().unwrap();
        // Batches, and the first of each client, make it more or less.
        let (least, most) = (1000.0 * ran - 80.0, 1000.0 * (ran + 0.2) + 80.0);
        assert!(
            (least..most).contains(&(tally.offered as f64)),
            "{ran}: {}",
            tally.offered
        );
        assert_eq!((tally.failed, tally.answered), (tally.offered, 0));
        assert!(tally.longest_gap >= Duration::from_millis(400));
    }
}
