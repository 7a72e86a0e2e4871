//! The process and the machine as the status page has them.

use super::{Worker, memory};
use crate::limits;
use crate::runtime::context;
use serde::Serialize;

/// Figures of the process and the machine, read from /proc at most once a second: that is memory, it does not block.
#[derive(Debug, Clone, Serialize)]
pub(super) struct System {
    pub(super) status: &'static str,
    rss_bytes: u64,
    cpu_seconds: f64,
    load_1m: f64,
    open_files: u64,
    uptime_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<memory::Part>,
}

fn read_system(worker: &Worker) -> System {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    System {
        status: "healthy",
        rss_bytes: pages * rustix::param::page_size() as u64,
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        load_1m: load
            .split(' ')
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or_default(),
        open_files: crate::telemetry::metrics::open_files().unwrap_or_default(),
        uptime_seconds: worker.process.uptime_seconds(),
        memory: None,
    }
}

pub(super) fn part(worker: &Worker) -> System {
    System {
        status: memory::word(worker),
        memory: memory::part(worker),
        ..slow_figures(worker)
    }
}

fn slow_figures(worker: &Worker) -> System {
    let now = context::now_ns();
    let mut cached = worker.system.borrow_mut();
    match &*cached {
        Some((at, system)) if now.saturating_sub(*at) < limits::health::SYSTEM_NS => system.clone(),
        _ => {
            let fresh = read_system(worker);
            *cached = Some((now, fresh.clone()));
            fresh
        }
    }
}
