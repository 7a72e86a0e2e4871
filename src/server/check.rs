//! One connection whose every byte and every moment was chosen by somebody else, in the simulated network: what comes
//! back is what is owed, and nothing is left. Property tests give it random bytes, `fuzz/` bytes that a fuzzer grew.
//! Not in a server.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Reason: a property that fails is a panic.

use super::{App, Events, Outbox, Outcome, Reply, ReplyBody, Request, Server, Settings, accept, http2};
use crate::http::check::{Owed, owed};
use crate::http::{CONTINUE_100, Reject, Status, Version};
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, SimDriver, SimNet};
use crate::runtime::driver::{Shutdown, SocketAddrAny};
use crate::runtime::executor::{Runtime, spawn};
use crate::runtime::net::{Listener, Stream};
use crate::runtime::time::{Sleep, sleep, timeout};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// Answers with the request: at once, later where its path begins with `/l`, in pieces where with `/e`.
struct Echo;

fn echo(line: &str, body: &[u8]) -> Vec<u8> {
    [line.as_bytes(), b"\n", body].concat()
}

impl App for Echo {
    fn call(&self, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
        let head = request.head;
        let body = echo(&format!("{} {}", head.method, head.target), request.body);
        let later = |pause: u64, body: ReplyBody| {
            Outcome::Later(Box::pin(async move {
                sleep(Duration::from_millis(pause)).await;
                Reply {
                    status: Status::OK,
                    content_type: "text/plain",
                    fields: Vec::new(),
                    body,
                }
            }))
        };
        match head.path.as_bytes().get(1) {
            Some(b'l') => later(head.path.len() as u64 * 3, ReplyBody::Bytes(body)),
            // To HTTP/1.0 they would end with the connection.
            Some(b'e') if head.version == Version::Http11 => later(0, ReplyBody::Events(Box::new(Pieces(body)))),
            _ => Outcome::Done {
                keep_alive: outbox.respond(Status::OK).body(&body),
            },
        }
    }

    fn refuse(&self, reject: &Reject, outbox: Outbox<'_>) {
        outbox.respond(reject.status).body(reject.detail.as_bytes());
    }

    fn failed(&self, _request: Option<&Request<'_>>, _outbox: Outbox<'_>) -> bool {
        panic!("nothing fails here")
    }
}

struct Pieces(Vec<u8>);

impl Events for Pieces {
    fn poll_next(&mut self, _cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, ()>> {
        let rest = self.0.split_off(self.0.len().min(40));
        out.append(&mut self.0);
        self.0 = rest;
        Poll::Ready(Ok(!self.0.is_empty()))
    }
}

/// How the client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Says that nothing more comes, and reads to the end.
    HalfCloses,
    /// Waits until the server has had enough.
    Waits,
    /// Closes while answers are on their way.
    Drops,
    /// The connection is cut.
    IsCut,
    /// Has read nothing, and reads nothing.
    NeverReads,
}

/// What `data` says is to happen. Any bytes say something.
struct Plan {
    config: SimConfig,
    /// Bytes and connections may be lost.
    lossy: bool,
    seed: u64,
    end: End,
    /// The server is told to end after so many milliseconds.
    drains_ms: Option<u64>,
    /// After each read, no reading for so long.
    reads_slowly_ms: u64,
    pieces: VecDeque<(Duration, Vec<u8>)>,
    wire: Vec<u8>,
}

impl Plan {
    fn of(data: &[u8]) -> Plan {
        let mut bytes = data.iter().copied();
        let mut take = || bytes.next().unwrap_or(0);
        let (network, seed, end, drain, reads, count) = (take(), take(), take(), take(), take(), take() % 64);
        let mut config = match network & 3 {
            0 => SimConfig::calm(),
            1 => SimConfig::rough(),
            // A byte at a time, both ways.
            2 => SimConfig {
                short_read: 1.0,
                short_write: 1.0,
                socket_buffer_bytes: 1,
                ..SimConfig::calm()
            },
            // Hardly a buffer ever.
            _ => SimConfig {
                no_buffers: 0.8,
                buffers: 2,
                buffer_bytes: 64,
                delay_ns_max: 20_000,
                ..SimConfig::rough()
            },
        };
        let lossy = network & 4 != 0;
        if lossy {
            (config.too_many_files, config.reset) = (0.5, 0.02);
        }
        let schedule: Vec<(u8, u8)> = (0..count).map(|_| (take(), take())).collect();
        let wire: Vec<u8> = bytes.collect();
        let mut rest = &wire[..];
        // Of all pauses together: less than the time for a head.
        let mut pause_ms_left = 2000;
        let mut pieces = VecDeque::new();
        for (bytes, pause) in schedule {
            let (piece, after) = rest.split_at(usize::from(bytes).min(rest.len()));
            let pause = u64::from(pause).min(pause_ms_left);
            pause_ms_left -= pause;
            pieces.push_back((Duration::from_millis(pause), piece.to_vec()));
            rest = after;
        }
        pieces.push_back((Duration::ZERO, rest.to_vec()));
        pieces.retain(|(_, piece)| !piece.is_empty());
        Plan {
            config,
            lossy,
            seed: u64::from(seed),
            end: match end % 8 {
                0..=2 => End::HalfCloses,
                3 | 4 => End::Waits,
                5 => End::Drops,
                6 => End::IsCut,
                _ => End::NeverReads,
            },
            drains_ms: (drain >= 192).then(|| u64::from(drain - 192) * 10),
            reads_slowly_ms: if reads >= 224 { u64::from(reads - 224) } else { 0 },
            pieces,
            wire,
        }
    }
}

/// Nothing but silence ends a connection for its slowness: a reader may take a byte at a time.
fn settings() -> Settings {
    Settings {
        keep_alive: Duration::from_secs(20),
        head_timeout: Duration::from_secs(600),
        body_timeout: Duration::from_secs(600),
        write_timeout: Duration::from_secs(600),
        connections_max: 10,
        connections_per_address: 0,
        body_rate_min: 0,
        write_rate_min: 0,
        ..Settings::default()
    }
}

/// The client: what it got, and whether the server ended in good order.
async fn talk(addr: SocketAddrAny, net: SimNet, plan: &mut Plan) -> Option<(Vec<u8>, bool)> {
    let mut stream = Stream::connect(addr).await.ok()?;
    let reads = plan.end != End::NeverReads;
    let (mut got, mut pause, mut rest): (Vec<u8>, Option<Sleep>, Option<Sleep>) = Default::default();
    let mut mute = false;
    loop {
        // None: everything is sent.
        let ended = poll_fn(|cx| {
            while !mute {
                if pause.as_mut().is_some_and(|pause| pause.poll_elapsed(cx).is_pending()) {
                    break;
                }
                pause = None;
                match stream.poll_sent(cx) {
                    Poll::Pending => break,
                    Poll::Ready((Err(_), _)) => mute = true,
                    Poll::Ready((Ok(()), _)) => match plan.pieces.front_mut() {
                        None => {
                            mute = true;
                            return Poll::Ready(None);
                        }
                        Some((wait, _)) if !wait.is_zero() => pause = Some(sleep(std::mem::take(wait))),
                        Some(_) => {
                            if let Some((_, piece)) = plan.pieces.pop_front() {
                                stream.start_send(piece);
                            }
                        }
                    },
                }
            }
            loop {
                if !reads {
                    // Until what was sent cannot be sent: the server gives up.
                    return if mute { Poll::Ready(Some(false)) } else { Poll::Pending };
                }
                if rest.as_mut().is_some_and(|rest| rest.poll_elapsed(cx).is_pending()) {
                    return Poll::Pending;
                }
                rest = None;
                match stream.poll_recv(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(Some(bytes))) => got.extend_from_slice(&bytes),
                    Poll::Ready(Ok(None)) => return Poll::Ready(Some(true)),
                    Poll::Ready(Err(_)) => return Poll::Ready(Some(false)),
                }
                if plan.reads_slowly_ms > 0 {
                    for bytes in stream.pause_recv() {
                        got.extend_from_slice(&bytes);
                    }
                    rest = Some(sleep(Duration::from_millis(plan.reads_slowly_ms)));
                }
            }
        });
        match ended.await {
            Some(cleanly) => return Some((got, cleanly)),
            None => match plan.end {
                End::HalfCloses => {
                    // Fails where the connection is broken already.
                    let _ = stream.shutdown(Shutdown::Write);
                }
                End::Waits => {}
                End::Drops => return None,
                End::IsCut => {
                    sleep(Duration::from_millis(plan.seed % 50)).await;
                    net.open_fds().into_iter().for_each(|fd| net.cut(fd));
                }
                End::NeverReads => {
                    sleep(Duration::from_secs(40)).await;
                    return None;
                }
            },
        }
    }
}

/// Serves one connection as `data` says, and looks at what came back and at what is left.
pub(crate) fn connection(data: &[u8]) {
    let mut plan = Plan::of(data);
    let (driver, net) = SimDriver::new(plan.seed, plan.config.clone());
    let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let listener = net.listen(addr.clone());
    let hand = net.clone();
    let run = async move {
        let server = Rc::new(Server::new(Echo, settings()));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopping = async move {
            let _ = stopped.await;
        };
        let listener = Listener::from_driver(listener);
        let serving = accept::run(Rc::clone(&server), listener, stopping, Duration::from_secs(5));
        let serving = spawn("accept", serving);
        let mut stop = Some(stop);
        let mut early = None;
        if let (Some(ms), Some(stop)) = (plan.drains_ms, stop.take_if(|_| plan.drains_ms.is_some())) {
            early = Some(spawn("stop", async move {
                sleep(Duration::from_millis(ms)).await;
                drop(stop);
            }));
        }
        let came = timeout(Duration::from_secs(3000), talk(addr, hand, &mut plan)).await;
        if let Some((got, cleanly)) = came.expect("it hangs") {
            judge(&plan, &got, cleanly);
        }
        let empty = timeout(Duration::from_secs(1300), poll_fn(|cx| server.poll_empty(cx))).await;
        assert!(empty.is_ok(), "{} connections are left", server.open());
        if let Some(early) = early {
            early.await.unwrap();
        }
        drop(stop);
        serving.await.unwrap();
        // What was abandoned comes back.
        sleep(Duration::from_secs(2)).await;
        assert_eq!(context::in_flight(), (0, 0), "operations and timers are left");
    };
    Runtime::new(Box::new(driver), 1).block_on(run).unwrap();
    assert_eq!(
        (net.open_fds(), net.armed(), net.buffers_out()),
        (vec![], vec![], 0),
        "the network still holds something"
    );
}

/// Compares what came with what is owed.
fn judge(plan: &Plan, got: &[u8], cleanly: bool) {
    // HTTP/2 has its own reader.
    if http2::may_begin(&plan.wire) {
        return;
    }
    let (owed, unfinished) = owed(&plan.wire);
    let patient = matches!(plan.end, End::HalfCloses | End::Waits) && !plan.lossy;
    // Who is still reading a second after the server has said its last, and has sent what it does not read, may find the
    // connection reset (`limits::connection::LINGER_MS`).
    let may_be_late = plan.reads_slowly_ms > 0 && owed.last().is_some_and(|owed| owed.last);
    let complete = patient && plan.drains_ms.is_none() && !may_be_late;
    assert!(cleanly || !complete, "the connection broke");
    let mut rest = got;
    let mut last = false;
    for (at, owed) in owed.iter().enumerate() {
        match answer(rest, owed) {
            Some((bytes, closes)) => {
                rest = rest.get(bytes..).unwrap_or_default();
                last = closes;
                assert!(owed.last == closes || !complete, "answer {at} says close: {closes}");
                if closes {
                    break;
                }
            }
            None => {
                assert!(
                    !complete,
                    "answer {at} is missing, or half of it: {}",
                    rest.escape_ascii()
                );
                return;
            }
        }
    }
    if last || rest.is_empty() {
        assert!(rest.is_empty(), "something after the last: {}", rest.escape_ascii());
        return;
    }
    // The two things that may be said before a request is whole: go on, and too late.
    assert!(unfinished, "an answer to nothing: {}", rest.escape_ascii());
    let late = || answer(rest, &Owed::refusal(408)).is_some_and(|(bytes, closes)| bytes == rest.len() && closes);
    assert!(
        rest == CONTINUE_100 || (plan.end == End::Waits && late()) || !complete,
        "to half a request: {}",
        rest.escape_ascii()
    );
}

/// One answer from the start of `bytes`: its bytes, and whether it says close; none where it is not whole.
fn answer(mut bytes: &[u8], owed: &Owed) -> Option<(usize, bool)> {
    let mut before = 0;
    if let Some(after) = bytes.strip_prefix(CONTINUE_100) {
        assert!(owed.may_continue, "100 that nobody waits for");
        (before, bytes) = (CONTINUE_100.len(), after);
    }
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).expect("an answer") else {
        return None;
    };
    let status = response.code.unwrap();
    let field = |name: &str| {
        let mut all = response.headers.iter().filter(|field| field.name == name);
        let first = all
            .next()
            .map(|field| String::from_utf8_lossy(field.value).into_owned());
        assert!(all.next().is_none(), "{name} twice");
        first
    };
    let closes = field("Connection").as_deref() == Some("close");
    let rest = bytes.get(head..).unwrap_or_default();
    let (used, body) = match (owed.is_head, field("Content-Length"), field("Transfer-Encoding")) {
        (true, ..) => (0, None),
        (false, Some(length), None) => {
            let length: usize = length.parse().unwrap();
            (length, Some(rest.get(..length)?.to_vec()))
        }
        (false, None, Some(_)) => {
            let mut body = Vec::new();
            let mut decoder =
                crate::http::BodyDecoder::new(crate::http::BodyFraming::Chunked, usize::MAX >> 8).unwrap();
            let (used, done) = decoder.decode_into(rest, &mut body).expect("chunks");
            if !done {
                return None;
            }
            (used, Some(body))
        }
        odd => panic!("framed as {odd:?}"),
    };
    match &owed.what {
        Ok((line, sent)) => {
            assert_eq!(status, 200, "{line}");
            assert!(body.is_none_or(|body| body == echo(line, sent)), "another body: {line}");
        }
        Err(refused) => assert_eq!(status, *refused),
    }
    Some((before + head + used, closes))
}

#[cfg(test)]
mod tests {
    use super::connection;
    use crate::runtime::driver::sim::run_seeds;

    /// Requests, nearly requests and noise, on any schedule.
    fn data(seed: u64) -> Vec<u8> {
        const PIECES: [&str; 20] = [
            "GET / HTTP/1.1\r\n",
            "POST /a?b HTTP/1.1\r\n",
            "GET /later/on HTTP/1.1\r\n",
            "POST /events HTTP/1.1\r\n",
            "HEAD /e HTTP/1.1\r\n",
            "OPTIONS http://a HTTP/1.0\r\n",
            "GET / HTTP/1.0\r\n",
            "Host: a\r\n",
            "Host: a\r\n\r\n",
            "Host: a\r\n\r\n",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive\r\n",
            "Expect: 100-continue\r\n",
            "\r\n",
            "\r\n3\r\nabc\r\n0\r\n\r\n",
            "\r\nabc",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        ];
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut data: Vec<u8> = (0..5).map(|_| rng.u8(..)).collect();
        let count = rng.u8(..12);
        data.push(count);
        data.extend((0..count).flat_map(|_| [rng.u8(..40), rng.u8(..)]));
        for _ in 0..rng.usize(..10) {
            match rng.u8(..12) {
                0 => data.push(rng.u8(..)),
                1 => data.extend_from_slice(&b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n".repeat(rng.usize(..200))),
                2 => {
                    let length = rng.usize(..3000);
                    data.extend_from_slice(
                        format!("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
                    );
                    data.resize(data.len() + length, b'x');
                }
                _ => data.extend_from_slice(PIECES[rng.usize(..PIECES.len())].as_bytes()),
            }
        }
        data
    }

    #[test]
    fn any_bytes_on_any_schedule_get_what_they_are_owed() {
        run_seeds("any_bytes_on_any_schedule_get_what_they_are_owed", 2000, |seed| {
            connection(&data(seed))
        });
    }
}
