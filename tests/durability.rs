//! A story answered is a story kept: load, `kill -9` at a random moment, start again, look for every answer.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::{Connection, story_request};
use common::{Setup, on_each_driver, until};
use sonic_rs::{JsonContainerTrait, JsonValueTrait};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 12;

#[test]
fn kill_9_at_any_moment_loses_no_answered_story() {
    let seed = match std::env::var("TEST_SEED") {
        Ok(given) => given.parse().expect("TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("seed: {seed} (TEST_SEED={seed} kills after the same times)");
    let mut random = fastrand::Rng::with_seed(seed);
    on_each_driver(|driver| {
        let folder = TempDir::new().unwrap();
        let mut pauses: Vec<u64> = Vec::new();
        let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
        let mut random = random.clone();
        for round in 0..ROUNDS {
            let mut server = Setup::new().driver(driver).data(folder.path()).start();
            let answered = Mutex::new(Vec::new());
            let addr = server.addr();
            let pause = random.u64(0..400);
            pauses.push(pause);
            std::thread::scope(|scope| {
                for connection in 0..CONNECTIONS {
                    let answered = &answered;
                    scope.spawn(move || {
                        let mut stream = Connection::open(addr);
                        for n in 0u32.. {
                            let variation = (round * CONNECTIONS + connection) as u32 * 100_000 + n;
                            let body = format!(r#"{{"location":"Cork","length":"short","variation":{variation}}}"#);
                            // The kill may come at any point of this.
                            if stream.stream.write_all(story_request(&body).as_bytes()).is_err() {
                                return;
                            }
                            let Ok(answer) = stream.try_read(false) else { return };
                            assert_eq!(answer.status, 200, "{answer:?}");
                            answered.lock().unwrap().push((body, answer.body));
                        }
                    });
                }
                until("answers", || answered.lock().unwrap().len() > 50);
                std::thread::sleep(Duration::from_millis(pause));
                server.kill();
            });
            kept.extend(answered.into_inner().unwrap());
        }
        let mut server = Setup::new().driver(driver).data(folder.path()).start();
        let mut stream = server.connect();
        let mut ids = BTreeSet::new();
        for (body, answer) in &kept {
            let found = stream.tell(body).expect(200);
            assert_eq!(
                found.field("cache-status"),
                Some("roadtrip-api; fwd=miss; detail=store"),
                "lost (seed {seed}, pauses {pauses:?}): {body}"
            );
            assert!(found.body == *answer, "changed (seed {seed}): {body}");
            let story: sonic_rs::Value = sonic_rs::from_slice(answer).unwrap();
            let id = story["id"].as_str().unwrap().to_owned();
            assert!(stream.get(&format!("/api/v1/stories/{id}")).expect(200).body == *answer);
            assert!(ids.insert(id), "an id was given twice");
        }
        // The list has each of them too: its index is as safe as the stories.
        let mut cursor = String::new();
        loop {
            let page = stream
                .get(&format!("/api/v1/stories?limit=100{cursor}"))
                .expect(200)
                .json();
            for story in page["stories"].as_array().unwrap() {
                ids.remove(story["id"].as_str().unwrap());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(
            ids.is_empty(),
            "{} stories are not in the list (seed {seed})",
            ids.len()
        );
        eprintln!(
            "{driver}: {} answered stories, all kept; killed after {pauses:?} ms",
            kept.len()
        );
        server.stop();
    });
    let _ = random.u64(..);
}

#[test]
fn a_full_disk_refuses_stories_and_keeps_those_it_has() {
    // A file that may not grow is as good as a full disk, and needs no file system of its own. SIGXFSZ is ignored in
    // the child by `sh`, so that the write fails as on a full disk instead of killing the process.
    let folder = TempDir::new().unwrap();
    let limit = "trap '' XFSZ; exec prlimit --fsize=4194304:4194304 -- \"$0\" \"$@\"";
    let mut server = Setup::new().data(folder.path()).wrapped(["sh", "-c", limit]).start();
    let mut stream = server.connect();
    let mut kept = Vec::new();
    let mut refused = None;
    for n in 0..20_000 {
        let body = format!(r#"{{"location":"Cork","length":"long","variation":{n}}}"#);
        let answer = stream.tell(&body);
        if answer.status == 200 {
            kept.push((body, answer.body));
        } else {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the file grew past its limit");
    assert!(matches!(refused.status, 503 | 507 | 500), "{refused:?}");
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    assert!(kept.len() > 20, "{}", kept.len());
    // What is there is still told, and health says what is wrong without the process dying.
    let (body, answer) = kept.last().unwrap();
    assert!(stream.tell(body).expect(200).body == *answer);
    stream.get("/health/v2/live").expect(200);
    server.kill();
    let server = Setup::new().data(folder.path()).start();
    let mut stream = server.connect();
    for (body, answer) in &kept {
        assert!(stream.tell(body).expect(200).body == *answer, "{body}");
    }
}
