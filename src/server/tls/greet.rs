//! The handshake, and what follows from it.

use super::transport::{Refusal, TlsTransport};
use crate::http::{Reject, Status};
use crate::limits;
use crate::runtime::context;
use crate::runtime::net::Stream;
use crate::runtime::time::{Sleep, timeout};
use crate::server::app::App;
use crate::server::guests::{Guest, spawn_served};
use crate::server::transport::Transport;
use crate::server::{connection, http2};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Shakes hands, within the time that a request's head may take, and has the connection served on a task of its own by
/// what the client has chosen. `early` are bytes that came already, as they came.
pub(in crate::server) async fn greet<A: App>(stream: Stream, guest: Guest<A>, early: Vec<u8>) {
    let begun_ns = context::now_ns();
    let server = Rc::clone(guest.server_rc());
    let settings = server.tls.borrow().clone();
    let Some(settings) = settings else {
        tracing::error!("a port speaks TLS and there is no certificate; the connection is dropped");
        return;
    };
    let mut transport = match TlsTransport::new(stream, settings, &early) {
        Ok(transport) => transport,
        Err(error) => {
            tracing::error!(%error, "TLS cannot begin; the connection is dropped");
            return;
        }
    };
    drop(early);
    // For who has come late in a drain: its first bytes are on their way.
    let mut moment = Sleep::after(limits::drain::IDLE);
    let shaken = timeout(
        guest.patience(server.settings.head_timeout),
        poll_fn(|cx| match transport.poll_handshake(cx) {
            // Who has not begun by then will find another server.
            Poll::Pending if server.ending_idle.get() && !transport.has_heard() && !transport.stream().has_more() => {
                moment.poll_elapsed(cx).map(|()| Err(Refusal::Left))
            }
            polled => polled,
        }),
    )
    .await;
    let elapsed = Duration::from_nanos(context::now_ns().saturating_sub(begun_ns));
    if let Ok(Ok(())) = shaken {
        server.app().shook_hands(true, elapsed);
        if transport.protocol() == Some(b"h2") {
            spawn_served("connection", guest, |guest| http2::serve(transport, guest, Vec::new()));
        } else {
            spawn_served("connection", guest, |guest| {
                connection::serve(transport, guest, Vec::new())
            });
        }
        return;
    }
    // A probe that only connects is no failure.
    let heard = transport.has_heard();
    if heard || shaken.is_err() {
        server.app().shook_hands(false, elapsed);
    }
    let peer = transport_peer(&guest, &transport);
    match shaken {
        Ok(Ok(())) => {}
        Ok(Err(Refusal::Left)) if !heard => {}
        Ok(Err(Refusal::Left)) => tracing::debug!(peer, "the client left within the TLS handshake"),
        Ok(Err(Refusal::Broken(error))) => {
            tracing::debug!(peer, %error, "the connection broke within the TLS handshake")
        }
        Ok(Err(Refusal::Refused(error))) => {
            tracing::debug!(peer, %error, "a TLS handshake failed");
            connection::part(transport.into_stream(), guest, None).await;
        }
        Ok(Err(Refusal::Plain)) => {
            tracing::debug!(peer, "HTTP in the clear on a port that speaks TLS");
            let reject = Reject::new(Status::BAD_REQUEST, "this port speaks TLS; use https");
            connection::part(transport.into_stream(), guest, Some(reject)).await;
        }
        Err(_) => tracing::debug!(peer, heard, "the TLS handshake took too long"),
    }
}

/// Who it was, for the log.
fn transport_peer<A: App>(guest: &Guest<A>, transport: &TlsTransport) -> String {
    let addr = guest.peer(transport.stream(), false).addr();
    addr.map_or_else(String::new, |addr| addr.to_string())
}
