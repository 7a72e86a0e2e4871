//! The thread that looks. Should a look panic, it is taken again, and workers are not left at the last level for ever.

use super::sources::{Gauge, Source, nearest, sources};
use super::{Memory, Plan, Shares, mib};
use crate::config::MemoryMax;
use crate::limits::memory as limits;
use crate::resilience::memory::{Figures, Level, Levels, Order, Pressure, share};
use crate::routes::Process;
use crate::runtime::topology::memory::resident_bytes;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Looks for the first time, and has a thread go on with it until `stop` is dropped.
pub(in crate::supervisor) fn watch(plan: Plan, process: &Arc<Process>) -> io::Result<(Memory, Sender<()>)> {
    let (order, orders) = watch::channel(Order::default());
    let (stop, stopped) = channel();
    let shares = Arc::new(watch::Sender::new(Shares {
        limit: plan.limit(),
        workers: process.topology.workers,
    }));
    let memory = Memory {
        orders,
        shares: Arc::clone(&shares),
    };
    if plan.sources.is_empty() {
        return Ok((memory, stop));
    }
    process.registry.watch_memory(Arc::clone(&process.memory));
    let mut watcher = Watcher {
        sources: Sources {
            max: plan.max,
            now: open(plan.sources, Path::new("/"))?,
            looked: Instant::now(),
            shares,
        },
        levels: Levels::default(),
        order,
        process: Arc::clone(process),
        begun: Instant::now(),
        blind: None,
        root: PathBuf::from("/"),
    };
    watcher.look();
    std::thread::Builder::new()
        .name("memory".into())
        .spawn(move || watcher.run(&stopped))?;
    Ok((memory, stop))
}

/// What may end the process, as of the last look at it.
pub(super) struct Sources {
    pub(super) max: MemoryMax,
    pub(super) now: Vec<Gauge>,
    pub(super) looked: Instant,
    pub(super) shares: Arc<watch::Sender<Shares>>,
}

impl Sources {
    /// Looks for other limits than before, and tells the workers.
    pub(super) fn look_again(&mut self, root: &Path) {
        self.looked = Instant::now();
        let Ok(now) = sources(self.max, root) else {
            // Without a descriptor nothing can be looked up: what was true is the best that is known.
            return;
        };
        if now.is_empty() || now.iter().eq(self.now.iter().map(|gauge| &gauge.source)) {
            return;
        }
        let Ok(gauges) = open(now.clone(), root) else { return };
        let limits = now.iter().map(|source| format!("{} ({source})", mib(source.limit())));
        tracing::info!(
            limits = limits.collect::<Vec<_>>().join(", "),
            "memory: the limits have changed"
        );
        let limit = now.iter().map(Source::limit).min();
        self.now = gauges;
        self.shares
            .send_if_modified(|shares| std::mem::replace(&mut shares.limit, limit) != limit);
    }
}

/// # Errors
/// There is no descriptor.
pub(super) fn open(sources: Vec<Source>, root: &Path) -> io::Result<Vec<Gauge>> {
    sources.into_iter().map(|source| Gauge::open(source, root)).collect()
}

struct Watcher {
    sources: Sources,
    levels: Levels,
    order: watch::Sender<Order>,
    process: Arc<Process>,
    begun: Instant,
    /// Since when nothing can be read, if so.
    blind: Option<Blind>,
    /// "/" but in tests.
    root: PathBuf,
}

struct Blind {
    /// By the watcher's clock.
    since: Duration,
    /// It has lasted too long: whatever the level was, it is calm.
    is_calmed: bool,
}

/// Who looks.
trait Look {
    /// Takes a look and says when to take the next.
    fn look(&mut self) -> Duration;

    /// So many looks in a row have panicked.
    fn failed(&mut self, in_a_row: u32);
}

/// Looks until `stopped` is told, or dropped.
fn keep_looking(watcher: &mut impl Look, stopped: &Receiver<()>) {
    let mut failures: u32 = 0;
    let mut pause = Duration::ZERO;
    while matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
        // Figures and levels are plain numbers: whatever a look leaves behind, the next one can go on from.
        match catch_unwind(AssertUnwindSafe(|| watcher.look())) {
            Ok(next) => {
                failures = 0;
                pause = next;
            }
            Err(_) => {
                failures = failures.saturating_add(1);
                let times = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
                pause = limits::LOOK_AGAIN.saturating_mul(times).min(limits::LOOK_AGAIN_MAX);
                watcher.failed(failures);
            }
        }
    }
}

impl Watcher {
    fn run(mut self, stopped: &Receiver<()>) {
        keep_looking(&mut self, stopped);
    }

    fn order(&self, order: Order) {
        // Workers wake for what is new to them only.
        self.order.send_if_modified(|current| {
            let is_new = *current != order;
            *current = order;
            is_new
        });
    }
}

impl Look for Watcher {
    fn look(&mut self) -> Duration {
        let root = self.root.as_path();
        if self.sources.looked.elapsed() >= limits::LIMITS_AGAIN {
            self.sources.look_again(root);
        }
        let now = self.begun.elapsed();
        let Some((source, figures)) = nearest(&mut self.sources.now, root) else {
            return self.see_nothing(now);
        };
        let source = &source.clone();
        if self.blind.take().is_some() {
            tracing::info!(
                used_bytes = figures.used,
                "memory: how much is in use can be read again"
            );
        }
        let before = self.process.memory.level();
        let (order, pause) = self.levels.look(share(figures.used, figures.limit), now);
        let memory: &Pressure = &self.process.memory;
        memory.set_source(&source.to_string());
        memory.set(order.level, figures);
        self.order(order);
        if order.level != before {
            self.tell(source, figures, before, order.level);
        }
        if self.levels.is_in_vain() {
            self.tell_vain(source, figures);
        }
        pause
    }

    fn failed(&mut self, in_a_row: u32) {
        self.process.memory.look_failed();
        let is_calmed = in_a_row >= limits::LOOKS_FAILED && self.process.memory.level() != Level::Calm;
        if is_calmed {
            // What was true of memory is not known to be true any more, and to refuse connections for ever is an outage.
            let figures = self.process.memory.figures().unwrap_or_default();
            self.process.memory.set(Level::Calm, figures);
            let order = self.levels.forget();
            self.order(order);
        }
        tracing::error!(
            in_a_row,
            level = self.process.memory.level().name(),
            "memory: a look at how much is in use has failed by a mistake; the next is taken soon{}",
            if is_calmed {
                ". Until one succeeds, memory counts as not short"
            } else {
                ""
            }
        );
    }
}

impl Watcher {
    /// What is not known is not taken for room: the level stays, for a while.
    fn see_nothing(&mut self, now: Duration) -> Duration {
        let memory = &self.process.memory;
        memory.look_failed();
        let is_new = self.blind.is_none();
        let blind = self.blind.get_or_insert(Blind {
            since: now,
            is_calmed: false,
        });
        let level = memory.level();
        if is_new {
            tracing::warn!(
                level = level.name(),
                "memory: nothing can be read of how much is in use; the level stays as it is for now"
            );
        }
        let mut order = self.levels.blind();
        let is_over = now.saturating_sub(blind.since) >= limits::BLIND_MAX;
        if is_over && !std::mem::replace(&mut blind.is_calmed, true) {
            memory.set(Level::Calm, memory.figures().unwrap_or_default());
            order = self.levels.forget();
            tracing::error!(
                before = level.name(),
                blind_s = limits::BLIND_MAX.as_secs(),
                "memory: nothing could be read for long of how much is in use; until it can, memory counts as not short"
            );
        }
        self.order(order);
        limits::LOOK_BLIND
    }

    fn tell(&self, source: &Source, figures: Figures, before: Level, level: Level) {
        let rss = resident_bytes(Path::new("/"));
        let caches = self.process.registry.cache_bytes();
        macro_rules! say {
            ($how:ident, $what:literal) => {
                tracing::$how!(
                    level = level.name(),
                    before = before.name(),
                    used_bytes = figures.used,
                    working_set_bytes = figures.working_set,
                    limit_bytes = figures.limit,
                    limit = %source,
                    rss_bytes = rss,
                    cache_bytes = caches,
                    $what
                )
            };
        }
        match (before, level) {
            (_, Level::Hard) => {
                say!(
                    error,
                    "memory is short: new connections get health and metrics only, and readiness is 503"
                )
            }
            (Level::Hard, Level::Soft) => say!(warn, "memory is less short: new connections are served again"),
            (_, Level::Soft) => say!(warn, "memory is getting short: caches shrink"),
            (_, Level::Calm) => say!(info, "memory is no longer short"),
        }
    }

    /// Whose memory it is, when it is not the caches'.
    fn tell_vain(&self, source: &Source, figures: Figures) {
        let rss = resident_bytes(Path::new("/"));
        let others = figures.used.saturating_sub(rss);
        let whose = if matches!(source, Source::Group(_)) && others > rss {
            "most of it is not this process's: other processes of the pod, files in memory, or the kernel for them"
        } else {
            "it is this process's own: connections, requests under way, or a leak"
        };
        tracing::warn!(
            used_bytes = figures.used,
            limit_bytes = figures.limit,
            limit = %source,
            rss_bytes = rss,
            cache_bytes = self.process.registry.cache_bytes(),
            others_bytes = others,
            "memory stays short although the caches were made smaller again and again; {whose}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::LABELS;
    use crate::runtime::topology::{Pin, Topology};
    use crate::telemetry::metrics::Registry;

    /// Panics in these looks, and stops behind the last.
    struct Clumsy {
        looks: u32,
        failing: std::ops::Range<u32>,
        last: u32,
        failures: Vec<u32>,
        stop: Option<Sender<()>>,
    }

    impl Look for Clumsy {
        fn look(&mut self) -> Duration {
            self.looks += 1;
            assert!(!self.failing.contains(&self.looks), "a mistake that was asked for");
            if self.looks >= self.last {
                self.stop = None;
            }
            Duration::ZERO
        }

        fn failed(&mut self, in_a_row: u32) {
            self.failures.push(in_a_row);
        }
    }

    #[test]
    fn a_look_that_panics_is_not_the_last() {
        let (stop, stopped) = channel();
        let mut clumsy = Clumsy {
            looks: 0,
            failing: 2..4,
            last: 5,
            failures: Vec::new(),
            stop: Some(stop),
        };
        let begun = Instant::now();
        keep_looking(&mut clumsy, &stopped);
        assert_eq!((clumsy.looks, clumsy.failures), (5, vec![1, 2]));
        assert!(
            begun.elapsed() >= 3 * limits::LOOK_AGAIN,
            "the second pause is twice the first"
        );
    }

    #[test]
    fn a_mistake_that_stays_leaves_no_worker_at_the_hard_level() {
        let (mut watcher, orders) = watcher(Vec::new(), Path::new("/"));
        let process = Arc::clone(&watcher.process);
        let figures = Figures {
            limit: 100,
            used: 90,
            working_set: 90,
        };
        let (hard, _) = watcher.levels.look(900, Duration::ZERO);
        process.memory.set(hard.level, figures);
        watcher.order(hard);
        watcher.failed(1);
        assert_eq!(
            (process.memory.level(), orders.borrow().level),
            (Level::Hard, Level::Hard)
        );
        watcher.failed(2);
        assert_eq!(
            (process.memory.level(), orders.borrow().level),
            (Level::Calm, Level::Calm)
        );
        assert_eq!(orders.borrow().step, hard.step, "no cache shrinks for it");
        assert_eq!(process.memory.looks_failed(), 2);
        // The next look that succeeds finds what is true.
        assert_eq!(watcher.levels.look(900, Duration::from_secs(1)).0.level, Level::Hard);
    }

    fn watcher(now: Vec<Gauge>, root: &Path) -> (Watcher, watch::Receiver<Order>) {
        let (order, orders) = watch::channel(Order::default());
        let process = Process::new(
            "pod".into(),
            Topology::detect(None, Pin::Never),
            Registry::new(LABELS),
            None,
            "embedded",
        );
        let watcher = Watcher {
            sources: Sources {
                max: MemoryMax::Auto,
                now,
                looked: Instant::now(),
                shares: Arc::new(watch::Sender::new(Shares {
                    limit: None,
                    workers: 1,
                })),
            },
            levels: Levels::default(),
            order,
            process,
            begun: Instant::now(),
            blind: None,
            root: root.to_owned(),
        };
        (watcher, orders)
    }

    #[test]
    fn who_sees_nothing_keeps_the_level_and_for_a_while_only() {
        let root = tempfile::tempdir().unwrap();
        let statm = root.path().join("proc/self/statm");
        std::fs::create_dir_all(statm.parent().unwrap()).unwrap();
        let resident = |pages: u64| std::fs::write(&statm, format!("9 {pages} 9 9 9 9 9")).unwrap();
        let limit = 1000 * rustix::param::page_size() as u64;
        let gauges = open(vec![Source::Own(limit, "MEMORY_MAX")], root.path()).unwrap();
        let (mut watcher, orders) = watcher(gauges, root.path());
        let process = Arc::clone(&watcher.process);
        resident(900);
        watcher.look();
        let hard = *orders.borrow();
        assert_eq!((hard.level, hard.may_grow, hard.step), (Level::Hard, false, 1));
        let figures = process.memory.figures();
        std::fs::remove_file(&statm).unwrap();
        assert_eq!(watcher.look(), limits::LOOK_BLIND);
        watcher.see_nothing(limits::BLIND_MAX - Duration::from_secs(1));
        assert_eq!((*orders.borrow(), process.memory.level()), (hard, Level::Hard));
        assert_eq!((process.memory.figures(), process.memory.looks_failed()), (figures, 2));
        // As calm as it was, it may not grow either.
        watcher.see_nothing(limits::BLIND_MAX + Duration::from_secs(1));
        let order = *orders.borrow();
        assert_eq!((order.level, order.may_grow, order.step), (Level::Calm, false, 1));
        assert_eq!(process.memory.level(), Level::Calm);
        // It sees again.
        resident(900);
        watcher.look();
        assert_eq!(orders.borrow().level, Level::Hard);
        assert!(watcher.blind.is_none());
        resident(100);
        watcher.look();
        assert_eq!(
            orders.borrow().level,
            Level::Hard,
            "use was below its end for a moment only"
        );
    }
}
