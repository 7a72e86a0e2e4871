//! The bounds of a pool, on a real server: size, overflow, idleness, age, and the question before use.

use super::*;
use crate::backend::tests::run;
use crate::store::Store;
use crate::store::contract::{record, together};
use crate::store::postgres::tests::{Server, attached, config, until};
use crate::store::postgres::{Config, PoolSettings, Postgres};
use crate::store::{Lent, Opened};
use crate::story::types::Style;
use crate::telemetry::metrics::{Labels, Registry};

fn lent(server: &Server, bounds: impl FnOnce(&mut PoolSettings)) -> Lent {
    let mut config: Config = config(&server.url());
    bounds(&mut config.pool);
    Opened::Postgres(Postgres::new(&config, 1).unwrap()).lend()
}

fn pool(store: &Store) -> Rc<Pool> {
    match store {
        Store::Postgres(client) => Rc::clone(&client.0.pool),
        Store::Embedded(_) | Store::Journaled(_) => panic!("no plain PostgreSQL"),
    }
}

/// Figures of a worker whose store this is.
fn registry(store: &Store) -> Arc<Registry> {
    let registry = Registry::new(Labels {
        routes: &[],
        styles: &[],
    });
    store.observe(&Rc::new(registry.worker(0)));
    registry
}

/// A series of the text, with its labels but for the worker's.
fn figure(registry: &Registry, series: &str) -> f64 {
    let text = registry.text();
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}');
    let line = text
        .lines()
        .find(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(labels));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or(0.0)
}

/// Makes the pool believe that nothing went over its connections for so long.
fn let_lie(pool: &Pool, ms: u64) {
    for one in pool.connections.borrow().iter() {
        one.used_ns.set(context::now_ns().saturating_sub(ms * 1_000_000));
    }
}

#[test]
fn overflow_is_opened_in_a_burst_and_closed_when_idle() {
    let server = Server::start();
    let lent = lent(&server, |bounds| (bounds.size, bounds.overflow) = (2, 3));
    run(async move {
        let store = attached(&lent).await;
        let (pool, registry) = (pool(&store), registry(&store));
        let id = record(1, 1, "a", Style::Nature).id;
        // More than the bound could take at once, so that it is reached.
        for _ in 0..20 {
            let calls = together((0..1000).map(|_| store.get(id)).collect()).await;
            assert!(calls.iter().all(|one| *one == Ok(None)));
        }
        until("what is beyond the size is closed", async || pool.figures().open <= 2).await;
        let opened = figure(&registry, "database_connections_opened_total");
        let closed = figure(&registry, r#"database_connections_closed_total{reason="overflow"}"#);
        assert!(closed >= 1.0, "no overflow in: {}", registry.text());
        assert!((1.0..=20.0 * 5.0).contains(&opened), "{opened}");
        let now = pool.figures();
        assert_eq!((now.busy, now.waiting, now.pooled), (0, 0, 0));
        assert_eq!(figure(&registry, "database_connections_open"), now.open as f64);
        assert_eq!(figure(&registry, "database_connections_busy"), 0.0);
        assert_eq!(figure(&registry, "database_connections_idle"), now.idle as f64);
        let answered = figure(&registry, r#"database_query_duration_seconds_count{statement="get"}"#);
        assert_eq!(answered, 20_000.0);
    });
    assert!(
        server
            .sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'roadtrip-api'")
            .parse::<u32>()
            .unwrap()
            <= 2
    );
}

#[test]
fn what_is_idle_closes_and_comes_back_when_asked_for() {
    let server = Server::start();
    let lent = lent(&server, |_| {});
    run(async move {
        let store = attached(&lent).await;
        let (pool, registry) = (pool(&store), registry(&store));
        let_lie(&pool, limits::IDLE_MS - 1000);
        pool.tidy();
        assert_eq!(pool.figures().open, 1, "closed too early");
        let_lie(&pool, limits::IDLE_MS + 1000);
        pool.tidy();
        assert_eq!(pool.figures().open, 0);
        let closed = figure(&registry, r#"database_connections_closed_total{reason="idle"}"#);
        assert_eq!(closed, 1.0);
        store.ping().await.unwrap();
        assert_eq!(pool.figures().open, 1);
    });
}

#[test]
fn ages_are_spread_by_a_tenth() {
    let server = Server::start();
    let recycle = Duration::from_secs(1000);
    let lent = lent(&server, |bounds| bounds.recycle = recycle);
    run(async move {
        let mut lives = Vec::new();
        for _ in 0..12 {
            let store = attached(&lent).await;
            let pool = pool(&store);
            let one = Rc::clone(&pool.connections.borrow()[0]);
            lives.push(one.expires_ns.saturating_sub(context::now_ns()) / 1_000_000_000);
            store.close().await;
        }
        // Seconds may have gone by since each was opened.
        assert!(lives.iter().all(|life| (840..=1100).contains(life)), "{lives:?}");
        lives.sort_unstable();
        assert!(lives[11] - lives[0] > 20, "no jitter: {lives:?}");
    });
}

#[test]
fn a_connection_that_died_without_a_word_is_found_out_before_it_is_used() {
    let server = Server::start();
    let lent = lent(&server, |_| {});
    run(async move {
        let store = attached(&lent).await;
        let (pool, registry) = (pool(&store), registry(&store));
        // Its process at the server stands still: as behind a firewall that forgot it.
        let pid = server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'roadtrip-api'");
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let_lie(&pool, limits::PRE_PING_IDLE_MS + 1000);
        assert_eq!(store.get(record(1, 1, "a", Style::Nature).id).await, Ok(None));
        let pings = figure(&registry, r#"database_connections_closed_total{reason="ping"}"#);
        assert_eq!(pings, 1.0, "{}", registry.text());
    });
}

#[test]
fn a_silent_connection_that_nobody_waits_on_is_given_up_though_it_is_all_the_pool_may_have() {
    let (frozen, other) = (Server::start(), Server::start());
    let url = format!(
        "postgresql://owner@127.0.0.1:{},127.0.0.1:{}/trips?sslmode=disable",
        frozen.port, other.port
    );
    let mut config: Config = config(&url);
    (config.pool.size, config.pool.overflow) = (1, 0);
    let lent = Opened::Postgres(Postgres::new(&config, 1).unwrap()).lend();
    run(async move {
        let store = attached(&lent).await;
        let (pool, id) = (pool(&store), record(1, 1, "a", Style::Nature).id);
        assert_eq!(pool.connections.borrow()[0].link.target, pool.shared.settings.hosts[0]);
        frozen.freeze(true);
        // Whoever asks gives up before a call's own end, as the journal does.
        let given_up = Duration::from_millis(2 * limits::SILENCE_MS);
        assert!(timeout(given_up, store.get(id)).await.is_err());
        until("the other server serves", async || store.ping().await.is_ok()).await;
        assert_eq!(pool.connections.borrow()[0].link.target, pool.shared.settings.hosts[1]);
        frozen.freeze(false);
    });
}

#[test]
fn who_waits_in_vain_is_told_why_and_counted() {
    let server = Server::start();
    let lent = lent(&server, |bounds| {
        (bounds.size, bounds.overflow, bounds.wait) = (1, 0, Duration::from_millis(100));
    });
    run(async move {
        let store = attached(&lent).await;
        let (pool, registry) = (pool(&store), registry(&store));
        let id = record(1, 1, "a", Style::Nature).id;
        let many = limits::POOL_WAITERS_MAX + usize::try_from(limits::DEPTH_MAX).unwrap() + 500;
        let outcomes = together((0..many).map(|_| store.get(id)).collect()).await;
        let refused = outcomes
            .iter()
            .filter(|one| **one == Err(StoreError::Overloaded))
            .count();
        assert!(refused >= 500, "{refused}");
        let full = figure(&registry, r#"database_errors_total{class="pool_full"}"#);
        assert_eq!(full, refused as f64);
        let waited = figure(&registry, "database_pool_wait_seconds_count");
        assert!(waited >= limits::POOL_WAITERS_MAX as f64, "{waited}");
        assert_eq!((pool.figures().open, pool.figures().waiting), (1, 0));
    });
}
