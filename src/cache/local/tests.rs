use super::*;
use crate::limits::server::CACHE_BYTES;
use proptest::prelude::*;

fn story(id: u128, body_bytes: usize, expires_ms: u64) -> Rc<CachedStory> {
    Rc::new(CachedStory::new(
        Uuid::from_u128(id),
        vec![b'x'; body_bytes],
        expires_ms,
    ))
}

#[test]
fn a_story_is_found_by_request_and_by_id_until_it_expires() {
    let mut cache = LocalCache::new(1 << 20);
    assert!(cache.get(b"sf", 0).is_none());
    assert!(cache.insert(b"sf", story(1, 100, 50)));
    assert_eq!(cache.get(b"sf", 49).unwrap().id(), Uuid::from_u128(1));
    assert_eq!(cache.get_by_id(Uuid::from_u128(1), 49).unwrap().body().len(), 100);
    assert!(cache.get(b"sg", 49).is_none(), "another key");
    assert!(cache.get_by_id(Uuid::from_u128(1), 50).is_none(), "expired at its time");
    let figures = cache.figures();
    assert_eq!(
        (figures.hits, figures.misses, figures.entries, figures.bytes),
        (2, 3, 0, 0)
    );
}

#[test]
fn a_stale_story_is_kept_for_those_who_ask_for_it() {
    let mut cache = LocalCache::new(1 << 20).keep_stale(100);
    cache.insert(b"sf", story(1, 100, 50));
    cache.insert_by_id(story(2, 100, 50));
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for now_ms in [50, 149] {
        assert!(cache.get(b"sf", now_ms).is_none() && cache.get_by_id(one, now_ms).is_none());
        assert!(cache.get_by_id(two, now_ms).is_none());
        assert_eq!(cache.stale(b"sf", now_ms, 100).unwrap().id(), one);
        assert_eq!(cache.stale_by_id(one, now_ms, 100).unwrap().id(), one);
        assert_eq!(cache.stale_by_id(two, now_ms, 100).unwrap().id(), two);
    }
    assert!(cache.stale(b"sf", 80, 30).is_none() && cache.stale_by_id(two, 80, 30).is_none());
    let found = cache.stale(b"sf", 60, 30).unwrap();
    assert!(
        found.is_first_to_refresh(60, 10) && !found.is_first_to_refresh(69, 10) && found.is_first_to_refresh(70, 10)
    );
    // One more coding makes it neither fresh nor due again, and is kept with it.
    let coded = cache.keep_form(Some(b"sf"), &found, Coding::Gzip, vec![1; 10]);
    assert!(!coded.is_first_to_refresh(71, 10) && coded.expires_ms() == 50);
    assert!(cache.stale(b"sf", 71, 30).unwrap().form(Some(Coding::Gzip)).is_some());
    assert!(cache.get(b"sf", 150).is_none() && cache.get_by_id(two, 150).is_none());
    assert_eq!(cache.figures().entries, 0, "past that they go");
}

#[test]
fn a_story_known_by_id_alone_moves_to_its_request() {
    let mut cache = LocalCache::new(1 << 20);
    assert!(cache.insert_by_id(story(7, 10, 100)));
    assert!(cache.get_by_id(Uuid::from_u128(7), 1).is_some());
    assert!(cache.insert(b"seven", story(7, 10, 100)));
    assert_eq!(cache.figures().entries, 1);
    assert!(cache.get_by_id(Uuid::from_u128(7), 1).is_some());
    assert!(cache.insert_by_id(story(7, 10, 100)), "known already");
    assert_eq!(cache.figures().entries, 1);
    cache.remove(b"seven");
    assert!(cache.get_by_id(Uuid::from_u128(7), 1).is_none());
}

#[test]
fn two_requests_may_share_a_story() {
    let mut cache = LocalCache::new(1 << 20);
    let shared = story(1, 10, 100);
    cache.insert(b"a", Rc::clone(&shared));
    cache.insert(b"b", shared);
    cache.remove(b"a");
    assert!(cache.get_by_id(Uuid::from_u128(1), 1).is_some(), "b still leads to it");
    cache.remove(b"b");
    assert!(cache.get_by_id(Uuid::from_u128(1), 1).is_none());
}

#[test]
fn the_etag_is_the_bodys() {
    let one = CachedStory::new(Uuid::nil(), *b"abc", 0);
    assert_eq!(one.etag(None), b"\"ba7816bf8f01cfea414140de5dae2223\"");
    assert_eq!(one.etag(Some(Coding::Br)), b"\"ba7816bf8f01cfea414140de5dae2223-br\"");
    assert_ne!(one.etag(None), CachedStory::new(Uuid::nil(), *b"abd", 0).etag(None));
}

#[test]
fn the_date_is_that_of_the_id() {
    let told = uuid::Builder::from_unix_timestamp_millis(784_111_777_999, &[7; 10]).into_uuid();
    assert_eq!(
        CachedStory::new(told, *b"a", 0).validators().modified_s,
        Some(784_111_777)
    );
    assert_eq!(CachedStory::new(Uuid::nil(), *b"a", 0).validators().modified_s, None);
}

#[test]
fn codings_are_kept_beside_the_bytes_and_counted() {
    let mut cache = LocalCache::new(1 << 20);
    let plain = story(1, 1000, 9);
    cache.insert(b"k", Rc::clone(&plain));
    let before = cache.figures().bytes;
    let more = cache.keep_form(Some(b"k"), &plain, Coding::Br, vec![1; 400]);
    assert_eq!(more.form(Some(Coding::Br)).unwrap().body(), [1; 400]);
    let held = cache.get(b"k", 0).unwrap();
    assert!(Rc::ptr_eq(&held, &more) && held.body().len() == 1000);
    let with_br = cache.figures().bytes;
    assert!(with_br >= before + 400, "{before} {with_br}");
    // By id, through the request it was told for; beside the other coding, which came later than the caller's copy.
    let both = cache.keep_form(None, &plain, Coding::Gzip, vec![2; 500]);
    assert!(both.form(Some(Coding::Br)).is_some() && both.form(Some(Coding::Gzip)).is_some());
    assert!(Rc::ptr_eq(&cache.get(b"k", 0).unwrap(), &both));
    assert!(cache.figures().bytes >= with_br + 500);
    // What is not held any more is not taken up again, and still answered.
    cache.remove(b"k");
    let lost = cache.keep_form(Some(b"k"), &plain, Coding::Zstd, vec![3; 10]);
    assert_eq!(lost.form(Some(Coding::Zstd)).unwrap().body(), [3; 10]);
    assert_eq!((cache.figures().entries, cache.figures().bytes), (0, 0));
    // Known by id alone; and another story under the same request is left alone.
    cache.insert_by_id(story(2, 100, 9));
    cache.keep_form(None, &story(2, 100, 9), Coding::Br, vec![4; 50]);
    assert!(
        cache
            .get_by_id(Uuid::from_u128(2), 0)
            .unwrap()
            .form(Some(Coding::Br))
            .is_some()
    );
    cache.insert(b"k", story(3, 100, 9));
    cache.keep_form(Some(b"k"), &plain, Coding::Br, vec![5; 50]);
    assert!(cache.get(b"k", 0).unwrap().form(Some(Coding::Br)).is_none());
}

#[test]
fn codings_make_room_for_themselves() {
    let mut cache = LocalCache::new(64 * 1024);
    let kept: Vec<_> = (0..40u128).map(|id| story(id, 1000, 9)).collect();
    for (id, story) in kept.iter().enumerate() {
        cache.insert(&id.to_be_bytes(), Rc::clone(story));
    }
    for (id, story) in kept.iter().enumerate() {
        cache.keep_form(Some(&id.to_be_bytes()), story, Coding::Br, vec![1; 2000]);
        let figures = cache.figures();
        assert!(figures.bytes <= figures.capacity_bytes, "{figures:?}");
    }
    assert!(cache.figures().evictions > 0);
    // A form that would make the entry a giant is not kept.
    cache.insert(b"k", story(99, 1000, 9));
    let giant = cache.keep_form(Some(b"k"), &story(99, 1000, 9), Coding::Br, vec![1; 5000]);
    assert!(giant.form(Some(Coding::Br)).is_some());
    assert!(cache.get(b"k", 0).unwrap().form(Some(Coding::Br)).is_none());
}

#[test]
fn a_giant_is_refused() {
    let mut cache = LocalCache::new(160_000);
    assert!(cache.insert(b"k", story(1, 9000, 9)));
    assert!(!cache.insert(b"k2", story(2, 10_001, 9)));
    assert!(!cache.insert_by_id(story(3, 10_001, 9)));
    assert_eq!((cache.figures().refused, cache.figures().entries), (2, 1));
}

#[test]
fn pressure_empties_it_and_relief_lets_it_grow() {
    let mut cache = LocalCache::new(1 << 20);
    let fill = |cache: &mut LocalCache| {
        for id in 0..2000u128 {
            cache.insert(&id.to_be_bytes(), story(id, 1000, 9));
        }
    };
    fill(&mut cache);
    assert!(cache.figures().bytes > 900_000);
    cache.shrink_to(100_000);
    assert!(cache.figures().bytes <= 100_000 && cache.figures().entries > 10);
    cache.shrink_to(0);
    fill(&mut cache);
    assert_eq!((cache.figures().bytes, cache.figures().entries), (0, 0));
    assert!(cache.index.request_by_id.borrow().is_empty());
    cache.grow_to(1 << 20);
    fill(&mut cache);
    assert!(cache.figures().bytes > 900_000);
}

#[test]
fn what_is_asked_for_often_outlives_what_is_asked_for_once() {
    let mut cache = LocalCache::new(1 << 20);
    for id in 0..20_000u128 {
        if id % 10 == 0 && cache.get(b"popular", 0).is_none() {
            cache.insert(b"popular", story(u128::MAX, 1000, 9));
        }
        cache.insert(&id.to_be_bytes(), story(id, 1000, 9));
    }
    assert!(cache.figures().misses <= 2, "{:?}", cache.figures());
}

#[test]
fn an_empty_cache_costs_nothing_worth_naming() {
    let cache = LocalCache::new(CACHE_BYTES);
    let tables = cache.entries.memory_used();
    assert!(tables.entries + tables.map < 4096, "{tables:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, usize, u64),
    InsertById(u8, usize, u64),
    Get(u8, u64),
    GetById(u8, u64),
    Remove(u8),
    Shrink(u64),
    Grow(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<u8>(), 0..4000usize, 0..100u64).prop_map(|(key, bytes, ms)| Step::Insert(key, bytes, ms)),
        2 => (any::<u8>(), 0..4000usize, 0..100u64).prop_map(|(key, bytes, ms)| Step::InsertById(key, bytes, ms)),
        8 => (any::<u8>(), 0..100u64).prop_map(|(key, ms)| Step::Get(key, ms)),
        4 => (any::<u8>(), 0..100u64).prop_map(|(key, ms)| Step::GetById(key, ms)),
        2 => any::<u8>().prop_map(Step::Remove),
        1 => (0..60_000u64).prop_map(Step::Shrink),
        1 => (0..60_000u64).prop_map(Step::Grow),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// Whatever is done to it: never over its bound, never an answer that was not put in, never an expired one, and
    /// the index by id leads to living entries only.
    #[test]
    fn bounded_and_true(steps in steps(), capacity in 0..60_000u64) {
        let mut cache = LocalCache::new(capacity);
        let mut told: HashMap<u8, (usize, u64)> = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(key, bytes, ms) => {
                    if cache.insert(&[key], story(key.into(), bytes, ms)) {
                        told.insert(key, (bytes, ms));
                    }
                }
                Step::InsertById(key, bytes, ms) => {
                    // A story never changes its bytes: by id comes the same one as by request.
                    let (bytes, ms) = told.get(&key).copied().unwrap_or((bytes, ms));
                    if cache.insert_by_id(story(key.into(), bytes, ms)) {
                        told.insert(key, (bytes, ms));
                    }
                }
                Step::Get(key, now_ms) => {
                    if let Some(found) = cache.get(&[key], now_ms) {
                        prop_assert_eq!(Some(&(found.body().len(), found.expires_ms())), told.get(&key));
                        prop_assert!(found.expires_ms() > now_ms);
                    }
                }
                Step::GetById(key, now_ms) => {
                    if let Some(found) = cache.get_by_id(Uuid::from_u128(key.into()), now_ms) {
                        prop_assert_eq!(Some(&(found.body().len(), found.expires_ms())), told.get(&key));
                        prop_assert!(found.expires_ms() > now_ms);
                    }
                }
                Step::Remove(key) => cache.remove(&[key]),
                Step::Shrink(bytes) => cache.shrink_to(bytes),
                Step::Grow(bytes) => cache.grow_to(bytes),
            }
            let figures = cache.figures();
            prop_assert!(figures.bytes <= figures.capacity_bytes, "{figures:?}");
            let index = cache.index.request_by_id.borrow();
            for (id, request) in index.iter() {
                prop_assert_eq!(cache.entries.peek(&ByRequest(request)).map(|story| story.id()), Some(*id));
            }
            let by_request = cache.entries.iter().filter(|(key, _)| matches!(key, Key::Request(_))).count();
            prop_assert_eq!(index.len(), by_request);
        }
    }
}

/// Figures, not verdicts: run with `--ignored --nocapture`.
#[test]
#[ignore = "figures"]
fn memory_and_time() {
    let rss_kib = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = rss_kib();
    let mut cache = LocalCache::new(CACHE_BYTES);
    println!("empty: {} KiB", rss_kib() - before);
    let key = |number: u32| format!("v1|en|medium|adventure|place number {number}|0").into_bytes();
    for number in 0..50_000 {
        cache.insert(&key(number), story(number.into(), 3000, 9));
    }
    println!("full: {} KiB, {:?}", rss_kib() - before, cache.figures());
    let kept: Vec<_> = (0..50_000).map(key).filter(|key| cache.get(key, 0).is_some()).collect();
    let begin = std::time::Instant::now();
    for _ in 0..20 {
        for key in &kept {
            std::hint::black_box(cache.get(key, 0));
        }
    }
    println!(
        "lookup: {:?}",
        begin.elapsed() / (20 * u32::try_from(kept.len()).unwrap())
    );
}
