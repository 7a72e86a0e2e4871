use super::*;
use proptest::prelude::*;
use std::fs;

/// A made-up machine: files below a temporary root.
struct Machine {
    root: tempfile::TempDir,
}

const V2_MOUNT: &str = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const V1_CPU: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
const V1_CPUSET: &str = "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
const V1_DIR: &str = "/sys/fs/cgroup/cpu,cpuacct";

impl Machine {
    /// A machine with these CPUs online.
    fn new(online: &str) -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
        .file("/sys/devices/system/cpu/online", online)
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Version 2 alone, this process in `group`.
    fn v2(self, group: &str) -> Self {
        self.file("/proc/self/mountinfo", V2_MOUNT)
            .file("/proc/self/cgroup", &format!("0::{group}\n"))
    }

    /// Version 1, this process in `group` of cpu and cpuset.
    fn v1(self, group: &str) -> Self {
        let groups = format!("4:cpu,cpuacct:{group}\n3:cpuset:{group}\n1:name=systemd:{group}\n");
        self.file("/proc/self/mountinfo", &format!("{V1_CPU}{V1_CPUSET}"))
            .file("/proc/self/cgroup", &groups)
    }

    /// Version 1 quota of `group`.
    fn v1_quota(self, group: &str, quota_us: i64, period_us: i64) -> Self {
        self.file(&format!("{V1_DIR}{group}/cpu.cfs_quota_us"), &format!("{quota_us}\n"))
            .file(&format!("{V1_DIR}{group}/cpu.cfs_period_us"), &format!("{period_us}\n"))
    }

    fn inputs(&self, affinity: &str) -> Inputs<'_> {
        Inputs {
            root: self.root.path(),
            affinity: parse_cpu_list(affinity).filter(|cpus| !cpus.is_empty()),
            container_variable: None,
            requested: None,
            pin: Pin::Auto,
        }
    }

    fn decide(&self, affinity: &str) -> Topology {
        Topology::decide(&self.inputs(affinity))
    }

    /// In a Kubernetes pod.
    fn decide_in_pod(&self, affinity: &str) -> Topology {
        Topology::decide(&Inputs {
            container_variable: Some("KUBERNETES_SERVICE_HOST"),
            ..self.inputs(affinity)
        })
    }
}

fn outcome(topology: &Topology) -> (usize, bool, Option<f64>) {
    assert!(!topology.reasons.is_empty() && !topology.cpus.is_empty());
    (topology.workers, topology.pin, topology.quota_cpus)
}

#[test]
fn bare_machine_pins_one_worker_per_cpu() {
    let machine = Machine::new("0-3")
        .v2("/user.slice/session-1.scope")
        .file("/sys/fs/cgroup/cgroup.procs", "");
    let topology = machine.decide("0-3");
    assert_eq!(outcome(&topology), (4, true, None));
    let cpus: Vec<_> = (0..5).map(|worker| topology.cpu_of(worker)).collect();
    assert_eq!(cpus, [Some(0), Some(1), Some(2), Some(3), Some(0)]);
    assert!(topology.warnings.is_empty(), "{:?}", topology.warnings);
}

#[test]
fn bare_machine_with_affinity_uses_what_is_allowed() {
    let machine = Machine::new("0-7").v2("/");
    let topology = machine.decide("2,5");
    assert_eq!(outcome(&topology), (2, true, None));
    assert_eq!(topology.cpus, [2, 5]);
}

#[test]
fn docker_cpus_one_and_a_half_rounds_up_and_does_not_pin() {
    // Version 2 in its own cgroup namespace.
    let v2 = Machine::new("0-7")
        .v2("/")
        .file("/sys/fs/cgroup/cgroup.type", "domain\n");
    let v2 = v2
        .file("/sys/fs/cgroup/cpu.max", "150000 100000\n")
        .file("/.dockerenv", "");
    assert_eq!(outcome(&v2.decide("0-7")), (2, false, Some(1.5)));
    // Version 1 without a namespace: the group's own folder is what is mounted.
    let mount = V1_CPU.replace(" / ", " /docker/abc ");
    let v1 = Machine::new("0-7")
        .v1("/docker/abc")
        .file("/proc/self/mountinfo", &mount)
        .v1_quota("", 150_000, 100_000);
    assert_eq!(outcome(&v1.decide("0-7")), (2, false, Some(1.5)));
}

#[test]
fn a_tighter_parent_counts() {
    let v2 = Machine::new("0-15")
        .v2("/a/b/c")
        .file("/sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n")
        .file("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
        .file("/sys/fs/cgroup/a/cpu.max", "50000 20000\n");
    let topology = v2.decide("0-15");
    assert_eq!(outcome(&topology), (3, false, Some(2.5)));
    assert!(
        topology
            .reasons
            .iter()
            .any(|reason| reason.contains("/sys/fs/cgroup/a)")),
        "{:?}",
        topology.reasons
    );
    let v1 = Machine::new("0-15")
        .v1("/a/b")
        .v1_quota("/a/b", -1, 100_000)
        .v1_quota("/a", 300_000, 100_000);
    assert_eq!(
        outcome(&v1.v1_quota("", -1, 100_000).decide("0-15")),
        (3, false, Some(3.0))
    );
}

#[test]
fn no_quota_in_either_version() {
    let v1 = Machine::new("0-1")
        .v1("/x")
        .v1_quota("/x", -1, 100_000)
        .v1_quota("", -1, 100_000);
    assert_eq!(outcome(&v1.decide("0-1")), (2, true, None));
    let v2 = Machine::new("0-1")
        .v2("/x")
        .file("/sys/fs/cgroup/x/cpu.max", "max 100000\n");
    assert_eq!(outcome(&v2.decide("0-1")), (2, true, None));
}

#[test]
fn hybrid_takes_the_quota_from_where_the_controller_is() {
    let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let machine = Machine::new("0-3")
        .v1("/svc")
        .file("/proc/self/mountinfo", &format!("{unified}{V1_CPU}{V1_CPUSET}"))
        .file("/proc/self/cgroup", "4:cpu,cpuacct:/svc\n3:cpuset:/\n0::/svc\n")
        .v1_quota("/svc", 100_000, 100_000)
        .file("/sys/fs/cgroup/unified/svc/cgroup.type", "domain\n")
        .file("/sys/fs/cgroup/cpuset/cpuset.effective_cpus", "1-2\n");
    let topology = machine.decide("0-3");
    assert_eq!(outcome(&topology), (1, false, Some(1.0)));
    assert_eq!(topology.cpus, [1, 2]);
}

#[test]
fn cpuset_narrower_than_the_machine_pins_in_a_container() {
    let container = |quota: &str| {
        Machine::new("0-15")
            .v2("/")
            .file("/sys/fs/cgroup/cgroup.type", "domain\n")
            .file("/sys/fs/cgroup/cpuset.cpus.effective", "4-5\n")
            .file("/sys/fs/cgroup/cpu.max", quota)
    };
    assert_eq!(outcome(&container("max 100000").decide("4-5")), (2, true, None));
    assert_eq!(container("max 100000").decide("4-5").cpu_of(1), Some(5));
    assert_eq!(
        outcome(&container("200000 100000").decide("4-5")),
        (2, false, Some(2.0))
    );
    // Affinity unknown: the cpuset alone decides.
    assert_eq!(container("max 100000").decide("").cpus, [4, 5]);
}

#[test]
fn kubernetes_burstable_does_not_pin() {
    // A limit: quota. No limit: all CPUs of the node.
    let limit = Machine::new("0-7")
        .v2("/")
        .file("/sys/fs/cgroup/cpu.max", "200000 100000");
    assert_eq!(outcome(&limit.decide_in_pod("0-7")), (2, false, Some(2.0)));
    let unlimited = Machine::new("0-7").v2("/").file("/sys/fs/cgroup/cpu.max", "max 100000");
    assert_eq!(outcome(&unlimited.decide_in_pod("0-7")), (8, false, None));
}

#[test]
fn kubernetes_static_cpus_pin_and_the_pool_beside_them_does_not() {
    let pod = |weight: &str| {
        Machine::new("0-15")
            .v2("/")
            .file("/sys/fs/cgroup/cpu.max", "max 100000")
            .file("/sys/fs/cgroup/cpu.weight", weight)
            .file("/sys/fs/cgroup/cpuset.cpus.effective", "2-3")
    };
    // 2 CPUs are 2048 shares: weight 79 by the older rule, 174 by the newer.
    assert!(pod("79\n").decide_in_pod("2-3").pin);
    assert!(pod("174\n").decide_in_pod("2-3").pin);
    // A pod that requests half a CPU (512 shares: 20 or 59), on a node whose shared pool is CPUs 2 and 3.
    let shared = pod("20\n").decide_in_pod("2-3");
    assert_eq!(outcome(&shared), (2, false, None));
    assert!(
        shared.reasons.iter().any(|reason| reason.contains("shared pool")),
        "{:?}",
        shared.reasons
    );
    assert!(!pod("59\n").decide_in_pod("2-3").pin);
    // Before Kubernetes 1.33 exclusive CPUs come with a quota for all of them. One for fewer, or by another hand, is a share.
    let with_quota = |quota: &str, weight: &str| pod(weight).file("/sys/fs/cgroup/cpu.max", quota);
    let own = with_quota("200000 100000", "79\n");
    assert_eq!(outcome(&own.decide_in_pod("2-3")), (2, true, Some(2.0)));
    assert!(!own.decide("2-3").pin, "no Kubernetes");
    assert!(!with_quota("150000 100000", "79\n").decide_in_pod("2-3").pin);
    assert!(!with_quota("200000 100000", "40\n").decide_in_pod("2-3").pin);
    let v1 = |shares: &str| {
        Machine::new("0-15")
            .v1("/kubepods/pod1/c1")
            .file(&format!("{V1_DIR}/kubepods/pod1/c1/cpu.shares"), shares)
            .file("/sys/fs/cgroup/cpuset/kubepods/pod1/c1/cpuset.cpus", "2-3\n")
    };
    assert!(v1("2048\n").decide("2-3").pin);
    assert!(!v1("512\n").decide("2-3").pin);
}

#[test]
fn each_mark_of_a_container_counts() {
    let plain = || Machine::new("0-3").v2("/");
    assert!(plain().decide("0-3").pin);
    for file in [
        "/.dockerenv",
        "/run/.containerenv",
        "/run/systemd/container",
        "/sys/fs/cgroup/cgroup.type",
    ] {
        assert!(!plain().file(file, "").decide("0-3").pin, "{file}");
    }
    for group in [
        "/docker/abc",
        "/kubepods/besteffort/x",
        "/machine.slice/libpod-1.scope",
        "/lxc/a",
        "/x/crio-1",
    ] {
        assert!(!Machine::new("0-3").v2(group).decide("0-3").pin, "{group}");
    }
    for variable in ["KUBERNETES_SERVICE_HOST", "container"] {
        let machine = plain();
        let inputs = Inputs {
            container_variable: Some(variable),
            ..machine.inputs("0-3")
        };
        assert!(!Topology::decide(&inputs).pin, "{variable}");
    }
}

#[test]
fn pin_can_be_demanded_and_refused() {
    let machine = Machine::new("0-3").v2("/").file("/.dockerenv", "");
    let with = |pin, count| {
        let requested = Some(Requested {
            count,
            variable: "WORKERS",
        });
        Topology::decide(&Inputs {
            pin,
            requested,
            ..machine.inputs("0-3")
        })
    };
    assert!(with(Pin::Always, 4).pin && !with(Pin::Auto, 4).pin && !with(Pin::Never, 4).pin);
    let crowded = with(Pin::Always, 6);
    assert_eq!(crowded.cpu_of(5), Some(1));
    assert_eq!(crowded.warnings.len(), 2, "{:?}", crowded.warnings);
    // On a machine of its own, more workers than CPUs are not stacked.
    let own = Machine::new("0-1").v2("/");
    let requested = Some(Requested {
        count: 3,
        variable: "WORKERS",
    });
    let topology = Topology::decide(&Inputs {
        requested,
        ..own.inputs("0-1")
    });
    assert_eq!(outcome(&topology), (3, false, None));
    assert_eq!(topology.cpu_of(0), None);
}

#[test]
fn a_request_overrides_and_warns_above_the_quota() {
    let machine = Machine::new("0-7")
        .v2("/")
        .file("/sys/fs/cgroup/cpu.max", "150000 100000");
    let ask = |count| {
        let requested = Some(Requested {
            count,
            variable: "GUNICORN_WORKERS",
        });
        Topology::decide(&Inputs {
            requested,
            ..machine.inputs("0-7")
        })
    };
    assert_eq!((ask(1).workers, ask(1).warnings.len()), (1, 0));
    assert_eq!((ask(2).workers, ask(2).warnings.len()), (2, 0));
    let many = ask(4);
    assert_eq!(many.workers, 4);
    assert!(
        many.warnings[0].starts_with("GUNICORN_WORKERS=4 is more than the 2 usable CPUs"),
        "{:?}",
        many.warnings
    );
    assert_eq!(ask(100_000).workers, WORKERS_MAX);
}

#[test]
fn nothing_readable_still_gives_a_worker() {
    let empty = Machine {
        root: tempfile::tempdir().unwrap(),
    };
    let topology = empty.decide("");
    assert_eq!((topology.workers, topology.cpus.as_slice()), (1, [0].as_slice()));
    assert_eq!(topology.warnings.len(), 2, "{:?}", topology.warnings);
    // Without mountinfo the usual places are looked at.
    let machine = Machine::new("0-7")
        .file("/proc/self/cgroup", "0::/x\n")
        .file("/sys/fs/cgroup/x/cpu.max", "250000 100000\n");
    assert_eq!(outcome(&machine.decide("0-7")), (3, false, Some(2.5)));
}

#[test]
fn garbage_is_named_and_ignored() {
    for text in ["", "100000 0", "lots", "-5 100000", "1e5 100000", "max max max"] {
        let machine = Machine::new("0-1").v2("/x").file("/sys/fs/cgroup/x/cpu.max", text);
        let topology = machine.decide("0-1");
        assert_eq!(topology.workers, 2, "{text:?}");
        let understood = text.starts_with("max");
        assert_eq!(
            topology.warnings.is_empty(),
            understood,
            "{text:?} {:?}",
            topology.warnings
        );
    }
    let machine = Machine::new("zero")
        .v1("/x")
        .v1_quota("/x", 0, 100_000)
        .v1_quota("", 100_000, 0);
    let machine = machine.file("/sys/fs/cgroup/cpuset/x/cpuset.cpus", "3-1");
    let topology = machine.decide("0-1");
    assert_eq!(
        (topology.workers, topology.quota_cpus, topology.warnings.len()),
        (2, None, 3)
    );
    // A process outside of its cgroup namespace sees the top of the mount.
    let moved = Machine::new("0-7")
        .v2("/../other")
        .file("/sys/fs/cgroup/cpu.max", "100000 100000");
    assert_eq!(moved.decide("0-7").workers, 1);
}

#[test]
fn cpu_lists_parse_as_the_kernel_writes_them() {
    assert_eq!(parse_cpu_list("0-2,7,9-9\n"), Some(vec![0, 1, 2, 7, 9]));
    assert_eq!(parse_cpu_list("\n"), Some(vec![]));
    for bad in ["a", "1-", "2-1", "0-99999999999", "1;2", "0-8192"] {
        assert_eq!(parse_cpu_list(bad), None, "{bad}");
    }
}

#[test]
fn this_process_can_be_asked_and_pinned() {
    let topology = Topology::detect(None, Pin::Auto);
    assert!(
        topology.workers >= 1 && topology.workers <= topology.cpus.len(),
        "{topology:?}"
    );
    assert!(sonic_rs::to_string(&topology).unwrap().contains("\"quota_cpus\""));
    let cpu = *topology.cpus.last().unwrap();
    std::thread::spawn(move || {
        assert!(pin_current_thread(cpu));
        assert_eq!(affinity(), Some(vec![cpu]));
        assert!(!pin_current_thread(1_000_000) && !pin_current_thread(1023));
    })
    .join()
    .unwrap();
}

/// What this machine decides, for a person: `cargo test --lib show_this_machine -- --ignored --nocapture`.
#[test]
#[ignore = "prints"]
fn show_this_machine() {
    println!("{:#?}", Topology::detect(None, Pin::Auto));
}

proptest! {
    #[test]
    fn no_content_of_any_file_breaks_it(
        cgroup in "([0-9:a-z,=/.\n]|cpu|cpuset|::){0,60}",
        mountinfo in "([0-9 /.\n-]| - cgroup | - cgroup2 |cpu|/sys/fs/cgroup){0,60}",
        value in "[-0-9a-z ,\n]{0,20}",
    ) {
        let machine = Machine::new(&value)
            .file("/proc/self/cgroup", &cgroup)
            .file("/proc/self/mountinfo", &mountinfo)
            .file("/sys/fs/cgroup/cpu.max", &value)
            .file("/sys/fs/cgroup/cpuset.cpus.effective", &value);
        let topology = machine.decide(&value);
        prop_assert!(topology.workers >= 1 && topology.workers <= WORKERS_MAX && !topology.cpus.is_empty());
    }
}
