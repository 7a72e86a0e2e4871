//! `wakes`: what it costs one worker to wake another that waits in its ring, by a write to an eventfd (what the server does) and
//! by a message from ring to ring (IORING_OP_MSG_RING), each with a system call of its own and with one that is due anyway.
//!
//! That is what a connection costs that is handed over to another worker, beside the queue that it goes through
//! (ARCHITECTURE.md, Balance). It is the cost at its highest: the one who is woken sleeps each time, as does the one who wakes between two,
//! so that caches are cold and a virtual CPU may have been halted.

mod ring;

use std::fmt::Write as _;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ring::Ring;
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

use crate::clock::{self, SECOND_NS};
use crate::print_report;
use crate::stats::Interval;

/// Nanoseconds until who is not woken is given up.
const LIMIT_NS: u64 = 5 * SECOND_NS;
/// Rest between two wake-ups, so that who is to be woken sleeps again.
const REST: Duration = Duration::from_micros(60);

/// How one is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// A write to an eventfd that the other's ring reads.
    Eventfd,
    /// A message, handed over by a system call of its own.
    MsgRing,
    /// The write, and an entry that is handed over anyway.
    EventfdAndEntry,
    /// The message goes with that entry.
    MsgRingWithEntry,
}

const WAYS: [Way; 4] = [Way::Eventfd, Way::MsgRing, Way::EventfdAndEntry, Way::MsgRingWithEntry];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Eventfd => "eventfd",
            Self::MsgRing => "MSG_RING",
            Self::EventfdAndEntry => "an entry, and eventfd",
            Self::MsgRingWithEntry => "an entry, and MSG_RING with it",
        }
    }

    /// What a message is compared with.
    fn beside(self) -> Option<Self> {
        match self {
            Self::MsgRing => Some(Self::Eventfd),
            Self::MsgRingWithEntry => Some(Self::EventfdAndEntry),
            Self::Eventfd | Self::EventfdAndEntry => None,
        }
    }

    fn is_read(self) -> bool {
        matches!(self, Self::Eventfd | Self::EventfdAndEntry)
    }
}

/// Measure what it costs to wake a worker, by an eventfd and by IORING_OP_MSG_RING
///
/// Two threads with rings as the server's: one wakes the other, which sleeps in its ring, --count times; the ways take turns,
/// --rounds times. Prints medians of the rounds with their intervals: nanoseconds and CPU that the giver spends on each, from before to
/// after its system calls; CPU that the taker spends (waking, reading, arming, sleeping); how long until it runs. For MSG_RING also
/// the ratios to eventfd of the same round.
#[derive(clap::Args)]
#[command(after_help = "Example: roadtrip-bench wakes --giver-cpu 0 --taker-cpu 1")]
pub(crate) struct Args {
    /// CPU of the one who wakes; without it, wherever the kernel has it
    #[arg(long)]
    giver_cpu: Option<usize>,
    /// CPU of the one who is woken; the same
    #[arg(long)]
    taker_cpu: Option<usize>,
    /// Wake-ups of each way in each round
    #[arg(long, short = 'n', default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// Rounds
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// One way.
#[derive(Debug, Serialize)]
struct Row {
    way: Way,
    /// Nanoseconds a wake-up.
    ns: Of<Interval>,
    /// To the eventfd of the same round, for a message.
    ratio: Option<Of<Interval>>,
}

/// What is looked at, a wake-up.
#[derive(Clone, Copy, Debug, Serialize)]
struct Of<T> {
    /// From before to after the giver's system calls.
    giver: T,
    giver_cpu: T,
    taker_cpu: T,
    until_it_runs: T,
}

impl<T> Of<T> {
    fn columns(&self) -> [&T; 4] {
        [&self.giver, &self.giver_cpu, &self.taker_cpu, &self.until_it_runs]
    }
}

impl Of<Interval> {
    fn medians(rounds: &[Of<f64>]) -> Option<Self> {
        let of = |value: fn(&Of<f64>) -> f64| Interval::of(&rounds.iter().map(value).collect::<Vec<_>>());
        Some(Self {
            giver: of(|one| one.giver)?,
            giver_cpu: of(|one| one.giver_cpu)?,
            taker_cpu: of(|one| one.taker_cpu)?,
            until_it_runs: of(|one| one.until_it_runs)?,
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let mut rounds: Vec<[Of<f64>; WAYS.len()]> = Vec::new();
    for _ in 0..args.rounds {
        let [eventfd, message, both, with] = WAYS.map(|way| round(way, args));
        rounds.push([eventfd?, message?, both?, with?]);
    }
    let rows: Vec<Row> = WAYS
        .into_iter()
        .filter_map(|way| {
            let of = |way: Way| rounds.iter().filter_map(move |all| all.get(way as usize).copied());
            let ratio = |(one, other): (Of<f64>, Of<f64>)| Of {
                giver: one.giver / other.giver,
                giver_cpu: one.giver_cpu / other.giver_cpu,
                taker_cpu: one.taker_cpu / other.taker_cpu,
                until_it_runs: one.until_it_runs / other.until_it_runs,
            };
            let ratios = way
                .beside()
                .map(|other| of(way).zip(of(other)).map(ratio).collect::<Vec<_>>());
            Some(Row {
                way,
                ns: Of::medians(&of(way).collect::<Vec<_>>())?,
                ratio: ratios.and_then(|ratios| Of::medians(&ratios)),
            })
        })
        .collect();
    print_report(args.json, &rows, |rows| text(rows))?;
    Ok(ExitCode::SUCCESS)
}

/// What both threads see.
struct Shared {
    /// Descriptor of the taker's ring; -1 before there is one.
    ring: AtomicI32,
    /// When the giver began with the latest wake-up.
    begun_ns: AtomicU64,
    /// Wake-ups that the taker has had.
    taken: AtomicU32,
    /// One of the two has ended, one way or the other: the other has nobody to wait for.
    over: AtomicBool,
}

/// Ends the other one's wait, however its owner ends.
struct Ends<'s>(&'s Shared, &'s OwnedFd);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        // A taker sleeps in its ring, where a read of this is armed whatever wakes it.
        let _ = rustix::io::write(self.1, &1_u64.to_ne_bytes());
    }
}

/// Why one gave up because the other did: of the two errors, not the one to tell.
const OTHER_ENDED: &str = "the other thread ended early";

fn round(way: Way, args: &Args) -> Result<Of<f64>, String> {
    let counter = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| format!("no eventfd: {e}"))?;
    let shared = Shared {
        ring: AtomicI32::new(-1),
        begun_ns: AtomicU64::new(0),
        taken: AtomicU32::new(0),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let taker = std::thread::Builder::new()
            .name("taker".to_owned())
            .spawn_scoped(scope, || {
                let _ends = Ends(&shared, &counter);
                take(way, args, &shared, counter.as_raw_fd())
            })
            .map_err(|e| format!("no thread to wake: {e}"))?;
        let given = {
            let _ends = Ends(&shared, &counter);
            give(way, args, &shared, &counter)
        };
        let taken = taker.join().unwrap_or_else(|_| Err("the taker panicked".to_owned()));
        match (given, taken) {
            (Ok((giver, giver_cpu)), Ok((taker_cpu, until_it_runs))) => Ok(Of {
                giver,
                giver_cpu,
                taker_cpu,
                until_it_runs,
            }),
            (Err(why), Err(or)) if why == OTHER_ENDED => Err(or),
            (Err(why), _) | (Ok(_), Err(why)) => Err(why),
        }
    })
}

/// Sleeps in a ring and is woken; CPU and delay of each wake-up.
fn take(way: Way, args: &Args, shared: &Shared, counter: RawFd) -> Result<(f64, f64), String> {
    let failed = |e: std::io::Error| format!("the taker's ring: {e}");
    args.taker_cpu.map_or(Ok(()), clock::pin_to)?;
    let mut ring = Ring::new().map_err(failed)?;
    // With messages too, so that there is a way to end its wait.
    ring.queue_read(counter).map_err(failed)?;
    ring.submit().map_err(failed)?;
    shared.ring.store(ring.fd(), Ordering::Release);
    let (cpu_before, mut delay_ns) = (clock::thread_cpu_ns(), 0_u64);
    let mut woken = 0;
    while woken < args.count {
        let wakes = ring.wait().map_err(failed)?;
        if shared.over.load(Ordering::Acquire) {
            return Err(OTHER_ENDED.to_owned());
        }
        if wakes > 0 {
            woken += wakes;
            delay_ns += clock::now_ns().saturating_sub(shared.begun_ns.load(Ordering::Acquire));
            if way.is_read() && woken < args.count {
                // It goes with the next wait.
                ring.queue_read(counter).map_err(failed)?;
            }
            shared.taken.store(woken, Ordering::Release);
        }
    }
    let each = |ns: u64| ns as f64 / f64::from(args.count);
    Ok((each(clock::thread_cpu_ns() - cpu_before), each(delay_ns)))
}

/// Wakes the taker, each time when it sleeps; what each took the giver, and its CPU.
fn give(way: Way, args: &Args, shared: &Shared, counter: &OwnedFd) -> Result<(f64, f64), String> {
    let failed = |e: std::io::Error| format!("the giver's ring: {e}");
    clock::while_pinned(args.giver_cpu, || {
        let other = look_for(shared, || match shared.ring.load(Ordering::Acquire) {
            -1 => None,
            fd => Some(fd),
        })?;
        let mut ring = Ring::new().map_err(failed)?;
        let (mut spent_ns, mut cpu_ns) = (0, 0);
        for number in 1..=args.count {
            std::thread::sleep(REST);
            let cpu_before = clock::thread_cpu_ns();
            let begun = clock::now_ns();
            shared.begun_ns.store(begun, Ordering::Release);
            match way {
                Way::Eventfd => {}
                Way::MsgRing => ring.queue_message(other).map_err(failed)?,
                Way::EventfdAndEntry => ring.queue_nop().map_err(failed)?,
                Way::MsgRingWithEntry => {
                    ring.queue_nop().map_err(failed)?;
                    ring.queue_message(other).map_err(failed)?;
                }
            }
            if way != Way::Eventfd {
                ring.submit().map_err(failed)?;
            }
            if way.is_read() {
                rustix::io::write(counter, &1_u64.to_ne_bytes()).map_err(|e| format!("eventfd: {e}"))?;
            }
            spent_ns += clock::now_ns() - begun;
            cpu_ns += clock::thread_cpu_ns() - cpu_before;
            if way != Way::Eventfd {
                // Its own completions: a message that failed is one of them.
                ring.wait().map_err(failed)?;
            }
            look_for(shared, || {
                (shared.taken.load(Ordering::Acquire) >= number).then_some(())
            })?;
        }
        let each = |ns: u64| ns as f64 / f64::from(args.count);
        Ok((each(spent_ns), each(cpu_ns)))
    })?
}

/// Looks until there is something to see.
fn look_for<T>(shared: &Shared, look: impl Fn() -> Option<T>) -> Result<T, String> {
    let begun = clock::now_ns();
    loop {
        // In this order: who has ended may have left what is looked for.
        let is_over = shared.over.load(Ordering::Acquire);
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if is_over {
            return Err(OTHER_ENDED.to_owned());
        }
        if clock::now_ns() - begun > LIMIT_NS {
            return Err("who was to be woken did not wake for 5 s".to_owned());
        }
        // The two may be on one CPU.
        std::thread::yield_now();
    }
}

fn text(rows: &[Row]) -> String {
    let mut out =
        "| way | giver | giver's CPU | taker's CPU | until it runs |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for row in rows {
        let ns = |one: &Interval| format!("{:.0} ({:.0} to {:.0})", one.median, one.low, one.high);
        let times = |one: &Interval| format!("{:.2} ({:.2} to {:.2})", one.median, one.low, one.high);
        let _ = writeln!(
            out,
            "| {}, ns | {} |",
            row.way.name(),
            row.ns.columns().map(ns).join(" | ")
        );
        if let (Some(ratio), Some(other)) = (&row.ratio, row.way.beside()) {
            let told = ratio.columns().map(times).join(" | ");
            let _ = writeln!(out, "| of {} | {told} |", other.name());
        }
    }
    out.push_str("A wake-up each; medians of the rounds, with their intervals.");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_wakes_as_often_as_it_is_asked_to() {
        let args = Args {
            giver_cpu: None,
            taker_cpu: None,
            count: 50,
            rounds: 1,
            json: false,
        };
        for way in WAYS {
            let found = round(way, &args).unwrap();
            assert!(found.columns().into_iter().all(|ns| *ns > 0.0), "{way:?}: {found:?}");
        }
    }

    #[test]
    fn a_giver_that_ends_early_leaves_nobody_asleep() {
        let args = Args {
            giver_cpu: Some(100_000),
            taker_cpu: None,
            count: 5,
            rounds: 1,
            json: false,
        };
        for way in WAYS {
            assert!(round(way, &args).unwrap_err().contains("no CPU 100000"));
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error_and_no_wait() {
        let args = Args {
            giver_cpu: None,
            taker_cpu: Some(100_000),
            count: 5,
            rounds: 1,
            json: false,
        };
        for way in WAYS {
            assert!(round(way, &args).unwrap_err().contains("no CPU 100000"));
        }
    }
}
