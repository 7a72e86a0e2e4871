//! The domain: a request for a story becomes a key, the key a story.
//!
//! Called by `routes` through [`service`]. Knows neither HTTP nor SQL: errors here are domain errors, and the store is
//! bytes by key. Deliberately absent: wire formats beyond serde's derive, sockets, clocks and randomness of its own
//! (they come from the runtime, invariant 6 of ARCHITECTURE.md).

mod absent;
pub mod facts;
mod flight;
pub mod gazetteer;
pub mod key;
pub mod narrator;
mod resolve;
pub mod service;
mod share;
mod squeeze;
mod tiers;
pub mod types;
