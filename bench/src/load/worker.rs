//! One thread of the generator: its connections, its epoll, its clock, its counts.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::Plan;
use super::report::{Errors, latency_histogram};
use super::schedule::Schedule;
use crate::answer::{Reader, Told};
use crate::clock::{SECOND_NS, now_ns, thread_cpu_ns};
use crate::procfs;

/// How often deadlines are looked at, in nanoseconds: the grain of the timeouts.
const SWEEP_NS: u64 = 50_000_000;
/// Pause before a connection that failed is opened again.
const RETRY_NS: u64 = 100_000_000;
/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 * 1024;
/// Events taken from epoll at once.
const EVENTS: usize = 512;
/// The epoll token of the timer; connections have their index.
const TIMER: u64 = u64::MAX;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No socket; opened again at `retry_ns`.
    Closed { retry_ns: u64 },
    /// The connect is on its way.
    Connecting { deadline_ns: u64 },
    /// Ready for a request since then.
    Idle { since_ns: u64 },
    /// `sent` bytes of the request at `place` are out; `due_ns` is where latency starts.
    Asking {
        due_ns: u64,
        place: u32,
        sent: usize,
        deadline_ns: u64,
    },
}

struct Connection {
    socket: Option<OwnedFd>,
    state: State,
    reader: Reader,
}

/// The counts of one thread.
pub(crate) struct Outcome {
    /// Nanoseconds from due time (closed loop: from the send) to the last byte, of requests after the warm-up.
    pub(super) latency: Histogram<u64>,
    /// The same of the answers of 2xx, and of those of 503.
    pub(super) latency_2xx: Histogram<u64>,
    pub(super) latency_503: Histogram<u64>,
    /// Nanoseconds by which the generator itself was late, with a connection free: open loop only.
    pub(super) lag: Histogram<u64>,
    /// Answers by status, after the warm-up.
    pub(super) statuses: std::collections::BTreeMap<u16, u64>,
    /// Answers by what their Cache-Status says, warm-up included; by the numbers of [`Told`].
    pub(super) told: [u64; Told::ALL.len()],
    pub(super) errors: Errors,
    /// Answers, warm-up included.
    pub(super) answers: u64,
    pub(super) reconnects: u64,
    /// From the end of the warm-up to the last answer.
    pub(super) elapsed_ns: u64,
    /// Whole run of the thread: wall, CPU used, time spent waiting for a CPU.
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
    pub(super) starved_ns: u64,
}

/// One thread of the generator.
pub(super) struct Worker<'a> {
    plan: &'a Plan,
    thread: u32,
    epoll: OwnedFd,
    timer: OwnedFd,
    connections: Vec<Connection>,
    /// Connections that are `Idle`, longest first; an entry is stale where the connection is not.
    idle: VecDeque<usize>,
    asking: usize,
    /// Number of this thread's next request, over all threads.
    turn: u64,
    measure_from_ns: u64,
    end_ns: u64,
    last_answer_ns: u64,
    outcome: Outcome,
    chunk: Vec<MaybeUninit<u8>>,
}

fn trouble(what: &str) -> impl Fn(Errno) -> String {
    move |e| format!("cannot {what}: {e}")
}

impl<'a> Worker<'a> {
    pub(super) fn new(plan: &'a Plan, thread: u32) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(trouble("make an epoll"))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(trouble("make a timer"))?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)
            .map_err(trouble("watch the timer"))?;
        let share = plan.connections / plan.threads + u32::from(thread < plan.connections % plan.threads);
        let connections = (0..share)
            .map(|_| Connection {
                socket: None,
                state: State::Closed { retry_ns: 0 },
                reader: Reader::new(plan.head_request),
            })
            .collect();
        let outcome = Outcome {
            latency: latency_histogram(),
            latency_2xx: latency_histogram(),
            latency_503: latency_histogram(),
            lag: latency_histogram(),
            statuses: Default::default(),
            told: Default::default(),
            errors: Errors::default(),
            answers: 0,
            reconnects: 0,
            elapsed_ns: 0,
            wall_ns: 0,
            cpu_ns: 0,
            starved_ns: 0,
        };
        Ok(Self {
            plan,
            thread,
            epoll,
            timer,
            connections,
            idle: VecDeque::new(),
            asking: 0,
            turn: u64::from(thread),
            measure_from_ns: u64::MAX,
            end_ns: 0,
            last_answer_ns: 0,
            outcome,
            chunk: vec![MaybeUninit::uninit(); READ_BYTES],
        })
    }

    /// Opens every connection of this thread.
    ///
    /// # Errors
    /// The first that cannot be opened: a load on fewer connections than asked for would be another measurement.
    pub(super) fn connect_all(&mut self) -> Result<(), String> {
        // In groups: a burst above the server's backlog would lose SYNs and wait a second for each.
        let total = self.connections.len();
        let mut opened = 0;
        while opened < total {
            let upto = opened.saturating_add(128).min(total);
            (opened..upto).for_each(|i| self.connect(i));
            while self
                .connections
                .iter()
                .any(|c| matches!(c.state, State::Connecting { .. }))
            {
                let _ = self.wait(SWEEP_NS)?;
                self.sweep(now_ns());
            }
            if self.outcome.errors.total() > 0 {
                return Err(format!(
                    "cannot open {} connections to {}: is the server up, and `ulimit -n` high enough? ({})",
                    self.plan.connections,
                    self.plan.address,
                    self.outcome.errors.first.as_deref().unwrap_or("no reason given")
                ));
            }
            opened = upto;
        }
        Ok(())
    }

    /// The run itself: warm-up, measurement, and the last answers.
    pub(super) fn run(mut self) -> Result<Outcome, String> {
        let start_ns = now_ns();
        let (cpu_before, starved_before) = (thread_cpu_ns(), procfs::this_thread_starved_ns());
        self.measure_from_ns = start_ns.saturating_add(self.plan.warmup_ns);
        self.end_ns = self.measure_from_ns.saturating_add(self.plan.duration_ns);
        let mut schedule = self
            .plan
            .rate
            .map(|rate| Schedule::new(rate, self.thread, self.plan.threads, start_ns, self.end_ns));
        // What was due is sent even after the end, or its delay would go unseen; but not for ever.
        let give_up_ns = self.end_ns.saturating_add(self.plan.timeout_ns);
        let mut next_sweep_ns = start_ns.saturating_add(SWEEP_NS);
        let mut timer_set_ns = None;
        loop {
            let now = now_ns();
            let due = match &mut schedule {
                Some(schedule) => {
                    while let Some(due) = schedule.next_due_ns().filter(|&due| due <= now && self.has_more()) {
                        let Some((index, since_ns)) = self.pop_idle() else {
                            break;
                        };
                        let _ = schedule.take(now);
                        if due >= self.measure_from_ns {
                            let late = now_ns().saturating_sub(due.max(since_ns));
                            self.outcome.lag.saturating_record(late);
                        }
                        self.ask(index, due);
                    }
                    schedule.next_due_ns().filter(|_| self.has_more())
                }
                None => {
                    while now < self.end_ns && self.has_more() {
                        let Some((index, _)) = self.pop_idle() else { break };
                        self.ask(index, now_ns());
                    }
                    (now < self.end_ns && self.has_more()).then_some(self.end_ns)
                }
            };
            if now >= next_sweep_ns {
                self.sweep(now);
                next_sweep_ns = now.saturating_add(SWEEP_NS);
            }
            if (due.is_none() && self.asking == 0) || now >= give_up_ns {
                break;
            }
            // A request that is overdue waits for a connection, not for the clock.
            if let Some(due) = due.filter(|&due| due > now && schedule.is_some() && timer_set_ns != Some(due)) {
                self.set_timer(due)?;
                timer_set_ns = Some(due);
            }
            let wait_ns = next_sweep_ns
                .saturating_sub(now)
                .min(self.end_ns.saturating_sub(now).max(1_000_000));
            if self.wait(wait_ns)? {
                timer_set_ns = None;
            }
        }
        let unsent = schedule.as_mut().map_or(0, Schedule::drain);
        self.outcome.errors.unsent = unsent;
        self.outcome.errors.timeouts = self.outcome.errors.timeouts.saturating_add(self.asking as u64);
        self.outcome.elapsed_ns = self.last_answer_ns.saturating_sub(self.measure_from_ns);
        self.outcome.wall_ns = now_ns().saturating_sub(start_ns);
        self.outcome.cpu_ns = thread_cpu_ns().saturating_sub(cpu_before);
        self.outcome.starved_ns = procfs::this_thread_starved_ns().saturating_sub(starved_before);
        Ok(self.outcome)
    }

    /// False where a series has come to its end.
    fn has_more(&self) -> bool {
        self.plan.requests.at(self.turn).is_some()
    }

    fn pop_idle(&mut self) -> Option<(usize, u64)> {
        while let Some(index) = self.idle.pop_front() {
            if let Some(State::Idle { since_ns }) = self.connections.get(index).map(|c| c.state) {
                return Some((index, since_ns));
            }
        }
        None
    }

    fn set_timer(&self, at_ns: u64) -> Result<(), String> {
        let at = Timespec {
            tv_sec: i64::try_from(at_ns / SECOND_NS).unwrap_or(i64::MAX),
            tv_nsec: (at_ns % SECOND_NS) as _,
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec {
            it_interval: never,
            it_value: at,
        };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)
            .map(drop)
            .map_err(trouble("set the timer"))
    }

    /// Waits for events, at most `wait_ns`, and handles them; true where the timer was among them.
    fn wait(&mut self, wait_ns: u64) -> Result<bool, String> {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: wait_ns.min(SECOND_NS - 1) as _,
        };
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(format!("cannot wait for events: {e}")),
        }
        let mut timer = false;
        for event in &events {
            match event.data.u64() {
                TIMER => {
                    timer = true;
                    let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                }
                index => self.ready(index as usize),
            }
        }
        Ok(timer)
    }

    fn connect(&mut self, index: usize) {
        let address = self.plan.address;
        let open = || -> rustix::io::Result<OwnedFd> {
            let family = if address.is_ipv6() {
                AddressFamily::INET6
            } else {
                AddressFamily::INET
            };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            match rustix::net::connect(&socket, &address) {
                Ok(()) | Err(Errno::INPROGRESS) => {}
                Err(e) => return Err(e),
            }
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::OUT)?;
            Ok(socket)
        };
        let opened = open();
        let deadline_ns = now_ns().saturating_add(self.plan.connect_timeout_ns);
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        match opened {
            Ok(socket) => {
                connection.socket = Some(socket);
                connection.state = State::Connecting { deadline_ns };
            }
            Err(e) => {
                connection.state = State::Closed {
                    retry_ns: now_ns().saturating_add(RETRY_NS),
                };
                self.outcome.errors.connect(&format!("connect: {e}"));
            }
        }
    }

    /// Drops the socket (which leaves the epoll with it) and opens a new one, now or after a pause.
    fn reconnect(&mut self, index: usize, pause: bool) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if matches!(connection.state, State::Asking { .. }) {
            self.asking = self.asking.saturating_sub(1);
        }
        connection.socket = None;
        connection.reader = Reader::new(self.plan.head_request);
        connection.state = State::Closed {
            retry_ns: now_ns().saturating_add(RETRY_NS),
        };
        if now_ns() < self.end_ns.max(1) {
            self.outcome.reconnects = self.outcome.reconnects.saturating_add(1);
            if !pause {
                self.connect(index);
            }
        }
    }

    fn ask(&mut self, index: usize, due_ns: u64) {
        if let Some(connection) = self.connections.get_mut(index)
            && let Some(place) = self.plan.requests.at(self.turn)
        {
            self.turn = self.turn.saturating_add(u64::from(self.plan.threads));
            let deadline_ns = now_ns().saturating_add(self.plan.timeout_ns);
            connection.state = State::Asking {
                due_ns,
                place,
                sent: 0,
                deadline_ns,
            };
            self.asking = self.asking.saturating_add(1);
            self.send(index);
        }
    }

    /// Sends what is left of the request; where the socket is full, waits for room.
    fn send(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let (
            State::Asking {
                due_ns,
                place,
                sent,
                deadline_ns,
            },
            Some(socket),
        ) = (connection.state, &connection.socket)
        else {
            return;
        };
        let request = self.plan.requests.bytes(place);
        let left = request.get(sent..).unwrap_or_default();
        let result = rustix::net::send(socket, left, SendFlags::NOSIGNAL);
        let n = match result {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(e) => {
                self.outcome.errors.io(&format!("send: {e}"));
                return self.reconnect(index, true);
            }
        };
        let sent_now = sent.saturating_add(n);
        connection.state = State::Asking {
            due_ns,
            place,
            sent: sent_now,
            deadline_ns,
        };
        let short = sent_now < request.len();
        if short || sent > 0 {
            let mut interest = epoll::EventFlags::IN;
            interest.set(epoll::EventFlags::OUT, short);
            let data = epoll::EventData::new_u64(index as u64);
            if let Err(e) = epoll::modify(&self.epoll, socket, data, interest) {
                self.outcome.errors.io(&format!("epoll: {e}"));
                self.reconnect(index, true);
            }
        }
    }

    fn ready(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        match connection.state {
            State::Connecting { .. } => {
                let Some(socket) = &connection.socket else { return };
                let data = epoll::EventData::new_u64(index as u64);
                let connected = sockopt::socket_error(socket)
                    .and_then(|inner| inner)
                    .and_then(|()| epoll::modify(&self.epoll, socket, data, epoll::EventFlags::IN));
                match connected {
                    Ok(()) => {
                        connection.state = State::Idle { since_ns: now_ns() };
                        self.idle.push_back(index);
                    }
                    Err(e) => {
                        self.outcome.errors.connect(&format!("connect: {e}"));
                        self.reconnect(index, true);
                    }
                }
            }
            State::Asking { place, sent, .. } => {
                if sent < self.plan.requests.bytes(place).len() {
                    self.send(index);
                }
                self.receive(index);
            }
            // The server closed a connection it owes nothing, or spoke unasked.
            State::Idle { .. } => self.receive(index),
            State::Closed { .. } => {}
        }
    }

    fn receive(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(socket) = &connection.socket else { return };
        let came = match rustix::net::recv(socket, &mut *self.chunk, RecvFlags::empty()) {
            Ok(((came, _), _)) => came,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(e) => {
                if matches!(connection.state, State::Asking { .. }) {
                    self.outcome.errors.io(&format!("receive: {e}"));
                }
                return self.reconnect(index, true);
            }
        };
        let State::Asking {
            due_ns, place, sent, ..
        } = connection.state
        else {
            if !came.is_empty() {
                self.outcome
                    .errors
                    .frame("bytes came on a connection that owed no answer");
            }
            return self.reconnect(index, false);
        };
        if came.is_empty() {
            let how = if connection.reader.started() {
                "in the middle of"
            } else {
                "before"
            };
            self.outcome
                .errors
                .io(&format!("the server closed the connection {how} the answer"));
            return self.reconnect(index, true);
        }
        match connection.reader.feed(came) {
            Ok(None) => {}
            Err(e) => {
                self.outcome.errors.frame(&e.to_string());
                self.reconnect(index, true);
            }
            Ok(Some(answer)) => {
                let now = now_ns();
                let whole = sent == self.plan.requests.bytes(place).len();
                connection.state = State::Idle { since_ns: now };
                self.asking = self.asking.saturating_sub(1);
                self.last_answer_ns = now;
                self.outcome.answers = self.outcome.answers.saturating_add(1);
                if due_ns >= self.measure_from_ns {
                    let latency_ns = now.saturating_sub(due_ns);
                    self.outcome.latency.saturating_record(latency_ns);
                    match answer.status {
                        200..300 => self.outcome.latency_2xx.saturating_record(latency_ns),
                        503 => self.outcome.latency_503.saturating_record(latency_ns),
                        _ => {}
                    }
                    let count = self.outcome.statuses.entry(answer.status).or_default();
                    *count = count.saturating_add(1);
                }
                if let Some(count) = self.outcome.told.get_mut(answer.told as usize) {
                    *count = count.saturating_add(1);
                }
                if !(200..300).contains(&answer.status) {
                    self.outcome.errors.status(answer.status);
                } else if let Some(expected) = self.plan.expect.filter(|&expected| expected != answer.told) {
                    self.outcome.errors.told(answer.told, expected);
                }
                if answer.close || !whole {
                    self.reconnect(index, false);
                } else {
                    self.idle.push_back(index);
                }
            }
        }
    }

    /// Looks at the deadlines, and opens again what may be.
    fn sweep(&mut self, now: u64) {
        for index in 0..self.connections.len() {
            match self.connections.get(index).map(|c| c.state) {
                Some(State::Connecting { deadline_ns }) if deadline_ns <= now => {
                    self.outcome.errors.connect("connect: no answer in time");
                    self.reconnect(index, true);
                }
                Some(State::Asking { deadline_ns, .. }) if deadline_ns <= now => {
                    self.outcome.errors.timeout();
                    self.reconnect(index, true);
                }
                Some(State::Closed { retry_ns }) if retry_ns <= now && self.measure_from_ns != u64::MAX => {
                    self.connect(index);
                }
                _ => {}
            }
        }
    }
}
