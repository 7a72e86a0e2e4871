//! Cache, join, Redis, PostgreSQL, tell and keep: the service's order.

use crate::pg::Store;
use crate::shared::{Claim, Lock, Shared};
use crate::story::{Told, resolve};
use crate::{Failure, Settings};
use ahash::RandomState;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};
use roadtrip_api::limits::{redis as limits, story};
use roadtrip_api::store::StoryKey;
use roadtrip_api::story::types::StoryRequest;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use uuid::Uuid;

/// Where a story came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Redis,
    Store,
    Told,
    Joined,
}

type Found = (Arc<Told>, Source);
/// The outcome of a flight; an error as text, since all who wait get it.
type Outcome = Result<Found, Arc<str>>;
type Flights = HashMap<Arc<[u8]>, watch::Receiver<Option<Outcome>>, RandomState>;

/// What came of the wish to tell a story alone.
enum Claimed {
    Found(Box<Told>, Source),
    /// Tell it; with the lock, where there is one.
    Tell(Option<Lock>),
}

#[derive(Clone)]
struct Entry {
    told: Arc<Told>,
    expires: Instant,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Entry> for Bytes {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        // Bookkeeping beside the bytes, about.
        (key.len() + entry.told.json.len() + 400) as u64
    }
}

impl Weighter<Uuid, Entry> for Bytes {
    fn weight(&self, _: &Uuid, entry: &Entry) -> u64 {
        (entry.told.json.len() + 400) as u64
    }
}

pub(crate) struct Service {
    cache: Cache<Box<[u8]>, Entry, Bytes, RandomState>,
    /// Stories asked for by their id.
    by_id: Cache<Uuid, Entry, Bytes, RandomState>,
    ttl: Duration,
    flights: Mutex<Flights>,
    pub(crate) store: Store,
    shared: Option<Shared>,
}

impl Service {
    pub(crate) async fn open(settings: Settings) -> Result<Arc<Service>, Failure> {
        let shared = match &settings.redis_url {
            Some(url) => Some(Shared::connect(url, &settings).await?),
            None => None,
        };
        let items = usize::try_from(settings.cache_bytes / 4096)
            .unwrap_or(usize::MAX)
            .max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(settings.cache_bytes)
            .build()?;
        let seed = RandomState::new;
        Ok(Arc::new(Service {
            cache: Cache::with_options(options.clone(), Bytes, seed(), Default::default()),
            by_id: Cache::with_options(options, Bytes, seed(), Default::default()),
            ttl: settings.cache_ttl,
            flights: Mutex::default(),
            store: Store::open(&settings)?,
            shared,
        }))
    }

    pub(crate) fn cached(&self, request: &[u8]) -> Option<Arc<Told>> {
        self.cache
            .get(request)
            .filter(|entry| entry.expires > Instant::now())
            .map(|entry| entry.told)
    }

    fn entry(&self, told: &Arc<Told>) -> Entry {
        // A tenth of jitter, so that what was told together is not forgotten together.
        let spread = 0.95 + fastrand::f32() / 10.0;
        Entry {
            told: Arc::clone(told),
            expires: Instant::now() + self.ttl.mul_f32(spread),
        }
    }

    /// The story of a request that is not in the cache. Equal ones share a flight, which ends whoever goes away.
    pub(crate) async fn tell(self: &Arc<Self>, request: &[u8], asked: impl FnOnce() -> StoryRequest) -> Outcome {
        let (mut outcome, joined) = {
            let mut flights = self.flights.lock();
            match flights.get(request) {
                Some(flight) => (flight.clone(), true),
                None if flights.len() >= story::FLIGHTS_MAX => return Err("too many stories are being told".into()),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    let request: Arc<[u8]> = request.into();
                    flights.insert(Arc::clone(&request), receiver.clone());
                    let (service, asked) = (Arc::clone(self), asked());
                    tokio::spawn(async move {
                        let landing = Landing(&service, &request);
                        let outcome = service
                            .fly(&request, asked)
                            .await
                            .map_err(|error| error.to_string().into());
                        drop(landing);
                        let _ = sender.send(Some(outcome));
                    });
                    (receiver, false)
                }
            }
        };
        let ready = outcome.wait_for(Option::is_some);
        let landed = tokio::time::timeout(Duration::from_millis(story::TELL_MS_MAX), ready).await;
        let landed = landed
            .map_err(|_| "the story took too long")?
            .map_err(|_| "the story could not be told")?;
        match landed.as_ref() {
            Some(Ok((told, _))) if joined => Ok((Arc::clone(told), Source::Joined)),
            Some(outcome) => outcome.clone(),
            None => Err("the story could not be told".into()),
        }
    }

    async fn fly(&self, request: &[u8], asked: StoryRequest) -> Result<Found, Failure> {
        let wish = resolve(asked);
        let key = wish.key;
        if let Some(found) = self.search(&key).await? {
            return Ok(self.land(request, key, found));
        }
        let lock = match self.claim(&key).await? {
            Claimed::Tell(lock) => lock,
            Claimed::Found(told, source) => return Ok(self.land(request, key, (*told, source))),
        };
        let told = async {
            let record = wish.tell()?;
            let id = record.id;
            let told = self.store.put(record).await?;
            let source = if told.id == id { Source::Told } else { Source::Store };
            Ok::<_, Failure>((Arc::new(told), source))
        };
        let (told, source) = match told.await {
            Ok(found) => found,
            Err(error) => {
                if let (Some(shared), Some(lock)) = (&self.shared, lock) {
                    shared.release(&key, lock);
                }
                return Err(error);
            }
        };
        self.cache.insert(request.into(), self.entry(&told));
        if let Some(shared) = &self.shared {
            shared.remember(key, Arc::clone(&told), lock);
        }
        Ok((told, source))
    }

    async fn search(&self, key: &StoryKey) -> Result<Option<(Told, Source)>, Failure> {
        if let Some(shared) = &self.shared
            && let Some(told) = shared.find(key).await
        {
            return Ok(Some((told, Source::Redis)));
        }
        Ok(self.store.find(key).await?.map(|told| (told, Source::Store)))
    }

    /// Waits until this flight may tell the story, or finds it told; not for ever.
    async fn claim(&self, key: &StoryKey) -> Result<Claimed, Failure> {
        let Some(shared) = &self.shared else {
            return Ok(Claimed::Tell(None));
        };
        let end = Instant::now() + Duration::from_millis(limits::LOCK_WAIT_MS);
        let mut pause = limits::LOCK_PAUSE_MS;
        loop {
            match shared.claim(key).await {
                Claim::Mine(lock) => return Ok(Claimed::Tell(Some(lock))),
                Claim::Found(told) => return Ok(Claimed::Found(told, Source::Redis)),
                Claim::Away => return Ok(Claimed::Tell(None)),
                Claim::Theirs if Instant::now() >= end => {
                    return Ok(match self.store.find(key).await? {
                        Some(told) => Claimed::Found(Box::new(told), Source::Store),
                        None => Claimed::Tell(None),
                    });
                }
                Claim::Theirs => {}
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(pause / 2..=pause))).await;
            pause = (pause * 2).min(limits::LOCK_PAUSE_MS_MAX);
        }
    }

    fn land(&self, request: &[u8], key: StoryKey, (told, source): (Told, Source)) -> Found {
        let told = Arc::new(told);
        self.cache.insert(request.into(), self.entry(&told));
        if source == Source::Store
            && let Some(shared) = &self.shared
        {
            shared.remember(key, Arc::clone(&told), None);
        }
        (told, source)
    }

    /// The story of an id.
    pub(crate) async fn by_id(&self, id: Uuid) -> Result<Option<Arc<Told>>, Failure> {
        if let Some(entry) = self.by_id.get(&id).filter(|entry| entry.expires > Instant::now()) {
            return Ok(Some(entry.told));
        }
        let told = match &self.shared {
            Some(shared) => shared.find_id(id).await,
            None => None,
        };
        let told = match told {
            Some(told) => Some(told),
            None => self.store.get(id).await?,
        };
        Ok(told.map(|told| {
            let told = Arc::new(told);
            self.by_id.insert(id, self.entry(&told));
            told
        }))
    }
}

/// Takes a flight off the list, however it ended.
struct Landing<'f>(&'f Service, &'f [u8]);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.flights.lock().remove(self.1);
    }
}
