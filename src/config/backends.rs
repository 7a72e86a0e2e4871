//! Where stories are kept and shared: DATABASE_URL, REDIS_URL, and what goes with each.

use super::parse::Reader;
use super::variables::{self as var, Kind};
use super::{Environment, SecretUrl, count, time};
use crate::cache::redis;
use crate::store::{journal, postgres};
use std::path::{Path, PathBuf};

/// Variables of libpq by which a psql beside this program would be led elsewhere, or more safely.
const LIBPQ: [&str; 22] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGSSLMODE",
    "PGSSLNEGOTIATION",
    "PGREQUIRESSL",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGCHANNELBINDING",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCRL",
    "PGSSLMINPROTOCOLVERSION",
    "PGTARGETSESSIONATTRS",
];

/// DATABASE_URL, told to be a connection string, with its parts yet to be looked at.
pub(super) fn database_url(r: &mut Reader, required: bool) -> Option<SecretUrl> {
    let variable = &var::DATABASE_URL;
    let parse = |text: &str| match postgres::Settings::recognised(text) {
        Ok(text) => Ok(SecretUrl::new(text)),
        Err(fault) => Err(fault.to_string()),
    };
    let url = r.given_or_why(variable, parse, SecretUrl::to_string);
    let set: Vec<&str> = LIBPQ.into_iter().filter(|name| r.raw(name).is_some()).collect();
    if url.is_some() && !set.is_empty() {
        r.warnings.push(format!(
            "{} {} set and not read: DATABASE_URL alone says how to reach PostgreSQL",
            set.join(", "),
            if set.len() == 1 { "is" } else { "are" }
        ));
    }
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
pub(super) fn redis_settings(r: &mut Reader, production: bool) -> (Option<SecretUrl>, Option<redis::Settings>) {
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

/// The journal behind the database; `data` is the folder of DATA_DIR.
pub(super) fn journal_config(r: &mut Reader, has_database: bool, data: Option<&Path>) -> Option<journal::Config> {
    let takes = r.word(&var::STORE_OUTAGE) == "journal";
    let bytes_max = r.number(&var::JOURNAL_BYTES_MAX);
    // A path may be any bytes, so this one is not read as text.
    let given = r.raw(var::JOURNAL_DIR.name).map(PathBuf::from);
    match &given {
        Some(dir) => r.note(&var::JOURNAL_DIR, dir.display().to_string(), true),
        None => r.note(&var::JOURNAL_DIR, var::JOURNAL_DIR.preset_text(), false),
    }
    if !has_database {
        if takes {
            let warning = "STORE_OUTAGE=journal has no effect without DATABASE_URL: the embedded store is on this disk";
            r.warnings.push(warning.into());
        }
        return None;
    }
    let dir = given.or_else(|| data.map(|data| data.join("journal")));
    if dir.is_none() && takes {
        r.fault(
            &var::JOURNAL_DIR,
            "is not set, and neither DATA_DIR nor a home names a folder to put a default in. \
             Set JOURNAL_DIR to a folder that outlives the process"
                .to_owned(),
        );
    }
    dir.map(|dir| journal::Config { dir, bytes_max, takes })
}

/// The database and what goes with it. Its variables are checked whether or not there is one.
pub(super) fn database(r: &mut Reader, url: Option<SecretUrl>, environment: Environment) -> Option<postgres::Config> {
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
