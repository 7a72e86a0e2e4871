//! Looks at how much memory is in use, and tells the workers before the kernel kills the process.
//!
//! What can kill it: a control group of this process that reaches its limit, by whatever process of the pod; and this
//! process alone where MEMORY_MAX names a size, or where no group has a limit, against the machine's memory. Of these
//! the one that is nearest to its limit counts. A thread of its own looks (the files of a control group can take the
//! kernel a while), seldom while there is room and often when there is not: see
//! [`Levels`](crate::resilience::memory::Levels).

mod obey;
mod sources;
mod watch;

pub(super) use watch::watch;

use crate::config::{Config, MemoryMax};
use crate::limits::{cache, memory as limits};
use crate::resilience::memory::{Order, part};
use crate::routes::Api;
use crate::runtime::topology::memory::resident;
use crate::server::Server;
use sources::{Source, sources};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch::{Receiver, Sender};

/// What is known of memory before anything runs.
#[derive(Debug)]
pub struct Plan {
    max: MemoryMax,
    sources: Vec<Source>,
    /// What holds, in words.
    pub reasons: Vec<String>,
    /// What the operator should look at.
    pub warnings: Vec<String>,
}

impl Plan {
    /// For a process of so many workers.
    pub fn of(config: &Config, workers: usize) -> Plan {
        Plan::below(Path::new("/"), config, workers)
    }

    fn below(root: &Path, config: &Config, workers: usize) -> Plan {
        let mut plan = Plan {
            max: config.memory_max,
            sources: Vec::new(),
            reasons: Vec::new(),
            warnings: Vec::new(),
        };
        match sources(config.memory_max, root) {
            Ok(sources) => plan.sources = sources,
            Err(error) => plan
                .warnings
                .push(format!("what the limits of memory are cannot be read: {error}")),
        }
        let Some(limit) = plan.limit() else {
            plan.reasons.push(match config.memory_max {
                MemoryMax::Off => "MEMORY_MAX=off: nobody looks how much is in use".to_owned(),
                _ => "no limit is known".to_owned(),
            });
            return plan;
        };
        for source in &plan.sources {
            let limit = source.limit();
            plan.reasons.push(format!(
                "limit {} ({source}): caches shrink from {} on, new connections are refused from {}",
                mib(limit),
                mib(part(limit, limits::SOFT)),
                mib(part(limit, limits::HARD))
            ));
        }
        let workers = workers as u64;
        let pending = pending_bytes(config.pending_bytes_max, Some(limit), workers);
        if pending < config.pending_bytes_max {
            plan.warnings.push(format!(
                "PENDING_BYTES_MAX is taken as {}, not {}: {workers} workers have it twice each, and may have a quarter of \
                 the memory with it",
                mib(pending as u64),
                mib(config.pending_bytes_max as u64)
            ));
        }
        if let Some(own) = resident(root).filter(|own| *own > part(limit, limits::SOFT_END)) {
            plan.warnings.push(format!(
                "this process has {} before it serves, which is more than 70 % of the {} that there are: it does not fit, and will \
                 refuse new connections. Give it more memory",
                mib(own),
                mib(limit)
            ));
        }
        let room = part(limit, limits::SOFT);
        let wanted = (config.cache_bytes as u64).saturating_mul(workers);
        if wanted > room {
            plan.warnings.push(format!(
                "CACHE_BYTES={} for each of {workers} workers is more than the {} of memory up to which caches are left alone: \
                 they will be kept smaller. Set it to {} or less, or give the pod more memory",
                mib(config.cache_bytes as u64),
                mib(room),
                mib(room / 2 / workers.max(1))
            ));
        }
        plan
    }

    /// The least limit, bytes.
    fn limit(&self) -> Option<u64> {
        self.sources.iter().map(Source::limit).min()
    }
}

fn mib(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes < 1 << 20 => format!("{}K", bytes >> 10),
        bytes => format!("{}M", bytes >> 20),
    }
}

/// PENDING_BYTES_MAX as it holds: all workers together, twice each (requests and answers), have at most their part of the
/// limit.
fn pending_bytes(asked: usize, limit: Option<u64>, workers: u64) -> usize {
    let Some(limit) = limit else { return asked };
    let each = limit / limits::PENDING_PART / workers.max(1).saturating_mul(2);
    // A few bodies fit in any case.
    let each = each.max(cache::ENTRY_FRACTION * crate::limits::http::BODY_BYTES_MAX as u64);
    asked.min(usize::try_from(each).unwrap_or(usize::MAX))
}

/// What is divided, and by how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    /// The least limit, bytes.
    limit: Option<u64>,
    workers: usize,
}

impl Shares {
    fn pending_bytes(self, asked: usize) -> usize {
        pending_bytes(asked, self.limit, self.workers as u64)
    }
}

/// What a worker needs to know.
#[derive(Clone)]
pub(super) struct Memory {
    orders: Receiver<Order>,
    shares: Arc<Sender<Shares>>,
}

impl Memory {
    /// PENDING_BYTES_MAX of each worker, as it is now.
    pub(super) fn pending_bytes(&self, asked: usize) -> usize {
        self.shares.borrow().pending_bytes(asked)
    }

    /// There are to be so many workers from now on.
    pub(super) fn divide_by(&self, workers: usize) {
        self.shares
            .send_if_modified(|shares| std::mem::replace(&mut shares.workers, workers) != workers);
    }

    /// Runs for as long as the worker, and keeps its PENDING_BYTES_MAX within its part of the memory, which a resize of the
    /// pod and other numbers of workers change.
    pub(super) async fn keep_share(self, server: Rc<Server<Api>>, asked: usize) {
        let mut shares = self.shares.subscribe();
        let mut known = server.pending_bytes_max();
        loop {
            let bytes = shares.borrow_and_update().pending_bytes(asked);
            if bytes != known {
                known = bytes;
                server.set_pending_bytes_max(bytes);
                tracing::info!("memory: PENDING_BYTES_MAX of a worker is {} now", mib(bytes as u64));
            }
            if shares.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sources::nearest;
    use super::watch::{Sources, open};
    use super::*;
    use crate::resilience::memory::share;
    use std::time::Instant;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let env = [("DATA_DIR", "d")].iter().chain(pairs);
        Config::read(env.map(|(name, value)| (name.into(), value.into()))).unwrap()
    }

    /// A machine with 8 GiB, and a container with 4, of which 3.6 are in use, 1.6 of it by files.
    fn pod() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("proc/meminfo", "MemTotal: 8388608 kB\n".to_owned()),
            (
                "proc/self/statm",
                format!("9 {} 9 9 9 9 9", (5u64 << 29) / rustix::param::page_size() as u64),
            ),
            ("proc/self/cgroup", "0::/\n".to_owned()),
            (
                "proc/self/mountinfo",
                "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n".to_owned(),
            ),
            ("sys/fs/cgroup/memory.max", "4294967296\n".to_owned()),
            ("sys/fs/cgroup/memory.current", "3865470566\n".to_owned()),
            (
                "sys/fs/cgroup/memory.stat",
                "inactive_file 644245094\nactive_file 1073741824\n".to_owned(),
            ),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn nearest_of(max: MemoryMax, root: &Path) -> Option<(String, u32)> {
        let mut gauges = open(sources(max, root).unwrap(), root).unwrap();
        let (source, figures) = nearest(&mut gauges, root)?;
        Some((source.to_string(), share(figures.used, figures.limit)))
    }

    #[test]
    fn what_is_nearest_to_its_limit_counts() {
        let pod = pod();
        // Files do not count.
        let group = "/sys/fs/cgroup/memory.max".to_owned();
        assert_eq!(nearest_of(MemoryMax::Auto, pod.path()), Some((group.clone(), 500)));
        assert_eq!(nearest_of(MemoryMax::Off, pod.path()), None);
        // By hand it is this process that counts, and the group still does.
        let own = ("MEMORY_MAX".to_owned(), 625);
        assert_eq!(nearest_of(MemoryMax::Bytes(4 << 30), pod.path()), Some(own));
        assert_eq!(nearest_of(MemoryMax::Bytes(7 << 30), pod.path()), Some((group, 500)));
        // Without a limit, the machine's memory.
        std::fs::write(pod.path().join("sys/fs/cgroup/memory.max"), "max\n").unwrap();
        let machine = ("the machine's memory".to_owned(), 312);
        assert_eq!(nearest_of(MemoryMax::Auto, pod.path()), Some(machine));
        assert_eq!(nearest_of(MemoryMax::Auto, Path::new("/nowhere")), None);
    }

    #[test]
    fn the_plan_says_what_holds_and_what_does_not_fit() {
        let pod = pod();
        let plan = Plan::below(pod.path(), &config(&[]), 2);
        assert_eq!(
            plan.reasons,
            [
                "limit 4096M (/sys/fs/cgroup/memory.max): caches shrink from 3072M on, new connections are refused from 3584M"
            ]
        );
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        let plan = Plan::below(pod.path(), &config(&[("CACHE_BYTES", "2G"), ("MEMORY_MAX", "256M")]), 2);
        assert_eq!(plan.reasons.len(), 2);
        let [pending, own, cache] = &plan.warnings[..] else {
            panic!("{:?}", plan.warnings);
        };
        assert!(
            pending.contains("PENDING_BYTES_MAX is taken as 16M, not 64M"),
            "{pending}"
        );
        assert!(
            own.contains("2560M before it serves") && own.contains("the 256M"),
            "{own}"
        );
        assert!(
            cache.contains("CACHE_BYTES=2048M") && cache.contains("Set it to 48M or less"),
            "{cache}"
        );
        let plan = Plan::below(pod.path(), &config(&[("MEMORY_MAX", "off"), ("CACHE_BYTES", "2G")]), 2);
        assert_eq!((plan.limit(), plan.warnings.len()), (None, 0));
    }

    #[test]
    fn the_part_of_each_worker_follows_the_limit_and_the_number_of_workers() {
        let pod = pod();
        let config = config(&[]);
        let plan = Plan::below(pod.path(), &config, 2);
        let shares = Arc::new(Sender::new(Shares {
            limit: plan.limit(),
            workers: 2,
        }));
        let mut told = shares.subscribe();
        let mut sources = Sources {
            max: plan.max,
            now: open(plan.sources, pod.path()).unwrap(),
            looked: Instant::now(),
            shares: Arc::clone(&shares),
        };
        let memory = Memory {
            orders: tokio::sync::watch::channel(Order::default()).1,
            shares,
        };
        let asked = config.pending_bytes_max;
        assert_eq!(memory.pending_bytes(asked), 64 << 20);
        let mut resize = |bytes: u64| {
            std::fs::write(pod.path().join("sys/fs/cgroup/memory.max"), format!("{bytes}\n")).unwrap();
            sources.look_again(pod.path());
        };
        resize(512 << 20);
        assert!(told.has_changed().unwrap());
        assert_eq!(told.borrow_and_update().pending_bytes(asked), 32 << 20);
        // Nothing new wakes nobody.
        resize(512 << 20);
        memory.divide_by(2);
        assert!(!told.has_changed().unwrap());
        memory.divide_by(4);
        assert!(told.has_changed().unwrap());
        assert_eq!(memory.pending_bytes(asked), 16 << 20);
        resize(4 << 30);
        memory.divide_by(1);
        assert_eq!(memory.pending_bytes(asked), asked);
    }

    #[test]
    fn budgets_of_all_workers_have_their_part_of_the_limit() {
        let mib = |mib: usize| mib << 20;
        assert_eq!(pending_bytes(mib(64), None, 4), mib(64));
        assert_eq!(pending_bytes(mib(64), Some(4 << 30), 4), mib(64));
        assert_eq!(pending_bytes(mib(64), Some(512 << 20), 4), mib(16));
        assert_eq!(pending_bytes(mib(64), Some(16 << 20), 64), mib(1));
        assert_eq!(pending_bytes(0, Some(16 << 20), 64), 0);
    }
}
