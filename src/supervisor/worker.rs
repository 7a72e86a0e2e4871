//! One worker: a thread with its own runtime, server and application.

use super::boot::Shared;
use super::certificate;
use super::{ports, rescue};
use crate::cache::redis::Redis;
use crate::routes::Api;
use crate::routes::client::Forwarding;
use crate::runtime::driver::choose;
use crate::runtime::executor::{Runtime, spawn};
use crate::runtime::heartbeat::Heartbeat;
use crate::runtime::topology;
use crate::server::{self, Port, Server, Settings};
use crate::store::Lent;
use crate::story::service::{Caching, StoryService};
use crate::telemetry::metrics::WorkerMetrics;
use std::io;
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
    /// Serve, and tell clients to move on.
    Leave,
    /// Finish what is in flight, and end.
    Drain,
}

/// First pause before a worker that panicked starts again; doubled each time.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Starts worker `index` on a thread of its own. The sockets of `ports` stay the process's: each life of the worker gets
/// duplicates.
pub(super) fn start(
    index: u32,
    ports: Vec<ports::Lent>,
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
                let life = || live(index, &ports, &shared, &store, &words, want.clone());
                let why = match catch_unwind(AssertUnwindSafe(life)) {
                    Ok(Ok(Life::Ended(cut_off))) => {
                        let _ = words.send(Word::Ended(index, cut_off));
                        return;
                    }
                    Ok(Err(error)) => {
                        let _ = words.send(Word::Failed(index, error.to_string()));
                        return;
                    }
                    Ok(Ok(Life::Broken(error))) => error.to_string(),
                    Err(_) => "it panicked".to_owned(),
                };
                // The connections of that life are lost; those in the socket's accept queue are not.
                tracing::error!(
                    worker = index,
                    pause_ms = pause.as_millis() as u64,
                    why,
                    "the worker broke down; it starts again"
                );
                std::thread::sleep(pause);
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
            }
        })
}

/// How a life of a worker that served came to its end.
enum Life {
    /// As it was told to, with so many connections cut off.
    Ended(usize),
    /// Its runtime could not go on: the driver failed for good, or the root task panicked.
    Broken(io::Error),
}

/// One life of the worker. An error means that it could not begin.
fn live(
    index: u32,
    ports: &[ports::Lent],
    shared: &Arc<Shared>,
    store: &Lent,
    words: &Sender<Word>,
    want: watch::Receiver<Want>,
) -> io::Result<Life> {
    let (driver, _) = choose::open(shared.io_driver).map_err(io::Error::other)?;
    let runtime = Runtime::new(driver, seed());
    let heartbeat = runtime.heartbeat();
    let metrics: Rc<WorkerMetrics> = Rc::new(shared.process.registry.worker(index));
    let duplicates = || ports.iter().map(ports::Lent::duplicate).collect::<io::Result<Vec<_>>>();
    let (ports, queues) = (duplicates()?, duplicates()?);
    let (shared, store, words) = (Arc::clone(shared), store.clone(), words.clone());
    let beat = Arc::clone(&heartbeat);
    let lived = runtime.block_on(async move {
        let config = &shared.config;
        let store = store.attach();
        store.observe(&metrics);
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
            Forwarding {
                trusted: Arc::clone(&shared.trusted),
                by: config.forwarded_by,
            },
        );
        let settings = Settings {
            keep_alive: config.timeouts.keep_alive,
            head_timeout: config.timeouts.head,
            body_timeout: config.timeouts.body,
            write_timeout: config.timeouts.write,
            connections_max: config.connections_max,
            trusted: Arc::clone(&shared.trusted),
            connections_per_address: config.connections_per_address,
            requests_per_connection: config.requests_per_connection,
            pending_bytes_max: config.pending_bytes_max,
            body_rate_min: config.body_rate_min,
            write_rate_min: config.write_rate_min,
        };
        let mut listening = Vec::new();
        for port in ports {
            listening.push(Port {
                terms: port.terms,
                listener: port.listener()?,
            });
        }
        let server = Rc::new(Server::new(api, settings));
        let renewing = shared.tls.clone().map(|settings| {
            // Before the first connection.
            renew(&server, &settings);
            spawn("certificate", keep_renewing(Rc::clone(&server), settings))
        });
        server.app().look().await;
        let housekeeping = spawn("housekeeping", server.app().housekeeping());
        let rescue = Arc::clone(&shared.rescue).stand_by(index, Rc::clone(&server), want.clone());
        let standing_by = spawn("rescue", rescue);
        let leaving = spawn("leaving", told_to_leave(Rc::clone(&server), want.clone()));
        let _ = words.send(Word::Serving(index, beat));
        let noting = Rc::clone(&server);
        let stop = async move {
            told_to_drain(want).await;
            noting.app().stop_accepting();
        };
        let last = move |room: usize| rescue::end(&queues, room);
        let cut_off = server::run_to_end(server, listening, stop, config.timeouts.graceful, last).await;
        housekeeping.abort();
        standing_by.abort();
        leaving.abort();
        if let Some(renewing) = renewing {
            renewing.abort();
        }
        store.close().await;
        Ok(cut_off)
    });
    match lived {
        Ok(served) => served.map(Life::Ended),
        Err(error) => Ok(Life::Broken(error)),
    }
}

/// Takes the present TLS settings.
fn renew(server: &Server<Api>, settings: &certificate::Settings) {
    if let Some(settings) = &*settings.borrow() {
        server.set_tls(Arc::clone(settings));
    }
}

/// Takes new TLS settings when there are some.
async fn keep_renewing(server: Rc<Server<Api>>, mut settings: certificate::Settings) {
    while settings.changed().await.is_ok() {
        renew(&server, &settings);
    }
}

async fn told_to_leave(server: Rc<Server<Api>>, mut want: watch::Receiver<Want>) {
    if want.wait_for(|want| *want == Want::Leave).await.is_ok() {
        server.begin_drain();
    }
}

async fn told_to_drain(mut want: watch::Receiver<Want>) {
    // An error means that the supervisor is gone, which ends the process as well.
    let _ = want.wait_for(|want| *want == Want::Drain).await;
}

/// A seed for the worker's generator: ids and jitter need to differ between processes, not to be secret.
fn seed() -> u64 {
    fastrand::u64(..)
}
