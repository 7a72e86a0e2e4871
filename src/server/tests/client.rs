//! A client that checks each byte it gets.

use super::wire::{Ask, Read, Want, read};
use super::wire_tls::Wire;
use crate::runtime::context;
use crate::runtime::driver::SocketAddrAny;
use crate::runtime::net::Stream;
use crate::runtime::time::{Sleep, sleep, timeout};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

/// How the server's half of the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Cleanly,
    Broken,
}

/// What a client bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// Every answer, whole, in order; the connection ends where it must.
    Strict,
    /// As `Strict`, but the server may close between two answers, having said so if it answered.
    Draining,
    /// The network may break the connection at any byte. What comes is still the beginning of what must come.
    Lossy,
    /// Both: the network breaks connections, and the server may end.
    Besieged,
}

impl Terms {
    fn may_lose(self) -> bool {
        matches!(self, Terms::Lossy | Terms::Besieged)
    }

    fn may_close(self) -> bool {
        matches!(self, Terms::Draining | Terms::Besieged)
    }
}

pub(super) struct Client {
    stream: Wire,
    terms: Terms,
    out: VecDeque<(Duration, Vec<u8>)>,
    pause: Option<Sleep>,
    /// A piece is on its way into the network.
    sending: bool,
    /// Nothing can be sent any more.
    mute: bool,
    /// After each read, no reading for this long.
    slow: Option<Duration>,
    rest: Option<Sleep>,
    got: Vec<u8>,
    wants: VecDeque<Want>,
    /// The server said `close`.
    closing: bool,
    /// A 100 came for the next answer.
    continued: bool,
    /// The server said that a request took too long.
    late: bool,
    pub(super) answered: usize,
    pub(super) ended: Option<Ended>,
}

impl Client {
    pub(super) async fn connect(addr: SocketAddrAny, terms: Terms) -> io::Result<Client> {
        Ok(Client::over(Wire::Plain(Stream::connect(addr).await?), terms))
    }

    pub(super) fn over(stream: Wire, terms: Terms) -> Client {
        Client {
            stream,
            terms,
            out: VecDeque::new(),
            pause: None,
            sending: false,
            mute: false,
            slow: None,
            rest: None,
            got: Vec::new(),
            wants: VecDeque::new(),
            closing: false,
            continued: false,
            late: false,
            answered: 0,
            ended: None,
        }
    }

    /// Its end of the connection.
    pub(super) fn wire(&mut self) -> &mut Wire {
        &mut self.stream
    }

    /// From now on reads slowly.
    pub(super) fn slow(&mut self, pause: Duration) {
        self.slow = Some(pause);
    }

    /// Stops reading for good, and gives back the buffers that hold what has come.
    pub(super) fn stop_reading(&mut self) {
        self.got.append(&mut self.stream.pause_recv());
        self.slow = Some(Duration::from_secs(1_000_000));
        self.rest = self.slow.map(sleep);
    }

    /// Queues bytes to be sent, after a pause.
    pub(super) fn push(&mut self, pause: Duration, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.out.push_back((pause, bytes));
        }
    }

    pub(super) fn want(&mut self, want: Want) {
        self.wants.push_back(want);
    }

    /// Asks at once; the answer is checked when it comes.
    pub(super) fn ask(&mut self, ask: &Ask) {
        self.want(ask.want.clone());
        self.push(Duration::ZERO, ask.bytes());
    }

    /// Everything queued is with the network.
    fn is_idle(&self) -> bool {
        self.mute || self.out.is_empty() && self.pause.is_none() && !self.sending
    }

    /// One thing happened.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = false;
        while !self.mute {
            if let Some(pause) = &mut self.pause
                && pause.poll_elapsed(cx).is_pending()
            {
                break;
            }
            self.pause = None;
            match self.stream.poll_sent(cx) {
                Poll::Pending => break,
                Poll::Ready((Err(_), _)) => {
                    self.mute = true;
                    progress = true;
                }
                Poll::Ready((Ok(()), _)) if std::mem::take(&mut self.sending) => progress = true,
                Poll::Ready((Ok(()), _)) => match self.out.front_mut() {
                    None => break,
                    Some((pause, _)) if !pause.is_zero() => self.pause = Some(sleep(std::mem::take(pause))),
                    Some(_) => {
                        if let Some((_, piece)) = self.out.pop_front() {
                            self.stream.start_send(piece);
                            self.sending = true;
                            progress = true;
                        }
                    }
                },
            }
        }
        if let Some(rest) = &mut self.rest {
            if rest.poll_elapsed(cx).is_pending() {
                return if progress { Poll::Ready(()) } else { Poll::Pending };
            }
            self.rest = None;
        }
        if self.ended.is_some() {
            return Poll::Ready(());
        }
        match self.stream.poll_recv(cx) {
            Poll::Pending if progress => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                match result {
                    Ok(Some(bytes)) => {
                        self.got.extend_from_slice(&bytes);
                        if let Some(pause) = self.slow {
                            self.got.append(&mut self.stream.pause_recv());
                            self.rest = Some(sleep(pause));
                        }
                    }
                    Ok(None) => self.ended = Some(Ended::Cleanly),
                    Err(_) => self.ended = Some(Ended::Broken),
                }
                self.check();
                Poll::Ready(())
            }
        }
    }

    /// Reads what has come.
    fn check(&mut self) {
        const LATE: &[u8] = b"HTTP/1.1 408 ";
        let besieged = self.terms == Terms::Besieged;
        loop {
            // On a network that gives a byte at a time this is no fault.
            self.late |= besieged && self.got.starts_with(LATE);
            if self.late {
                self.closing = true;
                self.got.clear();
                return;
            }
            let Some(want) = self.wants.front() else {
                let too_late = besieged && LATE.starts_with(&self.got);
                assert!(
                    too_late || self.got.is_empty(),
                    "an answer to nothing: {}",
                    self.shown()
                );
                break;
            };
            if self.got.is_empty() && self.ended.is_none() {
                break;
            }
            assert!(
                !self.closing || self.got.is_empty(),
                "an answer after the last: {}",
                self.shown()
            );
            let may_close = self.terms.may_close();
            match read(
                &self.got,
                want,
                self.ended.is_some(),
                may_close,
                context::unix_ns() / 1_000_000_000,
            ) {
                Ok(Read::More) => break,
                Ok(Read::Continue(bytes)) => {
                    assert!(!std::mem::replace(&mut self.continued, true), "two 100 for one request");
                    self.got.drain(..bytes);
                }
                Ok(Read::Whole(bytes, close)) => {
                    self.got.drain(..bytes);
                    self.continued = false;
                    self.closing |= close;
                    self.answered += 1;
                    self.wants.pop_front();
                }
                // A body until the end of the connection, which was lost.
                Err(_) if self.ended.is_some() && self.terms.may_lose() => break,
                Err(error) => panic!("{error}: instead of {want:?} came {}", self.shown()),
            }
        }
        match self.ended {
            Some(ended) if !self.terms.may_lose() => {
                assert_eq!(
                    ended,
                    Ended::Cleanly,
                    "the server broke the connection; unread: {}",
                    self.shown()
                );
                assert!(self.got.is_empty(), "half an answer: {}", self.shown());
                let whole = self.wants.is_empty() || self.terms == Terms::Draining;
                assert!(
                    whole,
                    "{} answers never came: {:?}",
                    self.wants.len(),
                    self.wants.front()
                );
            }
            _ => {}
        }
    }

    fn shown(&self) -> String {
        let start = self.got.get(..600).unwrap_or(&self.got);
        format!("{} bytes: {}", self.got.len(), start.escape_ascii())
    }

    /// Goes on until `done`, or until the server has ended the connection. False in the latter case.
    pub(super) async fn drive(&mut self, mut done: impl FnMut(&Client) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if self.ended.is_some() {
                return false;
            }
            poll_fn(|cx| self.poll_io(cx)).await;
        }
    }

    /// Until everything queued is with the network.
    pub(super) async fn flushed(&mut self) -> bool {
        self.drive(Client::is_idle).await
    }

    /// Until so many answers have come in all.
    pub(super) async fn until_answered(&mut self, count: usize) -> bool {
        self.drive(|client| client.answered >= count).await
    }

    /// Until the server ends the connection; gives how long that took.
    pub(super) async fn until_ended(&mut self) -> Duration {
        let from = context::now_ns();
        self.drive(|_| false).await;
        Duration::from_nanos(context::now_ns() - from)
    }

    /// Reads for so long.
    pub(super) async fn dwell(&mut self, time: Duration) {
        let _ = timeout(time, self.drive(|_| false)).await;
    }

    /// Sends `ask` again and again without reading; true if all of it went out, false if the connection broke first.
    pub(super) async fn pour(&mut self, ask: Ask, times: usize) -> bool {
        for _ in 0..times {
            self.ask(&ask);
        }
        self.drive(Client::is_idle).await;
        !self.mute
    }

    /// The server has ended the connection, or said that it will.
    pub(super) fn is_over(&self) -> bool {
        self.closing || self.ended.is_some()
    }

    pub(super) fn half_close(&mut self) {
        self.stream.half_close();
    }

    /// Sends `asks` in bursts of at most `depth`, in pieces of any size, and waits for 100 where it must.
    pub(super) async fn converse(&mut self, rng: &mut fastrand::Rng, asks: &[Ask], depth: usize) -> bool {
        let first = self.answered;
        let mut burst = Vec::new();
        let mut left_of_burst = rng.usize(1..=depth);
        for (at, ask) in asks.iter().enumerate() {
            let all_before = first + at;
            burst.extend_from_slice(&ask.head);
            self.want(ask.want.clone());
            if ask.waits {
                self.scatter(rng, &std::mem::take(&mut burst));
                let go_on =
                    |client: &Client| client.answered > all_before || client.answered == all_before && client.continued;
                if !self.drive(go_on).await {
                    return false;
                }
            }
            burst.extend_from_slice(&ask.body);
            left_of_burst -= 1;
            if left_of_burst == 0 || at + 1 == asks.len() {
                left_of_burst = rng.usize(1..=depth);
                self.scatter(rng, &std::mem::take(&mut burst));
                let in_flight_max = rng.usize(0..=depth);
                if !self.drive(|client| client.answered + in_flight_max > all_before).await {
                    return false;
                }
            }
        }
        self.flushed().await
    }

    /// Queues `bytes` in pieces.
    pub(super) fn scatter(&mut self, rng: &mut fastrand::Rng, bytes: &[u8]) {
        let mut rest = bytes;
        let piece_max = match rng.u8(..8) {
            0 if rest.len() < 400 => 1,
            1..4 => rng.usize(1..=rest.len().max(1)).max(rest.len() / 50),
            _ => usize::MAX,
        };
        // Of all pauses together: the head's time limit is five times that.
        let mut pause_ms_left = if rng.u8(..4) == 0 { 1000 } else { 0 };
        while !rest.is_empty() {
            let bytes = if piece_max == 1 {
                1
            } else {
                rng.usize(1..=piece_max.min(rest.len()))
                    .max(rest.len().min(piece_max) / 4)
            };
            let bytes = if piece_max == usize::MAX { rest.len() } else { bytes };
            let (piece, after) = rest.split_at(bytes);
            let pause = if pause_ms_left > 0 && rng.u8(..8) == 0 {
                rng.u64(1..=pause_ms_left.min(200))
            } else {
                0
            };
            pause_ms_left -= pause;
            self.push(Duration::from_millis(pause), piece.to_vec());
            rest = after;
        }
    }
}
