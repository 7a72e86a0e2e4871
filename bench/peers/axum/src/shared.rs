//! Redis by redis-rs: one connection that all requests of a runtime share, pipelined; the service's keys and values.

use crate::story::Told;
use crate::{Failure, Settings};
use flate2::Crc;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use roadtrip_api::limits::redis as limits;
use roadtrip_api::store::StoryKey;
use std::sync::Arc;
use uuid::Uuid;

const MAGIC: &[u8; 4] = b"RTS1";
const HEAD_BYTES: usize = 4 + 4 + 32 + 16 + 8;
const RELEASE: &str = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

#[derive(Clone)]
pub(crate) struct Shared {
    connection: ConnectionManager,
    prefix: Arc<str>,
}

/// A lock that is held until it is given back or falls.
pub(crate) struct Lock([u8; 32]);

pub(crate) enum Claim {
    Mine(Lock),
    Theirs,
    Found(Box<Told>),
    /// Redis cannot say.
    Away,
}

fn digits(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}

fn seal(key: &StoryKey, told: &Told) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD_BYTES + told.json.len());
    value.extend_from_slice(MAGIC);
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(key.as_bytes());
    value.extend_from_slice(told.id.as_bytes());
    value.extend_from_slice(&told.created_ms.to_be_bytes());
    value.extend_from_slice(&told.json);
    let sum = checksum(&value[8..]);
    value[4..8].copy_from_slice(&sum);
    value
}

/// The story in a value of this key, where it is one. Takes no copy: the bytes behind the head are the story.
fn open(key: &StoryKey, value: Vec<u8>) -> Option<Told> {
    let (sum, rest) = value.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    if *sum != checksum(rest) {
        return None;
    }
    let (found, rest) = rest.split_first_chunk::<32>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (created_ms, json) = rest.split_first_chunk::<8>()?;
    let (id, created_ms) = (Uuid::from_bytes(*id), u64::from_be_bytes(*created_ms));
    if found != key.as_bytes() || json.is_empty() {
        return None;
    }
    Some(Told::new(id, created_ms, bytes::Bytes::from(value).slice(HEAD_BYTES..)))
}

impl Shared {
    pub(crate) async fn connect(url: &str, settings: &Settings) -> Result<Shared, Failure> {
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(settings.redis_timeout));
        let connection = ConnectionManager::new_with_config(redis::Client::open(url)?, config).await?;
        Ok(Shared {
            connection,
            prefix: settings.redis_prefix.as_str().into(),
        })
    }

    fn name(&self, kind: u8, of: &[u8]) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.prefix.len() + 2 + 2 * of.len());
        name.extend_from_slice(self.prefix.as_bytes());
        name.extend_from_slice(&[kind, b':']);
        digits(&mut name, of);
        name
    }

    async fn get(&self, name: Vec<u8>) -> Option<Vec<u8>> {
        let mut connection = self.connection.clone();
        redis::cmd("GET")
            .arg(name)
            .query_async(&mut connection)
            .await
            .ok()
            .flatten()
    }

    pub(crate) async fn find(&self, key: &StoryKey) -> Option<Told> {
        open(key, self.get(self.name(b's', key.as_bytes())).await?)
    }

    pub(crate) async fn find_id(&self, id: Uuid) -> Option<Told> {
        let key = <[u8; 32]>::try_from(self.get(self.name(b'i', id.as_bytes())).await?).ok()?;
        self.find(&StoryKey::from_bytes(key)).await.filter(|told| told.id == id)
    }

    /// Asks to tell the story alone; finds it where it was told meanwhile.
    pub(crate) async fn claim(&self, key: &StoryKey) -> Claim {
        let mut token = Vec::with_capacity(32);
        digits(&mut token, &fastrand::u128(..).to_be_bytes());
        let mut pipe = redis::pipe();
        let set = pipe.cmd("SET").arg(self.name(b'l', key.as_bytes())).arg(&token);
        set.arg("NX").arg("PX").arg(limits::LOCK_MS);
        pipe.cmd("GET").arg(self.name(b's', key.as_bytes()));
        let mut connection = self.connection.clone();
        let answers: (Option<String>, Option<Vec<u8>>) = match pipe.query_async(&mut connection).await {
            Ok(answers) => answers,
            Err(_) => return Claim::Away,
        };
        let lock = token.try_into().ok().filter(|_| answers.0.is_some()).map(Lock);
        match (answers.1.and_then(|value| open(key, value)), lock) {
            (Some(told), lock) => {
                if let Some(lock) = lock {
                    self.release(key, lock);
                }
                Claim::Found(Box::new(told))
            }
            (None, Some(lock)) => Claim::Mine(lock),
            (None, None) => Claim::Theirs,
        }
    }

    /// Writes a story that PostgreSQL has, and gives the lock back; nobody waits for it.
    pub(crate) fn remember(&self, key: StoryKey, told: Arc<Told>, lock: Option<Lock>) {
        let shared = self.clone();
        tokio::spawn(async move {
            let ms = limits::TTL_MS - limits::TTL_MS / 20 + fastrand::u64(0..limits::TTL_MS / 10);
            let mut pipe = redis::pipe();
            let story = pipe
                .cmd("SET")
                .arg(shared.name(b's', key.as_bytes()))
                .arg(seal(&key, &told));
            story.arg("PX").arg(ms).ignore();
            let id = pipe
                .cmd("SET")
                .arg(shared.name(b'i', told.id.as_bytes()))
                .arg(key.as_bytes());
            id.arg("PX").arg(ms).ignore();
            if let Some(lock) = lock {
                shared.with_release(&mut pipe, &key, &lock);
            }
            let mut connection = shared.connection;
            let _: Result<(), _> = pipe.query_async(&mut connection).await;
        });
    }

    pub(crate) fn release(&self, key: &StoryKey, lock: Lock) {
        let (shared, key) = (self.clone(), *key);
        tokio::spawn(async move {
            let mut pipe = redis::pipe();
            shared.with_release(&mut pipe, &key, &lock);
            let mut connection = shared.connection;
            let _: Result<(), _> = pipe.query_async(&mut connection).await;
        });
    }

    fn with_release(&self, pipe: &mut redis::Pipeline, key: &StoryKey, lock: &Lock) {
        let release = pipe
            .cmd("EVAL")
            .arg(RELEASE)
            .arg(1)
            .arg(self.name(b'l', key.as_bytes()));
        release.arg(&lock.0[..]).ignore();
    }
}
