//! Load on one server while something happens behind it, and what came of it: a row of the fault table.
//!
//! What is right is known from elsewhere: the text of a story from a server without any fault behind it, its bytes from
//! the first answer, and whether it was kept from the database itself.

use super::http::{Connection, Response, story_request};
use super::postgres::Postgres;
use super::redis::id_of;
use super::{Server, until};
use sonic_rs::JsonValueTrait;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an answer may take: `limits::story::TELL_MS_MAX`, after which the server gives up by itself, and as much
/// again for a machine that is slow and busy.
pub const DEADLINE: Duration = Duration::from_secs(24);
const CLIENTS: u64 = 6;

/// What clients saw of one fault.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub name: String,
    pub sent: u64,
    pub right: u64,
    pub refused: u64,
    pub hung: u64,
    pub kept: usize,
    pub missing: usize,
    /// The slowest answer, and the time from the end of the fault until all were served and ready again.
    pub slowest: Duration,
    pub back: Duration,
    /// What must not be: another story, an error without Retry-After, a connection that was cut.
    pub wrong: Vec<String>,
}

impl Row {
    /// The heading.
    pub const HEAD: &str = "| fault | sent | right | 503 | hung | stories | missing | slowest | back after |\n\
        | --- | --: | --: | --: | --: | --: | --: | --: | --: |";

    /// The row.
    pub fn text(&self) -> String {
        let Row { name, sent, right, .. } = self;
        let (refused, hung, kept, missing) = (self.refused, self.hung, self.kept, self.missing);
        let (slowest, back) = (self.slowest.as_secs_f64(), self.back.as_secs_f64());
        format!(
            "| {name} | {sent} | {right} | {refused} | {hung} | {kept} | {missing} | {slowest:.2} s | {back:.2} s |"
        )
    }

    /// What of it must not be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.wrong.iter().take(5).cloned().collect();
        if self.hung + self.missing as u64 > 0 {
            faults.push(format!("{} hung, {} missing", self.hung, self.missing));
        }
        if self.sent != self.right + self.refused + self.hung + self.wrong.len() as u64 {
            faults.push("the sum does not hold".into());
        }
        faults
            .into_iter()
            .map(|fault| format!("{}: {fault}", self.name))
            .collect()
    }
}

#[derive(Default)]
struct Tally {
    /// Another number for each siege, so that each has stories of its own.
    number: u64,
    sent: AtomicU64,
    right: AtomicU64,
    fresh: AtomicU64,
    refused: AtomicU64,
    hung: AtomicU64,
    slowest_us: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// The answer of each request.
    told: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Tally {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    /// An answer to `sent`, or none; what a 200 has.
    fn judge(&self, sent: &str, begun: Instant, answer: &Result<Response, String>) -> Option<Vec<u8>> {
        let took = begun.elapsed();
        self.slowest_us
            .fetch_max(u64::try_from(took.as_micros()).unwrap(), Ordering::Relaxed);
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if took >= DEADLINE => {
                self.hung.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Err(error) => {
                self.wrong(format!("{error} for {sent}"));
                return None;
            }
        };
        match answer.status {
            200 => return Some(answer.body.clone()),
            503 => {
                let seconds = answer.field("retry-after").and_then(|value| value.parse::<u32>().ok());
                let kind = answer.field("content-type");
                let is_problem = kind == Some("application/problem+json")
                    && answer.json()["status"].as_u64() == Some(503)
                    && answer.json()["request_id"].as_str() == answer.field("x-request-id");
                if seconds.is_some_and(|seconds| (1..=60).contains(&seconds)) && is_problem {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.wrong(format!("a bad 503 for {sent}: {answer:?}"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            other => self.wrong(format!("{other} for {sent}: {}", String::from_utf8_lossy(&answer.body))),
        }
        None
    }

    /// One client: every other time a story that is new; else one it knows, by request or by id.
    fn ask(&self, server: &Server, client: u64, stop: &AtomicBool) {
        const PLACES: [&str; 5] = ["Lisbon", "Oslo", "Cork", "Kyoto", "Quito"];
        let mut connection = open(server);
        let mut known: Vec<(String, Vec<u8>)> = Vec::new();
        let mut rng = fastrand::Rng::with_seed(self.number * CLIENTS + client);
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(rng.u64(5..25)));
            let old = known.get(rng.usize(0..known.len().max(1))).filter(|_| number % 2 == 1);
            let variation = (self.number * CLIENTS + client) * 100_000 + number;
            let body = match old {
                Some((body, _)) => body.clone(),
                None => format!(
                    r#"{{"location":"{}","length":"short","variation":{variation}}}"#,
                    PLACES[(variation % 5) as usize]
                ),
            };
            let text = match old {
                Some((_, story)) if rng.bool() => {
                    format!("GET /api/v1/stories/{} HTTP/1.1\r\nHost: test\r\n\r\n", id_of(story))
                }
                _ => story_request(&body),
            };
            self.sent.fetch_add(1, Ordering::Relaxed);
            let begun = Instant::now();
            let answer = match connection.stream.write_all(text.as_bytes()) {
                Ok(()) => connection.try_read(false),
                Err(error) => Err(error.to_string()),
            };
            let story = self.judge(&text, begun, &answer);
            if answer.as_ref().map_or(true, Response::closes) {
                connection = open(server);
            }
            let Some(story) = story else { continue };
            match old {
                Some((_, first)) if *first != story => self.wrong(format!("another story for {body}")),
                Some(_) => drop(self.right.fetch_add(1, Ordering::Relaxed)),
                None => {
                    self.right.fetch_add(1, Ordering::Relaxed);
                    self.fresh.fetch_add(1, Ordering::Relaxed);
                    self.told.lock().unwrap().insert(body.clone(), story.clone());
                    known.push((body, story));
                }
            }
        }
    }
}

fn open(server: &Server) -> Connection {
    let connection = server.connect();
    connection.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    connection
}

/// True if each worker says that it is ready: each connection may reach another one.
pub fn is_ready(server: &Server) -> bool {
    (0..8).all(|_| server.get("/health/v2/ready").status == 200)
}

/// A story without what differs from server to server.
fn text_of(story: &[u8]) -> String {
    let story: sonic_rs::Value = sonic_rs::from_slice(story).unwrap();
    [
        "title",
        "story",
        "location",
        "style",
        "length",
        "language",
        "duration_seconds",
    ]
    .map(|name| sonic_rs::to_string(&story[name]).unwrap())
    .join("\n")
}

/// Load on `server` while something `happens` to `database()` behind it. `right` is a server with nothing behind it that
/// could fail. What happens must be over when the call returns; then all must be served again.
pub fn siege(
    name: &str,
    server: &Server,
    right: &Server,
    happens: impl FnOnce(),
    kept: impl FnOnce() -> BTreeMap<String, Vec<u8>>,
) -> Row {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (tally, stop) = (
        Tally {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            ..Tally::default()
        },
        AtomicBool::new(false),
    );
    let back = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (tally, stop) = (&tally, &stop);
            scope.spawn(move || tally.ask(server, client, stop));
        }
        // Even where something fails the clients must be told to stop, or the scope never ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let new_stories = |more: u64| {
                let before = tally.fresh.load(Ordering::Relaxed);
                until(&format!("{name}: new stories"), || {
                    tally.fresh.load(Ordering::Relaxed) >= before + more
                });
            };
            new_stories(30);
            happens();
            let over = Instant::now();
            new_stories(30);
            until(&format!("{name}: readiness"), || is_ready(server));
            over.elapsed()
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| {
            eprintln!("{name}: {:?}", tally.wrong.lock().unwrap().first());
            std::panic::resume_unwind(panic)
        })
    });
    let (told, kept) = (tally.told.into_inner().unwrap(), kept());
    let mut wrong = tally.wrong.into_inner().unwrap();
    let (mut missing, mut is_other) = (0, 0);
    let mut reference = right.connect();
    for (body, story) in &told {
        if kept.get(&id_of(story)) != Some(story) {
            missing += 1;
        }
        if text_of(&reference.tell(body).expect(200).body) != text_of(story) {
            is_other += 1;
            wrong.push(format!("a story that {body} does not give"));
        }
    }
    let row = Row {
        name: name.to_owned(),
        sent: tally.sent.into_inner(),
        right: tally.right.into_inner() - is_other,
        refused: tally.refused.into_inner(),
        hung: tally.hung.into_inner(),
        kept: told.len(),
        missing,
        slowest: Duration::from_micros(tally.slowest_us.into_inner()),
        back,
        wrong,
    };
    println!("{}", row.text());
    row
}

/// Every story of a database, by id.
pub fn stories_of(database: &Postgres) -> BTreeMap<String, Vec<u8>> {
    let text = database.sql("SELECT id || ' ' || convert_from(json, 'UTF8') FROM stories WHERE key IS NOT NULL");
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, json)| (id.to_owned(), json.as_bytes().to_vec()))
        .collect()
}
