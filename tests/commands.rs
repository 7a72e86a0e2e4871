//! The command line, what the environment may say, and how many workers there are.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Server, Setup};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::collections::BTreeSet;

#[test]
fn help_names_every_command_and_every_variable() {
    let said = Setup::new().run(&["--help"]).expect(0).out();
    for command in ["serve", "check", "migrate", "openapi", "healthcheck"] {
        assert!(said.contains(command), "{command} is missing: {said}");
    }
    let said = Setup::new().run(&["help", "serve"]).expect(0).out();
    for variable in roadtrip_api::config::VARIABLES {
        assert!(said.contains(variable.name), "{} is missing", variable.name);
    }
    let said = Setup::new().run(&["--version"]).expect(0).out();
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    let said = Setup::new().run(&["dance"]);
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(said.err().contains("dance"));
}

#[test]
fn help_into_a_closed_pipe_is_no_panic() {
    for args in ["--help", "openapi", "check", "help serve"] {
        let line = format!("{} {args} 2>&1 >&- | cat", common::BINARY);
        let said = common::tools::run("sh", &["-c", &line]).out();
        assert!(!said.contains("panicked"), "{args}: {said}");
    }
}

#[test]
fn check_says_what_would_hold_and_starts_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().join("not-made");
    let setup = Setup::new().data(&data).env("PORT", "4321").env("WORKERS", "4000000");
    let refused = setup.run(&["check"]).expect(78);
    assert!(refused.err().contains("WORKERS"));
    let said = Setup::new()
        .data(&data)
        .env("PORT", "4321")
        .env("WORKERS", "1000")
        .run(&["check"])
        .expect(0)
        .out();
    for part in [
        "PORT=4321",
        "WORKERS=1000",
        "workers: ",
        "driver: ",
        "warning: WORKERS=1000 is more than",
    ] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(said.contains(&format!("DATA_DIR={}", data.display())));
    assert!(!data.exists(), "check made the folder");
    let said = Setup::new()
        .env("ADMIN_TOKEN", "a-very-secret-token")
        .run(&["check"])
        .expect(0);
    assert!(!said.out().contains("a-very-secret-token") && !said.err().contains("a-very-secret-token"));
}

#[test]
fn check_finds_the_files_that_a_start_would_miss() {
    let missing = [
        (
            "DATABASE_URL",
            "postgresql://u:s3cret@127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/missing.pem",
        ),
        ("REDIS_URL", "rediss://:s3cret@127.0.0.1:1/0?ssl_ca_certs=/missing.pem"),
    ];
    for (name, url) in missing {
        let said = Setup::new().env(name, url).run(&["check"]).expect(1).err();
        assert!(
            said.contains("/missing.pem") && said.contains(name) && !said.contains("s3cret"),
            "{said}"
        );
        let (url, _) = url.split_once('?').unwrap();
        Setup::new().env(name, url).run(&["check"]).expect(0);
    }
}

#[test]
fn the_description_is_the_same_from_the_command_and_from_the_server() {
    let said = Setup::new().run(&["openapi"]).expect(0);
    let described: Value = sonic_rs::from_slice(&said.stdout).unwrap();
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
    let server = Server::start();
    assert_eq!(server.get("/openapi.json").expect(200).text().trim(), said.out().trim());
    let page = server.get("/docs").expect(200);
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    // Every path that is described is served, with the methods described and no others.
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "018f0000-0000-7000-8000-000000000000");
        let mut stream = server.connect();
        stream.send(format!("OPTIONS {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
        let allow = stream.read().expect(204).field("allow").unwrap().to_owned();
        let served: BTreeSet<String> = allow.split(", ").map(str::to_lowercase).collect();
        for method in ["get", "post", "put", "delete", "patch"] {
            let said = methods.as_object().unwrap().get(&method).is_some();
            assert_eq!(served.contains(method), said, "{method} {path}: {allow}");
        }
    }
}

#[test]
fn healthcheck_tells_by_its_exit_code() {
    let mut server = Server::start();
    let port = server.port.to_string();
    let ask = |args: &[&str]| Setup::new().env("PORT", &port).run(&[&["healthcheck"], args].concat());
    assert_eq!(ask(&[]).status.code(), Some(0));
    assert_eq!(ask(&["--path", "/health/v2/live"]).status.code(), Some(0));
    let missing = ask(&["--path", "/nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.err().contains("404"), "{missing:?}");
    server.stop();
    let gone = ask(&[]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(gone.err().contains(&port), "{gone:?}");
}

#[test]
fn all_faults_of_the_environment_are_told_at_once() {
    let ran = Setup::new()
        .env("PORT", "eighty")
        .env("WORKERS", "0")
        .env("PIN", "sometimes")
        .env("IO_DRIVER", "kqueue")
        .env("KEEP_ALIVE", "-1")
        .env("CACHE_BYTES", "lots")
        .env("LOG_LEVEL", "loud")
        .env("ADMIN_TOKEN", "short-secret")
        .run(&["serve"])
        .expect(78);
    let said = ran.err();
    for variable in [
        "PORT",
        "WORKERS",
        "PIN",
        "IO_DRIVER",
        "KEEP_ALIVE",
        "CACHE_BYTES",
        "LOG_LEVEL",
        "ADMIN_TOKEN",
    ] {
        assert!(said.contains(variable), "{variable} is missing: {said}");
    }
    assert!(!said.contains("short-secret"), "a secret is shown: {said}");
    assert!(said.lines().count() <= 24);
}

#[test]
fn production_demands_its_backends_by_name_and_without_secrets() {
    // Files that the database's URL names are read before anything is served.
    let url = "postgresql://u:hunter2@db/x?sslmode=verify-full&sslrootcert=/no/such/ca.pem";
    let ran = Setup::new().env("DATABASE_URL", url).run(&["serve"]).expect(69);
    let said = format!("{}{}", ran.out(), ran.err());
    for part in ["DATABASE_URL", "/no/such/ca.pem", "Remedy"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    let ran = Setup::new().env("ENVIRONMENT", "production").run(&["serve"]).expect(78);
    assert!(
        ran.err().contains("DATABASE_URL") && ran.err().contains("REDIS_URL"),
        "{ran:?}"
    );
}

#[test]
fn a_folder_that_cannot_be_used_is_told_with_its_remedy() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let ran = Setup::new().data(&file).run(&["serve"]);
    assert!(matches!(ran.status.code(), Some(1..)), "{ran:?}");
    assert!(
        ran.err().contains(file.to_str().unwrap()) && ran.err().contains("DATA_DIR"),
        "{ran:?}"
    );
    assert!(!ran.err().contains("panicked"));
    // Something that is no store is left as it is.
    let data = folder.path().join("data");
    let mut server = Setup::new().data(&data).start();
    server.stop();
    drop(server);
    let store = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .unwrap();
    std::fs::write(&store, "no store at all").unwrap();
    let ran = Setup::new().data(&data).run(&["serve"]);
    assert!(matches!(ran.status.code(), Some(1..)), "{ran:?}");
    assert!(ran.err().contains("remedy"), "{ran:?}");
    assert_eq!(std::fs::read(&store).unwrap(), b"no store at all");
}

fn topology(server: &Server) -> Value {
    server.json("/health/v2/status")["components"]["worker"].clone()
}

/// Worker ids that new connections meet, asked until there are as many as expected.
fn workers_met(server: &Server, expected: usize) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    common::until("every worker to answer", || {
        met.insert(
            server.json("/health/v2/worker")["worker_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        met.len() >= expected
    });
    for _ in 0..50 {
        met.insert(
            server.json("/health/v2/worker")["worker_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    met
}

#[test]
fn workers_are_as_many_as_asked_for() {
    common::on_each_driver(|driver| {
        for (variables, workers) in [
            (&[("WORKERS", "1")][..], 1),
            (&[("WORKERS", "4")], 4),
            (&[("GUNICORN_WORKERS", "3")], 3),
            (&[("WORKERS", "2"), ("GUNICORN_WORKERS", "5")], 2),
        ] {
            let setup = variables
                .iter()
                .fold(Setup::new().driver(driver), |setup, (name, value)| {
                    setup.env(name, value)
                });
            let mut server = setup.start();
            assert_eq!(
                topology(&server)["workers"].as_u64(),
                Some(workers as u64),
                "{variables:?}"
            );
            assert_eq!(workers_met(&server, workers).len(), workers, "{variables:?}");
            server.tell(r#"{"location":"Turin"}"#).expect(200);
            let layout = topology(&server)["topology"].clone();
            let cpus = layout["cpus"].as_array().unwrap().len();
            let quota = layout["quota_cpus"].as_f64().map_or(cpus, |cpus| cpus.ceil() as usize);
            let warns = server.log.find(|line| {
                line["level"].as_str() == Some("WARN") && line["message"].as_str().unwrap().contains("usable CPU")
            });
            assert_eq!(
                warns.is_some(),
                workers > cpus.min(quota),
                "{variables:?}: {}",
                server.all_said()
            );
            server.stop();
        }
    });
}

#[test]
fn pinned_workers_run_on_their_cpu_alone() {
    let allowed_of = |pid: u32, name: &str| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut found = Vec::new();
        for task in tasks {
            let folder = task.unwrap().path();
            if std::fs::read_to_string(folder.join("comm")).unwrap().trim_end() == name {
                let status = std::fs::read_to_string(folder.join("status")).unwrap();
                let line = status
                    .lines()
                    .find(|line| line.starts_with("Cpus_allowed_list:"))
                    .unwrap();
                found.push(line.split_whitespace().nth(1).unwrap().to_owned());
            }
        }
        found
    };
    let server = Setup::new().env("PIN", "always").start();
    let status = topology(&server);
    assert_eq!(status["topology"]["pin"].as_bool(), Some(true), "{status:?}");
    let cpus: Vec<u64> = status["topology"]["cpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cpu| cpu.as_u64().unwrap())
        .collect();
    for worker in 0..status["workers"].as_u64().unwrap() as usize {
        let allowed = allowed_of(server.pid(), &format!("worker-{worker}"));
        assert_eq!(allowed, [cpus[worker % cpus.len()].to_string()]);
    }
    server.tell(r#"{"location":"Turin"}"#).expect(200);
    let server = Setup::new().env("PIN", "never").start();
    let status = topology(&server);
    assert_eq!(status["topology"]["pin"].as_bool(), Some(false));
    let free = allowed_of(server.pid(), "worker-0");
    // A thread that has just begun has the first one's name for a moment.
    let main = allowed_of(server.pid(), "roadtrip-api");
    assert!(
        !main.is_empty() && main.iter().all(|cpus| free == [cpus.as_str()]),
        "{main:?} {free:?}"
    );
}

#[test]
fn one_address_or_all_of_them() {
    let all = Server::start();
    for host in ["127.0.0.1", "localhost"] {
        common::tools::curl(&["-f", "-o", "/dev/null", &format!("http://{host}:{}/health", all.port)]);
    }
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        common::tools::curl(&[
            "-f",
            "-g",
            "-o",
            "/dev/null",
            &format!("http://[::1]:{}/health", all.port),
        ]);
        let six = Setup::new().env("HOST", "::1").start();
        common::tools::curl(&[
            "-f",
            "-g",
            "-o",
            "/dev/null",
            &format!("http://[::1]:{}/health", six.port),
        ]);
        assert!(!six.is_listening(), "HOST=::1 listens on 127.0.0.1");
    }
    let four = Setup::new().env("HOST", "127.0.0.1").start();
    four.get("/health").expect(200);
    let refused = Setup::new().env("HOST", "192.0.2.1").run(&["serve"]).expect(69).err();
    assert!(refused.contains("192.0.2.1") && refused.contains("HOST"), "{refused}");
}
