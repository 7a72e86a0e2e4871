//! A proxy that does what networks and broken peers do to the bytes between two programs, driven by a seed.
//!
//! What it does is a [`Mischief`], which may be replaced at any time. How the chunks fall is the kernel's affair, so a
//! seed replays what is done to the n-th chunk of the n-th connection, and not the whole run to the byte.

use super::postgres::free_port;
use rustix::net::sockopt::set_socket_linger;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What happens to who wants to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    #[default]
    Open,
    /// Nobody listens.
    Refused,
    /// Taken by the kernel, and then silence.
    BlackHole,
}

/// What happens to bytes on their way. Chances are percent of chunks; a chunk is what one read gives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mischief {
    pub door: Door,
    /// Chance and longest time that a chunk waits, milliseconds.
    pub delay: (u32, u64),
    /// A part of the chunk, then the end of the connection, in good order.
    pub cut: u32,
    /// The same with RST.
    pub reset: u32,
    /// One byte is another.
    pub flip: u32,
    /// From here on nothing more goes through on this connection, and nobody is told.
    pub swallow: u32,
    /// Random bytes before a message of PostgreSQL's server.
    pub garbage: u32,
    /// Nothing goes through for as long as this is set; then everything does.
    pub hold: bool,
    /// This many bytes at a time, with a millisecond between.
    pub dribble: Option<usize>,
}

const STAY: u8 = 0;
const CLOSE: u8 = 1;
const RESET: u8 = 2;

struct Shared {
    mischief: Mutex<Mischief>,
    to: Mutex<SocketAddr>,
    over: AtomicBool,
    /// Chunks to which something was done.
    done: AtomicU64,
    /// Connections taken.
    taken: AtomicU64,
    /// Those of now: what each side shall do.
    orders: Mutex<Vec<Arc<AtomicU8>>>,
    /// Where the swallowing of all present connections is asked for: those of a lower number.
    swallow_below: AtomicU64,
}

/// A proxy on a port of its own; ends when dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of `to`, doing nothing yet.
    pub fn start(to: SocketAddr, seed: u64) -> Proxy {
        let port = free_port();
        let shared = Arc::new(Shared {
            mischief: Mutex::default(),
            to: Mutex::new(to),
            over: AtomicBool::new(false),
            done: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            orders: Mutex::default(),
            swallow_below: AtomicU64::new(0),
        });
        let (mine, listener) = (Arc::clone(&shared), listen(port));
        let thread = std::thread::spawn(move || mine.accept(port, listener, fastrand::Rng::with_seed(seed)));
        Proxy {
            port,
            shared,
            thread: Some(thread),
        }
    }

    /// From now on this.
    pub fn set(&self, mischief: Mischief) {
        *self.shared.mischief.lock().unwrap() = mischief;
    }

    /// From now on nothing. What was swallowed stays so.
    pub fn lift(&self) {
        self.set(Mischief::default());
    }

    /// The present connections get silent for good, as where a firewall forgets them or the cable is cut.
    pub fn swallow_present(&self) {
        let next = self.shared.taken.load(Ordering::Relaxed);
        self.shared.swallow_below.store(next, Ordering::Relaxed);
        self.shared.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the present connections, by RST or in good order.
    pub fn end_present(&self, reset: bool) {
        let order = if reset { RESET } else { CLOSE };
        for one in self.shared.orders.lock().unwrap().drain(..) {
            one.store(order, Ordering::Relaxed);
        }
        self.shared.done.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was done.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.end_present(false);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> TcpListener {
    // Somebody may have the port for a moment: a client's end of a connection, say.
    for _ in 0..500 {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            listener.set_nonblocking(true).unwrap();
            return listener;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("port {port} is taken");
}

impl Shared {
    fn now(&self) -> Mischief {
        *self.mischief.lock().unwrap()
    }

    fn accept(self: Arc<Self>, port: u16, listener: TcpListener, mut rng: fastrand::Rng) {
        let mut listener = Some(listener);
        // Taken and left alone.
        let mut ignored = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let door = self.now().door;
            if door == Door::Refused {
                listener = None;
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let taken = listener.get_or_insert_with(|| listen(port)).accept();
            let Ok((client, _)) = taken else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            client.set_nonblocking(false).unwrap();
            if door == Door::BlackHole {
                self.done.fetch_add(1, Ordering::Relaxed);
                ignored.push(client);
                continue;
            }
            let to = *self.to.lock().unwrap();
            // Whoever stands behind is away: so is this.
            let Ok(server) = TcpStream::connect(to) else { continue };
            let number = self.taken.fetch_add(1, Ordering::Relaxed);
            let order = Arc::new(AtomicU8::new(STAY));
            self.orders.lock().unwrap().push(Arc::clone(&order));
            let both = [
                (client.try_clone().unwrap(), server.try_clone().unwrap(), false),
                (server, client, true),
            ];
            for (from, to, is_answer) in both {
                from.set_nodelay(true).unwrap();
                let way = Way {
                    shared: Arc::clone(&self),
                    order: Arc::clone(&order),
                    number,
                    rng: rng.fork(),
                    left: Left::of(is_answer),
                    is_silent: false,
                };
                std::thread::spawn(move || way.carry(from, to));
            }
        }
    }
}

/// Bytes until the next message of PostgreSQL's server begins.
enum Left {
    /// Not followed: from the client.
    Unknown,
    Bytes(usize),
    /// A head of five bytes, as far as it came.
    Head(Vec<u8>),
}

impl Left {
    fn of(is_answer: bool) -> Left {
        if is_answer { Left::Bytes(0) } else { Left::Unknown }
    }

    /// Follows a chunk; gives where its first message begins, if one does.
    fn follow(&mut self, chunk: &[u8]) -> Option<usize> {
        let (mut at, mut first) = (0, None);
        while at < chunk.len() {
            match self {
                Left::Unknown => return None,
                Left::Bytes(0) => {
                    first = first.or(Some(at));
                    *self = Left::Head(Vec::new());
                }
                Left::Bytes(more) => {
                    let step = (*more).min(chunk.len() - at);
                    *more -= step;
                    at += step;
                }
                Left::Head(head) => {
                    head.push(chunk[at]);
                    at += 1;
                    if let [_, length @ ..] = &head[..]
                        && let Ok(length) = <[u8; 4]>::try_from(length)
                    {
                        *self = Left::Bytes((u32::from_be_bytes(length) as usize).saturating_sub(4));
                    }
                }
            }
        }
        first
    }
}

/// One way of one connection.
struct Way {
    shared: Arc<Shared>,
    order: Arc<AtomicU8>,
    number: u64,
    rng: fastrand::Rng,
    left: Left,
    is_silent: bool,
}

impl Way {
    fn carry(mut self, mut from: TcpStream, mut to: TcpStream) {
        let tick = Duration::from_millis(10);
        from.set_read_timeout(Some(tick)).unwrap();
        let mut piece = [0; 4096];
        let order = loop {
            match self.order.load(Ordering::Relaxed) {
                STAY => {}
                order => break order,
            }
            if self.shared.now().hold {
                std::thread::sleep(tick / 5);
                continue;
            }
            self.is_silent |= self.number < self.shared.swallow_below.load(Ordering::Relaxed);
            match from.read(&mut piece) {
                // The other side does not learn of it.
                Ok(0) if self.is_silent => std::thread::sleep(tick),
                Ok(0) => break CLOSE,
                Ok(bytes) => match self.pass(&mut piece[..bytes], &mut to) {
                    Ok(None) => {}
                    Ok(Some(order)) => break order,
                    Err(_) => break CLOSE,
                },
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break CLOSE,
            }
        };
        self.order.store(order, Ordering::Relaxed);
        if order == RESET {
            // With the last descriptor, which is the other way's, goes the RST.
            let _ = set_socket_linger(&from, Some(Duration::ZERO));
            let _ = set_socket_linger(&to, Some(Duration::ZERO));
        } else {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    fn by_chance(&mut self, percent: u32) -> bool {
        let does = self.rng.u32(0..100) < percent;
        if does {
            self.shared.done.fetch_add(1, Ordering::Relaxed);
        }
        does
    }

    /// Hands a chunk over, or does otherwise; an order ends the connection.
    fn pass(&mut self, chunk: &mut [u8], to: &mut TcpStream) -> std::io::Result<Option<u8>> {
        let now = self.shared.now();
        let boundary = self.left.follow(chunk);
        self.is_silent |= self.by_chance(now.swallow);
        if self.is_silent {
            return Ok(None);
        }
        if self.by_chance(now.delay.0) {
            std::thread::sleep(Duration::from_millis(self.rng.u64(1..=now.delay.1)));
        }
        let order = match (self.by_chance(now.cut), self.by_chance(now.reset)) {
            (_, true) => Some(RESET),
            (true, _) => Some(CLOSE),
            _ => None,
        };
        let (flip, garbage) = (self.by_chance(now.flip), self.by_chance(now.garbage));
        if order.is_some() {
            to.write_all(&chunk[..self.rng.usize(0..chunk.len())])?;
            return Ok(order);
        }
        if flip {
            chunk[self.rng.usize(0..chunk.len())] ^= self.rng.u8(1..);
        }
        if garbage && let Some(boundary) = boundary {
            let mut rubbish = vec![0; self.rng.usize(5..200)];
            self.rng.fill(&mut rubbish);
            to.write_all(&chunk[..boundary])?;
            to.write_all(&rubbish)?;
            to.write_all(&chunk[boundary..])?;
            return Ok(None);
        }
        match now.dribble {
            Some(most) => {
                for drop in chunk.chunks(most) {
                    to.write_all(drop)?;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            None => to.write_all(chunk)?,
        }
        Ok(None)
    }
}

/// FAULT_SEED, or another each time; said, so that a run can be had again.
pub fn seed() -> u64 {
    let seed = std::env::var("FAULT_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("FAULT_SEED={seed}");
    seed
}
