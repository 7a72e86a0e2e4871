//! The connection string, as users have it.
//!
//! The forms of libpq (PostgreSQL documentation, section 34.1.1: URIs, and `key=value` pairs), and the few names that
//! SQLAlchemy and its drivers add. The environment variables of libpq (PGHOST, PGSSLMODE, ...) and its files in the home
//! folder (.pgpass, .postgresql/) are not read: one string says it all, and a pod has no home. tokio-postgres has a parser of its own, which refuses `sslrootcert` and takes no file for TLS; so the whole is
//! read here, and what is not supported fails at boot with its name. No message repeats a part of the string that may
//! be a password.

mod pairs;
mod parameters;
#[cfg(test)]
mod tests;

use crate::backend::dial::{Keepalive, Target};
use crate::backend::secret::{Password, percent_decoded, percent_decoded_text};
use crate::backend::tls::{TlsSettings, Verify};
use crate::limits::postgres as limits;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is wrong with a connection string; fits behind the name of its variable. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError(what.into()))
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always; believed as far as the verification says.
    Require,
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The first server that takes the connection.
    Any,
    /// One that takes writes: a standby is passed over.
    ReadWrite,
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Not used.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Only with it.
    Require,
}

/// `statement_cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepare {
    /// Where no pooler is in between.
    Auto,
    /// Always: the operator knows that a pooler keeps sessions together, or statements.
    On,
    /// Never.
    Off,
}

/// A checked connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Servers, in the order to try them.
    pub hosts: Vec<Target>,
    /// Try them in random order instead.
    pub shuffle: bool,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<Password>,
    /// The database.
    pub database: String,
    /// Whether to encrypt.
    pub ssl: SslMode,
    /// How, where it is encrypted.
    pub tls: TlsSettings,
    /// Whether a password proof is tied to the TLS session.
    pub binding: Binding,
    /// Which servers will do.
    pub session: Session,
    /// Further settings of the session, as `-c name=value`.
    pub options: Option<String>,
    /// What the server lists this client as.
    pub application_name: String,
    /// For one server: name, connection, TLS and authentication.
    pub connect_timeout: Duration,
    /// None: switched off.
    pub keepalive: Option<Keepalive>,
    /// Whether statements are prepared once a connection.
    pub prepare: Prepare,
}

impl Settings {
    /// Whether statements are prepared on a connection; `direct`: no pooler is in between.
    pub fn prepares(&self, direct: bool) -> bool {
        match self.prepare {
            Prepare::Auto => direct,
            Prepare::On => true,
            Prepare::Off => false,
        }
    }

    /// Whether the text can be told to be a connection string, with its parts yet to be looked at: in the form in which
    /// to keep it, without blanks around it and without SQLAlchemy's driver.
    ///
    /// # Errors
    /// It is another kind of thing.
    pub fn recognised(text: &str) -> Result<String, SettingsError> {
        const DRIVERS: [&str; 7] = [
            "asyncpg",
            "psycopg",
            "psycopg_async",
            "psycopg2",
            "psycopg2cffi",
            "pg8000",
            "aiopg",
        ];
        let text = text.trim();
        if text.starts_with("jdbc:") {
            return wrong("is a JDBC URL (not shown): take jdbc: away, and write user:password@ before the host");
        }
        let Some((scheme, rest)) = scheme_of(text) else {
            return match text.contains('=') {
                true => Ok(text.to_owned()),
                false => wrong(NEITHER),
            };
        };
        let (scheme, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !["postgresql", "postgres"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return wrong(NEITHER);
        }
        if !driver.is_empty() && !DRIVERS.contains(&driver) {
            return wrong(format!(
                "has the driver {driver} in its scheme, which is not known; those of SQLAlchemy are understood ({}), and none is needed",
                DRIVERS.join(", ")
            ));
        }
        if rest.is_empty() || rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong("is a URL with nothing in it, or with blanks: write a blank as %20");
        }
        Ok(format!("{}://{rest}", scheme.to_ascii_lowercase()))
    }

    /// Reads a URL that begins with postgresql:// or postgres://, or pairs of key=value. Blocks on one small file where
    /// the user is not named.
    ///
    /// # Errors
    /// The first fault, by the name of what is at fault.
    pub fn parse(text: &str) -> Result<Settings, SettingsError> {
        let text = Settings::recognised(text)?;
        let Some((_, rest)) = scheme_of(&text) else {
            let given = parameters::Given::new(pairs::read(&text)?)?;
            return Settings::from_parts(String::new(), None, String::new(), "", given);
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
        // A password with one of these in it looks like a host, a database or a parameter. Nothing of it is repeated.
        if rest.contains(['@', '#']) {
            return wrong(
                "has an @ or # behind its host: where a password (or another part) has one of @ / ? # %, write it percent-encoded, as %40 %2F %3F %23 %25",
            );
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (user_info, hosts),
            None => ("", authority),
        };
        let (user, password) = match user_info.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user_info, None),
        };
        let badly_encoded = |part: &str| SettingsError(format!("has a {part} that is badly percent-encoded"));
        let user = percent_decoded_text(user).ok_or_else(|| badly_encoded("user"))?;
        let password = password
            .map(|text| percent_decoded(text).map(|bytes| Password::new(bytes.into_owned())))
            .map(|decoded| decoded.ok_or_else(|| badly_encoded("password")))
            .transpose()?;
        let path = path.strip_prefix('/').unwrap_or(path);
        let database = percent_decoded_text(path).ok_or_else(|| badly_encoded("database name"))?;
        Settings::from_parts(user, password, database, hosts, parameters::Given::read(query)?)
    }

    /// From what a URL has before its question mark, and the parameters, which win.
    fn from_parts(
        mut user: String,
        mut password: Option<Password>,
        mut database: String,
        hosts: &str,
        mut given: parameters::Given,
    ) -> Result<Settings, SettingsError> {
        let overridden = |own: &mut String, given: Option<String>| {
            if let Some(given) = given {
                *own = given;
            }
        };
        overridden(&mut user, given.take("user"));
        overridden(&mut database, given.take("dbname"));
        if let Some(given) = given.take("password") {
            password = Some(Password::new(given));
        }
        let hosts = targets(hosts, given.take("host"), given.take("port"))?;
        let settings = given.settings(hosts)?;
        if user.is_empty() {
            user = own_name().ok_or_else(|| SettingsError("names no user".to_owned()))?;
        }
        if [&user, &database].iter().any(|text| text.contains('\0')) {
            return wrong("has a zero byte in its user or database");
        }
        if database.is_empty() {
            database.clone_from(&user);
        }
        Ok(Settings {
            user,
            password,
            database,
            ..settings
        })
    }
}

const NEITHER: &str = "has a value (not shown) that is neither a URL which begins with postgresql:// or postgres://, nor pairs such as host=db user=u dbname=trips";

/// The scheme of a URL, and what is behind its `://`.
fn scheme_of(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b));
    is_scheme.then_some((scheme, rest))
}

/// The servers: from the URL's authority, or the parameters `host` and `port`, which win.
fn targets(authority: &str, host: Option<String>, port: Option<String>) -> Result<Vec<Target>, SettingsError> {
    let mut pairs: Vec<(String, Option<u16>)> = Vec::new();
    match host {
        Some(list) => pairs.extend(list.split(',').map(|host| (host.to_owned(), None))),
        None => {
            for part in authority.split(',') {
                pairs.push(host_and_port(part)?);
            }
        }
    }
    let ports: Vec<u16> = match &port {
        None => Vec::new(),
        Some(list) => {
            let parsed: Option<Vec<u16>> = list.split(',').map(port_number).collect();
            parsed.ok_or_else(|| SettingsError("has a port that is no number from 1 to 65535".to_owned()))?
        }
    };
    if !ports.is_empty() && ports.len() != 1 && ports.len() != pairs.len() {
        return wrong(format!("has {} hosts but {} ports", pairs.len(), ports.len()));
    }
    if pairs.len() > limits::HOSTS_MAX {
        return wrong(format!("has more than {} hosts", limits::HOSTS_MAX));
    }
    let mut targets = Vec::with_capacity(pairs.len());
    for (at, (host, own_port)) in pairs.into_iter().enumerate() {
        let port = ports
            .get(at)
            .or(ports.first())
            .copied()
            .or(own_port)
            .unwrap_or(limits::PORT);
        targets.push(if host.starts_with('/') {
            Target::Unix(PathBuf::from(host).join(format!(".s.PGSQL.{port}")))
        } else if host.is_empty() {
            default_target(port)
        } else if host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) {
            Target::Tcp { host, port }
        } else {
            return wrong("has a host with characters that no name or address has");
        });
    }
    Ok(targets)
}

/// Where no host is named: the Unix socket of this machine where there is one, else loopback.
fn default_target(port: u16) -> Target {
    let name = format!(".s.PGSQL.{port}");
    let found = ["/run/postgresql", "/var/run/postgresql", "/tmp"]
        .iter()
        .map(|dir| Path::new(dir).join(&name))
        .find(|path| path.exists());
    found.map_or_else(
        || Target::Tcp {
            host: "localhost".to_owned(),
            port,
        },
        Target::Unix,
    )
}

fn host_and_port(part: &str) -> Result<(String, Option<u16>), SettingsError> {
    let (host, port) = match part.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            // What is no colon is no port either, and refused as one.
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("?"))),
            None => return wrong("has an IPv6 address without its closing bracket"),
        },
        None => match part.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (part, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => match port_number(digits) {
            Some(port) => Some(port),
            None => {
                return wrong(
                    "has a port that is no number from 1 to 65535 (a password with one of @ / ? # % must be percent-encoded)",
                );
            }
        },
    };
    match percent_decoded_text(host) {
        Some(host) => Ok((host, port)),
        None => wrong("has a host that is badly percent-encoded"),
    }
}

fn port_number(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|port| *port > 0)
}

/// The name of the user that this process runs as: libpq's default, for peer authentication.
fn own_name() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// What holds where a parameter does not say otherwise.
fn defaults(hosts: Vec<Target>) -> Settings {
    Settings {
        // With one server there is no choice; with several, stories can only be kept on one that takes writes.
        session: if hosts.len() > 1 {
            Session::ReadWrite
        } else {
            Session::Any
        },
        hosts,
        shuffle: false,
        user: String::new(),
        password: None,
        database: String::new(),
        ssl: SslMode::Prefer,
        tls: TlsSettings {
            verify: Verify::Nothing,
            roots: None,
            identity: None,
            only_tls13: false,
        },
        binding: Binding::Prefer,
        options: None,
        application_name: env!("CARGO_PKG_NAME").to_owned(),
        connect_timeout: Duration::from_millis(limits::CONNECT_MS),
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(limits::KEEPALIVE_IDLE_S),
            interval: Duration::from_secs(limits::KEEPALIVE_INTERVAL_S),
            probes: limits::KEEPALIVE_PROBES,
            user_timeout: Duration::from_secs(limits::USER_TIMEOUT_S),
        }),
        prepare: Prepare::Auto,
    }
}
