//! The parameters behind the question mark.

use super::{Binding, Prepare, Session, Settings, SettingsError, SslMode, defaults, wrong};
use crate::backend::dial::Target;
use crate::backend::secret::percent_decoded_text;
use crate::backend::tls::Verify;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Names of libpq that mean something which this client does not do.
const UNSUPPORTED: &[&str] = &[
    "gsslib",
    "gssdelegation",
    "hostaddr",
    "krbsrvname",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "service",
    "servicefile",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
    "sslsni",
    "ssl_max_protocol_version",
];

/// Values that libpq or a driver knows and this client does not take: they may be repeated in a message. Any other may be
/// part of a password that was not encoded.
const WORDS: &[&str] = &[
    "allow",
    "direct",
    "prefer-standby",
    "read-only",
    "require",
    "standby",
    "true",
    "TLSv1",
    "TLSv1.1",
];

/// The parameters as given, decoded, by name.
pub(super) struct Given(BTreeMap<String, String>);

impl Given {
    /// Those behind a URL's question mark.
    pub(super) fn read(query: &str) -> Result<Given, SettingsError> {
        let mut given = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            // What has no "=" or an odd name may be the end of a password: it is not repeated.
            let Some((name, value)) = pair.split_once('=').filter(|(name, _)| is_name(name)) else {
                return wrong("has a parameter that is not of the form name=value");
            };
            let Some(value) = percent_decoded_text(value).filter(|value| !value.contains('\0')) else {
                return wrong(format!("has a value of {name} that is badly percent-encoded"));
            };
            given.push((name.to_owned(), value));
        }
        Given::new(given)
    }

    /// Of two values libpq takes the last and SQLAlchemy both: whoever wrote them meant something.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Result<Given, SettingsError> {
        let mut given = BTreeMap::new();
        for (name, value) in pairs {
            if given.contains_key(&name) {
                return wrong(format!(
                    "has the parameter {name} twice (several hosts are one list: host=a,b)"
                ));
            }
            given.insert(name, value);
        }
        Ok(Given(given))
    }

    /// Takes a parameter out; an empty value counts as not given, as in libpq.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    fn words<T: Copy>(&mut self, name: &str, words: &[(&str, T)], reason: &str) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let shown = WORDS.iter().find(|word| **word == value).unwrap_or(&"(not shown)");
                wrong(format!(
                    "has {name}={shown}, which is not supported; supported: {}{reason}",
                    known.join(", ")
                ))
            }
        }
    }

    fn number(&mut self, name: &str, max: u32) -> Result<Option<u32>, SettingsError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.parse().ok().filter(|number| *number <= max) {
            Some(number) => Ok(Some(number)),
            None => wrong(format!("has a {name} that is no whole number from 0 to {max}")),
        }
    }

    /// All the rest, in place of the defaults.
    pub(super) fn settings(mut self, hosts: Vec<Target>) -> Result<Settings, SettingsError> {
        let mut settings = defaults(hosts);
        self.tls(&mut settings)?;
        self.routing(&mut settings)?;
        self.timing(&mut settings)?;
        settings.options = self.take("options");
        let name = self.take("fallback_application_name");
        if let Some(name) = self.take("application_name").or(name) {
            settings.application_name = name;
        }
        self.words("client_encoding", &[("utf8", ()), ("UTF8", ()), ("auto", ())], "")?;
        self.words(
            "gssencmode",
            &[("disable", ()), ("prefer", ())],
            "; there is no GSSAPI here",
        )?;
        let caches = [("auto", Prepare::Auto), ("on", Prepare::On), ("off", Prepare::Off)];
        if let Some(prepare) = self.words("statement_cache", &caches, "")? {
            settings.prepare = prepare;
        }
        // asyncpg's and SQLAlchemy's names: 0 is how their users get through a pooler.
        for name in ["prepared_statement_cache_size", "statement_cache_size"] {
            if self.number(name, u32::MAX)? == Some(0) {
                settings.prepare = Prepare::Off;
            }
        }
        match self.0.into_keys().next() {
            None => Ok(settings),
            Some(name) if UNSUPPORTED.contains(&name.as_str()) => {
                wrong(format!("has the parameter {name}, which is not supported here"))
            }
            Some(name) => wrong(format!("has the parameter {name}, which is not known")),
        }
    }

    fn tls(&mut self, settings: &mut Settings) -> Result<(), SettingsError> {
        // asyncpg calls it `ssl`.
        let name = if self.0.contains_key("sslmode") {
            "sslmode"
        } else {
            "ssl"
        };
        let mode = self.words(
            name,
            &[
                ("disable", (SslMode::Disable, Verify::Nothing)),
                ("prefer", (SslMode::Prefer, Verify::Nothing)),
                ("require", (SslMode::Require, Verify::Nothing)),
                ("verify-ca", (SslMode::Require, Verify::Ca)),
                ("verify-full", (SslMode::Require, Verify::Full)),
            ],
            " (instead of allow: prefer)",
        )?;
        if let Some((mode, verify)) = mode {
            settings.ssl = mode;
            settings.tls.verify = verify;
        }
        match self.take("sslrootcert") {
            None => {}
            // libpq's word for the system's roots, which it allows with verify-full only.
            Some(word) if word == "system" && settings.tls.verify != Verify::Full => {
                return wrong("has sslrootcert=system, which needs sslmode=verify-full");
            }
            Some(word) if word == "system" => {}
            Some(path) => {
                settings.tls.roots = Some(PathBuf::from(path));
                // As libpq has it, for old times' sake: with a root file `require` means `verify-ca`.
                if settings.ssl == SslMode::Require && settings.tls.verify == Verify::Nothing {
                    settings.tls.verify = Verify::Ca;
                }
            }
        }
        settings.tls.identity = match (self.take("sslcert"), self.take("sslkey")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
            _ => return wrong("has only one of sslcert and sslkey"),
        };
        let versions = [("TLSv1.2", false), ("TLSv1.3", true)];
        if let Some(only) = self.words("ssl_min_protocol_version", &versions, "")? {
            settings.tls.only_tls13 = only;
        }
        self.words("sslnegotiation", &[("postgres", ())], "")?;
        let bindings = [
            ("disable", Binding::Disable),
            ("prefer", Binding::Prefer),
            ("require", Binding::Require),
        ];
        if let Some(binding) = self.words("channel_binding", &bindings, "")? {
            settings.binding = binding;
        }
        if settings.binding == Binding::Require && settings.ssl == SslMode::Disable {
            return wrong("has channel_binding=require with sslmode=disable: there is no channel to bind to");
        }
        Ok(())
    }

    fn routing(&mut self, settings: &mut Settings) -> Result<(), SettingsError> {
        let sessions = [
            ("any", Session::Any),
            ("read-write", Session::ReadWrite),
            ("primary", Session::ReadWrite),
        ];
        if let Some(session) = self.words("target_session_attrs", &sessions, ": stories are written")? {
            settings.session = session;
        }
        if let Some(shuffle) = self.words("load_balance_hosts", &[("disable", false), ("random", true)], "")? {
            settings.shuffle = shuffle;
        }
        Ok(())
    }

    fn timing(&mut self, settings: &mut Settings) -> Result<(), SettingsError> {
        const SECONDS_MAX: u32 = 3600;
        let seconds = |number: u32| Duration::from_secs(number.into());
        // 0 waits for ever in libpq; here every wait has an end.
        if let Some(given) = self.number("connect_timeout", SECONDS_MAX)?.filter(|given| *given > 0) {
            settings.connect_timeout = seconds(given);
        }
        let on = self.words("keepalives", &[("1", true), ("0", false)], "")?;
        let idle = self.number("keepalives_idle", SECONDS_MAX)?;
        let interval = self.number("keepalives_interval", SECONDS_MAX)?;
        let probes = self.number("keepalives_count", 127)?;
        let user_timeout_ms = self.number("tcp_user_timeout", SECONDS_MAX * 1000)?;
        if on == Some(false) {
            settings.keepalive = None;
        }
        if let Some(keepalive) = &mut settings.keepalive {
            // 0 is the system's default in libpq, and ours here.
            let set = |own: &mut Duration, given: Option<Duration>| {
                if let Some(given) = given.filter(|given| !given.is_zero()) {
                    *own = given;
                }
            };
            set(&mut keepalive.idle, idle.map(seconds));
            set(&mut keepalive.interval, interval.map(seconds));
            set(
                &mut keepalive.user_timeout,
                user_timeout_ms.map(|ms| Duration::from_millis(ms.into())),
            );
            if let Some(probes) = probes.filter(|probes| *probes > 0) {
                keepalive.probes = probes;
            }
        }
        Ok(())
    }
}

/// Short words of letters, digits, dashes and underscores: names of parameters, and most of their values.
pub(super) fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
