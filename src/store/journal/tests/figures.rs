//! What it costs: `cargo test --lib journal::tests::figures -- --ignored --nocapture`.

use super::*;
use std::time::Instant;

#[test]
#[ignore = "a measurement"]
fn figures() {
    const STORIES: u64 = 80_000;
    let dir = tempfile::tempdir().unwrap();
    let statm = || -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let batch =
        |from: u64, size: u64| -> Vec<Record> { (from..from + size).map(|number| told(number, 3000)).collect() };
    {
        let mut journal = open(dir.path(), limits::BYTES_BOUND);
        for size in [1, 8, 64, 256] {
            let rounds = 200;
            let mut spent = Duration::ZERO;
            for round in 0..rounds {
                let records = batch(1_000_000 * size + round * size, size);
                let begun = Instant::now();
                assert!(journal.keep(&records).iter().all(Result::is_ok));
                spent += begun.elapsed();
            }
            let us = spent.as_secs_f64() * 1e6 / rounds as f64;
            println!("a batch of {size}: {us:.0} us, {:.0} stories/s", size as f64 * 1e6 / us);
        }
        for from in (0..STORIES).step_by(256) {
            journal.keep(&batch(from, 256));
        }
    }
    let before = statm();
    let begun = Instant::now();
    let journal = open(dir.path(), limits::BYTES_BOUND);
    let figures = &journal.figures;
    let (records, bytes) = (
        figures.records.load(Ordering::Relaxed),
        figures.bytes.load(Ordering::Relaxed),
    );
    println!(
        "a start with {records} stories, {} MiB: {:?}, {} bytes of memory a story",
        bytes >> 20,
        begun.elapsed(),
        statm().saturating_sub(before) / records
    );
    let begun = Instant::now();
    for number in 0..10_000 {
        assert!(journal.has(&told(number * 7, 3000)));
    }
    println!("a read: {:?}", begun.elapsed() / 10_000);
}
