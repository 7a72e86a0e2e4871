//! Stands in for workers that do not accept: connections that the kernel hashes to their sockets would wait, for as long
//! as the worker is stuck or starts again, while others have time.
//!
//! The process owns the sockets, so any worker can accept from a duplicate. The watchdog says who stands in for whom
//! ([`Rescue::assign`]); each life of a worker has a task that does what is said ([`Rescue::stand_by`]). One that leaves hands
//! this on with its place: its successor does the same. Connections that the stuck worker has accepted are its own, and
//! wait with it.

use super::departures::Departures;
use super::ports::Lent;
use super::worker::Want;
use crate::routes::Api;
use crate::runtime::executor::{JoinHandle, spawn};
use crate::server::{self, Leave, Port, Server};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Who stands in for whom.
#[derive(Default)]
pub(super) struct Rescue {
    sockets: Mutex<BTreeMap<u32, Vec<Lent>>>,
    /// A worker that is given up, and stands in for nobody any more; true where it has not ended in time.
    closing: Mutex<Option<(u32, bool)>>,
    /// The worker that stands in, by the one that is away.
    posts: watch::Sender<BTreeMap<u32, u32>>,
    /// Who has stopped accepting.
    pub(super) departures: Departures,
}

impl Rescue {
    /// The sockets of worker `index`, from now on.
    pub(super) fn lend(&self, index: u32, sockets: Vec<Lent>) {
        let mut known = self.sockets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.insert(index, sockets);
    }

    /// Worker `index` is being given up: nobody is to count on it.
    pub(super) fn give_up(&self, index: u32) {
        *self.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((index, false));
    }

    /// Worker `index` was given up and does not end: somebody is to take what waits for it, whether it is known to be stuck
    /// or not.
    pub(super) fn abandon(&self, index: u32) {
        *self.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((index, true));
    }

    /// Worker `index` is no more: its sockets can be closed.
    pub(super) fn dismiss(&self, index: u32) {
        let mut known = self.sockets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.remove(&index);
        *self.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    /// The sockets are another process's now: none is held any more.
    pub(super) fn dismiss_all(&self) {
        let mut known = self.sockets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.clear();
    }

    /// Of the workers, those in `away` do not accept, and those in `here` do. Who stands in goes on for as long as it can.
    pub(super) fn assign(&self, away: &[u32], here: &[u32]) {
        let closing = *self.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let given_up = closing.map(|(worker, _)| worker);
        let here: Vec<u32> = here
            .iter()
            .copied()
            .filter(|worker| Some(*worker) != given_up)
            .collect();
        let abandoned = closing.filter(|(worker, abandoned)| *abandoned && !away.contains(worker));
        let abandoned = abandoned.map(|(worker, _)| worker);
        self.posts.send_if_modified(|posts| {
            let mut next = BTreeMap::new();
            for worker in away.iter().chain(&abandoned) {
                let present = posts.get(worker).filter(|stand_in| here.contains(stand_in));
                let busy = |stand_in: &u32| next.values().filter(|other| *other == stand_in).count();
                let stand_in = present.or_else(|| here.iter().min_by_key(|stand_in| busy(stand_in)));
                if let Some(stand_in) = stand_in.copied() {
                    next.insert(*worker, stand_in);
                }
            }
            let is_new = next != *posts;
            *posts = next;
            is_new
        });
    }

    /// Who stands in for a worker.
    pub(super) fn stand_in_of(&self, worker: u32) -> Option<u32> {
        self.posts.borrow().get(&worker).copied()
    }

    /// Stands in for whomever it is told to, until it is told to leave. To be spawned by worker `index`.
    pub(super) async fn stand_by(
        self: Arc<Rescue>,
        index: u32,
        server: Rc<Server<Api>>,
        mut want: watch::Receiver<Want>,
    ) {
        let mut posts = self.posts.subscribe();
        let mut tasks: BTreeMap<u32, JoinHandle<()>> = BTreeMap::new();
        loop {
            tasks.retain(|_, task| !task.is_finished());
            for worker in on_duty(&mut posts, index) {
                tasks.entry(worker).or_insert_with(|| {
                    let post = Arc::clone(&self).stand_in(worker, index, Rc::clone(&server), want.clone());
                    spawn("stand in", post)
                });
            }
            // An error means that the supervisor is gone, which ends the process as well.
            let leave = async { drop(want.wait_for(|want| want.is_end()).await) };
            if either(posts.changed(), leave).await {
                return;
            }
        }
    }

    /// Stands in for `worker` until it is back, or for good.
    async fn stand_in(
        self: Arc<Rescue>,
        worker: u32,
        index: u32,
        server: Rc<Server<Api>>,
        mut want: watch::Receiver<Want>,
    ) {
        let (ports, queues) = match self.open(worker) {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(worker, stand_in = index, %error, "nobody takes the new connections of a stuck worker");
                return;
            }
        };
        tracing::warn!(
            worker,
            stand_in = index,
            "standing in: new connections of that worker are taken here"
        );
        let mut posts = self.posts.subscribe();
        let stop = async move {
            let back = posts.wait_for(|posts| posts.get(&worker) != Some(&index));
            let mut wanted = Want::Serve;
            let leave = async {
                // The supervisor is gone, which ends the process as well, or says what is to be.
                wanted = want
                    .wait_for(|want| want.is_end())
                    .await
                    .map_or(Want::End, |want| *want);
            };
            let _ = either(async { back.await.map(drop) }, leave).await;
            // Another life of this worker, or another worker, stands in from now on, unless it is the end of all.
            match wanted {
                Want::End => Leave::ForGood,
                _ => Leave::ToOwner,
            }
        };
        let last = |room: usize| end(&queues, room, true);
        let connections = server::stand_in(Rc::clone(&server), ports, stop, last).await;
        self.departures.changed();
        server.app().stood_in(connections);
        tracing::warn!(worker, stand_in = index, connections, "no longer standing in");
    }

    /// The sockets of a worker: to accept from, and to end.
    fn open(&self, worker: u32) -> io::Result<(Vec<Port>, Vec<Lent>)> {
        let known = self.sockets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let own = known.get(&worker).map(Vec::as_slice).unwrap_or_default();
        let (mut ports, mut queues) = (Vec::new(), Vec::new());
        for lent in own {
            queues.push(lent.duplicate()?);
            ports.push(Port {
                terms: lent.terms,
                stays: lent.stays(),
                listener: lent.duplicate()?.listener_beside()?,
            });
        }
        Ok((ports, queues))
    }
}

/// Whom worker `index` is to stand in for.
fn on_duty(posts: &mut watch::Receiver<BTreeMap<u32, u32>>, index: u32) -> Vec<u32> {
    let posts = posts.borrow_and_update();
    let own = posts.iter().filter(|(_, stand_in)| **stand_in == index);
    own.map(|(worker, _)| *worker).collect()
}

/// True if `second` came first.
async fn either<T, E>(first: impl Future<Output = Result<T, E>>, second: impl Future<Output = ()>) -> bool {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    std::future::poll_fn(|cx| {
        if second.as_mut().poll(cx).is_ready() {
            return std::task::Poll::Ready(true);
        }
        first.as_mut().poll(cx).map(|_| false)
    })
    .await
}

/// Takes what waits in the kernel's queues, at most `room`, each with the index of its port, and ends listening. Without
/// `shared` those are left alone that other workers accept from, too.
pub(super) fn end(queues: &[Lent], room: usize, shared: bool) -> Vec<(usize, OwnedFd)> {
    let mut waiting = Vec::new();
    for (index, queue) in queues.iter().enumerate() {
        if queue.is_shared() && !shared {
            continue;
        }
        let taken = queue.end(room.saturating_sub(waiting.len()));
        waiting.extend(taken.into_iter().map(|socket| (index, socket)));
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::Rescue;

    #[test]
    fn who_is_given_up_stands_in_for_nobody() {
        let rescue = Rescue::default();
        rescue.assign(&[0], &[2]);
        assert_eq!(rescue.stand_in_of(0), Some(2));
        rescue.give_up(2);
        rescue.assign(&[0], &[1, 2]);
        assert_eq!(rescue.stand_in_of(0), Some(1));
        rescue.dismiss(2);
        rescue.assign(&[0, 1], &[2]);
        assert_eq!(rescue.stand_in_of(0), Some(2));
    }

    #[test]
    fn somebody_stands_in_for_who_is_given_up_and_does_not_end() {
        let rescue = Rescue::default();
        rescue.give_up(1);
        rescue.assign(&[], &[0, 1]);
        assert_eq!(rescue.stand_in_of(1), None);
        rescue.abandon(1);
        for away in [&[][..], &[1]] {
            rescue.assign(away, &[0]);
            assert_eq!(rescue.stand_in_of(1), Some(0));
        }
        rescue.dismiss(1);
        rescue.assign(&[], &[0]);
        assert_eq!(rescue.stand_in_of(1), None);
    }

    #[test]
    fn somebody_stands_in_and_the_load_is_shared() {
        let rescue = Rescue::default();
        rescue.assign(&[2], &[0, 1, 3]);
        assert_eq!(rescue.stand_in_of(2), Some(0));
        // It goes on, and the next one falls to another.
        rescue.assign(&[1, 2], &[0, 3]);
        assert_eq!((rescue.stand_in_of(2), rescue.stand_in_of(1)), (Some(0), Some(0)));
        rescue.assign(&[0, 1, 2], &[3]);
        assert_eq!([0, 1, 2].map(|worker| rescue.stand_in_of(worker)), [Some(3); 3]);
        rescue.assign(&[2], &[0, 1, 3]);
        assert_eq!(
            [0, 1, 2].map(|worker| rescue.stand_in_of(worker)),
            [None, None, Some(3)]
        );
        // Nobody is left.
        rescue.assign(&[0, 1, 2, 3], &[]);
        assert_eq!(rescue.stand_in_of(2), None);
        rescue.assign(&[], &[0, 1, 2, 3]);
        assert!(rescue.posts.borrow().is_empty());
    }
}
