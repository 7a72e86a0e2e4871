//! Cache, coalesce, generate, persist: the way of a story on one worker.
//!
//! A hit in the worker's own cache is answered at once ([`StoryService::cached`]). A miss joins or starts a *flight*:
//! a task of its own that looks in Redis and in the store (`tiers`), tells the story if it is not there, keeps it, and
//! only then wakes those who wait (invariant 7). A client that goes away does not end the flight, and equal misses on
//! one core share one.

use super::absent::Absent;
use super::flight::{Flight, Landing, Passenger, end_of, take_off};
use super::gazetteer::Gazetteer;
use super::key::{self, Asked};
use super::narrator;
use super::resolve::Resolved;
use super::share::Share;
use super::tiers::Claimed;
use super::types::uuid_text::UuidText;
use super::types::{LocationQuery, Story, StoryRequest, Telling};
use crate::cache::local::{CachedStory, LocalCache};
use crate::cache::redis::Redis;
use crate::http::negotiate::Coding;
use crate::limits;
use crate::resilience::overload::{self, Admission, End, Pass, Urgency};
use crate::runtime::context;
use crate::runtime::executor::spawn_detached;
use crate::runtime::time::timeout;
use crate::store::{Cursor, Filter, Kept, Page, Record, Store, StoreError, StoryKey};
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::trace::Trace;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

/// Why there is no story.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The store cannot keep or give it now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More is asked of this worker than it can do in time.
    #[error("more is asked of this worker than it can do in time")]
    Overloaded,
    /// It took too long.
    #[error("the story took too long")]
    Timeout,
    /// A mistake in this program; the log has the details.
    #[error("the story could not be told")]
    Internal,
}

/// Where a story came from, for Cache-Status and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This worker's cache.
    Cache,
    /// Redis: told before, by any worker of any pod.
    Redis,
    /// The store: told before, by any worker.
    Store,
    /// Told now.
    Told,
    /// Another request on this worker had the same wish at the same time.
    Joined,
    /// This worker's cache, past its time, because nothing else could be asked.
    Stale,
}

/// How long answers are cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caching {
    /// Bytes of the worker's own cache at most.
    pub bytes: u64,
    /// How long an answer is served from it.
    pub ttl: Duration,
    /// For how long past that it is served while it is looked up anew.
    pub stale_while_revalidate: Duration,
    /// For how long past that it is served where it cannot be looked up.
    pub stale_if_error: Duration,
}

pub(super) type Outcome = Result<(Rc<CachedStory>, Source), TellError>;

type Flights = HashMap<Rc<[u8]>, Rc<RefCell<Flight>>>;
/// A flight, and whether it was under way already.
type Boarded = (Rc<RefCell<Flight>>, bool);

/// The stories of one worker.
pub struct StoryService {
    gazetteer: &'static Gazetteer,
    pub(super) store: Store,
    pub(super) redis: Option<Rc<Redis>>,
    pub(super) cache: RefCell<LocalCache>,
    /// What the cache has while memory is not short.
    pub(super) cache_bytes: u64,
    /// Memory is short: what need not be done is left.
    pub(super) frugal: Cell<bool>,
    cache_ttl_ms: u64,
    pub(super) stale_while_revalidate_ms: u64,
    pub(super) stale_if_error_ms: u64,
    pub(super) absent: RefCell<Absent>,
    flights: RefCell<Flights>,
    /// What telling may use of the core.
    share_of_core: Share,
    admission: Rc<Admission>,
    pub(super) metrics: Rc<WorkerMetrics>,
}

impl StoryService {
    /// Over the worker's handle to the store, with a cache of at most `cache_bytes`, and nothing stale.
    pub fn new(store: Store, cache_bytes: u64, cache_ttl: Duration, metrics: Rc<WorkerMetrics>) -> Rc<StoryService> {
        let caching = Caching {
            bytes: cache_bytes,
            ttl: cache_ttl,
            ..Caching::default()
        };
        StoryService::with(store, None, caching, metrics)
    }

    /// Over the worker's handles to the store and to Redis.
    pub fn with(
        store: Store,
        redis: Option<Rc<Redis>>,
        caching: Caching,
        metrics: Rc<WorkerMetrics>,
    ) -> Rc<StoryService> {
        StoryService::guarded(store, redis, caching, overload::Settings::default(), metrics)
    }

    /// The same, with these settings of what is let in.
    pub fn guarded(
        store: Store,
        redis: Option<Rc<Redis>>,
        caching: Caching,
        overload: overload::Settings,
        metrics: Rc<WorkerMetrics>,
    ) -> Rc<StoryService> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (revalidate, error) = (ms(caching.stale_while_revalidate), ms(caching.stale_if_error));
        Rc::new(StoryService {
            gazetteer: Gazetteer::embedded(),
            store,
            redis,
            cache: RefCell::new(LocalCache::new(caching.bytes).keep_stale(revalidate.max(error))),
            cache_bytes: caching.bytes,
            frugal: Cell::new(false),
            cache_ttl_ms: ms(caching.ttl),
            stale_while_revalidate_ms: revalidate,
            stale_if_error_ms: error,
            absent: RefCell::default(),
            flights: RefCell::default(),
            share_of_core: Share::default(),
            admission: Admission::new(overload, Rc::clone(&metrics)),
            metrics,
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Redis, where there is one.
    pub fn redis(&self) -> Option<&Rc<Redis>> {
        self.redis.as_ref()
    }

    /// The cache, for its figures.
    pub fn cache(&self) -> &RefCell<LocalCache> {
        &self.cache
    }

    /// The story of a request whose canonical bytes are `request`, if this worker has it at hand.
    pub fn cached(&self, request: &[u8]) -> Option<Rc<CachedStory>> {
        self.cache.borrow_mut().get(request, now_ms())
    }

    /// Keeps a story in one more coding, for as long as it is cached; `request` is what it was asked for by, `None` where
    /// by its id. Gives it with that coding.
    pub fn keep_form(
        &self,
        request: Option<&[u8]>,
        story: &Rc<CachedStory>,
        coding: Coding,
        body: Vec<u8>,
    ) -> Rc<CachedStory> {
        self.cache.borrow_mut().keep_form(request, story, coding, body)
    }

    /// What is let in, for its figures.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Whether a wish that is not [`cached`](Self::cached) is to be answered [`TellError::Overloaded`] at once; not where
    /// it is being told already, or something stale is at hand.
    pub fn sheds(&self, request: &[u8]) -> bool {
        let is_stale = || {
            self.cache
                .borrow()
                .stale(request, now_ms(), self.stale_if_error_ms)
                .is_some()
        };
        !self.flights.borrow().contains_key(request) && !is_stale() && self.admission.refuses()
    }

    /// Comes in to wait for something or to compute it.
    pub(super) async fn enter(&self, urgency: Urgency) -> Result<Pass, TellError> {
        let entering = self.admission.arrive(context::now_ns(), urgency);
        let entered = match entering {
            Ok(entering) => entering.await,
            Err(reason) => Err(reason),
        };
        entered.map_err(|_| TellError::Overloaded)
    }

    /// A page of stories, newest first.
    pub async fn list(&self, filter: Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page, TellError> {
        let pass = self.enter(Urgency::Request).await?;
        let page = within(self.store.list(filter, cursor, limit)).await;
        pass.end(end_of(&page));
        page
    }

    /// Tells a story that was not [`cached`](Self::cached) under its canonical bytes `request`. `trace` names who asks: what
    /// goes wrong on the way is logged under the first of those who share it, and upstreams are told of that one.
    pub async fn tell(self: &Rc<Self>, request: &[u8], asked: StoryRequest, trace: &Rc<Trace>) -> Outcome {
        let (flight, joined) = match self.board(request, asked, Some(trace)) {
            Ok(boarded) => boarded,
            Err(error) => return self.stale_on_error(request, error),
        };
        let aboard = Passenger::aboard(flight);
        // To be let in takes as long as the target says, at most; the rest has its own time.
        let patience = Duration::from_millis(limits::story::TELL_MS_MAX).saturating_add(self.admission.wait_max());
        let outcome = timeout(patience, poll_fn(|cx| aboard.poll_outcome(cx)))
            .await
            .unwrap_or(Err(TellError::Timeout))
            .or_else(|error| self.stale_on_error(request, error))?;
        Ok(match outcome {
            (story, Source::Stale) => (story, Source::Stale),
            (story, _) if joined => (story, Source::Joined),
            outcome => outcome,
        })
    }

    /// The flight of that request, under way already or started now. One without a leader is nobody's request.
    pub(super) fn board(
        self: &Rc<Self>,
        request: &[u8],
        asked: StoryRequest,
        leader: Option<&Rc<Trace>>,
    ) -> Result<Boarded, TellError> {
        let mut flights = self.flights.borrow_mut();
        if let Some(flight) = flights.get(request) {
            self.metrics.flight_joined();
            return Ok((Rc::clone(flight), true));
        }
        let urgency = match leader {
            Some(_) => Urgency::Request,
            None => Urgency::Background,
        };
        let entering = self
            .admission
            .arrive(context::now_ns(), urgency)
            .map_err(|_| TellError::Overloaded)?;
        let request: Rc<[u8]> = request.into();
        let flight = Rc::new(RefCell::new(Flight::default()));
        flights.insert(Rc::clone(&request), Rc::clone(&flight));
        let landing = Landing {
            service: Rc::clone(self),
            request,
            flight: Rc::clone(&flight),
            leader: leader.cloned(),
        };
        spawn_detached("story", async move {
            let outcome = match take_off(entering, &landing.flight).await {
                Some(Ok(pass)) => {
                    let waited = Cell::new(false);
                    let outcome = landing.service.fly(&landing.request, asked, &waited).await;
                    // How long another pod takes for a story says nothing of this one.
                    pass.end(if waited.get() { End::Untold } else { end_of(&outcome) });
                    outcome
                }
                Some(Err(error)) => Err(error),
                None => Err(TellError::Overloaded),
            };
            landing.flight.borrow_mut().outcome = Some(outcome);
            drop(landing);
        });
        Ok((flight, false))
    }

    pub(super) fn forget_flight(&self, request: &[u8]) {
        self.flights.borrow_mut().remove(request);
    }

    /// `waited` is set where it waited for somebody else.
    async fn fly(&self, request: &[u8], asked: StoryRequest, waited: &Cell<bool>) -> Outcome {
        // Finding a misspelt name and telling a long story may take a good part of a millisecond each; others go
        // between.
        self.share_of_core.take_turn().await;
        let resolved = self
            .share_of_core
            .work(|| Resolved::of(self.gazetteer, &asked.location));
        let words: Vec<std::borrow::Cow<'_, str>> = asked
            .interests
            .iter()
            .map(|word| std::borrow::Cow::Borrowed(word.as_str()))
            .collect();
        let canonical = key::story_bytes(&borrowed(&asked, &words), resolved.place_id(self.gazetteer));
        let key = StoryKey::of_canonical(&canonical);
        match self.search(&key).await {
            Ok(Some((kept, source))) => return Ok(self.land(request, key, kept, source)),
            Ok(None) => {}
            Err(error) if self.tells_anyway(request, &error) => {}
            Err(error) => return Err(error),
        }
        // One of all workers and pods tells it, and the others wait for that one: for a while.
        let lock = match self.claim(&key, waited).await? {
            Claimed::Found(kept, source) => return Ok(self.land(request, key, kept, source)),
            Claimed::Tell(lock) => lock,
        };
        let told = self.tell_and_keep(key, &asked, &resolved).await;
        let (kept, source) = match told {
            Ok(told) => told,
            Err(error) => {
                self.give_up(lock);
                return Err(error);
            }
        };
        let created_ms = kept.created_ms;
        let story = self.remember(request, kept.id, kept.json);
        self.share(key, created_ms, &story, lock);
        Ok((story, source))
    }

    async fn tell_and_keep(
        &self,
        key: StoryKey,
        asked: &StoryRequest,
        resolved: &Resolved,
    ) -> Result<(Kept, Source), TellError> {
        self.share_of_core.take_turn().await;
        let telling = self.share_of_core.work(|| resolved.tell(self.gazetteer, asked));
        let record = self.record(key, asked, telling)?;
        let id = record.id;
        let begun = context::precise_now_ns();
        let kept = match within(self.store.put(record)).await {
            Ok(kept) => kept,
            Err(error) => {
                self.metrics.store_failed();
                return Err(error);
            }
        };
        self.metrics
            .store_committed(Duration::from_nanos(context::precise_now_ns().saturating_sub(begun)));
        // Another worker may have kept the same story first; then that one is the story.
        let source = if kept.id == id { Source::Told } else { Source::Store };
        if source == Source::Told {
            self.metrics.story_generated(asked.style as usize);
        }
        Ok((kept, source))
    }

    /// A story that was found: for the next who asks.
    fn land(&self, request: &[u8], key: StoryKey, kept: Kept, source: Source) -> (Rc<CachedStory>, Source) {
        let created_ms = kept.created_ms;
        let story = self.remember(request, kept.id, kept.json);
        if source == Source::Store {
            self.share(key, created_ms, &story, None);
        }
        (story, source)
    }

    fn remember(&self, request: &[u8], id: Uuid, json: Vec<u8>) -> Rc<CachedStory> {
        let story = Rc::new(CachedStory::new(id, json, self.expiry()));
        self.cache.borrow_mut().insert(request, Rc::clone(&story));
        story
    }

    /// When an entry made now is forgotten: the time to live with a tenth of jitter, so that what was told together is
    /// not forgotten together.
    pub(super) fn expiry(&self) -> u64 {
        let tenth = self.cache_ttl_ms / 10;
        let jitter = context::random(|rng| rng.u64(0..=tenth));
        now_ms()
            .saturating_add(self.cache_ttl_ms - tenth / 2)
            .saturating_add(jitter)
    }

    fn record(&self, key: StoryKey, asked: &StoryRequest, telling: Telling) -> Result<Record, TellError> {
        let created_ms = context::unix_ns() / 1_000_000;
        let id = uuid_v7(created_ms);
        let created = i64::try_from(created_ms)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let location_key = key::location_key(&telling.location.name);
        let story = Story {
            id: UuidText(id),
            title: telling.title,
            story: telling.story,
            location: telling.location,
            style: asked.style,
            length: asked.length,
            language: asked.language,
            generated_by: narrator::GENERATED_BY.to_owned(),
            duration_seconds: telling.duration_seconds,
            created_at: created.map(|at| format!("{at:.3}")).unwrap_or_default(),
        };
        let json = sonic_rs::to_vec(&story).map_err(|error| {
            tracing::error!(%error, "a story could not be written as JSON");
            TellError::Internal
        })?;
        Ok(Record {
            key,
            id,
            json,
            location_key,
            style: asked.style,
            created_ms,
        })
    }
}

fn borrowed<'a>(asked: &'a StoryRequest, interests: key::Interests<'a>) -> Asked<'a> {
    Asked {
        location: match &asked.location {
            LocationQuery::Name(name) => key::AskedLocation::Name(name),
            LocationQuery::Point { lat, lng, name } => key::AskedLocation::Point {
                lat: *lat,
                lng: *lng,
                name: name.as_deref(),
            },
        },
        style: asked.style,
        length: asked.length,
        language: asked.language,
        interests,
        variation: asked.variation,
    }
}

/// A call to the store, within its time.
pub(super) async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, TellError> {
    match timeout(Duration::from_millis(limits::story::STORE_MS_MAX), call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(TellError::Store(StoreError::Timeout)),
    }
}

/// Milliseconds of the worker's clock, for expiry.
pub(super) fn now_ms() -> u64 {
    context::now_ns() / 1_000_000
}

/// A UUIDv7 (RFC 9562 section 5.7) of that time, random otherwise.
fn uuid_v7(unix_ms: u64) -> Uuid {
    let random: u128 = context::random(|rng| rng.u128(..));
    let mut bytes = [0u8; 10];
    bytes.copy_from_slice(random.to_le_bytes().first_chunk::<10>().unwrap_or(&[0; 10]));
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &bytes).into_uuid()
}
