//! Why no call can be served now.

use crate::limits::store::RETRY_AFTER_S;
use crate::runtime::context;
use crate::store::StoreError;

/// Why there is no connection, and when the next attempt to open one comes (nanoseconds of the worker's clock).
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) reason: String,
    pub(super) retry_ns: u64,
}

impl Trouble {
    pub(super) fn error(&self) -> StoreError {
        let left_ns = self.retry_ns.saturating_sub(context::now_ns());
        StoreError::Unavailable {
            reason: self.reason.clone(),
            retry_after_s: u32::try_from(left_ns.div_ceil(1_000_000_000))
                .unwrap_or(RETRY_AFTER_S)
                .max(RETRY_AFTER_S),
        }
    }
}
