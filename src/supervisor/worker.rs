//! One life of a worker: a thread with its own runtime, server and application.

use super::boot::Shared;
use super::certificate;
use super::lead::Event;
use super::{ports, rescue};
use crate::cache::redis::Redis;
use crate::config;
use crate::limits::life as limits;
use crate::routes::Api;
use crate::routes::client::Forwarding;
use crate::runtime::context;
use crate::runtime::driver::choose::{self, DriverError};
use crate::runtime::executor::{Runtime, spawn};
use crate::runtime::heartbeat::Heartbeat;
use crate::runtime::time::sleep;
use crate::runtime::topology;
use crate::server::{self, Leave, Port, Server, Settings};
use crate::store::Lent;
use crate::story::service::{Caching, StoryService};
use crate::telemetry::metrics::WorkerMetrics;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// What a life of a worker says to the supervisor.
#[derive(Debug)]
pub(super) struct Word {
    /// Which worker.
    pub(super) worker: u32,
    /// Which of its lives.
    pub(super) life: u64,
    /// What.
    pub(super) what: What,
}

/// See [`Word`].
#[derive(Debug)]
pub(super) enum What {
    /// It serves. With what the watchdog reads.
    Serving(Arc<Heartbeat>),
    /// It has answered as many requests as it should, and goes on until it is replaced.
    Worn(u64),
    /// It could not begin: no driver, no listener.
    NotBegun(NotBegun),
    /// It has broken down, and its connections with it.
    Broken(String),
    /// It has ended as it was told to, with so many connections cut off.
    Ended(usize),
}

/// Why a life could not begin.
#[derive(Debug)]
pub(super) struct NotBegun {
    pub(super) reason: String,
    /// For want of descriptors, or of the kernel's memory, which clients and former lives give back.
    pub(super) is_starved: bool,
}

impl From<io::Error> for NotBegun {
    fn from(error: io::Error) -> NotBegun {
        let is_starved = match error.get_ref().and_then(|inner| inner.downcast_ref::<DriverError>()) {
            Some(driver) => driver.is_starved(),
            None => topology::is_starved(&error),
        };
        NotBegun {
            reason: error.to_string(),
            is_starved,
        }
    }
}

impl From<&str> for NotBegun {
    fn from(reason: &str) -> NotBegun {
        NotBegun {
            reason: reason.to_owned(),
            is_starved: false,
        }
    }
}

impl What {
    /// The life says nothing more.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, What::NotBegun(_) | What::Broken(_) | What::Ended(_))
    }
}

/// What the supervisor wants of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Serve.
    Serve,
    /// Serve, and tell clients to move on.
    MoveOn,
    /// Accept no more, since another does from the same sockets; finish what is there, keep idle connections for so long.
    Leave(Duration),
    /// The same for good, of the sockets that are this worker's own: take what waits in their queues, and end listening.
    Close,
    /// The same of all sockets: the process ends.
    End,
}

impl Want {
    /// The life is to come to its end.
    pub(super) fn is_end(self) -> bool {
        !matches!(self, Want::Serve | Want::MoveOn)
    }
}

/// What a life begins with.
pub(super) struct Birth {
    pub(super) worker: u32,
    pub(super) life: u64,
    /// Duplicates: the sockets stay the process's.
    pub(super) ports: Vec<ports::Lent>,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Lent,
    pub(super) events: Sender<Event>,
    pub(super) want: watch::Receiver<Want>,
}

/// Starts a life on a thread of its own. Its last word is [`What::Ended`], [`What::NotBegun`] or [`What::Broken`].
pub(super) fn start(birth: Birth) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("worker-{}", birth.worker))
        .spawn(move || {
            let worker = birth.worker;
            if let Some(cpu) = birth.shared.process.topology.cpu_of(worker as usize)
                && !topology::pin_current_thread(cpu)
            {
                tracing::warn!(
                    worker,
                    cpu,
                    "the worker could not be pinned; it runs where the kernel puts it"
                );
            }
            let what = match catch_unwind(AssertUnwindSafe(|| live(&birth))) {
                Ok(Ok(Life::Ended(cut_off))) => What::Ended(cut_off),
                Ok(Ok(Life::Broken(error))) => What::Broken(error.to_string()),
                Ok(Err(error)) => What::NotBegun(error.into()),
                Err(_) => What::Broken("it panicked".to_owned()),
            };
            birth.say(what);
        })
}

impl Birth {
    fn say(&self, what: What) {
        say(&self.events, self.worker, self.life, what);
    }
}

fn say(events: &Sender<Event>, worker: u32, life: u64, what: What) {
    // Fails where the process ends without waiting.
    let _ = events.send(Event::Word(Word { worker, life, what }));
}

/// How a life of a worker that served came to its end.
enum Life {
    /// As it was told to, with so many connections cut off.
    Ended(usize),
    /// Its runtime could not go on: the driver failed for good, or the root task panicked.
    Broken(io::Error),
}

/// One life of the worker. An error means that it could not begin.
fn live(birth: &Birth) -> io::Result<Life> {
    let (worker, life) = (birth.worker, birth.life);
    let (driver, _) = choose::open(birth.shared.io_driver).map_err(io::Error::other)?;
    let runtime = Runtime::new(driver, seed());
    let heartbeat = runtime.heartbeat();
    let metrics: Rc<WorkerMetrics> = Rc::new(birth.shared.process.registry.worker(worker));
    let duplicates = || {
        let ports = birth.ports.iter();
        ports.map(ports::Lent::duplicate).collect::<io::Result<Vec<_>>>()
    };
    let (ports, queues) = (duplicates()?, duplicates()?);
    let (shared, store) = (Arc::clone(&birth.shared), birth.store.clone());
    let (events, want) = (birth.events.clone(), birth.want.clone());
    let beat = Arc::clone(&heartbeat);
    // Ends its place in the balance behind everything else, a panic included.
    let (seat, leaves) = shared.balance.join(
        Arc::clone(&heartbeat),
        shared.config.connections_max,
        shared.config.balance,
        runtime.now_ns(),
    );
    let lived = runtime.block_on(async move {
        let config = &shared.config;
        let store = store.attach();
        store.observe(&metrics);
        let plan = shared.redis.as_ref().filter(|plan| plan.has_room_for(worker));
        let redis = plan.map(|plan| {
            let name = format!("roadtrip-api:{}", shared.process.worker_id(worker));
            Redis::start(Arc::clone(plan), name, Rc::clone(&metrics))
        });
        let caching = Caching {
            bytes: config.cache_bytes as u64,
            ttl: config.cache_ttl,
            stale_while_revalidate: config.stale_while_revalidate,
            stale_if_error: config.stale_if_error,
        };
        let service = StoryService::guarded(store.clone(), redis, caching, config.overload, Rc::clone(&metrics));
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
            pending_bytes_max: shared.memory.pending_bytes(config.pending_bytes_max),
            body_rate_min: config.body_rate_min,
            write_rate_min: config.write_rate_min,
        };
        let mut listening = Vec::new();
        for port in ports {
            listening.push(Port {
                terms: port.terms,
                stays: port.stays(),
                listener: port.listener()?,
            });
        }
        let server = Rc::new(Server::new(api, settings));
        server.share(seat);
        let renewing = shared.tls.clone().map(|settings| {
            // Before the first connection.
            renew(&server, &settings);
            spawn("certificate", keep_renewing(Rc::clone(&server), settings))
        });
        server.app().look().await;
        let housekeeping = spawn("housekeeping", server.app().housekeeping());
        let rescue = Arc::clone(&shared.rescue).stand_by(worker, Rc::clone(&server), want.clone());
        let standing_by = spawn("rescue", rescue);
        let asking = spawn("asking", {
            let (rescue, server) = (Arc::clone(&shared.rescue), Rc::clone(&server));
            async move { rescue.departures.keep_asking(worker, life, server).await }
        });
        let rescue = Arc::clone(&shared.rescue);
        server.when_shut(move || rescue.departures.stopped(worker, life));
        let obeying = spawn("memory", shared.memory.clone().obey(Rc::clone(&server)));
        let share = shared
            .memory
            .clone()
            .keep_share(Rc::clone(&server), config.pending_bytes_max);
        let sharing = spawn("memory share", share);
        let moving_on = spawn("leaving", told_to_move_on(Rc::clone(&server), want.clone()));
        say(&events, worker, life, What::Serving(beat));
        if let Some(requests) = worn_after(&config.life) {
            let server = Rc::clone(&server);
            spawn("wear", async move {
                while server.app().answered() < requests {
                    sleep(limits::LOOK).await;
                }
                say(&events, worker, life, What::Worn(server.app().answered()));
            });
        }
        let ends_shared = Rc::new(Cell::new(true));
        let stop = told_to_leave(Rc::clone(&server), want, Rc::clone(&ends_shared));
        let last = move |room: usize| rescue::end(&queues, room, ends_shared.get());
        let cut_off = server::run_to_end(server, listening, stop, config.timeouts.graceful, last).await;
        housekeeping.abort();
        standing_by.abort();
        asking.abort();
        moving_on.abort();
        obeying.abort();
        sharing.abort();
        if let Some(renewing) = renewing {
            renewing.abort();
        }
        store.close().await;
        Ok(cut_off)
    });
    drop(leaves);
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

/// Ready when the life is to come to its end, in one way or the other.
async fn told_to_leave(server: Rc<Server<Api>>, mut want: watch::Receiver<Want>, ends_shared: Rc<Cell<bool>>) -> Leave {
    // An error means that the supervisor is gone, which ends the process as well.
    let wanted = want.wait_for(|want| want.is_end()).await.map(|want| *want);
    server.app().stop_accepting();
    if let Ok(Want::Close) = wanted {
        // Whoever asks again comes to another worker.
        server.keep_idle_for(limits::RETIRE_IDLE);
        ends_shared.set(false);
        return Leave::OwnForGood;
    }
    let Ok(Want::Leave(idle)) = wanted else {
        return Leave::ForGood;
    };
    server.keep_idle_for(idle);
    spawn("hurry", async move {
        // Where the process ends meanwhile, nobody waits for idle connections of former lives.
        let _ = want.wait_for(|want| *want == Want::End).await;
        sleep(limits::HANDOVER_IDLE).await;
        server.end_idle();
    });
    Leave::ToOwner
}

/// Has answers say that the connection closes while everything is still served.
async fn told_to_move_on(server: Rc<Server<Api>>, mut want: watch::Receiver<Want>) {
    if want.wait_for(|want| *want == Want::MoveOn).await.is_ok() {
        server.begin_drain();
    }
}

/// After how many requests this life is to be replaced, if it is.
fn worn_after(life: &config::Life) -> Option<u64> {
    let more = match life.max_requests_jitter {
        0 => 0,
        jitter => context::random(|random| random.u64(0..=jitter)),
    };
    (life.max_requests > 0).then(|| life.max_requests.saturating_add(more))
}

/// A seed for the worker's generator: ids and jitter need to differ between processes, not to be secret.
fn seed() -> u64 {
    fastrand::u64(..)
}
