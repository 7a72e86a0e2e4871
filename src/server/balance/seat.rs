//! What a worker does with its own place among others: see [`super`].

use super::{Handed, Out, Place, Seat, choice, decayed, epoch, lock, packed, wake};
use crate::limits::balance as limits;
use crate::runtime::context;
use crate::runtime::net::Stream;
use crate::server::Terms;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

impl Seat {
    /// A connection is served here, which makes so many.
    pub(in crate::server) fn opened(&self, open: usize) {
        let now = epoch(context::now_ns());
        let lately = &self.place.figures.lately;
        let count = decayed(lately.load(Ordering::Relaxed), now).saturating_add(1);
        lately.store(packed(count, now), Ordering::Relaxed);
        self.left(open);
    }

    /// One is gone; so many are left.
    pub(in crate::server) fn left(&self, open: usize) {
        self.place.figures.open.store(open, Ordering::Relaxed);
    }

    /// Fresh connections are handed over here at all.
    pub(in crate::server) fn gives(&self) -> bool {
        self.shares
    }

    /// Another worker has a place.
    pub(in crate::server) fn others_have_room(&self) -> bool {
        self.look_for_peers();
        let now = epoch(context::now_ns());
        self.peers.borrow().iter().any(|peer| peer.has_room(peer.load(now)))
    }

    /// So many have been handed out and are not served yet that a worker without a place hands out no more.
    pub(in crate::server) fn has_many_out(&self) -> bool {
        self.place.out.load(Ordering::Relaxed) >= limits::OUT_MAX
    }

    /// So many wait for a place here.
    pub(in crate::server) fn waiting(&self) -> usize {
        self.place.waiting.load(Ordering::Acquire)
    }

    /// Hands a fresh connection to another worker, or gives it back, which is to be served here then. With `anyway` there is no
    /// place for it here, and any other's is better.
    pub(in crate::server) fn give(&self, terms: Terms, stream: Stream, anyway: bool) -> Result<(), Stream> {
        if !self.shares {
            return Err(stream);
        }
        self.look_for_peers();
        let peers = self.peers.borrow();
        if peers.is_empty() {
            return Err(stream);
        }
        let Some(peer) = self.least(&peers, epoch(context::now_ns()), anyway) else {
            return Err(stream);
        };
        let waker = {
            let mut queue = lock(&peer.queue);
            if queue.closed || queue.waiting.len() >= limits::WAITING_MAX {
                return Err(stream);
            }
            peer.push(&mut queue, self.handed(terms, stream)?)
        };
        wake(waker);
        Ok(())
    }

    fn handed(&self, terms: Terms, stream: Stream) -> Result<Handed, Stream> {
        Ok(Handed {
            socket: stream.release()?,
            terms,
            from: self.place.number,
            since_ns: context::now_ns(),
            _out: Out::new(&self.place.out),
        })
    }

    /// Keeps a connection that was accepted, and for which there is no place here, nor elsewhere: it waits in this worker's own
    /// queue. Gives it back where there is none any more.
    pub(in crate::server) fn keep(&self, terms: Terms, stream: Stream) -> Result<(), Stream> {
        let waker = {
            let mut queue = lock(&self.place.queue);
            if queue.closed || !self.shares {
                return Err(stream);
            }
            self.place.push(&mut queue, self.handed(terms, stream)?)
        };
        wake(waker);
        Ok(())
    }

    /// Hands what waits here for a place, and was accepted here, to others that have some. Gives how many those were.
    pub(in crate::server) fn pass_on(&self) -> usize {
        let mut passed = 0;
        while self.waiting() > 0 {
            self.look_for_peers();
            let peers = self.peers.borrow();
            let now_ns = context::now_ns();
            let Some(peer) = self.least(&peers, epoch(now_ns), true) else {
                break;
            };
            // One lock at a time.
            let own = {
                let mut queue = lock(&self.place.queue);
                let at = queue.waiting.iter().position(|handed| handed.from == self.place.number);
                let own = at.and_then(|at| queue.waiting.remove(at));
                self.place.waiting.store(queue.waiting.len(), Ordering::Release);
                own
            };
            let Some(own) = own else { break };
            let own = Handed {
                since_ns: now_ns,
                ..own
            };
            let (waker, refused) = {
                let mut queue = lock(&peer.queue);
                if queue.closed || queue.waiting.len() >= limits::WAITING_MAX {
                    (None, Some(own))
                } else {
                    (peer.push(&mut queue, own), None)
                }
            };
            wake(waker);
            if let Some(own) = refused {
                let mut queue = lock(&self.place.queue);
                queue.waiting.push_front(own);
                self.place.waiting.store(queue.waiting.len(), Ordering::Release);
                break;
            }
            passed += 1;
        }
        passed
    }

    fn look_for_peers(&self) {
        let version = self.balance.version.load(Ordering::Acquire);
        if self.seen.replace(version) != version {
            let mut peers = self.peers.borrow_mut();
            peers.clone_from(&lock(&self.balance.places));
            peers.retain(|peer| peer.number != self.place.number);
        }
    }

    /// Who is to have the next connection in place of this worker; `anyway`: whoever has a place.
    fn least<'p>(&self, peers: &'p [Arc<Place>], now: u32, anyway: bool) -> Option<&'p Place> {
        let own = self.place.load(now);
        let count = peers.len();
        let first = self.first.get() % count.max(1);
        let looks = if anyway { count } else { count.min(limits::PEERS_MAX) };
        self.first.set(first.saturating_add(looks));
        let looked_at = peers.iter().cycle().skip(first).take(looks);
        let loads = looked_at.map(|peer| (peer, peer.load(now)));
        let (peer, load) = loads
            .filter(|(peer, load)| peer.has_room(*load))
            .min_by_key(|(_, load)| load.key())?;
        (anyway || choice::goes_over(own, load)).then_some(&**peer)
    }

    /// What other workers have handed over, at most so many; wakes the task when there is more. Others hand over from the
    /// first call on.
    pub(in crate::server) fn take(&self, room: usize, cx: &Context<'_>) -> Vec<Handed> {
        let is_known = |waker: &Waker| waker.will_wake(cx.waker());
        if !self.waker.borrow().as_ref().is_some_and(is_known) {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            let mut queue = lock(&self.place.queue);
            if !queue.closed {
                queue.waker = Some(cx.waker().clone());
                self.place.taking.store(self.shares, Ordering::Relaxed);
            }
        }
        let mut taken = self.balance.take_left(room);
        if self.place.waiting.load(Ordering::Acquire) > 0 {
            let mut queue = lock(&self.place.queue);
            let count = room.saturating_sub(taken.len()).min(queue.waiting.len());
            taken.extend(queue.waiting.drain(..count));
            self.place.waiting.store(queue.waiting.len(), Ordering::Release);
        }
        taken
    }

    /// What was handed over and not taken for so long, if there is a place for it: here, where so many are free, or at a third
    /// worker. The rest stays where it is, as here it would wait, too. And if anything is left there, in how long to look again.
    pub(in crate::server) fn take_back(&self, after: Duration, room: usize) -> (Vec<Handed>, Option<Duration>) {
        self.look_for_peers();
        let now_ns = context::now_ns();
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        let own = |handed: &Handed| handed.from == self.place.number;
        let late = |handed: &Handed| own(handed) && now_ns.saturating_sub(handed.since_ns) >= after_ns;
        let peers = self.peers.borrow();
        let waits = || peers.iter().filter(|peer| peer.waiting.load(Ordering::Acquire) > 0);
        for peer in waits() {
            if lock(&peer.queue).waiting.iter().any(late) {
                // Until it has made a turn it is handed no more.
                let turns = peer.heartbeat.turns().wrapping_add(1);
                peer.late.store(turns, Ordering::Relaxed);
            }
        }
        let mut room = room;
        let now = epoch(now_ns);
        let has_room = |peer: &Arc<Place>| peer.has_room(peer.load(now));
        if room < limits::OUT_MAX && self.waiting() == 0 && peers.iter().any(has_room) {
            room = limits::OUT_MAX;
        }
        let (mut back, mut next_ns) = (Vec::new(), None::<u64>);
        for peer in waits() {
            let mut queue = lock(&peer.queue);
            let mut left = room.saturating_sub(back.len());
            let taken = peer.extract(&mut queue, |handed| {
                let fits = left > 0 && late(handed);
                left -= usize::from(fits);
                fits
            });
            back.extend(taken);
            // They are queued in the order in which they came.
            if let Some(oldest) = queue.waiting.iter().find(|handed| own(handed)) {
                let due_ns = after_ns.saturating_sub(now_ns.saturating_sub(oldest.since_ns));
                let due_ns = due_ns.max(if late(oldest) { limits::ROOM_AGAIN_NS } else { 0 });
                next_ns = Some(next_ns.map_or(due_ns, |next_ns| next_ns.min(due_ns)));
            }
        }
        (back, next_ns.map(Duration::from_nanos))
    }

    /// Takes part no more: what waits here or elsewhere is to be served by this worker, which leaves.
    pub(in crate::server) fn close(&self) -> Vec<Handed> {
        let mut rest = self.place.close();
        rest.extend(self.take_back(Duration::ZERO, usize::MAX).0);
        rest.extend(self.balance.take_left(usize::MAX));
        rest
    }
}
