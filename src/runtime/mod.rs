//! The thread-per-core executor: tasks, timers, sockets. Knows nothing of HTTP.
//!
//! One [`Runtime`](executor::Runtime) per worker thread; everything in it is single-threaded and owned by that
//! thread. The only things that other threads may touch are a task's waker (through a small queue and an eventfd), an
//! [`Unparker`](driver::Unparker), and the [`Heartbeat`](heartbeat::Heartbeat) that the watchdog reads.
//!
//! Called by `server`, `supervisor`, `store` and `cache`. Deliberately absent: work stealing, a thread pool, files,
//! DNS, `unsafe` outside [`driver`].

pub mod context;
pub mod driver;
pub mod executor;
pub mod heartbeat;
pub mod net;
pub mod stack;
#[cfg(test)]
mod tests;
pub mod time;
pub mod topology;
mod wheel;
