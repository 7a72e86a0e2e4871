//! Where requests come from, and each thread's place in it.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use super::replay::Replay;
use super::requests::Requests;
use super::scenario::{Drawn, Mix};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Bytes made ahead; HTTP/1.1 only.
    Series(Requests, bool),
    /// Drawn by weight.
    Mix(Mix),
    /// A log, once.
    Replay(Arc<Replay>),
}

impl Source {
    /// How many requests there are in all; `None` for no end.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Series(requests, _) => requests.length(),
            Self::Mix(_) => None,
            Self::Replay(replay) => Some(replay.len()),
        }
    }

    /// Names of the classes, by their numbers.
    pub(crate) fn class_names(&self) -> Vec<String> {
        match self {
            Self::Series(..) => vec!["all".to_owned()],
            Self::Mix(mix) => mix.classes().iter().map(|c| c.name.clone()).collect(),
            Self::Replay(replay) => replay.classes().to_vec(),
        }
    }
}

/// One thread's place: it takes each `threads`-th request.
#[derive(Debug)]
pub(super) struct Cursor {
    turn: u64,
    threads: u64,
    /// Requests not yet promised to anybody.
    left: Option<u64>,
    rng: Rng,
}

impl Cursor {
    pub(super) fn new(source: &Source, thread: u32, threads: u32, seed: u64) -> Self {
        let (thread, threads) = (u64::from(thread), u64::from(threads.max(1)));
        Self {
            turn: thread,
            threads,
            left: source.length().map(|all| all.saturating_sub(thread).div_ceil(threads)),
            rng: Rng::with_seed(seed),
        }
    }

    /// Promises a request; false where there is none any more.
    pub(super) fn promise(&mut self) -> bool {
        match &mut self.left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Some request is left to be promised.
    pub(super) fn has_more(&self) -> bool {
        self.left != Some(0)
    }

    /// Lets a promised request be.
    pub(super) fn skip(&mut self) {
        self.turn = self.turn.saturating_add(self.threads);
    }

    fn next_turn(&mut self) -> u64 {
        let turn = self.turn;
        self.skip();
        turn
    }

    /// Writes a promised request for HTTP/1.1.
    pub(super) fn draw_h1(&mut self, source: &Source, out: &mut Vec<u8>) -> Option<Drawn> {
        let turn = self.next_turn();
        match source {
            Source::Series(requests, head) => {
                out.extend_from_slice(requests.bytes(requests.at(turn)?));
                Some(Drawn {
                    class: 0,
                    head: *head,
                    sse: false,
                    expect: None,
                })
            }
            Source::Mix(mix) => Some(mix.draw_h1(&mut self.rng, turn, out)),
            Source::Replay(replay) => replay.draw_h1(turn, out),
        }
    }

    /// The same for HTTP/2.
    pub(super) fn draw_h2(&mut self, source: &Source, scheme: &str) -> Option<(Drawn, http::Request<()>, Bytes)> {
        let turn = self.next_turn();
        match source {
            Source::Series(..) => None,
            Source::Mix(mix) => mix.draw_h2(&mut self.rng, turn, scheme),
            Source::Replay(replay) => replay.draw_h2(turn, scheme),
        }
    }

    /// Pause of a user after an answer, in seconds.
    pub(super) fn think(&mut self, source: &Source, class: u16) -> Option<f64> {
        match source {
            Source::Mix(mix) => mix.think(class, &mut self.rng),
            Source::Series(..) | Source::Replay(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_series_and_each_comes_to_its_end() {
        let parts = [&b"a"[..], b"b", b"c", b"d", b"e"];
        let source = Source::Series(Requests::series(parts, vec![0, 1, 2, 3, 4], false), false);
        let mut sent = Vec::new();
        for thread in 0..2 {
            let mut cursor = Cursor::new(&source, thread, 2, 1);
            while cursor.promise() {
                cursor.draw_h1(&source, &mut sent).unwrap();
            }
            assert!(!cursor.has_more());
        }
        assert_eq!(sent, b"acebd");
        let endless = Source::Series(Requests::same(b"x".to_vec()), false);
        assert!(Cursor::new(&endless, 0, 1, 1).has_more());
    }
}
