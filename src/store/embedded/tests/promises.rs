//! What is kept, and that the first writer wins.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

#[test]
fn a_story_kept_is_found_after_reopening_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    let store = open(&data);
    let told = record(1_700_000_000_000, 1, "san francisco", Style::Adventure);
    let kept = block_on(store.client().put(told.clone())).unwrap();
    assert_eq!((kept.id, &kept.json), (told.id, &told.json));
    close(store);

    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let file = data.join(open::FILE_NAME);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let store = open(&data);
    let client = store.client();
    assert_eq!(block_on(client.get(told.id)).unwrap().unwrap(), kept);
    assert_eq!(block_on(client.find(told.key)).unwrap().unwrap(), kept);
    assert_eq!(block_on(client.get(id_at(1, 1))).unwrap(), None);
    assert_eq!(block_on(client.find(StoryKey::from_bytes([0; 32]))).unwrap(), None);
    let health = client.health();
    assert!(
        health.available && health.stories == 1 && health.file_bytes > 0,
        "{health:?}"
    );
    block_on(client.ping()).unwrap();
    close(store);
    assert_eq!(block_on(client.get(told.id)), Err(StoreError::Closed));
    assert_eq!(block_on(client.put(told)), Err(StoreError::Closed));
}

#[test]
fn the_same_request_on_many_cores_gives_one_story() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = StoryKey::of_canonical(b"one request");
    let barrier = Barrier::new(8);
    let kept: Vec<Kept> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|core| {
                let (client, barrier) = (store.client(), &barrier);
                scope.spawn(move || {
                    let mine = Record {
                        key,
                        ..record(5000, core, "rome", Style::History)
                    };
                    barrier.wait();
                    block_on(client.put(mine)).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(kept.iter().all(|story| *story == kept[0]), "{kept:?}");
    let client = store.client();
    assert_eq!(client.health().stories, 1);
    let page = block_on(client.list(Filter::default(), None, 10)).unwrap();
    assert_eq!((page.items, page.next), (vec![kept[0].clone()], None));
    close(store);
}

#[test]
fn a_record_that_breaks_the_rules_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let client = store.client();
    let good = record(5000, 1, "rome", Style::History);
    let refused = |record: Record| match block_on(client.put(record)) {
        Err(error @ StoreError::Invalid(_)) => assert!(!error.is_retryable()),
        other => panic!("{other:?}"),
    };
    refused(Record {
        json: vec![],
        ..good.clone()
    });
    refused(Record {
        json: vec![b'x'; limits::STORY_BYTES_MAX + 1],
        ..good.clone()
    });
    refused(Record {
        location_key: "x".repeat(limits::LOCATION_KEY_BYTES_MAX + 1),
        ..good.clone()
    });
    refused(Record {
        created_ms: 5001,
        ..good.clone()
    });
    refused(Record {
        id: Uuid::nil(),
        created_ms: 0,
        ..good.clone()
    });
    block_on(client.put(good.clone())).unwrap();
    // The same id for another request must not replace the story.
    refused(Record {
        key: StoryKey::of_canonical(b"other"),
        json: b"other".to_vec(),
        ..good.clone()
    });
    assert_eq!(block_on(client.get(good.id)).unwrap().unwrap().json, good.json);
    close(store);
}

#[test]
fn a_put_that_nobody_waits_for_is_kept_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let client = store.client();
    let told = record(5000, 1, "rome", Style::History);
    let mut put = Box::pin(client.put(told.clone()));
    let _ = start(&mut put);
    drop(put);
    close(store);
    let store = open(dir.path());
    assert!(block_on(store.client().get(told.id)).unwrap().is_some());
    close(store);
}

#[test]
fn a_full_queue_refuses_at_once_and_closing_answers_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        put_queue: 4,
        ..Config::new(dir.path())
    };
    let (store, faults) = open_with_faults(config);
    let client = store.client();
    faults.flush_slow_ms.store(100, Ordering::Relaxed);
    let mut waiting = Vec::new();
    let mut overloaded = 0;
    for number in 0..40 {
        let mut put = Box::pin(client.put(record(5000, number, "rome", Style::History)));
        match start(&mut put) {
            Poll::Pending => waiting.push(put),
            Poll::Ready(Err(StoreError::Overloaded)) => overloaded += 1,
            Poll::Ready(other) => panic!("{other:?}"),
        }
    }
    // One batch may have been taken; the rest of the queue is four.
    assert!(overloaded >= 32, "{overloaded}");
    assert_eq!(client.health().refused, overloaded);
    assert!(client.health().put_queue <= 4);
    let kept = waiting.len();
    assert!(kept >= 4);
    close(store);
    for put in waiting {
        block_on(put).unwrap();
    }
    assert_eq!(client.health().stories, u64::try_from(kept).unwrap());
}

#[test]
fn reads_do_not_wait_behind_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(Config::new(dir.path()));
    let client = store.client();
    let first = record(5000, 1, "rome", Style::History);
    block_on(client.put(first.clone())).unwrap();
    // Some more, so that the file need not grow for the one below: redb keeps readers out for the one flush in which
    // the file doubles.
    let grown = client.health().file_bytes;
    let mut number = 2;
    while client.health().file_bytes == grown {
        block_on(client.put(record(5000, number, "rome", Style::History))).unwrap();
        number += 1;
    }
    faults.flush_slow_ms.store(5000, Ordering::Relaxed);
    let mut put = Box::pin(client.put(record(5001, 2, "rome", Style::History)));
    assert!(start(&mut put).is_pending());
    // Until the writer is in its flush.
    std::thread::sleep(Duration::from_millis(100));
    assert!(block_on(client.get(first.id)).unwrap().is_some());
    let page = block_on(client.list(Filter::default(), None, 1)).unwrap();
    assert_eq!(page.items[0].created_ms, 5000, "as it was before the put");
    assert!(start(&mut put).is_pending(), "the reads waited for the flush");
    faults.flush_slow_ms.store(0, Ordering::Relaxed);
    block_on(put).unwrap();
    close(store);
}

#[test]
fn a_store_dropped_without_closing_keeps_what_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let told = record(5000, 1, "rome", Style::History);
    {
        let store = open(dir.path());
        block_on(store.client().put(told.clone())).unwrap();
    }
    let store = Embedded::open(Config {
        lock_wait: Duration::from_secs(10),
        ..Config::new(dir.path())
    })
    .unwrap();
    assert!(block_on(store.client().get(told.id)).unwrap().is_some());
    close(store);
}

#[test]
fn it_keeps_what_every_store_promises() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let handles: Vec<crate::store::Store> = (0..3).map(|_| store.client().into()).collect();
    crate::backend::tests::run(async move { crate::store::contract::keeps_every_promise(&handles).await });
    close(store);
}
