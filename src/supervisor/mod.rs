//! The life of the process: listening sockets, workers, signals, the watchdog, recycling, hot upgrade, the graceful end.
//!
//! Called by `main`. Owns what must outlive a worker: the sockets (so that their accept queues survive a worker), the
//! store, the metrics registry.
//!
//! - [`boot`]: from a configuration to a serving process; [`lead`]: what its thread does from then on, [`rounds`]: which
//!   workers it replaces.
//! - [`fleet`]: the workers, each a [`slot`] with its lives; [`worker`]: one life; [`ports`]: the sockets.
//! - [`upgrade`], [`changeover`], [`handover`], [`parent`]: the old and the new process of a hot upgrade; [`elders`]: whether the old one still
//!   waits for connections; [`stay`]: what process 1 does after it; [`pid_file`]; [`postponed`]: signals that wait for its end;
//!   [`family`]: ends what a script has started.
//! - [`watchdog`]: looks for a worker that makes no turns; [`rescue`]: who stands in for it meanwhile; [`drain`]: times of the end;
//!   [`certificate`]: TLS files, read again at SIGHUP; [`memory`]: looks at memory, and has the workers use less.
//!
//! The supervising thread decides everything, in the order in which it hears of it, and never waits for a worker. Threads
//! beside it: one hears signals, one watches, one looks at memory, one reads certificates, one listens to a new process while there is one.
//! Deliberately absent: worker processes. A life that breaks down takes its own connections with it and no others.

mod boot;
mod certificate;
mod changeover;
mod departures;
mod drain;
mod elders;
mod family;
mod fleet;
mod handover;
mod lead;
pub mod memory;
pub mod migrate;
mod parent;
mod pid_file;
mod ports;
mod postponed;
mod rescue;
mod rounds;
mod slot;
mod stay;
mod upgrade;
mod watchdog;
mod worker;

pub use boot::{BootError, check_files, serve};
