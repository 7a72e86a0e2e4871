//! roadtrip-api: the AI Road Trip Storyteller API as a thread-per-core io_uring server.
//!
//! The map, from the outside in; `ARCHITECTURE.md` tells how a request walks through it.
//!
//! - [`config`]: the environment, read once. [`limits`]: every static limit, with its reason.
//! - [`supervisor`]: the life of the process: listening sockets, workers, signals, the watchdog.
//! - [`routes`]: the HTTP face: paths, errors, health, metrics.
//! - [`server`]: connections: joins [`http`] (sans-IO HTTP/1.1) and [`runtime`].
//! - [`resilience`]: what keeps it standing: rate limits.
//! - [`story`]: the domain: gazetteer, facts, narrator, and the service that caches, coalesces and keeps.
//! - [`store`]: stories at rest. [`cache`]: each worker's own, and Redis.
//! - [`backend`]: the way to a database: names, connections, TLS, pauses between attempts.
//! - [`runtime`]: the executor, timers, sockets and the drivers that talk to the kernel.
//! - [`tls`]: certificates and keys.
//! - [`telemetry`]: metrics and logs.

pub mod backend;
pub mod cache;
pub mod config;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod limits;
pub mod resilience;
pub mod routes;
pub mod runtime;
pub mod server;
pub mod store;
pub mod story;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
