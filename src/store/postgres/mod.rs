//! The store of production: a PostgreSQL database that all pods share.
//!
//! The client is tokio-postgres over this worker's own streams (`connect_raw`): no thread, no runtime of tokio's, and
//! nothing shared between workers but counters. Each worker has its own connections ([`pool`]), mostly one or two, with
//! many calls in flight on each. Puts of one moment share a statement and a flush ([`batch`]); a put is answered after
//! COMMIT. The schema is made by [`schema`]'s migrations.
//!
//! A server that is away at boot does not keep the process from starting: the pool tries on, readiness says why it is
//! 503, and stories in the workers' caches are told all the while. `tests/faults.md` has what clients see of each fault.
//!
//! [`Postgres`] is the process's part, made at boot; [`Client`] a worker's. Deliberately absent: queries of others than
//! the store's six calls, LISTEN/NOTIFY, and cancelling a statement at the server (its own statement_timeout does).

mod advice;
mod batch;
mod connect;
mod fault;
mod observe;
mod pool;
mod pooler;
pub mod schema;
mod settings;
mod statements;
#[cfg(test)]
pub(in crate::store) mod tests;

pub use observe::PoolFigures;
pub use settings::{Settings, SettingsError};

use super::{Cursor, Filter, Health, Kept, Page, Record, State, StoreError, StoryKey};
use crate::backend::tls::{Tls, TlsError};
use crate::config::SecretUrl;
use crate::limits::postgres as limits;
use crate::runtime::context;
use crate::telemetry::metrics::WorkerMetrics;
use batch::Puts;
use fault::Fault;
use pool::{Kind, Pool};
use settings::SslMode;
use statements::Query;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Bounds of a worker's pool, in the words of the service before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections that may stay open.
    pub size: usize,
    /// Connections beyond that, closed as soon as they are idle.
    pub overflow: usize,
    /// How long a call waits for a connection.
    pub wait: Duration,
    /// How old a connection gets, more or less a tenth.
    pub recycle: Duration,
    /// Ask a connection that was idle whether it lives.
    pub pre_ping: bool,
}

/// How to reach the database, and what of it may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// DATABASE_URL.
    pub url: SecretUrl,
    /// Each worker's pool.
    pub pool: PoolSettings,
    /// Apply pending migrations when connecting.
    pub auto_migrate: bool,
    /// Pods that the service may grow to.
    pub pods_max: u64,
}

/// Why the store cannot be set up: a matter of configuration and files, not of the server.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection string.
    #[error("DATABASE_URL {0}")]
    Settings(#[from] SettingsError),
    /// The files that it names.
    #[error(
        "DATABASE_URL asks for TLS that cannot be set up.\nCause: {0}.\nRemedy: mount the file, or correct sslrootcert, sslcert and sslkey."
    )]
    Tls(#[from] TlsError),
}

/// Counts of the process, written by its workers.
#[derive(Debug, Default)]
struct Figures {
    connections: AtomicU64,
    puts: AtomicU64,
    commits: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
    last_commit_us: AtomicU64,
    stories: AtomicU64,
    bytes: AtomicU64,
    /// When those two were last asked for, milliseconds of the workers' clock.
    sized_ms: AtomicU64,
}

/// What the workers of a process share: read by all, written rarely.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    tls: Option<Tls>,
    pool: PoolSettings,
    auto_migrate: bool,
    pods_max: u64,
    workers: usize,
    figures: Figures,
    advised: AtomicBool,
    /// The database that was reached last has not the schema that this binary needs.
    unfit: AtomicBool,
}

/// The process's part: made once, lent to each worker.
#[derive(Debug, Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

impl Postgres {
    /// Checks the configuration and reads the files that it names. Connects to nothing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(config: &Config, workers: usize) -> Result<Postgres, OpenError> {
        let settings = Settings::parse(config.url.expose())?;
        let tls = match settings.ssl {
            SslMode::Disable => None,
            SslMode::Prefer | SslMode::Require => Some(Tls::new(&settings.tls)?),
        };
        Ok(Postgres {
            shared: Arc::new(Shared {
                settings,
                tls,
                pool: config.pool,
                auto_migrate: config.auto_migrate,
                pods_max: config.pods_max,
                workers,
                figures: Figures::default(),
                advised: AtomicBool::new(false),
                unfit: AtomicBool::new(false),
            }),
        })
    }

    /// A worker's handle; begins to connect in the background. Call it on the worker, in its runtime.
    pub fn attach(&self) -> Client {
        let pool = Pool::new(Arc::clone(&self.shared));
        Client(Rc::new(Inner {
            puts: Puts::new(Rc::clone(&pool)),
            pool,
            ready: Cell::new(false),
        }))
    }

    /// Connects once, for `roadtrip-api migrate`: what the database has, and what was done about it.
    ///
    /// # Errors
    /// In one line: the server is away, or refuses.
    pub async fn session(&self) -> Result<Session, String> {
        Ok(Session(connect::open(&self.shared).await?))
    }
}

/// One connection outside of a pool.
pub struct Session(connect::Link);

impl Session {
    /// What statements are sent through.
    ///
    /// # Errors
    /// When it was closed.
    pub fn client(&self) -> Result<&tokio_postgres::Client, String> {
        self.0.client().ok_or_else(|| "the connection was closed".to_owned())
    }

    /// Which server it leads to, without user and password.
    pub fn server(&self) -> String {
        self.0.target.to_string()
    }
}

struct Inner {
    pool: Rc<Pool>,
    puts: Rc<Puts>,
    /// It has answered once.
    ready: Cell<bool>,
}

/// A worker's handle to the database. Not `Send`: its connections are the worker's.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres::Client")
    }
}

impl Client {
    /// Asks, and `reads` the answer: while the connection is held, because an answer that does not fit says that the
    /// connection gives none that can be believed.
    async fn ask<T>(
        &self,
        query: Query,
        parameters: &[statements::Parameter<'_>],
        read: impl Fn(&[tokio_postgres::Row]) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let run = self.0.pool.run(Kind::Read, async |connection| {
            let client = connection.client()?;
            read(&connection.statements.run(client, query, parameters).await?)
        });
        run.await.map_err(|fault| fault.error)
    }

    /// See [`super::Store::get`].
    pub async fn get(&self, id: Uuid) -> Result<Option<Kept>, StoreError> {
        let read = |rows: &[tokio_postgres::Row]| match rows.first().map(statements::kept).transpose()? {
            Some(kept) if kept.id != id => Err(Fault::nonsense("another id")),
            kept => Ok(kept),
        };
        self.ask(Query::Get, &[&id], read).await
    }

    /// See [`super::Store::find`].
    pub async fn find(&self, key: StoryKey) -> Result<Option<Kept>, StoreError> {
        let key = &key.as_bytes()[..];
        let read = |rows: &[tokio_postgres::Row]| match rows.first() {
            Some(row) if row.try_get::<_, &[u8]>(3)? != key => Err(Fault::nonsense("another key")),
            Some(row) => Ok(Some(statements::kept(row)?)),
            None => Ok(None),
        };
        self.ask(Query::Find, &[&key], read).await
    }

    /// See [`super::Store::put`].
    pub async fn put(&self, record: Record) -> Result<Kept, StoreError> {
        self.0.puts.put(record).await
    }

    /// See [`super::Store::list`].
    pub async fn list(&self, filter: Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        // The server's text cannot hold it, so no story has it.
        if filter.location.as_ref().is_some_and(|location| location.contains('\0')) {
            return Ok(Page::default());
        }
        let limit = limit.clamp(1, crate::limits::story::PAGE_MAX);
        let behind = statements::behind(cursor);
        let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let style = filter.style.map(|style| style.as_str());
        let mut parameters: Vec<statements::Parameter<'_>> = vec![&behind, &most];
        if let Some(location) = &filter.location {
            parameters.push(location);
        }
        if let Some(style) = &style {
            parameters.push(style);
        }
        let read = |rows: &[tokio_postgres::Row]| Ok(statements::page(rows, limit)?);
        self.ask(statements::list_query(&filter), &parameters, read).await
    }

    /// See [`super::Store::ping`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.0.pool.tidy();
        if self.0.puts.trouble().is_some() {
            self.0.puts.probe().await?;
        } else {
            let asked = self.0.pool.run(Kind::Read, async |connection| {
                statements::look_at_table(connection.client()?).await
            });
            asked.await.map_err(|fault| fault.error)?;
        }
        self.0.ready.set(true);
        self.look_at_sizes().await;
        Ok(())
    }

    /// Now and then one of the workers asks how large the tables are; nothing depends on it.
    async fn look_at_sizes(&self) {
        const SIZES: &str = "SELECT greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) \
            FROM pg_class WHERE oid = to_regclass('stories')";
        let figures = &self.0.pool.shared.figures;
        let (now_ms, before) = (context::now_ns() / 1_000_000, figures.sized_ms.load(Ordering::Relaxed));
        let due = before == 0 || now_ms.saturating_sub(before) >= limits::SIZES_MS;
        let won = due && {
            let swapped = figures
                .sized_ms
                .compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed);
            swapped.is_ok()
        };
        if !won {
            return;
        }
        let asked = self.0.pool.run(Kind::Read, async |connection| {
            Ok(connection.client()?.simple_query(SIZES).await?)
        });
        for message in asked.await.unwrap_or_default() {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let number = |at: usize| row.try_get(at).ok().flatten().and_then(|text| text.parse().ok());
                figures.stories.store(number(0).unwrap_or(0), Ordering::Relaxed);
                figures.bytes.store(number(1).unwrap_or(0), Ordering::Relaxed);
            }
        }
    }

    /// See [`super::Store::health`]. `stories` is the server's estimate.
    pub fn health(&self) -> Health {
        let figures = &self.0.pool.shared.figures;
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (away, no_writes) = (self.0.pool.trouble(), self.0.puts.trouble());
        let slow_ms = self.0.pool.pace.slow_ms();
        let state = match (&away, &no_writes, slow_ms) {
            (Some(_), ..) => State::Away,
            (None, ..) if !self.0.ready.get() => State::Away,
            (None, Some(_), _) => State::NoWrites,
            (None, None, Some(_)) => State::Slow,
            (None, None, None) => State::Serving,
        };
        let slow = slow_ms.map(|ms| format!("PostgreSQL is slow: a statement takes {ms} ms"));
        Health {
            available: matches!(state, State::Serving | State::Slow),
            state,
            reason: away.or(no_writes).or(slow),
            stories: get(&figures.stories),
            file_bytes: get(&figures.bytes),
            puts: get(&figures.puts),
            commits: get(&figures.commits),
            refused: get(&figures.refused),
            failures: get(&figures.failures),
            last_commit: Duration::from_micros(get(&figures.last_commit_us)),
            put_queue: self.0.puts.waiting(),
            read_queue: self.0.pool.in_flight(),
            connections: get(&figures.connections),
        }
    }

    /// Whether the database is there and has not the schema that this binary needs: pending migrations are a deployment
    /// that is not finished, and no outage.
    pub(in crate::store) fn is_unfit(&self) -> bool {
        self.0.pool.shared.unfit.load(Ordering::Relaxed)
    }

    /// Tells these metrics what becomes of connections and calls, from now on.
    pub fn observe(&self, metrics: Rc<WorkerMetrics>) {
        self.0.pool.observer.tell(metrics);
    }

    /// The worker's connections now.
    pub fn figures(&self) -> PoolFigures {
        self.0.pool.figures()
    }

    /// Waits for the puts in flight, and closes the worker's connections; bounded.
    pub async fn close(&self) {
        self.0.puts.finish().await;
        self.0.pool.close().await;
    }
}
