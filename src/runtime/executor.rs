//! Local tasks: a run queue, wakers, join handles, and the stall detector.
//!
//! Each task is one boxed future and one small shared waker. A wake on the worker's own thread appends to the run
//! queue with no atomic instruction; a wake from another thread (the store's helper thread, for one) goes through a
//! mutex-guarded list and ends the driver's wait.

use super::context::{self, Context};
use super::driver::{Driver, Unparker};
use super::heartbeat::Heartbeat;
use crate::limits;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

type BoxedTask = Pin<Box<dyn Future<Output = ()>>>;

/// Wakes from other threads.
struct Remote {
    unparker: Unparker,
    pending: AtomicBool,
    /// Each task stands here at most once (`TaskWaker::remote_queued`), so the tasks bound it.
    woken: Mutex<Vec<u32>>,
}

struct TaskWaker {
    remote: Arc<Remote>,
    index: u32,
    remote_queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let local = context::try_with(|context| {
            let own = Arc::ptr_eq(&context.tasks.remote, &self.remote);
            if own {
                context.tasks.enqueue(self.index);
            }
            own
        });
        if local == Some(true) || self.remote_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        self.remote
            .woken
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(self.index);
        self.remote.pending.store(true, Ordering::Release);
        self.remote.unparker.unpark();
    }
}

struct Task {
    /// Absent while it is being polled.
    future: Option<BoxedTask>,
    waker: Waker,
    /// For clearing `remote_queued`; the same allocation as `waker`.
    shared: Arc<TaskWaker>,
    name: u16,
    queued: bool,
    aborted: bool,
}

/// The tasks of a worker.
pub(super) struct Tasks {
    slab: RefCell<Slab<Task>>,
    run_queue: RefCell<VecDeque<u32>>,
    remote: Arc<Remote>,
    names: RefCell<Vec<&'static str>>,
    polls: Cell<u64>,
}

impl Tasks {
    pub(super) fn new(unparker: Unparker) -> Tasks {
        Tasks {
            // In one piece, as for the operations: doubling would copy, and keep the smaller halves resident.
            slab: RefCell::new(Slab::with_capacity(limits::runtime::TASKS_RESERVED)),
            run_queue: RefCell::new(VecDeque::new()),
            remote: Arc::new(Remote {
                unparker,
                pending: AtomicBool::new(false),
                woken: Mutex::new(Vec::new()),
            }),
            names: RefCell::new(Vec::new()),
            polls: Cell::new(0),
        }
    }

    /// A wake of a task that has ended, or of the slot's next tenant, is a harmless extra poll.
    fn enqueue(&self, index: u32) {
        if let Some(task) = self.slab.borrow_mut().get_mut(index as usize)
            && !task.queued
        {
            task.queued = true;
            self.run_queue.borrow_mut().push_back(index);
        }
    }

    pub(super) fn collect_remote(&self) {
        if !self.remote.pending.load(Ordering::Acquire) {
            return;
        }
        self.remote.pending.store(false, Ordering::Release);
        let woken = std::mem::take(
            &mut *self
                .remote
                .woken
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        for index in woken {
            if let Some(task) = self.slab.borrow().get(index as usize) {
                // Not a plain store: a waker that finds `true` until here does nothing more, so what it wrote before
                // must be seen by the poll that follows, and that poll's loads must not go ahead of this.
                task.shared.remote_queued.swap(false, Ordering::AcqRel);
            }
            self.enqueue(index);
        }
    }

    fn name_id(&self, name: &'static str, heartbeat: &Heartbeat) -> u16 {
        let mut names = self.names.borrow_mut();
        match names.iter().position(|known| std::ptr::eq(*known, name)) {
            Some(id) => id as u16,
            None => {
                names.push(name);
                heartbeat.intern(name)
            }
        }
    }

    fn spawn(&self, name: u16, future: BoxedTask) -> u32 {
        let mut slab = self.slab.borrow_mut();
        let entry = slab.vacant_entry();
        let index = entry.key() as u32;
        let shared = Arc::new(TaskWaker {
            remote: Arc::clone(&self.remote),
            index,
            remote_queued: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&shared));
        entry.insert(Task {
            future: Some(future),
            waker,
            shared,
            name,
            queued: true,
            aborted: false,
        });
        self.run_queue.borrow_mut().push_back(index);
        index
    }

    /// Ends a task before its time. One that is being polled ends after this poll.
    fn abort(&self, index: u32) {
        let taken = match self.slab.borrow_mut().get_mut(index as usize) {
            Some(task) => {
                task.aborted = true;
                task.future.take()
            }
            None => None,
        };
        if taken.is_some() {
            // Its slot is freed here; the future is dropped with no borrow held, as its drop may wake or spawn.
            let removed = self.slab.borrow_mut().try_remove(index as usize);
            drop(removed);
        }
        drop(taken);
    }
}

impl Context {
    fn run_task(&self, index: u32) {
        let tasks = &self.tasks;
        let Some((mut future, waker, name)) = tasks.slab.borrow_mut().get_mut(index as usize).and_then(|task| {
            task.queued = false;
            // Lent for the poll: a clone would count up and down for nothing.
            let waker = std::mem::replace(&mut task.waker, Waker::noop().clone());
            Some((task.future.take()?, waker, task.name))
        }) else {
            return;
        };
        let started = self.now_ns();
        let polls = tasks.polls.get().wrapping_add(1);
        tasks.polls.set(polls);
        self.heartbeat.enter(polls, name);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut TaskContext::from_waker(&waker))
        }));
        // A task that has looked at the clock itself (a request's last act) need not have it looked at again.
        let held = if self.now_ns() == started {
            self.tick()
        } else {
            self.now_ns()
        }
        .saturating_sub(started);
        self.heartbeat.leave(polls);
        if held > limits::runtime::STALL_NS {
            self.heartbeat.stalled(held);
            let task = tasks.names.borrow().get(usize::from(name)).copied().unwrap_or("?");
            tracing::warn!(task, held_ms = held / 1_000_000, "a task held the core");
        }
        match polled {
            Ok(Poll::Pending) => {
                let mut slab = tasks.slab.borrow_mut();
                if let Some(task) = slab.get_mut(index as usize)
                    && !task.aborted
                {
                    task.future = Some(future);
                    task.waker = waker;
                    return;
                }
            }
            Ok(Poll::Ready(())) => {}
            Err(_) => {
                // The hook has printed the panic and its place. The other tasks go on.
                let task = tasks.names.borrow().get(usize::from(name)).copied().unwrap_or("?");
                tracing::error!(task, "a task panicked");
            }
        }
        let ended = tasks.slab.borrow_mut().try_remove(index as usize);
        drop((ended, future));
    }

    /// Polls what is ready, up to the turn's budget; true if more waits.
    fn run_ready(&self) -> bool {
        for _ in 0..limits::runtime::POLLS_PER_TURN_MAX {
            let Some(index) = self.tasks.run_queue.borrow_mut().pop_front() else {
                return false;
            };
            self.run_task(index);
        }
        !self.tasks.run_queue.borrow().is_empty()
    }
}

/// Why a task gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked; the message is in the log.
    Panicked,
    /// It was aborted, or its runtime ended first.
    Aborted,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinError::Panicked => "the task panicked",
            JoinError::Aborted => "the task was aborted",
        })
    }
}

impl std::error::Error for JoinError {}

struct JoinSlot<T> {
    result: Option<Result<T, JoinError>>,
    waker: Option<Waker>,
}

/// Sets the slot to an error unless the task filled it: covers panic, abort and the end of the runtime alike.
struct Finish<T>(Rc<RefCell<JoinSlot<T>>>);

impl<T> Finish<T> {
    fn set(&self, result: Result<T, JoinError>) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            if slot.result.is_none() {
                slot.result = Some(result);
            }
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        // `panicking` is true while the poll that panicked unwinds through the future's fields.
        let why = if std::thread::panicking() {
            JoinError::Panicked
        } else {
            JoinError::Aborted
        };
        self.set(Err(why));
    }
}

/// Waits for a task's result. Dropping it lets the task run on.
pub struct JoinHandle<T> {
    slot: Rc<RefCell<JoinSlot<T>>>,
    index: u32,
}

impl<T> JoinHandle<T> {
    /// Ends the task at its current wait: its future is dropped, and with it what it owns.
    pub fn abort(&self) {
        if !self.is_finished() {
            context::with(Rc::clone).tasks.abort(self.index);
        }
    }

    /// True once there is a result.
    pub fn is_finished(&self) -> bool {
        // An abandoned slot: the task has dropped its half.
        self.slot.borrow().result.is_some() || Rc::strong_count(&self.slot) == 1
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.borrow_mut();
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Starts a task on this worker. `name` is what the stall detector calls it.
pub fn spawn<T: 'static>(name: &'static str, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let slot = Rc::new(RefCell::new(JoinSlot {
        result: None,
        waker: None,
    }));
    let finish = Finish(Rc::clone(&slot));
    let index = spawn_boxed(
        name,
        Box::pin(async move {
            // Moved in, so that it is dropped with the future, finished or not.
            let finish = finish;
            let value = future.await;
            finish.set(Ok(value));
        }),
    );
    JoinHandle { slot, index }
}

/// Starts a task that nobody waits for: no join handle is allocated, the future is boxed as it is.
pub fn spawn_detached(name: &'static str, future: impl Future<Output = ()> + 'static) {
    spawn_boxed(name, Box::pin(future));
}

fn spawn_boxed(name: &'static str, future: BoxedTask) -> u32 {
    context::with(|context| {
        let name = context.tasks.name_id(name, &context.heartbeat);
        context.tasks.spawn(name, future)
    })
}

/// Wakes every task of this worker, for a change that all must see (the begin of draining): no task need register.
pub fn wake_all() {
    context::with(|context| {
        let indices: Vec<u32> = context
            .tasks
            .slab
            .borrow()
            .iter()
            .map(|(index, _)| index as u32)
            .collect();
        for index in indices {
            context.tasks.enqueue(index);
        }
    });
}

/// Lets the other ready tasks run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One worker's executor.
pub struct Runtime {
    context: Rc<Context>,
}

impl Runtime {
    /// Over `driver`, which must have been made on this thread; `seed` starts the worker's random generator.
    pub fn new(driver: Box<dyn Driver>, seed: u64) -> Runtime {
        Runtime {
            context: Context::new(driver, seed),
        }
    }

    /// What the watchdog and the scrape read.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.context.heartbeat)
    }

    /// Nanoseconds of its clock.
    pub fn now_ns(&self) -> u64 {
        self.context.tick()
    }

    /// Runs until `root` is done. Tasks that are left are kept for a next call, or dropped with the runtime.
    ///
    /// # Errors
    /// When the driver fails for good, or `root` panicked.
    pub fn block_on<T: 'static>(&self, root: impl Future<Output = T> + 'static) -> io::Result<T> {
        let _entered = context::enter(Rc::clone(&self.context));
        self.context.tick();
        let root = spawn("root", root);
        loop {
            let ready = self.context.run_ready();
            if let Some(result) = root.slot.borrow_mut().result.take() {
                return result.map_err(io::Error::other);
            }
            self.context.turn(ready)?;
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _entered = context::enter(Rc::clone(&self.context));
        self.context.heartbeat.end();
        // Futures first, each with no borrow held: their drops abandon operations and close descriptors.
        loop {
            let next = self.context.tasks.slab.borrow().iter().next().map(|(index, _)| index);
            let Some(index) = next else { break };
            let task = self.context.tasks.slab.borrow_mut().try_remove(index);
            drop(task);
        }
        self.context.tear_down();
    }
}
