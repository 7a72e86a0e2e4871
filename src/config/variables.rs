//! The table of environment variables: the one place where a variable is named, bounded, given its default and
//! described. Parsing, `--help` and the README table all read it.

use crate::limits::{postgres as pg, redis, server as limits};
use std::fmt::Write as _;

/// What a variable may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number in these bounds, both included.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A time: whole seconds, or a whole number with ms, s, m or h. Bounds in milliseconds, both included.
    Duration {
        /// The least, milliseconds.
        ms_min: u64,
        /// The most, milliseconds.
        ms_max: u64,
    },
    /// A size: bytes, or a whole number with K, M, G (also Ki, KiB ...), by 1024. Bounds in bytes, both included.
    Bytes {
        /// The least, bytes.
        min: u64,
        /// The most, bytes.
        max: u64,
    },
    /// One of these words, in any case. Every word is followed by the canonical word that it stands for.
    Word(&'static [(&'static str, &'static str)]),
    /// An IP address, `localhost`, or `*`.
    Address,
    /// A folder.
    Folder,
    /// A URL with one of these schemes; may hold a password and is never printed whole.
    Url(&'static [&'static str]),
    /// Visible ASCII characters.
    Text {
        /// The most of them.
        chars_max: usize,
    },
    /// A secret of visible ASCII characters; never printed.
    Token {
        /// The least number of characters.
        chars_min: usize,
        /// The most.
        chars_max: usize,
    },
}

/// What holds where a variable is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// This number (count, milliseconds or bytes by kind).
    Number(u64),
    /// This word.
    Word(&'static str),
    /// Nothing; the text says in a few words what that means.
    Unset(&'static str),
}

/// One environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What holds where it is not set, or set to nothing.
    pub preset: Preset,
    /// What it does, one sentence or two.
    pub what: &'static str,
}

/// Yes and no as people and Python write them.
const YES_NO: Kind = Kind::Word(&[
    ("true", "true"),
    ("false", "false"),
    ("1", "true"),
    ("0", "false"),
    ("yes", "true"),
    ("no", "false"),
    ("on", "true"),
    ("off", "false"),
]);

const fn millis(ms_min: u64, ms_max: u64) -> Kind {
    Kind::Duration { ms_min, ms_max }
}

macro_rules! variables {
    ($($(#[$meta:meta])* $id:ident: $kind:expr, $preset:expr, $what:expr;)+) => {
        $(
            $(#[$meta])*
            pub(super) const $id: Variable =
                Variable { name: stringify!($id), kind: $kind, preset: $preset, what: $what };
        )+
        /// Every variable that the server reads, in the order of the README.
        pub const VARIABLES: &[Variable] = &[$($id),+];
    };
}

variables! {
    PORT: Kind::Count { min: 0, max: 65_535 }, Preset::Number(limits::PORT_DEFAULT),
        "TCP port to listen on. 0 takes any free port, which is printed.";
    HOST: Kind::Address, Preset::Unset("every address, IPv6 and IPv4"),
        "Address to listen on. Not set, or `*`: all of IPv6 and IPv4 on one socket, IPv4 alone where the system has no IPv6.";
    ENVIRONMENT: Kind::Word(&[
        ("development", "development"), ("dev", "development"),
        ("test", "test"), ("testing", "test"),
        ("staging", "staging"),
        ("production", "production"), ("prod", "production"),
    ]), Preset::Word("development"),
        "`production` requires DATABASE_URL and REDIS_URL and logs as JSON.";
    DATABASE_URL: Kind::Url(&["postgresql", "postgres"]), Preset::Unset("the embedded store in DATA_DIR"),
        "PostgreSQL that keeps the stories, as `postgresql://user:password@host:5432/name` (a SQLAlchemy driver in the scheme, `postgresql+asyncpg://`, is accepted). Required in production. See PostgreSQL below for what else it may hold.";
    REDIS_URL: Kind::Url(&["redis", "rediss", "redis+unix"]), Preset::Unset("each worker's own cache only"),
        "Redis (or Valkey, KeyDB) that all pods share as a cache, as `redis://user:password@host:6379/0`; `rediss` for TLS, `redis+unix:///path?db=0` for a Unix socket. Required in production. Cluster and Sentinel are refused.";
    REDIS_PREFIX: Kind::Text { chars_max: limits::REDIS_PREFIX_CHARS_MAX }, Preset::Word("roadtrip:v1:"),
        "What every key in Redis begins with. Services with stores of their own need prefixes of their own.";
    REDIS_TTL: millis(1000, limits::CACHE_TTL_MS_BOUND), Preset::Number(redis::TTL_MS),
        "How long a story is kept in Redis, with a tenth of jitter.";
    REDIS_TIMEOUT: millis(1, redis::LOOKUP_MS_BOUND), Preset::Number(redis::LOOKUP_MS),
        "How long a request waits for Redis before it goes on without.";
    REDIS_MAX_CONNECTIONS: Kind::Count { min: 1, max: redis::CONNECTIONS_BOUND }, Preset::Number(redis::CONNECTIONS_MAX),
        "Connections to Redis of this process, at most. Each worker has one; workers beyond this number do without Redis.";
    DATA_DIR: Kind::Folder, Preset::Unset("`$XDG_DATA_HOME/roadtrip-api`, else `$HOME/.local/share/roadtrip-api`"),
        "Folder of the embedded store; made if missing. Not used with DATABASE_URL.";
    DB_POOL_SIZE: Kind::Count { min: 1, max: pg::POOL_BOUND }, Preset::Number(pg::POOL_SIZE),
        "Connections to PostgreSQL that a worker keeps open, at most. It opens them as needed: one or two, as a rule.";
    DB_MAX_OVERFLOW: Kind::Count { min: 0, max: pg::POOL_BOUND }, Preset::Number(pg::MAX_OVERFLOW),
        "Connections beyond that in a burst, closed as soon as they are idle.";
    DB_POOL_TIMEOUT: millis(10, pg::POOL_WAIT_MS_MAX), Preset::Number(pg::POOL_WAIT_MS),
        "How long a request waits for a connection.";
    DB_POOL_RECYCLE: millis(1000, limits::TIMEOUT_MS_MAX), Preset::Number(pg::RECYCLE_MS),
        "How old a connection gets, more or less a tenth.";
    DB_POOL_PRE_PING: YES_NO, Preset::Word("true"),
        "Ask a connection that was idle whether it is still there, before it is used.";
    AUTO_MIGRATE: Kind::Word(&[
        ("auto", "auto"),
        ("true", "true"), ("false", "false"), ("1", "true"), ("0", "false"),
        ("yes", "true"), ("no", "false"), ("on", "true"), ("off", "false"),
    ]), Preset::Word("auto"),
        "Apply pending migrations of the database when connecting. `auto` does in development and test; elsewhere `roadtrip-api migrate` does, and readiness is 503 until it has.";
    PODS_MAX: Kind::Count { min: 1, max: pg::PODS_BOUND }, Preset::Number(pg::PODS_MAX),
        "Pods that the service may grow to: with it the connections that they may open together are compared with the server's limit, at start.";
    WORKERS: Kind::Count { min: 1, max: limits::WORKERS_MAX as u64 }, Preset::Unset("one per usable CPU"),
        "Workers of this process. Usable CPUs follow the cgroup quota, the cpuset and the affinity; more workers than that is warned of.";
    GUNICORN_WORKERS: Kind::Count { min: 1, max: limits::WORKERS_MAX as u64 }, Preset::Unset("one per usable CPU"),
        "The same under the name of the service before this one. WORKERS wins.";
    PIN: Kind::Word(&[("auto", "auto"), ("always", "always"), ("never", "never")]), Preset::Word("auto"),
        "Whether each worker is pinned to one CPU. `auto` pins where the CPUs are this process's own: outside containers without a quota, and in a container with a cpuset narrower than the machine and no quota.";
    IO_DRIVER: Kind::Word(&[("auto", "auto"), ("uring", "uring"), ("epoll", "epoll")]), Preset::Word("auto"),
        "How to talk to the kernel. `auto` takes io_uring and falls back to epoll where it is forbidden; `uring` refuses to start then.";
    CONNECTIONS_MAX: Kind::Count { min: 1, max: limits::CONNECTIONS_BOUND }, Preset::Number(limits::CONNECTIONS_MAX),
        "Connections that a worker serves at once, at most; more wait until one ends.";
    KEEP_ALIVE: millis(1000, limits::TIMEOUT_MS_MAX), Preset::Number(limits::KEEP_ALIVE_MS),
        "How long an idle connection is kept. Longer than the load balancer in front keeps it.";
    HEAD_TIMEOUT: millis(100, limits::TIMEOUT_MS_MAX), Preset::Number(limits::HEAD_TIMEOUT_MS),
        "How long a request head may take from its first byte to its last.";
    BODY_TIMEOUT: millis(100, limits::TIMEOUT_MS_MAX), Preset::Number(limits::BODY_TIMEOUT_MS),
        "How long a request body may take.";
    WRITE_TIMEOUT: millis(100, limits::TIMEOUT_MS_MAX), Preset::Number(limits::WRITE_TIMEOUT_MS),
        "How long a client may take for the answers sent in one go (64 KiB, or one that is longer) before it is cut off.";
    GRACEFUL_TIMEOUT: millis(0, limits::TIMEOUT_MS_MAX), Preset::Number(limits::GRACEFUL_TIMEOUT_MS),
        "How long requests in flight may take after SIGTERM.";
    DRAIN_DELAY: millis(0, limits::TIMEOUT_MS_MAX), Preset::Number(limits::DRAIN_DELAY_MS),
        "How long to go on accepting after SIGTERM while readiness already answers 503.";
    CACHE_BYTES: Kind::Bytes { min: 0, max: limits::CACHE_BYTES_BOUND }, Preset::Number(limits::CACHE_BYTES),
        "Memory for cached answers, per worker. 0 switches the cache off.";
    CACHE_TTL_SECONDS: millis(1000, limits::CACHE_TTL_MS_BOUND), Preset::Number(limits::CACHE_TTL_MS),
        "How long a cached answer is served.";
    STALE_WHILE_REVALIDATE: millis(0, limits::CACHE_TTL_MS_BOUND), Preset::Number(limits::STALE_WHILE_REVALIDATE_MS),
        "How long past that it is served at once while it is looked up anew in the background.";
    STALE_IF_ERROR: millis(0, limits::CACHE_TTL_MS_BOUND), Preset::Number(limits::STALE_IF_ERROR_MS),
        "How long past that it is served where neither Redis nor the store can be asked.";
    LOG_LEVEL: Kind::Word(&[
        ("trace", "trace"), ("debug", "debug"), ("info", "info"),
        ("warning", "warning"), ("warn", "warning"),
        ("error", "error"), ("critical", "error"), ("fatal", "error"),
    ]), Preset::Word("info"),
        "The least level that is logged. Python's names are understood; `critical` is the same as `error`.";
    LOG_FORMAT: Kind::Word(&[("auto", "auto"), ("json", "json"), ("text", "text")]), Preset::Word("auto"),
        "`auto` is `json` in production and `text` elsewhere.";
    ACCESS_LOG: Kind::Word(&[("off", "off"), ("errors", "errors"), ("all", "all")]), Preset::Word("errors"),
        "Which requests get a log line: none, those answered 5xx, or all.";
    RATE_LIMIT_ENABLED: YES_NO, Preset::Word("false"),
        "Limit requests per client. Read, but without effect in this version; a warning at boot says so.";
    ADMIN_TOKEN: Kind::Token { chars_min: limits::ADMIN_TOKEN_CHARS_MIN, chars_max: limits::ADMIN_TOKEN_CHARS_MAX },
        Preset::Unset("admin routes answer loopback only"),
        "Bearer token that lets a caller from elsewhere use the admin routes.";
}

impl Variable {
    /// What the variable may hold, in words that fit behind "must be".
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Duration { ms_min, ms_max } => {
                format!(
                    "a time from {} to {}: seconds, or a whole number with ms, s, m or h",
                    duration_text(ms_min),
                    duration_text(ms_max)
                )
            }
            Kind::Bytes { min, max } => {
                format!(
                    "a size from {} to {}: bytes, or a whole number with K, M or G (by 1024)",
                    bytes_text(min),
                    bytes_text(max)
                )
            }
            Kind::Word(words) => {
                let mut distinct: Vec<&str> = Vec::new();
                for (_, canonical) in words {
                    if !distinct.contains(canonical) {
                        distinct.push(canonical);
                    }
                }
                distinct.join(", ")
            }
            Kind::Address => "an IPv4 or IPv6 address, localhost, or *".to_owned(),
            Kind::Folder => "the path of a folder".to_owned(),
            Kind::Url(schemes) => format!("a URL that begins with {}://", schemes.join(":// or ")),
            Kind::Text { chars_max } => format!("1 to {chars_max} visible ASCII characters"),
            Kind::Token { chars_min, chars_max } => {
                format!("{chars_min} to {chars_max} visible ASCII characters")
            }
        }
    }

    /// Unit or vocabulary, for the table.
    pub fn unit(&self) -> String {
        match self.kind {
            Kind::Count { min, max } => format!("{min} to {max}"),
            Kind::Duration { .. } => "seconds (or ms, s, m, h)".to_owned(),
            Kind::Bytes { .. } => "bytes (or K, M, G)".to_owned(),
            Kind::Word(_) => self.allowed(),
            Kind::Address => "IP address".to_owned(),
            Kind::Folder => "path".to_owned(),
            Kind::Url(_) => "URL".to_owned(),
            Kind::Text { chars_max } => format!("text, {chars_max} characters at most"),
            Kind::Token { chars_min, .. } => format!("text, {chars_min} characters or more"),
        }
    }

    /// The default in words.
    pub fn preset_text(&self) -> String {
        match (self.preset, self.kind) {
            (Preset::Number(ms), Kind::Duration { .. }) => duration_text(ms),
            (Preset::Number(bytes), Kind::Bytes { .. }) => bytes_text(bytes),
            (Preset::Number(n), _) => n.to_string(),
            (Preset::Word(word), _) => word.to_owned(),
            (Preset::Unset(meaning), _) => meaning.to_owned(),
        }
    }

    /// Whether the value must never be printed whole.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Url(_) | Kind::Token { .. })
    }
}

/// A time as this module parses it: "75s", "250ms", "0s".
pub(super) fn duration_text(ms: u64) -> String {
    if !ms.is_multiple_of(1000) {
        format!("{ms}ms")
    } else if ms > 0 && ms.is_multiple_of(3_600_000) {
        format!("{}h", ms / 3_600_000)
    } else {
        format!("{}s", ms / 1000)
    }
}

/// A size as this module parses it: "64M", "0".
pub(super) fn bytes_text(bytes: u64) -> String {
    for (shift, suffix) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{suffix}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// The table of the README, GitHub Markdown, one row per variable, ending in a newline.
pub fn markdown_table() -> String {
    let mut table = String::from("| variable | default | values | what it does |\n| --- | --- | --- | --- |\n");
    for variable in VARIABLES {
        let preset = match variable.preset {
            Preset::Unset(_) => variable.preset_text(),
            _ => format!("`{}`", variable.preset_text()),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            variable.name,
            preset.replace('|', "\\|"),
            variable.unit().replace('|', "\\|"),
            variable.what.replace('|', "\\|")
        );
    }
    table
}

/// The same table for a terminal: what `serve --help` shows below its options.
pub fn help_text() -> String {
    let mut text = String::from("Environment:\n");
    for variable in VARIABLES {
        let _ = writeln!(
            text,
            "  {} [{}; default: {}]",
            variable.name,
            variable.unit(),
            plain(&variable.preset_text())
        );
        for line in wrapped(&plain(variable.what), 90) {
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

fn plain(markdown: &str) -> String {
    markdown.replace('`', "")
}

fn wrapped(text: &str, columns_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= columns_max => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
