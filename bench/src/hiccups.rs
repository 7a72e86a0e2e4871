//! `hiccups`: what the machine itself makes of a request's latency, as jHiccup does it. A thread on each CPU waits for moments at
//! a constant rate and does nothing else; how late it wakes is what a server that answers in no time would be late by, under an
//! open loop of that rate on that CPU.
//!
//! Every moment that passes during a pause counts with its own wait, so a pause of 4 ms at 3000 a second is twelve late
//! moments, and percentiles can be put beside those of `load --rate`: their tails, that is, since who has work to do sleeps less and is woken
//! sooner in the median. Absent on purpose: who caused a pause. Where nothing else runs, it is the kernel's threads or the
//! hypervisor (`perf sched timehist` tells the first).

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::thread::set_current_timer_slack;
use serde::Serialize;

use crate::clock::{self, SECOND_NS};
use crate::load::Percentiles;
use crate::{EXIT_FOUND_ERRORS, print_report};

/// Longest wait that is told apart from a longer one, nanoseconds.
const WAIT_NS_MAX: u64 = 60 * SECOND_NS;
/// Digits that a percentile is true to.
const DIGITS: u8 = 3;
/// From this on a wait counts as a pause, nanoseconds: wake-ups of an idle virtual CPU take a tenth of it.
const PAUSE_NS: u64 = 500_000;
/// Moments that a p99.9 wants: with fewer it is the longest of all.
const MOMENTS_MIN: u64 = 10_000;

/// Measure how late threads that do nothing wake on these CPUs, as a floor for percentiles of latency
///
/// On each --cpu a thread waits for moments at --rate a second, for --duration, on all of them at once. Beside a percentile of
/// `load --rate` on the same machine it says how much of a tail is the machine's. A pause is seen from the next moment on: at 3000 a
/// second one of 0.8 ms may go unseen. With --max-p999-us the exit code is 1 where a CPU's p99.9 is beyond that.
#[derive(clap::Args)]
#[command(after_help = "Example: roadtrip-bench hiccups --cpu 0 --cpu 1 --rate 3000 --duration 10")]
pub(crate) struct Args {
    /// CPU to wait on; may be repeated. None: wherever the kernel has the thread
    #[arg(long)]
    cpu: Vec<usize>,
    /// Moments a second
    #[arg(long, default_value_t = 3000.0)]
    rate: f64,
    /// Seconds
    #[arg(long, short = 'd', default_value_t = 10.0)]
    duration: f64,
    /// Exit with code 1 where a CPU's p99.9 is more microseconds than this
    #[arg(long)]
    max_p999_us: Option<f64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// One CPU.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Hiccups {
    pub(crate) cpu: Option<usize>,
    /// Waits beyond the moment, microseconds; `count` is that of the moments.
    pub(crate) wait_us: Percentiles,
    /// Pauses of at least half a millisecond.
    pub(crate) pauses: u64,
    /// Share of the time that they took.
    pub(crate) paused_share: f64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let cpus: Vec<Option<usize>> = match args.cpu.as_slice() {
        [] => vec![None],
        some => some.iter().copied().map(Some).collect(),
    };
    if args.max_p999_us.is_some_and(|most| most.is_nan() || most < 0.0) {
        return Err("--max-p999-us takes microseconds".to_owned());
    }
    let found = measure(&cpus, args.rate, args.duration)?;
    print_report(args.json, &found, |found| text(found))?;
    let late = |one: &Hiccups| args.max_p999_us.is_some_and(|most| one.wait_us.p999 > most);
    Ok(if found.iter().any(late) {
        ExitCode::from(EXIT_FOUND_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

/// Waits on all these CPUs at once; `rate` moments a second, for `seconds`.
///
/// # Errors
/// A rate or a duration out of bounds, a CPU that there is not, or the kernel's refusal of a thread.
pub(crate) fn measure(cpus: &[Option<usize>], rate: f64, seconds: f64) -> Result<Vec<Hiccups>, String> {
    if !(1.0..=100_000.0).contains(&rate) {
        return Err(format!("--rate takes 1 to 100000 moments a second, not {rate}"));
    }
    if !(seconds > 0.0 && seconds <= 3600.0) {
        return Err(format!("--duration takes up to 3600 seconds, not {seconds}"));
    }
    if rate * seconds < 2.0 {
        return Err(format!("{seconds} s at {rate} a second have no moment to wait for"));
    }
    let mut different = cpus.to_vec();
    different.sort_unstable();
    different.dedup();
    if different.len() < cpus.len() {
        return Err("two threads on one CPU would wait for each other".to_owned());
    }
    // Refused at once, and not when all others have waited.
    for cpu in cpus.iter().copied().flatten() {
        clock::while_pinned(Some(cpu), || ())?;
    }
    let every_ns = (SECOND_NS as f64 / rate) as u64;
    let duration_ns = (seconds * SECOND_NS as f64) as u64;
    std::thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|&cpu| {
                let wait = move || wait_on(cpu, every_ns, duration_ns);
                std::thread::Builder::new()
                    .name("hiccups".to_owned())
                    .spawn_scoped(scope, wait)
                    .map_err(|e| format!("no thread for CPU {cpu:?}: {e}"))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| {
            let found = thread?.join();
            found.unwrap_or_else(|_| Err("a thread that waited panicked".to_owned()))
        });
        joined.collect()
    })
}

fn wait_on(cpu: Option<usize>, every_ns: u64, duration_ns: u64) -> Result<Hiccups, String> {
    if let Some(cpu) = cpu {
        clock::pin_to(cpu)?;
    }
    // Without it every wait is 50 us longer than asked, which is the kernel's kindness to batteries.
    set_current_timer_slack(std::num::NonZeroU64::new(1)).map_err(|e| format!("cannot ask for exact timers: {e}"))?;
    let mut waits = Waits::new()?;
    let begun = clock::now_ns();
    let (mut due, end) = (begun + every_ns, begun + duration_ns);
    while due < end {
        if let Some(rest) = due.checked_sub(clock::now_ns()) {
            std::thread::sleep(Duration::from_nanos(rest));
        }
        due = waits.woken(due, clock::now_ns(), every_ns, end);
    }
    Ok(waits.told(cpu, clock::now_ns().saturating_sub(begun)))
}

/// Waits of all moments so far.
struct Waits {
    histogram: Histogram<u64>,
    pauses: u64,
    paused_ns: u64,
}

impl Waits {
    fn new() -> Result<Self, String> {
        Ok(Self {
            histogram: Histogram::new_with_bounds(1, WAIT_NS_MAX, DIGITS)
                .map_err(|e| format!("no histogram of waits: {e}"))?,
            pauses: 0,
            paused_ns: 0,
        })
    }

    /// At `now` a thread wakes for the moment `due`: that one and all that have passed meanwhile have waited until now, but for those from
    /// `end` on, which were not asked for. The next.
    fn woken(&mut self, mut due: u64, now: u64, every_ns: u64, end: u64) -> u64 {
        let wait = now.saturating_sub(due);
        if wait >= PAUSE_NS {
            self.pauses += 1;
            self.paused_ns = self.paused_ns.saturating_add(wait);
        }
        loop {
            self.histogram.saturating_record(now.saturating_sub(due).max(1));
            due = due.saturating_add(every_ns.max(1));
            if due > now || due >= end {
                return due;
            }
        }
    }

    fn told(&self, cpu: Option<usize>, took_ns: u64) -> Hiccups {
        Hiccups {
            cpu,
            wait_us: Percentiles::of(&self.histogram),
            pauses: self.pauses,
            paused_share: self.paused_ns as f64 / took_ns.max(1) as f64,
        }
    }
}

fn text(found: &[Hiccups]) -> String {
    let mut out =
        "| CPU | moments | p50 us | p99 us | p99.9 us | longest us | pauses from 0.5 ms | share of the time |\n"
            .to_owned();
    out.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for one in found {
        let cpu = one.cpu.map_or("any".to_owned(), |cpu| cpu.to_string());
        let _ = writeln!(
            out,
            "| {cpu} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {:.2} % |",
            one.wait_us.count,
            one.wait_us.p50,
            one.wait_us.p99,
            one.wait_us.p999,
            one.wait_us.max,
            one.pauses,
            one.paused_share * 100.0
        );
    }
    if found.iter().any(|one| one.wait_us.count < MOMENTS_MIN) {
        out.push_str("CAUTION: too few moments for a p99.9\n");
    }
    out.push_str("No server here can be seen to have shorter tails than threads that do nothing.");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn each_moment_that_passes_in_a_pause_has_waited() {
        let mut waits = Waits::new().unwrap();
        // 990 on time, and one that wakes 9.5 ms late, when nine more are due.
        let mut due = MS;
        for _ in 0..990 {
            due = waits.woken(due, due, MS, u64::MAX);
        }
        let next = waits.woken(due, due + 9 * MS + MS / 2, MS, u64::MAX);
        assert_eq!(next, due + 10 * MS);
        let told = waits.told(Some(3), 1000 * MS);
        assert_eq!((told.wait_us.count, told.pauses, told.cpu), (1000, 1, Some(3)));
        assert!((told.paused_share - 0.0095).abs() < 1e-9);
        assert!((told.wait_us.p50 - 0.001).abs() < 1e-9, "{told:?}");
        // Of the ten the last two are the 999th and the thousandth of all.
        assert!((told.wait_us.p999 - 8500.0).abs() < 10.0, "{told:?}");
        assert!((told.wait_us.max - 9500.0).abs() < 10.0, "{told:?}");
    }

    #[test]
    fn what_is_due_after_the_end_is_not_counted() {
        let mut waits = Waits::new().unwrap();
        // Of five moments before the end the thread wakes for the third, long after it.
        let due = waits.woken(MS, MS, MS, 6 * MS);
        let due = waits.woken(due, due, MS, 6 * MS);
        assert_eq!(waits.woken(due, 1000 * MS, MS, 6 * MS), 6 * MS);
        let told = waits.told(None, 6 * MS);
        assert_eq!(told.wait_us.count, 5);
        assert!((told.wait_us.max - 997_000.0).abs() < 1000.0, "{told:?}");
    }

    #[test]
    fn it_waits_as_often_as_it_is_asked_to_and_no_longer() {
        let begun = clock::now_ns();
        let found = measure(&[None], 1000.0, 0.2).unwrap();
        assert!(clock::now_ns() - begun >= 190 * MS);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        // However late it is now and then.
        assert_eq!(one.wait_us.count, 199, "{one:?}");
        assert!(
            one.wait_us.p50 <= one.wait_us.p999 && one.wait_us.p999 <= one.wait_us.max,
            "{one:?}"
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused_at_once() {
        let begun = clock::now_ns();
        for (cpus, rate, seconds, why) in [
            (vec![None], 0.0, 1.0, "moments a second"),
            (vec![None], 10.0, f64::NAN, "--duration"),
            (vec![None], 1.0, 1.0, "no moment"),
            (vec![None, Some(100_000)], 100.0, 60.0, "CPU 100000"),
            (vec![Some(0), Some(0)], 100.0, 60.0, "one CPU"),
        ] {
            let said = measure(&cpus, rate, seconds).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(clock::now_ns() - begun < 30 * SECOND_NS);
    }
}
