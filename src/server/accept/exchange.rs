//! Connections that the accept loop hands to other workers, and gets from them: see `balance`.

use super::Door;
use crate::limits::balance as limits;
use crate::runtime::net::Stream;
use crate::runtime::time::Sleep;
use crate::server::balance::Handed;
use crate::server::begin::{Terms, begin};
use crate::server::{App, Server};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Serves connections that were handed from worker to worker.
pub(super) fn receive<A: App>(server: &Rc<Server<A>>, handed: Vec<Handed>) {
    for Handed { socket, terms, .. } in handed {
        match Stream::adopt(socket) {
            Ok(stream) => begin(server, terms, stream),
            Err(error) => tracing::warn!(%error, "a connection that was handed over is lost"),
        }
    }
}

impl<A: App> Door<A> {
    /// Whether another worker has a place for who comes now. If not, the task is woken to ask again.
    pub(super) fn others_have_room(&mut self, cx: &Context<'_>) -> bool {
        let seat = self.server.seat.get().filter(|_| !self.server.is_draining());
        let Some(seat) = seat.filter(|seat| seat.gives()) else {
            return false;
        };
        let has_many_out = seat.has_many_out();
        // Who waits here already is first.
        let waits_here = seat.waiting() > 0;
        if !has_many_out && !waits_here && seat.others_have_room() {
            return true;
        }
        // What waits here counts as out, too, and ends no sooner for being looked at often.
        let after = if has_many_out && !waits_here {
            limits::OUT_AGAIN
        } else {
            limits::ROOM_AGAIN
        };
        let again = self.room_again.get_or_insert_with(|| Sleep::after(after));
        if again.poll_elapsed(cx).is_ready() {
            again.reset(after);
            let _ = again.poll_elapsed(cx);
        }
        false
    }

    /// Serves a fresh connection, or hands it to another worker, which has fewer, or any place where here is none. Where there
    /// is none it waits.
    pub(super) fn settle(&mut self, terms: Terms, stream: Stream) {
        let is_full = self.is_full();
        let seat = self.server.seat.get().filter(|_| !self.server.is_draining());
        let Some(seat) = seat else {
            return begin(&self.server, terms, stream);
        };
        let given = if is_full && seat.waiting() > 0 {
            Err(stream)
        } else {
            seat.give(terms, stream, is_full)
        };
        match given {
            Err(stream) if is_full => {
                if let Err(stream) = seat.keep(terms, stream) {
                    begin(&self.server, terms, stream);
                }
            }
            Err(stream) => begin(&self.server, terms, stream),
            Ok(()) => self.gave(1),
        }
    }

    fn gave(&mut self, count: usize) {
        for _ in 0..count {
            self.server.app().handed_over();
        }
        if count > 0 {
            self.handed.get_or_insert_with(|| Sleep::after(limits::TAKE_BACK));
        }
    }

    /// Places that are free for what was accepted, or handed over, already.
    fn room(&self) -> usize {
        if self.lets_all_in || self.server.is_draining() {
            return usize::MAX;
        }
        self.server.settings.connections_max.saturating_sub(self.server.open())
    }

    /// Serves what others have handed to this worker, and what they have not taken of what it handed to them.
    pub(super) fn exchange(&mut self, cx: &Context<'_>) {
        let server = Rc::clone(&self.server);
        let Some(seat) = server.seat.get() else { return };
        if self.takes_in {
            receive(&server, seat.take(self.room(), cx));
            let passed = seat.pass_on();
            self.gave(passed);
        }
        if let Some(handed) = &mut self.handed
            && handed.poll_elapsed(cx).is_ready()
        {
            let room = self.room().saturating_sub(seat.waiting());
            let (back, next) = seat.take_back(limits::TAKE_BACK, room);
            self.handed = next.map(Sleep::after);
            for Handed { socket, terms, .. } in back {
                server.app().handed_back();
                match Stream::adopt(socket) {
                    // Somebody else may have a place, and who did not take it is not asked again.
                    Ok(stream) if self.is_full() => self.settle(terms, stream),
                    Ok(stream) => begin(&server, terms, stream),
                    Err(error) => tracing::warn!(%error, "a connection that was taken back is lost"),
                }
            }
            if let Some(handed) = &mut self.handed {
                let _ = handed.poll_elapsed(cx);
            }
        }
    }

    /// Until what was handed to others is theirs, or is taken back.
    pub(super) async fn until_taken(&mut self) {
        poll_fn(|cx| {
            self.exchange(cx);
            match self.handed {
                None => Poll::Ready(()),
                Some(_) => Poll::Pending,
            }
        })
        .await;
    }
}
