//! Where a story may lie when the worker's own cache does not have it fresh: Redis, the store, and that cache past its
//! time.
//!
//! With a store that all pods share, Redis is asked first: what lies there lies in the store. With the embedded store,
//! which is this process's own, the store is asked first, and a story found in Redis is another process's: it is put
//! into the own store before it is answered, so that whatever this process answers it can also give by id (invariant 7).
//!
//! Where the store is PostgreSQL with a journal (`store::journal`), a story is told though the database cannot be asked,
//! and kept on this pod's disk; Redis lets the other pods know it meanwhile.
//!
//! Stories never change. So to look a stale one up anew is to see that it is still there; to serve it late is never to
//! serve something untrue.

use super::flight::end_of;
use super::service::{Outcome, Source, StoryService, TellError, now_ms, within};
use super::types::{Story, StoryRequest};
use crate::cache::local::CachedStory;
use crate::cache::redis::{Claim, Entry, Lock, Looked};
use crate::limits::redis as limits;
use crate::resilience::overload::Urgency;
use crate::runtime::context;
use crate::runtime::executor::spawn_detached;
use crate::runtime::time::sleep;
use crate::store::{Kept, Record, StoryKey};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

/// What came of the wish to tell a story alone.
pub(super) enum Claimed {
    /// It was told meanwhile.
    Found(Kept, Source),
    /// Tell it; with the lock, where there is one.
    Tell(Option<Lock>),
}

impl StoryService {
    /// The story of a key, in Redis or the store.
    pub(super) async fn search(&self, key: &StoryKey) -> Result<Option<(Kept, Source)>, TellError> {
        let shared = self.store.is_shared();
        if shared && let Some(entry) = self.find_in_redis(key).await {
            return Ok(Some((kept(entry), Source::Redis)));
        }
        if let Some(kept) = within(self.store.find(key)).await? {
            return Ok(Some((kept, Source::Store)));
        }
        if !shared && let Some(entry) = self.find_in_redis(key).await {
            return self.adopt(entry).await;
        }
        Ok(None)
    }

    async fn find_in_redis(&self, key: &StoryKey) -> Option<Entry> {
        match self.redis.as_ref()?.find(key).await {
            Looked::Found(entry) => Some(entry),
            Looked::Missing | Looked::Away => None,
        }
    }

    /// Another process's story becomes this one's, too. None where it is no story after all.
    async fn adopt(&self, entry: Entry) -> Result<Option<(Kept, Source)>, TellError> {
        let story = match sonic_rs::from_slice::<Story>(&entry.json) {
            Ok(story) if story.id.0 == entry.id => story,
            _ => return Ok(None),
        };
        let id = entry.id;
        let record = Record {
            key: entry.key,
            id,
            json: entry.json,
            location_key: super::key::location_key(&story.location.name),
            style: story.style,
            created_ms: entry.created_ms,
        };
        let kept = within(self.store.put(record)).await?;
        // Where this process had told it itself meanwhile, that is its story.
        let source = if kept.id == id { Source::Redis } else { Source::Store };
        Ok(Some((kept, source)))
    }

    /// Waits until this flight may tell the story of `key`, or finds it told; not for ever. `waited` is set where somebody
    /// else is telling it.
    pub(super) async fn claim(&self, key: &StoryKey, waited: &Cell<bool>) -> Result<Claimed, TellError> {
        let Some(redis) = &self.redis else {
            return Ok(Claimed::Tell(None));
        };
        let end_ms = now_ms().saturating_add(limits::LOCK_WAIT_MS);
        let mut pause_ms = limits::LOCK_PAUSE_MS;
        loop {
            let entry = match redis.claim(key).await {
                Claim::Mine(lock) => return Ok(Claimed::Tell(Some(lock))),
                Claim::Away if waited.get() => return self.told_meanwhile(key).await,
                Claim::Away => return Ok(Claimed::Tell(None)),
                Claim::Found(entry) => Some(entry),
                Claim::Theirs => None,
            };
            if let Some(entry) = entry {
                let found = if self.store.is_shared() {
                    Some((kept(entry), Source::Redis))
                } else {
                    self.adopt(entry).await?
                };
                return Ok(match found {
                    Some((kept, source)) => Claimed::Found(kept, source),
                    None => Claimed::Tell(None),
                });
            }
            if !waited.replace(true) {
                self.metrics.lock_waited();
            }
            if now_ms() >= end_ms {
                self.metrics.lock_timed_out();
                return self.told_meanwhile(key).await;
            }
            // Spread, so that those who wait do not all ask at once.
            let pause = context::random(|rng| rng.u64(pause_ms / 2..=pause_ms));
            sleep(Duration::from_millis(pause.max(1))).await;
            pause_ms = pause_ms.saturating_mul(2).min(limits::LOCK_PAUSE_MS_MAX);
        }
    }

    /// Redis never had the story that was waited for; the store may.
    async fn told_meanwhile(&self, key: &StoryKey) -> Result<Claimed, TellError> {
        match within(self.store.find(key)).await {
            Ok(Some(kept)) => Ok(Claimed::Found(kept, Source::Store)),
            Ok(None) => Ok(Claimed::Tell(None)),
            Err(error) if self.is_taken_over(&error) => Ok(Claimed::Tell(None)),
            Err(error) => Err(error),
        }
    }

    /// Whether a story may be told though the database could not be asked for it: the journal keeps it. One past its
    /// time in this worker's cache is better than another one for the same request.
    pub(super) fn tells_anyway(&self, request: &[u8], error: &TellError) -> bool {
        let has_stale = || {
            self.cache
                .borrow()
                .stale(request, now_ms(), self.stale_if_error_ms)
                .is_some()
        };
        self.is_taken_over(error) && !has_stale()
    }

    fn is_taken_over(&self, error: &TellError) -> bool {
        let is_outage = matches!(error, TellError::Store(error) if error.is_retryable());
        is_outage && self.store.journal().is_some_and(|journal| journal.takes_over())
    }

    /// Lets the other pods know a story that the store has; in the background.
    pub(super) fn share(&self, key: StoryKey, created_ms: u64, story: &Rc<CachedStory>, lock: Option<Lock>) {
        if let Some(redis) = &self.redis {
            redis.remember(key, created_ms, Rc::clone(story), lock);
        }
    }

    /// Lets another tell the story.
    pub(super) fn give_up(&self, lock: Option<Lock>) {
        if let (Some(redis), Some(lock)) = (&self.redis, lock) {
            redis.release(lock);
        }
    }

    /// A story past its time that may still be answered at once, and for how many seconds it is past. Every so often
    /// it is looked up anew meanwhile: `asked` is called then.
    pub fn stale(
        self: &Rc<Self>,
        request: &[u8],
        asked: impl FnOnce() -> StoryRequest,
    ) -> Option<(Rc<CachedStory>, u64)> {
        let now = now_ms();
        let story = self
            .cache
            .borrow()
            .stale(request, now, self.stale_while_revalidate_ms)?;
        self.metrics.stale_revalidated();
        if !self.frugal.get() && story.is_first_to_refresh(now, limits::REFRESH_PAUSE_MS) {
            // Nobody waits for it, and where there is no room for it the next time will do.
            let _ = self.board(request, asked(), None);
        }
        let late_ms = now.saturating_sub(story.expires_ms());
        // At the very moment of its end it counts as late too: a time to live of zero would say that it is fresh.
        Some((story, late_ms.div_ceil(1000).max(1)))
    }

    /// The same where the answer is an error otherwise.
    pub(super) fn stale_on_error(&self, request: &[u8], error: TellError) -> Outcome {
        let story = self.cache.borrow().stale(request, now_ms(), self.stale_if_error_ms);
        match story {
            Some(story) => {
                self.metrics.stale_on_error();
                Ok((story, Source::Stale))
            }
            None => Err(error),
        }
    }

    /// The story of an id, if this worker has it at hand.
    pub fn cached_by_id(self: &Rc<Self>, id: Uuid) -> Option<Rc<CachedStory>> {
        let now = now_ms();
        if let Some(story) = self.cache.borrow_mut().get_by_id(id, now) {
            return Some(story);
        }
        let story = self
            .cache
            .borrow()
            .stale_by_id(id, now, self.stale_while_revalidate_ms)?;
        self.metrics.stale_revalidated();
        if !self.frugal.get() && story.is_first_to_refresh(now, limits::REFRESH_PAUSE_MS) {
            let service = Rc::clone(self);
            spawn_detached("refresh", async move {
                let _ = service.look_up(id, Urgency::Background).await;
            });
        }
        Some(story)
    }

    /// The story of an id.
    ///
    /// # Errors
    /// Where neither Redis nor the store can be asked, and nothing stale is at hand.
    pub async fn by_id(&self, id: Uuid) -> Result<Option<Rc<CachedStory>>, TellError> {
        self.look_up(id, Urgency::Request).await
    }

    async fn look_up(&self, id: Uuid, urgency: Urgency) -> Result<Option<Rc<CachedStory>>, TellError> {
        if id.get_version_num() != 7 {
            // No store keeps such a one (`Record`).
            return Ok(None);
        }
        match self.look_for_id(id, urgency).await {
            Ok(None) => Ok(None),
            Ok(Some(kept)) => {
                let story = Rc::new(CachedStory::new(kept.id, kept.json, self.expiry()));
                self.cache.borrow_mut().insert_by_id(Rc::clone(&story));
                Ok(Some(story))
            }
            Err(error) => {
                let stale = self.cache.borrow().stale_by_id(id, now_ms(), self.stale_if_error_ms);
                match stale {
                    Some(story) => {
                        self.metrics.stale_on_error();
                        Ok(Some(story))
                    }
                    None => Err(error),
                }
            }
        }
    }

    async fn look_for_id(&self, id: Uuid, urgency: Urgency) -> Result<Option<Kept>, TellError> {
        if self.store.is_shared() && self.absent.borrow_mut().contains(id, now_ms()) {
            self.metrics.absent_hit();
            return Ok(None);
        }
        let pass = self.enter(urgency).await?;
        let found = self.ask_for_id(id).await;
        pass.end(end_of(&found));
        found
    }

    async fn ask_for_id(&self, id: Uuid) -> Result<Option<Kept>, TellError> {
        if !self.store.is_shared() {
            // A read of the own disk is as cheap as remembering what is not there.
            if let Some(kept) = within(self.store.get(id)).await? {
                return Ok(Some(kept));
            }
            return match self.find_id_in_redis(id).await {
                // What this process holds under that key is another story where it told one itself: then the id is
                // another pod's, and answering it from Redis alone would be a promise that only Redis keeps.
                Some(entry) => Ok(self
                    .adopt(entry)
                    .await?
                    .map(|(kept, _)| kept)
                    .filter(|kept| kept.id == id)),
                None => Ok(None),
            };
        }
        if let Some(entry) = self.find_id_in_redis(id).await {
            return Ok(Some(kept(entry)));
        }
        let found = within(self.store.get(id)).await?;
        // With journals a story may get into the database long after its id was made, from any pod's disk: then nothing
        // is remembered as absent.
        if found.is_none() && self.store.journal().is_none() {
            let unix_ms = context::unix_ns() / 1_000_000;
            self.absent.borrow_mut().note(id, now_ms(), unix_ms);
        }
        Ok(found)
    }

    async fn find_id_in_redis(&self, id: Uuid) -> Option<Entry> {
        match self.redis.as_ref()?.find_id(id).await {
            Looked::Found(entry) => Some(entry),
            Looked::Missing | Looked::Away => None,
        }
    }
}

fn kept(entry: Entry) -> Kept {
    Kept {
        id: entry.id,
        created_ms: entry.created_ms,
        json: entry.json,
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::Caching;
    use super::*;
    use crate::backend::tests::run;
    use crate::routes::LABELS;
    use crate::runtime::executor::spawn;
    use crate::runtime::time::timeout;
    use crate::store::embedded::{Config, Embedded};
    use crate::store::{Store, StoreError};
    use crate::story::types::{Language, Length, LocationQuery, Style};
    use crate::telemetry::metrics::Registry;
    use crate::telemetry::trace::Trace;

    fn nobody() -> Rc<Trace> {
        Rc::new(Trace::from_parts("test", None, None, || 1))
    }

    fn asked() -> StoryRequest {
        StoryRequest {
            location: LocationQuery::Name("Rome".into()),
            style: Style::Mystery,
            length: Length::Short,
            language: Language::default(),
            interests: Vec::new(),
            variation: 0,
        }
    }

    #[test]
    fn a_story_that_all_have_left_while_they_waited_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Config::new(dir.path())).unwrap();
        let client = Store::from(store.client());
        run(async move {
            let metrics = Rc::new(Registry::new(LABELS).worker(0));
            let caching = Caching {
                bytes: 1 << 20,
                ttl: Duration::from_secs(3600),
                ..Caching::default()
            };
            let overload = crate::resilience::overload::Settings {
                target: Duration::from_secs(60),
                in_flight_max: 4,
                ..Default::default()
            };
            let service = StoryService::guarded(client, None, caching, overload, metrics);
            let mut others = Vec::new();
            for _ in 0..4 {
                others.push(service.enter(Urgency::Request).await.ok().unwrap());
            }
            let moment = Duration::from_millis(20);
            let patience = timeout(moment, service.tell(b"rome", asked(), &nobody())).await;
            assert!(patience.is_err());
            // The flight hears of it at its next poll.
            sleep(moment).await;
            assert_eq!(service.admission().figures().queued, 0);
            let stays = Rc::clone(&service);
            let stays = spawn("stays", async move { stays.tell(b"rome", asked(), &nobody()).await });
            sleep(moment).await;
            assert_eq!(service.admission().figures().queued, 1);
            others.clear();
            let (_, source) = stays.await.unwrap().unwrap();
            assert_eq!(source, Source::Told, "and not before");
        });
    }

    /// Tells a story with these times, waits until it is past its own, closes the store, and asks again: by request and
    /// by id.
    fn after_the_store_closed(
        caching: Caching,
        check: impl FnOnce(Outcome, Result<Option<Uuid>, TellError>) + 'static,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Config::new(dir.path())).unwrap();
        let client = Store::from(store.client());
        run(async move {
            let metrics = Rc::new(Registry::new(LABELS).worker(0));
            let service = StoryService::with(client, None, caching, metrics);
            let (told, source) = service.tell(b"rome", asked(), &nobody()).await.unwrap();
            assert_eq!(source, Source::Told);
            store.close(Duration::from_secs(20)).unwrap();
            let expired = async {
                while service.cached(b"rome").is_some() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_secs(20), expired).await.unwrap();
            let by_id = service
                .by_id(told.id())
                .await
                .map(|found| found.map(|story| story.id()));
            check(service.tell(b"rome", asked(), &nobody()).await, by_id);
            assert!(matches!(
                service.tell(b"other", asked(), &nobody()).await,
                Err(TellError::Store(StoreError::Closed))
            ));
        });
    }

    #[test]
    fn a_stale_story_is_better_than_an_error_for_as_long_as_is_set() {
        let caching = Caching {
            bytes: 1 << 20,
            ttl: Duration::from_millis(20),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::from_secs(3600),
        };
        after_the_store_closed(caching, |told, by_id| {
            assert_eq!(told.unwrap().1, Source::Stale);
            assert!(by_id.unwrap().is_some());
        });
        let caching = Caching {
            stale_if_error: Duration::ZERO,
            ..caching
        };
        after_the_store_closed(caching, |told, by_id| {
            assert_eq!(told.unwrap_err(), TellError::Store(StoreError::Closed));
            assert_eq!(by_id.unwrap_err(), TellError::Store(StoreError::Closed));
        });
    }

    #[test]
    fn a_stale_story_is_served_at_once_and_looked_up_by_one_flight() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Config::new(dir.path())).unwrap();
        let client = Store::from(store.client());
        run(async move {
            let registry = Registry::new(LABELS);
            let caching = Caching {
                bytes: 1 << 20,
                ttl: Duration::from_millis(20),
                stale_while_revalidate: Duration::from_secs(3600),
                stale_if_error: Duration::ZERO,
            };
            let service = StoryService::with(client, None, caching, Rc::new(registry.worker(0)));
            let (told, _) = service.tell(b"rome", asked(), &nobody()).await.unwrap();
            let expired = async {
                while service.cached(b"rome").is_some() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_secs(20), expired).await.unwrap();
            // With memory short it is served, and not looked up.
            service.set_frugal(true);
            assert!(service.stale(b"rome", || unreachable!("looked up")).is_some());
            service.set_frugal(false);
            let mut looked_up = 0;
            for _ in 0..10 {
                let (story, late_s) = service
                    .stale(b"rome", || {
                        looked_up += 1;
                        asked()
                    })
                    .unwrap();
                assert!(story.id() == told.id() && late_s >= 1);
            }
            assert_eq!(looked_up, 1);
            assert!(service.stale(b"paris", asked).is_none());
            // The flight replaces it by one that is fresh again.
            let fresh = async {
                while service
                    .cache
                    .borrow()
                    .stale(b"rome", 0, 0)
                    .is_none_or(|story| Rc::ptr_eq(&story, &told))
                {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(Duration::from_secs(20), fresh).await.unwrap();
            store.close(Duration::from_secs(20)).unwrap();
        });
    }
}
