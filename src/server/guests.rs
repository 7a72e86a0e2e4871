//! Who is connected: the count of a worker's connections, and where each comes from.

use super::Server;
use super::app::App;
use crate::runtime::net::Stream;
use std::net::SocketAddr;
use std::rc::Rc;

/// One connection's place in its server: counted while it lives, whatever is spoken on it.
pub(super) struct Guest<A: App> {
    server: Rc<Server<A>>,
    /// Where a trusted proxy said on the connection itself (PROXY protocol) that it comes from.
    told: Option<Box<Origin>>,
}

impl<A: App> Guest<A> {
    /// A connection was accepted.
    pub(super) fn new(server: Rc<Server<A>>) -> Guest<A> {
        server.opened();
        Guest { server, told: None }
    }

    /// The server that it is connected to.
    pub(super) fn server(&self) -> &Server<A> {
        &self.server
    }

    /// The same, to be kept.
    pub(super) fn server_rc(&self) -> &Rc<Server<A>> {
        &self.server
    }

    /// Takes a proxy's word for where the connection comes from.
    pub(super) fn comes_from(&mut self, origin: Origin) {
        self.told = Some(Box::new(origin));
    }

    /// The other end, for a request.
    pub(super) fn peer<'r>(&self, stream: &'r Stream, secure: bool) -> Peer<'r> {
        let seen = match &self.told {
            Some(origin) => Seen::Known(**origin),
            None => Seen::Socket(stream),
        };
        Peer { seen, secure }
    }
}

impl<A: App> Drop for Guest<A> {
    fn drop(&mut self) {
        self.server.closed();
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
}

#[derive(Clone, Copy)]
enum Seen<'r> {
    /// To be looked up when asked for: few requests need it.
    Socket(&'r Stream),
    Known(Origin),
}

impl Peer<'_> {
    /// The same, looked up now, to outlive the connection's hold on its socket.
    pub(super) fn detached(self) -> Peer<'static> {
        Peer {
            seen: Seen::Known(self.origin()),
            secure: self.secure,
        }
    }

    /// Where it comes from, by the socket or by the word of a trusted proxy on the connection (PROXY protocol). A system
    /// call.
    pub fn origin(self) -> Origin {
        match self.seen {
            Seen::Socket(stream) => Origin::of(stream),
            Seen::Known(origin) => origin,
        }
    }

    /// Its address, or the one that a trusted proxy told of on the connection (PROXY protocol); none for a peer that has
    /// no IP address.
    pub fn addr(self) -> Option<SocketAddr> {
        match self.seen {
            Seen::Socket(stream) => stream.peer_addr(),
            Seen::Known(Origin::Addr(addr)) => Some(addr),
            Seen::Known(Origin::Unix | Origin::Unknown) => None,
        }
    }

    /// Nobody on the way can read along: the connection is TLS.
    pub fn is_secure(self) -> bool {
        self.secure
    }
}
