//! What keeps the service standing when more is asked of it than it should give.
//!
//! [`rate`] limits how often a client, and everybody together, may ask; called by `routes`. [`overload`] lets in what a
//! worker can do in time; called by `story`. [`memory`] decides when memory is short; called by `supervisor`, which sets all
//! of them up. They know neither HTTP nor sockets: who asks and what is answered is the caller's business. Deliberately
//! absent: the bounds of queues behind them, which stand where the queues are, and Redis' breaker, which is its
//! connection's state.

pub mod memory;
pub mod overload;
pub mod rate;
