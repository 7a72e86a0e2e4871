//! The worker's cache while memory is short: smaller in steps, and larger again in others.

use super::service::StoryService;
use crate::limits::memory as limits;
use crate::runtime::executor::yield_now;

impl StoryService {
    /// Keeps `keep` thousandths of what the cache holds, and takes no more than that from now on. Others have their turn in
    /// between. Gives how many entries were pushed out.
    pub async fn shrink_cache(&self, keep: u32) -> u64 {
        let before = self.cache.borrow().figures();
        let target = before.bytes / u64::from(limits::WHOLE) * u64::from(keep);
        let target = target.max(limits::CACHE_BYTES_MIN);
        loop {
            let (was, is) = {
                let mut cache = self.cache.borrow_mut();
                let was = cache.figures().bytes;
                cache.shrink_to(was.saturating_sub(limits::CHUNK_BYTES).max(target));
                (was, cache.figures().bytes)
            };
            // What does not shrink now never will.
            if is <= target || is >= was {
                break;
            }
            yield_now().await;
        }
        self.cache.borrow().figures().evictions.saturating_sub(before.evictions)
    }

    /// The cache may hold less than it was given.
    pub fn cache_is_small(&self) -> bool {
        self.cache.borrow().figures().capacity_bytes < self.cache_bytes
    }

    /// Lets the cache hold an eighth more, up to what it was given.
    pub fn grow_cache(&self) {
        let mut cache = self.cache.borrow_mut();
        let now = cache.figures().capacity_bytes;
        let more = (now / 8).max(limits::CACHE_BYTES_MIN);
        cache.grow_to(now.saturating_add(more).min(self.cache_bytes));
    }

    /// See [`shrink_cache`](Self::shrink_cache): meanwhile stories that are answered already are not looked up anew.
    pub fn set_frugal(&self, frugal: bool) {
        self.frugal.set(frugal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::run;
    use crate::cache::local::CachedStory;
    use crate::routes::LABELS;
    use crate::store::Store;
    use crate::store::embedded::{Config, Embedded};
    use crate::telemetry::metrics::Registry;
    use std::rc::Rc;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn the_cache_gives_up_a_share_of_what_it_holds_and_grows_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Config::new(dir.path())).unwrap();
        let client = Store::from(store.client());
        run(async move {
            let size = 64 << 20;
            let metrics = Rc::new(Registry::new(LABELS).worker(0));
            let service = StoryService::new(client, size, Duration::from_secs(3600), metrics);
            let fill = |stories: u128| {
                for n in 0..stories {
                    let story = Rc::new(CachedStory::new(Uuid::from_u128(n), vec![b'x'; 8000], u64::MAX));
                    service.cache().borrow_mut().insert(&n.to_be_bytes(), story);
                }
            };
            let figures = || service.cache().borrow().figures();
            fill(1000);
            let full = figures();
            assert!(full.bytes > 8_000_000 && full.evictions == 0 && !service.cache_is_small());
            // Of what it holds, not of what it might.
            let pushed_out = service.shrink_cache(750).await;
            let less = figures();
            assert!(
                less.bytes <= full.bytes / 4 * 3 && less.bytes > full.bytes / 2,
                "{less:?}"
            );
            assert_eq!(pushed_out, full.entries - less.entries);
            // It does not grow by itself, and stories that come push out others.
            fill(2000);
            assert!(figures().bytes <= full.bytes / 4 * 3 && service.cache_is_small());
            for _ in 0..20 {
                service.shrink_cache(250).await;
            }
            let least = figures();
            assert!(
                least.bytes <= limits::CACHE_BYTES_MIN && least.bytes > limits::CACHE_BYTES_MIN / 2,
                "{least:?}"
            );
            let mut steps = 0;
            while service.cache_is_small() {
                service.grow_cache();
                steps += 1;
            }
            assert!(
                (10..60).contains(&steps) && figures().capacity_bytes == size,
                "{steps} steps"
            );
            fill(1000);
            assert_eq!(figures().bytes, full.bytes);
            store.close(Duration::from_secs(20)).unwrap();
        });
    }

    /// One that is smaller than the least size stays so.
    #[test]
    fn a_cache_that_is_off_stays_off() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Config::new(dir.path())).unwrap();
        let client = Store::from(store.client());
        run(async move {
            let metrics = Rc::new(Registry::new(LABELS).worker(0));
            let service = StoryService::new(client, 0, Duration::from_secs(3600), metrics);
            assert_eq!(service.shrink_cache(500).await, 0);
            assert!(!service.cache_is_small());
            service.grow_cache();
            assert_eq!(service.cache().borrow().figures().capacity_bytes, 0);
            store.close(Duration::from_secs(20)).unwrap();
        });
    }
}
