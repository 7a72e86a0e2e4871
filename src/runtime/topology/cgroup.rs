//! What the control groups allow: CPU quota, CPU set, and the marks of a container in them.
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst` (cpu.max, cpuset.cpus.effective, cpu.weight),
//! `Documentation/scheduler/sched-bwc.rst` (cpu.cfs_quota_us), proc(5) (/proc/self/cgroup, /proc/self/mountinfo).
//! On hybrid systems each controller lives in one of the two hierarchies; both are looked at, and the files that
//! exist decide.

use super::read_text;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What the groups of this process say.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The tightest quota, in CPUs, and the group that holds it.
    pub(super) quota: Option<(f64, PathBuf)>,
    /// CPUs of the cpuset, and the file that said so.
    pub(super) cpuset: Option<(Vec<usize>, PathBuf)>,
    /// Share of CPU time in v1's `cpu.shares`, of the process's own group.
    pub(super) shares_v1: Option<u64>,
    /// The same in v2's `cpu.weight`.
    pub(super) weight_v2: Option<u64>,
    /// A mark of a container in names or mounts of groups, in words.
    pub(super) container: Option<String>,
    /// The group paths name Kubernetes pods.
    pub(super) kubernetes: bool,
    /// What could not be understood.
    pub(super) warnings: Vec<String>,
}

/// A mounted hierarchy.
#[derive(Debug)]
pub(super) struct Mount {
    /// The group that is mounted ("/" but for containers without a cgroup namespace).
    pub(super) group: String,
    /// Where.
    at: PathBuf,
    /// v1's controllers; empty for v2.
    pub(super) controllers: Vec<String>,
    pub(super) v2: bool,
}

/// Group names that container runtimes give.
const RUNTIME_NAMES: [&str; 8] = [
    "docker",
    "kubepods",
    "libpod",
    "containerd",
    "crio",
    "lxc",
    "garden",
    "machine-",
];

/// Groups deeper than this are not looked at: no real tree is, and a loop of links must end.
const DEPTH_MAX: usize = 64;

/// Looks at the groups of this process below `root` ("/" in production).
pub(super) fn inspect(root: &Path) -> Groups {
    let mut groups = Groups::default();
    let Some(memberships) = read_text(root, "proc/self/cgroup") else {
        groups
            .warnings
            .push("/proc/self/cgroup cannot be read: no CPU quota is taken into account".to_owned());
        return groups;
    };
    let mounts = mounts(root).unwrap_or_default();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        groups.note_names(group);
        if controllers.is_empty() {
            for mount in mounts.iter().filter(|mount| mount.v2) {
                groups.read_v2(root, mount, group);
            }
            continue;
        }
        for controller in controllers.split(',') {
            let holds = |mount: &&Mount| mount.controllers.iter().any(|c| c == controller);
            // A hierarchy can be mounted twice; the mount that shows the most of the tree sees every quota.
            let Some(mount) = mounts.iter().filter(holds).min_by_key(|mount| mount.group.len()) else {
                continue;
            };
            match controller {
                "cpu" => groups.read_v1_quota(root, mount, group),
                "cpuset" => groups.read_cpuset(root, mount, group, &["cpuset.effective_cpus", "cpuset.cpus"]),
                _ => {}
            }
        }
    }
    groups
}

impl Groups {
    fn note_names(&mut self, group: &str) {
        self.kubernetes |= group.contains("kubepods");
        if self.container.is_none()
            && let Some(name) = RUNTIME_NAMES.iter().find(|name| group.contains(**name))
        {
            self.container = Some(format!(
                "the control group is named after {}",
                name.trim_end_matches('-')
            ));
        }
    }

    fn read_v2(&mut self, root: &Path, mount: &Mount, group: &str) {
        self.note_mount(mount);
        // The true root has no cgroup.type: where the mount's top has one, a cgroup namespace hides what is above.
        if self.container.is_none() && inside(root, &mount.at).join("cgroup.type").exists() {
            self.container = Some("the control group root is that of a cgroup namespace".to_owned());
        }
        for dir in upwards(mount, group) {
            let Some(text) = read_text(root, dir.join("cpu.max")) else {
                continue;
            };
            let mut fields = text.split_whitespace();
            match (
                fields.next(),
                fields.next().map_or(Some(100_000), |period| period.parse::<u64>().ok()),
            ) {
                (Some("max"), _) => {}
                (Some(quota), Some(period)) if quota.parse::<u64>().is_ok() && period > 0 => {
                    self.tighten(quota.parse().unwrap_or(u64::MAX), period, dir);
                }
                _ => self.not_understood(&dir.join("cpu.max"), &text),
            }
        }
        if let Some(own) = upwards(mount, group).first() {
            self.weight_v2 = read_number(root, own.join("cpu.weight")).or(self.weight_v2);
        }
        self.read_cpuset(root, mount, group, &["cpuset.cpus.effective"]);
    }

    fn read_v1_quota(&mut self, root: &Path, mount: &Mount, group: &str) {
        self.note_mount(mount);
        for dir in upwards(mount, group) {
            let Some(text) = read_text(root, dir.join("cpu.cfs_quota_us")) else {
                continue;
            };
            let period = read_number(root, dir.join("cpu.cfs_period_us")).filter(|period| *period > 0);
            match (text.trim().parse::<i64>(), period) {
                (Ok(quota), _) if quota < 0 => {}
                (Ok(quota), Some(period)) if quota > 0 => self.tighten(quota.unsigned_abs(), period, dir),
                _ => self.not_understood(&dir.join("cpu.cfs_quota_us"), &text),
            }
        }
        if let Some(own) = upwards(mount, group).first() {
            self.shares_v1 = read_number(root, own.join("cpu.shares"));
        }
    }

    /// The effective set already holds what the parents allow, so the nearest file that says anything decides.
    fn read_cpuset(&mut self, root: &Path, mount: &Mount, group: &str, files: &[&str]) {
        self.note_mount(mount);
        if self.cpuset.is_some() {
            return;
        }
        for dir in upwards(mount, group) {
            for file in files {
                let Some(text) = read_text(root, dir.join(file)).filter(|text| !text.trim().is_empty()) else {
                    continue;
                };
                match super::parse_cpu_list(&text) {
                    Some(cpus) if !cpus.is_empty() => {
                        self.cpuset = Some((cpus, dir.join(file)));
                        return;
                    }
                    _ => self.not_understood(&dir.join(file), &text),
                }
            }
        }
    }

    fn note_mount(&mut self, mount: &Mount) {
        if self.container.is_none() && mount.group != "/" {
            self.container = Some("the control group mounted here is not the root of its hierarchy".to_owned());
        }
    }

    fn tighten(&mut self, quota_us: u64, period_us: u64, dir: PathBuf) {
        // The quotient of two integers below 2^53 is correctly rounded: 300000/100000 is 3, not 3.0000001.
        let cpus = quota_us as f64 / period_us as f64;
        if self.quota.as_ref().is_none_or(|(tightest, _)| cpus < *tightest) {
            self.quota = Some((cpus, dir));
        }
    }

    fn not_understood(&mut self, file: &Path, text: &str) {
        let text: String = text.trim().chars().take(40).collect();
        self.warnings.push(format!(
            "{} holds {text:?}, which is not understood and is ignored",
            file.display()
        ));
    }
}

/// The process's own group and every parent up to the mount's top, nearest first, as paths of the real root.
pub(super) fn upwards(mount: &Mount, group: &str) -> Vec<PathBuf> {
    let below = group
        .strip_prefix(mount.group.trim_end_matches('/'))
        .unwrap_or_default();
    let below = Path::new(below.trim_start_matches('/'));
    // "/../x": a process moved out of its cgroup namespace. What lies there is not mounted; the top is all there is.
    let below = if below.components().all(|c| matches!(c, Component::Normal(_))) {
        below
    } else {
        Path::new("")
    };
    let mut dirs = Vec::new();
    let mut dir = mount.at.join(below);
    while dir.starts_with(&mount.at) && dirs.len() < DEPTH_MAX {
        dirs.push(dir.clone());
        if !dir.pop() {
            break;
        }
    }
    dirs
}

/// Mounted control group hierarchies, by mountinfo; where that cannot be read, the usual places.
///
/// # Errors
/// See [`super::try_text`].
pub(super) fn mounts(root: &Path) -> io::Result<Vec<Mount>> {
    let found: Vec<Mount> = super::try_text(root, "proc/self/mountinfo")?
        .unwrap_or_default()
        .lines()
        .filter_map(parse_mount)
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let v1 = |controller: &str, at: &str| Mount {
        group: "/".to_owned(),
        at: PathBuf::from(at),
        controllers: vec![controller.to_owned()],
        v2: false,
    };
    let v2 = |at: &str| Mount {
        group: "/".to_owned(),
        at: PathBuf::from(at),
        controllers: Vec::new(),
        v2: true,
    };
    let usual = vec![
        v1("cpu", "/sys/fs/cgroup/cpu"),
        v1("cpu", "/sys/fs/cgroup/cpu,cpuacct"),
        v1("cpuset", "/sys/fs/cgroup/cpuset"),
        v1("memory", "/sys/fs/cgroup/memory"),
        v2("/sys/fs/cgroup"),
        v2("/sys/fs/cgroup/unified"),
    ];
    Ok(usual
        .into_iter()
        .filter(|mount| inside(root, &mount.at).is_dir())
        .collect())
}

/// One line of mountinfo: `id parent major:minor root mountpoint options [tags...] - type source superoptions`.
fn parse_mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let v2 = match kind.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let options = kind.nth(1)?;
    let mut place = place.split(' ').skip(3);
    let (group, at) = (unescape(place.next()?), unescape(place.next()?));
    let controllers = if v2 {
        Vec::new()
    } else {
        options.split(',').map(str::to_owned).collect()
    };
    // "/..": mounted from outside of this cgroup namespace; seen from here it is the top.
    let group = if group.starts_with("/..") {
        "/".to_owned()
    } else {
        group
    };
    Some(Mount {
        group,
        at: PathBuf::from(at),
        controllers,
        v2,
    })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

pub(super) fn read_number(root: &Path, file: impl AsRef<Path>) -> Option<u64> {
    try_number(root, file).unwrap_or_default()
}

/// The same, but for what [`super::try_text`] gives as an error.
pub(super) fn try_number(root: &Path, file: impl AsRef<Path>) -> io::Result<Option<u64>> {
    let text = super::try_text(root, file)?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// A path of the real root, seen below `root`.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
