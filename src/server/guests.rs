//! Who is connected: the count of a worker's connections, and where each comes from.

use super::Server;
use super::app::App;
use super::crowd;
use super::late::{self, Ticket};
use crate::limits;
use crate::runtime::executor::spawn_detached;
use crate::runtime::net::Stream;
use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// One connection's place in its server: counted while it lives, whatever is spoken on it.
pub(super) struct Guest<A: App> {
    server: Rc<Server<A>>,
    /// Apart, as of most connections there is nothing to know.
    told: OnceCell<Box<Told>>,
    /// Among whose connections it is counted.
    counted: Option<crowd::Origin>,
}

/// What is known of a connection beside its socket.
#[derive(Debug, Default)]
struct Told {
    /// Where it comes from, once that is known: because a trusted proxy said so on the connection itself (PROXY protocol), or
    /// because it was looked up to be remembered.
    origin: OnceCell<Origin>,
    /// It came while memory was short: its place among those.
    late: Option<Rc<Ticket>>,
}

impl<A: App> Guest<A> {
    /// A connection was accepted.
    pub(super) fn new(server: Rc<Server<A>>) -> Guest<A> {
        server.opened();
        Guest {
            server,
            told: OnceCell::new(),
            counted: None,
        }
    }

    /// Counts it among the connections of `addr`; none has no limit (a Unix socket, a peer that is gone already). False
    /// if there are too many of them: the connection is to be closed.
    #[must_use = "one too many must be closed"]
    pub(super) fn arrives_from(&mut self, addr: Option<SocketAddr>) -> bool {
        self.leave();
        let max = self.server.settings.connections_per_address;
        let Some(addr) = addr.filter(|addr| max > 0 && !self.server.is_exempt(addr.ip())) else {
            return true;
        };
        let origin = crowd::origin(addr.ip());
        if self.server.crowd.enter(origin, max) {
            self.counted = Some(origin);
            return true;
        }
        self.server.app.turned_away();
        let refused = self.server.crowd.refuse();
        if refused.is_power_of_two() {
            // Logged at 1, 2, 4, ...: who connects again and again must not fill the log.
            let address = addr.ip().to_canonical();
            tracing::warn!(%address, max, refused, "an address has too many connections; more are closed at once");
        }
        false
    }

    fn leave(&mut self) {
        if let Some(origin) = self.counted.take() {
            self.server.crowd.leave(origin);
        }
    }

    /// The server that it is connected to.
    pub(super) fn server(&self) -> &Server<A> {
        &self.server
    }

    /// The same, to be kept.
    pub(super) fn server_rc(&self) -> &Rc<Server<A>> {
        &self.server
    }

    /// It has come while memory is short.
    pub(super) fn comes_late(&mut self) {
        self.told = OnceCell::from(Box::new(Told {
            late: Some(self.server.lets_in_late()),
            ..Told::default()
        }));
    }

    /// It has asked for something: one that came late does not make way any more for others that have not.
    pub(super) fn asks(&self) {
        if let Some(ticket) = self.ticket() {
            self.server.late.asks(ticket);
        }
    }

    /// It has come while memory was short, and memory still is.
    pub(super) fn is_late(&self) -> bool {
        self.server.short.get() && self.ticket().is_some_and(|ticket| !ticket.is_void())
    }

    /// Of a time that it has to begin, what it has.
    pub(super) fn patience(&self, time: Duration) -> Duration {
        if self.is_late() {
            time.min(limits::memory::LATE_PATIENCE)
        } else {
            time
        }
    }

    fn ticket(&self) -> Option<&Rc<Ticket>> {
        self.told.get().and_then(|told| told.late.as_ref())
    }

    /// Takes a proxy's word for where the connection comes from, and counts it there. False if that address has too
    /// many: the connection is to be closed.
    #[must_use = "one too many must be closed"]
    pub(super) fn comes_from(&mut self, origin: Origin) -> bool {
        self.told = OnceCell::from(Box::new(Told {
            origin: OnceCell::from(origin),
            late: self.ticket().cloned(),
        }));
        match origin {
            Origin::Addr(addr) => self.arrives_from(Some(addr)),
            Origin::Unix | Origin::Unknown => self.arrives_from(None),
        }
    }

    /// The other end, for a request.
    pub(super) fn peer<'r>(&'r self, stream: &'r Stream, secure: bool) -> Peer<'r> {
        Peer {
            seen: Seen::Socket(stream, &self.told),
            secure,
            late: self.is_late(),
        }
    }
}

impl<A: App> Drop for Guest<A> {
    fn drop(&mut self) {
        self.leave();
        if let Some(ticket) = self.ticket() {
            self.server.late.leave(ticket);
        }
        self.server.closed();
    }
}

/// Has a connection served on a task of its own by what `serve` makes of its guest. One that came late may have to make way.
pub(super) fn spawn_served<A: App, F: Future<Output = ()> + 'static>(
    name: &'static str,
    guest: Guest<A>,
    serve: impl FnOnce(Guest<A>) -> F,
) {
    match guest.ticket().cloned() {
        None => spawn_detached(name, serve(guest)),
        Some(ticket) => spawn_detached(name, late::until_over(ticket, serve(guest))),
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From this address.
    Addr(SocketAddr),
    /// By a Unix socket of this machine.
    Unix,
    /// Nobody can say: the connection broke before it was asked, or a proxy has it from a place without an address.
    Unknown,
}

impl Origin {
    /// Of a connected socket.
    pub(super) fn of(stream: &Stream) -> Origin {
        match stream.peer_addr() {
            Some(addr) => Origin::Addr(addr),
            // Not by the absence of an address: a TCP peer that has reset the connection has none either, and must
            // not pass for a local one.
            None if stream.is_unix() => Origin::Unix,
            None => Origin::Unknown,
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy)]
pub struct Peer<'r> {
    seen: Seen<'r>,
    secure: bool,
    late: bool,
}

#[derive(Clone, Copy)]
enum Seen<'r> {
    /// To be looked up when asked for, unless it is known: few requests need it.
    Socket(&'r Stream, &'r OnceCell<Box<Told>>),
    Known(Origin),
}

impl Peer<'_> {
    /// The same, looked up now, to outlive the connection's hold on its socket.
    pub(super) fn detached(self) -> Peer<'static> {
        Peer {
            seen: Seen::Known(self.origin()),
            secure: self.secure,
            late: self.late,
        }
    }

    /// Where it comes from, by the socket or by the word of a trusted proxy on the connection (PROXY protocol). A system
    /// call.
    pub fn origin(self) -> Origin {
        match self.seen {
            Seen::Socket(stream, known) => {
                let told = known.get().and_then(|told| told.origin.get());
                told.copied().unwrap_or_else(|| Origin::of(stream))
            }
            Seen::Known(origin) => origin,
        }
    }

    /// The same, for who asks with each request: the connection remembers it, for some 60 bytes of its memory.
    pub fn remembered_origin(self) -> Origin {
        match self.seen {
            Seen::Socket(stream, known) => *known
                .get_or_init(Box::default)
                .origin
                .get_or_init(|| Origin::of(stream)),
            Seen::Known(origin) => origin,
        }
    }

    /// Its address, or the one that a trusted proxy told of on the connection (PROXY protocol); none for a peer that has
    /// no IP address.
    pub fn addr(self) -> Option<SocketAddr> {
        match self.origin() {
            Origin::Addr(addr) => Some(addr),
            Origin::Unix | Origin::Unknown => None,
        }
    }

    /// It has come while memory is short: of what it asks for, only what must be answered is to be.
    pub fn is_late(self) -> bool {
        self.late
    }

    /// Nobody on the way can read along: the connection is TLS.
    pub fn is_secure(self) -> bool {
        self.secure
    }
}
