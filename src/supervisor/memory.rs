//! Looks at how much memory is in use, and tells the workers before the kernel kills the process.
//!
//! What can kill it: a control group of this process that reaches its limit, by whatever process of the pod; and this
//! process alone where MEMORY_MAX names a size, or where no group has a limit, against the machine's memory. Of these
//! the one that is nearest to its limit counts. A thread of its own looks (the files of a control group can take the
//! kernel a while), seldom while there is room and often when there is not: see
//! [`Levels`](crate::resilience::memory::Levels).

mod obey;
mod watch;

pub(super) use watch::watch;

use super::boot::Shared;
use crate::config::{Config, MemoryMax};
use crate::limits::{cache, memory as limits};
use crate::resilience::memory::{Figures, Order, part, share};
use crate::runtime::topology::memory::{MemoryGroup, limited_groups, machine_bytes, resident_bytes};
use std::fmt;
use std::path::Path;
use tokio::sync::watch::Receiver;

/// What may end the process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A control group and all that is in it.
    Group(MemoryGroup),
    /// This process alone, by a number of that name.
    Own(u64, &'static str),
}

impl Source {
    fn limit(&self) -> u64 {
        match self {
            Source::Group(group) => group.limit,
            Source::Own(limit, _) => *limit,
        }
    }

    /// Its use now, if that can be read.
    fn figures(&self, root: &Path) -> Option<Figures> {
        let limit = self.limit();
        match self {
            Source::Group(group) => group.usage(root).map(|usage| Figures {
                limit,
                used: usage.used(),
                working_set: usage.working_set(),
            }),
            Source::Own(..) => Some(resident_bytes(root))
                .filter(|bytes| *bytes > 0)
                .map(|bytes| Figures {
                    limit,
                    used: bytes,
                    working_set: bytes,
                }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Group(group) => write!(f, "{}/{}", group.dir.display(), group.file),
            Source::Own(_, name) => f.write_str(name),
        }
    }
}

fn sources(max: MemoryMax, root: &Path) -> Vec<Source> {
    if max == MemoryMax::Off {
        return Vec::new();
    }
    let mut sources: Vec<Source> = limited_groups(root).into_iter().map(Source::Group).collect();
    match max {
        MemoryMax::Bytes(bytes) => sources.push(Source::Own(bytes, "MEMORY_MAX")),
        // Where the machine runs out, the kernel takes the largest process, which may be this one.
        _ if sources.is_empty() => {
            sources.extend(machine_bytes(root).map(|bytes| Source::Own(bytes, "the machine's memory")));
        }
        _ => {}
    }
    sources
}

/// The one that is nearest to its limit; none where nothing can be read.
fn nearest<'s>(sources: &'s [Source], root: &Path) -> Option<(&'s Source, Figures)> {
    let read = sources
        .iter()
        .filter_map(|source| Some((source, source.figures(root)?)));
    read.max_by_key(|(_, figures)| share(figures.used, figures.limit))
}

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
            sources: sources(config.memory_max, root),
            reasons: Vec::new(),
            warnings: Vec::new(),
        };
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

/// What a worker needs to know.
#[derive(Clone)]
pub(super) struct Memory {
    orders: Receiver<Order>,
    limit: Option<u64>,
}

impl Memory {
    /// PENDING_BYTES_MAX of each worker.
    pub(super) fn pending_bytes(&self, asked: usize, workers: usize) -> usize {
        pending_bytes(asked, self.limit, workers as u64)
    }
}

/// See [`Memory::pending_bytes`].
pub(super) fn pending_bytes_of(shared: &Shared) -> usize {
    let workers = shared.process.topology.workers;
    shared.memory.pending_bytes(shared.config.pending_bytes_max, workers)
}

#[cfg(test)]
mod tests {
    use super::*;

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
                format!("9 {} 9 9 9 9 9", (3u64 << 30) / rustix::param::page_size() as u64),
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
        let sources = sources(max, root);
        let (source, figures) = nearest(&sources, root)?;
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
        let own = ("MEMORY_MAX".to_owned(), 750);
        assert_eq!(nearest_of(MemoryMax::Bytes(4 << 30), pod.path()), Some(own));
        assert_eq!(nearest_of(MemoryMax::Bytes(7 << 30), pod.path()), Some((group, 500)));
        // Without a limit, the machine's memory.
        std::fs::write(pod.path().join("sys/fs/cgroup/memory.max"), "max\n").unwrap();
        let machine = ("the machine's memory".to_owned(), 375);
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
        let [pending, cache] = &plan.warnings[..] else {
            panic!("{:?}", plan.warnings);
        };
        assert!(
            pending.contains("PENDING_BYTES_MAX is taken as 16M, not 64M"),
            "{pending}"
        );
        assert!(
            cache.contains("CACHE_BYTES=2048M") && cache.contains("Set it to 48M or less"),
            "{cache}"
        );
        let plan = Plan::below(pod.path(), &config(&[("MEMORY_MAX", "off"), ("CACHE_BYTES", "2G")]), 2);
        assert_eq!((plan.limit(), plan.warnings.len()), (None, 0));
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
