//! What can go wrong with a call to the store, and whether trying again helps.

use crate::limits::store::RETRY_AFTER_S;

/// Why the store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk or the server behind the store does not serve now: full, unreadable, unreachable.
    #[error("the story store is unavailable: {reason}")]
    Unavailable {
        /// The cause, for the log and the operator; it may name files.
        reason: String,
        /// Seconds after which another attempt makes sense.
        retry_after_s: u32,
    },
    /// The store's queue is full; the call was refused at once and nothing was done.
    #[error("the story store is overloaded")]
    Overloaded,
    /// The store did not answer in the time its own client allows.
    #[error("the story store did not answer in time")]
    Timeout,
    /// The store is being closed because the process ends.
    #[error("the story store is closing")]
    Closed,
    /// What was read cannot have been written by this program.
    #[error("the story store holds damaged data: {0}")]
    Corrupt(String),
    /// The call breaks a rule of the store's interface: a bug of the caller.
    #[error("the story store refuses the call: {0}")]
    Invalid(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Unavailable { .. } | StoreError::Overloaded | StoreError::Timeout | StoreError::Closed => true,
            StoreError::Corrupt(_) | StoreError::Invalid(_) => false,
        }
    }

    /// Seconds to wait before the next attempt, for Retry-After; none where it would not help.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            StoreError::Unavailable { retry_after_s, .. } => Some(*retry_after_s),
            StoreError::Overloaded | StoreError::Timeout | StoreError::Closed => Some(RETRY_AFTER_S),
            StoreError::Corrupt(_) | StoreError::Invalid(_) => None,
        }
    }

    /// A word for metrics and log fields.
    pub fn kind(&self) -> &'static str {
        match self {
            StoreError::Unavailable { .. } => "unavailable",
            StoreError::Overloaded => "overloaded",
            StoreError::Timeout => "timeout",
            StoreError::Closed => "closed",
            StoreError::Corrupt(_) => "corrupt",
            StoreError::Invalid(_) => "invalid",
        }
    }

    /// The store does not serve, for this reason; trying again after the usual pause makes sense.
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        StoreError::Unavailable {
            reason: reason.into(),
            retry_after_s: RETRY_AFTER_S,
        }
    }
}
