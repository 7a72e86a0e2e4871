//! Figures, printed and not judged: `cargo test --lib postgres::tests::figures -- --ignored --nocapture`.

use super::promises::{aside, fill};
use super::*;
use crate::store::contract::{record, together};
use crate::store::postgres::statements::Columns;
use crate::story::types::Style;

/// Puts of one moment: in one statement, or one statement each on one connection.
#[test]
#[ignore = "a measurement"]
fn one_statement_for_many_puts_or_one_each() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        attached(&lent).await.close().await;
        let Lent::Postgres(postgres) = &lent else { return };
        let session = postgres.session().await.unwrap();
        let client = session.client().unwrap();
        let statements = statements::Statements::new(true, observe::Observer::default());
        for width in [1, 8, 64, 256] {
            let records: Vec<Record> = (0..width)
                .map(|number| Record {
                    json: vec![b'x'; 3000],
                    ..record(9_000_000 + width, number, "a", Style::Science)
                })
                .collect();
            let begun = std::time::Instant::now();
            let columns = Columns::of(&records);
            statements.run(client, Query::Put, &columns.parameters()).await.unwrap();
            let together_us = begun.elapsed().as_micros();
            server.sql("TRUNCATE stories");
            let each: Vec<Columns<'_>> = records.iter().map(|one| Columns::of([one])).collect();
            let parameters: Vec<_> = each.iter().map(Columns::parameters).collect();
            let begun = std::time::Instant::now();
            let puts = parameters.iter().map(|one| statements.run(client, Query::Put, one));
            for outcome in together(puts.collect()).await {
                outcome.unwrap();
            }
            let each_us = begun.elapsed().as_micros();
            server.sql("TRUNCATE stories");
            println!("{width} puts: {together_us} us in one statement, {each_us} us pipelined one by one");
        }
    });
}

/// Nanoseconds that a task has waited for a CPU, from schedstat (Documentation/scheduler/sched-stats in Linux).
fn waited_ns(schedstat: &str) -> u64 {
    let text = std::fs::read_to_string(schedstat).unwrap_or_default();
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// One page at a time of a million stories: first pages, pages anywhere, and the last, with each filter; just after the
/// load, and when the server has tidied up behind it. Beside the times stands what is left of them without the time
/// that the server's process or this thread waited for a CPU: on a machine with other work the difference is the tail.
#[test]
#[ignore = "a measurement; a minute, and a gigabyte of disk"]
fn pages_of_a_million_rows() {
    const ROWS: u32 = 1_000_000;
    const PAGES: usize = 1000;
    let server = std::sync::Arc::new(Server::with(&["fsync=off", "autovacuum=off"]));
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        aside(&server, |server| fill(server, ROWS)).await;
        let filter = |location: Option<&str>, style| Filter {
            location: location.map(str::to_owned),
            style,
        };
        let filters = [
            filter(None, None),
            filter(Some("place 7"), None),
            filter(Some("once"), None),
            filter(None, Some(Style::Comedy)),
            filter(None, Some(Style::Mystery)),
            filter(Some("place 7"), Some(Style::Comedy)),
        ];
        let at = |n: u64| Cursor::after(Uuid::from_u128(u128::from(1_600_000_000_000 + n) << 80));
        for state in ["just loaded", "vacuumed and analysed"] {
            if state != "just loaded" {
                aside(&server, |server| drop(server.sql("VACUUM ANALYZE stories"))).await;
            }
            for filter in &filters {
                for place in ["first", "any", "last"] {
                    store.list(filter.clone(), None, 20).await.unwrap();
                    let pid = server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'roadtrip-api'");
                    let backend = format!("/proc/{pid}/schedstat");
                    let waited = || waited_ns(&backend) + waited_ns("/proc/thread-self/schedstat");
                    let (mut all, mut without) = (Vec::new(), Vec::new());
                    for _ in 0..PAGES {
                        let cursor = match place {
                            "first" => None,
                            "any" => Some(at(context::random(|rng| rng.u64(..u64::from(ROWS))))),
                            _ => Some(at(30)),
                        };
                        let (before, begun) = (waited(), std::time::Instant::now());
                        store.list(filter.clone(), cursor, 20).await.unwrap();
                        let us = u64::try_from(begun.elapsed().as_micros()).unwrap();
                        all.push(us);
                        without.push(us.saturating_sub((waited() - before) / 1000));
                    }
                    all.sort_unstable();
                    without.sort_unstable();
                    println!(
                        "{state}: {place} page, {:?} {:?}: median {} us, p99 {} us, most {} us; without waits for a CPU p99 {} us",
                        filter.location,
                        filter.style,
                        all[PAGES / 2],
                        all[PAGES * 99 / 100],
                        all[PAGES - 1],
                        without[PAGES * 99 / 100]
                    );
                }
            }
        }
    });
}
