//! What keeps the service standing when more is asked of it than it should give.
//!
//! [`rate`] limits how often a client, and everybody together, may ask; [`memory`] decides when memory is short. Called by `routes`, on a worker; set up by
//! `supervisor`. Knows neither HTTP nor sockets: who asks and what is answered is the caller's business. Deliberately
//! absent: the bounds of queues, which stand where the queues are, and Redis' breaker, which is its connection's state.

pub mod memory;
pub mod rate;
