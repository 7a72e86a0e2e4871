//! The server behind a real PgBouncer, in session and in transaction mode.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::postgres::{OWNER, Postgres, free_port, give_away, program, unprivileged};
use common::{Server, Setup, until};
use sonic_rs::JsonValueTrait;
use std::process::{Child, Command, Stdio};

/// A running PgBouncer; ended when dropped.
struct Bouncer {
    port: u16,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Bouncer {
    /// Before that database, with so many connections to it.
    fn start(database: &Postgres, mode: &str, size: u32) -> Bouncer {
        let dir = tempfile::TempDir::new().unwrap();
        let port = free_port();
        let more = if knows_statements() {
            "max_prepared_statements = 100"
        } else {
            ""
        };
        let ini = format!(
            "[databases]\ntrips = host={} port={} dbname=trips\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir = \nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n\
             default_pool_size = {size}\nmax_client_conn = 200\n{more}\n",
            database.folder().display(),
            database.port,
            dir.path().join("users").display(),
        );
        std::fs::write(dir.path().join("ini"), ini).unwrap();
        std::fs::write(dir.path().join("users"), format!("\"{OWNER}\" \"\"\n")).unwrap();
        give_away(dir.path());
        let mut bouncer = Bouncer { port, dir, child: None };
        bouncer.launch();
        bouncer
    }

    fn launch(&mut self) {
        let mut command = unprivileged(&program("pgbouncer"));
        command.arg("-q").arg(self.dir.path().join("ini")).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        until("PgBouncer listens", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn url(&self, query: &str) -> String {
        format!(
            "postgresql://{OWNER}@127.0.0.1:{}/trips?sslmode=disable{query}",
            self.port
        )
    }

    /// What psql prints, through this.
    fn sql(&self, sql: &str) -> String {
        let ran = Command::new(program("psql"))
            .args(["-X", "-q", "-t", "-A", "-c", sql, &self.url("")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// From 1.21 on it follows statements that are prepared by the protocol.
fn knows_statements() -> bool {
    let ran = Command::new(program("pgbouncer")).arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let version = said.lines().next().and_then(|line| line.strip_prefix("PgBouncer "));
    let mut numbers = version
        .expect("a version")
        .split('.')
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (1u32, 21u32)
}

fn on(url: &str) -> Setup {
    Setup::new().env("DATABASE_URL", url).env("WORKERS", "2")
}

fn started(setup: Setup) -> Server {
    let server = setup.start();
    until("readiness", || {
        (0..8).all(|_| server.get("/health/v2/ready").status == 200)
    });
    server
}

fn pooled(server: &Server) -> u64 {
    let status = server.json("/health/v2/status");
    status["components"]["database"]["pool"]["pooled"].as_u64().unwrap()
}

/// New stories, told at the same time on some connections of each of these; then each found by id by all, and in a list.
fn tell_and_find(servers: &[Server], round: u32) {
    let stories: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let server = &servers[thread % servers.len()];
                scope.spawn(move || {
                    let mut stream = server.connect();
                    let tell = |n: usize| {
                        let variation = round as usize * 10_000 + thread * 100 + n;
                        let body = format!(r#"{{"location":"Cork","style":"comedy","variation":{variation}}}"#);
                        stream.tell(&body).expect(200).body
                    };
                    (0..25).map(tell).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for (at, story) in stories.iter().enumerate() {
        let parsed: sonic_rs::Value = sonic_rs::from_slice(story).unwrap();
        let path = format!("/api/v1/stories/{}", parsed["id"].as_str().unwrap());
        let found = servers[at % servers.len()].get(&path).expect(200);
        assert_eq!(found.body, *story);
    }
    for query in [
        "location=cork",
        "style=comedy",
        "location=cork&style=comedy&limit=7",
        "limit=100",
    ] {
        for server in servers {
            let list = server.get(&format!("/api/v1/stories?{query}")).expect(200);
            assert!(list.text().contains("Cork"), "{query}");
        }
    }
}

#[test]
fn in_transaction_mode_pods_share_few_sessions_and_leave_nothing_in_them() {
    let database = Postgres::start();
    let mut bouncer = Bouncer::start(&database, "transaction", 2);
    let url = bouncer.url("");
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| on(&url).run(&["migrate"]).expect(0));
        }
    });
    let servers = [(); 2].map(|()| started(on(&url).env("CACHE_BYTES", "0")));
    tell_and_find(&servers, 0);
    assert_eq!(database.sql("SELECT count(*) FROM stories"), "200");
    assert!(
        servers.iter().any(|server| pooled(server) > 0),
        "the pooler was not noticed"
    );
    for server in &servers {
        assert!(server.all_said().contains("a pooler stands before PostgreSQL"));
    }
    // Nothing of ours is left in a session that others get.
    for _ in 0..4 {
        assert_eq!(bouncer.sql("SELECT count(*) FROM pg_prepared_statements"), "0");
        for (setting, usual) in [
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("plan_cache_mode", "auto"),
        ] {
            assert_eq!(bouncer.sql(&format!("SHOW {setting}")), usual, "{setting}");
        }
    }
    // The pooler goes and comes.
    bouncer.kill();
    until("a 503", || servers[0].tell(r#"{"location":"Oslo"}"#).status == 503);
    bouncer.launch();
    until("the way back", || {
        servers[0].tell(r#"{"location":"Oslo"}"#).status == 200
    });
    // What the database itself did not get, it does not know: `options` comes to PgBouncer first.
    let said = on(&bouncer.url("&options=-c%20work_mem%3D8MB")).run(&["migrate", "status", "--wait", "0"]);
    if !knows_statements() {
        assert!(said.expect(69).err().contains("options"));
    }
}

#[test]
fn in_transaction_mode_prepared_statements_are_the_operators_word() {
    let database = Postgres::start();
    let bouncer = Bouncer::start(&database, "transaction", 1);
    let url = bouncer.url("&statement_cache=on");
    on(&url).run(&["migrate"]).expect(0);
    if knows_statements() {
        let servers = [(); 2].map(|()| started(on(&url).env("CACHE_BYTES", "0")));
        return tell_and_find(&servers, 0);
    }
    // Two processes give equal names to their statements, and share one session.
    let first = started(on(&url).env("CACHE_BYTES", "0").env("WORKERS", "1"));
    for place in ["Cork", "Oslo", "Bern"] {
        first.tell(&format!(r#"{{"location":"{place}"}}"#)).expect(200);
        first.get("/api/v1/stories?location=cork").expect(200);
    }
    let second = on(&url).env("CACHE_BYTES", "0").env("WORKERS", "1").start();
    until("the remedy is told", || {
        second.tell(r#"{"location":"Rome"}"#);
        second
            .all_said()
            .contains("DATABASE_URL must not have statement_cache=on")
            || second.get("/health/v2/status").text().contains("statement_cache=on")
    });
}

#[test]
fn in_session_mode_everything_works_and_statements_may_be_prepared() {
    let database = Postgres::start();
    let bouncer = Bouncer::start(&database, "session", 20);
    for (round, query) in ["", "&statement_cache=on", "&statement_cache=off"].iter().enumerate() {
        let servers = [started(on(&bouncer.url(query)).env("CACHE_BYTES", "0"))];
        tell_and_find(&servers, round as u32);
        assert!(pooled(&servers[0]) > 0, "{query}");
    }
    assert_eq!(database.sql("SELECT count(*) FROM stories"), "600");
    // Without a pooler nothing is noticed.
    let direct = started(on(&database.url()));
    assert_eq!(pooled(&direct), 0);
    assert!(!direct.all_said().contains("pooler"), "{}", direct.all_said());
}
