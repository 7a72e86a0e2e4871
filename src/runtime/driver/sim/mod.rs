//! A network in memory, with its own time, that misbehaves as a seed says: what happened once happens again.
//!
//! For tests. Both ends of a connection live in one runtime: [`SimNet::listen`] makes the listener, a `Connect`
//! finds it by its address. Time stands still but for [`Driver::turn`], which jumps to the next thing that is due.
//!
//! The simulation also holds the other side of the contract (invariant 3) and panics, with the seed and the last
//! things that happened, where a caller breaks it: an operation on a closed descriptor, a close under an armed
//! operation, two receives on one socket, an operation armed twice, a buffer given back twice, the bytes of an armed
//! send changed.
//!
//! Deliberately absent: descriptors made elsewhere ([`Driver::adopt`] refuses), datagrams, latency models.
//!
//! - `world`: sockets, pipes and the agenda; what an operation does when its time has come
//! - `seeds`: runs a test for many seeds and says which one failed

mod seeds;
#[cfg(test)]
mod tests;
mod world;

pub use seeds::run_seeds;

use super::buffers::BufferPool;
use super::{Driver, Event, Keepalive, Op, OpId, Park, Shutdown, SocketAddrAny, Unparker};
use rustix::io::Errno;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use world::World;

/// What the network does, and how often: probabilities are between 0 and 1, for each chance it has.
#[derive(Debug, Clone, PartialEq)]
pub struct SimConfig {
    /// A receive gives fewer bytes than there are (at least one).
    pub short_read: f64,
    /// A send takes fewer bytes than there is room for (at least one).
    pub short_write: f64,
    /// A receive ends with ENOBUFS although there are buffers.
    pub no_buffers: f64,
    /// A multishot operation ends with a good result.
    pub end_multishot: f64,
    /// An operation ends with EINTR, having done nothing.
    pub interrupt: f64,
    /// An operation that is being cancelled gets a last chance to succeed.
    pub cancel_race: f64,
    /// A turn ends early with nothing to tell.
    pub spurious_turn: f64,
    /// An accept ends with EMFILE, ENFILE, ENOBUFS or ENOMEM; the connection stays in the backlog.
    pub too_many_files: f64,
    /// An accept for one connection only asks whether somebody is there: `accept_now` takes them. Others accept one, as io_uring
    /// does before Linux 6.10.
    pub ask: f64,
    /// Somebody who was there is gone when `accept_now` looks for him, to another worker perhaps; then he is there again.
    pub accept_nobody: f64,
    /// A send finds the connection reset.
    pub reset: f64,
    /// A connect is refused although somebody listens.
    pub refuse: f64,
    /// A connect is never answered and ends with ETIMEDOUT.
    pub connect_timeout: f64,
    /// Every step takes up to this long, and now and then twenty times as long. Two operations that are armed
    /// together may complete in either order.
    pub delay_ns_max: u64,
    /// Until a connect that is not answered fails.
    pub connect_timeout_ns: u64,
    /// Bytes under way or unread in one direction before a send must wait.
    pub socket_buffer_bytes: usize,
    /// Connections that wait in a listener.
    pub backlog_max: usize,
    /// Receive buffers.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: usize,
}

impl SimConfig {
    /// Nothing goes wrong, and everything takes a little time.
    pub fn calm() -> SimConfig {
        SimConfig {
            short_read: 0.0,
            short_write: 0.0,
            no_buffers: 0.0,
            end_multishot: 0.0,
            interrupt: 0.0,
            cancel_race: 0.0,
            spurious_turn: 0.0,
            too_many_files: 0.0,
            ask: 1.0,
            accept_nobody: 0.0,
            reset: 0.0,
            refuse: 0.0,
            connect_timeout: 0.0,
            delay_ns_max: 20_000,
            connect_timeout_ns: 120_000_000_000,
            socket_buffer_bytes: 64 * 1024,
            backlog_max: 128,
            buffers: 128,
            buffer_bytes: 4096,
        }
    }

    /// Everything that a program must bear without noticing: no byte and no connection is lost.
    pub fn rough() -> SimConfig {
        SimConfig {
            short_read: 0.3,
            short_write: 0.3,
            no_buffers: 0.05,
            end_multishot: 0.1,
            interrupt: 0.05,
            cancel_race: 0.5,
            spurious_turn: 0.1,
            ask: 0.7,
            accept_nobody: 0.1,
            delay_ns_max: 1_000_000,
            socket_buffer_bytes: 5000,
            backlog_max: 8,
            buffers: 32,
            buffer_bytes: 512,
            ..SimConfig::calm()
        }
    }

    /// Also what a program must handle: resets, refusals, timeouts, no descriptors left.
    pub fn hostile() -> SimConfig {
        SimConfig {
            too_many_files: 0.1,
            reset: 0.02,
            refuse: 0.05,
            connect_timeout: 0.03,
            ..SimConfig::rough()
        }
    }
}

/// The simulated driver.
pub struct SimDriver {
    world: Rc<RefCell<World>>,
    unparker: Unparker,
}

impl SimDriver {
    /// The driver for a runtime, and the hand of the test on its network. The seed decides everything that happens.
    // The pair is the point: one cannot be had without the other.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(seed: u64, config: SimConfig) -> (SimDriver, SimNet) {
        let world = Rc::new(RefCell::new(World::new(seed, config)));
        let driver = SimDriver {
            world: Rc::clone(&world),
            unparker: Unparker::new(None),
        };
        (driver, SimNet { world })
    }
}

/// The test's hand on the network: looks and interferes.
#[derive(Clone)]
pub struct SimNet {
    world: Rc<RefCell<World>>,
}

impl SimNet {
    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.world.borrow().seed
    }

    /// Simulated nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.world.borrow().now_ns
    }

    /// A listener at `addr`, as the supervisor would lend it. Several may share an address (SO_REUSEPORT).
    pub fn listen(&self, addr: SocketAddrAny) -> RawFd {
        self.world.borrow_mut().listen(addr)
    }

    /// Descriptors that are open, listeners included.
    pub fn open_fds(&self) -> Vec<RawFd> {
        self.world.borrow().open_fds()
    }

    /// Operations that the driver holds, with their descriptors.
    pub fn armed(&self) -> Vec<(OpId, RawFd)> {
        self.world.borrow().armed()
    }

    /// Receive buffers that are not with the driver, as of its last turn.
    pub fn buffers_out(&self) -> usize {
        self.world.borrow().buffers_out()
    }

    /// The last things that happened, a line each. Printed by itself where a test panics.
    pub fn trace(&self) -> String {
        self.world.borrow().trace()
    }

    /// How often an end of a connection said that it sends no more, while bytes of the other lay there unread.
    pub fn ended_over_unread(&self) -> usize {
        self.world.borrow().ended_over_unread
    }

    /// Changes what the network does from now on. Buffers stay as they are.
    pub fn configure(&self, change: impl FnOnce(&mut SimConfig)) {
        change(&mut self.world.borrow_mut().config);
    }

    /// Resets the connection of `fd`, both ends.
    pub fn cut(&self, fd: RawFd) {
        self.world.borrow_mut().cut(fd);
    }

    /// From now on nothing that the connection's ends send arrives.
    pub fn black_hole(&self, fd: RawFd) {
        self.world.borrow_mut().black_hole(fd);
    }

    /// What was held back by [`black_hole`](Self::black_hole) arrives.
    pub fn heal(&self, fd: RawFd) {
        self.world.borrow_mut().heal(fd);
    }
}

impl Driver for SimDriver {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn arm(&mut self, id: OpId, op: &mut Op) {
        self.world.borrow_mut().arm(id, op);
    }

    fn accept_now(&mut self, listener: RawFd) -> io::Result<Option<RawFd>> {
        let mut world = self.world.borrow_mut();
        let nobody = world.config.accept_nobody;
        if world.chance(nobody) {
            return Ok(None);
        }
        Ok(world.accept(listener)?)
    }

    fn cancel(&mut self, id: OpId, op: &Op) {
        self.world.borrow_mut().cancel(id, op.fd());
    }

    fn turn(&mut self, park: Park, events: &mut Vec<Event>) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let woken = self.unparker.0.notified.load(Ordering::Acquire);
        let result = world.turn(if woken { Park::Poll } else { park });
        events.append(&mut world.events);
        self.unparker.acknowledge();
        result
    }

    fn buffers(&self) -> Rc<BufferPool> {
        Rc::clone(&self.world.borrow().pool)
    }

    fn now_ns(&self) -> u64 {
        self.world.borrow().now_ns
    }

    fn unix_ns(&self) -> u64 {
        // The start of a simulation: 2025-01-01T00:00:00Z.
        1_735_689_600_000_000_000 + self.now_ns()
    }

    fn unparker(&self) -> Unparker {
        self.unparker.clone()
    }

    fn socket(&mut self, _addr: &SocketAddrAny) -> io::Result<RawFd> {
        Ok(self.world.borrow_mut().socket())
    }

    /// Takes what [`release`](Self::release) gave, and nothing else.
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<RawFd> {
        let released = self.world.borrow_mut().released.remove(&fd.as_raw_fd());
        Ok(released.ok_or(Errno::OPNOTSUPP)?)
    }

    /// A descriptor of the real kernel stands for the number meanwhile.
    fn release(&mut self, fd: RawFd) -> io::Result<OwnedFd> {
        let token = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        self.world.borrow_mut().released.insert(token.as_raw_fd(), fd);
        Ok(token)
    }

    fn close(&mut self, fd: RawFd) {
        self.world.borrow_mut().close(fd);
    }

    fn descriptor(&self, _fd: RawFd) -> io::Result<BorrowedFd<'_>> {
        Err(Errno::OPNOTSUPP.into())
    }

    fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        Ok(self.world.borrow_mut().shutdown(fd, how)?)
    }

    fn peer_addr(&self, fd: RawFd) -> io::Result<Option<SocketAddrAny>> {
        Ok(Some(self.world.borrow().addr(fd, true)?))
    }

    fn local_addr(&self, fd: RawFd) -> io::Result<SocketAddrAny> {
        Ok(self.world.borrow().addr(fd, false)?)
    }

    fn queued_bytes(&self, fd: RawFd) -> io::Result<usize> {
        Ok(self.world.borrow().queued_bytes(fd)?)
    }

    fn unread_bytes(&self, fd: RawFd) -> io::Result<usize> {
        Ok(self.world.borrow().unread_bytes(fd)?)
    }

    fn hush(&mut self, fd: RawFd) -> io::Result<()> {
        self.world.borrow_mut().hush(fd);
        Ok(())
    }

    /// Nobody vanishes here without a word.
    fn set_keepalive(&mut self, _fd: RawFd, _keepalive: &Keepalive) -> io::Result<()> {
        Ok(())
    }

    /// Nobody runs short of the memory that this frees.
    fn reset_on_close(&mut self, _fd: RawFd) -> io::Result<()> {
        Ok(())
    }

    /// Simulated peers do not vanish without a word, so nothing waits for ever.
    fn give_up_after(&mut self, _fd: RawFd, _time: Duration) -> io::Result<()> {
        Ok(())
    }
}

impl World {
    /// Lets time pass until something happens, as told.
    fn turn(&mut self, park: Park) -> io::Result<()> {
        self.take_buffers_back();
        // The caller's own work takes time, too; a loop that only polls must get somewhere.
        self.now_ns += self.rng.u64(1..=1000);
        self.run_due();
        if !self.events.is_empty() || park == Park::Poll {
            return Ok(());
        }
        let deadline = match park {
            Park::For(time) => self.now_ns.saturating_add(duration_ns(time)),
            _ => u64::MAX,
        };
        if self.chance(self.config.spurious_turn) {
            let until = self.next_due().unwrap_or(deadline).min(deadline);
            if until < u64::MAX {
                self.now_ns = self.rng.u64(self.now_ns..=until.max(self.now_ns));
            }
            return Ok(());
        }
        while self.events.is_empty() {
            match self.next_due() {
                Some(at) if at <= deadline => self.now_ns = self.now_ns.max(at),
                _ if deadline < u64::MAX => {
                    self.now_ns = self.now_ns.max(deadline);
                    return Ok(());
                }
                _ => {
                    return Err(io::Error::other(format!(
                        "deadlock: nothing is scheduled, and the wait has no end (seed {}, armed: {:?})",
                        self.seed,
                        self.armed()
                    )));
                }
            }
            self.run_due();
        }
        Ok(())
    }
}

fn duration_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1)
}
