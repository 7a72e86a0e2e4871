//! Figures for Prometheus: every worker writes its own, and only a scrape reads them all.
//!
//! * [`Registry`]: one per process. Gives each worker its [`WorkerMetrics`] and merges all of them into text.
//! * [`WorkerMetrics`]: the pen of one worker. Counting is a load and a store without lock prefix, on cache lines that
//!   no other worker writes (see [`worker`]); no allocation, no lookup by name.
//! * Labels are closed sets given at start ([`Labels`]) or fixed here, so that no client can make series.
//!
//! Names that the scaling guide fixes: `http_requests_total`, `http_request_duration_seconds` (bounds 0.2 and 0.5),
//! `worker_health_status{component="worker"}`, `worker_active_requests`. The rest follow Prometheus' naming rules.
//!
//! A scrape costs what there is to tell: zero series of the tables are left out. It runs on the worker that was asked
//! and reads /proc, which is memory and does not block.

mod backends;
mod cells;
mod expose;
mod families;
mod journal;
mod lives;
mod memory;
mod overload;
mod process;
mod rate;
mod registry;
mod shared_cache;
#[cfg(test)]
mod tests;
pub mod worker;

pub use backends::{Closed, Failed, STATEMENTS};
pub use lives::{Lives, Reason};
pub(crate) use process::open_fds as open_files;
pub use registry::{Registry, WorkerSummary};
pub use worker::{ExecutorFigures, WorkerMetrics};

/// The content type of [`Registry::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The closed label sets that other rooms own. A number handed to [`WorkerMetrics`] is an index into them.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// Routes as the router names them ("/api/v1/stories/{id}"). One more, `other`, follows them by itself.
    pub routes: &'static [&'static str],
    /// Styles of stories. One more, `other`, follows them by itself.
    pub styles: &'static [&'static str],
}

/// What an index past the end of a label set counts as.
const OTHER: &str = "other";

/// Upper bounds of the latency buckets, nanoseconds. 50 us is a cached story; 200 ms and 500 ms are the guide's target
/// and alert; past 10 s every client is gone.
const BOUNDS_NS: [u64; 17] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Methods that are told apart.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", OTHER,
];

/// Statuses that are told apart, ascending; any other counts as `other`. 499: the client left before its answer.
const STATUSES: [u16; 36] = [
    100, 200, 201, 202, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414,
    415, 416, 417, 421, 422, 429, 431, 499, 500, 501, 502, 503, 505,
];
/// Columns of a status table: the above and `other`.
const STATUS_COLUMNS: usize = STATUSES.len() + 1;

/// Drivers by the number under which a worker keeps its own.
const DRIVERS: [&str; 4] = ["unknown", "uring", "epoll", "sim"];

/// First status of [`STATUS_COLUMN`], and one past its last.
const STATUS_RANGE: (u16, u16) = (100, 600);

/// Column of each status from 100 to 599, so that counting needs no search.
static STATUS_COLUMN: [u8; 500] = {
    let mut columns = [STATUSES.len() as u8; 500];
    let mut at = 0;
    while at < STATUSES.len() {
        columns[(STATUSES[at] - STATUS_RANGE.0) as usize] = at as u8;
        at += 1;
    }
    columns
};

const _: () = assert!(STATUS_COLUMNS < u8::MAX as usize);
const _: () = assert!(STATUS_COLUMN.len() == (STATUS_RANGE.1 - STATUS_RANGE.0) as usize);

#[inline]
fn status_column(status: u16) -> usize {
    let at = status.checked_sub(STATUS_RANGE.0).map(usize::from);
    at.and_then(|at| STATUS_COLUMN.get(at))
        .map_or(STATUSES.len(), |column| usize::from(*column))
}

#[inline]
fn method_row(method: &str) -> usize {
    match method {
        "GET" => 0,
        "HEAD" => 1,
        "POST" => 2,
        "PUT" => 3,
        "DELETE" => 4,
        "OPTIONS" => 5,
        "PATCH" => 6,
        "TRACE" => 7,
        _ => METHODS.len() - 1,
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    // Most requests fall into the first buckets: a scan from the front beats a binary search.
    BOUNDS_NS
        .iter()
        .position(|bound| ns <= *bound)
        .unwrap_or(BOUNDS_NS.len())
}
