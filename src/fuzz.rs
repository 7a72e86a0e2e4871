//! What `fuzz/` calls: each function takes any bytes, and panics where a promise is broken. Only with the feature
//! `fuzzing`, never in a server.
//!
//! The promises themselves stand in `http/check.rs` and `server/check.rs`, where property tests keep them too. Absent on
//! purpose: anything that a test of the crate cannot run.

pub use crate::http::check::{chunked, messages, query, response};
pub use crate::server::check::connection;
