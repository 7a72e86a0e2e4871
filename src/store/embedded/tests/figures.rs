//! Figures, not verdicts: run with `--ignored --nocapture`.

use super::*;
use std::process::{Command, Stdio};

const DIR: &str = "ROADTRIP_TEST_FIGURES_DIR";
const STORY_BYTES: usize = 3000;

fn sized_record(number: u64) -> Record {
    let mut told = record(1_700_000_000_000 + number / 10, number, "rome", Style::History);
    told.location_key = format!("place {}", number % 5000);
    told.json.resize(STORY_BYTES, b'x');
    told
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Keeps `count` stories from `clients` threads that each wait for their answer; sorted latencies.
fn keep(store: &Embedded, clients: u64, first: u64, count: u64) -> Vec<Duration> {
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let client = store.client();
                scope.spawn(move || {
                    let mut taken = Vec::new();
                    for story in (first + number..first + count).step_by(clients as usize) {
                        let begin = Instant::now();
                        block_on(client.put(sized_record(story))).unwrap();
                        taken.push(begin.elapsed());
                    }
                    taken
                })
            })
            .collect();
        for thread in threads {
            all.extend(thread.join().unwrap());
        }
    });
    all.sort();
    all
}

#[test]
#[ignore = "figures"]
fn puts_by_waiting_clients() {
    for clients in [1, 16, 64, 256] {
        let dir = tempfile::tempdir_in(".").unwrap();
        let store = open(dir.path());
        let count = 100 * clients;
        let begin = Instant::now();
        let taken = keep(&store, clients, 0, count);
        let seconds = begin.elapsed().as_secs_f64();
        let health = store.client().health();
        println!(
            "{clients} clients: {:.0} puts/s, p50 {:?}, p99 {:?}, {:.1} puts a commit, file {} KiB for {count}, RSS {} KiB",
            count as f64 / seconds,
            taken[taken.len() / 2],
            taken[taken.len() * 99 / 100],
            health.puts as f64 / health.commits as f64,
            health.file_bytes / 1024,
            rss_kib(),
        );
        close(store);
    }
}

/// Fills a store and dies without closing it, when started by the test below.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let store = open(std::path::Path::new(&dir));
    keep(&store, 256, 0, 100_000);
    std::process::abort();
}

#[test]
#[ignore = "figures"]
fn opening_after_a_kill_with_100k_stories() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let before = rss_kib();
    let begin = Instant::now();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::embedded::tests::figures::child"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    println!("filled in {:?}: {ended}", begin.elapsed());
    let begin = Instant::now();
    let store = open(dir.path());
    println!(
        "open after the kill: {:?}, RSS {} -> {} KiB",
        begin.elapsed(),
        before,
        rss_kib()
    );
    let client = store.client();
    println!("{:?}", client.health());
    let mut taken = keep(&store, 1, 1_000_000, 100);
    println!("lone put at 100k: p50 {:?}, p99 {:?}", taken[50], taken[99]);
    taken.clear();
    for number in 0..2000 {
        let begin = Instant::now();
        block_on(client.get(sized_record(number * 49).id)).unwrap().unwrap();
        taken.push(begin.elapsed());
    }
    taken.sort();
    println!(
        "get: p50 {:?}, p99 {:?}; RSS {} KiB",
        taken[1000],
        taken[1980],
        rss_kib()
    );
    let begin = Instant::now();
    let filter = Filter {
        location: Some("place 17".to_owned()),
        style: None,
    };
    let page = block_on(client.list(filter, None, 20)).unwrap();
    println!("page of {} by place: {:?}", page.items.len(), begin.elapsed());
    close(store);
    let begin = Instant::now();
    let store = open(dir.path());
    println!("open after closing: {:?}", begin.elapsed());
    close(store);
    // What the same file would take without the allocator's state in each commit.
    let path = dir.path().join(open::FILE_NAME);
    let begin = Instant::now();
    let database = redb::Builder::new()
        .set_check_integrity_on_open(true)
        .open(&path)
        .unwrap();
    println!("a walk through the whole file: {:?}", begin.elapsed());
    drop(database);
}
