//! The store's contract, and that lists are served by their indexes.

use super::*;
use crate::store::contract;
use crate::story::types::Style;

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

/// Fills the table from the inside, one story a millisecond: of 40 places, and of eight usual styles, and every 500th a
/// comedy.
///
/// But the oldest quarter is half of mysteries at a place called `once`, and there was none of either since. By the
/// statistics both are frequent; who walks back in time to find them passes three quarters of the table.
pub(super) fn fill(server: &Server, rows: u32) {
    server.sql(&format!(
        "INSERT INTO stories SELECT \
            (lpad(to_hex(1600000000000 + n), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid, \
            sha256(n::text::bytea), convert_to(repeat('story ', 100) || n, 'UTF8'), \
            CASE WHEN n < {rows} / 4 AND n % 2 = 0 THEN 'once' ELSE 'place ' || n % 40 END, \
            CASE WHEN n < {rows} / 4 AND n % 2 = 0 THEN 'mystery' WHEN n % 500 = 7 THEN 'comedy' \
                ELSE (ARRAY['adventure','history','family','romance','nature','folklore','science'])[n % 7 + 1] END, \
            1600000000000 + n FROM generate_series(1, {rows}) n"
    ));
}

/// Does what takes long on a thread of its own, so that this runtime's clock and connections go on meanwhile.
pub(super) async fn aside(server: &Arc<Server>, work: impl FnOnce(&Server) + Send + 'static) {
    let server = Arc::clone(server);
    let thread = std::thread::spawn(move || work(&server));
    while !thread.is_finished() {
        crate::runtime::time::sleep(Duration::from_millis(10)).await;
    }
    thread.join().unwrap();
}

/// EXPLAIN (ANALYZE, BUFFERS) of a page, through the very statement that the store has prepared and used.
pub(super) async fn explained(store: &Store, filter: &Filter, behind: Uuid, limit: usize) -> String {
    let Store::Postgres(client) = store else {
        panic!("no PostgreSQL")
    };
    let query = statements::list_query(filter);
    let sql = query.sql().replace('\'', "''");
    let mut values = vec![format!("'{behind}'"), (limit + 1).to_string()];
    values.extend(filter.location.iter().map(|location| format!("'{location}'")));
    values.extend(filter.style.iter().map(|style| format!("'{}'", style.as_str())));
    let run = client.0.pool.run(Kind::Read, async |connection| {
        let client = connection.client()?;
        let name = format!("SELECT name FROM pg_prepared_statements WHERE statement = '{sql}'");
        let name = first_columns(&client.simple_query(&name).await?).join("");
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS) EXECUTE {name}({})", values.join(", "));
        Ok(first_columns(&client.simple_query(&explain).await?).join("\n"))
    });
    run.await.unwrap()
}

fn first_columns(messages: &[tokio_postgres::SimpleQueryMessage]) -> Vec<String> {
    let text = |message: &tokio_postgres::SimpleQueryMessage| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    messages.iter().filter_map(text).collect()
}

/// Buffers that a plan read, from memory or not; those of planning aside.
pub(super) fn buffers(plan: &str) -> u64 {
    let line = plan.lines().find(|line| line.contains("Buffers:")).expect("no buffers");
    let of = |name: &str| {
        let (_, behind) = line.split_once(name)?;
        behind.split(' ').next()?.parse::<u64>().ok()
    };
    of("hit=").unwrap_or(0) + of("read=").unwrap_or(0)
}

#[test]
fn each_page_is_one_short_walk_in_its_index() {
    const ROWS: u32 = 60_000;
    let server = Arc::new(Server::start());
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        // Prepared and planned while the table is empty.
        let places = [None, Some("place 7"), Some("once"), Some("nowhere")];
        let styles = [None, Some(Style::Comedy), Some(Style::Mystery), Some(Style::Adventure)];
        let filters = places.iter().flat_map(|place| {
            let filter = |style: &Option<Style>| Filter {
                location: place.map(str::to_owned),
                style: *style,
            };
            styles.iter().map(filter)
        });
        let filters: Vec<Filter> = filters.collect();
        server.sql("ALTER TABLE stories SET (autovacuum_enabled = off)");
        for filter in &filters {
            assert_eq!(store.list(filter.clone(), None, 20).await, Ok(Page::default()));
        }
        aside(&server, |server| fill(server, ROWS)).await;
        let at = |n: u64| Uuid::from_u128(u128::from(1_600_000_000_000 + n) << 80);
        for (filter, limit) in filters.iter().flat_map(|filter| [(filter, 20), (filter, 100)]) {
            check(&store, filter, at(u64::from(ROWS) / 2), at(10), limit).await;
        }
        aside(&server, |server| drop(server.sql("ANALYZE stories"))).await;
        for (filter, limit) in filters.iter().flat_map(|filter| [(filter, 20), (filter, 100)]) {
            check(&store, filter, at(u64::from(ROWS) / 2), at(10), limit).await;
        }
    });
}

/// The first page, one in the middle, one at the end, and one behind it.
async fn check(store: &Store, filter: &Filter, middle: Uuid, nearly_the_oldest: Uuid, limit: usize) {
    let index = match (&filter.location, filter.style) {
        (None, None) => "stories_pkey",
        (Some(_), None) => "stories_of_location",
        (None, Some(_)) => "stories_of_style",
        (Some(_), Some(_)) => "stories_of_both",
    };
    for behind in [Uuid::max(), middle, nearly_the_oldest, Uuid::nil()] {
        let plan = explained(store, filter, behind, limit).await;
        let what = format!("{filter:?}, {limit} behind {behind}: {plan}");
        assert!(plan.contains(&format!("using {index} ")), "{what}");
        for unwanted in ["Seq Scan", "Bitmap", "Sort", "Rows Removed by Filter"] {
            assert!(!plan.contains(unwanted), "{unwanted}: {what}");
        }
        // A page of heap and a leaf of the index a story, and the way down to the first.
        assert!(buffers(&plan) <= 2 * (limit as u64 + 1) + 12, "{what}");
        assert!(plan.contains("$1"), "planned anew: {what}");
    }
}
