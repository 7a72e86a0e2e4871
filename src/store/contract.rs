//! What every store promises, as tests that each store's own tests run against a real one.

use super::{Cursor, Filter, Kept, Record, Store, StoreError, StoryKey};
use crate::limits::store as limits;
use crate::story::types::Style;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use uuid::Uuid;

const PLACES: [&str; 3] = ["rome", "rom", "san francisco"];

/// A UUIDv7 of that time.
pub(crate) fn id_at(created_ms: u64, random: u64) -> Uuid {
    Uuid::from_u128(u128::from(created_ms) << 80 | 7 << 76 | 0b10 << 62 | u128::from(random) & ((1 << 62) - 1))
}

/// A story to keep.
pub(crate) fn record(created_ms: u64, random: u64, place: &str, style: Style) -> Record {
    let id = id_at(created_ms, random);
    Record {
        key: StoryKey::of_canonical(format!("{place}/{style}/{id}").as_bytes()),
        json: format!("{{\"id\":\"{id}\",\"location\":\"{place}\",\"style\":\"{style}\"}}").into_bytes(),
        id,
        location_key: place.to_owned(),
        style,
        created_ms,
    }
}

/// Waits for all of them at once.
pub(crate) async fn together<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (slot, done) in running.iter_mut().zip(&mut done) {
            if let Some(future) = slot
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
                *slot = None;
            }
        }
        if running.iter().all(Option::is_none) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Byte for byte, by id and by key; what is not kept is not found; whatever the bytes and names are.
pub(crate) async fn a_story_kept_is_found(store: &Store) {
    let odd = "zürich, \u{1f30d} 'quoted' \"twice\" \\ {a,NULL}";
    for (number, place) in ["oslo", odd, ""].into_iter().enumerate() {
        let told = Record {
            json: (0..=255u8).chain([b'\\', b'x', 0]).collect(),
            ..record(1000, number as u64, place, Style::Science)
        };
        let kept = store.put(told.clone()).await.unwrap();
        assert_eq!((kept.id, &kept.json, kept.created_ms), (told.id, &told.json, 1000));
        assert_eq!(store.get(told.id).await.unwrap().as_ref(), Some(&kept));
        assert_eq!(store.find(&told.key).await.unwrap().as_ref(), Some(&kept));
        let filter = Filter {
            location: Some(place.to_owned()),
            style: None,
        };
        assert_eq!(store.list(filter, None, 5).await.unwrap().items, [kept]);
    }
    assert_eq!(store.get(id_at(1, 1)).await.unwrap(), None);
    assert_eq!(store.find(&StoryKey::from_bytes([0; 32])).await.unwrap(), None);
    let zero = Filter {
        location: Some("\0".to_owned()),
        style: None,
    };
    assert!(store.list(zero, None, 5).await.unwrap().items.is_empty());
    store.ping().await.unwrap();
    assert!(store.health().available, "{:?}", store.health());
}

/// Of many who keep a story for one request at once, all get the same one.
pub(crate) async fn the_first_writer_wins(stores: &[Store]) {
    let key = StoryKey::of_canonical(b"one request");
    let puts = (0..40).map(|core| {
        let mine = Record {
            key,
            ..record(2000, core, "lima", Style::History)
        };
        stores[core as usize % stores.len()].put(mine)
    });
    let kept: Vec<Kept> = together(puts.collect()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(kept.len(), 40);
    assert!(kept.iter().all(|story| *story == kept[0]), "{kept:?}");
    for store in stores {
        assert_eq!(store.find(&key).await.unwrap().as_ref(), Some(&kept[0]));
        let again = Record {
            key,
            ..record(2001, 99, "lima", Style::History)
        };
        assert_eq!(store.put(again).await.unwrap(), kept[0], "the first stays");
    }
}

/// A record that breaks a rule is refused, and takes none of its neighbours with it.
pub(crate) async fn a_record_that_breaks_the_rules_is_refused_alone(store: &Store) {
    let good = record(3000, 1, "bern", Style::History);
    let broken = [
        Record {
            json: vec![],
            ..good.clone()
        },
        Record {
            json: vec![b'x'; limits::STORY_BYTES_MAX + 1],
            ..good.clone()
        },
        Record {
            location_key: "x".repeat(limits::LOCATION_KEY_BYTES_MAX + 1),
            ..good.clone()
        },
        Record {
            created_ms: 3001,
            ..good.clone()
        },
        Record {
            id: Uuid::nil(),
            created_ms: 0,
            ..good.clone()
        },
    ];
    for record in broken {
        match store.put(record).await {
            Err(error @ StoreError::Invalid(_)) => assert!(!error.is_retryable()),
            other => panic!("{other:?}"),
        }
    }
    store.put(good.clone()).await.unwrap();
    // The same id for another request must not replace the story, nor harm those who put at the same time.
    let thief = Record {
        key: StoryKey::of_canonical(b"other"),
        json: b"other".to_vec(),
        ..good.clone()
    };
    let neighbours = (2..6).map(|random| record(3000, random, "bern", Style::History));
    let puts = [thief].into_iter().chain(neighbours).map(|record| store.put(record));
    let outcomes = together(puts.collect()).await;
    assert!(matches!(outcomes[0], Err(StoreError::Invalid(_))), "{:?}", outcomes[0]);
    assert!(outcomes[1..].iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(store.get(good.id).await.unwrap().unwrap().json, good.json);
    // The same record once more, and twice at a time: all the same story.
    let twin = record(3000, 50, "bern", Style::History);
    for outcome in together(vec![store.put(good.clone()), store.put(twin.clone()), store.put(twin)]).await {
        outcome.unwrap();
    }
}

/// A put whose caller went away is kept all the same.
pub(crate) async fn a_put_that_nobody_waits_for_is_kept(store: &Store) {
    let told = record(4000, 1, "quito", Style::History);
    let mut put: Pin<Box<dyn Future<Output = _>>> = Box::pin(store.put(told.clone()));
    assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(put);
    // Whatever is put behind it is answered after it, or at the same time.
    for random in 2..50 {
        store.put(record(4000, random, "quito", Style::History)).await.unwrap();
        if store.get(told.id).await.unwrap().is_some() {
            return;
        }
    }
    panic!("it was not kept");
}

/// Lists everything, with an insert between the pages, and gives the ids in the order seen.
async fn walk(store: &Store, filter: &Filter, limits: &[usize], late: &mut Vec<Record>) -> Vec<Uuid> {
    let mut seen = Vec::new();
    let mut cursor: Option<Cursor> = None;
    for limit in limits.iter().cycle() {
        let page = store.list(filter.clone(), cursor, *limit).await.unwrap();
        assert!(page.items.len() <= *limit);
        seen.extend(page.items.iter().map(|kept| kept.id));
        if let Some(record) = late.pop() {
            store.put(record).await.unwrap();
        }
        match page.next {
            // As text, as a client would hand it back.
            Some(next) => cursor = Some(next.to_string().parse().unwrap()),
            None => break,
        }
        assert!(!page.items.is_empty(), "a page that leads on has stories");
    }
    seen
}

/// Every story once, newest first, for each filter, whatever the page sizes and whoever writes meanwhile. `store` must be
/// empty of these places in these years.
pub(crate) async fn every_story_once_newest_first(store: &Store, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    const YEAR: u64 = 40_000_000_000;
    let base = 1_000_000_000_000 + seed * YEAR;
    let mut told: Vec<Record> = Vec::new();
    let one = |rng: &mut fastrand::Rng, number: u64| {
        // Many of the same millisecond.
        let ms = base + rng.u64(0..20);
        record(
            ms,
            rng.u64(0..1 << 40) << 16 | number,
            rng.choice(PLACES).unwrap_or_default(),
            Style::ALL[rng.usize(0..3)],
        )
    };
    for number in 0..60 {
        told.push(one(&mut rng, number));
    }
    let puts = told.iter().map(|record| store.put(record.clone()));
    together(puts.collect())
        .await
        .into_iter()
        .for_each(|kept| drop(kept.unwrap()));
    for place in [None, Some(0), Some(1), Some(2)] {
        for style in [None, Some(Style::ALL[0]), Some(Style::ALL[2])] {
            let filter = Filter {
                location: place.map(|place: usize| PLACES[place].to_owned()),
                style,
            };
            let passes = |record: &&Record| {
                filter.location.as_ref().is_none_or(|want| *want == record.location_key)
                    && filter.style.is_none_or(|want| want == record.style)
                    && (base..base + YEAR).contains(&record.created_ms)
            };
            let mut expected: Vec<Uuid> = told.iter().filter(passes).map(|record| record.id).collect();
            expected.sort_by(|one, other| other.cmp(one));
            let sizes: Vec<usize> = (0..4).map(|_| rng.usize(1..9)).collect();
            let mut late: Vec<Record> = (0..5).map(|number| one(&mut rng, 1000 + number)).collect();
            let all_late = late.clone();
            let seen = walk(store, &filter, &sizes, &mut late).await;
            assert!(
                seen.windows(2).all(|pair| pair[0] > pair[1]),
                "newest first, none twice: {seen:?}"
            );
            assert!(
                expected.iter().all(|id| seen.contains(id)),
                "none missed, with {filter:?} and pages of {sizes:?}"
            );
            told.extend(all_late.into_iter().filter(|record| !late.contains(record)));
            let known: Vec<Uuid> = told.iter().filter(passes).map(|record| record.id).collect();
            let ours = seen
                .iter()
                .filter(|id| (base..base + YEAR).contains(&((id.as_u128() >> 80) as u64)));
            for id in ours {
                assert!(known.contains(id), "a stranger on the page");
            }
        }
    }
}

/// A page of long stories ends early, and leads on.
pub(crate) async fn a_page_of_long_stories_ends_early(store: &Store) {
    for number in 0..40 {
        let long = Record {
            json: vec![b'x'; limits::STORY_BYTES_MAX],
            ..record(5000, number, "long", Style::History)
        };
        store.put(long).await.unwrap();
    }
    let filter = Filter {
        location: Some("long".to_owned()),
        style: None,
    };
    let page = store.list(filter.clone(), None, 1000).await.unwrap();
    assert_eq!(page.items.len(), limits::PAGE_BYTES_MAX / limits::STORY_BYTES_MAX);
    assert!(page.next.is_some());
    assert_eq!(walk(store, &filter, &[1000], &mut Vec::new()).await.len(), 40);
    let least = store.list(filter, None, 0).await.unwrap();
    assert_eq!(least.items.len(), 1, "a page has a story");
}

/// All of them, in one order: `stores` are handles to one store.
pub(crate) async fn keeps_every_promise(stores: &[Store]) {
    let store = &stores[0];
    a_story_kept_is_found(store).await;
    the_first_writer_wins(stores).await;
    a_record_that_breaks_the_rules_is_refused_alone(store).await;
    a_put_that_nobody_waits_for_is_kept(store).await;
    for seed in 0..3 {
        every_story_once_newest_first(store, seed).await;
    }
    a_page_of_long_stories_ends_early(store).await;
}
