//! Who has stopped accepting, so that others look into the queues that were his, too.
//!
//! Where several wait for the connections of one socket, the kernel wakes the first of them and nobody else
//! (IORING_OP_ACCEPT waits exclusively). One that is woken and stops waiting at that moment accepts nothing, and has
//! used up the call: the connection is in the queue, and nobody comes for it before the next one does. So whoever
//! accepts from a socket asks the kernel anew after another has stopped, since a new accept looks into the queue first.
//! One that was told to stop and makes no turn waits before his successor for good: meanwhile that one asks again and
//! again, for as long as the other is there, since each of his connections waits for the next time. That costs two entries of
//! the ring for each socket, a hundred times a second.
//!
//! Lives of one slot have its sockets in common, and all lives a Unix socket. Of a life that broke down and whose ring the
//! kernel still winds up nothing is said: each life asks for a while after its beginning. And it asks for as long as a worker
//! of a process before this one may be waiting ([`super::elders`]).

use crate::limits::{drain, life as limits};
use crate::routes::Api;
use crate::runtime::context;
use crate::runtime::time::timeout;
use crate::server::Server;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// A life of a worker: which worker, which life.
type Who = (u32, u64);

/// See the page of this module. Shared by the supervisor and all lives.
#[derive(Default)]
pub(super) struct Departures {
    /// Who was told to stop accepting and has not said that he did.
    leaving: watch::Sender<Leaving>,
}

#[derive(Default)]
struct Leaving {
    lives: Vec<Who>,
    /// A process before this one may have a worker that waits.
    elders: bool,
}

impl Leaving {
    /// Somebody waits for connections of the same sockets as that life, has done so for longer, and is to stop.
    fn is_before(&self, life: Who) -> bool {
        self.elders || self.lives.iter().any(|one| is_before(*one, life))
    }
}

impl Departures {
    /// Whether a worker of a process before this one may be waiting for connections.
    pub(super) fn set_elders(&self, are_there: bool) {
        self.leaving
            .send_if_modified(|leaving| std::mem::replace(&mut leaving.elders, are_there) != are_there);
    }

    /// Everybody who was told to stop has said that he did, or is no more.
    pub(super) fn are_over(&self) -> bool {
        self.leaving.borrow().lives.is_empty()
    }

    /// This life is about to be told to stop.
    pub(super) fn told(&self, worker: u32, life: u64) {
        self.leaving.send_modify(|leaving| leaving.lives.push((worker, life)));
    }

    /// It has, or is no more.
    pub(super) fn stopped(&self, worker: u32, life: u64) {
        self.leaving
            .send_modify(|leaving| leaving.lives.retain(|one| *one != (worker, life)));
    }

    /// Somebody has stopped who was not told to.
    pub(super) fn changed(&self) {
        self.leaving.send_modify(|_| ());
    }

    /// Has the server of this life ask anew whenever it must. To be spawned by its worker.
    pub(super) async fn keep_asking(&self, worker: u32, life: u64, server: Rc<Server<Api>>) {
        let mut leaving = self.leaving.subscribe();
        let mut until_ns = after(limits::ASK_FIRST);
        loop {
            let is_before_us = leaving.borrow_and_update().is_before((worker, life));
            let more = if is_before_us || context::now_ns() < until_ns {
                timeout(drain::ASK_AGAIN, leaving.changed()).await.ok()
            } else {
                Some(leaving.changed().await)
            };
            match more {
                Some(Ok(())) => until_ns = until_ns.max(after(limits::ASK_AFTER)),
                // The supervisor is gone, which ends the process as well.
                Some(Err(_)) => return,
                None => {}
            }
            server.ask_again();
        }
    }
}

/// `one` waits for connections of the same sockets as `other`, and has done so for longer.
fn is_before(one: Who, other: Who) -> bool {
    one.0 == other.0 && one.1 < other.1
}

fn after(time: Duration) -> u64 {
    context::now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
