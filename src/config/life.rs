//! The life of the process and of its workers, as an operator may set it.

use super::parse::Reader;
use super::variables as var;
use super::{file, time};
use crate::limits::life::HANDOVER_MAX;
use std::path::PathBuf;
use std::time::Duration;

/// See the variables of the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Requests after which a worker is replaced; 0: never.
    pub max_requests: u64,
    /// Up to so many more, by lot.
    pub max_requests_jitter: u64,
    /// Bytes of resident memory past which workers are replaced; 0: never.
    pub rss_max: u64,
    /// For a new binary to become ready.
    pub upgrade_timeout: Duration,
    /// Whether the old process stays behind the new one; none: where it is process 1.
    pub upgrade_stay: Option<bool>,
    /// Where the process's id is written.
    pub pid_file: Option<PathBuf>,
    /// Where more variables are read from.
    pub env_file: Option<PathBuf>,
    /// Where log lines are written; none: stdout.
    pub log_file: Option<PathBuf>,
}

pub(super) fn read(r: &mut Reader) -> Life {
    let upgrade_timeout = time(r, &var::UPGRADE_TIMEOUT);
    if upgrade_timeout < HANDOVER_MAX {
        r.warnings.push(format!(
            "UPGRADE_TIMEOUT is less than the {} s that a hand-over may wait for a stuck worker or a long request: such an upgrade cannot succeed",
            HANDOVER_MAX.as_secs()
        ));
    }
    Life {
        max_requests: r.number(&var::MAX_REQUESTS),
        max_requests_jitter: r.number(&var::MAX_REQUESTS_JITTER),
        rss_max: r.number(&var::WORKER_RSS_MAX),
        upgrade_timeout,
        upgrade_stay: match r.word(&var::UPGRADE_STAY) {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        pid_file: file(r, &var::PIDFILE),
        env_file: file(r, &var::ENV_FILE),
        log_file: file(r, &var::LOG_FILE),
    }
}
