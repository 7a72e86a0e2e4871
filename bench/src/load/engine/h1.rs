//! One HTTP/1.1 connection: kept alive and pipelined, or one for each request.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use roadtrip_api::runtime::context::precise_now_ns;
use roadtrip_api::runtime::time::{Sleep, sleep, timeout};

use super::desk::{Desk, Flight};
use super::reader::{Heard, Reader};
use super::wire::{Wire, connect};

/// Pause before a connection that failed is opened again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// How a conversation ended.
enum End {
    /// The load is over.
    Done,
    /// The connection is of no use any more; `pause` where it failed.
    Again { pause: bool },
}

/// Serves a kept connection until the load is over; gives it back open where it is.
pub(super) async fn keep(desk: Rc<Desk>, mut wire: Option<Wire>) -> Option<Wire> {
    let slot = desk.slot();
    let job = &*desk.job;
    loop {
        let open = match wire.take() {
            Some(wire) => wire,
            None => match connect(job.address, job.tls.as_ref(), job.connect_limit).await {
                Ok(wire) => wire,
                Err(why) => {
                    desk.tally.borrow_mut().errors.connect(&why);
                    sleep(RETRY).await;
                    if desk.is_closed() {
                        return None;
                    }
                    continue;
                }
            },
        };
        let mut talk = Talk::new(&desk, slot, open);
        match std::future::poll_fn(|cx| talk.poll(cx)).await {
            End::Done => return Some(talk.wire),
            End::Again { pause } => {
                drop(talk);
                desk.leave(slot);
                if desk.is_closed() && desk.in_flight() == 0 {
                    return None;
                }
                {
                    let mut tally = desk.tally.borrow_mut();
                    tally.reconnects = tally.reconnects.saturating_add(1);
                }
                if pause {
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// Asks each request on a connection of its own.
pub(super) async fn short(desk: Rc<Desk>) {
    let slot = desk.slot();
    let job = &*desk.job;
    while let Some(due) = std::future::poll_fn(|cx| desk.poll_next(slot, cx)).await {
        let mut out = Vec::new();
        let Some(mut flight) = desk.draw_h1(due, &mut out) else {
            desk.failed(None, |e| e.frame("a request that cannot be written"));
            continue;
        };
        let asked = async {
            let mut wire = connect(job.address, job.tls.as_ref(), job.connect_limit)
                .await
                .map_err(|why| (true, why))?;
            wire.start_send(out);
            let mut reader = Reader::default();
            std::future::poll_fn(|cx| poll_answer(&mut wire, &mut reader, &mut flight, cx))
                .await
                .map_err(|why| (false, why))
        };
        match timeout(job.answer_limit.saturating_add(job.connect_limit), asked).await {
            Ok(Ok(heard)) => {
                if let Some(pause) = desk.answered(&flight, &heard) {
                    sleep(pause).await;
                }
            }
            Ok(Err((true, why))) => {
                desk.failed(Some(&flight), |e| e.connect(&why));
                sleep(RETRY).await;
            }
            Ok(Err((false, why))) => desk.failed(Some(&flight), |e| e.io(&why)),
            Err(_) => desk.failed(Some(&flight), |e| e.timeout()),
        }
    }
}

fn poll_answer(
    wire: &mut Wire,
    reader: &mut Reader,
    flight: &mut Flight,
    cx: &mut Context<'_>,
) -> Poll<Result<Heard, String>> {
    if wire.needs_driving()
        && let Poll::Ready(Err(e)) = wire.poll_sent(cx)
    {
        return Poll::Ready(Err(format!("send: {e}")));
    }
    loop {
        let fed = match wire.poll_read(cx, |bytes| reader.feed(bytes, flight.drawn.head, flight.drawn.sse)) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(format!("receive: {e}"))),
            Poll::Ready(Ok(None)) => {
                return Poll::Ready(Err(
                    "the server closed the connection before the answer's end".to_owned()
                ));
            }
            Poll::Ready(Ok(Some(fed))) => fed,
        };
        note_event(reader, flight);
        match fed {
            Ok((_, None)) => {}
            Ok((_, Some(heard))) => return Poll::Ready(Ok(heard)),
            Err(e) => return Poll::Ready(Err(e.to_string())),
        }
    }
}

fn note_event(reader: &Reader, flight: &mut Flight) {
    if flight.drawn.sse && flight.first_event_ns.is_none() && reader.events() > 0 {
        flight.first_event_ns = Some(precise_now_ns());
    }
}

/// A kept connection and what is under way on it.
struct Talk<'d> {
    desk: &'d Desk,
    slot: u32,
    wire: Wire,
    reader: Reader,
    flights: VecDeque<Flight>,
    depth: usize,
    timer: Sleep,
    /// A user's pause.
    think: Option<Sleep>,
    /// The desk has nothing more for it.
    done: bool,
}

impl<'d> Talk<'d> {
    fn new(desk: &'d Desk, slot: u32, wire: Wire) -> Self {
        Self {
            desk,
            slot,
            wire,
            reader: Reader::default(),
            flights: VecDeque::new(),
            depth: desk.job.depth as usize,
            timer: Sleep::after(desk.job.answer_limit),
            think: None,
            done: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.wire.needs_driving()
                && let Poll::Ready(Err(e)) = self.wire.poll_sent(cx)
            {
                return Poll::Ready(self.broken(&format!("send: {e}")));
            }
            match self.poll_receive(cx) {
                Poll::Ready(Ok(())) => {
                    // What was answered makes room: ask again before looking for more bytes.
                    if let Err(end) = self.ask(cx) {
                        return Poll::Ready(end);
                    }
                    continue;
                }
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => {}
            }
            if let Err(end) = self.ask(cx) {
                return Poll::Ready(end);
            }
            if self.flights.is_empty() {
                return if self.done {
                    Poll::Ready(End::Done)
                } else {
                    Poll::Pending
                };
            }
            if self.wire.needs_driving()
                && let Poll::Ready(Err(e)) = self.wire.poll_sent(cx)
            {
                return Poll::Ready(self.broken(&format!("send: {e}")));
            }
            if self.timer.poll_elapsed(cx).is_pending() {
                return Poll::Pending;
            }
            let oldest = self.flights.front().map_or(0, |flight| flight.sent_ns);
            let waited = Duration::from_nanos(precise_now_ns().saturating_sub(oldest));
            if waited < self.desk.job.answer_limit {
                self.timer.reset(self.desk.job.answer_limit.saturating_sub(waited));
                continue;
            }
            for flight in self.flights.drain(..) {
                self.desk.failed(Some(&flight), |e| e.timeout());
            }
            return Poll::Ready(End::Again { pause: true });
        }
    }

    /// Everything under way is lost.
    fn broken(&mut self, why: &str) -> End {
        for flight in self.flights.drain(..) {
            self.desk.failed(Some(&flight), |e| e.io(why));
        }
        End::Again { pause: true }
    }

    /// Takes what the desk has, and sends it in one piece.
    fn ask(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.done || self.flights.len() >= self.depth {
            return Ok(());
        }
        if let Some(think) = &mut self.think {
            // Somebody who thinks is not sent home: the end of the load ends the thought.
            if think.poll_elapsed(cx).is_pending() && !self.desk.is_closed() {
                return Ok(());
            }
            self.think = None;
        }
        match self.wire.poll_sent(cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(e)) => return Err(self.broken(&format!("send: {e}"))),
            Poll::Ready(Ok(())) => {}
        }
        let mut out: Option<Vec<u8>> = None;
        while self.flights.len() < self.depth {
            match self.desk.poll_next(self.slot, cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.done = true;
                    break;
                }
                Poll::Ready(Some(due)) => {
                    let memory = match &mut out {
                        Some(memory) => memory,
                        None => out.insert(self.wire.memory()),
                    };
                    match self.desk.draw_h1(due, memory) {
                        Some(flight) => {
                            if self.flights.is_empty() {
                                self.timer.reset(self.desk.job.answer_limit);
                            }
                            self.flights.push_back(flight);
                        }
                        None => self.desk.failed(None, |e| e.frame("a request that cannot be written")),
                    }
                }
            }
        }
        match out {
            Some(out) if out.is_empty() => self.wire.unused(out),
            Some(out) => self.wire.start_send(out),
            None => {}
        }
        Ok(())
    }

    /// Takes bytes once; ready where some came.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Self {
            desk,
            wire,
            reader,
            flights,
            think,
            ..
        } = self;
        let took = wire.poll_read(cx, |bytes| take(desk, reader, flights, think, bytes));
        match took {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(Ok(())))) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Some(Err(Fault::Closed)))) if self.flights.is_empty() => {
                Poll::Ready(Err(End::Again { pause: false }))
            }
            Poll::Ready(Ok(Some(Err(Fault::Closed)))) => {
                Poll::Ready(Err(self.broken("the server closed the connection before the answer")))
            }
            Poll::Ready(Ok(Some(Err(Fault::Frame(why))))) => {
                // The first is the one that is broken; those behind it are lost with the connection.
                match self.flights.pop_front() {
                    Some(flight) => self.desk.failed(Some(&flight), |e| e.frame(&why)),
                    None => self.desk.tally.borrow_mut().errors.frame(&why),
                }
                Poll::Ready(Err(self.broken("the connection was lost after a broken answer")))
            }
            // The server closed a connection it owes nothing.
            Poll::Ready(Ok(None) | Err(_)) if self.flights.is_empty() => Poll::Ready(Err(End::Again { pause: false })),
            Poll::Ready(Ok(None)) => {
                let how = if self.reader.started() {
                    "in the middle of"
                } else {
                    "before"
                };
                Poll::Ready(Err(
                    self.broken(&format!("the server closed the connection {how} the answer"))
                ))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(self.broken(&format!("receive: {e}")))),
        }
    }
}

enum Fault {
    /// The server said that it closes.
    Closed,
    Frame(String),
}

fn take(
    desk: &Desk,
    reader: &mut Reader,
    flights: &mut VecDeque<Flight>,
    think: &mut Option<Sleep>,
    mut bytes: &[u8],
) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let Some(flight) = flights.front_mut() else {
            return Err(Fault::Frame("bytes came that no request asked for".to_owned()));
        };
        let (used, heard) = reader
            .feed(bytes, flight.drawn.head, flight.drawn.sse)
            .map_err(|e| Fault::Frame(e.to_string()))?;
        note_event(reader, flight);
        if let Some(heard) = heard
            && let Some(flight) = flights.pop_front()
        {
            *think = desk.answered(&flight, &heard).map(Sleep::after);
            if heard.close {
                return Err(Fault::Closed);
            }
        }
        bytes = bytes.get(used..).unwrap_or_default();
    }
    Ok(())
}
