//! The table of environment variables: the one place where a variable is named, bounded, given its default and
//! described. Parsing, `--help` and the README table all read it.

use crate::limits::{drain, life, memory, overload, postgres as pg, redis, server as limits};
use crate::resilience::rate::limits as rate;
use crate::store::journal::limits as journal;
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
    /// A size, `auto` or `off`.
    Memory {
        /// The least, bytes.
        min: u64,
        /// The most, bytes.
        max: u64,
    },
    /// One of these words, in any case. Every word is followed by the canonical word that it stands for.
    Word(&'static [(&'static str, &'static str)]),
    /// An IP address, `localhost`, or `*`.
    Address,
    /// Addresses to listen on.
    Listeners,
    /// Addresses and networks of peers.
    Peers,
    /// Permissions of a file, octal.
    Mode,
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A URL with one of these schemes; may hold a password and is never printed whole.
    Url(&'static [&'static str]),
    /// Visible ASCII characters.
    Text {
        /// The most of them.
        chars_max: usize,
    },
    /// So many in a second, a minute or an hour; or `off`.
    Rate,
    /// `*`, or web origins with commas between.
    Origins,
    /// A product as the Server field has it.
    Product,
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
        "Address to listen on; an IPv6 one with or without brackets. Not set, or `*`: all of IPv6 and IPv4 on one socket, IPv4 alone where the system has no IPv6.";
    BIND: Kind::Listeners, Preset::Unset("HOST and PORT"),
        "Up to 16 addresses to listen on, in place of HOST and PORT: `0.0.0.0:8080`, `[::1]:8080`, `localhost:8080`, `:8080` (all of IPv6 and IPv4), `unix:/run/api.sock`, `unix:@name` (abstract); an address without a port has PORT. `http://` or `https://` may stand in front; without, TCP speaks TLS where TLS_CERT is set, and Unix sockets do not.";
    BIND_UNIX_MODE: Kind::Mode, Preset::Number(limits::UNIX_MODE),
        "Permissions of a Unix socket's file: who may write may connect.";
    TRUSTED_PROXIES: Kind::Peers, Preset::Unset("nobody"),
        "Whose word about a client is taken (PROXY_PROTOCOL, FORWARDED): addresses, networks, and the words `loopback`, `private` (RFC 1918, RFC 4193), `unix` (whoever connects to a Unix socket), `*` (everybody: for tests).";
    PROXY_PROTOCOL: YES_NO, Preset::Word("false"),
        "Connections of TRUSTED_PROXIES begin with a PROXY header, version 1 or 2, and are closed if they do not; those of others must not have one.";
    FORWARDED: Kind::Word(&[("x-forwarded-for", "x-forwarded-for"), ("forwarded", "forwarded")]), Preset::Word("x-forwarded-for"),
        "The header by which TRUSTED_PROXIES tell of a client: X-Forwarded-For with X-Forwarded-Proto, or Forwarded (RFC 7239). The other is ignored, as a proxy that does not know it passes on what the client sent.";
    TLS_CERT: Kind::File, Preset::Unset("no TLS"),
        "Certificate chain, PEM, the server's own first. With it TCP ports speak TLS and nothing else, but for those that BIND begins with `http://`. SIGHUP reads it and TLS_KEY again.";
    TLS_KEY: Kind::File, Preset::Unset("no TLS"),
        "Private key of TLS_CERT, PEM without a passphrase: RSA, ECDSA (P-256, P-384) or Ed25519.";
    TLS_CLIENT_CA: Kind::File, Preset::Unset("clients show no certificate"),
        "Authorities, PEM. With it every client must show a certificate that one of them has issued.";
    TLS_MIN_VERSION: Kind::Word(&[("1.2", "1.2"), ("1.3", "1.3")]), Preset::Word("1.2"),
        "The least version of TLS that is spoken.";
    ENVIRONMENT: Kind::Word(&[
        ("development", "development"), ("dev", "development"),
        ("test", "test"), ("testing", "test"),
        ("staging", "staging"),
        ("production", "production"), ("prod", "production"),
    ]), Preset::Word("development"),
        "`production` requires DATABASE_URL and REDIS_URL and logs as JSON.";
    DATABASE_URL: Kind::Url(&["postgresql", "postgres"]), Preset::Unset("the embedded store in DATA_DIR"),
        "PostgreSQL that keeps the stories, as `postgresql://user:password@host:5432/name` (a SQLAlchemy driver in the scheme, `postgresql+asyncpg://`, is accepted) or `host=db user=u dbname=name`. Required in production. See PostgreSQL below for what else it may hold.";
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
    STORE_OUTAGE: Kind::Word(&[("refuse", "refuse"), ("journal", "journal")]), Preset::Word("refuse"),
        "What becomes of new stories while PostgreSQL is away: `refuse` answers 503 with Retry-After; `journal` keeps them in JOURNAL_DIR, answers them, and puts them into PostgreSQL when it is back.";
    JOURNAL_DIR: Kind::Folder, Preset::Unset("`journal` in the folder that DATA_DIR names"),
        "Folder of that journal, on a volume that outlives the process; one process at a time. Whatever it holds from before is put into PostgreSQL, whatever STORE_OUTAGE says.";
    JOURNAL_BYTES_MAX: Kind::Bytes { min: journal::BYTES_LEAST, max: journal::BYTES_BOUND }, Preset::Number(journal::BYTES_MAX),
        "Bytes of its files. A journal that is full keeps no more stories: they are answered 503.";
    PODS_MAX: Kind::Count { min: 1, max: pg::PODS_BOUND }, Preset::Number(pg::PODS_MAX),
        "Pods that the service may grow to: with it the connections that they may open together are compared with the server's limit, at start.";
    WORKERS: Kind::Count { min: 1, max: limits::WORKERS_MAX as u64 }, Preset::Unset("one per usable CPU"),
        "Workers of this process. Usable CPUs follow the cgroup quota, the cpuset and the affinity; more workers than that is warned of.";
    GUNICORN_WORKERS: Kind::Count { min: 1, max: limits::WORKERS_MAX as u64 }, Preset::Unset("one per usable CPU"),
        "The same under the name of the service before this one. WORKERS wins.";
    PIN: Kind::Word(&[("auto", "auto"), ("always", "always"), ("never", "never")]), Preset::Word("auto"),
        "Whether each worker is pinned to one CPU. `auto` pins where the CPUs are this process's own: outside containers without a quota, and in a container with a cpuset narrower than the machine and no quota, or under Kubernetes with one for all of its CPUs.";
    IO_DRIVER: Kind::Word(&[("auto", "auto"), ("uring", "uring"), ("epoll", "epoll")]), Preset::Word("auto"),
        "How to talk to the kernel. `auto` takes io_uring and falls back to epoll where it is forbidden; `uring` refuses to start then.";
    BALANCE: Kind::Word(&[
        ("on", "on"), ("off", "off"),
        ("true", "on"), ("false", "off"), ("1", "on"), ("0", "off"), ("yes", "on"), ("no", "off"),
    ]), Preset::Word("on"),
        "Whether a worker hands a fresh connection to one that has fewer, or leaves them as the kernel's hash spreads them. See Balance between cores.";
    CONNECTIONS_MAX: Kind::Count { min: 1, max: limits::CONNECTIONS_BOUND }, Preset::Number(limits::CONNECTIONS_MAX),
        "Connections that a worker serves at once, at most; more go to a worker that has places (see Balance between cores), or wait until one ends. In the last eighth of them an idle connection is kept for HEAD_TIMEOUT only.";
    CONNECTIONS_PER_ADDRESS: Kind::Count { min: 0, max: limits::CONNECTIONS_BOUND }, Preset::Unset("half of CONNECTIONS_MAX"),
        "Connections of a worker that one IPv4 address, or one IPv6 /64, may hold; more are closed at once. Set it to 0, no limit, behind a proxy that is not trusted.";
    REQUESTS_PER_CONNECTION: Kind::Count { min: 0, max: u32::MAX as u64 - 1 }, Preset::Number(limits::REQUESTS_PER_CONNECTION),
        "Requests that one connection may send; the last answer says `Connection: close`. 0: no limit.";
    PENDING_BYTES_MAX: Kind::Bytes { min: 0, max: limits::PENDING_BYTES_BOUND }, Preset::Number(limits::PENDING_BYTES_MAX),
        "Memory of a worker for requests that have not come whole, beyond 4 KiB each. Past it large bodies are answered 503 with Retry-After. As much again is for answers that clients are slow to take; past that, those are cut off.";
    KEEP_ALIVE: millis(1000, limits::TIMEOUT_MS_MAX), Preset::Number(limits::KEEP_ALIVE_MS),
        "How long an idle connection is kept. Longer than the load balancer in front keeps it.";
    HEAD_TIMEOUT: millis(100, limits::TIMEOUT_MS_MAX), Preset::Number(limits::HEAD_TIMEOUT_MS),
        "How long a request head may take from its first byte to its last.";
    BODY_TIMEOUT: millis(100, limits::TIMEOUT_MS_MAX), Preset::Number(limits::BODY_TIMEOUT_MS),
        "How long a request body may take, at most.";
    BODY_RATE_MIN: Kind::Bytes { min: 0, max: limits::RATE_MIN_BOUND }, Preset::Number(limits::BODY_RATE_MIN),
        "Bytes per second that a request body must bring after its first 5 s, or it is answered 408. 0: no floor.";
    WRITE_TIMEOUT: millis(100, limits::TIMEOUT_MS_MAX), Preset::Number(limits::WRITE_TIMEOUT_MS),
        "How long a client may take nothing of an answer before it is cut off. What the kernel holds for a closed connection is given up in the same way.";
    WRITE_RATE_MIN: Kind::Bytes { min: 0, max: limits::RATE_MIN_BOUND }, Preset::Number(limits::WRITE_RATE_MIN),
        "Bytes per second that a client must take of an answer; one that is slower for longer than WRITE_TIMEOUT makes up for is cut off. 0: no floor.";
    GRACEFUL_TIMEOUT: millis(0, limits::TIMEOUT_MS_MAX), Preset::Number(limits::GRACEFUL_TIMEOUT_MS),
        "How long requests in flight may take after SIGTERM.";
    DRAIN_DELAY: millis(0, limits::TIMEOUT_MS_MAX), Preset::Unset("5s in production, 0s elsewhere"),
        "How long to go on accepting after SIGTERM while readiness already answers 503, so that endpoints can follow. In its last quarter answers say `Connection: close`.";
    TERMINATION_GRACE: millis(0, limits::TIMEOUT_MS_MAX), Preset::Unset("not compared"),
        "The pod's `terminationGracePeriodSeconds`: with it the sum of the delays is compared at start, and what does not fit is warned of.";
    WORKER_TIMEOUT: millis(drain::WORKER_TIMEOUT_MS_MIN, limits::TIMEOUT_MS_MAX), Preset::Number(drain::WORKER_TIMEOUT_MS),
        "After how long without a turn of its loop a worker is stuck: its stack is logged, liveness and readiness answer 503, and another worker takes its new connections.";
    STUCK: Kind::Word(&[("report", "report"), ("abort", "abort")]), Preset::Word("report"),
        "What else is done then: `report` leaves the end of the process to the orchestrator's liveness probe, `abort` ends it at once.";
    MAX_REQUESTS: Kind::Count { min: 0, max: life::MAX_REQUESTS_BOUND }, Preset::Number(0),
        "Requests after which a worker is replaced by a new one, in the manner of gunicorn; one worker at a time, nothing is lost. 0: never, as a worker does not leak.";
    MAX_REQUESTS_JITTER: Kind::Count { min: 0, max: life::MAX_REQUESTS_BOUND }, Preset::Number(0),
        "Up to so many requests more, by lot, so that workers are not replaced all at once.";
    WORKER_RSS_MAX: Kind::Bytes { min: 0, max: life::RSS_BOUND }, Preset::Number(0),
        "Resident memory of the process past which its workers are replaced, one at a time. 0: never.";
    UPGRADE_TIMEOUT: millis(100, limits::TIMEOUT_MS_MAX), Preset::Number(life::UPGRADE_TIMEOUT_MS),
        "How long a new binary (SIGUSR2) may take to become ready, before it is ended and the old process goes on.";
    UPGRADE_STAY: Kind::Word(&[
        ("auto", "auto"),
        ("true", "true"), ("false", "false"), ("1", "true"), ("0", "false"),
        ("yes", "true"), ("no", "false"), ("on", "true"), ("off", "false"),
    ]), Preset::Word("auto"),
        "Whether the old process stays behind the new one after SIGUSR2, passes signals on to it and ends as it does. `auto`: where it is process 1, whose end is the container's.";
    PIDFILE: Kind::File, Preset::Unset("none"),
        "File that holds the process's id while it serves. During SIGUSR2 the old process's is `PIDFILE.oldbin`.";
    ENV_FILE: Kind::File, Preset::Unset("the environment alone"),
        "File of `NAME=value` lines, whose variables win over the environment's. SIGHUP reads it again.";
    MEMORY_MAX: Kind::Memory { min: memory::MEMORY_MAX_MIN, max: life::RSS_BOUND }, Preset::Word("auto"),
        "How much memory there is. `auto`: what the control groups allow, or the machine has. A size is compared with this process's resident memory, besides what the control groups allow. `off`: nobody looks. See Memory.";
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
    LOG_FILE: Kind::File, Preset::Unset("stdout"),
        "File that log lines are appended to in place of stdout. SIGUSR1 opens it again by its name, after a rotation.";
    ACCESS_LOG: Kind::Word(&[("off", "off"), ("errors", "errors"), ("all", "all")]), Preset::Word("errors"),
        "Which requests get a log line: none, those answered 5xx, or all.";
    OVERLOAD: Kind::Word(&[("adapt", "adapt"), ("on", "adapt"), ("true", "adapt"), ("fixed", "fixed"), ("off", "fixed"), ("false", "fixed")]), Preset::Word("adapt"),
        "What becomes of more than a worker can do in time. `adapt` learns how much it can have in flight, lets the rest wait in a bounded queue, and answers 503 with Retry-After to what would be late; `fixed` has IN_FLIGHT_MAX alone, and no queue.";
    LATENCY_TARGET: millis(overload::TARGET_MS_MIN, overload::TARGET_MS_MAX), Preset::Number(overload::TARGET_MS),
        "Within what a request should be answered: how long one waits to be let in follows from it.";
    IN_FLIGHT_MAX: Kind::Count { min: overload::LIMIT_MIN as u64, max: overload::IN_FLIGHT_MAX }, Preset::Number(overload::IN_FLIGHT_MAX),
        "Requests that a worker has in flight at most: stories being told, and lookups in Redis and the store. Answers from the worker's own cache, probes and metrics do not count.";
    RATE_LIMIT_ENABLED: YES_NO, Preset::Word("false"),
        "Limit how often each client, and all of them together, may ask; more is answered 429. Can be switched without a restart: see Rate limits.";
    RATE_LIMIT_CLIENT: Kind::Rate, Preset::Word(rate::CLIENT_RATE),
        "How often one client may ask: an IPv4 address, an IPv6 /64, or who RATE_LIMIT_KEY names. With REDIS_URL, over all pods together.";
    RATE_LIMIT_CLIENT_BURST: Kind::Count { min: 1, max: rate::BURST_MAX }, Preset::Unset("the number in RATE_LIMIT_CLIENT"),
        "How many of these may come at once, after a rest.";
    RATE_LIMIT_POD: Kind::Rate, Preset::Word(rate::POD_RATE),
        "How often all clients together may ask this process.";
    RATE_LIMIT_POD_BURST: Kind::Count { min: 1, max: rate::BURST_MAX }, Preset::Unset("the number in RATE_LIMIT_POD"),
        "How many of these may come at once.";
    RATE_LIMIT_KEY: Kind::Text { chars_max: rate::KEY_CHARS_MAX }, Preset::Unset("clients are told apart by address"),
        "A request field whose value names the client, as X-API-Key or Authorization; who does not send it is told by address. Only where something in front checks its value.";
    RATE_LIMIT_EXEMPT: Kind::Peers, Preset::Unset("nobody"),
        "Clients that are not limited, as in TRUSTED_PROXIES.";
    CORS_ORIGINS: Kind::Origins, Preset::Unset("no other origin may read answers"),
        "Origins whose pages may read answers (CORS), as `https://app.example`, with commas between; `*` for all.";
    CORS_CREDENTIALS: YES_NO, Preset::Word("false"),
        "Whether those pages may send credentials. Not with `*`.";
    CORS_MAX_AGE: millis(0, limits::TIMEOUT_MS_MAX), Preset::Number(limits::CORS_MAX_AGE_MS),
        "How long a browser may remember the answer to a preflight.";
    HSTS_MAX_AGE: millis(0, limits::HSTS_MAX_AGE_MS_BOUND), Preset::Number(limits::HSTS_MAX_AGE_MS),
        "On TLS connections, tells browsers to come back over TLS only, for so long (Strict-Transport-Security). 0 says nothing.";
    SERVER_HEADER: Kind::Product, Preset::Word(super::face::SERVER),
        "The Server field of answers; `off` leaves it out.";
    COMPRESSION: Kind::Word(&[
        ("on", "on"), ("off", "off"), ("true", "on"), ("false", "off"), ("1", "on"), ("0", "off"), ("yes", "on"), ("no", "off"),
    ]), Preset::Word("on"),
        "Whether answers are compressed (br, zstd, gzip) for clients that take it. `off` where a proxy in front does it.";
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
            Kind::Memory { min, max } => format!(
                "auto, off, or a size from {} to {}: bytes, or a whole number with K, M or G (by 1024)",
                bytes_text(min),
                bytes_text(max)
            ),
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
            Kind::Listeners => {
                "addresses such as 0.0.0.0:8080, [::1]:8080, :8080 or unix:/run/api.sock, with commas between"
                    .to_owned()
            }
            Kind::Peers => {
                "addresses, networks such as 10.0.0.0/8, loopback, private, unix or *, with commas between".to_owned()
            }
            Kind::Mode => "permissions in octal, 0 to 777".to_owned(),
            Kind::Folder => "the path of a folder".to_owned(),
            Kind::File => "the path of a file".to_owned(),
            Kind::Url(schemes) => format!("a URL that begins with {}://", schemes.join(":// or ")),
            Kind::Text { chars_max } => format!("1 to {chars_max} visible ASCII characters"),
            Kind::Rate => {
                format!(
                    "off, or a rate such as 50/s, 600/m or 1000/h, from 1 to {}",
                    rate::RATE_MAX
                )
            }
            Kind::Origins => format!(
                "*, or up to {} origins as https://host or https://host:port, nothing behind them, with commas between",
                limits::CORS_ORIGINS_MAX
            ),
            Kind::Product => format!(
                "off, or a name or name/version, up to {} characters",
                limits::SERVER_HEADER_CHARS_MAX
            ),
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
            Kind::Memory { .. } => "bytes (or K, M, G), auto or off".to_owned(),
            Kind::Word(_) => self.allowed(),
            Kind::Address => "IP address, `localhost` or `*`".to_owned(),
            Kind::Listeners => "addresses with commas between".to_owned(),
            Kind::Peers => "addresses and networks with commas between".to_owned(),
            Kind::Mode => "octal".to_owned(),
            Kind::Folder | Kind::File => "path".to_owned(),
            Kind::Url(_) => "URL".to_owned(),
            Kind::Text { chars_max } => format!("text, {chars_max} characters at most"),
            Kind::Rate => "requests as 50/s, 600/m or 1000/h, or off".to_owned(),
            Kind::Origins => "origins, or *".to_owned(),
            Kind::Product => "name or name/version, or off".to_owned(),
            Kind::Token { chars_min, .. } => format!("text, {chars_min} characters or more"),
        }
    }

    /// The default in words.
    pub fn preset_text(&self) -> String {
        match (self.preset, self.kind) {
            (Preset::Number(ms), Kind::Duration { .. }) => duration_text(ms),
            (Preset::Number(bytes), Kind::Bytes { .. }) => bytes_text(bytes),
            (Preset::Number(mode), Kind::Mode) => format!("{mode:04o}"),
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
