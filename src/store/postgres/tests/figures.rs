//! Figures, printed and not judged: `cargo test --lib postgres::tests::figures -- --ignored --nocapture`.

use super::promises::fill;
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
        let statements = statements::Statements::new(true);
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

/// Pages of a million rows.
#[test]
#[ignore = "a measurement; a minute, and a gigabyte of disk"]
fn pages_of_a_million_rows() {
    let server = Server::with(&["fsync=off"]);
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        fill(&server, 1_000_000);
        // The clock of this runtime stood still meanwhile.
        until("it answers again", async || store.ping().await.is_ok()).await;
        let filters = [
            Filter::default(),
            Filter {
                location: Some("place 7".to_owned()),
                style: None,
            },
            Filter {
                location: None,
                style: Some(Style::Comedy),
            },
            Filter {
                location: Some("place 7".to_owned()),
                style: Some(Style::Comedy),
            },
        ];
        for filter in filters {
            for depth in [0, 20] {
                let mut cursor = None;
                for _ in 0..depth {
                    cursor = store.list(filter.clone(), cursor, 20).await.unwrap().next.or(cursor);
                }
                let mut us: Vec<u128> = Vec::new();
                for _ in 0..200 {
                    let begun = std::time::Instant::now();
                    assert_eq!(store.list(filter.clone(), cursor, 20).await.unwrap().items.len(), 20);
                    us.push(begun.elapsed().as_micros());
                }
                us.sort_unstable();
                println!("page {depth} of {filter:?}: median {} us, p99 {} us", us[100], us[198]);
            }
        }
    });
}
