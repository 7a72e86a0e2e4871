//! roadtrip-api: the AI Road Trip Storyteller API as a thread-per-core io_uring server.

pub mod cache;
pub mod config;
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
