//! The cache of one worker: canonical request -> story, and story id -> story.
//!
//! Keys are the canonical requests themselves, compared byte by byte and hashed with SipHash under a random seed (the
//! default of the standard library), so that no client can build requests that collide. Eviction is quick_cache's
//! S3-FIFO relative, which forgets what was asked for once before what is asked for often. A lookup allocates nothing.

pub use super::story::CachedStory;

use crate::http::negotiate::Coding;
use crate::limits::cache as limits;
use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Lifecycle, Weighter};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher, RandomState};
use std::rc::Rc;
use uuid::Uuid;

/// What an entry is found by.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// A canonical request.
    Request(Rc<[u8]>),
    /// A story that was asked for by id and whose request this worker has not seen.
    Id(Uuid),
}

struct ByRequest<'a>(&'a [u8]);
struct ById(Uuid);

fn hash_request<H: Hasher>(request: &[u8], state: &mut H) {
    state.write_u8(0);
    request.hash(state);
}

fn hash_id<H: Hasher>(id: Uuid, state: &mut H) {
    state.write_u8(1);
    state.write_u128(id.as_u128());
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Key::Request(request) => hash_request(request, state),
            Key::Id(id) => hash_id(*id, state),
        }
    }
}

impl Hash for ByRequest<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_request(self.0, state);
    }
}

impl Equivalent<Key> for ByRequest<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        matches!(key, Key::Request(request) if **request == *self.0)
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_id(self.0, state);
    }
}

impl Equivalent<Key> for ById {
    fn equivalent(&self, key: &Key) -> bool {
        matches!(key, Key::Id(id) if *id == self.0)
    }
}

fn weight(key_bytes: usize, story: &CachedStory) -> u64 {
    let bytes = key_bytes.saturating_add(story.weight());
    u64::try_from(bytes)
        .unwrap_or(u64::MAX)
        .saturating_add(limits::ENTRY_OVERHEAD_BYTES)
}

struct Bytes;

impl Weighter<Key, Rc<CachedStory>> for Bytes {
    fn weight(&self, key: &Key, story: &Rc<CachedStory>) -> u64 {
        match key {
            Key::Request(request) => weight(request.len(), story),
            Key::Id(_) => weight(0, story),
        }
    }
}

/// Which request a story's id leads to; kept in step with the entries by [`Evicted`].
#[derive(Debug, Default)]
struct Index {
    request_by_id: RefCell<HashMap<Uuid, Rc<[u8]>, RandomState>>,
    evictions: Cell<u64>,
}

impl Index {
    fn forget(&self, key: &Key, story: &CachedStory) {
        let Key::Request(request) = key else {
            return;
        };
        let mut request_by_id = self.request_by_id.borrow_mut();
        // Another request may have been told the same story since.
        if request_by_id
            .get(&story.id())
            .is_some_and(|known| Rc::ptr_eq(known, request))
        {
            request_by_id.remove(&story.id());
        }
    }
}

struct Evicted(Rc<Index>);

impl Lifecycle<Key, Rc<CachedStory>> for Evicted {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), key: Key, story: Rc<CachedStory>) {
        self.0.forget(&key, &story);
        self.0.evictions.set(self.0.evictions.get().saturating_add(1));
    }
}

/// Figures of the cache, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Lookups answered.
    pub hits: u64,
    /// Lookups not answered, expired entries included.
    pub misses: u64,
    /// Entries pushed out to make room.
    pub evictions: u64,
    /// Entries refused because they are too large.
    pub refused: u64,
    /// Entries now.
    pub entries: u64,
    /// Bytes now, overhead included.
    pub bytes: u64,
    /// Bytes at most.
    pub capacity_bytes: u64,
}

/// One worker's cache. Memory is taken as entries come, none ahead.
pub struct LocalCache {
    entries: Cache<Key, Rc<CachedStory>, Bytes, RandomState, Evicted>,
    index: Rc<Index>,
    capacity_bytes: u64,
    /// For how long past its time an entry is kept, milliseconds.
    stale_ms: u64,
    hits: u64,
    misses: u64,
    refused: u64,
}

impl fmt::Debug for LocalCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCache")
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

impl LocalCache {
    /// An empty cache of at most that many bytes (`limits::server::CACHE_BYTES` where nothing else is wished).
    /// Zero keeps nothing.
    pub fn new(capacity_bytes: u64) -> Self {
        let index = Rc::new(Index::default());
        LocalCache {
            entries: empty(capacity_bytes, &index),
            index,
            capacity_bytes,
            stale_ms: 0,
            hits: 0,
            misses: 0,
            refused: 0,
        }
    }

    /// Keeps entries for so long past their time, for [`stale`](Self::stale); they still give way to others first come
    /// first served.
    pub fn keep_stale(mut self, stale_ms: u64) -> Self {
        self.stale_ms = stale_ms;
        self
    }

    /// The story of a canonical request that expired, but not longer than `within_ms` ago. Counted nowhere.
    pub fn stale(&self, request: &[u8], now_ms: u64, within_ms: u64) -> Option<Rc<CachedStory>> {
        let found = self.entries.get(&ByRequest(request))?;
        (found.expires_ms().saturating_add(within_ms) > now_ms).then(|| Rc::clone(found))
    }

    /// The same for an id.
    pub fn stale_by_id(&self, id: Uuid, now_ms: u64, within_ms: u64) -> Option<Rc<CachedStory>> {
        let request = self.index.request_by_id.borrow().get(&id).cloned();
        let by_request = request.and_then(|request| self.stale(&request, now_ms, within_ms));
        by_request.or_else(|| {
            let found = self.entries.get(&ById(id))?;
            (found.expires_ms().saturating_add(within_ms) > now_ms).then(|| Rc::clone(found))
        })
    }

    /// The story of a canonical request, unless unknown or expired at `now_ms`.
    pub fn get(&mut self, request: &[u8], now_ms: u64) -> Option<Rc<CachedStory>> {
        let found = self.lookup(request, now_ms);
        self.count(found.is_some());
        found
    }

    /// The story of an id, unless unknown or expired at `now_ms`.
    pub fn get_by_id(&mut self, id: Uuid, now_ms: u64) -> Option<Rc<CachedStory>> {
        let request = self.index.request_by_id.borrow().get(&id).cloned();
        let mut found = request.and_then(|request| self.lookup(&request, now_ms));
        if found.is_none() {
            found = self.entries.get(&ById(id)).cloned();
            if let Some(expires_ms) = found.as_ref().map(|story| story.expires_ms())
                && expires_ms <= now_ms
            {
                found = None;
                if expires_ms.saturating_add(self.stale_ms) <= now_ms {
                    self.entries.remove(&ById(id));
                }
            }
        }
        self.count(found.is_some());
        found
    }

    /// Remembers the answer to a canonical request; false where it is too large to be worth its place.
    pub fn insert(&mut self, request: &[u8], story: Rc<CachedStory>) -> bool {
        if !self.has_room_for(weight(request.len(), &story)) {
            return false;
        }
        self.remove(request);
        // Found by its request from now on, so the entry by id would only take room twice.
        self.entries.remove(&ById(story.id()));
        let request: Rc<[u8]> = request.into();
        self.index
            .request_by_id
            .borrow_mut()
            .insert(story.id(), Rc::clone(&request));
        self.entries.insert(Key::Request(request), story);
        true
    }

    /// Remembers a story whose request is not known; false where it is too large to be worth its place.
    pub fn insert_by_id(&mut self, story: Rc<CachedStory>) -> bool {
        if !self.has_room_for(weight(0, &story)) {
            return false;
        }
        let request = self.index.request_by_id.borrow().get(&story.id()).cloned();
        match request {
            // Under its request it stays; looked up anew, it is fresh again there.
            Some(request) => {
                let is_older = |known: &Rc<CachedStory>| known.expires_ms() < story.expires_ms();
                if self.entries.peek(&ByRequest(&request)).is_some_and(is_older) {
                    return self.insert(&request, story);
                }
            }
            None => {
                self.entries.remove(&ById(story.id()));
                self.entries.insert(Key::Id(story.id()), story);
            }
        }
        true
    }

    /// Keeps a story's bytes in one more coding, beside the others and counted with them. `request` is what the story was
    /// found by, `None` where by its id. Gives the story with that coding, kept or not: not where the entry is gone, or
    /// would become too large.
    pub fn keep_form(
        &mut self,
        request: Option<&[u8]>,
        story: &Rc<CachedStory>,
        coding: Coding,
        body: Vec<u8>,
    ) -> Rc<CachedStory> {
        let key: Option<Rc<[u8]>> = match request {
            Some(request) => Some(request.into()),
            None => self.index.request_by_id.borrow().get(&story.id()).cloned(),
        };
        // What is held now may have got another coding meanwhile, or be another story.
        let held = match &key {
            Some(request) => self.entries.peek(&ByRequest(request)),
            None => self.entries.peek(&ById(story.id())),
        };
        let Some(held) = held.filter(|held| held.is_same(story)) else {
            return Rc::new(story.with(coding, body));
        };
        let more = Rc::new(held.with(coding, body));
        let key_bytes = key.as_ref().map_or(0, |request| request.len());
        if self.has_room_for(weight(key_bytes, &more)) {
            // The guard weighs the entry anew when it goes.
            let entry = match &key {
                Some(request) => self.entries.get_mut(&ByRequest(request)),
                None => self.entries.get_mut(&ById(story.id())),
            };
            if let Some(mut entry) = entry {
                *entry = Rc::clone(&more);
            }
            if self.entries.weight() > self.capacity_bytes {
                // The guard evicts nothing; this does.
                self.entries.set_capacity(self.capacity_bytes);
            }
        }
        more
    }

    /// Forgets the answer to a request.
    pub fn remove(&mut self, request: &[u8]) {
        if let Some((key, story)) = self.entries.remove(&ByRequest(request)) {
            self.index.forget(&key, &story);
        }
    }

    /// Under memory pressure: from now on at most that many bytes. Evicts down to it at once.
    pub fn shrink_to(&mut self, capacity_bytes: u64) {
        self.capacity_bytes = self.capacity_bytes.min(capacity_bytes);
        if self.capacity_bytes < smallest_useful() {
            // Nothing would fit; give back the tables too.
            self.clear();
        } else {
            self.entries.set_capacity(self.capacity_bytes);
        }
    }

    /// When the pressure is over: at most that many bytes again.
    pub fn grow_to(&mut self, capacity_bytes: u64) {
        if capacity_bytes > self.capacity_bytes {
            self.capacity_bytes = capacity_bytes;
            if self.entries.is_empty() {
                self.clear();
            } else {
                self.entries.set_capacity(capacity_bytes);
            }
        }
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self.index.request_by_id.borrow_mut() = HashMap::default();
        self.entries = empty(self.capacity_bytes, &self.index);
    }

    /// Figures since the start.
    pub fn figures(&self) -> CacheFigures {
        CacheFigures {
            hits: self.hits,
            misses: self.misses,
            evictions: self.index.evictions.get(),
            refused: self.refused,
            entries: u64::try_from(self.entries.len()).unwrap_or(u64::MAX),
            bytes: self.entries.weight(),
            capacity_bytes: self.capacity_bytes,
        }
    }

    fn lookup(&mut self, request: &[u8], now_ms: u64) -> Option<Rc<CachedStory>> {
        let found = self.entries.get(&ByRequest(request))?;
        if found.expires_ms() > now_ms {
            return Some(Rc::clone(found));
        }
        if found.expires_ms().saturating_add(self.stale_ms) <= now_ms {
            self.remove(request);
        }
        None
    }

    fn count(&mut self, is_hit: bool) {
        let figure = if is_hit { &mut self.hits } else { &mut self.misses };
        *figure = figure.saturating_add(1);
    }

    fn has_room_for(&mut self, weight: u64) -> bool {
        let fits = weight <= self.capacity_bytes / limits::ENTRY_FRACTION;
        if !fits {
            self.refused = self.refused.saturating_add(1);
        }
        fits
    }
}

/// Below this no entry at all passes [`LocalCache::has_room_for`].
fn smallest_useful() -> u64 {
    limits::ENTRY_OVERHEAD_BYTES.saturating_mul(limits::ENTRY_FRACTION)
}

fn empty(capacity_bytes: u64, index: &Rc<Index>) -> Cache<Key, Rc<CachedStory>, Bytes, RandomState, Evicted> {
    let capacity_bytes = capacity_bytes.max(1);
    let typical = usize::try_from(capacity_bytes / limits::ENTRY_BYTES_TYPICAL)
        .unwrap_or(usize::MAX)
        .max(1);
    Cache::with(
        typical,
        capacity_bytes,
        Bytes,
        RandomState::new(),
        Evicted(Rc::clone(index)),
    )
}

#[cfg(test)]
mod tests;
