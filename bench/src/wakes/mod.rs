//! `wakes`: what it costs one worker to wake another that waits in its ring, by a write to an eventfd (what the server does) and
//! by a message from ring to ring (IORING_OP_MSG_RING), each with a system call of its own and with one that is due anyway.
//!
//! That is what a connection costs that is handed over to another worker, beside the queue that it goes through
//! (ARCHITECTURE.md, Balance). Rings are set up as the driver's; the one who is woken sleeps each time.

mod ring;

use std::fmt::Write as _;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ring::Ring;
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

use crate::clock::{self, SECOND_NS};
use crate::print_report;
use crate::stats::Interval;

/// Nanoseconds until who is not woken is given up.
const LIMIT_NS: u64 = 5 * SECOND_NS;
/// Nanoseconds of rest between two wake-ups, so that who is to be woken sleeps again.
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

    fn is_read(self) -> bool {
        matches!(self, Self::Eventfd | Self::EventfdAndEntry)
    }
}

/// Measure what it costs to wake a worker, by an eventfd and by IORING_OP_MSG_RING
///
/// Two threads with rings as the server's: one wakes the other, which sleeps in its ring, --count times; the ways take turns,
/// --rounds times. Prints medians of the rounds: nanoseconds that the giver spends on it, from before to after its system
/// calls; CPU that the taker spends on each (waking, reading, arming, sleeping); how long until it runs.
#[derive(clap::Args)]
#[command(after_help = "Example: roadtrip-bench wakes --giver-cpu 0 --taker-cpu 1")]
pub(crate) struct Args {
    /// CPU of the one who wakes
    #[arg(long)]
    giver_cpu: Option<usize>,
    /// CPU of the one who is woken
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
    giver_ns: Interval,
    taker_cpu_ns: Interval,
    until_it_runs_ns: Interval,
}

/// Of one round, nanoseconds a wake-up.
#[derive(Clone, Copy, Debug)]
struct Found {
    giver: f64,
    taker_cpu: f64,
    until_it_runs: f64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let mut rounds: Vec<Vec<Found>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..args.rounds {
        for (way, found) in WAYS.into_iter().zip(&mut rounds) {
            found.push(round(way, args)?);
        }
    }
    let rows: Vec<Row> = WAYS
        .into_iter()
        .zip(&rounds)
        .filter_map(|(way, found)| {
            let of = |value: fn(&Found) -> f64| Interval::of(&found.iter().map(value).collect::<Vec<_>>());
            Some(Row {
                way,
                giver_ns: of(|one| one.giver)?,
                taker_cpu_ns: of(|one| one.taker_cpu)?,
                until_it_runs_ns: of(|one| one.until_it_runs)?,
            })
        })
        .collect();
    print_report(args.json, &rows, |rows| text(rows))?;
    Ok(ExitCode::SUCCESS)
}

/// What both threads see.
struct Shared {
    /// Descriptor of the taker's ring; 0 before there is one, -1 where there will be none.
    ring: AtomicI32,
    /// When the giver began with the latest wake-up.
    begun_ns: AtomicU64,
    /// Wake-ups that the taker has had.
    taken: AtomicU32,
}

fn round(way: Way, args: &Args) -> Result<Found, String> {
    let counter = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| format!("no eventfd: {e}"))?;
    let shared = Shared {
        ring: AtomicI32::new(0),
        begun_ns: AtomicU64::new(0),
        taken: AtomicU32::new(0),
    };
    std::thread::scope(|scope| {
        let taker = std::thread::Builder::new()
            .name("taker".to_owned())
            .spawn_scoped(scope, || {
                let done = take(way, args, &shared, counter.as_raw_fd());
                if done.is_err() {
                    shared.ring.store(-1, Ordering::Release);
                }
                done
            })
            .map_err(|e| format!("no thread to wake: {e}"))?;
        let given = give(way, args, &shared, &counter);
        if given.is_err() {
            // Who still waits must not wait for ever: any wake-up that it does not expect ends it.
            shared.taken.store(u32::MAX, Ordering::Release);
            let _ = rustix::io::write(&counter, &1_u64.to_ne_bytes());
        }
        let taken = taker.join().unwrap_or_else(|_| Err("the taker panicked".to_owned()));
        let (giver, (taker_cpu, until_it_runs)) = (given?, taken?);
        Ok(Found {
            giver,
            taker_cpu,
            until_it_runs,
        })
    })
}

/// Sleeps in a ring and is woken; CPU and delay of each wake-up.
fn take(way: Way, args: &Args, shared: &Shared, counter: RawFd) -> Result<(f64, f64), String> {
    let failed = |e: std::io::Error| format!("the taker's ring: {e}");
    args.taker_cpu.map_or(Ok(()), clock::pin_to)?;
    let mut ring = Ring::new().map_err(failed)?;
    // With messages too, so that nobody waits for ever where one does not come.
    ring.queue_read(counter).map_err(failed)?;
    ring.submit().map_err(failed)?;
    shared.ring.store(ring.fd(), Ordering::Release);
    let (cpu_before, mut delay_ns) = (clock::thread_cpu_ns(), 0_u64);
    let mut woken = 0;
    while woken < args.count {
        let wakes = ring.wait().map_err(failed)?;
        if shared.taken.load(Ordering::Acquire) == u32::MAX {
            return Err("the giver gave up".to_owned());
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

/// Wakes the taker, each time when it sleeps; what each took the giver.
fn give(way: Way, args: &Args, shared: &Shared, counter: &OwnedFd) -> Result<f64, String> {
    let failed = |e: std::io::Error| format!("the giver's ring: {e}");
    let other = loop_until(|| match shared.ring.load(Ordering::Acquire) {
        0 => None,
        fd => Some(fd),
    })?;
    if other < 0 {
        return Err("the taker has no ring".to_owned());
    }
    clock::while_pinned(args.giver_cpu, || {
        let mut ring = Ring::new().map_err(failed)?;
        let mut spent_ns = 0;
        for number in 1..=args.count {
            std::thread::sleep(REST);
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
            ring.reap().map_err(failed)?;
            loop_until(|| (shared.taken.load(Ordering::Acquire) >= number).then_some(()))?;
        }
        Ok(spent_ns as f64 / f64::from(args.count))
    })?
}

/// Looks until there is something to see.
fn loop_until<T>(look: impl Fn() -> Option<T>) -> Result<T, String> {
    let begun = clock::now_ns();
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if clock::now_ns() - begun > LIMIT_NS {
            return Err("who was to be woken did not wake for 5 s".to_owned());
        }
        // The two may be on one CPU.
        std::thread::yield_now();
    }
}

fn text(rows: &[Row]) -> String {
    let mut out = "| way | giver ns | taker's CPU ns | until it runs, ns |\n| --- | --- | --- | --- |\n".to_owned();
    let told = |one: &Interval| format!("{:.0} ({:.0} to {:.0})", one.median, one.low, one.high);
    for row in rows {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            row.way.name(),
            told(&row.giver_ns),
            told(&row.taker_cpu_ns),
            told(&row.until_it_runs_ns)
        );
    }
    out.push_str("Medians of the rounds, with their intervals, each a wake-up.");
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
            assert!(found.giver > 0.0 && found.taker_cpu > 0.0, "{way:?}: {found:?}");
            assert!(found.until_it_runs > 0.0, "{way:?}: {found:?}");
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
        assert!(round(Way::Eventfd, &args).unwrap_err().contains("no ring"));
    }
}
