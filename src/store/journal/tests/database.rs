//! The journal before a real PostgreSQL that stops, starts, and is not what it should be.

use super::*;
use crate::backend::tests::run;
use crate::config::SecretUrl;
use crate::runtime::time::sleep;
use crate::store::contract::{self, together};
use crate::store::postgres::tests::server::Postgres as Server;
use crate::store::{Lent, Opened, Store};

const MIB: u64 = 1024 * 1024;

fn database(url: &str, auto_migrate: bool) -> postgres::Postgres {
    use crate::limits::postgres as limits;
    let pool = postgres::PoolSettings {
        size: 20,
        overflow: 40,
        wait: Duration::from_millis(limits::POOL_WAIT_MS),
        recycle: Duration::from_millis(limits::RECYCLE_MS),
        pre_ping: true,
    };
    let config = postgres::Config {
        url: SecretUrl::for_test(url),
        pool,
        auto_migrate,
        pods_max: 1,
    };
    postgres::Postgres::new(&config, 1).unwrap()
}

/// A process's store.
fn opened(url: &str, dir: &Path) -> Opened {
    let journal = at(dir, true);
    unlocked(&journal);
    Opened::Journaled(database(url, true), journal)
}

fn at(dir: &Path, takes: bool) -> Journal {
    let config = Config {
        dir: dir.to_owned(),
        bytes_max: 8 * MIB,
        takes,
    };
    Journal::open(&config, 2).unwrap()
}

fn close(opened: Opened) {
    opened.close(Duration::from_secs(20)).unwrap();
}

async fn until(what: &str, so: impl AsyncFn() -> bool) {
    for _ in 0..4000 {
        if so().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("in vain waited for: {what}");
}

/// A worker's store, once the database answers.
async fn attached(lent: &Lent) -> Store {
    let store = lent.attach();
    until("it answers", async || store.ping().await.is_ok()).await;
    store
}

fn report(store: &Store) -> Report {
    store.journal().unwrap().handle().report()
}

/// Until all is in the database.
async fn replayed(store: &Store) {
    until("the replay", async || {
        store.ping().await.is_ok() && report(store).records == 0
    })
    .await;
}

fn count(server: &Server) -> String {
    server.sql("SELECT count(*) FROM stories")
}

#[test]
fn with_a_journal_the_database_keeps_what_every_store_promises() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let opened = opened(&server.url(), dir.path());
    let lent = opened.lend();
    run(async move {
        let stores = [attached(&lent).await, attached(&lent).await];
        contract::keeps_every_promise(&stores).await;
        assert_eq!(report(&stores[0]).kept, 0, "the database took all of it");
        assert!(report(&stores[0]).is_well());
        for store in &stores {
            store.close().await;
        }
    });
    close(opened);
    assert!(files(dir.path(), "journal").is_empty());
}

#[test]
fn what_the_database_cannot_take_is_found_on_each_worker_and_in_the_database_afterwards() {
    let mut server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Record> = (0..300).map(|number| told(number, 900)).collect();
    let first = opened(&server.url(), dir.path());
    let (lent, records, url) = (first.lend(), all.clone(), server.url());
    let mut server = run(async move {
        let stores = [attached(&lent).await, attached(&lent).await];
        stores[0].put(records[0].clone()).await.unwrap();
        server.stop();
        let puts = records[1..200]
            .iter()
            .enumerate()
            .map(|(n, record)| stores[n % 2].put(record.clone()));
        for outcome in together(puts.collect()).await {
            outcome.unwrap();
        }
        for store in &stores {
            for record in records[1..200].iter().step_by(7) {
                let kept = store.get(record.id).await.unwrap().unwrap();
                assert_eq!((kept.created_ms, &kept.json), (record.created_ms, &record.json));
                assert_eq!(store.find(&record.key).await.unwrap(), Some(kept.clone()));
                // The same request once more, as another worker might tell it.
                let again = Record {
                    key: record.key,
                    ..told(7000, 10)
                };
                assert_eq!(store.put(again).await.unwrap(), kept);
            }
            // Nobody knows of these without the database, so nobody says no.
            assert!(store.get(records[0].id).await.unwrap_err().is_retryable());
            assert!(store.find(&records[250].key).await.unwrap_err().is_retryable());
            assert!(
                store
                    .list(Default::default(), None, 5)
                    .await
                    .unwrap_err()
                    .is_retryable()
            );
            assert!(store.ping().await.is_err() && store.journal().unwrap().takes_over());
        }
        let told = report(&stores[1]);
        assert_eq!((told.state, told.records), ("keeping", 199));
        assert!(told.bytes > 199 * 900 && told.oldest_ms == Some(records[1].created_ms) && !told.is_well());
        server
    });
    // The next process has them, too, whatever its workers are, and goes on.
    close(first);
    let second = opened(&url, dir.path());
    let (lent, records) = (second.lend(), all.clone());
    let server = run(async move {
        let store = lent.attach();
        assert_eq!(report(&store).records, 199);
        assert_eq!(store.get(records[5].id).await.unwrap().unwrap().json, records[5].json);
        let puts = records[200..].iter().map(|record| store.put(record.clone()));
        assert!(together(puts.collect()).await.iter().all(Result::is_ok));
        server.launch();
        replayed(&store).await;
        until("the figures", async || {
            report(&store).replayed == 299 && report(&store).is_well()
        })
        .await;
        assert_eq!(report(&store).state, "idle");
        for record in &records {
            assert_eq!(store.get(record.id).await.unwrap().unwrap().json, record.json);
            assert_eq!(store.find(&record.key).await.unwrap().unwrap().id, record.id);
        }
        // From now on the database takes them.
        store.put(told_late()).await.unwrap();
        assert_eq!(report(&store).kept, 100);
        server
    });
    close(second);
    assert_eq!(count(&server), "301");
    assert!(files(dir.path(), "journal").is_empty());
}

fn told_late() -> Record {
    told(9000, 10)
}

/// Puts stories into the journal of a process whose database is away, and ends it.
fn left_behind(dir: &Path, records: &[Record]) {
    let mut journal = super::open(dir, 8 * MIB);
    assert!(journal.keep(records).iter().all(Result::is_ok));
}

#[test]
fn a_story_whose_request_another_pod_answered_keeps_its_id() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let ours = [told(1, 100), told(2, 100), told(3, 100)];
    let theirs = Record {
        key: ours[1].key,
        ..told(50, 80)
    };
    left_behind(dir.path(), &ours);
    let segment = files(dir.path(), "journal");
    for round in 0..2 {
        let opened = opened(&server.url(), dir.path());
        let (lent, ours, theirs) = (opened.lend(), ours.clone(), theirs.clone());
        let other = Opened::Postgres(database(&server.url(), true));
        let other_lent = other.lend();
        run(async move {
            let other = attached(&other_lent).await;
            other.put(theirs.clone()).await.unwrap();
            let store = attached(&lent).await;
            replayed(&store).await;
            for store in [&store, &other] {
                for record in &ours {
                    assert_eq!(store.get(record.id).await.unwrap().unwrap().json, record.json);
                }
                assert_eq!(store.find(&ours[1].key).await.unwrap().unwrap().id, theirs.id);
                assert_eq!(store.find(&ours[2].key).await.unwrap().unwrap().id, ours[2].id);
            }
            assert_eq!(report(&store).unwanted, 0);
        });
        close(opened);
        assert_eq!(count(&server), "4", "round {round}");
        // kill -9 before the segment was removed: all of it once more.
        std::fs::write(&segment[0].0, &segment[0].1).unwrap();
    }
    let key = replay::apart(ours[1].id);
    let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        server.sql(&format!("SELECT id FROM stories WHERE key = '\\x{hex}'")),
        ours[1].id.to_string()
    );
}

#[test]
fn what_the_database_will_not_have_and_what_is_damaged_stops_no_other_story() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<Record> = (0..200).map(|number| told(number, 100)).collect();
    // PostgreSQL's text cannot hold it.
    all[20].location_key = "a\0b".to_owned();
    left_behind(dir.path(), &all);
    let opened = opened(&server.url(), dir.path());
    let (path, mut content) = files(dir.path(), "journal").remove(0);
    // Damaged behind the back of the process.
    let at = memchr::memmem::find(&content, &all[150].json).unwrap();
    content[at] ^= 1;
    std::fs::write(path, content).unwrap();
    let (lent, records) = (opened.lend(), all.clone());
    let server = run(async move {
        let store = attached(&lent).await;
        until("the replay", async || {
            store.ping().await.is_ok() && report(&store).records == 1
        })
        .await;
        until("the report", async || report(&store).unwanted == 1).await;
        until("the figures", async || report(&store).set_aside == 1).await;
        let told = report(&store);
        assert_eq!((told.replayed, told.state), (198, "replaying"));
        // Its id is found as long as it is there.
        assert_eq!(store.get(records[20].id).await.unwrap().unwrap().json, records[20].json);
        assert_eq!(
            store.get(records[199].id).await.unwrap().unwrap().json,
            records[199].json
        );
        // And what is new goes to the database.
        let kept = report(&store).kept;
        store.put(told_late()).await.unwrap();
        assert_eq!(report(&store).kept, kept);
        server
    });
    close(opened);
    assert_eq!(count(&server), "199");
    assert_eq!(files(dir.path(), "damaged").len(), 1);
}

#[test]
fn a_database_that_waits_for_its_migrations_is_no_outage() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::Journaled(database(&server.url(), false), at(dir.path(), true));
    let lent = opened.lend();
    run(async move {
        let store = lent.attach();
        until("the reason", async || {
            store
                .ping()
                .await
                .is_err_and(|error| error.to_string().contains("migrations are pending"))
        })
        .await;
        assert!(!store.journal().unwrap().takes_over());
        assert!(store.put(told(1, 10)).await.is_err());
        assert_eq!(report(&store).kept, 0);
        // With the migrations in, all is well.
        let migrating = Opened::Postgres(database(&server.url(), true)).lend();
        attached(&migrating).await;
        until("it serves", async || store.ping().await.is_ok()).await;
        store.put(told(1, 10)).await.unwrap();
        assert!(store.journal().unwrap().takes_over());
    });
    close(opened);
}

#[test]
fn a_journal_that_is_switched_off_gives_back_what_it_has_and_takes_nothing() {
    let mut server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), &[told(1, 100)]);
    let config = Config {
        dir: dir.path().to_owned(),
        bytes_max: MIB,
        takes: false,
    };
    assert!(config.is_needed());
    let journal = at(dir.path(), false);
    unlocked(&journal);
    let opened = Opened::Journaled(database(&server.url(), true), journal);
    let lent = opened.lend();
    run(async move {
        let store = attached(&lent).await;
        server.stop();
        assert_eq!(
            store.get(told(1, 100).id).await.unwrap().unwrap().json,
            told(1, 100).json
        );
        assert!(store.put(told(2, 10)).await.unwrap_err().is_retryable());
        assert!(!store.journal().unwrap().takes_over());
        server.launch();
        replayed(&store).await;
        assert_eq!(report(&store).state, "off");
        assert_eq!(count(&server), "1");
    });
    close(opened);
    // A process that another test starts at this moment has the lock's descriptor, too, until it is what it is to be.
    let begun = std::time::Instant::now();
    while config.is_needed() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the journal is in use still");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An id is told to be nobody's only by who can know.
#[test]
fn while_another_process_has_the_journal_nothing_is_said_to_be_absent() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let before = opened(&server.url(), dir.path());
    let after = Opened::Journaled(database(&server.url(), true), at(dir.path(), true));
    let lent = after.lend();
    run(async move {
        let store = attached(&lent).await;
        assert_eq!(report(&store).state, "locked");
        store.put(told(1, 10)).await.unwrap();
        assert_eq!(store.get(told(1, 10).id).await.unwrap().unwrap().json, told(1, 10).json);
        let error = store.get(id_at(5, 5)).await.unwrap_err();
        assert!(error.retry_after_s().is_some(), "{error}");
        close(before);
        until("the folder", async || report(&store).state == "idle").await;
        assert_eq!(store.get(id_at(5, 5)).await.unwrap(), None);
    });
    close(after);
}
