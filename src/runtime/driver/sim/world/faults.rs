//! Resets, and what a test does to a connection.

use super::{NEVER, World};
use std::os::fd::RawFd;

impl World {
    pub(in crate::runtime::driver::sim) fn cut(&mut self, fd: RawFd) {
        if let Ok((id, _)) = self.stream(fd) {
            self.reset(id, self.now_ns);
        }
    }

    pub(super) fn reset(&mut self, id: u64, at: u64) {
        let now = self.now_ns;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        for pipe in &mut conn.pipes {
            // What has not arrived is lost.
            while pipe.chunks.back().is_some_and(|(at, _)| *at > now) {
                if let Some((_, chunk)) = pipe.chunks.pop_back() {
                    pipe.bytes -= chunk.len();
                }
            }
            if pipe.fin_ns.is_some_and(|at| at > now) {
                pipe.fin_ns = None;
            }
        }
        for end in &mut conn.ends {
            end.reset_ns = Some(end.reset_ns.unwrap_or(at).min(at));
        }
        self.note("reset", id as i64, 0);
        self.arrives(id, 0, at);
        self.arrives(id, 1, at);
    }

    pub(in crate::runtime::driver::sim) fn black_hole(&mut self, fd: RawFd) {
        if let Ok((id, _)) = self.stream(fd)
            && let Some(conn) = self.conns.get_mut(&id)
        {
            conn.held = true;
        }
    }

    pub(in crate::runtime::driver::sim) fn heal(&mut self, fd: RawFd) {
        let at = self.after_delay();
        let Ok((id, _)) = self.stream(fd) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.held = false;
        for pipe in &mut conn.pipes {
            let at = at.max(pipe.last_ns);
            pipe.last_ns = at;
            let held = pipe.chunks.iter_mut().map(|chunk| &mut chunk.0).chain(&mut pipe.fin_ns);
            held.filter(|time| **time == NEVER).for_each(|time| *time = at);
        }
        let [first, second] = &conn.pipes;
        let last = first.last_ns.max(second.last_ns);
        for end in &mut conn.ends {
            end.reset_ns = end.reset_ns.map(|at| if at == NEVER { last } else { at });
        }
        self.arrives(id, 0, last);
        self.arrives(id, 1, last);
    }
}
