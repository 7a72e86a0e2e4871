//! Clients of every kind at once, each of which knows what it is owed: an answer to each request that it has sent whole
//! before it could know that the server is leaving.

use super::PATIENCE;
use super::frames::{self, Frames};
use super::http::{Connection, story_request};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a kind of client has seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub offered: AtomicU64,
    pub answered: AtomicU64,
    pub failed: AtomicU64,
    /// Between two answers, milliseconds, at most.
    pub longest_gap_ms: AtomicU64,
    /// Why, of the first that failed.
    pub why: std::sync::Mutex<Option<String>>,
}

impl Tally {
    fn fail(&self, number: usize, why: String) {
        self.failed.fetch_add(number as u64, Ordering::Relaxed);
        self.why.lock().unwrap().get_or_insert(why);
    }

    fn answer(&self, last: &mut Instant) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let gap = u64::try_from(last.elapsed().as_millis()).unwrap();
        self.longest_gap_ms.fetch_max(gap, Ordering::Relaxed);
        *last = Instant::now();
    }

    fn get(cell: &AtomicU64) -> u64 {
        cell.load(Ordering::Relaxed)
    }
}

type Run = fn(&Client);

/// The kinds, and how many of each.
const KINDS: [(&str, usize, Run); 6] = [
    ("keep-alive", 3, keep_alive),
    ("now and then", 6, now_and_then),
    ("short-lived", 3, short_lived),
    ("pipelined", 2, pipelined),
    ("HTTP/2", 2, http2),
    ("events", 2, events),
];

struct Client {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    seed: u64,
}

/// A load that runs until it is stopped, or until nobody listens.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    tallies: Vec<(&'static str, Arc<Tally>)>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub fn start(addr: SocketAddr) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut tallies, mut clients) = (Vec::new(), Vec::new());
        for (name, count, run) in KINDS {
            let tally: Arc<Tally> = Arc::default();
            tallies.push((name, Arc::clone(&tally)));
            for seed in 0..count {
                let client = Client {
                    addr,
                    stop: Arc::clone(&stop),
                    tally: Arc::clone(&tally),
                    seed: seed as u64,
                };
                clients.push(std::thread::spawn(move || run(&client)));
            }
        }
        Crowd { stop, tallies, clients }
    }

    /// Waits until each kind has so many answers.
    pub fn warm(&self, answers: u64) {
        let least = || self.tallies.iter().map(|(_, tally)| Tally::get(&tally.answered)).min();
        super::until("all clients to be served", || least() >= Some(answers));
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.tallies.iter().map(|(_, tally)| Tally::get(&tally.answered)).sum()
    }

    /// Ends the load, waits for what is in flight, and checks that nothing was lost. `what` was done to the server.
    pub fn end(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        self.wait(what);
    }

    /// Waits until the clients find nobody, and checks that nothing was lost.
    pub fn wait(self, what: &str) {
        for client in self.clients {
            client.join().expect("a client");
        }
        println!(
            "{what}:\n{:14} {:>8} {:>8} {:>6} {:>8}",
            "", "offered", "answered", "failed", "gap, ms"
        );
        for (name, tally) in &self.tallies {
            println!(
                "{name:14} {:>8} {:>8} {:>6} {:>8}",
                Tally::get(&tally.offered),
                Tally::get(&tally.answered),
                Tally::get(&tally.failed),
                Tally::get(&tally.longest_gap_ms)
            );
        }
        for (name, tally) in &self.tallies {
            let why = tally.why.lock().unwrap();
            assert_eq!(Tally::get(&tally.failed), 0, "{what}: {name} lost requests: {why:?}");
            assert_eq!(
                Tally::get(&tally.offered),
                Tally::get(&tally.answered),
                "{what}: {name}"
            );
        }
    }
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// None once nobody listens: that is no failure, the client turns elsewhere.
    fn connect(&self) -> Option<Connection> {
        let stream = TcpStream::connect_timeout(&self.addr, PATIENCE).ok()?;
        // A connection to a free port may meet itself.
        (stream.local_addr().ok() != stream.peer_addr().ok()).then(|| Connection::over(stream))
    }

    fn offer(&self, number: usize) {
        self.tally.offered.fetch_add(number as u64, Ordering::Relaxed);
    }

    fn request(&self, number: u64) -> String {
        if number.is_multiple_of(3) {
            story_request(r#"{"location":"Cusco"}"#)
        } else {
            "GET /api/v1/styles HTTP/1.1\r\nHost: test\r\n\r\n".to_owned()
        }
    }
}

/// One request after another on one connection.
fn keep_alive(client: &Client) {
    paced(client, |_| Duration::ZERO);
}

/// The same, with pauses in which the server may close.
fn now_and_then(client: &Client) {
    paced(client, |number| Duration::from_millis(37 * (number % 11)));
}

fn paced(client: &Client, pause: impl Fn(u64) -> Duration) {
    let mut last = Instant::now();
    let mut number = client.seed;
    'connections: while client.goes_on()
        && let Some(mut connection) = client.connect()
    {
        while client.goes_on() {
            number += 1;
            std::thread::sleep(pause(number));
            if connection.has_ended() {
                // It was idle: nothing was sent on it.
                continue 'connections;
            }
            let request = client.request(number);
            client.offer(1);
            if let Err(error) = connection.stream.write_all(request.as_bytes()) {
                client.tally.fail(1, format!("the request could not be sent: {error}"));
                continue 'connections;
            }
            match connection.try_read(false) {
                Ok(answer) if answer.status == 200 => {
                    client.tally.answer(&mut last);
                    if answer.closes() {
                        continue 'connections;
                    }
                }
                Ok(answer) => client.tally.fail(1, format!("{answer:?}")),
                Err(why) => {
                    client.tally.fail(1, why);
                    continue 'connections;
                }
            }
        }
    }
}

/// A connection for each request.
fn short_lived(client: &Client) {
    let mut last = Instant::now();
    while client.goes_on()
        && let Some(mut connection) = client.connect()
    {
        client.offer(1);
        let request = "GET /api/v1/styles HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let sent = connection
            .stream
            .write_all(request.as_bytes())
            .map_err(|error| error.to_string());
        match sent.and_then(|()| connection.try_read(false)) {
            Ok(answer) if answer.status == 200 && connection.is_closed() => client.tally.answer(&mut last),
            Ok(answer) => client.tally.fail(1, format!("{answer:?}")),
            Err(why) => client.tally.fail(1, why),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sixteen requests in one write, more than a receive buffer holds; then sixteen answers.
fn pipelined(client: &Client) {
    const DEPTH: usize = 16;
    let mut last = Instant::now();
    'connections: while client.goes_on()
        && let Some(mut connection) = client.connect()
    {
        while client.goes_on() && !connection.has_ended() {
            let one = format!(
                "GET /api/v1/styles HTTP/1.1\r\nHost: test\r\nX-Padding: {}\r\n\r\n",
                "x".repeat(200)
            );
            client.offer(DEPTH);
            if let Err(error) = connection.stream.write_all(one.repeat(DEPTH).as_bytes()) {
                client.tally.fail(DEPTH, error.to_string());
                continue 'connections;
            }
            for at in 0..DEPTH {
                match connection.try_read(false) {
                    Ok(answer) if answer.status == 200 => {
                        client.tally.answer(&mut last);
                        if answer.closes() {
                            let lost = DEPTH - at - 1;
                            if lost > 0 {
                                client
                                    .tally
                                    .fail(lost, format!("{lost} behind the answer that says close"));
                            }
                            continue 'connections;
                        }
                    }
                    Ok(answer) => client.tally.fail(1, format!("{answer:?}")),
                    Err(why) => {
                        client.tally.fail(DEPTH - at, why);
                        continue 'connections;
                    }
                }
            }
        }
    }
}

/// Eight streams at a time; after a GOAWAY no more.
fn http2(client: &Client) {
    const DEPTH: usize = 8;
    let mut last = Instant::now();
    while client.goes_on() {
        let Some(mut connection) = Frames::try_open(client.addr) else {
            return;
        };
        let (mut next, mut open, mut leaving) = (1u32, Vec::new(), None);
        loop {
            while leaving.is_none() && open.len() < DEPTH && client.goes_on() {
                let head = frames::request("GET", "/api/v1/styles", &[]);
                let flags = frames::END_STREAM | frames::END_HEADERS;
                client.offer(1);
                if connection
                    .try_send(&frames::frame(frames::HEADERS, flags, next, head))
                    .is_err()
                {
                    // Whether it counts is up to the GOAWAY that has come, or has not.
                    open.push(next);
                    break;
                }
                open.push(next);
                next += 2;
            }
            if open.is_empty() {
                break;
            }
            let Some(frame) = connection.next() else { break };
            match frame.kind {
                frames::PING if frame.flags & frames::ACK == 0 => {
                    let _ = connection.try_send(&frames::frame(frames::PING, frames::ACK, 0, &frame.payload));
                }
                frames::SETTINGS if frame.flags & frames::ACK == 0 => {
                    let _ = connection.try_send(&frames::frame(frames::SETTINGS, frames::ACK, 0, []));
                }
                frames::GOAWAY => {
                    let id = u32::from_be_bytes(frame.payload[..4].try_into().unwrap()) & 0x7fff_ffff;
                    assert!(leaving.is_none_or(|before| id <= before), "the last stream went up");
                    leaving = Some(id);
                }
                frames::DATA => {
                    // Windows: the connection's is all that is used up.
                    let bytes = (frame.payload.len() as u32).to_be_bytes();
                    if !frame.payload.is_empty() {
                        let _ = connection.try_send(&frames::frame(frames::WINDOW_UPDATE, 0, 0, bytes));
                    }
                }
                frames::RST_STREAM => client
                    .tally
                    .fail(1, format!("stream {} was reset: {frame:?}", frame.stream)),
                _ => {}
            }
            if frame.flags & frames::END_STREAM != 0 && matches!(frame.kind, frames::DATA | frames::HEADERS) {
                open.retain(|stream| *stream != frame.stream);
                client.tally.answer(&mut last);
            }
        }
        // Past the last one they were not looked at, and may be sent again elsewhere (RFC 9113 section 6.8).
        let (owed, beyond): (Vec<u32>, Vec<u32>) = open
            .into_iter()
            .partition(|stream| leaving.is_none_or(|last| *stream <= last));
        client.tally.offered.fetch_sub(beyond.len() as u64, Ordering::Relaxed);
        if !owed.is_empty() {
            client.tally.fail(
                owed.len(),
                format!("streams {owed:?} up to {leaving:?} were not answered"),
            );
        }
    }
}

/// A story as events, to its proper end.
fn events(client: &Client) {
    let mut last = Instant::now();
    while client.goes_on()
        && let Some(mut connection) = client.connect()
    {
        client.offer(1);
        let request = story_request(r#"{"location":"Cusco"}"#)
            .replace("Content-Type", "Accept: text/event-stream\r\nContent-Type");
        let sent = connection
            .stream
            .write_all(request.as_bytes())
            .map_err(|error| error.to_string());
        match sent.and_then(|()| connection.try_read(false)) {
            Ok(answer) if answer.status == 200 && answer.text().contains("event: story") => {
                client.tally.answer(&mut last);
            }
            Ok(answer) => client.tally.fail(1, format!("{answer:?}")),
            Err(why) => client.tally.fail(1, why),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
