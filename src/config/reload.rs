//! What SIGHUP changes: a new life of a worker is given the new settings, and what belongs to the process stays.

use super::parse::ConfigErrors;
use super::{Config, StoreAt};

/// Variables that a running process cannot follow: its sockets, its store and pools, its threads, what is decided once
/// for all workers. Every other one takes effect as workers are replaced. Some of these name files whose contents are
/// read again all the same (TLS_CERT and its like).
const FIXED: &[&str] = &[
    "PORT",
    "HOST",
    "BIND",
    "BIND_UNIX_MODE",
    "PROXY_PROTOCOL",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_CLIENT_CA",
    "TLS_MIN_VERSION",
    "ENVIRONMENT",
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_PREFIX",
    "REDIS_TTL",
    "REDIS_TIMEOUT",
    "REDIS_MAX_CONNECTIONS",
    "DATA_DIR",
    "DB_POOL_SIZE",
    "DB_MAX_OVERFLOW",
    "DB_POOL_TIMEOUT",
    "DB_POOL_RECYCLE",
    "DB_POOL_PRE_PING",
    "AUTO_MIGRATE",
    "STORE_OUTAGE",
    "JOURNAL_DIR",
    "JOURNAL_BYTES_MAX",
    "PODS_MAX",
    "WORKERS",
    "GUNICORN_WORKERS",
    "PIN",
    "IO_DRIVER",
    "WORKER_TIMEOUT",
    "STUCK",
    "MEMORY_MAX",
    "UPGRADE_STAY",
    "PIDFILE",
    "ENV_FILE",
    "LOG_FORMAT",
    "LOG_FILE",
    "CORS_ORIGINS",
    "CORS_CREDENTIALS",
    "CORS_MAX_AGE",
    "HSTS_MAX_AGE",
    "SERVER_HEADER",
    "COMPRESSION",
    "ADMIN_TOKEN",
];

/// What became of reading the settings again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// What holds from now on.
    pub config: Config,
    /// What has changed, as `NAME=value`, secrets redacted.
    pub changed: Vec<String>,
    /// Variables whose change waits for a new process.
    pub needs_restart: Vec<&'static str>,
}

impl Config {
    /// Reads the environment and ENV_FILE again, beside what holds.
    ///
    /// # Errors
    /// Every fault, at once; nothing is changed then.
    pub fn reload(&self) -> Result<Reloaded, ConfigErrors> {
        Ok(self.merged(Config::from_env()?))
    }

    fn merged(&self, new: Config) -> Reloaded {
        let mut changed = Vec::new();
        let mut needs_restart = Vec::new();
        let mut settings = self.settings.clone();
        for setting in &new.settings {
            let name = setting.variable;
            let before = settings.iter_mut().find(|before| before.variable == name);
            let Some(before) = before.filter(|before| before.value != setting.value) else {
                continue;
            };
            if FIXED.contains(&name) {
                needs_restart.push(name);
            } else {
                changed.push(format!("{name}={}", setting.value));
                *before = setting.clone();
            }
        }
        // Secrets look alike when redacted.
        let both = (&self.store, &new.store);
        let database = matches!(both, (StoreAt::Postgres(old), StoreAt::Postgres(new)) if old != new);
        for (name, differs) in [
            (
                "DATABASE_URL",
                database && needs_restart.iter().all(|name| !name.starts_with("DB_")),
            ),
            ("REDIS_URL", self.redis_url != new.redis_url),
            ("ADMIN_TOKEN", self.admin_token != new.admin_token),
        ] {
            if differs && !needs_restart.contains(&name) {
                needs_restart.push(name);
            }
        }
        let old = self.clone();
        let mut log = new.log;
        log.format = old.log.format;
        let mut life = new.life;
        life.upgrade_stay = old.life.upgrade_stay;
        life.pid_file = old.life.pid_file;
        life.env_file = old.life.env_file;
        life.log_file = old.life.log_file;
        let config = Config {
            listen: old.listen,
            unix_mode: old.unix_mode,
            proxy_protocol: old.proxy_protocol,
            tls: old.tls,
            environment: old.environment,
            store: old.store,
            journal: old.journal,
            redis_url: old.redis_url,
            redis: old.redis,
            workers: old.workers,
            pin: old.pin,
            io_driver: old.io_driver,
            watch: old.watch,
            memory_max: old.memory_max,
            face: old.face,
            admin_token: old.admin_token,
            log,
            life,
            settings,
            ..new
        };
        Reloaded {
            config,
            changed,
            needs_restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VARIABLES;

    fn read(pairs: &[(&str, &str)]) -> Config {
        let home = [("HOME", "/home/ada")];
        let all = home.iter().chain(pairs);
        Config::read(all.map(|(name, value)| ((*name).into(), (*value).into()))).unwrap()
    }

    #[test]
    fn what_is_fixed_is_a_variable() {
        for name in FIXED {
            assert!(VARIABLES.iter().any(|variable| variable.name == *name), "{name}");
        }
    }

    #[test]
    fn what_belongs_to_a_life_changes_and_what_belongs_to_the_process_stays() {
        let before = read(&[
            ("LOG_LEVEL", "info"),
            ("PORT", "1"),
            ("ADMIN_TOKEN", "sixteen-letters-and-more"),
        ]);
        let after = read(&[
            ("LOG_LEVEL", "debug"),
            ("KEEP_ALIVE", "9s"),
            ("PORT", "2"),
            ("LOG_FORMAT", "json"),
            ("MAX_REQUESTS", "7"),
            ("PIDFILE", "/run/x.pid"),
            ("ADMIN_TOKEN", "sixteen-letters-and-more"),
        ]);
        let reloaded = before.merged(after.clone());
        assert_eq!(reloaded.changed, ["KEEP_ALIVE=9s", "MAX_REQUESTS=7", "LOG_LEVEL=debug"]);
        assert_eq!(reloaded.needs_restart, ["PORT", "PIDFILE", "LOG_FORMAT"]);
        let config = reloaded.config;
        assert_eq!(config.log.level, after.log.level);
        assert_eq!(config.log.format, before.log.format);
        assert_eq!(config.timeouts.keep_alive, after.timeouts.keep_alive);
        assert_eq!((&config.listen, &config.life.pid_file), (&before.listen, &None));
        assert_eq!(config.life.max_requests, 7);
        // Once told, it is not told again; what waits is.
        let again = config.merged(after);
        assert!(again.changed.is_empty() && again.needs_restart.len() == 3, "{again:?}");
        assert_eq!(again.config, config);
    }

    #[test]
    fn a_changed_secret_is_told_by_its_name() {
        let with = |token| read(&[("ADMIN_TOKEN", token)]);
        let reloaded = with("sixteen-letters-and-more").merged(with("other-letters-and-more-of-them"));
        assert_eq!(reloaded.needs_restart, ["ADMIN_TOKEN"]);
        assert!(!format!("{:?}", reloaded.changed).contains("letters"));
    }

    /// With these every field that a life of a worker does not read keeps its value, whatever the file says.
    #[test]
    fn nothing_else_of_the_process_follows() {
        let before = read(&[]);
        let after = read(&[
            ("HOST", "127.0.0.1"),
            ("WORKERS", "3"),
            ("PIN", "never"),
            ("IO_DRIVER", "epoll"),
            ("DATA_DIR", "/elsewhere"),
            ("COMPRESSION", "off"),
            ("BIND_UNIX_MODE", "0600"),
            ("UPGRADE_STAY", "true"),
            ("LOG_FILE", "/elsewhere/log"),
            ("WORKER_TIMEOUT", "30s"),
            ("STUCK", "abort"),
            ("MEMORY_MAX", "1G"),
        ]);
        let reloaded = before.merged(after);
        assert_eq!(reloaded.config, before);
        assert_eq!(reloaded.needs_restart.len(), 12, "{:?}", reloaded.needs_restart);
    }
}
