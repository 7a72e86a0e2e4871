//! One worker: a thread with its own runtime, server and application.

use super::boot::Shared;
use crate::cache::redis::Redis;
use crate::routes::Api;
use crate::runtime::driver::choose;
use crate::runtime::executor::{Runtime, spawn};
use crate::runtime::heartbeat::Heartbeat;
use crate::runtime::net::Listener;
use crate::runtime::topology;
use crate::server::{self, Server, Settings};
use crate::store::Lent;
use crate::story::service::{Caching, StoryService};
use crate::telemetry::metrics::WorkerMetrics;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// What a worker says to the supervisor.
pub(super) enum Word {
    /// It serves. With what the watchdog reads.
    Serving(u32, Arc<Heartbeat>),
    /// It will not serve: no driver, no listener.
    Failed(u32, String),
    /// It has ended, with so many connections cut off.
    Ended(u32, usize),
}

/// What the supervisor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Serve.
    Serve,
    /// Finish what is in flight, and end.
    Drain,
}

/// First pause before a worker that panicked starts again; doubled each time.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Starts worker `index` on a thread of its own. `listener` stays the process's: each life of the worker gets a
/// duplicate.
pub(super) fn start(
    index: u32,
    listener: OwnedFd,
    shared: Arc<Shared>,
    store: Lent,
    words: Sender<Word>,
    want: watch::Receiver<Want>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            if let Some(cpu) = shared.process.topology.cpu_of(index as usize)
                && !topology::pin_current_thread(cpu)
            {
                tracing::warn!(
                    worker = index,
                    cpu,
                    "the worker could not be pinned; it runs where the kernel puts it"
                );
            }
            let mut pause = RESTART_PAUSE;
            loop {
                let life = || live(index, &listener, &shared, &store, &words, want.clone());
                match catch_unwind(AssertUnwindSafe(life)) {
                    Ok(Ok(cut_off)) => {
                        let _ = words.send(Word::Ended(index, cut_off));
                        return;
                    }
                    Ok(Err(error)) => {
                        let _ = words.send(Word::Failed(index, error.to_string()));
                        return;
                    }
                    Err(_) => {
                        // The connections of that life are lost; those in the socket's accept queue are not.
                        tracing::error!(
                            worker = index,
                            pause_ms = pause.as_millis() as u64,
                            "the worker panicked; it starts again"
                        );
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(RESTART_PAUSE_MAX);
                    }
                }
            }
        })
}

/// One life of the worker. Gives how many connections were cut off at its end.
fn live(
    index: u32,
    listener: &OwnedFd,
    shared: &Arc<Shared>,
    store: &Lent,
    words: &Sender<Word>,
    want: watch::Receiver<Want>,
) -> io::Result<usize> {
    let (driver, _) = choose::open(shared.io_driver).map_err(io::Error::other)?;
    let runtime = Runtime::new(driver, seed());
    let heartbeat = runtime.heartbeat();
    let metrics: Rc<WorkerMetrics> = Rc::new(shared.process.registry.worker(index));
    let (listener, queue) = (listener.try_clone()?, listener.try_clone()?);
    let (shared, store, words) = (Arc::clone(shared), store.clone(), words.clone());
    let beat = Arc::clone(&heartbeat);
    runtime.block_on(async move {
        let config = &shared.config;
        let store = store.attach();
        let plan = shared.redis.as_ref().filter(|plan| plan.has_room_for(index));
        let redis = plan.map(|plan| {
            let name = format!("roadtrip-api:{}", shared.process.worker_id(index));
            Redis::start(Arc::clone(plan), name, Rc::clone(&metrics))
        });
        let caching = Caching {
            bytes: config.cache_bytes as u64,
            ttl: config.cache_ttl,
            stale_while_revalidate: config.stale_while_revalidate,
            stale_if_error: config.stale_if_error,
        };
        let service = StoryService::with(store.clone(), redis, caching, Rc::clone(&metrics));
        let api = Api::new(
            Arc::clone(&shared.process),
            metrics,
            heartbeat,
            service,
            config.log.access,
        );
        let settings = Settings {
            keep_alive: config.timeouts.keep_alive,
            head_timeout: config.timeouts.head,
            body_timeout: config.timeouts.body,
            write_timeout: config.timeouts.write,
            connections_max: config.connections_max,
        };
        let listener = Listener::new(listener)?;
        let server = Rc::new(Server::new(api, settings));
        server.app().look().await;
        let housekeeping = spawn("housekeeping", server.app().housekeeping());
        let _ = words.send(Word::Serving(index, beat));
        let noting = Rc::clone(&server);
        let stop = async move {
            told_to_drain(want).await;
            noting.app().stop_accepting();
        };
        let last = move |room| {
            end_listening(&queue, room)
                .into_iter()
                .map(|socket| (0, socket))
                .collect()
        };
        let cut_off = server::run_to_end(server, vec![listener.into()], stop, config.timeouts.graceful, last).await;
        housekeeping.abort();
        store.close().await;
        Ok(cut_off)
    })?
}

/// Takes what waits in the kernel's queue, at most `room`, and ends listening. The process holds the socket too, so that
/// closing this worker's duplicate would leave it open: the kernel would go on taking connections that nobody serves,
/// and their clients would wait for the end of the process instead of turning elsewhere at once.
fn end_listening(queue: &OwnedFd, room: usize) -> Vec<OwnedFd> {
    // No accept is armed any more, so how io_uring wants the socket does not matter now.
    let waiting = rustix::io::ioctl_fionbio(queue, true).map(|()| {
        std::iter::from_fn(|| rustix::net::accept_with(queue, rustix::net::SocketFlags::CLOEXEC).ok())
            .take(room)
            .collect()
    });
    if let Err(error) = rustix::net::shutdown(queue, rustix::net::Shutdown::Read) {
        tracing::warn!(%error, "the listening socket stays open while draining");
    }
    waiting.unwrap_or_default()
}

async fn told_to_drain(mut want: watch::Receiver<Want>) {
    // An error means that the supervisor is gone, which ends the process as well.
    let _ = want.wait_for(|want| *want == Want::Drain).await;
}

/// A seed for the worker's generator: ids and jitter need to differ between processes, not to be secret.
fn seed() -> u64 {
    fastrand::u64(..)
}
