//! What the server writes, and what happens when nobody reads it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::http::{Connection, story_request};
use common::{PATIENCE, Setup, on_each_driver, until};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[test]
fn every_line_is_json_and_every_request_has_its_ids() {
    on_each_driver(|driver| {
        let mut server = Setup::new().driver(driver).env("ACCESS_LOG", "all").start();
        let mut expected = Vec::new();
        for n in 0..40 {
            let id = format!("request-{n}");
            let mut stream = server.connect();
            let (path, status) = [("/health", 200), ("/nowhere", 404), ("/api/v1/stories?limit=0", 422)][n % 3];
            let answer = stream.get_with(path, &format!("X-Request-ID: {id}\r\n")).expect(status);
            expected.push((id, status, answer.field("x-worker-id").unwrap().to_owned()));
        }
        let told = server.connect().tell(r#"{"location":"Graz"}"#).expect(200);
        let (id, worker) = (told.field("x-request-id").unwrap(), told.field("x-worker-id").unwrap());
        expected.push((id.to_owned(), 200, worker.to_owned()));
        server.stop();
        let mut requests = Vec::new();
        for line in server.log.lines() {
            assert!(line.ends_with("}\n"), "half a line: {line:?}");
            let line: Value = sonic_rs::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            for field in ["timestamp", "level", "message", "target"] {
                assert!(line[field].is_str(), "no {field}: {line:?}");
            }
            if line["target"].as_str() == Some("access") {
                requests.push(line);
            }
        }
        assert_eq!(requests.len(), expected.len());
        for (id, status, worker) in expected {
            let of_it: Vec<&Value> = requests
                .iter()
                .filter(|line| line["request_id"].as_str() == Some(id.as_str()))
                .collect();
            assert_eq!(of_it.len(), 1, "{id}");
            assert_eq!(of_it[0]["worker_id"].as_str(), Some(worker.as_str()));
            assert_eq!(of_it[0]["status"].as_u64(), Some(u64::from(status)));
            for field in ["method", "route", "path", "duration_us", "bytes"] {
                assert!(!of_it[0][field].is_null(), "no {field}: {:?}", of_it[0]);
            }
        }
    });
}

#[test]
fn the_access_log_can_be_off_or_for_errors() {
    for (setting, lines) in [("off", 0), ("errors", 0), ("all", 2)] {
        let mut server = Setup::new().env("ACCESS_LOG", setting).start();
        server.get("/health").expect(200);
        server.get("/nowhere").expect(404);
        server.stop();
        let said = server
            .log
            .lines()
            .iter()
            .filter(|line| line.contains(r#""target":"access""#))
            .count();
        assert_eq!(said, lines, "{setting}");
    }
}

#[test]
fn text_is_for_people_and_levels_are_kept() {
    let ran = Setup::new()
        .env("LOG_FORMAT", "text")
        .env("IO_DRIVER", "epoll")
        .env("PORT", "0");
    let folder = TempDir::new().unwrap();
    let mut command = ran.command(&["serve"], Some(folder.path()));
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Ended(command.spawn().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.0.stdout.take().unwrap()));
    let ready = lines
        .find(|line| line.as_ref().unwrap().contains("ready"))
        .unwrap()
        .unwrap();
    assert!(
        ready.contains(" INFO ") && ready.contains("port=") && !ready.starts_with('{'),
        "{ready}"
    );
    drop(child);
    // LOG_LEVEL=error: nothing to say, so there is no line to learn the port from.
    let addr = own_address();
    let quiet = at(addr).env("LOG_LEVEL", "error");
    let mut command = quiet.command(&["serve"], Some(folder.path()));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ended(command.spawn().unwrap());
    answers(addr);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(child.0.id()).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn nothing_that_a_client_sends_forges_a_line() {
    on_each_driver(|driver| {
        let mut server = Setup::new()
            .driver(driver)
            .env("ACCESS_LOG", "all")
            .env("LOG_LEVEL", "debug")
            .start();
        let forged = r#"{"level":"ERROR","message":"forged"}"#;
        let evil = [
            "/%0a%7b%22message%22:%22forged%22%7d".to_owned(),
            "/\u{1b}[31mred".to_owned(),
            format!("/{}", forged.replace(' ', "")),
            "/\u{2028}{\"forged\":1}".to_owned(),
            "/a\\nb\\u000ac\"}".to_owned(),
            "/\u{202e}gnp.exe".to_owned(),
        ];
        for path in &evil {
            let mut stream = server.connect();
            stream.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
            assert!(matches!(stream.read().status, 400 | 404), "{path:?}");
        }
        for value in [
            forged,
            "x\\u000a{\"forged\":2}",
            "x\ty",
            "\u{1b}]0;owned\u{7}",
            "x\u{85}y",
        ] {
            for name in [
                "X-Request-ID",
                "User-Agent",
                "traceparent",
                "X-Worker-ID",
                "Authorization",
            ] {
                let mut stream = server.connect();
                stream.send(format!("GET /nowhere HTTP/1.1\r\nHost: t\r\n{name}: {value}\r\n\r\n"));
                assert!(matches!(stream.read().status, 400 | 404), "{name}: {value:?}");
            }
        }
        for body in [
            r#"{"location":"x\n{\"message\":\"forged\"}\u001b[2J"}"#,
            r#"{"location":"a\u2028b"}"#,
        ] {
            server.connect().tell(body).expect(200);
        }
        server.stop();
        for line in server.log.lines() {
            let whole = line.strip_suffix('\n').unwrap();
            assert!(
                whole
                    .chars()
                    .all(|c| !c.is_control() && !"\u{2028}\u{2029}\u{202e}".contains(c)),
                "{line:?}"
            );
            let value: Value = sonic_rs::from_str(whole).unwrap_or_else(|error| panic!("{error}: {line}"));
            let object = value.as_object().unwrap();
            assert_ne!(value["message"].as_str(), Some("forged"));
            assert!(object.get(&"forged").is_none(), "{line}");
            let keys: Vec<&str> = object.iter().map(|(key, _)| key).collect();
            let distinct: std::collections::BTreeSet<&&str> = keys.iter().collect();
            assert_eq!(distinct.len(), keys.len(), "a key stands twice: {line}");
        }
    });
}

/// A process that is ended with the value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ended {
    /// Ticks of CPU so far, user and system (proc(5)).
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let after = stat.rsplit_once(") ").unwrap().1;
        let fields: Vec<u64> = after.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    }
}

/// An address that no other test uses: servers that cannot tell their port need one that is known before. All of
/// 127.0.0.0/8 is this machine.
fn own_address() -> SocketAddr {
    // Not found by listening for a moment: a child of another test, forked in that moment, would hold the socket for a
    // moment longer, take our first connection, and reset it. Below the ports that the kernel gives out.
    let host = [127, fastrand::u8(1..255), fastrand::u8(1..255), fastrand::u8(1..255)];
    SocketAddr::from((host, fastrand::u16(10_000..30_000)))
}

/// A server there.
fn at(addr: SocketAddr) -> Setup {
    Setup::new()
        .env("HOST", &addr.ip().to_string())
        .env("PORT", &addr.port().to_string())
}

/// Waits until the address answers, and gives a connection.
fn answers(addr: SocketAddr) -> Connection {
    until("the server to answer", || {
        TcpStream::connect_timeout(&addr, Duration::from_millis(500))
            .is_ok_and(|stream| stream.local_addr().ok() != stream.peer_addr().ok())
    });
    let mut stream = Connection::open(addr);
    stream.get("/health").expect(200);
    stream
}

/// Serves a while, and uses no more CPU than serving takes.
fn is_well_without_a_reader(mut command: Command, addr: SocketAddr, what: &str) {
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut child = Ended(child);
    let mut stream = answers(addr);
    for n in 0..2000 {
        stream.send(story_request(&format!(
            r#"{{"location":"Graz","variation":{}}}"#,
            n % 3
        )));
        stream.read().expect(200);
    }
    let (ticks, begun) = (child.ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let used = child.ticks() - ticks;
    let passed = begun.elapsed().as_secs_f64();
    assert!(
        (used as f64) < passed * 50.0,
        "{what}: {used} ticks of CPU in {passed} s of idling"
    );
    stream.get("/health/v2/ready").expect(200);
    // Its end is in good order, too, and not late.
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.0.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0), "{what}: {status}");
}

#[test]
fn a_closed_stdout_is_borne() {
    on_each_driver(|driver| {
        let folder = TempDir::new().unwrap();
        let addr = own_address();
        let setup = at(addr)
            .driver(driver)
            .env("ACCESS_LOG", "all")
            .wrapped(["sh", "-c", "exec \"$0\" \"$@\" >&-"]);
        is_well_without_a_reader(setup.command(&["serve"], Some(folder.path())), addr, "closed");
    });
}

#[test]
fn a_reader_that_goes_away_is_borne() {
    on_each_driver(|driver| {
        let folder = TempDir::new().unwrap();
        let addr = own_address();
        let setup = at(addr).driver(driver).env("ACCESS_LOG", "all");
        let mut command = setup.command(&["serve"], Some(folder.path()));
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        drop(reader);
        is_well_without_a_reader(command, addr, "reader gone");
    });
}

#[test]
fn a_reader_that_does_not_read_is_borne() {
    on_each_driver(|driver| {
        let folder = TempDir::new().unwrap();
        let addr = own_address();
        let setup = at(addr).driver(driver).env("ACCESS_LOG", "all");
        let mut command = setup.command(&["serve"], Some(folder.path()));
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        is_well_without_a_reader(command, addr, "full pipe");
        drop(reader);
    });
}

#[test]
fn a_full_disk_under_the_log_is_borne() {
    let folder = TempDir::new().unwrap();
    let addr = own_address();
    let setup = at(addr).env("ACCESS_LOG", "all");
    let mut command = setup.command(&["serve"], Some(folder.path()));
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    is_well_without_a_reader(command, addr, "/dev/full");
}
