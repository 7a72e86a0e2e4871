//! Runs in which something goes wrong: within a worker, in what the process is given, behind it.

use super::client::story_request;
use super::jump;
use super::report::{Broken, Row};
use super::runs::{Scene, Stand};
use super::signals::backends;
use super::stage::{Killed, Server, Stop, get, is_there, signal, threads_of};
use crate::clock;
use crate::tiers::backends::Backends;
use rustix::process::Signal;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For as long there are no descriptors.
const NO_DESCRIPTORS: Duration = Duration::from_millis(1500);
/// What the process may have: what it needs, this load's connections, and some.
const DESCRIPTORS: &str = "120";
/// More connections than that.
const CONNECTIONS: usize = 200;
const DAY: i32 = 86_400;

pub(super) fn panics(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.faulty_plan()?, |scene| {
        for number in 0..20 {
            let fault = if number % 2 == 0 { "panic" } else { "later-panic=5" };
            let answer = get(scene.server.addr(), "/api/v1/styles", &format!("X-Fault: {fault}\r\n"))?;
            if answer.status != 500 {
                return Err(format!("a panic was answered {}", answer.status).into());
            }
            std::thread::sleep(Duration::from_millis(40));
        }
        let panics = scene.server.metric("http_handler_panics_total", "")?;
        Ok(format!("{panics} panics, each answered 500"))
    })
}

/// strace on the thread of worker 0, which does to its waiting what `how` says.
fn strace_worker_0(scene: &Scene<'_>, driver: &str, how: &str) -> Result<Killed, Stop> {
    if !is_there("strace") {
        return Err(Stop::Skip("needs strace".to_owned()));
    }
    let threads = threads_of(scene.server.first(), "worker-0");
    let thread = threads.first().ok_or("there is no worker 0")?;
    let call = if driver == "epoll" {
        "epoll_pwait,epoll_pwait2,epoll_wait"
    } else {
        "io_uring_enter"
    };
    let strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"])
        .args([&format!("inject={call}:{how}"), "-p", &thread.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Ok(Killed(strace.map_err(|e| format!("cannot start strace: {e}"))?))
}

pub(super) fn breakdown(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?, |scene| {
        let from = scene.load.elapsed();
        let strace = strace_worker_0(scene, stand.driver, "error=EBADF")?;
        scene.server.until("the worker to break down", |server| {
            server.said("the worker broke down") == 1
        })?;
        drop(strace);
        scene.server.until("a new life", |server| {
            server
                .metric("worker_restarts_total", "reason=\"panic\"")
                .unwrap_or(0.0)
                >= 1.0
        })?;
        // Clients that pause find out when they ask again.
        std::thread::sleep(Duration::from_secs(3));
        scene.broken.push(Broken {
            worker: 0,
            from,
            to: scene.load.elapsed(),
        });
        Ok("1 breakdown, 1 new life".to_owned())
    })
}

pub(super) fn stuck(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?.env("WORKER_TIMEOUT", "1s"), |scene| {
        let begun = Instant::now();
        let strace = strace_worker_0(scene, stand.driver, "delay_enter=4s:when=1")?;
        let live = |server: &Server| server.get("/health/v2/live").map_or(0, |answer| answer.status);
        scene
            .server
            .until("liveness to answer 503", |server| live(server) == 503)?;
        let seen = begun.elapsed();
        scene.server.until("liveness to return", |server| live(server) == 200)?;
        let back = begun.elapsed();
        drop(strace);
        let taken = scene.server.metric("worker_stand_in_connections_total", "")?;
        Ok(format!(
            "live 503 after {:.1} s, 200 after {:.1} s; {taken} connections taken by the other",
            seen.as_secs_f64(),
            back.as_secs_f64()
        ))
    })
}

pub(super) fn descriptors(stand: &Stand<'_>) -> Result<Row, Stop> {
    if !is_there("prlimit") {
        return Err(Stop::Skip("needs prlimit of util-linux".to_owned()));
    }
    let mut plan = stand.plan()?;
    // From the start: an accept that io_uring has armed goes by the limit of the time when it was armed.
    plan.wrapper = vec!["prlimit".to_owned(), format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}")];
    stand.under_load(plan, |scene| {
        let server = &scene.server;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            // The kernel takes those for whom the server has no descriptor.
            held.push(super::http1::Connection::open(server.addr(), Duration::from_secs(5))?);
        }
        let accept_fails = || {
            let begun = Instant::now();
            while server.said("accept failed") == 0 && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(10));
            }
            server.said("accept failed") > 0
        };
        if !accept_fails() {
            return Err("accept does not fail".into());
        }
        std::thread::sleep(NO_DESCRIPTORS);
        drop(held);
        server.until("new connections to be served", |server| server.get("/health").is_ok())?;
        Ok(format!(
            "accept failed, with {DESCRIPTORS} descriptors and {CONNECTIONS} connections more"
        ))
    })
}

pub(super) fn memory(stand: &Stand<'_>) -> Result<Row, Stop> {
    let plan = stand.plan()?;
    let help = Command::new(&plan.binary).args(["help", "serve"]).output();
    let help = help.map_err(|e| format!("cannot run the server: {e}"))?;
    if !String::from_utf8_lossy(&help.stdout).contains("MEMORY_MAX") {
        return Err(Stop::Skip("this server does not know MEMORY_MAX".to_owned()));
    }
    // What it has when it is warm, and a little: then requests that do not end take it.
    let rss = {
        let server = Server::start(plan.clone())?;
        crate::procfs::Memory::read(server.first())?.rss
    };
    let max = rss + (24 << 20);
    let plan = plan.env("MEMORY_MAX", &max.to_string());
    stand.under_load(plan, |scene| {
        scene.load.may_refuse();
        let mut held = Vec::new();
        let begin = format!(
            "POST /api/v1/stories/generate HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             Content-Length: 60000\r\n\r\n{}",
            " ".repeat(59_000)
        );
        for _ in 0..600 {
            let mut connection = super::http1::Connection::open(scene.server.addr(), Duration::from_secs(5))?;
            // It may be refused: that is the point.
            let _ = connection.send(begin.as_bytes());
            held.push(connection);
        }
        std::thread::sleep(Duration::from_secs(2));
        let most = crate::procfs::Memory::read(scene.server.first())?.rss;
        drop(held);
        Ok(format!(
            "MEMORY_MAX {} MiB, at most {} MiB resident",
            max >> 20,
            most >> 20
        ))
    })
}

/// The day on which the server makes a story, since 1970.
fn day_of(server: &Server) -> Result<i64, String> {
    use sonic_rs::JsonValueTrait;
    let variation = clock::now_ns() % 1_000_000_000;
    let body = format!(r#"{{"location":"Rome","length":"short","variation":{variation}}}"#);
    let mut connection = super::http1::Connection::open(server.addr(), Duration::from_secs(5))?;
    connection.send(story_request(&body, "application/json").as_bytes())?;
    let answer = connection.read(Instant::now() + Duration::from_secs(10))?;
    let json: sonic_rs::Value = sonic_rs::from_slice(&answer.body).map_err(|e| format!("a story: {e}"))?;
    // RFC 9562 section 5.7: the first 48 bits of a UUIDv7 are milliseconds of the wall clock.
    let id: String = json["id"].as_str().unwrap_or_default().replace('-', "");
    let ms = id.get(..12).and_then(|digits| i64::from_str_radix(digits, 16).ok());
    ms.map(|ms| ms.div_euclid(86_400_000))
        .ok_or_else(|| format!("a story without a time: {id}"))
}

pub(super) fn clock(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?, |scene| {
        let server = &scene.server;
        let today = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let today = i64::try_from(today / 86_400).unwrap_or(0);
        let mut days = vec![day_of(server)? - today];
        for jump in [DAY, -DAY] {
            jump::jump(server.first(), jump).map_err(Stop::Skip)?;
            std::thread::sleep(Duration::from_millis(1200));
            days.push(day_of(server)? - today);
        }
        // It may be midnight.
        let is_seen = matches!(*days, [0 | 1, 1 | 2, -1 | 0]);
        if !is_seen {
            return Err(format!("the jumps were not seen: {days:?}").into());
        }
        Ok("stories made a day ahead, and a day behind".to_owned())
    })
}

pub(super) fn stopped(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?.env("WORKER_TIMEOUT", "1s"), |scene| {
        signal(scene.server.first(), Signal::STOP);
        std::thread::sleep(Duration::from_secs(2));
        signal(scene.server.first(), Signal::CONT);
        std::thread::sleep(Duration::from_millis(500));
        let stuck = scene.server.metric("worker_stuck_total", "")?;
        Ok(format!("{stuck} workers taken for stuck"))
    })
}

fn postgres_restarts(stand: &Stand<'_>, outage: &str) -> Result<Row, Stop> {
    let mut backends = backends()?;
    let plan = stand
        .plan()?
        .env("DATABASE_URL", &backends.database_url())
        .env("STORE_OUTAGE", outage);
    stand.under_load(plan, |scene| {
        if outage == "refuse" {
            scene.load.may_refuse();
        }
        let away = restart(&mut backends, Backends::restart_postgres)?;
        scene.server.until("readiness", |server| {
            (0..6).all(|_| server.get("/health/v2/ready").is_ok_and(|answer| answer.status == 200))
        })?;
        Ok(format!("away for {away:.1} s"))
    })
}

fn restart(backends: &mut Backends, how: fn(&mut Backends, Duration) -> Result<(), String>) -> Result<f64, String> {
    let begun = Instant::now();
    how(backends, Duration::from_secs(1))?;
    Ok(begun.elapsed().as_secs_f64())
}

pub(super) fn postgres(stand: &Stand<'_>) -> Result<Row, Stop> {
    postgres_restarts(stand, "refuse")
}

pub(super) fn journal(stand: &Stand<'_>) -> Result<Row, Stop> {
    postgres_restarts(stand, "journal")
}

pub(super) fn redis(stand: &Stand<'_>) -> Result<Row, Stop> {
    let mut backends = backends()?;
    let plan = stand
        .plan()?
        .env("DATABASE_URL", &backends.database_url())
        .env("REDIS_URL", &backends.redis_url());
    stand.under_load(plan, |_| {
        let away = restart(&mut backends, Backends::restart_redis)?;
        Ok(format!("away for {away:.1} s"))
    })
}
