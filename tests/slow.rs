//! Clients that are slow on purpose, greedy, or too many, and a server without descriptors: everybody else is served.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::http::{Connection, story_request};
use common::tools::{curl, run, run_command};
use common::{PATIENCE, Server, Setup, on_each_driver};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn metric(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    Exposition::parse(&server.get("/metrics").text()).sum(name, labels)
}

/// Descriptors of the server, by number.
fn files(server: &Server) -> Vec<u32> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let numbers = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.collect()
}

/// CPU time of the server so far.
fn cpu_time(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Kilobytes of resident memory.
fn resident_kb(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A connection whose kernel takes little in advance.
fn narrow(server: &Server, buffer_bytes: usize) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, buffer_bytes).unwrap();
    rustix::net::connect(&socket, &server.addr()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// True while the kernel has the server's end of a connection with `peer`: one that is closed and still holds bytes too.
fn is_kept(server: &Server, peer: SocketAddr) -> bool {
    const TIME_WAIT: &str = "06";
    let (here, there) = (format!(":{:04X}", server.port), format!(":{:04X}", peer.port()));
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        text.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().take(4).collect();
            fields.len() == 4 && fields[1].ends_with(&here) && fields[2].ends_with(&there) && fields[3] != TIME_WAIT
        })
    })
}

/// slowhttptest's report, without colours.
fn slowhttptest(arguments: &str, url: &str) -> String {
    let mut command = Command::new("slowhttptest");
    command
        .args(arguments.split(' '))
        .args(["-u", url])
        .stdin(Stdio::null());
    command.args("-c 500 -r 250 -i 1 -l 8 -p 3".split(' '));
    let said = run_command(command, PATIENCE).expect(0).out();
    let mut plain = String::new();
    for (at, part) in said.split('\u{1b}').enumerate() {
        let end = if at == 0 {
            0
        } else {
            part.find(|c: char| c.is_ascii_alphabetic()).map_or(0, |end| end + 1)
        };
        plain.push_str(&part[end..]);
    }
    plain
}

#[test]
fn slow_attacks_leave_a_normal_client_untouched() {
    common::raise_open_files();
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("HEAD_TIMEOUT", "3s")
            .env("BODY_TIMEOUT", "4s")
            .env("WRITE_TIMEOUT", "2s")
            .start();
        let story = r#"{"location":"Rome"}"#;
        server.tell(story).expect(200);
        let stop = AtomicBool::new(false);
        let (asked, reports) = std::thread::scope(|scope| {
            let normal = scope.spawn(|| {
                let mut asked = 0;
                let mut slowest = Duration::ZERO;
                let mut kept = server.connect();
                while !stop.load(Ordering::Relaxed) {
                    // By turns on a connection that stays, and on a new one.
                    let begun = Instant::now();
                    kept.get("/health").expect(200);
                    server.tell(story).expect(200);
                    slowest = slowest.max(begun.elapsed());
                    asked += 2;
                    std::thread::sleep(Duration::from_millis(5));
                }
                (asked, slowest)
            });
            let attacks = [
                ("slow headers", "-H", "/health"),
                ("slow bodies", "-B -t POST", "/api/v1/stories/generate"),
                ("ranges", "-R", "/docs"),
                ("slow reads", "-X -k 5 -w 10 -y 20 -n 1 -z 32", "/openapi.json"),
            ];
            let attacks = attacks.map(|(name, arguments, path)| {
                let url = server.url(path);
                scope.spawn(move || (name, slowhttptest(arguments, &url)))
            });
            let reports = attacks.map(|attack| attack.join());
            stop.store(true, Ordering::Relaxed);
            (normal.join(), reports)
        });
        let (asked, slowest) = asked.expect("a normal client was not answered");
        assert!(asked > 100, "{driver}: only {asked} requests");
        for report in reports {
            let (name, said) = report.unwrap();
            let verdicts: Vec<&str> = said
                .lines()
                .filter_map(|line| line.strip_prefix("service available:"))
                .map(str::trim)
                .collect();
            assert!(!verdicts.is_empty(), "{driver}, {name}: {said}");
            assert!(
                verdicts.iter().all(|verdict| *verdict == "YES"),
                "{driver}, {name}: {said}"
            );
        }
        // 500 heads and 500 bodies that did not come in time, and nothing left of any of them.
        let late = metric(&server, "http_requests_rejected_total", &[("status", "408")]);
        assert!(late >= 900.0, "{driver}: {late} were told that they are too slow");
        common::until("the attackers to be gone", || {
            metric(&server, "http_connections_open", &[]) <= 2.0
        });
        eprintln!(
            "{driver}: {asked} requests of a normal client answered, two of them in {slowest:?} at most; {late} times 408"
        );
    });
}

fn ask_for_pages(stream: &mut TcpStream, pages: usize) {
    let ask = "GET /api/v1/stories?limit=100 HTTP/1.1\r\nHost: t\r\n\r\n".repeat(pages);
    std::io::Write::write_all(stream, ask.as_bytes()).unwrap();
}

#[test]
fn a_reader_above_the_floor_is_served_and_one_that_stops_is_not() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("WRITE_TIMEOUT", "1s")
            .env("WRITE_RATE_MIN", "20K")
            .start();
        let mut filling = server.connect();
        for n in 0..60 {
            let body = format!(r#"{{"location":"Cairo","length":"long","variation":{n}}}"#);
            filling.tell(&body).expect(200);
        }
        let page = filling.get("/api/v1/stories?limit=100").expect(200).body.len();
        assert!(page > 200_000, "{page}");
        // 300 KB/s or so for several write timeouts: more than both kernels hold.
        let mut slow = narrow(&server, 16 * 1024);
        let peer = slow.local_addr().unwrap();
        common::until("the kernel's table", || is_kept(&server, peer));
        let pages = 10;
        ask_for_pages(&mut slow, pages);
        let mut got = 0;
        let mut piece = [0; 6 * 1024];
        let begun = Instant::now();
        while got < pages * page {
            let bytes = slow.read(&mut piece).unwrap();
            assert!(
                bytes > 0,
                "{driver}: cut off after {got} bytes and {:?}",
                begun.elapsed()
            );
            got += bytes;
            std::thread::sleep(Duration::from_millis(15));
        }
        assert!(begun.elapsed() > Duration::from_secs(3), "too quick to show anything");
        drop((slow, filling));
        // One that stops, in the middle of its answers, and one whose answer fits into the kernel.
        let mut stopped = narrow(&server, 16 * 1024);
        ask_for_pages(&mut stopped, 20);
        stopped.read_exact(&mut [0; 100_000]).unwrap();
        let mut small = narrow(&server, 4 * 1024);
        let ask = b"GET /openapi.json HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut small, ask).unwrap();
        // And one that takes a little now and then, below the floor.
        let mut sipping = narrow(&server, 4 * 1024);
        ask_for_pages(&mut sipping, 20);
        let peers = [&stopped, &small, &sipping].map(|stream| stream.local_addr().unwrap());
        let begun = Instant::now();
        while peers.iter().any(|peer| is_kept(&server, *peer)) {
            let _ = sipping.read(&mut [0; 512]);
            std::thread::sleep(Duration::from_millis(300));
            let kept: Vec<bool> = peers.iter().map(|peer| is_kept(&server, *peer)).collect();
            assert!(begun.elapsed() < PATIENCE, "{driver}: the kernel keeps {kept:?}");
        }
        common::until("their connections to be gone", || {
            metric(&server, "http_connections_open", &[]) <= 2.0
        });
    });
}

/// Its window opens by a few segments at a time, and is full in between: there the kernel's own clock (TCP_USER_TIMEOUT)
/// would go on from the first time that it was full.
#[test]
fn a_reader_whose_window_opens_little_by_little_is_served() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("WRITE_TIMEOUT", "1s")
            .env("WRITE_RATE_MIN", "1K")
            .start();
        let mut slow = narrow(&server, 8 * 1024);
        let ask = b"GET /openapi.json HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut slow, ask).unwrap();
        let (mut got, mut piece) = (0, [0; 1000]);
        loop {
            match slow.read(&mut piece) {
                Ok(0) => break,
                Ok(bytes) => got += bytes,
                // A socket with a timeout is not read again by the kernel.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("{driver}: {error} after {got} bytes"),
            }
            // 15 KB/s or so, for several write timeouts.
            std::thread::sleep(Duration::from_millis(65));
        }
        assert!(got > 80_000, "{driver}: {got}");
    });
}

#[test]
fn a_server_without_descriptors_serves_who_is_there_and_recovers() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("CONNECTIONS_MAX", "10")
            .env("CONNECTIONS_PER_ADDRESS", "0")
            .start();
        // Some may have come with the process, by any number.
        let before = files(&server);
        let highest = || {
            files(&server)
                .into_iter()
                .filter(|file| !before.contains(file))
                .max()
                .unwrap()
        };
        let mut held: Vec<Connection> = Vec::new();
        for _ in 0..10 {
            held.push(server.connect());
            held.last_mut().unwrap().get("/health").expect(200);
        }
        // Numbers are given from the lowest: with the last ones gone, two or three more fit under this limit. It is
        // lowered while no accept is armed, since there is no room, as io_uring goes by the limit of that moment.
        let room = highest() - 4;
        let limit = |soft: u32| {
            let pid = server.pid().to_string();
            run("prlimit", &["--pid", &pid, &format!("--nofile={soft}:")]).expect(0);
        };
        limit(room);
        drop(held.split_off(2));
        let mut crowd: Vec<Connection> = (0..30).map(|_| server.connect()).collect();
        for stream in &mut crowd {
            stream.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
        }
        common::until("a word about it in the log", || {
            server.all_said().contains("accept failed")
        });
        // Who is connected is served as ever, and nothing spins meanwhile.
        let (begun, cpu_before) = (Instant::now(), cpu_time(&server));
        while begun.elapsed() < Duration::from_secs(3) {
            for stream in &mut held {
                stream.get("/health").expect(200);
            }
            held[0].send(story_request(r#"{"location":"Rome"}"#));
            held[0].read().expect(200);
            assert!(held[1].get("/health/v2/status").status < 500);
            held[1].get("/metrics").expect(200);
            std::thread::sleep(Duration::from_millis(200));
        }
        let spent = cpu_time(&server) - cpu_before;
        assert!(
            spent < begun.elapsed() / 2,
            "{driver}: {spent:?} of CPU in {:?}",
            begun.elapsed()
        );
        let said = server.all_said().matches("accept failed").count();
        assert!(said < 20, "{said} lines in the log");
        assert!(highest() < room, "{driver}: {} with a limit of {room}", highest());
        // Places that others leave are taken by those who wait.
        let waiting = crowd.split_off(10);
        for mut stream in crowd {
            stream.read().expect(200);
        }
        // With more descriptors all are served, and those who come now.
        limit(4096);
        for mut stream in waiting {
            stream.read().expect(200);
        }
        server.get("/health").expect(200);
        held[0].get("/health").expect(200);
        let spent = cpu_time(&server) - cpu_before;
        eprintln!("{driver}: {spent:?} of CPU, {said} lines in the log");
    });
}

/// The whole system's table of files is full: not to be tried on a machine that others use, so strace says it is.
#[test]
fn a_system_without_descriptors_is_survived_too() {
    let server = Setup::new()
        .driver("epoll")
        .env("WORKERS", "1")
        .wrapped([
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=accept4",
            "-e",
            "inject=accept4:error=ENFILE:when=3..12",
            "--",
        ])
        .start();
    let mut streams: Vec<Connection> = (0..5).map(|_| server.connect()).collect();
    for stream in &mut streams {
        stream.get("/health").expect(200);
    }
    assert!(server.all_said().contains("(os error 23)"), "{}", server.all_said());
}

#[test]
fn one_address_cannot_take_every_place() {
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("CONNECTIONS_PER_ADDRESS", "4")
            .start();
        let mut held: Vec<Connection> = (0..4).map(|_| server.connect()).collect();
        for stream in &mut held {
            stream.get("/health").expect(200);
        }
        for _ in 0..10 {
            // Closed, or reset where it was closed before the client had its turn.
            let ended = server.connect().stream.read(&mut [0; 10]);
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
        // Others are served, IPv6 loopback for one where there is any.
        curl(&["--interface", "127.0.0.2", &server.url("/health")]);
        let text = held[0].get("/metrics").expect(200).text();
        let metrics = Exposition::parse(&text);
        assert_eq!(metrics.sum("http_connections_turned_away_total", &[]), 10.0);
        let said = server.all_said().matches("too many connections").count();
        assert_eq!(said, 4, "told at 1, 2, 4 and 8: {}", server.all_said());
        drop(held.pop());
        common::until("a free place", || {
            let mut stream = server.connect();
            stream.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
            stream.try_read(false).is_ok()
        });
    });
}

#[test]
fn half_sent_bodies_take_no_more_than_their_budget() {
    common::raise_open_files();
    on_each_driver(|driver| {
        let server = Setup::new()
            .driver(driver)
            .env("WORKERS", "1")
            .env("PENDING_BYTES_MAX", "4M")
            .start();
        let story = r#"{"location":"Rome"}"#;
        server.tell(story).expect(200);
        let before = resident_kb(&server);
        let head = "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n";
        let whole = format!(
            "{head}Transfer-Encoding: chunked\r\n\r\nf000\r\n{}",
            "x".repeat(0xf000 - 1)
        );
        let mut slow = Vec::new();
        let mut refused = 0;
        for n in 0..500 {
            let mut stream = server.connect();
            // Refused while it sends: the rest of what it has goes nowhere.
            let _ = std::io::Write::write_all(&mut stream.stream, whole.as_bytes());
            if n % 100 == 99 {
                server.tell(story).expect(200);
            }
            slow.push(stream);
        }
        // In two pieces, as many clients send.
        let mut stream = server.connect();
        let request = story_request(story);
        let (first, second) = request.split_at(request.len() - story.len());
        stream.send(first);
        std::thread::sleep(Duration::from_millis(50));
        stream.send(second);
        stream.read().expect(200);
        let grown = resident_kb(&server).saturating_sub(before);
        assert!(grown < 20_000, "{driver}: {grown} KB for 500 bodies of 60 KB");
        let mut one = server.connect();
        one.send(format!("{head}Content-Length: 60000\r\n\r\n"));
        let told = one.read().expect(503);
        assert!(told.closes() && told.field("retry-after").is_some(), "{told:?}");
        for mut stream in slow {
            stream.stream.set_nonblocking(true).unwrap();
            refused += usize::from(stream.try_read(false).is_ok_and(|answer| answer.status == 503));
        }
        assert!(refused > 300, "{driver}: {refused}");
        // All are gone, and so is what they held.
        common::until("room again", || {
            let mut again = server.connect();
            let body = format!("{:59000}", story);
            again.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
            again.read().status == 200
        });
    });
}

#[test]
fn a_connection_ends_after_its_last_request() {
    let server = Setup::new().env("REQUESTS_PER_CONNECTION", "2").start();
    let url = server.url("/health");
    let mut args = vec!["-w", "%{num_connects} "];
    for _ in 0..5 {
        args.extend(["-o", "/dev/null", &url]);
    }
    assert_eq!(String::from_utf8(curl(&args)).unwrap(), "1 0 1 0 1 ");
    let mut stream = server.connect();
    assert!(!stream.get("/health").expect(200).closes());
    assert!(stream.tell(r#"{"location":"Oslo"}"#).expect(200).closes());
    assert!(stream.is_closed());
}
