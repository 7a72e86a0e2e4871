//! Segments: what is kept is found at the next start, and goes away with its last story; full and failing disks; damage.

use super::super::folder::is_used;
use super::*;
use proptest::prelude::*;

const MIB: u64 = 1024 * 1024;

fn segments(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir, "journal")
}

#[test]
fn what_is_kept_is_there_at_the_next_start_and_each_start_writes_a_segment_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Record> = (0..40).map(|number| told(number, 700)).collect();
    for part in all.chunks(10) {
        let mut journal = open(dir.path(), MIB);
        assert!(journal.keep(part).iter().all(Result::is_ok));
        assert!(part.iter().all(|record| journal.has(record)));
    }
    assert_eq!(segments(dir.path()).len(), 4);
    let mut journal = open(dir.path(), MIB);
    assert!(all.iter().all(|record| journal.has(record)));
    assert!(
        all.iter()
            .all(|record| journal.of_key(&record.key).unwrap().id == record.id)
    );
    let figures = Arc::clone(&journal.figures);
    let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    assert_eq!(
        (get(&figures.records), get(&figures.oldest_ms)),
        (40, all[0].created_ms)
    );
    let on_disk: usize = segments(dir.path()).iter().map(|(_, content)| content.len()).sum();
    assert_eq!(get(&figures.bytes), on_disk as u64);

    // A segment stays until its last story is forgotten.
    let ids: Vec<_> = all.iter().map(|record| record.id).collect();
    journal.writer.forget(&ids[..9]);
    assert_eq!(segments(dir.path()).len(), 4);
    journal.writer.forget(&ids[9..10]);
    assert_eq!(segments(dir.path()).len(), 3);
    assert!(!journal.has(&all[0]) && journal.of_key(&all[0].key).is_none() && journal.has(&all[10]));
    assert_eq!(get(&figures.oldest_ms), all[10].created_ms);
    // What a crash comes before is replayed once more.
    journal.writer.forget(&ids[10..19]);
    drop(journal);
    let mut journal = open(dir.path(), MIB);
    assert!(journal.has(&all[10]) && !journal.has(&all[9]));
    journal.writer.forget(&ids);
    assert!(segments(dir.path()).is_empty());
    let figures = &journal.figures;
    assert_eq!(
        (get(&figures.records), get(&figures.bytes), get(&figures.oldest_ms)),
        (0, 0, 0)
    );
    assert!(journal.keep(&all[..1])[0].is_ok() && journal.has(&all[0]));
}

#[test]
fn the_first_story_of_a_request_answers_it_and_an_id_is_one_storys() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), MIB);
    let first = told(1, 50);
    let same_key = |number| Record {
        key: first.key,
        ..told(number, 60)
    };
    let outcomes = journal.keep(&[first.clone(), same_key(2), told(3, 50)]);
    let ids: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().id).collect();
    assert_eq!(ids, [first.id, first.id, told(3, 50).id]);
    let outcomes = journal.keep(&[same_key(4), first.clone(), told(5, 50)]);
    assert_eq!(outcomes[0].as_ref().unwrap().json, first.json);
    assert_eq!(outcomes[1].as_ref().unwrap().id, first.id);
    assert!(!journal.has(&same_key(2)) && !journal.has(&same_key(4)));
    let thief = Record {
        id: first.id,
        created_ms: first.created_ms,
        ..told(6, 50)
    };
    for batch in [vec![thief.clone(), told(7, 50)], vec![told(8, 50), thief]] {
        let outcomes = journal.keep(&batch);
        let refused: Vec<bool> = outcomes
            .iter()
            .map(|outcome| matches!(outcome, Err(StoreError::Invalid(_))))
            .collect();
        assert_eq!(refused.iter().filter(|refused| **refused).count(), 1, "{outcomes:?}");
    }
    let records = journal.figures.records.load(Ordering::Relaxed);
    assert_eq!(records, 5, "1, 3, 5, 7, 8");
}

#[test]
fn a_full_journal_refuses_and_has_room_again_when_stories_are_in_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), MIB);
    let mut kept = Vec::new();
    for number in 0.. {
        let batch: Vec<Record> = (0..4).map(|more| told(number * 4 + more, 5000)).collect();
        let outcomes = journal.keep(&batch);
        let refused = outcomes.iter().any(Result::is_err);
        for (record, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => kept.push(record),
                Err(error) => assert!(
                    error.retry_after_s().is_some() && error.to_string().contains("full"),
                    "{error}"
                ),
            }
        }
        let on_disk: usize = segments(dir.path()).iter().map(|(_, content)| content.len()).sum();
        assert!(on_disk as u64 <= MIB);
        if refused {
            break;
        }
    }
    assert!(kept.len() > 190 && segments(dir.path()).len() > 4);
    assert!(kept.iter().all(|record| journal.has(record)));
    assert!(journal.figures.refused.load(Ordering::Relaxed) > 0);
    // Full is no failure: what fits is kept.
    assert!(journal.keep(&[told(9_999_999, 10)])[0].is_ok());
    let ids: Vec<_> = kept.iter().map(|record| record.id).collect();
    journal.writer.forget(&ids[..100]);
    assert!(journal.keep(&[told(8_888_888, 5000)])[0].is_ok());
}

#[test]
fn a_disk_that_fails_costs_what_was_refused_and_nothing_else() {
    for fault in ["write", "flush"] {
        for cut_fails in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = open(dir.path(), MIB);
            let (before, lost, after) = (told(1, 900), told(2, 900), told(3, 900));
            assert!(journal.keep(std::slice::from_ref(&before))[0].is_ok());
            let log = Arc::clone(&journal.log);
            let set = |on: bool| {
                let flag = if fault == "write" {
                    &log.faults.write
                } else {
                    &log.faults.flush
                };
                flag.store(on, Ordering::Relaxed);
                log.faults.truncate.store(on && cut_fails, Ordering::Relaxed);
            };
            set(true);
            let refused = journal.keep(std::slice::from_ref(&lost));
            let error = refused[0].as_ref().unwrap_err();
            assert!(error.retry_after_s().is_some(), "{error}");
            assert!(journal.figures.trouble().is_some() && journal.figures.failing.load(Ordering::Relaxed));
            set(false);
            // Not each of many finds out anew.
            assert!(journal.keep(std::slice::from_ref(&after))[0].is_err());
            std::thread::sleep(Duration::from_millis(crate::limits::store::RETRY_MS));
            journal.writer.probe().unwrap();
            assert_eq!(journal.figures.trouble(), None);
            assert!(journal.keep(std::slice::from_ref(&after))[0].is_ok());
            assert!(journal.has(&before) && !journal.has(&lost) && journal.has(&after));
            let set_aside = journal.figures.set_aside.load(Ordering::Relaxed);
            drop((journal, log));
            let journal = open(dir.path(), MIB);
            assert!(journal.has(&before) && journal.has(&after), "{fault}");
            // Where it could not be cut off, all of it may be there: it is a story like the others then.
            assert!(cut_fails || !journal.has(&lost), "{fault}");
            assert_eq!(
                (set_aside, journal.figures.set_aside.load(Ordering::Relaxed)),
                (0, 0),
                "{fault}"
            );
        }
    }
}

#[test]
fn a_name_that_is_taken_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), MIB);
    std::fs::write(dir.path().join("000000000000.journal"), "").unwrap();
    let record = told(1, 10);
    assert!(journal.keep(std::slice::from_ref(&record))[0].is_err());
    std::thread::sleep(Duration::from_millis(crate::limits::store::RETRY_MS));
    assert!(journal.keep(std::slice::from_ref(&record))[0].is_ok() && journal.has(&record));
}

#[test]
fn a_folder_that_cannot_be_read_when_it_is_let_go_of_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let held = Folder::lock(dir.path()).unwrap().unwrap();
    let config = Config {
        dir: dir.path().to_owned(),
        bytes_max: MIB,
        takes: true,
    };
    let journal = Journal::open(&config, 1).unwrap();
    // No file, and so no segment.
    let odd = dir.path().join("000000000007.journal");
    std::fs::create_dir(&odd).unwrap();
    drop(held);
    let until = |so: &dyn Fn(Report) -> bool| {
        for _ in 0..2000 {
            if so(journal.handle().report()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("in vain waited: {:?}", journal.handle().report());
    };
    until(&|report| {
        report
            .reason
            .is_some_and(|reason| reason.contains("cannot open the journal"))
    });
    assert_eq!(journal.handle().report().state, "locked");
    std::fs::remove_dir(&odd).unwrap();
    until(&|report| report.state == "idle");
    journal.close(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_folder_that_another_process_writes_is_used_though_nothing_is_in_it_yet() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!is_used(dir.path()) && !is_used(&dir.path().join("missing")));
    let held = Folder::lock(dir.path()).unwrap().unwrap();
    assert!(is_used(dir.path()));
    drop(held);
    assert!(!is_used(dir.path()));
}

#[test]
fn a_torn_tail_is_cut_off_and_what_else_is_damaged_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Record> = (0..10).map(|number| told(number, 400)).collect();
    assert!(open(dir.path(), MIB).keep(&all).iter().all(Result::is_ok));
    let (path, sound) = segments(dir.path()).remove(0);
    let begin = |number: usize| {
        let mut bytes = Vec::new();
        all[..number]
            .iter()
            .for_each(|record| record::write(record, &mut bytes));
        bytes.len()
    };

    std::fs::write(&path, &sound[..sound.len() - 5]).unwrap();
    let journal = open(dir.path(), MIB);
    assert!(all[..9].iter().all(|record| journal.has(record)) && !journal.has(&all[9]));
    assert_eq!(std::fs::read(&path).unwrap(), sound[..begin(9)], "cut off");
    assert!(files(dir.path(), "damaged").is_empty());
    drop(journal);

    // Two neighbours are one hole; the last one is no torn tail, for it is all there.
    let mut content = sound.clone();
    for number in [2, 5, 6, 9] {
        content[begin(number) + 60] ^= 4;
    }
    std::fs::write(&path, &content).unwrap();
    let mut journal = open(dir.path(), MIB);
    for (number, record) in all.iter().enumerate() {
        assert_eq!(journal.has(record), ![2, 5, 6, 9].contains(&number), "{number}");
    }
    let holes = files(dir.path(), "damaged");
    let held: Vec<&[u8]> = holes.iter().map(|(_, held)| &held[..]).collect();
    let of = |from: usize, to: usize| &content[begin(from)..begin(to)];
    let mut expected = vec![of(2, 3), of(5, 7), of(9, 10)];
    // By name: their offsets are no padded numbers.
    expected.sort_by_key(|hole| holes.iter().position(|(_, held)| held == hole));
    assert_eq!(held, expected);
    assert_eq!(journal.figures.set_aside.load(Ordering::Relaxed), 3);
    // With the stories the segment goes, and what was set aside stays, and is told of at the next start.
    journal
        .writer
        .forget(&all.iter().map(|record| record.id).collect::<Vec<_>>());
    assert!(segments(dir.path()).is_empty());
    drop(journal);
    let journal = open(dir.path(), MIB);
    assert_eq!(journal.figures.set_aside.load(Ordering::Relaxed), 3);
    assert_eq!(files(dir.path(), "damaged"), holes);
    // Damage to come gets names of its own.
    drop(journal);
    open(dir.path(), MIB).keep(&all);
    assert!(segments(dir.path()).remove(0).0 > path);
}

#[test]
fn damage_that_cannot_be_set_aside_keeps_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Record> = (0..3).map(|number| told(number, 400)).collect();
    open(dir.path(), MIB).keep(&all);
    let (path, mut content) = segments(dir.path()).remove(0);
    let mut first = Vec::new();
    record::write(&all[0], &mut first);
    content[first.len() + 60] ^= 4;
    std::fs::write(&path, &content).unwrap();
    // A folder of that name: no file can be made.
    let name = format!(
        "{}-{}.damaged",
        path.file_stem().unwrap().to_str().unwrap(),
        first.len()
    );
    std::fs::create_dir(dir.path().join(name)).unwrap();
    let mut journal = open(dir.path(), MIB);
    assert!(journal.has(&all[0]) && !journal.has(&all[1]) && journal.has(&all[2]));
    journal.writer.forget(&[all[0].id, all[2].id]);
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[test]
fn a_story_that_is_damaged_while_the_program_runs_is_set_aside_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), MIB);
    let all = [told(1, 300), told(2, 300)];
    journal.keep(&all);
    let (path, mut content) = segments(dir.path()).remove(0);
    content[70] ^= 1;
    std::fs::write(&path, &content).unwrap();
    assert!(journal.log.index().of_id(all[0].id).unwrap().kept().is_err());
    // A sound one is not to be had this way.
    journal.writer.set_aside(all[1].id);
    journal.writer.set_aside(all[0].id);
    assert!(!journal.has(&all[0]) && journal.has(&all[1]));
    let holes = files(dir.path(), "damaged");
    assert_eq!(holes.len(), 1);
    assert_eq!(holes[0].1, content[..content.len() / 2]);
    // Another story for the same request may be told.
    let again = Record {
        key: all[0].key,
        ..told(3, 20)
    };
    assert_eq!(
        journal.keep(std::slice::from_ref(&again))[0].as_ref().unwrap().id,
        again.id
    );
}

#[test]
fn two_processes_never_share_a_folder_and_the_second_gets_it_when_the_first_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        dir: dir.path().to_owned(),
        bytes_max: MIB,
        takes: true,
    };
    assert!(
        !Config {
            takes: false,
            ..config.clone()
        }
        .is_needed()
    );
    let first = Journal::open(&config, 1).unwrap();
    assert_eq!(first.handle().report().state, "idle");
    assert_eq!(
        std::fs::read_to_string(dir.path().join("lock")).unwrap(),
        std::process::id().to_string()
    );
    let second = Journal::open(&config, 1).unwrap();
    let report = second.handle().report();
    assert_eq!(report.state, "locked");
    assert!(
        report
            .reason
            .unwrap()
            .contains(&format!("process {}", std::process::id()))
    );
    assert!(!second.0.0.has_room());
    first.close(Duration::from_secs(20)).unwrap();
    unlocked(&second);
    assert!(second.0.0.has_room());
    second.close(Duration::from_secs(20)).unwrap();
    // The folder is its owner's alone.
    use std::os::unix::fs::PermissionsExt;
    let inner = dir.path().join("made/by us");
    let journal = Journal::open(
        &Config {
            dir: inner.clone(),
            ..config.clone()
        },
        1,
    )
    .unwrap();
    assert_eq!(std::fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
    drop(journal);
    // What cannot be is said with a cause and a remedy.
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = Journal::open(
        &Config {
            dir: dir.path().join("file"),
            ..config
        },
        1,
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("cause: ") && error.to_string().contains("remedy: "),
        "{error}"
    );
}

/// What is done to a journal.
#[derive(Debug, Clone)]
enum Step {
    Keep(Vec<u8>),
    Forget(Vec<u8>),
    /// kill -9 and a start.
    Restart,
    /// The same after a write that was cut off, with so much of it there.
    Tear(u8, prop::sample::Index),
}

/// A story of some length; always the same one.
fn one(number: u8) -> Record {
    told(u64::from(number), 1 + usize::from(number) * 997 % 3000)
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 1..6).prop_map(Step::Keep),
        2 => proptest::collection::vec(any::<u8>(), 1..40).prop_map(Step::Forget),
        1 => Just(Step::Restart),
        1 => (any::<u8>(), any::<prop::sample::Index>()).prop_map(|(number, at)| Step::Tear(number, at)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: each story that was acknowledged and not forgotten is there.
    #[test]
    fn no_acknowledged_story_is_missing(steps in proptest::collection::vec(steps(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path(), MIB);
        let mut model: std::collections::BTreeMap<u8, Record> = Default::default();
        for step in steps {
            match step {
                Step::Keep(many) => {
                    let batch: Vec<Record> = many.iter().map(|number| one(*number)).collect();
                    for (number, outcome) in many.iter().zip(journal.keep(&batch)) {
                        if let Ok(kept) = outcome {
                            let known = model.entry(*number).or_insert_with(|| one(*number));
                            prop_assert!(kept.json == known.json);
                        }
                    }
                }
                Step::Forget(many) => {
                    let ids: Vec<_> = many.iter().map(|number| one(*number).id).collect();
                    journal.writer.forget(&ids);
                    many.iter().for_each(|number| { model.remove(number); });
                }
                Step::Restart => {
                    drop(journal);
                    journal = open(dir.path(), MIB);
                }
                Step::Tear(number, at) => {
                    drop(journal);
                    if let Some((path, mut content)) = segments(dir.path()).pop() {
                        let mut torn = Vec::new();
                        // Another story than any: what is torn was never acknowledged.
                        record::write(&told(u64::from(number) + 1000, 500), &mut torn);
                        content.extend_from_slice(&torn[..at.index(torn.len())]);
                        std::fs::write(path, content).unwrap();
                    }
                    journal = open(dir.path(), MIB);
                }
            }
            for record in model.values() {
                prop_assert!(journal.has(record), "missing");
            }
            prop_assert_eq!(files(dir.path(), "damaged").len(), 0);
        }
    }
}
