//! One thread of the generator: its runtime, its connections, its clock.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use roadtrip_api::runtime::context::precise_now_ns;
use roadtrip_api::runtime::driver::choose::open;
use roadtrip_api::runtime::executor::{Runtime, spawn, spawn_detached};
use roadtrip_api::runtime::time::{sleep, timeout};

use super::desk::Desk;
use super::pace::{Alarm, Paced};
use super::wire::{Wire, connect};
use super::{Gates, Job, Outcome, Protocol, h1, h2};
use crate::clock::{self, SECOND_NS, now_ns, thread_cpu_ns};
use crate::load::arrivals::{Arrivals, Law};
use crate::load::tally::{Snapshot, Tally};
use crate::procfs;

/// Connections opened at once: a burst above the server's backlog would lose SYNs and wait a second for each.
const OPENED_AT_ONCE: usize = 128;
/// Lateness that the kernel may add to a wait, in nanoseconds; 50 us without a word (prctl(2), PR_SET_TIMERSLACK).
const TIMER_SLACK_NS: u64 = 1;

/// What a connection begins with.
enum Opened {
    H1(Wire),
    H2(::h2::client::SendRequest<bytes::Bytes>),
    /// Opened later.
    Not,
}

/// Connections this thread has.
fn share(job: &Job, thread: u32) -> u32 {
    job.connections / job.threads + u32::from(thread < job.connections % job.threads)
}

pub(super) fn run(job: &Arc<Job>, thread: u32, gates: &Gates, sender: Sender<Snapshot>) -> Result<Outcome, String> {
    let prepared = prepare(job, thread);
    if prepared.is_err() {
        gates.failed.store(true, Ordering::Release);
    }
    gates.meet.wait();
    gates.meet.wait();
    let outcome = match &prepared {
        Ok(ready) if !gates.failed.load(Ordering::Acquire) => {
            ready.load(gates.start_ns.load(Ordering::Acquire), sender)
        }
        _ => {
            drop(sender);
            Err("another thread could not begin".to_owned())
        }
    };
    gates.meet.wait();
    gates.meet.wait();
    // Connections close with the runtime, after all have looked.
    match prepared {
        Ok(_) => outcome,
        Err(why) => Err(why),
    }
}

/// A thread that is connected.
struct Ready {
    runtime: Runtime,
    desk: Rc<Desk>,
    opened: RefCell<Vec<Opened>>,
    driver: &'static str,
}

fn prepare(job: &Arc<Job>, thread: u32) -> Result<Ready, String> {
    if let Some(&cpu) = job.cpus.get(thread as usize % job.cpus.len().max(1)) {
        clock::pin_to(cpu)?;
    }
    // Refused where the policy forbids it: then arrivals are up to 50 us late, and the report says so.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
    let alarm = Alarm::new();
    let (inner, _) = open(job.driver).map_err(|e| e.to_string())?;
    let driver = inner.name();
    let runtime = Runtime::new(
        Box::new(Paced::new(inner, Rc::clone(&alarm))),
        job.seed.wrapping_add(u64::from(thread)),
    );
    let desk = Desk::new(Arc::clone(job), thread, alarm);
    let opened = runtime
        .block_on(open_all(Rc::clone(&desk)))
        .map_err(|e| format!("the runtime ended: {e}"))??;
    Ok(Ready {
        runtime,
        desk,
        opened: RefCell::new(opened),
        driver,
    })
}

/// Opens this thread's connections.
///
/// # Errors
/// The first that cannot be opened: a load on fewer connections than asked for would be another measurement.
async fn open_all(desk: Rc<Desk>) -> Result<Vec<Opened>, String> {
    let job = Arc::clone(&desk.job);
    let count = share(&job, desk.thread) as usize;
    if job.short_lived || job.spawn_rate.is_some() {
        // One to see that somebody is there.
        drop(open_one(&desk).await.map_err(|why| unreachable(&job, &why))?);
        return Ok((0..count).map(|_| Opened::Not).collect());
    }
    let mut opened = Vec::with_capacity(count);
    while opened.len() < count {
        let group: Vec<_> = (0..OPENED_AT_ONCE.min(count.saturating_sub(opened.len())))
            .map(|_| {
                let desk = Rc::clone(&desk);
                spawn("connect", async move { open_one(&desk).await })
            })
            .collect();
        for handle in group {
            let one = handle.await.map_err(|e| e.to_string())?;
            opened.push(one.map_err(|why| unreachable(&job, &why))?);
        }
    }
    Ok(opened)
}

fn unreachable(job: &Job, why: &str) -> String {
    format!("cannot open a connection to {}: {why}; is the server up?", job.address)
}

async fn open_one(desk: &Desk) -> Result<Opened, String> {
    match desk.job.protocol {
        Protocol::H1 => connect(desk.job.address, desk.job.tls.as_ref(), desk.job.connect_limit)
            .await
            .map(Opened::H1),
        Protocol::H2 => h2::open(desk).await.map(Opened::H2),
    }
}

impl Ready {
    fn load(&self, start_ns: u64, sender: Sender<Snapshot>) -> Result<Outcome, String> {
        let job = &*self.desk.job;
        let measure_from_ns = start_ns.saturating_add(job.warmup_ns);
        let end_ns = measure_from_ns.saturating_add(job.duration_ns);
        let warmup = job.warmup_ns as f64 / SECOND_NS as f64;
        let seed = job.seed ^ 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(self.desk.thread).wrapping_add(1));
        let law = match &job.law {
            Law::Closed => None,
            Law::Constant(profile) => Some(Law::Constant(profile.with_warmup(warmup))),
            Law::Poisson(profile) => Some(Law::Poisson(profile.with_warmup(warmup))),
            // A log is not warmed up with itself: it begins when the warm-up is over, which then only waits.
            Law::Log(replay, speed) => Some(Law::Log(Arc::clone(replay), *speed)),
        };
        let from_ns = if matches!(law, Some(Law::Log(..))) {
            measure_from_ns
        } else {
            start_ns
        };
        let arrivals = law.map(|law| Arrivals::new(law, self.desk.thread, job.threads, from_ns, end_ns, seed));
        self.desk.open(measure_from_ns, end_ns, arrivals);
        let (cpu_before, starved_before) = (thread_cpu_ns(), procfs::this_thread_starved_ns());
        let root = root(
            Rc::clone(&self.desk),
            self.opened.take(),
            measure_from_ns,
            end_ns,
            sender,
        );
        self.runtime
            .block_on(root)
            .map_err(|e| format!("the runtime ended: {e}"))?;
        let classes = job.source.class_names().len();
        let tally = self.desk.tally.replace(Tally::new(classes));
        Ok(Outcome {
            elapsed_ns: tally.last_answer_ns.saturating_sub(measure_from_ns),
            wall_ns: now_ns().saturating_sub(start_ns),
            cpu_ns: thread_cpu_ns().saturating_sub(cpu_before),
            starved_ns: procfs::this_thread_starved_ns().saturating_sub(starved_before),
            driver: self.driver,
            tally,
        })
    }
}

/// Starts everything, and waits until all is answered, or until nobody need wait any longer.
async fn root(desk: Rc<Desk>, opened: Vec<Opened>, measure_from_ns: u64, end_ns: u64, sender: Sender<Snapshot>) {
    let job = Arc::clone(&desk.job);
    for (place, one) in opened.into_iter().enumerate() {
        let place = place as u64 * u64::from(job.threads) + u64::from(desk.thread);
        let delay = job
            .spawn_rate
            .map(|rate| Duration::from_secs_f64((place as f64 / rate).min(86_400.0)));
        begin(&desk, one, delay);
    }
    let pacer = Rc::clone(&desk);
    spawn_detached("pace", async move {
        std::future::poll_fn(|cx| pacer.poll_pace(cx)).await;
    });
    if job.law.rate().is_none() {
        let desk = Rc::clone(&desk);
        spawn_detached("end", async move {
            sleep(Duration::from_nanos(end_ns.saturating_sub(precise_now_ns()))).await;
            desk.close();
        });
    }
    let ticker = spawn("tick", tick(Rc::clone(&desk), measure_from_ns, sender.clone()));
    // What was due is sent even after the end, or its delay would go unseen; but not for ever.
    let limit = Duration::from_nanos(end_ns.saturating_sub(precise_now_ns())).saturating_add(job.answer_limit);
    let quiet = timeout(limit, std::future::poll_fn(|cx| desk.poll_quiet(cx))).await;
    if quiet.is_err() {
        desk.give_up();
    }
    ticker.abort();
    let index = index_at(precise_now_ns(), measure_from_ns, job.interval_ns);
    let last = desk.tally.borrow_mut().roll(index, 0);
    // Nobody listens only where the run has failed already.
    let _ = sender.send(last);
}

fn begin(desk: &Rc<Desk>, one: Opened, delay: Option<Duration>) {
    let job = &*desk.job;
    let wait = async move {
        if let Some(delay) = delay {
            sleep(delay).await;
        }
    };
    let desk = Rc::clone(desk);
    match (job.protocol, one) {
        (Protocol::H1, _) if job.short_lived => spawn_detached("user", async move {
            wait.await;
            h1::short(desk).await;
        }),
        (Protocol::H1, one) => spawn_detached("connection", async move {
            wait.await;
            let wire = match one {
                Opened::H1(wire) => Some(wire),
                _ => None,
            };
            // Kept open until the runtime ends: others may be looking at the server's memory.
            let _open = h1::keep(desk, wire).await;
            std::future::pending::<()>().await;
        }),
        (Protocol::H2, one) => {
            let trunk = h2::Trunk::new(match one {
                Opened::H2(sender) => Some(sender),
                _ => None,
            });
            spawn_detached("connection", async move {
                wait.await;
                let (depth, fresh) = (desk.job.depth, desk.job.short_lived);
                for _ in 1..depth {
                    spawn_detached("stream", h2::serve(Rc::clone(&desk), Rc::clone(&trunk), fresh));
                }
                h2::serve(desk, Rc::clone(&trunk), fresh).await;
                std::future::pending::<()>().await;
                drop(trunk);
            });
        }
    }
}

/// Number of the interval that ends at `now_ns` or holds it.
fn index_at(now_ns: u64, measure_from_ns: u64, interval_ns: u64) -> i64 {
    let after = i128::from(now_ns).saturating_sub(i128::from(measure_from_ns));
    i64::try_from(after.div_euclid(i128::from(interval_ns.max(1)))).unwrap_or(i64::MAX)
}

/// Tells of each interval when it is over.
async fn tick(desk: Rc<Desk>, measure_from_ns: u64, sender: Sender<Snapshot>) {
    let interval_ns = desk.job.interval_ns.max(1);
    loop {
        let now = precise_now_ns();
        let index = index_at(now, measure_from_ns, interval_ns);
        let ends = i128::from(measure_from_ns) + (i128::from(index) + 1) * i128::from(interval_ns);
        let left = u64::try_from(ends - i128::from(now)).unwrap_or(0);
        sleep(Duration::from_nanos(left)).await;
        let in_flight = desk.in_flight();
        let done = desk.tally.borrow_mut().roll(index, in_flight);
        if sender.send(done).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_numbered_from_the_end_of_the_warm_up() {
        assert_eq!(index_at(1_000, 1_000, 10), 0);
        assert_eq!(index_at(1_009, 1_000, 10), 0);
        assert_eq!(index_at(1_010, 1_000, 10), 1);
        assert_eq!(index_at(999, 1_000, 10), -1);
        assert_eq!(index_at(985, 1_000, 10), -2);
    }
}
