//! What the control groups allow of memory, and how much of it is in use.
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst` (memory.max, memory.high, memory.current, memory.stat),
//! `Documentation/admin-guide/cgroup-v1/memory.rst` (memory.limit_in_bytes, memory.usage_in_bytes, memory.stat with
//! `total_` for the group and all below it). A group is killed in when its use reaches its limit and nothing can be
//! taken back, so what counts is use less the pages of files, which the kernel drops first. The kubelet's working set
//! leaves out the inactive ones of these only; a database file that is read often would look like a leak in it.

use super::cgroup::{self, Mount};
use super::{FILE_BYTES_MAX, open_below, try_text};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A small text file of the kernel's that stays open: it can be read where no descriptor is left.
#[derive(Debug)]
struct Kept(File);

impl Kept {
    fn open(root: &Path, path: &Path) -> io::Result<Kept> {
        open_below(root, path).map(Kept)
    }

    /// What it holds now; none where it cannot be read any more, as with a control group that is gone.
    fn text(&self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 8192];
        // From its beginning, which has the kernel put it together anew.
        while (bytes.len() as u64) < FILE_BYTES_MAX {
            let count = match self.0.read_at(&mut chunk, bytes.len() as u64) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            bytes.extend_from_slice(chunk.get(..count)?);
        }
        String::from_utf8(bytes).ok()
    }
}

/// A group that this process is in and that has a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryGroup {
    /// Its folder.
    pub dir: PathBuf,
    /// Bytes.
    pub limit: u64,
    /// The file that holds the limit.
    pub file: &'static str,
    is_v2: bool,
}

/// What a group's memory is used for, bytes; everything of the groups below it included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All that counts against the limit.
    pub all: u64,
    /// Of that, pages of files that were not used lately.
    pub inactive_file: u64,
    /// And those that were.
    pub active_file: u64,
    /// Kernel objects that it gives back when asked to; 0 in v1, which does not tell.
    pub slab_reclaimable: u64,
}

impl Usage {
    /// What cannot be taken back without killing.
    pub fn used(&self) -> u64 {
        let back = [self.inactive_file, self.active_file, self.slab_reclaimable];
        back.iter().fold(self.all, |rest, part| rest.saturating_sub(*part))
    }

    /// As the kubelet and cAdvisor count it (`container_memory_working_set_bytes`).
    pub fn working_set(&self) -> u64 {
        self.all.saturating_sub(self.inactive_file)
    }
}

impl MemoryGroup {
    /// Opens the files that tell its use.
    ///
    /// # Errors
    /// They are not there, as when the group is gone, or there is no descriptor.
    pub fn open(&self, root: &Path) -> io::Result<UsageFiles> {
        let (file, prefix) = if self.is_v2 {
            ("memory.current", "")
        } else {
            ("memory.usage_in_bytes", "total_")
        };
        Ok(UsageFiles {
            all: Kept::open(root, &self.dir.join(file))?,
            stat: Kept::open(root, &self.dir.join("memory.stat"))?,
            prefix,
        })
    }
}

/// What tells a group's use, for as long as there is the group: no descriptor is needed for a look.
#[derive(Debug)]
pub struct UsageFiles {
    all: Kept,
    stat: Kept,
    prefix: &'static str,
}

impl UsageFiles {
    /// The group's use now; none where it cannot be read, as when the group is gone.
    pub fn usage(&self) -> Option<Usage> {
        let all = self.all.text()?.trim().parse().ok()?;
        let stat = self.stat.text()?;
        let mut usage = Usage {
            all,
            ..Usage::default()
        };
        for line in stat.lines() {
            let Some((name, value)) = line.strip_prefix(self.prefix).and_then(|line| line.split_once(' ')) else {
                continue;
            };
            let place = match name {
                "inactive_file" => &mut usage.inactive_file,
                "active_file" => &mut usage.active_file,
                "slab_reclaimable" => &mut usage.slab_reclaimable,
                _ => continue,
            };
            *place = value.trim().parse().unwrap_or(0);
        }
        Some(usage)
    }
}

/// The groups of this process that have a limit, nearest first; those whose limit is more than the machine has are left out.
/// `root` is "/" but in tests.
///
/// # Errors
/// There is no descriptor to look with: what the limits are is not known.
pub fn limited_groups(root: &Path) -> io::Result<Vec<MemoryGroup>> {
    let mut groups = Vec::new();
    let Some(memberships) = try_text(root, "proc/self/cgroup")? else {
        return Ok(groups);
    };
    let mounts = cgroup::mounts(root)?;
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        let holds = |mount: &&Mount| mount.v2 == is_v2 && (is_v2 || mount.controllers.iter().any(|c| c == "memory"));
        // A hierarchy can be mounted twice; the mount that shows the most of the tree sees every limit.
        let Some(mount) = mounts.iter().filter(holds).min_by_key(|mount| mount.group.len()) else {
            continue;
        };
        let files: &[&'static str] = if is_v2 {
            // Above memory.high the kernel slows the group down until it is as good as dead.
            &["memory.max", "memory.high"]
        } else {
            &["memory.limit_in_bytes"]
        };
        for dir in cgroup::upwards(mount, group) {
            // Without the slash behind the mount's top.
            let dir: PathBuf = dir.components().collect();
            // "max" is no number, and no limit.
            let mut limits = Vec::new();
            for file in files {
                limits.extend(cgroup::try_number(root, dir.join(file))?.map(|limit| (limit, *file)));
            }
            if let Some((limit, file)) = limits.into_iter().min_by_key(|(limit, _)| *limit) {
                groups.push(MemoryGroup {
                    dir,
                    limit: limit.max(1),
                    file,
                    is_v2,
                });
            }
        }
    }
    // v1 writes "no limit" as the largest number of whole pages.
    let machine = machine_bytes(root)?.unwrap_or(u64::MAX / 2);
    groups.retain(|group| group.limit < machine);
    Ok(groups)
}

/// Memory of the machine, bytes; none where /proc does not say.
///
/// # Errors
/// There is no descriptor to look with.
pub fn machine_bytes(root: &Path) -> io::Result<Option<u64>> {
    let text = try_text(root, "proc/meminfo")?.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.and_then(|kib| kib.checked_mul(1024)))
}

/// Resident memory of this process, bytes; none where /proc does not say. /proc/self/statm: proc(5). Below "/" the file
/// stays open from the first call on, so that no later one needs a descriptor.
pub fn resident(root: &Path) -> Option<u64> {
    static STATM: OnceLock<Kept> = OnceLock::new();
    let open = || Kept::open(root, Path::new("proc/self/statm"));
    let statm = if root != Path::new("/") {
        open().ok()?.text()?
    } else if let Some(statm) = STATM.get() {
        statm.text()?
    } else {
        let statm = open().ok()?;
        STATM.get_or_init(|| statm).text()?
    };
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64)).filter(|bytes| *bytes > 0)
}

/// The same, for logs and for who does nothing below a bound: 0 where /proc does not say.
pub fn resident_bytes(root: &Path) -> u64 {
    resident(root).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    struct Machine(tempfile::TempDir);

    impl Machine {
        /// With 8 GiB.
        fn new() -> Machine {
            Machine(tempfile::tempdir().unwrap()).file("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n")
        }

        fn file(self, path: &str, text: &str) -> Machine {
            let path = self.0.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn v2(self, group: &str) -> Machine {
            self.file(
                "/proc/self/mountinfo",
                "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            )
            .file("/proc/self/cgroup", &format!("0::{group}\n"))
        }

        fn v1(self, group: &str, mounted: &str) -> Machine {
            let mount = format!("32 31 0:29 {mounted} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
            self.file("/proc/self/mountinfo", &mount)
                .file("/proc/self/cgroup", &format!("4:memory:{group}\n3:cpuset:/\n0::/\n"))
        }

        fn limits(&self) -> Vec<(String, u64, &'static str)> {
            let groups = limited_groups(self.0.path()).unwrap();
            let each = groups.into_iter();
            each.map(|group| (group.dir.display().to_string(), group.limit, group.file))
                .collect()
        }
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn every_group_above_counts_in_version_2() {
        let machine = Machine::new()
            .v2("/kubepods/pod1/app")
            .file("/sys/fs/cgroup/kubepods/pod1/app/memory.max", "4294967296\n")
            .file("/sys/fs/cgroup/kubepods/pod1/app/memory.high", "max\n")
            .file("/sys/fs/cgroup/kubepods/pod1/memory.max", "max\n")
            .file("/sys/fs/cgroup/kubepods/pod1/memory.high", "3221225472\n")
            .file("/sys/fs/cgroup/kubepods/memory.max", "max\n");
        let top = "/sys/fs/cgroup/kubepods/pod1";
        assert_eq!(
            machine.limits(),
            [
                (format!("{top}/app"), 4 * GIB, "memory.max"),
                (top.to_owned(), 3 * GIB, "memory.high"),
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_top() {
        // In a cgroup namespace of version 2; and without one in version 1, where its folder alone is mounted.
        let v2 = Machine::new().v2("/").file("/sys/fs/cgroup/memory.max", "1073741824\n");
        assert_eq!(v2.limits(), [("/sys/fs/cgroup".to_owned(), GIB, "memory.max")]);
        let v1 = Machine::new()
            .v1("/docker/abc", "/docker/abc")
            .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
        let dir = "/sys/fs/cgroup/memory".to_owned();
        assert_eq!(v1.limits(), [(dir, GIB, "memory.limit_in_bytes")]);
    }

    #[test]
    fn no_limit_and_one_beyond_the_machine_are_none() {
        let machine = Machine::new()
            .v1("/a/b", "/")
            .file(
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "9223372036854771712\n",
            )
            .file("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8589934592\n")
            .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(machine.limits(), []);
        assert_eq!(machine_bytes(machine.0.path()).unwrap(), Some(8 * GIB));
        assert_eq!(Machine::new().limits(), [], "no groups at all");
    }

    #[test]
    fn what_counts_leaves_out_what_can_be_taken_back() {
        let stat = "anon 600\nfile 300\nshmem 50\ninactive_file 200\nactive_file 50\nslab_reclaimable 20\nslab 30\n";
        let v2 = Machine::new()
            .v2("/app")
            .file("/sys/fs/cgroup/app/memory.max", "2000\n")
            .file("/sys/fs/cgroup/app/memory.current", "1000\n")
            .file("/sys/fs/cgroup/app/memory.stat", stat);
        let usage = limited_groups(v2.0.path()).unwrap()[0]
            .open(v2.0.path())
            .unwrap()
            .usage()
            .unwrap();
        assert_eq!((usage.all, usage.working_set(), usage.used()), (1000, 800, 730));
        // The figures of the group alone are not those of the groups in it.
        let stat =
            "cache 9\ninactive_file 1\nactive_file 2\ntotal_cache 9\ntotal_inactive_file 300\ntotal_active_file 400\n";
        let v1 = Machine::new()
            .v1("/app", "/")
            .file("/sys/fs/cgroup/memory/app/memory.limit_in_bytes", "2000\n")
            .file("/sys/fs/cgroup/memory/app/memory.usage_in_bytes", "1000\n")
            .file("/sys/fs/cgroup/memory/app/memory.stat", stat);
        let group = limited_groups(v1.0.path()).unwrap().remove(0);
        let usage = group.open(v1.0.path()).unwrap().usage().unwrap();
        assert_eq!((usage.working_set(), usage.used()), (700, 300));
        // Gone since.
        fs::remove_file(v1.0.path().join("sys/fs/cgroup/memory/app/memory.usage_in_bytes")).unwrap();
        assert!(group.open(v1.0.path()).is_err());
    }

    #[test]
    fn this_process_is_resident() {
        assert!(resident_bytes(Path::new("/")) > 500_000);
        assert_eq!(
            (resident(Path::new("/nowhere")), resident_bytes(Path::new("/nowhere"))),
            (None, 0)
        );
    }

    proptest! {
        /// Any bytes in any of the files: no panic, and nothing is used that is more than all.
        #[test]
        fn any_text_is_survived(limit in ".{0,40}", current in ".{0,24}|[0-9]{1,25}", stat in "([a-z_]{1,12} ?[0-9]{0,25}\n?){0,6}") {
            let machine = Machine::new()
                .v2("/app")
                .file("/sys/fs/cgroup/app/memory.max", &limit)
                .file("/sys/fs/cgroup/app/memory.high", "1000")
                .file("/sys/fs/cgroup/app/memory.current", &current)
                .file("/sys/fs/cgroup/app/memory.stat", &stat);
            for group in limited_groups(machine.0.path()).unwrap() {
                if let Some(usage) = group.open(machine.0.path()).ok().and_then(|files| files.usage()) {
                    prop_assert!(usage.used() <= usage.working_set() && usage.working_set() <= usage.all);
                }
            }
        }
    }
}
