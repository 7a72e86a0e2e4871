//! The store's contract, and that lists are served by their indexes.

use super::*;
use crate::store::contract;
use crate::store::postgres::statements::list_sql;

#[test]
fn it_keeps_what_every_store_promises() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        let stores = [attached(&lent).await, attached(&lent).await, attached(&lent).await];
        contract::keeps_every_promise(&stores).await;
        for store in &stores {
            store.close().await;
            assert_eq!(store.ping().await, Err(StoreError::Closed));
        }
    });
}

#[test]
fn it_keeps_them_without_prepared_statements_and_over_a_unix_socket() {
    let server = Server::start();
    let lent = lent(&format!("{}&statement_cache=off", server.socket_url()));
    run(async move {
        let store = attached(&lent).await;
        contract::keeps_every_promise(&[store]).await;
    });
    assert_eq!(
        server.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SET statement%'"),
        "0"
    );
}

#[test]
fn it_keeps_them_where_transactions_are_serializable() {
    let server = Server::with(&["default_transaction_isolation=serializable"]);
    let lent = lent(&server.url());
    run(async move {
        let stores = [attached(&lent).await, attached(&lent).await];
        contract::the_first_writer_wins(&stores).await;
    });
}

/// Fills the table from the inside: stories of 40 places and of eight usual styles, one a millisecond, and every 500th a
/// comedy. (Where a style is frequent the server rightly walks the primary key and skips the others.)
pub(super) fn fill(server: &Server, rows: u32) {
    server.sql(&format!(
        "INSERT INTO stories SELECT \
            (lpad(to_hex(1600000000000 + n), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid, \
            sha256(n::text::bytea), convert_to(repeat('story ', 100) || n, 'UTF8'), 'place ' || n % 40, \
            CASE WHEN n % 500 = 7 THEN 'comedy' ELSE (ARRAY['adventure','history','mystery','family','romance', \
                'nature','folklore','science'])[n % 8 + 1] END, \
            1600000000000 + n FROM generate_series(1, {rows}) n; ANALYZE stories"
    ));
}

#[test]
fn each_list_is_served_by_its_index() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move { attached(&lent).await.close().await });
    fill(&server, 50_000);
    for (filter, index) in [
        ("", "stories_pkey"),
        ("location_key = 'place 7' AND ", "stories_of_location"),
        ("style = 'comedy' AND ", "stories_of_style"),
        ("location_key = 'place 7' AND style = 'comedy' AND ", "stories_of_both"),
    ] {
        for behind in [
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "0174876e-e1a8-7000-8000-0000000061a8",
        ] {
            let sql = list_sql(filter)
                .replace("$1", &format!("'{behind}'::uuid"))
                .replace("$2", "21");
            // Where ANALYZE's sample makes it expect three rows, the server may rightly collect and sort them; asked is
            // whether the index can be walked.
            let plan = server.sql(&format!("SET enable_bitmapscan = off; EXPLAIN {sql}"));
            assert!(plan.contains(index), "{filter}: {plan}");
            assert!(!plan.contains("Seq Scan"), "{filter}: {plan}");
            // In the index's own order: no sort of more than the page.
            assert!(!plan.contains("Sort Key: stories.id"), "{filter}: {plan}");
        }
    }
}
