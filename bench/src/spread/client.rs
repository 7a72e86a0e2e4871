//! The client's side: connections that stay, with a request under way on each of them all the time, and connections that
//! come and go.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use crate::answer::Reader;
use crate::clock;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Connections of a churn that are open at the same time, each from a thread of its own.
const CHURN_THREADS: u32 = 8;

/// Numbers by the worker that they are of: its `X-Worker-ID`.
pub(super) type ByWorker = BTreeMap<String, u64>;

/// Connections that stay.
pub(super) struct Crowd {
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    reader: Reader,
    worker: String,
    answers: u64,
}

fn request(address: SocketAddr, path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n").into_bytes()
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    connect().map_err(|e: std::io::Error| format!("cannot connect to {address}: {e}"))
}

/// Reads one whole answer; gives its bytes.
fn read_answer(stream: &mut TcpStream, reader: &mut Reader) -> Result<Vec<u8>, String> {
    let (mut seen, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        let n = stream.read(&mut chunk).map_err(|e| format!("no answer: {e}"))?;
        let bytes = chunk.get(..n).unwrap_or_default();
        if n == 0 {
            return Err("closed before the answer was whole".to_owned());
        }
        seen.extend_from_slice(bytes);
        match reader.feed(bytes) {
            Ok(None) => {}
            Ok(Some(answer)) if answer.status == 200 => return Ok(seen),
            Ok(Some(answer)) => return Err(format!("status {}", answer.status)),
            Err(e) => return Err(e.to_string()),
        }
    }
}

/// Which worker gave the answer.
fn worker_of(answer: &[u8]) -> Result<String, String> {
    let head = String::from_utf8_lossy(answer);
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-worker-id")
            .then(|| value.trim().to_owned())
    };
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    lines
        .find_map(field)
        .ok_or_else(|| "the answer has no X-Worker-ID: is this roadtrip-api?".to_owned())
}

/// One GET on a connection of its own; gives the answer's bytes.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<Vec<u8>, String> {
    let mut stream = connect(address)?;
    let request = request(address, path, "Connection: close\r\n");
    stream.write_all(&request).map_err(|e| format!("cannot ask: {e}"))?;
    read_answer(&mut stream, &mut Reader::new(false))
}

/// `count` requests one after the other, each on a connection of its own, as `curl` in a loop does.
pub(super) fn one_by_one(address: SocketAddr, path: &str, count: u32) -> Result<ByWorker, String> {
    let mut by = ByWorker::new();
    for _ in 0..count {
        *by.entry(worker_of(&get(address, path)?)?).or_default() += 1;
    }
    Ok(by)
}

/// Connections that come and go for so long, eight at a time; gives how many there were.
pub(super) fn churn(address: SocketAddr, path: &str, time: Duration) -> Result<u64, String> {
    let until = clock::now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let one = || -> Result<u64, String> {
        let mut count = 0;
        while clock::now_ns() < until {
            get(address, path)?;
            count += 1;
        }
        Ok(count)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CHURN_THREADS).map(|_| scope.spawn(one)).collect();
        let counts = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a client broke down".to_owned())?);
        counts.sum()
    })
}

impl Crowd {
    /// Opens `count` connections in one go, and asks once on each.
    pub(super) fn gather(address: SocketAddr, path: &str, count: u32) -> Result<Crowd, String> {
        let streams: Result<Vec<TcpStream>, String> = (0..count).map(|_| connect(address)).collect();
        let request = request(address, path, "");
        let mut connections = Vec::new();
        for mut stream in streams? {
            stream.write_all(&request).map_err(|e| format!("cannot ask: {e}"))?;
            let mut reader = Reader::new(false);
            let worker = worker_of(&read_answer(&mut stream, &mut reader)?)?;
            connections.push(Connection {
                stream,
                reader,
                worker,
                answers: 0,
            });
        }
        Ok(Crowd { connections })
    }

    /// Connections of each worker.
    pub(super) fn connections(&self) -> ByWorker {
        self.sum(|_| 1)
    }

    /// Requests that each worker has answered under [`load`](Self::load).
    pub(super) fn answers(&self) -> ByWorker {
        self.sum(|connection| connection.answers)
    }

    fn sum(&self, of: impl Fn(&Connection) -> u64) -> ByWorker {
        let mut by = ByWorker::new();
        for connection in &self.connections {
            *by.entry(connection.worker.clone()).or_default() += of(connection);
        }
        by
    }

    /// Asks on all of them for so long, on each again as soon as it is answered.
    pub(super) fn load(&mut self, address: SocketAddr, path: &str, time: Duration) -> Result<(), String> {
        let request = request(address, path, "");
        let poll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| format!("epoll: {e}"))?;
        for (at, connection) in self.connections.iter_mut().enumerate() {
            let data = EventData::new_u64(at as u64);
            epoll::add(&poll, connection.stream.as_fd(), data, EventFlags::IN).map_err(|e| format!("epoll: {e}"))?;
            connection.stream.set_nonblocking(true).map_err(|e| e.to_string())?;
            connection.ask(&request)?;
        }
        let until = clock::now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let mut events = Vec::with_capacity(1024);
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        while clock::now_ns() < until {
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait))
                .map_err(|e| format!("epoll: {e}"))?;
            for event in events.drain(..) {
                let at = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                if let Some(connection) = self.connections.get_mut(at) {
                    connection.go_on(&request)?;
                }
            }
        }
        Ok(())
    }
}

impl Connection {
    fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        // Some hundred bytes into an empty buffer.
        self.stream.write_all(request).map_err(|e| format!("cannot ask: {e}"))
    }

    fn go_on(&mut self, request: &[u8]) -> Result<(), String> {
        let mut chunk = [0; 4096];
        let n = match self.stream.read(&mut chunk) {
            Ok(0) => return Err("the server closed a connection under load".to_owned()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(format!("no answer: {e}")),
        };
        match self.reader.feed(chunk.get(..n).unwrap_or_default()) {
            Ok(None) => Ok(()),
            Ok(Some(answer)) if answer.status == 200 => {
                self.answers += 1;
                self.ask(request)
            }
            Ok(Some(answer)) => Err(format!("status {}", answer.status)),
            Err(e) => Err(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_is_read_from_the_head_alone() {
        let answer = b"HTTP/1.1 200 OK\r\nx-worker-id:  pod-3 \r\nContent-Length: 0\r\n\r\n";
        assert_eq!(worker_of(answer).unwrap(), "pod-3");
        let body = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nX-Worker-ID: a\r\n";
        assert!(worker_of(body).is_err());
    }
}
