//! From merged figures to Prometheus' text format 0.0.4, by the `prometheus` crate's own messages and encoder.

use super::cells::{HISTOGRAM_CELLS, Layout, Slot};
use super::families::{Workers, counter, family, gauge, get, histogram, label, name, status, sum, table, worker_id};
use super::{DRIVERS, Labels, METHODS, STATUS_COLUMNS, backends, overload, process, rate, shared_cache};
use crate::cache::redis::Fault;
use crate::telemetry::logging::LogCounters;
use prometheus::proto::{Counter, Metric, MetricFamily, MetricType};

/// Cells of single figures that become a family with one series per worker.
const PER_WORKER: [(Slot, MetricType, &str, &str); 23] = [
    (
        Slot::RequestsActive,
        MetricType::GAUGE,
        "worker_active_requests",
        "Requests being handled now.",
    ),
    (
        Slot::ConnectionsOpen,
        MetricType::GAUGE,
        "http_connections_open",
        "Connections open now.",
    ),
    (
        Slot::ConnectionsAccepted,
        MetricType::COUNTER,
        "http_connections_accepted_total",
        "Connections accepted.",
    ),
    (
        Slot::ProxyRefused,
        MetricType::COUNTER,
        "http_proxy_headers_refused_total",
        "Connections of trusted proxies closed for want of a PROXY header.",
    ),
    (
        Slot::ConnectionsTurnedAway,
        MetricType::COUNTER,
        "http_connections_turned_away_total",
        "Connections closed at once because their address held too many.",
    ),
    (
        Slot::BytesReceived,
        MetricType::COUNTER,
        "http_received_bytes_total",
        "Bytes received from clients.",
    ),
    (
        Slot::BytesSent,
        MetricType::COUNTER,
        "http_sent_bytes_total",
        "Bytes sent to clients.",
    ),
    (
        Slot::CacheHits,
        MetricType::COUNTER,
        "cache_hits_total",
        "Answers found in the worker's cache.",
    ),
    (
        Slot::CacheMisses,
        MetricType::COUNTER,
        "cache_misses_total",
        "Answers not found in the worker's cache.",
    ),
    (
        Slot::CacheEvictions,
        MetricType::COUNTER,
        "cache_evictions_total",
        "Cached answers that gave way to others.",
    ),
    (
        Slot::CacheEntries,
        MetricType::GAUGE,
        "cache_entries",
        "Answers in the worker's cache.",
    ),
    (
        Slot::CacheBytes,
        MetricType::GAUGE,
        "cache_bytes",
        "Bytes in the worker's cache.",
    ),
    (
        Slot::Compressions,
        MetricType::COUNTER,
        "http_compressions_total",
        "Bodies compressed; a cached story is compressed once for each coding.",
    ),
    (
        Slot::StoreFailures,
        MetricType::COUNTER,
        "store_failures_total",
        "Stories that the store refused or lost.",
    ),
    (
        Slot::LoopTurns,
        MetricType::COUNTER,
        "executor_turns_total",
        "Turns of the executor's loop.",
    ),
    (
        Slot::LoopPolls,
        MetricType::COUNTER,
        "executor_polls_total",
        "Tasks polled by the executor.",
    ),
    (
        Slot::LoopStalls,
        MetricType::COUNTER,
        "executor_stalls_total",
        "Polls that held the core for too long.",
    ),
    (
        Slot::HandlerPanics,
        MetricType::COUNTER,
        "http_handler_panics_total",
        "Requests answered 500 because their handler panicked.",
    ),
    (
        Slot::StandInConnections,
        MetricType::COUNTER,
        "worker_stand_in_connections_total",
        "Connections that this worker took for another one, which was stuck or starting again.",
    ),
    (
        Slot::ConnectionsHanded,
        MetricType::COUNTER,
        "worker_connections_handed_total",
        "Connections that this worker accepted and handed to another one, which had fewer.",
    ),
    (
        Slot::ConnectionsHandedBack,
        MetricType::COUNTER,
        "worker_connections_handed_back_total",
        "Connections that were handed over and not taken in time: this worker took them back and served them.",
    ),
    (
        Slot::CacheSqueezed,
        MetricType::COUNTER,
        "cache_pressure_evictions_total",
        "Cached answers given up because memory was short.",
    ),
    (
        Slot::RefusedForMemory,
        MetricType::COUNTER,
        "http_connections_refused_for_memory_total",
        "Connections that came while memory was short, and were answered 503 or closed.",
    ),
];

/// The families of `/metrics`.
pub(super) fn everything(
    labels: &Labels,
    layout: Layout,
    workers: &Workers,
    log: Option<&LogCounters>,
    certificate_expiry: Option<i64>,
) -> Vec<MetricFamily> {
    let mut families = per_worker(labels, layout, workers);
    families.push(durations(labels, layout, workers));
    let store = sum(workers, layout.store()..layout.store() + HISTOGRAM_CELLS);
    families.push(family(
        "store_commit_duration_seconds",
        "Time from asking the store to keep a story to its word that it is safe.",
        MetricType::HISTOGRAM,
        vec![histogram(Vec::new(), &store)],
    ));
    let redis = layout.shared(shared_cache::LATENCY);
    families.push(family(
        "redis_command_duration_seconds",
        "Time from sending commands to Redis to their answers.",
        MetricType::HISTOGRAM,
        vec![histogram(Vec::new(), &sum(workers, redis..redis + HISTOGRAM_CELLS))],
    ));
    families.extend(backends::histograms(layout, workers));
    families.push(overload::waits(layout, workers));
    let handshakes = sum(workers, layout.handshakes()..layout.handshakes() + HISTOGRAM_CELLS);
    families.push(family(
        "tls_handshake_duration_seconds",
        "Time from accepting a connection to the end of its TLS handshake, of those that succeeded.",
        MetricType::HISTOGRAM,
        // None without TLS.
        Some(histogram(Vec::new(), &handshakes))
            .filter(|metric| metric.get_histogram().get_sample_count() > 0)
            .into_iter()
            .collect(),
    ));
    if let Some(expiry) = certificate_expiry {
        families.push(family(
            "tls_certificate_expiry_timestamp_seconds",
            "When the served certificate expires, seconds since 1970.",
            MetricType::GAUGE,
            vec![gauge(Vec::new(), expiry as f64)],
        ));
    }
    let build = vec![
        label("version", env!("CARGO_PKG_VERSION")),
        label("profile", if cfg!(debug_assertions) { "debug" } else { "release" }),
    ];
    families.push(family(
        "roadtrip_build_info",
        "Always 1; the labels tell which build runs.",
        MetricType::GAUGE,
        vec![gauge(build, 1.0)],
    ));
    if let Some(log) = log {
        families.push(family(
            "log_lines_dropped_total",
            "Log lines lost: the queue to the log thread was full, or stdout did not take them.",
            MetricType::COUNTER,
            vec![
                counter(vec![label("reason", "queue_full")], log.queue_full()),
                counter(vec![label("reason", "write_failed")], log.write_failed()),
            ],
        ));
    }
    families.extend(process::figures().into_iter().map(|figure| {
        let (kind, metric) = if figure.counts {
            let mut value = Counter::default();
            value.set_value(figure.value);
            let mut metric = Metric::default();
            metric.set_counter(value);
            (MetricType::COUNTER, metric)
        } else {
            (MetricType::GAUGE, gauge(Vec::new(), figure.value))
        };
        family(figure.name, figure.help, kind, vec![metric])
    }));
    families
}

/// The families of `/health/v2/metrics/worker`.
pub(super) fn per_worker(labels: &Labels, layout: Layout, workers: &Workers) -> Vec<MetricFamily> {
    let mut families = vec![
        requests(labels, layout, workers),
        family(
            "worker_health_status",
            "1 where the worker lives and is not stuck, else 0.",
            MetricType::GAUGE,
            workers
                .values()
                .filter(|worker| !worker.dismissed)
                .map(|worker| {
                    gauge(
                        vec![label("component", "worker"), worker_id(worker)],
                        f64::from(u8::from(worker.healthy)),
                    )
                })
                .collect(),
        ),
        family(
            "worker_stuck_total",
            "How often the worker was found stuck.",
            MetricType::COUNTER,
            workers
                .values()
                .map(|worker| counter(vec![worker_id(worker)], worker.stuck))
                .collect(),
        ),
        family(
            "io_driver_info",
            "Always 1; the label tells how the worker talks to the kernel.",
            MetricType::GAUGE,
            workers
                .values()
                .filter_map(|worker| {
                    let driver = DRIVERS.get(worker.driver?)?;
                    Some(gauge(vec![label("driver", driver), worker_id(worker)], 1.0))
                })
                .collect(),
        ),
    ];
    let own = PER_WORKER.map(|(slot, kind, name, help)| (layout.slot(slot), kind, name, help));
    let shared =
        shared_cache::PER_WORKER.map(|(cell, kind, name, help)| (layout.shared(cell as usize), kind, name, help));
    let limits = rate::PER_WORKER.map(|(cell, kind, name, help)| (layout.rate(cell), kind, name, help));
    for (cell, kind, name, help) in own.into_iter().chain(shared).chain(limits) {
        let metrics = workers
            .values()
            .map(|worker| {
                let value = get(worker, cell);
                match kind {
                    MetricType::COUNTER => counter(vec![worker_id(worker)], value),
                    _ => gauge(vec![worker_id(worker)], value as f64),
                }
            })
            .collect();
        families.push(family(name, help, kind, metrics));
    }
    families.push(table(
        (
            "redis_errors_total",
            "Commands and connections to Redis that failed, by kind.",
        ),
        workers,
        Fault::ALL.iter().map(|fault| {
            (
                layout.shared(shared_cache::fault(*fault as usize)),
                vec![label("kind", fault.name())],
            )
        }),
    ));
    families.extend(backends::per_worker(layout, workers));
    families.extend(overload::per_worker(layout, workers));
    families.push(table(
        (
            "rate_limit_refused_total",
            "Requests answered 429, by the limit that they met.",
        ),
        workers,
        rate::SCOPES
            .iter()
            .map(|(cell, scope)| (layout.rate(*cell), vec![label("scope", scope)])),
    ));
    families.push(family(
        "store_commits_total",
        "Stories kept.",
        MetricType::COUNTER,
        workers
            .values()
            .map(|worker| {
                let kept = (0..HISTOGRAM_CELLS - 1)
                    .map(|at| get(worker, layout.store() + at))
                    .sum();
                counter(vec![worker_id(worker)], kept)
            })
            .collect(),
    ));
    let handshakes = layout.handshakes()..layout.handshakes() + HISTOGRAM_CELLS - 1;
    families.push(family(
        "tls_handshakes_total",
        "TLS handshakes that ended; not those of clients who left without a word.",
        MetricType::COUNTER,
        workers
            .values()
            .flat_map(|worker| {
                let ok = handshakes.clone().map(|at| get(worker, at)).sum();
                let failed = get(worker, layout.slot(Slot::HandshakesFailed));
                [("ok", ok), ("failed", failed)]
                    .into_iter()
                    .filter(|(_, count)| *count > 0)
                    .map(|(result, count)| counter(vec![label("result", result), worker_id(worker)], count))
            })
            .collect(),
    ));
    families.push(table(
        (
            "http_requests_rejected_total",
            "Connections ended because what came was no request, by the status answered.",
        ),
        workers,
        (0..STATUS_COLUMNS).map(|column| (layout.reject(column), vec![label("status", &status(column))])),
    ));
    families.push(table(
        ("stories_generated_total", "Stories told anew, by style."),
        workers,
        (0..layout.styles).map(|style| (layout.style(style), vec![label("style", name(labels.styles, style))])),
    ));
    families
}

/// The text of these families, sorted by name; families without a series are left out.
pub(super) fn render(mut families: Vec<MetricFamily>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = String::with_capacity(16 * 1024);
    if let Err(fault) = prometheus::TextEncoder::new().encode_utf8(&families, &mut text) {
        // The encoder refuses families without name or series only, and there are none. Were there one, what is
        // written so far is still whole families, and this says that something is missing.
        tracing::error!(%fault, "metrics could not be rendered whole");
    }
    text
}

fn requests(labels: &Labels, layout: Layout, workers: &Workers) -> MetricFamily {
    let series = (0..layout.routes).flat_map(|route| {
        METHODS
            .iter()
            .enumerate()
            .flat_map(move |(row, method)| (0..STATUS_COLUMNS).map(move |column| (route, row, *method, column)))
    });
    let cells: Vec<(usize, (usize, &str, usize))> = series
        .map(|(route, row, method, column)| (layout.request(route, row, column), (route, method, column)))
        .collect();
    let mut metrics = Vec::new();
    for worker in workers.values() {
        for (cell, (route, method, column)) in &cells {
            let count = get(worker, *cell);
            if count > 0 {
                let labels = vec![
                    label("method", method),
                    label("route", name(labels.routes, *route)),
                    label("status", &status(*column)),
                    worker_id(worker),
                ];
                metrics.push(counter(labels, count));
            }
        }
    }
    family(
        "http_requests_total",
        "Requests answered.",
        MetricType::COUNTER,
        metrics,
    )
}

/// Latency by route, all workers together: by worker it would be 19 lines for each pair of the two.
fn durations(labels: &Labels, layout: Layout, workers: &Workers) -> MetricFamily {
    let metrics = (0..layout.routes)
        .filter_map(|route| {
            let cells = sum(workers, layout.route(route)..layout.route(route) + HISTOGRAM_CELLS);
            let metric = histogram(vec![label("route", name(labels.routes, route))], &cells);
            (metric.get_histogram().get_sample_count() > 0).then_some(metric)
        })
        .collect();
    family(
        "http_request_duration_seconds",
        "Time from the first byte of a request to the last byte of its answer handed to the kernel.",
        MetricType::HISTOGRAM,
        metrics,
    )
}
