//! Files that will not open, and disks that fill up.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_full_disk_makes_puts_unavailable_and_space_brings_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        retry: Duration::from_millis(50),
        ..Config::new(dir.path())
    };
    let (store, faults) = open_with_faults(config);
    let client = store.client();
    let first = record(5000, 1, "rome", Style::History);
    block_on(client.put(first.clone())).unwrap();

    faults.disk_full.store(true, Ordering::Relaxed);
    let second = record(5001, 2, "rome", Style::History);
    match block_on(client.put(second.clone())) {
        Err(error @ StoreError::Unavailable { .. }) => {
            assert!(error.is_retryable() && error.retry_after_s().is_some());
            assert!(error.to_string().contains("full"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Refused without touching the disk while the pause lasts.
    assert!(matches!(
        block_on(client.put(second.clone())),
        Err(StoreError::Unavailable { .. })
    ));
    let health = client.health();
    assert!(
        !health.available && health.reason.is_some() && health.failures == 1,
        "{health:?}"
    );

    faults.disk_full.store(false, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(60));
    // A readiness check finds the way back without any put.
    block_on(client.ping()).unwrap();
    assert!(client.health().available);
    assert_eq!(block_on(client.get(first.id)).unwrap().unwrap().json, first.json);
    assert_eq!(
        block_on(client.get(second.id)).unwrap(),
        None,
        "not answered, rolled back"
    );
    assert_eq!(block_on(client.put(second.clone())).unwrap().id, second.id);
    assert_eq!(client.health().stories, 2);
    close(store);
}

#[test]
fn a_batch_on_a_full_disk_fails_together_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        retry: Duration::ZERO,
        ..Config::new(dir.path())
    };
    let (store, faults) = open_with_faults(config);
    let client = store.client();
    let first = record(5000, 1, "rome", Style::History);
    block_on(client.put(first.clone())).unwrap();
    faults.disk_full.store(true, Ordering::Relaxed);
    for round in 0..5 {
        let mut puts: Vec<_> = (0..20)
            .map(|number| Box::pin(client.put(record(6000 + round, number, "rome", Style::History))))
            .collect();
        // All on their way before the first is waited for.
        let early: Vec<_> = puts.iter_mut().map(start).collect();
        for (put, early) in puts.into_iter().zip(early) {
            let outcome = match early {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => block_on(put),
            };
            assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
        }
    }
    faults.disk_full.store(false, Ordering::Relaxed);
    assert_eq!(block_on(client.get(first.id)).unwrap().unwrap().json, first.json);
    block_on(client.put(record(7000, 1, "rome", Style::History))).unwrap();
    assert_eq!(client.health().stories, 2);
    close(store);
}

#[test]
fn a_file_in_use_says_so_and_waits_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Embedded::open(Config::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let path = dir.path().to_path_buf();
    let second = std::thread::spawn(move || {
        Embedded::open(Config {
            lock_wait: Duration::from_secs(20),
            ..Config::new(path)
        })
        .unwrap()
    });
    std::thread::sleep(Duration::from_millis(50));
    close(store);
    close(second.join().unwrap());
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    close(open(dir.path()));
    let database = redb::Database::open(file_of(dir.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(schema::META)
        .unwrap()
        .insert("schema", schema::SCHEMA_VERSION + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Embedded::open(Config::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error}");

    // The same for the form of the file itself.
    let file = fs::OpenOptions::new().write(true).open(file_of(dir.path())).unwrap();
    let header = fs::read(file_of(dir.path())).unwrap();
    for slot in [64, 192] {
        assert_eq!(header[slot], 3, "where redb keeps the version of its format");
        std::os::unix::fs::FileExt::write_all_at(&file, &[9], slot as u64).unwrap();
    }
    let error = Embedded::open(Config::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error}");
}

#[test]
fn another_file_in_its_place_is_called_damaged_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for content in [b"hello".to_vec(), vec![0xab; 100_000], b"SQLite format 3\0".repeat(300)] {
        fs::write(file_of(dir.path()), &content).unwrap();
        let error = Embedded::open(Config::new(dir.path())).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("remedy"));
        assert_eq!(fs::read(file_of(dir.path())).unwrap(), content);
    }
}

#[test]
fn a_birth_cut_short_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_of(dir.path());
    close(open(dir.path()));
    let born = fs::read(&path).unwrap();
    // As redb leaves it before it writes the magic number: a header without it, and nothing behind.
    let mut unborn = vec![0; 72 * 1024];
    unborn[9..320].copy_from_slice(&born[9..320]);
    fs::write(&path, &unborn).unwrap();
    assert!(redb::Database::create(&path).is_err(), "what redb says by itself");
    close(open(dir.path()));
    // Without its magic number but with pages behind the header it is no birth: left alone.
    let mut damaged = fs::read(&path).unwrap();
    damaged[..9].fill(0);
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(
        Embedded::open(Config::new(dir.path())),
        Err(OpenError::Corrupt { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), damaged);
}

#[test]
fn system_errors_have_a_cause_and_a_remedy() {
    let of = |kind: std::io::ErrorKind| OpenError::from_io(std::path::Path::new("/data"), kind.into());
    assert!(matches!(
        of(std::io::ErrorKind::PermissionDenied),
        OpenError::NoPermission { .. }
    ));
    assert!(matches!(
        of(std::io::ErrorKind::ReadOnlyFilesystem),
        OpenError::ReadOnly { .. }
    ));
    assert!(matches!(
        of(std::io::ErrorKind::StorageFull),
        OpenError::DiskFull { .. }
    ));
    assert!(matches!(
        of(std::io::ErrorKind::QuotaExceeded),
        OpenError::DiskFull { .. }
    ));
    assert!(of(std::io::ErrorKind::TimedOut).to_string().contains("remedy"));
}

#[test]
fn a_folder_that_may_not_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    match Embedded::open(Config::new(closed.join("data"))) {
        // The superuser may write anywhere; then there is nothing to see here.
        Ok(store) => close(store),
        Err(error) => assert!(matches!(error, OpenError::NoPermission { .. }), "{error}"),
    }
    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    assert!(Embedded::open(Config::new(in_the_way.join("data"))).is_err());
}

/// Fills a real disk: run with `--ignored`, and ROADTRIP_TEST_SMALL_DISK naming an empty file system of a few MiB
/// (mount -t tmpfs -o size=4m tmpfs FOLDER).
#[test]
#[ignore = "needs a small file system"]
fn a_real_disk_fills_up_and_is_freed() {
    let disk = PathBuf::from(std::env::var("ROADTRIP_TEST_SMALL_DISK").unwrap());
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1; 1024 * 1024]).unwrap();
    let config = Config {
        retry: Duration::from_millis(50),
        ..Config::new(disk.join("data"))
    };
    let store = Embedded::open(config).unwrap();
    let client = store.client();
    let big = |number| Record {
        json: vec![b'x'; 3000],
        ..record(5000, number, "rome", Style::History)
    };
    let mut kept = Vec::new();
    let mut failed = 0;
    for number in 0..2000 {
        match block_on(client.put(big(number))) {
            Ok(story) => kept.push(story.id),
            Err(error @ StoreError::Unavailable { .. }) => {
                failed += 1;
                assert!(error.to_string().contains("full"), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
        if failed == 100 {
            break;
        }
    }
    println!("{} kept before the disk was full; {:?}", kept.len(), client.health());
    assert!(failed == 100 && !client.health().available);
    // Reads are served while it is full.
    for id in &kept {
        assert!(block_on(client.get(*id)).unwrap().is_some());
    }
    std::thread::sleep(Duration::from_millis(60));
    assert!(block_on(client.ping()).is_err(), "still full");
    fs::remove_file(&ballast).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    block_on(client.ping()).unwrap();
    block_on(client.put(big(9999))).unwrap();
    close(store);
    let store = open(&disk.join("data"));
    assert_eq!(store.client().health().stories, kept.len() as u64 + 1);
    close(store);
}
