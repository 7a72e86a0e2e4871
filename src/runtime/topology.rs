//! How many workers, and on which CPUs: decided once, before the first worker starts.
//!
//! Workers = usable CPUs = the least of the CFS quota (control groups v1 and v2, the process's own group and every
//! parent up to the mount's top, rounded up), the cpuset, and the scheduling affinity. A count that was asked for
//! overrides that. Called by `main`; the result goes to the supervisor, the boot log and `/health/v2/status`.
//! Deliberately absent: watching for changes. A new quota takes a restart, which is what a pod update is.
//!
//! # Pinning
//! A pinned worker keeps its caches warm and its ring on one CPU, but two pods that both pin to CPU 0 of a node take
//! turns on it while other CPUs idle. So [`Pin::Auto`] pins only where the CPUs are this process's own:
//! * outside of containers, where no quota holds (a quota means that the machine is shared);
//! * in a container whose CPUs are fewer than the machine's and that has no quota. Under Kubernetes also the CPU
//!   request must be for all of them, as the static CPU manager grants them: on such a node the pool that all other
//!   pods share is narrower than the machine, too. There a quota for all of them is none: before Kubernetes 1.33
//!   (DisableCPUQuotaWithExclusiveCPUs) the kubelet sets one beside exclusive CPUs, since requests equal limits.
//!
//! A container is taken for one by: `/.dockerenv`; `/run/.containerenv` (podman); `/run/systemd/container`; the
//! variables KUBERNETES_SERVICE_HOST or `container` (podman, systemd-nspawn, lxc); names of container runtimes in
//! `/proc/self/cgroup`; a control group mount that is not the hierarchy's root; a cgroup2 root with a `cgroup.type`,
//! which only the root of a cgroup namespace has.

mod cgroup;
pub mod memory;
#[cfg(test)]
mod tests;

use crate::limits::server::WORKERS_MAX;
use serde::Serialize;
use std::path::Path;

/// Files larger than this are not read: those of interest are a few KiB, and mountinfo of a busy node some hundred.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// CPU numbers from here on are not understood: the kernel's own most is 8192 (CONFIG_NR_CPUS).
const CPU_ID_MAX: usize = 8192;

/// Whether workers are to be pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pin {
    /// Where the CPUs are this process's own.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// A number of workers that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    /// How many; at least 1.
    pub count: usize,
    /// The variable that asked.
    pub variable: &'static str,
}

/// All that the decision rests on. Tests hand in a made-up root.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// Where /proc and /sys are found; "/" but in tests.
    pub root: &'a Path,
    /// CPUs that sched_getaffinity allows; none where the call failed.
    pub affinity: Option<Vec<usize>>,
    /// A container runtime's mark in the environment: the name of the variable.
    pub container_variable: Option<&'static str>,
    /// A worker count that was asked for.
    pub requested: Option<Requested>,
    /// Whether to pin.
    pub pin: Pin,
}

impl Inputs<'static> {
    /// What this process sees.
    pub fn of_this_process(requested: Option<Requested>, pin: Pin) -> Self {
        let marks = ["KUBERNETES_SERVICE_HOST", "container"];
        Self {
            root: Path::new("/"),
            affinity: affinity(),
            container_variable: marks.into_iter().find(|name| std::env::var_os(name).is_some()),
            requested,
            pin,
        }
    }
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Topology {
    /// Workers to start, at least 1.
    pub workers: usize,
    /// Ids of the CPUs that this process may use, ascending, at least one.
    pub cpus: Vec<usize>,
    /// Whether each worker is pinned to one of them.
    pub pin: bool,
    /// The tightest quota in CPUs (1.5 is one and a half); none where nothing limits.
    pub quota_cpus: Option<f64>,
    /// How the decision fell, a sentence each.
    pub reasons: Vec<String>,
    /// What the operator should look at.
    pub warnings: Vec<String>,
}

impl Topology {
    /// Decides for this process.
    pub fn detect(requested: Option<Requested>, pin: Pin) -> Self {
        Self::decide(&Inputs::of_this_process(requested, pin))
    }

    /// Decides from the given inputs; never fails: what cannot be read is left out, with a warning.
    pub fn decide(inputs: &Inputs<'_>) -> Self {
        let groups = cgroup::inspect(inputs.root);
        let mut reasons = Vec::new();
        let mut warnings = groups.warnings.clone();

        let machine = read_text(inputs.root, "sys/devices/system/cpu/online").and_then(|text| parse_cpu_list(&text));
        let cpus = usable_cpus(inputs, &groups, machine.as_deref(), &mut reasons, &mut warnings);

        let quota_cpus = groups.quota.as_ref().map(|(cpus, _)| *cpus);
        let mut usable = cpus.len();
        match &groups.quota {
            Some((quota, dir)) => {
                // At least one, and the cast saturates: an absurd quota only means "no limit".
                let rounded = (quota.ceil() as usize).max(1);
                usable = usable.min(rounded);
                reasons.push(format!(
                    "CPU quota {quota:.2} CPUs ({}), rounded up to {rounded}",
                    dir.display()
                ));
            }
            None => reasons.push("no CPU quota".to_owned()),
        }
        let workers = match inputs.requested {
            Some(Requested { count, variable }) => {
                reasons.push(format!("{variable} asks for {count} workers"));
                if count > usable {
                    warnings.push(format!(
                        "{variable}={count} is more than the {usable} usable CPUs: workers will take turns, and \
                         latency grows; leave {variable} unset to start {usable}"
                    ));
                }
                count.clamp(1, WORKERS_MAX)
            }
            None => {
                let workers = usable.min(WORKERS_MAX);
                reasons.push(format!("one worker per usable CPU: {workers}"));
                workers
            }
        };
        let (pin, reason) = decide_pin(inputs, &groups, &cpus, machine.as_deref(), workers);
        if pin && workers > cpus.len() {
            warnings.push(format!(
                "PIN=always puts {workers} workers on {} CPUs: some share one",
                cpus.len()
            ));
        }
        reasons.push(reason);
        Self {
            workers,
            cpus,
            pin,
            quota_cpus,
            reasons,
            warnings,
        }
    }

    /// The CPU that a worker (counted from 0) is to be pinned to; none where workers are not pinned.
    pub fn cpu_of(&self, worker: usize) -> Option<usize> {
        let slot = worker.checked_rem(self.cpus.len())?;
        self.cpus.get(slot).copied().filter(|_| self.pin)
    }
}

/// Pins the calling thread to one CPU. False where the system refuses (a CPU taken away since, or a sandbox that
/// forbids it): the caller warns and goes on unpinned.
pub fn pin_current_thread(cpu: usize) -> bool {
    // core_affinity's mask is glibc's cpu_set_t: 1024 bits, and a greater id would panic in it.
    const MASK_BITS: usize = 1024;
    cpu < MASK_BITS && core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// CPUs that the calling thread may run on; none where the system does not say.
pub fn affinity() -> Option<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None).ok()?;
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    (!cpus.is_empty()).then_some(cpus)
}

fn usable_cpus(
    inputs: &Inputs<'_>,
    groups: &cgroup::Groups,
    machine: Option<&[usize]>,
    reasons: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<usize> {
    if let Some(machine) = machine {
        reasons.push(format!("the machine has {} CPUs", machine.len()));
    }
    let affinity = inputs.affinity.as_deref().filter(|cpus| !cpus.is_empty());
    let cpuset = groups.cpuset.as_ref().map(|(cpus, _)| cpus.as_slice());
    if let Some(affinity) = affinity {
        reasons.push(format!("affinity allows {} CPUs", affinity.len()));
    }
    if let Some((cpus, file)) = &groups.cpuset {
        reasons.push(format!("cpuset allows {} CPUs ({})", cpus.len(), file.display()));
    }
    let mut cpus: Vec<usize> = match (affinity, cpuset) {
        (Some(affinity), Some(cpuset)) => {
            let both: Vec<usize> = affinity.iter().copied().filter(|cpu| cpuset.contains(cpu)).collect();
            if both.is_empty() {
                // The kernel keeps affinity within the cpuset, so the file speaks of something else.
                warnings.push("affinity and cpuset have no CPU in common; affinity is believed".to_owned());
                affinity.to_vec()
            } else {
                both
            }
        }
        (Some(only), None) | (None, Some(only)) => only.to_vec(),
        (None, None) => match machine {
            Some(machine) if !machine.is_empty() => machine.to_vec(),
            _ => {
                warnings.push("the number of CPUs cannot be found out; 1 is assumed (set WORKERS)".to_owned());
                vec![0]
            }
        },
    };
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// Whether to pin, and why; see the module's page.
fn decide_pin(
    inputs: &Inputs<'_>,
    groups: &cgroup::Groups,
    cpus: &[usize],
    machine: Option<&[usize]>,
    workers: usize,
) -> (bool, String) {
    let no = |why: &str| (false, format!("not pinned: {why}"));
    let yes = |why: &str| (true, format!("pinned: {why}"));
    match inputs.pin {
        Pin::Always => return yes("PIN=always"),
        Pin::Never => return no("PIN=never"),
        Pin::Auto => {}
    }
    if workers > cpus.len() {
        return no("there are more workers than CPUs");
    }
    let quota = groups.quota.is_some();
    let Some(mark) = container_mark(inputs, groups) else {
        return if quota {
            no("a CPU quota holds, so the machine is shared")
        } else {
            yes("no container, no quota: the CPUs are this process's own")
        };
    };
    let kubernetes = groups.kubernetes || inputs.container_variable == Some("KUBERNETES_SERVICE_HOST");
    let for_all = |(quota, _): &(f64, std::path::PathBuf)| *quota >= cpus.len() as f64;
    if quota && !(kubernetes && groups.quota.as_ref().is_some_and(for_all)) {
        return no(&format!(
            "a container ({mark}) with a CPU quota: its CPUs may be shared (PIN=always if they are not)"
        ));
    }
    if machine.is_none_or(|machine| cpus.len() >= machine.len()) {
        return no(&format!("a container ({mark}) that shares all CPUs of the machine"));
    }
    if kubernetes && !requests_all(groups, cpus.len()) {
        return no(&format!(
            "a pod ({mark}) whose CPU request is not for all its CPUs: they are a shared pool"
        ));
    }
    yes(&format!(
        "a container ({mark}) with CPUs of its own and no quota on them"
    ))
}

fn container_mark(inputs: &Inputs<'_>, groups: &cgroup::Groups) -> Option<String> {
    if let Some(name) = inputs.container_variable {
        return Some(format!("{name} is set"));
    }
    let files = [".dockerenv", "run/.containerenv", "run/systemd/container"];
    let file = files.into_iter().find(|file| inputs.root.join(file).exists());
    file.map(|file| format!("/{file} exists"))
        .or_else(|| groups.container.clone())
}

/// Whether the group's share of CPU time is what Kubernetes gives a request for `cpus` whole CPUs: 1024 v1 shares
/// each. Version 2 weights are made from shares by the runtime, by a linear rule, or since 2025 by a curve through
/// (2, 1), (1024, 100) and (262144, 10000); both are accepted, give or take 1. Where nothing can be read: yes.
fn requests_all(groups: &cgroup::Groups, cpus: usize) -> bool {
    let shares = 1024.0 * cpus as f64;
    if let Some(weight) = groups.weight_v2 {
        let linear = 1.0 + (shares - 2.0) * 9999.0 / 262_142.0;
        let log = shares.log2();
        let curve = 10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
        return [linear, curve]
            .iter()
            .any(|expected| (weight as f64 - expected).abs() <= 1.0);
    }
    groups.shares_v1.is_none_or(|given| given as f64 == shares)
}

/// The kernel's list format, "0-3,8,10-11"; none where it is anything else. Empty text is an empty list.
fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= CPU_ID_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// A small text file below `root`; none where it is missing, too large or not text.
fn read_text(root: &Path, path: impl AsRef<Path>) -> Option<String> {
    try_text(root, path).unwrap_or_default()
}

/// The same, for those who must tell a file that is not there from one that cannot be opened at the moment.
///
/// # Errors
/// No descriptor is left, or no memory of the kernel's.
fn try_text(root: &Path, path: impl AsRef<Path>) -> std::io::Result<Option<String>> {
    use std::io::Read as _;
    let read = || {
        let mut text = String::new();
        open_below(root, path.as_ref())?
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_starved(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

fn open_below(root: &Path, path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::open(root.join(path.strip_prefix("/").unwrap_or(path)))
}

/// Of what the error is about, the system has none left at the moment: descriptors, or memory of the kernel's.
pub fn is_starved(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let starved = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| starved.contains(&errno))
}
