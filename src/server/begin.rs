//! From an accepted socket to what is spoken on it.

use super::app::App;
use super::guests::Guest;
use super::{Server, connection};
use crate::runtime::executor::spawn_detached;
use crate::runtime::net::Stream;
use std::rc::Rc;

/// What is expected on the connections of a listening socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {}

/// Serves a fresh connection on a task of its own.
pub(super) fn begin<A: App>(server: &Rc<Server<A>>, _terms: Terms, stream: Stream) {
    let mut guest = Guest::new(Rc::clone(server));
    // Not asked for where nobody counts: it is a system call.
    if server.settings.connections_per_address > 0 && !guest.arrives_from(stream.peer_addr()) {
        return;
    }
    spawn_detached("connection", connection::serve(stream, guest, Vec::new()));
}
