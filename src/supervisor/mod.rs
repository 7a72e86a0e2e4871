//! The life of the process: listening sockets, workers, signals, the watchdog, the graceful end.
//!
//! Called by `main`. Owns what must outlive a worker: the sockets (so that their accept queues survive a worker), the
//! store, the metrics registry. The supervising thread sleeps in the signal wait; a second thread, the watchdog, looks
//! once a second for a worker that holds its core; a third, where there is TLS, reads the certificate again on HUP.
//! Deliberately absent: rolling recycle, hot upgrade and log reopening (USR1, USR2, TTIN, TTOU, and HUP without TLS, are
//! taken and answered with a log line, so that they do not kill the process).

mod boot;
mod certificate;
pub mod migrate;
mod ports;
mod watchdog;
mod worker;

pub use boot::{BootError, check_files, serve};
