use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LABELS: Labels = Labels {
    routes: &["/health", "/api/v1/stories/{id}", "/odd\"\\\nroute"],
    styles: &["adventure", "history"],
};

/// Series of an exposition: name, sorted labels, value.
type Series = BTreeMap<(String, BTreeMap<String, String>), f64>;

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Labels of `{...}`, unescaped, by the rules of the text format; and what follows.
fn parse_labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return (labels, text);
    };
    loop {
        let (name, value) = rest.split_once("=\"").expect("label");
        assert!(is_name(name), "label name {name:?}");
        let mut plain = String::new();
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().expect("an open label value") {
                (at, '"') => break at,
                (_, '\\') => plain.push(match chars.next().expect("an open escape").1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("escape \\{c}"),
                }),
                (_, c) => plain.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), plain).is_none(), "label {name} twice");
        rest = &value[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, rest.strip_prefix('}').expect("closing brace")),
        }
    }
}

/// Reads text format 0.0.4 and panics at anything that a strict reader would refuse: a sample outside of its family,
/// a family twice or without HELP and TYPE or without samples, a series twice, families out of order, histograms
/// that do not add up, counters that are not called `_total`.
fn parse(text: &str) -> Series {
    assert!(text.is_empty() || text.ends_with('\n'));
    let mut series = Series::new();
    let mut families: Vec<(String, String)> = Vec::new();
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("help");
            assert!(is_name(name) && help.len() > 4, "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("type");
            assert_eq!(name, helped, "HELP and TYPE of different families");
            assert!(
                families.last().is_none_or(|(last, _)| last.as_str() < name),
                "{name} out of order or twice"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            families.push((name.to_owned(), kind.to_owned()));
        } else {
            let name_end = line.find(['{', ' ']).expect("sample");
            let (name, rest) = line.split_at(name_end);
            let (labels, rest) = parse_labels(rest);
            let (family, kind) = families.last().expect("a sample before any family");
            let suffix = name
                .strip_prefix(family.as_str())
                .unwrap_or_else(|| panic!("{line} within {family}"));
            let suffixes: &[&str] = if kind == "histogram" {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            assert!(is_name(name) && suffixes.contains(&suffix), "{line}");
            let value: f64 = rest.strip_prefix(' ').expect("value").parse().expect("a number");
            assert!(value.is_finite() && value >= 0.0);
            assert!(
                series.insert((name.to_owned(), labels), value).is_none(),
                "{line} twice"
            );
        }
    }
    for (family, kind) in &families {
        let of_family = |(name, _): &&(String, BTreeMap<String, String>)| name.starts_with(family.as_str());
        assert!(series.keys().any(|key| of_family(&key)), "{family} without a sample");
        if kind == "histogram" {
            check_histogram(&series, family);
        }
    }
    series
}

fn check_histogram(series: &Series, family: &str) {
    for ((_, labels), count) in series
        .iter()
        .filter(|((name, _), _)| *name == format!("{family}_count"))
    {
        let mut buckets: Vec<(f64, f64)> = series
            .iter()
            .filter(|((name, _), _)| *name == format!("{family}_bucket"))
            .filter_map(|((_, of), value)| {
                let mut of = of.clone();
                let bound = of.remove("le").expect("le");
                (of == *labels).then(|| (bound.parse().expect("bound"), *value))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(
            buckets
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1),
            "{buckets:?}"
        );
        let last = buckets.last().expect("buckets");
        assert!(last.0.is_infinite() && last.1 == *count);
        assert!(series.contains_key(&(format!("{family}_sum"), labels.clone())));
    }
}

fn value(series: &Series, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    series.get(&(name.to_owned(), labels)).copied()
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_figures_come_out_as_they_went_in() {
    let registry = Registry::new(LABELS);
    let (zero, one) = (registry.worker(0), registry.worker(1));
    for _ in 0..3 {
        zero.request_began();
        zero.request_ended(0, "GET", 200, 150 * MS);
    }
    one.request_began();
    one.request_ended(1, "POST", 503, 300 * MS);
    one.request_began();
    one.request_ended(2, "BREW", 418, 20_000 * MS);
    one.request_began();
    one.request_ended(77, "GET", 999, Duration::ZERO);
    one.request_began();
    zero.connection_opened();
    zero.connection_opened();
    zero.connection_closed();
    zero.received(100);
    zero.sent(2000);
    zero.request_rejected(400);
    zero.cache_hit();
    zero.cache_missed();
    zero.cache_missed();
    zero.cache_evicted(7);
    zero.cache_holds(5, 5000);
    one.store_committed(2 * MS);
    one.store_failed();
    one.story_generated(1);
    one.story_generated(9);
    zero.executor(ExecutorFigures {
        turns: 10,
        polls: 20,
        stalls: 1,
    });
    zero.executor(ExecutorFigures {
        turns: 15,
        polls: 25,
        stalls: 1,
    });
    zero.io_driver("uring");
    registry.set_health(1, false);

    let s = parse(&registry.text());
    let total = |method, route, status, worker| {
        let labels = [
            ("method", method),
            ("route", route),
            ("status", status),
            ("worker_id", worker),
        ];
        value(&s, "http_requests_total", &labels)
    };
    assert_eq!(total("GET", "/health", "200", "0"), Some(3.0));
    assert_eq!(total("POST", "/api/v1/stories/{id}", "503", "1"), Some(1.0));
    assert_eq!(total("other", "/odd\"\\\nroute", "other", "1"), Some(1.0));
    assert_eq!(total("GET", "other", "other", "1"), Some(1.0));
    assert_eq!(
        s.keys().filter(|(name, _)| name == "http_requests_total").count(),
        4,
        "zero series are left out"
    );

    let bucket = |route, le| {
        value(
            &s,
            "http_request_duration_seconds_bucket",
            &[("route", route), ("le", le)],
        )
    };
    assert_eq!(bucket("/health", "0.1"), Some(0.0));
    assert_eq!(bucket("/health", "0.2"), Some(3.0));
    assert_eq!(bucket("/api/v1/stories/{id}", "0.2"), Some(0.0));
    assert_eq!(bucket("/api/v1/stories/{id}", "0.5"), Some(1.0));
    assert_eq!(bucket("/odd\"\\\nroute", "10"), Some(0.0));
    assert_eq!(bucket("/odd\"\\\nroute", "+Inf"), Some(1.0));
    assert_eq!(bucket("other", "0.00005"), Some(1.0));
    let seconds = value(&s, "http_request_duration_seconds_sum", &[("route", "/health")]).unwrap();
    assert!((seconds - 0.45).abs() < 1e-9);

    let health = |id| {
        value(
            &s,
            "worker_health_status",
            &[("component", "worker"), ("worker_id", id)],
        )
    };
    assert_eq!((health("0"), health("1")), (Some(1.0), Some(0.0)));
    for (name, of_zero, of_one) in [
        ("worker_active_requests", 0.0, 1.0),
        ("http_connections_open", 1.0, 0.0),
        ("http_connections_accepted_total", 2.0, 0.0),
        ("http_received_bytes_total", 100.0, 0.0),
        ("http_sent_bytes_total", 2000.0, 0.0),
        ("cache_hits_total", 1.0, 0.0),
        ("cache_misses_total", 2.0, 0.0),
        ("cache_evictions_total", 7.0, 0.0),
        ("cache_entries", 5.0, 0.0),
        ("cache_bytes", 5000.0, 0.0),
        ("store_failures_total", 0.0, 1.0),
        ("store_commits_total", 0.0, 1.0),
        ("executor_turns_total", 15.0, 0.0),
        ("executor_polls_total", 25.0, 0.0),
        ("executor_stalls_total", 1.0, 0.0),
    ] {
        assert_eq!(value(&s, name, &[("worker_id", "0")]), Some(of_zero), "{name} of 0");
        assert_eq!(value(&s, name, &[("worker_id", "1")]), Some(of_one), "{name} of 1");
    }
    assert_eq!(
        value(
            &s,
            "http_requests_rejected_total",
            &[("status", "400"), ("worker_id", "0")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(
            &s,
            "stories_generated_total",
            &[("style", "history"), ("worker_id", "1")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(&s, "stories_generated_total", &[("style", "other"), ("worker_id", "1")]),
        Some(1.0)
    );
    assert_eq!(value(&s, "store_commit_duration_seconds_count", &[]), Some(1.0));
    assert_eq!(
        value(&s, "io_driver_info", &[("driver", "uring"), ("worker_id", "0")]),
        Some(1.0)
    );
    assert_eq!(
        value(&s, "io_driver_info", &[("driver", "unknown"), ("worker_id", "1")]),
        Some(1.0)
    );
    assert!(
        s.keys()
            .any(|(name, labels)| name == "roadtrip_build_info" && labels.contains_key("version"))
    );
    assert!(value(&s, "process_open_fds", &[]).is_some());
}

#[test]
fn the_worker_view_is_a_part_of_the_whole() {
    let registry = Registry::new(LABELS);
    let workers: Vec<_> = (0..4).map(|id| registry.worker(id)).collect();
    workers[3].request_began();
    workers[3].request_ended(0, "GET", 200, MS);
    let (part, whole) = (parse(&registry.worker_text()), parse(&registry.text()));
    assert!(
        part.keys()
            .all(|key| whole.contains_key(key) && key.1.contains_key("worker_id"))
    );
    let ids: BTreeSet<_> = part.keys().map(|(_, labels)| labels["worker_id"].clone()).collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn an_empty_registry_renders() {
    let series = parse(
        &Registry::new(Labels {
            routes: &[],
            styles: &[],
        })
        .text(),
    );
    assert!(series.keys().all(|(name, _)| !name.starts_with("http_requests")));
    assert_eq!(parse(&Registry::new(LABELS).worker_text()), Series::new());
}

#[test]
fn a_worker_born_again_goes_on_counting() {
    let registry = Registry::new(LABELS);
    let count = |registry: &Registry| {
        let s = parse(&registry.text());
        let id = ("worker_id", "5");
        let labels = [("method", "GET"), ("route", "/health"), ("status", "200"), id];
        let health = value(&s, "worker_health_status", &[("component", "worker"), id]).unwrap();
        let turns = value(&s, "executor_turns_total", &[id]).unwrap();
        let open = value(&s, "http_connections_open", &[id]).unwrap();
        (value(&s, "http_requests_total", &labels), health, turns, open)
    };
    let live = |worker: &WorkerMetrics| {
        worker.connection_opened();
        worker.request_began();
        worker.request_ended(0, "GET", 200, MS);
        worker.executor(ExecutorFigures {
            turns: 10,
            ..Default::default()
        });
    };
    let first = registry.worker(5);
    live(&first);
    assert_eq!(count(&registry), (Some(1.0), 1.0, 10.0, 1.0));
    // Handed over: the successor starts while the former still drains.
    let second = registry.worker(5);
    live(&second);
    assert_eq!(count(&registry), (Some(2.0), 1.0, 20.0, 2.0));
    drop(first);
    assert_eq!(count(&registry), (Some(2.0), 1.0, 20.0, 1.0));
    let summary = WorkerSummary {
        id: 5,
        healthy: true,
        requests_active: 0,
        connections_open: 1,
    };
    assert_eq!(registry.summaries(), [summary]);
    drop(second);
    assert_eq!(count(&registry), (Some(2.0), 0.0, 20.0, 0.0));
    // A third takes over kept cells instead of growing the list.
    let third = registry.worker(5);
    live(&third);
    assert_eq!(count(&registry), (Some(3.0), 1.0, 30.0, 1.0));
    assert_eq!((registry.summaries().len(), registry.kept()), (1, 2));
}

#[test]
fn scrapes_while_workers_count_see_whole_and_growing_figures() {
    let registry = Registry::new(LABELS);
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|id| {
            let (worker, stop) = (registry.worker(id), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut counted = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    worker.request_began();
                    worker.request_ended(0, "GET", 200, MS);
                    counted += 1;
                }
                counted
            })
        })
        .collect();
    let totals = |series: &Series| -> f64 {
        series
            .iter()
            .filter(|((name, _), _)| name == "http_requests_total")
            .map(|(_, value)| value)
            .sum()
    };
    let mut last = 0.0;
    for _ in 0..50 {
        let now = totals(&parse(&registry.text()));
        assert!(now >= last);
        last = now;
    }
    stop.store(true, Ordering::Relaxed);
    let counted: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(totals(&parse(&registry.text())), counted as f64);
}

#[test]
fn layout_has_no_two_figures_in_one_cell() {
    use super::cells::{HISTOGRAM_CELLS, Layout, Slot};
    let layout = Layout { routes: 3, styles: 2 };
    let mut cells: Vec<usize> = (0..Slot::COUNT).collect();
    cells.extend((0..STATUS_COLUMNS).map(|column| layout.reject(column)));
    cells.extend(layout.store()..layout.store() + HISTOGRAM_CELLS);
    cells.extend((0..2).map(|style| layout.style(style)));
    cells.extend((0..super::shared_cache::CELLS).map(|at| layout.shared(at)));
    cells.extend((0..super::backends::CELLS).map(|at| layout.backend(at)));
    cells.extend(super::rate::PER_WORKER.map(|(cell, ..)| layout.rate(cell)));
    cells.extend(super::rate::SCOPES.map(|(cell, _)| layout.rate(cell)));
    for route in 0..3 {
        cells.extend(layout.route(route)..layout.route(route) + HISTOGRAM_CELLS);
        for method in 0..METHODS.len() {
            cells.extend((0..STATUS_COLUMNS).map(|column| layout.request(route, method, column)));
        }
    }
    assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), cells.len());
    assert!(cells.iter().all(|cell| *cell < layout.len()));
}

#[test]
fn tables_are_what_lookups_expect() {
    assert!(STATUSES.is_sorted() && BOUNDS_NS.is_sorted());
    for (column, status) in STATUSES.iter().enumerate() {
        assert_eq!(status_column(*status), column);
    }
    for (row, method) in METHODS.iter().enumerate() {
        assert_eq!(method_row(method), row);
    }
    assert!(BOUNDS_NS.contains(&200_000_000) && BOUNDS_NS.contains(&500_000_000));
}

/// The text of a scrape, for a person or another parser: `cargo test --lib show_metrics -- --ignored --nocapture`.
#[test]
#[ignore = "prints"]
fn show_metrics() {
    let registry = Registry::new(LABELS);
    let workers: Vec<_> = (0..2).map(|id| registry.worker(id)).collect();
    for worker in &workers {
        worker.connection_opened();
        worker.request_began();
        worker.request_ended(2, "GET", 200, MS);
        worker.story_generated(0);
        worker.request_rejected(431);
        worker.store_committed(MS);
    }
    println!("{}", registry.text());
}

/// Cost of one counted request, and of a scrape of 64 busy workers:
/// `cargo test --lib metrics_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn metrics_speed() {
    const TURNS: u32 = 1_000_000;
    let registry = Registry::new(LABELS);
    let workers: Vec<_> = (0..64).map(|id| registry.worker(id)).collect();
    let start = Instant::now();
    for turn in 0..TURNS {
        workers[0].request_began();
        workers[0].request_ended(1, "POST", 200, Duration::from_nanos(u64::from(turn)));
    }
    println!("{:?} per request", start.elapsed() / TURNS);
    for worker in &workers {
        for status in STATUSES {
            worker.request_ended(0, "GET", status, MS);
        }
    }
    let start = Instant::now();
    let text = registry.text();
    println!("{:?} per scrape of {} bytes", start.elapsed(), text.len());
}

proptest! {
    #[test]
    fn any_argument_is_counted_somewhere(route: usize, method in ".{0,8}", status: u16, ns: u64, style: usize) {
        let registry = Registry::new(LABELS);
        let worker = registry.worker(u32::MAX);
        worker.request_ended(route, &method, status, Duration::from_nanos(ns));
        worker.request_rejected(status);
        worker.story_generated(style);
        worker.io_driver(&method);
        let s = parse(&registry.text());
        for name in ["http_requests_total", "http_requests_rejected_total", "stories_generated_total"] {
            let values: Vec<f64> = s.iter().filter(|((n, _), _)| n == name).map(|(_, value)| *value).collect();
            prop_assert_eq!(values, [1.0]);
        }
    }
}
