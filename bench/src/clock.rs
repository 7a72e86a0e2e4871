//! The one clock of the measurements, and the CPU a thread is pinned to.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC` in nanoseconds: the clock that timerfd also counts by.
pub(crate) fn now_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// CPU time the calling thread has used, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

fn read_ns(id: ClockId) -> u64 {
    let t = clock_gettime(id);
    u64::try_from(t.tv_sec)
        .unwrap_or(0)
        .saturating_mul(SECOND_NS)
        .saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0))
}

/// Pins the calling thread (and the children it starts from now on) to one CPU.
///
/// # Errors
/// A sentence with the kernel's refusal, for example where the CPU is outside the cpuset.
pub(crate) fn pin_to(cpu: usize) -> Result<(), String> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(format!(
            "there is no CPU {cpu}: this kernel interface counts to {}",
            CpuSet::MAX_CPU - 1
        ));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|e| format!("cannot pin to CPU {cpu}: {e}; is it among those that `taskset -p $$` lists?"))
}

/// Runs `f` with the calling thread pinned to `cpu`, then gives the thread its former CPUs back. A child started by
/// `f` keeps the pin: affinity is inherited at fork.
///
/// # Errors
/// What [`pin_to`] says, or the kernel's refusal to tell or restore the affinity.
pub(crate) fn while_pinned<T>(cpu: Option<usize>, f: impl FnOnce() -> T) -> Result<T, String> {
    let Some(cpu) = cpu else { return Ok(f()) };
    let before = sched_getaffinity(None).map_err(|e| format!("cannot read this thread's CPUs: {e}"))?;
    pin_to(cpu)?;
    let value = f();
    sched_setaffinity(None, &before).map_err(|e| format!("cannot restore this thread's CPUs: {e}"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_go_forward_and_count_work() {
        let (wall, cpu) = (now_ns(), thread_cpu_ns());
        let mut x = 1_u64;
        while now_ns() - wall < 5_000_000 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(thread_cpu_ns() > cpu);
    }

    #[test]
    fn a_pin_is_lifted_again_and_an_absent_cpu_is_refused() {
        let before = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&c| before.is_set(c)).unwrap();
        let inside = while_pinned(Some(first), || sched_getaffinity(None).unwrap()).unwrap();
        assert_eq!(inside.count(), 1);
        assert!(sched_getaffinity(None).unwrap() == before);
        assert!(pin_to(CpuSet::MAX_CPU).is_err());
        assert!(pin_to(CpuSet::MAX_CPU - 1).is_err());
    }
}
