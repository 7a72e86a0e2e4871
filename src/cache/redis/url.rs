//! REDIS_URL: `redis://`, `rediss://` (TLS) and Unix sockets, as redis-py and redis-rs write them.
//!
//! `redis://[user][:password]@host[:port][/database][?name=value...]`, `redis+unix://[user:password@]/path?db=0` (also
//! `unix://`). User, password and path may be percent-encoded. What is not understood is refused by its name: a setting
//! that is silently ignored is a setting that somebody relies on. No error repeats a part of the URL that may be secret.

use crate::backend::dial::Target as Endpoint;
use crate::backend::secret::{Password, percent_decoded_text};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Redis' own port.
const PORT: u16 = 6379;

/// Where Redis is and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What to connect to.
    pub endpoint: Endpoint,
    /// None: in the clear.
    pub tls: Option<Tls>,
    /// Who this is; none: the user `default`.
    pub user: Option<String>,
    /// The password; none: no AUTH is sent.
    pub password: Option<Password>,
    /// The database that is selected.
    pub database: u32,
    /// Speak RESP2 from the start (`protocol=2`).
    pub resp2: bool,
    /// The name that CLIENT LIST shows, in place of the worker's.
    pub client_name: Option<String>,
    /// How long a lookup may take (`socket_timeout`), in place of REDIS_TIMEOUT.
    pub timeout: Option<Duration>,
}

/// TLS, always verified against the host's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities to trust (PEM) in place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why a URL is refused. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, UrlError> {
    Err(UrlError(why.into()))
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong, in words that fit behind "REDIS_URL".
    pub fn parse(text: &str) -> Result<Target, UrlError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse("must begin with redis://, rediss:// or redis+unix://");
        };
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse("has a blank or a control character in it; percent-encode it");
        }
        let scheme = scheme.to_ascii_lowercase();
        if scheme.contains("sentinel") {
            return refuse(
                "asks for Redis Sentinel, which is not supported: give the address of the primary, or of a proxy that follows it",
            );
        }
        if scheme.contains("cluster") {
            return refuse(
                "asks for Redis Cluster, which is not supported: one server, or a proxy in front of the cluster, is",
            );
        }
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        match fragment {
            None => {}
            Some("insecure") => {
                return refuse(
                    "ends in #insecure, but certificates are always verified: name your authority with ?ssl_ca_certs=FILE",
                );
            }
            Some(_) => return refuse("has a '#'; percent-encode one in a password as %23"),
        }
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match location.find('/') {
            Some(at) => location.split_at(at),
            None => (location, ""),
        };
        if path.contains('@') || query.contains('@') {
            return refuse("has an '@' behind a '/' or '?'; percent-encode those in a password as %40, %2F, %3F");
        }
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(user_info), host_port),
            None => (None, authority),
        };
        let (user, password) = credentials(user_info)?;
        let (endpoint, database) = match scheme.as_str() {
            "redis" | "valkey" | "rediss" | "valkeys" => tcp(host_port, path)?,
            "unix" | "redis+unix" | "valkey+unix" => {
                if !host_port.is_empty() || path.len() < 2 {
                    return refuse("must have three slashes before the path of a Unix socket");
                }
                (Endpoint::Unix(decoded(path)?.into()), 0)
            }
            _ => return refuse("must begin with redis://, rediss:// or redis+unix://"),
        };
        let mut target = Target {
            endpoint,
            tls: matches!(scheme.as_str(), "rediss" | "valkeys").then(Tls::default),
            user,
            password,
            database,
            resp2: false,
            client_name: None,
            timeout: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            target.set(name, &decoded(value)?)?;
        }
        Ok(target)
    }

    /// One query parameter, under the names that redis-py has for them.
    fn set(&mut self, name: &str, value: &str) -> Result<(), UrlError> {
        let wrong = |allowed: &str| refuse(format!("has a {name} that is not {allowed}"));
        match name {
            "db" => match value.parse() {
                Ok(database) => self.database = database,
                Err(_) => return wrong("a database number"),
            },
            "protocol" => match value {
                "3" => self.resp2 = false,
                "2" => self.resp2 = true,
                _ => return wrong("2 or 3"),
            },
            "client_name" => {
                if value.is_empty() || value.len() > 64 || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return wrong("1 to 64 visible ASCII characters");
                }
                self.client_name = Some(value.to_owned());
            }
            "socket_timeout" => {
                let seconds = value.parse::<f64>().ok();
                match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                    Some(time) if (1..=crate::limits::redis::LOOKUP_MS_BOUND as u128).contains(&time.as_millis()) => {
                        self.timeout = Some(time);
                    }
                    _ => return wrong("seconds from 0.001 to 2"),
                }
            }
            "retry_on_timeout" => match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => {}
                _ => return wrong("true, which is what this server does"),
            },
            "ssl_cert_reqs" => match value {
                "required" => {}
                _ => return wrong("required: certificates are always verified"),
            },
            "ssl_ca_certs" => match &mut self.tls {
                Some(tls) if !value.is_empty() => tls.ca_file = Some(value.into()),
                _ => return refuse("has ssl_ca_certs without rediss://, or without a file"),
            },
            "max_connections" => return refuse("has max_connections: set REDIS_MAX_CONNECTIONS instead"),
            _ => {
                // A name is no secret where it looks like one; the value may be.
                let plain = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
                let name = if plain { name } else { "(not shown)" };
                return refuse(format!("has the parameter {name}, which this version does not know"));
            }
        }
        Ok(())
    }
}

/// Where it is, for logs: no user, no password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls.is_some() { " with TLS" } else { "" };
        write!(f, "{}{tls}, database {}", self.endpoint, self.database)
    }
}

/// User and password; either may be missing. redis-py takes `user@` for a user and `:password@` for a password.
fn credentials(user_info: Option<&str>) -> Result<(Option<String>, Option<Password>), UrlError> {
    let Some(info) = user_info else {
        return Ok((None, None));
    };
    let (user, password) = info.split_once(':').unwrap_or((info, ""));
    let some = |text: &str| -> Result<Option<String>, UrlError> {
        Ok(if text.is_empty() { None } else { Some(decoded(text)?) })
    };
    let (user, password) = (some(user)?, some(password)?);
    if user.is_some() && password.is_none() {
        return refuse(
            "has a user without a password (a password alone stands behind a colon, as in redis://:password@host)",
        );
    }
    Ok((user, password.map(Password::new)))
}

fn tcp(host_port: &str, path: &str) -> Result<(Endpoint, u32), UrlError> {
    if host_port.contains(',') {
        return refuse("names several hosts, as for Sentinel or Cluster, which are not supported: give one");
    }
    let (host, port) = match host_port.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("?"))),
            None => return refuse("has a '[' without its ']'"),
        },
        None => match host_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        },
    };
    if host.is_empty() {
        return refuse("names no host");
    }
    let port = match port {
        None | Some("") => PORT,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return refuse("has something behind the host's colon that is no port (1 to 65535)"),
        },
    };
    let database = match path.trim_start_matches('/') {
        "" => 0,
        number => match number.parse() {
            Ok(database) => database,
            Err(_) => return refuse("has a path that is no database number"),
        },
    };
    let host = host.to_owned();
    Ok((Endpoint::Tcp { host, port }, database))
}

fn decoded(text: &str) -> Result<String, UrlError> {
    percent_decoded_text(text)
        .ok_or_else(|| UrlError("has a '%' that is no percent escape of UTF-8; write %25 for a '%' itself".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn urls_as_people_have_them() {
        for (url, endpoint, user, password, database) in [
            ("redis://cache", host("cache", 6379), None, None, 0),
            ("redis://cache:7000/3", host("cache", 7000), None, None, 3),
            ("redis://:s%40cret@cache", host("cache", 6379), None, Some("s@cret"), 0),
            ("redis://:s@cret@cache", host("cache", 6379), None, Some("s@cret"), 0),
            (
                "rediss://app:p%3Aw@[::1]:6380/",
                host("::1", 6380),
                Some("app"),
                Some("p:w"),
                0,
            ),
            (
                "rediss://app:p:w@[fe80::1]",
                host("fe80::1", 6379),
                Some("app"),
                Some("p:w"),
                0,
            ),
            ("REDIS://cache?db=2&protocol=3", host("cache", 6379), None, None, 2),
            ("valkey://cache", host("cache", 6379), None, None, 0),
            (
                "unix:///run/redis.sock?db=1",
                Endpoint::Unix("/run/redis.sock".into()),
                None,
                None,
                1,
            ),
            (
                "redis+unix://:pw@/run/a%20b.sock",
                Endpoint::Unix("/run/a b.sock".into()),
                None,
                Some("pw"),
                0,
            ),
        ] {
            let target = Target::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(target.endpoint, endpoint, "{url}");
            let shown = target.password.as_ref().map(Password::expose);
            assert_eq!(
                (target.user.as_deref(), shown),
                (user, password.map(str::as_bytes)),
                "{url}"
            );
            assert_eq!(target.tls.is_some(), url.starts_with("rediss"), "{url}");
            assert_eq!(target.database, database, "{url}");
        }
        let target =
            Target::parse("rediss://c?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=required&socket_timeout=0.2").unwrap();
        assert_eq!(target.tls.unwrap().ca_file, Some("/ca.pem".into()));
        assert_eq!(target.timeout, Some(Duration::from_millis(200)));
        assert!(Target::parse("redis://c?protocol=2&client_name=me").unwrap().resp2);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (url, word) in [
            ("http://cache", "must begin"),
            ("cache:6379", "must begin"),
            ("redis://", "no host"),
            ("redis://:secret@/0", "no host"),
            ("redis-cluster://a", "Redis Cluster"),
            ("redis+sentinel://a/mymaster", "Sentinel"),
            ("redis://a:1,b:2", "several hosts"),
            ("rediss://a#insecure", "#insecure"),
            ("redis://:sec#ret@a", "%23"),
            ("redis://:sec/ret@a", "%2F"),
            ("redis://a/b", "database number"),
            ("redis://a:port", "no port"),
            ("redis://a:0", "no port"),
            ("redis://user@a", "without a password"),
            ("redis://a?decode_responses=1", "decode_responses"),
            ("redis://a?max_connections=5", "REDIS_MAX_CONNECTIONS"),
            ("redis://a?ssl_ca_certs=/x", "without rediss"),
            ("rediss://a?ssl_cert_reqs=none", "always verified"),
            ("redis://a?retry_on_timeout=false", "retry_on_timeout"),
            ("redis://:%zz@a", "percent"),
            ("redis://[::1", "']'"),
            ("unix://run/redis.sock", "three slashes"),
        ] {
            let why = Target::parse(url).unwrap_err().to_string();
            assert!(why.contains(word), "{url}: {why}");
            assert!(!why.contains("secret") && !why.contains("ret@"), "{url}: {why}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", scheme in "(redis|rediss|unix|redis\\+unix)") {
            let _ = Target::parse(&text);
            let _ = Target::parse(&format!("{scheme}://{text}"));
        }

        #[test]
        fn neither_a_target_nor_an_error_shows_the_password(password in "[!-~]{6,20}") {
            let url = format!("redis://u:Q{password}Q@cache/0?odd={password}");
            let shown = match Target::parse(&url) {
                Ok(target) => format!("{target} {target:?}"),
                Err(why) => why.to_string(),
            };
            prop_assert!(!shown.contains(&password), "{}", shown);
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let target = Target::parse(&format!("redis://u:{encoded}@cache/0")).unwrap();
            prop_assert_eq!(target.password.as_ref().unwrap().expose(), password.as_bytes());
            let shown = format!("{target} {target:?}");
            prop_assert!(!shown.contains(&password));
        }
    }
}
