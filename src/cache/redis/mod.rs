//! The cache that pods share: stories by content key and by id, and a short lock so that one of many tells a story.
//!
//! Called by `story::service`, on a worker, which has one [`Redis`] with one connection. Redis is never needed: whatever
//! goes wrong here, a lookup becomes a miss within its time, a lock is not had, a write is left out, and the caller goes
//! on to the store. What is read is checked ([`Entry`]); what is written lies in the store already.
//!
//! [`url`] reads REDIS_URL, `resp` is the wire without I/O, `connection` pipelines commands, `greet` makes a connection,
//! `link` keeps it and is the breaker, `envelope` is a value. Keys, below REDIS_PREFIX: `s:` and a content key in
//! hexadecimal is a story; `i:` and an id is the content key of its story; `l:` and a content key is a lock; `r:` and a client is the account of its rate limit (`rate`).
//!
//! Deliberately absent: Redis Cluster and Sentinel (refused by name), pub/sub, several connections a worker (commands
//! of one connection share system calls; a second would halve that), and clocks or randomness other than the runtime's.

mod connection;
mod envelope;
mod fault;
mod greet;
mod link;
mod rate;
mod resp;
#[cfg(test)]
mod tests;
pub mod url;

pub use envelope::Entry;
pub use fault::Fault;

use crate::backend::tls::{Tls, TlsError, TlsSettings, Verify};
use crate::cache::local::CachedStory;
use crate::limits::redis as limits;
use crate::runtime::context;
use crate::runtime::executor::spawn_detached;
use crate::store::StoryKey;
use crate::telemetry::metrics::WorkerMetrics;
use link::{Batch, Link, Purpose};
use resp::Reply;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use url::Target;
use uuid::Uuid;

/// Deletes a lock if it still is its owner's (the Redis documentation's pattern for SET with NX).
const RELEASE: &[u8] = b"if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

/// What an operator sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it is.
    pub target: Target,
    /// Stands before every key.
    pub prefix: String,
    /// How long a story is kept; a tenth of jitter is spread around it.
    pub ttl: Duration,
    /// How long a lookup may take.
    pub timeout: Duration,
    /// Connections of this process at most.
    pub connections_max: usize,
}

/// Settings with their files read: made once, shared by the workers.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    tls: Option<Tls>,
}

impl Plan {
    /// Reads the certificates; it blocks, so call it at boot.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn new(settings: Settings) -> Result<Arc<Plan>, TlsError> {
        let tls = match &settings.target.tls {
            None => None,
            Some(tls) => Some(Tls::new(&TlsSettings {
                verify: Verify::Full,
                roots: tls.ca_file.clone(),
                identity: None,
                only_tls13: false,
            })?),
        };
        let mut settings = settings;
        settings.timeout = settings.target.timeout.unwrap_or(settings.timeout);
        Ok(Arc::new(Plan { settings, tls }))
    }

    /// Whether worker `index` gets a connection: there may be more workers than connections.
    pub fn has_room_for(&self, index: u32) -> bool {
        usize::try_from(index).is_ok_and(|index| index < self.settings.connections_max)
    }

    /// What the operator set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// What a lookup gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Looked {
    /// The story.
    Found(Entry),
    /// Redis has none.
    Missing,
    /// Redis did not answer.
    Away,
}

/// What became of the wish to tell a story alone.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// This flight may tell it; give the lock back by [`Redis::remember`] or [`Redis::release`].
    Mine(Lock),
    /// Somebody else tells it.
    Theirs,
    /// Somebody else has told it.
    Found(Entry),
    /// Redis cannot say: tell it.
    Away,
}

/// A lock that is held until it is released or [`limits::LOCK_MS`] are over.
#[derive(Debug, PartialEq, Eq)]
pub struct Lock {
    key: StoryKey,
    token: [u8; 32],
}

/// One worker's share of Redis.
pub struct Redis {
    link: Rc<Link>,
    plan: Arc<Plan>,
    metrics: Rc<WorkerMetrics>,
    /// Writes under way.
    writes: Cell<usize>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

/// Figures for the status page.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Why it is not used now, if it is not.
    pub trouble: Option<Fault>,
    /// Why nothing is written now, if nothing is.
    pub writes_off: Option<Fault>,
    /// Lookups that found a story.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Commands that wait for an answer.
    pub in_flight: usize,
    /// Connections made since the worker began.
    pub connects: u64,
    /// What the server says of its version.
    pub version: String,
    /// What the server says of its role.
    pub role: String,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Begins to connect. To be called inside the worker's runtime; `name` is what CLIENT LIST shows.
    pub fn start(plan: Arc<Plan>, name: String, metrics: Rc<WorkerMetrics>) -> Rc<Redis> {
        let link = Link::new(Arc::clone(&plan), name, Rc::clone(&metrics));
        spawn_detached("redis-link", Rc::clone(&link).run());
        Rc::new(Redis {
            link,
            plan,
            metrics,
            writes: Cell::new(0),
            hits: Cell::new(0),
            misses: Cell::new(0),
        })
    }

    /// The story of a content key.
    pub async fn find(&self, key: &StoryKey) -> Looked {
        if self.link.is_away() {
            return Looked::Away;
        }
        let looked = self.look(key).await;
        self.count(&looked);
        looked
    }

    /// The story of an id.
    pub async fn find_id(&self, id: Uuid) -> Looked {
        if self.link.is_away() {
            return Looked::Away;
        }
        let name = self.key(b'i', id.as_bytes());
        let looked = match self.get(&name).await {
            Ok(Some(key)) => match <[u8; 32]>::try_from(key.as_slice()) {
                // What the id leads to must be the story of that id.
                Ok(key) => match self.look(&StoryKey::from_bytes(key)).await {
                    Looked::Found(entry) if entry.id != id => Looked::Missing,
                    looked => looked,
                },
                Err(_) => Looked::Missing,
            },
            Ok(None) => Looked::Missing,
            Err(_) => Looked::Away,
        };
        self.count(&looked);
        looked
    }

    async fn look(&self, key: &StoryKey) -> Looked {
        match self.get(&self.key(b's', key.as_bytes())).await {
            Ok(Some(value)) => self.open(key, value).map_or(Looked::Missing, Looked::Found),
            Ok(None) => Looked::Missing,
            Err(_) => Looked::Away,
        }
    }

    async fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let batch = Batch::default().add(&[b"GET", name]);
        let replies = self
            .link
            .call(Purpose::Read, self.plan.settings.timeout, &batch)
            .await?;
        match replies.into_iter().next() {
            Some(Reply::Bulk(value)) => Ok(Some(value)),
            Some(Reply::Nil) => Ok(None),
            Some(Reply::Error(code)) => match code.as_str() {
                // A value of another type is not ours.
                "WRONGTYPE" => Ok(None),
                code => Err(Fault::of_code(code)),
            },
            Some(Reply::TooLong(_)) => {
                self.metrics.redis_value_refused();
                Ok(None)
            }
            _ => Err(Fault::Garbage),
        }
    }

    fn open(&self, key: &StoryKey, value: Vec<u8>) -> Option<Entry> {
        let entry = envelope::open(value).filter(|entry| entry.key == *key);
        if entry.is_none() {
            self.metrics.redis_value_refused();
        }
        entry
    }

    /// Asks to tell the story of `key` alone.
    pub async fn claim(self: &Rc<Self>, key: &StoryKey) -> Claim {
        if self.link.is_away() || self.link.writes_off().is_some() {
            return Claim::Away;
        }
        let lock = Lock {
            key: *key,
            token: context::random(|rng| hexadecimal(&rng.u128(..).to_be_bytes())),
        };
        // In this order: its owner writes the story before it gives the lock back, so that whoever gets a lock that was
        // given back finds the story.
        let ms = limits::LOCK_MS.to_string();
        let name = self.key(b'l', key.as_bytes());
        let batch = Batch::default()
            .add(&[b"SET", &name, &lock.token, b"NX", b"PX", ms.as_bytes()])
            .add(&[b"GET", &self.key(b's', key.as_bytes())]);
        let replies = match self.link.call(Purpose::Lock, self.plan.settings.timeout, &batch).await {
            Ok(replies) => replies,
            Err(fault) => {
                if fault == Fault::Timeout {
                    // It may be set all the same, and would keep others waiting.
                    self.release(lock);
                }
                return Claim::Away;
            }
        };
        let mut replies = replies.into_iter();
        let (locked, value) = (replies.next(), replies.next());
        let mine = matches!(locked, Some(Reply::Text(_)));
        if let Some(Reply::Bulk(value)) = value
            && let Some(entry) = self.open(key, value)
        {
            if mine {
                self.release(lock);
            }
            return Claim::Found(entry);
        }
        match locked {
            _ if mine => Claim::Mine(lock),
            Some(Reply::Nil) => Claim::Theirs,
            _ => Claim::Away,
        }
    }

    /// Writes a story that the store has, and gives the lock back, in the background: nobody waits, and nobody hears of
    /// a failure but the metrics.
    pub fn remember(self: &Rc<Self>, key: StoryKey, created_ms: u64, story: Rc<CachedStory>, lock: Option<Lock>) {
        let off = self.link.writes_off().is_some();
        self.in_background(off, move |redis| {
            let tenth = redis.plan.settings.ttl / 10;
            let jitter = context::random(|rng| rng.f64());
            let ttl = redis.plan.settings.ttl - tenth / 2 + tenth.mul_f64(jitter);
            let ms = ttl.as_millis().max(1).to_string();
            let value = envelope::seal(&key, story.id(), created_ms, story.body());
            let batch = Batch::default()
                .add(&[b"SET", &redis.key(b's', key.as_bytes()), &value, b"PX", ms.as_bytes()])
                .add(&[
                    b"SET",
                    &redis.key(b'i', story.id().as_bytes()),
                    key.as_bytes(),
                    b"PX",
                    ms.as_bytes(),
                ]);
            match &lock {
                // Others may wait for the lock.
                Some(lock) => redis.with_release(batch, lock),
                None => batch.with_others(),
            }
        });
    }

    /// Gives a lock back, in the background.
    pub fn release(self: &Rc<Self>, lock: Lock) {
        self.in_background(false, move |redis| redis.with_release(Batch::default(), &lock));
    }

    fn with_release(&self, batch: Batch, lock: &Lock) -> Batch {
        let name = self.key(b'l', lock.key.as_bytes());
        batch.add(&[b"EVAL", RELEASE, b"1", &name, &lock.token])
    }

    fn in_background(self: &Rc<Self>, off: bool, make: impl FnOnce(&Redis) -> Batch + 'static) {
        if off || self.link.is_away() || self.writes.get() >= limits::WRITES_MAX {
            self.metrics.redis_write_left_out();
            return;
        }
        self.writes.set(self.writes.get() + 1);
        let redis = Rc::clone(self);
        spawn_detached("redis-write", async move {
            let batch = make(&redis);
            let _ = redis
                .link
                .call(Purpose::Write, Duration::from_millis(limits::WRITE_MS), &batch)
                .await;
            redis.writes.set(redis.writes.get().saturating_sub(1));
        });
    }

    /// Whether it answers; for the background check, which has its own time.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn ping(&self) -> Result<(), Fault> {
        let batch = Batch::default().add(&[b"PING"]);
        let answer = self
            .link
            .call(Purpose::Probe, Duration::from_millis(limits::WRITE_MS), &batch);
        match answer.await {
            Err(Fault::Away) => Err(self.link.trouble().unwrap_or(Fault::Away)),
            Err(fault) => Err(fault),
            Ok(replies) => match replies.first() {
                Some(Reply::Error(code)) if code != "NOPERM" => Err(Fault::of_code(code)),
                _ => Ok(()),
            },
        }
    }

    /// Where it is, without secrets.
    pub fn server(&self) -> String {
        self.plan.settings.target.to_string()
    }

    /// Figures now. Never waits.
    pub fn figures(&self) -> Figures {
        let (version, role) = self.link.version_and_role();
        Figures {
            trouble: self.link.trouble(),
            writes_off: self.link.writes_off(),
            hits: self.hits.get(),
            misses: self.misses.get(),
            in_flight: self.link.in_flight(),
            connects: self.link.connects(),
            version,
            role,
        }
    }

    fn count(&self, looked: &Looked) {
        match looked {
            Looked::Found(_) => {
                self.hits.set(self.hits.get().saturating_add(1));
                self.metrics.redis_hit();
            }
            Looked::Missing => {
                self.misses.set(self.misses.get().saturating_add(1));
                self.metrics.redis_missed();
            }
            Looked::Away => {}
        }
    }

    /// The name of a value of this kind.
    fn key(&self, kind: u8, of: &[u8]) -> Vec<u8> {
        let prefix = self.plan.settings.prefix.as_bytes();
        let mut name = Vec::with_capacity(prefix.len() + 2 + 2 * of.len());
        name.extend_from_slice(prefix);
        name.extend_from_slice(&[kind, b':']);
        for byte in of {
            name.extend_from_slice(&digits(*byte));
        }
        name
    }
}

fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    [digit(byte >> 4), digit(byte & 0xf)]
}

fn hexadecimal(bytes: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    for (place, byte) in out.chunks_exact_mut(2).zip(bytes) {
        place.copy_from_slice(&digits(*byte));
    }
    out
}
