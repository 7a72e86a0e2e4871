//! One client: asks what is due, and judges what comes.

use super::http1::{Answer, Connection, Found};
use super::http2::Session;
use super::load::{DEADLINE, Failure, Kind, Shared, Tally};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PLACES: [&str; 8] = ["Cusco", "Rome", "Lima", "Oslo", "Quito", "Kyoto", "Nairobi", "Lisbon"];
/// Of each place so many stories are asked for again and again.
const OLD_STORIES: u64 = 20;
/// Variations of stories that nobody has asked for before begin here.
const NEW_FROM: u64 = 100_000;
/// Every so many-th story is a new one.
const NEW_EVERY: u64 = 4;
/// A connection that cannot be made is not asked for again at once.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

pub(super) struct Client {
    shared: Arc<Shared>,
    kind: Kind,
    number: u32,
    asked: u64,
    tally: Tally,
    connection: Option<Connection>,
    session: Option<Session>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, kind: Kind, number: u32) -> Self {
        Self {
            shared,
            kind,
            number,
            asked: 0,
            tally: Tally::default(),
            connection: None,
            session: None,
        }
    }

    /// Asks every so often, the first time at `first`, until it is to end.
    pub(super) fn run(mut self, every: Duration, first: Duration) -> Tally {
        let mut due = first;
        while self.wait(due) {
            self.tally.offered += self.kind.batch();
            match self.kind {
                Kind::KeepAlive | Kind::Idle => self.fixed("/health", false),
                Kind::Short => self.fixed("/api/v1/styles", true),
                Kind::Pipelined => self.pipelined(),
                Kind::Http2 => self.streams(),
                Kind::Sse => self.tell(true),
                Kind::Stories => self.tell(false),
            }
            self.asked += 1;
            let waited = self.shared.begun.elapsed().saturating_sub(due);
            self.tally.longest_wait = self.tally.longest_wait.max(waited);
            due += every;
        }
        self.tally
    }

    /// Until something is due; false if that is not wanted any more.
    fn wait(&self, due: Duration) -> bool {
        loop {
            if !self.shared.is_wanted(due) {
                return false;
            }
            let left = due.saturating_sub(self.shared.begun.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    fn fail(&mut self, why: String, worker: Option<u32>, requests: u64) {
        if why.starts_with("connect") {
            std::thread::sleep(AFTER_REFUSAL);
        }
        self.tally.failed += requests;
        if self.tally.failures.len() < 100 {
            self.tally.failures.push(Failure {
                kind: self.kind,
                at: self.shared.begun.elapsed(),
                worker,
                why,
                requests,
            });
        }
    }

    fn answered(&mut self, count: u64) {
        self.tally.answered += count;
        self.shared.answer(self.kind, count);
    }

    /// A connection to send on: the one there is, unless it was closed in good order.
    fn ready(&mut self) -> Result<Connection, (String, Option<u32>)> {
        if let Some(connection) = self.connection.take() {
            match connection.look() {
                Ok(Found::Open) => return Ok(connection),
                Ok(Found::Closed) => self.tally.found_closed += 1,
                Err(why) => return Err((why, connection.worker)),
            }
        }
        Connection::open(self.shared.addr, DEADLINE).map_err(|why| (why, None))
    }

    fn keep(&mut self, connection: Connection, answer: &Answer) {
        if answer.closes {
            self.tally.told_to_close += 1;
        } else {
            self.connection = Some(connection);
        }
    }

    /// Sends and reads one answer.
    fn exchange(&mut self, request: &[u8]) -> Option<(Connection, Answer)> {
        let mut connection = match self.ready() {
            Ok(connection) => connection,
            Err((why, worker)) => {
                self.fail(why, worker, 1);
                return None;
            }
        };
        let deadline = Instant::now() + DEADLINE;
        match connection.send(request).and_then(|()| connection.read(deadline)) {
            Ok(answer) => Some((connection, answer)),
            Err(why) => {
                self.fail(why, connection.worker, 1);
                None
            }
        }
    }

    /// A GET whose answer has the same bytes each time.
    fn fixed(&mut self, path: &str, alone: bool) {
        let close = if alone { "Connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{close}\r\n");
        let Some((connection, answer)) = self.exchange(request.as_bytes()) else {
            return;
        };
        if answer.status == 200 && self.shared.is_as_before(path, &answer.body) {
            self.answered(1);
            if !alone {
                self.keep(connection, &answer);
            }
        } else {
            self.fail(wrong(&answer), answer.worker, 1);
        }
    }

    fn pipelined(&mut self) {
        let mut left = self.kind.batch();
        while left > 0 {
            let mut connection = match self.ready() {
                Ok(connection) => connection,
                Err((why, worker)) => return self.fail(why, worker, left),
            };
            let request = "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n".repeat(left as usize);
            if let Err(why) = connection.send(request.as_bytes()) {
                return self.fail(why, connection.worker, left);
            }
            let deadline = Instant::now() + DEADLINE;
            while left > 0 {
                let answer = match connection.read(deadline) {
                    Ok(answer) => answer,
                    Err(why) => return self.fail(why, connection.worker, left),
                };
                if answer.status != 200 || !self.shared.is_as_before("/health", &answer.body) {
                    return self.fail(wrong(&answer), answer.worker, left);
                }
                left -= 1;
                self.answered(1);
                if answer.closes {
                    self.tally.told_to_close += 1;
                    self.tally.sent_again += left;
                    break;
                }
                if left == 0 {
                    self.connection = Some(connection);
                    break;
                }
            }
        }
    }

    fn streams(&mut self) {
        let mut left = self.kind.batch();
        while left > 0 {
            let mut session = match self.session() {
                Ok(session) => session,
                Err((why, worker)) => return self.fail(why, worker, left),
            };
            // The worker that answers says who it is: so it is known whose connection this is.
            let went = session.ask("/health/v2/worker", left, Instant::now() + DEADLINE);
            for body in &went.answers {
                match worker_in(body) {
                    Some(worker) => session.worker = Some(worker),
                    None => {
                        let why = format!("a wrong answer: {}", String::from_utf8_lossy(body));
                        return self.fail(why, session.worker, left);
                    }
                }
                left -= 1;
                self.answered(1);
            }
            self.tally.sent_again += went.left_out;
            if let Some(why) = went.lost {
                // What was left out may be sent again; the rest is lost.
                self.fail(why, session.worker, left.saturating_sub(went.left_out));
                left = went.left_out;
            } else if session.is_leaving() {
                self.tally.told_to_close += 1;
            } else {
                self.session = Some(session);
            }
        }
    }

    fn session(&mut self) -> Result<Session, (String, Option<u32>)> {
        if let Some(mut session) = self.session.take() {
            match session.look() {
                Ok(Found::Open) => return Ok(session),
                Ok(Found::Closed) if session.is_leaving() => self.tally.told_to_close += 1,
                Ok(Found::Closed) => return Err(("closed without GOAWAY".to_owned(), session.worker)),
                Err(why) => return Err((why, session.worker)),
            }
        }
        Session::open(self.shared.addr, DEADLINE).map_err(|why| (why, None))
    }

    /// A story, told before or new; as JSON or as events.
    fn tell(&mut self, as_events: bool) {
        let place = PLACES[self.asked as usize % PLACES.len()];
        let is_new = !as_events && self.asked % NEW_EVERY == NEW_EVERY - 1;
        let variation = if is_new {
            // Of each client and request another.
            NEW_FROM + self.asked * 100 + u64::from(self.number)
        } else {
            self.asked / PLACES.len() as u64 % OLD_STORIES
        };
        let body = format!(r#"{{"location":"{place}","style":"history","length":"short","variation":{variation}}}"#);
        let accept = if as_events {
            "text/event-stream"
        } else {
            "application/json"
        };
        let request = story_request(&body, accept);
        let Some((connection, answer)) = self.exchange(request.as_bytes()) else {
            return;
        };
        if answer.status == 503 && answer.is_announced && self.shared.may_refuse.load(Ordering::Relaxed) {
            self.tally.refused += 1;
            return self.keep(connection, &answer);
        }
        let is_right = answer.status == 200
            && if as_events {
                is_whole_stream(&answer.body, self.shared.before(&body).as_deref())
            } else if is_new {
                answer.body.starts_with(b"{\"id\":")
            } else {
                self.shared.is_as_before(&body, &answer.body)
            };
        if is_right {
            self.answered(1);
            self.keep(connection, &answer);
        } else {
            self.fail(wrong(&answer), answer.worker, 1);
        }
    }
}

/// A request for a story.
pub(super) fn story_request(body: &str, accept: &str) -> String {
    format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn wrong(answer: &Answer) -> String {
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(120).collect();
    format!("a wrong answer: {} {text}", answer.status)
}

/// Tokens, and at last the story, with the same bytes as JSON has; or the event that says that the server ends.
fn is_whole_stream(stream: &[u8], json: Option<&[u8]>) -> bool {
    let text = String::from_utf8_lossy(stream);
    let Some((_, last)) = text.trim_end().rsplit_once("event: ") else {
        return false;
    };
    let Some((name, data)) = last.split_once('\n') else {
        return false;
    };
    match (name, data.strip_prefix("data: ")) {
        ("story", Some(story)) => {
            json.is_none_or(|json| json == story.as_bytes()) && text.starts_with("event: token\n")
        }
        ("shutdown", Some(_)) => true,
        _ => false,
    }
}

/// The number in an answer of `/health/v2/worker`.
fn worker_in(body: &[u8]) -> Option<u32> {
    use sonic_rs::JsonValueTrait;
    let json: sonic_rs::Value = sonic_rs::from_slice(body).ok()?;
    u32::try_from(json["worker"].as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_whole_or_it_is_not() {
        let tokens = "event: token\ndata: {\"text\":\"a\"}\n\n";
        let story = format!("{tokens}event: story\ndata: {{\"id\":1}}\n\n");
        assert!(is_whole_stream(story.as_bytes(), None));
        assert!(is_whole_stream(story.as_bytes(), Some(b"{\"id\":1}")));
        assert!(!is_whole_stream(story.as_bytes(), Some(b"{\"id\":2}")));
        assert!(!is_whole_stream(tokens.as_bytes(), None));
        assert!(!is_whole_stream(b"", None));
        let ended = format!("{tokens}retry: 2000\nevent: shutdown\ndata: {{}}\n\n");
        assert!(is_whole_stream(ended.as_bytes(), None));
    }
}
