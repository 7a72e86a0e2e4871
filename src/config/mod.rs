//! Environment -> [`Config`], once, at boot.
//!
//! Called by `main`, which hands the parts of the result on; no other room reads the environment (but for
//! `runtime::topology`, which looks there for the marks of a container). Every variable stands in one table,
//! [`VARIABLES`], from which the README table and the help are made. Parsing reports all faults together.
//! ENV_FILE adds to the environment and is read again at SIGHUP: [`Config::reload`] says what of it takes effect.
//! Deliberately absent: configuration in any other form than variables, and flags (flags live in `main`).

mod backends;
mod bind;
mod end;
mod env_file;
mod face;
mod life;
mod memory;
mod parse;
mod rate;
mod reload;
mod secret;
#[cfg(test)]
mod tests;
mod variables;

pub use bind::{At, Bind, Listen, Scheme};
pub use end::Watch;
pub use face::{Cors, Face, Origins};
pub use life::Life;
pub use memory::MemoryMax;
pub use parse::{ConfigError, ConfigErrors, Setting};
pub use reload::Reloaded;
pub use secret::{SecretToken, SecretUrl};
pub use variables::{Kind, Preset, VARIABLES, Variable, help_text, markdown_table};

use crate::cache::redis;
use crate::routes::client::ForwardedBy;
use crate::runtime::topology::{Pin, Requested};
use crate::server::TrustedProxies;
use crate::store::{journal, postgres};
use crate::telemetry::logging::{AccessLog, LogFormat, LogLevel, LogSettings};
use crate::tls::{MinVersion, TlsFiles};
use parse::Reader;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use variables as var;

/// Folder below the user's data home.
const DATA_FOLDER: &str = "roadtrip-api";

/// What the service runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine. The default.
    Development,
    /// A test run.
    Test,
    /// Like production, without its demands.
    Staging,
    /// Real users: the database and Redis are required.
    Production,
}

/// Which driver talks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoDriver {
    /// io_uring, or epoll where a ring cannot be set up.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

impl From<IoDriver> for crate::runtime::driver::choose::IoDriver {
    fn from(driver: IoDriver) -> Self {
        match driver {
            IoDriver::Auto => Self::Auto,
            IoDriver::Uring => Self::Uring,
            IoDriver::Epoll => Self::Epoll,
        }
    }
}

/// Where stories are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAt {
    /// In the embedded store, in this folder (which may not exist yet).
    Folder(PathBuf),
    /// In a PostgreSQL database.
    Postgres(postgres::Config),
}

/// Times after which the server stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Idle keep-alive connection.
    pub keep_alive: Duration,
    /// Request head, first byte to last.
    pub head: Duration,
    /// Request body.
    pub body: Duration,
    /// A write without progress.
    pub write: Duration,
    /// Requests in flight after SIGTERM.
    pub graceful: Duration,
    /// Accepting goes on for so long after SIGTERM.
    pub drain_delay: Duration,
}

/// All that the environment says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen, at least one.
    pub listen: Vec<Bind>,
    /// Permissions of the files of Unix sockets.
    pub unix_mode: u32,
    /// Whose word about a client is taken.
    pub trusted: TrustedProxies,
    /// Connections of trusted proxies begin with a PROXY header.
    pub proxy_protocol: bool,
    /// The header by which trusted proxies tell of a client.
    pub forwarded_by: ForwardedBy,
    /// Certificate and key; none: no TLS.
    pub tls: Option<TlsFiles>,
    /// What the service runs as.
    pub environment: Environment,
    /// Where stories are kept.
    pub store: StoreAt,
    /// What keeps stories while the database is away, or has some from before; none without a database.
    pub journal: Option<journal::Config>,
    /// The shared cache; none: each worker's own only.
    pub redis_url: Option<SecretUrl>,
    /// The same, understood, with what else is set for it.
    pub redis: Option<redis::Settings>,
    /// A worker count that was asked for; none: by topology.
    pub workers: Option<Requested>,
    /// Whether workers are pinned.
    pub pin: Pin,
    /// Which driver talks to the kernel.
    pub io_driver: IoDriver,
    /// Workers share fresh connections out.
    pub balance: bool,
    /// Open connections per worker, at most.
    pub connections_max: usize,
    /// Connections of a worker that one address may hold; 0: no limit.
    pub connections_per_address: usize,
    /// Requests on one connection; 0: no limit.
    pub requests_per_connection: u32,
    /// Bytes of a worker for requests that are not whole.
    pub pending_bytes_max: usize,
    /// Bytes per second of a request body, at least; 0: no floor.
    pub body_rate_min: u64,
    /// Bytes per second of an answer that a client takes, at least; 0: no floor.
    pub write_rate_min: u64,
    /// Times after which the server stops waiting.
    pub timeouts: Timeouts,
    /// What is done about workers that are stuck.
    pub watch: Watch,
    /// How much memory there is, as the operator says.
    pub memory_max: MemoryMax,
    /// Bytes of cached answers per worker; 0: no cache.
    pub cache_bytes: usize,
    /// How long a cached answer is served.
    pub cache_ttl: Duration,
    /// For how long after that it is served while it is looked up anew.
    pub stale_while_revalidate: Duration,
    /// For how long after that it is served where it cannot be looked up.
    pub stale_if_error: Duration,
    /// The life of the process and of its workers.
    pub life: Life,
    /// Level, format and access log.
    pub log: LogSettings,
    /// How often clients may ask.
    pub rate_limit: crate::resilience::rate::Settings,
    /// What a worker lets in.
    pub overload: crate::resilience::overload::Settings,
    /// Opens the admin routes to callers from elsewhere; none: loopback only.
    pub admin_token: Option<SecretToken>,
    /// CORS, HSTS, Server, compression.
    pub face: Face,
    /// What the operator should hear at boot.
    pub warnings: Vec<String>,
    /// Every variable as it holds, in the order of the table; secrets redacted.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads the environment of this process, and ENV_FILE.
    ///
    /// # Errors
    /// Every fault of every variable, at once; or why ENV_FILE cannot be read.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::read(env_file::environment()?)
    }

    /// What `migrate` needs of the environment of this process: the database alone, whatever else is wrong.
    ///
    /// # Errors
    /// DATABASE_URL is missing, or wrong.
    pub fn for_migration() -> Result<postgres::Config, ConfigErrors> {
        let mut reader = Reader::new(env_file::environment()?);
        let database_url = backends::database_url(&mut reader, false);
        if reader.raw(var::DATABASE_URL.name).is_none() {
            let allowed = var::DATABASE_URL.allowed();
            reader.fault(
                &var::DATABASE_URL,
                format!("is not set, but is what to migrate: {allowed}"),
            );
        }
        let config = backends::database(&mut reader, database_url, Environment::Production);
        reader.errors.retain(|error| error.variable == var::DATABASE_URL.name);
        config
            .filter(|_| reader.errors.is_empty())
            .ok_or(ConfigErrors(reader.errors))
    }

    /// Reads the given variables. Where a name stands twice the last one holds.
    ///
    /// # Errors
    /// Every fault of every variable, at once.
    pub fn read(env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(env);
        let r = &mut reader;

        let listen = bind::read(r);
        let tls = tls_files(r);
        bind::check_schemes(r, &listen, tls.is_some());
        let environment = match r.word(&var::ENVIRONMENT) {
            "production" => Environment::Production,
            "staging" => Environment::Staging,
            "test" => Environment::Test,
            _ => Environment::Development,
        };
        let production = environment == Environment::Production;
        let database_url = backends::database_url(r, production);
        let (redis_url, redis) = backends::redis_settings(r, production);
        let needs_folder = !production && r.raw(var::DATABASE_URL.name).is_none();
        let folder = data_folder(r, needs_folder);
        let postgres = backends::database(r, database_url, environment);
        let journal = backends::journal_config(r, postgres.is_some(), folder.as_deref());
        let workers = workers(r);
        let connections_max = count(r, &var::CONNECTIONS_MAX);
        let per_address = r.number_given(&var::CONNECTIONS_PER_ADDRESS);
        let config = Config {
            listen,
            unix_mode: u32::try_from(r.number(&var::BIND_UNIX_MODE)).unwrap_or_default(),
            trusted: trusted(r),
            proxy_protocol: r.word(&var::PROXY_PROTOCOL) == "true",
            forwarded_by: match r.word(&var::FORWARDED) {
                "forwarded" => ForwardedBy::Forwarded,
                _ => ForwardedBy::XForwardedFor,
            },
            tls,
            environment,
            store: match postgres {
                Some(postgres) => StoreAt::Postgres(postgres),
                None => StoreAt::Folder(folder.unwrap_or_default()),
            },
            journal,
            redis_url,
            redis,
            workers,
            pin: match r.word(&var::PIN) {
                "always" => Pin::Always,
                "never" => Pin::Never,
                _ => Pin::Auto,
            },
            io_driver: match r.word(&var::IO_DRIVER) {
                "uring" => IoDriver::Uring,
                "epoll" => IoDriver::Epoll,
                _ => IoDriver::Auto,
            },
            balance: r.word(&var::BALANCE) == "on",
            connections_max,
            // So that one address can never shut out all others.
            connections_per_address: match per_address {
                Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
                None => (connections_max / 2).max(1),
            },
            requests_per_connection: u32::try_from(r.number(&var::REQUESTS_PER_CONNECTION)).unwrap_or(u32::MAX),
            pending_bytes_max: count(r, &var::PENDING_BYTES_MAX),
            body_rate_min: r.number(&var::BODY_RATE_MIN),
            write_rate_min: r.number(&var::WRITE_RATE_MIN),
            timeouts: Timeouts {
                keep_alive: time(r, &var::KEEP_ALIVE),
                head: time(r, &var::HEAD_TIMEOUT),
                body: time(r, &var::BODY_TIMEOUT),
                write: time(r, &var::WRITE_TIMEOUT),
                graceful: time(r, &var::GRACEFUL_TIMEOUT),
                drain_delay: end::drain_delay(r, production),
            },
            watch: end::watch(r),
            memory_max: memory::read(r),
            cache_bytes: count(r, &var::CACHE_BYTES),
            cache_ttl: time(r, &var::CACHE_TTL_SECONDS),
            stale_while_revalidate: time(r, &var::STALE_WHILE_REVALIDATE),
            stale_if_error: time(r, &var::STALE_IF_ERROR),
            life: life::read(r),
            log: log_settings(r, production),
            rate_limit: rate::read(r),
            overload: crate::resilience::overload::Settings {
                enabled: r.word(&var::OVERLOAD) == "adapt",
                target: time(r, &var::LATENCY_TARGET),
                in_flight_max: count(r, &var::IN_FLIGHT_MAX),
            },
            admin_token: token(r),
            face: face::read(r),
            warnings: Vec::new(),
            settings: Vec::new(),
        };
        if config.proxy_protocol && config.trusted.is_none() && r.raw(var::TRUSTED_PROXIES.name).is_none() {
            let problem = "is on, but nobody would be believed: set TRUSTED_PROXIES to the addresses of the proxies";
            r.fault(&var::PROXY_PROTOCOL, problem.to_owned());
        }
        if config.trusted.is_everybody() {
            let warning = "TRUSTED_PROXIES trusts every address: any client can say that it is another";
            r.warnings.push(warning.into());
        }
        end::check_grace(r, &config.timeouts);
        r.warn_of_near_misses();
        if reader.errors.is_empty() {
            Ok(Config {
                warnings: reader.warnings,
                settings: reader.settings,
                ..config
            })
        } else {
            Err(ConfigErrors(reader.errors))
        }
    }
}

/// A count or size that fits the machine's word (the bounds of the table do on 64 bits).
fn count(r: &mut Reader, variable: &Variable) -> usize {
    usize::try_from(r.number(variable)).unwrap_or(usize::MAX)
}

fn time(r: &mut Reader, variable: &Variable) -> Duration {
    Duration::from_millis(r.number(variable))
}

fn trusted(r: &mut Reader) -> TrustedProxies {
    let parsed = r.given_or_why(&var::TRUSTED_PROXIES, TrustedProxies::parse, TrustedProxies::to_string);
    parsed.unwrap_or_default()
}

/// A file by its path, which may be any bytes.
fn file(r: &mut Reader, variable: &Variable) -> Option<PathBuf> {
    let path = r.raw(variable.name).map(PathBuf::from);
    match &path {
        Some(path) => r.note(variable, path.display().to_string(), true),
        None => r.note(variable, variable.preset_text(), false),
    }
    path
}

/// Certificate and key come together, and nothing else of TLS without them. Whether the files are any good is looked at
/// by those who use them.
fn tls_files(r: &mut Reader) -> Option<TlsFiles> {
    let (cert, key) = (file(r, &var::TLS_CERT), file(r, &var::TLS_KEY));
    let client_ca = file(r, &var::TLS_CLIENT_CA);
    let min_version = match r.word(&var::TLS_MIN_VERSION) {
        "1.3" => MinVersion::Tls13,
        _ => MinVersion::Tls12,
    };
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert,
            key,
            client_ca,
            min_version,
        }),
        (Some(_), None) => {
            r.fault(
                &var::TLS_KEY,
                "is not set, but TLS_CERT is: set it to the file with that certificate's private key".to_owned(),
            );
            None
        }
        (None, Some(_)) => {
            r.fault(
                &var::TLS_CERT,
                "is not set, but TLS_KEY is: set it to the file with that key's certificate chain".to_owned(),
            );
            None
        }
        (None, None) => {
            if client_ca.is_some() {
                // In the clear nobody would be asked for a certificate, and whoever set this counts on it.
                r.fault(
                    &var::TLS_CLIENT_CA,
                    "is set, but TLS_CERT and TLS_KEY are not: without TLS no client shows a certificate".to_owned(),
                );
            }
            None
        }
    }
}

/// Where the embedded store lives. XDG Base Directory Specification: a relative XDG_DATA_HOME is ignored.
fn data_folder(r: &mut Reader, needed: bool) -> Option<PathBuf> {
    // A path may be any bytes, so this one variable is not read as text.
    let (folder, set) = match r.raw(var::DATA_DIR.name) {
        Some(given) => (Some(PathBuf::from(given)), true),
        None => {
            let absolute = |name: &str| r.raw(name).map(Path::new).filter(|path| path.is_absolute());
            let below_home = || absolute("HOME").map(|home| home.join(".local/share"));
            let data_home = absolute("XDG_DATA_HOME").map(Path::to_path_buf).or_else(below_home);
            (data_home.map(|home| home.join(DATA_FOLDER)), false)
        }
    };
    match &folder {
        Some(folder) => r.note(&var::DATA_DIR, folder.display().to_string(), set),
        None if needed => r.fault(
            &var::DATA_DIR,
            "is not set, and neither XDG_DATA_HOME nor HOME is an absolute path to put a default below. \
             Set DATA_DIR to a folder that outlives the process"
                .to_owned(),
        ),
        None => r.note(&var::DATA_DIR, "not needed".to_owned(), false),
    }
    folder
}

fn workers(r: &mut Reader) -> Option<Requested> {
    let mut read = |variable: &Variable| {
        let count = r.number_given(variable).and_then(|count| usize::try_from(count).ok())?;
        Some(Requested {
            count,
            variable: variable.name,
        })
    };
    let (ours, gunicorn) = (read(&var::WORKERS), read(&var::GUNICORN_WORKERS));
    if let (Some(ours), Some(gunicorn)) = (ours, gunicorn)
        && ours.count != gunicorn.count
    {
        let (ours, gunicorn) = (ours.count, gunicorn.count);
        r.warnings
            .push(format!("WORKERS={ours} wins over GUNICORN_WORKERS={gunicorn}"));
    }
    ours.or(gunicorn)
}

fn log_settings(r: &mut Reader, production: bool) -> LogSettings {
    LogSettings {
        level: match r.word(&var::LOG_LEVEL) {
            "trace" => LogLevel::Trace,
            "debug" => LogLevel::Debug,
            "warning" => LogLevel::Warning,
            "error" => LogLevel::Error,
            _ => LogLevel::Info,
        },
        format: match r.word(&var::LOG_FORMAT) {
            "json" => LogFormat::Json,
            "text" => LogFormat::Text,
            _ if production => LogFormat::Json,
            _ => LogFormat::Text,
        },
        access: match r.word(&var::ACCESS_LOG) {
            "off" => AccessLog::Off,
            "all" => AccessLog::All,
            _ => AccessLog::Errors,
        },
    }
}

fn token(r: &mut Reader) -> Option<SecretToken> {
    let Kind::Token { chars_min, chars_max } = var::ADMIN_TOKEN.kind else {
        return None;
    };
    let parse = |text: &str| {
        let fits = (chars_min..=chars_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| SecretToken::new(text.to_owned()))
    };
    r.given(&var::ADMIN_TOKEN, parse, SecretToken::to_string)
}
