//! Rate limits: how often a client may ask, and everybody together.
//!
//! Three levels, each of which lets the one below act on credit, so that a request touches its own core's memory only:
//!
//! * A **worker** ([`Turnstile`]) holds *leases*: for each client that asks often, the right to let some requests through
//!   (`Quota::lease`: a sixteenth of the burst, 64 at most) within 100 ms. Then it *settles*: charges what it let
//!   through, and sees what the others did.
//! * The **process** ([`Limiter`]) has the account of each client, and its own. Workers settle with it under the lock of a
//!   small set of clients, or by a compare-and-swap.
//! * **Redis**, where there is one, has the account that pods have in common. A pod settles a client there with each
//!   lease's worth of requests, in the background, many clients in one command. No request waits for it.
//!
//! Nobody gets less than his limit for it: an account that only one worker charges is exact, as is one that only one pod
//! charges. Nobody gets much more: over any time d, a client gets at most `rate x d + burst`, and **one lease for each
//! worker** of the pod through which it asks; over several pods, one lease for each worker and one for each pod beyond
//! that, and what a pod lets through while one settlement is under way (a round trip to Redis), which is never more than
//! the burst. What was had on credit is owed: it is charged, and the next requests wait for it, so that in the long run the
//! rate is the rate. Whom a worker refuses it refuses by its own knowledge: a flood from one address takes no lock.
//!
//! Without Redis in reach each pod limits on its own (the log says so once, the status page and the metrics for as long as it
//! lasts), and tells Redis what was owed when it is back, a burst for each client at most.
//!
//! Memory is bounded, and bounded memory gives nobody a fresh start: see `table`.
//!
//! Why not the crate governor: its keyed limiters keep one entry for each key until somebody sweeps them (no bound), in
//! a map that all cores lock on each request, and its cells cannot be charged for more than they allow, which is what
//! settling a lease is. What is left of it, the arithmetic of one cell, is ten lines of `gcra`.
//!
//! Time is the caller's (CLOCK_MONOTONIC, which all workers share); nothing here reads a clock. Deliberately absent:
//! costs other than one a request, limits by route, and lists of who is refused.

mod client;
mod gcra;
mod held;
mod limiter;
pub mod limits;
mod table;
#[cfg(test)]
mod tests;
mod turnstile;

pub use client::ClientKey;
pub use gcra::{Limit, Quota, Rate};
pub use limiter::{Limiter, Settings};
pub use table::{Charge, Settled};
pub use turnstile::{Rules, Scope, Standing, Turnstile, Verdict, Who};
