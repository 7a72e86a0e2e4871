//! Clients that ask all the time while something happens to the server, and an honest count of what became of it.
//!
//! FAILED is: a connection refused or reset; a request that was sent and got no whole answer, whatever the reason; an
//! answer that is not what was asked for. Not failed is what RFC 9112 lets a client do without a doubt: to find, before it
//! sends, that an idle connection was closed in good order; and to send again what it had pipelined behind a request whose
//! answer said `Connection: close`, which means that nothing behind it was looked at (section 9.6), or on a stream that a
//! GOAWAY left out (RFC 9113 section 6.8). Both are counted apart.

mod http2;

use super::PATIENCE;
use super::http::{Connection, Response, story_request};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One connection for as long as it lasts, with pauses of this length at most.
    KeepAlive(Duration),
    /// A connection for each request.
    Short,
    /// This many requests at once on a connection that lasts.
    Pipelined(usize),
    /// HTTP/2, this many streams at once.
    Http2(usize),
    /// Story streams, on a connection that lasts.
    Events,
    /// Stories, told anew and again, on a connection that lasts.
    Stories,
}

impl Kind {
    /// The mixture of the issue: keep-alive with short and long pauses, short-lived, pipelined, HTTP/2, streams of
    /// events, stories.
    pub const MIX: [Kind; 10] = [
        Kind::KeepAlive(Duration::from_millis(3)),
        Kind::KeepAlive(Duration::from_millis(40)),
        Kind::KeepAlive(Duration::from_millis(1500)),
        Kind::Short,
        Kind::Short,
        Kind::Pipelined(8),
        Kind::Http2(4),
        Kind::Http2(4),
        Kind::Events,
        Kind::Stories,
    ];
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests begun.
    pub offered: u64,
    /// Whole and right answers.
    pub answered: u64,
    /// Connections, made anew because the last answer said close.
    pub told_to_close: u64,
    /// Connections that were found closed before anything was sent.
    pub found_closed: u64,
    /// Pipelined requests sent again behind an answer that said close.
    pub sent_again: u64,
    /// The longest time in which no client got an answer.
    pub longest_gap: Duration,
    /// The longest wait for one answer, connecting included.
    pub longest_wait: Duration,
    /// What failed.
    pub failed: Vec<String>,
}

impl Tally {
    /// One line of a table.
    pub fn row(&self, what: &str) -> String {
        format!(
            "| {what} | {} | {} | {} | {} ms | {} ms | {} | {} | {} |",
            self.offered,
            self.answered,
            self.failed.len(),
            self.longest_gap.as_millis(),
            self.longest_wait.as_millis(),
            self.told_to_close,
            self.found_closed,
            self.sent_again
        )
    }

    /// Prints the row, and fails the test if anything failed.
    pub fn expect_none_failed(&self, what: &str) {
        println!("{}", self.row(what));
        assert!(
            self.failed.is_empty(),
            "{what}: {} of {} failed, such as {:#?}",
            self.failed.len(),
            self.offered,
            self.failed.iter().take(8).collect::<Vec<_>>()
        );
        assert!(self.answered >= self.offered && self.answered > 0, "{self:?}");
    }
}

struct Shared {
    addr: SocketAddr,
    begun: Instant,
    stop: AtomicBool,
    /// The server is to end: a connection that cannot be made any more is not the server's fault.
    may_end: AtomicBool,
    answered: AtomicU64,
    /// Microseconds since the begin.
    last_answer_us: AtomicU64,
    longest_gap_us: AtomicU64,
    tally: Mutex<Tally>,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts a client for each of `kinds`; gives when all have been answered once.
    pub fn start(addr: SocketAddr, kinds: &[Kind]) -> Load {
        let shared = Arc::new(Shared {
            addr,
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            may_end: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            last_answer_us: AtomicU64::new(0),
            longest_gap_us: AtomicU64::new(0),
            tally: Mutex::default(),
        });
        let start = |(number, kind): (usize, &Kind)| {
            let mut client = Client {
                shared: Arc::clone(&shared),
                kind: *kind,
                number,
                tally: Tally::default(),
                connection: None,
                http2: None,
                seed: number as u64 + 1,
            };
            std::thread::spawn(move || client.run())
        };
        let clients = kinds.iter().enumerate().map(start).collect();
        let load = Load { shared, clients };
        load.go_on_for(20 * kinds.len() as u64);
        load
    }

    /// Waits until so many requests more are answered.
    pub fn go_on_for(&self, requests: u64) {
        let wanted = self.answered() + requests;
        super::until("the load to be answered", || {
            self.answered() >= wanted || self.clients.iter().any(JoinHandle::is_finished)
        });
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// The server is told to end now: clients stop where they are told to close and cannot connect again.
    pub fn let_end(&self) {
        self.shared.may_end.store(true, Ordering::SeqCst);
    }

    /// Ends the clients behind their present answers.
    pub fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        let mut tally = std::mem::take(&mut *self.shared.tally.lock().unwrap());
        tally.longest_gap = Duration::from_micros(self.shared.longest_gap_us.load(Ordering::Relaxed));
        tally
    }
}

struct Client {
    shared: Arc<Shared>,
    kind: Kind,
    number: usize,
    tally: Tally,
    connection: Option<Connection>,
    http2: Option<http2::Session>,
    seed: u64,
}

/// Why a client stops before it is told to.
struct NobodyThere;

impl Client {
    fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let went = match self.kind {
                Kind::KeepAlive(_) => self.ask("/health/v2/live"),
                Kind::Short => self.ask_once(),
                Kind::Pipelined(count) => self.ask_many(count),
                Kind::Http2(streams) => self.ask_streams(streams),
                Kind::Events => self.tell(true),
                Kind::Stories => self.tell(false),
            };
            if went.is_err() {
                break;
            }
            self.tally.longest_wait = self.tally.longest_wait.max(begun.elapsed());
            match self.kind {
                Kind::KeepAlive(pause) => {
                    let pause_us = self.random() % (pause.as_micros() as u64 + 1);
                    self.pause(Duration::from_micros(pause_us));
                }
                // Not for want of work: the machine is others', too.
                _ => self.pause(Duration::from_micros(500)),
            }
        }
        let mut all = self.shared.tally.lock().unwrap();
        let own = std::mem::take(&mut self.tally);
        all.offered += own.offered;
        all.answered += own.answered;
        all.told_to_close += own.told_to_close;
        all.found_closed += own.found_closed;
        all.sent_again += own.sent_again;
        all.longest_wait = all.longest_wait.max(own.longest_wait);
        all.failed.extend(own.failed);
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.shared.stop.load(Ordering::Relaxed) {
            std::thread::sleep((until - Instant::now()).min(Duration::from_millis(20)));
        }
    }

    fn random(&mut self) -> u64 {
        // splitmix64
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fail(&mut self, what: &str, why: impl std::fmt::Display) {
        let at = self.shared.begun.elapsed().as_millis();
        let line = format!("{:?} {} at {at} ms: {what}: {why}", self.kind, self.number);
        self.tally.failed.push(line);
        self.connection = None;
    }

    fn connect(&mut self) -> Result<Option<Connection>, NobodyThere> {
        Ok(self.connect_raw()?.map(Connection::over))
    }

    fn connect_raw(&mut self) -> Result<Option<TcpStream>, NobodyThere> {
        match TcpStream::connect_timeout(&self.shared.addr, PATIENCE) {
            Ok(stream) => {
                let meets_itself = stream.local_addr().ok() == stream.peer_addr().ok();
                if meets_itself && self.shared.may_end.load(Ordering::SeqCst) {
                    return Err(NobodyThere);
                }
                Ok(Some(stream))
            }
            Err(_) if self.shared.may_end.load(Ordering::SeqCst) => Err(NobodyThere),
            Err(error) => {
                self.tally.offered += 1;
                self.fail("connect", error);
                Ok(None)
            }
        }
    }

    /// A connection to send on: the one there is, unless it was closed in good order.
    fn ready(&mut self) -> Result<Option<Connection>, NobodyThere> {
        if let Some(connection) = self.connection.take() {
            connection.stream.set_nonblocking(true).unwrap();
            let peeked = connection.stream.peek(&mut [0]);
            connection.stream.set_nonblocking(false).unwrap();
            match peeked {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(connection)),
                Ok(0) => self.tally.found_closed += 1,
                Ok(_) => self.fail("idle", "bytes that nobody asked for"),
                Err(error) => self.fail("idle", error),
            }
        }
        self.connect()
    }

    fn answered(&mut self, connection: Connection, response: &Response) {
        self.count_answer();
        if response.closes() {
            self.tally.told_to_close += 1;
        } else {
            self.connection = Some(connection);
        }
    }

    fn count_answer(&mut self) {
        self.tally.answered += 1;
        let shared = &self.shared;
        shared.answered.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(shared.begun.elapsed().as_micros()).unwrap();
        let last = shared.last_answer_us.fetch_max(now, Ordering::Relaxed);
        shared
            .longest_gap_us
            .fetch_max(now.saturating_sub(last), Ordering::Relaxed);
    }

    /// Sends and reads one answer, which `is_right`.
    fn exchange(&mut self, request: &str, is_right: impl Fn(&Response) -> bool) -> Result<(), NobodyThere> {
        let Some(mut connection) = self.ready()? else {
            return Ok(());
        };
        self.tally.offered += 1;
        if let Err(error) = connection.stream.write_all(request.as_bytes()) {
            return self.lost("send", error.to_string());
        }
        match connection.try_read(false) {
            Ok(response) if is_right(&response) => self.answered(connection, &response),
            Ok(response) => self.fail("answer", format!("{} {}", response.status, response.text())),
            Err(why) => return self.lost("answer", why),
        }
        Ok(())
    }

    /// A request got no answer. What is sent into a connection that was made in the last moment of a server that ends
    /// is lost as a whole: RFC 9112 has no word for it. It counts as failed all the same.
    fn lost(&mut self, what: &str, why: String) -> Result<(), NobodyThere> {
        self.fail(what, why);
        Ok(())
    }

    fn ask(&mut self, path: &str) -> Result<(), NobodyThere> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
        self.exchange(&request, |response| response.status == 200)
    }

    fn ask_once(&mut self) -> Result<(), NobodyThere> {
        self.connection = None;
        let request = "GET /api/v1/styles HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        self.exchange(request, |response| response.status == 200 && response.closes())
    }

    fn ask_many(&mut self, count: usize) -> Result<(), NobodyThere> {
        let mut left = count;
        while left > 0 {
            let Some(mut connection) = self.ready()? else {
                return Ok(());
            };
            let batch = "GET /health HTTP/1.1\r\nHost: t\r\n\r\n".repeat(left);
            self.tally.offered += left as u64;
            if let Err(error) = connection.stream.write_all(batch.as_bytes()) {
                return self.lost("send", error.to_string());
            }
            let mut connection = Some(connection);
            while let (Some(mut open), 1..) = (connection.take(), left) {
                match open.try_read(false) {
                    Ok(response) if response.status == 200 => {
                        left -= 1;
                        let closes = response.closes();
                        self.answered(open, &response);
                        connection = self.connection.take();
                        if closes {
                            self.tally.sent_again += left as u64;
                            self.tally.offered -= left as u64;
                        }
                    }
                    Ok(response) => {
                        self.fail("answer", response.status);
                        return Ok(());
                    }
                    Err(why) => return self.lost("answer", why),
                }
            }
            if left == 0 {
                self.connection = connection;
            }
        }
        Ok(())
    }

    fn tell(&mut self, as_events: bool) -> Result<(), NobodyThere> {
        let places = ["Cusco", "Rome", "Lima", "Oslo", "Quito", "Kyoto", "Nairobi", "Lisbon"];
        let place = places[(self.random() % places.len() as u64) as usize];
        let variation = self.random() % 50;
        let body = format!(r#"{{"location":"{place}","style":"history","length":"short","variation":{variation}}}"#);
        let mut request = story_request(&body);
        if as_events {
            request = request.replacen("\r\n", "\r\nAccept: text/event-stream\r\n", 1);
        }
        self.exchange(&request, |response| {
            let text = response.text();
            response.status == 200 && text.contains(if as_events { "event: story" } else { "\"title\"" })
        })
    }
}
