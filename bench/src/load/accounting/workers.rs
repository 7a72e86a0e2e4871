//! Requests by worker, from the server's own `/health/v2/metrics/worker`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

/// How long a scrape may take.
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A worker's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Worker {
    pub(super) worker_id: String,
    pub(super) requests: u64,
    /// Of all workers' requests.
    pub(super) share: f64,
}

/// Requests by worker so far. None where the server has no such page, in the clear.
pub(super) fn scrape(address: SocketAddr) -> Option<Vec<(String, u64)>> {
    let mut stream = TcpStream::connect_timeout(&address, SCRAPE_LIMIT).ok()?;
    stream.set_read_timeout(Some(SCRAPE_LIMIT)).ok()?;
    stream.set_write_timeout(Some(SCRAPE_LIMIT)).ok()?;
    write!(
        stream,
        "GET /health/v2/metrics/worker HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    // A read that breaks off, as TLS' alert does, leaves what came.
    let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    text.starts_with("HTTP/1.1 200").then(|| requests(&text))
}

/// Sums of `http_requests_total` by `worker_id`, of the Prometheus text format.
fn requests(text: &str) -> Vec<(String, u64)> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines() {
        let read = || {
            let rest = line.strip_prefix("http_requests_total{")?;
            let (labels, value) = rest.rsplit_once('}')?;
            let (_, worker) = labels.split_once("worker_id=\"")?;
            let (worker, _) = worker.split_once('"')?;
            let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
            Some((worker.to_owned(), value as u64))
        };
        if let Some((worker, count)) = read() {
            let sum = sums.entry(worker).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    sums.into_iter().collect()
}

/// What each worker answered between two scrapes.
pub(super) fn spread(before: &[(String, u64)], after: &[(String, u64)]) -> Vec<Worker> {
    let counts: Vec<(&String, u64)> = after
        .iter()
        .map(|(worker, now)| {
            let then = before.iter().find(|(w, _)| w == worker).map_or(0, |(_, count)| *count);
            (worker, now.saturating_sub(then))
        })
        .collect();
    let all = counts.iter().map(|(_, count)| count).sum::<u64>().max(1);
    counts
        .into_iter()
        .map(|(worker, requests)| Worker {
            worker_id: worker.clone(),
            requests,
            share: requests as f64 / all as f64,
        })
        .collect()
}

/// The busiest worker's requests over the mean.
pub(super) fn imbalance(workers: &[Worker]) -> Option<f64> {
    let most = workers.iter().map(|w| w.requests).max()? as f64;
    let all: u64 = workers.iter().map(|w| w.requests).sum();
    (all > 0).then(|| most * workers.len() as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_page_is_summed_by_worker() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE http_requests_total counter\n\
             http_requests_total{method=\"GET\",status=\"200\",worker_id=\"0\"} 10\n\
             http_requests_total{method=\"POST\",status=\"200\",worker_id=\"0\"} 5\n\
             http_requests_total{worker_id=\"1\",method=\"GET\"} 5\n\
             http_requests_total_other{worker_id=\"1\"} 99\n";
        let before = vec![("0".to_owned(), 5)];
        let workers = spread(&before, &requests(text));
        assert_eq!(workers.iter().map(|w| w.requests).collect::<Vec<_>>(), [10, 5]);
        assert!((imbalance(&workers).unwrap() - 4.0 / 3.0).abs() < 1e-9);
        assert_eq!(imbalance(&[]), None);
    }
}
