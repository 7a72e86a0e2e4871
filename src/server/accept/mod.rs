//! The accept loop of a worker, and its end.
//!
//! What a server that ends owes to those who come (a drain):
//!
//! 1. Answers say `Connection: close`, GOAWAY is sent. Its listening sockets are hushed: who has begun a handshake is
//!    let in, who has not is not answered.
//! 2. After `drain::HANDSHAKE`, and when nobody waits in the kernel's queue any more, listening ends. Where all places are
//!    taken they wait for some, but for no longer than `drain::ROOM`: then all who are in the queue are let in beyond the
//!    number of places. Nobody follows them, so that they are at most as many as the queue holds
//!    (`connection::LISTEN_BACKLOG`); what they may have of memory is bounded as ever. Sockets that have a next user
//!    ([`Leave`], [`Port::stays`]) are neither hushed nor ended.
//! 3. After `drain::IDLE`, or [`Server::keep_idle_for`], idle connections end; those that came later have `drain::IDLE` for
//!    a first request.
//! 4. Some time before the end of the graceful time, bodies that are made while they are sent are told to come to an end.
//! 5. At its end what is left is cut off, and counted.

mod exchange;

use super::begin::{Terms, begin};
use super::{App, Server};
use crate::limits::{connection as limits, drain};
use crate::runtime::context;
use crate::runtime::executor::{spawn, spawn_detached};
use crate::runtime::net::{Listener, Stream};
use crate::runtime::time::{Sleep, sleep, timeout};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A listening socket of this worker, and what is spoken on its connections.
#[derive(Debug)]
pub struct Port {
    /// The socket.
    pub listener: Listener,
    /// What is spoken.
    pub terms: Terms,
    /// Somebody else keeps the socket whatever becomes of this process: it always has a next user.
    pub stays: bool,
}

impl From<Listener> for Port {
    /// HTTP in the clear.
    fn from(listener: Listener) -> Port {
        Port {
            listener,
            terms: Terms::default(),
            stays: false,
        }
    }
}

/// How a server leaves its listening sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// They have a next user, who accepts already or will: what waits in the kernel's queues stays there.
    ToOwner,
    /// Those that others accept from, too, are left to them; nobody accepts from the rest any more.
    OwnForGood,
    /// Nobody accepts from them any more.
    ForGood,
}

/// Serves connections of `port` until `stop` is ready; then stops accepting (what was accepted already is served,
/// what is in the kernel's queue stays there for the socket's next user), tells connections to close, and waits for
/// them for at most `graceful`. Gives how many were still open then.
pub async fn run<A: App>(
    server: Rc<Server<A>>,
    port: impl Into<Port>,
    stop: impl Future<Output = ()>,
    graceful: Duration,
) -> usize {
    let mut door = Door::new(server, vec![port.into()]);
    door.takes_in = true;
    door.accept_until(stop).await;
    door.close(graceful, Leave::ToOwner, |_| Vec::new()).await
}

/// As [`run`], for listening sockets that may have no next user, which `stop` says. If so, those who have begun to connect
/// by then are accepted and served; then `last` is called, gives at most so many connections that still wait in the kernel's
/// queues, each with the index of its port, and ends listening. After [`Leave::OwnForGood`] it must leave shared ones alone.
pub async fn run_to_end<A: App>(
    server: Rc<Server<A>>,
    ports: Vec<Port>,
    stop: impl Future<Output = Leave>,
    graceful: Duration,
    last: impl FnOnce(usize) -> Vec<(usize, OwnedFd)>,
) -> usize {
    let mut door = Door::new(server, ports);
    door.takes_in = true;
    let mut leave = Leave::ToOwner;
    door.accept_until(async { leave = stop.await }).await;
    door.close(graceful, leave, last).await
}

/// Accepts connections of sockets that are not this worker's own, beside its own [`run`], until `stop` is ready: another
/// worker does not get to it. No wake-up is counted on, since the kernel gives those to the other one's accept, which waits
/// first: the queues are asked again and again. With `last` listening ends then, as in [`run_to_end`], and without, the
/// sockets go back to their owner. Gives how many connections were taken.
pub async fn stand_in<A: App>(
    server: Rc<Server<A>>,
    ports: Vec<Port>,
    stop: impl Future<Output = Leave>,
    last: impl FnOnce(usize) -> Vec<(usize, OwnedFd)>,
) -> u64 {
    let hold = Hold::new(&server);
    let mut door = Door::new(server, ports);
    door.again = Some(Sleep::after(drain::ASK_AGAIN));
    let mut why = Leave::ToOwner;
    door.accept_until(async { why = stop.await }).await;
    let terms = door.terms();
    if why != Leave::ToOwner {
        door.shut_those(|port| port.stays).await;
        door.hush();
        door.until_nobody_waits(drain::Waits::ALL).await;
    }
    let (server, mut taken) = (Rc::clone(&door.server), door.taken);
    taken += door.shut().await;
    if why != Leave::ToOwner {
        taken += adopt(&server, &terms, last(usize::MAX));
    }
    if door.handed.is_some() {
        spawn_detached("take back", async move {
            door.until_taken().await;
            drop(hold);
        });
    }
    taken
}

/// Keeps a server from being empty: connections may still come.
struct Hold<A: App>(Rc<Server<A>>);

impl<A: App> Hold<A> {
    fn new(server: &Rc<Server<A>>) -> Hold<A> {
        server.open.set(server.open.get() + 1);
        Hold(Rc::clone(server))
    }
}

impl<A: App> Drop for Hold<A> {
    fn drop(&mut self) {
        self.0.left();
    }
}

/// Connections that were accepted elsewhere, each with the index of its port; gives how many.
fn adopt<A: App>(server: &Rc<Server<A>>, terms: &[Terms], sockets: Vec<(usize, OwnedFd)>) -> u64 {
    let mut taken = 0;
    for (port, socket) in sockets {
        match Stream::adopt(socket) {
            Ok(stream) => {
                begin(server, terms.get(port).copied().unwrap_or_default(), stream);
                taken += 1;
            }
            Err(error) => tracing::warn!(%error, "a connection of the last moment is lost"),
        }
    }
    taken
}

/// The listening sockets, and the way in.
struct Door<A: App> {
    server: Rc<Server<A>>,
    ports: Vec<Port>,
    /// For each port, whether nobody new comes to it: [`Door::hush`] was called, and could do it.
    hushed: Vec<bool>,
    /// Whose turn it is.
    first: usize,
    /// Accepts that failed.
    failures: u64,
    /// Connections accepted.
    taken: u64,
    /// The kernel may wake somebody else: when to ask again.
    again: Option<Sleep>,
    /// What others hand to this worker comes in here.
    takes_in: bool,
    /// Something was handed to others: when to look whether they have taken it.
    handed: Option<Sleep>,
    /// There is no place here, nor elsewhere: when to look at the others again.
    room_again: Option<Sleep>,
    /// The number of places counts no more.
    lets_all_in: bool,
    /// There are not places for all who may wait in the kernel's queues: connections are accepted one by one, each when there is
    /// a place for it, since of those that have been, and have none, nobody else can take care.
    takes_few: bool,
}

impl<A: App> Door<A> {
    fn new(server: Rc<Server<A>>, ports: Vec<Port>) -> Door<A> {
        Door {
            server,
            ports,
            hushed: Vec::new(),
            first: 0,
            failures: 0,
            taken: 0,
            again: None,
            takes_in: false,
            handed: None,
            room_again: None,
            lets_all_in: false,
            takes_few: false,
        }
    }

    fn terms(&self) -> Vec<Terms> {
        self.ports.iter().map(|port| port.terms).collect()
    }

    fn is_full(&self) -> bool {
        self.free_places() == 0
    }

    /// For who comes; who waits for a place here is before them.
    fn free_places(&self) -> usize {
        if self.lets_all_in {
            return usize::MAX;
        }
        let waiting = self.server.seat.get().map_or(0, |seat| seat.waiting());
        let max = self.server.settings.connections_max;
        let places = max.saturating_add(self.server.places_beyond());
        places.saturating_sub(self.server.open.get().saturating_add(waiting))
    }

    /// The next connection, with the index of its port; pending also where there is no room for one.
    fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<(usize, io::Result<(Terms, Stream)>)> {
        let is_full = self.is_full();
        // Who waits here is let in by the next place, whoever else may come beyond them meanwhile.
        let waits_here = self.server.seat.get().is_some_and(|seat| seat.waiting() > 0);
        if waits_here && !is_full && self.again.is_none() {
            *self.server.room.borrow_mut() = Some(cx.waker().clone());
        }
        if !is_full {
            self.room_again = None;
        } else if !self.others_have_room(cx) {
            if self.again.is_none() {
                *self.server.room.borrow_mut() = Some(cx.waker().clone());
            }
            for port in &mut self.ports {
                port.listener.pause();
            }
            return Poll::Pending;
        }
        let enough = limits::ACCEPT_ALL_PLACES.saturating_mul(self.ports.len());
        // Not to and fro with each connection that comes and goes.
        let more = if self.takes_few { enough / 8 } else { 0 };
        self.takes_few = self.free_places() < enough.saturating_add(more);
        // Each turn begins with the next one, so that a busy port does not shut out the others.
        self.first += 1;
        let count = self.ports.len();
        for index in (0..count).map(|step| (self.first + step) % count) {
            let Some(port) = self.ports.get_mut(index) else {
                continue;
            };
            port.listener.take_one_at_a_time(self.takes_few);
            if let Poll::Ready(accepted) = port.listener.poll_accept(cx) {
                return Poll::Ready((index, accepted.map(|stream| (port.terms, stream))));
            }
        }
        Poll::Pending
    }

    /// Accepts and serves until `stop` is ready; gives how often something came of hushed ports, connection or error.
    async fn accept_until(&mut self, stop: impl Future<Output = ()>) -> u64 {
        let mut stop = pin!(stop);
        let mut events = 0;
        loop {
            let accepted = poll_fn(|cx| {
                if stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                self.ask_again(cx);
                if self.again.is_none() {
                    self.ask_if_told(cx);
                }
                self.exchange(cx);
                self.poll_accept(cx).map(Some)
            });
            let Some((port, accepted)) = accepted.await else {
                return events;
            };
            let counts = u64::from(self.hushed.get(port).copied().unwrap_or(false));
            match accepted {
                Ok((terms, stream)) => {
                    self.taken += 1;
                    events += counts;
                    self.settle(terms, stream);
                }
                Err(error) => {
                    // EINVAL: another worker has ended a socket of all, or of this one, which is about to hear of the end.
                    let has_ended = error.kind() == io::ErrorKind::InvalidInput;
                    if !has_ended {
                        self.note(&error);
                        events += counts;
                    }
                    // The clients wait in the kernel's queue meanwhile; those that are connected are served.
                    let mut pause = sleep(Duration::from_millis(limits::ACCEPT_PAUSE_MS));
                    let stopped = poll_fn(|cx| match stop.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(true),
                        Poll::Pending => pause.poll_elapsed(cx).map(|()| false),
                    });
                    if stopped.await {
                        // A future that is done must not be asked again.
                        return events;
                    }
                }
            }
        }
    }

    /// Lets go of the accepts now and then: the next poll asks the kernel anew, and that looks into the queue first.
    fn ask_again(&mut self, cx: &Context<'_>) {
        if let Some(again) = &mut self.again
            && again.poll_elapsed(cx).is_ready()
        {
            again.reset(drain::ASK_AGAIN);
            let _ = again.poll_elapsed(cx);
            for port in &mut self.ports {
                port.listener.pause();
            }
        }
    }

    /// The same when somebody says so: see [`Server::ask_again`].
    fn ask_if_told(&mut self, cx: &Context<'_>) {
        if self.server.asking_again.take() {
            for port in &mut self.ports {
                port.listener.pause();
            }
        }
        let mut door = self.server.door.borrow_mut();
        if !door.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *door = Some(cx.waker().clone());
        }
    }

    fn note(&mut self, error: &io::Error) {
        self.failures += 1;
        if self.failures.is_power_of_two() {
            // Logged at 1, 2, 4, ...: a server out of descriptors must not fill its log as well.
            tracing::warn!(%error, failures = self.failures, "accept failed; trying again");
        }
    }

    /// Nobody new comes from now on. A Unix socket cannot be told so, and need not be: it knows no handshakes, and what is
    /// in its queue outlives its end. Without hushing (a sandbox) who is half way through the handshake is reset.
    fn hush(&mut self) {
        let hush = |port: &Port| match port.listener.hush() {
            Ok(is_hushed) => is_hushed,
            Err(error) => {
                tracing::debug!(%error, "handshakes that are under way at the end will be reset");
                false
            }
        };
        self.hushed = self.ports.iter().map(hush).collect();
    }

    /// Lets in those who are in a handshake or in the kernel's queue, after [`hush`](Self::hush). At ports that could not be
    /// hushed there may never be nobody: they are served meanwhile, and not waited for. Who has no place within `room` is let
    /// in all the same.
    async fn until_nobody_waits(&mut self, waits: drain::Waits) {
        if !self.hushed.contains(&true) {
            return;
        }
        let drain::Waits { handshake, room, lull } = waits;
        self.accept_until(sleep(handshake)).await;
        let patience_ns = u64::try_from(room.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = context::now_ns().saturating_add(patience_ns);
        loop {
            // Without room nobody is asked; as others leave, there is some.
            let was_full = self.is_full();
            let events = self.accept_until(sleep(lull)).await;
            if events == 0 && !was_full && !self.is_full() {
                return;
            }
            if self.is_full() && context::now_ns() >= until_ns {
                // Nobody follows those who wait at hushed ports; at others somebody may, without end.
                let mut hushed = std::mem::take(&mut self.hushed).into_iter();
                self.shut_those(|_| !hushed.next().unwrap_or(false)).await;
                self.hushed = vec![true; self.ports.len()];
                self.lets_all_in = true;
            }
        }
    }

    /// Stops accepting from those sockets; what waits in their queues is others'.
    async fn shut_those(&mut self, which: impl FnMut(&Port) -> bool) {
        let all = std::mem::take(&mut self.ports);
        let (those, others) = all.into_iter().partition(which);
        self.ports = those;
        self.taken += self.shut().await;
        self.ports = others;
    }

    /// Stops accepting; what was accepted already is served. Gives how many that were.
    async fn shut(&mut self) -> u64 {
        let mut taken = 0;
        for port in std::mem::take(&mut self.ports) {
            for stream in port.listener.stop().await {
                begin(&self.server, port.terms, stream);
                taken += 1;
            }
        }
        taken
    }

    /// The end of a server.
    async fn close(
        mut self,
        graceful: Duration,
        leave: Leave,
        last: impl FnOnce(usize) -> Vec<(usize, OwnedFd)>,
    ) -> usize {
        let server = Rc::clone(&self.server);
        server.begin_drain();
        if let Some(seat) = server.seat.get() {
            exchange::receive(&server, seat.close());
        }
        let stages = spawn("drain", hurry(Rc::clone(&server), graceful));
        let (from_ns, mut left) = (context::now_ns(), Sleep::after(graceful));
        let terms = self.terms();
        if leave == Leave::OwnForGood {
            self.shut_those(|port| port.listener.is_shared()).await;
        }
        if leave == Leave::ForGood {
            self.shut_those(|port| port.stays).await;
        }
        if leave != Leave::ToOwner {
            self.hush();
            let _ = timeout(graceful, self.until_nobody_waits(drain::Waits::within(graceful))).await;
        }
        self.shut().await;
        if let Some(tell) = server.when_shut.take() {
            tell();
        }
        if leave != Leave::ToOwner {
            let taken = adopt(&server, &terms, last(usize::MAX));
            if taken > 0 {
                // Their requests are here, as a rule, and are answered even where there was no time at all.
                let gone = Duration::from_nanos(context::now_ns().saturating_sub(from_ns));
                left.reset(graceful.saturating_sub(gone).max(drain::LULL));
            }
        }
        poll_fn(|cx| match server.poll_empty(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => left.poll_elapsed(cx),
        })
        .await;
        stages.abort();
        server.open.get()
    }
}

/// What draining connections are told, and when.
async fn hurry<A: App>(server: Rc<Server<A>>, graceful: Duration) {
    // What a client sent before it could know of the end is still on its way, or not yet looked at. Idle connections that
    // are kept for a successor's sake go before the time is over, too: else they would be cut off.
    let bodies = drain::bodies_end_after(graceful);
    let idle = server.drain_idle.get().min(bodies.max(drain::IDLE));
    sleep(idle).await;
    server.end_idle();
    sleep(bodies.saturating_sub(idle)).await;
    server.end_bodies();
}
