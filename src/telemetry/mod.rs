//! What the process tells about itself: metrics and log lines.
//!
//! Called by every room above `runtime`. A worker writes its own metrics and its own log lines; cores meet only at
//! the scrape ([`metrics::Registry`]) and in the bounded queue to the log thread. Nothing here blocks a worker, and
//! nothing here fails a request: a figure or a line that cannot be kept is dropped and counted.
//! Deliberately absent: pushing (Prometheus pulls), percentiles computed here (histograms are merged by whoever
//! asks), and log files with rotation (lines go to stdout; the platform keeps them).

pub mod logging;
pub mod metrics;
pub mod panics;
pub mod trace;
