//! Figures of the process's memory against its limit, and what is done about it.

use super::cells::Slot;
use super::families::{counter, family, gauge, label};
use super::worker::WorkerMetrics;
use crate::resilience::memory::Pressure;
use prometheus::proto::{MetricFamily, MetricType};

/// The families of a limit that is known; none else.
pub(super) fn families(pressure: &Pressure) -> Vec<MetricFamily> {
    let Some(figures) = pressure.figures() else {
        return Vec::new();
    };
    let level = |name, help, level: f64| family(name, help, MetricType::GAUGE, vec![gauge(Vec::new(), level)]);
    let reached = pressure.reached();
    vec![
        level(
            "memory_limit_bytes",
            "The limit of memory that is nearest to be reached.",
            figures.limit as f64,
        ),
        level(
            "memory_used_bytes",
            "What counts against it and cannot be taken back: pages of files left out.",
            figures.used as f64,
        ),
        level(
            "memory_working_set_bytes",
            "The same as the kubelet counts it: pages of files that were not used lately left out.",
            figures.working_set as f64,
        ),
        level(
            "memory_pressure_level",
            "0: calm; 1: caches shrink; 2: new connections get health and metrics only.",
            f64::from(pressure.level() as u8),
        ),
        family(
            "memory_pressure_reached_total",
            "How often each level was reached from below.",
            MetricType::COUNTER,
            reached
                .into_iter()
                .map(|(level, count)| counter(vec![label("level", level.name())], count))
                .collect(),
        ),
        family(
            "memory_looks_failed_total",
            "Looks at memory that failed: by a mistake of this program, or as nothing could be read.",
            MetricType::COUNTER,
            vec![counter(Vec::new(), pressure.looks_failed())],
        ),
    ]
}

impl WorkerMetrics {
    /// Entries were pushed out because memory is short.
    pub fn cache_squeezed(&self, entries: u64) {
        self.add(Slot::CacheSqueezed, entries);
    }

    /// A connection that came while memory was short was answered 503 or closed.
    pub fn refused_for_memory(&self) {
        self.add(Slot::RefusedForMemory, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Labels, Registry};
    use crate::resilience::memory::{Figures, Level, Pressure};
    use std::sync::Arc;

    #[test]
    fn memory_is_told_of_where_a_limit_is_known() {
        let labels = Labels {
            routes: &["/"],
            styles: &["plain"],
        };
        let registry = Registry::new(labels);
        let pressure = Arc::new(Pressure::default());
        registry.watch_memory(Arc::clone(&pressure));
        let lines = || -> Vec<String> {
            let text = registry.text();
            let ours = text.lines().filter(|line| line.starts_with("memory_"));
            ours.map(str::to_owned).collect()
        };
        assert_eq!(lines(), Vec::<String>::new());
        let figures = Figures {
            limit: 1000,
            used: 800,
            working_set: 900,
        };
        pressure.set(Level::Soft, figures);
        assert_eq!(
            lines(),
            [
                "memory_limit_bytes 1000",
                "memory_looks_failed_total 0",
                "memory_pressure_level 1",
                "memory_pressure_reached_total{level=\"soft\"} 1",
                "memory_pressure_reached_total{level=\"hard\"} 0",
                "memory_used_bytes 800",
                "memory_working_set_bytes 900",
            ]
        );
        let worker = registry.worker(0);
        worker.cache_squeezed(3);
        worker.refused_for_memory();
        worker.cache_holds(2, 50);
        assert_eq!(registry.cache_bytes(), 50);
        let text = registry.text();
        for line in [
            "cache_pressure_evictions_total{worker_id=\"0\"} 3",
            "http_connections_refused_for_memory_total{worker_id=\"0\"} 1",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
