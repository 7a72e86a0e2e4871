//! kill -9 at any moment loses no answered story: a child process keeps stories and says which were answered.

use super::*;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;

/// Set for the child alone: the folder to keep stories in, and the round.
const DIR: &str = "ROADTRIP_TEST_CRASH_DIR";
const ROUND: &str = "ROADTRIP_TEST_CRASH_ROUND";

/// Does nothing unless started by the test below.
#[test]
fn child() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else {
        return;
    };
    let round: u64 = round.parse().unwrap();
    let store = open(std::path::Path::new(&dir));
    let number = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (client, number) = (store.client(), &number);
            scope.spawn(move || {
                loop {
                    let number = number.fetch_add(1, Ordering::Relaxed);
                    let told = long_record(round, number);
                    block_on(client.put(told)).unwrap();
                    // One write, so lines of the four do not mix.
                    let line = format!("kept {round} {number} .\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// 1 to 9 KiB, from round and number alone.
fn long_record(round: u64, number: u64) -> Record {
    let mut told = record(1_700_000_000_000 + round, number, "rome", Style::History);
    let bytes = 1024 + (number.wrapping_mul(2_654_435_761) % 8192) as usize;
    while told.json.len() < bytes {
        told.json.extend_from_slice(told.id.as_bytes());
    }
    told
}

#[test]
fn killed_at_any_moment_loses_no_answered_story() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered = BTreeSet::new();
    let mut opened_ms_max = 0;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::embedded::tests::crash::child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(DIR, dir.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(0..300)));
        // SIGKILL.
        child.kill().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        for line in said.lines() {
            if let ["kept", round, number, "."] = *line.split(' ').collect::<Vec<_>>() {
                answered.insert((round.parse::<u64>().unwrap(), number.parse::<u64>().unwrap()));
            }
        }

        let begin = Instant::now();
        let store = open(dir.path());
        opened_ms_max = opened_ms_max.max(ms_since(begin));
        let client = store.client();
        for (round, number) in &answered {
            let told = long_record(*round, *number);
            let kept = block_on(client.find(told.key)).unwrap();
            assert_eq!(
                kept.map(|kept| kept.json),
                Some(told.json),
                "seed {seed}: {round} {number}"
            );
        }
        // Every table agrees with every other.
        for filter in [
            Filter::default(),
            Filter {
                location: Some("rome".to_owned()),
                style: Some(Style::History),
            },
        ] {
            let mut listed = 0;
            let mut cursor = None;
            loop {
                let page = block_on(client.list(filter.clone(), cursor, 100)).unwrap();
                listed += page.items.len();
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(client.health().stories, listed as u64, "seed {seed}");
        }
        close(store);
    }
    assert!(answered.len() > 50, "the children did work: {} stories", answered.len());
    println!(
        "{} answered stories, slowest opening {opened_ms_max} ms",
        answered.len()
    );
}
