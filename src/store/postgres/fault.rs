//! What the server or the connection says, in the words of the store.

use crate::store::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What to do about a failed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The connection is gone, or of no use: try on another.
    Reconnect,
    /// What came on it makes no sense, so that no answer on it can be believed, neither this call's nor another's: end
    /// it, and try on another.
    Cut,
    /// The server takes no writes: so are the other connections to it.
    LeaveServer,
    /// The same again: the server rolled it back for the sake of another transaction.
    Repeat,
    /// Nothing.
    Tell,
}

/// A failed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) remedy: Remedy,
    pub(super) error: StoreError,
}

impl Fault {
    pub(super) fn broken(reason: impl Into<String>) -> Fault {
        Fault {
            remedy: Remedy::Reconnect,
            error: StoreError::unavailable(reason),
        }
    }

    pub(super) fn nonsense(what: &str) -> Fault {
        Fault {
            remedy: Remedy::Cut,
            error: StoreError::unavailable(format!("PostgreSQL answered what was not asked: {what}")),
        }
    }

    pub(super) fn told(error: StoreError) -> Fault {
        Fault {
            remedy: Remedy::Tell,
            error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let Some(code) = error.code().cloned() else {
            // It is closed, or the protocol was broken: then questions and answers need not belong together any more.
            return Fault {
                remedy: Remedy::Cut,
                ..Fault::broken(format!("the connection to PostgreSQL broke: {}", describe(&error)))
            };
        };
        let said = describe(&error);
        let unavailable = |remedy, text: String| Fault {
            remedy,
            error: StoreError::unavailable(text),
        };
        match code {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => unavailable(Remedy::Repeat, said),
            SqlState::READ_ONLY_SQL_TRANSACTION => {
                unavailable(Remedy::LeaveServer, format!("PostgreSQL takes no writes: {said}"))
            }
            // statement_timeout, or an operator's pg_cancel_backend.
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Fault::told(StoreError::Timeout),
            SqlState::DISK_FULL => unavailable(
                Remedy::Tell,
                format!("the disk of PostgreSQL is full ({said}); free space there, the store goes on by itself"),
            ),
            // On a session of one's own the one comes of a DISCARD, which a new session mends. The other only comes where
            // sessions are shared: to try on until a name is free would hide that names may mean others' statements.
            SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => unavailable(
                if code == SqlState::DUPLICATE_PSTATEMENT {
                    Remedy::Tell
                } else {
                    Remedy::Reconnect
                },
                format!("{said}; behind this pooler, DATABASE_URL must not have statement_cache=on"),
            ),
            // "cached plan must not change result type": a migration went by.
            SqlState::FEATURE_NOT_SUPPORTED => unavailable(Remedy::Reconnect, said),
            SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN => unavailable(Remedy::Reconnect, said),
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Fault::told(StoreError::Corrupt(said)),
            code => {
                let class = code.code().get(..2).unwrap_or_default();
                match class {
                    // Connection exception, operator intervention (shutdown, crash, starting up, idle session).
                    "08" | "57" => unavailable(Remedy::Reconnect, said),
                    // The session's own state is wrong, which no statement here can bring about.
                    "25" => unavailable(Remedy::Reconnect, said),
                    // Data exception, constraint violation: the record is at fault.
                    "22" | "23" => Fault::told(StoreError::Invalid(said)),
                    _ => unavailable(Remedy::Tell, said),
                }
            }
        }
    }
}

/// An error with its causes, in one line. The server's own messages name users and databases, never passwords.
pub(super) fn describe(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{}: {} ({})", said.severity(), said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
