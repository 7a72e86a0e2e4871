//! From an accepted socket to what is spoken on it.

use super::app::App;
use super::guests::{Guest, Origin, spawn_served};
use super::proxy::{self, Fault, Source};
use super::{Server, connection, tls};
use crate::limits;
use crate::runtime::net::Stream;
use crate::runtime::time::Sleep;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// What is expected on the connections of a listening socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Those of trusted proxies begin with a PROXY header. Nobody else's do: the receiver must not guess.
    pub proxy: bool,
    /// TLS, with the settings of [`Server::set_tls`]; or else HTTP in the clear.
    pub tls: bool,
}

/// Serves a fresh connection on a task of its own.
pub(super) fn begin<A: App>(server: &Rc<Server<A>>, terms: Terms, stream: Stream) {
    let mut guest = Guest::new(Rc::clone(server));
    if server.short.get() {
        guest.comes_late();
    }
    if terms.proxy {
        let origin = Origin::of(&stream);
        let trusted = &server.settings.trusted;
        let is_proxy = match origin {
            Origin::Addr(addr) => trusted.contains(addr.ip()),
            Origin::Unix => trusted.contains_unix(),
            Origin::Unknown => false,
        };
        if is_proxy {
            // A task of its own, which ends when the connection's begins: that stays small, and so does what waits
            // for a header.
            spawn_served("proxy header", guest, |guest| introduced(terms, stream, guest, origin));
            return;
        }
    }
    // Not asked for where nobody counts: it is a system call.
    if server.settings.connections_per_address > 0 && !guest.arrives_from(stream.peer_addr()) {
        return;
    }
    speak(terms, stream, guest, Vec::new());
}

/// Speaks what the terms say with a connection of which it is known where it comes from, on a task of its own. `early`
/// are bytes that came already.
fn speak<A: App>(terms: Terms, stream: Stream, guest: Guest<A>, early: Vec<u8>) {
    if terms.tls {
        // What a handshake needs is gone with its task: the connection gets another.
        spawn_served("handshake", guest, |guest| tls::greet(stream, guest, early));
    } else {
        spawn_served("connection", guest, |guest| connection::serve(stream, guest, early));
    }
}

/// Waits for the header of a proxy, and then serves; closes at once where there is none.
async fn introduced<A: App>(terms: Terms, mut stream: Stream, mut guest: Guest<A>, proxy: Origin) {
    match header(&mut stream, &guest).await {
        Ok((source, early)) => {
            if let Some(origin) = origin(source, proxy)
                && !guest.comes_from(origin)
            {
                return;
            }
            speak(terms, stream, guest, early);
        }
        // It opened and closed, as probes do; or the server ends before it has said anything.
        Err(Unmet::Gone) => {}
        Err(Unmet::Late) => refuse(&guest, proxy, &"it did not come in time"),
        Err(Unmet::Fault(fault)) => refuse(&guest, proxy, &fault),
    }
}

fn refuse<A: App>(guest: &Guest<A>, proxy: Origin, why: &dyn std::fmt::Display) {
    guest.server().app().unintroduced();
    tracing::debug!(?proxy, %why, "a connection of a trusted proxy without its PROXY header");
}

/// Where a proxied connection comes from; none where the proxy itself is the peer.
fn origin(source: Source, proxy: Origin) -> Option<Origin> {
    let here = match proxy {
        Origin::Addr(addr) => addr.ip().to_canonical().is_loopback(),
        Origin::Unix => true,
        Origin::Unknown => false,
    };
    match source {
        Source::Peer => None,
        // The loopback of another machine: taken at its word it would open what is open to this machine's.
        Source::Addr(addr) if addr.ip().to_canonical().is_loopback() && !here => Some(Origin::Unknown),
        Source::Addr(addr) => Some(Origin::Addr(addr)),
        // By a Unix socket, but not by one of ours, whose users the operator may trust.
        Source::Unix => Some(Origin::Unknown),
    }
}

/// Why there is no header.
enum Unmet {
    Gone,
    Late,
    Fault(Fault),
}

/// The header at the begin of a connection, and the bytes that came behind it.
async fn header<A: App>(stream: &mut Stream, guest: &Guest<A>) -> Result<(Source, Vec<u8>), Unmet> {
    let server = guest.server();
    let mut sleep = Sleep::after(guest.patience(server.settings.head_timeout));
    // For who has come late in a drain.
    let mut moment = Sleep::after(limits::drain::IDLE);
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let more = poll_fn(|cx| {
            if let Poll::Ready(received) = stream.poll_recv(cx) {
                return Poll::Ready(received.ok().flatten().ok_or(Unmet::Gone));
            }
            if bytes.is_empty() && server.ending_idle.get() && moment.poll_elapsed(cx).is_ready() && !stream.has_more()
            {
                return Poll::Ready(Err(Unmet::Gone));
            }
            sleep.poll_elapsed(cx).map(|()| Err(Unmet::Late))
        })
        .await?;
        server.app().received(more.len());
        // At most one receive buffer more than the longest header.
        bytes.extend_from_slice(&more);
        drop(more);
        if let Some(header) = proxy::parse(&bytes).map_err(Unmet::Fault)? {
            bytes.drain(..header.bytes.min(bytes.len()));
            return Ok((header.source, bytes));
        }
    }
}
