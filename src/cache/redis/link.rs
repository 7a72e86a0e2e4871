//! A worker's one connection and its life: made, lost, made again; and the breaker that keeps a Redis that is away from
//! costing anybody anything.
//!
//! Three states. *Up* (breaker closed): commands go. *Connecting* (half-open): the connection was lost by accident a
//! moment ago; who asks waits for the next one, within its own time. *Away* (open): nothing is sent and nobody waits;
//! one task tries again in growing pauses, and only a greeting and a ping answered in time lead back. Requests never
//! connect, and never pay for the attempt.

use super::Plan;
use super::connection::Connection;
use super::fault::Fault;
use super::greet::{self, Failure, Greeting};
use super::resp::Reply;
use crate::backend::backoff::Backoff;
use crate::limits::redis as limits;
use crate::runtime::context;
use crate::runtime::time::{sleep, timeout};
use crate::telemetry::metrics::WorkerMetrics;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

enum State {
    Up(Rc<Connection>),
    /// Since, milliseconds of the worker's clock.
    Connecting(u64),
    Away(Fault),
}

/// What a command is for, which decides what an error means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A lookup: sent again where the connection was lost under it.
    Read,
    /// A lock: sent once, since a second would find the first one's.
    Lock,
    /// In the background: sent again also after a timeout.
    Write,
    /// A ping: says nothing about what else is allowed.
    Probe,
    /// A charge of rate limits: sent once, since a second would count anew; what is wrong with it is wrong with nothing else.
    Charge,
}

/// Commands, ready to send.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    commands: usize,
    /// Nobody waits for the answers, here or elsewhere.
    with_others: bool,
}

impl Batch {
    /// Lets it go with the next command, in a moment at the latest.
    pub(super) fn with_others(mut self) -> Batch {
        self.with_others = true;
        self
    }

    pub(super) fn add(mut self, words: &[&[u8]]) -> Batch {
        super::resp::command(&mut self.bytes, words);
        self.commands += 1;
        self
    }
}

pub(super) struct Link {
    plan: Arc<Plan>,
    name: String,
    metrics: Rc<WorkerMetrics>,
    state: RefCell<State>,
    waiting: RefCell<Vec<Waker>>,
    timeouts_in_row: Cell<u32>,
    /// No writes before this, milliseconds of the worker's clock, and why.
    writes_off: Cell<Option<(u64, Fault)>>,
    /// The log has it.
    told_writes_off: Cell<Option<Fault>>,
    redialled_ms: Cell<u64>,
    greeting: RefCell<Greeting>,
    connects: Cell<u64>,
}

pub(super) fn now_ms() -> u64 {
    context::now_ns() / 1_000_000
}

impl Link {
    pub(super) fn new(plan: Arc<Plan>, name: String, metrics: Rc<WorkerMetrics>) -> Rc<Link> {
        metrics.redis_breaker(1);
        Rc::new(Link {
            plan,
            name,
            metrics,
            state: RefCell::new(State::Connecting(now_ms())),
            waiting: RefCell::default(),
            timeouts_in_row: Cell::new(0),
            writes_off: Cell::new(None),
            told_writes_off: Cell::new(None),
            redialled_ms: Cell::new(0),
            greeting: RefCell::default(),
            connects: Cell::new(0),
        })
    }

    /// Keeps the connection, for as long as the worker lives.
    pub(super) async fn run(self: Rc<Link>) {
        let pause = Duration::from_millis;
        let mut backoff = Backoff::new(pause(limits::BACKOFF_MS), pause(limits::BACKOFF_MS_MAX));
        let mut told: Option<Fault> = None;
        loop {
            let made = greet::connect(
                &self.plan.settings.target,
                self.plan.tls.as_ref(),
                &self.name,
                self.plan.settings.timeout,
            )
            .await;
            let failure = match made {
                Ok((connection, greeting)) => {
                    self.tell_up(&mut told, &greeting);
                    let begun_ms = now_ms();
                    let connection = Rc::new(connection);
                    *self.greeting.borrow_mut() = greeting;
                    self.set(State::Up(Rc::clone(&connection)));
                    self.metrics.redis_connected();
                    let fault = connection.ended().await;
                    self.metrics.redis_disconnected(fault as usize);
                    let stable = now_ms().saturating_sub(begun_ms) >= limits::STABLE_MS;
                    if stable {
                        backoff.reset();
                    }
                    self.metrics.redis_failed(fault as usize);
                    if stable && matches!(fault, Fault::Lost | Fault::ReadOnly) {
                        // An accident: the next is made at once, and who asks meanwhile waits for it.
                        self.set(State::Connecting(now_ms()));
                        sleep(Duration::from_millis(context::random(|rng| rng.u64(0..3)))).await;
                        continue;
                    }
                    Failure::from(fault)
                }
                Err(failure) => {
                    self.metrics.redis_failed(failure.fault as usize);
                    failure
                }
            };
            self.tell_away(&mut told, &failure);
            self.set(State::Away(failure.fault));
            // Never none at all: a server that refuses at once would be asked in a loop.
            let pause = backoff.next_pause().max(pause(limits::BACKOFF_MS / 5));
            self.metrics.redis_pauses(backoff.attempts(), pause);
            sleep(pause).await;
        }
    }

    fn set(&self, state: State) {
        self.metrics.redis_breaker(match state {
            State::Up(_) => 0,
            State::Connecting(_) => 1,
            State::Away(_) => 2,
        });
        if matches!(state, State::Up(_)) {
            self.connects.set(self.connects.get().saturating_add(1));
            self.timeouts_in_row.set(0);
            // Another server may stand behind the name now.
            self.writes_off.set(None);
        }
        // The old one is dropped with no borrow held: its end wakes others.
        let old = self.state.replace(state);
        drop(old);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn tell_up(&self, told: &mut Option<Fault>, greeting: &Greeting) {
        let (version, role) = (greeting.version.as_str(), greeting.role.as_str());
        let server = &self.plan.settings.target;
        match told.take() {
            Some(_) => tracing::info!(client = self.name, %server, version, role, "Redis is back"),
            None if self.connects.get() == 0 => {
                tracing::info!(client = self.name, %server, version, role, "Redis serves");
            }
            // Done on purpose, and every quarter of a minute.
            None if self.told_writes_off.get() == Some(Fault::ReadOnly) => {}
            None => {
                tracing::info!(client = self.name, %server, version, role, "the connection to Redis was lost and made anew")
            }
        }
    }

    /// Once for each kind of trouble, not for each attempt.
    fn tell_away(&self, told: &mut Option<Fault>, failure: &Failure) {
        if *told == Some(failure.fault) {
            return;
        }
        *told = Some(failure.fault);
        let (kind, advice, detail) = (failure.fault.name(), failure.fault.advice(), failure.detail.as_str());
        let server = &self.plan.settings.target;
        if matches!(
            failure.fault,
            Fault::Auth | Fault::Cluster | Fault::Permission | Fault::Garbage
        ) {
            tracing::error!(client = self.name, %server, kind, detail, "Redis is not used: {advice}");
        } else {
            tracing::warn!(client = self.name, %server, kind, detail, "Redis is away, stories come from the store: {advice}");
        }
    }

    /// True while nothing would be sent.
    pub(super) fn is_away(&self) -> bool {
        matches!(*self.state.borrow(), State::Away(_))
    }

    /// Why there are no writes now.
    pub(super) fn writes_off(&self) -> Option<Fault> {
        let (until_ms, fault) = self.writes_off.get()?;
        (now_ms() < until_ms).then_some(fault)
    }

    /// Why it is away, or is it up; for the status.
    pub(super) fn trouble(&self) -> Option<Fault> {
        match &*self.state.borrow() {
            State::Up(_) => None,
            State::Connecting(_) => Some(Fault::Lost),
            State::Away(fault) => Some(*fault),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        match &*self.state.borrow() {
            State::Up(connection) => connection.in_flight(),
            _ => 0,
        }
    }

    pub(super) fn connects(&self) -> u64 {
        self.connects.get()
    }

    pub(super) fn version_and_role(&self) -> (String, String) {
        let greeting = self.greeting.borrow();
        (greeting.version.clone(), greeting.role.clone())
    }

    /// Waits for a connection for as long as it is worth it: while one that was lost just now is being made anew.
    async fn connection(&self) -> Result<Rc<Connection>, Fault> {
        poll_fn(|cx| {
            match &*self.state.borrow() {
                State::Up(connection) if !connection.has_ended() => return Poll::Ready(Ok(Rc::clone(connection))),
                State::Away(_) => return Poll::Ready(Err(Fault::Away)),
                // Its end is about to be noticed.
                State::Up(_) => {}
                State::Connecting(since_ms) => {
                    let worth_ms = self.plan.settings.timeout.as_millis() as u64;
                    if now_ms().saturating_sub(*since_ms) > worth_ms {
                        return Poll::Ready(Err(Fault::Away));
                    }
                }
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Sends the commands and waits for all answers, `budget` at most, whatever happens.
    ///
    /// # Errors
    /// Where there are not as many answers as commands. An error that is an answer is among them.
    pub(super) async fn call(&self, purpose: Purpose, budget: Duration, batch: &Batch) -> Result<Vec<Reply>, Fault> {
        if self.is_away() {
            return Err(Fault::Away);
        }
        let begun_ns = context::now_ns();
        let budget_ns = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let mut end_ns = begun_ns.saturating_add(budget_ns);
        let mut again = !matches!(purpose, Purpose::Lock | Purpose::Charge);
        loop {
            let left = Duration::from_nanos(end_ns.saturating_sub(context::now_ns()));
            let outcome = match timeout(left, self.once(batch)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Fault::Timeout),
            };
            match outcome {
                Ok(replies) => {
                    self.timeouts_in_row.set(0);
                    let took = context::now_ns().saturating_sub(begun_ns);
                    self.metrics.redis_observed(Duration::from_nanos(took));
                    let mut refused = false;
                    for reply in &replies {
                        if let Reply::Error(code) = reply {
                            refused = true;
                            self.judge(purpose, Fault::of_code(code));
                        }
                    }
                    if purpose == Purpose::Write && !refused && self.told_writes_off.take().is_some() {
                        tracing::info!(client = self.name, "Redis takes writes again");
                    }
                    return Ok(replies);
                }
                Err(Fault::Lost) if again => again = false,
                Err(Fault::Timeout) if again && purpose == Purpose::Write => {
                    again = false;
                    self.note_timeout();
                    end_ns = context::now_ns().saturating_add(budget_ns);
                }
                Err(fault) => {
                    if fault != Fault::Away {
                        self.metrics.redis_failed(fault as usize);
                    }
                    if fault == Fault::Timeout {
                        self.note_timeout();
                    }
                    return Err(fault);
                }
            }
        }
    }

    async fn once(&self, batch: &Batch) -> Result<Vec<Reply>, Fault> {
        let connection = self.connection().await?;
        let answers = if batch.with_others {
            connection.send_with_others(&batch.bytes, batch.commands)?
        } else {
            connection.send_all(&batch.bytes, batch.commands)?
        };
        self.metrics.redis_in_flight(connection.in_flight());
        drop(connection);
        let mut replies = Vec::with_capacity(answers.len());
        for answer in answers {
            replies.push(answer.await?);
        }
        self.metrics.redis_in_flight(self.in_flight());
        Ok(replies)
    }

    fn note_timeout(&self) {
        let timeouts = self.timeouts_in_row.get().saturating_add(1);
        self.timeouts_in_row.set(timeouts);
        if timeouts >= limits::TIMEOUTS_IN_ROW {
            self.end(Fault::Timeout);
        }
    }

    fn end(&self, fault: Fault) {
        let connection = match &*self.state.borrow() {
            State::Up(connection) => Rc::clone(connection),
            _ => return,
        };
        connection.end(fault);
    }

    /// An answer that is an error: the end of the connection, a pause for writes, or only a figure.
    fn judge(&self, purpose: Purpose, fault: Fault) {
        if fault.is_outage() || (fault == Fault::Permission && purpose == Purpose::Read) {
            // Counted when the connection has ended.
            return self.end(fault);
        }
        self.metrics.redis_failed(fault as usize);
        let writing = matches!(purpose, Purpose::Lock | Purpose::Write);
        if !writing
            || !matches!(
                fault,
                Fault::ReadOnly | Fault::Memory | Fault::Stopped | Fault::Permission
            )
        {
            return;
        }
        let now = now_ms();
        self.writes_off.set(Some((now + limits::WRITES_OFF_MS, fault)));
        if self.told_writes_off.replace(Some(fault)) != Some(fault) {
            tracing::warn!(
                client = self.name,
                server = %self.plan.settings.target,
                kind = fault.name(),
                "Redis takes no writes, only what it has is used: {}",
                fault.advice()
            );
        }
        // After a failover the same name may lead to the new primary.
        if fault == Fault::ReadOnly && now.saturating_sub(self.redialled_ms.get()) >= limits::READONLY_REDIAL_MS {
            self.redialled_ms.set(now);
            self.end(fault);
        }
    }
}
