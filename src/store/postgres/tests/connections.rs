//! Connections that come, go, break and hang.

use super::*;
use crate::runtime::time::sleep;
use crate::store::contract::{record, together};
use crate::story::types::Style;
use std::io::Write;

fn story(number: u64) -> Record {
    record(7_000_000, number, "kyoto", Style::Nature)
}

#[test]
fn a_loaded_worker_needs_few_connections_and_idle_ones_close() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        for round in 0..20 {
            let puts = (0..50).map(|number| store.put(story(round * 50 + number)));
            let gets = (0..200).map(|number| store.get(story(number).id));
            let (puts, gets) = (together(puts.collect()), together(gets.collect()));
            let (puts, gets) = (puts.await, gets.await);
            assert!(puts.iter().all(Result::is_ok) && gets.iter().all(Result::is_ok));
        }
        let open = store.health().connections;
        assert!((1..=6).contains(&open), "{open} connections");
        let health = store.health();
        assert_eq!(health.puts, 1000);
        assert!(health.commits < 500, "puts did not share commits: {}", health.commits);
        assert_eq!((health.put_queue, health.read_queue), (0, 0));
    });
}

#[test]
fn a_pool_of_one_queues_and_refuses() {
    let server = Server::start();
    let mut config = config(&server.url());
    config.pool = PoolSettings {
        size: 1,
        overflow: 0,
        wait: Duration::from_millis(200),
        ..config.pool
    };
    let lent = Opened::Postgres(Postgres::new(&config, 1).unwrap()).lend();
    run(async move {
        let store = attached(&lent).await;
        let all = together((0..3000).map(|number| store.get(story(number).id)).collect()).await;
        let refused = all.iter().filter(|one| **one == Err(StoreError::Overloaded)).count();
        let other = all.iter().filter(
            |one| matches!(one, Err(error) if *error != StoreError::Overloaded && *error != StoreError::Timeout),
        );
        assert_eq!(other.count(), 0);
        assert!(refused > 0, "no bound");
        assert_eq!(store.health().connections, 1);
        store.get(story(1).id).await.unwrap();
    });
}

#[test]
fn a_broken_connection_is_no_error_for_who_asks() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        let end =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'roadtrip-api'";
        for round in 0..10 {
            assert_ne!(server.sql(end), "0", "no connection to end");
            let puts = (0..20).map(|number| store.put(story(round * 20 + number)));
            for outcome in together(puts.collect()).await {
                outcome.unwrap();
            }
        }
        assert_eq!(server.sql("SELECT count(*) FROM stories"), "200");
    });
}

#[test]
fn a_restart_is_ridden_out_and_a_server_that_is_away_is_told() {
    let mut server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        store.put(story(1)).await.unwrap();
        server.stop();
        // In the first moment calls wait for the way back; then they are told at once.
        until("calls are told", async || store.get(story(1).id).await.is_err()).await;
        let error = store.put(story(2)).await.unwrap_err();
        assert!(
            error.retry_after_s().is_some_and(|seconds| (1..=5).contains(&seconds)),
            "{error:?}"
        );
        assert!(error.to_string().contains(&server.port.to_string()), "{error}");
        assert!(!store.health().available);
        server.launch();
        until("it is back", async || store.put(story(2)).await.is_ok()).await;
        assert!(store.get(story(1).id).await.unwrap().is_some());
        store.ping().await.unwrap();
        assert!(store.health().available);
    });
}

#[test]
fn a_server_that_hangs_costs_the_deadline_and_no_connection_is_clogged() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        store.put(story(1)).await.unwrap();
        server.freeze(true);
        let begun = context::precise_now_ns();
        let all = together((0..30).map(|_| store.get(story(1).id)).collect()).await;
        let ms = (context::precise_now_ns() - begun) / 1_000_000;
        assert!(
            all.iter().all(|one| matches!(one, Err(error) if error.is_retryable())),
            "{all:?}"
        );
        assert!(ms < 3 * crate::limits::story::STORE_MS_MAX, "no deadline: {ms} ms");
        server.freeze(false);
        until("it is back", async || store.get(story(1).id).await.is_ok()).await;
        // Calls that are given up at once leave nothing behind either.
        for _ in 0..2000 {
            let given_up = crate::runtime::time::timeout(Duration::ZERO, store.get(story(1).id));
            let _ = given_up.await;
        }
        until("what was given up has been read", async || {
            store.get(story(1).id).await.is_ok() && store.health().read_queue == 0
        })
        .await;
    });
}

#[test]
fn a_server_that_takes_no_writes_is_left_or_told() {
    let server = Server::start();
    let two = Server::start();
    let lent_any = lent(&server.url());
    let url = format!(
        "postgresql://owner@127.0.0.1:{},127.0.0.1:{}/trips?sslmode=disable",
        server.port, two.port
    );
    let lent_both = lent(&url);
    run(async move {
        let any = attached(&lent_any).await;
        let both = attached(&lent_both).await;
        any.put(story(1)).await.unwrap();
        both.put(story(2)).await.unwrap();
        server.sql("ALTER DATABASE trips SET default_transaction_read_only = on");
        let end =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'roadtrip-api'";
        server.sql(end);
        // The one with a choice goes to the other server; the one without reads on.
        both.put(story(3)).await.unwrap();
        assert_eq!(two.sql("SELECT count(*) FROM stories"), "1");
        let error = any.put(story(4)).await.unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        assert!(any.get(story(1).id).await.unwrap().is_some());
        assert!(any.ping().await.is_err() && !any.health().available);
        server.sql("SET transaction_read_only = off; ALTER DATABASE trips RESET default_transaction_read_only");
        server.sql(end);
        // The ping alone finds the way back.
        until("writes are back", async || any.ping().await.is_ok()).await;
        any.put(story(4)).await.unwrap();
        assert_eq!(
            server.sql("SELECT count(*) FROM stories WHERE location_key = ''"),
            "0",
            "the probe left its row"
        );
    });
}

#[test]
fn too_many_connections_and_a_server_away_at_the_start() {
    let mut server = Server::with(&["superuser_reserved_connections=0"]);
    server.sql("CREATE ROLE poor LOGIN CONNECTION LIMIT 1; GRANT ALL ON SCHEMA public TO poor");
    let url = server.url_of("poor", "127.0.0.1", "sslmode=disable");
    let lent = lent(&url);
    server.stop();
    run(async move {
        let first = lent.attach();
        assert!(first.ping().await.is_err(), "nobody is there");
        server.launch();
        until("it is there", async || first.ping().await.is_ok()).await;
        let second = lent.attach();
        until(
            "the limit is told",
            async || matches!(second.ping().await, Err(error) if error.to_string().contains("53300")),
        )
        .await;
        // The one that has a connection goes on with it, whatever the load.
        for outcome in together((0..500).map(|number| first.get(story(number).id)).collect()).await {
            outcome.unwrap();
        }
        first.close().await;
        until("the place is free", async || second.ping().await.is_ok()).await;
    });
}

#[test]
fn old_connections_are_replaced() {
    let server = Server::start();
    let mut config = config(&server.url());
    config.pool.recycle = Duration::from_millis(50);
    let lent = Opened::Postgres(Postgres::new(&config, 1).unwrap()).lend();
    run(async move {
        let store = attached(&lent).await;
        let pid = "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE application_name = 'roadtrip-api'";
        let before = server.sql(pid);
        until("another connection", async || {
            sleep(Duration::from_millis(20)).await;
            store.ping().await.unwrap();
            let now = server.sql(pid);
            !now.is_empty() && now != before
        })
        .await;
    });
}

#[test]
fn a_full_disk_and_transactions_to_be_repeated() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        // The server's own words for both, without a disk that is really full.
        server.sql(
            "CREATE TABLE weather (word text); CREATE SEQUENCE tries; \
             CREATE FUNCTION rain() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF EXISTS (SELECT FROM weather WHERE word = 'full') THEN \
                     RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file'; END IF; \
                 IF EXISTS (SELECT FROM weather WHERE word = 'again') AND nextval('tries') % 2 = 1 THEN \
                     RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = 'again'; END IF; \
                 RETURN NEW; END $$; \
             CREATE TRIGGER rain BEFORE INSERT ON stories FOR EACH STATEMENT EXECUTE FUNCTION rain()",
        );
        server.sql("INSERT INTO weather VALUES ('again')");
        for number in 0..5 {
            store.put(story(number)).await.unwrap();
        }
        assert!(
            server.sql("SELECT last_value FROM tries").parse::<u32>().unwrap() >= 9,
            "nothing was repeated"
        );
        server.sql("UPDATE weather SET word = 'full'");
        let error = store.put(story(9)).await.unwrap_err();
        assert!(
            error.to_string().contains("full") && error.retry_after_s().is_some(),
            "{error}"
        );
        // Told at once while the pause lasts, and by the probe; what is there is still read.
        assert!(store.put(story(10)).await.unwrap_err().is_retryable());
        assert!(store.ping().await.is_err() && !store.health().available);
        assert!(store.get(story(1).id).await.unwrap().is_some());
        server.sql("DELETE FROM weather");
        until("the probe finds the way back", async || store.ping().await.is_ok()).await;
        assert!(store.health().available);
        store.put(story(9)).await.unwrap();
        assert_eq!(
            server.sql("SELECT count(*) FROM stories"),
            "6",
            "the probe takes its row back"
        );
    });
}

#[test]
fn a_database_that_answers_and_has_no_table_for_us_is_not_ready() {
    let server = Server::start();
    let lent = lent(&server.url());
    run(async move {
        let store = attached(&lent).await;
        let said = async || store.ping().await.unwrap_err().to_string();
        server.sql("ALTER TABLE stories RENAME TO elsewhere");
        assert!(said().await.contains("stories is missing"));
        server.sql("ALTER TABLE elsewhere RENAME TO stories");
        store.ping().await.unwrap();
        // A lock is no lack: who waits for it is told so by its own call.
        let locked = server.session(super::server::OWNER, "BEGIN; LOCK TABLE stories");
        let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
        until("it is locked", async || server.sql(locks) == "1").await;
        store.ping().await.unwrap();
        drop(locked);
        server.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON stories, roadtrip_migrations TO reader");
        let reader = self::lent(&server.url_of("reader", "127.0.0.1", "")).attach();
        until("it is told", async || {
            let answer = reader.ping().await;
            assert!(answer.is_err());
            answer.is_err_and(|error| error.to_string().contains("lacks SELECT or INSERT"))
        })
        .await;
        server.sql("GRANT INSERT ON stories TO reader");
        reader.ping().await.unwrap();
    });
}

#[test]
fn a_host_that_swallows_what_it_takes_holds_nobody_up() {
    let server = Server::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "postgresql://owner@127.0.0.1:{},127.0.0.1:{}/trips?sslmode=disable&connect_timeout=120",
        silent.local_addr().unwrap().port(),
        server.port
    );
    let lent = lent(&url);
    run(async move {
        // Far below the time that is configured for the first.
        attached(&lent).await.put(story(1)).await.unwrap();
    });
}

#[test]
fn what_is_no_server_and_never_ends_is_not_kept_in_memory() {
    let endless = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://u@{}/x?sslmode=disable", endless.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in endless.incoming() {
            let mut stream = stream.unwrap();
            // An authentication request of two gigabytes.
            let mut sent = stream.write(b"R\x7f\xff\xff\xff").unwrap_or(0);
            while let Ok(bytes @ 1..) = stream.write(&[7; 65536]) {
                sent += bytes;
            }
            let _ = tell.send(sent);
        }
    });
    run(async move {
        let store = lent(&url).attach();
        until("it is told", async || {
            let said = store.ping().await.unwrap_err().to_string();
            said.contains("more than a greeting")
        })
        .await;
        store.close().await;
    });
    // Most of it lay in the sockets' buffers.
    let sent = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(sent < 32 << 20, "{sent}");
}

#[test]
fn what_comes_first_of_attempts_and_what_they_all_say() {
    use super::super::connect::first_of;
    run(async {
        let tried = std::cell::RefCell::new(Vec::new());
        let attempt = async |at: usize| {
            tried.borrow_mut().push(at);
            match at {
                0 => std::future::pending().await,
                1 => Err("no".to_owned()),
                _ => Ok(at),
            }
        };
        assert_eq!(first_of(3, attempt).await, Ok(2));
        assert_eq!(*tried.borrow(), [0, 1, 2]);
        // One that hangs is tried beside itself, and what is refused is said once.
        let begun = Cell::new(0);
        let attempt = async |_: usize| {
            begun.set(begun.get() + 1);
            match begun.get() {
                1 => {
                    sleep(Duration::from_millis(4 * limits::AGAIN_MS)).await;
                    Err("late".to_owned())
                }
                2 => std::future::pending::<Result<(), String>>().await,
                _ => Err("again".to_owned()),
            }
        };
        assert_eq!(
            first_of(1, attempt).await,
            Err(vec!["again".to_owned(), "late".to_owned()])
        );
        assert!(begun.get() >= 3);
        assert_eq!(first_of(0, async |_: usize| Ok(())).await, Err(Vec::new()));
    });
}
