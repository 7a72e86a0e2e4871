//! Environment -> [`Config`], once, at boot.
//!
//! Called by `main`, which hands the parts of the result on; no other room reads the environment (but for
//! `runtime::topology`, which looks there for the marks of a container). Every variable stands in one table,
//! [`VARIABLES`], from which the README table and the help are made. Parsing reports all faults together.
//! Deliberately absent: configuration files, reloading, and flags (flags live in `main`).

mod parse;
mod secret;
#[cfg(test)]
mod tests;
mod variables;

pub use parse::{ConfigError, ConfigErrors, Setting};
pub use secret::{SecretToken, SecretUrl};
pub use variables::{Kind, Preset, VARIABLES, Variable, help_text, markdown_table};

use crate::cache::redis;
use crate::runtime::topology::{Pin, Requested};
use crate::store::postgres;
use crate::telemetry::logging::{AccessLog, LogFormat, LogLevel, LogSettings};
use parse::Reader;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// None: every address of IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// 0: any free port.
    pub port: u16,
}

impl Listen {
    /// What to bind, in order; the second is for systems without IPv6. An IPv6 unspecified address that comes from
    /// "every address" must have IPV6_V6ONLY switched off.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.address {
            Some(address) => vec![SocketAddr::new(address, self.port)],
            None => vec![
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), self.port),
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), self.port),
            ],
        }
    }

    /// Whether one socket shall take IPv6 and IPv4.
    pub fn is_dual_stack(&self) -> bool {
        self.address.is_none()
    }
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
    /// Where to listen.
    pub listen: Listen,
    /// What the service runs as.
    pub environment: Environment,
    /// Where stories are kept.
    pub store: StoreAt,
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
    /// Open connections per worker, at most.
    pub connections_max: usize,
    /// Times after which the server stops waiting.
    pub timeouts: Timeouts,
    /// Bytes of cached answers per worker; 0: no cache.
    pub cache_bytes: usize,
    /// How long a cached answer is served.
    pub cache_ttl: Duration,
    /// For how long after that it is served while it is looked up anew.
    pub stale_while_revalidate: Duration,
    /// For how long after that it is served where it cannot be looked up.
    pub stale_if_error: Duration,
    /// Level, format and access log.
    pub log: LogSettings,
    /// Asked for, without effect in this version.
    pub rate_limit_enabled: bool,
    /// Opens the admin routes to callers from elsewhere; none: loopback only.
    pub admin_token: Option<SecretToken>,
    /// What the operator should hear at boot.
    pub warnings: Vec<String>,
    /// Every variable as it holds, in the order of the table; secrets redacted.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::read(std::env::vars_os())
    }

    /// What `migrate` needs of the environment of this process: the database alone, whatever else is wrong.
    ///
    /// # Errors
    /// DATABASE_URL is missing, or wrong.
    pub fn for_migration() -> Result<postgres::Config, ConfigErrors> {
        let mut reader = Reader::new(std::env::vars_os());
        let database_url = url(&mut reader, &var::DATABASE_URL, false);
        if reader.raw(var::DATABASE_URL.name).is_none() {
            let allowed = var::DATABASE_URL.allowed();
            reader.fault(
                &var::DATABASE_URL,
                format!("is not set, but is what to migrate: {allowed}"),
            );
        }
        let config = postgres(&mut reader, database_url, Environment::Production);
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

        let port = u16::try_from(r.number(&var::PORT)).unwrap_or_default();
        let address = r.given(&var::HOST, parse::parse_address, |address| match address {
            Some(address) => address.to_string(),
            None => var::HOST.preset_text(),
        });
        let environment = match r.word(&var::ENVIRONMENT) {
            "production" => Environment::Production,
            "staging" => Environment::Staging,
            "test" => Environment::Test,
            _ => Environment::Development,
        };
        let production = environment == Environment::Production;
        let database_url = url(r, &var::DATABASE_URL, production);
        let (redis_url, redis) = redis_settings(r, production);
        let needs_folder = !production && r.raw(var::DATABASE_URL.name).is_none();
        let folder = data_folder(r, needs_folder);
        let postgres = postgres(r, database_url, environment);
        let workers = workers(r);
        let config = Config {
            listen: Listen {
                address: address.flatten(),
                port,
            },
            environment,
            store: match postgres {
                Some(postgres) => StoreAt::Postgres(postgres),
                None => StoreAt::Folder(folder.unwrap_or_default()),
            },
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
            connections_max: count(r, &var::CONNECTIONS_MAX),
            timeouts: Timeouts {
                keep_alive: time(r, &var::KEEP_ALIVE),
                head: time(r, &var::HEAD_TIMEOUT),
                body: time(r, &var::BODY_TIMEOUT),
                write: time(r, &var::WRITE_TIMEOUT),
                graceful: time(r, &var::GRACEFUL_TIMEOUT),
                drain_delay: time(r, &var::DRAIN_DELAY),
            },
            cache_bytes: count(r, &var::CACHE_BYTES),
            cache_ttl: time(r, &var::CACHE_TTL_SECONDS),
            stale_while_revalidate: time(r, &var::STALE_WHILE_REVALIDATE),
            stale_if_error: time(r, &var::STALE_IF_ERROR),
            log: log_settings(r, production),
            rate_limit_enabled: r.word(&var::RATE_LIMIT_ENABLED) == "true",
            admin_token: token(r),
            warnings: Vec::new(),
            settings: Vec::new(),
        };
        if config.rate_limit_enabled {
            r.warnings
                .push("RATE_LIMIT_ENABLED is set, but this version has no rate limit yet: nothing is limited".into());
        }
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

fn url(r: &mut Reader, variable: &Variable, required: bool) -> Option<SecretUrl> {
    let schemes = if let Kind::Url(schemes) = variable.kind {
        schemes
    } else {
        &[]
    };
    let parse = |text: &str| parse::parse_url(schemes, text).map(SecretUrl::new);
    let url = r.given(variable, parse, SecretUrl::to_string);
    if required && r.raw(variable.name).is_none() {
        r.fault(
            variable,
            format!(
                "is not set, but ENVIRONMENT=production requires it: {} (or choose another ENVIRONMENT)",
                variable.allowed()
            ),
        );
    }
    url
}

/// REDIS_URL, and what goes with it.
fn redis_settings(r: &mut Reader, production: bool) -> (Option<SecretUrl>, Option<redis::Settings>) {
    let read = |text: &str| Some((SecretUrl::new(text.to_owned()), redis::url::Target::parse(text)));
    let given = r.given(&var::REDIS_URL, read, |(url, _)| url.to_string());
    if production && r.raw(var::REDIS_URL.name).is_none() {
        r.fault(
            &var::REDIS_URL,
            "is not set, but ENVIRONMENT=production requires it: a URL that begins with redis://, rediss:// or redis+unix:// (or choose another ENVIRONMENT)".to_owned(),
        );
    }
    let Kind::Text { chars_max } = var::REDIS_PREFIX.kind else {
        return (None, None);
    };
    let parse = |text: &str| {
        let fits = text.len() <= chars_max && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| text.to_owned())
    };
    let prefix = r.given(&var::REDIS_PREFIX, parse, String::clone);
    let prefix = prefix.unwrap_or_else(|| var::REDIS_PREFIX.preset_text());
    let (ttl, timeout) = (time(r, &var::REDIS_TTL), time(r, &var::REDIS_TIMEOUT));
    let connections_max = count(r, &var::REDIS_MAX_CONNECTIONS);
    match given {
        None => (None, None),
        Some((_, Err(why))) => {
            r.fault(&var::REDIS_URL, why.to_string());
            (None, None)
        }
        Some((url, Ok(target))) => {
            let settings = redis::Settings {
                target,
                prefix,
                ttl,
                timeout,
                connections_max,
            };
            (Some(url), Some(settings))
        }
    }
}

/// The database and what goes with it. Its variables are checked whether or not there is one.
fn postgres(r: &mut Reader, url: Option<SecretUrl>, environment: Environment) -> Option<postgres::Config> {
    let pool = postgres::PoolSettings {
        size: count(r, &var::DB_POOL_SIZE),
        overflow: count(r, &var::DB_MAX_OVERFLOW),
        wait: time(r, &var::DB_POOL_TIMEOUT),
        recycle: time(r, &var::DB_POOL_RECYCLE),
        pre_ping: r.word(&var::DB_POOL_PRE_PING) == "true",
    };
    let pods_max = r.number(&var::PODS_MAX);
    let auto_migrate = match r.word(&var::AUTO_MIGRATE) {
        "auto" => matches!(environment, Environment::Development | Environment::Test),
        word => word == "true",
    };
    let url = url?;
    if let Err(error) = postgres::Settings::parse(url.expose()) {
        r.fault(&var::DATABASE_URL, error.to_string());
    }
    Some(postgres::Config {
        url,
        pool,
        auto_migrate,
        pods_max,
    })
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
