//! How many requests may be in flight, learnt from how long they take.
//!
//! A gradient, in the manner of Envoy's adaptive concurrency filter and of Netflix' concurrency-limits: ten times a second
//! the mean latency is compared with what it is when hardly anything is in flight (the *baseline*), and the limit
//! is scaled by how far it lies beyond; a square root of it is added each time, so that it finds out whether more would do.
//! Both are means, of latencies that count as at most the same. In both models, too, the two sides are one statistic
//! (percentiles of one rank with Envoy, a long and a short average with Netflix): a median beside a mean sees congestion wherever some
//! answers take far longer than most. What differs from both: latency that is short against the target counts for nothing,
//! because a group commit that takes 10 ms in place of 2 is how many are served at once, and no congestion.
//!
//! The baseline is a moving average of requests that were let in with at most [`limits::LIMIT_MIN`] in flight, and of windows
//! that were faster than it. Where load is low that is most of them. A backend that became slower by itself drives the limit
//! down to that number, so that the baseline follows within seconds and the limit rises again; and congestion that lasts has
//! it measured anew after 2 s, and up to every 10 s.

use super::Settings;
use crate::limits::overload as limits;

/// What became of a request that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It took as long as it took.
    Done,
    /// It was given up: out of time, or a queue behind was full.
    Dropped,
    /// It tells nothing: the backend refused it at once, or it waited for somebody else.
    Untold,
}

/// The limit of one worker. Times are the caller's, in nanoseconds.
#[derive(Debug)]
pub(super) struct Adaptive {
    limit: f64,
    ceiling: f64,
    slack_ns: u64,
    baseline_ns: u64,
    /// How many latencies with little in flight there were since there last were enough of them.
    low_count: u64,
    /// The first of them together.
    low_sum_ns: u64,
    /// There have been enough once.
    is_measured: bool,
    window: Window,
    /// Mean latency in the last window; 0: there was none.
    latency_ns: u64,
    /// Since when each window was congested.
    congested_ns: Option<u64>,
    /// The limit and the baseline before that.
    before: (f64, u64),
    /// When the last one was.
    last_congested_ns: u64,
    /// For how long they must be until the baseline is measured anew.
    probe_after_ns: u64,
    /// The baseline is being measured, until then at the latest.
    probe_end_ns: Option<u64>,
    last_end_ns: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    begun_ns: u64,
    sum_ns: u64,
    /// The same where no latency counts as less than it is.
    whole_ns: u64,
    count: u64,
    /// The most that was in flight.
    peak: usize,
}

impl Adaptive {
    pub(super) fn new(settings: Settings, now: u64) -> Adaptive {
        let ceiling = settings.in_flight_max.max(limits::LIMIT_MIN) as f64;
        Adaptive {
            limit: (limits::LIMIT_FIRST as f64).min(ceiling),
            ceiling,
            slack_ns: settings.target_ns() / limits::SLACK_PART,
            baseline_ns: 0,
            low_count: 0,
            low_sum_ns: 0,
            is_measured: false,
            window: Window {
                begun_ns: now,
                ..Window::default()
            },
            latency_ns: 0,
            congested_ns: None,
            before: (0.0, 0),
            last_congested_ns: now,
            probe_after_ns: limits::PROBE_FIRST_NS,
            probe_end_ns: None,
            last_end_ns: now,
        }
    }

    /// How many may be in flight now.
    pub(super) fn limit(&self) -> usize {
        match self.probe_end_ns {
            Some(_) => limits::LIMIT_MIN,
            None => self.limit as usize,
        }
    }

    /// The same, whether or not the baseline is being measured.
    pub(super) fn learnt(&self) -> usize {
        self.limit as usize
    }

    /// Latency with hardly anything in flight, nanoseconds; 0: not known yet.
    pub(super) fn baseline_ns(&self) -> u64 {
        self.baseline_ns
    }

    /// Mean latency of late, nanoseconds; 0: not known yet.
    pub(super) fn latency_ns(&self) -> u64 {
        self.latency_ns
    }

    /// A mean latency that is still no sign of too much in flight.
    fn allowed_ns(&self) -> u64 {
        self.baseline_ns.saturating_add(self.baseline_ns.max(self.slack_ns))
    }

    /// A request is let in; `in_flight` counts it. Whether its latency will tell of the baseline.
    pub(super) fn began(&mut self, now: u64, in_flight: usize) -> bool {
        if in_flight <= 1 && now.saturating_sub(self.last_end_ns) > limits::PROBE_NS {
            // What was learnt in some rush is no longer true.
            self.limit = self.limit.max((limits::LIMIT_FIRST as f64).min(self.ceiling));
        }
        self.window.peak = self.window.peak.max(in_flight);
        in_flight <= limits::LIMIT_MIN
    }

    /// A request has ended that took `latency_ns` since it was let in.
    pub(super) fn ended(&mut self, now: u64, latency_ns: u64, was_low: bool, end: End) {
        self.last_end_ns = now;
        let allowed = self.allowed_ns();
        let cap = allowed.saturating_mul(limits::SAMPLE_CAP);
        let counted = match end {
            End::Untold => return self.step(now),
            End::Done => latency_ns.min(cap),
            End::Dropped => cap,
        };
        if was_low && end == End::Done {
            self.learn(now, latency_ns, cap);
        }
        if self.probe_end_ns.is_none() {
            self.window.sum_ns = self.window.sum_ns.saturating_add(counted);
            self.window.whole_ns = self.window.whole_ns.saturating_add(latency_ns);
            self.window.count = self.window.count.saturating_add(1);
        }
        self.step(now);
    }

    /// A latency with little in flight, which counts as at most `cap`.
    fn learn(&mut self, now: u64, latency_ns: u64, cap: u64) {
        self.low_count = self.low_count.saturating_add(1);
        if self.is_measured {
            self.approach(latency_ns.min(cap), 1);
        } else {
            self.low_sum_ns = self.low_sum_ns.saturating_add(latency_ns);
            // A guess is better than none, and too high a one is set right by the first windows.
            self.baseline_ns = self.baseline_ns.max(latency_ns);
        }
        if self.low_count < limits::BASELINE_SAMPLES {
            return;
        }
        if !self.is_measured {
            self.is_measured = true;
            self.baseline_ns = self.low_sum_ns / limits::BASELINE_SAMPLES;
        }
        self.low_count = 0;
        let (limit, baseline) = self.before;
        if self.congested_ns.is_some() && self.baseline_ns >= baseline.saturating_mul(2) {
            // It was the backend that became slow: what was taken away for that is given back at once.
            self.limit = self.limit.max(limit);
            // What was counted until now was held against the old one.
            self.begin_window(now);
        }
        if self.probe_end_ns.is_some() {
            self.end_probe(now);
        }
    }

    /// Moves the baseline towards the mean of `count` latencies.
    fn approach(&mut self, mean_ns: u64, count: u64) {
        let weight = count as f64 / count.saturating_add(limits::BASELINE_SAMPLES - 1) as f64;
        let baseline = self.baseline_ns as f64;
        self.baseline_ns = (baseline + (mean_ns as f64 - baseline) * weight) as u64;
    }

    fn end_probe(&mut self, now: u64) {
        self.probe_end_ns = None;
        self.congested_ns = None;
        self.begin_window(now);
    }

    fn begin_window(&mut self, now: u64) {
        self.window = Window {
            begun_ns: now,
            ..Window::default()
        };
    }

    /// Moves the limit, where a window is full.
    fn step(&mut self, now: u64) {
        if let Some(end) = self.probe_end_ns {
            if now >= end {
                self.end_probe(now);
            }
            return;
        }
        let Window {
            begun_ns,
            sum_ns,
            whole_ns,
            count,
            peak,
        } = self.window;
        let lasted = now.saturating_sub(begun_ns);
        // Not before what the last step let in can have ended.
        let is_whole = lasted >= limits::WINDOW_NS.max(self.baseline_ns.min(limits::WINDOW_NS_MAX));
        let enough = count >= limits::WINDOW_SAMPLES || (count > 0 && lasted >= limits::WINDOW_NS_MAX);
        if !is_whole || !enough {
            return;
        }
        let mean = sum_ns / count.max(1);
        self.latency_ns = whole_ns / count.max(1);
        let whole = self.latency_ns.min(limits::PROBE_NS);
        if mean < self.baseline_ns {
            self.approach(mean, count);
        }
        let allowed = self.allowed_ns();
        let gradient = (allowed as f64 / mean.max(1) as f64).clamp(limits::CUT_PART, 1.0);
        let is_congested = mean > allowed;
        if is_congested && self.congested_ns.is_none() {
            self.before = (self.limit, self.baseline_ns);
        }
        let is_used = peak as f64 * 2.0 >= self.limit;
        let grows = is_used || (!is_congested && self.limit < limits::LIMIT_FIRST as f64);
        if grows {
            // Where it is not used, latency is not its doing.
            let next = self.limit * gradient + self.limit.sqrt();
            self.limit = next.clamp(limits::LIMIT_MIN as f64, self.ceiling);
        }
        self.begin_window(now);
        if !is_congested || !is_used {
            self.congested_ns = None;
            if now.saturating_sub(self.last_congested_ns) >= limits::PROBE_NS {
                // Another rush, of which nothing is known. What comes back at once is the one that was measured already.
                self.probe_after_ns = limits::PROBE_FIRST_NS;
            }
            return;
        }
        self.last_congested_ns = now;
        let since = *self.congested_ns.get_or_insert(now);
        if now.saturating_sub(since) >= self.probe_after_ns {
            self.probe_after_ns = (2 * self.probe_after_ns).min(limits::PROBE_NS);
            self.low_count = 0;
            self.probe_end_ns = Some(now.saturating_add(limits::PROBE_NS_MAX.max(whole.saturating_mul(6))));
        }
    }
}
