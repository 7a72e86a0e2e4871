//! The domain: a request for a story becomes a key, the key a story.
//!
//! Called by `routes` (through `service`). Knows neither HTTP nor SQL: errors here are domain errors, and the
//! store is a trait. Deliberately absent: wire formats beyond serde's derive, sockets, clocks (the caller hands
//! the time and the randomness in, invariant 6 of ARCHITECTURE.md).

pub mod facts;
pub mod gazetteer;
pub mod narrator;
pub mod types;
