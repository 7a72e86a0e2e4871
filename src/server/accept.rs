//! The accept loop of a worker.

use super::begin::{Terms, begin};
use super::{App, Server};
use crate::limits;
use crate::runtime::net::{Listener, Stream};
use crate::runtime::time::{sleep, timeout};
use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// A listening socket of this worker, and what is spoken on its connections.
#[derive(Debug)]
pub struct Port {
    /// The socket.
    pub listener: Listener,
    /// What is spoken.
    pub terms: Terms,
}

impl From<Listener> for Port {
    /// HTTP in the clear.
    fn from(listener: Listener) -> Port {
        Port {
            listener,
            terms: Terms::default(),
        }
    }
}

/// How a server leaves its listening sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// They have a next user, who accepts already or will: what waits in the kernel's queues stays there.
    ToOwner,
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
    let stop = async {
        stop.await;
        Leave::ToOwner
    };
    run_to_end(server, vec![port.into()], stop, graceful, |_| Vec::new()).await
}

/// As [`run`], for listening sockets that may have no next user, which `stop` says: then `last` is called once nothing is
/// accepted any more, gives at most so many connections that wait in the kernel's queues, each with the index of its port,
/// and ends listening. They are served like the others.
pub async fn run_to_end<A: App>(
    server: Rc<Server<A>>,
    mut ports: Vec<Port>,
    stop: impl Future<Output = Leave>,
    graceful: Duration,
    last: impl FnOnce(usize) -> Vec<(usize, OwnedFd)>,
) -> usize {
    let mut stop = pin!(stop);
    let mut failures = 0u64;
    let mut first = 0;
    let leave = loop {
        let accepted = poll_fn(|cx| {
            if let Poll::Ready(leave) = stop.as_mut().poll(cx) {
                return Poll::Ready(Err(leave));
            }
            if server.open.get() >= server.settings.connections_max {
                *server.room.borrow_mut() = Some(cx.waker().clone());
                for port in &mut ports {
                    port.listener.pause();
                }
                return Poll::Pending;
            }
            // Each turn begins with the next one, so that a busy port does not shut out the others.
            first += 1;
            let count = ports.len();
            for index in (0..count).map(|step| (first + step) % count) {
                if let Some(port) = ports.get_mut(index)
                    && let Poll::Ready(accepted) = port.listener.poll_accept(cx)
                {
                    return Poll::Ready(Ok(accepted.map(|stream| (port.terms, stream))));
                }
            }
            Poll::Pending
        })
        .await;
        match accepted {
            Err(leave) => break leave,
            Ok(Ok((terms, stream))) => begin(&server, terms, stream),
            Ok(Err(error)) => {
                // EINVAL: another worker has ended a socket of all, and this one is about to hear of the end.
                let has_ended = error.kind() == std::io::ErrorKind::InvalidInput;
                failures += u64::from(!has_ended);
                if failures.is_power_of_two() && !has_ended {
                    // Logged at 1, 2, 4, ...: a server out of descriptors must not fill its log as well.
                    tracing::warn!(%error, failures, "accept failed; trying again");
                }
                // The clients wait in the kernel's queue meanwhile; those that are connected are served.
                let pause = sleep(Duration::from_millis(limits::connection::ACCEPT_PAUSE_MS));
                let mut pause = pin!(pause);
                let stopped = poll_fn(|cx| match stop.as_mut().poll(cx) {
                    Poll::Ready(leave) => Poll::Ready(Some(leave)),
                    Poll::Pending => pause.as_mut().poll(cx).map(|()| None),
                })
                .await;
                if let Some(leave) = stopped {
                    // A future that is done must not be asked again.
                    break leave;
                }
            }
        }
    };
    let mut terms = Vec::new();
    for port in ports {
        terms.push(port.terms);
        for stream in port.listener.stop().await {
            begin(&server, port.terms, stream);
        }
    }
    let waiting = match leave {
        Leave::ForGood => last(server.settings.connections_max.saturating_sub(server.open.get())),
        Leave::ToOwner => Vec::new(),
    };
    for (port, socket) in waiting {
        match Stream::adopt(socket) {
            Ok(stream) => begin(&server, terms.get(port).copied().unwrap_or_default(), stream),
            Err(error) => tracing::warn!(%error, "a connection of the last moment is lost"),
        }
    }
    server.begin_drain();
    let on_its_way = server.drain_idle.get();
    let _ = timeout(graceful, async {
        // What a client sent before it could know of the end is still on its way, or not yet looked at.
        if timeout(on_its_way, poll_fn(|cx| server.poll_empty(cx))).await.is_err() {
            server.end_idle();
            poll_fn(|cx| server.poll_empty(cx)).await;
        }
    })
    .await;
    server.open.get()
}
