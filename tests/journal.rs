//! STORE_OUTAGE=journal: PostgreSQL goes away under load and nobody is refused; the server is killed in the midst of it;
//! and every story that was acknowledged is in PostgreSQL in the end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::{Connection, story_request};
use common::postgres::Postgres;
use common::redis::id_of;
use common::{Server, Setup, until};
use sha2::{Digest, Sha256};
use sonic_rs::{JsonValueTrait, Value};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tempfile::TempDir;

/// A server on that database with a journal in that folder.
fn on(url: &str, journal: &Path) -> Setup {
    Setup::new()
        .env("DATABASE_URL", url)
        .env("WORKERS", "2")
        .env("STORE_OUTAGE", "journal")
        .env("JOURNAL_DIR", journal.to_str().unwrap())
}

fn ready(server: &Server) -> bool {
    // Each connection may reach another worker.
    (0..8).all(|_| server.get("/health/v2/ready").status == 200)
}

/// Once every worker is connected.
fn serving(setup: Setup) -> Server {
    let server = setup.start();
    until("the database", || (0..8).all(|_| state(&server, "status") == "healthy"));
    server
}

fn database(server: &Server) -> Value {
    server.get("/health/v2/status").json()["components"]["database"].clone()
}

fn state(server: &Server, field: &str) -> String {
    database(server)[field].as_str().unwrap_or_default().to_owned()
}

fn journal(server: &Server, field: &str) -> u64 {
    database(server)["journal"][field].as_u64().unwrap()
}

fn journal_state(server: &Server) -> String {
    database(server)["journal"]["state"].as_str().unwrap().to_owned()
}

fn replayed(server: &Server) {
    until("the replay", || journal(server, "records") == 0 && ready(server));
}

fn wish(number: u32) -> String {
    format!(r#"{{"location":"Cork","length":"short","variation":{number}}}"#)
}

/// Request and answer of each 200.
type Kept = BTreeMap<String, Vec<u8>>;

/// What a load saw.
struct Load {
    kept: Kept,
    refused: u32,
}

/// Tells new stories on a few connections while `trouble` does what it does, and until it is over and as many were told
/// after it. Where the server dies of it, its clients go.
fn load(server: &Server, round: u32, trouble: impl FnOnce()) -> Load {
    const CONNECTIONS: u32 = 8;
    let (kept, over) = (Mutex::new(Kept::new()), AtomicBool::new(false));
    let (refused, gone) = (AtomicU32::new(0), AtomicU32::new(0));
    let addr = server.addr();
    let count = || kept.lock().unwrap().len();
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (kept, over, refused, gone) = (&kept, &over, &refused, &gone);
            scope.spawn(move || {
                let mut stream = Connection::open(addr);
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = wish((round * CONNECTIONS + connection) * 100_000 + n);
                    let sent = stream.stream.write_all(story_request(&body).as_bytes());
                    let answer = sent
                        .map_err(|error| error.to_string())
                        .and_then(|()| stream.try_read(false));
                    let Ok(answer) = answer else {
                        gone.fetch_add(1, Ordering::Relaxed);
                        return;
                    };
                    match answer.status {
                        200 => {
                            kept.lock().unwrap().insert(body, answer.body);
                        }
                        503 => {
                            assert!(answer.field("retry-after").is_some(), "{answer:?}");
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => panic!("{answer:?}"),
                    }
                }
            });
        }
        until("answers", || count() > 100);
        trouble();
        let before = count();
        let left = || gone.load(Ordering::Relaxed) == CONNECTIONS;
        until("answers after it", || count() > before + 100 || left());
        over.store(true, Ordering::Relaxed);
    });
    Load {
        kept: kept.into_inner().unwrap(),
        refused: refused.into_inner(),
    }
}

/// Every acknowledged story is given by its id and to its request, on whichever worker.
fn all_are_told(server: &Server, kept: &Kept) {
    let mut streams: Vec<Connection> = (0..6).map(|_| server.connect()).collect();
    for (number, (body, answer)) in kept.iter().enumerate() {
        let at = number % streams.len();
        let stream = &mut streams[at];
        let path = format!("/api/v1/stories/{}", id_of(answer));
        assert!(stream.get(&path).expect(200).body == *answer, "{path}");
        assert!(stream.tell(body).expect(200).body == *answer, "{body}");
    }
}

/// Every acknowledged id is in the database, with its bytes; the database is asked itself.
fn all_are_in_the_database(postgres: &Postgres, kept: &Kept) {
    let rows = postgres.sql("SELECT id || ' ' || encode(sha256(json), 'hex') FROM stories");
    let there: BTreeMap<&str, &str> = rows.lines().filter_map(|line| line.split_once(' ')).collect();
    let missing = kept.values().filter(|answer| {
        let hash: String = Sha256::digest(answer)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        there.get(id_of(answer).as_str()) != Some(&hash.as_str())
    });
    assert_eq!(missing.count(), 0, "of {} acknowledged stories", kept.len());
}

#[test]
fn postgresql_stops_under_load_and_the_server_is_killed_and_no_story_is_refused_or_lost() {
    let mut postgres = Postgres::start();
    let folder = TempDir::new().unwrap();
    // Without a cache of their own, workers have to find stories in the journal.
    let setup = || on(&postgres.url(), folder.path()).env("CACHE_BYTES", "0");
    let (first_setup, second_setup, third_setup) = (setup(), setup().env("WORKERS", "1"), setup());
    let server = serving(first_setup);
    let first = load(&server, 0, || postgres.stop());
    assert_eq!(first.refused, 0, "of {}", first.kept.len());
    let mut kept = first.kept;
    assert!(journal(&server, "records") >= 100);
    assert_eq!(
        (state(&server, "status").as_str(), journal_state(&server).as_str()),
        ("degraded", "keeping")
    );
    // A pod that keeps stories is of use; and what only the database knows is not to be had.
    until("the checks", || {
        server.get("/health/v2/ready").text().contains("not reachable")
    });
    assert!(ready(&server));
    assert_eq!(server.get("/health/v2/status").status, 200);
    let list = server.get("/api/v1/stories");
    assert!(list.status == 503 && list.field("retry-after").is_some(), "{list:?}");
    let metrics = common::exposition::Exposition::parse(&server.get("/metrics").text());
    assert_eq!(metrics.sum("store_journal_taking", &[]), 1.0);
    assert!(metrics.sum("store_journal_records", &[]) >= 100.0 && metrics.sum("store_journal_bytes", &[]) > 1e5);
    assert!(metrics.sum("store_journal_oldest_seconds", &[]) > 0.0);
    // Those from before the outage are in the database alone.
    let of_journal = |server: &Server, kept: &Kept| -> Kept {
        let found = |answer: &&Vec<u8>| {
            let answer = server.get(&format!("/api/v1/stories/{}", id_of(answer)));
            assert!(matches!(answer.status, 200 | 503), "never 404: {answer:?}");
            answer.status == 200
        };
        let some = kept.iter().filter(|(_, answer)| found(answer));
        some.map(|(body, answer)| (body.clone(), answer.clone())).collect()
    };
    let held = of_journal(&server, &kept);
    assert!(held.len() >= 100, "{} of {}", held.len(), kept.len());
    all_are_told(&server, &held);

    // kill -9 under load, with the database away; the next start has fewer workers.
    let mut server = server;
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let second = load(&server, 1, || {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap()
    });
    server.wait();
    assert_eq!(second.refused, 0, "of {}", second.kept.len());
    let server = second_setup.start();
    assert_eq!(server.get("/health/v2/ready").status, 200);
    all_are_told(&server, &held);
    all_are_told(&server, &second.kept);
    kept.extend(second.kept);
    // It goes on, and TERM loses nothing.
    let mut server = server;
    let third = load(&server, 2, || {});
    assert_eq!(third.refused, 0);
    kept.extend(third.kept);
    server.stop();
    assert!(server.all_said().contains("stories stay in the journal"));

    // Back while stories are told.
    let server = third_setup.start();
    let fourth = load(&server, 3, || postgres.launch());
    assert_eq!(fourth.refused, 0);
    kept.extend(fourth.kept);
    replayed(&server);
    until("that all is well", || {
        (0..8).all(|_| state(&server, "status") == "healthy")
    });
    all_are_in_the_database(&postgres, &kept);
    all_are_told(&server, &kept);
    server.get("/api/v1/stories").expect(200);
    let left = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["lock"]);
    eprintln!("{} stories acknowledged, 0 refused, 0 missing", kept.len());
}

#[test]
fn a_database_that_hangs_or_is_killed_refuses_nobody_and_loses_nothing() {
    let mut postgres = Postgres::start();
    let folder = TempDir::new().unwrap();
    let server = serving(on(&postgres.url(), folder.path()));
    let seen = load(&server, 0, || postgres.freeze(true));
    assert_eq!(seen.refused, 0, "of {}", seen.kept.len());
    let mut kept = seen.kept;
    assert!(journal(&server, "records") >= 100);
    postgres.freeze(false);
    replayed(&server);
    all_are_in_the_database(&postgres, &kept);
    // And the next outage is like the first.
    let seen = load(&server, 1, || postgres.kill_9());
    assert_eq!(seen.refused, 0, "of {}", seen.kept.len());
    postgres.launch();
    replayed(&server);
    kept.extend(seen.kept);
    all_are_in_the_database(&postgres, &kept);
}

#[test]
fn a_full_journal_refuses_with_retry_after_and_empties() {
    let mut postgres = Postgres::start();
    let folder = TempDir::new().unwrap();
    let mut kept = Kept::new();
    let fill = |server: &Server, kept: &mut Kept, from: u32| {
        let mut stream = server.connect();
        for n in from.. {
            let body = format!(r#"{{"location":"Cork","length":"long","variation":{n}}}"#);
            let answer = stream.tell(&body);
            match answer.status {
                200 => drop(kept.insert(body, answer.body)),
                503 => {
                    assert!(answer.field("retry-after").is_some(), "{answer:?}");
                    return;
                }
                _ => panic!("{answer:?}"),
            }
        }
    };
    let server = serving(on(&postgres.url(), folder.path()).env("JOURNAL_BYTES_MAX", "1M"));
    postgres.stop();
    fill(&server, &mut kept, 0);
    assert_eq!(journal_state(&server), "full");
    assert!(journal(&server, "bytes") <= 1 << 20 && kept.len() > 50);
    // Then it is of no more use than any pod without its database.
    until("unreadiness", || !ready(&server));
    all_are_told(&server, &kept);
    postgres.launch();
    replayed(&server);
    all_are_in_the_database(&postgres, &kept);
    assert_eq!(journal(&server, "bytes"), 0);
    drop(server);

    // A disk that is full: no file may grow past this.
    let limit = "trap '' XFSZ; exec prlimit --fsize=262144:262144 -- \"$0\" \"$@\"";
    let server = serving(on(&postgres.url(), folder.path()).wrapped(["sh", "-c", limit]));
    postgres.stop();
    fill(&server, &mut kept, 100_000);
    assert_eq!(journal_state(&server), "failing");
    let reason = database(&server)["journal"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("JOURNAL_DIR is full"), "{reason}");
    all_are_told(&server, &kept_in(&server, &kept));
    postgres.launch();
    replayed(&server);
    all_are_in_the_database(&postgres, &kept);
}

/// Those that the server has without its database.
fn kept_in(server: &Server, kept: &Kept) -> Kept {
    let has = |answer: &&Vec<u8>| server.get(&format!("/api/v1/stories/{}", id_of(answer))).status == 200;
    let some = kept.iter().filter(|(_, answer)| has(answer));
    some.map(|(body, answer)| (body.clone(), answer.clone())).collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "journal"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn a_torn_tail_is_cut_off_and_damage_costs_what_it_hits() {
    let mut postgres = Postgres::start();
    let folder = TempDir::new().unwrap();
    let mut server = serving(on(&postgres.url(), folder.path()));
    postgres.stop();
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    for n in 0..30 {
        kept.push((wish(n), server.tell(&wish(n)).expect(200).body));
    }
    server.kill();
    let path = segments(folder.path()).pop().unwrap();
    let mut content = std::fs::read(&path).unwrap();
    // One in the middle, and half a record behind the last.
    let hit = common::http::find(&content, &kept[10].1).unwrap();
    content[hit + 40] ^= 0x20;
    let begin = content[..64].to_vec();
    content.extend_from_slice(&begin);
    std::fs::write(&path, &content).unwrap();
    let damaged = kept.remove(10);
    let kept: Kept = kept.into_iter().collect();
    let server = on(&postgres.url(), folder.path()).start();
    all_are_told(&server, &kept);
    assert_eq!(journal(&server, "damaged_files"), 1);
    let said = server.all_said();
    assert!(
        said.contains("cut off while it was written") && said.contains("set aside"),
        "{said}"
    );
    let path = format!("/api/v1/stories/{}", id_of(&damaged.1));
    assert_eq!(
        server.get(&path).status,
        503,
        "nobody knows whether there is such a story"
    );
    postgres.launch();
    replayed(&server);
    all_are_in_the_database(&postgres, &kept);
    // The hole stays for whoever can make something of it, and health says so until it is taken away.
    assert_eq!(state(&server, "status"), "degraded");
    let holes = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let hole = holes
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "damaged"))
        .unwrap();
    assert!(std::fs::read(hole).unwrap().len() > damaged.1.len());
}

#[test]
fn two_servers_on_one_folder_never_share_it() {
    let mut postgres = Postgres::start();
    let folder = TempDir::new().unwrap();
    let mut first = serving(on(&postgres.url(), folder.path()));
    let second = on(&postgres.url(), folder.path()).start();
    assert_eq!(journal_state(&second), "locked");
    postgres.stop();
    let told = first.tell(&wish(1)).expect(200);
    assert_eq!(second.tell(&wish(2)).status, 503);
    let path = format!("/api/v1/stories/{}", id_of(&told.body));
    assert_eq!(second.get(&path).status, 503);
    // The first one goes as in a rolling update; the second has the folder, and what is in it.
    first.stop();
    until("the folder", || {
        journal_state(&second) == "keeping" || journal_state(&second) == "replaying"
    });
    assert!(second.get(&path).expect(200).body == told.body);
    second.tell(&wish(2)).expect(200);
    postgres.launch();
    replayed(&second);
    assert_eq!(postgres.sql("SELECT count(*) FROM stories"), "2");
}

#[test]
fn a_story_that_another_pod_told_meanwhile_leaves_both_ids_and_no_pod_says_404() {
    let mut postgres = Postgres::start();
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let mut ours = serving(on(&postgres.url(), folders[0].path()));
    postgres.stop();
    let told = ours.tell(&wish(1)).expect(200);
    ours.kill();
    postgres.launch();
    // Another pod, with caches of its own, and an id that is too old to be young.
    let theirs = serving(on(&postgres.url(), folders[1].path()));
    let other = theirs.tell(&wish(1)).expect(200);
    assert_ne!(id_of(&told.body), id_of(&other.body));
    let path = format!("/api/v1/stories/{}", id_of(&told.body));
    assert_eq!(theirs.get(&path).status, 404, "it is on the other pod's disk alone");
    let old = "01800000-0000-7000-8000-000000000001";
    assert_eq!(theirs.get(&format!("/api/v1/stories/{old}")).status, 404);
    let ours = on(&postgres.url(), folders[0].path()).start();
    replayed(&ours);
    postgres.sql(&format!(
        "INSERT INTO stories VALUES ('{old}', sha256('x'), '{{}}', '', 'history', {})",
        0x0180_0000_0000_u64
    ));
    for server in [&theirs, &ours] {
        assert!(server.get(&path).expect(200).body == told.body);
        server.get(&format!("/api/v1/stories/{old}")).expect(200);
    }
    assert!(theirs.tell(&wish(1)).expect(200).body == other.body);
    assert_eq!(postgres.sql("SELECT count(*) FROM stories"), "3");
}

#[test]
fn through_redis_the_other_pods_have_what_one_keeps() {
    let mut postgres = Postgres::start();
    let redis = common::redis::Redis::start();
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let pods = folders.each_ref().map(|folder| {
        let setup = on(&postgres.url(), folder.path()).env("REDIS_URL", &redis.url());
        serving(setup.env("CACHE_BYTES", "0"))
    });
    postgres.stop();
    let told: Kept = (0..10)
        .map(|n| (wish(n), pods[0].tell(&wish(n)).expect(200).body))
        .collect();
    for pod in &pods {
        until("Redis has them", || kept_in(pod, &told).len() == told.len());
        all_are_told(pod, &told);
    }
    assert_eq!(journal(&pods[1], "records"), 0, "each was told once");
    postgres.launch();
    pods.iter().for_each(replayed);
    all_are_in_the_database(&postgres, &told);
    assert_eq!(postgres.sql("SELECT count(*) FROM stories"), "10");
}

#[test]
fn a_folder_that_cannot_be_used_is_said_at_start() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = on("postgresql://nobody@127.0.0.1:1/x", &file)
        .try_start()
        .err()
        .unwrap();
    assert!(
        said.contains("cannot open the journal") && said.contains("remedy"),
        "{said}"
    );
    let said = Setup::new()
        .env("STORE_OUTAGE", "journal")
        .run(&["check"])
        .expect(0)
        .out();
    assert!(said.contains("no effect without DATABASE_URL"), "{said}");
}
