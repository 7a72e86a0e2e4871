//! From an accepted socket to what is spoken on it.

use super::app::App;
use super::guests::Guest;
use super::{Server, connection, tls};
use crate::runtime::executor::spawn_detached;
use crate::runtime::net::Stream;
use std::rc::Rc;

/// What is expected on the connections of a listening socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// TLS, with the settings of [`Server::set_tls`]; or else HTTP in the clear.
    pub tls: bool,
}

/// Serves a fresh connection on a task of its own.
pub(super) fn begin<A: App>(server: &Rc<Server<A>>, terms: Terms, stream: Stream) {
    let guest = Guest::new(Rc::clone(server));
    speak(terms, stream, guest, Vec::new());
}

/// Speaks what the terms say, on a task of its own. `early` are bytes that came already, as they came.
fn speak<A: App>(terms: Terms, stream: Stream, guest: Guest<A>, early: Vec<u8>) {
    if terms.tls {
        // What a handshake needs is gone with its task: the connection gets another.
        spawn_detached("handshake", tls::greet(stream, guest, early));
    } else {
        spawn_detached("connection", connection::serve(stream, guest, early));
    }
}
