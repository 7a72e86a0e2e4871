//! What is done when memory is short, before the kernel does it: caches shrink, then new connections are refused.
//!
//! [`Levels`] decides, from how much of the limit is in use and the time, and does no I/O; `supervisor::memory` looks
//! and hands its [`Order`] to the workers; [`Pressure`] is what everybody may read. The names and thresholds are the
//! scaling guide's; the shape (a monitor, thresholds with actions, the mildest first) is that of Envoy's overload manager.

mod levels;
mod state;

pub use levels::{Level, Levels, Order};
pub use state::{Figures, Pressure};

/// Of `limit` bytes, the share that `bytes` are, in thousandths. Past the limit it is more than the whole.
pub fn share(bytes: u64, limit: u64) -> u32 {
    let whole = u128::from(crate::limits::memory::WHOLE);
    let share = u128::from(bytes).saturating_mul(whole) / u128::from(limit.max(1));
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// A share of `limit` in bytes.
pub fn part(limit: u64, share: u32) -> u64 {
    let whole = u128::from(crate::limits::memory::WHOLE);
    u64::try_from(u128::from(limit).saturating_mul(u128::from(share)) / whole).unwrap_or(u64::MAX)
}
